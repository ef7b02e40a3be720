-- case: a column of auth.identities was renamed
-- sqlstate: 42703
-- phase: insert
-- expect-diagnosis: provider_id, missing
-- kind: schema
-- failing-statement: INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000005111', '00000000-0000-4000-8000-000000005111', '{"sub": "00000000-0000-4000-8000-000000005111"}', 'google', now(), now())

INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000005111', 'authenticated', 'authenticated', 'first@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000005111', '00000000-0000-4000-8000-000000005111', '{"sub": "00000000-0000-4000-8000-000000005111"}', 'email', now(), now());
alter table auth.identities rename column provider_id to external_id;
