/*-------------------------------------------------------------------------
 *
 * organization.c
 *	  Tenants: their tree, what may be asked of them, and the order in which
 *	  they are locked.
 *
 * Every function here follows one pattern: establish who asks, refuse what
 * they may not, lock in the one order, look again (what was read before the
 * lock may be over), write in the own scope, log the event.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/detoast.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "caller.h"
#include "event.h"
#include "organization.h"
#include "plan.h"

#define PAGE_SIZE_MAX			500
#define LOCK_TIMEOUT_DEFAULT	"5s"
#define LOCK_ATTEMPTS			10
#define DEPTH_MAX				8
#define SLUG_ATTEMPTS			20
#define RELEASE_KEYS_MAX		8
#define COLUMN_BYTES_MAX		(1024 * 1024)	/* more than 64 kB of JSON can take as jsonb */

PG_FUNCTION_INFO_V1(organization_create);
PG_FUNCTION_INFO_V1(organization_get);
PG_FUNCTION_INFO_V1(organization_update);
PG_FUNCTION_INFO_V1(organization_move);
PG_FUNCTION_INFO_V1(organization_delete);
PG_FUNCTION_INFO_V1(organization_mine);
PG_FUNCTION_INFO_V1(organization_list);
PG_FUNCTION_INFO_V1(organization_set_seats);
PG_FUNCTION_INFO_V1(organization_set_limits);
PG_FUNCTION_INFO_V1(organization_seat_usage);
PG_FUNCTION_INFO_V1(organization_removed);

void		(*organization_authority_hook) (const pg_uuid_t *user_id,
											const pg_uuid_t *organization_id,
											bool fresh, Authority *authority) = NULL;
void		(*organization_members_changed_hook) (const pg_uuid_t *user_ids, int nusers) = NULL;
void		(*organization_removed_hook) (const pg_uuid_t *organization_ids, int norganizations) = NULL;

/* ---------------------------------------------------------------------
 * Who may
 * ---------------------------------------------------------------------
 */

void
organization_actor(Caller *caller)
{
	AuthUserState state;

	caller_get(caller);
	if (caller->kind == CALLER_SERVICE)
		return;
	if (caller->kind != CALLER_USER)
		refuse("not_authenticated", NULL, "Sign in first.");
	caller_auth_user_state(&caller->user_id, &state);
	if (!state.exists)
		refuse("not_authenticated", NULL, "The user of this session does not exist any more.");
	if (!state.usable)
		refuse("user_banned", NULL, NULL);
	if (state.anonymous)
		refuse("anonymous_user", NULL, "Sign up first.");
}

static void
require(const Caller *caller, const pg_uuid_t *organization_id, const char *permission,
		bool fresh, Authority *authority)
{
	Authority	mine;
	pg_uuid_t	nobody;

	memset(&nobody, 0, sizeof(nobody));
	organization_authority_hook(caller->has_user ? &caller->user_id : &nobody, organization_id, fresh, &mine);
	if (authority != NULL)
		*authority = mine;
	if (!mine.exists || (!mine.member && caller->kind != CALLER_SERVICE))
		refuse("organization_unknown", NULL, NULL);
	if (permission != NULL && caller->kind != CALLER_SERVICE)
	{
		Datum		word = CStringGetTextDatum(permission);
		ArrayType  *one = construct_array(&word, 1, TEXTOID, -1, false, TYPALIGN_INT);

		if (!organization_covers(caller, &mine, one))
			refuse("not_permitted", NULL, NULL);
	}
}

void
organization_require(const Caller *caller, const pg_uuid_t *organization_id,
					 const char *permission, Authority *authority)
{
	require(caller, organization_id, permission, true, authority);
}

void
organization_require_stable(const Caller *caller, const pg_uuid_t *organization_id,
							const char *permission, Authority *authority)
{
	require(caller, organization_id, permission, false, authority);
}

bool
organization_covers(const Caller *caller, const Authority *authority, ArrayType *permissions)
{
	if (caller->kind == CALLER_SERVICE)
		return true;
	return DatumGetBool(OidFunctionCall2Coll(F_ARRAYCONTAINS, C_COLLATION_OID,
											 PointerGetDatum(authority->permissions),
											 PointerGetDatum(permissions)));
}

/* ---------------------------------------------------------------------
 * Locks
 * ---------------------------------------------------------------------
 */

static SavedPlan lock_users_plan = {
	.sql = "SELECT u.id FROM auth.users AS u WHERE u.id = ANY ($1) ORDER BY u.id FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan paths_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(DISTINCT p.id ORDER BY p.id), '{}') "
	"FROM pg_catalog.unnest($1) AS x (id) CROSS JOIN LATERAL invite_sync.organization_path(x.id) AS p",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan lock_plan = {
	.sql = "SELECT o.id FROM invite_sync.organization AS o WHERE o.id = ANY ($1) ORDER BY o.id FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan touch_plan = {
	.sql = "UPDATE invite_sync.organization AS o SET revision = o.revision + 1 "
	"WHERE o.id IN (SELECT x.id FROM pg_catalog.unnest($1) AS x (id) "
	"UNION SELECT invite_sync.seat_pool(x.id) FROM pg_catalog.unnest($1) AS x (id))",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* The organizations and all above them, as a uuid[]; in SPI and the own scope. */
static Datum
read_paths(Datum ids)
{
	bool		isnull;
	Datum		result;

	plan_lookup(&paths_plan, &ids, NULL, false, 1);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return result;
}

/* arg: the ids, as a uuid[]. false: the tree is another one now, and nothing is to stay locked. */
static bool
try_lock_paths(void *arg)
{
	Datum		ids = *(Datum *) arg;
	Scope		scope;
	Datum		before;
	bool		same;

	SPI_connect();
	scope_enter_own(&scope);
	before = read_paths(ids);
	plan_lookup(&lock_plan, &before, NULL, false, 0);
	same = DatumGetBool(OidFunctionCall2(F_ARRAY_EQ, before, read_paths(ids)));
	scope_leave(&scope);
	SPI_finish();
	return same;
}

/*
 * Where one of them moves between being read and being locked, the locks are
 * given back (a subtransaction's are) and taken again in the order of the new
 * tree: to lock one more out of turn could deadlock.
 */
static void
lock_paths(Datum ids)
{
	for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++)
		if (plan_attempted(try_lock_paths, &ids))
			return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not lock the organizations: they keep being moved"),
			 errhint("Try the transaction again.")));
}

static void
lock_users(const pg_uuid_t *user_ids, int nusers)
{
	Datum		ids = plan_uuid_array(user_ids, nusers);
	Scope		scope;

	SPI_connect();
	scope_enter_auth(&scope);
	plan_lookup(&lock_users_plan, &ids, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/* once: without a subtransaction of its own; false: the tree is another one now. */
static bool
lock_all(const pg_uuid_t *user_ids, int nusers,
		 const pg_uuid_t *organization_ids, int norganizations, bool once)
{
	int			guc_level = NewGUCNestLevel();
	bool		same = true;

	if (LockTimeout <= 0)
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT_DEFAULT, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (nusers > 0)
		lock_users(user_ids, nusers);
	if (norganizations > 0)
	{
		Datum		ids = plan_uuid_array(organization_ids, norganizations);

		if (once)
			same = try_lock_paths(&ids);
		else
			lock_paths(ids);
	}
	AtEOXact_GUC(false, guc_level);
	return same;
}

void
organization_lock(const pg_uuid_t *user_ids, int nusers,
				  const pg_uuid_t *organization_ids, int norganizations)
{
	(void) lock_all(user_ids, nusers, organization_ids, norganizations, false);
}

bool
organization_lock_once(const pg_uuid_t *user_ids, int nusers,
					   const pg_uuid_t *organization_ids, int norganizations)
{
	return lock_all(user_ids, nusers, organization_ids, norganizations, true);
}

void
organization_touch(const pg_uuid_t *organization_ids, int norganizations)
{
	Scope		scope;
	Datum		ids = plan_uuid_array(organization_ids, norganizations);

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&touch_plan, &ids, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * Lists
 * ---------------------------------------------------------------------
 */

static void
bad_cursor(void)
{
	refuse("data_malformed", "argument=after", "Pass the cursor of the last row of the page before.");
}

/* "<microseconds since 2000>.<uuid>", what the lists put into the column cursor */
bool
organization_cursor(text *after, TimestampTz *at, pg_uuid_t *id)
{
	char	   *s;
	char	   *end;

	if (after == NULL)
		return false;
	s = text_to_cstring(after);
	errno = 0;
	*at = strtoi64(s, &end, 10);
	if (errno != 0 || end == s || *end != '.' || !caller_parse_uuid(end + 1, id))
		bad_cursor();
	return true;
}

int
organization_page_size(FunctionCallInfo fcinfo, int arg)
{
	int			size = PG_ARGISNULL(arg) ? 50 : PG_GETARG_INT32(arg);

	if (size < 1 || size > PAGE_SIZE_MAX)
		refuse("data_malformed", "argument=page_size", "Ask for 1 to 500 rows.");
	return size;
}

/* ---------------------------------------------------------------------
 * What the functions have in common
 * ---------------------------------------------------------------------
 */

static void
actor_service(Caller *caller)
{
	caller_get(caller);
	if (caller->kind != CALLER_SERVICE)
		refuse("not_permitted", NULL, "Only service_role and operators may do this.");
}

/* The type organization_result. */
#define ORGANIZATION_COLUMNS \
	"o.id, o.name, o.slug, o.parent_id, o.settings, o.seat_limit, o.bonus_seats, " \
	"o.max_concurrent_sessions, o.region, o.created_by, o.created_at, o.updated_at"

pg_uuid_t *
organization_uuid_arg(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		refuse("data_malformed", psprintf("argument=%s", name), NULL);
	return PG_GETARG_UUID_P(arg);
}

static bool
same_uuid(const pg_uuid_t *a, const pg_uuid_t *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return memcmp(a, b, sizeof(pg_uuid_t)) == 0;
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* As JSON. */
static char *
uuid_json(const pg_uuid_t *id)
{
	return id ? psprintf("\"%s\"", uuid_text(id)) : "null";
}

void
organization_event(const Caller *caller, const char *action, const pg_uuid_t *organization_id,
				   const char *data)
{
	Jsonb	   *json = NULL;

	if (data != NULL)
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(data)));
	(void) event_append("admin", action, caller->has_user ? &caller->user_id : NULL, organization_id,
						"organization", uuid_text(organization_id), json);
}

static SavedPlan user_state_plan = {
	.sql = "SELECT u.deleted_at IS NULL AND (u.banned_until IS NULL OR u.banned_until <= pg_catalog.now()), "
	"u.is_anonymous FROM " CALLER_AUTH_USERS " AS u WHERE u.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

void
organization_user_state(const pg_uuid_t *user_id, AuthUserState *state)
{
	Scope		scope;
	Datum		value = UUIDPGetDatum(user_id);
	bool		isnull;

	memset(state, 0, sizeof(*state));
	if (!OidIsValid(caller_auth_users_relid(true)))
		return;
	SPI_connect();
	scope_enter_auth(&scope);
	plan_lookup(&user_state_plan, &value, NULL, false, 1);
	if (SPI_processed == 1)
	{
		state->exists = true;
		state->usable = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		state->anonymous = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

/*
 * One statement in the own scope, in SPI; how many rows it touched.
 *
 * Before 18 the AFTER triggers that a foreign key's CASCADE sets off on the
 * tables of others run as whoever ended the statement, and as the owner of our
 * tables they could do anything to them. So the statement's triggers are fired
 * in a second step, as fire_as. Triggers of our own that may be among them enter
 * the own scope themselves.
 */
static uint64
execute_firing_as(SPIPlanPtr plan, Datum *values, const char *nulls, Oid fire_as)
{
	Scope		scope;
	EState	   *estate;
	uint64		rows;
	int			rc;

	AfterTriggerBeginQuery();
	scope_enter_own(&scope);
	rc = SPI_execute_snapshot(plan, values, nulls, InvalidSnapshot, InvalidSnapshot, false, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
	rows = SPI_processed;
	scope_leave(&scope);

	scope_enter_target(&scope, fire_as, "pg_catalog, pg_temp");
	estate = CreateExecutorState();
	AfterTriggerEndQuery(estate);
	ExecResetTupleTable(estate->es_tupleTable, false);
	ExecCloseResultRelations(estate);
	FreeExecutorState(estate);
	scope_leave(&scope);
	return rows;
}

/* A statement, and who its triggers are fired as; InvalidOid: nobody's triggers can be set off. */
typedef struct UniqueTry
{
	SavedPlan  *plan;
	Datum	   *values;
	const char *nulls;
	Oid			fire_as;
} UniqueTry;

static void
run_unique(void *arg)
{
	UniqueTry  *t = (UniqueTry *) arg;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(t->plan));
	if (OidIsValid(t->fire_as))
	{
		SPIPlanPtr	saved = plan_get(t->plan);

		scope_leave(&scope);
		(void) execute_firing_as(saved, t->values, t->nulls, t->fire_as);
	}
	else
	{
		plan_execute(t->plan, t->values, t->nulls, false, 0);
		scope_leave(&scope);
	}
	SPI_finish();
}

/* false: nothing done, because it met a unique constraint. */
static bool
try_unique(SavedPlan *plan, Datum *values, const char *nulls, Oid fire_as)
{
	UniqueTry	t = {.plan = plan,.values = values,.nulls = nulls,.fire_as = fire_as};
	ErrorData  *edata = plan_contained(run_unique, &t, true);

	if (edata == NULL)
		return true;
	/* not one of a table that follows ours */
	if (edata->sqlerrcode != ERRCODE_UNIQUE_VIOLATION || edata->schema_name == NULL ||
		strcmp(edata->schema_name, "invite_sync") != 0)
		ReThrowError(plan_lasting(edata));
	FreeErrorData(edata);
	return false;
}

bool
organization_try_unique(SavedPlan *plan, Datum *values, const char *nulls)
{
	return try_unique(plan, values, nulls, InvalidOid);
}

/*
 * Rows of a query on pg_constraint (owner, whether a superuser, ..., name): the
 * one owner of all these tables, for execute_firing_as(). Where they are several,
 * nobody's code may run as another's owner, so it is a role that can do as good
 * as nothing.
 */
static Oid
owner_of_references(SPITupleTable *references, uint64 n, int name_column)
{
	Oid			result = InvalidOid;

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Oid			owner = DatumGetObjectId(SPI_getbinval(references->vals[i], references->tupdesc, 1, &isnull));
		char	   *name = SPI_getvalue(references->vals[i], references->tupdesc, name_column);

		if (DatumGetBool(SPI_getbinval(references->vals[i], references->tupdesc, 2, &isnull)))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("table %s belongs to a superuser", name),
					 errdetail("Its foreign key on a table of invite_sync changes its rows, and triggers on them would run as that superuser."),
					 errhint("ALTER TABLE %s OWNER TO a role that is no superuser, or make its foreign key NO ACTION.", name)));
		if (!OidIsValid(result) || result == owner)
			result = owner;
		else
			result = ROLE_PG_CHECKPOINT;
	}
	return result;
}

/* One statement in the own scope whose result nobody needs; how many rows it touched. */
static uint64
run(SavedPlan *plan, Datum *values, const char *nulls)
{
	Scope		scope;
	uint64		rows;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, values, nulls, false, 0);
	rows = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	return rows;
}

Datum
organization_answer(FunctionCallInfo fcinfo, SavedPlan *plan, Datum *values, const char *nulls, bool read_only)
{
	Scope		scope;
	Datum		result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, values, nulls, read_only, 0);
	result = plan_result_row(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static SavedPlan get_plan = {
	.sql = "SELECT " ORGANIZATION_COLUMNS " FROM invite_sync.organization AS o WHERE o.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static Datum
answer_organization(FunctionCallInfo fcinfo, const pg_uuid_t *organization_id, bool read_only)
{
	Datum		value = UUIDPGetDatum(organization_id);

	return organization_answer(fcinfo, &get_plan, &value, NULL, read_only);
}

/* What the constraints of the table say, asked before they do. */
static SavedPlan check_plan = {
	.sql = "SELECT pg_catalog.btrim($1), CASE "
	"WHEN $1 IS NOT NULL AND (pg_catalog.char_length(pg_catalog.btrim($1)) NOT BETWEEN 1 AND 200 "
	"OR " ORGANIZATION_UNSEEN("$1") ") THEN 'name_malformed' "
	"WHEN pg_catalog.char_length($2) > 63 OR $2 !~ '^[a-z0-9]+(-[a-z0-9]+)*$' THEN 'slug_malformed' "
	"WHEN pg_catalog.jsonb_typeof($3) <> 'object' OR pg_catalog.octet_length($3::text) > 65536 THEN 'data_malformed' "
	"END",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, JSONBOID}
};

static void
refuse_column(const char *problem)
{
	if (strcmp(problem, "name_malformed") == 0)
		refuse(problem, NULL, "A name has 1 to 200 characters, and no control or invisible characters.");
	else if (strcmp(problem, "slug_malformed") == 0)
		refuse(problem, NULL, "A slug has a-z, 0-9 and single hyphens between them, and at most 63 characters.");
	else
		refuse(problem, "argument=settings", "Settings are a JSON object of at most 64 kB.");
}

/*
 * values and nulls: name, slug, settings; the name comes back without spaces
 * around it. What is far too long is refused by its size: trimming or printing
 * it could need more memory than there may be.
 */
static void
check_columns(Datum *values, const char *nulls)
{
	static const char *const too_long[] = {"name_malformed", "slug_malformed", "data_malformed"};
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	char	   *problem;
	bool		isnull;
	Datum		name;

	for (int i = 0; i < 3; i++)
		if (nulls[i] == ' ' && toast_raw_datum_size(values[i]) > COLUMN_BYTES_MAX)
			refuse_column(too_long[i]);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&check_plan, values, nulls, true, 1);
	problem = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (problem != NULL)
		refuse_column(problem);
	name = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		values[0] = PointerGetDatum(DatumGetTextPCopy(name));
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * Making one
 * ---------------------------------------------------------------------
 */

/* Letters with marks lose the marks; what is no a-z or 0-9 becomes a hyphen. */
static SavedPlan slug_plan = {
	.sql = "SELECT coalesce(nullif(pg_catalog.btrim(pg_catalog.left(pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.lower("
	"pg_catalog.regexp_replace(CASE WHEN pg_catalog.getdatabaseencoding() = 'UTF8' THEN pg_catalog.normalize($1, 'NFKD') ELSE $1 END, "
	"'[\\u0300-\\u036f]', '', 'g') COLLATE \"C\"), '[^a-z0-9]+', '-', 'g'), '-'), 63), '-'), ''), 'organization')",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/* The first that is free of slug, slug-2 ... slug-9, and slugs with eight random digits. */
static SavedPlan free_slug_plan = {
	.sql = "SELECT x.slug FROM (SELECT n, CASE WHEN n = 1 THEN $1 "
	"WHEN n < 10 THEN pg_catalog.rtrim(pg_catalog.left($1, 61), '-') || '-' || n "
	"ELSE pg_catalog.rtrim(pg_catalog.left($1, 54), '-') || '-' || pg_catalog.left(pg_catalog.gen_random_uuid()::text, 8) END AS slug "
	"FROM pg_catalog.generate_series(1, 12) AS n OFFSET 0) AS x "
	"WHERE NOT EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.slug = x.slug) ORDER BY x.n LIMIT 1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan insert_plan = {
	.sql = "INSERT INTO invite_sync.organization AS o (name, slug, parent_id, settings, created_by) "
	"VALUES ($1, $2, $4, coalesce($3, '{}'), $5) ON CONFLICT (slug) DO NOTHING RETURNING o.id",
	.nargs = 5,
	.argtypes = {TEXTOID, TEXTOID, JSONBOID, UUIDOID, UUIDOID}
};

static SavedPlan insert_owner_plan = {
	.sql = "INSERT INTO invite_sync.membership AS m (organization_id, user_id, role_id, added_by) "
	"SELECT $1, $2, r.id, $3 FROM invite_sync.role AS r WHERE r.name = 'owner' AND r.built_in",
	.nargs = 3,
	.argtypes = {UUIDOID, UUIDOID, UUIDOID}
};

static SavedPlan depth_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM invite_sync.organization_path($1)",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static int64
read_int(SavedPlan *plan, Datum value)
{
	Scope		scope;
	bool		isnull;
	int64		result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, &value, NULL, false, 1);
	result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static Datum
read_text(SavedPlan *plan, Datum value)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	bool		isnull;
	Datum		result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, &value, NULL, false, 1);
	if (SPI_processed != 1)
		elog(ERROR, "found no free slug");
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	old = MemoryContextSwitchTo(cxt);
	result = PointerGetDatum(DatumGetTextPCopy(result));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/* false: the slug is taken */
static bool
insert_organization(Datum *values, const char *nulls, pg_uuid_t *id)
{
	Scope		scope;
	bool		inserted;
	bool		isnull;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&insert_plan, values, nulls, false, 0);
	inserted = SPI_processed == 1;
	if (inserted)
		*id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	return inserted;
}

static void
refuse_depth(void)
{
	refuse("data_malformed", psprintf("depth_limit=%d", DEPTH_MAX),
		   "Choose a parent nearer to the top: organizations nest at most 8 levels deep.");
}

Datum
organization_create(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		values[5];
	char		nulls[5];
	pg_uuid_t  *parent = NULL;
	pg_uuid_t  *owner = NULL;
	pg_uuid_t	id;
	bool		slug_given = !PG_ARGISNULL(1);

	organization_actor(&caller);
	if (PG_ARGISNULL(0))
		refuse("data_malformed", "argument=name", NULL);
	if (!PG_ARGISNULL(2))
		parent = PG_GETARG_UUID_P(2);
	if (caller.kind == CALLER_SERVICE)
		owner = PG_ARGISNULL(4) ? NULL : PG_GETARG_UUID_P(4);
	else if (!PG_ARGISNULL(4))
		refuse("not_permitted", NULL, "You are the owner of the organizations you make: leave out owner_id.");
	else
		owner = &caller.user_id;

	for (int i = 0; i < 3; i++)
	{
		int			arg = i == 2 ? 3 : i;

		nulls[i] = PG_ARGISNULL(arg) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(arg) ? (Datum) 0 : PG_GETARG_DATUM(arg);
	}
	check_columns(values, nulls);

	if (parent != NULL)
		organization_require(&caller, parent, "organization.create_child", NULL);
	organization_lock(owner, owner ? 1 : 0, parent, parent ? 1 : 0);
	if (parent != NULL)
	{
		organization_require(&caller, parent, "organization.create_child", NULL);
		if (read_int(&depth_plan, UUIDPGetDatum(parent)) >= DEPTH_MAX)
			refuse_depth();
	}
	if (owner != NULL)
	{
		AuthUserState state;

		organization_user_state(owner, &state);
		if (!state.exists)
			refuse(caller.has_user ? "not_authenticated" : "user_unknown", NULL, NULL);
		if (!state.usable)
			refuse("user_banned", NULL, NULL);
		if (state.anonymous)
			refuse("anonymous_user", NULL, NULL);
	}

	nulls[3] = parent ? ' ' : 'n';
	values[3] = parent ? UUIDPGetDatum(parent) : (Datum) 0;
	nulls[4] = caller.has_user ? ' ' : 'n';
	values[4] = UUIDPGetDatum(&caller.user_id);
	if (slug_given)
	{
		if (!insert_organization(values, nulls, &id))
			refuse("slug_taken", NULL, "Choose another slug, or leave it out to have one made from the name.");
	}
	else
	{
		Datum		slug = read_text(&slug_plan, values[0]);

		nulls[1] = ' ';
		for (int attempt = 0;; attempt++)
		{
			if (attempt >= SLUG_ATTEMPTS)
				refuse("slug_taken", NULL, "Choose a slug.");
			values[1] = read_text(&free_slug_plan, slug);
			if (insert_organization(values, nulls, &id))
				break;
		}
	}

	if (owner != NULL)
	{
		Datum		member[3];
		char		member_nulls[3] = {' ', ' ', caller.has_user ? ' ' : 'n'};

		member[0] = UUIDPGetDatum(&id);
		member[1] = UUIDPGetDatum(owner);
		member[2] = UUIDPGetDatum(&caller.user_id);
		if (run(&insert_owner_plan, member, member_nulls) != 1)
			elog(ERROR, "the role of owners is missing");
	}
	/* it has one more below it, who may take one of its seats */
	if (parent != NULL)
		organization_touch(parent, 1);
	organization_event(&caller, "organization.created", &id,
					   psprintf("{\"parent_id\": %s, \"owner_id\": %s}", uuid_json(parent), uuid_json(owner)));
	if (owner != NULL && organization_members_changed_hook != NULL)
		organization_members_changed_hook(owner, 1);
	return answer_organization(fcinfo, &id, false);
}

/* An organization (or, whole: with all below it), and whoever is a member there. */
static SavedPlan tree_plan = {
	.sql = "WITH tree AS (SELECT s.id FROM invite_sync.organization_subtree($1) AS s WHERE $2 OR s.level = 0) "
	"SELECT (SELECT coalesce(pg_catalog.array_agg(d.id ORDER BY d.id), '{}') FROM tree AS d), "
	"(SELECT coalesce(pg_catalog.array_agg(DISTINCT m.user_id ORDER BY m.user_id), '{}') "
	"FROM invite_sync.membership AS m JOIN tree AS d ON d.id = m.organization_id)",
	.nargs = 2,
	.argtypes = {UUIDOID, BOOLOID}
};

static void
read_tree(const pg_uuid_t *id, bool whole, Datum *organizations, Datum *users)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	Datum		values[2];
	bool		isnull;

	values[0] = UUIDPGetDatum(id);
	values[1] = BoolGetDatum(whole);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&tree_plan, values, NULL, false, 1);
	old = MemoryContextSwitchTo(cxt);
	*organizations = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	*users = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
}

static pg_uuid_t *
uuids_of(Datum array, int *n)
{
	Datum	   *elems;
	pg_uuid_t  *ids;

	deconstruct_array(DatumGetArrayTypeP(array), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, NULL, n);
	ids = palloc(sizeof(pg_uuid_t) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		ids[i] = *DatumGetUUIDP(elems[i]);
	return ids;
}

/*
 * Lock the whole tree below an organization, and another organization: whoever
 * adds members below writes into the organization where they are added, and with
 * an older snapshot must be noticed by whoever counts or checks all of them.
 */
static void
lock_tree(const pg_uuid_t *id, const pg_uuid_t *other)
{
	Datum		organizations;
	Datum		users;
	pg_uuid_t  *below;
	pg_uuid_t  *ids;
	int			nbelow;
	int			nids = 0;

	read_tree(id, true, &organizations, &users);
	below = uuids_of(organizations, &nbelow);
	ids = palloc(sizeof(pg_uuid_t) * (nbelow + 2));
	/* it may be gone */
	ids[nids++] = *id;
	if (other != NULL)
		ids[nids++] = *other;
	memcpy(&ids[nids], below, sizeof(pg_uuid_t) * nbelow);
	organization_lock(NULL, 0, ids, nids + nbelow);
}

/* ---------------------------------------------------------------------
 * Reading and changing one
 * ---------------------------------------------------------------------
 */

Datum
organization_get(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;

	organization_actor(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	organization_require_stable(&caller, id, "organization.read", NULL);
	return answer_organization(fcinfo, id, true);
}

static SavedPlan update_plan = {
	.sql = "UPDATE invite_sync.organization AS o SET name = coalesce($1, o.name), slug = coalesce($2, o.slug), "
	"settings = coalesce($3, o.settings), updated_at = pg_catalog.now() WHERE o.id = $4",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTOID, JSONBOID, UUIDOID}
};

/* Tables of others whose rows change with a slug that they reference. */
static SavedPlan slug_references_plan = {
	.sql = "SELECT r.relowner, a.rolsuper, pg_catalog.format('%I.%I', n.nspname, r.relname) FROM pg_catalog.pg_constraint AS c "
	"JOIN pg_catalog.pg_class AS r ON r.oid = c.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace "
	"JOIN pg_catalog.pg_roles AS a ON a.oid = r.relowner "
	"JOIN pg_catalog.pg_attribute AS f ON f.attrelid = c.confrelid AND f.attname = 'slug' "
	"WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid = $1 AND c.confupdtype IN ('c', 'n', 'd') AND f.attnum = ANY (c.confkey)",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/* As whom triggers on them are to run; InvalidOid: there are none. */
static Oid
slug_fire_as(void)
{
	Datum		relid = ObjectIdGetDatum(get_relname_relid("organization", caller_extension_schema()));
	Scope		scope;
	Oid			result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&slug_references_plan, &relid, NULL, false, 0);
	result = owner_of_references(SPI_tuptable, SPI_processed, 3);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/* Which of these differ from what is there; NULL: none does. */
static SavedPlan changes_plan = {
	.sql = "SELECT pg_catalog.jsonb_build_object('changed', pg_catalog.array_agg(x.name ORDER BY x.name))::text "
	"FROM invite_sync.organization AS o CROSS JOIN LATERAL (VALUES ('name', $1 <> o.name), ('slug', $2 <> o.slug), "
	"('settings', $3 <> o.settings)) AS x (name, differs) WHERE o.id = $4 AND x.differs HAVING pg_catalog.count(*) > 0",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTOID, JSONBOID, UUIDOID}
};

/* JSON for the event, or NULL where nothing changes */
static char *
read_changes(Datum *values, const char *nulls)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	char	   *result = NULL;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&changes_plan, values, nulls, false, 1);
	if (SPI_processed == 1)
		result = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

Datum
organization_update(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;
	Datum		values[4];
	char		nulls[4];
	char	   *changes;

	organization_actor(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	for (int i = 0; i < 3; i++)
	{
		nulls[i] = PG_ARGISNULL(i + 1) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i + 1) ? (Datum) 0 : PG_GETARG_DATUM(i + 1);
	}
	nulls[3] = ' ';
	values[3] = UUIDPGetDatum(id);
	organization_require(&caller, id, "organization.update", NULL);
	check_columns(values, nulls);
	organization_lock(NULL, 0, id, 1);
	organization_require(&caller, id, "organization.update", NULL);
	changes = read_changes(values, nulls);
	if (changes != NULL)
	{
		if (!try_unique(&update_plan, values, nulls, nulls[1] == ' ' ? slug_fire_as() : InvalidOid))
			refuse("slug_taken", NULL, "Choose another slug.");
		organization_event(&caller, "organization.updated", id, changes);
	}
	return answer_organization(fcinfo, id, false);
}

static SavedPlan parent_plan = {
	.sql = "SELECT o.parent_id FROM invite_sync.organization AS o WHERE o.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* false: it has none */
static bool
read_parent(const pg_uuid_t *id, pg_uuid_t *parent)
{
	Scope		scope;
	Datum		value = UUIDPGetDatum(id);
	bool		isnull = true;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&parent_plan, &value, NULL, false, 1);
	if (SPI_processed == 1)
	{
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (!isnull)
			*parent = *DatumGetUUIDP(value);
	}
	scope_leave(&scope);
	SPI_finish();
	return !isnull;
}

/* Ownership of it, and the right to have children in the organization it leaves and in the one it goes to. */
static void
require_move(const Caller *caller, const pg_uuid_t *id, const pg_uuid_t *parent,
			 const pg_uuid_t *old_parent)
{
	Authority	authority;
	Datum		word = CStringGetTextDatum("organization.create_child");

	organization_require(caller, id, NULL, &authority);
	if (caller->kind != CALLER_SERVICE && !authority.owner)
		refuse("not_permitted", NULL, "Only an owner moves an organization.");
	if (old_parent != NULL && caller->kind != CALLER_SERVICE)
	{
		/* that there is a parent its child's owner may know */
		organization_authority_hook(&caller->user_id, old_parent, true, &authority);
		if (!organization_covers(caller, &authority, construct_array(&word, 1, TEXTOID, -1, false, TYPALIGN_INT)))
			refuse("not_permitted", psprintf("organization_id=%s", uuid_text(old_parent)),
				   "It needs the permission organization.create_child in the parent that it leaves, too.");
	}
	if (parent != NULL)
		organization_require(caller, parent, "organization.create_child", NULL);
}

static SavedPlan move_check_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.organization_path($2) AS p WHERE p.id = $1), "
	"(SELECT pg_catalog.count(*) FROM invite_sync.organization_path($2)) "
	"+ (SELECT pg_catalog.max(s.level) + 1 FROM invite_sync.organization_subtree($1) AS s)",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan move_plan = {
	.sql = "UPDATE invite_sync.organization AS o SET parent_id = $2, updated_at = pg_catalog.now() WHERE o.id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

Datum
organization_move(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;
	pg_uuid_t  *parent = NULL;
	pg_uuid_t	old;
	pg_uuid_t  *old_parent;
	pg_uuid_t	ids[3];
	int			nids = 0;
	Datum		values[2];
	char		nulls[2] = {' ', ' '};

	organization_actor(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	if (!PG_ARGISNULL(1))
		parent = PG_GETARG_UUID_P(1);
	ids[nids++] = *id;
	if (parent != NULL)
		ids[nids++] = *parent;

	old_parent = read_parent(id, &old) ? &old : NULL;
	require_move(&caller, id, parent, old_parent);
	lock_tree(id, parent);
	old_parent = read_parent(id, &old) ? &old : NULL;
	require_move(&caller, id, parent, old_parent);
	if (same_uuid(parent, old_parent))
		return answer_organization(fcinfo, id, false);

	values[0] = UUIDPGetDatum(id);
	values[1] = parent ? UUIDPGetDatum(parent) : (Datum) 0;
	if (parent != NULL)
	{
		Scope		scope;
		bool		isnull;
		bool		cycle;
		int64		depth;

		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&move_check_plan, values, NULL, false, 1);
		cycle = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		depth = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		scope_leave(&scope);
		SPI_finish();
		if (cycle)
			refuse("hierarchy_cycle", NULL, "Choose a parent that is not below the organization.");
		if (depth > DEPTH_MAX)
			refuse_depth();
	}
	nulls[1] = parent ? ' ' : 'n';
	run(&move_plan, values, nulls);
	if (old_parent != NULL)
		ids[nids++] = *old_parent;
	organization_touch(ids, nids);
	organization_event(&caller, "organization.moved", id,
					   psprintf("{\"from\": %s, \"to\": %s}", uuid_json(old_parent), uuid_json(parent)));
	return answer_organization(fcinfo, id, false);
}

/* ---------------------------------------------------------------------
 * Deleting
 * ---------------------------------------------------------------------
 */

/*
 * For each foreign key of others on a table of ours that does something to its
 * rows: whose they are, what to read of the rows that go (as own), and what to
 * run with that (as the owner). A partition's copy of its parent's foreign key
 * is dealt with by the parent.
 */
static SavedPlan references_plan = {
	.sql = "SELECT r.relowner, a.rolsuper, pg_catalog.format('%I.%I', n.nspname, r.relname), pg_catalog.quote_ident(n.nspname), "
	"'SELECT ' || k.keys || ' FROM ' || $1::regclass || ' AS o WHERE o.', "
	"CASE c.confdeltype WHEN 'c' THEN 'DELETE FROM ' ELSE 'UPDATE ' END "
	"|| CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || pg_catalog.format('%I.%I', n.nspname, r.relname) || ' AS t ' "
	"|| CASE c.confdeltype WHEN 'c' THEN 'USING ' ELSE 'SET ' || s.columns || ' FROM ' END "
	"|| 'ROWS FROM (' || k.arrays || ') AS k (' || k.names || ') WHERE ' || k.joins "
	"FROM pg_catalog.pg_constraint AS c "
	"JOIN pg_catalog.pg_class AS r ON r.oid = c.conrelid "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace "
	"JOIN pg_catalog.pg_roles AS a ON a.oid = r.relowner "
	"CROSS JOIN LATERAL (SELECT "
	"pg_catalog.string_agg(pg_catalog.format('pg_catalog.array_agg(o.%I)', f.attname), ', ' ORDER BY x.i) AS keys, "
	"pg_catalog.string_agg('pg_catalog.unnest($' || x.i || ')', ', ' ORDER BY x.i) AS arrays, "
	"pg_catalog.string_agg('c' || x.i, ', ' ORDER BY x.i) AS names, "
	"pg_catalog.string_agg(pg_catalog.format('k.c%s OPERATOR(%I.%s) t.%I', x.i, m.nspname, p.oprname, t.attname), ' AND ' ORDER BY x.i) AS joins "
	"FROM pg_catalog.generate_subscripts(c.conkey, 1) AS x (i) "
	"JOIN pg_catalog.pg_attribute AS t ON t.attrelid = c.conrelid AND t.attnum = c.conkey[x.i] "
	"JOIN pg_catalog.pg_attribute AS f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[x.i] "
	"JOIN pg_catalog.pg_operator AS p ON p.oid = c.conpfeqop[x.i] "
	"JOIN pg_catalog.pg_namespace AS m ON m.oid = p.oprnamespace) AS k "
	"CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(pg_catalog.format(CASE c.confdeltype WHEN 'n' THEN '%I = NULL' ELSE '%I = DEFAULT' END, t.attname), ', ' ORDER BY t.attnum) AS columns "
	"FROM pg_catalog.pg_attribute AS t WHERE t.attrelid = c.conrelid AND t.attnum = ANY (coalesce(c.confdelsetcols, c.conkey))) AS s "
	"WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confrelid = $1 AND c.confdeltype IN ('c', 'n', 'd') "
	"AND r.relnamespace <> (SELECT o.relnamespace FROM pg_catalog.pg_class AS o WHERE o.oid = $1) ORDER BY c.conname, c.oid",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/* A statement made at run time, in SPI and in the scope that it is for. */
static void
run_plan(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int			rc = SPI_execute_plan(plan, values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	SPI_freeplan(plan);
}

static void
run_text(const char *sql, int nargs, const Oid *argtypes, Datum *values, const char *nulls)
{
	run_plan(plan_try(sql, nargs, argtypes), values, nulls);
}

bool		organization_check_now = false;

/*
 * Foreign keys of others on a table of ours that wait until COMMIT. One can be
 * set IMMEDIATE only together with all that are called so in the schema.
 */
static SavedPlan deferred_plan = {
	.sql = "SELECT r.relowner, a.rolsuper, n.nspname, c.conname, pg_catalog.format('%I.%I', m.nspname, r.relname), "
	"NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS d WHERE d.connamespace = c.connamespace AND d.conname = c.conname "
	"AND d.oid <> c.oid AND d.conparentid = 0) "
	"FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_class AS r ON r.oid = c.conrelid "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace JOIN pg_catalog.pg_namespace AS m ON m.oid = r.relnamespace "
	"JOIN pg_catalog.pg_roles AS a ON a.oid = r.relowner "
	"WHERE c.contype = 'f' AND c.condeferred AND c.conparentid = 0 AND c.confrelid = $1 ORDER BY 3, 4",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/*
 * In SPI. What waits until COMMIT would fail it there, out of reach of whoever
 * contains the deletion, and a restricted operation may queue nothing of the
 * kind: check it at once (deferred false), and let it wait again afterwards.
 * Checks that are pending are made then too, so it is done as the owner of the
 * table, and only where no constraint of another table has the name: it could
 * be a trigger of somebody else's.
 */
static void
set_deferred(Oid relid, bool deferred)
{
	Scope		scope;
	Datum		value = ObjectIdGetDatum(relid);
	SPITupleTable *constraints;
	uint64		n;

	scope_enter_own(&scope);
	plan_execute(&deferred_plan, &value, NULL, false, 0);
	scope_leave(&scope);
	constraints = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	row = constraints->vals[i];
		TupleDesc	desc = constraints->tupdesc;
		bool		isnull;
		Oid			owner = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		ConstraintsSetStmt *stmt;

		if (DatumGetBool(SPI_getbinval(row, desc, 2, &isnull)) || !DatumGetBool(SPI_getbinval(row, desc, 6, &isnull)))
		{
			if (organization_check_now)
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("deferred constraint \"%s\" of table %s cannot be checked now",
								SPI_getvalue(row, desc, 4), SPI_getvalue(row, desc, 5)),
						 errhint("Make it INITIALLY IMMEDIATE, or give the table an owner who is no superuser and the constraint a name of its own.")));
			continue;
		}
		stmt = makeNode(ConstraintsSetStmt);
		stmt->deferred = deferred;
		stmt->constraints = list_make1(makeRangeVar(SPI_getvalue(row, desc, 3), SPI_getvalue(row, desc, 4), -1));
		scope_enter_target(&scope, owner, "pg_catalog, pg_temp");
		AfterTriggerSetState(stmt);
		scope_leave(&scope);
	}
}

/* See organization_delete_rows(). */
static Oid
release_rows(const char *table, const char *column, Oid idtype, Datum ids)
{
	Oid			relid = get_relname_relid(table, caller_extension_schema());
	Datum		value = ObjectIdGetDatum(relid);
	const char *where = psprintf("%s OPERATOR(pg_catalog.=) ANY ($1)", quote_identifier(column));
	SPITupleTable *references;
	uint64		nreferences;
	Oid			fire_as;
	Scope		scope;

	if (!OidIsValid(relid))
		elog(ERROR, "no table \"%s\"", table);
	scope_enter_own(&scope);
	plan_execute(&references_plan, &value, NULL, false, 0);
	references = SPI_tuptable;
	nreferences = SPI_processed;
	fire_as = owner_of_references(references, nreferences, 3);
	if (nreferences > 0)
		/* FOR UPDATE: a row that refers to one of these now waits, and finds it gone */
		run_plan(plan_try_lookup(psprintf("SELECT FROM invite_sync.%s AS o WHERE o.%s ORDER BY o.%s FOR UPDATE",
										  quote_identifier(table), where, quote_identifier(column)),
								 1, &idtype), &ids, NULL);
	scope_leave(&scope);

	for (uint64 i = 0; i < nreferences; i++)
	{
		HeapTuple	row = references->vals[i];
		TupleDesc	desc = references->tupdesc;
		bool		isnull;
		Oid			owner = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		Datum		keys[RELEASE_KEYS_MAX];
		char		nulls[RELEASE_KEYS_MAX];
		Oid			types[RELEASE_KEYS_MAX];
		int			nkeys;
		Oid			save_userid;
		int			save_context;

		/* their owner cannot read our tables */
		scope_enter_own(&scope);
		run_text(psprintf("%s%s", SPI_getvalue(row, desc, 5), where), 1, &idtype, &ids, NULL);
		nkeys = SPI_tuptable->tupdesc->natts;
		if (nkeys > RELEASE_KEYS_MAX)
			elog(ERROR, "too many columns in a foreign key on table \"%s\"", table);
		for (int k = 0; k < nkeys; k++)
		{
			types[k] = SPI_gettypeid(SPI_tuptable->tupdesc, k + 1);
			keys[k] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, k + 1, &isnull);
			nulls[k] = isnull ? 'n' : ' ';
		}
		scope_leave(&scope);

		scope_enter_target(&scope, owner, psprintf("pg_catalog, %s, pg_temp", SPI_getvalue(row, desc, 4)));
		/* policies that its owner has forced on itself are no more asked than by a foreign key of PostgreSQL */
		GetUserIdAndSecContext(&save_userid, &save_context);
		SetUserIdAndSecContext(save_userid, save_context | SECURITY_NOFORCE_RLS);
		run_text(SPI_getvalue(row, desc, 6), nkeys, types, keys, nulls);
		scope_leave(&scope);
	}
	return fire_as;
}

uint64
organization_delete_rows(const char *table, const char *column, Oid idtype, Datum ids)
{
	const char *sql = psprintf("DELETE FROM invite_sync.%s AS o WHERE o.%s OPERATOR(pg_catalog.=) ANY ($1)",
							   quote_identifier(table), quote_identifier(column));
	SPIPlanPtr	plan;
	uint64		rows;
	Oid			relid = get_relname_relid(table, caller_extension_schema());
	Oid			fire_as;
	bool		check_now;
	Scope		scope;

	SPI_connect();
	fire_as = release_rows(table, column, idtype, ids);
	check_now = organization_check_now || OidIsValid(fire_as);
	if (check_now)
		set_deferred(relid, false);
	scope_enter_own(&scope);
	if (OidIsValid(fire_as))
	{
		plan = plan_try_lookup(sql, 1, &idtype);
		scope_leave(&scope);
		rows = execute_firing_as(plan, &ids, NULL, fire_as);
	}
	else
	{
		run_plan(plan_try_lookup(sql, 1, &idtype), &ids, NULL);
		rows = SPI_processed;
		scope_leave(&scope);
	}
	if (check_now)
		set_deferred(relid, true);
	SPI_finish();
	return rows;
}

/* ids of the rows that the statement of this trigger removed (transition table "removed"), as an array; in SPI, own scope */
static SavedPlan removed_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.id), '{}'), "
	"EXISTS (SELECT FROM removed AS y JOIN invite_sync.organization AS o ON o.parent_id = y.id) FROM removed AS x",
	.nargs = 0
};

/* What belongs to an organization goes with it. */
Datum
organization_removed(PG_FUNCTION_ARGS)
{
	/* a role only after those who have it */
	static const char *const parts[] = {"join_request", "membership_removal", "organization_domain", "membership", "role"};
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Scope		scope;
	Datum		ids;
	pg_uuid_t  *organization_ids;
	int			norganizations;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) || !TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called by a trigger after deletion, for each statement")));
	SPI_connect();
	if (SPI_register_trigger_data(trigdata) < 0)
		elog(ERROR, "SPI_register_trigger_data failed");
	scope_enter_own(&scope);
	plan_execute(&removed_plan, NULL, NULL, false, 1);
	if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)))
		refuse("has_children", NULL, "Delete or move the organizations below it first, or let delete_organization() do it with cascade => true.");
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	scope_leave(&scope);
	organization_ids = uuids_of(ids, &norganizations);
	if (norganizations > 0 && organization_removed_hook != NULL)
		organization_removed_hook(organization_ids, norganizations);
	for (size_t i = 0; i < lengthof(parts); i++)
		(void) organization_delete_rows(parts[i], "organization_id", UUIDARRAYOID, ids);
	SPI_finish();
	return PointerGetDatum(NULL);
}

/* Who goes with an organization, and who is a member there: as read before the locks. */
typedef struct Doomed
{
	const pg_uuid_t *id;
	bool		cascade;
	Datum		organizations;
	Datum		users;
} Doomed;

/* false: other organizations or users are concerned now, and nothing is to stay locked. */
static bool
try_lock_doomed(void *arg)
{
	Doomed	   *d = (Doomed *) arg;
	int			nusers;
	int			norganizations;
	pg_uuid_t  *user_ids = uuids_of(d->users, &nusers);
	pg_uuid_t  *organization_ids = uuids_of(d->organizations, &norganizations);
	Datum		organizations_now;
	Datum		users_now;

	if (!organization_lock_once(user_ids, nusers, organization_ids, norganizations))
		return false;
	read_tree(d->id, d->cascade, &organizations_now, &users_now);
	return DatumGetBool(OidFunctionCall2(F_ARRAY_EQ, d->organizations, organizations_now)) &&
		DatumGetBool(OidFunctionCall2(F_ARRAY_EQ, d->users, users_now));
}

/*
 * Users are locked before organizations, and who is a member is certain only
 * when the organizations are locked: where somebody came or went in between,
 * give the locks back and begin again, as lock_paths() does.
 */
static void
lock_doomed(const pg_uuid_t *id, bool cascade, Datum *organizations, Datum *users)
{
	Doomed		d = {.id = id,.cascade = cascade};

	for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++)
	{
		read_tree(id, cascade, &d.organizations, &d.users);
		if (plan_attempted(try_lock_doomed, &d))
		{
			*organizations = d.organizations;
			*users = d.users;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not lock the organizations: their members keep changing"),
			 errhint("Try the transaction again.")));
}

Datum
organization_delete(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;
	bool		cascade;
	Datum		organizations;
	Datum		users;
	pg_uuid_t  *organization_ids;
	pg_uuid_t  *user_ids;
	int			norganizations;
	int			nusers;
	pg_uuid_t	parent;
	bool		has_parent;
	Datum		result;

	organization_actor(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	if (PG_ARGISNULL(1))
		refuse("data_malformed", "argument=cascade", NULL);
	cascade = PG_GETARG_BOOL(1);
	/* whoever may delete it may delete those below it: memberships reach down */
	organization_require(&caller, id, "organization.delete", NULL);
	lock_doomed(id, cascade, &organizations, &users);
	organization_require(&caller, id, "organization.delete", NULL);

	result = answer_organization(fcinfo, id, false);
	has_parent = read_parent(id, &parent);
	organization_ids = uuids_of(organizations, &norganizations);
	user_ids = uuids_of(users, &nusers);
	/* what belongs to them goes by a trigger */
	(void) organization_delete_rows("organization", "id", UUIDARRAYOID, organizations);
	if (has_parent)
		organization_touch(&parent, 1);
	for (int i = 0; i < norganizations; i++)
		organization_event(&caller, "organization.deleted", &organization_ids[i],
						   psprintf("{\"with\": %s}", uuid_json(same_uuid(id, &organization_ids[i]) ? NULL : id)));
	if (nusers > 0 && organization_members_changed_hook != NULL)
		organization_members_changed_hook(user_ids, nusers);
	return result;
}

/* ---------------------------------------------------------------------
 * Lists of organizations
 * ---------------------------------------------------------------------
 */

/*
 * A page first, then what costs something for each of its rows. What a role
 * without organization.read leaves to see is what one must know to be there.
 */
static SavedPlan mine_plan = {
	.sql = "WITH RECURSIVE tree (id, level, role_id) AS ("
	"SELECT m.organization_id, 0, m.role_id FROM invite_sync.membership AS m WHERE m.user_id = $1 "
	"UNION ALL SELECT o.id, t.level + 1, t.role_id FROM tree AS t JOIN invite_sync.organization AS o ON o.parent_id = t.id WHERE t.level < 16), "
	"nearest AS (SELECT DISTINCT ON (t.id) t.id, t.level, t.role_id FROM tree AS t ORDER BY t.id, t.level), "
	"page AS (SELECT o AS row, n.level, n.role_id FROM nearest AS n JOIN invite_sync.organization AS o ON o.id = n.id "
	"WHERE $2 IS NULL OR (o.created_at, o.id) < ($2, $3) ORDER BY o.created_at DESC, o.id DESC LIMIT $4) "
	"SELECT (p.row).id, (p.row).name, (p.row).slug, (p.row).parent_id, "
	"CASE WHEN x.reads THEN (p.row).settings END, CASE WHEN x.reads THEN (p.row).seat_limit END, CASE WHEN x.reads THEN (p.row).bonus_seats END, "
	"CASE WHEN x.reads THEN (p.row).max_concurrent_sessions END, CASE WHEN x.reads THEN (p.row).region END, "
	"CASE WHEN x.reads THEN (p.row).created_by END, (p.row).created_at, (p.row).updated_at, "
	"r.name, x.permissions, p.level > 0, "
	ORGANIZATION_CURSOR("(p.row).created_at", "(p.row).id")
	" FROM page AS p JOIN invite_sync.role AS r ON r.id = p.role_id "
	"CROSS JOIN LATERAL (SELECT e.permissions, 'organization.read' = ANY (e.permissions) AS reads "
	"FROM (SELECT invite_sync.effective_permissions($1, (p.row).id) AS permissions OFFSET 0) AS e OFFSET 0) AS x "
	"ORDER BY (p.row).created_at DESC, (p.row).id DESC",
	.nargs = 4,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT4OID}
};

Datum
organization_mine(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Scope		scope;
	TimestampTz at = 0;
	pg_uuid_t	after;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	organization_actor(&caller);
	if (!caller.has_user)
		refuse("not_authenticated", NULL, "It is about the organizations of the user who asks; a service is none.");
	memset(&after, 0, sizeof(after));
	if (!organization_cursor(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0), &at, &after))
		nulls[1] = nulls[2] = 'n';
	values[0] = UUIDPGetDatum(&caller.user_id);
	values[1] = TimestampTzGetDatum(at);
	values[2] = UUIDPGetDatum(&after);
	values[3] = Int32GetDatum(organization_page_size(fcinfo, 1));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&mine_plan, values, nulls, true, 0);
	plan_result_rows(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return (Datum) 0;
}

/* Two plans, because one of both conditions could not use the index of children. */
#define LIST_SQL(condition) \
	"SELECT " ORGANIZATION_COLUMNS ", " ORGANIZATION_CURSOR("o.created_at", "o.id") \
	" FROM invite_sync.organization AS o WHERE " condition " AND ($2 IS NULL OR (o.created_at, o.id) < ($2, $3)) " \
	"ORDER BY o.created_at DESC, o.id DESC LIMIT $4"

static SavedPlan list_all_plan = {
	.sql = LIST_SQL("$1 IS NULL"),
	.nargs = 4,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT4OID}
};

static SavedPlan list_children_plan = {
	.sql = LIST_SQL("o.parent_id = $1"),
	.nargs = 4,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT4OID}
};

Datum
organization_list(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Scope		scope;
	TimestampTz at = 0;
	pg_uuid_t	after;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	actor_service(&caller);
	if (!PG_ARGISNULL(0))
		organization_require_stable(&caller, PG_GETARG_UUID_P(0), NULL, NULL);
	memset(&after, 0, sizeof(after));
	if (!organization_cursor(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1), &at, &after))
		nulls[1] = nulls[2] = 'n';
	nulls[0] = PG_ARGISNULL(0) ? 'n' : ' ';
	values[0] = PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0);
	values[1] = TimestampTzGetDatum(at);
	values[2] = UUIDPGetDatum(&after);
	values[3] = Int32GetDatum(organization_page_size(fcinfo, 2));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(PG_ARGISNULL(0) ? &list_all_plan : &list_children_plan, values, nulls, true, 0);
	plan_result_rows(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * Seats and other limits
 * ---------------------------------------------------------------------
 */

/* Without a limit on the way up, everybody in the tree without one counts, and it is the top's. */
static SavedPlan seats_plan = {
	.sql = "SELECT o.id, o.seat_limit, o.bonus_seats, u.used, u.pending, o.seat_limit::bigint + o.bonus_seats - u.used - u.pending "
	"FROM (SELECT coalesce(invite_sync.seat_pool($1), (SELECT p.id FROM invite_sync.organization_path($1) AS p ORDER BY p.level DESC LIMIT 1)) AS id) AS x "
	"JOIN invite_sync.organization AS o ON o.id = x.id CROSS JOIN LATERAL "
	"(SELECT invite_sync.seats_used(o.id) AS used, invite_sync.seats_pending(o.id) AS pending OFFSET 0) AS u",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

Datum
organization_seat_usage(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;
	Datum		value;

	organization_actor(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	organization_require_stable(&caller, id, "members.read", NULL);
	value = UUIDPGetDatum(id);
	return organization_answer(fcinfo, &seats_plan, &value, NULL, true);
}

static SavedPlan set_seats_plan = {
	.sql = "UPDATE invite_sync.organization AS o SET seat_limit = $2, bonus_seats = $3, updated_at = pg_catalog.now() "
	"WHERE o.id = $1 AND (o.seat_limit, o.bonus_seats) IS DISTINCT FROM ($2, $3)",
	.nargs = 3,
	.argtypes = {UUIDOID, INT4OID, INT4OID}
};

Datum
organization_set_seats(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	pg_uuid_t	touched[2];

	actor_service(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 0)
		refuse("data_malformed", "argument=seat_limit", "Seats are not negative; NULL is no limit.");
	if (PG_ARGISNULL(2) || PG_GETARG_INT32(2) < 0)
		refuse("data_malformed", "argument=bonus_seats", "Seats are not negative.");
	lock_tree(id, NULL);
	organization_require(&caller, id, NULL, NULL);

	values[0] = UUIDPGetDatum(id);
	nulls[1] = PG_ARGISNULL(1) ? 'n' : ' ';
	values[1] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	if (run(&set_seats_plan, values, nulls) > 0)
	{
		/* its seats, and those of the pool above that its members left or came to */
		touched[0] = *id;
		organization_touch(touched, read_parent(id, &touched[1]) ? 2 : 1);
		organization_event(&caller, "organization.seats_set", id,
						   psprintf("{\"seat_limit\": %s, \"bonus_seats\": %d}",
									PG_ARGISNULL(1) ? "null" : psprintf("%d", PG_GETARG_INT32(1)), PG_GETARG_INT32(2)));
	}
	return organization_answer(fcinfo, &seats_plan, values, NULL, false);
}

static SavedPlan set_limits_plan = {
	.sql = "UPDATE invite_sync.organization AS o SET max_concurrent_sessions = $2, region = $3, updated_at = pg_catalog.now() "
	"WHERE o.id = $1 AND (o.max_concurrent_sessions, o.region) IS DISTINCT FROM ($2, $3)",
	.nargs = 3,
	.argtypes = {UUIDOID, INT4OID, TEXTOID}
};

Datum
organization_set_limits(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t  *id;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	actor_service(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 1)
		refuse("data_malformed", "argument=max_concurrent_sessions", "Allow one session or more; NULL is no limit.");
	if (!PG_ARGISNULL(2))
	{
		text	   *region = PG_GETARG_TEXT_PP(2);
		int			length = pg_mbstrlen_with_len(VARDATA_ANY(region), VARSIZE_ANY_EXHDR(region));

		if (length < 1 || length > 63)
			refuse("data_malformed", "argument=region", "A region has 1 to 63 characters; NULL is none.");
	}
	organization_lock(NULL, 0, id, 1);
	organization_require(&caller, id, NULL, NULL);

	values[0] = UUIDPGetDatum(id);
	for (int i = 1; i < 3; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	if (run(&set_limits_plan, values, nulls) > 0)
		organization_event(&caller, "organization.limits_set", id, NULL);
	return answer_organization(fcinfo, id, false);
}
