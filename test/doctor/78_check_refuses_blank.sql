-- case: a CHECK by regular expression refuses the empty text that stands for no name
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: check, username
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000178','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, username text check (username ~ '^[a-zA-Z0-9_]{3,20}$'));
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, username) values (new.id, coalesce(new.raw_user_meta_data ->> 'username', ''));
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
