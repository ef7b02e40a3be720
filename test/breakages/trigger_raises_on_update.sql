-- breakage: a trigger of the target raises on updates only, with a SQLSTATE of its own
-- quarantine: update AP001

-- @break
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'addresses are frozen' USING ERRCODE = 'AP001';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.refuse();

-- @mend
ALTER TABLE public.profiles DISABLE TRIGGER refuse;
