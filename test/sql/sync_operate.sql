-- Room sync, operating: health, alerts, the configuration as a script, the way back.
-- In databases of its own, because it takes the extension out again.
SET client_min_messages = warning;
CREATE ROLE regress_definer LOGIN;
CREATE DATABASE regress_operate_a;
CREATE DATABASE regress_operate_b;

-- the application, twice: nothing of ours in it
\set ECHO none
\set application 'CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, email text, full_name text); ALTER TABLE public.profiles OWNER TO postgres; CREATE TABLE public."Odd ''Name" ("userId" uuid UNIQUE, mail text, nick text, deleted_at timestamptz); ALTER TABLE public."Odd ''Name" OWNER TO postgres; CREATE SCHEMA app AUTHORIZATION regress_definer; CREATE TABLE app.members (user_id uuid PRIMARY KEY, email text); ALTER TABLE app.members OWNER TO regress_definer; GRANT USAGE ON SCHEMA auth TO regress_definer; CREATE FUNCTION public.old_trigger() RETURNS trigger LANGUAGE plpgsql AS \'BEGIN INSERT INTO public.log VALUES (NEW.id); RETURN NEW; END\'; CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.old_trigger(); CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS \'BEGIN IF NEW.email LIKE \'\'%@evil.example\'\' THEN RAISE EXCEPTION \'\'no\'\'; END IF; RETURN NEW; END\'; CREATE TRIGGER a_gate BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.gate();'
\c regress_operate_b
SET client_min_messages = warning;
\i test/fixture/auth_schema.sql
SET client_min_messages = warning;
:application
CREATE EXTENSION invite_sync;
SELECT invite_sync.grant_operator('regress_definer') AS granted \gset
SELECT invite_sync.revoke_operator('regress_definer') AS revoked \gset
\c regress_operate_a
SET client_min_messages = warning;
\i test/fixture/auth_schema.sql
SET client_min_messages = warning;
:application
CREATE EXTENSION invite_sync;
CREATE VIEW public.h AS
    SELECT h.status, (SELECT string_agg(c.key || ' ' || (c.value->>'status'), ', ' ORDER BY c.key)
                        FROM jsonb_each(h.checks) AS c WHERE c.value->>'status' <> 'ok') AS checks, h.warnings
      FROM invite_sync.health() AS h;
CREATE FUNCTION public.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
BEGIN
    EXECUTE sql;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''));
END
$$;
\set ECHO all
SET client_min_messages = notice;

-- ---- nothing is configured ----
SELECT status, warnings FROM invite_sync.health();
SELECT invite_sync.config_sql();

-- ---- a configuration ----
SET client_min_messages = warning;
SELECT invite_sync.grant_operator('regress_definer');
SET ROLE regress_definer;
SELECT target FROM invite_sync.add_target('app.members', on_error => 'raise');
SET ROLE postgres;
SELECT target FROM invite_sync.add_target('public.profiles', '{"email": "email", "full_name": {"value": "raw_user_meta_data->>''it''''s me'' || E''\\t''", "update": "never"}}');
SELECT target FROM invite_sync.add_target('public."Odd ''Name"', '{"mail": "email"}', enabled => false, allow_user_written => true);
SELECT target FROM invite_sync.set_target('public."Odd ''Name"', search_path => 'pg_catalog, public, "Odd Schema", pg_temp');
SELECT trigger_name FROM invite_sync.guard_trigger('on_auth_user_created');
SELECT trigger_name FROM invite_sync.guard_trigger('a_gate', on_failure => 'let_in', let_through => '{23514,P0002}');
SELECT * FROM invite_sync.set_alert('percent', 99.5, per => '1 day');
SELECT * FROM invite_sync.set_alert('missing', 0);
SELECT permission FROM invite_sync.create_permission('documents.write', 'isn''t it');
SELECT permission FROM invite_sync.create_permission('documents.read');
SELECT role FROM invite_sync.create_role('writer', '{documents.write,documents.read,platform.admin}');
SELECT role FROM invite_sync.create_role('empty', '{}');
RESET ROLE;
SET intervalstyle = 'iso_8601';
\pset format unaligned
\pset tuples_only on
SELECT invite_sync.config_sql();
\pset tuples_only off
\pset format aligned
-- the same whoever's settings apply, and only the roles differ with the caller
SELECT invite_sync.config_sql() AS script \gset
RESET intervalstyle;
SELECT invite_sync.config_sql() = :'script' AS same;
SET ROLE postgres;
SELECT m[1] AS set_role FROM regexp_matches(invite_sync.config_sql(), 'SET ROLE (\w+)', 'g') AS m;
RESET ROLE;
BEGIN READ ONLY;
SELECT invite_sync.config_sql() = :'script' AS same;
SELECT count(*) > 0 AS steps FROM invite_sync.uninstall_plan();
SELECT status FROM invite_sync.health();
COMMIT;

-- ---- applied to another database it gives the same, and applied again it changes nothing ----
\c regress_operate_b
SET client_min_messages = warning;
\o /dev/null
:script
\o
SELECT invite_sync.config_sql() = :'script' AS same;
SELECT target, definer, enabled FROM invite_sync.target_list ORDER BY target COLLATE "C";
SELECT tgname, tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT xmin AS before FROM invite_sync.target ORDER BY id LIMIT 1 \gset
\o /dev/null
:script
\o
SELECT invite_sync.config_sql() = :'script' AS same;
SELECT xmin = :'before'::xid AS untouched FROM invite_sync.target ORDER BY id LIMIT 1;
-- switched off on purpose is configuration too
SELECT invite_sync.detach();
SELECT invite_sync.config_sql() AS script_off \gset
SELECT :'script_off' LIKE '%detach()%' AND :'script_off' NOT LIKE '%attach();' || chr(10) || '%attach%' AS off;
SELECT invite_sync.attach();
\o /dev/null
:script_off
\o
SELECT invite_sync.config_sql() = :'script_off' AS same;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND tgname ILIKE 'invite_sync%';
SELECT trigger_name, invite_sync.unguard_trigger(trigger_name) FROM invite_sync.guarded_trigger ORDER BY 1;
\c regress_operate_a
SET client_min_messages = warning;
\set VERBOSITY terse

-- ---- health ----
SELECT * FROM public.h;
SET client_min_messages = error;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-0000000001' || to_char(i, 'FM00'))::uuid, 'f' || i || '@x.example' FROM generate_series(1, 4) AS i;
SET client_min_messages = warning;
-- the guarded trigger fails for each of them: nothing else is wrong
SELECT * FROM public.h;
SELECT trigger_name, action, sqlstate, count(*) FROM invite_sync.quarantine GROUP BY 1, 2, 3;
CREATE TABLE public.log (id uuid);
GRANT INSERT ON public.log TO supabase_auth_admin;
UPDATE invite_sync.quarantine_entry SET next_retry_at = now() - interval '1 hour', last_failed_at = now() - interval '2 hours';
SELECT * FROM public.h;
SELECT * FROM invite_sync.retry_quarantine();
SELECT * FROM public.h;
-- who only has not verified an address yet is no failure
INSERT INTO invite_sync.quarantine_entry (target_id, user_id, action, sqlstate, message)
SELECT t.id, u.id, 'insert', 'IS001', 'link_pending' FROM invite_sync.target AS t, auth.users AS u WHERE t.table_name = 'profiles';
SELECT * FROM public.h;
SELECT checks->'quarantine' AS quarantine FROM invite_sync.health();
-- what fails: the setting, the triggers, a target
SET invite_sync.enabled = off;
SELECT * FROM public.h;
RESET invite_sync.enabled;
ALTER TABLE auth.users DISABLE TRIGGER invite_sync_update;
DROP TRIGGER invite_sync_insert ON auth.users;
CREATE OR REPLACE TRIGGER "Invite_sync_delete" AFTER DELETE ON auth.users FOR EACH STATEMENT EXECUTE FUNCTION public.old_trigger();
SELECT * FROM public.h;
DROP TRIGGER "Invite_sync_delete" ON auth.users;
SELECT invite_sync.attach();
ALTER TABLE app.members OWNER TO postgres;
ALTER TABLE public.profiles RENAME TO profiles_of_before;
CREATE VIEW public.profiles AS SELECT 1 AS one;
SELECT * FROM public.h;
DROP VIEW public.profiles;
ALTER TABLE app.members RENAME TO gone;
DROP TABLE public.profiles_of_before;
SELECT * FROM public.h;
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, email text, full_name text);
ALTER TABLE public.profiles OWNER TO postgres;
ALTER TABLE app.gone OWNER TO regress_definer;
ALTER TABLE app.gone RENAME TO members;
SELECT * FROM public.h;
-- a guarded trigger that a migration has replaced; detach() on purpose
CREATE OR REPLACE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.old_trigger();
SELECT * FROM public.h;
CREATE OR REPLACE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION invite_sync.guard();
SELECT invite_sync.detach();
SELECT * FROM public.h;
SELECT invite_sync.attach();
-- what statistics can tell: a backfill that was forgotten
INSERT INTO auth.users (id, email) SELECT gen_random_uuid(), 'many' || i || '@x.example' FROM generate_series(1, 1500) AS i;
DELETE FROM public.profiles;
ANALYZE auth.users, app.members;
VACUUM ANALYZE public.profiles;
SELECT status, checks, warnings FROM public.h;
SELECT checks #> '{auth_users,estimated_rows}' AS users, checks #> '{targets,estimated_rows}' AS targets FROM invite_sync.health();
DELETE FROM auth.users WHERE email LIKE 'many%';
ANALYZE auth.users;
-- another version's objects
UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'invite_sync';
SELECT status, checks FROM public.h;
UPDATE pg_extension SET extversion = (SELECT checks #>> '{version,library}' FROM invite_sync.health()) WHERE extname = 'invite_sync';

-- ---- alerts ----
SET client_min_messages = notice;
SELECT target, missing, percent FROM invite_sync.sync_status() ORDER BY target COLLATE "C";
SELECT * FROM invite_sync.set_alert('quarantined', 1, '10 minutes');
SELECT * FROM invite_sync.set_alert('quarantined', 1, '600 seconds');
SELECT * FROM invite_sync.set_alert('trigger_missing', 0);
SELECT max(id) AS mark FROM invite_sync.event \gset
BEGIN;
SELECT * FROM invite_sync.check_alerts();
SELECT id, check_name, target, state, value, threshold FROM invite_sync.alerts;
SELECT kind, action, target_type, target_id, data FROM invite_sync.event WHERE id > :mark ORDER BY id;
-- a rolled back check has told nobody
ROLLBACK;
SELECT * FROM invite_sync.check_alerts();
-- once, however often it is looked; not at all where it was counted within per
SELECT * FROM invite_sync.check_alerts();
SELECT * FROM invite_sync.check_alerts(due_only => true);
SELECT status, checks, warnings FROM public.h;
-- the value follows
INSERT INTO public.profiles SELECT id FROM auth.users ORDER BY id LIMIT 1;
SELECT * FROM invite_sync.check_alerts();
SELECT check_name, target, state, value, threshold FROM invite_sync.alerts ORDER BY id;
-- acknowledged: quiet, and not raised again while it lasts
SELECT id AS alert FROM invite_sync.alerts WHERE check_name = 'missing' \gset
SELECT check_name, target, state, value, acknowledged_by, acknowledged_at IS NOT NULL AS at FROM invite_sync.acknowledge_alert(:alert);
SELECT state FROM invite_sync.acknowledge_alert(:alert);
SELECT public.try('SELECT invite_sync.acknowledge_alert(0)');
SELECT public.try('SELECT invite_sync.acknowledge_alert(NULL)');
SELECT * FROM invite_sync.check_alerts();
SELECT checks->'alerts' AS alerts FROM invite_sync.health();
-- back to normal, and crossed again: a new one
SELECT action, count(*) FROM invite_sync.sync_users('public.profiles') GROUP BY 1 ORDER BY 1;
SELECT * FROM invite_sync.check_alerts();
SELECT check_name, target, state, value FROM invite_sync.alerts ORDER BY id;
DELETE FROM public.profiles;
SELECT * FROM invite_sync.check_alerts();
SELECT check_name, target, state, value FROM invite_sync.alerts ORDER BY id;
-- triggers, and not by detach(); what is off counts for nothing
ALTER TABLE auth.users DISABLE TRIGGER invite_sync_insert;
SELECT * FROM invite_sync.check_alerts(true);
SELECT check_name, target, state, value, threshold FROM invite_sync.alerts WHERE check_name = 'trigger_missing';
SELECT invite_sync.detach();
SELECT * FROM invite_sync.check_alerts(true);
SELECT invite_sync.attach();
-- quarantined, per target and guarded trigger
DROP TABLE public.log;
ALTER TABLE public.profiles ADD CHECK (email NOT LIKE 'bad%');
SET client_min_messages = error;
INSERT INTO auth.users (id, email) SELECT gen_random_uuid(), 'bad' || i || '@x.example' FROM generate_series(1, 3) AS i;
SET client_min_messages = notice;
SELECT * FROM invite_sync.check_alerts(true);
SELECT check_name, target, state, value, threshold FROM invite_sync.alerts WHERE check_name = 'quarantined' ORDER BY target COLLATE "C";
UPDATE invite_sync.quarantine_entry SET last_failed_at = now() - interval '11 minutes';
SELECT * FROM invite_sync.check_alerts(true);
-- given up: its alerts are resolved, and there is nothing left to check
SELECT * FROM invite_sync.set_alert('missing', NULL);
SELECT * FROM invite_sync.set_alert('missing', NULL);
SELECT * FROM invite_sync.set_alert('percent', NULL);
SELECT * FROM invite_sync.set_alert('quarantined', NULL);
SELECT * FROM invite_sync.set_alert('trigger_missing', NULL);
SELECT * FROM invite_sync.check_alerts();
SELECT state, count(*) FROM invite_sync.alerts GROUP BY 1;
UPDATE invite_sync.alert SET resolved_at = now() - interval '91 days' WHERE id = :alert;
SELECT * FROM invite_sync.check_alerts();
SELECT count(*) FROM invite_sync.alerts WHERE id = :alert;
SELECT arguments, public.try(format('SELECT invite_sync.set_alert(%s)', arguments)) FROM (VALUES
    ('NULL, 1'), ('''everything'', 1'), ('''missing'', -1'), ('''missing'', ''NaN'''), ('''missing'', ''Infinity'''), ('''percent'', 100.1'),
    ('''missing'', 1, NULL'), ('''missing'', 1, ''0 s'''), ('''missing'', 1, ''2 years'''), ('''missing'', 1, ''-1 day''')) AS a (arguments);

-- ---- who may ----
CREATE FUNCTION public.through_definer(sql text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE sql;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE TABLE public.who (role name, definer boolean, call text, result text);
GRANT INSERT ON public.who TO anon, authenticated, service_role;
CREATE TABLE public.calls (position integer, call text);
INSERT INTO public.calls VALUES (1, 'SELECT invite_sync.health()'), (2, 'SELECT FROM invite_sync.alerts'), (3, 'SELECT invite_sync.check_alerts()'),
    (4, 'SELECT invite_sync.set_alert(''missing'', NULL)'), (5, 'SELECT invite_sync.acknowledge_alert(0)'), (6, 'SELECT invite_sync.unschedule_retry()'),
    (7, 'SELECT invite_sync.schedule_retry()'), (8, 'SELECT invite_sync.config_sql()'), (9, 'SELECT invite_sync.uninstall_plan()'),
    (10, 'SELECT count(*) FROM invite_sync.alert'), (11, 'SELECT count(*) FROM invite_sync.alert_rule');
GRANT SELECT ON public.calls TO anon, authenticated, service_role;
SET client_min_messages = warning;
SET ROLE anon;
INSERT INTO public.who SELECT current_user, false, call, public.try(call) FROM public.calls ORDER BY position;
INSERT INTO public.who SELECT current_user, true, call, public.through_definer(call) FROM public.calls WHERE call NOT LIKE '%FROM%' ORDER BY position;
SET ROLE authenticated;
INSERT INTO public.who SELECT current_user, false, call, public.try(call) FROM public.calls ORDER BY position;
INSERT INTO public.who SELECT current_user, true, call, public.through_definer(call) FROM public.calls WHERE call NOT LIKE '%FROM%' ORDER BY position;
SET ROLE service_role;
INSERT INTO public.who SELECT current_user, false, call, public.try(call) FROM public.calls ORDER BY position;
INSERT INTO public.who SELECT current_user, true, call, public.through_definer(call) FROM public.calls WHERE call NOT LIKE '%FROM%' ORDER BY position;
RESET ROLE;
SELECT result, role, definer, count(*), string_agg(substring(call FROM 'invite_sync\.\w+'), ' ' ORDER BY call COLLATE "C") AS calls
  FROM public.who GROUP BY 1, 2, 3 ORDER BY role, definer, result COLLATE "C";
SET ROLE postgres;
SELECT call, public.try(call) FROM public.calls ORDER BY position;
RESET ROLE;
DROP TABLE public.who, public.calls;
DROP FUNCTION public.through_definer, public.try;

-- ---- the way back ----
ALTER DATABASE regress_operate_a SET invite_sync.log_refusals = on;
ALTER ROLE regress_definer IN DATABASE regress_operate_a SET invite_sync.lock_timeout = '2s';
CREATE POLICY operators ON public.profiles USING (invite_sync.is_operator());
SELECT step, statement FROM invite_sync.uninstall_plan();
DROP POLICY operators ON public.profiles;
DROP VIEW public.h;
\o /dev/null
SELECT statement FROM invite_sync.uninstall_plan() ORDER BY step \gexec
\o
SELECT extname FROM pg_extension WHERE extname = 'invite_sync';
SELECT nspname FROM pg_namespace WHERE nspname = 'invite_sync';
SELECT tgname, tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT setconfig FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase WHERE d.datname = current_database();

\c contrib_regression
DROP DATABASE regress_operate_a WITH (FORCE);
DROP DATABASE regress_operate_b WITH (FORCE);
SET client_min_messages = error;
REVOKE ALL ON PARAMETER invite_sync.enabled, invite_sync.lock_timeout, invite_sync.log_refusals, invite_sync.tenant_copy, invite_sync.require_verified_email, invite_sync.invitation_ttl, invite_sync.default_quota, invite_sync.signup, invite_sync.password_min_length, invite_sync.accept_url, invite_sync.client_address_header, invite_sync.signup_policy, invite_sync.signup_domains, invite_sync.signup_without_email, invite_sync.token_claims_bytes, invite_sync.lockout_attempts, invite_sync.lockout_user_attempts, invite_sync.lockout_duration, invite_sync.ddl_check FROM regress_definer;
DROP ROLE regress_definer;
