-- Room plan: saved statements outlive what happens to the objects they name.
SET client_min_messages = warning;
SET ROLE postgres;
CREATE TABLE public.planned (id uuid PRIMARY KEY, email text);
SELECT target, users_without_row FROM invite_sync.add_target('public.planned');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000a1', 'a1@x.example');
RESET ROLE;
-- a plan of this session, after each change to its table
ALTER TABLE public.planned ADD COLUMN note text DEFAULT 'n';
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000a2', 'a2@x.example');
ALTER TABLE public.planned ALTER COLUMN email TYPE varchar(200);
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000a3', 'a3@x.example');
ALTER TABLE public.planned RENAME TO planned_too;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000a4', 'a4@x.example');
CREATE SCHEMA elsewhere;
ALTER TABLE public.planned_too SET SCHEMA elsewhere;
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000a5', 'a5@x.example');
SELECT id, email, note FROM elsewhere.planned_too ORDER BY id;
SELECT target FROM invite_sync.target_list;
-- the extension's own tables change under a kept plan
ALTER TABLE invite_sync.sync_run ADD COLUMN extra int;
SELECT action, detail FROM invite_sync.sync_users() WHERE action = 'summary';
ALTER TABLE invite_sync.sync_run DROP COLUMN extra;
SELECT action, detail FROM invite_sync.sync_users() WHERE action = 'summary';

-- planning runs IMMUTABLE functions, so it happens as the target's owner
CREATE TABLE public.planned_as (who text, super boolean);
GRANT ALL ON public.planned_as TO PUBLIC;
CREATE ROLE regress_low;
GRANT USAGE, CREATE ON SCHEMA public TO regress_low;
SELECT invite_sync.grant_operator('regress_low');
SET ROLE regress_low;
CREATE FUNCTION public.planted(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE WARNING 'planted runs as % (superuser: %)', current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    RETURN $1;
END $$;
CREATE TABLE public.low (id uuid PRIMARY KEY, email text, label text);
RESET ROLE;
-- the superuser configures, verifies and syncs a table of somebody else
SELECT target FROM invite_sync.add_target('public.low', '{"email": "email", "label": "public.planted(''x'')"}');
SELECT severity, object, finding FROM invite_sync.verify() WHERE object = 'public.low';
SELECT target, missing FROM invite_sync.sync_status() WHERE target = 'public.low';

SELECT invite_sync.drop_target('public.low');
SELECT invite_sync.drop_target('elsewhere.planned_too');
SELECT invite_sync.revoke_operator('regress_low');
DROP OWNED BY regress_low;
DROP ROLE regress_low;
DROP TABLE public.planned_as;
DROP SCHEMA elsewhere CASCADE;
DELETE FROM auth.users;
