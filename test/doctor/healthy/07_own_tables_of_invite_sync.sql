-- healthy: two targets of a sync, one with triggers and policies of its own

create table public.members (id uuid primary key, email text, full_name text, updated_at timestamptz);
alter table public.members enable row level security;
create policy own_row on public.members using ((select auth.uid()) = id);
create table public.member_changes (member uuid, at timestamptz default now());
create function public.note_member() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.member_changes (member) values (new.id);
  return null;
end $$;
create trigger note_member after insert or update on public.members for each row execute function public.note_member();
alter table public.members owner to postgres;
alter table public.member_changes owner to postgres;
alter function public.note_member() owner to postgres;
create table public.user_profiles (user_id uuid primary key references auth.users (id) on delete cascade, email text);
alter table public.user_profiles owner to postgres;
set role postgres;
select invite_sync.add_target('public.members');
select invite_sync.add_target('public.user_profiles');
reset role;
select invite_sync.attach();
