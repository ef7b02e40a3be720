-- breakage: a mapped column is renamed
-- quarantine: insert 42703, update 42703

-- @break
ALTER TABLE public.profiles RENAME COLUMN email TO email_address;

-- @mend
ALTER TABLE public.profiles RENAME COLUMN email_address TO email;
