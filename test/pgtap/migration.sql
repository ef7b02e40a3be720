-- Users of another provider, before and after they migrate: how a test of yours makes one (helper/unmigrated_user.sql).
--
--   pg_prove -d <database> test/pgtap/migration.sql
--
-- in a transaction that is rolled back; as an operator where pgtap is installed, or as a superuser.

\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', pg_catalog.quote_ident(n.nspname), 'pg_catalog'), true)
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pgtap' \g /dev/null
\ir helper/unmigrated_user.sql

SELECT plan(8);
SELECT pg_temp.unmigrated_user('user_probe', 'invite-sync-probe@example.com') AS probe \gset
SELECT invite_sync.set_migration_policy('enforce') \g /dev/null
SELECT isnt(:'probe', '', 'an unmigrated user is made');
SELECT ok(EXISTS (SELECT FROM invite_sync.external_user AS e WHERE e.user_id = :'probe' AND e.migrated_at IS NULL), 'and has not migrated')
 WHERE has_table_privilege('invite_sync.external_user', 'SELECT')
UNION ALL SELECT skip('external_user cannot be read') WHERE NOT has_table_privilege('invite_sync.external_user', 'SELECT');

-- a session of the other provider
GRANT USAGE ON SCHEMA pg_temp TO authenticated;
SELECT pg_temp.act_as_external('user_probe') \g /dev/null
SELECT is(invite_sync.current_user_id(), :'probe'::uuid, 'the token of the other provider is this user''s');
SELECT is((invite_sync.check_migration()).migrated, false, 'who is asked to migrate');
SELECT throws_ok('SELECT invite_sync.require_migrated()', 'PT403', 'account must be migrated first', 'and may do nothing else before');
RESET ROLE;
SELECT set_config('request.jwt.claims', '', true) \g /dev/null

SELECT is((invite_sync.complete_migration('clerk', 'user_probe', 'correct horse battery')).password_set, true, 'the service has seen the old session');
SELECT pg_temp.act_as_external('user_probe') \g /dev/null
SELECT ok(invite_sync.require_migrated(), 'who has migrated may');
RESET ROLE;
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SELECT throws_ok($$SELECT invite_sync.complete_migration('clerk', 'user_probe', 'another one')$$, 'PT409', 'user exists already', 'once');

SELECT * FROM finish();
ROLLBACK;
