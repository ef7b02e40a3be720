-- case: a rule on auth.users swallows what the auth server inserts
-- sqlstate: 0A000
-- phase: insert
-- expect-diagnosis: rule, keep_out
-- kind: schema
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000513', 'authenticated', 'authenticated', 'a@blocked.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '') RETURNING id

create rule keep_out as on insert to auth.users where new.email like '%@blocked.example' do instead nothing;
