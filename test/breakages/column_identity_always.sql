-- breakage: a mapped column becomes GENERATED ALWAYS AS IDENTITY, and is then left alone; nothing breaks
-- quarantine: nothing
-- plain: insert 428C9, update 428C9
-- mapping: {"email": "email", "joined": "extract(year from created_at)::int"}
-- compare: email

-- @setup
ALTER TABLE public.profiles ADD COLUMN joined integer;

-- @break
UPDATE public.profiles SET joined = 2026 WHERE joined IS NULL;
ALTER TABLE public.profiles ALTER COLUMN joined SET NOT NULL;
ALTER TABLE public.profiles ALTER COLUMN joined ADD GENERATED ALWAYS AS IDENTITY;

-- @mend plain
ALTER TABLE public.profiles ALTER COLUMN joined DROP IDENTITY;
