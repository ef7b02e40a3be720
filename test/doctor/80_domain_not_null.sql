-- case: metadata goes into a column whose domain is NOT NULL
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: domain, handle, null
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000180','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create domain public.handle as text not null; create table public.profiles (id uuid primary key, handle public.handle);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, handle) values (new.id, new.raw_user_meta_data ->> 'handle');
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
