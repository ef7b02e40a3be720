-- case: two users have the same address but for upper and lower case
-- sqlstate: none
-- phase: login-scan
-- expect-diagnosis: duplicate email, case
-- kind: schema
-- scan-check: SELECT count(*) - count(DISTINCT lower(email)) FROM auth.users
-- fix: none
-- note: which of the two stays is for a person to say

INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000529', 'authenticated', 'authenticated', 'same@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000529', '00000000-0000-4000-8000-000000000529', '{"sub": "00000000-0000-4000-8000-000000000529"}', 'email', now(), now());
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000005291', 'authenticated', 'authenticated', 'Same@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000005291', '00000000-0000-4000-8000-000000005291', '{"sub": "00000000-0000-4000-8000-000000005291"}', 'email', now(), now());
