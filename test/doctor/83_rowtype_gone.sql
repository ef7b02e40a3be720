-- case: a variable is declared as a row of a table that is not there
-- sqlstate: 42P01
-- phase: insert
-- expect-diagnosis: gone, does not exist
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000183','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

set check_function_bodies = off;
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, name text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  v public.gone%rowtype;
begin
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
