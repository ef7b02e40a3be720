-- What every database of the bench has. Loaded by the superuser into one made by scripts/fixture-db.sh, with users = how
-- many users auth.users holds, bulk = how many a bulk insert adds, synced = do the users have their rows in the targets.

CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO PUBLIC;

-- Three targets, as Supabase's guides make them. Nobody syncs written_at: its default tells which batch wrote a row.
CREATE TABLE public.profiles (
    id          uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    email       text CHECK (email NOT LIKE 'refused%'),
    full_name   text,
    avatar_url  text,
    created_at  timestamptz,
    written_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE public.accounts (LIKE public.profiles INCLUDING ALL);
CREATE TABLE public.members (LIKE public.profiles INCLUDING ALL);
ALTER TABLE public.accounts ADD FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE;
ALTER TABLE public.members ADD FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE;
ALTER TABLE public.profiles OWNER TO postgres;
ALTER TABLE public.accounts OWNER TO postgres;
ALTER TABLE public.members OWNER TO postgres;
GRANT INSERT ON public.profiles TO supabase_auth_admin;

\ir stamp.sql

-- Inserts the users numbered first to last into auth.users or a table like it; their ids are in random order.
CREATE FUNCTION bench.make_users(place regclass, first integer, last integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    made bigint;
BEGIN
    EXECUTE format($sql$
        INSERT INTO %s (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, confirmation_token,
                        recovery_token, email_change_token_new, email_change, last_sign_in_at, raw_app_meta_data,
                        raw_user_meta_data, created_at, updated_at, is_sso_user, is_anonymous)
        SELECT '00000000-0000-0000-0000-000000000000', md5(n::text)::uuid, 'authenticated', 'authenticated',
               'user' || n || '@example.com', '$2a$10$' || md5(n::text) || left(md5((-n)::text), 21), now(), '', '', '', '',
               now(), '{"provider": "email", "providers": ["email"]}',
               jsonb_build_object('full_name', 'User ' || n, 'avatar_url', 'https://example.com/' || n || '.png'),
               now(), now(), false, false
          FROM generate_series(%s, %s) AS n
        $sql$, place, first, last);
    GET DIAGNOSTICS made = ROW_COUNT;
    RETURN made;
END
$$;

-- The statements that are timed, for psql to run by \gexec.
CREATE FUNCTION bench.insert_users(source regclass) RETURNS text
    LANGUAGE sql
    AS $$
    SELECT format('INSERT INTO auth.users (%1$s) SELECT %1$s FROM %2$s', string_agg(quote_ident(attname), ', '), source)
      FROM pg_attribute
     WHERE attrelid = 'auth.users'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$$;

CREATE FUNCTION bench.insert_profiles(source regclass, target regclass DEFAULT 'public.profiles') RETURNS text
    LANGUAGE sql
    AS $$
    SELECT format('INSERT INTO %s (id, email, full_name, avatar_url, created_at) '
                  'SELECT id, email, raw_user_meta_data ->> ''full_name'', raw_user_meta_data ->> ''avatar_url'', created_at '
                  'FROM %s', target, source)
$$;

-- n signups, a commit each; with second_insert the application's row comes from a second INSERT beside the user's.
CREATE PROCEDURE bench.signups(n integer, second_insert boolean DEFAULT false)
    LANGUAGE plpgsql
    AS $$
DECLARE
    new_id uuid;
    new_email text;
    meta jsonb;
    stamp timestamptz;
BEGIN
    FOR i IN 1..n LOOP
        new_id := md5(random()::text)::uuid;     -- the same ids again after setseed()
        new_email := new_id || '@example.com';
        meta := '{"full_name": "New User", "avatar_url": "https://example.com/new.png"}';
        stamp := now();
        INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, confirmation_token, recovery_token,
                                email_change_token_new, email_change, raw_app_meta_data, raw_user_meta_data,
                                created_at, updated_at, is_sso_user, is_anonymous)
        VALUES ('00000000-0000-0000-0000-000000000000', new_id, 'authenticated', 'authenticated', new_email,
                '$2a$10$0123456789012345678901234567890123456789012345678901', '', '', '', '',
                '{"provider": "email", "providers": ["email"]}', meta, stamp, stamp, false, false);
        IF second_insert THEN
            INSERT INTO public.profiles (id, email, full_name, avatar_url, created_at)
            VALUES (new_id, new_email, meta ->> 'full_name', meta ->> 'avatar_url', stamp);
        END IF;
        COMMIT;
    END LOOP;
END
$$;

-- n logins, of the users numbered from 1, a commit each.
CREATE PROCEDURE bench.logins(n integer)
    LANGUAGE plpgsql
    AS $$
BEGIN
    FOR i IN 1..n LOOP
        UPDATE auth.users SET last_sign_in_at = now(), updated_at = now() WHERE id = md5(i::text)::uuid;
        COMMIT;
    END LOOP;
END
$$;

-- How many subtransactions of this transaction have written and are not rolled back; first = the number that the next
-- transaction would have had before this one. What is rolled back has the status "aborted" at once.
CREATE FUNCTION bench.live_subtransactions(first bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    live bigint := -1;
BEGIN
    LOOP
        IF pg_xact_status(first::text::xid8) = 'in progress' THEN
            live := live + 1;
        END IF;
        first := first + 1;
    END LOOP;
EXCEPTION WHEN invalid_parameter_value THEN     -- a number that nobody has had yet
    RETURN live;
END
$$;

-- ANALYZE before anything refers to auth.users: the foreign keys' checks keep the plan that they make first.
SELECT bench.make_users('auth.users', 1, :users);
VACUUM (FREEZE, ANALYZE) auth.users;
SELECT bench.insert_profiles('auth.users', target)
  FROM unnest(ARRAY['public.profiles', 'public.accounts', 'public.members']::regclass[]) AS target
 WHERE :'synced' \gexec
VACUUM (FREEZE, ANALYZE) public.profiles, public.accounts, public.members;

-- What a bulk insert inserts; of the second table 100 rows are refused by public.profiles.
CREATE TABLE bench.source (LIKE auth.users);
SELECT bench.make_users('bench.source', -:bulk, -1);
CREATE TABLE bench.source_bad AS
SELECT * FROM bench.source;
UPDATE bench.source_bad SET email = 'refused ' || email
 WHERE id IN (SELECT id FROM bench.source ORDER BY md5(email) LIMIT 100);
GRANT SELECT ON bench.source, bench.source_bad TO PUBLIC;
VACUUM (FULL, FREEZE, ANALYZE) bench.source, bench.source_bad;
