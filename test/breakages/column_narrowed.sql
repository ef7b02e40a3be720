-- breakage: a mapped column becomes too short; a value is never cut silently
-- quarantine: insert 22001, update 22001

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
ALTER TABLE public.profiles ALTER COLUMN email TYPE varchar(10) USING left(email, 10);

-- @mend
ALTER TABLE public.profiles ALTER COLUMN email TYPE text;
UPDATE public.profiles p SET email = b.email FROM public.profiles_backup b WHERE b.id = p.id;
