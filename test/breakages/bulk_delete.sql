-- breakage: 10,000 users in one DELETE, with a foreign key that does not cascade
-- quarantine: nothing
-- plain: nothing
-- fk: REFERENCES auth.users (id)
-- on_delete: delete

-- @prepare
INSERT INTO "users" (id, email, raw_user_meta_data, created_at)
SELECT gen_random_uuid(), 'bulk' || i || '@example.com', '{"full_name": "Bulk"}', now()
FROM generate_series(1, 10000) i;

-- @delete
DELETE FROM "users" WHERE email LIKE 'bulk%' OR id = :'left';
