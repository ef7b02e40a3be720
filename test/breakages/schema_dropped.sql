-- breakage: the schema of the target is dropped with everything in it
-- quarantine: insert 42P01|3F000, update 42P01|3F000
-- target: app.profiles

-- @target
CREATE SCHEMA app;
CREATE TABLE app.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
);

-- @break
CREATE TABLE public.profiles_backup AS TABLE app.profiles;
DROP SCHEMA app CASCADE;

-- @mend
CREATE SCHEMA app;
CREATE TABLE app.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text,
	created_at timestamptz
);
INSERT INTO app.profiles SELECT * FROM public.profiles_backup WHERE id <> :'left';
