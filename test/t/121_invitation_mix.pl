# Everything that can be done to invitations at once, by forty connections in any order: a few people, inviters and
# organizations, the auth server and an operator in between. Nobody waits in a circle, there is no error but refusals, and
# in the end everything fits together.
#
# INVITATION_MIX_SECONDS=n  how long (15, and a fifth of it under each of the other isolation levels)
# INVITATION_MIX_SEED=n     the mixture of another run again, as far as time allows

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncCrowd;
use InviteSyncLife qw(durable_cluster invitations_fit);
use InviteSyncTest qw(prepare_database session);
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{INVITATION_MIX_SECONDS} || 15;
my $seed = $ENV{INVITATION_MIX_SEED} || int(time) % 100_000;
my $db = 'app';
srand $seed;

# A circle is found soon: whoever waits in one does nothing else meanwhile. The log tells of who waited for whom.
my $node = durable_cluster('mix', conf => <<'CONF');
max_connections = 100
log_min_messages = warning
deadlock_timeout = 20ms
log_line_prefix = '%m [%p] %a %e '
CONF
prepare_database($node, $db);

my $reader = session($node, $db, 'supabase_admin');
sub value { my ($sql) = @_; return $reader->must($sql) }
sub deadlocks { return value('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()') }
my %begin = ('repeatable read' => 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'serializable' => 'BEGIN ISOLATION LEVEL SERIALIZABLE');
value(<<'SQL');
SELECT invite_sync.attach();
INSERT INTO auth.users (id, email, email_confirmed_at)
SELECT ('b' || lpad(to_hex(i), 7, '0') || '-0000-4000-8000-000000000000')::uuid, 'b' || i || '@mix.example', now() FROM generate_series(1, 2000) AS i;
SELECT invite_sync.set_rate_limit('invite', NULL), invite_sync.set_rate_limit('message', NULL);
ANALYZE auth.users;
SQL

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
	# one statement that locks two: in order of id, as we do, and not as a scan of the table finds them, which nobody can do anything about
	delete_two => [ 1, sub { by('auth', undef, "WITH two AS MATERIALIZED (SELECT u.id FROM auth.users AS u WHERE u.id IN ('" . one_of(@inviters) . "', '" . one_of(@people) . "') ORDER BY u.id FOR UPDATE) DELETE FROM auth.users AS u USING two WHERE u.id = two.id RETURNING u.id", \&gone) } ],
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
	name => 'storm', options => '-c statement_timeout=0 -c lock_timeout=50s -c client_min_messages=error');
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
diag("INVITATION_MIX_SEED=$seed");
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
none(@$_) for invitations_fit();
none('nobody is a member without having accepted', q{
SELECT m.organization_id, m.user_id FROM invite_sync.membership AS m JOIN invite_sync.organization AS o ON o.id = m.organization_id AND o.slug LIKE 'storm-%'
WHERE m.user_id::text NOT LIKE 'e000000%' AND NOT EXISTS (SELECT FROM invite_sync.invitation_acceptance AS a JOIN invite_sync.invitation_grant AS g ON g.invitation_id = a.invitation_id
	WHERE a.user_id = m.user_id AND g.organization_id = m.organization_id)});
# the keeper's memberships are made by hand, which writes no copies
none('every token would carry what is so', q{
SELECT u.id, u.raw_app_meta_data->'invite_sync', invite_sync.tenant_copy(u.id) FROM auth.users AS u
WHERE u.email LIKE '%@storm.example' AND u.email <> 'e15@storm.example' AND u.deleted_at IS NULL AND coalesce(u.raw_app_meta_data->'invite_sync', '{}') IS DISTINCT FROM coalesce(invite_sync.tenant_copy(u.id), '{}') LIMIT 5});

$reader->close;
$node->stop;
done_testing();
