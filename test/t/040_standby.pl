# On a hot standby, and in READ ONLY transactions, everything that only reads
# answers, and says what the primary says. After a promotion signups are synced.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value user_id bulk_signup_sql signup standard_targets
  out_of_step contents);
use InviteSyncTest qw(prepare_database session run_as);
use PostgreSQL::Test::Cluster;
use Test::More;

my $db = 'app';
my $primary = durable_cluster('primary', allows_streaming => 1);
prepare_database($primary, $db);
standard_targets($primary, $db);

# Something of everything: a target that refuses some, one that is gone, one that
# is renamed, one that is disabled, one that lags behind, edits, orphans, events.
as_role($primary, $db, 'postgres', <<'SQL');
CREATE TABLE public.picky (id uuid PRIMARY KEY, email text CHECK (email NOT LIKE 'bad%'));
SELECT invite_sync.add_target('public.picky');
CREATE TABLE public.gone (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.gone');
DROP TABLE public.gone;
CREATE TABLE public.first_name (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.first_name');
ALTER TABLE public.first_name RENAME TO second_name;
CREATE TABLE public.asleep (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.asleep', enabled => false);
SQL
as_role($primary, $db, 'supabase_auth_admin', bulk_signup_sql('a', 1, 100) . ";\n" . signup('a', 101, 'bad@example.com'));
as_role($primary, $db, 'postgres', <<'SQL');
CREATE TABLE public.later (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.later');
UPDATE public.profiles SET full_name = 'An edit' WHERE id = 'a0000001-0000-4000-8000-000000000000';
UPDATE public.profiles SET email = 'stale@example.com' WHERE id = 'a0000002-0000-4000-8000-000000000000';
UPDATE public.profiles SET full_name = NULL WHERE id = 'a0000003-0000-4000-8000-000000000000';
INSERT INTO public.picky VALUES ('00000000-0000-4000-8000-000000000000', 'orphan@example.com');
SELECT invite_sync.log_event('order.placed', 'order', '17', user_id => 'a0000001-0000-4000-8000-000000000000');
SELECT invite_sync.log_event('it.failed', kind => 'error');
SELECT count(*) FROM invite_sync.seal_events();
CREATE TABLE public.being_altered (id uuid PRIMARY KEY, email text);
-- what doctor() finds in it, it finds there, too
CREATE TABLE public.farewell (id uuid PRIMARY KEY, said_at timestamptz DEFAULT now());
CREATE FUNCTION public.say_farewell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
	INSERT INTO public.farewell (id) VALUES (OLD.id);
	UPDATE public.farewell SET said_att = now() WHERE id = OLD.id;
	RETURN OLD;
END
$$;
SQL
as_role($primary, $db, 'supabase_auth_admin', 'CREATE TRIGGER say_farewell AFTER DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.say_farewell()');

my $organization = 'd0000000-0000-4000-8000-000000000001';
value($primary, $db, <<"SQL");
INSERT INTO invite_sync.organization (id, name, slug, seat_limit) VALUES ('$organization', 'Theirs', 'theirs', 3);
INSERT INTO invite_sync.organization (name, slug, parent_id) VALUES ('Below', 'below', '$organization');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$organization', 'a0000001-0000-4000-8000-000000000000', '00000000-0000-4000-8000-00000000000a');
SELECT invite_sync.add_domain('$organization', 'example.com');
INSERT INTO invite_sync.role (organization_id, name) VALUES ('$organization', 'writer');
SELECT invite_sync.create_invitation('invited\@x.example', 'writer', '$organization', inviter_id => 'a0000001-0000-4000-8000-000000000000');
-- somebody who asks to join, and an organization that is open to them all
INSERT INTO invite_sync.join_request (organization_id, user_id) VALUES ('$organization', 'a0000002-0000-4000-8000-000000000000');
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('d0000000-0000-4000-8000-000000000002', 'Open', 'open');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment)
VALUES ('d0000000-0000-4000-8000-000000000002', 'example.com', 'x', now(), 'suggest');
SQL
# an invitation, and the token that its secret of zeros makes
value($primary, $db, <<"SQL");
INSERT INTO invite_sync.invitation (id, email, secret_digest, proves_email, expires_at)
VALUES ('$organization', 'a1\@example.com', sha256(decode(repeat('00', 32), 'hex')), true, now() + '1 day');
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at)
VALUES ('$organization', 'd0000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-00000000000c', now());
SQL
my $token = value($primary, $db, "SELECT 'inv_' || translate(encode(uuid_send('$organization') || decode(repeat('00', 32), 'hex'), 'base64'), E'+/\\n', '-_')");
# somebody who comes from another provider
value($primary, $db, sprintf q{INSERT INTO invite_sync.external_user (id, provider, external_id, user_id) VALUES (gen_random_uuid(), 'clerk', 'user_a1', '%s')}, user_id('a', 1));
# something is counted, for longer than the test lasts
value($primary, $db, q{SELECT invite_sync.set_rate_limit('export', 1, '1 day'); SELECT invite_sync.consume_rate_limit('export', 'a'); SELECT invite_sync.grant_quota('} . user_id('a', 1) . q{', 1)});
# a snapshot, and what was found to differ from it
value($primary, $db, q{SELECT invite_sync.snapshot_schema('{public}'); SELECT invite_sync.approve_snapshot((SELECT id FROM invite_sync.import_snapshot('{"format": 1, "schemas": ["auth"], "objects": {}}'))); SELECT invite_sync.check_drift()});
# none becomes due while the answers are compared
value($primary, $db, q{UPDATE invite_sync.quarantine_entry SET next_retry_at = '2020-01-01'});

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
sub catch_up { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush')); return }
catch_up();

# ---------------------------------------------------------------------------
# Every function of ours that is STABLE or IMMUTABLE, and every view: a list that
# is kept by the catalog. What cannot be called without arguments needs some here,
# and so a new function fails this test until somebody has thought of it.

my %arguments = (
	user_exists => q{'a0000001-0000-4000-8000-000000000000'},
	redact_payload => q{'{"a": 1, "b": null}'},
	custom_access_token_hook => q('{"user_id": "a0000001-0000-4000-8000-000000000000", "claims": {}}'),
	is_member => q{'00000000-0000-4000-8000-000000000000'},
	has_role => q{'00000000-0000-4000-8000-000000000000', 'owner'},
	has_any_role => q{'00000000-0000-4000-8000-000000000000', '{owner}'},
	has_permission => q{'00000000-0000-4000-8000-000000000000', 'members.read'},
	has_any_permission => q{'00000000-0000-4000-8000-000000000000', '{members.read}'},
	organizations_with_permission => q{'members.read'},
	(map { $_ => "'$organization'" } qw(get_organization list_domains list_join_requests list_members list_roles seat_usage)),
	get_invitation => "'$token'",
	schema_diff => '1, 3',
	export_snapshot => '1',
	assert_no_drift => q{(SELECT invite_sync.export_snapshot(1)), '{role}'},
	get_member => "'$organization', '" . user_id('a', 1) . "'");
# Their comments say who uses them: our own functions and views, tried by these.
my %internal = map { $_ => 1 } split /\n/, value($primary, $db, q{SELECT proname FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND obj_description(oid, 'pg_proc') ~ '(Internal|own functions)'});

my @functions = split /\n/, value($primary, $db, <<'SQL');
SELECT p.proname || ' ' || (p.pronargs - p.pronargdefaults) FROM pg_proc p
WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.prokind = 'f' AND p.provolatile <> 'v' ORDER BY 1
SQL
my @views = split /\n/, value($primary, $db, <<'SQL');
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind = 'v' ORDER BY 1
SQL
my @queries = (
	(map { "SELECT * FROM invite_sync.$_ t" } @views),
	"SELECT * FROM invite_sync.preservation_report(ARRAY['a0000001-0000-4000-8000-000000000000', 'a0000002-0000-4000-8000-000000000000']::uuid[]) t");
for my $function (@functions)
{
	my ($name, $needed) = split / /, $function;
	next if $internal{$name};
	ok(exists $arguments{$name} || !$needed, "there are arguments to call $name() with") or next;
	push @queries, "SELECT * FROM invite_sync.$name(" . ($arguments{$name} || '') . ') t';
}
cmp_ok(scalar @queries, '>=', 14, 'there are functions and views to be tried');
ok(scalar(grep { /sync_status/ } @queries) && scalar(grep { /verify\(/ } @queries) && scalar(grep { /\.quarantine / } @queries), 'the ones that matter among them');

# Who asks: an operator, the superuser, service_role where it may; and a user, which some are for alone.
my %may_user = map { $_ => 1 } split /\n/, value($primary, $db, q{SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND has_function_privilege('authenticated', p.oid, 'EXECUTE')});
my %for_users = map { $_ => 1 } qw(my_invitations my_organizations suggested_organizations my_quota check_migration);
my %may_service = map { $_ => 1 } split /\n/, value($primary, $db, <<'SQL');
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND has_function_privilege('service_role', p.oid, 'EXECUTE')
UNION ALL SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind = 'v' AND has_table_privilege('service_role', c.oid, 'SELECT')
SQL

# The answers, sorted, by query and role. In fresh connections nothing is cached.
sub answers
{
	my ($node, $begin, %params) = @_;
	my %answer;
	for my $role (qw(postgres supabase_admin service_role authenticated supabase_auth_admin))
	{
		my $session;
		for my $query (@queries)
		{
			my ($name) = $query =~ /invite_sync\.(\w+)/;
			next if $name =~ /_hook$/ ? $role !~ /^supabase_/ : $role eq 'supabase_auth_admin';
			next if $role eq 'service_role' && !$may_service{$name};
			next if $role eq 'authenticated' ? !$may_user{$name} : $for_users{$name};
			if (!$session || $params{fresh})
			{
				$session = session($node, $db, $role);
				$session->must(sprintf q(SET request.jwt.claims = '{"role": "authenticated", "sub": "%s"}'), user_id('a', 1)) if $role eq 'authenticated';
			}
			my $result = $session->query("$begin; $query ORDER BY t::text; COMMIT");
			$answer{"$role: $query"} = $result->{ok} ? $result->{out} : "$result->{sqlstate} $result->{message}";
			$session->close if $params{fresh};
		}
		$session->close;
	}
	return \%answer;
}

my $expected = answers($primary, 'BEGIN');
my $read_only = answers($primary, 'BEGIN READ ONLY', fresh => 1);
my $on_standby = answers($standby, 'BEGIN', fresh => 1);
my $repeatable = answers($standby, 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
for my $query (sort keys %$expected)
{
	unlike($expected->{$query}, qr/^[0-9A-Z]{5} /, "$query answers");
	is($read_only->{$query}, $expected->{$query}, "$query: the same in a READ ONLY transaction");
	is($on_standby->{$query}, $expected->{$query}, "$query: the same on a standby");
	is($repeatable->{$query}, $expected->{$query}, "$query: the same on a standby in REPEATABLE READ");
}
isnt($expected->{"postgres: SELECT * FROM invite_sync.$_ t"}, '', "$_ has something to say") for qw(quarantine target_list activity_log error_log admin_log schema_snapshots drift_alerts);
isnt($expected->{"postgres: SELECT * FROM invite_sync.$_() t"}, '', "$_() has something to say") for qw(sync_status doctor verify verify_events preservation_report unmigrated_users quota_report rate_limit_report describe_schema audit);
like($expected->{'postgres: SELECT * FROM invite_sync.doctor() t'}, qr/said_att/, 'doctor() finds what is wrong');
like((grep { /^supabase_auth_admin: / } map { "$_: $expected->{$_}" } keys %$expected)[0], qr/\Q$organization\E/, 'the hook has something to say to the auth server');
isnt($expected->{"authenticated: SELECT * FROM invite_sync.$_ t"}, '', "$_ has something to say to a user")
  for "list_members('$organization')", "list_join_requests('$organization')", "list_roles('$organization')", "list_domains('$organization')",
  'list_permissions()', 'my_invitations()', 'my_organizations()', 'suggested_organizations()', 'my_quota()', 'list_invitations()', "get_invitation('$token')";

# A probe writes: on a standby the doctor says that it did not probe, and the probe itself that it cannot.
my $unprobed = run_as($standby, $db, 'postgres', q{SELECT finding FROM invite_sync.doctor(probe => true) WHERE area = 'probe'});
is($unprobed->{out}, 'was not probed: this is a standby', 'doctor(probe => true) on a standby') or diag($unprobed->{stderr});
is(run_as($standby, $db, 'postgres', "SELECT count(*) FROM invite_sync.probe_$_()")->{sqlstate}, '25006', "probe_$_() on a standby") for qw(signup update login delete);

# A token of another provider's is the same user's there.
for my $where ($primary, $standby)
{
	my $answer = run_as($where, $db, 'authenticated', q{SET request.jwt.claims = '{"sub": "user_a1", "role": "authenticated"}'; SELECT invite_sync.current_user_id(), (invite_sync.check_migration()).migrated});
	is($answer->{out}, user_id('a', 1) . '|f', 'who comes with a token of another provider, on ' . $where->name) or diag($answer->{stderr});
}

# What is for users, as one: a member, and somebody who is none.
my @user_queries = map { "SELECT * FROM invite_sync.$_ t ORDER BY t::text" } 'my_organizations()', map { "$_($arguments{$_})" } qw(get_organization seat_usage list_domains);
for my $user ('a0000001-0000-4000-8000-000000000000', 'a0000002-0000-4000-8000-000000000000')
{
	for my $query (@user_queries)
	{
		my $ask = sub { my ($node, $begin) = @_; my $r = run_as($node, $db, 'authenticated', qq{SET request.jwt.claims = '{"sub": "$user", "role": "authenticated"}'; $begin; $query; COMMIT}); return $r->{ok} ? $r->{out} : "$r->{sqlstate} $r->{message}" };
		my $answer = $ask->($primary, 'BEGIN');
		if ($user =~ /^a0000001/) { like($answer, qr/\Q$organization\E|example\.com/, "$query, as a member") }
		elsif ($query =~ /my_organizations/) { is($answer, '', "$query, as nobody's member") }
		else { like($answer, qr/^PT404 /, "$query, as no member") }
		is($ask->($primary, 'BEGIN READ ONLY'), $answer, "$query: the same in a READ ONLY transaction");
		is($ask->($standby, 'BEGIN'), $answer, "$query: the same on a standby");
	}
}

# Under SERIALIZABLE as well, where there is no standby.
my $serializable = answers($primary, 'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE');
is_deeply($serializable, $expected, 'the same in SERIALIZABLE READ ONLY DEFERRABLE');

# A standby says the same of the session that asked before.
{
	my $reader = session($standby, $db, 'postgres');
	my $before = $reader->must('SELECT count(*) FROM invite_sync.sync_status()');
	as_role($primary, $db, 'postgres', q{CREATE TABLE public.newest (id uuid PRIMARY KEY, email text); SELECT invite_sync.add_target('public.newest')});
	catch_up();
	is($reader->must('SELECT count(*) FROM invite_sync.sync_status()'), $before + 1, 'a session of the standby hears of a target that the primary adds');
	as_role($primary, $db, 'supabase_auth_admin', signup('b', 1, 'b1@example.com'));
	catch_up();
	is($reader->must(q{SELECT missing FROM invite_sync.sync_status() WHERE target = 'public.newest'}), 101, 'and counts the next signup there');
	as_role($primary, $db, 'postgres', q{SELECT invite_sync.drop_target('public.newest')});
	catch_up();
	is($reader->must('SELECT count(*) FROM invite_sync.sync_status()'), $before, 'and of one that it drops');

	# a lock that the primary holds is held here too, and waited for no longer than elsewhere
	as_role($primary, $db, 'postgres', q{SELECT invite_sync.add_target('public.being_altered')});
	my $altering = session($primary, $db, 'postgres');
	$altering->must('BEGIN; LOCK TABLE public.being_altered; SELECT txid_current()');
	as_role($primary, $db, 'supabase_auth_admin', signup('b', 2, 'b2@example.com'));
	catch_up();
	my $status = $reader->query(q{SELECT rows IS NULL, missing FROM invite_sync.sync_status() WHERE target = 'public.being_altered'});
	ok($status->{ok}, 'sync_status answers while the primary alters a target') or diag($status->{stderr});
	is($status->{out}, 't|103', 'it says that the target cannot be read');
	cmp_ok($status->{elapsed}, '<', 5, 'and does not wait for long');
	$altering->must('ROLLBACK');
	as_role($primary, $db, 'postgres', q{SELECT invite_sync.drop_target('public.being_altered')});
	catch_up();
	$reader->close;
}

# ---------------------------------------------------------------------------
# What writes is refused by PostgreSQL, and log_event not even then

for my $node ([ $standby, 'BEGIN', 'on a standby' ], [ $primary, 'BEGIN READ ONLY', 'in a READ ONLY transaction' ])
{
	my ($where, $begin, $what) = @$node;
	for my $query (
		'SELECT count(*) FROM invite_sync.sync_users()', 'SELECT invite_sync.retry_quarantine()',
		q{SELECT invite_sync.ensure_user('a0000001-0000-4000-8000-000000000000')}, q{SELECT invite_sync.create_profile('a0000001-0000-4000-8000-000000000000')},
		q{SELECT invite_sync.add_target('public.being_altered')}, q{SELECT invite_sync.set_target('public.profiles', on_delete => 'delete')},
		q{SELECT invite_sync.drop_target('public.profiles')}, 'SELECT invite_sync.attach()', 'SELECT invite_sync.detach()',
		'SELECT invite_sync.create_standard_tables(schema => \'extensions\')', 'SELECT count(*) FROM invite_sync.seal_events()',
		q{SELECT invite_sync.grant_operator('supabase_auth_admin')}, 'SELECT invite_sync.grant_api()')
	{
		my $role = $query =~ /grant_/ ? 'supabase_admin' : 'postgres';
		my $result = run_as($where, $db, $role, "$begin; $query; COMMIT");
		# ensure_user has nothing to write for somebody who is in every target
		is($result->{sqlstate}, $result->{ok} && $query =~ /ensure_user|attach\(\)/ && $query !~ /detach/ ? '00000' : '25006', "$query $what")
		  or diag($result->{stderr});
	}
	my $log = run_as($where, $db, 'postgres', "$begin; SELECT invite_sync.log_event('order.lost') IS NULL; COMMIT");
	ok($log->{ok}, "log_event $what does not raise") or diag($log->{stderr});
	is($log->{out}, 't', "log_event $what returns NULL");
	like($log->{stderr}, qr/WARNING/, "log_event $what warns");

	my $call = run_as($where, $db, 'postgres', 'SET default_transaction_read_only = on; CALL invite_sync.sync_all()');
	is($call->{sqlstate}, '25006', "sync_all $what");
	is(run_as($where, $db, 'postgres', qq{SET default_transaction_read_only = on; CALL invite_sync.$_})->{sqlstate}, '25006', "$_ $what")
	  for q{prune_events('1 day')}, q{prune_invitations('1 day')}, 'settle_invitations()';
}
catch_up();
{
	my ($here, $there) = (contents($primary, $db), contents($standby, $db));
	# the log runs ahead of sequences
	delete @$_{ grep { /_seq$/ } keys %$_ } for $here, $there;
	is_deeply($there, $here, 'and nothing of ours is different on the standby');
}

# Nobody gets on a standby what they do not get on the primary.
for my $case (
	[ 'anon', '' ],
	[ 'authenticated', q{SET request.jwt.claims = '{"sub": "a0000001-0000-4000-8000-000000000000", "role": "authenticated"}';} ],
	[ 'service_role', q{SET request.jwt.claims = '{"sub": "a0000001-0000-4000-8000-000000000000", "role": "authenticated"}';} ])
{
	my ($role, $claims) = @$case;
	my $result = run_as($standby, $db, $role, "$claims SELECT count(*) FROM invite_sync.sync_status()");
	like($result->{sqlstate}, qr/^(42501|PT403)$/, "$role " . ($claims ? 'with claims ' : '') . 'gets nothing on the standby either');
}

# ---------------------------------------------------------------------------
# Promotion, with sessions that were there before it

my $reader = session($standby, $db, 'postgres');
$reader->must('SELECT count(*) FROM invite_sync.sync_status(); SELECT count(*) FROM invite_sync.verify()');
my $auth = session($standby, $db, 'supabase_auth_admin');
$auth->must('SELECT count(*) FROM auth.users');
is($auth->query('INSERT INTO auth.users (id) VALUES (gen_random_uuid())')->{sqlstate}, '25006', 'before the promotion nobody signs up on the standby');

# signups that have not arrived on the standby when the primary dies are lost with it, whole
$primary->stop('immediate');
$standby->promote;
is(value($standby, $db, 'SELECT pg_is_in_recovery()'), 'f', 'the standby is promoted');

my $result = $auth->query(signup('c', 1, 'c1@example.com'));
ok($result->{ok}, 'a session of before the promotion signs somebody up') or diag($result->{stderr});
$result = run_as($standby, $db, 'supabase_auth_admin', bulk_signup_sql('c', 2, 50));
ok($result->{ok}, 'so does a new one') or diag($result->{stderr});
for my $target (qw(public.profiles public.users public.picky public.second_name public.later))
{
	is(value($standby, $db, "SELECT count(*) FROM $target WHERE id::text LIKE 'c%'"), 50, "and they are in $target");
}
is(value($standby, $db, q{SELECT string_agg(DISTINCT target || ' ' || sqlstate, ', ') FROM invite_sync.quarantine WHERE user_id::text LIKE 'c%'}),
	'public.gone 42P01', 'what cannot be synced is in quarantine');
isnt($reader->must('SELECT invite_sync.log_event(\'order.placed\')'), '', 'events are written');

$reader->must(<<'SQL');
SELECT invite_sync.drop_target('public.gone');
UPDATE public.profiles p SET full_name = u.raw_user_meta_data->>'full_name', email = u.email FROM auth.users u WHERE u.id = p.id;
DELETE FROM public.picky p WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = p.id);
ALTER TABLE public.picky DROP CONSTRAINT picky_email_check;
SELECT invite_sync.set_target('public.asleep', enabled => true);
CALL invite_sync.sync_all();
SQL
is(out_of_step($standby, $db), '', 'sync_all brings everybody in, column by column');
is(as_role($standby, $db, 'postgres', 'SELECT count(*) FROM invite_sync.verify_events() WHERE NOT ok'), 0, 'the seals hold');
as_role($standby, $db, 'supabase_auth_admin', 'DROP TRIGGER say_farewell ON auth.users');
as_role($standby, $db, 'supabase_auth_admin', q{DELETE FROM auth.users WHERE id = 'c0000001-0000-4000-8000-000000000000'});
is(value($standby, $db, q{SELECT count(*) FROM public.profiles WHERE id = 'c0000001-0000-4000-8000-000000000000'}), 0, 'a deletion goes through');

$standby->stop;
done_testing();
