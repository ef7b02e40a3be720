-- case: a published table without a primary key goes with its users
-- sqlstate: 55000
-- phase: delete
-- expect-diagnosis: replica identity, publication, devices
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000555'

create table public.devices (owner uuid references auth.users (id) on delete cascade, token text);
create publication everything for table public.devices;
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000555', 'authenticated', 'authenticated', 'owner@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000555', '00000000-0000-4000-8000-000000000555', '{"sub": "00000000-0000-4000-8000-000000000555"}', 'email', now(), now());
insert into public.devices values ('00000000-0000-4000-8000-000000000555', 't');
