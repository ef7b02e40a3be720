-- breakage: a rule that swallows inserts and updates is added to the target
-- quarantine: insert 42809, update 42809
-- plain: nothing
-- plain_loses: everything, silently

-- @break
CREATE RULE no_insert AS ON INSERT TO public.profiles DO INSTEAD NOTHING;
CREATE RULE no_update AS ON UPDATE TO public.profiles DO INSTEAD NOTHING;

-- @mend
DROP RULE no_insert ON public.profiles;
DROP RULE no_update ON public.profiles;
