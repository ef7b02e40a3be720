/*-------------------------------------------------------------------------
 *
 * doctor_auth.c
 *	  The auth server's own schema, role and settings, and what it cannot read
 *	  of its users.
 *
 * The auth server fails for more than triggers: a role that may not enter its
 * schema, a column that somebody added, a NULL that it has no word for. What is
 * expected here is what its migrations make (test/fixture) and its models read.
 * What a later auth server may have added is no fault.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "caller.h"
#include "doctor.h"
#include "module.h"
#include "plan.h"
#include "sync.h"

#define AUTH_ROLE "supabase_auth_admin"

/* The last migration that is known here; what comes after it is a later server's own. */
#define LAST_MIGRATION "20260625000000"

/* Columns that this one or an earlier one made are read with every user. */
#define NEEDED_MIGRATION "20240214120130"

typedef struct Auth
{
	Doctor	   *doctor;
	Oid			schema;			/* auth */
	Oid			role;			/* as whom the auth server connects */
	bool		by_server;		/* an auth server made the schema: it has schema_migrations */
	const char *migration;		/* the last one that ran; "" where nothing is known */
	Jsonb	   *settings;
} Auth;

/* ---------------------------------------------------------------------
 * What the auth server's migrations make
 * ---------------------------------------------------------------------
 */

/* What the auth server reads of a column, and writes into it. */
typedef enum ValueKind
{
	TEXT_VALUE,
	TIME_VALUE,
	UUID_VALUE,
	BOOLEAN_VALUE,
	NUMBER_VALUE,
	JSON_VALUE,
	OTHER_VALUE					/* a type of its own */
} ValueKind;

typedef struct AuthColumn
{
	const char *table;
	const char *column;
	ValueKind	kind;
	bool		writes_null;	/* into some user's row */
	int			length;			/* that a value may have; 0: nobody knows */
	const char *migration;		/* that made it; "": the first */
} AuthColumn;

static const AuthColumn auth_columns[] = {
	{"users", "instance_id", UUID_VALUE, false, 0, ""},
	{"users", "id", UUID_VALUE, false, 0, ""},
	{"users", "aud", TEXT_VALUE, false, 13, ""},
	{"users", "role", TEXT_VALUE, false, 13, ""},
	{"users", "email", TEXT_VALUE, true, 255, ""},
	{"users", "encrypted_password", TEXT_VALUE, false, 60, ""},
	{"users", "email_confirmed_at", TIME_VALUE, true, 0, "20210722035447"},
	{"users", "invited_at", TIME_VALUE, true, 0, ""},
	{"users", "confirmation_token", TEXT_VALUE, false, 61, ""},
	{"users", "confirmation_sent_at", TIME_VALUE, true, 0, ""},
	{"users", "recovery_token", TEXT_VALUE, false, 61, ""},
	{"users", "recovery_sent_at", TIME_VALUE, true, 0, ""},
	{"users", "email_change_token_new", TEXT_VALUE, false, 61, "20210730183235"},
	{"users", "email_change", TEXT_VALUE, false, 255, ""},
	{"users", "email_change_sent_at", TIME_VALUE, true, 0, ""},
	{"users", "last_sign_in_at", TIME_VALUE, true, 0, ""},
	{"users", "raw_app_meta_data", JSON_VALUE, false, 0, ""},
	{"users", "raw_user_meta_data", JSON_VALUE, false, 0, ""},
	{"users", "created_at", TIME_VALUE, false, 0, ""},
	{"users", "updated_at", TIME_VALUE, false, 0, ""},
	{"users", "phone", TEXT_VALUE, true, 15, "20210710035447"},
	{"users", "phone_confirmed_at", TIME_VALUE, true, 0, "20210710035447"},
	{"users", "phone_change", TEXT_VALUE, false, 15, "20210710035447"},
	{"users", "phone_change_token", TEXT_VALUE, false, 61, "20210710035447"},
	{"users", "phone_change_sent_at", TIME_VALUE, true, 0, "20210710035447"},
	{"users", "confirmed_at", TIME_VALUE, true, 0, "20210722035447"},
	{"users", "email_change_token_current", TEXT_VALUE, false, 61, "20210730183235"},
	{"users", "email_change_confirm_status", NUMBER_VALUE, false, 0, "20210730183235"},
	{"users", "banned_until", TIME_VALUE, true, 0, "20220114185340"},
	{"users", "reauthentication_token", TEXT_VALUE, false, 61, "20220323170000"},
	{"users", "reauthentication_sent_at", TIME_VALUE, true, 0, "20220323170000"},
	{"users", "is_sso_user", BOOLEAN_VALUE, false, 0, "20221215195500"},
	{"users", "deleted_at", TIME_VALUE, true, 0, "20230116124412"},
	{"users", "is_anonymous", BOOLEAN_VALUE, false, 0, "20240214120130"},
	/* it is there, and no auth server of today writes it */
	{"users", "is_super_admin", BOOLEAN_VALUE, true, 0, "-"},

	{"identities", "provider_id", TEXT_VALUE, false, 255, "20231117164230"},
	{"identities", "user_id", UUID_VALUE, false, 0, "20210909172000"},
	{"identities", "identity_data", JSON_VALUE, false, 0, "20210909172000"},
	{"identities", "provider", TEXT_VALUE, false, 0, "20210909172000"},
	{"identities", "last_sign_in_at", TIME_VALUE, true, 0, "20210909172000"},
	{"identities", "created_at", TIME_VALUE, false, 0, "20210909172000"},
	{"identities", "updated_at", TIME_VALUE, false, 0, "20210909172000"},
	{"identities", "email", TEXT_VALUE, true, 255, "20221215195800"},
	{"identities", "id", OTHER_VALUE, false, 0, "20210909172000"},

	{"sessions", "id", UUID_VALUE, false, 0, "20220811173540"},
	{"sessions", "user_id", UUID_VALUE, false, 0, "20220811173540"},
	{"sessions", "created_at", TIME_VALUE, false, 0, "20220811173540"},
	{"sessions", "updated_at", TIME_VALUE, false, 0, "20220811173540"},
	{"sessions", "factor_id", UUID_VALUE, true, 0, "20221003041400"},
	{"sessions", "aal", OTHER_VALUE, false, 0, "20221003041400"},
	{"sessions", "not_after", TIME_VALUE, true, 0, "20221114143122"},
	{"sessions", "refreshed_at", TIME_VALUE, true, 0, "20231027141322"},
	{"sessions", "user_agent", TEXT_VALUE, true, 0, "20231027141322"},
	{"sessions", "ip", OTHER_VALUE, true, 0, "20231027141322"},
	{"sessions", "tag", TEXT_VALUE, true, 0, "20231114161723"},
	{"sessions", "oauth_client_id", UUID_VALUE, true, 0, "20250904133000"},
	{"sessions", "refresh_token_hmac_key", TEXT_VALUE, true, 0, "20251007112900"},
	{"sessions", "refresh_token_counter", NUMBER_VALUE, true, 0, "20251007112900"},
	{"sessions", "scopes", TEXT_VALUE, true, 0, "20251111201300"},

	{"refresh_tokens", "instance_id", UUID_VALUE, false, 0, ""},
	{"refresh_tokens", "id", NUMBER_VALUE, false, 0, ""},
	{"refresh_tokens", "token", TEXT_VALUE, false, 22, ""},
	{"refresh_tokens", "user_id", TEXT_VALUE, false, 36, ""},
	{"refresh_tokens", "revoked", BOOLEAN_VALUE, false, 0, ""},
	{"refresh_tokens", "created_at", TIME_VALUE, false, 0, ""},
	{"refresh_tokens", "updated_at", TIME_VALUE, false, 0, ""},
	{"refresh_tokens", "parent", TEXT_VALUE, true, 22, "20210927181326"},
	{"refresh_tokens", "session_id", UUID_VALUE, true, 0, "20220811173540"},

	{"one_time_tokens", "id", UUID_VALUE, false, 0, "20240427152123"},
	{"one_time_tokens", "user_id", UUID_VALUE, false, 0, "20240427152123"},
	{"one_time_tokens", "token_type", OTHER_VALUE, false, 0, "20240427152123"},
	{"one_time_tokens", "token_hash", TEXT_VALUE, false, 61, "20240427152123"},
	{"one_time_tokens", "relates_to", TEXT_VALUE, false, 255, "20240427152123"},
	{"one_time_tokens", "created_at", TIME_VALUE, false, 0, "20240427152123"},
	{"one_time_tokens", "updated_at", TIME_VALUE, false, 0, "20240427152123"},

	{"mfa_factors", "id", UUID_VALUE, false, 0, "20221003041349"},
	{"mfa_factors", "user_id", UUID_VALUE, false, 0, "20221003041349"},
	{"mfa_factors", "friendly_name", TEXT_VALUE, true, 0, "20221003041349"},
	{"mfa_factors", "factor_type", OTHER_VALUE, false, 0, "20221003041349"},
	{"mfa_factors", "status", OTHER_VALUE, false, 0, "20221003041349"},
	{"mfa_factors", "created_at", TIME_VALUE, false, 0, "20221003041349"},
	{"mfa_factors", "updated_at", TIME_VALUE, false, 0, "20221003041349"},
	{"mfa_factors", "secret", TEXT_VALUE, true, 0, "20221003041349"},
	{"mfa_factors", "phone", TEXT_VALUE, true, 0, "20240729123726"},
	{"mfa_factors", "last_challenged_at", TIME_VALUE, true, 0, "20240802193726"},
	{"mfa_factors", "web_authn_credential", JSON_VALUE, true, 0, "20241009103726"},
	{"mfa_factors", "web_authn_aaguid", UUID_VALUE, true, 0, "20241009103726"},
	{"mfa_factors", "last_webauthn_challenge_data", JSON_VALUE, true, 0, "20250925093508"},

	{"mfa_amr_claims", "session_id", UUID_VALUE, false, 0, "20221003041349"},
	{"mfa_amr_claims", "created_at", TIME_VALUE, false, 0, "20221003041349"},
	{"mfa_amr_claims", "updated_at", TIME_VALUE, false, 0, "20221003041349"},
	{"mfa_amr_claims", "authentication_method", TEXT_VALUE, false, 0, "20221003041349"},
	{"mfa_amr_claims", "id", UUID_VALUE, false, 0, "20221003041349"},

	{"audit_log_entries", "instance_id", UUID_VALUE, false, 0, ""},
	{"audit_log_entries", "id", UUID_VALUE, false, 0, ""},
	{"audit_log_entries", "payload", JSON_VALUE, false, 0, ""},
	{"audit_log_entries", "created_at", TIME_VALUE, false, 0, ""},
	{"audit_log_entries", "ip_address", TEXT_VALUE, false, 0, "20220614074223"},
};

/* In it since it was made, and read by nobody: whether it is there does not matter. */
static bool
is_needed(const AuthColumn *known)
{
	return known->migration[0] != '-';
}

static const AuthColumn *
known_column(const char *table, const char *column)
{
	for (size_t i = 0; i < lengthof(auth_columns); i++)
		if (strcmp(auth_columns[i].table, table) == 0 && strcmp(auth_columns[i].column, column) == 0)
			return &auth_columns[i];
	return NULL;
}

static bool
kind_fits(ValueKind kind, Oid type)
{
	char		category;
	bool		preferred;

	type = getBaseType(type);
	get_type_category_preferred(type, &category, &preferred);
	switch (kind)
	{
		case TEXT_VALUE:
			return category == TYPCATEGORY_STRING;
		case TIME_VALUE:
			return type == TIMESTAMPTZOID || type == TIMESTAMPOID;
		case UUID_VALUE:
			return type == UUIDOID;
		case BOOLEAN_VALUE:
			return type == BOOLOID;
		case NUMBER_VALUE:
			return type == INT2OID || type == INT4OID || type == INT8OID;
		case JSON_VALUE:
			return type == JSONBOID || type == JSONOID;
		case OTHER_VALUE:
			break;
	}
	return true;
}

static const char *
kind_name(ValueKind kind)
{
	static const char *const names[] = {"text", "timestamp with time zone", "uuid", "boolean", "integer", "jsonb", "another"};

	return names[kind];
}

/* ---------------------------------------------------------------------
 * Tables of the auth server
 * ---------------------------------------------------------------------
 */

#define NOT_MADE_YET \
	"An auth server that needs it runs its migrations when it starts, which its role must be allowed to do."
#define DROPPED \
	"The migration that makes it ran, so it was dropped or renamed since. The auth server's statements name it and fail with SQLSTATE %s."

/* Missing, and the migration that makes it has not run. */
static DoctorSeverity
missing_severity(Auth *auth, const char *migration)
{
	if (strcmp(migration, auth->migration) <= 0)
		return DOCTOR_ERROR;
	return strcmp(migration, NEEDED_MIGRATION) <= 0 ? DOCTOR_WARNING : DOCTOR_INFO;
}

/* What the migration made, as far as it matters to the auth server's statements. */
static char *
fix_column(const AuthColumn *known)
{
	const char *type = kind_name(known->kind);

	if (known->kind == OTHER_VALUE)
		return NULL;
	if (known->kind == TEXT_VALUE)
		type = "character varying(255)";
	return psprintf("ALTER TABLE auth.%s ADD COLUMN %s %s%s;", known->table, known->column, type,
					known->kind == BOOLEAN_VALUE ? " NOT NULL DEFAULT false" :
					known->kind == NUMBER_VALUE && !known->writes_null ? " DEFAULT 0" :
					known->kind == TEXT_VALUE && !known->writes_null ? " DEFAULT ''" : "");
}

static void
missing(Auth *auth, const char *object, const char *what, const char *migration, const char *sqlstate, char *fix)
{
	DoctorSeverity severity = missing_severity(auth, migration);

	if (severity == DOCTOR_ERROR)
		doctor_finding(auth->doctor, severity, "auth", object, psprintf("%s is missing", what),
					   psprintf(DROPPED, sqlstate), fix);
	else
		doctor_finding(auth->doctor, severity, "auth", object,
					   psprintf("%s is missing: the auth server's migrations are behind", what),
					   psprintf("Migration %s makes it and is not in auth.schema_migrations. " NOT_MADE_YET, migration),
					   NULL);
}

static void
check_column(Auth *auth, const char *table, const AuthColumn *known, Form_pg_attribute att)
{
	const char *object = psprintf("auth.%s", table);
	const char *column = quote_identifier(NameStr(att->attname));
	bool		given = att->attidentity != '\0' || att->attgenerated != '\0';

	if (known == NULL)
	{
		if (att->attnotnull && !att->atthasdef && !given)
			doctor_finding(auth->doctor, DOCTOR_ERROR, "auth", object,
						   psprintf("column %s of %s was added NOT NULL without a default", column, object),
						   "The auth server does not know of it and leaves it out: its INSERT fails with SQLSTATE 23502.",
						   psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", object, column));
		else
			doctor_finding(auth->doctor, DOCTOR_INFO, "auth", object,
						   psprintf("column %s of %s was added", column, object),
						   "The auth server's migrations up to " LAST_MIGRATION " do not make it. What is the application's own is better kept in a table of its own.",
						   NULL);
		return;
	}
	if (known->writes_null && att->attnotnull)
		doctor_finding(auth->doctor, DOCTOR_ERROR, "auth", object,
					   psprintf("column %s of %s is NOT NULL, and the auth server writes NULL into it", column, object),
					   "A row without such a value is usual (a user has no phone, or no email, or was never invited): the statement fails with SQLSTATE 23502.",
					   psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", object, column));
	if (!kind_fits(known->kind, att->atttypid))
		doctor_finding(auth->doctor, DOCTOR_ERROR, "auth", object,
					   psprintf("column %s of %s is of type %s and not %s", column, object,
								format_type_with_typemod(att->atttypid, att->atttypmod), kind_name(known->kind)),
					   "The auth server cannot read or write it, nor run its migrations over it.", NULL);
	else if (known->kind == TEXT_VALUE && known->length > 0 &&
			 (att->atttypid == VARCHAROID || att->atttypid == BPCHAROID) &&
			 att->atttypmod >= (int32) VARHDRSZ && att->atttypmod - (int32) VARHDRSZ < known->length)
		doctor_finding(auth->doctor, DOCTOR_ERROR, "auth", object,
					   psprintf("column %s of %s is too short: %s", column, object,
								format_type_with_typemod(att->atttypid, att->atttypmod)),
					   psprintf("Values of %d characters are usual in it: the statement fails with SQLSTATE 22001, value too long for type.", known->length),
					   psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE character varying(255);", object, column));
	if (att->attgenerated != '\0' && strcmp(known->column, "confirmed_at") != 0 && strcmp(known->column, "email") != 0)
		doctor_finding(auth->doctor, DOCTOR_ERROR, "auth", object,
					   psprintf("column %s of %s is generated", column, object),
					   "The auth server writes it: the statement fails with SQLSTATE 428C9.", NULL);
}

/* One column gone and one come, of a type that fits: it has another name. */
static bool
check_renamed(Auth *auth, const char *table, Relation rel)
{
	const AuthColumn *gone = NULL;
	Form_pg_attribute come = NULL;
	int			ngone = 0;
	int			ncome = 0;

	for (size_t i = 0; i < lengthof(auth_columns); i++)
		if (strcmp(auth_columns[i].table, table) == 0 && is_needed(&auth_columns[i]) &&
			missing_severity(auth, auth_columns[i].migration) == DOCTOR_ERROR &&
			get_attnum(RelationGetRelid(rel), auth_columns[i].column) == InvalidAttrNumber)
		{
			gone = &auth_columns[i];
			ngone++;
		}
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped && known_column(table, NameStr(att->attname)) == NULL)
		{
			come = att;
			ncome++;
		}
	}
	if (ngone != 1 || ncome != 1 || gone->kind == OTHER_VALUE || !kind_fits(gone->kind, come->atttypid))
		return false;
	doctor_finding(auth->doctor, DOCTOR_ERROR, "auth", psprintf("auth.%s", table),
				   psprintf("column %s of auth.%s is missing, and there is a column %s: was it renamed?", gone->column, table,
							quote_identifier(NameStr(come->attname))),
				   psprintf(DROPPED, "42703"),
				   psprintf("ALTER TABLE auth.%s RENAME COLUMN %s TO %s;", table, quote_identifier(NameStr(come->attname)),
							quote_identifier(gone->column)));
	return true;
}

static void
check_table(Auth *auth, const char *table)
{
	Oid			relid = get_relname_relid(table, auth->schema);
	Relation	rel;
	const char *migration = "";
	bool		renamed;

	if (!OidIsValid(relid))
	{
		for (size_t i = 0; i < lengthof(auth_columns) && migration[0] == '\0'; i++)
			if (strcmp(auth_columns[i].table, table) == 0)
				migration = auth_columns[i].migration;
		missing(auth, psprintf("auth.%s", table), psprintf("the table auth.%s", table), migration, "42P01", NULL);
		return;
	}
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		return;
	renamed = check_renamed(auth, table, rel);
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);
		const AuthColumn *known = known_column(table, NameStr(att->attname));

		if (!att->attisdropped && !(known == NULL && renamed))
			check_column(auth, table, known, att);
	}
	for (size_t i = 0; i < lengthof(auth_columns) && !renamed; i++)
		if (strcmp(auth_columns[i].table, table) == 0 && is_needed(&auth_columns[i]) &&
			get_attnum(relid, auth_columns[i].column) == InvalidAttrNumber)
			missing(auth, psprintf("auth.%s", table), psprintf("column %s of auth.%s", auth_columns[i].column, table),
					auth_columns[i].migration, "42703", fix_column(&auth_columns[i]));
	relation_close(rel, AccessShareLock);
}

/* Each table of the list, once. */
static void
check_columns(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;

	for (size_t i = 0; i < lengthof(auth_columns); i++)
		if (i == 0 || strcmp(auth_columns[i].table, auth_columns[i - 1].table) != 0)
			check_table(auth, auth_columns[i].table);
}

/* ---------------------------------------------------------------------
 * Owner, rights, constraints: statements over the catalogs
 * ---------------------------------------------------------------------
 */

/* $1 schema auth, $2 the auth server's role, $3 its last migration, $4 auth.users */
#define AUTH_ARGS .nargs = 4, .argtypes = {OIDOID, OIDOID, TEXTOID, OIDOID}

#define ITS_TABLES \
	"'users', 'identities', 'sessions', 'refresh_tokens', 'one_time_tokens', 'flow_state', 'mfa_factors', " \
	"'mfa_challenges', 'mfa_amr_claims', 'audit_log_entries', 'sso_providers', 'sso_domains', 'saml_providers', " \
	"'saml_relay_states', 'instances', 'schema_migrations'"

/* A policy that lets the role do it, whatever the policy says; bodies are not read. */
#define NO_POLICY(command) \
	"NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polpermissive " \
	"AND p.polcmd IN ('*', " command ") AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS g (role) " \
	"WHERE g.role = 0 OR pg_catalog.pg_has_role($2, g.role, 'USAGE')))"

static SavedPlan structure_plans[] = {
	/* rights on the schema */
	{
		.sql = "SELECT 'error', 'auth', 'auth', pg_catalog.format('the role %I has no %s on schema auth', r.rolname, w.word), "
		"CASE w.word WHEN 'USAGE' THEN 'The auth server cannot even see its tables: permission denied for schema auth, SQLSTATE 42501.' "
		"ELSE 'The auth server cannot run its migrations, and does not start: permission denied for schema auth, SQLSTATE 42501.' END, "
		"pg_catalog.format('GRANT %s ON SCHEMA auth TO %I;', w.word, r.rolname) "
		"FROM pg_catalog.pg_roles AS r, pg_catalog.unnest('{USAGE,CREATE}'::pg_catalog.text[]) AS w (word) "
		"WHERE r.oid = $2 AND NOT pg_catalog.has_schema_privilege(r.oid, $1, w.word)",
		AUTH_ARGS
	},
	/* rights on the tables */
	{
		.sql = "SELECT 'error', 'auth', pg_catalog.format('auth.%I', c.relname), "
		"pg_catalog.format('the role %I has no %s on auth.%I', r.rolname, pg_catalog.string_agg(w.word, ', ' ORDER BY w.n), c.relname), "
		"'The auth server''s statements fail: permission denied for table, SQLSTATE 42501.', "
		"pg_catalog.format('GRANT %s ON auth.%I TO %I;', pg_catalog.string_agg(w.word, ', ' ORDER BY w.n), c.relname, r.rolname) "
		"FROM pg_catalog.pg_class AS c, pg_catalog.pg_roles AS r, "
		"pg_catalog.unnest('{SELECT,INSERT,UPDATE,DELETE}'::pg_catalog.text[]) WITH ORDINALITY AS w (word, n) "
		"WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') AND c.relname IN (" ITS_TABLES ") AND r.oid = $2 "
		"AND pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') "
		"AND NOT pg_catalog.has_table_privilege(r.oid, c.oid, w.word) "
		"GROUP BY c.relname, r.rolname",
		AUTH_ARGS
	},
	/* rights on sequences */
	{
		.sql = "SELECT 'error', 'auth', pg_catalog.format('auth.%I', c.relname), "
		"pg_catalog.format('the role %I has no USAGE on the sequence auth.%I', r.rolname, c.relname), "
		"'Logins fail: permission denied for sequence, SQLSTATE 42501.', "
		"pg_catalog.format('GRANT USAGE, SELECT ON SEQUENCE auth.%I TO %I;', c.relname, r.rolname) "
		"FROM pg_catalog.pg_class AS c, pg_catalog.pg_roles AS r, pg_catalog.pg_depend AS d, pg_catalog.pg_class AS t "
		"WHERE c.relnamespace = $1 AND c.relkind = 'S' AND r.oid = $2 AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
		"AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND t.oid = d.refobjid AND t.relname IN (" ITS_TABLES ") "
		"AND NOT pg_catalog.has_sequence_privilege(r.oid, c.oid, 'USAGE')",
		AUTH_ARGS
	},
	/* owners, and row level security, which only an owner passes by */
	{
		.sql = "SELECT CASE WHEN x.hidden OR c.oid = $4 AND o.rolsuper THEN 'error' ELSE 'warning' END, "
		"'auth', pg_catalog.format('auth.%I', c.relname), "
		"pg_catalog.format('the owner of auth.%I is %I and not %I', c.relname, o.rolname, r.rolname) "
		"OPERATOR(pg_catalog.||) CASE WHEN x.hidden THEN ', and row level security hides its rows from the auth server' ELSE '' END, "
		"CASE WHEN x.hidden THEN 'Row level security is enabled and no policy is for that role: it sees no user, and its INSERT fails with SQLSTATE 42501, new row violates row-level security policy.' "
		"ELSE 'Migrations of the auth server fail: must be owner of table, SQLSTATE 42501.' END, "
		"pg_catalog.format('ALTER TABLE auth.%I OWNER TO %I;', c.relname, r.rolname) "
		"FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_roles AS o ON o.oid = c.relowner CROSS JOIN pg_catalog.pg_roles AS r "
		"CROSS JOIN LATERAL (SELECT c.relrowsecurity AND NOT r.rolbypassrls AND NOT r.rolsuper AND " NO_POLICY("'a'") ") AS x (hidden) "
		"WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') AND c.relname IN (" ITS_TABLES ") AND r.oid = $2 "
		"AND NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')",
		AUTH_ARGS
	},
	{
		.sql = "SELECT CASE WHEN " NO_POLICY("'a'") " THEN 'error' ELSE 'warning' END, 'auth', pg_catalog.format('auth.%I', c.relname), "
		"pg_catalog.format('row level security of auth.%I is forced: it holds for the auth server, too', c.relname), "
		"CASE WHEN " NO_POLICY("'a'") " THEN 'No policy is for the role ' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(r.rolname) OPERATOR(pg_catalog.||) "
		"': it sees no row, and its INSERT fails with SQLSTATE 42501, new row violates row-level security policy.' "
		"ELSE 'The auth server sees and writes no row but those that a policy lets it.' END, "
		"pg_catalog.format('ALTER TABLE auth.%I NO FORCE ROW LEVEL SECURITY;', c.relname) "
		"FROM pg_catalog.pg_class AS c, pg_catalog.pg_roles AS r WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') "
		"AND c.relname IN (" ITS_TABLES ") AND r.oid = $2 AND c.relrowsecurity AND c.relforcerowsecurity "
		"AND NOT r.rolbypassrls AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')",
		AUTH_ARGS
	},
	/* CHECK and EXCLUDE constraints of others */
	{
		.sql = "SELECT CASE WHEN k.contype = 'c' AND ($3 > '" LAST_MIGRATION "') THEN 'info' ELSE 'warning' END, 'auth', pg_catalog.format('auth.%I', c.relname), "
		"pg_catalog.format('the %s constraint %I was added to auth.%I', CASE k.contype WHEN 'c' THEN 'check' ELSE 'exclusion' END, k.conname, c.relname), "
		"pg_catalog.format('%s. A user for whom it does not hold can neither sign up nor log in: SQLSTATE %s.', pg_catalog.pg_get_constraintdef(k.oid), "
		"CASE k.contype WHEN 'c' THEN '23514' ELSE '23P01' END), "
		"pg_catalog.format('ALTER TABLE auth.%I DROP CONSTRAINT %I;', c.relname, k.conname) "
		"FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid "
		"WHERE c.relnamespace = $1 AND k.contype IN ('c', 'x') "
		"AND (c.relname = 'users' AND k.conname <> 'users_email_change_confirm_status_check' OR c.relname = 'identities' "
		"OR c.relname = 'sessions' AND k.conname <> 'sessions_scopes_length' OR c.relname IN ('refresh_tokens', 'audit_log_entries') "
		"OR c.relname = 'one_time_tokens' AND k.conname <> 'one_time_tokens_token_hash_check')",
		AUTH_ARGS
	},
	/* foreign keys of auth.users: it has none of its own */
	{
		.sql = "SELECT CASE WHEN s.always THEN 'error' WHEN s.given THEN 'warning' ELSE 'info' END, 'auth', 'auth.users', "
		"pg_catalog.format('the foreign key %I was added to auth.users, which refers to %s', k.conname, k.confrelid::pg_catalog.regclass), "
		"pg_catalog.format('%s. %s', pg_catalog.pg_get_constraintdef(k.oid), CASE WHEN s.always "
		"THEN 'A new user has no such row there: every signup fails with SQLSTATE 23503.' "
		"ELSE 'Whatever fills this column at signup must name a row that is there, else SQLSTATE 23503.' END), "
		"pg_catalog.format('ALTER TABLE auth.users DROP CONSTRAINT %I;', k.conname) "
		"FROM pg_catalog.pg_constraint AS k CROSS JOIN LATERAL (SELECT pg_catalog.bool_and(a.attname IN "
		"('id', 'instance_id', 'aud', 'role', 'created_at', 'updated_at', 'email', 'encrypted_password', 'confirmation_token', 'recovery_token', 'is_sso_user', 'is_anonymous') "
		"OR a.attnotnull), pg_catalog.bool_or(a.atthasdef) FROM pg_catalog.unnest(k.conkey) AS u (attnum) "
		"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS s (always, given) "
		"WHERE k.contype = 'f' AND k.conrelid = $4 AND k.conparentid = 0",
		AUTH_ARGS
	},
	/* foreign keys of its other tables to auth.users that are gone, or do not cascade */
	{
		.sql = "SELECT 'warning', 'auth', pg_catalog.format('auth.%I', w.tab), "
		"pg_catalog.format('the foreign key of auth.%I to auth.users is missing', w.tab), "
		"'What deleted users had there stays: sessions without a user, identities that the auth server finds and cannot join.', "
		"pg_catalog.format('ALTER TABLE auth.%1$I ADD CONSTRAINT %2$I FOREIGN KEY (user_id) REFERENCES auth.users (id) ON DELETE CASCADE NOT VALID;', "
		"w.tab, w.tab OPERATOR(pg_catalog.||) '_user_id_fkey') "
		"FROM (VALUES ('identities'), ('sessions'), ('mfa_factors'), ('one_time_tokens')) AS w (tab) "
		"JOIN pg_catalog.pg_class AS c ON c.relname = w.tab AND c.relnamespace = $1 WHERE "
		"NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = c.oid AND k.confrelid = $4 AND k.contype = 'f')",
		AUTH_ARGS
	},
	/* unique indexes of others */
	{
		.sql = "SELECT CASE WHEN x.same THEN 'error' ELSE 'warning' END, 'auth', pg_catalog.format('auth.%I', c.relname), "
		"pg_catalog.format('the unique index %I on auth.%I was %s', i.relname, c.relname, CASE WHEN x.theirs THEN 'changed' ELSE 'added' END), "
		"pg_catalog.format('%s. %s', pg_catalog.pg_get_indexdef(i.oid), CASE WHEN x.same "
		"THEN 'Two users have the same value there as a rule: the second one''s signup or login fails with SQLSTATE 23505, duplicate key value violates unique constraint.' "
		"ELSE 'Two users may have the same value there: then the second one''s signup fails with SQLSTATE 23505, duplicate key value violates unique constraint.' END), "
		"CASE WHEN k.conname IS NOT NULL THEN pg_catalog.format('ALTER TABLE auth.%I DROP CONSTRAINT %I;', c.relname, k.conname) "
		"ELSE pg_catalog.format('DROP INDEX auth.%I;', i.relname) END "
		"FROM pg_catalog.pg_index AS x0 JOIN pg_catalog.pg_class AS i ON i.oid = x0.indexrelid JOIN pg_catalog.pg_class AS c ON c.oid = x0.indrelid "
		"LEFT JOIN pg_catalog.pg_constraint AS k ON k.conindid = i.oid AND k.conrelid = c.oid AND k.contype IN ('u', 'p') "
		"CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text) FROM pg_catalog.unnest(x0.indkey) AS u (attnum) "
		"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.attnum) AS n (names) "
		"CROSS JOIN LATERAL (SELECT x0.indpred IS NULL AND x0.indexprs IS NULL AND n.names <@ "
		"'{instance_id,aud,role,confirmation_token,recovery_token,email_change_token_new,email_change_token_current,email_change,phone_change,phone_change_token,"
		"reauthentication_token,email_change_confirm_status,is_sso_user,is_anonymous,raw_app_meta_data,raw_user_meta_data}'::pg_catalog.text[] "
		"OR x0.indpred IS NULL AND x0.indnullsnotdistinct AND n.names <@ '{phone,deleted_at,banned_until,invited_at,email_confirmed_at,is_super_admin}'::pg_catalog.text[], "
		"i.relname IN ('users_email_partial_key', 'users_phone_key', 'confirmation_token_idx', 'recovery_token_idx', 'email_change_token_current_idx', "
		"'email_change_token_new_idx', 'reauthentication_token_idx')) AS x (same, theirs) "
		"WHERE c.oid = $4 AND $3 <= '" LAST_MIGRATION "' AND x0.indisunique AND NOT x0.indisprimary AND x0.indislive "
		"AND NOT ('id' = ANY (coalesce(n.names, '{}'))) "
		"AND NOT (i.relname = 'users_phone_key' AND n.names = '{phone}' AND x0.indpred IS NULL AND NOT x0.indnullsnotdistinct) "
		"AND NOT (i.relname = 'users_email_partial_key' AND n.names = '{email}' AND x0.indpred IS NOT NULL AND NOT x0.indnullsnotdistinct) "
		"AND NOT (i.relname IN ('confirmation_token_idx', 'recovery_token_idx', 'email_change_token_current_idx', 'email_change_token_new_idx', 'reauthentication_token_idx') AND x0.indpred IS NOT NULL)",
		AUTH_ARGS
	},
	/* its own unique indexes that are gone or not valid */
	{
		.sql = "SELECT 'warning', 'auth', 'auth.users', pg_catalog.format('the unique index %I on auth.users is %s', w.name, CASE WHEN i.oid IS NULL THEN 'missing' ELSE 'not valid' END), "
		"'Two users can get the same address, number or id, and the auth server logs in the one that it finds first.', "
		"CASE WHEN i.oid IS NOT NULL THEN pg_catalog.format('REINDEX INDEX auth.%I;', w.name) ELSE w.fix END "
		"FROM (VALUES ('users_pkey', 'ALTER TABLE auth.users ADD CONSTRAINT users_pkey PRIMARY KEY (id);'), "
		"('users_email_partial_key', 'CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email) WHERE is_sso_user = false;'), "
		"('users_phone_key', 'ALTER TABLE auth.users ADD CONSTRAINT users_phone_key UNIQUE (phone);')) AS w (name, fix) "
		"LEFT JOIN pg_catalog.pg_class AS i ON i.relname = w.name AND i.relnamespace = $1 AND i.relkind IN ('i', 'I') "
		"LEFT JOIN pg_catalog.pg_index AS x ON x.indexrelid = i.oid "
		"WHERE (i.oid IS NULL OR x.indrelid = $4 AND NOT x.indisvalid) AND $3 >= '20230116124412'",
		AUTH_ARGS
	},
	/* rules, kinds */
	{
		.sql = "SELECT 'error', 'auth', pg_catalog.format('auth.%I', c.relname), pg_catalog.format('the rule %I on auth.%I rewrites the auth server''s statements', w.rulename, c.relname), "
		"pg_catalog.format('%s The auth server counts the rows that it wrote and reads them back.', pg_catalog.pg_get_ruledef(w.oid)), "
		"pg_catalog.format('DROP RULE %I ON auth.%I;', w.rulename, c.relname) "
		"FROM pg_catalog.pg_rewrite AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.ev_class WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') "
		"AND c.relname IN (" ITS_TABLES ") AND w.ev_enabled <> 'D'",
		AUTH_ARGS
	},
	{
		.sql = "SELECT 'warning', 'auth', pg_catalog.format('auth.%I', c.relname), pg_catalog.format('the table auth.%I is UNLOGGED', c.relname), "
		"'A crash of the server empties it, and standbys do not have it.', pg_catalog.format('ALTER TABLE auth.%I SET LOGGED;', c.relname) "
		"FROM pg_catalog.pg_class AS c WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') AND c.relname IN ('users', 'identities', 'sessions', 'refresh_tokens') "
		"AND c.relpersistence = 'u'",
		AUTH_ARGS
	},
	/* functions that policies and defaults call */
	{
		.sql = "SELECT 'warning', 'auth', 'auth.' OPERATOR(pg_catalog.||) w.name OPERATOR(pg_catalog.||) '()', pg_catalog.format('the function auth.%I() is missing', w.name), "
		"'Policies of the application call it; the auth server''s migrations or Supabase''s image make it.', NULL "
		"FROM (VALUES ('uid'), ('role')) AS w (name) WHERE $3 <> '' "
		"AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = $1 AND p.proname = w.name)",
		AUTH_ARGS
	},
};

static void
check_structure(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;
	Scope		scope;
	Datum		values[4];

	values[0] = ObjectIdGetDatum(auth->schema);
	values[1] = ObjectIdGetDatum(auth->role);
	values[2] = CStringGetTextDatum(auth->migration);
	values[3] = ObjectIdGetDatum(doctor->auth_users);
	scope_enter_own(&scope);
	for (size_t i = 0; i < lengthof(structure_plans); i++)
		doctor_run(doctor, &structure_plans[i], values, NULL);
	scope_leave(&scope);
}

/* ---------------------------------------------------------------------
 * Rows that the auth server cannot read, or does not find
 * ---------------------------------------------------------------------
 */

#define NO_UUID "'00000000-0000-0000-0000-000000000000'"

/*
 * Rows of "table" for which "condition" holds, which may name the columns in
 * "needs" alone (that is, one that is not there is no reason to fail). The text
 * is ours, not anybody's. "fix" may be NULL; $W stands for the condition.
 */
typedef struct RowCheck
{
	const char *table;
	const char *needs[5];
	const char *condition;
	DoctorSeverity severity;
	const char *area;
	const char *finding;
	const char *detail;
	const char *fix;
} RowCheck;

/* Of one row alone: one look at the table answers all of them. */
static const RowCheck row_checks[] = {
	{"users", {"raw_user_meta_data"}, "pg_catalog.jsonb_typeof(u.raw_user_meta_data) NOT IN ('object', 'null')",
		DOCTOR_ERROR, "login", "raw_user_meta_data is not an object",
		"The auth server cannot read the row: json: cannot unmarshal into a map. Login answers 500.",
	"UPDATE auth.users AS u SET raw_user_meta_data = pg_catalog.jsonb_build_object('value', u.raw_user_meta_data) WHERE $W;"},
	{"users", {"raw_app_meta_data"}, "pg_catalog.jsonb_typeof(u.raw_app_meta_data) NOT IN ('object', 'null')",
		DOCTOR_ERROR, "login", "raw_app_meta_data is not an object",
		"The auth server cannot read the row: json: cannot unmarshal into a map. Login answers 500.",
	"UPDATE auth.users AS u SET raw_app_meta_data = pg_catalog.jsonb_build_object('value', u.raw_app_meta_data) WHERE $W;"},
	{"users", {"instance_id"}, "u.instance_id IS DISTINCT FROM " NO_UUID,
		DOCTOR_ERROR, "login", "instance_id is NULL or not the one that the auth server looks for",
		"The auth server looks for users by instance_id = " NO_UUID " alone and does not find these: login answers 400, invalid login credentials.",
	"UPDATE auth.users AS u SET instance_id = " NO_UUID " WHERE $W;"},
	{"users", {"aud"}, "u.aud = ''",
		DOCTOR_WARNING, "login", "aud is empty",
		"The auth server looks for users by aud (as a rule 'authenticated') and does not find these: login answers 400, invalid login credentials.",
	"UPDATE auth.users AS u SET aud = 'authenticated' WHERE $W;"},
	{"users", {"aud"}, "u.aud NOT IN ('', 'authenticated')",
		DOCTOR_INFO, "login", "aud is not 'authenticated'",
		"Whoever logs in without naming this audience does not find these users, unless GOTRUE_JWT_AUD says so.", NULL},
	{"users", {"role"}, "u.role <> ALL (ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles AS r)) "
		"AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = 'authenticated')",
		DOCTOR_WARNING, "login", "role names no role of the database",
		"Their tokens carry it, and PostgREST answers them 'role does not exist' (SQLSTATE 22023) whatever they ask.",
	"UPDATE auth.users AS u SET role = 'authenticated' WHERE $W;"},
	{"users", {"email"}, "u.email = ''",
		DOCTOR_WARNING, "auth", "email is empty where it should be NULL",
		"The auth server writes NULL for no address; two such rows are one address for the unique index: SQLSTATE 23505, duplicate key.",
	"UPDATE auth.users AS u SET email = NULL WHERE $W;"},
	{"users", {"phone"}, "u.phone = ''",
		DOCTOR_WARNING, "auth", "phone is empty where it should be NULL",
		"The auth server writes NULL for no number; a second such row fails with SQLSTATE 23505, duplicate key value violates unique constraint users_phone_key.",
	"UPDATE auth.users AS u SET phone = NULL WHERE $W;"},
	{"users", {"phone"}, "u.phone LIKE '+%'",
		DOCTOR_WARNING, "login", "phone begins with +",
		"The auth server keeps and looks for numbers without it and does not find these users by phone.",
	"UPDATE auth.users AS u SET phone = pg_catalog.ltrim(u.phone, '+') WHERE $W;"},
	{"identities", {"identity_data"}, "pg_catalog.jsonb_typeof(u.identity_data) IS DISTINCT FROM 'object'",
		DOCTOR_ERROR, "login", "identity_data is not an object",
		"The auth server cannot read the identity, and so not its user: json: cannot unmarshal into a map. Login answers 500.",
	"UPDATE auth.identities AS u SET identity_data = pg_catalog.jsonb_build_object('sub', u.user_id::pg_catalog.text, 'value', u.identity_data) WHERE $W;"},
	{"identities", {"provider_id", "identity_data", "user_id"}, "coalesce(u.provider_id, '') = ''",
		DOCTOR_ERROR, "login", "identities without provider_id",
		"The auth server finds an identity by provider and provider_id: it does not find these, and cannot read a NULL.",
	"UPDATE auth.identities AS u SET provider_id = coalesce(u.identity_data ->> 'sub', u.user_id::pg_catalog.text) WHERE $W;"},
	{"identities", {"provider"}, "coalesce(u.provider, '') = ''",
		DOCTOR_ERROR, "login", "identities without provider",
		"The auth server finds an identity by provider and provider_id: it does not find these, and cannot read a NULL.",
	NULL},
	{"identities", {"created_at", "updated_at"}, "u.created_at IS NULL OR u.updated_at IS NULL",
		DOCTOR_ERROR, "login", "created_at or updated_at of identities is NULL, which the auth server cannot read",
		"sql: Scan error: unsupported Scan, storing NULL into a time. Login answers 500.",
	"UPDATE auth.identities AS u SET created_at = coalesce(u.created_at, u.updated_at, pg_catalog.now()), updated_at = coalesce(u.updated_at, u.created_at, pg_catalog.now()) WHERE $W;"},
};

/* Addresses that differ by case alone. Where the index holds, one of them is not in lower case. */
#define DUPLICATE \
	"u.is_sso_user = false AND u.email <> '' AND EXISTS (SELECT FROM auth.users AS o " \
	"WHERE pg_catalog.lower(o.email) = pg_catalog.lower(u.email) AND o.id <> u.id AND o.is_sso_user = false)"
static const RowCheck duplicate_checks[] = {
	{"users", {"email", "is_sso_user", "id"}, "true",
		DOCTOR_WARNING, "login", "duplicate email: addresses that differ in upper and lower case alone",
		"The auth server compares addresses in lower case and logs in whichever user it finds first. Which of them to keep is for a person to say; give the others another address, or delete them.",
	NULL},
};

#define NO_USER "NOT EXISTS (SELECT FROM auth.users AS o WHERE o.id = u.user_id)"
static const RowCheck orphan_checks[] = {
	{"identities", {"user_id"}, "true",
		DOCTOR_WARNING, "login", "identities whose user is gone",
		"Who comes back with the same account of a provider is found by the identity and has no user: login answers 500.",
	"DELETE FROM auth.identities AS u WHERE $W;"},
};

/*
 * Users without an identity. The auth server finds users by their address or
 * number, and so still lets them in by password, code or link; for one who is
 * not confirmed it makes the identity when they sign up once more. One that
 * comes by SSO is found by the identity alone.
 */
#define NO_IDENTITY \
	"u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL AND NOT EXISTS (SELECT FROM auth.identities AS i WHERE i.user_id = u.id)"
#define BY_OWN_PROVIDER \
	"coalesce(u.raw_app_meta_data ->> 'provider', 'email') IN ('email', 'phone') AND coalesce(nullif(u.email, ''), nullif(u.phone, '')) IS NOT NULL"
#define CONFIRMED "coalesce(u.email_confirmed_at, u.phone_confirmed_at) IS NOT NULL"
#define IDENTITY_COLUMNS {"email", "phone", "is_anonymous", "deleted_at", "email_confirmed_at"}
#define MAKE_IDENTITIES \
	"INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at) " \
	"SELECT u.id::pg_catalog.text, u.id, pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('sub', u.id::pg_catalog.text, 'email', nullif(u.email, ''), 'phone', nullif(u.phone, ''), " \
	"'email_verified', u.email_confirmed_at IS NOT NULL, 'phone_verified', u.phone_confirmed_at IS NOT NULL)), " \
	"CASE WHEN u.email <> '' THEN 'email' ELSE 'phone' END, u.last_sign_in_at, coalesce(u.created_at, pg_catalog.now()), coalesce(u.updated_at, pg_catalog.now()) " \
	"FROM auth.users AS u WHERE $W;"
static const RowCheck identity_checks[] = {
	{"users", IDENTITY_COLUMNS, BY_OWN_PROVIDER " AND " CONFIRMED,
		DOCTOR_WARNING, "login", "users without a row in auth.identities",
		"The auth server makes an identity with each user. Without one a password still lets them in, but the list of their identities is empty: applications take that for an address that is taken, and no other way to log in can be unlinked.",
	MAKE_IDENTITIES},
	{"users", IDENTITY_COLUMNS, BY_OWN_PROVIDER " AND NOT (" CONFIRMED ")",
		DOCTOR_INFO, "login", "users without a row in auth.identities, who are not confirmed",
		"The auth server makes an identity with each user, and makes these when they sign up again.",
	MAKE_IDENTITIES},
	{"users", IDENTITY_COLUMNS, "coalesce(u.raw_app_meta_data ->> 'provider', 'email') NOT IN ('email', 'phone')",
		DOCTOR_WARNING, "login", "users of an external provider without a row in auth.identities",
		"The auth server finds who comes from a provider by the identity: it does not find these, and makes another user or refuses the address as taken, unless the provider vouches for the address. What the provider calls them has to be asked there.",
	NULL},
};

/* Checks that one statement answers: of the rows for which "common" holds (NULL: all). */
typedef struct RowGroup
{
	const RowCheck *checks;
	int			n;
	const char *common;
} RowGroup;

static const RowGroup row_groups[] = {
	{row_checks, lengthof(row_checks), NULL},
	{identity_checks, lengthof(identity_checks), NO_IDENTITY},
	{orphan_checks, lengthof(orphan_checks), NO_USER},
	{duplicate_checks, lengthof(duplicate_checks), DUPLICATE},
};

static bool
has_columns(Oid relid, const char *const *needs)
{
	for (int i = 0; i < 5 && needs[i] != NULL; i++)
		if (get_attnum(relid, needs[i]) == InvalidAttrNumber)
			return false;
	return true;
}

static char *
replace_condition(const char *text, const char *condition)
{
	const char *at = strstr(text, "$W");

	return psprintf("%.*s%s%s", (int) (at - text), text, condition, at + 2);
}

/* What to put instead of a NULL that the auth server has no word for; NULL: it has one. */
static const char *
instead_of_null(const AuthColumn *known)
{
	if (strcmp(known->table, "users") != 0 || known->writes_null ||
		strcmp(known->column, "encrypted_password") == 0)
		return NULL;
	if (strcmp(known->column, "aud") == 0 || strcmp(known->column, "role") == 0)
		return "'authenticated'";
	switch (known->kind)
	{
		case TEXT_VALUE:
			return "''";
		case TIME_VALUE:
			return "pg_catalog.now()";
		case BOOLEAN_VALUE:
			return "false";
		case NUMBER_VALUE:
			return "0";
		default:
			return NULL;
	}
}

/* The condition for a column of auth.users, and what then is put there; NULL: nothing to ask. */
typedef char *(*ColumnQuestion) (const AuthColumn *known, const char **instead);

static char *
null_question(const AuthColumn *known, const char **instead)
{
	const char *value = instead_of_null(known);

	if (value == NULL)
		return NULL;
	*instead = psprintf("coalesce(u.%s, %s)", known->column, value);
	return psprintf("u.%s IS NULL", known->column);
}

static char *
time_question(const AuthColumn *known, const char **instead)
{
	if (known->kind != TIME_VALUE || strcmp(known->column, "confirmed_at") == 0)
		return NULL;
	*instead = psprintf("greatest(least(u.%s, '9999-12-31'), '0001-01-02')", known->column);
	return psprintf("(u.%s >= '10000-01-01' OR u.%s < '0001-01-01')", known->column, known->column);
}

typedef struct ColumnCheck
{
	ColumnQuestion question;
	const char *finding;		/* with a %s for the columns */
	const char *detail;
} ColumnCheck;

static const ColumnCheck column_checks[] = {
	{null_question, "NULL in %s of auth.users, which the auth server cannot read",
		"The auth server reads these columns into values that know no NULL: Scan error, converting NULL to string is unsupported. "
	"Login, recovery and the list of users answer 500, Database error querying schema or finding user."},
	{time_question, "a time in %s of auth.users that the auth server cannot read: infinity, or too far away",
	"The auth server knows no infinity and no year after 9999: Scan error, or json: year outside of range. Login answers 500."},
};

/* A condition that is asked of all rows of a table, and how many it holds for. */
typedef struct RowQuestion
{
	const RowCheck *row;		/* either this */
	const ColumnCheck *column;	/* or that, */
	const AuthColumn *known;	/* of this column */
	const char *instead;
	const char *condition;
	int64		n;
} RowQuestion;

typedef struct RowArgs
{
	Auth	   *auth;
	const char *table;
	const char *common;			/* or NULL */
	RowQuestion *questions;
	int			n;
} RowArgs;

static char *
where_clause(const RowArgs *args, const char *condition)
{
	return args->common ? psprintf("%s AND (%s)", args->common, condition) : psprintf("%s", condition);
}

/* The ids of some of the rows, in a detail. */
static void
append_ids(const RowArgs *args, const char *condition, int64 n, StringInfo detail)
{
	bool		identities = strcmp(args->table, "identities") == 0;

	SPI_execute_plan(plan_try(psprintf("SELECT u.%s FROM auth.%s AS u WHERE %s ORDER BY 1 LIMIT 5", identities ? "user_id" : "id",
									   args->table, where_clause(args, condition)), 0, NULL),
					 NULL, NULL, true, 5);
	appendStringInfo(detail, " %s: " INT64_FORMAT, identities ? "Identities" : "Users", n);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		appendStringInfo(detail, "%s%s", i == 0 ? " (" : ", ", value ? value : "NULL");
	}
	appendStringInfoString(detail, n > 5 ? ", ...)." : ").");
}

static void
tell_rows(Doctor *doctor, const RowArgs *args, const RowQuestion *question)
{
	const RowCheck *check = question->row;
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoString(&detail, check->detail);
	append_ids(args, question->condition, question->n, &detail);
	doctor_finding(doctor, check->severity, check->area, psprintf("auth.%s", check->table),
				   psprintf("%s (auth.%s)", check->finding, check->table), detail.data,
				   check->fix ? replace_condition(check->fix, where_clause(args, question->condition)) : NULL);
}

/* One finding for all columns that have such values. */
static void
tell_columns(Doctor *doctor, const RowArgs *args, const ColumnCheck *check)
{
	StringInfoData columns;
	StringInfoData any;
	StringInfoData set;
	StringInfoData detail;
	bool		isnull;

	initStringInfo(&columns);
	initStringInfo(&any);
	initStringInfo(&set);
	initStringInfo(&detail);
	for (int i = 0; i < args->n; i++)
	{
		const RowQuestion *q = &args->questions[i];

		if (q->column != check || q->n == 0)
			continue;
		appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "", q->known->column);
		appendStringInfo(&any, "%s%s", any.len > 0 ? " OR " : "", q->condition);
		appendStringInfo(&set, "%s%s = %s", set.len > 0 ? ", " : "", q->known->column, q->instead);
	}
	if (columns.len == 0)
		return;
	SPI_execute_plan(plan_try(psprintf("SELECT pg_catalog.count(*) FROM auth.users AS u WHERE %s", any.data), 0, NULL), NULL, NULL, true, 1);
	appendStringInfoString(&detail, check->detail);
	append_ids(args, any.data, DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)), &detail);
	doctor_finding(doctor, DOCTOR_ERROR, "login", "auth.users", psprintf(check->finding, columns.data),
				   detail.data, psprintf("UPDATE auth.users AS u SET %s WHERE %s;", set.data, any.data));
}

/* One look at all rows for all questions; more only for what was found. */
static void
ask_rows(Doctor *doctor, void *arg)
{
	RowArgs    *args = (RowArgs *) arg;
	Scope		scope;
	StringInfoData sql;

	if (args->n == 0)
		return;
	initStringInfo(&sql);
	for (int i = 0; i < args->n; i++)
		appendStringInfo(&sql, "%s pg_catalog.count(*) FILTER (WHERE %s)", i == 0 ? "SELECT" : ",", args->questions[i].condition);
	appendStringInfo(&sql, " FROM auth.%s AS u%s%s", args->table, args->common ? " WHERE " : "", args->common ? args->common : "");
	SPI_connect();
	scope_enter_auth(&scope);
	SPI_execute_plan(plan_try(sql.data, 0, NULL), NULL, NULL, true, 1);
	for (int i = 0; i < args->n; i++)
	{
		bool		isnull;

		args->questions[i].n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull));
	}
	for (size_t i = 0; i < lengthof(column_checks); i++)
		tell_columns(doctor, args, &column_checks[i]);
	for (int i = 0; i < args->n; i++)
		if (args->questions[i].row != NULL && args->questions[i].n > 0)
			tell_rows(doctor, args, &args->questions[i]);
	scope_leave(&scope);
	SPI_finish();
}

typedef struct RowAttempt
{
	Doctor	   *doctor;
	RowArgs    *args;
} RowAttempt;

static void
attempt_rows(void *arg)
{
	RowAttempt *attempt = (RowAttempt *) arg;

	ask_rows(attempt->doctor, attempt->args);
}

/* What one question cannot be asked for (a column of another type) keeps the others from no answer. */
static void
check_rows(Doctor *doctor, RowArgs *args)
{
	RowAttempt	attempt;
	ErrorData  *edata;

	attempt.doctor = doctor;
	attempt.args = args;
	edata = plan_contained(attempt_rows, &attempt, false);
	if (edata == NULL)
		return;
	if (caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	FreeErrorData(edata);
	for (int i = 0; i < args->n; i++)
	{
		RowArgs		one = *args;

		one.questions = &args->questions[i];
		one.n = 1;
		doctor_contained(doctor, "login", psprintf("auth.%s", args->table), ask_rows, &one);
	}
}

/* Can there be two addresses that differ by case alone? As a rule the index and lower case say no. */
static SavedPlan duplicate_plan = {
	.sql = "SELECT FROM pg_catalog.pg_index AS x JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid "
	"WHERE x.indrelid = $1 AND i.relname = 'users_email_partial_key' AND x.indisunique AND x.indisvalid",
	.nargs = 1,
	.argtypes = {OIDOID}
};

static void
find_capitals(Doctor *doctor, void *arg)
{
	bool	   *any = (bool *) arg;
	Datum		value = ObjectIdGetDatum(doctor->auth_users);
	Scope		scope;

	SPI_connect();
	scope_enter_auth(&scope);
	*any = true;
	plan_execute(&duplicate_plan, &value, NULL, true, 1);
	if (SPI_processed > 0)
	{
		SPI_execute_plan(plan_try("SELECT FROM auth.users AS u WHERE u.email <> pg_catalog.lower(u.email) LIMIT 1", 0, NULL), NULL, NULL, true, 1);
		*any = SPI_processed > 0;
	}
	scope_leave(&scope);
	SPI_finish();
}

static void
check_group(Auth *auth, const RowGroup *group, const char *table)
{
	Doctor	   *doctor = auth->doctor;
	Oid			relid = get_relname_relid(table, auth->schema);
	RowArgs		args;

	if (!OidIsValid(relid))
		return;
	args.auth = auth;
	args.table = table;
	args.common = group->common;
	args.questions = palloc0(sizeof(RowQuestion) * (group->n + lengthof(column_checks) * lengthof(auth_columns)));
	args.n = 0;
	for (int i = 0; i < group->n; i++)
		if (strcmp(group->checks[i].table, table) == 0 && has_columns(relid, group->checks[i].needs))
		{
			args.questions[args.n].row = &group->checks[i];
			args.questions[args.n++].condition = group->checks[i].condition;
		}
	for (size_t c = 0; group->checks == row_checks && strcmp(table, "users") == 0 && c < lengthof(column_checks); c++)
		for (size_t i = 0; i < lengthof(auth_columns); i++)
		{
			RowQuestion *q = &args.questions[args.n];

			if (strcmp(auth_columns[i].table, "users") != 0 || get_attnum(relid, auth_columns[i].column) == InvalidAttrNumber)
				continue;
			q->column = &column_checks[c];
			q->known = &auth_columns[i];
			q->condition = column_checks[c].question(q->known, &q->instead);
			if (q->condition != NULL)
				args.n++;
		}
	check_rows(doctor, &args);
}

/* ---------------------------------------------------------------------
 * The auth server's role
 * ---------------------------------------------------------------------
 */

/*
 * A setting as a new connection of the role gets it: of the role in this
 * database, of the role, of the database, of the server. Of the last we know only
 * what this session shows of it.
 */
typedef struct RoleSetting
{
	char	   *name;
	char	   *value;
	int			level;			/* 1: role in database, 2: role, 3: database */
} RoleSetting;

static SavedPlan settings_plan = {
	.sql = "SELECT DISTINCT ON (1) pg_catalog.split_part(c.item, '=', 1), pg_catalog.substr(c.item, pg_catalog.strpos(c.item, '=') + 1), l.level "
	"FROM pg_catalog.pg_db_role_setting AS s "
	"CROSS JOIN LATERAL (SELECT CASE WHEN s.setrole = 0 THEN 3 WHEN s.setdatabase = 0 THEN 2 ELSE 1 END) AS l (level) "
	"CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c (item) "
	"WHERE s.setrole IN (0, $1) AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())) "
	"AND NOT (s.setrole = 0 AND s.setdatabase = 0) ORDER BY 1, l.level",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/* What the database gives to all is left to it, and the role gets a value of its own. */
static char *
reset_fix(Auth *auth, const RoleSetting *setting, const char *value)
{
	const char *role = quote_identifier(GetUserNameFromId(auth->role, false));
	const char *name = quote_identifier(setting->name);

	switch (setting->level)
	{
		case 1:
			return psprintf("ALTER ROLE %s IN DATABASE %s RESET %s;", role, quote_identifier(get_database_name(MyDatabaseId)), name);
		case 2:
			return psprintf("ALTER ROLE %s RESET %s;", role, name);
		default:
			return psprintf("ALTER ROLE %s SET %s = %s;", role, name, value);
	}
}

static const char *
setting_place(const RoleSetting *setting)
{
	switch (setting->level)
	{
		case 1:
			return "by ALTER ROLE ... IN DATABASE";
		case 2:
			return "by ALTER ROLE";
		default:
			return "by ALTER DATABASE";
	}
}

/* Milliseconds; -1: it is no time. */
static int
setting_ms(const char *value)
{
	int			result;

	return parse_int(value, &result, GUC_UNIT_MS, NULL) ? result : -1;
}

static bool
is_on(const char *value)
{
	bool		result;

	return parse_bool(value, &result) && result;
}

typedef struct Timeout
{
	const char *name;
	int			least;			/* ms that a statement or transaction of the auth server may need */
	const char *detail;
} Timeout;

static const Timeout timeouts[] = {
	{"statement_timeout", 2000, "A signup that takes longer, as one that waits for a lock or has many triggers, is cancelled: SQLSTATE 57014, canceling statement due to statement timeout."},
	{"transaction_timeout", 2000, "A signup or login that takes longer ends with its connection: SQLSTATE 25P04."},
	{"lock_timeout", 100, "Whatever holds a row or table for longer makes signups and logins fail: SQLSTATE 55P03, canceling statement due to lock timeout."},
	{"idle_in_transaction_session_timeout", 5000, "The auth server hashes passwords and calls hooks within its transactions: SQLSTATE 25P03, terminating connection due to idle-in-transaction timeout."},
	{"idle_session_timeout", 5000, "The auth server keeps connections: SQLSTATE 57P05, terminating connection due to idle-session timeout."},
};

/* Names of the auth server's tables that a schema before auth in the path has as well. */
static char *
hidden_tables(List *path, Oid auth)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, path)
	{
		Oid			nsp = get_namespace_oid((char *) lfirst(lc), true);

		if (nsp == auth)
			break;
		if (!OidIsValid(nsp))
			continue;
		for (size_t i = 0; i < lengthof(auth_columns); i++)
			if ((i == 0 || strcmp(auth_columns[i].table, auth_columns[i - 1].table) != 0) &&
				OidIsValid(get_relname_relid(auth_columns[i].table, nsp)))
				appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
								 quote_qualified_identifier((char *) lfirst(lc), auth_columns[i].table));
	}
	return names.len > 0 ? names.data : NULL;
}

static char *
fix_search_path(Auth *auth, const char *role, const RoleSetting *setting)
{
	return psprintf("%sALTER ROLE %s SET search_path = auth;",
					setting->level == 1 ? psprintf("%s ", reset_fix(auth, setting, "auth")) : "", role);
}

static void
check_role_search_path(Auth *auth, const char *role, const RoleSetting *setting)
{
	List	   *path;
	ListCell   *lc;
	bool		found = false;
	char	   *hidden;

	if (setting == NULL)
	{
		if (auth->by_server && strcmp(role, AUTH_ROLE) == 0)
			doctor_finding(auth->doctor, DOCTOR_WARNING, "role", role, psprintf("search_path is not set for the role %s", role),
						   "The auth server names its tables without a schema and finds them by its search_path, which Supabase's image sets for the role. Unless the connection string sets it (search_path=auth), relation \"users\" does not exist: SQLSTATE 42P01.",
						   psprintf("ALTER ROLE %s SET search_path = auth;", role));
		return;
	}
	if (!SplitIdentifierString(pstrdup(setting->value), ',', &path))
		return;
	foreach(lc, path)
		found = found || strcmp((char *) lfirst(lc), "auth") == 0;
	if (!found)
		doctor_finding(auth->doctor, DOCTOR_ERROR, "role", role, psprintf("search_path of the role %s lacks schema auth", role),
					   psprintf("It is set to %s %s. The auth server names its tables without a schema: relation \"users\" does not exist, SQLSTATE 42P01, or another table of that name is taken.",
								setting->value, setting_place(setting)),
					   fix_search_path(auth, role, setting));
	else if ((hidden = hidden_tables(path, auth->schema)) != NULL)
		doctor_finding(auth->doctor, DOCTOR_ERROR, "role", role, psprintf("search_path of the role %s has another schema before auth, with tables of the same names", role),
					   psprintf("It is set to %s %s. The auth server names its tables without a schema and takes these for its own: %s.",
								setting->value, setting_place(setting), hidden),
					   fix_search_path(auth, role, setting));
}

static void
check_setting(Auth *auth, const char *role, const RoleSetting *setting)
{
	Doctor	   *doctor = auth->doctor;

	for (size_t i = 0; i < lengthof(timeouts); i++)
	{
		int			ms = strcmp(timeouts[i].name, setting->name) == 0 ? setting_ms(setting->value) : 0;

		if (ms > 0 && ms < timeouts[i].least)
			doctor_finding(doctor, DOCTOR_WARNING, "role", role,
						   psprintf("%s of the role %s is %d ms", setting->name, role, ms),
						   psprintf("Set %s. %s", setting_place(setting), timeouts[i].detail),
						   reset_fix(auth, setting, "0"));
	}
	if (strcmp(setting->name, "default_transaction_read_only") == 0 && is_on(setting->value))
		doctor_finding(doctor, DOCTOR_ERROR, "role", role, psprintf("default_transaction_read_only is on for the role %s", role),
					   psprintf("Set %s. Signups and logins write: cannot execute INSERT in a read-only transaction, SQLSTATE 25006.", setting_place(setting)),
					   reset_fix(auth, setting, "off"));
	if (strcmp(setting->name, "session_replication_role") == 0 && pg_strcasecmp(setting->value, "replica") == 0)
		doctor_finding(doctor, DOCTOR_ERROR, "role", role, psprintf("session_replication_role is replica for the role %s", role),
					   psprintf("Set %s. No trigger fires and no foreign key is checked for what the auth server writes: users are not synced.", setting_place(setting)),
					   reset_fix(auth, setting, "origin"));
	if (strcmp(setting->name, "row_security") == 0 && !is_on(setting->value))
		doctor_finding(doctor, DOCTOR_WARNING, "role", role, psprintf("row_security is off for the role %s", role),
					   psprintf("Set %s. What a trigger reads or writes under row level security fails: query would be affected by row-level security policy, SQLSTATE 42501.", setting_place(setting)),
					   reset_fix(auth, setting, "on"));
	if (strcmp(setting->name, "role") == 0 && pg_strcasecmp(setting->value, "none") != 0 &&
		strcmp(setting->value, GetUserNameFromId(auth->role, false)) != 0)
		doctor_finding(doctor, DOCTOR_ERROR, "role", role, psprintf("the role %s becomes another one: role is %s", role, quote_identifier(setting->value)),
					   psprintf("Set %s. The auth server's statements run with that one's rights.", setting_place(setting)),
					   reset_fix(auth, setting, "none"));
	if (strcmp(setting->name, "default_transaction_isolation") == 0 && pg_strcasecmp(setting->value, "serializable") == 0)
		doctor_finding(doctor, DOCTOR_WARNING, "role", role, psprintf("default_transaction_isolation is serializable for the role %s", role),
					   psprintf("Set %s. The auth server does not try again what fails with SQLSTATE 40001, could not serialize access.", setting_place(setting)),
					   reset_fix(auth, setting, "'read committed'"));
	if (strcmp(setting->name, "invite_sync.enabled") == 0 && !is_on(setting->value))
		doctor_finding(doctor, DOCTOR_ERROR, "setting", "invite_sync.enabled", "the setting is off for the auth server's role: nothing is synced",
					   psprintf("Set %s. See also invite_sync.verify().", setting_place(setting)),
					   reset_fix(auth, setting, "on"));
}

static void
check_role_settings(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;
	const char *role = quote_identifier(GetUserNameFromId(auth->role, false));
	Datum		value = ObjectIdGetDatum(auth->role);
	RoleSetting *settings;
	const RoleSetting *search_path = NULL;
	Scope		scope;
	uint64		n;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&settings_plan, &value, NULL, true, 0);
	n = SPI_processed;
	settings = palloc0(sizeof(RoleSetting) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		settings[i].name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		settings[i].value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		settings[i].level = pg_strtoint32(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3));
		if (pg_strcasecmp(settings[i].name, "search_path") == 0)
			search_path = &settings[i];
	}
	scope_leave(&scope);
	for (uint64 i = 0; i < n; i++)
		check_setting(auth, role, &settings[i]);
	check_role_search_path(auth, role, search_path);
	SPI_finish();
}

/* $1 the auth server's role, $2 does an auth server use it */
static SavedPlan role_plans[] = {
	{
		.sql = "SELECT 'error', 'role', pg_catalog.quote_ident(r.rolname), pg_catalog.format(w.finding, r.rolname), w.detail, pg_catalog.format(w.fix, r.rolname) "
		"FROM pg_catalog.pg_roles AS r CROSS JOIN LATERAL (VALUES "
		"(NOT r.rolcanlogin, 'the role %I may not log in', 'The auth server cannot connect: role is not permitted to log in, SQLSTATE 28000.', 'ALTER ROLE %I LOGIN;'), "
		"(r.rolconnlimit = 0, 'the role %I may have no connection', 'The auth server cannot connect: too many connections for role, SQLSTATE 53300.', 'ALTER ROLE %I CONNECTION LIMIT -1;'), "
		"(r.rolvaliduntil <= pg_catalog.now(), 'the password of the role %I has expired', 'The auth server cannot connect: password authentication failed, SQLSTATE 28P01.', 'ALTER ROLE %I VALID UNTIL ''infinity'';')) "
		"AS w (holds, finding, detail, fix) WHERE r.oid = $1 AND $2 AND w.holds",
		.nargs = 2, .argtypes = {OIDOID, BOOLOID}
	},
	{
		.sql = "SELECT 'error', 'role', pg_catalog.quote_ident(r.rolname), pg_catalog.format('the role %I has no CONNECT on the database', r.rolname), "
		"'The auth server cannot connect: permission denied for database, SQLSTATE 42501.', "
		"pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I;', pg_catalog.current_database(), r.rolname) FROM pg_catalog.pg_roles AS r "
		"WHERE r.oid = $1 AND $2 AND NOT pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')",
		.nargs = 2, .argtypes = {OIDOID, BOOLOID}
	},
	/* what holds for the whole server: this session's own settings say nothing of it */
	{
		.sql = "SELECT 'error', 'setting', s.name, s.finding, s.detail, s.fix FROM (SELECT g.name, g.setting, "
		"w.finding, w.detail, w.fix FROM pg_catalog.pg_settings AS g JOIN (VALUES "
		"('default_transaction_read_only', 'on', 'default_transaction_read_only is on for the whole server', 'Signups and logins write: cannot execute INSERT in a read-only transaction, SQLSTATE 25006.', 'ALTER SYSTEM RESET default_transaction_read_only;'), "
		"('session_replication_role', 'replica', 'session_replication_role is replica for the whole server', 'No trigger fires and no foreign key is checked: users are not synced.', 'ALTER SYSTEM RESET session_replication_role;')) "
		"AS w (name, bad, finding, detail, fix) ON w.name = g.name AND w.bad = g.setting WHERE g.source IN ('configuration file', 'command line', 'global', 'environment variable')) AS s WHERE $1 <> 0 AND $2",
		.nargs = 2, .argtypes = {OIDOID, BOOLOID}
	},
};

static void
check_role(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;
	Scope		scope;
	Datum		values[2];

	values[0] = ObjectIdGetDatum(auth->role);
	values[1] = BoolGetDatum(auth->by_server);
	scope_enter_own(&scope);
	for (size_t i = 0; i < lengthof(role_plans); i++)
		doctor_run(doctor, &role_plans[i], values, NULL);
	scope_leave(&scope);
	if (auth->by_server && !OidIsValid(get_role_oid(AUTH_ROLE, true)))
		doctor_finding(doctor, DOCTOR_WARNING, "role", AUTH_ROLE, "there is no role " AUTH_ROLE,
					   psprintf("Supabase's auth server connects as it. auth.users belongs to %s, which is taken for the auth server's role here.",
								quote_identifier(GetUserNameFromId(auth->role, false))), NULL);
}

/* ---------------------------------------------------------------------
 * Our own state, and triggers of events
 * ---------------------------------------------------------------------
 */

static SavedPlan state_plans[] = {
	{
		.sql = "SELECT CASE WHEN q.waiting THEN 'info' ELSE 'warning' END, CASE WHEN (q.target_id IS NULL) THEN 'trigger' ELSE 'target' END, coalesce(t.name, pg_catalog.quote_ident(q.trigger_name), 'invite_sync.quarantine'), "
		"pg_catalog.format('%s in quarantine, SQLSTATE %s', pg_catalog.count(*), coalesce(q.sqlstate, 'unknown')), "
		"'The auth server was not told, and these users are not in step; invite_sync.quarantine says of each why, and invite_sync.verify() what else is wrong.', "
		"'SELECT * FROM invite_sync.retry_quarantine(due_only => false);' "
		"FROM (SELECT e.target_id, e.trigger_name, e.sqlstate, e.sqlstate = 'IS001' AS waiting FROM invite_sync.quarantine_entry AS e LIMIT 10000) AS q "
		"LEFT JOIN LATERAL (SELECT invite_sync.target_name(t.id, t.relation, t.schema_name, t.table_name, t.registered_in, t.relation_number) "
		"FROM invite_sync.target AS t WHERE t.id = q.target_id) AS t (name) ON true GROUP BY q.waiting, q.target_id IS NULL, t.name, q.trigger_name, q.sqlstate",
		.nargs = 0
	},
	{
		.sql = "SELECT CASE WHEN t.evtenabled = 'R' THEN 'info' ELSE 'warning' END, 'login', pg_catalog.quote_ident(t.evtname), "
		"'an event trigger runs at every login to the database', "
		"pg_catalog.format('What %s raises keeps the auth server from connecting.', t.evtfoid::pg_catalog.regprocedure), "
		"pg_catalog.format('ALTER EVENT TRIGGER %I DISABLE;', t.evtname) "
		"FROM pg_catalog.pg_event_trigger AS t WHERE t.evtevent = 'login' AND t.evtenabled <> 'D'",
		.nargs = 0
	},
};

static SyncTrigger *
bad_trigger(void)
{
	SyncTrigger *triggers;
	int			n = sync_triggers(&triggers);

	for (int i = 0; i < n; i++)
		if (strcmp(triggers[i].state, "good") != 0)
			return &triggers[i];
	return NULL;
}

static void
check_state(Doctor *doctor, void *arg)
{
	Scope		scope;
	SyncTrigger *bad;
	SyncTargetCheck *checks;
	int			n;
	bool		any = false;

	scope_enter_own(&scope);
	for (size_t i = 0; i < lengthof(state_plans); i++)
		doctor_run(doctor, &state_plans[i], NULL, NULL);
	scope_leave(&scope);
	n = sync_check_targets(&checks);
	for (int i = 0; i < n; i++)
	{
		any = any || checks[i].enabled;
		if (checks[i].failure != NULL && checks[i].enabled)
			doctor_finding(doctor, DOCTOR_ERROR, "target", checks[i].name, "users cannot be synced to this target",
						   psprintf("SQLSTATE %s: %s. Signups succeed all the same; see invite_sync.verify().",
									unpack_sql_state(checks[i].failure->sqlerrcode), checks[i].failure->edata->message),
						   NULL);
	}
	if (!invite_sync_enabled)
		doctor_finding(doctor, DOCTOR_ERROR, "setting", "invite_sync.enabled", "the setting is off: nothing is synced",
					   "Signups succeed, and their users are in no target; see invite_sync.verify().",
					   NULL);
	if (!any)
		return;
	if (sync_is_detached())
		doctor_finding(doctor, DOCTOR_INFO, "trigger", "auth.users", "detach() was called: users are not synced, on purpose",
					   NULL, "SELECT invite_sync.attach();");
	else if ((bad = bad_trigger()) != NULL)
		doctor_finding(doctor, DOCTOR_ERROR, "trigger", "auth.users",
					   psprintf("the trigger %s of invite_sync is %s: users are not synced", quote_identifier(bad->name), bad->state),
					   "Signups succeed, and their users are in no target; see invite_sync.verify().",
					   "SELECT invite_sync.attach(); SELECT pg_catalog.count(*) FROM invite_sync.sync_users();");
}

/* ---------------------------------------------------------------------
 * The auth server's own settings
 * ---------------------------------------------------------------------
 */

#define SETTINGS_HINT "Pass what the auth server answers to GET /settings (/auth/v1/settings on Supabase), as it is."

static JsonbValue *
setting_under(Jsonb *settings, const char *group, const char *key)
{
	JsonbContainer *in = &settings->root;

	if (group != NULL)
	{
		JsonbValue *v = getKeyJsonValueFromContainer(in, group, (int) strlen(group), NULL);

		if (v == NULL || v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
			return NULL;
		in = v->val.binary.data;
	}
	return getKeyJsonValueFromContainer(in, key, (int) strlen(key), NULL);
}

typedef struct KnownSetting
{
	const char *group;
	const char *key;
} KnownSetting;

static const KnownSetting known_settings[] = {
	{NULL, "disable_signup"}, {NULL, "mailer_autoconfirm"}, {NULL, "phone_autoconfirm"}, {NULL, "saml_enabled"},
	{"external", "email"}, {"external", "phone"}, {"external", "anonymous_users"}
};

/* Raises for what no auth server says. */
void
doctor_require_settings(Jsonb *settings)
{
	bool		any = false;

	if (!JB_ROOT_IS_OBJECT(settings))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("auth_settings is not an object"),
				 errhint(SETTINGS_HINT)));
	for (size_t i = 0; i < lengthof(known_settings); i++)
	{
		JsonbValue *v = setting_under(settings, known_settings[i].group, known_settings[i].key);

		if (v != NULL && v->type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s in auth_settings is neither true nor false", known_settings[i].key),
					 errhint(SETTINGS_HINT)));
		any = any || v != NULL;
	}
	if (!any)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("auth_settings has none of the auth server's settings"),
				 errhint(SETTINGS_HINT)));
}

bool
doctor_lets_in_without_email(Jsonb *settings)
{
	static const char *const keys[] = {"phone", "anonymous_users"};

	for (int i = 0; i < (int) lengthof(keys); i++)
	{
		JsonbValue *v = setting_under(settings, "external", keys[i]);

		if (v != NULL && v->type == jbvBool && v->val.boolean)
			return true;
	}
	return false;
}

/* Said, and that it is so. */
static bool
setting_is(Auth *auth, const char *group, const char *key, bool value)
{
	JsonbValue *v = setting_under(auth->settings, group, key);

	return v != NULL && v->type == jbvBool && v->val.boolean == value;
}

static SavedPlan invited_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM (SELECT FROM invite_sync.invitation AS i WHERE i.email IS NOT NULL AND i.purpose = 'invitation' AND i.status = 'pending' "
	"AND NOT i.shadow AND i.expires_at > pg_catalog.now() LIMIT 1000) AS s",
	.nargs = 0
};

static SavedPlan sso_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM (SELECT FROM auth.sso_providers AS p LIMIT 1000) AS s",
	.nargs = 0
};

static int64
counted(SavedPlan *plan, void (*enter) (Scope *scope))
{
	Scope		scope;
	int64		result;
	bool		isnull;

	SPI_connect();
	enter(&scope);
	plan_execute(plan, NULL, NULL, true, 1);
	result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static void
check_sso(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;
	int64		providers;

	if (!OidIsValid(get_relname_relid("sso_providers", auth->schema)))
		return;
	providers = counted(&sso_plan, scope_enter_auth);
	if (providers > 0 && setting_is(auth, NULL, "saml_enabled", false))
		doctor_finding(doctor, DOCTOR_WARNING, "setting", "saml_enabled", "SAML is off while there are SSO providers",
					   psprintf(INT64_FORMAT " in auth.sso_providers: nobody logs in through them. The setting is GOTRUE_SAML_ENABLED.", providers), NULL);
	else if (providers == 0 && setting_is(auth, NULL, "saml_enabled", true))
		doctor_finding(doctor, DOCTOR_INFO, "setting", "saml_enabled", "SAML is on, and there is no SSO provider",
					   "auth.sso_providers is empty: nobody can log in that way yet.", NULL);
}

static void
check_settings(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;
	int64		invited;

	if (auth->settings == NULL)
	{
		doctor_finding(doctor, DOCTOR_INFO, "setting", "auth_settings", "the auth server's own settings were not looked at",
					   "Whether signups and the email provider are on, whether addresses are confirmed by themselves, and SAML: "
					   SETTINGS_HINT " SELECT * FROM invite_sync.doctor(auth_settings => '{...}');", NULL);
		return;
	}
	invited = counted(&invited_plan, scope_enter_own);
	if (setting_is(auth, NULL, "disable_signup", true))
		doctor_finding(doctor, DOCTOR_WARNING, "setting", "disable_signup", "signups are disabled",
					   psprintf("Every signup is refused (422, Signups not allowed for this instance); accounts come from administrators and their invitations alone.%s The setting is GOTRUE_DISABLE_SIGNUP.",
								invited > 0 ? psprintf(" %s" INT64_FORMAT " pending invitations: who has no account yet cannot make one there.", invited >= 1000 ? "At least " : "", invited) : ""), NULL);
	if (setting_is(auth, "external", "email", false))
		doctor_finding(doctor, invited > 0 ? DOCTOR_ERROR : DOCTOR_WARNING, "setting", "external.email", "the email provider is off",
					   psprintf("Nobody signs up or logs in by email (400, Email signups are disabled).%s The setting is GOTRUE_EXTERNAL_EMAIL_ENABLED.",
								invited > 0 ? psprintf(" %s" INT64_FORMAT " pending invitations are to an address.", invited >= 1000 ? "At least " : "", invited) : ""), NULL);
	if (setting_is(auth, NULL, "mailer_autoconfirm", true))
		doctor_finding(doctor, invited > 0 ? DOCTOR_ERROR : DOCTOR_INFO, "setting", "mailer_autoconfirm", "addresses are confirmed by themselves (autoconfirm)",
					   psprintf("Whoever signs up has whatever address they say, as a verified one: also one that somebody else was invited by.%s The setting is GOTRUE_MAILER_AUTOCONFIRM.",
								invited > 0 ? psprintf(" %s" INT64_FORMAT " pending invitations are to an address.", invited >= 1000 ? "At least " : "", invited) : ""), NULL);
	if (setting_is(auth, "external", "phone", true) && setting_is(auth, NULL, "phone_autoconfirm", true))
		doctor_finding(doctor, DOCTOR_INFO, "setting", "phone_autoconfirm", "telephone numbers are confirmed by themselves (autoconfirm)",
					   "Whoever signs up has whatever number they say. The setting is GOTRUE_SMS_AUTOCONFIRM.", NULL);
	doctor_contained(doctor, "setting", "saml_enabled", check_sso, auth);
}

/* ---------------------------------------------------------------------
 * All of it
 * ---------------------------------------------------------------------
 */

static void
find_migration(Doctor *doctor, void *arg)
{
	Auth	   *auth = (Auth *) arg;
	Scope		scope;
	char	   *version;

	SPI_connect();
	scope_enter_auth(&scope);
	/* versions of before 2021 have another form */
	SPI_execute_plan(plan_try("SELECT pg_catalog.max(m.version::pg_catalog.text COLLATE \"C\") FROM auth.schema_migrations AS m "
							  "WHERE m.version::pg_catalog.text ~ '^20[0-9]{12}$'", 0, NULL), NULL, NULL, true, 1);
	version = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (version != NULL)
		auth->migration = MemoryContextStrdup(doctor->cxt, version);
	scope_leave(&scope);
	SPI_finish();
}

static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static bool
made_by_server(Oid schema)
{
	return OidIsValid(get_relname_relid("schema_migrations", schema)) ||
		(OidIsValid(get_relname_relid("sessions", schema)) && OidIsValid(get_relname_relid("refresh_tokens", schema)));
}

static void
check_all(Doctor *doctor, Jsonb *auth_settings)
{
	Auth		auth;

	memset(&auth, 0, sizeof(auth));
	auth.doctor = doctor;
	auth.settings = auth_settings;
	auth.migration = "";
	auth.schema = get_namespace_oid("auth", true);
	doctor_contained(doctor, "setting", "auth_settings", check_settings, &auth);
	doctor_contained(doctor, "target", "invite_sync", check_state, NULL);
	if (!OidIsValid(auth.schema) || !OidIsValid(doctor->auth_users))
		return;
	auth.role = get_role_oid(AUTH_ROLE, true);
	if (!OidIsValid(auth.role))
		auth.role = owner_of(doctor->auth_users);
	if (!OidIsValid(auth.role))
		return;
	auth.by_server = made_by_server(auth.schema);
	if (auth.by_server)
	{
		if (OidIsValid(get_relname_relid("schema_migrations", auth.schema)))
			doctor_contained(doctor, "auth", "auth.schema_migrations", find_migration, &auth);
		else
			doctor_finding(doctor, DOCTOR_ERROR, "auth", "auth.schema_migrations", "the table auth.schema_migrations is missing",
						   "The auth server runs all its migrations again when it starts, over tables that are there, and fails.", NULL);
		doctor_contained(doctor, "auth", "auth", check_columns, &auth);
		doctor_contained(doctor, "auth", "auth", check_structure, &auth);
	}
	doctor_contained(doctor, "role", AUTH_ROLE, check_role, &auth);
	doctor_contained(doctor, "role", AUTH_ROLE, check_role_settings, &auth);
	for (size_t i = 0; i < lengthof(row_groups); i++)
	{
		bool		possible = true;

		if (row_groups[i].checks == duplicate_checks)
			doctor_contained(doctor, "login", "auth.users", find_capitals, &possible);
		if (possible)
		{
			check_group(&auth, &row_groups[i], "users");
			check_group(&auth, &row_groups[i], "identities");
		}
	}
}

void
doctor_check_auth(Doctor *doctor, Jsonb *auth_settings)
{
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	check_all(doctor, auth_settings);
	AtEOXact_GUC(false, guc_level);
}
