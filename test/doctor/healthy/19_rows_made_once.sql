-- healthy: rows and values that look as if they were made twice, and are not; what stands after RAISE EXCEPTION never runs

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text);
create table public.user_roles (user_id uuid references auth.users (id) on delete cascade, role text, primary key (user_id, role));
create table public.settings (user_id uuid primary key references auth.users (id) on delete cascade, number int);
create table public.log (id bigint generated always as identity primary key, user_id uuid);
create table public.state (user_id uuid primary key, email text);
create function public.make_profile() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles values (new.id, new.email);
  insert into public.user_roles values (new.id, 'user');
  insert into public.user_roles values (new.id, 'member');
  insert into public.log (user_id) values (new.id);
  insert into public.log (user_id) values (new.id);
  return new;
end $$;
create trigger make_profile after insert on auth.users for each row execute function public.make_profile();
create function public.keep_profile() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles values (new.id, new.email) on conflict (id) do update set email = excluded.email;
  if not exists (select from public.user_roles where user_id = new.id and role = 'user') then
    insert into public.user_roles values (new.id, 'user');
  end if;
  begin
    insert into public.user_roles values (new.id, 'member');
  exception when unique_violation then
    null;
  end;
  return new;
end $$;
create trigger save_profile after insert or update on auth.users for each row execute function public.keep_profile();
create function public.make_settings() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.settings values (new.id, 1);
  return new;
end $$;
create trigger user_confirmed after update on auth.users for each row
  when (old.email_confirmed_at is null and new.email_confirmed_at is not null) execute function public.make_settings();
create function public.keep_state() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  delete from public.state where user_id = new.id;
  insert into public.state values (new.id, new.email);
  if tg_op = 'UPDATE' then
    return new;
  end if;
  insert into public.user_roles values (new.id, 'guest');
  return new;
end $$;
create trigger user_saved after insert or update on auth.users for each row execute function public.keep_state();

create table public.slugs (user_id uuid primary key references auth.users (id) on delete cascade, slug text unique, code text unique, name text unique);
create function public.make_slug() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  base text := lower(split_part(new.email, '@', 1));
  tried text := base;
begin
  while exists (select from public.slugs where name = tried) loop
    tried := base || floor(random() * 1000)::text;
  end loop;
  insert into public.slugs
  values (new.id, lower(split_part(new.email, '@', 1)) || '-' || left(md5(new.id::text), 12), split_part(new.email, '@', 1) || extract(epoch from clock_timestamp())::text, tried);
  return new;
end $$;
create trigger make_slug after insert on auth.users for each row execute function public.make_slug();

create table public.tenants (id uuid primary key default gen_random_uuid(), owner uuid references auth.users (id) on delete cascade);
create table public.audit_events (id bigint generated always as identity primary key, tenant uuid references public.tenants (id) on delete set null);
create function public.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'audit_events is append-only';
  return null;
end $$;
create trigger refuse_change before update or delete on public.audit_events for each row execute function public.refuse_change();
