-- Probes: as the auth server, and never kept.
SET client_min_messages = warning;
\set VERBOSITY terse

-- ---- a healthy database: every step of every kind passes, and nothing remains ----
SET ROLE postgres;
CREATE TABLE public.probe_profiles (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, email text, full_name text);
SELECT target FROM invite_sync.add_target('public.probe_profiles');
SELECT invite_sync.attach() IS NOT NULL AS attached;
RESET ROLE;
SELECT (SELECT count(*) FROM auth.users) AS users, (SELECT count(*) FROM invite_sync.event) AS events,
       (SELECT count(*) FROM invite_sync.quarantine_entry) AS entries \gset
-- whatever tables there are: events, quarantine, rate limits, quotas, the auth server's own
CREATE FUNCTION public.probe_rows() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    rel regclass;
    n bigint;
    rows text := '';
BEGIN
    FOR rel IN SELECT c.oid FROM pg_class AS c WHERE c.relkind IN ('r', 'p') AND c.relnamespace IN ('invite_sync'::regnamespace, 'auth'::regnamespace, 'public'::regnamespace) ORDER BY 1 LOOP
        EXECUTE format('SELECT count(*) FROM %s', rel) INTO n;
        rows := rows || format('%s %s, ', rel, n);
    END LOOP;
    RETURN rows;
END $$;
SELECT public.probe_rows() AS rows \gset
SELECT kind, string_agg(step, ', ' ORDER BY n) AS steps FROM invite_sync.probe_signup() WITH ORDINALITY AS p (kind, step, w, ok, s, m, t, c, k, f, l, st, n) WHERE ok GROUP BY kind ORDER BY min(n);
SELECT string_agg(step, ', ') FROM invite_sync.probe_update('{email}') WHERE ok AND step NOT LIKE 'insert%';
SELECT string_agg(step, ', ') FROM invite_sync.probe_login('{oauth}') WHERE ok;
SELECT string_agg(step, ', ') FROM invite_sync.probe_delete('{phone}') WHERE ok;
SELECT count(*) AS not_ok FROM (SELECT ok FROM invite_sync.probe_signup(isolate => true) UNION ALL SELECT ok FROM invite_sync.probe_update()
    UNION ALL SELECT ok FROM invite_sync.probe_login() UNION ALL SELECT ok FROM invite_sync.probe_delete()) p WHERE ok IS DISTINCT FROM true;
SELECT (SELECT count(*) FROM auth.users) = :users AND (SELECT count(*) FROM invite_sync.event) = :events AND
       (SELECT count(*) FROM invite_sync.quarantine_entry) = :entries AND NOT EXISTS (SELECT FROM public.probe_profiles) AS nothing_remains, public.probe_rows() = :'rows' AS in_no_table,
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory_locks, current_setting('invite_sync.probing') AS probing, current_user, session_user;

DROP FUNCTION public.probe_rows();

-- ---- arguments, and who may ----
SELECT * FROM invite_sync.probe_signup('{nobody}');
SELECT * FROM invite_sync.probe_signup('{}');
SELECT * FROM invite_sync.probe_signup(side_effects => 'maybe');
SET ROLE authenticated;
SELECT * FROM invite_sync.probe_signup();
RESET ROLE;
GRANT USAGE ON SCHEMA invite_sync TO authenticated;
GRANT EXECUTE ON FUNCTION invite_sync.probe_delete(text[], boolean, text) TO authenticated;
SET ROLE authenticated;
SELECT * FROM invite_sync.probe_delete();
RESET ROLE;
REVOKE EXECUTE ON FUNCTION invite_sync.probe_delete(text[], boolean, text) FROM authenticated;
SET ROLE postgres;
SELECT bool_and(ok) AS an_operator_may FROM invite_sync.probe_signup();
RESET ROLE;
BEGIN READ ONLY;
SELECT * FROM invite_sync.probe_signup();
ROLLBACK;
SET invite_sync.probing = on;
RESET invite_sync.probing;

-- ---- what a step says of a failure ----
SET ROLE postgres;
CREATE TABLE public.probe_people (id uuid PRIMARY KEY, nick text NOT NULL CONSTRAINT probe_nick_length CHECK (length(nick) > 1), age int);
CREATE FUNCTION public.probe_inner(id uuid, meta jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.probe_people VALUES (id, meta ->> 'nick', (meta ->> 'age')::int);
END $$;
CREATE FUNCTION public.probe_outer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN

    PERFORM public.probe_inner(NEW.id, NEW.raw_user_meta_data);
    RETURN NEW;
END $$;
CREATE TRIGGER probe_outer AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_outer();
RESET ROLE;
SELECT kind, step, ok, sqlstate, message, table_name, column_name, constraint_name, function, line FROM invite_sync.probe_signup() WHERE NOT ok OR kind = 'email';
SELECT frame FROM invite_sync.probe_signup('{invited}') CROSS JOIN unnest(call_stack) WITH ORDINALITY AS s (frame, n) ORDER BY n;
-- the signup without it passes, and nobody was locked out meanwhile
SELECT without_trigger, step, ok FROM invite_sync.probe_signup('{invited}', isolate => true);
SELECT tgenabled FROM pg_trigger WHERE tgname = 'probe_outer';
-- nor is it the first one's fault where it fails further on
ALTER TABLE public.probe_people ALTER nick DROP NOT NULL;
CREATE FUNCTION public.probe_further() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW.missing; END $$;
CREATE TRIGGER probe_further BEFORE INSERT ON public.probe_people FOR EACH ROW EXECUTE FUNCTION public.probe_further();
CREATE TRIGGER probe_no_matter BEFORE DELETE ON public.probe_people FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT without_trigger, bool_and(ok) FROM invite_sync.probe_signup('{invited}', isolate => true) GROUP BY 1 ORDER BY 1 NULLS FIRST;
DROP TRIGGER probe_further ON public.probe_people;
DROP TRIGGER probe_no_matter ON public.probe_people;
DROP FUNCTION public.probe_further();
ALTER TABLE public.probe_people ALTER nick SET NOT NULL;
-- a check, told by its name
ALTER TABLE public.probe_people ALTER nick DROP NOT NULL, ALTER nick SET DEFAULT 'x';
CREATE OR REPLACE FUNCTION public.probe_inner(id uuid, meta jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS
$$ INSERT INTO public.probe_people VALUES (id, coalesce(meta ->> 'nick', '-')) $$;
SELECT sqlstate, message, table_name, constraint_name, function, line FROM invite_sync.probe_signup('{oauth}') WHERE NOT ok;
-- in the same transaction as the change that is to be tried
BEGIN;
ALTER TABLE public.probe_people DROP CONSTRAINT probe_nick_length;
SELECT bool_and(ok) FROM invite_sync.probe_signup();
ROLLBACK;
SELECT bool_and(ok) FROM invite_sync.probe_signup('{anonymous}');
DROP TRIGGER probe_outer ON auth.users;
-- whatever functions are called; PostgreSQL names those in SQL without schema and quotes
CREATE FUNCTION public."x"" statement 1; drop table y; --"(u uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS
$$ INSERT INTO public.probe_people VALUES (u, '') $$;
CREATE FUNCTION public."onSignup line 9 at"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    PERFORM public."x"" statement 1; drop table y; --"(NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER probe_names AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public."onSignup line 9 at"();
SELECT function, line, call_stack FROM invite_sync.probe_signup('{oauth}') WHERE NOT ok;
CREATE OR REPLACE FUNCTION public."onSignup line 9 at"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEW.missing;
END $$;
SELECT function, line FROM invite_sync.probe_signup('{oauth}') WHERE NOT ok;
-- values of which only the application knows what they must be are made up: no failure, and what comes behind them is tried
CREATE OR REPLACE FUNCTION public."onSignup line 9 at"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.probe_people (id, nick, age) VALUES (NEW.id, 'nick', extract(year FROM to_date(NEW.raw_user_meta_data ->> 'since', 'YYYY')));
    RETURN NEW;
END $$;
SELECT step, ok, sqlstate, regexp_replace(message, 'Probe [0-9a-f]+', 'Probe ...') AS message FROM invite_sync.probe_signup('{email}');
SELECT severity, finding FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
CREATE OR REPLACE FUNCTION public."onSignup line 9 at"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.probe_people (id, nick, age) VALUES (NEW.id, rtrim('n '), extract(year FROM to_date(NEW.raw_user_meta_data ->> 'since', 'YYYY')));
    RETURN NEW;
END $$;
SELECT step, ok, sqlstate, constraint_name FROM invite_sync.probe_signup('{email}');
DROP TRIGGER probe_names ON auth.users;
DROP FUNCTION public."onSignup line 9 at"(), public."x"" statement 1; drop table y; --"(uuid);

-- ---- what the auth server says: a trigger on INSERT sees neither role nor invitation, what comes with it comes later ----
CREATE FUNCTION public.probe_reads() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    n jsonb := to_jsonb(NEW);
BEGIN
    RAISE EXCEPTION '% % role <%> invited <%> confirmed <%> metadata %', TG_OP, TG_TABLE_NAME, n ->> 'role', n ->> 'invited_at', n ->> 'email_confirmed_at',
        (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(n -> 'raw_user_meta_data') AS k);
END $$;
CREATE TRIGGER probe_reads AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_reads();
SELECT kind, step, message FROM invite_sync.probe_signup('{invited,oauth}') WHERE NOT ok;
DROP TRIGGER probe_reads ON auth.users;
CREATE TRIGGER probe_reads AFTER UPDATE OF raw_user_meta_data ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_reads();
SELECT kind, step, message FROM invite_sync.probe_signup('{phone,invited}') WHERE NOT ok;
DROP TRIGGER probe_reads ON auth.users;
CREATE TRIGGER probe_reads BEFORE INSERT ON auth.audit_log_entries FOR EACH ROW EXECUTE FUNCTION public.probe_reads();
SELECT kind, step, message FROM invite_sync.probe_signup('{email,anonymous}') WHERE NOT ok;
DROP TRIGGER probe_reads ON auth.audit_log_entries;
CREATE TRIGGER probe_reads BEFORE UPDATE ON auth.refresh_tokens FOR EACH ROW EXECUTE FUNCTION public.probe_reads();
SELECT kind, step, message FROM invite_sync.probe_login('{email,anonymous}') WHERE NOT ok;
DROP TRIGGER probe_reads ON auth.refresh_tokens;
CREATE TRIGGER probe_reads BEFORE UPDATE ON auth.identities FOR EACH ROW EXECUTE FUNCTION public.probe_reads();
SELECT kind, step, message FROM invite_sync.probe_delete('{email,anonymous}') WHERE NOT ok;
DROP TRIGGER probe_reads ON auth.identities;
DROP FUNCTION public.probe_reads();

-- ---- messages name nobody ----
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000aa', 'somebody.else@people.example');
CREATE FUNCTION public.probe_tells() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RAISE EXCEPTION 'not % but %.', (SELECT email FROM auth.users WHERE id = '00000000-0000-4000-8000-0000000000aa'), NEW.email;
END $$;
CREATE TRIGGER probe_tells BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_tells();
SELECT regexp_replace(message, 'probe-[-0-9a-f]*@', 'probe-ID@') AS message, sqlstate FROM invite_sync.probe_signup('{email}') WHERE NOT ok;
CREATE OR REPLACE FUNCTION public.probe_tells() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM split_part(email, '@', 1)::int FROM auth.users WHERE id = '00000000-0000-4000-8000-0000000000aa';
    RETURN NEW;
END $$;
SELECT message, sqlstate FROM invite_sync.probe_signup('{email}') WHERE NOT ok;
DELETE FROM auth.users;
-- a row that never arrives is no success
CREATE OR REPLACE FUNCTION public.probe_tells() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT step, ok, message FROM invite_sync.probe_signup('{email}');
DROP TRIGGER probe_tells ON auth.users;

-- ---- deferred: found at the end of what the auth server does in one transaction, and left deferred ----
CREATE TABLE public.probe_legacy (id uuid PRIMARY KEY);
CREATE TABLE public.probe_late (id uuid PRIMARY KEY CONSTRAINT probe_late_wrong REFERENCES public.probe_legacy DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION public.probe_late() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN INSERT INTO public.probe_late VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER probe_late AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_late();
SELECT step, ok, sqlstate, table_name, constraint_name FROM invite_sync.probe_signup('{oauth}');
ALTER TABLE public.probe_late DROP CONSTRAINT probe_late_wrong;
-- one that only the whole transaction satisfies, at every one of them
CREATE FUNCTION public.probe_needs_identity() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF EXISTS (SELECT FROM auth.users u WHERE u.id = NEW.id AND NOT u.is_anonymous) AND NOT EXISTS (SELECT FROM auth.identities i WHERE i.user_id = NEW.id) THEN
        RAISE EXCEPTION 'no identity';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER probe_needs_identity AFTER INSERT OR UPDATE ON auth.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.probe_needs_identity();
-- inserted before what it refers to: immediate, it would fail
ALTER TABLE public.probe_late ADD CONSTRAINT probe_late_right FOREIGN KEY (id) REFERENCES public.probe_legacy DEFERRABLE INITIALLY DEFERRED;
CREATE OR REPLACE FUNCTION public.probe_late() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.probe_late VALUES (gen_random_uuid()) RETURNING id INTO NEW.id;
    INSERT INTO public.probe_legacy VALUES (NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER probe_later AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_late();
SELECT count(*) AS steps, bool_and(ok) FROM (SELECT ok FROM invite_sync.probe_signup() UNION ALL SELECT ok FROM invite_sync.probe_update()
    UNION ALL SELECT ok FROM invite_sync.probe_login() UNION ALL SELECT ok FROM invite_sync.probe_delete()) p;
-- with a namesake that cannot be deferred
CREATE TABLE public.probe_namesake (id uuid CONSTRAINT probe_late_right UNIQUE);
SELECT bool_and(ok) FROM invite_sync.probe_signup();
DROP TABLE public.probe_namesake;
-- what the caller's own transaction has pending: neither fired for good nor taken for the probe's
BEGIN;
INSERT INTO public.probe_late VALUES ('00000000-0000-4000-8000-0000000000ab');
SELECT * FROM invite_sync.probe_signup();
ROLLBACK;
BEGIN;
INSERT INTO public.probe_late VALUES ('00000000-0000-4000-8000-0000000000ab');
INSERT INTO public.probe_legacy VALUES ('00000000-0000-4000-8000-0000000000ab');
SELECT bool_and(ok) FROM invite_sync.probe_signup();
-- still deferred, and still to be checked
DELETE FROM public.probe_legacy;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
-- whatever the code sets
CREATE FUNCTION public.probe_sets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; RETURN NULL; END $$;
CREATE TRIGGER z_probe_sets AFTER INSERT ON auth.identities FOR EACH ROW EXECUTE FUNCTION public.probe_sets();
BEGIN;
SELECT bool_and(ok) FROM invite_sync.probe_login();
INSERT INTO public.probe_late VALUES ('00000000-0000-4000-8000-0000000000ab');
ROLLBACK;
DROP TRIGGER z_probe_sets ON auth.identities;
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT bool_and(ok) FROM invite_sync.probe_signup();
INSERT INTO public.probe_late VALUES ('00000000-0000-4000-8000-0000000000ab');
ROLLBACK;
DROP TRIGGER probe_late ON auth.users;
DROP TRIGGER probe_later ON auth.users;
DROP TRIGGER probe_needs_identity ON auth.users;

-- ---- our own triggers fail no signup: what would be in quarantine is a step ----
SET ROLE postgres;
ALTER TABLE public.probe_profiles ADD COLUMN plan text NOT NULL;
RESET ROLE;
SELECT kind, step, ok, sqlstate, message, table_name, column_name FROM invite_sync.probe_signup('{email,anonymous}') WHERE NOT ok;
SELECT count(*) FROM invite_sync.quarantine_entry;
ALTER TABLE public.probe_profiles DROP COLUMN plan;

-- ---- as whom, and with what power ----
CREATE ROLE probe_mallory;
GRANT USAGE, CREATE ON SCHEMA public TO probe_mallory;
GRANT USAGE ON SCHEMA invite_sync TO probe_mallory, supabase_auth_admin;
GRANT EXECUTE ON FUNCTION invite_sync.is_operator(), invite_sync.grant_operator(regrole) TO PUBLIC;
ALTER ROLE supabase_auth_admin SET statement_timeout = '7s';
ALTER ROLE supabase_auth_admin IN DATABASE contrib_regression SET invite_sync.lock_timeout = '700ms';
SET ROLE probe_mallory;
-- what it tries leaves the transaction only by an error, so that a probe can say what it saw
CREATE FUNCTION public.probe_tries() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    got text := '';
    command text;
BEGIN
    FOREACH command IN ARRAY ARRAY['RESET ROLE', 'SET ROLE supabase_admin', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION',
        'SET SESSION AUTHORIZATION DEFAULT', 'SET SESSION AUTHORIZATION supabase_admin', 'SET LOCAL ROLE supabase_admin',
        'SELECT set_config(''role'', ''supabase_admin'', false)', 'SET invite_sync.probing = off', 'ALTER ROLE probe_mallory SUPERUSER',
        'SET session_replication_role = replica', 'SELECT invite_sync.grant_operator(''probe_mallory'')', 'SELECT invite_sync.probe_signup()',
        'DISCARD ALL'] LOOP
        BEGIN
            EXECUTE command;
            got := got || command || '; ';
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    RETURN got;
END $$;
CREATE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    seen text;
BEGIN
    seen := format('%s: %s, super %s, operator %s, path %s, probing %s, statement_timeout %s, lock_timeout %s, replication role %s, claims %s, got %s', TG_NAME, current_user,
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), invite_sync.is_operator(), current_setting('search_path'), current_setting('invite_sync.probing'),
        current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('session_replication_role'), current_setting('request.jwt.claims'), public.probe_tries());
    RAISE EXCEPTION '%', seen;
END $$;
RESET ROLE;
CREATE TRIGGER probe_look AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_look();
SET session_replication_role = replica;
SET search_path = public, auth;
SET statement_timeout = '1h';
SET request.jwt.claims = '{"role": "service_role"}';
SELECT message, ok FROM invite_sync.probe_signup('{anonymous}') WHERE step = 'insert user';
RESET request.jwt.claims;
RESET session_replication_role;
ALTER FUNCTION public.probe_look() SECURITY DEFINER;
ALTER FUNCTION public.probe_look() OWNER TO probe_mallory;
SELECT message FROM invite_sync.probe_signup('{anonymous}') WHERE step = 'insert user';
SHOW search_path;
SHOW statement_timeout;
SELECT invite_sync.is_operator(), current_user;
RESET search_path;
RESET statement_timeout;
-- wherever else code runs: a deferred trigger, what SET CONSTRAINTS fires, a domain's check, an event trigger
CREATE FUNCTION public.probe_says(at text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: %, super %, got %', at, current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), public.probe_tries();
END $$;
CREATE FUNCTION public.probe_late_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.probe_says('deferred'); RETURN NULL; END $$;
CREATE FUNCTION public.probe_ddl_look() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.probe_says('ddl'); END $$;
CREATE DOMAIN public.probe_word AS text CHECK (public.probe_says(VALUE));
CREATE FUNCTION public.probe_as() RETURNS int LANGUAGE sql SET role = 'supabase_admin' AS 'SELECT 1';
ALTER FUNCTION public.probe_look() OWNER TO supabase_admin;
ALTER FUNCTION public.probe_look() SECURITY INVOKER;
CREATE CONSTRAINT TRIGGER probe_late_look AFTER INSERT ON auth.users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.probe_late_look();
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT step, message FROM invite_sync.probe_signup('{anonymous}') WHERE NOT ok;
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; RETURN NULL; END $$;
SELECT step, message FROM invite_sync.probe_signup('{anonymous}') WHERE NOT ok;
DROP TRIGGER probe_late_look ON auth.users;
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE x public.probe_word := 'domain'; BEGIN RETURN NULL; END $$;
SELECT step, message FROM invite_sync.probe_signup('{anonymous}') WHERE NOT ok;
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE probe_temp (); RETURN NULL; END $$;
CREATE EVENT TRIGGER probe_ddl_look ON ddl_command_end EXECUTE FUNCTION public.probe_ddl_look();
SELECT step, message FROM invite_sync.probe_signup('{anonymous}') WHERE NOT ok;
DROP EVENT TRIGGER probe_ddl_look;
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.probe_as(); RETURN NULL; END $$;
SELECT step, ok, message FROM invite_sync.probe_signup('{anonymous}');
-- what would stay in the session, to be executed by who asked
PREPARE probe_kept AS SELECT 'what the asker prepared' AS prepared;
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        DEALLOCATE probe_kept;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    PREPARE probe_kept AS SELECT 'what a trigger prepared' AS prepared;
    RETURN NULL;
END $$;
SELECT step, ok, sqlstate, message FROM invite_sync.probe_signup('{anonymous}');
SELECT step, ok, sqlstate, message FROM invite_sync.probe_signup('{anonymous}', side_effects => 'allow');
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DISCARD PLANS'; RETURN NULL; END $$;
SELECT step, ok, message FROM invite_sync.probe_signup('{anonymous}');
EXECUTE probe_kept;
DEALLOCATE probe_kept;
-- a worker knows of no probe, and would take who asked for the one whose rights count
CREATE TABLE public.probe_many AS SELECT generate_series(1, 20000) AS n;
ANALYZE public.probe_many;
CREATE FUNCTION public.probe_where(leader int) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE COST 100000 AS $$
BEGIN
    RAISE EXCEPTION '%, probing %, in %', (invite_sync.whoami()).kind, current_setting('invite_sync.probing'), CASE pg_backend_pid() WHEN leader THEN 'this process' ELSE 'a worker' END;
END $$;
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET min_parallel_table_scan_size = 0 SET parallel_leader_participation = off AS $$
DECLARE
    leader int := pg_backend_pid();
BEGIN
    -- no other statement of PL/pgSQL asks for workers
    PERFORM min(public.probe_where(leader)) FROM public.probe_many WHERE n % 4000 = 0;
    RETURN NULL;
END $$;
SELECT message FROM invite_sync.probe_signup('{anonymous}') WHERE step = 'insert user';
-- what only applications know of is not the auth server's
ALTER ROLE supabase_auth_admin IN DATABASE contrib_regression SET app.of_the_server = 'its own';
SET app.of_the_asker = 'theirs';
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '<%> <%>', current_setting('app.of_the_asker', true), current_setting('app.of_the_server', true); END $$;
SELECT message FROM invite_sync.probe_signup('{anonymous}') WHERE step = 'insert user';
SELECT current_setting('app.of_the_asker') AS asker, current_setting('app.of_the_server', true) AS server;
ALTER ROLE supabase_auth_admin IN DATABASE contrib_regression RESET app.of_the_server;
-- a trigger that takes another role works at a signup; a probe cannot tell
CREATE OR REPLACE FUNCTION public.probe_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET LOCAL ROLE NONE; RETURN NULL; END $$;
SELECT step, ok, sqlstate, message FROM invite_sync.probe_signup('{anonymous}');
DROP TRIGGER probe_look ON auth.users;

-- an IMMUTABLE function planted by somebody with no power: never the superuser who asked runs it
CREATE SEQUENCE public.probe_super;
CREATE SEQUENCE public.probe_ran;
GRANT USAGE ON SEQUENCE public.probe_super, public.probe_ran TO PUBLIC;
GRANT REFERENCES, INSERT, UPDATE, DELETE, SELECT ON public.probe_profiles TO probe_mallory;
SET ROLE probe_mallory;
CREATE FUNCTION public.probe_planted() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM nextval('public.probe_ran');
    -- sequences stay, whatever is rolled back
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN PERFORM nextval('public.probe_super'); END IF;
    RETURN 'x';
END $$;
CREATE TABLE public.probe_bait (id uuid PRIMARY KEY, email text, note text DEFAULT public.probe_planted() CHECK (note = public.probe_planted()));
CREATE INDEX ON public.probe_bait ((public.probe_planted()));
CREATE POLICY probe_bait ON public.probe_bait USING (note = public.probe_planted());
ALTER TABLE public.probe_bait ENABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT target FROM invite_sync.add_target('public.probe_bait', '{"email": "email"}');
SELECT bool_and(ok) FROM invite_sync.probe_signup();
SELECT count(*) FILTER (WHERE severity = 'error') FROM invite_sync.doctor();
SELECT count(*) >= 0 FROM invite_sync.doctor(probe => true);
SELECT count(*) FILTER (WHERE severity = 'error') FROM invite_sync.verify();
SELECT (SELECT is_called FROM public.probe_ran) AS it_ran, (SELECT is_called FROM public.probe_super) AS as_superuser;
SELECT invite_sync.drop_target('public.probe_bait');
DROP TABLE public.probe_bait;
DROP TABLE public.probe_many;
DROP DOMAIN public.probe_word;
DROP FUNCTION public.probe_planted(), public.probe_look(), public.probe_tries(), public.probe_says(text), public.probe_late_look(), public.probe_ddl_look(), public.probe_as(), public.probe_where(int);
REVOKE EXECUTE ON FUNCTION invite_sync.is_operator(), invite_sync.grant_operator(regrole) FROM PUBLIC;

-- ---- its own statement_timeout is a result; the caller's ends the call ----
CREATE FUNCTION public.probe_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$;
CREATE TRIGGER probe_slow AFTER INSERT ON auth.identities FOR EACH ROW EXECUTE FUNCTION public.probe_slow();
ALTER ROLE supabase_auth_admin SET statement_timeout = '150ms';
SELECT step, ok, sqlstate, message, function FROM invite_sync.probe_signup('{email}');
ALTER ROLE supabase_auth_admin SET statement_timeout = '1min';
SET statement_timeout = '150ms';
SELECT * FROM invite_sync.probe_signup('{email}');
RESET statement_timeout;
SELECT current_setting('invite_sync.probing') AS probing, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory_locks, current_user;
-- raised by somebody, it is no cancellation
CREATE OR REPLACE FUNCTION public.probe_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = 'query_canceled'; END $$;
SELECT step, ok, sqlstate FROM invite_sync.probe_signup('{email}') WHERE NOT ok;
ALTER ROLE supabase_auth_admin RESET statement_timeout;
ALTER ROLE supabase_auth_admin IN DATABASE contrib_regression RESET invite_sync.lock_timeout;
DROP TRIGGER probe_slow ON auth.identities;
DROP FUNCTION public.probe_slow();

-- ---- what no rollback undoes is found before anything fires ----
CREATE SEQUENCE public.probe_fired;
GRANT USAGE ON SEQUENCE public.probe_fired TO PUBLIC;
CREATE FUNCTION public.probe_fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.probe_fired'); RETURN NEW; END $$;
CREATE TRIGGER a_probe_fires BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_fires();
CREATE FUNCTION public.probe_effect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER probe_effect AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_effect();
CREATE FUNCTION public.probe_export(n oid) RETURNS int LANGUAGE sql AS $$ SELECT lo_export(n, '/dev/null') $$;
CREATE TABLE public.probe_deep (id int DEFAULT public.probe_export(0::oid));
CREATE FUNCTION public.probe_c() RETURNS text LANGUAGE c AS '$libdir/invite_sync', 'caller_is_operator';
CREATE LANGUAGE probe_untrusted HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler;
CREATE TABLE public.probe_unseen (a int);
CREATE FUNCTION public.probe_c_trigger() RETURNS trigger LANGUAGE c AS '$libdir/invite_sync', 'sync_on_insert';
CREATE TRIGGER probe_c_trigger BEFORE INSERT ON public.probe_unseen FOR EACH ROW EXECUTE FUNCTION public.probe_c_trigger();
CREATE TABLE public.probe_deeper (a int, b bool DEFAULT pg_try_advisory_lock(1));
CREATE TABLE public.probe_checked (a int CHECK (pg_try_advisory_lock(a) IS NOT NULL));
CREATE TABLE public.probe_row (a int);
CREATE FUNCTION public.probe_of_row(public.probe_row) RETURNS bool LANGUAGE sql AS 'SELECT pg_try_advisory_lock(1)';
CREATE FUNCTION public.probe_atomic() RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT pg_try_advisory_lock(1); END;
CREATE FUNCTION public.probe_alias(bigint) RETURNS bool LANGUAGE internal STRICT AS 'pg_try_advisory_lock_int8';
CREATE FUNCTION public.probe_runs(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$;
CREATE FUNCTION public.probe_valid(text) RETURNS bool LANGUAGE sql AS 'SELECT pg_try_advisory_lock(1) IS NOT NULL';
CREATE DOMAIN public.probe_domain AS text CHECK (public.probe_valid(VALUE));
CREATE DOMAIN public.probe_domain_of AS public.probe_domain;
CREATE TYPE public.probe_pair AS (a int, b public.probe_domain_of[]);
CREATE FUNCTION public.probe_at_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_try_advisory_lock(1); END $$;
CREATE EVENT TRIGGER probe_at_ddl ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION public.probe_at_ddl();
DO $$
DECLARE
    body text;
    found text;
BEGIN
    FOREACH body IN ARRAY ARRAY[
        'PERFORM lo_export(1, ''/dev/null'');',
        'PERFORM pg_catalog.lo_export(1, ''/dev/null'');',
        E'-- \nPERFORM\n  pg_logical_emit_message(false, ''a'', ''b'');',
        'PERFORM pg_logical_emit_message(true, ''a'', ''b'');',
        'COPY (SELECT 1) TO PROGRAM ''true'';',
        'COPY (SELECT 1) TO ''/dev/null'';',
        'COPY public.probe_deep FROM PROGRAM ''true'';',
        'EXECUTE ''COPY (SELECT 1) TO PROGRAM '' || quote_literal(''true'');',
        'EXECUTE $x$ SELECT pg_terminate_backend(0) $x$;',
        'PERFORM public.probe_export(1::oid);',
        'INSERT INTO public.probe_deep DEFAULT VALUES;',
        'PERFORM public.probe_c();',
        'PERFORM pg_advisory_lock(1);',
        'PERFORM pg_advisory_xact_lock(1);',
        'PERFORM pg_notify(''a'', ''b''); -- lo_export(1, 2)',
        'PERFORM ''lo_export(1, 2)''::text;',
        'INSERT INTO public.probe_deeper VALUES (1);',
        'INSERT INTO public.probe_checked VALUES (1);',
        'PERFORM r.probe_of_row FROM public.probe_row AS r;',
        'PERFORM public.probe_atomic();',
        'PERFORM public.probe_alias(1);',
        'PERFORM public.probe_runs(''SELECT lo_export(1, 2)'');',
        'EXECUTE format(''SELECT %I(1)'', ''pg_try_advisory_lock'');',
        'EXECUTE ''SELECT pg_try_advisory_lock'' || ''(1)'';',
        'PERFORM query_to_xml(''SELECT pg_try_advisory_lock(1)'', true, true, '''');',
        'PERFORM ''x''::public.probe_domain_of;',
        'PERFORM NULL::public.probe_pair;',
        'CREATE SCHEMA probe_ddl;',
        'PERFORM ''CREATE SCHEMA probe_ddl;''::text;'] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION public.probe_effect() RETURNS trigger LANGUAGE plpgsql AS %L', E'BEGIN\n' || body || E'\nRETURN NEW; END');
        SELECT string_agg(format('%s (line %s)', message, coalesce(line::text, '-')), '; ') INTO found FROM invite_sync.probe_signup('{anonymous}') WHERE step = 'side effects';
        RAISE WARNING '% -> %', translate(body, E'\n', ' '), coalesce(found, 'nothing');
    END LOOP;
END $$;
SELECT is_called AS fired FROM public.probe_fired;
DROP EVENT TRIGGER probe_at_ddl;
ALTER SEQUENCE public.probe_fired RESTART;
-- arguments of a trigger, and what the caller's own transaction has deferred
CREATE OR REPLACE FUNCTION public.probe_effect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SELECT %I(1)', TG_ARGV[0]); RETURN NEW; END $$;
DROP TRIGGER probe_effect ON auth.users;
CREATE TRIGGER probe_effect AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_effect('pg_try_advisory_lock');
SELECT step, ok, message FROM invite_sync.probe_signup('{anonymous}');
DROP TRIGGER probe_effect ON auth.users;
CREATE CONSTRAINT TRIGGER probe_effect AFTER INSERT ON public.probe_row DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.probe_effect('pg_try_advisory_lock');
SELECT bool_and(ok) AS nothing_waits FROM invite_sync.probe_signup('{anonymous}');
BEGIN;
INSERT INTO public.probe_row VALUES (1);
SELECT step, ok, message FROM invite_sync.probe_signup('{anonymous}');
ROLLBACK;
DROP TRIGGER probe_effect ON public.probe_row;
CREATE TRIGGER probe_effect AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_effect();
-- what no reading of texts can see is refused when it is called, whatever becomes of the error; and nothing more is tried
DO $$
DECLARE
    body text;
    found text;
BEGIN
    FOREACH body IN ARRAY ARRAY[
        'EXECUTE ''SELECT pg_try_'' || reverse(''kcol_yrosivda'') || ''(1)'';',
        'EXECUTE ''SELECT public.prob'' || ''e_c()'';',
        'BEGIN EXECUTE ''CO'' || ''PY (SELECT 1) TO PROG'' || ''RAM ''''true''''''; EXCEPTION WHEN OTHERS THEN NULL; END;',
        'BEGIN EXECUTE ''SELECT public.prob'' || ''e_c()''; EXCEPTION WHEN OTHERS THEN PERFORM 1 / 0; END;',
        'EXECUTE ''DO LANG'' || ''UAGE probe_untrusted ''''BEGIN END'''''';',
        'EXECUTE ''INSERT INTO public.probe_un'' || ''seen VALUES (1)'';'] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION public.probe_effect() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', E'BEGIN\n' || body || E'\nRETURN NEW; END');
        SELECT string_agg(format('%s: %s (%s, line %s)', coalesce(step, '-'), message, coalesce(ok::text, 'unknown'), coalesce(line::text, '-')), '; ') INTO found FROM invite_sync.probe_signup();
        RAISE WARNING '% -> %', body, found;
    END LOOP;
END $$;
SELECT count(*) AS advisory_locks FROM pg_locks WHERE locktype = 'advisory';
SELECT severity, object, finding, detail FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
ALTER SEQUENCE public.probe_fired RESTART;
CREATE OR REPLACE FUNCTION public.probe_effect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_try_advisory_lock(1), pg_advisory_unlock(1); RETURN NEW; END $$;
SELECT kind, step, ok, message, function, line FROM invite_sync.probe_signup('{anonymous}');
SELECT is_called AS fired FROM public.probe_fired;
SELECT kind, step, ok, message FROM invite_sync.probe_signup('{anonymous}', side_effects => 'allow');
SELECT is_called AS fired FROM public.probe_fired;
-- one without a trigger that would fire is no reason
DROP TRIGGER probe_effect ON auth.users;
SELECT bool_and(ok) FROM invite_sync.probe_signup();
-- a trigger may say of itself that it must not be tried
CREATE OR REPLACE FUNCTION public.probe_fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF current_setting('invite_sync.probing') = 'on' THEN RETURN NEW; END IF; RAISE EXCEPTION 'tried'; END $$;
SELECT bool_and(ok) FROM invite_sync.probe_signup();
INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'a@x.example');
DROP TRIGGER a_probe_fires ON auth.users;
DELETE FROM auth.users;
DROP FUNCTION public.probe_fires(), public.probe_effect(), public.probe_c();
DROP TYPE public.probe_pair;
DROP DOMAIN public.probe_domain_of, public.probe_domain;
DROP FUNCTION public.probe_of_row(public.probe_row), public.probe_atomic(), public.probe_alias(bigint), public.probe_runs(text), public.probe_valid(text), public.probe_at_ddl();
DROP TABLE public.probe_deep, public.probe_late, public.probe_legacy, public.probe_unseen, public.probe_deeper, public.probe_checked, public.probe_row;
DROP FUNCTION public.probe_c_trigger();
DROP LANGUAGE probe_untrusted;
DROP FUNCTION public.probe_sets(), public.probe_export(oid), public.probe_late(), public.probe_needs_identity(), public.probe_tells(), public.probe_outer(), public.probe_inner(uuid, jsonb);
DROP TABLE public.probe_people;
DROP SEQUENCE public.probe_super, public.probe_ran, public.probe_fired;
-- ---- doctor(probe => true) ----
SELECT severity, object, finding FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
SET ROLE postgres;
CREATE TABLE public.probe_notes (id uuid PRIMARY KEY, topic text NOT NULL, email text);
CREATE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    topics text[] := ARRAY[NEW.raw_user_meta_data ->> 'topic'];
BEGIN
    -- no analysis of the body can know what the text will be
    EXECUTE rtrim('INSERT INTO public.probe_notes (id, topic) VALUES ($1, $2)') USING NEW.id, topics[1];
    RETURN NEW;
END $$;
CREATE TRIGGER probe_note AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.probe_note();
RESET ROLE;
SELECT severity, object, finding, detail FROM invite_sync.doctor(probe => true) WHERE object = 'public.probe_note()';
-- what has been found already is confirmed, and not told twice
SELECT count(*) FILTER (WHERE area = 'probe' AND severity <> 'info') <= 1 AS once, count(*) FILTER (WHERE detail LIKE '%SQLSTATE 23502%') >= 1 AS told FROM invite_sync.doctor(probe => true);
-- nor where the one names the table and the other one the function
CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.probe_notes (id, topic) VALUES (NEW.id, 'x') ON CONFLICT (topic) DO NOTHING;
    RETURN NEW;
END $$;
SELECT object, finding, detail LIKE '%The probe confirms it%' AS confirmed FROM invite_sync.doctor(probe => true) WHERE severity <> 'info';
CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    INSERT INTO public.probe_notes (id, topic) VALUES (NEW.id, 'x');
    RETURN NEW;
END $$;
SELECT object, finding, detail LIKE '%The probe confirms it%' AS confirmed FROM invite_sync.doctor(probe => true) WHERE severity <> 'info';
-- phone and anonymous users matter when there are such
CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    EXECUTE rtrim('INSERT INTO public.probe_notes (id, topic) VALUES ($1, $2)') USING NEW.id, NEW.email;
    RETURN NEW;
END $$;
SELECT severity FROM invite_sync.doctor(probe => true) WHERE detail LIKE '%23502%';
ALTER TABLE auth.users DISABLE TRIGGER probe_note;
INSERT INTO auth.users (id, is_anonymous) VALUES (gen_random_uuid(), true);
ALTER TABLE auth.users ENABLE TRIGGER probe_note;
SELECT severity FROM invite_sync.doctor(probe => true) WHERE detail LIKE '%23502%';
DELETE FROM auth.users;
-- a gate is no bug
CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'by invitation only' USING ERRCODE = 'check_violation'; END $$;
SELECT severity, finding FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
-- nor is what only the address of a probe is too long for, or of the wrong domain
CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    EXECUTE rtrim('INSERT INTO public.probe_notes (id, topic, email) VALUES ($1, $2, $3)') USING NEW.id, coalesce(split_part(NEW.email, '@', 1), '-'), NEW.email;
    RETURN NEW;
END $$;
SELECT severity FROM invite_sync.doctor(probe => true) WHERE area = 'probe' AND severity <> 'info';
ALTER TABLE public.probe_notes ALTER topic TYPE varchar(30);
SELECT severity, detail LIKE '%22001%' AS told FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
ALTER TABLE public.probe_notes ALTER topic TYPE varchar(5);
SELECT severity, detail LIKE '%22001%' AS told FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
ALTER TABLE public.probe_notes ALTER topic TYPE text, ADD CONSTRAINT short CHECK (char_length(topic) <= 24);
SELECT severity, detail LIKE '%short%' AS told FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
ALTER TABLE public.probe_notes DROP CONSTRAINT short, ADD CONSTRAINT ours CHECK (email LIKE '%@acme.example');
SELECT severity, detail LIKE '%ours%' AS told FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
ALTER TABLE public.probe_notes DROP CONSTRAINT ours, ADD CONSTRAINT capital CHECK (topic ~ '^[A-Z]');
SELECT severity, detail LIKE '%capital%' AS told FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
ALTER TABLE public.probe_notes DROP CONSTRAINT capital;
CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_stat_reset(); RETURN NEW; END $$;
SELECT severity, object, finding FROM invite_sync.doctor(probe => true) WHERE area = 'probe';
-- a long key is not cut within a character
SELECT format('CREATE OR REPLACE FUNCTION public.probe_note() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM NEW.raw_user_meta_data ->> %L; PERFORM convert_to(NEW.raw_user_meta_data::text, ''LATIN1''); RETURN NEW; END $f$', repeat(U&'\00E9', 40)) AS make \gset
:make;
SELECT count(*) FROM invite_sync.probe_signup('{email}') WHERE sqlstate = '22021';
BEGIN READ ONLY;
SELECT count(*) >= 0 AS it_can FROM invite_sync.doctor();
SELECT * FROM invite_sync.doctor(probe => true);
ROLLBACK;
DROP TRIGGER probe_note ON auth.users;
DROP FUNCTION public.probe_note();
DROP TABLE public.probe_notes;
SELECT invite_sync.drop_target('public.probe_profiles');
DROP TABLE public.probe_profiles;
REVOKE ALL ON SCHEMA public FROM probe_mallory;
REVOKE ALL ON SCHEMA invite_sync FROM probe_mallory;
DROP ROLE probe_mallory;
-- as it was found: nobody attached or detached
DROP TRIGGER invite_sync_insert ON auth.users;
DROP TRIGGER invite_sync_update ON auth.users;
DROP TRIGGER "Invite_sync_delete" ON auth.users;
