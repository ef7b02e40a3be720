-- Room quarantine, continued: guarded triggers.
SET client_min_messages = warning;
CREATE TABLE public.guard_log (n serial, what text, who text, path text);
GRANT ALL ON public.guard_log, public.guard_log_n_seq TO PUBLIC;

-- An old trigger as people write it; it breaks when its table changes
SET ROLE postgres;
CREATE TABLE public.old_profiles (id uuid PRIMARY KEY, email text);
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.old_profiles (id, email) VALUES (NEW.id, NEW.email || TG_ARGV[0]);
    INSERT INTO public.guard_log (what, who, path) VALUES (TG_NAME || ' ' || TG_OP || ' ' || TG_WHEN || ' ' || TG_LEVEL || ' ' || TG_NARGS, current_user, current_setting('search_path'));
    RETURN NEW;
END $$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW WHEN (NEW.email IS NOT NULL)
    EXECUTE FUNCTION public.handle_new_user('!');
RESET ROLE;
COMMENT ON TRIGGER on_auth_user_created ON auth.users IS 'a comment';
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER on_auth_user_created;
CREATE TEMPORARY TABLE before_guard AS SELECT t.*, pg_get_triggerdef(t.oid) AS def, obj_description(t.oid, 'pg_trigger') AS comment
    FROM pg_trigger t WHERE tgrelid = 'auth.users'::regclass AND tgname = 'on_auth_user_created';
CREATE TEMPORARY TABLE before_depend AS SELECT * FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = (SELECT oid FROM before_guard);

SET ROLE postgres;
SELECT * FROM invite_sync.guard_trigger('on_auth_user_created');
SELECT * FROM invite_sync.guard_trigger('on_auth_user_created');
RESET ROLE;
SELECT pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger') AS comment FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND tgname = 'on_auth_user_created';
SET ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a01', 'g1@x.example');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a02', NULL);
RESET ROLE;
SELECT * FROM public.old_profiles;
SELECT what, who, path FROM public.guard_log ORDER BY n;
-- broken: the signup goes on, all of the function is rolled back
ALTER TABLE public.old_profiles ADD COLUMN org text NOT NULL DEFAULT 'x';
ALTER TABLE public.old_profiles ALTER COLUMN org DROP DEFAULT;
SET ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a03', 'g3@x.example');
RESET ROLE;
SELECT count(*) FROM public.guard_log;
SELECT target, trigger_name, user_id, action, sqlstate, column_name, replayable FROM invite_sync.quarantine;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT attempts FROM invite_sync.quarantine;
-- the function cannot be dropped, may be renamed, and is done again from the row as it is now
DROP FUNCTION public.handle_new_user();
ALTER FUNCTION public.handle_new_user() RENAME TO handle_a_new_user;
ALTER TABLE public.old_profiles DROP COLUMN org;
UPDATE auth.users SET email = 'g3new@x.example' WHERE id = '00000000-0000-4000-8000-000000000a03';
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT sqlstate, message, context FROM invite_sync.quarantine;
SELECT * FROM public.old_profiles ORDER BY id;
SELECT count(*) FROM invite_sync.quarantine;
ALTER FUNCTION public.handle_a_new_user() RENAME TO handle_new_user;

-- what it refuses on purpose stays refused
CREATE OR REPLACE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF NEW.email LIKE 'raise%' THEN RAISE EXCEPTION 'not you' USING ERRCODE = '23502'; END IF;
    IF NEW.email LIKE 'assert%' THEN ASSERT false; END IF;
    IF NEW.email LIKE 'rethrow%' THEN BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN RAISE; END; END IF;
    IF NEW.email LIKE 'cancel%' THEN PERFORM pg_sleep(10); END IF;
    IF NEW.email LIKE 'zero%' THEN PERFORM 1/0; END IF;
    RETURN NEW;
END $$;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a10', 'raise@x.example');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a11', 'assert@x.example');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a12', 'rethrow@x.example');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a13', 'zero@x.example');
SET statement_timeout = '50ms';
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a14', 'cancel@x.example');
RESET statement_timeout;
SELECT u.email, q.sqlstate FROM auth.users u LEFT JOIN invite_sync.quarantine q ON q.user_id = u.id WHERE u.email ~ '^[razc]' ORDER BY 1;
DELETE FROM auth.users WHERE email ~ '^[rz]';
SELECT count(*) FROM invite_sync.quarantine;

-- back: the catalogs are as before
SELECT invite_sync.unguard_trigger('on_auth_user_created');
SELECT invite_sync.unguard_trigger('on_auth_user_created');
SELECT count(*) AS differences FROM (
    (SELECT t.*, pg_get_triggerdef(t.oid) AS def, obj_description(t.oid, 'pg_trigger') AS comment FROM pg_trigger t WHERE tgrelid = 'auth.users'::regclass AND tgname = 'on_auth_user_created'
     EXCEPT SELECT * FROM before_guard)
    UNION ALL (SELECT * FROM before_guard EXCEPT SELECT t.*, pg_get_triggerdef(t.oid), obj_description(t.oid, 'pg_trigger') FROM pg_trigger t WHERE tgrelid = 'auth.users'::regclass AND tgname = 'on_auth_user_created')) d;
SELECT count(*) AS differences FROM (
    (SELECT * FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = (SELECT oid FROM before_guard) EXCEPT ALL SELECT * FROM before_depend)
    UNION ALL (SELECT * FROM before_depend EXCEPT ALL SELECT * FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = (SELECT oid FROM before_guard))) d;

-- ---- gates ----
SELECT invite_sync.guard_trigger('on_auth_user_created');
SELECT gate, on_failure FROM invite_sync.guard_trigger('on_auth_user_created', on_failure => 'refuse');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a20', 'zero@x.example');
SELECT gate, on_failure FROM invite_sync.guard_trigger('on_auth_user_created', on_failure => 'let_in');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a20', 'zero@x.example');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a21', 'raise@x.example');
SELECT severity, object, finding FROM invite_sync.verify();
SELECT action, target_id FROM invite_sync.error_log WHERE action LIKE 'quarantine.%';
SELECT invite_sync.close_quarantine(id) FROM invite_sync.quarantine;
SELECT severity, object, finding FROM invite_sync.verify();
-- let_through: more that counts as a refusal
SELECT let_through FROM invite_sync.guard_trigger('on_auth_user_created', 'let_in', ARRAY['22012']);
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a22', 'zero2@x.example');
-- a migration makes the trigger again without its guard
SET ROLE postgres;
CREATE OR REPLACE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user('!');
RESET ROLE;
SELECT severity, object, finding, fix FROM invite_sync.verify();
SELECT invite_sync.unguard_trigger('on_auth_user_created');
DROP TRIGGER on_auth_user_created ON auth.users;
-- what can refuse: in the body, in a function it calls, by NULL, by what cannot be read
CREATE FUNCTION public.checks(text) RETURNS void LANGUAGE plpgsql AS $$BEGIN
    IF $1 IS NULL THEN
        RAISE EXCEPTION 'no';
    END IF;
END$$;
CREATE FUNCTION public.calls_it(text) RETURNS void LANGUAGE sql AS 'SELECT public.checks($1)';
CREATE FUNCTION public.g_calls() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM public.calls_it(NEW.email); RETURN NEW; END$$;
CREATE FUNCTION public.g_null() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.email = 'x' THEN RETURN NULL; END IF; RETURN NEW; END$$;
CREATE FUNCTION public.g_harmless() RETURNS trigger LANGUAGE plpgsql AS $$
-- RAISE EXCEPTION in a comment
BEGIN
    /* RAISE EXCEPTION /* nested */ too */
    RAISE NOTICE 'RAISE EXCEPTION %', $x$ RAISE EXCEPTION $x$;
    RAISE WARNING E'it\'s; RAISE EXCEPTION';
    NEW.phone := "left"(NEW.phone, 20);
    RETURN NEW;
END$$;
CREATE FUNCTION public.g_dynamic() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SELECT 1'; RETURN NEW; END$$;
CREATE TRIGGER g_calls AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_calls();
CREATE TRIGGER g_null BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_null();
CREATE TRIGGER g_harmless BEFORE INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_harmless();
CREATE TRIGGER g_dynamic AFTER UPDATE ON auth.users FOR EACH STATEMENT EXECUTE FUNCTION public.g_dynamic();
CREATE TRIGGER g_internal BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE CONSTRAINT TRIGGER g_constraint AFTER INSERT ON auth.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.g_calls();
SELECT invite_sync.guard_trigger('g_calls');
SELECT invite_sync.guard_trigger('g_null');
SELECT gate FROM invite_sync.guard_trigger('g_harmless');
SELECT invite_sync.guard_trigger('g_dynamic');
SELECT invite_sync.guard_trigger('g_internal');
SELECT invite_sync.guard_trigger('g_constraint');
SELECT invite_sync.guard_trigger('no_such');
SELECT invite_sync.guard_trigger('invite_sync_insert');
SELECT invite_sync.guard_trigger(NULL);
SELECT invite_sync.guard_trigger('g_null', 'perhaps');
SELECT invite_sync.guard_trigger('g_null', 'let_in', ARRAY['x']);
DROP TRIGGER g_constraint ON auth.users;
-- a NULL still cancels the row; a failing BEFORE lets the row through as it came
SELECT on_failure FROM invite_sync.guard_trigger('g_null', 'let_in');
DROP TRIGGER g_calls ON auth.users;
DROP TRIGGER g_dynamic ON auth.users;
DROP TRIGGER g_internal ON auth.users;
SET client_min_messages = error;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a30', 'x');
CREATE OR REPLACE FUNCTION public.g_harmless() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.phone := 'changed'; PERFORM 1/0; RETURN NEW; END$$;
INSERT INTO auth.users (id, email, phone) VALUES ('00000000-0000-4000-8000-000000000a31', 'y@x.example', '123');
UPDATE auth.users SET phone = '456' WHERE id = '00000000-0000-4000-8000-000000000a31';
SELECT email, phone FROM auth.users WHERE id IN ('00000000-0000-4000-8000-000000000a30', '00000000-0000-4000-8000-000000000a31');
SELECT trigger_name, action, sqlstate, replayable, next_retry_at FROM invite_sync.quarantine ORDER BY action;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
-- not ours to run: another table, another trigger
CREATE TABLE public.elsewhere (id uuid);
CREATE TRIGGER g_harmless AFTER INSERT ON public.elsewhere FOR EACH ROW EXECUTE FUNCTION invite_sync.guard();
INSERT INTO public.elsewhere VALUES (NULL);
SET ROLE postgres;
CREATE TABLE public.elsewhere2 (id uuid);
CREATE TRIGGER g_harmless AFTER INSERT ON public.elsewhere2 FOR EACH ROW EXECUTE FUNCTION invite_sync.guard();
RESET ROLE;

SELECT invite_sync.unguard_trigger('g_null'), invite_sync.unguard_trigger('g_harmless');
DROP TRIGGER g_null ON auth.users;
DROP TRIGGER g_harmless ON auth.users;
DROP TABLE public.elsewhere, public.elsewhere2, public.guard_log, public.old_profiles;
DROP FUNCTION public.g_calls(), public.g_null(), public.g_harmless(), public.g_dynamic(), public.calls_it(text), public.checks(text), public.handle_new_user();
-- ---- names change hands ----
-- Each trigger says which it is by its argument, and fails when asked to.
CREATE TABLE public.named_log (n serial, what text);
GRANT ALL ON public.named_log, public.named_log_n_seq TO PUBLIC;
CREATE FUNCTION public.g_named() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF current_setting('test.broken', true) = 'yes' THEN PERFORM 1/0; END IF;
    INSERT INTO public.named_log (what) VALUES (concat_ws(' ', TG_ARGV[0], 'as', TG_NAME, right(NEW.id::text, 3)));
    RETURN NULL;
END$$;
CREATE FUNCTION public.named_entries(OUT entry text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', q.trigger_name, right(q.user_id::text, 3), q.action, q.attempts) FROM invite_sync.quarantine AS q ORDER BY 1$$;
CREATE TRIGGER t_one AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_named('one');
CREATE TRIGGER t_two AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_named('two');
SELECT function FROM invite_sync.guard_trigger('t_one');
SELECT function FROM invite_sync.guard_trigger('t_two');
CREATE TEMPORARY TABLE named AS SELECT oid, right(tgname, 3) AS was FROM pg_trigger WHERE tgname IN ('t_one', 't_two');
-- failures before and after they swap names
SET test.broken = 'yes';
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a40', 'n0@x.example');
ALTER TRIGGER t_one ON auth.users RENAME TO t_x;
ALTER TRIGGER t_two ON auth.users RENAME TO t_one;
ALTER TRIGGER t_x ON auth.users RENAME TO t_two;
UPDATE auth.users SET phone = '1' WHERE id = '00000000-0000-4000-8000-000000000a40';
ALTER TABLE auth.users DISABLE TRIGGER t_two;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a41', 'n1@x.example');
ALTER TABLE auth.users ENABLE TRIGGER t_two;
RESET test.broken;
-- what failed of one is done again by one, whatever it is called by then
SELECT entry FROM public.named_entries();
BEGIN;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT what FROM public.named_log ORDER BY what;
ROLLBACK;
SELECT object, finding, detail FROM invite_sync.verify() ORDER BY 1, 2;
SELECT invite_sync.attach();
SELECT object, finding, detail FROM invite_sync.verify() ORDER BY 1, 2;
SELECT g.trigger_name, n.was FROM invite_sync.guarded_trigger AS g JOIN named AS n ON n.oid = g.trigger_id ORDER BY 1;
SELECT entry FROM public.named_entries();
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT what FROM public.named_log ORDER BY what;
TRUNCATE public.named_log;
SELECT invite_sync.close_quarantine(id) FROM invite_sync.quarantine;
-- the same failure under the old name and the new becomes one entry
SET test.broken = 'yes';
UPDATE auth.users SET phone = '2' WHERE id = '00000000-0000-4000-8000-000000000a40';
ALTER TRIGGER t_one ON auth.users RENAME TO t_three;
UPDATE auth.users SET phone = '3' || right(id::text, 3) WHERE id::text LIKE '%a4_';
SELECT entry FROM public.named_entries();
SELECT invite_sync.attach();
SELECT entry FROM public.named_entries();
-- renamed twice before anybody writes it down: nothing is left under the name between
ALTER TRIGGER t_three ON auth.users RENAME TO t_mid;
UPDATE auth.users SET phone = '4' WHERE id = '00000000-0000-4000-8000-000000000a41';
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a42', 'n2@x.example');
ALTER TRIGGER t_mid ON auth.users RENAME TO t_four;
UPDATE auth.users SET phone = '5' WHERE id = '00000000-0000-4000-8000-000000000a41';
RESET test.broken;
SELECT entry FROM public.named_entries();
BEGIN;
SELECT invite_sync.attach();
SELECT entry FROM public.named_entries();
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT entry FROM public.named_entries();
ROLLBACK;
-- who reads of it reads the name that the trigger has
SELECT checks->'guarded_triggers' FROM invite_sync.health();
SELECT l.line FROM regexp_split_to_table(invite_sync.config_sql(), E'\n') AS l (line) WHERE l.line LIKE '%guard_trigger%';
SELECT statement FROM invite_sync.uninstall_plan() WHERE statement LIKE '%guard%' OR statement LIKE '-- first%';
-- unguarded after it was renamed: its entries are forgotten
BEGIN;
SELECT invite_sync.unguard_trigger('t_three');
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 't_four';
ROLLBACK;
SELECT invite_sync.unguard_trigger('t_four');
SELECT entry FROM public.named_entries();
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 't_four';
-- a new trigger under a name that was guarded is not the one that was guarded
ALTER TRIGGER t_two ON auth.users RENAME TO t_old;
BEGIN;
CREATE TRIGGER t_two AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION invite_sync.guard('not registered');
UPDATE auth.users SET phone = '7' WHERE id = '00000000-0000-4000-8000-000000000a41';
SELECT what FROM public.named_log ORDER BY what;
SELECT object, finding, detail FROM invite_sync.verify() WHERE finding NOT LIKE '%in quarantine' ORDER BY 1, 2;
ROLLBACK;
CREATE TRIGGER t_two AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_named('new');
SELECT invite_sync.unguard_trigger('t_two');
SELECT function FROM invite_sync.guard_trigger('t_two');
SELECT g.trigger_name, n.was FROM invite_sync.guarded_trigger AS g LEFT JOIN named AS n ON n.oid = g.trigger_id ORDER BY 1;
UPDATE auth.users SET phone = '5' WHERE id = '00000000-0000-4000-8000-000000000a41';
SELECT what FROM public.named_log ORDER BY what;
-- a guarded trigger is dropped, and another takes its name
DROP TRIGGER t_two ON auth.users;
ALTER TRIGGER t_old ON auth.users RENAME TO t_two;
UPDATE auth.users SET phone = '6' WHERE id = '00000000-0000-4000-8000-000000000a41';
SELECT object, finding, detail FROM invite_sync.verify() ORDER BY 1, 2;
SELECT invite_sync.attach();
SELECT object, finding, detail FROM invite_sync.verify() ORDER BY 1, 2;
SELECT g.trigger_name, n.was FROM invite_sync.guarded_trigger AS g LEFT JOIN named AS n ON n.oid = g.trigger_id ORDER BY 1;
SELECT entry FROM public.named_entries();
SELECT what FROM public.named_log ORDER BY what;
SELECT invite_sync.unguard_trigger('t_two');
DROP TRIGGER t_two ON auth.users;
DROP TRIGGER t_four ON auth.users;
DROP TABLE public.named_log, named;
DROP FUNCTION public.g_named(), public.named_entries();

-- ---- what fails when a user is deleted ----
-- its entry stays, whatever the trigger's name, and says nothing that could be of the user
SET ROLE postgres;
CREATE TABLE public.kept_profiles (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('public.kept_profiles', on_delete => 'delete');
RESET ROLE;
CREATE FUNCTION public.g_fails() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN EXECUTE 'SELECT ''del@x.example''::integer'; END IF;
    PERFORM CASE TG_OP WHEN 'DELETE' THEN OLD.email ELSE NEW.email END::integer;
    RETURN OLD;
END$$;
CREATE TRIGGER b_del BEFORE DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_fails();
CREATE TRIGGER "A_del" AFTER DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_fails();
CREATE TRIGGER a_del AFTER DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_fails();
CREATE TRIGGER all_del AFTER DELETE ON auth.users FOR EACH STATEMENT EXECUTE FUNCTION public.g_fails();
CREATE TRIGGER a_ins AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.g_fails();
SELECT (invite_sync.guard_trigger(t, 'let_in')).trigger_name FROM unnest(ARRAY['b_del', 'A_del', 'a_del', 'all_del', 'a_ins']) AS t;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a50', 'del@x.example');
SELECT trigger_name, message FROM invite_sync.quarantine;
DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000a50';
SELECT trigger_name, right(user_id::text, 3) AS user, action, sqlstate, message, detail, context, replayable FROM invite_sync.quarantine ORDER BY trigger_name COLLATE "C";
SELECT count(*) FROM invite_sync.quarantine_entry AS q WHERE q::text LIKE '%x.example%';
-- until it is closed, also when somebody has the id again
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a50', 'again@x.example');
DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000a50';
SELECT trigger_name, action, attempts FROM invite_sync.quarantine ORDER BY trigger_name COLLATE "C", id;
SELECT count(invite_sync.close_quarantine(id)) FROM invite_sync.quarantine;
-- a list of the registered names unguards all, whatever they are called by now
ALTER TRIGGER a_ins ON auth.users RENAME TO z_ins;
ALTER TRIGGER b_del ON auth.users RENAME TO z_del;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000a51', 'renamed@x.example');
SELECT trigger_name, action FROM invite_sync.quarantine;
SELECT object, finding FROM invite_sync.verify() WHERE severity = 'error';
SELECT g.trigger_name, invite_sync.unguard_trigger(g.trigger_name) FROM invite_sync.guarded_trigger AS g ORDER BY g.trigger_name::text COLLATE "C";
SELECT tgname, tgfoid::regproc FROM pg_trigger WHERE tgname ~ '_(ins|del)$' ORDER BY tgname::text COLLATE "C";
DROP FUNCTION public.g_fails() CASCADE;
SELECT count(*) FROM public.kept_profiles WHERE id = '00000000-0000-4000-8000-000000000a50';
SELECT invite_sync.drop_target('public.kept_profiles');
DROP TABLE public.kept_profiles;

DELETE FROM auth.users;
SELECT count(*) FROM invite_sync.quarantine;
SELECT count(*) FROM invite_sync.guarded_trigger;
