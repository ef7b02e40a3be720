-- case: a helper function is called with types that it does not take
-- sqlstate: 42883
-- phase: insert
-- expect-diagnosis: slugify, uuid
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000143','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create function public.slugify(v text, n int) returns text language sql as $$ select v $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.slugify(new.id, 3);
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
