-- case: a trigger of the application's table refuses whoever is not logged in
-- sqlstate: P0001
-- phase: insert
-- expect-diagnosis: auth.uid, check_writer, refuses
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000122','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, email text);
create function public.check_writer() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  if (select auth.uid()) is null or auth.uid() <> new.id then
    raise exception 'log in first';
  end if;
  return new;
end
$fn$;
create trigger check_writer before insert on public.profiles for each row execute function public.check_writer();
create function public.make_profile() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.profiles (id, email) values (new.id, new.email);
  return new;
end
$fn$;
create trigger make_profile after insert on auth.users for each row execute function public.make_profile();
