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

SELECT plan(6);
SELECT pg_temp.unmigrated_user('user_probe', 'invite-sync-probe@example.com') AS probe \gset
SELECT invite_sync.set_migration_policy('enforce') \g /dev/null
CREATE FUNCTION pg_temp.refusal(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE call;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

-- A session of the other provider. What it says is kept in variables: pgTAP's own tables are not that role's.
SELECT pg_temp.act_as_external('user_probe') \g /dev/null
SELECT invite_sync.current_user_id() AS who, (invite_sync.check_migration()).migrated, pg_temp.refusal('SELECT invite_sync.require_migrated()') AS refusal \gset
RESET ROLE;
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SELECT is(:'who', :'probe'::text, 'the token of the other provider is this user''s');
SELECT is(:'migrated', 'f'::text, 'who has not migrated');
SELECT is(:'refusal', 'PT403 account must be migrated first'::text, 'and is refused before');

SELECT is((invite_sync.complete_migration('clerk', 'user_probe', 'correct horse battery')).password_set, true, 'the service has seen the old session');
SELECT pg_temp.act_as_external('user_probe') \g /dev/null
SELECT pg_temp.refusal('SELECT invite_sync.require_migrated()') AS refusal \gset
RESET ROLE;
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SELECT is(:'refusal', 'none'::text, 'who has migrated is not');
SELECT throws_ok($$SELECT invite_sync.complete_migration('clerk', 'user_probe', 'another one')$$, 'PT409', 'user exists already', 'once');

SELECT * FROM finish();
ROLLBACK;
