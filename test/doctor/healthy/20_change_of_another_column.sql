-- healthy: what ON DELETE SET NULL sets is not the change that these bodies wait for; what fails where somebody handles it

create type public.level as enum ('low', 'high');
create table public.deals (id bigint generated always as identity primary key, owner uuid references auth.users (id) on delete set null, stage text,
  level public.level, worth numeric, closed_at timestamptz, label varchar(20));
create function public.close_deal() returns trigger language plpgsql set search_path = '' as $$
begin
  if new.stage = 'won' and (old.stage is null or old.stage != 'won') then
    insert into public.projects (deal) values (new.id);
    new.closed_at := now();
  end if;
  return new;
end $$;
create function public.note_stage() returns trigger language plpgsql as $$
begin
  new.stage := lower(new.stage);
  return new;
end $$;
create trigger a_note_stage before update of stage on public.deals for each row execute function public.note_stage();
create trigger close_deal before update on public.deals for each row execute function public.close_deal();
create function public.deal_changed() returns trigger language plpgsql set search_path = '' as $$
begin
  if tg_op = 'UPDATE' and old.worth is distinct from new.worth then
    insert into public.prices (deal) values (new.id);
  elsif new.level = 'high' and old.level = 'low' then
    perform public.alert(new.id);
  elsif old.label is null and new.label is not null then
    update public.labels set deal = new.id;
  elsif new.label <> old.label or old.label is distinct from 'a' and new.label = 'a' then
    delete from public.labels;
  end if;
  return new;
end $$;
create trigger deal_changed after update on public.deals for each row execute function public.deal_changed();
create function public.first_deal() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.deals (owner, stage, level, worth, label) values (new.id, 'won', 'low', 1, 'a');
  return new;
end $$;
create trigger first_deal after insert on auth.users for each row execute function public.first_deal();

create table public.roles (id int primary key, name text unique);
insert into public.roles values (1, 'user');
create table public.members (id uuid primary key references auth.users (id) on delete cascade, role int not null references public.roles, kind public.level not null);
create function public.make_member() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  role_id int;
  kind public.level;
begin
  begin
    select r.id into strict role_id from public.roles as r where r.name = 'member';
  exception when no_data_found then
    role_id := 1;
  end;
  begin
    kind := coalesce(new.raw_user_meta_data ->> 'level', 'low')::public.level;
  exception when invalid_text_representation then
    kind := 'high';
  end;
  insert into public.members values (new.id, role_id, kind);
  return new;
end $$;
create trigger make_member after insert on auth.users for each row execute function public.make_member();
