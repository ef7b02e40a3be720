-- case: a foreign key is ON DELETE RESTRICT
-- sqlstate: 23503 23001
-- phase: delete
-- expect-diagnosis: foreign key, orders, cascade
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000553'

create table public.orders (id bigint generated always as identity primary key, buyer uuid references auth.users (id) on delete restrict);
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000553', 'authenticated', 'authenticated', 'buyer@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000553', '00000000-0000-4000-8000-000000000553', '{"sub": "00000000-0000-4000-8000-000000000553"}', 'email', now(), now());
insert into public.orders (buyer) values ('00000000-0000-4000-8000-000000000553');
