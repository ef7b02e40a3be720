-- case: row level security of the table is forced, and its owner has no policy
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: row level security, forced, profiles
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000572', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

select 'create role doctor_app nologin' where not exists (select from pg_roles where rolname = 'doctor_app') \gexec
grant usage on schema public, auth to doctor_app;
grant references on auth.users to doctor_app;
create table public.profiles (id uuid primary key, email text);
alter table public.profiles owner to doctor_app;
alter table public.profiles enable row level security, force row level security;
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.profiles (id, email) values (new.id, new.email);
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
alter function public.make_profile() owner to doctor_app;
