-- breakage: the target is replaced by a view of the same name
-- quarantine: insert 42809, update 42809
-- plain: insert 55000, update 55000

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
DROP TABLE public.profiles;
CREATE VIEW public.profiles AS SELECT DISTINCT * FROM public.profiles_backup;

-- @mend
DROP VIEW public.profiles;
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
);
INSERT INTO public.profiles SELECT * FROM public.profiles_backup WHERE id <> :'left';
