--
-- Inviting: who may, what is refused, what the answer hides, and what becomes of invitations on the side of those who
-- sent them.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA invitation_test;
SET search_path = public, invitation_test;
\pset null (null)

CREATE FUNCTION invitation_test.u(name text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT u.id FROM auth.users AS u WHERE u.raw_user_meta_data->>'nick' = $1), 'b1000000-0000-4000-8000-0000000000ff') $$;
CREATE FUNCTION invitation_test.org(slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1), 'c1000000-0000-4000-8000-0000000000ff') $$;
-- the latest one of an address
CREATE FUNCTION invitation_test.inv(email text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT i.id FROM invite_sync.invitation AS i WHERE i.email = $1 || '@x.example' OR (i.kind = 'link' AND i.allowed_domain = $1)
	      ORDER BY i.created_at DESC, i.id DESC LIMIT 1), 'd1000000-0000-4000-8000-0000000000ff') $$;
CREATE FUNCTION invitation_test.g(VARIADIC slugs text[]) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT jsonb_agg(jsonb_build_object('organization_id', invitation_test.org(split_part(s, ':', 1)), 'role', split_part(s, ':', 2))) FROM unnest(slugs) AS s $$;
-- Calls a function of ours as somebody (NULL: a service) and tells the answer without ids, times and tokens, or the refusal.
CREATE FUNCTION invitation_test.try(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
	state text;
BEGIN
	IF who = 'service_role' THEN
		PERFORM set_config('request.jwt.claims', '{"role": "service_role"}', true), set_config('role', 'service_role', true);
	ELSIF who = 'operator' THEN
		PERFORM set_config('role', 'postgres', true);
	ELSIF who IS NOT NULL THEN
		PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', invitation_test.u(who), 'role', 'authenticated')::text, true),
			set_config('role', 'authenticated', true);
	END IF;
	EXECUTE format($f$ SELECT string_agg((SELECT string_agg(e.key || '=' || CASE WHEN e.key IN ('token', 'url') THEN 'yes' WHEN e.key = 'csv' THEN regexp_replace(e.value #>> '{}', '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g') ELSE coalesce(e.value #>> '{}', 'null') END, ' ' ORDER BY e.key)
			FROM jsonb_each(to_jsonb(x)) AS e WHERE e.key !~ '(_id|_ids|_at|_by|^cursor)$' AND e.value NOT IN ('null', 'false')), E'\n') FROM invite_sync.%s AS x $f$, call) INTO answer;
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN coalesce('ok ' || answer, 'nothing');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	RETURN concat_ws(' ', state, CASE WHEN state LIKE 'PT%' THEN regexp_replace(regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g'), 'retry_at=\S+', 'retry_at=TIME') ELSE SQLERRM END);
END
$$;
GRANT USAGE ON SCHEMA invitation_test TO anon, authenticated, service_role, postgres;
CREATE VIEW invitation_test.invitations AS
	SELECT i.email, CASE WHEN i.status = 'pending' AND i.expires_at <= clock_timestamp() THEN 'expired*' ELSE i.status END AS status,
		(SELECT string_agg(coalesce(o.slug, '?') || ':' || coalesce(r.name, '?') || CASE WHEN g.open THEN '' ELSE '-' END, ' ' ORDER BY o.slug) FROM invite_sync.invitation_grant AS g
		   LEFT JOIN invite_sync.organization AS o ON o.id = g.organization_id LEFT JOIN invite_sync.role AS r ON r.id = g.role_id WHERE g.invitation_id = i.id) AS gives,
		(SELECT r.name FROM invite_sync.role AS r WHERE r.id = i.platform_role_id) AS platform, coalesce(u.raw_user_meta_data->>'nick', CASE WHEN i.inviter_id IS NULL THEN '-' ELSE '?' END) AS inviter,
		concat_ws(' ', CASE WHEN i.kind = 'link' THEN 'link' END, CASE WHEN i.alone THEN 'alone' END, CASE WHEN i.shadow THEN 'shadow' END, CASE WHEN i.proves_email THEN 'proves' END,
			CASE WHEN i.secret_digest IS NULL THEN 'no token' END, CASE WHEN i.legacy_digest IS NOT NULL THEN 'older' END, 'uses<=' || i.max_uses, '@' || i.allowed_domain) AS is,
		date_trunc('minute', i.expires_at - i.renewed_at + interval '30 s') AS lasts, nullif(i.data, '{}') AS data, i.id
	  FROM invite_sync.invitation AS i LEFT JOIN auth.users AS u ON u.id = i.inviter_id ORDER BY i.created_at DESC, i.id DESC;
CREATE FUNCTION invitation_test.last(n int) RETURNS SETOF text LANGUAGE sql STABLE
	AS $$ SELECT x.row FROM (SELECT concat_ws(' | ', coalesce(v.email, '-'), v.status, coalesce(v.gives, '-'), 'platform:' || v.platform, v.inviter, v.is, v.lasts, v.data) AS row, row_number() OVER () AS n
	        FROM invitation_test.invitations AS v LIMIT $1) AS x ORDER BY x.n DESC $$;
CREATE VIEW invitation_test.events AS
	SELECT e.kind, e.action, a.raw_user_meta_data->>'nick' AS actor, o.slug AS organization, e.target_type, i.email AS target, e.data
	  FROM invite_sync.event AS e LEFT JOIN auth.users AS a ON a.id = e.actor_id LEFT JOIN invite_sync.invitation AS i ON i.id::text = e.target_id
	  LEFT JOIN invite_sync.organization AS o ON o.id = e.organization_id ORDER BY e.id DESC;

-- what is limited has tests of its own
SET invite_sync.default_quota = 100000;
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES
	('invite', 'user', NULL, '1 hour'), ('message', 'recipient', NULL, '1 hour'), ('resend', 'invitation', NULL, '1 hour'), ('check_invitation', 'user', NULL, '1 hour')
	ON CONFLICT (action, scope) DO UPDATE SET max_actions = excluded.max_actions, per = excluded.per;
INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous, banned_until, deleted_at, raw_user_meta_data)
	SELECT ('b1000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, CASE WHEN name <> 'anonymous' THEN name || '@x.example' END,
		CASE WHEN name NOT IN ('unverified', 'anonymous') THEN '2020-01-01'::timestamptz END, name = 'anonymous',
		CASE WHEN name = 'banned' THEN 'infinity'::timestamptz END, CASE WHEN name = 'deleted' THEN '2020-01-01'::timestamptz END, jsonb_build_object('nick', name)
	FROM unnest(ARRAY['ann', 'bob', 'cid', 'only', 'rita', 'jon', 'eve', 'unverified', 'anonymous', 'banned', 'deleted']) WITH ORDINALITY AS x (name, n);
INSERT INTO invite_sync.organization (id, name, slug, parent_id, seat_limit) VALUES
	('c1000000-0000-4000-8000-000000000001', 'Acme', 'inv-acme', NULL, NULL),
	('c1000000-0000-4000-8000-000000000002', 'Labs', 'inv-labs', 'c1000000-0000-4000-8000-000000000001', NULL),
	('c1000000-0000-4000-8000-000000000003', 'Bolt', 'inv-bolt', NULL, NULL),
	('c1000000-0000-4000-8000-000000000004', 'Tiny', 'inv-tiny', NULL, 3);
SELECT count(*) FROM (SELECT invite_sync.create_role('inviter', ARRAY['organization.read', 'invitations.create'], org('inv-acme')),
	invite_sync.create_role('reader', ARRAY['invitations.read'], org('inv-acme')),
	invite_sync.create_role('inviter', ARRAY['organization.read', 'members.read', 'invitations.create'], org('inv-tiny'))) AS x;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id, created_at)
	SELECT org(o), u(n), CASE r WHEN 'owner' THEN '00000000-0000-4000-8000-00000000000a' WHEN 'admin' THEN '00000000-0000-4000-8000-00000000000b'
		WHEN 'member' THEN '00000000-0000-4000-8000-00000000000c' ELSE (SELECT x.id FROM invite_sync.role AS x WHERE x.name = r AND x.organization_id = org(o)) END, '2020-01-01'
	FROM (VALUES ('inv-acme', 'ann', 'owner'), ('inv-acme', 'bob', 'admin'), ('inv-acme', 'cid', 'member'), ('inv-acme', 'only', 'inviter'), ('inv-acme', 'rita', 'reader'),
	             ('inv-bolt', 'jon', 'owner'), ('inv-bolt', 'only', 'owner'), ('inv-tiny', 'ann', 'owner'), ('inv-tiny', 'only', 'inviter')) AS m (o, n, r);
SELECT invite_sync.attach() IS NOT NULL AS attached;
\pset tuples_only on

--
-- Inviting to an organization
--
SELECT try('ann', $$create_invitation(' New@X.Example ', 'admin', org('inv-acme'))$$);
SELECT last(1);
SELECT * FROM events LIMIT 1;
-- member, unless the call says something else; the token that a service gets proves the address
SELECT try(NULL, $$create_invitation('m1@x.example', organization_id => org('inv-acme'), data => '{"full_name": "M", "job_title": null, "nested": {"role": 1}}')$$);
SELECT try('service_role', $$create_invitation('m2@x.example', organization_id => org('inv-acme'), delivery => 'none')$$);
SELECT try('operator', $$create_invitation('m3@x.example', 'member', org('inv-labs'), inviter_id => u('bob'), expires_in => '15 minutes')$$);
SELECT last(3);
-- a user may name themselves, and nobody else
SELECT try('bob', $$create_invitation('m4@x.example', 'member', org('inv-acme'), inviter_id => u('bob'))$$);
SELECT try('bob', $$create_invitation('m5@x.example', 'member', org('inv-acme'), inviter_id => u('ann'))$$);
-- the application alone; both halves of what may be given at once
SELECT try('eve', $$create_invitation('alone1@x.example')$$);
SELECT try(NULL, $$create_invitation('alone2@x.example', platform_role => 'admin', expires_in => '30 days')$$);
SELECT try(NULL, $$create_invitation('both@x.example', 'member', org('inv-acme'), platform_role => 'member')$$);
SELECT try('ann', $$create_invitation('two@x.example', grants => g('inv-labs:member', 'inv-acme:inviter'))$$);
SELECT last(4);
-- who may not
SELECT try('cid', $$create_invitation('no@x.example', 'member', org('inv-acme'))$$);
SELECT try('rita', $$create_invitation('no@x.example', 'member', org('inv-acme'))$$);
SELECT try('eve', $$create_invitation('no@x.example', 'member', org('inv-acme'))$$);
SELECT try('eve', $$create_invitation('no@x.example', 'member', org('none'))$$);
SELECT try('ann', $$create_invitation('no@x.example', grants => g('inv-acme:member', 'inv-bolt:member'))$$);
SELECT try(NULL, $$create_invitation('no@x.example', 'member', org('none'))$$);
SELECT try(NULL, $$create_invitation('no@x.example', 'member', org('inv-acme'), inviter_id => u('cid'))$$);
SELECT try(NULL, $$create_invitation('no@x.example', 'member', org('inv-acme'), inviter_id => u('nobody'))$$);
SELECT try(NULL, $$create_invitation('no@x.example', 'member', org('inv-acme'), inviter_id => u('banned'))$$);
SELECT try(NULL, $$create_invitation('no@x.example', 'member', org('inv-acme'), inviter_id => u('anonymous'))$$);
SELECT try('anonymous', $$create_invitation('no@x.example')$$);
SELECT try('banned', $$create_invitation('no@x.example')$$);
SELECT try('deleted', $$create_invitation('no@x.example')$$);
SELECT try('nobody', $$create_invitation('no@x.example')$$);
SELECT try('ann', $$create_invitation('no@x.example', platform_role => 'member')$$);
SET ROLE anon;
SELECT invite_sync.create_invitation('no@x.example');
RESET ROLE;
-- nobody gives what they do not have
SELECT try('bob', $$create_invitation('no@x.example', 'owner', org('inv-acme'))$$);
SELECT try('ann', $$create_invitation('o1@x.example', 'owner', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('no@x.example', 'admin', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('no@x.example', 'member', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('i1@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('no@x.example', grants => g('inv-bolt:owner', 'inv-acme:admin'))$$);
-- what is malformed
SELECT e, try('ann', format('create_invitation(%L, ''member'', org(''inv-acme''))', e)) FROM unnest(ARRAY['', 'x', 'a@b', 'a b@x.example', 'a@x..example', '"a"@x.example', 'a@[1.2.3.4]', 'ä@ä.example',
	'a' || chr(7) || '@x.example', repeat('a', 65) || '@x.example', 'a@' || repeat('b.', 125) || 'example', 'a@x.example, b@x.example', 'a@@x.example', NULL]) AS e;
SELECT try('ann', $$create_invitation('ÄÖ@X.example', 'member', org('inv-acme'))$$);
SELECT try('ann', $$create_invitation('no@x.example', 'king', org('inv-acme'))$$);
SELECT try('ann', $$create_invitation('no@x.example', 'member')$$);
SELECT try(NULL, $$create_invitation('no@x.example', platform_role => 'king')$$);
SELECT try(NULL, $$create_invitation('no@x.example', platform_role => 'inviter')$$);
SELECT e, try('ann', format('create_invitation(''no@x.example'', ''member'', org(''inv-acme''), expires_in => %L)', e))
	FROM unnest(ARRAY['14 minutes 59 seconds', '30 days 1 second', '0', '-1 day', '1 month 1 second', '100000 years']) AS e;
SELECT d, try('ann', format('create_invitation(''no@x.example'', ''member'', org(''inv-acme''), data => %L)', d))
	FROM unnest(ARRAY['[]', '"x"', '1', 'null', '{"role": 1}', '{"provider": 1}', '{"providers": 1}', '{"sub": 1}', '{"iss": 1}', '{"email_verified": true}', '{"_verified": 1}']) AS d;
SELECT try('ann', format('create_invitation(''no@x.example'', ''member'', org(''inv-acme''), data => %L)', jsonb_build_object('a', repeat('x', 4088))));
SELECT try('ann', format('create_invitation(''big@x.example'', ''member'', org(''inv-acme''), data => %L)', jsonb_build_object('a', repeat('x', 4087))));
SELECT d, try('ann', format('create_invitation(''no@x.example'', ''member'', org(''inv-acme''), delivery => %L)', d)) FROM unnest(ARRAY['outbox', 'mail', '', NULL]) AS d;
SELECT d, try('ann', format('create_invitation(''no@x.example'', ''member'', org(''inv-acme''), on_pending => %L)', d)) FROM unnest(ARRAY['ignore', '', NULL]) AS d;
SELECT left(d, 9), try('ann', format('create_invitation(''no@x.example'', ''member'', org(''inv-acme''), idempotency_key => %L)', d)) FROM unnest(ARRAY['', repeat('k', 201)]) AS d;
SELECT d, try(NULL, format('create_invitation(''no@x.example'', grants => %L)', d)) FROM unnest(ARRAY['[]', '{}', '1', '[1]', '[{}]', '[{"organization_id": 1}]', '[{"organization_id": "x"}]',
	'[{"organization_id": "c1000000-0000-4000-8000-000000000001", "role": 1}]', '[{"organization_id": "c1000000-0000-4000-8000-000000000001", "rolle": "admin"}]',
	'[{"organization_id": "c1000000-0000-4000-8000-000000000001"}, {"organization_id": "C1000000-0000-4000-8000-000000000001"}]']) AS d;
SELECT try(NULL, format('create_invitation(''no@x.example'', grants => %L)', (SELECT jsonb_agg(jsonb_build_object('organization_id', gen_random_uuid())) FROM generate_series(1, 101))));
SELECT try(NULL, format('create_invitation(''no@x.example'', grants => %L)', (SELECT jsonb_agg(jsonb_build_object('organization_id', gen_random_uuid())) FROM generate_series(1, 100))));
SELECT try('ann', $$create_invitation('no@x.example', 'member', grants => g('inv-acme:member'))$$);
SELECT try('ann', $$create_invitation('no@x.example', organization_id => org('inv-acme'), grants => g('inv-acme:member'))$$);
SELECT count(*) FROM invitations WHERE email = 'no@x.example';

--
-- Already a member, already invited
--
SELECT try('ann', $$create_invitation('CID@x.example', 'member', org('inv-acme'))$$);
SELECT try('ann', $$create_invitation('cid@x.example', grants => g('inv-labs:member', 'inv-acme:member'))$$);
-- who came by single sign-on is found by the identity
BEGIN;
INSERT INTO auth.sso_providers (id) VALUES ('e1000000-0000-4000-8000-000000000001');
INSERT INTO auth.sso_domains (id, sso_provider_id, domain) VALUES (gen_random_uuid(), 'e1000000-0000-4000-8000-000000000001', 'sso.example');
INSERT INTO auth.users (id, email, email_confirmed_at, is_sso_user) VALUES ('b1000000-0000-4000-8000-0000000000aa', 'Sue@sso.example', now(), true);
INSERT INTO auth.identities (id, user_id, provider_id, provider, identity_data) VALUES (gen_random_uuid(), 'b1000000-0000-4000-8000-0000000000aa', 'x', 'sso:e1000000-0000-4000-8000-000000000001', '{"email": "Sue@sso.example"}');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (org('inv-acme'), 'b1000000-0000-4000-8000-0000000000aa', '00000000-0000-4000-8000-00000000000c');
SELECT try('ann', $$create_invitation('sue@sso.example', 'member', org('inv-acme'))$$);
UPDATE auth.sso_domains SET domain = 'another.example';
SELECT try('ann', $$create_invitation('sue@sso.example', 'member', org('inv-acme'))$$);
ROLLBACK;
-- a member above is none here yet; an address that is not verified is nobody's
SELECT try('ann', $$create_invitation('cid@x.example', 'member', org('inv-labs'))$$);
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (org('inv-acme'), u('unverified'), '00000000-0000-4000-8000-00000000000c');
SELECT try('ann', $$create_invitation('unverified@x.example', 'member', org('inv-acme'))$$);
DELETE FROM invite_sync.membership WHERE user_id = u('unverified');
SELECT try('bob', $$create_invitation('new@x.example', 'member', org('inv-acme'))$$);
SELECT try('bob', $$create_invitation('new@x.example', 'member', org('inv-labs'))$$);
SELECT try('ann', $$create_invitation('new@x.example', grants => g('inv-tiny:member', 'inv-labs:member'))$$);
SELECT try('eve', $$create_invitation('alone1@x.example')$$);
-- sent again: the same offer and a new token, so the old one is void
SELECT secret_digest AS before FROM invite_sync.invitation WHERE id = inv('new') \gset
SELECT try('bob', $$create_invitation('m1@x.example', organization_id => org('inv-acme'), on_pending => 'resend', expires_in => '1 hour')$$);
SELECT last(1);
SELECT proves_email, expires_at - renewed_at < '2 hours' AS short FROM invite_sync.invitation WHERE id = inv('m1');
-- another offer is not the same
SELECT try('bob', $$create_invitation('m1@x.example', 'admin', org('inv-acme'), on_pending => 'resend')$$);
SELECT try('bob', $$create_invitation('m1@x.example', grants => g('inv-acme:member', 'inv-labs:member'), on_pending => 'resend')$$);
SELECT try(NULL, $$create_invitation('both@x.example', 'member', org('inv-acme'), on_pending => 'resend')$$);
SELECT try(NULL, $$create_invitation('both@x.example', 'member', org('inv-acme'), platform_role => 'member', on_pending => 'resend')$$);
-- replaced: the old one is revoked
SELECT try('bob', $$create_invitation('m1@x.example', 'admin', org('inv-acme'), on_pending => 'replace')$$);
SELECT status, gives FROM invitations WHERE email = 'm1@x.example';
SELECT action, target FROM events LIMIT 2;
SELECT try('eve', $$create_invitation('alone1@x.example', on_pending => 'replace')$$);
SELECT try('ann', $$create_invitation('two@x.example', 'member', org('inv-acme'), on_pending => 'replace')$$);
SELECT last(1);
SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FROM invitations WHERE email = 'two@x.example';
-- somebody else's, in an organization where they may not take invitations back
SELECT try('ann', $$create_invitation('else@x.example', grants => g('inv-acme:member', 'inv-tiny:member'))$$);
SELECT try('bob', $$create_invitation('else@x.example', 'member', org('inv-acme'), on_pending => 'replace')$$);
SELECT try('bob', $$revoke_invitation(inv('else'))$$);
SELECT try('bob', $$resend_invitation(inv('else'))$$);
SELECT try('ann', $$revoke_invitation(inv('else'))$$);

--
-- The same answer for those who may not list
--
SELECT try('only', $$create_invitation('cid@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('new@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('fresh@x.example', 'inviter', org('inv-acme'))$$);
SELECT last(3);
-- their own is no secret; nor are they themselves
SELECT try('only', $$create_invitation('fresh@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('only@x.example', 'inviter', org('inv-acme'))$$);
-- and what they sent before is in their way, whether it hides something or not
SELECT try('only', $$create_invitation('cid@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('cid@x.example', 'inviter', org('inv-acme'), on_pending => 'replace')$$);
SELECT try('only', $$create_invitation('new@x.example', 'inviter', org('inv-acme'), on_pending => 'resend')$$);
SELECT try('eve', $$create_invitation('alone2@x.example')$$);
SELECT try('eve', $$create_invitation('alone2@x.example')$$);
SELECT last(4);
-- what is in the way of others is not what a shadow is
SELECT try('ann', $$create_invitation('cid@x.example', 'member', org('inv-acme'))$$);
SELECT count(*) FROM invite_sync.list_invitations(org('inv-acme')) WHERE email IN ('cid@x.example') ;
SELECT try('only', $$list_invitations(status => 'pending', page_size => 3)$$);
SELECT try('ann', $$revoke_invitation(inv('cid'))$$);
SELECT try('only', $$resend_invitation(inv('cid'))$$);
SELECT try('only', $$revoke_invitation(inv('cid'))$$);
-- declined: left in peace for 30 days, but for a service
UPDATE invite_sync.invitation SET status = 'declined', closed_at = clock_timestamp() WHERE id = inv('fresh');
UPDATE invite_sync.invitation_grant SET open = false WHERE invitation_id = inv('fresh');
SELECT try('ann', $$create_invitation('fresh@x.example', 'member', org('inv-acme'))$$);
SELECT try('only', $$create_invitation('fresh@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('rita', $$list_invitations(org('inv-acme'), status => 'declined')$$);
UPDATE invite_sync.invitation SET closed_at = clock_timestamp() - interval '30 days 1 minute' WHERE status = 'declined';
SELECT try('ann', $$create_invitation('fresh@x.example', 'member', org('inv-acme'))$$);
UPDATE invite_sync.invitation SET closed_at = clock_timestamp() WHERE status = 'declined';
SELECT try('ann', $$create_invitation('fresh@x.example', 'member', org('inv-acme'), on_pending => 'replace')$$);
SELECT try(NULL, $$create_invitation('fresh@x.example', 'member', org('inv-acme'), on_pending => 'replace')$$);
SELECT try('ann', $$create_invitation('fresh@x.example', 'member', org('inv-tiny'))$$);
SELECT last(3);

--
-- Idempotency
--
SELECT try('ann', $$create_invitation('k@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try('ann', $$create_invitation('K@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try('ann', $$create_invitation('k2@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try('ann', $$create_invitation('k@x.example', 'admin', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try('bob', $$create_invitation('k2@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try(NULL, $$create_invitation('k3@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try('service_role', $$create_invitation('k3@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);
SELECT try(NULL, $$create_invitation('k@x.example', 'member', org('inv-acme'), idempotency_key => 'one', inviter_id => u('ann'))$$);
-- what was refused has used no key
SELECT try('ann', $$create_invitation('cid@x.example', 'member', org('inv-acme'), idempotency_key => 'two')$$);
SELECT try('ann', $$create_invitation('k4@x.example', 'member', org('inv-acme'), idempotency_key => 'two')$$);
-- a renewed one is what the key stands for
SELECT try('ann', $$create_invitation('k4@x.example', 'member', org('inv-acme'), idempotency_key => 'three', on_pending => 'resend')$$);
SELECT try('ann', $$create_invitation('k4@x.example', 'member', org('inv-acme'), idempotency_key => 'three', on_pending => 'resend')$$);
SELECT count(*) FROM invitations WHERE email LIKE 'k4@%';
UPDATE invite_sync.invitation_key SET created_at = clock_timestamp() - interval '24 hours 1 minute' WHERE actor_id = u('ann') AND key = 'one';
SELECT try('ann', $$create_invitation('k5@x.example', 'member', org('inv-acme'), idempotency_key => 'one')$$);

--
-- Expiry, seats
--
SELECT try('ann', $$set_invitation_policy(org('inv-acme'), '1 day')$$);
SELECT try('bob', $$create_invitation('ttl@x.example', 'member', org('inv-acme'))$$);
SELECT try('ann', $$create_invitation('ttl2@x.example', grants => g('inv-labs:member', 'inv-acme:member'))$$);
SELECT last(2);
SELECT try('ann', $$set_invitation_policy(org('inv-acme'), NULL)$$);
SELECT try('cid', $$set_invitation_policy(org('inv-acme'), '1 day')$$);
SELECT try('eve', $$set_invitation_policy(org('inv-acme'), '1 day')$$);
SELECT try('ann', $$set_invitation_policy(org('inv-acme'), '14 minutes')$$);
SELECT try('ann', $$set_invitation_policy(org('inv-acme'), '31 days')$$);
SELECT try('ann', $$set_invitation_policy(NULL, '1 day')$$);
SELECT try(NULL, $$set_invitation_policy(org('inv-bolt'), '2 hours')$$);
SET client_min_messages = notice;
SELECT ttl FROM invite_sync.set_invitation_policy(org('inv-bolt'), '2 hours');
SET client_min_messages = warning;
-- Tiny has three seats: its owner, only, and fresh who is invited
SELECT try('ann', $$seat_usage(org('inv-tiny'))$$);
SELECT try('ann', $$create_invitation('s1@x.example', 'member', org('inv-tiny'))$$);
SELECT try('only', $$create_invitation('fresh@x.example', 'inviter', org('inv-tiny'))$$);
SELECT try('ann', $$check_invitation('s1@x.example', 'member', org('inv-tiny'))$$);
SELECT try(NULL, $$create_invite_link(org('inv-tiny'))$$);
-- who may not list is not told by the seats either that the address has one
SELECT try('only', $$check_invitation('fresh@x.example', 'inviter', org('inv-tiny'))$$) = try('only', $$check_invitation('s1@x.example', 'inviter', org('inv-tiny'))$$) AS same;
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE id = inv('fresh');
SELECT try('ann', $$create_invitation('s1@x.example', 'member', org('inv-tiny'))$$);
-- one that has expired takes its seat again, if there is one
SELECT try('ann', $$resend_invitation(inv('fresh'))$$);
SELECT try('ann', $$revoke_invitation(inv('fresh'))$$);
SELECT try('ann', $$revoke_invitation(inv('s1'))$$);
SELECT try('ann', $$resend_invitation(inv('fresh'))$$);
SELECT last(2);
-- expired, so not in the way; the row is closed on the way
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE id IN (inv('k4'), inv('alone1'));
SELECT try('ann', $$create_invitation('k4@x.example', 'member', org('inv-acme'))$$);
SELECT status, gives FROM invitations WHERE email = 'k4@x.example';
SELECT try('jon', $$create_invitation('alone1@x.example')$$);
SELECT status, inviter FROM invitations WHERE email = 'alone1@x.example';
-- an expired one does not come back beside another
SELECT try('ann', format('resend_invitation(%L)', (SELECT id FROM invitations WHERE email = 'k4@x.example' AND status = 'expired')));
SELECT try('eve', format('resend_invitation(%L)', (SELECT id FROM invitations WHERE email = 'alone1@x.example' AND status = 'expired')));

--
-- Sending again, taking back
--
SELECT try('bob', $$create_invitation('r@x.example', 'member', org('inv-acme'), expires_in => '3 hours')$$);
SELECT secret_digest AS before FROM invite_sync.invitation WHERE id = inv('r') \gset
UPDATE invite_sync.invitation SET device_digest = sha256('x'), device_until = clock_timestamp() + interval '1 h' WHERE id = inv('r');
SELECT try('ann', $$resend_invitation(inv('r'))$$);
SELECT secret_digest <> :'before', device_digest IS NULL FROM invite_sync.invitation WHERE id = inv('r');
SELECT last(1);
SELECT try('service_role', $$resend_invitation(inv('r'))$$);
SELECT last(1);
SELECT try('service_role', $$resend_invitation(inv('r'), u('bob'))$$);
SELECT try('service_role', $$resend_invitation(inv('r'), u('eve'))$$);
SELECT try('cid', $$resend_invitation(inv('r'))$$);
SELECT try('rita', $$resend_invitation(inv('r'))$$);
SELECT try('only', $$resend_invitation(inv('r'))$$);
SELECT try('eve', $$resend_invitation(inv('r'))$$);
SELECT try('ann', $$resend_invitation(inv('none'))$$);
SELECT try('ann', $$resend_invitation(NULL)$$);
SELECT try('bob', $$resend_invitation(inv('o1'))$$);
SELECT try('jon', $$resend_invitation(inv('alone2'))$$);
SELECT try('rita', $$revoke_invitation(inv('r'))$$);
SELECT try('cid', $$revoke_invitation(inv('r'))$$);
SELECT try('bob', $$revoke_invitation(inv('r'))$$);
SELECT * FROM events LIMIT 1;
SELECT i.closed_by = u('bob') FROM invite_sync.invitation AS i WHERE i.id = inv('r');
SELECT try('bob', $$revoke_invitation(inv('r'))$$);
SELECT try('bob', $$resend_invitation(inv('r'))$$);
SELECT try('ann', $$revoke_invitation(inv('none'))$$);
SELECT try('ann', $$revoke_invitation(NULL)$$);
SELECT try('bob', $$revoke_invitation(inv('o1'), u('ann'))$$);
SELECT try(NULL, $$revoke_invitation(inv('o1'), u('ann'))$$);
UPDATE invite_sync.invitation SET status = 'accepted', closed_at = clock_timestamp(), uses = 1 WHERE id = inv('m2');
SELECT try(NULL, $$resend_invitation(inv('m2'))$$);
SELECT try(NULL, $$revoke_invitation(inv('m2'))$$);
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE id = inv('ttl');
SELECT try('bob', $$revoke_invitation(inv('ttl'))$$);
-- an inviter who may not invite any more: nobody sends theirs again
SELECT try('only', $$create_invitation('late@x.example', 'inviter', org('inv-acme'))$$);
DELETE FROM invite_sync.membership WHERE user_id = u('only') AND organization_id = org('inv-acme');
SELECT try('only', $$resend_invitation(inv('late'))$$);
SELECT try('ann', $$resend_invitation(inv('late'))$$);
SELECT try('only', $$revoke_invitation(inv('late'))$$);
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT org('inv-acme'), u('only'), r.id FROM invite_sync.role AS r WHERE r.name = 'inviter' AND r.organization_id = org('inv-acme');

--
-- Links
--
SELECT try('ann', $$create_invite_link(org('inv-acme'))$$);
SELECT try('only', $$create_invite_link(org('inv-acme'), 'inviter', 5, '2 hours', 'X.Example')$$);
SELECT try(NULL, $$create_invite_link(org('inv-bolt'), 'owner', inviter_id => u('jon'))$$);
SELECT last(3);
SELECT action, organization FROM events LIMIT 1;
SELECT try('only', $$create_invite_link(org('inv-acme'))$$);
SELECT try('cid', $$create_invite_link(org('inv-acme'))$$);
SELECT try('eve', $$create_invite_link(org('inv-acme'))$$);
SELECT try('ann', $$create_invite_link(NULL)$$);
SELECT try('ann', $$create_invite_link(org('inv-acme'), NULL)$$);
SELECT try('ann', $$create_invite_link(org('inv-acme'), 'king')$$);
SELECT try('ann', $$create_invite_link(org('inv-acme'), max_uses => 0)$$);
SELECT try('ann', $$create_invite_link(org('inv-acme'), max_uses => 1000001)$$);
SELECT try('ann', $$create_invite_link(org('inv-acme'), expires_in => '31 days')$$);
SELECT d, try('ann', format('create_invite_link(org(''inv-acme''), allowed_domain => %L)', d)) FROM unnest(ARRAY['', 'x', 'a@x.example', 'ä.example', '*.example', ' x.example']) AS d;
SELECT try('only', $$resend_invitation(inv('x.example'))$$);
SELECT try('ann', $$revoke_invitation(inv('x.example'))$$);

--
-- The address that is handed out
--
SET invite_sync.accept_url = 'https://app.example/join?t={token}&x=1';
SELECT url = 'https://app.example/join?t=' || token || '&x=1', token ~ '^inv_[A-Za-z0-9_-]{64}$' FROM invite_sync.create_invitation('url@x.example');
SELECT token, url FROM invite_sync.create_invitation('url2@x.example', delivery => 'none');
SET invite_sync.accept_url = 'https://app.example/join';
SELECT url FROM invite_sync.create_invitation('url3@x.example');
RESET invite_sync.accept_url;
-- what is stored does not give the token back
SELECT token, invitation_id FROM invite_sync.create_invitation('tok@x.example') \gset
SELECT i.secret_digest = sha256(substring(decode(translate(substr(:'token', 5), '-_', '+/'), 'base64') FROM 17)), strpos(i::text, substr(:'token', 27)) FROM invite_sync.invitation AS i WHERE i.id = :'invitation_id';

--
-- The dry run
--
SELECT try('ann', $$check_invitation('dry@x.example', 'admin', org('inv-acme'))$$);
SELECT try('only', $$check_invitation('cid@x.example', 'inviter', org('inv-acme'))$$) = try('only', $$check_invitation('dry@x.example', 'inviter', org('inv-acme'))$$);
SELECT try('ann', $$check_invitation('cid@x.example', 'member', org('inv-acme'))$$);
SELECT try('ann', $$check_invitation('new@x.example', 'king', org('inv-acme'))$$);
SELECT try('bob', $$check_invitation('fresh', 'owner', org('inv-acme'))$$);
SELECT try('eve', $$check_invitation('cid@x.example', 'member', org('inv-acme'))$$);
SELECT try('eve', $$check_invitation('alone3@x.example')$$);
SELECT try('ann', $$check_invitation('fresh@x.example', 'member', org('inv-acme'))$$);
SELECT try('ann', $$check_invitation('dry@x.example', 'member')$$);
SELECT try('ann', $$check_invitation('dry@x.example', 'member', org('inv-acme'), u('bob'))$$);
SELECT try(NULL, $$check_invitation('dry@x.example', 'member', org('inv-acme'), u('cid'))$$);
SELECT try('anonymous', $$check_invitation('dry@x.example')$$);
SELECT count(*) FROM invitations WHERE email LIKE 'dry%';

--
-- Many at once
--
SELECT try('ann', $$create_invitations('[{"email": "b2@x.example"}, {"email": "B1@x.example", "full_name": "B \"1\"", "job_title": "boss", "data": {"full_name": "Bee"}}, {"email": "=cmd|''x''!A1"}, {"email": "b2@x.example"},
	{"email": "cid@x.example"}, {"email": "b3@x.example", "role": "king"}, {"email": "b3@x.example", "role": "owner", "expires_in": "1 hour"}, {"email": "b4@x.example", "expires_in": "soon"}, {"email": "b4@x.example", "colour": "red"},
	{"email": 1}, 7, {}, {"email": "b4@x.example", "organization_id": "x"}, {"email": "b4@x.example", "data": {"sub": 1}}, {"email": "b4@x.example", "data": []}, {"email": "b4@x.example", "platform_role": "member"},
	{"email": "+b5@x.example", "organization_id": "c1000000-0000-4000-8000-000000000003"}, {"email": "b6@x.example", "grants": [{"organization_id": "c1000000-0000-4000-8000-000000000002"}]},
	{"email": "b6@x.example", "role": "member", "grants": [{"organization_id": "c1000000-0000-4000-8000-000000000002"}]}]', organization_id => org('inv-acme'))$$);
SELECT last(4);
SELECT try(NULL, $$create_invitations('[{"email": "b7@x.example", "platform_role": "member"}, {"email": "b8@x.example"}]', delivery => 'none', expires_in => '1 day')$$);
SELECT last(2);
SELECT try('ann', $$create_invitations('[{"email": "b2@x.example"}]', 'member', org('inv-acme'), on_pending => 'resend')$$);
SELECT try('ann', $$create_invitations('[{"email": "b2@x.example"}]', 'admin', org('inv-acme'), on_pending => 'replace')$$);
SELECT try('only', $$create_invitations('[{"email": "b2@x.example"}, {"email": "cid@x.example"}, {"email": "b9@x.example"}]', 'inviter', org('inv-acme'))$$);
SELECT try(NULL, $$create_invitations('[{"email": "b10@x.example"}]', 'member', org('inv-acme'), inviter_id => u('cid'))$$);
SELECT try('ann', $$create_invitations('[]')$$);
SELECT try('ann', $$create_invitations('{}')$$);
SELECT try('ann', $$create_invitations('1')$$);
SELECT try('ann', $$create_invitations(NULL)$$);
SELECT try('ann', format('create_invitations(%L)', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 501))));
SELECT try('ann', $$create_invitations('[]', delivery => 'outbox')$$);
SELECT try('ann', $$create_invitations('[]', on_pending => NULL)$$);
SELECT try('ann', $$create_invitations('[]', expires_in => '1 s')$$);
SELECT try('ann', $$create_invitations('[]', inviter_id => u('bob'))$$);
SELECT try('anonymous', $$create_invitations('[]')$$);
-- 500, and the seats are counted row by row
SELECT count(*) FILTER (WHERE c.reason = 'seats_exhausted'), count(*) FILTER (WHERE c.token IS NOT NULL), count(DISTINCT c.token)
	FROM invite_sync.create_invitations((SELECT jsonb_agg(jsonb_build_object('email', 'seat' || n || '@x.example')) FROM generate_series(1, 500) AS n), 'member', org('inv-tiny')) AS c;
SELECT count(DISTINCT c.token) FROM invite_sync.create_invitations((SELECT jsonb_agg(jsonb_build_object('email', 'many' || n || '@x.example')) FROM generate_series(1, 500) AS n), 'member', org('inv-bolt')) AS c;
DELETE FROM invite_sync.invitation_grant WHERE invitation_id IN (SELECT id FROM invite_sync.invitation WHERE email LIKE 'many%');
DELETE FROM invite_sync.invitation WHERE email LIKE 'many%';

--
-- From CSV
--
\pset tuples_only off
SET client_min_messages = notice;
SET ROLE service_role;
COPY invite_sync.invitation_import (email, role, full_name, job_title) FROM STDIN (FORMAT csv, HEADER);
email,role,full_name,job_title
Csv1@x.example,,One,
csv2@x.example,admin,"Two, ""T""",boss
nobody,,"=1+1",
csv3@x.example,king,,
csv1@x.example,,,
\.
COPY (SELECT * FROM invite_sync.invitation_import_failed()) TO STDOUT (FORMAT csv, HEADER);
COPY invite_sync.invitation_import (email, role, organization_id) FROM STDIN (FORMAT csv);
csv4@x.example,,c1000000-0000-4000-8000-000000000001
csv5@x.example,admin,c1000000-0000-4000-8000-000000000001
csv6@x.example,king,c1000000-0000-4000-8000-000000000001
csv6@x.example,,c1000000-0000-4000-8000-0000000000ff
csv6@x.example,,acme
\.
SELECT email, role, organization_id, reason, message FROM invite_sync.invitation_import_failed();
INSERT INTO invite_sync.invitation_import (email) VALUES ('csv7@x.example');
SELECT * FROM invite_sync.invitation_import_failed();
SELECT * FROM invite_sync.invitation_import;
RESET ROLE;
-- a failure takes nothing of the others along, and what is rolled back is
BEGIN;
COPY invite_sync.invitation_import (email) FROM STDIN;
csv8@x.example
x
\.
ROLLBACK;
\pset tuples_only on
SET client_min_messages = warning;
SELECT email, reason FROM invite_sync.invitation_import_failed();
SELECT last(5);
SET ROLE authenticated;
INSERT INTO invite_sync.invitation_import (email) VALUES ('no@x.example');
SELECT * FROM invite_sync.invitation_import_failed();
RESET ROLE;
-- with the right to the view alone it is still a service's
GRANT INSERT ON invite_sync.invitation_import TO authenticated;
SET ROLE authenticated;
INSERT INTO invite_sync.invitation_import (email) VALUES ('no@x.example');
RESET ROLE;
REVOKE INSERT ON invite_sync.invitation_import FROM authenticated;

--
-- From an older system
--
SELECT try(NULL, $$import_invitations('[{"email": "Old1@x.example", "organization_id": "c1000000-0000-4000-8000-000000000001", "role": "admin", "inviter_id": "b1000000-0000-4000-8000-000000000001", "token": "abcdefghijklmnop", "full_name": "Old"},
	{"email": "old2@x.example", "token_sha256": "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF", "proves_email": true, "platform_role": "member"},
	{"email": "old3@x.example", "token": "abcdefghijklmno"}, {"email": "old3@x.example", "token_sha256": "00"}, {"email": "old3@x.example", "token": "abcdefghijklmnopq", "token_sha256": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
	{"email": "old3@x.example", "proves_email": true}, {"email": "old3@x.example", "proves_email": "yes"}, {"email": "old3@x.example", "expires_at": "2020-01-01T00:00:00Z"}, {"email": "old3@x.example", "expires_at": "soon"},
	{"email": "old3@x.example", "inviter_id": "b1000000-0000-4000-8000-0000000000ff"}, {"email": "old3@x.example", "inviter_id": "x"}, {"email": "old3"}, {"email": "old3@x.example", "organization_id": "c1000000-0000-4000-8000-0000000000ff"},
	{"email": "old3@x.example", "role": "member"}, {"email": "old3@x.example", "organization_id": "c1000000-0000-4000-8000-000000000001", "role": "king"}, {"email": "cid@x.example", "organization_id": "c1000000-0000-4000-8000-000000000001"},
	{"email": "new@x.example", "organization_id": "c1000000-0000-4000-8000-000000000001"}, {"email": "old4@x.example", "token": "abcdefghijklmnop"}, {"email": "old5@x.example", "expires_at": "2999-01-01"}, 1, {"email": "old6@x.example", "colour": 1}]')$$);
SELECT last(3);
SELECT i.legacy_digest = sha256('abcdefghijklmnop'), i.inviter_id = u('ann'), i.charged FROM invite_sync.invitation AS i WHERE i.id = inv('old1');
-- a second run changes nothing, whatever became of them
UPDATE invite_sync.invitation SET status = 'revoked', closed_at = clock_timestamp() WHERE id = inv('old2');
SELECT try('service_role', $$import_invitations('[{"email": "old1@x.example", "organization_id": "c1000000-0000-4000-8000-000000000001", "role": "admin", "token": "abcdefghijklmnop"},
	{"email": "old2@x.example", "token_sha256": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "proves_email": true, "platform_role": "member"}, {"email": "old5@x.example"}]')$$);
SELECT count(*) FROM invitations WHERE email LIKE 'old%';
-- sent again, the older token is void
SELECT try('ann', $$resend_invitation(inv('old1'))$$);
SELECT i.legacy_digest IS NULL, i.proves_email FROM invite_sync.invitation AS i WHERE i.id = inv('old1');
SELECT try('ann', $$import_invitations('[]')$$);
SELECT try('operator', $$import_invitations('[]')$$);
SELECT try(NULL, $$import_invitations(NULL)$$);
SELECT try(NULL, $$import_invitations('{}')$$);

--
-- Lists
--
DELETE FROM invite_sync.invitation_grant;
DELETE FROM invite_sync.invitation;
SELECT try('bob', $$create_invitation('l1@x.example', 'member', org('inv-acme'))$$), try('ann', $$create_invitation('l2@x.example', grants => g('inv-acme:admin', 'inv-tiny:member'))$$);
SELECT count(*) FROM (SELECT try('bob', $$create_invite_link(org('inv-acme'), max_uses => 2)$$), try('bob', $$create_invitation('l3@x.example')$$), try(NULL, $$create_invitation('l4@x.example', platform_role => 'admin')$$),
	try('only', $$create_invitation('cid@x.example', 'inviter', org('inv-acme'))$$), try('only', $$create_invitation('l6@x.example', 'inviter', org('inv-acme'))$$)) AS x;
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE id = inv('l1');
SELECT try('ann', $$list_invitations(org('inv-acme'))$$);
SELECT try('rita', $$list_invitations(org('inv-acme'), status => 'expired')$$);
SELECT try('ann', $$list_invitations(org('inv-acme'), status => 'pending', page_size => 1)$$);
SELECT try('bob', $$list_invitations()$$);
SELECT try('only', $$list_invitations()$$);
SELECT try('service_role', $$list_invitations(status => 'pending')$$);
SELECT try('service_role', $$list_invitations(inviter_id => u('bob'))$$);
SELECT try('service_role', $$list_invitations(org('inv-acme'), inviter_id => u('cid'))$$);
SELECT try('eve', $$list_invitations()$$);
SELECT try('cid', $$list_invitations(org('inv-acme'))$$);
SELECT try('only', $$list_invitations(org('inv-acme'))$$);
SELECT try('eve', $$list_invitations(org('inv-acme'))$$);
SELECT try('ann', $$list_invitations(org('inv-acme'), status => 'open')$$);
SELECT try('ann', $$list_invitations(org('inv-acme'), page_size => 0)$$);
SELECT try('ann', $$list_invitations(org('inv-acme'), 'x')$$);
SELECT try('ann', $$list_invitations(inviter_id => u('bob'))$$);
SELECT try('anonymous', $$list_invitations()$$);
-- page by page, each once
WITH RECURSIVE page AS (
	SELECT l.email, l.cursor, 1 AS n FROM invite_sync.list_invitations(page_size => 1) AS l
	UNION ALL SELECT l.email, l.cursor, p.n + 1 FROM page AS p, invite_sync.list_invitations(after => p.cursor, page_size => 1) AS l)
SELECT n, coalesce(email, 'link') FROM page ORDER BY n;
SELECT organization_ids = ARRAY[org('inv-acme')], roles FROM invite_sync.list_invitations(org('inv-acme')) WHERE email = 'l2@x.example';
SELECT organization_ids = ARRAY[org('inv-acme'), org('inv-tiny')], roles FROM invite_sync.list_invitations() WHERE email = 'l2@x.example';
BEGIN READ ONLY;
SELECT count(*) FROM invite_sync.list_invitations();
ROLLBACK;

--
-- Settling and forgetting
--
SET client_min_messages = notice;
CALL invite_sync.settle_invitations();
SELECT status, gives FROM invitations WHERE email = 'l1@x.example';
CALL invite_sync.settle_invitations(1);
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE status = 'pending';
CALL invite_sync.settle_invitations(2);
CALL invite_sync.settle_invitations(0);
CALL invite_sync.settle_invitations(NULL);
CALL invite_sync.prune_invitations('1 day');
UPDATE invite_sync.invitation SET closed_at = clock_timestamp() - interval '2 days';
UPDATE invite_sync.invitation SET status = 'declined' WHERE email = 'l2@x.example';
INSERT INTO invite_sync.invitation_acceptance (invitation_id, user_id) SELECT inv('l3'), u('eve');
UPDATE invite_sync.invitation_key SET created_at = clock_timestamp() - interval '25 hours' WHERE key <> 'three';
CALL invite_sync.prune_invitations('1 day', 2);
SELECT email, status FROM invitations;
SELECT (SELECT count(*) FROM invite_sync.invitation_grant), (SELECT count(*) FROM invite_sync.invitation_acceptance), (SELECT string_agg(key, ' ') FROM invite_sync.invitation_key);
UPDATE invite_sync.invitation SET closed_at = clock_timestamp() - interval '31 days';
CALL invite_sync.prune_invitations('1 day', 2);
CALL invite_sync.prune_invitations(NULL);
CALL invite_sync.prune_invitations('-1 day');
CALL invite_sync.prune_invitations('1 day', 100001);
BEGIN;
CALL invite_sync.prune_invitations('1 day');
ROLLBACK;
SET ROLE service_role;
CALL invite_sync.settle_invitations();
RESET ROLE;

--
-- What is sent again is what could be given now, and by whom
--
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (org('inv-acme'), u('bob'), '00000000-0000-4000-8000-00000000000b')
	ON CONFLICT (organization_id, user_id) DO UPDATE SET role_id = excluded.role_id;
-- a platform role: of services alone, also when the invitation has expired, and also by who it was sent for
SELECT try(NULL, $$create_invitation('p1@x.example', 'member', org('inv-acme'), platform_role => 'admin')$$);
SELECT try('ann', $$resend_invitation(inv('p1'))$$);
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE email = 'p1@x.example';
SELECT try('ann', $$resend_invitation(inv('p1'))$$);
SELECT try(NULL, $$create_invitation('p2@x.example', platform_role => 'admin', inviter_id => u('ann'))$$);
SELECT try('ann', $$resend_invitation(inv('p2'))$$);
SELECT try(NULL, $$resend_invitation(inv('p2'), u('ann'))$$);
SELECT try(NULL, $$resend_invitation(inv('p1'))$$);
SELECT last(2);
-- who sent it may not give it any more: nobody renews it, by whatever function
SELECT try('bob', $$create_invitation('s1@x.example', 'admin', org('inv-acme'))$$);
SELECT try('ann', $$create_invitation('s1@x.example', 'admin', org('inv-acme'), on_pending => 'resend')$$);
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000c' WHERE user_id = u('bob') AND organization_id = org('inv-acme');
SELECT try('ann', $$resend_invitation(inv('s1'))$$);
SELECT try('ann', $$create_invitation('s1@x.example', 'admin', org('inv-acme'), on_pending => 'resend')$$);
SELECT try('ann', $$create_invitations('[{"email": "s1@x.example"}]', 'admin', org('inv-acme'), on_pending => 'resend')$$);
SELECT try('ann', $$create_invitation('s1@x.example', 'admin', org('inv-acme'), on_pending => 'replace')$$);
-- nothing is left of what it gave
SELECT try('ann', $$create_organization('Gone', 'inv-gone')$$) LIKE 'ok %';
SELECT try('ann', $$create_invitation('o1@x.example', 'member', org('inv-gone'))$$);
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE email = 'o1@x.example';
DELETE FROM invite_sync.organization WHERE slug = 'inv-gone';
SELECT try('ann', $$resend_invitation(inv('o1'))$$);
-- the last seat is kept for an address in another organization that draws on the same: nobody learns that who may not list it
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES ('c1000000-0000-4000-8000-000000000005', 'Tiny labs', 'inv-tinylabs', org('inv-tiny'));
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (org('inv-tinylabs'), u('only'), '00000000-0000-4000-8000-00000000000b');
SELECT try('ann', $$create_invitation('seat1@x.example', 'member', org('inv-tiny'))$$);
SELECT n, try('only', format('create_invitation(%L, ''member'', org(''inv-tinylabs''))', n || '@x.example')) FROM unnest(ARRAY['seat1', 'seat2']) AS n;
-- who may needs no second seat for it
SELECT try('ann', $$create_invitation('seat1@x.example', 'member', org('inv-tinylabs'))$$);
-- nor by sending again what had expired
SELECT count(*) FROM (SELECT invite_sync.revoke_invitation(i.id) FROM invite_sync.invitation AS i WHERE i.email = 'seat1@x.example' AND i.status = 'pending') AS x;
SELECT try('only', $$create_invitation('seat1@x.example', 'member', org('inv-tinylabs'))$$);
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 s' WHERE email = 'seat1@x.example' AND status = 'pending';
SELECT try(NULL, $$create_invitation('seat1@x.example', 'member', org('inv-tiny'))$$);
SELECT try('only', format('resend_invitation(%L)', i.id)) FROM invite_sync.invitation AS i WHERE i.email = 'seat1@x.example' AND i.inviter_id = u('only');
DELETE FROM invite_sync.organization WHERE slug = 'inv-tinylabs';
-- white space and control characters of all scripts are refused, and not left to the table, whose error shows the row
SELECT try('ann', format('create_invitation(%L)', 'a' || chr(n) || 'b@x.example')) AS answer, count(*)
	FROM unnest(ARRAY(SELECT generate_series(1, 32)) || ARRAY(SELECT generate_series(127, 160)) || 5760 || ARRAY(SELECT generate_series(8192, 8207))
	|| ARRAY[8232, 8233, 8239, 8287, 12288, 65279]) AS n GROUP BY 1;
SELECT try('ann', format('create_invitation(%L)', 'a' || chr(n) || 'b@x.example')) ~ '^ok ' AS ok, count(*) FROM unnest(ARRAY[161, 223, 5761, 8208, 12289, 65280]) AS n GROUP BY 1;
-- retry_at is never too early, in whatever time zone: the first one changes its clocks tomorrow
SELECT try(NULL, $$create_invitation('d1@x.example', 'member', org('inv-acme'))$$);
UPDATE invite_sync.invitation SET status = 'declined', closed_at = date_trunc('second', clock_timestamp()) - interval '10 days' + interval '0.3 s' WHERE email = 'd1@x.example';
CREATE FUNCTION invitation_test.retry_at(zone text) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM set_config('TimeZone', zone, true), set_config('request.jwt.claims', jsonb_build_object('sub', invitation_test.u('ann'), 'role', 'authenticated')::text, true),
		set_config('role', 'authenticated', true);
	PERFORM invite_sync.create_invitation('d1@x.example', 'member', invitation_test.org('inv-acme'));
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN substring(detail FROM 'retry_at=(\S+)')::timestamptz;
END
$$;
SELECT count(*), bool_and(extract(epoch FROM retry_at(z) - i.closed_at) BETWEEN 720 * 3600 AND 720 * 3600 + 1) FROM invite_sync.invitation AS i,
	unnest(ARRAY[format('XXX0YYY,%s/0,%s/0', extract(doy FROM now()), (extract(doy FROM now())::int + 100) % 365), 'UTC']) AS z WHERE i.email = 'd1@x.example';

--
-- No address, token or name of anybody in the log
--
SELECT count(*) FROM invite_sync.event AS e WHERE e.action LIKE 'invitation.%' AND (e::text LIKE '%example%' OR e::text LIKE '%inv\_%' OR e.data <> '{}');
SET client_min_messages = warning;
DELETE FROM invite_sync.rate_limit_rule;
DELETE FROM invite_sync.user_invitation_quota;
SELECT count(*) > 0 FROM invite_sync.detach();
DELETE FROM invite_sync.organization WHERE slug = 'inv-labs';
DELETE FROM invite_sync.organization WHERE slug LIKE 'inv-%';
DELETE FROM auth.users;
DELETE FROM invite_sync.attachment;
DELETE FROM invite_sync.invitation_policy;
DELETE FROM invite_sync.invitation_key;
DROP SCHEMA invitation_test CASCADE;
