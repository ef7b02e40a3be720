# What somebody might try against invitations: with the token of an invitation of their own, with an account opened in
# another's name, with claims and metadata that say what is not so, with what they can read, and with a stopwatch.
#
# The secrets of the middle part are passed as parameters, as a driver does it, and looked for in every byte that the
# server has written.

use strict;
use warnings;

use Digest::SHA qw(sha256);
use File::Find;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value user_id wait_for_server);
use InviteSyncTest qw(prepare_database session slurp);
use List::Util qw(min max);
use MIME::Base64 qw(encode_base64 decode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'app';
my $node = durable_cluster('attacks', conf => <<'CONF');
shared_preload_libraries = 'pg_stat_statements, auto_explain'
pg_stat_statements.track = all
log_min_messages = warning
log_line_prefix = '%m [%p] '
CONF
prepare_database($node, $db);
as_role($node, $db, 'supabase_admin', 'CREATE EXTENSION pg_stat_statements SCHEMA extensions');

# ---------------------------------------------------------------------------
# The world: who is who

my %who = (ann => 1, mallory => 2, rick => 3, bob => 4, cid => 5, dave => 6, eve => 7, liar => 8, nobody => 9, foreign => 10, kelvin => 11, home => 12, gone => 13);
my %id = map { $_ => user_id('a', $who{$_}) } keys %who;
my $acme = 'c0000000-0000-4000-8000-000000000001';
my $bolt = 'c0000000-0000-4000-8000-000000000002';
value($node, $db, <<"SQL");
SELECT invite_sync.attach();
INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at, is_anonymous, is_sso_user, raw_user_meta_data, raw_app_meta_data)
SELECT '00000000-0000-0000-0000-000000000000', x.id::uuid, 'authenticated', 'authenticated', x.email,
	CASE WHEN x.name NOT IN ('liar', 'nobody') THEN now() END, x.name = 'nobody', x.name IN ('foreign', 'home'),
	CASE WHEN x.name = 'liar' THEN '{"email": "liar\@team.example", "email_verified": true, "email_confirmed_at": "2020-01-01", "role": "service_role", "is_sso_user": false}'::jsonb ELSE '{}' END,
	CASE WHEN x.name = 'liar' THEN '{"provider": "email", "role": "service_role", "email_verified": true}'::jsonb ELSE '{"provider": "email"}' END
FROM (VALUES @{[ join ', ', map { my $mail = $_ eq 'nobody' ? 'NULL' : $_ eq 'foreign' ? "'cid\@team.example'" : $_ eq 'kelvin' ? "U&'\\212Aate\@team.example'" : $_ eq 'home' ? "'home\@sso.example'" : "'$_\@team.example'"; "('$_', '$id{$_}', $mail)" } sort keys %who ]}) AS x (name, id, email);
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider)
SELECT u.id::text, u.id, jsonb_build_object('sub', u.id, 'email', u.email, 'email_verified', true), 'email' FROM auth.users AS u WHERE NOT u.is_sso_user AND NOT u.is_anonymous;
INSERT INTO auth.sso_providers (id) VALUES ('d0000000-0000-4000-8000-000000000001');
INSERT INTO auth.sso_domains (id, sso_provider_id, domain) VALUES (gen_random_uuid(), 'd0000000-0000-4000-8000-000000000001', 'sso.example');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider)
SELECT u.id::text, u.id, jsonb_build_object('sub', u.id, 'email', u.email, 'email_verified', true), 'sso:d0000000-0000-4000-8000-000000000001' FROM auth.users AS u WHERE u.is_sso_user;
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('$acme', 'Acme', 'acme'), ('$bolt', 'Bolt', 'bolt');
SELECT invite_sync.create_role('recruiter', '{organization.read, invitations.create}', '$acme'), invite_sync.create_role('guest', '{organization.read}', '$acme');
SELECT invite_sync.set_role_permissions('recruiter', '{organization.read, invitations.create}', '$acme');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$acme', '$id{ann}', '00000000-0000-4000-8000-00000000000a'), ('$bolt', '$id{ann}', '00000000-0000-4000-8000-00000000000a'),
	('$acme', '$id{rick}', (SELECT id FROM invite_sync.role WHERE name = 'recruiter')), ('$acme', '$id{bob}', '00000000-0000-4000-8000-00000000000c'), ('$acme', '$id{gone}', '00000000-0000-4000-8000-00000000000c');
SELECT invite_sync.set_quota(u.id, 100000) FROM auth.users AS u WHERE u.id IN ('$id{ann}', '$id{mallory}', '$id{rick}');
SELECT invite_sync.set_rate_limit('invite', 10000, '1 hour', 'user'), invite_sync.set_rate_limit('message', 10000, '1 day', 'recipient'),
	invite_sync.set_rate_limit('resend', 10000, '1 minute', 'invitation'), invite_sync.set_rate_limit('check_invitation', 10000, '1 hour', 'user');
SQL

# A session as PostgREST makes one: the role of the token, and its claims.
sub user
{
	my ($name, %claims) = @_;
	my $session = session($node, $db, 'authenticated');
	$session->must(claims($name, %claims));
	return $session;
}

sub claims
{
	my ($name, %claims) = @_;
	my $more = join '', map { qq(, "$_": ) . ($claims{$_} =~ /^[{t]/ ? $claims{$_} : qq("$claims{$_}")) } sort keys %claims;
	return qq(SET request.jwt.claims = '{"sub": "$id{$name}", "role": "authenticated"$more}');
}

# ok, or the word of the refusal, or what PostgreSQL says
sub outcome
{
	my ($session, $call) = @_;
	my $result = $session->query($call =~ /^[a-z_]+\(/ ? "SELECT * FROM invite_sync.$call" : $call);
	return 'ok' if $result->{ok};
	return $result->{sqlstate} =~ /^PT/ && $result->{stderr} =~ /DETAIL:  (\w+)/ ? $1 : "$result->{sqlstate} $result->{message}";
}

my $service = session($node, $db, 'service_role');
$service->must(q(SET request.jwt.claims = '{"role": "service_role"}'));
my $anon = session($node, $db, 'anon');
$anon->must(q(SET request.jwt.claims = '{"role": "anon"}'));
my %user = map { $_ => user($_) } qw(ann mallory rick bob cid dave);
my $accounts = sub { value($node, $db, "SELECT count(*), md5(string_agg(u::text, '' ORDER BY u.id)) FROM auth.users AS u WHERE u.email ~ '$_[0]'") };

# The token of a new invitation.
sub invite { my ($session, $call) = @_; return $session->must("SELECT (invite_sync.$call).token") }

# ---------------------------------------------------------------------------
# A hostile inviter: the tokens that they are given prove nobody's mailbox

value($node, $db, <<'SQL');
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_user_meta_data)
VALUES ('00000000-0000-0000-0000-000000000000', 'b0000000-0000-4000-8000-000000000001', 'authenticated', 'authenticated', 'cfo@victim.example', 'HASH', '{"full_name": "Planted"}');
SQL
my $before = $accounts->('victim');
my %token;
$token{create} = invite($user{mallory}, q(create_invitation('ceo@victim.example')));
$token{unconfirmed} = invite($user{mallory}, q(create_invitation('cfo@victim.example')));
$token{bulk} = $user{mallory}->must(q(SELECT token FROM invite_sync.create_invitations('[{"email": "cto@victim.example"}]')));
$token{organization} = invite($user{ann}, "create_invitation('coo\@victim.example', 'owner', '$acme')");
$token{link} = invite($user{ann}, "create_invite_link('$acme')");
# one that a service made in an inviter's name proves; sent again by the inviter, it does not, and the old token is void
my ($made, $proving) = split /\|/, $service->must("SELECT invitation_id, token FROM invite_sync.create_invitation('cio\@victim.example', inviter_id => '$id{mallory}')");
is($anon->must("SELECT needs_signup FROM invite_sync.get_invitation('$proving')"), 't', 'a token that a service got proves the mailbox');
$token{resend} = invite($user{mallory}, "resend_invitation('$made')");
is(outcome($anon, "signup_with_invitation('$proving', 'correct horse')"), 'invitation_unknown', 'and is void once its inviter has another one');
my $again = $user{mallory}->must(q(SELECT token FROM invite_sync.create_invitation('ceo@victim.example', on_pending => 'resend')));
is(outcome($anon, "get_invitation('$token{create}')"), 'invitation_unknown', 'so is the one before a renewal');
$token{create} = $again;
for my $way (sort keys %token)
{
	my $t = $token{$way};
	is($anon->must("SELECT needs_signup IS NULL FROM invite_sync.get_invitation('$t')"), 't', "$way: does not tell whether the address has an account");
	is(outcome($anon, "signup_with_invitation('$t', 'correct horse')"), 'not_permitted', "$way: makes no account");
	is(outcome($service, "signup_with_invitation('$t', 'correct horse')"), 'not_permitted', "$way: nor for a service");
	next if $way eq 'link';
	is(outcome($user{$_}, "accept_invitation('$t')"), 'email_mismatch', "$way: is not accepted by $_") for qw(mallory cid);
	is(outcome($user{mallory}, "decline_invitation('$t')"), 'email_mismatch', "$way: nor declined by who sent it");
	is(outcome($user{mallory}, "bind_invitation('$t', 'mine')"), 'email_mismatch', "$way: nor bound to a device of theirs");
	is(outcome($anon, "bind_invitation('$t', 'mine')"), 'not_authenticated', "$way: nor to anybody's");
}
value($node, $db, "ALTER DATABASE $db SET invite_sync.require_verified_email = off");
{
	my $mallory = user('mallory');
	my $unasked = session($node, $db, 'anon');
	for my $way (sort grep { $_ ne 'link' } keys %token)
	{
		is(outcome($mallory, "accept_invitation('$token{$way}')"), 'email_mismatch', "$way: nor where addresses need not be verified");
		is(outcome($unasked, "signup_with_invitation('$token{$way}', 'correct horse')"), 'not_permitted', "$way: nor signed up with there");
	}
	$_->close for $mallory, $unasked;
}
value($node, $db, "ALTER DATABASE $db RESET invite_sync.require_verified_email");
is($accounts->('victim'), $before, 'no account was made or touched');
is(outcome($user{mallory}, "create_invitation('x\@victim.example', inviter_id => '$id{ann}')"), 'not_permitted', 'nobody invites in the name of another');
is(outcome($user{mallory}, "create_invitation('x\@victim.example', platform_role => 'admin')"), 'not_permitted', 'nor gives platform roles');
is(outcome($user{mallory}, "create_invitation('x\@victim.example', 'member', '$acme')"), 'organization_unknown', 'nor to organizations that they are not in');
is(outcome($user{rick}, "create_invitation('x\@victim.example', 'owner', '$acme')"), 'escalation', 'nor more than they have');
is(outcome($user{mallory}, qq[import_invitations('[{"email": "x\@victim.example", "token": "aaaaaaaaaaaaaaaaaaaaaa", "proves_email": true}]')]), '42501 permission denied for function import_invitations', 'nor imports what would prove');

# ---------------------------------------------------------------------------
# An account planted before the invitation: nothing of the planter's is left

my $planted = 'b0000000-0000-4000-8000-000000000002';
my $bystander = $id{dave};
for my $owner ([ $planted, 'dora@victim.example', 'planter' ], [ $bystander, undef, 'other' ])
{
	my ($u, $email, $name) = @$owner;
	my $n = $name eq 'planter' ? 1 : 2;
	value($node, $db, $email ? <<"SQL" : 'SELECT 1');
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_user_meta_data, raw_app_meta_data, confirmation_token, recovery_token, email_change, email_change_token_new,
	phone, phone_change, phone_change_token, reauthentication_token, invited_at, confirmation_sent_at)
VALUES ('00000000-0000-0000-0000-000000000000', '$u', 'authenticated', 'authenticated', '$email', extensions.crypt('planted password', extensions.gen_salt('bf', 4)),
	'{"full_name": "Planted", "email_verified": true, "role": "admin"}', '{"provider": "github", "providers": ["github"]}', 'planted-confirmation', 'planted-recovery', 'planter\@evil.example', 'planted-change',
	'155512345', '155599999', 'planted-phone', 'planted-reauthentication', now(), now());
SQL
	value($node, $db, <<"SQL");
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider) VALUES ('github-$n', '$u', '{"sub": "github-$n", "email": "planter\@evil.example", "email_verified": true}', 'github');
INSERT INTO auth.sessions (id, user_id, created_at) VALUES ('e0000000-0000-4000-8000-00000000000$n', '$u', now());
INSERT INTO auth.refresh_tokens (instance_id, token, user_id, revoked, session_id) VALUES ('00000000-0000-0000-0000-000000000000', 'refresh-$name', '$u', false, 'e0000000-0000-4000-8000-00000000000$n');
INSERT INTO auth.refresh_tokens (instance_id, token, user_id, revoked) VALUES ('00000000-0000-0000-0000-000000000000', 'refresh-without-session-$name', '$u', false);
INSERT INTO auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to) VALUES (gen_random_uuid(), '$u', 'recovery_token', 'hash-$name', '$name');
INSERT INTO auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret) VALUES ('f0000000-0000-4000-8000-00000000000$n', '$u', 'totp', 'verified', now(), now(), 'planted');
INSERT INTO auth.mfa_challenges (id, factor_id, created_at, ip_address) VALUES (gen_random_uuid(), 'f0000000-0000-4000-8000-00000000000$n', now(), '10.0.0.1');
INSERT INTO auth.mfa_amr_claims (session_id, created_at, updated_at, authentication_method, id) VALUES ('e0000000-0000-4000-8000-00000000000$n', now(), now(), 'password', gen_random_uuid());
SQL
}
# rows by which somebody gets in, of both
my $ways_in = sub {
	my ($u) = @_;
	return value($node, $db, <<"SQL");
SELECT concat_ws(' ', (SELECT string_agg(provider, ',' ORDER BY provider) FROM auth.identities WHERE user_id = '$u'), (SELECT count(*) FROM auth.sessions WHERE user_id = '$u'),
	(SELECT count(*) FROM auth.refresh_tokens WHERE user_id = '$u'), (SELECT count(*) FROM auth.one_time_tokens WHERE user_id = '$u'), (SELECT count(*) FROM auth.mfa_factors WHERE user_id = '$u'),
	(SELECT count(*) FROM auth.mfa_challenges WHERE factor_id IN ('f0000000-0000-4000-8000-000000000001', 'f0000000-0000-4000-8000-000000000002')),
	(SELECT count(*) FROM auth.mfa_amr_claims WHERE session_id IN ('e0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000002')))
SQL
};
is($ways_in->($planted), 'github 1 2 1 1 2 2', 'the planter could get in by many ways');
my $theirs = $ways_in->($bystander);
my $dora = invite($service, "create_invitation('dora\@victim.example', 'member', '$acme', data => '{\"job_title\": \"smith\"}')");
is($anon->must("SELECT needs_signup FROM invite_sync.get_invitation('$dora')"), 't', 'an account that was never confirmed is none');
is($anon->must("SELECT user_id = '$planted', email FROM invite_sync.signup_with_invitation('$dora', 'correct horse', '{\"full_name\": \"Dora\"}')"), 't|dora@victim.example', 'who has the mailbox takes it over, with its id');
is($ways_in->($planted), 'email 0 0 0 0 1 1', 'of the ways in one is left, which is theirs');
is($ways_in->($bystander), 'email,github 1 2 1 1 1 1', 'and those of others are as they were');
is(value($node, $db, <<"SQL"), 'f|t|t|t|t|t', 'password, metadata, telephone, changes under way and tokens are replaced');
SELECT extensions.crypt('planted password', encrypted_password) = encrypted_password, extensions.crypt('correct horse', encrypted_password) = encrypted_password,
	raw_user_meta_data - ARRAY['sub', 'email', 'email_verified', 'phone_verified'] = '{"job_title": "smith", "full_name": "Dora"}', raw_user_meta_data->>'sub' = id::text AND NOT raw_user_meta_data ? 'role',
	phone IS NULL AND concat(confirmation_token, recovery_token, email_change, email_change_token_new, email_change_token_current, phone_change, phone_change_token, reauthentication_token) = '',
	email_confirmed_at IS NOT NULL FROM auth.users WHERE id = '$planted'
SQL
is(value($node, $db, "SELECT count(*) FROM auth.users AS u, auth.identities AS i WHERE u.id = '$planted' AND i.user_id = u.id AND (u::text ~ 'planted|Planted|evil|1555' OR i::text ~ 'evil|github')"), '0', 'not a word of the planter is left');
is(outcome($anon, "signup_with_invitation('$dora', 'another password')"), 'invitation_used', 'the token is used up');
is(outcome($anon, "signup_with_invitation('" . invite($service, q(create_invitation('dora@victim.example'))) . "', 'another password')"), 'user_exists', 'a confirmed account is nobody\'s to take');
is(outcome($anon, "signup_with_invitation('" . invite($service, q(create_invitation('cid@team.example'))) . "', 'another password')"), 'user_exists', 'whoever else has the address');

# ---------------------------------------------------------------------------
# Who says of themselves what they are not

my $for_cid = invite($service, "create_invitation('cid\@team.example', 'guest', '$acme')");
my $for_liar = invite($service, "create_invitation('liar\@team.example', 'guest', '$acme')");
my $for_home = invite($service, "create_invitation('home\@sso.example', 'guest', '$acme')");
my $link = invite($service, "create_invite_link('$acme', 'guest')");
my %lie = (
	email => 'cid@team.example', email_verified => 'true', user_metadata => '{"email": "cid@team.example", "email_verified": true, "role": "service_role"}',
	app_metadata => '{"provider": "email", "role": "service_role", "invite_sync": {"platform_role": "admin"}}', is_anonymous => 'false', aal => 'aal2');
for my $case ([ foreign => 'cid', $for_cid, 'email_unverified', 'a single sign-on user of another provider\'s domain' ], [ liar => 'liar', $for_liar, 'email_unverified', 'one whose metadata and identity say that the address is verified' ],
	[ nobody => 'cid', $for_cid, 'anonymous_user', 'an anonymous user' ], [ mallory => 'cid', $for_cid, 'email_mismatch', 'one whose claims say that the address is theirs' ])
{
	my ($name, undef, $t, $expected, $what) = @$case;
	my $session = user($name, $name eq 'liar' ? (%lie, email => 'liar@team.example') : %lie);
	is(outcome($session, "accept_invitation('$t')"), $expected, "$what does not accept");
	is(outcome($session, "decline_invitation('$t')"), $expected, "$what does not decline");
	my $mine = outcome($session, "accept_my_invitation((SELECT i.id FROM invite_sync.invitation AS i LIMIT 1))");
	like($mine, qr/^42501 /, "$what reads no table");
	is($session->query('SELECT count(*) FROM invite_sync.my_invitations()')->{out}, $name eq 'nobody' ? '' : '0', "$what is shown nothing");
	like(outcome($session, "accept_invitation('$link')"), qr/^(email_unverified|anonymous_user|ok)$/, "$what and a link");
	like(outcome($session, "set_quota('$id{$name}', 100)"), qr/^42501 permission denied/, "$what is no service");
	like(outcome($session, "create_invitation('x\@team.example', platform_role => 'admin')"), qr/^(not_permitted|anonymous_user)$/, "$what is no administrator");
	$session->close;
}
is(value($node, $db, "SELECT string_agg(u.email, ' ') FROM invite_sync.membership AS m JOIN auth.users AS u ON u.id = m.user_id WHERE m.organization_id = '$acme' AND u.id IN ('$id{foreign}', '$id{liar}', '$id{nobody}')"), '', 'none of them has joined');
is(value($node, $db, "SELECT count(*) FROM invite_sync.invitation AS i WHERE i.email IN ('cid\@team.example', 'liar\@team.example') AND i.status <> 'pending'"), '0', 'and what they tried is as it was');
is(outcome(user('home'), "accept_invitation('$for_home')"), 'ok', 'one whose provider has the domain accepts');
is(outcome($user{cid}, "accept_invitation('$for_cid')"), 'ok', 'and so does who has the address');
# a claim of the service's role in a user's session
{
	my $session = session($node, $db, 'authenticated');
	$session->must(qq(SET request.jwt.claims = '{"sub": "$id{mallory}", "role": "service_role"}'));
	isnt(outcome($session, "create_invitation('x\@team.example', platform_role => 'admin')"), 'ok', 'claims of another role than the session\'s count for nothing');
	like(outcome($session, "import_invitations('[]')"), qr/^42501/, 'and give no rights');
	$session->close;
}

# ---------------------------------------------------------------------------
# A removed member

my $bobs_link = invite($service, "create_invite_link('$acme', 'guest')");
my $bolt_token = invite($service, "create_invitation('bob\@team.example', 'member', '$bolt')");
my $used = $bolt_token;
is(outcome($user{bob}, "accept_invitation('$bolt_token')"), 'ok', 'a member of two');
my $early = invite($service, "create_invitation('gone\@team.example', 'member', '$bolt')");
$service->must("SELECT invite_sync.remove_member('$acme', '$id{bob}'); SELECT invite_sync.remove_member('$bolt', '$id{bob}')");
is(outcome($user{bob}, "accept_invitation('$bobs_link')"), 'not_permitted', 'a removed member does not come back by a link');
is(outcome($user{bob}, "accept_invitation('$used')"), 'invitation_used', 'nor by what they used already');
my $gone = user('gone');
is(outcome($gone, "accept_invitation('$early')"), 'ok', 'somebody with an invitation joins');
value($node, $db, "DELETE FROM invite_sync.membership WHERE user_id = '$id{gone}' AND organization_id = '$acme'");
my $stale = invite($service, "create_invitation('gone\@team.example', 'member', '$acme')");
value($node, $db, "INSERT INTO invite_sync.membership_removal (organization_id, user_id, removed_at) VALUES ('$acme', '$id{gone}', clock_timestamp()) ON CONFLICT (organization_id, user_id) DO UPDATE SET removed_at = clock_timestamp()");
is(outcome($gone, "accept_invitation('$stale')"), 'invitation_revoked', 'an email invitation from before the removal does not bring them back');
is(outcome($gone, "accept_my_invitation('" . value($node, $db, "SELECT id FROM invite_sync.invitation WHERE email = 'gone\@team.example' AND status = 'pending'") . "')"), 'invitation_revoked', 'nor without its token');
my $newer = $service->must("SELECT token FROM invite_sync.create_invitation('gone\@team.example', 'member', '$acme', on_pending => 'replace')");
is(outcome($gone, "accept_invitation('$newer')"), 'ok', 'one from after it does');
$gone->close;

# ---------------------------------------------------------------------------
# A member who can read the tables

my $secret_token = invite($service, "create_invitation('cid\@team.example', 'member', '$bolt')");
my $legacy = 'an-older-systems-token-0123456789';
$service->must(qq[SELECT * FROM invite_sync.import_invitations('[{"email": "dave\@team.example", "token": "$legacy", "proves_email": true, "organization_id": "$bolt", "role": "member"}]')]);
my @tables = qw(invitation invitation_grant invitation_acceptance invitation_key invitation_policy);
value($node, $db, join ';', map { "GRANT SELECT ON invite_sync.$_ TO authenticated" } @tables);
is($user{cid}->must("SELECT count(*) FROM invite_sync.$_"), '0', "a privilege granted by mistake shows nothing of $_") for @tables;
value($node, $db, 'CREATE POLICY mistake ON invite_sync.invitation FOR SELECT TO authenticated USING (true)');
my $pending = "FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND i.email IN ('cid\@team.example', 'dave\@team.example')";
cmp_ok($user{cid}->must("SELECT count(*) $pending"), '>=', 2, 'with a policy by mistake they do read it');
for my $forged (
	[ 'its id', 'i.id::text' ], [ 'id and digest', q('inv_' || translate(encode(uuid_send(i.id) || i.secret_digest, 'base64'), E'+/\n', '-_')) ],
	[ 'the digest of the digest', q('inv_' || translate(encode(uuid_send(i.id) || sha256(i.secret_digest), 'base64'), E'+/\n', '-_')) ],
	[ 'the digest', q(encode(coalesce(i.secret_digest, i.legacy_digest), 'hex')) ], [ 'the digest in base64', q(encode(coalesce(i.legacy_digest, i.secret_digest), 'base64')) ])
{
	my ($what, $expression) = @$forged;
	for my $t (split /\n/, $user{cid}->must("SELECT DISTINCT replace($expression, E'\\n', '') $pending AND $expression IS NOT NULL"))
	{
		is(outcome($user{mallory}, "accept_invitation('$t')"), 'invitation_unknown', "$what is no token");
		is(outcome($anon, "signup_with_invitation('$t', 'correct horse')"), 'invitation_unknown', "$what makes no account");
	}
}
like(outcome($user{cid}, "UPDATE invite_sync.invitation SET email = 'mallory\@team.example'"), qr/^42501/, 'and it is not written');
value($node, $db, join ';', 'DROP POLICY mistake ON invite_sync.invitation', map { "REVOKE SELECT ON invite_sync.$_ FROM authenticated" } @tables);
is(outcome($user{cid}, "accept_invitation('$secret_token')"), 'ok', 'the token itself is good');

# ---------------------------------------------------------------------------
# Enumeration: an inviter who may list nothing gets the same answers for every address

value($node, $db, <<"SQL");
INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at)
SELECT '00000000-0000-0000-0000-000000000000', ('a00000' || lpad(to_hex(n + 100), 2, '0') || '-0000-4000-8000-000000000000')::uuid, 'authenticated', 'authenticated', k || '\@list.example', now()
FROM unnest(ARRAY['account', 'member', 'decliner']) WITH ORDINALITY AS x (k, n);
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT '$acme', id, '00000000-0000-4000-8000-00000000000c' FROM auth.users WHERE email = 'member\@list.example';
SQL
invite($service, "create_invitation('invited\@list.example', 'guest', '$acme')");
$service->must("SELECT FROM invite_sync.decline_invitation((invite_sync.create_invitation('decliner\@list.example', 'guest', '$acme')).token)");
my %answer;
for my $kind (qw(unknown account member invited decliner))
{
	my $email = "$kind\@list.example";
	my @seen = $user{rick}->must("SELECT check_name, ok, reason FROM invite_sync.check_invitation('$email', 'guest', '$acme')");
	my ($invitation, $t, @rest) = split /\|/, $user{rick}->must("SELECT invitation_id, token, url, email = '$email', status, expires_at - now() BETWEEN '47 h' AND '49 h', reused, skipped FROM invite_sync.create_invitation('$email', 'guest', '$acme')");
	push @seen, length $t, @rest;
	for my $session ($anon, $user{rick}, $user{mallory})
	{
		push @seen, ($session->query("SELECT organization_name, role, email_hint = 'x' IS NULL, needs_signup FROM invite_sync.get_invitation('$t')"))->{out};
		push @seen, outcome($session, $_) for "accept_invitation('$t')", "decline_invitation('$t')", "bind_invitation('$t', 'x')", "signup_with_invitation('$t', 'correct horse')", "accept_my_invitation('$invitation')";
	}
	push @seen, outcome($user{rick}, "create_invitation('$email', 'guest', '$acme')");
	push @seen, outcome($user{rick}, "create_invitation('$email', 'guest', '$acme', on_pending => 'resend')");
	push @seen, $user{rick}->must("SELECT count(*), min(invitation_status) FROM invite_sync.list_invitations() WHERE email = '$email'");
	push @seen, outcome($user{rick}, "resend_invitation('$invitation')"), outcome($user{rick}, "revoke_invitation('$invitation')"), outcome($user{rick}, "revoke_invitation('$invitation')");
	push @seen, $user{rick}->must("SELECT status, reason, skipped, token IS NULL FROM invite_sync.create_invitations('[{\"email\": \"$email\", \"role\": \"guest\", \"organization_id\": \"$acme\"}]')");
	$answer{$kind} = join "\n", @seen;
}
is($answer{$_}, $answer{unknown}, "the same for an address that is $_ as for an unknown one") for qw(account member invited decliner);
is($user{mallory}->must("SELECT string_agg(c.reason, ' ') FROM invite_sync.check_invitation('member\@list.example', 'guest', '$acme') AS c"), 'not_permitted', 'and who may not invite there hears nothing of it');
# looking: whatever is wrong with a token is the same
for my $t ('', 'inv_', 'x' x 68, substr($secret_token, 0, -1) . 'A', substr($secret_token, 0, -1), "$secret_token=", " $secret_token", uc $secret_token, $secret_token =~ s/^inv_/INV_/r, "\xef\xbb\xbf$secret_token", 'inv_' . 'A' x 64, 'inv_' . '+' x 64, 'x' x 1000000)
{
	my $r = $anon->query("SELECT * FROM invite_sync.get_invitation('$t')");
	is("$r->{sqlstate} $r->{message}", 'PT404 invitation is unknown', 'a wrong token of ' . length($t) . ' bytes');
}

# ---------------------------------------------------------------------------
# What is too long, too deep, or something else than it seems

my $refusals = sub { my ($what, $expected, @calls) = @_; is(outcome($user{ann}, $_), $expected, $what . ': ' . (length > 120 ? substr($_, 0, 120) . '...' : $_) =~ s/[^\x20-\x7e]/?/gr) for @calls };
$refusals->('no address', 'email_malformed', map { "create_invitation($_)" } q(E'a@b.example\r\nBcc: x@evil.example'), q(E'a\r\nb@c.example'), q(E'a@b.example\nSubject: x'), q(E'a\tb@c.example'), q('a@b.example, x@evil.example'), q('a@b.example;x@evil.example'),
	q('<a@b.example>'), q('Name <a@b.example>'), q('"a b"@c.example'), q('a@b@c.example'), q('a@b'), q('@b.example'), q('a@.example'), q('a@b..example'), q('a@[127.0.0.1]'), q('a@b.example.'), q(U&'a\0085b@c.example'), q(U&'a\2028b@c.example'),
	q(U&'a\200Bb@c.example'), q(U&'a\202Eb@c.example'), q(U&'a\FEFFb@c.example'), q(U&'a@\212Aate.example'), q(U&'a@b\FF0Eexample'), q(U&'a@ex\0430mple.com'), q(''), q(repeat('a', 10000000)), q(repeat('a', 65) || '@b.example'),
	q('a@' || repeat('b.', 130) || 'example'), q(NULL));
$refusals->('no domain', 'data_malformed', map { "create_invite_link('$acme', allowed_domain => $_)" } q(E'b.example\r\nBcc: x'), q('b'), q('x@b.example'), q(repeat('b.', 5000000)), q(U&'\212A.example'), q(''));
$refusals->('no data', 'data_malformed', map { "create_invitation('a\@b.example', data => $_)" } q('[]'), q('"x"'), q('{"role": "admin"}'), q('{"email_verified": true}'), q('{"x_verified": 1}'), q('{"sub": "x"}'), q('{"provider": "x"}'),
	q(jsonb_build_object('x', repeat('x', 4100))), q(jsonb_build_object('x', repeat('x', 10000000))), q(('{"x": ' || repeat('[', 2050) || repeat(']', 2050) || '}')::jsonb));
$refusals->('no grants', 'data_malformed', map { "create_invitation('a\@b.example', grants => $_)" } q('{}'), q('[]'), q('[1]'), qq('[{"organization_id": "$acme"}, {"organization_id": "$acme"}]'), qq('[{"organization_id": "$acme", "x": 1}]'),
	q((SELECT jsonb_agg(jsonb_build_object('organization_id', gen_random_uuid())) FROM generate_series(1, 101))), q((repeat('[', 3000) || repeat(']', 3000))::jsonb));
$refusals->('too many', 'data_malformed', q(create_invitations((SELECT jsonb_agg(jsonb_build_object('email', n || '@b.example')) FROM generate_series(1, 501) AS n))));
$refusals->('no key', 'data_malformed', map { "create_invitation('a\@b.example', idempotency_key => $_)" } q(''), q(repeat('x', 201)), q(repeat('x', 10000000)));
is(outcome($user{ann}, q{create_invitation('a@b.example', data => (repeat('[', 1000000))::jsonb)}) =~ s/ .*//r, '54001', 'JSON too deep for PostgreSQL is refused by it');
is(outcome($user{ann}, q[create_invitation('deep@b.example', data => ('{"x": ' || repeat('[', 1900) || repeat(']', 1900) || '}')::jsonb)]), 'ok', 'JSON that is deep and short is data');
$refusals->('no length of time', 'window_malformed', map { "create_invitation('a\@b.example', expires_in => '$_')" } '14 minutes', '31 days', '-1 day', '178000000 years', '1 month 1 day');
my $proving_new = invite($service, q(create_invitation('fresh@b.example')));
is(outcome($anon, "signup_with_invitation('$proving_new', $_->[0])"), $_->[1], "a password: $_->[0]")
  for [ q(repeat('x', 73)), 'password_weak' ], [ q(repeat('x', 10000000)), 'password_weak' ], [ q('short'), 'password_weak' ], [ q(U&'\00e4\00e4\00e4\00e4\00e4\00e4\00e4'), 'password_weak' ], [ q(NULL), 'data_malformed' ];
is(outcome($anon, "signup_with_invitation('$proving_new', 'correct horse', $_->[0])"), $_->[1], "metadata: $_->[0]")
  for [ q('{"role": "service_role"}'), 'data_malformed' ], [ q('{"email_verified": false}'), 'data_malformed' ], [ q(jsonb_build_object('x', repeat('x', 10000000))), 'data_malformed' ], [ q('[]'), 'data_malformed' ];
is(outcome($anon, "bind_invitation('$proving_new', $_)"), 'data_malformed', "a device: $_") for q(''), q(repeat('x', 201)), q(repeat('x', 10000000));

# letters of other alphabets are other letters: only A to Z fold
$service->must("SELECT FROM invite_sync.create_invitation('Kate\@TEAM.example', 'guest', '$acme')");
my $kate = value($node, $db, q(SELECT email FROM invite_sync.invitation WHERE email ~ 'kate'));
is($kate, 'kate@team.example', 'an address is kept in ASCII lower case');
my $kelvin = user('kelvin');
is($kelvin->must('SELECT count(*) FROM invite_sync.my_invitations()'), '0', 'who has the address with KELVIN SIGN for its k is somebody else');
my $kates = $service->must("SELECT token FROM invite_sync.create_invitation('kate\@team.example', 'guest', '$acme', on_pending => 'replace')");
is(outcome($kelvin, "accept_invitation('$kates')"), 'email_mismatch', 'and does not accept');
is(outcome($anon, "signup_with_invitation('$kates', 'correct horse')"), 'user_exists', 'nor is made to share the address, which the auth server takes for the same');
$kelvin->close;
is($service->must(qq(SELECT count(DISTINCT i.invitation_id) FROM (VALUES ('mi\@turk.example'), (U&'m\\0131\@turk.example'), (U&'M\\0130\@turk.example'), ('MI\@turk.example'), (U&'m\\0456\@turk.example')) AS x (email), LATERAL invite_sync.create_invitation(x.email, on_pending => 'resend') AS i)), '4', 'dotless and other letters i are others, and capital I is i');

# spreadsheets
my $csv = $user{ann}->must(<<'SQL');
SELECT string_agg(csv, E'\n' ORDER BY n) FROM invite_sync.create_invitations((SELECT jsonb_agg(jsonb_build_object('email', e, 'role', r)) FROM
	(VALUES ('=HYPERLINK("http://evil.example")', '@SUM(1)'), ('+1+1', '-1'), ('-2+3', '=1'), ('@x', E'\t=1'), (E'\t=1', E'\r=1'), (E'\n=1', 'a"b,c'), (U&'\FF1D1+1', U&'\FF0B1'), ('a,"b', 'x')) AS x (e, r)))
SQL
is($csv, <<'CSV' =~ s/<R>/\r/r =~ s/\n\z//r, 'a failed row is no formula to a spreadsheet');
"'=HYPERLINK(""http://evil.example"")","'@SUM(1)",,"email_malformed"
"'+1+1","'-1",,"email_malformed"
"'-2+3","'=1",,"email_malformed"
"'@x","'	=1",,"email_malformed"
"'	=1","'<R>=1",,"email_malformed"
"'
=1","a""b,c",,"email_malformed"
"'＝1+1","'＋1",,"email_malformed"
"a,""b","x",,"email_malformed"
CSV

# ---------------------------------------------------------------------------
# Settings that somebody sets before the library is loaded

my @settings = ([ 'require_verified_email', 'off', 'accept' ], [ 'signup', 'off', 'on' ], [ 'default_quota', '1000000', '3' ], [ 'password_min_length', '6', '8' ], [ 'invitation_ttl', '2592000', '2d' ],
	[ 'accept_url', 'https://evil.example/{token}', '' ], [ 'client_address_header', 'x-forged', '' ], [ 'log_refusals', 'on', 'off' ]);
for my $way ('set_config', 'options', 'session_preload')
{
	my $options = $way eq 'options' ? join ' ', map { "-c invite_sync.$_->[0]=$_->[1]" } @settings : '';
	value($node, 'postgres', 'ALTER ROLE authenticator SET session_preload_libraries = invite_sync') if $way eq 'session_preload';
	my $session = eval { session($node, $db, 'authenticated', options => $options) };
	my @set;
	push @set, outcome($session, "SELECT set_config('invite_sync.$_->[0]', '$_->[1]', false)") =~ s/ .*//r for $way eq 'options' ? () : @settings;
	is("@set", join(' ', $way eq 'options' ? () : ($way eq 'session_preload' ? '42501' : 'ok') x @settings), "$way: what is said when they are set");
	$session->must(claims('dave'));
	my $url = $session->query("SELECT remaining FROM invite_sync.my_quota()");
	is($url->{out}, '3', "$way: the quota is what it was");
	is($session->must("SHOW invite_sync.$_->[0]"), $_->[2], "$way: $_->[0] is what it was") for @settings;
	$session->close;
	value($node, 'postgres', 'ALTER ROLE authenticator RESET session_preload_libraries') if $way eq 'session_preload';
}

# ---------------------------------------------------------------------------
# Secrets in what the server writes. Everybody passes them as parameters here; what a caller writes into the text of a
# statement stands where statements stand.

sub configure
{
	my (%settings) = @_;
	value($node, 'postgres', join ';', map { defined $settings{$_} ? "ALTER SYSTEM SET $_ = $settings{$_}" : "ALTER SYSTEM RESET $_" } sort keys %settings);
	value($node, 'postgres', 'SELECT pg_reload_conf()');
	# until the postmaster has heard of it: what it starts then is new
	my ($name) = sort keys %settings;
	my $wanted = defined $settings{$name} ? $settings{$name} =~ s/'//gr : undef;
	for (1 .. 100)
	{
		last if !defined $wanted || value($node, 'postgres', "SHOW $name") eq $wanted;
		select undef, undef, undef, 0.05;
	}
	return;
}
my %tell_all = (log_min_messages => 'debug5', log_error_verbosity => 'verbose', work_mem => "'64kB'", 'auto_explain.log_min_duration' => 0, 'auto_explain.log_nested_statements' => 'on',
	'auto_explain.log_analyze' => 'on', 'auto_explain.log_verbose' => 'on');
# since 16 it logs parameters, as log_statement does
$tell_all{'auto_explain.log_parameter_max_length'} = 0 if $node->pg_version >= 16;
# and VERBOSE shows in the plan of the caller's statement the values that it was planned for
$tell_all{plan_cache_mode} = 'force_generic_plan';
configure(%tell_all);

# A statement of a driver, with bound parameters: what it says, or an error's message.
my $script = 0;
sub bound_command
{
	my ($role, $claims, $sql, %parameters) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . '/script' . ++$script;
	open my $fh, '>', $file or die;
	print $fh "BEGIN;\nSET LOCAL ROLE $role;\nSELECT set_config('request.jwt.claims', :claims, true);\n$sql;\nCOMMIT;\n";
	close $fh;
	return ('pgbench', '-n', '-c', '1', '-t', '1', '-M', 'extended', '-f', $file, '-D', "claims=$claims", (map { ('-D', "$_=$parameters{$_}") } sort keys %parameters),
		'-h', $node->host, '-p', $node->port, '-U', 'authenticator', $db);
}
sub bound
{
	my @command = bound_command(@_);
	my ($out, $err) = ('', '');
	IPC::Run::run(\@command, '<', \'', '>', \$out, '2>', \$err);
	return $1 if $err =~ /ERROR:  (.*)/;
	return $out =~ m{processed: 1/1} ? 'ok' : "$out$err";
}
sub claim { my ($name) = @_; return qq({"sub": "$id{$name}", "role": "authenticated"}) }
my $anonymous = '{"role": "anon"}';
my $servant = '{"role": "service_role"}';

my (%needle, %control);
sub forms { my ($what, $bytes) = @_; my $hex = unpack 'H*', $bytes; my $base64 = encode_base64($bytes, '') =~ s/=+$//r;
	return ("$what" => $bytes, "$what in hex" => $hex, "$what in upper hex" => uc $hex, "$what in base64" => $base64, "$what in base64url" => $base64 =~ tr{+/}{-_}r) }
sub secret_of { my ($t) = @_; return substr decode_base64(substr($t, 4) =~ tr{-_}{+/}r), 16 }
# a token: its secret half, in all forms, and the characters of its text that are made of nothing else
sub watch_token { my ($what, $t) = @_; my $secret = secret_of($t); %needle = (%needle, forms("$what: the secret half", $secret), "$what: the text of the secret half" => substr($t, 26)); $control{"$what: its digest"} = sha256($secret); return $t }
sub watch { my ($what, $text) = @_; %needle = (%needle, forms($what, $text)); return $text }

# Where in what the server has written, and in memory that it maps to files, these bytes are.
sub written
{
	my ($strings, @paths) = @_;
	my %name = reverse %$strings;
	my $any = join '|', map { quotemeta } keys %name;
	my $pattern = qr/($any)/;
	my %found;
	find({ no_chdir => 1, wanted => sub {
		my $path = $File::Find::name;
		return unless -f $path;
		open my $fh, '<:raw', $path or return;
		my ($rest, $buffer) = ('', '');
		while (read $fh, $buffer, 8 * 1024 * 1024)
		{
			$buffer = $rest . $buffer;
			while ($buffer =~ /$pattern/g) { $found{ $name{$1} }{ $path =~ s{.*/(?=[^/]+/[^/]+$)}{}r } = 1 }
			$rest = substr $buffer, -min(200, length $buffer);
		}
		close $fh;
	} }, @paths);
	return \%found;
}
sub told { my ($found) = @_; return join "\n", map { my $what = $_; map { "$what in $_" } sort keys %{ $found->{$what} } } sort keys %$found }

$service = session($node, $db, 'service_role');
$service->must(q(SET request.jwt.claims = '{"role": "service_role"}'));
my %secret = map { $_ => watch_token("token of $_", invite($service, "create_invitation('$_\@secret.example', 'guest', '$acme')")) } qw(accepted waiting failed weak wrong declined bound);
$secret{link} = watch_token('token of a link', invite($service, "create_invite_link('$acme', 'guest')"));
$secret{resent} = watch_token('token sent again', $service->must("SELECT (invite_sync.resend_invitation(i.invitation_id)).token FROM invite_sync.create_invitation('resent\@secret.example') AS i"));
$secret{dave} = watch_token('token of a user', invite($service, "create_invitation('dave\@team.example', 'guest', '$acme')"));
my $password = watch('password', 'Rm9-' . unpack 'H*', sha256(rand))  =~ s/^(.{50}).*/$1/r;
$needle{'most of the password'} = substr $password, 0, 40;
my $device = watch('device', 'device-' . unpack('H*', sha256(rand)));
my $weak = watch('weak password', 'q7Z!x');
my $older = watch('token of an older system', 'old-' . unpack('H*', sha256(rand)));
# the other half is not secret, and the last character is changed
my $wrong = watch_token('wrong token', substr($secret{wrong}, 0, 40) . join('', map { ('A' .. 'Z')[rand 26] } 1 .. 28));
delete $control{'wrong token: its digest'};

is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.get_invitation(:t)', t => $secret{accepted}), 'ok', 'parameters: looked at');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.get_invitation(:t)', t => $wrong), 'invitation is unknown', 'parameters: a wrong token');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.bind_invitation(:t, :d)', t => $secret{bound}, d => $device), 'ok', 'parameters: bound to a device');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p)', t => $secret{weak}, p => $weak), 'password is too weak', 'parameters: a weak password');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p)', t => $wrong, p => $password), 'invitation is unknown', 'parameters: signing up with a wrong token');
is(bound('anon', $anonymous, 'SELECT 1 / length(s.email) - 1 / (s.email IS NULL)::int FROM invite_sync.signup_with_invitation(:t, :p) AS s', t => $secret{failed}, p => $password), 'division by zero', 'parameters: what fails after the call');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p, :data)', t => $secret{accepted}, p => $password, data => '{"full_name": "Somebody"}'), 'ok', 'parameters: signed up');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p, device => :d)', t => $secret{bound}, p => $password, d => $device), 'ok', 'parameters: signed up from a device');
is(bound('authenticated', claim('mallory'), 'SELECT * FROM invite_sync.accept_invitation(:t)', t => $secret{resent}), 'invitation is for another email address', 'parameters: another\'s token');
is(bound('authenticated', claim('dave'), 'SELECT * FROM invite_sync.accept_invitation(:t, :d)', t => $secret{dave}, d => $device), 'ok', 'parameters: accepted');
is(bound('authenticated', claim('eve'), 'SELECT * FROM invite_sync.accept_invitation(:t)', t => $secret{link}), 'ok', 'parameters: accepted a link');
is(bound('service_role', $servant, 'SELECT * FROM invite_sync.decline_invitation(:t)', t => $secret{declined}), 'ok', 'parameters: declined');
is(bound('service_role', $servant, 'SELECT * FROM invite_sync.import_invitations(:j)', j => qq([{"email": "eve\@team.example", "token": "$older"}])), 'ok', 'parameters: imported');
is(bound('authenticated', claim('eve'), 'SELECT * FROM invite_sync.accept_invitation(:t)', t => $older), 'ok', 'parameters: accepted by the token of an older system');
my $holder = session($node, $db, 'supabase_admin');
$holder->must("BEGIN; SELECT FROM invite_sync.organization WHERE id = '$acme' FOR UPDATE");
is(bound('anon', $anonymous, "SET LOCAL lock_timeout = '100ms';\nSELECT * FROM invite_sync.signup_with_invitation(:t, :p)", t => $secret{waiting}, p => $password), 'canceling statement due to lock timeout', 'parameters: given up waiting');
$holder->must('ROLLBACK');

# five hundred at once, with as little memory as there can be, and an address for each
value($node, $db, "ALTER DATABASE $db SET invite_sync.accept_url = 'https://app.example/accept?token={token}'");
my $bulk = session($node, $db, 'service_role');
$bulk->must(q(SET request.jwt.claims = '{"role": "service_role"}'));
is($bulk->must('SHOW work_mem'), '64kB', 'there is little memory for results');
my @bulk = split /\n/, $bulk->must(<<'SQL');
BEGIN;
DECLARE tokens CURSOR FOR SELECT i.token FROM invite_sync.create_invitations((SELECT jsonb_agg(jsonb_build_object('email', 'bulk' || n || '@secret.example')) FROM generate_series(1, 500) AS n)) AS i;
FETCH 500 FROM tokens;
SQL
is(scalar @bulk, 500, 'five hundred tokens, of a result that is still there');
watch_token("token $_ of many", $bulk[$_]) for map { $_ * 25 } 0 .. 19;
delete @control{ grep { / of many/ } keys %control };
is(told(written({ map { $_ => $needle{$_} } grep { / of many/ } keys %needle }, $node->data_dir)), '', 'no temporary file has them');
is(value($node, $db, 'SELECT count(*) FROM pg_ls_tmpdir()'), '0', 'nor is there one');
$bulk->must('COMMIT');
$bulk->close;

# what callers write into statements, and values where they are logged on purpose, show that we look where they would be
$control{'a token in the text of a statement'} = 'inv_' . 'Z' x 64;
outcome($anon = session($node, $db, 'anon'), "get_invitation('inv_" . 'Z' x 64 . "')");
configure(log_statement => "'all'", log_parameter_max_length => -1, log_min_duration_statement => -1);
$control{'a parameter that is logged'} = 'inv_' . 'Y' x 64;
bound('anon', $anonymous, 'SELECT * FROM invite_sync.get_invitation(:t)', t => 'inv_' . 'Y' x 64);
configure(log_statement => "'all'", log_parameter_max_length => 0, log_parameter_max_length_on_error => 0, log_min_duration_statement => 0);
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p)', t => $secret{failed}, p => $password), 'ok', 'parameters: with all statements logged, and no parameters');
is(bound('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p)', t => $secret{failed}, p => $password), 'invitation was used already', 'parameters: a refusal, with all statements logged');

value($node, $db, 'CHECKPOINT');
sub look
{
	my ($when) = @_;
	my $found = written({ %needle, %control }, $node->data_dir, $node->logfile);
	my %expected = map { $_ => delete $found->{$_} } grep { exists $found->{$_} } keys %control;
	is(told($found), '', "$when: no secret in tables, WAL, temporary files, statistics or the log");
	is(join(', ', grep { !$expected{$_} } sort keys %control), '', "$when: while digests, and what callers write down, are found");
}
look('after a checkpoint');
configure(log_statement => undef, log_parameter_max_length => undef, log_parameter_max_length_on_error => undef, log_min_duration_statement => undef, log_min_messages => 'warning', 'auto_explain.log_min_duration' => undef);
is(value($node, $db, q(SELECT count(*) > 100 FROM extensions.pg_stat_statements)), 't', 'pg_stat_statements has seen statements');
is(value($node, $db, 'SELECT count(*) FROM extensions.pg_stat_statements AS s WHERE ' . join ' OR ', map { "position('$_' IN s.query) > 0" } $password, $weak, $older, $device, map { substr $_, 26 } values %secret), '0', 'and shows none of the secrets');

# a server that ends in the middle of it
configure(%tell_all);
$holder->must("BEGIN; SELECT FROM invite_sync.organization WHERE id = '$acme' FOR UPDATE");
my @waiting = bound_command('anon', $anonymous, 'SELECT * FROM invite_sync.signup_with_invitation(:t, :p)', t => $secret{waiting}, p => $password);
my $waiter = IPC::Run::start(\@waiting, '<', \'', '>', \my $waiter_out, '2>', \my $waiter_err);
$node->poll_query_until($db, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'signup_with_invitation')) or die 'nobody waits';
value($node, $db, 'CHECKPOINT');
$node->stop('immediate');
$waiter->finish;
$_->close for $holder, $service, $anon, values %user;
look('after a crash');
$node->start;
value($node, $db, 'CHECKPOINT');
look('after the recovery');
is(value($node, $db, q(SELECT count(*) FROM auth.users WHERE email = 'waiting@secret.example')), '0', 'what was under way has left no account');
configure(map { $_ => undef } keys %tell_all);
$node->restart;

# ---------------------------------------------------------------------------
# With a stopwatch. One call of each kind after the other, many times, each undone. The lower quartile counts: other work on
# the machine makes calls longer and never shorter. Two of the kinds do not differ at all: what they differ by is noise. So
# what is asserted is generous, and what was measured is said.

value($node, $db, <<'SQL');
CREATE PROCEDURE public.stopwatch(calls text[], rounds int, INOUT quartiles float8[]) LANGUAGE plpgsql AS $$
DECLARE
	n int := cardinality(calls);
	which int;
	started timestamptz;
	took float8[];
	kind int[];
BEGIN
	FOR i IN 1 .. rounds * n LOOP
		which := 1 + (i + i / n) % n;
		started := clock_timestamp();
		BEGIN
			EXECUTE 'SELECT FROM invite_sync.' || calls[which];
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		took := took || extract(epoch FROM clock_timestamp() - started)::float8 * 1000;
		kind := kind || which;
		ROLLBACK;
	END LOOP;
	SELECT array_agg(q.quartile ORDER BY q.kind) INTO quartiles
	FROM (SELECT l.kind, percentile_cont(0.25) WITHIN GROUP (ORDER BY l.took) AS quartile FROM unnest(kind, took) AS l (kind, took) GROUP BY l.kind) AS q;
END
$$;
SQL
sub stopwatch
{
	my ($what, $claims, $rounds, @kinds) = @_;
	my $session = session($node, $db, 'supabase_admin');
	$session->must("SET request.jwt.claims = '$claims'");
	my $calls = 'ARRAY[' . join(', ', map { my $c = $_->[1] =~ s/'/''/gr; "'$c'" } @kinds) . ']';
	$session->must("CALL public.stopwatch($calls, 20, NULL)");
	# what is told is told every time; other work on the machine is not there every time
	my %told = map { $_ => 1 } 2 .. $#kinds;
	for (1 .. 3)
	{
		my @time = split /,/, $session->must("CALL public.stopwatch($calls, $rounds, NULL)") =~ tr/{}//dr;
		my $noise = abs($time[0] - $time[1]);
		for my $i (sort keys %told)
		{
			my $difference = min(abs($time[$i] - $time[0]), abs($time[$i] - $time[1]));
			diag(sprintf '%s: %s %.3f ms, %s %.3f ms, ratio %.3f (of two alike: %.3f)', $what, $kinds[$i][0], $time[$i], $kinds[0][0], $time[0], $time[$i] / $time[0], $time[1] / $time[0]);
			delete $told{$i} if $difference <= max($noise, 0.25 * $time[0]);
		}
		last unless %told;
	}
	$session->close;
	ok(!$told{$_}, "$what: the time does not tell $kinds[$_][0] from $kinds[0][0]") for 2 .. $#kinds;
	return;
}
# the inviter's own of before would be in the way of some
value($node, $db, "DELETE FROM invite_sync.invitation_grant WHERE invitation_id IN (SELECT id FROM invite_sync.invitation WHERE inviter_id = '$id{rick}'); DELETE FROM invite_sync.invitation WHERE inviter_id = '$id{rick}'");
value($node, $db, 'VACUUM');
my @kinds = ([ 'an unknown address' => 'unknown1' ], [ 'another' => 'unknown2' ], [ 'one with an account' => 'account' ], [ 'a member' => 'member' ], [ 'one that is invited' => 'invited' ]);
stopwatch('inviting', claim('rick'), 100, map { [ $_->[0], "create_invitation('$_->[1]\@list.example', 'guest', '$acme')" ] } @kinds);
stopwatch('inviting to the application', claim('mallory'), 100, map { [ $_->[0], "create_invitation('$_->[1]\@list.example')" ] } @kinds[ 0 .. 2 ]);
stopwatch('asking', claim('rick'), 60, map { [ $_->[0], "check_invitation('$_->[1]\@list.example', 'guest', '$acme')" ] } @kinds);
stopwatch('looking', $anonymous, 1000, [ 'a wrong secret', "get_invitation('" . substr($proving_new, 0, 26) . 'A' x 42 . "')" ], [ 'another', "get_invitation('" . substr($proving_new, 0, 26) . 'B' x 42 . "')" ],
	[ 'an unknown id', "get_invitation('inv_" . 'AZ' x 32 . "')" ], [ 'what is malformed', "get_invitation('inv_" . '*' x 64 . "')" ], [ 'what is too short', "get_invitation('inv_AAAA')" ]);

# ---------------------------------------------------------------------------
# Plans outlive the tables that they were made for: a session that called everything while there was nothing still finds
# its way by the indexes when there are a hundred thousand.

prepare_database($node, 'scale');
value($node, 'scale', <<"SQL");
SELECT invite_sync.attach();
SELECT invite_sync.set_rate_limit('invite', 10000, '1 hour', 'user'), invite_sync.set_rate_limit('resend', 10000, '1 minute', 'invitation'), invite_sync.set_rate_limit('check_invitation', 10000, '1 hour', 'user');
CREATE FUNCTION public.i(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS \$\$ SELECT ('00000000' || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid \$\$;
CREATE FUNCTION public.token(n int) RETURNS text LANGUAGE sql IMMUTABLE AS \$\$ SELECT 'inv_' || translate(encode(uuid_send(i(n)) || sha256(int4send(n)), 'base64'), E'+/\\n', '-_') \$\$;
INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at)
SELECT '00000000-0000-0000-0000-000000000000', ('a' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid, 'authenticated', 'authenticated', 'p' || n || '\@scale.example', now() FROM generate_series(1, 400) AS n;
INSERT INTO invite_sync.organization (id, name, slug) SELECT ('c' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid, 'o' || n, 'o' || n FROM generate_series(1, 100) AS n;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
SELECT ('c' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid, ('a' || lpad(to_hex(n + k), 7, '0') || '-0000-4000-8000-000000000000')::uuid, '00000000-0000-4000-8000-00000000000a'
FROM generate_series(1, 100) AS n, unnest(ARRAY[200, 300]) AS k;
SELECT invite_sync.set_quota(id, 1000) FROM auth.users;
SELECT invite_sync.create_role('guest' || n, '{organization.read}', ('c' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid) FROM generate_series(1, 2) AS n;
SQL
value($node, 'scale', 'VACUUM (ANALYZE)');
# of round n: who does it, and what (NULL: a statement of its own, as the auth server does it)
my $all_calls = sub {
	my ($n) = @_;
	my ($o, $owner, $person) = (map { sprintf "%s%07x-0000-4000-8000-000000000000", $_->[0], $_->[1] } [ 'c', $n ], [ 'a', $n + 200 ], [ 'a', $n * 20 ]);
	my $t = sub { "public.token(" . ($n * 20 + $_[0]) . ")" };
	return (
		[ $owner, "create_invitation('new$n\@scale.example', 'member', '$o', idempotency_key => 'k$n')" ], [ $owner, "create_invitation('again$n\@scale.example', 'member', '$o', on_pending => 'replace')" ],
		[ $owner, "create_invitations('[{\"email\": \"x$n\@scale.example\"}, {\"email\": \"y$n\@scale.example\", \"organization_id\": \"$o\"}]')" ], [ $owner, "check_invitation('p$n\@scale.example', 'member', '$o')" ],
		[ $owner, "create_invite_link('$o')" ], [ $owner, "resend_invitation(public.i(@{[ $n * 20 + 100000 ]}))" ], [ $owner, "revoke_invitation(public.i(@{[ $n * 20 + 100000 ]}))" ],
		[ $owner, "list_invitations('$o')" ], [ $owner, "list_invitations('$o', status => 'declined')" ], [ $owner, 'list_invitations()' ], [ undef, 'list_invitations()' ],
		[ 'anon', "get_invitation(" . $t->(0) . ")" ], [ 'anon', "bind_invitation(" . $t->(0) . ", 'd')" ], [ $person, 'my_invitations()' ], [ $person, "accept_invitation(" . $t->(0) . ", 'd')" ], [ $person, "accept_invitation(" . $t->(0) . ")" ],
		[ 'anon', "signup_with_invitation(" . $t->(80000) . ", 'correct horse')" ], [ undef, "decline_invitation(" . $t->(60000) . ")" ],
		[ undef, "import_invitations('[{\"email\": \"z$n\@scale.example\", \"token\": \"aaaaaaaaaaaaaaaaaaaa$n\"}]')" ], [ undef, "set_invitation_policy('$o', '1 day')" ],
		[ undef, 'CALL invite_sync.settle_invitations(100)' ], [ undef, "CALL invite_sync.prune_invitations('1 hour', 100)" ], [ undef, "INSERT INTO invite_sync.invitation_import (email) VALUES ('w$n\@scale.example')" ],
		[ undef, "drop_role('guest$n', '$o')" ], [ undef, "remove_member('$o', '$owner')" ], [ undef, "DELETE FROM auth.users WHERE id = '$owner'" ], [ undef, "delete_organization('$o')" ]);
};
my $scale = session($node, 'scale', 'supabase_admin', options => '-c client_min_messages=error');
my $call = sub {
	my ($who, $sql) = @_;
	my $claims = !defined $who ? '' : $who eq 'anon' ? $anonymous : qq({"sub": "$who", "role": "authenticated"});
	$scale->must("SET request.jwt.claims = '$claims'");
	return outcome($scale, $sql);
};
my %first = map { $_->[1] => $call->(@$_) } $all_calls->(1);
# without triggers, and without a word to the session that has its plans
my $loader = session($node, 'scale', 'supabase_admin');
my $loaded = $loader->query(<<"SQL", 600);
SET session_replication_role = replica;
INSERT INTO invite_sync.invitation (id, email, inviter_id, secret_digest, proves_email, status, uses, created_at, renewed_at, expires_at, closed_at)
SELECT public.i(n), 'p' || n || '\@scale.example', ('a' || lpad(to_hex(n / 20 % 100 + 200), 7, '0') || '-0000-4000-8000-000000000000')::uuid, sha256(sha256(int4send(n))), true,
	CASE n % 20 WHEN 0 THEN 'pending' WHEN 1 THEN 'pending' WHEN 2 THEN 'declined' ELSE 'accepted' END, (n % 20 > 2)::int, t, t, CASE WHEN n % 20 = 1 THEN t ELSE now() + '2 days' END, CASE WHEN n % 20 > 1 THEN t END
FROM generate_series(40, 100500) AS n, LATERAL (SELECT now() - n * '1 second'::interval) AS x (t);
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, open, created_at)
SELECT i.id, ('c' || lpad(to_hex(n / 20 % 100), 7, '0') || '-0000-4000-8000-000000000000')::uuid, '00000000-0000-4000-8000-00000000000c', i.status = 'pending', i.created_at
FROM generate_series(40, 100500) AS n JOIN invite_sync.invitation AS i ON i.id = public.i(n);
INSERT INTO invite_sync.invitation_acceptance (invitation_id, user_id) SELECT id, gen_random_uuid() FROM invite_sync.invitation WHERE status = 'accepted';
INSERT INTO invite_sync.invitation_key (actor_id, key, invitation_id, request_digest, created_at) SELECT gen_random_uuid(), 'k', id, '', now() FROM invite_sync.invitation;
INSERT INTO invite_sync.rate_limit (action, scope, key, until) SELECT 'invite', 'user', id::text, now() + '1 hour' FROM invite_sync.invitation;
SQL
die $loaded->{stderr} unless $loaded->{ok};
$loader->close;
my $scans = sub {
	$scale->must('SELECT pg_stat_force_next_flush()');
	$scale->must('SELECT 1');
	return map { split /\|/ } split /\n/, value($node, 'scale', q(SELECT relname, coalesce(seq_scan, 0) FROM pg_stat_user_tables WHERE schemaname = 'invite_sync' AND relname ~ '^invitation|^rate_limit$' AND relname <> 'invitation_policy' ORDER BY 1));
};
for my $round ([ 2, 'of a session that has them from when there was nothing' ], [ 3, 'of a new session' ])
{
	my ($n, $what) = @$round;
	my (%outcome, @scanned);
	if ($n == 3)
	{
		$scale->close;
		$scale = session($node, 'scale', 'supabase_admin', options => '-c client_min_messages=error');
	}
	for my $one ($all_calls->($n))
	{
		my %scans = $scans->();
		$outcome{ $one->[1] } = $call->(@$one);
		my %after = $scans->();
		push @scanned, map { "$one->[1] reads all of $_" } grep { $after{$_} != $scans{$_} } sort keys %after;
	}
	is(join("\n", @scanned), '', "plans $what: by the indexes");
	my @odd = grep { $outcome{$_} !~ /^(ok|invitation_unknown|role_unknown)$/ } sort keys %outcome;
	is(join("\n", map { "$_: $outcome{$_}" } @odd), '', "plans $what: everything works");
	cmp_ok(scalar(grep { $outcome{$_} eq 'ok' } keys %outcome), '>=', 20, "plans $what: most of it finds something to do");
}
$scale->close;

$node->stop;
done_testing();
