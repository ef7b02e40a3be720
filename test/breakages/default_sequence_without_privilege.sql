-- breakage: a column default takes numbers from a sequence the owner may not use
-- quarantine: insert 42501

-- @break as supabase_admin
CREATE SEQUENCE public.member_number;
REVOKE ALL ON SEQUENCE public.member_number FROM postgres, anon, authenticated, service_role;
ALTER TABLE public.profiles ADD COLUMN number bigint;
ALTER TABLE public.profiles ALTER COLUMN number SET DEFAULT nextval('public.member_number');

-- @mend as supabase_admin
GRANT USAGE ON SEQUENCE public.member_number TO postgres;
