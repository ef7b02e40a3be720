# Forty connections ask for what there is less of: each user's quota is used up and never exceeded, what expires is
# given out again once, a window takes as many as it may, and nobody waits in a circle.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster value);
use InviteSyncTest qw(prepare_database);
use Test::More;

my $db = 'app';
my $node = durable_cluster('load', conf => "log_min_messages = warning\nmax_connections = 60");
prepare_database($node, $db);

my ($inviters, $attempts, $clients) = (100, 1000, 40);
value($node, $db, <<"SQL");
INSERT INTO auth.users (id, email, email_confirmed_at)
	SELECT ('10000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n || '\@load.example', now() FROM generate_series(1, $inviters) AS n;
CREATE SEQUENCE public.attempt;
CREATE TABLE public.outcome (what text, answer text);
-- what becomes of a call: its row, the reason of a refusal or the SQLSTATE of an error
CREATE FUNCTION public.attempt(what text, call text) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	answer text;
BEGIN
	BEGIN
		EXECUTE call INTO answer;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS answer = PG_EXCEPTION_DETAIL;
		answer := CASE WHEN SQLSTATE LIKE 'PT%' THEN split_part(answer, ' ', 1) ELSE SQLSTATE || ' ' || SQLERRM END;
	END;
	INSERT INTO public.outcome VALUES (what, answer);
END \$\$;
CREATE FUNCTION public.invite() RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	n bigint := nextval('public.attempt');
BEGIN
	PERFORM public.attempt('invite', format('SELECT status FROM invite_sync.create_invitation(%L, inviter_id => %L)', n || '\@guest.example',
		'10000000-0000-4000-8000-' || lpad((n % $inviters + 1)::text, 12, '0')));
END \$\$;
CREATE FUNCTION public.export() RETURNS void LANGUAGE sql AS \$\$
	SELECT public.attempt('export', 'SELECT allowed FROM invite_sync.consume_rate_limit(''export'', ''everybody'')') \$\$;
SQL

# $attempts calls by $clients connections; what became of them
sub run_load
{
	my ($what, $script) = @_;
	my $file = "${PostgreSQL::Test::Utils::tmp_check}/$what.pgbench";

	value($node, $db, 'TRUNCATE public.outcome');
	PostgreSQL::Test::Utils::append_to_file($file, $script);
	$node->command_ok([ 'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $attempts / $clients, '-U', 'supabase_admin', '-f', $file, $db ], "$what: everybody was served");
	return value($node, $db, q{SELECT string_agg(answer || ' ' || n, ', ' ORDER BY answer) FROM (SELECT answer, count(*) AS n FROM public.outcome GROUP BY 1) AS o});
}

sub figures { return value($node, $db, q{SELECT string_agg(DISTINCT granted || ' ' || used, ', ') || ': ' || count(*) FROM invite_sync.user_invitation_quota}) }

my $deadlocks = q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()};
my $before = value($node, $db, $deadlocks);

is(run_load('first', 'SELECT public.invite();'), 'pending 300, quota_exhausted 700', '100 users with a quota of 3 send 300 invitations');
is(figures(), '3 3: 100', 'each of them three');

# one of each expires, and is closed by whoever comes first: the next inviter or the procedure
value($node, $db, q{UPDATE invite_sync.invitation SET expires_at = clock_timestamp()
WHERE id IN (SELECT min(id::text)::uuid FROM invite_sync.invitation GROUP BY inviter_id)});
is(value($node, $db, q{SELECT string_agg(DISTINCT remaining::text, ', ') FROM invite_sync.quota_report(page_size => 500)}), 1, 'one has expired of each');
is(run_load('expired', "SELECT public.invite();\n\\if :client_id % 10 = 0\nCALL invite_sync.settle_invitations();\n\\endif\n"),
	'pending 100, quota_exhausted 900', 'which is given out again once');
is(figures(), '3 3: 100', 'to each of them');
is(value($node, $db, q{SELECT string_agg(status || ' ' || charged || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, charged, count(*) AS n FROM invite_sync.invitation GROUP BY 1, 2) AS i}),
	'expired false 100, pending true 300', 'and every charged one is counted');

value($node, $db, q{SELECT invite_sync.set_rate_limit('export', 100, '1 hour')});
is(run_load('window', 'SELECT public.export();'), 'false 900, true 100', 'a window takes as many as it may');

is(value($node, $db, $deadlocks), $before, 'nobody waited in a circle');
done_testing();
