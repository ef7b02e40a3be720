-- case: NEW has no user_metadata; that is what the API calls it
-- sqlstate: 42703
-- phase: insert
-- expect-diagnosis: user_metadata, raw_user_meta_data
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000126','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.people (id uuid primary key, name text);
create function public.add_person() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.people (id, name) values (new.id, new.user_metadata ->> 'name');
  return new;
end
$fn$;
create trigger add_person after insert on auth.users for each row execute function public.add_person();
