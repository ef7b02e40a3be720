-- case: moddatetime is given a column that is not there
-- sqlstate: 09000
-- phase: update
-- expect-diagnosis: moddatetime, modified_at
-- failing-statement: UPDATE auth.users SET email = 'other@case.example' WHERE id = '00000000-0000-4000-8000-000000000231'

create extension moddatetime schema extensions;
create table public.profiles (id uuid primary key, email text);
create trigger touch before update on public.profiles for each row execute function extensions.moddatetime (modified_at);
create function public.follow() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.profiles set email = new.email where id = new.id;
  return new;
end
$fn$;
create trigger follow after update of email on auth.users for each row execute function public.follow();
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000231','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
insert into public.profiles values ('00000000-0000-4000-8000-000000000231');
