# A failover to a standby on which the package was not installed: what fails
# there, the one statement that helps, and the way back to all users synced.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncInstall qw(copy_installation);
use InviteSyncLife qw(durable_cluster as_role value user_id bulk_signup_sql signup standard_targets out_of_step contents);
use InviteSyncTest qw(prepare_database session run_as change_email_sql delete_user_sql);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'app';
my $primary = durable_cluster('primary', allows_streaming => 1);
prepare_database($primary, $db);
standard_targets($primary, $db);

# A trigger and a gate of the application, both under guard
value($primary, $db, <<'SQL');
CREATE TABLE public.welcome (id uuid);
GRANT INSERT ON public.welcome TO supabase_auth_admin;
CREATE FUNCTION public.on_signup() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.welcome VALUES (NEW.id); RETURN NULL; END $$;
CREATE TRIGGER on_signup AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.on_signup();
CREATE FUNCTION public.only_ours() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.email LIKE '%@evil.example' THEN
		RAISE EXCEPTION 'not from there';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER only_ours BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.only_ours();
SQL
as_role($primary, $db, 'postgres', q{SELECT invite_sync.guard_trigger('on_signup'); SELECT invite_sync.guard_trigger('only_ours', on_failure => 'refuse')});
as_role($primary, $db, 'supabase_auth_admin', bulk_signup_sql('a', 1, 100));
is(out_of_step($primary, $db), '', 'on the primary users are synced');

my $install = copy_installation(PostgreSQL::Test::Utils::tempdir() . '/without');
my $library = "$install->{pkglibdir}/invite_sync.so";
rename $library, "$library.hidden" or die "could not hide $library: $!";

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $install->{path});
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
as_role($primary, $db, 'supabase_auth_admin', signup('a', 101, 'a101@example.com'));
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));

is(value($standby, $db, 'SELECT count(*) FROM public.profiles'), 101, 'a standby without the package replicates');
is(run_as($standby, $db, 'postgres', 'SELECT count(*) FROM invite_sync.sync_status()')->{sqlstate}, '58P01', 'our functions say what is missing');

$primary->stop('immediate');
$standby->promote;
my $auth = session($standby, $db, 'supabase_auth_admin');

# ---------------------------------------------------------------------------
# What fails

for my $case ([ 'a signup', signup('b', 1, 'b1@example.com') ],
	[ 'a login', "UPDATE auth.users SET last_sign_in_at = now() WHERE id = '" . user_id('a', 1) . "'" ],
	[ 'a change of email', change_email_sql(user_id('a', 1), 'changed@example.com') ],
	[ 'a deletion', delete_user_sql(user_id('a', 1)) ])
{
	my ($what, $sql) = @$case;
	my $result = $auth->query($sql);
	is($result->{sqlstate}, '58P01', "$what fails");
	like($result->{message}, qr/could not access file "(?:\$libdir\/)?invite_sync"/, "$what: and says why");
	$auth->query('ROLLBACK');
}
ok(run_as($standby, $db, 'postgres', "UPDATE public.profiles SET full_name = 'edited' WHERE id = '" . user_id('a', 1) . "'")->{ok}, 'the application goes on');
is(run_as($standby, $db, 'postgres', 'SELECT invite_sync.detach()')->{sqlstate}, '58P01', 'detach() cannot help');

# ---------------------------------------------------------------------------
# What helps: one statement, by the owner of auth.users. Which triggers are ours
# is in the catalogs; of a gate somebody must decide whether to do without it.

my $statement = value($standby, $db, <<'SQL');
SELECT format('ALTER TABLE auth.users %s', string_agg(format('DISABLE TRIGGER %I', t.tgname), ', ' ORDER BY t.tgname))
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = 'auth.users'::regclass AND NOT t.tgisinternal AND p.pronamespace = 'invite_sync'::regnamespace
SQL
is($statement, 'ALTER TABLE auth.users DISABLE TRIGGER "Invite_sync_delete", DISABLE TRIGGER invite_sync_insert, DISABLE TRIGGER invite_sync_update, '
	  . 'DISABLE TRIGGER on_signup, DISABLE TRIGGER only_ours', 'the catalogs make the statement');
$auth->must($statement);
$auth->must(signup('b', 1, 'b1@example.com') . change_email_sql(user_id('a', 1), 'changed@example.com') . delete_user_sql(user_id('a', 2)));
is(value($standby, $db, q{SELECT count(*) FROM auth.users WHERE id = '} . user_id('b', 1) . q{'}), 1, 'then signups go on, in the session that had failed too');
is(value($standby, $db, q{SELECT (SELECT count(*) FROM public.profiles WHERE id = '} . user_id('b', 1) . q{'), (SELECT count(*) FROM public.welcome WHERE id = '} . user_id('b', 1) . q{')}),
	'0|0', 'but are not synced, and the guarded triggers do not run');

# ---------------------------------------------------------------------------
# The package is installed. No restart, no reconnection.

# The DDL guard is awake, and in nobody's way.
value($standby, 'template1', "ALTER DATABASE $db SET invite_sync.ddl_check = refuse");
for my $statement ('CREATE TABLE public.not_now (id int)', 'ALTER TABLE public.not_now ADD note text', 'BEGIN; DROP TABLE public.profiles; ROLLBACK',
	'CREATE INDEX CONCURRENTLY not_now_id ON public.not_now (id)', 'DROP INDEX CONCURRENTLY public.not_now_id',
	'DO $$ BEGIN ALTER TABLE public.not_now DROP COLUMN note; END $$', 'DROP TABLE public.not_now')
{
	my $result = run_as($standby, $db, 'postgres', $statement);
	ok($result->{ok}, "without the library this works: $statement") or diag($result->{stderr});
	like($result->{stderr}, qr/WARNING:.* the DDL guard of invite_sync cannot look at this command/, 'with a warning');
}
unlike(run_as($standby, $db, 'postgres', 'SET invite_sync.ddl_check = off; CREATE TABLE public.not_now (id int); DROP TABLE public.not_now')->{stderr}, qr/WARNING/, 'or without');
# A file that is no such library, as after an upgrade of the server alone.
PostgreSQL::Test::Utils::append_to_file($library, "not a library\n");
ok(run_as($standby, $db, 'postgres', 'CREATE TABLE public.not_now (id int); DROP TABLE public.not_now')->{ok}, 'nor is a file in the way that cannot be loaded');
unlink $library;

rename "$library.hidden", $library or die "could not show $library: $!";
is(run_as($standby, $db, 'postgres', 'BEGIN; DROP TABLE public.profiles')->{ok} || 0, 1, 'what the guard refuses does not matter while the triggers are off');
$auth->must(signup('b', 2, 'b2@example.com'));
my $operator = session($standby, $db, 'postgres');
like($operator->must(q{SELECT object, fix FROM invite_sync.verify() WHERE severity = 'error'}), qr/invite_sync_insert\|SELECT invite_sync\.attach\(\)/, 'verify() says that the triggers are disabled');
is($operator->must('SELECT invite_sync.attach()'), 't', 'attach() enables ours again');
is(run_as($standby, $db, 'postgres', 'DROP TABLE public.profiles')->{sqlstate}, '2BP01', 'and the guard is there again');
is(value($standby, $db, q{SELECT string_agg(concat_ws(' ', tgname, tgenabled), ', ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal}),
	'Invite_sync_delete O, invite_sync_insert O, invite_sync_update O, on_signup D, only_ours D', 'and not the guarded ones: somebody may want them off');
like($operator->must('SELECT severity, object, finding, fix FROM invite_sync.verify()'),
	qr/^(?:warning|error|info)\|only_ours\|the guarded trigger is disabled[^|]*\|.*ENABLE TRIGGER/m, 'which verify() mentions');
$auth->must('ALTER TABLE auth.users ENABLE TRIGGER on_signup, ENABLE TRIGGER only_ours');
$auth->must(signup('b', 3, 'b3@example.com'));
is(value($standby, $db, q{SELECT string_agg(id::text, ',') FROM public.welcome WHERE id::text LIKE 'b%'}), user_id('b', 3), 'enabled by hand they run again');
is($auth->query(signup('b', 4, 'b4@evil.example'))->{sqlstate}, 'P0001', 'and the gate refuses again');
$auth->query('ROLLBACK');

is($operator->must(q{SELECT missing FROM invite_sync.sync_status() WHERE target = 'public.profiles'}), 2, 'sync_status() counts who signed up meanwhile');
$operator->must('CALL invite_sync.sync_all()');
is($operator->must(q{SELECT string_agg(DISTINCT missing::text, ',') FROM invite_sync.sync_status()}), 0, 'sync_all() brings them in');
is($operator->must(q{SELECT string_agg(target || ' ' || stale, ', ' ORDER BY target) FROM invite_sync.sync_status() WHERE stale > 0}), 'public.profiles 1, public.users 1',
	'what changed meanwhile is counted as stale, because a sync does not overwrite');
$operator->must(sprintf q{SELECT count(*) FROM invite_sync.sync_users(user_id => '%s', overwrite => true)}, user_id('a', 1));
is(out_of_step($standby, $db), '', 'and everything is in step');
is($operator->must('SELECT * FROM invite_sync.verify()'), '', 'verify() has nothing to say');

$standby->stop;
done_testing();
