-- breakage: of 200 users in one INSERT, three want a name that another of them has; each could be written alone
-- quarantine: insert 23505 x 3
-- warm: nothing
-- plain: insert 23505

-- @break
CREATE UNIQUE INDEX profiles_name ON public.profiles (full_name) WHERE full_name LIKE 'bulk%';

-- @insert
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com',
	jsonb_build_object('full_name', 'bulk' || CASE WHEN i IN (50, 120, 199) THEN i - 7 ELSE i END), now()
FROM generate_series(1, 200) i;

-- @check
SELECT 'expected 197 rows, found ' || count(*) FROM public.profiles WHERE full_name LIKE 'bulk%' HAVING count(*) <> 197;

-- @mend
DROP INDEX public.profiles_name;
