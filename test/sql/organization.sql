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
-- a refusal whose detail has ids in it, with slugs in their place
CREATE FUNCTION organization_test.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
	id text;
BEGIN
	EXECUTE statement;
	RETURN 'it succeeded';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
	FOR id IN SELECT m[1] FROM regexp_matches(said, '([0-9a-f-]{36})', 'g') AS m LOOP
		said := replace(said, id, coalesce(organization_test.slug_of(id::uuid), 'unknown'));
	END LOOP;
	RETURN SQLSTATE || ' ' || said;
END $$;
CREATE FUNCTION organization_test.slug_of(id uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT o.slug FROM invite_sync.organization AS o WHERE o.id = $1 $$;
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
-- from the tenth on the same name ends in something random
SELECT slug ~ '^same-[0-9a-f]{8}$' AS random FROM generate_series(1, 10) AS n
 CROSS JOIN LATERAL (SELECT (invite_sync.create_organization('Same', settings => jsonb_build_object('n', n))).slug OFFSET 0) AS c ORDER BY n;
-- refused
SELECT slug FROM invite_sync.create_organization(NULL);
SELECT slug FROM invite_sync.create_organization('');
SELECT slug FROM invite_sync.create_organization('   ');
SELECT slug FROM invite_sync.create_organization(repeat('x', 201));
SELECT slug FROM invite_sync.create_organization(E'a\nb');
-- what nobody sees, or turns what stands around it; at the end too, where spaces are dropped
SELECT c, refusal(format($$SELECT slug FROM invite_sync.create_organization(%L)$$, 'a' || chr(c) || 'b')) AS inside,
	refusal(format($$SELECT slug FROM invite_sync.create_organization(%L)$$, 'ab' || chr(c) || ' ')) AS last
  FROM unnest(ARRAY[9, 127, 128, 159, x'061c'::int, x'200b'::int, x'200f'::int, x'2028'::int, x'202a'::int, x'202e'::int, x'2060'::int, x'2066'::int, x'2069'::int, x'feff'::int]) AS c;
SELECT slug FROM invite_sync.create_organization(repeat('x', 1000000));
-- more than there is memory to trim
SELECT slug FROM invite_sync.create_organization(repeat('x', 150000000));
SELECT slug FROM invite_sync.create_organization('Slugs', '');
SELECT slug FROM invite_sync.create_organization('Slugs', 'Upper');
SELECT slug FROM invite_sync.create_organization('Slugs', 'two--hyphens');
SELECT slug FROM invite_sync.create_organization('Slugs', '-first');
SELECT slug FROM invite_sync.create_organization('Slugs', 'last-');
SELECT slug FROM invite_sync.create_organization('Slugs', E'line\n');
SELECT slug FROM invite_sync.create_organization('Slugs', 'ä');
SELECT slug FROM invite_sync.create_organization('Slugs', repeat('x', 64));
SELECT slug FROM invite_sync.create_organization('Slugs', repeat('x', 1000000));
SELECT slug FROM invite_sync.create_organization('Settings', settings => '[]');
SELECT slug FROM invite_sync.create_organization('Settings', settings => 'null');
SELECT slug FROM invite_sync.create_organization('Settings', settings => jsonb_build_object('a', repeat('x', 65536)));
SELECT slug FROM invite_sync.create_organization('Bob''s', owner_id => :bob);
SELECT slug FROM invite_sync.create_organization('Mine', owner_id => :ann);
SELECT slug FROM invite_sync.create_organization('Child', parent_id => :nobody);
-- ordinary names of the world
SELECT count(*), bool_and(name = given) AS kept FROM unnest(ARRAY['Zoë & Søn', 'Ćevapi d.o.o.', 'Яндекс', 'ΕΛΛΑΣ', 'شركة', 'חברה', 'हिन्दी', 'ไทย', '日本 株式会社', '한국', 'Ünïcødé™ — № 1', 'e' || chr(769), '🚀'])
	WITH ORDINALITY AS n (given, i) CROSS JOIN LATERAL (SELECT (invite_sync.create_organization(given, 'world-' || i)).name OFFSET 0) AS c;
RESET ROLE;
SELECT kind, action, actor, target_type, data FROM last;
DELETE FROM invite_sync.organization WHERE slug LIKE 'world-%';
SELECT count(*) FROM invite_sync.organization WHERE name = 'Same';
DELETE FROM invite_sync.organization WHERE name = 'Same' OR name LIKE 'xxx%' OR slug LIKE 'organization%';
TABLE tree;

-- who may not
SELECT claim(:anonymous) \g /dev/null
SET ROLE authenticated;
SELECT slug FROM invite_sync.create_organization('No');
SELECT claim(:banned) \g /dev/null
SELECT slug FROM invite_sync.create_organization('No');
SELECT claim(:deleted) \g /dev/null
SELECT slug FROM invite_sync.create_organization('No');
SELECT claim(:nobody) \g /dev/null
SELECT slug FROM invite_sync.create_organization('No');
SELECT claim(:ann, 'service_role') \g /dev/null
SELECT slug FROM invite_sync.create_organization('No');
SELECT claim('nonsense') \g /dev/null
SELECT slug FROM invite_sync.create_organization('No');
RESET request.jwt.claims;
SELECT slug FROM invite_sync.create_organization('No');
SELECT as_definer($$SELECT slug FROM invite_sync.create_organization('No')$$);
SET ROLE anon;
SELECT slug FROM invite_sync.create_organization('No');
SELECT as_definer($$SELECT slug FROM invite_sync.create_organization('No')$$);
SELECT claim(:ann) \g /dev/null
SELECT as_definer($$SELECT slug FROM invite_sync.create_organization('No')$$);
RESET ROLE;
-- through a definer function a user is that user
SELECT claim(:bob) \g /dev/null
SET ROLE authenticated;
SELECT as_definer($$SELECT slug FROM invite_sync.create_organization('Bobs')$$);
RESET ROLE;
RESET request.jwt.claims;

-- service
SET ROLE service_role;
SELECT slug, created_by FROM invite_sync.create_organization('Owned', owner_id => :cid);
SELECT slug, created_by FROM invite_sync.create_organization('Ownerless');
SELECT slug FROM invite_sync.create_organization('No', owner_id => :nobody);
SELECT slug FROM invite_sync.create_organization('No', owner_id => :deleted);
SELECT slug FROM invite_sync.create_organization('No', owner_id => :banned);
SELECT slug FROM invite_sync.create_organization('No', owner_id => :anonymous);
SELECT slug FROM invite_sync.create_organization('No', parent_id => :nobody);
RESET ROLE;
SELECT * FROM tree WHERE NOT by_user OR slug = 'bobs';
TABLE last;

--
-- Below another
--
-- at the end of this part: acme (ann owner) > sales > north; bob is admin and cid member of acme
SELECT join_as('acme', :bob, 'admin'), join_as('acme', :cid, 'member') \g /dev/null
SELECT claim(:cid) \g /dev/null
SET ROLE authenticated;
SELECT slug FROM invite_sync.create_organization('Sales', parent_id => org('acme'));
SELECT slug FROM invite_sync.create_organization('Sales', parent_id => org('bobs'));
SELECT claim(:bob) \g /dev/null
SELECT slug, parent_id = org('acme') AS below FROM invite_sync.create_organization('Sales', parent_id => org('acme'));
SELECT claim(:ann) \g /dev/null
-- what reaches down from acme is enough
SELECT slug, parent_id = org('sales') AS below FROM invite_sync.create_organization('North', parent_id => org('sales'));
RESET ROLE;
RESET request.jwt.claims;
SELECT * FROM tree WHERE parent IS NOT NULL;
SELECT kind, action, organization, data - 'parent_id' - 'owner_id' AS rest, data->>'parent_id' = org('sales')::text AS parent, data->>'owner_id' AS owner FROM last;
-- eight levels and no more
SELECT slug FROM invite_sync.create_organization('Level 4', parent_id => org('north'));
SELECT slug FROM invite_sync.create_organization('Level 5', parent_id => org('level-4'));
SELECT slug FROM invite_sync.create_organization('Level 6', parent_id => org('level-5'));
SELECT slug FROM invite_sync.create_organization('Level 7', parent_id => org('level-6'));
SELECT slug FROM invite_sync.create_organization('Level 8', parent_id => org('level-7'));
SELECT slug FROM invite_sync.create_organization('Level 9', parent_id => org('level-8'));
SELECT slug FROM invite_sync.delete_organization(org('level-4'), true);

--
-- Reading
--
SELECT claim(:cid) \g /dev/null
SET ROLE authenticated;
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
SELECT name, slug FROM invite_sync.get_organization(org('north'));
SELECT name, slug FROM invite_sync.get_organization(org('bobs'));
SELECT name, slug FROM invite_sync.get_organization(:nobody);
SELECT name, slug FROM invite_sync.get_organization(NULL);
SELECT claim(:anonymous) \g /dev/null
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
SELECT claim(:banned) \g /dev/null
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
RESET request.jwt.claims;
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
RESET ROLE;
-- a banned member is nobody
SELECT join_as('acme', :banned, 'owner') \g /dev/null
SELECT claim(:banned) \g /dev/null
SET ROLE authenticated;
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
SELECT name, slug FROM invite_sync.my_organizations();
RESET ROLE;
RESET request.jwt.claims;
DELETE FROM invite_sync.membership WHERE user_id = :banned;
SET ROLE service_role;
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
SELECT name, slug FROM invite_sync.get_organization(:nobody);
RESET ROLE;
-- a role that cannot even read
INSERT INTO invite_sync.role (name, organization_id) VALUES ('guest', org('acme'));
SELECT join_as('acme', :dan, 'guest') \g /dev/null
SELECT claim(:dan) \g /dev/null
SET ROLE authenticated;
SELECT name, slug FROM invite_sync.get_organization(org('acme'));
SELECT name, settings, bonus_seats, created_by, role, permissions, inherited FROM invite_sync.my_organizations() ORDER BY name;
SELECT * FROM invite_sync.seat_usage(org('acme'));
RESET ROLE;
-- in READ ONLY transactions, as PostgREST calls what is STABLE
SELECT claim(:bob) \g /dev/null
SET ROLE authenticated;
BEGIN READ ONLY;
SELECT name FROM invite_sync.get_organization(org('acme'));
SELECT name, slug, role, permissions = (SELECT permissions FROM invite_sync.my_organizations() WHERE slug = 'bobs') AS all, inherited
  FROM invite_sync.my_organizations() ORDER BY name;
SELECT seat_limit, used, pending, remaining FROM invite_sync.seat_usage(org('acme'));
COMMIT;
RESET ROLE;
RESET request.jwt.claims;
-- a page after the other
SELECT claim(:ann) \g /dev/null
SET ROLE authenticated;
SELECT array_agg(slug ORDER BY created_at DESC, id DESC) AS slugs, array_agg(cursor ORDER BY created_at DESC, id DESC) AS cursors FROM invite_sync.my_organizations() \gset
SELECT :'slugs'::text[] @> '{acme,sales,north,acme-two}' AS all, cardinality(:'slugs'::text[]) AS n;
WITH RECURSIVE pages AS (
	SELECT 1 AS n, p.slug, p.cursor FROM invite_sync.my_organizations(page_size => 1) AS p
	UNION ALL
	SELECT a.n + 1, p.slug, p.cursor FROM pages AS a CROSS JOIN LATERAL invite_sync.my_organizations(a.cursor, 1) AS p)
SELECT array_agg(slug ORDER BY n) = :'slugs'::text[] AS same FROM pages;
SELECT slug FROM invite_sync.my_organizations('nonsense');
SELECT slug FROM invite_sync.my_organizations('1.2');
SELECT slug FROM invite_sync.my_organizations('');
SELECT slug FROM invite_sync.my_organizations(page_size => 0);
SELECT slug FROM invite_sync.my_organizations(page_size => 501);
SELECT count(*) > 0 AS default_size FROM invite_sync.my_organizations(page_size => NULL);
RESET ROLE;
RESET request.jwt.claims;
SELECT slug FROM invite_sync.my_organizations();
SET ROLE service_role;
SELECT slug FROM invite_sync.my_organizations();
RESET ROLE;

-- for a service, all of them or those right below one
SET ROLE service_role;
SELECT slug, parent_id = org('acme') AS below_acme FROM invite_sync.list_organizations(org('acme'));
WITH RECURSIVE pages AS (
	SELECT 1 AS n, p.id, p.cursor FROM invite_sync.list_organizations(page_size => 2) AS p
	UNION ALL
	SELECT a.n + 1, p.id, p.cursor FROM (SELECT n, cursor FROM pages) AS a CROSS JOIN LATERAL invite_sync.list_organizations(after => a.cursor, page_size => 1) AS p WHERE a.n < 20)
SELECT count(DISTINCT id) = (SELECT count(*) FROM invite_sync.list_organizations()) AS all FROM pages;
SELECT slug FROM invite_sync.list_organizations(:nobody);
SELECT slug FROM invite_sync.list_organizations(after => 'x');
SELECT slug FROM invite_sync.list_organizations(page_size => 501);
SELECT claim(:ann) \g /dev/null
SELECT slug FROM invite_sync.list_organizations();
SET ROLE authenticated;
SELECT slug FROM invite_sync.list_organizations();
RESET ROLE;
RESET request.jwt.claims;
SELECT count(*) = (SELECT count(*) FROM invite_sync.organization) AS all FROM invite_sync.list_organizations();

--
-- Changing
--
SELECT claim(:bob) \g /dev/null
SET ROLE authenticated;
SELECT name, slug, settings, updated_at = now() AS now FROM invite_sync.update_organization(org('sales'), settings => '{"a": 1, "b": 2}');
-- what is stored out of line comes back whole
SELECT jsonb_build_object('text', string_agg(md5(i::text), '')) AS large FROM generate_series(1, 1900) AS i \gset
SELECT settings = :'large' AS whole FROM invite_sync.update_organization(org('sales'), settings => :'large');
SELECT settings = :'large' AS whole FROM invite_sync.get_organization(org('sales'));
SELECT bool_and(settings = :'large') AS whole FROM invite_sync.my_organizations() WHERE slug = 'sales';
SELECT name, slug, settings FROM invite_sync.update_organization(org('sales'), 'Sales dept', settings => '{"b": 3}');
SELECT name, slug, settings FROM invite_sync.update_organization(org('sales'), slug => 'sales-dept');
SELECT count(*) AS n FROM invite_sync.my_organizations() WHERE slug = 'sales-dept' AND updated_at > created_at;
-- nothing changes: nothing is written
RESET ROLE;
SELECT max(id) AS last_event FROM invite_sync.event \gset
SELECT xmin AS version FROM invite_sync.organization WHERE slug = 'sales-dept' \gset
SET ROLE authenticated;
SELECT name, slug, settings FROM invite_sync.update_organization(org('sales-dept'));
SELECT name, slug, settings FROM invite_sync.update_organization(org('sales-dept'), ' Sales dept ', 'sales-dept', '{"b": 3}');
RESET ROLE;
SELECT max(id) = :last_event AS no_event FROM invite_sync.event;
SELECT xmin = :version AS same_row FROM invite_sync.organization WHERE slug = 'sales-dept';
TABLE last;
SET ROLE authenticated;
SELECT slug FROM invite_sync.update_organization(NULL, 'x');
SELECT slug FROM invite_sync.update_organization(:nobody, 'x');
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), '');
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), E'Sales\ufeff');
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), slug => 'a b');
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), settings => '1');
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), slug => 'acme');
SELECT slug FROM invite_sync.update_organization(org('acme-two'), slug => 'x');
SELECT claim(:cid) \g /dev/null
SELECT slug FROM invite_sync.update_organization(org('acme'), 'x');
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), 'x');
SELECT as_definer(format('SELECT slug FROM invite_sync.update_organization(%L, ''x'')', org('acme')));
SELECT claim(:anonymous) \g /dev/null
SELECT slug FROM invite_sync.update_organization(org('acme'), 'x');
SELECT claim(:banned) \g /dev/null
SELECT slug FROM invite_sync.update_organization(org('acme'), 'x');
RESET request.jwt.claims;
SELECT slug FROM invite_sync.update_organization(org('acme'), 'x');
SET ROLE service_role;
SELECT slug FROM invite_sync.update_organization(org('sales-dept'), 'Sales', 'sales', '{}');
SELECT slug FROM invite_sync.update_organization(:nobody, 'x');
SET ROLE anon;
SELECT slug FROM invite_sync.update_organization(org('sales'), 'x');
RESET ROLE;

--
-- Seats
--
SET ROLE service_role;
SELECT organization_id = org('acme') AS acme, seat_limit, bonus_seats, used, pending, remaining FROM invite_sync.seat_usage(org('north'));
SELECT organization_id = org('acme') AS acme, seat_limit, bonus_seats, used, pending, remaining FROM invite_sync.set_seats(org('acme'), 4, 1);
SELECT organization_id = org('acme') AS acme, seat_limit, bonus_seats, used, pending, remaining FROM invite_sync.seat_usage(org('north'));
SELECT refusal($$SELECT used FROM invite_sync.set_seats(org('acme'), 3)$$);
SELECT refusal($$SELECT used FROM invite_sync.set_seats(org('acme'), 0, 3)$$);
SELECT used FROM invite_sync.set_seats(org('acme'), -1);
SELECT used FROM invite_sync.set_seats(org('acme'), 10, -1);
SELECT used FROM invite_sync.set_seats(org('acme'), 10, NULL);
SELECT used FROM invite_sync.set_seats(NULL, 10);
SELECT used FROM invite_sync.set_seats(:nobody, 10);
SELECT seat_limit, bonus_seats, used, remaining FROM invite_sync.set_seats(org('acme'), 4);
SELECT seat_limit, bonus_seats, used, remaining FROM invite_sync.set_seats(org('acme'), 2147483647, 2147483647);
SELECT seat_limit, bonus_seats, used, remaining FROM invite_sync.set_seats(org('acme'), 4);
RESET ROLE;
TABLE last;
-- whoever has a seat makes children without another; somebody new does not fit
SELECT slug FROM invite_sync.create_organization('East', parent_id => org('acme'), owner_id => :cid);
INSERT INTO auth.users (id, email) VALUES ('a1000000-0000-4000-8000-000000000005', 'eve@org.example');
\set eve '\'a1000000-0000-4000-8000-000000000005\''
SELECT refusal($$SELECT slug FROM invite_sync.create_organization('West', parent_id => org('acme'), owner_id => 'a1000000-0000-4000-8000-000000000005')$$);
SELECT refusal($$SELECT slug FROM invite_sync.create_organization('West', parent_id => org('north'), owner_id => 'a1000000-0000-4000-8000-000000000005')$$);
-- a limit of its own is a pool of its own
SELECT seat_limit, used, remaining FROM invite_sync.set_seats(org('east'), 1);
SELECT seat_limit, used, remaining FROM invite_sync.seat_usage(org('acme'));
SELECT refusal($$SELECT invite_sync.create_organization('Far east', parent_id => org('east'), owner_id => 'a1000000-0000-4000-8000-000000000005')$$);
SELECT seat_limit, used, remaining FROM invite_sync.set_seats(org('east'), 2);
SELECT slug FROM invite_sync.create_organization('Far east', parent_id => org('east'), owner_id => :eve);
SELECT organization_id = org('east') AS east, used, remaining FROM invite_sync.seat_usage(org('far-east'));
-- without it they do not fit into acme's
SELECT refusal($$SELECT invite_sync.set_seats(org('east'), NULL)$$);
SELECT seat_limit, used, remaining FROM invite_sync.seat_usage(org('acme'));
-- the same for a DBA
SELECT refusal($$UPDATE invite_sync.organization SET seat_limit = NULL WHERE slug = 'east'$$);
SELECT refusal($$UPDATE invite_sync.organization SET seat_limit = 3 WHERE slug = 'acme'$$);
SELECT refusal($$SELECT join_as('acme', 'a1000000-0000-4000-8000-000000000005', 'member')$$);
SELECT claim(:ann) \g /dev/null
SET ROLE authenticated;
SELECT used FROM invite_sync.set_seats(org('acme'), 100);
SELECT as_definer(format('SELECT used FROM invite_sync.set_seats(%L, 100)', org('acme')));
SELECT region FROM invite_sync.set_organization_limits(org('acme'), 100, 'eu');
SELECT as_definer(format('SELECT region FROM invite_sync.set_organization_limits(%L, 100, ''eu'')', org('acme')));
SELECT used FROM invite_sync.seat_usage(org('east'));
SELECT used FROM invite_sync.seat_usage(org('bobs'));
SELECT used FROM invite_sync.seat_usage(NULL);
RESET ROLE;
RESET request.jwt.claims;
SET ROLE service_role;
SELECT max_concurrent_sessions, region FROM invite_sync.set_organization_limits(org('acme'), 3, 'eu-central-1');
SELECT max_concurrent_sessions, region FROM invite_sync.set_organization_limits(org('acme'), NULL, NULL);
SELECT region FROM invite_sync.set_organization_limits(org('acme'), 0, 'eu');
SELECT region FROM invite_sync.set_organization_limits(org('acme'), NULL, '');
SELECT region FROM invite_sync.set_organization_limits(org('acme'), NULL, repeat('x', 64));
SELECT region FROM invite_sync.set_organization_limits(org('acme'), NULL, repeat('ä', 63)) \g /dev/null
SELECT region FROM invite_sync.set_organization_limits(org('acme'), NULL, NULL);
SELECT region FROM invite_sync.set_organization_limits(NULL, NULL, NULL);
SELECT region FROM invite_sync.set_organization_limits(:nobody, NULL, NULL);
RESET ROLE;
TABLE last;

--
-- Moving
--
-- now: acme (ann; bob admin, cid member, dan guest) > sales > north, acme > east (cid) > far-east (eve); bobs (bob)
SELECT slug, parent, members FROM tree WHERE slug IN ('acme', 'sales', 'north', 'east', 'far-east', 'bobs');
SELECT claim(:ann) \g /dev/null
SET ROLE authenticated;
SELECT slug, parent_id = org('acme') AS moved FROM invite_sync.move_organization(org('north'), org('acme'));
SELECT slug, parent_id = org('acme') AS moved FROM invite_sync.move_organization(org('north'), org('acme'));
SELECT slug, parent_id = org('sales') AS moved FROM invite_sync.move_organization(org('north'), org('sales'));
-- a cycle, itself
SELECT slug FROM invite_sync.move_organization(org('acme'), org('north'));
SELECT slug FROM invite_sync.move_organization(org('sales'), org('north'));
SELECT slug FROM invite_sync.move_organization(org('sales'), org('sales'));
SELECT slug FROM invite_sync.move_organization(NULL, org('acme'));
SELECT slug FROM invite_sync.move_organization(:nobody, org('acme'));
SELECT slug FROM invite_sync.move_organization(org('north'), :nobody);
SELECT slug FROM invite_sync.move_organization(org('bobs'), org('acme'));
SELECT slug FROM invite_sync.move_organization(org('north'), org('bobs'));
-- bob owns sales, so what is below it too, and may make children of acme, of which he owns nothing
SELECT claim(:bob) \g /dev/null
SELECT slug, parent_id = org('acme') AS moved FROM invite_sync.move_organization(org('north'), org('acme'));
SELECT slug FROM invite_sync.move_organization(org('north'), org('sales'));
SELECT slug FROM invite_sync.move_organization(org('bobs'), org('acme-two'));
SELECT slug, parent_id = org('acme') AS moved FROM invite_sync.move_organization(org('bobs'), org('acme'));
RESET ROLE;
SELECT kind, action, actor, organization, data->'from' AS from, data->>'to' = org('acme')::text AS to FROM last;
SET ROLE authenticated;
SELECT slug, parent_id FROM invite_sync.move_organization(org('bobs'), NULL);
SELECT claim(:ann) \g /dev/null
SELECT slug, parent_id = org('sales') AS moved FROM invite_sync.move_organization(org('north'), org('sales'));
-- cid owns east and is only a member of acme
SELECT claim(:cid) \g /dev/null
SELECT refusal($$SELECT slug FROM invite_sync.move_organization(org('east'), NULL)$$);
SELECT refusal($$SELECT slug FROM invite_sync.move_organization(org('east'), org('sales'))$$);
-- eve owns far-east and knows nothing of what is above
SELECT claim(:eve) \g /dev/null
SELECT refusal($$SELECT slug FROM invite_sync.move_organization(org('far-east'), NULL)$$);
SELECT refusal($$SELECT slug FROM invite_sync.move_organization(org('far-east'), org('acme'))$$);
SELECT claim(:anonymous) \g /dev/null
SELECT slug FROM invite_sync.move_organization(org('north'), NULL);
SELECT claim(:banned) \g /dev/null
SELECT slug FROM invite_sync.move_organization(org('north'), NULL);
RESET request.jwt.claims;
SELECT slug FROM invite_sync.move_organization(org('north'), NULL);
SET ROLE anon;
SELECT slug FROM invite_sync.move_organization(org('north'), NULL);
RESET ROLE;
-- the seats where it goes: five people do not fit into four seats
SELECT seat_limit, used FROM invite_sync.seat_usage(org('acme'));
SELECT slug FROM invite_sync.create_organization('Outside', owner_id => :eve);
SELECT refusal($$SELECT slug FROM invite_sync.move_organization(org('outside'), org('acme'))$$);
SELECT refusal($$UPDATE invite_sync.organization SET parent_id = org('acme') WHERE slug = 'outside'$$);
SELECT used FROM invite_sync.set_seats(org('outside'), 1);
SELECT parent_id = org('acme') AS moved FROM invite_sync.move_organization(org('outside'), org('acme'));
-- roles: one of the same name above it
INSERT INTO invite_sync.role (name, organization_id) VALUES ('guest', org('bobs'));
SELECT slug FROM invite_sync.move_organization(org('bobs'), org('sales'));
UPDATE invite_sync.organization SET parent_id = org('sales') WHERE slug = 'bobs';
DELETE FROM invite_sync.role WHERE organization_id = org('bobs');
SELECT slug FROM invite_sync.move_organization(org('bobs'), org('sales'));
-- and one that would be left behind
SELECT join_as('bobs', :dan, 'guest') \g /dev/null
SELECT slug FROM invite_sync.move_organization(org('bobs'), NULL);
SELECT slug FROM invite_sync.move_organization(org('sales'), NULL);
UPDATE invite_sync.organization SET parent_id = NULL WHERE slug = 'sales';
SELECT slug FROM invite_sync.move_organization(org('bobs'), org('acme'));
DELETE FROM invite_sync.membership WHERE organization_id = org('bobs') AND user_id = :dan;
SELECT slug, parent_id FROM invite_sync.move_organization(org('bobs'), NULL);
-- depth
SELECT slug FROM invite_sync.create_organization('D1');
SELECT slug FROM invite_sync.create_organization('D2', parent_id => org('d1'));
SELECT slug FROM invite_sync.create_organization('D3', parent_id => org('d2'));
SELECT slug FROM invite_sync.create_organization('D4', parent_id => org('d3'));
SELECT slug FROM invite_sync.create_organization('D5', parent_id => org('d4'));
SELECT slug FROM invite_sync.create_organization('D6', parent_id => org('d5'));
SELECT slug FROM invite_sync.move_organization(org('d1'), org('north'));
SELECT slug, parent_id = org('sales') AS moved FROM invite_sync.move_organization(org('d1'), org('sales'));
SELECT slug FROM invite_sync.create_organization('D7', parent_id => org('d6'));
-- a DBA is told in PostgreSQL's own words
UPDATE invite_sync.organization SET parent_id = org('north') WHERE slug = 'd1';
UPDATE invite_sync.organization SET parent_id = org('d2') WHERE slug = 'd1';
\set VERBOSITY terse
UPDATE invite_sync.organization SET parent_id = id WHERE slug = 'sales';
\set VERBOSITY default
INSERT INTO invite_sync.organization (name, slug, parent_id) VALUES ('D7', 'd7', org('d6'));
SELECT slug FROM invite_sync.delete_organization(org('d1'), true);

--
-- What the tables refuse whoever writes
--
\set VERBOSITY terse
INSERT INTO invite_sync.organization (name, slug) VALUES ('Twice', 'acme');
INSERT INTO invite_sync.organization (name, slug) VALUES ('', 'empty');
INSERT INTO invite_sync.organization (name, slug) VALUES (' padded', 'padded');
INSERT INTO invite_sync.organization (name, slug) VALUES (E'a\u202eb', 'turned');
UPDATE invite_sync.organization SET name = E'a\u200b' WHERE slug = 'acme';
INSERT INTO invite_sync.organization (name, slug) VALUES ('Slug', 'No Slug');
INSERT INTO invite_sync.organization (name, slug, settings) VALUES ('Settings', 'settings', '[]');
INSERT INTO invite_sync.organization (name, slug, seat_limit) VALUES ('Seats', 'seats', -1);
INSERT INTO invite_sync.organization (name, slug, bonus_seats) VALUES ('Seats', 'seats', -1);
INSERT INTO invite_sync.organization (name, slug, max_concurrent_sessions) VALUES ('Sessions', 'sessions', 0);
INSERT INTO invite_sync.organization (name, slug, region) VALUES ('Region', 'region', '');
\set VERBOSITY default
DELETE FROM invite_sync.organization WHERE slug = 'acme';
UPDATE invite_sync.organization SET id = gen_random_uuid() WHERE slug = 'acme';
-- the last owner, a role that somebody has, one that nobody has
DELETE FROM invite_sync.membership WHERE organization_id = org('acme') AND user_id = :ann;
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000b' WHERE organization_id = org('acme') AND user_id = :ann;
BEGIN;
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000a' WHERE organization_id = org('acme') AND user_id = :bob;
DELETE FROM invite_sync.membership WHERE organization_id = org('acme') AND user_id = :ann;
DELETE FROM invite_sync.membership WHERE organization_id = org('acme');
ROLLBACK;
DELETE FROM invite_sync.role WHERE name = 'guest';
INSERT INTO invite_sync.permission (name) VALUES ('documents.write'), ('documents.read');
INSERT INTO invite_sync.role (name, organization_id) VALUES ('clerk', org('acme'));
INSERT INTO invite_sync.role_permission SELECT r.id, p.name FROM invite_sync.role AS r, invite_sync.permission AS p WHERE r.name = 'clerk' AND NOT p.built_in;
DELETE FROM invite_sync.permission WHERE name = 'documents.write';
SELECT array_agg(permission) FROM invite_sync.role_permission;
DELETE FROM invite_sync.role WHERE name = 'clerk';
SELECT array_agg(permission) FROM invite_sync.role_permission;
DELETE FROM invite_sync.permission WHERE NOT built_in;
-- the triggers' functions are for those triggers
CREATE TABLE organization_test.other (id uuid, organization_id uuid);
INSERT INTO organization_test.other VALUES (NULL, NULL);
CREATE TRIGGER t BEFORE DELETE ON organization_test.other FOR EACH ROW EXECUTE FUNCTION invite_sync.organization_removed();
DELETE FROM organization_test.other;
DROP TRIGGER t ON organization_test.other;
CREATE TRIGGER t BEFORE DELETE ON organization_test.other FOR EACH ROW EXECUTE FUNCTION invite_sync.membership_keep_owner();
DELETE FROM organization_test.other;
DROP TRIGGER t ON organization_test.other;
CREATE TRIGGER t BEFORE DELETE ON organization_test.other FOR EACH ROW EXECUTE FUNCTION invite_sync.role_removed();
DELETE FROM organization_test.other;
-- and users read what their memberships show, which is nothing for nobody, and write nothing
SET ROLE authenticated;
SELECT count(*) FROM invite_sync.organization;
UPDATE invite_sync.organization SET name = 'x';
SET ROLE service_role;
SELECT count(*) FROM invite_sync.organization;
RESET ROLE;

--
-- Deleting
--
-- The application's tables: each owner's triggers say as whom they run.
SET client_min_messages = warning;
CREATE ROLE organization_app;
CREATE ROLE organization_other;
CREATE SCHEMA organization_app AUTHORIZATION organization_app;
GRANT USAGE ON SCHEMA organization_app TO organization_other;
GRANT USAGE ON SCHEMA invite_sync TO organization_app, organization_other;
GRANT REFERENCES ON invite_sync.organization, invite_sync.membership, invite_sync.role, invite_sync.organization_domain TO organization_app, organization_other;
CREATE TABLE organization_test.heard (n integer GENERATED ALWAYS AS IDENTITY, what text, op text, as_role name, super boolean);
GRANT INSERT ON organization_test.heard TO PUBLIC;
GRANT USAGE ON SCHEMA organization_test TO PUBLIC;
CREATE FUNCTION organization_test.hear() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO organization_test.heard (what, op, as_role, super)
	SELECT TG_TABLE_NAME || ' ' || lower(TG_WHEN) || ' ' || lower(TG_LEVEL), TG_OP, current_user, r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user;
	RETURN coalesce(NEW, OLD);
END $$;
RESET client_min_messages;
SET ROLE organization_app;
CREATE TABLE organization_app.document (id integer PRIMARY KEY, org uuid NOT NULL REFERENCES invite_sync.organization ON DELETE CASCADE, org_slug text REFERENCES invite_sync.organization (slug) ON DELETE SET NULL);
CREATE TABLE organization_app.page (id integer PRIMARY KEY, document integer NOT NULL REFERENCES organization_app.document ON DELETE CASCADE);
CREATE TABLE organization_app.part (id integer, org uuid REFERENCES invite_sync.organization ON DELETE CASCADE) PARTITION BY LIST (id);
CREATE TABLE organization_app.part_1 PARTITION OF organization_app.part FOR VALUES IN (1);
CREATE TABLE organization_app.parent (id integer, org uuid REFERENCES invite_sync.organization ON DELETE CASCADE);
CREATE TABLE organization_app.heir () INHERITS (organization_app.parent);
CREATE TABLE organization_app.forced (id integer, membership uuid REFERENCES invite_sync.membership ON DELETE CASCADE);
ALTER TABLE organization_app.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE organization_app."Odd ""Table" ("Who" uuid, "Where" uuid, note text DEFAULT 'default',
	FOREIGN KEY ("Who", "Where") REFERENCES invite_sync.membership (user_id, organization_id) ON DELETE SET NULL ("Who"));
CREATE TABLE organization_app.by_default (id integer, role uuid DEFAULT '00000000-0000-4000-8000-00000000000c' REFERENCES invite_sync.role ON DELETE SET DEFAULT);
RESET ROLE;
CREATE TABLE organization_app.seat (id integer, membership uuid REFERENCES invite_sync.membership ON DELETE CASCADE);
ALTER TABLE organization_app.seat OWNER TO organization_other;
DO $$ DECLARE t text; BEGIN
	FOR t IN SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'organization_app'::regnamespace AND c.relkind = 'r' LOOP
		EXECUTE format('CREATE TRIGGER hear_before BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION organization_test.hear()', t);
		EXECUTE format('CREATE TRIGGER hear_after AFTER UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION organization_test.hear()', t);
		EXECUTE format('CREATE TRIGGER hear_statement AFTER UPDATE OR DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION organization_test.hear()', t);
	END LOOP;
END $$;
SELECT slug FROM invite_sync.create_organization('Doomed', owner_id => :ann);
SELECT slug FROM invite_sync.create_organization('Doomed below', parent_id => org('doomed'), owner_id => :bob);
SELECT join_as('doomed', :cid, 'member') \g /dev/null
INSERT INTO invite_sync.role (name, organization_id) VALUES ('writer', org('doomed'));
INSERT INTO invite_sync.role_permission SELECT id, 'organization.read' FROM invite_sync.role WHERE name = 'writer';
SELECT join_as('doomed-below', :dan, 'writer') \g /dev/null
INSERT INTO invite_sync.membership_removal (organization_id, user_id) VALUES (org('doomed'), :eve);
INSERT INTO invite_sync.join_request (organization_id, user_id) VALUES (org('doomed'), :eve);
INSERT INTO organization_app.document VALUES (1, org('doomed'), 'doomed'), (2, org('doomed-below'), NULL), (3, org('acme'), 'doomed'), (4, org('acme'), 'acme');
INSERT INTO organization_app.page VALUES (1, 1), (2, 4);
INSERT INTO organization_app.part VALUES (1, org('doomed')), (1, org('acme'));
INSERT INTO organization_app.parent VALUES (1, org('doomed')), (2, org('acme'));
INSERT INTO organization_app.heir VALUES (3, org('doomed'));
INSERT INTO organization_app.forced SELECT CASE organization_id WHEN org('doomed') THEN 1 ELSE 2 END, id FROM invite_sync.membership WHERE organization_id IN (org('doomed'), org('acme')) AND user_id = :ann;
INSERT INTO organization_app."Odd ""Table" SELECT user_id, organization_id FROM invite_sync.membership WHERE organization_id IN (org('doomed'), org('acme'));
INSERT INTO organization_app.by_default SELECT 1, id FROM invite_sync.role WHERE name = 'writer';
INSERT INTO organization_app.seat SELECT 1, id FROM invite_sync.membership WHERE organization_id IN (org('doomed'), org('doomed-below'));

SELECT claim(:cid) \g /dev/null
SET ROLE authenticated;
SELECT slug FROM invite_sync.delete_organization(org('doomed'));
SELECT slug FROM invite_sync.delete_organization(NULL);
SELECT slug FROM invite_sync.delete_organization(:nobody);
SELECT slug FROM invite_sync.delete_organization(org('bobs'));
SELECT slug FROM invite_sync.delete_organization(org('doomed'), NULL);
SELECT as_definer(format('SELECT slug FROM invite_sync.delete_organization(%L)', org('doomed')));
SELECT claim(:anonymous) \g /dev/null
SELECT slug FROM invite_sync.delete_organization(org('doomed'));
SELECT claim(:banned) \g /dev/null
SELECT slug FROM invite_sync.delete_organization(org('doomed'));
RESET request.jwt.claims;
SELECT slug FROM invite_sync.delete_organization(org('doomed'));
SET ROLE anon;
SELECT slug FROM invite_sync.delete_organization(org('doomed'));
RESET ROLE;
-- an admin may not
SELECT join_as('doomed', :dan, 'admin') \g /dev/null
SELECT claim(:dan) \g /dev/null
SET ROLE authenticated;
SELECT slug FROM invite_sync.delete_organization(org('doomed'), true);
SELECT claim(:ann) \g /dev/null
SELECT slug FROM invite_sync.delete_organization(org('doomed'));
RESET ROLE;
SELECT count(*) AS heard FROM organization_test.heard;
-- a referencing table of a superuser
CREATE TABLE organization_app.of_superuser (org uuid REFERENCES invite_sync.organization ON DELETE CASCADE);
CREATE TRIGGER hear AFTER DELETE ON organization_app.of_superuser FOR EACH ROW EXECUTE FUNCTION organization_test.hear();
SET ROLE authenticated;
SELECT slug FROM invite_sync.delete_organization(org('doomed'), true);
RESET ROLE;
DROP TABLE organization_app.of_superuser;
-- the same for what changes with a slug
RESET request.jwt.claims;
CREATE TABLE organization_app.of_superuser (slug text REFERENCES invite_sync.organization (slug) ON UPDATE CASCADE);
SELECT slug FROM invite_sync.update_organization(org('outside'), slug => 'elsewhere');
SELECT slug, name FROM invite_sync.update_organization(org('outside'), 'Still outside');
DROP TABLE organization_app.of_superuser;
CREATE TABLE organization_app.by_slug (slug text REFERENCES invite_sync.organization (slug) ON UPDATE CASCADE);
ALTER TABLE organization_app.by_slug OWNER TO organization_app;
INSERT INTO organization_app.by_slug VALUES ('outside');
CREATE TRIGGER hear_after AFTER UPDATE ON organization_app.by_slug FOR EACH ROW EXECUTE FUNCTION organization_test.hear();
CREATE TRIGGER hear_statement AFTER UPDATE ON organization_app.by_slug FOR EACH STATEMENT EXECUTE FUNCTION organization_test.hear();
SELECT slug FROM invite_sync.update_organization(org('outside'), slug => 'elsewhere');
SELECT slug FROM invite_sync.update_organization(org('elsewhere'), slug => 'acme');
SELECT slug FROM invite_sync.update_organization(org('elsewhere'), slug => 'outside');
SELECT * FROM organization_app.by_slug;
SELECT what, op, as_role, super, count(*) FROM organization_test.heard GROUP BY 1, 2, 3, 4 ORDER BY 1;
DROP TABLE organization_app.by_slug;
SELECT claim(:ann) \g /dev/null
-- NO ACTION is the application's word
CREATE TABLE organization_app.keeps (org uuid CONSTRAINT keeps_org REFERENCES invite_sync.organization);
ALTER TABLE organization_app.keeps OWNER TO organization_app;
INSERT INTO organization_app.keeps VALUES (org('doomed-below'));
\set VERBOSITY sqlstate
SET ROLE authenticated;
SELECT slug FROM invite_sync.delete_organization(org('doomed'), true);
RESET ROLE;
\set VERBOSITY default
DROP TABLE organization_app.keeps;
TRUNCATE organization_test.heard;
SET ROLE authenticated;
SELECT slug, name FROM invite_sync.delete_organization(org('doomed'), true);
SELECT org('doomed'), org('doomed-below');
RESET ROLE;
RESET request.jwt.claims;
SELECT what, op, as_role, super, count(*) FROM organization_test.heard WHERE what LIKE '%row' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3;
SELECT DISTINCT what, op FROM organization_test.heard WHERE what NOT LIKE '%row' ORDER BY 1, 2;
SELECT count(*) > 10 AS heard, bool_or(super OR as_role = 'invite_sync_owner') AS as_us FROM organization_test.heard;
SELECT id, org = org('acme') AS acme, org_slug FROM organization_app.document ORDER BY id;
SELECT * FROM organization_app.page;
SELECT id, org = org('acme') AS acme FROM organization_app.part;
SELECT tableoid::regclass, id FROM organization_app.parent ORDER BY id;
SELECT id FROM organization_app.forced;
SELECT count(*) AS kept, count("Who") AS members, count("Where") AS places FROM organization_app."Odd ""Table";
SELECT r.name FROM organization_app.by_default AS d JOIN invite_sync.role AS r ON r.id = d.role;
SELECT count(*) FROM organization_app.seat;
-- nothing of it is left
SELECT count(*) FROM invite_sync.membership AS m WHERE NOT EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.id = m.organization_id);
SELECT count(*) FROM invite_sync.membership_removal;
SELECT count(*) FROM invite_sync.join_request;
SELECT count(*) FROM invite_sync.role WHERE name = 'writer';
SELECT count(*) FROM invite_sync.role_permission;
SELECT kind, action, split_part(u.email, '@', 1) AS actor, target_type, data->'with' <> 'null' AS with_another FROM invite_sync.event AS e JOIN auth.users AS u ON u.id = e.actor_id
 WHERE action = 'organization.deleted' ORDER BY with_another;
-- by a DBA, whose statement it is
DELETE FROM invite_sync.organization WHERE slug = 'acme-two' RETURNING slug;
SELECT count(*) FROM invite_sync.membership AS m WHERE NOT EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.id = m.organization_id);
-- service, and an organization without members
SET ROLE service_role;
SELECT slug, created_by FROM invite_sync.delete_organization(org('ownerless'));
RESET ROLE;

-- no text of anybody's in what is logged
SELECT count(*) FROM invite_sync.event WHERE action LIKE 'organization.%' AND (data::text ~* 'acme|sales|@' OR target_id !~ '^[0-9a-f-]{36}$');

SET client_min_messages = warning;
DROP SCHEMA organization_app CASCADE;
DROP OWNED BY organization_app, organization_other;
DROP ROLE organization_app, organization_other;
DELETE FROM invite_sync.organization;
DELETE FROM invite_sync.role WHERE NOT built_in;
DELETE FROM auth.users WHERE email LIKE '%@org.example' OR id = :anonymous;
DROP SCHEMA organization_test CASCADE;
