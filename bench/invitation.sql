-- The database of the invitations' bench: :rows invitations of the past year, 1,000 in each organization, which has one owner, who sent them. One
-- in ten is pending, with a token; most were accepted. Loaded by the superuser.

CREATE SCHEMA bench;
CREATE TABLE bench.size AS SELECT :rows::bigint AS rows, greatest(:rows / 1000, 1)::bigint AS organizations;

-- Everything is made of its number: ids that ascend as those that are made with the time do, and secrets that the bench knows.
CREATE FUNCTION bench.uuid(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT (kind || lpad(to_hex(n), 11, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid $$;
CREATE FUNCTION bench.secret(n bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT sha256(int8send(n)) $$;
CREATE FUNCTION bench.token(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT 'inv_' || translate(encode(uuid_send(bench.uuid('0', n)) || bench.secret(n), 'base64'), E'+/\n', '-_') $$;
CREATE FUNCTION bench.email(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'person' || n || '@bench.example' $$;
CREATE FUNCTION bench.organization_of(n bigint) RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT bench.uuid('a', n / 10 % (SELECT organizations FROM bench.size)) $$;
CREATE FUNCTION bench.owner_of(n bigint) RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT bench.uuid('b', n / 10 % (SELECT organizations FROM bench.size)) $$;

INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at)
SELECT '00000000-0000-0000-0000-000000000000', bench.uuid('b', n), 'authenticated', 'authenticated', 'owner' || n || '@bench.example', now()
  FROM bench.size, generate_series(0, organizations - 1) AS n;
ALTER TABLE invite_sync.organization DISABLE TRIGGER USER;
INSERT INTO invite_sync.organization (id, name, slug)
SELECT bench.uuid('a', n), 'o' || n, 'o' || n FROM bench.size, generate_series(0, organizations - 1) AS n;
ALTER TABLE invite_sync.organization ENABLE TRIGGER USER;
ALTER TABLE invite_sync.membership DISABLE TRIGGER USER;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
SELECT bench.uuid('a', n), bench.uuid('b', n), '00000000-0000-4000-8000-00000000000a' FROM bench.size, generate_series(0, organizations - 1) AS n;
ALTER TABLE invite_sync.membership ENABLE TRIGGER USER;

-- An index that says it is not ready is not kept up to date; REINDEX makes it anew, and ready.
SET maintenance_work_mem = '512MB';
CREATE TEMP VIEW ours AS SELECT i.indexrelid, i.indrelid FROM pg_index AS i
 WHERE i.indrelid IN ('invite_sync.invitation'::regclass, 'invite_sync.invitation_grant'::regclass, 'invite_sync.invitation_acceptance'::regclass);
UPDATE pg_index SET indisready = false WHERE indexrelid IN (SELECT indexrelid FROM ours);
ALTER TABLE invite_sync.invitation_grant DISABLE TRIGGER USER;
INSERT INTO invite_sync.invitation (id, kind, status, email, data, inviter_id, secret_digest, proves_email, uses, alone, charged,
                                    created_at, renewed_at, expires_at, closed_at, closed_by)
SELECT bench.uuid('0', n), 'email', CASE n % 10 WHEN 0 THEN 'pending' WHEN 7 THEN 'expired' WHEN 8 THEN 'expired' WHEN 9 THEN 'revoked' ELSE 'accepted' END,
       'person' || n || '@bench.example', '{"full_name": "Somebody Invited"}', bench.uuid('b', n / 10 % s.organizations), sha256(sha256(int8send(n))), true,
       (n % 10 BETWEEN 1 AND 6)::int, false, n % 10 < 7, t.at, t.at, CASE WHEN n % 10 = 0 THEN now() + '10 days' ELSE t.at + '2 days' END,
       CASE WHEN n % 10 <> 0 THEN t.at + '1 day' END, CASE WHEN n % 10 BETWEEN 1 AND 6 THEN bench.uuid('c', n) END
  FROM bench.size AS s, generate_series(0, s.rows - 1) AS n, LATERAL (SELECT now() - '365 days'::interval * ((s.rows - n)::float8 / s.rows)) AS t (at);
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, open, created_at)
SELECT bench.uuid('0', n), bench.uuid('a', n / 10 % s.organizations), '00000000-0000-4000-8000-00000000000c', n % 10 = 0, now() - '365 days'::interval * ((s.rows - n)::float8 / s.rows)
  FROM bench.size AS s, generate_series(0, s.rows - 1) AS n;
INSERT INTO invite_sync.invitation_acceptance (invitation_id, user_id)
SELECT bench.uuid('0', n), bench.uuid('c', n) FROM bench.size AS s, generate_series(0, s.rows - 1) AS n WHERE n % 10 BETWEEN 1 AND 6;
ALTER TABLE invite_sync.invitation_grant ENABLE TRIGGER USER;
REINDEX TABLE invite_sync.invitation;
REINDEX TABLE invite_sync.invitation_grant;
REINDEX TABLE invite_sync.invitation_acceptance;
SELECT 1 / (count(*) = 0)::int AS all_indexes_are_ready FROM pg_index WHERE NOT indisready OR NOT indisvalid;
VACUUM ANALYZE;

-- Nobody has sent so much that these would count.
SELECT FROM invite_sync.set_rate_limit('invite', 10000, '1 hour', 'user');
SELECT FROM invite_sync.set_rate_limit('check_invitation', 10000, '1 hour', 'user');
INSERT INTO invite_sync.user_invitation_quota (user_id, granted)
SELECT bench.uuid('b', n), 1000000 FROM bench.size, generate_series(0, organizations - 1) AS n;

-- One row a call: pages of shared buffers that it touched, and milliseconds.
CREATE TABLE bench.call (operation text, pages bigint, ms float8);
CREATE TABLE bench.drawn (number bigint PRIMARY KEY);

CREATE FUNCTION bench.pages(plan json) RETURNS bigint LANGUAGE sql IMMUTABLE
    AS $$ SELECT (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint $$;

-- As PostgREST calls: a transaction each, by a user with claims. The first of every ten calls warm the session up and are not counted.
-- Settling is a procedure that commits, which nothing explains: the pages are those that are counted between two statements.
CREATE TABLE bench.before (pages bigint, at timestamptz);
CREATE FUNCTION bench.counted() RETURNS bigint LANGUAGE sql
    AS $$ SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)) FROM pg_statio_user_tables WHERE schemaname IN ('invite_sync', 'auth') $$;
-- a hundred that have expired and do not say so, spread over all
CREATE PROCEDURE bench.let_expire() LANGUAGE sql AS $$
    UPDATE invite_sync.invitation AS i SET expires_at = clock_timestamp()
     WHERE i.id = ANY (ARRAY(SELECT p.id FROM invite_sync.invitation AS p WHERE p.status = 'pending' ORDER BY random() LIMIT 100)) $$;

CREATE PROCEDURE bench.measure(operation text, calls int) LANGUAGE plpgsql AS $$
DECLARE
    total bigint := (SELECT rows FROM bench.size);
    n bigint;
    who uuid;
    call text;
    plan json;
BEGIN
    FOR i IN 1 .. calls + calls / 10 + 10 LOOP
        LOOP
            n := floor(random() * total / 10) * 10;
            CONTINUE WHEN EXISTS (SELECT FROM bench.drawn AS d WHERE d.number = n);
            EXIT WHEN operation NOT IN ('accept', 'my_invitations', 'resend', 'revoke');
            INSERT INTO bench.drawn VALUES (n);
            EXIT;
        END LOOP;
        who := bench.owner_of(n);
        CASE operation
            WHEN 'accept' THEN
                who := gen_random_uuid();
                INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at)
                VALUES ('00000000-0000-0000-0000-000000000000', who, 'authenticated', 'authenticated', bench.email(n), now());
                call := format('accept_invitation(%L)', bench.token(n));
            WHEN 'accept, too late' THEN
                call := format('accept_invitation(%L)', bench.token(n + 9));
            WHEN 'my_invitations' THEN
                who := gen_random_uuid();
                INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at)
                VALUES ('00000000-0000-0000-0000-000000000000', who, 'authenticated', 'authenticated', bench.email(n), now());
                call := 'my_invitations()';
            WHEN 'get_invitation' THEN
                call := format('get_invitation(%L)', bench.token(n));
            WHEN 'get_invitation, wrong token' THEN
                call := format('get_invitation(%L)', bench.token(n + 1000000000));
            WHEN 'create' THEN
                call := format('create_invitation(%L, ''member'', %L)', 'new' || i || '-' || bench.email(n), bench.organization_of(n));
            WHEN 'check' THEN
                call := format('check_invitation(%L, ''member'', %L)', 'new' || i || '-' || bench.email(n), bench.organization_of(n));
            WHEN 'resend' THEN
                call := format('resend_invitation(%L)', bench.uuid('0', n));
            WHEN 'revoke' THEN
                call := format('revoke_invitation(%L)', bench.uuid('0', n));
            WHEN 'list, organization' THEN
                call := format('list_invitations(%L)', bench.organization_of(n));
            WHEN 'list, of an inviter' THEN
                call := 'list_invitations()';
            WHEN 'list, all, one page in the middle' THEN
                who := NULL;
                call := format('list_invitations(after => %L)', (SELECT l.cursor FROM invite_sync.list_invitations() AS l LIMIT 1));
        END CASE;
        PERFORM set_config('request.jwt.claims', CASE WHEN who IS NULL THEN '' ELSE json_build_object('sub', who, 'role', 'authenticated')::text END, true);
        BEGIN
            EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM invite_sync.' || call INTO plan;
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE NOT IN ('PT404', 'PT410') THEN
                RAISE;
            END IF;
            plan := NULL;
        END;
        PERFORM set_config('request.jwt.claims', '', true);
        IF plan IS NOT NULL AND i > 10 + calls / 10 THEN
            INSERT INTO bench.call VALUES (operation, bench.pages(plan), (plan->0->>'Execution Time')::float8);
        END IF;
        COMMIT;
    END LOOP;
END
$$;
