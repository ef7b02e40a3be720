-- case: a column that the trigger writes was renamed
-- sqlstate: 42703
-- phase: insert
-- expect-diagnosis: display_name, members, column
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000101','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.members (id uuid primary key references auth.users (id) on delete cascade, shown_name text);
create function public.add_member_row() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.members (id, display_name) values (new.id, new.raw_user_meta_data ->> 'name');
  return new;
end
$fn$;
create trigger add_member_row after insert on auth.users for each row execute function public.add_member_row();
