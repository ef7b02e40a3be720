-- case: a user was inserted by hand, confirmed, and without an identity
-- sqlstate: none
-- phase: login-scan
-- expect-diagnosis: auth.identities, without
-- kind: schema
-- scan-check: SELECT count(*) FROM auth.users AS u WHERE NOT EXISTS (SELECT FROM auth.identities AS i WHERE i.user_id = u.id)

INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000525', 'authenticated', 'authenticated', 'by.hand@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
update auth.users set email_confirmed_at = now();
