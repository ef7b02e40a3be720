-- case: the trigger lets in who runs as postgres alone
-- sqlstate: P0001
-- phase: insert
-- expect-diagnosis: supabase_auth_admin, current_user
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000173','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')
-- fix: none

create function public.welcome() returns trigger language plpgsql set search_path = '' as $fn$
begin
  if current_user <> 'postgres' then
    raise exception 'only by the application';
  end if;
  return new;
end
$fn$;
create trigger on_welcome before insert on auth.users for each row execute function public.welcome();
