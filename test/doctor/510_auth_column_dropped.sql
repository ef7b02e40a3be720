-- case: a column that the auth server writes was dropped
-- sqlstate: 42703
-- phase: insert
-- expect-diagnosis: is_anonymous, missing
-- kind: schema
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new, is_anonymous) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000510', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '', false)

alter table auth.users drop column is_anonymous;
