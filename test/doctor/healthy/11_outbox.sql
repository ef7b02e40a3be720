-- An outbox that a worker empties, a notification, a log that is partitioned, and a trigger for updates of the address only.
create schema work;
grant usage on schema work to postgres;

create table work.outbox (
  id bigint generated always as identity primary key,
  topic text not null check (topic ~ '^[a-z.]+$'),
  payload jsonb not null default '{}' check (jsonb_typeof(payload) = 'object'),
  made_at timestamptz not null default clock_timestamp()
);

create table work.log (at timestamptz not null default now(), what text not null, user_id uuid) partition by range (at);
create table work.log_everything partition of work.log default;

create function work.tell(topic text, user_id uuid) returns void
language sql security definer set search_path = '' as $fn$
  insert into work.outbox (topic, payload) values ($1, jsonb_build_object('user_id', $2));
  insert into work.log (what, user_id) values ($1, $2);
$fn$;

create function work.user_changed() returns trigger
language plpgsql security definer set search_path = '' as $fn$
begin
  if tg_op = 'INSERT' then
    perform work.tell('user.made', new.id);
  elsif new.email is distinct from old.email then
    perform work.tell('user.email', new.id);
  end if;
  perform pg_notify('users', new.id::text);
  return null;
exception when others then
  raise warning 'no message for user %: %', new.id, sqlerrm;
  return null;
end
$fn$;

create trigger user_changed after insert or update of email on auth.users
  for each row execute function work.user_changed();
