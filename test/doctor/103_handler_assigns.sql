-- case: a cast that is looked after by a handler gives null where metadata has nothing, and the column is NOT NULL
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: a value that may be null goes into column role of public.profiles, not null, metadata has no field "role"
-- failing-statement: INSERT INTO users (id, instance_id, aud, role, email, raw_user_meta_data, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at) VALUES ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'a@example.com', '{}', '', '', '', '', now(), now())

create type public.user_role as enum ('staff', 'boss');
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, role public.user_role not null);
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  user_role public.user_role;
begin
  begin
    user_role := (new.raw_user_meta_data ->> 'role')::public.user_role;
  exception when invalid_text_representation then
    user_role := 'staff';
  end;
  insert into public.profiles (id, role) values (new.id, user_role);
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user();
