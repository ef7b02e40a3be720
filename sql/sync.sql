-- ---------------------------------------------------------------------
-- Room sync: auth.users to application tables
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.target (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL,
    relation_number oid NOT NULL,
    schema_name name NOT NULL,
    table_name name NOT NULL,
    key name NOT NULL,
    on_delete text NOT NULL CHECK (on_delete IN ('none', 'delete', 'deactivate')),
    on_error text NOT NULL CHECK (on_error IN ('quarantine', 'raise')),
    link_by name,
    enabled boolean NOT NULL,
    allow_user_written boolean NOT NULL,
    search_path text NOT NULL,
    definer name NOT NULL,
    registered_in text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE invite_sync.target IS
    'The registry: application tables kept in sync with auth.users. Written by add_target(), set_target() and drop_target(). No personal columns.';
COMMENT ON COLUMN invite_sync.target.id IS 'number of the target';
COMMENT ON COLUMN invite_sync.target.relation IS 'the table; leads while it exists, under whatever name';
COMMENT ON COLUMN invite_sync.target.relation_number IS 'the same as a number: after a restore it differs where relation came by name, and so is right';
COMMENT ON COLUMN invite_sync.target.schema_name IS 'remembered name: finds the table again when it was dropped and created, or came with a dump';
COMMENT ON COLUMN invite_sync.target.table_name IS 'remembered name';
COMMENT ON COLUMN invite_sync.target.key IS 'the uuid column that holds auth.users.id';
COMMENT ON COLUMN invite_sync.target.on_delete IS 'what becomes of the row when its user is deleted: none, delete, deactivate';
COMMENT ON COLUMN invite_sync.target.on_error IS 'quarantine, or raise: fail the auth server''s statement';
COMMENT ON COLUMN invite_sync.target.link_by IS 'column by whose address a row without a user is claimed';
COMMENT ON COLUMN invite_sync.target.enabled IS 'false: registered, but not synced';
COMMENT ON COLUMN invite_sync.target.allow_user_written IS 'columns that look like rights may be filled from raw_user_meta_data';
COMMENT ON COLUMN invite_sync.target.search_path IS 'under which the statements of a sync run';
COMMENT ON COLUMN invite_sync.target.definer IS 'role that defined the mapping; must stay a member of the table''s owner';
COMMENT ON COLUMN invite_sync.target.registered_in IS 'lineage in which the number in relation is true';
COMMENT ON COLUMN invite_sync.target.created_at IS 'when it was added';

CREATE TABLE invite_sync.known_address (
    user_id uuid PRIMARY KEY,
    digest bytea,
    noted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE invite_sync.known_address IS
    'Users whose address has changed, who may never claim a row by link_by, and users who wait to be synced to a target with link_by, who may claim by the address that they had first. Personal columns: user_id, an id; digest, from which an address that is known can be recognized. Kept until the user is gone.';
COMMENT ON COLUMN invite_sync.known_address.user_id IS 'the auth user';
COMMENT ON COLUMN invite_sync.known_address.digest IS 'SHA-256 of the first address, trimmed and with ASCII letters folded, in UTF-8; NULL: it has changed since, or may have';
COMMENT ON COLUMN invite_sync.known_address.noted_at IS 'when';

CREATE TABLE invite_sync.mapping (
    target_id bigint NOT NULL,
    position integer NOT NULL,
    column_name name NOT NULL,
    expression text NOT NULL,
    update_policy text NOT NULL CHECK (update_policy IN ('always', 'if_null', 'never')),
    source_columns name[] NOT NULL,
    PRIMARY KEY (target_id, position),
    UNIQUE (target_id, column_name)
);
COMMENT ON TABLE invite_sync.mapping IS
    'Which column of a target is filled by which SQL expression over auth.users. No personal columns.';
COMMENT ON COLUMN invite_sync.mapping.target_id IS 'the target';
COMMENT ON COLUMN invite_sync.mapping.position IS 'order, as given';
COMMENT ON COLUMN invite_sync.mapping.column_name IS 'column of the target';
COMMENT ON COLUMN invite_sync.mapping.expression IS 'SQL expression over one row of auth.users';
COMMENT ON COLUMN invite_sync.mapping.update_policy IS 'always: when the source changes; if_null: only where the target holds NULL; never: at insert only';
COMMENT ON COLUMN invite_sync.mapping.source_columns IS 'columns of auth.users that the expression reads';

CREATE TABLE invite_sync.sync_run (
    target_id bigint PRIMARY KEY,
    last_success timestamptz
);
COMMENT ON TABLE invite_sync.sync_run IS
    'When a sync_all, sync_users or retry last did its work on a target; triggers do not write here. No personal columns.';
COMMENT ON COLUMN invite_sync.sync_run.target_id IS 'the target';
COMMENT ON COLUMN invite_sync.sync_run.last_success IS 'time of the last success, NULL before the first';

CREATE TABLE invite_sync.attachment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    detached boolean NOT NULL
);
COMMENT ON TABLE invite_sync.attachment IS
    'Whether detach() was called: then add_target() does not put the triggers back. No personal columns.';
COMMENT ON COLUMN invite_sync.attachment.only_row IS 'there is one row at most';
COMMENT ON COLUMN invite_sync.attachment.detached IS 'true after detach(), false after attach()';

COMMENT ON SEQUENCE invite_sync.target_id_seq IS 'ids of targets';
ALTER TABLE invite_sync.target ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.known_address ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.mapping ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.sync_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.attachment ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.target', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.target_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.known_address', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.mapping', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.sync_run', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.attachment', '');

CREATE FUNCTION invite_sync.sync_registry_changed() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'sync_registry_changed';
COMMENT ON FUNCTION invite_sync.sync_registry_changed() IS 'Trigger: tells all sessions that the registry has changed.';

CREATE TRIGGER lineage BEFORE INSERT ON invite_sync.target
    FOR EACH ROW EXECUTE FUNCTION invite_sync.stamp_lineage();
COMMENT ON TRIGGER lineage ON invite_sync.target IS 'fills registered_in';
-- also under session_replication_role = replica, which who loads a dump likes to set
ALTER TABLE invite_sync.target ENABLE ALWAYS TRIGGER lineage;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON invite_sync.target
    FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_registry_changed();
COMMENT ON TRIGGER registry_changed ON invite_sync.target IS 'tells all sessions';
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON invite_sync.mapping
    FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_registry_changed();
COMMENT ON TRIGGER registry_changed ON invite_sync.mapping IS 'tells all sessions';

CREATE FUNCTION invite_sync.sync_on_insert() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'sync_on_insert';
COMMENT ON FUNCTION invite_sync.sync_on_insert() IS 'Trigger on auth.users, put there by attach(): syncs new users.';
CREATE FUNCTION invite_sync.sync_on_update() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'sync_on_update';
COMMENT ON FUNCTION invite_sync.sync_on_update() IS 'Trigger on auth.users, put there by attach(): syncs changed users.';
CREATE FUNCTION invite_sync.sync_on_delete() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'sync_on_delete';
COMMENT ON FUNCTION invite_sync.sync_on_delete() IS 'Trigger on auth.users, put there by attach(): carries out on_delete.';

CREATE FUNCTION invite_sync.sync_on_identity() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'sync_on_identity';
COMMENT ON FUNCTION invite_sync.sync_on_identity() IS 'Trigger on auth.identities, put there by attach() while a mapping names the identity: syncs the user whose first identity arrives.';

CREATE TYPE invite_sync.sync_target AS (
    target text,
    key name,
    mapping jsonb,
    on_delete text,
    on_error text,
    link_by name,
    enabled boolean,
    search_path text,
    users_without_row bigint,
    backfill text
);
COMMENT ON TYPE invite_sync.sync_target IS
    'A target as it is configured: the mapping in force, how many users have no row in it yet, and the call that makes their rows.';

CREATE FUNCTION invite_sync.target_name(target_id bigint, relation regclass, schema_name name, table_name name, registered_in text, relation_number oid)
    RETURNS text
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'sync_target_name';
COMMENT ON FUNCTION invite_sync.target_name(bigint, regclass, name, name, text, oid) IS
    'What a target is called now: the name of the relation where its number is true, else the remembered one; NULL where that is NULL, and for a NULL target_id. Internal, for the views.';

CREATE VIEW invite_sync.target_list WITH (security_barrier = true) AS
    SELECT invite_sync.target_name(t.id, t.relation, t.schema_name, t.table_name, t.registered_in, t.relation_number) AS target,
           t.key,
           (SELECT coalesce(pg_catalog.jsonb_object_agg(m.column_name, pg_catalog.jsonb_build_object('value', m.expression, 'update', m.update_policy)), '{}')
              FROM invite_sync.mapping AS m WHERE m.target_id = t.id) AS mapping,
           t.on_delete, t.on_error, t.link_by, t.enabled, t.search_path, t.definer, t.created_at
      FROM invite_sync.target AS t
     ORDER BY t.id;
COMMENT ON VIEW invite_sync.target_list IS
    'The targets, by the name they have now, with the mapping in force. For service_role and operators.';

CREATE FUNCTION invite_sync.add_target(
        target regclass, mapping jsonb DEFAULT NULL, key name DEFAULT NULL, on_delete text DEFAULT 'none',
        on_error text DEFAULT 'quarantine', link_by name DEFAULT NULL, enabled boolean DEFAULT true,
        allow_user_written boolean DEFAULT false)
    RETURNS invite_sync.sync_target
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_add_target';
COMMENT ON FUNCTION invite_sync.add_target(regclass, jsonb, name, text, text, name, boolean, boolean) IS
$doc$Keep a table in sync with auth.users from now on. Again with the same arguments it changes nothing.
target: an ordinary or partitioned table with a unique index on the key. mapping: {"column": "expression"} or {"column": {"value": "expression", "update": "always|if_null|never"}}; left out, it is inferred from the columns' names. key: the uuid column that holds auth.users.id; left out, the one with a foreign key to auth.users, else auth_user_id, auth_id, user_id, id or uid. on_delete: none, delete or deactivate. on_error: quarantine, or raise to fail the auth server's statement. link_by: the text column that holds the address where rows are made before their users sign up (with a NULL key): a user with a verified address claims the one row that has it; while the address is not verified nothing is made for them, and quarantine holds an entry link_pending. '' clears it. enabled: false registers without syncing. allow_user_written: let a column that looks like a right be filled from raw_user_meta_data.
Returns the configuration in force and the call that backfills. Errors: not_permitted; 42501 when the caller is no member of the table's owner; 42809 for what cannot be a target; 42703, 42804, 22023, 23502 for a mapping or key that cannot work: each with a HINT, and nothing is registered.
Operators. Locks the registry and, the first time, auth.users in SHARE ROW EXCLUSIVE mode for at most 2 s.$doc$;

CREATE FUNCTION invite_sync.set_target(
        target regclass, mapping jsonb DEFAULT NULL, key name DEFAULT NULL, on_delete text DEFAULT NULL,
        on_error text DEFAULT NULL, link_by name DEFAULT NULL, enabled boolean DEFAULT NULL,
        search_path text DEFAULT NULL, allow_user_written boolean DEFAULT NULL)
    RETURNS invite_sync.sync_target
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_set_target';
COMMENT ON FUNCTION invite_sync.set_target(regclass, jsonb, name, text, text, name, boolean, text, boolean) IS
$doc$Change a target; what is NULL or left out stays. The caller becomes the mapping's definer. search_path: the schemas under which the sync's statements run, as in SET search_path; by default pg_catalog, the target's schema, extensions, pg_temp. Everything else, and the errors, as in add_target(); 42704 when it is not a target.
Operators who are members of the table's owner. Locks the registry.$doc$;

CREATE FUNCTION invite_sync.drop_target(target text) RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_drop_target';
COMMENT ON FUNCTION invite_sync.drop_target(text) IS
$doc$Stop syncing to a table, and forget its quarantine. target: the table's name, also of one that does not exist any more. The table and its rows stay. true when there was such a target.
Operators who are members of the table's owner. Locks the registry's row.$doc$;

CREATE FUNCTION invite_sync.attach(wait interval DEFAULT '2 s') RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_attach';
COMMENT ON FUNCTION invite_sync.attach(interval) IS
$doc$Put the three triggers on auth.users, or mend them. Targets need them (add_target() calls it the first time), and so do organizations: memberships go when users are deleted. wait: how long to wait for the lock, 1 ms to 1 hour; logins queue behind it. true when anything had to be done. Names in NOTICEs the row triggers of others that touch a target. Error 55P03 names the session that holds the lock; 55000 the registry cannot be read.
Operators. Locks auth.users in SHARE ROW EXCLUSIVE mode: writes wait, reads do not.$doc$;

CREATE FUNCTION invite_sync.detach(wait interval DEFAULT '2 s') RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_detach';
COMMENT ON FUNCTION invite_sync.detach(interval) IS
$doc$Take the triggers off auth.users and keep the registry; add_target() will not put them back, attach() will. wait: how long to wait for the lock. true when there were triggers.
Operators. Locks auth.users in ACCESS EXCLUSIVE mode: everything waits.$doc$;

-- a type and not RETURNS TABLE: its columns have the names of arguments
CREATE TYPE invite_sync.sync_result AS (target text, user_id uuid, action text, detail text);
COMMENT ON TYPE invite_sync.sync_result IS 'What sync_users() did, or would do, for one user in one target.';

CREATE FUNCTION invite_sync.sync_users(
        target regclass DEFAULT NULL, user_id uuid DEFAULT NULL, dry_run boolean DEFAULT false, overwrite boolean DEFAULT false)
    RETURNS SETOF invite_sync.sync_result
    LANGUAGE C VOLATILE ROWS 1000 AS 'MODULE_PATHNAME', 'sync_users';
COMMENT ON FUNCTION invite_sync.sync_users(regclass, uuid, boolean, boolean) IS
$doc$Bring rows in step now: one target or all enabled ones, one user or all. Over rows that exist it only fills NULLs; overwrite => true also sets every mapped column that differs (but not with update policy never, and not with NULL), edits of the users included. dry_run => true writes nothing and says what would be done.
Returns a row per user and target with something to do: action inserted, updated, quarantined, failed (the target cannot be read), or would insert, would update, would fail; and a last row, summary. Users in step are not listed.
Errors: 42704 for a relation that is no target. service_role, operators. One transaction: for many users use sync_all(). Waits for the transactions that are writing auth.users; locks the users it writes for (FOR SHARE).$doc$;

CREATE PROCEDURE invite_sync.sync_all(batch_size integer DEFAULT 1000, target regclass DEFAULT NULL)
    LANGUAGE C AS 'MODULE_PATHNAME', 'sync_all';
COMMENT ON PROCEDURE invite_sync.sync_all(integer, regclass) IS
$doc$Bring all users in step with all enabled targets, or one, committing after each batch of batch_size users (1 to 100000; above 1000 counts as 1000). Interrupted, it goes on from there when it is called again. NOTICEs tell done, total, rate and time to go. Fills only NULLs over rows that exist.
Operators; outside of a transaction block. Waits for the transactions that are writing auth.users, then locks at most one batch of users at a time (FOR SHARE), skipping those held by others until the end.$doc$;

CREATE FUNCTION invite_sync.ensure_user(user_id uuid) RETURNS boolean
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'sync_ensure_user';
COMMENT ON FUNCTION invite_sync.ensure_user(uuid) IS
$doc$Make sure that an auth user has a row in every enabled target, syncing what is missing. true when that is so; false when there is no such user or a target refused (see quarantine). service_role, operators. Locks the user (FOR SHARE).$doc$;

CREATE FUNCTION invite_sync.user_exists(user_id uuid) RETURNS boolean
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'sync_user_exists';
COMMENT ON FUNCTION invite_sync.user_exists(uuid) IS
$doc$Is there such a row in auth.users, not soft-deleted? service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.create_profile(user_id uuid, overrides jsonb DEFAULT '{}') RETURNS jsonb
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'sync_create_profile';
COMMENT ON FUNCTION invite_sync.create_profile(uuid, jsonb) IS
$doc$Make the user's rows in all enabled targets and set columns of them. overrides: {"column": value}, applied to every target that has the column; the key cannot be set. Returns {"schema.table": row}. Errors: user_unknown; data_malformed for a key that is no column; whatever the table itself raises. service_role, operators. Locks the user (FOR SHARE) and the rows.$doc$;

CREATE FUNCTION invite_sync.deactivate_user(user_id uuid, reason text DEFAULT NULL) RETURNS text[]
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_deactivate_user';
COMMENT ON FUNCTION invite_sync.deactivate_user(uuid, text) IS
$doc$Set is_active to false in every enabled target that has the column, and deactivated_at, deactivation_reason and (as text) deactivated_by where they exist. reason: free text. Returns the targets whose row changed. The auth server does not know of it: to keep somebody from logging in, ban them there. Errors: user_unknown; 22004 for a NULL user_id; whatever the table itself raises. service_role, operators. Locks the rows.$doc$;

CREATE FUNCTION invite_sync.reactivate_user(user_id uuid) RETURNS text[]
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_reactivate_user';
COMMENT ON FUNCTION invite_sync.reactivate_user(uuid) IS
$doc$Set is_active to true again in every enabled target that has the column, and the other columns of deactivate_user() to NULL. Returns the targets whose row changed. Errors: user_unknown; 22004 for a NULL user_id; whatever the table itself raises. service_role, operators. Locks the rows.$doc$;

CREATE FUNCTION invite_sync.sync_status()
    RETURNS TABLE (target text, auth_users bigint, rows bigint, missing bigint, orphaned bigint, stale bigint, unlinked bigint,
                   quarantined bigint, overdue bigint, percent numeric, last_success timestamptz, last_failure timestamptz)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'sync_status';
COMMENT ON FUNCTION invite_sync.sync_status() IS
$doc$Per target: auth_users (not soft-deleted), rows, missing (users without a row), orphaned (rows whose user is gone), stale (rows where a column with policy always differs, or a NULL could be filled), unlinked (rows with a NULL key), quarantined, overdue (of those), percent of users with a row, last_success of sync_all, sync_users or retry, last_failure in quarantine. NULL where a target, or with a WARNING quarantine, cannot be read. Error 55000: the registry cannot be read.
service_role, operators. Reads everything once: seconds for a million users. Locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.preservation_report(user_ids uuid[] DEFAULT NULL)
    RETURNS TABLE (target text, user_id uuid, column_name text, current_value text, auth_value text, verdict text)
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'sync_preservation_report';
COMMENT ON FUNCTION invite_sync.preservation_report(uuid[]) IS
$doc$Where rows differ from auth.users, for these users or all: the value now, the value of the mapping, and what syncing does with it. verdict: filled (NULL now, the next sync fills it), kept (stays; only sync_users(overwrite => true) sets it, and not with policy never), overwritten (policy always: the next change of its source sets it, as does overwrite). Values are personal data.
service_role, operators. Locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.verify()
    RETURNS TABLE (severity text, area text, object text, finding text, detail text, fix text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'sync_verify';
COMMENT ON FUNCTION invite_sync.verify() IS
$doc$What is not as it must be for users to be synced: triggers missing, disabled or replaced, targets that cannot be written, definers who lost their membership, entries in quarantine; what deleted users have left, organizations without an owner, and memberships and organizations whose counterpart is missing. severity: error, warning, info. fix: SQL or words, never run by us. No rows: users are synced from now on; whether all rows are in step is sync_status()'s to say. What cannot be read, as where library and SQL objects are of different versions, is a finding too. Errors: not_permitted.
Operators. Writes nothing; works in READ ONLY transactions and on a standby.$doc$;

