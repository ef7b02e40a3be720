--
-- Invitations from the side of who is invited: looking, binding, accepting, declining, signing up; and what becomes of
-- them when members come otherwise, organizations are deleted, and inviters go.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA accept_test;
SET search_path = public, accept_test;
\pset null (null)

CREATE FUNCTION accept_test.u(name text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT u.id FROM auth.users AS u WHERE u.raw_user_meta_data->>'nick' = $1 OR u.email = $1 || '@team.example' ORDER BY u.is_sso_user LIMIT 1),
	                      'b1000000-0000-4000-8000-0000000000ff') $$;
CREATE FUNCTION accept_test.org(slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1), 'c1000000-0000-4000-8000-0000000000ff') $$;
CREATE FUNCTION accept_test.role(name text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT r.id FROM invite_sync.role AS r WHERE r.name = $1 $$;
-- An invitation's id and secret are made of its name, so that the tokens are the same in every run.
CREATE FUNCTION accept_test.i(name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT md5($1)::uuid $$;
CREATE FUNCTION accept_test.secret(name text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT sha256(convert_to('secret of ' || $1, 'UTF8')) $$;
CREATE FUNCTION accept_test.token(name text) RETURNS text LANGUAGE sql IMMUTABLE
	AS $$ SELECT 'inv_' || translate(encode(uuid_send(accept_test.i($1)) || accept_test.secret($1), 'base64'), E'+/\n', '-_') $$;
-- grants: 'slug:role slug:role'; what: columns of the invitation as JSON
CREATE FUNCTION accept_test.invite(name text, email text, grants text DEFAULT '', what jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	defaults jsonb := jsonb_build_object('id', i(name), 'kind', CASE WHEN email IS NULL THEN 'link' ELSE 'email' END, 'purpose', 'invitation',
		'status', 'pending', 'email', email, 'data', '{}'::jsonb, 'secret_digest', sha256(secret(name)), 'proves_email', email IS NOT NULL, 'uses', 0,
		'alone', grants = '', 'shadow', false, 'charged', false, 'created_at', clock_timestamp(), 'renewed_at', clock_timestamp(),
		'expires_at', clock_timestamp() + '1 hour'::interval);
BEGIN
	IF what ? 'inviter' THEN
		what := what || jsonb_build_object('inviter_id', u(what->>'inviter'));
	END IF;
	INSERT INTO invite_sync.invitation SELECT (jsonb_populate_record(NULL::invite_sync.invitation, defaults || what)).*;
	INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at)
		SELECT i(name), org(split_part(g, ':', 1)), coalesce(role(split_part(g, ':', 2)), 'd1000000-0000-4000-8000-0000000000ff'), clock_timestamp()
		  FROM regexp_split_to_table(nullif(grants, ''), ' ') AS g;
	RETURN name;
END
$$;
-- Calls a function of ours as somebody (NULL: a service; anon) and tells the answer without ids and times, or the refusal.
CREATE FUNCTION accept_test.try(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
	state text;
BEGIN
	IF who = 'anon' THEN
		PERFORM set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('role', 'anon', true);
	ELSIF who IS NOT NULL THEN
		PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', u(who), 'role', 'authenticated')::text, true),
			set_config('role', 'authenticated', true);
	END IF;
	EXECUTE format($f$ SELECT string_agg((SELECT string_agg(e.key || '=' || CASE WHEN e.key = 'organization_ids' THEN jsonb_array_length(e.value)::text
				ELSE coalesce(e.value #>> '{}', 'null') END, ' ' ORDER BY e.key)
			FROM jsonb_each(to_jsonb(x)) AS e WHERE e.key !~ '(_id|_at|_until|^cursor)$' AND e.value <> 'null'), E'\n') FROM invite_sync.%s AS x $f$, call) INTO answer;
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN 'ok ' || coalesce(answer, '');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	RETURN concat_ws(' ', state, CASE WHEN state LIKE 'PT%' THEN regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g') ELSE SQLERRM END);
END
$$;
CREATE FUNCTION accept_test.look(who text, name text) RETURNS text LANGUAGE sql AS $$ SELECT try($1, format('get_invitation(%L)', token($2))) $$;
CREATE FUNCTION accept_test.accept(who text, name text, device text DEFAULT NULL) RETURNS text LANGUAGE sql
	AS $$ SELECT try($1, format('accept_invitation(%L, %L)', token($2), $3)) $$;
CREATE FUNCTION accept_test.accept_mine(who text, name text) RETURNS text LANGUAGE sql AS $$ SELECT try($1, format('accept_my_invitation(%L)', i($2))) $$;
CREATE FUNCTION accept_test.decline(who text, name text) RETURNS text LANGUAGE sql AS $$ SELECT try($1, format('decline_invitation(%L)', token($2))) $$;
CREATE FUNCTION accept_test.bind(who text, name text, device text) RETURNS text LANGUAGE sql
	AS $$ SELECT try($1, format('bind_invitation(%L, %L)', token($2), $3)) $$;
CREATE FUNCTION accept_test.signup(who text, name text, password text DEFAULT 'correct horse', data jsonb DEFAULT '{}', device text DEFAULT NULL) RETURNS text LANGUAGE sql
	AS $$ SELECT try($1, format('signup_with_invitation(%L, %L, %L, %L)', token($2), $3, $4, $5)) $$;
GRANT USAGE ON SCHEMA accept_test TO anon, authenticated, service_role;
CREATE FUNCTION accept_test.state(name text) RETURNS text LANGUAGE sql
	AS $$ SELECT concat_ws(' ', i.status, i.uses, CASE WHEN i.closed_by IS NOT NULL THEN 'by ' || coalesce((SELECT u.raw_user_meta_data->>'nick' FROM auth.users AS u WHERE u.id = i.closed_by), '?') END,
	                            (SELECT string_agg(coalesce(o.slug, '?') || CASE WHEN g.open THEN ':open' ELSE '' END, ' ' ORDER BY o.slug)
	                               FROM invite_sync.invitation_grant AS g LEFT JOIN invite_sync.organization AS o ON o.id = g.organization_id WHERE g.invitation_id = i.id))
	        FROM invite_sync.invitation AS i WHERE i.id = i($1) $$;
CREATE FUNCTION accept_test.roles(name text) RETURNS text LANGUAGE sql
	AS $$ SELECT string_agg(o.slug || ':' || coalesce(r.name, '?') || coalesce(' by ' || (SELECT a.raw_user_meta_data->>'nick' FROM auth.users AS a WHERE a.id = m.added_by), ''), ' ' ORDER BY o.slug)
	        FROM invite_sync.membership AS m JOIN invite_sync.organization AS o ON o.id = m.organization_id LEFT JOIN invite_sync.role AS r ON r.id = m.role_id WHERE m.user_id = u($1) $$;
CREATE FUNCTION accept_test.platform(name text) RETURNS text LANGUAGE sql
	AS $$ SELECT r.name FROM invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id WHERE p.user_id = u($1) $$;
CREATE VIEW accept_test.events AS
	SELECT e.kind, e.action, a.raw_user_meta_data->>'nick' AS actor, o.slug AS organization, e.target_type, e.data ? 'role_id' AS role
	  FROM invite_sync.event AS e LEFT JOIN auth.users AS a ON a.id = e.actor_id LEFT JOIN invite_sync.organization AS o ON o.id = e.organization_id ORDER BY e.id DESC;

CREATE TABLE accept_test.profile (id uuid PRIMARY KEY, email text, full_name text);
ALTER TABLE accept_test.profile OWNER TO postgres;
GRANT USAGE ON SCHEMA accept_test TO postgres;
SELECT target FROM invite_sync.add_target('accept_test.profile', '{"email": "email", "full_name": "raw_user_meta_data->>''full_name''"}');
SELECT invite_sync.attach() IS NOT NULL AS attached;
INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at, is_anonymous, is_sso_user, banned_until, deleted_at, raw_user_meta_data)
	SELECT '00000000-0000-0000-0000-000000000000', ('b1000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'authenticated', 'authenticated',
		CASE WHEN name <> 'anonymous' THEN name || CASE WHEN name LIKE 'sso%' THEN '@foreign.example' ELSE '@team.example' END END,
		CASE WHEN name NOT IN ('unverified', 'anonymous', 'liar') THEN '2020-01-01'::timestamptz END, name = 'anonymous', name LIKE 'sso%',
		CASE WHEN name = 'banned' THEN 'infinity'::timestamptz END, CASE WHEN name = 'deleted' THEN '2020-01-01'::timestamptz END,
		jsonb_build_object('nick', name) || CASE WHEN name = 'liar' THEN '{"email": "liar@team.example", "email_verified": true, "role": "service_role"}'::jsonb ELSE '{}' END
	FROM unnest(ARRAY['ann', 'bob', 'cid', 'dan', 'eve', 'fay', 'gus', 'hal', 'ida', 'jon', 'unverified', 'anonymous', 'banned', 'deleted', 'liar', 'sso', 'ssohome', 'kim', 'lea', 'max'])
		WITH ORDINALITY AS x (name, n);
UPDATE auth.users SET raw_user_meta_data = raw_user_meta_data || '{"full_name": "Ann Alpha"}' WHERE id = u('ann');
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES
	('c1000000-0000-4000-8000-000000000001', 'Acme', 'acme', NULL),
	('c1000000-0000-4000-8000-000000000002', 'Acme Labs', 'labs', 'c1000000-0000-4000-8000-000000000001'),
	('c1000000-0000-4000-8000-000000000003', 'Bolt', 'bolt', NULL);
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES
	(org('acme'), u('ann'), role('owner')), (org('acme'), u('bob'), role('admin')), (org('bolt'), u('jon'), role('owner'));
SELECT role FROM invite_sync.create_role('editor', ARRAY['organization.read', 'members.read'], org('acme'));
\pset tuples_only on

--
-- Looking
--
SELECT invite('one', 'cid@team.example', 'acme:editor', '{"inviter": "ann", "data": {"full_name": "Cid Gamma", "job_title": "smith", "nick": "other", "role": "service_role", "email_verified": true}}');
SELECT look('anon', 'one');
SELECT look('dan', 'one');
SELECT look(NULL, 'one');
SELECT state('one');
-- whatever is wrong with a token
SELECT look('anon', 'nothing');
SELECT try('anon', $$get_invitation('')$$);
SELECT try('anon', $$get_invitation('inv_')$$);
SELECT try('anon', format($$get_invitation(%L)$$, left(token('one'), 40) || translate(substr(token('one'), 41), 'abcdef', 'bcdefa')));
SELECT try('anon', format($$get_invitation(%L)$$, token('one') || ' '));
SELECT try('anon', format($$get_invitation(%L)$$, i('one')));
SELECT try('anon', $$get_invitation(NULL)$$);
SELECT invite('shadow', 'cid@team.example', 'acme:member', '{"shadow": true}');
SELECT look('anon', 'shadow'), accept('cid', 'shadow'), accept_mine('cid', 'shadow');
SELECT invite('untold', 'cid@team.example', 'bolt:member', '{"secret_digest": null, "proves_email": false}');
SELECT look('anon', 'untold');
-- who has no account, or one that is not theirs yet, needs to sign up; a token that proves nothing does not tell
SELECT invite('new', 'new@team.example', 'acme:member bolt:admin'), invite('unconfirmed', 'unverified@team.example', 'bolt:member'),
       invite('of banned', 'banned@team.example', 'bolt:member'), invite('of sso', 'sso@foreign.example', 'bolt:member'),
       invite('locator', 'cid@team.example', '', '{"proves_email": false}'), invite('link', NULL, 'acme:member');
SELECT look('anon', name) FROM unnest(ARRAY['new', 'unconfirmed', 'of banned', 'of sso', 'locator', 'link']) AS x (name);
-- in a read-only transaction, as PostgREST calls it
BEGIN READ ONLY;
SELECT needs_signup FROM invite_sync.get_invitation(token('one'));
ROLLBACK;
DELETE FROM invite_sync.invitation WHERE id IN (i('of banned'), i('of sso'), i('unconfirmed'), i('untold'));
DELETE FROM invite_sync.invitation_grant AS g WHERE NOT EXISTS (SELECT FROM invite_sync.invitation AS i WHERE i.id = g.invitation_id);

--
-- Accepting
--
-- who cannot
SELECT accept('anon', 'one');
SELECT accept(NULL, 'one');
SELECT accept('dan', 'one');
SELECT accept('unverified', 'one');
SELECT accept('liar', 'one');
SELECT accept('anonymous', 'one');
SELECT accept('banned', 'one');
SELECT accept('deleted', 'one');
SELECT accept('nobody', 'one');
SELECT accept('cid', 'nothing');
SELECT try('cid', 'accept_invitation(NULL)');
SELECT state('one'), roles('cid');
-- a locator is good for its address alone
SELECT accept('dan', 'locator');
SELECT accept('cid', 'locator');
SELECT state('locator');
SELECT accept('cid', 'one');
SELECT state('one'), roles('cid');
SELECT * FROM events LIMIT 2;
-- what was said of the person goes where nothing is said, and on to the targets
SELECT raw_user_meta_data FROM auth.users WHERE id = u('cid');
SELECT email, full_name FROM profile WHERE id = u('cid');
SELECT raw_app_meta_data->'invite_sync'->'organizations'->0->>'role' FROM auth.users WHERE id = u('cid');
-- again: nothing changes, for anybody else it is used
CREATE TABLE accept_test.before AS SELECT (SELECT i FROM invite_sync.invitation AS i WHERE i.id = i('one')) AS i, (SELECT max(e.id) FROM invite_sync.event AS e) AS e,
	(SELECT u FROM auth.users AS u WHERE u.id = u('cid')) AS u;
SELECT accept('cid', 'one'), accept_mine('cid', 'one');
SELECT (SELECT i FROM invite_sync.invitation AS i WHERE i.id = i('one')) = b.i, (SELECT max(e.id) FROM invite_sync.event AS e) = b.e, (SELECT u FROM auth.users AS u WHERE u.id = u('cid')) = b.u FROM before AS b;
SELECT accept('dan', 'one'), accept_mine('dan', 'one'), look('anon', 'one');
-- who was removed is not brought back by it, nor by one of before
SELECT invite('early', 'cid@team.example', 'labs:editor acme:admin', '{"inviter": "ann"}');
SELECT try('ann', $$remove_member(org('acme'), u('cid'))$$);
SELECT accept('cid', 'one'), accept_mine('cid', 'one');
SELECT accept('cid', 'early'), accept_mine('cid', 'early');
SELECT invite('later link', NULL, 'acme:member'), accept('cid', 'link'), accept('cid', 'later link');
SELECT roles('cid');
-- a new one does, and so does one that was sent again
UPDATE invite_sync.invitation SET renewed_at = clock_timestamp() WHERE id = i('early');
SELECT accept('cid', 'early');
SELECT roles('cid'), state('early');
SELECT count(*) FROM invite_sync.membership_removal WHERE user_id = u('cid');
-- the same who left by themselves
SELECT try('cid', $$leave_organization(org('labs'))$$);
SELECT accept('cid', 'early');
-- accepting never changes what somebody is
SELECT invite('less', 'cid@team.example', 'acme:member bolt:member', '{"data": {"full_name": "Somebody Else"}}');
SELECT accept('cid', 'less');
SELECT roles('cid'), raw_user_meta_data->>'full_name' FROM auth.users WHERE id = u('cid');
-- closed ones say how
SELECT invite('expired', 'dan@team.example', 'acme:member', jsonb_build_object('expires_at', clock_timestamp() - '1 second'::interval)),
       invite('revoked', 'dan@team.example', 'acme:member', '{"status": "revoked", "closed_at": "2020-01-01"}'),
       invite('declined', 'dan@team.example', 'acme:member', '{"status": "declined", "closed_at": "2020-01-01"}'),
       invite('migration', 'dan@team.example', '', '{"purpose": "migration"}');
SELECT name, look('anon', name), accept('dan', name), accept_mine('dan', name), decline('dan', name), bind('dan', name, 'x'), signup('anon', name)
  FROM unnest(ARRAY['expired', 'revoked', 'declined', 'migration']) AS x (name);
-- a deleted role, a role that is no more in reach
SELECT invite('no role', 'dan@team.example', 'acme:king'), invite('far role', 'dan@team.example', 'bolt:editor'),
       invite('no platform role', 'dan@team.example', '', '{"platform_role_id": "d1000000-0000-4000-8000-0000000000fe"}');
SELECT accept('dan', 'no role'), accept('dan', 'far role'), accept('dan', 'no platform role');
DELETE FROM invite_sync.invitation WHERE id IN (i('no role'), i('far role'), i('no platform role'));

--
-- Platform roles: never less than before
--
SELECT permission FROM invite_sync.create_permission('platform.a');
SELECT permission FROM invite_sync.create_permission('platform.b');
SELECT role FROM invite_sync.create_role('pa', ARRAY['platform.a']);
SELECT role FROM invite_sync.create_role('pb', ARRAY['platform.b']);
SELECT role FROM invite_sync.create_role('pab', ARRAY['platform.a', 'platform.b']);
SELECT invite('pa', 'eve@team.example', '', jsonb_build_object('platform_role_id', role('pa')));
SELECT accept('eve', 'pa'), platform('eve');
SELECT * FROM events LIMIT 2;
SELECT invite('pb', 'eve@team.example', 'bolt:member', jsonb_build_object('platform_role_id', role('pb')));
SELECT accept('eve', 'pb'), platform('eve');
SELECT invite('pab', 'eve@team.example', '', jsonb_build_object('platform_role_id', role('pab')));
SELECT accept('eve', 'pab'), platform('eve');
SELECT raw_app_meta_data->'invite_sync'->>'platform_role' FROM auth.users WHERE id = u('eve');

--
-- The inviter, as they are now
--
SELECT invite('by bob', 'fay@team.example', 'acme:admin', '{"inviter": "bob"}');
UPDATE auth.users SET banned_until = now() + '1 hour' WHERE id = u('bob');
SELECT accept('fay', 'by bob');
UPDATE auth.users SET banned_until = now() - '1 hour'::interval WHERE id = u('bob');
SELECT try('ann', $$set_member_role(org('acme'), u('bob'), 'editor')$$);
SELECT accept('fay', 'by bob');
SELECT try('ann', $$remove_member(org('acme'), u('bob'))$$);
SELECT accept('fay', 'by bob'), accept_mine('fay', 'by bob');
SELECT try('ann', $$add_member(org('acme'), u('bob'), 'admin')$$);
SELECT accept('fay', 'by bob'), roles('fay');
-- for every organization
SELECT invite('two', 'gus@team.example', 'acme:member bolt:member', '{"inviter": "bob"}');
SELECT accept('gus', 'two'), roles('gus'), state('two');
SELECT try('jon', $$add_member(org('bolt'), u('bob'), 'admin')$$);
SELECT accept('gus', 'two'), roles('gus'), state('two');
-- one who is gone takes back what is pending
SELECT invite('by kim', 'hal@team.example', 'bolt:member', '{"inviter": "kim"}'), invite('by kim, late', 'hal@team.example', 'bolt:member', jsonb_build_object('inviter', 'kim', 'expires_at', clock_timestamp())),
       invite('by lea', 'hal@team.example', '', '{"inviter": "lea"}');
DELETE FROM auth.users WHERE id = u('kim');
UPDATE auth.users SET deleted_at = now() WHERE id = u('lea');
SELECT name, state(name), accept('hal', name) FROM unnest(ARRAY['by kim', 'by kim, late', 'by lea']) AS x (name);
SELECT * FROM events LIMIT 2;
-- with the triggers off, a retry sees to it
SELECT invite('by max', 'hal@team.example', 'bolt:member', '{"inviter": "max"}');
SET session_replication_role = replica;
DELETE FROM auth.users WHERE id = u('max');
RESET session_replication_role;
SELECT accept('hal', 'by max'), state('by max');
SELECT severity, area, finding FROM invite_sync.verify() WHERE area = 'invitation';
SELECT count(*) >= 0 FROM invite_sync.retry_quarantine(due_only => false);
SELECT state('by max');
SELECT severity, area, finding FROM invite_sync.verify() WHERE area = 'invitation';
-- the account of who is invited does not matter: it is the address that is
SELECT invite('of hal', 'hal@team.example', 'bolt:member', '{"inviter": "jon"}');
DELETE FROM auth.users WHERE id = u('hal');
SELECT state('of hal'), look('anon', 'of hal');

--
-- Whose address it is
--
SELECT invite('of ida', 'ida@team.example', 'bolt:member');
-- single sign-on says what it likes of domains that are not its
SELECT invite('for sso', 'sso@foreign.example', 'bolt:member'), accept('sso', 'for sso'), accept_mine('sso', 'for sso');
INSERT INTO auth.sso_providers (id) VALUES ('e1000000-0000-4000-8000-000000000001');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider) VALUES ('s', u('sso'), '{"email": "sso@foreign.example", "email_verified": true}', 'sso:e1000000-0000-4000-8000-000000000001');
INSERT INTO auth.sso_domains (id, sso_provider_id, domain) VALUES ('e1000000-0000-4000-8000-000000000002', 'e1000000-0000-4000-8000-000000000001', 'home.example');
SELECT accept('sso', 'for sso');
INSERT INTO auth.sso_domains (id, sso_provider_id, domain) VALUES ('e1000000-0000-4000-8000-000000000003', 'e1000000-0000-4000-8000-000000000001', 'foreign.example');
SELECT accept('sso', 'for sso');
-- what users say of themselves is nothing; who was banned or is anonymous has no address
SELECT invite('of liar', 'liar@team.example', 'bolt:member'), accept('liar', 'of liar'), accept_mine('liar', 'of liar');
SELECT try('liar', 'my_invitations()');
-- it stays with the address it was sent to, from the moment that this changes
UPDATE auth.users SET email = 'ida@elsewhere.example' WHERE id = u('ida');
SELECT accept('ida', 'of ida'), accept_mine('ida', 'of ida');
SELECT try('ida', 'my_invitations()');
UPDATE auth.users SET email = 'IDA@Team.Example' WHERE id = u('ida');
SELECT try('ida', 'my_invitations()');
SELECT accept_mine('ida', 'of ida'), roles('ida');
SELECT try('ida', 'my_invitations()');
-- only ASCII letters are the same in lower case: this k is the Kelvin sign
SELECT invite('kelvin', 'kate@team.example', 'bolt:member');
INSERT INTO auth.users (id, email, email_confirmed_at, raw_user_meta_data) VALUES ('b1000000-0000-4000-8000-000000000030', U&'\212Aate@team.example', now(), '{"nick": "kelvin"}');
SELECT accept('kelvin', 'kelvin'), accept_mine('kelvin', 'kelvin');

--
-- invite_sync.require_verified_email
--
SET invite_sync.require_verified_email = off;
SELECT invite('off', 'off@team.example', 'bolt:member'), invite('off, locator', 'off2@team.example', 'bolt:member', '{"proves_email": false}'),
       invite('off, link', NULL, 'labs:member'), invite('off, domain', NULL, 'acme:member', '{"allowed_domain": "team.example"}');
SELECT name, accept('anonymous', name), accept('banned', name), accept('unverified', name) FROM unnest(ARRAY['off', 'off, locator', 'off, link', 'off, domain']) AS x (name);
SELECT roles('unverified'), state('off');
SELECT invite('off, mine', 'unverified@team.example', 'acme:member'), accept_mine('unverified', 'off, mine');
SET invite_sync.require_verified_email = view;
SELECT invite('view', 'dan@team.example', 'bolt:member');
SELECT look('anon', 'view'), look('fay', 'view'), look('unverified', 'view'), look('dan', 'view');
SELECT look('anon', 'link'), look('unverified', 'link'), look('dan', 'link'), look('dan', 'off, domain'), look('sso', 'off, domain');
SELECT bind('anon', 'view', 'd'), bind('fay', 'view', 'd'), bind('dan', 'view', 'd');
SELECT accept('fay', 'view'), accept('dan', 'view', 'd');
RESET invite_sync.require_verified_email;

--
-- Links
--
SELECT invite('thrice', NULL, 'labs:member', '{"max_uses": 3, "inviter": "ann"}'), invite('domain', NULL, 'labs:editor', '{"allowed_domain": "foreign.example"}');
SELECT accept('unverified', 'thrice');
SELECT accept('dan', 'thrice'), state('thrice');
SELECT accept('dan', 'thrice'), state('thrice');
-- who is a member uses nothing up
SELECT accept('cid', 'thrice'), roles('cid'), state('thrice');
SELECT try('ann', $$add_member(org('labs'), u('jon'))$$), accept('jon', 'thrice'), state('thrice');
SELECT accept('eve', 'thrice'), state('thrice');
SELECT accept('gus', 'thrice'), state('thrice');
SELECT accept('gus', 'thrice'), accept('ida', 'thrice'), look('anon', 'thrice');
SELECT accept('ida', 'domain'), accept('sso', 'domain'), roles('sso'), state('domain');
SELECT accept_mine('ida', 'domain'), decline('ida', 'domain'), bind('ida', 'domain', 'd'), signup('anon', 'domain');

--
-- Devices
--
SELECT invite('bound', 'ida@team.example', 'acme:member', '{"inviter": "ann"}');
SELECT bind('anon', 'bound', 'phone'), bind('anon', 'bound', 'phone'), bind('ida', 'bound', 'desk'), bind('ida', 'bound', ''), bind('ida', 'bound', repeat('x', 201)), try('ida', format('bind_invitation(%L, NULL)', token('bound')));
SELECT device_until > now() + '29 minutes'::interval, device_until < now() + '31 minutes'::interval FROM invite_sync.invitation WHERE id = i('bound');
SELECT accept('ida', 'bound'), accept('ida', 'bound', 'desk'), look('anon', 'bound');
SELECT accept('ida', 'bound', 'phone');
SELECT (device_digest, device_until) IS NULL FROM invite_sync.invitation WHERE id = i('bound');
-- bound too long ago
SELECT invite('unbound', 'ida@team.example', ''), bind('ida', 'unbound', 'phone');
UPDATE invite_sync.invitation SET device_until = clock_timestamp() WHERE id = i('unbound');
SELECT bind('ida', 'unbound', 'desk');
UPDATE invite_sync.invitation SET device_until = clock_timestamp() WHERE id = i('unbound');
SELECT accept('ida', 'unbound');
-- nobody binds by a token what they could not accept
SELECT invite('locator2', 'ida@team.example', '', '{"proves_email": false}');
SELECT bind('anon', 'locator2', 'd'), bind('dan', 'locator2', 'd'), bind('unverified', 'locator2', 'd'), bind(NULL, 'locator2', 'd'), bind('ida', 'locator2', 'd'), bind('ida', 'nothing', 'd');
-- by its id it is accepted from anywhere
SELECT accept_mine('ida', 'locator2');

--
-- Listing, declining
--
SELECT invite('l1', 'eve@team.example', 'acme:editor labs:member', '{"inviter": "ann", "created_at": "2020-01-01"}'), invite('l2', 'eve@team.example', '', '{"created_at": "2020-01-03"}'),
       invite('l3', 'eve@team.example', '', jsonb_build_object('created_at', '2020-01-02', 'platform_role_id', role('pa'), 'alone', false)),
       invite('l4', 'eve@team.example', 'acme:member', '{"shadow": true}'), invite('l5', 'eve@team.example', 'acme:member', jsonb_build_object('expires_at', clock_timestamp())),
       invite('l6', 'eve@team.example', '', '{"purpose": "migration", "alone": false}');
SELECT try('eve', 'my_invitations()');
SELECT try('eve', 'my_invitations(page_size => 2)');
SELECT try('eve', format('my_invitations(after => %L)', '631324800000000.' || i('l3')));
SELECT try('eve', 'my_invitations(page_size => 0)'), try('eve', $$my_invitations('x')$$), try('anonymous', 'my_invitations()'), try(NULL, 'my_invitations()');
SELECT try('unverified', 'my_invitations()'), try('dan', 'my_invitations()');
SELECT decline('anon', 'l1'), decline('dan', 'l1'), decline('unverified', 'l1'), decline('anonymous', 'l1'), decline('dan', 'nothing'), try('dan', 'decline_invitation(NULL)');
SELECT decline('eve', 'l1'), state('l1'), decline('eve', 'l1'), accept('eve', 'l1');
SELECT * FROM events LIMIT 2;
SELECT decline(NULL, 'l2'), state('l2');
SELECT try('eve', format('decline_my_invitation(%L)', i('l3'))), state('l3'), try('eve', format('decline_my_invitation(%L)', i('l3'))),
       try('eve', format('decline_my_invitation(%L)', i('l4'))), try('dan', format('decline_my_invitation(%L)', i('l5'))),
       try('unverified', format('decline_my_invitation(%L)', i('l5'))), try('eve', 'decline_my_invitation(NULL)');

--
-- Signing up
--
SELECT invite('s1', 's1@team.example', 'acme:editor', '{"inviter": "ann", "data": {"full_name": "Said by Ann", "job_title": "smith", "sub": "other", "iss": "other"}}');
SELECT signup('dan', 's1'), signup('anon', 'nothing'), signup('anon', 'one'), try('anon', format('signup_with_invitation(NULL, %L)', 'correct horse')),
       try('anon', format('signup_with_invitation(%L, NULL)', token('s1')));
BEGIN;
SET LOCAL request.jwt.claims = '{"sub": "b1000000-0000-4000-8000-000000000004", "role": "authenticated"}';
SELECT signup(NULL, 's1');
ROLLBACK;
SELECT signup('anon', 's1', 'short'), signup('anon', 's1', repeat(U&'\00e9', 7)), signup('anon', 's1', repeat('x', 73)), signup('anon', 's1', repeat(U&'\00e9', 37));
SELECT signup('anon', 's1', data => '[]'), signup('anon', 's1', data => '{"role": "service_role"}'), signup('anon', 's1', data => '{"email_verified": true}'),
       signup('anon', 's1', data => '{"sub": "x"}'), signup('anon', 's1', data => '{"iss": "x"}'), signup('anon', 's1', data => '{"provider": "x"}'),
       signup('anon', 's1', data => '{"providers": ["x"]}'), signup('anon', 's1', data => jsonb_build_object('x', repeat('x', 4096)));
SET invite_sync.signup = off;
SELECT signup('anon', 's1'), signup(NULL, 's1');
RESET invite_sync.signup;
SET invite_sync.password_min_length = 14;
SELECT signup('anon', 's1');
RESET invite_sync.password_min_length;
SELECT state('s1'), count(*) FROM auth.users WHERE email = 's1@team.example';
SELECT bind('anon', 's1', 'phone'), signup('anon', 's1');
SELECT signup('anon', 's1', data => '{"full_name": "Sue One", "nick": "s1"}', device => 'phone');
SELECT state('s1'), roles('s1');
SELECT * FROM events LIMIT 3;
-- as the auth server writes it
SELECT jsonb_pretty(jsonb_strip_nulls(to_jsonb(u)) - '{id,created_at,updated_at,email_confirmed_at,confirmed_at,encrypted_password}'::text[] #- '{raw_user_meta_data,sub}') FROM auth.users AS u WHERE email = 's1@team.example';
SELECT encrypted_password LIKE '$2a$10$%', encrypted_password = extensions.crypt('correct horse', encrypted_password), encrypted_password = extensions.crypt('correct horsf', encrypted_password),
       email_confirmed_at = confirmed_at, created_at = updated_at, created_at IS NOT NULL, raw_user_meta_data->>'sub' = id::text FROM auth.users WHERE email = 's1@team.example';
SELECT provider, provider_id = user_id::text, email, identity_data - 'sub', identity_data->>'sub' = user_id::text, last_sign_in_at IS NOT NULL, created_at = updated_at FROM auth.identities WHERE user_id = u('s1');
SELECT email, full_name FROM profile WHERE id = u('s1');
SELECT signup('anon', 's1'), accept('s1', 's1');
-- only by a token that proves the mailbox
SELECT invite('s2', 's2@team.example', 'acme:member', '{"proves_email": false}'), signup('anon', 's2'), signup(NULL, 's2');
-- confirmed, banned, soft-deleted: not touched
CREATE TABLE accept_test.users_before AS SELECT * FROM auth.users;
SELECT invite('s3', 'dan@team.example', 'acme:member'), invite('s4', 'banned@team.example', 'acme:member'), invite('s5', 'deleted@team.example', 'acme:member');
SELECT signup('anon', 's3'), signup(NULL, 's4'), signup('anon', 's5');
UPDATE auth.users SET email_confirmed_at = NULL WHERE id = u('banned');
SELECT signup('anon', 's4');
UPDATE auth.users SET email_confirmed_at = NULL, phone_confirmed_at = now() WHERE id = u('dan');
SELECT signup('anon', 's3');
UPDATE auth.users SET email_confirmed_at = b.email_confirmed_at, phone_confirmed_at = NULL FROM users_before AS b WHERE b.id = users.id AND b.id IN (u('dan'), u('banned'));
TABLE users_before EXCEPT TABLE auth.users;
-- somebody else's in the auth server's eyes, who folds more letters than we: not hidden by another one
SELECT invite('s6', U&'\00c9ric@team.example', 'acme:member');
INSERT INTO auth.users (instance_id, id, email, raw_user_meta_data) VALUES ('00000000-0000-0000-0000-000000000000', 'b1000000-0000-4000-8000-000000000031', U&'\00e9ric@team.example', '{}');
SELECT signup('anon', 's6');
-- of single sign-on: another person
SELECT invite('s7', 'ssohome@foreign.example', 'acme:member'), signup('anon', 's7', data => '{"nick": "beside"}');
SELECT is_sso_user, encrypted_password <> '', raw_user_meta_data->>'nick', roles(raw_user_meta_data->>'nick') FROM auth.users WHERE email = 'ssohome@foreign.example' ORDER BY 1;
-- opened before the invitation by somebody who never showed that it is theirs: everything that lets them in goes
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, confirmation_token, recovery_token, email_change_token_new, email_change, phone, phone_change, phone_change_token,
	email_change_token_current, reauthentication_token, raw_app_meta_data, raw_user_meta_data, is_anonymous) VALUES ('00000000-0000-0000-0000-000000000000', 'b1000000-0000-4000-8000-000000000032', 'other', 'other', 'Planted@Team.example', 'theirs',
	'token c', 'token r', 'token n', 'attacker@evil.example', '4911111', '4922222', 'token p', 'token e', 'token a', '{"provider": "google", "providers": ["google", "email"], "tier": "gold"}',
	'{"full_name": "Attacker", "email_verified": true}', true);
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider) VALUES
	('b1000000-0000-4000-8000-000000000032', 'b1000000-0000-4000-8000-000000000032', '{"email": "planted@team.example", "full_name": "Attacker"}', 'email'),
	('google-1', 'b1000000-0000-4000-8000-000000000032', '{"email": "attacker@evil.example"}', 'google');
INSERT INTO auth.sessions (id, user_id) VALUES ('f1000000-0000-4000-8000-000000000001', 'b1000000-0000-4000-8000-000000000032');
INSERT INTO auth.refresh_tokens (token, user_id, session_id) VALUES ('t1', 'b1000000-0000-4000-8000-000000000032', 'f1000000-0000-4000-8000-000000000001'), ('t2', 'b1000000-0000-4000-8000-000000000032', NULL), ('t3', u('dan')::text, NULL);
INSERT INTO auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to) VALUES ('f1000000-0000-4000-8000-000000000002', 'b1000000-0000-4000-8000-000000000032', 'recovery_token', 'x', 'x');
INSERT INTO auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at) VALUES ('f1000000-0000-4000-8000-000000000003', 'b1000000-0000-4000-8000-000000000032', 'totp', 'verified', now(), now());
INSERT INTO auth.mfa_challenges (id, factor_id, created_at, ip_address) VALUES ('f1000000-0000-4000-8000-000000000004', 'f1000000-0000-4000-8000-000000000003', now(), '127.0.0.1');
INSERT INTO auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method) VALUES ('f1000000-0000-4000-8000-000000000005', 'f1000000-0000-4000-8000-000000000001', now(), now(), 'otp');
INSERT INTO auth.flow_state (id, user_id, auth_code, provider_type, authentication_method) VALUES ('f1000000-0000-4000-8000-000000000006', 'b1000000-0000-4000-8000-000000000032', 'code', 'email', 'magiclink');
INSERT INTO auth.webauthn_credentials (user_id, credential_id, public_key) VALUES ('b1000000-0000-4000-8000-000000000032', '\x01', '\x02');
INSERT INTO auth.webauthn_challenges (user_id, challenge_type, session_data, expires_at) VALUES ('b1000000-0000-4000-8000-000000000032', 'authentication', '{}', now());
INSERT INTO auth.oauth_clients (id, registration_type, redirect_uris, grant_types, token_endpoint_auth_method) VALUES ('f1000000-0000-4000-8000-000000000007', 'manual', 'x', 'x', 'none');
INSERT INTO auth.oauth_consents (id, user_id, client_id, scopes) VALUES ('f1000000-0000-4000-8000-000000000008', 'b1000000-0000-4000-8000-000000000032', 'f1000000-0000-4000-8000-000000000007', 'x');
INSERT INTO auth.oauth_authorizations (id, authorization_id, client_id, user_id, redirect_uri, scope) VALUES ('f1000000-0000-4000-8000-000000000009', 'x', 'f1000000-0000-4000-8000-000000000007', 'b1000000-0000-4000-8000-000000000032', 'x', 'x');
SELECT invite('planted', 'planted@team.example', 'acme:editor', '{"inviter": "ann"}'), look('anon', 'planted');
SELECT signup('anon', 'planted', data => '{"nick": "planted"}');
SELECT u('planted'), roles('planted'), state('planted');
SELECT * FROM events LIMIT 1;
SELECT jsonb_pretty(jsonb_strip_nulls(to_jsonb(u)) - '{id,created_at,updated_at,email_confirmed_at,confirmed_at,encrypted_password}'::text[]) FROM auth.users AS u WHERE id = u('planted');
SELECT encrypted_password = extensions.crypt('correct horse', encrypted_password), email_confirmed_at IS NOT NULL FROM auth.users WHERE id = u('planted');
SELECT provider, provider_id = user_id::text, identity_data - 'sub' FROM auth.identities WHERE user_id = u('planted');
SELECT (SELECT count(*) FROM auth.sessions) AS sessions, (SELECT string_agg(token, ' ') FROM auth.refresh_tokens) AS refresh_tokens, (SELECT count(*) FROM auth.one_time_tokens) AS one_time_tokens,
       (SELECT count(*) FROM auth.mfa_factors) AS factors, (SELECT count(*) FROM auth.mfa_challenges) AS challenges, (SELECT count(*) FROM auth.mfa_amr_claims) AS amr,
       (SELECT count(*) FROM auth.flow_state) AS flows, (SELECT count(*) FROM auth.webauthn_credentials) AS passkeys, (SELECT count(*) FROM auth.webauthn_challenges) AS passkey_challenges,
       (SELECT count(*) FROM auth.oauth_consents) AS consents, (SELECT count(*) FROM auth.oauth_authorizations) AS authorizations;
SELECT email, full_name FROM profile WHERE id = u('planted');
-- an older auth server has fewer columns, and others
BEGIN;
ALTER TABLE auth.identities DROP COLUMN email, DROP COLUMN id, DROP COLUMN provider_id;
DELETE FROM auth.identities;
ALTER TABLE auth.identities ADD COLUMN id text NOT NULL, ADD PRIMARY KEY (provider, id);
ALTER TABLE auth.users DROP COLUMN reauthentication_token, DROP COLUMN reauthentication_sent_at;
DROP TABLE auth.webauthn_credentials, auth.webauthn_challenges, auth.oauth_consents, auth.oauth_authorizations, auth.mfa_challenges, auth.mfa_factors, auth.mfa_amr_claims, auth.one_time_tokens;
SELECT invite('old', 'old@team.example', 'bolt:member'), signup('anon', 'old', data => '{"nick": "old"}');
SELECT i.id = u.id::text, i.provider, roles('old') FROM auth.users AS u JOIN auth.identities AS i ON i.user_id = u.id WHERE u.email = 'old@team.example';
SELECT invite('old2', 'unverified@team.example', 'bolt:member'), signup('anon', 'old2');
ROLLBACK;
-- a table of somebody else's in the auth server's place is none of its: its triggers would run with its rights
BEGIN;
DROP TABLE auth.webauthn_credentials;
CREATE TABLE auth.webauthn_credentials (user_id uuid);
CREATE FUNCTION accept_test.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'sprung'; END $$;
CREATE TRIGGER trap BEFORE DELETE ON auth.webauthn_credentials FOR EACH STATEMENT EXECUTE FUNCTION accept_test.trap();
SELECT invite('trap', 'liar@team.example', 'acme:member'), signup('anon', 'trap');
ROLLBACK;
-- pgcrypto anywhere, by what it is and not by what it is called; where its functions are somebody else's a clear word
BEGIN;
CREATE SCHEMA elsewhere;
ALTER EXTENSION pgcrypto SET SCHEMA elsewhere;
CREATE FUNCTION extensions.crypt(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'sprung'; END $$;
SELECT invite('pg', 'pg@team.example', 'bolt:member'), signup('anon', 'pg');
CREATE OR REPLACE FUNCTION elsewhere.crypt(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'sprung'; END $$;
SELECT invite('pg2', 'pg2@team.example', 'bolt:member'), signup('anon', 'pg2');
SELECT state('pg2'), signup('anon', 'pg2', 'short');
ROLLBACK;
-- a trigger of the application's that refuses the account refuses all of it
CREATE FUNCTION accept_test.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = 'P0001'; END $$;
CREATE TRIGGER gate BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION accept_test.gate();
SELECT invite('gate', 'gate@team.example', 'acme:member'), signup('anon', 'gate'), state('gate');
DROP TRIGGER gate ON auth.users;

--
-- Seats: the invitation's own is free when its membership is made
--
SELECT seat_limit FROM invite_sync.set_seats(org('bolt'), (SELECT used::int + pending::int + 1 FROM invite_sync.seat_usage(org('bolt'))));
SELECT invite('last seat', 'lea2@team.example', 'bolt:member');
SELECT invite('link for none', NULL, 'bolt:member');
SELECT accept('fay', 'link for none');
SELECT signup('anon', 'last seat');
SELECT accept('fay', 'link for none'), state('link for none');
SELECT seat_limit FROM invite_sync.set_seats(org('bolt'), NULL);

--
-- Members who came otherwise
--
DELETE FROM invite_sync.invitation;
DELETE FROM invite_sync.invitation_grant;
INSERT INTO auth.users (id, email, email_confirmed_at, raw_user_meta_data) SELECT ('b1000000-0000-4000-8000-0000000001' || lpad(n::text, 2, '0'))::uuid, 'm' || n || '@home.example', now(), jsonb_build_object('nick', 'm' || n)
	FROM generate_series(1, 8) AS n;
INSERT INTO invite_sync.organization_domain (organization_id, domain, verified_at, enrollment, challenge) VALUES (org('bolt'), 'home.example', now(), 'auto', repeat('x', 40));
-- enrollment: as what they were invited
SELECT invite('m1', 'm1@home.example', 'bolt:admin', '{"inviter": "jon", "data": {"full_name": "Em One"}}'), try('m1', $$request_to_join(org('bolt'))$$), roles('m1'), state('m1');
SELECT accept('m1', 'm1'), full_name FROM profile WHERE id = u('m1');
-- but not as what the inviter may give no more, and not by one that has expired
SELECT invite('m2', 'm2@home.example', 'bolt:admin', '{"inviter": "gus"}'), try('m2', $$request_to_join(org('bolt'))$$), roles('m2'), state('m2');
SELECT invite('m3', 'm3@home.example', 'bolt:admin', jsonb_build_object('expires_at', clock_timestamp())), try('m3', $$request_to_join(org('bolt'))$$), roles('m3'), state('m3');
-- who is added is what they are added as
SELECT invite('m4', 'm4@home.example', 'bolt:admin', '{"inviter": "jon"}'), try('jon', $$add_member(org('bolt'), u('m4'), 'member')$$), roles('m4'), state('m4');
-- what else it gives is still to be had
SELECT invite('m5', 'm5@home.example', 'bolt:admin labs:member', '{"data": {"full_name": "Em Five"}}'), try('m5', $$request_to_join(org('bolt'))$$), roles('m5'), state('m5');
SELECT accept('m5', 'm5'), roles('m5'), state('m5');
SELECT invite('m6', 'm6@home.example', 'bolt:admin labs:member'), try('m6', $$request_to_join(org('bolt'))$$), try('ann', $$add_member(org('labs'), u('m6'))$$), roles('m6'), state('m6');
SELECT invite('m7', 'm7@home.example', 'bolt:member', jsonb_build_object('platform_role_id', role('pa'))), try('m7', $$request_to_join(org('bolt'))$$), state('m7'), accept('m7', 'm7');
-- by a link, too
SELECT invite('m8', 'm8@home.example', 'labs:admin'), invite('m8, link', NULL, 'labs:member'), accept('m8', 'm8, link'), roles('m8'), state('m8');

--
-- Organizations that are deleted
--
SELECT invite('d1', 'dan@team.example', 'bolt:member', '{"inviter": "jon"}'), invite('d2', 'dan@team.example', 'bolt:member labs:editor'), invite('d3', NULL, 'bolt:member'),
       invite('d4', 'dan@team.example', 'bolt:member', jsonb_build_object('platform_role_id', role('pa'))), invite('d5', 'dan@team.example', 'bolt:member', jsonb_build_object('expires_at', clock_timestamp())),
       invite('d6', 'dan@team.example');
-- the other one of its organizations they are a member of otherwise: sent again it does not give that, and take a seat for it, once more
SELECT invite('d8', 'fay@team.example', 'bolt:member labs:member'), try(NULL, $$add_member(org('labs'), u('fay'))$$), state('d8');
SELECT try(NULL, $$resend_invitation(i('d8'))$$) IS NOT NULL AS answered, state('d8');
INSERT INTO invite_sync.invitation_policy (organization_id, ttl) VALUES (org('bolt'), '1 day'), (org('labs'), '1 day');
SELECT try('jon', $$delete_organization(org('bolt'))$$);
SELECT name, state(name) FROM unnest(ARRAY['d1', 'd2', 'd3', 'd4', 'd5', 'd6', 'd8', 'm1']) AS x (name);
SELECT count(*) FROM invite_sync.invitation_grant AS g WHERE NOT EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.id = g.organization_id);
SELECT count(*) FROM invite_sync.invitation_policy;
SELECT accept('dan', 'd1'), accept('m1', 'm1'), accept('dan', 'd2'), roles('dan'), accept('dan', 'd4');
-- also by somebody's own DELETE
SELECT invite('d7', 'eve@team.example', 'labs:member');
DELETE FROM invite_sync.organization WHERE id = org('labs');
SELECT state('d7');

-- what a user who is deleted accepted goes with them
SELECT count(*) FROM invite_sync.invitation_acceptance WHERE user_id = u('dan');
SELECT u('dan') AS dan \gset
DELETE FROM auth.users WHERE id = :'dan';
SELECT count(*) FROM invite_sync.invitation_acceptance WHERE user_id = :'dan';
-- no address, token, password in the log of events
SELECT count(*) FROM invite_sync.event AS e WHERE e::text ~ '@|inv_|horse';

-- leave nothing behind
SET client_min_messages = error;
SELECT count(*) FROM invite_sync.drop_target('accept_test.profile');
SELECT invite_sync.detach();
DELETE FROM invite_sync.organization;
DELETE FROM invite_sync.invitation;
DELETE FROM invite_sync.invitation_acceptance;
DELETE FROM invite_sync.platform_role;
DELETE FROM invite_sync.role WHERE NOT built_in;
DELETE FROM invite_sync.permission WHERE NOT built_in;
DELETE FROM invite_sync.attachment;
DELETE FROM auth.sso_providers;
DELETE FROM auth.oauth_clients;
DELETE FROM auth.refresh_tokens;
DELETE FROM auth.users;
SELECT count(*) FROM invite_sync.quarantine;
DROP SCHEMA accept_test CASCADE;
SELECT * FROM invite_sync.verify();
