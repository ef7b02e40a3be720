--
-- Accounts made and imported, and people who come from another provider.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA account_test;
SET search_path = public, account_test, extensions;
\pset null (null)

CREATE FUNCTION account_test.u(address text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT id FROM auth.users WHERE email = $1 || '@account.example' $$;
-- Calls a function of ours as somebody and tells the answer without ids and times, or the refusal. who: NULL a service, anon,
-- user:ADDRESS a session of the auth server, sub:ID a session of another provider.
CREATE FUNCTION account_test.try(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
	state text;
BEGIN
	IF who = 'anon' THEN
		PERFORM set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('role', 'anon', true);
	ELSIF who IS NOT NULL THEN
		PERFORM set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub',
			CASE WHEN who LIKE 'user:%' THEN account_test.u(substr(who, 6))::text ELSE substr(who, 5) END)::text, true),
			set_config('role', 'authenticated', true);
	END IF;
	EXECUTE format($f$ SELECT string_agg((SELECT string_agg(e.key || '=' || coalesce(e.value #>> '{}', 'null'), ' ' ORDER BY e.key)
			FROM jsonb_each(CASE jsonb_typeof(to_jsonb(x)) WHEN 'object' THEN to_jsonb(x) ELSE jsonb_build_object('value', x) END) AS e
			WHERE e.key !~ '(_id|_at|^token|^url|^cursor)$' AND e.value <> 'null'), E'\n') FROM invite_sync.%s AS x $f$, call) INTO answer;
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN coalesce('ok ' || answer, 'nothing');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	RETURN concat_ws(' ', state, CASE WHEN state LIKE 'PT%' THEN regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g') ELSE SQLERRM END);
END
$$;
-- What an account looks like to the auth server.
CREATE VIEW account_test.accounts AS
	SELECT split_part(u.email, '@', 1) AS who, u.aud, u.role, u.instance_id = '00000000-0000-0000-0000-000000000000' AS no_instance,
	       CASE WHEN u.encrypted_password ~ '^\$2[aby]\$' THEN left(u.encrypted_password, 7) ELSE left(u.encrypted_password, 14) END AS password,
	       u.email_confirmed_at IS NOT NULL AS confirmed, u.raw_user_meta_data - 'sub' AS meta, u.raw_app_meta_data - 'invite_sync' AS app,
	       (SELECT string_agg(i.provider || (i.provider_id = u.id::text)::text, ',') FROM auth.identities AS i WHERE i.user_id = u.id) AS identities
	  FROM auth.users AS u WHERE u.email LIKE '%@account.example';
CREATE FUNCTION account_test.events(since bigint) RETURNS TABLE (action text, kind text, who text) LANGUAGE sql AS $$
	SELECT e.action, e.kind, split_part(u.email, '@', 1) FROM invite_sync.event AS e LEFT JOIN auth.users AS u ON u.id::text = e.target_id
	 WHERE e.id > since AND e.action LIKE 'account.%' ORDER BY e.id $$;
CREATE FUNCTION account_test.password_is(address text, password text) RETURNS boolean LANGUAGE sql AS $$
	SELECT u.encrypted_password = crypt($2, u.encrypted_password) FROM auth.users AS u WHERE u.id = account_test.u($1) $$;
GRANT USAGE ON SCHEMA account_test TO anon, authenticated;

SELECT coalesce(max(id), 0) AS first FROM invite_sync.event \gset
SELECT role FROM invite_sync.create_role('account_staff', ARRAY['platform.admin']);
SELECT count(invite_sync.create_organization(name, name)) FROM unnest(ARRAY['account-one', 'account-two']) AS x (name);
SELECT count(invite_sync.set_seats(id, 2, 0)) FROM invite_sync.organization WHERE slug = 'account-two';
CREATE FUNCTION account_test.o(slug text) RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1 $$;

--
-- create_user
--
SELECT email, email_confirmed, platform_role, created_at = now() AS now
  FROM invite_sync.create_user(' Ann@Account.Example ', 'correct horse', 'Ann A', 'Boss', '{"locale": "de", "full_name": "Ann B"}', 'account_staff');
SELECT try(NULL, call) FROM unnest(ARRAY[
	'create_user(''ben@account.example'')',
	'create_user(''cleo@account.example'', ''correct horse'', email_confirmed => false)',
	'create_user(''ANN@account.example'', ''another one'')',
	'create_user(''cleo@account.example'', ''another one'')',
	'create_user(''no address'', ''correct horse'')',
	'create_user(NULL, ''correct horse'')',
	'create_user(''dan@account.example'', ''short'')',
	'create_user(''dan@account.example'', repeat(''x'', 73))',
	'create_user(''dan@account.example'', platform_role => ''no_such_role'')',
	'create_user(''dan@account.example'', data => ''{"role": "admin"}'')',
	'create_user(''dan@account.example'', data => ''{"email_verified": true}'')',
	'create_user(''dan@account.example'', data => ''[]'')',
	'create_user(''dan@account.example'', data => NULL, email_confirmed => NULL)']) AS x (call);
SELECT try(who, 'create_user(''eve@account.example'', ''correct horse'')') FROM unnest(ARRAY['anon', 'user:ann', 'sub:nobody']) AS x (who);
SELECT * FROM accounts ORDER BY who;
SELECT password_is('ann', 'correct horse') AS right, password_is('ann', 'another one') AS wrong;
-- what the server reads into strings is never NULL
SELECT count(*) FROM auth.users WHERE email LIKE '%@account.example' AND (confirmation_token IS NULL OR recovery_token IS NULL OR email_change IS NULL
	OR email_change_token_new IS NULL OR email_change_token_current IS NULL OR phone_change IS NULL OR phone_change_token IS NULL OR reauthentication_token IS NULL);
SELECT r.name FROM invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id WHERE p.user_id = u('ann');
SELECT * FROM events(:first);
SELECT coalesce(max(id), 0) AS first FROM invite_sync.event \gset

--
-- import_users
--
CREATE FUNCTION account_test.import(VARIADIC users jsonb[]) RETURNS TABLE (n int, who text, status text, migrated boolean, reason text, message text) LANGUAGE sql AS $$
	SELECT i.n, i.email || CASE WHEN i.user_id IS NOT NULL AND i.user_id <> u(split_part(lower(i.email), '@', 1)) THEN ' (another user)' ELSE '' END,
	       i.status, i.migrated, i.reason, i.message FROM invite_sync.import_users(to_jsonb(users)) AS i ORDER BY i.n $$;
SELECT * FROM import(
	'{"email": "Ida@account.example", "provider": "clerk", "external_id": "user_ida", "full_name": "Ida I", "job_title": "CTO", "data": {"locale": "fr"}, "user_since": "2020-02-03T04:05:06Z", "platform_role": "account_staff"}',
	'{"email": "jan@account.example", "password_digest": "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "provider": "clerk", "external_id": "user_jan"}',
	'{"email": "kim@account.example", "password_digest": "$argon2id$v=19$m=32,t=3,p=2$SFVpOWJ0eXhjRzVkdGN1RQ$RXnb8rh7LaDcn07xsssqqulZYXOM/EUCEFMVcAcyYVk"}',
	'{"email": "ann@account.example", "password_digest": "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "platform_role": "member", "provider": "clerk", "external_id": "user_ann"}',
	'{"email": "placeholder@account.example", "provider": "clerk", "external_id": "invited_1"}',
	'{"email": "leo@account.example", "email_confirmed": false, "password_digest": null, "grants": null}');
SELECT * FROM accounts WHERE who IN ('ann', 'ida', 'jan', 'kim', 'leo', 'placeholder') ORDER BY who;
SELECT r.name FROM invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id WHERE p.user_id IN (u('ann'), u('ida'));
-- undone: the log of quotas is another test's
BEGIN;
SELECT * FROM import('{"email": "quota@account.example", "quota_granted": 12}');
SELECT granted, used FROM invite_sync.user_invitation_quota WHERE user_id = u('quota');
ROLLBACK;
SELECT provider, external_id, email, user_id IS NOT NULL AS linked, user_since AT TIME ZONE 'UTC' AS user_since, migrated_at IS NOT NULL AS migrated
  FROM invite_sync.external_user ORDER BY external_id;
-- the same again
SELECT * FROM import(
	'{"email": "ida@account.example", "provider": "clerk", "external_id": "user_ida", "full_name": "Another", "quota_granted": 99}',
	'{"email": "jan@account.example", "provider": "clerk", "external_id": "user_jan"}',
	'{"email": "other@account.example", "provider": "clerk", "external_id": "user_jan"}',
	'{"email": "kim@account.example"}', '{"email": "placeholder@account.example", "provider": "clerk", "external_id": "invited_1"}',
	'{"email": "mia@account.example", "provider": "clerk", "external_id": "user_mia"}', '{"email": "mia@account.example", "provider": "clerk", "external_id": "user_mia"}');
SELECT raw_user_meta_data->>'full_name' AS name, (SELECT count(*) FROM invite_sync.user_invitation_quota AS q WHERE q.user_id = u.id) AS quota FROM auth.users AS u WHERE u.id = u('ida');
-- an address that somebody has written in other letters
INSERT INTO auth.users (id, instance_id, email) VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'BIG@account.example');
SELECT status, reason FROM import('{"email": "big@account.example"}');
DELETE FROM auth.users WHERE email = 'BIG@account.example';
-- memberships take seats: there are two, and three want one
SELECT * FROM import(
	jsonb_build_object('email', 'nia@account.example', 'grants', jsonb_build_array(jsonb_build_object('organization_id', o('account-one'), 'role', 'admin'), jsonb_build_object('organization_id', o('account-two')))),
	jsonb_build_object('email', 'ole@account.example', 'grants', jsonb_build_array(jsonb_build_object('organization_id', o('account-two')))),
	jsonb_build_object('email', 'pia@account.example', 'grants', jsonb_build_array(jsonb_build_object('organization_id', o('account-one')), jsonb_build_object('organization_id', o('account-two')))),
	jsonb_build_object('email', 'quin@account.example', 'grants', jsonb_build_array(jsonb_build_object('organization_id', gen_random_uuid()))),
	jsonb_build_object('email', 'rob@account.example', 'grants', jsonb_build_array(jsonb_build_object('organization_id', o('account-one'), 'role', 'no_such_role'))));
SELECT split_part(x.email, '@', 1) AS who, o.slug, r.name FROM invite_sync.membership AS m JOIN invite_sync.organization AS o ON o.id = m.organization_id JOIN invite_sync.role AS r ON r.id = m.role_id
  JOIN auth.users AS x ON x.id = m.user_id WHERE o.slug LIKE 'account-%' ORDER BY 1, 2;
SELECT count(*) FROM auth.users WHERE email ~ '^(pia|quin|rob|other|placeholder)@account.example';
-- what is refused, and why
SELECT * FROM import('1', '[]', 'null', '{}', '{"email": 1}', '{"email": "x@account"}', '{"email": "x@account.example", "aud": "admin"}', '{"email": "x@account.example", "role": "supabase_admin"}',
	'{"email": "x@account.example", "email_confirmed": "yes"}', '{"email": "x@account.example", "provider": "clerk"}', '{"email": "x@account.example", "external_id": "user_x"}',
	'{"email": "x@account.example", "provider": "Clerk", "external_id": "user_x"}', '{"email": "x@account.example", "provider": "clerk", "external_id": ""}',
	'{"email": "x@account.example", "user_since": "yesterdayish"}', '{"email": "x@account.example", "user_since": "infinity"}', '{"email": "x@account.example", "data": "x"}', '{"email": "x@account.example", "data": {"sub": "x"}}',
	'{"email": "x@account.example", "quota_granted": -1}', '{"email": "x@account.example", "quota_granted": 1.5}', '{"email": "x@account.example", "quota_granted": 3000000000}',
	'{"email": "x@account.example", "grants": {}}', '{"email": "x@account.example", "platform_role": "no_such_role"}', '{"email": "x@account.example", "password_digest": "secret"}');
SELECT try(NULL, call) FROM unnest(ARRAY['import_users(NULL)', 'import_users(''{}'')', 'import_users(''1'')', 'import_users(''[]'')',
	'import_users((SELECT jsonb_agg(n) FROM generate_series(1, 1001) AS n))']) AS x (call);
SELECT try(who, 'import_users(''[{"email": "x@account.example"}]'')') FROM unnest(ARRAY['anon', 'user:ann', 'sub:user_ida']) AS x (who);
SELECT count(*) FROM auth.users WHERE email = 'x@account.example';

-- Which digests are taken: each alone, undone.
CREATE FUNCTION account_test.digest(digest text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SELECT coalesce(i.status, i.message) INTO answer FROM invite_sync.import_users(jsonb_build_array(jsonb_build_object('email', 'digest@account.example', 'password_digest', digest))) AS i;
	RAISE EXCEPTION SQLSTATE 'XX999' USING MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'XX999' THEN
	RETURN SQLERRM;
END
$$;
\set b53 'N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy'
\set salt 'SFVpOWJ0eXhjRzVkdGN1RQ'
\set hash 'RXnb8rh7LaDcn07xsssqqulZYXOM/EUCEFMVcAcyYVk'
\set key 'ou9tdYTGyYm8kuR6Dt0Bp0kDuAYoXrK16mbZO4yGwAn3oLspjnN0/c41v8xZnO1n14J3MjKj1b2g6AUCAlFwMw=='
\set fb 'C0sHCg9ek77hsg==$zKVTMvnWVw5BBOZNUdnsalx4c4c7y/w7IS5p6Ut2+CfEFFlz37J9huyQfov4iizN8dbjvEJlM5tQaJP84+hfTw=='
SELECT left(d, 48) AS digest, digest(d) FROM unnest(ARRAY['$2a$04$' || :'b53', '$2b$14$' || :'b53', '$2y$12$' || :'b53', '$2x$10$' || :'b53', '$2$10$' || :'b53', '$1a$10$' || :'b53', '$2b$03$' || :'b53', '$2b$15$' || :'b53',
	'$2b$31$' || :'b53', '$2b$+9$' || :'b53', '$2b$10$' || :'b53' || 'x', left('$2b$10$' || :'b53', 59), '$2b$10$' || replace(:'b53', 'N', '+'), '']) AS x (d);
SELECT left(replace(d, :'hash', 'HASH'), 70) AS digest, digest(d) FROM (SELECT '$argon2id$v=19$m=32,t=3,p=2$' || :'salt' || '$' || :'hash' AS good) AS g, unnest(ARRAY[good, replace(good, '2id', '2i'), replace(good, '2id', '2d'), replace(good, 'v=19', 'v=16'),
	replace(good, 'm=32', 'm=262144'), replace(good, 'm=32', 'm=262145'), replace(good, 'm=32', 'm=0'), replace(good, 'm=32', 'm=1048576'), replace(good, 'm=32', 'm=4294967328'), replace(good, 't=3', 't=10'), replace(good, 't=3', 't=11'),
	replace(good, 't=3', 't=0'), replace(good, 'p=2', 'p=16'), replace(good, 'p=2', 'p=17'), replace(good, 'p=2', 'p=0'), replace(good, 'p=2', 'p=2,keyid=abc'), replace(good, 'p=2', 'p=2,data=abc'), replace(good, 'p=2', 'p=02'),
	replace(good, :'salt', ''), replace(good, :'salt', 'SFVpOWJ0'), replace(good, :'salt', '!!!'), good || '=', replace(good, :'hash', ''), replace(good, :'hash', left(:'hash', 20)), replace(good, :'hash', repeat(:'hash', 5)), good || '$x']) AS x (d);
SELECT replace(replace(d, :'key', 'KEY'), :'fb', 'FB') AS digest, digest(d) FROM (SELECT '$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=' || :'key' || '$' || :'fb' AS good) AS g, unnest(ARRAY[good, replace(good, ',ss=Bw==', ''), replace(good, 'v=1', 'v=2'),
	replace(good, 'n=14', 'n=15'), replace(good, 'n=14', 'n=0'), replace(good, 'r=8', 'r=9'), replace(good, 'r=8', 'r=0'), replace(good, 'p=1', 'p=4'), replace(good, 'p=1', 'p=5'), replace(good, 'p=1', 'p=0'), replace(good, ',ss=Bw==', ',ss=Bw='),
	replace(good, ',sk=' || :'key', ''), replace(good, ',sk=' || :'key', ',sk='), replace(good, 'zKVT', ''), replace(good, 'C0sH', '!!!!'), good || 'x', left(good, -2)]) AS x (d);
SELECT * FROM events(:first) ORDER BY 3, 1;
SELECT coalesce(max(id), 0) AS first FROM invite_sync.event \gset

-- through a function of a superuser's the caller is who they were
CREATE FUNCTION account_test.wrapped(call text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE 'SELECT FROM invite_sync.' || call;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || detail;
END
$$;
CREATE FUNCTION account_test.wrapped_as(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', jsonb_build_object('role', who, 'sub', account_test.u('ann'))::text, true), set_config('role', who, true);
	answer := account_test.wrapped(call);
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN answer;
END
$$;
SELECT who, wrapped_as(who, call) FROM unnest(ARRAY['anon', 'authenticated']) AS w (who), unnest(ARRAY['create_user(''eve@account.example'')', 'import_users(''[]'')', 'migration_status()', 'unmigrated_users()',
	'set_migration_policy(''off'')', 'complete_migration(''clerk'', ''user_ida'', ''correct horse'')', 'create_migration_invitation(''clerk'', ''user_ida'')',
	format('link_external_user(''clerk'', ''user_x'', %L)', u('ann'))]) AS x (call);

--
-- A session of the other provider is that of the user here
--
SELECT try(who, 'whoami()') FROM unnest(ARRAY['sub:user_ida', 'user:ida', 'sub:user_unknown', 'sub:invited_1', 'sub:USER_IDA', 'sub:']) AS x (who);
SELECT try('sub:user_ida', 'check_migration()'), try('sub:user_jan', 'check_migration()'), try('user:ann', 'check_migration()');
BEGIN;
SELECT count(set_config('request.jwt.claims', '{"role": "authenticated", "sub": "user_ida"}', true)), count(set_config('role', 'authenticated', true));
SELECT invite_sync.current_user_id() = u('ida') AS ida;
SELECT invite_sync.current_user_id() = u('ida') AS ida, set_config('request.jwt.claims', '{"role": "authenticated", "sub": "user_jan"}', true) IS NULL AS x, invite_sync.current_user_id() = u('jan') AS jan;
-- the legacy setting
SELECT set_config('request.jwt.claims', '', true), set_config('request.jwt.claim.sub', 'user_jan', true);
SELECT invite_sync.current_user_id() = u('jan') AS jan;
ROLLBACK;
-- in the same statement and transaction the answer follows the table
BEGIN;
SELECT count(set_config('request.jwt.claims', '{"role": "authenticated", "sub": "user_late"}', true));
SET LOCAL ROLE authenticated;
SELECT invite_sync.current_user_id();
RESET ROLE;
INSERT INTO invite_sync.external_user (id, provider, external_id, user_id) VALUES (gen_random_uuid(), 'clerk', 'user_late', u('leo'));
SET LOCAL ROLE authenticated;
SELECT invite_sync.current_user_id() = u('leo') AS leo;
RESET ROLE;
-- an id that two providers have is nobody's
INSERT INTO invite_sync.external_user (id, provider, external_id, user_id) VALUES (gen_random_uuid(), 'auth0', 'user_late', u('leo'));
SET LOCAL ROLE authenticated;
SELECT invite_sync.current_user_id();
ROLLBACK;
-- claims that say more than who: nothing but the service's own role is the service's
BEGIN;
SELECT count(set_config('request.jwt.claims', '{"role": "service_role", "sub": "user_ida"}', true));
SET LOCAL ROLE authenticated;
SELECT invite_sync.current_user_id();
ROLLBACK;
-- in parallel workers, which look it up for themselves
CREATE TABLE account_test.many AS SELECT u('ida') AS id FROM generate_series(1, 20000);
GRANT SELECT ON account_test.many TO authenticated;
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 2;
SELECT count(set_config('request.jwt.claims', '{"role": "authenticated", "sub": "user_ida"}', true));
SET LOCAL ROLE authenticated;
EXPLAIN (COSTS OFF) SELECT count(*) FROM account_test.many WHERE id = invite_sync.current_user_id();
SELECT count(*) FROM account_test.many WHERE id = invite_sync.current_user_id();
ROLLBACK;
-- the longest id there is, and a longer one that begins with it
BEGIN;
INSERT INTO invite_sync.external_user (id, provider, external_id, user_id) VALUES (gen_random_uuid(), 'clerk', repeat('x', 255), u('leo'));
SELECT try('sub:' || repeat('x', n), 'check_migration()') FROM unnest(ARRAY[255, 256, 254]) AS n;
ROLLBACK;

--
-- The policy
--
SELECT * FROM invite_sync.migration_status() \gset before_
SELECT :before_migrated AS migrated, :before_unmigrated AS unmigrated, :before_total_external = :before_migrated + :before_unmigrated AS total,
	:before_total_auth = (SELECT count(*) FROM auth.users WHERE deleted_at IS NULL) AS auth,
	:before_total_active = (SELECT count(*) FROM auth.users WHERE deleted_at IS NULL AND NOT is_anonymous AND coalesce(banned_until <= now(), true)) AS active;
SELECT provider, external_id, user_id = u(split_part(email, '@', 1)) AS right_user, email, name, role, user_since AT TIME ZONE 'UTC' = '2020-02-03 04:05:06' AS since FROM invite_sync.unmigrated_users();
-- page by page
SELECT external_id FROM invite_sync.unmigrated_users(page_size => 1);
SELECT external_id FROM invite_sync.unmigrated_users((SELECT cursor FROM invite_sync.unmigrated_users(page_size => 1)), 1);
SELECT count(*) FROM invite_sync.unmigrated_users((SELECT max(cursor) FROM invite_sync.unmigrated_users()));
SELECT try(NULL, call) FROM unnest(ARRAY['unmigrated_users(''x'')', 'unmigrated_users(page_size => 0)']) AS x (call);
SELECT try(who, call) FROM unnest(ARRAY['user:ann', 'anon']) AS x (who), unnest(ARRAY['migration_status()', 'unmigrated_users()', 'set_migration_policy(''off'')']) AS y (call);
SELECT try(who, call) FROM unnest(ARRAY['anon', NULL]) AS x (who), unnest(ARRAY['check_migration()', 'require_migrated()']) AS y (call);
SET client_min_messages = notice;
SELECT * FROM invite_sync.set_migration_policy('remind', '2031-02-03 04:05:06+00') AS s (mode, deadline) WHERE deadline = '2031-02-03 04:05:06+00';
SELECT mode FROM invite_sync.set_migration_policy('remind', '2031-02-03 04:05:06+00');
SET client_min_messages = warning;
SELECT c.line FROM (SELECT unnest(string_to_array(invite_sync.config_sql(), E'\n'))) AS c (line) WHERE line ~ 'migration';
SELECT try(NULL, call) FROM unnest(ARRAY['set_migration_policy(NULL)', 'set_migration_policy(''on'')']) AS x (call);
SELECT try(who, 'require_migrated()') FROM unnest(ARRAY['sub:user_ida', 'sub:user_jan', 'user:ann']) AS x (who);
SELECT mode FROM invite_sync.set_migration_policy('remind');
SELECT try('sub:user_ida', 'require_migrated()');
SELECT mode FROM invite_sync.set_migration_policy('enforce', '2031-02-03 04:05:06+00');
SELECT try(who, 'require_migrated()') FROM unnest(ARRAY['sub:user_ida', 'sub:user_jan', 'user:ann']) AS x (who);
SELECT mode FROM invite_sync.set_migration_policy('enforce');
SELECT try(who, 'require_migrated()') FROM unnest(ARRAY['sub:user_ida', 'user:ida', 'sub:user_jan', 'user:ann', 'sub:nobody']) AS x (who);
SELECT try('sub:user_ida', 'check_migration()');
BEGIN READ ONLY;
SELECT try('sub:user_ida', 'check_migration()'), (SELECT count(*) FROM invite_sync.unmigrated_users()), (SELECT migrated FROM invite_sync.migration_status());
ROLLBACK;

--
-- complete_migration
--
SELECT try(NULL, format('complete_migration(%L, %L, %L)', provider, id, password)) FROM (VALUES ('clerk', 'user_ida', 'short'), ('clerk', 'user_none', 'correct horse'), ('auth0', 'user_ida', 'correct horse'),
	('clerk', 'invited_1', 'correct horse'), ('clerk', 'user_jan', 'correct horse'), ('Clerk', 'user_ida', 'correct horse'), (NULL, 'user_ida', 'correct horse'), ('clerk', 'user_ida', NULL)) AS x (provider, id, password);
SELECT try(who, 'complete_migration(''clerk'', ''user_ida'', ''correct horse'')') FROM unnest(ARRAY['anon', 'user:ida', 'sub:user_ida', NULL, NULL]) AS x (who);
SELECT password_is('ida', 'correct horse'), try('sub:user_ida', 'require_migrated()');
-- who has set a password by recovery keeps it, but not one for an address that nobody has confirmed
UPDATE auth.users SET encrypted_password = crypt('my own one', gen_salt('bf', 4)) WHERE id = u('mia');
SELECT try(NULL, 'complete_migration(''clerk'', ''user_mia'', ''correct horse'')'), password_is('mia', 'my own one');
SELECT status FROM import('{"email": "sam@account.example", "provider": "clerk", "external_id": "user_sam", "email_confirmed": false}', '{"email": "tom@account.example", "provider": "clerk", "external_id": "user_tom"}',
	'{"email": "uma@account.example", "provider": "clerk", "external_id": "user_uma"}', '{"email": "vic@account.example", "provider": "clerk", "external_id": "user_vic", "email_confirmed": false}');
UPDATE auth.users SET encrypted_password = crypt('a stranger''s', gen_salt('bf', 4)) WHERE id IN (u('sam'), u('vic'));
SELECT try(NULL, 'complete_migration(''clerk'', ''user_sam'', ''correct horse'')'), password_is('sam', 'correct horse'), (SELECT email_confirmed_at FROM auth.users WHERE id = u('sam'));
UPDATE auth.users SET banned_until = 'infinity' WHERE id = u('tom');
SELECT try(NULL, 'complete_migration(''clerk'', ''user_tom'', ''correct horse'')'), try(NULL, 'create_migration_invitation(''clerk'', ''user_tom'')'), try('sub:user_tom', 'check_migration()');
UPDATE auth.users SET banned_until = NULL WHERE id = u('tom');

--
-- complete_migration_by_token
--
CREATE TABLE account_test.token AS SELECT 'first' AS name, i.* FROM invite_sync.create_migration_invitation('clerk', 'user_tom', '1 hour') AS i;
SELECT email, status, reused, skipped, token ~ '^inv_' AS token, expires_at - now() BETWEEN '59 minutes' AND '61 minutes' AS an_hour FROM token;
INSERT INTO token SELECT 'second', i.* FROM invite_sync.create_migration_invitation('clerk', 'user_tom') AS i;
INSERT INTO token SELECT 'vic', i.* FROM invite_sync.create_migration_invitation('clerk', 'user_vic') AS i;
INSERT INTO token SELECT 'uma', i.* FROM invite_sync.create_migration_invitation('clerk', 'user_uma') AS i;
INSERT INTO token SELECT 'invitation', i.* FROM invite_sync.create_invitation('tom@account.example', platform_role => 'member') AS i;
INSERT INTO token (name, token) VALUES ('none', 'inv_nonsense');
SELECT i.purpose, i.status, i.proves_email, i.alone, count(*) FROM invite_sync.invitation AS i WHERE i.purpose = 'migration' GROUP BY 1, 2, 3, 4 ORDER BY 2;
SELECT name, try('anon', format('complete_migration_by_token(%L, ''correct horse'')', token)) FROM token WHERE name NOT IN ('second', 'vic', 'uma') ORDER BY name;
SELECT try('anon', format('complete_migration_by_token(%L, ''short'')', token)) FROM token WHERE name = 'second';
SELECT try(NULL, call) FROM unnest(ARRAY['create_migration_invitation(''clerk'', ''user_none'')', 'create_migration_invitation(''clerk'', ''user_jan'')', 'create_migration_invitation(''clerk'', ''user_tom'', ''1 minute'')',
	'complete_migration_by_token(NULL, ''correct horse'')']) AS x (call);
SELECT try(who, 'create_migration_invitation(''clerk'', ''user_tom'')') FROM unnest(ARRAY['anon', 'user:tom', 'sub:user_tom']) AS x (who);
-- nothing else takes it
SELECT try('user:tom', format('accept_invitation(%L)', token)), try('anon', format('signup_with_invitation(%L, ''correct horse'')', token)) FROM token WHERE name = 'second';
-- once
SELECT who, try(who, format('complete_migration_by_token(%L, ''correct horse'')', token)) FROM token, unnest(ARRAY['sub:user_tom', 'anon']) AS x (who) WHERE name = 'second';
SELECT password_is('tom', 'correct horse'), try('user:tom', 'check_migration()');
-- the token confirms the address, and what a stranger set for it goes
SELECT try('anon', format('complete_migration_by_token(%L, ''correct horse'')', token)) FROM token WHERE name = 'vic';
SELECT password_is('vic', 'correct horse'), email_confirmed_at IS NOT NULL AS confirmed FROM auth.users WHERE id = u('vic');
-- the address has changed meanwhile; the service was faster
UPDATE auth.users SET email = 'una@account.example' WHERE id = u('uma');
SELECT try('anon', format('complete_migration_by_token(%L, ''correct horse'')', token)) FROM token WHERE name = 'uma';
UPDATE auth.users SET email = 'uma@account.example' WHERE id = u('una');
SELECT try(NULL, 'complete_migration(''clerk'', ''user_uma'', ''correct horse'')');
SELECT try('anon', format('complete_migration_by_token(%L, ''another one'')', token)), password_is('uma', 'correct horse') FROM token WHERE name = 'uma';
-- an expired one
SELECT status FROM import('{"email": "wim@account.example", "provider": "clerk", "external_id": "user_wim"}');
INSERT INTO token SELECT 'wim', i.* FROM invite_sync.create_migration_invitation('clerk', 'user_wim') AS i;
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() WHERE email = 'wim@account.example';
SELECT try('anon', format('complete_migration_by_token(%L, ''correct horse'')', token)) FROM token WHERE name = 'wim';
-- one that does not prove the mailbox
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() + interval '1 hour', proves_email = false WHERE email = 'wim@account.example';
SELECT try('anon', format('complete_migration_by_token(%L, ''correct horse'')', token)) FROM token WHERE name = 'wim';

--
-- link_external_user
--
SELECT try(NULL, format('link_external_user(%L, %L, %L)', 'clerk', id, who)) FROM (VALUES ('user_ann', u('ann')), ('user_ann', u('ann')), ('user_ann', u('ben')), ('user_ida', u('ann')), ('invited_1', u('ben')),
	('user_new', gen_random_uuid()), ('user_new', NULL)) AS x (id, who);
-- who signs in here already has migrated
SELECT status FROM import('{"email": "zoe@account.example", "provider": "clerk", "external_id": "user_zoe"}');
SELECT try('user:zoe', 'check_migration()'), try(NULL, format('link_external_user(''clerk'', ''user_zoe'', %L)', u('zoe')));
SELECT try('user:zoe', 'check_migration()');
SELECT try('sub:user_ann', 'check_migration()'), try('user:ann', format('link_external_user(''clerk'', ''user_x'', %L)', u('ann')));

--
-- Users who go take it with them
--
SELECT invite_sync.attach() IS NOT NULL AS attached;
DELETE FROM auth.users WHERE id = u('ida');
UPDATE auth.users SET deleted_at = now() WHERE id = u('mia');
SELECT external_id FROM invite_sync.external_user WHERE external_id IN ('user_ida', 'user_mia', 'user_jan');
SELECT try('sub:user_ida', 'check_migration()');
-- while the triggers were off: left out at once, and found by verify() and a retry
SELECT invite_sync.detach() IS NOT NULL AS detached;
SELECT unmigrated FROM invite_sync.migration_status();
UPDATE auth.users SET deleted_at = now() WHERE id = u('wim');
SELECT unmigrated, (SELECT count(*) FROM invite_sync.unmigrated_users() WHERE external_id = 'user_wim') AS listed FROM invite_sync.migration_status();
SELECT try('sub:user_wim', 'check_migration()'), try(NULL, 'complete_migration(''clerk'', ''user_wim'', ''correct horse'')');
SELECT severity, finding FROM invite_sync.verify() WHERE area = 'account';
SELECT count(*) >= 0 AS retried FROM invite_sync.retry_quarantine(due_only => false);
SELECT count(*) FROM invite_sync.external_user WHERE external_id = 'user_wim';
SELECT * FROM events(:first) WHERE action <> 'account.imported';

SELECT count(*) >= 0 AS done FROM (SELECT invite_sync.delete_organization(id) FROM invite_sync.organization WHERE slug LIKE 'account-%') AS d;
SELECT invite_sync.attach() IS NOT NULL AS attached;
DELETE FROM auth.users WHERE email LIKE '%@account.example';
SELECT invite_sync.detach() IS NOT NULL AS detached;
DELETE FROM invite_sync.attachment;
DELETE FROM invite_sync.external_user;
DELETE FROM invite_sync.migration_policy;
DELETE FROM invite_sync.invitation WHERE email LIKE '%@account.example';
SELECT role FROM invite_sync.drop_role('account_staff');
SELECT count(*) FROM invite_sync.verify() WHERE area IN ('account', 'invitation', 'quota');
DROP SCHEMA account_test CASCADE;
