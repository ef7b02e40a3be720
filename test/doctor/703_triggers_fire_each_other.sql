-- case: the triggers of two tables write each the other one
-- sqlstate: 54001
-- phase: insert
-- expect-diagnosis: fires itself, recursion
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000703','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.left_side (id uuid primary key, n integer);
create table public.right_side (id uuid primary key, n integer);
create function public.to_right() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.right_side set n = new.n where id = new.id;
  return new;
end
$fn$;
create function public.to_left() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.left_side set n = new.n where id = new.id;
  return new;
end
$fn$;
create trigger to_right after insert or update on public.left_side for each row execute function public.to_right();
create trigger to_left after insert or update on public.right_side for each row execute function public.to_left();
create function public.fill_both() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.right_side (id, n) values (new.id, 0);
  insert into public.left_side (id, n) values (new.id, 0);
  return new;
end
$fn$;
create trigger fill_both after insert on auth.users for each row execute function public.fill_both();
