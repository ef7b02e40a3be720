# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# One signup after the other, in the server, a commit each.

for ((round = 1; round <= signup_rounds; round++)); do
	for variant in "${variants[@]}"; do
		# shellcheck disable=SC2046  # two numbers
		sample signup "$variant" "$round" "$signups" $(timed "$variant" supabase_auth_admin <<-SQL
			$(signup_call "$variant" 200)
			:stamp $(signup_call "$variant" "$signups") :stamp
		SQL
		)
	done
done
