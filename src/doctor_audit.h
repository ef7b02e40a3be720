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
	AUDIT_FACTS,				/* the same, with audit_facts as its arguments */
	AUDIT_SETTINGS,				/* the same, with the auth server's settings, or NULL */
	AUDIT_AUTH					/* the auth server's tables */
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
	const char *without;		/* what the first step is taken to have said where they are not; or NULL */
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

/* What policies are made of, as JSON; read from their trees, nothing of it is run. */
extern text *audit_read_policies(void);

/*
 * Takes that, and returns AUDIT_NFACTS texts, JSON too: the relations of the
 * application, their organization columns, the policies' expressions, the
 * functions.
 */
#define AUDIT_NFACTS 4
extern SavedPlan audit_facts;

#define AUDIT_STEP(in, text) {.scope = (in), .plan = {.sql = text}}
#define AUDIT_STEP_FACTS(text) {.scope = AUDIT_FACTS, .plan = {.sql = text, .nargs = AUDIT_NFACTS, .argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}}}
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

/* Relations of the application; roles: who can read or write them, row level security aside. */
#define AUDIT_APP \
	"app AS MATERIALIZED (SELECT * FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS t (oid oid, name text, relname text, relkind \"char\", " \
	"relowner oid, secured boolean, forced boolean, reltuples real, reloptions text[], relnamespace oid, nspname text, roles text))"

/* Tables with a column that says whose, that is which organization's, a row is. strong: it can hardly mean anything else. */
#define AUDIT_TENANT \
	"tenant AS MATERIALIZED (SELECT t.*, x.attnum, x.attname, x.strong FROM app AS t JOIN pg_catalog.json_to_recordset($2::pg_catalog.json) " \
	"AS x (oid oid, attnum smallint, attname text, strong boolean) ON x.oid = t.oid)"

/*
 * The expressions of the policies that bind strangers or users; bound: which of
 * them. "open" is one that asks no more than whether somebody is logged in, if
 * that; never: it is false; own: it asks who; metadata: it reads user_metadata;
 * claim: it reads an organization out of the token; header: out of what the
 * client sends beside it; setting: out of a setting, maybe.
 */
#define AUDIT_CLAUSES \
	"clauses AS MATERIALIZED (SELECT x.*, t.name, t.secured FROM app AS t JOIN pg_catalog.json_to_recordset($3::pg_catalog.json) " \
	"AS x (policy oid, polrelid oid, polname text, polcmd \"char\", polpermissive boolean, clause text, compares boolean, itself boolean, never boolean, " \
	"columns smallint[], tables oid[], functions oid[], bound oid[], open boolean, own boolean, " \
	"metadata boolean, claim boolean, header boolean, setting boolean) ON x.polrelid = t.oid)"

/* Do restrictive policies hold back all whom the policy lets through? */
#define AUDIT_NARROWS(o, c) \
	o ".polrelid = " c ".polrelid AND NOT " o ".polpermissive AND (" o ".compares AND NOT " o ".itself AND NOT " o ".open OR " o ".never) " \
	"AND " o ".polcmd IN ('*', " c ".polcmd)"
#define AUDIT_NARROWED(c) \
	"EXISTS (SELECT FROM clauses AS o WHERE " AUDIT_NARROWS("o", c) ") AND NOT EXISTS (SELECT FROM pg_catalog.unnest(" c ".bound) AS b (role) " \
	"WHERE NOT EXISTS (SELECT FROM clauses AS o WHERE " AUDIT_NARROWS("o", c) " AND b.role = ANY (o.bound)))"

#define AUDIT_DROP_POLICY(c) "pg_catalog.format('DROP POLICY %s ON %s;', " c ".polname, " c ".name)"
#define AUDIT_COMMAND(c) "CASE " c ".polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END"

/*
 * Functions of the application, and those that it put into the auth server's schema. asks: who is asking, itself or by way
 * of another; definer: SECURITY DEFINER, and strangers or users may call it. code is that of definers; touches: the tables
 * with an organization column that they name; calls: the functions, itself among them, that it comes by.
 * metadata, claim, header, setting: as of policies; above: it speaks of somebody who stands above organizations.
 */
#define AUDIT_FUNCTIONS \
	"body AS MATERIALIZED (SELECT * FROM pg_catalog.json_to_recordset($4::pg_catalog.json) AS f (oid oid, name text, proowner oid, prorettype oid, " \
	"proargnames text[], proargtypes oid[], proconfig text[], pronamespace oid, lanname text, definer boolean, asks boolean, metadata boolean, claim boolean, " \
	"header boolean, setting boolean, above boolean, code text, touches oid[], calls oid[]))"

/* By way of which function a policy's expression does what "flag" says. */
#define AUDIT_BY_WAY_OF(flag) \
	"(SELECT k.policy, k.clause, pg_catalog.min(b.name) AS name FROM clauses AS k CROSS JOIN LATERAL pg_catalog.unnest(k.functions) AS u (oid) " \
	"JOIN body AS b ON b.oid = u.oid AND b." flag " GROUP BY 1, 2)"

/* The text of a function's body without its comments. */
#define AUDIT_CODE(p) \
	"coalesce(pg_catalog.pg_get_function_sqlbody(" p ".oid), pg_catalog.regexp_replace(pg_catalog.regexp_replace(" p ".prosrc, " \
	"'/\\*.*?\\*/', ' ', 'g'), '--[^\\n]*', ' ', 'g'))"

/* A quoted word that names an organization: a key of claims. */
#define AUDIT_TENANT_KEY "'''[^'']*(org|tenant|workspace|team|company|account)[^'']*'''"

/* Text that asks who is asking. */
#define AUDIT_ASKS "'request\\.jwt|\\mauth\\.(uid|jwt|role|email)\\M|\\m(uid|jwt)\\s*\\(\\s*\\)|\\minvite_sync\\.|\\mcurrent_(setting|user|role)\\M|\\msession_user\\M'"

/* Is this role bound by no policy of the table? */
#define AUDIT_BYPASSES(owner, t) \
	"EXISTS (SELECT FROM pg_catalog.pg_roles AS o WHERE o.oid = " owner " AND (o.rolsuper OR o.rolbypassrls " \
	"OR NOT " t ".forced AND pg_catalog.pg_has_role(o.oid, " t ".relowner, 'USAGE')))"

#endif							/* INVITE_SYNC_DOCTOR_AUDIT_H */
