-- case: the key of the application's table is a bigint
-- sqlstate: 42804
-- phase: insert
-- expect-diagnosis: bigint, uuid, type
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000127','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.customers (id bigint primary key, email text);
create function public.add_customer() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.customers (id, email) values (new.id, new.email);
  return new;
end
$fn$;
create trigger add_customer after insert on auth.users for each row execute function public.add_customer();
