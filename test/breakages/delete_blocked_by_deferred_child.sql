-- breakage: the reference of the application's rows is DEFERRABLE INITIALLY DEFERRED and would fail the COMMIT
-- quarantine: delete 23503
-- fk: none
-- on_delete: delete

-- @break
CREATE TABLE public.post (author uuid CONSTRAINT post_author REFERENCES public.profiles (id) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO public.post VALUES (:'left');

-- @mend
DELETE FROM public.post;
