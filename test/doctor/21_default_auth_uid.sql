-- case: a NOT NULL column has auth.uid() for its default
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: auth.uid, null, created_by
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000121','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.workspaces (id uuid primary key default gen_random_uuid(), created_by uuid not null default auth.uid(), name text);
create function public.first_workspace() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.workspaces (name) values ('Mine');
  return new;
end
$fn$;
create trigger first_workspace after insert on auth.users for each row execute function public.first_workspace();
