-- case: a foreign key sets a column to NULL that may not be
-- sqlstate: 23502
-- phase: delete
-- expect-diagnosis: set null, not null, author
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000551'

create table public.notes (id bigint generated always as identity primary key, author uuid not null references auth.users (id) on delete set null);
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000551', 'authenticated', 'authenticated', 'author@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000551', '00000000-0000-4000-8000-000000000551', '{"sub": "00000000-0000-4000-8000-000000000551"}', 'email', now(), now());
insert into public.notes (author) values ('00000000-0000-4000-8000-000000000551');
