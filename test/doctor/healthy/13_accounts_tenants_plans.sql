-- healthy: personal and team accounts whose triggers wait for somebody who is logged in, tenants and teams, ids by time, deletion that keeps the row, defaults under CHECKs and exclusion constraints

create schema basejump;
grant usage on schema basejump to authenticated, service_role;
create type basejump.account_role as enum ('owner', 'member');
create table basejump.config (id int primary key default 1, enable_team_accounts boolean default true);
insert into basejump.config default values;
create table basejump.accounts (id uuid primary key default gen_random_uuid(), primary_owner_user_id uuid not null references auth.users default auth.uid(), name text, slug text unique, personal_account boolean not null default false, updated_at timestamptz, created_at timestamptz, created_by uuid references auth.users, updated_by uuid references auth.users, private_metadata jsonb default '{}', public_metadata jsonb default '{}',
  constraint slug_null_if_personal check ((personal_account = true and slug is null) or (personal_account = false and slug is not null)));
alter table basejump.accounts drop constraint accounts_primary_owner_user_id_fkey, add foreign key (primary_owner_user_id) references auth.users on delete cascade;
alter table basejump.accounts drop constraint accounts_created_by_fkey, add foreign key (created_by) references auth.users on delete set null, drop constraint accounts_updated_by_fkey, add foreign key (updated_by) references auth.users on delete set null;
create table basejump.account_user (user_id uuid references auth.users on delete cascade not null, account_id uuid references basejump.accounts on delete cascade not null, account_role basejump.account_role not null, primary key (user_id, account_id));
alter table basejump.accounts enable row level security;
alter table basejump.account_user enable row level security;
create policy v on basejump.account_user for select to authenticated using (user_id = auth.uid());
create function basejump.trigger_set_timestamps() returns trigger as $$ begin if tg_op = 'INSERT' then new.created_at = now(); new.updated_at = now(); else new.updated_at = now(); new.created_at = old.created_at; end if; return new; end $$ language plpgsql;
create function basejump.trigger_set_user_tracking() returns trigger as $$ begin if tg_op = 'INSERT' then new.created_by = auth.uid(); new.updated_by = auth.uid(); else new.updated_by = auth.uid(); new.created_by = old.created_by; end if; return new; end $$ language plpgsql;
create trigger basejump_set_accounts_timestamp before insert or update on basejump.accounts for each row execute procedure basejump.trigger_set_timestamps();
create trigger basejump_set_accounts_user_tracking before insert or update on basejump.accounts for each row execute procedure basejump.trigger_set_user_tracking();
create function basejump.add_current_user_to_new_account() returns trigger language plpgsql security definer set search_path = public as $$
begin
  if new.primary_owner_user_id = auth.uid() then
    insert into basejump.account_user (account_id, user_id, account_role) values (new.id, auth.uid(), 'owner');
  end if;
  return new;
end $$;
create trigger basejump_add_current_user_to_new_account after insert on basejump.accounts for each row execute function basejump.add_current_user_to_new_account();
create function basejump.run_new_user_setup() returns trigger language plpgsql security definer set search_path = public as $$
declare
  first_account_id uuid;
  generated_user_name text;
begin
  if new.email is not null then
    generated_user_name := split_part(new.email, '@', 1);
  end if;
  insert into basejump.accounts (name, primary_owner_user_id, personal_account, id) values (generated_user_name, new.id, true, new.id) returning id into first_account_id;
  insert into basejump.account_user (account_id, user_id, account_role) values (first_account_id, new.id, 'owner');
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users for each row execute procedure basejump.run_new_user_setup();
create table public.tenants (id bigint generated always as identity primary key, name text not null, domain text unique);
insert into public.tenants (name, domain) values ('default', null);
create table public.teams (id uuid primary key default gen_random_uuid(), tenant_id bigint not null references public.tenants (id) on delete cascade, name text not null);
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
