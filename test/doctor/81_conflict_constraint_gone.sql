-- case: ON CONFLICT ON CONSTRAINT names one that is not there
-- sqlstate: 42704
-- phase: insert
-- expect-diagnosis: profiles_pk, constraint, does not exist
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000181','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, name text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id) values (new.id) on conflict on constraint profiles_pk do nothing;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
