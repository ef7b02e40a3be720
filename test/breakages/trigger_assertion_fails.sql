-- breakage: an ASSERT in a trigger fails, which WHEN OTHERS does not catch
-- quarantine: insert P0004

-- @break
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	ASSERT NEW.full_name IS NULL, 'names are not kept here';
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.refuse();

-- @mend
DROP TRIGGER refuse ON public.profiles;
