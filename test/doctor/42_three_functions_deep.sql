-- case: a function that a function calls that the trigger calls names a table without its schema
-- sqlstate: 42P01
-- phase: insert
-- expect-diagnosis: counters
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000142','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create function public.c3() returns int language plpgsql as $$ begin return (select n from counters); end $$;
create function public.c2() returns int language sql as $$ select public.c3() $$;
create function public.c1() returns int language plpgsql as $$ begin return public.c2(); end $$;
create table public.counters (n int);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.c1();
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
