-- breakage: an open transaction of the application is inserting the same rows
-- quarantine: insert 55P03
-- fk: none
-- on_delete: delete

-- @hold
INSERT INTO public.profiles (id, email) VALUES (:'new', 'mine'), (:'warm', 'mine');
