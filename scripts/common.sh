# shellcheck shell=bash
# Sourced by the other scripts: where things are, which PostgreSQL is used, how root is left, how servers are stopped.
#
# Settings, all from the environment:
#   PG_MAJOR or PG_CONFIG  which PostgreSQL; otherwise the newest supported one that is installed
#   BUILD_DIR              where everything is built and run (build/); two runs at once need two of them

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD_DIR=${BUILD_DIR:-$ROOT/build}
SUPPORTED_MAJORS="18 17 16 15"

say() { printf '%s\n' "$*" >&2; }
die() { say "invite_sync: $*"; exit 1; }

# Sets and exports PG_CONFIG, PG_MAJOR and PGXS_DIR; fails if no supported PostgreSQL has both a server and build files.
find_postgres() {
	local candidate candidates=() pgxs version
	if [ -n "${PG_CONFIG:-}" ]; then
		candidates=("$PG_CONFIG")
	elif [ -n "${PG_MAJOR:-}" ]; then
		candidates=("/usr/lib/postgresql/$PG_MAJOR/bin/pg_config")
	else
		for version in $SUPPORTED_MAJORS; do
			candidates+=("/usr/lib/postgresql/$version/bin/pg_config")
		done
		candidates+=(pg_config)
	fi
	for candidate in "${candidates[@]}"; do
		pgxs=$("$candidate" --pgxs 2>/dev/null) || continue
		if [ ! -e "$pgxs" ] || [ ! -x "$("$candidate" --bindir)/postgres" ]; then
			continue
		fi
		version=$("$candidate" --version)
		version=${version#PostgreSQL }
		version=${version%%[!0-9]*}
		case " $SUPPORTED_MAJORS " in *" $version "*) ;; *) continue ;; esac
		PG_CONFIG=$(command -v "$candidate")
		PG_MAJOR=$version
		PGXS_DIR=$(cd "$(dirname "$pgxs")/../.." && pwd -P)
		export PG_CONFIG PG_MAJOR PGXS_DIR
		return 0
	done
	return 1
}

# PostgreSQL refuses to run as root: a script that calls this with its own name and arguments goes on as nobody, who
# owns the build directory and nothing else.
leave_root() {
	[ "$(id -u)" -eq 0 ] || return 0
	local step_down=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups) dir
	mkdir -p "$BUILD_DIR"
	chown nobody: "$BUILD_DIR"
	for dir in "$BUILD_DIR"/pg[0-9]*; do
		[ ! -d "$dir" ] || chown -R nobody: "$dir"
	done
	# In a clone below a directory closed to others (as /root is), or made under a strict umask, nobody could read
	# nothing. There it keeps one of root's powers, to pass by file modes; for reading only where that is enough. The
	# securebit makes access(2) respect that power.
	local cap plain=("${step_down[@]}")
	if [ -n "$("${step_down[@]}" find "$ROOT" \( -name .git -o -path "$ROOT/.chroot" -o -path "$BUILD_DIR" \) -prune \
		-o ! -readable -print -quit 2>&1)" ] || ! "${step_down[@]}" test -w "$BUILD_DIR"; then
		for cap in dac_read_search dac_override; do
			step_down=("${plain[@]}" --securebits=+no_setuid_fixup "--inh-caps=-all,+$cap" "--ambient-caps=-all,+$cap")
			"${step_down[@]}" test -x "$ROOT/scripts/check.sh" -a -w "$BUILD_DIR" 2>/dev/null && break
			[ "$cap" = dac_read_search ] ||
				die "the user 'nobody', who runs PostgreSQL here, cannot enter $ROOT; move the clone to a directory open to all"
		done
	fi
	exec env HOME="$BUILD_DIR" "${step_down[@]}" "$@"
}

# Stops every PostgreSQL server whose data directory is below the directory $1. A server's working directory is its
# data directory, which tells a living server from a stale file with a reused process id.
stop_servers_below() {
	local file pid i
	[ -d "$1" ] || return 0
	while IFS= read -r file; do
		pid=$(head -n 1 "$file" 2>/dev/null) || continue
		[ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(dirname "$file")" ] || continue
		kill -INT "$pid" 2>/dev/null || continue
		for i in {1..300}; do
			kill -0 "$pid" 2>/dev/null || break
			[ "$i" -ne 150 ] || kill -QUIT "$pid" 2>/dev/null || break
			sleep 0.1
		done
	done < <(find "$(cd "$1" && pwd -P)" -name postmaster.pid 2>/dev/null)
}

# For the scripts that run a command with something that may not be to be had. Sets "command" and "optional" from their
# arguments: [--optional] COMMAND [ARGUMENT]...
take_command() {
	optional=
	if [ "${1:-}" = --optional ]; then
		optional=yes
		shift
	fi
	[ $# -gt 0 ] || die "usage: ${0##*/} [--optional] COMMAND [ARGUMENT]..."
	command=("$@")
}

# It is not to be had, and the line $2 says why: fails with it, or where it is optional runs the command all the same,
# with the line in the variable $1.
run_without() {
	[ -n "$optional" ] || die "$2"
	say "invite_sync: $2"
	exec env "$1=$2" "${command[@]}"
}

# Is version $2 the version $1, or newer?
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }
