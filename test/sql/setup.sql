-- What all other tests expect: the auth schema and roles of Supabase, and the extension, in this database.
\set ECHO none
SET client_min_messages = warning;
\i test/fixture/auth_schema.sql
SET client_min_messages = warning;
\set ECHO all
CREATE EXTENSION invite_sync;
SELECT current_user, extversion IS NOT NULL AS installed FROM pg_extension WHERE extname = 'invite_sync';
-- the administrator of Supabase is no superuser, and an operator
SELECT rolsuper FROM pg_roles WHERE rolname = 'postgres';
SELECT role FROM invite_sync.operator;
