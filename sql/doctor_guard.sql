-- ---------------------------------------------------------------------
-- Room doctor, continued: DDL that breaks a sync is told, or refused
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.ddl_begins() RETURNS event_trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'doctor_guard_start';
COMMENT ON FUNCTION invite_sync.ddl_begins() IS
    'Event trigger: notes which syncs analyse before a command that could break one. Internal: nobody may execute it.';

CREATE FUNCTION invite_sync.ddl_ends() RETURNS event_trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'doctor_guard_end';
COMMENT ON FUNCTION invite_sync.ddl_ends() IS
$doc$Event trigger: warns of a command that has turned a sync which analysed before it into one that does not, or refuses it (2BP01), by invite_sync.ddl_check: off, warn, probe (warns also where a probed signup worked before and fails after; as warn where a probe cannot be made) or refuse. Only what the command itself breaks counts. Nothing is looked at while the triggers are not on auth.users, in a binary upgrade, during CREATE, ALTER and DROP EXTENSION, for DDL of the auth server's role on its own schema, and while a dump is restored.
Its event triggers are disabled until a superuser enables them: where the library is missing (a standby without the package that is promoted), an enabled one would make every DDL command fail, also those that help.
Internal: nobody may execute it. Runs as who issues the command, whom it gives no right; waits for no lock.$doc$;

CREATE EVENT TRIGGER invite_sync_ddl_begins ON ddl_command_start EXECUTE FUNCTION invite_sync.ddl_begins();
COMMENT ON EVENT TRIGGER invite_sync_ddl_begins IS 'invite_sync: which syncs work before a command';
CREATE EVENT TRIGGER invite_sync_ddl_ends ON ddl_command_end EXECUTE FUNCTION invite_sync.ddl_ends();
COMMENT ON EVENT TRIGGER invite_sync_ddl_ends IS 'invite_sync: which of them it breaks';

-- Enabled by who wants them: a server that cannot load the library could not do any DDL.
ALTER EVENT TRIGGER invite_sync_ddl_begins DISABLE;
ALTER EVENT TRIGGER invite_sync_ddl_ends DISABLE;
