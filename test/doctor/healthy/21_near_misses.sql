-- case: what looks like a fault and is none: values that are looked after, rows that are there, circles that end

-- whoever is deleted leaves to somebody who is there
insert into auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
  confirmation_token, recovery_token, email_change, email_change_token_new, email_confirmed_at)
values ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-00000000dead', 'authenticated', 'authenticated', 'nobody@case.example', 'x',
  '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '', now());
insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
values ('00000000-0000-4000-8000-00000000dead', '00000000-0000-4000-8000-00000000dead', '{"sub":"00000000-0000-4000-8000-00000000dead"}', 'email', now(), now());
create table public.projects (id serial primary key,
  lead uuid not null default '00000000-0000-4000-8000-00000000dead' references auth.users (id) on delete set default);

-- triggers of a table fill what the signup leaves out
create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  name text,
  slug text not null,
  slug_length integer not null generated always as (length(coalesce(slug, ''))) stored,
  email text,
  phone text,
  updated_by uuid not null,
  changed_by uuid not null default gen_random_uuid(),
  touched_by uuid not null default gen_random_uuid(),
  number integer not null,
  constraint reachable check (email is not null or phone is not null)
);
create function public.fill_profile() returns trigger language plpgsql set search_path = '' as $fn$
begin
  new.name := coalesce(nullif(trim(new.name), ''), 'somebody');
  new.slug := lower(replace(new.name, ' ', '-'));
  new.updated_by := coalesce(auth.uid(), new.id);
  if auth.uid() is not null then
    new.changed_by := auth.uid();
  end if;
  if tg_op = 'UPDATE' then
    new.touched_by := coalesce(auth.uid(), new.touched_by);
  elsif tg_op = 'DELETE' then
    new.touched_by := auth.uid();
  end if;
  new.number := null;
  select count(*) into new.number from public.profiles;
  return new;
end
$fn$;
create trigger fill_profile before insert or update on public.profiles for each row execute function public.fill_profile();

-- each writes the other, until both are the same
create table public.settings (id uuid primary key references auth.users (id) on delete cascade, name text);
create function public.to_settings() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.settings set name = new.name where id = new.id and name is distinct from new.name;
  return new;
end
$fn$;
create function public.to_profiles() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.profiles set name = new.name where id = new.id and name is distinct from new.name;
  return new;
end
$fn$;
create trigger to_settings after insert or update on public.profiles for each row execute function public.to_settings();
create trigger to_profiles after insert or update on public.settings for each row execute function public.to_profiles();

-- partitions with triggers and defaults of their own, and a view that is written
create table public.events (user_id uuid, at timestamptz not null default now(), source text default 'web') partition by range (at);
create table public.events_all partition of public.events for values from (minvalue) to (maxvalue);
alter table public.events_all alter column source set not null;
create function public.sort_event() returns trigger language plpgsql set search_path = '' as $fn$
begin
  new.source := lower(new.source);
  return new;
end
$fn$;
create trigger sort_event before insert on public.events_all for each row execute function public.sort_event();
create view public.signups as select user_id, source from public.events where source = 'web' with check option;
create view public.people as select id, name from public.profiles;
create function public.put_person() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, name, email) select u.id, new.name, coalesce(u.email, '') from auth.users u where u.id = new.id;
  return new;
end
$fn$;
create trigger put_person instead of insert on public.people for each row execute function public.put_person();


-- what is NOT NULL in the partition of companies is written for companies
create table public.customers (id uuid, kind text not null, tax_number text) partition by list (kind);
create table public.persons partition of public.customers for values in ('person');
create table public.companies partition of public.customers for values in ('company');
alter table public.companies alter column tax_number set not null;

-- a column that the trigger of the next table puts in order, all of NEW at once
create table public.badges (id uuid primary key references auth.users (id) on delete cascade, name text, label text not null);
create function public.label_badge() returns trigger language plpgsql set search_path = '' as $fn$
begin
  new.label := new.name;
  new := jsonb_populate_record(new, jsonb_build_object('label', coalesce(new.name, 'none')));
  return new;
end
$fn$;
create trigger label_badge before insert on public.badges for each row execute function public.label_badge();

-- orders and their customers keep each other's sums: what fires the one is not what the other writes
create table public.baskets (id uuid primary key references auth.users (id) on delete cascade, items integer, noted timestamptz);
create table public.notes (id uuid primary key references auth.users (id) on delete cascade, items integer);
create function public.note_basket() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.notes set items = new.items where id = new.id;
  return new;
end
$fn$;
create function public.note_note() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.baskets set noted = now() where id = new.id;
  return new;
end
$fn$;
create trigger note_basket after insert or update of items on public.baskets for each row execute function public.note_basket();
create trigger note_note after insert or update on public.notes for each row execute function public.note_note();

-- organizations are looked up for those who have one
create table public.orgs (id uuid primary key default gen_random_uuid(), domain text unique, slug text unique);
insert into public.orgs (slug) values ('default');
create table public.members (org_id uuid not null references public.orgs (id), user_id uuid not null references auth.users (id) on delete cascade);
create function public.join_by_name(who uuid, name text) returns void language plpgsql security definer set search_path = '' as $fn$
declare
  org uuid;
begin
  select o.id into org from public.orgs o where o.slug = name;
  if not found then
    return;
  end if;
  insert into public.members (org_id, user_id) values (org, who);
end
$fn$;
create function public.sign_up() returns trigger language plpgsql security definer set search_path = public, auth as $fn$
declare
  org uuid;
begin
  set local lock_timeout = '5s';
  create temporary table if not exists seen (id uuid) on commit drop;
  select o.id into org from public.orgs o where o.domain = split_part(new.email, '@', 2);
  if org is not null then
    insert into public.members (org_id, user_id) values (org, new.id);
  end if;
  perform public.join_by_name(new.id, new.raw_user_meta_data ->> 'org');
  insert into public.customers (id, kind) values (new.id, 'person');
  insert into public.badges (id, name) values (new.id, new.raw_user_meta_data ->> 'name');
  insert into public.notes (id) values (new.id);
  insert into public.baskets (id, items) values (new.id, 0);
  insert into public.members (org_id, user_id)
  values (coalesce((select o.id from public.orgs o where o.slug = new.raw_user_meta_data ->> 'org'),
                   (select o.id from public.orgs o where o.slug = 'default')), new.id);
  insert into public.people (id, name) values (new.id, new.raw_user_meta_data ->> 'name');
  insert into public.settings (id, name) values (new.id, coalesce(new.raw_user_meta_data ->> 'name', 'somebody'));
  insert into public.signups (user_id, source) values (new.id, 'web');
  return new;
end
$fn$;
create trigger sign_up after insert on auth.users for each row execute function public.sign_up();
