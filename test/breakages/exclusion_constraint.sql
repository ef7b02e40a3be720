-- breakage: an exclusion constraint refuses a second row of one name
-- quarantine: insert 23P01
-- fk: none
-- on_delete: delete

-- @break
INSERT INTO public.profiles (id, full_name) VALUES ('e0000000-0000-4000-8000-000000000001', 'Somebody New');
ALTER TABLE public.profiles ADD CONSTRAINT one_of_a_name EXCLUDE USING btree (full_name WITH =)
	WHERE (id > '80000000-0000-0000-0000-000000000000');

-- @mend
ALTER TABLE public.profiles DROP CONSTRAINT one_of_a_name;
DELETE FROM public.profiles WHERE id::text LIKE 'e0000000%';
