-- breakage: the target is dropped and created again without its unique key
-- quarantine: insert -|42P10, update 42P10
-- plain: nothing

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
DROP TABLE public.profiles;
CREATE TABLE public.profiles (id uuid, email text, full_name text, created_at timestamptz);
INSERT INTO public.profiles SELECT * FROM public.profiles_backup;

-- @mend
DELETE FROM public.profiles WHERE id = :'left';
ALTER TABLE public.profiles ADD PRIMARY KEY (id);
ALTER TABLE public.profiles ADD FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE NOT VALID;
