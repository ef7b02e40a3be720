--
-- How many invitations in all, and how many actions per window.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA quota_test;
SET search_path = public, quota_test;
\pset null (null)

CREATE FUNCTION quota_test.u(name text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT u.id FROM auth.users AS u WHERE u.raw_user_meta_data->>'nick' = $1), 'd0000000-0000-4000-8000-0000000000ff') $$;
-- Calls a function of ours as somebody (NULL: a service) and tells the answer without ids and times, or the refusal.
CREATE FUNCTION quota_test.try(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
	state text;
BEGIN
	IF who = 'anon' THEN
		PERFORM set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('role', 'anon', true);
	ELSIF who IS NOT NULL THEN
		PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', quota_test.u(who), 'role', 'authenticated')::text, true),
			set_config('role', 'authenticated', true);
	END IF;
	EXECUTE format($f$ SELECT string_agg((SELECT string_agg(e.key || '=' || coalesce(e.value #>> '{}', 'null'), ' ' ORDER BY e.key)
			FROM jsonb_each(to_jsonb(x)) AS e WHERE e.key !~ '(_id|_at|^token|^url|^cursor)$' AND e.value <> 'null'), E'\n') FROM invite_sync.%s AS x $f$, call) INTO answer;
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN coalesce('ok ' || answer, 'nothing');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	RETURN concat_ws(' ', state, CASE WHEN state LIKE 'PT%' THEN
		regexp_replace(regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g'), '\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', 'TIME') ELSE SQLERRM END);
END
$$;
-- Somebody invites an address; only what is refused is told.
CREATE FUNCTION quota_test.invite(who text, email text) RETURNS text LANGUAGE sql
	AS $$ SELECT CASE WHEN a.answer LIKE 'ok %' THEN 'ok' ELSE a.answer END
	        FROM quota_test.try(who, format('create_invitation(%L)', email)) AS a (answer) $$;
CREATE FUNCTION quota_test.detail_of(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE format('SELECT 1 FROM invite_sync.%s', call);
	RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail;
END
$$;
CREATE FUNCTION quota_test.expire(email text) RETURNS void LANGUAGE sql
	AS $$ UPDATE invite_sync.invitation SET expires_at = clock_timestamp() - interval '1 second' WHERE email = $1 AND status = 'pending' $$;
CREATE VIEW quota_test.stored AS
	SELECT u.raw_user_meta_data->>'nick' AS who, q.granted, q.used, q.remaining, q.default_given
	  FROM invite_sync.user_invitation_quota AS q LEFT JOIN auth.users AS u ON u.id = q.user_id ORDER BY 1;
CREATE VIEW quota_test.invitations AS
	SELECT i.email, i.status, i.charged FROM invite_sync.invitation AS i ORDER BY i.email, i.created_at;

INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous, banned_until, deleted_at, raw_user_meta_data)
	SELECT ('d0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, CASE WHEN name <> 'anonymous' THEN name || '@quota.example' END,
		CASE WHEN name NOT IN ('late', 'admin', 'anonymous') THEN '2020-01-01'::timestamptz END, name = 'anonymous',
		CASE WHEN name = 'banned' THEN 'infinity'::timestamptz END, CASE WHEN name = 'deleted' THEN '2020-01-01'::timestamptz END,
		jsonb_build_object('nick', name)
	  FROM unnest(ARRAY['ann', 'ben', 'late', 'admin', 'anonymous', 'banned', 'deleted', 'cara', 'dora']) WITH ORDINALITY AS x (name, n);
SELECT role FROM invite_sync.create_role('quota_staff', ARRAY['platform.admin']);
SELECT platform_role FROM invite_sync.set_platform_role(u('admin'), 'quota_staff') AS r (user_id, platform_role, permissions, since);

--
-- Looking
--
SELECT * FROM invite_sync.rate_limits ORDER BY action COLLATE "C";
SELECT who, try(who, 'my_quota()') FROM unnest(ARRAY['ann', 'late', 'admin', 'anonymous', 'banned', 'deleted', 'nobody', 'anon', NULL]) AS x (who);
SELECT u.raw_user_meta_data->>'nick' AS who, r.granted, r.used, r.remaining, r.unlimited FROM invite_sync.quota_report() WITH ORDINALITY AS r JOIN auth.users AS u ON u.id = r.user_id ORDER BY r.ordinality;
-- page by page
SELECT u.raw_user_meta_data->>'nick' AS who FROM invite_sync.quota_report(page_size => 2) WITH ORDINALITY AS r JOIN auth.users AS u ON u.id = r.user_id ORDER BY r.ordinality;
SELECT u.raw_user_meta_data->>'nick' AS who FROM invite_sync.quota_report(u('ben')::text, 2) WITH ORDINALITY AS r JOIN auth.users AS u ON u.id = r.user_id ORDER BY r.ordinality;
SELECT try(NULL, call) FROM unnest(ARRAY['quota_report(''x'')', 'quota_report(page_size => 0)', 'quota_report(page_size => 501)']) AS x (call);
SELECT * FROM stored;

--
-- Taking
--
SELECT n, invite('ann', n || '@guest.example') FROM generate_series(1, 4) AS n;
SELECT try('ann', 'my_quota()');
SELECT * FROM stored;
-- without a verified address there is none, and no row
SELECT invite('late', 'a@guest.example');
-- administrators: nothing is taken
SELECT n, invite('admin', 'admin' || n || '@guest.example') FROM generate_series(1, 4) AS n;
SELECT * FROM invitations WHERE email LIKE 'admin%';
-- a service: as many as it likes; in somebody's name: theirs
SELECT count(*) FROM generate_series(1, 12) AS n, invite_sync.create_invitation('service' || n || '@guest.example');
SELECT count(*) FROM invite_sync.rate_limit;
SELECT email FROM invite_sync.create_invitation('for-ben@guest.example', inviter_id => u('ben'));
SELECT * FROM stored;

--
-- Giving back: what expired, not what was revoked, accepted or used
--
SELECT expire('1@guest.example');
SELECT try('ann', 'my_quota()');
SELECT r.used, r.remaining FROM invite_sync.quota_report() AS r WHERE r.user_id = u('ann');
-- looking writes nothing
BEGIN READ ONLY;
SELECT set_config('request.jwt.claims', jsonb_build_object('sub', u('ann'), 'role', 'authenticated')::text, true) IS NOT NULL;
SELECT * FROM invite_sync.my_quota();
ROLLBACK;
SELECT * FROM stored WHERE who = 'ann';
SELECT * FROM invitations WHERE email = '1@guest.example';
SELECT invite('ann', '5@guest.example'), invite('ann', '6@guest.example');
SELECT * FROM invitations WHERE email = '1@guest.example';
SELECT * FROM stored WHERE who = 'ann';
SELECT try('ann', format('revoke_invitation(%L)', i.id)) FROM invite_sync.invitation AS i WHERE i.email = '2@guest.example';
SELECT try('ann', 'my_quota()');
UPDATE invite_sync.invitation SET status = 'accepted', uses = 1, closed_at = now(), expires_at = now() WHERE email = '3@guest.example';
SELECT try('ann', 'my_quota()');
-- sending an expired one again takes again what it gave back
SELECT expire('5@guest.example');
SELECT try('ann', 'my_quota()');
SELECT try('ann', format('resend_invitation(%L)', i.id)) FROM invite_sync.invitation AS i WHERE i.email = '5@guest.example';
SELECT * FROM stored WHERE who = 'ann';
-- what gives organizations is closed in them too; a link that somebody used is not given back
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('d1000000-0000-4000-8000-000000000001', 'Quota', 'quota');
SELECT user_id IS NOT NULL FROM invite_sync.add_member('d1000000-0000-4000-8000-000000000001', u('cara'), 'owner');
SELECT try('cara', $$create_invitation('7@guest.example', 'member', 'd1000000-0000-4000-8000-000000000001')$$);
SELECT try('cara', $$create_invite_link('d1000000-0000-4000-8000-000000000001')$$);
SELECT try('cara', $$create_invite_link('d1000000-0000-4000-8000-000000000001')$$);
SELECT try('cara', 'my_quota()');
UPDATE invite_sync.invitation SET expires_at = clock_timestamp() WHERE inviter_id = u('cara');
UPDATE invite_sync.invitation SET uses = 1 WHERE id = (SELECT min(i.id::text)::uuid FROM invite_sync.invitation AS i WHERE i.inviter_id = u('cara') AND i.kind = 'link');
SELECT try('cara', 'my_quota()');
SELECT try('cara', $$create_invitation('8@guest.example')$$);
SELECT i.kind, i.status, i.charged, i.uses, g.open FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id
 WHERE i.inviter_id = u('cara') ORDER BY 1, 4;
SELECT * FROM stored WHERE who = 'cara';
-- nor when it is closed for good
CALL invite_sync.settle_invitations();
SELECT * FROM stored WHERE who = 'cara';
SELECT i.status, i.charged FROM invite_sync.invitation AS i WHERE i.inviter_id = u('cara') AND i.uses = 1;

--
-- Giving more
--
SELECT try(NULL, call) FROM unnest(ARRAY[format('grant_quota(%L, 2)', u('ann')), format('grant_quota(%L, 0)', u('ann')), format('grant_quota(%L, 1000001)', u('ann')),
	format('grant_quota(%L, NULL)', u('ann')), 'grant_quota(NULL, 1)', format('grant_quota(%L, 1)', u('nobody')), format('grant_quota(%L, 1)', u('deleted')),
	format('set_quota(%L, -1)', u('ann')), format('set_quota(%L, NULL)', u('ann')), 'set_quota(NULL, 1)', format('set_quota(%L, 1)', u('nobody')),
	format('set_quota(%L, 0)', u('banned'))]) AS x (call);
SELECT who, try(who, format('%s(%L, 2)', f, u('ann'))) FROM unnest(ARRAY['ann', 'admin', 'anon']) AS x (who), unnest(ARRAY['grant_quota', 'set_quota']) AS y (f);
SELECT invite('ann', '9@guest.example');
-- fewer than were sent
SELECT try(NULL, format('set_quota(%L, 1)', u('ann')));
SELECT invite('ann', '10@guest.example');
SELECT try(NULL, format('set_quota(%L, 2147483647)', u('ann')));
SELECT try(NULL, format('grant_quota(%L, 1)', u('ann')));
-- giving settles, too
SELECT try(NULL, format('set_quota(%L, 6)', u('ann')));
SELECT expire('9@guest.example');
SELECT try(NULL, format('grant_quota(%L, 1)', u('ann')));
SELECT * FROM invitations WHERE email = '9@guest.example';
SELECT * FROM stored WHERE who = 'ann';
-- before the address is verified: what is given counts at once, the default later, and once
SELECT try(NULL, format('grant_quota(%L, 1)', u('late')));
SELECT invite('late', 'l1@guest.example'), invite('late', 'l2@guest.example');
UPDATE auth.users SET email_confirmed_at = now() WHERE id = u('late');
SELECT try('late', 'my_quota()');
SELECT invite('late', 'l2@guest.example'), try('late', 'my_quota()');
SELECT * FROM stored WHERE who = 'late';
SELECT try(NULL, format('grant_quota(%L, 1)', u('late')));
-- an address that is no longer verified keeps what it brought
UPDATE auth.users SET email_confirmed_at = NULL WHERE id = u('late');
SELECT try('late', 'my_quota()');
-- set_quota() stands in place of the default
INSERT INTO auth.users (id, email, raw_user_meta_data) VALUES ('d0000000-0000-4000-8000-000000000020', 'set@quota.example', '{"nick": "set"}');
SELECT try(NULL, format('set_quota(%L, 1)', u('set')));
UPDATE auth.users SET email_confirmed_at = now() WHERE id = u('set');
SELECT try('set', 'my_quota()');
-- the default is that of the day when the row is made
BEGIN;
SET LOCAL invite_sync.default_quota = 7;
SELECT try('ben', 'my_quota()') AS has_a_row, try('dora', 'my_quota()') AS has_none;
SET LOCAL invite_sync.default_quota = 0;
SELECT invite('dora', 'd@guest.example');
ROLLBACK;
SELECT e.kind, e.action, e.target_type, e.data, e.target_id = u('ann')::text AS of_ann FROM invite_sync.event AS e WHERE e.action LIKE 'quota.%' ORDER BY e.id LIMIT 3;

--
-- Users who were there before
--
SET client_min_messages = notice;
CALL invite_sync.backfill_quota(2);
CALL invite_sync.backfill_quota();
SET client_min_messages = warning;
SELECT * FROM stored;
CALL invite_sync.backfill_quota(0);
CALL invite_sync.backfill_quota(10001);
BEGIN; CALL invite_sync.backfill_quota(); ROLLBACK;
-- one who has verified the address since
INSERT INTO auth.users (id, email, raw_user_meta_data) VALUES ('d0000000-0000-4000-8000-000000000021', 'since@quota.example', '{"nick": "since"}');
SELECT try(NULL, format('grant_quota(%L, 1)', u('since')));
UPDATE auth.users SET email_confirmed_at = now() WHERE id = u('since');
CALL invite_sync.backfill_quota();
SELECT * FROM stored WHERE who = 'since';
SET ROLE service_role;
CALL invite_sync.backfill_quota();
RESET ROLE;

--
-- Users who go
--
SELECT count(*) FROM invite_sync.attach();
DELETE FROM auth.users WHERE id = u('since');
UPDATE auth.users SET deleted_at = now() WHERE id = u('set');
SELECT * FROM stored WHERE who IS NULL OR who = 'set';
-- unnoticed
ALTER TABLE auth.users DISABLE TRIGGER USER;
DELETE FROM auth.users WHERE id = u('set');
DELETE FROM auth.users WHERE id = u('dora');
ALTER TABLE auth.users ENABLE TRIGGER USER;
SELECT severity, area, object, finding FROM invite_sync.verify() WHERE area = 'quota';
SELECT * FROM invite_sync.retry_quarantine();
SELECT count(*) FROM stored WHERE who IS NULL;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT count(*) FROM stored WHERE who IS NULL;
-- noted by whichever room could not clean up
INSERT INTO invite_sync.user_invitation_quota (user_id, granted) VALUES ('d0000000-0000-4000-8000-000000000099', 3);
INSERT INTO invite_sync.gone_user (user_id) VALUES ('d0000000-0000-4000-8000-000000000099');
SELECT * FROM invite_sync.retry_quarantine();
SELECT count(*) FROM stored WHERE who IS NULL;

--
-- Rate limits of invitations
--
TRUNCATE invite_sync.rate_limit;
SELECT granted FROM invite_sync.set_quota(u('ann'), 100);
SELECT granted FROM invite_sync.set_quota(u('ben'), 100);
SELECT a.answer, count(*) FROM generate_series(1, 12) AS n, LATERAL (SELECT invite('ann', 'r' || n || '@guest.example')) AS a (answer) GROUP BY 1 ORDER BY 1 DESC;
SELECT used FROM stored WHERE who = 'ann';
SELECT l.scope, count(*), sum(cardinality(l.stamps)) FROM invite_sync.rate_limit AS l GROUP BY 1 ORDER BY 1;
-- the window slides: one goes with each that leaves it
UPDATE invite_sync.rate_limit SET stamps[1] = stamps[1] - interval '1 hour' WHERE action = 'invite';
SELECT a.answer, count(*) FROM generate_series(11, 12) AS n, LATERAL (SELECT invite('ann', 'r' || n || '@guest.example')) AS a (answer) GROUP BY 1 ORDER BY 1 DESC;
-- to the second, and not a moment too early
SELECT l.stamps[1] + interval '1 hour' <= (substring(a.detail from 'retry_at=(.*)'))::timestamptz
   AND l.stamps[1] + interval '1 hour 1 second' > (substring(a.detail from 'retry_at=(.*)'))::timestamptz AS right, a.detail ~ '^rate_limited retry_at=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$' AS formed
  FROM invite_sync.rate_limit AS l, LATERAL (SELECT quota_test.detail_of(format('create_invitation(''r12@guest.example'', inviter_id => %L)', quota_test.u('ann')))) AS a (detail)
 WHERE l.action = 'invite' AND l.key = u('ann')::text;
-- a refusal takes nothing with it, neither of the quota nor of other windows
SELECT used FROM stored WHERE who = 'ann';
-- per recipient, whoever invites, and however the address is written
SELECT action, scope, max_actions, per FROM invite_sync.set_rate_limit('invite', NULL);
CREATE FUNCTION quota_test.again_and_again(email text, times integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 1 .. times LOOP
		RETURN NEXT quota_test.invite(CASE WHEN n % 2 = 0 THEN 'ann' ELSE 'ben' END, email);
		PERFORM invite_sync.revoke_invitation(i.id) FROM invite_sync.invitation AS i WHERE i.email = lower($1) AND i.status = 'pending';
	END LOOP;
END
$$;
SELECT a.answer, count(*) FROM again_and_again('many@guest.example', 4) AS a (answer) GROUP BY 1 ORDER BY 1 DESC;
SELECT a.answer, count(*) FROM again_and_again('Many@Guest.example', 3) AS a (answer) GROUP BY 1 ORDER BY 1 DESC;
SELECT key = encode(sha256('many@guest.example'), 'hex') AS digest, used, remaining, retry_at > now() + interval '23 hours' AS tomorrow
  FROM invite_sync.rate_limit_report() WHERE action = 'message' AND remaining = 0;
-- sending again
SELECT invite('ann', 'again@guest.example');
SELECT try('ann', format('resend_invitation(%L)', i.id)), try('ann', format('resend_invitation(%L)', i.id)) FROM invite_sync.invitation AS i WHERE i.email = 'again@guest.example';
UPDATE invite_sync.rate_limit SET stamps[1] = stamps[1] - interval '60 s' WHERE action = 'resend';
SELECT try('ann', format('resend_invitation(%L)', i.id)) FROM invite_sync.invitation AS i WHERE i.email = 'again@guest.example';

--
-- Setting them
--
SET client_min_messages = notice;
SELECT * FROM invite_sync.set_rate_limit('invite', 20, '1 day');
SELECT * FROM invite_sync.set_rate_limit('invite', 20, '24 hours', 'user');
SELECT * FROM invite_sync.set_rate_limit('invite', 20, '2 days');
SELECT * FROM invite_sync.set_rate_limit('invite', NULL, '2 days');
SELECT * FROM invite_sync.set_rate_limit('invite', NULL, '2 days');
SELECT * FROM invite_sync.set_rate_limit('invite', 100, scope => 'address');
SELECT * FROM invite_sync.set_rate_limit('export', 10000, '1 mon 1 day 01:00');
SELECT * FROM invite_sync.set_rate_limit('per-second', 1, '1 second');
SELECT * FROM invite_sync.set_rate_limit('per.year', 1, '366 days');
SELECT * FROM invite_sync.rate_limits ORDER BY action COLLATE "C", scope;
SELECT line FROM regexp_split_to_table(invite_sync.config_sql(), E'\n') AS line WHERE line ~ 'rate_limit|^-- Rate';
-- what it says makes the same again
SELECT invite_sync.config_sql() AS config \gset
SELECT invite_sync.drop_rate_limit('invite'), invite_sync.drop_rate_limit('invite', 'address'), invite_sync.drop_rate_limit('export'), invite_sync.drop_rate_limit('nothing');
SELECT * FROM invite_sync.rate_limits WHERE action IN ('invite', 'export');
SET client_min_messages = warning;
CREATE TEMP TABLE calls AS SELECT line FROM regexp_split_to_table(:'config', E'\n') AS line WHERE line ~ 'set_rate_limit';
DO $$ DECLARE call text; BEGIN FOR call IN SELECT c.line FROM calls AS c LOOP EXECUTE call; END LOOP; END $$;
SELECT invite_sync.config_sql() = :'config' AS same;
-- what cannot be
SELECT * FROM invite_sync.set_rate_limit(NULL, 1);
SELECT * FROM invite_sync.set_rate_limit('', 1);
SELECT * FROM invite_sync.set_rate_limit('Export', 1);
SELECT * FROM invite_sync.set_rate_limit('1export', 1);
SELECT * FROM invite_sync.set_rate_limit('an export', 1);
SELECT * FROM invite_sync.set_rate_limit(repeat('x', 64), 1);
SELECT * FROM invite_sync.set_rate_limit('export', 0);
SELECT * FROM invite_sync.set_rate_limit('export', 10001);
SELECT * FROM invite_sync.set_rate_limit('export', 1, NULL);
SELECT * FROM invite_sync.set_rate_limit('export', 1, '0.99 s');
SELECT * FROM invite_sync.set_rate_limit('export', 1, '-1 day');
SELECT * FROM invite_sync.set_rate_limit('export', 1, '366 days 00:00:01');
SELECT * FROM invite_sync.set_rate_limit('export', 1, '178000000 years');
SELECT * FROM invite_sync.set_rate_limit('export', 1, scope => 'user');
SELECT * FROM invite_sync.set_rate_limit('invite', 1, scope => 'recipient');
SELECT invite_sync.drop_rate_limit(NULL);
SELECT who, try(who, 'set_rate_limit(''export'', 1)'), try(who, 'drop_rate_limit(''export'')') FROM unnest(ARRAY['ann', 'admin', 'anon']) AS x (who);
SET ROLE service_role;
SELECT * FROM invite_sync.set_rate_limit('export', 1);
SELECT invite_sync.drop_rate_limit('export');
SELECT count(*) FROM invite_sync.rate_limits;
RESET ROLE;
SET ROLE postgres;
SELECT * FROM invite_sync.set_rate_limit('export', 2, '1 minute');
RESET ROLE;
SELECT e.kind, e.action, e.target_type, e.target_id FROM invite_sync.event AS e WHERE e.action LIKE 'quota.rate_limit%' ORDER BY e.id DESC LIMIT 2;

--
-- Applications' own
--
TRUNCATE invite_sync.rate_limit;
SELECT allowed, remaining, retry_at FROM invite_sync.consume_rate_limit('export', 'd0000000-0000-4000-8000-000000000001');
SELECT allowed, remaining, retry_at FROM invite_sync.consume_rate_limit('export', 'D0000000-0000-4000-8000-000000000001');
SELECT allowed, remaining, retry_at > now() AS later, retry_at <= now() + interval '1 minute' AS soon FROM invite_sync.consume_rate_limit('export', 'd0000000-0000-4000-8000-000000000001');
SELECT allowed, remaining FROM invite_sync.consume_rate_limit('export', 'somebody else');
SELECT allowed, remaining FROM invite_sync.consume_rate_limit('export', 'Somebody@Example.org ');
SELECT allowed, remaining FROM invite_sync.consume_rate_limit('export', 'somebody@example.org');
SELECT action, scope, CASE WHEN key ~ '-' THEN key END AS key, used, max_actions, per, remaining, retry_at IS NOT NULL AS retry FROM invite_sync.rate_limit_report() ORDER BY rate_limit_report.key COLLATE "C";
SELECT count(*) FROM invite_sync.rate_limit_report() WHERE key IN (encode(sha256('somebody else'), 'hex'), encode(sha256('somebody@example.org'), 'hex'));
-- page by page
CREATE TEMP TABLE page AS SELECT * FROM invite_sync.rate_limit_report(page_size => 2);
SELECT count(*), count(DISTINCT r.key) FROM (SELECT * FROM page UNION ALL SELECT * FROM invite_sync.rate_limit_report((SELECT max(p.cursor) FROM page AS p), 2)) AS r;
SELECT try(NULL, call) FROM unnest(ARRAY['rate_limit_report(''x'')', 'rate_limit_report(''x/y'')', 'rate_limit_report(page_size => 0)']) AS x (call);
-- refused: nothing is counted, and what else the transaction did stays
BEGIN;
CREATE TEMP TABLE stays (done boolean);
SELECT allowed FROM invite_sync.consume_rate_limit('export', 'somebody@example.org');
COMMIT;
SELECT count(*) FROM stays;
SELECT max(cardinality(l.stamps)) FROM invite_sync.rate_limit AS l;
-- allowed, and rolled back: not counted
BEGIN;
SELECT allowed, remaining FROM invite_sync.consume_rate_limit('export', 'nobody');
ROLLBACK;
SELECT allowed, remaining FROM invite_sync.consume_rate_limit('export', 'nobody');
-- fewer than were done: the next one when enough have left the window
SELECT max_actions FROM invite_sync.set_rate_limit('export', 5, '1 minute');
SELECT count(*) FILTER (WHERE c.allowed) FROM generate_series(1, 4) AS n, LATERAL (SELECT * FROM invite_sync.consume_rate_limit('export', left('many' || n, 4))) AS c;
UPDATE invite_sync.rate_limit SET stamps = ARRAY[now() - interval '50 s', now() - interval '40 s', now() - interval '30 s', now() - interval '20 s']
 WHERE key = encode(sha256('many'), 'hex');
SELECT max_actions FROM invite_sync.set_rate_limit('export', 2, '1 minute');
SELECT allowed, remaining, retry_at = l.stamps[3] + interval '1 minute' AS right FROM invite_sync.consume_rate_limit('export', 'many') AS c, invite_sync.rate_limit AS l
 WHERE l.key = encode(sha256('many'), 'hex');
SELECT used, remaining, r.retry_at = l.stamps[3] + interval '1 minute' AS right FROM invite_sync.rate_limit_report() AS r JOIN invite_sync.rate_limit AS l USING (action, scope, key)
 WHERE key = encode(sha256('many'), 'hex');
-- whatever the session takes for a day
SET timezone = 'Europe/Berlin';
SELECT per FROM invite_sync.set_rate_limit('daily', 1, '1 day');
SELECT allowed FROM invite_sync.consume_rate_limit('daily', 'a');
SELECT r.retry_at = l.stamps[1] + interval '24 hours' AS right FROM invite_sync.rate_limit_report() AS r JOIN invite_sync.rate_limit AS l USING (action, scope, key) WHERE action = 'daily';
RESET timezone;
-- no limit
SELECT max_actions FROM invite_sync.set_rate_limit('export', NULL);
SELECT allowed, remaining, retry_at FROM invite_sync.consume_rate_limit('export', 'somebody@example.org');
SELECT used, max_actions, remaining FROM invite_sync.rate_limit_report() WHERE action = 'export' AND key = encode(sha256('many'), 'hex');
SELECT invite_sync.drop_rate_limit('export');
-- unknown, malformed, not theirs
SELECT * FROM invite_sync.consume_rate_limit('export', 'a');
SELECT try(NULL, call) FROM unnest(ARRAY['consume_rate_limit(NULL, ''a'')', 'consume_rate_limit(''daily'', NULL)', 'consume_rate_limit(''daily'', '''')',
	'consume_rate_limit(''daily'', repeat(''a'', 1001))', 'consume_rate_limit(''a b'', ''a'')']) AS x (call);
SELECT who, try(who, 'consume_rate_limit(''daily'', ''a'')'), try(who, 'rate_limit_report()'), try(who, 'quota_report()') FROM unnest(ARRAY['ann', 'admin', 'anon']) AS x (who);
-- the same recipient as invitations count
SELECT count(*) FILTER (WHERE c.allowed) FROM generate_series(1, 6) AS n, LATERAL (SELECT * FROM invite_sync.consume_rate_limit('message', left('Both@guest.example' || n, 18))) AS c;
SELECT invite('ben', 'both@guest.example');

--
-- The client's address
--
TRUNCATE invite_sync.rate_limit;
SELECT max_actions FROM invite_sync.set_rate_limit('login', 100, '1 hour', 'address');
-- the key that a request with these headers is counted under
CREATE FUNCTION quota_test.from_header(headers text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	key text;
BEGIN
	DELETE FROM invite_sync.rate_limit;
	PERFORM set_config('request.headers', headers, true);
	PERFORM invite_sync.consume_rate_limit('login', 'x');
	SELECT l.key INTO key FROM invite_sync.rate_limit AS l;
	RETURN key;
END
$$;
-- none without the setting
SELECT from_header('{"x-forwarded-for": "192.0.2.1"}');
SET invite_sync.client_address_header = 'X-Forwarded-For';
SELECT from_header(NULL) AS none, from_header('') AS empty, from_header('{}') AS nothing;
-- one key for each address, the last entry counting
SELECT min(x.n) OVER (PARTITION BY x.key) AS same_as, x.key IS NOT NULL AS counted, x.header FROM (
	SELECT n, h.header, from_header(h.header) AS key FROM unnest(ARRAY[
		'{"x-forwarded-for": "192.0.2.1"}', '{"a": "b", "x-forwarded-for": "203.0.113.9, 192.0.2.1"}', '{"x-forwarded-for": "198.51.100.1, 203.0.113.9, 192.0.2.1"}', '{"x-forwarded-for":"198.51.100.7,192.0.2.1 ","z":"1"}',
		'{"x-forwarded-for": "192.0.2.1:4711"}', '{"x-forwarded-for": "::ffff:192.0.2.1"}', '{"x-quoted": "\"x-forwarded-for\": \"198.51.100.1\"", "x-forwarded-for": "192.0.2.1"}',
		'{"x-forwarded-for": "192.0.2.2"}',
		'{"x-forwarded-for": "2001:db8:0:1::1"}', '{"x-forwarded-for": "2001:DB8::1:ffff:2:3:4"}', '{"x-forwarded-for": "[2001:db8:0:1::2]"}', '{"x-forwarded-for": "[2001:db8:0:1::2]:443"}',
		'{"x-forwarded-for": "2001:db8:0:2::1"}']) WITH ORDINALITY AS h (header, n)) AS x ORDER BY x.n;
-- what is none
SELECT h.header, from_header(h.header) FROM unnest(ARRAY['{"x-forwarded-for": "unknown"}', '{"x-forwarded-for": ""}', '{"x-forwarded-for": "192.0.2.1, "}', '{"x-forwarded-for": "192.0.2.0/24"}',
	'{"x-forwarded-for": "192.0.2.1', '{"x-forwarded-for', '{"x-forwarded-for": "192.0.2.1\', '[[[', 'x-forwarded-for', '{"x-forwarded-for": "\u0031.2.3.4"}', '{"x-forwarded-for": "[::1"}',
	'{"x": "x-forwarded-for", "y": "192.0.2.1"}', '{"x-forwarded-for": "2001:db8::/64"}', '{"x-forwarded-for": "1.2.3.4.5"}']) AS h (header);
-- no address is kept
SELECT from_header('{"x-forwarded-for": "192.0.2.1"}') ~ '^[0-9a-f]{64}$' AS digest;
-- counted along with the user's own limit
TRUNCATE invite_sync.rate_limit;
SELECT max_actions FROM invite_sync.set_rate_limit('invite', 2, '1 hour', 'address');
SELECT set_config('request.headers', '{"x-forwarded-for": "192.0.2.1"}', false) IS NOT NULL;
SELECT invite('ann', 'f1@guest.example'), invite('ben', 'f2@guest.example');
SELECT invite('ann', 'f3@guest.example');
SELECT set_config('request.headers', '{"x-forwarded-for": "192.0.2.2"}', false) IS NOT NULL;
SELECT invite('ann', 'f3@guest.example');
SELECT action, scope, used FROM invite_sync.rate_limit_report() WHERE action = 'invite' ORDER BY 2, 3;
-- all of an action's limits count it, or none
SELECT max_actions FROM invite_sync.set_rate_limit('login', 3, '1 hour', 'address');
SELECT max_actions FROM invite_sync.set_rate_limit('login', 2);
SELECT key, allowed, remaining FROM unnest(ARRAY['a', 'a', 'a', 'b', 'c', 'c']) AS k (key), LATERAL (SELECT * FROM invite_sync.consume_rate_limit('login', k.key)) AS c;
SELECT scope, used FROM invite_sync.rate_limit_report() WHERE action = 'login' ORDER BY 1, 2;
RESET invite_sync.client_address_header;
SELECT set_config('request.headers', '', false);

--
-- Nothing is kept for ever
--
TRUNCATE invite_sync.rate_limit;
SELECT count(*) FILTER (WHERE c.allowed) FROM generate_series(1, 5) AS n, LATERAL (SELECT * FROM invite_sync.consume_rate_limit('daily', n::text)) AS c;
UPDATE invite_sync.rate_limit SET until = now() - interval '1 second', stamps = '{}';
-- two old ones for each new one
SELECT allowed FROM invite_sync.consume_rate_limit('daily', 'new');
SELECT count(*) FROM invite_sync.rate_limit;
SET client_min_messages = notice;
CALL invite_sync.prune_rate_limits(1);
SET client_min_messages = warning;
SELECT count(*), bool_and(until > now()) AS of_use FROM invite_sync.rate_limit;
CALL invite_sync.prune_rate_limits(0);
CALL invite_sync.prune_rate_limits(100001);
BEGIN; CALL invite_sync.prune_rate_limits(); ROLLBACK;
SET ROLE service_role;
CALL invite_sync.prune_rate_limits();
RESET ROLE;

--
-- What the tables hold against direct DML
--
INSERT INTO invite_sync.user_invitation_quota (user_id, granted) VALUES ('d0000000-0000-4000-8000-000000000099', -1);
INSERT INTO invite_sync.user_invitation_quota (user_id, granted, used) VALUES ('d0000000-0000-4000-8000-000000000099', 1, -1);
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES ('x', 'key', 0, '1 hour');
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES ('x', 'key', 1, '0');
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES ('x', 'planet', 1, '1 hour');
INSERT INTO invite_sync.rate_limit_rule (action, scope, max_actions, per) VALUES ('X', 'key', 1, '1 hour');

-- leave nothing behind
SELECT invite_sync.detach();
SET client_min_messages = error;
TRUNCATE invite_sync.rate_limit, invite_sync.rate_limit_rule;
DELETE FROM invite_sync.invitation;
DELETE FROM invite_sync.invitation_grant;
DELETE FROM invite_sync.invitation_key;
DELETE FROM invite_sync.user_invitation_quota;
DELETE FROM invite_sync.organization WHERE slug = 'quota';
DELETE FROM invite_sync.platform_role;
DELETE FROM invite_sync.role WHERE NOT built_in;
DELETE FROM invite_sync.attachment;
DELETE FROM auth.users WHERE id::text LIKE 'd0000000-%';
DROP SCHEMA quota_test CASCADE;
SELECT * FROM invite_sync.verify();
