-- Room sync: auth.users to application tables.
SET client_min_messages = notice;
SET ROLE postgres;

-- ---- inferred mappings ----
CREATE TABLE public.inferred (
    "userId" uuid UNIQUE REFERENCES auth.users ON DELETE CASCADE,
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text, "fullName" text, first_name text, avatar_url text, role text DEFAULT 'member', is_admin boolean DEFAULT false,
    plan text DEFAULT 'free', "createdAt" timestamp(3) NOT NULL DEFAULT now(), updated_at timestamptz,
    name integer, slug text GENERATED ALWAYS AS (lower(email)) STORED, bio text);
SELECT target, key, jsonb_pretty(mapping) AS mapping, on_delete, on_error, enabled, search_path, users_without_row, backfill
  FROM invite_sync.add_target('public.inferred');
-- again: nothing changes; otherwise: it is set
SELECT target FROM invite_sync.add_target('public.inferred');
SELECT target, on_delete FROM invite_sync.add_target('public.inferred', on_delete => 'delete');
SELECT target, on_delete, key FROM invite_sync.target_list;
SELECT tgname, tgtype, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal ORDER BY 1;
RESET ROLE;

SET ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at)
VALUES ('00000000-0000-4000-8000-0000000000c1', 'c1@x.example', 'HASH', '{"provider": "email"}',
        '{"full_name": "C One", "role": "admin", "is_admin": true, "plan": "pro"}', '2026-01-02 03:04:05.678+00');
RESET ROLE;
-- no right comes from what users write about themselves; a NULL keeps the column's default
SELECT "userId", email, "fullName", role, is_admin, plan, "createdAt", slug FROM public.inferred;
SELECT invite_sync.drop_target('public.inferred');
DROP TABLE public.inferred;
DELETE FROM auth.users;

-- ---- update policies ----
SET ROLE postgres;
CREATE TABLE public.p (id uuid PRIMARY KEY, a text, n text, v text, const text, app text);
SELECT jsonb_pretty(mapping) AS mapping FROM invite_sync.add_target('public.p', '{
    "a": "email", "n": "raw_user_meta_data->>''nick''", "v": {"value": "phone", "update": "never"},
    "const": "''made by sync''", "app": "raw_app_meta_data->>''tier''"}');
RESET ROLE;
SET ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email, phone, raw_user_meta_data, raw_app_meta_data)
VALUES ('00000000-0000-4000-8000-0000000000d1', 'd1@x.example', '111', '{"nick": "dee"}', '{"tier": "gold"}');
RESET ROLE;
SELECT * FROM public.p;
-- always: when the source changes; if_null: only over NULL; never: not at all
UPDATE public.p SET a = 'edited', n = 'edited', v = 'edited', const = 'edited', app = 'edited';
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data || '{"other": 1}';
SELECT * FROM public.p;
UPDATE auth.users SET email = 'd1new@x.example', phone = '222', raw_user_meta_data = '{"nick": "deedee"}', raw_app_meta_data = '{"tier": "silver"}';
SELECT * FROM public.p;
UPDATE public.p SET n = NULL;
UPDATE auth.users SET raw_user_meta_data = '{"nick": "again"}';
SELECT n FROM public.p;
-- an expression that yields NULL never replaces a value
UPDATE auth.users SET email = NULL, raw_app_meta_data = '{}';
SELECT * FROM public.p;
-- a login writes nothing
SELECT xmin AS before FROM public.p \gset
UPDATE auth.users SET last_sign_in_at = now(), updated_at = now(), encrypted_password = 'other';
SELECT xmin = :'before'::xid AS untouched FROM public.p;
-- nor does an update that changes nothing
UPDATE auth.users SET phone = phone, email = email;
SELECT xmin = :'before'::xid AS untouched FROM public.p;
-- the server's INSERT and UPDATE in one transaction: the final state arrives
BEGIN;
SET LOCAL ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email, raw_app_meta_data) VALUES ('00000000-0000-4000-8000-0000000000d2', 'd2@x.example', '{}');
UPDATE auth.users SET raw_app_meta_data = '{"tier": "bronze"}' WHERE id = '00000000-0000-4000-8000-0000000000d2';
COMMIT;
SELECT a, app FROM public.p WHERE id = '00000000-0000-4000-8000-0000000000d2';

-- ---- roads that are not a trigger only fill NULLs ----
DELETE FROM public.p;
INSERT INTO public.p (id, a, n) VALUES ('00000000-0000-4000-8000-0000000000d2', 'mine', NULL);
UPDATE invite_sync.quarantine_entry SET attempts = attempts;
SELECT target, user_id, column_name, current_value, auth_value, verdict FROM invite_sync.preservation_report() ORDER BY 2, 3;
SELECT * FROM invite_sync.sync_users(dry_run => true) ORDER BY user_id;
SELECT * FROM public.p;
SELECT * FROM invite_sync.sync_users() ORDER BY user_id;
SELECT * FROM public.p ORDER BY id;
SELECT * FROM invite_sync.sync_users() ORDER BY user_id;
SELECT target, auth_users, rows, missing, stale, percent FROM invite_sync.sync_status();
SELECT * FROM invite_sync.sync_users(overwrite => true, dry_run => true);
SELECT * FROM invite_sync.sync_users(overwrite => true);
SELECT * FROM public.p ORDER BY id;
SELECT target, missing, stale, last_success IS NOT NULL AS ran FROM invite_sync.sync_status();
DELETE FROM public.p;
SELECT * FROM invite_sync.sync_users('public.p', '00000000-0000-4000-8000-0000000000d2');
SELECT * FROM invite_sync.sync_users('public.p', '00000000-0000-4000-8000-00000000ffff');
SET client_min_messages = warning;
CALL invite_sync.sync_all(batch_size => 1);
SET client_min_messages = notice;
SELECT count(*) FROM public.p;
BEGIN;
CALL invite_sync.sync_all();
ROLLBACK;
CALL invite_sync.sync_all(0);
CALL invite_sync.sync_all(target => 'public.no_such');
CALL invite_sync.sync_all(target => 'auth.users');
SELECT * FROM invite_sync.sync_users('pg_class');

-- ---- one user ----
DELETE FROM public.p;
SELECT invite_sync.user_exists('00000000-0000-4000-8000-0000000000d1') AS yes, invite_sync.user_exists('00000000-0000-4000-8000-00000000ffff') AS no;
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-0000000000d1') AS yes, invite_sync.ensure_user('00000000-0000-4000-8000-00000000ffff') AS no;
SELECT id FROM public.p;
SELECT invite_sync.create_profile('00000000-0000-4000-8000-0000000000d2', '{"n": "given", "app": null}');
SELECT invite_sync.create_profile('00000000-0000-4000-8000-0000000000d2', '{"no_such": 1}');
SELECT invite_sync.create_profile('00000000-0000-4000-8000-0000000000d2', '{"id": "00000000-0000-4000-8000-0000000000d1"}');
SELECT invite_sync.create_profile('00000000-0000-4000-8000-0000000000d2', '[]');
SELECT invite_sync.create_profile('00000000-0000-4000-8000-00000000ffff');
SELECT invite_sync.drop_target('public.p');
SELECT invite_sync.drop_target('public.p');
DROP TABLE public.p;
DELETE FROM auth.users;

-- ---- deletion, hard and soft ----
SET ROLE postgres;
CREATE TABLE public.del (id uuid PRIMARY KEY, email text);
CREATE TABLE public.keep (id uuid PRIMARY KEY, email text);
CREATE TABLE public.deact (pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid UNIQUE REFERENCES auth.users ON DELETE SET NULL,
                           email text, is_active boolean NOT NULL DEFAULT true, deactivated_at timestamptz, deactivation_reason text);
SELECT target FROM invite_sync.add_target('public.del', on_delete => 'delete');
SELECT target FROM invite_sync.add_target('public.keep');
SELECT target, key FROM invite_sync.add_target('public.deact', on_delete => 'deactivate');
RESET ROLE;
SET ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-00000000000' || g)::uuid, 'e' || g || '@x.example' FROM generate_series(1, 4) g;
DELETE FROM auth.users WHERE email IN ('e1@x.example', 'e2@x.example');
-- a soft delete scrambles the address in the same statement
UPDATE auth.users SET deleted_at = now(), email = 'scrambled', phone = 'scrambled' WHERE email = 'e3@x.example';
UPDATE auth.users SET email = 'scrambled again' WHERE email = 'scrambled';
RESET ROLE;
SELECT email FROM public.del ORDER BY 1;
SELECT email FROM public.keep ORDER BY 1;
SELECT user_id, email, is_active, deactivated_at IS NOT NULL AS at, deactivation_reason FROM public.deact ORDER BY email;
SELECT target, auth_users, rows, missing, orphaned, unlinked FROM invite_sync.sync_status();
SELECT action, detail FROM invite_sync.sync_users() WHERE action = 'summary';
-- by hand
SELECT invite_sync.deactivate_user('00000000-0000-4000-8000-000000000004', 'left');
SELECT invite_sync.deactivate_user('00000000-0000-4000-8000-000000000004', 'left');
SELECT user_id, is_active, deactivated_at IS NOT NULL AS at, deactivation_reason FROM public.deact WHERE user_id = '00000000-0000-4000-8000-000000000004';
SELECT invite_sync.reactivate_user('00000000-0000-4000-8000-000000000004');
SELECT user_id, is_active, deactivated_at, deactivation_reason FROM public.deact WHERE user_id = '00000000-0000-4000-8000-000000000004';
SELECT invite_sync.deactivate_user('00000000-0000-4000-8000-00000000ffff');
SELECT invite_sync.deactivate_user(NULL);
-- brought back
UPDATE auth.users SET deleted_at = NULL, email = 'e3@x.example' WHERE email = 'scrambled again';
SELECT email FROM public.del ORDER BY 1;
SELECT invite_sync.drop_target('public.del'), invite_sync.drop_target('public.keep'), invite_sync.drop_target('public.deact');
DROP TABLE public.del, public.keep, public.deact;
DELETE FROM auth.users;

-- ---- a dropped column in the middle of auth.users: no secret moves into another column's place ----
SET ROLE postgres;
CREATE TABLE public.dropped (id uuid PRIMARY KEY, email text, created_at timestamptz);
SELECT target FROM invite_sync.add_target('public.dropped');
RESET ROLE;
BEGIN;
ALTER TABLE auth.users DROP COLUMN aud;
ALTER TABLE auth.users ADD COLUMN later text DEFAULT 'fast default';
INSERT INTO auth.users (id, email, encrypted_password, created_at) VALUES ('00000000-0000-4000-8000-0000000000f1', 'f1@x.example', 'HASH', '2026-01-01');
UPDATE auth.users SET email = 'f1new@x.example';
SELECT * FROM public.dropped;
DELETE FROM public.dropped;
SELECT action FROM invite_sync.sync_users();
SELECT * FROM public.dropped;
DELETE FROM public.dropped;
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-0000000000f1');
SELECT * FROM public.dropped;
SELECT missing, stale FROM invite_sync.sync_status();
SELECT count(*) AS hashes FROM public.dropped WHERE dropped::text LIKE '%HASH%';
ROLLBACK;
SELECT invite_sync.drop_target('public.dropped');
DROP TABLE public.dropped;

-- ---- types, lengths, collations, odd names ----
SET ROLE postgres;
CREATE TYPE public.mood AS ENUM ('fine', 'bad');
CREATE DOMAIN public.mail AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE public."odd ""name%s" (
    "the key" uuid PRIMARY KEY, "e'mail" public.mail, short varchar(12), fixed char(5), amount numeric(6,2), mood public.mood,
    tags text[], doc json, place point, c text COLLATE "C", days date, "select" text);
SELECT target, key FROM invite_sync.add_target('public."odd ""name%s"', $${
    "e'mail": "users.email -- a comment", "short": "split_part(email, '@', 1)", "fixed": "'ab'||left(email, 1)",
    "amount": "(raw_user_meta_data->>'amount')", "mood": "raw_user_meta_data->>'mood'",
    "tags": "ARRAY[email, raw_user_meta_data->>'mood']", "doc": {"value": "raw_app_meta_data", "update": "always"},
    "place": {"value": "point(1, length(email))", "update": "always"}, "c": "email", "days": "created_at", "select": "coalesce(email, '%s')"}$$,
    key => 'the key');
RESET ROLE;
INSERT INTO auth.users (id, email, raw_user_meta_data, raw_app_meta_data, created_at)
VALUES ('00000000-0000-4000-8000-0000000000e1', 'odd@x.example', '{"amount": "12.345", "mood": "fine"}', '{"a": [1, 2]}', '2026-05-06 07:08:09+00');
SELECT * FROM public."odd ""name%s";
UPDATE auth.users SET email = 'even@x.example', raw_app_meta_data = '{"a": 3}';
SELECT "e'mail", short, fixed, amount, tags, doc::text, place, c, "select" FROM public."odd ""name%s";
-- what was rounded or padded is in step
SELECT missing, stale FROM invite_sync.sync_status();
SELECT action, detail FROM invite_sync.sync_users(overwrite => true);
-- too long is an error, not a cut
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000e2', 'much.too.long.for.that@x.example');
SELECT target, sqlstate, message FROM invite_sync.quarantine;
SELECT invite_sync.drop_target('public."odd ""name%s"');
DROP TABLE public."odd ""name%s";
DROP TYPE public.mood;
DROP DOMAIN public.mail;
DELETE FROM auth.users;

-- ---- attach and detach ----
SET ROLE postgres;
SELECT invite_sync.attach();
SELECT invite_sync.detach();
SELECT invite_sync.detach();
CREATE TABLE public.late (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('public.late');
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000a9', 'late@x.example');
SELECT severity, object, finding FROM invite_sync.verify();
SELECT count(*) FROM public.late;
SET ROLE postgres;
SELECT invite_sync.attach();
SELECT invite_sync.attach(wait => '0');
SELECT invite_sync.attach(wait => NULL);
RESET ROLE;
SELECT * FROM invite_sync.verify();
-- disabled or replaced by somebody: said, and mended
ALTER TABLE auth.users DISABLE TRIGGER invite_sync_insert;
SELECT severity, object, finding FROM invite_sync.verify();
CREATE OR REPLACE TRIGGER invite_sync_update AFTER UPDATE ON auth.users REFERENCING OLD TABLE AS o NEW TABLE AS n
    FOR EACH STATEMENT WHEN (1 = 2) EXECUTE FUNCTION invite_sync.sync_on_update();
SELECT severity, object, finding FROM invite_sync.verify() ORDER BY object;
SELECT invite_sync.attach();
SELECT * FROM invite_sync.verify();
-- the trigger functions belong on auth.users
CREATE TRIGGER misplaced AFTER INSERT ON public.late REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_on_insert();
INSERT INTO public.late VALUES ('00000000-0000-4000-8000-0000000000aa', 'x');
DROP TRIGGER misplaced ON public.late;
-- the setting
SET invite_sync.enabled = off;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000ab', 'off@x.example');
SELECT severity, object, finding FROM invite_sync.verify();
RESET invite_sync.enabled;
SELECT missing FROM invite_sync.sync_status();
-- a disabled target
SET ROLE postgres;
SELECT target, enabled FROM invite_sync.set_target('public.late', enabled => false);
SELECT severity, object, finding FROM invite_sync.verify();
SELECT target, enabled, on_delete FROM invite_sync.set_target('public.late', enabled => true);
-- the owner may want the error
SELECT target, on_error FROM invite_sync.set_target('public.late', on_error => 'raise');
ALTER TABLE public.late ADD CONSTRAINT no_raise CHECK (email <> 'raise@x.example');
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000ac', 'raise@x.example');
SELECT count(*) FROM auth.users WHERE email = 'raise@x.example';

-- ---- bad input ----
SET ROLE postgres;
SELECT invite_sync.add_target('public.late', '{"no_such": "email"}');
SELECT invite_sync.add_target('public.late', '{"email": "no_such"}');
SELECT invite_sync.add_target('public.late', '{"email": "email +"}');
SELECT invite_sync.add_target('public.late', '{"email": "encrypted_password"}');
SELECT invite_sync.add_target('public.late', '{"email": "coalesce(email, recovery_token)"}');
SELECT invite_sync.add_target('public.late', '{"email": "email_change"}');
SELECT invite_sync.add_target('public.late', '{"email": "users::text"}');
SELECT invite_sync.add_target('public.late', '{"email": "to_jsonb(users)::text"}');
SELECT invite_sync.add_target('public.late', '{"email": "users.*"}');
SELECT invite_sync.add_target('public.late', '{"email": "*"}');
SELECT invite_sync.add_target('public.late', '{"email": "ctid::text"}');
SELECT invite_sync.add_target('public.late', '{"email": "(SELECT email)"}');
SELECT invite_sync.add_target('public.late', '{"email": "generate_series(1, 2)::text"}');
SELECT invite_sync.add_target('public.late', '{"email": "random()::text"}');
SELECT invite_sync.add_target('public.late', '{"email": "count(*)::text"}');
SELECT invite_sync.add_target('public.late', '{"email": "email) FROM auth.users --"}');
SELECT invite_sync.add_target('public.late', '{"email": "email, phone"}');
SELECT invite_sync.add_target('public.late', '{"email": "email; DROP TABLE public.late"}');
SELECT invite_sync.add_target('public.late', '{"email": ""}');
SELECT invite_sync.add_target('public.late', '{"email": {"value": "email", "update": "sometimes"}}');
SELECT invite_sync.add_target('public.late', '{"email": {"expression": "email"}}');
SELECT invite_sync.add_target('public.late', '{"email": 1}');
SELECT invite_sync.add_target('public.late', '[]');
SELECT invite_sync.add_target('public.late', '{"id": "id"}');
SELECT invite_sync.add_target('public.late', key => 'email');
SELECT invite_sync.add_target('public.late', key => 'no_such');
SELECT invite_sync.add_target('public.late', on_delete => 'cascade');
SELECT invite_sync.add_target('public.late', on_error => 'ignore');
SELECT invite_sync.add_target('public.late', on_delete => 'deactivate');
SELECT invite_sync.add_target('public.late', on_delete => NULL);
SELECT invite_sync.add_target(NULL);
SELECT invite_sync.add_target('public.late', link_by => 'email');
SELECT invite_sync.add_target('public.late', link_by => 'no_such');
CREATE TABLE public.bad (id uuid, user_id integer PRIMARY KEY, role text, must text NOT NULL, at timestamptz, n integer, g text GENERATED ALWAYS AS ('x') STORED);
SELECT invite_sync.add_target('public.bad');
SELECT invite_sync.add_target('public.bad', key => 'user_id');
ALTER TABLE public.bad ADD UNIQUE (id) DEFERRABLE;
SELECT invite_sync.add_target('public.bad', key => 'id');
CREATE UNIQUE INDEX ON public.bad (id) WHERE role IS NULL;
CREATE UNIQUE INDEX ON public.bad (id, role);
SELECT invite_sync.add_target('public.bad', key => 'id');
ALTER TABLE public.bad ADD CONSTRAINT bad_id UNIQUE (id);
SELECT invite_sync.add_target('public.bad', key => 'id');
ALTER TABLE public.bad DROP CONSTRAINT bad_id_key;
SELECT invite_sync.add_target('public.bad');
ALTER TABLE public.bad DROP COLUMN user_id;
SELECT invite_sync.add_target('public.bad');
SELECT invite_sync.add_target('public.bad', '{"must": "email", "role": "raw_user_meta_data->>''role''"}');
SELECT invite_sync.add_target('public.bad', '{"must": "email", "n": "created_at"}');
SELECT invite_sync.add_target('public.bad', '{"must": "email", "g": "email"}');
SELECT mapping FROM invite_sync.add_target('public.bad', '{"must": "email", "role": "raw_user_meta_data->>''role''"}', allow_user_written => true);
SELECT invite_sync.drop_target('public.bad');
-- what cannot be a target
CREATE VIEW public.a_view AS SELECT * FROM public.late;
CREATE MATERIALIZED VIEW public.a_matview AS SELECT * FROM public.late;
CREATE TEMPORARY TABLE a_temp (id uuid PRIMARY KEY);
CREATE TABLE public.a_parent (id uuid PRIMARY KEY);
CREATE TABLE public.a_child () INHERITS (public.a_parent);
CREATE TABLE public.a_part (id uuid PRIMARY KEY, email text) PARTITION BY HASH (id);
CREATE TABLE public.a_part_0 PARTITION OF public.a_part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE public.a_ruled (id uuid PRIMARY KEY);
CREATE RULE nothing AS ON INSERT TO public.a_ruled DO INSTEAD NOTHING;
CREATE SEQUENCE public.a_sequence;
SELECT invite_sync.add_target('public.a_view');
SELECT invite_sync.add_target('public.a_matview');
SELECT invite_sync.add_target('a_temp');
SELECT invite_sync.add_target('public.a_parent');
SELECT invite_sync.add_target('public.a_part_0');
SELECT invite_sync.add_target('public.a_ruled');
SELECT invite_sync.add_target('public.a_sequence');
SELECT invite_sync.add_target('auth.users');
SELECT invite_sync.add_target('auth.identities');
SELECT invite_sync.add_target('pg_catalog.pg_class');
SELECT invite_sync.add_target('information_schema.sql_features');
SELECT invite_sync.add_target('invite_sync.target');
SELECT target FROM invite_sync.add_target('public.a_part');
SELECT invite_sync.drop_target('public.a_part');
DROP VIEW public.a_view;
DROP MATERIALIZED VIEW public.a_matview;
DROP TABLE a_temp, public.a_child, public.a_parent, public.a_part, public.a_ruled, public.bad;
DROP SEQUENCE public.a_sequence;
-- deletion that cannot work
CREATE TABLE public.fk (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, is_active boolean);
SELECT invite_sync.add_target('public.fk', on_delete => 'deactivate');
ALTER TABLE public.fk DROP CONSTRAINT fk_id_fkey, ADD CONSTRAINT fk_id_fkey FOREIGN KEY (id) REFERENCES auth.users;
SELECT target FROM invite_sync.add_target('public.fk');
SELECT invite_sync.drop_target('public.fk');
DROP TABLE public.fk;
RESET ROLE;
-- not the owner's
CREATE TABLE public.of_others (id uuid PRIMARY KEY);
SET ROLE postgres;
SELECT invite_sync.add_target('public.of_others');
RESET ROLE;
DROP TABLE public.of_others;
SET ROLE authenticated;
SELECT invite_sync.add_target('public.late');
SELECT * FROM invite_sync.sync_status();
RESET ROLE;
-- nothing of all that was registered, or wrote anything
SELECT target FROM invite_sync.target_list;
SELECT count(*) FROM invite_sync.mapping;
SELECT count(*) FROM public.late;

-- a target that is gone, and one that took its place
SET client_min_messages = error;
DROP TABLE public.late;
SELECT target, rows, missing, percent FROM invite_sync.sync_status();
SELECT severity, object, detail FROM invite_sync.verify();
SET ROLE postgres;
SELECT target, on_error FROM invite_sync.set_target('public.late', on_error => 'quarantine');
CREATE TABLE public.late (id uuid PRIMARY KEY, email text);
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000ad', 'again@x.example');
SELECT email FROM public.late;
SELECT severity, object, finding FROM invite_sync.verify();
SELECT target, missing FROM invite_sync.sync_status();
SELECT invite_sync.drop_target('late');
SELECT invite_sync.drop_target(NULL);
SELECT invite_sync.drop_target('a.b.c.d');
DROP TABLE public.late;
DELETE FROM auth.users;

-- ---- what reviewing found ----
SET client_min_messages = error;
SET ROLE postgres;
CREATE TABLE public.r1 (id uuid PRIMARY KEY, email text, phone text);
CREATE TABLE public.r2 (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('public.r1');
SELECT target FROM invite_sync.add_target('public.r2');
RESET ROLE;
-- a success with one column does not eat what waits for another
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b1', 'a@x.example');
ALTER TABLE public.r1 ADD CONSTRAINT no_b CHECK (email <> 'b@x.example');
UPDATE auth.users SET email = 'b@x.example';
ALTER TABLE public.r1 DROP CONSTRAINT no_b;
UPDATE auth.users SET phone = '1';
SELECT invite_sync.ensure_user('00000000-0000-4000-8000-0000000000b1');
SELECT email, phone FROM public.r1;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT email, phone FROM public.r1;
-- two targets that swap their names
ALTER TABLE public.r1 RENAME TO r3;
ALTER TABLE public.r2 RENAME TO r1;
ALTER TABLE public.r3 RENAME TO r2;
SELECT action, detail FROM invite_sync.sync_users() WHERE action = 'summary';
UPDATE auth.users SET email = 'swapped@x.example';
SELECT r1.email, r2.email, r2.phone FROM public.r1, public.r2;
SELECT target FROM invite_sync.target_list ORDER BY 1;
-- a schema, a function in a default, a type: renamed behind the statements' back
CREATE SCHEMA app;
ALTER SCHEMA app OWNER TO postgres;
SET ROLE postgres;
CREATE FUNCTION app.nick() RETURNS text LANGUAGE sql AS $$SELECT 'nick'$$;
CREATE TYPE app.mood AS ENUM ('fine');
CREATE TABLE app.accounts (id uuid PRIMARY KEY, email text, nick text DEFAULT app.nick(), mood app.mood);
SELECT target FROM invite_sync.add_target('app.accounts', '{"email": "email", "nick": "raw_user_meta_data->>''nick''", "mood": "''fine''"}');
RESET ROLE;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b2', 'b2@x.example');
ALTER FUNCTION app.nick() RENAME TO nickname;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b3', 'b3@x.example');
ALTER SCHEMA app RENAME TO app2;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b4', 'b4@x.example');
-- (the DDL guard would have made the statements anew)
SET invite_sync.ddl_check = off;
ALTER TYPE app2.mood RENAME TO feeling;
RESET invite_sync.ddl_check;
DISCARD PLANS;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b5', 'b5@x.example');
SELECT email, nick, mood FROM app2.accounts ORDER BY 1;
SELECT target, sqlstate, message FROM invite_sync.quarantine;
-- nor behind the back of what only asks
SELECT severity, finding FROM invite_sync.verify() WHERE object = 'app2.accounts';
ALTER TYPE app2.feeling RENAME TO mood;
SELECT severity, finding FROM invite_sync.verify() WHERE object = 'app2.accounts';
ALTER TYPE app2.mood RENAME TO temper;
SELECT stale FROM invite_sync.sync_status() WHERE target = 'app2.accounts';
ALTER TYPE app2.temper RENAME TO humour;
UPDATE app2.accounts SET email = 'other@x.example' WHERE email = 'b5@x.example';
SELECT column_name, verdict FROM invite_sync.preservation_report() WHERE target = 'app2.accounts';
ALTER TYPE app2.humour RENAME TO spirits;
SELECT action, detail FROM invite_sync.sync_users('app2.accounts', overwrite => true, dry_run => true);
-- the check for secrets reads text as the statement does
SET standard_conforming_strings = off;
SELECT invite_sync.add_target('public.r1', jsonb_build_object('email', $$'\'' || encrypted_password --'$$));
RESET standard_conforming_strings;
SELECT mapping FROM invite_sync.add_target('public.r1', jsonb_build_object('email', $$'\'' || encrypted_password --'$$));
INSERT INTO auth.users (id, email, encrypted_password) VALUES ('00000000-0000-4000-8000-0000000000b6', 'b6@x.example', 'HASH');
DELETE FROM public.r1;
SET standard_conforming_strings = off;
SELECT action, detail FROM invite_sync.sync_users('public.r1') WHERE action = 'summary';
RESET standard_conforming_strings;
SELECT count(*) AS hashes FROM public.r1 WHERE email LIKE '%HASH%';
SELECT invite_sync.drop_target('public.r1');
-- a statement nested in somebody's trigger: the last word counts
CREATE FUNCTION public.lower_email() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF NEW.email <> lower(NEW.email) THEN UPDATE auth.users SET email = lower(NEW.email) WHERE id = NEW.id; END IF; RETURN NULL; END$$;
CREATE TRIGGER lower_email AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.lower_email();
UPDATE auth.users SET email = 'NESTED@x.example' WHERE email = 'b6@x.example';
SELECT r2.email FROM public.r2 JOIN auth.users u USING (id) WHERE u.email = 'nested@x.example';
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b7', 'B7@x.example');
SELECT r2.email FROM public.r2 JOIN auth.users u USING (id) WHERE u.email = 'b7@x.example';
DROP TRIGGER lower_email ON auth.users;
DROP FUNCTION public.lower_email();
-- no plan stays behind
DO $$BEGIN FOR i IN 1..3 LOOP PERFORM invite_sync.verify(); END LOOP; END$$;
SELECT count(*) AS plans FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%' \gset
DO $$BEGIN FOR i IN 1..20 LOOP PERFORM invite_sync.verify(); END LOOP; END$$;
SELECT count(*) - :plans < 10 AS few_more_plans FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%';
-- a superuser's table is no target, and does not become one
CREATE TABLE public.su (id uuid PRIMARY KEY);
SELECT invite_sync.add_target('public.su');
ALTER TABLE public.r2 OWNER TO supabase_admin;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b8', 'b8@x.example');
SELECT target, sqlstate, message FROM invite_sync.quarantine;
ALTER TABLE public.r2 OWNER TO postgres;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
-- in a restricted operation the code that runs asks, not the session
CREATE ROLE regress_low;
GRANT CREATE, USAGE ON SCHEMA public TO regress_low;
SELECT invite_sync.grant_operator('regress_low');
SET ROLE regress_low;
CREATE TABLE public.bait (t text);
INSERT INTO public.bait VALUES ('x');
CREATE FUNCTION public.bait_index(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
    PERFORM invite_sync.add_target('public.r1'); RETURN $1; EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING '% %', SQLSTATE, SQLERRM; RETURN $1; END$$;
SET client_min_messages = warning;
CREATE INDEX ON public.bait (public.bait_index(t));
RESET ROLE;
ANALYZE public.bait;
SET client_min_messages = error;
SELECT target FROM invite_sync.target_list ORDER BY 1;
SELECT invite_sync.revoke_operator('regress_low');
DROP OWNED BY regress_low;
DROP ROLE regress_low;
SELECT invite_sync.drop_target('public.r2'), invite_sync.drop_target('app2.accounts');
DROP TABLE public.r1, public.r2, public.su;
DROP SCHEMA app2 CASCADE;
DELETE FROM auth.users;

-- ---- link_by: rows made before their users sign up ----
SET ROLE postgres;
CREATE TABLE public.link (pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid UNIQUE, email text, full_name text, note text);
INSERT INTO public.link (email, note) VALUES (' Ada@X.example ', 'invited'), ('twice@x.example', 'one'), ('TWICE@x.example', 'two'), ('bob@x.example', 'invited'), ('late@x.example', 'invited');
SELECT target, key, link_by FROM invite_sync.add_target('public.link', link_by => 'email');
SELECT target, link_by FROM invite_sync.add_target('public.link', link_by => 'email');
RESET ROLE;
SET ROLE supabase_auth_admin;
-- a verified address claims its row, whatever its case
INSERT INTO auth.users (id, email, email_confirmed_at, raw_user_meta_data) VALUES ('00000000-0000-4000-8000-000000000e01', 'ada@x.example', now(), '{"full_name": "Ada"}');
-- one that is not verified waits, and gets no second row
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000e02', 'bob@x.example');
-- two rows with one address: nobody's
INSERT INTO auth.users (id, email, email_confirmed_at) VALUES ('00000000-0000-4000-8000-000000000e03', 'twice@x.example', now());
-- nobody waits for this one
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000e04', 'new@x.example');
RESET ROLE;
SELECT user_id, email, full_name, note FROM public.link ORDER BY pk;
SELECT user_id, sqlstate, message FROM invite_sync.quarantine ORDER BY user_id;
SELECT unlinked, missing FROM invite_sync.sync_status();
SELECT action, target_type, data FROM invite_sync.event WHERE action = 'sync.row_claimed';
-- verified: claimed
UPDATE auth.users SET email_confirmed_at = now() WHERE email = 'bob@x.example';
SELECT user_id, email, note FROM public.link WHERE email = 'bob@x.example';
SELECT user_id, sqlstate FROM invite_sync.quarantine ORDER BY user_id;
-- a later change of address claims nothing, nor does one of somebody anonymous, banned, or of another's domain
UPDATE auth.users SET email = 'late@x.example', email_confirmed_at = now() WHERE email = 'new@x.example';
INSERT INTO auth.users (id, email, email_confirmed_at, is_sso_user) VALUES ('00000000-0000-4000-8000-000000000e05', 'late@x.example', now(), true);
SELECT user_id, email, note FROM public.link WHERE email = 'late@x.example' ORDER BY pk;
-- in a batch, with those who wait among them
INSERT INTO public.link (email, note) SELECT 'batch' || g || '@x.example', 'invited' FROM generate_series(1, 6) g;
INSERT INTO auth.users (id, email, email_confirmed_at)
    SELECT ('00000000-0000-4000-8000-000000000f' || lpad(g::text, 2, '0'))::uuid, 'batch' || g || '@x.example', CASE WHEN g % 2 = 0 THEN now() END FROM generate_series(1, 8) g;
SELECT user_id, email, note FROM public.link WHERE email LIKE 'batch%' ORDER BY email;
SELECT count(*) FROM invite_sync.quarantine WHERE message LIKE 'link_pending%';
UPDATE auth.users SET email_confirmed_at = now() WHERE email LIKE 'batch%';
SELECT count(*) FILTER (WHERE user_id IS NULL) AS unclaimed, count(*) FROM public.link WHERE email LIKE 'batch%';
SELECT user_id, message FROM invite_sync.quarantine ORDER BY 1;
DELETE FROM public.link WHERE email = 'TWICE@x.example';
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT user_id, email, note FROM public.link WHERE email = 'twice@x.example';
SELECT link_by FROM invite_sync.set_target('public.link', link_by => '');
SELECT invite_sync.drop_target('public.link');
DROP TABLE public.link;
DELETE FROM auth.users;

-- ---- the first identity ----
SET ROLE postgres;
CREATE TABLE public.ident (id uuid PRIMARY KEY, email text, identity_provider text, sso_user_id text, extra text);
SELECT mapping FROM invite_sync.add_target('public.ident');
SELECT target FROM invite_sync.add_target('public.ident', '{"email": "email", "identity_provider": "identity_provider", "sso_user_id": "identity.identity_provider_id", "extra": {"value": "identity_provider || '':'' || email", "update": "if_null"}}');
SELECT invite_sync.add_target('public.ident', '{"email": "identity::text"}');
RESET ROLE;
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'auth.identities'::regclass AND NOT tgisinternal;
SET ROLE supabase_auth_admin;
-- the user's row comes before its identity
BEGIN;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000001001', 'i1@x.example');
INSERT INTO auth.identities (user_id, provider, provider_id, identity_data, created_at) VALUES ('00000000-0000-4000-8000-000000001001', 'google', 'g-1', '{}', '2026-01-01');
COMMIT;
SELECT email, identity_provider, sso_user_id, extra FROM public.ident;
RESET ROLE;
UPDATE public.ident SET identity_provider = 'edited';
-- a second identity changes nothing, nor does a login
INSERT INTO auth.identities (user_id, provider, provider_id, identity_data, created_at) VALUES ('00000000-0000-4000-8000-000000001001', 'github', 'h-1', '{}', '2026-02-01');
UPDATE auth.users SET email = 'i1new@x.example';
SELECT email, identity_provider, sso_user_id, extra FROM public.ident;
-- many at once, by both roads
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-00000001' || lpad(g::text, 4, '0'))::uuid, 'many' || g || '@x.example' FROM generate_series(1, 2000) g;
INSERT INTO auth.identities (user_id, provider, provider_id, identity_data) SELECT id, 'email', email, '{}' FROM auth.users WHERE email LIKE 'many%';
SELECT count(*), count(*) FILTER (WHERE identity_provider = 'email' AND sso_user_id = email AND extra = 'email:' || email) AS good FROM public.ident WHERE email LIKE 'many%';
SELECT missing, stale FROM invite_sync.sync_status();
TRUNCATE public.ident;
SELECT action, detail FROM invite_sync.sync_users() WHERE action = 'summary';
SELECT count(*), count(*) FILTER (WHERE sso_user_id IS NOT NULL) AS good FROM public.ident;
-- failing: kept until it succeeds
ALTER TABLE public.ident ADD CONSTRAINT no_apple CHECK (identity_provider <> 'apple');
SET client_min_messages = error;
BEGIN;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000001002', 'i2@x.example');
INSERT INTO auth.identities (user_id, provider, provider_id, identity_data) VALUES ('00000000-0000-4000-8000-000000001002', 'apple', 'a-1', '{}');
COMMIT;
SELECT user_id, sqlstate FROM invite_sync.quarantine;
ALTER TABLE public.ident DROP CONSTRAINT no_apple;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT email, identity_provider, sso_user_id FROM public.ident WHERE email = 'i2@x.example';
ALTER TABLE auth.identities DISABLE TRIGGER invite_sync_identity;
SELECT severity, object, finding FROM invite_sync.verify();
SELECT invite_sync.attach();
SELECT * FROM invite_sync.verify();
SELECT invite_sync.detach();
SELECT tgname FROM pg_trigger WHERE tgrelid = 'auth.identities'::regclass AND NOT tgisinternal;
SELECT invite_sync.attach();
SELECT invite_sync.drop_target('public.ident');
DROP TABLE public.ident;
DELETE FROM auth.users;
