--
-- What doctor() says of the tables that signups, updates and deletions reach. What fails for what it says, and that
-- the fix mends it, is test/doctor's to show; here are the targets of a sync, and what is no fault.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset null (null)
SET client_min_messages = error;
CREATE DATABASE regress_doctor_table;
\c regress_doctor_table
\set ECHO none
SET client_min_messages = error;
\i test/fixture/auth_schema.sql
CREATE EXTENSION invite_sync;
\set ECHO all
SET client_min_messages = error;
CREATE VIEW public.said AS SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE severity <> 'info';
CREATE FUNCTION public.sign_up(n integer, metadata jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
	INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new)
		SELECT '00000000-0000-0000-0000-000000000000', ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'authenticated', 'authenticated', 'user' || n || '@table.example', 'x', '{"provider": "email"}', metadata, now(), now(), '', '', '', '';
	INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
		SELECT id::text, id, jsonb_build_object('sub', id), 'email', now(), now() FROM auth.users WHERE email = 'user' || n || '@table.example' $$;
CREATE FUNCTION public.quarantined() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(sqlstate || ' ' || n, ', ') FROM (SELECT sqlstate, count(*) AS n FROM invite_sync.quarantine GROUP BY 1) AS q $$;

-- ---- a target ----
SET ROLE postgres;
CREATE TABLE public.people (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, email text, name text, code text UNIQUE, number bigserial);
\o /dev/null
SELECT invite_sync.add_target('public.people', mapping => '{"email": "email", "name": "raw_user_meta_data->>''name''"}');
\o
RESET ROLE;
SELECT public.sign_up(1, '{"name": "A"}');
SELECT * FROM public.said;
-- NOT NULL without source; signups succeed, and what it says of quarantine is another finding
BEGIN;
ALTER TABLE public.people ADD COLUMN tenant text, ADD COLUMN at timestamptz NOT NULL DEFAULT now(), ADD COLUMN counter integer GENERATED ALWAYS AS IDENTITY;
ALTER TABLE public.people ALTER COLUMN number DROP DEFAULT;
UPDATE public.people SET tenant = 't';
ALTER TABLE public.people ALTER COLUMN tenant SET NOT NULL;
SELECT public.sign_up(2);
SELECT public.quarantined();
SELECT * FROM public.said ORDER BY finding COLLATE "C";
SELECT fix FROM public.said WHERE finding LIKE 'column%' \gexec
SELECT retried, resolved, failed FROM invite_sync.retry_quarantine(due_only => false);
SELECT * FROM public.said;
ROLLBACK;
-- unless a trigger fills it
BEGIN;
CREATE FUNCTION public.fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := 't'; RETURN NEW; END $$;
CREATE TRIGGER fill BEFORE INSERT ON public.people FOR EACH ROW EXECUTE FUNCTION public.fill();
ALTER TABLE public.people ADD COLUMN tenant text;
UPDATE public.people SET tenant = 't';
ALTER TABLE public.people ALTER COLUMN tenant SET NOT NULL;
SELECT * FROM public.said;
ALTER TABLE public.people DISABLE TRIGGER fill;
SELECT finding FROM public.said WHERE area = 'target';
ROLLBACK;
-- a domain has a say as well
BEGIN;
CREATE DOMAIN public.given AS text NOT NULL;
CREATE DOMAIN public.given_by_default AS text NOT NULL DEFAULT 'd';
ALTER TABLE public.people ADD COLUMN a public.given DEFAULT 'x', ADD COLUMN b public.given_by_default, ADD COLUMN c public.given DEFAULT 'x';
ALTER TABLE public.people ALTER COLUMN a DROP DEFAULT;
SELECT * FROM public.said;
ROLLBACK;
-- NOT NULL, and filled from what not everybody has
BEGIN;
ALTER TABLE public.people ALTER COLUMN name SET NOT NULL, ALTER COLUMN email SET NOT NULL;
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'target' ORDER BY severity, finding COLLATE "C";
\o /dev/null
SELECT invite_sync.set_target('public.people', mapping => '{"email": "coalesce(email, '''')", "name": "coalesce(raw_user_meta_data->>''name'', '''')"}');
\o
SELECT severity, area, object, finding, fix FROM invite_sync.doctor() WHERE area = 'target';
ROLLBACK;
-- defaults that ask who is logged in, and CHECKs against what the mapping makes of nothing
BEGIN;
ALTER TABLE public.people ADD COLUMN who uuid DEFAULT auth.uid(), ADD COLUMN maybe uuid DEFAULT auth.uid();
UPDATE public.people SET who = id;
ALTER TABLE public.people ALTER COLUMN who SET NOT NULL, ADD CONSTRAINT named CHECK (name <> ''), ADD CONSTRAINT long CHECK (char_length(name) >= 1), ADD CONSTRAINT addressed CHECK (email <> ''), ADD CONSTRAINT short CHECK (length(name) < 100);
SELECT * FROM public.said ORDER BY finding COLLATE "C";
\o /dev/null
SELECT invite_sync.set_target('public.people', mapping => '{"email": "email", "name": "coalesce(raw_user_meta_data->>''name'', '''')"}');
\o
SELECT * FROM public.said ORDER BY finding COLLATE "C";
SELECT public.sign_up(2);
SELECT public.quarantined();
SELECT fix FROM public.said WHERE finding NOT LIKE '%quarantine%' \gexec
SELECT resolved FROM invite_sync.retry_quarantine(due_only => false);
SELECT * FROM public.said;
ROLLBACK;
-- and against what it makes of an address, or of anybody; what a trigger fills is another matter
BEGIN;
CREATE DOMAIN public.handle AS text CHECK (length(VALUE) BETWEEN 3 AND 40);
CREATE DOMAIN public.short_handle AS public.handle CHECK (VALUE ~ '^[^+]*$');
ALTER TABLE public.people ADD COLUMN handle public.short_handle, ADD COLUMN kind text DEFAULT 'old' CHECK (kind IN ('old', 'it''s')), ADD COLUMN state text;
ALTER TABLE public.people ALTER COLUMN kind SET DEFAULT 'new';
ALTER TABLE public.people ADD CONSTRAINT plain CHECK (name ~ '^[a-z0-9_]+$') NOT VALID, ADD CONSTRAINT back CHECK (code ~ '^(.)\1*$'), ADD CONSTRAINT dashed CHECK (name !~ '-'), ADD CONSTRAINT known CHECK (state = 'new' OR state LIKE 'n%') NOT VALID;
\o /dev/null
SELECT invite_sync.set_target('public.people', mapping => '{"email": "email", "name": "split_part(email, ''@'', 1)", "handle": "lower(split_part(email, ''@'', 1))", "state": "''it''''s''", "code": "''ab''"}');
\o
SELECT severity, area, object, finding, detail, fix FROM invite_sync.doctor() WHERE finding LIKE '%refuses%' ORDER BY finding COLLATE "C";
ALTER TABLE public.people ALTER COLUMN kind SET DEFAULT 'it''s';
\o /dev/null
SELECT invite_sync.set_target('public.people', mapping => '{"email": "email", "name": "left(split_part(email, ''@'', 1), 3)", "handle": "email", "state": "''never''", "code": "''aa''"}');
\o
SELECT finding FROM public.said WHERE finding LIKE '%refuses%';
ROLLBACK;
-- unique, and the same for many
BEGIN;
ALTER TABLE public.people ALTER COLUMN code SET DEFAULT 'none', ADD UNIQUE (name), ADD UNIQUE (email);
\o /dev/null
SELECT invite_sync.set_target('public.people', mapping => '{"email": "email", "name": "coalesce(raw_user_meta_data->>''name'', ''somebody'')"}');
\o
SELECT * FROM public.said ORDER BY finding COLLATE "C";
SELECT public.sign_up(2);
SELECT public.sign_up(3);
SELECT public.quarantined();
SELECT fix FROM public.said WHERE finding LIKE 'column code%' \gexec
SELECT finding FROM public.said WHERE area = 'target' AND finding LIKE 'column%';
ROLLBACK;
-- the key refers to another table; with on_error raise, everybody's signup fails
BEGIN;
CREATE TABLE public.members (id uuid PRIMARY KEY);
INSERT INTO public.members SELECT id FROM public.people;
ALTER TABLE public.people DROP CONSTRAINT people_id_fkey, ADD CONSTRAINT people_id_fkey FOREIGN KEY (id) REFERENCES public.members (id) DEFERRABLE INITIALLY DEFERRED;
SELECT * FROM public.said;
\o /dev/null
SELECT invite_sync.set_target('public.people', on_error => 'raise');
\o
SELECT severity FROM public.said;
SAVEPOINT s;
SELECT public.sign_up(2);
ROLLBACK TO s;
-- unless the sync fills that one, too
SET ROLE postgres;
CREATE TABLE public.other (id uuid PRIMARY KEY);
RESET ROLE;
ALTER TABLE public.members OWNER TO postgres;
\o /dev/null
SELECT invite_sync.add_target('public.members');
\o
SELECT * FROM public.said;
ROLLBACK;
-- row level security
BEGIN;
CREATE ROLE regress_doctor_plain NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA public TO regress_doctor_plain;
ALTER TABLE public.people OWNER TO regress_doctor_plain;
GRANT regress_doctor_plain TO postgres;
ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;
SELECT * FROM public.said WHERE finding LIKE 'row level%';
ALTER TABLE public.people FORCE ROW LEVEL SECURITY;
SELECT * FROM public.said WHERE finding LIKE 'row level%';
CREATE POLICY own ON public.people USING (id = auth.uid());
SELECT * FROM public.said WHERE finding LIKE 'row level%';
CREATE POLICY everybody ON public.people FOR INSERT TO regress_doctor_plain WITH CHECK (true);
SELECT * FROM public.said WHERE finding LIKE 'row level%';
ROLLBACK;
-- a sequence of somebody else's, and one that is behind
BEGIN;
ALTER TABLE public.people OWNER TO supabase_auth_admin;
GRANT supabase_auth_admin TO postgres;
CREATE SEQUENCE public.foreign_numbers;
REVOKE ALL ON SEQUENCE public.foreign_numbers FROM PUBLIC, postgres, anon, authenticated, service_role;
ALTER TABLE public.people ALTER COLUMN number SET DEFAULT nextval('public.foreign_numbers');
SELECT * FROM public.said WHERE finding LIKE '%sequence%';
ROLLBACK;
BEGIN;
ALTER TABLE public.people ADD UNIQUE (number);
SELECT * FROM public.said;
UPDATE public.people SET number = 2;
SELECT * FROM public.said;
SELECT fix FROM public.said \gexec
SELECT * FROM public.said;
ROLLBACK;
-- a trigger of the target writes a table with a deferred constraint
BEGIN;
CREATE TABLE public.ledger (id bigserial PRIMARY KEY, who uuid CONSTRAINT ledger_who REFERENCES auth.users (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE public.ledger OWNER TO postgres;
CREATE FUNCTION public.enter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ledger (who) VALUES (NEW.id); RETURN NULL; END $$;
CREATE TRIGGER enter AFTER INSERT ON public.people FOR EACH ROW EXECUTE FUNCTION public.enter();
SELECT * FROM public.said;
SELECT public.sign_up(2);
SELECT public.quarantined();
SELECT fix FROM public.said WHERE finding LIKE '%deferred%' \gexec
SELECT resolved FROM invite_sync.retry_quarantine(due_only => false);
SELECT * FROM public.said;
ROLLBACK;
-- rows of users who are gone
BEGIN;
ALTER TABLE public.people DROP CONSTRAINT people_id_fkey, ADD UNIQUE (email);
INSERT INTO public.people (id, email) VALUES ('00000000-0000-4000-8000-000000000077', 'user2@table.example');
SELECT * FROM public.said;
SELECT public.sign_up(2);
SELECT public.quarantined();
-- by id, never by address
SELECT detail FROM invite_sync.doctor() WHERE finding LIKE 'orphan%';
ROLLBACK;

-- ---- deletions ----
-- with on_delete the sync takes the row away first: its key stops nothing, the keys of what refers to it do
BEGIN;
ALTER TABLE public.people DROP CONSTRAINT people_id_fkey, ADD CONSTRAINT people_id_fkey FOREIGN KEY (id) REFERENCES auth.users (id);
SELECT * FROM public.said;
\o /dev/null
SELECT invite_sync.set_target('public.people', on_delete => 'delete');
\o
SELECT * FROM public.said;
DELETE FROM auth.users;
SELECT count(*) FROM auth.users;
ROLLBACK;
BEGIN;
CREATE TABLE public.a (id uuid PRIMARY KEY REFERENCES public.people (id) ON DELETE CASCADE, x integer UNIQUE);
CREATE TABLE public.b (x integer REFERENCES public.a (x) ON DELETE CASCADE, y integer UNIQUE);
CREATE TABLE public.c (y integer NOT NULL REFERENCES public.b (y));
CREATE TABLE public.d (x integer REFERENCES public.a (x) ON DELETE SET NULL CHECK (x > 0), y integer NOT NULL REFERENCES public.b (y) ON DELETE SET DEFAULT);
CREATE TABLE public.e (id integer PRIMARY KEY DEFAULT 5 REFERENCES public.a (x) ON DELETE SET DEFAULT, other uuid REFERENCES auth.users (id) ON DELETE SET NULL, parent integer REFERENCES public.e (id) ON DELETE CASCADE);
SELECT * FROM public.said ORDER BY object COLLATE "C";
SELECT fix FROM public.said WHERE fix IS NOT NULL \gexec
SELECT object, finding FROM public.said ORDER BY object COLLATE "C";
ROLLBACK;
-- keys in a circle, and of more than one column
BEGIN;
CREATE TABLE public.teams (id integer, captain uuid, PRIMARY KEY (id, captain));
CREATE TABLE public.players (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE ON UPDATE CASCADE, team integer, captain uuid, FOREIGN KEY (team, captain) REFERENCES public.teams (id, captain) ON DELETE CASCADE);
ALTER TABLE public.teams ADD CONSTRAINT teams_captain FOREIGN KEY (captain) REFERENCES public.players (id) ON UPDATE CASCADE DEFERRABLE;
SELECT * FROM public.said;
SELECT fix FROM public.said \gexec
SELECT count(*) FROM public.said;
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'teams_captain';
ROLLBACK;
-- partitions: the key of the whole is told once
BEGIN;
CREATE TABLE public.visits (who uuid REFERENCES auth.users (id), at date) PARTITION BY RANGE (at);
CREATE TABLE public.visits_2020 PARTITION OF public.visits FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE public.visits_2021 PARTITION OF public.visits FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
SELECT * FROM public.said;
SELECT fix FROM public.said \gexec
SELECT count(*) FROM public.said;
ROLLBACK;
BEGIN;
ALTER TABLE public.people DISABLE TRIGGER ALL;
ALTER TABLE auth.users DISABLE TRIGGER ALL;
SELECT severity, area, object, finding, regexp_replace(fix, '[0-9]+', 'N') AS fix FROM public.said WHERE area = 'delete' AND object LIKE 'public%' ORDER BY fix COLLATE "C";
ROLLBACK;

-- ---- names ----
BEGIN;
CREATE SCHEMA "s""; DROP TABLE public.people; --";
CREATE TABLE "s""; DROP TABLE public.people; --"."t'; DROP TABLE public.people; --" ("k""; DROP TABLE public.people; --" uuid NOT NULL
	CONSTRAINT "c""; DROP TABLE public.people; --" REFERENCES auth.users (id) ON DELETE SET NULL, "m'" text);
SELECT * FROM public.said;
SELECT fix FROM public.said \gexec
SELECT count(*) FROM public.said;
SELECT count(*) FROM public.people;
ROLLBACK;

-- ---- more ways than anybody could walk, and each table told once ----
BEGIN;
DO $$
BEGIN
	FOR layer IN 0..11 LOOP
		FOR n IN 0..2 LOOP
			EXECUTE format('CREATE TABLE public.layer_%s_%s (id uuid PRIMARY KEY, a uuid, b uuid, c uuid)', layer, n);
			FOR k IN 0..2 LOOP
				EXECUTE format('ALTER TABLE public.layer_%s_%s ADD FOREIGN KEY (%I) REFERENCES %s (id) ON DELETE CASCADE', layer, n, chr(97 + k),
					CASE layer WHEN 0 THEN 'auth.users' ELSE format('public.layer_%s_%s', layer - 1, k) END);
			END LOOP;
		END LOOP;
	END LOOP;
END
$$;
CREATE TABLE public.last_one (id uuid REFERENCES public.layer_11_2 (id));
SET LOCAL statement_timeout = '20s';
SELECT severity, area, object, finding, detail, fix FROM invite_sync.doctor() WHERE area = 'delete';
ROLLBACK;

-- ---- whoever asks, and where ----
BEGIN READ ONLY;
SELECT count(*) FROM public.said;
ROLLBACK;
SET ROLE postgres;
SELECT count(*) FROM invite_sync.doctor() WHERE severity <> 'info';
RESET ROLE;
-- what somebody has planted in a table of theirs runs as nobody else, if it runs at all
CREATE TABLE public.trace ();
CREATE ROLE regress_doctor_low NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA public TO regress_doctor_low;
SET ROLE regress_doctor_low;
CREATE FUNCTION public.planted(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_user <> 'regress_doctor_low' THEN
		RAISE NOTICE 'planted() runs as %', current_user;
	END IF;
	RETURN $1;
END
$$;
CREATE TABLE public.low (id uuid PRIMARY KEY, email text UNIQUE DEFAULT public.planted('x'), number serial UNIQUE, plan integer DEFAULT length(public.planted('x')), CHECK (public.planted('x') <> ''));
CREATE INDEX ON public.low (length(public.planted('x')), email);
CREATE INDEX ON public.low (id) WHERE public.planted('x') = 'x';
CREATE TABLE public.low_forced (id uuid PRIMARY KEY, email text UNIQUE, number serial UNIQUE);
ALTER TABLE public.low_forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON public.low_forced USING (public.planted(email) <> '');
INSERT INTO public.low (id, email, number) VALUES ('00000000-0000-4000-8000-000000000099', 'low@table.example', 9);
GRANT ALL ON public.low, public.low_forced TO postgres;
RESET ROLE;
CREATE FUNCTION public.fill_low() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
	INSERT INTO public.low (id, email) VALUES (NEW.id, NEW.email);
	INSERT INTO public.low_forced (id, email) VALUES (NEW.id, NEW.email);
	RETURN NEW;
END
$$;
ALTER FUNCTION public.fill_low() OWNER TO postgres;
CREATE TRIGGER fill_low AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.fill_low();
SET client_min_messages = notice;
-- as it does for others
EXPLAIN (COSTS OFF) SELECT FROM public.trace WHERE public.planted('x') = 'x';
SELECT severity, area, object, finding FROM public.said WHERE object LIKE 'public.low%' AND finding ~ '(orphan|behind)' ORDER BY finding COLLATE "C";
SELECT count(*) FROM invite_sync.doctor() WHERE finding LIKE 'could not%';
SET client_min_messages = error;
\c contrib_regression
SET client_min_messages = error;
DROP DATABASE regress_doctor_table WITH (FORCE);
DROP ROLE regress_doctor_low;
