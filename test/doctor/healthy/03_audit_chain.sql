-- healthy: an audit trigger for several tables, updated_at by a BEFORE trigger, a counter in a statement trigger with transition tables

create schema audit;
create table audit.log (
  id bigint generated always as identity primary key,
  relation text not null,
  op text not null,
  row_id uuid,
  old_row jsonb,
  new_row jsonb,
  at timestamptz not null default clock_timestamp()
);
create function audit.record() returns trigger language plpgsql security definer set search_path = pg_catalog, audit as $$
begin
  if tg_op = 'DELETE' then
    insert into log (relation, op, row_id, old_row) values (tg_table_schema || '.' || tg_table_name, tg_op, old.id, to_jsonb(old));
    return old;
  elsif tg_op = 'UPDATE' then
    insert into log (relation, op, row_id, old_row, new_row)
    values (tg_table_schema || '.' || tg_table_name, tg_op, new.id, to_jsonb(old), to_jsonb(new));
    return new;
  end if;
  insert into log (relation, op, row_id, new_row) values (tg_table_schema || '.' || tg_table_name, tg_op, new.id, to_jsonb(new));
  return new;
end $$;
create table public.accounts (
  id uuid primary key references auth.users (id) on delete cascade,
  display_name text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null
);
create table public.counters (name text primary key, n bigint not null default 0);
insert into public.counters values ('accounts');
create function public.touch() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end $$;
create trigger touch before insert or update on public.accounts for each row execute function public.touch();
create trigger record after insert or update or delete on public.accounts for each row execute function audit.record();
create function public.count_accounts() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  update public.counters set n = n + (select count(*) from added) where name = 'accounts';
  return null;
end $$;
create trigger count_accounts after insert on public.accounts referencing new table as added
  for each statement execute function public.count_accounts();
create table public.titles (account uuid primary key, title text not null);
create function public.open_account() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  shown text := new.raw_user_meta_data ->> 'name';
begin
  if shown is null or trim(shown) = '' then
    shown := coalesce(split_part(new.email, '@', 1), 'somebody');
  end if;
  insert into public.accounts (id, display_name) values (new.id, shown);
  if new.raw_user_meta_data ->> 'title' is not null then
    insert into public.titles (account, title) values (new.id, new.raw_user_meta_data ->> 'title');
  end if;
  return new;
end $$;
create trigger open_account after insert on auth.users for each row execute function public.open_account();
