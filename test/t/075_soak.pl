# Mixed traffic for a while, all at once: signups, logins, changes and deletions
# of the auth server, an application's own writes, DDL on targets and auth.users,
# changes of the registry, retries, backfills, guarded triggers that fail, and
# backends that are killed. Afterwards everything must be equal by policy, no
# statement of the auth server may have failed but those that were killed, and
# nothing may have leaked.
#
# SOAK_SECONDS=n  how long (120; from 300 on backends are also killed by signal 9, each a crash of the server)
# SOAK_SEED=n     the traffic of another run again, as far as time allows

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", "$FindBin::RealBin/../soak";

use File::Path qw(make_path);
use InviteSyncLife qw(durable_cluster as_role value wait_for_server);
use InviteSyncSoak qw(start_worker);
use InviteSyncTest qw(prepare_database session slurp);
use JSON::PP;
use List::Util qw(min sum0);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{SOAK_SECONDS} || 120;
my $seed = $ENV{SOAK_SEED} || int(time) % 100_000;
my $db = 'app';
my $dir = "$PostgreSQL::Test::Utils::tmp_check/soak";
make_path($dir);
srand $seed;
diag("soak: $seconds s, SOAK_SEED=$seed");

my $node = durable_cluster('soak', conf => <<'CONF');
restart_after_crash = on
log_min_messages = warning
log_line_prefix = '%m [%p] %a %e '
deadlock_timeout = 150ms
invite_sync.lock_timeout = 400ms
autovacuum = on
autovacuum_naptime = 5s
max_connections = 40
CONF
prepare_database($node, $db);
as_role($node, $db, 'supabase_admin', <<'SQL');
GRANT EXECUTE ON FUNCTION pg_catalog.pg_get_backend_memory_contexts() TO supabase_auth_admin;
GRANT SELECT ON pg_catalog.pg_backend_memory_contexts TO supabase_auth_admin;
SQL
as_role($node, $db, 'postgres', slurp("$FindBin::RealBin/../soak/schema.sql"));

# ---------------------------------------------------------------------------
# Traffic

my $started = time;
my $deadline = $started + $seconds;
my %kinds = (steady => [4], auth => [ 1, 2, 3 ], app => [ 5, 6 ], ddl => [7], operator => [8], retry => [ 9, 10 ], backfill => [11]);
my @workers;
for my $kind (sort keys %kinds)
{
	push @workers, start_worker($node, $db, $kind, $_, dir => $dir, seed => $seed, deadline => $deadline) for @{ $kinds{$kind} };
}

# Killing, meanwhile: not the steady one, whose memory is watched, but by a crash.
my ($killed, $crashes) = (0, 0);
my @crash_at = $seconds >= 300 ? map({ $started + $seconds * $_ } 0.1, 0.3) : ();
my $control;
while (time < $deadline)
{
	my $crash = @crash_at && time >= $crash_at[0];
	$control ||= eval { session($node, $db, 'supabase_admin', name => 'control') };
	my $call = $crash ? 'pid' : rand() < 0.6 ? 'pg_terminate_backend(pid)' : 'pg_cancel_backend(pid)';
	my $result = $control && eval { $control->query(<<"SQL") };
SELECT $call FROM (SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'soak\\_%' AND application_name NOT LIKE 'soak\\_steady%'
	ORDER BY state = 'active' DESC, random() LIMIT 1) AS a
SQL
	if (!$result || !$result->{ok})
	{
		eval { $control->kill } if $control;
		undef $control;
	}
	elsif ($crash && $result->{out})
	{
		kill 'KILL', $result->{out};
		$crashes++;
		shift @crash_at;
		eval { $control->kill };
		undef $control;
		wait_for_server($node);
	}
	else { $killed++ }
	sleep 0.3 + rand 1.2;
}

# They notice the deadline themselves; who does not is stopped.
my $last = $deadline + 120;
my %hung;
for my $worker (@workers)
{
	my $gone = 0;
	sleep 0.1 until ($gone = waitpid($worker->{pid}, 1)) || time > $last;
	next if $gone;
	$hung{ $worker->{name} } = 1;
	kill 'KILL', $worker->{pid};
	waitpid $worker->{pid}, 0;
}
is(join(' ', sort keys %hung), '', 'every worker came to its end');

my (%done, %errors, @samples);
for my $worker (@workers)
{
	my $report = eval { decode_json(slurp($worker->{file})) };
	ok($report && $report->{died} eq '', "$worker->{name} worked") or diag($report ? $report->{died} : $@);
	next unless $report;
	my ($kind) = $worker->{name} =~ /^soak_([a-z]+)/;
	$done{$kind}{$_} += $report->{counts}{$_} for keys %{ $report->{counts} };
	$errors{$kind}{$_} += $report->{errors}{$_} for keys %{ $report->{errors} };
	push @samples, @{ $report->{samples} };
}
for my $kind (sort keys %done)
{
	diag("$kind: " . join ', ', map { "$_ $done{$kind}{$_}" } sort keys %{ $done{$kind} });
}
cmp_ok(sum0(map { values %{ $done{$_} } } qw(auth steady)), '>', $seconds * 5, 'there was traffic');

# ---------------------------------------------------------------------------
# Nothing reached the auth server but what was meant to kill it

my %expected = map { $_ => 1 } qw(57P01 57014 08006), $crashes ? qw(57P02 57P03) : ();
my $unexpected = sub {
	my ($kind, %more) = @_;
	return join "\n", sort grep { my ($state) = / ([0-9A-Z]{5}) /; !$expected{$state} && !$more{$state} } keys %{ $errors{$kind} || {} };
};
is($unexpected->($_), '', "no statement of the auth server failed but those that were killed ($_)") for qw(auth steady);

# Others may lose a race, with the error that says so.
my %races = (
	app => [qw(23514 40P01 42P01 42703 42804 P0001)],    # their table is being altered
	ddl => [qw(40P01 55P03 42701 42703 42704 42710 42P01 42P07 55000 23505)],
	operator => [qw(40P01 55P03 42703 42704 42P01 55006)],
	retry => [qw(40P01)],
	backfill => [qw(40P01)]);
for my $kind (sort keys %races)
{
	is($unexpected->($kind, map { $_ => 1 } @{ $races{$kind} }), '', "$kind met only what it had to expect");
	my %states;
	$states{ (/ ([0-9A-Z]{5}) /)[0] } += $errors{$kind}{$_} for keys %{ $errors{$kind} || {} };
	diag("$kind met " . join ', ', map { "$states{$_} x $_" } sort keys %states) if %states;
}

# ---------------------------------------------------------------------------
# Everything is mended, done again, and equal

eval { $control->kill } if $control;
my $admin = session($node, $db, 'supabase_admin', name => 'control');
my $postgres = session($node, $db, 'postgres', name => 'control');
$postgres->must("SET client_min_messages = error;\n" . slurp("$FindBin::RealBin/../soak/mend.sql"));
$postgres->must(q{SELECT invite_sync.add_target('public.extra')});
$postgres->must(q{SELECT invite_sync.set_target('public.extra', enabled => true)});

# by hand: what cannot be done again
my $closed = $postgres->must('SELECT count(invite_sync.close_quarantine(id)) FROM invite_sync.quarantine WHERE NOT replayable');
diag("closed by hand: $closed");
my $waiting = $admin->must('SELECT count(*) FROM invite_sync.quarantine_entry');
for (1 .. 50)
{
	last if $admin->must(q{SELECT count(*) FROM invite_sync.quarantine WHERE sqlstate <> 'P0002'}) == 0;
	$postgres->must('SELECT invite_sync.retry_quarantine(10000, false)');
}

# A deactivation that came after the foreign key had emptied the row's key: said, and done by hand.
my $lost = $admin->must('SELECT count(*) FROM public.accounts WHERE user_id IS NULL AND is_active');
my $noted = $admin->must(q{SELECT count(*) FROM invite_sync.quarantine WHERE target = 'public.accounts' AND action = 'delete'});
ok($lost == 0 || $noted >= $lost, "no account stays active that quarantine does not speak of ($lost, $noted entries)");
if ($noted > 0)
{
	$postgres->must('UPDATE public.accounts SET is_active = false WHERE user_id IS NULL AND is_active');
	$postgres->must(q{SELECT count(invite_sync.close_quarantine(id)) FROM invite_sync.quarantine WHERE target = 'public.accounts' AND action = 'delete'});
}
is($admin->must(q{SELECT string_agg(concat_ws(' ', target, trigger_name, user_id, action, sqlstate, message), chr(10)) FROM
	(SELECT * FROM invite_sync.quarantine LIMIT 10) q}), '', "quarantine is emptied by retries ($waiting were waiting)");
$postgres->must('CALL invite_sync.sync_all()');
is($admin->must(q{SELECT string_agg(concat_ws(' ', severity, object, finding), chr(10)) FROM invite_sync.verify() WHERE severity <> 'info'}), '',
	'verify() has nothing to say');
is($admin->must(q{SELECT string_agg(concat_ws(' ', target, 'missing', missing, 'orphaned', orphaned, 'stale', stale, 'quarantined', quarantined), chr(10))
	FROM invite_sync.sync_status() WHERE missing <> 0 OR orphaned <> 0 AND target = 'public.members'
	OR stale <> 0 AND target <> 'public.extra' OR quarantined <> 0}), '', 'nor has sync_status()');

# By hand, not by sync_status(): what is "always" is equal, what is "if_null" is filled where there is something.
my $live = '(SELECT u.*, u.raw_app_meta_data->>\'tier\' AS tier, u.raw_user_meta_data->>\'nick\' AS nick FROM auth.users u WHERE u.deleted_at IS NULL) u';
# A row that was in a detached partition when its user was deleted was not in the target: parts_1 may hold such ones.
my %equal = (
	'public.profiles' => "SELECT u.id, u.email, t.email FROM $live LEFT JOIN public.profiles t ON t.id = u.id
		WHERE t.id IS NULL OR t.email IS DISTINCT FROM coalesce(u.email, t.email) OR t.full_name IS NULL AND u.raw_user_meta_data->>'full_name' IS NOT NULL",
	'public.members' => "SELECT u.id, u.email, t.email, u.tier, t.tier, u.phone, t.phone FROM $live LEFT JOIN public.members t ON t.user_id = u.id
		WHERE t.user_id IS NULL OR t.email IS DISTINCT FROM coalesce(u.email, t.email) OR t.tier IS DISTINCT FROM coalesce(u.tier, t.tier)
		OR t.phone IS DISTINCT FROM coalesce(u.phone, t.phone) OR t.nick IS NULL AND u.nick IS NOT NULL",
	'public.accounts' => "SELECT u.id, u.email, t.email FROM $live LEFT JOIN public.accounts t ON t.user_id = u.id
		WHERE t.user_id IS NULL OR t.email IS DISTINCT FROM coalesce(u.email, t.email) OR NOT t.is_active",
	'public.parts' => "SELECT u.id, u.email, t.email FROM $live LEFT JOIN public.parts t ON t.user_id = u.id
		WHERE t.user_id IS NULL OR t.email IS DISTINCT FROM coalesce(u.email, t.email)",
	'rows of deleted users' => "SELECT t.user_id FROM (SELECT user_id FROM public.members UNION ALL SELECT user_id FROM public.parts_0) t
		WHERE NOT EXISTS (SELECT FROM $live WHERE u.id = t.user_id)",
	'active accounts of deleted users' => "SELECT t.id, t.user_id FROM public.accounts t WHERE t.is_active AND NOT EXISTS (SELECT FROM $live WHERE u.id = t.user_id)",
	'what the guarded trigger writes' => "SELECT u.id FROM $live WHERE NOT EXISTS (SELECT FROM public.signup_log t WHERE t.user_id = u.id)",
	'secrets' => q{SELECT t.user_id FROM public.members t WHERE t::text LIKE '%$2a$10$%' OR t::text LIKE '%hash-that-nobody%'});
for my $what (sort keys %equal)
{
	is($admin->must("SELECT string_agg(s::text, chr(10)) FROM (SELECT * FROM ($equal{$what}) s LIMIT 10) s"), '', "equal to auth.users: $what");
}
# the one that was disabled at times: what was missed is set only when asked for
$postgres->must(q{SELECT count(*) FROM invite_sync.sync_users('public.extra', overwrite => true)});
is($admin->must(q{SELECT count(*) FROM invite_sync.preservation_report() WHERE target = 'public.extra'}), 0, 'and the target that was disabled, once it is overwritten');
diag($admin->must(q{SELECT format('%s users, %s of them soft-deleted', count(*), count(deleted_at)) FROM auth.users}));
is($admin->must('SELECT count(*) FROM invite_sync.verify_events() WHERE NOT ok'), 0, 'the sealed events are as they were');

# ---------------------------------------------------------------------------
# Leaks

# of the last life of the connection: [time, pid, bytes, ours, our contexts, plans, contexts]
my @life = grep { $_->[1] == $samples[-1][1] } @samples;
my $quarter = int(@life / 4);
cmp_ok($quarter, '>=', 2, 'the steady connection was looked at often enough');
my @early = @life[ $quarter .. 2 * $quarter - 1 ];
my @late = @life[ -$quarter .. -1 ];
my %column = (bytes => 2, 'bytes of ours' => 3, 'contexts of ours' => 4, plans => 5, contexts => 6);
my %allowed = (bytes => 400_000, 'bytes of ours' => 40_000, 'contexts of ours' => 4, plans => 12, contexts => 40);
for my $what (sort keys %column)
{
	# medians: now and then a sample falls between a change of the registry and the next use of it
	my ($before, $after) = map { my $set = $_; (sort { $a <=> $b } map { $_->[ $column{$what} ] || 0 } @$set)[ @$set / 2 ] } \@early, \@late;
	cmp_ok($after, '<=', $before * 1.15 + $allowed{$what}, "the steady connection holds no more than before: $what, $before to $after");
}

# What one is told of a leak stands in the log; so does every error that left the server.
my $log = slurp($node->logfile);
# what the sessions that alter tables break is what the DDL guard is there to tell
my $guarded = qr/ soak_ddl_\d+ 01000 WARNING:  this command breaks (?:the sync to|a guarded trigger:) /;
cmp_ok(scalar(grep { /$guarded/ } split /\n/, $log), '>', 0, 'the DDL guard told of DDL that breaks a sync');
my @told = grep { !/$guarded/ } grep { !/(?:LOG|DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOCATION):  |FATAL:  |ERROR:  |^\s|(?:WARNING|INFO|NOTICE):  (?:sync to |guarded trigger "soak|public\.\w+: \d+ users are in quarantine|target \S+ cannot be read|event not written|terminating connection because of crash)/ } split /\n/, $log;
is(join("\n", @told[ 0 .. min($#told, 19) ]), '', 'nothing else is in the log: no leak, no WARNING of PostgreSQL, no crash')
  or diag(scalar @told, ' lines');
my $words = join "\n", grep { /leak|refcount|TRAP:|PANIC:|XX000|still (?:active|referenced|open)|not owned|was terminated by signal (?!9)/ } split /\n/, $log;
is($words, '', 'nor a word of leaks and internal errors');
my @signals = $log =~ /was terminated by signal 9/g;
is(scalar @signals, $crashes, "the server crashed when it was made to, and not else ($crashes)");
# 25P02: the rest of a transaction of which a statement was cancelled
my @auth_errors = grep { my ($state) = / soak_(?:auth|steady)_\d+ (\w{5}) (?:ERROR|FATAL|PANIC):/; $state && $state ne '25P02' && !$expected{$state} } split /\n/, $log;
is(join("\n", @auth_errors), '', 'and no error of the auth server');

# Deadlocks: each has a victim, who either was told or whose sync was contained.
my %victims;
$victims{$1}++ while $log =~ / (soak_[a-z]+)_\d+ 40P01 ERROR:/g;
my $contained = () = $log =~ /DETAIL:  SQLSTATE 40P01/g;
my $deadlocks = $admin->must(q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()});
diag("pg_stat_database.deadlocks: $deadlocks", $crashes ? ' since the last crash' : '', "; contained and in quarantine: $contained; told: "
	  . (join(', ', map { "$_ $victims{$_}" } sort keys %victims) || 'nobody')
	  . '; the others were retried or sought for row by row');
ok(!$victims{soak_auth} && !$victims{soak_steady}, 'no deadlock had a statement of the auth server for its victim');
diag("killed or cancelled: $killed, crashes: $crashes");

$node->stop;
done_testing();
