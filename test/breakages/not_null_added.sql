-- breakage: a NOT NULL column without default is added
-- quarantine: insert 23502

-- @break
ALTER TABLE public.profiles ADD COLUMN plan text NOT NULL DEFAULT 'free';
ALTER TABLE public.profiles ALTER COLUMN plan DROP DEFAULT;

-- @mend
ALTER TABLE public.profiles ALTER COLUMN plan SET DEFAULT 'free';
