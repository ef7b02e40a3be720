-- case: the trigger writes as the auth server, whom the policy asks for auth.uid()
-- sqlstate: 42501
-- phase: insert
-- expect-diagnosis: row level security, auth.uid, people
-- kind: target
-- failing-statement: INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000573', 'authenticated', 'authenticated', 'new.user@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '')

create table public.people (id uuid primary key references auth.users (id) on delete cascade, email text);
alter table public.people enable row level security;
create policy own on public.people for all using (auth.uid() = id) with check (auth.uid() = id);
grant usage on schema public to supabase_auth_admin;
grant all on public.people to supabase_auth_admin;
create function public.make_person() returns trigger
language plpgsql set search_path = '' as $body$
begin
  insert into public.people (id, email) values (new.id, new.email);
  return new;
end
$body$;
create trigger make_person after insert on auth.users for each row execute function public.make_person();
