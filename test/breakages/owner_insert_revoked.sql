-- breakage: the owner revoked INSERT from itself
-- quarantine: insert 42501, update -|42501
-- plain: insert 42501

-- @break
-- postgres is a member of the others
REVOKE INSERT ON public.profiles FROM postgres, anon, authenticated, service_role;

-- @mend
GRANT INSERT ON public.profiles TO postgres;
