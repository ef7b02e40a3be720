-- healthy: names without schemas under a search_path of its own, pgcrypto and uuid-ossp in it, an enum, a sequence

create type public.app_role as enum ('admin', 'member');
create table public.users (
  id uuid primary key references auth.users (id) on delete cascade,
  number bigserial,
  email text,
  role app_role not null default 'member',
  invite_code text not null default encode(extensions.gen_random_bytes(6), 'hex'),
  created_at timestamptz not null default now()
);
create table public.settings (
  id uuid primary key default extensions.uuid_generate_v4(),
  user_id uuid not null unique references public.users (id) on delete cascade,
  theme text not null default 'light' check (theme in ('light', 'dark')),
  locale text not null default 'en'
);
create function public.create_user() returns trigger language plpgsql security definer
set search_path = public, extensions, pg_temp as $$
declare
  wanted app_role := 'member';
  token text;
begin
  if new.email like '%@our.example' then
    wanted := 'admin';
  end if;
  token := encode(digest(new.id::text || gen_random_uuid(), 'sha256'), 'hex');
  insert into users (id, email, role) values (new.id, new.email, wanted)
  on conflict (id) do update set email = excluded.email;
  insert into settings (user_id, locale)
  values (new.id, coalesce(nullif(new.raw_user_meta_data ->> 'locale', ''), 'en'))
  on conflict (user_id) do nothing;
  return new;
end $$;
create trigger create_user after insert on auth.users for each row execute function public.create_user();
create function public.follow_email() returns trigger language plpgsql security definer set search_path = public as $$
begin
  if new.email is distinct from old.email then
    update users set email = new.email where id = new.id;
  end if;
  return new;
end $$;
create trigger follow_email after update of email on auth.users for each row when (old.email is distinct from new.email)
  execute function public.follow_email();
