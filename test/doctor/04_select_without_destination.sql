-- case: a SELECT in PL/pgSQL calls a function and throws its result away
-- sqlstate: 42601
-- phase: insert
-- expect-diagnosis: destination, perform
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000104','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.log (user_id uuid);
create function public.note(uuid) returns void language sql as $fn$ insert into public.log values ($1) $fn$;
create function public.after_signup() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  select public.note(new.id);
  return new;
end
$fn$;
create trigger after_signup after insert on auth.users for each row execute function public.after_signup();
