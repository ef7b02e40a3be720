-- case: what stands for a missing role is no label of the enum
-- sqlstate: 22P02
-- phase: insert
-- expect-diagnosis: user_role, enum
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000191','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create type public.user_role as enum ('admin','member'); create table public.profiles (id uuid primary key, role public.user_role);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, role) values (new.id, coalesce(new.raw_user_meta_data->>'role', 'user')::public.user_role);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
