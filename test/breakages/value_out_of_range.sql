-- breakage: a number does not fit the column
-- quarantine: insert 22003
-- mapping: {"email": "email", "age": "(raw_user_meta_data->>'age')::bigint"}
-- columns: {"raw_user_meta_data": "{\"full_name\": \"Somebody New\", \"age\": 40000}"}
-- columns_mended: {"raw_user_meta_data": "{\"full_name\": \"Somebody New\", \"age\": 41}"}

-- @setup
ALTER TABLE public.profiles ADD COLUMN age smallint;

-- @mend
ALTER TABLE public.profiles ALTER COLUMN age TYPE integer;
