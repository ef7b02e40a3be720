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

/* ---------------------------------------------------------------------
 * tenant_isolation
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_tenant_isolation[] = {
	{
		"tables_without_rls", NULL, {
			AUDIT_STEP_FACTS(
					   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", found AS ("
					   "SELECT CASE WHEN t.strong THEN 'error' ELSE 'warning' END AS severity, t.name AS object, "
					   "'organization column without row level security' AS finding, "
					   "pg_catalog.format('Column %I says whose a row is, and %s reach all rows: row level security is off. "
					   "Until there are policies, the fix closes the table to them; invite_sync.protect_table() writes policies.', t.attname, r.roles) AS detail, "
					   "pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', t.name) AS fix "
					   "FROM tenant AS t JOIN app AS r ON r.oid = t.oid AND r.roles IS NOT NULL WHERE t.relkind IN ('r', 'p') AND NOT t.secured "
					   "UNION ALL SELECT 'warning', t.name, 'organization column in a foreign table', "
					   "pg_catalog.format('Column %I says whose a row is, and %s reach all rows: a foreign table has no row level security.', t.attname, r.roles), "
					   "pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s;', t.name, " AUDIT_API_LIST ") "
					   "FROM tenant AS t JOIN app AS r ON r.oid = t.oid AND r.roles IS NOT NULL WHERE t.relkind = 'f')"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s tables with an organization column, %s of them within reach of %s; %s have row level security.', "
									"pg_catalog.count(*), pg_catalog.count(r.oid), " AUDIT_API_LIST ", pg_catalog.count(*) FILTER (WHERE t.secured)) "
									"FROM tenant AS t LEFT JOIN app AS r ON r.oid = t.oid AND r.roles IS NOT NULL"))
		}
	},
	{
		"policies_that_compare_nothing", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", found AS ("
						   "SELECT CASE WHEN c.polpermissive THEN 'error' ELSE 'warning' END AS severity, "
						   "pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'policy compares a column with itself' AS finding, "
						   "pg_catalog.format('%s (%s) compares nothing with the row: in a sub-select a name without its table is the inner table''s column. "
						   "Write %s before the column that is meant. The fix drops the policy, which closes what it let through.', c.clause, "
						   AUDIT_COMMAND("c") ", c.name) AS detail, " AUDIT_DROP_POLICY("c") " AS fix FROM clauses AS c WHERE c.itself AND c.secured "
						   "UNION ALL SELECT CASE WHEN n.narrowed OR NOT t.strong AND c.polcmd = 'r' THEN 'info' ELSE 'error' END, "
						   "pg_catalog.format('%s ON %s', c.polname, c.name), 'policy compares nothing', "
						   "pg_catalog.format('%s (%s) asks no more than whether somebody is logged in, if that: rows of every %I pass. %s', c.clause, "
						   AUDIT_COMMAND("c") ", t.attname, CASE WHEN n.narrowed THEN 'A restrictive policy narrows it.' WHEN NOT t.strong AND c.polcmd = 'r' THEN 'So it should be, where they are public.' "
						   "ELSE 'The fix drops the policy, which closes what it let through.' END), "
						   "CASE WHEN n.narrowed OR NOT t.strong AND c.polcmd = 'r' THEN NULL ELSE " AUDIT_DROP_POLICY("c") " END "
						   "FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM clauses AS o "
						   "WHERE o.polrelid = c.polrelid AND NOT o.polpermissive AND o.compares AND NOT o.itself AND o.polcmd IN ('*', c.polcmd)) AS narrowed) AS n "
						   "WHERE c.polpermissive AND c.secured AND NOT c.compares AND c.open "
						   "UNION ALL SELECT CASE WHEN n.narrowed THEN 'info' ELSE 'warning' END, pg_catalog.format('%s ON %s', c.polname, c.name), "
						   "'policy asks for a membership anywhere', "
						   "pg_catalog.format('%s (%s) reads %s and compares it with no column of the row: who belongs to one %I passes for all.', c.clause, "
						   AUDIT_COMMAND("c") ", m.names, t.attname), CASE WHEN n.narrowed THEN NULL ELSE " AUDIT_DROP_POLICY("c") " END "
						   "FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM clauses AS o "
						   "WHERE o.polrelid = c.polrelid AND NOT o.polpermissive AND o.compares AND NOT o.itself AND o.polcmd IN ('*', c.polcmd)) AS narrowed) AS n "
						   "CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(m.name, ', ' ORDER BY m.name) AS names FROM tenant AS m WHERE m.oid = ANY (c.tables)) AS m "
						   "WHERE c.polpermissive AND c.secured AND NOT c.compares AND NOT c.itself AND m.names IS NOT NULL)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s expressions of policies that bind %s, %s of them on tables with an organization column.', "
										"pg_catalog.count(*), " AUDIT_API_LIST ", pg_catalog.count(t.oid)) "
										"FROM clauses AS c LEFT JOIN tenant AS t ON t.oid = c.polrelid"))
		}
	},
	{
		"policies_that_ask_user_metadata", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", found AS ("
						   "SELECT 'error' AS severity, pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'policy asks user metadata' AS finding, "
						   "pg_catalog.format('%s (%s) reads user_metadata%s, which users write themselves through the auth server. Ask app_metadata, or better a table. "
						   "The fix drops the policy, which closes what it let through.', c.clause, " AUDIT_COMMAND("c")
						   ", coalesce(' in ' || f.name, '')) AS detail, CASE WHEN c.polpermissive THEN " AUDIT_DROP_POLICY("c") " END AS fix "
						   "FROM clauses AS c LEFT JOIN (SELECT k.policy, k.clause, pg_catalog.min(b.name) AS name FROM clauses AS k CROSS JOIN LATERAL pg_catalog.unnest(k.functions) AS u (oid) "
						   "JOIN body AS b ON b.oid = u.oid AND b.metadata GROUP BY 1, 2) AS f ON f.policy = c.policy AND f.clause = c.clause "
						   "WHERE c.secured AND (c.metadata OR f.name IS NOT NULL))"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s expressions of policies and the %s functions that they call.', pg_catalog.count(DISTINCT (c.policy, c.clause)), "
										"pg_catalog.count(DISTINCT f.oid)) FROM clauses AS c LEFT JOIN LATERAL pg_catalog.unnest(c.functions) AS f (oid) ON true"))
		}
	},
	{
		"views_that_bypass", NULL, {
			AUDIT_STEP_FACTS(
					   "WITH RECURSIVE " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_FUNCTIONS ", "
					   "rules AS MATERIALIZED (SELECT DISTINCT r.ev_class AS view, d.refobjid AS rel FROM pg_catalog.pg_rewrite AS r "
					   "JOIN pg_catalog.pg_depend AS d ON d.classid = " AUDIT_REWRITE " AND d.objid = r.oid AND d.refclassid = " AUDIT_CLASS
					   " AND d.refobjid <> r.ev_class JOIN app AS v ON v.oid = r.ev_class WHERE r.rulename = '_RETURN'), "
					   "uses (view, rel) AS (SELECT r.view, r.rel FROM rules AS r UNION SELECT u.view, r.rel FROM uses AS u JOIN rules AS r ON r.view = u.rel), "
					   "asking1 AS MATERIALIZED (SELECT v.oid FROM app AS v WHERE v.relkind IN ('v', 'm') AND pg_catalog.pg_get_viewdef(v.oid) ~* " AUDIT_ASKS
					   " UNION SELECT r.ev_class FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d ON d.classid = " AUDIT_REWRITE " AND d.objid = r.oid "
					   "AND d.refclassid = " AUDIT_PROC " JOIN body AS a ON a.oid = d.refobjid AND a.asks), "
					   "asking AS MATERIALIZED (SELECT a.oid FROM asking1 AS a UNION SELECT u.view FROM uses AS u JOIN asking1 AS a ON a.oid = u.rel), "
					   "base AS MATERIALIZED (SELECT t.oid, t.name, t.relowner, t.forced, true AS tenant FROM tenant AS t WHERE t.secured "
					   "UNION ALL SELECT c.oid, 'auth.users', c.relowner, c.relforcerowsecurity, false FROM pg_catalog.pg_class AS c WHERE c.oid = " AUDIT_AUTH_USERS "), "
					   "shown AS MATERIALIZED (SELECT v.oid, v.name, v.relkind, v.roles, pg_catalog.string_agg(DISTINCT b.name, ', ') AS names, pg_catalog.bool_or(b.tenant) AS tenant "
					   "FROM app AS v JOIN uses AS u ON u.view = v.oid JOIN base AS b ON b.oid = u.rel WHERE v.relkind IN ('v', 'm') AND v.roles IS NOT NULL "
					   "AND (v.relkind = 'm' OR " AUDIT_BYPASSES("v.relowner", "b") ") AND NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(v.reloptions) AS o "
					   "WHERE o.option_name = 'security_invoker' AND o.option_value::pg_catalog.bool) GROUP BY v.oid, v.name, v.relkind, v.roles), "
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
		"functions_that_bypass", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", "
						   "asked AS MATERIALIZED (SELECT DISTINCT u.oid FROM clauses AS c CROSS JOIN LATERAL pg_catalog.unnest(c.functions) AS u (oid)), "
						   "definer AS MATERIALIZED (SELECT b.*, b.prorettype = 'pg_catalog.bool'::pg_catalog.regtype AND EXISTS (SELECT FROM asked AS u WHERE u.oid = b.oid) AS helps "
						   "FROM body AS b WHERE b.definer), found AS (SELECT CASE WHEN d.helps "
						   "THEN 'info' ELSE 'warning' END AS severity, d.name AS object, 'definer function bypasses row level security' AS finding, "
						   "pg_catalog.format('%s may call it, it names %s and runs as its owner, whom no policy there binds; and nothing in it asks who is calling.', "
						   "(SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) FROM api AS a WHERE pg_catalog.has_function_privilege(a.role, d.oid, 'EXECUTE')), t.names) AS detail, "
						   "CASE WHEN d.helps THEN NULL ELSE pg_catalog.format('ALTER ROUTINE %s SECURITY INVOKER;', d.name) END AS fix "
						   "FROM definer AS d JOIN (SELECT b.oid, pg_catalog.string_agg(t.name, ', ' ORDER BY t.name) AS names FROM definer AS b CROSS JOIN LATERAL pg_catalog.unnest(b.touches) AS u (oid) "
						   "JOIN tenant AS t ON t.oid = u.oid WHERE t.secured AND " AUDIT_BYPASSES("b.proowner", "t") " GROUP BY b.oid) AS t ON t.oid = d.oid WHERE NOT d.asks "
						   "AND coalesce(pg_catalog.array_to_string(d.proargnames, ' '), '') !~* 'token|code|secret|hash|key')"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s SECURITY DEFINER functions that %s may call, of %s functions; bodies are read as text. "
										"One that takes a token, code, secret, hash or key is taken to ask for it.', (SELECT pg_catalog.count(*) FROM definer AS d), "
										AUDIT_API_LIST ", (SELECT pg_catalog.count(*) FROM body AS b))"))
		}
	},
	{
		"claims_for_tenant", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", " AUDIT_FUNCTIONS ", found AS ("
						   "SELECT 'warning' AS severity, pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'policy takes the organization from the token' AS finding, "
						   "pg_catalog.format('%s (%s) compares %I with a claim%s. A token keeps its claims until it expires: who was removed passes until then. "
						   "Ask a table, as invite_sync.is_member() does.', c.clause, " AUDIT_COMMAND("c") ", t.attname, coalesce(' by way of ' || f.name, '')) AS detail, "
						   "NULL::pg_catalog.text AS fix FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid AND t.attnum = ANY (c.columns) "
						   "LEFT JOIN (SELECT k.policy, k.clause, pg_catalog.min(b.name) AS name FROM clauses AS k CROSS JOIN LATERAL pg_catalog.unnest(k.functions) AS u (oid) "
						   "JOIN body AS b ON b.oid = u.oid AND b.claim GROUP BY 1, 2) AS f ON f.policy = c.policy AND f.clause = c.clause "
						   "WHERE c.secured AND NOT c.metadata AND (c.claim OR f.name IS NOT NULL) "
						   "UNION ALL SELECT 'info', pg_catalog.format('%s ON %s', c.polname, c.name), 'policy takes the organization from a setting', "
						   "pg_catalog.format('%s (%s) compares %I with a setting: whoever can run SET says which organization they are of.', c.clause, " AUDIT_COMMAND("c") ", t.attname), NULL "
						   "FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid AND t.attnum = ANY (c.columns) "
						   "WHERE c.secured AND c.setting)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s expressions of policies that name an organization column.', pg_catalog.count(*)) "
										"FROM clauses AS c JOIN tenant AS t ON t.oid = c.polrelid AND t.attnum = ANY (c.columns)"))
		}
	},
	{
		"indexes_under_policies", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", "
						   "used AS MATERIALIZED (SELECT DISTINCT t.oid, t.name, t.reltuples, a.attnum, a.attname FROM clauses AS c JOIN app AS t ON t.oid = c.polrelid "
						   "CROSS JOIN LATERAL pg_catalog.unnest(c.columns) AS u (attnum) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.attnum "
						   "LEFT JOIN tenant AS o ON o.oid = t.oid WHERE t.secured AND c.clause = 'USING' AND t.relkind IN ('r', 'p') "
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
		"roles_nobody_has", NULL, {
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
		"powers_of_api_roles", NULL, {
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
					   "WHERE pg_catalog.has_schema_privilege(x.role, n.oid, 'CREATE')) AS p WHERE p.names IS NOT NULL AND n.nspname !~ '^pg_(temp|toast)')"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s roles, the %s they are members of, and %s schemas.', (SELECT pg_catalog.count(*) FROM api AS a), "
									"(SELECT pg_catalog.count(*) FROM member AS m), (SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace AS n WHERE n.nspname !~ '^pg_(temp|toast)'))"))
		}
	},
	{
		"functions_that_escalate", NULL, {
			AUDIT_STEP_FACTS(
					   "WITH " AUDIT_API ", " AUDIT_FUNCTIONS ", "
					   "definer AS MATERIALIZED (SELECT b.* FROM body AS b WHERE b.definer), "
					   "found AS (SELECT 'error' AS severity, d.name AS object, 'definer function runs what its caller writes' AS finding, "
					   "pg_catalog.format('It executes its argument %s as SQL, with the rights of %I, and %s may call it.', a.name, o.rolname, "
					   "(SELECT pg_catalog.string_agg(x.name, ', ' ORDER BY x.role) FROM api AS x WHERE pg_catalog.has_function_privilege(x.role, d.oid, 'EXECUTE'))) AS detail, "
					   "pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', d.name, " AUDIT_API_LIST ") AS fix "
					   "FROM definer AS d JOIN pg_catalog.pg_roles AS o ON o.oid = d.proowner CROSS JOIN LATERAL ("
					   "SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(n.name), ', ') AS name FROM pg_catalog.unnest(d.proargnames) AS n (name) "
					   "WHERE n.name ~ '^[[:alpha:]_][[:alnum:]_]*$' AND d.code ~* ('\\mexecute\\s*\\(?\\s*(''[^'']*''\\s*\\|\\|\\s*)*' || n.name || '\\M(?!\\s*\\()')) AS a "
					   "WHERE d.lanname = 'plpgsql' AND a.name IS NOT NULL "
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
		"self_granted_memberships", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_TENANT ", " AUDIT_CLAUSES ", "
						   "giving AS MATERIALIZED (SELECT t.oid, t.name, pg_catalog.array_agg(a.attnum) AS columns, pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) AS names "
						   "FROM app AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN tenant AS o ON o.oid = t.oid "
						   "WHERE t.relkind IN ('r', 'p') AND t.relname ~* 'member|role|permission|admin|staff' AND (a.attnum = o.attnum OR a.attname ~* '(^|_)(roles?|permissions?)(_id)?$') "
						   "GROUP BY t.oid, t.name), "
						   "found AS (SELECT 'error' AS severity, pg_catalog.format('%s ON %s', c.polname, c.name) AS object, 'users can add themselves' AS finding, "
						   "pg_catalog.format('%s (%s) lets users insert a row about themselves and does not look at %s: they say themselves where they belong, and as what. "
						   "The fix drops the policy, which closes what it let through.', c.clause, " AUDIT_COMMAND("c") ", g.names) AS detail, " AUDIT_DROP_POLICY("c") " AS fix "
						   "FROM clauses AS c JOIN giving AS g ON g.oid = c.polrelid WHERE c.secured AND c.polpermissive AND c.polcmd IN ('*', 'a') "
						   "AND (c.clause = 'WITH CHECK' OR NOT EXISTS (SELECT FROM clauses AS k WHERE k.policy = c.policy AND k.clause = 'WITH CHECK')) "
						   "AND c.compares AND c.own AND c.tables = '{}' AND NOT g.columns && c.columns "
						   "AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace WHERE p.oid = ANY (c.functions) "
						   "AND n.nspname NOT IN ('auth', 'pg_catalog') AND p.proname <> 'current_user_id') "
						   "AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = c.polrelid AND NOT k.polpermissive AND k.polcmd IN ('*', 'a')))"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s tables of members, roles and permissions, by their names.', pg_catalog.count(*)) FROM giving AS g"))
		}
	},
	{
		"rights_in_columns", NULL, {
			AUDIT_STEP_FACTS(
						   "WITH " AUDIT_API ", " AUDIT_APP ", " AUDIT_CLAUSES ", "
						   "attribute AS MATERIALIZED (SELECT t.oid, t.name, t.relname, t.secured, c.attnum, c.attname, l.plain ~ "
						   "'^((is|has)?(super)?(admin|administrator|superuser|staff|moderator|root)|is(account|org|organization|team)?owner|(platform|organization|org|app|user|team|tenant|workspace)roles?"
						   "|accesslevel|privilegelevel)$' AS sure FROM app AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped AND c.attgenerated = '' "
						   "CROSS JOIN LATERAL (SELECT pg_catalog.lower(pg_catalog.replace(c.attname, '_', '')) AS plain) AS l WHERE t.relkind IN ('r', 'p') AND l.plain ~ "
						   "'^((is|has)?(super)?(admin|administrator|superuser|staff|moderator|root)|is(account|org|organization|team)?owner|(platform|organization|org|app|user|team|tenant|workspace)?roles?"
						   "|accesslevel|privilegelevel|permissions?|privileges|scopes)$'), "
						   "own AS MATERIALIZED (SELECT a.oid, a.attnum FROM attribute AS a WHERE NOT a.secured AND (a.sure OR a.relname ~* " AUDIT_OF_PEOPLE ") "
						   "UNION SELECT a.oid, a.attnum FROM attribute AS a JOIN clauses AS c ON c.polrelid = a.oid WHERE a.secured AND c.polpermissive AND c.polcmd IN ('*', 'w') AND c.clause = 'USING' "
						   "AND c.tables = '{}' AND NOT a.attnum = ANY (c.columns) AND (c.open OR c.compares AND c.own) "
						   "AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace WHERE p.oid = ANY (c.functions) "
						   "AND n.nspname NOT IN ('auth', 'pg_catalog') AND p.proname <> 'current_user_id') "
						   "AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.clause = 'WITH CHECK' AND k.policy = c.policy AND a.attnum = ANY (k.columns)) "
						   "AND NOT EXISTS (SELECT FROM clauses AS k WHERE k.polrelid = a.oid AND k.clause = 'WITH CHECK' AND NOT k.polpermissive AND k.polcmd IN ('*', 'w') AND a.attnum = ANY (k.columns)) "
						   "AND (a.sure OR a.relname ~* " AUDIT_OF_PEOPLE " OR EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.oid AND i.indisunique AND i.indnkeyatts = 1 "
						   "AND i.indpred IS NULL AND c.columns = ARRAY[i.indkey[0]]::pg_catalog.int2[]))), "
						   "open AS MATERIALIZED (SELECT a.*, g.names FROM own AS o JOIN attribute AS a ON a.oid = o.oid AND a.attnum = o.attnum "
						   "JOIN app AS t ON t.oid = a.oid CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(x.name, ', ' ORDER BY x.role) AS names FROM api AS x "
						   "WHERE pg_catalog.has_schema_privilege(x.role, t.relnamespace, 'USAGE') AND pg_catalog.has_column_privilege(x.role, a.oid, a.attnum, 'UPDATE')) AS g WHERE g.names IS NOT NULL), "
						   "found AS (SELECT CASE WHEN g.name IS NULL THEN 'error' ELSE 'info' END AS severity, pg_catalog.format('%s.%I', o.name, o.attname) AS object, "
						   "'users can write a column that looks like a right' AS finding, "
						   "pg_catalog.format('%s may UPDATE it, and %s.%s', o.names, CASE WHEN o.secured THEN 'policies let users change the row that is theirs' ELSE 'row level security is off' END, "
						   "coalesce(' The trigger function ' || g.name || ' names the column: see that it refuses.', '')) AS detail, "
						   "pg_catalog.format('REVOKE UPDATE ON TABLE %s FROM %s;', o.name, o.names) || coalesce((SELECT pg_catalog.string_agg(pg_catalog.format(' GRANT UPDATE (%s) ON TABLE %s TO %s;', k.columns, o.name, k.name), '' ORDER BY k.name) "
						   "FROM (SELECT x.name, pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ' ORDER BY c.attnum) AS columns FROM api AS x JOIN pg_catalog.pg_attribute AS c ON c.attrelid = o.oid AND c.attnum > 0 "
						   "AND NOT c.attisdropped AND c.attgenerated = '' WHERE pg_catalog.has_column_privilege(x.role, o.oid, c.attnum, 'UPDATE') "
						   "AND (x.role <> 0 OR NOT EXISTS (SELECT FROM api AS y WHERE y.role <> 0)) "
						   "AND NOT EXISTS (SELECT FROM open AS y WHERE y.oid = o.oid AND y.attnum = c.attnum) GROUP BY x.name) AS k), '') AS fix FROM open AS o "
						   "LEFT JOIN LATERAL (SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text AS name FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid "
						   "WHERE g.tgrelid = o.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 2 = 2 AND g.tgtype & 16 = 16 AND "
						   AUDIT_CODE("p") " ~* ('\\m' || pg_catalog.regexp_replace(o.attname, '\\W', '.', 'g') || '\\M') ORDER BY 1 LIMIT 1) AS g ON true)"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s columns of %s tables, by their names: admin, role, permissions and the like.', pg_catalog.count(*), pg_catalog.count(DISTINCT a.oid)) FROM attribute AS a"))
		}
	},
	{.name = NULL}
};
