--
-- Members, roles, requests to join: who may, what is refused, what the tables hold against direct DML, and what
-- becomes of it when users go.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA membership_test;
SET search_path = public, membership_test;
\pset null (null)

CREATE FUNCTION membership_test.u(name text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT u.id FROM auth.users AS u WHERE u.email = $1 || '@team.example' OR u.raw_user_meta_data->>'nick' = $1),
	                      'b0000000-0000-4000-8000-0000000000ff') $$;
CREATE FUNCTION membership_test.org(slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT coalesce((SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1), 'c0000000-0000-4000-8000-0000000000ff') $$;
CREATE FUNCTION membership_test.request(name text, slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT j.id FROM invite_sync.join_request AS j WHERE j.user_id = membership_test.u($1) AND j.organization_id = membership_test.org($2)
	      ORDER BY j.created_at DESC, j.status = 'pending' DESC LIMIT 1 $$;
-- Calls a function of ours as somebody (NULL: a service) and tells the answer without ids and times, or the refusal.
CREATE FUNCTION membership_test.try(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
	state text;
BEGIN
	IF who IS NOT NULL THEN
		PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', membership_test.u(who), 'role', 'authenticated')::text, true),
			set_config('role', 'authenticated', true);
	END IF;
	EXECUTE format($f$ SELECT string_agg((SELECT string_agg(e.key || '=' || coalesce(e.value #>> '{}', 'null'), ' ' ORDER BY e.key)
			FROM jsonb_each(to_jsonb(x)) AS e WHERE e.key !~ '(_id|_at|_by|^since|^cursor)$' AND e.value <> 'null'), E'\n') FROM invite_sync.%s AS x $f$, call) INTO answer;
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN coalesce('ok ' || answer, 'nothing');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	RETURN concat_ws(' ', state, CASE WHEN state LIKE 'PT%' THEN regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g') ELSE SQLERRM END);
END
$$;
GRANT USAGE ON SCHEMA membership_test TO anon, authenticated, service_role;
CREATE VIEW membership_test.members AS
	SELECT o.slug, string_agg(coalesce(u.raw_user_meta_data->>'nick', '?') || ':' || coalesce(r.name, '?'), ' ' ORDER BY u.raw_user_meta_data->>'nick') AS members
	  FROM invite_sync.membership AS m JOIN invite_sync.organization AS o ON o.id = m.organization_id
	  LEFT JOIN invite_sync.role AS r ON r.id = m.role_id LEFT JOIN auth.users AS u ON u.id = m.user_id GROUP BY o.slug ORDER BY o.slug;
CREATE FUNCTION membership_test.copy(name text) RETURNS text LANGUAGE sql
	AS $$ SELECT (SELECT string_agg(coalesce((SELECT o.slug FROM invite_sync.organization AS o WHERE o.id = (e->>'id')::uuid), 'gone') || ':' || (e->>'role'), ' ' ORDER BY n)
	                FROM jsonb_array_elements(u.raw_app_meta_data->'invite_sync'->'organizations') WITH ORDINALITY AS x (e, n))
	             || coalesce(' platform:' || (u.raw_app_meta_data->'invite_sync'->>'platform_role'), '')
	             || coalesce(' truncated:' || (u.raw_app_meta_data->'invite_sync'->>'truncated'), '')
	        FROM auth.users AS u WHERE u.id = membership_test.u($1) $$;
CREATE VIEW membership_test.events AS
	SELECT e.kind, e.action, a.raw_user_meta_data->>'nick' AS actor, o.slug AS organization, e.target_type,
		t.raw_user_meta_data->>'nick' AS target, e.data ? 'role_id' AS role
	  FROM invite_sync.event AS e LEFT JOIN auth.users AS a ON a.id = e.actor_id LEFT JOIN auth.users AS t ON t.id::text = e.target_id
	  LEFT JOIN invite_sync.organization AS o ON o.id = e.organization_id ORDER BY e.id DESC;

INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous, banned_until, deleted_at, raw_user_meta_data, last_sign_in_at)
	SELECT ('b0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, CASE WHEN name <> 'anonymous' THEN name || '@team.example' END,
		CASE WHEN name NOT IN ('unverified', 'anonymous') THEN '2020-01-01'::timestamptz END, name = 'anonymous',
		CASE WHEN name = 'banned' THEN 'infinity'::timestamptz END, CASE WHEN name = 'deleted' THEN '2020-01-01'::timestamptz END,
		jsonb_build_object('nick', name, 'full_name', upper(name), 'avatar_url', 'https://a.example/' || name), '2020-02-02 02:02:02+00'
	FROM unnest(ARRAY['ann', 'bob', 'cid', 'dan', 'eve', 'fay', 'gus', 'hal', 'ida', 'jon', 'unverified', 'anonymous', 'banned', 'deleted'])
		WITH ORDINALITY AS x (name, n);
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES
	('c0000000-0000-4000-8000-000000000001', 'Acme', 'acme', NULL),
	('c0000000-0000-4000-8000-000000000002', 'Acme Labs', 'labs', 'c0000000-0000-4000-8000-000000000001'),
	('c0000000-0000-4000-8000-000000000003', 'Bolt', 'bolt', NULL);
INSERT INTO invite_sync.membership (organization_id, user_id, role_id, created_at) VALUES
	(org('acme'), u('ann'), '00000000-0000-4000-8000-00000000000a', '2020-01-01'),
	(org('bolt'), u('jon'), '00000000-0000-4000-8000-00000000000a', '2020-01-01');
SELECT invite_sync.attach() IS NOT NULL AS attached;
\pset tuples_only on

--
-- Adding
--
SELECT try('ann', $$add_member(org('acme'), u('bob'), 'admin')$$);
SELECT * FROM events LIMIT 1;
SELECT try('bob', $$add_member(org('acme'), u('cid'))$$);
SELECT m.added_by = u('bob'), m.created_at = m.updated_at FROM invite_sync.membership AS m WHERE m.user_id = u('cid');
-- what cannot be
SELECT try('ann', $$add_member(org('acme'), u('bob'), 'member')$$);
SELECT try('ann', $$add_member(org('acme'), u('nobody'))$$);
SELECT try('ann', $$add_member(org('acme'), u('deleted'))$$);
SELECT try('ann', $$add_member(org('acme'), u('banned'))$$);
SELECT try('ann', $$add_member(org('acme'), u('anonymous'))$$);
SELECT try('ann', $$add_member(org('acme'), u('dan'), 'king')$$);
SELECT try('ann', $$add_member(NULL, u('dan'))$$);
SELECT try('ann', $$add_member(org('acme'), NULL)$$);
SELECT try('ann', $$add_member(org('acme'), u('dan'), NULL)$$);
-- who cannot
SELECT try('cid', $$add_member(org('acme'), u('dan'))$$);
SELECT try('dan', $$add_member(org('acme'), u('dan'))$$);
SELECT try('dan', $$add_member(org('none'), u('dan'))$$);
SELECT try('anonymous', $$add_member(org('acme'), u('dan'))$$);
SELECT try('banned', $$add_member(org('acme'), u('dan'))$$);
SELECT try('deleted', $$add_member(org('acme'), u('dan'))$$);
SELECT try('nobody', $$add_member(org('acme'), u('dan'))$$);
-- an admin makes admins, and no owner
SELECT try('bob', $$add_member(org('acme'), u('dan'), 'owner')$$);
SELECT try('bob', $$add_member(org('acme'), u('dan'), 'admin')$$);
-- a service does as it likes, but not what cannot be
SELECT try(NULL, $$add_member(org('bolt'), u('ida'), 'owner')$$);
SELECT try(NULL, $$add_member(org('bolt'), u('ida'))$$);
SELECT try(NULL, $$add_member(org('none'), u('ida'))$$);
SELECT try(NULL, $$add_member(org('bolt'), u('banned'))$$);
SELECT added_by FROM invite_sync.membership WHERE user_id = u('ida');
SELECT * FROM members;
-- anon has no function of these
SET ROLE anon;
SELECT invite_sync.add_member('c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001');
RESET ROLE;

--
-- Above and below: who is a member above is one below, with the same rights
--
SELECT try('ann', $$add_member(org('labs'), u('eve'), 'owner')$$);
SELECT try('cid', $$list_members(org('labs'))$$);
SELECT try('eve', $$list_members(org('acme'))$$);
SELECT try('bob', $$add_member(org('labs'), u('fay'))$$);
-- below they cannot be changed, only where they are a member
SELECT try('eve', $$remove_member(org('labs'), u('ann'))$$);
SELECT try('eve', $$set_member_role(org('labs'), u('bob'), 'member')$$);
-- bob is admin above: eve, owner below, may add him there too, and fay, a member, may not
SELECT try('fay', $$add_member(org('labs'), u('bob'))$$);
SELECT try('eve', $$add_member(org('labs'), u('bob'))$$);
-- ann is the owner above: whoever is no owner does not give her anything below
SELECT try('bob', $$add_member(org('labs'), u('ann'))$$);
SELECT try('eve', $$add_member(org('labs'), u('ann'))$$);
SELECT try('bob', $$set_member_role(org('labs'), u('ann'), 'admin')$$);
SELECT try('bob', $$remove_member(org('labs'), u('ann'))$$);
SELECT try('eve', $$remove_member(org('labs'), u('ann'))$$);
SELECT try('eve', $$remove_member(org('labs'), u('bob'))$$);

--
-- Changing what members are
--
SELECT try('bob', $$set_member_role(org('acme'), u('cid'), 'admin')$$);
SELECT * FROM events LIMIT 1;
SELECT try('bob', $$set_member_role(org('acme'), u('cid'), 'member')$$);
SELECT count(*) AS before FROM invite_sync.event \gset
SELECT try('bob', $$set_member_role(org('acme'), u('cid'), 'member')$$);
SELECT count(*) = :before AS said_nothing FROM invite_sync.event;
-- nobody raises themselves
SELECT try('bob', $$set_member_role(org('acme'), u('bob'), 'owner')$$);
SELECT try('cid', $$set_member_role(org('acme'), u('cid'), 'admin')$$);
-- only an owner makes or unmakes one
SELECT try('bob', $$set_member_role(org('acme'), u('dan'), 'owner')$$);
SELECT try('bob', $$set_member_role(org('acme'), u('ann'), 'member')$$);
SELECT try('bob', $$remove_member(org('acme'), u('ann'))$$);
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'owner')$$);
SELECT try('dan', $$set_member_role(org('acme'), u('ann'), 'admin')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'admin')$$);
SELECT try('dan', $$set_member_role(org('acme'), u('ann'), 'owner')$$);
-- the last one stays
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'admin')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('ann'), 'admin')$$);
SELECT try('ann', $$leave_organization(org('acme'))$$);
SELECT try('ann', $$remove_member(org('acme'), u('ann'))$$);
SELECT try(NULL, $$remove_member(org('acme'), u('ann'))$$);
-- an owner above is no owner of the one below, which needs its own
SELECT try('ann', $$set_member_role(org('labs'), u('eve'), 'admin')$$);
-- who cannot, what cannot be
SELECT try('gus', $$set_member_role(org('acme'), u('cid'), 'admin')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('gus'), 'admin')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('cid'), 'king')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('cid'), NULL)$$);
SELECT try('ann', $$set_member_role(org('acme'), NULL, 'member')$$);
SELECT try('ann', $$set_member_role(NULL, u('cid'), 'member')$$);
SELECT * FROM members;

--
-- Custom roles: what is given, and what who is acted on has
--
SET ROLE postgres;
SELECT permission, description, built_in FROM invite_sync.create_permission('documents.read', 'read documents');
SELECT permission, description, built_in FROM invite_sync.create_permission('documents.write', 'write documents');
SELECT permission FROM invite_sync.create_permission('platform.billing', 'bills');
SELECT role, permissions, built_in, organization_id IS NULL AS global FROM invite_sync.create_role('auditor', '{members.read,organization.read}');
RESET ROLE;
SELECT try('ann', $$create_role('reader', '{documents.read,members.read,organization.read}', org('acme'))$$);
SELECT try('ann', $$create_role('writer', '{documents.write,documents.read,members.read,organization.read}', org('acme'))$$);
SELECT try('ann', $$create_role('pen', '{documents.write}', org('acme'))$$);
SELECT try('ann', $$create_role('hr', '{documents.read,members.add,members.remove,members.set_role,members.read,organization.read,roles.manage}', org('acme'))$$);
SELECT try('ann', $$create_role('hr2', '{documents.read,members.add,members.remove,members.set_role,members.read,organization.read,roles.manage}', org('acme'))$$);
SELECT * FROM events LIMIT 1;
SELECT try('ann', $$add_member(org('acme'), u('hal'), 'hr')$$);
SELECT try('ann', $$add_member(org('acme'), u('gus'), 'writer')$$);
-- giving: subset, equal; superset, overlap, disjoint
SELECT try('hal', $$set_member_role(org('acme'), u('cid'), 'reader')$$);
SELECT try('hal', $$set_member_role(org('acme'), u('cid'), 'hr2')$$);
SELECT try('hal', $$set_member_role(org('acme'), u('cid'), 'admin')$$);
SELECT try('hal', $$set_member_role(org('acme'), u('cid'), 'writer')$$);
SELECT try('hal', $$set_member_role(org('acme'), u('cid'), 'pen')$$);
-- taking: from who has the same, and from who has something else too
SELECT try('hal', $$set_member_role(org('acme'), u('cid'), 'member')$$);
SELECT try('hal', $$set_member_role(org('acme'), u('gus'), 'member')$$);
SELECT try('hal', $$remove_member(org('acme'), u('gus'))$$);
SELECT try('hal', $$remove_member(org('acme'), u('dan'))$$);
SELECT try('ann', $$set_member_role(org('acme'), u('gus'), 'pen')$$);
SELECT try('hal', $$remove_member(org('acme'), u('gus'))$$);
SELECT try('ann', $$set_member_role(org('acme'), u('gus'), 'reader')$$);
SELECT try('hal', $$remove_member(org('acme'), u('gus'))$$);
SELECT try('hal', $$add_member(org('acme'), u('gus'), 'writer')$$);
SELECT try('hal', $$add_member(org('acme'), u('gus'), 'auditor')$$);
-- themselves: what they have they may give up
SELECT try('hal', $$set_member_role(org('acme'), u('hal'), 'admin')$$);
-- a role above can be given below, and one below not above
SELECT try('ann', $$create_role('lab-rat', '{organization.read}', org('labs'))$$);
SELECT try('ann', $$set_member_role(org('labs'), u('fay'), 'reader')$$);
SELECT try('ann', $$set_member_role(org('labs'), u('fay'), 'lab-rat')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('cid'), 'lab-rat')$$);
SELECT try('jon', $$add_member(org('bolt'), u('cid'), 'reader')$$);
-- every permission is not ownership: who has a role with all of them makes no owner, nor unmakes one
SELECT try('ann', format($$create_role('everything', %s, org('acme'))$$,
	(SELECT quote_literal(array_agg(p.name)) FROM invite_sync.permission AS p WHERE p.name NOT LIKE 'platform.%')));
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'everything')$$);
SELECT try('dan', $$set_member_role(org('acme'), u('cid'), 'owner')$$);
SELECT try('dan', $$set_member_role(org('acme'), u('ann'), 'member')$$);
SELECT try('dan', $$remove_member(org('acme'), u('ann'))$$);
SELECT try('dan', $$transfer_ownership(org('acme'), u('dan'))$$);
SELECT try('dan', $$set_member_role(org('acme'), u('dan'), 'admin')$$);

--
-- Editing roles
--
-- again: nothing; with others: set
SET client_min_messages = notice;
SELECT try('ann', $$create_role('reader', '{organization.read,members.read,documents.read,documents.read}', org('acme'))$$);
SELECT try('ann', $$set_role_permissions('reader', '{organization.read,members.read,documents.read}', org('acme'))$$);
SET ROLE postgres;
SELECT permission FROM invite_sync.create_permission('documents.read', 'read documents');
RESET ROLE;
SET client_min_messages = warning;
SELECT try('ann', $$create_role('reader', '{documents.read}', org('acme'))$$);
SELECT * FROM events LIMIT 1;
SELECT try('ann', $$set_role_permissions('reader', '{}', org('acme'))$$);
SELECT try('ann', $$set_role_permissions('reader', '{documents.read,members.read,organization.read}', org('acme'))$$);
-- who edits has what it has and is to have
SELECT try('hal', $$set_role_permissions('reader', '{documents.read}', org('acme'))$$);
SELECT try('hal', $$set_role_permissions('reader', '{documents.read,documents.write}', org('acme'))$$);
SELECT try('hal', $$set_role_permissions('writer', '{documents.read}', org('acme'))$$);
SELECT try('hal', $$set_role_permissions('hr', '{documents.read,members.add,organization.delete}', org('acme'))$$);
SELECT try('hal', $$drop_role('pen', org('acme'))$$);
SELECT try('hal', $$create_role('mine', '{documents.write}', org('acme'))$$);
SELECT try('hal', $$create_role('mine', '{documents.read}', org('acme'))$$);
SELECT try('hal', $$drop_role('mine', org('acme'))$$);
SELECT try('cid', $$create_role('mine', '{organization.read}', org('acme'))$$);
SELECT try('jon', $$create_role('mine', '{organization.read}', org('acme'))$$);
SELECT try('jon', $$set_role_permissions('reader', '{organization.read}', org('bolt'))$$);
-- below, a role of above is not one's own
SELECT try('eve', $$set_role_permissions('reader', '{organization.read}', org('labs'))$$);
SELECT try('eve', $$drop_role('reader', org('labs'))$$);
-- names: not twice on one way down, not that of a global role
SELECT try('eve', $$create_role('reader', '{organization.read}', org('labs'))$$);
SELECT try('ann', $$create_role('lab-rat', '{organization.read}', org('acme'))$$);
SELECT try('ann', $$create_role('auditor', '{organization.read}', org('acme'))$$);
SELECT try('ann', $$create_role('owner', '{organization.read}', org('acme'))$$);
SELECT try('jon', $$create_role('reader', '{organization.read}', org('bolt'))$$);
-- no organization keeps a name from the platform: the global role has it too, and the name means that one then, nowhere
-- an organization's own, which stays what it is for who has it
BEGIN;
SELECT try('ann', $$set_member_role(org('acme'), u('gus'), 'reader')$$);
SET LOCAL client_min_messages = notice;
SELECT try(NULL, $$create_role('reader', '{organization.read}')$$);
SELECT try(NULL, $$create_role('reader', '{organization.read}')$$);
SET LOCAL client_min_messages = warning;
SELECT try(NULL, $$create_role('everything', '{organization.read,members.read}')$$);
SELECT try('ann', $$add_member(org('acme'), u('ida'), 'reader')$$);
SELECT try(NULL, $$add_member(org('bolt'), u('gus'), 'everything')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('hal'), 'everything')$$);
SELECT o.slug, u.raw_user_meta_data->>'nick', r.name, r.organization_id IS NULL AS global, invite_sync.role_permissions(r.id)
  FROM invite_sync.membership AS m JOIN invite_sync.role AS r ON r.id = m.role_id JOIN invite_sync.organization AS o ON o.id = m.organization_id
  JOIN auth.users AS u ON u.id = m.user_id WHERE r.name IN ('reader', 'everything') ORDER BY 1, 2;
-- no more of them; those there are can be changed, and dropped when nobody has them any more
SELECT try('jon', $$create_role('everything', '{}', org('bolt'))$$);
SELECT try('ann', $$create_role('everything', '{}', org('labs'))$$);
SELECT try('ann', $$set_role_permissions('reader', '{documents.read}', org('acme'))$$);
SELECT try(NULL, $$list_roles(org('acme'), page_size => 500)$$) LIKE '%permissions=["documents.read"] role=reader%' AS listed;
SELECT try('ann', $$drop_role('reader', org('acme'))$$);
SELECT try('ann', $$set_member_role(org('acme'), u('gus'), 'reader')$$);
SELECT try('ann', $$drop_role('reader', org('acme'))$$);
-- without the global one the name is the organization's own again
SELECT try('ann', $$set_member_role(org('acme'), u('hal'), 'hr')$$), try(NULL, $$set_member_role(org('bolt'), u('gus'), 'member')$$);
SELECT try(NULL, $$drop_role('everything')$$);
SELECT r.organization_id IS NULL AS global FROM invite_sync.role AS r WHERE r.id = invite_sync.role_id_of('everything', org('labs'));
ROLLBACK;
SELECT try('ann', $$create_role('Reader', '{}', org('acme'))$$);
SELECT try('ann', $$create_role('', '{}', org('acme'))$$);
SELECT try('ann', $$create_role(E're\u202eader', '{}', org('acme'))$$);
SELECT try('ann', $$create_role('1st', '{}', org('acme'))$$);
SELECT try('ann', $$create_role(repeat('a', 64), '{}', org('acme'))$$);
SELECT try('ann', $$create_role(repeat('a', 63), '{}', org('acme'))$$ ) = 'ok built_in=false permissions=[] role=' || repeat('a', 63);
SELECT try('ann', $$drop_role(repeat('a', 63), org('acme'))$$) LIKE 'ok %';
SELECT try('ann', $$create_role(NULL, '{}', org('acme'))$$);
-- permissions: known ones, and the platform's in global roles only
SELECT try('ann', $$create_role('x', '{nothing.known}', org('acme'))$$);
SELECT try('ann', $$create_role('x', '{NULL}', org('acme'))$$);
SELECT try('ann', $$create_role('x', NULL, org('acme'))$$);
SELECT try('ann', $$create_role('x', '{{documents.read},{documents.write}}', org('acme'))$$);
SELECT try('ann', $$create_role('x', '{platform.admin}', org('acme'))$$);
SELECT try(NULL, $$create_role('x', '{platform.admin}', org('acme'))$$);
-- what is built in stays, what is in use stays
SELECT try(NULL, $$create_role('admin', '{organization.read}')$$);
SELECT try(NULL, $$set_role_permissions('member', '{}')$$);
SELECT try(NULL, $$drop_role('owner')$$);
SELECT try('ann', $$drop_role('hr', org('acme'))$$);
SELECT try('ann', $$drop_role('none', org('acme'))$$);
SELECT try('ann', $$set_role_permissions('none', '{}', org('acme'))$$);
SELECT try('ann', $$drop_role('pen', org('acme'))$$);
SELECT * FROM events LIMIT 1;
SELECT count(*) FROM invite_sync.role_permission AS rp WHERE NOT EXISTS (SELECT FROM invite_sync.role AS r WHERE r.id = rp.role_id);
-- global ones are a service's
SELECT try('ann', $$create_role('everywhere', '{organization.read}')$$);
SELECT try('ann', $$set_role_permissions('auditor', '{}')$$);
SELECT try('ann', $$drop_role('auditor')$$);
SELECT try(NULL, $$drop_role('auditor')$$);
SELECT try(NULL, $$create_role('support', '{platform.billing,organization.read}')$$);
-- lists
SELECT try('cid', $$list_roles(org('acme'))$$);
SELECT try('jon', $$list_roles(org('acme'))$$);
SELECT try('jon', $$list_roles(page_size => 2)$$);
SELECT try('jon', $$list_roles(page_size => 500, after => (SELECT cursor FROM invite_sync.list_roles(page_size => 2) ORDER BY created_at LIMIT 1))$$);
SELECT try('jon', $$list_roles(page_size => 501)$$);
SELECT try('jon', $$list_roles(after => 'rubbish')$$);
SELECT try('jon', $$list_permissions(page_size => 3)$$);
SELECT try('jon', $$list_permissions(after => 'organization.z', page_size => 3)$$);
SELECT try('jon', $$list_permissions(page_size => 0)$$);
SELECT try('anonymous', $$list_permissions()$$);
-- permissions: an operator's
SELECT try('ann', $$create_permission('a.b', '')$$);
SET ROLE service_role;
SELECT invite_sync.create_permission('a.b', '');
RESET ROLE;
SELECT try(NULL, $$create_permission('nodot', '')$$);
SELECT try(NULL, $$create_permission('A.b', '')$$);
SELECT try(NULL, $$create_permission('a..b', '')$$);
SELECT try(NULL, $$create_permission('a.b.', '')$$);
SELECT try(NULL, $$create_permission('.a', '')$$);
SELECT try(NULL, $$create_permission('a.1', '')$$);
SELECT try(NULL, $$create_permission(repeat('a', 62) || '.b', '')$$);
SELECT try(NULL, $$create_permission('a.b', repeat('x', 501))$$);
SELECT try(NULL, $$create_permission('a.b', E'read\nall')$$);
SELECT try(NULL, $$create_permission('a.b', E'read \u202ella')$$);
SELECT try(NULL, $$create_permission(E'a.b\u200b', '')$$);
INSERT INTO invite_sync.permission (name, description) VALUES ('a.b', E'\u2066');
SELECT try(NULL, $$create_permission(NULL)$$);
SELECT try(NULL, $$create_permission('members.add', 'mine')$$);
SELECT try(NULL, $$drop_permission('members.add')$$);
SELECT try(NULL, $$drop_permission('none.such')$$);
SELECT try(NULL, $$create_permission('a_1.b_2', 'first')$$);
SELECT try(NULL, $$create_permission('a_1.b_2', 'second')$$);
SELECT try('ann', $$set_role_permissions('reader', '{a_1.b_2,documents.read}', org('acme'))$$);
SELECT try(NULL, $$drop_permission('a_1.b_2')$$);
SELECT try('ann', $$list_roles(org('acme'), page_size => 500)$$) LIKE '%permissions=["documents.read"] role=reader%' AS left_the_role;

-- what bounds the waits for locks ends with the call
BEGIN;
SELECT invite_sync.create_role('passing', '{}') IS NULL, invite_sync.drop_role('passing') IS NULL;
SELECT invite_sync.create_permission('pass.ing') IS NULL, invite_sync.drop_permission('pass.ing') IS NULL;
SHOW lock_timeout;
ROLLBACK;

--
-- Platform roles
--
SELECT try('ann', $$set_platform_role(u('ann'), 'admin')$$);
SET ROLE authenticated;
SELECT invite_sync.set_platform_role('b0000000-0000-4000-8000-000000000001', 'admin');
RESET ROLE;
SELECT try(NULL, $$set_platform_role(u('ida'), 'support')$$);
SELECT * FROM events LIMIT 1;
SELECT copy('ida');
SELECT try(NULL, $$drop_role('support')$$);
SELECT try(NULL, $$set_platform_role(u('ida'), 'admin')$$);
SELECT try(NULL, $$set_platform_role(u('ida'), 'reader')$$);
SELECT try(NULL, $$set_platform_role(u('nobody'), 'admin')$$);
SELECT try(NULL, $$set_platform_role(u('banned'), 'admin')$$);
SELECT try(NULL, $$set_platform_role(u('anonymous'), 'admin')$$);
SELECT try(NULL, $$set_platform_role(NULL, 'admin')$$);
-- it gives nothing in an organization
SELECT try('ida', $$list_members(org('acme'))$$);
SELECT try(NULL, $$set_platform_role(u('ida'), NULL)$$);
SELECT copy('ida');
SELECT try(NULL, $$set_platform_role(u('nobody'), NULL)$$);

--
-- Removing leaves a mark, leaving does not
--
CREATE TABLE membership_test.desk (id int PRIMARY KEY, membership_id uuid REFERENCES invite_sync.membership (id) ON DELETE SET NULL);
ALTER SCHEMA membership_test OWNER TO postgres;
ALTER TABLE membership_test.desk OWNER TO postgres;
INSERT INTO membership_test.desk SELECT 1, m.id FROM invite_sync.membership AS m WHERE m.user_id = u('cid');
SELECT try('bob', $$remove_member(org('acme'), u('cid'))$$);
SELECT * FROM events LIMIT 1;
SELECT * FROM membership_test.desk;
SELECT x.removed_by = u('bob') AS by_bob, x.user_id = u('cid') AS cid FROM invite_sync.membership_removal AS x WHERE x.user_id = u('cid');
SELECT try('cid', $$list_members(org('acme'))$$);
SELECT try('bob', $$remove_member(org('acme'), u('cid'))$$);
SELECT try('bob', $$add_member(org('acme'), u('cid'))$$);
SELECT count(*) FROM invite_sync.membership_removal AS x WHERE x.user_id = u('cid');
SELECT try('cid', $$leave_organization(org('acme'))$$);
SELECT * FROM events LIMIT 1;
SELECT count(*) FROM invite_sync.membership_removal AS x WHERE x.user_id = u('cid');
SELECT try('cid', $$leave_organization(org('acme'))$$);
SELECT try('bob', $$leave_organization(org('labs'))$$);
SELECT try('bob', $$leave_organization(NULL)$$);
SELECT try(NULL, $$leave_organization(org('acme'))$$);
SELECT try('hal', $$remove_member(org('acme'), u('dan'))$$);
SELECT try('gus', $$remove_member(org('acme'), u('hal'))$$);
SELECT try('jon', $$remove_member(org('acme'), u('hal'))$$);
SELECT try('ann', $$remove_member(org('acme'), NULL)$$);
-- the last member may go, whatever they are
SELECT try(NULL, $$remove_member(org('bolt'), u('ida'))$$);
SELECT try('jon', $$leave_organization(org('bolt'))$$);
SELECT severity, area, object = org('bolt')::text AS bolt, finding, detail FROM invite_sync.verify() WHERE area = 'organization';
SELECT try(NULL, $$add_member(org('bolt'), u('jon'), 'owner')$$);

--
-- Passing ownership on
--
SELECT try('bob', $$transfer_ownership(org('acme'), u('bob'))$$);
SELECT try('ann', $$transfer_ownership(org('acme'), u('ann'))$$);
SELECT try('ann', $$transfer_ownership(org('acme'), u('cid'))$$);
SELECT try('ann', $$transfer_ownership(org('acme'), NULL)$$);
SELECT try('ann', $$transfer_ownership(org('acme'), u('bob'))$$);
SELECT * FROM events LIMIT 1;
SELECT copy('ann'), copy('bob');
SELECT try('ann', $$transfer_ownership(org('acme'), u('ann'))$$);
-- an owner above passes on what the only owner below has
SELECT try('bob', $$transfer_ownership(org('labs'), u('fay'))$$);
SELECT members FROM members WHERE slug = 'labs';
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'owner')$$);
-- of several, only their own
SELECT try('bob', $$transfer_ownership(org('labs'), u('fay'))$$);
SELECT try(NULL, $$transfer_ownership(org('labs'), u('fay'))$$);
SELECT try('eve', $$transfer_ownership(org('labs'), u('fay'))$$);
SELECT try(NULL, $$transfer_ownership(org('acme'), u('ann'))$$);
UPDATE auth.users SET banned_until = 'infinity' WHERE id = u('dan');
SELECT try('ann', $$transfer_ownership(org('acme'), u('dan'))$$);
-- who could not be added is not made an owner, however it is done; made less they are
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'owner')$$);
SELECT try(NULL, $$set_member_role(org('acme'), u('dan'), 'owner')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'member')$$);
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'admin')$$);
UPDATE auth.users SET banned_until = NULL, is_anonymous = true WHERE id = u('dan');
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'owner')$$);
SELECT try('ann', $$transfer_ownership(org('acme'), u('dan'))$$);
UPDATE auth.users SET is_anonymous = false WHERE id = u('dan');
-- deleted while the triggers were off
SET session_replication_role = replica;
UPDATE auth.users SET deleted_at = now() WHERE id = u('dan');
SELECT try('ann', $$set_member_role(org('acme'), u('dan'), 'owner')$$);
SELECT try('ann', $$transfer_ownership(org('acme'), u('dan'))$$);
UPDATE auth.users SET deleted_at = NULL WHERE id = u('dan');
RESET session_replication_role;
SELECT * FROM members;

--
-- Looking
--
UPDATE invite_sync.membership AS m SET created_at = '2020-01-01'::timestamptz + x.n * '1 day'::interval
  FROM (SELECT s.id, row_number() OVER (ORDER BY s.user_id) AS n FROM invite_sync.membership AS s WHERE s.organization_id = org('acme')) AS x WHERE x.id = m.id;
SELECT try('gus', $$list_members(org('acme'))$$);
SET ROLE authenticated;
BEGIN READ ONLY;
SELECT set_config('request.jwt.claims', jsonb_build_object('sub', u('gus'), 'role', 'authenticated')::text, true) IS NULL;
SELECT display_name, joined_at, last_sign_in_at FROM invite_sync.list_members(org('acme'), page_size => 2);
SELECT cursor AS after FROM invite_sync.list_members(org('acme'), page_size => 2) ORDER BY joined_at LIMIT 1 \gset
SELECT display_name FROM invite_sync.list_members(org('acme'), :'after', 2);
SELECT (invite_sync.get_member(org('acme'), u('ann'))).role, (invite_sync.get_member(org('acme'), u('gus'))).email;
COMMIT;
RESET ROLE;
SELECT try('gus', $$list_members(org('acme'), page_size => 0)$$);
SELECT try('gus', $$list_members(org('acme'), page_size => 501)$$);
SELECT try('gus', $$list_members(org('acme'), after => 'x')$$);
SELECT try('gus', $$list_members(org('acme'), after => '1.x')$$);
SELECT try('gus', $$list_members(NULL)$$);
SELECT try('jon', $$list_members(org('acme'))$$);
SELECT try('jon', $$list_members(org('none'))$$);
SELECT try('anonymous', $$list_members(org('acme'))$$);
SELECT try('ann', $$get_member(org('acme'), u('jon'))$$);
SELECT try('jon', $$get_member(org('acme'), u('ann'))$$);
SELECT try('jon', $$get_member(org('acme'), u('jon'))$$);
SELECT try(NULL, $$get_member(org('acme'), u('bob'))$$);
-- members.read is asked for, but by those who look at themselves
SELECT try('ann', $$create_role('blind', '{organization.read}', org('acme'))$$);
SELECT try('ann', $$set_member_role(org('acme'), u('gus'), 'blind')$$);
SELECT try('gus', $$list_members(org('acme'))$$);
SELECT try('gus', $$get_member(org('acme'), u('ann'))$$);
SELECT try('gus', $$get_member(org('acme'), u('gus'))$$);

--
-- Requests to join
--
SELECT try('cid', $$request_to_join(org('bolt'))$$);
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment) VALUES
	(org('bolt'), 'team.example', 'x', now(), 'suggest');
SELECT try('cid', $$suggested_organizations()$$);
SELECT try('cid', $$request_to_join(org('bolt'), 'Let me in')$$);
SELECT * FROM events LIMIT 1;
SELECT try('cid', $$request_to_join(org('bolt'), 'Again')$$);
SELECT count(*) FROM invite_sync.join_request;
SELECT try('cid', $$suggested_organizations()$$);
SELECT try('cid', $$request_to_join(org('acme'))$$);
SELECT try('cid', $$request_to_join(org('none'))$$);
SELECT try('cid', $$request_to_join(org('bolt'), repeat('x', 1001))$$);
SELECT try('cid', $$request_to_join(NULL)$$);
SELECT try('unverified', $$request_to_join(org('bolt'))$$);
SELECT try('unverified', $$suggested_organizations()$$);
SELECT try('anonymous', $$request_to_join(org('bolt'))$$);
SELECT try('banned', $$request_to_join(org('bolt'))$$);
SELECT try('deleted', $$request_to_join(org('bolt'))$$);
SELECT try(NULL, $$request_to_join(org('bolt'))$$);
SELECT try('jon', $$request_to_join(org('bolt'))$$);
-- by single sign-on only where the domain is the provider's
UPDATE auth.users SET is_sso_user = true WHERE id = u('dan');
SELECT try('dan', $$request_to_join(org('bolt'))$$);
INSERT INTO auth.sso_providers (id) VALUES ('d0000000-0000-4000-8000-000000000001');
INSERT INTO auth.sso_domains (id, sso_provider_id, domain) VALUES ('d0000000-0000-4000-8000-000000000002', 'd0000000-0000-4000-8000-000000000001', 'Team.example');
INSERT INTO auth.identities (id, provider_id, user_id, provider, identity_data) VALUES
	('d0000000-0000-4000-8000-000000000003', 'x', u('dan'), 'sso:d0000000-0000-4000-8000-000000000001', '{}');
SELECT try('dan', $$request_to_join(org('bolt'))$$);
-- a subdomain is another domain, and capitals are not
UPDATE auth.users SET email = 'ida@sub.team.example' WHERE id = u('ida');
SELECT try('ida', $$request_to_join(org('bolt'))$$);
UPDATE auth.users SET email = 'Ida@Team.Example' WHERE id = u('ida');
SELECT try('ida', $$request_to_join(org('bolt'))$$);
-- who decides
SELECT try('jon', $$list_join_requests(org('bolt'))$$);
SELECT try('cid', $$list_join_requests(org('bolt'))$$);
SELECT try('jon', $$list_join_requests(org('bolt'), page_size => 1)$$);
SELECT try('cid', $$decide_join_request(request('cid', 'bolt'), true)$$);
SELECT try('ann', $$decide_join_request(request('cid', 'bolt'), true)$$);
SELECT try('ann', $$decide_join_request(org('none'), true)$$);
SELECT try('jon', $$decide_join_request(request('cid', 'bolt'), true, 'king')$$);
SELECT try('jon', $$decide_join_request(request('cid', 'bolt'), NULL)$$);
SELECT try('jon', $$decide_join_request(NULL, true)$$);
SELECT try('jon', $$decide_join_request(request('cid', 'bolt'), true)$$);
SELECT * FROM events LIMIT 2;
SELECT try('jon', $$decide_join_request(request('cid', 'bolt'), true)$$);
SELECT try('cid', $$list_join_requests(org('bolt'))$$);
SELECT try('cid', $$decide_join_request(request('dan', 'bolt'), true)$$);
SELECT try('jon', $$decide_join_request(request('dan', 'bolt'), false)$$);
SELECT try('dan', $$suggested_organizations()$$);
SELECT try('cid', $$cancel_join_request(request('ida', 'bolt'))$$);
SELECT try('ida', $$cancel_join_request(request('ida', 'bolt'))$$);
SELECT try('ida', $$cancel_join_request(request('ida', 'bolt'))$$);
SELECT try('ida', $$cancel_join_request(NULL)$$);
SELECT try('jon', $$list_join_requests(org('bolt'))$$);
SELECT try('jon', $$list_join_requests(org('bolt'), status => NULL)$$);
-- a decider gives no more than they have
SELECT try('jon', $$create_role('door', '{organization.read,members.add}', org('bolt'))$$);
SELECT try('jon', $$set_member_role(org('bolt'), u('cid'), 'door')$$);
SELECT try('ida', $$request_to_join(org('bolt'))$$);
SELECT try('cid', $$list_join_requests(org('bolt'))$$);
SELECT try('cid', $$decide_join_request(request('ida', 'bolt'), true)$$);
SELECT try('cid', $$decide_join_request(request('ida', 'bolt'), true, 'admin')$$);
SELECT try('cid', $$decide_join_request(request('ida', 'bolt'), true, 'door')$$);
-- auto: at once, as member, but nobody who was removed
UPDATE invite_sync.organization_domain SET enrollment = 'auto' WHERE organization_id = org('bolt');
SELECT try('dan', $$suggested_organizations()$$);
SELECT try('dan', $$request_to_join(org('bolt'))$$);
SELECT * FROM events LIMIT 2;
SELECT try('jon', $$remove_member(org('bolt'), u('dan'))$$);
SELECT try('dan', $$suggested_organizations()$$);
SELECT try('dan', $$request_to_join(org('bolt'), 'Sorry')$$);
SELECT display_name, message, removed_at IS NOT NULL FROM invite_sync.list_join_requests(org('bolt'));
SELECT members FROM members WHERE slug = 'bolt';
SELECT try('jon', $$decide_join_request(request('dan', 'bolt'), true)$$);
SELECT count(*) FROM invite_sync.membership_removal AS x WHERE x.organization_id = org('bolt');
-- who is added is no longer asking
SELECT try('jon', $$remove_member(org('bolt'), u('dan'))$$);
SELECT try('dan', $$request_to_join(org('bolt'), 'Please')$$);
SELECT try('jon', $$add_member(org('bolt'), u('dan'))$$);
SELECT try('jon', $$list_join_requests(org('bolt'))$$);
-- a domain that is not verified counts for nothing
UPDATE invite_sync.organization_domain SET enrollment = 'none', verified_at = NULL WHERE organization_id = org('bolt');
SELECT try('eve', $$request_to_join(org('bolt'))$$);

--
-- Seats
--
UPDATE invite_sync.organization SET seat_limit = 4 WHERE slug = 'bolt';
SELECT members FROM members WHERE slug = 'bolt';
SELECT try('jon', $$add_member(org('bolt'), u('eve'))$$);
UPDATE invite_sync.organization_domain SET enrollment = 'auto', verified_at = now() WHERE organization_id = org('bolt');
SELECT try('eve', $$request_to_join(org('bolt'))$$);
UPDATE invite_sync.organization SET bonus_seats = 1 WHERE slug = 'bolt';
SELECT try('eve', $$request_to_join(org('bolt'))$$);
UPDATE invite_sync.organization SET seat_limit = NULL WHERE slug = 'bolt';
-- whose seats they are is told a service and who is a member there, not who only comes in below; how many, nobody
BEGIN;
UPDATE invite_sync.organization_domain SET enrollment = 'none', verified_at = NULL WHERE organization_id = org('bolt');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment) VALUES (org('labs'), 'team.example', 'x', now(), 'auto');
UPDATE invite_sync.organization SET seat_limit = invite_sync.seats_used(id) WHERE slug = 'acme';
SELECT try('ida', $$request_to_join(org('labs'))$$);
SELECT try('fay', $$add_member(org('labs'), u('ida'))$$);
SELECT try('ann', $$add_member(org('labs'), u('ida'))$$);
SELECT try(NULL, $$add_member(org('labs'), u('ida'))$$);
SELECT try(NULL, $$set_seats(org('acme'), 1)$$);
ROLLBACK;

--
-- An auth server of before these columns: nobody is anonymous, banned, of single sign-on or softly deleted
--
BEGIN;
ALTER TABLE auth.users DROP COLUMN is_anonymous CASCADE, DROP COLUMN is_sso_user CASCADE, DROP COLUMN banned_until CASCADE, DROP COLUMN deleted_at CASCADE;
SELECT try('hal', $$create_organization('Old', 'old')$$) LIKE 'ok %', try(NULL, $$create_organization('Older', 'older', owner_id => u('gus'))$$) LIKE 'ok %';
SELECT try('hal', $$add_member(org('old'), u('unverified'))$$);
SELECT try('hal', $$add_member(org('old'), u('nobody'))$$);
SELECT try('hal', $$set_member_role(org('old'), u('unverified'), 'owner')$$);
SELECT try('hal', $$transfer_ownership(org('old'), u('unverified'))$$);
SELECT try('gus', $$list_members(org('older'))$$);
SELECT try('gus', $$get_member(org('older'), u('gus'))$$);
SELECT try('ann', $$suggested_organizations()$$);
SELECT try('unverified', $$request_to_join(org('bolt'))$$);
SELECT try('ann', $$request_to_join(org('bolt'))$$);
SELECT try('jon', $$list_join_requests(org('bolt'), status => 'granted', page_size => 1)$$);
SELECT try(NULL, $$set_platform_role(u('gus'), NULL)$$);
SET LOCAL ROLE supabase_auth_admin;
DELETE FROM auth.users WHERE email = 'unverified@team.example';
RESET ROLE;
SELECT * FROM members WHERE slug LIKE 'old%';
SELECT finding FROM invite_sync.verify() WHERE area = 'membership';
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT invite_sync.act_as(u('ann'))->'is_anonymous' AS anonymous;
ROLLBACK;

--
-- The copy that tokens carry
--
SELECT copy('eve'), copy('bob'), copy('gus');
SELECT raw_app_meta_data FROM auth.users WHERE id = u('anonymous');
-- what another writer leaves different is written again, and what is somebody else's stays
UPDATE auth.users SET raw_app_meta_data = '{"provider": "email"}' WHERE id = u('eve');
SELECT copy('eve'), raw_app_meta_data->>'provider' FROM auth.users WHERE id = u('eve');
UPDATE auth.users SET raw_app_meta_data = jsonb_set(raw_app_meta_data, '{invite_sync,platform_role}', '"admin"') WHERE id = u('eve');
SELECT copy('eve');
UPDATE auth.users SET raw_app_meta_data = '{"invite_sync": {"platform_role": "owner"}}' WHERE id = u('unverified');
SELECT raw_app_meta_data FROM auth.users WHERE id = u('unverified');
UPDATE auth.users SET raw_app_meta_data = NULL WHERE id = u('eve');
SELECT copy('eve');
-- also what was wrong before, and was left so; but for that the column is to be written
SET invite_sync.tenant_copy = off;
UPDATE auth.users SET raw_app_meta_data = '{"provider": "email"}' WHERE id IN (u('eve'), u('bob'));
RESET invite_sync.tenant_copy;
UPDATE auth.users SET last_sign_in_at = now() WHERE id IN (u('eve'), u('bob'));
SELECT copy('eve'), copy('bob');
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data || '{"providers": ["email"]}' WHERE id = u('eve');
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data WHERE id = u('bob');
SELECT copy('eve'), copy('bob');
BEGIN;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (org('bolt'), u('bob'), '00000000-0000-4000-8000-00000000000c');
INSERT INTO auth.users (id, raw_app_meta_data) VALUES (u('bob'), '{}') ON CONFLICT (id) DO UPDATE SET raw_app_meta_data = users.raw_app_meta_data;
SELECT copy('bob');
ROLLBACK;
-- what was left as it was costs no second write
SELECT ctid AS before FROM auth.users WHERE id = u('eve') \gset
BEGIN;
UPDATE auth.users SET last_sign_in_at = now() WHERE id = u('eve');
SELECT cmin::text AS written_once FROM auth.users WHERE id = u('eve');
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data || '{"provider": "phone"}' WHERE id = u('eve');
SELECT cmin::text AS written_once FROM auth.users WHERE id = u('eve');
COMMIT;
SELECT try('eve', $$leave_organization(org('bolt'))$$);
SELECT try('eve', $$leave_organization(org('labs'))$$);
SELECT raw_app_meta_data FROM auth.users WHERE id = u('eve');
SELECT try('fay', $$add_member(org('labs'), u('eve'), 'admin')$$);
-- odd columns are left alone
UPDATE auth.users SET raw_app_meta_data = '[1]' WHERE id = u('eve');
SELECT raw_app_meta_data FROM auth.users WHERE id = u('eve');
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'member')$$);
UPDATE auth.users SET raw_app_meta_data = 'null' WHERE id = u('eve');
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'admin')$$);
SELECT copy('eve');
-- somebody's trigger that fights for it ends nothing, nor does one that fails
CREATE FUNCTION membership_test.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('membership_test.meddle', true) = 'fail' THEN RAISE 'no'; END IF;
	NEW.raw_app_meta_data := NEW.raw_app_meta_data || jsonb_build_object('invite_sync', random());
	RETURN NEW;
END $$;
GRANT USAGE ON SCHEMA membership_test TO supabase_auth_admin;
CREATE TRIGGER meddle BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION membership_test.meddle();
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'member')$$);
SET membership_test.meddle = 'fail';
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'admin')$$);
RESET membership_test.meddle;
DROP TRIGGER meddle ON auth.users;
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'member')$$);
SELECT copy('eve');
-- more than a hundred
INSERT INTO invite_sync.organization (id, name, slug)
	SELECT ('c1000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Many ' || n, 'many-' || n FROM generate_series(1, 101) AS n;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id, created_at)
	SELECT o.id, u('eve'), '00000000-0000-4000-8000-00000000000a', '2019-01-01' FROM invite_sync.organization AS o WHERE o.slug LIKE 'many-%' AND o.slug <> 'many-101';
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'admin')$$);
SELECT jsonb_array_length(raw_app_meta_data->'invite_sync'->'organizations'), raw_app_meta_data->'invite_sync'->'truncated' FROM auth.users WHERE id = u('eve');
DELETE FROM invite_sync.organization WHERE slug LIKE 'many-%';
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'member')$$);
SELECT copy('eve');
-- off
SET invite_sync.tenant_copy = off;
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'admin')$$);
UPDATE auth.users SET raw_app_meta_data = '{"provider": "email"}' WHERE id = u('bob');
SELECT copy('eve'), copy('bob');
RESET invite_sync.tenant_copy;
SELECT try('fay', $$set_member_role(org('labs'), u('eve'), 'member')$$);
SELECT copy('eve');
SET ROLE authenticated;
SET invite_sync.tenant_copy = off;
RESET ROLE;

--
-- Direct DML
--
SELECT id AS membership FROM invite_sync.membership WHERE organization_id = org('acme') AND user_id = u('bob') \gset
DELETE FROM invite_sync.membership WHERE organization_id = org('acme') AND user_id = u('ann');
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000c' WHERE organization_id = org('acme') AND user_id = u('ann');
UPDATE invite_sync.membership SET organization_id = org('bolt') WHERE id = :'membership';
UPDATE invite_sync.membership SET user_id = u('jon') WHERE id = :'membership';
UPDATE invite_sync.membership SET id = gen_random_uuid() WHERE id = :'membership';
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (org('acme'), u('bob'), '00000000-0000-4000-8000-00000000000c');
UPDATE invite_sync.role SET name = 'boss' WHERE name = 'owner';
DELETE FROM invite_sync.role WHERE name = 'member' AND built_in;
DELETE FROM invite_sync.permission WHERE name = 'members.add';
INSERT INTO invite_sync.role_permission VALUES ('00000000-0000-4000-8000-00000000000c', 'members.add');
DELETE FROM invite_sync.role WHERE name = 'hr';
UPDATE invite_sync.organization SET seat_limit = 1 WHERE slug = 'acme';
INSERT INTO invite_sync.join_request (organization_id, user_id, status) VALUES (org('acme'), u('jon'), 'granted');
-- all at once passes
BEGIN;
DELETE FROM invite_sync.membership WHERE organization_id = org('acme');
SELECT count(*) FROM invite_sync.membership WHERE organization_id = org('acme');
ROLLBACK;

--
-- When users go
--
-- labs has one owner, fay; eve (member) and, the longest there, hal (admin) and gus (admin)
SELECT try('fay', $$add_member(org('labs'), u('hal'), 'admin')$$);
SELECT try('fay', $$add_member(org('labs'), u('gus'), 'admin')$$);
SELECT try('fay', $$add_member(org('labs'), u('banned'), 'admin')$$);
UPDATE invite_sync.membership SET created_at = '2019-01-01' WHERE organization_id = org('labs') AND user_id = u('hal');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id, created_at) VALUES (org('labs'), u('banned'), '00000000-0000-4000-8000-00000000000b', '2018-01-01');
UPDATE membership_test.desk SET membership_id = m.id FROM invite_sync.membership AS m WHERE m.user_id = u('fay');
SELECT try(NULL, $$set_platform_role(u('fay'), 'support')$$);
INSERT INTO invite_sync.membership_removal (organization_id, user_id) VALUES (org('bolt'), u('fay'));
INSERT INTO invite_sync.join_request (organization_id, user_id) VALUES (org('bolt'), u('fay'));
SELECT u('fay') AS fay \gset
SET ROLE supabase_auth_admin;
DELETE FROM auth.users WHERE email = 'fay@team.example';
RESET ROLE;
SELECT members FROM members WHERE slug = 'labs';
SELECT * FROM events WHERE action LIKE 'membership.owner%' LIMIT 1;
SELECT copy('hal');
SELECT * FROM membership_test.desk;
SELECT (SELECT count(*) FROM invite_sync.membership WHERE user_id = :'fay'), (SELECT count(*) FROM invite_sync.membership_removal WHERE user_id = :'fay'),
	(SELECT count(*) FROM invite_sync.join_request WHERE user_id = :'fay'), (SELECT count(*) FROM invite_sync.platform_role WHERE user_id = :'fay');
-- softly
UPDATE auth.users SET deleted_at = now() WHERE id = u('hal');
SELECT members FROM members WHERE slug IN ('acme', 'labs');
UPDATE auth.users SET deleted_at = NULL WHERE id = u('hal');
SELECT raw_app_meta_data FROM auth.users WHERE id = u('hal');
-- the only one who is not banned, and then only who is
DELETE FROM auth.users WHERE id IN (u('gus'), u('hal'));
SELECT members FROM members WHERE slug = 'labs';
DELETE FROM auth.users WHERE id = u('eve');
SELECT members FROM members WHERE slug = 'labs';
DELETE FROM auth.users WHERE id = u('banned');
SELECT * FROM events WHERE action = 'membership.ownerless' LIMIT 1;
SELECT members FROM members WHERE slug = 'labs';
-- who is owner with others leaves it at that; several go at once
SELECT try('jon', $$set_member_role(org('bolt'), u('cid'), 'owner')$$);
DELETE FROM auth.users WHERE id = u('jon');
SELECT members FROM members WHERE slug = 'bolt';
-- detached: they are left, found, and removed
SELECT invite_sync.detach();
DELETE FROM auth.users WHERE id = u('cid');
SELECT members FROM members WHERE slug = 'bolt';
SELECT severity, area, object, finding, fix FROM invite_sync.verify() WHERE area = 'membership';
SELECT * FROM invite_sync.retry_quarantine();
SELECT members FROM members WHERE slug = 'bolt';
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT members FROM members WHERE slug = 'bolt';
SELECT severity, area, object, finding FROM invite_sync.verify() WHERE area = 'membership';
-- triggers are missed where there are organizations
SELECT invite_sync.attach() IS NOT NULL AS attached;
DROP TRIGGER invite_sync_update ON auth.users;
SELECT severity, object, finding FROM invite_sync.verify() WHERE area = 'sync';
SELECT invite_sync.attach() IS NOT NULL AS attached;
-- what only somebody's own DML can do
SET session_replication_role = replica;
INSERT INTO invite_sync.membership (id, organization_id, user_id, role_id) VALUES
	('e1000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-0000000000ff', u('ann'), '00000000-0000-4000-8000-00000000000a'),
	('e1000000-0000-4000-8000-000000000002', org('bolt'), u('ann'), 'c0000000-0000-4000-8000-0000000000ff');
INSERT INTO invite_sync.platform_role (user_id, role_id) VALUES (u('ann'), 'c0000000-0000-4000-8000-0000000000ff');
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES ('c0000000-0000-4000-8000-000000000004', 'Lost', 'lost', 'c0000000-0000-4000-8000-0000000000ff');
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000c' WHERE organization_id = org('acme') AND user_id = u('ann');
RESET session_replication_role;
SELECT severity, area, object, finding, detail, fix FROM invite_sync.verify();
\o /dev/null
SELECT fix FROM invite_sync.verify() WHERE area IN ('membership', 'organization') AND fix NOT LIKE '%-000000000000''%' \gexec
\o
DELETE FROM invite_sync.organization WHERE slug = 'lost';
SELECT severity, area, object, finding FROM invite_sync.verify();

--
-- Cleaning up fails: the auth server's statement does not, and a retry does it
--
SET invite_sync.lock_timeout = '50ms';
CREATE TABLE membership_test.stubborn (membership_id uuid REFERENCES invite_sync.membership (id));
ALTER TABLE membership_test.stubborn OWNER TO postgres;
INSERT INTO membership_test.stubborn SELECT m.id FROM invite_sync.membership AS m WHERE m.user_id = u('dan') AND m.organization_id = org('bolt');
SELECT u('dan') AS dan \gset
DELETE FROM auth.users WHERE id = u('dan');
SELECT user_id = :'dan' AS noted FROM invite_sync.gone_user;
SELECT * FROM invite_sync.retry_quarantine();
DELETE FROM membership_test.stubborn;
SELECT * FROM invite_sync.retry_quarantine();
SELECT count(*) FROM invite_sync.gone_user;
SELECT count(*) FROM invite_sync.membership WHERE user_id = :'dan';
RESET invite_sync.lock_timeout;
-- nor does a check that waits until COMMIT, which is the auth server's
GRANT USAGE ON SCHEMA membership_test TO postgres;
CREATE TABLE membership_test.patient (member uuid REFERENCES invite_sync.membership DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE membership_test.patient OWNER TO postgres;
INSERT INTO auth.users (id, email) VALUES ('b0000000-0000-4000-8000-0000000000d1', 'pat@team.example'), ('b0000000-0000-4000-8000-0000000000d2', 'ray@team.example');
SELECT role FROM invite_sync.add_member(org('bolt'), u('pat'));
SELECT role FROM invite_sync.add_member(org('bolt'), u('ray'));
INSERT INTO membership_test.patient SELECT m.id FROM invite_sync.membership AS m WHERE m.user_id = u('pat');
BEGIN;
SET LOCAL ROLE supabase_auth_admin;
DELETE FROM auth.users WHERE email IN ('pat@team.example', 'ray@team.example');
COMMIT;
SELECT count(*) FROM auth.users WHERE email IN ('pat@team.example', 'ray@team.example');
SELECT right(user_id::text, 2) AS noted FROM invite_sync.gone_user ORDER BY 1;
-- one who cannot be helped yet does not keep the others
SELECT * FROM invite_sync.retry_quarantine();
SELECT right(user_id::text, 2) AS noted FROM invite_sync.gone_user ORDER BY 1;
DELETE FROM membership_test.patient;
SELECT * FROM invite_sync.retry_quarantine();
SELECT count(*) FROM invite_sync.membership WHERE user_id = 'b0000000-0000-4000-8000-0000000000d1';
-- nor where only one is tried at a time: the next is who has waited longest, and who was never tried before them
INSERT INTO auth.users (id, email) VALUES ('b0000000-0000-4000-8000-0000000000d1', 'pat@team.example'), ('b0000000-0000-4000-8000-0000000000d2', 'ray@team.example'),
	('b0000000-0000-4000-8000-0000000000d3', 'sue@team.example');
SELECT role FROM unnest(ARRAY['pat', 'ray', 'sue']) AS name CROSS JOIN LATERAL invite_sync.add_member(org('bolt'), u(name));
INSERT INTO membership_test.patient SELECT m.id FROM invite_sync.membership AS m WHERE m.user_id IN (u('pat'), u('ray'));
DELETE FROM auth.users WHERE email IN ('pat@team.example', 'ray@team.example');
SET session_replication_role = replica;
DELETE FROM auth.users WHERE email = 'sue@team.example';
RESET session_replication_role;
SELECT right(user_id::text, 2) AS noted FROM invite_sync.gone_user ORDER BY noted_at, user_id;
SELECT * FROM invite_sync.retry_quarantine(1);
SELECT right(user_id::text, 2) AS noted FROM invite_sync.gone_user ORDER BY noted_at;
SELECT * FROM invite_sync.retry_quarantine(1);
SELECT right(user_id::text, 2) AS noted FROM invite_sync.gone_user ORDER BY noted_at;
SELECT * FROM invite_sync.retry_quarantine(1, due_only => false);
SELECT count(*) FROM invite_sync.membership WHERE user_id = 'b0000000-0000-4000-8000-0000000000d3';
SELECT * FROM invite_sync.retry_quarantine(1, due_only => false);
SELECT right(user_id::text, 2) AS noted FROM invite_sync.gone_user ORDER BY noted_at;
DELETE FROM membership_test.patient;
SELECT * FROM invite_sync.retry_quarantine();
-- a constraint of somebody's that is called so too would be set with it: then there is no way but later
CREATE TABLE membership_test.namesake (n integer CONSTRAINT patient_member_fkey UNIQUE DEFERRABLE);
INSERT INTO auth.users (id, email) VALUES ('b0000000-0000-4000-8000-0000000000d1', 'pat@team.example');
SELECT role FROM invite_sync.add_member(org('bolt'), u('pat'));
INSERT INTO membership_test.patient SELECT m.id FROM invite_sync.membership AS m WHERE m.user_id = u('pat');
DELETE FROM auth.users WHERE id = 'b0000000-0000-4000-8000-0000000000d1';
DROP TABLE membership_test.namesake;
-- nor can it be queued where the triggers of a table that goes along are fired
INSERT INTO auth.users (id, email) VALUES ('b0000000-0000-4000-8000-0000000000d1', 'pat@team.example');
SELECT try(NULL, $$remove_member(org('bolt'), u('pat'))$$);
DELETE FROM membership_test.patient;
SELECT try(NULL, $$remove_member(org('bolt'), u('pat'))$$);
DELETE FROM auth.users WHERE id = 'b0000000-0000-4000-8000-0000000000d1';
SELECT * FROM invite_sync.retry_quarantine();
DROP TABLE membership_test.patient;

--
-- The configuration
--
SELECT line FROM regexp_split_to_table(invite_sync.config_sql(), E'\n') AS line WHERE line ~ 'create_(permission|role)|^-- (Perm|Global)';

-- leave nothing behind
SELECT invite_sync.detach();
SET client_min_messages = error;
DROP TABLE membership_test.desk, membership_test.stubborn;
DELETE FROM invite_sync.organization WHERE slug = 'labs';
DELETE FROM invite_sync.organization WHERE slug IN ('acme', 'bolt');
DELETE FROM invite_sync.platform_role;
DELETE FROM invite_sync.role WHERE NOT built_in;
DELETE FROM invite_sync.permission WHERE NOT built_in;
DELETE FROM invite_sync.attachment;
DELETE FROM auth.sso_providers;
DELETE FROM auth.users WHERE id::text LIKE 'b0000000-%';
DROP SCHEMA membership_test CASCADE;
SELECT * FROM invite_sync.verify();
