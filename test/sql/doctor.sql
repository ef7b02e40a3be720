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

-- also where names and rights are what is wrong; the path holds each schema once, and nothing contains what is caught
CREATE TABLE public.doctor_near (id uuid);
CREATE TABLE public.doctor_nearer (id uuid);
CREATE FUNCTION public.doctor_caught() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO doctor_near VALUES (NEW.id);
    INSERT INTO doctor_nearer VALUES (NEW.id);
    INSERT INTO public.doctor_gone VALUES (NEW.id);
    RETURN NULL;
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_caught AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_caught();
SELECT severity, finding, detail ~ 'exception handler catches it' AS caught, fix FROM invite_sync.doctor() WHERE object = 'public.doctor_caught()' ORDER BY 2;
DROP TRIGGER doctor_caught ON auth.users;
DROP FUNCTION public.doctor_caught();
DROP TABLE public.doctor_near, public.doctor_nearer;

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
    EXECUTE format('SELECT 1 FROM %I', NEW.aud);
    FOR r IN EXECUTE format('SELECT 1 AS %I', NEW.aud) LOOP
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

-- ---- EXECUTE of what is always the same text; what is not stays unjudged ----
CREATE TABLE public.doctor_notes (id uuid PRIMARY KEY, kind text NOT NULL, n integer);
CREATE FUNCTION public.doctor_executes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    q text := 'SELECT 1 FROM ';
    r record;
BEGIN
    EXECUTE format('SELECT 1 FROM public.%I', 'doctor_gone_1');
    EXECUTE 'SELECT 1 FROM public.' || quote_ident(TG_TABLE_NAME || '_gone_2');
    EXECUTE format('SELECT 1 FROM %I.%2$I', 'public', TG_ARGV[0]);
    EXECUTE concat('INSERT INTO public.doctor_notes (id, kind) VALUES ($1, ', quote_literal(NEW.email), ')') USING 4;
    EXECUTE 'INSERT INTO public.doctor_notes (id, kind) VALUES ($1, $2)' USING NEW.id, NEW.raw_user_meta_data ->> 'kind';
    q := q || 'public.doctor_gone_4';
    EXECUTE q;
    FOR r IN EXECUTE 'SELECT 1 AS one' LOOP
        PERFORM r.two;
    END LOOP;
    EXECUTE 'SELECT ''' || (NEW.raw_user_meta_data ->> 'told') || '''';
    -- not the same each time, or not seen to be
    IF NEW.email IS NOT NULL THEN
        q := 'SELECT 1';
    ELSE
        q := 'SELECT 1 FROM public.doctor_gone_5';
    END IF;
    EXECUTE q;
    EXECUTE format('SELECT 1 FROM public.%I', NEW.aud);
    EXECUTE format('SELECT 1 FROM public.%I', TG_ARGV[1]);
    EXECUTE format('SELECT 1 FROM public.%I', left('doctor_gone_6', 12));
    EXECUTE format('SELECT %-10s FROM public.doctor_gone_7', 1);
    EXECUTE format('INSERT INTO public.doctor_notes (id, kind, n) VALUES (%L, %L, %L)', NEW.id, NEW.raw_user_meta_data ->> 'kind', NEW.phone);
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_executes AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_executes('doctor_gone_3');
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_executes()' ORDER BY finding COLLATE "C";
DROP TRIGGER doctor_executes ON auth.users;
DROP FUNCTION public.doctor_executes();

-- ---- a WHEN clause is evaluated by whoever writes; what a condition asks for twice it guards itself ----
CREATE FUNCTION public.doctor_when(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t NOT IN (SELECT g.kind FROM doctor_notes g); END $$;
CREATE FUNCTION public.doctor_then() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
REVOKE EXECUTE ON FUNCTION public.doctor_when(text) FROM PUBLIC;
CREATE TRIGGER doctor_then AFTER INSERT ON auth.users FOR EACH ROW
    WHEN (public.doctor_when(NEW.email) AND (NEW.raw_user_meta_data ->> 'age')::integer > 17
          AND NEW.raw_user_meta_data ->> 'size' ~ '^[0-9]+$' AND (NEW.raw_user_meta_data ->> 'size')::integer > 1)
    EXECUTE FUNCTION public.doctor_then();
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE object LIKE '%doctor_%' ORDER BY object, finding;
DROP TRIGGER doctor_then ON auth.users;
DROP FUNCTION public.doctor_then(), public.doctor_when(text);

-- ---- what is looked up is there, or filled before, or asked after: only what is none of it is told ----
CREATE TABLE public.doctor_roles (id integer, name text, "x""; drop table y; --" text);
INSERT INTO public.doctor_roles VALUES (1, 'one'), (2, 'two'), (2, 'another two');
CREATE FUNCTION public.doctor_looks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    r text;
    a integer;
    b integer;
BEGIN
    SELECT d.name INTO r FROM public.doctor_roles d WHERE d."x""; drop table y; --" = 'x' AND d.id = 4;
    INSERT INTO public.doctor_notes (id, kind) VALUES (NEW.id, r);
    SELECT d.id INTO STRICT a FROM public.doctor_roles d WHERE d.name = 'nobody';
    SELECT d.id INTO b FROM public.doctor_roles d WHERE d.name = 'somebody';
    IF b IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.doctor_notes (id, kind) VALUES (NEW.id, b::text);
    INSERT INTO public.doctor_notes (id, kind) VALUES (NEW.id, (SELECT d.name FROM public.doctor_roles d WHERE d.id = 1));
    INSERT INTO public.doctor_notes (id, kind) VALUES (NEW.id, (SELECT d.name FROM public.doctor_roles d WHERE d.id = 2));
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_looks AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_looks();
SELECT severity, finding, substring(detail FROM 'line [0-9]+') AS at FROM invite_sync.doctor() WHERE object = 'public.doctor_looks()' ORDER BY length(detail);
-- where row level security is forced, its owner is no witness
ALTER TABLE public.doctor_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.doctor_roles FORCE ROW LEVEL SECURITY;
SELECT severity, finding, substring(detail FROM 'line [0-9]+') AS at FROM invite_sync.doctor() WHERE object = 'public.doctor_looks()' ORDER BY length(detail);
ALTER TABLE public.doctor_roles DISABLE ROW LEVEL SECURITY;
CREATE OR REPLACE FUNCTION public.doctor_looks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    a text;
BEGIN
    INSERT INTO public.doctor_roles (id, name) VALUES (7, 'new');
    SELECT d.name INTO STRICT a FROM public.doctor_roles d WHERE d.id = 7;
    RETURN NULL;
END $$;
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_looks()';
DROP TRIGGER doctor_looks ON auth.users;
DROP FUNCTION public.doctor_looks();
DROP TABLE public.doctor_roles, public.doctor_notes;

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
-- what is undone is counted all the same
CREATE SEQUENCE public.doctor_runs;
GRANT ALL ON SEQUENCE public.doctor_runs TO PUBLIC;
GRANT CREATE ON SCHEMA public TO regress_doctor;
SET ROLE regress_doctor;
CREATE FUNCTION public.doctor_note() RETURNS void LANGUAGE sql VOLATILE SET search_path = '' AS $$ SELECT pg_catalog.nextval('public.doctor_runs'); INSERT INTO public.doctor_ran VALUES (current_user) $$;
CREATE FUNCTION public.doctor_plant(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM public.doctor_note();
    RETURN v;
END $$;
CREATE DOMAIN public.doctor_domain AS text DEFAULT public.doctor_plant('domain') CHECK (public.doctor_plant(VALUE) IS NOT NULL);
CREATE TABLE public.doctor_planted (id uuid, a text DEFAULT public.doctor_plant('a') CHECK (public.doctor_plant(a) <> ''), b public.doctor_domain,
                                    c text GENERATED ALWAYS AS (public.doctor_plant('c')) STORED);
CREATE INDEX ON public.doctor_planted (public.doctor_plant('index'));
CREATE TABLE public.doctor_checked (a text CHECK (a < public.doctor_plant('check')));
CREATE VIEW public.doctor_view AS SELECT id, public.doctor_plant('view') AS v FROM public.doctor_planted WHERE public.doctor_plant('where') = 'where';
CREATE FUNCTION public.doctor_harmless() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    declared text := public.doctor_plant('declared');
BEGIN
    INSERT INTO public.doctor_planted (id, b) VALUES (NEW.id, public.doctor_plant('b'));
    PERFORM 1 FROM public.doctor_view WHERE v = public.doctor_plant('constant') || 'constant';
    IF public.doctor_plant('condition') = 'condition' THEN
        EXECUTE 'SELECT public.doctor_plant(''executed'')';
        EXECUTE format('SELECT public.doctor_plant(%L)', 'formatted');
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.doctor_looks_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    it text;
BEGIN
    SELECT p.a INTO STRICT it FROM public.doctor_checked p WHERE p.a = 'nobody';
    SELECT p.a INTO STRICT it FROM public.doctor_planted p WHERE p.a = 'nobody';
    RETURN NULL;
END $$;
RESET ROLE;
CREATE TRIGGER doctor_looks_up AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_looks_up();
CREATE TRIGGER doctor_harmless AFTER INSERT ON auth.users FOR EACH ROW WHEN (public.doctor_plant('when') = 'when') EXECUTE FUNCTION public.doctor_harmless();
EXPLAIN (COSTS off) SELECT public.doctor_plant('planned');
SELECT DISTINCT who AS planning_runs_it FROM public.doctor_ran ORDER BY 1;
SELECT is_called AS and_counts FROM public.doctor_runs;
DELETE FROM public.doctor_ran;
ALTER SEQUENCE public.doctor_runs RESTART;
SET constraint_exclusion = on;
SELECT severity, object, finding FROM invite_sync.doctor() WHERE object LIKE '%doctor_%' AND object NOT LIKE '%probe%';
SET ROLE postgres;
SELECT severity, object, finding FROM invite_sync.doctor() WHERE object LIKE '%doctor_%' AND object NOT LIKE '%probe%';
RESET ROLE;
SELECT * FROM public.doctor_ran;
SELECT is_called AS something_ran FROM public.doctor_runs;
RESET constraint_exclusion;
DROP TRIGGER doctor_harmless ON auth.users;
DROP TRIGGER doctor_looks_up ON auth.users;
DROP TRIGGER doctor_path ON auth.users;
DROP OWNED BY regress_doctor;
DROP ROLE regress_doctor;
DROP SEQUENCE public.doctor_runs;
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

-- ---- a body is compiled anew each time: what its declarations take their types from may be another by now ----
CREATE TABLE public.doctor_kinds (a varchar(3));
CREATE FUNCTION public.doctor_declares() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    r public.doctor_kinds%ROWTYPE;
    a public.doctor_kinds.a%TYPE;
BEGIN
    a := 'longer';
    r.a := a;
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_declares AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_declares();
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_declares()';
ALTER TABLE public.doctor_kinds ALTER COLUMN a TYPE text;
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_declares()';
DROP TABLE public.doctor_kinds;
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_declares()';
CREATE TABLE public.doctor_kinds (a text);
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_declares()';
DROP TABLE public.doctor_kinds;
DROP TRIGGER doctor_declares ON auth.users;
DROP FUNCTION public.doctor_declares();

-- ---- values that are in each other twice make more than could be walked ----
SELECT format('CREATE FUNCTION public.doctor_doubles() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '''' AS %L',
    'DECLARE v0 text := ''x'';' || string_agg(format(' v%s text := v%s || v%s;', i, i - 1, i - 1), '' ORDER BY i) || ' BEGIN RETURN NULL; END')
    AS make FROM generate_series(1, 60) AS i \gset
:make;
CREATE TRIGGER doctor_doubles AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_doubles();
SET statement_timeout = '30s';
SELECT count(*) FROM invite_sync.doctor() WHERE object = 'public.doctor_doubles()';
RESET statement_timeout;
DROP TRIGGER doctor_doubles ON auth.users;
DROP FUNCTION public.doctor_doubles();

-- ---- a role that is gone still owns something, as where it is dropped meanwhile ----
CREATE TABLE public.doctor_owned (id uuid);
CREATE VIEW public.doctor_owned_view AS SELECT id FROM public.doctor_owned;
CREATE FUNCTION public.doctor_orphan() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.doctor_owned (id) VALUES (NEW.id);
    PERFORM FROM public.doctor_owned_view;
    RETURN NULL;
END $$;
GRANT SELECT ON public.doctor_owned_view TO PUBLIC;
CREATE TRIGGER doctor_orphan AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_orphan();
UPDATE pg_catalog.pg_proc SET proowner = 987654321 WHERE oid = 'public.doctor_orphan'::regproc;
UPDATE pg_catalog.pg_class SET relowner = 987654321 WHERE oid = 'public.doctor_owned_view'::regclass;
SELECT severity, object, finding, fix FROM invite_sync.doctor() WHERE object = 'public.doctor_owned';
DROP TRIGGER doctor_orphan ON auth.users;
DROP FUNCTION public.doctor_orphan();
DROP TABLE public.doctor_owned CASCADE;

-- ---- what PL/pgSQL asks of a new function is none of a call's business ----
CREATE FUNCTION public.doctor_shadows() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    n integer := 1;
BEGIN
    DECLARE
        n integer := 2;
    BEGIN
        n := n + 1;
    END;
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_shadows AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_shadows();
SET plpgsql.extra_errors = 'all';
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_shadows()';
SET plpgsql.extra_warnings = 'all';
SET plpgsql.extra_errors = 'none';
SET client_min_messages = warning;
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_shadows()';
SET client_min_messages = error;
RESET plpgsql.extra_errors;
RESET plpgsql.extra_warnings;
DROP TRIGGER doctor_shadows ON auth.users;
DROP FUNCTION public.doctor_shadows();

-- ---- of a text that is put together, what is known is told ----
CREATE TABLE public.doctor_short (id uuid, a varchar(9), b varchar(9));
CREATE FUNCTION public.doctor_joins() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.doctor_short (id, a, b) VALUES (NEW.id, NEW.phone || '', 'user' || '-' || 'number' || '-' || NEW.phone);
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_joins AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_joins();
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_joins()';
DROP TRIGGER doctor_joins ON auth.users;
DROP FUNCTION public.doctor_joins();
DROP TABLE public.doctor_short;

-- ---- one fix for all that is found in a large body, and an end where it is searched for many columns ----
CREATE TABLE public.doctor_large (id uuid, note text);
SELECT format('CREATE FUNCTION public.doctor_large() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = %L AS $f$ BEGIN %s
    RETURN NULL; END $f$', '',
    (SELECT string_agg(format('INSERT INTO public.doctor_large (id, note) VALUES (NEW.id, (NEW.raw_user_meta_data ->> ''f%s'')::int); -- %s', i, repeat('z', 40)), E'\n') FROM generate_series(1, 700) AS i))
    AS make \gset
:make;
CREATE TRIGGER doctor_large AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_large();
\c -
SET client_min_messages = error;
SELECT count(*), count(DISTINCT fix) FROM invite_sync.doctor() WHERE object = 'public.doctor_large()';
-- AddressSanitizer keeps what was freed for a while
SELECT substring(pg_catalog.pg_read_file('/proc/self/status') FROM 'VmHWM:\s*(\d+) kB')::bigint <
    CASE WHEN pg_catalog.pg_read_file('/proc/self/maps') LIKE '%libasan%' THEN 600 ELSE 200 END * 1024 AS "kept once";
DROP TRIGGER doctor_large ON auth.users;
SELECT format('CREATE TABLE public.doctor_wide (id uuid, %s)', (SELECT string_agg(format('c%s text NOT NULL', i), ', ') FROM generate_series(1, 800) AS i)) AS make \gset
:make;
SELECT format('CREATE FUNCTION public.doctor_fills() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END; /* %s */ $f$', repeat('z', 1000000)) AS make \gset
:make;
CREATE TRIGGER doctor_fills BEFORE INSERT ON public.doctor_wide FOR EACH ROW EXECUTE FUNCTION public.doctor_fills();
CREATE OR REPLACE FUNCTION public.doctor_large() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.doctor_wide (id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_large AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_large();
SELECT clock_timestamp() AS began \gset
SET statement_timeout = '300ms';
SELECT count(*) FROM invite_sync.doctor() WHERE object = 'public.doctor_wide';
RESET statement_timeout;
SELECT clock_timestamp() - :'began' < interval '5 s' AS "ended in time";
DROP TRIGGER doctor_large ON auth.users;
DROP FUNCTION public.doctor_large();
DROP TABLE public.doctor_large, public.doctor_wide;
DROP FUNCTION public.doctor_fills();

-- ---- a word that a condition asks for is remembered after it, also one of no type ----
CREATE TABLE public.doctor_words (id uuid, note text);
CREATE FUNCTION public.doctor_words() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    age integer;
BEGIN
    IF concat('age', NEW.email) <> 'x' THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.doctor_words (id, note) SELECT NEW.id, string_agg(t.n::text, 'x') FROM generate_series(1, 3) AS t (n) WHERE t.n::text <> 'something else';
    age := (NEW.raw_user_meta_data ->> 'age')::integer;
    RETURN NULL;
END $$;
CREATE TRIGGER doctor_words AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.doctor_words();
SELECT severity, finding FROM invite_sync.doctor() WHERE object = 'public.doctor_words()';
DROP TRIGGER doctor_words ON auth.users;
DROP FUNCTION public.doctor_words();
DROP TABLE public.doctor_words;
