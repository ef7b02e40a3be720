-- healthy: personal and team accounts with their triggers, some of which wait for somebody who is logged in

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
