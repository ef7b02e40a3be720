-- breakage: a column that the mapping reads is dropped from auth.users and comes back
-- quarantine: insert 42703, update 42703
-- mapping: {"email": "email", "nickname": "nickname"}
-- plain: insert 42703, update 42703
-- plain_warm: nothing

-- @prelude as supabase_admin
ALTER TABLE auth.users ADD COLUMN nickname text;

-- @setup
ALTER TABLE public.profiles ADD COLUMN nickname text;

-- @break as supabase_admin
ALTER TABLE auth.users DROP COLUMN nickname;

-- @mend as supabase_admin
ALTER TABLE auth.users ADD COLUMN nickname text;
