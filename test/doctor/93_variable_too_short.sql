-- case: a variable is shorter than what users write into metadata
-- sqlstate: 22001
-- phase: insert
-- expect-diagnosis: character varying(10)
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000193','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{"name":"a name that is long"}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, name text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  v varchar(10);
begin
  v := new.raw_user_meta_data ->> 'name';
  insert into public.profiles (id, name) values (new.id, v);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
