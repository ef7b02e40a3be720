-- breakage: a default calls a function of an extension that is not installed
-- quarantine: insert 3F000

-- @break
CREATE FUNCTION public.announce() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN net.http_post('https://hooks.example.com/new-user');
END $$;
ALTER TABLE public.profiles ADD COLUMN request bigint;
ALTER TABLE public.profiles ALTER COLUMN request SET DEFAULT public.announce();

-- @mend
ALTER TABLE public.profiles ALTER COLUMN request DROP DEFAULT;
