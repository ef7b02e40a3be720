-- ---------------------------------------------------------------------
-- Room doctor, continued: signups, updates, logins and deletions that are tried and rolled back
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.probe_signup(kinds text[] DEFAULT NULL, isolate boolean DEFAULT false, side_effects text DEFAULT 'refuse')
    RETURNS TABLE (kind text, step text, without_trigger text, ok boolean, sqlstate text, message text, table_name text, column_name text, constraint_name text, function text, line integer, call_stack text[])
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'doctor_probe_signup';
COMMENT ON FUNCTION invite_sync.probe_signup(text[], boolean, text) IS
$doc$Try signups as the auth server makes them, and roll them back: as supabase_auth_admin (where there is none, as the owner of auth.users), under the settings of that role, with a user probe-<uuid>@probe.invalid of its own. One row per statement and one for what each COMMIT checks. ok: false, it fails; null, it was not tried or cannot be told. For a failure: SQLSTATE, message, table, column and constraint, the function and its line, and the call stack, innermost first. A step "sync" is a target, or a guarded trigger, that went to quarantine.
kinds: email (with all metadata that the triggers ask for), email_without_metadata, invited, oauth, phone, anonymous; null for all. isolate: once more without each trigger of others on the tables of schema auth, and on others where a step failed in it, named in without_trigger; it is switched off for this session alone, by no ALTER TABLE. side_effects: refuse (what a rollback does not undo, among the functions within reach, is returned as steps "side effects" with ok null, and nothing is tried; nothing more where it is met only then) or allow.
Nothing remains, but sequences that were advanced, and what was allowed. Code can ask current_setting('invite_sync.probing'). Whatever it fires runs as at a signup and cannot take another role; SET ROLE in it fails here, with ok null, and so does what the session would keep (PREPARE, DEALLOCATE, DISCARD, LOAD).
Errors: not_permitted; 55P03 while another session probes; 25006 in a read-only transaction or on a standby; 55000 where the auth server's role is a superuser or the transaction has deferred constraints waiting that fail; 22023.
Operators. Locks what a signup locks, until it is done with a kind of user, waiting at most 1 s for each lock.$doc$;

CREATE FUNCTION invite_sync.probe_update(kinds text[] DEFAULT NULL, isolate boolean DEFAULT false, side_effects text DEFAULT 'refuse')
    RETURNS TABLE (kind text, step text, without_trigger text, ok boolean, sqlstate text, message text, table_name text, column_name text, constraint_name text, function text, line integer, call_stack text[])
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 40 AS 'MODULE_PATHNAME', 'doctor_probe_update';
COMMENT ON FUNCTION invite_sync.probe_update(text[], boolean, text) IS
$doc$Try changes that users make of themselves (metadata, password, email), after a signup, and roll all of it back. Arguments, rows and errors are those of probe_signup(). Where the signup fails there is nothing to change.
Operators. Locks what these statements lock, until it is done with a kind of user, waiting at most 1 s for each lock.$doc$;

CREATE FUNCTION invite_sync.probe_login(kinds text[] DEFAULT NULL, isolate boolean DEFAULT false, side_effects text DEFAULT 'refuse')
    RETURNS TABLE (kind text, step text, without_trigger text, ok boolean, sqlstate text, message text, table_name text, column_name text, constraint_name text, function text, line integer, call_stack text[])
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 40 AS 'MODULE_PATHNAME', 'doctor_probe_login';
COMMENT ON FUNCTION invite_sync.probe_login(text[], boolean, text) IS
$doc$Try a confirmation, a login with its session and refresh token, its renewal, and a logout, after a signup, and roll all of it back. Arguments, rows and errors are those of probe_signup(). Where the signup fails nobody can log in.
Operators. Locks what these statements lock, until it is done with a kind of user, waiting at most 1 s for each lock.$doc$;

CREATE FUNCTION invite_sync.probe_delete(kinds text[] DEFAULT NULL, isolate boolean DEFAULT false, side_effects text DEFAULT 'refuse')
    RETURNS TABLE (kind text, step text, without_trigger text, ok boolean, sqlstate text, message text, table_name text, column_name text, constraint_name text, function text, line integer, call_stack text[])
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 40 AS 'MODULE_PATHNAME', 'doctor_probe_delete';
COMMENT ON FUNCTION invite_sync.probe_delete(text[], boolean, text) IS
$doc$Try a soft deletion and a deletion of a user who has just signed up, and roll all of it back. Rows that only the application writes for a user are not there to block it: doctor() finds their foreign keys. Arguments, rows and errors are those of probe_signup(). Where the signup fails there is nobody to delete.
Operators. Locks what these statements lock, until it is done with a kind of user, waiting at most 1 s for each lock.$doc$;
