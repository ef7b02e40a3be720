-- case: schemas, extensions, settings and temporary tables that a signup may not use, and a trigger that waits for the COMMIT
-- sqlstate: 42501 42703 42883 42P01 3F000
-- phase: insert
-- expect-diagnosis: public.users, search_path, security definer, crm.customers, similarity, pg_trgm, pg_cron, session_replication_role, temporary, org_owners, at commit
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000706','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.users (id uuid primary key references auth.users (id) on delete cascade, full_name text);
create function public.copy_user() returns trigger language plpgsql security definer set search_path = auth, public as $fn$
begin
  insert into users (id, full_name) values (new.id, '');
  return new;
end
$fn$;
create trigger copy_user after insert on auth.users for each row execute function public.copy_user();
create schema crm;
create table crm.customers (id uuid primary key references auth.users (id) on delete cascade);
create function crm.add_customer() returns trigger language plpgsql set search_path = '' as $fn$
begin
  insert into crm.customers (id) values (new.id);
  return new;
end
$fn$;
create trigger add_customer after insert on auth.users for each row execute function crm.add_customer();
create table public.scores (id uuid primary key references auth.users (id) on delete cascade, likeness real);
create function public.compare() returns trigger language plpgsql security definer set search_path = public as $fn$
begin
  insert into public.scores (id, likeness) values (new.id, similarity(new.email, 'nobody'));
  return new;
end
$fn$;
create trigger compare after insert on auth.users for each row execute function public.compare();
create function public.remind() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform cron.schedule('remind-' || new.id, '0 9 * * *', 'select 1');
  return new;
end
$fn$;
create trigger remind after insert on auth.users for each row execute function public.remind();
create table public.profiles (id uuid primary key);
alter table public.profiles owner to postgres;
create function public.make_profile() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  set local session_replication_role = 'replica';
  insert into public.profiles (id) values (new.id);
  return new;
end
$fn$;
alter function public.make_profile() owner to postgres;
create trigger make_profile after insert on auth.users for each row execute function public.make_profile();
do $do$ begin execute format('revoke temporary on database %I from public', current_database()); end $do$;
create function public.collect() returns trigger language plpgsql as $fn$
begin
  create temporary table batch (id uuid) on commit drop;
  insert into batch (id) values (new.id);
  return new;
end
$fn$;
create trigger collect after insert on auth.users for each row execute function public.collect();
create table public.orgs (id uuid primary key, owner uuid);
create function public.check_owner() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform from public.org_owners where org = new.id;
  return new;
end
$fn$;
create constraint trigger check_owner after insert on public.orgs deferrable initially deferred for each row execute function public.check_owner();
create function public.found_org() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.orgs (id, owner) values (gen_random_uuid(), new.id);
  return new;
end
$fn$;
create trigger found_org after insert on auth.users for each row execute function public.found_org();
