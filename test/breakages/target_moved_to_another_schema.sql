-- breakage: the target is moved to another schema; the registry follows, nothing breaks
-- quarantine: nothing
-- plain: insert 42P01, update 42P01
-- target_after: app.profiles

-- @break
CREATE SCHEMA app;
ALTER TABLE public.profiles SET SCHEMA app;

-- @mend plain
ALTER TABLE app.profiles SET SCHEMA public;
