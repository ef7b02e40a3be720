-- breakage: who defined the mapping is no longer a member of the target's owner
-- quarantine: insert 42501, update 42501
-- plain: nothing

-- @setup as supabase_admin
ALTER TABLE public.profiles OWNER TO breakage_team;

-- @break as supabase_admin
REVOKE breakage_team FROM postgres;

-- @mend as supabase_admin
GRANT breakage_team TO postgres;
