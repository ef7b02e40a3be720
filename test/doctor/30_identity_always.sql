-- case: the trigger writes a column that is GENERATED ALWAYS
-- sqlstate: 428C9
-- phase: insert
-- expect-diagnosis: member_no, non default value
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000130','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.members (member_no bigint generated always as identity, user_id uuid primary key);
create function public.add_member() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.members (member_no, user_id) values (1, new.id);
  return new;
end
$fn$;
create trigger add_member after insert on auth.users for each row execute function public.add_member();
