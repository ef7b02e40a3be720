# What the pages name is there: the files and headings that they link to, and
# the functions, relations, types and settings of the extension. And README.md's
# SQL runs, from the first block to the last; so do docs/drift.md's steps for CI.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Basename qw(dirname);
use InviteSyncDocs qw(root page blocks run_sql);
use InviteSyncLife qw(as_role signup value);
use InviteSyncTest qw(new_cluster prepare_database);
use PostgreSQL::Test::Utils;
use Test::More;

my $root = root();
my @pages = map { s{^\Q$root\E/}{}r } glob("$root/*.md $root/docs/*.md $root/test/*/README.md $root/bench/README.md $root/sql/upgrade/README.md");
ok(@pages > 15, 'there are pages');

# ---------------------------------------------------------------------------
# Links: [text](file#heading), a heading's anchor as the web interfaces of git
# hosts make it

sub anchors
{
	my ($page) = @_;
	my ($text, %anchor) = (page($page));
	$text =~ s/^```.*?^```$//gms;
	while ($text =~ /^#+ (.+)$/mg)
	{
		my $heading = lc $1;
		$heading =~ s/\[(.*?)\]\(.*?\)/$1/g;
		$heading =~ s/[^\w\- ]//g;
		$heading =~ tr/ /-/;
		$anchor{$heading} = 1;
	}
	return \%anchor;
}

my %anchors;
for my $page (@pages)
{
	my $text = page($page) =~ s/^```.*?^```$//gmsr =~ s/`[^`\n]*`//gr;
	my @broken;
	for ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if m{^\w+://};
		my ($file, $heading) = /^([^#]*)(?:#(.*))?$/;
		my $path = $file eq '' ? $page : dirname($page) . "/$file";
		1 while $path =~ s{(?:^|/)\K\./|[^/]+/\.\./}{};
		push @broken, $_ unless -e "$root/$path";
		next unless defined $heading && $path =~ /\.md$/ && -e "$root/$path";
		push @broken, $_ unless ($anchors{$path} ||= anchors($path))->{$heading};
	}
	is(join(' ', @broken), '', "the links of $page");
}

# Nobody finds a page that the map does not have.
my $map = page('README.md');
like($map, qr/\]\($_\)/, "README.md links $_") for grep { m{^docs/} } @pages;

# ---------------------------------------------------------------------------
# Names

my $node = new_cluster('docs');
prepare_database($node, 'app');
my @settings = split /\n/, value($node, 'app', q{LOAD 'invite_sync'; SELECT substr(name, 13) FROM pg_settings WHERE name LIKE 'invite\_sync.%' ORDER BY 1});
my %there = map { $_ => 1 } @settings, split /\n/, value($node, 'app', <<'SQL');
SELECT proname FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace
UNION SELECT relname FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace
UNION SELECT typname FROM pg_type WHERE typnamespace = 'invite_sync'::regnamespace
SQL

# what has the schema in front, or is called by rpc(); invite_sync.so and the like are files, and the page on update
# scripts makes up objects that a next version might add
for my $page (grep { !m{^sql/upgrade/} } @pages)
{
	my %named = map { $_ => 1 } page($page) =~ /\binvite_sync\.([a-z_]+)\b(?!-)/g, page($page) =~ /\binvite_sync'?\)\.rpc\('([a-z_]+)'/g;
	delete @named{qw(so control sql yml)};
	is(join(' ', grep { !$there{$_} } sort keys %named), '', "what $page names of the extension is there");
}

my %listed = map { $_ => 1 } map { /`invite_sync\.(\w+)`/g } grep { /^\| `invite_sync\./ } split /\n/, $map;
is(join(' ', sort keys %listed), join(' ', @settings), 'README.md lists the settings that there are');

# ---------------------------------------------------------------------------
# docs/drift.md: the steps for CI, as a shell runs them

{
	my ($export, $step) = grep { $_->{language} eq 'sh' } blocks(page('docs/drift.md'));
	my $dir = PostgreSQL::Test::Utils::tempdir();
	local $ENV{DATABASE_URL} = sprintf 'host=%s port=%s dbname=app user=postgres', $node->host, $node->port;
	my $shell = sub {
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'bash', '-c', shift->{body} ], '>', \$out, '2>', \$err, init => sub { chdir $dir or die "could not enter $dir: $!" });
		return ($? >> 8, $out, $err);
	};

	as_role($node, 'app', 'postgres', 'CREATE TABLE public.profiles (id uuid PRIMARY KEY, email text)');
	is(($shell->($export))[0], 0, 'the schema is written to a file');
	my ($code, $out, $err) = $shell->($step);
	is("$code $err", '0 ', 'the step succeeds where nothing has changed');
	like($out, qr/^ compared \n-+\n +[1-9]\d*\n/, 'and says how much it compared');
	as_role($node, 'app', 'postgres', 'ALTER TABLE public.profiles ADD COLUMN phone text, ALTER COLUMN email SET NOT NULL');
	($code, $out, $err) = $shell->($step);
	is($code, 3, 'where something has changed psql exits with 3');
	is($err, $step->{shows}, 'and says what the page shows');
}

# ---------------------------------------------------------------------------
# README.md, where two people have signed up before and a trigger is there that
# somebody wrote by hand

prepare_database($node, 'readme', no_extension => 1);
as_role($node, 'readme', 'supabase_auth_admin', signup('a', $_, "user$_\@example.com")) for 1 .. 2;
as_role($node, 'readme', 'postgres', <<'SQL');
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
SQL
run_sql($node, 'readme', $map, role => 'postgres', name => 'README', ends => 1);
is(value($node, 'readme', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal AND tgname <> 'on_auth_user_created'}), 0, 'in the end nothing of the extension is on auth.users');

$node->stop;
done_testing();
