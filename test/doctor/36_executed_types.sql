-- case: what EXECUTE is given by USING does not fit the column
-- sqlstate: 42804
-- phase: insert
-- expect-diagnosis: member_id, bigint, uuid
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000136','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.members (member_id bigint primary key, email text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  execute 'insert into public.members (member_id, email) values ($1, $2)' using new.id, new.email;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
