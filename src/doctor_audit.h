/*-------------------------------------------------------------------------
 *
 * doctor_audit.h
 *	  What audit() looks at: each check is a statement, or a few.
 *
 * A check's last statement returns severity, object, finding, detail and fix of
 * what it found, and one row "looked at" that says of how much. Statements
 * before it hand it one text, which is its only argument: what has to be read
 * under other rights, or out of policies.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_AUDIT_H
#define INVITE_SYNC_DOCTOR_AUDIT_H

#include "plan.h"

typedef enum AuditScope
{
	AUDIT_DONE,					/* there is no such step */
	AUDIT_OWN,					/* our tables and the catalogs */
	AUDIT_AUTH,					/* the auth server's tables */
	AUDIT_POLICIES				/* no statement: what the policies are made of, as JSON */
} AuditScope;

typedef struct AuditStep
{
	AuditScope	scope;
	SavedPlan	plan;
} AuditStep;

typedef struct AuditCheck
{
	const char *name;
	const char *needs;			/* columns of schema auth: "sessions.id users.id"; or NULL */
	AuditStep	steps[3];
} AuditCheck;

typedef struct AuditArea
{
	const char *name;
	AuditCheck *checks;			/* the last one has no name */
} AuditArea;

extern AuditCheck audit_auth_flow[];
extern AuditCheck audit_tenant_isolation[];
extern AuditCheck audit_invitation_security[];
extern AuditCheck audit_permission_model[];
extern AuditCheck audit_session_management[];
extern AuditCheck audit_enterprise_readiness[];

#define AUDIT_STEP(in, text) {.scope = (in), .plan = {.sql = text}}
#define AUDIT_STEP_FED(in, text) {.scope = (in), .plan = {.sql = text, .nargs = 1, .argtypes = {TEXTOID}}}

/* The end of a check: what "found" holds, behind the row that says what was looked at. */
#define AUDIT_REPORT(looked_at) \
	" SELECT r.severity, r.object, r.finding, r.detail, r.fix FROM (" \
	"SELECT 'info' AS severity, NULL::pg_catalog.text AS object, 'looked at' AS finding, " \
	"(" looked_at ")::pg_catalog.text AS detail, NULL::pg_catalog.text AS fix, 0 AS rank " \
	"UNION ALL SELECT f.severity, f.object, f.finding, f.detail, f.fix, " \
	"CASE f.severity WHEN 'error' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END FROM found AS f) AS r " \
	"ORDER BY r.rank, r.object COLLATE \"C\", r.finding COLLATE \"C\", r.detail COLLATE \"C\""

/* ---- pieces of statements ---- */

#define AUDIT_CLASS "'pg_catalog.pg_class'::pg_catalog.regclass"
#define AUDIT_PROC "'pg_catalog.pg_proc'::pg_catalog.regclass"
#define AUDIT_REWRITE "'pg_catalog.pg_rewrite'::pg_catalog.regclass"

/* Schemas that are not the application's. */
#define AUDIT_IS_APP_SCHEMA(name) \
	name " !~ '^(pg_|_timescaledb_)' AND " name " <> ALL (ARRAY['information_schema', 'auth', 'storage', 'realtime', '_realtime', " \
	"'vault', 'graphql', 'graphql_public', 'extensions', 'pgsodium', 'pgsodium_masks', 'supabase_functions', 'supabase_migrations', " \
	"'net', 'cron', 'pgbouncer', 'pgmq', 'pgtle', 'tiger', 'tiger_data', 'topology', '_analytics', '_supavisor', 'invite_sync'])"

#define AUDIT_IS_EXTENSIONS(class, oid) \
	"EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.classid = " class " AND e.objid = " oid " AND e.deptype = 'e')"

/* As whom strangers and users come, and PUBLIC, which is all there is where there are no such roles. */
#define AUDIT_API \
	"api (role, name) AS MATERIALIZED (" \
	"SELECT r.oid, pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r WHERE r.rolname IN ('anon', 'authenticated') " \
	"UNION ALL SELECT 0::pg_catalog.oid, 'PUBLIC')"
#define AUDIT_API_LIST "(SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) FROM api AS a)"

/* Without asking for rights on the schema, which we may not have. */
#define AUDIT_AUTH_USERS "(SELECT u.oid FROM pg_catalog.pg_class AS u JOIN pg_catalog.pg_namespace AS s ON s.oid = u.relnamespace " \
	"WHERE s.nspname = 'auth' AND u.relname = 'users')"

/* Relations of the application. */
#define AUDIT_APP \
	"app AS MATERIALIZED (" \
	"SELECT c.oid, c.oid::pg_catalog.regclass::pg_catalog.text AS name, c.relname, c.relkind, c.relowner, c.relrowsecurity AS secured, " \
	"c.relforcerowsecurity AS forced, c.reltuples, c.reloptions, c.relnamespace, n.nspname " \
	"FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace " \
	"WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't' AND " AUDIT_IS_APP_SCHEMA("n.nspname") \
	" AND NOT " AUDIT_IS_EXTENSIONS(AUDIT_CLASS, "c.oid") ")"

/* Those that strangers or users can read or write, row level security aside. */
#define AUDIT_REACH \
	"reach AS MATERIALIZED (" \
	"SELECT t.oid, pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) AS roles FROM app AS t CROSS JOIN api AS a " \
	"WHERE pg_catalog.has_schema_privilege(a.role, t.relnamespace, 'USAGE') " \
	"AND (pg_catalog.has_table_privilege(a.role, t.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') " \
	"OR pg_catalog.has_any_column_privilege(a.role, t.oid, 'SELECT, INSERT, UPDATE')) GROUP BY t.oid)"

/*
 * Tables with a column that says whose, that is which organization's, a row is.
 * strong: it can hardly mean anything else; that of a team or an account may.
 */
#define AUDIT_TENANT \
	"tenant AS MATERIALIZED (" \
	"SELECT DISTINCT ON (t.oid) t.*, a.attnum, a.attname, a.strong FROM app AS t CROSS JOIN LATERAL (" \
	"SELECT c.attnum, c.attname, n.plain ~ '^(organi[sz]ation|org|tenant|workspace)(id|uuid|key|slug)$' OR n.plain = 'tenant' " \
	"OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS f WHERE f.conrelid = t.oid AND f.contype = 'f' " \
	"AND f.confrelid = 'invite_sync.organization'::pg_catalog.regclass AND c.attnum = f.conkey[1]) " \
	"OR EXISTS (SELECT FROM invite_sync.protected_table AS p WHERE p.table_name = t.relname " \
	"AND p.schema_name = t.nspname AND p.organization_column = c.attname) AS strong, " \
	"n.plain ~ '^(team|company|account)(id|uuid|key)$' AS weak " \
	"FROM pg_catalog.pg_attribute AS c CROSS JOIN LATERAL (SELECT pg_catalog.lower(pg_catalog.replace(c.attname, '_', '')) AS plain) AS n " \
	"WHERE c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped) AS a " \
	"WHERE t.relkind IN ('r', 'p', 'f') AND (a.strong OR a.weak) ORDER BY t.oid, a.strong DESC, a.attnum)"

/*
 * The expressions of the policies that bind strangers or users, by what AUDIT_POLICIES has read out of them.
 * "open" is one that asks no more than whether somebody is logged in, if that.
 */
#define AUDIT_CLAUSES \
	"clauses AS MATERIALIZED (" \
	"SELECT c.*, pg_catalog.regexp_replace(c.bare, 'true|\\m(\\d+) = \\1\\M|auth\\.uid IS NOT NULL|auth\\.jwt IS NOT NULL|" \
	"auth\\.jwt ->> ''sub'' IS NOT NULL|(auth\\.role|CURRENT_USER|auth\\.jwt ->> ''role'') (=|<>) ''(anon|authenticated)''|" \
	"(auth\\.role|CURRENT_USER|auth\\.jwt ->> ''role'') = ANY ARRAY\\[(''(anon|authenticated)''(, )?)+\\]', '', 'g') " \
	"~ '^(\\s|AND|OR)*$' AS open FROM (" \
	"SELECT p.polrelid, pg_catalog.quote_ident(p.polname) AS polname, p.polcmd, p.polpermissive, j.*, x.expr, t.name, t.secured, " \
	"pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.regexp_replace(x.expr, " \
	"'\\(\\s*SELECT\\s+(auth\\.\\w+\\(\\))\\s+AS\\s+\\w+\\s*\\)', '\\1', 'g'), '::[a-z ]+', '', 'g'), '[()]', '', 'g') AS bare " \
	"FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS j (policy oid, clause text, compares boolean, itself boolean, " \
	"columns smallint[], tables oid[], functions oid[]) " \
	"JOIN pg_catalog.pg_policy AS p ON p.oid = j.policy JOIN app AS t ON t.oid = p.polrelid " \
	"CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(CASE j.clause WHEN 'USING' THEN p.polqual ELSE p.polwithcheck END, p.polrelid) AS expr) AS x " \
	"WHERE EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r (role) WHERE r.role = 0 " \
	"OR NOT EXISTS (SELECT FROM api AS a WHERE a.role <> 0) " \
	"OR EXISTS (SELECT FROM api AS a WHERE a.role <> 0 AND pg_catalog.pg_has_role(a.role, r.role, 'USAGE'))) " \
	"AND EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, t.relnamespace, 'USAGE') " \
	"AND (pg_catalog.has_table_privilege(a.role, t.oid, CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' " \
	"WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'SELECT, INSERT, UPDATE, DELETE' END) " \
	"OR p.polcmd <> 'd' AND pg_catalog.has_any_column_privilege(a.role, t.oid, CASE p.polcmd WHEN 'r' THEN 'SELECT' " \
	"WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'SELECT, INSERT, UPDATE' END)))) AS c)"
#define AUDIT_DROP_POLICY(c) "pg_catalog.format('DROP POLICY %s ON %s;', " c ".polname, " c ".name)"
#define AUDIT_COMMAND(c) "CASE " c ".polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END"

/* The text of a function's body without its comments. */
#define AUDIT_CODE(p) \
	"coalesce(pg_catalog.pg_get_function_sqlbody(" p ".oid), pg_catalog.regexp_replace(pg_catalog.regexp_replace(" p ".prosrc, " \
	"'/\\*.*?\\*/', ' ', 'g'), '--[^\\n]*', ' ', 'g'))"

/* Text that asks who is asking. */
#define AUDIT_ASKS "'request\\.jwt|\\mauth\\.(uid|jwt|role|email)\\M|\\m(uid|jwt)\\s*\\(\\s*\\)|\\minvite_sync\\.|\\mcurrent_(setting|user|role)\\M|\\msession_user\\M'"

/* Functions of the application, and which of them ask who is asking, themselves or by way of another. */
#define AUDIT_FUNCTIONS \
	"body AS MATERIALIZED (" \
	"SELECT p.oid, p.oid::pg_catalog.regprocedure::pg_catalog.text AS name, p.proname, p.proowner, p.prosecdef, p.prorettype, p.proargnames, " \
	"p.proargtypes, p.proconfig, p.pronamespace, p.prolang, " AUDIT_CODE("p") " AS code " \
	"FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace " \
	"WHERE p.prokind IN ('f', 'p') AND " AUDIT_IS_APP_SCHEMA("n.nspname") " AND NOT " AUDIT_IS_EXTENSIONS(AUDIT_PROC, "p.oid") "), " \
	"word AS MATERIALIZED (" \
	"SELECT DISTINCT b.oid, pg_catalog.lower(m[1]) AS word FROM body AS b CROSS JOIN LATERAL " \
	"pg_catalog.regexp_matches(b.code, '[[:alpha:]_][[:alnum:]_$]*', 'g') AS m), " \
	"asks1 AS MATERIALIZED (SELECT b.oid, pg_catalog.lower(b.proname) AS word FROM body AS b WHERE b.code ~* " AUDIT_ASKS "), " \
	"asks2 AS MATERIALIZED (SELECT a.oid, a.word FROM asks1 AS a UNION SELECT b.oid, pg_catalog.lower(b.proname) FROM body AS b " \
	"JOIN word AS w ON w.oid = b.oid JOIN asks1 AS a ON a.word = w.word), " \
	"asks AS MATERIALIZED (SELECT a.oid, a.word FROM asks2 AS a UNION SELECT b.oid, pg_catalog.lower(b.proname) FROM body AS b " \
	"JOIN word AS w ON w.oid = b.oid JOIN asks2 AS a ON a.word = w.word)"
#define AUDIT_CALLABLE(p) \
	"EXISTS (SELECT FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, " p ".pronamespace, 'USAGE') " \
	"AND pg_catalog.has_function_privilege(a.role, " p ".oid, 'EXECUTE'))"
#define AUDIT_IS_TRIGGER(p) \
	p ".prorettype IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)"

/* Is this role bound by no policy of the table? */
#define AUDIT_BYPASSES(owner, t) \
	"EXISTS (SELECT FROM pg_catalog.pg_roles AS o WHERE o.oid = " owner " AND (o.rolsuper OR o.rolbypassrls " \
	"OR NOT " t ".forced AND pg_catalog.pg_has_role(o.oid, " t ".relowner, 'USAGE')))"

#endif							/* INVITE_SYNC_DOCTOR_AUDIT_H */
