-- breakage: seven of 1,000 users in one UPDATE violate a CHECK
-- quarantine: update 23514 x 7
-- warm: nothing
-- plain: update 23514

-- @prepare
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com', '{"full_name": "Bulk"}', now()
FROM generate_series(1, 1000) i;

-- @break
ALTER TABLE public.profiles ADD CONSTRAINT no_bad_addresses CHECK (email NOT LIKE 'bad%');

-- @update
UPDATE "users" SET email = CASE WHEN email ~ 'bulk[1-7]11@' THEN 'bad' ELSE 'good' END || email
WHERE email LIKE 'bulk%';

-- @check
SELECT 'expected 993 good rows, found ' || count(*) FROM public.profiles WHERE email LIKE 'goodbulk%' HAVING count(*) <> 993;

-- @mend
ALTER TABLE public.profiles DROP CONSTRAINT no_bad_addresses;
