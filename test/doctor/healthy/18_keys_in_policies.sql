-- healthy: policies and conditions ask for what the trigger reads of metadata, where PostgreSQL shows each key with a type of its own

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, is_admin boolean not null default false, age integer, check (age is null or age > 0));
alter table public.profiles enable row level security;
create policy read_all on public.profiles for select to authenticated using ((auth.jwt() ->> 'is_admin') = 'true' and coalesce((auth.jwt() ->> 'age')::integer, 0) >= 0);
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id, is_admin, age)
  values (new.id, coalesce((new.raw_user_meta_data ->> 'is_admin')::boolean, false), case when new.raw_user_meta_data ->> 'age' ~ '^[0-9]{1,3}$' then (new.raw_user_meta_data ->> 'age')::integer end);
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users for each row when (new.raw_user_meta_data ->> 'is_admin' is distinct from 'never') execute function public.handle_new_user();
