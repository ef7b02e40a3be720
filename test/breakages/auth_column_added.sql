-- breakage: the auth server's migration adds a column to auth.users under an open connection; nothing breaks
-- quarantine: nothing
-- plain: nothing

-- @break as supabase_admin
ALTER TABLE auth.users ADD COLUMN something_new text DEFAULT 'new';
