-- ---------------------------------------------------------------------
-- Room membership: who belongs where, as what, and what that allows
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.permission (
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    built_in boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT permission_pkey PRIMARY KEY (name),
    CONSTRAINT permission_name CHECK (pg_catalog.char_length(name) OPERATOR(pg_catalog.<=) 63
        AND name OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$'),
    CONSTRAINT permission_description CHECK (pg_catalog.char_length(description) OPERATOR(pg_catalog.<=) 500
        AND NOT (description OPERATOR(pg_catalog.~) '[[:cntrl:]]' OR CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'
            THEN description OPERATOR(pg_catalog.~) '[\u0080-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]' ELSE false END))
);
COMMENT ON TABLE invite_sync.permission IS
    'What a role can allow: the built-in permissions and those of create_permission(). Those that begin with "platform." count without an organization, in a platform role, only. No personal columns.';
COMMENT ON COLUMN invite_sync.permission.name IS 'words of a-z, 0-9 and _ joined by dots, as in documents.write';
COMMENT ON COLUMN invite_sync.permission.description IS 'for people: at most 500 characters, no control or invisible characters';
COMMENT ON COLUMN invite_sync.permission.built_in IS 'comes with the extension and cannot be changed';
COMMENT ON COLUMN invite_sync.permission.created_at IS 'when it was made';
COMMENT ON CONSTRAINT permission_pkey ON invite_sync.permission IS 'one row a permission';

CREATE TABLE invite_sync.role (
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    name text NOT NULL,
    organization_id uuid,
    built_in boolean NOT NULL DEFAULT false,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    revision bigint NOT NULL DEFAULT 0,
    CONSTRAINT role_pkey PRIMARY KEY (id),
    CONSTRAINT role_name_key UNIQUE NULLS NOT DISTINCT (name, organization_id),
    CONSTRAINT role_name CHECK (pg_catalog.char_length(name) OPERATOR(pg_catalog.<=) 63 AND name OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_-]*$'),
    CONSTRAINT role_built_in CHECK (NOT built_in OR organization_id IS NULL)
);
CREATE INDEX role_organization_id ON invite_sync.role (organization_id) WHERE organization_id IS NOT NULL;
COMMENT ON TABLE invite_sync.role IS
    'Named bundles of permissions: built in (owner, admin, member), global, or of one organization and those below it. No personal columns but created_by, a user''s id.';
COMMENT ON COLUMN invite_sync.role.id IS 'never changes; the built-in ones have the same in every database';
COMMENT ON COLUMN invite_sync.role.name IS 'a-z, 0-9, _ and -, beginning with a letter, at most 63';
COMMENT ON COLUMN invite_sync.role.organization_id IS 'whose role it is; NULL: global';
COMMENT ON COLUMN invite_sync.role.built_in IS 'comes with the extension and cannot be changed';
COMMENT ON COLUMN invite_sync.role.created_by IS 'the user who made it; NULL: a service';
COMMENT ON COLUMN invite_sync.role.created_at IS 'when it was made';
COMMENT ON COLUMN invite_sync.role.revision IS 'counts changes of its permissions, so that a transaction with an older snapshot fails (40001) rather than grant what it no longer is';
COMMENT ON INDEX invite_sync.role_organization_id IS 'roles of an organization';
COMMENT ON CONSTRAINT role_pkey ON invite_sync.role IS 'one row a role';
COMMENT ON CONSTRAINT role_name_key ON invite_sync.role IS 'names are unique among the global roles and within an organization; the functions say role_exists';

CREATE TABLE invite_sync.role_permission (
    role_id uuid NOT NULL,
    permission text NOT NULL,
    CONSTRAINT role_permission_pkey PRIMARY KEY (role_id, permission)
);
CREATE INDEX role_permission_permission ON invite_sync.role_permission (permission);
COMMENT ON TABLE invite_sync.role_permission IS
    'Permissions of the roles that are not built in; those of owner, admin and member are fixed (role_permissions()). No personal columns.';
COMMENT ON COLUMN invite_sync.role_permission.role_id IS 'the role';
COMMENT ON COLUMN invite_sync.role_permission.permission IS 'the permission';
COMMENT ON INDEX invite_sync.role_permission_permission IS 'roles with a permission';
COMMENT ON CONSTRAINT role_permission_pkey ON invite_sync.role_permission IS 'a role has a permission once';

CREATE TABLE invite_sync.membership (
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role_id uuid NOT NULL,
    added_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT membership_pkey PRIMARY KEY (id),
    CONSTRAINT membership_user_organization_key UNIQUE (user_id, organization_id) INCLUDE (role_id)
);
CREATE INDEX membership_organization_id ON invite_sync.membership (organization_id, created_at, id);
CREATE INDEX membership_role_id ON invite_sync.membership (role_id);
COMMENT ON TABLE invite_sync.membership IS
    'A user''s place in an organization. It reaches down to the organizations below. Personal columns: user_id and added_by, ids.';
COMMENT ON COLUMN invite_sync.membership.id IS 'never changes';
COMMENT ON COLUMN invite_sync.membership.organization_id IS 'the organization';
COMMENT ON COLUMN invite_sync.membership.user_id IS 'the auth user';
COMMENT ON COLUMN invite_sync.membership.role_id IS 'what they are there';
COMMENT ON COLUMN invite_sync.membership.added_by IS 'the user who brought them in; NULL: a service, or they came by themselves';
COMMENT ON COLUMN invite_sync.membership.created_at IS 'since when';
COMMENT ON COLUMN invite_sync.membership.updated_at IS 'when the role last changed';
COMMENT ON INDEX invite_sync.membership_organization_id IS 'members of an organization, in the order of lists';
COMMENT ON INDEX invite_sync.membership_role_id IS 'who has a role';
COMMENT ON CONSTRAINT membership_pkey ON invite_sync.membership IS 'one row a membership';
COMMENT ON CONSTRAINT membership_user_organization_key ON invite_sync.membership IS 'a user is a member of an organization once; the RLS helpers read it';

CREATE TABLE invite_sync.membership_removal (
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    removed_by uuid,
    removed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT membership_removal_pkey PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX membership_removal_user_id ON invite_sync.membership_removal (user_id);
COMMENT ON TABLE invite_sync.membership_removal IS
    'Marks of members who were removed: links, enrollment, join requests granted before and old tokens do not bring them back; add_member() and a new email invitation do. Personal columns: user_id and removed_by, ids.';
COMMENT ON COLUMN invite_sync.membership_removal.organization_id IS 'from where';
COMMENT ON COLUMN invite_sync.membership_removal.user_id IS 'who';
COMMENT ON COLUMN invite_sync.membership_removal.removed_by IS 'by whom; NULL: a service';
COMMENT ON COLUMN invite_sync.membership_removal.removed_at IS 'when';
COMMENT ON INDEX invite_sync.membership_removal_user_id IS 'marks of a user who is deleted';
COMMENT ON CONSTRAINT membership_removal_pkey ON invite_sync.membership_removal IS 'one mark a user and organization';

CREATE TABLE invite_sync.platform_role (
    user_id uuid NOT NULL,
    role_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT platform_role_pkey PRIMARY KEY (user_id)
);
CREATE INDEX platform_role_role_id ON invite_sync.platform_role (role_id);
COMMENT ON TABLE invite_sync.platform_role IS
    'The global role that a user has without an organization. Personal columns: user_id, an id.';
COMMENT ON COLUMN invite_sync.platform_role.user_id IS 'the auth user';
COMMENT ON COLUMN invite_sync.platform_role.role_id IS 'the global role';
COMMENT ON COLUMN invite_sync.platform_role.created_at IS 'since when';
COMMENT ON INDEX invite_sync.platform_role_role_id IS 'who has a role';
COMMENT ON CONSTRAINT platform_role_pkey ON invite_sync.platform_role IS 'one platform role a user';

CREATE TABLE invite_sync.join_request (
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    message text,
    status text NOT NULL DEFAULT 'pending',
    decided_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    decided_at timestamptz,
    CONSTRAINT join_request_pkey PRIMARY KEY (id),
    CONSTRAINT join_request_status CHECK (status OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'granted', 'denied', 'cancelled'])),
    CONSTRAINT join_request_message CHECK (pg_catalog.char_length(message) OPERATOR(pg_catalog.<=) 1000),
    CONSTRAINT join_request_decided CHECK ((status OPERATOR(pg_catalog.=) 'pending') OPERATOR(pg_catalog.=) (decided_at IS NULL))
);
CREATE UNIQUE INDEX join_request_pending ON invite_sync.join_request (user_id, organization_id) WHERE status OPERATOR(pg_catalog.=) 'pending';
CREATE INDEX join_request_organization_id ON invite_sync.join_request (organization_id, created_at, id);
CREATE INDEX join_request_user_id ON invite_sync.join_request (user_id);
COMMENT ON TABLE invite_sync.join_request IS
    'Users who asked to join an organization, and what became of it. Personal columns: user_id and decided_by, ids; message, written by the user.';
COMMENT ON COLUMN invite_sync.join_request.id IS 'never changes';
COMMENT ON COLUMN invite_sync.join_request.organization_id IS 'which organization';
COMMENT ON COLUMN invite_sync.join_request.user_id IS 'who asks';
COMMENT ON COLUMN invite_sync.join_request.message IS 'what they wrote, at most 1000 characters';
COMMENT ON COLUMN invite_sync.join_request.status IS 'pending, granted, denied or cancelled';
COMMENT ON COLUMN invite_sync.join_request.decided_by IS 'who decided; NULL: a service';
COMMENT ON COLUMN invite_sync.join_request.created_at IS 'when they asked';
COMMENT ON COLUMN invite_sync.join_request.decided_at IS 'when it was decided or cancelled';
COMMENT ON INDEX invite_sync.join_request_pending IS 'one pending request a user and organization';
COMMENT ON INDEX invite_sync.join_request_organization_id IS 'requests to an organization, in the order of lists';
COMMENT ON INDEX invite_sync.join_request_user_id IS 'requests of a user who is deleted';
COMMENT ON CONSTRAINT join_request_pkey ON invite_sync.join_request IS 'one row a request';

CREATE TABLE invite_sync.gone_user (
    user_id uuid NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT gone_user_pkey PRIMARY KEY (user_id)
);
COMMENT ON TABLE invite_sync.gone_user IS
    'Users who were deleted and whose memberships could not be removed then (a lock, say), or who became an owner in place of one while somebody held their row of auth.users; retry_quarantine() does what is missing. Personal columns: user_id, an id.';
COMMENT ON COLUMN invite_sync.gone_user.user_id IS 'the user who is gone, or who came to be an owner';
COMMENT ON COLUMN invite_sync.gone_user.noted_at IS 'when they were noted, or last tried again: who has waited longest is next';
COMMENT ON CONSTRAINT gone_user_pkey ON invite_sync.gone_user IS 'one row a user';

ALTER TABLE invite_sync.permission ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.role ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.role_permission ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.membership ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.membership_removal ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.platform_role ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.join_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.gone_user ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.permission', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.role', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.role_permission', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.membership', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.membership_removal', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.platform_role', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.join_request', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.gone_user', '');

-- The same in every database, ids and times too: memberships in a dump name them, and so they are dumped like the rest.
INSERT INTO invite_sync.permission (name, description, built_in, created_at) VALUES
    ('organization.read', 'see the organization', true, '2000-01-01 00:00:00+00'),
    ('organization.update', 'change its name, slug and settings', true, '2000-01-01 00:00:00+00'),
    ('organization.delete', 'delete it', true, '2000-01-01 00:00:00+00'),
    ('organization.create_child', 'make organizations below it', true, '2000-01-01 00:00:00+00'),
    ('members.read', 'see who its members are', true, '2000-01-01 00:00:00+00'),
    ('members.add', 'add members', true, '2000-01-01 00:00:00+00'),
    ('members.remove', 'remove members', true, '2000-01-01 00:00:00+00'),
    ('members.set_role', 'change what members are', true, '2000-01-01 00:00:00+00'),
    ('invitations.read', 'see its invitations', true, '2000-01-01 00:00:00+00'),
    ('invitations.create', 'invite', true, '2000-01-01 00:00:00+00'),
    ('invitations.revoke', 'take invitations back', true, '2000-01-01 00:00:00+00'),
    ('roles.manage', 'make, change and drop its roles', true, '2000-01-01 00:00:00+00'),
    ('domains.manage', 'claim email domains and say who may join by them', true, '2000-01-01 00:00:00+00'),
    ('ownership.transfer', 'make somebody else the owner in one''s place', true, '2000-01-01 00:00:00+00'),
    ('platform.admin', 'administrator of the platform; counts in a platform role only', true, '2000-01-01 00:00:00+00');

INSERT INTO invite_sync.role (id, name, built_in, created_at) VALUES
    ('00000000-0000-4000-8000-00000000000a', 'owner', true, '2000-01-01 00:00:00+00'),
    ('00000000-0000-4000-8000-00000000000b', 'admin', true, '2000-01-01 00:00:00+00'),
    ('00000000-0000-4000-8000-00000000000c', 'member', true, '2000-01-01 00:00:00+00');

-- ---- what a role allows ----

-- platform: as a platform role; else in an organization, where the permissions of the platform do not count.
CREATE FUNCTION invite_sync.role_permissions(role_id uuid, platform boolean DEFAULT false) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT coalesce(array_agg(p.name ORDER BY p.name COLLATE "C"), '{}')
      FROM invite_sync.permission AS p
     WHERE (platform OR p.name NOT LIKE 'platform.%')
       AND CASE $1
           WHEN '00000000-0000-4000-8000-00000000000a' THEN true
           WHEN '00000000-0000-4000-8000-00000000000b' THEN p.name NOT IN ('organization.delete', 'ownership.transfer')
           WHEN '00000000-0000-4000-8000-00000000000c' THEN p.name IN ('organization.read', 'members.read')
           ELSE EXISTS (SELECT FROM invite_sync.role_permission AS rp WHERE rp.role_id = $1 AND rp.permission = p.name)
           END
    $$;
COMMENT ON FUNCTION invite_sync.role_permissions(uuid, boolean) IS
    'The permissions of a role, sorted: owner has all, admin all but organization.delete and ownership.transfer, member organization.read and members.read. platform: those that count without an organization too. Internal.';

-- A membership reaches down, so what counts is every membership on the way up.
CREATE FUNCTION invite_sync.effective_permissions(user_id uuid, organization_id uuid) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT coalesce(array_agg(DISTINCT r.permission ORDER BY r.permission), '{}')
      FROM invite_sync.organization_path($2) AS p
      JOIN invite_sync.membership AS m ON m.organization_id = p.id AND m.user_id = $1
     CROSS JOIN LATERAL unnest(invite_sync.role_permissions(m.role_id)) AS r (permission)
    $$;
COMMENT ON FUNCTION invite_sync.effective_permissions(uuid, uuid) IS
    'What a user may do in an organization, by memberships there and above it. Looks at no auth.users. Internal.';

-- A global role before all others: the platform gives what it made, whatever an organization has called so before. Then
-- the nearest; on a way up the names are unique.
CREATE FUNCTION invite_sync.role_id_of(role text, organization_id uuid) RETURNS uuid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT x.id FROM (
        SELECT r.id, -1 FROM invite_sync.role AS r WHERE r.organization_id IS NULL AND r.name = $1
        UNION ALL
        SELECT r.id, p.level FROM invite_sync.organization_path($2) AS p JOIN invite_sync.role AS r ON r.organization_id = p.id AND r.name = $1
    ) AS x (id, level) ORDER BY x.level LIMIT 1
    $$;
COMMENT ON FUNCTION invite_sync.role_id_of(text, uuid) IS
    'The role that a name means in an organization: a global one before its own; NULL: none. Internal.';

-- ---- the copy in the user's raw_app_meta_data ----

CREATE FUNCTION invite_sync.tenant_copy(user_id uuid) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
               'organizations', coalesce(m.organizations, '[]'),
               'platform_role', p.name,
               'truncated', CASE WHEN m.members > 100 THEN true END))
      FROM (SELECT count(*) AS members,
                   jsonb_agg(jsonb_build_object('id', x.organization_id, 'role', r.name) ORDER BY x.created_at, x.id) FILTER (WHERE x.n <= 100) AS organizations
              FROM (SELECT s.organization_id, s.role_id, s.created_at, s.id, row_number() OVER (ORDER BY s.created_at, s.id) AS n
                      FROM invite_sync.membership AS s WHERE s.user_id = $1) AS x
              LEFT JOIN invite_sync.role AS r ON r.id = x.role_id) AS m
      LEFT JOIN (SELECT r.name FROM invite_sync.platform_role AS s JOIN invite_sync.role AS r ON r.id = s.role_id WHERE s.user_id = $1) AS p ON true
     WHERE m.members > 0 OR p.name IS NOT NULL
    $$;
COMMENT ON FUNCTION invite_sync.tenant_copy(uuid) IS
    'What raw_app_meta_data of a user holds under the key invite_sync: the first 100 organizations they are a member of, with the role, and the platform role; NULL: nothing. Internal.';

-- ---- invariants, whoever writes ----
--
-- They look at what a statement removes or changes, never for a row of another table that must be there already: a
-- restore loads one table after the other.

-- Triggers after a deletion are in C: they enter the owner's rights by themselves, because they may be fired as the
-- owner of a table that references ours.
CREATE FUNCTION invite_sync.membership_keep_owner() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_keep_owner';
COMMENT ON FUNCTION invite_sync.membership_keep_owner() IS
    'Trigger: an organization that has other members keeps an owner. Deleting the organization itself passes, and so does its last member.';
CREATE TRIGGER membership_keep_owner_delete AFTER DELETE ON invite_sync.membership
    FOR EACH ROW WHEN (OLD.role_id OPERATOR(pg_catalog.=) '00000000-0000-4000-8000-00000000000a')
    EXECUTE FUNCTION invite_sync.membership_keep_owner();
COMMENT ON TRIGGER membership_keep_owner_delete ON invite_sync.membership IS 'an organization that has other members keeps an owner';
CREATE TRIGGER membership_keep_owner_update AFTER UPDATE ON invite_sync.membership
    FOR EACH ROW WHEN (OLD.role_id OPERATOR(pg_catalog.=) '00000000-0000-4000-8000-00000000000a' AND NEW.role_id OPERATOR(pg_catalog.<>) OLD.role_id)
    EXECUTE FUNCTION invite_sync.membership_keep_owner();
COMMENT ON TRIGGER membership_keep_owner_update ON invite_sync.membership IS 'an organization that has other members keeps an owner';

CREATE FUNCTION invite_sync.membership_fixed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'a membership stays with its user and organization',
        HINT = 'Remove it and add another.';
END
$$;
COMMENT ON FUNCTION invite_sync.membership_fixed() IS 'Trigger: refuses to move a membership to another user or organization.';
CREATE TRIGGER membership_fixed BEFORE UPDATE ON invite_sync.membership FOR EACH ROW
    WHEN (OLD.organization_id OPERATOR(pg_catalog.<>) NEW.organization_id OR OLD.user_id OPERATOR(pg_catalog.<>) NEW.user_id OR OLD.id OPERATOR(pg_catalog.<>) NEW.id)
    EXECUTE FUNCTION invite_sync.membership_fixed();
COMMENT ON TRIGGER membership_fixed ON invite_sync.membership IS 'a membership stays with its user and organization';

CREATE FUNCTION invite_sync.seats_used(pool_id uuid) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT count(DISTINCT m.user_id) FROM invite_sync.seat_pool_organizations($1) AS s (id)
      JOIN invite_sync.membership AS m ON m.organization_id = s.id
    $$;
COMMENT ON FUNCTION invite_sync.seats_used(uuid) IS
    'The people who take a seat of this organization, each once. Internal.';

CREATE FUNCTION invite_sync.seats_pending(pool_id uuid) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT 0::bigint $$;
COMMENT ON FUNCTION invite_sync.seats_pending(uuid) IS
    'The seats of this organization that are kept for somebody; the room invitation replaces it. Internal.';

-- Counted here and nowhere else. A restore passes, because no part of what fits is more than the whole.
CREATE FUNCTION invite_sync.membership_check_seats() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    pool uuid;
    seats bigint;
BEGIN
    FOR pool IN SELECT DISTINCT invite_sync.seat_pool(x.organization_id) FROM (SELECT DISTINCT n.organization_id FROM added AS n) AS x ORDER BY 1 LOOP
        CONTINUE WHEN pool IS NULL;
        SELECT o.seat_limit::bigint + o.bonus_seats INTO seats FROM invite_sync.organization AS o WHERE o.id = pool FOR NO KEY UPDATE;
        IF invite_sync.seats_used(pool) + invite_sync.seats_pending(pool) > seats THEN
            -- whose seats they are is for its members: the pool may be an organization above, of which the caller knows nothing
            PERFORM invite_sync.refuse('seats_exhausted', CASE WHEN invite_sync.is_member(pool) THEN 'organization_id=' || pool END,
                'Remove a member, or have seats added: set_seats().');
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION invite_sync.membership_check_seats() IS 'Trigger: members fit into the seats.';
CREATE TRIGGER membership_check_seats AFTER INSERT ON invite_sync.membership
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.membership_check_seats();
COMMENT ON TRIGGER membership_check_seats ON invite_sync.membership IS 'members fit into the seats';

-- A limit that is lowered, or an organization that moves under one.
CREATE FUNCTION invite_sync.organization_check_seats() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    pool uuid;
    seats bigint;
BEGIN
    FOR pool IN SELECT DISTINCT p.id FROM (VALUES (invite_sync.seat_pool(NEW.id)),
                                                  (CASE WHEN OLD.seat_limit IS NOT NULL AND NEW.seat_limit IS NULL THEN invite_sync.seat_pool(NEW.parent_id) END)) AS p (id)
                WHERE p.id IS NOT NULL ORDER BY 1 LOOP
        SELECT o.seat_limit::bigint + o.bonus_seats INTO seats FROM invite_sync.organization AS o WHERE o.id = pool FOR NO KEY UPDATE;
        IF invite_sync.seats_used(pool) + invite_sync.seats_pending(pool) > seats THEN
            PERFORM invite_sync.refuse('seats_below_usage', CASE WHEN invite_sync.is_member(pool) THEN 'organization_id=' || pool END,
                'Remove members first: seat_usage() says how many there are.');
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION invite_sync.organization_check_seats() IS 'Trigger: a limit is not set below the seats in use, nor is an organization moved to where its members do not fit.';
CREATE TRIGGER organization_check_seats AFTER UPDATE ON invite_sync.organization FOR EACH ROW
    WHEN (OLD.seat_limit IS DISTINCT FROM NEW.seat_limit OR OLD.bonus_seats IS DISTINCT FROM NEW.bonus_seats OR OLD.parent_id IS DISTINCT FROM NEW.parent_id)
    EXECUTE FUNCTION invite_sync.organization_check_seats();
COMMENT ON TRIGGER organization_check_seats ON invite_sync.organization IS 'members fit into the seats';

CREATE FUNCTION invite_sync.built_in_fixed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'built-in roles and permissions cannot be changed',
        HINT = 'Make a role of your own: create_role().';
END
$$;
COMMENT ON FUNCTION invite_sync.built_in_fixed() IS 'Trigger: refuses to change or drop built-in roles and permissions.';
CREATE TRIGGER role_built_in BEFORE UPDATE OR DELETE ON invite_sync.role
    FOR EACH ROW WHEN (OLD.built_in) EXECUTE FUNCTION invite_sync.built_in_fixed();
COMMENT ON TRIGGER role_built_in ON invite_sync.role IS 'built-in roles stay as they are';
CREATE TRIGGER permission_built_in BEFORE UPDATE OR DELETE ON invite_sync.permission
    FOR EACH ROW WHEN (OLD.built_in) EXECUTE FUNCTION invite_sync.built_in_fixed();
COMMENT ON TRIGGER permission_built_in ON invite_sync.permission IS 'built-in permissions stay as they are';

CREATE FUNCTION invite_sync.built_in_kept() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF (TG_TABLE_NAME = 'role' AND EXISTS (SELECT FROM invite_sync.role AS r WHERE r.name = NEW.name AND r.built_in))
       OR (TG_TABLE_NAME = 'permission' AND EXISTS (SELECT FROM invite_sync.permission AS p WHERE p.name = NEW.name AND p.built_in)) THEN
        RETURN NULL;
    END IF;
    RAISE check_violation USING MESSAGE = 'built-in roles and permissions come with the extension only',
        HINT = 'Leave built_in false.';
END
$$;
COMMENT ON FUNCTION invite_sync.built_in_kept() IS
    'Trigger: a restore brings the built-in roles and permissions again; those that the extension came with are kept. There are no others.';
CREATE TRIGGER role_built_in_kept BEFORE INSERT ON invite_sync.role
    FOR EACH ROW WHEN (NEW.built_in) EXECUTE FUNCTION invite_sync.built_in_kept();
COMMENT ON TRIGGER role_built_in_kept ON invite_sync.role IS 'a restore does not make built-in roles twice';
CREATE TRIGGER permission_built_in_kept BEFORE INSERT ON invite_sync.permission
    FOR EACH ROW WHEN (NEW.built_in) EXECUTE FUNCTION invite_sync.built_in_kept();
COMMENT ON TRIGGER permission_built_in_kept ON invite_sync.permission IS 'a restore does not make built-in permissions twice';
CREATE TRIGGER role_permission_built_in BEFORE INSERT OR UPDATE ON invite_sync.role_permission FOR EACH ROW
    WHEN (NEW.role_id OPERATOR(pg_catalog.=) ANY (ARRAY['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-00000000000c']::pg_catalog.uuid[]))
    EXECUTE FUNCTION invite_sync.built_in_fixed();
COMMENT ON TRIGGER role_permission_built_in ON invite_sync.role_permission IS 'built-in roles stay as they are';

CREATE FUNCTION invite_sync.role_removed() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_role_removed';
COMMENT ON FUNCTION invite_sync.role_removed() IS 'Trigger: a role that somebody has stays; its permissions go with it.';
CREATE TRIGGER role_removed AFTER DELETE ON invite_sync.role
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.role_removed();
COMMENT ON TRIGGER role_removed ON invite_sync.role IS 'a role that somebody has stays';

CREATE FUNCTION invite_sync.permission_removed() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_permission_removed';
COMMENT ON FUNCTION invite_sync.permission_removed() IS 'Trigger: a permission leaves the roles that have it.';
CREATE TRIGGER permission_removed AFTER DELETE ON invite_sync.permission
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.permission_removed();
COMMENT ON TRIGGER permission_removed ON invite_sync.permission IS 'a permission leaves the roles that have it';

-- ---- members ----

CREATE TYPE invite_sync.member AS (
    membership_id uuid, organization_id uuid, user_id uuid, role text, added_by uuid, joined_at timestamptz, updated_at timestamptz);
COMMENT ON TYPE invite_sync.member IS 'A membership, as the functions that change one answer.';

CREATE TYPE invite_sync.member_profile AS (
    user_id uuid, email text, display_name text, avatar_url text, role text, joined_at timestamptz, last_sign_in_at timestamptz);
COMMENT ON TYPE invite_sync.member_profile IS
    'A member, as get_member() answers. display_name and avatar_url are written by the user.';

CREATE FUNCTION invite_sync.add_member(organization_id uuid, user_id uuid, role text DEFAULT 'member') RETURNS invite_sync.member
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_add';
COMMENT ON FUNCTION invite_sync.add_member(uuid, uuid, text) IS
$doc$Make a user a member of an organization. user_id: an auth user; users are named by id only. role: a role of the organization, of one above it, or a global one. Clears the mark of an earlier removal, and grants what the user asks for by request_to_join().
Returns the membership. Errors: not_authenticated, organization_unknown, not_permitted (needs members.add), escalation (the role, or what the user may do there by a membership above, is more than the caller has; only an owner makes an owner), role_unknown, user_unknown, user_banned, anonymous_user, already_member, seats_exhausted, data_malformed.
Members with members.add, service_role, operators. Locks the user, the organization and those above it, and the role.$doc$;

CREATE FUNCTION invite_sync.remove_member(organization_id uuid, user_id uuid) RETURNS invite_sync.member
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_remove';
COMMENT ON FUNCTION invite_sync.remove_member(uuid, uuid) IS
$doc$Take a member out of an organization, and leave a mark: no link, no enrollment and no old token brings them back, but add_member(), a granted request to join and a new invitation do. Rows of the application that reference the membership are dealt with as their foreign keys say.
Returns the membership as it was. Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs members.remove), escalation (the member may do what the caller may not), member_unknown (no member of this very organization), last_owner, data_malformed.
Members with members.remove, service_role, operators. Locks the user, and the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.set_member_role(organization_id uuid, user_id uuid, role text) RETURNS invite_sync.member
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_set_role';
COMMENT ON FUNCTION invite_sync.set_member_role(uuid, uuid, text) IS
$doc$Change what a member is. role: a role of the organization, of one above it, or a global one. What the caller may do there must contain what the role allows and what the member may do, so nobody raises themselves; only an owner makes or unmakes an owner, and of a user who is deleted, banned or anonymous nobody makes one.
Returns the membership. Errors: not_authenticated, organization_unknown, not_permitted (needs members.set_role), escalation, role_unknown, member_unknown (no member of this very organization), user_unknown, user_banned, anonymous_user (as an owner), last_owner, data_malformed.
Members with members.set_role, service_role, operators. Locks the user, the organization and those above it, and the role.$doc$;

CREATE FUNCTION invite_sync.leave_organization(organization_id uuid) RETURNS invite_sync.member
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_leave';
COMMENT ON FUNCTION invite_sync.leave_organization(uuid) IS
$doc$End the caller's own membership. It leaves no mark: they may come back.
Returns the membership as it was. Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, member_unknown (the caller is a member only of an organization above), last_owner, data_malformed.
Users. Locks the user, and the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.transfer_ownership(organization_id uuid, user_id uuid) RETURNS invite_sync.member
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_transfer';
COMMENT ON FUNCTION invite_sync.transfer_ownership(uuid, uuid) IS
$doc$Make a member the owner in one's place: the old owner becomes admin. The old owner is the caller, or the only owner where the caller is none of the organization's own (a service, an owner of one above); an organization without an owner just gets one.
user_id: a member of this very organization. Returns the new owner's membership. Errors: not_authenticated, organization_unknown, not_permitted (needs ownership.transfer), escalation (the caller is no owner), member_unknown, user_unknown, user_banned, anonymous_user, data_malformed (it is the owner; or owners=N: there are several, and the caller is none of them); 40001 when the owner changes at the same time.
Owners, service_role, operators. Locks both users, and the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.list_members(organization_id uuid, after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (user_id uuid, email text, display_name text, avatar_url text, role text, joined_at timestamptz, last_sign_in_at timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'membership_list';
COMMENT ON FUNCTION invite_sync.list_members(uuid, text, integer) IS
$doc$The members of an organization itself, not those of organizations above it, the latest first. after: the cursor of the last row of the page before. page_size: 1 to 500. display_name and avatar_url come from the user's metadata, which the user writes: show them as text, never trust them.
Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs members.read), data_malformed.
Members with members.read, service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.get_member(organization_id uuid, user_id uuid) RETURNS invite_sync.member_profile
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'membership_get';
COMMENT ON FUNCTION invite_sync.get_member(uuid, uuid) IS
$doc$One member of an organization, as list_members() shows them. display_name and avatar_url are written by the user.
Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs members.read, but for oneself), member_unknown, data_malformed.
Members with members.read, and every member for themselves; service_role, operators. Locks nothing.$doc$;
