-- breakage: three of 10,000 users in one DELETE still have posts
-- quarantine: delete 23503 x 3
-- fk: none
-- on_delete: delete

-- @prepare
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com', '{"full_name": "Bulk"}', now()
FROM generate_series(1, 10000) i;

-- @break
CREATE TABLE public.post (author uuid CONSTRAINT post_author REFERENCES public.profiles (id));
CREATE INDEX ON public.post (author);
INSERT INTO public.post SELECT id FROM public.profiles WHERE email IN ('bulk1@example.com', 'bulk5000@example.com', 'bulk9999@example.com');

-- @delete
DELETE FROM "users" WHERE email LIKE 'bulk%' OR id = :'left';

-- @check
SELECT 'expected 3 rows left over, found ' || count(*) FROM public.profiles WHERE email LIKE 'bulk%' HAVING count(*) <> 3;

-- @mend
DELETE FROM public.post;
