/*-------------------------------------------------------------------------
 *
 * caller.c
 *	  Who is asking, what they may do, and under whose rights our own
 *	  statements run.
 *
 * Everything that decides who somebody is stands in this file, so that one
 * reading of it answers the question. Two rules run through it: claims can
 * only lower what the database role may do, and no statement of ours runs as
 * the superuser who installed the extension.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "caller.h"
#include "module.h"
#include "plan.h"

/* Claims nested deeper than this are nobody's: the parser would recurse. */
#define CLAIMS_MAX_DEPTH	64

/* Longer ones are not made into jsonb, whose parts have limits of their own. */
#define CLAIMS_MAX_JSONB	(16 * 1024 * 1024)

#define CLAIMS_GUC			"request.jwt.claims"
#define LEGACY_SUB_GUC		"request.jwt.claim.sub"

typedef struct Claims
{
	bool		present;		/* there are claims at all */
	bool		malformed;
	bool		no_jsonb;		/* jsonb could not hold them: a number, or a character */
	bool		has_sub;		/* "sub" is a uuid */
	pg_uuid_t	sub;
	char		external[CALLER_EXTERNAL_ID_MAX + 1];	/* "sub" where it is no
														 * uuid; else "" */
	char		role[NAMEDATALEN];	/* "" when absent */
} Claims;

bool		(*caller_external_user_hook) (const char *external_id, pg_uuid_t *user_id) = NULL;

/*
 * The settings are ours only where nobody else had defined them; then the
 * assign hook tells us of every change and nothing is compared or looked up.
 */
static char *claims_setting = NULL;
static char *legacy_sub_setting = NULL;
static bool claims_hooked = false;
static bool legacy_hooked = false;
uint64		caller_claims_changes = 1;
bool		caller_claims_heard = false;

static Claims claims_cache;
static uint64 claims_cache_version = 0;

PG_FUNCTION_INFO_V1(caller_is_operator);
PG_FUNCTION_INFO_V1(caller_require_operator_sql);
PG_FUNCTION_INFO_V1(caller_require_service_sql);
PG_FUNCTION_INFO_V1(caller_require_superuser_sql);
PG_FUNCTION_INFO_V1(caller_require_direct_sql);

/* ---------------------------------------------------------------------
 * Claims
 * ---------------------------------------------------------------------
 */

/* Only says that something may have changed; parsing waits until it is asked. */
static void
claims_assign_hook(const char *newval, void *extra)
{
	caller_claims_changes++;
}

/* Where no hook tells of changes: what the settings said when they were last looked at. */
static char *seen_claims = NULL;
static char *seen_legacy_sub = NULL;

static bool
same_as_seen(const char *name, char **seen)
{
	const char *now = GetConfigOption(name, true, false);

	if (*seen != NULL && now != NULL && strcmp(*seen, now) == 0)
		return true;
	if (*seen == NULL && now == NULL)
		return true;
	if (*seen != NULL)
		pfree(*seen);
	*seen = NULL;
	if (now != NULL)
		*seen = MemoryContextStrdup(TopMemoryContext, now);
	return false;
}

uint64
caller_claims_compared(void)
{
	if (unlikely(!claims_hooked && !same_as_seen(CLAIMS_GUC, &seen_claims)))
		caller_claims_changes++;
	if (unlikely(!legacy_hooked && !same_as_seen(LEGACY_SUB_GUC, &seen_legacy_sub)))
		caller_claims_changes++;
	return caller_claims_changes;
}

/*
 * Strict where uuid_in is generous, and silent where it raises: nothing in
 * here may fail for what a client wrote into its token.
 */
bool
caller_parse_uuid(const char *s, pg_uuid_t *uuid)
{
	int			i;

	if (s == NULL || strlen(s) != 36)
		return false;
	for (i = 0; i < 16; i++)
	{
		int			hi;
		int			lo;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *s++ != '-')
			return false;
		if (!isxdigit((unsigned char) s[0]) || !isxdigit((unsigned char) s[1]))
			return false;
		hi = isdigit((unsigned char) s[0]) ? s[0] - '0' : (s[0] | 0x20) - 'a' + 10;
		lo = isdigit((unsigned char) s[1]) ? s[1] - '0' : (s[1] | 0x20) - 'a' + 10;
		uuid->data[i] = (unsigned char) (hi << 4 | lo);
		s += 2;
	}
	return true;
}

/* A uuid is nobody but the auth user of that id; what is too long is nobody's id. */
static void
claims_set_sub(Claims *claims, const char *sub)
{
	claims->has_sub = caller_parse_uuid(sub, &claims->sub);
	claims->external[0] = '\0';
	if (!claims->has_sub && strlen(sub) <= CALLER_EXTERNAL_ID_MAX)
		strlcpy(claims->external, sub, sizeof(claims->external));
}

typedef enum ClaimField
{
	CLAIM_NONE,
	CLAIM_SUB,
	CLAIM_ROLE
} ClaimField;

typedef struct ClaimsParse
{
	JsonLexContext *lex;
	Claims	   *claims;
	ClaimField	field;
	int			depth;			/* of objects and arrays */
	bool		top_is_object;
} ClaimsParse;

static compat_json_result
claims_container_start(void *state)
{
	ClaimsParse *p = (ClaimsParse *) state;

	p->depth++;
	COMPAT_JSON_RETURN;
}

static compat_json_result
claims_object_start(void *state)
{
	ClaimsParse *p = (ClaimsParse *) state;

	if (p->depth == 0)
		p->top_is_object = true;
	p->depth++;
	COMPAT_JSON_RETURN;
}

static compat_json_result
claims_container_end(void *state)
{
	ClaimsParse *p = (ClaimsParse *) state;

	p->depth--;
	COMPAT_JSON_RETURN;
}

static compat_json_result
claims_field_start(void *state, char *fname, bool isnull)
{
	ClaimsParse *p = (ClaimsParse *) state;

	p->field = CLAIM_NONE;
	if (p->depth == 1 && p->top_is_object && fname != NULL)
	{
		/* a repeated key: the last one counts, as in jsonb */
		if (strcmp(fname, "sub") == 0)
		{
			p->field = CLAIM_SUB;
			p->claims->has_sub = false;
			p->claims->external[0] = '\0';
		}
		else if (strcmp(fname, "role") == 0)
		{
			p->field = CLAIM_ROLE;
			p->claims->role[0] = '\0';
		}
	}
	COMPAT_JSON_RETURN;
}

/* Far within what numeric holds: jsonb raises for a number beyond it. */
static bool
number_is_sane(const char *token)
{
	const char *exponent = strpbrk(token, "eE");

	return strlen(token) <= 1000 &&
		(exponent == NULL || (strlen(exponent) <= 10 && abs(atoi(exponent + 1)) <= 1000));
}

static compat_json_result
claims_scalar(void *state, char *token, JsonTokenType tokentype)
{
	ClaimsParse *p = (ClaimsParse *) state;

	if (tokentype == JSON_TOKEN_NUMBER && token != NULL && !number_is_sane(token))
		p->claims->no_jsonb = true;
	if (p->depth == 1 && tokentype == JSON_TOKEN_STRING && token != NULL)
	{
		if (p->field == CLAIM_SUB)
			claims_set_sub(p->claims, token);
		else if (p->field == CLAIM_ROLE)
			strlcpy(p->claims->role, token, NAMEDATALEN);
	}
	p->field = CLAIM_NONE;
	COMPAT_JSON_RETURN;
}

/* The parser recurses and then raises; look before it does. */
static bool
claims_too_deep(const char *s)
{
	int			depth = 0;
	bool		in_string = false;

	for (; *s; s++)
	{
		if (in_string)
		{
			if (*s == '\\' && s[1] != '\0')
				s++;
			else if (*s == '"')
				in_string = false;
		}
		else if (*s == '"')
			in_string = true;
		else if (*s == '{' || *s == '[')
		{
			if (++depth > CLAIMS_MAX_DEPTH)
				return true;
		}
		else if (*s == '}' || *s == ']')
			depth--;
	}
	return false;
}

/* The number of an escape, which begins here; -1: none is here. */
static int
escaped_character(const char *s)
{
	int			result = 0;

	if (s[0] != '\\' || s[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		if (!isxdigit((unsigned char) s[i]))
			return -1;
		result = result << 4 | (isdigit((unsigned char) s[i]) ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
	}
	return result;
}

/*
 * In a database that is not in UTF8 the parser converts what an escape stands
 * for. Where the encoding has no such character 15 raises, and others take the
 * whole text for malformed. Who somebody is is written in ASCII, so for that
 * another character does as well; half a surrogate pair stays an error.
 */
static void
replace_escapes(char *s, Claims *claims)
{
	while ((s = strchr(s, '\\')) != NULL)
	{
		int			c = escaped_character(s);
		int			next = c < 0 ? -1 : escaped_character(s + 6);
		bool		pair = c >= 0xD800 && c <= 0xDBFF && next >= 0xDC00 && next <= 0xDFFF;

		if (c < 0)
		{
			s += s[1] == '\0' ? 1 : 2;
			continue;
		}
		if (pair || (c > 0x7F && (c < 0xD800 || c > 0xDFFF)))
		{
			claims->no_jsonb = true;
			memcpy(s, "\\u003f", 6);
			if (pair)
				memcpy(s + 6, "\\u003f", 6);
		}
		s += pair ? 12 : 6;
	}
}

static void
claims_parse(const char *json, Claims *claims)
{
	MemoryContext scratch;
	MemoryContext old;
	JsonSemAction sem;
	ClaimsParse parse;
	char	   *text;

	claims->present = true;
	if (claims_too_deep(json))
	{
		claims->malformed = true;
		return;
	}

	scratch = AllocSetContextCreate(CurrentMemoryContext,
									"invite_sync claims",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(scratch);

	memset(&parse, 0, sizeof(parse));
	parse.claims = claims;
	text = pstrdup(json);
	if (GetDatabaseEncoding() != PG_UTF8)
		replace_escapes(text, claims);
	parse.lex = compat_json_lex(text, strlen(text), GetDatabaseEncoding());

	memset(&sem, 0, sizeof(sem));
	sem.semstate = &parse;
	sem.object_start = claims_object_start;
	sem.object_end = claims_container_end;
	sem.array_start = claims_container_start;
	sem.array_end = claims_container_end;
	sem.object_field_start = claims_field_start;
	sem.scalar = claims_scalar;

	if (pg_parse_json(parse.lex, &sem) != JSON_SUCCESS || !parse.top_is_object)
	{
		claims->malformed = true;
		claims->has_sub = false;
		claims->external[0] = '\0';
		claims->role[0] = '\0';
	}
	/* with another character in it, it is another's id */
	if (claims->no_jsonb && GetDatabaseEncoding() != PG_UTF8)
		claims->external[0] = '\0';

	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/*
 * What the request says of itself. Where another module owns the settings we
 * hear of no change, so the text is read again every time: slower, never
 * stale.
 */
static const Claims *
claims_get(void)
{
	const char *json;
	const char *legacy;

	if (caller_claims_heard && claims_cache_version == caller_claims_changes)
		return &claims_cache;

	json = claims_hooked ? claims_setting : GetConfigOption(CLAIMS_GUC, true, false);
	legacy = legacy_hooked ? legacy_sub_setting : GetConfigOption(LEGACY_SUB_GUC, true, false);

	memset(&claims_cache, 0, sizeof(claims_cache));
	if (json != NULL && json[0] != '\0')
		claims_parse(json, &claims_cache);
	else if (legacy != NULL && legacy[0] != '\0')
	{
		claims_cache.present = true;
		claims_set_sub(&claims_cache, legacy);
		claims_cache.malformed = !claims_cache.has_sub && claims_cache.external[0] == '\0';
	}
	claims_cache_version = caller_claims_changes;
	return &claims_cache;
}

/* Everything that jsonb_in could raise for has been looked for before it is called. */
Jsonb *
caller_claims_jsonb(void)
{
	const Claims *claims = claims_get();
	const char *json;

	if (!claims->present || claims->malformed || claims->no_jsonb)
		return NULL;
	json = claims_hooked ? claims_setting : GetConfigOption(CLAIMS_GUC, true, false);
	if (json == NULL || json[0] == '\0' || strlen(json) > CLAIMS_MAX_JSONB)
		return NULL;
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/* ---------------------------------------------------------------------
 * Who is asking
 * ---------------------------------------------------------------------
 */

static SavedPlan operator_plan = {
	.sql = "SELECT o.role, o.role_id, o.registered_in FROM invite_sync.operator AS o WHERE o.active",
	.nargs = 0
};

static bool
extension_owner_is(Oid role)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		result = false;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("invite_sync"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result = ((Form_pg_extension) GETSTRUCT(tuple))->extowner == role;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

bool
caller_role_is_operator(Oid role)
{
	Scope		scope;
	bool		result = false;
	uint64		i;
	char	   *lineage;

	if (superuser_arg(role) || extension_owner_is(role))
		return true;
	lineage = caller_lineage(InvalidSnapshot);

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&operator_plan, NULL, NULL, true, 0);
	for (i = 0; i < SPI_processed && !result; i++)
	{
		bool		isnull;
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Oid			oid;

		/* the number leads where it is true, else (after a restore) the name */
		if (caller_same_lineage(SPI_getvalue(row, desc, 3), lineage))
			oid = DatumGetObjectId(SPI_getbinval(row, desc, 2, &isnull));
		else
			oid = get_role_oid(SPI_getvalue(row, desc, 1), true);

		/* not is_member_of_role(): what NOINHERIT holds back stays back */
		result = OidIsValid(oid) && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(oid)) &&
			has_privs_of_role(role, oid);
	}
	scope_leave(&scope);
	SPI_finish();
	return result;
}

Oid			caller_probed_role = InvalidOid;

/* What a probe fires must not find the one who asked for it at the end of the line. */
static Oid
outer_role(void)
{
	return OidIsValid(caller_probed_role) ? caller_probed_role : GetOuterUserId();
}

/*
 * A security definer function lends its owner's rights in a restricted operation
 * as anywhere, and anybody who may make a temporary table can start one: an index
 * on it runs a function of theirs. So of the two roles it is the lesser.
 */
Oid
caller_role(void)
{
	Oid			current = GetUserId();
	Oid			outer = outer_role();

	if (!InSecurityRestrictedOperation() || has_privs_of_role(current, outer))
		return outer;
	return current;
}

/*
 * Who the claims say it is. An id of another provider's is looked up anew each
 * time: it is the same person only as long as our table says so.
 */
static bool
claims_user(const Claims *claims, pg_uuid_t *user_id)
{
	if (claims->malformed)
		return false;
	if (claims->has_sub)
	{
		*user_id = claims->sub;
		return true;
	}
	return claims->external[0] != '\0' && caller_external_user_hook != NULL &&
		caller_external_user_hook(claims->external, user_id);
}

static bool
role_is_service(Oid role)
{
	Oid			service_role = get_role_oid("service_role", true);

	return OidIsValid(service_role) && role == service_role;
}

void
caller_get(Caller *caller)
{
	const Claims *claims = claims_get();
	Oid			role = caller_role();
	Oid			outer = outer_role();
	Oid			anon_role = get_role_oid("anon", true);
	bool		is_operator = false;
	bool		privileged = false;

	memset(caller, 0, sizeof(*caller));
	caller->role = role;
	caller->outer_role = outer;

	/* with other claims nobody is privileged, whatever the role */
	if (!claims->present || strcmp(claims->role, "service_role") == 0)
	{
		is_operator = caller_role_is_operator(role);
		privileged = is_operator || role_is_service(role);
		if (privileged && outer != role)
		{
			bool		outer_is_operator = caller_role_is_operator(outer);

			is_operator = is_operator && outer_is_operator;
			privileged = outer_is_operator || role_is_service(outer);
		}
	}

	if (privileged)
	{
		caller->kind = CALLER_SERVICE;
		caller->is_operator = is_operator;
	}
	else if ((OidIsValid(anon_role) && role == anon_role) ||
			 strcmp(claims->role, "anon") == 0)
		caller->kind = CALLER_ANON;
	else if (strcmp(claims->role, "service_role") != 0 && claims_user(claims, &caller->user_id))
	{
		caller->kind = CALLER_USER;
		caller->has_user = true;
	}
	else
		caller->kind = CALLER_NOBODY;
}

void
caller_require_operator(void)
{
	Caller		caller;

	caller_get(&caller);
	if (!caller.is_operator)
		refuse("not_permitted", NULL,
			   "Only operators may do this: a superuser can name one with invite_sync.grant_operator().");
}

void
caller_require_service(void)
{
	Caller		caller;

	caller_get(&caller);
	if (caller.kind != CALLER_SERVICE)
		refuse("not_permitted", NULL,
			   "Only service_role and operators may do this.");
}

Datum
caller_is_operator(PG_FUNCTION_ARGS)
{
	Caller		caller;

	caller_get(&caller);
	PG_RETURN_BOOL(caller.is_operator);
}

Datum
caller_require_operator_sql(PG_FUNCTION_ARGS)
{
	caller_require_operator();
	PG_RETURN_BOOL(true);
}

/* For what only a superuser can do, through whatever wrapper it is asked. */
Datum
caller_require_superuser_sql(PG_FUNCTION_ARGS)
{
	Caller		caller;

	caller_get(&caller);
	if (!caller.is_operator || !superuser_arg(caller.role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser may grant rights on the extension invite_sync"),
				 errhint("Connect as the superuser who installed it (on Supabase: supabase_admin).")));
	PG_RETURN_BOOL(true);
}

/* For what runs with the caller's own rights: they must not be lent. */
Datum
caller_require_direct_sql(PG_FUNCTION_ARGS)
{
	if (GetUserId() != caller_role())
		refuse("not_permitted", NULL,
			   "Call it yourself: it runs with the caller's rights, and not with those of a security definer function.");
	PG_RETURN_BOOL(true);
}

Datum
caller_require_service_sql(PG_FUNCTION_ARGS)
{
	caller_require_service();
	PG_RETURN_BOOL(true);
}

static SavedPlan user_state_plan = {
	.sql = "SELECT u.deleted_at IS NULL AND (u.banned_until IS NULL OR u.banned_until <= pg_catalog.now()), "
	"u.is_anonymous FROM " CALLER_AUTH_USERS " AS u WHERE u.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

void
caller_auth_user_state(const pg_uuid_t *user_id, AuthUserState *state)
{
	Scope		scope;
	Datum		values[1];

	memset(state, 0, sizeof(*state));
	if (!OidIsValid(caller_auth_users_relid(true)))
		return;

	values[0] = UUIDPGetDatum(user_id);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_lookup(&user_state_plan, values, NULL, true, 1);
	if (SPI_processed == 1)
	{
		bool		isnull;

		state->exists = true;
		state->usable = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 1, &isnull));
		state->anonymous = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
													  SPI_tuptable->tupdesc, 2, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * Scopes
 * ---------------------------------------------------------------------
 */

char *
caller_database_identity(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

static SavedPlan lineage_plan = {
	.sql = "SELECT l.id::pg_catalog.text FROM invite_sync.lineage AS l",
	.nargs = 0
};

char *
caller_lineage(Snapshot snapshot)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *lineage = NULL;
	Scope		scope;

	/* objects of another version: no number is believed, names do */
	if (!OidIsValid(get_relname_relid("lineage", caller_extension_schema())))
		return pstrdup("");
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute_snapshot(&lineage_plan, NULL, NULL, snapshot, true, 1);
	if (SPI_processed == 1)
		lineage = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	lineage = MemoryContextStrdup(cxt, lineage != NULL ? lineage : "");
	scope_leave(&scope);
	SPI_finish();
	return lineage;
}

bool
caller_same_lineage(const char *registered_in, const char *lineage)
{
	return registered_in != NULL && lineage[0] != '\0' && strcmp(registered_in, lineage) == 0;
}

PG_FUNCTION_INFO_V1(caller_database_lineage);

Datum
caller_database_lineage(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(caller_lineage(InvalidSnapshot)));
}

PG_FUNCTION_INFO_V1(caller_stamp_lineage);

/*
 * BEFORE INSERT row trigger on tables that remember numbers. Who inserts here
 * and now leaves the stamp to us. A row that brings ours along was dumped from
 * a relative (both were made from one template that had the extension already,
 * or it was dumped from here), and its numbers may be anybody's by now.
 */
Datum
caller_stamp_lineage(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	TupleDesc	desc;
	int			att;
	char	   *registered_in;
	char	   *lineage;
	Datum		value;
	bool		isnull = false;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger before each row's INSERT")));
	tuple = trigdata->tg_trigtuple;
	desc = RelationGetDescr(trigdata->tg_relation);
	att = SPI_fnumber(desc, "registered_in");
	if (att <= 0)
		return PointerGetDatum(tuple);
	registered_in = SPI_getvalue(tuple, desc, att);
	lineage = caller_lineage(InvalidSnapshot);
	if (registered_in == NULL)
		value = CStringGetTextDatum(lineage);
	else if (caller_same_lineage(registered_in, lineage))
		value = CStringGetTextDatum("");
	else
		return PointerGetDatum(tuple);
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, 1, &att, &value, &isnull));
}

Oid
caller_extension_schema(void)
{
	return get_namespace_oid("invite_sync", false);
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Taken from the table and not from the role's name: whoever owns our tables
 * is who can use them. A superuser must not: triggers of others would run as
 * it.
 */
Oid
caller_own_role(void)
{
	Oid			relid = get_relname_relid("operator", caller_extension_schema());
	Oid			owner;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"invite_sync.operator\" does not exist"),
				 errhint("Is the extension invite_sync installed in this database?")));
	owner = relation_owner(relid);
	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the tables of invite_sync belong to a superuser"),
				 errhint("Give them back: ALTER TABLE invite_sync.operator OWNER TO invite_sync_owner, and so for every table of the schema.")));
	return owner;
}

Oid
caller_auth_users_relid(bool missing_ok)
{
	Oid			nsp = get_namespace_oid("auth", true);
	Oid			relid = OidIsValid(nsp) ? get_relname_relid("users", nsp) : InvalidOid;

	if (!OidIsValid(relid) && !missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"auth.users\" does not exist"),
				 errhint("Start the auth server once so that it makes its schema, or call invite_sync.create_auth_schema().")));
	return relid;
}

/* As with our own tables: nothing of ours runs as a superuser. */
Oid
caller_auth_owner(void)
{
	Oid			owner = relation_owner(caller_auth_users_relid(false));

	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("auth.users belongs to a superuser"),
				 errdetail("Triggers of others on it would run as that superuser."),
				 errhint("ALTER TABLE auth.users OWNER TO supabase_auth_admin;")));
	return owner;
}

static void
scope_enter(Scope *scope, Oid userid, int extra_sec_context, const char *search_path,
			int guc_level)
{
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	SetUserIdAndSecContext(userid,
						   scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   extra_sec_context);
	scope->guc_level = guc_level;
	(void) set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* text that was checked must be read again the way it was read then */
	if (!standard_conforming_strings)
		(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (Transform_null_equals)
		(void) set_config_option("transform_null_equals", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (quote_all_identifiers)
		(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void
scope_enter_own(Scope *scope)
{
	Oid			role = caller_own_role();

	scope_enter(scope, role, 0, "pg_catalog, pg_temp", NewGUCNestLevel());
}

void
scope_enter_auth(Scope *scope)
{
	Oid			role = caller_auth_owner();

	scope_enter(scope, role, 0, "pg_catalog, pg_temp", NewGUCNestLevel());
}

void
scope_enter_target(Scope *scope, Oid owner, const char *search_path)
{
	scope_enter_target_at(scope, owner, search_path, NewGUCNestLevel());
}

void
scope_enter_target_at(Scope *scope, Oid owner, const char *search_path, int guc_level)
{
	scope_enter(scope, owner, SECURITY_RESTRICTED_OPERATION, search_path, guc_level);
}

void
scope_leave(Scope *scope)
{
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
}

/* ---------------------------------------------------------------------
 * Refusals
 * ---------------------------------------------------------------------
 */

typedef struct Reason
{
	const char *word;
	const char *sqlstate;
	const char *message;
} Reason;

/* MESSAGE becomes the HTTP reason phrase: fixed, ASCII, nothing of anybody's. */
static const Reason reasons[] = {
	{"email_malformed", "PT400", "email address is malformed"},
	{"role_unknown", "PT400", "role is unknown"},
	{"data_malformed", "PT400", "data is malformed"},
	{"window_malformed", "PT400", "time window is malformed"},
	{"name_malformed", "PT400", "name is malformed"},
	{"slug_malformed", "PT400", "slug is malformed"},
	{"hierarchy_cycle", "PT400", "organization would be its own ancestor"},
	{"seats_below_usage", "PT400", "seat limit is below the seats in use"},
	{"password_weak", "PT400", "password is too weak"},
	{"not_authenticated", "PT401", "not authenticated"},
	{"seats_exhausted", "PT402", "no seats left"},
	{"not_permitted", "PT403", "not permitted"},
	{"escalation", "PT403", "cannot give or take more than the caller has"},
	{"email_mismatch", "PT403", "invitation is for another email address"},
	{"email_unverified", "PT403", "email address is not verified"},
	{"domain_not_allowed", "PT403", "email domain is not allowed"},
	{"device_mismatch", "PT403", "invitation is bound to another device"},
	{"mfa_required", "PT403", "multi-factor authentication required"},
	{"anonymous_user", "PT403", "anonymous users may not do this"},
	{"user_banned", "PT403", "user is banned"},
	{"migration_required", "PT403", "account must be migrated first"},
	{"invitation_unknown", "PT404", "invitation is unknown"},
	{"organization_unknown", "PT404", "organization is unknown"},
	{"user_unknown", "PT404", "user is unknown"},
	{"member_unknown", "PT404", "member is unknown"},
	{"domain_unknown", "PT404", "domain is unknown"},
	{"join_request_unknown", "PT404", "join request is unknown"},
	{"already_member", "PT409", "already a member"},
	{"already_invited", "PT409", "already invited"},
	{"user_exists", "PT409", "user exists already"},
	{"has_children", "PT409", "organization has organizations below it"},
	{"last_owner", "PT409", "organization would lose its last owner"},
	{"slug_taken", "PT409", "slug is taken"},
	{"domain_taken", "PT409", "domain is taken"},
	{"role_exists", "PT409", "role exists already"},
	{"role_in_use", "PT409", "role is in use"},
	{"idempotency_conflict", "PT409", "idempotency key was used for something else"},
	{"invitation_expired", "PT410", "invitation has expired"},
	{"invitation_used", "PT410", "invitation was used already"},
	{"invitation_revoked", "PT410", "invitation was revoked"},
	{"invitation_declined", "PT410", "invitation was declined"},
	{"rate_limited", "PT429", "too many requests"},
	{"quota_exhausted", "PT429", "invitation quota is used up"}
};

static const Reason *
find_reason(const char *word)
{
	for (size_t i = 0; i < lengthof(reasons); i++)
		if (strcmp(reasons[i].word, word) == 0)
			return &reasons[i];
	return NULL;
}

void
refuse(const char *reason, const char *detail, const char *hint)
{
	const Reason *found = find_reason(reason);
	const char *state;

	if (found == NULL)
		elog(ERROR, "unknown refusal \"%s\"", reason);

	if (invite_sync_log_refusals)
		ereport(LOG,
				(errmsg("invite_sync refused: %s%s%s", reason,
						detail ? " " : "", detail ? detail : ""),
				 errhidestmt(true), errhidecontext(true)));

	state = found->sqlstate;
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
			 errmsg_internal("%s", found->message),
			 errdetail_internal("%s%s%s", reason,
								detail ? " " : "", detail ? detail : ""),
			 hint ? errhint("%s", hint) : 0));
}

void
caller_refuse_null(bool isnull, const char *argument, const char *hint)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", argument),
				 hint ? errhint("%s", hint) : 0));
}

PG_FUNCTION_INFO_V1(caller_refuse_sql);

/* For the triggers that are written in plpgsql. */
Datum
caller_refuse_sql(PG_FUNCTION_ARGS)
{
	char	   *arg[3];

	for (int i = 0; i < 3; i++)
		arg[i] = PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
	if (find_reason(arg[0] ? arg[0] : "") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no such reason word")));
	refuse(arg[0] ? arg[0] : "", arg[1], arg[2]);
	PG_RETURN_BOOL(false);
}

bool
caller_must_rethrow(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_DATABASE_DROPPED:
		case ERRCODE_IDLE_SESSION_TIMEOUT:
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_OUT_OF_MEMORY:
		case ERRCODE_DISK_FULL:
		case ERRCODE_IO_ERROR:
		case ERRCODE_DATA_CORRUPTED:
		case ERRCODE_INDEX_CORRUPTED:
			return true;
		default:
			return false;
	}
}

/* ---------------------------------------------------------------------
 * Load
 * ---------------------------------------------------------------------
 */

/*
 * A custom setting can be defined by one module only. Ours must be the first,
 * or the setting must be a mere placeholder; else we read it by name.
 */
static bool
define_request_setting(const char *name, const char *description, char **variable)
{
	if (GetConfigOption(name, true, false) != NULL &&
		(GetConfigOptionFlags(name, true) & GUC_CUSTOM_PLACEHOLDER) == 0)
		return false;

	DefineCustomStringVariable(name, description, NULL, variable, "",
							   PGC_USERSET, 0, NULL, claims_assign_hook, NULL);
	return true;
}

void
caller_init(void)
{
	claims_hooked = define_request_setting(CLAIMS_GUC,
										   "Claims of the request's token, set by PostgREST.",
										   &claims_setting);
	legacy_hooked = define_request_setting(LEGACY_SUB_GUC,
										   "Subject of the request's token, as older versions of PostgREST set it.",
										   &legacy_sub_setting);
	caller_claims_heard = claims_hooked && legacy_hooked;
}
