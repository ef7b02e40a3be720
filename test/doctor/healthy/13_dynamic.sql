-- healthy: statements made at run time, of constants and of what is known then alone

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, name text);
create table public.users_audit (user_id uuid, op text, at timestamptz default now());
create table public.part_a (id uuid, name text); create table public.part_parent (id uuid, name text);
create function public.route() returns trigger language plpgsql as $$ begin execute 'insert into public.part_' || left('abc', 1) || ' values ($1.*)' using new; return null; end $$;
create trigger route before insert on public.part_parent for each row execute function public.route();
create function public.route2() returns trigger language plpgsql as $$ begin insert into public.part_a values (new.*); return null; end $$;
create table public.part_parent2 (id uuid, name text);
create trigger route2 before insert on public.part_parent2 for each row execute function public.route2();
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  q text; n int; r record;
begin
  q := 'insert into public.' || quote_ident('profiles') || ' (id, name) ';
  q := q || 'values ($1, $2)';
  execute q using new.id, coalesce(new.raw_user_meta_data ->> 'name', '');
  execute format('insert into public.%I (user_id, op) values (%L, %L)', tg_table_name || '_audit', new.id, tg_op);
  execute format('insert into %I.%I (user_id, op) values ($1, $2)', 'public', tg_argv[0]) using new.id, tg_op;
  execute format('comment on table public.profiles is %L', new.raw_user_meta_data ->> 'name');
  execute 'select count(*)::int from public.profiles where name = $1' into n using new.raw_user_meta_data ->> 'name';
  for r in execute 'select id, name as n from public.profiles where id = $1' using new.id loop
    insert into public.users_audit (user_id, op) values (r.id, r.n);
  end loop;
  if new.raw_user_meta_data ? 'table' then
    q := 'select 1 from public.' || quote_ident(new.raw_user_meta_data ->> 'table');
  end if;
  execute format('update public.profiles set name = %1$L where id = %2$L::uuid and %1$L is not null', 'x%', new.id);
  insert into public.part_parent values (new.id, 'x');
  insert into public.part_parent2 values (new.id, 'x');
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome('users_audit');
