-- breakage: the target's trigger writes a third table that has a deferred constraint
-- quarantine: insert 42501
-- plain: nothing

-- @break
CREATE TABLE public.plan (name text PRIMARY KEY);
INSERT INTO public.plan VALUES ('free');
CREATE TABLE public.subscription (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	plan text CONSTRAINT subscription_plan REFERENCES public.plan DEFERRABLE INITIALLY DEFERRED
);
CREATE FUNCTION public.subscribe() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.subscription (plan) VALUES ('free');
	RETURN NULL;
END $$;
CREATE TRIGGER subscribe AFTER INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.subscribe();

-- @mend
ALTER TABLE public.subscription ALTER CONSTRAINT subscription_plan NOT DEFERRABLE;
