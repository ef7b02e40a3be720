-- case: FOREACH goes over metadata that is not there
-- sqlstate: 22004
-- phase: insert
-- expect-diagnosis: foreach, null
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000157','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.tags (u uuid, t text);
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  t text;
begin
  foreach t in array string_to_array(new.raw_user_meta_data ->> 'tags', ',') loop
    insert into public.tags values (new.id, t);
  end loop;
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
