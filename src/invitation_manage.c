/*-------------------------------------------------------------------------
 *
 * invitation_manage.c
 *	  What becomes of invitations on the side of those who sent them: sent
 *	  again, taken back, listed, settled, forgotten; and how long they last.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "event.h"
#include "invitation.h"
#include "invitation_create.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(invitation_resend);
PG_FUNCTION_INFO_V1(invitation_revoke);
PG_FUNCTION_INFO_V1(invitation_list);
PG_FUNCTION_INFO_V1(invitation_set_policy);
PG_FUNCTION_INFO_V1(invitation_settle);
PG_FUNCTION_INFO_V1(invitation_prune);

#define BATCH_MAX	100000

/* ---------------------------------------------------------------------
 * One invitation, by its id
 * ---------------------------------------------------------------------
 */

static void
unknown(void)
{
	refuse("invitation_unknown", NULL, "list_invitations() names those that there are.");
}

/* Found, known and locked, with its users and organizations; as of now. */
static void
lock_one(const Inviter *inviter, const pg_uuid_t *id, void (*require) (const Inviter *, const Invitation *, bool),
		 Invitation *invitation)
{
	pg_uuid_t	users[2];
	int			nusers = 0;

	if (!invitation_read(id, true, false, invitation) || !invitation_known(inviter, invitation))
		unknown();
	require(inviter, invitation, false);
	if (inviter->has_inviter)
		users[nusers++] = inviter->as.user_id;
	if (invitation->has_inviter)
		users[nusers++] = invitation->inviter_id;
	organization_lock(users, nusers, invitation->organization_ids, invitation->ngrants);
	invitation_inviter_again(inviter);
	if (!invitation_read(id, true, true, invitation) || !invitation_known(inviter, invitation))
		unknown();
	require(inviter, invitation, true);
}

/*
 * Sending again is giving again: it takes what creating it would take. The roles
 * are locked to see what they allow, so they are looked at only after all that is
 * locked before them.
 */
static void
require_resend(const Inviter *inviter, const Invitation *invitation, bool locked)
{
	static const char hint[] = "It takes invitations.create, and all that the role allows, in each of its organizations.";
	Invitation	theirs = *invitation;

	if (invitation->has_platform_role && inviter->caller.kind != CALLER_SERVICE)
		refuse("not_permitted", NULL, "It gives a platform role: only service_role and operators send it again.");
	if (!inviter->has_inviter)
		return;
	for (int i = 0; i < invitation->ngrants; i++)
		if (!invitation_may(inviter, &invitation->organization_ids[i], "invitations.create"))
			refuse("not_permitted", NULL, hint);
	theirs.has_inviter = true;
	theirs.inviter_id = inviter->as.user_id;
	if (locked && !invitation_still_allowed(&theirs))
		refuse("not_permitted", NULL, hint);
}

static void
require_revoke(const Inviter *inviter, const Invitation *invitation, bool locked)
{
	if (!inviter->has_inviter || invitation_own(inviter, invitation))
		return;
	for (int i = 0; i < invitation->ngrants; i++)
		if (!invitation_may(inviter, &invitation->organization_ids[i], "invitations.revoke"))
			refuse("not_permitted", NULL, "It takes invitations.revoke in each of its organizations.");
}

static Datum
created_row(FunctionCallInfo fcinfo, InvitationOutcome *outcome)
{
	Datum		values[8];
	bool		nulls[8];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "return type must be a row type");
	invitation_outcome_values(outcome, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* resend_invitation(invitation_id, inviter_id) */
Datum
invitation_resend(PG_FUNCTION_ARGS)
{
	Inviter		inviter;
	Invitation	invitation;
	InvitationOutcome outcome;
	pg_uuid_t	id;

	invitation_inviter(fcinfo, 1, &inviter);
	id = membership_uuid_argument(fcinfo, 0, "invitation_id");
	lock_one(&inviter, &id, require_resend, &invitation);
	if (invitation.status != INVITATION_EXPIRED)
		invitation_require_pending(&invitation);
	/* it had expired before its organizations were deleted, which takes back only what is pending */
	if (invitation.ngrants == 0 && !invitation.alone && !invitation.has_platform_role)
		refuse("invitation_revoked", NULL, "What it gave is gone.");
	/* who invited must still be one who could: acceptance will ask that too */
	if (!invitation_still_allowed(&invitation))
		refuse("invitation_revoked", NULL, "Who sent it may not give any more what it gives: make a new one.");
	invitation_renew(&inviter, &invitation, 0, true, &outcome);
	return created_row(fcinfo, &outcome);
}

static SavedPlan result_plan = {
	.sql = "SELECT i.id, i.kind, i.status, i.email, "
	"ARRAY (SELECT g.organization_id FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id ORDER BY g.organization_id), "
	"i.inviter_id, i.created_at, i.expires_at, i.closed_at FROM invite_sync.invitation AS i WHERE i.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* revoke_invitation(invitation_id, inviter_id) */
Datum
invitation_revoke(PG_FUNCTION_ARGS)
{
	Inviter		inviter;
	Invitation	invitation;
	pg_uuid_t	id;
	Datum		value;

	invitation_inviter(fcinfo, 1, &inviter);
	id = membership_uuid_argument(fcinfo, 0, "invitation_id");
	lock_one(&inviter, &id, require_revoke, &invitation);
	invitation_require_pending(&invitation);
	invitation_close(&invitation, INVITATION_REVOKED, membership_actor(&inviter.as));
	if (invitation.ngrants > 0)
		organization_touch(invitation.organization_ids, invitation.ngrants);
	invitation_log(&inviter, "invitation.revoked", &invitation);
	value = UUIDPGetDatum(&id);
	return organization_answer(fcinfo, &result_plan, &value, NULL, false);
}

/* ---------------------------------------------------------------------
 * Lists
 * ---------------------------------------------------------------------
 */

/*
 * One page: the index gives the order, the status is that of now. $1 is the
 * organization, or the inviter; $5 the status or NULL.
 */
#define LIST_STATUS \
	"CASE WHEN i.status = 'pending' AND i.expires_at <= pg_catalog.clock_timestamp() THEN 'expired' ELSE i.status END"

#define LIST_COLUMNS \
	"i.id, i.kind, i.email, " LIST_STATUS ", " \
	"(SELECT r.name FROM invite_sync.role AS r WHERE r.id = i.platform_role_id), i.inviter_id, i.max_uses, i.uses, i.allowed_domain, " \
	"i.created_at, i.renewed_at, i.expires_at, i.closed_at, i.closed_by, "

#define LIST_ALL_GRANTS \
	"ARRAY (SELECT g.organization_id FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id ORDER BY g.organization_id), " \
	"ARRAY (SELECT coalesce((SELECT r.name FROM invite_sync.role AS r WHERE r.id = g.role_id), '') " \
	"FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id ORDER BY g.organization_id), "

/*
 * Grant by grant (OFFSET 0 keeps the planner to it): where it knows little of the
 * tables yet, it would look for the organization's grants with every invitation.
 */
static SavedPlan list_of_organization_plan = {
	.sql = "SELECT " LIST_COLUMNS "ARRAY[g.organization_id], ARRAY[coalesce((SELECT r.name FROM invite_sync.role AS r WHERE r.id = g.role_id), '')], "
	ORGANIZATION_CURSOR("i.created_at", "i.id")
	" FROM invite_sync.invitation_grant AS g "
	"CROSS JOIN LATERAL (SELECT x.* FROM invite_sync.invitation AS x WHERE x.id = g.invitation_id OFFSET 0) AS i "
	"WHERE g.organization_id = $1 AND (g.created_at, g.invitation_id) < ($2, $3) "
	"AND (NOT i.shadow OR i.inviter_id = $6) AND ($5 IS NULL OR " LIST_STATUS " = $5) "
	"ORDER BY g.created_at DESC, g.invitation_id DESC LIMIT $4",
	.nargs = 6,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT8OID, TEXTOID, UUIDOID}
};

static SavedPlan list_of_inviter_plan = {
	.sql = "SELECT " LIST_COLUMNS LIST_ALL_GRANTS ORGANIZATION_CURSOR("i.created_at", "i.id")
	" FROM invite_sync.invitation AS i WHERE i.inviter_id = $1 AND (i.created_at, i.id) < ($2, $3) "
	"AND ($5 IS NULL OR " LIST_STATUS " = $5) ORDER BY i.created_at DESC, i.id DESC LIMIT $4",
	.nargs = 5,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT8OID, TEXTOID}
};

static SavedPlan list_all_plan = {
	.sql = "SELECT " LIST_COLUMNS LIST_ALL_GRANTS ORGANIZATION_CURSOR("i.created_at", "i.id")
	" FROM invite_sync.invitation AS i WHERE (i.created_at, i.id) < ($1, $2) "
	"AND ($4 IS NULL OR " LIST_STATUS " = $4) ORDER BY i.created_at DESC, i.id DESC LIMIT $3",
	.nargs = 4,
	.argtypes = {TIMESTAMPTZOID, UUIDOID, INT8OID, TEXTOID}
};

static void
status_argument(FunctionCallInfo fcinfo, int arg, Datum *value, char *null)
{
	static const char *const words[] = {"pending", "accepted", "declined", "revoked", "expired"};

	*value = (Datum) 0;
	*null = 'n';
	if (PG_ARGISNULL(arg))
		return;
	for (size_t i = 0; i < lengthof(words); i++)
		if (strcmp(text_to_cstring(PG_GETARG_TEXT_PP(arg)), words[i]) == 0)
		{
			*value = PG_GETARG_DATUM(arg);
			*null = ' ';
			return;
		}
	refuse("data_malformed", "argument=status", "Pass pending, accepted, declined, revoked, expired or NULL.");
}

/* list_invitations(organization_id, after, page_size, status, inviter_id) */
Datum
invitation_list(PG_FUNCTION_ARGS)
{
	Inviter		inviter;
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};
	Datum	   *page = values;
	SavedPlan  *plan = &list_all_plan;
	pg_uuid_t	organization_id;
	Scope		scope;

	invitation_inviter(fcinfo, 4, &inviter);
	if (!PG_ARGISNULL(0))
	{
		organization_id = *PG_GETARG_UUID_P(0);
		organization_require_stable(&inviter.as, &organization_id, "invitations.read", NULL);
		plan = &list_of_organization_plan;
		values[0] = UUIDPGetDatum(&organization_id);
		values[5] = UUIDPGetDatum(&inviter.as.user_id);
		nulls[5] = inviter.has_inviter ? ' ' : 'n';
		page = &values[1];
	}
	else if (inviter.has_inviter)
	{
		plan = &list_of_inviter_plan;
		values[0] = UUIDPGetDatum(&inviter.as.user_id);
		page = &values[1];
	}
	membership_page_values(fcinfo, 1, page);
	status_argument(fcinfo, 3, &page[3], &nulls[page - values + 3]);

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, values, nulls, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * How long they last
 * ---------------------------------------------------------------------
 */

static SavedPlan set_policy_plan = {
	.sql = "INSERT INTO invite_sync.invitation_policy AS p (organization_id, ttl) VALUES ($1, $2) "
	"ON CONFLICT (organization_id) DO UPDATE SET ttl = excluded.ttl, updated_at = excluded.updated_at "
	"WHERE p.ttl <> excluded.ttl RETURNING p.organization_id",
	.nargs = 2,
	.argtypes = {UUIDOID, INTERVALOID}
};

static SavedPlan policy_row_plan = {
	.sql = "SELECT $1, p.ttl, p.updated_at FROM (VALUES (0)) AS x (n) "
	"LEFT JOIN invite_sync.invitation_policy AS p ON p.organization_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* set_invitation_policy(organization_id, ttl) */
Datum
invitation_set_policy(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	organization_id;
	pg_uuid_t	changed;
	Datum		values[2];
	bool		found;

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	if (!PG_ARGISNULL(1))
		(void) invitation_ttl(PG_GETARG_INTERVAL_P(1));
	organization_require(&caller, &organization_id, "organization.update", NULL);
	organization_lock(caller.has_user ? &caller.user_id : NULL, caller.has_user ? 1 : 0, &organization_id, 1);
	organization_require(&caller, &organization_id, "organization.update", NULL);
	values[0] = UUIDPGetDatum(&organization_id);
	if (PG_ARGISNULL(1))
		found = organization_delete_rows("invitation_policy", "organization_id", UUIDARRAYOID,
										 plan_uuid_array(&organization_id, 1)) > 0;
	else
	{
		values[1] = PG_GETARG_DATUM(1);
		found = membership_one_id(&set_policy_plan, values, NULL, &changed);
	}
	if (found)
		membership_event(&caller, "admin", "invitation.policy_set", &organization_id, "organization", &organization_id, NULL);
	else
		ereport(NOTICE,
				(errmsg("the policy was as asked for already")));
	return organization_answer(fcinfo, &policy_row_plan, values, NULL, false);
}

/* ---------------------------------------------------------------------
 * Settling and forgetting
 * ---------------------------------------------------------------------
 */

/* The next ones that have expired and do not say so yet, in order, and their inviters. */
static SavedPlan due_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(d.id ORDER BY d.expires_at, d.id), '{}'), "
	"coalesce(pg_catalog.array_agg(DISTINCT d.inviter_id) FILTER (WHERE d.charged AND d.inviter_id IS NOT NULL), '{}'), "
	"pg_catalog.max(d.expires_at) "
	"FROM (SELECT i.id, i.inviter_id, i.charged, i.expires_at FROM invite_sync.invitation AS i "
	"WHERE i.status = 'pending' AND i.expires_at <= $1 AND (i.expires_at, i.id) > ($2, $3) ORDER BY i.expires_at, i.id LIMIT $4) AS d",
	.nargs = 4,
	.argtypes = {TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, INT8OID}
};

/* Whose quota can be given back now, and who has none any more. */
static SavedPlan free_inviters_plan = {
	.sql = "SELECT ARRAY (SELECT u.id FROM auth.users AS u WHERE u.id = ANY ($1) ORDER BY u.id FOR NO KEY UPDATE SKIP LOCKED), "
	"ARRAY (SELECT x.id FROM pg_catalog.unnest($1) AS x (id) WHERE NOT EXISTS (SELECT FROM auth.users AS u WHERE u.id = x.id))",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* Grants that somebody has locked go with their organization. */
static SavedPlan settle_plan = {
	.sql = "WITH due AS (SELECT i.id, i.inviter_id, i.charged AND i.uses = 0 AS charged FROM invite_sync.invitation AS i WHERE i.id = ANY ($1) "
	"AND i.status = 'pending' AND i.expires_at <= pg_catalog.clock_timestamp() "
	"AND (NOT i.charged OR i.inviter_id IS NULL OR i.inviter_id = ANY ($2) OR i.inviter_id = ANY ($3)) "
	"ORDER BY i.id FOR NO KEY UPDATE SKIP LOCKED), "
	"expired AS (UPDATE invite_sync.invitation AS i SET status = 'expired', closed_at = pg_catalog.clock_timestamp(), closed_by = NULL, "
	"charged = i.charged AND NOT due.charged, device_digest = NULL, device_until = NULL FROM due WHERE i.id = due.id RETURNING i.id), "
	"closed AS (UPDATE invite_sync.invitation_grant AS g SET open = false FROM "
	"(SELECT x.invitation_id, x.organization_id FROM invite_sync.invitation_grant AS x WHERE x.open "
	"AND x.invitation_id IN (SELECT due.id FROM due) FOR NO KEY UPDATE OF x SKIP LOCKED) AS y "
	"WHERE g.invitation_id = y.invitation_id AND g.organization_id = y.organization_id) "
	"SELECT due.inviter_id, pg_catalog.count(*) FILTER (WHERE due.charged AND due.inviter_id = ANY ($2)), pg_catalog.count(*) "
	"FROM due GROUP BY due.inviter_id ORDER BY due.inviter_id",
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID}
};

static int
batch_size_argument(FunctionCallInfo fcinfo, int arg)
{
	int			size = PG_ARGISNULL(arg) ? 0 : PG_GETARG_INT32(arg);

	if (size < 1 || size > BATCH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be between 1 and %d", BATCH_MAX)));
	return size;
}

static void
require_own_transactions(FunctionCallInfo fcinfo, const char *what)
{
	if (castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s works in transactions of its own", what),
				 errhint("Call it outside a transaction block and outside functions.")));
}

/* Where the next batch begins, and what came of it. */
typedef struct Progress
{
	TimestampTz bound;			/* nothing that is due later: there must be an end */
	TimestampTz after;
	pg_uuid_t	after_id;
	int			found;			/* rows looked at in this batch */
	int64		done;
} Progress;

static void
settle_batch(int batch_size, Progress *progress)
{
	Datum		values[4];
	Datum		ids;
	Datum	   *elems;
	Scope		scope;
	bool		isnull;
	uint64		n;
	pg_uuid_t  *inviters;
	int		   *refunds;

	values[0] = TimestampTzGetDatum(progress->bound);
	values[1] = TimestampTzGetDatum(progress->after);
	values[2] = UUIDPGetDatum(&progress->after_id);
	values[3] = Int64GetDatum(batch_size);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&due_plan, values, NULL, false, 1);
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	values[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	deconstruct_array(DatumGetArrayTypeP(ids), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, NULL, &progress->found);
	if (progress->found > 0)
	{
		progress->after_id = *DatumGetUUIDP(elems[progress->found - 1]);
		progress->after = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	}
	scope_leave(&scope);
	if (progress->found == 0)
	{
		SPI_finish();
		return;
	}
	scope_enter_auth(&scope);
	plan_lookup(&free_inviters_plan, values, NULL, false, 1);
	values[0] = ids;
	values[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	values[2] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	scope_leave(&scope);

	scope_enter_own(&scope);
	plan_lookup(&settle_plan, values, NULL, false, 0);
	n = SPI_processed;
	inviters = palloc(sizeof(pg_uuid_t) * (n + 1));
	refunds = palloc0(sizeof(int) * (n + 1));
	for (uint64 i = 0; i < n; i++)
	{
		Datum		inviter = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
		{
			inviters[i] = *DatumGetUUIDP(inviter);
			refunds[i] = (int) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		}
		progress->done += DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
	}
	scope_leave(&scope);
	for (uint64 i = 0; i < n; i++)
		if (refunds[i] > 0 && invitation_quota != NULL)
			invitation_quota->give_back(&inviters[i], refunds[i]);
	SPI_finish();
}

/* settle_invitations(batch_size) */
Datum
invitation_settle(PG_FUNCTION_ARGS)
{
	Progress	progress;
	int			batch_size;

	caller_require_operator();
	PreventCommandIfReadOnly("settle_invitations()");
	batch_size = batch_size_argument(fcinfo, 0);
	require_own_transactions(fcinfo, "settle_invitations()");
	memset(&progress, 0, sizeof(progress));
	progress.bound = GetCurrentTimestamp();
	progress.after = DT_NOBEGIN;
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	do
	{
		settle_batch(batch_size, &progress);
		SPI_commit();
	} while (progress.found == batch_size);
	SPI_finish();
	ereport(NOTICE,
			(errmsg_plural("%lld invitation has expired", "%lld invitations have expired",
						   (unsigned long) progress.done, (long long) progress.done)));
	PG_RETURN_VOID();
}

/* What there is in a table of those that ended, but for what nobody else has locked. */
#define PART_ROWS(table) \
	"SELECT x.invitation_id, x.ctid FROM invite_sync." table " AS x WHERE x.invitation_id = ANY (ARRAY (SELECT o.id FROM old AS o))"
#define PART_FREE(table)	"(" PART_ROWS(table) " FOR UPDATE SKIP LOCKED)"
#define PART_BUSY(table, part_free) \
	"(" PART_ROWS(table) " EXCEPT SELECT f.invitation_id, f.ctid FROM " part_free " AS f)"

/*
 * Ended long enough ago. One that was declined is remembered for as long as it
 * keeps others from being sent. Who deletes an organization or a user locks
 * what was theirs and not the invitation: that one is left, too.
 */
static SavedPlan old_plan = {
	.sql = "WITH old AS MATERIALIZED (SELECT i.id, i.closed_at FROM invite_sync.invitation AS i "
	"WHERE i.closed_at IS NOT NULL AND i.closed_at <= $1 AND i.closed_at >= $3 "
	"AND (i.status <> 'declined' OR i.closed_at <= pg_catalog.clock_timestamp() - '720 hours'::pg_catalog.interval) "
	"ORDER BY i.closed_at LIMIT $2 FOR UPDATE SKIP LOCKED), "
	"grants AS MATERIALIZED " PART_FREE("invitation_grant") ", "
	"acceptances AS MATERIALIZED " PART_FREE("invitation_acceptance") ", "
	"keys AS MATERIALIZED " PART_FREE("invitation_key") ", "
	"busy AS MATERIALIZED (" PART_BUSY("invitation_grant", "grants") " UNION ALL " PART_BUSY("invitation_acceptance", "acceptances")
	" UNION ALL " PART_BUSY("invitation_key", "keys") ") "
	"SELECT coalesce(pg_catalog.array_agg(o.id) FILTER (WHERE o.id NOT IN (SELECT b.invitation_id FROM busy AS b)), '{}'), "
	"pg_catalog.count(*), coalesce(pg_catalog.max(o.closed_at), $3) FROM old AS o",
	.nargs = 3,
	.argtypes = {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID}
};

static SavedPlan old_keys_plan = {
	.sql = "DELETE FROM invite_sync.invitation_key AS k USING (SELECT x.actor_id, x.key FROM invite_sync.invitation_key AS x "
	"WHERE x.created_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED) AS o "
	"WHERE k.actor_id = o.actor_id AND k.key = o.key RETURNING 1",
	.nargs = 2,
	.argtypes = {INT8OID, TIMESTAMPTZOID}
};

static void
prune_batch(int batch_size, TimestampTz cutoff, Progress *progress)
{
	static const char *const parts[] = {"invitation_key", "invitation_acceptance", "invitation_grant"};
	Datum		values[3];
	Datum		ids;
	Scope		scope;
	bool		isnull;

	values[0] = TimestampTzGetDatum(cutoff);
	values[1] = Int64GetDatum(batch_size);
	/* on from where the batch before ended, not through all that is deleted already */
	values[2] = TimestampTzGetDatum(progress->after);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&old_plan, values, NULL, false, 1);
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	progress->found = (int) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	progress->after = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	/* all of them held by others: they would be found again */
	if (ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(ids)), ARR_DIMS(DatumGetArrayTypeP(ids))) == 0)
		progress->found = 0;
	scope_leave(&scope);
	if (progress->found > 0)
	{
		for (size_t i = 0; i < lengthof(parts); i++)
			(void) organization_delete_rows(parts[i], "invitation_id", UUIDARRAYOID, ids);
		progress->done += (int64) organization_delete_rows("invitation", "id", UUIDARRAYOID, ids);
	}
	SPI_finish();
}

static int
prune_keys(int batch_size)
{
	Datum		values[2];
	Scope		scope;
	int			n;

	values[0] = Int64GetDatum(batch_size);
	/* as a value: what a volatile function returns is looked for in no index */
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp() - USECS_PER_DAY);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&old_keys_plan, values, NULL, false, 0);
	n = (int) SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	return n;
}

/* prune_invitations(older_than, batch_size) */
Datum
invitation_prune(PG_FUNCTION_ARGS)
{
	Progress	progress;
	TimestampTz cutoff;
	int			batch_size;
	int			keys;

	caller_require_operator();
	PreventCommandIfReadOnly("prune_invitations()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("older_than must not be null")));
	cutoff = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(0)));
	if (cutoff > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("older_than must not be negative")));
	batch_size = batch_size_argument(fcinfo, 1);
	require_own_transactions(fcinfo, "prune_invitations()");
	memset(&progress, 0, sizeof(progress));
	progress.after = DT_NOBEGIN;
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	do
	{
		prune_batch(batch_size, cutoff, &progress);
		SPI_commit();
	} while (progress.found == batch_size);
	do
	{
		keys = prune_keys(batch_size);
		SPI_commit();
	} while (keys == batch_size);
	SPI_finish();
	ereport(NOTICE,
			(errmsg_plural("%lld invitation forgotten", "%lld invitations forgotten",
						   (unsigned long) progress.done, (long long) progress.done)));
	PG_RETURN_VOID();
}
