-- Room membership: what policies ask.
SET client_min_messages = notice;

-- 1: owner of a, member of c; 2: admin of a's child b; 3: member of b; 4: banned; 5: soft-deleted; 6: anonymous; 7: nothing
INSERT INTO auth.users (id, email, is_anonymous, banned_until, deleted_at)
SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, CASE WHEN n <> 6 THEN 'user' || n || '@example.com' END, n = 6,
       CASE WHEN n = 4 THEN now() + interval '1 day' WHEN n = 3 THEN now() - interval '1 day' END, CASE WHEN n = 5 THEN now() END
  FROM generate_series(1, 7) AS n;
-- a, below it b, below it d; c and e apart
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES
    ('a0000000-0000-4000-8000-000000000000', 'A', 'a', NULL),
    ('b0000000-0000-4000-8000-000000000000', 'B', 'b', 'a0000000-0000-4000-8000-000000000000'),
    ('c0000000-0000-4000-8000-000000000000', 'C', 'c', NULL),
    ('d0000000-0000-4000-8000-000000000000', 'D', 'd', 'b0000000-0000-4000-8000-000000000000'),
    ('e0000000-0000-4000-8000-000000000000', 'E', 'e', NULL);
INSERT INTO invite_sync.permission (name) VALUES ('documents.read'), ('documents.write'), ('platform.support');
INSERT INTO invite_sync.role (id, name, organization_id) VALUES
    ('10000000-0000-4000-8000-000000000000', 'writer', 'a0000000-0000-4000-8000-000000000000'),
    ('20000000-0000-4000-8000-000000000000', 'owner', 'c0000000-0000-4000-8000-000000000000'),
    ('30000000-0000-4000-8000-000000000000', 'support', NULL),
    ('40000000-0000-4000-8000-000000000000', 'blind', 'e0000000-0000-4000-8000-000000000000');
INSERT INTO invite_sync.role_permission (role_id, permission) VALUES
    ('10000000-0000-4000-8000-000000000000', 'documents.write'),
    ('10000000-0000-4000-8000-000000000000', 'platform.support'),
    ('20000000-0000-4000-8000-000000000000', 'documents.read'),
    ('30000000-0000-4000-8000-000000000000', 'platform.support'),
    ('30000000-0000-4000-8000-000000000000', 'platform.admin');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000a'),
    ('c0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000c'),
    ('b0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-00000000000b'),
    ('d0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000000'),
    ('c0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000002', '20000000-0000-4000-8000-000000000000'),
    ('b0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-00000000000c'),
    ('e0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000003', '40000000-0000-4000-8000-000000000000'),
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-00000000000c'),
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000005', '00000000-0000-4000-8000-00000000000c'),
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000006', '00000000-0000-4000-8000-00000000000c'),
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000008', '00000000-0000-4000-8000-00000000000c');
INSERT INTO invite_sync.platform_role (user_id, role_id) VALUES
    ('00000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000000'),
    ('00000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-00000000000c'),
    ('00000000-0000-4000-8000-000000000004', '30000000-0000-4000-8000-000000000000'),
    ('00000000-0000-4000-8000-000000000006', '30000000-0000-4000-8000-000000000000');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge) VALUES
    ('a0000000-0000-4000-8000-000000000000', 'a.example', 'x'), ('c0000000-0000-4000-8000-000000000000', 'c.example', 'x');
INSERT INTO invite_sync.join_request (organization_id, user_id) VALUES
    ('a0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000007'),
    ('c0000000-0000-4000-8000-000000000000', '00000000-0000-4000-8000-000000000003');

CREATE VIEW public.org WITH (security_invoker = false) AS SELECT o.id, o.slug FROM invite_sync.organization AS o;
CREATE VIEW public.who AS
    SELECT n, c.claims, c.role FROM (VALUES
        (1, '{"sub": "00000000-0000-4000-8000-000000000001", "role": "authenticated"}', 'authenticated'),
        (2, '{"sub": "00000000-0000-4000-8000-000000000002", "role": "authenticated"}', 'authenticated'),
        (3, '{"sub": "00000000-0000-4000-8000-000000000003", "role": "authenticated"}', 'authenticated'),
        (4, '{"sub": "00000000-0000-4000-8000-000000000004", "role": "authenticated"}', 'authenticated'),
        (5, '{"sub": "00000000-0000-4000-8000-000000000005", "role": "authenticated"}', 'authenticated'),
        (6, '{"sub": "00000000-0000-4000-8000-000000000006", "role": "authenticated"}', 'authenticated'),
        (7, '{"sub": "00000000-0000-4000-8000-000000000007", "role": "authenticated"}', 'authenticated'),
        (8, '{"sub": "00000000-0000-4000-8000-000000000008", "role": "authenticated"}', 'authenticated'),
        (9, '{"role": "anon"}', 'anon'),
        (10, '', 'authenticated'),
        (11, '{"sub": "nobody", "role": "authenticated"}', 'authenticated'),
        (12, '{"role": "service_role"}', 'authenticated'),
        (13, '{"role": "service_role"}', 'service_role'),
        (14, '', 'postgres'),
        (15, '', 'supabase_admin'),
        (16, '{"sub": "00000000-0000-4000-8000-000000000001", "role": "authenticated"}', 'supabase_admin')) AS c (n, claims, role);
GRANT SELECT ON public.org, public.who TO PUBLIC;

-- every question by everybody, in one row each: + and - for the organizations a to e and one that does not exist
CREATE FUNCTION public.ask(n integer, condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('request.jwt.claims', w.claims, true), set_config('role', w.role, true) FROM public.who AS w WHERE w.n = ask.n;
    EXECUTE format($q$SELECT string_agg(CASE WHEN %s THEN slug ELSE '-' END, '' ORDER BY slug)
                        FROM (SELECT o.id, o.slug FROM public.org AS o UNION ALL SELECT '00000000-0000-4000-8000-0000000000ff', '?' UNION ALL SELECT NULL, '0') AS o$q$,
                   condition) INTO result;
    PERFORM set_config('request.jwt.claims', '', true), set_config('role', 'supabase_admin', true);
    RETURN result;
END
$$;
SELECT w.n, public.ask(w.n, 'invite_sync.is_member(id)') AS member, public.ask(w.n, $$invite_sync.has_role(id, 'owner')$$) AS owner,
       public.ask(w.n, $$invite_sync.has_role(id, 'writer')$$) AS writer,
       public.ask(w.n, $$invite_sync.has_any_role(id, '{writer,NULL,member}')$$) AS any_role,
       public.ask(w.n, $$invite_sync.has_permission(id, 'organization.delete')$$) AS "delete",
       public.ask(w.n, $$invite_sync.has_permission(id, 'documents.write')$$) AS write,
       public.ask(w.n, $$invite_sync.has_any_permission(id, '{documents.read,NULL,documents.write}')$$) AS any_permission,
       public.ask(w.n, $$invite_sync.has_permission(id, 'platform.support') OR invite_sync.has_permission(id, 'platform.admin')$$) AS platform
  FROM public.who AS w ORDER BY 1;
SELECT w.n, public.ask(w.n, 'id = any ((select invite_sync.member_organizations())::uuid[])') AS member_organizations,
       public.ask(w.n, $$id = any ((select invite_sync.organizations_with_permission('members.add'))::uuid[])$$) AS adds,
       public.ask(w.n, $$id = any ((select invite_sync.organizations_with_permission('platform.admin'))::uuid[])$$) AS platform
  FROM public.who AS w ORDER BY 1;

-- what nobody can know is false, not NULL
SELECT invite_sync.is_member(NULL), invite_sync.has_role(NULL, 'owner'), invite_sync.has_role('a0000000-0000-4000-8000-000000000000', NULL),
       invite_sync.has_any_role('a0000000-0000-4000-8000-000000000000', NULL), invite_sync.has_permission(NULL, NULL),
       invite_sync.has_any_permission('a0000000-0000-4000-8000-000000000000', NULL), invite_sync.organizations_with_permission(NULL);
SELECT invite_sync.has_any_role('a0000000-0000-4000-8000-000000000000', '{}') AS service;
BEGIN;
SELECT count(*) FROM invite_sync.act_as('00000000-0000-4000-8000-000000000001');
SELECT invite_sync.is_member(NULL), invite_sync.has_role(NULL, 'owner'), invite_sync.has_role('a0000000-0000-4000-8000-000000000000', NULL),
       invite_sync.has_any_role('a0000000-0000-4000-8000-000000000000', NULL), invite_sync.has_permission(NULL, NULL),
       invite_sync.has_any_permission('a0000000-0000-4000-8000-000000000000', NULL), invite_sync.organizations_with_permission(NULL);
SELECT invite_sync.has_any_role('a0000000-0000-4000-8000-000000000000', '{}'), invite_sync.has_any_role('a0000000-0000-4000-8000-000000000000', '{NULL}'),
       invite_sync.has_any_role('a0000000-0000-4000-8000-000000000000', '{{x,y},{NULL,owner}}'), invite_sync.has_role('a0000000-0000-4000-8000-000000000000', '');
-- more questions than are remembered
SELECT p, invite_sync.has_permission('c0000000-0000-4000-8000-000000000000', p)
  FROM unnest(ARRAY['organization.read', 'members.read', 'members.add', 'members.remove', 'a', 'b', 'c', 'd', 'e', 'f', 'organization.read', 'members.add', repeat('x', 3000)]) WITH ORDINALITY AS u (p, n) WHERE length(p) < 100 ORDER BY n;
ROLLBACK;

-- who
CREATE FUNCTION public.who_is(n integer) RETURNS TABLE (me invite_sync.caller_identity, id uuid, platform_role text, organizations integer) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', w.claims, true), set_config('role', w.role, true) FROM public.who AS w WHERE w.n = who_is.n;
    RETURN QUERY SELECT invite_sync.whoami(), invite_sync.current_user_id(), invite_sync.platform_role(), cardinality(invite_sync.member_organizations());
    PERFORM set_config('request.jwt.claims', '', true), set_config('role', 'supabase_admin', true);
END
$$;
SELECT w.n, x.* FROM public.who AS w CROSS JOIN LATERAL public.who_is(w.n) AS x ORDER BY 1;

-- claims, whatever they are
CREATE FUNCTION public.claims(text) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT set_config('request.jwt.claims', $1, true);
    SELECT invite_sync.current_claims();
$$;
SELECT n, public.claims(c) FROM (VALUES (1, ''), (2, '{"sub": "x", "a": [1, {"b": null}]}'), (3, '{'), (4, '[]'), (5, '"x"'), (6, 'null'), (7, '{"a": 1} x'),
    (8, '{"a": "\u0000"}'), (9, '{"a": 1e1000000}'), (10, '{"a": 1e-99999999999}'), (11, '{"a": 1.5e3, "b": -0.1}'), (12, '{"a": "1e1000000"}'),
    (13, '{"a": 1, "a": 2}'), (14, '{"a": "\ud800"}')) AS c (n, c) ORDER BY n;
SELECT public.claims('{"a":' || repeat('[', 5000) || repeat(']', 5000) || '}') IS NULL AS too_deep,
       public.claims('{"a": 1' || repeat('1', 200000) || '}') IS NULL AS too_large,
       public.claims('{"a": "' || repeat('1', 200000) || '"}') IS NOT NULL AS long_string;
SELECT set_config('request.jwt.claims', '', false), set_config('request.jwt.claim.sub', '00000000-0000-4000-8000-000000000002', false);
SELECT invite_sync.current_claims();
SET ROLE authenticated;
SELECT invite_sync.current_user_id(), invite_sync.is_member('b0000000-0000-4000-8000-000000000000');
RESET ROLE;
RESET request.jwt.claim.sub;
RESET request.jwt.claims;

-- the helpers say what the functions of the room say
SELECT count(*) AS pairs, count(*) FILTER (WHERE x.differs) AS differ FROM (
    SELECT public.ask(w.n, format('invite_sync.has_permission(id, %L)', p.name)) IS DISTINCT FROM
           (SELECT string_agg(CASE WHEN w.n <= 3 AND p.name = ANY (invite_sync.effective_permissions(('00000000-0000-4000-8000-00000000000' || w.n)::uuid, o.id)) THEN o.slug ELSE '-' END, '' ORDER BY o.slug)
              FROM (SELECT o.id, o.slug FROM public.org AS o UNION ALL SELECT '00000000-0000-4000-8000-0000000000ff', '?' UNION ALL SELECT NULL, '0') AS o) AS differs
      FROM public.who AS w, invite_sync.permission AS p WHERE w.n <= 11) AS x;

-- one load a statement, whatever asks; each in a transaction of its own, or the answers before would still be good
CREATE TABLE public.document AS SELECT n, o.id AS organization_id FROM generate_series(1, 20000) AS n
    JOIN (SELECT id, row_number() OVER (ORDER BY slug) AS r FROM invite_sync.organization) AS o ON o.r = 1 + n % 5;
GRANT SELECT ON public.document TO authenticated;
CREATE FUNCTION public.definer_sql(uuid) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT invite_sync.is_member($1)';
CREATE FUNCTION public.definer_sql_stable(uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS 'SELECT invite_sync.is_member($1)';
CREATE FUNCTION public.definer_plpgsql(uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS 'BEGIN RETURN invite_sync.is_member($1); END';
CREATE FUNCTION public.definer_query(uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS 'BEGIN RETURN (SELECT count(*) = 1 FROM (SELECT 1) AS x WHERE invite_sync.is_member($1)); END';
CREATE FUNCTION public.loads_of(condition text) RETURNS TABLE (rows bigint, loads bigint) LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
BEGIN
    PERFORM set_config('request.jwt.claims', w.claims, true), set_config('role', w.role, true) FROM public.who AS w WHERE w.n = 3;
    before := invite_sync.membership_loads();
    EXECUTE format('SELECT count(*) FROM public.document WHERE %s', condition) INTO rows;
    loads := invite_sync.membership_loads() - before;
    RETURN NEXT;
    PERFORM set_config('role', 'supabase_admin', true);
END
$$;
GRANT EXECUTE ON FUNCTION invite_sync.membership_loads() TO authenticated;
SELECT * FROM public.loads_of('invite_sync.is_member(organization_id)');
SELECT * FROM public.loads_of('public.definer_sql(organization_id)');
SELECT * FROM public.loads_of('public.definer_sql_stable(organization_id)');
SELECT * FROM public.loads_of('public.definer_plpgsql(organization_id)');
SELECT * FROM public.loads_of('public.definer_query(organization_id)');
SELECT * FROM public.loads_of('organization_id = any (invite_sync.member_organizations())');
SELECT * FROM public.loads_of('organization_id = any ((select invite_sync.member_organizations())::uuid[])');
SELECT * FROM public.loads_of($$invite_sync.is_member(organization_id) AND (invite_sync.has_permission(organization_id, 'members.read') OR invite_sync.has_role(organization_id, 'blind'))$$);
-- nobody and services have nothing to read, and read it once
BEGIN;
SELECT invite_sync.membership_loads() AS before \gset
SELECT count(*) FROM public.document WHERE invite_sync.is_member(organization_id);
SELECT invite_sync.membership_loads() - :before AS loads;
ROLLBACK;
DROP FUNCTION public.definer_sql(uuid), public.definer_sql_stable(uuid), public.definer_plpgsql(uuid), public.definer_query(uuid), public.loads_of(text);

-- our own tables: one's own organization and nothing of others, and nothing can be written
CREATE FUNCTION public.sees(n integer) RETURNS TABLE (organizations text, domains text, members text, roles text, role_permissions bigint, permissions bigint, requests text, platform bigint)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', w.claims, true), set_config('role', w.role, true) FROM public.who AS w WHERE w.n = sees.n;
    RETURN QUERY SELECT (SELECT string_agg(o.slug, '' ORDER BY o.slug) FROM invite_sync.organization AS o),
        (SELECT string_agg(d.domain, ' ' ORDER BY d.domain) FROM invite_sync.organization_domain AS d),
        (SELECT string_agg(left(m.organization_id::text, 1) || right(m.user_id::text, 1), ' ' ORDER BY m.organization_id, m.user_id) FROM invite_sync.membership AS m),
        (SELECT string_agg(r.name || coalesce('@' || left(r.organization_id::text, 1), ''), ' ' ORDER BY r.organization_id NULLS FIRST, r.name) FROM invite_sync.role AS r),
        (SELECT count(*) FROM invite_sync.role_permission), (SELECT count(*) FROM invite_sync.permission),
        (SELECT string_agg(left(j.organization_id::text, 1) || right(j.user_id::text, 1), ' ' ORDER BY j.organization_id, j.user_id) FROM invite_sync.join_request AS j),
        (SELECT count(*) FROM invite_sync.platform_role);
    PERFORM set_config('request.jwt.claims', '', true), set_config('role', 'supabase_admin', true);
END
$$;
SELECT w.n, x.* FROM public.who AS w CROSS JOIN LATERAL public.sees(w.n) AS x WHERE w.role = 'authenticated' ORDER BY 1;
SELECT r.role, t.relname FROM (VALUES ('anon'), ('authenticated'), ('service_role')) AS r (role), pg_class AS t
 WHERE t.relnamespace = 'invite_sync'::regnamespace AND t.relkind = 'r'
   AND (has_any_column_privilege(r.role, t.oid, 'INSERT, UPDATE, REFERENCES') OR has_table_privilege(r.role, t.oid, 'DELETE, TRUNCATE, TRIGGER')
        OR has_table_privilege(r.role, t.oid, 'SELECT') AND r.role <> 'authenticated');
SELECT string_agg(t.relname, ' ' ORDER BY t.relname) AS readable FROM pg_class AS t
 WHERE t.relnamespace = 'invite_sync'::regnamespace AND t.relkind = 'r' AND has_table_privilege('authenticated', t.oid, 'SELECT');
-- a policy is there for each table that can be read
SELECT t.relname FROM pg_class AS t WHERE t.relnamespace = 'invite_sync'::regnamespace AND t.relkind = 'r'
   AND has_table_privilege('authenticated', t.oid, 'SELECT') IS DISTINCT FROM EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = t.oid);

-- whoever binds the owner to the policies locks everybody out, but is not asked in circles
BEGIN;
ALTER TABLE invite_sync.membership FORCE ROW LEVEL SECURITY;
SELECT public.ask(1, 'invite_sync.is_member(id)') AS forced, public.ask(13, 'invite_sync.is_member(id)') AS service;
ROLLBACK;
SELECT public.ask(1, 'invite_sync.is_member(id)') AS not_forced;
-- a superuser's auth.users is not read: nobody is a member, and a warning says why
BEGIN;
ALTER TABLE auth.users OWNER TO supabase_admin;
SELECT public.ask(1, 'invite_sync.is_member(id)') AS superusers;
ROLLBACK;

-- leave nothing behind
DROP TABLE public.document;
DROP FUNCTION public.ask(integer, text), public.who_is(integer), public.claims(text), public.sees(integer);
DROP VIEW public.org, public.who;
REVOKE EXECUTE ON FUNCTION invite_sync.membership_loads() FROM authenticated;
DELETE FROM invite_sync.platform_role;
DELETE FROM invite_sync.organization WHERE slug = 'd';
DELETE FROM invite_sync.organization WHERE slug = 'b';
DELETE FROM invite_sync.organization;
DELETE FROM invite_sync.role WHERE NOT built_in;
DELETE FROM invite_sync.permission WHERE NOT built_in;
DELETE FROM auth.users;
