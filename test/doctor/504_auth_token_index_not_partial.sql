-- case: the unique index on confirmation_token was made again without its condition, and tokens are empty as a rule
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: unique, confirmation_token
-- kind: schema
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000504', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

drop index auth.confirmation_token_idx;
create unique index confirmation_token_idx on auth.users (confirmation_token);
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000005041', 'authenticated', 'authenticated', 'first@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000005041', '00000000-0000-4000-8000-000000005041', '{"sub": "00000000-0000-4000-8000-000000005041"}', 'email', now(), now());
