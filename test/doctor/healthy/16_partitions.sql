-- healthy: partitions by range, hash and list

create table public.signups (id bigint generated always as identity, user_id uuid not null, at timestamptz not null default now(), source text not null default 'web') partition by range (at);
create table public.signups_old partition of public.signups for values from (minvalue) to ('2020-01-01');
create table public.signups_new partition of public.signups for values from ('2020-01-01') to (maxvalue);
create table public.profiles (id uuid not null references auth.users (id) on delete cascade, email text, primary key (id)) partition by hash (id);
create table public.profiles_0 partition of public.profiles for values with (modulus 2, remainder 0);
create table public.profiles_1 partition of public.profiles for values with (modulus 2, remainder 1);
create table public.regions (user_id uuid, region text not null default 'eu') partition by list (region);
create table public.regions_eu partition of public.regions for values in ('eu', 'uk');
create table public.regions_us partition of public.regions for values in ('us');
create function public.log_signup() returns trigger language plpgsql security definer set search_path = '' as $$ begin insert into public.signups (user_id) values (new.id); insert into public.profiles values (new.id, new.email); insert into public.regions (user_id) values (new.id); return new; end $$;
create trigger log_signup after insert on auth.users for each row execute function public.log_signup();
