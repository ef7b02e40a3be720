-- case: a subquery for one plan finds two
-- sqlstate: 21000
-- phase: insert
-- expect-diagnosis: more than one row
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000169','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.plans (id int, name text); insert into public.plans values (1,'free'),(2,'free'); create table public.profiles (id uuid primary key, plan int);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, plan) values (new.id, (select id from public.plans where name = 'free'));
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
