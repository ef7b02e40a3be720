-- case: the definer owns no right on the table that the trigger writes
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: permission denied, ledger, app_writer
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000108','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

do $$ begin create role app_writer; exception when duplicate_object then null; end $$;
grant create, usage on schema public to app_writer;
create table public.ledger (user_id uuid primary key, at timestamptz default now());
alter table public.ledger owner to postgres;
revoke all on public.ledger from public;
create function public.write_ledger() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.ledger (user_id) values (new.id);
  return new;
end
$fn$;
alter function public.write_ledger() owner to app_writer;
create trigger write_ledger after insert on auth.users for each row execute function public.write_ledger();
