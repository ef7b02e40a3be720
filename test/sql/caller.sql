-- Room caller: who is asking.
SET client_min_messages = notice;

CREATE FUNCTION pg_temp.who(claims text, as_role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('request.jwt.claims', claims, true);
    PERFORM set_config('role', as_role, true);
    BEGIN
        PERFORM invite_sync.require_service();
        result := 'service';
        PERFORM invite_sync.require_operator();
        result := 'operator';
    EXCEPTION WHEN OTHERS THEN
        result := coalesce(result, 'refused ' || SQLSTATE || ' ' || SQLERRM);
    END;
    RESET ROLE;
    RETURN result;
END $$;
GRANT EXECUTE ON FUNCTION invite_sync.require_service(), invite_sync.require_operator()
    TO anon, authenticated, service_role, postgres;

-- the role decides, and claims can only lower it
SELECT as_role, claims, pg_temp.who(claims, as_role) AS answer
  FROM (VALUES ('supabase_admin'), ('postgres'), ('service_role'), ('authenticated'), ('anon')) AS r (as_role),
       (VALUES (1, ''), (2, '{"role":"service_role"}'),
               (3, '{"role":"authenticated","sub":"00000000-0000-4000-8000-000000000001"}'),
               (4, '{"role":"anon"}'), (5, '{"sub":"00000000-0000-4000-8000-000000000001"}')) AS c (n, claims)
 ORDER BY as_role, n;

-- what is malformed is nobody, and nothing raises
SELECT n, pg_temp.who(claims, 'service_role') AS answer
  FROM (VALUES (1, '{'), (2, '[]'), (3, '"x"'), (4, '{}'), (5, '{"role":["service_role"]}'), (6, '{"role":{"role":"service_role"}}'),
               (7, repeat('[', 100000)), (8, '{"a":' || repeat('[', 5000) || repeat(']', 5000) || '}'), (9, 'null'),
               (10, '{"role":"service_role"} x'), (11, '{"role":"anon","role":"service_role"}'), (12, '{"role":"service_role","role":"anon"}'),
               (13, '{"role":"service_role\u0000"}')) AS c (n, claims)
 ORDER BY n;

-- a definer function of a superuser does not lend its rights
CREATE FUNCTION public.wrapped_status() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = ''
    AS $$SELECT count(*) FROM invite_sync.sync_status()$$;
SET ROLE authenticated;
SELECT public.wrapped_status();
\set VERBOSITY sqlstate
SELECT public.wrapped_status();
\set VERBOSITY default
-- nor in a restricted operation, which anybody can start
\set VERBOSITY terse
CREATE FUNCTION pg_temp.asks(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM public.wrapped_status();
    RAISE WARNING 'answered';
    RETURN $1;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING '% %', SQLSTATE, SQLERRM;
    RETURN $1;
END $$;
CREATE TEMPORARY TABLE bait AS SELECT text 'x' AS t;
CREATE INDEX ON bait (pg_temp.asks(t));
DROP TABLE bait;
RESET ROLE;
-- whoever lends, and of two operators it is the lesser
CREATE ROLE regress_stranger;
CREATE ROLE regress_lesser;
SELECT invite_sync.grant_operator('regress_lesser');
CREATE TABLE public.theirs (id uuid PRIMARY KEY);
ALTER TABLE public.theirs OWNER TO postgres;
CREATE FUNCTION public.wrapped_add() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = ''
    AS $$SELECT count(*) FROM invite_sync.add_target('public.theirs')$$;
CREATE FUNCTION pg_temp.adds(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM public.wrapped_add();
    RAISE WARNING 'added';
    RETURN $1;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING '% %', SQLSTATE, SQLERRM;
    RETURN $1;
END $$;
SET ROLE regress_lesser;
CREATE TEMPORARY TABLE bait AS SELECT text 'x' AS t;
CREATE INDEX ON bait (pg_temp.adds(t));
RESET ROLE;
DROP TABLE bait;
ALTER FUNCTION public.wrapped_status() OWNER TO postgres;
SET ROLE regress_stranger;
CREATE TEMPORARY TABLE bait AS SELECT text 'x' AS t;
CREATE INDEX ON bait (pg_temp.asks(t));
RESET ROLE;
\set VERBOSITY default
DROP TABLE bait, public.theirs;
DROP FUNCTION public.wrapped_status(), public.wrapped_add(), pg_temp.asks(text), pg_temp.adds(text);
SELECT invite_sync.revoke_operator('regress_lesser');
DROP OWNED BY regress_lesser;
DROP ROLE regress_stranger, regress_lesser;

-- operators
CREATE ROLE regress_operator;
CREATE ROLE regress_member IN ROLE regress_operator;
SELECT invite_sync.grant_operator('regress_operator');
SELECT invite_sync.grant_operator('regress_operator');
SET ROLE regress_member;
SELECT invite_sync.is_operator();
SET invite_sync.lock_timeout = '500ms';
RESET invite_sync.lock_timeout;
SELECT * FROM invite_sync.target;
RESET ROLE;
SELECT invite_sync.revoke_operator('regress_operator');
SET ROLE regress_member;
SELECT invite_sync.is_operator();
SET invite_sync.lock_timeout = '500ms';
RESET ROLE;
SELECT invite_sync.revoke_operator('regress_operator');
SELECT invite_sync.grant_operator('authenticated');
SET ROLE postgres;
SELECT invite_sync.grant_operator('regress_operator');
SELECT invite_sync.grant_api();
RESET ROLE;

-- the extension's owner is one, whoever that is
UPDATE pg_extension SET extowner = 'regress_member'::regrole WHERE extname = 'invite_sync';
GRANT USAGE ON SCHEMA invite_sync TO regress_member;
GRANT EXECUTE ON FUNCTION invite_sync.is_operator() TO regress_member;
SET ROLE regress_member;
SELECT invite_sync.is_operator();
RESET ROLE;
UPDATE pg_extension SET extowner = 'supabase_admin'::regrole WHERE extname = 'invite_sync';
SET ROLE regress_member;
SELECT invite_sync.is_operator();
RESET ROLE;
DROP OWNED BY regress_member;

-- who was refused, and by what reason, goes to the log where it is asked for
SET client_min_messages = log;
\set VERBOSITY terse
SET ROLE service_role;
SELECT invite_sync.deactivate_user('00000000-0000-4000-8000-00000000ffff');
RESET ROLE;
SET invite_sync.log_refusals = on;
SET ROLE service_role;
SELECT invite_sync.deactivate_user('00000000-0000-4000-8000-00000000ffff');
RESET ROLE;
RESET invite_sync.log_refusals;
\set VERBOSITY default
SET client_min_messages = notice;

-- a dump needs to read everything, and row level security out of the way
SELECT invite_sync.grant_dump('regress_operator');
SELECT invite_sync.grant_dump('postgres');
SET ROLE regress_operator;
SELECT count(*) FROM invite_sync.target;
RESET ROLE;
DROP OWNED BY regress_operator;
DROP ROLE regress_member, regress_operator;
REVOKE EXECUTE ON FUNCTION invite_sync.require_service(), invite_sync.require_operator()
    FROM anon, authenticated, service_role, postgres;

-- again: nothing new
SELECT invite_sync.grant_api();

-- settings that weaken a rule are for operators, also before the library is loaded
\c -
SET ROLE authenticated;
SET invite_sync.enabled = off;
SET invite_sync.lock_timeout = '1h';
RESET ROLE;
LOAD 'invite_sync';
SHOW invite_sync.enabled;
SHOW invite_sync.lock_timeout;
SET invite_sync.no_such_setting = 1;
