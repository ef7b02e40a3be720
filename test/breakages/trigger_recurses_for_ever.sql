-- breakage: the target's trigger updates the same user in auth.users on every update, without end
-- quarantine: whatever
-- plain: insert 54001, update 54001
-- order: both

-- @break as supabase_admin
CREATE FUNCTION public.swing() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	UPDATE auth.users SET email = CASE WHEN email LIKE 'x%' THEN substr(email, 2) ELSE 'x' || email END WHERE id = NEW.id;
	RETURN NULL;
END $$;
ALTER FUNCTION public.swing() OWNER TO supabase_auth_admin;
CREATE TRIGGER swing AFTER INSERT OR UPDATE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.swing();

-- @mend
DROP TRIGGER swing ON public.profiles;
