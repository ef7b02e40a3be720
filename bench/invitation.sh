# shellcheck shell=bash disable=SC2154  # the variables of run.sh
# Pages that one call touches among few invitations and among many; tokens and organizations are drawn at random.

for variant in few many; do
	rows=$few_invitations
	[ $variant = few ] || rows=$many_invitations
	progress "a database with $rows invitations"
	"$ROOT/scripts/fixture-db.sh" "invitations_$variant" invite_sync
	sql -d "invitations_$variant" -v rows="$rows" -f "$ROOT/bench/invitation.sql" >/dev/null
	sql -d postgres -c CHECKPOINT
	for operation in accept get_invitation 'get_invitation, wrong token' create check my_invitations 'list, organization' 'list, of an inviter' \
		'list, all, one page in the middle' resend revoke; do
		sql -d "invitations_$variant" -c "CALL bench.measure('$operation', $invitation_calls)"
	done
	# the first batch warms the session up
	{
		for ((i = 0; i <= invitation_calls / 10; i++)); do
			cat <<-SQL
				CALL bench.let_expire();
				SELECT FROM pg_stat_force_next_flush();
				DELETE FROM bench.before;
				INSERT INTO bench.before VALUES (bench.counted(), clock_timestamp());
				CALL invite_sync.settle_invitations(100);
				SELECT clock_timestamp() AS settled \gset
				SELECT FROM pg_stat_force_next_flush();
				INSERT INTO bench.call SELECT 'settle, a hundred', bench.counted() - b.pages, extract(epoch FROM :'settled'::timestamptz - b.at) * 1000 FROM bench.before AS b WHERE $i > 0;
			SQL
		done
	} | PGOPTIONS='-c client_min_messages=error' sql -d "invitations_$variant" >/dev/null
done

# Medians of the calls of a database: pages or ms.
invitation_median() { value -d "invitations_$1" -c "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY $3) FROM bench.call WHERE operation = '$2'"; }
while IFS= read -r operation; do
	few=$(invitation_median few "$operation" pages) many=$(invitation_median many "$operation" pages)
	ratio=$(awk "BEGIN { printf \"%.2f\", $many / $few }")
	bar='' judged=''
	if [ "$operation" = accept ]; then
		bar='<= 1.3' judged=$(verdict "$ratio <= 1.3")
	fi
	fact "pages, $operation: $many_invitations invitations / $few_invitations" "$many" "$few" "$ratio" "$bar" "$judged"
	fact "ms, $operation" "$(invitation_median many "$operation" 'round(ms::numeric, 2)')" "$(invitation_median few "$operation" 'round(ms::numeric, 2)')" '' '' ''
done < <(value -d invitations_many -c 'SELECT DISTINCT operation FROM bench.call ORDER BY 1')
