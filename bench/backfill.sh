# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# Many users into an empty target, and once more when all are there.

# A truncated table is to the planner like a new one: of unknown size. A vacuumed one is known to be empty.
truncate_target() { sql -d "$1" -c 'TRUNCATE public.profiles' -c CHECKPOINT; }

# Prints the private memory of the session called $1, in kB, five times a second while it lives.
watch_memory() {
	local pid="" tries
	for ((tries = 0; tries < 100 && ! pid; tries++)); do
		pid=$(value -d postgres -c "SELECT pid FROM pg_stat_activity WHERE application_name = '$1'")
	done
	while awk '/^RssAnon/ { print $2 }' "/proc/$pid/status" 2>/dev/null; do sleep 0.2; done
}

sync_all="CALL invite_sync.sync_all();"

for ((round = 1; round <= backfill_rounds; round++)); do
	truncate_target million
	watch_memory backfill >"$results/memory.$round" &
	# shellcheck disable=SC2046  # two numbers
	sample backfill ours "$round" 1000 $(PGAPPNAME=backfill timed million postgres <<<":stamp $sync_all :stamp")
	wait
	truncate_target million
	# shellcheck disable=SC2046
	sample backfill bare "$round" 1000 $(timed million postgres <<-'SQL'
		SELECT bench.insert_profiles('auth.users') AS statement \gset
		:stamp :statement; :stamp
	SQL
	)
done

# The same on a small scale where the statements are planned for a target that is known to be empty.
for ((round = 1; round <= backfill_rounds; round++)); do
	for variant in vacuumed unknown; do
		truncate_target small
		[ $variant = unknown ] || sql -d small -c 'VACUUM public.profiles'
		# shellcheck disable=SC2046
		sample small_backfill $variant "$round" 1000 $(timed small postgres <<<":stamp $sync_all :stamp")
	done
done

# Memory: what the session has at most in the second half of its life, against the first.
read -r first second <<<"$(awk '
	{ kb[NR] = $1 }
	END {
		for (i = 1; i <= NR; i++)
			if (i <= NR / 2) { if (kb[i] > a) a = kb[i] } else if (kb[i] > b) b = kb[i]
		print a, b
	}' "$results/memory.$backfill_rounds")"
fact "memory of sync_all, kB: most in its second half, in its first" "$second" "$first" \
	"$(awk "BEGIN { printf \"%.2f\", $second / $first }")" '<= 1.10' "$(verdict "$second <= 1.10 * $first")"

# In step: nothing is to be written.
sql -d million -c 'VACUUM (ANALYZE) public.profiles'
written="SELECT pg_stat_force_next_flush(), n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relid = 'public.profiles'::regclass"
before=$(value -d million -c "$written")
for ((round = 1; round <= in_step_rounds; round++)); do
	# shellcheck disable=SC2046
	sample in_step ours "$round" 1000 $(timed million postgres <<<":stamp $sync_all :stamp")
	# shellcheck disable=SC2046
	sample in_step anti_join "$round" 1000 $(timed million postgres <<-'SQL'
		:stamp SELECT count(*) FROM auth.users AS u WHERE NOT EXISTS (SELECT FROM public.profiles AS p WHERE p.id = u.id); :stamp
	SQL
	)
	# shellcheck disable=SC2046
	sample in_step same_question "$round" 1000 $(timed million postgres <<-'SQL'
		:stamp
		SELECT count(*) FROM auth.users AS u LEFT JOIN public.profiles AS p ON p.id = u.id
		 WHERE u.deleted_at IS NULL
		   AND (p.id IS NULL OR p.email IS NULL OR p.full_name IS NULL OR p.avatar_url IS NULL OR p.created_at IS NULL);
		:stamp
	SQL
	)
done
after=$(value -d million -c "$written")
fact "rows of the target written by sync_all with all in step" "$((${after#|} - ${before#|}))" '' '' '= 0' "$(verdict "${after#|} == ${before#|}")"

# A login under way meets a batch at most once. The batches' times are those at which their transactions began.
truncate_target million
sql -d million -U postgres -c "SET client_min_messages = error" -c "$sync_all" &
backfill=$!
while kill -0 $backfill 2>/dev/null; do
	pgbench -n -M prepared -U supabase_auth_admin -f "$ROOT/bench/login.pgbench" -D users="$million" -T 1 \
		-l --log-prefix="$results/login" million >/dev/null 2>&1
done
wait $backfill
read -r longest batches <<<"$(value -d million -F ' ' <<-'SQL'
	SELECT round(extract(epoch FROM max(lasted)) * 1000, 1), count(*)
	  FROM (SELECT lead(written_at) OVER (ORDER BY written_at) - written_at AS lasted
	          FROM (SELECT DISTINCT written_at FROM public.profiles) AS batch) AS batches
SQL
)"
read -r waited logins_done <<<"$(cat "$results"/login.* | awk '$3 > most { most = $3 } END { printf "%.1f %d", most / 1000, NR }')"
rm -f "$results"/login.*
fact "longest of $logins_done logins during a sync_all, longest of its $batches batches, ms" "$waited" "$longest" \
	"$(awk "BEGIN { printf \"%.2f\", $waited / $longest }")" '<= 1' "$(verdict "$waited <= $longest")"
