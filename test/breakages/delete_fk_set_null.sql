-- breakage: the foreign key sets the key to NULL after the deactivation
-- quarantine: nothing
-- plain: nothing
-- key: user_id
-- on_delete: deactivate
-- orphans: kept

-- @target
CREATE TABLE public.profiles (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id uuid UNIQUE REFERENCES auth.users (id) ON DELETE SET NULL,
	email text,
	full_name text,
	created_at timestamptz,
	is_active boolean NOT NULL DEFAULT true,
	deactivated_at timestamptz
);

-- @finally
SELECT 'expected one deactivated row without user, found ' || count(*) FROM public.profiles
	WHERE user_id IS NULL AND NOT is_active AND deactivated_at IS NOT NULL HAVING count(*) <> 1;
