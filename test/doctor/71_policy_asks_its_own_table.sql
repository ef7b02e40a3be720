-- case: a policy asks the table that it belongs to
-- sqlstate: 42P17
-- phase: insert
-- expect-diagnosis: infinite recursion, policy, members
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000171','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.members (user_id uuid, org uuid); alter table public.members enable row level security; grant all on public.members to supabase_auth_admin; grant usage on schema public to supabase_auth_admin;
create policy p on public.members for all using (exists (select from public.members m where m.user_id = auth.uid()));
create function public.welcome() returns trigger language plpgsql set search_path = '' as $fn$
begin
  update public.members set org = null where user_id = new.id;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
