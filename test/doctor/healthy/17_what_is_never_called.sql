-- healthy: functions and triggers that look unsound, and are never called for the auth server: STRICT ones of what the row leaves null, and triggers that wait for a change of another column than the foreign key's

create extension if not exists unaccent with schema extensions;
create function public.as_slug(words text) returns text language plpgsql strict immutable as $$
begin
  return trim(both '-' from regexp_replace(lower(unaccent(words)), '[^a-z0-9]+', '-', 'g'));
end $$;
create table public.pages (id uuid primary key references auth.users (id) on delete cascade, title text unique, subtitle text, slug text generated always as (as_slug(title || coalesce(subtitle, ''))) stored, check (as_slug(subtitle) <> 'admin'));
create index on public.pages (as_slug(title::varchar));
create function public.make_page() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.pages (id, subtitle) values (new.id, null);
  return new;
end $$;
create trigger make_page after insert on auth.users for each row execute function public.make_page();

create table public.projects (id bigint generated always as identity primary key, owner uuid references auth.users (id) on delete set null, reviewer uuid references auth.users (id) on delete set null, status text not null default 'open', changed_at timestamptz);
create table public.commissions (id bigint generated always as identity primary key, amount numeric not null);
create function public.stamp() returns trigger language plpgsql as $$ begin new.changed_at := now(); return new; end $$;
create function public.close_project() returns trigger language plpgsql as $$ begin insert into commissions (sum) values (1); return new; end $$;
create trigger stamp before update on public.projects for each row execute function public.stamp();
create trigger closed after update of status on public.projects for each row execute function public.close_project();
create trigger reopened after update on public.projects for each row when (new.status = 'open' and old.status is distinct from new.status) execute function public.close_project();
insert into public.projects (owner, reviewer) select id, id from auth.users;
