-- case: FOR EACH ROW was forgotten, so NEW is null
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: for each statement, null, for each row
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000107','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, email text);
create function public.make_profile() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, email) values (new.id, new.email);
  return new;
end
$fn$;
create trigger make_profile after insert on auth.users execute function public.make_profile();
