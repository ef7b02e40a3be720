#!/usr/bin/env bash
# Runs the test suites on the throwaway cluster of scripts/with-cluster.sh and ends with the line "N passed, N failed".
#
#   scripts/with-cluster.sh scripts/check.sh [SUITE]...
#   scripts/with-cluster.sh scripts/check.sh SUITE NAME...
#
# SUITE is regress, isolation, tap, pgtap, plpgsql, gotrue or js; without one they all run, gotrue where there is an auth
# server to try, js where there are Node.js and the npm packages. NAME is a test's file name without folder and ending; for regress the test "setup" is put before the
# named ones.
# GOTRUE_SERVER: the auth server's program; GOTRUE_MISSING: why there is none. scripts/gotrue.sh sets them.
# JS_MODULES: the folder of the npm packages; JS_MISSING: why there is none. scripts/js.sh sets them.
# REQUIRE_ALL=1: a skipped test is a failure.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

: "${RUN_DIR:?run it as: scripts/with-cluster.sh scripts/check.sh}"
cd "$ROOT"

passed=0 failed=0 skipped=0

# The base names of the files matching $1; only the ones named in the other arguments, if there are any.
names() {
	local pattern=$1 file name
	shift
	if [ $# -gt 0 ]; then
		for name in "$@"; do
			file=${pattern/\*/$name}
			[ -e "$file" ] || die "there is no $file"
			echo "$name"
		done
	else
		# shellcheck disable=SC2086  # a pattern to be expanded
		for file in $pattern; do
			[ ! -e "$file" ] || basename "$file" ".${file##*.}"
		done
	fi
}

report() {
	local result=$1 what=$2 start=$3
	printf '%-7s %-50s %4d s\n' "$result" "$what" "$((SECONDS - start))"
}

# Goes to the new directory $1 for the tests $3 and on, whose expected output is in $2: all majors of pg_regress find it
# below the working directory. A test that has none yet is compared with nothing, otherwise pg_regress would give up on
# the others too. Relative paths in the tests start at the tree.
working_dir() {
	local dir=$1 expected=$2 name
	shift 2
	mkdir -p "$dir/expected"
	ln -s "$ROOT/test" "$dir/test"
	cd "$dir"
	for name in "$expected"/*.out; do
		[ ! -e "$name" ] || ln -s "$name" expected/
	done
	for name in "$@"; do
		[ -e "expected/$name.out" ] || : >"expected/$name.out"
	done
}

regress() {
	local tests=() start=$SECONDS ok total log=$RUN_DIR/regress/output
	mapfile -t tests < <(names 'test/sql/*.sql' "$@")
	[ ${#tests[@]} -gt 0 ] || return 0
	if [ -e test/sql/setup.sql ]; then
		mapfile -t tests < <(echo setup; printf '%s\n' "${tests[@]}" | grep -vx setup)
	fi
	total=${#tests[@]}
	mkdir -p "$RUN_DIR/regress" # for the log
	(
		working_dir "$RUN_DIR/regress" "$ROOT/expected" "${tests[@]}"
		"$PGXS_DIR/src/test/regress/pg_regress" --inputdir="$ROOT/test" --bindir="$(dirname "$(command -v psql)")" \
			--dbname=contrib_regression "${tests[@]}"
	) >"$log" 2>&1 || true
	# "test NAME ... ok" on 15, "ok 1 - NAME" since; what was never reached counts as failed.
	ok=$(grep -cE '^(ok [0-9]+ |test .* ok )' "$log" || true)
	grep -E '^(not )?ok [0-9]|^test ' "$log" || true
	passed=$((passed + ok)) failed=$((failed + total - ok))
	if [ "$ok" -ne "$total" ]; then
		tail -n 20 "$log"
		head -n 400 "$RUN_DIR/regress/regression.diffs" 2>/dev/null || true
	fi
	report "$([ "$ok" -eq "$total" ] && echo ok || echo FAILED)" "regress: $ok of $total" "$start"
}

# A server that a test crashed is given the time to come back, so that the next ones are not blamed.
server_ready() {
	local i
	for i in {1..100}; do
		! pg_isready -q || return 0
		sleep 0.2
	done
	echo "the server did not come back after $i tries"
}

# A database of its own for each spec: what one leaves behind cannot spoil another.
isolation() {
	local name start dir
	while IFS= read -r name; do
		start=$SECONDS dir=$RUN_DIR/isolation/$name
		mkdir -p "$dir"
		server_ready
		if scripts/fixture-db.sh isolation_regression invite_sync >"$dir/output" 2>&1 &&
			(
				working_dir "$dir" "$ROOT/test/isolation/expected" "$name"
				"$PGXS_DIR/src/test/isolation/pg_isolation_regress" --inputdir="$ROOT/test/isolation" \
					--bindir="$(dirname "$(command -v psql)")" --use-existing --dbname=isolation_regression "$name"
			) >>"$dir/output" 2>&1; then
			passed=$((passed + 1))
			report ok "isolation: $name" "$start"
		else
			failed=$((failed + 1))
			report FAILED "isolation: $name" "$start"
			tail -n 20 "$dir/output"
			head -n 200 "$dir/output_iso/regression.diffs" "$dir/regression.diffs" 2>/dev/null || true
		fi
	done < <(names 'test/isolation/specs/*.spec' "$@")
}

# Runs a TAP file by the command given, with its output in the file $2, and counts its top-level assertions.
tap_file() {
	local what=$1 log=$2 start=$SECONDS rc=0 ok bad skip
	shift 2
	"$@" >"$log" 2>&1 || rc=$?
	skip=$(grep -ciE '^(ok [0-9]+ .*# *skip|1\.\.0 +# *skip)' "$log" || true)
	ok=$(($(grep -cE '^ok [0-9]+' "$log" || true) - $(grep -ciE '^ok [0-9]+ .*# *skip' "$log" || true)))
	bad=$(grep -E '^not ok [0-9]+' "$log" | grep -civE '# *todo' || true)
	# Died, a plan not kept, or nothing asserted: a failure although no assertion says so.
	if [ "$bad" -eq 0 ] && { [ "$rc" -ne 0 ] || [ $((ok + skip)) -eq 0 ]; }; then
		bad=1
	fi
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	if [ "$bad" -gt 0 ]; then
		report FAILED "$what: $ok passed, $bad failed" "$start"
		# "sed" and not "head": it reads on to the end, so nobody before it dies of a closed pipe
		grep -E '^ *not ok|^ *# |^[^ o]' "$log" | sed -n 1,200p || true
	else
		report ok "$what: $ok" "$start"
	fi
	# what was skipped, and why
	sed -nE 's/^(ok [0-9]+|1\.\.0) .*# *[Ss][Kk][Ii][Pp][^ ]* *//p' "$log" | sort | uniq -c | while read -r count reason; do
		report skipped "$what: $count, $reason" "$start"
	done
}

# The TAP files of the folder $2, as the suite $1.
tap_files() {
	local suite=$1 folder=$2 name dir failed_before file
	shift 2
	while IFS= read -r name; do
		dir=$RUN_DIR/$suite/$name failed_before=$failed
		mkdir -p "$dir"
		# 15 reads TESTDIR, later majors the other two.
		tap_file "$suite: $name" "$dir/output" env TESTDIR="$dir" TESTLOGDIR="$dir/log" TESTDATADIR="$dir/data" \
			PG_TEST_PORT_DIR="$RUN_DIR/$suite" PG_REGRESS="$PGXS_DIR/src/test/regress/pg_regress" \
			PERL5LIB="$PGXS_DIR/src/test/perl:$ROOT/test/perl" prove --verbose "$folder/$name.pl"
		stop_servers_below "$dir"
		[ "$failed" -gt "$failed_before" ] || continue
		while IFS= read -r file; do
			echo "--- ${file#"$RUN_DIR"/}"
			tail -n 30 "$file"
		done < <(find "$dir" -path '*/log/*' -type f | sort)
	done < <(names "$folder/*.pl" "$@")
}

tap() { tap_files tap test/t "$@"; }

gotrue() {
	[ -x "${GOTRUE_SERVER:-}" ] || die "GOTRUE_SERVER must name the auth server's program: see test/gotrue/README.md"
	tap_files gotrue test/gotrue "$@"
}

pgtap() {
	local name dir=$RUN_DIR/pgtap
	mkdir -p "$dir"
	while IFS= read -r name; do
		server_ready
		if scripts/fixture-db.sh pgtap invite_sync pgtap >"$dir/$name.output" 2>&1; then
			tap_file "pgtap: $name" "$dir/$name.output" pg_prove --verbose --dbname pgtap "test/pgtap/$name.sql"
		else
			tap_file "pgtap: $name" "$dir/$name.failed" cat "$dir/$name.output"
		fi
	done < <(names 'test/pgtap/*.sql' "$@")
}

# What test/js/NAME.js makes of docs/NAME.md, in a database of its own.
js() {
	local name dir=$RUN_DIR/js
	[ -d "${JS_MODULES:-}" ] || die "JS_MODULES must name the folder of the npm packages: see test/js/README.md"
	mkdir -p "$dir"
	while IFS= read -r name; do
		server_ready
		if scripts/fixture-db.sh js invite_sync >"$dir/$name.output" 2>&1; then
			tap_file "js: $name" "$dir/$name.output" env NODE_PATH="$JS_MODULES" PGDATABASE=js node "test/js/$name.js"
		else
			tap_file "js: $name" "$dir/$name.failed" cat "$dir/$name.output"
		fi
	done < <(names 'test/js/*.js' "$@")
}

# Every plpgsql function of ours through plpgsql_check; bodies in SQL were checked when CREATE EXTENSION ran.
plpgsql() {
	if [ ! -e "$(pg_config --sharedir)/extension/plpgsql_check.control" ]; then
		skipped=$((skipped + 1))
		report skipped "plpgsql: plpgsql_check is not installed" "$SECONDS"
		return 0
	fi
	scripts/fixture-db.sh plpgsql invite_sync plpgsql_check
	tap_file plpgsql "$RUN_DIR/plpgsql" psql -X -q -A -t -v ON_ERROR_STOP=1 -d plpgsql -f scripts/plpgsql_check.sql
}

all=" regress isolation tap pgtap plpgsql gotrue js "
suites=() tests=()
for word in "$@"; do
	if [ ${#tests[@]} -eq 0 ] && [[ $all == *" $word "* ]]; then
		suites+=("$word")
	else
		tests+=("$word")
	fi
done
if [ ${#tests[@]} -gt 0 ] && [ ${#suites[@]} -ne 1 ]; then
	die "usage: check.sh [SUITE]... or check.sh SUITE NAME..., a suite being one of$all"
fi
without=()
if [ ${#suites[@]} -eq 0 ]; then
	if [ -z "${GOTRUE_SERVER:-}" ]; then
		without+=("gotrue did not run: ${GOTRUE_MISSING:-GOTRUE_SERVER names no auth server (test/gotrue/README.md)}")
		all=${all/ gotrue / }
	fi
	if [ -z "${JS_MODULES:-}" ]; then
		without+=("js did not run: ${JS_MISSING:-JS_MODULES names no npm packages (test/js/README.md)}")
		all=${all/ js / }
	fi
	read -ra suites <<<"$all"
fi
start=$SECONDS
for suite in "${suites[@]}"; do
	"$suite" "${tests[@]}"
done

# A crash of the server, and what the sanitizers find, is a failure whatever the tests say.
if grep -nE 'was terminated by signal|PANIC:|AddressSanitizer|runtime error:|TRAP: failed Assert' "$SERVER_LOG"; then
	failed=$((failed + 1))
	tail -n 50 "$SERVER_LOG"
fi
if [ "${REQUIRE_ALL:-0}" = 1 ] && [ "$skipped" -gt 0 ]; then
	echo "$skipped skipped although everything is required"
	failed=$((failed + skipped)) skipped=0
fi
[ ${#without[@]} -eq 0 ] || printf '%s\n' "${without[@]}"
echo "PostgreSQL $PG_MAJOR, $((SECONDS - start)) s"
line="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || line+=", $skipped skipped"
echo "$line"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
