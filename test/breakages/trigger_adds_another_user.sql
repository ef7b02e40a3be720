-- breakage: the target's trigger makes another auth user; both arrive everywhere
-- quarantine: nothing
-- plain: nothing
-- order: both

-- @break as supabase_admin
CREATE FUNCTION public.shadow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	IF NEW.email NOT LIKE 'shadow+%' THEN
		INSERT INTO auth.users (id, email, raw_user_meta_data, created_at)
		VALUES (gen_random_uuid(), 'shadow+' || NEW.email, '{"full_name": "Shadow"}', now());
	END IF;
	RETURN NULL;
END $$;
ALTER FUNCTION public.shadow() OWNER TO supabase_auth_admin;
CREATE TRIGGER shadow AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.shadow();
