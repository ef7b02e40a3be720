-- ---------------------------------------------------------------------
-- Room membership, continued: what policies ask
-- ---------------------------------------------------------------------
--
-- None is STRICT: a policy or an IF that asks about NULL is answered with false, not with NULL, which NOT would keep.

CREATE FUNCTION invite_sync.current_user_id() RETURNS uuid
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_current_user_id';
COMMENT ON FUNCTION invite_sync.current_user_id() IS
$doc$The auth user who asks: "sub" of the request's claims, as long as there is such a user who is neither banned nor soft-deleted; an anonymous user too. NULL for everybody else: nobody, anon, services.
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby. Reads once a statement, not once a row.$doc$;

CREATE FUNCTION invite_sync.current_claims() RETURNS jsonb
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_current_claims';
COMMENT ON FUNCTION invite_sync.current_claims() IS
$doc$The claims of the request (request.jwt.claims), as they stand in it: nobody has checked them against auth.users, and user_metadata is what users write about themselves. NULL when there are none, when they are malformed or are no JSON object, nested deeper than 64, longer than 16 MB, or hold a number beyond 1e1000 or, in a database that is not in UTF8, an escape (\u00e9) of what is not ASCII.
Everybody. Never raises. Reads no table and locks nothing.$doc$;

CREATE FUNCTION invite_sync.is_member(organization_id uuid) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_is_member';
COMMENT ON FUNCTION invite_sync.is_member(uuid) IS
$doc$Is the caller a member of the organization, or of one above it? For policies: reads once a statement, and then costs about as much as a comparison.
organization_id: NULL or an unknown one is answered with false. false for nobody, for anon, and for users who are anonymous, banned, soft-deleted or gone. true for services and operators where the organization exists.
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE FUNCTION invite_sync.has_role(organization_id uuid, role text) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_has_role';
COMMENT ON FUNCTION invite_sync.has_role(uuid, text) IS
$doc$Has the caller a role of this name in the organization, by a membership there or above it? Exactly that role: an owner has not the role admin. A role of an organization's own that is called like a built-in one is not taken for it. Organizations may name roles as they like: ask for permissions where it matters.
organization_id, role: NULL or unknown is answered with false. Who gets false and true otherwise: is_member().
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE FUNCTION invite_sync.has_any_role(organization_id uuid, roles text[]) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_has_any_role';
COMMENT ON FUNCTION invite_sync.has_any_role(uuid, text[]) IS
$doc$Has the caller one of these roles in the organization? roles: NULL, and NULL among them, is none. All else: has_role().$doc$;

CREATE FUNCTION invite_sync.has_permission(organization_id uuid, permission text) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_has_permission';
COMMENT ON FUNCTION invite_sync.has_permission(uuid, text) IS
$doc$Does a role that the caller has in the organization, by a membership there or above it, allow this? Permissions that begin with "platform." never count in an organization: ask platform_role() or whoami().
organization_id, permission: NULL or unknown is answered with false. Who gets false and true otherwise: is_member().
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE FUNCTION invite_sync.has_any_permission(organization_id uuid, permissions text[]) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_has_any_permission';
COMMENT ON FUNCTION invite_sync.has_any_permission(uuid, text[]) IS
$doc$Does a role that the caller has in the organization allow one of these? permissions: NULL, and NULL among them, is none. All else: has_permission().$doc$;

CREATE FUNCTION invite_sync.member_organizations() RETURNS uuid[]
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_member_organizations';
COMMENT ON FUNCTION invite_sync.member_organizations() IS
$doc$The organizations that the caller is a member of, those below them included, sorted. In a policy write organization_id = any ((select invite_sync.member_organizations())::uuid[]), with the inner select and the cast: then it is called once a statement and an index on the column can be used. Empty for services too, who bypass row level security.
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE FUNCTION invite_sync.organizations_with_permission(permission text) RETURNS uuid[]
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_organizations_with_permission';
COMMENT ON FUNCTION invite_sync.organizations_with_permission(text) IS
$doc$The organizations in which the caller may do this, sorted; for policies as member_organizations(). permission: NULL or an unknown one gives none. Empty for services too.
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE FUNCTION invite_sync.platform_role() RETURNS text
    LANGUAGE C STABLE PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'membership_platform_role';
COMMENT ON FUNCTION invite_sync.platform_role() IS
$doc$The name of the global role that the caller has without an organization; NULL for users without one and for everybody else.
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE TYPE invite_sync.caller_identity AS (
    user_id uuid,
    kind text,
    role text,
    is_anonymous boolean,
    platform_role text,
    is_administrator boolean,
    is_operator boolean
);
COMMENT ON TYPE invite_sync.caller_identity IS
    'Who asks. kind: user, anon, service (service_role, operators and superusers without other claims) or nobody; role: the database role; is_anonymous: a user who has not signed up; is_administrator: the platform role allows platform.admin.';

CREATE FUNCTION invite_sync.whoami() RETURNS invite_sync.caller_identity
    LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'membership_whoami';
COMMENT ON FUNCTION invite_sync.whoami() IS
$doc$Who is asking, as the extension sees it; also for anonymous users. A user who is banned, soft-deleted or gone is nobody.
Everybody. Never raises. Locks nothing; works in READ ONLY transactions, in parallel workers and on a standby.$doc$;

CREATE FUNCTION invite_sync.membership_loads() RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'membership_loads';
COMMENT ON FUNCTION invite_sync.membership_loads() IS
    'How often this backend has read what its callers are members of, since it began. For tests. Internal.';

-- ---- who sees what of our own tables ----
--
-- Nothing is written through these tables; whoever has no SELECT on them has no use of the policies either. The helpers
-- read as the tables' owner, whom no policy binds, so nothing here asks itself. Anonymous users see nothing.

CREATE POLICY organization_read ON invite_sync.organization FOR SELECT
    USING (id OPERATOR(pg_catalog.=) ANY ((SELECT invite_sync.organizations_with_permission('organization.read'))::pg_catalog.uuid[]));
COMMENT ON POLICY organization_read ON invite_sync.organization IS 'organizations in which one may organization.read';

CREATE POLICY organization_domain_read ON invite_sync.organization_domain FOR SELECT
    USING (organization_id OPERATOR(pg_catalog.=) ANY ((SELECT invite_sync.organizations_with_permission('domains.manage'))::pg_catalog.uuid[]));
COMMENT ON POLICY organization_domain_read ON invite_sync.organization_domain IS 'domains of organizations in which one may domains.manage, as list_domains() shows them: whoever knows the challenge can answer it';

CREATE POLICY membership_read ON invite_sync.membership FOR SELECT
    USING (user_id OPERATOR(pg_catalog.=) (SELECT w.user_id FROM invite_sync.whoami() AS w WHERE NOT w.is_anonymous)
           OR organization_id OPERATOR(pg_catalog.=) ANY ((SELECT invite_sync.organizations_with_permission('members.read'))::pg_catalog.uuid[]));
COMMENT ON POLICY membership_read ON invite_sync.membership IS 'one''s own, and those of organizations in which one may members.read';

CREATE POLICY role_read ON invite_sync.role FOR SELECT
    USING (CASE WHEN organization_id IS NULL THEN (SELECT w.user_id FROM invite_sync.whoami() AS w WHERE NOT w.is_anonymous) IS NOT NULL
                ELSE organization_id OPERATOR(pg_catalog.=) ANY ((SELECT invite_sync.member_organizations())::pg_catalog.uuid[])
                     OR EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.role_id OPERATOR(pg_catalog.=) role.id) END);
COMMENT ON POLICY role_read ON invite_sync.role IS 'global roles, those of one''s organizations, and those that a membership one sees names';

CREATE POLICY role_permission_read ON invite_sync.role_permission FOR SELECT
    USING (EXISTS (SELECT FROM invite_sync.role AS r WHERE r.id OPERATOR(pg_catalog.=) role_id));
COMMENT ON POLICY role_permission_read ON invite_sync.role_permission IS 'permissions of roles that one sees';

CREATE POLICY permission_read ON invite_sync.permission FOR SELECT
    USING ((SELECT w.user_id FROM invite_sync.whoami() AS w WHERE NOT w.is_anonymous) IS NOT NULL);
COMMENT ON POLICY permission_read ON invite_sync.permission IS 'all, for users';

CREATE POLICY join_request_read ON invite_sync.join_request FOR SELECT
    USING (user_id OPERATOR(pg_catalog.=) (SELECT w.user_id FROM invite_sync.whoami() AS w WHERE NOT w.is_anonymous)
           OR organization_id OPERATOR(pg_catalog.=) ANY ((SELECT invite_sync.organizations_with_permission('members.add'))::pg_catalog.uuid[]));
COMMENT ON POLICY join_request_read ON invite_sync.join_request IS 'one''s own, and those to organizations in which one may members.add';

CREATE POLICY platform_role_read ON invite_sync.platform_role FOR SELECT
    USING (user_id OPERATOR(pg_catalog.=) (SELECT w.user_id FROM invite_sync.whoami() AS w WHERE NOT w.is_anonymous));
COMMENT ON POLICY platform_role_read ON invite_sync.platform_role IS 'one''s own';

-- ---- the application's tables ----

CREATE TABLE invite_sync.protected_table (
    relation_number oid NOT NULL,
    schema_name name NOT NULL,
    table_name name NOT NULL,
    organization_column name NOT NULL,
    read_permission text,
    write_permission text,
    enabled_here boolean NOT NULL,
    definition text NOT NULL,
    registered_in text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT protected_table_pkey PRIMARY KEY (schema_name, table_name)
);
COMMENT ON TABLE invite_sync.protected_table IS
    'Tables of the application whose policies protect_table() has written. No personal columns.';
COMMENT ON COLUMN invite_sync.protected_table.relation_number IS 'the table, where registered_in is the lineage';
COMMENT ON COLUMN invite_sync.protected_table.schema_name IS 'its schema when it was protected; elsewhere the name counts';
COMMENT ON COLUMN invite_sync.protected_table.table_name IS 'its name when it was protected';
COMMENT ON COLUMN invite_sync.protected_table.organization_column IS 'the column that says whose a row is';
COMMENT ON COLUMN invite_sync.protected_table.read_permission IS 'who may read: NULL every member';
COMMENT ON COLUMN invite_sync.protected_table.write_permission IS 'who may write: NULL every member';
COMMENT ON COLUMN invite_sync.protected_table.enabled_here IS 'row level security was off before, so unprotect_table() puts it off again';
COMMENT ON COLUMN invite_sync.protected_table.definition IS 'the policies as they were written: tells whether somebody has changed them';
COMMENT ON COLUMN invite_sync.protected_table.registered_in IS 'lineage in which relation_number is true; filled by a trigger';
COMMENT ON COLUMN invite_sync.protected_table.created_at IS 'when its policies were last written';
COMMENT ON CONSTRAINT protected_table_pkey ON invite_sync.protected_table IS 'one row a table';
ALTER TABLE invite_sync.protected_table ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.protected_table', '');
CREATE TRIGGER lineage BEFORE INSERT ON invite_sync.protected_table
    FOR EACH ROW EXECUTE FUNCTION invite_sync.stamp_lineage();
COMMENT ON TRIGGER lineage ON invite_sync.protected_table IS 'fills registered_in';
-- rows are loaded under session_replication_role = replica too
ALTER TABLE invite_sync.protected_table ENABLE ALWAYS TRIGGER lineage;

CREATE FUNCTION invite_sync.protect_table(target regclass, organization_column name, read_permission text DEFAULT NULL,
                                          write_permission text DEFAULT NULL, execute boolean DEFAULT true) RETURNS text
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_protect_table';
COMMENT ON FUNCTION invite_sync.protect_table(regclass, name, text, text, boolean) IS
$doc$Let members of an organization see and write its rows of a table, and nobody else's: enables row level security and writes one policy each for SELECT, INSERT, UPDATE and DELETE (invite_sync_select and so on). Privileges on the table are not touched. Again with the same arguments it changes nothing; with others it replaces its policies.
target: an ordinary or partitioned table. organization_column: its uuid column with the organization's id. read_permission, write_permission: what one must be allowed to do there; NULL: being a member is enough. execute: false only returns the statements. Returns the statements.
Warns when no index begins with the column, and when other permissive policies let rows through.
Operators who are members of the table's owner; the statements run as that owner, who must have USAGE on schema invite_sync and be no superuser. Locks the table in ACCESS EXCLUSIVE mode. Errors: not_permitted; 22004, 22023; 42501; 42809 for what is no table of the application; 42703 and 42804 for the column; 42704 when there is no such permission.$doc$;

CREATE FUNCTION invite_sync.unprotect_table(target regclass, execute boolean DEFAULT true) RETURNS text
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_unprotect_table';
COMMENT ON FUNCTION invite_sync.unprotect_table(regclass, boolean) IS
$doc$Take back protect_table(): drops its policies, and disables row level security where protect_table() enabled it and nobody has added a policy since. From then on whoever has privileges on such a table reads all of it. target: the table. execute: false only returns the statements. Returns the statements; none when the table is not protected.
Operators who are members of the table's owner. Locks the table in ACCESS EXCLUSIVE mode. Errors: not_permitted; 22004; 42501; 42809.$doc$;
