-- case: everybody without a nickname gets the same one, which is unique
-- sqlstate: 23505
-- phase: insert
-- expect-diagnosis: unique, nickname
-- failing-statement: INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000128','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','')
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000228','authenticated','authenticated','was.here@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');

create table public.players (id uuid primary key, nickname text not null unique);
create function public.add_player() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public.players (id, nickname) values (new.id, coalesce(new.raw_user_meta_data ->> 'nickname', 'anonymous'));
  return new;
end
$fn$;
create trigger add_player after insert on auth.users for each row execute function public.add_player();
insert into public.players values ('00000000-0000-4000-8000-000000000228', 'anonymous');
