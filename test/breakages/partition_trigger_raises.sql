-- breakage: a trigger on one partition raises
-- quarantine: insert P0001

-- @target
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
) PARTITION BY RANGE (id);
CREATE TABLE public.profiles_low PARTITION OF public.profiles
	FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000');
CREATE TABLE public.profiles_high PARTITION OF public.profiles DEFAULT;

-- @break
CREATE FUNCTION public.closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'this partition is closed';
END $$;
CREATE TRIGGER closed BEFORE INSERT ON public.profiles_high FOR EACH ROW EXECUTE FUNCTION public.closed();

-- @mend
DROP TRIGGER closed ON public.profiles_high;
