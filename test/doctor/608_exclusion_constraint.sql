-- case: two users collide on an exclusion constraint
-- sqlstate: 23P01
-- phase: insert
-- expect-diagnosis: exclu, seats
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000609', 'authenticated', 'authenticated', 'anna@two.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.seats (user_id uuid primary key, period tstzrange not null default tstzrange(now(), null), exclude using gist (period with &&));
create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.seats (user_id) values (new.id);
  return new;
end
$body$;

create trigger make_profile
  after insert on auth.users
  for each row execute function public.make_profile();
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000608', 'authenticated', 'authenticated', 'anna@one.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
