# pg_upgrade: a cluster with users, targets, guarded triggers and a history goes
# to another major. OLD_INSTALLATION names the PostgreSQL of the old one (a
# directory with bin/ in it, see scripts/pg_upgrade.sh); without it the cluster
# goes to a new one of the same major, which takes the same road.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGuarded qw(application_triggers guard_all trigger_names trigger_picture heard);
use InviteSyncInstall qw(installation extension_picture different);
use InviteSyncLife qw(organizations durable_cluster as_role value user_id signup in_use signups_and_events out_of_step contents catalog_picture draw_schema schema_drift);
use InviteSyncTest qw(prepare_database session run_as change_email_sql delete_user_sql);
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'app';
my $old_path = $ENV{OLD_INSTALLATION} || installation()->{path};
# 18 turns checksums on by itself, older ones do not
my @same = (extra => ['--data-checksums']);
my $old = durable_cluster('old', install_path => $old_path, @same);
prepare_database($old, $db);

# ---------------------------------------------------------------------------
# A cluster in use for some time

in_use($old, $db, <<'SQL');
CREATE TABLE public.shifted (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.shifted');
CREATE TABLE public.parts (id uuid PRIMARY KEY, email text) PARTITION BY HASH (id);
CREATE TABLE public.parts_0 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT invite_sync.add_target('public.parts');
SQL
application_triggers($old, $db);
value($old, $db, q{
CREATE ROLE first_operator;
SELECT invite_sync.grant_operator('first_operator');
ALTER ROLE first_operator RENAME TO second_operator;
CREATE ROLE first_operator IN ROLE service_role;
ALTER TABLE public.profiles ADD COLUMN dropped_one text;
ALTER TABLE public.profiles DROP COLUMN dropped_one});
my $said = heard($old, $db, 1);
guard_all($old, $db);
is(heard($old, $db, 2), $said, 'the guarded triggers run as before');

signups_and_events($old, $db, signup('a', 501, 'bad@example.com'));
as_role($old, $db, 'postgres', <<'SQL');
-- what the registry remembers by number and name in all its states: gone, under another name, in another schema, its name taken
DROP TABLE public.gone;
ALTER TABLE public.first_name RENAME TO second_name;
CREATE TABLE public.first_name (id uuid PRIMARY KEY, email text);
ALTER TABLE public.shifted SET SCHEMA "Odd Schema";
SQL
as_role($old, $db, 'supabase_auth_admin', signup('b', 1, 'b1@example.com') . change_email_sql(user_id('a', 2), 'a2 changed@example.com')
	  . delete_user_sql(user_id('a', 3)));
value($old, $db, 'REVOKE INSERT ON public.heard FROM supabase_auth_admin');
as_role($old, $db, 'supabase_auth_admin', signup('b', 2, 'b2@example.com'));
value($old, $db, 'GRANT INSERT ON public.heard TO supabase_auth_admin');
as_role($old, $db, 'postgres', <<'SQL');
SELECT invite_sync.set_alert('quarantined', 0.5, '1 month');
SELECT invite_sync.check_alerts();
SELECT invite_sync.acknowledge_alert(min(id)) FROM invite_sync.alerts;
SQL
value($old, $db, 'TRUNCATE public.heard; ALTER TABLE auth.users ENABLE ALWAYS TRIGGER invite_sync_insert');
is(value($old, $db, q{SELECT string_agg(DISTINCT concat_ws(' ', target, trigger_name, sqlstate), ', ') FROM invite_sync.quarantine}),
	'"Odd Schema"."Odd "" Table" 23514, after_all 42501, on_signup 42501, public.gone 42P01', 'there is something of everything in quarantine');

organizations($old, $db);
value($old, $db, 'ALTER TABLE public.tenant_data RENAME TO data_of_tenants');

my $drawn = draw_schema($old, $db);
my $before = contents($old, $db);
isnt($before->{$_}, '', "there is something in $_") for sort grep { !/_seq$/ } keys %$before;
my $picture = catalog_picture($old, $db);
my $status = q{SELECT target, auth_users, rows, missing, orphaned, stale, unlinked, quarantined, last_success, last_failure FROM invite_sync.sync_status() ORDER BY target};
my $old_status = value($old, $db, $status);
my $seals = 'SELECT * FROM invite_sync.verify_events() ORDER BY 1';
my $old_seals = as_role($old, $db, 'postgres', $seals);
my $guarded = trigger_picture($old, $db);
my $identifier = value($old, $db, 'SELECT system_identifier FROM pg_control_system()');
my $old_major = value($old, $db, q{SELECT current_setting('server_version_num')::int / 10000});

# ---------------------------------------------------------------------------
# pg_upgrade

my $new = durable_cluster('new', @same);
my $new_major = value($new, 'template1', q{SELECT current_setting('server_version_num')::int / 10000});

# Since November 2026 every column has a version among its options, which a new
# major refuses whose last minor release is older than that: its pg_dump hands
# the option on. Columns from before have none, so doing without is allowed.
my $versioned = q{attoptions::text LIKE '%pg_attver=%'};
if (value($new, 'template1', "SELECT count(*) FROM pg_attribute WHERE $versioned") == 0)
{
	for my $database ('template1', 'postgres', $db)
	{
		value($old, $database, qq{SET allow_system_table_mods = on; UPDATE pg_attribute SET attoptions =
	nullif(ARRAY(SELECT o FROM unnest(attoptions) o WHERE o NOT LIKE 'pg_attver=%'), '{}') WHERE $versioned});
	}
}
$old->stop;
$new->stop;
diag("from $old_major to $new_major");
isnt($new_major, $old_major, 'to another major') if $ENV{OLD_INSTALLATION};
my $work = PostgreSQL::Test::Utils::tempdir();
my $sockets = PostgreSQL::Test::Utils::tempdir_short();

sub pg_upgrade
{
	my (@options) = @_;
	my $log = '';
	my $ok = IPC::Run::run([ 'pg_upgrade', '--no-sync', '-U', 'supabase_admin', '-d', $old->data_dir, '-D', $new->data_dir,
			'-b', "$old_path/bin", '-B', installation()->{bindir}, '-s', $sockets, '-p', $old->port, '-P', $new->port, @options ],
		'>&', \$log, init => sub { chdir $work or die "could not enter $work: $!" });
	if (!$ok)
	{
		diag($log);
		diag("$_:\n" . InviteSyncTest::slurp($_)) for glob($new->data_dir . '/pg_upgrade_output.d/*/*.txt'), glob($new->data_dir . '/pg_upgrade_output.d/*/log/*.log');
	}
	return ($ok, $log);
}

my ($checked, $report) = pg_upgrade('--check');
ok($checked, 'pg_upgrade --check finds the cluster compatible');
like($report, qr/^Checking for reg\* data types in user tables +ok$|^Checking data type usage +ok$/m, 'and has no complaint about reg* columns');
unlike($report, qr/warning|fatal|incompatible/i, 'nor any other');
my ($upgraded) = pg_upgrade();
ok($upgraded, 'pg_upgrade succeeds') or BAIL_OUT('there is no cluster to look at');
$new->start;

# ---------------------------------------------------------------------------
# It is all there

isnt(value($new, $db, 'SELECT system_identifier FROM pg_control_system()'), $identifier, 'the new cluster has another system identifier');
my $after = contents($new, $db);
is_deeply([ sort keys %$after ], [ sort keys %$before ], 'the same tables and sequences');
is($after->{$_}, $before->{$_}, "$_, byte for byte") for sort keys %$before;
my $new_picture = catalog_picture($new, $db);
# 17 added a right, 18 makes constraints of NOT NULL: these are compared with a fresh installation below
my %by_major = $old_major eq $new_major ? () : map { $_ => 1 } qw(constraints extension relations);
is($new_picture->{$_}, $picture->{$_}, "$_ as before") for grep { !$by_major{$_} } sort keys %$picture;
is(value($new, $db, 'SHOW invite_sync.lock_timeout'), '700ms', 'the settings of the database');
is(schema_drift($new, $db, $drawn, "d.object_type = 'extension' AND d.property = 'version'"), '', 'the schema is the one of the snapshot');
is(as_role($new, $db, 'postgres', $seals), $old_seals, 'the seals hold');
is(value($new, $db, $status), $old_status, 'sync_status() says the same');
{
	# an update or a dump from here on starts from what a fresh CREATE EXTENSION would have made
	prepare_database($new, 'fresh');
	value($new, 'fresh', q{SELECT invite_sync.grant_operator('watcher'); SELECT invite_sync.grant_operator('second_operator')});
	my $difference = different(extension_picture($new, $db), extension_picture($new, 'fresh'));
	is_deeply($difference, {}, 'our objects are those of a fresh installation') or diag(explain($difference));
	value($new, 'template1', 'DROP DATABASE fresh');
}

# ---------------------------------------------------------------------------
# It works, before anybody has called attach()

is(heard($new, $db, 3), $said, 'the guarded triggers run, by the name of their functions');
my $signup = run_as($new, $db, 'supabase_auth_admin', signup('c', 1, 'c1@example.com') . change_email_sql(user_id('c', 1), 'c1 changed@example.com'));
ok($signup->{ok}, 'a signup succeeds') or diag($signup->{stderr});
is(value($new, $db, sprintf q{SELECT string_agg(email, ', ') FROM (SELECT email FROM public.profiles WHERE id = '%1$s' UNION ALL
		SELECT email FROM public.users WHERE id = '%1$s' UNION ALL SELECT email FROM public.second_name WHERE id = '%1$s' UNION ALL
		SELECT email FROM "Odd Schema".shifted WHERE id = '%1$s' UNION ALL SELECT email FROM public.parts WHERE id = '%1$s' UNION ALL
		SELECT "E-Mail" FROM "Odd Schema"."Odd "" Table" WHERE "User Id" = '%1$s') s}, user_id('c', 1)),
	join(', ', ('c1 changed@example.com') x 6), 'and is synced, also to a target renamed or moved before');
is(value($new, $db, 'SELECT (SELECT count(*) FROM public.first_name), (SELECT count(*) FROM public.asleep)'), '0|0', 'and to no other table');
is(value($new, $db, sprintf q{SELECT string_agg(target || ' ' || sqlstate, ', ') FROM invite_sync.quarantine WHERE user_id = '%s'}, user_id('c', 1)),
	'public.gone 42P01', 'the sync to the dropped target is in quarantine');
is(value($new, $db, q{SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND oid IN (SELECT relation::oid FROM invite_sync.target WHERE table_name = 'gone')}),
	0, 'the number of the dropped target is nobody\'s');
value($new, $db, 'TRUNCATE public.heard');

my $verify = as_role($new, $db, 'postgres', q{SELECT severity, object, finding, fix FROM invite_sync.verify() ORDER BY 2});
like($verify, qr/^warning\|\Q$_\E\|the guarded trigger's dependency on its function was lost\|SELECT invite_sync\.attach\(\);$/m, "verify() says that $_ has lost its dependency")
  for trigger_names();
like($verify, qr/^error\|public\.gone\|/m, 'and names the dropped target');
is(as_role($new, $db, 'postgres', 'SELECT invite_sync.attach()'), 't', 'attach() mends what there is to mend');
is(trigger_picture($new, $db), $guarded, 'the triggers are what they were in the old cluster');
is(run_as($new, $db, 'supabase_admin', 'DROP FUNCTION public.hear()')->{sqlstate}, '2BP01', 'DROP FUNCTION is refused again');

is(as_role($new, $db, 'postgres', 'SELECT (r).failed > 0, (r).resolved > 0 FROM (SELECT invite_sync.retry_quarantine(due_only => false) AS r) s'), 't|t', 'a retry works');
is(value($new, $db, 'SELECT string_agg(what, \',\') FROM public.heard'), qq{on_signup AFTER INSERT ROW [0:3]={a,"the 'quoted' \\"one\\"","\\\\x",""} supabase_auth_admin b2\@example.com},
	'also of the trigger that failed in the old cluster');
as_role($new, $db, 'postgres', <<'SQL');
SELECT invite_sync.drop_target('public.gone');
ALTER TABLE "Odd Schema"."Odd "" Table" DROP CONSTRAINT "Odd "" Table_E-Mail_check";
SELECT invite_sync.retry_quarantine(due_only => false);
SELECT invite_sync.set_target('public.asleep', enabled => true);
SELECT invite_sync.close_quarantine(id) FROM invite_sync.quarantine WHERE NOT replayable;
CREATE TABLE public.added (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.added');
CALL invite_sync.sync_all();
-- who went while on_delete was none
DELETE FROM public.second_name t WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = t.id);
DELETE FROM "Odd Schema".shifted t WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = t.id);
DELETE FROM public.parts t WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = t.id);
SQL
is(as_role($new, $db, 'postgres', q{SELECT * FROM invite_sync.verify() WHERE object <> 'asleep'}), '', 'without the dropped target verify() has nothing to say');
is(out_of_step($new, $db), '', 'and everything is in step');
is(as_role($new, $db, 'ops', 'SELECT invite_sync.is_operator()'), 't', 'a member of a granted role is an operator');
is(value($new, $db, q{SELECT string_agg(concat_ws(' ', role, active), ', ' ORDER BY role) FROM invite_sync.operator}), 'first_operator t, once_operator f, postgres t, watcher t', 'and who was one is none');
is(value($new, $db, "SET ROLE $_; SELECT invite_sync.is_operator()"), $_ eq 'second_operator' ? 't' : 'f', "a role that was renamed is still one, who took its name is none: $_")
  for qw(first_operator second_operator);

as_role($new, $db, 'postgres', q{SELECT invite_sync.unguard_trigger(tgname) FROM pg_trigger WHERE tgfoid = to_regprocedure('invite_sync.guard()'); SELECT invite_sync.detach()});
# known by its number, which pg_upgrade keeps
as_role($new, $db, 'postgres', q{SELECT invite_sync.unprotect_table('public.data_of_tenants')});
is(value($new, $db, q{SELECT count(*) FROM invite_sync.protected_table}), 0, 'a protected table that was renamed before is followed');
my $drop = run_as($new, $db, 'supabase_admin', 'DROP EXTENSION invite_sync');
ok($drop->{ok}, 'and the extension can be dropped') or diag($drop->{stderr});
value($new, $db, 'TRUNCATE public.heard');
is(heard($new, $db, 4), $said, 'the application\'s triggers run as they did before they were guarded');

$new->stop;
done_testing();
