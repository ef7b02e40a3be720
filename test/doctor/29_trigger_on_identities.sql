-- case: a trigger on auth.identities is broken, where nobody looks
-- sqlstate: 42P01
-- phase: insert
-- expect-diagnosis: identities, linked_accounts, does not exist
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000229','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
-- failing-statement: INSERT INTO auth.identities (id, user_id, provider_id, identity_data, provider, created_at, updated_at) VALUES (gen_random_uuid(), '00000000-0000-4000-8000-000000000229', '00000000-0000-4000-8000-000000000229', '{"sub": "00000000-0000-4000-8000-000000000229"}', 'email', now(), now())

create function public.link_account() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.linked_accounts (user_id, provider) values (new.user_id, new.provider);
  return new;
end
$fn$;
create trigger link_account after insert on auth.identities for each row execute function public.link_account();
