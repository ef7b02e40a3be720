-- breakage: a mapped column is replaced by a generated one, which is then left alone; nothing breaks
-- quarantine: nothing
-- plain: insert 428C9, update 428C9
-- compare: email, created_at

-- @break
ALTER TABLE public.profiles DROP COLUMN full_name;
ALTER TABLE public.profiles ADD COLUMN full_name text GENERATED ALWAYS AS (upper(email)) STORED;

-- @mend plain
ALTER TABLE public.profiles ALTER COLUMN full_name DROP EXPRESSION;

-- @finally
SELECT 'not generated: ' || id FROM public.profiles WHERE full_name IS DISTINCT FROM upper(email);
