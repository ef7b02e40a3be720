# A crash loses nothing: whatever was committed in auth.users is in the targets
# or can be brought there, what was not is nowhere, and nothing is there twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value user_id bulk_signup_sql signup standard_targets
  out_of_step wait_for wait_for_server);
use InviteSyncTest qw(prepare_database session change_email_sql delete_user_sql);
use Test::More;

my $db = 'app';
my $node = durable_cluster('crash', conf => "restart_after_crash = on\nlog_min_messages = warning\n");
prepare_database($node, $db);
standard_targets($node, $db);

# A target that stops a statement where the test wants it: at the row whose turn
# "brake" says. A sequence because it counts across transactions. pg_sleep and
# not a lock: a sync waits for locks a second and no longer.
as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.members (user_id uuid PRIMARY KEY, email text, full_name text, CHECK (email NOT LIKE '%bad%'));
CREATE SEQUENCE public.turn;
CREATE TABLE public.brake (at bigint);
INSERT INTO public.brake VALUES (NULL);
CREATE FUNCTION public.stop_at_the_brake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF nextval('public.turn') = (SELECT at FROM public.brake) THEN
		PERFORM pg_sleep(600);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER stop_at_the_brake BEFORE INSERT ON public.members FOR EACH ROW EXECUTE FUNCTION public.stop_at_the_brake();
SELECT invite_sync.add_target('public.members', on_delete => 'delete');
SQL

sub set_brake
{
	my ($at) = @_;
	as_role($node, $db, 'postgres', 'UPDATE public.brake SET at = ' . ($at || 'NULL') . "; SELECT setval('public.turn', 1, false)");
	return;
}

# The process id of the session that the brake stopped.
sub wait_for_brake
{
	wait_for($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 't');
	return value($node, $db, q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
}

sub users { return value($node, $db, 'SELECT count(*) FROM auth.users ' . (shift || '')) }

# Where the rows are and who wrote them: the same again when nothing was written.
sub physical
{
	return value($node, $db,
		join(' UNION ALL ', map { "SELECT '$_ ' || md5(string_agg(t.ctid || ' ' || t.xmin, ',' ORDER BY t.ctid)) FROM $_ t" }
			  qw(public.profiles public.users public.user_profiles public.members)) . ' ORDER BY 1');
}

# ---------------------------------------------------------------------------
# The ways to die. Each ends when the server takes connections again.

my %death = (
	'immediate stop' => sub { $node->stop('immediate'); $node->start; },
	'kill -9 of the backend' => sub { my ($pid) = @_; kill 'KILL', $pid; wait_for_server($node) },
	'pg_terminate_backend' => sub {
		my ($pid) = @_;
		value($node, $db, "SELECT pg_terminate_backend($pid)");
		wait_for($node, $db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 't');
	},
	'pg_cancel_backend' => sub {
		my ($pid) = @_;
		value($node, $db, "SELECT pg_cancel_backend($pid)");
		wait_for($node, $db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND state = 'active'", 't');
	});
my @deaths = ('immediate stop', 'kill -9 of the backend', 'pg_terminate_backend', 'pg_cancel_backend');

# ---------------------------------------------------------------------------
# In the middle of a bulk signup

# Users of before, three of whom no "members" row can be made for.
as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql('a', 1, 2000));
as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql('b', 1, 100) . ";\n"
	  . signup('b', 201, 'bad1@example.com')
	  . signup('b', 202, 'bad2@example.com'));
is(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry'), 2, 'two users are in quarantine before any crash');

my $n = 0;
for my $death (@deaths)
{
	$n++;
	my $letter = (qw(c d e f))[ $n - 1 ];
	my $before = users();
	my $quarantine = value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry');

	# done by its statement, but not committed; with a bad one of its own
	my $open = session($node, $db, 'supabase_auth_admin');
	$open->must("BEGIN;\n" . bulk_signup_sql($letter, 1, 3000) . ";\n"
		  . signup($letter, 9001, "bad_open_$letter\@example.com", bare => 1));

	# stopped in the middle: some targets are written, "members" half
	set_brake(1500);
	my $stopped = session($node, $db, 'supabase_auth_admin');
	$stopped->send(bulk_signup_sql($letter, 3001, 6000));
	my $pid = wait_for_brake();

	# committed meanwhile, one of them into quarantine
	as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql($letter, 6001, 6500) . ";\n"
		  . signup($letter, 9002, "bad_$letter\@example.com"));
	as_role($node, $db, 'supabase_auth_admin', change_email_sql(user_id('a', $n), "changed_$letter\@example.com"));
	as_role($node, $db, 'supabase_auth_admin', delete_user_sql(user_id('a', 100 + $n)));

	$death{$death}->($pid);

	my $result = eval { $stopped->wait };
	ok(!$result || !$result->{ok}, "$death: the stopped signup failed");
	if ($death =~ /^pg_/)
	{
		is($result->{sqlstate}, $death eq 'pg_cancel_backend' ? '57014' : '57P01', "$death: with its own error, not contained");
		$open->must('ROLLBACK');
	}
	eval { $_->kill } for $open, $stopped;
	set_brake(undef);

	is(users(), $before + 500, "$death: the committed users are there, and no others");
	is(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry'), $quarantine + 1, "$death: quarantine has the committed failure, and no other");
	is(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry q WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = q.user_id)'),
		0, "$death: nobody is in quarantine who does not exist");
	is(value($node, $db, q{SELECT string_agg(format('%s %s %s %s', target, missing, orphaned, quarantined), ', ' ORDER BY target) FROM invite_sync.sync_status()}),
		sprintf('public.members %s 0 %1$s, public.profiles 0 0 0, public.user_profiles 0 0 0, public.users 0 0 0', $quarantine + 1),
		"$death: only the users in quarantine are missing");

	# every difference is a user in quarantine, missing in members
	my $differences = out_of_step($node, $db, quarantined => 1);
	my @unexpected = grep { !/^public\.members: \S+ missing$/ } split /\n/, $differences;
	is(join("\n", @unexpected), '', "$death: all else is equal, column by column");

	# nothing is left to be done, and nothing is done twice
	my $physical = physical();
	as_role($node, $db, 'postgres', 'CALL invite_sync.sync_all()');
	is(physical(), $physical, "$death: sync_all has nothing to write");
	is(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry'), $quarantine + 1, "$death: and quarantine is as long as before");

	as_role($node, $db, 'supabase_auth_admin', signup($letter, 9003, "after_$letter\@example.com"));
	is(value($node, $db, "SELECT count(*) FROM public.members WHERE user_id = '" . user_id($letter, 9003) . "'"), 1, "$death: the next signup is synced");
}

# ---------------------------------------------------------------------------
# In the middle of sync_all

for my $death (@deaths)
{
	as_role($node, $db, 'postgres', 'TRUNCATE public.members');
	my $users = users();
	my $bad = users(q{WHERE email LIKE '%bad%'});
	$n++;

	set_brake(4500);
	my $stopped = session($node, $db, 'postgres');
	$stopped->send('CALL invite_sync.sync_all(1000)');
	my $pid = wait_for_brake();
	my $done = value($node, $db, 'SELECT count(*) FROM public.members');
	cmp_ok($done, '>', 2000, "$death during sync_all: some batches are committed ($done)");
	cmp_ok($done, '<', 4500, "$death during sync_all: the last one is not");

	# a user that sync_all does not hold signs up; one it may hold changes
	as_role($node, $db, 'supabase_auth_admin', signup(1, $n, "meanwhile$n\@example.com"));

	$death{$death}->($pid);
	my $result = eval { $stopped->wait };
	ok(!$result || !$result->{ok}, "$death during sync_all: it failed");
	eval { $stopped->kill };
	set_brake(undef);

	is(users(), $users + 1, "$death during sync_all: all users are there");
	is(value($node, $db, 'SELECT count(*) FROM public.members'), $done + 1, "$death during sync_all: the committed batches are, and the signup of meanwhile");
	is(value($node, $db, q{SELECT missing FROM invite_sync.sync_status() WHERE target = 'public.members'}), $users - $done,
		"$death during sync_all: sync_status says what is missing");

	as_role($node, $db, 'postgres', 'CALL invite_sync.sync_all(1000)');
	is(value($node, $db, q{SELECT format('%s %s', missing, quarantined) FROM invite_sync.sync_status() WHERE target = 'public.members'}),
		"$bad $bad", "$death during sync_all: called again it completes");
	is(value($node, $db, 'SELECT count(DISTINCT user_id) FROM public.members'), $users + 1 - $bad, "$death during sync_all: everybody is there");
	is(join("\n", grep { !/^public\.members: \S+ missing$/ } split /\n/, out_of_step($node, $db, quarantined => 1)),
		'', "$death during sync_all: and equal to auth.users, column by column");
	is(value($node, $db, q{SELECT count(*) FROM (SELECT user_id FROM invite_sync.quarantine_entry EXCEPT SELECT id FROM auth.users WHERE email LIKE '%bad%') q}),
		0, "$death during sync_all: quarantine has only who belongs there");
	is(value($node, $db, q{SELECT count(*) FROM pg_locks WHERE locktype IN ('advisory', 'transactionid') AND pid <> pg_backend_pid()}),
		0, "$death during sync_all: no lock is left");
}

# ---------------------------------------------------------------------------
# In the middle of a retry

for my $death (@deaths)
{
	my $entries = value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry');
	cmp_ok($entries, '>=', 3, "$death during retry_quarantine: there are entries");

	as_role($node, $db, 'postgres', q{ALTER TABLE public.members DROP CONSTRAINT members_email_check});
	set_brake(2);
	my $stopped = session($node, $db, 'postgres');
	$stopped->send('SELECT invite_sync.retry_quarantine(due_only => false)');
	$death{$death}->(wait_for_brake());
	my $result = eval { $stopped->wait };
	ok(!$result || !$result->{ok}, "$death during retry_quarantine: it failed");
	eval { $stopped->kill };
	set_brake(undef);

	is(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine_entry'), $entries, "$death during retry_quarantine: every entry is still there");
	is(value($node, $db, q{SELECT count(*) FROM public.members m WHERE email LIKE '%bad%'}), 0, "$death during retry_quarantine: and none of the users");
	is(as_role($node, $db, 'postgres', 'SELECT invite_sync.retry_quarantine(due_only => false)'), "($entries,$entries,0)",
		"$death during retry_quarantine: the next one resolves them all");
	is(out_of_step($node, $db), '', "$death during retry_quarantine: everything is in step");

	# as it was, for the next one
	as_role($node, $db, 'postgres', <<'SQL');
DELETE FROM public.members WHERE email LIKE '%bad%';
ALTER TABLE public.members ADD CONSTRAINT members_email_check CHECK (email NOT LIKE '%bad%');
CALL invite_sync.sync_all();
SQL
}

# ---------------------------------------------------------------------------
# A configuration that was not committed is not there, one that was is.

my $open = session($node, $db, 'postgres');
$open->must(<<'SQL');
CREATE TABLE public.late (id uuid PRIMARY KEY, email text);
BEGIN;
SELECT invite_sync.add_target('public.late');
SELECT invite_sync.set_target('public.members', on_delete => 'none');
SELECT invite_sync.drop_target('public.users');
SQL
as_role($node, $db, 'supabase_auth_admin', signup(2, 1, 'during@example.com'));
$node->stop('immediate');
$node->start;
eval { $open->kill };
is(value($node, $db, q{SELECT string_agg(target || ' ' || on_delete, ', ' ORDER BY target) FROM invite_sync.target_list}),
	'public.members delete, public.profiles none, public.user_profiles none, public.users none',
	'what add_target, set_target and drop_target did without COMMIT is undone');
is(value($node, $db, q{SELECT count(*) FROM public.users WHERE id = '} . user_id(2, 1) . q{'}), 1, 'and a signup of that time was synced by the committed configuration');

as_role($node, $db, 'postgres', q{SELECT invite_sync.add_target('public.late')});
$node->stop('immediate');
$node->start;
as_role($node, $db, 'supabase_auth_admin', signup(2, 2, 'late@example.com'));
is(value($node, $db, 'SELECT email FROM public.late'), 'late@example.com', 'a target added before a crash is synced to after it');
is(value($node, $db, q{SELECT missing = auth_users - 1 FROM invite_sync.sync_status() WHERE target = 'public.late'}), 't', 'the users of before are counted as missing');
as_role($node, $db, 'postgres', <<'SQL');
ALTER TABLE public.members DROP CONSTRAINT members_email_check;
CALL invite_sync.sync_all(100);
SQL
is(out_of_step($node, $db), '', 'and sync_all brings them all in');

$node->stop;
done_testing();
