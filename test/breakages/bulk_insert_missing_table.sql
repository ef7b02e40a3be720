-- breakage: 5,000 users in one INSERT while the target is gone
-- quarantine: insert 42P01 x 5000, update 42P01
-- warm: insert 42P01

-- @break
ALTER TABLE public.profiles RENAME TO profiles_old;
CREATE TABLE public.profiles_backup AS TABLE public.profiles_old;
DROP TABLE public.profiles_old;

-- @insert
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com', '{"full_name": "Bulk"}', now()
FROM generate_series(1, 5000) i;

-- @mend
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
);
INSERT INTO public.profiles SELECT * FROM public.profiles_backup WHERE id <> :'left';
