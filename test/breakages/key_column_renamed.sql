-- breakage: the key column is renamed
-- quarantine: insert 42703, update 42703

-- @break
ALTER TABLE public.profiles RENAME COLUMN id TO user_id;

-- @mend
ALTER TABLE public.profiles RENAME COLUMN user_id TO id;
