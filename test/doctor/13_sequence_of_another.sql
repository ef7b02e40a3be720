-- case: the trigger is an invoker's and may not use the sequence of a serial column
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: security definer, sequence, orders_number_seq
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000113','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.orders (number serial primary key, user_id uuid);
grant insert on public.orders to supabase_auth_admin;
create function public.first_order() returns trigger language plpgsql set search_path = '' as $fn$
begin
  insert into public.orders (user_id) values (new.id);
  return new;
end
$fn$;
create trigger first_order after insert on auth.users for each row execute function public.first_order();
