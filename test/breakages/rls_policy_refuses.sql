-- breakage: a policy on the forced table lets rows be read but only some written
-- quarantine: insert 42501, update 42501

-- @setup as supabase_admin
ALTER TABLE public.profiles OWNER TO breakage_owner;

-- @break
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.profiles FORCE ROW LEVEL SECURITY;
CREATE POLICY look ON public.profiles FOR SELECT USING (true);
CREATE POLICY staff ON public.profiles FOR ALL USING (true) WITH CHECK (email LIKE '%@staff.example');

-- @mend
DROP POLICY staff ON public.profiles;
CREATE POLICY everybody ON public.profiles FOR ALL USING (true);
