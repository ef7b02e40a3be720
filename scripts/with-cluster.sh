#!/usr/bin/env bash
# Builds the extension, installs it into a private copy of PostgreSQL, starts a throwaway cluster there, runs a command
# against it, and removes the cluster again however that ended.
#
#   scripts/with-cluster.sh [-c 'name = value']... COMMAND [ARGUMENT]...
#
# The command finds PGHOST, PGPORT, PGUSER (the superuser supabase_admin, because postgres is an ordinary role in the
# test fixture), PGDATABASE, PATH, PG_MAJOR, PGXS_DIR, ROOT, RUN_DIR (for its files) and SERVER_LOG.
# From the environment: PG_MAJOR, PG_CONFIG, BUILD_DIR (scripts/common.sh), COPT (more compiler flags), SERVER_PRELOAD
# (a library for the server's LD_PRELOAD).

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
leave_root "${BASH_SOURCE[0]}" "$@"

settings=()
while getopts c: option; do
	[ "$option" = c ] || die "usage: with-cluster.sh [-c 'name = value']... COMMAND [ARGUMENT]..."
	settings+=("$OPTARG")
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || die "with-cluster.sh: no command given"

find_postgres || die "no PostgreSQL (${PG_MAJOR:-15 to 18}) with its build files; scripts/setup.sh installs one"

work=$BUILD_DIR/pg$PG_MAJOR
mkdir -p "$work" 2>/dev/null || true
[ -w "$work" ] || die "$work belongs to somebody else: remove it, or set BUILD_DIR"
exec 9>"$work/lock"
flock -n 9 || die "$work is in use by another run: wait for it, or set BUILD_DIR"

# The tests' own servers (TAP) live below the work directory too, so one search finds all of ours, also those that an
# earlier, killed run could not stop.
socket_dir=
child=
# shellcheck disable=SC2317  # called by the trap
cleanup() {
	trap - EXIT
	trap '' INT TERM HUP
	[ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true
	stop_servers_below "$work"
	rm -rf "$work/data" "$work/socket_dir" ${socket_dir:+"$socket_dir"}
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
stop_servers_below "$work"
[ ! -s "$work/socket_dir" ] || rm -rf "$(cat "$work/socket_dir")"
rm -rf "$work/data" "$work/run"
mkdir -p "$work/run" "$work/src"

# PostgreSQL finds its libraries and data relative to its own binary, so a copy is a whole installation: the extension
# is tried in it without a file being put into the system's.
root=$work/root
installed=("$("$PG_CONFIG" --bindir)" "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)")
find "${installed[@]}" -type f -printf '%p %s %T@\n' | sort >"$work/installed"
if ! cmp -s "$work/installed" "$root/installed"; then
	rm -rf "$root"
	for dir in "${installed[@]}"; do
		mkdir -p "$root$(dirname "$dir")"
		cp -a "$dir" "$root$(dirname "$dir")/"
	done
	cp "$work/installed" "$root/installed"
fi

# Built in a copy as well, so that objects of another PostgreSQL or of a developer's own "make" never mix in.
rm -rf "$work/src/sql"
tar -C "$ROOT" --exclude='*.o' --exclude='*.bc' --exclude='*.so' -cf - Makefile invite_sync.control src sql |
	tar -C "$work/src" -xf -
unset MAKEFLAGS MFLAGS MAKELEVEL
if ! make -C "$work/src" PG_CONFIG="$PG_CONFIG" DESTDIR="$root" ${COPT:+with_llvm=no} \
	all install >"$work/build.log" 2>&1; then
	cat "$work/build.log" >&2
	die "the extension does not build"
fi
grep -E 'warning:' "$work/build.log" >&2 || true

# A socket's path may have 107 bytes, which a path below the clone can exceed. The directory is closed to others, and
# it is the only way in: that is what makes "trust" safe on a machine with other users.
socket_dir=$(mktemp -d /tmp/invite_sync.XXXXXX)
echo "$socket_dir" >"$work/socket_dir"
PATH=$root$("$PG_CONFIG" --bindir):$PATH
RUN_DIR=$work/run
SERVER_LOG=$work/server.log
PGHOST=$socket_dir PGPORT=5432 PGUSER=supabase_admin PGDATABASE=postgres
# A test that is killed cannot remove its temporary directories: they go with this one.
export TMPDIR=$socket_dir
export PATH ROOT BUILD_DIR RUN_DIR SERVER_LOG PGHOST PGPORT PGUSER PGDATABASE
unset PGSERVICE PGOPTIONS PGPASSFILE PGHOSTADDR PGSSLMODE

initdb --no-sync -D "$work/data" -U "$PGUSER" --auth=trust --encoding=UTF8 --locale=C.UTF-8 >"$work/initdb.log" 2>&1 ||
	{ cat "$work/initdb.log" >&2; die "initdb failed"; }
{
	echo "listen_addresses = ''"
	echo "unix_socket_directories = '$socket_dir'"
	echo "fsync = off"
	echo "log_line_prefix = '%m [%p] %u@%d '"
	[ ${#settings[@]} -eq 0 ] || printf '%s\n' "${settings[@]}"
} >>"$work/data/postgresql.conf"
: >"$SERVER_LOG"
env ${SERVER_PRELOAD:+LD_PRELOAD="$SERVER_PRELOAD"} pg_ctl -w -s -D "$work/data" -l "$SERVER_LOG" start 9>&- ||
	{ tail -n 30 "$SERVER_LOG" >&2; die "the server does not start"; }

# On a terminal Ctrl-C reaches the command by itself. Elsewhere the command gets a process group, so that whatever it
# started can be ended with it.
rc=0
if [ -t 0 ]; then
	"$@" 9>&- || rc=$?
else
	set -m
	"$@" 9>&- &
	child=$!
	set +m
	wait "$child" || rc=$?
	child=
fi
exit "$rc"
