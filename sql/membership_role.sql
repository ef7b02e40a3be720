-- ---- roles and permissions ----

CREATE TYPE invite_sync.role_definition AS (
    role_id uuid, role text, organization_id uuid, built_in boolean, permissions text[], created_at timestamptz);
COMMENT ON TYPE invite_sync.role_definition IS 'A role, as the functions that change one answer. organization_id NULL: global.';

CREATE TYPE invite_sync.permission_definition AS (
    permission text, description text, built_in boolean, created_at timestamptz);
COMMENT ON TYPE invite_sync.permission_definition IS 'A permission, as the functions that change one answer.';

CREATE TYPE invite_sync.platform_role_holder AS (
    user_id uuid, role text, permissions text[], since timestamptz);
COMMENT ON TYPE invite_sync.platform_role_holder IS 'A user''s platform role, as set_platform_role() answers; role NULL: none.';

CREATE FUNCTION invite_sync.create_role(name text, permissions text[], organization_id uuid DEFAULT NULL) RETURNS invite_sync.role_definition
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_create_role';
COMMENT ON FUNCTION invite_sync.create_role(text, text[], uuid) IS
$doc$Make a role: a name for permissions. Again with the same permissions it changes nothing and says so; with others it sets them, as set_role_permissions() does.
name: 1 to 63 of a-z, 0-9, _ and -, beginning with a letter; of an organization's role not that of a global one, nor of a role above or below. A global role takes any name that no other global role has: where organizations have roles of that name a NOTICE says so, and there, too, the name means the global one from then on. permissions: names of list_permissions(); those that begin with "platform." in global roles only. organization_id: whose role it is, for it and those below; NULL: global, for all.
Returns the role. Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs roles.manage; a global role, service_role; the name of a built-in role), escalation (a permission, of before or after, that the caller does not have), name_malformed, role_exists, data_malformed (argument=permissions: one is unknown).
Members with roles.manage, service_role, operators. Locks the organization and those above it, the role, and the permissions; a global one keeps others from making roles for a moment.$doc$;

CREATE FUNCTION invite_sync.set_role_permissions(role text, permissions text[], organization_id uuid DEFAULT NULL) RETURNS invite_sync.role_definition
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_set_role_permissions';
COMMENT ON FUNCTION invite_sync.set_role_permissions(text, text[], uuid) IS
$doc$Set what a role allows, at once for everybody who has it. role, organization_id: as for create_role(); a role is changed where it was made.
Returns the role. Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs roles.manage; a global role, service_role; a built-in role), escalation (a permission, of before or after, that the caller does not have), role_unknown, data_malformed.
Members with roles.manage, service_role, operators. Locks the organization and those above it, the role (whoever is just giving it is waited for), and the permissions.$doc$;

CREATE FUNCTION invite_sync.drop_role(role text, organization_id uuid DEFAULT NULL) RETURNS invite_sync.role_definition
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_drop_role';
COMMENT ON FUNCTION invite_sync.drop_role(text, uuid) IS
$doc$Drop a role that nobody has.
Returns the role as it was. Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs roles.manage; a global role, service_role; a built-in role), escalation (a permission that the caller does not have), role_unknown, role_in_use, data_malformed.
Members with roles.manage, service_role, operators. Locks the organization and those above it, and the role.$doc$;

CREATE FUNCTION invite_sync.list_roles(organization_id uuid DEFAULT NULL, after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (role_id uuid, role text, role_organization_id uuid, built_in boolean, permissions text[], created_at timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 10 AS 'MODULE_PATHNAME', 'membership_list_roles';
COMMENT ON FUNCTION invite_sync.list_roles(uuid, text, integer) IS
$doc$The roles that can be given in an organization: its own, those of organizations above it, and the global ones; without an organization the global ones, which are the platform's too. The latest first. after: the cursor of the last row of the page before. page_size: 1 to 500. role_organization_id: whose role it is; NULL: global.
Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, data_malformed.
Members of the organization; the global ones every user; service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.create_permission(name text, description text DEFAULT '') RETURNS invite_sync.permission_definition
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_create_permission';
COMMENT ON FUNCTION invite_sync.create_permission(text, text) IS
$doc$Make a permission of the application's, for roles to have and has_permission() to ask for. Owners and admins have it at once. Again with the same description it changes nothing and says so; with another it sets it. name: words of a-z, 0-9 and _ joined by dots, each beginning with a letter, as in documents.write; one that begins with "platform." counts in a platform role only. description: for people, at most 500 characters, no control or invisible ones.
Returns the permission. Errors: not_permitted (also for a built-in one), name_malformed (the name, or argument=description), data_malformed.
Operators. Locks the permission.$doc$;

CREATE FUNCTION invite_sync.drop_permission(name text) RETURNS invite_sync.permission_definition
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_drop_permission';
COMMENT ON FUNCTION invite_sync.drop_permission(text) IS
$doc$Drop a permission, also from the roles that have it.
Returns the permission as it was. Errors: not_permitted (also for a built-in one), data_malformed (there is none of that name); 40001 when a role has got it since the transaction's snapshot.
Operators. Locks the permission and the roles that have it.$doc$;

CREATE FUNCTION invite_sync.list_permissions(after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (permission text, description text, built_in boolean, created_at timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'membership_list_permissions';
COMMENT ON FUNCTION invite_sync.list_permissions(text, integer) IS
$doc$The permissions there are, by name. after: the cursor of the last row of the page before. page_size: 1 to 500.
Errors: not_authenticated, anonymous_user, user_banned, data_malformed. Users, service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.set_platform_role(user_id uuid, role text) RETURNS invite_sync.platform_role_holder
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_set_platform_role';
COMMENT ON FUNCTION invite_sync.set_platform_role(uuid, text) IS
$doc$Give a user a platform role, in place of the one they have, or take it away. It is a global role held without an organization; who has platform.admin by it is an administrator. It gives nothing in any organization. role: a global role, or NULL for none.
Returns what the user has then. Errors: not_permitted, role_unknown, user_unknown, user_banned, anonymous_user, data_malformed.
service_role, operators. Locks the user and the role.$doc$;
