-- case: a BEFORE DELETE trigger returns NEW, which is null
-- sqlstate: none
-- phase: delete
-- expect-diagnosis: before, delete, null
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000216'
-- rows-left: SELECT count(*) FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000216'
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000216','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');

create table public.left_users (id uuid, at timestamptz default now());
create function public.keep_trace() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.left_users (id) values (old.id);
  return new;
end
$fn$;
create trigger keep_trace before delete on auth.users for each row execute function public.keep_trace();
