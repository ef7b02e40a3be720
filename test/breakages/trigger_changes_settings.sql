-- breakage: a trigger changes settings of the session; they do not outlive it
-- quarantine: nothing
-- plain: skip the plain trigger lets them out, and what follows depends on it
-- order: both

-- @break
CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('search_path', 'nowhere', false);
	PERFORM set_config('statement_timeout', '1', false);
	PERFORM set_config('default_transaction_read_only', 'on', false);
	IF TG_OP = 'INSERT' THEN
		PERFORM set_config('transaction_read_only', 'on', true);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER poison AFTER INSERT OR UPDATE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.poison();
