-- healthy: tenants and teams, ids by time, deletion that keeps the row, defaults under CHECKs and exclusion constraints

create table public.tenants (id bigint generated always as identity primary key, name text not null, domain text unique);
insert into public.tenants (name, domain) values ('default', null);
create table public.teams (id uuid primary key default gen_random_uuid(), tenant_id bigint not null references public.tenants (id) on delete cascade, name text not null, unique (tenant_id, name));
create table public.team_members (team_id uuid not null references public.teams (id) on delete cascade, user_id uuid not null references auth.users (id) on delete cascade, role text not null default 'member' check (role in ('owner', 'admin', 'member')), joined_at timestamptz not null default now(), primary key (team_id, user_id));
create index on public.team_members (user_id);
create function public.on_signup() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  t bigint;
  team uuid;
begin
  select id into t from public.tenants where domain = split_part(new.email, '@', 2);
  if not found then
    select id into strict t from public.tenants where domain is null order by id limit 1;
  end if;
  insert into public.teams (tenant_id, name) values (t, 'team of ' || new.id) returning id into team;
  insert into public.team_members (team_id, user_id, role) values (team, new.id, 'owner');
  return new;
end $$;
create trigger on_signup after insert on auth.users for each row execute function public.on_signup();
create function public.uuid_v7() returns uuid language sql volatile parallel safe as $$
  select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;
create table public.people (id uuid primary key default public.uuid_v7(), auth_id uuid not null unique references auth.users (id) on delete cascade, handle text not null unique default 'u_' || replace(gen_random_uuid()::text, '-', ''), email text);
create function public.people_new() returns trigger language plpgsql security definer set search_path = '' as $$ begin insert into public.people (auth_id, email) values (new.id, lower(new.email)) on conflict (auth_id) do nothing; return new; end $$;
create trigger people_new after insert on auth.users for each row execute function public.people_new();
create table public.customers (id uuid primary key default gen_random_uuid(), user_id uuid references auth.users (id) on delete set null, email text, deleted_at timestamptz, created_at timestamptz not null default now());
create unique index customers_email_live on public.customers (lower(email)) where deleted_at is null;
create unique index customers_user on public.customers (user_id) where deleted_at is null;
create function public.customer_new() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.customers (user_id, email) values (new.id, new.email) on conflict do nothing;
  return new;
end $$;
create trigger customer_new after insert on auth.users for each row execute function public.customer_new();
create function public.customer_gone() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  update public.customers set deleted_at = now(), email = null where user_id = old.id;
  return old;
end $$;
create trigger customer_gone before delete on auth.users for each row execute function public.customer_gone();
create table public.plans (id text primary key, price numeric(10, 2) not null check (price >= 0));
insert into public.plans values ('free', 0), ('pro', 10);
create table public.wallets (user_id uuid primary key references auth.users (id) on delete cascade, balance numeric not null default 0 check (balance >= 0), currency char(3) not null default 'EUR' check (currency ~ '^[A-Z]{3}$'));
create table public.subscriptions (id uuid primary key default gen_random_uuid(), user_id uuid not null unique references auth.users (id) on delete cascade, plan text not null default 'free' references public.plans (id), status text not null default 'trialing' check (status in ('trialing', 'active', 'canceled')), trial_ends date not null default current_date + 14, check (trial_ends > current_date - 10000));
create table public.invoices (id bigserial primary key, wallet uuid references public.wallets (user_id) on delete set null, n int not null default 1, exclude using btree (id with =));
create function public.start() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.wallets (user_id) values (new.id);
  insert into public.subscriptions (user_id) values (new.id);
  return new;
end $$;
create trigger start after insert on auth.users for each row execute function public.start();
create view public.me as select w.*, s.plan from public.wallets w join public.subscriptions s using (user_id);
