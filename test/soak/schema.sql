-- What the soak syncs to, made by postgres: standard tables, a table without a foreign key, one with its own key, a
-- partitioned one, one that comes and goes, and old triggers under guard.
SELECT invite_sync.create_standard_tables();
SELECT invite_sync.add_target('public.profiles');

CREATE TABLE public.members (user_id uuid PRIMARY KEY, email text, tier text, nick text, phone text);
SELECT invite_sync.add_target('public.members', '{"email": "email", "phone": "phone", "tier": "raw_app_meta_data->>''tier''",
    "nick": "raw_user_meta_data->>''nick''"}', on_delete => 'delete');

CREATE TABLE public.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id uuid UNIQUE REFERENCES auth.users ON DELETE SET NULL,
    email text, is_active boolean NOT NULL DEFAULT true, deactivated_at timestamptz);
SELECT invite_sync.add_target('public.accounts', '{"email": "email"}', on_delete => 'deactivate');

CREATE TABLE public.parts (user_id uuid PRIMARY KEY, email text) PARTITION BY HASH (user_id);
CREATE TABLE public.parts_0 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT invite_sync.add_target('public.parts', '{"email": "email"}', on_delete => 'delete');

CREATE TABLE public.extra (id uuid PRIMARY KEY, email text, nick text);
SELECT invite_sync.add_target('public.extra');

-- a switch for what shall fail just now
CREATE TABLE public.broken (what text PRIMARY KEY);
GRANT SELECT ON public.broken TO PUBLIC;

CREATE FUNCTION public.members_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.email LIKE '%3@%' AND EXISTS (SELECT FROM public.broken AS b WHERE b.what = 'members') THEN
        RAISE EXCEPTION 'members are broken';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER members_trigger BEFORE INSERT OR UPDATE ON public.members FOR EACH ROW EXECUTE FUNCTION public.members_trigger();

CREATE TABLE public.signup_log (user_id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.signup_log (user_id) VALUES (NEW.id) ON CONFLICT (user_id) DO NOTHING;
    RETURN NEW;
END $$;
CREATE TRIGGER soak_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
SELECT invite_sync.guard_trigger('soak_created');

CREATE FUNCTION public.touch_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    one integer := 1;
BEGIN
    one := one / (SELECT 1 - pg_catalog.count(*)::integer FROM public.broken AS b WHERE b.what = 'touch');
    RETURN NEW;
END $$;
CREATE TRIGGER soak_touched BEFORE UPDATE ON auth.users FOR EACH ROW WHEN (NEW.email IS DISTINCT FROM OLD.email)
    EXECUTE FUNCTION public.touch_user();
SELECT invite_sync.guard_trigger('soak_touched');

CREATE FUNCTION public.harmless() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END $$;
CREATE TRIGGER soak_harmless AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.harmless();
