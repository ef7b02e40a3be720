-- case: rows were copied with their numbers, and the sequence knows nothing of it
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: sequence, behind, accounts
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000578', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.accounts (id bigserial primary key, who uuid references auth.users (id) on delete cascade);
insert into public.accounts (id) values (1), (2), (3);
create function public.make_account() returns trigger
language plpgsql security definer set search_path = '' as $body$
begin
  insert into public.accounts (who) values (new.id);
  return new;
end
$body$;

create trigger make_account
  after insert on auth.users
  for each row execute function public.make_account();
