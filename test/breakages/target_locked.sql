-- breakage: somebody holds an ACCESS EXCLUSIVE lock on the target
-- quarantine: insert 55P03, update 55P03, delete 55P03
-- fk: none
-- on_delete: delete

-- @hold
LOCK TABLE public.profiles IN ACCESS EXCLUSIVE MODE;
