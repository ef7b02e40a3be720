/*-------------------------------------------------------------------------
 *
 * quota.c
 *	  How many invitations in all, and how many actions per window.
 *
 * A quota is one row a user, which whoever takes from it locks. An invitation
 * that has expired is given back by the clock and not by a job: whoever reads
 * counts such invitations as given back, and whoever writes first closes those
 * that nobody else is about to close or to accept.
 *
 * A rate limit is one row a key with the times of what it still counts: an
 * exact window, for no more than a lookup and an update.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <sys/socket.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "event.h"
#include "invitation.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "quota.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(quota_mine);
PG_FUNCTION_INFO_V1(quota_grant);
PG_FUNCTION_INFO_V1(quota_set);
PG_FUNCTION_INFO_V1(quota_report);
PG_FUNCTION_INFO_V1(quota_backfill);
PG_FUNCTION_INFO_V1(quota_set_rate_limit);
PG_FUNCTION_INFO_V1(quota_drop_rate_limit);
PG_FUNCTION_INFO_V1(quota_consume);
PG_FUNCTION_INFO_V1(quota_rate_limit_report);
PG_FUNCTION_INFO_V1(quota_prune_rate_limits);

#define AMOUNT_MAX			1000000
#define ACTIONS_MAX			10000
#define NAME_MAX_BYTES		63
#define KEY_BYTES_MAX		1000
#define HEADERS_BYTES_MAX	(64 * 1024)
#define BACKFILL_BATCH_MAX	10000
#define PRUNE_BATCH_MAX		100000
#define LOCK_ATTEMPTS		10
#define RULES_MAX			5		/* of one action: as many as there are scopes */

/* ---------------------------------------------------------------------
 * Running statements
 * ---------------------------------------------------------------------
 */

/*
 * Run a statement on our tables; true when it returned a row, whose first
 * columns, all passed by value, it then copies.
 */
static bool
own_row(SavedPlan *plan, Datum *values, const char *nulls, Datum *out, int nout)
{
	Scope		scope;
	bool		found;
	bool		isnull;

	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(plan));
	plan_execute(plan, values, nulls, false, 0);
	found = SPI_tuptable != NULL && SPI_processed > 0;
	for (int i = 0; found && i < nout; i++)
		out[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	scope_leave(&scope);
	SPI_finish();
	return found;
}

/* The same for one that changes rows: how many. */
static uint64
own_change(SavedPlan *plan, Datum *values, const char *nulls)
{
	Scope		scope;
	uint64		rows;

	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(plan));
	plan_execute(plan, values, nulls, false, 0);
	rows = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	return rows;
}

static void
keeps_changing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not lock a row that keeps being deleted"),
			 errhint("Try the transaction again.")));
}

/* 2026-11-20T09:00:00Z, and never earlier than it is: who comes back then is not refused once more. */
static char *
time_text(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (at % USECS_PER_SEC != 0)
		at += USECS_PER_SEC - (at % USECS_PER_SEC + USECS_PER_SEC) % USECS_PER_SEC;
	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static void
log_change(const Caller *caller, const char *action, const char *target_type, const char *target_id, const char *data)
{
	event_append("admin", action, membership_actor(caller), NULL, target_type, target_id,
				 data ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(data))) : NULL);
}

/* ---------------------------------------------------------------------
 * Quotas
 * ---------------------------------------------------------------------
 */

/* What expires gives back, unless somebody has used it. */
#define DUE \
	"i.inviter_id = $1 AND i.status = 'pending' AND i.charged AND i.uses = 0 AND i.expires_at <= $2"

typedef struct Quota
{
	int			granted;
	int			used;
	bool		default_given;
} Quota;

static SavedPlan read_quota_plan = {
	.sql = "SELECT q.granted, q.used, q.default_given FROM invite_sync.user_invitation_quota AS q WHERE q.user_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan lock_quota_plan = {
	.sql = "SELECT q.granted, q.used, q.default_given FROM invite_sync.user_invitation_quota AS q WHERE q.user_id = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan make_quota_plan = {
	.sql = "INSERT INTO invite_sync.user_invitation_quota AS q (user_id, granted, default_given) VALUES ($1, 0, false) "
	"ON CONFLICT (user_id) DO NOTHING",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan store_quota_plan = {
	.sql = "UPDATE invite_sync.user_invitation_quota AS q SET granted = $2, used = $3, default_given = $4, "
	"updated_at = pg_catalog.clock_timestamp() WHERE q.user_id = $1",
	.nargs = 4,
	.argtypes = {UUIDOID, INT4OID, INT4OID, BOOLOID}
};

static SavedPlan give_back_plan = {
	.sql = "UPDATE invite_sync.user_invitation_quota AS q SET used = GREATEST(q.used - $2, 0), "
	"updated_at = pg_catalog.clock_timestamp() WHERE q.user_id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, INT4OID}
};

/*
 * Close what has expired, as far as nobody has it locked. Who deletes an
 * organization locks its grants before the invitation: an invitation of which
 * somebody has a grant is left, or the two would wait for each other.
 */
static SavedPlan settle_plan = {
	.sql = "WITH due AS MATERIALIZED (SELECT i.id FROM invite_sync.invitation AS i WHERE " DUE " FOR NO KEY UPDATE SKIP LOCKED), "
	"held AS MATERIALIZED (SELECT g.invitation_id FROM invite_sync.invitation_grant AS g "
	"WHERE g.open AND g.invitation_id IN (SELECT d.id FROM due AS d) FOR NO KEY UPDATE SKIP LOCKED), "
	"free AS MATERIALIZED (SELECT d.id FROM due AS d WHERE "
	"(SELECT pg_catalog.count(*) FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = d.id AND g.open) = "
	"(SELECT pg_catalog.count(*) FROM held AS h WHERE h.invitation_id = d.id)), "
	"shut AS (UPDATE invite_sync.invitation_grant AS g SET open = false FROM free AS f WHERE g.invitation_id = f.id AND g.open), "
	"closed AS (UPDATE invite_sync.invitation AS i SET status = 'expired', closed_at = pg_catalog.clock_timestamp(), charged = false, "
	"device_digest = NULL, device_until = NULL FROM free AS f WHERE i.id = f.id RETURNING i.id) "
	"SELECT pg_catalog.count(*)::pg_catalog.int4 FROM closed AS c",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID}
};

static SavedPlan wait_for_due_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE " DUE " ORDER BY i.id FOR NO KEY UPDATE",
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID}
};

/* Has the user the platform role of an administrator? Their row of auth.users is locked, and so nobody gives or takes it. */
static SavedPlan platform_role_plan = {
	.sql = "SELECT 1 FROM invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id "
	"WHERE p.user_id = $1 FOR SHARE",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan administrator_plan = {
	.sql = "SELECT 'platform.admin' = ANY (invite_sync.role_permissions(p.role_id, true)) "
	"FROM invite_sync.platform_role AS p WHERE p.user_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* In two steps: what the role allows is read when nobody can be changing it. */
static bool
is_administrator(const pg_uuid_t *user_id)
{
	Datum		values[1];
	Datum		answer[1];

	values[0] = UUIDPGetDatum(user_id);
	return own_row(&platform_role_plan, values, NULL, answer, 1) &&
		own_row(&administrator_plan, values, NULL, answer, 1) && DatumGetBool(answer[0]);
}

/* The default, once: whether it is in stays written down, because an address can be verified later. */
static void
give_default(Quota *quota, bool verified)
{
	if (quota->default_given || !verified)
		return;
	quota->granted = (int) Min((int64) quota->granted + invite_sync_default_quota, PG_INT32_MAX);
	quota->default_given = true;
}

static bool
fetch_quota(SavedPlan *plan, const pg_uuid_t *user_id, Quota *quota)
{
	Datum		values[1];
	Datum		columns[3];

	memset(quota, 0, sizeof(*quota));
	values[0] = UUIDPGetDatum(user_id);
	if (!own_row(plan, values, NULL, columns, lengthof(columns)))
		return false;
	quota->granted = DatumGetInt32(columns[0]);
	quota->used = DatumGetInt32(columns[1]);
	quota->default_given = DatumGetBool(columns[2]);
	return true;
}

/* The transaction that has locked something here: a quota, or a row of a rate limit. */
static LocalTransactionId locked_in = InvalidLocalTransactionId;

/* The row, made if need be, locked; to be stored again by who asks. */
static void
lock_quota(const pg_uuid_t *user_id, bool verified, Quota *quota)
{
	Datum		values[1];
	int			attempt = 0;

	values[0] = UUIDPGetDatum(user_id);
	while (!fetch_quota(&lock_quota_plan, user_id, quota))
	{
		if (++attempt > LOCK_ATTEMPTS)
			keeps_changing();
		(void) own_change(&make_quota_plan, values, NULL);
	}
	locked_in = compat_my_lxid();
	give_default(quota, verified);
}

static void
store_quota(const pg_uuid_t *user_id, const Quota *quota)
{
	Datum		values[4];

	values[0] = UUIDPGetDatum(user_id);
	values[1] = Int32GetDatum(quota->granted);
	values[2] = Int32GetDatum(quota->used);
	values[3] = BoolGetDatum(quota->default_given);
	(void) own_change(&store_quota_plan, values, NULL);
}

/* With the quota locked: give back what has expired. */
static void
settle(const pg_uuid_t *user_id, Quota *quota)
{
	Datum		values[2];
	Datum		closed[1];

	values[0] = UUIDPGetDatum(user_id);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	(void) own_row(&settle_plan, values, NULL, closed, 1);
	quota->used = Max(quota->used - DatumGetInt32(closed[0]), 0);
}

/*
 * Lock the inviter's quota, settled, for taking from it.
 *
 * An expired invitation that somebody has locked is one that they are about to
 * close, which gives it back, or to accept, which does not. When it matters
 * which, they are waited for, and that before anything is locked here, which
 * they may want to lock in their turn. Who has locked something already does
 * not wait: what is undecided is not given out.
 */
static void
lock_settled(const pg_uuid_t *inviter_id, Quota *quota)
{
	bool		verified = membership_verified_email(inviter_id, true) != NULL;
	Datum		values[2];

	if (locked_in != compat_my_lxid())
	{
		(void) fetch_quota(&read_quota_plan, inviter_id, quota);
		give_default(quota, verified);
		if (quota->granted <= quota->used && quota->granted > 0)
		{
			values[0] = UUIDPGetDatum(inviter_id);
			values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
			(void) own_change(&wait_for_due_plan, values, NULL);
		}
	}
	lock_quota(inviter_id, verified, quota);
	settle(inviter_id, quota);
}

static void
quota_exhausted(const pg_uuid_t *inviter_id, const Quota *quota)
{
	const char *hint = quota->default_given ?
		"Invitations that expire or are declined are given back." :
		"Confirm your email address first.";

	refuse("quota_exhausted", psprintf("user_id=%s", uuid_text(inviter_id)), hint);
}

static bool
quota_take(const pg_uuid_t *inviter_id)
{
	Quota		quota;
	int			guc_level = membership_bound_waits();

	if (is_administrator(inviter_id))
	{
		AtEOXact_GUC(false, guc_level);
		return false;
	}
	lock_settled(inviter_id, &quota);
	if (quota.granted <= quota.used)
		quota_exhausted(inviter_id, &quota);
	quota.used++;
	store_quota(inviter_id, &quota);
	AtEOXact_GUC(false, guc_level);
	return true;
}

static SavedPlan count_due_plan = {
	.sql = "SELECT pg_catalog.count(*)::pg_catalog.int4 FROM invite_sync.invitation AS i WHERE " DUE,
	.nargs = 2,
	.argtypes = {UUIDOID, TIMESTAMPTZOID}
};

/* Would take() find anything, by what is to be read without a lock? */
static void
quota_ask_take(const pg_uuid_t *inviter_id)
{
	Quota		quota;
	Datum		values[2];
	Datum		answer[1];

	values[0] = UUIDPGetDatum(inviter_id);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (own_row(&administrator_plan, values, NULL, answer, 1) && DatumGetBool(answer[0]))
		return;
	(void) fetch_quota(&read_quota_plan, inviter_id, &quota);
	give_default(&quota, membership_verified_email(inviter_id, true) != NULL);
	(void) own_row(&count_due_plan, values, NULL, answer, 1);
	if (quota.granted <= quota.used - DatumGetInt32(answer[0]))
		quota_exhausted(inviter_id, &quota);
}

static void
quota_give_back(const pg_uuid_t *inviter_id, int n)
{
	Datum		values[2];
	int			guc_level = membership_bound_waits();

	values[0] = UUIDPGetDatum(inviter_id);
	values[1] = Int32GetDatum(n);
	locked_in = compat_my_lxid();
	(void) own_change(&give_back_plan, values, NULL);
	AtEOXact_GUC(false, guc_level);
}

/* ---- looking ---- */

/* Users and whether their address is verified; the default; the time. */
#define FIGURES_FROM \
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS x (user_id, verified, n) " \
	"LEFT JOIN invite_sync.user_invitation_quota AS q ON q.user_id = x.user_id CROSS JOIN LATERAL (SELECT " \
	"LEAST(coalesce(q.granted, 0)::pg_catalog.int8 + CASE WHEN x.verified AND NOT coalesce(q.default_given, false) THEN $3 ELSE 0 END, " \
	"2147483647)::pg_catalog.int4 AS granted, " \
	"GREATEST(coalesce(q.used, 0) - (SELECT pg_catalog.count(*) FROM invite_sync.invitation AS i WHERE i.inviter_id = x.user_id " \
	"AND i.status = 'pending' AND i.charged AND i.uses = 0 AND i.expires_at <= $4), 0)::pg_catalog.int4 AS used, " \
	"EXISTS (SELECT FROM invite_sync.platform_role AS p WHERE p.user_id = x.user_id " \
	"AND 'platform.admin' = ANY (invite_sync.role_permissions(p.role_id, true))) AS unlimited) AS f ORDER BY x.n"

#define FIGURES \
	"f.granted, f.used, CASE WHEN NOT f.unlimited THEN GREATEST(f.granted - f.used, 0) END, f.unlimited"

static SavedPlan my_figures_plan = {
	.sql = "SELECT " FIGURES FIGURES_FROM,
	.nargs = 4,
	.argtypes = {UUIDARRAYOID, BOOLARRAYOID, INT4OID, TIMESTAMPTZOID}
};

static SavedPlan user_figures_plan = {
	.sql = "SELECT x.user_id, " FIGURES FIGURES_FROM,
	.nargs = 4,
	.argtypes = {UUIDARRAYOID, BOOLARRAYOID, INT4OID, TIMESTAMPTZOID}
};

static SavedPlan report_figures_plan = {
	.sql = "SELECT x.user_id, " FIGURES ", x.user_id::pg_catalog.text" FIGURES_FROM,
	.nargs = 4,
	.argtypes = {UUIDARRAYOID, BOOLARRAYOID, INT4OID, TIMESTAMPTZOID}
};

static void
figures_values(const pg_uuid_t *user_ids, int nusers, bool fresh, Datum *values)
{
	Datum	   *verified = palloc(sizeof(Datum) * Max(nusers, 1));

	for (int i = 0; i < nusers; i++)
		verified[i] = BoolGetDatum(membership_verified_email(&user_ids[i], fresh) != NULL);
	values[0] = plan_uuid_array(user_ids, nusers);
	values[1] = plan_array(verified, NULL, nusers, BOOLOID);
	values[2] = Int32GetDatum(invite_sync_default_quota);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
}

static Datum
figures_row(FunctionCallInfo fcinfo, SavedPlan *plan, const pg_uuid_t *user_id, bool fresh)
{
	Datum		values[4];
	Scope		scope;
	Datum		result;

	figures_values(user_id, 1, fresh, values);
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(plan));
	plan_execute(plan, values, NULL, !fresh, 0);
	result = plan_result_row(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/* my_quota() */
Datum
quota_mine(PG_FUNCTION_ARGS)
{
	Caller		caller;

	organization_actor(&caller);
	if (!caller.has_user)
		refuse("not_authenticated", NULL, "Only a user has a quota; quota_report() tells those of all.");
	return figures_row(fcinfo, &my_figures_plan, &caller.user_id, false);
}

static SavedPlan page_plan = {
	.sql = "SELECT u.id FROM " CALLER_AUTH_USERS " AS u WHERE u.id > $1 AND u.deleted_at IS NULL AND NOT u.is_anonymous "
	"ORDER BY u.id LIMIT $2",
	.nargs = 2,
	.argtypes = {UUIDOID, INT8OID}
};

/* The ids that a statement over auth.users returns, in the caller's memory. */
static int
users_of(SavedPlan *plan, Datum *values, bool read_only, pg_uuid_t **user_ids)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	int			n;
	bool		isnull;

	SPI_connect();
	scope_enter_auth(&scope);
	plan_by_index(plan_get(plan));
	plan_execute(plan, values, NULL, read_only, 0);
	n = (int) SPI_processed;
	*user_ids = MemoryContextAlloc(cxt, sizeof(pg_uuid_t) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*user_ids)[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	return n;
}

/* quota_report(after, page_size) */
Datum
quota_report(PG_FUNCTION_ARGS)
{
	Datum		values[4];
	pg_uuid_t	after;
	pg_uuid_t  *user_ids;
	int			nusers = 0;
	Scope		scope;

	caller_require_service();
	memset(&after, 0, sizeof(after));
	if (!PG_ARGISNULL(0) && !caller_parse_uuid(text_to_cstring(PG_GETARG_TEXT_PP(0)), &after))
		refuse("data_malformed", "argument=after", "Pass the cursor of the last row of the page before.");
	values[0] = UUIDPGetDatum(&after);
	values[1] = Int64GetDatum(organization_page_size(fcinfo, 1));
	if (OidIsValid(caller_auth_users_relid(true)))
		nusers = users_of(&page_plan, values, true, &user_ids);
	else
		user_ids = palloc(sizeof(pg_uuid_t));
	figures_values(user_ids, nusers, false, values);
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(&report_figures_plan));
	plan_execute(&report_figures_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* ---- giving ---- */

static SavedPlan user_there_plan = {
	.sql = "SELECT u.id FROM " CALLER_AUTH_USERS " AS u WHERE u.id = $1 AND u.deleted_at IS NULL",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* The user's row of auth.users, so that nobody takes meanwhile; then their quota. */
static void
lock_to_change(const pg_uuid_t *user_id, Quota *quota)
{
	Datum		values[1];
	pg_uuid_t  *found;
	int			guc_level;

	organization_lock(user_id, 1, NULL, 0);
	values[0] = UUIDPGetDatum(user_id);
	if (users_of(&user_there_plan, values, false, &found) == 0)
		refuse("user_unknown", NULL, NULL);
	guc_level = membership_bound_waits();
	lock_quota(user_id, membership_verified_email(user_id, true) != NULL, quota);
	settle(user_id, quota);
	AtEOXact_GUC(false, guc_level);
}

static int
amount_argument(FunctionCallInfo fcinfo, const char *name, int least, int most)
{
	int			amount = PG_ARGISNULL(1) ? least - 1 : PG_GETARG_INT32(1);

	if (amount < least || amount > most)
		refuse("data_malformed", psprintf("argument=%s", name), psprintf("Pass a number from %d to %d.", least, most));
	return amount;
}

/* grant_quota(user_id, amount) */
Datum
quota_grant(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	user_id;
	int			amount;
	Quota		quota;

	caller_require_service();
	caller_get(&caller);
	user_id = membership_uuid_argument(fcinfo, 0, "user_id");
	amount = amount_argument(fcinfo, "amount", 1, AMOUNT_MAX);
	lock_to_change(&user_id, &quota);
	if (amount > PG_INT32_MAX - quota.granted)
		refuse("data_malformed", "argument=amount", "It would be more in all than can be counted.");
	quota.granted += amount;
	store_quota(&user_id, &quota);
	log_change(&caller, "quota.granted", "user", uuid_text(&user_id), psprintf("{\"amount\": %d}", amount));
	return figures_row(fcinfo, &user_figures_plan, &user_id, true);
}

void
quota_set_granted(const Caller *caller, const pg_uuid_t *user_id, int granted)
{
	Quota		quota;

	lock_to_change(user_id, &quota);
	quota.granted = granted;
	quota.default_given = true;
	store_quota(user_id, &quota);
	log_change(caller, "quota.set", "user", uuid_text(user_id), psprintf("{\"granted\": %d}", granted));
}

/* set_quota(user_id, granted) */
Datum
quota_set(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	user_id;
	int			granted;

	caller_require_service();
	caller_get(&caller);
	user_id = membership_uuid_argument(fcinfo, 0, "user_id");
	granted = amount_argument(fcinfo, "granted", 0, PG_INT32_MAX);
	quota_set_granted(&caller, &user_id, granted);
	return figures_row(fcinfo, &user_figures_plan, &user_id, true);
}

/* ---- for users who were there before ---- */

/* KEY SHARE: nobody deletes them meanwhile, and logins go on. */
static SavedPlan backfill_users_plan = {
	.sql = "SELECT x.id FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id FROM auth.users AS u "
	"WHERE u.id > $1 AND u.email_confirmed_at IS NOT NULL AND deleted_at IS NULL ORDER BY u.id LIMIT $2 FOR KEY SHARE) AS x ORDER BY x.id",
	.nargs = 2,
	.argtypes = {UUIDOID, INT8OID}
};

static SavedPlan backfill_plan = {
	.sql = "INSERT INTO invite_sync.user_invitation_quota AS q (user_id, granted) SELECT x.id, $2 FROM pg_catalog.unnest($1) AS x (id) "
	"ORDER BY x.id ON CONFLICT (user_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, INT4OID}
};

/* Rows of before the address was verified; what is locked gets it from who has locked it. */
static SavedPlan backfill_late_plan = {
	.sql = "WITH late AS MATERIALIZED (SELECT q.user_id FROM invite_sync.user_invitation_quota AS q "
	"WHERE q.user_id = ANY ($1) AND NOT q.default_given FOR NO KEY UPDATE SKIP LOCKED) "
	"UPDATE invite_sync.user_invitation_quota AS q SET granted = LEAST(q.granted::pg_catalog.int8 + $2, 2147483647)::pg_catalog.int4, "
	"default_given = true, updated_at = pg_catalog.clock_timestamp() FROM late AS l WHERE q.user_id = l.user_id",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, INT4OID}
};

static int64
batch_argument(FunctionCallInfo fcinfo, const char *procedure, int default_size, int most)
{
	CallContext *context = castNode(CallContext, fcinfo->context);
	int			size = PG_ARGISNULL(0) ? default_size : PG_GETARG_INT32(0);

	caller_require_operator();
	PreventCommandIfReadOnly(procedure);
	if (size < 1 || size > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be between 1 and %d", most)));
	if (context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s commits its batches", procedure),
				 errhint("Call it outside a transaction block and outside functions.")));
	return size;
}

/* One batch of users behind *after; false: there were none. */
static bool
backfill_batch(pg_uuid_t *after, int64 batch_size, uint64 *given)
{
	Datum		values[2];
	pg_uuid_t  *user_ids;
	int			nusers;
	int			nverified = 0;
	int			guc_level = membership_bound_waits();

	values[0] = UUIDPGetDatum(after);
	values[1] = Int64GetDatum(batch_size);
	nusers = users_of(&backfill_users_plan, values, false, &user_ids);
	if (nusers > 0)
		*after = user_ids[nusers - 1];
	for (int i = 0; i < nusers; i++)
		if (membership_verified_email(&user_ids[i], true) != NULL)
			user_ids[nverified++] = user_ids[i];
	if (nverified > 0)
	{
		values[0] = plan_uuid_array(user_ids, nverified);
		values[1] = Int32GetDatum(invite_sync_default_quota);
		*given += own_change(&backfill_plan, values, NULL);
		*given += own_change(&backfill_late_plan, values, NULL);
	}
	AtEOXact_GUC(false, guc_level);
	return nusers > 0;
}

/*
 * backfill_quota(batch_size): a procedure without a SET clause, which holds no
 * scope at a commit.
 */
Datum
quota_backfill(PG_FUNCTION_ARGS)
{
	int64		batch_size = batch_argument(fcinfo, "backfill_quota()", 1000, BACKFILL_BATCH_MAX);
	MemoryContext batch;
	MemoryContext old;
	pg_uuid_t	after;
	uint64		given = 0;
	bool		more = true;

	(void) caller_auth_users_relid(false);
	memset(&after, 0, sizeof(after));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	batch = AllocSetContextCreate(CurrentMemoryContext, "invite_sync backfill of quotas", ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		old = MemoryContextSwitchTo(batch);
		more = backfill_batch(&after, batch_size, &given);
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
		SPI_commit();
	}
	SPI_finish();
	ereport(NOTICE,
			(errmsg_plural("%llu user was given the default quota", "%llu users were given the default quota",
						   (unsigned long) given, (unsigned long long) given)));
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * The client's address
 * ---------------------------------------------------------------------
 */

/*
 * A string of JSON, which begins behind the quote at *s, as text; *s is then
 * behind its end. NULL where it does not end. Beyond ASCII an escape stands for
 * no address, so that it need not be told which character it is.
 */
static char *
scan_string(const char **s)
{
	StringInfoData text;

	initStringInfo(&text);
	for (; **s != '\0' && **s != '"'; (*s)++)
	{
		if (**s != '\\')
		{
			appendStringInfoChar(&text, **s);
			continue;
		}
		(*s)++;
		if (**s == '\0')
			return NULL;
		if (**s == 'u')
			appendStringInfoChar(&text, '?');
		else
			appendStringInfoChar(&text, strchr("\"\\/", **s) != NULL ? **s : ' ');
	}
	if (**s == '\0')
		return NULL;
	(*s)++;
	return text.data;
}

/*
 * The value of a header in request.headers, a flat object of strings whose keys
 * are in lower case. Not by the parser of JSON, which raises for what it cannot
 * convert to the database's encoding: somebody's odd header must not fail what
 * they do. NULL: there is none.
 */
static char *
request_header(const char *name)
{
	const char *s = GetConfigOption("request.headers", true, false);
	char	   *key = NULL;
	char	   *value;

	if (s == NULL || strlen(s) > HEADERS_BYTES_MAX)
		return NULL;
	while (*s != '\0')
	{
		switch (*s++)
		{
			case '"':
				value = scan_string(&s);
				if (value == NULL)
					return NULL;
				if (key == NULL)
				{
					key = value;
					break;
				}
				if (pg_strcasecmp(key, name) == 0)
					return value;
				key = NULL;
				break;
			case ',':
				key = NULL;
				break;
			default:
				break;
		}
	}
	return NULL;
}

/* 1.2.3.4, 1.2.3.4:5, 2001:db8::1, [2001:db8::1], [2001:db8::1]:5; false: something else */
static bool
parse_address(char *s, int *family, unsigned char *address)
{
	unsigned char bits[16 + 1];
	char	   *end;

	memset(bits, 0, sizeof(bits));
	if (*s == '[')
	{
		s++;
		end = strchr(s, ']');
		if (end == NULL)
			return false;
		*end = '\0';
	}
	else
	{
		end = strchr(s, ':');
		if (end != NULL && strchr(end + 1, ':') == NULL)
			*end = '\0';
	}
	if (*s == '\0' || strspn(s, "0123456789abcdefABCDEF:.") != strlen(s))
		return false;
	*family = strchr(s, ':') != NULL ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	if (pg_inet_net_pton(*family, s, bits, -1) < 0)
		return false;
	memcpy(address, bits, 16);
	return true;
}

/*
 * The key of an address: its digest, as addresses are personal too. An IPv6
 * address counts with its /64, all of which one client has; what is an IPv4
 * address in the guise of IPv6 is one. NULL: this is no address.
 */
char *
quota_address_key(const char *text_of_address)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	unsigned char address[16];
	StringInfoData text;
	int			family;
	int			nbytes;
	const unsigned char *bytes = address;

	if (!parse_address(pstrdup(text_of_address), &family, address))
		return NULL;
	nbytes = family == PGSQL_AF_INET ? 4 : 8;
	if (family == PGSQL_AF_INET6 && memcmp(address, mapped, sizeof(mapped)) == 0)
	{
		bytes = address + sizeof(mapped);
		nbytes = 4;
	}
	initStringInfo(&text);
	for (int i = 0; i < nbytes; i++)
		appendStringInfo(&text, "%02x", bytes[i]);
	return invitation_email_key(text.data);
}

/* That of the request's client. NULL: nobody says what it is. */
static char *
client_address_key(void)
{
	char	   *value;
	char	   *hop;

	if (invite_sync_client_address_header == NULL || invite_sync_client_address_header[0] == '\0')
		return NULL;
	value = request_header(invite_sync_client_address_header);
	if (value == NULL)
		return NULL;
	/* what comes before the last one was written by who asks */
	hop = strrchr(value, ',');
	hop = hop ? hop + 1 : value;
	while (*hop == ' ' || *hop == '\t')
		hop++;
	for (size_t len = strlen(hop); len > 0 && (hop[len - 1] == ' ' || hop[len - 1] == '\t'); len--)
		hop[len - 1] = '\0';
	return quota_address_key(hop);
}

/* ---------------------------------------------------------------------
 * Rate limits
 * ---------------------------------------------------------------------
 */

/* A rule, the key that it is about, and how that one stands. */
typedef struct Window
{
	char	   *scope;
	int			max;			/* 0: no limit */
	int64		per;			/* microseconds */
	const char *key;			/* NULL: nobody to count */
	TimestampTz *stamps;		/* within the window, in order */
	int			nstamps;
	TimestampTz now;
} Window;

/* of an action, the client's address last */
#define RULES \
	"SELECT r.scope, coalesce(r.max_actions, 0), (EXTRACT(epoch FROM r.per) * 1000000)::pg_catalog.int8 " \
	"FROM invite_sync.rate_limits AS r WHERE r.action = $1 "

static SavedPlan rules_plan = {
	.sql = RULES "ORDER BY r.scope = 'address', r.scope",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan rules_of_scope_plan = {
	.sql = RULES "AND r.scope IN ($2, 'address') ORDER BY r.scope = 'address', r.scope",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static SavedPlan read_window_plan = {
	.sql = "SELECT l.stamps FROM invite_sync.rate_limit AS l WHERE l.action = $1 AND l.scope = $2 AND l.key = $3",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID}
};

static SavedPlan lock_window_plan = {
	.sql = "SELECT l.stamps FROM invite_sync.rate_limit AS l WHERE l.action = $1 AND l.scope = $2 AND l.key = $3 FOR NO KEY UPDATE",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID}
};

/* With time enough to be used: who prunes may be this very transaction. */
static SavedPlan make_window_plan = {
	.sql = "INSERT INTO invite_sync.rate_limit AS l (action, scope, key, until) "
	"VALUES ($1, $2, $3, pg_catalog.clock_timestamp() + '1 hour'::pg_catalog.interval) "
	"ON CONFLICT (action, scope, key) DO NOTHING",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID}
};

static SavedPlan store_window_plan = {
	.sql = "UPDATE invite_sync.rate_limit AS l SET stamps = $4, until = $5 WHERE l.action = $1 AND l.scope = $2 AND l.key = $3",
	.nargs = 5,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZOID}
};

/* Nothing can reference a row but by its whole key, and nobody does. */
static SavedPlan prune_plan = {
	.sql = "WITH old AS MATERIALIZED (SELECT l.action, l.scope, l.key FROM invite_sync.rate_limit AS l WHERE l.until <= $1 "
	"ORDER BY l.until LIMIT $2 FOR UPDATE SKIP LOCKED) "
	"DELETE FROM invite_sync.rate_limit AS l USING old AS o WHERE l.action = o.action AND l.scope = o.scope AND l.key = o.key",
	.nargs = 2,
	.argtypes = {TIMESTAMPTZOID, INT8OID}
};

static uint64
prune_some(int64 n)
{
	Datum		values[2];

	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = Int64GetDatum(n);
	return own_change(&prune_plan, values, NULL);
}

/* The rules that hold for an action; scope NULL: all of them. */
static int
read_rules(const char *action, const char *scope, const char *key, Window *windows)
{
	MemoryContext cxt = CurrentMemoryContext;
	SavedPlan  *plan = scope ? &rules_of_scope_plan : &rules_plan;
	Datum		values[2];
	Scope		own;
	int			n;

	memset(windows, 0, sizeof(Window) * RULES_MAX);
	values[0] = CStringGetTextDatum(action);
	values[1] = scope ? CStringGetTextDatum(scope) : (Datum) 0;
	SPI_connect();
	scope_enter_own(&own);
	plan_by_lookup(plan_get(plan));
	plan_execute(plan, values, NULL, false, 0);
	n = (int) Min(SPI_processed, RULES_MAX);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		windows[i].scope = MemoryContextStrdup(cxt, SPI_getvalue(row, desc, 1));
		windows[i].max = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
		windows[i].per = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
	}
	scope_leave(&own);
	SPI_finish();
	for (int i = 0; i < n; i++)
		windows[i].key = strcmp(windows[i].scope, "address") == 0 ? client_address_key() : key;
	return n;
}

static void
window_values(const char *action, const Window *window, Datum *values)
{
	values[0] = CStringGetTextDatum(action);
	values[1] = CStringGetTextDatum(window->scope);
	values[2] = CStringGetTextDatum(window->key);
}

/* The row; false: there is none. Drops what has left the window, by the clock once the row is locked. */
static bool
fetch_window(SavedPlan *plan, Datum *values, Window *window)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	bool		isnull;
	bool		found;

	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(plan));
	plan_execute(plan, values, NULL, false, 0);
	found = SPI_processed > 0;
	if (found)
	{
		Datum	   *stamps;
		int			n;

		deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
						  TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &stamps, NULL, &n);
		window->now = GetCurrentTimestamp();
		old = MemoryContextSwitchTo(cxt);
		/* and room for one more */
		window->stamps = palloc(sizeof(TimestampTz) * (n + 1));
		MemoryContextSwitchTo(old);
		window->nstamps = 0;
		for (int i = 0; i < n; i++)
			if (DatumGetTimestampTz(stamps[i]) > window->now - window->per)
				window->stamps[window->nstamps++] = DatumGetTimestampTz(stamps[i]);
	}
	scope_leave(&scope);
	SPI_finish();
	return found;
}

static void
lock_window(const char *action, Window *window)
{
	Datum		values[3];
	int			attempt = 0;

	window_values(action, window, values);
	locked_in = compat_my_lxid();
	while (!fetch_window(&lock_window_plan, values, window))
	{
		if (++attempt > LOCK_ATTEMPTS)
			keeps_changing();
		/* as many go as come; not where a row that has changed meanwhile would be an error */
		if (own_change(&make_window_plan, values, NULL) > 0 && !IsolationUsesXactSnapshot())
			(void) prune_some(2);
	}
}

static void
charge_window(const char *action, Window *window)
{
	Datum		values[5];
	Datum	   *stamps = palloc(sizeof(Datum) * (window->nstamps + 1));
	TimestampTz at = window->now;

	/* a clock that was set back does not put them out of order */
	if (window->nstamps > 0)
		at = Max(at, window->stamps[window->nstamps - 1]);
	window->stamps[window->nstamps++] = at;
	for (int i = 0; i < window->nstamps; i++)
		stamps[i] = TimestampTzGetDatum(window->stamps[i]);
	window_values(action, window, values);
	values[3] = plan_array(stamps, NULL, window->nstamps, TIMESTAMPTZOID);
	values[4] = TimestampTzGetDatum(at + window->per);
	(void) own_change(&store_window_plan, values, NULL);
}

/*
 * Count one action for every one of these windows, or for none. remaining (may
 * be NULL): how many more, -1 for no limit.
 */
static bool
count_in(const char *action, Window *windows, int nwindows, TimestampTz *retry_at, int *remaining)
{
	bool		allowed = true;
	int			least = -1;
	int			guc_level = membership_bound_waits();

	*retry_at = DT_NOBEGIN;
	for (int i = 0; i < nwindows; i++)
	{
		Window	   *w = &windows[i];

		if (w->max == 0 || w->key == NULL)
			continue;
		lock_window(action, w);
		if (w->nstamps >= w->max)
		{
			allowed = false;
			*retry_at = Max(*retry_at, w->stamps[w->nstamps - w->max] + w->per);
		}
	}
	for (int i = 0; i < nwindows; i++)
	{
		Window	   *w = &windows[i];
		int			left;

		if (w->max == 0 || w->key == NULL)
			continue;
		if (allowed)
			charge_window(action, w);
		left = Max(w->max - w->nstamps, 0);
		least = least < 0 ? left : Min(least, left);
	}
	AtEOXact_GUC(false, guc_level);
	if (remaining != NULL)
		*remaining = least;
	return allowed;
}

static bool
quota_try_count(const char *action, const char *scope, const char *key, TimestampTz *retry_at)
{
	Window		windows[RULES_MAX];
	int			n = read_rules(action, scope, key, windows);

	return count_in(action, windows, n, retry_at, NULL);
}

static void
rate_limited(TimestampTz retry_at)
{
	refuse("rate_limited", psprintf("retry_at=%s", time_text(retry_at)), "Try again then.");
}

/*
 * The same where the client's address is not the request's, as when the auth
 * server says it. A key that is NULL counts nothing.
 */
bool
quota_try_count_of(const char *action, const char *scope, const char *key, const char *address_key,
				   TimestampTz *retry_at)
{
	Window		windows[RULES_MAX];
	int			n = read_rules(action, scope, key, windows);

	for (int i = 0; i < n; i++)
		if (strcmp(windows[i].scope, "address") == 0)
			windows[i].key = address_key;
	return count_in(action, windows, n, retry_at, NULL);
}

static void
fill_windows(const QuotaWindow *given, int n, Window *windows)
{
	Assert(n <= RULES_MAX);
	memset(windows, 0, sizeof(Window) * RULES_MAX);
	for (int i = 0; i < n; i++)
	{
		windows[i].scope = unconstify(char *, given[i].scope);
		windows[i].max = given[i].max;
		windows[i].per = given[i].per;
		windows[i].key = given[i].key;
	}
}

bool
quota_count_windows(const char *action, const QuotaWindow *given, int n, int *remaining)
{
	Window		windows[RULES_MAX];
	TimestampTz retry_at;

	fill_windows(given, n, windows);
	return count_in(action, windows, n, &retry_at, remaining);
}

/* Rows that are not there count nothing, and are not made for the question. */
bool
quota_windows_open(const char *action, const QuotaWindow *given, int n)
{
	Window		windows[RULES_MAX];
	Datum		values[3];

	fill_windows(given, n, windows);
	for (int i = 0; i < n; i++)
	{
		if (windows[i].max == 0 || windows[i].key == NULL)
			continue;
		window_values(action, &windows[i], values);
		if (fetch_window(&lock_window_plan, values, &windows[i]) && windows[i].nstamps >= windows[i].max)
			return false;
	}
	return true;
}

static SavedPlan forget_window_plan = {
	.sql = "DELETE FROM invite_sync.rate_limit AS l WHERE l.action = $1 AND l.scope = $2 AND l.key = $3",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID}
};

void
quota_forget_window(const char *action, const QuotaWindow *given)
{
	Window		windows[RULES_MAX];
	Datum		values[3];

	if (given->key == NULL)
		return;
	fill_windows(given, 1, windows);
	window_values(action, &windows[0], values);
	(void) own_change(&forget_window_plan, values, NULL);
}

static void
quota_count(const char *action, const char *scope, const char *key)
{
	TimestampTz retry_at;

	if (!quota_try_count(action, scope, key, &retry_at))
		rate_limited(retry_at);
}

/* The same without a lock, and without counting: for who asks what would be. */
static void
quota_ask_count(const char *action, const char *scope, const char *key)
{
	Window		windows[RULES_MAX];
	int			n = read_rules(action, scope, key, windows);
	TimestampTz retry_at = DT_NOBEGIN;

	for (int i = 0; i < n; i++)
	{
		Window	   *w = &windows[i];
		Datum		values[3];

		if (w->max == 0 || w->key == NULL)
			continue;
		window_values(action, w, values);
		if (fetch_window(&read_window_plan, values, w) && w->nstamps >= w->max)
			retry_at = Max(retry_at, w->stamps[w->nstamps - w->max] + w->per);
	}
	if (retry_at != DT_NOBEGIN)
		rate_limited(retry_at);
}

/* ---- configuring ---- */

typedef struct BuiltIn
{
	const char *action;
	const char *scope;
} BuiltIn;

/* What the extension counts by itself; the figures are in the view rate_limits. */
static const BuiltIn built_in[] = {
	{"invite", "user"},
	{"message", "recipient"},
	{"resend", "invitation"},
	{"check_invitation", "user"}
};

static bool
well_formed_action(const char *s)
{
	if (!(*s >= 'a' && *s <= 'z') || strlen(s) > NAME_MAX_BYTES)
		return false;
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || strchr("_.-", *s) != NULL))
			return false;
	return true;
}

/* An action and one of its scopes; without one its first. */
static void
rule_arguments(FunctionCallInfo fcinfo, int scope_arg, char **action, const char **scope)
{
	const char *own = "key";

	caller_refuse_null(PG_ARGISNULL(0), "action", NULL);
	*action = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!well_formed_action(*action))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("action must be of a-z, 0-9, _, . and -, beginning with a letter, at most %d", NAME_MAX_BYTES)));
	for (size_t i = 0; i < lengthof(built_in); i++)
		if (strcmp(*action, built_in[i].action) == 0)
			own = built_in[i].scope;
	*scope = PG_ARGISNULL(scope_arg) ? own : text_to_cstring(PG_GETARG_TEXT_PP(scope_arg));
	if (strcmp(*scope, own) != 0 && strcmp(*scope, "address") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("action \"%s\" is not counted per %s", *action, *scope),
				 errhint("Its scope is %s or address.", own)));
}

/*
 * The window's length, in days and time of day alone: what a month and a day
 * are must not depend on the date or the session's time zone.
 */
static Datum
window_argument(FunctionCallInfo fcinfo, int arg)
{
	Interval   *per = PG_GETARG_INTERVAL_P(arg);
	Interval   *result = palloc0(sizeof(Interval));
	double		length = (per->month * 30.0 + per->day) * USECS_PER_DAY + (double) per->time;
	int64		micros;

	if (length < USECS_PER_SEC || length > 366.0 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("per must be between 1 second and 366 days")));
	micros = ((int64) per->month * 30 + per->day) * USECS_PER_DAY + per->time;
	result->day = (int32) (micros / USECS_PER_DAY);
	result->time = micros % USECS_PER_DAY;
	return IntervalPGetDatum(result);
}

static SavedPlan set_rule_plan = {
	.sql = "INSERT INTO invite_sync.rate_limit_rule AS r (action, scope, max_actions, per) VALUES ($1, $2, $3, $4) "
	"ON CONFLICT (action, scope) DO UPDATE SET max_actions = excluded.max_actions, per = excluded.per, updated_at = pg_catalog.now() "
	"WHERE r.max_actions IS DISTINCT FROM excluded.max_actions OR r.per <> excluded.per",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTOID, INT4OID, INTERVALOID}
};

static SavedPlan drop_rule_plan = {
	.sql = "DELETE FROM invite_sync.rate_limit_rule AS r WHERE r.action = $1 AND r.scope = $2",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static SavedPlan rule_row_plan = {
	.sql = "SELECT r.action, r.scope, r.max_actions, r.per FROM invite_sync.rate_limits AS r WHERE r.action = $1 AND r.scope = $2",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

/* set_rate_limit(action, max_actions, per, scope) */
Datum
quota_set_rate_limit(PG_FUNCTION_ARGS)
{
	Caller		caller;
	char	   *action;
	const char *scope;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	int			guc_level;

	caller_require_operator();
	caller_get(&caller);
	rule_arguments(fcinfo, 3, &action, &scope);
	if (!PG_ARGISNULL(1) && (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > ACTIONS_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_actions must be between 1 and %d", ACTIONS_MAX),
				 errhint("NULL: no limit.")));
	caller_refuse_null(PG_ARGISNULL(2), "per", NULL);
	values[0] = CStringGetTextDatum(action);
	values[1] = CStringGetTextDatum(scope);
	values[2] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	nulls[2] = PG_ARGISNULL(1) ? 'n' : ' ';
	values[3] = window_argument(fcinfo, 2);
	guc_level = membership_bound_waits();
	if (own_change(&set_rule_plan, values, nulls) > 0)
		log_change(&caller, "quota.rate_limit_set", "rate_limit", psprintf("%s/%s", action, scope), NULL);
	else
		ereport(NOTICE,
				(errmsg("rate limit of \"%s\" per %s is unchanged", action, scope)));
	AtEOXact_GUC(false, guc_level);
	return organization_answer(fcinfo, &rule_row_plan, values, NULL, false);
}

/* drop_rate_limit(action, scope) */
Datum
quota_drop_rate_limit(PG_FUNCTION_ARGS)
{
	Caller		caller;
	char	   *action;
	const char *scope;
	Datum		values[2];
	int			guc_level;
	bool		dropped;

	caller_require_operator();
	caller_get(&caller);
	rule_arguments(fcinfo, 1, &action, &scope);
	values[0] = CStringGetTextDatum(action);
	values[1] = CStringGetTextDatum(scope);
	guc_level = membership_bound_waits();
	dropped = own_change(&drop_rule_plan, values, NULL) > 0;
	AtEOXact_GUC(false, guc_level);
	if (dropped)
		log_change(&caller, "quota.rate_limit_dropped", "rate_limit", psprintf("%s/%s", action, scope), NULL);
	else
		ereport(NOTICE,
				(errmsg("no rate limit of \"%s\" per %s was set", action, scope)));
	PG_RETURN_BOOL(dropped);
}

/* ---- for applications ---- */

/*
 * Ids as they are, whatever else as its digest: nobody means to keep an address
 * or a telephone number here, and somebody will pass one.
 */
static char *
key_argument(FunctionCallInfo fcinfo, int arg)
{
	text	   *value = membership_text_argument(fcinfo, arg, "key");
	char	   *s = text_to_cstring(value);
	char	   *email;
	pg_uuid_t	id;

	if (strlen(s) == 0 || strlen(s) > KEY_BYTES_MAX)
		refuse("data_malformed", "argument=key", "A key has 1 to 1000 bytes.");
	if (caller_parse_uuid(s, &id))
		return uuid_text(&id);
	email = invitation_email(s, strlen(s));
	return invitation_email_key(email ? email : s);
}

/* consume_rate_limit(action, key) */
Datum
quota_consume(PG_FUNCTION_ARGS)
{
	char	   *action;
	char	   *key;
	Window		windows[RULES_MAX];
	int			nwindows;
	TimestampTz retry_at;
	int			remaining;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	caller_require_service();
	action = text_to_cstring(membership_text_argument(fcinfo, 0, "action"));
	key = key_argument(fcinfo, 1);
	if (!well_formed_action(action))
		refuse("data_malformed", "argument=action", "An action is of a-z, 0-9, _, . and -, beginning with a letter, at most 63.");
	nwindows = read_rules(action, NULL, key, windows);
	if (nwindows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no rate limit of action \"%s\"", action),
				 errhint("SELECT action FROM invite_sync.set_rate_limit('%s', 10, per => '1 hour');", action)));
	values[0] = BoolGetDatum(count_in(action, windows, nwindows, &retry_at, &remaining));
	values[1] = Int32GetDatum(remaining);
	nulls[1] = remaining < 0;
	values[2] = TimestampTzGetDatum(retry_at);
	nulls[2] = DatumGetBool(values[0]);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * The stamps are in order, and those that count are the last ones. Seconds, not
 * days: what is added must not depend on the session's time zone.
 */
static SavedPlan rate_limit_report_plan = {
	.sql = "SELECT l.action, l.scope, l.key, c.used, r.max_actions, r.per, CASE WHEN r.max_actions IS NOT NULL THEN GREATEST(r.max_actions - c.used, 0) END, "
	"CASE WHEN c.used >= r.max_actions THEN l.stamps[pg_catalog.cardinality(l.stamps) - r.max_actions + 1] + w.length END, "
	"l.action || '/' || l.scope || '/' || l.key "
	"FROM invite_sync.rate_limit AS l JOIN invite_sync.rate_limits AS r ON r.action = l.action AND r.scope = l.scope "
	"CROSS JOIN LATERAL (SELECT pg_catalog.make_interval(secs => EXTRACT(epoch FROM r.per)::pg_catalog.float8)) AS w (length) "
	"CROSS JOIN LATERAL (SELECT pg_catalog.count(*)::pg_catalog.int4 FROM pg_catalog.unnest(l.stamps) AS s (at) WHERE s.at > $5 - w.length) AS c (used) "
	"WHERE (l.action, l.scope, l.key) > ($1, $2, $3) AND c.used > 0 "
	"ORDER BY l.action, l.scope, l.key LIMIT $4",
	.nargs = 5,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID}
};

/* rate_limit_report(after, page_size) */
Datum
quota_rate_limit_report(PG_FUNCTION_ARGS)
{
	char	   *part[3] = {"", "", ""};
	Datum		values[5];
	Scope		scope;

	caller_require_service();
	if (!PG_ARGISNULL(0))
	{
		part[0] = text_to_cstring(PG_GETARG_TEXT_PP(0));
		for (int i = 1; i < 3; i++)
		{
			char	   *slash = strchr(part[i - 1], '/');

			if (slash == NULL)
				refuse("data_malformed", "argument=after", "Pass the cursor of the last row of the page before.");
			else
			{
				*slash = '\0';
				part[i] = slash + 1;
			}
		}
	}
	for (int i = 0; i < 3; i++)
		values[i] = CStringGetTextDatum(part[i]);
	values[3] = Int64GetDatum(organization_page_size(fcinfo, 1));
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&rate_limit_report_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* prune_rate_limits(batch_size): as backfill_quota() */
Datum
quota_prune_rate_limits(PG_FUNCTION_ARGS)
{
	int64		batch_size = batch_argument(fcinfo, "prune_rate_limits()", 10000, PRUNE_BATCH_MAX);
	uint64		total = 0;
	uint64		n;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	do
	{
		n = prune_some(batch_size);
		total += n;
		SPI_commit();
	} while (n > 0);
	SPI_finish();
	ereport(NOTICE,
			(errmsg_plural("%llu row deleted", "%llu rows deleted",
						   (unsigned long) total, (unsigned long long) total)));
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Users who are gone, config_sql()
 * ---------------------------------------------------------------------
 */

static void
users_gone(const pg_uuid_t *user_ids, int64 nids)
{
	organization_check_now = true;
	PG_TRY();
	{
		(void) organization_delete_rows("user_invitation_quota", "user_id", UUIDARRAYOID,
										plan_uuid_array(user_ids, nids));
	}
	PG_FINALLY();
	{
		organization_check_now = false;
	}
	PG_END_TRY();
}

static SavedPlan note_plan = {
	.sql = "INSERT INTO invite_sync.gone_user AS g (user_id) SELECT x.id FROM pg_catalog.unnest($1) AS x (id) ORDER BY 1 "
	"ON CONFLICT (user_id) DO NOTHING",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static void
users_missed(const pg_uuid_t *user_ids, int64 nids)
{
	Datum		values[1];

	values[0] = plan_uuid_array(user_ids, nids);
	(void) own_change(&note_plan, values, NULL);
}

static SavedPlan everybody_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(q.user_id), '{}') FROM invite_sync.user_invitation_quota AS q",
	.nargs = 0
};

static SavedPlan missing_users_plan = {
	.sql = "SELECT x.id FROM pg_catalog.unnest($1) AS x (id) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.id AND u.deleted_at IS NULL WHERE u.id IS NULL ORDER BY x.id",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static int
users_who_are_gone(bool read_only, pg_uuid_t **user_ids)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	Datum		values[1];
	bool		isnull;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&everybody_plan, NULL, NULL, read_only, 0);
	old = MemoryContextSwitchTo(cxt);
	values[0] = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	return users_of(&missing_users_plan, values, read_only, user_ids);
}

/* Those that were noted are told by the room membership, which reads the notes. */
static void
find_gone(bool all, int64 limit, pg_uuid_t **user_ids, int64 *nids)
{
	*user_ids = NULL;
	*nids = all ? Min(users_who_are_gone(false, user_ids), limit) : 0;
}

/* Nothing to do: a copy of memberships is not about quotas. */
static void
copies_changed(const pg_uuid_t *user_ids, int64 nids)
{
}

static bool
needs_triggers(void)
{
	return false;
}

static void
quota_verify(bool users_readable, SyncFinding emit, void *arg)
{
	pg_uuid_t  *user_ids;
	int			n = users_readable ? users_who_are_gone(true, &user_ids) : 0;

	if (n > 0)
		emit(arg, "warning", "quota", "auth.users",
			 psprintf("%d users who are gone have left their quota", n),
			 "They were deleted while the triggers on auth.users were off, or could not be cleaned up after.",
			 "SELECT * FROM invite_sync.retry_quarantine(due_only => false);");
}

static SavedPlan config_rules_plan = {
	.sql = "SELECT pg_catalog.format('SELECT action FROM invite_sync.set_rate_limit(%L, %s, per => %L, scope => %L);', r.action, "
	"coalesce(r.max_actions::pg_catalog.text, 'NULL'), r.per, r.scope), NULL::pg_catalog.name "
	"FROM invite_sync.rate_limit_rule AS r ORDER BY r.action COLLATE \"C\", r.scope COLLATE \"C\"",
	.nargs = 0
};

static const SyncConfig config[] = {
	{"Rate limits", &config_rules_plan}
};

static const SyncListener listener = {
	.users_gone = users_gone,
	.users_missed = users_missed,
	.find_gone = find_gone,
	.copies_changed = copies_changed,
	.needs_triggers = needs_triggers,
	.verify = quota_verify,
	.config = config,
	.nconfig = lengthof(config)
};

static const InvitationQuota functions = {
	.take = quota_take,
	.give_back = quota_give_back,
	.count = quota_count,
	.try_count = quota_try_count,
	.ask_take = quota_ask_take,
	.ask_count = quota_ask_count
};

void
quota_init(void)
{
	invitation_quota = &functions;
	sync_listen(&listener);
}
