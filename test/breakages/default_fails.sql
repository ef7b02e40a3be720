-- breakage: a column default divides by zero
-- quarantine: insert 22012

-- @break
CREATE TABLE public.shard (id int);
CREATE FUNCTION public.pick_shard() RETURNS int LANGUAGE sql AS 'SELECT 7 % count(*)::int FROM public.shard';
ALTER TABLE public.profiles ADD COLUMN shard int;
ALTER TABLE public.profiles ALTER COLUMN shard SET DEFAULT public.pick_shard();

-- @mend
INSERT INTO public.shard VALUES (1);
