-- Room membership: policies on the application's tables.
SET client_min_messages = notice;
INSERT INTO auth.users (id, email) SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'user' || n || '@example.com' FROM generate_series(1, 2) AS n;
INSERT INTO invite_sync.permission (name) VALUES ('documents.write');
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('a0000000-0000-4000-8000-000000000000', 'A', 'a'), ('b0000000-0000-4000-8000-000000000000', 'B', 'b');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000a'),
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-00000000000c'),
    ('b0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-00000000000a');
SET ROLE postgres;
CREATE SCHEMA "My App";
CREATE TABLE "My App"."Doc" (id integer PRIMARY KEY, "Org" uuid, other text);
GRANT USAGE ON SCHEMA "My App" TO authenticated, anon;
GRANT ALL ON "My App"."Doc" TO authenticated, anon;
INSERT INTO "My App"."Doc" VALUES (1, 'a0000000-0000-4000-8000-000000000000'), (2, 'b0000000-0000-4000-8000-000000000000'), (3, NULL);

-- only to look
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write', execute => false);
SELECT relrowsecurity FROM pg_class WHERE oid = '"My App"."Doc"'::regclass;
CREATE INDEX ON "My App"."Doc" ("Org", id);
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write');
SELECT polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid) AS using, pg_get_expr(polwithcheck, polrelid) AS with_check
  FROM pg_policy WHERE polrelid = '"My App"."Doc"'::regclass ORDER BY 1;
-- again; then somebody meddles; then with other arguments
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write') <> '';
ALTER POLICY invite_sync_delete ON "My App"."Doc" USING (true);
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write') <> '';
SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = '"My App"."Doc"'::regclass AND polname = 'invite_sync_delete';
DROP POLICY invite_sync_update ON "My App"."Doc";
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write') <> '';
ALTER TABLE "My App"."Doc" DISABLE ROW LEVEL SECURITY;
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write') <> '';
SELECT invite_sync.protect_table('"My App"."Doc"', 'Org', write_permission => 'documents.write') <> '';
RESET ROLE;
SELECT schema_name, table_name, organization_column, read_permission, write_permission, enabled_here FROM invite_sync.protected_table;

-- who can do what
CREATE FUNCTION public.try(n integer) RETURNS TABLE (sees text, inserts text, updates text, deletes text) LANGUAGE plpgsql AS $$
DECLARE
    statement text;
    result text[];
    n_rows integer;
BEGIN
    PERFORM invite_sync.act_as(CASE WHEN n > 0 THEN ('00000000-0000-4000-8000-00000000000' || n)::uuid END, CASE WHEN n > 0 THEN 'authenticated' ELSE 'anon' END);
    SELECT string_agg(d.id::text, ' ' ORDER BY d.id) INTO sees FROM "My App"."Doc" AS d;
    FOREACH statement IN ARRAY ARRAY[$q$INSERT INTO "My App"."Doc" VALUES (10, 'a0000000-0000-4000-8000-000000000000')$q$,
        $q$UPDATE "My App"."Doc" SET other = 'x' WHERE id <= 3$q$, $q$DELETE FROM "My App"."Doc" WHERE id <= 3$q$,
        $q$UPDATE "My App"."Doc" SET "Org" = 'b0000000-0000-4000-8000-000000000000' WHERE "Org" = 'a0000000-0000-4000-8000-000000000000'$q$] LOOP
        BEGIN
            EXECUTE statement;
            GET DIAGNOSTICS n_rows = ROW_COUNT;
            RAISE division_by_zero;
        EXCEPTION WHEN insufficient_privilege THEN
            result := result || SQLSTATE::text;
        WHEN division_by_zero THEN
            result := result || n_rows::text;
        END;
    END LOOP;
    inserts := result[1]; updates := result[2] || ', moving ' || result[4]; deletes := result[3];
    RETURN NEXT;
END
$$;
BEGIN; SELECT * FROM public.try(1); ROLLBACK;
BEGIN; SELECT * FROM public.try(2); ROLLBACK;
BEGIN; SELECT * FROM public.try(0); ROLLBACK;
-- the condition is an init plan, and the index is used
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT count(*) FROM invite_sync.act_as('00000000-0000-4000-8000-000000000001');
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := plan || line || E'\n';
    END LOOP;
    RETURN plan;
END
$$;
SELECT p ~ 'Index Cond: .* = ANY ' AS index, p ~ 'InitPlan' AS init_plan, p !~ 'Filter:' AS no_filter FROM pg_temp.plan('SELECT * FROM "My App"."Doc"') AS p;
ROLLBACK;

-- renamed, it is the same table; other arguments replace
SET ROLE postgres;
ALTER TABLE "My App"."Doc" RENAME TO docs;
CREATE POLICY of_others ON "My App".docs USING (false);
SELECT invite_sync.protect_table('"My App".docs', 'Org', 'organization.read', 'documents.write');
RESET ROLE;
SELECT schema_name, table_name, organization_column, read_permission, write_permission, enabled_here FROM invite_sync.protected_table;
SET ROLE postgres;
-- back; somebody else's policy keeps row level security on
SELECT invite_sync.unprotect_table('"My App".docs', execute => false);
SELECT count(*) FROM pg_policy WHERE polrelid = '"My App".docs'::regclass;
SELECT invite_sync.unprotect_table('"My App".docs');
SELECT relrowsecurity, (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid) AS policies FROM pg_class AS c WHERE oid = '"My App".docs'::regclass;
SELECT invite_sync.unprotect_table('"My App".docs');
DROP POLICY of_others ON "My App".docs;
ALTER TABLE "My App".docs DISABLE ROW LEVEL SECURITY;
SELECT invite_sync.protect_table('"My App".docs', 'Org') <> '';
SELECT invite_sync.unprotect_table('"My App".docs');
SELECT relrowsecurity FROM pg_class AS c WHERE oid = '"My App".docs'::regclass;
ALTER TABLE "My App".docs ENABLE ROW LEVEL SECURITY;
SELECT invite_sync.protect_table('"My App".docs', 'Org') <> '';
SELECT invite_sync.unprotect_table('"My App".docs') <> '';
SELECT relrowsecurity FROM pg_class AS c WHERE oid = '"My App".docs'::regclass;
-- a partitioned table; dropped and made again under the same name
CREATE TABLE "My App".parted (org uuid) PARTITION BY LIST (org);
CREATE INDEX ON "My App".parted (org);
SELECT invite_sync.protect_table('"My App".parted', 'org') <> '';
DROP TABLE "My App".parted;
CREATE TABLE "My App".parted (org uuid);
SELECT invite_sync.protect_table('"My App".parted', 'org', 'members.read') <> '';
RESET ROLE;
SELECT table_name, read_permission, relation_number = '"My App".parted'::regclass AS current FROM invite_sync.protected_table;
SET ROLE postgres;

-- a new table takes the name of one that is protected and renamed; both are known; then they change names
CREATE TABLE "My App".news (org uuid);
CREATE INDEX ON "My App".news (org);
SELECT invite_sync.protect_table('"My App".news', 'org', 'members.read') <> '';
ALTER TABLE "My App".news RENAME TO news_old;
CREATE TABLE "My App".news (org uuid);
CREATE INDEX ON "My App".news (org);
SELECT invite_sync.protect_table('"My App".news', 'org', 'members.add') <> '';
ALTER TABLE "My App".news RENAME TO between_names;
ALTER TABLE "My App".news_old RENAME TO news;
ALTER TABLE "My App".between_names RENAME TO news_old;
CREATE TABLE "My App".papers (org uuid PRIMARY KEY);
SELECT invite_sync.protect_table('"My App".papers', 'org') <> '';
SELECT invite_sync.unprotect_table('"My App".papers') <> '';
RESET ROLE;
SELECT table_name, read_permission, relation_number::regclass FROM invite_sync.protected_table WHERE table_name LIKE 'news%' ORDER BY table_name;
SELECT line FROM pg_catalog.regexp_split_to_table(invite_sync.config_sql(), E'\n') AS line WHERE line LIKE '%protect_table%news%';
SET ROLE postgres;
-- the one whose record was written first
SELECT invite_sync.unprotect_table('"My App".news');
-- the other has had both names
ALTER TABLE "My App".news RENAME TO news_gone;
ALTER TABLE "My App".news_old RENAME TO news;
CREATE TABLE "My App".news_old (org uuid);
SELECT invite_sync.unprotect_table('"My App".news_old');
SELECT invite_sync.unprotect_table('"My App".news');
DROP TABLE "My App".news, "My App".news_old, "My App".news_gone, "My App".papers;

-- refused
CREATE VIEW "My App".view AS SELECT * FROM "My App".docs;
CREATE TEMP TABLE temporary (org uuid);
SELECT invite_sync.protect_table('"My App".view', 'Org');
\set VERBOSITY sqlstate
SELECT invite_sync.protect_table('temporary', 'org');
\set VERBOSITY default
SELECT invite_sync.protect_table('pg_class', 'oid');
SELECT invite_sync.protect_table('information_schema.sql_features', 'feature_id');
SELECT invite_sync.protect_table('invite_sync.membership', 'organization_id');
-- the auth server's: whoever asks, whatever the column, and to look at too
SELECT invite_sync.protect_table('auth.users', 'id');
SELECT invite_sync.protect_table('auth.identities', 'no column', execute => false);
RESET ROLE;
CREATE TABLE auth.of_ours (org uuid);
ALTER TABLE auth.of_ours OWNER TO supabase_auth_admin;
SELECT invite_sync.protect_table('auth.of_ours', 'org');
SELECT invite_sync.unprotect_table('auth.of_ours');
DROP TABLE auth.of_ours;
SET ROLE postgres;
SELECT invite_sync.protect_table('"My App".docs', 'org');
SELECT invite_sync.protect_table('"My App".docs', 'id');
SELECT invite_sync.protect_table('"My App".docs', 'ctid');
SELECT invite_sync.protect_table('"My App".docs', 'Org', 'nothing.known');
SELECT invite_sync.protect_table('"My App".docs', 'Org', write_permission => 'platform.admin');
SELECT invite_sync.protect_table(NULL, 'Org');
SELECT invite_sync.protect_table('"My App".docs', NULL);
SELECT invite_sync.protect_table('"My App".docs', 'Org', execute => NULL);
SELECT invite_sync.unprotect_table(NULL);
SELECT invite_sync.protect_table('auth.users', 'id');
RESET ROLE;
SELECT invite_sync.protect_table(4294967295::oid::regclass, 'x');
ALTER TABLE "My App".docs OWNER TO supabase_admin;
SELECT invite_sync.protect_table('"My App".docs', 'Org');
CREATE ROLE regress_app;
ALTER TABLE "My App".docs OWNER TO regress_app;
GRANT ALL ON SCHEMA "My App" TO regress_app;
SET ROLE postgres;
SELECT invite_sync.protect_table('"My App".docs', 'Org');
RESET ROLE;
SELECT invite_sync.protect_table('"My App".docs', 'Org');
GRANT USAGE ON SCHEMA invite_sync TO regress_app;
SELECT invite_sync.protect_table('"My App".docs', 'Org') <> '';
SELECT invite_sync.unprotect_table('"My App".docs') <> '';
SET ROLE postgres;
SELECT invite_sync.protect_table('"My App".docs', 'Org');
SET ROLE authenticated;
SELECT invite_sync.protect_table('"My App".docs', 'Org');
SELECT invite_sync.unprotect_table('"My App".docs');
RESET ROLE;
GRANT EXECUTE ON FUNCTION invite_sync.protect_table(regclass, name, text, text, boolean), invite_sync.unprotect_table(regclass, boolean) TO authenticated;
SET ROLE authenticated;
SELECT invite_sync.protect_table('"My App".docs', 'Org');
SELECT invite_sync.unprotect_table('"My App".docs');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION invite_sync.protect_table(regclass, name, text, text, boolean), invite_sync.unprotect_table(regclass, boolean) FROM authenticated;
SELECT action, target_type, target_id FROM invite_sync.event WHERE action LIKE 'membership.table%' ORDER BY id;

-- kept in git, and the way back
SELECT line FROM pg_catalog.regexp_split_to_table(invite_sync.config_sql(), E'\n') AS line WHERE line LIKE '%protect_table%';
SELECT statement FROM invite_sync.uninstall_plan() WHERE statement LIKE '%protect_table%' OR (statement LIKE '%policy%' AND statement NOT LIKE 'REVOKE ALL ON PARAMETER %');

-- DROP EXTENSION is refused while a table is protected
\set VERBOSITY sqlstate
DROP EXTENSION invite_sync;
\set VERBOSITY default

DROP SCHEMA "My App" CASCADE;
DROP FUNCTION public.try(integer);
REVOKE USAGE ON SCHEMA invite_sync FROM regress_app;
DROP ROLE regress_app;
DROP TABLE temporary;
DELETE FROM invite_sync.protected_table;
DELETE FROM invite_sync.organization;
DELETE FROM invite_sync.permission WHERE NOT built_in;
DELETE FROM auth.users;
