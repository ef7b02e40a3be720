-- case: the column is too short for a name that is put together of an address and an id
-- sqlstate: 22001
-- phase: insert
-- expect-diagnosis: varchar, username
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000007','authenticated','authenticated','new.person@app.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, username varchar(10));
create function public.handle_new_user() returns trigger
language plpgsql security definer set search_path = '' as $fn$

begin
insert into public.profiles (id, username) values (new.id, split_part(new.email,'@',1) || '_' || new.id::text);
  return new;
end
$fn$;

create trigger on_auth_user_created
  after insert on auth.users
  for each row execute function public.handle_new_user();
