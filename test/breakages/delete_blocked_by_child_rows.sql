-- breakage: rows of the application reference the row of the target that has to go
-- quarantine: delete 23503
-- fk: none
-- on_delete: delete

-- @break
CREATE TABLE public.post (author uuid CONSTRAINT post_author REFERENCES public.profiles (id));
INSERT INTO public.post VALUES (:'left');

-- @mend
DELETE FROM public.post;
