-- case: a default calls a function that calls another without its schema
-- sqlstate: 42883
-- phase: insert
-- expect-diagnosis: uuid_generate_v4, default
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000630', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')
-- fix: none

create table public.profiles (id uuid primary key, ref uuid not null default extensions.uuid_generate_v4());
alter table public.profiles alter column ref drop default;
create function public.uuid_generate_v5x() returns uuid language sql as $f$ select gen_random_uuid() $f$;
create function public.new_ref() returns uuid language plpgsql as $f$ begin return uuid_generate_v4(); end $f$;
alter table public.profiles alter column ref set default public.new_ref();
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
