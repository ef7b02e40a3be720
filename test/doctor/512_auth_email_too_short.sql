-- case: auth.users.email was narrowed
-- sqlstate: 22001
-- phase: insert
-- expect-diagnosis: email, too short
-- kind: schema
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000512', 'authenticated', 'authenticated', 'somebody.with.a.long.name@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

drop index auth.users_email_partial_key;
alter table auth.users drop column email cascade;
alter table auth.users add column email varchar(20);
create unique index users_email_partial_key on auth.users (email) where is_sso_user = false;
