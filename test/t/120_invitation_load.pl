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
use InviteSyncLife qw(durable_cluster);
use InviteSyncTest qw(prepare_database session);
use List::Util qw(sum0);
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

# ---------------------------------------------------------------------------
# Everything at once: a few people and organizations, all that can be done to them, in any order.

my ($n_inviters, $n_people, $n_organizations) = (6, 10, 5);
my $keeper = sprintf 'e%07x-0000-4000-8000-000000000000', 15;
my @places = map { sprintf 'd%07x-0000-4000-8000-000000000000', $_ } 0 .. $n_organizations - 1;
my @inviters = map { sprintf 'e%07x-0000-4000-8000-000000000000', $_ } 0 .. $n_inviters - 1;
my @people = map { sprintf 'f%07x-0000-4000-8000-000000000000', $_ } 0 .. $n_people - 1;
sub one_of { return $_[ rand @_ ] }
sub inviting { return one_of($keeper, one_of(@inviters)) }
# Ids are not used again: who comes back after a deletion, which takes the address away, is another user with the same address.
my (%gone, $born);
sub gone { my ($row) = @_; $gone{ $row->[0] } = 1; return }
sub somebody_new
{
	my @slots = (map({ [ 'f', $_, \$people[$_] ] } 0 .. $#people), map({ [ 'e', $_, \$inviters[$_] ] } 0 .. $#inviters));
	my ($letter, $n, $slot) = @{ one_of(grep({ $gone{ ${ $_->[2] } } } @slots), one_of(@slots)) };
	return by('auth', undef, "UPDATE auth.users SET updated_at = now() WHERE id = '$$slot'") unless $gone{$$slot};
	return by('auth', undef, sprintf(q{INSERT INTO auth.users (id, email, email_confirmed_at) VALUES ('%s%07x-0000-4000-8000-%012x', '%s%d@storm.example', now()) ON CONFLICT DO NOTHING RETURNING id}, $letter, $n, ++$born, $letter, $n),
		sub { $$slot = $_[0][0] });
}
# everybody has two addresses, and changes from one to the other
sub address { return one_of('f', 'f', 'f', 'g') . int(rand $n_people) . '@storm.example' }

# Places that are gone come back as they were; the keeper owns them all, so that none is ever without an owner.
my $restore = join "\n", (map {
	my ($place, $n) = ($places[$_], $_);
	my $parent = $n == 2 || $n == 3 ? "(SELECT o.id FROM invite_sync.organization AS o WHERE o.id = '$places[0]')" : 'NULL';
	my $seats = $n == 0 ? 14 : $n == 4 ? 8 : 'NULL';
	"INSERT INTO invite_sync.organization (id, name, slug, parent_id, seat_limit) SELECT '$place', 'Storm $n', 'storm-$n', x.id, " . ($n == 2 || $n == 3 ? 'NULL' : $seats) . " FROM (SELECT ${parent}::uuid AS id) AS x"
	  . ($n == 2 || $n == 3 ? ' WHERE x.id IS NOT NULL' : '') . " ON CONFLICT DO NOTHING;\n"
	  . "INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT o.id, '$keeper', '00000000-0000-4000-8000-00000000000a' FROM invite_sync.organization AS o WHERE o.id = '$place' ON CONFLICT DO NOTHING;";
} 0 .. $#places),
  "INSERT INTO invite_sync.role (name, organization_id) SELECT 'guide', o.id FROM invite_sync.organization AS o WHERE o.id = '$places[0]' ON CONFLICT DO NOTHING;";
value(<<"SQL");
INSERT INTO auth.users (id, email, email_confirmed_at) SELECT id, left(id::text, 1) || ('x' || substr(id::text, 2, 7))::bit(28)::integer || '\@storm.example', now()
FROM unnest('{$keeper,@{[ join ',', @inviters, @people ]}}'::uuid[]) AS x (id);
$restore
SELECT invite_sync.set_rate_limit('resend', NULL), invite_sync.set_rate_limit('check_invitation', NULL);
SQL

# What is known of invitations by those who made them: [id, token, address, does it prove the address]. Old ones are forgotten.
my @known = ([ '00000000-0000-4000-8000-000000000000', 'inv_none', 'nobody@storm.example', 0 ]);
sub learn { push @known, [@_] if $_[0]; shift @known if @known > 80; return }
sub learn_row { my ($row, $proves) = @_; learn(@$row[ 0 .. 2 ], $proves) if defined $row->[1]; return }
my %uses;    # by what was answered
my @somewhere = ([ $places[0], $inviters[0] ], [ $places[0], $people[0] ]);    # who has become a member of late: [organization, user]
sub somewhere { my ($whose) = @_; return @{ one_of(grep { $_->[1] =~ /^$whose/ } @somewhere) } }
sub joined { my ($place, $user) = @_; push @somewhere, [ $place, $user ]; splice @somewhere, 2, 1 if @somewhere > 20; return }
sub used
{
	my ($row) = @_;
	$uses{ $row->[0] }++ if $row->[1] eq 'f';
	joined($_, $row->[3]) for $row->[2] ? $row->[2] =~ /([^{},]+)/g : ();
	return;
}

# who, as which user, what, and what to do with its rows
sub by { my ($who, $user, $sql, $then) = @_; return { who => $who, user => $user, sql => $sql, then => $then } }
sub whom { my ($n) = @_; my ($p) = grep { $_->[2] =~ /^[fg]$n@/ } reverse @known; return $p || one_of(@known) }
sub recent { return $known[ -1 - rand(@known > 10 ? 10 : @known) ] }
sub pending_choice { return one_of('refuse', 'resend', 'replace') }
my $created = sub { learn_row($_[0], 0) };
my %storm = (
	create => [ 8, sub { by('user', inviting(), sprintf(q{SELECT invitation_id, token, email FROM invite_sync.create_invitation('%s', '%s', '%s', on_pending => '%s')}, address(), one_of('member', 'member', 'admin', 'guide'), one_of(@places), pending_choice()), $created) } ],
	create_for_several => [ 5, sub {
		my @some = (sort { rand() <=> 0.5 } @places)[ 0 .. 1 + rand 3 ];
		by('user', $keeper, sprintf(q{SELECT invitation_id, token, email FROM invite_sync.create_invitation('%s', grants => '[%s]', on_pending => '%s')}, address(), join(', ', map { qq({"organization_id": "$_"}) } @some), pending_choice()), $created) } ],
	create_for_somebody => [ 7, sub { by('service', undef, sprintf(q{SELECT invitation_id, token, email FROM invite_sync.create_invitation('%s', organization_id => '%s', on_pending => '%s', inviter_id => '%s')}, one_of(address(), map({ 's' . int(rand 100) . '@storm.example' } 1 .. 3)), one_of(@places), pending_choice(), inviting()), sub { learn_row($_[0], 1) }) } ],
	create_many => [ 3, sub { by('user', inviting(), sprintf(q{SELECT invitation_id, token, email FROM invite_sync.create_invitations('[%s]', on_pending => '%s')}, join(', ', map { sprintf '{"email": "%s", "organization_id": "%s"}', address(), one_of(@places) } 0 .. 1 + rand 4), pending_choice()), $created) } ],
	create_alone => [ 2, sub { by('user', one_of(@inviters), sprintf(q{SELECT invitation_id, token, email FROM invite_sync.create_invitation('%s', on_pending => '%s')}, address(), pending_choice()), $created) } ],
	create_link => [ 4, sub { by('user', inviting(), sprintf(q{SELECT invitation_id, token, 'link' FROM invite_sync.create_invite_link('%s', max_uses => %s)}, one_of(@places), one_of(1, 1, 2, 3, 'NULL')), $created) } ],
	resend => [ 5, sub { by('user', $keeper, "SELECT invitation_id, token, coalesce(email, 'link') FROM invite_sync.resend_invitation('" . recent()->[0] . "')", $created) } ],
	revoke => [ 4, sub { by('user', one_of($keeper, inviting()), "SELECT status FROM invite_sync.revoke_invitation('" . recent()->[0] . "')") } ],
	check => [ 1, sub { by('user', inviting(), sprintf q{SELECT reason FROM invite_sync.check_invitation('%s', 'member', '%s')}, address(), one_of(@places)) } ],
	accept => [ 18, sub { my $n = int rand $n_people; my $which = rand() < 0.3 ? one_of(@known) : whom($n); by('user', $people[$n], "SELECT invitation_id, already, organization_ids, '$people[$n]' FROM invite_sync.accept_invitation('$which->[1]')", \&used) } ],
	accept_mine => [ 10, sub { my $n = int rand $n_people; by('user', $people[$n], "SELECT invitation_id, already, organization_ids, '$people[$n]' FROM invite_sync.accept_my_invitation('" . whom($n)->[0] . "')", \&used) } ],
	decline => [ 4, sub { my $n = int rand $n_people; by('user', $people[$n], "SELECT status FROM invite_sync.decline_invitation('" . whom($n)->[1] . "')") } ],
	bind => [ 1, sub { my $n = int rand $n_people; by('user', $people[$n], "SELECT device_until FROM invite_sync.bind_invitation('" . whom($n)->[1] . "', 'd')") } ],
	look => [ 2, sub { by('anon', undef, "SELECT role FROM invite_sync.get_invitation('" . one_of(@known)->[1] . "')") } ],
	sign_up => [ 5, sub { my $which = one_of(grep({ $_->[2] =~ /^s/ } @known), $known[0]); by('anon', undef, "SELECT '$which->[0]', 'f' FROM invite_sync.signup_with_invitation('$which->[1]', 'a password of some length')", \&used) } ],
	leave => [ 2, sub { my @of = somewhere('f'); by('user', $of[1], "SELECT * FROM invite_sync.leave_organization('$of[0]')") } ],
	add_inviter => [ 6, sub { my @of = (one_of(@places), one_of(@inviters)); by('service', undef, sprintf(q{SELECT role FROM invite_sync.add_member('%s', '%s', '%s')}, @of, one_of('admin', 'admin', 'guide')), sub { joined(@of) }) } ],
	set_role => [ 3, sub { by('service', undef, sprintf q{SELECT role FROM invite_sync.set_member_role('%s', '%s', '%s')}, somewhere('[ef]'), one_of('admin', 'member', 'guide')) } ],
	set_permissions => [ 1, sub { by('service', undef, "SELECT * FROM invite_sync.set_role_permissions('guide', '" . one_of('{members.read}', '{members.read,invitations.read,invitations.create}') . "', '$places[0]')") } ],
	remove_member => [ 4, sub { by('service', undef, sprintf q{SELECT * FROM invite_sync.remove_member('%s', '%s')}, somewhere('[ef]')) } ],
	delete_organization => [ 1, sub { by('service', undef, sprintf q{SELECT * FROM invite_sync.delete_organization('%s', %s)}, one_of(@places), one_of('true', 'false')) } ],
	set_seats => [ 1, sub { by('service', undef, sprintf q{SELECT * FROM invite_sync.set_seats('%s', %d)}, $places[ one_of(0, 4) ], 6 + rand 8) } ],
	quota => [ 3, sub { by('service', undef, "SELECT * FROM invite_sync.grant_quota('" . inviting() . "', 20)") } ]);
my %storm_of_auth = (
	change_address => [ 5, sub { my $n = int rand $n_people; by('auth', undef, "UPDATE auth.users SET email = CASE WHEN email LIKE 'f%' THEN 'g' ELSE 'f' END || '$n\@storm.example' WHERE id = '$people[$n]' AND deleted_at IS NULL") } ],
	ban => [ 3, sub { by('auth', undef, "UPDATE auth.users SET banned_until = CASE WHEN random() < 0.1 THEN now() + '1 hour' END WHERE id = '" . one_of(@inviters, @people) . "'") } ],
	sign_in => [ 6, sub { by('auth', undef, "UPDATE auth.users SET last_sign_in_at = now(), raw_app_meta_data = '{\"provider\": \"email\"}' WHERE id = '" . one_of($keeper, @inviters, @people) . "'") } ],
	delete => [ 1, sub { by('auth', undef, "DELETE FROM auth.users WHERE id = '" . one_of(@inviters, @people) . "' RETURNING id", \&gone) } ],
	delete_two => [ 1, sub { by('auth', undef, "DELETE FROM auth.users WHERE id IN ('" . one_of(@inviters) . "', '" . one_of(@people) . "') RETURNING id", \&gone) } ],
	delete_softly => [ 1, sub { by('auth', undef, "UPDATE auth.users SET deleted_at = now(), email = 'gone-' || id || '\@storm.example' WHERE id = '" . one_of(@inviters, @people) . "' RETURNING id", \&gone) } ],
	sign_up => [ 8, \&somebody_new ],
	# strangers are whoever comes first: the auth server or signup_with_invitation()
	sign_up_stranger => [ 2, sub { by('auth', undef, sprintf q{INSERT INTO auth.users (id, email, email_confirmed_at) VALUES ('%s', '%s', now()) ON CONFLICT DO NOTHING}, sprintf('f%07x-0000-4000-9000-%012x', 0, ++$born), one_of(map({ $_->[2] =~ /^s/ ? $_->[2] : () } @known), 's100@storm.example')) } ]);
my %storm_of_operators = (
	expire => [ 1, sub { by('operator', undef, "UPDATE invite_sync.invitation SET expires_at = clock_timestamp() + random() * interval '20 ms' WHERE id = '" . one_of(@known)->[0] . "' AND status = 'pending'") } ],
	settle => [ 2, sub { { who => 'procedure', sql => 'CALL invite_sync.settle_invitations(10)' } } ],
	restore => [ 5, sub { by('operator', undef, $restore) } ]);

# one of them, as often as its weight says
my %drawn;
sub draw
{
	my ($from) = @_;
	my $all = $drawn{$from} ||= [ map { ($_) x $from->{$_}[0] } sort keys %$from ];
	my $name = one_of(@$all);
	return ($name, $from->{$name}[1]->());
}

my %told;
my $storming = InviteSyncCrowd->new($node, $db, sub { $_[0] < 28 ? 'authenticator' : $_[0] < 36 ? 'supabase_auth_admin' : 'supabase_admin' }, 40,
	name => 'storm', options => '-c statement_timeout=0 -c lock_timeout=0 -c client_min_messages=error');
sub storm
{
	my ($isolation, $time, @wanted) = @_;
	my $until = time + $time;
	my $last = $until + 60;
	my %doing;
	my $begin = $begin{$isolation} || 'BEGIN';
	my $next = sub {
		my ($i) = @_;
		my ($name, $what) = draw($i < 28 ? \%storm : $i < 36 ? \%storm_of_auth : \%storm_of_operators);
		my $role = { user => 'authenticated', anon => 'anon', service => 'service_role' }->{ $what->{who} };
		my $claims = $role && sprintf '{"role": "%s"%s}', $role, $what->{user} ? qq(, "sub": "$what->{user}") : '';
		my $sql = $what->{who} eq 'procedure' ? $what->{sql}
		  : $role ? "$begin; SET LOCAL ROLE $role; SELECT set_config('request.jwt.claims', '$claims', true); $what->{sql}; COMMIT"
		  : "BEGIN; $what->{sql}; COMMIT";
		# the others are there to be in the way, and not all of the time
		my $rest = $i < 28 ? 0 : $i < 36 ? 0.3 : 0.5;
		$doing{$i} = [ ($i < 28 ? '' : $i < 36 ? 'auth ' : 'operator ') . $name, $role ? 1 : 0, $what->{then} ];
		$storming->send($i, $sql, 'ROLLBACK', $rest ? "SELECT pg_sleep($rest * random())" : ());
	};
	$next->($_) for 0 .. 39;
	while (%doing)
	{
		for my $i ($storming->poll(1))
		{
			my ($name, $claimed, $then) = @{ delete $doing{$i} };
			my $result = ($storming->take($i))[0];
			my @rows = @{ $result->{rows} };
			shift @rows if $claimed;
			$told{$isolation}{$name}{ $result->{state} eq '00000' ? 'done' : "$result->{state} " . ($result->{state} =~ /^PT/ && $result->{detail} =~ /^(\w+)/ ? $1 : $result->{message}) }++;
			if ($then && $result->{state} eq '00000') { $then->($_) for @rows }
			# on a slow machine what is rare takes longer to succeed
			$until = time + 1 if time >= $until && time < $last && grep { !$told{$isolation}{$_}{done} } @wanted;
			$next->($i) if time < $until;
		}
		die 'nobody answers' if time > $last + 120;
	}
	return;
}
diag("INVITATION_LOAD_SEED=$seed");
my @all = (sort(keys %storm), map({ "auth $_" } sort keys %storm_of_auth), map({ "operator $_" } sort keys %storm_of_operators));
storm('read committed', $seconds, @all);
storm('repeatable read', $seconds / 5);
storm('serializable', $seconds / 5);
$storming->close;

# ---------------------------------------------------------------------------
# What came of it

is(deadlocks(), 0, 'nobody waited in a circle');
my $done = 0;
for my $isolation (sort keys %told)
{
	for my $name (sort keys %{ $told{$isolation} })
	{
		my $of = $told{$isolation}{$name};
		diag("$isolation, $name: " . join ', ', map { "$_ x $of->{$_}" } sort keys %$of);
		$done += $of->{done} || 0;
		# Who invites an address that somebody invites elsewhere meanwhile may be told to try again; others only under an isolation level that says so.
		my @bad = grep { $_ ne 'done' && ($name =~ /^auth|^operator/ || !/^PT4\d\d [a-z_]+\z/)
			  && !($name !~ /^auth/ && /^40001/ && ($isolation ne 'read committed' || $name =~ /^create/ && /the address has just been invited/)) } sort keys %$of;
		is("@bad", '', "$isolation, $name: done, or refused with a reason");
	}
}
for my $name (@all)
{
	cmp_ok($told{'read committed'}{$name}{done} || 0, '>', 0, "$name succeeded");
}
diag("$done times something was done");

# What the auth server's statement could not wait for is made up for.
value('SELECT count(*) FROM invite_sync.retry_quarantine(due_only => false)') for 1 .. 2;
sub none { my ($name, $query) = @_; return is(value($query), '', $name) }
# Who became a member by something else has used what they were invited by, too.
none('uses are what was answered', 'SELECT i.id, i.kind, i.status, i.uses, x.uses FROM invite_sync.invitation AS i FULL JOIN (VALUES '
	  . join(', ', "('00000000-0000-4000-8000-000000000000'::uuid, 0)", map { "('$_', $uses{$_})" } sort keys %uses)
	  . q{) AS x (id, uses) ON x.id = i.id JOIN auth.users AS keeper ON keeper.email = 'e15@storm.example' WHERE (i.email LIKE '%@storm.example' OR i.id IN (SELECT g.invitation_id FROM invite_sync.invitation_grant AS g JOIN invite_sync.organization AS o ON o.id = g.organization_id WHERE o.slug LIKE 'storm-%')) AND coalesce(i.uses, 0) <> coalesce(x.uses, 0) AND NOT (i.kind = 'email' AND i.uses = 1 AND x.uses IS NULL)});
none('nobody has accepted more often than that', 'SELECT i.id, i.uses FROM invite_sync.invitation AS i WHERE i.uses < (SELECT count(*) FROM invite_sync.invitation_acceptance AS a WHERE a.invitation_id = i.id)');
none('nor more often than it may be used, and what is used up is accepted', q{
SELECT i.id, i.kind, i.status, i.uses, i.max_uses FROM invite_sync.invitation AS i
WHERE i.uses > CASE i.kind WHEN 'email' THEN 1 ELSE coalesce(i.max_uses, 1000000) END OR (i.status = 'accepted') <> (i.uses = CASE i.kind WHEN 'email' THEN 1 ELSE i.max_uses END)
	AND NOT (i.status = 'accepted' AND i.kind = 'email' AND i.uses = 0)});
none('nobody is a member without having accepted', q{
SELECT m.organization_id, m.user_id FROM invite_sync.membership AS m JOIN invite_sync.organization AS o ON o.id = m.organization_id AND o.slug LIKE 'storm-%'
WHERE m.user_id::text NOT LIKE 'e000000%' AND NOT EXISTS (SELECT FROM invite_sync.invitation_acceptance AS a JOIN invite_sync.invitation_grant AS g ON g.invitation_id = a.invitation_id
	WHERE a.user_id = m.user_id AND g.organization_id = m.organization_id)});
none('members and invitations fit into the seats', q{
SELECT o.slug, o.seat_limit, o.bonus_seats, invite_sync.seats_used(o.id), invite_sync.seats_pending(o.id) FROM invite_sync.organization AS o
WHERE invite_sync.seats_used(o.id) + invite_sync.seats_pending(o.id) > o.seat_limit + o.bonus_seats});
none('what is used of a quota are invitations that count', q{
SELECT q.user_id, q.granted, q.used, count(i.id) FROM invite_sync.user_invitation_quota AS q LEFT JOIN invite_sync.invitation AS i ON i.inviter_id = q.user_id AND i.charged
GROUP BY 1, 2, 3 HAVING q.used <> count(i.id) OR q.used > q.granted});
none('an address has one invitation to an organization', q{
SELECT i.email, g.organization_id, array_agg(i.id) FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.open
WHERE i.kind = 'email' AND i.status = 'pending' AND i.expires_at > now() AND NOT i.shadow GROUP BY 1, 2 HAVING count(*) > 1});
none('what has ended gives nothing', q{SELECT i.id, i.status FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.open WHERE i.status <> 'pending'});
none('and what is pending gives something', q{
SELECT i.id, i.kind, i.email FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND i.expires_at > now() AND NOT i.alone AND i.platform_role_id IS NULL
	AND NOT EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id AND g.open)});
none('nothing belongs to an organization that is gone', q{
SELECT g.invitation_id, g.organization_id FROM invite_sync.invitation_grant AS g WHERE g.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT m.id, m.organization_id FROM invite_sync.membership AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)});
none('nor to a user who is', q{
SELECT x.what, x.user_id FROM (SELECT 'acceptance' AS what, a.user_id FROM invite_sync.invitation_acceptance AS a UNION SELECT 'membership', m.user_id FROM invite_sync.membership AS m
	UNION SELECT 'quota', q.user_id FROM invite_sync.user_invitation_quota AS q
	UNION SELECT 'inviter', i.inviter_id FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND i.expires_at > now() AND i.inviter_id IS NOT NULL) AS x
LEFT JOIN auth.users AS u ON u.id = x.user_id AND u.deleted_at IS NULL WHERE u.id IS NULL});
# the keeper's memberships are made by hand, which writes no copies
none('every token would carry what is so', q{
SELECT u.id, u.raw_app_meta_data->'invite_sync', invite_sync.tenant_copy(u.id) FROM auth.users AS u
WHERE u.email LIKE '%@storm.example' AND u.email <> 'e15@storm.example' AND u.deleted_at IS NULL AND coalesce(u.raw_app_meta_data->'invite_sync', '{}') IS DISTINCT FROM coalesce(invite_sync.tenant_copy(u.id), '{}') LIMIT 5});
none('verify() finds no error', q{SELECT area, object, finding FROM invite_sync.verify() WHERE severity = 'error'});

$reader->close;
$node->stop;
done_testing();
