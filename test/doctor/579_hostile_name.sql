-- case: a table that users are written to has a name that is made to do harm
-- sqlstate: 23503
-- phase: insert
-- expect-diagnosis: foreign key, members
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000579', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.members (id uuid primary key);
create table public.y (id int);
create table public."x""; drop table y; --" (id uuid primary key constraint "k""; drop table y; --" references public.members (id));
create function public.make_row() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public."x""; drop table y; --" (id) values (new.id);
  return new;
end
$body$;

create trigger make_row
  after insert on auth.users
  for each row execute function public.make_row();
