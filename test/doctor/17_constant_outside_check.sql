-- case: the trigger writes a plan that a CHECK does not list
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: check, plan, subscriptions
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000117','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.subscriptions (user_id uuid primary key, plan text not null check (plan in ('basic', 'pro')));
create function public.start_plan() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.subscriptions (user_id, plan) values (new.id, 'free');
  return new;
end
$fn$;
create trigger start_plan after insert on auth.users for each row execute function public.start_plan();
