-- case: a default belongs into no partition of the list
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: partition, profiles
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000621', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.profiles (id uuid not null, region text not null default 'xx') partition by list (region);
create table public.profiles_eu partition of public.profiles for values in ('eu');
create table public.profiles_us partition of public.profiles for values in ('us');
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
