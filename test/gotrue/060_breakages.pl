# The auth server answers the same whichever way a target is broken. The ways are
# those of test/breakages/ that need a broken target and nothing else: what a file
# does to the users, to schema auth or in place of the server's statements stays
# with test/t/010_breakages.pl, and so does what is in quarantine then.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Basename qw(basename);
use InviteSyncGotrue qw(migrated_database start_server);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster new_database slurp);
use JSON::PP;
use Test::More;

my $password = 'correct horse battery';
my %known = map { $_ => 1 } qw(breakage quarantine warm plain plain_warm plain_loses target_after on_delete fk orphans compare mapping_after);

# A file's header and its sections, if it can be used here.
sub read_case
{
	my ($path) = @_;
	my %case = (name => basename($path, '.sql'), section => {});
	my $section;
	for my $line (split /^/m, slurp($path))
	{
		if ($line =~ /^-- @(\w+)(?: (plain))?(?: as (\w+))?$/)
		{
			$section = $2 ? { sql => '' } : ($case{section}{$1} = { sql => '', role => $3 || 'postgres' });
		}
		elsif ($section) { $section->{sql} .= $line }
		elsif ($line =~ /^-- (\w+): (.*)$/) { $case{$1} = $2 }
	}
	return if grep { !$known{$_} } grep { !/^(?:name|section)$/ } keys %case;
	return if grep { !/^(?:setup|break|mend|check|finally)$/ } keys %{ $case{section} };
	return unless $case{section}{break};
	return if grep { $_->{sql} =~ /:'|^\\/m } @{ $case{section} }{ grep { /^(?:setup|break|mend)$/ } keys %{ $case{section} } };
	return \%case;
}

# What is done before the breakage, so that the server's connections know the
# target as it was, and after it.
sub before_it
{
	my ($server) = @_;
	my %id;
	for my $name (qw(changed left softly))
	{
		# an invitation costs no password
		my @how = $name eq 'changed' ? ('/admin/users', { password => $password, email_confirm => JSON::PP::true }) : ('/invite', {});
		my $answer = $server->request('POST', $how[0], { email => "$name\@example.com", %{ $how[1] } }, $server->service_token);
		$id{$name} = $answer->{body}{id} or die "no user $name: $answer->{status}";
	}
	return %id;
}

sub after_it
{
	my ($server, %id) = @_;
	my $service = $server->service_token;
	$server->call('signup', 'POST', '/signup', { email => 'new@example.com', password => $password, data => { full_name => 'New' } });
	$server->call('invite', 'POST', '/invite', { email => 'invited@example.com', data => { full_name => 'Invited' } }, $service);
	$server->call('anonymous sign-in', 'POST', '/signup', {});
	$server->call('address changed', 'PUT', "/admin/users/$id{changed}", { email => 'other@example.com', email_confirm => JSON::PP::true }, $service);
	$server->call('login', 'POST', '/token?grant_type=password', { email => 'other@example.com', password => $password });
	$server->call('hard delete', 'DELETE', "/admin/users/$id{left}", {}, $service);
	$server->call('soft delete', 'DELETE', "/admin/users/$id{softly}", { should_soft_delete => JSON::PP::true }, $service);
	$server->call('list', 'GET', '/admin/users', undef, $service);
	return map { ($_->{name} => $_->{text}) } $server->said;
}

# The answers that differ.
sub differing
{
	my ($got, $expected) = @_;
	return join "\n", map { "$_: " . ($got->{$_} // 'nothing') . " instead of $expected->{$_}" }
	  grep { ($got->{$_} // '') ne $expected->{$_} } sort keys %$expected;
}

my $node = new_cluster('breakages', conf => "max_connections = 200\n");
migrated_database($node, 'migrated');
new_database($node, 'plain', 'migrated');
my $server = start_server($node, 'plain', mails => 0);
my %expected = after_it($server, before_it($server));
$server->stop;
is(scalar(grep { /^\[200,/ } values %expected), 8, 'without the extension all is answered with 200') or diag(explain \%expected);

new_database($node, 'extended', 'migrated');
value($node, 'extended', 'CREATE EXTENSION invite_sync');
# the roles that the files name
value($node, 'extended', <<'SQL');
CREATE ROLE breakage_stranger NOLOGIN;
CREATE ROLE breakage_owner NOLOGIN;
CREATE ROLE breakage_team NOLOGIN;
GRANT breakage_owner, breakage_team TO postgres;
SQL
my @cases = grep { defined } map { read_case($_) } grep { !m{/auth_} } sort glob "$FindBin::RealBin/../breakages/*.sql";
cmp_ok(scalar(@cases), '>', 25, 'many ways to break a target');
for my $case (@cases)
{
	my $db = $case->{name};
	my $fk = $case->{fk} || 'REFERENCES auth.users (id) ON DELETE CASCADE';
	my $on_delete = $case->{on_delete} || 'none';
	$fk = '' if $fk eq 'none';
	new_database($node, $db, 'extended');
	as_role($node, $db, 'postgres', <<"SQL");
CREATE TABLE public.profiles (id uuid PRIMARY KEY $fk, email text, full_name text, created_at timestamptz);
CREATE TABLE public.members (user_id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, email text, full_name text);
SQL
	as_role($node, $db, $case->{section}{setup}{role}, $case->{section}{setup}{sql}) if $case->{section}{setup};
	as_role($node, $db, 'postgres', "SELECT invite_sync.add_target('public.$_->[0]', on_delete => '$_->[1]')")
	  for [ profiles => $on_delete ], [ members => 'none' ];
	$server = start_server($node, $db, mails => 0);
	my %id = before_it($server);
	as_role($node, $db, $case->{section}{break}{role}, $case->{section}{break}{sql});
	my %got = after_it($server, %id);
	is(differing(\%got, \%expected), '', "$db: every answer is as without the extension");
	is(value($node, $db, 'SELECT string_agg(u.email, chr(10)) FROM auth.users u WHERE NOT EXISTS (SELECT FROM public.members m WHERE m.user_id = u.id)'),
		'', "$db: the other target has everybody");
	$server->stop;
	$node->safe_psql('template1', qq{DROP DATABASE "$db" WITH (FORCE)});
}

$node->stop;
done_testing();
