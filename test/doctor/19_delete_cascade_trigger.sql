-- case: deleting a user cascades to a table whose own trigger writes to a table that is gone
-- sqlstate: 42P01
-- phase: delete
-- expect-diagnosis: archived_profiles, does not exist, delete
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000219'
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000219','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade);
create function public.archive() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.archived_profiles select old.*;
  return old;
end
$fn$;
create trigger archive after delete on public.profiles for each row execute function public.archive();
insert into public.profiles values ('00000000-0000-4000-8000-000000000219');
