-- case: a CHECK asks for more letters than an address may begin with
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: check, username
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000179','authenticated','authenticated','jo@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, username text, constraint username_length check (char_length(username) >= 3));
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, username) values (new.id, split_part(new.email, '@', 1));
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
