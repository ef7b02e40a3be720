# The copy of memberships in the tokens: it is what the memberships say, whatever
# the auth server writes back into the column that it stands in.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGotrue qw(migrated_database start_server);
use InviteSyncGotrueStory qw(targets);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster session);
use JSON::PP;
use MIME::Base64 qw(decode_base64url);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'tenants';
my $dir = PostgreSQL::Test::Utils::tempdir();
my $password = 'correct horse battery';
my $node = new_cluster('tenants');
migrated_database($node, $db);
value($node, $db, 'CREATE EXTENSION invite_sync');
targets($node, $db);
my $server = start_server($node, $db);
my $service = $server->service_token;

sub new_user
{
	my ($name) = @_;
	my $answer = $server->request('POST', '/admin/users',
		{ email => "$name\@example.com", password => $password, email_confirm => JSON::PP::true }, $service);
	die "no user $name: $answer->{status}" unless $answer->{status} == 200;
	return $answer->{body}{id};
}

sub login
{
	my ($name) = @_;
	return $server->request('POST', '/token?grant_type=password', { email => "$name\@example.com", password => $password });
}

# What the token of an answer says of memberships: "role of slug", in their order.
sub in_token
{
	my ($answer) = @_;
	my (undef, $claims) = split /\./, $answer->{body}{access_token};
	my $copy = decode_json(decode_base64url($claims))->{app_metadata}{invite_sync};
	return '' unless $copy;
	return join ', ', map { "$_->{role} of " . value($node, $db, "SELECT slug FROM invite_sync.organization WHERE id = '$_->{id}'") } @{ $copy->{organizations} };
}

sub organization { return "(SELECT id FROM invite_sync.organization WHERE slug = '$_[0]')" }

my $right = q{SELECT string_agg(email, ', ') FROM auth.users WHERE raw_app_meta_data->'invite_sync' IS DISTINCT FROM invite_sync.tenant_copy(id)};

my %id = map { $_ => new_user($_) } qw(ann bob cleo);
is(in_token(login('ann')), '', 'who is a member of nothing has no copy in the token');
value($node, $db, "SELECT invite_sync.create_organization('Acme', 'acme', owner_id => '$id{ann}')");
value($node, $db, "SELECT invite_sync.add_member(" . organization('acme') . ", '$id{bob}')");
my $answer = login('bob');
is(in_token($answer), 'member of acme', 'a membership is in the token of the next login');

value($node, $db, "SELECT invite_sync.set_member_role(" . organization('acme') . ", '$id{bob}', 'admin')");
$answer = $server->request('POST', '/token?grant_type=refresh_token', { refresh_token => $answer->{body}{refresh_token} });
is(in_token($answer), 'admin of acme', 'a changed role is in the token of the next refresh');

my $written = q{SELECT xmin, ctid FROM public.profiles WHERE email = 'bob@example.com'};
my $before = value($node, $db, $written);
isnt($before, '', 'there is a row in profiles');
is(in_token(login('bob')), 'admin of acme', 'a login leaves the copy');
is(value($node, $db, $written), $before, 'and writes no row of a target');

# ---------------------------------------------------------------------------
# The server writes the column

my $user = "/admin/users/$id{bob}";
for my $metadata ({ plan => 'gold' }, { invite_sync => undef }, { invite_sync => { organizations => [ { id => $id{bob}, role => 'owner' } ], platform_role => 'support' } })
{
	my $what = encode_json($metadata);
	is($server->request('PUT', $user, { app_metadata => $metadata }, $service)->{status}, 200, "app_metadata $what is taken");
	is(value($node, $db, $right), '', 'and the copy is what it must be');
	is(in_token(login('bob')), 'admin of acme', 'in the token too');
}
is(value($node, $db, q{SELECT plan FROM public.profiles WHERE email = 'bob@example.com'}), 'gold', 'what else was written has arrived');

# A user may not touch it.
$server->request('PUT', '/user', { data => { invite_sync => { platform_role => 'support' } } }, login('bob')->{body}{access_token});
is(value($node, $db, $right), '', 'what a user writes is not in it');

# From what it read a moment before: the server has read the user and waits for the row, while the membership changes.
my $application = session($node, $db, 'supabase_admin');
$application->must("BEGIN; SELECT FROM auth.users WHERE id = '$id{bob}' FOR UPDATE");
my $pid = fork;
die "fork: $!" unless defined $pid;
if (!$pid)
{
	my $status = $server->request('PUT', $user, { app_metadata => { plan => 'silver' } }, $service)->{status};
	POSIX::_exit($status == 200 ? 0 : 1);
}
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'supabase_auth_admin' AND wait_event_type = 'Lock')})
  or die 'the server does not wait';
$application->must("SELECT invite_sync.remove_member(" . organization('acme') . ", '$id{bob}')");
$application->must("SELECT invite_sync.create_organization('Bobs', 'bobs', owner_id => '$id{bob}')");
$application->must('COMMIT');
$application->close;
waitpid $pid, 0;
is($?, 0, 'the server has written what it read before the change');
is(value($node, $db, q{SELECT plan FROM public.profiles WHERE email = 'bob@example.com'}), 'silver', 'what it meant to write has arrived');
is(in_token(login('bob')), 'owner of bobs', 'and the copy is that after the change');
is(value($node, $db, $right), '', 'as it must be');

# Both at once, many times
my @workers;
for my $n (1 .. 4)
{
	$pid = fork;
	die "fork: $!" unless defined $pid;
	if ($pid)
	{
		push @workers, $pid;
		next;
	}
	my $bad = 0;
	for my $m (1 .. 25)
	{
		my $done = $n <= 2 ? $server->request('PUT', $user, { app_metadata => { "worker $n" => $m } }, $service) : login('bob');
		$bad++ if $done->{status} != 200;
	}
	POSIX::_exit($bad);
}
for my $n (1 .. 20)
{
	value($node, $db, "SELECT invite_sync.create_organization('Org $n', 'org-$n', owner_id => '$id{cleo}')");
	value($node, $db, "SELECT invite_sync.add_member(" . organization("org-$n") . ", '$id{bob}')");
	value($node, $db, "SELECT invite_sync.remove_member(" . organization("org-$n") . ", '$id{bob}')") if $n % 2;
}
my @failed = grep { waitpid $_, 0; $? } @workers;
is(scalar(@failed), 0, 'every change and every login is answered with 200 while memberships change');
is(value($node, $db, $right), '', 'and the copy is what it must be');
is(in_token(login('bob')), join(', ', 'owner of bobs', map { 'member of org-' . 2 * $_ } 1 .. 10), 'with all the memberships');

# ---------------------------------------------------------------------------
# Users go

value($node, $db, "SELECT invite_sync.add_member(" . organization('acme') . ", '$id{cleo}')");
is($server->request('DELETE', "/admin/users/$id{ann}", { should_soft_delete => JSON::PP::true }, $service)->{status}, 200, 'the only owner is deleted, softly');
like(in_token(login('cleo')), qr/\bowner of acme\b/, 'who is left owns the organization, and the token says so');
is(value($node, $db, "SELECT count(*) FROM invite_sync.membership WHERE user_id = '$id{ann}'"), '0', 'nothing is left of the membership');
is($server->request('DELETE', $user, undef, $service)->{status}, 200, 'another is deleted for good');
is(value($node, $db, "SELECT count(*) FROM invite_sync.membership WHERE user_id = '$id{bob}'"), '0', 'and nothing is left of the memberships');
is(value($node, $db, $right), '', 'the copies are what they must be');

$server->stop;
$node->stop;
done_testing();
