-- ---------------------------------------------------------------------
-- Room caller, continued: who may call what. Last, because it names every room's functions.
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.api_grants()
    RETURNS TABLE (audience text, object text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    AS $$
    VALUES
        -- room event
        ('user', 'FUNCTION invite_sync.log_event(text, text, text, jsonb, uuid, uuid, text)'),
        ('service', 'FUNCTION invite_sync.log_event(text, text, text, jsonb, uuid, uuid, text)'),
        ('service', 'FUNCTION invite_sync.redact_payload(jsonb)'),
        ('service', 'TABLE invite_sync.activity_log'),
        ('service', 'TABLE invite_sync.admin_log'),
        ('service', 'TABLE invite_sync.error_log'),
        ('service', 'TABLE invite_sync.system_log'),
        ('operator', 'FUNCTION invite_sync.seal_events(integer, interval)'),
        ('operator', 'FUNCTION invite_sync.verify_events(text)'),
        ('operator', 'PROCEDURE invite_sync.prune_events(interval, integer)'),
        -- room caller
        ('service', 'FUNCTION invite_sync.is_operator()'),
        ('operator', 'FUNCTION invite_sync.act_as(uuid, text)'),
        -- room membership
        ('user', 'FUNCTION invite_sync.add_member(uuid, uuid, text)'),
        ('service', 'FUNCTION invite_sync.add_member(uuid, uuid, text)'),
        ('user', 'FUNCTION invite_sync.remove_member(uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.remove_member(uuid, uuid)'),
        ('user', 'FUNCTION invite_sync.set_member_role(uuid, uuid, text)'),
        ('service', 'FUNCTION invite_sync.set_member_role(uuid, uuid, text)'),
        ('user', 'FUNCTION invite_sync.leave_organization(uuid)'),
        ('user', 'FUNCTION invite_sync.transfer_ownership(uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.transfer_ownership(uuid, uuid)'),
        ('user', 'FUNCTION invite_sync.list_members(uuid, text, integer)'),
        ('service', 'FUNCTION invite_sync.list_members(uuid, text, integer)'),
        ('user', 'FUNCTION invite_sync.get_member(uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.get_member(uuid, uuid)'),
        ('user', 'FUNCTION invite_sync.create_role(text, text[], uuid)'),
        ('service', 'FUNCTION invite_sync.create_role(text, text[], uuid)'),
        ('user', 'FUNCTION invite_sync.set_role_permissions(text, text[], uuid)'),
        ('service', 'FUNCTION invite_sync.set_role_permissions(text, text[], uuid)'),
        ('user', 'FUNCTION invite_sync.drop_role(text, uuid)'),
        ('service', 'FUNCTION invite_sync.drop_role(text, uuid)'),
        ('user', 'FUNCTION invite_sync.list_roles(uuid, text, integer)'),
        ('service', 'FUNCTION invite_sync.list_roles(uuid, text, integer)'),
        ('user', 'FUNCTION invite_sync.list_permissions(text, integer)'),
        ('service', 'FUNCTION invite_sync.list_permissions(text, integer)'),
        ('user', 'FUNCTION invite_sync.decide_join_request(uuid, boolean, text)'),
        ('service', 'FUNCTION invite_sync.decide_join_request(uuid, boolean, text)'),
        ('user', 'FUNCTION invite_sync.list_join_requests(uuid, text, integer, text)'),
        ('service', 'FUNCTION invite_sync.list_join_requests(uuid, text, integer, text)'),
        ('user', 'FUNCTION invite_sync.request_to_join(uuid, text)'),
        ('user', 'FUNCTION invite_sync.cancel_join_request(uuid)'),
        ('user', 'FUNCTION invite_sync.suggested_organizations()'),
        ('service', 'FUNCTION invite_sync.set_platform_role(uuid, text)'),
        ('operator', 'FUNCTION invite_sync.create_permission(text, text)'),
        ('operator', 'FUNCTION invite_sync.drop_permission(text)'),
        -- room sync, operating
        ('service', 'FUNCTION invite_sync.health()'),
        ('service', 'TABLE invite_sync.alerts'),
        ('service', 'FUNCTION invite_sync.check_alerts(boolean)'),
        ('operator', 'FUNCTION invite_sync.set_alert(text, numeric, interval)'),
        ('operator', 'FUNCTION invite_sync.acknowledge_alert(bigint)'),
        ('operator', 'FUNCTION invite_sync.schedule_retry(text)'),
        ('operator', 'FUNCTION invite_sync.unschedule_retry()'),
        ('operator', 'FUNCTION invite_sync.config_sql()'),
        ('operator', 'FUNCTION invite_sync.uninstall_plan()'),
        ('operator', 'FUNCTION invite_sync.require_direct()'),
        -- room sync
        ('service', 'FUNCTION invite_sync.target_name(bigint, regclass, name, name, text, oid)'),
        ('service', 'FUNCTION invite_sync.guarded_trigger_name(name, oid, text)'),
        ('service', 'TABLE invite_sync.target_list'),
        ('service', 'FUNCTION invite_sync.sync_users(regclass, uuid, boolean, boolean)'),
        ('service', 'FUNCTION invite_sync.ensure_user(uuid)'),
        ('service', 'FUNCTION invite_sync.user_exists(uuid)'),
        ('service', 'FUNCTION invite_sync.create_profile(uuid, jsonb)'),
        ('service', 'FUNCTION invite_sync.sync_status()'),
        ('service', 'FUNCTION invite_sync.deactivate_user(uuid, text)'),
        ('service', 'FUNCTION invite_sync.reactivate_user(uuid)'),
        ('service', 'FUNCTION invite_sync.preservation_report(uuid[])'),
        ('operator', 'FUNCTION invite_sync.add_target(regclass, jsonb, name, text, text, name, boolean, boolean)'),
        ('operator', 'FUNCTION invite_sync.set_target(regclass, jsonb, name, text, text, name, boolean, text, boolean)'),
        ('operator', 'FUNCTION invite_sync.drop_target(text)'),
        ('operator', 'FUNCTION invite_sync.attach(interval)'),
        ('operator', 'FUNCTION invite_sync.detach(interval)'),
        ('operator', 'PROCEDURE invite_sync.sync_all(integer, regclass)'),
        ('operator', 'FUNCTION invite_sync.verify()'),
        ('operator', 'FUNCTION invite_sync.create_standard_tables(boolean, boolean, boolean, name, boolean)'),
        ('operator', 'FUNCTION invite_sync.create_auth_schema()'),
        -- room quarantine
        ('service', 'TABLE invite_sync.quarantine'),
        ('service', 'FUNCTION invite_sync.retry_quarantine(integer, boolean)'),
        ('service', 'FUNCTION invite_sync.close_quarantine(bigint)'),
        ('operator', 'FUNCTION invite_sync.guard_trigger(name, text, text[])'),
        ('operator', 'FUNCTION invite_sync.unguard_trigger(name)'),
        -- room organization
        ('user', 'FUNCTION invite_sync.create_organization(text, text, uuid, jsonb, uuid)'),
        ('service', 'FUNCTION invite_sync.create_organization(text, text, uuid, jsonb, uuid)'),
        ('user', 'FUNCTION invite_sync.get_organization(uuid)'),
        ('service', 'FUNCTION invite_sync.get_organization(uuid)'),
        ('user', 'FUNCTION invite_sync.update_organization(uuid, text, text, jsonb)'),
        ('service', 'FUNCTION invite_sync.update_organization(uuid, text, text, jsonb)'),
        ('user', 'FUNCTION invite_sync.move_organization(uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.move_organization(uuid, uuid)'),
        ('user', 'FUNCTION invite_sync.delete_organization(uuid, boolean)'),
        ('service', 'FUNCTION invite_sync.delete_organization(uuid, boolean)'),
        ('user', 'FUNCTION invite_sync.my_organizations(text, integer)'),
        ('user', 'FUNCTION invite_sync.seat_usage(uuid)'),
        ('service', 'FUNCTION invite_sync.seat_usage(uuid)'),
        ('service', 'FUNCTION invite_sync.list_organizations(uuid, text, integer)'),
        ('service', 'FUNCTION invite_sync.set_seats(uuid, integer, integer)'),
        ('service', 'FUNCTION invite_sync.set_organization_limits(uuid, integer, text)'),
        ('user', 'FUNCTION invite_sync.add_domain(uuid, text)'),
        ('service', 'FUNCTION invite_sync.add_domain(uuid, text)'),
        ('user', 'FUNCTION invite_sync.set_enrollment(uuid, text, text)'),
        ('service', 'FUNCTION invite_sync.set_enrollment(uuid, text, text)'),
        ('user', 'FUNCTION invite_sync.remove_domain(uuid, text)'),
        ('service', 'FUNCTION invite_sync.remove_domain(uuid, text)'),
        ('user', 'FUNCTION invite_sync.list_domains(uuid, text, integer)'),
        ('service', 'FUNCTION invite_sync.list_domains(uuid, text, integer)'),
        ('service', 'FUNCTION invite_sync.verify_domain(uuid, text, text[])'),
        -- room invitation, the side of who is invited
        ('anon', 'FUNCTION invite_sync.get_invitation(text)'),
        ('user', 'FUNCTION invite_sync.get_invitation(text)'),
        ('service', 'FUNCTION invite_sync.get_invitation(text)'),
        ('anon', 'FUNCTION invite_sync.bind_invitation(text, text)'),
        ('user', 'FUNCTION invite_sync.bind_invitation(text, text)'),
        ('user', 'FUNCTION invite_sync.accept_invitation(text, text)'),
        ('user', 'FUNCTION invite_sync.accept_my_invitation(uuid)'),
        ('user', 'FUNCTION invite_sync.my_invitations(text, integer)'),
        ('user', 'FUNCTION invite_sync.decline_invitation(text)'),
        ('service', 'FUNCTION invite_sync.decline_invitation(text)'),
        ('user', 'FUNCTION invite_sync.decline_my_invitation(uuid)'),
        ('anon', 'FUNCTION invite_sync.signup_with_invitation(text, text, jsonb, text)'),
        ('service', 'FUNCTION invite_sync.signup_with_invitation(text, text, jsonb, text)'),
        -- room membership, what policies ask
        ('anon', 'FUNCTION invite_sync.current_user_id()'),
        ('user', 'FUNCTION invite_sync.current_user_id()'),
        ('service', 'FUNCTION invite_sync.current_user_id()'),
        ('anon', 'FUNCTION invite_sync.current_claims()'),
        ('user', 'FUNCTION invite_sync.current_claims()'),
        ('service', 'FUNCTION invite_sync.current_claims()'),
        ('anon', 'FUNCTION invite_sync.is_member(uuid)'),
        ('user', 'FUNCTION invite_sync.is_member(uuid)'),
        ('service', 'FUNCTION invite_sync.is_member(uuid)'),
        ('anon', 'FUNCTION invite_sync.has_role(uuid, text)'),
        ('user', 'FUNCTION invite_sync.has_role(uuid, text)'),
        ('service', 'FUNCTION invite_sync.has_role(uuid, text)'),
        ('anon', 'FUNCTION invite_sync.has_any_role(uuid, text[])'),
        ('user', 'FUNCTION invite_sync.has_any_role(uuid, text[])'),
        ('service', 'FUNCTION invite_sync.has_any_role(uuid, text[])'),
        ('anon', 'FUNCTION invite_sync.has_permission(uuid, text)'),
        ('user', 'FUNCTION invite_sync.has_permission(uuid, text)'),
        ('service', 'FUNCTION invite_sync.has_permission(uuid, text)'),
        ('anon', 'FUNCTION invite_sync.has_any_permission(uuid, text[])'),
        ('user', 'FUNCTION invite_sync.has_any_permission(uuid, text[])'),
        ('service', 'FUNCTION invite_sync.has_any_permission(uuid, text[])'),
        ('anon', 'FUNCTION invite_sync.member_organizations()'),
        ('user', 'FUNCTION invite_sync.member_organizations()'),
        ('service', 'FUNCTION invite_sync.member_organizations()'),
        ('anon', 'FUNCTION invite_sync.organizations_with_permission(text)'),
        ('user', 'FUNCTION invite_sync.organizations_with_permission(text)'),
        ('service', 'FUNCTION invite_sync.organizations_with_permission(text)'),
        ('anon', 'FUNCTION invite_sync.platform_role()'),
        ('user', 'FUNCTION invite_sync.platform_role()'),
        ('service', 'FUNCTION invite_sync.platform_role()'),
        ('anon', 'FUNCTION invite_sync.whoami()'),
        ('user', 'FUNCTION invite_sync.whoami()'),
        ('service', 'FUNCTION invite_sync.whoami()'),
        ('user', 'TABLE invite_sync.organization'),
        ('user', 'TABLE invite_sync.organization_domain'),
        ('user', 'TABLE invite_sync.membership'),
        ('user', 'TABLE invite_sync.role'),
        ('user', 'TABLE invite_sync.role_permission'),
        ('user', 'TABLE invite_sync.permission'),
        ('user', 'TABLE invite_sync.join_request'),
        ('user', 'TABLE invite_sync.platform_role'),
        ('operator', 'FUNCTION invite_sync.protect_table(regclass, name, text, text, boolean)'),
        ('operator', 'FUNCTION invite_sync.unprotect_table(regclass, boolean)'),
        -- room invitation
        ('user', 'FUNCTION invite_sync.create_invitation(text, text, uuid, jsonb, text, jsonb, interval, text, text, text, uuid)'),
        ('service', 'FUNCTION invite_sync.create_invitation(text, text, uuid, jsonb, text, jsonb, interval, text, text, text, uuid)'),
        ('user', 'FUNCTION invite_sync.create_invite_link(uuid, text, integer, interval, text, uuid)'),
        ('service', 'FUNCTION invite_sync.create_invite_link(uuid, text, integer, interval, text, uuid)'),
        ('user', 'FUNCTION invite_sync.resend_invitation(uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.resend_invitation(uuid, uuid)'),
        ('user', 'FUNCTION invite_sync.revoke_invitation(uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.revoke_invitation(uuid, uuid)'),
        ('user', 'FUNCTION invite_sync.list_invitations(uuid, text, integer, text, uuid)'),
        ('service', 'FUNCTION invite_sync.list_invitations(uuid, text, integer, text, uuid)'),
        ('user', 'FUNCTION invite_sync.set_invitation_policy(uuid, interval)'),
        ('service', 'FUNCTION invite_sync.set_invitation_policy(uuid, interval)'),
        ('user', 'FUNCTION invite_sync.create_invitations(jsonb, text, uuid, interval, text, text, uuid)'),
        ('service', 'FUNCTION invite_sync.create_invitations(jsonb, text, uuid, interval, text, text, uuid)'),
        ('user', 'FUNCTION invite_sync.check_invitation(text, text, uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.check_invitation(text, text, uuid, uuid)'),
        ('service', 'FUNCTION invite_sync.import_invitations(jsonb)'),
        ('service', 'FUNCTION invite_sync.invitation_import_failed()'),
        ('service', 'TABLE invite_sync.invitation_import'),
        ('operator', 'PROCEDURE invite_sync.settle_invitations(integer)'),
        ('operator', 'PROCEDURE invite_sync.prune_invitations(interval, integer)'),
        -- room quota
        ('user', 'FUNCTION invite_sync.my_quota()'),
        ('service', 'FUNCTION invite_sync.grant_quota(uuid, integer)'),
        ('service', 'FUNCTION invite_sync.set_quota(uuid, integer)'),
        ('service', 'FUNCTION invite_sync.quota_report(text, integer)'),
        ('service', 'TABLE invite_sync.rate_limits'),
        ('service', 'FUNCTION invite_sync.consume_rate_limit(text, text)'),
        ('service', 'FUNCTION invite_sync.rate_limit_report(text, integer)'),
        ('operator', 'FUNCTION invite_sync.set_rate_limit(text, integer, interval, text)'),
        ('operator', 'FUNCTION invite_sync.drop_rate_limit(text, text)'),
        ('operator', 'PROCEDURE invite_sync.backfill_quota(integer)'),
        ('operator', 'PROCEDURE invite_sync.prune_rate_limits(integer)'),
        -- room account
        ('service', 'FUNCTION invite_sync.create_user(text, text, text, text, jsonb, text, boolean)'),
        ('service', 'FUNCTION invite_sync.import_users(jsonb)'),
        ('service', 'FUNCTION invite_sync.migration_status()'),
        ('service', 'FUNCTION invite_sync.unmigrated_users(text, integer)'),
        ('service', 'FUNCTION invite_sync.complete_migration(text, text, text)'),
        ('service', 'FUNCTION invite_sync.create_migration_invitation(text, text, interval)'),
        ('service', 'FUNCTION invite_sync.link_external_user(text, text, uuid)'),
        ('user', 'FUNCTION invite_sync.check_migration()'),
        ('user', 'FUNCTION invite_sync.require_migrated()'),
        ('service', 'FUNCTION invite_sync.require_migrated()'),
        ('anon', 'FUNCTION invite_sync.complete_migration_by_token(text, text)'),
        ('user', 'FUNCTION invite_sync.complete_migration_by_token(text, text)'),
        ('service', 'FUNCTION invite_sync.complete_migration_by_token(text, text)'),
        ('operator', 'FUNCTION invite_sync.set_migration_policy(text, timestamptz)'),
        -- room hook: the auth server alone
        ('auth', 'FUNCTION invite_sync.before_user_created_hook(jsonb)'),
        ('auth', 'FUNCTION invite_sync.after_user_created_hook(jsonb)'),
        ('auth', 'FUNCTION invite_sync.custom_access_token_hook(jsonb)'),
        ('auth', 'FUNCTION invite_sync.password_verification_attempt_hook(jsonb)'),
        ('auth', 'FUNCTION invite_sync.mfa_verification_attempt_hook(jsonb)'),
        -- room doctor
        ('operator', 'FUNCTION invite_sync.doctor(boolean, jsonb)'),
        ('operator', 'FUNCTION invite_sync.probe_signup(text[], boolean, text)'),
        ('operator', 'FUNCTION invite_sync.probe_update(text[], boolean, text)'),
        ('operator', 'FUNCTION invite_sync.probe_login(text[], boolean, text)'),
        ('operator', 'FUNCTION invite_sync.probe_delete(text[], boolean, text)'),
        ('operator', 'FUNCTION invite_sync.audit(text, jsonb)'),
        -- triggers are created by the owner of auth.users
        ('auth', 'FUNCTION invite_sync.sync_on_insert()'),
        ('auth', 'FUNCTION invite_sync.sync_on_update()'),
        ('auth', 'FUNCTION invite_sync.sync_on_delete()'),
        ('auth', 'FUNCTION invite_sync.sync_on_identity()'),
        -- room drift
        ('operator', 'TABLE invite_sync.schema_snapshots'),
        ('operator', 'TABLE invite_sync.drift_alerts'),
        ('operator', 'FUNCTION invite_sync.describe_schema(text[])'),
        ('operator', 'FUNCTION invite_sync.snapshot_schema(text[])'),
        ('operator', 'FUNCTION invite_sync.schema_diff(bigint, bigint)'),
        ('operator', 'FUNCTION invite_sync.approve_snapshot(bigint)'),
        ('operator', 'FUNCTION invite_sync.approve_drift(bigint)'),
        ('operator', 'FUNCTION invite_sync.check_drift()'),
        ('operator', 'FUNCTION invite_sync.export_snapshot(bigint)'),
        ('operator', 'FUNCTION invite_sync.import_snapshot(jsonb)'),
        ('operator', 'FUNCTION invite_sync.assert_no_drift(jsonb, text[])'),
        ('operator', 'FUNCTION invite_sync.schedule_drift_check(text)'),
        ('operator', 'FUNCTION invite_sync.unschedule_drift_check()'),
        ('operator', 'PROCEDURE invite_sync.prune_snapshots(interval, integer, integer)')
    $$;
COMMENT ON FUNCTION invite_sync.api_grants() IS
    'What grant_api() and grant_operator() grant: audience (anon, user, service, auth, operator) and object. Operators also get what service gets. Internal.';

CREATE FUNCTION invite_sync.grant_to(role name, audiences text[]) RETURNS integer
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    object text;
    granted integer := 0;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA invite_sync TO %I', role);
    FOR object IN SELECT DISTINCT g.object FROM invite_sync.api_grants() AS g WHERE g.audience = ANY (audiences) ORDER BY 1 LOOP
        EXECUTE format('GRANT %s ON %s TO %I', CASE WHEN object = 'TABLE invite_sync.invitation_import' THEN 'SELECT, INSERT'
                                                    WHEN object LIKE 'TABLE %' THEN 'SELECT' ELSE 'EXECUTE' END, object, role);
        granted := granted + 1;
    END LOOP;
    RETURN granted;
END
$$;
COMMENT ON FUNCTION invite_sync.grant_to(name, text[]) IS
    'Grant a role what these audiences get; runs as the caller, who must be a superuser or own the objects. Internal.';

CREATE FUNCTION invite_sync.grant_operator(role regrole) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    operator_role name;
    is_new boolean;
BEGIN
    PERFORM invite_sync.require_superuser();
    SELECT r.rolname INTO operator_role FROM pg_roles AS r WHERE r.oid = role;
    IF operator_role IS NULL THEN
        RAISE undefined_object USING
            MESSAGE = 'role does not exist',
            HINT = 'Name an existing role: SELECT invite_sync.grant_operator(''postgres'');';
    END IF;
    IF operator_role IN ('anon', 'authenticated', 'authenticator', 'invite_sync_owner') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('role "%s" cannot be an operator', operator_role),
            HINT = 'Anybody on the internet can be that role. Name the role of those who operate the database.';
    END IF;
    is_new := NOT EXISTS (SELECT 1 FROM invite_sync.operator AS o WHERE o.role_id = $1 AND o.registered_in = invite_sync.database_lineage() AND o.active);
    IF is_new THEN
        INSERT INTO invite_sync.operator (role, role_id) VALUES (operator_role, role);
    END IF;
    PERFORM invite_sync.grant_to(operator_role, ARRAY['service', 'operator']);
    PERFORM invite_sync.grant_settings(operator_role, true);
    IF NOT is_new THEN
        RAISE NOTICE 'role "%" is an operator already', operator_role;
    END IF;
    RETURN is_new;
END
$$;
COMMENT ON FUNCTION invite_sync.grant_operator(regrole) IS
$doc$Let a role, and its members, configure and operate the extension: it may call the functions of operators and SET the settings of the extension. It gets no right on any table. role: an existing role; anon, authenticated and authenticator are refused. true when it was none before.
Superusers. Errors: 42501, 42704, 22023.$doc$;

CREATE FUNCTION invite_sync.revoke_operator(role regrole) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    operator_role name;
    was boolean;
    object text;
BEGIN
    PERFORM invite_sync.require_superuser();
    SELECT r.rolname INTO operator_role FROM pg_roles AS r WHERE r.oid = role;
    UPDATE invite_sync.operator AS o SET active = false
     WHERE o.active AND CASE WHEN o.registered_in = invite_sync.database_lineage() THEN o.role_id = $1 ELSE o.role = operator_role END;
    was := FOUND;
    IF was THEN
        FOR object IN SELECT DISTINCT g.object FROM invite_sync.api_grants() AS g WHERE g.audience IN ('service', 'operator') LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %I', object, operator_role);
        END LOOP;
        PERFORM invite_sync.grant_settings(operator_role, false);
        -- what grant_dump() and grant_api() gave stays
        IF has_table_privilege(operator_role, 'invite_sync.event', 'SELECT') THEN
            PERFORM invite_sync.grant_dump(role);
        ELSIF operator_role NOT IN ('service_role', 'supabase_auth_admin') THEN
            EXECUTE format('REVOKE USAGE ON SCHEMA invite_sync FROM %I', operator_role);
        END IF;
        IF operator_role = 'service_role' THEN
            PERFORM invite_sync.grant_to(operator_role, ARRAY['service']);
        END IF;
    ELSE
        RAISE NOTICE 'role "%" is no operator', operator_role;
    END IF;
    RETURN was;
END
$$;
COMMENT ON FUNCTION invite_sync.revoke_operator(regrole) IS
$doc$Take back what grant_operator() gave. true when the role was an operator. Superusers.$doc$;

CREATE FUNCTION invite_sync.grant_dump(role regrole) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    dump_role name;
    bypasses boolean;
BEGIN
    PERFORM invite_sync.require_superuser();
    SELECT r.rolname, r.rolbypassrls OR r.rolsuper INTO dump_role, bypasses FROM pg_roles AS r WHERE r.oid = role;
    EXECUTE format('GRANT USAGE ON SCHEMA invite_sync TO %I', dump_role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA invite_sync TO %I', dump_role);
    EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA invite_sync TO %I', dump_role);
    IF NOT bypasses THEN
        RAISE WARNING 'role "%" cannot dump the tables of invite_sync yet: row level security is on', dump_role
            USING HINT = format('ALTER ROLE %I BYPASSRLS;', dump_role);
    END IF;
    RETURN bypasses;
END
$$;
COMMENT ON FUNCTION invite_sync.grant_dump(regrole) IS
$doc$Let a role read all our tables and sequences, as pg_dump needs: without it the whole dump of a role that is no superuser fails. true when the role also bypasses row level security, which it needs. Superusers.$doc$;

CREATE FUNCTION invite_sync.grant_api() RETURNS text[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    audience record;
    done text[] := ARRAY[]::text[];
    operator_role name;
BEGIN
    PERFORM invite_sync.require_superuser();
    FOR audience IN
        SELECT a.role, a.audiences FROM (VALUES
            ('anon', ARRAY['anon']), ('authenticated', ARRAY['user']),
            ('service_role', ARRAY['service']), ('supabase_auth_admin', ARRAY['auth'])) AS a (role, audiences)
         WHERE EXISTS (SELECT 1 FROM pg_roles AS r WHERE r.rolname = a.role)
    LOOP
        PERFORM invite_sync.grant_to(audience.role, audience.audiences);
        done := done || audience.role;
    END LOOP;
    -- Supabase's administrator is no superuser
    IF EXISTS (SELECT 1 FROM pg_roles AS r WHERE r.rolname = 'postgres' AND NOT r.rolsuper) THEN
        IF NOT EXISTS (SELECT 1 FROM invite_sync.operator AS o WHERE o.role = 'postgres') THEN
            PERFORM invite_sync.grant_operator('postgres'::regrole);
        END IF;
        PERFORM invite_sync.grant_dump('postgres'::regrole);
        done := done || 'postgres'::text;
    END IF;
    -- a function that came with an update is new to the operators of before
    FOR operator_role IN SELECT r.rolname FROM invite_sync.operator AS o JOIN pg_roles AS r
         ON CASE WHEN o.registered_in = invite_sync.database_lineage() THEN r.oid = o.role_id ELSE r.rolname = o.role END WHERE o.active LOOP
        PERFORM invite_sync.grant_to(operator_role, ARRAY['service', 'operator']);
    END LOOP;
    NOTIFY pgrst, 'reload schema';
    RETURN done;
END
$$;
COMMENT ON FUNCTION invite_sync.grant_api() IS
$doc$Give the roles of Supabase that exist (anon, authenticated, service_role, supabase_auth_admin) what every room grants them, make postgres an operator who can dump where it is no superuser, and tell PostgREST to read its schemas anew. Run when the extension is created; call it again when such a role was made later. Returns the roles.
Superusers. Error 42501.$doc$;

-- The owner first: what is revoked before is recorded as the superuser's, and every dump would carry the difference.
-- Nobody gets anything but what grant_api() and grant_operator() give; all that can be owned belongs to the powerless role.
DO $grants$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT p.prokind, p.oid FROM pg_catalog.pg_proc AS p
         WHERE p.pronamespace OPERATOR(pg_catalog.=) 'invite_sync'::pg_catalog.regnamespace
    LOOP
        EXECUTE pg_catalog.format('ALTER ROUTINE %s OWNER TO invite_sync_owner', object.oid::pg_catalog.regprocedure);
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', object.oid::pg_catalog.regprocedure);
    END LOOP;
    FOR object IN
        SELECT c.relkind, c.oid FROM pg_catalog.pg_class AS c
         WHERE c.relnamespace OPERATOR(pg_catalog.=) 'invite_sync'::pg_catalog.regnamespace
           AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'v', 'c']::pg_catalog."char"[])
    LOOP
        IF object.relkind OPERATOR(pg_catalog.=) 'c' THEN
            EXECUTE pg_catalog.format('ALTER TYPE %s OWNER TO invite_sync_owner', object.oid::pg_catalog.regclass);
        ELSE
            EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO invite_sync_owner', object.oid::pg_catalog.regclass);
            EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM PUBLIC', object.oid::pg_catalog.regclass);
        END IF;
    END LOOP;
END
$grants$;

SELECT invite_sync.grant_api();
