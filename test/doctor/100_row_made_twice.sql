-- case: two functions, and one function in two triggers, make the same row; and what a trigger on INSERT OR UPDATE makes is there at the UPDATE
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: the row of public.profiles for a new user is made twice, profiles_pkey, the row of public.members for a new user is made twice, members_tenant_user_id_key, a row of public.settings is made again with each UPDATE of the user, on conflict
-- failing-statement: WITH made AS (INSERT INTO users (id, instance_id, aud, role, email, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at) VALUES ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'a@example.com', '', '', '', '', now(), now()) RETURNING id) UPDATE users SET last_sign_in_at = now() WHERE id <> (SELECT id FROM made)

insert into auth.users (id, instance_id, aud, role, email, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at)
values ('10000000-0000-4000-8000-000000000002', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'b@example.com', '', '', '', '', now(), now());
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade, email text);
create table public.members (tenant text not null, user_id text not null, unique (tenant, user_id));
create table public.settings (user_id uuid primary key references auth.users (id) on delete cascade);
insert into public.settings select id from auth.users;

create function public.create_profile() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  new_id uuid := new.id;
begin
  insert into public.profiles (id, email) values (new_id, new.email);
  return new;
end $$;
create function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id, email)
  values (new.id, new.email); -- the profile
  return new;
end $$;
create function public.join_tenant() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.members values ('default', new.id);
  return new;
end $$;
create function public.make_settings() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.settings (user_id) values (new.id);
  return new;
end $$;
create trigger create_profile after insert on auth.users for each row execute function public.create_profile();
create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user();
create trigger join_tenant after insert on auth.users for each row execute function public.join_tenant();
create trigger on_auth_user_created_join after insert on auth.users for each row execute function public.join_tenant();
create trigger on_auth_user_saved after insert or update on auth.users for each row execute function public.make_settings();
