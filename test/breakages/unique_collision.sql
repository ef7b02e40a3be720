-- breakage: the application made a row with the same email in a unique column
-- quarantine: insert 23505, update 23505
-- fk: none
-- on_delete: delete

-- @break
ALTER TABLE public.profiles ADD CONSTRAINT profiles_email_key UNIQUE (email);
INSERT INTO public.profiles (id, email) VALUES
	('e0000000-0000-4000-8000-000000000001', :'new_email'),
	('e0000000-0000-4000-8000-000000000002', :'warm_email'),
	('e0000000-0000-4000-8000-000000000003', :'changed_email');

-- @mend
DELETE FROM public.profiles WHERE id::text LIKE 'e0000000%';
