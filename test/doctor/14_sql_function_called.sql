-- case: a function in SQL that the trigger calls names a table without its schema
-- sqlstate: 42P01
-- phase: insert
-- expect-diagnosis: search_path, wallets, open_wallet
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000114','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.wallets (owner uuid primary key);
create function public.open_wallet(who uuid) returns void language sql as $fn$ insert into wallets (owner) values (who) $fn$;
create function public.on_signup() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.open_wallet(new.id);
  return new;
end
$fn$;
create trigger on_signup after insert on auth.users for each row execute function public.on_signup();
