-- breakage: a trigger calls a function that calls itself for ever
-- quarantine: insert 54001

-- @break
CREATE FUNCTION public.deeper(i int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RETURN public.deeper(i + 1);
END $$;
CREATE FUNCTION public.dive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.deeper(0);
	RETURN NEW;
END $$;
CREATE TRIGGER dive BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.dive();

-- @mend
DROP TRIGGER dive ON public.profiles;
