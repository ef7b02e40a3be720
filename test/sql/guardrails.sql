-- Rules that a careless change would break without a word: each stands here because a mutation of the code
-- (test/mutations) must turn a quick test red.
SET client_min_messages = error;
SET ROLE postgres;
CREATE TABLE public.rails (id uuid PRIMARY KEY, email text);
CREATE TABLE public.rails_seen (what text, who text, super boolean, path text, standard_strings text, lock_timeout text);
GRANT ALL ON public.rails_seen TO PUBLIC;
SELECT target FROM invite_sync.add_target('public.rails');

-- ---- what passes through a sync, and only that; all else is contained and undone ----
CREATE FUNCTION public.rails_raise() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF NEW.email LIKE 'state %' THEN RAISE EXCEPTION 'raised' USING ERRCODE = substr(NEW.email, 7); END IF;
    RETURN NEW; END$$;
CREATE TRIGGER rails_raise AFTER INSERT ON public.rails FOR EACH ROW EXECUTE FUNCTION public.rails_raise();
RESET ROLE;
CREATE TABLE public.rails_states (state text, reached boolean);
DO $$
DECLARE
    s text;
BEGIN
    FOREACH s IN ARRAY ARRAY['57014', '57P01', '57P02', '57P03', '57P04', '57P05', '40001', '53200', '53100', '58030', 'XX001', 'XX002',
        '00001', '02000', '08006', '0A000', '22012', '23502', '23503', '23505', '23514', '25006', '25P02', '26000', '2F002', '34000', '38000',
        '39P01', '40002', '40003', '40P01', '42501', '42601', '42703', '42883', '42P01', '44000', '53000', '53300', '53400', '54000', '54001',
        '55000', '55006', '55P03', '55P04', '57000', '57P06', '58000', '58P01', '58P02', '72000', 'F0000', 'HV000', 'P0001', 'P0002', 'P0003',
        'P0004', 'PT403', 'XX000', 'ZZ999']
    LOOP
        BEGIN
            INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'state ' || s);
            INSERT INTO public.rails_states VALUES (s, false);
        EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
            INSERT INTO public.rails_states VALUES (s, SQLSTATE = s);
        END;
    END LOOP;
END $$;
SELECT string_agg(state, ' ' ORDER BY state) AS reached_the_statement FROM public.rails_states WHERE reached;
SELECT count(*) AS contained, count(*) FILTER (WHERE q.sqlstate = s.state) AS in_quarantine
  FROM public.rails_states s LEFT JOIN auth.users u ON u.email = 'state ' || s.state
  LEFT JOIN invite_sync.quarantine q ON q.user_id = u.id WHERE NOT s.reached;
SELECT count(*) AS undone FROM public.rails;
-- a real one: the client's own patience
CREATE FUNCTION public.rails_sleep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(20); RETURN NEW; END$$;
CREATE TRIGGER rails_sleep BEFORE INSERT ON public.rails FOR EACH ROW WHEN (NEW.email = 'slow') EXECUTE FUNCTION public.rails_sleep();
SET statement_timeout = '100ms';
\set VERBOSITY sqlstate
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000001', 'slow');
\set VERBOSITY default
RESET statement_timeout;
DROP TRIGGER rails_sleep ON public.rails;
DROP TRIGGER rails_raise ON public.rails;
DROP FUNCTION public.rails_sleep(), public.rails_raise();
DELETE FROM auth.users;

-- ---- as whom a target is written, under which settings; and the session's own come back ----
SET ROLE postgres;
CREATE FUNCTION public.rails_look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO public.rails_seen SELECT TG_OP, current_user, r.rolsuper, current_setting('search_path'), current_setting('standard_conforming_strings'), current_setting('lock_timeout')
      FROM pg_catalog.pg_roles r WHERE r.rolname = current_user;
    BEGIN
        SET ROLE supabase_auth_admin;
        RAISE EXCEPTION 'a trigger took another role';
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    BEGIN
        CREATE TEMPORARY TABLE rails_temp ();
        RAISE EXCEPTION 'a trigger made a temporary table';
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    RETURN NULL; END$$;
CREATE TRIGGER rails_look AFTER INSERT OR UPDATE OR DELETE ON public.rails FOR EACH ROW EXECUTE FUNCTION public.rails_look();
SELECT target, on_delete FROM invite_sync.set_target('public.rails', on_delete => 'delete');
RESET ROLE;
BEGIN;
SET LOCAL search_path = auth, public;
SET LOCAL standard_conforming_strings = off;
SET LOCAL escape_string_warning = off;
INSERT INTO users (id, email) VALUES ('00000000-0000-4000-8000-000000000002', 'two@x.example');
SELECT current_user, current_setting('search_path') AS path, current_setting('standard_conforming_strings') AS strings, current_setting('lock_timeout') AS lock_timeout;
UPDATE users SET email = 'two2@x.example';
SELECT current_user, current_setting('search_path') AS path, current_setting('lock_timeout') AS lock_timeout;
DELETE FROM users;
SET LOCAL invite_sync.enabled = off;
INSERT INTO users (id, email) VALUES ('00000000-0000-4000-8000-000000000002', 'two@x.example');
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-000000000002');
SELECT current_user, current_setting('search_path') AS path, current_setting('lock_timeout') AS lock_timeout;
COMMIT;
SELECT target, sqlstate, message FROM invite_sync.quarantine;
SELECT DISTINCT what, who, super, path, standard_strings, lock_timeout FROM public.rails_seen WHERE who = 'postgres' ORDER BY 1;
DROP TRIGGER rails_look ON public.rails;
DROP FUNCTION public.rails_look();
-- also of a question that writes nothing
SET ROLE postgres;
BEGIN;
SET LOCAL search_path = public;
SELECT invite_sync.is_operator();
SHOW search_path;
SELECT current_user;
COMMIT;
RESET ROLE;

-- ---- a login reads nothing of a target, a change finds its row by the key ----
SET ROLE postgres;
CREATE TABLE public.rails_big (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('public.rails_big');
RESET ROLE;
VACUUM ANALYZE public.rails_big;
-- planned while the table is known to be empty; then there is a large statement, it grows, and statements are small
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-00000000000a', 'first@x.example');
UPDATE auth.users SET email = 'first2@x.example' WHERE email = 'first@x.example';
INSERT INTO auth.users (id, email) SELECT gen_random_uuid(), 'many' || g FROM generate_series(1, 2000) g;
UPDATE auth.users SET email = email || '@x.example' WHERE email LIKE 'many%';
INSERT INTO public.rails_big SELECT gen_random_uuid(), g || '@big.example' FROM generate_series(1, 20000) g;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000003', 'three@x.example');
BEGIN;
SELECT seq_scan AS seq, idx_scan AS idx, idx_tup_fetch AS fetched FROM pg_stat_xact_user_tables WHERE relname = 'rails_big' \gset
UPDATE auth.users SET last_sign_in_at = now(), updated_at = now();
SELECT seq_scan - :seq AS seq_scans, idx_scan - :idx AS index_scans FROM pg_stat_xact_user_tables WHERE relname = 'rails_big';
UPDATE auth.users SET email = 'three3@x.example' WHERE email = 'three@x.example';
SELECT seq_scan - :seq AS seq_scans, idx_scan > :idx AS by_key, idx_tup_fetch - :fetched < 10 AS its_row_alone
  FROM pg_stat_xact_user_tables WHERE relname = 'rails_big';
COMMIT;
SELECT count(*) FROM public.rails_big WHERE email = 'three3@x.example';
SELECT invite_sync.drop_target('public.rails_big');
DROP TABLE public.rails_big;
DELETE FROM auth.users;

-- ---- an application's row that was there first is completed, not lost ----
INSERT INTO public.rails (id) VALUES ('00000000-0000-4000-8000-000000000004');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000004', 'four@x.example');
SELECT * FROM public.rails;
SELECT target, sqlstate FROM invite_sync.quarantine;

-- ---- who may still write to the table ----
CREATE ROLE regress_rails;
GRANT regress_rails TO postgres;
GRANT CREATE, USAGE ON SCHEMA public TO regress_rails;
ALTER TABLE public.rails OWNER TO regress_rails;
UPDATE auth.users SET email = 'member@x.example';
REVOKE regress_rails FROM postgres;
UPDATE auth.users SET email = 'no member@x.example';
SELECT email FROM public.rails;
SELECT sqlstate, message FROM invite_sync.quarantine;
-- nor as a superuser, even where a superuser has defined the mapping
ALTER TABLE public.rails OWNER TO postgres;
SELECT target, on_delete FROM invite_sync.set_target('public.rails', on_delete => 'none');
ALTER TABLE public.rails OWNER TO supabase_admin;
UPDATE auth.users SET email = 'superuser@x.example';
SELECT sqlstate, message FROM invite_sync.quarantine;
SELECT email FROM public.rails;
ALTER TABLE public.rails OWNER TO postgres;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT email FROM public.rails;
-- a role of the same name is another role
SELECT invite_sync.grant_operator('regress_rails');
SET ROLE regress_rails;
SELECT invite_sync.is_operator();
RESET ROLE;
DROP OWNED BY regress_rails;
DROP ROLE regress_rails;
CREATE ROLE regress_rails;
GRANT USAGE ON SCHEMA invite_sync TO regress_rails;
GRANT EXECUTE ON FUNCTION invite_sync.is_operator(), invite_sync.verify() TO regress_rails;
SET ROLE regress_rails;
SELECT invite_sync.is_operator();
SELECT * FROM invite_sync.verify();
RESET ROLE;
DROP OWNED BY regress_rails;
DROP ROLE regress_rails;
DELETE FROM invite_sync.operator WHERE role = 'regress_rails';

-- ---- a deactivation that comes too late is not called done, nor does it keep others from it ----
SET ROLE postgres;
CREATE TABLE public.rails_accounts (pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid UNIQUE REFERENCES auth.users ON DELETE SET NULL,
    email text, is_active boolean NOT NULL DEFAULT true);
SELECT target FROM invite_sync.add_target('public.rails_accounts', on_delete => 'deactivate');
CREATE FUNCTION public.rails_active() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'stays active'; END$$;
CREATE TRIGGER rails_active BEFORE UPDATE OF is_active ON public.rails_accounts FOR EACH ROW EXECUTE FUNCTION public.rails_active();
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-00000000000b', 'eleven@x.example'),
    ('00000000-0000-4000-8000-00000000000c', 'twelve@x.example'), ('00000000-0000-4000-8000-00000000000d', 'thirteen@x.example');
DELETE FROM auth.users WHERE email = 'eleven@x.example';
UPDATE auth.users SET deleted_at = now() WHERE email IN ('twelve@x.example', 'thirteen@x.example');
DROP TRIGGER rails_active ON public.rails_accounts;
UPDATE public.rails_accounts SET is_active = false WHERE email = 'thirteen@x.example';
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT user_id, email, is_active FROM public.rails_accounts ORDER BY email;
SELECT target, user_id, action FROM invite_sync.quarantine;
SELECT invite_sync.drop_target('public.rails_accounts');
DROP TABLE public.rails_accounts;
DROP FUNCTION public.rails_active();

-- ---- a secret is not read even where the registry says so ----
UPDATE invite_sync.mapping SET expression = 'encrypted_password', source_columns = '{encrypted_password}' WHERE column_name = 'email';
INSERT INTO auth.users (id, email, encrypted_password) VALUES ('00000000-0000-4000-8000-000000000005', 'five@x.example', 'HASH');
SELECT count(*) AS hashes FROM public.rails WHERE email LIKE '%HASH%';
SELECT sqlstate, message FROM invite_sync.quarantine;
UPDATE invite_sync.mapping SET expression = 'email', source_columns = '{email}' WHERE column_name = 'email';
SELECT * FROM invite_sync.retry_quarantine(due_only => false);

-- ---- a number of another database is believed only where the name agrees ----
CREATE TABLE public.rails_victim (id uuid PRIMARY KEY, email text);
ALTER TABLE public.rails_victim OWNER TO postgres;
BEGIN;
UPDATE invite_sync.target SET registered_in = '1/1', relation = 'public.rails_victim', relation_number = 'public.rails_victim'::regclass;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000006', 'six@x.example');
SELECT (SELECT count(*) FROM public.rails WHERE email = 'six@x.example') AS in_the_target, (SELECT count(*) FROM public.rails_victim) AS in_another;
ROLLBACK;
DROP TABLE public.rails_victim;

-- ---- constraints that wait until COMMIT are asked at once ----
SET ROLE postgres;
CREATE TABLE public.rails_plan (name text PRIMARY KEY);
ALTER TABLE public.rails ADD COLUMN plan text CONSTRAINT rails_plan_fkey REFERENCES public.rails_plan DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE public.rails ALTER COLUMN plan SET DEFAULT 'none';
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000007', 'seven@x.example');
SELECT count(*) FROM auth.users WHERE email = 'seven@x.example';
SELECT sqlstate, constraint_name FROM invite_sync.quarantine;
INSERT INTO public.rails_plan VALUES ('none');
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT email, plan FROM public.rails WHERE email LIKE 'seven%';
ALTER TABLE public.rails DROP COLUMN plan;
DROP TABLE public.rails_plan;

-- ---- a saved statement of ours whose columns have changed is made anew ----
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
ALTER TABLE invite_sync.quarantine_entry ALTER COLUMN changed_columns TYPE varchar[];
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
ALTER TABLE invite_sync.quarantine_entry ALTER COLUMN changed_columns TYPE text[];
SELECT * FROM invite_sync.retry_quarantine(due_only => false);

-- ---- statements that were replaced are given back ----
DO $$BEGIN FOR i IN 1..5 LOOP
    EXECUTE format('COMMENT ON TABLE public.rails IS %L', i); ALTER TABLE public.rails ALTER COLUMN email SET NOT NULL; ALTER TABLE public.rails ALTER COLUMN email DROP NOT NULL;
    UPDATE auth.users SET email = email || i; END LOOP; END$$;
SELECT count(*) AS plans FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%' \gset
DO $$BEGIN FOR i IN 1..40 LOOP
    ALTER TABLE public.rails ALTER COLUMN email SET NOT NULL; ALTER TABLE public.rails ALTER COLUMN email DROP NOT NULL;
    UPDATE auth.users SET email = email || i; END LOOP; END$$;
SELECT count(*) - :plans < 20 AS few_more_plans FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%';

-- ---- a guarded trigger: what it needs stays, and what C code refuses stays refused ----
SET ROLE postgres;
CREATE FUNCTION public.rails_guarded() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM invite_sync.require_service(); RETURN NULL; END$$;
CREATE TRIGGER rails_guarded AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.rails_guarded();
SELECT on_failure FROM invite_sync.guard_trigger('rails_guarded', on_failure => 'let_in');
RESET ROLE;
SELECT d.refobjid::regprocedure FROM pg_depend d JOIN pg_trigger t ON t.oid = d.objid
 WHERE d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_proc'::regclass AND t.tgname = 'rails_guarded' ORDER BY d.refobjid::regprocedure::text;
BEGIN;
GRANT EXECUTE ON FUNCTION invite_sync.require_service() TO supabase_auth_admin;
SET LOCAL ROLE supabase_auth_admin;
\set VERBOSITY sqlstate
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000010', 'ten@x.example');
\set VERBOSITY default
ROLLBACK;
SELECT invite_sync.unguard_trigger('rails_guarded');
DROP TRIGGER rails_guarded ON auth.users;
DROP FUNCTION public.rails_guarded();

-- ---- claims that change within a session ----
BEGIN;
SET LOCAL request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000004"}';
SELECT invite_sync.is_operator();
SET LOCAL request.jwt.claims = '';
SELECT invite_sync.is_operator();
ROLLBACK;

-- ---- the catalogs: nobody but the owner has anything that was not granted by name ----
SELECT c.relname AS without_row_security FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity ORDER BY 1;
SELECT c.relname AS not_dumped FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind IN ('r', 'S')
   AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'invite_sync') ORDER BY 1;
SELECT c.relname AS not_owned FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relowner <> 'invite_sync_owner'::regrole ORDER BY 1;
SELECT p.proname AS not_owned FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.proowner <> 'invite_sync_owner'::regrole ORDER BY 1;
SELECT p.proname AS for_everybody FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace
   AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0)) ORDER BY 1;
SELECT p.proname AS definer FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.prosecdef ORDER BY 1;
SELECT c.relname AS for_everybody FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'invite_sync'::regnamespace AND a.grantee = 0 ORDER BY 1;
SELECT c.relname AS written_by_others, a.grantee::regrole FROM pg_class c, aclexplode(c.relacl) a
 WHERE c.relnamespace = 'invite_sync'::regnamespace AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT' ORDER BY 1, 2;

-- ---- every function asks who calls, also where it was granted by mistake ----
-- What answers below is for every user, or is SQL that reads as whoever calls it and so only what policies show them.
CREATE FUNCTION pg_temp.answers(as_role text, claims text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    f record;
BEGIN
    PERFORM set_config('request.jwt.claims', claims, true);
    FOR f IN
        SELECT format('%s %I.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, 'invite_sync', p.proname,
                      (SELECT string_agg(format('%L::%s', CASE t.type::regtype::text WHEN 'uuid' THEN '00000000-0000-4000-8000-000000000004' WHEN 'jsonb' THEN '{}'
                           WHEN 'regclass' THEN 'auth.users' WHEN 'regrole' THEN 'anon' WHEN 'interval' THEN '1 s' WHEN 'boolean' THEN 'true'
                           WHEN 'timestamp with time zone' THEN 'now' WHEN 'numeric' THEN '1' WHEN 'integer' THEN '1' WHEN 'bigint' THEN '1' WHEN 'oid' THEN '1'
                           ELSE CASE WHEN t.type::regtype::text LIKE '%[]' THEN '{}' ELSE 'x' END END, t.type::regtype), ', ' ORDER BY t.n)
                         FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t (type, n))) AS call, p.proname
          FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
         ORDER BY p.proname
    LOOP
        BEGIN
            PERFORM set_config('role', as_role, true);
            EXECUTE f.call;
            RESET ROLE;
            RETURN NEXT f.proname;
        EXCEPTION WHEN OTHERS THEN
            RESET ROLE;
            IF SQLSTATE NOT IN ('PT401', 'PT403', '42501') THEN
                RETURN NEXT format('%s %s', f.proname, SQLSTATE);
            END IF;
        END;
    END LOOP;
END $$;
BEGIN;
GRANT USAGE ON SCHEMA invite_sync TO authenticated;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA invite_sync TO authenticated;
SELECT pg_temp.answers('authenticated', '{"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000004"}') AS asks_nobody;
-- nor are the rights of a superuser lent to who has claims
SELECT pg_temp.answers('none', '{"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000004"}') AS asks_nobody;
ROLLBACK;

SELECT invite_sync.drop_target('public.rails');
DROP TABLE public.rails, public.rails_seen, public.rails_states;
DELETE FROM auth.users;
SELECT count(*) FROM invite_sync.quarantine_entry;
