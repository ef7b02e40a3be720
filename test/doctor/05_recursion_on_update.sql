-- case: an AFTER UPDATE trigger on auth.users updates auth.users
-- sqlstate: 54001
-- phase: update
-- expect-diagnosis: recursion, auth.users, pg_trigger_depth
-- failing-statement: UPDATE auth.users SET last_sign_in_at = now() WHERE id = '00000000-0000-4000-8000-000000000205'
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000205','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');

create function public.mark_login() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update auth.users set raw_app_meta_data = raw_app_meta_data || '{"seen": true}' where id = new.id;
  return new;
end
$fn$;
create trigger mark_login after update on auth.users for each row execute function public.mark_login();
