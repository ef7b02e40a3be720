-- case: a helper function casts metadata that it was called with
-- sqlstate: 22P02
-- phase: insert
-- expect-diagnosis: age, integer
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000185','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{"age":"old"}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, age int);
create function public.mk(u uuid, n text) returns void language plpgsql as $$ begin insert into public.profiles (id, age) values (u, n::int); end $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.mk(new.id, new.raw_user_meta_data ->> 'age');
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
