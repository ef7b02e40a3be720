# CREATE EXTENSION, DROP EXTENSION and CREATE EXTENSION again; where there is no
# auth server; and where somebody was there before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value user_id bulk_signup_sql signup standard_targets
  out_of_step contents catalog_picture);
use InviteSyncTest qw(prepare_database session run_as signup_sql);
use PostgreSQL::Test::Cluster;
use Test::More;

my $db = 'app';
my $node = durable_cluster('lifetime');
my $create = 'CREATE EXTENSION invite_sync CASCADE';

# ---------------------------------------------------------------------------
# Refused: each by its error, with a hint, and nothing is left behind

my $number = 0;
sub refused
{
	my ($what, $prepare, $sqlstate, $message, %params) = @_;
	my $refused = 'refused' . ++$number;
	my $roles = q{SELECT string_agg(concat_ws(' ', r.rolname, r.rolsuper, r.rolcanlogin), ', ' ORDER BY r.rolname) FROM pg_roles r};

	value($node, 'template1', "CREATE DATABASE $refused");
	value($node, $refused, $prepare);
	my $before = value($node, $refused, $roles);
	my $result = run_as($node, $refused, $params{role} || 'supabase_admin', $params{create} || $create);
	is($result->{sqlstate}, $sqlstate, "$what: CREATE EXTENSION is refused") or diag($result->{stderr});
	like($result->{message}, $message, "$what: and says why");
	like($result->{stderr}, qr/^HINT: /m, "$what: and what to do") unless $params{no_hint};
	is(value($node, $refused, q{SELECT count(*) FROM pg_extension WHERE extname = 'invite_sync'}), 0, "$what: there is no extension");
	is(value($node, $refused, $roles), $before, "$what: and no other role than before");
	if ($params{mend})
	{
		value($node, $refused, $params{mend});
		$result = run_as($node, $refused, 'supabase_admin', $create);
		ok($result->{ok}, "$what: what the hint says mends it") or diag($result->{stderr});
	}
	value($node, 'template1', "DROP DATABASE $refused WITH (FORCE)");
	value($node, 'template1', 'DROP ROLE IF EXISTS invite_sync_owner');
	return;
}

value($node, 'template1', 'CREATE ROLE somebody LOGIN');
refused('a schema of somebody else\'s', 'CREATE SCHEMA invite_sync AUTHORIZATION somebody', '42501', qr/belongs to role "somebody"/,
	mend => 'DROP SCHEMA invite_sync');
refused('a schema with a table in it', 'CREATE SCHEMA invite_sync; CREATE TABLE invite_sync.squatter ()', '42710', qr/not empty/,
	mend => 'DROP SCHEMA invite_sync CASCADE');
refused('a schema with a function in it', q{CREATE SCHEMA invite_sync; CREATE FUNCTION invite_sync.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'}, '42710', qr/not empty/);
refused('a schema with a type in it', q{CREATE SCHEMA invite_sync; CREATE TYPE invite_sync.sync_target AS ENUM ('a')}, '42710', qr/not empty/);
refused('a schema with an operator in it', q{CREATE SCHEMA invite_sync; CREATE OPERATOR invite_sync.= (leftarg = text, rightarg = text, function = pg_catalog.texteq)}, '42710', qr/not empty/);
# the owner of the schema may create in it between two statements of ours
refused('a schema in which somebody may create', 'CREATE SCHEMA invite_sync; GRANT CREATE ON SCHEMA invite_sync TO somebody', '42501', qr/schema "invite_sync"/);
refused('a role that may log in', 'CREATE ROLE invite_sync_owner LOGIN', '42501', qr/role "invite_sync_owner" exists and has more rights/,
	mend => 'ALTER ROLE invite_sync_owner NOLOGIN NOSUPERUSER NOCREATEROLE NOBYPASSRLS');
for my $attribute (qw(SUPERUSER CREATEROLE CREATEDB BYPASSRLS REPLICATION))
{
	refused("a role that is $attribute", "CREATE ROLE invite_sync_owner $attribute", '42501', qr/role "invite_sync_owner" exists and has more rights/);
}
refused('a role with a member', 'CREATE ROLE invite_sync_owner; GRANT invite_sync_owner TO somebody', '42501', qr/has members/, mend => 'REVOKE invite_sync_owner FROM somebody');
refused('a role that is a member', 'CREATE ROLE invite_sync_owner IN ROLE pg_read_all_data', '42501', qr/invite_sync_owner/);
refused('somebody who is no superuser', 'ALTER DATABASE refused' . ($number + 1) . ' OWNER TO somebody; CREATE EXTENSION pgcrypto', '42501', qr/permission denied to create extension/, role => 'somebody');
refused('another schema', 'CREATE SCHEMA elsewhere; CREATE EXTENSION pgcrypto', '0A000', qr/must be installed in schema "invite_sync"/, no_hint => 1,
	create => 'CREATE EXTENSION invite_sync SCHEMA elsewhere');

# ---------------------------------------------------------------------------
# The whole life, with signups all the time

prepare_database($node, $db, no_extension => 1);
my $everything = <<'SQL';
SELECT pg_describe_object(o.class, o.id, 0) FROM
	(SELECT 'pg_class'::regclass AS class, oid AS id FROM pg_class UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc
	 UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
	 UNION ALL SELECT 'pg_trigger'::regclass, oid FROM pg_trigger UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy
	 UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint) o
WHERE pg_describe_object(o.class, o.id, 0) !~ 'pg_toast' ORDER BY 1
SQL
my $objects_before = value($node, $db, $everything);
my $rights_before = value($node, $db, q{SELECT string_agg(oid::regclass || ' ' || coalesce(relacl::text, ''), E'\n' ORDER BY oid::regclass::text) FROM pg_class WHERE relnamespace IN ('auth'::regnamespace, 'public'::regnamespace)});
as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql('a', 1, 50));

value($node, $db, $create);
my $fresh = catalog_picture($node, $db);
my $first_contents = contents($node, $db);
is($fresh->{'triggers on auth.users'}, '', 'CREATE EXTENSION puts no trigger on auth.users');
as_role($node, $db, 'supabase_auth_admin', signup('b', 1, 'b1@example.com'));
is(value($node, $db, q{SELECT count(*) FROM invite_sync.sync_status()}), 0, 'without a target there is nothing to sync');

standard_targets($node, $db);
is(value($node, $db, q{SELECT string_agg(tgname, ', ' ORDER BY tgname COLLATE "C") FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal}),
	'Invite_sync_delete, invite_sync_insert, invite_sync_update', 'the first add_target attaches');
as_role($node, $db, 'postgres', 'CALL invite_sync.sync_all()');
as_role($node, $db, 'supabase_auth_admin', signup('b', 2, 'b2@example.com'));
is(out_of_step($node, $db), '', 'users are synced');

# attached
my $drop = run_as($node, $db, 'supabase_admin', 'DROP EXTENSION invite_sync');
is($drop->{sqlstate}, '2BP01', 'DROP EXTENSION is refused while triggers are attached');
like($drop->{stderr}, qr/trigger \Q$_\E on table auth\.users/, "and names $_") for qw(invite_sync_insert invite_sync_update Invite_sync_delete);
is(run_as($node, $db, 'supabase_admin', 'DROP SCHEMA invite_sync')->{sqlstate}, '2BP01', 'so is DROP SCHEMA');
is(run_as($node, $db, 'supabase_admin', 'DROP FUNCTION invite_sync.sync_on_insert()')->{sqlstate}, '2BP01', 'and DROP FUNCTION');
is(run_as($node, $db, 'supabase_admin', 'DROP ROLE invite_sync_owner')->{sqlstate}, '2BP01', 'and DROP ROLE');
is(run_as($node, $db, 'supabase_admin', 'ALTER EXTENSION invite_sync SET SCHEMA public')->{sqlstate}, '0A000', 'the extension cannot be moved');
as_role($node, $db, 'supabase_auth_admin', signup('b', 3, 'b3@example.com'));
is(out_of_step($node, $db), '', 'and users are still synced');

# detached: the registry stays, and add_target does not put the triggers back
my $auth = session($node, $db, 'supabase_auth_admin');
$auth->must(signup('b', 4, 'b4@example.com'));
is(as_role($node, $db, 'postgres', 'SELECT invite_sync.detach()'), 't', 'detach() is true when there were triggers');
my $again = run_as($node, $db, 'postgres', 'SELECT invite_sync.detach()');
is($again->{out}, 'f', 'detach() again is false');
like($again->{stderr}, qr/NOTICE/, 'and says so');
is(value($node, $db, q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal}), 0, 'no trigger is left');
is(value($node, $db, 'SELECT count(*) FROM invite_sync.target_list'), 3, 'the registry is');
$auth->must(signup('b', 5, 'b5@example.com'));
is(value($node, $db, q{SELECT string_agg(DISTINCT missing::text, ',') FROM invite_sync.sync_status()}), 1, 'nothing is synced, and sync_status() counts it');
as_role($node, $db, 'postgres', q{CREATE TABLE public.one_more (id uuid PRIMARY KEY, email text); SELECT invite_sync.add_target('public.one_more')});
is(value($node, $db, q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal}), 0, 'add_target does not attach after detach()');
is(as_role($node, $db, 'postgres', 'SELECT invite_sync.attach()'), 't', 'attach() does');
as_role($node, $db, 'postgres', 'CALL invite_sync.sync_all()');
$auth->must(signup('b', 6, 'b6@example.com'));
is(out_of_step($node, $db), '', 'and all is in step');

my $triggers = q{SELECT string_agg(concat_ws(' ', pg_get_triggerdef(oid), tgenabled), E'\n' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal};

# one of them gone, changed, disabled: attach() mends it
for my $damage ('DROP TRIGGER invite_sync_insert ON auth.users', 'ALTER TABLE auth.users DISABLE TRIGGER invite_sync_update',
	'ALTER TABLE auth.users ENABLE REPLICA TRIGGER invite_sync_insert',
	'CREATE OR REPLACE TRIGGER invite_sync_insert AFTER INSERT ON auth.users REFERENCING NEW TABLE AS new_users FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION invite_sync.sync_on_insert()',
	'CREATE OR REPLACE TRIGGER invite_sync_update AFTER UPDATE OF email ON auth.users FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_on_update()')
{
	my $before = value($node, $db, $triggers);
	value($node, $db, $damage);
	is(value($node, $db, q{SELECT count(*) FROM invite_sync.verify() WHERE severity = 'error' AND fix LIKE '%attach()%'}), 1, "verify() finds: $damage");
	is(as_role($node, $db, 'postgres', 'SELECT invite_sync.attach()'), 't', 'and attach() mends it');
	is(value($node, $db, $triggers), $before, 'as it was');
}
is(value($node, $db, q{SELECT count(*) FROM invite_sync.verify() WHERE severity = 'error'}), 0, 'then verify() has no errors');

# gone
as_role($node, $db, 'postgres', 'SELECT invite_sync.detach()');
my $rows = value($node, $db, 'SELECT (SELECT count(*) FROM public.profiles), (SELECT count(*) FROM public.users), (SELECT count(*) FROM public.user_profiles), (SELECT count(*) FROM auth.users)');
ok(run_as($node, $db, 'supabase_admin', 'DROP EXTENSION invite_sync')->{ok}, 'DROP EXTENSION after detach()');
is(value($node, $db, q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace}), 0, 'nothing is in the schema')
  if value($node, $db, q{SELECT to_regnamespace('invite_sync') IS NOT NULL}) eq 't';
is(value($node, $db, 'SELECT (SELECT count(*) FROM public.profiles), (SELECT count(*) FROM public.users), (SELECT count(*) FROM public.user_profiles), (SELECT count(*) FROM auth.users)'), $rows, 'the application\'s rows are untouched');
ok($auth->query(signup('b', 7, 'b7@example.com'))->{ok}, 'a connection of the auth server goes on');
ok($auth->query("UPDATE auth.users SET email = 'b7b\@example.com' WHERE id = '" . user_id('b', 7) . "'")->{ok}, 'also with changes');
ok(run_as($node, $db, 'postgres', 'DELETE FROM public.profiles WHERE id = \'' . user_id('b', 6) . '\'')->{ok}, 'and the application with its tables');
as_role($node, $db, 'postgres', 'DROP TABLE public.profiles, public.users, public.user_profiles, public.one_more; DROP FUNCTION public.invite_sync_touch_updated_at()');
my %left = map { $_ => 1 } split /\n/, value($node, $db, $everything);
delete @left{ split /\n/, $objects_before };
delete $left{'schema invite_sync'};
# what CASCADE created on the way is no business of ours
is(join("\n", sort grep { !/pgcrypto|extensions\.|^function (public\.)?(armor|dearmor|crypt|decrypt|digest|encrypt|gen_|hmac|pgp_)/ } keys %left), '', 'no object is left');
is(value($node, $db, q{SELECT string_agg(oid::regclass || ' ' || coalesce(relacl::text, ''), E'\n' ORDER BY oid::regclass::text) FROM pg_class WHERE relnamespace IN ('auth'::regnamespace, 'public'::regnamespace)}),
	$rights_before, 'and no right');

# and back
value($node, $db, $create);
my $second = catalog_picture($node, $db);
is($second->{$_}, $fresh->{$_}, "created again: $_ as the first time") for sort keys %$fresh;
my $second_contents = contents($node, $db);
is_deeply([ map { $_ =~ /(operator|lineage)$/ ? $_ : "$_ $second_contents->{$_}" } sort keys %$second_contents ],
	[ map { $_ =~ /(operator|lineage)$/ ? $_ : "$_ $first_contents->{$_}" } sort keys %$first_contents ], 'created again: nothing is remembered');
isnt($second_contents->{'invite_sync.lineage'}, $first_contents->{'invite_sync.lineage'}, 'created again: numbers from before would not be believed');
standard_targets($node, $db);
ok($auth->query(signup('b', 8, 'b8@example.com'))->{ok}, 'a connection from before both sees it');
is(value($node, $db, q{SELECT count(*) FROM public.profiles WHERE id = '} . user_id('b', 8) . q{'}), 1, 'and is synced');
as_role($node, $db, 'postgres', 'CALL invite_sync.sync_all()');
is(out_of_step($node, $db), '', 'and all is in step again');

# by force
ok(run_as($node, $db, 'supabase_admin', 'DROP EXTENSION invite_sync CASCADE')->{ok}, 'DROP EXTENSION CASCADE');
is(value($node, $db, q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal}), 0, 'takes the triggers along');
ok($auth->query(signup('b', 9, 'b9@example.com'))->{ok}, 'and signups go on');
ok($auth->query("DELETE FROM auth.users WHERE id = '" . user_id('b', 9) . "'")->{ok}, 'and deletions');
$auth->close;

# in a transaction that is rolled back, and in the middle of one
value($node, $db, "BEGIN; $create; ROLLBACK");
is(value($node, $db, q{SELECT count(*) FROM pg_extension WHERE extname = 'invite_sync'}), 0, 'CREATE EXTENSION rolled back is undone');
value($node, $db, "BEGIN; $create; SELECT count(*) FROM invite_sync.sync_status(); SAVEPOINT a; DROP EXTENSION invite_sync; ROLLBACK TO a; SELECT count(*) FROM invite_sync.verify(); COMMIT");
is(value($node, $db, q{SELECT count(*) FROM pg_extension WHERE extname = 'invite_sync'}), 1, 'DROP EXTENSION rolled back is undone');

# two databases of one cluster
prepare_database($node, 'second');
standard_targets($node, 'second');
as_role($node, 'second', 'supabase_auth_admin', signup('c', 1, 'c1@example.com'));
is(out_of_step($node, 'second'), '', 'another database of the cluster has its own');
is(value($node, $db, 'SELECT count(*) FROM invite_sync.target_list'), 0, 'and the first knows nothing of it');
as_role($node, 'second', 'postgres', 'SELECT invite_sync.detach()');
value($node, 'second', 'DROP EXTENSION invite_sync');
is(value($node, $db, q{SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'invite_sync'}), 'invite_sync_owner', 'dropped there, it is here as before');

# a copy of a database: same numbers, another database. Names that were not
# written down before the copy was made, and are others' by now, lead nowhere.
as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.copied (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.copied');
CREATE TABLE public.first_name (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.first_name');
CREATE TABLE public.shifted (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.shifted');
CREATE TABLE public.gone (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.gone');
CALL invite_sync.sync_all();
ALTER TABLE public.first_name RENAME TO second_name;
CREATE TABLE public.first_name (id uuid PRIMARY KEY, email text);
CREATE SCHEMA elsewhere;
ALTER TABLE public.shifted SET SCHEMA elsewhere;
DROP TABLE public.gone;
SQL
value($node, $db, q{
CREATE ROLE first_operator;
SELECT invite_sync.grant_operator('first_operator');
ALTER ROLE first_operator RENAME TO second_operator;
CREATE ROLE first_operator IN ROLE service_role});
value($node, 'template1', "CREATE DATABASE copy TEMPLATE $db");
as_role($node, 'copy', 'supabase_auth_admin', signup('d', 1, 'd1@example.com'));
is(value($node, 'copy', q{SELECT (SELECT count(*) FROM public.copied WHERE id::text LIKE 'd%'), (SELECT count(*) FROM public.second_name WHERE id::text LIKE 'd%'),
	(SELECT count(*) FROM elsewhere.shifted WHERE id::text LIKE 'd%'), (SELECT count(*) FROM public.first_name)}), '1|1|1|0',
	'a copy of the database syncs, to targets renamed or moved before under their new names and to nobody else');
is(value($node, 'copy', q{SELECT string_agg(target, ', ' ORDER BY target COLLATE "C") FROM invite_sync.target_list WHERE target !~ 'profiles|users'}),
	'elsewhere.shifted, public.copied, public.gone, public.second_name', 'and lists them so');
is(value($node, 'copy', q{SELECT string_agg(DISTINCT concat_ws(' ', target, sqlstate), ', ') FROM invite_sync.quarantine}), 'public.gone 42P01', 'only what is gone is in quarantine');
is(value($node, 'copy', "SET ROLE $_; SELECT invite_sync.is_operator()"), $_ eq 'second_operator' ? 't' : 'f', "as to the operators, $_") for qw(first_operator second_operator);
as_role($node, 'copy', 'postgres', q{SELECT invite_sync.drop_target('public.gone')});
is(out_of_step($node, 'copy'), '', 'and all is in step there');

# A dump of the one into the other, which had the extension already: the lineage
# is the same, and yet the numbers say nothing. By chance they are another table's
# and another role's.
my $gone = value($node, $db, q{SELECT relation::oid FROM invite_sync.target WHERE table_name = 'gone'});
my $operator = value($node, $db, q{SELECT 'second_operator'::regrole::oid});
my ($dump, $err) = ('', '');
my @to_node = ('-h', $node->host, '-p', $node->port, '-d');
IPC::Run::run([ 'pg_dump', @to_node, $db, '-a', '--no-sync', map { ('-t', "invite_sync.$_") } qw(target mapping operator) ], '>', \$dump, '2>', \$err) or die $err;
value($node, 'copy', q{CREATE TABLE public.decoy (id uuid PRIMARY KEY, email text); ALTER TABLE public.decoy OWNER TO postgres; CREATE ROLE decoy IN ROLE service_role});
my $decoy = value($node, 'copy', q{SELECT 'public.decoy'::regclass::oid});
my $decoy_role = value($node, 'copy', q{SELECT 'decoy'::regrole::oid});
ok($dump =~ s/(?<=\t)$gone(?=\t)/$decoy/g, 'the dump of the registry has the number of a table that is gone');
ok($dump =~ s/^first_operator\t\K$operator(?=\t)/$decoy_role/m, 'and the number of a role');
my $n = 1;
for my $role (qw(origin replica))
{
	value($node, 'copy', 'DELETE FROM invite_sync.mapping; DELETE FROM invite_sync.target; DELETE FROM invite_sync.operator');
	IPC::Run::run([ 'psql', @to_node, 'copy', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-c', "SET session_replication_role = $role", '-f', '-' ],
		'<', \$dump, '>', \my $out, '2>', \$err) or die $err;
	as_role($node, 'copy', 'supabase_auth_admin', signup('d', ++$n, "d$n\@example.com"));
	is(value($node, 'copy', q{SELECT (SELECT count(*) FROM public.copied WHERE id::text LIKE 'd%'), (SELECT count(*) FROM public.decoy)}), "$n|0",
		"restored there as $role, a number that has come to mean another table is not written to");
	is(value($node, 'copy', 'SET ROLE decoy; SELECT invite_sync.is_operator()'), 'f', 'nor makes it another role an operator');
	as_role($node, 'copy', 'postgres', q{SELECT invite_sync.drop_target('public.gone'); CALL invite_sync.sync_all()});
	is(value($node, 'copy', q{SELECT count(*) FROM public.decoy}), 0, 'nor does sync_all() write to it');
}

# ---------------------------------------------------------------------------
# No schema auth at all, yet

$node->stop;

# A cluster as everybody has it: the superuser is called postgres, and there are
# no roles of Supabase.
my $plain = PostgreSQL::Test::Cluster->new('plain');
{
	local $ENV{PGUSER} = 'postgres';
	$plain->init(extra => [ '-U', 'postgres' ]);
	$plain->start;
}
sub plain { return as_role($plain, $db, 'postgres', shift) }
as_role($plain, 'template1', 'postgres', "CREATE DATABASE $db");
ok(run_as($plain, $db, 'postgres', $create)->{ok}, 'no auth schema: CREATE EXTENSION works');
is(plain(q{SELECT string_agg(rolname, ', ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'}), 'invite_sync_owner, postgres', 'no auth schema: and makes only its own role');
plain('CREATE TABLE public.profiles (id uuid PRIMARY KEY, email text)');

for my $call (q{SELECT invite_sync.add_target('public.profiles')}, 'SELECT invite_sync.attach()', 'SELECT invite_sync.detach()', 'CALL invite_sync.sync_all()',
	'SELECT count(*) FROM invite_sync.sync_users()', 'SELECT invite_sync.create_standard_tables()')
{
	my $result = run_as($plain, $db, 'postgres', $call);
	is($result->{sqlstate}, '42P01', "no auth schema: $call is an error");
	like($result->{message}, qr/auth\.users/, "no auth schema: $call says what is missing");
	like($result->{stderr}, qr/^HINT: .*create_auth_schema\(\)/m, "no auth schema: $call says what to do");
}
# these may answer that there is nobody, or say the same
for my $call (q{SELECT invite_sync.user_exists('a0000001-0000-4000-8000-000000000000')}, q{SELECT invite_sync.ensure_user('a0000001-0000-4000-8000-000000000000')},
	'SELECT count(*) = 1 FROM invite_sync.preservation_report()')
{
	my $result = run_as($plain, $db, 'postgres', $call);
	ok($result->{ok} ? $result->{out} eq 'f' : $result->{sqlstate} eq '42P01' && $result->{stderr} =~ /^HINT: .*create_auth_schema\(\)/m,
		"no auth schema: $call finds nobody or says why") or diag($result->{stderr});
}
is(plain('SELECT count(*) FROM invite_sync.target_list'), 0, 'no auth schema: nothing is half-registered');
is(plain('SELECT count(*) FROM invite_sync.sync_status()'), 0, 'no auth schema: sync_status() is empty');
like(plain('SELECT finding, fix FROM invite_sync.verify()'), qr/there is no table auth\.users\|SELECT invite_sync\.create_auth_schema/, 'no auth schema: verify() says what to do');
isnt(plain(q{SELECT invite_sync.log_event('order.placed')}), '', 'no auth schema: events are written all the same');
is(plain(q{SELECT invite_sync.log_event('order.placed', user_id => 'a0000001-0000-4000-8000-000000000000') IS NOT NULL}), 't', 'no auth schema: also of users');
is(plain(q{SELECT (invite_sync.retry_quarantine()).retried}), 0, 'no auth schema: there is nothing to retry');
is(plain('SELECT count(*) FROM invite_sync.quarantine'), 0, 'no auth schema: nor in quarantine');

# create_auth_schema() and from there to a synced user
my $made = plain('SELECT invite_sync.create_auth_schema()');
like($made, qr/auth\.users/, 'create_auth_schema() says what it made');
is(plain(q{SELECT invite_sync.create_auth_schema()}), '', 'again it makes nothing');
my $owner = plain(q{SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'auth.users'::regclass});
is(plain("SELECT rolsuper FROM pg_roles WHERE rolname = '$owner'"), 'f', "auth.users belongs to $owner, who is no superuser");
my $refused = run_as($plain, $db, 'postgres', q{SELECT invite_sync.add_target('public.profiles')});
is($refused->{sqlstate}, '42501', 'a table of the superuser cannot be a target: its triggers would run as the superuser in every signup');
like($refused->{stderr}, qr/^HINT: .*ALTER TABLE public\.profiles OWNER TO/m, 'and the hint says what to do');

# an application's role that owns its tables, as operator
plain(<<'SQL');
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
SELECT invite_sync.grant_operator('app');
ALTER TABLE public.profiles OWNER TO app;
SQL
my $tables = run_as($plain, $db, 'app', 'SELECT invite_sync.create_standard_tables()');
is($tables->{sqlstate}, '42501', 'create_standard_tables needs a right on auth.users');
my ($hint) = $tables->{stderr} =~ /^HINT:\s+(GRANT .*;)$/m;
plain($hint);
as_role($plain, $db, 'app', <<'SQL');
SELECT invite_sync.add_target('public.profiles');
SELECT invite_sync.create_standard_tables();
SELECT invite_sync.add_target('public.users');
SELECT invite_sync.add_target('public.user_profiles');
SQL
plain(bulk_signup_sql('a', 1, 30));
is(plain('SELECT (SELECT count(*) FROM public.profiles), (SELECT count(*) FROM public.users), (SELECT count(*) FROM public.user_profiles)'), '30|30|30', 'users are synced on plain PostgreSQL');
plain(q{UPDATE auth.users SET email = 'changed@example.com' WHERE id = 'a0000001-0000-4000-8000-000000000000'});
is(plain(q{SELECT p.email || ' ' || u.email FROM public.profiles p JOIN public.users u USING (id) WHERE id = 'a0000001-0000-4000-8000-000000000000'}), 'changed@example.com changed@example.com', 'changes too');
plain(q{DELETE FROM auth.users WHERE id = 'a0000002-0000-4000-8000-000000000000'});
is(plain('SELECT count(*) FROM public.users'), 29, 'and deletions, by the foreign key');
is(plain(q{SELECT string_agg(finding || ' ' || object, ', ') FROM invite_sync.verify() WHERE severity IN ('error')}), '', 'verify() has no errors');
plain(q{ALTER TABLE public.profiles ADD COLUMN must_have text NOT NULL DEFAULT ''; ALTER TABLE public.profiles ALTER must_have DROP DEFAULT});
my $signup = run_as($plain, $db, 'postgres', bulk_signup_sql('a', 31, 32));
ok($signup->{ok}, 'a broken target stops no signup') or diag($signup->{stderr});
is(plain('SELECT count(*) FROM invite_sync.quarantine WHERE sqlstate = \'23502\''), 2, 'who could not be synced is in quarantine');
plain(q{ALTER TABLE public.profiles ALTER must_have SET DEFAULT ''});
is(plain('SELECT invite_sync.retry_quarantine(due_only => false)'), '(2,2,0)', 'and comes in when it is mended');
is(plain(q{SELECT sum(missing) FROM invite_sync.sync_status()}), 0, 'nobody is missing');

# the helpers of the auth schema, as policies use them
is(plain(q{SET request.jwt.claims = '{"sub": "a0000001-0000-4000-8000-000000000000"}'; SELECT auth.uid()}), 'a0000001-0000-4000-8000-000000000000', 'auth.uid() is there for policies')
  if plain(q{SELECT to_regproc('auth.uid') IS NOT NULL}) eq 't';

# roles of Supabase that come later get what they get by grant_api()
plain('CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role; SELECT invite_sync.grant_api()');
is(plain(q{SET ROLE service_role; SELECT count(*) FROM invite_sync.sync_status()}), 3, 'roles that are made later get their rights by grant_api()');
is(run_as($plain, $db, 'postgres', q{SET ROLE authenticated; SELECT count(*) FROM invite_sync.sync_status()})->{sqlstate}, '42501', 'and no others');

plain('SELECT invite_sync.detach(); DROP EXTENSION invite_sync');
plain(bulk_signup_sql('a', 40, 41));
is(plain('SELECT count(*) FROM auth.users'), 33, 'auth.users outlives the extension');
$plain->stop;

done_testing();
