-- breakage: an open transaction holds the rows of the users concerned
-- quarantine: update 55P03, delete 55P03
-- fk: none
-- on_delete: delete

-- @hold
SELECT FROM public.profiles FOR UPDATE;
