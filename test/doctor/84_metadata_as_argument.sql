-- case: a function in SQL puts metadata that it was called with into a NOT NULL column
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: name, not null
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,phone,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000184','authenticated','authenticated','new.one@case.example',NULL,'x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.profiles (id uuid primary key, name text not null);
create function public.mk(u uuid, n text) returns void language sql as $$ insert into public.profiles (id, name) values (u, n) $$;
create function public.welcome() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  perform public.mk(new.id, new.raw_user_meta_data ->> 'name');
  return new;
end
$fn$;
create trigger on_welcome after insert on auth.users for each row execute function public.welcome();
