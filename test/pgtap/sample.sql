-- What database.sql checks, in a database that has targets for the time of the
-- test: for CI. On a database of yours run database.sql.

\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL client_min_messages = error;

CREATE ROLE invite_sync_sample;
SELECT format('GRANT CREATE ON DATABASE %I TO invite_sync_sample', current_database()) \gexec
CREATE SCHEMA "Sample" AUTHORIZATION invite_sync_sample;
CREATE TABLE "Sample"."A Target" ("Id" uuid PRIMARY KEY, "E-Mail" text, name text);
CREATE TABLE "Sample".cascading (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, email text, full_name text);
CREATE TABLE "Sample".refusing (id uuid PRIMARY KEY, email text CHECK (email !~ 'probe'));
CREATE TABLE "Sample".disabled (id uuid PRIMARY KEY, email text);
ALTER TABLE "Sample"."A Target" OWNER TO invite_sync_sample;
ALTER TABLE "Sample".cascading OWNER TO invite_sync_sample;
ALTER TABLE "Sample".refusing OWNER TO invite_sync_sample;
ALTER TABLE "Sample".disabled OWNER TO invite_sync_sample;

INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'before@example.com');
SELECT invite_sync.add_target('"Sample"."A Target"', '{"E-Mail": "email", "name": "raw_user_meta_data->>''full_name''"}', 'Id', on_delete => 'delete'),
       invite_sync.add_target('"Sample".cascading'), invite_sync.add_target('"Sample".refusing', on_delete => 'delete'),
       invite_sync.add_target('"Sample".disabled', enabled => false),
       (SELECT count(*) FROM invite_sync.sync_users()) \g /dev/null

\set invite_sync_in_transaction yes
\ir database.sql
