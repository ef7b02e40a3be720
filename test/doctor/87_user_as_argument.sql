-- case: a helper function is called with the user, who lacks the column that it reads
-- sqlstate: 42703
-- phase: insert
-- expect-diagnosis: nickname
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000187','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, name text);
create function public.mk(u auth.users) returns void language plpgsql as $$ begin insert into public.profiles (id, name) values (u.id, u.nickname); end $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.mk(new);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
