-- breakage: the form sends an empty string where the mapping casts to integer; the mapping is mended
-- quarantine: insert 22P02
-- mapping: {"email": "email", "age": "(raw_user_meta_data->>'age')::int"}
-- mapping_after: {"email": "email", "age": "nullif(raw_user_meta_data->>'age', '')::int"}
-- columns: {"raw_user_meta_data": "{\"full_name\": \"Somebody New\", \"age\": \"\"}"}
-- columns_mended: {"raw_user_meta_data": "{\"full_name\": \"Somebody New\", \"age\": \"41\"}"}

-- @setup
ALTER TABLE public.profiles ADD COLUMN age integer;

-- @mend
SELECT FROM invite_sync.set_target('public.profiles',
	mapping => '{"email": "email", "age": "nullif(raw_user_meta_data->>''age'', '''')::int"}');

-- @mend plain
