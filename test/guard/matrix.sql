-- What test/t/015_guard_matrix.pl works with: users, columns that triggers can
-- touch, a log that they write, and pictures of all that they could change.
CREATE EXTENSION insert_username SCHEMA extensions;
CREATE EXTENSION autoinc SCHEMA extensions;
CREATE EXTENSION moddatetime SCHEMA extensions;
CREATE EXTENSION refint SCHEMA extensions;

ALTER TABLE auth.users
	ADD COLUMN note text,
	ADD COLUMN modified_by text,
	ADD COLUMN modified_at timestamp,
	ADD COLUMN serial_no integer,
	ADD COLUMN referrer text;
-- TRUNCATE need not empty all of the schema.
DO $$
DECLARE
	link	record;
BEGIN
	FOR link IN SELECT c.conrelid::regclass AS relation, c.conname AS name FROM pg_constraint AS c
		WHERE c.confrelid = 'auth.users'::regclass AND c.conrelid <> 'auth.identities'::regclass
	LOOP
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', link.relation, link.name);
	END LOOP;
END
$$;
INSERT INTO auth.users (id, email, phone) VALUES
	('00000000-0000-4000-8000-0000000000a1', 'a@x.example', '1'),
	('00000000-0000-4000-8000-0000000000b2', 'b@y.example', '2');

CREATE SCHEMA matrix;
CREATE SEQUENCE matrix.counter;
CREATE TABLE matrix.log (n integer GENERATED ALWAYS AS IDENTITY, what text);
CREATE TABLE matrix.picky (id integer PRIMARY KEY, positive integer NOT NULL DEFAULT 1 CHECK (positive > 0));
CREATE TABLE matrix.closed (id integer);
CREATE TABLE matrix.refusing (id integer);
INSERT INTO matrix.picky (id) VALUES (1);

CREATE FUNCTION matrix.wanted(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN $1 LIKE '%@x.example'; END$$;
CREATE FUNCTION matrix.refuse() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE division_by_zero USING MESSAGE = 'a helper refuses'; END$$;
CREATE FUNCTION matrix.refuse_by_sql() RETURNS void LANGUAGE sql AS $$SELECT matrix.refuse()$$;
CREATE FUNCTION matrix.refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'another table refuses' USING ERRCODE = '23505'; END$$;
CREATE TRIGGER refuse BEFORE INSERT ON matrix.refusing FOR EACH ROW EXECUTE FUNCTION matrix.refuse_row();

GRANT USAGE ON SCHEMA matrix TO PUBLIC;
GRANT ALL ON matrix.log, matrix.log_n_seq, matrix.counter, matrix.picky, matrix.refusing TO PUBLIC;

CREATE VIEW matrix.entry AS
	SELECT format('quarantine %s %s %s %s replayable=%s next=%s attempts=%s', q.trigger_name, q.action, coalesce(q.user_id::text, '-'),
				  q.sqlstate, q.replayable, q.next_retry_at IS NOT NULL, q.attempts) AS line
	  FROM invite_sync.quarantine AS q;

CREATE FUNCTION matrix.state() RETURNS SETOF text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT 'log ' || l.what FROM matrix.log AS l ORDER BY l.n;
	-- moddatetime writes the time
	RETURN QUERY SELECT 'user ' || jsonb_strip_nulls(to_jsonb(u) || jsonb_build_object('modified_at', CASE WHEN to_jsonb(u)->>'modified_at' IS NOT NULL THEN 'set' END))::text
		FROM auth.users AS u ORDER BY u.id;
	RETURN QUERY SELECT e.line FROM matrix.entry AS e ORDER BY e.line;
END
$$;

-- Each time that a gate let somebody in.
CREATE FUNCTION matrix.let_in() RETURNS SETOF text
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'event ' || coalesce(e.target_id, '-') FROM invite_sync.error_log AS e WHERE e.action = 'quarantine.gate_let_in' ORDER BY 1
$$;

-- All that the catalogs know of a trigger, its function on a line of its own.
CREATE FUNCTION matrix.picture(wanted name) RETURNS SETOF text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found	pg_trigger;
BEGIN
	SELECT * INTO STRICT found FROM pg_trigger AS t WHERE t.tgrelid = 'auth.users'::regclass AND t.tgname = wanted;
	RETURN NEXT 'row ' || (to_jsonb(found) - 'tgfoid')::text;
	RETURN NEXT 'function ' || found.tgfoid::regprocedure;
	RETURN NEXT 'definition ' || pg_get_triggerdef(found.oid);
	RETURN QUERY SELECT 'comment ' || obj_description(found.oid, 'pg_trigger');
	RETURN QUERY SELECT concat_ws(' ', 'needs', d.deptype, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)) AS line
		FROM pg_depend AS d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = found.oid ORDER BY line;
	RETURN QUERY SELECT concat_ws(' ', 'needed', d.deptype, pg_describe_object(d.classid, d.objid, d.objsubid)) AS line
		FROM pg_depend AS d WHERE d.refclassid = 'pg_trigger'::regclass AND d.refobjid = found.oid ORDER BY line;
	RETURN QUERY SELECT 'shared ' || to_jsonb(d)::text FROM pg_shdepend AS d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = found.oid
		AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database());
	RETURN QUERY SELECT 'table ' || concat_ws(' ', c.relhastriggers, (SELECT count(*) FROM pg_trigger AS t WHERE t.tgrelid = c.oid))
		FROM pg_class AS c WHERE c.oid = found.tgrelid;
END
$$;
