-- create_standard_tables() and create_auth_schema()
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' | '
SELECT current_database() AS original \gset

-- ---------------------------------------------------------------------------
-- create_standard_tables, as postgres; rolled back at the end
-- ---------------------------------------------------------------------------

BEGIN;
SET LOCAL search_path = pg_catalog;

-- A schema in which new tables are open to the API roles, as public is.
CREATE SCHEMA "we""ird" AUTHORIZATION postgres;
GRANT USAGE ON SCHEMA "we""ird" TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA "we""ird"
	GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA "we""ird"
	GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;

-- What a statement does as a role and with the claims of a user: how many rows
-- it touches, or the SQLSTATE it fails with.
CREATE FUNCTION pg_temp.attempt(as_role name, sub uuid, statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	touched	bigint;
BEGIN
	PERFORM set_config('request.jwt.claims',
					   json_build_object('sub', sub, 'role', as_role)::text, true);
	BEGIN
		PERFORM set_config('role', as_role, true);
		EXECUTE statement;
		GET DIAGNOSTICS touched = ROW_COUNT;
		PERFORM set_config('role', 'none', true);
		RETURN touched || CASE touched WHEN 1 THEN ' row' ELSE ' rows' END;
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END;
END
$$;

SET LOCAL SESSION AUTHORIZATION postgres;

-- Only the DDL
SELECT invite_sync.create_standard_tables(users => false, user_profiles => false,
										  schema => 'we"ird', execute => false) AS ddl \gset
\echo :ddl
SELECT count(*) FROM pg_class WHERE relnamespace = '"we""ird"'::regnamespace;

-- which runs as it is
SAVEPOINT ddl;
:ddl
SELECT relname FROM pg_class WHERE relnamespace = '"we""ird"'::regnamespace AND relkind = 'r' ORDER BY 1;
ROLLBACK TO ddl;

-- One table, then the others, then nothing
SELECT invite_sync.create_standard_tables(users => false, user_profiles => false, schema => 'we"ird') = :'ddl';
SELECT invite_sync.create_standard_tables(schema => 'we"ird') LIKE '%CREATE TABLE "we""ird".users (%';
SELECT invite_sync.create_standard_tables(schema => 'we"ird') = '';
SELECT invite_sync.create_standard_tables(profiles => false, user_profiles => false, schema => 'we"ird', execute => false) = '';
SELECT relname, relrowsecurity, pg_get_userbyid(relowner), obj_description(oid, 'pg_class')
  FROM pg_class WHERE relnamespace = '"we""ird"'::regnamespace AND relkind = 'r' ORDER BY 1;

-- A view of that name is left alone as well
SAVEPOINT view;
DROP TABLE "we""ird".profiles;
CREATE VIEW "we""ird".profiles AS SELECT 1 AS id;
SELECT invite_sync.create_standard_tables(schema => 'we"ird');
ROLLBACK TO view;

-- Columns, defaults, keys
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
	   CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = '"we""ird"'::regnamespace AND c.relkind = 'r'
 ORDER BY c.relname, a.attnum;
SELECT conrelid::regclass, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = '"we""ird"'::regnamespace AND contype IN ('p', 'u', 'f')
 ORDER BY conrelid::regclass::text COLLATE "C", 2;
SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'we"ird' ORDER BY indexdef COLLATE "C";

-- Two users, each with a row in every table
RESET SESSION AUTHORIZATION;
INSERT INTO auth.users (id, email) VALUES
	('00000000-0000-4000-8000-00000000000a', 'ada@app.example'),
	('00000000-0000-4000-8000-00000000000b', 'bob@app.example');
SELECT pg_temp.attempt('service_role', NULL, format('INSERT INTO "we""ird".%I (%I) SELECT unnest(%L::uuid[])',
		t, k, '{00000000-0000-4000-8000-00000000000a,00000000-0000-4000-8000-00000000000b}'))
  FROM (VALUES ('profiles', 'id'), ('users', 'id'), ('user_profiles', 'user_id')) AS v (t, k);

-- authenticated: reads and writes one row of two, and of that row only what is
-- harmless.  Every column is tried.
SELECT relname, pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a',
								format('SELECT * FROM "we""ird".%I', relname))
  FROM pg_class WHERE relnamespace = '"we""ird"'::regnamespace AND relkind = 'r' ORDER BY 1;
SELECT relname, attname, pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a',
										 format('UPDATE "we""ird".%I SET %I = DEFAULT', relname, attname))
  FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
 WHERE relnamespace = '"we""ird"'::regnamespace AND relkind = 'r' ORDER BY relname, attnum;
-- a forbidden column next to an allowed one, and somebody else's row
SELECT pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a',
					   $$UPDATE "we""ird".users SET full_name = 'Ada', role = 'admin'$$);
SELECT pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a',
					   $$UPDATE "we""ird".users SET full_name = 'Ada' WHERE id = '00000000-0000-4000-8000-00000000000b'$$);
SELECT pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a',
					   $$INSERT INTO "we""ird".user_profiles (user_id) VALUES (gen_random_uuid())$$);
SELECT pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a', 'DELETE FROM "we""ird".profiles');
SELECT pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a', 'TRUNCATE "we""ird".profiles');
-- nobody in particular, and nobody at all
SELECT pg_temp.attempt('authenticated', NULL, 'SELECT * FROM "we""ird".profiles');
SELECT relname, v, pg_temp.attempt('anon', '00000000-0000-4000-8000-00000000000a', format(v, relname))
  FROM pg_class, unnest(ARRAY['SELECT 1 FROM "we""ird".%I', 'DELETE FROM "we""ird".%I', 'TRUNCATE "we""ird".%I']) AS v
 WHERE relnamespace = '"we""ird"'::regnamespace AND relkind = 'r' ORDER BY relname, v COLLATE "C";
-- No privilege of these two that is not listed here, by whatever road
SELECT c.relname, a.attname, g.grantee::regrole, g.privilege_type
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) AS g
 WHERE c.relnamespace = '"we""ird"'::regnamespace
 ORDER BY c.relname, a.attnum, g.grantee::regrole::text, g.privilege_type;
SELECT c.relname, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee, g.privilege_type
  FROM pg_class c, aclexplode(c.relacl) AS g
 WHERE c.relnamespace = '"we""ird"'::regnamespace AND g.grantee::regrole::text NOT IN ('postgres', 'service_role')
 ORDER BY 1, 2, 3;
SELECT pg_temp.attempt('authenticated', NULL, 'SELECT "we""ird".invite_sync_touch_updated_at()');

-- updated_at follows a user's own change, and yields to one that sets it
UPDATE "we""ird".profiles SET updated_at = '2001-01-01 UTC';
SELECT pg_temp.attempt('authenticated', '00000000-0000-4000-8000-00000000000a',
					   $$UPDATE "we""ird".profiles SET username = 'ada'$$);
SELECT coalesce(username, 'other'), updated_at = now() FROM "we""ird".profiles ORDER BY 1;

-- Rows go with their user
DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-00000000000a';
SELECT (SELECT count(*) FROM "we""ird".profiles), (SELECT count(*) FROM "we""ird".users),
	   (SELECT count(*) FROM "we""ird".user_profiles);

-- Bad input
SET LOCAL SESSION AUTHORIZATION postgres;
SAVEPOINT bad;
SELECT invite_sync.create_standard_tables(schema => 'no such');
ROLLBACK TO bad;
SELECT invite_sync.create_standard_tables(users => NULL);
ROLLBACK TO bad;
SELECT invite_sync.create_standard_tables(execute => NULL);
ROLLBACK TO bad;
SELECT invite_sync.create_standard_tables(schema => 'auth');
ROLLBACK TO bad;
SELECT invite_sync.create_standard_tables(schema => 'pg_catalog');
ROLLBACK TO bad;
RESET SESSION AUTHORIZATION;
REVOKE CREATE ON SCHEMA "we""ird" FROM postgres;
DROP TABLE "we""ird".profiles;
SET LOCAL SESSION AUTHORIZATION postgres;
SELECT invite_sync.create_standard_tables(users => false, user_profiles => false, schema => 'we"ird');
ROLLBACK TO bad;
-- A lock_timeout of the caller is the same afterwards
SET LOCAL lock_timeout = '70s';
DROP TABLE "we""ird".profiles;
SELECT invite_sync.create_standard_tables(schema => 'we"ird') <> '';
SHOW lock_timeout;
RESET SESSION AUTHORIZATION;
REVOKE ALL ON auth.users FROM postgres CASCADE;
DROP TABLE "we""ird".profiles;
SET LOCAL SESSION AUTHORIZATION postgres;
SELECT invite_sync.create_standard_tables(schema => 'we"ird');
ROLLBACK;

-- Nobody but operators may call them
SELECT p.proname, has_function_privilege(r, p.oid, 'EXECUTE')
  FROM pg_proc p, unnest(ARRAY['anon', 'authenticated']) AS r
 WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.proname IN ('create_standard_tables', 'create_auth_schema')
 ORDER BY 1, r;

-- ---------------------------------------------------------------------------
-- create_auth_schema
-- ---------------------------------------------------------------------------

-- Where there is an auth server
SELECT invite_sync.create_auth_schema() = '';

-- The shape of the tables it makes, as the auth server has them
CREATE FUNCTION pg_temp.shape() RETURNS SETOF text LANGUAGE sql AS $$
	WITH made AS (
		SELECT c.oid, c.relname, c.relowner, c.relrowsecurity
		  FROM pg_class c
		 WHERE c.relnamespace = 'auth'::regnamespace
		   AND c.relname IN ('users', 'identities', 'one_time_tokens', 'sessions', 'refresh_tokens',
							 'mfa_factors', 'sso_providers', 'sso_domains'))
	SELECT concat_ws(' ', 'table', relname, 'owner', pg_get_userbyid(relowner), 'rls', relrowsecurity) FROM made
	UNION ALL
	SELECT concat_ws(' ', 'column', relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
					 'not null', a.attnotnull, 'generated', a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
	  FROM made
	  JOIN pg_attribute a ON a.attrelid = made.oid AND a.attnum > 0 AND NOT a.attisdropped
	  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL
	SELECT concat_ws(' ', 'constraint', relname, conname, pg_get_constraintdef(k.oid))
	  FROM made JOIN pg_constraint k ON k.conrelid = made.oid AND k.contype <> 'n'
	UNION ALL
	SELECT pg_get_indexdef(i.indexrelid)
	  FROM made JOIN pg_index i ON i.indrelid = made.oid
	UNION ALL
	SELECT concat_ws(' ', 'sequence', c.relname, 'owner', pg_get_userbyid(c.relowner))
	  FROM pg_class c WHERE c.relnamespace = 'auth'::regnamespace AND c.relkind = 'S'
	UNION ALL
	SELECT concat_ws(' ', 'type', t.typname, 'owner', pg_get_userbyid(t.typowner),
					 (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
	  FROM pg_type t
	 WHERE t.typnamespace = 'auth'::regnamespace
	   AND t.typname IN ('aal_level', 'factor_status', 'factor_type', 'one_time_token_type')
	UNION ALL
	SELECT concat_ws(' ', 'function', p.proname, pg_get_function_result(p.oid), p.provolatile, p.prosecdef,
					 'owner', pg_get_userbyid(p.proowner))
	  FROM pg_proc p WHERE p.pronamespace = 'auth'::regnamespace
$$;
SELECT json_agg(shape) AS real FROM pg_temp.shape() \gset
SELECT regexp_replace(pg_get_functiondef('pg_temp.shape'::regproc), 'pg_temp_\d+', 'pg_temp') AS shape \gset

CREATE DATABASE invite_sync_standard;
\c invite_sync_standard
SET client_min_messages = warning;
CREATE EXTENSION invite_sync CASCADE;
RESET client_min_messages;

-- Nothing to reference yet, and not everybody may make it
SELECT invite_sync.create_standard_tables();
CREATE ROLE regress_standard;
GRANT USAGE ON SCHEMA invite_sync TO regress_standard;
GRANT EXECUTE ON FUNCTION invite_sync.require_direct(), invite_sync.create_auth_schema() TO regress_standard;
SET SESSION AUTHORIZATION regress_standard;
SELECT invite_sync.create_auth_schema();
RESET SESSION AUTHORIZATION;

-- A superuser
SELECT invite_sync.create_auth_schema();
SELECT invite_sync.create_auth_schema() = '';
SELECT invite_sync.create_standard_tables() <> '';
SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'auth';

-- The same shape, but for what only an auth server needs
:shape;
SELECT 'only there', real FROM json_array_elements_text(:'real') AS real
 WHERE real NOT IN (SELECT pg_temp.shape())
UNION ALL
SELECT 'only here', shape FROM pg_temp.shape()
 WHERE shape NOT IN (SELECT json_array_elements_text(:'real'))
 ORDER BY 1, 2;
SET request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000a", "role": "authenticated", "email": "a@app.example"}';
SELECT auth.uid(), auth.role(), auth.email(), auth.jwt() ->> 'role';

-- What is missing is added and nothing else touched
DROP TABLE auth.one_time_tokens;
ALTER TABLE auth.users OWNER TO regress_standard;
SELECT invite_sync.create_auth_schema();
SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'auth.one_time_tokens'::regclass;

-- An auth.users that won't do
SET client_min_messages = warning;
BEGIN;
ALTER TABLE auth.users DROP COLUMN deleted_at, ALTER COLUMN raw_app_meta_data TYPE json;
SELECT invite_sync.create_auth_schema();
ROLLBACK;
BEGIN;
ALTER TABLE auth.users DROP CONSTRAINT users_pkey CASCADE;
SELECT invite_sync.create_auth_schema();
ROLLBACK;
BEGIN;
ALTER TABLE auth.users RENAME TO people;
CREATE VIEW auth.users AS SELECT * FROM auth.people;
SELECT invite_sync.create_auth_schema();
ROLLBACK;
-- An owner that is a superuser
BEGIN;
DROP TABLE auth.one_time_tokens;
ALTER ROLE regress_standard SUPERUSER;
SELECT invite_sync.create_auth_schema();
ROLLBACK;

\c :original
DROP DATABASE invite_sync_standard;
DROP ROLE regress_standard;
