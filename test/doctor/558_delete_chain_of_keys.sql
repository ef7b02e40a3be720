-- case: neither the key of the profile nor those of what belongs to it go with the user
-- sqlstate: 23503
-- phase: delete
-- expect-diagnosis: public.posts, public.comments, without ON DELETE CASCADE blocks the deletion, reached by way of public.profiles (once its own key is mended)
-- failing-statement: DELETE FROM users WHERE id = '10000000-0000-4000-8000-000000000001'

create table public.profiles (id uuid primary key references auth.users (id));
create table public.posts (id bigint primary key, author uuid not null references public.profiles (id));
create table public.comments (id bigint primary key, post bigint references public.posts (id));
insert into auth.users (id, instance_id, aud, role, email, confirmation_token, recovery_token, email_change_token_new, email_change, created_at, updated_at)
values ('10000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', 'somebody@example.com', '', '', '', '', now(), now());
insert into public.profiles select id from auth.users;
insert into public.posts values (1, '10000000-0000-4000-8000-000000000001');
insert into public.comments values (1, 1);
