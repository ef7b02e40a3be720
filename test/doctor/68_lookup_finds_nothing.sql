-- case: a default role is looked up that nobody has made
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: role_id, not null, roles
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000168','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.roles (id int primary key, name text);
create table public.profiles (id uuid primary key, role_id int not null);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  r int;
begin
  select id into r from public.roles where name = 'member';
  insert into public.profiles (id, role_id) values (new.id, r);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
