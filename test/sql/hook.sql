--
-- What the auth server asks before and after what it does.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA hook_test;
GRANT USAGE ON SCHEMA hook_test TO PUBLIC;
\pset null (null)
-- events of others are none of ours
SELECT coalesce(max(id), 0) AS first FROM invite_sync.event \gset

-- The events, as the auth server makes them.
CREATE FUNCTION hook_test.signup(email text, address text DEFAULT '192.0.2.1', more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object(
		'metadata', jsonb_build_object('uuid', gen_random_uuid(), 'time', now(), 'name', 'before-user-created', 'ip_address', address),
		'user', jsonb_build_object('id', gen_random_uuid(), 'aud', 'authenticated', 'role', '', 'email', email, 'phone', '',
			'app_metadata', '{"provider": "email", "providers": ["email"]}'::jsonb, 'user_metadata', '{}'::jsonb, 'identities', '[]'::jsonb,
			'created_at', '0001-01-01T00:00:00Z', 'updated_at', '0001-01-01T00:00:00Z', 'is_anonymous', false) || more) $$;
CREATE FUNCTION hook_test.token(user_id text, claims jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('metadata', '{"ip_address": "192.0.2.1"}'::jsonb, 'user_id', user_id, 'authentication_method', 'password',
		'claims', jsonb_build_object('iss', 'https://auth.example.com', 'sub', user_id, 'aud', 'authenticated', 'exp', 1790000000, 'iat', 1789996400,
			'email', 'a@hook.example', 'phone', '', 'role', 'authenticated', 'aal', 'aal1', 'amr', '[{"method": "password", "timestamp": 1789996400}]'::jsonb,
			'session_id', '5e000000-0000-4000-8000-000000000001', 'is_anonymous', false, 'user_metadata', '{"nick": "a"}'::jsonb,
			'app_metadata', '{"provider": "email", "providers": ["email"]}'::jsonb) || claims) $$;
CREATE FUNCTION hook_test.attempt(user_id text, valid boolean, address text DEFAULT '192.0.2.1') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('metadata', jsonb_build_object('ip_address', address), 'user_id', user_id, 'valid', valid) $$;
CREATE FUNCTION hook_test.u(name text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT u.id FROM auth.users AS u WHERE u.raw_user_meta_data->>'nick' = $1 $$;
CREATE FUNCTION hook_test.o(slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1 $$;
-- As the auth server calls them: as its role.
CREATE FUNCTION hook_test.ask(hook text, event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb;
BEGIN
	PERFORM set_config('role', 'supabase_auth_admin', true);
	EXECUTE format('SELECT invite_sync.%I($1)', hook) INTO answer USING event;
	PERFORM set_config('role', 'none', true);
	RETURN answer;
END
$$;

INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous, banned_until, raw_user_meta_data)
	SELECT ('e0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, CASE WHEN name <> 'nobody' THEN name || '@hook.example' END,
		now(), name = 'nobody', CASE WHEN name = 'banned' THEN now() + interval '1 day' END, jsonb_build_object('nick', 'h_' || name)
	FROM unnest(ARRAY['a', 'b', 'banned', 'nobody', 'inviter']) WITH ORDINALITY AS x (name, n);

-- ---- who may call them ----

SELECT p.proname, r.rolname
  FROM pg_proc AS p CROSS JOIN pg_roles AS r
 WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.proname ~ '_hook$' AND NOT r.rolsuper
   AND has_function_privilege(r.oid, p.oid, 'EXECUTE') AND NOT pg_has_role(r.oid, 'invite_sync_owner', 'USAGE')
 ORDER BY 1, 2;

-- A definer function that may, for somebody who may not: what counts is who asks.
CREATE FUNCTION hook_test.by_definer(hook text, event jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	answer jsonb;
BEGIN
	EXECUTE format('SELECT invite_sync.%I($1)', hook) INTO answer USING event;
	RETURN answer;
END
$$;
SET ROLE authenticated;
SELECT hook_test.by_definer('before_user_created_hook', '{"user": {}}');
SELECT hook_test.by_definer('after_user_created_hook', '{"user": {}}');
SELECT hook_test.by_definer('custom_access_token_hook', '{"user_id": "", "claims": {}}');
SELECT hook_test.by_definer('password_verification_attempt_hook', NULL);
SELECT hook_test.by_definer('mfa_verification_attempt_hook', NULL);
SELECT invite_sync.before_user_created_hook('{"user": {}}');
SET ROLE supabase_auth_admin;
SELECT hook_test.by_definer('before_user_created_hook', '{"user": {}}');
RESET ROLE;

-- ---- before_user_created_hook: open ----

SELECT hook_test.ask('before_user_created_hook', hook_test.signup('stranger@hook.example'));

-- ---- invite_only ----

SET invite_sync.signup_policy = 'invite_only';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('stranger@hook.example'));
SELECT status FROM invite_sync.create_invitation('Guest@Hook.example');
SELECT who, hook_test.ask('before_user_created_hook', hook_test.signup(who))
  FROM unnest(ARRAY['guest@hook.example', ' GUEST@hook.EXAMPLE ', 'guest@hook.example.com', 'guest', 'guest@hook.example@hook.example', 'g%@hook.example']) AS x (who);
-- one that has expired, was declined, revoked or is a shadow is none
BEGIN;
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 second' WHERE email = 'guest@hook.example';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest@hook.example'));
ROLLBACK;
BEGIN;
UPDATE invite_sync.invitation SET shadow = true WHERE email = 'guest@hook.example';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest@hook.example'));
ROLLBACK;
SELECT r.status FROM invite_sync.invitation AS i CROSS JOIN LATERAL invite_sync.revoke_invitation(i.id) AS r WHERE i.email = 'guest@hook.example';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest@hook.example'));
-- nor is one of somebody who may not invite any more
SELECT name FROM invite_sync.create_organization('Hook', 'hook-inviter', owner_id => hook_test.u('h_a'));
SELECT role FROM invite_sync.add_member(hook_test.o('hook-inviter'), hook_test.u('h_inviter'), 'admin');
SELECT status FROM invite_sync.create_invitation('guest2@hook.example', organization_id => hook_test.o('hook-inviter'), inviter_id => hook_test.u('h_inviter'));
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest2@hook.example'));
BEGIN;
SELECT role FROM invite_sync.set_member_role(hook_test.o('hook-inviter'), hook_test.u('h_inviter'), 'member');
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest2@hook.example'));
ROLLBACK;
-- the newest is not the only one that counts
SELECT status FROM invite_sync.create_invitation('guest2@hook.example');
BEGIN;
SELECT role FROM invite_sync.set_member_role(hook_test.o('hook-inviter'), hook_test.u('h_inviter'), 'member');
UPDATE invite_sync.invitation SET created_at = created_at + interval '1 day' WHERE email = 'guest2@hook.example' AND inviter_id IS NOT NULL;
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest2@hook.example'));
ROLLBACK;
-- a yes reserves nothing
SELECT count(*) FROM invite_sync.invitation WHERE email = 'guest2@hook.example' AND status = 'pending';

-- without an address
CREATE VIEW hook_test.without AS
	SELECT name, hook_test.ask('before_user_created_hook', hook_test.signup('', more => more)) AS answer
	  FROM (VALUES ('anonymous', '{"is_anonymous": true, "app_metadata": {}}'::jsonb),
	               ('phone', '{"phone": "15550000001", "app_metadata": {"provider": "phone"}}'),
	               ('web3', '{"app_metadata": {"provider": "web3"}}'),
	               ('sso', '{"app_metadata": {"provider": "sso:e0000000-0000-4000-8000-0000000000aa"}}'),
	               ('email', '{}'),
	               ('none', '{"app_metadata": null}'),
	               ('claimed', '{"user_metadata": {"provider": "phone", "is_anonymous": true}, "app_metadata": {}, "is_anonymous": "true"}')) AS x (name, more);
SELECT * FROM hook_test.without;
SET invite_sync.signup_without_email = 'phone, Anonymous';
SELECT name FROM hook_test.without WHERE answer = '{}';
SET invite_sync.signup_without_email TO web3, phone2;
SELECT name FROM hook_test.without WHERE answer = '{}';
-- somebody with an address that cannot be read is not without one
SET invite_sync.signup_without_email = 'email';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('nonsense')) IS NOT DISTINCT FROM '{}' AS passes;
RESET invite_sync.signup_without_email;

-- ---- domain_only ----

SET invite_sync.signup_policy = 'domain_only';
SET invite_sync.signup_domains = 'corp.example, Two.Example';
SELECT who, hook_test.ask('before_user_created_hook', hook_test.signup(who))
  FROM unnest(ARRAY['x@corp.example', 'x@CORP.example', 'x@two.example', 'x@sub.corp.example', 'x@evilcorp.example', 'x@corp.example.evil.example',
	'x@corp.exampl', 'x@verified.example', 'guest2@hook.example', 'x@corp.example, y@corp.example']) AS x (who);
SELECT domain FROM invite_sync.add_domain(hook_test.o('hook-inviter'), 'verified.example');
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('x@verified.example')) AS claimed;
UPDATE invite_sync.organization_domain SET verified_at = now() WHERE domain = 'verified.example';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('x@verified.example')) AS verified;
SET invite_sync.signup_domains = 'example';
SET invite_sync.signup_domains = 'corp.example; x.example';
SET invite_sync.signup_without_email = 'pho"ne';
SET invite_sync.signup_policy = 'invited';
RESET invite_sync.signup_domains;

-- ---- what it does when it fails ----

CREATE FUNCTION hook_test.nonsense() RETURNS TABLE (n bigint, event jsonb) LANGUAGE sql AS $$
	SELECT row_number() OVER (), e FROM unnest(ARRAY[NULL, 'null', '1', '"x"', '[]', '[{"user": {}}]', '{}', '{"user": null}', '{"user": []}', '{"user": "x"}',
		'{"user": {}, "user_id": 1, "claims": 1, "metadata": 7}',
		'{"user": {"email": 1, "id": 2, "invited_at": 3, "app_metadata": 4}, "user_id": {"x": []}, "claims": {"app_metadata": 5}, "valid": 0}',
		'{"user": {"email": ["a@b.example"], "id": "no uuid", "app_metadata": {"provider": ["phone"]}}, "user_id": "e0000000000040008000000000000001", "claims": [], "valid": "false"}',
		'{"user": {"email": "\u00e9@\u00e9.example", "id": "e0000000-0000-4000-8000-00000000000z"}, "user_id": "", "claims": {}, "valid": null, "metadata": {"ip_address": "\u2603"}}',
		jsonb_build_object('user', jsonb_build_object('email', repeat('x', 1000000) || '@b.example', 'id', repeat('x', 1000000)),
			'user_id', repeat('x', 1000000), 'metadata', jsonb_build_object('ip_address', repeat('1', 1000000)), 'valid', false)]::jsonb[]) AS e $$;
SELECT answer, count(*) FROM (SELECT hook_test.ask('before_user_created_hook', event) AS answer FROM hook_test.nonsense()) AS x GROUP BY 1 ORDER BY 1;
SET invite_sync.signup_policy = 'open';
SELECT answer, count(*) FROM (SELECT hook_test.ask('before_user_created_hook', event) AS answer FROM hook_test.nonsense()) AS x GROUP BY 1 ORDER BY 1;
SELECT answer, count(*) FROM (SELECT hook_test.ask('after_user_created_hook', event) AS answer FROM hook_test.nonsense()) AS x GROUP BY 1 ORDER BY 1;
SELECT answer, count(*) FROM (SELECT hook_test.ask('custom_access_token_hook', event) AS answer FROM hook_test.nonsense()) AS x GROUP BY 1 ORDER BY 1;
SET invite_sync.lockout_attempts = 1;
SELECT answer, count(*) FROM (SELECT hook_test.ask('password_verification_attempt_hook', event) AS answer FROM hook_test.nonsense()) AS x GROUP BY 1 ORDER BY 1;
SELECT answer, count(*) FROM (SELECT hook_test.ask('mfa_verification_attempt_hook', event) AS answer FROM hook_test.nonsense()) AS x GROUP BY 1 ORDER BY 1;
RESET invite_sync.lockout_attempts;

-- our own tables out of order: closed where a policy limits, open where not, claims as given, go on
BEGIN;
ALTER TABLE invite_sync.invitation RENAME TO invitation_gone;
ALTER TABLE invite_sync.membership RENAME TO membership_gone;
ALTER TABLE invite_sync.rate_limit RENAME TO rate_limit_gone;
ALTER TABLE invite_sync.rate_limit_rule RENAME TO rate_limit_rule_gone;
ALTER TABLE invite_sync.event RENAME TO event_gone;
SET LOCAL client_min_messages = warning;
\set VERBOSITY default
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest2@hook.example')) AS open;
SET LOCAL invite_sync.signup_policy = 'invite_only';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest2@hook.example')) AS invite_only;
\set VERBOSITY terse
SET LOCAL client_min_messages = error;
SELECT hook_test.ask('after_user_created_hook', hook_test.signup('guest2@hook.example'));
SELECT hook_test.ask('custom_access_token_hook', t) = jsonb_build_object('claims', t->'claims') AS as_given FROM hook_test.token(hook_test.u('h_a')::text) AS t;
SET LOCAL invite_sync.lockout_attempts = 1;
SELECT hook_test.ask('password_verification_attempt_hook', hook_test.attempt(hook_test.u('h_a')::text, false)) FROM generate_series(1, 2);
SELECT hook_test.ask('mfa_verification_attempt_hook', hook_test.attempt(hook_test.u('h_a')::text, false)) FROM generate_series(1, 2);
ROLLBACK;
-- what is cancelled is not answered
BEGIN;
SET LOCAL statement_timeout = '200ms';
CREATE FUNCTION hook_test.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN new; END $$;
CREATE TRIGGER slow BEFORE INSERT ON invite_sync.event FOR EACH ROW EXECUTE FUNCTION hook_test.slow();
SELECT hook_test.ask('after_user_created_hook', hook_test.signup('guest2@hook.example'));
ROLLBACK;

-- ---- the rate limit ----

SET invite_sync.signup_policy = 'invite_only';
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES ('signup', 'key', 2, '1 hour');
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('stranger@hook.example')) AS outsiders_use_up_nothing FROM generate_series(1, 3);
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('guest2@hook.example')) FROM generate_series(1, 3);
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES ('signup', 'address', 2, '1 hour');
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('stranger@hook.example', a)) AS answer
  FROM unnest(ARRAY['192.0.2.7', '192.0.2.7', '::ffff:192.0.2.7', '192.0.2.8', 'unknown', '']) AS x (a);
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('', '192.0.2.7', '{"is_anonymous": true}'));
SET invite_sync.signup_policy = 'open';
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('x@hook.example', '192.0.2.7'));
SELECT hook_test.ask('before_user_created_hook', hook_test.signup('x@other.example', '192.0.2.7')) AS address, hook_test.ask('before_user_created_hook', hook_test.signup('x@other.example', '192.0.2.9')) AS another;
SELECT used, max_actions, key = encode(sha256('other.example'), 'hex') AS of_domain FROM invite_sync.rate_limit_report() WHERE action = 'signup' AND scope = 'key' ORDER BY used;
DELETE FROM invite_sync.rate_limit_rule;

-- ---- after_user_created_hook ----

SELECT status FROM invite_sync.create_invitation('guest3@hook.example');
SELECT hook_test.ask('after_user_created_hook', hook_test.signup('Guest3@hook.example', more => jsonb_build_object('id', hook_test.u('h_b'))));
SELECT hook_test.ask('after_user_created_hook', hook_test.signup('guest4@hook.example',
	more => jsonb_build_object('id', hook_test.u('h_b'), 'invited_at', now(), 'user_metadata', '{"guest4@hook.example": {"secret": 1}}'::jsonb, 'Odd key', 1)));
SELECT hook_test.ask('after_user_created_hook', hook_test.signup('', more => '{"is_anonymous": true, "id": "e0000000-0000-4000-8000-0000000000bb"}'));
SELECT e.kind, e.action, e.target_type, e.target_id = hook_test.u('h_b')::text AS b, e.data ->'payload' AS payload,
	(SELECT count(*) FROM jsonb_array_elements_text(e.data->'invitation_ids') AS x (id) JOIN invite_sync.invitation AS i ON i.id = x.id::uuid AND i.email = 'guest3@hook.example') AS pending
  FROM invite_sync.event AS e WHERE e.action LIKE 'account.%' AND e.id > :first ORDER BY e.id;

-- ---- custom_access_token_hook ----

SELECT name FROM invite_sync.create_organization('Top', 'hook-top', owner_id => hook_test.u('h_b'));
SELECT name FROM invite_sync.create_organization('Below', 'hook-below', parent_id => hook_test.o('hook-top'));
SELECT name FROM invite_sync.create_organization('Side', 'hook-side', owner_id => hook_test.u('h_b'));
SELECT permission FROM invite_sync.create_permission('papers.read', '');
SELECT permission FROM invite_sync.create_permission('papers.write', '');
SELECT role FROM invite_sync.create_role('writer', ARRAY['papers.write', 'papers.read']);
SELECT role FROM invite_sync.create_role('idle', ARRAY[]::text[]);
SELECT role FROM invite_sync.add_member(hook_test.o('hook-top'), hook_test.u('h_a'), 'member');
SELECT role FROM invite_sync.add_member(hook_test.o('hook-below'), hook_test.u('h_a'), 'writer');
SELECT role FROM invite_sync.add_member(hook_test.o('hook-side'), hook_test.u('h_a'), 'idle');
SELECT role FROM invite_sync.set_platform_role(hook_test.u('h_a'), 'writer');

CREATE FUNCTION hook_test.claims(who text, claims jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT hook_test.ask('custom_access_token_hook', hook_test.token(hook_test.u(who)::text, claims))->'claims' $$;
CREATE FUNCTION hook_test.tenant(who text, claims jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT hook_test.claims(who, claims)->'app_metadata'->'invite_sync' $$;
SELECT o.slug, x.entry->>'role' AS role, x.entry->'permissions' AS permissions
  FROM jsonb_array_elements(hook_test.tenant('h_a')->'organizations') WITH ORDINALITY AS x (entry, n)
  JOIN invite_sync.organization AS o ON o.id = (x.entry->>'id')::uuid ORDER BY x.n;
SELECT hook_test.tenant('h_a') - 'organizations' AS rest;
-- nothing else is changed, and what another has put under app_metadata stays
SELECT hook_test.claims('h_a') #- '{app_metadata,invite_sync}' = hook_test.token(hook_test.u('h_a')::text)->'claims' AS the_rest_as_given;
SELECT jsonb_object_agg(k, v) FILTER (WHERE k <> 'invite_sync') AS app_metadata, count(*) AS n
  FROM jsonb_each(hook_test.claims('h_a', '{"app_metadata": {"provider": "email", "x": 1, "invite_sync": {"organizations": [{"id": "old"}], "admin": true}}}')->'app_metadata') AS x (k, v);
SELECT hook_test.tenant('h_a', '{"app_metadata": {"invite_sync": {"admin": true}}}') ? 'admin' AS old_copy_stays;
SELECT hook_test.tenant('h_a', '{"app_metadata": null}') = hook_test.tenant('h_a') AS "null", hook_test.claims('h_a', '{"app_metadata": "text"}')->'app_metadata' AS text;
-- who is nobody has nothing; a copy that they had is gone
SELECT who, hook_test.tenant(who, '{"app_metadata": {"invite_sync": {"organizations": [{"id": "old"}]}}}') FROM unnest(ARRAY['h_banned', 'h_nobody']) AS x (who);
SELECT hook_test.ask('custom_access_token_hook', hook_test.token('e0000000-0000-4000-8000-0000000000ff'))->'claims'->'app_metadata'->'invite_sync' AS unknown;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) SELECT hook_test.o('hook-side'), hook_test.u('h_banned'), '00000000-0000-4000-8000-00000000000a';
SELECT hook_test.tenant('h_banned');

-- The helpers say the same, of every organization, role and permission.
CREATE FUNCTION hook_test.disagreements(who text) RETURNS TABLE (what text) LANGUAGE plpgsql AS $$
DECLARE
	claimed jsonb := hook_test.tenant(who);
BEGIN
	PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', hook_test.u(who), 'role', 'authenticated')::text, true), set_config('role', 'authenticated', true);
	RETURN QUERY
		SELECT format('%s %s', o.id, p.name) FROM unnest(ARRAY['hook-top', 'hook-below', 'hook-side', 'hook-inviter']) AS s (slug)
		 CROSS JOIN LATERAL (SELECT hook_test.o(s.slug) AS id) AS o
		 CROSS JOIN unnest(ARRAY['organization.read', 'organization.delete', 'members.read', 'members.add', 'papers.read', 'papers.write', 'platform.admin', 'ownership.transfer']) AS p (name)
		 WHERE invite_sync.has_permission(o.id, p.name) IS DISTINCT FROM
		       EXISTS (SELECT FROM jsonb_array_elements(claimed->'organizations') AS e (e) WHERE e->>'id' = o.id::text AND e->'permissions' ? p.name);
	RETURN QUERY
		SELECT format('%s member', o.id) FROM unnest(ARRAY['hook-top', 'hook-below', 'hook-side', 'hook-inviter']) AS s (slug)
		 CROSS JOIN LATERAL (SELECT hook_test.o(s.slug) AS id) AS o
		 WHERE invite_sync.is_member(o.id) IS DISTINCT FROM EXISTS (SELECT FROM jsonb_array_elements(claimed->'organizations') AS e (e) WHERE e->>'id' = o.id::text);
	RETURN QUERY
		SELECT format('%s role', e->>'id') FROM jsonb_array_elements(claimed->'organizations') AS e (e) WHERE NOT invite_sync.has_role((e->>'id')::uuid, e->>'role');
	RETURN QUERY SELECT 'platform role' WHERE invite_sync.platform_role() IS DISTINCT FROM claimed->>'platform_role';
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
END
$$;
SELECT who, count(d.what) FROM unnest(ARRAY['h_a', 'h_b', 'h_banned', 'h_nobody']) AS w (who) LEFT JOIN LATERAL hook_test.disagreements(w.who) AS d ON true GROUP BY 1 ORDER BY 1;

-- The cap: the largest go first, and the rest keep their order.
SET invite_sync.token_claims_bytes = 512;
SELECT o.slug FROM jsonb_array_elements(hook_test.tenant('h_a')->'organizations') WITH ORDINALITY AS x (entry, n)
  JOIN invite_sync.organization AS o ON o.id = (x.entry->>'id')::uuid ORDER BY x.n;
SELECT hook_test.tenant('h_a')->'truncated' AS truncated, octet_length(hook_test.tenant('h_a')::text) <= 512 AS fits;
SET invite_sync.token_claims_bytes = 256;
SELECT hook_test.tenant('h_b');
RESET invite_sync.token_claims_bytes;
\set VERBOSITY sqlstate
SET invite_sync.token_claims_bytes = 100;
\set VERBOSITY terse

-- Somebody above very many organizations gets those they are a member of, with what they may there.
BEGIN;
INSERT INTO invite_sync.organization (name, slug, parent_id) SELECT 'Child ' || n, 'hook-child-' || n, hook_test.o('hook-side') FROM generate_series(1, 2100) AS n;
SELECT o.slug, x.entry->>'role' AS role, jsonb_array_length(x.entry->'permissions') AS permissions
  FROM jsonb_array_elements(hook_test.tenant('h_a')->'organizations') WITH ORDINALITY AS x (entry, n)
  JOIN invite_sync.organization AS o ON o.id = (x.entry->>'id')::uuid ORDER BY x.n;
SELECT hook_test.tenant('h_a')->'truncated' AS truncated;
ROLLBACK;
-- it writes nothing
BEGIN READ ONLY;
SELECT jsonb_array_length(hook_test.claims('h_b')->'app_metadata'->'invite_sync'->'organizations');
ROLLBACK;

-- ---- lock-outs ----

CREATE FUNCTION hook_test.try(valid boolean, address text DEFAULT '192.0.2.1', who text DEFAULT 'h_a', hook text DEFAULT 'password') RETURNS text LANGUAGE sql AS $$
	SELECT a->>'decision' FROM hook_test.ask(hook || '_verification_attempt_hook', hook_test.attempt(hook_test.u(who)::text, valid, address)) AS a $$;
-- off
SELECT DISTINCT hook_test.try(false) FROM generate_series(1, 20);
SELECT count(*) FROM invite_sync.rate_limit WHERE action LIKE '%verification';
SET invite_sync.lockout_attempts = 3;
SELECT hook_test.try(false), hook_test.try(false), hook_test.try(false), hook_test.try(false), hook_test.try(true);
SELECT hook_test.ask('password_verification_attempt_hook', hook_test.attempt(hook_test.u('h_a')::text, true));
-- from elsewhere, another user, another factor: not locked out
SELECT hook_test.try(true, '192.0.2.2') AS elsewhere, hook_test.try(true, who => 'h_b') AS somebody_else, hook_test.try(true, hook => 'mfa') AS mfa, hook_test.try(true, NULL) AS nowhere;
-- a success forgets
SELECT hook_test.try(false, '192.0.2.3'), hook_test.try(false, '192.0.2.3'), hook_test.try(true, '192.0.2.3'), hook_test.try(false, '192.0.2.3'), hook_test.try(false, '192.0.2.3'), hook_test.try(true, '192.0.2.3');
-- from anywhere; what is tried while locked out does not make it longer
SET invite_sync.lockout_user_attempts = 4;
SELECT hook_test.try(false, '198.51.100.' || n, 'h_b') FROM generate_series(1, 5) AS n;
SELECT hook_test.try(true, '198.51.100.9', 'h_b'), hook_test.try(true, NULL, 'h_b');
SELECT scope, cardinality(stamps) FROM invite_sync.rate_limit WHERE action = 'password_verification' AND scope = 'user' AND key = hook_test.u('h_b')::text;
UPDATE invite_sync.rate_limit SET stamps = (SELECT array_agg(s - interval '15 minutes') FROM unnest(stamps) AS s) WHERE action = 'password_verification' AND cardinality(stamps) > 0;
SELECT hook_test.try(true, '198.51.100.9', 'h_b') AS over, hook_test.try(true) AS over;
\set VERBOSITY sqlstate
SET invite_sync.lockout_duration = '16min';
\set VERBOSITY terse
SELECT hook_test.try(false, hook => 'mfa') FROM generate_series(1, 4);
SELECT hook_test.ask('mfa_verification_attempt_hook', hook_test.attempt(hook_test.u('h_a')::text, true));
SELECT e.kind, e.action, e.target_type, (SELECT u.raw_user_meta_data->>'nick' FROM auth.users AS u WHERE u.id::text = e.target_id) AS target, e.data
  FROM invite_sync.event AS e WHERE e.action LIKE 'account.%locked_out' AND e.id > :first ORDER BY e.id;
-- no address is kept
SELECT count(*) FROM invite_sync.rate_limit AS l WHERE l::text ~ '192\.0|198\.51|hook\.example';
RESET invite_sync.lockout_attempts;
RESET invite_sync.lockout_user_attempts;

-- Somebody's own value of a setting does nothing.
SET ROLE authenticated;
SET invite_sync.signup_policy = 'open';
SET invite_sync.lockout_attempts = 0;
RESET ROLE;

-- leave nothing behind
TRUNCATE invite_sync.rate_limit, invite_sync.rate_limit_rule;
DELETE FROM invite_sync.invitation;
DELETE FROM invite_sync.invitation_grant;
DELETE FROM invite_sync.invitation_key;
DELETE FROM invite_sync.user_invitation_quota;
DELETE FROM invite_sync.platform_role;
DELETE FROM invite_sync.organization WHERE slug LIKE 'hook-%' AND parent_id IS NOT NULL;
DELETE FROM invite_sync.organization WHERE slug LIKE 'hook-%';
DELETE FROM invite_sync.organization_domain;
DELETE FROM invite_sync.role WHERE NOT built_in;
DELETE FROM invite_sync.role_permission;
DELETE FROM invite_sync.permission WHERE NOT built_in;
DELETE FROM auth.users WHERE id::text LIKE 'e0000000-%';
DROP SCHEMA hook_test CASCADE;
SELECT * FROM invite_sync.verify();
