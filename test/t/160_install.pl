# docs/install.md and docker/: what they name is there, the image's build steps
# make the extension on this machine, and the SQL of the page does what the page
# says. No image is built here.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Path qw(make_path);
use InviteSyncDocs qw(root page blocks section run_sql);
use InviteSyncInstall qw(copy_installation installation);
use InviteSyncTest qw(new_cluster prepare_database run_as slurp);
use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use Test::More;

my $root = root();
my $work = PostgreSQL::Test::Utils::tempdir();
my $major = (`pg_config --version` =~ /(\d+)/)[0];
my $install = page('docs/install.md');
my $dockerfile = page('docker/Dockerfile');

sub shell
{
	my ($dir, @command) = @_;
	my $output = '';
	run \@command, '<', '/dev/null', '>&', \$output, init => sub { chdir $dir or die "$dir: $!" };
	return ($? >> 8, $output);
}

# ---------------------------------------------------------------------------
# The Dockerfile: its instructions, with the values of its ARGs filled in

my %value = (PG_MAJOR => $major, SUPABASE_POSTGRES_TAG => "$major.0.0.0");
my (%declared, @stages);
for (split /\n/, $dockerfile)
{
	next if /^\s*(?:#.*)?$/;
	my ($word, $rest) = /^([A-Z]+) (.+)$/ or die "not an instruction on one line: $_";
	$declared{$1} = 1, $value{$1} //= $2 if $word eq 'ARG' && $rest =~ /^(\w+)(?:=(.*))?$/;
	push @stages, [] if $word eq 'FROM';
	$rest =~ s/\$\{(\w+)\}/$value{$1} \/\/ die "$1 has no value"/ge if $word ne 'ARG';
	push @{ $stages[-1] }, [ $word, $rest ] if @stages;
}
is(scalar @stages, 2, 'two stages');
is($stages[0][0][1], "postgres:$major-bookworm AS builder", 'the builder has the same major');
is($stages[1][0][1], "supabase/postgres:$major.0.0.0", 'and the image is made of the tag that is asked for');

# what of the context is copied, and that the context has it
my @ignored = split /\n/, page('docker/Dockerfile.dockerignore');
my %let_through = map { s/^!//r => 1 } grep { /^!/ } @ignored;
is($ignored[0], '*', 'of the context only what is named goes to the builder');
my $source = "$work/src";
mkdir $source;
for (grep { $_->[0] eq 'COPY' } map { @$_ } @stages)
{
	my @words = split ' ', $_->[1];
	next if $words[0] eq '--from=builder';
	my $to = pop @words;
	for my $from (@words)
	{
		ok(-e "$root/$from", "$from is there");
		ok($let_through{$from}, "$from is not ignored");
		next if $to =~ m{^/};
		# a directory's contents go to the name that follows, files into the directory
		system('cp', '-R', "$root/$from", "$source/$to") == 0 or die "cp $from";
	}
}
unlink glob("$source/src/*.o $source/src/*.bc"), "$source/src/errcodes_known.h";

# the packages are the ones that this machine was set up with
my ($apt, @runs) = map { $_->[1] } grep { $_->[0] eq 'RUN' } @{ $stages[0] };
my ($packages) = $apt =~ /apt-get install -y --no-install-recommends (.*)$/;
my %known = map { $_ => 1 } qw(make gcc libc6-dev), "postgresql-server-dev-$major", "postgresql-$major";
my $setup = page('scripts/setup.sh') =~ s/\$major/$major/gr;
like($setup, qr/(?<![\w-])\Q$_\E(?![\w-])/, "the package $_ is one of scripts/setup.sh") for sort keys %known;
is(join(' ', grep { !$known{$_} } split ' ', $packages), '', 'the Dockerfile installs no other');
my ($page_packages) = $install =~ /^apt-get install (.*)$/m or die;
is(join(' ', grep { !$known{ s/-17$/-$major/r } } split ' ', $page_packages), '', 'neither does the page');

# The RUN lines, as they stand, with the image's directories below one of ours.
my $packaged = "/usr/lib/postgresql/$major/bin/pg_config";
for my $command (@runs)
{
	$command =~ s{(?<=[ =])/(?=installed|parts)}{$work/}g;
	$command =~ s{\Q$packaged\E}{chomp(my $here = `command -v pg_config`); $here}ge unless -x $packaged;
	my ($status, $output) = shell($source, 'env', '-u', 'MAKEFLAGS', '-u', 'MFLAGS', '-u', 'MAKELEVEL', 'sh', '-c', $command);
	is($status, 0, "RUN $command") or diag($output);
}
my $parts = "$work/parts";
my ($version) = page('invite_sync.control') =~ /default_version = '(.*)'/;
my @three = ('invite_sync.control', "invite_sync--$version.sql", 'invite_sync.so');
is(join(' ', map { s{.*/}{}r } sort glob("$parts/*")), join(' ', sort @three), 'that makes three files');
like($install, qr/`\Q$_\E`/, "the page names $_") for @three;
my $here = installation();
ok(slurp("$parts/$_") eq slurp("$here->{extension}/$_"), "$_ is the one that is tested") for @three[ 0, 1 ];
my (undef, $needed) = shell($work, 'objdump', '-p', "$parts/invite_sync.so");
is(join(' ', $needed =~ /NEEDED +(\S+)/g), 'libc.so.6', 'the library needs the C library and nothing else');

# ---------------------------------------------------------------------------
# place.sh: where the wrapper says, or pg_config

my $copy = copy_installation("$work/pg");
unlink map { "$copy->{extension}/$_" } @three[ 0, 1 ];
unlink "$copy->{pkglibdir}/invite_sync.so";

my $nix = "$work/nix";
make_path("$nix/bin", "$nix/lib", "$nix/share/extension");
append_to_file("$nix/bin/pg_config", "#!/bin/sh\necho $nix/share\n");
append_to_file("$nix/bin/postgres", "#!/bin/sh\nexport NIX_PGLIBDIR='$nix/lib'\necho 'postgres (PostgreSQL) $major.6'\n");
chmod 0755, glob("$nix/bin/*");
my @place = ('sh', "$root/docker/place.sh", $parts);
{
	local $ENV{PATH} = "$nix/bin:$ENV{PATH}";
	my ($status, $output) = shell($work, @place, $major);
	is($status, 0, 'place.sh where a wrapper sets NIX_PGLIBDIR') or diag($output);
	is(join(' ', map { s{^\Q$nix\E/}{}r } sort grep { -f } glob("$nix/lib/* $nix/share/extension/*")),
		"lib/invite_sync.so share/extension/invite_sync--$version.sql share/extension/invite_sync.control", 'puts each file where it belongs');
	($status, $output) = shell($work, @place, $major + 1);
	isnt($status, 0, 'it refuses what was built for another major');
	like($output, qr/built for PostgreSQL @{[ $major + 1 ]}/, 'and says so');
}
{
	local $ENV{PATH} = "$copy->{bindir}:$ENV{PATH}";
	my ($status, $output) = shell($work, @place, $major);
	is($status, 0, 'place.sh where pg_config is right') or diag($output);
	ok(-f "$copy->{pkglibdir}/invite_sync.so", 'puts the library there');
}

# ---------------------------------------------------------------------------
# allow.sh: the line of supautils

sub allowed
{
	my ($text) = @_;
	my $file = "$work/supautils.conf";
	unlink $file;
	append_to_file($file, $text);
	chmod 0640, $file;
	my ($status, $output) = shell($work, 'sh', "$root/docker/allow.sh", $file);
	return ($status, slurp($file), sprintf('%o', (stat $file)[2] & 07777), $output);
}

my $others = "supautils.placeholders = 'response.headers'\n# supautils.privileged_extensions = 'none'\n%s\nsupautils.privileged_extensions_superuser = 'supabase_admin'\n";
my ($status, $text, $mode) = allowed(sprintf $others, "supautils.privileged_extensions = 'citext, not_invite_sync, wrappers'");
is($text, sprintf($others, "supautils.privileged_extensions = 'citext, not_invite_sync, wrappers, invite_sync'"), 'allow.sh adds the extension to the line, and changes no other');
is($mode, '640', 'the file keeps its mode');
($status, my $again) = allowed($text);
is("$status $again", "0 $text", 'again it changes nothing');
(undef, $text) = allowed("supautils.privileged_extensions = ''\n");
is($text, "supautils.privileged_extensions = 'invite_sync'\n", 'an empty list has it alone');
for ([ 'does not set it' => "supautils.privileged_extensions_superuser = 'supabase_admin'\n" ], [ 'has it otherwise' => "supautils.privileged_extensions = citext\n" ])
{
	($status, $text) = allowed($_->[1]);
	isnt($status, 0, "a file that $_->[0] is refused");
	is($text, $_->[1], 'and left alone');
}
my ($line) = grep { $_->[0] eq 'RUN' && $_->[1] =~ /allow/ } @{ $stages[1] };
is($line->[1], 'sh /usr/local/lib/invite_sync/allow.sh /etc/postgresql-custom/supautils.conf', 'the image does that with its own file');
like($install, qr/^docker compose exec db \Q$line->[1]\E$/m, 'and the page says the same for a volume');

# ---------------------------------------------------------------------------
# The compose file: mappings only, two spaces a level

sub mapping
{
	my ($yaml) = @_;
	my @open = (my $top = {});
	for (split /\n/, $yaml)
	{
		next if /^\s*(?:#.*)?$/;
		my ($indent, $key, $scalar) = /^((?:  )*)([\w]+):(?: (\S.*))?$/ or die "not of the kind this test reads: $_";
		die "indented too far: $_" if length($indent) / 2 > $#open;
		splice @open, length($indent) / 2 + 1;
		die "twice: $_" if exists $open[-1]{$key};
		die "a mark of YAML in a plain scalar: $_" if defined $scalar && $scalar =~ /: |^[\[\]{}&*!|>'"%@`,#-]| #/;
		$open[-1]{$key} = defined $scalar ? $scalar : {};
		push @open, $open[-1]{$key} unless defined $scalar;
	}
	return $top;
}

my $compose = page('docker/docker-compose.invite_sync.yml');
my $services = mapping($compose);
is(join(' ', keys %$services), 'services', 'the compose file has services');
is(join(' ', keys %{ $services->{services} }), 'db', 'only db');
my $db = $services->{services}{db};
is(join(' ', sort keys %$db), 'build image', 'of which it says the image and how it is made');
ok(-f "$root/$db->{build}{dockerfile}", 'by a Dockerfile that is there');
is(join(' ', grep { !$declared{$_} } keys %{ $db->{build}{args} }), '', 'with arguments that it has');
my %wanted = map { $_ => 1 } $compose =~ /\$\{(\w+)/g;
my ($ini) = grep { $_->{language} eq 'ini' } blocks($install);
is(join(' ', sort $ini->{body} =~ /^(\w+)=/mg), join(' ', sort keys %wanted), 'its settings are those that the page names');
is(join(' ', sort keys %wanted), join(' ', sort $compose =~ /\$\{(\w+):\?[^}]+\}/g), 'none of them is silently empty');
my ($called) = $compose =~ /^#   (docker compose .*)$/m;
like($install, qr/^\Q$called\E$/m, 'the call in it is the one on the page');

# each file of ours that the page or these files name
for my $name (sort keys %{ { map { $_ => 1 } "$install\n$dockerfile\n$compose" =~ m{\b((?:docker|scripts|test)/[\w./-]*\w)}g } })
{
	ok(-e "$root/$name", "$name is there");
}

# ---------------------------------------------------------------------------
# The SQL of the page

# On a fixture of Supabase, as the superuser where supautils would make one.
my $node = new_cluster('supabase', install_path => $copy->{path});
prepare_database($node, 'postgres2', no_extension => 1);
my $supabase = section($install, '## Self-hosted Supabase');
my ($create) = grep { $_->{language} eq 'sql' } blocks($supabase);
is($create->{body}, "create extension invite_sync cascade;\n", 'the first block creates the extension');
ok(run_as($node, 'postgres2', 'supabase_admin', $create->{body})->{ok}, 'which the files made by the Dockerfile can do');
run_sql($node, 'postgres2', $supabase =~ s/\Q$create->{body}\E/select;\n/r, role => 'postgres', name => 'Supabase');
run_sql($node, 'postgres2', section($install, '## Afterwards'), role => 'postgres', name => 'afterwards');
$node->stop;

# On a PostgreSQL that has never heard of Supabase.
my $plain = PostgreSQL::Test::Cluster->new('plain', install_path => $copy->{path});
{
	local $ENV{PGUSER} = 'dba';
	$plain->init(extra => [ '-U', 'dba' ]);
	$plain->start;
	run_sql($plain, 'postgres', section($install, '## Plain PostgreSQL'), role => 'dba', name => 'plain');
	run_sql($plain, 'postgres', section($install, '## Afterwards'), role => 'app', name => 'afterwards, plain');
	# what the page says of PostgREST: the roles are usable
	is($plain->safe_psql('postgres', q{BEGIN; SELECT set_config('request.jwt.claims', json_build_object('sub', id, 'role', 'authenticated')::text, true) <> '' FROM auth.users; SET LOCAL ROLE authenticated; SELECT slug FROM invite_sync.create_organization('Acme'); COMMIT}),
		"t\nacme", 'a user of the plain database calls as over PostgREST');
	$plain->stop;
}

done_testing();
