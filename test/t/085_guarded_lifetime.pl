# Triggers of an application that are under guard go through dump and restore,
# and DROP EXTENSION neither forgets one nor leaves one behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value user_id signup standard_targets out_of_step dumped_contents);
use InviteSyncTest qw(prepare_database new_database run_as);
use InviteSyncGuarded qw(application_triggers guard_all trigger_names trigger_picture heard);
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $db = 'app';

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

my $old = durable_cluster('old');
prepare_database($old, $db);
standard_targets($old, $db);
application_triggers($old, $db);
my $bare = trigger_picture($old, $db);
my $said = heard($old, $db, 1);
like($said, qr/^On "Sign-up" supabase_admin public d\@example\.com$/m, 'the application\'s triggers say who and how they are');
guard_all($old, $db);
my $guarded = trigger_picture($old, $db);
isnt($guarded, $bare, 'they are put under guard');
my @names = trigger_names();
my @behind_guard = $guarded =~ /EXECUTE FUNCTION invite_sync\.guard\(/g;
is(scalar(@behind_guard), scalar(@names), 'all of them');
is(heard($old, $db, 2), $said, 'guarded, they run as before');
is(as_role($old, $db, 'postgres', q{SELECT * FROM invite_sync.verify() WHERE object <> 'asleep'}), '', 'verify() has nothing to say');

# One entry of each kind in quarantine
sub break_triggers { return value($_[0], $db, 'REVOKE INSERT ON public.heard FROM supabase_auth_admin') }
sub mend_triggers { return value($_[0], $db, 'GRANT INSERT ON public.heard TO supabase_auth_admin') }
break_triggers($old);
as_role($old, $db, 'supabase_auth_admin', signup('a', 1, 'a1@example.com'));
mend_triggers($old);
value($old, $db, 'TRUNCATE public.heard');
my $failed = q{SELECT string_agg(concat_ws(' ', trigger_name, action, sqlstate, replayable, user_id IS NULL), ', ' ORDER BY trigger_name) FROM invite_sync.quarantine};
is(value($old, $db, $failed), 'after_all insert 42501 f t, on_signup insert 42501 t f', 'what failed is in quarantine');
my $before = dumped_contents($old, $db);

# ---------------------------------------------------------------------------
# Dump and restore

my (undef, $globals) = program($old, 'pg_dumpall', '-g', '--no-sync');
PostgreSQL::Test::Utils::append_to_file("$dir/globals.sql", $globals);
for my $role (qw(supabase_admin postgres))
{
	my ($ok, undef, $err) = program($old, 'pg_dump', '-U', $role, '--no-sync', '-f', "$dir/$role.sql", $db);
	ok($ok, "pg_dump as $role") or diag($err);
}
my ($dumped, undef, $dump_errors) = program($old, 'pg_dump', '-Fd', '-f', "$dir/app.dir", '--no-sync', $db);
ok($dumped, 'pg_dump -Fd') or diag($dump_errors);

# What a dump cannot bring along: the trigger's link to the function behind the guard.
(my $restored = $guarded) =~ s/, function (?!invite_sync\.guard\(\))[^,\n]*? n(?=,|$)|function (?!invite_sync\.guard\(\))[^,\n]*? n, //mg;
my $lost = q{SELECT string_agg(object, ',' ORDER BY object) FROM invite_sync.verify() WHERE finding LIKE '%dependency%' AND fix = 'SELECT invite_sync.attach();'};

for my $case ([ 'psql, dumped by supabase_admin', 'psql', '-X', '-q', '-f', "$dir/supabase_admin.sql" ],
	[ 'psql, dumped by postgres', 'psql', '-X', '-q', '-f', "$dir/postgres.sql" ],
	[ 'pg_restore -j3', 'pg_restore', '-j', 3, "$dir/app.dir" ])
{
	my ($what, $program, @options) = @$case;
	(my $name = $what) =~ s/\W+/_/g;
	my $node = durable_cluster($name);
	program($node, 'psql', '-X', '-q', '-d', 'template1', '-f', "$dir/globals.sql");
	value($node, 'template1', "CREATE DATABASE $db OWNER postgres");
	my (undef, undef, $err) = program($node, $program, '-d', $db, @options);
	is(errors($err), '', "$what: no error while restoring");

	my $after = dumped_contents($node, $db);
	is($after->{$_}, $before->{$_}, "$what: $_, byte for byte") for sort keys %$before;
	is(trigger_picture($node, $db), $restored, "$what: the triggers are there, but for the link to their functions");

	# Numbers of functions mean nothing here. By chance one may be that of another function.
	value($node, $db, q{CREATE FUNCTION public.decoy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$;
UPDATE invite_sync.guarded_trigger SET function_id = 'public.decoy()'::regprocedure});
	is(heard($node, $db, 3), $said, "$what: the triggers run as before");
	break_triggers($node);
	my $signup = run_as($node, $db, 'supabase_auth_admin', signup('a', 2, 'a2@example.com'));
	ok($signup->{ok}, "$what: and are guarded") or diag($signup->{stderr});
	mend_triggers($node);
	is(value($node, $db, $failed . q{ WHERE user_id = '} . user_id('a', 2) . q{'}), 'on_signup insert 42501 t f', "$what: what fails is in quarantine");
	is(as_role($node, $db, 'postgres', 'SELECT invite_sync.retry_quarantine(due_only => false)'), '(2,2,0)', "$what: also what failed before the dump can be done again");
	is(value($node, $db, 'SELECT string_agg(what, E\'\n\' ORDER BY what) FROM public.heard WHERE what LIKE \'on_signup%\''), join("\n", map {
		qq{on_signup AFTER INSERT ROW [0:3]={a,"the 'quoted' \\"one\\"","\\\\x",""} supabase_auth_admin a$_\@example.com} } 1, 2), "$what: by the same function");
	value($node, $db, 'TRUNCATE public.heard');

	is(as_role($node, $db, 'postgres', $lost), join(',', sort { $a cmp $b } trigger_names()), "$what: verify() reports each lost dependency");
	ok(run_as($node, $db, 'supabase_admin', 'BEGIN; DROP FUNCTION public.hear(); ROLLBACK')->{ok}, "$what: until then nothing keeps a function");
	is(as_role($node, $db, 'postgres', 'SELECT invite_sync.attach()'), 't', "$what: attach() makes them again");
	is(trigger_picture($node, $db), $guarded, "$what: the triggers are what they were in the old cluster");
	is(value($node, $db, q{SELECT count(*) FROM invite_sync.guarded_trigger WHERE function_id = 'public.decoy()'::regprocedure}), 0, "$what: the right numbers are remembered");
	is(as_role($node, $db, 'postgres', $lost), '', "$what: verify() is content");
	for my $function ('public.hear()', '"Odd "" Schema"."Hear ""It"""()', 'public.refuse_domain()')
	{
		is(run_as($node, $db, 'supabase_admin', "DROP FUNCTION $function")->{sqlstate}, '2BP01', "$what: DROP FUNCTION $function is refused again");
	}
	my $again = run_as($node, $db, 'postgres', 'SELECT invite_sync.attach()');
	is($again->{out}, 'f', "$what: attach() again has nothing to do");
	is(heard($node, $db, 4), $said, "$what: and the triggers run as before");

	as_role($node, $db, 'postgres', 'SELECT invite_sync.unguard_trigger(tgname) FROM pg_trigger WHERE tgfoid = to_regprocedure(\'invite_sync.guard()\')');
	is(trigger_picture($node, $db), $bare, "$what: unguarded, they are what they were before they were guarded");
	is(heard($node, $db, 5), $said, "$what: and run as before");
	$node->stop;
}

# unguarded without attach() in between
{
	my $what = 'unguard without attach()';
	my $node = durable_cluster('direct');
	program($node, 'psql', '-X', '-q', '-d', 'template1', '-f', "$dir/globals.sql");
	value($node, 'template1', "CREATE DATABASE $db OWNER postgres");
	program($node, 'pg_restore', '-d', $db, "$dir/app.dir");
	as_role($node, $db, 'postgres', 'SELECT invite_sync.unguard_trigger(tgname) FROM pg_trigger WHERE tgfoid = to_regprocedure(\'invite_sync.guard()\')');
	is(trigger_picture($node, $db), $bare, "$what: the triggers are what they were before they were guarded");
	is(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine'), 0, "$what: their quarantine is forgotten");
	$node->stop;
}

# ---------------------------------------------------------------------------
# A function renamed, or moved, after it was put under guard

{
	my $what = 'functions renamed';
	value($old, 'template1', "CREATE DATABASE copy TEMPLATE $db");
	for my $name ($db, 'copy')
	{
		value($old, $name, 'ALTER FUNCTION public.hear() RENAME TO listen; CREATE SCHEMA moved; ALTER FUNCTION public.hear_all() SET SCHEMA moved');
		is(heard($old, $name, 6), $said, "$what: the guard follows them" . ($name eq 'copy' ? ', in a copy of the database too' : ''));
	}
	is(as_role($old, $db, 'postgres', q{SELECT count(*) FROM invite_sync.verify() WHERE object = 'on_signup' AND fix = 'SELECT invite_sync.attach();'}), 1,
		"$what: verify() says that the next dump would not");
	is(as_role($old, $db, 'postgres', 'SELECT invite_sync.attach()'), 't', "$what: attach() writes the new names down");
	is(value($old, $db, q{SELECT string_agg(DISTINCT function_schema || '.' || function_name, ', ') FROM invite_sync.guarded_trigger WHERE trigger_name IN ('on_signup', 'after_all')}),
		'moved.hear_all, public.listen', "$what: and these they are");

	my (undef, $dump) = program($old, 'pg_dump', '--no-sync', $db);
	PostgreSQL::Test::Utils::append_to_file("$dir/renamed.sql", $dump);
	my $node = durable_cluster('renamed');
	program($node, 'psql', '-X', '-q', '-d', 'template1', '-f', "$dir/globals.sql");
	value($node, 'template1', "CREATE DATABASE $db OWNER postgres");
	program($node, 'psql', '-X', '-q', '-d', $db, '-f', "$dir/renamed.sql");
	is(heard($node, $db, 7), $said, "$what: so it does after a restore");

	# and where it is not found at all
	value($node, $db, 'ALTER FUNCTION public.listen() RENAME TO lost');
	my $signup = run_as($node, $db, 'supabase_auth_admin', signup('a', 3, 'a3@example.com'));
	ok($signup->{ok}, "$what: one that is not found stops no signup") or diag($signup->{stderr});
	is(value($node, $db, sprintf q{SELECT trigger_name || ' ' || sqlstate FROM invite_sync.quarantine WHERE user_id = '%s'}, user_id('a', 3)), 'on_signup 42883',
		"$what: but is in quarantine");
	like(as_role($node, $db, 'postgres', q{SELECT object, finding, detail FROM invite_sync.verify() WHERE severity = 'error'}),
		qr/on_signup\|the function of the guarded trigger is gone\|public\.listen\(\) cannot be found/, "$what: and verify() names it");
	$node->stop;
	value($old, $db, 'ALTER FUNCTION public.listen() RENAME TO hear; ALTER FUNCTION moved.hear_all() SET SCHEMA public; DROP SCHEMA moved');
	as_role($old, $db, 'postgres', 'SELECT invite_sync.attach()');
	is(trigger_picture($old, $db), $guarded, "$what: and back");
}

# ---------------------------------------------------------------------------
# DROP

# Every database begins as the one above: a copy of it.
my $number = 0;
sub fresh_database
{
	my $name = 'drop' . ++$number;
	new_database($old, $name, $db);
	return $name;
}

{
	my $what = 'attached and guarded';
	my $name = fresh_database();
	my @ours = qw(invite_sync_insert invite_sync_update Invite_sync_delete);
	my $drop = run_as($old, $name, 'supabase_admin', 'DROP EXTENSION invite_sync');
	is($drop->{sqlstate}, '2BP01', "$what: DROP EXTENSION is refused");
	like($drop->{stderr}, qr/trigger \Q$_\E on table auth\.users depends on function/, "$what: and names $_") for @ours, trigger_names();

	as_role($old, $name, 'postgres', 'SELECT invite_sync.detach()');
	$what = 'detached and guarded';
	is(heard($old, $name, 7), $said, "$what: the application's triggers go on");
	$drop = run_as($old, $name, 'supabase_admin', 'DROP EXTENSION invite_sync');
	is($drop->{sqlstate}, '2BP01', "$what: DROP EXTENSION is refused");
	like($drop->{stderr}, qr/trigger \Q$_\E on table auth\.users depends on function/, "$what: and names $_") for trigger_names();
	unlike($drop->{stderr}, qr/trigger \Q$_\E on/, "$what: but not $_") for @ours;
	is(run_as($old, $name, 'supabase_admin', 'DROP FUNCTION invite_sync.guard()')->{sqlstate}, '2BP01', "$what: DROP FUNCTION invite_sync.guard() is refused");
	is(run_as($old, $name, 'supabase_admin', 'DROP SCHEMA "Odd "" Schema" CASCADE')->{sqlstate}, '00000', "$what: the application's schema can be dropped with CASCADE");
	is(value($old, $name, q{SELECT count(*) FROM pg_trigger WHERE tgname = 'On "Sign-up"'}), 0, "$what: and its trigger goes with it");
	like(as_role($old, $name, 'postgres', 'SELECT object, finding, fix FROM invite_sync.verify()'), qr/On "Sign-up"\|the guarded trigger is gone from auth\.users\|SELECT invite_sync\.unguard_trigger\('On "Sign-up"'\)/,
		"$what: which verify() reports");
	is(as_role($old, $name, 'postgres', q{SELECT invite_sync.unguard_trigger('On "Sign-up"')}), 't', "$what: what is gone can be forgotten");
	my $signup = run_as($old, $name, 'supabase_auth_admin', signup('a', 4, 'a4@example.com'));
	ok($signup->{ok}, "$what: signups go on") or diag($signup->{stderr});
}

{
	my $what = 'DROP EXTENSION CASCADE';
	my $name = fresh_database();
	my $functions = q{SELECT string_agg(oid::regprocedure || ' ' || md5(prosrc), ', ' ORDER BY oid) FROM pg_proc WHERE pronamespace::regnamespace::text IN ('public', '"Odd "" Schema"')};
	my $before_drop = value($old, $name, $functions);
	my $auth = InviteSyncTest::session($old, $name, 'supabase_auth_admin');
	$auth->must(signup('a', 5, 'a5@example.com'));
	ok(run_as($old, $name, 'supabase_admin', 'DROP EXTENSION invite_sync CASCADE')->{ok}, "$what succeeds");
	is(trigger_picture($old, $name), '', "$what: takes the guarded triggers along");
	is(value($old, $name, $functions), $before_drop, "$what: but none of the application's functions");
	is(value($old, $name, q{SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('invite_sync')}), 0, "$what: nothing of ours is left");
	ok($auth->query(signup('a', 6, 'a6@example.com'))->{ok}, "$what: signups of a session from before go on");
	ok($auth->query("DELETE FROM auth.users WHERE id = '" . user_id('a', 6) . "'")->{ok}, "$what: and deletions");
	$auth->close;
}

{
	my $what = 'unguarded and detached';
	my $name = fresh_database();
	as_role($old, $name, 'postgres', 'SELECT invite_sync.unguard_trigger(tgname) FROM pg_trigger WHERE tgfoid = to_regprocedure(\'invite_sync.guard()\'); SELECT invite_sync.detach()');
	is(trigger_picture($old, $name), $bare, "$what: the triggers are as they were");
	my $drop = run_as($old, $name, 'supabase_admin', 'DROP EXTENSION invite_sync');
	ok($drop->{ok}, "$what: DROP EXTENSION") or diag($drop->{stderr});
	is(trigger_picture($old, $name), $bare, "$what: the triggers stay");
	is(heard($old, $name, 8), $said, "$what: and run as before");
	is(value($old, $name, q{SELECT count(*) FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.oid = d.objid)}), 0, "$what: no dependency of a trigger that is not there");
	is(value($old, $name, q{SELECT count(*) FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = d.refobjid)}), 0, "$what: nor one on a function that is not there");
	is(value($old, $name, q{SELECT string_agg(pg_describe_object(classid, objid, objsubid), ', ') FROM pg_depend WHERE pg_describe_object(refclassid, refobjid, refobjsubid) ~ 'invite_sync\.|(extension|schema) invite_sync'}),
		'', "$what: and nothing knows us");
}

# in the transaction that is rolled back nothing is lost
{
	my $what = 'DROP EXTENSION CASCADE rolled back';
	my $name = fresh_database();
	value($old, $name, 'BEGIN; DROP EXTENSION invite_sync CASCADE; ROLLBACK');
	is(trigger_picture($old, $name), $guarded, "$what: the triggers are guarded as before");
	is(heard($old, $name, 9), $said, "$what: and run as before");
}

$old->stop;
done_testing();
