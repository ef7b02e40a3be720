# The fixture's schema auth is the one that the auth server's own migrations make.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGotrue qw(migrated_database start_server);
use InviteSyncLife qw(value);
use InviteSyncTest qw(new_cluster prepare_database);
use Test::More;

my $node = new_cluster('schema');
prepare_database($node, 'fixture', no_extension => 1);
migrated_database($node, 'migrated');

# What the catalogs say of a schema, without numbers that are a cluster's own. Dropped columns leave gaps in attnum.
my %picture = (
	'relations, their owners and row level security' => <<'SQL',
SELECT concat_ws(' ', c.relname, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity, c.reloptions)
FROM pg_class c WHERE c.relnamespace = 'auth'::regnamespace ORDER BY 1
SQL
	'columns: types, defaults, nullability, order' => <<'SQL',
SELECT concat_ws(' ', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod),
	CASE WHEN a.attnotnull THEN 'NOT NULL' END, 'generated', a.attgenerated, 'identity', a.attidentity, 'default', pg_get_expr(d.adbin, d.adrelid))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'auth'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum
SQL
	'constraints' => <<'SQL',
SELECT concat_ws(' ', c.conrelid::regclass, c.conname, c.contype, pg_get_constraintdef(c.oid), c.convalidated)
FROM pg_constraint c WHERE c.connamespace = 'auth'::regnamespace ORDER BY 1
SQL
	'indexes' => <<'SQL',
SELECT concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'auth'::regnamespace ORDER BY 1
SQL
	'types' => <<'SQL',
SELECT concat_ws(' ', t.typname, t.typtype, pg_get_userbyid(t.typowner), (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
FROM pg_type t WHERE t.typnamespace = 'auth'::regnamespace ORDER BY 1
SQL
	'functions' => <<'SQL',
SELECT concat_ws(' ', p.oid::regprocedure, p.prorettype::regtype, p.provolatile, p.prosecdef, pg_get_userbyid(p.proowner), p.proconfig)
FROM pg_proc p WHERE p.pronamespace = 'auth'::regnamespace ORDER BY 1
SQL
	'policies, rules and triggers' => <<'SQL',
SELECT concat_ws(' ', 'policy', p.polrelid::regclass, p.polname) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'auth'::regnamespace
UNION ALL SELECT concat_ws(' ', 'rule', r.ev_class::regclass, r.rulename) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = 'auth'::regnamespace
UNION ALL SELECT concat_ws(' ', 'trigger', t.tgrelid::regclass, t.tgname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'auth'::regnamespace AND NOT t.tgisinternal
ORDER BY 1
SQL
	'who may do what with the tables' => <<'SQL',
SELECT concat_ws(' ', c.relname, a.grantee::regrole, a.grantor::regrole, a.privilege_type, a.is_grantable)
FROM pg_class c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE c.relnamespace = 'auth'::regnamespace AND c.relkind = 'r' ORDER BY 1
SQL
	'the migrations that were applied' => 'SELECT version FROM auth.schema_migrations ORDER BY 1',
	'dropped columns of users' => q{SELECT attnum FROM pg_attribute WHERE attrelid = 'auth.users'::regclass AND attisdropped});

# The table that keeps the list of migrations is made by Supabase's image before the server comes, and the fixture follows the image.
sub lines { return map { $_ => 1 } grep { !/schema_migrations/ } split /\n/, value($node, $_[0], "SET search_path = pg_catalog; $_[1]") }

for my $what (sort keys %picture)
{
	my %fixture = lines('fixture', $picture{$what});
	my %migrated = lines('migrated', $picture{$what});
	my @differences = (
		map({ "only the migrations: $_" } grep { !$fixture{$_} } sort keys %migrated),
		map({ "only the fixture: $_" } grep { !$migrated{$_} } sort keys %fixture));
	isnt(scalar(keys %migrated), 0, "the migrations made something: $what")
	  unless $what =~ /policies|dropped/;
	is_deeply(\@differences, [], "the fixture has it as the migrations do: $what") or diag(join "\n", @differences);
}

# What asks for the claims of a request answers alike: the fixture's are written anew.
for my $claims ('', '{"sub": "10000000-0000-4000-8000-000000000000", "role": "authenticated", "email": "a@example.com"}')
{
	my %answer = map { $_ => value($node, $_, qq{SET request.jwt.claims = '$claims'; SELECT concat_ws(' ', auth.uid(), auth.role(), auth.email(), auth.jwt())}) } qw(fixture migrated);
	is($answer{fixture}, $answer{migrated}, "uid(), role(), email() and jwt() say the same of '$claims'");
}

# With the fixture's schema the server starts, finds nothing to migrate, and works.
my $before = value($node, 'fixture', 'SELECT count(*) FROM auth.schema_migrations');
migrated_database($node, 'again');
my $server = start_server($node, 'fixture');
my $answer = $server->request('POST', '/signup', { email => 'first@example.com', password => 'long enough' });
is($answer->{status}, 200, 'the server works on the fixture') or diag(explain $answer);
is(value($node, 'fixture', q{SELECT email FROM auth.users}), 'first@example.com', 'and has written its user');
is(value($node, 'fixture', 'SELECT count(*) FROM auth.schema_migrations'), $before, 'no migration was applied');
$server->stop;

$node->stop;
done_testing();
