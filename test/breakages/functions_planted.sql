-- breakage: functions, operators and tables that shadow what our statements name are planted in public and in the auth server's session; nobody calls them
-- quarantine: nothing
-- plain: nothing
-- mapping: {"email": "lower(email)", "full_name": "coalesce(raw_user_meta_data->>'full_name', 'none')"}

-- @break
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen'::text $$;
CREATE FUNCTION public.stolen(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION public.stolen(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION public.stolen(jsonb, text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.stolen);
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.stolen);
CREATE OPERATOR public.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = public.stolen);
CREATE TABLE public.users (id uuid, email text);
CREATE TABLE public.source_users (id uuid, email text);
CREATE TABLE public.pg_class (oid int, relname text);
CREATE DOMAIN public.text AS varchar CHECK (VALUE = 'stolen');

-- @auth
CREATE TEMPORARY TABLE source_users (id uuid, email text);
CREATE TEMPORARY TABLE profiles (id uuid, email text);
CREATE TEMPORARY TABLE pg_trigger (oid int, tgname text);
