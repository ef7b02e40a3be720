-- breakage: a migration that rewrites the target is in progress, so even planning waits
-- quarantine: insert 55P03, update 55P03, delete 55P03
-- fk: none
-- on_delete: delete

-- @hold
ALTER TABLE public.profiles ADD COLUMN made timestamptz DEFAULT clock_timestamp();
