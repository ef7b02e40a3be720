-- case: a column of auth.sessions that stays empty was made NOT NULL
-- sqlstate: 23502
-- phase: login
-- expect-diagnosis: tag, not null, sessions
-- kind: schema
-- failing-statement: INSERT INTO auth.sessions (id, user_id, created_at, updated_at, aal) VALUES ('00000000-0000-4000-8000-000000005151', '00000000-0000-4000-8000-000000000515', now(), now(), 'aal1')

alter table auth.sessions alter column tag set not null;
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000515', 'authenticated', 'authenticated', 'known@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000515', '00000000-0000-4000-8000-000000000515', '{"sub": "00000000-0000-4000-8000-000000000515"}', 'email', now(), now());
