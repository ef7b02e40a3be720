-- case: the trigger refuses whose request carries no claims
-- sqlstate: P0001
-- phase: insert
-- expect-diagnosis: request.jwt.claims, null
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000174','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')
-- fix: none

create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  if coalesce(current_setting('request.jwt.claims', true)::jsonb ->> 'role', '') <> 'service_role' then
    raise exception 'service role only';
  end if;
  return new;
end
$fn$;
create trigger on_welcome before insert on auth.users for each row execute function public.welcome();
