-- breakage: the unique index on the key is dropped, so ON CONFLICT finds no arbiter
-- quarantine: insert -|42P10, update 42P10
-- plain: nothing
-- signup: bare

-- @break
ALTER TABLE public.profiles DROP CONSTRAINT profiles_pkey;

-- @mend
ALTER TABLE public.profiles ADD PRIMARY KEY (id);
