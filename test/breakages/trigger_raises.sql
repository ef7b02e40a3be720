-- breakage: a trigger of the target raises an exception
-- quarantine: insert P0001

-- @break
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'no more members, %', NEW.email;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.refuse();

-- @mend
DROP TRIGGER refuse ON public.profiles;
