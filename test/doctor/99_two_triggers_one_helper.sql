-- case: two triggers call one helper, which names a table that is not there
-- sqlstate: 42P01
-- phase: delete
-- expect-diagnosis: relation public.removals does not exist, with these triggers off
-- failing-statement: DELETE FROM users WHERE id = '10000000-0000-4000-8000-000000000001'

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, picture text);
create table public.messages (id bigint primary key, author uuid not null references auth.users (id) on delete cascade, picture text);
create function public.remove_picture(picture text) returns void language plpgsql security definer set search_path = '' as $$
begin
  insert into public.removals (picture) values (picture);
end $$;
create function public.remove_profile_picture() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  perform public.remove_picture(old.picture);
  return old;
end $$;
create function public.remove_message_picture() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  perform public.remove_picture(old.picture);
  return old;
end $$;
create trigger remove_picture after delete on public.profiles for each row execute function public.remove_profile_picture();
create trigger remove_picture after delete on public.messages for each row execute function public.remove_message_picture();
insert into auth.users (id, instance_id, aud, role, email, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at)
values ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'somebody@example.com', '', '', '', '', now(), now());
insert into public.profiles select id, 'a' from auth.users;
insert into public.messages select 1, id, 'b' from auth.users;
