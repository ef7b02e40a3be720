-- breakage: the wrong foreign key is DEFERRABLE INITIALLY IMMEDIATE
-- quarantine: insert 23503

-- @break
CREATE TABLE public.legacy_user (id uuid PRIMARY KEY);
ALTER TABLE public.profiles ADD CONSTRAINT profiles_legacy FOREIGN KEY (id) REFERENCES public.legacy_user (id)
	DEFERRABLE INITIALLY IMMEDIATE NOT VALID;

-- @mend
ALTER TABLE public.profiles DROP CONSTRAINT profiles_legacy;
