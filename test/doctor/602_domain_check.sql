-- case: an empty name is none of a domain
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: domain, username
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000602', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create domain public.username as text check (length(value) between 3 and 20);
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, name public.username);
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.profiles (id, name) values (new.id, coalesce(new.raw_user_meta_data ->> 'name', ''));
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
