--
-- The audit log: writing, append-only, seals, retention, redaction.
--
-- Ids of events are not shown before the log begins anew: earlier tests may
-- have written some.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA event_test;
CREATE EXTENSION dblink SCHEMA event_test;
SET search_path = public, event_test;
GRANT USAGE ON SCHEMA event_test TO anon, authenticated, service_role, supabase_auth_admin;
RESET client_min_messages;

INSERT INTO auth.users (id, is_anonymous, banned_until, deleted_at) VALUES
	('e0000000-0000-4000-8000-000000000001', false, NULL, NULL),
	('e0000000-0000-4000-8000-000000000002', false, NULL, NULL),
	('e0000000-0000-4000-8000-00000000000a', true, NULL, NULL),
	('e0000000-0000-4000-8000-00000000000b', false, 'infinity', NULL),
	('e0000000-0000-4000-8000-00000000000d', false, NULL, now());
\set ann '\'e0000000-0000-4000-8000-000000000001\''
\set bob '\'e0000000-0000-4000-8000-000000000002\''
\set nil '\'e0000000-0000-4000-8000-0000000000ff\''
\set org '\'f0000000-0000-4000-8000-000000000001\''
\set other '\'f0000000-0000-4000-8000-000000000002\''
-- ann is a member of one organization and of no other
INSERT INTO invite_sync.organization (id, name, slug) VALUES (:org, 'Event', 'event-org'), (:other, 'Other', 'event-other');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (:org, :ann, '00000000-0000-4000-8000-00000000000a');

-- what the last event looks like
CREATE VIEW event_test.last AS
	SELECT kind, action, actor_id, organization_id, target_type, target_id, data, request
	FROM invite_sync.event ORDER BY id DESC LIMIT 1;
-- the usual definer wrapper, owned by a superuser
CREATE FUNCTION event_test.log_as_definer(action text, user_id uuid DEFAULT NULL) RETURNS boolean
	LANGUAGE sql SECURITY DEFINER
	AS $$ SELECT invite_sync.log_event(action, user_id => user_id) IS NOT NULL $$;
-- makes the session a user's, an anonymous visitor's, ...
CREATE FUNCTION event_test.claim(sub text, role text DEFAULT 'authenticated') RETURNS void
	LANGUAGE sql
	AS $$ SELECT set_config('request.jwt.claims', jsonb_build_object('sub', sub, 'role', role)::text, false) $$;

\pset null (null)
\x on

--
-- Service
--
SELECT invite_sync.log_event('order.paid') AS id \gset
SELECT max(id) = :id AS returns_its_id FROM invite_sync.event;
TABLE event_test.last;
SELECT clock_timestamp() - at < '1 minute' AND at <= clock_timestamp() AS is_now
FROM invite_sync.event ORDER BY id DESC LIMIT 1;
SET ROLE service_role;
SELECT invite_sync.log_event('order.paid', 'order', '42', '{"total": 12.50}', :ann, :org) IS NOT NULL AS written;
SELECT invite_sync.log_event('price.changed', 'product', '7', kind => 'admin') IS NOT NULL AS written;
SELECT invite_sync.log_event('payment.failed', data => '{"code": "card_declined"}', kind => 'error') IS NOT NULL AS written;
RESET ROLE;
SELECT kind, action, actor_id, organization_id, target_type, target_id, data, request
FROM invite_sync.event ORDER BY id DESC LIMIT 3;
-- what the extension does by itself is for it to say, and there are no other kinds
SELECT invite_sync.log_event('x', kind => 'system');
SELECT invite_sync.log_event('x', kind => 'debug');
SELECT invite_sync.log_event('x', kind => repeat('admin', 100000));
-- claims lower what a role may do
SELECT event_test.claim(:ann) \g /dev/null
SELECT invite_sync.log_event('as.user', user_id => :bob, kind => 'admin') IS NOT NULL AS written;
SELECT kind, actor_id, data FROM event_test.last;
RESET request.jwt.claims;

--
-- The auth server's role: triggers that fire on a signup run in its session
--
SET ROLE supabase_auth_admin;
SELECT event_test.log_as_definer('signup.seen', :ann) AS written;
RESET ROLE;
SELECT kind, action, actor_id, request FROM event_test.last;

--
-- Users log as themselves
--
SET ROLE authenticated;
SELECT event_test.claim(:ann) \g /dev/null
SELECT invite_sync.log_event('page.opened', 'page', 'home', organization_id => :org) IS NOT NULL AS written;
-- an organization that is not theirs is not named, and neither is one that is not
SELECT invite_sync.log_event('page.opened', organization_id => :other) IS NOT NULL AS written;
SELECT invite_sync.log_event('page.opened', organization_id => :nil) IS NOT NULL AS written;
SELECT invite_sync.log_event('page.opened', user_id => :ann) IS NOT NULL AS written;
SELECT invite_sync.log_event('page.opened', user_id => :bob, kind => 'admin') IS NOT NULL AS written;
SELECT event_test.log_as_definer('page.opened', :bob) AS written;
RESET ROLE;
SELECT kind, action, actor_id, organization_id, target_type, target_id, data, request
FROM invite_sync.event ORDER BY id DESC LIMIT 6;
-- but they do not read
SET ROLE authenticated;
SELECT FROM invite_sync.event;
SELECT FROM invite_sync.activity_log;
RESET ROLE;

-- a claim to be service gives nothing
SET ROLE authenticated;
SELECT event_test.claim(:ann, 'service_role') \g /dev/null
SELECT invite_sync.log_event('page.opened', user_id => :bob);
-- nor do claims that are not the token's own: nested ones, or what the user wrote
SELECT set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'email', 'ann@x.example',
	'user_metadata', jsonb_build_object('sub', :ann, 'role', 'service_role'), 'app_metadata', jsonb_build_object('sub', :ann))::text, false) \g /dev/null
SELECT invite_sync.log_event('page.opened');
-- neither an anonymous user, nor a banned, deleted or unknown one
SELECT event_test.claim('e0000000-0000-4000-8000-00000000000a') \g /dev/null
SELECT invite_sync.log_event('page.opened');
SELECT event_test.log_as_definer('page.opened');
SELECT event_test.claim('e0000000-0000-4000-8000-00000000000b') \g /dev/null
SELECT invite_sync.log_event('page.opened');
SELECT event_test.claim('e0000000-0000-4000-8000-00000000000d') \g /dev/null
SELECT invite_sync.log_event('page.opened');
SELECT event_test.claim(:nil) \g /dev/null
SELECT invite_sync.log_event('page.opened');
-- nobody
SELECT event_test.claim('not-a-uuid') \g /dev/null
SELECT invite_sync.log_event('page.opened');
SET request.jwt.claims = '{"sub": ';
SELECT invite_sync.log_event('page.opened');
RESET request.jwt.claims;
SELECT invite_sync.log_event('page.opened');
-- the setting of older versions of PostgREST says who it is where there is no other
SELECT set_config('request.jwt.claim.sub', :ann, false) \g /dev/null
SELECT invite_sync.log_event('legacy.claim') IS NOT NULL AS written;
SELECT event_test.claim(:bob) \g /dev/null
SELECT invite_sync.log_event('legacy.claim') IS NOT NULL AS written;
RESET request.jwt.claims;
RESET request.jwt.claim.sub;
RESET ROLE;
SELECT actor_id FROM invite_sync.event WHERE action = 'legacy.claim' ORDER BY id;
-- anon: not even by a detour
SET ROLE anon;
SELECT invite_sync.log_event('page.opened');
SELECT event_test.log_as_definer('page.opened');
SELECT event_test.claim(:ann) \g /dev/null
SELECT event_test.log_as_definer('page.opened');
RESET ROLE;
RESET request.jwt.claims;
\x off
SELECT count(*) FROM invite_sync.event WHERE action = 'page.opened';

--
-- Actions of our own rooms
--
SET client_min_messages = error;
SELECT room, invite_sync.log_event(room || '.x') IS NULL AS refused, invite_sync.log_event(room) IS NOT NULL AS bare_name,
	invite_sync.log_event(room || 's.x') IS NOT NULL AS longer_name
FROM unnest('{caller,plan,event,sync,quarantine,organization,membership,token,invitation,quota,account,hook,doctor,drift}'::text[]) AS room;
SELECT action, invite_sync.log_event(action) IS NULL AS refused
FROM unnest('{EVENT.pruned," event.pruned","\"event.pruned","-event.pruned",my.event.x}'::text[]) AS action;
RESET client_min_messages;
SELECT invite_sync.log_event('sync.created');
SET ROLE authenticated;
SELECT event_test.claim(:ann) \g /dev/null
SELECT invite_sync.log_event('event.pruned', data => '{"through_id": 1000000}');
RESET ROLE;
RESET request.jwt.claims;

--
-- Arguments
--
SELECT invite_sync.log_event(NULL);
SELECT invite_sync.log_event('');
SELECT invite_sync.log_event(repeat('a', 200)) IS NOT NULL AS written;
SELECT invite_sync.log_event(repeat('a', 201));
SELECT invite_sync.log_event(repeat('a', 1000000));
SELECT invite_sync.log_event(E'a\nb');
SELECT invite_sync.log_event('a', target_type => repeat('a', 201));
SELECT invite_sync.log_event('a', target_id => E'\x7f');
-- data: 8 kB as text
SELECT octet_length(d::text), invite_sync.log_event('a', data => d) IS NOT NULL AS written
FROM (SELECT jsonb_build_object('a', repeat('x', 8192 - 9)) AS d) AS s;
SELECT invite_sync.log_event('a', data => jsonb_build_object('a', repeat('x', 8193 - 9)));
SELECT invite_sync.log_event('a', data => jsonb_build_object('a', repeat('x', 10000000)));
-- the forms that take the most room beside their text
SELECT octet_length(d::text) <= 8192 AS fits, invite_sync.log_event('a', data => d) IS NOT NULL AS written
FROM (SELECT jsonb_agg(1) AS d FROM generate_series(1, 2700)
	UNION ALL SELECT jsonb_agg('[]'::jsonb) FROM generate_series(1, 2040)
	UNION ALL SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 2040)) AS s;
-- always an object
SELECT invite_sync.log_event('a', data => d) IS NOT NULL AS written
FROM unnest(ARRAY['{"a": 1}', '[1, 2]', '"s"', 'null', NULL]::jsonb[]) AS d;
SELECT data FROM (SELECT id, data FROM invite_sync.event ORDER BY id DESC LIMIT 5) AS s ORDER BY id;

--
-- A user nobody knows becomes NULL; the id stays in data
--
SELECT invite_sync.log_event('a', data => '{"b": 1}', user_id => :nil) IS NOT NULL AS written;
SELECT actor_id, data FROM event_test.last;
-- one who was deleted softly is still known
SELECT invite_sync.log_event('a', user_id => 'e0000000-0000-4000-8000-00000000000d') IS NOT NULL AS written;
SELECT actor_id, data FROM event_test.last;

--
-- A user whom a target lacks gets their row first. A target that is broken does
-- not cost the event.
--
CREATE TABLE public.event_users (id uuid PRIMARY KEY);
ALTER TABLE public.event_users OWNER TO postgres;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT invite_sync.add_target('public.event_users') IS NOT NULL AS added;
SELECT invite_sync.log_event('a', user_id => :ann) IS NOT NULL AS written;
SELECT EXISTS (SELECT FROM public.event_users WHERE id = :ann) AS ensured;
-- what was written for it is there for the caller's next statement
SELECT count(*) AS rows FROM public.event_users;
-- users are ensured too, though ensure_user() is not theirs to call
DELETE FROM public.event_users;
SELECT event_test.claim(:bob) \g /dev/null
SET LOCAL ROLE authenticated;
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
RESET ROLE;
SELECT EXISTS (SELECT FROM public.event_users WHERE id = :bob) AS ensured;
RESET request.jwt.claims;
-- a target's trigger that logs too comes to an end
DELETE FROM public.event_users;
CREATE FUNCTION event_test.log_signup() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM invite_sync.log_event('profile.made', user_id => new.id);
	RETURN new;
END $$;
CREATE TRIGGER log_signup BEFORE INSERT ON public.event_users
	FOR EACH ROW EXECUTE FUNCTION event_test.log_signup();
SELECT invite_sync.log_event('a', user_id => :ann) IS NOT NULL AS written;
-- and logs in a signup, as the target's owner in the auth server's session
SET LOCAL ROLE supabase_auth_admin;
INSERT INTO auth.users (id) VALUES ('e0000000-0000-4000-8000-00000000000e');
RESET ROLE;
SELECT kind, action, actor_id FROM event_test.last;
ALTER TABLE public.event_users ADD CONSTRAINT broken CHECK (id IS NULL) NOT VALID;
DELETE FROM public.event_users;
SELECT invite_sync.log_event('a', user_id => :ann) IS NOT NULL AS written;
SELECT actor_id FROM event_test.last;
ROLLBACK;

--
-- What is kept of the request
--
SET request.method = 'POST';
SET request.path = '/rpc/accept';
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
SELECT request FROM event_test.last;
SET request.path = '/invitations/accept/s3cret-token?x=1';
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
SELECT request FROM event_test.last;
SET request.method = 'GET /ann@example.com';
SET request.path = '/ann@example.com';
SET request.headers = '{"authorization": "Bearer s3cret", "x-forwarded-for": "10.0.0.1"}';
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
SELECT request FROM event_test.last;
SET request.path = '/ann%40example.com';
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
SELECT request FROM event_test.last;
SELECT set_config('request.path', '/' || repeat('a', 200), false) \g /dev/null
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
SELECT request FROM event_test.last;
RESET request.method;
RESET request.path;
RESET request.headers;

--
-- It never raises and never blocks its caller's work
--
CREATE TABLE event_test.work (id int);
BEGIN READ ONLY;
SELECT invite_sync.log_event('a');
ROLLBACK;
BEGIN;
ALTER TABLE invite_sync.event ADD CONSTRAINT broken CHECK (action <> 's3cret') NOT VALID;
INSERT INTO event_test.work VALUES (1);
SELECT invite_sync.log_event('s3cret', 'user', 's3cret', '{"token": "s3cret"}');
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
ALTER TABLE invite_sync.event DROP CONSTRAINT broken;
COMMIT;
TABLE event_test.work;

SELECT dblink_connect(name, format('host=%s port=%s dbname=%s user=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
	current_setting('port'), current_database(), current_user)) FROM unnest('{one,two}'::text[]) AS name;
SELECT dblink_exec('one', 'BEGIN; LOCK TABLE invite_sync.event IN EXCLUSIVE MODE');
SELECT clock_timestamp() AS before \gset
BEGIN;
INSERT INTO event_test.work VALUES (2);
SELECT invite_sync.log_event('a');
SHOW lock_timeout;
COMMIT;
TABLE event_test.work;
SELECT clock_timestamp() - :'before' < '10 s' AS did_not_wait_long;
-- a cancel goes through, so also a timeout of the statement
SET statement_timeout = '50ms';
SELECT invite_sync.log_event('a');
RESET statement_timeout;
SELECT dblink_exec('one', 'ROLLBACK');
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
-- what its caller rolls back takes the event along
SELECT count(*) AS before FROM invite_sync.event \gset
BEGIN;
SELECT invite_sync.log_event('a') IS NOT NULL AS written;
ROLLBACK;
SELECT count(*) - :before AS stayed FROM invite_sync.event;
DROP TABLE event_test.work;

--
-- Views
--
SELECT count(*) > 0 AS some, count(*) = (SELECT count(*) FROM invite_sync.event WHERE kind = 'activity') AS same FROM invite_sync.activity_log;
SELECT count(*) > 0 AS some, count(*) = (SELECT count(*) FROM invite_sync.event WHERE kind = 'admin') AS same FROM invite_sync.admin_log;
SELECT count(*) > 0 AS some, count(*) = (SELECT count(*) FROM invite_sync.event WHERE kind = 'error') AS same FROM invite_sync.error_log;
INSERT INTO invite_sync.event (kind, action) VALUES ('system', 'event.test');
SELECT count(*) > 0 AS some, count(*) = (SELECT count(*) FROM invite_sync.event WHERE kind = 'system') AS same FROM invite_sync.system_log;
\set VERBOSITY terse
INSERT INTO invite_sync.event (kind, action) VALUES ('debug', 'event.test');
\set VERBOSITY default

--
-- Append-only: for superusers, for the owner, by every road
--
UPDATE invite_sync.event SET action = 'b' WHERE false;
DELETE FROM invite_sync.event;
DELETE FROM invite_sync.activity_log;
TRUNCATE invite_sync.event;
TRUNCATE invite_sync.event CASCADE;
MERGE INTO invite_sync.event AS e USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE;
INSERT INTO invite_sync.event (id, kind, action) OVERRIDING SYSTEM VALUE SELECT max(id), 'admin', 'b' FROM invite_sync.event
	ON CONFLICT (id) DO UPDATE SET action = 'b';
WITH gone AS (DELETE FROM invite_sync.event RETURNING id) SELECT count(*) FROM gone;
UPDATE invite_sync.event_seal SET rows = 0;
DELETE FROM invite_sync.event_seal;
TRUNCATE invite_sync.event_seal;
SET session_replication_role = replica;
DELETE FROM invite_sync.event;
RESET session_replication_role;
SET ROLE invite_sync_owner;
UPDATE invite_sync.event SET action = 'b';
DELETE FROM invite_sync.event;
TRUNCATE invite_sync.event;
RESET ROLE;
-- what a restore does goes through
COPY invite_sync.event (kind, action) FROM PROGRAM 'echo admin,restored' WITH (FORMAT csv);
SELECT action FROM event_test.last;
-- the function refuses to be anything else's
CREATE TABLE event_test.t (id int);
CREATE TRIGGER t AFTER DELETE ON event_test.t FOR EACH ROW EXECUTE FUNCTION invite_sync.event_append_only();
INSERT INTO event_test.t VALUES (1);
DELETE FROM event_test.t;
DROP TABLE event_test.t;

--
-- Deny by default
--
SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner) AS owner,
	has_table_privilege('anon', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') AS anon,
	has_table_privilege('authenticated', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') AS authenticated,
	has_table_privilege('service_role', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS service_role_writes,
	has_table_privilege('service_role', c.oid, 'SELECT') AS service_role_reads
FROM pg_class AS c
WHERE c.relnamespace = 'invite_sync'::regnamespace
	AND c.relname IN ('event', 'event_seal', 'activity_log', 'admin_log', 'error_log', 'system_log')
ORDER BY c.relname COLLATE "C";
SELECT p.proname, p.provolatile, p.proparallel, p.prosecdef, p.proconfig,
	has_function_privilege('anon', p.oid, 'EXECUTE') AS anon,
	has_function_privilege('authenticated', p.oid, 'EXECUTE') AS authenticated,
	has_function_privilege('service_role', p.oid, 'EXECUTE') AS service_role,
	has_function_privilege('supabase_auth_admin', p.oid, 'EXECUTE') AS auth
FROM pg_proc AS p
WHERE p.pronamespace = 'invite_sync'::regnamespace
	AND p.proname IN ('log_event', 'redact_payload', 'seal_events', 'verify_events', 'prune_events', 'event_append_only')
ORDER BY p.proname COLLATE "C";
-- dumped, with their sequences
SELECT t.oid::regclass FROM pg_extension AS e, unnest(e.extconfig) AS t (oid)
WHERE e.extname = 'invite_sync' AND t.oid::regclass::text LIKE 'invite_sync.event%'
ORDER BY t.oid::regclass::text COLLATE "C";
-- every object says what it is
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relname ~ '^event|_log$' AND c.relkind IN ('r', 'v', 'S')
	AND obj_description(c.oid, 'pg_class') IS NULL;

--
-- Seals
--
SET ROLE service_role;
SELECT invite_sync.seal_events();
SELECT invite_sync.verify_events();
CALL invite_sync.prune_events('1 year');
RESET ROLE;
-- claims lower an operator, too
SELECT event_test.claim(:ann) \g /dev/null
SELECT invite_sync.seal_events();
SELECT invite_sync.verify_events();
CALL invite_sync.prune_events('1 year');
RESET request.jwt.claims;
SELECT invite_sync.seal_events(0);
SELECT invite_sync.seal_events(NULL);
SELECT invite_sync.seal_events(wait => '-1 s');
SELECT invite_sync.seal_events(wait => '1 year');
SELECT invite_sync.seal_events(wait => NULL);

-- A superuser can still do everything: the log begins anew
ALTER TABLE invite_sync.event DISABLE TRIGGER event_append_only;
ALTER TABLE invite_sync.event_seal DISABLE TRIGGER event_append_only;
TRUNCATE invite_sync.event, invite_sync.event_seal;
ALTER TABLE invite_sync.event ENABLE ALWAYS TRIGGER event_append_only;
ALTER TABLE invite_sync.event_seal ENABLE ALWAYS TRIGGER event_append_only;
ALTER TABLE invite_sync.event ALTER id RESTART;
ALTER TABLE invite_sync.event_seal ALTER id RESTART;

SELECT * FROM invite_sync.seal_events();
SELECT * FROM invite_sync.verify_events();
SELECT invite_sync.log_event('e' || i, 'thing', 'ü' || i, jsonb_build_object('i', i, 'x', 1.50), :ann, :org)
FROM generate_series(1, 5) AS i;
-- a gap
BEGIN;
SELECT invite_sync.log_event('never');
ROLLBACK;
SELECT invite_sync.log_event('e7');
SELECT seal_id, first_id, last_id, rows, length(digest) FROM invite_sync.seal_events(batch_size => 4);
SELECT * FROM invite_sync.seal_events();
SELECT * FROM invite_sync.verify_events();
SELECT s.id, s.previous = lag(s.digest) OVER (ORDER BY s.id) AS chained FROM invite_sync.event_seal AS s ORDER BY s.id;

-- computed as docs/event.md says, by anybody who can read the tables
CREATE FUNCTION event_test.digests() RETURNS TABLE (id bigint, same boolean) LANGUAGE sql AS $$
	WITH batch AS (
		SELECT s.*, (
			SELECT sha256(string_agg(sha256(convert_to(jsonb_build_array(
				e.id, (extract(epoch FROM e.at) * 1000000)::bigint, e.kind, e.action, e.actor_id, e.organization_id,
				e.target_type, e.target_id, e.data, e.request)::text, 'UTF8')), '' ORDER BY e.id))
			FROM invite_sync.event AS e WHERE e.id BETWEEN s.first_id AND s.last_id) AS computed
		FROM invite_sync.event_seal AS s
	)
	SELECT b.id, b.digest = sha256(
		convert_to(format('invite_sync seal 1 %s %s %s %s ',
			b.first_id, b.last_id, b.rows, (extract(epoch FROM b.at) * 1000000)::bigint), 'UTF8')
		|| coalesce(lag(b.digest) OVER (ORDER BY b.id), '') || b.computed)
	FROM batch AS b ORDER BY b.id
$$;
SELECT * FROM event_test.digests();
-- no setting changes them
BEGIN;
SET LOCAL TimeZone = 'Asia/Kathmandu';
SET LOCAL DateStyle = 'German';
SET LOCAL IntervalStyle = 'sql_standard';
SET LOCAL bytea_output = 'escape';
SET LOCAL extra_float_digits = -15;
SET LOCAL standard_conforming_strings = off;
SET LOCAL search_path = event_test, public, pg_catalog;
SELECT * FROM invite_sync.verify_events();
COMMIT;
-- in a read-only transaction, as on a standby
BEGIN READ ONLY;
SELECT bool_and(ok) FROM invite_sync.verify_events();
SELECT invite_sync.seal_events();
ROLLBACK;

-- In flight: "one" has the lower transaction id, "two" draws the lower event
-- id; one has committed and two has not.
SELECT dblink_exec('one', 'BEGIN');
SELECT * FROM dblink('one', 'SELECT pg_current_xact_id() IS NOT NULL') AS (has_xid bool);
SELECT dblink_exec('two', 'BEGIN');
SELECT * FROM dblink('two', $$ SELECT invite_sync.log_event('late') $$) AS (id bigint);
SELECT * FROM dblink('one', $$ SELECT invite_sync.log_event('early') $$) AS (id bigint);
SELECT dblink_exec('one', 'COMMIT');
\set VERBOSITY terse
SELECT * FROM invite_sync.seal_events(wait => '0');
\set VERBOSITY default
SHOW lock_timeout;
-- a sealer that waits holds nobody up
SELECT dblink_send_query('one', $$ SELECT rows FROM invite_sync.seal_events(wait => '1 min') $$);
DO $$
BEGIN
	-- until it has looked and waits
	FOR i IN 1 .. 2000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE relation = 'invite_sync.event_seal'::regclass AND mode = 'ShareRowExclusiveLock' AND wait_event_type = 'Extension');
		PERFORM pg_stat_clear_snapshot();
		PERFORM pg_sleep(0.003);
	END LOOP;
END $$;
SELECT invite_sync.log_event('meanwhile');
SELECT dblink_is_busy('one');
-- a second one takes its turn
\set VERBOSITY terse
SELECT * FROM invite_sync.seal_events(wait => '10 ms');
\set VERBOSITY default
SELECT dblink_exec('two', 'COMMIT');
SELECT * FROM dblink_get_result('one') AS (rows bigint);
SELECT * FROM dblink_get_result('one') AS (rows bigint);
SELECT * FROM invite_sync.verify_events();
SELECT rows FROM invite_sync.seal_events();
SELECT bool_and(ok), count(*) FROM invite_sync.verify_events();
-- only writers are waited for
SELECT dblink_exec('two', 'BEGIN; LOCK TABLE invite_sync.event IN SHARE UPDATE EXCLUSIVE MODE');
SELECT invite_sync.log_event('during a vacuum');
SELECT rows FROM invite_sync.seal_events(wait => '0');
SELECT dblink_exec('two', 'COMMIT');
-- an older snapshot does not hide what was committed since
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM invite_sync.event WHERE action = 'since';
SELECT * FROM dblink('two', $$ SELECT invite_sync.log_event('since') $$) AS (id bigint);
SELECT rows FROM invite_sync.seal_events();
COMMIT;
-- one's own events of this transaction, and a seal that is rolled back
BEGIN;
SELECT invite_sync.log_event('own');
SELECT rows FROM invite_sync.seal_events();
ROLLBACK;
SELECT invite_sync.log_event('own');
SELECT rows FROM invite_sync.seal_events();
SELECT * FROM invite_sync.verify_events();

-- What was done to the log shows
SELECT encode(digest, 'hex') AS anchor FROM invite_sync.event_seal ORDER BY id DESC LIMIT 1 \gset
SELECT count(*) FILTER (WHERE NOT ok) AS wrong FROM invite_sync.verify_events(upper(:'anchor'));
SELECT * FROM invite_sync.verify_events('00') WHERE NOT ok;
BEGIN;
ALTER TABLE invite_sync.event DISABLE TRIGGER event_append_only;
ALTER TABLE invite_sync.event_seal DISABLE TRIGGER event_append_only;
SAVEPOINT s;
UPDATE invite_sync.event SET actor_id = :bob WHERE id = 1;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
UPDATE invite_sync.event SET at = at + '1 us' WHERE id = 5;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
DELETE FROM invite_sync.event WHERE id IN (2, 3);
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
DELETE FROM invite_sync.event WHERE id <= 4;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
INSERT INTO invite_sync.event (id, kind, action) OVERRIDING SYSTEM VALUE VALUES (6, 'activity', 'forged'), (0, 'activity', 'forged');
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
-- ... also when the seal is made to fit
UPDATE invite_sync.event_seal SET at = at + '1 us' WHERE id = 1;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
UPDATE invite_sync.event_seal SET digest = sha256('forged') WHERE id = 1;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
DELETE FROM invite_sync.event_seal WHERE id = 1;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK TO s;
-- ... and the end cut off, for who has kept the last digest
DELETE FROM invite_sync.event_seal WHERE id >= 5;
DELETE FROM invite_sync.event WHERE id > (SELECT max(last_id) FROM invite_sync.event_seal);
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
SELECT * FROM invite_sync.verify_events(:'anchor') WHERE NOT ok;
ROLLBACK;

--
-- Retention
--
CALL invite_sync.prune_events(NULL);
CALL invite_sync.prune_events('-1 day');
CALL invite_sync.prune_events('1 year', 0);
CALL invite_sync.prune_events('1 year', NULL);
BEGIN;
CALL invite_sync.prune_events('1 year');
ROLLBACK;
CREATE FUNCTION event_test.prune() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL invite_sync.prune_events('1 year'); END $$;
SELECT event_test.prune();
CALL invite_sync.prune_events('1 year');
SELECT count(*) FROM invite_sync.event WHERE action = 'event.pruned';

ALTER TABLE invite_sync.event DISABLE TRIGGER event_append_only;
ALTER TABLE invite_sync.event_seal DISABLE TRIGGER event_append_only;
TRUNCATE invite_sync.event, invite_sync.event_seal;
ALTER TABLE invite_sync.event ENABLE ALWAYS TRIGGER event_append_only;
ALTER TABLE invite_sync.event_seal ENABLE ALWAYS TRIGGER event_append_only;
ALTER TABLE invite_sync.event ALTER id RESTART;
ALTER TABLE invite_sync.event_seal ALTER id RESTART;

-- 1 to 9 are old, 10 and 11 are not; the batches are 1-3, 4-6, 7-8, 9-11
INSERT INTO invite_sync.event (at, kind, action) SELECT '2020-01-01', 'activity', 'old' FROM generate_series(1, 8);
SELECT first_id, last_id FROM invite_sync.seal_events(3);
INSERT INTO invite_sync.event (at, kind, action) VALUES ('2020-01-01', 'activity', 'old'), (now(), 'activity', 'new'), (now(), 'activity', 'new');
SELECT first_id, last_id FROM invite_sync.seal_events(3);

-- which transaction took which event, and no deleting in the shadow of retention
CREATE TABLE event_test.pruned (id bigint, xid xid8);
CREATE FUNCTION event_test.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO event_test.pruned VALUES (old.id, pg_current_xact_id());
	IF old.id = 6 THEN
		DELETE FROM invite_sync.event WHERE id > 8;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER DELETE ON invite_sync.event FOR EACH ROW EXECUTE FUNCTION event_test.note();
CALL invite_sync.prune_events('1 year', 2);
-- it ended in the middle: what it had committed stays done, and nobody else may delete now
DELETE FROM invite_sync.event;
SELECT array_agg(id ORDER BY id) FROM invite_sync.event WHERE action <> 'event.pruned';
SELECT * FROM invite_sync.verify_events();
SELECT array_agg(id ORDER BY id) FROM event_test.pruned GROUP BY xid ORDER BY 1;
-- what is missing beyond what retention was to take is not excused
BEGIN;
ALTER TABLE invite_sync.event DISABLE TRIGGER event_append_only;
ALTER TABLE invite_sync.event DISABLE TRIGGER note;
DELETE FROM invite_sync.event WHERE id = 10;
SELECT * FROM invite_sync.verify_events() WHERE NOT ok;
ROLLBACK;
CREATE OR REPLACE FUNCTION event_test.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO event_test.pruned VALUES (old.id, pg_current_xact_id());
	RETURN NULL;
END $$;
CALL invite_sync.prune_events('1 year', 2);
DROP TRIGGER note ON invite_sync.event;
SELECT array_agg(id ORDER BY id) FROM invite_sync.event WHERE action <> 'event.pruned';
SELECT * FROM invite_sync.verify_events();
SELECT action, actor_id, data ->> 'through_id' AS through_id, now() - (data ->> 'before')::timestamptz > '364 days' AS before, request
FROM invite_sync.admin_log ORDER BY id DESC LIMIT 1;
-- again: nothing to do, nothing noted
CALL invite_sync.prune_events('1 year', 2);
SELECT count(*) FROM invite_sync.event WHERE action = 'event.pruned';
-- everything, also what was never sealed; an operator who is no superuser may
SET ROLE postgres;
CALL invite_sync.prune_events('0');
RESET ROLE;
SELECT action, data ->> 'through_id' AS through_id, request ->> 'role' AS role FROM invite_sync.event;
SELECT * FROM invite_sync.verify_events();
-- the chain goes on
SELECT rows FROM invite_sync.seal_events();
SELECT bool_and(ok), count(*) FROM invite_sync.verify_events();

--
-- Redaction
--
SELECT invite_sync.redact_payload('{"email": "ann@example.com", "phone": "", "name": null, "age": 0, "ok": false,
	"nested": {"list": ["a", "", null, {"b": 1}, []], "empty": {}}}');
SELECT payload, invite_sync.redact_payload(payload)
FROM unnest(ARRAY['"s"', '""', 'null', '1', 'true', '[]', '{}', '[null]', NULL]::jsonb[]) AS payload;
SELECT invite_sync.redact_payload((repeat('[', 5000) || '"s"' || repeat(']', 5000))::jsonb)
	= (repeat('[', 5000) || '"[PRESENT]"' || repeat(']', 5000))::jsonb AS deep;

--
-- docs/event.md: an application's own audit table
--
CREATE TABLE public.event_audit (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id uuid REFERENCES public.event_users (id) ON DELETE SET NULL,
	unknown_user_id uuid,
	action text NOT NULL
);
CREATE FUNCTION public.event_audit_user() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
	AS $$
BEGIN
	IF new.user_id IS NULL THEN
		RETURN new;
	END IF;
	PERFORM FROM public.event_users AS u WHERE u.id = new.user_id FOR KEY SHARE;
	IF NOT FOUND THEN
		-- never raises, and has tried to give the user their row
		PERFORM invite_sync.log_event('audit.user_missing', 'user', new.user_id::text, user_id => new.user_id);
		PERFORM FROM public.event_users AS u WHERE u.id = new.user_id FOR KEY SHARE;
		IF NOT FOUND THEN
			new.unknown_user_id := new.user_id;
			new.user_id := NULL;
		END IF;
	END IF;
	RETURN new;
END
$$;
CREATE TRIGGER event_audit_user BEFORE INSERT ON public.event_audit
	FOR EACH ROW EXECUTE FUNCTION public.event_audit_user();
REVOKE ALL ON FUNCTION public.event_audit_user() FROM PUBLIC;
-- known; nobody; unknown to both
INSERT INTO public.event_users VALUES (:ann) ON CONFLICT DO NOTHING;
INSERT INTO public.event_audit (user_id, action) VALUES (:ann, 'known'), (NULL, 'nobody'), (:nil, 'unknown');
SELECT user_id, unknown_user_id, action FROM public.event_audit ORDER BY id;
-- an auth user whom the target lacks: by service, and by themselves
BEGIN;
SET LOCAL client_min_messages = error;
SELECT invite_sync.add_target('public.event_users') IS NOT NULL AS added;
DELETE FROM public.event_users;
INSERT INTO public.event_audit (user_id, action) VALUES (:ann, 'by service');
SELECT event_test.claim(:bob) \g /dev/null
SET LOCAL ROLE authenticated;
INSERT INTO public.event_audit (user_id, action) VALUES (:bob, 'by themselves');
RESET ROLE;
SELECT action, user_id IS NOT NULL AS has_user FROM public.event_audit WHERE action LIKE 'by %' ORDER BY id;
ROLLBACK;
-- the user goes, the audit row stays
DELETE FROM public.event_users;
SELECT user_id, action FROM public.event_audit WHERE action = 'known';

-- leave nothing behind
SELECT dblink_disconnect(name) FROM unnest('{one,two}'::text[]) AS name;
SET client_min_messages = warning;
DROP TABLE public.event_audit, public.event_users;
DROP FUNCTION public.event_audit_user();
DROP EXTENSION dblink;
DROP SCHEMA event_test CASCADE;
DELETE FROM invite_sync.organization WHERE id::text LIKE 'f0000000-%';
DELETE FROM auth.users WHERE id::text LIKE 'e0000000-%';
