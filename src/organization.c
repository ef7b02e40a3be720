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

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "caller.h"
#include "organization.h"
#include "plan.h"

#define PAGE_SIZE_MAX			500
#define LOCK_TIMEOUT_DEFAULT	"5s"
#define LOCK_ATTEMPTS			10

void		(*organization_authority_hook) (const pg_uuid_t *user_id,
											const pg_uuid_t *organization_id,
											bool fresh, Authority *authority) = NULL;

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

Datum
organization_uuid_array(const pg_uuid_t *ids, int nids)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(nids, 1));

	for (int i = 0; i < nids; i++)
		elems[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elems, nids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* The organizations and all above them, as a uuid[]; in SPI and the own scope. */
static Datum
read_paths(Datum ids)
{
	bool		isnull;
	Datum		result;

	plan_execute(&paths_plan, &ids, NULL, false, 1);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return result;
}

/*
 * Where one of them moves between being read and being locked, the locks are
 * given back (a subtransaction's are) and taken again in the order of the new
 * tree: to lock one more out of turn could deadlock.
 */
static void
lock_paths(Datum ids)
{
	for (int attempt = 0;; attempt++)
	{
		MemoryContext oldcontext = CurrentMemoryContext;
		ResourceOwner oldowner = CurrentResourceOwner;
		Scope		scope;
		Datum		before;
		bool		same;

		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(oldcontext);
		SPI_connect();
		scope_enter_own(&scope);
		before = read_paths(ids);
		plan_execute(&lock_plan, &before, NULL, false, 0);
		same = DatumGetBool(OidFunctionCall2(F_ARRAY_EQ, before, read_paths(ids)));
		scope_leave(&scope);
		SPI_finish();
		if (same)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcontext);
		CurrentResourceOwner = oldowner;
		if (same)
			return;
		if (attempt + 1 >= LOCK_ATTEMPTS)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not lock the organizations: they keep being moved"),
					 errhint("Try the transaction again.")));
	}
}

void
organization_lock(const pg_uuid_t *user_ids, int nusers,
				  const pg_uuid_t *organization_ids, int norganizations)
{
	int			guc_level = NewGUCNestLevel();

	if (LockTimeout <= 0)
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT_DEFAULT, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (nusers > 0)
	{
		Scope		scope;
		Datum		ids = organization_uuid_array(user_ids, nusers);

		SPI_connect();
		scope_enter_auth(&scope);
		plan_execute(&lock_users_plan, &ids, NULL, false, 0);
		scope_leave(&scope);
		SPI_finish();
	}
	if (norganizations > 0)
		lock_paths(organization_uuid_array(organization_ids, norganizations));
	AtEOXact_GUC(false, guc_level);
}

void
organization_touch(const pg_uuid_t *organization_ids, int norganizations)
{
	Scope		scope;
	Datum		ids = organization_uuid_array(organization_ids, norganizations);

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&touch_plan, &ids, NULL, false, 0);
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
