# The pgTAP suite for DBAs (test/pgtap/database.sql): it passes where all is
# well, fails where something is not, runs as a superuser and as Supabase's
# postgres, and leaves nothing behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value bulk_signup_sql standard_targets contents catalog_picture);
use InviteSyncTest qw(prepare_database run_as);
use Test::More;

my $suite = "$FindBin::RealBin/../pgtap/database.sql";
my $db = 'app';
my $node = durable_cluster('pgtap');
prepare_database($node, $db);

# The assertions that failed, or undef and the output when it did not come that far.
sub failures
{
	my ($role, @options) = @_;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my $out = '';
	my $ok = IPC::Run::run([ 'pg_prove', '--verbose', '-U', $role, '-d', $db, @options, $suite ], '>', \$out, '2>&1');
	my @failed = $out =~ /^not ok \d+ - (.*)$/mg;
	return $ok == !@failed && $out =~ /^1\.\.\d+$/m ? join "\n", @failed : "no result\n$out";
}

# Everything that may not change by it.
sub picture
{
	my $contents = contents($node, $db);
	delete @$contents{ grep { /_seq$/ } keys %$contents };
	my $tables = value($node, $db, <<'SQL');
SELECT string_agg(md5(t.x::text), ',' ORDER BY t.x::text) FROM (SELECT x::text FROM auth.users x UNION ALL SELECT x::text FROM public.profiles x
UNION ALL SELECT x::text FROM public.users x UNION ALL SELECT x::text FROM public.user_profiles x) t (x)
SQL
	my $objects = value($node, $db, q{SELECT count(*), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_roles) FROM pg_class});
	return { %$contents, tables => $tables, objects => $objects, %{ catalog_picture($node, $db) } };
}

is(failures('supabase_admin'), '', 'without a target the suite passes');
is(value($node, $db, q{SELECT count(*) FROM pg_extension WHERE extname = 'pgtap'}), 0, 'and pgtap is not left behind');

standard_targets($node, $db);
as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql('a', 1, 20));
my $before = picture();
is(failures('supabase_admin'), '', 'with targets it passes as well');
is_deeply(picture(), $before, 'and leaves nothing behind');
value($node, $db, 'CREATE EXTENSION pgtap SCHEMA extensions');
$before = picture();
is(failures('postgres'), '', 'it passes for postgres, who is no superuser');
is_deeply(picture(), $before, 'and leaves nothing behind');

# Each of these is found, and after it is mended the suite passes again.
my @damages = (
	[ 'a trigger is disabled', 'ALTER TABLE auth.users DISABLE TRIGGER invite_sync_update', 'ALTER TABLE auth.users ENABLE TRIGGER invite_sync_update',
		qr/trigger "invite_sync_update" is on auth\.users, and enabled/ ],
	[ 'the triggers are off', 'SELECT invite_sync.detach()', 'SELECT invite_sync.attach()', qr/trigger "invite_sync_insert" is on auth\.users/ ],
	[ 'a user has no row', 'CREATE TABLE public.kept AS SELECT * FROM public.profiles LIMIT 1; DELETE FROM public.profiles WHERE id IN (SELECT id FROM public.kept)',
		'INSERT INTO public.profiles SELECT * FROM public.kept; DROP TABLE public.kept', qr/public\.profiles: every user has a row/ ],
	[ 'a mapped column is gone', 'ALTER TABLE public.users RENAME COLUMN email TO mail', 'ALTER TABLE public.users RENAME COLUMN mail TO email', qr/verify\(\) has no errors/ ],
	[ 'PUBLIC has a right', 'GRANT SELECT ON invite_sync.quarantine TO PUBLIC', 'REVOKE SELECT ON invite_sync.quarantine FROM PUBLIC', qr/PUBLIC has no right/ ],
	[ 'anon has a right', 'GRANT EXECUTE ON FUNCTION invite_sync.sync_status() TO anon', 'REVOKE EXECUTE ON FUNCTION invite_sync.sync_status() FROM anon', qr/anon may call what policies ask and what a token is for, and read nothing/ ],
	[ 'authenticated has a right', 'GRANT SELECT ON invite_sync.event TO authenticated', 'REVOKE SELECT ON invite_sync.event FROM authenticated', qr/authenticated may call log_event\(\), what policies ask, and what is for users, read what is theirs, and nothing else/ ],
	[ 'row level security is off', 'ALTER TABLE invite_sync.event DISABLE ROW LEVEL SECURITY', 'ALTER TABLE invite_sync.event ENABLE ROW LEVEL SECURITY', qr/row level security is on/ ],
	[ 'syncing is switched off', 'ALTER DATABASE app SET invite_sync.enabled = off', 'ALTER DATABASE app RESET invite_sync.enabled', qr/syncing is not switched off/ ],
	[ 'the owner has a member', 'GRANT invite_sync_owner TO authenticated', 'REVOKE invite_sync_owner FROM authenticated', qr/invite_sync_owner has no power/ ],
	[ 'an organization without an owner', q{INSERT INTO invite_sync.organization (id, name, slug) VALUES ('d0000000-0000-4000-8000-000000000001', 'Ownerless', 'ownerless');
		INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT 'd0000000-0000-4000-8000-000000000001', u.id, '00000000-0000-4000-8000-00000000000c' FROM auth.users u LIMIT 1},
		q{DELETE FROM invite_sync.organization}, qr/every organization with members has an owner/ ],
	[ 'a membership of no organization', q{INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT gen_random_uuid(), u.id, '00000000-0000-4000-8000-00000000000c' FROM auth.users u LIMIT 1},
		q{DELETE FROM invite_sync.membership}, qr/nothing belongs to an organization or a role that does not exist/ ],
	[ 'a member who is gone', q{INSERT INTO invite_sync.organization (id, name, slug) VALUES ('d0000000-0000-4000-8000-000000000001', 'Haunted', 'haunted');
		INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('d0000000-0000-4000-8000-000000000001', gen_random_uuid(), '00000000-0000-4000-8000-00000000000a')},
		q{DELETE FROM invite_sync.organization}, qr/nobody is a member who is gone/ ],
	# a trigger of somebody else that fails signups is a finding, too
	[ 'a trigger refuses signups', q{CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'; CREATE TRIGGER refuse BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.refuse()},
		'DROP TRIGGER refuse ON auth.users; DROP FUNCTION public.refuse()', qr/a signup succeeds/ ]);
for my $damage (@damages)
{
	my ($what, $break, $mend, $found) = @$damage;
	value($node, $db, $break);
	my $broken = picture();
	like(failures('supabase_admin'), $found, "$what: found");
	is_deeply(picture(), $broken, "$what: left as it is");
	value($node, $db, $mend);
}
is(failures('supabase_admin'), '', 'when all is mended it passes');

# Nobody but operators
value($node, $db, 'CREATE ROLE bystander LOGIN; GRANT USAGE ON SCHEMA extensions TO bystander');
like(failures('bystander'), qr/permission denied/, 'somebody who is no operator is told so');

$node->stop;
done_testing();
