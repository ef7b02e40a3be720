-- case: who invited others cannot be deleted, because of a key within the table
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: foreign key, invited_by
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000552'

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, invited_by uuid references public.profiles (id));
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000552', 'authenticated', 'authenticated', 'host@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000552', '00000000-0000-4000-8000-000000000552', '{"sub": "00000000-0000-4000-8000-000000000552"}', 'email', now(), now());
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000005521', 'authenticated', 'authenticated', 'guest@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000005521', '00000000-0000-4000-8000-000000005521', '{"sub": "00000000-0000-4000-8000-000000005521"}', 'email', now(), now());
insert into public.profiles values ('00000000-0000-4000-8000-000000000552', null), ('00000000-0000-4000-8000-000000005521', '00000000-0000-4000-8000-000000000552');
