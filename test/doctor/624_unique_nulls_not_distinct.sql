-- case: NULLs are not distinct in a unique column that nobody fills
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: unique, phone
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000625', 'authenticated', 'authenticated', 'anna@two.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, phone text, constraint one_phone unique nulls not distinct (phone));
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.profiles (id, phone) values (new.id, new.phone);
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000624', 'authenticated', 'authenticated', 'anna@one.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
