-- breakage: a column in the middle of auth.users that no mapping reads is dropped under an open connection; nothing breaks, and no secret moves into a target
-- quarantine: nothing
-- plain: nothing
-- without: email_change_token_current

-- @break as supabase_admin
ALTER TABLE auth.users DROP COLUMN email_change_token_current CASCADE;

-- @check
SELECT 'a secret in profiles: ' || p.id FROM public.profiles p WHERE p::text LIKE '%$2a$%';
SELECT 'a secret in members: ' || m.user_id FROM public.members m WHERE m::text LIKE '%$2a$%';
