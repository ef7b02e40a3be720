-- ---------------------------------------------------------------------
-- Room doctor, continued: DDL that breaks a sync is told, or refused
-- ---------------------------------------------------------------------

-- Who issues DDL need have no right here, and the library may be missing: src/doctor_guard.c says why it is a dictionary.
CREATE FUNCTION invite_sync.ddl_moment(internal, internal, internal, internal) RETURNS internal
    LANGUAGE C AS 'MODULE_PATHNAME', 'doctor_guard_moment';
COMMENT ON FUNCTION invite_sync.ddl_moment(internal, internal, internal, internal) IS
    'What the event triggers ask, by way of the dictionary ddl_guard: a command begins, or ends. Internal: SQL cannot call it.';

CREATE TEXT SEARCH TEMPLATE invite_sync.ddl_guard (LEXIZE = invite_sync.ddl_moment);
COMMENT ON TEXT SEARCH TEMPLATE invite_sync.ddl_guard IS 'invite_sync: no template for texts, but the way to the library for its event triggers';
CREATE TEXT SEARCH DICTIONARY invite_sync.ddl_guard (TEMPLATE = invite_sync.ddl_guard);
ALTER TEXT SEARCH DICTIONARY invite_sync.ddl_guard OWNER TO invite_sync_owner;
COMMENT ON TEXT SEARCH DICTIONARY invite_sync.ddl_guard IS 'invite_sync: no dictionary for texts, but the way to the library for its event triggers';

CREATE FUNCTION invite_sync.ddl_begins() RETURNS event_trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    guard oid;
BEGIN
    BEGIN
        SELECT d.oid INTO guard FROM pg_ts_dict AS d
         WHERE d.dictname = 'ddl_guard' AND d.dictnamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'invite_sync');
        -- it knows no word: being called is all
        IF ts_lexize(guard, 'load') IS NOT NULL THEN
            RETURN;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF current_setting('invite_sync.ddl_check', true) IS DISTINCT FROM 'off' THEN
            RAISE WARNING 'the DDL guard of invite_sync cannot look at this command' USING
                DETAIL = format('SQLSTATE %s: %s.', SQLSTATE, SQLERRM),
                HINT = 'Install the package of invite_sync on this server. SET invite_sync.ddl_check = off; silences this warning.';
        END IF;
        RETURN;
    END;
    IF ts_lexize(guard, 'begins ' || tg_tag) IS NOT NULL THEN
        RETURN;
    END IF;
END
$$;
COMMENT ON FUNCTION invite_sync.ddl_begins() IS
    'Event trigger: has the library note which syncs analyse before a command that could break one. Where the library cannot be loaded that is a WARNING, and the command goes on. Internal: nobody may execute it.';

CREATE FUNCTION invite_sync.ddl_ends() RETURNS event_trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    guard oid;
BEGIN
    -- a library that was not loaded watches nothing, whatever somebody has set
    IF current_setting('invite_sync.ddl_watched', true) IS DISTINCT FROM 'on' THEN
        RETURN;
    END IF;
    BEGIN
        SELECT d.oid INTO guard FROM pg_ts_dict AS d
         WHERE d.dictname = 'ddl_guard' AND d.dictnamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'invite_sync');
        -- it knows no word: being called is all
        IF ts_lexize(guard, 'load') IS NOT NULL THEN
            RETURN;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN;
    END;
    IF ts_lexize(guard, 'ends ' || tg_tag) IS NOT NULL THEN
        RETURN;
    END IF;
END
$$;
COMMENT ON FUNCTION invite_sync.ddl_ends() IS
$doc$Event trigger: warns of a command that has turned a sync which analysed before it into one that does not, or refuses it (2BP01), by invite_sync.ddl_check: off, warn, probe (warns also where a probed signup worked before and fails after; as warn where a probe cannot be made) or refuse. Only what the command itself breaks counts; what it has committed on its way (DROP INDEX CONCURRENTLY) can only be warned of. Nothing is looked at while the triggers are not on auth.users, in a binary upgrade, during CREATE, ALTER and DROP EXTENSION, for DDL of the auth server's role on its own schema, while a dump is restored, and where the library cannot be loaded, of which ddl_begins() warns.
Internal: nobody may execute it. Runs as who issues the command, whom it gives no right; waits for no lock.$doc$;

CREATE EVENT TRIGGER invite_sync_ddl_begins ON ddl_command_start EXECUTE FUNCTION invite_sync.ddl_begins();
COMMENT ON EVENT TRIGGER invite_sync_ddl_begins IS 'invite_sync: which syncs work before a command';
CREATE EVENT TRIGGER invite_sync_ddl_ends ON ddl_command_end EXECUTE FUNCTION invite_sync.ddl_ends();
COMMENT ON EVENT TRIGGER invite_sync_ddl_ends IS 'invite_sync: which of them it breaks';
