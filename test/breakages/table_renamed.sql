-- breakage: the target is renamed; the registry follows, nothing breaks
-- quarantine: nothing
-- plain: insert 42P01, update 42P01
-- target_after: public.people

-- @break
ALTER TABLE public.profiles RENAME TO people;

-- @mend plain
ALTER TABLE public.people RENAME TO profiles;
