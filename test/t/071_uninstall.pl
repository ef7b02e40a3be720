# uninstall_plan(): its statements, run as they are, leave the catalogs as they
# were before CREATE EXTENSION; and what cannot be seen in pg_regress of alerts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value signup);
use InviteSyncTest qw(run_as session slurp fixture_path);
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = durable_cluster('uninstall', allows_streaming => 1);

# Everything that the catalogs know by name, with rights and owners, and the
# rest by number; not what depends on time or on numbers that are given out.
my $picture = <<'SQL';
SET search_path = pg_catalog;
SELECT line FROM (
	SELECT concat_ws(' ', 'role', r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
		r.rolbypassrls, r.rolconnlimit, s.description)
	FROM pg_roles r LEFT JOIN pg_shdescription s ON s.objoid = r.oid AND s.classoid = 'pg_authid'::regclass
	UNION ALL SELECT concat_ws(' ', 'membership', roleid::regrole, member::regrole, admin_option) FROM pg_auth_members
	UNION ALL SELECT concat_ws(' ', 'setting', setdatabase, setrole, setconfig) FROM pg_db_role_setting
	UNION ALL SELECT concat_ws(' ', 'parameter', parname, paracl) FROM pg_parameter_acl
	UNION ALL SELECT concat_ws(' ', 'database', datname, datdba::regrole, datacl) FROM pg_database
	UNION ALL SELECT concat_ws(' ', 'extension', extname, extversion) FROM pg_extension
	UNION ALL SELECT concat_ws(' ', 'schema', nspname, nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
	UNION ALL SELECT concat_ws(' ', 'class', oid::regclass, relkind, relowner::regrole, relacl, reloptions, relhastriggers, relrowsecurity,
		relforcerowsecurity, relhasrules, relnatts)
	FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace
	UNION ALL SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, attname, atttypid::regtype, attnotnull, attacl)
	FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'v', 'p', 'c') AND relnamespace <> 'pg_catalog'::regnamespace)
	UNION ALL SELECT concat_ws(' ', 'function', oid::regprocedure, proowner::regrole, proacl, prosecdef, proconfig, md5(prosrc)) FROM pg_proc
	UNION ALL SELECT concat_ws(' ', 'type', oid::regtype, typowner::regrole, typacl) FROM pg_type
	UNION ALL SELECT concat_ws(' ', 'trigger', tgrelid::regclass, CASE WHEN tgisinternal THEN 'internal ' || tgfoid::regproc ELSE pg_get_triggerdef(oid) END,
		tgenabled, obj_description(oid, 'pg_trigger'))
	FROM pg_trigger
	UNION ALL SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd) FROM pg_policy
	UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid <> 0
	UNION ALL SELECT concat_ws(' ', 'default right', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl) FROM pg_default_acl
	UNION ALL SELECT concat_ws(' ', 'dependencies', classid::regclass, refclassid::regclass, deptype, count(*)) FROM pg_depend GROUP BY classid, refclassid, deptype
	UNION ALL SELECT concat_ws(' ', 'shared dependencies', classid::regclass, refclassid::regclass, deptype, refobjid::regrole, count(*))
	FROM pg_shdepend WHERE dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND refclassid = 'pg_authid'::regclass
	GROUP BY classid, refclassid, deptype, refobjid
	UNION ALL SELECT concat_ws(' ', 'comments', classoid::regclass, count(*)) FROM pg_description GROUP BY classoid
	UNION ALL SELECT concat_ws(' ', 'comments', classoid::regclass, count(*)) FROM pg_shdescription GROUP BY classoid
	UNION ALL SELECT concat_ws(' ', 'initial rights', classoid::regclass, count(*)) FROM pg_init_privs GROUP BY classoid
	UNION ALL SELECT concat_ws(' ', 'labels', count(*)) FROM pg_seclabel
	UNION ALL SELECT concat_ws(' ', 'rules', count(*)) FROM pg_rewrite
	UNION ALL SELECT concat_ws(' ', 'event triggers', count(*)) FROM pg_event_trigger
	UNION ALL SELECT concat_ws(' ', 'publications', count(*)) FROM pg_publication
	UNION ALL SELECT concat_ws(' ', 'large objects', count(*)) FROM pg_largeobject_metadata
) AS l (line) ORDER BY line COLLATE "C";
SQL

sub picture
{
	my ($db) = @_;
	return { map { $_ => 1 } split /\n/, value($node, $db, $picture) };
}

# What one has and the other has not.
sub compare
{
	my ($before, $after, $what) = @_;
	my @lost = grep { !$after->{$_} } sort keys %$before;
	my @left = grep { !$before->{$_} } sort keys %$after;
	is(join("\n", (map { "lost: $_" } @lost), map { "left: $_" } @left), '', $what);
	return;
}

# An application with tables and triggers of its own, before there is anything of ours.
sub application
{
	my ($db) = @_;
	$node->safe_psql('template1', qq{CREATE DATABASE "$db"});
	$node->safe_psql($db, slurp(fixture_path()));
	value($node, $db, <<'SQL');
CREATE TABLE public.log (id uuid);
GRANT INSERT ON public.log TO supabase_auth_admin;
CREATE FUNCTION public.write_log() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.log VALUES (NEW.id); RETURN NEW; END$$;
CREATE TRIGGER write_log AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.write_log('an argument');
COMMENT ON TRIGGER write_log ON auth.users IS 'written by hand';
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER write_log;
CREATE FUNCTION public.domain_gate() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.email LIKE '%@evil.example' THEN RAISE 'no'; END IF; RETURN NEW; END$$;
CREATE TRIGGER domain_gate BEFORE INSERT OR UPDATE OF email ON auth.users FOR EACH ROW WHEN (NEW.email IS NOT NULL) EXECUTE FUNCTION public.domain_gate();
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, email text CHECK (email NOT LIKE 'bad%'), full_name text);
ALTER TABLE public.profiles OWNER TO postgres;
SQL
	return;
}

# All that leaves traces.
sub use_it
{
	my ($db) = @_;
	value($node, $db, <<'SQL');
CREATE EXTENSION invite_sync;
SELECT invite_sync.grant_operator('deploy');
SELECT invite_sync.grant_operator('dashboard_user');
SELECT invite_sync.revoke_operator('dashboard_user');
SELECT invite_sync.grant_dump('deploy');
SQL
	as_role($node, $db, 'postgres', <<'SQL');
SELECT invite_sync.add_target('public.profiles', on_delete => 'delete');
SELECT invite_sync.guard_trigger('write_log');
SELECT invite_sync.guard_trigger('domain_gate', on_failure => 'refuse');
SELECT invite_sync.set_alert('missing', 0);
SQL
	as_role($node, $db, 'supabase_auth_admin', signup('a', $_, "good$_\@example.com")) for 1 .. 3;
	as_role($node, $db, 'supabase_auth_admin', signup('a', 4, 'bad@example.com'));
	value($node, $db, qq{
ALTER DATABASE "$db" SET invite_sync.log_refusals = on;
ALTER ROLE deploy IN DATABASE "$db" SET invite_sync.lock_timeout = '2s';
SELECT invite_sync.check_alerts();
SELECT invite_sync.health();
SELECT invite_sync.seal_events();
});
	return;
}

sub run_plan
{
	my ($db) = @_;
	my $session = session($node, $db, 'supabase_admin');
	my @steps = split /\x1e/, $session->must(q{SELECT string_agg(statement, chr(30) ORDER BY step) FROM invite_sync.uninstall_plan()});
	for my $statement (@steps)
	{
		my $result = $session->query($statement);
		ok($result->{ok}, $statement) or diag($result->{stderr});
	}
	$session->close;
	return @steps;
}

# ---------------------------------------------------------------------------
# The only database of the cluster that has it

value($node, 'postgres', 'CREATE ROLE deploy LOGIN');
application('one');
my $before = picture('one');
use_it('one');

# what only looks says the same on a standby
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('uninstall_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
for my $query ('SELECT status, checks, warnings FROM invite_sync.health()', 'SELECT invite_sync.config_sql()',
	'SELECT * FROM invite_sync.uninstall_plan()', 'SELECT * FROM invite_sync.alerts')
{
	my $there = run_as($standby, 'one', 'postgres', $query);
	ok($there->{ok} && $there->{out} ne '', "on a standby: $query") or diag($there->{stderr});
	is($there->{out}, as_role($node, 'one', 'postgres', $query), 'as on the primary');
}
my $acting = run_as($standby, 'one', 'postgres', q{BEGIN READ ONLY; SELECT invite_sync.act_as('a0000001-0000-4000-8000-000000000000') IS NOT NULL;
SELECT current_user; COMMIT});
is($acting->{out}, "t\nauthenticated", 'act_as() on a standby') or diag($acting->{stderr});
is(run_as($standby, 'one', 'postgres', 'SELECT invite_sync.check_alerts()')->{sqlstate}, '25006', 'check_alerts() writes, so not there');
$standby->stop;

# refused while anything is attached: the way back is the plan
my $result = run_as($node, 'one', 'supabase_admin', 'DROP EXTENSION invite_sync');
is($result->{sqlstate}, '2BP01', 'DROP EXTENSION is refused while its triggers are on auth.users');
is(value($node, 'one', 'SELECT count(*) FROM invite_sync.quarantine_entry'), '1', 'something waits in quarantine');
value($node, 'one', 'ALTER TABLE public.profiles DROP CONSTRAINT profiles_email_check');

# an operator who is no superuser comes as far as the superuser's steps
my @steps = split /\n/, as_role($node, 'one', 'postgres', 'SELECT statement FROM invite_sync.uninstall_plan() ORDER BY step');
is(scalar(@steps), scalar(split /\n/, value($node, 'one', 'SELECT step FROM invite_sync.uninstall_plan()')),
	'operators get the same plan');

run_plan('one');
value($node, 'one', q{ALTER TABLE public.profiles ADD CONSTRAINT profiles_email_check CHECK (email NOT LIKE 'bad%') NOT VALID;
UPDATE pg_constraint SET convalidated = true WHERE conname = 'profiles_email_check'});
compare($before, picture('one'), 'the catalogs are as before');
is(value($node, 'one', 'SELECT count(*) FROM public.profiles'), '4', 'the rows stay, and the one in quarantine came in last');
as_role($node, 'one', 'supabase_auth_admin', signup('a', 5, 'after@example.com'));
is(value($node, 'one', 'SELECT count(*) FROM public.log'), '5', 'the triggers of before do their work');
is(value($node, 'one', 'SELECT count(*) FROM public.profiles'), '4', 'and ours are gone');

# ---------------------------------------------------------------------------
# One of two: what the other needs stays

value($node, 'one', 'CREATE EXTENSION invite_sync');
application('two');
$before = picture('two');
use_it('two');
value($node, 'two', 'ALTER TABLE public.profiles DROP CONSTRAINT profiles_email_check');
run_plan('two');
value($node, 'two', q{ALTER TABLE public.profiles ADD CONSTRAINT profiles_email_check CHECK (email NOT LIKE 'bad%') NOT VALID;
UPDATE pg_constraint SET convalidated = true WHERE conname = 'profiles_email_check'});
my $after = picture('two');
# deploy became an operator in this one; the right is the cluster's
delete $before->{$_} for grep { /^(parameter|shared dependencies pg_parameter_acl) / } keys %$before;
delete $after->{$_} for grep { /^(parameter|shared dependencies pg_parameter_acl) / } keys %$after;
compare($before, $after, 'with another database using it: the catalogs are as before');
as_role($node, 'one', 'postgres', q{SELECT invite_sync.add_target('public.profiles'); SET invite_sync.log_refusals = on});
as_role($node, 'one', 'supabase_auth_admin', signup('a', 6, 'other@example.com'));
is(value($node, 'one', q{SELECT count(*) FROM public.profiles WHERE email = 'other@example.com'}), '1', 'which goes on working');

# ---------------------------------------------------------------------------
# The notification of an alert, and only when it is committed

as_role($node, 'one', 'postgres', q{SELECT invite_sync.set_alert('missing', 1)});
my $listener = session($node, 'one', 'service_role');
$listener->must('LISTEN invite_sync_alert');
value($node, 'one', 'BEGIN; SELECT invite_sync.check_alerts(); ROLLBACK');
unlike($listener->must('SELECT 1'), qr/notification/, 'a rolled back check tells nobody');
value($node, 'one', 'DELETE FROM public.profiles; SELECT invite_sync.check_alerts()');
my $alert = value($node, 'one', 'SELECT id FROM invite_sync.alerts');
like($listener->must('SELECT 1'), qr/notification "invite_sync_alert" with payload "\Q$alert\E"/, 'an alert is notified with its id');
$listener->close;

# two at once: one alert
my ($first, $second) = map { session($node, 'one', 'supabase_admin') } 1 .. 2;
$_->must(q{SELECT invite_sync.acknowledge_alert(id) FROM invite_sync.alerts}) for $first;
value($node, 'one', 'CALL invite_sync.sync_all()');
value($node, 'one', 'SELECT invite_sync.check_alerts()');
value($node, 'one', 'DELETE FROM public.profiles');
$first->must('BEGIN; SELECT invite_sync.check_alerts()');
is($second->must('SELECT checked FROM invite_sync.check_alerts()'), '0', 'a check that another session evaluates is left to it');
$first->must('COMMIT');
is($second->must('SELECT opened FROM invite_sync.check_alerts()'), '0', 'and what it found stands');
is(value($node, 'one', q{SELECT count(*) FROM invite_sync.alerts WHERE state = 'open'}), '1', 'one alert');
$_->close for $first, $second;

$node->stop;
done_testing();
