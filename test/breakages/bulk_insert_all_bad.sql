-- breakage: all of 1,500 users in one INSERT violate NOT NULL: more than can be tried one by one
-- quarantine: insert 23502 x 1500
-- warm: insert 23502

-- @break
ALTER TABLE public.profiles ADD COLUMN plan text NOT NULL DEFAULT 'free';
ALTER TABLE public.profiles ALTER COLUMN plan DROP DEFAULT;

-- @insert
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com', '{"full_name": "Bulk"}', now()
FROM generate_series(1, 1500) i;

-- @mend
ALTER TABLE public.profiles ALTER COLUMN plan SET DEFAULT 'free';
-- retry_quarantine() takes at most 1,000 at a time by default
