-- case: two addresses begin the same, and the column is citext and unique
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: unique, username
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000610', 'authenticated', 'authenticated', 'anna@two.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create extension if not exists citext with schema extensions;
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, username extensions.citext unique);
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = public, extensions as $body$
begin
  insert into public.profiles (id, username) values (new.id, split_part(new.email, '@', 1));
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000609', 'authenticated', 'authenticated', 'Anna@one.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
