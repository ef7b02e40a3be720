-- case: auth.users was given a foreign key to a table of the application
-- sqlstate: 23503
-- phase: insert
-- expect-diagnosis: foreign key, people
-- kind: schema
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000505', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.people (id uuid primary key);
alter table auth.users add constraint users_are_people foreign key (id) references public.people (id);
