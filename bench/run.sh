#!/usr/bin/env bash
# The numbers of the sync, as ratios within one run: see README.md. "make bench" runs it on a throwaway cluster.
#
#   scripts/with-cluster.sh bench/run.sh [PART]...     parts: instructions signup login bulk backfill rls invitation; without one, all
#
# BENCH_QUICK=1 does less of everything, to see that it works: its numbers are no results.

set -euo pipefail

: "${ROOT:?run it by make bench}" "${RUN_DIR:?}" "${BUILD_DIR:?}" "${SERVER_LOG:?}" "${PG_MAJOR:?}"
results=$BUILD_DIR/bench/pg$PG_MAJOR
rm -rf "$results"
mkdir -p "$results"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$ROOT/bench/lib.sh"
: >"$samples"
: >"$facts"

# shellcheck disable=SC2034  # used by the parts
if [ -n "${BENCH_QUICK:-}" ]; then
	users=20000 bulk=20000 million=50000
	signups=500 signup_rounds=3 logins=1000 login_rounds=3 socket_rounds=3 bulk_rounds=1 backfill_rounds=1 in_step_rounds=1 rls_rounds=3
	few_invitations=5000 many_invitations=100000 invitation_calls=20
else
	users=100000 bulk=100000 million=1000000
	signups=2500 signup_rounds=15 logins=5000 login_rounds=11 socket_rounds=25 bulk_rounds=4 backfill_rounds=3 in_step_rounds=5 rls_rounds=15
	few_invitations=10000 many_invitations=10000000 invitation_calls=100
fi
parts=("$@")
[ $# -gt 0 ] || parts=(instructions signup login bulk backfill rls invitation)
wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }

# A database each, the same but for what happens at a signup.
variants=(bare second_insert plpgsql_1 ours_1 plpgsql_3 ours_3)

# Nothing in the background, everything in memory, one processor a statement.
data=$(value -d postgres -c 'SHOW data_directory')
cat >>"$data/postgresql.conf" <<-'CONF'
	shared_buffers = 2GB
	max_wal_size = 16GB
	checkpoint_timeout = 1h
	autovacuum = off
	max_parallel_workers_per_gather = 0
	jit = off
CONF
server() { pg_ctl -w -s -D "$data" "$@"; }
server restart -l "$SERVER_LOG"

progress "databases with $users users"
if wanted signup || wanted login || wanted bulk || wanted instructions; then
	make_base base "$users" "$bulk" true
	for variant in "${variants[@]}"; do
		copy_base base "$variant"
	done
	for targets in 1 3; do
		sql -d ours_$targets -U postgres -v targets=$targets -f "$ROOT/bench/ours.sql" >/dev/null
		sql -d plpgsql_$targets -v targets=$targets -f "$ROOT/bench/plpgsql.sql"
	done
fi
if wanted backfill; then
	progress "a database with $million users"
	make_base million "$million" 100 false
	make_base small 10000 100 false
	for database in million small; do
		sql -d $database -U postgres -v targets=1 -f "$ROOT/bench/ours.sql" >/dev/null
	done
fi
if wanted rls; then
	progress "a database with policies"
	"$ROOT/scripts/fixture-db.sh" rls invite_sync
	sql -d rls -v rows=200000 -f "$ROOT/bench/rls.sql" >/dev/null
fi
sql -d postgres -c CHECKPOINT

# First what must find all databases alike.
if wanted instructions && command -v valgrind >/dev/null; then
	progress "instructions"
	server stop -m fast
	# shellcheck source-path=SCRIPTDIR source=instructions.sh
	. "$ROOT/bench/instructions.sh"
	server start -l "$SERVER_LOG"
fi
for part in signup login bulk backfill rls invitation; do
	if wanted $part; then
		progress "$part"
		# shellcheck source=/dev/null
		. "$ROOT/bench/$part.sh"
	fi
done

{
	echo "invite_sync $(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$ROOT/invite_sync.control"), $(postgres --version)"
	echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, $(uname -sr), fsync off"
	[ -z "${BENCH_QUICK:-}" ] || echo "BENCH_QUICK: too few and too short to be results"
	(cd "$results" && sql -d postgres -f "$ROOT/bench/report.sql")
} | tee "$results/report.txt"
progress "also in $results"
