# Whatever writes to organizations and memberships takes its locks in one order: users, organizations with all above
# them, roles, and then what belongs to them. So any two operations, on the same few users and organizations at the
# same time, wait for each other and never in a circle. Every pair of them is made to cross here, and then all at once.
#
# LOCK_ORDER_SECONDS=n     how long in all (45)
# LOCK_ORDER_ONLY=one,two  only these operations

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value);
use InviteSyncTest qw(prepare_database session);
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{LOCK_ORDER_SECONDS} || 45;
my $db = 'app';
my $node = durable_cluster('locks', conf => "log_min_messages = warning\nlog_line_prefix = '%m [%p] %a %e '\nmax_connections = 20");
prepare_database($node, $db);

# ---------------------------------------------------------------------------
# One at a time: everything that could be locked is held, each thing by a session of its own, and let go when the
# operation has come to it.

my @things = qw(new owner member above below role);
my %thing = (
	new => "auth.users WHERE id = '10000000-0000-4000-8000-000000000001'", owner => "auth.users WHERE id = '10000000-0000-4000-8000-000000000002'",
	member => "auth.users WHERE id = '10000000-0000-4000-8000-000000000003'",
	above => "invite_sync.organization WHERE id = '20000000-0000-4000-8000-000000000001'", below => "invite_sync.organization WHERE id = '20000000-0000-4000-8000-000000000002'",
	role => "invite_sync.role WHERE name = 'writer'");
my %id = map { $_ => $thing{$_} =~ /('.*')/ } @things;
value($node, $db, <<"SQL");
SELECT invite_sync.attach();
INSERT INTO auth.users (id, email, email_confirmed_at) SELECT i, right(i::text, 1) || '\@lock.example', now() FROM unnest(ARRAY[$id{new}, $id{owner}, $id{member}]::uuid[]) AS i;
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES ($id{above}, 'Above', 'above', NULL), ($id{below}, 'Below', 'below', $id{above});
INSERT INTO invite_sync.role (name, organization_id) VALUES ('writer', $id{above});
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES
	($id{below}, $id{owner}, '00000000-0000-4000-8000-00000000000a'), ($id{below}, $id{member}, '00000000-0000-4000-8000-00000000000c');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment) VALUES ($id{below}, 'lock.example', 'x', now(), 'suggest');
CREATE TABLE public.sign (organization_id uuid REFERENCES invite_sync.organization, membership_id uuid REFERENCES invite_sync.membership);
GRANT REFERENCES, SELECT ON invite_sync.organization, invite_sync.membership TO postgres;
ALTER TABLE public.sign OWNER TO postgres;
SQL
my $invitation = "'30000000-0000-4000-8000-000000000001'";
my $request = "(SELECT j.id FROM invite_sync.join_request AS j WHERE j.user_id = $id{new})";
{
	my %holder = map { $_ => session($node, $db, 'supabase_admin') } @things;
	my %holds = map { $holder{$_}->must('SELECT pg_backend_pid()') => $_ } @things;
	my $worker = session($node, $db, 'supabase_admin', options => '-c client_min_messages=error');
	my $pid = $worker->must('SELECT pg_backend_pid()');
	my $watcher = session($node, $db, 'supabase_admin');
	my $n = 0;

	for my $case (
		[ "add_member($id{below}, $id{new}, 'writer')", 'new above below role' ],
		[ "remove_member($id{below}, $id{member})", 'member above below' ],
		[ "set_member_role($id{below}, $id{member}, 'writer')", 'member above below role' ],
		[ "leave_organization($id{below})", 'member above below', 'member' ],
		[ "transfer_ownership($id{below}, $id{member})", 'owner member above below' ],
		[ "create_organization('Fresh', parent_id => $id{below}, owner_id => $id{new})", 'new above below' ],
		[ "create_organization('Fresh', owner_id => $id{new})", 'new' ],
		[ "update_organization($id{below}, 'Renamed')", 'above below' ],
		[ "move_organization($id{below}, NULL)", 'above below' ],
		[ "delete_organization($id{below})", 'owner member above below' ],
		[ "delete_organization($id{above}, true)", 'owner member above below role' ],
		[ "set_seats($id{below}, 9)", 'above below' ],
		[ "set_organization_limits($id{below}, 9, 'eu')", 'above below' ],
		[ "create_role('reader', '{}', $id{below})", 'above below' ],
		[ "set_role_permissions('writer', '{members.read}', $id{above})", 'above role' ],
		[ "drop_role('writer', $id{above})", 'above role' ],
		[ "add_domain($id{below}, 'another.example')", 'above below' ],
		[ "verify_domain($id{below}, 'lock.example', '{x}')", 'above below' ],
		[ "set_enrollment($id{below}, 'lock.example', 'auto')", 'above below' ],
		[ "remove_domain($id{below}, 'lock.example')", 'above below' ],
		[ "request_to_join($id{below})", 'new above below', 'new' ],
		[ "decide_join_request($request, true, 'writer')", 'new above below role', undef, 1 ],
		[ "decide_join_request($request, false)", 'new above below', undef, 1 ],
		[ "cancel_join_request($request)", 'new', 'new', 1 ],
		[ "accept_my_invitation($invitation)", 'new owner above below role', 'new', 1 ],
		[ "decline_my_invitation($invitation)", 'new owner above below', 'new', 1 ],
		[ "set_platform_role($id{new}, 'admin')", 'new' ],
		[ "DELETE FROM auth.users WHERE id = $id{member}", 'member above below' ],
		[ "UPDATE auth.users SET deleted_at = now() WHERE id = $id{member}", 'member above below' ],
		# who inherits is not waited for
		[ "DELETE FROM auth.users WHERE id = $id{owner}", 'owner above below' ],
		[ "UPDATE auth.users SET last_sign_in_at = now() WHERE id = $id{owner}", 'owner' ],
		# foreign keys of applications do not wait for what our functions hold
		[ "INSERT INTO public.sign SELECT m.organization_id, m.id FROM invite_sync.membership AS m WHERE m.user_id = $id{member}", '' ])
	{
		my ($what, $expected, $as, $asked) = @$case;
		my $mark = '/* ' . ++$n . ' */';
		my $call = $what =~ /^[a-z]/ ? "SELECT FROM invite_sync.$what AS x" : $what;
		my $role = $what =~ /auth\.users/ ? 'supabase_auth_admin' : $what =~ /^INSERT/ ? 'postgres' : $as ? 'authenticated' : 'service_role';
		my @seen;

		# a superuser is the service; a user is one by the claims
		$worker->must('BEGIN');
		$worker->must("INSERT INTO invite_sync.join_request (organization_id, user_id) VALUES ($id{below}, $id{new})") if $asked;
		$worker->must(<<"SQL") if $asked;
INSERT INTO invite_sync.invitation (id, email, inviter_id, expires_at) VALUES ($invitation, '1\@lock.example', $id{owner}, now() + '1 hour');
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at) SELECT $invitation, $id{below}, r.id, now() FROM invite_sync.role AS r WHERE r.name = 'writer';
SQL
		$holder{$_}->must("BEGIN; SELECT FROM $thing{$_} FOR NO KEY UPDATE") for @things;
		$worker->must(sprintf q(SET LOCAL request.jwt.claims = '{"sub": "%s", "role": "authenticated"}'), $id{$as} =~ s/'//gr) if $as;
		$worker->must("SET LOCAL ROLE $role") if $role =~ /^(supabase_auth_admin|postgres)$/;
		$worker->send("$mark $call");
		for (1 .. 1000)
		{
			my ($blocking, $done) = split /\|/, $watcher->must("SELECT array_to_string(pg_blocking_pids($pid), ','), a.state <> 'active' AND position('$mark' IN a.query) > 0 FROM pg_stat_activity AS a WHERE a.pid = $pid");
			if ($blocking ne '' && $holds{$blocking})
			{
				push @seen, $holds{$blocking};
				$holder{ $holds{$blocking} }->must('ROLLBACK');
			}
			last if $done eq 't';
			sleep 0.005;
		}
		my $result = eval { $worker->wait(5) } or die "$what: waits for something else after: @seen\n" . $watcher->must('SELECT pid, pg_blocking_pids(pid), state, query FROM pg_stat_activity WHERE pid > 0');
		is("@seen: $result->{sqlstate}", "$expected: 00000", "what is waited for, in this order: $what") or diag($result->{stderr});
		$worker->must('ROLLBACK');
		$_->must('ROLLBACK') for values %holder;
	}

	# Who gives up waiting is out of it altogether, also inside of an EXCEPTION clause: the transaction goes on, and commits.
	$holder{below}->must("BEGIN; SELECT FROM $thing{below} FOR NO KEY UPDATE");
	for my $call ("update_organization($id{below}, 'Renamed')", "delete_organization($id{below})")
	{
		my $result = $worker->query(<<"SQL");
RESET ROLE;
SET lock_timeout = '20ms';
DO \$\$ BEGIN
	BEGIN
		PERFORM invite_sync.$call;
		RAISE 'it did not wait';
	EXCEPTION WHEN lock_not_available THEN
	END;
	COMMIT;
END \$\$;
RESET lock_timeout;
SQL
		is($result->{sqlstate}, '00000', "what an EXCEPTION clause catches is over: $call") or diag($result->{stderr});
	}
	$holder{below}->must('ROLLBACK');
	$_->close for values %holder, $worker, $watcher;
}
value($node, $db, 'DROP TABLE public.sign; DELETE FROM invite_sync.organization; DELETE FROM auth.users');

# ---------------------------------------------------------------------------
# Any two, and then any four. The world, small enough for everybody to meet: five users who come and go, and one who is a member everywhere and
# stays, so that no organization ever may lose its last owner.

my %operation = (
	add_member => [ 'service', 'SELECT invite_sync.add_member(an_organization(), a_user(), a_role())' ],
	remove_member => [ 'service', 'SELECT invite_sync.remove_member(x.organization_id, x.user_id) FROM a_membership() AS x' ],
	set_member_role => [ 'service', 'SELECT invite_sync.set_member_role(x.organization_id, x.user_id, a_role()) FROM any_membership() AS x' ],
	leave_organization => [ 'user', 'SELECT invite_sync.leave_organization(x.organization_id) FROM a_membership() AS x WHERE be(x.user_id)' ],
	transfer_ownership => [ 'user', 'SELECT invite_sync.transfer_ownership(x.organization_id, x.user_id) FROM any_membership() AS x WHERE be(an_owner(x.organization_id))' ],
	create_organization => [ 'service', q{SELECT invite_sync.create_organization('Fresh', NULL, an_organization(), '{}', public.keeper())} ],
	update_organization => [ 'user', q{SELECT invite_sync.update_organization(x.id, 'Renamed ' || random(), slug => 'slug-' || left(gen_random_uuid()::text, 8)) FROM an_organization() AS x (id) WHERE be(an_owner(x.id))} ],
	move_organization => [ 'service', 'SELECT invite_sync.move_organization(a_lower_organization(), an_organization())' ],
	move_to_the_top => [ 'service', 'SELECT invite_sync.move_organization(a_lower_organization(), NULL)' ],
	delete_organization => [ 'service', 'SELECT invite_sync.delete_organization(a_lower_organization(), random() < 0.5)' ],
	set_seats => [ 'service', 'SELECT invite_sync.set_seats(an_organization(), CASE WHEN random() < 0.7 THEN 3 + (random() * 4)::integer END, (random() * 3)::integer)' ],
	create_role => [ 'service', q{SELECT invite_sync.create_role('r' || (random() * 3)::integer, some_permissions(), an_upper_organization())} ],
	set_role_permissions => [ 'user', q{SELECT invite_sync.set_role_permissions(x.name, some_permissions(), x.organization_id) FROM a_custom_role() AS x WHERE be(an_owner(x.organization_id))} ],
	drop_role => [ 'service', 'SELECT invite_sync.drop_role(x.name, x.organization_id) FROM a_custom_role() AS x' ],
	domains => [ 'service', q{SELECT CASE (random() * 4)::integer WHEN 0 THEN (invite_sync.add_domain(x.id, x.domain)).domain WHEN 1 THEN (invite_sync.verify_domain(x.id, x.domain, challenges())).domain
		WHEN 2 THEN (invite_sync.set_enrollment(x.id, x.domain, 'auto')).domain WHEN 3 THEN (invite_sync.set_enrollment(x.id, x.domain, 'suggest')).domain ELSE (invite_sync.remove_domain(x.id, x.domain)).domain END
		FROM (SELECT an_organization() AS id, 'd' || (random() * 2)::integer || '.example' AS domain) AS x} ],
	request_to_join => [ 'user', 'SELECT invite_sync.request_to_join(an_organization()) WHERE be(a_user())' ],
	decide_join_request => [ 'service', 'SELECT invite_sync.decide_join_request(x.id, random() < 0.7, a_role()) FROM a_request() AS x' ],
	cancel_join_request => [ 'user', 'SELECT invite_sync.cancel_join_request(x.id) FROM a_request() AS x WHERE be(x.user_id)' ],
	set_platform_role => [ 'service', q{SELECT invite_sync.set_platform_role(a_user(), CASE WHEN random() < 0.5 THEN 'admin' END)} ],
	delete_user => [ 'auth', 'SELECT public.delete_or_sign_up(a_user())' ],
	# The auth server writes one user a statement: a_user() next to WHERE is asked again for each row, and hits several, in
	# any order.
	delete_user_softly => [ 'auth', 'WITH u AS (SELECT a_user() AS id) UPDATE auth.users SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END FROM u WHERE users.id = u.id' ],
	# and the whole column back from what it read before
	sign_in => [ 'auth', 'WITH u AS (SELECT a_user() AS id) UPDATE auth.users SET last_sign_in_at = now(), raw_app_meta_data = \'{"provider": "email"}\' FROM u WHERE users.id = u.id' ],
	note_of_organization => [ 'application', 'INSERT INTO public.note (organization_id) SELECT an_organization()' ],
	# the foreign key to the organization comes first, as the documentation says
	note_of_both => [ 'application', 'INSERT INTO public.plaque (organization_id, membership_id) SELECT x.organization_id, x.id FROM any_membership() AS x' ],
	note_of_member => [ 'application', 'INSERT INTO public.badge (membership_id) SELECT x.id FROM any_membership() AS x' ]);

my $keeper = 'c0000000-0000-4000-8000-000000000000';
value($node, $db, <<"SQL");
CREATE TABLE public.note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL REFERENCES invite_sync.organization ON DELETE CASCADE);
CREATE TABLE public.badge (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, membership_id uuid REFERENCES invite_sync.membership ON DELETE SET NULL);
CREATE TABLE public.plaque (organization_id uuid REFERENCES invite_sync.organization ON DELETE CASCADE, membership_id uuid REFERENCES invite_sync.membership ON DELETE CASCADE);
ALTER TABLE public.plaque OWNER TO postgres;
ALTER TABLE public.note OWNER TO postgres;
ALTER TABLE public.badge OWNER TO postgres;
CREATE INDEX ON public.note (organization_id);
CREATE INDEX ON public.badge (membership_id);

-- chosen at random; definers, because the callers see little
SET check_function_bodies = off;
CREATE FUNCTION public.a_user() RETURNS uuid LANGUAGE sql VOLATILE AS \$\$
	SELECT ('b000000' || to_hex((random() * 4)::integer) || '-0000-4000-8000-000000000000')::uuid \$\$;
CREATE FUNCTION public.an_organization() RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT o.id FROM invite_sync.organization AS o ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.an_upper_organization() RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT o.id FROM invite_sync.organization AS o WHERE o.id::text LIKE 'a0000000%' ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.a_lower_organization() RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT o.id FROM invite_sync.organization AS o WHERE o.id::text NOT LIKE 'a0000000%' ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.any_membership() RETURNS SETOF invite_sync.membership LANGUAGE sql VOLATILE ROWS 1 SECURITY DEFINER AS \$\$
	SELECT m.* FROM invite_sync.membership AS m ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.a_membership() RETURNS SETOF invite_sync.membership LANGUAGE sql VOLATILE ROWS 1 SECURITY DEFINER AS \$\$
	SELECT m.* FROM invite_sync.membership AS m WHERE m.user_id <> '$keeper' ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.an_owner(organization_id uuid) RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT m.user_id FROM invite_sync.membership AS m WHERE m.organization_id = \$1 AND m.role_id = '00000000-0000-4000-8000-00000000000a' ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.a_custom_role() RETURNS SETOF invite_sync.role LANGUAGE sql VOLATILE ROWS 1 SECURITY DEFINER AS \$\$
	SELECT r.* FROM invite_sync.role AS r WHERE r.organization_id IS NOT NULL ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.a_role() RETURNS text LANGUAGE sql VOLATILE AS \$\$
	SELECT (ARRAY['member', 'member', 'admin', 'owner', 'r0', 'r1'])[1 + (random() * 5)::integer] \$\$;
CREATE FUNCTION public.a_request() RETURNS SETOF invite_sync.join_request LANGUAGE sql VOLATILE ROWS 1 SECURITY DEFINER AS \$\$
	SELECT j.* FROM invite_sync.join_request AS j WHERE j.status = 'pending' ORDER BY random() LIMIT 1 \$\$;
CREATE FUNCTION public.challenges() RETURNS text[] LANGUAGE sql VOLATILE SECURITY DEFINER AS \$\$
	SELECT array_agg(d.challenge) FROM invite_sync.organization_domain AS d \$\$;
CREATE FUNCTION public.some_permissions() RETURNS text[] LANGUAGE sql VOLATILE AS \$\$
	SELECT (ARRAY['organization.read', 'members.read', 'members.add', 'docs.read', 'docs.write'])[1:(random() * 5)::integer] \$\$;
CREATE FUNCTION public.be(user_id uuid) RETURNS boolean LANGUAGE sql VOLATILE AS \$\$
	SELECT set_config('request.jwt.claims', jsonb_build_object('sub', user_id, 'role', 'authenticated')::text, true) IS NOT NULL \$\$;
CREATE FUNCTION public.keeper() RETURNS uuid LANGUAGE sql IMMUTABLE AS \$\$ SELECT '$keeper'::uuid \$\$;
CREATE FUNCTION public.delete_or_sign_up(user_id uuid) RETURNS void LANGUAGE plpgsql VOLATILE AS \$\$
BEGIN
	DELETE FROM auth.users AS u WHERE u.id = user_id;
	IF NOT FOUND THEN
		INSERT INTO auth.users (id, email, email_confirmed_at) VALUES (user_id, user_id || '\@d' || (random() * 2)::integer || '.example', now()) ON CONFLICT DO NOTHING;
	END IF;
END \$\$;

-- what there is to be found before each round
CREATE FUNCTION public.fill() RETURNS void LANGUAGE plpgsql VOLATILE AS \$\$
DECLARE
	n integer;
	organization uuid;
BEGIN
	INSERT INTO auth.users (id, email, email_confirmed_at)
		SELECT ('b000000' || to_hex(i) || '-0000-4000-8000-000000000000')::uuid, i || '\@d' || i % 3 || '.example', now() FROM generate_series(0, 4) AS i
		UNION ALL SELECT '$keeper', 'keeper\@x.example', now() ON CONFLICT DO NOTHING;
	UPDATE auth.users SET deleted_at = NULL WHERE deleted_at IS NOT NULL;
	INSERT INTO invite_sync.permission (name) VALUES ('docs.read'), ('docs.write') ON CONFLICT DO NOTHING;
	DELETE FROM invite_sync.organization AS o WHERE o.id::text NOT LIKE 'a%' AND NOT EXISTS (SELECT FROM invite_sync.organization AS c WHERE c.parent_id = o.id);
	-- two above, each with one below
	FOR n IN 0 .. 3 LOOP
		organization := (CASE WHEN n < 2 THEN 'a0000000' ELSE 'a0000001' END || '-0000-4000-8000-00000000000' || n)::uuid;
		CONTINUE WHEN EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.id = organization);
		INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES
			(organization, 'Organization ' || n, 'organization-' || n || '-' || left(gen_random_uuid()::text, 8), CASE WHEN n > 1 THEN ('a0000000-0000-4000-8000-00000000000' || n % 2)::uuid END);
		INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (organization, '$keeper', '00000000-0000-4000-8000-00000000000a');
	END LOOP;
	UPDATE invite_sync.organization SET seat_limit = CASE WHEN id = 'a0000000-0000-4000-8000-000000000000' THEN greatest(5, invite_sync.seats_used(id)::integer) END, bonus_seats = 0 WHERE id::text LIKE 'a0000000%';
	FOR n IN 1 .. 2 LOOP
		INSERT INTO invite_sync.role (name, organization_id) VALUES ('r' || n - 1, ('a0000000-0000-4000-8000-00000000000' || n - 1)::uuid) ON CONFLICT DO NOTHING;
	END LOOP;
	INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
		SELECT o.id, ('b000000' || to_hex(i) || '-0000-4000-8000-000000000000')::uuid,
			CASE WHEN random() < 0.3 THEN '00000000-0000-4000-8000-00000000000a' ELSE '00000000-0000-4000-8000-00000000000c' END::uuid
		FROM invite_sync.organization AS o, generate_series(0, 4) AS i WHERE random() < 0.4 AND o.seat_limit IS NULL AND invite_sync.seat_pool(o.id) IS NULL ON CONFLICT DO NOTHING;
	INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment)
		SELECT ('a0000000-0000-4000-8000-00000000000' || i % 2)::uuid, 'd' || i || '.example', 'x', now(), CASE i WHEN 0 THEN 'auto' ELSE 'suggest' END FROM generate_series(0, 2) AS s (i)
		WHERE NOT EXISTS (SELECT FROM invite_sync.organization_domain AS d WHERE d.domain = 'd' || i || '.example') ON CONFLICT DO NOTHING;
	INSERT INTO invite_sync.join_request (organization_id, user_id)
		SELECT o.id, ('b000000' || to_hex(i) || '-0000-4000-8000-000000000000')::uuid FROM invite_sync.organization AS o, generate_series(0, 4) AS i WHERE random() < 0.2 ON CONFLICT DO NOTHING;
	DELETE FROM public.note;
	DELETE FROM public.badge;
	DELETE FROM public.plaque;
	-- direct DML writes no copies, but what another writer leaves different is written again
	UPDATE auth.users SET raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || '{"invite_sync": {}}';
END \$\$;

CREATE TABLE public.outcome (operation text, isolation text, state text, reason text, message text);
-- one operation again and again, each in a transaction of its own
CREATE PROCEDURE public.again_and_again(operation text, role text, call text, isolation text, seconds float) LANGUAGE plpgsql AS \$\$
DECLARE
	until timestamptz := clock_timestamp() + make_interval(secs => seconds);
	state text;
	detail text;
	message text;
	context text;
BEGIN
	WHILE clock_timestamp() < until LOOP
		state := '00000';
		detail := '';
		message := '';
		BEGIN
			PERFORM set_config('role', role, true);
			EXECUTE call;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, message = MESSAGE_TEXT, context = PG_EXCEPTION_CONTEXT;
			-- who waited for whom, and where
			IF state = '40P01' THEN
				message := concat_ws(E'\\n', message, detail, context);
			END IF;
		END;
		-- who waits for what is held now has locked something before it
		PERFORM pg_sleep(random() * 0.004);
		COMMIT;
		INSERT INTO public.outcome VALUES (operation, isolation, state, split_part(detail, ' ', 1), message);
		COMMIT;
	END LOOP;
END \$\$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
SQL

my %role = (service => 'service_role', user => 'authenticated', auth => 'supabase_auth_admin', application => 'postgres');
my @operations = $ENV{LOCK_ORDER_ONLY} ? split(/,/, $ENV{LOCK_ORDER_ONLY}) : sort keys %operation;
my @session = map { session($node, $db, 'supabase_admin', options => '-c search_path=public -c client_min_messages=error') } 1 .. 4;

my $filler = session($node, $db, 'supabase_admin', options => '-c client_min_messages=error');

# Each of them in a session of its own, all at once.
sub cross
{
	my ($isolation, $time, @names) = @_;

	for my $n (0 .. $#names)
	{
		my ($who, $call) = @{ $operation{ $names[$n] } };
		my $claims = $who eq 'service' ? q(SET request.jwt.claims = '{"role": "service_role"}') : 'RESET request.jwt.claims';
		$call =~ s/'/''/g;
		$session[$n]->send("$claims; SET default_transaction_isolation = '$isolation'; CALL public.again_and_again('$names[$n]', '$role{$who}', '$call', '$isolation', $time)");
	}
	for my $n (0 .. $#names)
	{
		my $result = $session[$n]->wait(60);
		is($result->{sqlstate}, '00000', "@names: $names[$n]") or diag($result->{stderr}) unless $result->{ok};
	}
	return;
}

my $pairs = @operations * (@operations + 1) / 2;
my $each = $seconds * 0.8 / $pairs;
my $started = time;
for my $i (0 .. $#operations)
{
	for my $k ($i .. $#operations)
	{
		$filler->must('SELECT public.fill()') if ($i + $k) % 2 == 0;
		cross(($i + $k) % 4 == 3 ? 'repeatable read' : 'read committed', $each, @operations[ $i, $k ]);
	}
}
# and four at a time, whatever they are
while (time < $started + $seconds)
{
	$filler->must('SELECT public.fill()');
	cross('read committed', 0.5, map { $operations[ rand @operations ] } 1 .. 4);
}
$_->close for @session, $filler;
my ($did, $refused) = split /\|/, value($node, $db, q{SELECT count(*) FILTER (WHERE state = '00000'), count(*) FILTER (WHERE state <> '00000') FROM public.outcome});
pass(sprintf '%d pairs crossed in %d s: %d times done, %d times not', $pairs, time - $started, $did, $refused);

# ---------------------------------------------------------------------------
# What came of it

is(value($node, $db, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'nobody waited in a circle');
for my $name (@operations)
{
	cmp_ok(value($node, $db, "SELECT count(*) FROM public.outcome WHERE operation = '$name' AND state = '00000'"), '>', 0, "$name succeeded")
	  or diag(value($node, $db, "SELECT state, reason, message, count(*) FROM public.outcome WHERE operation = '$name' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 5"));
}
# A refusal says why; an older snapshot fails; an owner who is no more is told to try again; a foreign key finds nothing.
is(value($node, $db, q{
SELECT operation, isolation, state, reason, message, count(*) FROM public.outcome
WHERE state <> '00000' AND state NOT LIKE 'PT4__'
	AND NOT (state = '40001' AND isolation = 'repeatable read')
	AND NOT (state = '40001' AND operation = 'transfer_ownership' AND message = 'the organization has just got another owner')
	AND NOT (state = '23503' AND operation LIKE 'note_of_%')
GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC LIMIT 20}), '', 'and there was no error but refusals');

# What the auth server's statement could not wait for is made up for.
value($node, $db, 'SELECT count(*) FROM invite_sync.retry_quarantine(due_only => false)') for 1 .. 2;
sub none { my ($name, $query) = @_; return is(value($node, $db, $query), '', $name) }
none('members fit into the seats', q{
SELECT o.id, invite_sync.seats_used(o.id) FROM invite_sync.organization AS o WHERE invite_sync.seats_used(o.id) > o.seat_limit + o.bonus_seats});
none('every organization with members has an owner', q{
SELECT m.organization_id FROM invite_sync.membership AS m GROUP BY 1 HAVING NOT bool_or(m.role_id = '00000000-0000-4000-8000-00000000000a')});
none('nothing belongs to an organization that is gone', q{
SELECT 'membership', m.organization_id FROM invite_sync.membership AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT 'removal', m.organization_id FROM invite_sync.membership_removal AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT 'request', m.organization_id FROM invite_sync.join_request AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT 'domain', m.organization_id FROM invite_sync.organization_domain AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT 'role', m.organization_id FROM invite_sync.role AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT 'organization', m.parent_id FROM invite_sync.organization AS m WHERE m.parent_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)});
none('nor to a role or a permission that is', q{
SELECT 'membership', m.role_id::text FROM invite_sync.membership AS m WHERE m.role_id NOT IN (SELECT r.id FROM invite_sync.role AS r)
UNION ALL SELECT 'platform role', m.role_id::text FROM invite_sync.platform_role AS m WHERE m.role_id NOT IN (SELECT r.id FROM invite_sync.role AS r)
UNION ALL SELECT 'permission', m.role_id::text FROM invite_sync.role_permission AS m WHERE m.role_id NOT IN (SELECT r.id FROM invite_sync.role AS r)
UNION ALL SELECT 'role', m.permission FROM invite_sync.role_permission AS m WHERE m.permission NOT IN (SELECT p.name FROM invite_sync.permission AS p)});
none('nor to a user who is', q{
SELECT DISTINCT m.user_id FROM invite_sync.membership AS m LEFT JOIN auth.users AS u ON u.id = m.user_id AND u.deleted_at IS NULL WHERE u.id IS NULL
UNION SELECT m.user_id FROM invite_sync.membership_removal AS m LEFT JOIN auth.users AS u ON u.id = m.user_id AND u.deleted_at IS NULL WHERE u.id IS NULL
UNION SELECT m.user_id FROM invite_sync.join_request AS m LEFT JOIN auth.users AS u ON u.id = m.user_id AND u.deleted_at IS NULL WHERE u.id IS NULL
UNION SELECT m.user_id FROM invite_sync.platform_role AS m LEFT JOIN auth.users AS u ON u.id = m.user_id AND u.deleted_at IS NULL WHERE u.id IS NULL
UNION SELECT m.user_id FROM invite_sync.gone_user AS m});
none('the role that somebody has is one of their organization or of one above', q{
SELECT m.organization_id, r.name FROM invite_sync.membership AS m JOIN invite_sync.role AS r ON r.id = m.role_id
WHERE r.organization_id IS NOT NULL AND r.organization_id NOT IN (SELECT p.id FROM invite_sync.organization_path(m.organization_id) AS p)});
none('names of roles are unique on every way up', q{
SELECT r.name, o.id FROM invite_sync.organization AS o, invite_sync.organization_path(o.id) AS p JOIN invite_sync.role AS r ON r.organization_id = p.id GROUP BY 1, 2 HAVING count(*) > 1});
none('the tree has no circle and at most eight levels', q{
SELECT o.id FROM invite_sync.organization AS o WHERE (SELECT count(*) FROM invite_sync.organization_path(o.id)) > 8
	OR NOT EXISTS (SELECT FROM invite_sync.organization_path(o.id) AS p JOIN invite_sync.organization AS t ON t.id = p.id WHERE t.parent_id IS NULL)});
none('every token would carry what is so', q{
SELECT u.id, u.raw_app_meta_data->'invite_sync', invite_sync.tenant_copy(u.id) FROM auth.users AS u
WHERE u.deleted_at IS NULL AND u.raw_app_meta_data->'invite_sync' IS DISTINCT FROM invite_sync.tenant_copy(u.id)});
none('verify() finds no error', q{SELECT area, object, finding FROM invite_sync.verify() WHERE severity = 'error'});

$node->stop;
done_testing();
