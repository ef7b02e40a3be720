-- healthy: casts behind guards, helper functions in SQL and PL/pgSQL, dynamic SQL, an exception handler, what is not installed asked for first

create type public.plan as enum ('free', 'paid');
create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  age integer,
  born date,
  plan public.plan not null default 'free',
  marketing boolean not null default false,
  slug text unique
);
create table public.teams (id uuid primary key default gen_random_uuid(), owner uuid not null, name text not null);
create table public.failures (user_id uuid, message text, at timestamptz default now());
create function public.slugify(value text) returns text language sql immutable strict set search_path = '' as $$
  select trim(both '-' from regexp_replace(lower(value), '[^a-z0-9]+', '-', 'g'))
$$;
create function public.number_or_null(value text) returns integer language plpgsql immutable set search_path = '' as $$
begin
  return value::integer;
exception when others then
  return null;
end $$;
create function public.free_slug(wanted text) returns text language plpgsql stable set search_path = '' as $$
declare
  candidate text := public.slugify(wanted);
  i integer := 0;
  r record;
begin
  for r in select p.slug from public.profiles p where p.slug like candidate || '%' loop
    i := i + 1;
    exit when r.slug is null;
  end loop;
  if i > 0 then
    candidate := candidate || '-' || i;
  end if;
  return candidate;
end $$;
create function public.signed_up() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  meta jsonb := coalesce(new.raw_user_meta_data, '{}');
  team public.teams%rowtype;
begin
  insert into public.profiles (id, age, born, plan, marketing, slug)
  values (new.id,
          public.number_or_null(meta ->> 'age'),
          case when meta ->> 'born' ~ '^\d{4}-\d\d-\d\d$' then (meta ->> 'born')::date end,
          case meta ->> 'plan' when 'paid' then 'paid'::public.plan else 'free' end,
          coalesce((nullif(meta ->> 'marketing', ''))::boolean, false),
          public.free_slug(new.id::text));
  if meta ? 'team' then
    insert into public.teams (owner, name) values (new.id, meta ->> 'team') returning * into team;
    execute format('comment on table public.teams is %L', team.name);
  end if;
  if exists (select from pg_catalog.pg_extension where extname = 'pg_net') then
    perform net.http_post(url := 'https://hooks.case.example/', body := jsonb_build_object('id', new.id));
  end if;
  return new;
exception
  when others then
    insert into public.failures (user_id, message) values (new.id, sqlerrm);
    raise warning 'no profile for %: %', new.id, sqlerrm;
    return new;
end $$;
create trigger signed_up after insert on auth.users for each row execute function public.signed_up();
