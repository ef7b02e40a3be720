-- breakage: the target passes to a role that who defined the mapping is no member of
-- quarantine: insert 42501, update 42501
-- plain: nothing

-- @break as supabase_admin
ALTER TABLE public.profiles OWNER TO breakage_stranger;
GRANT USAGE ON SCHEMA public TO breakage_stranger;

-- @mend as supabase_admin
ALTER TABLE public.profiles OWNER TO postgres;
