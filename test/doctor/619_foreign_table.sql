-- case: the table is on another server, and nobody is mapped to a user there
-- sqlstate: 42704
-- phase: insert
-- expect-diagnosis: foreign, user mapping
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000619', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')
-- fix: none

create extension if not exists postgres_fdw with schema extensions;
create server elsewhere foreign data wrapper postgres_fdw options (host '/nowhere', dbname 'x');
create foreign table public.profiles (id uuid) server elsewhere;
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.profiles (id) values (new.id);
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
