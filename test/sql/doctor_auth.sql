--
-- What doctor() says of the auth server's schema, role and settings, and of its rows. What fails for what it says,
-- and that the fix mends it, is test/doctor's to show.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset null (null)
SET client_min_messages = error;
CREATE DATABASE regress_doctor_auth;
\c regress_doctor_auth
\set ECHO none
SET client_min_messages = error;
\i test/fixture/auth_schema.sql
CREATE EXTENSION invite_sync;
\set ECHO all
SET client_min_messages = error;
CREATE VIEW public.said AS SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE severity <> 'info';
CREATE FUNCTION public.judged(settings jsonb) RETURNS TABLE (severity text, object text, finding text, detail text) LANGUAGE sql
	AS $$ SELECT d.severity, d.object, d.finding, d.detail FROM invite_sync.doctor(auth_settings => settings) AS d WHERE d.area = 'setting' $$;

-- ---- nothing to say ----
SELECT severity, area, object, finding, fix FROM invite_sync.doctor();
SET ROLE postgres;
\o /dev/null
SELECT invite_sync.create_standard_tables();
SELECT invite_sync.add_target('public.profiles');
SELECT invite_sync.add_target('public.users');
SELECT invite_sync.add_target('public.user_profiles');
\o
SELECT count(*) FROM invite_sync.doctor() WHERE severity <> 'info';
RESET ROLE;
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new)
	SELECT '00000000-0000-0000-0000-000000000000', ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'authenticated', 'authenticated', 'user' || n || '@auth.example', 'x', '{"provider": "email"}', '{}', now(), now(), '', '', '', '' FROM generate_series(1, 7) AS n;
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
	SELECT id::text, id, jsonb_build_object('sub', id), 'email', now(), now() FROM auth.users;
-- an anonymous user has no identity, a deleted one needs none
INSERT INTO auth.users (instance_id, id, aud, role, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new, is_anonymous)
	VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000009', 'authenticated', 'authenticated', '{}', 'null', now(), now(), '', '', '', '', true);
SELECT * FROM public.said;

-- ---- rows: each of the eight columns, and what else has no word for NULL ----
CREATE TEMP TABLE nulls AS SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = 'auth.users'::regclass AND a.attnum > 0 AND a.attgenerated = '' AND a.attname NOT IN ('id', 'instance_id', 'is_sso_user', 'is_anonymous');
CREATE FUNCTION public.said_of_null(attname name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		EXECUTE format('UPDATE auth.users SET %I = NULL WHERE id = ''00000000-0000-4000-8000-000000000001''', attname);
		SELECT string_agg(concat_ws(': ', d.severity, d.finding), '; ') INTO result FROM invite_sync.doctor() AS d WHERE d.severity <> 'info';
		RAISE SQLSTATE 'ZZ001' USING MESSAGE = coalesce(result, 'nothing');
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
		RETURN SQLERRM;
	END;
END
$$;
SELECT attname, public.said_of_null(attname) FROM nulls ORDER BY attname COLLATE "C";
BEGIN;
UPDATE auth.users SET confirmation_token = NULL, email_change = NULL;
-- the detail names some of them by id, and nobody by address
SELECT detail, fix FROM invite_sync.doctor() WHERE area = 'login';
SELECT fix FROM invite_sync.doctor() WHERE area = 'login' \gexec
SELECT * FROM public.said;
ROLLBACK;

-- the others, two at a time
BEGIN;
UPDATE auth.users SET raw_app_meta_data = '[]', raw_user_meta_data = '"x"' WHERE id = '00000000-0000-4000-8000-000000000001';
UPDATE auth.users SET aud = '', role = '' WHERE id = '00000000-0000-4000-8000-000000000002';
UPDATE auth.users SET email = '', phone = '' WHERE id = '00000000-0000-4000-8000-000000000003';
UPDATE auth.users SET phone = '+15550001', email = 'USER5@auth.example' WHERE id = '00000000-0000-4000-8000-000000000004';
UPDATE auth.users SET banned_until = '20000-01-01', last_sign_in_at = '-infinity' WHERE id = '00000000-0000-4000-8000-000000000006';
UPDATE auth.users SET instance_id = '00000000-0000-4000-8000-000000000007' WHERE id = '00000000-0000-4000-8000-000000000007';
SELECT severity, area, object, finding FROM public.said ORDER BY severity, finding COLLATE "C";
-- metadata that was no object is kept
SELECT fix FROM public.said WHERE fix IS NOT NULL \gexec
SELECT severity, area, object, finding, fix FROM public.said;
SELECT id, aud, role, email, phone, raw_app_meta_data, raw_user_meta_data, banned_until, last_sign_in_at FROM auth.users WHERE id <= '00000000-0000-4000-8000-000000000006' AND id <> '00000000-0000-4000-8000-000000000005' ORDER BY id;
ROLLBACK;
BEGIN;
UPDATE auth.users SET aud = 'elsewhere' WHERE id = '00000000-0000-4000-8000-000000000001';
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'login';
ROLLBACK;
BEGIN;
ALTER TABLE auth.identities ALTER COLUMN provider_id DROP NOT NULL;
UPDATE auth.identities SET provider_id = NULL WHERE user_id = '00000000-0000-4000-8000-000000000001';
UPDATE auth.identities SET identity_data = '[]' WHERE user_id = '00000000-0000-4000-8000-000000000002';
UPDATE auth.identities SET updated_at = NULL, provider = '' WHERE user_id = '00000000-0000-4000-8000-000000000003';
DELETE FROM auth.identities WHERE user_id IN ('00000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-000000000005');
UPDATE auth.users SET raw_app_meta_data = '{"provider": "github"}' WHERE id = '00000000-0000-4000-8000-000000000005';
ALTER TABLE auth.identities DROP CONSTRAINT identities_user_id_fkey;
UPDATE auth.identities SET user_id = '00000000-0000-4000-8000-000000000099' WHERE user_id = '00000000-0000-4000-8000-000000000006';
UPDATE auth.users SET email_confirmed_at = now() WHERE id = '00000000-0000-4000-8000-000000000004';
SELECT severity, area, object, finding FROM public.said ORDER BY severity, finding COLLATE "C";
-- who is not confirmed signs up again, and the auth server makes the identity then
SELECT severity, finding, detail FROM invite_sync.doctor() WHERE severity = 'info' AND area = 'login';
SELECT fix FROM invite_sync.doctor() WHERE finding LIKE 'identities whose user is gone%' \gexec
SELECT fix FROM invite_sync.doctor() WHERE finding LIKE 'users without a row in%' \gexec
SELECT severity, finding FROM invite_sync.doctor() WHERE finding LIKE 'users without a row in%';
ROLLBACK;
-- one question that cannot be asked leaves the others
BEGIN;
ALTER TABLE auth.users ALTER COLUMN raw_user_meta_data TYPE json;
UPDATE auth.users SET phone_change = NULL WHERE id = '00000000-0000-4000-8000-000000000001';
UPDATE auth.users SET aud = '' WHERE id = '00000000-0000-4000-8000-000000000002';
SELECT severity, finding FROM invite_sync.doctor() WHERE area = 'login' ORDER BY finding COLLATE "C";
ROLLBACK;
-- without the index the same address is there twice, also in lower case
BEGIN;
DROP INDEX auth.users_email_partial_key;
UPDATE auth.users SET email = 'user5@auth.example' WHERE id = '00000000-0000-4000-8000-000000000004';
SELECT severity, finding, detail FROM invite_sync.doctor() WHERE area = 'login';
ROLLBACK;

-- ---- the schema ----
-- an auth server that is older, or younger: no fault
BEGIN;
DELETE FROM auth.schema_migrations WHERE version > '20250101000000';
ALTER TABLE auth.sessions DROP COLUMN scopes, DROP COLUMN refresh_token_counter;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'auth';
ROLLBACK;
BEGIN;
INSERT INTO auth.schema_migrations VALUES ('20300101000000');
ALTER TABLE auth.users ADD COLUMN passkey_only boolean NOT NULL DEFAULT false, ADD CONSTRAINT users_later CHECK (passkey_only IS NOT NULL);
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'auth';
ROLLBACK;
-- migrations are behind
BEGIN;
DELETE FROM auth.schema_migrations WHERE version >= '20240214120130';
ALTER TABLE auth.users DROP COLUMN is_anonymous;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'auth' AND severity <> 'info';
ROLLBACK;
BEGIN;
DROP TABLE auth.schema_migrations;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE auth.users DROP COLUMN reauthentication_token, DROP COLUMN is_anonymous, ADD COLUMN nickname text;
ALTER TABLE auth.identities RENAME COLUMN identity_data TO "data; --";
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
DROP TABLE auth.one_time_tokens;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE auth.sessions ALTER COLUMN factor_id TYPE text, ALTER COLUMN ip SET NOT NULL;
ALTER TABLE auth.refresh_tokens ALTER COLUMN token TYPE varchar(12);
SELECT * FROM public.said;
ROLLBACK;
-- constraints and indexes
BEGIN;
UPDATE auth.users SET phone = right(id::text, 4);
ALTER TABLE auth.users ADD CONSTRAINT named CHECK (raw_user_meta_data ? 'full_name') NOT VALID;
ALTER TABLE auth.users ADD COLUMN team uuid REFERENCES public.profiles (id);
CREATE UNIQUE INDEX one_name ON auth.users ((raw_user_meta_data ->> 'full_name'));
CREATE UNIQUE INDEX one_phone ON auth.users (phone, id);
ALTER TABLE auth.users DROP CONSTRAINT users_phone_key, ADD CONSTRAINT users_phone_key UNIQUE NULLS NOT DISTINCT (phone);
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'auth' ORDER BY severity, finding COLLATE "C";
ROLLBACK;
BEGIN;
DROP INDEX auth.users_email_partial_key;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE auth.sessions DROP CONSTRAINT sessions_user_id_fkey;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE auth.identities SET UNLOGGED;
DROP FUNCTION auth.role() CASCADE;
SELECT * FROM public.said;
ROLLBACK;
-- owners and rights
BEGIN;
ALTER TABLE auth.sessions OWNER TO postgres;
ALTER TABLE auth.audit_log_entries OWNER TO postgres;
ALTER TABLE auth.audit_log_entries DISABLE ROW LEVEL SECURITY;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE auth.sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE auth.identities FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON auth.identities TO supabase_auth_admin USING (provider <> 'x');
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
REVOKE CREATE, USAGE ON SCHEMA auth FROM supabase_auth_admin;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
REVOKE UPDATE, DELETE ON auth.sessions FROM supabase_auth_admin;
SELECT * FROM public.said;
ROLLBACK;
-- auth.users belongs to a superuser: what can be said all the same
BEGIN;
ALTER TABLE auth.users OWNER TO supabase_admin;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE object = 'auth.users' AND severity = 'error';
ROLLBACK;

-- ---- the role ----
CREATE FUNCTION public.said_of_setting(setting text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		EXECUTE 'ALTER ROLE supabase_auth_admin SET ' || setting;
		SELECT string_agg(concat_ws(': ', d.severity, d.finding, d.fix), '; ') INTO result FROM invite_sync.doctor() AS d WHERE d.severity <> 'info';
		RAISE SQLSTATE 'ZZ001' USING MESSAGE = coalesce(result, 'nothing');
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
		RETURN SQLERRM;
	END;
END
$$;
SELECT s, public.said_of_setting(s) FROM unnest(ARRAY['statement_timeout = ''1500''', 'statement_timeout = ''1.9 s''', 'statement_timeout = 0', 'statement_timeout = ''2s''', 'statement_timeout = ''1min''',
	'lock_timeout = ''50ms''', 'lock_timeout = ''1s''', 'idle_in_transaction_session_timeout = ''1s''', 'idle_session_timeout = ''2s''',
	'default_transaction_read_only = on', 'default_transaction_read_only = off', 'session_replication_role = replica', 'row_security = off', 'role = postgres', 'role = none',
	'default_transaction_isolation = serializable', 'default_transaction_isolation = ''repeatable read''', 'invite_sync.enabled = off',
	'search_path = auth', 'search_path = auth, public', 'search_path = extensions, auth', 'search_path = public, auth', 'search_path = public', 'search_path = ''''']) AS s;
BEGIN;
ALTER ROLE supabase_auth_admin RESET search_path;
SELECT * FROM public.said;
-- the database's counts for all who have none of their own
ALTER DATABASE regress_doctor_auth SET search_path = public;
SELECT * FROM public.said;
ALTER ROLE supabase_auth_admin IN DATABASE regress_doctor_auth SET search_path = extensions;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER DATABASE regress_doctor_auth SET statement_timeout = '10ms';
SELECT * FROM public.said;
ALTER ROLE supabase_auth_admin SET statement_timeout = '10s';
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER ROLE supabase_auth_admin NOLOGIN CONNECTION LIMIT 0 VALID UNTIL '2001-01-01';
REVOKE CONNECT ON DATABASE regress_doctor_auth FROM PUBLIC, supabase_auth_admin;
SELECT * FROM public.said ORDER BY finding COLLATE "C";
ROLLBACK;

-- ---- our own state ----
BEGIN;
ALTER TABLE public.profiles ADD CONSTRAINT never CHECK (email IS NULL) NOT VALID;
INSERT INTO auth.users (instance_id, id, aud, role, email, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new, is_anonymous)
	VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000010', 'authenticated', 'authenticated', 'quarantined@auth.example', '{}', '{}', now(), now(), '', '', '', '', true);
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
DROP TABLE public.profiles CASCADE;
SELECT * FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE auth.users DISABLE TRIGGER USER;
SELECT severity, object, finding, fix FROM public.said WHERE finding LIKE '%invite_sync%';
SET LOCAL invite_sync.enabled = off;
SELECT severity, object, finding, fix FROM public.said WHERE object = 'invite_sync.enabled';
ROLLBACK;
BEGIN;
\o /dev/null
SELECT invite_sync.detach();
\o
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE object = 'auth.users';
ROLLBACK;

-- ---- the auth server's own settings ----
\set settings '{"external": {"anonymous_users": false, "email": true, "phone": false}, "disable_signup": false, "mailer_autoconfirm": false, "phone_autoconfirm": false, "sms_provider": "", "saml_enabled": false}'
SELECT * FROM public.judged(:'settings');
SELECT * FROM public.judged(:'settings'::jsonb || '{"disable_signup": true, "mailer_autoconfirm": true, "phone_autoconfirm": true, "saml_enabled": true, "external": {"email": false, "phone": true}}');
-- while there are invitations to addresses
INSERT INTO invite_sync.invitation (id, kind, purpose, status, email, shadow, expires_at, closed_at) VALUES
	('00000000-0000-4000-8000-000000000001', 'link', 'invitation', 'pending', NULL, false, now() + interval '1 day', NULL),
	('00000000-0000-4000-8000-000000000002', 'email', 'migration', 'pending', 'a@auth.example', false, now() + interval '1 day', NULL),
	('00000000-0000-4000-8000-000000000003', 'email', 'invitation', 'revoked', 'b@auth.example', false, now() + interval '1 day', now()),
	('00000000-0000-4000-8000-000000000004', 'email', 'invitation', 'pending', 'c@auth.example', true, now() + interval '1 day', NULL),
	('00000000-0000-4000-8000-000000000005', 'email', 'invitation', 'pending', 'd@auth.example', false, now() - interval '1 day', NULL);
SELECT severity, object FROM public.judged('{"disable_signup": true, "mailer_autoconfirm": true}');
INSERT INTO invite_sync.invitation (id, email, expires_at) VALUES ('00000000-0000-4000-8000-000000000006', 'e@auth.example', now() + interval '1 day');
SELECT * FROM public.judged('{"disable_signup": true}');
SELECT * FROM public.judged('{"mailer_autoconfirm": true, "external": {"email": false}}');
BEGIN;
INSERT INTO auth.sso_providers (id, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000001', now(), now());
SELECT * FROM public.judged(:'settings');
SELECT * FROM public.judged(:'settings'::jsonb || '{"saml_enabled": true}');
ROLLBACK;
-- what is no auth server's answer
SELECT * FROM public.judged('[]');
SELECT * FROM public.judged('{}');
SELECT * FROM public.judged('{"code": 404, "msg": "not found"}');
SELECT * FROM public.judged('{"external": {"email": "yes"}}');
SELECT * FROM public.judged('{"disable_signup": 0}');

-- ---- without an auth server ----
\c contrib_regression
SET client_min_messages = error;
DROP DATABASE regress_doctor_auth WITH (FORCE);
