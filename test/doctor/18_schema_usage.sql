-- case: the definer may not look into the schema
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: permission denied, schema, crm
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000118','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

do $$ begin create role app_writer; exception when duplicate_object then null; end $$;
grant create, usage on schema public to app_writer;
create schema crm;
create table crm.leads (user_id uuid primary key);
grant insert on crm.leads to app_writer;
create function public.add_lead() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into crm.leads (user_id) values (new.id);
  return new;
end
$fn$;
alter function public.add_lead() owner to app_writer;
create trigger add_lead after insert on auth.users for each row execute function public.add_lead();
