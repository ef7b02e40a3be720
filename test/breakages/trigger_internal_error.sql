-- breakage: a trigger raises XX000, which PL/pgSQL's own handlers would contain too but the class of internal errors is easily forgotten
-- quarantine: insert XX000

-- @break
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'cache lookup failed for type 4711' USING ERRCODE = 'XX000';
END $$;
CREATE TRIGGER refuse AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.refuse();

-- @mend
DROP TRIGGER refuse ON public.profiles;
