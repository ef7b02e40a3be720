-- healthy: functions with bodies in standard SQL, RETURN expressions, loops, CASE, FOREACH, cursors, a deferred constraint trigger

create table public.tags (user_id uuid not null references auth.users (id) on delete cascade, tag text not null, primary key (user_id, tag));
create table public.audit_tail (user_id uuid, n integer);
create function public.default_tags() returns text[] language sql stable return array['new', 'unseen'];
create function public.add_tag(who uuid, what text) returns void language sql
begin atomic
  insert into public.tags (user_id, tag) values (who, what) on conflict do nothing;
end;
create function public.tag_user() returns trigger language plpgsql security definer set search_path = '' as $$
#variable_conflict use_column
declare
  tag text;
  i integer;
  provider text := new.raw_app_meta_data ->> 'provider';
  tags_of cursor (who uuid) for select t.tag from public.tags t where t.user_id = who;
  seen record;
begin
  foreach tag in array public.default_tags() loop
    perform public.add_tag(new.id, tag);
  end loop;
  case provider
    when 'email' then perform public.add_tag(new.id, 'email');
    when 'google', 'github' then perform public.add_tag(new.id, 'oauth');
    else null;
  end case;
  for i in 1 .. 2 loop
    continue when i = 1;
    insert into public.tags values (new.id, 'n' || i) on conflict on constraint tags_pkey do nothing;
  end loop;
  open tags_of (new.id);
  loop
    fetch tags_of into seen;
    exit when not found;
    raise debug '%', seen.tag;
  end loop;
  close tags_of;
  return new;
end $$;
create trigger tag_user after insert on auth.users for each row execute function public.tag_user();
create function public.tail() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  n integer;
begin
  select count(*) into strict n from public.tags t where t.user_id = new.user_id;
  insert into public.audit_tail values (new.user_id, n);
  return null;
end $$;
create constraint trigger tail after insert on public.tags deferrable initially deferred for each row execute function public.tail();
