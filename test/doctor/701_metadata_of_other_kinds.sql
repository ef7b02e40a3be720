-- case: what is sent as metadata is no array, number, time zone or base64
-- sqlstate: 22P02 22023
-- phase: insert
-- expect-diagnosis: interests, malformed array literal, age, integer, tz, time zone, avatar, base64
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000701','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{"interests":["jazz","go"],"age":"","tz":"","avatar":"data:image/png;base64,AAAA"}',now(),now(),'','','','')

create table public.interest (id uuid primary key references auth.users (id) on delete cascade, all_of_them text[]);
create function public.keep_interest() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.interest values (new.id, (new.raw_user_meta_data ->> 'interests')::text[]);
  return new;
end
$fn$;
create trigger keep_interest after insert on auth.users for each row execute function public.keep_interest();
create table public.age (id uuid primary key references auth.users (id) on delete cascade, years integer);
create function public.keep_age() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.age values (new.id, coalesce(new.raw_user_meta_data ->> 'age', '0')::integer);
  return new;
end
$fn$;
create trigger keep_age after insert on auth.users for each row execute function public.keep_age();
create table public.clock (id uuid primary key references auth.users (id) on delete cascade, joined timestamp);
create function public.keep_clock() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.clock values (new.id, now() at time zone (new.raw_user_meta_data ->> 'tz'));
  return new;
end
$fn$;
create trigger keep_clock after insert on auth.users for each row execute function public.keep_clock();
create table public.picture (id uuid primary key references auth.users (id) on delete cascade, bytes bytea);
create function public.keep_picture() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.picture values (new.id, decode(new.raw_user_meta_data ->> 'avatar', 'base64'));
  return new;
end
$fn$;
create trigger keep_picture after insert on auth.users for each row execute function public.keep_picture();
