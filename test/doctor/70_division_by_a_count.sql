-- case: the number of rows of an empty table is divided by
-- sqlstate: 22012
-- phase: insert
-- expect-diagnosis: division by zero
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000170','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.servers (i int); create table public.profiles (id uuid primary key, shard int);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  n int;
begin
  select count(*) into n from public.servers;
  insert into public.profiles (id, shard) values (new.id, abs(hashtext(new.id::text)) % n);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
