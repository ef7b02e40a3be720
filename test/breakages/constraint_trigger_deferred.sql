-- breakage: a constraint trigger of the target, initially deferred, would raise at COMMIT
-- quarantine: insert P0001, update P0001

-- @break
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'not at the end either';
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON public.profiles
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.refuse();

-- @mend
DROP TRIGGER refuse ON public.profiles;
