-- breakage: the domain of a column gets a constraint
-- quarantine: insert 23514, update 23514

-- @target
CREATE DOMAIN public.address AS text;
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email public.address,
	full_name text,
	created_at timestamptz
);

-- @break
ALTER DOMAIN public.address ADD CONSTRAINT only_staff CHECK (VALUE LIKE '%@staff.example') NOT VALID;

-- @mend
ALTER DOMAIN public.address DROP CONSTRAINT only_staff;
