-- A role of its own owns the application; what writes has its rights and a policy; a view that can be written to;
-- a foreign key that is deferred and holds at COMMIT; files that outlive their owner.
create role doctor_house nologin;
create schema app authorization doctor_house;
create schema files;

create table app.account (id uuid primary key, plan text not null default 'free' check (plan in ('free', 'paid')));
create table app.person (
  id uuid primary key references auth.users (id) on delete cascade,
  account_id uuid not null references app.account (id) deferrable initially deferred,
  display_name text not null default ''
);
alter table app.account owner to doctor_house;
alter table app.person owner to doctor_house;
grant references on auth.users to doctor_house;
alter table app.person enable row level security;
create policy own on app.person using (id = auth.uid());

create view app.people with (security_barrier) as select p.id, p.display_name from app.person as p;
alter view app.people owner to doctor_house;

create table files.object (id uuid primary key default gen_random_uuid(), owner uuid references auth.users (id) on delete set null, name text not null);
create index on files.object (owner);

create function app.new_person() returns trigger
language plpgsql security definer set search_path = app, pg_temp as $fn$
declare
  name text := coalesce(nullif(btrim(new.raw_user_meta_data ->> 'full_name'), ''), split_part(coalesce(new.email, ''), '@', 1));
begin
  insert into person (id, account_id, display_name) values (new.id, new.id, left(name, 80));
  insert into account (id) values (new.id) on conflict do nothing;
  update people set display_name = display_name where id = new.id;
  return new;
end
$fn$;
alter function app.new_person() owner to doctor_house;

create trigger new_person after insert on auth.users
  for each row execute function app.new_person();
