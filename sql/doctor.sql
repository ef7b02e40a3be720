-- ---------------------------------------------------------------------
-- Room doctor: why signups, updates, logins or deletions fail or would fail
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.doctor(probe boolean DEFAULT false, auth_settings jsonb DEFAULT NULL)
    RETURNS TABLE (severity text, area text, object text, finding text, detail text, fix text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'doctor';
COMMENT ON FUNCTION invite_sync.doctor(boolean, jsonb) IS
$doc$Why do signups, updates, logins or deletions fail, or would fail? The triggers on auth.users and all that they reach are analysed without running any of it. severity: error (it fails, for everybody or for some), warning (it may), info (on purpose, or not looked at). finding: the cause; detail: where, and what helps; fix: SQL that runs as it stands, never run by us, or null. probe: also try a signup, an update, a login and a deletion with a user of their own, all rolled back. auth_settings: what the auth server answers to GET /settings, to be judged too.
Ids only, no addresses and no metadata. What belongs to a superuser is analysed only when a superuser asks. Error: not_permitted.
Operators. Without probe it writes nothing, works in READ ONLY transactions and on a standby, and locks what it looks at in ACCESS SHARE mode.$doc$;
