-- case: a user inserted by hand has no instance_id and is not found
-- sqlstate: none
-- phase: login-scan
-- expect-diagnosis: instance_id, login
-- kind: schema
-- scan-check: SELECT count(*) FROM auth.users WHERE instance_id IS NULL

INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000524', 'authenticated', 'authenticated', 'by.hand@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000524', '00000000-0000-4000-8000-000000000524', '{"sub": "00000000-0000-4000-8000-000000000524"}', 'email', now(), now());
update auth.users set instance_id = null;
