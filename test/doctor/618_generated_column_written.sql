-- case: a generated column is written
-- sqlstate: 428C9
-- phase: insert
-- expect-diagnosis: generated, display_name
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000618', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')
-- fix: none

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, first_name text, display_name text generated always as (coalesce(first_name, 'x')) stored);
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.profiles (id, display_name) values (new.id, 'x');
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
