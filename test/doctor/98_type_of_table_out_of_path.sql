-- case: no search_path, and the first name without a schema stands in a declaration
-- sqlstate: 42601 42P01
-- phase: insert
-- expect-diagnosis: search_path, members, does not exist
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000198','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.members (id uuid primary key, role text);
create function public.enrol() returns trigger language plpgsql security definer as $fn$
declare
  chosen members.role%TYPE := 'member';
begin
  insert into members (id, role) values (new.id, chosen);
  return new;
end
$fn$;
create trigger enrol after insert on auth.users for each row execute function public.enrol();
