-- healthy: what PL/pgSQL can be made to say

create table public.people (id uuid primary key references auth.users (id) on delete cascade, email text, data jsonb not null default '{}', tags text[] not null default '{}', search tsvector, seen integer not null default 0);
create trigger search before insert or update on public.people for each row execute function tsvector_update_trigger(search, 'pg_catalog.simple', email);
create table public.notes (id bigint generated always as identity primary key, person uuid, kind text not null, body text not null) ;
create table public.journal (at timestamptz not null default now(), person uuid, what text not null) partition by range (at);
create table public.journal_all partition of public.journal default;
create view public.people_view as select id, email from public.people;
create function public.instead() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.people (id, email) values (new.id, new.email) on conflict (id) do nothing;
  return new;
end $$;
create trigger instead instead of insert on public.people_view for each row execute function public.instead();
create function public.describe(u auth.users) returns text language sql stable set search_path = '' as $$ select coalesce(u.email, u.phone, 'nobody') $$;
create function public.first_of(anyarray) returns anyelement language sql immutable as $$ select $1[1] $$;
create function public.parts(value text, out head text, out tail text) language plpgsql immutable set search_path = '' as $$
begin
  head := split_part(value, '@', 1);
  tail := split_part(value, '@', 2);
end $$;
create function public.several(n integer) returns table (i integer, square integer) language plpgsql stable set search_path = '' as $$
begin
  return query select g, g * g from generate_series(1, n) g;
  i := 0;
  square := 0;
  return next;
  return;
end $$;
create procedure public.add_note(who uuid, what text) language plpgsql set search_path = '' as $$
begin
  insert into public.notes (person, kind, body) values (who, 'procedure', what);
end $$;
create function public.every_way() returns trigger language plpgsql security definer set search_path = '' as $$
<<outer_block>>
declare
  one public.people%rowtype;
  copy public.people;
  anything record;
  head text;
  tail text;
  n public.people.seen%type := 1;
  list text[] := array['a', 'b'];
  b constant text := 'constant';
  cur cursor for select p.id, p.email from public.people p;
  c refcursor;
  state text;
  line record;
  meta jsonb;
  j integer;
begin
  meta := new.raw_user_meta_data;
  one.id := new.id;
  one.email := new.email;
  one.data := to_jsonb(new) - 'encrypted_password';
  one.tags := list;
  one.tags[2] := tg_op;
  one.seen := n;
  insert into public.people values (one.*) returning * into copy;
  insert into public.people_view values (new.id, new.email);
  update public.people set data = data || jsonb_build_object('described', public.describe(new)), tags = copy.tags where people.id = new.id;
  select h.head, h.tail into outer_block.head, tail from public.parts(new.email) h;
  select * into anything from public.several(2) where i = 1;
  n := n + anything.square + outer_block.n;
  for line in select x.name, x.age from jsonb_to_record('{"name": "n", "age": 1}') as x (name text, age integer) loop
    insert into public.notes (person, kind, body) values (new.id, line.name, line.age::text);
  end loop;
  for anything in execute 'select 1 as one, $1 as two' using new.id loop
    insert into public.notes (person, kind, body) values (anything.two, 'dynamic', anything.one);
  end loop;
  execute format('update %I.%I set seen = seen + 1 where id = $1', 'public', 'people') using new.id;
  for line in cur loop
    n := n + length(coalesce(line.email, ''));
  end loop;
  open c for execute 'select count(*)::integer from public.people';
  fetch c into j;
  close c;
  call public.add_note(new.id, coalesce(outer_block.head, b));
  declare
    n text := 'shadow';
  begin
    insert into public.journal (person, what) values (new.id, n || ' ' || tg_name || tg_nargs::text || coalesce(tg_argv[0], ''));
    if new is distinct from old then
      perform 1 from public.notes x where x.person = new.id and x.kind = any (list);
    end if;
  exception
    when unique_violation or not_null_violation then
      get stacked diagnostics state = returned_sqlstate;
      raise log 'state %', state;
    when others then
      raise;
  end;
  get diagnostics j = row_count;
  if not found then
    j := 0;
  end if;
  assert j >= 0, 'never';
  while j < 1 loop
    j := j + 1;
  end loop;
  list := list || public.first_of(list);
  perform set_config('app.person', new.id::text, true);
  if current_setting('app.person') <> '' then
    insert into public.notes (person, kind, body)
    select new.id, 'listed', v from unnest(list) as v
    union all
    select new.id, 'with', w.v from (with w as (select 'w' as v) select * from w) w;
  end if;
  merge into public.notes t using (values (new.id, 'merged')) s (person, kind) on t.person = s.person and t.kind = s.kind
  when matched then update set body = 'again' when not matched then insert (person, kind, body) values (s.person, s.kind, 'new');
  return new;
end $$;
create trigger every_way after insert on auth.users for each row execute function public.every_way('argument');
create function public.tidy() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
#variable_conflict use_variable
declare
  id uuid := old.id;
begin
  delete from notes n where n.person = id;
  delete from journal using people p where p.id = journal.person and journal.person = old.id;
  if tg_op = 'DELETE' then return old; end if;
  return new;
end $$;
create trigger tidy before delete on auth.users for each row execute function public.tidy();
