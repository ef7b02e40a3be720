-- case: a user inserted by hand has an empty phone, and the next one would collide
-- sqlstate: none
-- phase: login-scan
-- expect-diagnosis: phone, empty
-- kind: schema
-- scan-check: SELECT count(*) FROM auth.users WHERE phone = ''

INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000005271', 'authenticated', 'authenticated', 'first@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000005271', '00000000-0000-4000-8000-000000005271', '{"sub": "00000000-0000-4000-8000-000000005271"}', 'email', now(), now());
update auth.users set phone = '';
