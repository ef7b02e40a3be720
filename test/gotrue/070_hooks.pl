# The hooks: what the auth server answers when it asks them, and the tokens that
# it makes. What must be so in every database is in test/sql/hook.sql; here, that
# the server understands it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use Digest::SHA qw(hmac_sha1);
use InviteSyncGotrue qw(migrated_database start_server);
use InviteSyncGotrueStory qw(targets);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster session slurp);
use JSON::PP;
use MIME::Base64 qw(decode_base64url);
use Test::More;

my $db = 'hooks';
my $password = 'correct horse battery';
my $json = JSON::PP->new->canonical->allow_nonref;
my $node = new_cluster('hooks');
migrated_database($node, $db);
value($node, $db, 'CREATE EXTENSION invite_sync');
targets($node, $db);

my %hook = map { (
		"GOTRUE_HOOK_" . uc($_) . '_ENABLED' => 'true',
		"GOTRUE_HOOK_" . uc($_) . '_URI' => "pg-functions://postgres/invite_sync/${_}_hook") }
  qw(before_user_created after_user_created custom_access_token password_verification_attempt mfa_verification_attempt);

# As the documentation has them
my $docs = slurp("$FindBin::RealBin/../../docs/hook.md");
like($docs, qr/^\Q$_=$hook{$_}\E$/m, "docs/hook.md has $_") for sort keys %hook;

my $server = start_server($node, $db, %hook);
my $service = $server->service_token;

# Settings, for the sessions that the server has already
sub settings
{
	my (%settings) = @_;
	$node->append_conf('postgresql.conf', join '', map { "invite_sync.$_ = '$settings{$_}'\n" } sort keys %settings);
	$node->reload;
	for my $name (sort keys %settings)
	{
		$node->poll_query_until('postgres', "SELECT setting = '$settings{$name}' FROM pg_file_settings WHERE name = 'invite_sync.$name' AND applied")
		  or die "invite_sync.$name is not set";
	}
	# a session takes it up between two statements
	sleep 1;
	return;
}

sub answered
{
	my ($answer) = @_;
	my $body = $answer->{body};
	return "$answer->{status} " . (ref $body eq 'HASH' ? $body->{msg} || $body->{error_description} || '' : $body);
}

sub post
{
	my ($where, $body, $as) = @_;
	return $server->request('POST', $where, $body, $as);
}

sub users { return value($node, $db, "SELECT count(*) FROM auth.users WHERE email = '$_[0]' OR phone = '$_[0]'") }

sub claims
{
	my ($answer) = @_;
	my (undef, $claims) = split /\./, $answer->{body}{access_token};
	return $json->decode(decode_base64url($claims));
}

sub login
{
	my ($name, $with) = @_;
	return post('/token?grant_type=password', { email => "$name\@example.com", password => $with || $password });
}

sub invite
{
	my ($email) = @_;
	return value($node, $db, "SELECT status FROM invite_sync.create_invitation('$email')");
}

# ---------------------------------------------------------------------------
# Who may sign up

is(post('/signup', { email => 'early@example.com', password => $password })->{status}, 200, 'open: everybody signs up');

my $uninvited = '403 signing up needs an invitation to this email address';
my $no_address = '403 signing up needs an email address';

settings(signup_policy => 'invite_only');
my @ways = (
	[ 'by password', '/signup', { email => 'stranger@example.com', password => $password } ],
	[ 'by mail', '/otp', { email => 'stranger@example.com' } ],
	[ 'by a magic link', '/magiclink', { email => 'stranger@example.com' } ],
	[ 'invited by the server itself', '/invite', { email => 'stranger@example.com' }, $service ],
	[ 'with a link that an administrator asked for', '/admin/generate_link', { type => 'invite', email => 'stranger@example.com' }, $service ]);
for my $way (@ways)
{
	my ($what, @request) = @$way;
	is(answered(post(@request)), $uninvited, "invite_only: nobody uninvited comes $what");
}
is(users('stranger@example.com'), '0', 'and nobody has');
is(answered(post('/signup', {})), $no_address, 'nobody anonymous');
is(answered(post('/signup', { phone => '15550000001', password => $password })), $no_address, 'nobody by phone');
is(answered(post('/otp', { phone => '15550000002' })), $no_address, 'nor by a code on the phone');
is(post('/admin/users', { email => 'made@example.com', password => $password, email_confirm => JSON::PP::true }, $service)->{status},
	200, 'an administrator makes users all the same');

is(invite('guest@example.com'), 'pending', 'somebody is invited');
my $answer = post('/signup', { email => 'Guest@Example.com', password => $password });
is($answer->{status}, 200, 'and signs up');
is(value($node, $db, "SELECT count(*) FROM invite_sync.invitation WHERE email = 'guest\@example.com' AND status = 'pending'"),
	'1', 'which uses nothing up');
is(invite('colleague@example.com'), 'pending', 'somebody else');
is(post('/invite', { email => 'colleague@example.com', data => { full_name => 'Colleague' } }, $service)->{status}, 200, 'is invited by the server then');
is(value($node, $db, q{SELECT string_agg(concat_ws(' ', e.action, jsonb_array_length(e.data->'invitation_ids'), e.data->'payload'->>'email', e.data->'payload'->>'invited_at'), ', ' ORDER BY e.id)
		FROM invite_sync.event AS e JOIN auth.users AS u ON u.id::text = e.target_id WHERE e.action LIKE 'account.%' AND u.email IN ('guest@example.com', 'colleague@example.com', 'made@example.com')}),
	'account.created_by_auth_server 1, account.invited_by_auth_server 1 [PRESENT] [PRESENT]', 'both have left a trace');
is(value($node, $db, q{SELECT count(*) FROM invite_sync.event AS e WHERE e.data::text ~ 'example|Colleague'}), '0', 'without an address or a name');

settings(signup_without_email => 'anonymous, phone');
is(post('/signup', {})->{status}, 200, 'with a word for it anonymous users come');
is(post('/signup', { phone => '15550000001', password => $password })->{status}, 200, 'and those with a phone');

settings(signup_policy => 'domain_only', signup_domains => 'corp.example');
is(answered(post('/signup', { email => 'x@example.com', password => $password })), '403 signing up is not open to this email domain', 'domain_only: not from elsewhere');
is(post('/signup', { email => 'x@corp.example', password => $password })->{status}, 200, 'but from there');

value($node, $db, "SELECT invite_sync.set_rate_limit('signup', 1, scope => 'address')");
is(post('/signup', { email => 'y@corp.example', password => $password })->{status}, 200, 'one in an hour from one address');
is(answered(post('/signup', { email => 'z@corp.example', password => $password })), '429 too many requests', 'and not a second');
value($node, $db, "SELECT invite_sync.drop_rate_limit('signup', 'address')");

# The extension out of order: closed under a policy that limits, open otherwise
value($node, $db, 'ALTER TABLE invite_sync.rate_limit_rule RENAME TO gone; ALTER VIEW invite_sync.rate_limits RENAME TO gone_too');
is(answered(post('/signup', { email => 'z@corp.example', password => $password })), '503 signing up is not possible now, try again later', 'failing, it is closed');
settings(signup_policy => 'open');
is(post('/signup', { email => 'z@corp.example', password => $password })->{status}, 200, 'and open where everybody may');
value($node, $db, 'ALTER TABLE invite_sync.gone RENAME TO rate_limit_rule; ALTER VIEW invite_sync.gone_too RENAME TO rate_limits');

# ---------------------------------------------------------------------------
# What is in the tokens

settings(tenant_copy => 'off');
my %id;
for my $name (qw(ann bob))
{
	$id{$name} = post('/admin/users', { email => "$name\@example.com", password => $password, email_confirm => JSON::PP::true,
			app_metadata => { plan => 'gold' } }, $service)->{body}{id};
}
my $bare = claims(login('bob'));
is($json->encode($bare->{app_metadata}{invite_sync}), '{"organizations":[]}', 'who is a member of nothing has nothing in the token');

value($node, $db, $_) for
  "SELECT invite_sync.create_organization('Acme', 'acme', owner_id => '$id{ann}')",
  "SELECT invite_sync.create_organization('Acme Labs', 'labs', parent_id => (SELECT id FROM invite_sync.organization WHERE slug = 'acme'))",
  "SELECT invite_sync.create_organization('Side', 'side', owner_id => '$id{ann}')",
  "SELECT invite_sync.create_permission('papers.write', '')",
  "SELECT invite_sync.create_role('writer', ARRAY['papers.write'])",
  "SELECT invite_sync.add_member(id, '$id{bob}', CASE slug WHEN 'acme' THEN 'member' ELSE 'writer' END) FROM invite_sync.organization WHERE slug IN ('acme', 'labs')",
  "SELECT invite_sync.set_platform_role('$id{bob}', 'writer')";

my $login = login('bob');
my $claims = claims($login);
my %is;
for my $organization (@{ $claims->{app_metadata}{invite_sync}{organizations} })
{
	my $slug = value($node, $db, "SELECT slug FROM invite_sync.organization WHERE id = '$organization->{id}'");
	$is{$slug} = join ' ', $organization->{role}, @{ $organization->{permissions} };
}
is_deeply(\%is,
	{ acme => 'member members.read organization.read', labs => 'writer members.read organization.read papers.write' },
	'the organizations of a user are in the token, with role and permissions');
is($claims->{app_metadata}{invite_sync}{platform_role}, 'writer', 'and the platform role');
is($claims->{app_metadata}{plan}, 'gold', 'beside what else is there');
is(value($node, $db, "SELECT count(*) FROM auth.users WHERE raw_app_meta_data ? 'invite_sync'"), '0', 'nothing is copied into the column');

# every other claim is as it was before
for my $set ($bare, $claims)
{
	delete $set->{app_metadata}{invite_sync};
	delete @$set{qw(exp iat session_id amr)};
}
is_deeply($claims, $bare, 'no other claim has changed');

# The policies' helpers agree, asked with the claims of this very token.
sub helpers_disagree
{
	my ($token) = @_;
	my $all = claims($token);
	my $set = $json->encode($all->{app_metadata}{invite_sync}{organizations});
	my $given = $json->encode($all);
	s/'/''/g for $set, $given;
	my @organizations = map { "'$_'" } split /\n/, value($node, $db, 'SELECT id FROM invite_sync.organization');
	my @permissions = map { "'$_'" } split /\n/, value($node, $db, 'SELECT name FROM invite_sync.permission');
	my $session = session($node, $db, 'authenticator');
	$session->must("SELECT set_config('request.jwt.claims', '$given', false)");
	$session->must('SET ROLE authenticated');
	my $found = $session->must("
		WITH claimed AS (SELECT (e->>'id')::uuid AS id, e->>'role' AS role, e->'permissions' AS permissions FROM jsonb_array_elements('$set'::jsonb) AS e)
		SELECT string_agg(what, ', ') FROM (
			SELECT o::text FROM unnest(ARRAY[" . join(', ', @organizations) . "]::uuid[]) AS o LEFT JOIN claimed AS c ON c.id = o
			 WHERE invite_sync.is_member(o) IS DISTINCT FROM (c.id IS NOT NULL) OR (c.id IS NOT NULL AND NOT invite_sync.has_role(o, c.role))
			UNION ALL
			SELECT o || ' ' || p FROM unnest(ARRAY[" . join(', ', @organizations) . "]::uuid[]) AS o CROSS JOIN unnest(ARRAY[" . join(', ', @permissions) . "]) AS p LEFT JOIN claimed AS c ON c.id = o
			 WHERE invite_sync.has_permission(o, p) IS DISTINCT FROM coalesce(c.permissions ? p, false)) AS x (what)");
	$session->close;
	return $found;
}
is(helpers_disagree($login), '', 'the helpers say the same');
is(helpers_disagree(login('ann')), '', 'also of an owner of several');

# A change is in the next refresh.
value($node, $db, "SELECT invite_sync.remove_member(id, '$id{bob}') FROM invite_sync.organization WHERE slug = 'labs'");
$answer = post('/token?grant_type=refresh_token', { refresh_token => $login->{body}{refresh_token} });
is($answer->{status}, 200, 'a token is refreshed');
is(helpers_disagree($answer), '', 'and says what is so by then');

settings(token_claims_bytes => 512);
my $capped = claims(login('ann'))->{app_metadata}{invite_sync};
ok($capped->{truncated}, 'what is too large is cut, and says so');
cmp_ok(length($json->encode($capped)), '<=', 512, 'to the size that is allowed');
settings(token_claims_bytes => 4096);

value($node, $db, 'ALTER TABLE invite_sync.membership RENAME TO gone');
$answer = login('bob');
is($answer->{status}, 200, 'with the extension out of order users log in');
is($json->encode([ sort keys %{ claims($answer)->{app_metadata} } ]), '["plan","provider","providers"]', 'with the claims as they were given');
value($node, $db, 'ALTER TABLE invite_sync.gone RENAME TO membership');

# ---------------------------------------------------------------------------
# Lock-outs

my $wrong = '400 Invalid login credentials';
my $locked = '400 too many failed attempts, try again later';
is(answered(login('bob', 'wrong')), $wrong, 'off: a wrong password is wrong') for 1 .. 4;
settings(lockout_attempts => 3, lockout_duration => '5s');
is(answered(login('bob', 'wrong')), $wrong, 'a wrong password') for 1 .. 3;
is(answered(login('bob', 'wrong')), $locked, 'is not looked at any more');
is(answered(login('bob')), $locked, 'nor is the right one');
is(login('ann')->{status}, 200, 'others log in');
is($server->request('GET', '/user', undef, $login->{body}{access_token})->{status}, 200, 'who is logged in stays so');

# never another way in
$server->new_mails;
is(post('/recover', { email => 'bob@example.com' })->{status}, 200, 'who is locked out recovers the account');
$server->new_mails;
my $recovered = post('/verify', $server->link_to('bob@example.com'));
is($recovered->{status}, 200, 'and is in');
is(post('/otp', { email => 'bob@example.com' })->{status}, 200, 'or by a code');
$server->new_mails;
is(post('/verify', $server->link_to('bob@example.com'))->{status}, 200, 'is in too');
sleep 6;
is(login('bob')->{status}, 200, 'and by the password when the time is over');

# a second factor
sub code
{
	my ($secret) = @_;
	my $bits = join '', map { sprintf '%05b', index('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', $_) } grep { $_ ne '=' } split //, $secret;
	my $key = pack 'B*', substr $bits, 0, 8 * int(length($bits) / 8);
	my $hash = hmac_sha1(pack('Q>', int(time / 30)), $key);
	my $at = ord(substr $hash, -1) & 0xf;
	return sprintf '%06d', (unpack('N', substr $hash, $at, 4) & 0x7fffffff) % 1_000_000;
}

my $token = login('bob')->{body}{access_token};
my $factor = post('/factors', { factor_type => 'totp', friendly_name => 'phone' }, $token)->{body};
sub verify
{
	my ($code) = @_;
	my $challenge = post("/factors/$factor->{id}/challenge", {}, $token);
	return post("/factors/$factor->{id}/verify", { challenge_id => $challenge->{body}{id}, code => $code }, $token);
}
my $right = code($factor->{totp}{secret});
my $bad = sprintf '%06d', ($right + 500_000) % 1_000_000;
settings(lockout_duration => '15min');
is(verify($bad)->{status}, 422, 'a wrong code') for 1 .. 3;
is(answered(verify(code($factor->{totp}{secret}))), '403 too many failed attempts, try again later', 'the right one is rejected then');
value($node, $db, "DELETE FROM invite_sync.rate_limit");
$token = login('bob')->{body}{access_token};
is(verify(code($factor->{totp}{secret}))->{status}, 200, 'and taken when nobody is locked out');
is(value($node, $db, q{SELECT string_agg(DISTINCT action, ', ' ORDER BY action) FROM invite_sync.event WHERE action LIKE '%locked_out'}),
	'account.mfa_locked_out, account.password_locked_out', 'both have left a trace');

# ---------------------------------------------------------------------------
# How long they take, as the server has measured it

my @took = sort { $a <=> $b } map { /"hook":"pg-functions:/ && /"duration":(\d+)/ ? $1 : () } split /\n/, slurp($server->{log});
cmp_ok(scalar(@took), '>', 50, 'the hooks were called: ' . @took . ' times');
cmp_ok($took[ $#took / 2 ], '<', 200_000, "half of the calls in $took[$#took / 2] us");
cmp_ok($took[-1], '<', 1_000_000, "the longest in $took[-1] us, of the two seconds that the server waits");

$server->stop;
$node->stop;
done_testing();
