-- breakage: the auth server's migration changes the type of a mapped column of auth.users under an open connection; nothing breaks
-- quarantine: nothing
-- plain: skip the WHEN of its trigger holds on to the column

-- @break as supabase_admin
ALTER TABLE auth.users ALTER COLUMN email TYPE text;
