-- breakage: a trigger creates a temporary table, which restricted operation forbids
-- quarantine: insert 42501
-- plain: nothing

-- @break
CREATE FUNCTION public.collect() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMPORARY TABLE IF NOT EXISTS seen (id uuid) ON COMMIT DROP;
	INSERT INTO seen VALUES (NEW.id);
	RETURN NEW;
END $$;
CREATE TRIGGER collect BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.collect();

-- @mend
DROP TRIGGER collect ON public.profiles;
