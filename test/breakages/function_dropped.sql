-- breakage: a function that the target's trigger calls is dropped
-- quarantine: insert 42883

-- @setup
CREATE FUNCTION public.slug(text) RETURNS text LANGUAGE sql AS $$ SELECT pg_catalog.lower($1) $$;
ALTER TABLE public.profiles ADD COLUMN slug text;
CREATE FUNCTION public.set_slug() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.slug := public.slug(NEW.full_name);
	RETURN NEW;
END $$;
CREATE TRIGGER set_slug BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.set_slug();

-- @break
DROP FUNCTION public.slug(text);

-- @mend
CREATE FUNCTION public.slug(text) RETURNS text LANGUAGE sql AS $$ SELECT pg_catalog.lower($1) $$;
