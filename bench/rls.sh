# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# count(*) over a table, under each way to write its policy: the organizations of the table, and who asks.

rls_claims() { printf '{"sub": "%s", "role": "authenticated"}' "$(value -d rls -c "SELECT md5('user $1')::uuid")"; }

# Runs psql's standard input as user $2 of the application under the policy of variant $1.
rls_timed() {
	local claims
	claims=$(rls_claims "$2")
	{
		echo "SET ROLE bench_$1; SET request.jwt.claims = '$claims';"
		cat
	} | timed rls supabase_admin
}

# What bars are set for, and every number of organizations with every number of memberships. Of those without a bar five
# rounds are enough; so they are of the definer functions, which take a second each.
rls_barred=(document_10:ten document_1000:above_1000 document_100000:above_100000 indexed_1000:ten)
rls_cases=("${rls_barred[@]}")
for place in indexed_{10,1000,100000}; do
	for user in one ten hundred fivehundred; do
		[ "$place:$user" = indexed_1000:ten ] || rls_cases+=("$place:$user")
	done
done
for ((round = 1; round <= rls_rounds; round++)); do
	for case in "${rls_cases[@]}"; do
		[ "$round" -le 5 ] || [[ " ${rls_barred[*]} " == *" $case "* ]] || continue
		place=${case%:*} user=${case#*:}
		for variant in none not_null constant is_member has_permission array any_select in_select usual_definer definer_ours definer_constant; do
			times=5
			case $variant in
			*definer*)
				[ "$case" = document_10:ten ] || continue
				[ "$round" -le 5 ] || continue
				times=1
				;;
			array | any_select)
				# without an index each row is compared with each element: minutes
				case $case in document_1*000:*) continue ;; esac
				;;
			esac
			query="SELECT count(*) FROM public.$place;"
			# shellcheck disable=SC2046  # two numbers
			sample "rls_${place}_$user" "$variant" "$round" $((times * 1000)) $(rls_timed "$variant" "$user" <<-SQL
				$query
				:stamp $(for ((i = 0; i < times; i++)); do echo "$query"; done) :stamp
			SQL
			)
		done
	done
done

# All variants must see the same, or the ratios say nothing; and ours reads once.
rls_rows() {
	sql -A -t -d rls <<-SQL
		SET ROLE bench_$1;
		SET request.jwt.claims = '$(rls_claims "$2")';
		SELECT count(*) FROM public.$3;
	SQL
}
for case in indexed_1000:above_1000 "${rls_cases[@]/document/indexed}"; do
	[ "$case" != indexed_100000:above_100000 ] || continue # minutes of the usual helper
	place=${case%:*} user=${case#*:}
	expected=$(rls_rows usual_definer "$user" "$place")
	for variant in is_member has_permission array any_select in_select; do
		[ "$(rls_rows $variant "$user" "$place")" = "$expected" ] ||
			{ echo "policy $variant shows $user other rows of $place than the usual helper" >&2; exit 1; }
	done
done
loads=$(
	sql -A -t -d rls <<-SQL | tail -n 1
		GRANT EXECUTE ON FUNCTION invite_sync.membership_loads() TO bench_is_member;
		SET ROLE bench_is_member;
		SET request.jwt.claims = '$(rls_claims fivehundred)';
		SELECT invite_sync.membership_loads() AS before \gset
		SELECT count(*) FROM public.document_1000;
		SELECT invite_sync.membership_loads() - :before;
	SQL
)
fact 'policies: loads a statement' "$loads" '' '' '= 1' "$(verdict "$loads == 1")"

# Nanoseconds of processor time a row, from the medians.
rls_median() { awk -F '\t' -v m="$1" -v v="$2" '$1 == m && $2 == v && $3 == "cpu" { print $5 }' "$samples" | sort -n | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
for case in rls_document_10_ten rls_document_1000_above_1000; do
	for base in not_null none; do
		ns=$(awk "BEGIN { printf \"%.1f\", ($(rls_median $case is_member) - $(rls_median $case $base)) * 1e6 / 200000 }")
		if [ "$base" = none ]; then
			fact "policies: is_member() a row, ns, more than no filter ($case)" "$ns" '' '' '' ''
		else
			fact "policies: is_member() a row, ns, more than IS NOT NULL ($case)" "$ns" '' '' '<= 40' "$(verdict "$ns <= 40")"
		fi
	done
done
