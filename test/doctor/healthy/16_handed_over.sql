-- healthy: values that fit handed over to helper functions, domains, keys and CHECKs, variables that take on what they held

create type public.user_role as enum ('admin','user'); create table public.plans (name text primary key); insert into public.plans values ('free');
create table public.orgs (id uuid primary key);
create domain public.handle as text check (value is null or value ~ '^[a-z0-9._-]+$');
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, username text check (username is null or char_length(username) >= 3), handle public.handle, role public.user_role not null, plan text not null references public.plans (name), org uuid references public.orgs (id), note varchar(100), slug text check (slug ~ '^[a-z0-9-]+$'));
create table public.audit (user_id uuid, what text);
create function public.mk(u uuid, n text, m jsonb, r text default 'user') returns void language plpgsql as $$ declare v varchar(20) := 'constant'; w text not null := 'w'; begin
  n := coalesce(nullif(n, ''), 'nobody');
  w := coalesce(m ->> 'w', w);
  insert into public.profiles (id, username, role, plan, note, slug) values (u, n, case when m ->> 'role' in ('admin', 'user') then (m ->> 'role')::public.user_role else 'user' end, 'free', left(m ->> 'note', 100), 'user-' || left(u::text, 8));
end $$;
create function public.sq(u uuid, m jsonb) returns text language sql stable as $$ select coalesce(m ->> 'name', u::text) $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.mk(new.id, new.raw_user_meta_data ->> 'username', new.raw_user_meta_data);
  perform public.mk(u => gen_random_uuid(), n => 'other', m => new.raw_user_meta_data) where false;
  update public.profiles set handle = 'x', username = coalesce(nullif(public.sq(new.id, new.raw_user_meta_data), ''), 'none') where id = new.id;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
create function public.gone() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.audit values (old.id, 'deleted');
  if exists (select from public.audit where user_id = old.id) then
    return old;
  end if;
  return old;
end
$fn$;
create trigger on_gone after delete on auth.users for each row execute function public.gone();
