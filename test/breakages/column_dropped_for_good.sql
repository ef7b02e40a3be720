-- breakage: a mapped column is dropped; the mapping is mended, not the table
-- quarantine: insert 42703, update 42703
-- compare: email, created_at
-- plain: skip the plain trigger has no mapping to mend

-- @break
ALTER TABLE public.profiles DROP COLUMN full_name;

-- @mend
SELECT FROM invite_sync.set_target('public.profiles',
	mapping => '{"email": "email", "created_at": "created_at"}');
