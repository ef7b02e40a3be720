-- case: a table below profiles keeps users from being deleted
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: foreign key, cascade, posts
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000550'

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text);
create table public.posts (id bigint generated always as identity primary key, author uuid not null references public.profiles (id), body text);
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000550', 'authenticated', 'authenticated', 'author@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000550', '00000000-0000-4000-8000-000000000550', '{"sub": "00000000-0000-4000-8000-000000000550"}', 'email', now(), now());
insert into public.profiles values ('00000000-0000-4000-8000-000000000550');
insert into public.posts (author) values ('00000000-0000-4000-8000-000000000550');
