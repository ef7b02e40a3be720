-- healthy: what a value may be is asked first, or made to fit; lookups find what they look for

create type public.kind as enum ('buyer','seller');
create table public.roles (id int primary key, name text unique); insert into public.roles values (1,'member');
create table public.settings (k text primary key, v text);
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text, last_name text not null, age int, born date, terms boolean, org uuid, kind public.kind, role_id int not null, code varchar(36), slug varchar(64), status varchar(10), shard int, tier text not null, share numeric, tags text[] not null default '{}', data jsonb not null default '{}');
create table public.tags (u uuid, t text);
-- what the form alone knows
create table public.countries (code text primary key); insert into public.countries values ('de');
create table public.answers (id uuid primary key references auth.users (id) on delete cascade, height int, since date, news boolean not null, zone text check (now() at time zone zone is not null), locale varchar(5) not null check (locale in ('en', 'de')), country text references public.countries, prefs jsonb not null check (jsonb_typeof(prefs) = 'object'));
create function public.is_ok(e text) returns boolean language sql stable set search_path = '' as $$ select e is null or e like '%@%' $$;
create function public.depth(n int) returns int language plpgsql as $$ begin if n <= 0 then return 0; end if; return public.depth(n - 1); end $$;
create function public.fact(n int) returns int language sql as $$ select case when n <= 1 then 1 else n * public.fact(n - 1) end $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  parts text[]; r int; s text; n int; t text; rec record;
begin
  parts := string_to_array(coalesce(new.raw_user_meta_data ->> 'full_name', ''), ' ');
  select id into r from public.roles where name = 'member';
  select v into s from public.settings where k = 'nothing';
  select count(*) into n from public.roles;
  insert into public.profiles (id, email, last_name, age, born, terms, org, kind, role_id, code, slug, status, shard, tier, share)
  values (new.id, new.email, coalesce(parts[2], ''),
    case when new.raw_user_meta_data ->> 'age' ~ '^[0-9]{1,3}$' then (new.raw_user_meta_data ->> 'age')::int end,
    case when new.raw_user_meta_data ->> 'born' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' then (new.raw_user_meta_data ->> 'born')::date end,
    coalesce((new.raw_user_meta_data ->> 'terms')::boolean, false),
    (select o.id from (select new.id) o (id) where new.raw_user_meta_data ? 'org'),
    case when new.raw_user_meta_data ->> 'kind' in ('buyer', 'seller') then (new.raw_user_meta_data ->> 'kind')::public.kind end,
    r, new.id::text, split_part(new.email, '@', 1), 'pending', abs(hashtext(new.id::text)) % greatest(n, 1),
    case when new.email like '%@corp.example' then 'staff' else 'user' end, 100.0 / nullif((select count(*) from public.tags), 0));
  insert into public.answers values (new.id, nullif(new.raw_user_meta_data ->> 'height', '')::int, to_date(new.raw_user_meta_data ->> 'since', 'YYYY-MM-DD'),
    coalesce(nullif(new.raw_user_meta_data ->> 'news', '')::boolean, false), coalesce(new.raw_user_meta_data ->> 'zone', 'UTC'), coalesce(new.raw_user_meta_data ->> 'locale', 'en'),
    new.raw_user_meta_data ->> 'country', coalesce(new.raw_user_meta_data -> 'prefs', '{}'));
  if jsonb_typeof(new.raw_user_meta_data -> 'tags') = 'array' then
    insert into public.tags select new.id, x from jsonb_array_elements_text(new.raw_user_meta_data -> 'tags') x;
  end if;
  foreach t in array coalesce(string_to_array(new.raw_user_meta_data ->> 'labels', ','), '{}') loop
    insert into public.tags values (new.id, t);
  end loop;
  for i in 1 .. coalesce((select max(id) from public.roles), 0) loop
    perform public.depth(i), public.fact(i);
  end loop;
  case new.raw_user_meta_data ->> 'kind'
    when 'buyer' then null;
    when 'seller' then null;
    else null;
  end case;
  update public.profiles set last_name = coalesce(new.raw_user_meta_data ->> 'last', last_name) where id = new.id;
  select * into rec from public.roles where id = r;
  if rec.name = 'member' and s is null then
    for rec in select * from public.tags loop
      perform rec.t;
    end loop;
  end if;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row when (new.email is null or public.is_ok(new.email)) execute function public.welcome();
create function public.gate() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  if current_user not in ('postgres', 'supabase_admin') and session_user <> 'supabase_auth_admin' then
    raise exception 'nobody else';
  end if;
  if auth.uid() is not null and auth.uid() <> new.id then
    raise exception 'not yours';
  end if;
  if coalesce(current_setting('request.jwt.claims', true), '') <> '' then
    raise exception 'not by the API';
  end if;
  begin
    insert into public.tags values (new.id, 'x');
  exception
    when unique_violation then
      raise exception 'taken: %', sqlerrm using errcode = '23505';
    when others then
      raise warning 'tags: %', sqlerrm;
  end;
  return new;
end
$fn$;
create trigger on_gate before insert or update on auth.users for each row execute function public.gate();
