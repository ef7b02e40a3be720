-- breakage: there is no foreign key, and the target keeps its rows
-- quarantine: nothing
-- plain: nothing
-- fk: none
-- orphans: kept

-- @finally
SELECT 'row has gone' WHERE NOT EXISTS (SELECT FROM public.profiles WHERE id = :'left');
