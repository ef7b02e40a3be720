-- breakage: a deferred foreign key that holds; restricted operation must not turn it into a failure
-- quarantine: nothing
-- plain: nothing
-- on_delete: delete
-- fk: REFERENCES auth.users (id) DEFERRABLE INITIALLY DEFERRED
-- order: both

-- @break
ALTER TABLE public.profiles ADD COLUMN region text NOT NULL DEFAULT 'eu';
CREATE TABLE public.region (name text PRIMARY KEY);
INSERT INTO public.region VALUES ('eu');
ALTER TABLE public.profiles ADD FOREIGN KEY (region) REFERENCES public.region DEFERRABLE INITIALLY DEFERRED;
