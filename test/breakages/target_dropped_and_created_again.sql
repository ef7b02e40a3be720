-- breakage: the target is dropped and created again under its name by a migration; nothing breaks
-- quarantine: nothing
-- plain: nothing

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
DROP TABLE public.profiles;
CREATE TABLE public.profiles (
	full_name text,
	note text,
	email text,
	created_at timestamptz,
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE
);
INSERT INTO public.profiles (id, email, full_name, created_at)
	SELECT id, email, full_name, created_at FROM public.profiles_backup;
