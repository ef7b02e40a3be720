-- breakage: an expression of the mapping divides by what somebody wrote about themselves
-- quarantine: insert 22012
-- mapping: {"email": "email", "share": "100 / (raw_user_meta_data->>'parts')::int"}
-- columns: {"raw_user_meta_data": "{\"full_name\": \"Somebody New\", \"parts\": 0}"}
-- columns_mended: {"raw_user_meta_data": "{\"full_name\": \"Somebody New\", \"parts\": 5}"}

-- @setup
ALTER TABLE public.profiles ADD COLUMN share integer;

-- @mend as supabase_admin
UPDATE auth.users SET raw_user_meta_data = raw_user_meta_data || '{"parts": 4}' WHERE raw_user_meta_data->>'parts' = '0';
