-- breakage: a type is replaced by one of the same name, and a trigger that an open connection has compiled still knows the old one: XX000
-- quarantine: nothing
-- warm: insert XX000

-- @setup
CREATE TYPE public.mood AS ENUM ('new', 'old');
CREATE FUNCTION public.judge() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	mood public.mood;
BEGIN
	mood := CASE WHEN NEW.email IS NULL THEN 'old' ELSE 'new' END;
	RETURN NEW;
END $$;
CREATE TRIGGER judge BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.judge();

-- @break
DROP TYPE public.mood;
CREATE TYPE public.mood AS ENUM ('new', 'old', 'other');

-- @mend
DROP TRIGGER judge ON public.profiles;
