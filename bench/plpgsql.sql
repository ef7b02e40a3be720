-- What people write by hand, for the first :targets targets: a row trigger that must not fail a signup.
SELECT format($sql$
    CREATE FUNCTION public.handle_new_user_%1$s() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
        AS $f$
    BEGIN
        INSERT INTO public.%1$I (id, email, full_name, avatar_url, created_at)
        VALUES (NEW.id, NEW.email, NEW.raw_user_meta_data ->> 'full_name', NEW.raw_user_meta_data ->> 'avatar_url',
                NEW.created_at);
        RETURN NEW;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'no row in %1$s for %%: %%', NEW.id, SQLERRM;
        RETURN NEW;
    END
    $f$;
    ALTER FUNCTION public.handle_new_user_%1$s() OWNER TO postgres;
    CREATE TRIGGER on_auth_user_created_%1$s AFTER INSERT ON auth.users
        FOR EACH ROW EXECUTE FUNCTION public.handle_new_user_%1$s()
    $sql$, t.name)
  FROM unnest(ARRAY['profiles', 'accounts', 'members']) WITH ORDINALITY AS t (name, number)
 WHERE t.number <= :targets \gexec
