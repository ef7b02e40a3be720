-- Room caller: act_as().
SET client_min_messages = notice;
\set VERBOSITY terse
CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE sql;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END
$$;
INSERT INTO auth.users (id, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, is_anonymous)
VALUES ('00000000-0000-4000-8000-0000000000e1', 'e1@x.example', 'HASH', '{"provider": "email"}', '{"full_name": "E One"}', false),
       ('00000000-0000-4000-8000-0000000000e2', NULL, NULL, NULL, NULL, true);
UPDATE auth.users SET deleted_at = now() WHERE id = '00000000-0000-4000-8000-0000000000e2';
CREATE VIEW public.me AS
    SELECT current_user AS role, auth.uid() AS uid, auth.role() AS claimed, current_setting('request.jwt.claims', true) <> '' AS claims;
GRANT SELECT ON public.me TO anon, authenticated, service_role;

SET ROLE postgres;
BEGIN;
SELECT jsonb_pretty(invite_sync.act_as('00000000-0000-4000-8000-0000000000e1'));
SELECT * FROM public.me;
-- no longer an operator, nor anything else that the role postgres is
SELECT pg_temp.try('SELECT invite_sync.act_as(NULL, ''anon'')');
SELECT pg_temp.try('SELECT id FROM auth.users');
COMMIT;
-- the role and the claims were the transaction's
SELECT current_user, coalesce(current_setting('request.jwt.claims', true), '') AS claims;

-- one after the other, by savepoints
BEGIN;
SAVEPOINT before;
SELECT invite_sync.act_as(NULL, 'anon');
SELECT * FROM public.me;
ROLLBACK TO before;
SELECT invite_sync.act_as(NULL, 'service_role');
SELECT * FROM public.me;
ROLLBACK TO before;
-- a soft-deleted user's token still works, so it can be tried
SELECT jsonb_pretty(invite_sync.act_as('00000000-0000-4000-8000-0000000000e2'));
ROLLBACK;

-- what an older PostgREST left does not win
BEGIN;
SELECT set_config(name, value, true) FROM (VALUES ('request.jwt.claims', '{"role": "service_role"}'),
    ('request.jwt.claim.sub', '00000000-0000-4000-8000-0000000000ff'), ('request.jwt.claim.role', 'service_role'),
    ('request.jwt.claim.email', 'other@x.example')) AS s (name, value);
SELECT invite_sync.act_as('00000000-0000-4000-8000-0000000000e1') IS NOT NULL AS acting;
SELECT *, auth.email() FROM public.me;
ROLLBACK;

-- reads can be tried where nothing can be written
BEGIN READ ONLY;
SELECT invite_sync.act_as('00000000-0000-4000-8000-0000000000e1') IS NOT NULL AS acting;
SELECT * FROM public.me;
COMMIT;

-- outside of a transaction it is gone with the statement
SELECT invite_sync.act_as(NULL, 'anon');
SELECT current_user;

-- refused
SELECT pg_temp.try(format('SELECT invite_sync.act_as(%s)', arguments)) AS act_as FROM (VALUES
    ('''00000000-0000-4000-8000-0000000000e9'''),
    ('NULL'),
    ('NULL, NULL'),
    ('NULL, ''postgres'''),
    ('NULL, ''supabase_admin'''),
    ('''00000000-0000-4000-8000-0000000000e1'', ''anon'''),
    ('''00000000-0000-4000-8000-0000000000e1'', ''service_role''')) AS a (arguments);
CREATE FUNCTION public.act_definer() RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS $$SELECT invite_sync.act_as(NULL, 'anon')$$;
SELECT pg_temp.try('SELECT public.act_definer()');
DROP FUNCTION public.act_definer();
RESET ROLE;
-- only operators, and nobody but they may call it
SET ROLE service_role;
SELECT invite_sync.act_as(NULL, 'anon');
RESET ROLE;
SET ROLE authenticated;
SELECT invite_sync.act_as(NULL, 'anon');
RESET ROLE;
-- by claims nobody is more than they are
SET request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-0000000000e1"}';
SELECT pg_temp.try('SELECT invite_sync.act_as(NULL, ''anon'')');
RESET request.jwt.claims;
-- as the session's own role: a member may, others may not
SET SESSION AUTHORIZATION postgres;
BEGIN;
SELECT invite_sync.act_as('00000000-0000-4000-8000-0000000000e1') IS NOT NULL AS acting;
SELECT role, uid FROM public.me;
COMMIT;
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_acting LOGIN;
SELECT invite_sync.grant_operator('regress_acting');
SET SESSION AUTHORIZATION regress_acting;
SELECT invite_sync.act_as(NULL, 'anon');
\set VERBOSITY default
SELECT invite_sync.act_as(NULL, 'anon');
\set VERBOSITY terse
RESET SESSION AUTHORIZATION;
SELECT invite_sync.revoke_operator('regress_acting');
REVOKE USAGE ON SCHEMA invite_sync FROM regress_acting;
DROP ROLE regress_acting;

-- who acted as whom
SELECT kind, target_type, target_id, count(*) FROM invite_sync.event WHERE action = 'caller.acted_as' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
DROP VIEW public.me;
DELETE FROM auth.users;
