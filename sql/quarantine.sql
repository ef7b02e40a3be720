-- ---------------------------------------------------------------------
-- Room quarantine: what failed, until it succeeds
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.quarantine_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id bigint,
    trigger_name name,
    user_id uuid,
    action text NOT NULL CHECK (action IN ('insert', 'update', 'delete', 'truncate')),
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
    spare boolean NOT NULL DEFAULT false,
    CHECK ((target_id IS NULL) <> (trigger_name IS NULL))
);
COMMENT ON TABLE invite_sync.quarantine_entry IS
    'Syncs that failed, one row per target and user, but for spare ones. Personal columns: message and context may quote a value of the user.';
COMMENT ON COLUMN invite_sync.quarantine_entry.id IS 'number of the entry';
COMMENT ON COLUMN invite_sync.quarantine_entry.target_id IS 'the target, or NULL for a guarded trigger';
COMMENT ON COLUMN invite_sync.quarantine_entry.trigger_name IS 'the guarded trigger, as it is registered, or NULL for a target';
COMMENT ON COLUMN invite_sync.quarantine_entry.user_id IS 'the auth user';
COMMENT ON COLUMN invite_sync.quarantine_entry.action IS 'insert, update or delete of the auth user';
COMMENT ON COLUMN invite_sync.quarantine_entry.sqlstate IS 'of the last failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.message IS 'of the last failure; not kept for a guarded trigger that failed at a deletion, whose entry outlives the user';
COMMENT ON COLUMN invite_sync.quarantine_entry.detail IS 'of the last failure; not kept for violated constraints, where it holds the row';
COMMENT ON COLUMN invite_sync.quarantine_entry.constraint_name IS 'the constraint that was violated';
COMMENT ON COLUMN invite_sync.quarantine_entry.column_name IS 'the column at fault, where PostgreSQL names it';
COMMENT ON COLUMN invite_sync.quarantine_entry.context IS 'where it happened, at most 1 kB; not kept where message is not';
COMMENT ON COLUMN invite_sync.quarantine_entry.changed_columns IS 'columns of the target that the failed update would have set';
COMMENT ON COLUMN invite_sync.quarantine_entry.attempts IS 'failures so far';
COMMENT ON COLUMN invite_sync.quarantine_entry.first_failed_at IS 'time of the first failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.last_failed_at IS 'time of the last failure';
COMMENT ON COLUMN invite_sync.quarantine_entry.next_retry_at IS 'not retried before, unless asked for';
COMMENT ON COLUMN invite_sync.quarantine_entry.replayable IS 'false: can only be closed by hand';
COMMENT ON COLUMN invite_sync.quarantine_entry.spare IS
    'of a target and user whose entry somebody else held: stands beside it until a retry has done both, or made them one';
CREATE UNIQUE INDEX quarantine_entry_target_user ON invite_sync.quarantine_entry (target_id, user_id)
    WHERE target_id IS NOT NULL AND NOT spare;
CREATE UNIQUE INDEX quarantine_entry_trigger_user ON invite_sync.quarantine_entry (trigger_name, user_id, action)
    WHERE trigger_name IS NOT NULL AND user_id IS NOT NULL;
CREATE INDEX quarantine_entry_user ON invite_sync.quarantine_entry (user_id);
CREATE INDEX quarantine_entry_due ON invite_sync.quarantine_entry (next_retry_at) WHERE replayable;
COMMENT ON SEQUENCE invite_sync.quarantine_entry_id_seq IS 'ids of entries';
ALTER TABLE invite_sync.quarantine_entry ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.quarantine_entry', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.quarantine_entry_id_seq', '');

CREATE FUNCTION invite_sync.next_retry(attempts integer) RETURNS timestamptz
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$SELECT clock_timestamp() + interval '1 millisecond' * least(3600000, 500 * 2 ^ least($1 - 1, 30)) * (0.75 + 0.25 * random())$$;
COMMENT ON FUNCTION invite_sync.next_retry(integer) IS
    'When to try again after so many failures: 500 ms after the first, twice as long after each further one, an hour at most, less a quarter at random. Internal.';

CREATE TYPE invite_sync.retry_result AS (retried integer, resolved integer, failed integer);
COMMENT ON TYPE invite_sync.retry_result IS 'How many entries retry_quarantine() tried, resolved, and saw fail again.';

CREATE FUNCTION invite_sync.retry_quarantine(max_rows integer DEFAULT 1000, due_only boolean DEFAULT true)
    RETURNS invite_sync.retry_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quarantine_retry';
COMMENT ON FUNCTION invite_sync.retry_quarantine(integer, boolean) IS
$doc$Do again what is in quarantine, by the same statements as the triggers. max_rows: at most so many entries (1 to 10000), the longest due first; those of disabled targets are left. due_only => false: also those whose next_retry_at has not come. What succeeds leaves quarantine, and so does what was to be written for a user who is gone; a user's several entries that fail again become one. Deleted users whose memberships could not be removed then are cleaned up after, too (due_only => false: also those deleted while the triggers were off); they count. due_only => false also forgets what was noted of the addresses of users who are gone. Returns how many were retried, resolved and failed again; entries and users that another session holds are left out.
Errors: 22023 for other max_rows. service_role, operators. Locks the entries (FOR UPDATE) and the users (FOR SHARE), skipping what is held; for users who are gone the organizations they were in.$doc$;

CREATE TABLE invite_sync.guarded_trigger (
    trigger_name name PRIMARY KEY,
    trigger_id oid NOT NULL,
    function_id oid NOT NULL,
    function_schema name NOT NULL,
    function_name name NOT NULL,
    on_failure text NOT NULL CHECK (on_failure IN ('quarantine', 'refuse', 'let_in')),
    gate boolean NOT NULL,
    let_through text[] NOT NULL,
    guarded_by name NOT NULL,
    registered_in text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE invite_sync.guarded_trigger IS
    'Triggers on auth.users whose failures are contained, and the functions they run. No personal columns.';
COMMENT ON COLUMN invite_sync.guarded_trigger.trigger_name IS 'the trigger on auth.users; after it was renamed the old name, until attach() or guard_trigger()';
COMMENT ON COLUMN invite_sync.guarded_trigger.trigger_id IS 'its number; leads while it is true';
COMMENT ON COLUMN invite_sync.guarded_trigger.function_id IS 'its own function; leads while it exists';
COMMENT ON COLUMN invite_sync.guarded_trigger.function_schema IS 'remembered name, for a restored dump';
COMMENT ON COLUMN invite_sync.guarded_trigger.function_name IS 'remembered name';
COMMENT ON COLUMN invite_sync.guarded_trigger.on_failure IS 'what a technical failure does: quarantine, or for a gate refuse or let_in';
COMMENT ON COLUMN invite_sync.guarded_trigger.gate IS 'it can refuse a user on purpose';
COMMENT ON COLUMN invite_sync.guarded_trigger.let_through IS 'SQLSTATEs that count as refusals too';
COMMENT ON COLUMN invite_sync.guarded_trigger.guarded_by IS 'role that called guard_trigger()';
COMMENT ON COLUMN invite_sync.guarded_trigger.registered_in IS 'database in which trigger_id and function_id were true';
COMMENT ON COLUMN invite_sync.guarded_trigger.created_at IS 'when it was guarded';
ALTER TABLE invite_sync.guarded_trigger ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.guarded_trigger', '');
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON invite_sync.guarded_trigger
    FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_registry_changed();
COMMENT ON TRIGGER registry_changed ON invite_sync.guarded_trigger IS 'tells all sessions';

CREATE FUNCTION invite_sync.guarded_trigger_name(trigger_name name, trigger_id oid, registered_in text) RETURNS name
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'quarantine_trigger_name';
COMMENT ON FUNCTION invite_sync.guarded_trigger_name(name, oid, text) IS
    'What a guarded trigger is called now: the name of the trigger where its number is true, else the registered one; NULL for a NULL trigger_name. Internal, for the views.';

CREATE VIEW invite_sync.quarantine WITH (security_barrier = true) AS
    SELECT q.id, invite_sync.target_name(t.id, t.relation, t.schema_name, t.table_name, t.registered_in, t.relation_number) AS target,
           coalesce(invite_sync.guarded_trigger_name(g.trigger_name, g.trigger_id, g.registered_in), q.trigger_name) AS trigger_name,
           q.user_id, q.action, q.sqlstate, q.message, q.constraint_name, q.column_name, q.context,
           CASE WHEN (SELECT invite_sync.is_operator()) THEN q.detail END AS detail,
           q.attempts, q.first_failed_at, q.last_failed_at, q.next_retry_at, q.replayable
      FROM invite_sync.quarantine_entry AS q
      LEFT JOIN invite_sync.target AS t ON t.id OPERATOR(pg_catalog.=) q.target_id
      LEFT JOIN invite_sync.guarded_trigger AS g ON g.trigger_name OPERATOR(pg_catalog.=) q.trigger_name
     ORDER BY q.id;
COMMENT ON VIEW invite_sync.quarantine IS
    'Syncs that failed and wait to be done again, with SQLSTATE, message, constraint, column and context. detail is shown to operators only. For service_role and operators. message and context may quote a value of the user.';

CREATE FUNCTION invite_sync.guard() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'quarantine_guard';
COMMENT ON FUNCTION invite_sync.guard() IS
    'Trigger on auth.users, put there by guard_trigger(): runs the trigger''s own function and contains its failures. Nobody may execute it.';

CREATE TYPE invite_sync.guard_result AS (trigger_name name, function text, gate boolean, on_failure text, let_through text[], replayable boolean);
COMMENT ON TYPE invite_sync.guard_result IS
    'A guarded trigger: its function, whether it can refuse users, what a technical failure does, and whether a failure can be done again.';

CREATE FUNCTION invite_sync.guard_trigger(trigger_name name, on_failure text DEFAULT NULL, let_through text[] DEFAULT NULL)
    RETURNS invite_sync.guard_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quarantine_guard_trigger';
COMMENT ON FUNCTION invite_sync.guard_trigger(name, text, text[]) IS
$doc$Contain the failures of an existing trigger on auth.users: its function goes on to run as before, as the same user, but a failure is recorded in quarantine and the auth server's statement goes on. What it refuses on purpose (RAISE, ASSERT, a BEFORE trigger's NULL, a SQLSTATE that PostgreSQL does not define) stays refused.
trigger_name: a trigger on auth.users, neither a constraint trigger nor one of ours. on_failure: for a gate, which can refuse, what a technical failure does: refuse or let_in; a gate is not guarded without it. let_through: SQLSTATEs that count as refusals too. Again with the same arguments it changes nothing.
Errors: 42704 no such trigger; 42809 a trigger that cannot be guarded; 22023 a gate without on_failure, with the lines that make it one.
Operators. Locks auth.users in SHARE ROW EXCLUSIVE mode, waiting at most 2 s.$doc$;

CREATE FUNCTION invite_sync.unguard_trigger(trigger_name name) RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quarantine_unguard_trigger';
COMMENT ON FUNCTION invite_sync.unguard_trigger(name) IS
$doc$Make a guarded trigger what it was before, and forget its quarantine. trigger_name: its name, or if no trigger has that any more the one it had before it was renamed. true when it was guarded.
Errors: 22004 NULL; 55P03 auth.users is locked.
Operators. Locks auth.users in SHARE ROW EXCLUSIVE mode, waiting at most 2 s.$doc$;

CREATE FUNCTION invite_sync.close_quarantine(entry_id bigint) RETURNS boolean
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'quarantine_close';
COMMENT ON FUNCTION invite_sync.close_quarantine(bigint) IS
$doc$Take an entry out of quarantine by hand, for what cannot be done again or need not be. entry_id: quarantine.id. true when there was such an entry. service_role, operators. Locks the entry.$doc$;

