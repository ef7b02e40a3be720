-- Is this database's invite_sync as it must be? For the DBA of any database in
-- which the extension is installed, with whatever targets it has:
--
--   pg_prove -d <database> test/pgtap/database.sql
--
-- as an operator who may write auth.users (on Supabase: postgres) and has
-- pgtap, or as a superuser, for whom pgtap is created if it has to be.
--
-- One user signs up, changes and is deleted, inside a transaction that is rolled
-- back: nothing is left but gaps in sequences. While it runs (a second, or
-- some more where there are millions of users) that user's locks are held and no
-- others. Triggers of yours on auth.users and on targets run for that user.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?invite_sync_in_transaction}
\else
BEGIN;
\endif

SET LOCAL client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', pg_catalog.quote_ident(n.nspname), 'pg_catalog'), true)
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pgtap' \g /dev/null

SELECT * FROM no_plan();

-- ---------------------------------------------------------------------
-- What is installed
-- ---------------------------------------------------------------------

SELECT is(count(*), 1::bigint, 'the extension is installed') FROM pg_extension WHERE extname = 'invite_sync';
SELECT ok(invite_sync.is_operator(), 'who runs this is an operator');
SELECT is(current_setting('invite_sync.enabled'), 'on', 'syncing is not switched off');

-- triggers, unless there is nothing to sync or somebody called detach()
SELECT CASE WHEN NOT EXISTS (SELECT FROM invite_sync.target_list WHERE enabled) THEN pass('there is no target, so no trigger is needed')
            ELSE collect_tap(ARRAY(
                SELECT ok(coalesce(bool_or(t.tgenabled IN ('O', 'A')), false), format('trigger "%s" is on auth.users, and enabled', w.name))
                  FROM (VALUES ('invite_sync_insert'), ('invite_sync_update'), ('Invite_sync_delete')) AS w (name)
                  LEFT JOIN pg_trigger AS t ON t.tgname = w.name AND t.tgrelid = to_regclass('auth.users')
                 GROUP BY w.name ORDER BY w.name)) END;

SELECT is_empty($$SELECT object, finding, detail FROM invite_sync.verify() WHERE severity = 'error'$$, 'verify() has no errors');

-- ---------------------------------------------------------------------
-- Rights
-- ---------------------------------------------------------------------

SELECT is_empty($$
    SELECT o.name, a.privilege_type
      FROM (SELECT 'schema invite_sync' AS name, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM pg_namespace WHERE nspname = 'invite_sync'
            UNION ALL SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace
            UNION ALL SELECT oid::regclass::text, coalesce(relacl, acldefault('r', relowner)) FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'v', 'S')) AS o,
           aclexplode(o.acl) AS a
     WHERE a.grantee = 0$$, 'PUBLIC has no right on anything of invite_sync');
-- what policies ask, which everybody who meets a policy must be able to
SELECT CASE WHEN to_regrole('anon') IS NULL THEN skip('there is no role anon')
            ELSE set_eq($$
    SELECT proname::text FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND has_function_privilege('anon', oid, 'EXECUTE')
    UNION ALL
    SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('anon', oid, 'SELECT, INSERT, UPDATE, DELETE')$$,
    ARRAY['current_claims', 'current_user_id', 'has_any_permission', 'has_any_role', 'has_permission', 'has_role', 'is_member',
          'member_organizations', 'organizations_with_permission', 'platform_role', 'whoami'],
    'anon may call what policies ask, and read nothing') END;
SELECT CASE WHEN to_regrole('authenticated') IS NULL THEN skip('there is no role authenticated')
            ELSE set_eq($$SELECT proname::text FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND has_function_privilege('authenticated', oid, 'EXECUTE')
                          UNION SELECT 'read ' || relname::text FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('authenticated', oid, 'SELECT')
                          UNION SELECT 'write ' || relname::text FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('authenticated', oid, 'INSERT, UPDATE, DELETE')$$,
    ARRAY['log_event', 'add_member', 'remove_member', 'set_member_role', 'leave_organization', 'transfer_ownership', 'list_members',
          'get_member', 'create_role', 'set_role_permissions', 'drop_role', 'list_roles', 'list_permissions', 'decide_join_request',
          'list_join_requests', 'request_to_join', 'cancel_join_request', 'suggested_organizations', 'create_organization',
          'get_organization', 'update_organization', 'move_organization', 'delete_organization', 'my_organizations', 'seat_usage',
          'add_domain', 'set_enrollment', 'remove_domain', 'list_domains', 'my_quota', 'create_invitation', 'create_invitations', 'create_invite_link',
          'check_invitation', 'resend_invitation', 'revoke_invitation', 'list_invitations', 'set_invitation_policy',
          'current_claims', 'current_user_id', 'has_any_permission', 'has_any_role', 'has_permission', 'has_role', 'is_member',
          'member_organizations', 'organizations_with_permission', 'platform_role', 'whoami',
          'read join_request', 'read membership', 'read organization', 'read organization_domain', 'read permission', 'read platform_role',
          'read role', 'read role_permission'],
    'authenticated may call log_event(), what policies ask, and what is for users, read what is theirs, and nothing else') END;
SELECT CASE WHEN to_regrole('service_role') IS NULL THEN skip('there is no role service_role', 2)
            ELSE collect_tap(
                ok(has_function_privilege('service_role', 'invite_sync.sync_status()', 'EXECUTE'), 'service_role may call sync_status()'),
                ok(NOT has_function_privilege('service_role', 'invite_sync.detach(interval)', 'EXECUTE'), 'service_role may not call detach()')) END;
SELECT is_empty($$SELECT oid::regclass FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind = 'r' AND NOT relrowsecurity$$,
    'row level security is on for every table of invite_sync');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND (prosecdef OR pg_get_userbyid(proowner) <> 'invite_sync_owner')$$,
    'every function of invite_sync belongs to invite_sync_owner, and none is SECURITY DEFINER');
SELECT is_empty($$SELECT r.rolname FROM pg_roles AS r WHERE r.rolname = 'invite_sync_owner' AND (r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR r.rolbypassrls)
                  UNION ALL SELECT m.rolname FROM pg_auth_members AS a JOIN pg_roles AS o ON o.oid = a.roleid JOIN pg_roles AS m ON m.oid = a.member
                   WHERE o.rolname = 'invite_sync_owner' AND NOT m.rolsuper$$, 'invite_sync_owner has no power, and nobody is a member of it');

-- ---------------------------------------------------------------------
-- The users there are
-- ---------------------------------------------------------------------

CREATE TEMPORARY TABLE tested_target ON COMMIT DROP AS SELECT * FROM invite_sync.target_list WHERE enabled;
SELECT is(s.missing, 0::bigint, format('%s: every user has a row', s.target)) FROM invite_sync.sync_status() AS s JOIN tested_target USING (target) ORDER BY s.target;
SELECT is(s.quarantined, 0::bigint, format('%s: nobody is in quarantine', s.target)) FROM invite_sync.sync_status() AS s JOIN tested_target USING (target) ORDER BY s.target;

-- ---------------------------------------------------------------------
-- The organizations there are
-- ---------------------------------------------------------------------

-- one without members is nobody's, and legal
SELECT is_empty($$SELECT v.object FROM invite_sync.verify() AS v WHERE v.area = 'organization' AND v.finding = 'the organization has no owner'
                     AND EXISTS (SELECT FROM invite_sync.list_members(v.object::uuid))$$, 'every organization with members has an owner, there or above it');
SELECT is_empty($$SELECT v.object, v.finding FROM invite_sync.verify() AS v WHERE v.area IN ('organization', 'membership') AND v.severity = 'error'$$,
    'nothing belongs to an organization or a role that does not exist');
SELECT is_empty($$SELECT v.finding FROM invite_sync.verify() AS v WHERE v.area = 'membership' AND v.severity = 'warning'$$,
    'nobody is a member who is gone');

-- ---------------------------------------------------------------------
-- One more, who signs up, changes and is deleted
-- ---------------------------------------------------------------------

CREATE FUNCTION pg_temp.rows_of(target text, key name, user_id uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    result bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s AS t WHERE t.%I = $1', target, key) USING user_id INTO result;
    RETURN result;
END
$$;
CREATE FUNCTION pg_temp.value_of(target text, key name, user_id uuid, column_name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SELECT t.%I::text FROM %s AS t WHERE t.%I = $1', column_name, target, key) USING user_id INTO result;
    RETURN result;
END
$$;
CREATE FUNCTION pg_temp.in_quarantine(target text, user_id uuid) RETURNS boolean LANGUAGE sql AS
    $$SELECT EXISTS (SELECT FROM invite_sync.quarantine AS q WHERE q.target = $1 AND q.user_id = $2)$$;

SELECT gen_random_uuid() AS probe \gset

SELECT lives_ok(format($$INSERT INTO auth.users (id, aud, role, email, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
    VALUES (%L, 'authenticated', 'authenticated', 'invite-sync-probe-%1$s@example.invalid', '{"provider": "email", "providers": ["email"]}',
    '{"full_name": "Probe of invite_sync", "first_name": "Probe", "last_name": "of invite_sync"}', now(), now())$$, :'probe'), 'a signup succeeds');
SELECT ok(invite_sync.user_exists(:'probe'), 'the user exists');
SELECT ok(pg_temp.rows_of(t.target, t.key, :'probe') = 1 OR pg_temp.in_quarantine(t.target, :'probe'),
          format('%s: the user is there, or in quarantine', t.target)) FROM tested_target AS t ORDER BY t.target;
SELECT diag(format('%s: %s %s', q.target, q.sqlstate, q.message)) FROM invite_sync.quarantine AS q WHERE q.user_id = :'probe' ORDER BY q.target;
SELECT lives_ok(format('SELECT invite_sync.ensure_user(%L)', :'probe'), 'ensure_user() can be called for them');
SELECT lives_ok(format('SELECT invite_sync.create_organization(''Probe of invite_sync'', %L, owner_id => %L)', 'invite-sync-probe-' || :'probe', :'probe'),
                'they can have an organization');
CREATE FUNCTION pg_temp.members() RETURNS SETOF uuid LANGUAGE sql AS
    $$SELECT m.user_id FROM invite_sync.list_organizations(page_size => 1) AS o, invite_sync.list_members(o.id) AS m WHERE o.name = 'Probe of invite_sync'$$;
SELECT set_eq('SELECT pg_temp.members()', ARRAY[:'probe'::uuid], 'of which they are the member');

SELECT lives_ok(format($$UPDATE auth.users SET email = 'invite-sync-probe-changed-%1$s@example.invalid', last_sign_in_at = now() WHERE id = %1$L$$, :'probe'), 'a change of email succeeds');
SELECT ok(pg_temp.in_quarantine(t.target, :'probe')
          OR pg_temp.value_of(t.target, t.key, :'probe', m.key) IS NOT DISTINCT FROM format('invite-sync-probe-changed-%s@example.invalid', :'probe'),
          format('%s.%s: the new address is there, or the change in quarantine', t.target, m.key))
  FROM tested_target AS t, jsonb_each(t.mapping) AS m
 WHERE m.value->>'value' IN ('email', 'users.email') AND m.value->>'update' = 'always' ORDER BY t.target, m.key;
SELECT lives_ok(format('UPDATE auth.users SET last_sign_in_at = now() WHERE id = %L', :'probe'), 'a login succeeds');

-- a foreign key that says so, without on_delete, refuses the deletion itself
SELECT EXISTS (SELECT FROM tested_target AS t JOIN pg_constraint AS c ON c.conrelid = to_regclass(t.target)
                WHERE c.contype = 'f' AND c.confrelid = 'auth.users'::regclass AND c.confdeltype IN ('a', 'r') AND t.on_delete = 'none') AS deletion_refused \gset
\if :deletion_refused
SELECT skip('a foreign key of a target refuses deletions', 3);
\else
SELECT lives_ok(format('DELETE FROM auth.users WHERE id = %L', :'probe'), 'a deletion succeeds');
SELECT CASE WHEN EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgname = 'Invite_sync_delete' AND t.tgrelid = to_regclass('auth.users'))
            THEN is_empty('SELECT pg_temp.members()', 'a deletion takes them out of their organization')
            ELSE pass('there are no triggers on auth.users that would take them out of their organization: attach()') END;
SELECT is(count(*), 0::bigint, 'nothing of the user waits in quarantine but their deletion') FROM invite_sync.quarantine WHERE user_id = :'probe' AND action <> 'delete';
SELECT ok(pg_temp.rows_of(t.target, t.key, :'probe') = 0 OR pg_temp.in_quarantine(t.target, :'probe'),
          format('%s: the row is gone, or its deletion in quarantine', t.target)) FROM tested_target AS t WHERE t.on_delete = 'delete' ORDER BY t.target;
\endif

SELECT * FROM finish();
ROLLBACK;
