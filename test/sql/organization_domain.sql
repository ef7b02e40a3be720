--
-- The email domains that organizations claim: who may, which ones, and whose
-- they are.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA domain_test;
SET search_path = public, domain_test;
INSERT INTO auth.users (id, email, is_anonymous, banned_until) VALUES
	('d1000000-0000-4000-8000-000000000001', 'ann@domain.example', false, NULL),
	('d1000000-0000-4000-8000-000000000002', 'bob@domain.example', false, NULL),
	('d1000000-0000-4000-8000-000000000003', 'cid@domain.example', false, NULL),
	('d1000000-0000-4000-8000-000000000004', 'dan@domain.example', false, NULL),
	('d1000000-0000-4000-8000-00000000000a', NULL, true, NULL),
	('d1000000-0000-4000-8000-00000000000b', 'ban@domain.example', false, 'infinity');
\set ann '\'d1000000-0000-4000-8000-000000000001\''
\set bob '\'d1000000-0000-4000-8000-000000000002\''
\set cid '\'d1000000-0000-4000-8000-000000000003\''
\set dan '\'d1000000-0000-4000-8000-000000000004\''
\set anonymous '\'d1000000-0000-4000-8000-00000000000a\''
\set banned '\'d1000000-0000-4000-8000-00000000000b\''
\set nobody '\'d1000000-0000-4000-8000-0000000000ff\''
CREATE FUNCTION domain_test.org(slug text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT o.id FROM invite_sync.organization AS o WHERE o.slug = $1 $$;
CREATE FUNCTION domain_test.claim(sub text, role text DEFAULT 'authenticated') RETURNS void LANGUAGE sql
	AS $$ SELECT set_config('request.jwt.claims', jsonb_build_object('sub', sub, 'role', role)::text, false) $$;
CREATE FUNCTION domain_test.as_definer(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
	AS $$ DECLARE result text; BEGIN EXECUTE statement INTO result; RETURN result; END $$;
CREATE FUNCTION domain_test.join_as(slug text, member uuid, role text) RETURNS void LANGUAGE sql SECURITY DEFINER
	AS $$ INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
	      SELECT o.id, member, invite_sync.role_id_of(role, o.id) FROM invite_sync.organization AS o WHERE o.slug = $1 $$;
-- the reason of a refusal, or what the statement gives
CREATE FUNCTION domain_test.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	EXECUTE statement INTO said;
	RETURN said;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || said;
END $$;
CREATE VIEW domain_test.last AS
	SELECT kind, action, split_part(u.email, '@', 1) AS actor, o.slug AS organization, target_type, data - 'domain_id' AS data, data ? 'domain_id' AS domain_id
	  FROM invite_sync.event AS e LEFT JOIN auth.users AS u ON u.id = e.actor_id LEFT JOIN invite_sync.organization AS o ON o.id = e.organization_id
	 ORDER BY e.id DESC LIMIT 1;
GRANT USAGE ON SCHEMA domain_test TO anon, authenticated, service_role;
RESET client_min_messages;
\pset null (null)
SELECT slug FROM invite_sync.create_organization('Acme', owner_id => :ann);
SELECT slug FROM invite_sync.create_organization('Rival', owner_id => :bob);
SELECT join_as('acme', :cid, 'member') \g /dev/null
INSERT INTO invite_sync.role (name, organization_id) VALUES ('postmaster', org('acme'));
INSERT INTO invite_sync.role_permission SELECT id, 'domains.manage' FROM invite_sync.role WHERE name = 'postmaster';
SELECT join_as('acme', :dan, 'postmaster') \g /dev/null

--
-- Claiming one
--
SELECT claim(:ann) \g /dev/null
SET ROLE authenticated;
SELECT organization_id = org('acme') AS acme, domain, record_name, record_value ~ '^invite-sync-verification=[0-9a-f]{32}$' AS value, enrollment, created_by = :ann AS by_ann, created_at = now() AS now, verified_at
  FROM invite_sync.add_domain(org('acme'), 'acme.com');
-- again, in other letters: the same claim, the same record
SELECT record_value AS value FROM invite_sync.list_domains(org('acme')) \gset
SELECT domain, record_value = :'value' AS same FROM invite_sync.add_domain(org('acme'), 'ACME.com.');
SELECT domain FROM invite_sync.add_domain(org('acme'), 'mail.acme.com');
SELECT domain FROM invite_sync.add_domain(org('acme'), 'xn--bcher-kva.example');
SELECT domain FROM invite_sync.add_domain(org('acme'), 'acme.co.uk');
SELECT domain FROM invite_sync.add_domain(org('acme'), '4chan.org');
SELECT count(DISTINCT record_value) = 5 AS different FROM invite_sync.list_domains(org('acme'));
RESET ROLE;
SELECT * FROM last;
-- whole: below a country's registry, a platform, a provider there are owners; those themselves are nobody's
SET ROLE authenticated;
SELECT d, try(format('SELECT domain FROM invite_sync.add_domain(org(''acme''), %L)', d))
  FROM unnest(ARRAY['com', 'localhost', 'co.uk', 'com.au', 'co.jp', 'com.br', 'gov.uk', 'ac.nz', 'org.za', 'github.io', 'supabase.co', 'vercel.app', 'up.railway.app', 'UK.com',
	'gmail.com', 'GMAIL.COM.', 'googlemail.com', 'hotmail.fr', 'outlook.com', 'yahoo.co.uk', 'yahoo.com.br', 'gmx.de', 'live.co.uk', 'proton.me', 'qq.com', 'web.de', 'mailinator.com', 'privaterelay.appleid.com', 'users.noreply.github.com']) AS d;
SELECT d, try(format('SELECT domain FROM invite_sync.add_domain(org(''acme''), %L)', d))
  FROM unnest(ARRAY['acme.github.io', 'acme.supabase.co', 'notgmail.com', 'gmail.acme.com', 'yahoo.acme.co.uk', 'live.example', 'co.example', 'uk.co', 'acme.com.au', 'gov.acme.uk']) AS d;
-- not a domain at all
SELECT d, try(format('SELECT domain FROM invite_sync.add_domain(org(''acme''), %L)', d))
  FROM unnest(ARRAY['', '.', '..', 'acme', 'a.b.', '.acme.com', 'acme..com', 'acme.com..', '-acme.com', 'acme-.com', 'ac_me.com', 'acme.com/', ' acme.com', 'acme com', 'ann@acme.com', '*.acme.com', 'bücher.example', 'acme.c', 'acme.1a', '127.0.0.1', E'acme.com\n', NULL]) AS d;
SELECT length(d), try(format('SELECT length(domain) FROM invite_sync.add_domain(org(''acme''), %L)', d))
  FROM unnest(ARRAY[repeat('a', 63) || '.com', repeat('a', 64) || '.com', repeat('a.', 125) || 'com', repeat('a.', 125) || 'comm', repeat('a.', 125) || 'com.', repeat('x', 1000000)]) AS d;
-- who may
SELECT try($$SELECT domain FROM invite_sync.add_domain(NULL, 'x.example')$$);
SELECT try($$SELECT domain FROM invite_sync.add_domain('d1000000-0000-4000-8000-0000000000ff', 'x.example')$$);
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('rival'), 'x.example')$$);
SELECT claim(:cid) \g /dev/null
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('acme'), 'x.example')$$);
SELECT try($$SELECT domain FROM invite_sync.remove_domain(org('acme'), 'acme.com')$$);
SELECT try($$SELECT domain FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'none')$$);
SELECT try($$SELECT count(*) FROM invite_sync.list_domains(org('acme'))$$);
SELECT try($$SELECT as_definer('SELECT count(*) FROM invite_sync.list_domains(domain_test.org(''acme''))')$$);
SELECT claim(:anonymous) \g /dev/null
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('acme'), 'x.example')$$);
SELECT try($$SELECT count(*) FROM invite_sync.list_domains(org('acme'))$$);
SELECT claim(:banned) \g /dev/null
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('acme'), 'x.example')$$);
RESET request.jwt.claims;
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('acme'), 'x.example')$$);
SET ROLE anon;
SELECT domain FROM invite_sync.add_domain(org('acme'), 'x.example');
SELECT domain FROM invite_sync.list_domains(org('acme'));
RESET ROLE;
SELECT claim(:dan) \g /dev/null
SET ROLE authenticated;
SELECT domain FROM invite_sync.add_domain(org('acme'), 'postmaster.example');
SELECT domain FROM invite_sync.remove_domain(org('acme'), 'postmaster.example');
RESET ROLE;
RESET request.jwt.claims;

--
-- Proving it
--
SET ROLE service_role;
SELECT domain, record_value, created_by FROM invite_sync.add_domain(org('rival'), 'acme.com') \gset rival_
SELECT :'rival_record_value' <> :'value' AS another_record;
SELECT verified_at FROM invite_sync.verify_domain(org('acme'), 'acme.com', '{}');
SELECT verified_at FROM invite_sync.verify_domain(org('acme'), 'acme.com', ARRAY[NULL, '', 'v=spf1 -all', :'value' || 'x', 'x' || :'value', '"' || :'value', :'value' || '"', upper(:'value'), :'rival_record_value']);
SELECT try($$SELECT domain FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'suggest')$$);
SELECT try($$SELECT domain FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'auto')$$);
SELECT try($$SELECT domain FROM invite_sync.verify_domain(org('acme'), 'acme.com', NULL)$$);
SELECT try($$SELECT domain FROM invite_sync.verify_domain(org('acme'), NULL, '{}')$$);
SELECT try($$SELECT domain FROM invite_sync.verify_domain(NULL, 'acme.com', '{}')$$);
SELECT try($$SELECT domain FROM invite_sync.verify_domain('d1000000-0000-4000-8000-0000000000ff', 'acme.com', '{}')$$);
SELECT try($$SELECT domain FROM invite_sync.verify_domain(org('acme'), 'other.example', '{}')$$);
SELECT try($$SELECT domain FROM invite_sync.verify_domain(org('acme'), 'acme.com', array_fill('x'::text, ARRAY[1001]))$$);
SELECT domain, verified_at = now() AS now FROM invite_sync.verify_domain(org('acme'), 'Acme.COM', ARRAY['v=spf1 -all', :'value']);
-- it stays so
SELECT domain, verified_at < now() AS before FROM invite_sync.verify_domain(org('acme'), 'acme.com', '{}');
-- a text that a resolver has left in quotes
SELECT record_value AS second FROM invite_sync.add_domain(org('acme'), 'mail.acme.com') \gset
SELECT verified_at = now() AS now FROM invite_sync.verify_domain(org('acme'), 'mail.acme.com', ARRAY['"' || :'second' || '"']);
RESET ROLE;
SELECT * FROM last;
-- one organization at a time
SET ROLE service_role;
SELECT try(format('SELECT domain FROM invite_sync.verify_domain(org(''rival''), ''acme.com'', ARRAY[%L])', :'rival_record_value'));
SELECT try($$SELECT domain FROM invite_sync.remove_domain(org('rival'), 'acme.com')$$);
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('rival'), 'acme.com')$$);
RESET ROLE;
-- whoever writes
\set VERBOSITY terse
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at) VALUES (org('rival'), 'acme.com', 'x', now());
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge) VALUES (org('acme'), 'acme.com', 'x');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge) VALUES (org('rival'), 'Upper.com', 'x');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, enrollment) VALUES (org('rival'), 'rival.com', 'x', 'auto');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, enrollment) VALUES (org('rival'), 'rival.com', 'x', 'always');
UPDATE invite_sync.organization_domain SET organization_id = org('rival') WHERE domain = 'acme.co.uk';
UPDATE invite_sync.organization_domain SET domain = 'rival.com' WHERE domain = 'acme.co.uk';
\set VERBOSITY default
-- it is a service that looks up and tells
SELECT claim(:ann) \g /dev/null
SET ROLE authenticated;
SELECT domain FROM invite_sync.verify_domain(org('acme'), 'acme.co.uk', '{}');
SELECT try($$SELECT as_definer('SELECT domain FROM invite_sync.verify_domain(domain_test.org(''acme''), ''acme.co.uk'', ''{}'')')$$);

--
-- What it is good for
--
SELECT domain, enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'suggest');
SELECT domain, enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'auto');
SELECT domain, enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'auto');
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.co.uk', 'auto')$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.co.uk', 'none')$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'always')$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', NULL)$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), NULL, 'none')$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'unknown.example', 'none')$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(org('rival'), 'acme.com', 'none')$$);
SELECT try($$SELECT enrollment FROM invite_sync.set_enrollment(NULL, 'acme.com', 'none')$$);
RESET ROLE;
SELECT * FROM last;
-- whoever joins may more than dan, who manages domains and may do nothing else
SELECT claim(:dan) \g /dev/null
SET ROLE authenticated;
SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'suggest');
SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'auto');
SELECT enrollment FROM invite_sync.set_enrollment(org('acme'), 'acme.com', 'none');

--
-- Lists
--
SELECT claim(:ann) \g /dev/null
BEGIN READ ONLY;
SELECT array_agg(domain ORDER BY created_at DESC, id DESC) AS domains FROM invite_sync.list_domains(org('acme')) \gset
COMMIT;
WITH RECURSIVE pages AS (
	SELECT 1 AS n, p.domain, p.cursor FROM invite_sync.list_domains(org('acme'), page_size => 1) AS p
	UNION ALL
	SELECT a.n + 1, p.domain, p.cursor FROM pages AS a CROSS JOIN LATERAL invite_sync.list_domains(org('acme'), a.cursor, 1) AS p)
SELECT count(*) > 5 AS some, array_agg(domain ORDER BY n) = :'domains'::text[] AS same FROM pages;
SELECT domain, record_name, enrollment, verified_at IS NOT NULL AS verified FROM invite_sync.list_domains(org('acme')) WHERE domain LIKE '%acme.co%' ORDER BY domain;
SELECT try($$SELECT domain FROM invite_sync.list_domains(org('acme'), 'x')$$);
SELECT try($$SELECT domain FROM invite_sync.list_domains(org('acme'), page_size => 501)$$);
SELECT try($$SELECT domain FROM invite_sync.list_domains(NULL)$$);
SELECT try($$SELECT domain FROM invite_sync.list_domains(org('rival'))$$);

--
-- Giving it up
--
RESET ROLE;
SET client_min_messages = warning;
CREATE ROLE domain_app;
GRANT USAGE ON SCHEMA domain_test TO domain_app;
CREATE TABLE domain_test.zone (domain uuid REFERENCES invite_sync.organization_domain ON DELETE CASCADE, as_role name);
CREATE TABLE domain_test.heard (as_role name);
GRANT INSERT ON domain_test.heard TO PUBLIC;
ALTER TABLE domain_test.zone OWNER TO domain_app;
CREATE FUNCTION domain_test.hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO domain_test.heard VALUES (current_user); RETURN NULL; END $$;
CREATE TRIGGER hear AFTER DELETE ON domain_test.zone FOR EACH ROW EXECUTE FUNCTION domain_test.hear();
INSERT INTO domain_test.zone SELECT id FROM invite_sync.organization_domain WHERE domain LIKE '%acme.co%';
RESET client_min_messages;
SET ROLE authenticated;
SELECT domain, verified_at IS NOT NULL AS verified FROM invite_sync.remove_domain(org('acme'), 'ACME.COM');
SELECT try($$SELECT domain FROM invite_sync.remove_domain(org('acme'), 'acme.com')$$);
SELECT try($$SELECT domain FROM invite_sync.remove_domain(org('acme'), NULL)$$);
SELECT try($$SELECT domain FROM invite_sync.remove_domain(org('rival'), 'acme.com')$$);
RESET ROLE;
SELECT * FROM domain_test.heard;
SELECT * FROM last;
-- then it can be another's
SET ROLE authenticated;
SELECT claim(:bob) \g /dev/null
SELECT domain, record_value AS rival_record_value FROM invite_sync.add_domain(org('rival'), 'acme.com') \gset
RESET ROLE;
RESET request.jwt.claims;
SELECT verified_at IS NOT NULL AS verified FROM invite_sync.verify_domain(org('rival'), 'acme.com', ARRAY[:'rival_record_value']);
SELECT try($$SELECT domain FROM invite_sync.add_domain(org('acme'), 'acme.com')$$);
-- and go with its organization
SELECT slug FROM invite_sync.delete_organization(org('rival'));
SELECT domain FROM invite_sync.add_domain(org('acme'), 'acme.com');
SELECT slug FROM invite_sync.delete_organization(org('acme'));
SELECT count(*) FROM invite_sync.organization_domain;
SELECT count(*) FROM domain_test.zone;
SELECT * FROM domain_test.heard GROUP BY 1;
SELECT count(*) FROM invite_sync.event WHERE action ~ 'domain|enrollment' AND (data::text ~ 'acme|verification' OR data->>'domain_id' IS NULL);

SET client_min_messages = warning;
DELETE FROM auth.users WHERE email LIKE '%@domain.example' OR id = :anonymous;
DROP SCHEMA domain_test CASCADE;
DROP ROLE domain_app;
