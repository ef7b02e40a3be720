-- breakage: there is no foreign key, and the target asks for deactivation
-- quarantine: nothing
-- plain: nothing
-- fk: none
-- on_delete: deactivate
-- orphans: kept

-- @setup
ALTER TABLE public.profiles ADD COLUMN is_active boolean NOT NULL DEFAULT true, ADD COLUMN deactivated_at timestamptz;

-- @finally
SELECT 'expected one deactivated row, found ' || count(*) FROM public.profiles
	WHERE id = :'left' AND NOT is_active HAVING count(*) <> 1;
SELECT 'deactivated: ' || id FROM public.profiles WHERE id <> :'left' AND NOT is_active;
