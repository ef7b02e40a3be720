-- healthy: utility statements in a trigger, and a trigger function of the server

create table public.people (id uuid primary key references auth.users (id) on delete cascade); create materialized view public.stats as select count(*) as n from public.people; create unique index on public.stats (n);
create materialized view public.stats2 as select count(*) as n from public.people;
create table public.scratch (id uuid);
create table public.docs (id uuid primary key references auth.users (id) on delete cascade, title text, fts tsvector);
create trigger fts before insert or update on public.docs for each row execute function tsvector_update_trigger('fts', 'pg_catalog.english', 'title');
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.people values (new.id);
  insert into public.docs values (new.id, 'x');
  truncate public.scratch;
  lock table public.people in row exclusive mode;
  create temp table if not exists t_x (id uuid) on commit drop;
  insert into t_x values (new.id);
  refresh materialized view public.stats2;
  notify people;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
