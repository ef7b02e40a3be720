-- case: a cast to an enum in public, which the empty search_path does not hold
-- sqlstate: 42704
-- phase: insert
-- expect-diagnosis: member_role, search_path
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000110','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create type public.member_role as enum ('owner', 'guest');
create table public.members (id uuid primary key, role public.member_role not null);
create function public.add_guest() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.members (id, role) values (new.id, 'guest'::member_role);
  return new;
end
$fn$;
create trigger add_guest after insert on auth.users for each row execute function public.add_guest();
