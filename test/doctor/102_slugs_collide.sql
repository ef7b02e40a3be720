-- case: slugs are made of the part before the @, or of a text for all who name no company, and are unique
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: two users can get the same value in column slug of public.organizations, which is unique, the part of the address before the @, two users can get the same value in column path of public.organizations, the same text for everybody whose metadata has nothing
-- failing-statement: INSERT INTO users (id, instance_id, aud, role, email, raw_user_meta_data, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at) VALUES ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'info@one.example', '{}', '', '', '', '', now(), now())

create table public.organizations (id uuid primary key default gen_random_uuid(), owner uuid references auth.users (id) on delete cascade,
  slug text not null unique, path text not null unique);
create function public.make_organization() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  slug text := regexp_replace(lower(coalesce(nullif(new.raw_user_meta_data ->> 'company', ''), split_part(new.email, '@', 1))), '[^a-z0-9]+', '-', 'g');
begin
  insert into public.organizations (owner, slug, path)
  values (new.id, slug, '/' || lower(replace(coalesce(new.raw_user_meta_data ->> 'company', 'My Company'), ' ', '-')));
  return new;
end $$;
create trigger make_organization after insert on auth.users for each row execute function public.make_organization();
insert into auth.users (id, instance_id, aud, role, email, raw_user_meta_data, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at)
values ('10000000-0000-4000-8000-000000000002', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'info@two.example', '{}', '', '', '', '', now(), now());
