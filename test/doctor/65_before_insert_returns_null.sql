-- case: a BEFORE INSERT trigger returns null for some users
-- sqlstate: none
-- phase: insert
-- expect-diagnosis: null, silently
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000165','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')
-- rows-left: select 1 - count(*) from auth.users where id = '00000000-0000-4000-8000-000000000165'
-- fix: none

create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  if new.email like '%@corp.example' then
    return new;
  end if;
  return null;
end
$fn$;
create trigger on_welcome before insert on auth.users for each row execute function public.welcome();
