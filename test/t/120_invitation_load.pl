# Invitations under load: what a thousand people do in the same moment, each in a connection of their own, as users and
# through the same three statements as PostgREST. How many succeed is exact, the others are refused cleanly, and nobody
# is told of a deadlock.
#
# INVITATION_LOAD_CONNECTIONS=n  how many at once (1000)
# INVITATION_LOAD_ROUNDS=n       how often in a row one token is wanted by all of them (10)
# INVITATION_LOAD_SECONDS=n      how long everything is mixed in the end (15)
# INVITATION_LOAD_SEED=n         the mixture of another run again, as far as time allows

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncCrowd;
use InviteSyncLife qw(durable_cluster value);
use InviteSyncTest qw(prepare_database);
use Test::More;
use Time::HiRes qw(sleep time);

my $many = $ENV{INVITATION_LOAD_CONNECTIONS} || 1000;
my $rounds = $ENV{INVITATION_LOAD_ROUNDS} || 10;
my $seconds = $ENV{INVITATION_LOAD_SECONDS} || 15;
my $seed = $ENV{INVITATION_LOAD_SEED} || int(time) % 100_000;
my $db = 'app';
srand $seed;

# Beyond what the test needs for itself PostgreSQL is as initdb leaves it: deadlock_timeout above all.
my $node = durable_cluster('load', conf => sprintf <<'CONF', $many + 60);
max_connections = %d
log_min_messages = warning
log_line_prefix = '%%m [%%p] %%a %%e '
CONF
prepare_database($node, $db);

# People who have an address: a0000000… invite, b… accept. Rate limits are no part of this: they would be in the way.
sub inviter { return sprintf 'a%07x-0000-4000-8000-000000000000', $_[0] }
sub person { return sprintf 'b%07x-0000-4000-8000-000000000000', $_[0] }
sub organization { return sprintf 'c%07x-0000-4000-8000-000000000000', $_[0] }
value($node, $db, <<"SQL");
SELECT invite_sync.attach();
INSERT INTO auth.users (id, email, email_confirmed_at)
SELECT (k || lpad(to_hex(i), 7, '0') || '-0000-4000-8000-000000000000')::uuid, k || i || '\@load.example', now()
FROM unnest(ARRAY['a', 'b']) AS k, generate_series(0, $many) AS i;
SELECT invite_sync.set_rate_limit('invite', NULL), invite_sync.set_rate_limit('message', NULL);
ANALYZE auth.users;
SQL

# A new organization with an owner, who may send so many invitations.
my $organizations = 0;
sub new_organization
{
	my ($owner, $quota, $seats) = @_;
	my $id = organization(++$organizations);
	value($node, $db, sprintf <<'SQL', $id, $organizations, $seats || 'NULL', $id, $owner, $owner, $quota);
INSERT INTO invite_sync.organization (id, name, slug, seat_limit) VALUES ('%s', 'Load', 'load-%s', %s);
SELECT invite_sync.add_member('%s', '%s', 'owner'), invite_sync.set_quota('%s', %s);
SQL
	return $id;
}

sub new_link
{
	my ($organization, $inviter, $max_uses) = @_;
	return value($node, $db, "SELECT token FROM invite_sync.create_invite_link('$organization', max_uses => $max_uses, inviter_id => '$inviter')");
}

# One request of PostgREST's.
sub request
{
	my ($user, $call) = @_;
	return qq(SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub": "$user", "role": "authenticated"}', true); $call; COMMIT);
}
sub accept_call { return "SELECT already FROM invite_sync.accept_invitation('$_[0]')" }

my $took;
my $crowd;
my %begin = ('repeatable read' => 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'serializable' => 'BEGIN ISOLATION LEVEL SERIALIZABLE');

# All of the first n at once; what they were told, as "reason x times", in order.
sub at_once
{
	my ($isolation, $n, $sql) = @_;
	my $begin = $begin{$isolation};
	my ($results, $elapsed, $retries) = $crowd->together($n, sub { ($begin ? '' : 'BEGIN; ') . $sql->($_[0]) }, $begin ? (begin => $begin) : ());
	my %told;
	for my $result (@$results)
	{
		my $last = $result->{rows}[-1];
		$told{ $result->{state} eq '00000' ? "done $last->[0]" : $result->{state} . ' ' . ($result->{detail} =~ /^(\w+)/ ? $1 : $result->{message}) }++;
	}
	$took = sprintf '%.1f s%s', $elapsed, $retries ? ", $retries had to try again" : '';
	return join ', ', map { "$_ x $told{$_}" } sort keys %told;
}

sub deadlocks { return value($node, $db, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()') }

# lock_timeout: the functions' own, which is shorter than authenticator's.
my $started = time;
$crowd = InviteSyncCrowd->new($node, $db, 'authenticator', $many, options => '-c statement_timeout=0 -c lock_timeout=0');
is(value($node, $db, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crowd'}), $many, "$many connections at once");
diag(sprintf '%d connections: %.1f s', $many, time - $started);
my $others = $many - 1;

sub count_of { my ($from) = @_; return value($node, $db, "SELECT count(*) FROM $from") }

# Invitations are made one after the other, as many as want the same seat or the same quota, and a slow machine needs
# longer for them than the functions would wait.
sub invite_call
{
	my ($email, $organization) = @_;
	return "SET LOCAL lock_timeout = '2min'; SELECT status FROM invite_sync.create_invitation('$email', organization_id => '$organization')";
}

# 100 inviters of ten organizations
my ($inviters, $quota) = (100, 0);
$inviters = int($many / 10) if $many < 1000;
my @shared = map { new_organization(inviter(0), 1000000) } 1 .. 10;
value($node, $db, "SELECT invite_sync.add_member('$shared[$_ % 10]', '" . inviter(100 + $_) . "', 'admin')") for 0 .. $inviters - 1;

for my $isolation ('read committed', 'repeatable read', 'serializable')
{
	my $retried = $isolation ne 'read committed';
	my $organization;
	my $token;

	for my $round (1 .. ($retried ? 1 : $rounds))
	{
		$organization = new_organization(inviter(0), 1000000);
		$token = new_link($organization, inviter(0), 1);
		is(at_once($isolation, $many, sub { request(person($_[0]), accept_call($token)) }), "PT410 invitation_used x $others, done f x 1",
			"$isolation: one of $many people gets what is for one, time $round");
		diag("$isolation, one token, $many people: $took");
		is(count_of("invite_sync.membership WHERE organization_id = '$organization' AND user_id <> '" . inviter(0) . "'"), 1, 'and is a member');

		$organization = new_organization(inviter(0), 1000000);
		$token = value($node, $db, "SELECT token FROM invite_sync.create_invitation('b$round\@load.example', organization_id => '$organization', inviter_id => '" . inviter(0) . "')");
		is(at_once($isolation, $many, sub { request(person($round), accept_call($token)) }), "done f x 1, done t x $others",
			"$isolation: who accepts $many times at once does so once, time $round");
		diag("$isolation, one token, $many times the same user: $took");
		is(count_of("invite_sync.membership WHERE organization_id = '$organization' AND user_id <> '" . inviter(0) . "'"), 1, 'and is a member');
	}

	# Who has to try again does so at once, and all of them: fewer are as telling.
	my ($uses, $people) = $retried ? (25, 100) : (50, 200);
	$organization = new_organization(inviter(0), 1000000);
	$token = new_link($organization, inviter(0), $uses);
	is(at_once($isolation, $people, sub { request(person($_[0]), accept_call($token)) }), sprintf('PT410 invitation_used x %d, done f x %d', $people - $uses, $uses),
		"$isolation: $uses of $people get what is for $uses");
	diag("$isolation, $uses uses, $people people: $took");
	is(count_of("invite_sync.membership WHERE organization_id = '$organization' AND user_id <> '" . inviter(0) . "'"), $uses, 'and are members');
	is(value($node, $db, "SELECT i.uses, i.status, (SELECT count(*) FROM invite_sync.invitation_acceptance AS a WHERE a.invitation_id = i.id) FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id WHERE g.organization_id = '$organization'"),
		"$uses|accepted|$uses", 'and the link is used up');

	$organization = new_organization(inviter(0), 1000000, 2);
	$token = new_link($organization, inviter(0), 'NULL');
	is(at_once($isolation, 50, sub { request(person($_[0]), accept_call($token)) }), 'PT402 seats_exhausted x 49, done f x 1',
		"$isolation: one of 50 gets the last seat");
	diag("$isolation, the last seat, 50 people: $took");
	is(value($node, $db, "SELECT invite_sync.seats_used('$organization')"), 2, 'and all seats are taken');

	$organization = new_organization(inviter(0), 1000000, 2);
	is(at_once($isolation, 50, sub { request(inviter(0), invite_call("seat$_[0]\@load.example", $organization)) }), 'PT402 seats_exhausted x 49, done pending x 1',
		"$isolation: one of 50 invitations gets the last seat");
	diag("$isolation, the last seat, 50 invitations: $took");
	is(value($node, $db, "SELECT invite_sync.seats_pending('$organization')"), 1, 'and holds it');

	# the same address by all at once: one invitation
	$organization = new_organization(inviter(0), 1000000);
	is(at_once($isolation, 50, sub { request(inviter(0), invite_call('same@load.example', $organization)) }), 'PT409 already_invited x 49, done pending x 1',
		"$isolation: one address is invited once");
	diag("$isolation, the same address, 50 times: $took");

	$organization = new_organization(inviter(1), "(SELECT coalesce(max(q.used), 0) + 1 FROM invite_sync.user_invitation_quota AS q WHERE q.user_id = '" . inviter(1) . "')");
	is(at_once($isolation, 50, sub { request(inviter(1), invite_call("quota$_[0]\@load.example", $organization)) }), 'PT429 quota_exhausted x 49, done pending x 1',
		"$isolation: one of 50 gets what is left of a quota");
	diag("$isolation, the last of a quota, 50 invitations: $took");
	is(value($node, $db, "SELECT remaining FROM invite_sync.user_invitation_quota WHERE user_id = '" . inviter(1) . "'"), 0, 'and nothing is left');

	# three each, wanted ten times by each
	my $few = $retried ? 10 : $inviters;
	$quota += 3;
	value($node, $db, "SELECT count(invite_sync.set_quota(u.id, $quota)) FROM auth.users AS u WHERE u.id BETWEEN '" . inviter(100) . "' AND '" . inviter(99 + $few) . "'");
	is(at_once($isolation, 10 * $few, sub { request(inviter(100 + $_[0] % $few), invite_call("i$_[0].$quota\@load.example", $shared[ $_[0] % $few % 10 ])) }),
		sprintf('PT429 quota_exhausted x %d, done pending x %d', 7 * $few, 3 * $few), "$isolation: $few inviters send three invitations each, and no more");
	diag(sprintf '%s, %d invitations: %s', $isolation, 10 * $few, $took);
	is(count_of("invite_sync.user_invitation_quota WHERE granted = $quota AND used = $quota AND user_id >= '" . inviter(100) . "'"), $few, 'and have used up their quotas');
	is(count_of("invite_sync.invitation WHERE email LIKE 'i%.$quota\@load.example'"), 3 * $few, 'and there are as many');
}
is(deadlocks(), 0, 'no deadlocks');
$crowd->close;
$node->stop;
done_testing();
