-- breakage: row-level security is enabled without any policy; the owner is not subject to it, nothing breaks
-- quarantine: nothing
-- plain: nothing

-- @setup as supabase_admin
ALTER TABLE public.profiles OWNER TO breakage_owner;

-- @break
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
