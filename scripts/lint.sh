#!/usr/bin/env bash
# Checks that need no server; each counts as a test in the closing line.
#
#   scripts/lint.sh compile    the library builds without a warning, with gcc and with clang
#   scripts/lint.sh text       shell scripts, the version's copies, what has one place in the source, and the install script
#                              through pgspot

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

passed=0 failed=0
work=$BUILD_DIR/lint
mkdir -p "$work"
unset MAKEFLAGS MFLAGS MAKELEVEL
find_postgres || die "no PostgreSQL to build against; scripts/setup.sh installs one"

try() {
	local what=$1 log=$work/log
	shift
	if "$@" >"$log" 2>&1; then
		passed=$((passed + 1))
		echo "ok      $what"
	else
		failed=$((failed + 1))
		echo "FAILED  $what"
		tail -n 100 "$log"
	fi
}

copy() {
	rm -rf "$1"
	mkdir -p "$1"
	cp -r "$ROOT/Makefile" "$ROOT/invite_sync.control" "$ROOT/sql" "$ROOT/src" "$1/"
	rm -f "$1"/src/*.o
}

version() { sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$ROOT/invite_sync.control"; }

# The server's own headers are not ours to mend: as system headers they are exempt. Parameters go unused because
# PostgreSQL prescribes the signatures of functions and hooks. The clang options are for flags in PostgreSQL's
# configuration that only the compiler it was built with knows.
compile() {
	local compiler=$1 strict dir=$work/$1
	strict="-Wall -Wextra -Wno-unused-parameter -Werror -isystem $("$PG_CONFIG" --includedir-server)"
	[ "$compiler" != clang ] || strict+=" -Wno-unknown-warning-option -Wno-ignored-optimization-argument"
	copy "$dir"
	make -C "$dir" PG_CONFIG="$PG_CONFIG" CC="$compiler" COPT="$strict" with_llvm=no all
}

# The version is written in the control file; META.json and the change log must not lag behind.
version_copies() {
	local version
	version=$(version)
	[ "$(grep -c "\"version\": \"$version\"" "$ROOT/META.json")" -eq 2 ] || { echo "META.json is not at $version"; return 1; }
	grep -q "^## $version " "$ROOT/CHANGELOG.md" || { echo "CHANGELOG.md says nothing of $version"; return 1; }
}

# What has one place in the source, so that one reading of it is enough: statements are prepared by room plan alone, the
# SQLSTATEs of refusals are raised by refuse(), what is thrown again lasts until it is sent, and the transition tables of
# auth.users, whose dropped columns SPI would take for others, are never handed to it as they are.
one_place() {
	local found
	found=$(grep -nE 'SPI_prepare(_|\()' "$ROOT"/src/*.c | grep -v '/src/plan\.c:') && { echo "prepared outside of room plan: $found"; return 1; }
	found=$(grep -nE "\"PT4|'PT4|ERRCODE *= *'PT" "$ROOT"/src/*.c "$ROOT"/sql/*.sql | grep -v '/src/caller\.c:') && { echo "refused otherwise than by refuse(): $found"; return 1; }
	found=$(grep -n 'ReThrowError(' "$ROOT"/src/*.c | grep -v 'ReThrowError(plan_lasting(\| \* ') && { echo "thrown again from memory that may not last: $found"; return 1; }
	found=$(grep -n 'SPI_register_trigger_data' "$ROOT"/src/{sync,quarantine,event}*.c "$ROOT"/src/membership_sync.c) && { echo "$found"; return 1; }
	return 0
}

# pgspot with the exceptions of scripts/pgspot.exceptions, each of which must give its reason.
pgspot() {
	local venv=$BUILD_DIR/venv options=() kind value reason
	[ -x "$venv/bin/pgspot" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet pgspot; } || return 1
	while read -r kind value reason; do
		case $kind in '' | '#'*) continue ;; esac
		[ -n "$reason" ] || { echo "exception without a reason: $kind $value"; return 1; }
		options+=("--$kind" "$value")
	done <"$ROOT/scripts/pgspot.exceptions"
	copy "$work/sql"
	make -C "$work/sql" PG_CONFIG="$PG_CONFIG" "invite_sync--$(version).sql"
	"$venv/bin/pgspot" "${options[@]}" "$work/sql/invite_sync--$(version).sql"
}

case ${1:-} in
compile)
	for compiler in gcc clang; do
		try "no warnings: $compiler $("$compiler" -dumpversion), PostgreSQL $PG_MAJOR" compile "$compiler"
	done
	;;
text)
	# what a script sources is checked with it
	mapfile -t shell_scripts < <(find "$ROOT/scripts" "$ROOT/bench" "$ROOT/docker" -name '*.sh' -perm -u+x)
	try shellcheck shellcheck -x "${shell_scripts[@]}" "$ROOT/.ci/run"
	try 'version in META.json and CHANGELOG.md' version_copies
	try 'what has one place in the source' one_place
	try pgspot pgspot
	;;
*) die "usage: lint.sh compile|text" ;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
