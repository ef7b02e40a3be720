-- healthy: columns that a BEFORE trigger fills, and names that would do harm unquoted

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, username text not null unique, slug text not null, email varchar(255), initials varchar(2) not null default '', bio varchar(160) not null default '', created_by uuid default auth.uid());
create function public.fill() returns trigger language plpgsql as $$
begin
  if new.username is null then new.username := 'user_' || right(new.id::text, 12); end if;
  new.slug := lower(regexp_replace(new.username, '[^a-zA-Z0-9]+', '-', 'g'));
  return new;
end $$;
create trigger fill before insert on public.profiles for each row execute function public.fill();
create function public.np() returns trigger language plpgsql security definer set search_path = public as $$
begin
  insert into public.profiles (id, email, username) values (new.id, new.email, nullif(trim(new.raw_user_meta_data ->> 'username'), ''));
  return new;
end $$;
create trigger np after insert on auth.users for each row execute function public.np();
create schema "a""; drop schema public; --";
create table "a""; drop schema public; --"."x""; drop table y; --" ("i""d; --" uuid primary key references auth.users (id) on delete cascade, "n'; --" text not null default 'it''s "; drop table y; --', constraint "c'; --" check ("n'; --" <> ''), constraint "u""; --" unique ("n'; --", "i""d; --"));
create function "a""; drop schema public; --"."f""; drop table y; --"() returns trigger language plpgsql security definer set search_path = '' as $$ begin insert into "a""; drop schema public; --"."x""; drop table y; --" ("i""d; --") values (new.id); return new; end $$;
create trigger "t""; drop table y; --" after insert on auth.users for each row execute function "a""; drop schema public; --"."f""; drop table y; --"();
create table public.y (id int);

-- what is made once, by whoever comes first
create table public.defaults (name text primary key, n int unique, made_at timestamptz not null default now());
create table public.houses (id bigint generated always as identity primary key, slug text not null unique, is_main boolean not null default true);
create unique index one_main on public.houses (is_main) where is_main;
create function public.first_one() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from public.houses where slug = 'main') then
    insert into public.houses (slug) values ('main');
  end if;
  insert into public.defaults (name, n) select 'theme', 1 where not exists (select from public.defaults d where d.name = 'theme');
  insert into public.defaults (name, n) values ('plan', 2) on conflict do nothing;
  return new;
end $$;
create trigger first_one after insert on auth.users for each row execute function public.first_one();
