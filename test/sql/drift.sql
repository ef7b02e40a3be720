-- Room drift: snapshots, what differs, baselines, alerts, retention, a step for CI.
SET client_min_messages = warning;

-- ---- a schema with something of every kind ----
CREATE ROLE drift_reader NOLOGIN;
CREATE ROLE drift_writer LOGIN;
GRANT drift_reader TO drift_writer;
ALTER ROLE drift_writer SET statement_timeout = '5s';
ALTER ROLE drift_writer SET app.jwt_secret = 'hush-hush-hush';
CREATE SCHEMA drift_app AUTHORIZATION postgres;
GRANT USAGE ON SCHEMA drift_app TO PUBLIC;
SET ROLE postgres;
SET search_path = drift_app, public;
CREATE TYPE plan AS ENUM ('free', 'team', 'enterprise');
CREATE DOMAIN slug AS text COLLATE "C" DEFAULT 'none' NOT NULL CONSTRAINT slug_shape CHECK (VALUE ~ '^[a-z]+$');
CREATE TYPE address AS (street text, number integer);
CREATE TYPE span AS RANGE (subtype = timestamptz);
CREATE SEQUENCE ticket INCREMENT 5 MAXVALUE 1000 CYCLE CACHE 3;
CREATE TABLE organization (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name slug,
    plan plan NOT NULL DEFAULT 'free',
    "system_user" text COLLATE "C" DEFAULT 'it''s',
    since timestamptz NOT NULL DEFAULT '2026-01-02 03:04:05+06',
    api_key text DEFAULT 'sk_live_51H8abcDEF',
    n integer GENERATED ALWAYS AS IDENTITY,
    doubled integer GENERATED ALWAYS AS (length("system_user") * 2) STORED,
    CONSTRAINT organization_name_key UNIQUE NULLS NOT DISTINCT (name),
    CONSTRAINT organization_since CHECK (since > '2000-01-01' AND plan <> 'team')
) WITH (fillfactor = 80);
CREATE TABLE member (
    id serial PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organization ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    user_id uuid REFERENCES auth.users ON DELETE SET NULL,
    during tstzrange,
    role text,
    CONSTRAINT member_once EXCLUDE USING gist (during WITH &&)
);
CREATE INDEX member_role ON member (lower(role) DESC NULLS LAST) INCLUDE (user_id) WHERE role <> 'guest';
CREATE UNIQUE INDEX "Member User" ON member (user_id, organization_id);
ALTER TABLE member ENABLE ROW LEVEL SECURITY;
ALTER TABLE member FORCE ROW LEVEL SECURITY;
ALTER TABLE member REPLICA IDENTITY FULL;
CREATE POLICY own ON member FOR SELECT TO authenticated, drift_reader USING (user_id = auth.uid());
CREATE POLICY in_organization ON member AS RESTRICTIVE WITH CHECK (organization_id IN (SELECT o.id FROM organization o WHERE o.plan <> 'free'));
CREATE UNLOGGED TABLE scratch (k text, v jsonb DEFAULT '{}');
CREATE TABLE log (at timestamptz NOT NULL, what text DEFAULT 'x', CONSTRAINT log_what CHECK (what <> '')) PARTITION BY RANGE (at);
CREATE INDEX log_at ON log (at);
CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01+00') TO ('2027-01-01+00');
CREATE TABLE parent (a int, CONSTRAINT a_positive CHECK (a > 0));
CREATE TABLE child (b int) INHERITS (parent);
CREATE TABLE "x""; drop table y; --" ("it's" int, "select" int, "Größe" int);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN RETURN NEW; END$$;
CREATE FUNCTION add(a integer, b integer DEFAULT 2, OUT total integer) LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 7 BEGIN ATOMIC SELECT a + b; END;
CREATE FUNCTION all_members(VARIADIC roles text[] DEFAULT '{}') RETURNS SETOF member LANGUAGE sql STABLE ROWS 5 AS 'SELECT * FROM drift_app.member';
CREATE PROCEDURE tidy(INOUT n integer) LANGUAGE plpgsql AS $$BEGIN n := 1; END$$;
CREATE AGGREGATE product (integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '1');
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF role ON member FOR EACH ROW WHEN (NEW.role IS NOT NULL) EXECUTE FUNCTION touch('Bearer eyJhbGciOiJIUzI1NiJ9', 'plain');
CREATE CONSTRAINT TRIGGER late AFTER DELETE ON member DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE member ENABLE ALWAYS TRIGGER touch;
CREATE TRIGGER log_touch AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION touch();
CREATE RULE forget AS ON DELETE TO scratch WHERE OLD.k = 'keep' DO INSTEAD NOTHING;
-- what deparses to something else on every major, if one does not look after it
CREATE VIEW one_table AS SELECT id, name FROM organization WHERE plan = 'team' ORDER BY name LIMIT 5;
CREATE VIEW two_tables WITH (security_invoker = true, security_barrier = true) AS
    SELECT o.id, count(*) FILTER (WHERE m.role IS NOT NULL) AS members, max(m.id) OVER (PARTITION BY o.id) AS last
      FROM organization o LEFT JOIN member m ON m.organization_id = o.id GROUP BY o.id, m.id HAVING count(*) > 1;
CREATE VIEW named_new AS SELECT new.id, old.role FROM organization new JOIN member old ON old.organization_id = new.id;
CREATE VIEW many AS WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 5)
    SELECT n, (SELECT count(*) FROM member WHERE id = up.n) AS members, CASE WHEN EXISTS (SELECT FROM scratch) THEN 'a' ELSE 'b' END AS letter
      FROM up UNION SELECT x, 0, y FROM (VALUES (1, 'q')) AS v (x, y);
CREATE VIEW grouped AS SELECT plan, extract(year FROM since) AS year, sum(n) AS n FROM organization GROUP BY ROLLUP (plan, extract(year FROM since));
CREATE VIEW renamed AS SELECT DISTINCT ON (role) id, role, current_date AS today, session_user AS who FROM member ORDER BY role, id;
ALTER VIEW renamed RENAME COLUMN who TO whom;
CREATE VIEW no_table AS SELECT 1 AS one, current_user AS who;
CREATE MATERIALIZED VIEW counted AS SELECT plan, count(*) AS n FROM organization GROUP BY plan WITH NO DATA;
CREATE UNIQUE INDEX counted_plan ON counted (plan);
-- what reads back as another tree after a dump, and types whose names are key words in some majors
CREATE TYPE "json_value" AS ENUM ('a', 'b');
CREATE TABLE reread (status varchar(9), n integer, kind "json_value", x xml,
    CONSTRAINT deep CHECK (status = ANY (ARRAY[ARRAY['new'::varchar, 'a,]'], ARRAY['old', E'\\''x']])),
    CONSTRAINT shape CHECK (status IN ('new, AND (', 'old', lower('X')::varchar) AND n BETWEEN 1 AND 5 AND (n NOT BETWEEN 2 AND 3 OR n IN (2, 3))));
CREATE INDEX reread_new ON reread (n) WHERE status NOT IN ('old', 'gone') AND n BETWEEN 1 AND 2 AND n <> 9;
CREATE POLICY reread_own ON reread USING (status IN ('new', 'old') AND (n BETWEEN 1 AND 2 AND n > 0 OR n NOT BETWEEN 5 AND 6));
CREATE VIEW reread_names AS SELECT status, xmlserialize(CONTENT x AS text) AS x FROM reread WHERE n BETWEEN 1 AND 2 AND status IN ('new', 'old')
    UNION (SELECT 'x', role FROM member EXCEPT SELECT role, NULL FROM member);
CREATE FUNCTION reread_count(kind "json_value") RETURNS SETOF "json_value" LANGUAGE sql
    BEGIN ATOMIC SELECT r.kind FROM reread r WHERE r.status IN ('new', 'old') AND r.n BETWEEN 1 AND 2 AND r.n > 0; END;
GRANT ALL ON organization TO drift_writer;
GRANT SELECT ON organization TO drift_reader WITH GRANT OPTION;
GRANT SELECT, INSERT ON member TO PUBLIC;
GRANT UPDATE (role), SELECT (role, id) ON member TO drift_reader;
REVOKE ALL ON scratch FROM postgres;
GRANT SELECT (id) ON one_table TO drift_reader;
REVOKE EXECUTE ON FUNCTION touch() FROM PUBLIC;
REVOKE USAGE ON TYPE plan FROM PUBLIC;
GRANT USAGE ON SEQUENCE ticket TO drift_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA drift_app GRANT ALL ON TABLES TO drift_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA drift_app GRANT EXECUTE ON FUNCTIONS TO drift_writer;
RESET ROLE;
ALTER FUNCTION touch() SET app.key = 'abcdefghijklmnop0';
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
CREATE EVENT TRIGGER drift_watch ON ddl_command_end WHEN TAG IN ('CREATE DOMAIN', 'ALTER DOMAIN') EXECUTE FUNCTION watch();
SET client_min_messages = error;
CREATE PUBLICATION drift_pub FOR TABLE organization (id, name), member WHERE (role <> 'guest') WITH (publish = 'insert, update');
SET client_min_messages = warning;
CREATE FOREIGN DATA WRAPPER drift_fdw;
CREATE SERVER drift_server FOREIGN DATA WRAPPER drift_fdw;
CREATE FOREIGN TABLE away (id integer OPTIONS (key 'yes'), k text NOT NULL) SERVER drift_server OPTIONS (table_name 'there', token 'secret');
RESET search_path;

-- ---- what a snapshot says of it: on every major, under whatever settings the session has ----
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Tokyo';
SET intervalstyle = 'sql_standard';
SET quote_all_identifiers = on;
SET search_path = drift_app, auth, public;
SET ROLE postgres;
\a
\t on
SELECT t.key, o.key, o.value
  FROM jsonb_each(invite_sync.describe_schema('{drift_app}') -> 'objects') AS t, jsonb_each(t.value) AS o
 WHERE t.key NOT IN ('role', 'extension', 'database', 'event trigger', 'default privileges', 'publication') OR o.key LIKE '%drift%'
 ORDER BY t.key COLLATE "C", o.key COLLATE "C";
\a
\t off
RESET ROLE;
RESET quote_all_identifiers;
RESET intervalstyle;
RESET timezone;
RESET datestyle;
RESET search_path;
-- another session, the other search_path: the very same
CREATE TEMPORARY TABLE before AS SELECT invite_sync.describe_schema('{drift_app}') AS content;
SET search_path = drift_app;
SET standard_conforming_strings = off;
SET extra_float_digits = -5;
SELECT content = invite_sync.describe_schema('{drift_app, drift_app}') AS same, content -> 'schemas' AS schemas, content -> 'format' AS format FROM pg_temp.before;
RESET search_path;
RESET standard_conforming_strings;
RESET extra_float_digits;
-- no number of an object, no secret
SELECT content::text ~ ('[^0-9a-f]' || 'drift_app.member'::regclass::oid || '[^0-9a-f]') AS oid, content::text LIKE '%hush%' AS setting, content::text LIKE '%sk_live%' AS column_default,
       content::text LIKE '%eyJ%' AS trigger_argument, content::text LIKE '%abcdefghijklmnop%' AS function_setting, content::text LIKE '%: "secret"%' AS table_option FROM before;
-- what depends on the schema's order of creation alone does not show
BEGIN;
ALTER TABLE drift_app.member ADD COLUMN extra int;
ALTER TABLE drift_app.member DROP COLUMN extra;
SELECT content = invite_sync.describe_schema('{drift_app}') AS same FROM before;
ROLLBACK;

-- ---- every change is one difference, and nothing else is ----
SELECT id AS base FROM invite_sync.snapshot_schema('{drift_app}') \gset
SELECT set_config('drift.base', :'base', false) IS NOT NULL AS taken;
CREATE FUNCTION pg_temp.drift(ddl text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    seen text[];
BEGIN
    BEGIN
        SET LOCAL search_path = drift_app;
        EXECUTE ddl;
        seen := ARRAY(SELECT regexp_replace(concat_ws(' | ', d.change, d.object_type, d.object, d.property, coalesce(d.from_value, '-'), coalesce(d.to_value, '-')), 'sha256:([0-9a-f]{6})[0-9a-f]+', '\1...', 'g')
                        FROM invite_sync.schema_diff(current_setting('drift.base')::bigint) AS d);
        RAISE SQLSTATE 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN NULL;
    END;
    RETURN QUERY SELECT unnest(CASE WHEN seen = '{}' THEN '{nothing}' ELSE seen END);
END $$;
\a
\t on
SELECT pg_temp.drift('SELECT');
SELECT pg_temp.drift('ALTER TABLE member ADD COLUMN note text');
SELECT pg_temp.drift('ALTER TABLE member DROP COLUMN during');
SELECT pg_temp.drift('ALTER TABLE member ALTER COLUMN user_id SET NOT NULL');
SELECT pg_temp.drift('ALTER TABLE scratch ALTER COLUMN v TYPE json USING v::json, ALTER COLUMN v DROP DEFAULT');
SELECT pg_temp.drift('ALTER TABLE log ALTER COLUMN what SET DEFAULT ''y''');
SELECT pg_temp.drift('ALTER TABLE organization ALTER COLUMN api_key SET DEFAULT ''sk_live_51H8abcDEG''');
SELECT pg_temp.drift('ALTER TABLE organization ALTER COLUMN n SET GENERATED BY DEFAULT');
SELECT pg_temp.drift('ALTER TABLE organization ALTER COLUMN doubled DROP EXPRESSION');
SELECT pg_temp.drift('ALTER TABLE organization DROP CONSTRAINT organization_since');
SELECT pg_temp.drift('ALTER TABLE organization ADD CONSTRAINT later CHECK (n > 0) NOT VALID');
SELECT pg_temp.drift('ALTER TABLE member ALTER CONSTRAINT member_organization_id_fkey NOT DEFERRABLE');
SELECT pg_temp.drift('ALTER TABLE organization RENAME CONSTRAINT organization_name_key TO other');
SELECT pg_temp.drift('ALTER TABLE member DISABLE TRIGGER ALL');
SELECT pg_temp.drift('DROP INDEX member_role');
SELECT pg_temp.drift('CREATE INDEX more ON member (user_id)');
SELECT pg_temp.drift('UPDATE pg_index SET indisvalid = false WHERE indexrelid = ''member_role''::regclass');
SELECT pg_temp.drift('ALTER TABLE member DISABLE TRIGGER touch');
SELECT pg_temp.drift('DROP TRIGGER late ON member');
SELECT pg_temp.drift('CREATE OR REPLACE TRIGGER touch BEFORE INSERT OR UPDATE OF role ON member FOR EACH ROW EXECUTE FUNCTION touch(); ALTER TABLE member ENABLE ALWAYS TRIGGER touch');
SELECT pg_temp.drift('DROP RULE forget ON scratch');
SELECT pg_temp.drift('ALTER POLICY own ON member USING (true)');
SELECT pg_temp.drift('ALTER POLICY own ON member TO PUBLIC');
SELECT pg_temp.drift('DROP POLICY in_organization ON member');
SELECT pg_temp.drift('ALTER TABLE member DISABLE ROW LEVEL SECURITY');
SELECT pg_temp.drift('ALTER TABLE member NO FORCE ROW LEVEL SECURITY');
SELECT pg_temp.drift('ALTER TABLE organization SET (fillfactor = 90)');
SELECT pg_temp.drift('ALTER TABLE scratch SET LOGGED');
SELECT pg_temp.drift('ALTER TABLE scratch OWNER TO drift_reader');
SELECT pg_temp.drift('ALTER TABLE parent RENAME TO renamed_parent');
SELECT pg_temp.drift('GRANT TRUNCATE ON member TO anon');
SELECT pg_temp.drift('REVOKE SELECT ON organization FROM drift_writer');
SELECT pg_temp.drift('REVOKE GRANT OPTION FOR SELECT ON organization FROM drift_reader');
SELECT pg_temp.drift('GRANT SELECT ON scratch TO postgres');
SELECT pg_temp.drift('REVOKE UPDATE (role) ON member FROM drift_reader');
-- explicitly what was so by default
SELECT pg_temp.drift('GRANT ALL ON log TO postgres');
SELECT pg_temp.drift('GRANT EXECUTE ON FUNCTION add(integer, integer) TO PUBLIC');
SELECT pg_temp.drift('DROP TABLE parent CASCADE');
SELECT pg_temp.drift('CREATE TABLE fresh (id integer PRIMARY KEY)');
SELECT pg_temp.drift('CREATE TABLE log_2027 PARTITION OF log FOR VALUES FROM (''2027-01-01+00'') TO (''2028-01-01+00'')');
SELECT pg_temp.drift('ALTER TABLE log ADD COLUMN who text');
-- what was decided for a child alone
SELECT pg_temp.drift('ALTER TABLE log_2026 ALTER COLUMN what SET DEFAULT ''z''');
SELECT pg_temp.drift('ALTER TABLE log_2026 ALTER COLUMN what DROP DEFAULT');
SELECT pg_temp.drift('ALTER TABLE log_2026 ALTER COLUMN what SET NOT NULL');
SELECT pg_temp.drift('ALTER TABLE log ALTER COLUMN what SET NOT NULL');
SELECT pg_temp.drift('GRANT SELECT (what) ON log_2026 TO anon');
SELECT pg_temp.drift('ALTER TABLE log_2026 DISABLE TRIGGER log_touch');
SELECT pg_temp.drift('ALTER TABLE child ALTER COLUMN a SET DEFAULT 1');
SELECT pg_temp.drift('CREATE OR REPLACE VIEW one_table AS SELECT id, name FROM organization WHERE plan = ''free'' ORDER BY name LIMIT 5');
SELECT pg_temp.drift('ALTER VIEW two_tables RESET (security_invoker)');
SELECT pg_temp.drift('ALTER VIEW renamed RENAME COLUMN whom TO who');
SELECT pg_temp.drift('DROP MATERIALIZED VIEW counted');
SELECT pg_temp.drift('DROP INDEX counted_plan');
SELECT pg_temp.drift('CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '''' SET app.key = ''abcdefghijklmnop0'' AS $x$BEGIN RETURN NULL; END$x$');
SELECT pg_temp.drift('ALTER FUNCTION touch() SECURITY INVOKER');
SELECT pg_temp.drift('ALTER FUNCTION touch() RESET search_path');
SELECT pg_temp.drift('ALTER FUNCTION touch() SET app.key = ''another''');
SELECT pg_temp.drift('ALTER FUNCTION touch() OWNER TO supabase_admin');
SELECT pg_temp.drift('GRANT EXECUTE ON FUNCTION touch() TO anon');
SELECT pg_temp.drift('CREATE OR REPLACE FUNCTION add(a integer, b integer DEFAULT 3, OUT total integer) LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 7 BEGIN ATOMIC SELECT a + b; END');
SELECT pg_temp.drift('CREATE OR REPLACE FUNCTION add(a integer, b integer DEFAULT 2, OUT total integer) LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 7 BEGIN ATOMIC SELECT a - b; END');
SELECT pg_temp.drift('ALTER FUNCTION all_members(text[]) VOLATILE');
SELECT pg_temp.drift('ALTER PROCEDURE tidy(integer) SET work_mem = ''1MB''');
SELECT pg_temp.drift('CREATE OR REPLACE AGGREGATE product (integer) (SFUNC = int4mul, STYPE = integer, INITCOND = ''2'')');
SELECT pg_temp.drift('ALTER TYPE plan RENAME VALUE ''team'' TO ''group''; CREATE OR REPLACE VIEW one_table AS SELECT id, name FROM organization WHERE plan = ''group'' ORDER BY name LIMIT 5');
SELECT pg_temp.drift('ALTER TYPE plan ADD VALUE ''trial'' BEFORE ''team''');
SELECT pg_temp.drift('ALTER DOMAIN slug DROP CONSTRAINT slug_shape');
SELECT pg_temp.drift('ALTER DOMAIN slug DROP NOT NULL');
SELECT pg_temp.drift('ALTER DOMAIN slug SET DEFAULT ''some''');
SELECT pg_temp.drift('ALTER TYPE address ADD ATTRIBUTE city text');
SELECT pg_temp.drift('DROP TYPE span');
SELECT pg_temp.drift('GRANT USAGE ON TYPE plan TO PUBLIC');
SELECT pg_temp.drift('ALTER SEQUENCE ticket INCREMENT 6');
SELECT nextval('drift_app.ticket'), pg_temp.drift('SELECT setval(''ticket'', 100)');
SELECT pg_temp.drift('ALTER SEQUENCE member_id_seq OWNED BY NONE');
SELECT pg_temp.drift('GRANT CREATE ON SCHEMA drift_app TO anon');
SELECT pg_temp.drift('ALTER SCHEMA drift_app OWNER TO supabase_admin');
SELECT pg_temp.drift('ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA drift_app REVOKE EXECUTE ON FUNCTIONS FROM drift_writer');
SELECT pg_temp.drift('ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA drift_app GRANT SELECT ON TABLES TO anon');
SELECT pg_temp.drift('ALTER DEFAULT PRIVILEGES FOR ROLE drift_writer REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC');
SELECT pg_temp.drift('ALTER EVENT TRIGGER drift_watch DISABLE');
SELECT pg_temp.drift('DROP EVENT TRIGGER drift_watch');
SELECT pg_temp.drift('ALTER PUBLICATION drift_pub ADD TABLE parent');
SELECT pg_temp.drift('ALTER PUBLICATION drift_pub SET (publish = ''insert'')');
SELECT pg_temp.drift('ALTER PUBLICATION drift_pub SET TABLE organization (id), member WHERE (role <> ''guest'')');
SELECT pg_temp.drift('ALTER ROLE drift_writer SET statement_timeout = ''6s''');
SELECT pg_temp.drift('ALTER ROLE drift_writer SET app.jwt_secret = ''another''');
SELECT pg_temp.drift('ALTER ROLE drift_writer IN DATABASE contrib_regression SET role = ''drift_reader''');
SELECT pg_temp.drift('ALTER ROLE drift_reader BYPASSRLS');
SELECT pg_temp.drift('GRANT service_role TO drift_reader');
SELECT pg_temp.drift('ALTER ROLE drift_writer PASSWORD ''new''');
SELECT pg_temp.drift('ALTER DATABASE contrib_regression SET app.settings.key = ''another''');
SELECT pg_temp.drift('ALTER DATABASE contrib_regression SET work_mem = ''5MB''');
SELECT pg_temp.drift('GRANT CREATE ON DATABASE contrib_regression TO anon');
SELECT pg_temp.drift('CREATE EXTENSION pgstattuple SCHEMA drift_app VERSION ''1.5''');
SELECT pg_temp.drift('ALTER FOREIGN TABLE away OPTIONS (SET token ''other'')');
SELECT pg_temp.drift('ALTER FOREIGN TABLE away ALTER COLUMN id OPTIONS (SET key ''no'')');
SELECT pg_temp.drift('ALTER ROLE drift_reader VALID UNTIL ''2030-01-02 03:04:05+00''');
-- made anew from what pg_dump writes: another text than before, and no drift
CREATE FUNCTION pg_temp.made_anew(deparse text, make text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text;
    after text;
    differences bigint;
BEGIN
    BEGIN
        SET LOCAL search_path = drift_app;
        EXECUTE deparse INTO before;
        EXECUTE format(make, before);
        EXECUTE deparse INTO after;
        SELECT count(*) INTO differences FROM invite_sync.schema_diff(current_setting('drift.base')::bigint);
        RAISE SQLSTATE 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN NULL;
    END;
    RETURN format('%s text, %s differences', CASE WHEN after = before THEN 'the same' ELSE 'another' END, differences);
END $$;
SELECT pg_temp.made_anew($$SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'shape'$$, 'ALTER TABLE reread DROP CONSTRAINT shape, ADD CONSTRAINT shape %s');
SELECT pg_temp.made_anew($$SELECT pg_get_indexdef('reread_new'::regclass)$$, 'DROP INDEX reread_new; %s');
SELECT pg_temp.made_anew($$SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polname = 'reread_own'$$, 'ALTER POLICY reread_own ON reread USING (%s)');
SELECT pg_temp.made_anew($$SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'deep'$$, 'ALTER TABLE reread DROP CONSTRAINT deep, ADD CONSTRAINT deep %s');
SELECT pg_temp.made_anew($$SELECT pg_get_viewdef('reread_names'::regclass)$$, 'CREATE OR REPLACE VIEW reread_names AS %s');
SELECT pg_temp.made_anew($$SELECT pg_get_functiondef('reread_count'::regproc)$$, '%s');
-- none of it is of another schema, of rows, or of what nobody has to approve
SELECT pg_temp.drift('CREATE TABLE public.elsewhere (id integer)');
SELECT pg_temp.drift('INSERT INTO scratch VALUES (''a''); ANALYZE; COMMENT ON TABLE scratch IS ''a comment''');
SELECT pg_temp.drift('CREATE ROLE drift_nobody LOGIN SUPERUSER');
SELECT pg_temp.drift('DROP SCHEMA drift_app CASCADE; CREATE SCHEMA drift_other');
-- what later majors have beside
DO $$
DECLARE
    c record;
    seen text;
BEGIN
    FOR c IN SELECT * FROM (VALUES
        (170000, 'GRANT MAINTAIN ON member TO anon', 'changed | table | drift_app.member | grants.anon | - | MAINTAIN'),
        (170000, 'REVOKE MAINTAIN ON organization FROM drift_writer', 'nothing'),
        (180000, 'ALTER TABLE member ADD CONSTRAINT nn NOT NULL during', 'changed | column | drift_app.member.during | not_null | - | true'),
        (180000, 'ALTER TABLE member ADD CONSTRAINT nn NOT NULL during NOT VALID', 'changed | column | drift_app.member.during | not_null | - | not valid'),
        (180000, 'ALTER TABLE parent ADD COLUMN v int GENERATED ALWAYS AS (a * 2) VIRTUAL', 'added | column | drift_app.parent.v | - | {"type": "integer", "generated": "(a * 2) virtual"}'),
        (180000, 'ALTER TABLE parent ADD CONSTRAINT ne CHECK (a < 9) NOT ENFORCED', 'added | constraint | ne on drift_app.parent | - | {"definition": "CHECK ((a < 9)) NOT ENFORCED"}')) AS v (major, ddl, expected)
    LOOP
        CONTINUE WHEN current_setting('server_version_num')::integer < c.major;
        SELECT string_agg(d, E'\n') INTO seen FROM pg_temp.drift(c.ddl) AS d;
        IF seen IS DISTINCT FROM c.expected THEN
            RAISE EXCEPTION '%: %', c.ddl, seen;
        END IF;
    END LOOP;
END $$;
\a
\t off
-- of two snapshots, both ways; and of one with itself
BEGIN;
ALTER TABLE drift_app.member ADD COLUMN note text;
SELECT id AS later FROM invite_sync.snapshot_schema('{drift_app}') \gset
SELECT * FROM invite_sync.schema_diff(:base, :later);
SELECT * FROM invite_sync.schema_diff(:later, :base);
SELECT count(*) FROM invite_sync.schema_diff(:later, :later);
SELECT count(*) FROM invite_sync.schema_diff(:later);
ROLLBACK;
-- under an older snapshot too, the catalogs are those of now
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM invite_sync.schema_diff(:base);
ROLLBACK;

-- ---- all schemas but the system's and extensions': new ones too ----
SELECT objects > 0 AS something, schemas FROM invite_sync.snapshot_schema();
SELECT k FROM jsonb_object_keys(invite_sync.describe_schema() -> 'objects' -> 'schema') AS k WHERE k ~ '^(auth|public|drift_app|pg_.*|information_schema)$' ORDER BY 1;
-- in the same snapshot: nothing of ours
SELECT count(*) FROM jsonb_each(invite_sync.describe_schema() -> 'objects') t, jsonb_each(t.value) o WHERE o.key LIKE 'invite\_sync.%';

-- ---- export, import, and the step for CI ----
SELECT invite_sync.export_snapshot(:base) AS expected \gset
SELECT source, schemas, baseline, digest = (SELECT digest FROM invite_sync.schema_snapshots WHERE id = :base) AS same
  FROM invite_sync.import_snapshot(:'expected');
SELECT invite_sync.assert_no_drift(:'expected') = (SELECT objects FROM invite_sync.schema_snapshots WHERE id = :base) AS all_of_them;
BEGIN READ ONLY;
SELECT invite_sync.assert_no_drift(:'expected', '{role,extension}') < (SELECT objects FROM invite_sync.schema_snapshots WHERE id = :base) AS fewer;
SELECT count(*) FROM invite_sync.schema_diff(:base);
SELECT jsonb_typeof(invite_sync.describe_schema('{drift_app}'));
COMMIT;
BEGIN;
ALTER TABLE drift_app.member ADD COLUMN note text, ALTER COLUMN role SET DEFAULT 'guest';
ALTER TABLE drift_app."x""; drop table y; --" ADD COLUMN "a
b" int;
ALTER ROLE drift_reader BYPASSRLS;
SAVEPOINT s;
SELECT invite_sync.assert_no_drift(:'expected');
ROLLBACK TO s;
SELECT invite_sync.assert_no_drift(:'expected', '{role}');
ROLLBACK TO s;
SELECT invite_sync.assert_no_drift(:'expected', '{role,column}') > 0 AS nothing_else;
\set VERBOSITY sqlstate
SELECT invite_sync.assert_no_drift(:'expected');
\set VERBOSITY default
ROLLBACK;
-- no more than a hundred lines
CREATE FUNCTION pg_temp.lines() RETURNS TABLE (message text, lines bigint, last text) LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    FOR i IN 1..110 LOOP EXECUTE format('ALTER TABLE drift_app.scratch ADD COLUMN c%s integer', i); END LOOP;
    PERFORM invite_sync.assert_no_drift(invite_sync.export_snapshot(current_setting('drift.base')::bigint));
EXCEPTION WHEN assert_failure THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, told = PG_EXCEPTION_DETAIL;
    SELECT count(*), (array_agg(l))[101] INTO lines, last FROM string_to_table(told, E'\n') AS l;
    RETURN NEXT;
END $$;
SELECT * FROM pg_temp.lines();

-- what is no snapshot is refused, and leaves nothing
SELECT count(*) AS snapshots FROM invite_sync.schema_snapshots \gset
\set VERBOSITY terse
SELECT invite_sync.import_snapshot(NULL);
SELECT invite_sync.assert_no_drift(NULL);
SELECT invite_sync.assert_no_drift(:'expected', NULL);
SELECT invite_sync.assert_no_drift(:'expected', '{roles}');
SELECT invite_sync.assert_no_drift('{"format": 2}');
\set VERBOSITY default
SELECT invite_sync.import_snapshot('{"format": 1, "schemas": [], "objects": {}}');
CREATE FUNCTION pg_temp.problem(snapshot jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM invite_sync.import_snapshot(snapshot);
    RETURN 'imported';
EXCEPTION WHEN invalid_parameter_value THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail;
END $$;
SELECT j, pg_temp.problem(j::jsonb) FROM unnest(ARRAY['null', '[]', '1', '{}', '{"format": 2}', '{"format": 1}', '{"format": 1, "schemas": null}',
    '{"format": 1, "schemas": "a", "objects": {}}', '{"format": 1, "schemas": ["a", "pg_catalog"], "objects": {}}', '{"format": 1, "schemas": ["information_schema"], "objects": {}}', '{"format": 1, "schemas": [null], "objects": {}}', '{"format": 1, "schemas": [1], "objects": {}}', '{"format": 1, "schemas": null, "objects": []}',
    '{"format": 1, "schemas": null, "objects": {}, "more": 1}', '{"format": 1, "schemas": null, "objects": {"table": 1}}',
    '{"format": 1, "schemas": null, "objects": {"table": {"a": 1}}}', '{"format": 1, "schemas": null, "objects": {"table": {"a": {"columns": []}}}}',
    '{"format": 1, "schemas": null, "objects": {"table": {"a": {"columns": {"b": 1}}}}}']) AS j;
SELECT count(*) = :snapshots AS none_stored FROM invite_sync.schema_snapshots;
-- what is one, but of another database: its schemas are asked for, also where they are not here
SELECT invite_sync.assert_no_drift('{"format": 1, "schemas": ["gone"], "objects": {"schema": {"gone": {"owner": "postgres"}}}}', '{role,extension,database,event trigger,publication,default privileges}');

-- ---- arguments ----
\set VERBOSITY terse
SELECT invite_sync.snapshot_schema('{}');
SELECT invite_sync.snapshot_schema('{drift_app,NULL}');
SELECT invite_sync.snapshot_schema('{{drift_app}}');
SELECT invite_sync.snapshot_schema('{pg_catalog}');
SELECT invite_sync.describe_schema('{information_schema}');
SELECT invite_sync.describe_schema('{Drift_App}');
SELECT invite_sync.describe_schema(ARRAY[repeat('x', 100)]);
SELECT * FROM invite_sync.schema_diff(NULL);
SELECT * FROM invite_sync.schema_diff(0);
SELECT * FROM invite_sync.schema_diff(:base, 0);
SELECT invite_sync.export_snapshot(NULL);
SELECT invite_sync.export_snapshot(0);
SELECT invite_sync.approve_snapshot(NULL);
SELECT invite_sync.approve_snapshot(0);
SELECT invite_sync.approve_drift(NULL);
SELECT invite_sync.approve_drift(0);
CALL invite_sync.prune_snapshots(NULL);
CALL invite_sync.prune_snapshots('-1 day');
CALL invite_sync.prune_snapshots('1 day', -1);
CALL invite_sync.prune_snapshots('1 day', 1, 0);
CALL invite_sync.prune_snapshots('1 day', 1, 10001);
BEGIN;
CALL invite_sync.prune_snapshots();
ROLLBACK;
SELECT * FROM invite_sync.schedule_drift_check();
SELECT invite_sync.unschedule_drift_check();
BEGIN READ ONLY;
SELECT invite_sync.snapshot_schema('{drift_app}');
ROLLBACK;
-- operators only
SET ROLE authenticated;
SELECT invite_sync.describe_schema();
SELECT * FROM invite_sync.schema_snapshots;
RESET ROLE;
SET request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000001"}';
SELECT invite_sync.describe_schema();
RESET request.jwt.claims;
SET client_min_messages = notice;
\set VERBOSITY default

-- ---- baselines and alerts ----
TRUNCATE invite_sync.schema_snapshot, invite_sync.drift_alert RESTART IDENTITY;
SELECT * FROM invite_sync.check_drift();
SET ROLE postgres;
SELECT id AS base FROM invite_sync.snapshot_schema('{drift_app}') \gset
SELECT baseline, approved_by, approved_at IS NOT NULL AS approved FROM invite_sync.approve_snapshot(:base);
SET client_min_messages = warning;
SELECT baseline FROM invite_sync.approve_snapshot(:base);
SET client_min_messages = notice;
SELECT * FROM invite_sync.check_drift();
ALTER TABLE drift_app.member ADD COLUMN note text;
SELECT * FROM invite_sync.check_drift();
-- again: the same drift is told once
SELECT * FROM invite_sync.check_drift();
SELECT state, schemas, differences, baseline_id = :base AS of_the_baseline, resolved_at FROM invite_sync.drift_alerts;
SELECT d.* FROM invite_sync.drift_alerts AS a, invite_sync.schema_diff(a.baseline_id, a.snapshot_id) AS d WHERE a.state = 'open';
-- another drift takes its place
ALTER TABLE drift_app.member ADD COLUMN note2 text;
SELECT * FROM invite_sync.check_drift();
SELECT state, differences FROM invite_sync.drift_alerts ORDER BY id;
-- gone
ALTER TABLE drift_app.member DROP COLUMN note, DROP COLUMN note2;
SELECT * FROM invite_sync.check_drift();
SELECT state, differences, resolved_by FROM invite_sync.drift_alerts ORDER BY id;
SELECT max(id) AS gone FROM invite_sync.drift_alerts \gset
\set VERBOSITY terse
SELECT invite_sync.approve_drift(:gone);
\set VERBOSITY default
-- approved; what came after it was found is not
ALTER TABLE drift_app.member ADD COLUMN note text;
SELECT * FROM invite_sync.check_drift();
ALTER TABLE drift_app.member ADD COLUMN note2 text;
SELECT max(id) AS alert FROM invite_sync.drift_alerts \gset
SELECT state, differences, resolved_by FROM invite_sync.approve_drift(:alert);
SELECT state FROM invite_sync.approve_drift(:alert);
SELECT source, baseline, approved_by FROM invite_sync.schema_snapshots WHERE schemas = '{drift_app}' ORDER BY id;
SELECT * FROM invite_sync.check_drift();
SELECT state, differences FROM invite_sync.drift_alerts ORDER BY id;
-- a baseline of other schemas is another one; approving a snapshot resolves what is open about its schemas
SELECT id AS both FROM invite_sync.snapshot_schema('{public,drift_app}') \gset
SELECT count(*) FROM invite_sync.approve_snapshot(:both);
SELECT * FROM invite_sync.check_drift();
SELECT count(*) FROM invite_sync.approve_snapshot((SELECT id FROM invite_sync.snapshot_schema('{drift_app}')));
SELECT * FROM invite_sync.check_drift();
SELECT state, differences FROM invite_sync.drift_alerts ORDER BY id;
SELECT schemas, count(*) FROM invite_sync.schema_snapshots WHERE baseline GROUP BY 1 ORDER BY 1;
-- the log has ids and no more
RESET ROLE;
SELECT kind, action, target_type, count(*), bool_and(data = '{}') AS nothing_else FROM invite_sync.event WHERE action LIKE 'drift.%' GROUP BY 1, 2, 3 ORDER BY 1, 2;

-- ---- retention ----
UPDATE invite_sync.schema_snapshot SET taken_at = now() - interval '1 year' WHERE id < (SELECT max(id) FROM invite_sync.schema_snapshot);
SELECT count(*) AS snapshots, count(*) FILTER (WHERE baseline) AS baselines, (SELECT count(*) FROM invite_sync.drift_alerts) AS alerts FROM invite_sync.schema_snapshots;
-- the alerts are young, and keep what they name
CALL invite_sync.prune_snapshots('90 days', 0, 1);
UPDATE invite_sync.drift_alert SET resolved_at = now() - interval '1 year' WHERE state <> 'open' AND id > (SELECT min(id) FROM invite_sync.drift_alert);
CALL invite_sync.prune_snapshots('90 days', 100);
SELECT count(*) AS alerts FROM invite_sync.drift_alerts;
CALL invite_sync.prune_snapshots('90 days', 0, 1);
SELECT s.source, s.schemas, s.baseline, EXISTS (SELECT FROM invite_sync.drift_alerts a WHERE s.id IN (a.baseline_id, a.snapshot_id)) AS of_an_alert FROM invite_sync.schema_snapshots s ORDER BY s.id;
SELECT count(*) AS told FROM invite_sync.event WHERE action = 'drift.pruned';

TRUNCATE invite_sync.schema_snapshot, invite_sync.drift_alert RESTART IDENTITY;
SET client_min_messages = warning;
DROP EVENT TRIGGER drift_watch;
DROP PUBLICATION drift_pub;
DROP SCHEMA drift_app CASCADE;
DROP FOREIGN DATA WRAPPER drift_fdw CASCADE;
ALTER DEFAULT PRIVILEGES FOR ROLE drift_writer GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
DROP OWNED BY drift_reader, drift_writer;
DROP ROLE drift_reader, drift_writer;
