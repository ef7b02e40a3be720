-- case: a domain over addresses takes those of one company only, which the trigger does not ask
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: domain, email
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000048','authenticated','authenticated','new.person@app.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create domain public.work_email as text check (value like '%@corp.example');
create table public.profiles (id uuid primary key, email public.work_email);
create function public.handle_new_user() returns trigger
language plpgsql security definer set search_path = '' as $fn$

begin
insert into public.profiles (id, email) values (new.id, new.email);
  return new;
end
$fn$;

create trigger on_auth_user_created
  after insert on auth.users
  for each row execute function public.handle_new_user();
