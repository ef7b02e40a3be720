# Copies of the PostgreSQL installation that the tests run on, to be changed as
# a test needs it (another version of the extension, no library at all), and
# pictures of everything that an install or update script makes.
package InviteSyncInstall;

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(dirname);
use File::Path qw(make_path);
use InviteSyncTest qw(session slurp);
use PostgreSQL::Test::Utils;

our @EXPORT_OK = qw(installation copy_installation put_file default_version extension_picture extension_rows different);

# Where an installation has its programs, libraries and data; by default the one
# in PATH. path is what PostgreSQL::Test::Cluster calls install_path.
sub installation
{
	my ($pg_config) = @_;
	my %dir;
	for my $name (qw(bindir pkglibdir sharedir))
	{
		my $program = $pg_config || 'pg_config';
		chomp($dir{$name} = `"$program" --$name`);
		die "$program --$name failed" if $? || !-d $dir{$name};
	}
	$dir{extension} = "$dir{sharedir}/extension";
	$dir{path} = dirname($dir{bindir});
	return \%dir;
}

# A copy of it below a new directory. Hard links where they are possible: so
# files of a copy are replaced by put_file() or unlinked, never written to.
sub copy_installation
{
	my ($to) = @_;
	my $from = installation();
	for my $dir (map { $from->{$_} } qw(bindir pkglibdir sharedir))
	{
		my $parent = $to . dirname($dir);
		make_path($parent);
		system('cp', '-al', $dir, "$parent/") == 0
		  || (system('rm', '-rf', $to . $dir) == 0 && system('cp', '-a', $dir, "$parent/") == 0)
		  || die "could not copy $dir";
	}
	return installation("$to$from->{bindir}/pg_config");
}

sub put_file
{
	my ($path, $text) = @_;
	unlink $path;
	PostgreSQL::Test::Utils::append_to_file($path, $text);
	return;
}

# The version that CREATE EXTENSION makes.
sub default_version
{
	my ($install) = @_;
	my ($version) = slurp("$install->{extension}/invite_sync.control") =~ /^default_version\s*=\s*'(.*)'/m;
	return $version;
}

# ---------------------------------------------------------------------------
# Everything that a script makes, by kind: { kind => text }, one line per object.
#
# Not compared is what an update cannot make the same and nobody depends on: the
# order of a table's columns.

my $acl = q{coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(%s) a), 'default')};

sub extension_picture
{
	my ($node, $dbname) = @_;
	my $rights = sub { return sprintf $acl, shift };
	my $ours = q{'invite_sync'::regnamespace};
	my %sql = (
		'extension' => q{SELECT concat_ws(' ', extversion, extrelocatable, extnamespace::regnamespace, pg_get_userbyid(extowner),
	obj_description(oid, 'pg_extension')) FROM pg_extension WHERE extname = 'invite_sync'},
		'schema' => "SELECT concat_ws(' ', nspname, pg_get_userbyid(nspowner), @{[ $rights->('nspacl') ]}, obj_description(oid, 'pg_namespace'))
FROM pg_namespace WHERE oid = $ours",
		'role' => q{SELECT concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconfig,
	shobj_description(oid, 'pg_authid')) FROM pg_roles WHERE rolname = 'invite_sync_owner'},
		'functions' => "SELECT concat_ws(' ', oid::regprocedure, pg_get_function_arguments(oid), '->', pg_get_function_result(oid), prokind,
	provolatile, proparallel, prosecdef, proleakproof, proisstrict, procost, prorows, prosupport, pg_get_userbyid(proowner), proconfig, probin,
	'body', md5(pg_get_functiondef(oid)), @{[ $rights->('proacl') ]}, obj_description(oid, 'pg_proc'))
FROM pg_proc WHERE pronamespace = $ours AND prokind <> 'a'",
		'relations' => "SELECT concat_ws(' ', oid::regclass, relkind, relpersistence, pg_get_userbyid(relowner), relrowsecurity,
	relforcerowsecurity, relreplident, reloptions, reltablespace, @{[ $rights->('relacl') ]}, obj_description(oid, 'pg_class'))
FROM pg_class WHERE relnamespace = $ours",
		'columns' => "SELECT concat_ws(' ', a.attrelid::regclass, a.attname, CASE WHEN c.relkind NOT IN ('r', 'p', 'S') THEN a.attnum END,
	format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, a.attcompression, a.attstattarget,
	-- minor releases of 2026 keep a number of their own among the options
	(SELECT string_agg(o, ' ') FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg\\_attver=%'),
	a.attcollation::regcollation, @{[ $rights->('a.attacl') ]}, pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = $ours AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'i'",
		'views' => "SELECT concat_ws(' ', oid::regclass, replace(pg_get_viewdef(oid), E'\\n', ' ')) FROM pg_class WHERE relnamespace = $ours AND relkind IN ('v', 'm')",
		'sequences' => "SELECT concat_ws(' ', seqrelid::regclass, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid WHERE c.relnamespace = $ours",
		'indexes' => "SELECT concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisvalid, i.indisreplident, i.indisclustered, obj_description(i.indexrelid, 'pg_class'))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = $ours",
		'constraints' => "SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated, obj_description(oid, 'pg_constraint'))
FROM pg_constraint WHERE connamespace = $ours",
		'triggers' => "SELECT concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = $ours AND NOT t.tgisinternal",
		'policies' => "SELECT concat_ws(' ', p.polrelid::regclass, p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
	pg_get_expr(p.polwithcheck, p.polrelid), obj_description(p.oid, 'pg_policy')) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = $ours",
		'types' => "SELECT concat_ws(' ', t.oid::regtype, t.typtype, pg_get_userbyid(t.typowner), @{[ $rights->('t.typacl') ]},
	(SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), obj_description(t.oid, 'pg_type'))
FROM pg_type t WHERE t.typnamespace = $ours",
		'members of the extension' => q{SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'invite_sync') AND deptype = 'e'},
		'dumped tables' => q{SELECT concat_ws(' ', c.id::regclass, c.condition) FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS c (id, condition) WHERE e.extname = 'invite_sync'},
		# what pg_dump takes for the script's own work, and so leaves out
		'initial rights' => "SELECT concat_ws(' ', pg_describe_object(classoid, objoid, objsubid), privtype, @{[ $rights->('initprivs') ]}) FROM pg_init_privs
WHERE (classoid, objoid) IN (SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'invite_sync'))",
		'default rights' => "SELECT concat_ws(' ', pg_get_userbyid(defaclrole), defaclobjtype, defaclacl) FROM pg_default_acl WHERE defaclnamespace = $ours",
		'dependencies' => "SELECT concat_ws(' ', pg_describe_object(d.classid, d.objid, d.objsubid), d.deptype, 'on', pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid))
FROM pg_depend d WHERE (d.classid, d.objid) IN (SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = $ours
	UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = $ours)",
	);
	my %picture;
	my $admin = session($node, $dbname, 'supabase_admin');
	$admin->must('SET search_path = pg_catalog');
	$picture{$_} = $admin->must("$sql{$_} ORDER BY 1") for sort keys %sql;
	$admin->close;
	return \%picture;
}

# The rows of our tables, without times and lineage: what the script itself put
# there.
sub extension_rows
{
	my ($node, $dbname) = @_;
	my %rows;
	my $admin = session($node, $dbname, 'supabase_admin');
	for my $table (split /\n/, $admin->must(q{SELECT relname FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind = 'r' ORDER BY 1}))
	{
		$rows{"rows of $table"} = $admin->must(<<"SQL");
SELECT string_agg(r, E'\\n' ORDER BY r) FROM (SELECT (to_jsonb(t) - ARRAY(SELECT attname::text FROM pg_attribute
	WHERE attrelid = 'invite_sync."$table"'::regclass
		AND (atttypid = 'timestamptz'::regtype OR attname = 'registered_in' OR attrelid = 'invite_sync.lineage'::regclass AND attname = 'id')))::text AS r FROM invite_sync."$table" t) s
SQL
	}
	$admin->close;
	return \%rows;
}

# In which kinds two pictures differ, and how: { kind => lines }.
sub different
{
	my ($got, $expected) = @_;
	my %different;
	for my $kind (keys %{ { %$got, %$expected } })
	{
		my ($new, $old) = map { defined $_->{$kind} ? $_->{$kind} : '(nothing)' } $got, $expected;
		next if $new eq $old;
		my %in_new = map { $_ => 1 } split /\n/, $new;
		my %in_old = map { $_ => 1 } split /\n/, $old;
		$different{$kind} = join "\n", (map { "- $_" } sort grep { !$in_new{$_} } keys %in_old), (map { "+ $_" } sort grep { !$in_old{$_} } keys %in_new);
	}
	return \%different;
}

1;
