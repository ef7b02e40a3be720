-- case: rows that go with a user belong to a role that may not use its schema
-- sqlstate: 42501
-- phase: delete
-- expect-diagnosis: owner, schema, ledger
-- kind: target
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000556'

select 'create role doctor_ledger nologin' where not exists (select from pg_roles where rolname = 'doctor_ledger') \gexec
create schema ledger;
create table ledger.entries (id bigint primary key, who uuid references auth.users (id) on delete cascade);
alter table ledger.entries owner to doctor_ledger;
INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, confirmation_token, recovery_token, email_change, email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-4000-8000-000000000556', 'authenticated', 'authenticated', 'owner@mail.example', 'x', '{"provider":"email","providers":["email"]}', '{}', now(), now(), '', '', '', '');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000556', '00000000-0000-4000-8000-000000000556', '{"sub": "00000000-0000-4000-8000-000000000556"}', 'email', now(), now());
insert into ledger.entries values (1, '00000000-0000-4000-8000-000000000556');
