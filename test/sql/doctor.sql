--
-- doctor(): triggers on auth.users, and the bodies that they reach.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = error;
\pset null (null)

-- ---- who may ask, and how ----
SELECT p.provolatile, pg_get_function_arguments(p.oid) AS arguments FROM pg_proc p WHERE p.oid = 'invite_sync.doctor'::regproc;
SET ROLE service_role;
SELECT * FROM invite_sync.doctor();
SET ROLE authenticated;
SELECT * FROM invite_sync.doctor();
RESET ROLE;
-- a right to call it makes nobody an operator
GRANT EXECUTE ON FUNCTION invite_sync.doctor(boolean, jsonb) TO service_role;
SET ROLE service_role;
SELECT * FROM invite_sync.doctor();
RESET ROLE;
REVOKE EXECUTE ON FUNCTION invite_sync.doctor(boolean, jsonb) FROM service_role;
SET ROLE postgres;
SELECT severity, area, object, finding FROM invite_sync.doctor() WHERE severity <> 'info' AND area IN ('trigger', 'function', 'table');

-- ---- what a name means to the auth server ----
CREATE TABLE public.doctor_profiles (id uuid PRIMARY KEY, email text, code text);
CREATE FUNCTION public.doctor_path() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO doctor_profiles (id, code) VALUES (NEW.id, encode(gen_random_bytes(4), 'hex'));
    RETURN NEW;
END $$;
RESET ROLE;
CREATE TRIGGER doctor_path AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_path();
SET ROLE postgres;
\x on
SELECT * FROM invite_sync.doctor() WHERE area = 'function';
\x off
-- also in a transaction that cannot write, whatever the session's own path, and nothing is left
BEGIN READ ONLY;
SET LOCAL search_path = public, extensions;
SELECT severity, object, fix FROM invite_sync.doctor() WHERE area = 'function';
SHOW search_path;
SELECT current_user;
COMMIT;
-- the fix mends all of it
SELECT fix FROM invite_sync.doctor() WHERE area = 'function' \gexec
SELECT severity, object, finding FROM invite_sync.doctor() WHERE area = 'function';

-- ---- rights: without SECURITY DEFINER, and of a definer ----
CREATE FUNCTION public.doctor_rights() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    UPDATE public.doctor_profiles SET email = NEW.email WHERE id = NEW.id;
    RETURN NULL;
END $$;
RESET ROLE;
CREATE TRIGGER doctor_rights AFTER UPDATE OF email ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_rights();
SET ROLE postgres;
SELECT severity, object, finding, detail, fix FROM invite_sync.doctor() WHERE area = 'function';
-- rights on columns are enough
GRANT SELECT (id), UPDATE (email) ON public.doctor_profiles TO supabase_auth_admin;
SELECT count(*) FROM invite_sync.doctor() WHERE area = 'function';
REVOKE UPDATE (email) ON public.doctor_profiles FROM supabase_auth_admin;
GRANT UPDATE (code) ON public.doctor_profiles TO supabase_auth_admin;
SELECT count(*) FROM invite_sync.doctor() WHERE area = 'function';
SELECT fix FROM invite_sync.doctor() WHERE area = 'function' \gexec
SELECT count(*) FROM invite_sync.doctor() WHERE area = 'function';
CREATE FUNCTION public.doctor_helper() RETURNS text LANGUAGE sql SET search_path = '' AS $$ SELECT 'x'::text $$;
RESET ROLE;
CREATE ROLE regress_doctor;
GRANT CREATE, USAGE ON SCHEMA public TO regress_doctor;
ALTER FUNCTION public.doctor_rights() OWNER TO regress_doctor;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area IN ('function', 'table') AND severity = 'error';
GRANT SELECT, UPDATE ON public.doctor_profiles TO regress_doctor;
ALTER TABLE public.doctor_profiles ADD COLUMN helped text;
CREATE OR REPLACE FUNCTION public.doctor_rights() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    UPDATE public.doctor_profiles SET email = NEW.email, helped = public.doctor_helper() WHERE id = NEW.id;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION public.doctor_helper() FROM PUBLIC;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area IN ('function', 'table') AND severity = 'error';
DROP TRIGGER doctor_rights ON auth.users;
DROP FUNCTION public.doctor_rights(), public.doctor_helper();

-- ---- caught by an exception handler it is a warning; by one for another error it is not ----
CREATE FUNCTION public.doctor_caught() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    BEGIN
        INSERT INTO public.doctor_gone VALUES (NEW.id);
    EXCEPTION WHEN others THEN
        RAISE WARNING 'no row for %', NEW.id;
    END;
    BEGIN
        INSERT INTO public.doctor_gone_too VALUES (NEW.id);
    EXCEPTION WHEN unique_violation THEN NULL;
    END;
    BEGIN
        INSERT INTO public.doctor_gone_again VALUES (NEW.id);
    EXCEPTION WHEN undefined_table THEN
        RAISE EXCEPTION 'this is passed on';
    END;
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_caught AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_caught();
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_caught()' ORDER BY 2;
-- a guarded trigger's failure is caught, too
SELECT gate FROM invite_sync.guard_trigger('doctor_caught', on_failure => 'let_in');
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_caught()' ORDER BY 2;
SELECT invite_sync.unguard_trigger('doctor_caught');
-- disabled
ALTER TABLE auth.users DISABLE TRIGGER doctor_caught;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE object LIKE '%doctor_caught%';
DROP TRIGGER doctor_caught ON auth.users;
DROP FUNCTION public.doctor_caught();

-- ---- what is asked for first is not missing; what another operation's branch does is not done ----
CREATE FUNCTION public.doctor_asks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    r record;
BEGIN
    IF to_regclass('public.doctor_gone') IS NOT NULL THEN
        INSERT INTO public.doctor_gone VALUES (NEW.id);
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM public.doctor_gone WHERE id = OLD.id;
    END IF;
    IF TG_TABLE_NAME = 'doctor_profiles' THEN
        PERFORM NEW.code;
    END IF;
    CREATE TEMP TABLE IF NOT EXISTS doctor_scratch (id uuid);
    INSERT INTO doctor_scratch VALUES (NEW.id);
    EXECUTE format('SELECT 1 FROM %I', 'doctor_gone');
    FOR r IN EXECUTE 'SELECT 1 AS one' LOOP
        PERFORM r.anything;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_asks AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_asks();
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_asks()';
-- the same unasked, in a loop, a CASE, an EXECUTE of a constant, a default, and a handler
CREATE OR REPLACE FUNCTION public.doctor_asks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    r record;
    n integer := (SELECT count(*) FROM public.doctor_gone_1);
BEGIN
    FOR i IN 1 .. (SELECT count(*) FROM public.doctor_gone_2) LOOP
        PERFORM 1 FROM public.doctor_gone_3;
    END LOOP;
    CASE WHEN n > 0 THEN PERFORM 1 FROM public.doctor_gone_4; ELSE n := (SELECT 1 FROM public.doctor_gone_5); END CASE;
    EXECUTE 'SELECT 1 FROM public.doctor_gone_6';
    FOR r IN SELECT u.id, u.email FROM auth.users u LOOP
        n := r.email_address;
    END LOOP;
    WHILE n > 0 LOOP
        EXIT WHEN EXISTS (SELECT FROM public.doctor_gone_7);
        RAISE NOTICE '%', (SELECT 1 FROM public.doctor_gone_8);
    END LOOP;
    IF n = 1 THEN NULL; ELSIF n = (SELECT 1 FROM public.doctor_gone_9) THEN PERFORM NEW.no_such_field; END IF;
    RETURN NULL;
EXCEPTION WHEN division_by_zero THEN
    INSERT INTO public.doctor_gone_10 VALUES (1);
    RETURN NULL;
END $$;
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_asks()' ORDER BY length(finding), finding;
DROP TRIGGER doctor_asks ON auth.users;
DROP FUNCTION public.doctor_asks();

-- ---- what belongs to a superuser is looked at for one alone ----
CREATE FUNCTION public.doctor_super() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.doctor_gone VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_super AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_super();
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_super()';
SET ROLE postgres;
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_super()';
RESET ROLE;
DROP TRIGGER doctor_super ON auth.users;
DROP FUNCTION public.doctor_super();

-- ---- nobody's code runs: an IMMUTABLE function, a default, a CHECK, an index, a domain, an input that says who it is ----
CREATE TABLE public.doctor_ran (who text);
GRANT ALL ON public.doctor_ran TO PUBLIC;
GRANT CREATE ON SCHEMA public TO regress_doctor;
SET ROLE regress_doctor;
CREATE FUNCTION public.doctor_note() RETURNS void LANGUAGE sql VOLATILE SET search_path = '' AS $$ INSERT INTO public.doctor_ran VALUES (current_user) $$;
CREATE FUNCTION public.doctor_plant(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM public.doctor_note();
    RETURN v;
END $$;
CREATE DOMAIN public.doctor_domain AS text DEFAULT public.doctor_plant('domain') CHECK (public.doctor_plant(VALUE) IS NOT NULL);
CREATE TABLE public.doctor_planted (id uuid, a text DEFAULT public.doctor_plant('a') CHECK (public.doctor_plant(a) <> ''), b public.doctor_domain,
                                    c text GENERATED ALWAYS AS (public.doctor_plant('c')) STORED);
CREATE INDEX ON public.doctor_planted (public.doctor_plant('index'));
CREATE VIEW public.doctor_view AS SELECT id, public.doctor_plant('view') AS v FROM public.doctor_planted WHERE public.doctor_plant('where') = 'where';
CREATE FUNCTION public.doctor_harmless() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    declared text := public.doctor_plant('declared');
BEGIN
    INSERT INTO public.doctor_planted (id, b) VALUES (NEW.id, public.doctor_plant('b'));
    PERFORM 1 FROM public.doctor_view WHERE v = public.doctor_plant('constant') || 'constant';
    IF public.doctor_plant('condition') = 'condition' THEN
        EXECUTE 'SELECT public.doctor_plant(''executed'')';
    END IF;
    RETURN NULL;
END $$;
RESET ROLE;
CREATE TRIGGER doctor_harmless AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_harmless();
EXPLAIN (COSTS off) SELECT public.doctor_plant('planned');
SELECT DISTINCT who AS planning_runs_it FROM public.doctor_ran ORDER BY 1;
DELETE FROM public.doctor_ran;
SELECT severity, object, finding FROM invite_sync.doctor() WHERE object LIKE '%doctor_%' AND object NOT LIKE '%probe%';
SET ROLE postgres;
SELECT severity, object, finding FROM invite_sync.doctor() WHERE object LIKE '%doctor_%' AND object NOT LIKE '%probe%';
RESET ROLE;
SELECT * FROM public.doctor_ran;
DROP TRIGGER doctor_harmless ON auth.users;
DROP TRIGGER doctor_path ON auth.users;
DROP OWNED BY regress_doctor;
DROP ROLE regress_doctor;
DROP TABLE public.doctor_ran, public.doctor_profiles;
DROP FUNCTION public.doctor_path();

-- ---- the same fault in one body, reached twice, is told once ----
CREATE FUNCTION public.doctor_twice() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    PERFORM uuid_nil();
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_twice_1 AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_twice();
CREATE TRIGGER doctor_twice_2 AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_twice();
SELECT count(*) FROM invite_sync.doctor() WHERE object = 'public.doctor_twice()';
DROP TRIGGER doctor_twice_1 ON auth.users;
DROP TRIGGER doctor_twice_2 ON auth.users;
DROP FUNCTION public.doctor_twice();
