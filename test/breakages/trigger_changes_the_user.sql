-- breakage: the target's trigger updates the same user in auth.users; the last state arrives everywhere
-- quarantine: nothing
-- plain: nothing
-- order: both

-- @break as supabase_admin
CREATE FUNCTION public.decorate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	UPDATE auth.users SET email = 'decorated+' || email WHERE id = NEW.id AND email NOT LIKE 'decorated%';
	RETURN NULL;
END $$;
ALTER FUNCTION public.decorate() OWNER TO supabase_auth_admin;
CREATE TRIGGER decorate AFTER INSERT OR UPDATE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.decorate();
