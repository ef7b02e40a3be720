/*-------------------------------------------------------------------------
 *
 * doctor_audit_facts.c
 *	  What several of the audit's checks need to know of relations, policies
 *	  and functions, found out once for all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"

#include "doctor_audit.h"

/* json_agg() of what SQL names "from", as text. */
#define JSON(columns, from) \
	"(SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(" columns ")), '[]')::pg_catalog.text FROM " from ")"

/* Those within reach of strangers or users have roles. */
#define APP \
	"app AS MATERIALIZED (" \
	"SELECT c.oid, c.oid::pg_catalog.regclass::pg_catalog.text AS name, c.relname, c.relkind, c.relowner, c.relrowsecurity AS secured, " \
	"c.relforcerowsecurity AS forced, c.reltuples, c.reloptions, c.relnamespace, n.nspname, " \
	"(SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) FROM api AS a " \
	"WHERE pg_catalog.has_schema_privilege(a.role, c.relnamespace, 'USAGE') " \
	"AND (pg_catalog.has_table_privilege(a.role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') " \
	"OR pg_catalog.has_any_column_privilege(a.role, c.oid, 'SELECT, INSERT, UPDATE'))) AS roles " \
	"FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace " \
	"WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't' AND " AUDIT_IS_APP_SCHEMA("n.nspname") \
	" AND NOT " AUDIT_IS_EXTENSIONS(AUDIT_CLASS, "c.oid") ")"

#define STRONG "'^(organi[sz]ation|org|tenant|workspace)(id|uuid|key|slug)$'"
#define WEAK "'^(team|company|account)(id|uuid|key)$'"

/* Columns that name an organization, by what they reference, by protect_table(), or by their name. */
#define TENANT \
	"tenant AS MATERIALIZED (" \
	"SELECT DISTINCT ON (a.oid) a.oid, a.relname, a.attnum, a.attname, a.strong FROM (" \
	"SELECT t.oid, t.relname, c.attnum, c.attname, n.plain ~ " STRONG " OR n.plain = 'tenant' OR f.conrelid IS NOT NULL OR p.table_name IS NOT NULL AS strong, " \
	"n.plain ~ " WEAK " AS weak FROM app AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped " \
	"CROSS JOIN LATERAL (SELECT pg_catalog.lower(pg_catalog.replace(c.attname, '_', '')) AS plain) AS n " \
	"LEFT JOIN (SELECT DISTINCT f.conrelid, f.conkey[1] AS attnum FROM pg_catalog.pg_constraint AS f WHERE f.contype = 'f' " \
	"AND f.confrelid = 'invite_sync.organization'::pg_catalog.regclass) AS f ON f.conrelid = t.oid AND f.attnum = c.attnum " \
	"LEFT JOIN invite_sync.protected_table AS p ON p.schema_name = t.nspname AND p.table_name = t.relname AND p.organization_column = c.attname " \
	"WHERE t.relkind IN ('r', 'p', 'f')) AS a WHERE a.strong OR a.weak ORDER BY a.oid, a.strong DESC, a.attnum)"

#define LOGGED_IN \
	"'true|\\m(\\d+) = \\1\\M|auth\\.uid IS NOT NULL|auth\\.jwt IS NOT NULL|auth\\.jwt ->> ''sub'' IS NOT NULL|" \
	"(auth\\.role|CURRENT_USER|auth\\.jwt ->> ''role'') (=|<>) ''(anon|authenticated)''|" \
	"(auth\\.role|CURRENT_USER|auth\\.jwt ->> ''role'') = ANY ARRAY\\[(''(anon|authenticated)''(, )?)+\\]'"

/* Policies for roles that are none of strangers' or users', or for what those may not do anyway, bind nobody of interest. */
#define CLAUSES \
	"clauses AS MATERIALIZED (" \
	"SELECT p.polrelid, pg_catalog.quote_ident(p.polname) AS polname, p.polcmd, p.polpermissive, j.*, x.expr, " \
	"CASE WHEN j.compares THEN false ELSE pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.regexp_replace(x.expr, " \
	"'\\(\\s*SELECT\\s+(auth\\.\\w+\\(\\))\\s+AS\\s+\\w+\\s*\\)', '\\1', 'g'), '::[a-z ]+', '', 'g'), '[()]', '', 'g'), " LOGGED_IN ", '', 'g') " \
	"~ '^(\\s|AND|OR)*$' END AS open " \
	"FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS j (policy oid, clause text, compares boolean, itself boolean, " \
	"columns smallint[], tables oid[], functions oid[]) " \
	"JOIN pg_catalog.pg_policy AS p ON p.oid = j.policy JOIN app AS t ON t.oid = p.polrelid " \
	"CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(CASE j.clause WHEN 'USING' THEN p.polqual ELSE p.polwithcheck END, p.polrelid) AS expr) AS x " \
	"WHERE t.roles IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r (role) WHERE r.role = 0 " \
	"OR NOT EXISTS (SELECT FROM api AS a WHERE a.role <> 0) " \
	"OR EXISTS (SELECT FROM api AS a WHERE a.role <> 0 AND pg_catalog.pg_has_role(a.role, r.role, 'USAGE'))) " \
	"AND EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_table_privilege(a.role, t.oid, CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' " \
	"WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'SELECT, INSERT, UPDATE, DELETE' END) " \
	"OR p.polcmd <> 'd' AND pg_catalog.has_any_column_privilege(a.role, t.oid, CASE p.polcmd WHEN 'r' THEN 'SELECT' " \
	"WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'SELECT, INSERT, UPDATE' END)))"

#define IS_TRIGGER(p) \
	p ".prorettype IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)"

/* Which ask is followed through three calls, by the names of what is called. */
#define FUNCTIONS \
	"body AS MATERIALIZED (" \
	"SELECT p.oid, p.oid::pg_catalog.regprocedure::pg_catalog.text AS name, pg_catalog.lower(p.proname) AS word, p.proowner, p.prorettype, p.proargnames, " \
	"p.proargtypes::pg_catalog.oid[] AS proargtypes, p.proconfig, p.pronamespace, l.lanname, " AUDIT_CODE("p") " AS code, p.prosecdef AND NOT " IS_TRIGGER("p") \
	" AND EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, p.pronamespace, 'USAGE') " \
	"AND pg_catalog.has_function_privilege(a.role, p.oid, 'EXECUTE')) AS definer " \
	"FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace " \
	"WHERE p.prokind IN ('f', 'p') AND " AUDIT_IS_APP_SCHEMA("n.nspname") " AND NOT " AUDIT_IS_EXTENSIONS(AUDIT_PROC, "p.oid") "), " \
	"word AS MATERIALIZED (" \
	"SELECT DISTINCT b.oid, pg_catalog.lower(m[1]) AS word FROM body AS b CROSS JOIN LATERAL " \
	"pg_catalog.regexp_matches(b.code, '[[:alpha:]_][[:alnum:]_$]*', 'g') AS m), " \
	"asks1 AS MATERIALIZED (SELECT b.oid, b.word FROM body AS b WHERE b.code ~* " AUDIT_ASKS "), " \
	"asks2 AS MATERIALIZED (SELECT a.oid, a.word FROM asks1 AS a UNION SELECT b.oid, b.word FROM body AS b " \
	"JOIN word AS w ON w.oid = b.oid JOIN asks1 AS a ON a.word = w.word), " \
	"asks AS MATERIALIZED (SELECT a.oid FROM asks2 AS a UNION SELECT w.oid FROM word AS w JOIN asks2 AS a ON a.word = w.word), " \
	"touches AS MATERIALIZED (SELECT w.oid, pg_catalog.array_agg(t.oid) AS tables FROM word AS w JOIN tenant AS t ON pg_catalog.lower(t.relname) = w.word GROUP BY w.oid)"

SavedPlan	audit_facts = {
	.sql = "WITH " AUDIT_API ", " APP ", " TENANT ", " CLAUSES ", " FUNCTIONS " SELECT "
	JSON("'oid', t.oid, 'name', t.name, 'relname', t.relname, 'relkind', t.relkind, 'relowner', t.relowner, 'secured', t.secured, 'forced', t.forced, "
		 "'reltuples', t.reltuples, 'reloptions', t.reloptions, 'relnamespace', t.relnamespace, 'roles', t.roles", "app AS t") ", "
	JSON("'oid', t.oid, 'attnum', t.attnum, 'attname', t.attname, 'strong', t.strong", "tenant AS t") ", "
	JSON("'policy', c.policy, 'polrelid', c.polrelid, 'polname', c.polname, 'polcmd', c.polcmd, 'polpermissive', c.polpermissive, 'clause', c.clause, "
		 "'compares', c.compares, 'itself', c.itself, 'columns', c.columns, 'tables', c.tables, 'functions', c.functions, 'open', c.open, "
		 "'own', c.expr ~* 'auth\\.(uid|jwt)|request\\.jwt|current_user_id', 'metadata', c.expr ~* 'user_meta_?data', "
		 "'claim', c.expr ~* 'jwt' AND c.expr ~* " AUDIT_TENANT_KEY ", 'setting', c.expr ~* 'current_setting' AND c.expr !~* 'jwt'", "clauses AS c") ", "
	JSON("'oid', b.oid, 'name', b.name, 'proowner', b.proowner, 'prorettype', b.prorettype, 'proargnames', b.proargnames, 'proargtypes', b.proargtypes, "
		 "'proconfig', b.proconfig, 'pronamespace', b.pronamespace, 'lanname', b.lanname, 'definer', b.definer, 'asks', a.oid IS NOT NULL, "
		 "'code', CASE WHEN b.definer THEN b.code END, 'metadata', b.code ~* 'user_meta_?data', 'claim', b.code ~* 'jwt' AND b.code ~* " AUDIT_TENANT_KEY ", 'touches', t.tables",
		 "body AS b LEFT JOIN asks AS a ON a.oid = b.oid LEFT JOIN touches AS t ON t.oid = b.oid"),
	.nargs = 1,
	.argtypes = {TEXTOID}
};
