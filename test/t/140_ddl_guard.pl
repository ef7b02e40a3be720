# The DDL guard under "refuse", set on the database, is in nobody's way who does
# nothing wrong: whoever restores a dump, by pg_restore or by psql, into a new
# database or over the one that is there, upgrades the cluster, creates, alters
# and drops extensions, or migrates the auth schema as the auth server does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncInstall qw(installation put_file);
use InviteSyncLife qw(durable_cluster as_role value signup user_id);
use InviteSyncTest qw(prepare_database run_as session);
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'app';
my $dir = PostgreSQL::Test::Utils::tempdir();
# pg_upgrade wants them to be the same; 18 has them by itself
my @same = (extra => ['--data-checksums']);
my $node = durable_cluster('main', @same);
prepare_database($node, $db);
as_role($node, $db, 'postgres', <<'SQL');
CREATE SCHEMA application;
CREATE TYPE application.plan AS ENUM ('free', 'paid');
CREATE FUNCTION application.tidy(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, email text UNIQUE,
	plan application.plan NOT NULL DEFAULT 'free', full_name text CHECK (length(full_name) < 100));
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.profiles USING (id = auth.uid());
SELECT invite_sync.add_target('public.profiles', '{"email": "application.tidy(email)", "full_name": "raw_user_meta_data->>''full_name''"}');
CREATE TABLE application.members (user_id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('application.members');
SQL
as_role($node, $db, 'supabase_auth_admin', join '', map { signup('a', $_, "a$_\@example.com") } 1 .. 20);
# a setting that a session which has not loaded the library yet takes as well
value($node, 'template1', "ALTER DATABASE $db SET invite_sync.ddl_check = refuse");

sub refused
{
	my ($sql, $what, $role) = @_;
	my $result = run_as($node, $db, $role || 'postgres', $sql);
	is($result->{sqlstate}, '2BP01', $what) or diag($result->{stderr});
	return;
}

sub works
{
	my ($role, $sql, $what) = @_;
	my $result = run_as($node, $db, $role, $sql);
	ok($result->{ok}, $what) or diag("$result->{sqlstate} $result->{message}\n$result->{stderr}");
	return;
}

my $broken = 'ALTER TABLE public.profiles DROP COLUMN email';
refused($broken, 'what breaks a sync is refused');
refused('DROP TABLE application.members', 'so is dropping a target');
refused('DROP TABLE application.members', 'to a superuser as well', 'supabase_admin');
is(value($node, $db, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.profiles'::regclass AND attname = 'email'}), 1, 'and is not done');

# ---------------------------------------------------------------------------
# Whose setting it is, and no superuser is needed for it

for my $case ([ 'postgres', 'ALTER ROLE postgres IN DATABASE app SET invite_sync.ddl_check = warn' ], [ 'authenticator', 'ALTER ROLE authenticator SET invite_sync.ddl_check = off' ])
{
	my ($role, $sql) = @$case;
	my $result = run_as($node, $db, $role, $sql);
	is($result->{ok} ? 'done' : $result->{sqlstate}, $role eq 'postgres' ? 'done' : '42501', "$role: $sql");
}
my $warned = run_as($node, $db, 'postgres', "BEGIN; $broken; ROLLBACK");
ok($warned->{ok} && $warned->{stderr} =~ /WARNING:.* this command breaks the sync to public\.profiles/, 'a new session has what an operator has set');
works('postgres', 'ALTER ROLE postgres IN DATABASE app RESET invite_sync.ddl_check', 'and reset');

# ---------------------------------------------------------------------------
# Nobody waits for it, and it for nobody

my $other_session = session($node, $db, 'postgres');
$other_session->must('BEGIN; ALTER TABLE application.members ADD held int');
works('postgres', "SET statement_timeout = '5s'; CREATE TABLE public.meanwhile (id int); ALTER TABLE public.profiles ADD meanwhile int; ALTER TABLE public.profiles DROP meanwhile; DROP TABLE public.meanwhile",
	'while a target is held by another session');
refused("SET statement_timeout = '5s'; $broken", 'and the targets that are not held are guarded');
$other_session->must('ROLLBACK');

# what the body of a guarded trigger names: as many lock waits as statements would be
my $statements = join ' ', map { "PERFORM FROM public.busy WHERE n = $_;" } 1 .. 20;
as_role($node, $db, 'postgres', <<"SQL");
CREATE TABLE public.busy (n int);
CREATE FUNCTION public.busily() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS \$\$BEGIN $statements RETURN NULL; END\$\$;
SQL
as_role($node, $db, 'supabase_admin', 'CREATE TRIGGER busily AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.busily()');
as_role($node, $db, 'postgres', q{SELECT invite_sync.guard_trigger('busily')});
$other_session->must('BEGIN; LOCK TABLE public.busy');
works('postgres', "SET statement_timeout = '1s'; ALTER TABLE public.profiles ADD meanwhile int; ALTER TABLE public.profiles DROP meanwhile", 'while what a guarded trigger writes is held');
is(value($node, $db, q{SELECT DISTINCT severity || ' ' || finding FROM invite_sync.doctor() WHERE object = 'public.busily()'}),
	'info a statement was not looked at: what it names is locked', 'of which doctor() says that it could not look');
$other_session->must('ROLLBACK');
$other_session->close;
as_role($node, $db, 'postgres', q{SELECT invite_sync.unguard_trigger('busily')});
as_role($node, $db, 'supabase_admin', 'DROP TRIGGER busily ON auth.users; DROP FUNCTION public.busily(); DROP TABLE public.busy');

# ---------------------------------------------------------------------------
# Extensions

works('supabase_admin', $_, $_)
  for 'CREATE EXTENSION hstore SCHEMA extensions', 'ALTER EXTENSION hstore SET SCHEMA application', 'ALTER EXTENSION hstore UPDATE',
  'ALTER EXTENSION hstore ADD FUNCTION application.tidy(text)', 'ALTER EXTENSION hstore DROP FUNCTION application.tidy(text)',
  'DROP EXTENSION hstore', 'ALTER EXTENSION invite_sync UPDATE',
  'BEGIN; DROP EXTENSION invite_sync CASCADE; DROP TABLE application.members; ROLLBACK';

# One whose script does what a user would be refused. The installation is a copy of the tests' own (scripts/with-cluster.sh).
my $extension = installation()->{extension} . '/ddl_guard_test';
put_file("$extension.control", "default_version = '1'\nrelocatable = false\nschema = application\n");
put_file("$extension--1.sql", "ALTER TABLE public.profiles RENAME full_name TO named;\nALTER TABLE public.profiles RENAME named TO full_name;\n");
works('supabase_admin', 'CREATE EXTENSION ddl_guard_test', 'a script of an extension may go through what nobody else may');
value($node, $db, 'DROP EXTENSION ddl_guard_test');
unlink "$extension.control", "$extension--1.sql";

# ---------------------------------------------------------------------------
# The auth server's migrations, as its role makes them on its own schema

works('supabase_auth_admin', $_, $_) for
  'ALTER TABLE users ADD COLUMN IF NOT EXISTS nickname text NULL',
  'ALTER TABLE auth.users ALTER COLUMN nickname TYPE varchar(100)',
  'ALTER TABLE auth.users RENAME COLUMN nickname TO nick',
  'ALTER TABLE auth.users DROP COLUMN nick',
  q{CREATE TYPE auth.kind AS ENUM ('one')}, q{ALTER TYPE auth.kind ADD VALUE 'two'}, 'DROP TYPE auth.kind',
  'CREATE TABLE IF NOT EXISTS auth.later (id uuid PRIMARY KEY, user_id uuid REFERENCES auth.users (id) ON DELETE CASCADE)',
  'DROP TABLE auth.later',
  q{DO $$ BEGIN ALTER TABLE auth.identities ADD COLUMN IF NOT EXISTS later text; ALTER TABLE auth.identities DROP COLUMN IF EXISTS later; END $$},
  'DROP INDEX IF EXISTS users_instance_id_email_idx', 'CREATE INDEX users_instance_id_email_idx ON auth.users (instance_id, lower(email))',
  # even what no migration has done yet
  'BEGIN; ALTER TABLE auth.users DROP COLUMN raw_user_meta_data; ROLLBACK',
  'BEGIN; ALTER TABLE auth.users RENAME COLUMN email TO address; ROLLBACK';
refused('ALTER TABLE auth.users DROP COLUMN raw_user_meta_data', 'by somebody else it is refused', 'supabase_admin');

# ---------------------------------------------------------------------------
# Dump and restore

sub program
{
	my ($on, @command) = @_;
	local $ENV{PGHOST} = $on->host;
	local $ENV{PGPORT} = $on->port;
	local $ENV{PGUSER} = 'supabase_admin';
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	return ($ok, $out, $err);
}

sub no_errors
{
	my ($what, $on, @command) = @_;
	my ($ok, undef, $err) = program($on, @command);
	my $errors = join "\n", grep { /ERROR|FATAL|error:|WARNING/ } split /\n/, $err;
	ok($ok && $errors eq '', $what) or diag($err);
	return;
}

# The rows that a restore must bring back, and that it is guarded again.
sub same_as_before
{
	my ($on, $name, $what) = @_;
	is(value($on, $name, 'SELECT (SELECT count(*) FROM auth.users), (SELECT count(*) FROM public.profiles WHERE email IS NOT NULL), (SELECT count(*) FROM application.members), (SELECT count(*) FROM invite_sync.target_list)'),
		'20|20|20|2', "$what: nothing is missing");
	value($on, $name, "ALTER DATABASE $name SET invite_sync.ddl_check = refuse");
	is(run_as($on, $name, 'postgres', $broken)->{sqlstate}, '2BP01', "$what: it refuses again");
	return;
}

no_errors('pg_dump', $node, 'pg_dump', '-f', "$dir/plain.sql", '--no-sync', $db);
no_errors('pg_dump -C', $node, 'pg_dump', '-C', '-f', "$dir/create.sql", '--no-sync', $db);
no_errors('pg_dump --clean', $node, 'pg_dump', '--clean', '--if-exists', '-f', "$dir/clean.sql", '--no-sync', $db);
no_errors('pg_dump -Fc', $node, 'pg_dump', '-Fc', '-f', "$dir/custom", '--no-sync', $db);
no_errors('pg_dump -Fd', $node, 'pg_dump', '-Fd', '-f', "$dir/directory", '--no-sync', $db);
like(InviteSyncTest::slurp("$dir/create.sql"), qr/SET "invite_sync.ddl_check" TO 'refuse'|SET invite_sync\.ddl_check TO 'refuse'/, 'the setting of the database is in the dump');
unlike(InviteSyncTest::slurp("$dir/create.sql"), qr/EVENT TRIGGER/, 'the event triggers are not: they come with the extension');

# New databases that have the setting from the beginning.
for my $name (qw(by_psql by_pg_restore by_jobs by_parts))
{
	value($node, 'template1', "CREATE DATABASE $name");
	value($node, 'template1', "ALTER DATABASE $name SET invite_sync.ddl_check = refuse");
}
no_errors('psql restores', $node, 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'by_psql', '-f', "$dir/plain.sql");
same_as_before($node, 'by_psql', 'psql');
no_errors('pg_restore restores', $node, 'pg_restore', '--exit-on-error', '-d', 'by_pg_restore', "$dir/custom");
same_as_before($node, 'by_pg_restore', 'pg_restore');
no_errors('pg_restore -j restores', $node, 'pg_restore', '--exit-on-error', '-j', 3, '-d', 'by_jobs', "$dir/directory");
same_as_before($node, 'by_jobs', 'pg_restore -j');
no_errors("pg_restore of the $_ section", $node, 'pg_restore', '--exit-on-error', "--section=$_", '-d', 'by_parts', "$dir/custom")
  for qw(pre-data data post-data);
same_as_before($node, 'by_parts', 'pg_restore by parts');

# Over the database that is there and the triggers attached.
no_errors('pg_restore --clean restores over it', $node, 'pg_restore', '--clean', '--if-exists', '--exit-on-error', '-d', 'by_pg_restore', "$dir/custom");
same_as_before($node, 'by_pg_restore', 'pg_restore --clean');
no_errors('psql restores over it', $node, 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'by_psql', '-f', "$dir/clean.sql");
same_as_before($node, 'by_psql', 'psql over it');
no_errors('pg_restore --clean of one table', $node, 'pg_restore', '--clean', '--exit-on-error', '-n', 'application', '-t', 'members', '-d', 'by_jobs', "$dir/custom");

# With CREATE DATABASE and its settings in the dump, into another cluster.
my $other = durable_cluster('other', @same);
my ($ok, $globals, $err) = program($node, 'pg_dumpall', '-g', '--no-sync');
PostgreSQL::Test::Utils::append_to_file("$dir/globals.sql", $globals);
program($other, 'psql', '-X', '-q', '-d', 'template1', '-f', "$dir/globals.sql");
no_errors('psql restores with CREATE DATABASE', $other, 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'template1', '-f', "$dir/create.sql");
is(value($other, $db, 'SELECT invite_sync.is_operator(); SHOW invite_sync.ddl_check'), "t\nrefuse", 'the setting has come along');
same_as_before($other, $db, 'with CREATE DATABASE');
$other->stop;

# ---------------------------------------------------------------------------
# DDL elsewhere costs next to nothing

value($node, $db, <<'SQL');
CREATE TABLE public.took (watched boolean, seconds float);
CREATE PROCEDURE public.measure(watched boolean) LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz;
BEGIN
	EXECUTE 'ALTER EVENT TRIGGER invite_sync_ddl_begins ' || CASE WHEN watched THEN 'ENABLE' ELSE 'DISABLE' END;
	EXECUTE 'ALTER EVENT TRIGGER invite_sync_ddl_ends ' || CASE WHEN watched THEN 'ENABLE' ELSE 'DISABLE' END;
	began := clock_timestamp();
	FOR i IN 1 .. 100 LOOP
		CREATE TABLE public.many (id int);
		ALTER TABLE public.many ADD x int;
		DROP TABLE public.many;
	END LOOP;
	INSERT INTO public.took VALUES (watched, extract(epoch FROM clock_timestamp() - began));
END $$;
SQL
value($node, $db, join ' ', 'SET client_min_messages = error;', map { "CALL public.measure($_);" } ('false', 'true') x 8);
my ($off, $on) = split /\|/, value($node, $db, 'SELECT min(seconds) FILTER (WHERE NOT watched), min(seconds) FILTER (WHERE watched) FROM public.took');
value($node, $db, 'DROP PROCEDURE public.measure(boolean); DROP TABLE public.took');
diag(sprintf '300 commands elsewhere: %.1f ms, and %.1f ms while watched; ratio %.2f', $off * 1000, $on * 1000, $on / $off);
# two targets' analyses before and after each would take ten times as long
cmp_ok($on / $off, '<', 2, 'DDL elsewhere does not wait for an analysis');

# ---------------------------------------------------------------------------
# Where event triggers do not fire

if ($node->pg_version >= 17)
{
	works('supabase_admin', "SET event_triggers = off; BEGIN; $broken; ROLLBACK", 'event_triggers = off');
}
$node->stop;
my $single = '';
IPC::Run::run([ 'postgres', '--single', '-F', '-D', $node->data_dir, $db ], '<', \"BEGIN;\n$broken;\nDROP TABLE application.members;\nROLLBACK;\n", '>&', \$single);
unlike($single, qr/ERROR|FATAL|WARNING/, 'single-user mode') or diag($single);
like($single, qr/backend>/, 'which was reached');
$node->start;

# ---------------------------------------------------------------------------
# pg_upgrade

my $new = durable_cluster('new', @same);
$node->stop;
$new->stop;
my $log = '';
my $upgraded = IPC::Run::run([ 'pg_upgrade', '--no-sync', '-U', 'supabase_admin', '-d', $node->data_dir, '-D', $new->data_dir,
		'-b', installation()->{bindir}, '-B', installation()->{bindir}, '-s', PostgreSQL::Test::Utils::tempdir_short(), '-p', $node->port, '-P', $new->port ],
	'>&', \$log, init => sub { chdir $dir or die "could not enter $dir: $!" });
ok($upgraded, 'pg_upgrade') or diag($log);
$new->start;
same_as_before($new, $db, 'pg_upgrade');
$new->stop;

done_testing();
