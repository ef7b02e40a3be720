-- DDL that breaks a sync is told, or refused; all other DDL is let alone.
SET client_min_messages = warning;
\set VERBOSITY default
SELECT invite_sync.is_operator();
SHOW invite_sync.ddl_check;
-- awake from the beginning
SELECT evtname, evtenabled FROM pg_event_trigger WHERE evtname LIKE 'invite_sync%' ORDER BY 1;
SET ROLE postgres;
CREATE SCHEMA guarded;
CREATE FUNCTION guarded.tidy(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;
CREATE DOMAIN guarded.address AS text;
CREATE TABLE guarded.members (id uuid PRIMARY KEY, email text, nick guarded.address, extra text);
SELECT target FROM invite_sync.add_target('guarded.members', '{"email": "guarded.tidy(email)", "nick": "raw_user_meta_data->>''nick''"}');
CREATE TABLE guarded.other (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('guarded.other');
SELECT invite_sync.attach() IS NOT NULL AS attached;

-- ---- warn: each that breaks a sync, and only at the command that does ----
BEGIN;
ALTER TABLE guarded.members DROP COLUMN email;
ALTER TABLE guarded.members DROP COLUMN extra;
ALTER TABLE guarded.other ADD note text;
-- mending step by step is nobody's mistake
ALTER TABLE guarded.members ADD email int;
ALTER TABLE guarded.members DROP COLUMN email;
ALTER TABLE guarded.members ADD email text;
ROLLBACK;
BEGIN;
ALTER TABLE guarded.members RENAME nick TO name;
ROLLBACK;
BEGIN;
ALTER TABLE guarded.members ADD plan text NOT NULL;
ROLLBACK;
BEGIN;
ALTER TABLE guarded.members ADD plan text NOT NULL DEFAULT 'free';
ALTER TABLE guarded.members ALTER plan DROP DEFAULT;
ROLLBACK;
BEGIN;
ALTER TABLE guarded.members DROP CONSTRAINT members_pkey;
ROLLBACK;
-- a text may be cast to anything, an address to few
BEGIN;
ALTER TABLE guarded.other ALTER email TYPE int USING length(email);
ROLLBACK;
BEGIN;
CREATE TYPE guarded.level AS ENUM ('low');
ALTER TABLE guarded.other ALTER email TYPE guarded.level USING 'low';
ROLLBACK;
BEGIN;
ALTER TABLE guarded.other ALTER email TYPE guarded.address;
ALTER TABLE guarded.other ALTER email TYPE char(300);
ALTER TABLE guarded.other ALTER email TYPE bytea USING NULL;
ROLLBACK;
BEGIN;
ALTER TABLE guarded.members ALTER nick TYPE int USING NULL;
ROLLBACK;
BEGIN;
DROP TABLE guarded.members;
ROLLBACK;
BEGIN;
DROP FUNCTION guarded.tidy(text);
ROLLBACK;
BEGIN;
ALTER FUNCTION guarded.tidy(text) RENAME TO neat;
ROLLBACK;
BEGIN;
CREATE TABLE guarded.child () INHERITS (guarded.members);
ROLLBACK;
BEGIN;
CREATE TABLE guarded.child (LIKE guarded.members);
ALTER TABLE guarded.child INHERIT guarded.members;
ROLLBACK;
BEGIN;
CREATE RULE nothing AS ON INSERT TO guarded.members DO INSTEAD NOTHING;
ROLLBACK;
BEGIN;
REVOKE INSERT ON guarded.members FROM postgres;
ROLLBACK;
BEGIN;
DROP SCHEMA guarded CASCADE;
ROLLBACK;
RESET ROLE;
BEGIN;
DROP TYPE guarded.address CASCADE;
ROLLBACK;
BEGIN;
ALTER TABLE auth.users DROP COLUMN raw_user_meta_data;
ROLLBACK;
-- by a function, by DO, and many at once
BEGIN;
DO $$ BEGIN
    ALTER TABLE guarded.members DROP COLUMN extra;
    BEGIN
        EXECUTE 'ALTER TABLE guarded.members DROP COLUMN email';
        RAISE EXCEPTION 'undone';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    ALTER TABLE guarded.members ADD note text;
    ALTER TABLE guarded.members DROP COLUMN nick;
END $$;
ROLLBACK;

-- ---- what does not matter says nothing ----
SET ROLE postgres;
BEGIN;
ALTER TABLE guarded.members RENAME TO people;
ALTER TABLE guarded.people SET SCHEMA public;
ALTER TABLE public.people ADD note text, ADD plan text NOT NULL DEFAULT 'free', ALTER email SET NOT NULL, ALTER email TYPE varchar(300);
CREATE INDEX ON public.people (email);
CREATE UNIQUE INDEX people_email ON public.people (email);
DROP INDEX public.people_email;
COMMENT ON TABLE public.people IS 'people';
GRANT SELECT ON public.people TO authenticated;
REVOKE SELECT ON public.people FROM authenticated;
ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.people USING (id = auth.uid());
CREATE OR REPLACE FUNCTION guarded.tidy(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(t) $$;
CREATE TABLE guarded.elsewhere (id int);
ALTER TABLE guarded.elsewhere ADD note text NOT NULL;
ALTER TABLE guarded.elsewhere DROP COLUMN id;
DROP TABLE guarded.elsewhere;
-- nor do names that our own statements write out: of a column's type, of what its default calls, and their schema
CREATE SCHEMA further;
CREATE TYPE further.level AS ENUM ('low');
CREATE FUNCTION further.word() RETURNS text LANGUAGE sql AS $$ SELECT 'w' $$;
CREATE TABLE further.levels (id uuid PRIMARY KEY, level further.level DEFAULT 'low', word text DEFAULT further.word());
SELECT target FROM invite_sync.add_target('further.levels', '{"level": "''low''", "word": "lower(email)"}');
SET LOCAL invite_sync.ddl_check = refuse;
ALTER TYPE further.level RENAME TO grade;
ALTER FUNCTION further.word() RENAME TO phrase;
ALTER SCHEMA further RENAME TO farther;
ALTER TYPE farther.grade SET SCHEMA guarded;
RESET invite_sync.ddl_check;
ROLLBACK;
-- a target that is switched off, or was broken before
BEGIN;
SELECT enabled FROM invite_sync.target_list WHERE target = 'guarded.other';
SELECT target FROM invite_sync.set_target('guarded.other', enabled => false);
DROP TABLE guarded.other;
ROLLBACK;

-- ---- refuse ----
RESET ROLE;
SET invite_sync.ddl_check = refuse;
SET ROLE authenticated;
SET invite_sync.ddl_check = off;
SET ROLE postgres;
ALTER TABLE guarded.members DROP COLUMN email;
DROP TABLE guarded.members;
DROP SCHEMA guarded CASCADE;
ALTER TABLE guarded.members ADD note text;
SELECT count(*) AS columns FROM pg_attribute WHERE attrelid = 'guarded.members'::regclass AND attnum > 0 AND NOT attisdropped;
-- the way to do it
BEGIN;
SELECT target FROM invite_sync.set_target('guarded.members', mapping => '{"nick": "raw_user_meta_data->>''nick''"}');
ALTER TABLE guarded.members RENAME email TO mail;
SELECT target FROM invite_sync.set_target('guarded.members', mapping => '{"mail": "email", "nick": "raw_user_meta_data->>''nick''"}');
COMMIT;
BEGIN;
SELECT invite_sync.drop_target('guarded.other');
DROP TABLE guarded.other;
ROLLBACK;
-- what was broken before may be altered, dropped and mended
RESET ROLE;
SET invite_sync.ddl_check = off;
ALTER TABLE guarded.members DROP COLUMN mail;
SET invite_sync.ddl_check = refuse;
ALTER TABLE guarded.members ADD more text;
ALTER TABLE guarded.members DROP COLUMN more;
-- but nothing else with it
ALTER TABLE guarded.other DROP COLUMN email;
BEGIN;
DROP TABLE guarded.members;
ROLLBACK;
ALTER TABLE guarded.members ADD mail text;
ALTER TABLE guarded.members DROP COLUMN mail;

-- ---- never in the way of: ----
-- triggers that are not there
BEGIN;
SELECT invite_sync.detach();
DROP TABLE guarded.members;
ROLLBACK;
BEGIN;
ALTER TABLE auth.users DISABLE TRIGGER invite_sync_insert;
DROP TABLE guarded.members;
ROLLBACK;
-- extensions
BEGIN;
CREATE EXTENSION hstore SCHEMA guarded;
ALTER EXTENSION hstore SET SCHEMA public;
ALTER EXTENSION hstore ADD FUNCTION guarded.tidy(text);
DROP EXTENSION hstore;
ROLLBACK;
-- the auth server's migrations
SET ROLE supabase_auth_admin;
BEGIN;
ALTER TABLE auth.users ADD COLUMN IF NOT EXISTS nickname text;
ALTER TABLE auth.users ALTER raw_user_meta_data TYPE json;
ALTER TABLE auth.users DROP COLUMN raw_user_meta_data;
ALTER TABLE auth.users RENAME COLUMN email TO mail;
CREATE TYPE auth.level AS ENUM ('low');
ALTER TYPE auth.level RENAME TO levels;
DROP TYPE auth.levels;
CREATE OR REPLACE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
DROP INDEX IF EXISTS auth.users_instance_id_idx;
ROLLBACK;
RESET ROLE;
-- which are somebody else's if somebody else makes them
ALTER TABLE auth.users DROP COLUMN raw_user_meta_data;
-- a dump that is read in
BEGIN;
SET LOCAL application_name = 'pg_restore';
DROP TABLE guarded.members;
ROLLBACK;
BEGIN;
SELECT set_config('search_path', '', true);
SET LOCAL check_function_bodies = false;
SET LOCAL row_security = off;
DROP TABLE guarded.members;
ROLLBACK;
BEGIN;
SET LOCAL session_replication_role = replica;
DROP TABLE guarded.members;
ROLLBACK;

-- ---- probe: what only a signup finds ----
SET invite_sync.ddl_check = probe;
ALTER TABLE guarded.members DROP COLUMN mail;
ALTER TABLE guarded.members ADD mail text;
CREATE FUNCTION guarded.fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT %s/0', length(NEW.email));
    RETURN NEW;
END $$;
CREATE TRIGGER fails AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION guarded.fails();
-- it fails already
ALTER TABLE guarded.other ADD CONSTRAINT never CHECK (false);
CREATE OR REPLACE FUNCTION guarded.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
ALTER TABLE guarded.other DROP CONSTRAINT never;
ALTER TABLE guarded.other ADD CONSTRAINT never CHECK (false);
ALTER TABLE guarded.other DROP CONSTRAINT never;
-- what is refused of a form for the values alone that the probe has made up is not how it was before
CREATE OR REPLACE FUNCTION guarded.fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.raw_user_meta_data ? 'full_name' THEN
        EXECUTE 'SELECT to_date($1, ''YYYY'')' USING NEW.raw_user_meta_data ->> 'since';
    END IF;
    RETURN NEW;
END $$;
BEGIN;
CREATE OR REPLACE FUNCTION guarded.fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.raw_user_meta_data ? 'full_name' THEN
        EXECUTE format('SELECT %s/0', length(NEW.email));
    END IF;
    RETURN NEW;
END $$;
ROLLBACK;
-- not where a rollback would not undo it: then as warn
CREATE SEQUENCE guarded.ran;
GRANT USAGE ON SEQUENCE guarded.ran TO PUBLIC;
GRANT USAGE ON SCHEMA guarded TO PUBLIC;
BEGIN;
CREATE OR REPLACE FUNCTION guarded.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('guarded.ran'), lo_export(1, '/dev/null'); RETURN NEW; END $$;
SELECT is_called FROM guarded.ran;
ALTER TABLE guarded.other ADD CONSTRAINT never CHECK (false);
ALTER TABLE guarded.members DROP COLUMN mail;
ROLLBACK;
DROP TRIGGER fails ON auth.users;
RESET invite_sync.ddl_check;

-- ---- triggers under guard: what their functions say is analysed, as doctor() does ----
SET ROLE postgres;
CREATE TABLE guarded.welcome (id uuid, mail text, note text);
CREATE TABLE guarded.unsaid (id uuid, mail text);
CREATE FUNCTION guarded.greet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO guarded.welcome (id, mail) VALUES (NEW.id, NEW.email);
    RETURN NULL;
END $$;
RESET ROLE;
CREATE TRIGGER greet AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION guarded.greet();
SET ROLE postgres;
BEGIN;
ALTER TABLE guarded.welcome DROP COLUMN mail;
ROLLBACK;
SELECT invite_sync.guard_trigger('greet') IS NOT NULL AS guarded;
BEGIN;
ALTER TABLE guarded.welcome DROP COLUMN mail;
-- once
ALTER TABLE guarded.welcome DROP COLUMN note;
ALTER TABLE guarded.welcome ADD mail text;
ROLLBACK;
BEGIN;
ALTER TABLE guarded.unsaid DROP COLUMN mail;
ALTER TABLE guarded.welcome DROP COLUMN note, ADD more text;
ROLLBACK;
-- a name that the body says with its quotes doubled
BEGIN;
SELECT invite_sync.unguard_trigger('greet');
CREATE TABLE guarded."x""; drop table y; --" (id uuid);
CREATE OR REPLACE FUNCTION guarded.greet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO guarded."x""; drop table y; --" (id) VALUES (NEW.id);
    RETURN NULL;
END $$;
SELECT invite_sync.guard_trigger('greet') IS NOT NULL AS guarded;
DROP TABLE guarded."x""; drop table y; --";
ROLLBACK;
SET invite_sync.ddl_check = refuse;
DROP TABLE guarded.welcome;
ALTER TABLE guarded.welcome RENAME TO hello;
CREATE OR REPLACE FUNCTION guarded.greet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO guarded.hello (id, mail) VALUES (NEW.id, NEW.email);
    RETURN NULL;
END $$;
-- the way to do it
BEGIN;
SELECT invite_sync.unguard_trigger('greet');
ALTER TABLE guarded.welcome RENAME TO hello;
CREATE OR REPLACE FUNCTION guarded.greet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO guarded.hello (id, mail) VALUES (NEW.id, NEW.email);
    RETURN NULL;
END $$;
SELECT invite_sync.guard_trigger('greet') IS NOT NULL AS guarded;
COMMIT;
DROP TABLE guarded.hello;
SELECT invite_sync.unguard_trigger('greet');
-- what a declaration takes its type from, too, and each time anew
CREATE TABLE guarded.kinds (mail text);
CREATE OR REPLACE FUNCTION guarded.greet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    kind guarded.kinds%ROWTYPE;
BEGIN
    RETURN NULL;
END $$;
SELECT invite_sync.guard_trigger('greet') IS NOT NULL AS guarded;
DROP TABLE guarded.kinds;
SELECT invite_sync.unguard_trigger('greet');
DROP TABLE guarded.kinds;
RESET ROLE;
RESET invite_sync.ddl_check;
DROP TRIGGER greet ON auth.users;

-- ---- it runs as who issues the command, and runs nobody's code ----
CREATE ROLE guard_mallory;
GRANT USAGE, CREATE ON SCHEMA guarded TO guard_mallory;
CREATE SEQUENCE guarded.super;
GRANT USAGE ON SEQUENCE guarded.super TO PUBLIC;
SET ROLE guard_mallory;
CREATE FUNCTION guarded.planted(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM nextval('guarded.ran');
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN PERFORM nextval('guarded.super'); END IF;
    RETURN 'x';
END $$;
CREATE TABLE guarded.bait (id uuid PRIMARY KEY, email text DEFAULT guarded.planted('a'), note text CHECK (note = guarded.planted('b')));
RESET ROLE;
SELECT target FROM invite_sync.add_target('guarded.bait', '{"email": "coalesce(email, guarded.planted(''c''))"}');
SELECT is_called AS planned_as_its_owner FROM guarded.ran;
ALTER SEQUENCE guarded.ran RESTART;
ALTER TABLE guarded.bait ADD more text;
SET ROLE guard_mallory;
ALTER TABLE guarded.bait ADD still_more text;
-- no right on the extension is needed to be warned
ALTER TABLE guarded.bait DROP COLUMN email;
RESET ROLE;
SELECT (SELECT is_called FROM guarded.ran) AS ran, (SELECT is_called FROM guarded.super) AS as_superuser;
SELECT count(*) FILTER (WHERE severity = 'error') FROM invite_sync.verify();
SELECT (SELECT is_called FROM guarded.super) AS as_superuser;
-- who may not set it cannot switch it off for himself either, not even before the library is loaded
\c -
SET client_min_messages = warning;
SET ROLE guard_mallory;
SET invite_sync.ddl_check = off;
BEGIN;
ALTER TABLE guarded.bait ALTER id DROP DEFAULT, ADD email int;
ALTER TABLE guarded.bait RENAME id TO uid;
ROLLBACK;
RESET ROLE;
SHOW invite_sync.ddl_check;
-- the dictionary knows no word, and nothing that begins by it
SET ROLE guard_mallory;
SELECT ts_lexize(d.oid, w.word) FROM pg_ts_dict AS d, unnest(ARRAY['load', 'begins DROP TABLE', 'ends DROP TABLE', 'begins ', 'ends', 'x', '']) AS w (word) WHERE d.dictname = 'ddl_guard';
RESET ROLE;

-- ---- the first command of a session, during which the library is loaded ----
SET SESSION AUTHORIZATION DEFAULT;
\c -
SET client_min_messages = warning;
SET invite_sync.ddl_check = refuse;
ALTER TABLE guarded.other DROP COLUMN email;
\c -
SET client_min_messages = warning;
SET invite_sync.ddl_check = refuse;
SET ROLE postgres;
CREATE FUNCTION guarded.migrate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE guarded.other DROP COLUMN email;
EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE WARNING 'refused: % (%)', SQLERRM, SQLSTATE;
    ALTER TABLE guarded.other ADD note text;
END $$;
\c -
SET client_min_messages = warning;
SET invite_sync.ddl_check = refuse;
SELECT guarded.migrate();
ALTER TABLE guarded.other DROP COLUMN note;
\c -
SET client_min_messages = warning;
SET invite_sync.ddl_check = refuse;
SET search_path = guarded;
DO $$ BEGIN EXECUTE 'DROP TABLE other'; END $$;
DO $$ BEGIN EXECUTE 'DROP TABLE other'; END $$;
SELECT column_name FROM information_schema.columns WHERE table_schema = 'guarded' AND table_name = 'other' ORDER BY 1;
RESET search_path;
RESET invite_sync.ddl_check;
-- an error before it, in the same transaction
BEGIN;
SAVEPOINT s;
DROP TABLE guarded.nobody;
ROLLBACK TO s;
ALTER TABLE guarded.other DROP COLUMN email;
ROLLBACK;

-- ---- what may not run in a transaction ----
SET ROLE postgres;
SET invite_sync.ddl_check = refuse;
CREATE INDEX CONCURRENTLY other_email ON guarded.other (email);
REINDEX INDEX CONCURRENTLY guarded.other_email;
DROP INDEX CONCURRENTLY guarded.other_email;
SET invite_sync.ddl_check = probe;
CREATE UNIQUE INDEX CONCURRENTLY other_email ON guarded.other (email);
DROP INDEX CONCURRENTLY guarded.other_email;
-- the key: by the time it could be refused it is done
SET invite_sync.ddl_check = refuse;
CREATE TABLE guarded.keyed (id uuid, email text);
CREATE UNIQUE INDEX keyed_id ON guarded.keyed (id);
SELECT target FROM invite_sync.add_target('guarded.keyed');
DROP INDEX guarded.keyed_id;
DROP INDEX CONCURRENTLY guarded.keyed_id;
SELECT to_regclass('guarded.keyed_id') IS NULL AS done;
SELECT invite_sync.drop_target('guarded.keyed');
DROP TABLE guarded.keyed;

-- ---- partitions ----
CREATE TABLE guarded.parted (id uuid, email text, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE TABLE guarded.part_0 PARTITION OF guarded.parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE guarded.part_1 PARTITION OF guarded.parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT target FROM invite_sync.add_target('guarded.parted');
ALTER TABLE guarded.parted DROP COLUMN email;
ALTER TABLE guarded.parted DETACH PARTITION guarded.part_1;
ALTER TABLE guarded.parted ATTACH PARTITION guarded.part_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE guarded.parted ADD note text;
SELECT invite_sync.drop_target('guarded.parted');
DROP TABLE guarded.parted;
-- one command in another
BEGIN;
CREATE TABLE guarded.made AS SELECT guarded.migrate() IS NULL AS done;
ROLLBACK;
DROP FUNCTION guarded.migrate();
RESET ROLE;
RESET invite_sync.ddl_check;
-- a registry that cannot be read is in nobody's way
BEGIN;
REVOKE ALL ON invite_sync.target FROM invite_sync_owner;
ALTER TABLE guarded.other ADD registry_closed int;
ROLLBACK;
SELECT invite_sync.ddl_begins();
SET ROLE postgres;
SELECT invite_sync.ddl_ends();
RESET ROLE;
SELECT invite_sync.drop_target('guarded.bait');
SELECT invite_sync.drop_target('guarded.members');
SELECT invite_sync.drop_target('guarded.other');
SET client_min_messages = error;
DROP SCHEMA guarded CASCADE;
DROP ROLE guard_mallory;
-- as it was found: nobody attached or detached
DROP TRIGGER invite_sync_insert ON auth.users;
DROP TRIGGER invite_sync_update ON auth.users;
DROP TRIGGER "Invite_sync_delete" ON auth.users;
