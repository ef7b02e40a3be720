-- breakage: five of 1,000 users in one INSERT are bad, and the rows do not fit into work_mem
-- quarantine: insert 23514 x 5
-- warm: nothing
-- plain: insert 23514

-- @break
ALTER TABLE public.profiles ADD CONSTRAINT no_bad_names CHECK (full_name <> 'bad');

-- @auth
SET work_mem = '64kB';

-- @insert
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com',
	jsonb_build_object('full_name', CASE WHEN i % 200 = 17 THEN 'bad' ELSE 'good' END, 'bio', repeat(md5(i::text), 20)), now()
FROM generate_series(1, 1000) i;

-- @check
SELECT 'expected 995 good rows, found ' || count(*) FROM public.profiles WHERE full_name = 'good' HAVING count(*) <> 995;

-- @mend
ALTER TABLE public.profiles DROP CONSTRAINT no_bad_names;
