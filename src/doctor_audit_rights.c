/*-------------------------------------------------------------------------
 *
 * doctor_audit_rights.c
 *	  The audit's checks of tenant isolation and of the permission model.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"

#include "doctor_audit.h"

/* Tables by whose names a row is a person, or what a person may do. */
#define AUDIT_OF_PEOPLE "'user|profile|account|member|role|permission|admin|staff|employee|person|people|customer'"

/* Columns that can hardly be anything but a right; and what somebody pays for. By their names without underscores, in lower case. */
#define SURE "'^((is|has)?(super)?(admin|administrator|superuser|staff|moderator|root)|is(account|org|organization|team)?owner|" \
	"(platform|organization|org|app|user|team|tenant|workspace)roles?|accesslevel|privilegelevel)$'"
#define PAID "'^(plan|tier|(plan|tier)(id|name|type|level)|(subscription|billing|pricing)(plan|tier|level|status)|(is|has)?(premium|verified|approved)|is(pro|paid)|(user|account|membership)(type|level|tier)|credits|quota|seats?limit)$'"

/*
 * A tenant's table whose rows are kept from somebody: by row level security, but for names that mean something else where
 * everybody reads them on purpose; or by giving nobody rights.
 */
#define AUDIT_IS_HELD_BACK(t) \
	"(" t ".secured AND (" t ".strong OR NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = " t ".oid AND k.polpermissive AND k.open " \
	"AND k.clause = 'USING' AND k.polcmd IN ('*', 'r'))) OR NOT " t ".secured AND " t ".roles IS NULL)"

/* ---------------------------------------------------------------------
 * tenant_isolation
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_tenant_isolation[] = {
	{
		"tables_without_rls", NULL, NULL, {
			AUDIT_STEP_FACTS(
					   "WITH RECURSIVE " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", "
					   "link AS MATERIALIZED (SELECT f.conrelid, f.confrelid, pg_catalog.min(pg_catalog.quote_ident(f.conname)) AS conname, pg_catalog.array_agg(f.confkey[1]) AS keys "
					   "FROM pg_catalog.pg_constraint AS f WHERE f.contype = 'f' AND f.conrelid <> f.confrelid GROUP BY 1, 2), "
					   "part (oid, whose, way) AS (SELECT k.conrelid, t.name, k.conname FROM tenant AS t JOIN link AS k ON k.confrelid = t.oid WHERE t.strong "
					   "AND NOT EXISTS (SELECT FROM tenant AS o WHERE o.oid = k.conrelid) "
					   "UNION SELECT k.conrelid, p.whose, k.conname FROM part AS p JOIN link AS k ON k.confrelid = p.oid WHERE NOT EXISTS (SELECT FROM tenant AS o WHERE o.oid = k.conrelid)), "
					   "found AS ("
					   "SELECT CASE WHEN t.strong THEN 'error' ELSE 'warning' END AS severity, t.name AS object, "
					   "'organization column without row level security' AS finding, "
					   "pg_catalog.format('Column %I says whose a row is, and %s reach all rows: row level security is off. "
					   "Until there are policies, the fix closes the table to them; invite_sync.protect_table() writes policies.', t.attname, r.roles) AS detail, "
					   "pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', t.name) AS fix "
					   "FROM tenant AS t JOIN app AS r ON r.oid = t.oid AND r.roles IS NOT NULL WHERE t.relkind IN ('r', 'p') AND NOT t.secured "
					   "UNION ALL SELECT 'warning', t.name, 'organization column in a foreign table', "
					   "pg_catalog.format('Column %I says whose a row is, and %s reach all rows: a foreign table has no row level security.', t.attname, r.roles), "
					   "pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s;', t.name, " AUDIT_API_LIST ") "
					   "FROM tenant AS t JOIN app AS r ON r.oid = t.oid AND r.roles IS NOT NULL WHERE t.relkind = 'f' "
					   "UNION ALL SELECT 'warning', r.name, 'parts of rows of organizations without row level security', "
					   "pg_catalog.format('Its rows belong to rows of %s (by %s), which say whose they are, and %s reach all of them: row level security is off. "
					   "Until there are policies, the fix closes the table to them.', pg_catalog.string_agg(DISTINCT p.whose, ', '), pg_catalog.string_agg(DISTINCT p.way, ', '), r.roles), "
					   "pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', r.name) FROM part AS p JOIN app AS r ON r.oid = p.oid AND r.roles IS NOT NULL AND NOT r.secured "
					   "AND r.relkind IN ('r', 'p') GROUP BY r.name, r.roles "
					   "UNION ALL SELECT 'warning', r.name, 'organizations without row level security', "
					   "pg_catalog.format('Columns of other tables say by it whose a row is, and %s may write: row level security is off. "
					   "Until there are policies, the fix closes the table to them.', g.names), "
					   "pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', r.name) FROM app AS r CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) AS names FROM api AS a "
					   "WHERE pg_catalog.has_schema_privilege(a.role, r.relnamespace, 'USAGE') AND (pg_catalog.has_table_privilege(a.role, r.oid, 'INSERT, UPDATE, DELETE') "
					   "OR pg_catalog.has_any_column_privilege(a.role, r.oid, 'INSERT, UPDATE'))) AS g "
					   "WHERE r.relkind IN ('r', 'p') AND NOT r.secured AND g.names IS NOT NULL AND NOT EXISTS (SELECT FROM tenant AS o WHERE o.oid = r.oid) AND NOT EXISTS (SELECT FROM part AS p WHERE p.oid = r.oid) "
					   "AND EXISTS (SELECT FROM pg_catalog.pg_constraint AS f JOIN tenant AS t ON t.oid = f.conrelid AND t.attnum = f.conkey[1] WHERE f.contype = 'f' AND f.confrelid = r.oid AND f.conrelid <> f.confrelid))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s tables with an organization column, %s of them within reach of %s; %s have row level security. And %s tables that belong to those by foreign keys.', "
									"pg_catalog.count(*), pg_catalog.count(r.oid), " AUDIT_API_LIST ", pg_catalog.count(*) FILTER (WHERE t.secured), (SELECT pg_catalog.count(DISTINCT p.oid) FROM part AS p)) "
									"FROM tenant AS t LEFT JOIN app AS r ON r.oid = t.oid AND r.roles IS NOT NULL"))
		}
	},
	{
		"policies_that_compare_nothing", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", "
						   /* a weak name is meant where some of its tables are kept from others */
						   "kept AS MATERIALIZED (SELECT DISTINCT pg_catalog.lower(m.attname) AS attname FROM tenant AS m WHERE NOT m.strong AND m.secured AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS c "
						   "WHERE c.attrelid = m.oid AND NOT c.attisdropped AND c.attname ~* '^(user|member|profile)_?id$') AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = m.oid AND k.polpermissive "
						   "AND k.polcmd IN ('*', 'r') AND k.clause = 'USING' AND k.open)), "
						   "whose AS MATERIALIZED (SELECT t.*, CASE WHEN t.strong THEN 'error' WHEN EXISTS (SELECT FROM kept AS k WHERE k.attname = pg_catalog.lower(t.attname)) THEN 'warning' ELSE 'info' END AS weight FROM tenant AS t), "
						   "found AS ("
						   "SELECT CASE WHEN c.polpermissive THEN 'error' ELSE 'warning' END AS severity, "
						   "pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'policy compares a column with itself' AS finding, "
						   "pg_catalog.format('%s (%s) compares nothing with the row: in a sub-select a name without its table is the inner table''s column. "
						   "Write %s before the column that is meant. The fix drops the policy, which closes what it let through.', c.clause, "
						   AUDIT_COMMAND("c") ", c.name) AS detail, " AUDIT_DROP_POLICY("c") " AS fix FROM clauses AS c WHERE c.itself AND c.secured "
						   "UNION ALL SELECT s.severity, pg_catalog.format('%s ON %s', c.polname, c.name), 'policy compares nothing', "
						   "pg_catalog.format('%s (%s) asks no more than whether somebody is logged in, if that: rows of every %I pass. %s', c.clause, "
						   AUDIT_COMMAND("c") ", t.attname, CASE WHEN n.narrowed THEN 'A restrictive policy narrows it.' WHEN s.severity = 'info' THEN 'So it should be, where they are public.' "
						   "ELSE 'The fix drops the policy, which closes what it let through.' END), CASE WHEN s.severity <> 'info' THEN " AUDIT_DROP_POLICY("c") " END "
						   "FROM clauses AS c JOIN whose AS t ON t.oid = c.polrelid CROSS JOIN LATERAL (SELECT " AUDIT_NARROWED("c") " AS narrowed) AS n "
						   "CROSS JOIN LATERAL (SELECT CASE WHEN n.narrowed THEN 'info' WHEN c.polcmd <> 'r' THEN 'error' ELSE t.weight END AS severity) AS s "
						   "WHERE c.polpermissive AND c.secured AND c.open AND NOT c.itself "
						   "UNION ALL SELECT CASE WHEN c.polcmd = 'r' THEN 'warning' ELSE 'error' END, pg_catalog.format('%s ON %s', c.polname, c.name), 'policy lets through all files', "
						   "pg_catalog.format('%s (%s) names no bucket, no folder and no owner: files of every bucket pass. The fix drops the policy, which closes what it let through.', c.clause, "
						   AUDIT_COMMAND("c") "), " AUDIT_DROP_POLICY("c") " FROM clauses AS c WHERE c.name = 'storage.objects' AND c.polpermissive AND c.secured AND c.open AND NOT (" AUDIT_NARROWED("c") ") "
						   /* elsewhere reading may be meant for all, and so may writing where no row is anybody's */
						   "UNION ALL SELECT s.severity, pg_catalog.format('%s ON %s', c.polname, c.name), 'policy compares nothing', "
						   "pg_catalog.format('%s (%s) asks no more than whether somebody is logged in, if that: who passes may change all rows%s.%s', c.clause, "
						   AUDIT_COMMAND("c") ", coalesce(', whoever is their ' || w.name, ''), CASE WHEN n.narrowed THEN ' A restrictive policy narrows it.' WHEN w.name IS NULL THEN ' So it should be, where they are everybody''s.' "
						   "ELSE ' The fix drops the policy, which closes what it let through.' END), CASE WHEN s.severity <> 'info' THEN " AUDIT_DROP_POLICY("c") " END "
						   "FROM clauses AS c CROSS JOIN LATERAL (SELECT " AUDIT_NARROWED("c") " AS narrowed) AS n CROSS JOIN LATERAL (SELECT pg_catalog.min(pg_catalog.quote_ident(a.attname)) AS name FROM pg_catalog.pg_attribute AS a "
						   "WHERE a.attrelid = c.polrelid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname ~* '^((user|owner|author|creator|customer)_?(id|uuid)|created_?by)$') AS w "
						   "CROSS JOIN LATERAL (SELECT CASE WHEN n.narrowed OR w.name IS NULL THEN 'info' ELSE 'warning' END AS severity) AS s "
						   "WHERE c.polpermissive AND c.secured AND c.open AND NOT c.itself AND c.clause = 'USING' AND c.polcmd IN ('*', 'w', 'd') AND c.name <> 'storage.objects' "
						   "AND NOT EXISTS (SELECT FROM tenant AS t WHERE t.oid = c.polrelid) "
						   "UNION ALL SELECT CASE WHEN n.narrowed OR m.above THEN 'info' ELSE 'warning' END, pg_catalog.format('%s ON %s', c.polname, c.name), "
						   "'policy asks for a membership anywhere', "
						   "pg_catalog.format('%s (%s) reads %s%s and compares it with no column of the row: who belongs to one %I passes for all.', c.clause, "
						   AUDIT_COMMAND("c") ", m.names, coalesce(' in ' || m.way, ''), t.attname), CASE WHEN n.narrowed OR m.above THEN NULL ELSE " AUDIT_DROP_POLICY("c") " END "
						   "FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid CROSS JOIN LATERAL (SELECT " AUDIT_NARROWED("c") " AS narrowed) AS n "
						   "CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(DISTINCT m.name, ', ') AS names, pg_catalog.min(x.way) AS way, pg_catalog.bool_or(x.above) AS above FROM ("
						   "SELECT u.oid, NULL AS way, false AS above FROM pg_catalog.unnest(c.tables) AS u (oid) UNION ALL SELECT u.oid, f.name, f.above FROM body AS f CROSS JOIN LATERAL pg_catalog.unnest(f.touches) AS u (oid) "
						   "WHERE f.oid = ANY (c.functions) AND f.prorettype = 'pg_catalog.bool'::pg_catalog.regtype) AS x JOIN tenant AS m ON m.oid = x.oid) AS m "
						   "WHERE c.polpermissive AND c.secured AND NOT c.compares AND NOT c.itself AND NOT c.open AND m.names IS NOT NULL)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s expressions of policies that bind %s, %s of them on tables with an organization column.', "
										"pg_catalog.count(*), " AUDIT_API_LIST ", pg_catalog.count(t.oid)) "
										"FROM clauses AS c LEFT JOIN tenant AS t ON t.oid = c.polrelid"))
		}
	},
	{
		"policies_that_ask_user_metadata", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", found AS ("
						   "SELECT 'error' AS severity, pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'policy asks user metadata' AS finding, "
						   "pg_catalog.format('%s (%s) reads user_metadata%s, which users write themselves through the auth server. Ask app_metadata, or better a table. "
						   "The fix drops the policy, which closes what it let through.', c.clause, " AUDIT_COMMAND("c")
						   ", coalesce(' in ' || f.name, '')) AS detail, CASE WHEN c.polpermissive THEN " AUDIT_DROP_POLICY("c") " END AS fix "
						   "FROM clauses AS c LEFT JOIN " AUDIT_BY_WAY_OF("metadata") " AS f ON f.policy = c.policy AND f.clause = c.clause "
						   "WHERE c.secured AND (c.metadata OR f.name IS NOT NULL))"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s expressions of policies and the %s functions that they call.', pg_catalog.count(DISTINCT (c.policy, c.clause)), "
										"pg_catalog.count(DISTINCT f.oid)) FROM clauses AS c LEFT JOIN LATERAL pg_catalog.unnest(c.functions) AS f (oid) ON true"))
		}
	},
	{
		"views_that_bypass", NULL, NULL, {
			AUDIT_STEP_FACTS(
					   "WITH RECURSIVE " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", "
					   "view AS MATERIALIZED (SELECT v.oid, v.relkind, v.relowner, v.relkind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_options_to_table(v.reloptions) AS o "
					   "WHERE o.option_name = 'security_invoker' AND o.option_value::pg_catalog.bool) AS invoker FROM app AS v WHERE v.relkind IN ('v', 'm')), "
					   "rules AS MATERIALIZED (SELECT DISTINCT r.ev_class AS view, d.refobjid AS rel FROM pg_catalog.pg_rewrite AS r "
					   "JOIN pg_catalog.pg_depend AS d ON d.classid = " AUDIT_REWRITE " AND d.objid = r.oid AND d.refclassid = " AUDIT_CLASS
					   " AND d.refobjid <> r.ev_class JOIN view AS v ON v.oid = r.ev_class WHERE r.rulename = '_RETURN'), "
					   /* through which view, and as whom it reads: a view with security_invoker reads as who is asking, wherever it stands */
					   "uses (view, rel, reader, kept) AS (SELECT r.view, r.rel, v.relowner, v.relkind = 'm' FROM rules AS r JOIN view AS v ON v.oid = r.view WHERE NOT v.invoker "
					   "UNION SELECT u.view, r.rel, v.relowner, u.kept OR v.relkind = 'm' FROM uses AS u JOIN rules AS r ON r.view = u.rel JOIN view AS v ON v.oid = r.view WHERE NOT v.invoker), "
					   "asking1 AS MATERIALIZED (SELECT v.oid FROM view AS v WHERE pg_catalog.pg_get_viewdef(v.oid) ~* " AUDIT_ASKS
					   " UNION SELECT r.ev_class FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d ON d.classid = " AUDIT_REWRITE " AND d.objid = r.oid "
					   "AND d.refclassid = " AUDIT_PROC " JOIN body AS a ON a.oid = d.refobjid AND a.asks), "
					   "asking AS MATERIALIZED (SELECT a.oid FROM asking1 AS a UNION SELECT u.view FROM uses AS u JOIN asking1 AS a ON a.oid = u.rel), "
					   "base AS MATERIALIZED (SELECT t.oid, t.name, t.relowner, t.forced, t.secured, true AS tenant FROM tenant AS t WHERE " AUDIT_IS_HELD_BACK("t")
					   " UNION ALL SELECT c.oid, 'auth.users', c.relowner, c.relforcerowsecurity, true, false FROM pg_catalog.pg_class AS c WHERE c.oid = " AUDIT_AUTH_USERS "), "
					   "shown AS MATERIALIZED (SELECT v.oid, v.name, v.relkind, v.roles, pg_catalog.string_agg(DISTINCT b.name, ', ') AS names, pg_catalog.bool_or(b.tenant) AS tenant "
					   "FROM app AS v JOIN uses AS u ON u.view = v.oid JOIN base AS b ON b.oid = u.rel WHERE v.roles IS NOT NULL "
					   "AND (u.kept OR NOT b.secured OR " AUDIT_BYPASSES("u.reader", "b") ") GROUP BY v.oid, v.name, v.relkind, v.roles), "
					   "found AS (SELECT CASE WHEN s.relkind = 'v' AND a.oid IS NOT NULL THEN 'info' ELSE 'warning' END AS severity, s.name AS object, "
					   "CASE WHEN s.relkind = 'm' THEN 'materialized view shows rows of every organization' "
					   "WHEN s.tenant THEN 'view bypasses row level security' ELSE 'view shows auth.users' END AS finding, "
					   "pg_catalog.format('%s may read it, and it reads %s as its owner, whom no policy there binds.%s', s.roles, s.names, "
					   "CASE WHEN s.relkind = 'v' AND a.oid IS NOT NULL THEN ' It asks who is asking by itself: see that it does so for every row.' ELSE '' END) AS detail, "
					   "CASE WHEN s.relkind = 'v' AND a.oid IS NOT NULL THEN NULL WHEN s.relkind = 'v' THEN pg_catalog.format('ALTER VIEW %s SET (security_invoker = true);', s.name) "
					   "ELSE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s;', s.name, " AUDIT_API_LIST ") END AS fix "
					   "FROM shown AS s LEFT JOIN asking AS a ON a.oid = s.oid)"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s views and materialized views, %s of them within reach of %s.', pg_catalog.count(*), pg_catalog.count(r.oid), "
									AUDIT_API_LIST ") FROM app AS v LEFT JOIN app AS r ON r.oid = v.oid AND r.roles IS NOT NULL WHERE v.relkind IN ('v', 'm')"))
		}
	},
	{
		"functions_that_bypass", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", "
						   "asked AS MATERIALIZED (SELECT DISTINCT u.oid FROM clauses AS c CROSS JOIN LATERAL pg_catalog.unnest(c.functions) AS u (oid) "
						   "UNION SELECT u.oid FROM body AS b CROSS JOIN LATERAL pg_catalog.unnest(b.calls) AS u (oid) WHERE u.oid <> b.oid), "
						   "definer AS MATERIALIZED (SELECT b.*, b.prorettype = 'pg_catalog.bool'::pg_catalog.regtype AND EXISTS (SELECT FROM asked AS u WHERE u.oid = b.oid) AS helps "
						   "FROM body AS b WHERE b.definer), found AS (SELECT CASE WHEN d.helps "
						   "THEN 'info' ELSE 'warning' END AS severity, d.name AS object, 'definer function bypasses row level security' AS finding, "
						   "pg_catalog.format('%s may call it, it names %s and runs as its owner, whom no policy there binds; and nothing in it asks who is calling.', "
						   "(SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) FROM api AS a WHERE pg_catalog.has_function_privilege(a.role, d.oid, 'EXECUTE')), t.names) AS detail, "
						   "CASE WHEN d.helps THEN NULL ELSE pg_catalog.format('ALTER ROUTINE %s SECURITY INVOKER;', d.name) END AS fix "
						   "FROM definer AS d JOIN (SELECT b.oid, pg_catalog.string_agg(t.name, ', ' ORDER BY t.name) AS names FROM definer AS b CROSS JOIN LATERAL pg_catalog.unnest(b.touches) AS u (oid) "
						   "JOIN tenant AS t ON t.oid = u.oid WHERE (" AUDIT_IS_HELD_BACK("t") " OR b.code ~* '\\m(insert|update|delete|merge|truncate)\\M' AND t.secured) "
						   "AND (NOT t.secured OR " AUDIT_BYPASSES("b.proowner", "t") ") GROUP BY b.oid) AS t ON t.oid = d.oid WHERE NOT d.asks "
						   "AND coalesce(pg_catalog.array_to_string(d.proargnames, ' '), '') !~* 'token|code|secret|hash|key')"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s SECURITY DEFINER functions that %s may call, of %s functions; bodies are read as text. "
										"One that takes a token, code, secret, hash or key is taken to ask for it.', (SELECT pg_catalog.count(*) FROM definer AS d), "
										AUDIT_API_LIST ", (SELECT pg_catalog.count(*) FROM body AS b))"))
		}
	},
	{
		"claims_for_tenant", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", "
						   "named AS MATERIALIZED (SELECT c.*, t.attname, h.name AS header_by, j.name AS claim_by, s.name AS setting_by FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid AND t.attnum = ANY (c.columns) "
						   "LEFT JOIN " AUDIT_BY_WAY_OF("header") " AS h ON h.policy = c.policy AND h.clause = c.clause "
						   "LEFT JOIN " AUDIT_BY_WAY_OF("claim") " AS j ON j.policy = c.policy AND j.clause = c.clause "
						   "LEFT JOIN " AUDIT_BY_WAY_OF("setting") " AS s ON s.policy = c.policy AND s.clause = c.clause WHERE c.secured AND NOT c.metadata "
						   "AND NOT EXISTS (SELECT FROM body AS b WHERE b.oid = ANY (c.functions) AND b.metadata)), found AS ("
						   "SELECT 'error' AS severity, pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'policy takes the organization from a request header' AS finding, "
						   "pg_catalog.format('%s (%s) compares %I with what the request''s headers say%s, and whoever asks writes those. Ask a table, as invite_sync.is_member() does. "
						   "The fix drops the policy, which closes what it let through.', c.clause, " AUDIT_COMMAND("c") ", c.attname, coalesce(' in ' || c.header_by, '')) AS detail, "
						   "CASE WHEN c.polpermissive THEN " AUDIT_DROP_POLICY("c") " END AS fix FROM named AS c WHERE (c.header OR c.header_by IS NOT NULL) AND NOT c.own "
						   "UNION ALL SELECT 'warning', pg_catalog.format('%s ON %s', c.polname, c.name), 'policy takes the organization from the token', "
						   "pg_catalog.format('%s (%s) compares %I with a claim%s. A token keeps its claims until it expires: who was removed passes until then. "
						   "Ask a table, as invite_sync.is_member() does.', c.clause, " AUDIT_COMMAND("c") ", c.attname, coalesce(' by way of ' || c.claim_by, '')), NULL "
						   "FROM named AS c WHERE c.claim OR c.claim_by IS NOT NULL "
						   "UNION ALL SELECT 'info', pg_catalog.format('%s ON %s', c.polname, c.name), 'policy takes the organization from a setting', "
						   "pg_catalog.format('%s (%s) compares %I with a setting%s: whoever can run SET says which organization they are of.', c.clause, " AUDIT_COMMAND("c") ", c.attname, coalesce(' in ' || c.setting_by, '')), NULL "
						   "FROM named AS c WHERE NOT c.header AND c.header_by IS NULL AND NOT c.claim AND c.claim_by IS NULL AND (c.setting OR c.setting_by IS NOT NULL AND NOT c.own))"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s expressions of policies that name an organization column.', pg_catalog.count(*)) FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid AND t.attnum = ANY (c.columns)"))
		}
	},
	{
		"indexes_under_policies", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", "
						   "used AS MATERIALIZED (SELECT DISTINCT t.oid, t.name, t.reltuples, a.attnum, a.attname FROM clauses AS c JOIN app AS t ON t.oid = c.polrelid "
						   "CROSS JOIN LATERAL pg_catalog.unnest(c.columns) AS u (attnum) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.attnum "
						   "LEFT JOIN tenant AS o ON o.oid = t.oid WHERE t.secured AND c.clause = 'USING' AND t.relkind IN ('r', 'p') AND t.nspname <> 'storage' "
						   "AND (o.attnum = a.attnum OR a.attname ~* '(^|_)(user|owner|member|author|profile)_?id$')), "
						   "found AS (SELECT CASE WHEN u.reltuples >= 10000 THEN 'warning' ELSE 'info' END AS severity, u.name AS object, "
						   "pg_catalog.format('no index begins with %I, which policies compare', u.attname) AS finding, "
						   "pg_catalog.format('Every query reads the whole table, of about %s rows, to find those that the policies let through.', "
						   "CASE WHEN u.reltuples < 0 THEN 'an unknown number of' ELSE u.reltuples::pg_catalog.int8::pg_catalog.text END) AS detail, "
						   "pg_catalog.format('CREATE INDEX ON %s (%I);', u.name, u.attname) AS fix FROM used AS u "
						   "WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = u.oid AND i.indkey[0] = u.attnum AND i.indisvalid AND i.indpred IS NULL))"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s columns that policies compare, of organizations and users, in %s tables; from 10000 rows on a missing index is a warning.', "
										"pg_catalog.count(*), pg_catalog.count(DISTINCT u.oid)) FROM used AS u"))
		}
	},
	{.name = NULL}
};

/* ---------------------------------------------------------------------
 * permission_model
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_permission_model[] = {
	{
		"roles_nobody_has", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH found AS (SELECT 'info' AS severity, pg_catalog.format('role %s', r.id) AS object, 'nobody has this role' AS finding, "
					   "'No membership, no platform role and no open invitation gives it: it waits for somebody to be given what nobody remembers.' AS detail, "
					   "pg_catalog.format('SELECT invite_sync.drop_role(%L%s);', r.name, CASE WHEN r.organization_id IS NULL THEN '' ELSE pg_catalog.format(', %L', r.organization_id) END) AS fix "
					   "FROM invite_sync.role AS r WHERE NOT r.built_in AND NOT EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.role_id = r.id) "
					   "AND NOT EXISTS (SELECT FROM invite_sync.platform_role AS p WHERE p.role_id = r.id) "
					   "AND NOT EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.role_id = r.id AND g.open) "
					   "AND NOT EXISTS (SELECT FROM invite_sync.invitation AS i WHERE i.platform_role_id = r.id AND i.status = 'pending'))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s roles that are not built in.', pg_catalog.count(*)) FROM invite_sync.role AS r WHERE NOT r.built_in"))
		}
	},
	{
		"powers_of_api_roles", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH RECURSIVE api (role, name) AS MATERIALIZED (SELECT r.oid, pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r "
					   "WHERE r.rolname IN ('anon', 'authenticated')), "
					   "member (role, via, roleid) AS (SELECT a.role, m.roleid, m.roleid FROM api AS a JOIN pg_catalog.pg_auth_members AS m ON m.member = a.role "
					   "UNION SELECT u.role, u.via, m.roleid FROM member AS u JOIN pg_catalog.pg_auth_members AS m ON m.member = u.roleid), "
					   "found AS (SELECT 'error' AS severity, a.name AS object, 'role of strangers or users has rights of an administrator' AS finding, "
					   "pg_catalog.format('It has %s: no policy or no privilege holds it back.', pg_catalog.concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, "
					   "CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END, "
					   "CASE WHEN r.rolcreatedb THEN 'CREATEDB' END)) AS detail, "
					   "pg_catalog.format('ALTER ROLE %s NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION NOCREATEDB;', a.name) AS fix "
					   "FROM api AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.role WHERE r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication OR r.rolcreatedb "
					   "UNION ALL SELECT 'error', a.name, 'role of strangers or users is a member of a mightier one', "
					   "pg_catalog.format('By its membership in %I it has the rights of %s.', v.rolname, pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', ' ORDER BY r.rolname)), "
					   "pg_catalog.format('REVOKE %I FROM %s;', v.rolname, a.name) FROM member AS m JOIN api AS a ON a.role = m.role JOIN pg_catalog.pg_roles AS r ON r.oid = m.roleid "
					   "JOIN pg_catalog.pg_roles AS v ON v.oid = m.via WHERE r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication "
					   "OR r.rolname IN ('postgres', 'supabase_admin', 'supabase_auth_admin', 'service_role', 'invite_sync_owner', 'dashboard_user', 'pg_read_all_data', 'pg_write_all_data', "
					   "'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') OR EXISTS (SELECT FROM invite_sync.operator AS o WHERE o.role = r.rolname AND o.active) "
					   "GROUP BY a.name, v.rolname "
					   "UNION ALL SELECT 'error', pg_catalog.format('%I', n.nspname), 'strangers or users may create objects in a schema', "
					   "pg_catalog.format('%s may create functions and tables there, which whoever has the schema in its search_path may take for others.', p.names), "
					   "pg_catalog.format('REVOKE CREATE ON SCHEMA %I FROM %s;', n.nspname, p.names) FROM pg_catalog.pg_namespace AS n CROSS JOIN LATERAL ("
					   "SELECT pg_catalog.string_agg(x.name, ', ' ORDER BY x.role) AS names FROM (SELECT a.role, a.name FROM api AS a UNION ALL SELECT 0, 'PUBLIC') AS x (role, name) "
					   "WHERE pg_catalog.has_schema_privilege(x.role, n.oid, 'CREATE')) AS p WHERE p.names IS NOT NULL AND n.nspname !~ '^pg_(temp|toast)' "
					   "UNION ALL SELECT 'error', c.oid::pg_catalog.regclass::pg_catalog.text, 'table or view belongs to a role of strangers or users', "
					   "pg_catalog.format('It belongs to %s: no policy need bind its owner, who may also drop them.', a.name), "
					   "pg_catalog.format('ALTER %s %s OWNER TO %I;', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, "
					   "c.oid::pg_catalog.regclass, d.rolname) FROM pg_catalog.pg_class AS c JOIN api AS a ON a.role = c.relowner CROSS JOIN (SELECT r.rolname FROM pg_catalog.pg_database AS b "
					   "JOIN pg_catalog.pg_roles AS r ON r.oid = b.datdba WHERE b.datname = pg_catalog.current_database()) AS d WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't')"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s roles, what they own, the %s they are members of, and %s schemas.', (SELECT pg_catalog.count(*) FROM api AS a), "
									"(SELECT pg_catalog.count(*) FROM member AS m), (SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace AS n WHERE n.nspname !~ '^pg_(temp|toast)'))"))
		}
	},
	{
		"functions_that_escalate", NULL, NULL, {
			AUDIT_STEP_FACTS(
					   "WITH " AUDIT_API ", " AUDIT_FUNCTIONS ", "
					   "definer AS MATERIALIZED (SELECT b.* FROM body AS b WHERE b.definer), "
					   /* its arguments that may hold SQL, by name and by number */
					   "argument AS MATERIALIZED (SELECT d.oid, coalesce(pg_catalog.quote_ident(nullif(n.name, '')), '$' || n.no::pg_catalog.text) AS name, "
					   "'(' || CASE WHEN n.name ~ '^[[:alpha:]_][[:alnum:]_]*$' THEN '(?:' || d.word || '\\.)?(?:\\m' || n.name || '\\M|\"' || n.name || '\")|' "
					   "WHEN n.name <> '' THEN '\"' || pg_catalog.regexp_replace(pg_catalog.replace(n.name, '\"', '\"\"'), '(\\W)', '\\\\\\1', 'g') || '\"|' ELSE '' END || '\\$' || n.no::pg_catalog.text || '(?!\\d))(?!\\s*\\()' AS word "
					   "FROM (SELECT d.*, pg_catalog.regexp_replace(pg_catalog.split_part(d.name, '(', 1), '^.*\\.|\\W', '', 'g') AS word FROM definer AS d WHERE d.lanname = 'plpgsql' AND d.code ~* '\\mexecute\\M') AS d "
					   "CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(d.proargtypes), pg_catalog.unnest(d.proargnames)) WITH ORDINALITY AS n (type, name, no) "
					   "WHERE n.type IN ('pg_catalog.text'::pg_catalog.regtype, 'pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.bpchar'::pg_catalog.regtype, 'pg_catalog.name'::pg_catalog.regtype)), "
					   /* what format() makes of its arguments before it is executed, up to the first that is not a bare name */
					   "formatted AS MATERIALIZED (SELECT d.oid, coalesce(m[3], m[4]) AS pattern, m[5] AS rest FROM definer AS d CROSS JOIN LATERAL pg_catalog.regexp_matches(d.code, "
					   "'\\m(execute\\s*\\(?|(\\w+)\\s*:?=)\\s*(?:pg_catalog\\s*\\.\\s*)?format\\s*\\(\\s*(?:E?''((?:[^'']|'''')*)''|\\$\\w*\\$(.*?)\\$\\w*\\$)\\s*,\\s*([^;]*)', 'gi') AS m "
					   "WHERE EXISTS (SELECT FROM argument AS a WHERE a.oid = d.oid) AND (m[2] IS NULL OR d.code ~* ('\\mexecute\\s*\\(?\\s*' || m[2] || '\\M'))), "
					   "filled AS MATERIALIZED (SELECT f.oid, (pg_catalog.regexp_split_to_array(f.rest, '\\s*,\\s*'))[coalesce(c.m[1]::pg_catalog.int4, c.no::pg_catalog.int4)] AS piece, "
					   "pg_catalog.array_to_string((pg_catalog.regexp_split_to_array(f.rest, '\\s*,\\s*'))[1:coalesce(c.m[1]::pg_catalog.int4, c.no::pg_catalog.int4) - 1], ',') AS before "
					   "FROM formatted AS f CROSS JOIN LATERAL pg_catalog.regexp_matches(f.pattern, '%(?:(\\d{1,4})\\$)?-?\\d*([sIL])', 'g') WITH ORDINALITY AS c (m, no) WHERE c.m[2] = 's'), "
					   "runs AS MATERIALIZED (SELECT a.oid, pg_catalog.string_agg(a.name, ', ' ORDER BY a.name COLLATE \"C\") AS names FROM argument AS a JOIN definer AS d ON d.oid = a.oid "
					   "WHERE d.code ~* ('\\mexecute\\s*\\(?\\s*' || a.word) OR d.code ~* ('\\mexecute\\s*\\(?\\s*(?:pg_catalog\\s*\\.\\s*)?concat(?:_ws)?\\s*\\((?:[^;()]*,)?\\s*' || a.word) OR d.code ~* ('\\|\\|\\s*' || a.word) AND (d.code ~* ('\\mexecute\\M(?:(?!\\mformat\\M)[^;])*\\|\\|\\s*' || a.word) "
					   "OR d.code ~* ('\\m(\\w+)\\s*:?=(?:(?!\\mformat\\M)[^;])*\\|\\|\\s*' || a.word || '[^;]*;.*\\mexecute\\s*\\(?\\s*\\1\\M')) "
					   "OR EXISTS (SELECT FROM filled AS f WHERE f.oid = a.oid AND f.before !~ '\\(' AND f.piece ~* ('^\\(?\\s*' || a.word || '\\s*(::\\s*text\\s*)?(\\)|$)')) GROUP BY a.oid), "
					   "found AS (SELECT CASE WHEN d.asks THEN 'warning' ELSE 'error' END AS severity, d.name AS object, 'definer function runs what its caller writes' AS finding, "
					   "pg_catalog.format('It executes its argument %s as SQL, with the rights of %I, and %s may call it%s.', a.names, o.rolname, "
					   "(SELECT pg_catalog.string_agg(x.name, ', ' ORDER BY x.role) FROM api AS x WHERE pg_catalog.has_function_privilege(x.role, d.oid, 'EXECUTE')), "
					   "CASE WHEN d.asks THEN '; it asks who is calling: see that it refuses all others' ELSE '' END) AS detail, "
					   "pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', d.name, " AUDIT_API_LIST ") AS fix "
					   "FROM definer AS d JOIN pg_catalog.pg_roles AS o ON o.oid = d.proowner JOIN runs AS a ON a.oid = d.oid "
					   "UNION ALL SELECT 'error', d.name, 'definer function gives rights and does not ask who is calling', "
					   "pg_catalog.format('%s may call it, and it writes %s, and what looks like a right in it, with the rights of %I.', "
					   "(SELECT pg_catalog.string_agg(x.name, ', ' ORDER BY x.role) FROM api AS x WHERE pg_catalog.has_function_privilege(x.role, d.oid, 'EXECUTE')), w.names, o.rolname), "
					   "pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', d.name, " AUDIT_API_LIST ") "
					   "FROM definer AS d JOIN pg_catalog.pg_roles AS o ON o.oid = d.proowner CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(m[1]), ', ') AS names "
					   "FROM pg_catalog.regexp_matches(d.code, '\\m(?:update|insert\\s+into)\\s+(?:only\\s+)?(?:\"?\\w+\"?\\s*\\.\\s*)?\"?(\\w*(?:user|profile|member|admin|role|permission|staff)\\w*)', 'gi') AS m) AS w "
					   "WHERE w.names IS NOT NULL AND NOT d.asks AND d.code ~* '\\m(is_?(super_?)?(admin|owner|staff)|is_?super_?user|(user|account|org|app)?_?roles?|role_id|permissions?|raw_app_meta_data)\\M' "
					   "AND coalesce(pg_catalog.array_to_string(d.proargnames, ' '), '') !~* 'token|code|secret|hash|key' "
					   "UNION ALL SELECT CASE WHEN s.names IS NULL THEN 'info' ELSE 'warning' END, d.name, 'definer function without a pinned search_path', "
					   "pg_catalog.format('It runs as %I and looks names up where its caller says%s.', o.rolname, coalesce('; ' || s.names || ' can put objects there', '')), "
					   "pg_catalog.format('ALTER ROUTINE %s SET search_path = %s;', d.name, (SELECT pg_catalog.concat_ws(', ', pg_catalog.string_agg(pg_catalog.quote_ident(n.nspname), ', ' "
					   "ORDER BY n.oid <> d.pronamespace, n.nspname DESC), 'pg_temp') FROM pg_catalog.pg_namespace AS n WHERE (n.oid = d.pronamespace OR n.nspname IN ('public', 'extensions')) "
					   "AND NOT EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, n.oid, 'CREATE')))) "
					   "FROM definer AS d JOIN pg_catalog.pg_roles AS o ON o.oid = d.proowner CROSS JOIN (SELECT pg_catalog.string_agg(DISTINCT a.name, ', ') AS names FROM api AS a "
					   "CROSS JOIN pg_catalog.pg_namespace AS n WHERE n.nspname !~ '^pg_(temp|toast)' AND pg_catalog.has_schema_privilege(a.role, n.oid, 'CREATE')) AS s "
					   "WHERE NOT EXISTS (SELECT FROM pg_catalog.unnest(d.proconfig) AS g (setting) WHERE g.setting LIKE 'search_path=%'))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s SECURITY DEFINER functions that %s may call, of %s functions.', (SELECT pg_catalog.count(*) FROM definer AS d), "
									AUDIT_API_LIST ", (SELECT pg_catalog.count(*) FROM body AS b))"))
		}
	},
	{
		"self_granted_memberships", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", "
						   "giving AS MATERIALIZED (SELECT t.oid, t.name, pg_catalog.array_agg(a.attnum) AS columns, pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) AS names "
						   "FROM app AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN tenant AS o ON o.oid = t.oid "
						   "WHERE t.relkind IN ('r', 'p') AND t.relname ~* 'member|role|permission|admin|staff' AND (a.attnum = o.attnum OR a.attname ~* '(^|_)(roles?|permissions?)(_id)?$') "
						   "GROUP BY t.oid, t.name), "
						   "found AS (SELECT CASE WHEN b.name IS NULL THEN 'error' ELSE 'info' END AS severity, pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'users can add themselves' AS finding, "
						   "pg_catalog.format('%s (%s) lets users insert a row about themselves and does not look at %s: %s', c.clause, " AUDIT_COMMAND("c") ", g.names, "
						   "coalesce('the trigger function ' || b.name || ' names it: see that it refuses.', 'they say themselves where they belong, and as what. "
						   "The fix drops the policy, which closes what it let through.')) AS detail, CASE WHEN b.name IS NULL THEN " AUDIT_DROP_POLICY("c") " END AS fix "
						   "FROM clauses AS c JOIN giving AS g ON g.oid = c.polrelid LEFT JOIN LATERAL (SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text AS name FROM pg_catalog.pg_trigger AS t "
						   "JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid JOIN pg_catalog.pg_attribute AS a ON a.attrelid = g.oid AND a.attnum = ANY (g.columns) "
						   "WHERE t.tgrelid = g.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 2 = 2 AND t.tgtype & 4 = 4 AND "
						   AUDIT_CODE("p") " ~* ('\\m' || pg_catalog.regexp_replace(a.attname, '\\W', '.', 'g') || '\\M') ORDER BY 1 LIMIT 1) AS b ON true "
						   "WHERE EXISTS (SELECT FROM api AS a CROSS JOIN LATERAL pg_catalog.unnest(g.columns) AS u (attnum) WHERE pg_catalog.has_column_privilege(a.role, g.oid, u.attnum, 'INSERT')) AND c.secured AND c.polpermissive AND c.polcmd IN ('*', 'a') "
						   "AND (c.clause = 'WITH CHECK' OR NOT EXISTS (SELECT FROM clauses AS k WHERE k.policy = c.policy AND k.clause = 'WITH CHECK')) "
						   "AND c.compares AND c.own AND c.tables = '{}' AND NOT g.columns && c.columns "
						   "AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace WHERE p.oid = ANY (c.functions) "
						   "AND n.nspname NOT IN ('auth', 'pg_catalog') AND p.proname <> 'current_user_id') "
						   "AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = c.polrelid AND NOT k.polpermissive AND k.polcmd IN ('*', 'a')))"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s tables of members, roles and permissions, by their names.', pg_catalog.count(*)) FROM giving AS g"))
		}
	},
	{
		"rights_in_columns", NULL, NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_CLAUSES ", "
						   "attribute AS MATERIALIZED (SELECT t.oid, t.name, t.relname, t.relnamespace, t.secured, c.attnum, c.attname, l.plain ~ " PAID " AS paid, l.plain ~ " SURE " AS sure, "
						   "t.relname ~* " AUDIT_OF_PEOPLE " OR l.plain ~ " PAID " AND t.relname ~* 'organi[sz]ation|orgs?$|tenant|workspace|team|compan|subscription' AS people "
						   "FROM app AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped AND c.attgenerated = '' "
						   "CROSS JOIN LATERAL (SELECT pg_catalog.lower(pg_catalog.replace(c.attname, '_', '')) AS plain) AS l WHERE t.relkind IN ('r', 'p') "
						   "AND (l.plain ~ " PAID " OR l.plain ~ " SURE " OR l.plain ~ '^(roles?|permissions?|privileges|scopes)$')), "
						   /* the row is theirs: it says so itself, or is one of those that they belong to */
						   "theirs AS MATERIALIZED (SELECT a.oid, a.attnum, c.policy, c.polcmd, c.clause FROM attribute AS a JOIN clauses AS c ON c.polrelid = a.oid WHERE a.secured AND c.polpermissive "
						   "AND NOT a.attnum = ANY (c.columns) AND (c.tables = '{}' AND (c.open OR c.compares AND c.own) "
						   "AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace WHERE p.oid = ANY (c.functions) "
						   "AND n.nspname NOT IN ('auth', 'pg_catalog') AND p.proname <> 'current_user_id') "
						   "AND (a.sure OR a.people OR EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.oid AND i.indisunique AND i.indnkeyatts = 1 "
						   "AND i.indpred IS NULL AND c.columns = ARRAY[i.indkey[0]]::pg_catalog.int2[])) OR a.paid AND a.people AND c.compares) "
						   "AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.clause = 'WITH CHECK' AND k.policy = c.policy AND a.attnum = ANY (k.columns)) "
						   "AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = a.oid AND k.clause = 'WITH CHECK' AND NOT k.polpermissive AND k.polcmd IN ('*', c.polcmd) AND a.attnum = ANY (k.columns))), "
						   "own (oid, attnum, command, bit) AS MATERIALIZED (SELECT a.oid, a.attnum, 'UPDATE', 16 FROM attribute AS a WHERE NOT a.secured AND (a.sure OR a.people) "
						   "UNION SELECT h.oid, h.attnum, 'UPDATE', 16 FROM theirs AS h WHERE h.polcmd IN ('*', 'w') AND h.clause = 'USING' "
						   "UNION SELECT h.oid, h.attnum, 'INSERT', 4 FROM theirs AS h JOIN attribute AS a ON a.oid = h.oid AND a.attnum = h.attnum WHERE a.sure AND h.polcmd IN ('*', 'a') "
						   "AND (h.clause = 'WITH CHECK' OR NOT EXISTS (SELECT FROM clauses AS k WHERE k.policy = h.policy AND k.clause = 'WITH CHECK'))), "
						   "open AS MATERIALIZED (SELECT a.*, o.command, o.bit, g.names FROM own AS o JOIN attribute AS a ON a.oid = o.oid AND a.attnum = o.attnum "
						   "CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(x.name, ', ' ORDER BY x.role) AS names FROM api AS x "
						   "WHERE pg_catalog.has_schema_privilege(x.role, a.relnamespace, 'USAGE') AND pg_catalog.has_column_privilege(x.role, a.oid, a.attnum, o.command)) AS g WHERE g.names IS NOT NULL), "
						   "found AS (SELECT CASE WHEN g.name IS NOT NULL THEN 'info' WHEN o.paid OR o.command = 'INSERT' THEN 'warning' ELSE 'error' END AS severity, pg_catalog.format('%s.%I', o.name, o.attname) AS object, "
						   "CASE o.command WHEN 'UPDATE' THEN 'users can write a column that looks like a right' ELSE 'users can set a column that looks like a right when they insert' END AS finding, "
						   "pg_catalog.format('%s may %s it, and %s.%s', o.names, o.command, CASE WHEN NOT o.secured THEN 'row level security is off' WHEN o.command = 'UPDATE' THEN 'policies let users change the row that is theirs' "
						   "ELSE 'policies let users insert the row that is theirs' END, "
						   "coalesce(' The trigger function ' || g.name || ' names the column: see that it refuses.', '')) AS detail, "
						   "pg_catalog.format('REVOKE %s ON TABLE %s FROM %s;', o.command, o.name, o.names) || coalesce((SELECT pg_catalog.string_agg(pg_catalog.format(' GRANT %s (%s) ON TABLE %s TO %s;', o.command, k.columns, o.name, k.name), '' ORDER BY k.name) "
						   "FROM (SELECT x.name, pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ' ORDER BY c.attnum) AS columns FROM api AS x JOIN pg_catalog.pg_attribute AS c ON c.attrelid = o.oid AND c.attnum > 0 "
						   "AND NOT c.attisdropped AND c.attgenerated = '' WHERE pg_catalog.has_column_privilege(x.role, o.oid, c.attnum, o.command) "
						   "AND (x.role <> 0 OR NOT EXISTS (SELECT FROM api AS y WHERE y.role <> 0)) "
						   "AND NOT EXISTS (SELECT FROM open AS y WHERE y.oid = o.oid AND y.attnum = c.attnum AND y.command = o.command) GROUP BY x.name) AS k), '') AS fix FROM open AS o "
						   "LEFT JOIN LATERAL (SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text AS name FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid "
						   "WHERE g.tgrelid = o.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 2 = 2 AND g.tgtype & o.bit = o.bit AND "
						   AUDIT_CODE("p") " ~* ('\\m' || pg_catalog.regexp_replace(o.attname, '\\W', '.', 'g') || '\\M') ORDER BY 1 LIMIT 1) AS g ON true)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s columns of %s tables, by their names: admin, role, permissions, plan and the like.', pg_catalog.count(*), pg_catalog.count(DISTINCT a.oid)) FROM attribute AS a"))
		}
	},
	{.name = NULL}
};
