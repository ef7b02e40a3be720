-- ---------------------------------------------------------------------
-- Room doctor, continued: what works and still should not be so
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.audit(area text DEFAULT NULL, auth_settings jsonb DEFAULT NULL)
    RETURNS TABLE (severity text, area text, check_name text, object text, finding text, detail text, fix text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 50 AS 'MODULE_PATHNAME', 'doctor_audit';
COMMENT ON FUNCTION invite_sync.audit(text, jsonb) IS
$doc$Is what works as it should be? area: auth_flow, tenant_isolation, invitation_security, permission_model, session_management or enterprise_readiness; NULL: all. Each check says in a row of its own what it looked at (finding 'looked at', object NULL), or that it did not (finding 'not looked at'), and then what it found. severity: error (a hole), warning (a weakness), info. fix: SQL that runs as it stands, never run by us, or NULL.
Ids only, no addresses and no values. Policies and bodies are read as text, none of it is planned or run. Settings of the auth server are not in the database: where they matter, what they led to is judged, and the settings themselves where auth_settings says them: its environment (GOTRUE_JWT_EXP, ...) or what is told of its configuration (jwt_exp, ...), as an object.
Operators. Errors: not_permitted; 22023 for an unknown area, and for auth_settings that is no object. Writes nothing, works in READ ONLY transactions and on a standby, and locks what it reads in ACCESS SHARE mode.$doc$;
