# Invitations under load: what a thousand people do in the same moment, each in a connection of their own, as users and
# through the same three statements as PostgREST. How many succeed is exact, the others are refused cleanly, and nobody
# is told of a deadlock.
#
# INVITATION_LOAD_CONNECTIONS=n  how many at once (1000; at least 200)
# INVITATION_LOAD_ROUNDS=n       how often in a row each of it happens, under each isolation level (10)
# INVITATION_LOAD_SECONDS=n      how long everything is mixed in the end (15)
# INVITATION_LOAD_SEED=n         the mixture of another run again, as far as time allows

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncCrowd;
use InviteSyncLife qw(durable_cluster invitations_fit);
use InviteSyncTest qw(prepare_database session);
use List::Util qw(sum0);
use Test::More;
use Time::HiRes qw(sleep time);

my $many = $ENV{INVITATION_LOAD_CONNECTIONS} || 1000;
my $rounds = $ENV{INVITATION_LOAD_ROUNDS} || 10;
my $db = 'app';

# Beyond what the test needs for itself PostgreSQL is as initdb leaves it: deadlock_timeout above all.
my $node = durable_cluster('load', conf => sprintf <<'CONF', $many + 60);
max_connections = %d
log_min_messages = warning
log_line_prefix = '%%m [%%p] %%a %%e '
CONF
prepare_database($node, $db);

# One value, read by the superuser: in one connection, as there are many of them.
my $reader = session($node, $db, 'supabase_admin');
sub value { my ($sql) = @_; return $reader->must($sql) }

# People who have an address: a0000000… invite, b… accept. Rate limits are no part of this: they would be in the way.
sub inviter { return sprintf 'a%07x-0000-4000-8000-000000000000', $_[0] }
sub person { return sprintf 'b%07x-0000-4000-8000-000000000000', $_[0] }
sub organization { return sprintf 'c%07x-0000-4000-8000-000000000000', $_[0] }
value(<<"SQL");
SELECT invite_sync.attach();
INSERT INTO auth.users (id, email, email_confirmed_at)
SELECT (k || lpad(to_hex(i), 7, '0') || '-0000-4000-8000-000000000000')::uuid, k || i || '\@load.example', now()
FROM unnest(ARRAY['a', 'b']) AS k, generate_series(0, greatest($many, 200)) AS i;
SELECT invite_sync.set_rate_limit('invite', NULL), invite_sync.set_rate_limit('message', NULL);
ANALYZE auth.users;
SQL

# A new organization with an owner, who may send so many invitations.
my $organizations = 0;
sub new_organization
{
	my ($owner, $quota, $seats) = @_;
	my $id = organization(++$organizations);
	value(sprintf <<'SQL', $id, $organizations, $seats || 'NULL', $id, $owner, $owner, $quota);
INSERT INTO invite_sync.organization (id, name, slug, seat_limit) VALUES ('%s', 'Load', 'load-%s', %s);
SELECT invite_sync.add_member('%s', '%s', 'owner'), invite_sync.set_quota('%s', %s);
SQL
	return $id;
}

sub new_link
{
	my ($organization, $inviter, $max_uses) = @_;
	return value("SELECT token FROM invite_sync.create_invite_link('$organization', max_uses => $max_uses, inviter_id => '$inviter')");
}

# One request of PostgREST's.
sub request
{
	my ($user, $call) = @_;
	return qq(SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub": "$user", "role": "authenticated"}', true); $call; COMMIT);
}
sub accept_call { return "SELECT already FROM invite_sync.accept_invitation('$_[0]')" }

my ($took, $ids, %told_at_once);
my $crowd;
my %begin = ('repeatable read' => 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'serializable' => 'BEGIN ISOLATION LEVEL SERIALIZABLE');

# All of the first n at once; what they were told, as "reason x times", in order. once: who is told to try again does not.
sub at_once
{
	my ($isolation, $n, $sql, $once) = @_;
	my $begin = $begin{$isolation};
	my $before = transactions();
	my ($results, $elapsed, $retries) = $crowd->together($n, sub { ($begin ? '' : 'BEGIN; ') . $sql->($_[0]) }, $begin ? (begin => $begin, once => $once) : ());
	%told_at_once = ();
	for my $result (@$results)
	{
		my $last = $result->{rows}[-1];
		$told_at_once{ $result->{state} eq '00000' ? "done $last->[0]" : $begin && $result->{state} eq '40001' ? 40001 : $result->{state} . ' ' . ($result->{detail} =~ /^(\w+)/ ? $1 : $result->{message}) }++;
	}
	$ids = transactions() - $before;
	$took = sprintf '%.1f s, %d locked something%s', $elapsed, $ids, $retries ? ", $retries again" : '';
	return join ', ', map { "$_ x $told_at_once{$_}" } sort keys %told_at_once;
}

# n who want what there is less of: how many got it, whose answer is done; the others are refused. Where a snapshot says what was
# before they try until they know, the first time; else they are told to, and there are as many as were answered so all the same.
sub scarce
{
	my ($isolation, $round, $n, $there_is, $done, $refused, $sql, $name) = @_;
	my $once = $isolation ne 'read committed' && $round > 1;
	my $told = at_once($isolation, $n, $sql, $once);
	my $got = $told_at_once{$done} || 0;

	if ($once)
	{
		is(join(', ', grep { !/^(\Q$done\E|\Q$refused\E|40001)\z/ } sort keys %told_at_once), '', "$isolation: $name, time $round") or diag($told);
		cmp_ok($got, '>', 0, 'somebody was first');
		cmp_ok($got, '<=', $there_is, 'and there were not too many');
	}
	else { is($told, sprintf('%s x %d, %s x %d', $refused, $n - $there_is, $done, $there_is), "$isolation: $name, time $round") }
	return $got;
}

sub deadlocks { return value('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()') }

# How many transactions have locked or written something: those that are refused before that have no id.
sub transactions { return value('SELECT pg_snapshot_xmax(pg_current_snapshot())') }

# A slow machine, with a thousand processes that all want it, needs longer than our functions or authenticator would wait.
my $started = time;
$crowd = InviteSyncCrowd->new($node, $db, 'authenticator', $many, options => '-c statement_timeout=0 -c lock_timeout=2min');
is(value(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crowd'}), $many, "$many connections at once");
diag(sprintf '%d connections: %.1f s', $many, time - $started);
my $others = $many - 1;

sub count_of { my ($from) = @_; return value("SELECT count(*) FROM $from") }
sub members { my ($organization) = @_; return count_of("invite_sync.membership WHERE organization_id = '$organization' AND user_id <> '" . inviter(0) . "'") }

sub invite_call
{
	my ($email, $organization) = @_;
	return "SELECT status FROM invite_sync.create_invitation('$email', organization_id => '$organization')";
}

# 100 inviters of ten organizations
my ($inviters, $wave) = (100, 0);
$inviters = int($many / 10) if $many < 1000;
my @shared = map { new_organization(inviter(0), 1000000) } 1 .. 10;
value("SELECT invite_sync.add_member('$shared[$_ % 10]', '" . inviter(100 + $_) . "', 'admin')") for 0 .. $inviters - 1;

# What each takes of all the rounds.
my %seconds_of;
sub took { my ($isolation, $what) = @_; push @{ $seconds_of{"$isolation, $what"} }, $took; return }

for my $isolation ('read committed', 'repeatable read', 'serializable')
{
	my $retried = $isolation ne 'read committed';

	for my $round (1 .. $rounds)
	{
		my ($organization, $token, $got);

		$organization = new_organization(inviter(0), 1000000);
		$token = new_link($organization, inviter(0), 1);
		$got = scarce($isolation, $round, $many, 1, 'done f', 'PT410 invitation_used', sub { request(person($_[0]), accept_call($token)) }, "one of $many people gets what is for one");
		took($isolation, "one token, $many people");
		is(members($organization), $got, 'and is a member');

		$organization = new_organization(inviter(0), 1000000);
		my ($uses, $people) = (50, 200);
		$token = new_link($organization, inviter(0), $uses);
		$got = scarce($isolation, $round, $people, $uses, 'done f', 'PT410 invitation_used', sub { request(person($_[0]), accept_call($token)) }, "$uses of $people get what is for $uses");
		took($isolation, "$uses uses, $people people");
		is(members($organization), $got, 'and are members');
		is(value("SELECT i.uses, i.status, (SELECT count(*) FROM invite_sync.invitation_acceptance AS a WHERE a.invitation_id = i.id) FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id WHERE g.organization_id = '$organization'"),
			join('|', $got, $got == $uses ? 'accepted' : 'pending', $got), 'and so often was the link used');

		$organization = new_organization(inviter(0), 1000000, 2);
		$token = new_link($organization, inviter(0), 'NULL');
		scarce($isolation, $round, 50, 1, 'done f', 'PT402 seats_exhausted', sub { request(person($_[0]), accept_call($token)) }, 'one of 50 gets the last seat');
		took($isolation, 'the last seat, 50 people');
		is(value("SELECT invite_sync.seats_used('$organization')"), 2, 'and all seats are taken');

		$organization = new_organization(inviter(0), 1000000, 2);
		scarce($isolation, $round, 50, 1, 'done pending', 'PT402 seats_exhausted', sub { request(inviter(0), invite_call("seat$_[0]\@load.example", $organization)) }, 'one of 50 invitations gets the last seat');
		took($isolation, 'the last seat, 50 invitations');
		is(value("SELECT invite_sync.seats_pending('$organization')"), 1, 'and holds it');

		# the same address by all at once: one invitation
		$organization = new_organization(inviter(0), 1000000);
		scarce($isolation, $round, 50, 1, 'done pending', 'PT409 already_invited', sub { request(inviter(0), invite_call('same@load.example', $organization)) }, 'one address is invited once');
		took($isolation, 'the same address, 50 times');
		is(value("SELECT invite_sync.seats_pending('$organization')"), 1, 'and there is one invitation');

		# four addresses, by many in one call and one by one, whoever comes first: one invitation each
		$organization = new_organization(inviter(0), 1000000);
		my $told = at_once($isolation, 50, sub {
			my ($n) = @_;
			my @addresses = map { 'many' . ($_ + $n) % 4 . '@load.example' } 0 .. 3;
			return request(inviter(0), invite_call($addresses[0], $organization)) if $n % 2;
			return request(inviter(0), 'SELECT count(*) FILTER (WHERE r.reason IS NULL AND NOT r.skipped) FROM invite_sync.create_invitations(\'['
				  . join(', ', map { qq({"email": "$_"}) } @addresses) . "]', organization_id => '$organization') AS r");
		}, $round > 1);
		is(join(', ', grep { !/^(done (pending|[0-4])|PT409 already_invited|40001)\z/ || /^40001/ && !$retried } sort keys %told_at_once), '', "$isolation: many addresses in one call, and one by one, time $round") or diag($told);
		$got = ($told_at_once{'done pending'} || 0) + sum0(map { $_ * ($told_at_once{"done $_"} || 0) } 1 .. 4);
		if ($retried && $round > 1) { cmp_ok($got, '>', 0, 'somebody was first') }
		else { is($got, 4, 'each is invited once, as was answered') }
		is(value("SELECT invite_sync.seats_pending('$organization')"), $got, 'and there are as many');
		took($isolation, 'the same addresses, 25 times one and 25 times all');

		$organization = new_organization(inviter(1), "(SELECT coalesce(max(q.used), 0) + 1 FROM invite_sync.user_invitation_quota AS q WHERE q.user_id = '" . inviter(1) . "')");
		scarce($isolation, $round, 50, 1, 'done pending', 'PT429 quota_exhausted', sub { request(inviter(1), invite_call("quota$_[0]\@load.example", $organization)) }, 'one of 50 gets what is left of a quota');
		took($isolation, 'the last of a quota, 50 invitations');
		is(value("SELECT remaining FROM invite_sync.user_invitation_quota WHERE user_id = '" . inviter(1) . "'"), 0, 'and nothing is left');

		# three each, wanted ten times by each
		value("SELECT count(invite_sync.set_quota(u.id, (SELECT coalesce(max(q.used), 0) + 3 FROM invite_sync.user_invitation_quota AS q WHERE q.user_id = u.id))) FROM auth.users AS u WHERE u.id BETWEEN '"
			  . inviter(100) . "' AND '" . inviter(99 + $inviters) . "'");
		my $before = value("SELECT coalesce(sum(used), 0) FROM invite_sync.user_invitation_quota WHERE user_id >= '" . inviter(100) . "'");
		$wave++;
		$got = scarce($isolation, $round, 10 * $inviters, 3 * $inviters, 'done pending', 'PT429 quota_exhausted',
			sub { request(inviter(100 + $_[0] % $inviters), invite_call("i$_[0].$wave\@load.example", $shared[ $_[0] % $inviters % 10 ])) }, "$inviters inviters send three invitations each, and no more");
		took($isolation, sprintf '%d invitations', 10 * $inviters);
		is(value("SELECT sum(used) FROM invite_sync.user_invitation_quota WHERE user_id >= '" . inviter(100) . "'") - $before, $got, 'and so much of their quotas is used');
		is(count_of("invite_sync.user_invitation_quota WHERE used > granted OR remaining > 0 AND $got = " . 3 * $inviters . " AND user_id >= '" . inviter(100) . "'"), 0, 'by none more than there was');
		is(count_of("invite_sync.invitation WHERE email LIKE 'i%.$wave\@load.example'"), $got, 'and there are as many');

		# who does it twice has done it once
		next if $retried && $round > 1;
		$organization = new_organization(inviter(0), 1000000);
		my $who = $round % 100;
		$token = value("SELECT token FROM invite_sync.create_invitation('b$who\@load.example', organization_id => '$organization', inviter_id => '" . inviter(0) . "')");
		is(at_once($isolation, $many, sub { request(person($who), accept_call($token)) }), "done f x 1, done t x $others",
			"$isolation: who accepts $many times at once does so once, time $round");
		took($isolation, "one token, $many times the same user");
		cmp_ok($ids, '<', $many / 2, 'most of them have locked nothing') unless $retried;
		is(members($organization), 1, 'and is a member');
	}
	diag("$_: " . join '; ', @{ $seconds_of{$_} }) for grep { /^$isolation/ } sort keys %seconds_of;
}
is(deadlocks(), 0, 'nobody waited in a circle');
$crowd->close;

# What counts in a quota has the mark, whoever notices first that it has expired: a link that somebody used is not given back.
{
	my $organization = new_organization(inviter(2), 2);
	my $link = new_link($organization, inviter(2), 2);
	my $in = "FROM invite_sync.invitation AS i JOIN invite_sync.user_invitation_quota AS q ON q.user_id = i.inviter_id WHERE i.inviter_id = '" . inviter(2) . "'";
	value('BEGIN; ' . request(person(0), accept_call($link)));
	value("UPDATE invite_sync.invitation SET expires_at = now() WHERE inviter_id = '" . inviter(2) . "'");
	value('CALL invite_sync.settle_invitations()');
	is(value("SELECT i.status, i.charged, q.used $in"), 'expired|t|1', 'a link that was used and has expired is not given back');
	value("SELECT invite_sync.resend_invitation(i.id, i.inviter_id) $in");
	is(value("SELECT i.status, i.charged, q.used $in"), 'pending|t|1', 'and sending it again does not take it once more');
}

is(value($_->[1]), '', $_->[0]) for invitations_fit();
is(deadlocks(), 0, 'and nobody has waited in a circle');

$reader->close;
$node->stop;
done_testing();
