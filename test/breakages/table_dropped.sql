-- breakage: the target is dropped; a backup is restored later
-- quarantine: insert 42P01, update 42P01

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
DROP TABLE public.profiles;

-- @mend
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
);
INSERT INTO public.profiles SELECT * FROM public.profiles_backup WHERE id <> :'left';
