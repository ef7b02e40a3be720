# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# Many users in one statement. Whatever is done here is rolled back and vacuumed away.

insert="SELECT bench.insert_users('bench.source') AS statement \\gset"
insert_bad="SELECT bench.insert_users('bench.source_bad') AS statement \\gset"
update="\\set statement 'UPDATE auth.users SET email = ''new.'' || email WHERE email LIKE ''user%'''"
update_bad="\\set statement 'UPDATE auth.users AS u SET email = bad.word || u.email FROM bench.words AS bad WHERE bad.id = u.id'"

clean_up() { sql -d "$1" -c 'VACUUM auth.users, public.profiles, public.accounts, public.members, invite_sync.quarantine_entry'; }

bulk() { # DATABASE MEASURE VARIANT STATEMENT [BEFORE]
	# shellcheck disable=SC2046  # two numbers
	sample "$2" "$3" "$round" 1000 $(timed "$1" supabase_auth_admin <<-SQL
		BEGIN;
		${5:-}
		$4
		:stamp :statement; :stamp
		ROLLBACK;
	SQL
	)
	clean_up "$1"
}

# The transaction ids that a statement takes, and how many subtransactions are alive after it.
count_transactions() { # VARIANT STATEMENT
	PGOPTIONS='-c client_min_messages=error' value -d "$1" -U supabase_auth_admin <<-SQL | tr '\n' ' '
		SELECT pg_snapshot_xmax(pg_current_snapshot()) AS before \gset
		$2
		BEGIN;
		:statement;
		SELECT bench.live_subtransactions(:before);
		ROLLBACK;
		SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - :before;
	SQL
	clean_up "$1"
}

# of 100 updates public.profiles refuses the result
for variant in ours_1 ours_3; do
	sql -d $variant <<-'SQL'
		CREATE TABLE bench.words AS
		SELECT id, CASE WHEN row_number() OVER (ORDER BY md5(email)) <= 100 THEN 'refused ' ELSE 'new.' END AS word
		  FROM auth.users WHERE email LIKE 'user%';
		GRANT SELECT ON bench.words TO PUBLIC;
		ANALYZE bench.words;
	SQL
done

for ((round = 1; round <= bulk_rounds; round++)); do
	bulk bare insert bare "$insert"
	bulk ours_1 insert ours "$insert"
	bulk plpgsql_1 insert plpgsql "$insert"
	bulk ours_1 insert ours_bad "$insert_bad"
	bulk bare insert target_only "SELECT bench.insert_profiles('bench.source') AS statement \\gset" \
		"$insert
		:statement;"
	bulk ours_1 update ours "$update"
	bulk ours_1 update ours_bad "$update_bad"
done

for what in insert update; do
	bad=${what}_bad
	read -r live used <<<"$(count_transactions ours_3 "${!what}")"
	read -r live_bad used_bad <<<"$(count_transactions ours_3 "${!bad}")"
	fact "transaction ids of a bulk $what, three targets" "$used" '' '' '<= 7' "$(verdict "$used <= 7")"
	fact "live subtransactions of a bulk $what, three targets" "$live" '' '' '<= 3' "$(verdict "$live <= 3")"
	fact "... with 100 bad rows ($used_bad transaction ids)" "$live_bad" '' '' '<= 3' "$(verdict "$live_bad <= 3")"
done
