-- breakage: the owner revoked UPDATE from itself; signups go on
-- quarantine: update 42501
-- order: both

-- @break
REVOKE UPDATE ON public.profiles FROM postgres, anon, authenticated, service_role;

-- @mend
GRANT UPDATE ON public.profiles TO postgres;
