-- Room quarantine: what failed, until it succeeds.
SET client_min_messages = error;
SET ROLE postgres;
CREATE TABLE public.q (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, email text UNIQUE, full_name text, note text);
SELECT target FROM invite_sync.add_target('public.q');
CREATE TABLE public.q_ok (id uuid PRIMARY KEY, email text);
SELECT target FROM invite_sync.add_target('public.q_ok', on_delete => 'delete');
RESET ROLE;

-- a missing column: the entry names it
ALTER TABLE public.q DROP COLUMN full_name;
SET ROLE supabase_auth_admin;
INSERT INTO auth.users (id, email, raw_user_meta_data) VALUES ('00000000-0000-4000-8000-0000000000b1', 'b1@x.example', '{"full_name": "B One"}');
RESET ROLE;
SELECT target, user_id, action, sqlstate, message, column_name, attempts, replayable,
       next_retry_at > last_failed_at AS later, next_retry_at <= last_failed_at + interval '1 s' AS soon
  FROM invite_sync.quarantine;
SELECT target, auth_users, rows, missing, quarantined FROM invite_sync.sync_status() ORDER BY 1;
-- not yet mended: fails again, and waits longer
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT action, sqlstate, attempts, next_retry_at > last_failed_at + interval '600 ms' AS later FROM invite_sync.quarantine;
-- not due: left alone
SELECT * FROM invite_sync.retry_quarantine();
ALTER TABLE public.q ADD COLUMN full_name text;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT id, email, full_name FROM public.q;
SELECT count(*) FROM invite_sync.quarantine;

-- violated constraints: the row and the key are nowhere in the entry
INSERT INTO public.q (id, email) SELECT id, 'taken@x.example' FROM auth.users WHERE false;
ALTER TABLE public.q ADD CONSTRAINT no_secret CHECK (email NOT LIKE 'secret%');
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b2', 'secret.person@x.example');
SELECT sqlstate, constraint_name, message LIKE '%secret.person%' OR detail IS NOT NULL OR coalesce(context, '') LIKE '%secret.person%' AS leaks
  FROM invite_sync.quarantine;

-- an update that failed sets on retry what it would have set, and only that
ALTER TABLE public.q DROP CONSTRAINT no_secret;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
ALTER TABLE public.q ADD CONSTRAINT no_new CHECK (email NOT LIKE 'new%');
UPDATE auth.users SET email = 'new@x.example' WHERE id = '00000000-0000-4000-8000-0000000000b1';
SELECT q.action, q.sqlstate, e.changed_columns FROM invite_sync.quarantine q JOIN invite_sync.quarantine_entry e USING (id);
UPDATE public.q SET full_name = 'edited by the user' WHERE id = '00000000-0000-4000-8000-0000000000b1';
ALTER TABLE public.q DROP CONSTRAINT no_new;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT email, full_name FROM public.q WHERE id = '00000000-0000-4000-8000-0000000000b1';

-- resolved by whatever road succeeds
ALTER TABLE public.q ADD CONSTRAINT no_new CHECK (email NOT LIKE 'newer%');
UPDATE auth.users SET email = 'newer@x.example' WHERE id = '00000000-0000-4000-8000-0000000000b1';
SELECT count(*) FROM invite_sync.quarantine;
UPDATE auth.users SET email = 'fine@x.example' WHERE id = '00000000-0000-4000-8000-0000000000b1';
SELECT count(*) FROM invite_sync.quarantine;
SELECT email FROM public.q WHERE id = '00000000-0000-4000-8000-0000000000b1';
ALTER TABLE public.q DROP CONSTRAINT no_new;

-- a batch that fails as a whole, and one with bad rows
ALTER TABLE public.q RENAME COLUMN email TO mail;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid, 'u' || g || '@x.example' FROM generate_series(1, 300) g;
SELECT target, sqlstate, count(*) FROM invite_sync.quarantine GROUP BY 1, 2;
ALTER TABLE public.q RENAME COLUMN mail TO email;
SELECT * FROM invite_sync.retry_quarantine(max_rows => 100, due_only => false);
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
ALTER TABLE public.q ADD CONSTRAINT odd CHECK (email NOT LIKE 'v%7@x.example');
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-9000-' || lpad(g::text, 12, '0'))::uuid, 'v' || g || '@x.example' FROM generate_series(1, 1000) g;
SELECT sqlstate, constraint_name, count(*), count(*) FILTER (WHERE u.email LIKE '%7@x.example') AS right_ones
  FROM invite_sync.quarantine q JOIN auth.users u ON u.id = q.user_id GROUP BY 1, 2;
SELECT count(*) FROM public.q WHERE email LIKE 'v%';
ALTER TABLE public.q DROP CONSTRAINT odd;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);

-- rows of one statement that exclude each other: the first wins, the others wait
INSERT INTO auth.users (id, email, is_sso_user)
    SELECT ('00000000-0000-4000-a000-' || lpad(g::text, 12, '0'))::uuid, 'same' || g % 3 || '@x.example', true FROM generate_series(0, 8) g;
SELECT email, count(*) FROM public.q WHERE email LIKE 'same%' GROUP BY 1 ORDER BY 1;
SELECT sqlstate, count(*) FROM invite_sync.quarantine GROUP BY 1;
-- gone with its user
DELETE FROM auth.users WHERE email LIKE 'same%';
SELECT count(*) FROM invite_sync.quarantine;

-- a deletion that failed outlives its user, and is done again
ALTER TABLE public.q_ok ADD COLUMN keep boolean;
CREATE FUNCTION public.q_keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'kept'; END$$;
CREATE TRIGGER keep BEFORE DELETE ON public.q_ok FOR EACH ROW EXECUTE FUNCTION public.q_keep();
DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-0000000000b1';
SELECT target, user_id, action, sqlstate, message FROM invite_sync.quarantine;
SELECT target, orphaned FROM invite_sync.sync_status() ORDER BY 1;
DROP TRIGGER keep ON public.q_ok;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT target, orphaned, quarantined FROM invite_sync.sync_status() ORDER BY 1;

-- detail is for operators
CREATE FUNCTION public.q_detail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused' USING DETAIL = 'some detail'; END$$;
CREATE TRIGGER detail BEFORE INSERT ON public.q FOR EACH ROW EXECUTE FUNCTION public.q_detail();
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-0000000000b3', 'b3@x.example');
SELECT message, detail FROM invite_sync.quarantine;
SET ROLE service_role;
SELECT message, detail FROM invite_sync.quarantine;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
RESET ROLE;
SET ROLE authenticated;
SELECT * FROM invite_sync.quarantine;
SELECT * FROM invite_sync.retry_quarantine();
RESET ROLE;
SELECT * FROM invite_sync.retry_quarantine(max_rows => 0);

-- dropping the target forgets its entries
SELECT invite_sync.drop_target('public.q');
SELECT count(*) FROM invite_sync.quarantine_entry;
SELECT invite_sync.drop_target('public.q_ok');
DROP TABLE public.q, public.q_ok;
DROP FUNCTION public.q_keep(), public.q_detail();
DELETE FROM auth.users;
