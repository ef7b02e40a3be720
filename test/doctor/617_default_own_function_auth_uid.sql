-- case: a default asks who is logged in by a function of the application's own
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: default, owner, null
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000617', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create function public.me() returns uuid language sql stable as $f$ select auth.uid() $f$;
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, owner uuid not null default public.me());
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
