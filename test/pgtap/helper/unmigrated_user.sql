-- For your own pgTAP tests: a user who has not migrated, inside the test's transaction, as an operator or service_role.
--
--   \ir helper/unmigrated_user.sql
--   SELECT pg_temp.unmigrated_user('user_2abc');            -- the auth user's id
--   SELECT pg_temp.act_as_external('user_2abc');            -- from here on: a request with the other provider's token
--   SELECT invite_sync.current_user_id() AS who \gset      -- pgTAP's own tables are not that role's: keep what it says
--   RESET ROLE;
--
-- The functions are temporary: nothing is left behind.

CREATE FUNCTION pg_temp.unmigrated_user(external_id text, email text DEFAULT NULL, provider text DEFAULT 'clerk') RETURNS uuid
    LANGUAGE plpgsql AS $$
DECLARE
    made record;
BEGIN
    SELECT * INTO made FROM invite_sync.import_users(jsonb_build_array(jsonb_build_object(
        'email', coalesce(email, md5(external_id) || '@example.com'), 'provider', provider, 'external_id', external_id)));
    IF made.status IS DISTINCT FROM 'created' THEN
        RAISE EXCEPTION 'no unmigrated user could be made: %', coalesce(made.reason, made.status);
    END IF;
    RETURN made.user_id;
END
$$;

CREATE FUNCTION pg_temp.act_as_external(external_id text) RETURNS text
    LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', jsonb_build_object('sub', external_id, 'role', 'authenticated')::text, true)
        || set_config('role', 'authenticated', true)
$$;
