-- breakage: a mapped column becomes an integer
-- quarantine: insert 42804|22P02|42846, update 42804|22P02|42846
-- plain: insert 42804, update 42804

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
ALTER TABLE public.profiles ALTER COLUMN email TYPE integer USING 0;

-- @mend
ALTER TABLE public.profiles ALTER COLUMN email TYPE text;
UPDATE public.profiles p SET email = b.email FROM public.profiles_backup b WHERE b.id = p.id;
