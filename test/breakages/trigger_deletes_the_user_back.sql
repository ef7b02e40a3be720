-- breakage: deleting a row of the target deletes the auth user, while that deletion is what deletes the row
-- quarantine: nothing
-- plain: nothing
-- on_delete: delete
-- order: both

-- @break as supabase_admin
CREATE FUNCTION public.delete_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	DELETE FROM auth.users WHERE id = OLD.id;
	RETURN OLD;
END $$;
ALTER FUNCTION public.delete_back() OWNER TO supabase_auth_admin;
CREATE TRIGGER delete_back BEFORE DELETE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.delete_back();
