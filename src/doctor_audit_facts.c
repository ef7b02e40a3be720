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

/* Those within reach of strangers or users have roles. The policies of files in storage are the application's, too. */
#define APP \
	"app AS MATERIALIZED (" \
	"SELECT c.oid, c.oid::pg_catalog.regclass::pg_catalog.text AS name, c.relname, c.relkind, c.relowner, c.relrowsecurity AS secured, " \
	"c.relforcerowsecurity AS forced, c.reltuples, c.reloptions, c.relnamespace, n.nspname, " \
	"(SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) FROM api AS a " \
	"WHERE pg_catalog.has_schema_privilege(a.role, c.relnamespace, 'USAGE') " \
	"AND (pg_catalog.has_table_privilege(a.role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') " \
	"OR pg_catalog.has_any_column_privilege(a.role, c.oid, 'SELECT, INSERT, UPDATE'))) AS roles " \
	"FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace " \
	"WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't' AND (" AUDIT_IS_APP_SCHEMA("n.nspname") \
	" OR n.nspname = 'storage' AND c.relname = 'objects') AND NOT " AUDIT_IS_EXTENSIONS(AUDIT_CLASS, "c.oid") ")"

#define STRONG "'^(organi[sz]ation|org|tenant|workspace)(id|uuid|key|slug)$'"
#define STRONG_AT_END "'(organi[sz]ation|tenant|workspace|(^|_)org)_?(id|uuid|key|slug)$'"
#define WEAK "'^(team|company|account)(id|uuid|key)$'"
#define STRONG_TABLE "'^(organi[sz]ations?|orgs?|tenants?|workspaces?)$'"
#define WEAK_TABLE "'^(teams?|compan(y|ies)|accounts?)$'"

/* Columns that name an organization, by what they reference, by protect_table(), or by their name. */
#define TENANT \
	"tenant AS MATERIALIZED (" \
	"SELECT DISTINCT ON (a.oid) a.oid, a.relname, a.attnum, a.attname, a.strong FROM (" \
	"SELECT t.oid, t.relname, c.attnum, c.attname, coalesce(n.plain ~ " STRONG " OR n.plain = 'tenant' OR n.lower ~ " STRONG_AT_END " OR f.strong OR p.table_name IS NOT NULL, false) AS strong, " \
	"coalesce(n.plain ~ " WEAK " OR f.weak, false) AS weak, coalesce(n.plain ~ " STRONG " OR f.own OR p.table_name IS NOT NULL, false) AS exact " \
	"FROM app AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped " \
	"CROSS JOIN LATERAL (SELECT pg_catalog.lower(pg_catalog.replace(c.attname, '_', '')) AS plain, pg_catalog.lower(c.attname) AS lower) AS n " \
	"LEFT JOIN (SELECT f.conrelid, f.conkey[1] AS attnum, pg_catalog.bool_or(f.confrelid = 'invite_sync.organization'::pg_catalog.regclass) AS own, " \
	"pg_catalog.bool_or(f.confrelid = 'invite_sync.organization'::pg_catalog.regclass OR pg_catalog.lower(o.relname) ~ " STRONG_TABLE ") AS strong, " \
	"pg_catalog.bool_or(pg_catalog.lower(o.relname) ~ " WEAK_TABLE ") AS weak FROM pg_catalog.pg_constraint AS f JOIN pg_catalog.pg_class AS o ON o.oid = f.confrelid " \
	"WHERE f.contype = 'f' AND f.conrelid <> f.confrelid AND pg_catalog.cardinality(f.conkey) = 1 GROUP BY 1, 2) AS f ON f.conrelid = t.oid AND f.attnum = c.attnum " \
	"LEFT JOIN invite_sync.protected_table AS p ON p.schema_name = t.nspname AND p.table_name = t.relname AND p.organization_column = c.attname " \
	"WHERE t.relkind IN ('r', 'p', 'f') AND t.nspname <> 'storage') AS a WHERE a.strong OR a.weak ORDER BY a.oid, a.strong DESC, a.exact DESC, a.attnum)"

/* A body that is nothing but this says yes to everybody who is logged in. */
#define LOGGED_IN \
	"'true|\\m(\\d+) = \\1\\M|auth\\.(uid|jwt|role|email) IS NOT NULL|auth\\.jwt ->> ''(sub|email)'' IS NOT NULL|" \
	"(auth\\.role|CURRENT_USER|auth\\.jwt ->> ''(role|aud)'') (=|<>) ''(anon|authenticated)''|" \
	"(auth\\.role|CURRENT_USER|auth\\.jwt ->> ''role'') = ANY ARRAY\\[(''(anon|authenticated)''(, )?)+\\]'"

/*
 * Policies for roles that are none of strangers' or users', or for what those may not do anyway, bind nobody of interest.
 * Whether a policy is open may hang on its functions, and on what the columns are that only must not be null.
 */
#define CLAUSES \
	"yes AS MATERIALIZED (SELECT b.oid FROM body AS b CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(pg_catalog.regexp_replace(" \
	"b.code, '^\\s*(BEGIN\\s+RETURN|BEGIN\\s+ATOMIC\\s+SELECT|SELECT|RETURN)\\M(.*?);?\\s*(END\\s*;?)?\\s*$', '\\2', 'i'), " \
	"'\\(\\s*SELECT\\s+(auth\\.\\w+\\(\\))(\\s+AS\\s+\\w+)?\\s*\\)', '\\1', 'gi') AS expr) AS x " \
	"WHERE b.prorettype = 'pg_catalog.bool'::pg_catalog.regtype AND pg_catalog.length(b.code) < 1000 AND x.expr <> b.code AND pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.regexp_replace(" \
	"pg_catalog.regexp_replace(x.expr, '::[a-z ]+', '', 'gi'), '[()]', '', 'g'), '\\s+', ' ', 'g'), " LOGGED_IN ", '', 'gi') ~* '^(\\s|AND\\M|OR\\M|AS \\w+)*$'), " \
	"clauses AS MATERIALIZED (" \
	"SELECT p.polrelid, pg_catalog.quote_ident(p.polname) AS polname, p.polcmd, p.polpermissive, j.*, x.expr, y.bound, " \
	"j.opens AND NOT EXISTS (SELECT FROM pg_catalog.unnest(j.says_yes) AS u (oid) WHERE NOT EXISTS (SELECT FROM yes AS y WHERE y.oid = u.oid)) " \
	"AND NOT EXISTS (SELECT FROM pg_catalog.unnest(j.filled) AS u (attnum) JOIN pg_catalog.pg_attribute AS c ON c.attrelid = p.polrelid AND c.attnum = u.attnum " \
	"WHERE c.attname !~* '(^|_)(user|owner|member|author|profile|creator|customer|tenant|org|organi[sz]ation|workspace|team|company|account)_?(id|uuid)?$|^created_?by$') AS open " \
	"FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS j (policy oid, clause text, compares boolean, itself boolean, opens boolean, never boolean, " \
	"columns smallint[], filled smallint[], tables oid[], functions oid[], says_yes oid[]) " \
	"JOIN pg_catalog.pg_policy AS p ON p.oid = j.policy JOIN app AS t ON t.oid = p.polrelid " \
	"CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(CASE j.clause WHEN 'USING' THEN p.polqual ELSE p.polwithcheck END, p.polrelid) AS expr) AS x " \
	"CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.array_agg(a.role), '{}') AS bound FROM api AS a WHERE a.role <> 0 " \
	"AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r (role) WHERE r.role = 0 OR r.role <> 0 AND pg_catalog.pg_has_role(a.role, r.role, 'USAGE'))) AS y " \
	"WHERE t.roles IS NOT NULL AND (y.bound <> '{}' OR 0 = ANY (p.polroles) OR NOT EXISTS (SELECT FROM api AS a WHERE a.role <> 0)) " \
	"AND EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_table_privilege(a.role, t.oid, CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' " \
	"WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'SELECT, INSERT, UPDATE, DELETE' END) " \
	"OR p.polcmd <> 'd' AND pg_catalog.has_any_column_privilege(a.role, t.oid, CASE p.polcmd WHEN 'r' THEN 'SELECT' " \
	"WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'SELECT, INSERT, UPDATE' END)))"

#define IS_TRIGGER(p) \
	p ".prorettype IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)"

/* That somebody is logged in does not say who it is. */
#define WITHOUT_LOGGED_IN(code) \
	"pg_catalog.regexp_replace(" code ", '(\\(\\s*select\\s+)?\\mauth\\.uid\\(\\)(\\s*\\))?\\s+is\\s+(not\\s+)?null\\M|" \
	"\\mauth\\.role\\(\\)\\s*(=|<>|!=)\\s*''(anon|authenticated)''', '', 'gi')"

/* A relation that a statement in a body names: with its schema, or without. Of what is not ASCII all counts as letters. */
#define A_NAME "(\"(?:[^\"]|\"\")+\"|(?:[[:alpha:]_]|[^\\x01-\\x7f])(?:[\\w$]|[^\\x01-\\x7f])*)"
#define UNQUOTED(name) "pg_catalog.replace(pg_catalog.regexp_replace(" name ", '^\"|\"$', '', 'g'), '\"\"', '\"')"
#define NAMED_RELATION \
	"'(?:\\m(?:from|join|into|update|only|using|table|truncate|copy)\\s+(?:only\\s+)?(?:" A_NAME "\\s*\\.\\s*)?|,\\s*" A_NAME "\\s*\\.\\s*)" A_NAME "'"

/* A header that is held against what somebody may do is a choice of theirs. What they do is followed through two calls, by the names of what is called. */
#define FUNCTIONS \
	"body AS MATERIALIZED (" \
	"SELECT p.oid, p.oid::pg_catalog.regprocedure::pg_catalog.text AS name, pg_catalog.lower(p.proname) AS word, p.proowner, p.prorettype, p.proargnames, " \
	"p.proargtypes::pg_catalog.oid[] AS proargtypes, p.proconfig, p.pronamespace, l.lanname, " AUDIT_CODE("p") " AS code, p.prosecdef AND NOT " IS_TRIGGER("p") \
	" AND EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, p.pronamespace, 'USAGE') " \
	"AND pg_catalog.has_function_privilege(a.role, p.oid, 'EXECUTE')) AS definer " \
	"FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace " \
	"WHERE p.prokind IN ('f', 'p') AND (" AUDIT_IS_APP_SCHEMA("n.nspname") " OR n.nspname = 'auth' AND p.proname <> ALL (ARRAY['uid', 'role', 'email', 'jwt'])) " \
	"AND NOT " AUDIT_IS_EXTENSIONS(AUDIT_PROC, "p.oid") "), " \
	"word AS MATERIALIZED (" \
	"SELECT DISTINCT b.oid, pg_catalog.lower(m[1]) AS word FROM body AS b CROSS JOIN LATERAL " \
	"pg_catalog.regexp_matches(b.code, '([[:alpha:]_][[:alnum:]_$]*)\"?\\s*\\(', 'g') AS m), " \
	"call AS MATERIALIZED (SELECT w.oid, b.oid AS callee FROM word AS w JOIN body AS b ON b.word = w.word AND b.oid <> w.oid), " \
	"comes AS MATERIALIZED (SELECT b.oid, b.oid AS by FROM body AS b UNION SELECT c.oid, c.callee FROM call AS c " \
	"UNION SELECT c.oid, d.callee FROM call AS c JOIN call AS d ON d.oid = c.callee), " \
	"says AS MATERIALIZED (SELECT b.oid, " WITHOUT_LOGGED_IN("b.code") " ~* " AUDIT_ASKS " AS asks, b.code ~* 'user_meta_?data' AS metadata, " \
	"b.code ~* 'jwt' AND b.code ~* " AUDIT_TENANT_KEY " AS claim, b.code ~* 'request\\.(headers?|cookies?)\\M' AND b.code !~* 'auth\\.(uid|jwt)|request\\.jwt|\\minvite_sync\\.' AS header, " \
	"b.code ~* 'current_setting' AND b.code !~* 'jwt|request\\.(headers?|cookies?)\\M' AS setting, " \
	"b.code ~* '\\m(is_?)?(super|platform|system|global|site)_?(admin|administrator|user|owner|staff)' AS above FROM body AS b), " \
	"said AS MATERIALIZED (SELECT c.oid, pg_catalog.bool_or(s.asks) AS asks, pg_catalog.bool_or(s.metadata) AS metadata, pg_catalog.bool_or(s.claim) AS claim, " \
	"pg_catalog.bool_or(s.header) AS header, pg_catalog.bool_or(s.setting) AS setting, pg_catalog.bool_or(s.above) AS above, pg_catalog.array_agg(c.by) AS calls FROM comes AS c JOIN says AS s ON s.oid = c.by GROUP BY c.oid), " \
	"touches AS MATERIALIZED (SELECT x.oid, pg_catalog.array_agg(DISTINCT t.oid) AS tables FROM (SELECT b.oid, pg_catalog.lower(" UNQUOTED("coalesce(m[1], m[2])") ") AS nspname, pg_catalog.lower(" UNQUOTED("m[3]") ") AS relname " \
	"FROM body AS b CROSS JOIN LATERAL pg_catalog.regexp_matches(b.code, " NAMED_RELATION ", 'gi') AS m) AS x " \
	"JOIN tenant AS t ON pg_catalog.lower(t.relname) = x.relname JOIN app AS r ON r.oid = t.oid AND (x.nspname IS NULL OR x.nspname = pg_catalog.lower(r.nspname)) GROUP BY x.oid)"

SavedPlan	audit_facts = {
	.sql = "WITH " AUDIT_API ", " APP ", " TENANT ", " FUNCTIONS ", " CLAUSES " SELECT "
	JSON("'oid', t.oid, 'name', t.name, 'relname', t.relname, 'relkind', t.relkind, 'relowner', t.relowner, 'secured', t.secured, 'forced', t.forced, "
		 "'reltuples', t.reltuples, 'reloptions', t.reloptions, 'relnamespace', t.relnamespace, 'nspname', t.nspname, 'roles', t.roles", "app AS t") ", "
	JSON("'oid', t.oid, 'attnum', t.attnum, 'attname', t.attname, 'strong', t.strong", "tenant AS t") ", "
	JSON("'policy', c.policy, 'polrelid', c.polrelid, 'polname', c.polname, 'polcmd', c.polcmd, 'polpermissive', c.polpermissive, 'clause', c.clause, "
		 "'compares', c.compares, 'itself', c.itself, 'never', c.never, 'columns', c.columns, 'tables', c.tables, 'functions', c.functions, 'bound', c.bound, 'open', c.open, "
		 "'own', c.expr ~* 'auth\\.(uid|jwt)|request\\.jwt|current_user_id', 'metadata', c.expr ~* 'user_meta_?data', "
		 "'claim', c.expr ~* 'jwt' AND c.expr ~* " AUDIT_TENANT_KEY ", 'header', c.expr ~* 'request\\.(headers?|cookies?)\\M', "
		 "'setting', c.expr ~* 'current_setting' AND c.expr !~* 'jwt|request\\.(headers?|cookies?)\\M'", "clauses AS c") ", "
	JSON("'oid', b.oid, 'name', b.name, 'proowner', b.proowner, 'prorettype', b.prorettype, 'proargnames', b.proargnames, 'proargtypes', b.proargtypes, "
		 "'proconfig', b.proconfig, 'pronamespace', b.pronamespace, 'lanname', b.lanname, 'definer', b.definer, 'asks', s.asks, "
		 "'code', CASE WHEN b.definer THEN b.code END, 'metadata', s.metadata, 'claim', s.claim, 'header', s.header, 'setting', s.setting, 'above', s.above, 'touches', t.tables, 'calls', s.calls",
		 "body AS b JOIN said AS s ON s.oid = b.oid LEFT JOIN touches AS t ON t.oid = b.oid"),
	.nargs = 1,
	.argtypes = {TEXTOID}
};
