#!/usr/bin/env bash
# Runs a command with an auth server to try: with GOTRUE_SERVER as it is, or else naming one that is built here, once,
# from its Go module.
#
#   scripts/gotrue.sh [--optional] COMMAND [ARGUMENT]...
#
# Where there is none to be had it says why in one line and fails; with --optional the command runs all the same, and
# finds that line in GOTRUE_MISSING. Where and how the module is fetched is the go tool's own configuration.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

module=github.com/supabase/auth
commit=bc32168e13fdc928c98b449fc76bc3fdb9a293c5
needed=1.26

take_command "$@"
without() { run_without GOTRUE_MISSING "no auth server to try: $* (test/gotrue/README.md)"; }
[ -z "${GOTRUE_SERVER:-}" ] || exec "${command[@]}"

mkdir -p "$BUILD_DIR"
dir=$(cd "$BUILD_DIR" && pwd -P)/gotrue
server=$dir/$commit/auth
log=$dir/log
if [ ! -x "$server" ]; then
	command -v go >/dev/null || without "go is not installed; $needed or newer is needed"
	version=$(go env GOVERSION)
	at_least "$needed" "${version#go}" || without "$version is installed; go$needed or newer is needed"

	# Nobody may write to the module cache, and the replacements in a go.mod count in the main module only: it is built
	# in a copy.
	mkdir -p "$dir/$commit"
	source=$dir/source
	if [ -d "$source" ]; then
		chmod -R u+w "$source"
		rm -rf "$source"
	fi
	say "Getting $module at $commit"
	(cd "$dir" && go mod download -json "$module@$commit") >"$log" 2>&1 ||
		without "go could not get $module at $commit, see ${log#"$ROOT"/}"
	cached=$(sed -nE 's/^[[:space:]]*"Dir": "(.*)",?$/\1/p' "$log")
	cp -R "$cached" "$source"
	chmod -R u+w "$source"
	# A module is packed without the modules in its folders, so what it replaces by such a folder is taken as released.
	modfile=$source/go.mod
	sed -nE 's/^(replace)?[[:space:]]*([^[:space:]]+)[^=]* => (\.[^[:space:]]*)$/\2 \3/p' "$modfile" |
		while read -r replaced folder; do
			[ -d "$source/$folder" ] || (cd "$source" && go mod edit -dropreplace="$replaced")
		done
	say "Building it"
	(cd "$source" && CGO_ENABLED=0 go build -mod=mod -buildvcs=false -o "$server.tmp" .) >>"$log" 2>&1 ||
		without "go could not build $module, see ${log#"$ROOT"/}"
	rm -rf "$source"
	# the tests run it as somebody else where they are started as root
	chmod -R a+rX "$dir"
	mv "$server.tmp" "$server"
fi
exec env GOTRUE_SERVER="$server" "${command[@]}"
