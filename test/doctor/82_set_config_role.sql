-- case: a SECURITY DEFINER function sets another role by set_config()
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: role, security definer
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000182','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, name text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform set_config('role', 'service_role', true);
  insert into public.profiles (id) values (new.id);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
