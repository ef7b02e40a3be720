-- case: two faults in one body: no search_path, and a role without a right behind it
-- sqlstate: 42P01
-- phase: insert
-- expect-diagnosis: search_path, profiles, extensions
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000120','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, code text not null);
create function public.both() returns trigger language plpgsql as $fn$
begin
  insert into profiles (id, code) values (new.id, encode(gen_random_bytes(6), 'hex'));
  return new;
end
$fn$;
create trigger both_faults after insert on auth.users for each row execute function public.both();
