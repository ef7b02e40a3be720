-- case: a deferred foreign key stops the deletion of users at COMMIT
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: foreign key, deferred, cascade
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000554'

create table public.settings (owner uuid primary key references auth.users (id) deferrable initially deferred, theme text);
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000554', 'authenticated', 'authenticated', 'owner@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000554', '00000000-0000-4000-8000-000000000554', '{"sub": "00000000-0000-4000-8000-000000000554"}', 'email', now(), now());
insert into public.settings values ('00000000-0000-4000-8000-000000000554');
