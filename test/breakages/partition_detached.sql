-- breakage: the partition that new rows belong to is detached
-- quarantine: insert 23514

-- @target
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
) PARTITION BY RANGE (id);
CREATE TABLE public.profiles_low PARTITION OF public.profiles
	FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000');
CREATE TABLE public.profiles_high PARTITION OF public.profiles
	FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE);

-- @break
ALTER TABLE public.profiles DETACH PARTITION public.profiles_high;

-- @mend
ALTER TABLE public.profiles ATTACH PARTITION public.profiles_high
	FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE);
