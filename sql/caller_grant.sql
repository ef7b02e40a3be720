-- ---------------------------------------------------------------------
-- Room caller: rights on settings
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.grant_settings(role name, give boolean) RETURNS boolean
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'caller_grant_settings';
COMMENT ON FUNCTION invite_sync.grant_settings(name, boolean) IS
    'Let a role SET the settings of the extension, or with give => false not any more; runs as the caller, who must be a superuser. Internal.';
