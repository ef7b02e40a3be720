-- case: an audit row about a deleted user refers to the user
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: audit, foreign key
-- failing-statement: DELETE FROM users WHERE id = '00000000-0000-4000-8000-000000000194'

INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000194','authenticated','authenticated','old.hand@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
create table public.audit (user_id uuid references auth.users (id), what text);
create function public.audit_delete() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.audit (user_id, what) values (old.id, 'deleted');
  return old;
end
$fn$;
create trigger on_audit_delete after delete on auth.users for each row execute function public.audit_delete();
