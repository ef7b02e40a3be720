# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# Sourced by run.sh and, through it, by the parts: sessions, samples and facts.

# What was measured: one line a sample (measure, variant, clock, round, value) and one a fact (row, ours, reference,
# ratio, bar, verdict), for report.sql.
samples=$results/samples.tsv
facts=$results/facts.tsv

sql() { psql -X -q -v ON_ERROR_STOP=1 "$@"; }
value() { sql -A -t "$@"; }
progress() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }

# Runs psql's standard input as user $2 in database $1 and prints, for each pair of :stamp in it, the microseconds between
# them, by the clock and of processor time.
timed() {
	PGOPTIONS='-c client_min_messages=error' sql -A -t -d "$1" -U "$2" -v stamp='SELECT * FROM bench.stamp();' |
		awk -F '|' '$1 == "stamp" { if (n++ % 2) print $2 - wall, $3 - cpu; wall = $2; cpu = $3 }'
}

# Notes what timed() printed: sample MEASURE VARIANT ROUND UNITS WALL CPU
sample() {
	awk -v OFS='\t' -v m="$1" -v v="$2" -v r="$3" -v units="$4" -v wall="$5" -v cpu="$6" \
		'BEGIN { print m, v, "wall", r, wall / units; print m, v, "cpu", r, cpu / units }' >>"$samples"
}

# fact NUMBER ROW OURS REFERENCE RATIO BAR VERDICT
fact() {
	local IFS=$'\t'
	printf '%s\n' "$*" >>"$facts"
}

# Is this arithmetic comparison true? Says met or MISSED.
verdict() { awk "BEGIN { print ($*) ? \"met\" : \"MISSED\" }"; }

make_base() { # DATABASE USERS BULK SYNCED
	"$ROOT/scripts/fixture-db.sh" "$1" invite_sync
	sql -d "$1" -v users="$2" -v bulk="$3" -v synced="$4" -f "$ROOT/bench/setup.sql" >/dev/null
}

copy_base() { # BASE DATABASE
	sql -d postgres -c "CREATE DATABASE $2 TEMPLATE $1 OWNER postgres STRATEGY file_copy"
}

signup_call() { # VARIANT N
	case $1 in
	second_insert) echo "CALL bench.signups($2, true);" ;;
	*) echo "CALL bench.signups($2);" ;;
	esac
}
