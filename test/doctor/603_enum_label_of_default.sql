-- case: the role that everybody gets is no label of the enum
-- sqlstate: 22P02
-- phase: insert
-- expect-diagnosis: enum, member_role
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000603', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create type public.member_role as enum ('owner', 'member');
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, role public.member_role not null);
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.profiles (id, role) values (new.id, coalesce(new.raw_user_meta_data ->> 'role', 'user')::public.member_role);
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
