-- breakage: a trigger of the target alters the healthy target while it is being synced
-- quarantine: nothing
-- plain: nothing
-- order: both

-- @break
CREATE FUNCTION public.extend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE public.members ADD COLUMN %I text', 'c' || replace(NEW.id::text, '-', ''));
	RETURN NULL;
END $$;
CREATE TRIGGER extend AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.extend();
