-- breakage: the target's trigger deletes the auth user that is being made; no trace is left
-- quarantine: nothing
-- plain: nothing
-- signup: bare
-- order: both

-- @break as supabase_admin
CREATE FUNCTION public.expel() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	DELETE FROM auth.users WHERE id = NEW.id;
	RETURN NULL;
END $$;
ALTER FUNCTION public.expel() OWNER TO supabase_auth_admin;
CREATE TRIGGER expel AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.expel();
