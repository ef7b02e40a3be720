# Invitations are made, accepted, declined, taken back and sent again while users, memberships and organizations come and go:
# nobody waits in a circle, nothing is accepted twice, and there is no error but refusals. Then many connections accept one
# token: one of them wins.
#
# STORM_SECONDS=n     how long (25)
# STORM_SESSIONS=n    how many at once (6)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster value);
use InviteSyncTest qw(prepare_database session);
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{STORM_SECONDS} || 25;
my $sessions = $ENV{STORM_SESSIONS} || 6;
my $many = 60;
my $db = 'app';
my $node = durable_cluster('storm', conf => "log_min_messages = fatal\nmax_connections = 100");
prepare_database($node, $db);

my $keeper = 'c0000000-0000-4000-8000-000000000000';
value($node, $db, <<"SQL");
SELECT invite_sync.attach();
CREATE TABLE public.token (invitation_id uuid PRIMARY KEY, token text);
CREATE TABLE public.outcome (operation text, isolation text, state text, reason text, message text);
GRANT ALL ON public.token TO PUBLIC;
SET check_function_bodies = off;
CREATE FUNCTION public.a_user() RETURNS uuid LANGUAGE sql VOLATILE AS \$\$ SELECT ('b000000' || (random() * 5)::integer || '-0000-4000-8000-000000000000')::uuid \$\$;
CREATE FUNCTION public.an_address() RETURNS text LANGUAGE sql VOLATILE AS \$\$ SELECT (random() * 7)::integer || '\@storm.example' \$\$;
CREATE FUNCTION public.an_organization() RETURNS uuid LANGUAGE sql VOLATILE AS \$\$ SELECT ('a000000' || (random() * 3)::integer || '-0000-4000-8000-000000000000')::uuid \$\$;
CREATE FUNCTION public.an_invitation(pending boolean DEFAULT true) RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT i.id FROM invite_sync.invitation AS i WHERE i.status = 'pending' OR NOT pending ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.an_admin() RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT m.user_id FROM invite_sync.membership AS m WHERE m.role_id <> '00000000-0000-4000-8000-00000000000c' ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.a_token() RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT t.token FROM public.token AS t JOIN invite_sync.invitation AS i ON i.id = t.invitation_id ORDER BY i.status <> 'pending', random() LIMIT 1 \$\$;
-- whoever it was sent to, or anybody
CREATE FUNCTION public.be_invited(token text) RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT public.be(coalesce((SELECT u.id FROM public.token AS t JOIN invite_sync.invitation AS i ON i.id = t.invitation_id JOIN auth.users AS u ON u.email = i.email WHERE t.token = \$1 LIMIT 1), public.a_user())) \$\$;
CREATE FUNCTION public.be(user_id uuid) RETURNS boolean LANGUAGE sql VOLATILE AS \$\$
	SELECT set_config('request.jwt.claims', jsonb_build_object('sub', user_id, 'role', 'authenticated')::text, true) IS NOT NULL \$\$;
CREATE FUNCTION public.note(invitation_id uuid, token text) RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	INSERT INTO public.token AS t VALUES (\$1, \$2) ON CONFLICT (invitation_id) DO UPDATE SET token = excluded.token RETURNING true \$\$;
CREATE FUNCTION public.delete_or_sign_up(user_id uuid) RETURNS void LANGUAGE plpgsql VOLATILE AS \$\$
BEGIN
	DELETE FROM auth.users AS u WHERE u.id = user_id;
	IF NOT FOUND THEN
		INSERT INTO auth.users (instance_id, id, aud, email, email_confirmed_at) VALUES ('00000000-0000-0000-0000-000000000000', user_id, 'authenticated', substr(user_id::text, 8, 1) || '\@storm.example',
			CASE WHEN random() < 0.6 THEN now() END) ON CONFLICT DO NOTHING;
	END IF;
END \$\$;
CREATE FUNCTION public.fill() RETURNS void LANGUAGE plpgsql VOLATILE AS \$\$
BEGIN
	INSERT INTO auth.users (instance_id, id, aud, email, email_confirmed_at)
		SELECT '00000000-0000-0000-0000-000000000000'::uuid, ('b000000' || i || '-0000-4000-8000-000000000000')::uuid, 'authenticated', i || '\@storm.example', CASE WHEN random() < 0.8 THEN now() END FROM generate_series(0, 5) AS i
		UNION ALL SELECT NULL, '$keeper'::uuid, 'authenticated', 'keeper\@x.example', now() ON CONFLICT DO NOTHING;
	UPDATE auth.users SET deleted_at = NULL, banned_until = NULL WHERE deleted_at IS NOT NULL OR banned_until IS NOT NULL;
	INSERT INTO invite_sync.organization (id, name, slug, seat_limit)
		SELECT ('a000000' || i || '-0000-4000-8000-000000000000')::uuid, 'Organization ' || i, 'organization-' || i, CASE i WHEN 0 THEN 4 END FROM generate_series(0, 3) AS i ON CONFLICT DO NOTHING;
	INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT o.id, '$keeper', '00000000-0000-4000-8000-00000000000a' FROM invite_sync.organization AS o ON CONFLICT DO NOTHING;
	INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment)
		VALUES ('a0000001-0000-4000-8000-000000000000', 'storm.example', 'x', now(), 'auto') ON CONFLICT DO NOTHING;
END \$\$;
CREATE PROCEDURE public.storm(operations text[], roles text[], calls text[], isolation text, seconds float) LANGUAGE plpgsql AS \$\$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	n integer;
	state text;
	detail text;
	message text;
BEGIN
	WHILE clock_timestamp() < until LOOP
		n := 1 + floor(random() * cardinality(operations));
		state := '00000';
		detail := '';
		message := '';
		BEGIN
			PERFORM set_config('request.jwt.claims', CASE roles[n] WHEN 'service_role' THEN '{"role": "service_role"}' WHEN 'anon' THEN '{"role": "anon"}' ELSE '' END, true);
			PERFORM set_config('role', roles[n], true);
			EXECUTE calls[n];
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, message = MESSAGE_TEXT;
		END;
		-- who waits for what is held now has locked something before it
		PERFORM pg_sleep(random() * 0.004);
		COMMIT;
		INSERT INTO public.outcome VALUES (operations[n], isolation, state, split_part(detail, ' ', 1), message);
		COMMIT;
	END LOOP;
END \$\$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
SQL

my $invite = q{SELECT public.note(x.invitation_id, x.token) FROM invite_sync.create_invitation(public.an_address(), };
my %operation = (
	invite => [ 'service_role', "$invite 'member', public.an_organization(), on_pending => (ARRAY['refuse', 'resend', 'replace'])[1 + floor(random() * 3)]) AS x WHERE x.token IS NOT NULL" ],
	invite_to_two => [ 'service_role', $invite . q{grants => jsonb_build_array(jsonb_build_object('organization_id', 'a000000' || (random() * 1)::integer || '-0000-4000-8000-000000000000', 'role', 'member'),
		jsonb_build_object('organization_id', 'a000000' || 2 + (random() * 1)::integer || '-0000-4000-8000-000000000000', 'role', 'admin'))) AS x} ],
	invite_as_user => [ 'service_role', "$invite 'member', public.an_organization(), inviter_id => public.an_admin()) AS x" ],
	invite_by_link => [ 'service_role', q{SELECT public.note(x.invitation_id, x.token) FROM invite_sync.create_invite_link(public.an_organization(), 'member', 1 + (random() * 2)::integer) AS x} ],
	accept => [ 'authenticated', 'WITH t AS MATERIALIZED (SELECT public.a_token() AS token) SELECT invite_sync.accept_invitation(t.token) FROM t WHERE public.be_invited(t.token)' ],
	accept_mine => [ 'authenticated', 'SELECT invite_sync.accept_my_invitation(i.invitation_id) FROM (SELECT public.be(public.a_user()) OFFSET 0) AS b, LATERAL (SELECT m.invitation_id FROM invite_sync.my_invitations() AS m LIMIT 1) AS i' ],
	decline => [ 'authenticated', 'WITH t AS MATERIALIZED (SELECT public.a_token() AS token) SELECT invite_sync.decline_invitation(t.token) FROM t WHERE public.be_invited(t.token)' ],
	bind => [ 'anon', q{SELECT invite_sync.bind_invitation(public.a_token(), 'x')} ],
	look => [ 'anon', 'SELECT invite_sync.get_invitation(public.a_token())' ],
	signup => [ 'anon', q{SELECT invite_sync.signup_with_invitation(public.a_token(), 'correct horse')} ],
	revoke => [ 'service_role', 'SELECT invite_sync.revoke_invitation(public.an_invitation())' ],
	resend => [ 'service_role', 'SELECT public.note(x.invitation_id, x.token) FROM invite_sync.resend_invitation(public.an_invitation()) AS x WHERE x.token IS NOT NULL' ],
	add_member => [ 'service_role', q{SELECT invite_sync.add_member(public.an_organization(), public.a_user(), 'admin')} ],
	remove_member => [ 'service_role', 'SELECT invite_sync.remove_member(public.an_organization(), public.a_user())' ],
	request_to_join => [ 'authenticated', q{SELECT invite_sync.request_to_join('a0000001-0000-4000-8000-000000000000') WHERE public.be(public.a_user())} ],
	delete_organization => [ 'service_role', q{SELECT invite_sync.delete_organization(public.an_organization()) WHERE random() < 0.1} ],
	delete_user => [ 'supabase_auth_admin', 'SELECT public.delete_or_sign_up(public.a_user()) WHERE random() < 0.5' ],
	# one user a statement, as the auth server does it: a volatile condition is asked again for each row
	delete_user_softly => [ 'supabase_auth_admin', 'WITH u AS (SELECT public.a_user() AS id WHERE random() < 0.3) UPDATE auth.users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END FROM u WHERE users.id = u.id' ],
	sign_in => [ 'supabase_auth_admin', 'WITH u AS (SELECT public.a_user() AS id) UPDATE auth.users SET last_sign_in_at = now() FROM u WHERE users.id = u.id' ]);
my @names = sort keys %operation;
sub array { return 'ARRAY[' . join(', ', map { (my $s = $_) =~ s/'/''/g; "'$s'" } @_) . ']' }
my $arguments = join ', ', array(@names), array(map { $operation{$_}[0] } @names), array(map { $operation{$_}[1] } @names);

# A queue is as long as the machine is slow: whoever waits in it is here more patient than the 5 s of our own.
my $options = '-c client_min_messages=error -c lock_timeout=50s';
my $filler = session($node, $db, 'supabase_admin', options => $options);
my @session = map { session($node, $db, 'supabase_admin', options => $options) } 1 .. $sessions;
my $started = time;
for (my $round = 0; time < $started + $seconds; $round++)
{
	my $isolation = $round % 3 == 2 ? 'repeatable read' : 'read committed';

	$filler->must('SELECT public.fill()');
	$_->send("SET default_transaction_isolation = '$isolation'; CALL public.storm($arguments, '$isolation', 2)") for @session;
	for my $session (@session)
	{
		my $result = $session->wait(60);
		is($result->{sqlstate}, '00000', 'a storm passes') or diag($result->{stderr}) unless $result->{ok};
	}
}
$_->close for @session, $filler;
value($node, $db, 'SELECT count(*) FROM invite_sync.retry_quarantine(due_only => false)') for 1 .. 2;

is(value($node, $db, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'nobody waited in a circle');
for my $name (@names)
{
	cmp_ok(value($node, $db, "SELECT count(*) FROM public.outcome WHERE operation = '$name' AND state = '00000'"), '>', 0, "$name succeeded")
	  or diag(value($node, $db, "SELECT state, reason, message, count(*) FROM public.outcome WHERE operation = '$name' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 5"));
}
is(value($node, $db, q{
SELECT operation, isolation, state, reason, message, count(*) FROM public.outcome
WHERE state <> '00000' AND state NOT LIKE 'PT4__' AND NOT (state = '40001' AND isolation = 'repeatable read')
	AND NOT (state = '40001' AND operation = 'signup' AND message = 'the account with this address has just been replaced by another')
GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC LIMIT 20}), '', 'and there was no error but refusals');

sub none { my ($name, $query) = @_; return is(value($node, $db, $query), '', $name) }
none('what was accepted was accepted once', q{
SELECT i.id, i.kind, i.status, i.uses, i.max_uses, a.n FROM invite_sync.invitation AS i
	LEFT JOIN LATERAL (SELECT count(*) AS n FROM invite_sync.invitation_acceptance AS a WHERE a.invitation_id = i.id) AS a ON true
WHERE a.n > i.uses OR i.uses > coalesce(i.max_uses, 1) OR (i.kind = 'email' AND (i.status = 'accepted') <> (i.uses = 1)) OR (i.kind = 'link' AND i.status = 'accepted' AND i.uses <> i.max_uses)});
none('what is over gives nothing', q{SELECT i.id, i.status FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.open WHERE i.status <> 'pending'});
none('an address is invited once', q{
SELECT i.email, g.organization_id FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.open
WHERE i.kind = 'email' AND NOT i.shadow AND i.status = 'pending' GROUP BY 1, 2 HAVING count(*) > 1});
none('members and invitations fit into the seats', q{
SELECT o.id, invite_sync.seats_used(o.id), invite_sync.seats_pending(o.id) FROM invite_sync.organization AS o
WHERE invite_sync.seats_used(o.id) + invite_sync.seats_pending(o.id) > o.seat_limit + o.bonus_seats});
none('nothing belongs to an organization or a user that is gone', q{
SELECT 'grant', g.organization_id FROM invite_sync.invitation_grant AS g WHERE g.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT 'inviter', i.inviter_id FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND i.inviter_id NOT IN (SELECT u.id FROM auth.users AS u WHERE u.deleted_at IS NULL)
UNION ALL SELECT 'acceptance', a.user_id FROM invite_sync.invitation_acceptance AS a WHERE a.user_id NOT IN (SELECT u.id FROM auth.users AS u WHERE u.deleted_at IS NULL)});
none('an invitation that gives nothing is none', q{
SELECT i.id FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND NOT i.alone AND i.platform_role_id IS NULL
	AND NOT EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id AND g.open)});

# ---------------------------------------------------------------------------
# One token, many connections, each of another user

value($node, $db, <<"SQL");
SELECT public.fill();
INSERT INTO auth.users (id, email, email_confirmed_at) SELECT ('d0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n || '\@many.example', now() FROM generate_series(1, $many) AS n;
SQL
my $token = value($node, $db, q{SELECT token FROM invite_sync.create_invite_link('a0000002-0000-4000-8000-000000000000', 'member', 1)});
@session = map { session($node, $db, 'supabase_admin') } 1 .. $many;
for my $n (1 .. $many)
{
	$session[ $n - 1 ]->must(sprintf q(SET request.jwt.claims = '{"sub": "d0000000-0000-4000-8000-%012d", "role": "authenticated"}'; SET ROLE authenticated), $n);
}
$_->send("SELECT invite_sync.accept_invitation('$token')") for @session;
my %came = ();
for my $session (@session)
{
	my $result = $session->wait(60);
	$came{ $result->{ok} ? 'accepted' : $result->{stderr} =~ /^DETAIL:  (\w+)/m ? $1 : $result->{sqlstate} }++;
	$session->close;
}
is_deeply(\%came, { accepted => 1, invitation_used => $many - 1 }, "of $many who accept one token one wins, and the others hear that it was used");
is(value($node, $db, q{SELECT count(*) FROM invite_sync.membership WHERE user_id::text LIKE 'd0000000%'}), 1, 'and one is a member');
is(value($node, $db, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'nobody waited in a circle here either');

$node->stop;
done_testing();
