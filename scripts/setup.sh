#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, by package name and without a prompt, and leaves nothing but packages:
# no PostgreSQL cluster is created or started.
#
#   scripts/setup.sh demo     to build the extension and run a server
#   scripts/setup.sh check    also for every test suite but the next
#   scripts/setup.sh gotrue   also for the tests against a real auth server, but not that server
#   scripts/setup.sh fuzz     to build the extension and fuzz what of it can be fuzzed, without a server
#   scripts/setup.sh ci       also for the further checks of .ci/run on each major
#   scripts/setup.sh ci-host  also to make the systems of the other majors

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

level=${1:?usage: setup.sh demo|check|gotrue|fuzz|ci|ci-host}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
available() { [ -n "$(apt-cache madison "$1" 2>/dev/null)" ]; }

# PL/Perl comes in one version with the server, which is not replaced for it where it is there already.
plperl_fits() {
	installed "postgresql-plperl-$major" && return 0
	installed "postgresql-$major" || { available "postgresql-plperl-$major"; return; }
	[ "$(LC_ALL=C apt-cache policy "postgresql-plperl-$major" | sed -n 's/^ *Candidate: //p')" = \
		"$(dpkg-query -W -f='${Version}' "postgresql-$major")" ]
}

# The sanitizers' and libFuzzer's libraries, which clang only recommends, come in a package named after its version.
fuzz_packages() {
	echo valgrind
	LC_ALL=C apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p'
}

# The packages of PostgreSQL itself are not asked for where the user names a PostgreSQL of their own.
own_postgres=${PG_CONFIG:-}
packages() {
	printf '%s\n' make gcc libc6-dev
	[ -n "$own_postgres" ] || printf '%s\n' "postgresql-$major" "postgresql-server-dev-$major"
	[ "$level" != demo ] || return 0
	[ "$level" != gotrue ] || { printf '%s\n' perl libipc-run-perl python3-aiosmtpd; return 0; }
	[ "$level" != fuzz ] || { echo clang; fuzz_packages; return 0; }
	if [ -n "${GOTRUE_SERVER:-}" ] || command -v go >/dev/null; then
		printf '%s\n' python3-aiosmtpd
	fi
	printf '%s\n' perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl
	[ -n "$own_postgres" ] || printf '%s\n' "postgresql-$major-pgtap"
	# what is skipped without them, except in CI
	local extension
	for extension in plpgsql-check cron; do
		if [ "$level" != check ] || available "postgresql-$major-$extension"; then
			[ -n "$own_postgres" ] || printf '%s\n' "postgresql-$major-$extension"
		fi
	done
	if [ "$level" != check ] || plperl_fits; then
		[ -n "$own_postgres" ] || printf '%s\n' "postgresql-plperl-$major"
	fi
	[ "$level" != check ] || return 0
	printf '%s\n' clang
	[ "$level" != ci ] || return 0
	fuzz_packages
	printf '%s\n' debootstrap git python3 python3-venv shellcheck
}

find_missing() {
	missing=()
	local package
	while IFS= read -r package; do
		installed "$package" || missing+=("$package")
	done < <(packages)
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif [ -t 0 ]; then
		sudo "$@"
	else
		sudo -n "$@"
	fi
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
		apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null
}

# PostgreSQL's package creates and starts a cluster when it is installed unless createcluster.conf says otherwise.
# For the time of the installation it does; afterwards the file is as it was.
without_cluster() {
	local conf=/etc/postgresql-common/createcluster.conf kept rc=0
	kept=$(mktemp)
	cp "$conf" "$kept"
	# shellcheck disable=SC2064  # the names are to be filled in now
	trap "as_root cp '$kept' '$conf'; rm -f '$kept'" EXIT
	sed '$a create_main_cluster = false' "$kept" | as_root tee "$conf" >/dev/null
	"$@" || rc=$?
	as_root cp "$kept" "$conf"
	rm -f "$kept"
	trap - EXIT
	return "$rc"
}

if ! command -v apt-get >/dev/null; then
	find_postgres || die "there is no apt-get here: install PostgreSQL 15 to 18 with its build files yourself and set PG_CONFIG"
	say "There is no apt-get here: what is missing beyond PostgreSQL will show as errors."
	exit 0
fi

refreshed=
refresh() {
	[ -n "$refreshed" ] || apt update >/dev/null || die "apt-get update failed (as $(id -un), with sudo if not root)"
	refreshed=yes
}

# Which major: the one asked for, or installed, or else the newest that this system offers.
major=${PG_MAJOR:-}
if find_postgres; then
	major=$PG_MAJOR
elif [ -n "$own_postgres" ]; then
	die "PG_CONFIG=$PG_CONFIG is not a PostgreSQL 15 to 18 with server and build files"
elif [ -z "$major" ]; then
	say "Looking for PostgreSQL in the package lists"
	refresh
	for candidate in $SUPPORTED_MAJORS; do
		if available "postgresql-server-dev-$candidate"; then
			major=$candidate
			break
		fi
	done
	[ -n "$major" ] || die "this system offers none of postgresql-server-dev-15 to -18; add the PostgreSQL project's package repository, or set PG_CONFIG"
fi

find_missing
if [ ${#missing[@]} -gt 0 ]; then
	say "Installing: ${missing[*]}"
	if [ "$(id -u)" -ne 0 ] && { ! command -v sudo >/dev/null || ! as_root true; }; then
		die "no right to install; as root: apt-get install --no-install-recommends ${missing[*]}"
	fi
	refresh
	find_missing # the lists may offer more now
	for package in "${missing[@]}"; do
		available "$package" || die "this system's package lists have no $package"
	done
	log=$(mktemp)
	wanted=("${missing[@]}")
	install=(apt install --no-install-recommends)
	{
		if [[ " ${wanted[*]} " == *" postgresql-$major "* ]]; then
			"${install[@]}" postgresql-common && without_cluster "${install[@]}" "${wanted[@]}"
		else
			"${install[@]}" "${wanted[@]}"
		fi
	} >"$log" 2>&1 || say "apt-get reported an error"
	find_missing
	if [ ${#missing[@]} -gt 0 ]; then
		tail -n 30 "$log" >&2
		rm -f "$log"
		die "could not be installed: ${missing[*]} (of ${wanted[*]})"
	fi
	rm -f "$log"
fi

PG_MAJOR=$major
find_postgres || die "PostgreSQL $major is installed, but its server or build files are not where they belong"
