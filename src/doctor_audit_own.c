/*-------------------------------------------------------------------------
 *
 * doctor_audit_own.c
 *	  The audit's checks of invitations, and of what a company asks before it
 *	  signs: single sign-on, retention, erasure, backup.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"

#include "doctor_audit.h"

#define SETTING(name) "pg_catalog.current_setting('invite_sync." name "')"
#define SET_SETTING(name, value) "pg_catalog.format('ALTER DATABASE %I SET invite_sync." name " = " value ";', pg_catalog.current_database())"
#define PENDING(i) i ".status = 'pending' AND " i ".expires_at > pg_catalog.now() AND NOT " i ".shadow"
#define REVOKE(i) "pg_catalog.format('SELECT invite_sync.revoke_invitation(%L);', " i ".id)"

/* ---------------------------------------------------------------------
 * invitation_security
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_invitation_security[] = {
	{
		"lifetime", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH found AS (SELECT 'warning' AS severity, 'invite_sync.invitation_ttl' AS object, 'invitations last longer than two weeks' AS finding, "
					   "pg_catalog.format('They last %s: a token that leaks is good for as long.', " SETTING("invitation_ttl") ") AS detail, " SET_SETTING("invitation_ttl", "''2d''") " AS fix "
					   "WHERE " SETTING("invitation_ttl") "::pg_catalog.interval > '14 days' "
					   "UNION ALL SELECT 'warning', pg_catalog.format('organization %s', p.organization_id), 'invitations of an organization last longer than two weeks', "
					   "pg_catalog.format('They last %s: a token that leaks is good for as long.', p.ttl), "
					   "pg_catalog.format('SELECT invite_sync.set_invitation_policy(%L, %L);', p.organization_id, '2 days') FROM invite_sync.invitation_policy AS p WHERE p.ttl > '14 days')"
					   AUDIT_REPORT("SELECT pg_catalog.format('The setting invite_sync.invitation_ttl (%s) and what %s organizations have set.', " SETTING("invitation_ttl") ", pg_catalog.count(*)) FROM invite_sync.invitation_policy AS p"))
		}
	},
	{
		"verified_address", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH found AS (SELECT 'warning' AS severity, 'invite_sync.require_verified_email' AS object, 'who accepts need not have verified the address' AS finding, "
					   "'Whoever gets hold of a token accepts with an account of any address that says it is the invited one.' AS detail, " SET_SETTING("require_verified_email", "''accept''") " AS fix "
					   "WHERE " SETTING("require_verified_email") " = 'off')"
					   AUDIT_REPORT("SELECT pg_catalog.format('The setting invite_sync.require_verified_email: %s.', " SETTING("require_verified_email") ")"))
		}
	},
	{
		"quotas_and_limits", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH found AS (SELECT 'warning' AS severity, 'invite_sync.default_quota' AS object, 'users may invite without a bound worth the name' AS finding, "
					   "pg_catalog.format('Everybody with a verified address may send %s invitations.', " SETTING("default_quota") ") AS detail, " SET_SETTING("default_quota", "3") " AS fix "
					   "WHERE " SETTING("default_quota") "::pg_catalog.int4 > 1000 "
					   "UNION ALL SELECT 'warning', pg_catalog.format('rate limit of %s per %s', r.action, r.scope), 'a rate limit is switched off', "
					   "pg_catalog.format('As often as anybody likes: what is built in for %s is set to %s.', r.action, coalesce(r.max_actions::pg_catalog.text || ' per ' || r.per, 'no limit')), "
					   "pg_catalog.format('SELECT invite_sync.drop_rate_limit(%L, %L);', r.action, r.scope) FROM invite_sync.rate_limit_rule AS r "
					   "WHERE (r.action, r.scope) IN (('invite', 'user'), ('message', 'recipient'), ('resend', 'invitation'), ('check_invitation', 'user')) "
					   "AND (r.max_actions IS NULL OR r.max_actions / EXTRACT(epoch FROM r.per) > 1000 / 3600.0))"
					   AUDIT_REPORT("SELECT pg_catalog.format('The setting invite_sync.default_quota (%s) and %s rate limits.', " SETTING("default_quota") ", pg_catalog.count(*)) FROM invite_sync.rate_limits AS r"))
		}
	},
	{
		"open_links", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH found AS (SELECT CASE WHEN g.mighty THEN 'error' ELSE 'warning' END AS severity, pg_catalog.format('invitation %s', i.id) AS object, "
					   "CASE WHEN g.mighty THEN 'link makes whoever has it an owner or administrator' ELSE 'link that anybody may use without a limit' END AS finding, "
					   "pg_catalog.format('Used %s times%s%s, good until %s.', i.uses, CASE WHEN i.max_uses IS NULL THEN ', no limit of uses' ELSE '' END, "
					   "CASE WHEN i.allowed_domain IS NULL THEN ', no domain' ELSE '' END, i.expires_at::pg_catalog.timestamptz(0) AT TIME ZONE 'UTC') AS detail, " REVOKE("i") " AS fix "
					   "FROM invite_sync.invitation AS i CROSS JOIN LATERAL (SELECT i.platform_role_id IS NOT NULL OR EXISTS (SELECT FROM invite_sync.invitation_grant AS g "
					   "JOIN invite_sync.role AS r ON r.id = g.role_id WHERE g.invitation_id = i.id AND g.open AND r.built_in AND r.name IN ('owner', 'admin')) AS mighty) AS g "
					   "WHERE i.kind = 'link' AND " PENDING("i") " AND i.allowed_domain IS NULL AND (i.max_uses IS NULL OR g.mighty AND i.max_uses > 1))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s links that are pending.', pg_catalog.count(*)) FROM invite_sync.invitation AS i WHERE i.kind = 'link' AND " PENDING("i")))
		}
	},
	{
		"inviters_gone", "users.id users.deleted_at users.banned_until", NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "SELECT coalesce(pg_catalog.array_agg(DISTINCT i.inviter_id), '{}') FROM invite_sync.invitation AS i WHERE i.inviter_id IS NOT NULL AND " PENDING("i")),
			AUDIT_STEP_FED(AUDIT_AUTH,
						   "SELECT coalesce(pg_catalog.array_agg(x.id), '{}') FROM pg_catalog.unnest($1::pg_catalog.uuid[]) AS x (id) WHERE NOT EXISTS (SELECT FROM auth.users AS u "
						   "WHERE u.id = x.id AND u.deleted_at IS NULL AND (u.banned_until IS NULL OR u.banned_until <= pg_catalog.now()))"),
			AUDIT_STEP_FED(AUDIT_OWN,
						   "WITH found AS (SELECT 'warning' AS severity, pg_catalog.format('invitation %s', i.id) AS object, 'invitation of somebody who is gone' AS finding, "
						   "pg_catalog.format('User %s, who sent it, is deleted or banned.', i.inviter_id) AS detail, " REVOKE("i") " AS fix "
						   "FROM invite_sync.invitation AS i WHERE i.inviter_id = ANY ($1::pg_catalog.uuid[]) AND " PENDING("i") ")"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s pending invitations of %s users.', pg_catalog.count(*), pg_catalog.count(DISTINCT i.inviter_id)) "
										"FROM invite_sync.invitation AS i WHERE i.inviter_id IS NOT NULL AND " PENDING("i")))
		}
	},
	{
		"tokens_in_clear", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_CLAUSES ", "
						   "kept AS MATERIALIZED (SELECT t.*, c.attnum, c.attname, t.secured AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = t.oid AND k.polpermissive "
						   "AND k.clause = 'USING' AND k.polcmd IN ('*', 'r') AND k.open) AS guarded FROM app AS t "
						   "JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped WHERE t.relkind IN ('r', 'p') AND t.relname ~* 'invit' "
						   "AND c.attname ~* '^(invit\\w*_)?(token|code|secret)$' AND c.atttypid IN ('pg_catalog.text'::pg_catalog.regtype, 'pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.uuid'::pg_catalog.regtype)), "
						   "found AS (SELECT CASE WHEN k.guarded THEN 'info' ELSE 'error' END AS severity, pg_catalog.format('%s.%I', k.name, k.attname) AS object, "
						   "'invitation tokens are kept in clear' AS finding, pg_catalog.format('%s may read the column%s. A hash of the token is enough to look it up.', g.names, "
						   "CASE WHEN k.guarded THEN ', of the rows that policies let them see' ELSE ' of all rows' END) AS detail, "
						   "pg_catalog.format('REVOKE SELECT ON TABLE %s FROM %s;', k.name, g.names) || coalesce((SELECT pg_catalog.string_agg(pg_catalog.format(' GRANT SELECT (%s) ON TABLE %s TO %s;', x.columns, k.name, x.name), '' ORDER BY x.name) "
						   "FROM (SELECT a.name, pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ' ORDER BY c.attnum) AS columns FROM api AS a JOIN pg_catalog.pg_attribute AS c ON c.attrelid = k.oid AND c.attnum > 0 "
						   "AND NOT c.attisdropped WHERE pg_catalog.has_column_privilege(a.role, k.oid, c.attnum, 'SELECT') AND (a.role <> 0 OR NOT EXISTS (SELECT FROM api AS y WHERE y.role <> 0)) "
						   "AND NOT EXISTS (SELECT FROM kept AS y WHERE y.oid = k.oid AND y.attnum = c.attnum) GROUP BY a.name) AS x), '') AS fix FROM kept AS k CROSS JOIN LATERAL ("
						   "SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) AS names FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, k.relnamespace, 'USAGE') "
						   "AND pg_catalog.has_column_privilege(a.role, k.oid, k.attnum, 'SELECT')) AS g WHERE g.names IS NOT NULL)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s columns of the application''s own tables of invitations. The tokens of invite_sync are kept as digests.', pg_catalog.count(*)) FROM kept AS k"))
		}
	},
	{.name = NULL}
};

/* ---------------------------------------------------------------------
 * enterprise_readiness
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_enterprise_readiness[] = {
	{
		"sso", "sso_providers.id sso_domains.sso_provider_id sso_domains.domain identities.provider identities.user_id users.id users.email users.is_sso_user users.encrypted_password users.deleted_at", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (SELECT 'info' AS severity, pg_catalog.format('provider %s', p.id) AS object, 'identity provider without a domain' AS finding, "
					   "'Nobody is sent to it by their address; only who knows its id.' AS detail, NULL::pg_catalog.text AS fix FROM auth.sso_providers AS p "
					   "WHERE NOT EXISTS (SELECT FROM auth.sso_domains AS d WHERE d.sso_provider_id = p.id) "
					   "UNION ALL SELECT 'warning', pg_catalog.format('provider %s', p.id), 'users of a company with single sign-on have passwords as well', "
					   "pg_catalog.format('%s users with an address of its domains log in with a password: what their company switches off stays on here.', pg_catalog.count(*)), NULL "
					   "FROM auth.sso_providers AS p JOIN auth.sso_domains AS d ON d.sso_provider_id = p.id JOIN auth.users AS u "
					   "ON pg_catalog.lower(pg_catalog.split_part(u.email, '@', 2)) = pg_catalog.lower(d.domain) WHERE NOT u.is_sso_user AND u.deleted_at IS NULL AND u.encrypted_password <> '' GROUP BY p.id "
					   "UNION ALL SELECT 'warning', 'auth.identities', 'users whose identity provider is gone', "
					   "pg_catalog.format('%s users can log in no more: the provider of their identity was removed.', pg_catalog.count(DISTINCT i.user_id)), NULL FROM auth.identities AS i "
					   "WHERE i.provider LIKE 'sso:%' AND NOT EXISTS (SELECT FROM auth.sso_providers AS p WHERE 'sso:' || p.id::pg_catalog.text = i.provider) HAVING pg_catalog.count(*) > 0)"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s identity providers, %s domains, %s users of single sign-on.', (SELECT pg_catalog.count(*) FROM auth.sso_providers AS p), "
									"(SELECT pg_catalog.count(*) FROM auth.sso_domains AS d), (SELECT pg_catalog.count(*) FROM auth.users AS u WHERE u.is_sso_user))"))
		}
	},
	{
		"scim", "users.id users.is_sso_user users.last_sign_in_at users.deleted_at users.banned_until", NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "SELECT coalesce(pg_catalog.array_agg(DISTINCT m.user_id), '{}') FROM invite_sync.membership AS m"),
			AUDIT_STEP_FED(AUDIT_AUTH,
						   "WITH found AS (SELECT 'warning' AS severity, 'auth.users' AS object, 'nobody takes away who left their company' AS finding, "
						   "pg_catalog.format('%s users of single sign-on have not logged in for 90 days and are members of organizations still. There is no SCIM: whoever leaves has to be removed by remove_member(), or by the company''s own calls.', x.n) AS detail, "
						   "NULL::pg_catalog.text AS fix FROM (SELECT pg_catalog.count(*) AS n FROM auth.users AS u WHERE u.is_sso_user AND u.deleted_at IS NULL "
						   "AND (u.banned_until IS NULL OR u.banned_until <= pg_catalog.now()) AND u.last_sign_in_at < pg_catalog.now() - interval '90 days' AND u.id = ANY ($1::pg_catalog.uuid[])) AS x WHERE x.n > 0)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s users of single sign-on. Neither the auth server nor this extension speaks SCIM.', pg_catalog.count(*)) FROM auth.users AS u WHERE u.is_sso_user"))
		}
	},
	{
		"domains", "sso_domains.domain users.id", "{}", {
			AUDIT_STEP(AUDIT_AUTH, "SELECT coalesce(pg_catalog.array_agg(pg_catalog.lower(d.domain)), '{}') FROM auth.sso_domains AS d"),
			AUDIT_STEP_FED(AUDIT_OWN,
						   "WITH found AS (SELECT 'warning' AS severity, pg_catalog.format('domain %s', d.id) AS object, 'domain is claimed and not verified' AS finding, "
						   "pg_catalog.format('Organization %s claimed it more than 30 days ago: the claim counts for nothing.', d.organization_id) AS detail, "
						   "pg_catalog.format('SELECT r.id FROM invite_sync.organization_domain AS d CROSS JOIN LATERAL invite_sync.remove_domain(d.organization_id, d.domain) AS r WHERE d.id = %L;', d.id) AS fix "
						   "FROM invite_sync.organization_domain AS d WHERE d.verified_at IS NULL AND d.created_at < pg_catalog.now() - interval '30 days' "
						   "UNION ALL SELECT 'info', 'auth.sso_domains', 'domains of single sign-on that no organization has verified', "
						   "pg_catalog.format('%s domains: their users log in, and join no organization by it.', pg_catalog.count(*)), NULL FROM pg_catalog.unnest($1::pg_catalog.text[]) AS s (domain) "
						   "WHERE NOT EXISTS (SELECT FROM invite_sync.organization_domain AS d WHERE d.domain = s.domain AND d.verified_at IS NOT NULL) HAVING pg_catalog.count(*) > 0)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s domains of organizations, %s of them verified.', pg_catalog.count(*), pg_catalog.count(d.verified_at)) FROM invite_sync.organization_domain AS d"))
		}
	},
	{
		"audit_retention", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH log AS MATERIALIZED (SELECT (SELECT e.id FROM invite_sync.event AS e ORDER BY e.id LIMIT 1) AS oldest, pg_catalog.count(*) AS n "
					   "FROM (SELECT FROM invite_sync.event AS e LIMIT 100001) AS e), "
					   "seal AS MATERIALIZED (SELECT pg_catalog.count(*) AS n, pg_catalog.max(s.last_id) AS last_id FROM invite_sync.event_seal AS s), found AS ("
					   "SELECT 'error' AS severity, 'invite_sync.event' AS object, 'the audit log can be changed' AS finding, "
					   "'The trigger that refuses UPDATE, DELETE and TRUNCATE does not fire always.' AS detail, 'ALTER TABLE invite_sync.event ENABLE ALWAYS TRIGGER event_append_only;' AS fix "
					   "WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = 'invite_sync.event'::pg_catalog.regclass AND t.tgname = 'event_append_only' AND t.tgenabled = 'A') "
					   "UNION ALL SELECT 'warning', 'invite_sync.event', 'the audit log is not sealed', "
					   "pg_catalog.format('%s events (10000 is where counting ends) were written more than a day ago and no seal covers them: nobody could tell that one was changed.', x.n), "
					   "'SELECT * FROM invite_sync.seal_events();' FROM (SELECT pg_catalog.count(*) AS n FROM (SELECT FROM invite_sync.event AS e "
					   "WHERE e.id > coalesce((SELECT s.last_id FROM seal AS s), 0) AND e.at < pg_catalog.now() - interval '1 day' LIMIT 10000) AS e) AS x WHERE x.n >= 10000 OR x.n > 0 AND (SELECT s.n FROM seal AS s) > 0 "
					   "UNION ALL SELECT 'info', 'invite_sync.event', 'events are kept for more than two years', 'Nothing has pruned the log: prune_events() does, as long as its users'' ids are nobody''s business any more.', "
					   "'CALL invite_sync.prune_events(interval ''2 years'');' FROM log AS l JOIN invite_sync.event AS e ON e.id = l.oldest "
					   "WHERE e.at < pg_catalog.now() - interval '2 years' AND NOT EXISTS (SELECT FROM invite_sync.event_seal AS s WHERE l.oldest BETWEEN s.first_id AND s.last_id "
					   "AND s.at >= pg_catalog.now() - interval '2 years'))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s events, %s seals, and the trigger that keeps the log.', (SELECT CASE WHEN l.n > 100000 THEN 'more than 100000' ELSE l.n::pg_catalog.text END FROM log AS l), (SELECT s.n FROM seal AS s))"))
		}
	},
	{
		"erasure", NULL, NULL, {
			AUDIT_STEP_FACTS(
					   "WITH " AUDIT_APP ", link AS MATERIALIZED (SELECT f.conname, f.confdeltype, t.oid, t.name, pg_catalog.pg_get_constraintdef(f.oid) AS definition, "
					   "(SELECT pg_catalog.bool_and(NOT a.attnotnull) FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)) AS nullable "
					   "FROM pg_catalog.pg_constraint AS f JOIN app AS t ON t.oid = f.conrelid WHERE f.contype = 'f' AND f.conparentid = 0 AND t.nspname <> 'storage' AND f.confrelid = " AUDIT_AUTH_USERS "), found AS ("
					   "SELECT 'warning' AS severity, l.name AS object, pg_catalog.format('foreign key %I keeps users from being erased', l.conname) AS finding, "
					   "'Who has a row there cannot be deleted from auth.users.' AS detail, "
					   "pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s;', l.name, l.conname, l.conname, "
					   "pg_catalog.regexp_replace(pg_catalog.regexp_replace(l.definition, ' ON DELETE (NO ACTION|RESTRICT|SET NULL( \\([^)]*\\))?)', ''), "
					   "'( DEFERRABLE.*| INITIALLY.*| NOT VALID.*)?$', ' ON DELETE ' || CASE WHEN l.nullable THEN 'SET NULL' ELSE 'CASCADE' END || '\\1')) AS fix FROM link AS l WHERE l.confdeltype IN ('a', 'r') OR l.confdeltype = 'n' AND NOT l.nullable)"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s foreign keys to auth.users.', pg_catalog.count(*)) FROM link AS l"))
		}
	},
	{
		"export", NULL, NULL, {
			AUDIT_STEP_FACTS(
					   "WITH " AUDIT_APP ", column_of AS MATERIALIZED (SELECT t.name, c.attname, EXISTS (SELECT FROM pg_catalog.pg_constraint AS f WHERE f.conrelid = t.oid AND f.contype = 'f' "
					   "AND c.attnum = ANY (f.conkey)) AS linked FROM app AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped "
					   "WHERE t.relkind IN ('r', 'p') AND c.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND c.attname ~* '^(user|owner|author|profile|member)_?(id|uuid)$'), found AS ("
					   "SELECT 'info' AS severity, pg_catalog.format('%s.%I', c.name, c.attname) AS object, 'rows of users that no foreign key finds' AS finding, "
					   "'Neither an export of a user''s data nor a deletion that follows foreign keys comes by here.' AS detail, NULL::pg_catalog.text AS fix FROM column_of AS c WHERE NOT c.linked)"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s columns with users'' ids, by their names, %s of them with a foreign key.', pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE c.linked)) FROM column_of AS c"))
		}
	},
	{
		"dump", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH extension AS MATERIALIZED (SELECT x.extconfig FROM pg_catalog.pg_extension AS x WHERE x.extname = 'invite_sync'), "
					   "ours AS MATERIALIZED (SELECT c.oid, c.oid::pg_catalog.regclass::pg_catalog.text AS name FROM pg_catalog.pg_class AS c "
					   "WHERE c.relnamespace = 'invite_sync'::pg_catalog.regnamespace AND c.relkind IN ('r', 'S') AND c.relname <> 'lineage'), "
					   "owner AS MATERIALIZED (SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.datdba "
					   "WHERE d.datname = pg_catalog.current_database()), found AS ("
					   "SELECT 'error' AS severity, o.name AS object, 'pg_dump leaves its rows out' AS finding, "
					   "'It is not registered with pg_extension_config_dump(): a restored database lacks what is in it.' AS detail, NULL::pg_catalog.text AS fix "
					   "FROM ours AS o CROSS JOIN extension AS x WHERE NOT o.oid = ANY (coalesce(x.extconfig, '{}')) "
					   "UNION ALL SELECT 'warning', pg_catalog.quote_ident(w.rolname), 'the owner of the database cannot dump it', "
					   "pg_catalog.format('It may read %s of %s tables and sequences of ours, and %s row level security: pg_dump as this role fails as a whole.', "
					   "(SELECT pg_catalog.count(*) FROM ours AS o WHERE pg_catalog.has_table_privilege(w.oid, o.oid, 'SELECT')), (SELECT pg_catalog.count(*) FROM ours AS o), "
					   "CASE WHEN w.rolbypassrls THEN 'bypasses' ELSE 'does not bypass' END), pg_catalog.concat_ws(' ', CASE WHEN NOT w.rolbypassrls THEN pg_catalog.format('ALTER ROLE %I BYPASSRLS;', w.rolname) END, "
					   "pg_catalog.format('SELECT invite_sync.grant_dump(%L);', pg_catalog.quote_ident(w.rolname))) FROM owner AS w WHERE NOT w.rolsuper "
					   "AND (NOT w.rolbypassrls OR EXISTS (SELECT FROM ours AS o WHERE NOT pg_catalog.has_table_privilege(w.oid, o.oid, 'SELECT'))))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s tables and sequences of ours, and the rights of the owner of the database.', pg_catalog.count(*)) FROM ours AS o"))
		}
	},
	{.name = NULL}
};
