-- case: the id of the user goes into a varchar that is too short
-- sqlstate: 22001
-- phase: insert
-- expect-diagnosis: varying(20), user_id
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000163','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (user_id varchar(20) primary key, email text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (user_id, email) values (new.id::text, new.email);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
