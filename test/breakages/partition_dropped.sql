-- breakage: the default partition is dropped, and one with another column order attached later
-- quarantine: insert 23514

-- @target
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
) PARTITION BY LIST (id);
CREATE TABLE public.profiles_rest PARTITION OF public.profiles DEFAULT;

-- @break
CREATE TABLE public.profiles_backup AS TABLE public.profiles;
DROP TABLE public.profiles_rest;
CREATE TABLE public.profiles_known PARTITION OF public.profiles
	FOR VALUES IN (:'kept', :'changed', :'left', :'early');
INSERT INTO public.profiles SELECT * FROM public.profiles_backup;

-- @mend
CREATE TABLE public.profiles_other (created_at timestamptz, full_name text, email text, id uuid NOT NULL);
ALTER TABLE public.profiles ATTACH PARTITION public.profiles_other DEFAULT;
