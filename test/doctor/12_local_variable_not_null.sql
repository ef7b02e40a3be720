-- case: metadata goes into a NOT NULL column by way of a variable
-- sqlstate: 23502
-- phase: insert
-- expect-diagnosis: full_name, not null, cards
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000112','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')

create table public.cards (user_id uuid primary key, full_name text not null);
create function public.make_card() returns trigger language plpgsql security definer set search_path = '' as $fn$
declare
  shown text;
begin
  shown := new.raw_user_meta_data ->> 'full_name';
  insert into public.cards (user_id, full_name) values (new.id, shown);
  return new;
end
$fn$;
create trigger make_card after insert on auth.users for each row execute function public.make_card();
