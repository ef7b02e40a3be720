-- breakage: a mapped column is dropped and added back from a backup
-- quarantine: insert 42703, update 42703
-- plain: insert 42703, update 42703

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
ALTER TABLE public.profiles DROP COLUMN full_name;

-- @mend
ALTER TABLE public.profiles ADD COLUMN full_name text;
UPDATE public.profiles p SET full_name = b.full_name FROM public.profiles_backup b WHERE b.id = p.id;
