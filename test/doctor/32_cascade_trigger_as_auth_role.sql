-- case: an AFTER DELETE trigger of the application's table is an invoker's; in a cascade it runs as the auth server's role
-- sqlstate: 42501
-- phase: delete
-- expect-diagnosis: security definer, departures, delete
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000232'
-- max-version: 17

INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000232','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade);
create table public.departures (id uuid, at timestamptz default now());
create function public.note_departure() returns trigger language plpgsql set search_path = '' as $fn$
begin
  insert into public.departures (id) values (old.id);
  return null;
end
$fn$;
create trigger note_departure after delete on public.profiles for each row execute function public.note_departure();
insert into public.profiles values ('00000000-0000-4000-8000-000000000232');
