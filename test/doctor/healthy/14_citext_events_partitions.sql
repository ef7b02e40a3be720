-- healthy: names that a function makes until they are free, an event log, keys that wait for the COMMIT, partitions by range, hash and list

create extension if not exists citext with schema extensions;
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, username extensions.citext not null unique check (length(username::text) between 3 and 40), email extensions.citext unique, first_name text, last_name text, full_name text generated always as (coalesce(first_name, '') || ' ' || coalesce(last_name, '')) stored);
create function public.free_username(wanted text) returns text language plpgsql security definer set search_path = public, extensions as $$
declare candidate text := left(regexp_replace(lower(coalesce(nullif(wanted, ''), 'user')), '[^a-z0-9]', '', 'g'), 20) || '_' || substr(md5(random()::text), 1, 6);
begin
  while exists (select from public.profiles p where p.username = candidate::citext) loop
    candidate := 'user_' || substr(md5(random()::text), 1, 10);
  end loop;
  return candidate;
end $$;
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = public, extensions as $$
begin
  insert into public.profiles (id, username, email, first_name) values (new.id, public.free_username(split_part(new.email, '@', 1))::citext, new.email, new.raw_user_meta_data ->> 'first_name');
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user();
create schema hdb_catalog;
create function hdb_catalog.gen_hasura_uuid() returns uuid language sql as $$ select gen_random_uuid() $$;
create table hdb_catalog.event_log (id text default hdb_catalog.gen_hasura_uuid() primary key, schema_name text not null, table_name text not null, trigger_name text not null, payload jsonb not null, created_at timestamp default now());
create function hdb_catalog.insert_event_log(schema_name text, table_name text, trigger_name text, op text, row_data json) returns text language plpgsql as $$
declare id text;
begin
  insert into hdb_catalog.event_log (schema_name, table_name, trigger_name, payload) values (schema_name, table_name, trigger_name, json_build_object('op', op, 'data', row_data)) returning event_log.id into id;
  return id;
end $$;
create table public.members (id uuid primary key references auth.users (id) on delete cascade, display_name text, locale varchar(10) not null default 'en', is_guest boolean not null default false);
create function hdb_catalog."notify_hasura_members_INSERT"() returns trigger language plpgsql as $$
declare _old record; _new record; _data json;
begin
  if tg_op = 'INSERT' then _new := row((select e from (select new.*) as e)); end if;
  _data := json_build_object('old', null, 'new', row_to_json(new));
  perform hdb_catalog.insert_event_log(cast(tg_table_schema as text), cast(tg_table_name as text), cast('members' as text), tg_op, _data);
  return null;
end $$;
create trigger "notify_hasura_members_INSERT" after insert on public.members for each row execute procedure hdb_catalog."notify_hasura_members_INSERT"();
create function public.make_member() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$ begin insert into members (id, display_name) values (new.id, coalesce(new.raw_user_meta_data ->> 'display_name', new.raw_user_meta_data ->> 'name', split_part(new.email, '@', 1))); return new; end $$;
create trigger make_member after insert on auth.users for each row execute function public.make_member();
create table public.users (id uuid primary key, email text unique, constraint u foreign key (id) references auth.users (id) on delete cascade deferrable initially deferred);
create table public.accounts (id uuid primary key default gen_random_uuid(), owner uuid not null references public.users (id) on delete cascade deferrable initially deferred, name text not null default 'Personal');
create function public.make_users() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
  insert into accounts (owner) values (new.id);
  insert into users (id, email) values (new.id, new.email);
  return new;
end $$;
create trigger make_users after insert on auth.users for each row execute function public.make_users();
create table public.signups (id bigint generated always as identity, user_id uuid not null, at timestamptz not null default now(), source text not null default 'web') partition by range (at);
create table public.signups_old partition of public.signups for values from (minvalue) to ('2020-01-01');
create table public.signups_new partition of public.signups for values from ('2020-01-01') to (maxvalue);
create table public.cards (id uuid not null references auth.users (id) on delete cascade, email text, primary key (id)) partition by hash (id);
create table public.cards_0 partition of public.cards for values with (modulus 2, remainder 0);
create table public.cards_1 partition of public.cards for values with (modulus 2, remainder 1);
create table public.regions (user_id uuid, region text not null default 'eu') partition by list (region);
create table public.regions_eu partition of public.regions for values in ('eu', 'uk');
create table public.regions_us partition of public.regions for values in ('us');
create function public.log_signup() returns trigger language plpgsql security definer set search_path = '' as $$ begin insert into public.signups (user_id) values (new.id); insert into public.cards values (new.id, new.email); insert into public.regions (user_id) values (new.id); return new; end $$;
create trigger log_signup after insert on auth.users for each row execute function public.log_signup();
