-- The database of the policies' bench: tables of 200,000 rows that belong to 10, 1,000 and 100,000 organizations in
-- random order, with (indexed_) and without an index on them; users with 1, 10, 100 and 500 memberships, and two whose one
-- membership reaches down to the organizations of a table; and a policy for each way to write one, each for a role of its
-- own. Loaded by the superuser, with rows = how many.

CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO PUBLIC;
\ir stamp.sql

INSERT INTO auth.users (id, email)
SELECT md5('user ' || n)::uuid, n || '@example.com' FROM unnest(ARRAY['one', 'ten', 'hundred', 'fivehundred', 'above_1000', 'above_100000']) AS n;
INSERT INTO auth.users (id, email) SELECT md5(n::text)::uuid, n || '@example.com' FROM generate_series(1, 10000) AS n;

-- o1 to o1000 below one organization, which is with the others below another
ALTER TABLE invite_sync.organization DISABLE TRIGGER USER;
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES
    (md5('above_100000')::uuid, 'Above', 'above-100000', NULL), (md5('above_1000')::uuid, 'Above', 'above-1000', md5('above_100000')::uuid);
INSERT INTO invite_sync.organization (id, name, slug, parent_id)
SELECT md5('o' || n)::uuid, 'o' || n, 'o' || n, md5(CASE WHEN n <= 1000 THEN 'above_1000' ELSE 'above_100000' END)::uuid FROM generate_series(1, 100000) AS n;
ALTER TABLE invite_sync.organization ENABLE TRIGGER USER;
ALTER TABLE invite_sync.membership DISABLE TRIGGER USER;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
SELECT md5('o' || n)::uuid, md5('user ' || u.name)::uuid, '00000000-0000-4000-8000-00000000000c'::uuid
  FROM (VALUES ('one', 1), ('ten', 10), ('hundred', 100), ('fivehundred', 500)) AS u (name, memberships), generate_series(1, u.memberships) AS n
UNION ALL SELECT md5(n)::uuid, md5('user ' || n)::uuid, '00000000-0000-4000-8000-00000000000c'::uuid FROM unnest(ARRAY['above_1000', 'above_100000']) AS n
UNION ALL SELECT md5('o' || n)::uuid, md5((n % 10000)::text)::uuid, '00000000-0000-4000-8000-00000000000c'::uuid FROM generate_series(1, 100000) AS n;
ALTER TABLE invite_sync.membership ENABLE TRIGGER USER;

-- the same memberships as an application keeps them by itself: no tree, so everybody has a row for each organization
CREATE TABLE public.member (user_id uuid, organization_id uuid, PRIMARY KEY (user_id, organization_id));
INSERT INTO public.member
WITH RECURSIVE reach (user_id, organization_id) AS (
    SELECT m.user_id, m.organization_id FROM invite_sync.membership AS m
    UNION SELECT r.user_id, o.id FROM reach AS r JOIN invite_sync.organization AS o ON o.parent_id = r.organization_id)
SELECT user_id, organization_id FROM reach;
GRANT SELECT ON public.member TO PUBLIC;

CREATE FUNCTION bench.usual(organization_id uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
    AS 'SELECT EXISTS (SELECT 1 FROM public.member AS m WHERE m.user_id = auth.uid() AND m.organization_id = $1)';
CREATE FUNCTION bench.definer_ours(organization_id uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
    AS 'SELECT invite_sync.is_member($1)';
CREATE FUNCTION bench.definer_constant(organization_id uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
    AS 'SELECT true';
-- the least that a function in C can cost: it does nothing, and what it returns is false
CREATE FUNCTION bench.constant(organization_id uuid) RETURNS boolean LANGUAGE internal STABLE PARALLEL SAFE LEAKPROOF AS 'void_in';

CREATE TABLE bench.variant (name text, condition text);
INSERT INTO bench.variant VALUES
    ('none', 'true'),
    ('not_null', 'organization_id IS NOT NULL'),
    ('constant', 'bench.constant(organization_id)'),
    ('is_member', 'invite_sync.is_member(organization_id)'),
    ('has_permission', $$invite_sync.has_permission(organization_id, 'members.read')$$),
    ('array', 'organization_id = ANY ((SELECT invite_sync.member_organizations())::uuid[])'),
    ('any_select', 'organization_id = ANY (ARRAY(SELECT m.organization_id FROM public.member AS m WHERE m.user_id = (SELECT auth.uid())))'),
    ('in_select', 'organization_id IN (SELECT m.organization_id FROM public.member AS m WHERE m.user_id = (SELECT auth.uid()))'),
    ('usual_definer', 'bench.usual(organization_id)'),
    ('definer_ours', 'bench.definer_ours(organization_id)'),
    ('definer_constant', 'bench.definer_constant(organization_id)');
SELECT format('CREATE ROLE %1$I IN ROLE authenticated', 'bench_' || name) FROM bench.variant \gexec

SELECT setseed(0.5);
SELECT format('CREATE TABLE public.document_%1$s AS SELECT n, md5(''o'' || 1 + floor(random() * %1$s))::uuid AS organization_id, repeat(''x'', 40) AS content FROM generate_series(1, %2$s) AS n',
              n, :rows) FROM unnest(ARRAY[10, 1000, 100000]) AS n \gexec
SELECT format('CREATE TABLE public.indexed_%1$s AS TABLE public.document_%1$s', n) FROM unnest(ARRAY[10, 1000, 100000]) AS n \gexec
SELECT format('CREATE INDEX ON public.indexed_%1$s (organization_id)', n) FROM unnest(ARRAY[10, 1000, 100000]) AS n \gexec
CREATE VIEW bench.place AS SELECT t || '_' || n AS name FROM unnest(ARRAY[10, 1000, 100000]) AS n, unnest(ARRAY['document', 'indexed']) AS t;
SELECT format('ALTER TABLE public.%s ENABLE ROW LEVEL SECURITY', name) FROM bench.place \gexec
SELECT format('GRANT SELECT ON public.%s TO PUBLIC', name) FROM bench.place \gexec
SELECT format('CREATE POLICY %2$I ON public.%1$s FOR SELECT TO %2$I USING (%3$s)', p.name, 'bench_' || v.name, v.condition)
  FROM bench.place AS p, bench.variant AS v \gexec
VACUUM ANALYZE;
