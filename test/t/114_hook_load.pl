# Many attempts at once: as many count as may, from each address and in all, whoever comes first; and under a limit per
# address as many sign up as may.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster value);
use InviteSyncTest qw(prepare_database);
use Test::More;

my $db = 'app';
my $node = durable_cluster('hooks', conf => "log_min_messages = warning\nmax_connections = 60");
prepare_database($node, $db);

my ($attempts, $clients) = (600, 30);
value($node, $db, <<'SQL');
INSERT INTO auth.users (id, email, email_confirmed_at) VALUES ('e0000000-0000-4000-8000-000000000001', 'ann@load.example', now());
CREATE TABLE public.outcome (answer text);
SQL
value($node, $db, "ALTER DATABASE $db SET $_")
  for 'invite_sync.lockout_attempts = 5', 'invite_sync.lockout_user_attempts = 7', "invite_sync.signup_policy = 'domain_only'", "invite_sync.signup_domains = 'load.example'";
value($node, $db, q{SELECT invite_sync.set_rate_limit('signup', 20, '1 hour', scope => 'address'), invite_sync.set_rate_limit('signup', 50, '1 hour')});

# $attempts calls by $clients connections; what they were answered
sub run_load
{
	my ($what, $call) = @_;
	my $file = "${PostgreSQL::Test::Utils::tmp_check}/$what.pgbench";

	value($node, $db, 'TRUNCATE public.outcome');
	PostgreSQL::Test::Utils::append_to_file($file, "\\set a random(1, 3)\nINSERT INTO public.outcome SELECT $call;\n");
	$node->command_ok([ 'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $attempts / $clients, '-U', 'supabase_admin', '-f', $file, $db ], "$what: everybody was answered");
	return value($node, $db, q{SELECT string_agg(answer || ' ' || n, ', ' ORDER BY answer) FROM (SELECT answer, count(*) AS n FROM public.outcome GROUP BY 1) AS o});
}

my $deadlocks = q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()};
my $before = value($node, $db, $deadlocks);
my $address = q{jsonb_build_object('ip_address', '192.0.2.' || :a)};

is(run_load('passwords', "invite_sync.password_verification_attempt_hook(jsonb_build_object('user_id', 'e0000000-0000-4000-8000-000000000001', 'valid', false, 'metadata', $address))->>'decision'"),
	'continue 7, reject 593', 'no more failures count than may in all');
is(value($node, $db, q{SELECT count(*) FROM invite_sync.rate_limit WHERE action = 'password_verification' AND scope = 'address' AND cardinality(stamps) > 5}),
	'0', 'nor from one address');
is(value($node, $db, q{SELECT sum(cardinality(stamps)) FROM invite_sync.rate_limit WHERE action = 'password_verification' AND scope = 'address'}), '7', 'each of them once');

is(run_load('signups', "coalesce(invite_sync.before_user_created_hook(jsonb_build_object('user', jsonb_build_object('email', :client_id || '\@load.example'), 'metadata', $address))->'error'->>'http_code', 'yes')"),
	'429 550, yes 50', 'no more sign up than may from a domain');
is(value($node, $db, q{SELECT count(*) FROM invite_sync.rate_limit WHERE action = 'signup' AND scope = 'address' AND cardinality(stamps) > 20}), '0', 'nor from one address');

is(value($node, $db, $deadlocks), $before, 'nobody waited in a circle');
done_testing();
