-- case: metadata is read as a row of the table
-- sqlstate: 22P02
-- phase: insert
-- expect-diagnosis: profiles, raw_user_meta_data
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000161','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{"age":""}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, age int);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  r public.profiles;
begin
  r := jsonb_populate_record(null::public.profiles, new.raw_user_meta_data);
  r.id := new.id;
  insert into public.profiles values (r.*);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
