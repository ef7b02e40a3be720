-- ---------------------------------------------------------------------
-- Room organization: tenants, their tree, their domains, their seats
-- ---------------------------------------------------------------------
--
-- No foreign key leads from one of these tables to another: a parallel pg_restore loads them in any order and would
-- lose the rows whose sibling comes later. What a foreign key would do when a row goes, triggers do here.

CREATE TABLE invite_sync.organization (
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    name text NOT NULL,
    slug text NOT NULL,
    parent_id uuid,
    settings jsonb NOT NULL DEFAULT '{}',
    seat_limit integer,
    bonus_seats integer NOT NULL DEFAULT 0,
    max_concurrent_sessions integer,
    region text,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    revision bigint NOT NULL DEFAULT 0,
    CONSTRAINT organization_pkey PRIMARY KEY (id),
    CONSTRAINT organization_slug_key UNIQUE (slug),
    CONSTRAINT organization_name CHECK (pg_catalog.char_length(name) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.char_length(name) OPERATOR(pg_catalog.<=) 200
        AND pg_catalog.btrim(name) OPERATOR(pg_catalog.=) name
        AND NOT (name OPERATOR(pg_catalog.~) '[[:cntrl:]]' OR CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'
            THEN name OPERATOR(pg_catalog.~) '[\u0080-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]' ELSE false END)),
    CONSTRAINT organization_slug CHECK (pg_catalog.char_length(slug) OPERATOR(pg_catalog.<=) 63 AND slug OPERATOR(pg_catalog.~) '^[a-z0-9]+(-[a-z0-9]+)*$'),
    CONSTRAINT organization_parent CHECK (parent_id OPERATOR(pg_catalog.<>) id),
    CONSTRAINT organization_settings CHECK (pg_catalog.jsonb_typeof(settings) OPERATOR(pg_catalog.=) 'object'
        AND pg_catalog.octet_length(settings::text) OPERATOR(pg_catalog.<=) 65536),
    CONSTRAINT organization_seat_limit CHECK (seat_limit OPERATOR(pg_catalog.>=) 0),
    CONSTRAINT organization_bonus_seats CHECK (bonus_seats OPERATOR(pg_catalog.>=) 0),
    CONSTRAINT organization_max_concurrent_sessions CHECK (max_concurrent_sessions OPERATOR(pg_catalog.>) 0),
    CONSTRAINT organization_region CHECK (pg_catalog.char_length(region) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.char_length(region) OPERATOR(pg_catalog.<=) 63)
);
CREATE INDEX organization_parent_id ON invite_sync.organization (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX organization_created_at ON invite_sync.organization (created_at, id);
COMMENT ON TABLE invite_sync.organization IS
    'Organizations: the tenants, in a tree of at most 8 levels. No personal columns but created_by, a user''s id.';
COMMENT ON COLUMN invite_sync.organization.id IS 'never changes';
COMMENT ON COLUMN invite_sync.organization.name IS 'what people call it: 1 to 200 characters, no control or invisible characters, not padded';
COMMENT ON COLUMN invite_sync.organization.slug IS 'its name in addresses: a-z, 0-9 and single hyphens, at most 63 characters, unique';
COMMENT ON COLUMN invite_sync.organization.parent_id IS 'the organization above it; memberships there reach down to this one';
COMMENT ON COLUMN invite_sync.organization.settings IS 'the application''s own, an object of at most 64 kB';
COMMENT ON COLUMN invite_sync.organization.seat_limit IS 'paid seats; NULL: those of the nearest ancestor that has a limit, or no limit';
COMMENT ON COLUMN invite_sync.organization.bonus_seats IS 'seats given on top of seat_limit';
COMMENT ON COLUMN invite_sync.organization.max_concurrent_sessions IS 'how many sessions one user may have; kept for the application';
COMMENT ON COLUMN invite_sync.organization.region IS 'where its data lives; kept for the application';
COMMENT ON COLUMN invite_sync.organization.created_by IS 'the user who made it; NULL: a service';
COMMENT ON COLUMN invite_sync.organization.created_at IS 'when it was made';
COMMENT ON COLUMN invite_sync.organization.updated_at IS 'when its own columns last changed';
COMMENT ON COLUMN invite_sync.organization.revision IS
    'counts changes of it and of its members, so that a transaction with an older snapshot fails (40001) rather than decide on what is no longer so';
COMMENT ON INDEX invite_sync.organization_parent_id IS 'children of an organization';
COMMENT ON INDEX invite_sync.organization_created_at IS 'the order of lists';
COMMENT ON CONSTRAINT organization_pkey ON invite_sync.organization IS 'one row an organization';
COMMENT ON CONSTRAINT organization_slug_key ON invite_sync.organization IS 'slugs are unique; the functions say slug_taken';

CREATE TABLE invite_sync.organization_domain (
    id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    organization_id uuid NOT NULL,
    domain text NOT NULL,
    challenge text NOT NULL,
    enrollment text NOT NULL DEFAULT 'none',
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    verified_at timestamptz,
    CONSTRAINT organization_domain_pkey PRIMARY KEY (id),
    CONSTRAINT organization_domain_key UNIQUE (organization_id, domain),
    CONSTRAINT organization_domain_domain CHECK (pg_catalog.octet_length(domain) OPERATOR(pg_catalog.<=) 253
        AND domain OPERATOR(pg_catalog.~) '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$'),
    CONSTRAINT organization_domain_enrollment CHECK (enrollment OPERATOR(pg_catalog.=) ANY (ARRAY['none', 'suggest', 'auto'])),
    CONSTRAINT organization_domain_verified CHECK (enrollment OPERATOR(pg_catalog.=) 'none' OR verified_at IS NOT NULL)
);
CREATE UNIQUE INDEX organization_domain_verified_key ON invite_sync.organization_domain (domain) WHERE verified_at IS NOT NULL;
COMMENT ON TABLE invite_sync.organization_domain IS
    'Email domains that organizations claim; one is theirs when it is verified. No personal columns but created_by, a user''s id.';
COMMENT ON COLUMN invite_sync.organization_domain.id IS 'never changes';
COMMENT ON COLUMN invite_sync.organization_domain.organization_id IS 'the organization';
COMMENT ON COLUMN invite_sync.organization_domain.domain IS 'lower case ASCII, compared whole';
COMMENT ON COLUMN invite_sync.organization_domain.challenge IS 'what a TXT record of the domain must say';
COMMENT ON COLUMN invite_sync.organization_domain.enrollment IS 'none, suggest (may ask to join) or auto (joins as member) for users with a verified email there';
COMMENT ON COLUMN invite_sync.organization_domain.created_by IS 'the user who added it; NULL: a service';
COMMENT ON COLUMN invite_sync.organization_domain.created_at IS 'when it was added';
COMMENT ON COLUMN invite_sync.organization_domain.verified_at IS 'when the TXT record was seen';
COMMENT ON INDEX invite_sync.organization_domain_verified_key IS 'A verified domain belongs to one organization; the functions say domain_taken.';
COMMENT ON CONSTRAINT organization_domain_pkey ON invite_sync.organization_domain IS 'one row a claim';
COMMENT ON CONSTRAINT organization_domain_key ON invite_sync.organization_domain IS 'one claim a domain and organization';

ALTER TABLE invite_sync.organization ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.organization_domain ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.organization', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.organization_domain', '');

-- ---- the tree ----

-- The bound ends a walk through a cycle, should somebody have made one by hand.
CREATE FUNCTION invite_sync.organization_path(organization_id uuid) RETURNS TABLE (id uuid, level integer)
    LANGUAGE sql STABLE ROWS 4 SET search_path = pg_catalog, pg_temp
    AS $$
    WITH RECURSIVE path (id, parent_id, level) AS (
        SELECT o.id, o.parent_id, 0 FROM invite_sync.organization AS o WHERE o.id = $1
        UNION ALL
        SELECT o.id, o.parent_id, p.level + 1 FROM path AS p JOIN invite_sync.organization AS o ON o.id = p.parent_id WHERE p.level < 16
    )
    SELECT p.id, p.level FROM path AS p
    $$;
COMMENT ON FUNCTION invite_sync.organization_path(uuid) IS
    'The organization (level 0) and those above it, nearest first. Internal.';

CREATE FUNCTION invite_sync.organization_subtree(organization_id uuid) RETURNS TABLE (id uuid, level integer)
    LANGUAGE sql STABLE ROWS 20 SET search_path = pg_catalog, pg_temp
    AS $$
    WITH RECURSIVE tree (id, level) AS (
        SELECT o.id, 0 FROM invite_sync.organization AS o WHERE o.id = $1
        UNION ALL
        SELECT o.id, t.level + 1 FROM tree AS t JOIN invite_sync.organization AS o ON o.parent_id = t.id WHERE t.level < 16
    )
    SELECT t.id, t.level FROM tree AS t
    $$;
COMMENT ON FUNCTION invite_sync.organization_subtree(uuid) IS
    'The organization (level 0) and all below it. Internal.';

-- Whose seats are taken: the nearest organization on the way up that has a limit.
CREATE FUNCTION invite_sync.seat_pool(organization_id uuid) RETURNS uuid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT p.id FROM invite_sync.organization_path($1) AS p JOIN invite_sync.organization AS o ON o.id = p.id
     WHERE o.seat_limit IS NOT NULL ORDER BY p.level LIMIT 1
    $$;
COMMENT ON FUNCTION invite_sync.seat_pool(uuid) IS
    'The organization whose seats a member of this one takes; NULL: there is no limit. Internal.';

-- Those that draw on a pool: it, and below it what has no limit of its own.
CREATE FUNCTION invite_sync.seat_pool_organizations(pool_id uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE ROWS 20 SET search_path = pg_catalog, pg_temp
    AS $$
    WITH RECURSIVE tree (id, level) AS (
        SELECT o.id, 0 FROM invite_sync.organization AS o WHERE o.id = $1
        UNION ALL
        SELECT o.id, t.level + 1 FROM tree AS t JOIN invite_sync.organization AS o ON o.parent_id = t.id
         WHERE o.seat_limit IS NULL AND t.level < 16
    )
    SELECT t.id FROM tree AS t
    $$;
COMMENT ON FUNCTION invite_sync.seat_pool_organizations(uuid) IS
    'The organizations that draw on the seats of this one. Internal.';

-- Immediate and about what changes only: an organization whose parent a restore has not loaded yet passes.
CREATE FUNCTION invite_sync.organization_check_tree() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    above integer;
    below integer;
BEGIN
    IF NEW.parent_id IS NULL OR (TG_OP = 'UPDATE' AND NEW.parent_id IS NOT DISTINCT FROM OLD.parent_id) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM invite_sync.organization_path(NEW.parent_id) AS p WHERE p.id = NEW.id) THEN
        RAISE check_violation USING MESSAGE = 'organization would be its own ancestor', CONSTRAINT = 'organization_no_cycle',
            HINT = 'Choose a parent that is not below the organization.';
    END IF;
    SELECT count(*) INTO above FROM invite_sync.organization_path(NEW.parent_id);
    SELECT max(s.level) INTO below FROM invite_sync.organization_subtree(NEW.id) AS s;
    IF above + coalesce(below, 0) + 1 > 8 THEN
        RAISE check_violation USING MESSAGE = 'organizations would be nested more than 8 levels deep', CONSTRAINT = 'organization_depth',
            HINT = 'Choose a parent nearer to the top.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION invite_sync.organization_check_tree() IS 'Trigger: no cycle, at most 8 levels.';
CREATE CONSTRAINT TRIGGER organization_check_tree AFTER INSERT OR UPDATE ON invite_sync.organization
    FOR EACH ROW EXECUTE FUNCTION invite_sync.organization_check_tree();
COMMENT ON TRIGGER organization_check_tree ON invite_sync.organization IS 'no cycle, at most 8 levels';

CREATE FUNCTION invite_sync.organization_fixed() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'an organization keeps its id, and a domain its organization and name',
        HINT = 'Make another one and delete this one.';
END
$$;
COMMENT ON FUNCTION invite_sync.organization_fixed() IS 'Trigger: refuses to change what other rows know an organization or a domain by.';
CREATE TRIGGER organization_fixed BEFORE UPDATE ON invite_sync.organization FOR EACH ROW
    WHEN (OLD.id OPERATOR(pg_catalog.<>) NEW.id) EXECUTE FUNCTION invite_sync.organization_fixed();
COMMENT ON TRIGGER organization_fixed ON invite_sync.organization IS 'an organization keeps its id';
CREATE TRIGGER organization_domain_fixed BEFORE UPDATE ON invite_sync.organization_domain FOR EACH ROW
    WHEN (OLD.id OPERATOR(pg_catalog.<>) NEW.id OR OLD.organization_id OPERATOR(pg_catalog.<>) NEW.organization_id OR OLD.domain OPERATOR(pg_catalog.<>) NEW.domain)
    EXECUTE FUNCTION invite_sync.organization_fixed();
COMMENT ON TRIGGER organization_domain_fixed ON invite_sync.organization_domain IS 'a domain keeps its organization and name';

-- ---- what goes with an organization ----

CREATE FUNCTION invite_sync.refuse(reason text, detail text DEFAULT NULL, hint text DEFAULT NULL) RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'caller_refuse_sql';
COMMENT ON FUNCTION invite_sync.refuse(text, text, text) IS
    'Raise the refusal that belongs to a reason word. For the extension''s own triggers. Internal.';

-- in C: it enters the owner's rights by itself, because it may be fired as the owner of a table that references ours
CREATE FUNCTION invite_sync.organization_removed() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'organization_removed';
COMMENT ON FUNCTION invite_sync.organization_removed() IS
    'Trigger: what belongs to an organization goes with it; one with organizations below it stays.';
CREATE TRIGGER organization_removed AFTER DELETE ON invite_sync.organization
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.organization_removed();
COMMENT ON TRIGGER organization_removed ON invite_sync.organization IS 'takes along what belongs to it';

-- ---- what a move changes ----

-- Names of roles are unique on every way up, and a role is good for its organization and those below.
CREATE FUNCTION invite_sync.organization_check_roles() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF EXISTS (SELECT FROM invite_sync.organization_subtree(NEW.id) AS s JOIN invite_sync.role AS r ON r.organization_id = s.id
                 JOIN invite_sync.role AS a ON a.name = r.name
                 JOIN invite_sync.organization_path(NEW.parent_id) AS p ON p.id = a.organization_id) THEN
        PERFORM invite_sync.refuse('role_exists', NULL, 'A role of the organization, or of one below it, has the name of a role above. Make one with another name in its place.');
    END IF;
    IF EXISTS (SELECT FROM invite_sync.organization_subtree(NEW.id) AS s JOIN invite_sync.membership AS m ON m.organization_id = s.id
                 JOIN invite_sync.role AS r ON r.id = m.role_id JOIN invite_sync.organization AS o ON o.id = r.organization_id
                WHERE o.id NOT IN (SELECT t.id FROM invite_sync.organization_subtree(NEW.id) AS t)
                  AND o.id NOT IN (SELECT p.id FROM invite_sync.organization_path(NEW.parent_id) AS p)) THEN
        PERFORM invite_sync.refuse('role_in_use', NULL, 'Members have a role of an organization that would no longer be above them. Give them another one first.');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION invite_sync.organization_check_roles() IS
    'Trigger: an organization that moves takes no role below another of the same name, and leaves none behind that its members have.';
CREATE TRIGGER organization_check_roles AFTER UPDATE ON invite_sync.organization FOR EACH ROW
    WHEN (OLD.parent_id IS DISTINCT FROM NEW.parent_id)
    EXECUTE FUNCTION invite_sync.organization_check_roles();
COMMENT ON TRIGGER organization_check_roles ON invite_sync.organization IS 'roles go where their organizations go';

-- ---- functions ----

CREATE TYPE invite_sync.organization_result AS (
    id uuid, name text, slug text, parent_id uuid, settings jsonb, seat_limit integer, bonus_seats integer,
    max_concurrent_sessions integer, region text, created_by uuid, created_at timestamptz, updated_at timestamptz
);
COMMENT ON TYPE invite_sync.organization_result IS 'An organization, as the functions give it: the columns of the table organization without its counter.';

CREATE TYPE invite_sync.seat_usage_result AS (
    organization_id uuid, seat_limit integer, bonus_seats integer, used bigint, pending bigint, remaining bigint
);
COMMENT ON TYPE invite_sync.seat_usage_result IS
    'Seats: the organization whose seats they are, its limit and bonus, the people who take one, seats kept for invitations, and what is left; limit and remaining are NULL where there is no limit.';

CREATE FUNCTION invite_sync.create_organization(name text, slug text DEFAULT NULL, parent_id uuid DEFAULT NULL, settings jsonb DEFAULT '{}', owner_id uuid DEFAULT NULL)
    RETURNS invite_sync.organization_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_create';
COMMENT ON FUNCTION invite_sync.create_organization(text, text, uuid, jsonb, uuid) IS
$doc$Make an organization; the user who makes it is its owner. name: 1 to 200 characters, no control or invisible ones, spaces around it are dropped. slug: NULL: made from the name, with a suffix where it is taken. parent_id: make it below that organization, where the caller needs organization.create_child; the owner takes one of the parent's seats unless they have one. settings: the application's own, an object. owner_id: service only: whose it is; NULL: it has no member yet.
Users, service. PT400 name_malformed, slug_malformed, data_malformed (argument=...; depth_limit=8), PT401 not_authenticated, PT402 seats_exhausted, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown (the parent), user_unknown (the owner), PT409 slug_taken.
Locks the owner's row of auth.users, then the parent and all above it, and waits for another transaction that makes the same slug.$doc$;

CREATE FUNCTION invite_sync.get_organization(organization_id uuid) RETURNS invite_sync.organization_result
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_get';
COMMENT ON FUNCTION invite_sync.get_organization(uuid) IS
$doc$An organization, to those with organization.read in it. Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.update_organization(organization_id uuid, name text DEFAULT NULL, slug text DEFAULT NULL, settings jsonb DEFAULT NULL)
    RETURNS invite_sync.organization_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_update';
COMMENT ON FUNCTION invite_sync.update_organization(uuid, text, text, jsonb) IS
$doc$Change name, slug or settings; NULL leaves one as it is, settings are replaced as a whole. Needs organization.update.
Users, service. PT400 name_malformed, slug_malformed, data_malformed, PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown, PT409 slug_taken; 42501 where a table that references the slug with ON UPDATE CASCADE, SET NULL or SET DEFAULT belongs to a superuser.
Locks the organization and those above it, and waits for another transaction that takes the same slug.$doc$;

CREATE FUNCTION invite_sync.move_organization(organization_id uuid, parent_id uuid) RETURNS invite_sync.organization_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_move';
COMMENT ON FUNCTION invite_sync.move_organization(uuid, uuid) IS
$doc$Put an organization, with all below it, under another parent; parent_id NULL: at the top. Memberships of the new parents reach down to it then, those of the old ones no more. Needs ownership of it, and organization.create_child in the parent it leaves and in the one it goes to.
Users, service. PT400 hierarchy_cycle (the parent is below it), data_malformed (depth_limit=8), seats_below_usage (its members do not fit into the seats there), PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown (it, or the parent), PT409 role_exists (a role below has the name of one above), role_in_use (members have a role that would be left behind).
Locks the organization and all below it, the parents and all above them.$doc$;

CREATE FUNCTION invite_sync.delete_organization(organization_id uuid, cascade boolean DEFAULT false) RETURNS invite_sync.organization_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_delete';
COMMENT ON FUNCTION invite_sync.delete_organization(uuid, boolean) IS
$doc$Delete an organization with its memberships, roles, domains and join requests; returns it as it was. cascade: with all organizations below it, else it must have none. Needs organization.delete. Rows of the application's tables that reference what is deleted with ON DELETE CASCADE, SET NULL or SET DEFAULT are dealt with as the owners of those tables; NO ACTION and RESTRICT refuse the deletion as usual (23503).
Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown, PT409 has_children; 42501 where a table that references it so belongs to a superuser.
Locks the auth.users rows of all members, then the organizations and all above them, then what references them.$doc$;

CREATE FUNCTION invite_sync.my_organizations(after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (id uuid, name text, slug text, parent_id uuid, settings jsonb, seat_limit integer, bonus_seats integer,
                   max_concurrent_sessions integer, region text, created_by uuid, created_at timestamptz, updated_at timestamptz,
                   role text, permissions text[], inherited boolean, cursor text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'organization_mine';
COMMENT ON FUNCTION invite_sync.my_organizations(text, integer) IS
$doc$The organizations that the caller is a member of, and those below them (inherited: no membership of the caller's own there), newest first. role: of the nearest membership; permissions: all that the caller has there. settings, seats, limits and created_by are NULL without organization.read. after: cursor of the last row of the page before; page_size: 1 to 500.
Users. PT400 data_malformed, PT401 not_authenticated, PT403 anonymous_user, user_banned. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.list_organizations(organization_id uuid DEFAULT NULL, after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (id uuid, name text, slug text, parent_id uuid, settings jsonb, seat_limit integer, bonus_seats integer,
                   max_concurrent_sessions integer, region text, created_by uuid, created_at timestamptz, updated_at timestamptz, cursor text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 50 AS 'MODULE_PATHNAME', 'organization_list';
COMMENT ON FUNCTION invite_sync.list_organizations(uuid, text, integer) IS
$doc$The organizations right below one, or (organization_id NULL) all there are, newest first. after: cursor of the last row of the page before; page_size: 1 to 500.
Service. PT400 data_malformed, PT403 not_permitted, PT404 organization_unknown. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.set_seats(organization_id uuid, seat_limit integer, bonus_seats integer DEFAULT 0) RETURNS invite_sync.seat_usage_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_set_seats';
COMMENT ON FUNCTION invite_sync.set_seats(uuid, integer, integer) IS
$doc$Set how many seats an organization has: seat_limit + bonus_seats, for it and for those below it that have no limit of their own. seat_limit NULL: it draws on the nearest organization above that has a limit, or there is none. Returns what seat_usage() then says.
Service. PT400 data_malformed, seats_below_usage (more are in use), PT403 not_permitted, PT404 organization_unknown. Locks the organization, all below it and those above it.$doc$;

CREATE FUNCTION invite_sync.set_organization_limits(organization_id uuid, max_concurrent_sessions integer, region text) RETURNS invite_sync.organization_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_set_limits';
COMMENT ON FUNCTION invite_sync.set_organization_limits(uuid, integer, text) IS
$doc$Set what an organization was sold besides seats: how many sessions one user may have, and where its data lives; NULL: no limit, nowhere in particular. Both are set. They are kept for the application: nothing of the extension acts on them.
Service. PT400 data_malformed, PT403 not_permitted, PT404 organization_unknown. Locks the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.seat_usage(organization_id uuid) RETURNS invite_sync.seat_usage_result
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_seat_usage';
COMMENT ON FUNCTION invite_sync.seat_usage(uuid) IS
$doc$The seats that members of an organization take: its own, or those of the nearest organization above it that has a limit; where none has, its topmost organization's, without a limit. Everybody counts once. Needs members.read.
Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown. Locks nothing.$doc$;
