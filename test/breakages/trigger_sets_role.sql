-- breakage: a trigger needs SET ROLE, which restricted operation forbids
-- quarantine: insert 42501

-- @break
CREATE FUNCTION public.act() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE postgres;
	RETURN NEW;
END $$;
CREATE TRIGGER act BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.act();

-- @mend
DROP TRIGGER act ON public.profiles;
