-- healthy: organizations with memberships, invitations by email, views, generated columns, partial and expression indexes, invoker rights granted

create schema app;
grant usage on schema app to supabase_auth_admin, authenticated;
create table app.organizations (id uuid primary key default gen_random_uuid(), name text not null, slug text generated always as (lower(name)) stored);
create table app.people (
  id uuid primary key references auth.users (id) on delete cascade,
  email text,
  initials text generated always as (upper(left(email, 1))) stored
);
create unique index people_email on app.people (lower(email)) where email is not null;
create table app.memberships (
  organization_id uuid not null references app.organizations (id) on delete cascade,
  person_id uuid not null references app.people (id) on delete cascade,
  role text not null default 'member' check (role in ('owner', 'member')),
  primary key (organization_id, person_id)
);
create table app.invites (id bigserial primary key, email text not null, organization_id uuid not null, role text not null default 'member', used boolean not null default false);
create view app.open_invites as select * from app.invites where not used;
grant select, insert on app.people, app.memberships, app.organizations to supabase_auth_admin;
grant select, update on app.invites, app.open_invites to supabase_auth_admin;
create function app.welcome() returns trigger language plpgsql as $$
declare
  invite record;
  organization uuid;
begin
  insert into app.people (id, email) values (new.id, new.email) on conflict do nothing;
  for invite in select i.* from app.open_invites i where lower(i.email) = lower(new.email) loop
    insert into app.memberships (organization_id, person_id, role) values (invite.organization_id, new.id, invite.role)
    on conflict (organization_id, person_id) do nothing;
    update app.invites set used = true where id = invite.id;
  end loop;
  if not found then
    insert into app.organizations (name) values (coalesce(new.raw_user_meta_data ->> 'company', 'Personal')) returning id into organization;
    insert into app.memberships values (organization, new.id, 'owner');
  end if;
  return new;
end $$;
create trigger welcome after insert on auth.users for each row execute function app.welcome();
