-- case: the trigger on UPDATE sets a NOT NULL column to what metadata does not have
-- sqlstate: 23502
-- phase: update
-- expect-diagnosis: name, not null
-- failing-statement: UPDATE users SET email = 'b@case.example' WHERE id = '00000000-0000-4000-8000-000000000888'

INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000888','authenticated','authenticated','old.hand@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
create table public.profiles (id uuid primary key default '00000000-0000-4000-8000-000000000888', name text not null); insert into public.profiles values (default,'x');
create function public.push() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  update public.profiles set name = new.raw_user_meta_data ->> 'name' where id = new.id;
  return new;
end
$fn$;
create trigger on_push after update on auth.users for each row execute function public.push();
