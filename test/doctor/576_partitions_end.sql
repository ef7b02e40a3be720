-- case: the newest partition ended long ago
-- sqlstate: 23514
-- phase: insert
-- expect-diagnosis: partition, visits
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000576', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.visits (who uuid not null, at timestamptz not null default now()) partition by range (at);
create table public.visits_2020 partition of public.visits for values from ('2020-01-01') to ('2021-01-01');
create function public.note_visit() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.visits (who) values (new.id);
  return new;
end
$body$;

create trigger note_visit
  after insert on auth.users
  for each row execute function public.note_visit();
