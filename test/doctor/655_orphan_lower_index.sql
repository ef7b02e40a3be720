-- case: an orphan by user_id holds the address that is invited again
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: orphan, members
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000655', 'authenticated', 'authenticated', 'back@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.members (id bigint generated always as identity primary key, user_id uuid, email text not null);
create unique index on public.members (lower(email));
insert into public.members (user_id, email) values ('00000000-0000-4000-8000-000000006551', 'back@mail.example');
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.members (user_id, email) values (new.id, new.email);
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
