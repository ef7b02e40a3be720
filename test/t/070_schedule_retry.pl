# schedule_retry() with a real pg_cron: the jobs run, as whom they should, and
# what waits in quarantine leaves it; without pg_cron the error says what to do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(as_role value signup);
use InviteSyncTest qw(new_cluster prepare_database run_as);
use Test::More;

my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
plan skip_all => 'pg_cron is not installed (package postgresql-NN-cron)'
  unless -e "$sharedir/extension/pg_cron.control";

# background workers, so that no job needs a password or a line in pg_hba.conf
my $db = 'app';
my $node = new_cluster('cron', conf => <<"CONF");
shared_preload_libraries = 'pg_cron'
cron.database_name = '$db'
cron.use_background_workers = on
cron.timezone = 'UTC'
max_worker_processes = 20
log_min_messages = warning
CONF
prepare_database($node, $db);

my $jobs = q{SELECT string_agg(concat_ws(' ', jobname, schedule, username, active), ', ' ORDER BY jobname) FROM cron.job};

sub schedule
{
	my ($role, $arguments) = @_;
	return run_as($node, $db, $role,
		"SELECT job_name, schedule, role FROM invite_sync.schedule_retry($arguments) ORDER BY 1");
}

# ---------------------------------------------------------------------------
# Without pg_cron, and without the right to use it

my $result = schedule('postgres', '');
is($result->{sqlstate}, '0A000', 'without pg_cron: an error');
like($result->{stderr}, qr/HINT:.*postgresql-\d+-cron.*cron\.database_name = '\Q$db\E'.*CREATE EXTENSION pg_cron/,
	'which says what to do');
is(as_role($node, $db, 'postgres', 'SELECT invite_sync.unschedule_retry()'), 'f', 'nothing to unschedule');

# a schema of that name is not pg_cron
value($node, $db, <<'SQL');
CREATE SCHEMA cron AUTHORIZATION postgres;
CREATE TABLE cron.job (jobid bigint, schedule text, command text, database text, username text, active boolean, jobname name);
CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'called as %', current_user; END$$;
SQL
is(schedule('supabase_admin', '')->{sqlstate}, '0A000', 'a schema named cron is not believed');
value($node, $db, 'DROP SCHEMA cron CASCADE; CREATE EXTENSION pg_cron');

value($node, $db, q{CREATE ROLE zz_deploy LOGIN; SELECT invite_sync.grant_operator('zz_deploy')});
$result = schedule('zz_deploy', '');
is($result->{sqlstate}, '42501', 'without USAGE on schema cron: an error');
like($result->{stderr}, qr/HINT:.*GRANT USAGE ON SCHEMA cron TO zz_deploy/, 'which says what to do');
value($node, $db, 'GRANT USAGE ON SCHEMA cron TO postgres');

# ---------------------------------------------------------------------------
# Scheduled by the operator

$result = schedule('postgres', '');
is($result->{out}, "invite_sync_check_alerts|* * * * *|postgres\ninvite_sync_retry_quarantine|* * * * *|postgres",
	'two jobs, as the caller');
is(value($node, $db, $jobs),
	'invite_sync_check_alerts * * * * * postgres t, invite_sync_retry_quarantine * * * * * postgres t',
	'they are in pg_cron');
my $before = value($node, $db, 'SELECT string_agg(jobid::text, $$,$$ ORDER BY jobid) FROM cron.job');
$result = schedule('postgres', '');
like($result->{stderr}, qr/NOTICE: .*scheduled so already/, 'again: a notice');
is(value($node, $db, 'SELECT string_agg(jobid::text, $$,$$ ORDER BY jobid) FROM cron.job'), $before, 'and the same jobs');
like(as_role($node, $db, 'postgres', 'SELECT invite_sync.config_sql()'),
	qr/^SELECT job_name FROM invite_sync\.schedule_retry\('\* \* \* \* \*'\);$/m, 'config_sql() has the schedule');

# another schedule, and a job that somebody switched off
$result = schedule('postgres', q{'*/5 * * * *'});
ok($result->{ok}, 'another schedule');
value($node, $db, q{UPDATE cron.job SET active = false WHERE jobname = 'invite_sync_check_alerts'});
$result = schedule('postgres', q{'*/5 * * * *'});
unlike($result->{stderr}, qr/already/, 'a job that is off is no job');
is(value($node, $db, $jobs),
	'invite_sync_check_alerts */5 * * * * postgres t, invite_sync_retry_quarantine */5 * * * * postgres t',
	'set and on again');

$result = schedule('postgres', q{'now and then'});
is($result->{sqlstate}, '22023', 'a schedule that pg_cron does not take');
is(schedule('postgres', 'NULL')->{sqlstate}, '22004', 'no schedule');
is(value($node, $db, 'SELECT count(*) FROM cron.job'), '2', 'nothing has changed');

# a foreign job of another name stays
as_role($node, $db, 'postgres', q{SELECT cron.schedule('mine', '0 0 1 1 *', 'SELECT 1')});

# ---------------------------------------------------------------------------
# The superuser: the jobs are not the superuser's

$result = schedule('supabase_admin', '');
is($result->{out}, "invite_sync_check_alerts|* * * * *|postgres\ninvite_sync_retry_quarantine|* * * * *|postgres",
	'scheduled by a superuser they run as an operator who is none');
is(value($node, $db, "$jobs WHERE jobname <> 'mine'"),
	'invite_sync_check_alerts * * * * * postgres t, invite_sync_retry_quarantine * * * * * postgres t',
	'and replace those of before');

# an operator who cannot log in
value($node, $db, <<'SQL');
CREATE ROLE team NOLOGIN;
SELECT invite_sync.grant_operator('team');
GRANT USAGE ON SCHEMA cron TO team;
GRANT team TO postgres;
SQL
$result = run_as($node, $db, 'postgres', 'SET ROLE team; SELECT invite_sync.schedule_retry()');
is($result->{sqlstate}, '42501', 'a role that cannot log in: an error');
like($result->{message}, qr/cannot log in/, 'which says so');

# not for others, whatever runs around it
value($node, $db, <<'SQL');
CREATE FUNCTION public.through() RETURNS SETOF invite_sync.retry_job LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM invite_sync.schedule_retry()';
SQL
for my $role ('anon', 'authenticated', 'service_role')
{
	is(run_as($node, $db, $role, 'SELECT public.through()')->{sqlstate}, 'PT403', "$role may not");
}
# a superuser's definer function around it gives the jobs no superuser
as_role($node, $db, 'postgres', 'SELECT invite_sync.unschedule_retry()');
as_role($node, $db, 'postgres', 'SELECT public.through()');
is(value($node, $db, q{SELECT string_agg(DISTINCT username, ',') FROM cron.job WHERE jobname LIKE 'invite_sync%'}),
	'postgres', 'through a definer function of a superuser they are still the caller\'s');

# ---------------------------------------------------------------------------
# Checks of drift are such jobs too

my $drift_jobs = q{SELECT string_agg(concat_ws(' ', jobname, schedule, username, active), ', ' ORDER BY jobname) FROM cron.job WHERE jobname ~ 'drift|snapshots'};
is(as_role($node, $db, 'postgres', 'SELECT invite_sync.unschedule_drift_check()'), 'f', 'no drift checks to unschedule');
is(as_role($node, $db, 'postgres', q{SELECT string_agg(concat_ws(' ', job_name, schedule, role), ', ' ORDER BY job_name) FROM invite_sync.schedule_drift_check()}),
	'invite_sync_check_drift */15 * * * * postgres, invite_sync_prune_snapshots 41 3 * * * postgres', 'schedule_drift_check() returns the jobs');
is(value($node, $db, $drift_jobs), 'invite_sync_check_drift */15 * * * * postgres t, invite_sync_prune_snapshots 41 3 * * * postgres t', 'which pg_cron has');
like(run_as($node, $db, 'postgres', 'SELECT invite_sync.schedule_drift_check()')->{stderr}, qr/NOTICE: .*scheduled so already/, 'again: a notice');
like(value($node, $db, 'SELECT string_agg(statement, $$;$$) FROM invite_sync.uninstall_plan()'),
	qr/SELECT invite_sync\.unschedule_drift_check\(\);/, 'uninstall_plan() names them');
is(run_as($node, $db, 'postgres', q{SELECT invite_sync.schedule_drift_check('now and then')})->{sqlstate}, '22023', 'not as pg_cron does not take it');
as_role($node, $db, 'postgres', q{SELECT invite_sync.approve_snapshot(s.id) FROM invite_sync.snapshot_schema('{public}') AS s});

# ---------------------------------------------------------------------------
# They do their work. Where pg_cron knows seconds (1.5) this takes one, else
# until the next minute.

as_role($node, $db, 'postgres', 'SELECT invite_sync.schedule_retry()')
  unless schedule('postgres', q{'1 seconds'})->{ok};
as_role($node, $db, 'postgres', q{SELECT invite_sync.schedule_drift_check('* * * * *')})
  unless run_as($node, $db, 'postgres', q{SELECT invite_sync.schedule_drift_check('1 seconds')})->{ok};
as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.members (user_id uuid PRIMARY KEY, email text CHECK (email NOT LIKE '%bad%'));
SELECT invite_sync.add_target('public.members', '{"email": "email"}');
SELECT invite_sync.set_alert('missing', 0, per => '1 second');
ALTER TABLE public.members ADD CONSTRAINT members_broken CHECK (email NOT LIKE 'mended%');
SQL
as_role($node, $db, 'supabase_auth_admin', signup('a', 1, 'bad@example.com'));
as_role($node, $db, 'supabase_auth_admin', signup('a', 2, 'mended@example.com'));
as_role($node, $db, 'postgres', 'ALTER TABLE public.members DROP CONSTRAINT members_broken');
is(value($node, $db, 'SELECT count(*) FROM public.members'), '0', 'nobody has a row');
value($node, $db, 'UPDATE invite_sync.quarantine_entry SET next_retry_at = now()');
$node->poll_query_until($db, q{SELECT (SELECT count(*) FROM public.members) = 1 AND EXISTS (SELECT FROM invite_sync.alerts WHERE check_name = 'missing') AND EXISTS (SELECT FROM invite_sync.drift_alerts)}, 't')
  or diag(value($node, $db, 'SELECT * FROM cron.job_run_details'));
is(value($node, $db, 'SELECT email FROM public.members'), 'mended@example.com', 'a job did what was in quarantine');
is(value($node, $db, 'SELECT string_agg(user_id::text, $$,$$) FROM invite_sync.quarantine'), 'a0000001-0000-4000-8000-000000000000',
	'what goes on failing stays');
is(value($node, $db, q{SELECT state || ' ' || target FROM invite_sync.alerts WHERE check_name = 'missing'}), 'open public.members',
	'a job raised an alert');
is(value($node, $db, q{SELECT string_agg(state || ' ' || schemas::text, ',') FROM invite_sync.drift_alerts WHERE state = 'open'}), 'open {public}', 'a job found the drift');
is(value($node, $db, q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}), '0', 'no run failed');
is(value($node, $db, q{SELECT string_agg(DISTINCT username, ',') FROM cron.job_run_details}), 'postgres', 'all ran as the operator');

# ---------------------------------------------------------------------------
# Taken back

is(as_role($node, $db, 'postgres', 'SELECT invite_sync.unschedule_drift_check()'), 't', 'drift checks are unscheduled');
is(value($node, $db, $drift_jobs), '', 'both jobs of them');
is(as_role($node, $db, 'postgres', 'SELECT invite_sync.unschedule_retry()'), 't', 'unscheduled');
is(value($node, $db, 'SELECT string_agg(jobname, $$,$$) FROM cron.job'), 'mine', 'and the other job stays');
is(as_role($node, $db, 'postgres', 'SELECT invite_sync.unschedule_retry()'), 'f', 'again: nothing');
schedule('postgres', '');
like(value($node, $db, 'SELECT string_agg(statement, $$;$$) FROM invite_sync.uninstall_plan()'),
	qr/SELECT invite_sync\.unschedule_retry\(\);/, 'uninstall_plan() names it');
is(value($node, $db, 'SELECT invite_sync.unschedule_retry()'), 't', 'a superuser unschedules everybody\'s');

$node->stop;
done_testing();
