/*-------------------------------------------------------------------------
 *
 * account.c
 *	  Accounts made, and who people are with another provider.
 *
 * A service calls all of this: it says who somebody is, and what it says is
 * written down as the auth server would have written it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "account.h"
#include "caller.h"
#include "invitation.h"
#include "invitation_account.h"
#include "invitation_create.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(account_create);

/* ---------------------------------------------------------------------
 * Accounts
 * ---------------------------------------------------------------------
 */

void
account_service(Inviter *inviter)
{
	caller_require_service();
	memset(inviter, 0, sizeof(*inviter));
	caller_get(&inviter->caller);
	inviter->as = inviter->caller;
	inviter->proves = true;
}

static SavedPlan platform_role_plan = {
	.sql = "INSERT INTO invite_sync.platform_role AS p (user_id, role_id) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

void
account_make(const Caller *caller, const char *action, const AuthAccount *account,
			 const InvitationRequest *request, pg_uuid_t *user_id)
{
	Datum		values[2];

	/* also when somebody else makes one in this moment */
	if (auth_account_find(account->email, true, user_id) != AUTH_ACCOUNT_NONE ||
		!auth_account_create(account, user_id))
		refuse("user_exists", NULL, "An account with this address is there already, and stays as it is.");
	if (request->platform_role != NULL)
	{
		values[0] = UUIDPGetDatum(user_id);
		values[1] = UUIDPGetDatum(&request->platform_role_id);
		membership_run(&platform_role_plan, values, NULL);
		membership_write_copies(user_id, 1);
		membership_event(caller, "admin", "membership.platform_role_set", NULL, "user", user_id, &request->platform_role_id);
	}
	for (int i = 0; i < request->ngrants; i++)
		/* a trigger of the application's may have made it before us */
		if (membership_make(&request->organization_ids[i], user_id, &request->role_ids[i], membership_actor(caller)))
			membership_event(caller, "admin", "membership.added", &request->organization_ids[i], "user", user_id,
							 &request->role_ids[i]);
	membership_event(caller, "admin", action, NULL, "user", user_id, NULL);
}

static SavedPlan account_row_plan = {
	.sql = "SELECT $1, $2, $3, (SELECT r.name FROM invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id WHERE p.user_id = $1), "
	"pg_catalog.now()",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, BOOLOID}
};

static char *
optional_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* create_user(email, password, full_name, job_title, data, platform_role, email_confirmed) */
Datum
account_create(PG_FUNCTION_ARGS)
{
	Inviter		service;
	InvitationRequest request;
	AuthAccount account;
	pg_uuid_t	user_id;
	Datum		values[3];

	account_service(&service);
	memset(&account, 0, sizeof(account));
	memset(&request, 0, sizeof(request));
	account.email = invitation_email_argument(fcinfo, 0);
	if (!PG_ARGISNULL(1))
		auth_account_require_password(PG_GETARG_TEXT_PP(1));
	account.user_meta = invitation_data_with_names(PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4),
												   optional_text(fcinfo, 2), optional_text(fcinfo, 3));
	invitation_check_data(account.user_meta);
	request.platform_role = PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5);
	account.confirmed = PG_ARGISNULL(6) || PG_GETARG_BOOL(6);
	(void) caller_auth_users_relid(false);

	/* what can be refused, and the hash, which is slow, before anything is locked */
	if (auth_account_find(account.email, true, &user_id) != AUTH_ACCOUNT_NONE)
		refuse("user_exists", NULL, "An account with this address is there already, and stays as it is.");
	if (!PG_ARGISNULL(1))
		account.encrypted_password = auth_account_hash(PG_GETARG_TEXT_PP(1));
	invitation_roles(&service, &request);
	account_make(&service.caller, "account.created", &account, &request, &user_id);

	values[0] = UUIDPGetDatum(&user_id);
	values[1] = CStringGetTextDatum(account.email);
	values[2] = BoolGetDatum(account.confirmed);
	return organization_answer(fcinfo, &account_row_plan, values, NULL, false);
}

/* ---------------------------------------------------------------------
 * Users of other providers
 * ---------------------------------------------------------------------
 */

void
account_require_external(const char *provider, const char *external_id)
{
	size_t		len = strlen(provider);

	if (len < 1 || len > 63 || provider[0] < 'a' || provider[0] > 'z' ||
		strspn(provider, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
		refuse("data_malformed", "argument=provider", "A provider is a word such as clerk: a-z, 0-9, _ and -, at most 63 characters.");
	if (*external_id == '\0' || strlen(external_id) > CALLER_EXTERNAL_ID_MAX)
		refuse("data_malformed", "argument=external_id", "1 to 255 bytes.");
}

#define EXTERNAL_SQL \
	"SELECT e.id, e.user_id, e.email, e.migrated_at IS NOT NULL FROM invite_sync.external_user AS e " \
	"WHERE e.external_id = $1 AND e.provider = $2"

static SavedPlan external_plan = {
	.sql = EXTERNAL_SQL,
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static SavedPlan lock_external_plan = {
	.sql = EXTERNAL_SQL " FOR NO KEY UPDATE OF e",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

bool
account_external(const char *provider, const char *external_id, bool lock, ExternalUser *external)
{
	MemoryContext cxt = CurrentMemoryContext;
	SavedPlan  *plan = lock ? &lock_external_plan : &external_plan;
	int			guc_level = membership_bound_waits();
	Scope		scope;
	Datum		values[2];
	bool		found;

	memset(external, 0, sizeof(*external));
	values[0] = CStringGetTextDatum(external_id);
	values[1] = CStringGetTextDatum(provider);
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(plan));
	plan_execute(plan, values, NULL, false, 1);
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		value;

		external->id = *DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
		value = SPI_getbinval(row, desc, 2, &isnull);
		external->has_user = !isnull;
		if (!isnull)
			external->user_id = *DatumGetUUIDP(value);
		value = SPI_getbinval(row, desc, 3, &isnull);
		if (!isnull)
			external->email = MemoryContextStrdup(cxt, TextDatumGetCString(value));
		external->migrated = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
	return found;
}

static SavedPlan insert_external_plan = {
	.sql = "INSERT INTO invite_sync.external_user AS e (id, provider, external_id, email, user_id, user_since, migrated_at) "
	"VALUES (pg_catalog.gen_random_uuid(), $1, $2, $3, $4, $5, CASE WHEN $6 THEN pg_catalog.clock_timestamp() END) "
	"ON CONFLICT DO NOTHING RETURNING e.id",
	.nargs = 6,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, BOOLOID}
};

bool
account_insert_external(const char *provider, const char *external_id, const char *email,
						const pg_uuid_t *user_id, TimestampTz user_since, bool migrated)
{
	Datum		values[6];
	char		nulls[6] = {' ', ' ', email ? ' ' : 'n', user_id ? ' ' : 'n', user_since ? ' ' : 'n', ' '};
	int			guc_level = membership_bound_waits();
	pg_uuid_t	id;
	bool		result;

	values[0] = CStringGetTextDatum(provider);
	values[1] = CStringGetTextDatum(external_id);
	values[2] = email ? CStringGetTextDatum(email) : (Datum) 0;
	values[3] = user_id ? UUIDPGetDatum(user_id) : (Datum) 0;
	values[4] = TimestampTzGetDatum(user_since);
	values[5] = BoolGetDatum(migrated);
	result = membership_one_id(&insert_external_plan, values, nulls, &id);
	AtEOXact_GUC(false, guc_level);
	return result;
}

/* ---- in the claims ---- */

static SavedPlan resolve_plan = {
	.sql = "SELECT e.user_id FROM invite_sync.external_user AS e WHERE e.external_id = $1 LIMIT 2",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/*
 * The token does not say which provider it is from in a way that we know, so an
 * id that two of them have is nobody's. Where the library is newer than what is
 * installed there is no table yet.
 */
static bool
resolve_external(const char *external_id, pg_uuid_t *user_id)
{
	Scope		scope;
	Datum		value;
	bool		isnull = true;

	if (!OidIsValid(get_relname_relid("external_user", caller_extension_schema())))
		return false;
	value = CStringGetTextDatum(external_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(&resolve_plan));
	plan_execute(&resolve_plan, &value, NULL, true, 0);
	if (SPI_processed == 1)
	{
		Datum		id = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			*user_id = *DatumGetUUIDP(id);
	}
	scope_leave(&scope);
	SPI_finish();
	return !isnull;
}

/* ---------------------------------------------------------------------
 * Users who are gone, verify(), config_sql()
 * ---------------------------------------------------------------------
 */

static SavedPlan linked_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(DISTINCT e.user_id), '{}') FROM invite_sync.external_user AS e WHERE e.user_id IS NOT NULL",
	.nargs = 0
};

static SavedPlan missing_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.id ORDER BY x.id), '{}') FROM pg_catalog.unnest($1) AS x (id) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.id WHERE u.id IS NULL OR u.deleted_at IS NOT NULL",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* The one array that a statement returns, in the caller's memory. */
static Datum
read_array(SavedPlan *plan, Datum *values, bool in_auth, bool read_only)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	bool		isnull;
	Datum		result;

	SPI_connect();
	if (in_auth)
		scope_enter_auth(&scope);
	else
		scope_enter_own(&scope);
	plan_execute(plan, values, NULL, read_only, 0);
	old = MemoryContextSwitchTo(cxt);
	result = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

Datum
account_gone_users(bool read_only, int *n)
{
	Datum		ids = read_array(&linked_plan, NULL, false, read_only);

	*n = 0;
	if (ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(ids)), ARR_DIMS(DatumGetArrayTypeP(ids))) == 0 ||
		!OidIsValid(caller_auth_users_relid(true)))
		return plan_uuid_array(NULL, 0);
	ids = read_array(&missing_plan, &ids, true, read_only);
	*n = ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(ids)), ARR_DIMS(DatumGetArrayTypeP(ids)));
	return ids;
}

/* What is known of them elsewhere is nothing to keep, and a token of the other provider is nobody's from now on. */
static void
users_gone(const pg_uuid_t *user_ids, int64 nids)
{
	bool		check_now = organization_check_now;

	organization_check_now = true;
	PG_TRY();
	{
		(void) organization_delete_rows("external_user", "user_id", UUIDARRAYOID,
										plan_uuid_array(user_ids, nids));
	}
	PG_FINALLY();
	{
		organization_check_now = check_now;
	}
	PG_END_TRY();
}

/* Nothing to note: who is gone is found by who looks, and is nobody to the caller room meanwhile. */
static void
users_missed(const pg_uuid_t *user_ids, int64 nids)
{
}

static void
find_gone(bool all, int64 limit, pg_uuid_t **user_ids, int64 *nids)
{
	Datum		ids;
	Datum	   *elems;
	int			n;

	*user_ids = NULL;
	*nids = 0;
	if (!all)
		return;
	ids = account_gone_users(false, &n);
	if (n == 0)
		return;
	deconstruct_array(DatumGetArrayTypeP(ids), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, NULL, &n);
	*nids = Min(n, limit);
	*user_ids = palloc(sizeof(pg_uuid_t) * *nids);
	for (int i = 0; i < *nids; i++)
		(*user_ids)[i] = *DatumGetUUIDP(elems[i]);
}

/* Nothing to do: a copy of memberships is not about other providers. */
static void
copies_changed(const pg_uuid_t *user_ids, int64 nids)
{
}

/* Whoever imports users has organizations or targets, whose rooms ask for them. */
static bool
needs_triggers(void)
{
	return false;
}

static void
account_verify(bool users_readable, SyncFinding emit, void *arg)
{
	int			n = 0;

	if (users_readable)
		(void) account_gone_users(true, &n);
	if (n > 0)
		emit(arg, "warning", "account", "auth.users",
			 psprintf("%d users who are gone are named in external_user", n),
			 "They were deleted while the triggers on auth.users were off, or could not be cleaned up after.",
			 "SELECT * FROM invite_sync.retry_quarantine(due_only => false);");
}

static SavedPlan config_policy_plan = {
	.sql = "SELECT pg_catalog.format('SELECT mode FROM invite_sync.set_migration_policy(%L, %L);', p.mode, "
	"CASE WHEN pg_catalog.isfinite(p.deadline) THEN pg_catalog.to_char(p.deadline AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') "
	"ELSE p.deadline::pg_catalog.text END), NULL::pg_catalog.name FROM invite_sync.migration_policy AS p",
	.nargs = 0
};

static const SyncConfig config[] = {
	{"Migration from another provider", &config_policy_plan}
};

static const SyncListener listener = {
	.users_gone = users_gone,
	.users_missed = users_missed,
	.find_gone = find_gone,
	.copies_changed = copies_changed,
	.needs_triggers = needs_triggers,
	.verify = account_verify,
	.config = config,
	.nconfig = lengthof(config)
};

void
account_init(void)
{
	caller_external_user_hook = resolve_external;
	sync_listen(&listener);
}
