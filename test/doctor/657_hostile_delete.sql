-- case: a key with a hostile name blocks the deletion
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: drop table y, foreign key
-- kind: target
-- failing-statement: DELETE FROM users

create table public.y (id int);
create table public."x""; drop table y; --" ("i""; drop table y; --" uuid, constraint "k""; drop table y; --" foreign key ("i""; drop table y; --") references auth.users (id));
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000657', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
insert into public."x""; drop table y; --" values ('00000000-0000-4000-8000-000000000657');
