-- breakage: row-level security is forced on an owner without BYPASSRLS, and no policy lets anything pass
-- quarantine: insert 42501, update 42501
-- plain: insert 42501
-- plain_loses: the update, silently

-- @setup as supabase_admin
ALTER TABLE public.profiles OWNER TO breakage_owner;

-- @break
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.profiles FORCE ROW LEVEL SECURITY;

-- @mend
ALTER TABLE public.profiles NO FORCE ROW LEVEL SECURITY;
