# pg_dump and restore lose nothing: every table and sequence of ours, every
# trigger and every right is in the new cluster what it was in the old one, and
# the numbers by which targets are remembered hit no other table there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(organizations durable_cluster as_role value user_id bulk_signup_sql signup in_use signups_and_events
  registered_targets out_of_step dumped_contents catalog_picture draw_schema schema_drift);
use InviteSyncTest qw(prepare_database session run_as fixture_path slurp change_email_sql delete_user_sql);
use PostgreSQL::Test::Utils;
use Test::More;

# not /tmp/...: the files are wanted when a test fails
my $dir = PostgreSQL::Test::Utils::tempdir();
my $db = 'app';

# Runs a program of PostgreSQL against a node: its output and its errors.
sub program
{
	my ($node, @command) = @_;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	return ($ok, $out, $err);
}

sub errors { return join "\n", grep { /ERROR|FATAL|error:/ } split /\n/, shift }

# A database with what a dump would lose if it lost anything.

my $old = durable_cluster('old');
prepare_database($old, $db);

# The new cluster has fewer objects, so numbers of this one are yet to come there.
value($old, $db, 'SELECT count(lo_unlink(o)) FROM (SELECT lo_create(0) o FROM generate_series(1, 3000)) s');

in_use($old, $db, <<'SQL');
CREATE TABLE public.forgotten (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.forgotten');
SQL
# A trigger of the application's own, guarded, whose function has a number as well.
value($old, $db, q{
CREATE TABLE public.welcome (id uuid);
GRANT INSERT ON public.welcome TO supabase_auth_admin;
CREATE FUNCTION public.on_signup() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.welcome VALUES (NEW.id); RETURN NULL; END $$;
CREATE TRIGGER on_signup AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.on_signup();
COMMENT ON TRIGGER on_signup ON auth.users IS 'of the application'});
as_role($old, $db, 'postgres', q{SELECT invite_sync.guard_trigger('on_signup')});

value($old, $db, q{
CREATE ROLE dumper LOGIN BYPASSRLS;
SELECT invite_sync.grant_dump('dumper')});

as_role($old, $db, 'postgres', "SELECT invite_sync.log_event('nobody.known', user_id => 'ffffffff-0000-4000-8000-000000000000', kind => 'error')");
signups_and_events($old, $db, signup('a', 500, "bad tab\tand 'quote\"\@example.com") . signup('a', 501, 'bad2@example.com'));
as_role($old, $db, 'postgres', <<'SQL');
SELECT invite_sync.drop_target('public.forgotten');
DROP TABLE public.gone;
ALTER TABLE public.first_name RENAME TO second_name;
SQL
as_role($old, $db, 'supabase_auth_admin', signup('b', 1, 'b1@example.com') . change_email_sql(user_id('a', 2), 'a2 changed@example.com')
	  . delete_user_sql(user_id('a', 3)));
as_role($old, $db, 'postgres', <<'SQL');
SELECT invite_sync.set_alert('missing', 0, '2 hours');
SELECT invite_sync.set_alert('quarantined', 0.5, '1 month 3 days 04:05:06.789');
SELECT invite_sync.check_alerts();
SELECT invite_sync.acknowledge_alert(min(id)) FROM invite_sync.alerts;
SQL
organizations($old, $db);
# left in a mode that pg_dump writes separately
value($old, $db, 'ALTER TABLE auth.users ENABLE ALWAYS TRIGGER invite_sync_insert');

my $drawn = draw_schema($old, $db);
my $lineage = value($old, $db, 'SELECT id FROM invite_sync.lineage');
my $gone = value($old, $db, q{SELECT relation::oid FROM invite_sync.target WHERE table_name = 'gone'});
my $before = dumped_contents($old, $db);
my $picture = catalog_picture($old, $db);
my $status = value($old, $db, q{SELECT target, auth_users, rows, missing, orphaned, stale, unlinked, quarantined, last_success, last_failure FROM invite_sync.sync_status() ORDER BY target});
my $old_seals = as_role($old, $db, 'postgres', 'SELECT * FROM invite_sync.verify_events() ORDER BY 1');

# Every kind of row is there: a test of empty tables would prove nothing.
for my $table (sort grep { !/_seq$/ } keys %$before)
{
	isnt($before->{$table}, '', "there is something in $table");
}
like($before->{'invite_sync.target'}, qr/(?<!\d)$gone(?!\d)/, 'the dropped target is remembered by number');

# ---------------------------------------------------------------------------
# Dumps: roles, and the database as three different roles

my ($ok, $globals, $err) = program($old, 'pg_dumpall', '-g', '--no-sync');
ok($ok, 'pg_dumpall -g') or diag($err);

my %dump;
for my $role (qw(supabase_admin postgres dumper))
{
	# of everybody else's tables, only dumper would need rights that are not ours to give
	my @only = $role eq 'dumper' ? ('-n', 'invite_sync', '-e', 'invite_sync') : ();
	($ok, $dump{$role}, $err) = program($old, 'pg_dump', '-U', $role, @only, '--no-sync', $db);
	ok($ok, "pg_dump as $role succeeds") or diag($err);
	is(errors($err), '', "pg_dump as $role reports no error");
	# minor releases of 2025 put a random key into every dump
	$dump{$role} =~ s/^\\(?:un)?restrict .*\n//mg;
}
is($dump{postgres}, $dump{supabase_admin}, 'the dump of postgres, who is no superuser, is the same as the superuser\'s');

# What the install script grants is no business of the dump: only what was decided later is in it.
is(join("\n", sort grep { !/watcher|once_operator|dumper/ } $dump{postgres} =~ /^((?:GRANT|REVOKE)[^\n]* invite_sync\b[^\n]*;)$/mg),
	'', 'the dump has no grants on our objects but the DBA\'s');

# pg_dump of 15 leaves out the data of an extension's tables with -n; what there is must be the same.
my %data_of;
for my $role (qw(supabase_admin dumper))
{
	$data_of{$role}{$1} = $2 while $dump{$role} =~ /^COPY (invite_sync\.\S+) [^\n]*\n(.*?)^\\\.$/msg;
}
is_deeply($data_of{dumper}, $data_of{supabase_admin}, 'somebody named by grant_dump dumps all our tables') if $data_of{dumper};
value($old, $db, 'CREATE ROLE nobody_special LOGIN BYPASSRLS');
($ok) = program($old, 'pg_dump', '-U', 'nobody_special', '-n', 'invite_sync', '-e', 'invite_sync', '--no-sync', $db);
ok(!$ok, 'without grant_dump it cannot');

program($old, 'pg_dump', '-Fc', '-f', "$dir/app.custom", '--no-sync', $db);
program($old, 'pg_dump', '-Fd', '-f', "$dir/app.dir", '--no-sync', $db);
# every row a statement of its own, before which the triggers see only those before it
program($old, 'pg_dump', '--inserts', '-f', "$dir/inserts.sql", '--no-sync', $db);

# ---------------------------------------------------------------------------
# A fresh cluster to restore into, in which the number of the dropped target is
# somebody else's table before anything is restored

sub decoy_database
{
	my ($node, $dbname) = @_;

	# numbers are dealt out one after the other, so they are used up to the one before
	my $last = value($node, $dbname, 'SELECT lo_create(0)');
	value($node, $dbname, "SELECT lo_unlink($last)");
	return 0 if $last >= $gone;
	my $todo = $gone - $last - 1;
	value($node, $dbname, "SELECT count(lo_unlink(o)) FROM (SELECT lo_create(0) o FROM generate_series(1, $todo)) s");
	value($node, $dbname, 'CREATE TABLE public.decoy (id uuid PRIMARY KEY, email text)');
	return value($node, $dbname, q{SELECT 'public.decoy'::regclass::oid}) == $gone;
}

# One number serves one database only, so each gets a cluster of its own.
sub fresh_cluster
{
	my ($name, %params) = @_;
	my $node = durable_cluster($name);
	my $errors = '';
	unless ($params{without_roles})
	{
		my $file = "$dir/$name.globals.sql";
		PostgreSQL::Test::Utils::append_to_file($file, $globals);
		my (undef, undef, $err) = program($node, 'psql', '-X', '-q', '-d', 'template1', '-f', $file);
		$errors = errors($err);
	}
	return ($node, $errors);
}

sub check_restored
{
	my ($node, $what) = @_;
	my $after = dumped_contents($node, $db);
	# where the number has come to mean another table, the comparison is with the number
	$after->{'invite_sync.target'} =~ s/public\.decoy/$gone/;
	is_deeply([ sort keys %$after ], [ sort keys %$before ], "$what: the same tables and sequences");
	for my $name (sort keys %$before)
	{
		is($after->{$name}, $before->{$name}, "$what: $name, byte for byte");
	}
	# without -C the database is another one, and has other settings
	is(schema_drift($node, $db, $drawn, "d.object = 'public.decoy'" . ($what =~ /-C/ ? '' : " OR d.object_type = 'database' OR d.property LIKE 'settings_in_this_database%'")),
		'', "$what: the schema is the one of the snapshot");
	isnt(value($node, $db, 'SELECT id FROM invite_sync.lineage'), $lineage, "$what: but no number of the old database is believed");
	my $restored = catalog_picture($node, $db);
	for my $name (sort keys %$picture)
	{
		is($restored->{$name}, $picture->{$name}, "$what: $name");
	}
	return;
}

# That it is not only there but works.
sub check_alive
{
	my ($node, $what) = @_;
	is(value($node, $db, q{SELECT target, auth_users, rows, missing, orphaned, stale, unlinked, quarantined, last_success, last_failure FROM invite_sync.sync_status() WHERE target !~ 'first_name|second_name' ORDER BY target}),
		join("\n", grep { !/first_name|second_name/ } split /\n/, $status), "$what: sync_status says the same");
	is(as_role($node, $db, 'postgres', 'SELECT * FROM invite_sync.verify_events() ORDER BY 1'), $old_seals, "$what: the seals hold");
	is(value($node, $db, 'SHOW invite_sync.lock_timeout'), '700ms', "$what: a setting of the database") if $what =~ /-C/;

	my $signup = run_as($node, $db, 'supabase_auth_admin', signup('c', 1, 'c1@example.com') . change_email_sql(user_id('c', 1), 'c1 changed@example.com'));
	ok($signup->{ok}, "$what: a signup succeeds") or diag($signup->{stderr});
	is(value($node, $db, sprintf q{SELECT string_agg(email, ', ') FROM (SELECT email FROM public.profiles WHERE id = '%1$s' UNION ALL
			SELECT email FROM public.users WHERE id = '%1$s' UNION ALL
			SELECT "E-Mail" FROM "Odd Schema"."Odd "" Table" WHERE "User Id" = '%1$s') s}, user_id('c', 1)),
		'c1 changed@example.com, c1 changed@example.com, c1 changed@example.com', "$what: and is synced");
	is(value($node, $db, sprintf q{SELECT last_name IS NULL AND display_name = 'Somebody New' FROM public.user_profiles WHERE user_id = '%s'}, user_id('c', 1)),
		't', "$what: to user_profiles too");
	is(value($node, $db, q{SELECT count(*) FROM public.asleep}), 0, "$what: the disabled target is disabled");
	is(value($node, $db, sprintf q{SELECT sqlstate FROM invite_sync.quarantine WHERE user_id = '%s' AND target = 'public.gone'}, user_id('c', 1)),
		'42P01', "$what: the dropped target's sync is in quarantine");
	is(value($node, $db, q{SELECT count(*) FROM invite_sync.target_list WHERE target = 'public.gone'}), 1, "$what: it is listed by its name");
	is(value($node, $db, q{SELECT count(*) FROM public.decoy}), 0, "$what: and its number hits no other table")
	  if value($node, $db, q{SELECT to_regclass('public.decoy') IS NOT NULL}) eq 't';

	my $verify = as_role($node, $db, 'postgres', 'SELECT object, finding FROM invite_sync.verify() WHERE area = \'sync\' AND severity = \'error\' ORDER BY 1');
	like($verify, qr/public\.gone\|users cannot be synced/, "$what: verify() names the dropped target");

	is(value($node, $db, sprintf q{SELECT count(*) FROM public.welcome WHERE id = '%s'}, user_id('c', 1)), 1, "$what: the guarded trigger ran");
	value($node, $db, 'REVOKE INSERT ON public.welcome FROM supabase_auth_admin');
	$signup = run_as($node, $db, 'supabase_auth_admin', signup('c', 2, 'c2\@example.com'));
	ok($signup->{ok}, "$what: and is still guarded") or diag($signup->{stderr});
	is(value($node, $db, sprintf q{SELECT sqlstate FROM invite_sync.quarantine WHERE user_id = '%s' AND trigger_name = 'on_signup'}, user_id('c', 2)), '42501', "$what: its failure is in quarantine");
	value($node, $db, 'GRANT INSERT ON public.welcome TO supabase_auth_admin');
	# only the catalogs' link to its function does not travel
	my $guard = as_role($node, $db, 'postgres', q{SELECT fix FROM invite_sync.verify() WHERE object = 'on_signup' AND finding ~ 'depend'});
	like($guard, qr/attach\(\)/, "$what: verify() says what a dump cannot bring along");
	as_role($node, $db, 'postgres', 'SELECT invite_sync.attach()');
	is(as_role($node, $db, 'postgres', q{SELECT count(*) FROM invite_sync.verify() WHERE object = 'on_signup' AND finding ~ 'depend'}), 0, "$what: attach() makes it again");
	is(run_as($node, $db, 'supabase_admin', 'DROP FUNCTION public.on_signup()')->{sqlstate}, '2BP01', "$what: then the function cannot be dropped");

	# the retry and the backfill do not hit it either
	as_role($node, $db, 'postgres', 'SELECT invite_sync.retry_quarantine(due_only => false); CALL invite_sync.sync_all(); SELECT count(*) FROM invite_sync.sync_users()');
	is(value($node, $db, q{SELECT count(*) FROM public.decoy}), 0, "$what: nor after retry_quarantine, sync_all and sync_users")
	  if value($node, $db, q{SELECT to_regclass('public.decoy') IS NOT NULL}) eq 't';

	# it comes back under its name
	as_role($node, $db, 'postgres', 'CREATE TABLE public.gone (id uuid PRIMARY KEY, email text); CALL invite_sync.sync_all()');
	is(value($node, $db, q{SELECT missing FROM invite_sync.sync_status() WHERE target = 'public.gone'}), 0, "$what: created again, it is synced to");

	# organizations are what they were: full, of one tree, and proof against what they were proof against
	is(value($node, $db, q{SELECT used, remaining, (SELECT count(*) FROM invite_sync.organization_path(b.id)) FROM invite_sync.organization b, invite_sync.seat_usage(b.id) WHERE b.slug = 'below-left'}),
		'2|0|3', "$what: seats are counted over the tree");
	is(run_as($node, $db, 'supabase_admin', q{SELECT invite_sync.create_organization('One more', parent_id => id, owner_id => '} . user_id('a', 7) . q{') FROM invite_sync.organization WHERE slug = 'top'})->{sqlstate},
		'PT402', "$what: and none is left");
	is(run_as($node, $db, 'supabase_admin', q{DELETE FROM invite_sync.role WHERE name = 'writer'})->{sqlstate}, 'PT409', "$what: a role that somebody has stays");
	is(run_as($node, $db, 'supabase_admin', q{UPDATE invite_sync.role SET name = 'x' WHERE built_in})->{sqlstate}, '23514', "$what: built-in roles are fixed");

	# the registry can be changed, and its sequence goes on
	as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.added (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.added');
SELECT invite_sync.set_target('public.asleep', enabled => true);
SELECT invite_sync.drop_target('public.gone');
ALTER TABLE "Odd Schema"."Odd "" Table" DROP CONSTRAINT "Odd "" Table_E-Mail_check";
-- what became of it is told at the end of the file
SELECT invite_sync.set_target('public.second_name') WHERE EXISTS (SELECT FROM invite_sync.target_list WHERE target = 'public.second_name');
SELECT invite_sync.drop_target('public.first_name') WHERE NOT EXISTS (SELECT FROM invite_sync.target_list WHERE target = 'public.second_name');
DELETE FROM public.second_name t WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = t.id);
CALL invite_sync.sync_all();
SQL
	is(out_of_step($node, $db), '', "$what: everything is in step");
	is(as_role($node, $db, 'ops', 'SELECT invite_sync.is_operator()'), 't', "$what: a member of a granted role is an operator");
	is(as_role($node, $db, 'postgres', 'SELECT invite_sync.is_operator()'), 't', "$what: so is postgres");
	is(run_as($node, $db, 'ops', 'SELECT count(*) FROM invite_sync.target')->{sqlstate}, '42501', "$what: an operator reads no table of ours");
	return;
}

# ---------------------------------------------------------------------------
# pg_dumpall -g and pg_dump | psql

PostgreSQL::Test::Utils::append_to_file("$dir/$_.sql", $dump{$_}) for keys %dump;

for my $dumped (qw(supabase_admin postgres inserts))
{
	my $what = $dumped eq 'inserts' ? 'psql, dumped with --inserts' : "psql, dumped by $dumped";
	my ($node, $errors) = fresh_cluster("plain_$dumped");
	# pg_dumpall writes CREATE ROLE also for the superuser who restores it
	is($errors =~ s/^.*role "supabase_admin" already exists$//mr, '', "$what: the roles are restored without an error");

	value($node, 'template1', "CREATE DATABASE $db OWNER postgres");
	ok(decoy_database($node, $db), "$what: the dropped target's number is another table's");
	my (undef, undef, $err) = program($node, 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=0', '-d', $db, '-f', "$dir/$dumped.sql");
	is(errors($err), '', "$what: no error while restoring");
	check_restored($node, $what);
	check_alive($node, $what);
	$node->stop;
}

# ---------------------------------------------------------------------------
# pg_restore, in one transaction, with -C, and by several workers at once

for my $case ([ 'pg_restore -1', "$dir/app.custom", '-1' ], [ 'pg_restore -C', "$dir/app.custom", '-C' ], [ 'pg_restore -j', "$dir/app.dir", '-j', 3 ])
{
	my ($what, $file, @options) = @$case;
	my ($node) = fresh_cluster('pg_restore_' . lc substr $options[0], 1);
	my $with_decoy = $options[0] ne '-C';
	if ($with_decoy)
	{
		value($node, 'template1', "CREATE DATABASE $db OWNER postgres");
		ok(decoy_database($node, $db), "$what: the dropped target's number is another table's");
	}
	my ($restored, undef, $err) = program($node, 'pg_restore', '-d', $with_decoy ? $db : 'template1', @options, $file);
	ok($restored, "$what succeeds");
	is(errors($err), '', "$what: no error while restoring");
	if ($restored)
	{
		check_restored($node, $what);
		check_alive($node, $what);
	}
	$node->stop;
}

# ---------------------------------------------------------------------------
# Where the cluster has none of our roles, and the superuser another name.
# CREATE EXTENSION makes invite_sync_owner; the rest of the roles is not ours.

{
	my $what = 'without roles, --no-owner --no-acl';
	my ($node) = fresh_cluster('bare', without_roles => 1);
	value($node, 'template1', 'CREATE ROLE another_superuser SUPERUSER LOGIN');
	value($node, 'template1', "CREATE DATABASE $db OWNER another_superuser");
	my (undef, undef, $err) = program($node, 'pg_restore', '-U', 'another_superuser', '--no-owner', '--no-acl', '-d', $db, "$dir/app.custom");
	# Policies of the application name roles that are not there
	my @left = grep { !/role "(?:anon|authenticated|service_role)" does not exist/ } split /\n/, errors($err);
	is(join("\n", @left), '', "$what: no error but for roles that policies name");

	is(value($node, $db, q{SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ', ') FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace}),
		'invite_sync_owner', "$what: our tables belong to invite_sync_owner all the same");
	is(value($node, $db, q{SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'invite_sync'}),
		'invite_sync_owner', "$what: and so does the schema");
	my $after = dumped_contents($node, $db);
	is($after->{$_}, $before->{$_}, "$what: $_, byte for byte") for grep { $_ ne 'invite_sync.operator' } sort keys %$before;

	# The definer of the mappings, postgres, is not there to be asked for, and the tables are a superuser's:
	# nothing runs with its rights. Signups go on.
	my $signup = run_as($node, $db, 'another_superuser', bulk_signup_sql('c', 1, 3));
	ok($signup->{ok}, "$what: a signup succeeds") or diag($signup->{stderr});
	my $verify = value($node, $db, q{SELECT string_agg(DISTINCT object || ': ' || finding, '; ') FROM invite_sync.verify() WHERE severity = 'error'});
	like($verify, qr/public\.profiles: users cannot be synced to this target/, "$what: verify() says that nobody is synced");
	is(value($node, $db, q{SELECT count(*) FROM invite_sync.quarantine WHERE target = 'public.profiles' AND sqlstate = '42501'}), 3, "$what: and they are in quarantine");
	value($node, $db, q{
CREATE ROLE app;
CREATE ROLE auth_server;
GRANT USAGE ON SCHEMA auth TO auth_server;
ALTER TABLE auth.users OWNER TO auth_server;
ALTER TABLE auth.identities OWNER TO auth_server;
ALTER TABLE public.profiles OWNER TO app;
ALTER TABLE public.users OWNER TO app;
ALTER TABLE public.user_profiles OWNER TO app});
	value($node, $db, q{
SELECT invite_sync.set_target('public.profiles');
SELECT invite_sync.set_target('public.users');
SELECT invite_sync.set_target('public.user_profiles');
CALL invite_sync.sync_all()});
	is(value($node, $db, q{SELECT string_agg(target || ' ' || missing, ', ' ORDER BY target) FROM invite_sync.sync_status() WHERE target IN ('public.profiles', 'public.users', 'public.user_profiles')}),
		'public.profiles 0, public.user_profiles 0, public.users 0', "$what: with another owner, and set_target() by another definer, all users come in");
	$node->stop;
}

# With owners and rights, but without any of the roles: CREATE EXTENSION must
# still come through, whoever the schema belongs to by then.
{
	my $what = 'without roles';
	my ($node) = fresh_cluster('roleless', without_roles => 1);
	value($node, 'template1', "CREATE DATABASE $db");
	my (undef, undef, $err) = program($node, 'psql', '-X', '-q', '-d', $db, '-f', "$dir/supabase_admin.sql");
	my @left = grep { !/role "(?:anon|authenticated|service_role|authenticator|postgres|dashboard_user|supabase_auth_admin|watcher|dumper|once_operator)" does not exist/ }
	  split /\n/, errors($err);
	# the schema stands in the dump before the extension that makes the role
	@left = grep { !/role "invite_sync_owner" does not exist/ } @left;
	is(join("\n", @left), '', "$what: no error but for roles that are missing");
	is(value($node, $db, q{SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ', ') FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace}),
		'invite_sync_owner', "$what: our tables belong to invite_sync_owner");
	my $after = dumped_contents($node, $db);
	is($after->{$_}, $before->{$_}, "$what: $_, byte for byte") for sort keys %$before;
	$node->stop;
}

# ---------------------------------------------------------------------------
# A move between projects of Supabase: schema auth is made by the new auth
# server and its users are copied, so the dump leaves it out, and with it the
# triggers.

{
	my $what = 'without schema auth';
	my ($node) = fresh_cluster('moved');
	value($node, 'template1', "CREATE DATABASE $db");
	$node->safe_psql($db, slurp(fixture_path()));
	value($node, $db, q{ALTER TABLE auth.users ADD COLUMN at_the_end text DEFAULT 'end'});
	my ($dumped, $auth_users) = program($old, 'pg_dump', '-a', '-t', 'auth.users', '-t', 'auth.identities', '--no-sync', $db);
	PostgreSQL::Test::Utils::append_to_file("$dir/users.sql", $auth_users);
	my (undef, $rest) = program($old, 'pg_dump', '-N', 'auth', '-N', 'extensions', '--no-sync', $db);
	PostgreSQL::Test::Utils::append_to_file("$dir/rest.sql", $rest);
	my (undef, undef, $err) = program($node, 'psql', '-X', '-q', '-d', $db, '-f', "$dir/users.sql", '-f', "$dir/rest.sql");
	# pgcrypto, and rights in the schemas left out
	my @left = grep { !/schema "(?:auth|extensions|public)" already exists/ } split /\n/, errors($err);
	is(join("\n", @left), '', "$what: no error while restoring");
	my $after = dumped_contents($node, $db);
	is($after->{$_}, $before->{$_}, "$what: $_, byte for byte") for sort keys %$before;

	as_role($node, $db, 'supabase_auth_admin', signup('c', 1, 'c1@example.com'));
	my $verify = as_role($node, $db, 'postgres', 'SELECT DISTINCT finding, fix FROM invite_sync.verify() WHERE object ILIKE \'invite_sync%\'');
	like($verify, qr/the trigger on auth\.users is missing\|SELECT invite_sync\.attach\(\)/, "$what: verify() says that the triggers are missing");
	is(value($node, $db, q{SELECT missing FROM invite_sync.sync_status() WHERE target = 'public.profiles'}), 1, "$what: sync_status counts who signed up meanwhile");
	as_role($node, $db, 'postgres', 'SELECT invite_sync.attach(); SELECT invite_sync.drop_target(\'public.gone\'); CALL invite_sync.sync_all()');
	is(value($node, $db, q{SELECT missing FROM invite_sync.sync_status() WHERE target = 'public.profiles'}), 0, "$what: attach() and sync_all() are all it takes");
	$node->stop;
}

# ---------------------------------------------------------------------------
# Renamed targets. The old table's name may have been taken by another table,
# and then neither number nor name is worth anything by itself.

{
	my $what = 'renamed';
	as_role($old, $db, 'postgres', <<'SQL');
CREATE TABLE public.written_down (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.written_down');
CREATE TABLE public.left_behind (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.left_behind');
CREATE TABLE public.just_now (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.just_now');
ALTER TABLE public.written_down RENAME TO now_called;
SELECT invite_sync.set_target('public.now_called');
-- from here on nothing is called that could write a name down
ALTER TABLE public.left_behind RENAME TO moved_on;
CREATE TABLE public.left_behind (id uuid PRIMARY KEY, email text);
ALTER TABLE public.just_now RENAME TO just_renamed;
SQL
	my (undef, $renamed) = program($old, 'pg_dump', '--no-sync', $db);
	PostgreSQL::Test::Utils::append_to_file("$dir/renamed.sql", $renamed);
	as_role($old, $db, 'supabase_auth_admin', signup('d', 1, 'd1@example.com'));
	my $counts = 'SELECT (SELECT count(*) FROM public.now_called), (SELECT count(*) FROM public.just_renamed), (SELECT count(*) FROM public.moved_on)';
	is(value($old, $db, $counts), '1|1|1', "$what: in the old cluster the tables are followed");
	is(value($old, $db, 'SELECT count(*) FROM public.left_behind'), 0, "$what: and who took the name of one is left alone");

	my ($node) = fresh_cluster('renamed');
	value($node, 'template1', "CREATE DATABASE $db OWNER postgres");
	program($node, 'psql', '-X', '-q', '-d', $db, '-f', "$dir/renamed.sql");
	is(run_as($node, $db, 'supabase_auth_admin', signup('d', 1, 'd1@example.com'))->{sqlstate}, '00000', "$what: a signup after the restore succeeds");
	is(value($node, $db, 'SELECT count(*) FROM public.now_called'), 1, "$what: a new name that was written down is followed");
	is(value($node, $db, 'SELECT count(*) FROM public.just_renamed'), 1, "$what: so is one that nobody wrote down");
	is(value($node, $db, 'SELECT count(*) FROM public.moved_on'), 1, "$what: and one whose old name is another table's");
	is(value($node, $db, 'SELECT count(*) FROM public.left_behind'), 0,
		"$what: the table that has the old name now is not the target");
	as_role($node, $db, 'postgres', 'CALL invite_sync.sync_all()');
	is(value($node, $db, 'SELECT count(*) FROM public.left_behind'), 0, "$what: nor for sync_all");
	is(value($node, $db, 'SELECT (SELECT count(*) FROM auth.users) - (SELECT count(*) FROM public.moved_on)'), 0, "$what: which brings everybody into the renamed one");
	$node->stop;
}

$old->stop;
done_testing();
