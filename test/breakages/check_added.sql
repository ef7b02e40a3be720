-- breakage: a CHECK that new addresses do not meet is added
-- quarantine: insert 23514, update 23514

-- @break
ALTER TABLE public.profiles ADD CONSTRAINT only_staff CHECK (email LIKE '%@staff.example') NOT VALID;

-- @mend
ALTER TABLE public.profiles DROP CONSTRAINT only_staff;
