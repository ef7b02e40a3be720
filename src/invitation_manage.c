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

/* ---------------------------------------------------------------------
 * One invitation, by its id
 * ---------------------------------------------------------------------
 */

/* May the inviter know that it is there? */
static bool
knows(const Inviter *inviter, const Invitation *invitation)
{
	if (!inviter->has_inviter || invitation_own(inviter, invitation))
		return true;
	/* to everybody else a shadow is none */
	if (invitation->shadow)
		return false;
	for (int i = 0; i < invitation->ngrants; i++)
		if (invitation_may(inviter, &invitation->organization_ids[i], "invitations.read"))
			return true;
	return false;
}

static void
unknown(void)
{
	refuse("invitation_unknown", NULL, "list_invitations() names those that there are.");
}

/* Found, known and locked, with its users and organizations; as of now. */
static void
lock_one(const Inviter *inviter, const pg_uuid_t *id, void (*require) (const Inviter *, const Invitation *),
		 Invitation *invitation)
{
	pg_uuid_t	users[2];
	int			nusers = 0;

	if (!invitation_read(id, true, false, invitation) || !knows(inviter, invitation))
		unknown();
	require(inviter, invitation);
	if (inviter->has_inviter)
		users[nusers++] = inviter->as.user_id;
	if (invitation->has_inviter)
		users[nusers++] = invitation->inviter_id;
	organization_lock(users, nusers, invitation->organization_ids, invitation->ngrants);
	invitation_inviter_again(inviter);
	if (!invitation_read(id, true, true, invitation) || !knows(inviter, invitation))
		unknown();
	require(inviter, invitation);
}

/* Sending again is giving again: it takes what creating it would take. */
static void
require_resend(const Inviter *inviter, const Invitation *invitation)
{
	Invitation	theirs = *invitation;

	if (inviter->has_inviter)
	{
		if (!invitation_own(inviter, invitation) && invitation->ngrants == 0)
			refuse("not_permitted", NULL, NULL);
		theirs.has_inviter = true;
		theirs.inviter_id = inviter->as.user_id;
		if (!invitation_still_allowed(&theirs))
			refuse("not_permitted", NULL, "It takes invitations.create, and all that the role allows, in each of its organizations.");
	}
}

static void
require_revoke(const Inviter *inviter, const Invitation *invitation)
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
	bool		found;

	invitation_inviter(fcinfo, 1, &inviter);
	id = membership_uuid_argument(fcinfo, 0, "invitation_id");
	lock_one(&inviter, &id, require_revoke, &invitation);
	invitation_require_pending(&invitation);
	invitation_close(&invitation, INVITATION_REVOKED, membership_actor(&inviter.as));
	if (invitation.ngrants > 0)
		organization_touch(invitation.organization_ids, invitation.ngrants);
	invitation_log(&inviter, "invitation.revoked", &invitation);
	value = UUIDPGetDatum(&id);
	return membership_row(fcinfo, &result_plan, &value, NULL, &found);
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

static SavedPlan list_of_organization_plan = {
	.sql = "SELECT " LIST_COLUMNS "ARRAY[g.organization_id], ARRAY[coalesce((SELECT r.name FROM invite_sync.role AS r WHERE r.id = g.role_id), '')], "
	ORGANIZATION_CURSOR("i.created_at", "i.id")
	" FROM invite_sync.invitation_grant AS g JOIN invite_sync.invitation AS i ON i.id = g.invitation_id "
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
	plan_execute(plan, values, nulls, true, 0);
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
										 organization_uuid_array(&organization_id, 1)) > 0;
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
	return membership_row(fcinfo, &policy_row_plan, values, NULL, &found);
}
