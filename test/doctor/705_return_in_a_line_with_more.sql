-- case: a BEFORE INSERT trigger returns OLD, in one line with another statement
-- sqlstate: none
-- phase: insert
-- expect-diagnosis: before, null, insert
-- rows-left: SELECT (count(*) = 0)::integer FROM auth.users
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000',gen_random_uuid(),'authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create function public.lower_address() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  new.email := lower(new.email); return old;
end
$fn$;
create trigger on_lower_address before insert on auth.users for each row execute function public.lower_address();
