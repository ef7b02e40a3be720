-- case: users were moved with their refresh tokens, whose sequence knows nothing of it
-- sqlstate: 23505
-- phase: update
-- expect-diagnosis: refresh_tokens, sequence, behind
-- failing-statement: INSERT INTO auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, session_id) VALUES ('00000000-0000-0000-0000-000000000000', 'next', '00000000-0000-4000-8000-000000000708', false, now(), now(), '00000000-0000-4000-8000-000000000708')

INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000708','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
insert into auth.sessions (id, user_id, created_at, updated_at, aal) values ('00000000-0000-4000-8000-000000000708', '00000000-0000-4000-8000-000000000708', now(), now(), 'aal1');
insert into auth.refresh_tokens (id, instance_id, token, user_id, revoked, created_at, updated_at, session_id)
select g, '00000000-0000-0000-0000-000000000000', 'moved' || g, '00000000-0000-4000-8000-000000000708', false, now(), now(), '00000000-0000-4000-8000-000000000708' from generate_series(1, 3) as g;
