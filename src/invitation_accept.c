/*-------------------------------------------------------------------------
 *
 * invitation_accept.c
 *	  Invitations from the side of who is invited: looking, accepting,
 *	  declining; and what becomes of them when memberships, organizations and
 *	  users come and go.
 *
 * Whoever accepts is established by the row of auth.users, locked in the
 * accepting transaction, and by the token where it proves the mailbox. Nothing
 * that users write about themselves counts.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "event.h"
#include "invitation.h"
#include "invitation_accept.h"
#include "invitation_account.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "sync.h"
#include "token.h"

PG_FUNCTION_INFO_V1(invitation_get);
PG_FUNCTION_INFO_V1(invitation_bind);
PG_FUNCTION_INFO_V1(invitation_accept);
PG_FUNCTION_INFO_V1(invitation_accept_mine);
PG_FUNCTION_INFO_V1(invitation_list_mine);
PG_FUNCTION_INFO_V1(invitation_decline);
PG_FUNCTION_INFO_V1(invitation_decline_mine);

#define DEVICE_BYTES_MAX	200

/* ---------------------------------------------------------------------
 * What all ways have in common
 * ---------------------------------------------------------------------
 */

/* A user: services accept for nobody. */
static void
accepting_actor(Caller *caller)
{
	organization_actor(caller);
	if (!caller->has_user)
		refuse("not_authenticated", NULL, "Only the user who is invited can do this, in a session of their own.");
}

static Datum
run_own_bool(SavedPlan *plan, Datum *values, bool read_only, bool *isnull)
{
	Scope		scope;
	Datum		result = (Datum) 0;

	*isnull = true;
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, values, NULL, read_only, 1);
	if (SPI_processed == 1)
		result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static bool
own_bool(SavedPlan *plan, Datum *values)
{
	bool		isnull;
	Datum		result = run_own_bool(plan, values, false, &isnull);

	return !isnull && DatumGetBool(result);
}

/* As addresses of invitations are kept: what a locale takes for one letter are two mailboxes. */
static char *
fold(char *s)
{
	if (s != NULL)
		for (char *c = s; *c; c++)
			if (*c >= 'A' && *c <= 'Z')
				*c += 'a' - 'A';
	return s;
}

char *
invitation_verified_email(const pg_uuid_t *user_id, bool fresh)
{
	return fold(membership_verified_email(user_id, fresh));
}

void
invitation_of_token(text *token, Invitation *invitation, bool *proves)
{
	if (!invitation_find(token, true, invitation, proves))
		refuse("invitation_unknown", NULL, NULL);
}

void
invitation_require_no_migration(const Invitation *invitation)
{
	if (invitation->migration)
		refuse("migration_required", NULL, "This invitation moves an account here from another provider and is accepted by the function for that.");
}

/* ---- the device ---- */

static void
device_digest(text *device, uint8 *digest)
{
	if (VARSIZE_ANY_EXHDR(device) == 0 || VARSIZE_ANY_EXHDR(device) > DEVICE_BYTES_MAX)
		refuse("data_malformed", "argument=device", "device is a text of 1 to 200 bytes that the client made up and keeps.");
	memcpy(digest, VARDATA_ANY(DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, PointerGetDatum(device)))),
		   PG_SHA256_DIGEST_LENGTH);
}

void
invitation_require_device(const Invitation *invitation, text *device)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	uint8		differ = 0;

	if (device != NULL)
		device_digest(device, digest);
	if (!invitation->has_device)
		return;
	if (device != NULL)
		for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
			differ |= digest[i] ^ invitation->device_digest[i];
	if (device == NULL || differ != 0)
		refuse("device_mismatch", NULL, "Go on with the device that opened the invitation, or wait half an hour.");
}

/* ---- the address ---- */

/*
 * Whose it is: of who has the address, or, where the operator lets the token
 * stand for it, of who has the token.
 */
static void
require_address(const Invitation *invitation, bool proves, bool by_token, const pg_uuid_t *user_id, bool fresh)
{
	bool		off = by_token && invite_sync_require_verified_email == REQUIRE_VERIFIED_EMAIL_OFF;
	char	   *email;

	if (off && (invitation->link ? invitation->allowed_domain == NULL : proves))
		return;
	email = invitation_verified_email(user_id, fresh);
	if (email == NULL)
		refuse("email_unverified", NULL, "Confirm your email address first.");
	if (!invitation->link)
	{
		if (strcmp(email, invitation->email) != 0)
			refuse("email_mismatch", NULL, "Sign in with the address that was invited, or ask for an invitation to yours.");
	}
	else if (invitation->allowed_domain != NULL)
	{
		const char *at = strrchr(email, '@');

		if (at == NULL || strcmp(at + 1, invitation->allowed_domain) != 0)
			refuse("domain_not_allowed", NULL, "This link is for addresses of one domain.");
	}
}

/*
 * Who may look at it (view) before anything else is asked. Nobody in particular
 * hears of nothing more than that there is none.
 */
static void
require_view(const Caller *caller, const Invitation *invitation, bool proves, bool fresh)
{
	if (invite_sync_require_verified_email != REQUIRE_VERIFIED_EMAIL_VIEW || caller->kind == CALLER_SERVICE)
		return;
	if (!caller->has_user)
		refuse("invitation_unknown", NULL, NULL);
	require_address(invitation, proves, true, &caller->user_id, fresh);
}

/* ---- locks ---- */

void
invitation_lock_users(const Invitation *invitation, const pg_uuid_t *user_id, bool organizations)
{
	pg_uuid_t	users[2];
	int			n = 0;

	if (user_id != NULL)
		users[n++] = *user_id;
	if (invitation->has_inviter)
		users[n++] = invitation->inviter_id;
	if (n > 0)
		organization_lock(users, n, invitation->organization_ids, organizations ? invitation->ngrants : 0);
	else if (organizations)
		invitation_lock_organizations(invitation);
}

void
invitation_lock_organizations(const Invitation *invitation)
{
	organization_lock(NULL, 0, invitation->organization_ids, invitation->ngrants);
}

/* A token may have been replaced by another while we waited, and the row may be gone. */
void
invitation_lock_by_token(text *token, Invitation *invitation, bool *proves)
{
	pg_uuid_t	id = invitation->id;
	Invitation	locked;

	if (!invitation_read(&id, true, true, &locked))
		refuse("invitation_unknown", NULL, NULL);
	invitation_of_token(token, invitation, proves);
	if (memcmp(&id, &invitation->id, UUID_LEN) != 0)
		refuse("invitation_unknown", NULL, NULL);
}

/* ---- accepted before ---- */

static SavedPlan accepted_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.invitation_acceptance AS a WHERE a.invitation_id = $1 AND a.user_id = $2)",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan member_of_all_plan = {
	.sql = "SELECT NOT EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = $1 AND NOT EXISTS "
	"(SELECT FROM invite_sync.membership AS m WHERE m.organization_id = g.organization_id AND m.user_id = $2))",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static bool
accepted_by(const Invitation *invitation, const pg_uuid_t *user_id)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(&invitation->id);
	values[1] = UUIDPGetDatum(user_id);
	return own_bool(&accepted_plan, values);
}

static bool
member_of_all(const Invitation *invitation, const pg_uuid_t *user_id)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(&invitation->id);
	values[1] = UUIDPGetDatum(user_id);
	return own_bool(&member_of_all_plan, values);
}

/*
 * Is there nothing left to do? A second click succeeds and changes nothing; who
 * was taken out since is not brought back by what they used already. A member
 * who opens a link uses nothing up.
 */
static bool
done_already(const Invitation *invitation, const pg_uuid_t *user_id)
{
	if (accepted_by(invitation, user_id))
	{
		if (!member_of_all(invitation, user_id))
			refuse("invitation_used", NULL, "Ask for a new invitation.");
		return true;
	}
	invitation_require_pending(invitation);
	return invitation->link && member_of_all(invitation, user_id);
}

/* ---------------------------------------------------------------------
 * Accepting
 * ---------------------------------------------------------------------
 */

/* A removal of later stands; a link is no word of anybody's about this person. */
static SavedPlan removed_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.membership_removal AS x WHERE x.user_id = $1 AND x.organization_id = ANY ($2) "
	"AND ($3 OR x.removed_at >= $4))",
	.nargs = 4,
	.argtypes = {UUIDOID, UUIDARRAYOID, BOOLOID, TIMESTAMPTZOID}
};

static void
require_not_removed(const Invitation *invitation, const pg_uuid_t *user_id)
{
	Datum		values[4];

	values[0] = UUIDPGetDatum(user_id);
	values[1] = plan_uuid_array(invitation->organization_ids, invitation->ngrants);
	values[2] = BoolGetDatum(invitation->link);
	values[3] = TimestampTzGetDatum(invitation->renewed_at);
	if (!own_bool(&removed_plan, values))
		return;
	if (invitation->link)
		refuse("not_permitted", NULL, "You were taken out of the organization: ask for an invitation by email.");
	refuse("invitation_revoked", NULL, "Ask for a new invitation.");
}

/* Built-in ones do not change, and their rows would be locked by everybody. */
static SavedPlan lock_roles_plan = {
	.sql = "SELECT r.id FROM invite_sync.role AS r WHERE r.id = ANY ($1) AND NOT r.built_in ORDER BY r.id FOR SHARE",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* Roles of an organization are good for it and those below it, and it may have been moved. */
static SavedPlan roles_exist_plan = {
	.sql = "SELECT NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS x (organization_id, role_id) "
	"WHERE NOT EXISTS (SELECT FROM invite_sync.role AS r WHERE r.id = x.role_id AND (r.organization_id IS NULL OR r.organization_id IN "
	"(SELECT p.id FROM invite_sync.organization_path(x.organization_id) AS p))))",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

static bool
roles_exist(const Invitation *invitation)
{
	int			n = invitation->ngrants;
	pg_uuid_t  *organizations = palloc0(sizeof(pg_uuid_t) * (n + 1));
	pg_uuid_t  *roles = palloc(sizeof(pg_uuid_t) * (n + 1));
	Datum		values[2];
	int			guc_level;

	for (int i = 0; i < n; i++)
	{
		organizations[i] = invitation->organization_ids[i];
		roles[i] = invitation->role_ids[i];
	}
	/* in no organization: only a global one will do */
	if (invitation->has_platform_role)
		roles[n++] = invitation->platform_role_id;
	values[0] = plan_uuid_array(roles, n);
	guc_level = membership_bound_waits();
	membership_run(&lock_roles_plan, values, NULL);
	AtEOXact_GUC(false, guc_level);
	values[0] = plan_uuid_array(organizations, n);
	values[1] = plan_uuid_array(roles, n);
	return own_bool(&roles_exist_plan, values);
}

bool
invitation_still_good(const Invitation *invitation)
{
	return roles_exist(invitation) && invitation_still_allowed(invitation);
}

static SavedPlan use_plan = {
	.sql = "UPDATE invite_sync.invitation AS i SET uses = i.uses + 1 WHERE i.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan acceptance_plan = {
	.sql = "INSERT INTO invite_sync.invitation_acceptance AS a (invitation_id, user_id) VALUES ($1, $2) "
	"ON CONFLICT (invitation_id, user_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

/* One who has a platform role keeps it unless the new one allows all that it does. */
static SavedPlan platform_role_plan = {
	.sql = "INSERT INTO invite_sync.platform_role AS p (user_id, role_id) VALUES ($1, $2) "
	"ON CONFLICT (user_id) DO UPDATE SET role_id = excluded.role_id, created_at = excluded.created_at "
	"WHERE p.role_id <> excluded.role_id AND invite_sync.role_permissions(p.role_id, true) <@ invite_sync.role_permissions(excluded.role_id, true) "
	"RETURNING p.user_id",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan data_plan = {
	.sql = "UPDATE auth.users AS u SET raw_user_meta_data = d.data OPERATOR(pg_catalog.||) coalesce(nullif(u.raw_user_meta_data, 'null'), '{}'), "
	"updated_at = pg_catalog.now() "
	"FROM (SELECT " INVITATION_DATA("$2") " AS data) AS d "
	"WHERE u.id = $1 AND coalesce(pg_catalog.jsonb_typeof(u.raw_user_meta_data), 'null') IN ('object', 'null') "
	"AND (d.data OPERATOR(pg_catalog.||) coalesce(nullif(u.raw_user_meta_data, 'null'), '{}')) <> coalesce(nullif(u.raw_user_meta_data, 'null'), '{}')",
	.nargs = 2,
	.argtypes = {UUIDOID, JSONBOID}
};

/* The targets follow by the trigger on auth.users. */
static void
give_data(const Invitation *invitation, const pg_uuid_t *user_id)
{
	Scope		scope;
	Datum		values[2];

	if (JB_ROOT_COUNT(invitation->data) == 0)
		return;
	values[0] = UUIDPGetDatum(user_id);
	values[1] = JsonbPGetDatum(invitation->data);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_lookup(&data_plan, values, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/* Used once more, and used up where that was the last time. Frees its seat, so it goes before memberships. */
static void
use(Invitation *invitation, const pg_uuid_t *user_id)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(&invitation->id);
	values[1] = UUIDPGetDatum(user_id);
	membership_run(&use_plan, values, NULL);
	membership_run(&acceptance_plan, values, NULL);
	invitation->uses++;
	if (!invitation->link || (invitation->max_uses > 0 && invitation->uses >= invitation->max_uses))
		invitation_close(invitation, INVITATION_ACCEPTED, user_id);
}

static void
accepted_event(const Caller *user, const Invitation *invitation, int grant)
{
	membership_event(user, "activity", "invitation.accepted", grant < 0 ? NULL : &invitation->organization_ids[grant],
					 "invitation", &invitation->id, grant < 0 ? NULL : &invitation->role_ids[grant]);
}

void
invitation_fulfilled(Invitation *invitation, const pg_uuid_t *user_id)
{
	Caller		user;

	memset(&user, 0, sizeof(user));
	user.kind = CALLER_USER;
	user.has_user = true;
	user.user_id = *user_id;
	use(invitation, user_id);
	for (int i = 0; i < invitation->ngrants; i++)
		accepted_event(&user, invitation, i);
	give_data(invitation, user_id);
}

void
invitation_accept_locked(Invitation *invitation, const pg_uuid_t *user_id)
{
	Caller		user;
	Datum		values[2];
	pg_uuid_t	given;

	memset(&user, 0, sizeof(user));
	user.kind = CALLER_USER;
	user.has_user = true;
	user.user_id = *user_id;
	if (invitation->shadow)
		refuse("invitation_unknown", NULL, NULL);
	invitation_require_pending(invitation);
	membership_require_user(user_id);
	if (!invitation_still_good(invitation))
		refuse("invitation_revoked", NULL, "Ask for a new invitation.");
	require_not_removed(invitation, user_id);

	use(invitation, user_id);
	for (int i = 0; i < invitation->ngrants; i++)
	{
		if (membership_make(&invitation->organization_ids[i], user_id, &invitation->role_ids[i],
							invitation->has_inviter ? &invitation->inviter_id : NULL))
			membership_event(&user, "activity", "membership.added", &invitation->organization_ids[i], "user", user_id,
							 &invitation->role_ids[i]);
		accepted_event(&user, invitation, i);
	}
	/* also of who was a member before: a seat that was kept is free */
	if (invitation->ngrants > 0)
		organization_touch(invitation->organization_ids, invitation->ngrants);
	else
		accepted_event(&user, invitation, -1);
	if (invitation->has_platform_role)
	{
		values[0] = UUIDPGetDatum(user_id);
		values[1] = UUIDPGetDatum(&invitation->platform_role_id);
		if (membership_one_id(&platform_role_plan, values, NULL, &given))
		{
			membership_write_copies(user_id, 1);
			membership_event(&user, "admin", "membership.platform_role_set", NULL, "user", user_id, &invitation->platform_role_id);
		}
	}
	give_data(invitation, user_id);
}

static SavedPlan accepted_row_plan = {
	.sql = "SELECT i.id, coalesce((SELECT pg_catalog.array_agg(g.organization_id ORDER BY g.organization_id) "
	"FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id), '{}'), "
	"(SELECT r.name FROM invite_sync.role AS r WHERE r.id = i.platform_role_id), $2 "
	"FROM invite_sync.invitation AS i WHERE i.id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, BOOLOID}
};

static Datum
answer_accepted(FunctionCallInfo fcinfo, const Invitation *invitation, bool already)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(&invitation->id);
	values[1] = BoolGetDatum(already);
	return organization_answer(fcinfo, &accepted_row_plan, values, NULL, false);
}

/*
 * One after the other, and without standing in line: who comes too late is told
 * as soon as the first has it. In the line for a row of which a thousand wait
 * each is woken by the one before, and after deadlock_timeout each looks through
 * all of it for a deadlock: the last ones would wait for longer than lock_timeout
 * to hear what is known since the beginning.
 *
 * So each waits for the transaction of the one whose turn it is, which wakes all
 * of them; false: look again whether there is anything left to wait for. Under
 * REPEATABLE READ that would show what was before, and the locks will tell.
 *
 * The turn comes before all other locks. Who has some already (a transaction that
 * has locked a row or written has an id) goes past, as two of them could wait for
 * each other.
 */
static bool
take_turn(const Invitation *invitation)
{
	LOCKTAG		tag;
	VirtualTransactionId *others;
	uint32		hash;
	uint16		more;
	int			guc_level;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return true;
	/* the end of an id is random; what else of it is the same only makes two wait that need not */
	memcpy(&hash, &invitation->id.data[UUID_LEN - sizeof(hash)], sizeof(hash));
	memcpy(&more, &invitation->id.data[UUID_LEN - sizeof(hash) - sizeof(more)], sizeof(more));
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, get_relname_relid("invitation", caller_extension_schema()), hash, more);
	if (LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		return true;
	others = GetLockConflicts(&tag, ExclusiveLock, NULL);
	guc_level = membership_bound_waits();
	for (; VirtualTransactionIdIsValid(*others); others++)
		(void) VirtualXactLock(*others, true);
	AtEOXact_GUC(false, guc_level);
	return IsolationUsesXactSnapshot();
}

/* accept_invitation(token, device) */
Datum
invitation_accept(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Invitation	invitation;
	text	   *token;
	text	   *device = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	bool		proves;

	accepting_actor(&caller);
	token = membership_text_argument(fcinfo, 0, "token");
	do
	{
		invitation_of_token(token, &invitation, &proves);
		invitation_require_no_migration(&invitation);
		if (done_already(&invitation, &caller.user_id))
			return answer_accepted(fcinfo, &invitation, true);
	} while (!take_turn(&invitation));
	invitation_lock_users(&invitation, &caller.user_id, true);
	invitation_lock_by_token(token, &invitation, &proves);

	membership_require_user(&caller.user_id);
	if (done_already(&invitation, &caller.user_id))
		return answer_accepted(fcinfo, &invitation, true);
	invitation_require_device(&invitation, device);
	require_address(&invitation, proves, true, &caller.user_id, true);
	invitation_accept_locked(&invitation, &caller.user_id);
	return answer_accepted(fcinfo, &invitation, false);
}

/*
 * One of the caller's own, by its id: what was sent to their verified address.
 * Anybody else's is as unknown as one that does not exist.
 */
static void
require_mine(const Caller *caller, bool found, const Invitation *invitation)
{
	char	   *email;

	if (found && !invitation->link && !invitation->shadow && !invitation->migration &&
		accepted_by(invitation, &caller->user_id))
		return;
	email = invitation_verified_email(&caller->user_id, true);
	if (email == NULL)
		refuse("email_unverified", NULL, "Confirm your email address first.");
	if (!found || invitation->link || invitation->shadow || invitation->migration ||
		strcmp(email, invitation->email) != 0)
		refuse("invitation_unknown", NULL, "my_invitations() lists yours.");
}

static void
lock_mine(const Caller *caller, Invitation *invitation)
{
	pg_uuid_t	id = invitation->id;
	bool		found;

	invitation_lock_users(invitation, &caller->user_id, true);
	found = invitation_read(&id, true, true, invitation);
	membership_require_user(&caller->user_id);
	require_mine(caller, found, invitation);
}

/* accept_my_invitation(invitation_id) */
Datum
invitation_accept_mine(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Invitation	invitation;
	pg_uuid_t	id;
	bool		found;

	accepting_actor(&caller);
	id = membership_uuid_argument(fcinfo, 0, "invitation_id");
	do
	{
		found = invitation_read(&id, true, false, &invitation);
		require_mine(&caller, found, &invitation);
		if (done_already(&invitation, &caller.user_id))
			return answer_accepted(fcinfo, &invitation, true);
	} while (!take_turn(&invitation));
	lock_mine(&caller, &invitation);
	if (done_already(&invitation, &caller.user_id))
		return answer_accepted(fcinfo, &invitation, true);
	invitation_accept_locked(&invitation, &caller.user_id);
	return answer_accepted(fcinfo, &invitation, false);
}

/* ---------------------------------------------------------------------
 * Declining
 * ---------------------------------------------------------------------
 */

static SavedPlan declined_row_plan = {
	.sql = "SELECT i.id, i.kind, i.status, i.email, coalesce((SELECT pg_catalog.array_agg(g.organization_id ORDER BY g.organization_id) "
	"FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id), '{}'), i.inviter_id, i.created_at, i.expires_at, i.closed_at "
	"FROM invite_sync.invitation AS i WHERE i.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static void
require_to_one_address(const Invitation *invitation)
{
	if (invitation->link)
		refuse("not_permitted", NULL, "A link is for everybody who has it: just do not follow it.");
}

static Datum
decline_locked(FunctionCallInfo fcinfo, const Caller *caller, Invitation *invitation)
{
	Datum		values[1];

	invitation_require_pending(invitation);
	invitation_close(invitation, INVITATION_DECLINED, membership_actor(caller));
	if (invitation->ngrants > 0)
		organization_touch(invitation->organization_ids, invitation->ngrants);
	for (int i = 0; i < Max(invitation->ngrants, 1); i++)
		membership_event(caller, "activity", "invitation.declined",
						 invitation->ngrants > 0 ? &invitation->organization_ids[i] : NULL, "invitation", &invitation->id, NULL);
	values[0] = UUIDPGetDatum(&invitation->id);
	return organization_answer(fcinfo, &declined_row_plan, values, NULL, false);
}

/* decline_invitation(token): as accepting, of who has the address */
Datum
invitation_decline(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Invitation	invitation;
	text	   *token;
	bool		proves;

	organization_actor(&caller);
	token = membership_text_argument(fcinfo, 0, "token");
	invitation_of_token(token, &invitation, &proves);
	require_to_one_address(&invitation);
	invitation_require_pending(&invitation);
	invitation_lock_users(&invitation, membership_actor(&caller), true);
	invitation_lock_by_token(token, &invitation, &proves);

	if (caller.has_user)
	{
		membership_require_user(&caller.user_id);
		require_address(&invitation, proves, true, &caller.user_id, true);
	}
	return decline_locked(fcinfo, &caller, &invitation);
}

/* decline_my_invitation(invitation_id) */
Datum
invitation_decline_mine(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Invitation	invitation;
	pg_uuid_t	id;
	bool		found;

	accepting_actor(&caller);
	id = membership_uuid_argument(fcinfo, 0, "invitation_id");
	found = invitation_read(&id, true, false, &invitation);
	require_mine(&caller, found, &invitation);
	invitation_require_pending(&invitation);
	lock_mine(&caller, &invitation);
	return decline_locked(fcinfo, &caller, &invitation);
}

/* ---------------------------------------------------------------------
 * Binding to a device
 * ---------------------------------------------------------------------
 */

static SavedPlan bind_plan = {
	.sql = "UPDATE invite_sync.invitation AS i SET device_digest = $2, "
	"device_until = pg_catalog.clock_timestamp() + '30 minutes'::pg_catalog.interval WHERE i.id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, BYTEAOID}
};

static SavedPlan bound_row_plan = {
	.sql = "SELECT i.id, i.device_until FROM invite_sync.invitation AS i WHERE i.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* A token that proves nothing is bound by nobody but who could accept it. */
static void
require_binding(const Caller *caller, const Invitation *invitation, bool proves)
{
	require_view(caller, invitation, proves, true);
	if (invitation->link)
		refuse("not_permitted", NULL, "A link is for everybody who has it and cannot be bound to a device.");
	if (!proves && !caller->has_user)
		refuse("not_authenticated", NULL, "Sign in with the invited address first.");
	if (!proves)
		require_address(invitation, proves, true, &caller->user_id, true);
	invitation_require_pending(invitation);
}

/* bind_invitation(token, device): locks the invitation alone, and waits for nothing once it has it */
Datum
invitation_bind(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Invitation	invitation;
	text	   *token;
	text	   *device;
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	bool		proves;
	Datum		values[2];

	caller_get(&caller);
	if (caller.kind != CALLER_ANON)
		accepting_actor(&caller);
	token = membership_text_argument(fcinfo, 0, "token");
	device = membership_text_argument(fcinfo, 1, "device");
	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	device_digest(device, (uint8 *) VARDATA(digest));
	invitation_of_token(token, &invitation, &proves);
	require_binding(&caller, &invitation, proves);
	invitation_lock_by_token(token, &invitation, &proves);
	require_binding(&caller, &invitation, proves);
	invitation_require_device(&invitation, device);

	values[0] = UUIDPGetDatum(&invitation.id);
	values[1] = PointerGetDatum(digest);
	membership_run(&bind_plan, values, NULL);
	if (!invitation.has_device)
		membership_event(&caller, "activity", "invitation.bound", invitation.ngrants > 0 ? &invitation.organization_ids[0] : NULL,
						 "invitation", &invitation.id, NULL);
	return organization_answer(fcinfo, &bound_row_plan, values, NULL, false);
}

/* ---------------------------------------------------------------------
 * Looking
 * ---------------------------------------------------------------------
 */

/* What it is called, as far as whoever may look at it is told: names, no ids. */
static SavedPlan names_plan = {
	.sql = "SELECT (SELECT pg_catalog.string_agg(o.name, ', ' ORDER BY o.id) FROM invite_sync.invitation_grant AS g "
	"JOIN invite_sync.organization AS o ON o.id = g.organization_id WHERE g.invitation_id = $1), "
	"coalesce((SELECT pg_catalog.string_agg(coalesce(r.name, '?'), ', ' ORDER BY g.organization_id) FROM invite_sync.invitation_grant AS g "
	"LEFT JOIN invite_sync.role AS r ON r.id = g.role_id WHERE g.invitation_id = $1), "
	"(SELECT r.name FROM invite_sync.role AS r JOIN invite_sync.invitation AS i ON i.platform_role_id = r.id WHERE i.id = $1))",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan preview_plan = {
	.sql = "SELECT $2, $3, (SELECT " MEMBERSHIP_DISPLAY_NAME("u") " FROM " CALLER_AUTH_USERS " AS u WHERE u.id = $1 AND u.deleted_at IS NULL), $4, $5, $6",
	.nargs = 6,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BOOLOID}
};

/*
 * get_invitation(token): as the caller's snapshot has it, writing nothing, also
 * on a standby. Whether the address has an account is told to who has proof
 * that it is theirs.
 */
Datum
invitation_get(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Invitation	invitation;
	text	   *token;
	bool		proves;
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};
	pg_uuid_t	account;
	Scope		scope;
	Datum		result;

	caller_get(&caller);
	token = membership_text_argument(fcinfo, 0, "token");
	if (!invitation_find(token, false, &invitation, &proves))
		refuse("invitation_unknown", NULL, NULL);
	require_view(&caller, &invitation, proves, false);
	invitation_require_pending(&invitation);

	values[5] = (Datum) 0;
	nulls[5] = 'n';
	if (proves && !invitation.link)
	{
		values[5] = BoolGetDatum(auth_account_find(invitation.email, false, &account) != AUTH_ACCOUNT_TAKEN);
		nulls[5] = ' ';
	}
	values[0] = UUIDPGetDatum(&invitation.id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&names_plan, values, NULL, true, 1);
	for (int i = 0; i < 2; i++)
	{
		bool		isnull;

		values[i + 1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		nulls[i + 1] = isnull ? 'n' : ' ';
	}
	scope_leave(&scope);
	values[0] = UUIDPGetDatum(&invitation.inviter_id);
	nulls[0] = invitation.has_inviter ? ' ' : 'n';
	values[3] = invitation.link ? (Datum) 0 : CStringGetTextDatum(invitation_email_hint(invitation.email));
	nulls[3] = invitation.link ? 'n' : ' ';
	values[4] = TimestampTzGetDatum(invitation.expires_at);
	scope_enter_auth(&scope);
	plan_by_lookup(plan_get(&preview_plan));
	plan_execute(&preview_plan, values, nulls, true, 1);
	scope_leave(&scope);
	result = plan_result_row(fcinfo);
	SPI_finish();
	return result;
}

/* As with the list of members: ours first, then the auth server's, by ids. */
static SavedPlan mine_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(p.id ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.inviter_id ORDER BY p.created_at DESC, p.id DESC), '{}') "
	"FROM (SELECT i.id, i.inviter_id, i.created_at FROM invite_sync.invitation AS i WHERE i.email = $1 AND i.status = 'pending' "
	"AND i.kind = 'email' AND i.purpose = 'invitation' AND NOT i.shadow AND i.expires_at > pg_catalog.clock_timestamp() "
	"AND (i.created_at, i.id) < ($2, $3) ORDER BY i.created_at DESC, i.id DESC LIMIT $4) AS p",
	.nargs = 4,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, UUIDOID, INT8OID}
};

static SavedPlan inviters_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(" MEMBERSHIP_DISPLAY_NAME("u") " ORDER BY x.n), '{}') "
	"FROM pg_catalog.unnest($1) WITH ORDINALITY AS x (id, n) LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.id AND u.deleted_at IS NULL",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan mine_rows_plan = {
	.sql = "SELECT i.id, coalesce(g.ids, '{}'), coalesce(g.names, '{}'), coalesce(g.roles, '{}'), "
	"(SELECT r.name FROM invite_sync.role AS r WHERE r.id = i.platform_role_id), x.inviter, i.created_at, i.expires_at, "
	MEMBERSHIP_CURSOR("i") " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS x (id, inviter, n) "
	"JOIN invite_sync.invitation AS i ON i.id = x.id LEFT JOIN LATERAL (SELECT pg_catalog.array_agg(o.id ORDER BY o.id) AS ids, "
	"pg_catalog.array_agg(o.name ORDER BY o.id) AS names, pg_catalog.array_agg(r.name ORDER BY o.id) AS roles "
	"FROM invite_sync.invitation_grant AS k JOIN invite_sync.organization AS o ON o.id = k.organization_id "
	"LEFT JOIN invite_sync.role AS r ON r.id = k.role_id WHERE k.invitation_id = i.id) AS g ON true ORDER BY x.n",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, TEXTARRAYOID}
};

/* my_invitations(after, page_size): without a verified address there are none */
Datum
invitation_list_mine(PG_FUNCTION_ARGS)
{
	Caller		caller;
	char	   *email;
	Datum		values[4];
	Datum		inviters;
	bool		isnull;
	Scope		scope;

	accepting_actor(&caller);
	membership_page_values(fcinfo, 0, &values[1]);
	email = invitation_verified_email(&caller.user_id, false);
	values[0] = CStringGetTextDatum(email ? email : "");
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&mine_plan, values, NULL, true, 1);
	values[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	inviters = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
	scope_leave(&scope);
	scope_enter_auth(&scope);
	plan_by_lookup(plan_get(&inviters_plan));
	plan_execute(&inviters_plan, &inviters, NULL, true, 1);
	values[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	scope_leave(&scope);
	scope_enter_own(&scope);
	plan_lookup(&mine_rows_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}
