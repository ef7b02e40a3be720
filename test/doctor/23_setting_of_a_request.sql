-- case: a trigger reads a setting that only an API request has
-- sqlstate: 42704
-- phase: insert
-- expect-diagnosis: request.jwt.claim.sub, current_setting
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000123','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.actions (actor text, subject uuid);
create function public.who_did_it() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.actions (actor, subject) values (current_setting('request.jwt.claim.sub'), new.id);
  return new;
end
$fn$;
create trigger who_did_it after insert on auth.users for each row execute function public.who_did_it();
