-- breakage: a trigger refuses all of 3,000 rows that one DELETE would take along
-- quarantine: delete P0001 x 3000
-- fk: none
-- on_delete: delete

-- @prepare
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com', '{"full_name": "Bulk"}', now()
FROM generate_series(1, 3000) i;

-- @break
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'nobody leaves';
END $$;
CREATE TRIGGER keep BEFORE DELETE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.keep();

-- @delete
DELETE FROM "users" WHERE email LIKE 'bulk%';

-- @mend
DROP TRIGGER keep ON public.profiles;
