-- breakage: the target references a row that an open transaction holds
-- quarantine: insert 55P03

-- @setup
CREATE TABLE public.tenant (id int PRIMARY KEY);
INSERT INTO public.tenant VALUES (1);
ALTER TABLE public.profiles ADD COLUMN tenant int DEFAULT 1 REFERENCES public.tenant (id);

-- @hold
SELECT FROM public.tenant FOR UPDATE;
