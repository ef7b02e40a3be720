-- case: a NOT NULL column gets what nullif() makes null, what is looked up for nobody, and what nobody has filled yet
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: nullif, name, org_of_metadata, org_of_address, public.orgs, is_super_admin, not null
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000702','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.orgs (id uuid primary key default gen_random_uuid(), slug text unique, domain text unique);
create table public.names (id uuid primary key references auth.users (id) on delete cascade, name text not null);
create function public.keep_names() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.names values (new.id, nullif(trim(coalesce(new.raw_user_meta_data ->> 'name', '')), ''));
  return new;
end
$fn$;
create trigger keep_names after insert on auth.users for each row execute function public.keep_names();
create table public.members (id uuid primary key references auth.users (id) on delete cascade, org_of_metadata uuid not null references public.orgs (id));
create function public.keep_members() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.members values (new.id, (select o.id from public.orgs o where o.slug = new.raw_user_meta_data ->> 'org'));
  return new;
end
$fn$;
create trigger keep_members after insert on auth.users for each row execute function public.keep_members();
create table public.colleagues (id uuid primary key references auth.users (id) on delete cascade, org_of_address uuid not null references public.orgs (id));
create function public.find_org() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  org uuid;
begin
  select o.id into org from public.orgs o where o.domain = split_part(new.email, '@', 2);
  insert into public.colleagues (id, org_of_address) values (new.id, org);
  return new;
end
$fn$;
create trigger find_org after insert on auth.users for each row execute function public.find_org();
create table public.admins (id uuid primary key references auth.users (id) on delete cascade, admin boolean not null);
create function public.keep_admins() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.admins values (new.id, new.is_super_admin);
  return new;
end
$fn$;
create trigger keep_admins after insert on auth.users for each row execute function public.keep_admins();
