-- breakage: as trigger_changes_the_user, but BEFORE the row is written, which PostgreSQL refuses for an update
-- quarantine: update 27000
-- plain: update 27000
-- plain_loses: what was changed during the signup
-- order: both

-- @break as supabase_admin
CREATE FUNCTION public.decorate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	UPDATE auth.users SET email = 'decorated+' || email WHERE id = NEW.id AND email NOT LIKE 'decorated%';
	RETURN NEW;
END $$;
ALTER FUNCTION public.decorate() OWNER TO supabase_auth_admin;
CREATE TRIGGER decorate BEFORE INSERT OR UPDATE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.decorate();

-- @mend
DROP TRIGGER decorate ON public.profiles;
