-- breakage: a trigger of the target refuses to delete a row
-- quarantine: delete P0001
-- fk: none
-- on_delete: delete

-- @break
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'nobody leaves';
END $$;
CREATE TRIGGER keep BEFORE DELETE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.keep();

-- @mend
DROP TRIGGER keep ON public.profiles;
