-- ---------------------------------------------------------------------
-- Room quarantine: what failed, until it succeeds
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.quarantine_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id bigint,
    trigger_name name,
    user_id uuid,
    action text NOT NULL CHECK (action IN ('insert', 'update', 'delete')),
    sqlstate text NOT NULL,
    message text NOT NULL,
    detail text,
    constraint_name text,
    column_name text,
    context text,
    changed_columns text[],
    attempts integer NOT NULL DEFAULT 1,
    first_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    next_retry_at timestamptz,
    replayable boolean NOT NULL DEFAULT true,
    CHECK ((target_id IS NULL) <> (trigger_name IS NULL))
);
COMMENT ON TABLE invite_sync.quarantine_entry IS
    'Syncs that failed, one row per target and user. Personal columns: message and context may quote a value of the user.';
COMMENT ON COLUMN invite_sync.quarantine_entry.target_id IS 'the target, or NULL for a guarded trigger';
COMMENT ON COLUMN invite_sync.quarantine_entry.trigger_name IS 'the guarded trigger, or NULL for a target';
COMMENT ON COLUMN invite_sync.quarantine_entry.user_id IS 'the auth user';
COMMENT ON COLUMN invite_sync.quarantine_entry.action IS 'insert, update or delete of the auth user';
COMMENT ON COLUMN invite_sync.quarantine_entry.sqlstate IS 'of the last failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.message IS 'of the last failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.detail IS 'of the last failure; not kept for violated constraints, where it holds the row';
COMMENT ON COLUMN invite_sync.quarantine_entry.constraint_name IS 'the constraint that was violated';
COMMENT ON COLUMN invite_sync.quarantine_entry.column_name IS 'the column at fault, where PostgreSQL names it';
COMMENT ON COLUMN invite_sync.quarantine_entry.context IS 'where it happened, at most 1 kB';
COMMENT ON COLUMN invite_sync.quarantine_entry.changed_columns IS 'columns of the target that the failed update would have set';
COMMENT ON COLUMN invite_sync.quarantine_entry.attempts IS 'failures so far';
COMMENT ON COLUMN invite_sync.quarantine_entry.first_failed_at IS 'time of the first failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.last_failed_at IS 'time of the last failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.next_retry_at IS 'not retried before, unless asked for';
COMMENT ON COLUMN invite_sync.quarantine_entry.replayable IS 'false: can only be closed by hand';
CREATE UNIQUE INDEX quarantine_entry_target_user ON invite_sync.quarantine_entry (target_id, user_id) WHERE target_id IS NOT NULL;
CREATE INDEX quarantine_entry_user ON invite_sync.quarantine_entry (user_id);
CREATE INDEX quarantine_entry_due ON invite_sync.quarantine_entry (next_retry_at) WHERE replayable;
ALTER TABLE invite_sync.quarantine_entry ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.quarantine_entry', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.quarantine_entry_id_seq', '');

CREATE FUNCTION invite_sync.next_retry(attempts integer) RETURNS timestamptz
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$SELECT clock_timestamp() + interval '1 millisecond' * least(3600000, 500 * 2 ^ least($1 - 1, 30)) * (0.75 + 0.25 * random())$$;
COMMENT ON FUNCTION invite_sync.next_retry(integer) IS
    'When to try again after so many failures: 500 ms after the first, twice as long after each further one, an hour at most, less a quarter at random. Internal.';

CREATE VIEW invite_sync.quarantine WITH (security_barrier = true) AS
    SELECT q.id, invite_sync.target_name(t.id, t.relation, t.schema_name, t.table_name, t.registered_in) AS target,
           q.trigger_name, q.user_id, q.action, q.sqlstate, q.message, q.constraint_name, q.column_name, q.context,
           CASE WHEN (SELECT invite_sync.is_operator()) THEN q.detail END AS detail,
           q.attempts, q.first_failed_at, q.last_failed_at, q.next_retry_at, q.replayable
      FROM invite_sync.quarantine_entry AS q
      LEFT JOIN invite_sync.target AS t ON t.id = q.target_id
     ORDER BY q.id;
COMMENT ON VIEW invite_sync.quarantine IS
    'Syncs that failed and wait to be done again, with SQLSTATE, message, constraint, column and context. detail is shown to operators only. For service_role and operators. message and context may quote a value of the user.';

CREATE TYPE invite_sync.retry_result AS (retried integer, resolved integer, failed integer);
COMMENT ON TYPE invite_sync.retry_result IS 'How many entries retry_quarantine() tried, resolved, and saw fail again.';

CREATE FUNCTION invite_sync.retry_quarantine(max_rows integer DEFAULT 1000, due_only boolean DEFAULT true)
    RETURNS invite_sync.retry_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quarantine_retry';
COMMENT ON FUNCTION invite_sync.retry_quarantine(integer, boolean) IS
$doc$Do again what is in quarantine, by the same statements as the triggers. max_rows: at most so many entries, the longest due first. due_only => false: also those whose next_retry_at has not come. What succeeds leaves quarantine, and so does what belongs to a user who is gone. Returns how many were retried, resolved and failed again; entries and users that another session holds are left out.
service_role, operators. Locks the entries (FOR UPDATE) and the users (FOR SHARE), skipping what is held.$doc$;

