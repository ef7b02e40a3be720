-- case: rows that refer to others which a trigger makes that fires before, a BEFORE trigger, a body that puts its statement together, or nobody's at a signup
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text);
create table public.accounts (id uuid primary key);
create table public.wallets (id uuid primary key);
create table public.memberships (user_id uuid primary key references public.profiles (id) on delete cascade,
  constraint of_account foreign key (user_id) references public.accounts (id), constraint of_wallet foreign key (user_id) references public.wallets (id));
create table public.notes (user_id uuid primary key references public.profiles (id) on delete cascade deferrable initially deferred);

create function public.z_profile() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id, email) values (new.id, new.email) on conflict do nothing;
  return new;
end $$;
create function public.z_account() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.accounts (id) values (new.id) on conflict do nothing;
  return new;
end $$;
create function public.a_wallet() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  execute format('insert into public.%I (id) values ($1) on conflict do nothing', (select relname from pg_class where relname like 'wall%' and relkind = 'r')) using new.id;
  return new;
end $$;
create function public.wallet() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.wallets (id) values (new.id) on conflict do nothing;
  return new;
end $$;
create function public.membership() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.memberships values (new.id);
  return new;
end $$;
create function public.note() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.notes values (new.id);
  return new;
end $$;
create trigger a_note after insert on auth.users for each row execute function public.note();
create trigger a_profile after insert on auth.users for each row execute function public.z_profile();
create trigger a_wallet after insert on auth.users for each row execute function public.a_wallet();
create trigger m_membership after insert on auth.users for each row execute function public.membership();
create trigger z_account before insert on auth.users for each row execute function public.z_account();
create trigger z_profile after insert on auth.users for each row execute function public.z_profile();
create trigger z_wallet after insert on auth.users for each row execute function public.wallet();
