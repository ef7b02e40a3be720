-- case: an invoker refreshes a materialized view that is not its own
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: user_stats, owner
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000138','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.t (i int); create materialized view public.user_stats as select count(*) from public.t;
create function public.welcome() returns trigger language plpgsql set search_path = '' as $fn$
begin
  refresh materialized view public.user_stats;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
