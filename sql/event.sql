-- Room event: the append-only audit log.
--
-- Ids, times and fixed words only: the tables have no column for an address, a
-- name or a token. There is no foreign key to auth.users, because an event
-- outlives the user it tells of and because the extension's tables must load
-- at restore time before auth.users exists.

CREATE TABLE invite_sync.event (
	id bigint GENERATED ALWAYS AS IDENTITY,
	-- the clock and not now(): a long transaction's events keep their order in time
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	kind text NOT NULL,
	action text NOT NULL,
	actor_id uuid,
	organization_id uuid,
	target_type text,
	target_id text,
	data jsonb NOT NULL DEFAULT '{}',
	request jsonb,
	CONSTRAINT event_pkey PRIMARY KEY (id),
	CONSTRAINT event_at_finite CHECK (pg_catalog.isfinite(at)),
	CONSTRAINT event_kind CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['activity', 'admin', 'error', 'system'])),
	CONSTRAINT event_action CHECK (action OPERATOR(pg_catalog.<>) ''),
	CONSTRAINT event_data_object CHECK (pg_catalog.jsonb_typeof(data) OPERATOR(pg_catalog.=) 'object')
);

CREATE INDEX event_at ON invite_sync.event USING brin (at);
CREATE INDEX event_actor_id ON invite_sync.event (actor_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX event_organization_id ON invite_sync.event (organization_id, id) WHERE organization_id IS NOT NULL;

CREATE TABLE invite_sync.event_seal (
	id bigint GENERATED ALWAYS AS IDENTITY,
	first_id bigint NOT NULL,
	last_id bigint NOT NULL,
	rows bigint NOT NULL,
	-- apart from digest, so that the chain still verifies when retention has taken the rows
	rows_digest bytea NOT NULL,
	digest bytea NOT NULL,
	previous bytea,
	at timestamptz NOT NULL,
	CONSTRAINT event_seal_pkey PRIMARY KEY (id),
	CONSTRAINT event_seal_rows CHECK (rows OPERATOR(pg_catalog.>) 0 AND first_id OPERATOR(pg_catalog.<=) last_id),
	-- a chain has one beginning and does not fork
	CONSTRAINT event_seal_last_id_key UNIQUE (last_id),
	CONSTRAINT event_seal_previous_key UNIQUE (previous)
);

ALTER TABLE invite_sync.event ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.event_seal ENABLE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('invite_sync.event', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.event_seal', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.event_seal_id_seq', '');

COMMENT ON TABLE invite_sync.event IS
	'The audit log: append-only, pruned only by prune_events(). Personal columns: actor_id, target_id (an id of a user where target_type says so), data (what applications put there; ids only, please), request (its "role" names the database role).';
COMMENT ON COLUMN invite_sync.event.id IS 'Ascending; gaps mean nothing: an event that is rolled back leaves one.';
COMMENT ON COLUMN invite_sync.event.at IS 'When it was written, by the clock.';
COMMENT ON COLUMN invite_sync.event.kind IS 'activity (what users do), admin (what those who administer do), error, system.';
COMMENT ON COLUMN invite_sync.event.action IS 'What happened. Names that begin with a room of the extension and a dot are its own.';
COMMENT ON COLUMN invite_sync.event.actor_id IS 'The auth user who did it; NULL for service, operators and unknown users. Personal.';
COMMENT ON COLUMN invite_sync.event.organization_id IS 'The organization it happened in.';
COMMENT ON COLUMN invite_sync.event.target_type IS 'What kind of thing target_id names.';
COMMENT ON COLUMN invite_sync.event.target_id IS 'The id of what it was done to. Personal where it names a user.';
COMMENT ON COLUMN invite_sync.event.data IS 'An object with what else belongs to the event; "unknown_user_id" is the id of an actor who is no auth user. Personal where applications make it so.';
COMMENT ON COLUMN invite_sync.event.request IS 'What is safe of the request: "role" (database role), "method" and "path" (its first two segments). No headers, no addresses. Personal where a database role is one person''s.';
COMMENT ON CONSTRAINT event_kind ON invite_sync.event IS 'The four kinds of event.';
COMMENT ON CONSTRAINT event_action ON invite_sync.event IS 'An event has an action.';
COMMENT ON CONSTRAINT event_at_finite ON invite_sync.event IS 'A seal''s text of the time needs a real one.';
COMMENT ON CONSTRAINT event_data_object ON invite_sync.event IS 'data is always an object.';
COMMENT ON INDEX invite_sync.event_at IS 'Events by time: tiny, because events are written in the order of time.';
COMMENT ON INDEX invite_sync.event_actor_id IS 'Events by who did them.';
COMMENT ON INDEX invite_sync.event_organization_id IS 'Events by organization.';
COMMENT ON SEQUENCE invite_sync.event_id_seq IS 'Ids of events.';

COMMENT ON TABLE invite_sync.event_seal IS
	'Seals over closed batches of events, each chained to the one before. Append-only, also for retention. Personal columns: none.';
COMMENT ON COLUMN invite_sync.event_seal.id IS 'Ascending along the chain; gaps mean nothing.';
COMMENT ON COLUMN invite_sync.event_seal.first_id IS 'Lowest event id in the batch.';
COMMENT ON COLUMN invite_sync.event_seal.last_id IS 'Highest event id in the batch. The batch is every event after the last_id of the seal before, up to here.';
COMMENT ON COLUMN invite_sync.event_seal.rows IS 'How many events the batch has.';
COMMENT ON COLUMN invite_sync.event_seal.rows_digest IS 'SHA-256 over the SHA-256 of each event, by id.';
COMMENT ON COLUMN invite_sync.event_seal.digest IS 'SHA-256 over this seal''s other columns: keep the last one outside the database.';
COMMENT ON COLUMN invite_sync.event_seal.previous IS 'The digest of the seal before; NULL in the first.';
COMMENT ON COLUMN invite_sync.event_seal.at IS 'When it was sealed.';
COMMENT ON CONSTRAINT event_seal_rows ON invite_sync.event_seal IS 'No empty batch is sealed.';
COMMENT ON CONSTRAINT event_seal_last_id_key ON invite_sync.event_seal IS 'No event is in two batches.';
COMMENT ON CONSTRAINT event_seal_previous_key ON invite_sync.event_seal IS 'The chain does not fork.';
COMMENT ON SEQUENCE invite_sync.event_seal_id_seq IS 'Ids of seals.';

-- Append-only. Statement triggers refuse before a row is looked at, and cost
-- an INSERT or COPY (so also a restore) nothing. ENABLE ALWAYS, or
-- session_replication_role = replica would be a way around them.
CREATE FUNCTION invite_sync.event_append_only() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'event_append_only';
REVOKE ALL ON FUNCTION invite_sync.event_append_only() FROM PUBLIC;
COMMENT ON FUNCTION invite_sync.event_append_only() IS
	'Trigger function: refuses UPDATE, DELETE and TRUNCATE to everybody but prune_events().';

CREATE TRIGGER event_append_only
	BEFORE UPDATE OR DELETE OR TRUNCATE ON invite_sync.event
	FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.event_append_only();
ALTER TABLE invite_sync.event ENABLE ALWAYS TRIGGER event_append_only;
COMMENT ON TRIGGER event_append_only ON invite_sync.event IS 'Keeps the log append-only, for its owner and superusers too.';

CREATE TRIGGER event_append_only
	BEFORE UPDATE OR DELETE OR TRUNCATE ON invite_sync.event_seal
	FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.event_append_only();
ALTER TABLE invite_sync.event_seal ENABLE ALWAYS TRIGGER event_append_only;
COMMENT ON TRIGGER event_append_only ON invite_sync.event_seal IS 'Keeps the seals append-only, for their owner, superusers and retention too.';

-- A barrier: whoever may read one kind only must not get at the others through
-- a function of theirs that the planner runs too early.
CREATE VIEW invite_sync.activity_log WITH (security_barrier = true) AS
	SELECT e.id, e.at, e.action, e.actor_id, e.organization_id, e.target_type, e.target_id, e.data, e.request
	FROM invite_sync.event AS e
	WHERE e.kind OPERATOR(pg_catalog.=) 'activity';
COMMENT ON VIEW invite_sync.activity_log IS 'Events of kind activity: what users do. Personal columns: as in event.';

CREATE VIEW invite_sync.admin_log WITH (security_barrier = true) AS
	SELECT e.id, e.at, e.action, e.actor_id, e.organization_id, e.target_type, e.target_id, e.data, e.request
	FROM invite_sync.event AS e
	WHERE e.kind OPERATOR(pg_catalog.=) 'admin';
COMMENT ON VIEW invite_sync.admin_log IS 'Events of kind admin: what those who administer do. Personal columns: as in event.';

CREATE VIEW invite_sync.error_log WITH (security_barrier = true) AS
	SELECT e.id, e.at, e.action, e.actor_id, e.organization_id, e.target_type, e.target_id, e.data, e.request
	FROM invite_sync.event AS e
	WHERE e.kind OPERATOR(pg_catalog.=) 'error';
COMMENT ON VIEW invite_sync.error_log IS 'Events of kind error: what failed. Personal columns: as in event.';

CREATE VIEW invite_sync.system_log WITH (security_barrier = true) AS
	SELECT e.id, e.at, e.action, e.actor_id, e.organization_id, e.target_type, e.target_id, e.data, e.request
	FROM invite_sync.event AS e
	WHERE e.kind OPERATOR(pg_catalog.=) 'system';
COMMENT ON VIEW invite_sync.system_log IS 'Events of kind system: what the extension did by itself. Personal columns: as in event.';

REVOKE ALL ON TABLE invite_sync.event, invite_sync.event_seal,
	invite_sync.activity_log, invite_sync.admin_log, invite_sync.error_log, invite_sync.system_log FROM PUBLIC;
REVOKE ALL ON SEQUENCE invite_sync.event_id_seq, invite_sync.event_seal_id_seq FROM PUBLIC;

CREATE FUNCTION invite_sync.log_event(action text, target_type text DEFAULT NULL, target_id text DEFAULT NULL,
		data jsonb DEFAULT '{}', user_id uuid DEFAULT NULL, organization_id uuid DEFAULT NULL,
		kind text DEFAULT 'activity')
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'event_log';
REVOKE ALL ON FUNCTION invite_sync.log_event(text, text, text, jsonb, uuid, uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION invite_sync.log_event(text, text, text, jsonb, uuid, uuid, text) IS
	'Write an event and return its id; NULL and a WARNING where it could not be written. Never raises. A user logs as themselves, with kind activity; service names the user_id and the kind.';

CREATE FUNCTION invite_sync.redact_payload(payload jsonb) RETURNS jsonb
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'event_redact';
REVOKE ALL ON FUNCTION invite_sync.redact_payload(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION invite_sync.redact_payload(jsonb) IS
	'The payload with every value replaced by "[PRESENT]", or "[MISSING]" where it is null or an empty string. Keys stay.';

CREATE FUNCTION invite_sync.seal_events(batch_size int DEFAULT 10000, wait interval DEFAULT '5 s')
	RETURNS TABLE (seal_id bigint, first_id bigint, last_id bigint, rows bigint, digest text)
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'event_seal';
REVOKE ALL ON FUNCTION invite_sync.seal_events(int, interval) FROM PUBLIC;
COMMENT ON FUNCTION invite_sync.seal_events(int, interval) IS
	'Seal the events written so far, in batches, and return the seals made. Waits for transactions that are still writing events, without holding up others.';

CREATE FUNCTION invite_sync.verify_events(digest text DEFAULT NULL)
	RETURNS TABLE (seal_id bigint, ok boolean, detail text)
	LANGUAGE C STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'event_verify';
REVOKE ALL ON FUNCTION invite_sync.verify_events(text) FROM PUBLIC;
COMMENT ON FUNCTION invite_sync.verify_events(text) IS
	'Compute every seal again and say which still hold. With the digest of a seal kept elsewhere: also whether that seal is still there.';

CREATE PROCEDURE invite_sync.prune_events(keep interval, batch_size int DEFAULT 10000)
	LANGUAGE C
	AS 'MODULE_PATHNAME', 'event_prune';
REVOKE ALL ON PROCEDURE invite_sync.prune_events(interval, int) FROM PUBLIC;
COMMENT ON PROCEDURE invite_sync.prune_events(interval, int) IS
	'Retention: delete the events older than keep, sealed batches only as a whole, committing after each batch_size rows.';
