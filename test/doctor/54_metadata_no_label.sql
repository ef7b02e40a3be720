-- case: metadata is cast to an enum that has no such label
-- sqlstate: 22P02
-- phase: insert
-- expect-diagnosis: role, member_role
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000154','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{"role":"Member"}',now(),now(),'','','','')

create type public.member_role as enum ('admin','member'); create table public.profiles (id uuid primary key, role public.member_role);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, role) values (new.id, (new.raw_user_meta_data ->> 'role')::public.member_role);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
