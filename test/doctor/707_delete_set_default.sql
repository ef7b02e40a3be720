-- case: a column is set to its default when its user goes, and the default names nobody
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: set default, foreign key, projects
-- failing-statement: DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000707'

create table public.projects (id integer primary key, lead uuid default '00000000-0000-0000-0000-000000000000' references auth.users (id) on delete set default);
INSERT INTO auth.users (instance_id,id,aud,role,email,encrypted_password,raw_app_meta_data,raw_user_meta_data,created_at,updated_at,confirmation_token,recovery_token,email_change,email_change_token_new) VALUES ('00000000-0000-0000-0000-000000000000','00000000-0000-4000-8000-000000000707','authenticated','authenticated','new.one@case.example','x','{"provider":"email","providers":["email"]}','{}',now(),now(),'','','','');
insert into public.projects (id, lead) values (1, '00000000-0000-4000-8000-000000000707');
