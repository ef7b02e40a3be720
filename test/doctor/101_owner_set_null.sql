-- case: a trigger waits for a change of the column that ON DELETE SET NULL sets, or of one that a BEFORE trigger sets then, and writes to tables that are not there
-- sqlstate: 42P01
-- phase: delete
-- expect-diagnosis: relation public.handovers does not exist, relation public.orphans does not exist
-- failing-statement: DELETE FROM users WHERE id = '10000000-0000-4000-8000-000000000001'

create table public.deals (id bigint primary key, owner uuid references auth.users (id) on delete set null, stage text not null default 'open');
create function public.close_deal() returns trigger language plpgsql set search_path = '' as $$
begin
  new.stage := 'orphan';
  return new;
end $$;
create trigger close_deal before update on public.deals for each row execute function public.close_deal();
create function public.deal_changed() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if new.owner is null and old.owner is not null then
    insert into public.handovers (deal) values (new.id);
  end if;
  if new.stage = 'orphan' and old.stage <> 'orphan' then
    insert into public.orphans (deal) values (new.id);
  end if;
  return new;
end $$;
create trigger deal_changed after update on public.deals for each row execute function public.deal_changed();
insert into auth.users (id, instance_id, aud, role, email, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at)
values ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'somebody@example.com', '', '', '', '', now(), now());
insert into public.deals values (1, '10000000-0000-4000-8000-000000000001');
