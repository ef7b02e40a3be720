-- breakage: a deferred foreign key has the name of a constraint of another table that cannot be deferred; nothing breaks
-- quarantine: nothing
-- plain: nothing

-- @break
CREATE TABLE public.region (name text CONSTRAINT region_known PRIMARY KEY);
INSERT INTO public.region VALUES ('eu');
CREATE TABLE public.office (region text CONSTRAINT region_known_too REFERENCES public.region);
ALTER TABLE public.office RENAME CONSTRAINT region_known_too TO profiles_region;
ALTER TABLE public.profiles ADD COLUMN region text DEFAULT 'eu'
	CONSTRAINT profiles_region REFERENCES public.region DEFERRABLE INITIALLY DEFERRED;
