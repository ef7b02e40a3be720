-- case: INSTEAD OF triggers, check options, and triggers and NOT NULL of partitions
-- sqlstate: 42703
-- phase: insert
-- expect-diagnosis: nickname, core.members, check option, active_accounts, channel, events_all, source
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000700','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create schema core;
create table core.members (id uuid primary key references auth.users (id) on delete cascade, nick text);
create view public.members as select id, nick from core.members;
create function core.put_member() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into core.members (id, nickname) values (new.id, new.nick);
  return new;
end
$fn$;
create trigger put_member instead of insert on public.members for each row execute function core.put_member();
create table public.accounts (id uuid primary key references auth.users (id) on delete cascade, state text not null);
create view public.active_accounts as select id, state from public.accounts where state = 'active' with check option;
create table public.events (user_id uuid, at timestamptz not null default now(), source text) partition by range (at);
create table public.events_all partition of public.events for values from (minvalue) to (maxvalue);
alter table public.events_all alter column source set default 'web', alter column source set not null;
create function public.sort_event() returns trigger language plpgsql set search_path = '' as $fn$
begin
  if new.channel is null then
    new.at := now();
  end if;
  return new;
end
$fn$;
create trigger sort_event before insert on public.events_all for each row execute function public.sort_event();
create function public.sign_up() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.members (id, nick) values (new.id, split_part(new.email, '@', 1));
  insert into public.active_accounts (id, state) values (new.id, 'pending');
  insert into public.events (user_id) values (new.id);
  return new;
end
$fn$;
create trigger sign_up after insert on auth.users for each row execute function public.sign_up();
