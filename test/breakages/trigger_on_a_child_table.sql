-- breakage: the target's trigger makes a row in a child table, whose own trigger fails
-- quarantine: insert 23502

-- @break
CREATE TABLE public.settings (profile_id uuid REFERENCES public.profiles (id) ON DELETE CASCADE, theme text NOT NULL);
CREATE FUNCTION public.no_theme() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.theme := NULL;
	RETURN NEW;
END $$;
CREATE TRIGGER no_theme BEFORE INSERT ON public.settings FOR EACH ROW EXECUTE FUNCTION public.no_theme();
CREATE FUNCTION public.add_settings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.settings VALUES (NEW.id, 'dark');
	RETURN NULL;
END $$;
CREATE TRIGGER add_settings AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.add_settings();

-- @mend
DROP TRIGGER no_theme ON public.settings;
