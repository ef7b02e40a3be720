-- case: a variable takes its type from a column that has another name now
-- sqlstate: 42601 42703
-- phase: insert
-- expect-diagnosis: column, role, of relation, members, does not exist
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000197','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.members (id uuid primary key, role text);
create function public.enrol() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  chosen public.members.role%type := 'member';
begin
  insert into public.members values (new.id, chosen);
  return new;
end
$fn$;
create trigger enrol after insert on auth.users for each row execute function public.enrol();
alter table public.members rename column role to member_role;
