-- Rooms sync and quarantine: rules that only show when somebody goes looking.
SET client_min_messages = warning;
SET ROLE postgres;
CREATE TABLE public.rules (id uuid PRIMARY KEY, email text, phone text);
SELECT target FROM invite_sync.add_target('public.rules', on_delete => 'delete');
RESET ROLE;

-- ---- what is called how, with which arguments ----
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' AS callable, p.provolatile
  FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace
   AND p.proname IN ('add_target', 'set_target', 'drop_target', 'attach', 'detach', 'guard_trigger', 'unguard_trigger', 'sync_users', 'sync_all', 'ensure_user',
                     'user_exists', 'create_profile', 'deactivate_user', 'reactivate_user', 'sync_status', 'health', 'preservation_report', 'retry_quarantine',
                     'schedule_retry', 'set_alert', 'acknowledge_alert', 'verify', 'config_sql', 'uninstall_plan', 'create_standard_tables', 'create_auth_schema',
                     'act_as', 'log_event', 'seal_events', 'verify_events')
 ORDER BY p.proname;
SELECT attname FROM pg_attribute WHERE attrelid = 'invite_sync.event'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'invite_sync' AND tablename = 'event' ORDER BY indexdef COLLATE "C";

-- ---- a name that the client's encoding does not have: the warning is legible, the signup goes on ----
SET ROLE postgres;
CREATE TABLE public."профили" (id uuid PRIMARY KEY, email text CHECK (email IS NULL));
SELECT target FROM invite_sync.add_target('public."профили"', '{"email": "email"}');
RESET ROLE;
CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM 1/0; RETURN NULL; END$$;
CREATE TRIGGER "триггер" AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.fails();
SELECT gate FROM invite_sync.guard_trigger('триггер');
SET client_encoding = 'LATIN1';
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000001', 'one@x.example');
RESET client_encoding;
SELECT target, trigger_name, sqlstate FROM invite_sync.quarantine ORDER BY id;
SELECT invite_sync.unguard_trigger('триггер');
DROP TRIGGER "триггер" ON auth.users;
DROP FUNCTION public.fails();
SELECT invite_sync.drop_target('public."профили"');
DROP TABLE public."профили";
SET client_min_messages = error;
DELETE FROM auth.users;
SELECT invite_sync.close_quarantine(id) FROM invite_sync.quarantine;

-- ---- tables, rows and functions of the extension that another version calls otherwise: a signup is not stopped ----
CREATE TABLE public.rules_versions (what text, state text, message text);
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT format('ALTER TABLE invite_sync.%I RENAME COLUMN %I TO of_another_version', r.relname, a.attname) AS ddl
          FROM pg_class r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE r.relnamespace = 'invite_sync'::regnamespace AND r.relkind = 'r'
        UNION ALL SELECT format('ALTER TABLE invite_sync.%I RENAME TO of_another_version', r.relname)
          FROM pg_class r WHERE r.relnamespace = 'invite_sync'::regnamespace AND r.relkind IN ('r', 'S')
        UNION ALL SELECT format('ALTER FUNCTION %s RENAME TO of_another_version', p.oid::regprocedure)
          FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.prokind = 'f'
        UNION ALL SELECT v FROM unnest(ARRAY['ALTER SCHEMA invite_sync RENAME TO of_another_version', 'ALTER ROLE invite_sync_owner RENAME TO of_another_version',
            'ALTER TABLE invite_sync.target OWNER TO supabase_admin', 'ALTER TABLE invite_sync.operator OWNER TO supabase_admin',
            'ALTER TABLE invite_sync.target FORCE ROW LEVEL SECURITY', 'ALTER TABLE invite_sync.quarantine_entry FORCE ROW LEVEL SECURITY',
            'REVOKE ALL ON invite_sync.target FROM invite_sync_owner', 'REVOKE ALL ON invite_sync.quarantine_entry FROM invite_sync_owner',
            'REVOKE ALL ON SCHEMA invite_sync FROM invite_sync_owner', 'ALTER TABLE auth.users OWNER TO supabase_admin',
            'ALTER TABLE auth.users RENAME COLUMN deleted_at TO of_another_version', 'ALTER TABLE auth.users RENAME COLUMN phone TO of_another_version',
            'ALTER TABLE auth.identities RENAME TO of_another_version', 'DELETE FROM invite_sync.mapping',
            $d$UPDATE invite_sync.mapping SET expression = 'nonsense('$d$, $d$UPDATE invite_sync.mapping SET source_columns = '{none}'$d$,
            $d$UPDATE invite_sync.target SET search_path = '"'$d$, $d$UPDATE invite_sync.target SET key = 'none'$d$,
            $d$UPDATE invite_sync.target SET relation = 'auth.users', relation_number = 'auth.users'::regclass$d$]) AS v
    LOOP
        FOR broken IN 0 .. 1 LOOP
            BEGIN
                EXECUTE c.ddl;
                IF broken = 1 THEN
                    ALTER TABLE public.rules ADD CHECK (email IS NULL);
                END IF;
                INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000002', 'two@x.example');
                UPDATE auth.users SET last_sign_in_at = now();
                UPDATE auth.users SET email = 'three@x.example';
                DELETE FROM auth.users;
                RAISE EXCEPTION 'back' USING ERRCODE = 'ZZ000';
            EXCEPTION WHEN OTHERS THEN
                IF SQLSTATE <> 'ZZ000' THEN
                    INSERT INTO public.rules_versions VALUES (c.ddl, SQLSTATE, SQLERRM);
                END IF;
            END;
        END LOOP;
    END LOOP;
END $$;
SELECT * FROM public.rules_versions;
DROP TABLE public.rules_versions;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000003', 'four@x.example');
SELECT email FROM public.rules;
DELETE FROM auth.users;
SELECT count(*) FROM public.rules;

-- ---- how often a failing batch is tried, and what of it lives ----
CREATE SEQUENCE public.rules_tries;
CREATE TABLE public.rules_lived (statement text);
CREATE TABLE public.rules_state (state text);
GRANT ALL ON public.rules_tries, public.rules_lived, public.rules_state TO postgres;
CREATE FUNCTION public.rules_count() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    PERFORM nextval('public.rules_tries'); INSERT INTO public.rules_lived VALUES (TG_OP); RETURN NULL; END$$;
CREATE FUNCTION public.rules_fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF NEW.email LIKE 'bad%' THEN RAISE EXCEPTION 'bad' USING ERRCODE = (SELECT state FROM public.rules_state); END IF; RETURN NEW; END$$;
CREATE TRIGGER rules_count BEFORE INSERT OR UPDATE ON public.rules FOR EACH STATEMENT EXECUTE FUNCTION public.rules_count();
CREATE TRIGGER rules_fail BEFORE INSERT OR UPDATE ON public.rules FOR EACH ROW EXECUTE FUNCTION public.rules_fail();
CREATE FUNCTION pg_temp.tries(fail_with text, users integer, one_bad_of integer, OUT tries bigint, OUT lived bigint, OUT written bigint, OUT quarantined bigint)
    LANGUAGE plpgsql AS $$BEGIN
    PERFORM setval('public.rules_tries', 1, false);
    DELETE FROM public.rules_state;
    INSERT INTO public.rules_state VALUES (fail_with);
    DELETE FROM public.rules_lived;
    INSERT INTO auth.users (id, email) SELECT gen_random_uuid(), CASE WHEN g % one_bad_of = 0 THEN 'bad' ELSE 'good' END || g FROM generate_series(1, users) g;
    SELECT CASE WHEN t.is_called THEN t.last_value ELSE 0 END, (SELECT count(*) FROM public.rules_lived), (SELECT count(*) FROM public.rules),
           (SELECT count(*) FROM invite_sync.quarantine WHERE sqlstate = fail_with) INTO tries, lived, written, quarantined FROM public.rules_tries t;
    DELETE FROM auth.users; END$$;
-- whatever row it was, the next would fail as well: not searched (a second try is for a statement whose names have changed)
SELECT state, t.tries <= 2 AS once_or_twice, t.lived, t.written, t.quarantined
  FROM unnest('{42P01,42703,42883,42P10,3F000,55P03,40P01}'::text[]) AS state, pg_temp.tries(state, 500, 1) AS t;
-- searched: no more than 1,000 tries, and one statement that lives
SELECT t.tries BETWEEN 900 AND 1002 AS bounded, t.lived, t.written, t.quarantined FROM pg_temp.tries('P0001', 3000, 1) AS t;
SELECT t.tries BETWEEN 50 AND 400 AS searched, t.lived, t.written, t.quarantined FROM pg_temp.tries('P0001', 1000, 20) AS t;
-- one warning for all of them, with ids and nothing of the rows
SET client_min_messages = warning;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid, 'bad' || g FROM generate_series(1, 7) g;
DELETE FROM auth.users;
DROP TRIGGER rules_count ON public.rules;
DROP TRIGGER rules_fail ON public.rules;
DROP FUNCTION public.rules_count(), public.rules_fail();
DROP SEQUENCE public.rules_tries;
DROP TABLE public.rules_lived, public.rules_state;

-- ---- a change of the registry lets the plans of the auth server's statements alone ----
CREATE FUNCTION public.rules_planned() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE WARNING 'planned'; RETURN 0; END$$;
SET plan_cache_mode = force_generic_plan;
PREPARE of_the_auth_server AS SELECT id FROM auth.users WHERE length(email) = public.rules_planned();
EXECUTE of_the_auth_server;
SELECT target FROM invite_sync.set_target('public.rules', '{"email": "lower(email)"}');
SELECT invite_sync.drop_target('public.rules');
SET ROLE postgres;
SELECT target FROM invite_sync.add_target('public.rules', on_delete => 'delete');
RESET ROLE;
EXECUTE of_the_auth_server;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000004', 'four@x.example');
EXECUTE of_the_auth_server;
DEALLOCATE of_the_auth_server;
RESET plan_cache_mode;
DROP FUNCTION public.rules_planned();

-- ---- last_success is that of a road, not of a trigger, which would have to write it ----
SELECT last_success IS NULL AS not_by_a_trigger FROM invite_sync.sync_status();
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-000000000004');
SELECT last_success IS NULL AS none_yet FROM invite_sync.sync_status();
CALL invite_sync.sync_all();
SELECT last_success AS before, last_success > now() - interval '1 min' AS by_sync_all FROM invite_sync.sync_status() \gset
\echo :by_sync_all
UPDATE auth.users SET email = 'five@x.example';
SELECT last_success = :'before' AS the_same FROM invite_sync.sync_status();
ALTER TABLE public.rules ADD CONSTRAINT rules_stop CHECK (email <> 'six@x.example');
SET client_min_messages = error;
UPDATE auth.users SET email = 'six@x.example';
SELECT last_success = :'before' AS the_same, last_failure > last_success AS failed FROM invite_sync.sync_status();
-- an entry whose time has long come: nothing calls retry_quarantine()
UPDATE invite_sync.quarantine_entry SET next_retry_at = now() + interval '1 hour';
SELECT quarantined, overdue FROM invite_sync.sync_status();
UPDATE invite_sync.quarantine_entry SET next_retry_at = now() - interval '1 hour';
SELECT quarantined, overdue FROM invite_sync.sync_status();
ALTER TABLE public.rules DROP CONSTRAINT rules_stop;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT last_success > :'before' AS by_retry, quarantined, overdue FROM invite_sync.sync_status();

-- ---- an entry is resolved by whatever road brings the user in step ----
ALTER TABLE public.rules ADD CONSTRAINT rules_stop CHECK (email NOT LIKE 'road%');
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-00000000010' || g)::uuid, 'road' || g FROM generate_series(1, 5) g;
SELECT count(*) FROM invite_sync.quarantine;
ALTER TABLE public.rules DROP CONSTRAINT rules_stop;
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-000000000101'), (SELECT count(*) FROM invite_sync.quarantine);
SELECT count(*) FROM invite_sync.quarantine;
SELECT invite_sync.create_profile('00000000-0000-4000-8000-000000000102') IS NOT NULL AS made;
SELECT count(*) FROM invite_sync.quarantine;
SELECT action FROM invite_sync.sync_users('public.rules', '00000000-0000-4000-8000-000000000103');
SELECT count(*) FROM invite_sync.quarantine;
CALL invite_sync.sync_all();
SELECT count(*) FROM invite_sync.quarantine;

-- ---- when an entry is due: 500 ms, doubled each time, up to an hour, and never all at the same moment ----
SELECT attempts, bool_and(wait BETWEEN least(500 * 2 ^ (attempts - 1), 3600000) * 0.4 AND least(500 * 2 ^ (attempts - 1), 3600000)) AS as_long,
       count(DISTINCT wait) > 40 AS scattered
  FROM (SELECT attempts, extract(epoch FROM invite_sync.next_retry(attempts) - clock_timestamp()) * 1000 AS wait
          FROM unnest('{1,2,5,10,13,14,1000}'::integer[]) AS attempts, generate_series(1, 50)) AS s
 GROUP BY 1 ORDER BY 1;

-- ---- what fires no trigger is found ----
SET session_replication_role = replica;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000005', 'replica@x.example');
RESET session_replication_role;
SELECT auth_users, missing, orphaned FROM invite_sync.sync_status();
BEGIN;
TRUNCATE auth.users CASCADE;
SELECT auth_users, missing, orphaned FROM invite_sync.sync_status();
ROLLBACK;
DELETE FROM auth.users;

-- ---- what a contained error does not undo ----
CREATE SEQUENCE public.rules_drawn;
GRANT ALL ON SEQUENCE public.rules_drawn TO postgres;
CREATE FUNCTION public.rules_leave() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    PERFORM nextval('public.rules_drawn'), pg_advisory_lock(4711), set_config('invite_sync_test.left', 'yes', false); RETURN NEW; END$$;
CREATE FUNCTION public.rules_prepare() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'PREPARE rules_left AS SELECT 1'; PERFORM 1/0; RETURN NEW; END$$;
CREATE TRIGGER rules_leave BEFORE INSERT ON public.rules FOR EACH ROW EXECUTE FUNCTION public.rules_leave();
ALTER TABLE public.rules ADD CONSTRAINT rules_stop CHECK (false) NOT VALID;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000006', 'six@x.example');
SELECT last_value, is_called FROM public.rules_drawn;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT coalesce(current_setting('invite_sync_test.left', true), '') AS setting;
SELECT pg_advisory_unlock_all() IS NOT NULL AS unlocked;
DROP TRIGGER rules_leave ON public.rules;
DROP FUNCTION public.rules_leave();
DROP SEQUENCE public.rules_drawn;
ALTER TABLE public.rules DROP CONSTRAINT rules_stop;
DELETE FROM auth.users;
-- a target's trigger may not prepare statements; of a guarded one they stay
CREATE TRIGGER rules_prepare BEFORE INSERT ON public.rules FOR EACH ROW EXECUTE FUNCTION public.rules_prepare();
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000006', 'six@x.example');
SELECT sqlstate, message FROM invite_sync.quarantine;
SELECT count(*) AS prepared FROM pg_prepared_statements WHERE name = 'rules_left';
DROP TRIGGER rules_prepare ON public.rules;
DELETE FROM auth.users;
CREATE TRIGGER rules_prepare AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.rules_prepare();
SELECT on_failure FROM invite_sync.guard_trigger('rules_prepare', 'let_in');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000006', 'six@x.example');
SELECT sqlstate, message FROM invite_sync.quarantine;
SELECT count(*) AS prepared FROM pg_prepared_statements WHERE name = 'rules_left';
DEALLOCATE rules_left;
SELECT invite_sync.unguard_trigger('rules_prepare');
DROP TRIGGER rules_prepare ON auth.users;
DROP FUNCTION public.rules_prepare();
DELETE FROM auth.users;

-- ---- clocks are the volatile functions that a mapping may call ----
SET client_min_messages = warning;
SET ROLE postgres;
SELECT mapping FROM invite_sync.set_target('public.rules', '{"email": "clock_timestamp()::text || now()::text || statement_timestamp()::text || timeofday()"}');
SELECT invite_sync.set_target('public.rules', '{"email": "gen_random_uuid()::text"}');
RESET ROLE;

-- ---- two more kinds of table that are no target ----
CREATE FOREIGN DATA WRAPPER rules_wrapper;
CREATE SERVER rules_server FOREIGN DATA WRAPPER rules_wrapper;
CREATE FOREIGN TABLE public.rules_foreign (id uuid) SERVER rules_server;
SELECT invite_sync.add_target('public.rules_foreign');
DROP FOREIGN DATA WRAPPER rules_wrapper CASCADE;
BEGIN;
CREATE TABLE public.rules_member (id uuid PRIMARY KEY);
ALTER EXTENSION plpgsql ADD TABLE public.rules_member;
SELECT invite_sync.add_target('public.rules_member');
ROLLBACK;

-- ---- others who may create objects where the statements of a target look for them ----
CREATE SCHEMA rules_open AUTHORIZATION postgres;
GRANT CREATE ON SCHEMA rules_open TO authenticated, service_role;
SET ROLE postgres;
CREATE TABLE rules_open.t (id uuid PRIMARY KEY);
SELECT target, search_path FROM invite_sync.add_target('rules_open.t');
GRANT CREATE ON SCHEMA rules_open TO PUBLIC;
SELECT target FROM invite_sync.set_target('rules_open.t', search_path => 'pg_catalog, rules_open, no_such_schema, pg_temp');
REVOKE CREATE ON SCHEMA rules_open FROM PUBLIC, authenticated, service_role;
SELECT target FROM invite_sync.set_target('rules_open.t', search_path => 'pg_catalog, rules_open, pg_temp');
SELECT invite_sync.drop_target('rules_open.t');
RESET ROLE;
DROP SCHEMA rules_open CASCADE;

-- ---- a table that passed to others: said ----
CREATE ROLE regress_rules;
ALTER TABLE public.rules OWNER TO regress_rules;
SET ROLE postgres;
SELECT severity, object, finding, detail FROM invite_sync.verify();
RESET ROLE;
ALTER TABLE public.rules OWNER TO postgres;
DROP ROLE regress_rules;

-- ---- attach() names the row triggers whose function names a target ----
SET client_min_messages = notice;
CREATE FUNCTION public.rules_writes() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE public.rules SET email = 'x' WHERE id = NEW.id; RETURN NEW; END$$;
CREATE TRIGGER zz_rules_writes AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.rules_writes();
SELECT invite_sync.detach();
SELECT invite_sync.attach();
-- it fires first, and finds no row yet
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000007', 'seven@x.example');
SELECT email = 'x' AS found_a_row FROM public.rules;
SELECT invite_sync.drop_target('public.rules');
DROP TRIGGER zz_rules_writes ON auth.users;
DROP FUNCTION public.rules_writes();
DROP TABLE public.rules;
DELETE FROM auth.users;

-- ---- link_by: ASCII letters are folded and no others; another address claims nothing; an event shows no address ----
SET client_min_messages = error;
SET ROLE postgres;
CREATE TABLE public.rules_link (team text DEFAULT 'new', email text, user_id uuid UNIQUE, PRIMARY KEY (team, email));
INSERT INTO public.rules_link VALUES ('a', 'ADA@x.example'), ('a', 'ÉVA@x.example'), ('a', 'bob@x.example'), ('b', 'late@x.example');
SELECT target FROM invite_sync.add_target('public.rules_link', '{"email": "email"}', key => 'user_id', link_by => 'email');
RESET ROLE;
SELECT max(id) AS mark FROM invite_sync.event \gset
INSERT INTO auth.users (id, email, email_confirmed_at) VALUES
    ('00000000-0000-4000-8000-000000000011', 'ada@x.example', now()), ('00000000-0000-4000-8000-000000000012', 'éva@x.example', now());
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000013', 'bob@x.example');
SELECT user_id, sqlstate FROM invite_sync.quarantine;
-- waits for bob's row, and becomes verified as somebody else
UPDATE auth.users SET email = 'late@x.example', email_confirmed_at = now() WHERE email = 'bob@x.example';
SELECT team, email, user_id FROM public.rules_link ORDER BY team, email COLLATE "C";
SELECT user_id, sqlstate FROM invite_sync.quarantine;
SELECT action, target_type, target_id, data FROM invite_sync.event WHERE id > :mark ORDER BY id;
-- somebody anonymous or banned waits until that is over
INSERT INTO public.rules_link VALUES ('c', 'anonymous@x.example'), ('c', 'banned@x.example');
INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous, banned_until) VALUES
    ('00000000-0000-4000-8000-000000000014', 'anonymous@x.example', now(), true, NULL), ('00000000-0000-4000-8000-000000000015', 'banned@x.example', now(), false, 'infinity');
SELECT email, user_id FROM public.rules_link WHERE team = 'c' ORDER BY email COLLATE "C";
SELECT user_id, sqlstate FROM invite_sync.quarantine ORDER BY user_id;
UPDATE auth.users SET is_anonymous = false WHERE email = 'anonymous@x.example';
UPDATE auth.users SET banned_until = NULL WHERE email = 'banned@x.example';
SELECT email, user_id FROM public.rules_link WHERE team = 'c' ORDER BY email COLLATE "C";
SELECT user_id, sqlstate FROM invite_sync.quarantine ORDER BY user_id;
-- an auth server of before these columns: nobody is it
BEGIN;
ALTER TABLE auth.users DROP COLUMN is_anonymous CASCADE, DROP COLUMN is_sso_user CASCADE, DROP COLUMN banned_until CASCADE, DROP COLUMN deleted_at CASCADE;
INSERT INTO public.rules_link VALUES ('d', 'old@x.example'), ('d', 'older@x.example');
INSERT INTO auth.users (id, email, email_confirmed_at) VALUES
    ('00000000-0000-4000-8000-000000000016', 'old@x.example', now()), ('00000000-0000-4000-8000-000000000017', 'older@x.example', NULL);
SELECT email, user_id FROM public.rules_link WHERE team = 'd' ORDER BY email COLLATE "C";
SELECT user_id, sqlstate FROM invite_sync.quarantine ORDER BY user_id;
UPDATE auth.users SET email_confirmed_at = now() WHERE email = 'older@x.example';
SELECT email, user_id FROM public.rules_link WHERE team = 'd' ORDER BY email COLLATE "C";
UPDATE public.rules_link SET user_id = NULL WHERE team = 'd';
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-000000000016') IS NOT NULL AS ensured;
SELECT email, user_id FROM public.rules_link WHERE team = 'd' ORDER BY email COLLATE "C";
ROLLBACK;
SELECT invite_sync.drop_target('public.rules_link');
DROP TABLE public.rules_link;
DELETE FROM auth.users;
SELECT count(*) FROM invite_sync.quarantine_entry;

-- ---- link_by: a change of address never claims, whichever road comes after it ----
SET ROLE postgres;
CREATE TABLE public.rules_late (pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid UNIQUE, email text, note text);
INSERT INTO public.rules_late (email, note) SELECT a || n || '@x.example', 'invited' FROM generate_series(1, 9) AS n, unnest('{old,new}'::text[]) AS a ORDER BY a DESC, n;
DELETE FROM public.rules_late WHERE email IN ('old5@x.example', 'old6@x.example');
SELECT target FROM invite_sync.add_target('public.rules_late', '{"email": "email"}', key => 'user_id', link_by => 'email');
RESET ROLE;
CREATE FUNCTION pg_temp.late_user(n int) RETURNS uuid LANGUAGE sql AS $$SELECT ('00000000-0000-4000-8000-0000000000' || 20 + n)::uuid$$;
CREATE FUNCTION pg_temp.late_rows() RETURNS TABLE ("user" text, email text, note text) LANGUAGE sql
    AS $$SELECT right(user_id::text, 2), email, note FROM public.rules_late WHERE user_id IS NOT NULL ORDER BY user_id$$;
-- 1, 2, 8 and 9 wait, 5 has a row; 6 is refused, and changes in the same transaction
INSERT INTO auth.users (id, email) SELECT pg_temp.late_user(n), 'old' || n || '@x.example' FROM unnest('{1,2,5,8,9}'::int[]) AS n;
ALTER TABLE public.rules_late ADD CONSTRAINT late_nobody CHECK (user_id IS NULL OR note IS NOT NULL AND email NOT LIKE 'new%') NOT VALID;
BEGIN;
INSERT INTO auth.users (id, email) VALUES (pg_temp.late_user(6), 'old6@x.example');
UPDATE auth.users SET email = 'new6@x.example', email_confirmed_at = now() WHERE id = pg_temp.late_user(6);
COMMIT;
-- 1: nothing can be made for the new address now
UPDATE auth.users SET email = 'new1@x.example', email_confirmed_at = now() WHERE id = pg_temp.late_user(1);
ALTER TABLE public.rules_late DROP CONSTRAINT late_nobody;
-- 5: the row is lost, before and after
DELETE FROM public.rules_late WHERE user_id = pg_temp.late_user(5);
UPDATE auth.users SET email = 'new5@x.example', email_confirmed_at = now() WHERE id = pg_temp.late_user(5);
SELECT * FROM pg_temp.late_rows();
DELETE FROM public.rules_late WHERE user_id = pg_temp.late_user(5);
-- while the triggers are off: 2 and 3 change; 4 is made and changes, of which nothing tells; 7 is made, and asks for a change;
-- 8 proves the address of before, and has asked for another
ALTER TABLE auth.users DISABLE TRIGGER USER;
INSERT INTO auth.users (id, email) SELECT pg_temp.late_user(n), 'old' || n || '@x.example' FROM unnest('{3,4,7}'::int[]) AS n;
UPDATE auth.users SET email = 'new' || right(email::text, -3), email_confirmed_at = now() WHERE id IN (pg_temp.late_user(2), pg_temp.late_user(3), pg_temp.late_user(4));
UPDATE auth.users SET email_change_sent_at = now() WHERE id IN (pg_temp.late_user(3), pg_temp.late_user(8));
UPDATE auth.users SET email_confirmed_at = now() WHERE id = pg_temp.late_user(8);
UPDATE auth.users SET email_change_sent_at = now() WHERE id = pg_temp.late_user(7);
ALTER TABLE auth.users ENABLE TRIGGER USER;
-- 9: the change cannot be noted, and is seen all the same
ALTER TABLE invite_sync.known_address ADD CONSTRAINT late_full CHECK (false) NOT VALID;
SET client_min_messages = warning;
UPDATE auth.users SET email = 'new9@x.example', email_confirmed_at = now() WHERE id = pg_temp.late_user(9);
SET client_min_messages = error;
ALTER TABLE invite_sync.known_address DROP CONSTRAINT late_full;
SELECT right(user_id::text, 2) AS user, digest IS NULL AS changed FROM invite_sync.known_address ORDER BY user_id;
SELECT right(user_id::text, 2) AS user, action, sqlstate FROM invite_sync.quarantine ORDER BY user_id;
SELECT * FROM pg_temp.late_rows();
BEGIN;
SELECT retried, resolved, failed FROM invite_sync.retry_quarantine(due_only => false);
SELECT * FROM pg_temp.late_rows();
ROLLBACK;
BEGIN;
SELECT right(user_id::text, 2) AS user, action FROM invite_sync.sync_users('public.rules_late') ORDER BY user_id;
SELECT * FROM pg_temp.late_rows();
ROLLBACK;
BEGIN;
SELECT n, invite_sync.ensure_user(pg_temp.late_user(n)) FROM generate_series(1, 8) AS n;
SELECT * FROM pg_temp.late_rows();
ROLLBACK;
CALL invite_sync.sync_all(target => 'public.rules_late');
SELECT * FROM pg_temp.late_rows();
-- another id for the same user: what was known goes along
DELETE FROM public.rules_late WHERE user_id IN (pg_temp.late_user(1), pg_temp.late_user(2));
UPDATE auth.users SET id = pg_temp.late_user(21) WHERE id = pg_temp.late_user(1);
SELECT email, note FROM public.rules_late WHERE user_id = pg_temp.late_user(21);
SELECT right(user_id::text, 2) AS user, digest IS NULL AS changed FROM invite_sync.known_address ORDER BY user_id;
-- nothing is kept of who is gone, and another user with that id is another one
DELETE FROM auth.users WHERE id = pg_temp.late_user(5);
DELETE FROM public.rules_late WHERE user_id = pg_temp.late_user(5);
SELECT right(user_id::text, 2) AS user, action, sqlstate, message FROM invite_sync.quarantine ORDER BY user_id;
INSERT INTO auth.users (id, email, email_confirmed_at) VALUES (pg_temp.late_user(5), 'new5@x.example', now());
SELECT email, note FROM public.rules_late WHERE user_id = pg_temp.late_user(5);
ALTER TABLE auth.users DISABLE TRIGGER USER;
DELETE FROM auth.users WHERE id = pg_temp.late_user(6);
ALTER TABLE auth.users ENABLE TRIGGER USER;
SELECT retried, resolved, failed FROM invite_sync.retry_quarantine(due_only => false);
SELECT right(user_id::text, 2) AS user FROM invite_sync.known_address ORDER BY user_id;
-- a change is noted also by a session that cannot read the registry
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000050', 'plain@x.example');
DELETE FROM public.rules_late WHERE email = 'plain@x.example';
ALTER TABLE invite_sync.mapping RENAME COLUMN source_columns TO other;
\c -
UPDATE auth.users SET email = 'new8@x.example', email_confirmed_at = now() WHERE email = 'plain@x.example';
SET client_min_messages = error;
ALTER TABLE invite_sync.mapping RENAME COLUMN other TO source_columns;
CALL invite_sync.sync_all(target => 'public.rules_late');
SELECT email, note FROM public.rules_late WHERE user_id = '00000000-0000-4000-8000-000000000050';
SELECT invite_sync.drop_target('public.rules_late');
DROP TABLE public.rules_late;
DELETE FROM auth.users;
SELECT count(*) FROM invite_sync.known_address;

-- ---- a row of the application with what the mapping cannot give: completed by every road, never inserted again ----
SET ROLE postgres;
CREATE TABLE public.rules_filled (id uuid PRIMARY KEY, email text, made_by text NOT NULL DEFAULT 'sync');
CREATE TABLE public.rules_inserts (id uuid);
CREATE FUNCTION public.rules_inserts() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.rules_inserts VALUES (NEW.id); RETURN NEW; END$$;
SELECT target FROM invite_sync.add_target('public.rules_filled');
ALTER TABLE public.rules_filled ALTER COLUMN made_by DROP DEFAULT;
INSERT INTO public.rules_filled (id, made_by) SELECT ('00000000-0000-4000-8000-00000000003' || g)::uuid, 'application' FROM generate_series(1, 4) g;
CREATE TRIGGER rules_inserts BEFORE INSERT ON public.rules_filled FOR EACH ROW EXECUTE FUNCTION public.rules_inserts();
RESET ROLE;
SET invite_sync.enabled = off;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-00000000003' || g)::uuid, 'filled' || g FROM generate_series(1, 4) g;
RESET invite_sync.enabled;
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-000000000031');
UPDATE auth.users SET email = 'changed2' WHERE email = 'filled2';
SELECT action FROM invite_sync.sync_users('public.rules_filled', '00000000-0000-4000-8000-000000000033');
CALL invite_sync.sync_all();
SELECT email, made_by FROM public.rules_filled ORDER BY id;
SELECT count(*) AS inserts FROM public.rules_inserts;
SELECT count(*) FROM invite_sync.quarantine;
SELECT invite_sync.drop_target('public.rules_filled');
DROP TABLE public.rules_filled, public.rules_inserts;
DROP FUNCTION public.rules_inserts();
DELETE FROM auth.users;

-- ---- constraints that wait until COMMIT wait again after a sync has had them checked ----
SET ROLE postgres;
CREATE TABLE public.rules_plans (name text PRIMARY KEY);
CREATE TABLE public.rules_deferred (id uuid PRIMARY KEY, email text, plan text CONSTRAINT rules_deferred_plan REFERENCES public.rules_plans DEFERRABLE INITIALLY DEFERRED);
SELECT target FROM invite_sync.add_target('public.rules_deferred', '{"email": "email"}', on_delete => 'delete');
RESET ROLE;
BEGIN;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000041', 'one@x.example'), ('00000000-0000-4000-8000-000000000042', 'two@x.example');
UPDATE public.rules_deferred SET plan = 'later' WHERE email = 'one@x.example';
INSERT INTO public.rules_plans VALUES ('later');
UPDATE auth.users SET email = 'one, changed' WHERE email = 'one@x.example';
UPDATE public.rules_deferred SET plan = 'later still' WHERE email = 'one, changed';
INSERT INTO public.rules_plans VALUES ('later still');
DELETE FROM auth.users WHERE email = 'two@x.example';
UPDATE public.rules_deferred SET plan = 'at last';
INSERT INTO public.rules_plans VALUES ('at last');
COMMIT;
SELECT email, plan FROM public.rules_deferred;
SELECT count(*) FROM invite_sync.quarantine;
SELECT invite_sync.drop_target('public.rules_deferred');
DROP TABLE public.rules_deferred, public.rules_plans;
DELETE FROM auth.users;

-- ---- whatever road the users come by, auth.users is locked while a target's statement reads them ----
SET ROLE postgres;
CREATE TABLE public.rules_locked (id uuid PRIMARY KEY, email text);
CREATE TABLE public.rules_locks (what text, locked boolean);
CREATE FUNCTION public.rules_locks() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO public.rules_locks SELECT NEW.email, count(*) > 0 FROM pg_catalog.pg_locks WHERE relation = 'auth.users'::regclass AND pid = pg_backend_pid() AND granted;
    RETURN NEW; END$$;
CREATE TRIGGER rules_locks BEFORE INSERT ON public.rules_locked FOR EACH ROW EXECUTE FUNCTION public.rules_locks();
SELECT target FROM invite_sync.add_target('public.rules_locked');
RESET ROLE;
SET invite_sync.enabled = off;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-00000000006' || n)::uuid, what
  FROM unnest('{ensure_user,create_profile,sync_users,sync_all}'::text[]) WITH ORDINALITY AS v (what, n);
RESET invite_sync.enabled;
ALTER TABLE public.rules_locked ADD CONSTRAINT rules_stop CHECK (email <> 'retry');
SET client_min_messages = error;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000069', 'retry');
DELETE FROM public.rules_locks;
ALTER TABLE public.rules_locked DROP CONSTRAINT rules_stop;
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-000000000061');
SELECT invite_sync.create_profile('00000000-0000-4000-8000-000000000062') IS NOT NULL AS made;
SELECT count(*) FROM invite_sync.sync_users('public.rules_locked', '00000000-0000-4000-8000-000000000063');
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
CALL invite_sync.sync_all();
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000060', 'a signup');
SELECT what, locked FROM public.rules_locks ORDER BY what COLLATE "C";
SELECT invite_sync.drop_target('public.rules_locked');
DROP TABLE public.rules_locked, public.rules_locks;
DROP FUNCTION public.rules_locks();
DELETE FROM auth.users;

-- ---- who has deactivated somebody ----
SET ROLE postgres;
CREATE TABLE public.rules_by (id uuid PRIMARY KEY, is_active boolean DEFAULT true, deactivated_by varchar(63));
CREATE TABLE public.rules_by_id (id uuid PRIMARY KEY, is_active boolean DEFAULT true, deactivated_by uuid);
SELECT target FROM invite_sync.add_target('public.rules_by', on_delete => 'deactivate');
SELECT target FROM invite_sync.add_target('public.rules_by_id');
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000051', 'by@x.example');
SET ROLE service_role;
SELECT invite_sync.deactivate_user('00000000-0000-4000-8000-000000000051', 'left');
RESET ROLE;
SELECT t.is_active, t.deactivated_by, i.is_active, i.deactivated_by FROM public.rules_by AS t, public.rules_by_id AS i;
SELECT invite_sync.reactivate_user('00000000-0000-4000-8000-000000000051');
SELECT t.is_active, t.deactivated_by FROM public.rules_by AS t;
SELECT invite_sync.drop_target('public.rules_by'), invite_sync.drop_target('public.rules_by_id');
DROP TABLE public.rules_by, public.rules_by_id;
DELETE FROM auth.users;

-- ---- statements that insert and update at once ----
SET ROLE postgres;
CREATE TABLE public.rules_both (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('public.rules_both');
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000021', 'one@x.example');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000021', 'one, upserted'), ('00000000-0000-4000-8000-000000000022', 'two@x.example')
    ON CONFLICT (id) DO UPDATE SET email = excluded.email;
SELECT email FROM public.rules_both ORDER BY id;
MERGE INTO auth.users AS u USING (VALUES ('00000000-0000-4000-8000-000000000021'::uuid, 'one, merged'), ('00000000-0000-4000-8000-000000000023', 'three@x.example')) AS v (id, email)
    ON u.id = v.id WHEN MATCHED THEN UPDATE SET email = v.email WHEN NOT MATCHED THEN INSERT (id, email) VALUES (v.id, v.email);
SELECT email FROM public.rules_both ORDER BY id;
WITH a AS (INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000025', 'five@x.example')), b AS (UPDATE auth.users SET email = 'one, too' WHERE email LIKE 'one%'),
     c AS (UPDATE auth.users SET email = 'two, too' WHERE email LIKE 'two%'), d AS (INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000026', 'six@x.example')) SELECT;
SELECT email FROM public.rules_both ORDER BY id;
COPY auth.users (id, email) FROM PROGRAM 'echo 00000000-0000-4000-8000-000000000024,copied@x.example' WITH (FORMAT csv);
SELECT email FROM public.rules_both ORDER BY id;

-- ---- log_event() does not raise, also where the user it makes a row for has changed since the transaction began ----
CREATE SCHEMA rules_dblink;
CREATE EXTENSION dblink SCHEMA rules_dblink;
DELETE FROM public.rules_both;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM public.rules_both;
SELECT rules_dblink.dblink_exec(format('host=%s port=%s dbname=%s user=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
    current_setting('port'), current_database(), current_user), 'UPDATE auth.users SET last_sign_in_at = now()');
SELECT invite_sync.log_event('rules.logged', user_id => '00000000-0000-4000-8000-000000000021') IS NOT NULL AS written;
COMMIT;
SELECT actor_id FROM invite_sync.event WHERE action = 'rules.logged';
SELECT invite_sync.drop_target('public.rules_both');
DROP TABLE public.rules_both;
DROP EXTENSION dblink;
DROP SCHEMA rules_dblink;
DELETE FROM auth.users;

-- ---- what is inferred from names, and what may never come from what users write about themselves ----
SET ROLE postgres;
CREATE TABLE public.rules_names (auth_user_id uuid UNIQUE, user_id uuid UNIQUE, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text, phone text, full_name text, name text,
    display_name text, first_name text, last_name text, username text, avatar_url text, job_title text, created_at timestamptz, updated_at timestamptz, last_login timestamptz,
    last_sign_in_at timestamptz, sso_provider text, sso_user_id text, role text, roles text, is_admin text, is_active text, permissions text, plan text, organization_id text,
    tenant_id text, "isAdmin" text, "organizationId" text, other text);
SELECT t.key, (SELECT string_agg(m.key, ' ' ORDER BY m.key COLLATE "C") FROM jsonb_each(t.mapping) AS m) AS inferred FROM invite_sync.add_target('public.rules_names') AS t;
SELECT mapping->'role' AS role, mapping->'last_login' AS last_login, mapping->'sso_user_id' AS sso_user_id FROM invite_sync.target_list WHERE target = 'public.rules_names';
ALTER TABLE public.rules_names DROP COLUMN auth_user_id;
SELECT key FROM invite_sync.set_target('public.rules_names', key => 'user_id');
SELECT invite_sync.drop_target('public.rules_names');
SELECT key FROM invite_sync.add_target('public.rules_names', '{"email": "email"}');
ALTER TABLE public.rules_names DROP COLUMN user_id;
SELECT invite_sync.drop_target('public.rules_names');
SELECT key FROM invite_sync.add_target('public.rules_names', '{"email": "email"}');
CREATE FUNCTION pg_temp.may(mapping jsonb) RETURNS text LANGUAGE plpgsql AS $$BEGIN
    PERFORM invite_sync.set_target('public.rules_names', mapping); RETURN 'may'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END$$;
SELECT a.attname, pg_temp.may(jsonb_build_object(a.attname, $$coalesce(raw_app_meta_data->>'x', users.raw_user_meta_data->>'x')$$)) AS from_users,
       pg_temp.may(jsonb_build_object(a.attname, $$raw_app_meta_data->>'x'$$)) AS from_the_application
  FROM pg_attribute a WHERE a.attrelid = 'public.rules_names'::regclass AND a.attnum >= (SELECT attnum FROM pg_attribute WHERE attrelid = 'public.rules_names'::regclass AND attname = 'role')
   AND NOT a.attisdropped ORDER BY a.attnum;
-- every column of auth.users that may not be read
SELECT string_agg(a.attname, ' ' ORDER BY a.attname COLLATE "C") AS secret
  FROM pg_attribute a WHERE a.attrelid = 'auth.users'::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND pg_temp.may(jsonb_build_object('other', quote_ident(a.attname) || '::text')) <> 'may';
SELECT invite_sync.drop_target('public.rules_names');
DROP TABLE public.rules_names;
RESET ROLE;

-- ---- after all that these tests have done there is no address in any table of ours ----
CREATE FUNCTION pg_temp.addresses(relation regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s AS t WHERE t::text LIKE ''%%@%%''', relation) INTO n;
    RETURN n;
END $$;
SELECT c.oid::regclass, pg_temp.addresses(c.oid) FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind = 'r' AND pg_temp.addresses(c.oid) > 0;
SELECT count(*) > 0 AS events FROM invite_sync.event;
