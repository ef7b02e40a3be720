-- case: a variable has the name of a column
-- sqlstate: 42702
-- phase: insert
-- expect-diagnosis: ambiguous, email
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000109','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.people (id uuid primary key, email text);
create function public.find_person() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  email text := new.email;
begin
  update public.people set id = new.id where email = email;
  return new;
end
$fn$;
create trigger find_person after insert on auth.users for each row execute function public.find_person();
