-- case: a row has nothing in columns that a check, a generated column or a trigger of the table lives by
-- sqlstate: 23502 23514
-- phase: insert
-- expect-diagnosis: check, named, last_name, generated, slug, updated_by, auth.uid(), handle, title, code, primary key, not null
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000704','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.people (id uuid primary key references auth.users (id) on delete cascade, kind text, last_name text, company text,
  constraint named check ((kind = 'person' and last_name is not null) or (kind = 'company' and company is not null)));
create table public.pages (id uuid primary key references auth.users (id) on delete cascade, name text, slug text not null generated always as (lower(name)) stored);
create table public.stamps (id uuid primary key references auth.users (id) on delete cascade, updated_by uuid not null);
create function public.stamp() returns trigger language plpgsql as $fn$
begin
  new.updated_by := auth.uid();
  return new;
end
$fn$;
create trigger stamp before insert or update on public.stamps for each row execute function public.stamp();
create table public.handles (id uuid primary key references auth.users (id) on delete cascade, name text, handle text not null);
create function public.make_handle() returns trigger language plpgsql set search_path = '' as $fn$
begin
  if new.handle is null then
    new.handle := lower(replace(new.name, ' ', '-'));
  end if;
  return new;
end
$fn$;
create trigger make_handle before insert on public.handles for each row execute function public.make_handle();
create table public.card (id uuid primary key references auth.users (id) on delete cascade, title text not null);
create view public.cards as select id, title from public.card;
create function public.put_card() returns trigger language plpgsql set search_path = '' as $fn$
begin
  insert into public.card (id, title) values (new.id, new.title);
  return new;
end
$fn$;
create trigger put_card instead of insert on public.cards for each row execute function public.put_card();
create table public.codes (code text primary key, of uuid references auth.users (id) on delete cascade);
create function public.make_code() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.codes (of) values (new.id);
  return new;
end
$fn$;
create trigger make_code after insert on auth.users for each row execute function public.make_code();
create function public.sign_up() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.people (id, kind, last_name) values (new.id, 'person', new.raw_user_meta_data ->> 'last_name');
  insert into public.pages (id, name) values (new.id, new.raw_user_meta_data ->> 'name');
  insert into public.stamps (id) values (new.id);
  insert into public.handles (id, name) values (new.id, new.raw_user_meta_data ->> 'name');
  insert into public.cards (id) values (new.id);
  return new;
end
$fn$;
create trigger sign_up after insert on auth.users for each row execute function public.sign_up();
