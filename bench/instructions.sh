# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# The small ratios once more, counted and not timed: the instructions of a single backend under valgrind's callgrind, for
# more signups (logins) less those for fewer, which takes away the start. The server must be stopped.

count() { # DATABASE SEED STATEMENT
	printf '%s;\n' 'SET SESSION AUTHORIZATION supabase_auth_admin' "SELECT setseed($2)" "$3" |
		valgrind --tool=callgrind --callgrind-out-file=/dev/null \
			postgres --single -D "$data" -c full_page_writes=off "$1" 2>&1 |
		awk '/Collected :/ { print $4 }'
}

instructions() { # MEASURE VARIANT STATEMENT(%)
	local few many
	few=$(count "$2" 0.1 "${3//%/100}")
	many=$(count "$2" 0.2 "${3//%/500}")
	printf '%s\t' "$1" "$2" instructions 1 >>"$samples"
	echo $(((many - few) / 400)) >>"$samples"
}

for variant in "${variants[@]}"; do
	instructions signup "$variant" "$(signup_call "$variant" %)"
done
for variant in bare ours_1; do
	instructions login $variant 'CALL bench.logins(%)'
done
