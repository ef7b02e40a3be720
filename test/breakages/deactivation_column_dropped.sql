-- breakage: the column that deactivation writes is dropped
-- quarantine: delete 42703
-- fk: none
-- on_delete: deactivate
-- orphans: kept

-- @setup
ALTER TABLE public.profiles ADD COLUMN is_active boolean NOT NULL DEFAULT true, ADD COLUMN deactivated_at timestamptz;

-- @break
ALTER TABLE public.profiles DROP COLUMN is_active;

-- @mend
ALTER TABLE public.profiles ADD COLUMN is_active boolean NOT NULL DEFAULT true;

-- @finally
SELECT 'not deactivated' FROM public.profiles WHERE id = :'left' AND is_active;
SELECT 'row has gone' WHERE NOT EXISTS (SELECT FROM public.profiles WHERE id = :'left');
