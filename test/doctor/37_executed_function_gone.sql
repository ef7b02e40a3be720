-- case: EXECUTE of a constant calls a function that is not there
-- sqlstate: 42883
-- phase: insert
-- expect-diagnosis: send_welcome, does not exist
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000137','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  execute 'select public.send_welcome($1)' using new.id;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
