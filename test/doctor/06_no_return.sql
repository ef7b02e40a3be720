-- case: the trigger function returns nothing
-- sqlstate: 2F005
-- phase: insert
-- expect-diagnosis: return, end
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000106','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.seen (id uuid);
create function public.see() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.seen values (new.id);
end
$fn$;
create trigger see after insert on auth.users for each row execute function public.see();
