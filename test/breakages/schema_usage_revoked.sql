-- breakage: the owner of the target loses USAGE on its schema
-- quarantine: insert 42501, update 42501, delete 42501
-- target: app.profiles
-- on_delete: delete

-- @prelude as supabase_admin
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO breakage_owner;
GRANT USAGE, CREATE ON SCHEMA app TO postgres;

-- @target
CREATE TABLE app.profiles (
	id uuid PRIMARY KEY,
	email text,
	full_name text,
	created_at timestamptz
);

-- @setup as supabase_admin
ALTER TABLE app.profiles OWNER TO breakage_owner;

-- @break as supabase_admin
REVOKE USAGE ON SCHEMA app FROM breakage_owner;

-- @mend as supabase_admin
GRANT USAGE ON SCHEMA app TO breakage_owner;
