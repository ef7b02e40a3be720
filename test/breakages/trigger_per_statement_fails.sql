-- breakage: an AFTER STATEMENT trigger with a transition table names a column that is gone
-- quarantine: insert 42703, update -|42703
-- plain: insert 42703

-- @break
CREATE FUNCTION public.count_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM r.referred_by FROM arrived r;
	RETURN NULL;
END $$;
CREATE TRIGGER count_in AFTER INSERT ON public.profiles REFERENCING NEW TABLE AS arrived
	FOR EACH STATEMENT EXECUTE FUNCTION public.count_in();

-- @mend
ALTER TABLE public.profiles ADD COLUMN referred_by uuid;
