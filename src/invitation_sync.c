/*-------------------------------------------------------------------------
 *
 * invitation_sync.c
 *	  What becomes of invitations when somebody becomes a member without them,
 *	  when organizations are deleted, and when inviters go.
 *
 * An invitation belongs to its address: that an account with the address goes
 * changes nothing about it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "caller.h"
#include "invitation.h"
#include "invitation_accept.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"
#include "sync.h"

/* ---------------------------------------------------------------------
 * Members who came otherwise
 * ---------------------------------------------------------------------
 */

static SavedPlan pending_for_plan = {
	.sql = "SELECT coalesce((SELECT pg_catalog.array_agg(i.id ORDER BY i.id) FROM invite_sync.invitation AS i "
	"JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.organization_id = $2 AND g.open "
	"WHERE i.email = $1 AND i.status = 'pending' AND i.kind = 'email' AND i.purpose = 'invitation' AND NOT i.shadow "
	"AND i.expires_at > pg_catalog.clock_timestamp()), '{}')",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDOID}
};

static SavedPlan close_grant_plan = {
	.sql = "UPDATE invite_sync.invitation_grant AS g SET open = false WHERE g.invitation_id = $1 AND g.organization_id = $2 AND g.open",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan first_open_plan = {
	.sql = "SELECT g.organization_id FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = $1 AND g.open LIMIT 1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* In order of id; the user is locked, so nobody else goes through these. */
static void
pending_for(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, PlanIds *result)
{
	char	   *email = invitation_verified_email(user_id, true);
	Datum		values[2];

	result->n = 0;
	if (email == NULL)
		return;
	values[0] = CStringGetTextDatum(email);
	values[1] = UUIDPGetDatum(organization_id);
	plan_run_on_ids(&pending_for_plan, values, false, false, result, 1);
}

/*
 * Who is in already needs no invitation, and their seat is not kept twice. One
 * to several organizations goes on for the others.
 */
static void
member_made(const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	PlanIds		pending;

	pending_for(organization_id, user_id, &pending);
	for (int i = 0; i < pending.n; i++)
	{
		Invitation	invitation;
		Datum		values[2];
		pg_uuid_t	other;

		if (!invitation_read(&pending.ids[i], true, true, &invitation) || invitation.status != INVITATION_PENDING)
			continue;
		values[0] = UUIDPGetDatum(&invitation.id);
		values[1] = UUIDPGetDatum(organization_id);
		membership_run(&close_grant_plan, values, NULL);
		if (!invitation.has_platform_role && !membership_one_id(&first_open_plan, values, NULL, &other))
			invitation_fulfilled(&invitation, user_id);
	}
}

/* Who invited them said as what, which is worth more than that they are of the domain. */
static void
role_offered(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, pg_uuid_t *role_id)
{
	PlanIds		pending;

	pending_for(organization_id, user_id, &pending);
	for (int i = 0; i < pending.n; i++)
	{
		Invitation	invitation;

		if (!invitation_read(&pending.ids[i], true, true, &invitation) || invitation.status != INVITATION_PENDING ||
			!invitation_still_good(&invitation))
			continue;
		for (int k = 0; k < invitation.ngrants; k++)
			if (memcmp(&invitation.organization_ids[k], organization_id, UUID_LEN) == 0)
			{
				*role_id = invitation.role_ids[k];
				return;
			}
	}
}

/* ---------------------------------------------------------------------
 * Organizations that are deleted
 * ---------------------------------------------------------------------
 */

/*
 * Those that give nothing without these organizations: what somebody got otherwise
 * they give no more. What has expired already is settled as that, or its quota
 * would not be given back.
 */
static SavedPlan bereft_plan = {
	.sql = "SELECT coalesce((SELECT pg_catalog.array_agg(l.id ORDER BY l.id) FROM (SELECT i.id FROM invite_sync.invitation AS i "
	"WHERE i.id IN (SELECT g.invitation_id FROM invite_sync.invitation_grant AS g WHERE g.organization_id = ANY ($1) AND g.open) "
	"AND i.status = 'pending' AND i.expires_at > pg_catalog.clock_timestamp() AND i.platform_role_id IS NULL "
	"AND NOT EXISTS (SELECT FROM invite_sync.invitation_grant AS o WHERE o.invitation_id = i.id AND o.open AND o.organization_id <> ALL ($1)) "
	"ORDER BY i.id FOR NO KEY UPDATE OF i) AS l), '{}')",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* Closed for good; nobody's quota is given back, and so nobody else is to be locked. */
static void
revoke_all(const PlanIds *invitations)
{
	for (int i = 0; i < invitations->n; i++)
	{
		Invitation	invitation;

		if (!invitation_read(&invitations->ids[i], true, true, &invitation) || invitation.status != INVITATION_PENDING)
			continue;
		invitation_close(&invitation, INVITATION_REVOKED, NULL);
		membership_event(NULL, "system", "invitation.revoked", invitation.ngrants > 0 ? &invitation.organization_ids[0] : NULL,
						 "invitation", &invitation.id, NULL);
	}
}

/*
 * All whose grants go, also those that go on for other organizations: whoever ends
 * an invitation has it locked before its grants, in order of id.
 */
static SavedPlan lock_granted_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.status = 'pending' "
	"AND i.id IN (SELECT g.invitation_id FROM invite_sync.invitation_grant AS g WHERE g.organization_id = ANY ($1) AND g.open) "
	"ORDER BY i.id FOR NO KEY UPDATE OF i",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static void
organizations_removed(const pg_uuid_t *organization_ids, int norganizations)
{
	Datum		ids = plan_uuid_array(organization_ids, norganizations);
	int			guc_level = membership_bound_waits();
	PlanIds		invitations;

	membership_run(&lock_granted_plan, &ids, NULL);
	plan_run_on_ids(&bereft_plan, &ids, false, false, &invitations, 1);
	revoke_all(&invitations);
	AtEOXact_GUC(false, guc_level);
	(void) organization_delete_rows("invitation_grant", "organization_id", UUIDARRAYOID, ids);
	(void) organization_delete_rows("invitation_policy", "organization_id", UUIDARRAYOID, ids);
}

/* ---------------------------------------------------------------------
 * Users who are gone
 * ---------------------------------------------------------------------
 */

#define PENDING_OF_GONE \
	"FROM pg_catalog.unnest($1) AS x (id) JOIN invite_sync.invitation AS i ON i.inviter_id = x.id " \
	"WHERE i.status = 'pending' AND i.expires_at > pg_catalog.clock_timestamp()"

static SavedPlan gone_invitations_plan = {
	.sql = "SELECT coalesce((SELECT pg_catalog.array_agg(DISTINCT i.id ORDER BY i.id) " PENDING_OF_GONE "), '{}')",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/*
 * The membership room has locked organizations before this, so no more of them
 * may be locked now: to wait for one would be out of turn. To take an invitation
 * back only frees a seat, which nobody decides wrongly by who learns of it late.
 */
static void
end_of_inviters(Datum gone)
{
	PlanIds		invitations;

	plan_run_on_ids(&gone_invitations_plan, &gone, false, false, &invitations, 1);
	revoke_all(&invitations);
	(void) organization_delete_rows("invitation_acceptance", "user_id", UUIDARRAYOID, gone);
	(void) organization_delete_rows("invitation_key", "actor_id", UUIDARRAYOID, gone);
}

static void
users_gone(const pg_uuid_t *user_ids, int64 nids)
{
	volatile bool check_now = organization_check_now;

	organization_check_now = true;
	PG_TRY();
	{
		end_of_inviters(plan_uuid_array(user_ids, nids));
	}
	PG_FINALLY();
	{
		organization_check_now = check_now;
	}
	PG_END_TRY();
}

/*
 * Nothing to note: what an inviter who is gone has left can be accepted no more
 * and is found by who looks for it.
 */
static void
users_missed(const pg_uuid_t *user_ids, int64 nids)
{
}

static SavedPlan inviters_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(e.id ORDER BY e.id), '{}') FROM (SELECT i.inviter_id AS id FROM invite_sync.invitation AS i "
	"WHERE i.status = 'pending' AND i.expires_at > pg_catalog.clock_timestamp() AND i.inviter_id IS NOT NULL "
	"UNION SELECT a.user_id FROM invite_sync.invitation_acceptance AS a "
	"UNION SELECT k.actor_id FROM invite_sync.invitation_key AS k WHERE k.actor_id <> '00000000-0000-0000-0000-000000000000') AS e",
	.nargs = 0
};

static SavedPlan missing_users_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.id ORDER BY x.id), '{}') FROM pg_catalog.unnest($1) AS x (id) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.id AND u.deleted_at IS NULL WHERE u.id IS NULL",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static void
find_missing(PlanIds *gone, bool read_only)
{
	Datum		ids;

	plan_run_on_ids(&inviters_plan, NULL, false, read_only, gone, 1);
	if (gone->n == 0)
		return;
	ids = plan_uuid_array(gone->ids, gone->n);
	plan_run_on_ids(&missing_users_plan, &ids, true, read_only, gone, 1);
}

static void
find_gone(bool all, int64 limit, pg_uuid_t **user_ids, int64 *nids)
{
	PlanIds		gone = {.n = 0,.ids = NULL};

	if (all)
		find_missing(&gone, false);
	*user_ids = gone.ids;
	*nids = Min(gone.n, limit);
}

static bool
needs_triggers(void)
{
	/* whoever has invitations has organizations or users of the application, whose rooms ask for them */
	return false;
}

static void
invitation_verify(bool users_readable, SyncFinding emit, void *arg)
{
	PlanIds		gone = {.n = 0};

	if (users_readable)
		find_missing(&gone, true);
	if (gone.n > 0)
		emit(arg, "warning", "invitation", "auth.users",
			 psprintf("%d users who are gone have left invitations, or that they accepted some", gone.n),
			 "They were deleted while the triggers on auth.users were off, or could not be cleaned up after. Nobody can accept what they sent.",
			 "SELECT * FROM invite_sync.retry_quarantine(due_only => false);");
}

static const SyncListener listener = {
	.users_gone = users_gone,
	.users_missed = users_missed,
	.find_gone = find_gone,
	.needs_triggers = needs_triggers,
	.verify = invitation_verify
};

void
invitation_accept_init(void)
{
	membership_made_hook = member_made;
	membership_offered_hook = role_offered;
	organization_removed_hook = organizations_removed;
	sync_listen(&listener);
}
