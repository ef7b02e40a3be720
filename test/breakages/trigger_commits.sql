-- breakage: a trigger tries to COMMIT
-- quarantine: insert 2D000

-- @break
CREATE FUNCTION public.finish() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	COMMIT;
	RETURN NEW;
END $$;
CREATE TRIGGER finish AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.finish();

-- @mend
DROP TRIGGER finish ON public.profiles;
