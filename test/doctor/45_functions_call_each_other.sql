-- case: two helper functions call each other without end
-- sqlstate: 54001
-- phase: insert
-- expect-diagnosis: stack depth
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000145','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create function public.fa(n int) returns int language plpgsql as $$ begin return public.fb(n + 1); end $$;
create function public.fb(n int) returns int language plpgsql as $$ begin return public.fa(n + 1); end $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.fa(1);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
