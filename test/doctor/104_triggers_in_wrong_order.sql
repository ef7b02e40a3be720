-- case: a trigger refers to the profile that another one makes, whose name sorts behind its own
-- sqlstate: 23503
-- phase: insert
-- expect-diagnosis: memberships_user_id_fkey, the row of public.profiles that it refers to is made only afterwards, trigger add_membership, on_auth_user_created, order of their names, the row of public.accounts that it refers to is made only afterwards, made by trigger invite_sync_insert
-- failing-statement: INSERT INTO users (id, instance_id, aud, role, email, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at) VALUES ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'a@example.com', '', '', '', '', now(), now())

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text);
create table public.memberships (user_id uuid not null references public.profiles (id) on delete cascade, tenant text not null, primary key (user_id, tenant));
create table public.accounts (id uuid primary key, email text);
alter table public.accounts owner to postgres;
create table public.wallets (account_id uuid primary key references public.accounts (id) on delete cascade);
create function public.add_membership() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.memberships values (new.id, 'default');
  insert into public.wallets values (new.id);
  return new;
end $$;
create function public.make_profile(id uuid, email text) returns void language sql security definer set search_path = '' as $$
  insert into public.profiles (id, email) values (id, email) on conflict do nothing;
$$;
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  perform public.make_profile(new.id, new.email);
  return new;
end $$;
create trigger add_membership after insert on auth.users for each row execute function public.add_membership();
create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user();
select invite_sync.add_target('public.accounts', '{"email": "email"}');
select invite_sync.attach();
