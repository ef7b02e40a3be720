-- ---------------------------------------------------------------------
-- Room caller: who is asking
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.lineage (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
);
COMMENT ON TABLE invite_sync.lineage IS
    'What this database''s files descend from. pg_upgrade, copies by CREATE DATABASE ... TEMPLATE, standbys and recovery keep it, and the numbers of tables and roles with it; pg_dump, which keeps no number, leaves it out. No personal columns.';
COMMENT ON COLUMN invite_sync.lineage.only_row IS 'there is one row';
COMMENT ON COLUMN invite_sync.lineage.id IS 'made by CREATE EXTENSION; what registered_in holds where a number is true';
ALTER TABLE invite_sync.lineage ENABLE ROW LEVEL SECURITY;
-- and no pg_extension_config_dump: that a dump does not take it along is what it is for
INSERT INTO invite_sync.lineage DEFAULT VALUES;

CREATE FUNCTION invite_sync.stamp_lineage() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'caller_stamp_lineage';
COMMENT ON FUNCTION invite_sync.stamp_lineage() IS
    'Trigger: a row without registered_in gets the lineage; one that brings the lineage along comes from a dump, and its numbers are not believed.';

CREATE TABLE invite_sync.operator (
    role name PRIMARY KEY,
    role_id oid NOT NULL,
    registered_in text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    granted_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE invite_sync.operator IS
    'Roles named by grant_operator(): they and their members configure and operate the extension. No personal columns.';
COMMENT ON COLUMN invite_sync.operator.role IS 'name of the role';
COMMENT ON COLUMN invite_sync.operator.role_id IS 'the role itself, where registered_in is the lineage: a later one of the same name is none';
COMMENT ON COLUMN invite_sync.operator.registered_in IS 'lineage in which role_id is true; elsewhere the name counts';
COMMENT ON COLUMN invite_sync.operator.active IS 'false after revoke_operator(); kept, so that a restored dump does not make it one again';
COMMENT ON COLUMN invite_sync.operator.granted_at IS 'when grant_operator() named it';
ALTER TABLE invite_sync.operator ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.operator', '');

-- fires before operator_replace, by its name
CREATE TRIGGER lineage BEFORE INSERT ON invite_sync.operator
    FOR EACH ROW EXECUTE FUNCTION invite_sync.stamp_lineage();
COMMENT ON TRIGGER lineage ON invite_sync.operator IS 'fills registered_in';
-- also under session_replication_role = replica, which who loads a dump likes to set
ALTER TABLE invite_sync.operator ENABLE ALWAYS TRIGGER lineage;

-- The install script names postgres, where it finds it, and so does a dump that is restored: the dump's word counts.
CREATE FUNCTION invite_sync.operator_replace() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE invite_sync.operator AS o SET role_id = NEW.role_id, registered_in = NEW.registered_in, active = NEW.active, granted_at = NEW.granted_at WHERE o.role = NEW.role;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION invite_sync.operator_replace() IS
    'Trigger: a row for a role that is there already replaces it, as restoring a dump needs.';
CREATE TRIGGER operator_replace BEFORE INSERT ON invite_sync.operator
    FOR EACH ROW EXECUTE FUNCTION invite_sync.operator_replace();
COMMENT ON TRIGGER operator_replace ON invite_sync.operator IS 'lets a dump be restored over the row of the install script';

CREATE FUNCTION invite_sync.database_lineage() RETURNS text
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_database_lineage';
COMMENT ON FUNCTION invite_sync.database_lineage() IS
    'The lineage, so that numbers written down in another are not believed here; empty where there is none. Internal.';

CREATE FUNCTION invite_sync.is_operator() RETURNS boolean
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_is_operator';
COMMENT ON FUNCTION invite_sync.is_operator() IS
    'Is the caller an operator (a superuser, the extension''s owner, or a member of a role named by grant_operator()), '
    'with no claims that lower it? Anybody with USAGE on the schema who was granted EXECUTE; never raises; locks nothing.';

CREATE FUNCTION invite_sync.require_operator() RETURNS boolean
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_require_operator_sql';
COMMENT ON FUNCTION invite_sync.require_operator() IS
    'true for an operator, else the error PT403 not_permitted. Used by the extension''s own functions.';

CREATE FUNCTION invite_sync.require_service() RETURNS boolean
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_require_service_sql';
COMMENT ON FUNCTION invite_sync.require_service() IS
    'true for service_role and operators, else the error PT403 not_permitted. Used by the extension''s own functions.';

CREATE FUNCTION invite_sync.require_superuser() RETURNS boolean
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_require_superuser_sql';
COMMENT ON FUNCTION invite_sync.require_superuser() IS
    'true for a superuser who asks as one, else the error 42501. Used by the extension''s own functions.';

CREATE FUNCTION invite_sync.require_direct() RETURNS boolean
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_require_direct_sql';
COMMENT ON FUNCTION invite_sync.require_direct() IS
    'true unless it is called through a security definer function, else the error PT403 not_permitted: whoever asks lends nobody''s rights. Used by the extension''s own functions.';

