-- case: the trigger calls another trigger function as if it were an ordinary one
-- sqlstate: 0A000
-- phase: insert
-- expect-diagnosis: trigger functions, sync_profile
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000144','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create function public.sync_profile() returns trigger language plpgsql as $$ begin return new; end $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.sync_profile();
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
