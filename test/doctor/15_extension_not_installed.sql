-- case: a type of an extension that is not there
-- sqlstate: 42883
-- phase: insert
-- expect-diagnosis: unaccent, extension
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000115','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.slugs (user_id uuid primary key, slug text);
create function public.make_slug() returns trigger language plpgsql security definer set search_path = public, extensions as $fn$
begin
  insert into slugs (user_id, slug) values (new.id, lower(unaccent(coalesce(new.raw_user_meta_data ->> 'name', ''))));
  return new;
end
$fn$;
create trigger make_slug after insert on auth.users for each row execute function public.make_slug();
