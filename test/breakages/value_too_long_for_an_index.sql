-- breakage: a name is longer than an index entry may be
-- quarantine: insert 54000
-- long_name: yes

-- @break
CREATE INDEX profiles_full_name ON public.profiles (full_name);

-- @mend
DROP INDEX public.profiles_full_name;
