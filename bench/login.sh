# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# A login's UPDATE: alone in the server, and as a client sees it over a local socket.

for ((round = 1; round <= login_rounds; round++)); do
	for variant in bare ours_1; do
		# shellcheck disable=SC2046  # two numbers
		sample login "$variant" "$round" "$logins" $(timed "$variant" supabase_auth_admin <<-SQL
			CALL bench.logins(500);
			:stamp CALL bench.logins($logins); :stamp
		SQL
		)
	done
done

# The first logins of a connection load and plan; of the others the middle half counts, since a busy machine delays some.
for ((round = 1; round <= socket_rounds; round++)); do
	for variant in bare ours_1; do
		pgbench -n -M prepared -U supabase_auth_admin -f "$ROOT/bench/login.pgbench" -D users="$users" -t "$logins" \
			-l --log-prefix="$results/login" $variant >/dev/null 2>&1
		awk 'NR > 200 { print $3 }' "$results"/login.* | sort -n |
			awk -v OFS='\t' -v variant=$variant -v round="$round" '
				{ us[NR] = $1 }
				END {
					for (i = int(NR / 4) + 1; i <= NR * 3 / 4; i++) { sum += us[i]; n++ }
					print "login_socket", variant, "wall", round, sum / n
				}' >>"$samples"
		rm -f "$results"/login.*
	done
done
