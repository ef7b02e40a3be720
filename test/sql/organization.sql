--
-- Organizations: making, changing, moving and deleting them, seats, domains;
-- who may, and what is refused.
--
\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = warning;
CREATE SCHEMA organization_test;
SET search_path = public, organization_test;

INSERT INTO auth.users (id, email, is_anonymous, banned_until, deleted_at) VALUES
	('a1000000-0000-4000-8000-000000000001', 'ann@org.example', false, NULL, NULL),
	('a1000000-0000-4000-8000-000000000002', 'bob@org.example', false, NULL, NULL),
	('a1000000-0000-4000-8000-000000000003', 'cid@org.example', false, NULL, NULL),
	('a1000000-0000-4000-8000-000000000004', 'dan@org.example', false, NULL, NULL),
	('a1000000-0000-4000-8000-00000000000a', NULL, true, NULL, NULL),
	('a1000000-0000-4000-8000-00000000000b', 'ban@org.example', false, 'infinity', NULL),
	('a1000000-0000-4000-8000-00000000000d', 'del@org.example', false, NULL, now());
\set ann '\'a1000000-0000-4000-8000-000000000001\''
\set bob '\'a1000000-0000-4000-8000-000000000002\''
\set cid '\'a1000000-0000-4000-8000-000000000003\''
\set dan '\'a1000000-0000-4000-8000-000000000004\''
\set anonymous '\'a1000000-0000-4000-8000-00000000000a\''
\set banned '\'a1000000-0000-4000-8000-00000000000b\''
\set deleted '\'a1000000-0000-4000-8000-00000000000d\''
\set nobody '\'a1000000-0000-4000-8000-0000000000ff\''

-- an organization's id by its slug, whoever asks
CREATE FUNCTION organization_test.org(slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1 $$;
-- the usual definer wrapper, owned by a superuser
CREATE FUNCTION organization_test.as_definer(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
	AS $$ DECLARE result text; BEGIN EXECUTE statement INTO result; RETURN result; END $$;
-- a membership as a DBA would make it
CREATE FUNCTION organization_test.join_as(slug text, member uuid, role text) RETURNS void LANGUAGE sql SECURITY DEFINER
	AS $$ INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
	      SELECT o.id, member, invite_sync.role_id_of(role, o.id) FROM invite_sync.organization AS o WHERE o.slug = $1 $$;
CREATE FUNCTION organization_test.claim(sub text, role text DEFAULT 'authenticated') RETURNS void LANGUAGE sql
	AS $$ SELECT set_config('request.jwt.claims', jsonb_build_object('sub', sub, 'role', role)::text, false) $$;
CREATE VIEW organization_test.tree AS
	SELECT o.slug, o.name, p.slug AS parent, o.settings, o.seat_limit, o.bonus_seats, o.created_by IS NOT NULL AS by_user,
		(SELECT string_agg(split_part(u.email, '@', 1) || ' ' || r.name, ', ' ORDER BY u.email)
		   FROM invite_sync.membership AS m JOIN auth.users AS u ON u.id = m.user_id JOIN invite_sync.role AS r ON r.id = m.role_id
		  WHERE m.organization_id = o.id) AS members
	  FROM invite_sync.organization AS o LEFT JOIN invite_sync.organization AS p ON p.id = o.parent_id ORDER BY o.created_at, o.slug;
CREATE VIEW organization_test.last AS
	SELECT kind, action, split_part(u.email, '@', 1) AS actor, o.slug AS organization, target_type, data
	  FROM invite_sync.event AS e LEFT JOIN auth.users AS u ON u.id = e.actor_id LEFT JOIN invite_sync.organization AS o ON o.id = e.organization_id
	 ORDER BY e.id DESC LIMIT 1;
GRANT USAGE ON SCHEMA organization_test TO anon, authenticated, service_role, supabase_auth_admin;
RESET client_min_messages;
\pset null (null)

--
-- Making them
--
SET ROLE authenticated;
SELECT claim(:ann) \g /dev/null
SELECT name, slug, parent_id, settings, seat_limit, bonus_seats, max_concurrent_sessions, region, created_by, created_at = now() AS now
  FROM invite_sync.create_organization('Acme');
SELECT name, slug, settings FROM invite_sync.create_organization('  Acme  ');
SELECT name, slug, settings FROM invite_sync.create_organization('Acme', settings => '{"plan": "pro"}');
SELECT slug FROM invite_sync.create_organization('Acme', 'acme-two');
SELECT slug FROM invite_sync.create_organization('Acme', 'acme-two');
SELECT slug FROM invite_sync.create_organization('Ärger & Söhne (GmbH)');
SELECT slug FROM invite_sync.create_organization('日本');
SELECT slug FROM invite_sync.create_organization('日本');
SELECT slug, length(slug) FROM invite_sync.create_organization(repeat('x', 200));
SELECT slug, length(slug) FROM invite_sync.create_organization(repeat('x', 200));
SELECT slug, settings FROM invite_sync.create_organization('Nothing', NULL, NULL, NULL, NULL);
RESET ROLE;
RESET request.jwt.claims;
TABLE tree;
