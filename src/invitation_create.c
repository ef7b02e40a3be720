/*-------------------------------------------------------------------------
 *
 * invitation_create.c
 *	  Inviting: by email, and by link.
 *
 * An inviter who may not list members or invitations learns nothing about an
 * address from the answer: where it is a member, is invited or has declined
 * already, they get an invitation all the same, a shadow, which is charged,
 * counted and expires as any other.
 *
 * The idempotency key is claimed before any invitation is locked: nobody who
 * holds an invitation waits for a key.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "invitation.h"
#include "invitation_create.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "token.h"

PG_FUNCTION_INFO_V1(invitation_create);
PG_FUNCTION_INFO_V1(invitation_create_link);

#define TTL_MIN			(INT64CONST(15) * SECS_PER_MINUTE * USECS_PER_SEC)
#define TTL_MAX			(INT64CONST(30) * USECS_PER_DAY)
#define DATA_BYTES_MAX	4096
#define KEY_BYTES_MAX	200
#define MAX_USES_MAX	1000000
#define LOCK_ATTEMPTS	10
#define COOL_DOWN		"720 hours" /* and not days, which are longer and shorter in some time zones */

/* ---------------------------------------------------------------------
 * Who invites
 * ---------------------------------------------------------------------
 */

static bool
same_id(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a, b, UUID_LEN) == 0;
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* A service's inviter is checked as the service would be told by add_member(). */
static void
require_inviter(const pg_uuid_t *user_id, bool fresh)
{
	AuthUserState state;

	if (fresh)
		organization_user_state(user_id, &state);
	else
		caller_auth_user_state(user_id, &state);
	if (!state.exists)
		refuse("user_unknown", NULL, "inviter_id names an auth user.");
	if (!state.usable)
		refuse("user_banned", NULL, NULL);
	if (state.anonymous)
		refuse("anonymous_user", NULL, NULL);
}

void
invitation_inviter(FunctionCallInfo fcinfo, int arg, Inviter *inviter)
{
	memset(inviter, 0, sizeof(*inviter));
	organization_actor(&inviter->caller);
	inviter->as = inviter->caller;
	inviter->proves = inviter->caller.kind == CALLER_SERVICE;
	if (!PG_ARGISNULL(arg))
	{
		pg_uuid_t  *id = PG_GETARG_UUID_P(arg);

		if (inviter->caller.kind == CALLER_SERVICE)
		{
			require_inviter(id, false);
			inviter->as.kind = CALLER_USER;
			inviter->as.is_operator = false;
			inviter->as.has_user = true;
			inviter->as.user_id = *id;
		}
		else if (!same_id(id, &inviter->caller.user_id))
			refuse("not_permitted", NULL, "Leave inviter_id out: it is for services.");
	}
	inviter->has_inviter = inviter->as.kind == CALLER_USER;
}

void
invitation_inviter_again(const Inviter *inviter)
{
	if (inviter->has_inviter)
		require_inviter(&inviter->as.user_id, true);
}

const char *
invitation_inviter_key(const Inviter *inviter)
{
	return uuid_text(&inviter->as.user_id);
}

static bool
holds(const Inviter *inviter, const Authority *mine, const char *permission)
{
	Datum		word = CStringGetTextDatum(permission);
	ArrayType  *one = construct_array(&word, 1, TEXTOID, -1, false, TYPALIGN_INT);

	return !inviter->has_inviter || (mine->exists && mine->member && organization_covers(&inviter->as, mine, one));
}

bool
invitation_may(const Inviter *inviter, const pg_uuid_t *organization_id, const char *permission)
{
	Authority	mine;

	if (!inviter->has_inviter)
		return true;
	organization_authority_hook(&inviter->as.user_id, organization_id, true, &mine);
	return holds(inviter, &mine, permission);
}

bool
invitation_own(const Inviter *inviter, const Invitation *invitation)
{
	return inviter->has_inviter && invitation->has_inviter &&
		same_id(&invitation->inviter_id, &inviter->as.user_id);
}

/* May the inviter know that it is there? To everybody else a shadow is none. */
bool
invitation_known(const Inviter *inviter, const Invitation *invitation)
{
	if (!inviter->has_inviter || invitation_own(inviter, invitation))
		return true;
	for (int i = 0; !invitation->shadow && i < invitation->ngrants; i++)
		if (invitation_may(inviter, &invitation->organization_ids[i], "invitations.read"))
			return true;
	return false;
}

void
invitation_log(const Inviter *inviter, const char *action, const Invitation *invitation)
{
	invitation_event(&inviter->as, "activity", action, invitation, NULL);
}

/* ---------------------------------------------------------------------
 * What is asked for
 * ---------------------------------------------------------------------
 */

static void
malformed(const char *argument, const char *hint)
{
	refuse("data_malformed", psprintf("argument=%s", argument), hint);
}

/* Months as 30 days and days as 24 hours, as PostgreSQL compares intervals. */
int64
invitation_ttl(const Interval *interval)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	double		about = (double) interval->time + (double) days * USECS_PER_DAY;

	if (!(about >= TTL_MIN && about <= TTL_MAX))
		refuse("window_malformed", NULL, "An invitation lasts 15 minutes to 30 days.");
	return interval->time + days * USECS_PER_DAY;
}

/* What acceptance would write into the user's metadata must not look like what the auth server says. */
void
invitation_check_data(Jsonb *data)
{
	static const char *const reserved[] = {"role", "provider", "providers", "sub", "iss"};
	static const char suffix[] = "_verified";
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (!JB_ROOT_IS_OBJECT(data))
		malformed("data", "Pass an object.");
	if (strlen(JsonbToCString(NULL, &data->root, VARSIZE(data))) > DATA_BYTES_MAX)
		malformed("data", "At most 4096 bytes fit.");
	it = JsonbIteratorInit(&data->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		int			len;

		if (token != WJB_KEY)
			continue;
		len = v.val.string.len;
		for (size_t i = 0; i < lengthof(reserved); i++)
			if (len == (int) strlen(reserved[i]) && memcmp(v.val.string.val, reserved[i], len) == 0)
				malformed("data", "The keys role, provider, providers, sub, iss and *_verified are the auth server's.");
		if (len >= (int) strlen(suffix) &&
			memcmp(v.val.string.val + len - strlen(suffix), suffix, strlen(suffix)) == 0)
			malformed("data", "The keys role, provider, providers, sub, iss and *_verified are the auth server's.");
	}
}

void
invitation_one_grant(InvitationRequest *request, const pg_uuid_t *organization_id, text *role)
{
	request->ngrants = 1;
	request->organization_ids = palloc(sizeof(pg_uuid_t));
	request->organization_ids[0] = *organization_id;
	request->roles = palloc(sizeof(text *));
	request->roles[0] = role ? role : cstring_to_text("member");
	request->role_ids = palloc0(sizeof(pg_uuid_t));
	request->lists_members = palloc0(sizeof(bool));
	request->lists_invitations = palloc0(sizeof(bool));
}

static void
bad_grants(void)
{
	malformed("grants", "Pass [{\"organization_id\": …, \"role\": …}, …]: 1 to 100 organizations, each once.");
}

/* [{"organization_id", "role"}] in order of id */
void
invitation_grants(InvitationRequest *request, Jsonb *grants)
{
	int			n;

	if (!JB_ROOT_IS_ARRAY(grants) || JB_ROOT_IS_SCALAR(grants))
		bad_grants();
	n = JB_ROOT_COUNT(grants);
	if (n < 1 || n > INVITATION_GRANTS_MAX)
		bad_grants();
	request->organization_ids = palloc(sizeof(pg_uuid_t) * n);
	request->roles = palloc(sizeof(text *) * n);
	request->role_ids = palloc0(sizeof(pg_uuid_t) * n);
	request->lists_members = palloc0(sizeof(bool) * n);
	request->lists_invitations = palloc0(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *grant = getIthJsonbValueFromContainer(&grants->root, i);
		JsonbValue *id;
		JsonbValue *role;
		pg_uuid_t	organization_id;
		int			at;

		if (grant->type != jbvBinary || !JsonContainerIsObject(grant->val.binary.data))
			bad_grants();
		id = getKeyJsonValueFromContainer(grant->val.binary.data, "organization_id", strlen("organization_id"), NULL);
		role = getKeyJsonValueFromContainer(grant->val.binary.data, "role", strlen("role"), NULL);
		if (id == NULL || id->type != jbvString ||
			!caller_parse_uuid(pnstrdup(id->val.string.val, id->val.string.len), &organization_id) ||
			(role != NULL && role->type != jbvString) ||
			JsonContainerSize(grant->val.binary.data) != (uint32) (role ? 2 : 1))
			bad_grants();
		for (at = 0; at < i; at++)
		{
			int			order = memcmp(&request->organization_ids[at], &organization_id, UUID_LEN);

			if (order == 0)
				bad_grants();
			if (order > 0)
				break;
		}
		memmove(&request->organization_ids[at + 1], &request->organization_ids[at], sizeof(pg_uuid_t) * (i - at));
		memmove(&request->roles[at + 1], &request->roles[at], sizeof(text *) * (i - at));
		request->organization_ids[at] = organization_id;
		request->roles[at] = role ? cstring_to_text_with_len(role->val.string.val, role->val.string.len)
			: cstring_to_text("member");
	}
	request->ngrants = n;
}

static bool
is_word(text *value, const char *word)
{
	return VARSIZE_ANY_EXHDR(value) == strlen(word) && memcmp(VARDATA_ANY(value), word, strlen(word)) == 0;
}

void
invitation_words(InvitationRequest *request, text *delivery, text *on_pending)
{
	request->with_token = is_word(delivery, "return");
	if (is_word(delivery, "outbox"))
		malformed("delivery", "outbox is not supported yet: pass return or none.");
	if (!request->with_token && !is_word(delivery, "none"))
		malformed("delivery", "Pass return or none.");
	if (is_word(on_pending, "refuse"))
		request->on_pending = ON_PENDING_REFUSE;
	else if (is_word(on_pending, "resend"))
		request->on_pending = ON_PENDING_RESEND;
	else if (is_word(on_pending, "replace"))
		request->on_pending = ON_PENDING_REPLACE;
	else
		malformed("on_pending", "Pass refuse, resend or replace.");
}

/* ---------------------------------------------------------------------
 * Rights
 * ---------------------------------------------------------------------
 */

void
invitation_require_rights(const Inviter *inviter, const InvitationRequest *request)
{
	if (request->platform_role != NULL && inviter->caller.kind != CALLER_SERVICE)
		refuse("not_permitted", NULL, "Only service_role and operators give platform roles.");
	for (int i = 0; i < request->ngrants; i++)
		organization_require(&inviter->as, &request->organization_ids[i], "invitations.create", NULL);
}

static SavedPlan share_global_role_plan = {
	.sql = "SELECT r.id FROM invite_sync.role AS r WHERE r.name = $1 AND r.organization_id IS NULL FOR SHARE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

void
invitation_roles(const Inviter *inviter, InvitationRequest *request)
{
	for (int i = 0; i < request->ngrants; i++)
	{
		Authority	mine;

		organization_require(&inviter->as, &request->organization_ids[i], "invitations.create", &mine);
		/* whether something is in the way or not: to ask only then takes a time that tells */
		request->lists_members[i] = holds(inviter, &mine, "members.read");
		request->lists_invitations[i] = holds(inviter, &mine, "invitations.read");
		membership_role_to_give(&inviter->as, &mine, &request->organization_ids[i], request->roles[i],
								&request->role_ids[i]);
	}
	if (request->platform_role != NULL)
	{
		Datum		name = PointerGetDatum(request->platform_role);
		int			guc_level = membership_bound_waits();
		bool		found = membership_one_id(&share_global_role_plan, &name, NULL, &request->platform_role_id);

		AtEOXact_GUC(false, guc_level);
		if (!found)
			refuse("role_unknown", NULL, "A platform role is a global role: list_roles() names them.");
	}
}

/* ---------------------------------------------------------------------
 * Locks
 * ---------------------------------------------------------------------
 */

/*
 * What making these may close: invitations that have expired, whose inviters get
 * their quota back, and those that are replaced, which may give other organizations.
 */
static SavedPlan affected_plan = {
	.sql = "WITH pending AS (SELECT i.id, i.inviter_id, i.charged, i.expires_at <= pg_catalog.clock_timestamp() AS expired "
	"FROM invite_sync.invitation AS i WHERE i.email = ANY ($1) AND i.status = 'pending' AND i.kind = 'email' "
	"AND (i.alone OR EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id AND g.organization_id = ANY ($2)))) "
	"SELECT ARRAY (SELECT DISTINCT p.inviter_id FROM pending AS p WHERE p.expired AND p.charged AND p.inviter_id IS NOT NULL), "
	"ARRAY (SELECT DISTINCT g.organization_id FROM pending AS p JOIN invite_sync.invitation_grant AS g ON g.invitation_id = p.id "
	"WHERE p.expired OR $3)",
	.nargs = 3,
	.argtypes = {TEXTARRAYOID, UUIDARRAYOID, BOOLOID}
};

static bool
has_id(const pg_uuid_t *ids, int n, const pg_uuid_t *id)
{
	for (int i = 0; i < n; i++)
		if (same_id(&ids[i], id))
			return true;
	return false;
}

static void
add_ids(pg_uuid_t **ids, int *n, Datum array)
{
	Datum	   *elems;
	int			nelems;

	deconstruct_array(DatumGetArrayTypeP(array), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, NULL, &nelems);
	*ids = repalloc(*ids, sizeof(pg_uuid_t) * (*n + nelems + 1));
	for (int i = 0; i < nelems; i++)
		if (!has_id(*ids, *n, DatumGetUUIDP(elems[i])))
			(*ids)[(*n)++] = *DatumGetUUIDP(elems[i]);
}

typedef struct LockAttempt
{
	Datum		values[3];		/* of affected_plan */
	InvitationLocks *locks;
} LockAttempt;

/* Add what making them affects, as it is now, to what is to be locked; was it all there? */
static bool
add_affected(LockAttempt *attempt)
{
	InvitationLocks *locks = attempt->locks;
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	int			nusers = locks->nusers;
	int			norganizations = locks->norganizations;
	bool		isnull;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&affected_plan, attempt->values, NULL, false, 1);
	old = MemoryContextSwitchTo(cxt);
	add_ids(&locks->users, &locks->nusers, SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	add_ids(&locks->organizations, &locks->norganizations,
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	return locks->nusers == nusers && locks->norganizations == norganizations;
}

static bool
lock_affected(void *arg)
{
	LockAttempt *attempt = (LockAttempt *) arg;

	return organization_lock_once(attempt->locks->users, attempt->locks->nusers,
								  attempt->locks->organizations, attempt->locks->norganizations) &&
		add_affected(attempt);
}

/*
 * Where one is to be replaced that somebody made between the look and the locks,
 * and that gives other organizations too, the locks are given back and taken again
 * in order, with those. Nothing else makes it necessary: what has expired can wait.
 */
void
invitation_lock(const Inviter *inviter, const InvitationRequest *requests, int nrequests, InvitationLocks *locks)
{
	LockAttempt attempt;
	Datum	   *emails = palloc(sizeof(Datum) * (nrequests + 1));
	int			nemails = 0;
	int			ngrants = 0;
	bool		replace = false;

	memset(locks, 0, sizeof(*locks));
	locks->users = palloc(sizeof(pg_uuid_t));
	if (inviter->has_inviter)
		locks->users[locks->nusers++] = inviter->as.user_id;
	for (int i = 0; i < nrequests; i++)
		ngrants += requests[i].ngrants;
	locks->organizations = palloc(sizeof(pg_uuid_t) * (ngrants + 1));
	for (int i = 0; i < nrequests; i++)
	{
		if (requests[i].email != NULL)
			emails[nemails++] = CStringGetTextDatum(requests[i].email);
		for (int j = 0; j < requests[i].ngrants; j++)
			if (!has_id(locks->organizations, locks->norganizations, &requests[i].organization_ids[j]))
				locks->organizations[locks->norganizations++] = requests[i].organization_ids[j];
		replace |= requests[i].on_pending == ON_PENDING_REPLACE;
	}
	if (nemails > 0)
	{
		attempt.locks = locks;
		attempt.values[0] = plan_array(emails, NULL, nemails, TEXTOID);
		attempt.values[1] = plan_uuid_array(locks->organizations, locks->norganizations);
		attempt.values[2] = BoolGetDatum(replace);
		(void) add_affected(&attempt);
		for (int i = 0; replace && i < LOCK_ATTEMPTS; i++)
			if (plan_attempted(lock_affected, &attempt))
				return;
	}
	organization_lock(locks->users, locks->nusers, locks->organizations, locks->norganizations);
}

/*
 * Each touch makes another version of the organization's row, and whoever reads it
 * in the same transaction goes through them all.
 */
static void
touch(const Inviter *inviter, const pg_uuid_t *organization_ids, int norganizations)
{
	if (norganizations > 0 && !inviter->touched)
		organization_touch(organization_ids, norganizations);
}

/* Somebody invited the same address between our look at it and the locks. */
static void
try_again(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the address has just been invited by somebody else"),
			 errhint("Try the transaction again.")));
}

/* ---------------------------------------------------------------------
 * What stands in the way
 * ---------------------------------------------------------------------
 */

/*
 * By indexes of the auth server's alone. The one over instance_id and lower(email)
 * is left out: planned while the table was small, the statement would use that of
 * instance_id, which is the same for everybody. Users of single sign-on, who are in
 * no index of addresses, have an identity.
 */
static SavedPlan users_by_email_plan = {
	.sql = "SELECT x.id FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id FROM auth.users AS u WHERE u.email = $1 AND is_sso_user = false) AS x",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan identities_by_email_plan = {
	.sql = "SELECT i.user_id FROM auth.identities AS i WHERE i.email = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan member_plan = {
	.sql = "SELECT m.organization_id FROM invite_sync.membership AS m WHERE m.user_id = $1 AND m.organization_id = ANY ($2) "
	"ORDER BY m.organization_id",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDARRAYOID}
};

/* Ids from the first column of a statement, in the caller's memory. */
static pg_uuid_t *
read_ids(SavedPlan *plan, Datum *values, const char *nulls, bool of_auth, int *n)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	pg_uuid_t  *ids;

	SPI_connect();
	if (of_auth)
		scope_enter_auth(&scope);
	else
		scope_enter_own(&scope);
	plan_lookup(plan, values, nulls, false, 0);
	*n = (int) SPI_processed;
	ids = MemoryContextAlloc(cxt, sizeof(pg_uuid_t) * (*n + 1));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
	return ids;
}

/* Is it one of those that are invited to, where the inviter may list? */
static bool
has_listed(const InvitationRequest *request, const pg_uuid_t *organization_id, const bool *lists)
{
	for (int i = 0; i < request->ngrants; i++)
		if (same_id(&request->organization_ids[i], organization_id))
			return lists[i];
	return false;
}

/*
 * Somebody whose verified address it is, and who is a member of one of them. What
 * is asked of an account is asked of nobody's where there is none, so that the time
 * it takes tells nothing.
 */
void
invitation_find_member(const Inviter *inviter, const InvitationRequest *request, InvitationObstacle *obstacle)
{
	Datum		values[2];
	pg_uuid_t  *users;
	int			nusers;
	Oid			identities;

	memset(obstacle, 0, sizeof(*obstacle));
	if (!OidIsValid(caller_auth_users_relid(true)))
		return;
	values[0] = CStringGetTextDatum(request->email);
	users = read_ids(&users_by_email_plan, values, NULL, true, &nusers);
	identities = get_relname_relid("identities", get_namespace_oid("auth", true));
	if (OidIsValid(identities) && get_attnum(identities, "email") != InvalidAttrNumber)
	{
		int			n;
		pg_uuid_t  *more = read_ids(&identities_by_email_plan, values, NULL, true, &n);

		users = repalloc(users, sizeof(pg_uuid_t) * (nusers + n + 1));
		for (int i = 0; i < n; i++)
			if (!has_id(users, nusers, &more[i]))
				users[nusers++] = more[i];
	}
	if (nusers == 0)
		memset(&users[nusers++], 0, sizeof(pg_uuid_t));
	for (int i = 0; i < nusers; i++)
	{
		char	   *verified = membership_verified_email(&users[i], true);
		pg_uuid_t  *organizations;
		int			norganizations;
		bool		self = inviter->has_inviter && same_id(&users[i], &inviter->as.user_id);

		if (verified != NULL)
			verified = invitation_email(verified, strlen(verified));
		values[0] = UUIDPGetDatum(&users[i]);
		values[1] = plan_uuid_array(request->organization_ids, request->ngrants);
		organizations = read_ids(&member_plan, values, NULL, false, &norganizations);
		if (verified == NULL || strcmp(verified, request->email) != 0)
			continue;
		for (int j = 0; j < norganizations; j++)
		{
			obstacle->reason = "already_member";
			obstacle->detail = psprintf("organization_id=%s", uuid_text(&organizations[j]));
			obstacle->listed = self || !inviter->has_inviter ||
				has_listed(request, &organizations[j], request->lists_members);
			if (!obstacle->listed)
				return;
		}
	}
}

static SavedPlan pending_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.email = $1 AND i.status = 'pending' AND i.kind = 'email' "
	"AND i.purpose = 'invitation' AND (NOT i.shadow OR i.inviter_id = $4) AND CASE WHEN pg_catalog.cardinality($2) = 0 THEN i.alone "
	"ELSE EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id AND g.organization_id = ANY ($2)) END "
	"AND (i.expires_at <= pg_catalog.clock_timestamp()) = $3 ORDER BY i.id",
	.nargs = 4,
	.argtypes = {TEXTOID, UUIDARRAYOID, BOOLOID, UUIDOID}
};

/* Somebody's own shadows are to them what any other invitation is. */
pg_uuid_t *
invitation_pending_ids(const Inviter *inviter, const InvitationRequest *request, bool expired, int *n)
{
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', inviter->has_inviter ? ' ' : 'n'};

	values[0] = CStringGetTextDatum(request->email);
	values[1] = plan_uuid_array(request->organization_ids, request->ngrants);
	values[2] = BoolGetDatum(expired);
	values[3] = UUIDPGetDatum(&inviter->as.user_id);
	return read_ids(&pending_plan, values, nulls, false, n);
}

/* May they know that it is there: it is theirs, or they may list it where they invite to. */
static bool
may_list(const Inviter *inviter, const InvitationRequest *request, const Invitation *invitation)
{
	if (!inviter->has_inviter || invitation_own(inviter, invitation))
		return true;
	for (int i = 0; i < invitation->ngrants; i++)
		if (has_listed(request, &invitation->organization_ids[i], request->lists_invitations))
			return true;
	return false;
}

/* One that they may know of, where there is one: it is what on_pending is about. */
void
invitation_find_pending(const Inviter *inviter, const InvitationRequest *request, InvitationObstacle *obstacle)
{
	pg_uuid_t  *ids;
	int			n;

	memset(obstacle, 0, sizeof(*obstacle));
	ids = invitation_pending_ids(inviter, request, false, &n);
	for (int i = 0; i < n && !obstacle->listed; i++)
	{
		Invitation	invitation;

		if (!invitation_read(&ids[i], true, false, &invitation))
			continue;
		obstacle->reason = "already_invited";
		obstacle->detail = psprintf("invitation_id=%s", uuid_text(&ids[i]));
		obstacle->listed = may_list(inviter, request, &invitation);
	}
}

static SavedPlan declined_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.email = $1 AND i.status = 'declined' "
	"AND i.closed_at > pg_catalog.clock_timestamp() - '" COOL_DOWN "'::pg_catalog.interval "
	"AND CASE WHEN pg_catalog.cardinality($2) = 0 THEN i.alone "
	"ELSE EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id AND g.organization_id = ANY ($2)) END "
	"ORDER BY i.closed_at",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDARRAYOID}
};

/* Never earlier than it is: who comes back then is not refused once more. */
static SavedPlan retry_at_plan = {
	.sql = "SELECT pg_catalog.to_char(pg_catalog.date_trunc('second', i.closed_at + '" COOL_DOWN " 0.999999 seconds'::pg_catalog.interval) AT TIME ZONE 'UTC', "
	"'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
	"FROM invite_sync.invitation AS i WHERE i.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static char *
retry_at(const pg_uuid_t *id)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		value = UUIDPGetDatum(id);
	Scope		scope;
	char	   *result = NULL;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&retry_at_plan, &value, NULL, false, 1);
	if (SPI_processed == 1)
	{
		result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		if (result != NULL)
			result = MemoryContextStrdup(cxt, result);
	}
	scope_leave(&scope);
	SPI_finish();
	return result;
}

void
invitation_find_declined(const Inviter *inviter, const InvitationRequest *request, InvitationObstacle *obstacle)
{
	Datum		values[2];
	pg_uuid_t  *ids;
	int			n;

	memset(obstacle, 0, sizeof(*obstacle));
	if (!inviter->has_inviter)
		return;
	values[0] = CStringGetTextDatum(request->email);
	values[1] = plan_uuid_array(request->organization_ids, request->ngrants);
	ids = read_ids(&declined_plan, values, NULL, false, &n);
	for (int i = 0; i < n; i++)
	{
		Invitation	invitation;
		char	   *at = retry_at(&ids[i]);

		if (at == NULL || !invitation_read(&ids[i], true, false, &invitation))
			continue;
		obstacle->reason = "invitation_declined";
		obstacle->detail = psprintf("retry_at=%s", at);
		obstacle->listed = may_list(inviter, request, &invitation);
		if (!obstacle->listed)
			return;
	}
}

static SavedPlan seats_plan = {
	.sql = "SELECT CASE WHEN invite_sync.is_member(o.id) THEN o.id END FROM invite_sync.organization AS o WHERE o.id IN "
	"(SELECT invite_sync.seat_pool(x.id) FROM pg_catalog.unnest($1) AS x (id)) "
	"AND invite_sync.seats_used(o.id) + invite_sync.seats_pending(o.id) + $2 > o.seat_limit::pg_catalog.int8 + o.bonus_seats ORDER BY o.id",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, INT8OID}
};

void
invitation_require_seats(const pg_uuid_t *organization_ids, int norganizations, int n)
{
	Datum		values[2];
	Scope		scope;

	values[0] = plan_uuid_array(organization_ids, norganizations);
	values[1] = Int64GetDatum(n);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&seats_plan, values, NULL, false, 1);
	if (SPI_processed > 0)
	{
		/* whose seats they are is for its members, as with membership_check_seats() */
		char	   *pool = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		refuse("seats_exhausted", pool ? psprintf("organization_id=%s", pool) : NULL,
			   "Remove a member, or have seats added: set_seats().");
	}
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan holds_seat_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.email = $1 AND i.status = 'pending' AND i.kind = 'email' "
	"AND i.expires_at > pg_catalog.clock_timestamp() AND EXISTS (SELECT FROM invite_sync.invitation_grant AS g "
	"WHERE g.invitation_id = i.id AND g.open AND invite_sync.seat_pool(g.organization_id) = invite_sync.seat_pool($2)) ORDER BY i.id",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDOID}
};

/*
 * An address that holds a seat already takes no other, and that would tell who
 * may not know of it: they need a free seat, as for any other address. shadow:
 * they may not know that it is invited, or a member, in these organizations; else
 * it may be so in another one that draws on the same seats.
 */
static void
require_seats_as_anybody(const Inviter *inviter, const char *email, const pg_uuid_t *organization_ids,
						 int norganizations, bool shadow)
{
	if (shadow)
		invitation_require_seats(organization_ids, norganizations, 1);
	for (int i = 0; !shadow && inviter->has_inviter && i < norganizations; i++)
	{
		Datum		values[2];
		pg_uuid_t  *ids;
		int			n;
		bool		known = false;

		values[0] = CStringGetTextDatum(email);
		values[1] = UUIDPGetDatum(&organization_ids[i]);
		ids = read_ids(&holds_seat_plan, values, NULL, false, &n);
		for (int j = 0; j < n && !known; j++)
		{
			Invitation	invitation;

			known = invitation_read(&ids[j], true, false, &invitation) && invitation_known(inviter, &invitation);
		}
		if (n > 0 && !known)
			invitation_require_seats(&organization_ids[i], 1, 1);
	}
}

/* ---------------------------------------------------------------------
 * Idempotency
 * ---------------------------------------------------------------------
 */

static SavedPlan claim_key_plan = {
	.sql = "INSERT INTO invite_sync.invitation_key AS k (actor_id, key, invitation_id, request_digest) VALUES ($1, $2, $3, $4) "
	"ON CONFLICT (actor_id, key) DO UPDATE SET invitation_id = excluded.invitation_id, request_digest = excluded.request_digest, "
	"created_at = excluded.created_at WHERE k.created_at <= pg_catalog.clock_timestamp() - '24 hours'::pg_catalog.interval "
	"RETURNING k.invitation_id",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, UUIDOID, BYTEAOID}
};

static SavedPlan read_key_plan = {
	.sql = "SELECT CASE WHEN k.request_digest = $3 THEN k.invitation_id END FROM invite_sync.invitation_key AS k "
	"WHERE k.actor_id = $1 AND k.key = $2",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, BYTEAOID}
};

static SavedPlan rekey_plan = {
	.sql = "UPDATE invite_sync.invitation_key AS k SET invitation_id = $3 WHERE k.actor_id = $1 AND k.key = $2",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, UUIDOID}
};

static bytea *
request_digest(const InvitationRequest *request)
{
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool		ok;

	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	/* with the zero byte behind it, so that nothing runs into what follows */
	ok = ctx != NULL && pg_cryptohash_init(ctx) >= 0 &&
		pg_cryptohash_update(ctx, (const uint8 *) request->email, strlen(request->email) + 1) >= 0 &&
		pg_cryptohash_update(ctx, request->platform_role_id.data, UUID_LEN) >= 0;
	for (int i = 0; ok && i < request->ngrants; i++)
		ok = pg_cryptohash_update(ctx, request->organization_ids[i].data, UUID_LEN) >= 0 &&
			pg_cryptohash_update(ctx, request->role_ids[i].data, UUID_LEN) >= 0;
	if (!ok || pg_cryptohash_final(ctx, (uint8 *) VARDATA(digest), PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 digest")));
	pg_cryptohash_free(ctx);
	return digest;
}

static const char *
status_word(InvitationStatus status)
{
	static const char *const words[] = {"pending", "accepted", "declined", "revoked", "expired"};

	return words[status];
}

/* true: the key was used for the same before, and the outcome is that one's. */
static bool
replayed(const Inviter *inviter, const InvitationRequest *request, const pg_uuid_t *id, InvitationOutcome *outcome)
{
	pg_uuid_t	actor;
	pg_uuid_t	before;
	Datum		values[4];
	Invitation	invitation;
	int			guc_level;
	bool		claimed;

	memset(&actor, 0, sizeof(actor));
	if (inviter->has_inviter)
		actor = inviter->as.user_id;
	values[0] = UUIDPGetDatum(&actor);
	values[1] = PointerGetDatum(request->key);
	values[2] = UUIDPGetDatum(id);
	values[3] = PointerGetDatum(request_digest(request));
	guc_level = membership_bound_waits();
	claimed = membership_one_id(&claim_key_plan, values, NULL, &before);
	AtEOXact_GUC(false, guc_level);
	if (claimed)
		return false;
	values[2] = values[3];
	if (!membership_one_id(&read_key_plan, values, NULL, &before) ||
		!invitation_read(&before, true, false, &invitation))
		refuse("idempotency_conflict", NULL, "Use another key for another invitation.");
	memset(outcome, 0, sizeof(*outcome));
	outcome->id = invitation.id;
	outcome->email = invitation.email;
	outcome->status = status_word(invitation.status);
	outcome->expires_at = invitation.expires_at;
	outcome->reused = true;
	return true;
}

static void
rekey(const Inviter *inviter, const InvitationRequest *request, const pg_uuid_t *id)
{
	pg_uuid_t	actor;
	Datum		values[3];

	memset(&actor, 0, sizeof(actor));
	if (inviter->has_inviter)
		actor = inviter->as.user_id;
	values[0] = UUIDPGetDatum(&actor);
	values[1] = PointerGetDatum(request->key);
	values[2] = UUIDPGetDatum(id);
	membership_run(&rekey_plan, values, NULL);
}

/* ---------------------------------------------------------------------
 * Making
 * ---------------------------------------------------------------------
 */

static SavedPlan ttl_plan = {
	.sql = "SELECT pg_catalog.min(p.ttl) FROM invite_sync.invitation_policy AS p WHERE p.organization_id = ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static int64
default_ttl(const InvitationRequest *request)
{
	Datum		value = plan_uuid_array(request->organization_ids, request->ngrants);
	int64		ttl = (int64) invite_sync_invitation_ttl * USECS_PER_SEC;
	bool		isnull;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&ttl_plan, &value, NULL, false, 1);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		ttl = invitation_ttl(DatumGetIntervalP(value));
	scope_leave(&scope);
	SPI_finish();
	return ttl;
}

/* A token for this invitation: its text, and what is stored of it. */
static char *
mint(const pg_uuid_t *id, Datum *stored)
{
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	Token		token;
	char	   *text;

	token_mint(id, &token);
	text = token_text(&token);
	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	token_digest(&token, (uint8 *) VARDATA(digest));
	token_wipe(&token, sizeof(token));
	*stored = PointerGetDatum(digest);
	return text;
}

static SavedPlan insert_plan = {
	.sql = "INSERT INTO invite_sync.invitation AS i (id, kind, email, platform_role_id, data, inviter_id, secret_digest, proves_email, "
	"max_uses, allowed_domain, alone, shadow, charged, created_at, renewed_at, expires_at, legacy_digest) "
	"VALUES ($1, CASE WHEN $2 IS NULL THEN 'link' ELSE 'email' END, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15) "
	"ON CONFLICT DO NOTHING RETURNING i.id",
	.nargs = 15,
	.argtypes = {UUIDOID, TEXTOID, UUIDOID, JSONBOID, UUIDOID, BYTEAOID, BOOLOID, INT4OID, TEXTOID, BOOLOID, BOOLOID, BOOLOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID}
};

static SavedPlan insert_grants_plan = {
	.sql = "INSERT INTO invite_sync.invitation_grant AS g (invitation_id, organization_id, role_id, created_at) "
	"SELECT $1, x.organization_id, x.role_id, $4 FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS x (organization_id, role_id)",
	.nargs = 4,
	.argtypes = {UUIDOID, UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID}
};

static SavedPlan set_charged_plan = {
	.sql = "UPDATE invite_sync.invitation AS i SET charged = $2 WHERE i.id = $1 AND i.charged <> $2",
	.nargs = 2,
	.argtypes = {UUIDOID, BOOLOID}
};

static SavedPlan skip_locked_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan lock_user_plan = {
	.sql = "SELECT u.id FROM auth.users AS u WHERE u.id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* Somebody whom the look did not find, if that takes no waiting, which would be out of turn. */
static bool
locked_at_once(const pg_uuid_t *user_id)
{
	Datum		value = UUIDPGetDatum(user_id);
	int			n;

	(void) read_ids(&lock_user_plan, &value, NULL, true, &n);
	return n == 1;
}

static bool
all_locked(const Invitation *invitation, const InvitationLocks *locks)
{
	for (int i = 0; i < invitation->ngrants; i++)
		if (!has_id(locks->organizations, locks->norganizations, &invitation->organization_ids[i]))
			return false;
	return true;
}

static void
require_locked(const Invitation *invitation, const InvitationLocks *locks)
{
	if (!all_locked(invitation, locks))
		try_again();
}

/*
 * What has expired is closed on the way, which gives its quota back. Those that
 * somebody else is closing are left to them, but for one that has the place in
 * the unique index. So are those that expired between the look and the locks: to
 * write down that seats of an organization are free takes its lock, and to wait
 * for that now would be out of turn.
 */
void
invitation_close_expired(const Inviter *inviter, const InvitationRequest *request, const InvitationLocks *locks)
{
	int			n;
	pg_uuid_t  *ids = invitation_pending_ids(inviter, request, true, &n);

	for (int i = 0; i < n; i++)
	{
		Invitation	invitation;
		pg_uuid_t	id;
		Datum		value = UUIDPGetDatum(&ids[i]);

		if (request->ngrants > 0 &&
			(!invitation_read(&ids[i], true, false, &invitation) || !all_locked(&invitation, locks) ||
			 !membership_one_id(&skip_locked_plan, &value, NULL, &id)))
			continue;
		if (!invitation_read(&ids[i], true, true, &invitation) || !invitation.stored_pending ||
			invitation.status != INVITATION_EXPIRED)
			continue;
		if (invitation.charged && invitation.has_inviter &&
			!has_id(locks->users, locks->nusers, &invitation.inviter_id))
		{
			if (request->ngrants > 0)
				continue;
			if (!locked_at_once(&invitation.inviter_id))
				try_again();
		}
		invitation_close(&invitation, INVITATION_EXPIRED, NULL);
		touch(inviter, invitation.organization_ids, invitation.ngrants);
	}
}

bool
invitation_same_offer(const InvitationRequest *request, const Invitation *invitation)
{
	if (invitation->ngrants != request->ngrants ||
		invitation->has_platform_role != (request->platform_role != NULL) ||
		(invitation->has_platform_role && !same_id(&invitation->platform_role_id, &request->platform_role_id)))
		return false;
	for (int i = 0; i < request->ngrants; i++)
		if (!same_id(&invitation->organization_ids[i], &request->organization_ids[i]) ||
			!same_id(&invitation->role_ids[i], &request->role_ids[i]))
			return false;
	return true;
}

static void
replace_one(const Inviter *inviter, Invitation *invitation)
{
	if (inviter->has_inviter && !invitation_own(inviter, invitation))
		for (int i = 0; i < invitation->ngrants; i++)
			if (!invitation_may(inviter, &invitation->organization_ids[i], "invitations.revoke"))
				refuse("not_permitted", NULL, "Replacing somebody else's invitation needs invitations.revoke in all its organizations.");
	invitation_close(invitation, INVITATION_REVOKED, membership_actor(&inviter->as));
	touch(inviter, invitation->organization_ids, invitation->ngrants);
	invitation_log(inviter, "invitation.revoked", invitation);
}

void
invitation_refuse_obstacle(const InvitationObstacle *obstacle)
{
	const char *hint = NULL;

	if (strcmp(obstacle->reason, "already_invited") == 0)
		hint = "on_pending => 'resend' renews the same offer, 'replace' makes another; resend_invitation() and revoke_invitation() take its id.";
	else if (strcmp(obstacle->reason, "already_member") == 0)
		hint = "set_member_role() changes what a member is.";
	else if (strcmp(obstacle->reason, "invitation_declined") == 0)
		hint = "Who has declined is left in peace for 30 days.";
	refuse(obstacle->reason, obstacle->detail, hint);
}

/*
 * Members and pending invitations of this address. true: a pending one was
 * renewed, which is the outcome. shadow: something is in the way that the inviter
 * may not know. What they have sent themselves before, a shadow or not, is treated
 * alike: or the second answer would tell what the first did not.
 */
static bool
pass_obstacles(const Inviter *inviter, InvitationRequest *request, const InvitationLocks *locks,
			   bool *shadow, InvitationOutcome *outcome)
{
	InvitationObstacle obstacle;
	pg_uuid_t  *ids;
	int			n;
	int			known = 0;

	*shadow = false;
	if (request->ngrants > 0)
	{
		invitation_find_member(inviter, request, &obstacle);
		if (obstacle.reason && obstacle.listed)
			invitation_refuse_obstacle(&obstacle);
		*shadow |= obstacle.reason != NULL;
	}
	invitation_find_declined(inviter, request, &obstacle);
	if (obstacle.reason && obstacle.listed)
		invitation_refuse_obstacle(&obstacle);
	*shadow |= obstacle.reason != NULL;

	invitation_find_pending(inviter, request, &obstacle);
	if (obstacle.reason && obstacle.listed && request->on_pending == ON_PENDING_REFUSE)
		invitation_refuse_obstacle(&obstacle);
	ids = invitation_pending_ids(inviter, request, false, &n);
	for (int i = 0; i < n; i++)
	{
		Invitation	invitation;

		if (!invitation_read(&ids[i], true, false, &invitation) || invitation.status != INVITATION_PENDING)
			continue;
		if (!may_list(inviter, request, &invitation))
		{
			*shadow = true;
			continue;
		}
		/* one to the application alone may have come since the first look */
		if (!obstacle.listed)
		{
			obstacle.reason = "already_invited";
			obstacle.detail = psprintf("invitation_id=%s", uuid_text(&ids[i]));
			obstacle.listed = true;
		}
		/*
		 * Only one of which all organizations are locked is locked itself: who
		 * has another of them may have it, and want one of ours. What it gives
		 * does not change.
		 */
		if (request->on_pending == ON_PENDING_REPLACE)
			require_locked(&invitation, locks);
		else if (!invitation_same_offer(request, &invitation))
			invitation_refuse_obstacle(&obstacle);
		if (!invitation_read(&ids[i], true, true, &invitation) || invitation.status != INVITATION_PENDING)
			continue;
		known++;
		if (request->on_pending == ON_PENDING_REPLACE)
		{
			replace_one(inviter, &invitation);
			continue;
		}
		/* renewed, it would be refused to who accepts where its inviter may not give any more what it gives */
		if (known > 1 || !invitation_still_allowed(&invitation))
			invitation_refuse_obstacle(&obstacle);
		ids[0] = invitation.id;
	}
	if (known == 1 && request->on_pending == ON_PENDING_RESEND)
	{
		Invitation	invitation;

		if (!invitation_read(&ids[0], true, true, &invitation))
			try_again();
		if (request->key != NULL)
			rekey(inviter, request, &invitation.id);
		invitation_renew(inviter, &invitation, request->ttl, request->with_token, outcome);
		return true;
	}
	return false;
}

/* Quota and limits: the last locks of all. */
static void
charge_inviter(const Inviter *inviter, const InvitationRequest *request, const pg_uuid_t *id)
{
	Datum		values[2];

	if (!inviter->has_inviter || invitation_quota == NULL)
		return;
	if (!invitation_quota->take(&inviter->as.user_id))
	{
		values[0] = UUIDPGetDatum(id);
		values[1] = BoolGetDatum(false);
		membership_run(&set_charged_plan, values, NULL);
	}
	invitation_quota->count("invite", "user", invitation_inviter_key(inviter));
	if (request->email != NULL && request->with_token)
		invitation_quota->count("message", "recipient", invitation_email_key(request->email));
}

bool
invitation_insert(const Inviter *inviter, InvitationRequest *request, const pg_uuid_t *id, bool shadow,
				  InvitationOutcome *outcome)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz expires_at = request->expires_at;
	Datum		values[15];
	char		nulls[15];
	char	   *token = NULL;
	const pg_uuid_t *sender = inviter->has_inviter ? &inviter->as.user_id : request->has_sender ? &request->sender : NULL;
	pg_uuid_t	inserted;
	int			guc_level;
	bool		done;

	if (expires_at == 0)
		expires_at = now + (request->ttl ? request->ttl : default_ttl(request));
	memset(nulls, ' ', sizeof(nulls));
	memset(values, 0, sizeof(values));
	values[0] = UUIDPGetDatum(id);
	if (request->email)
		values[1] = CStringGetTextDatum(request->email);
	else
		nulls[1] = 'n';
	if (request->platform_role)
		values[2] = UUIDPGetDatum(&request->platform_role_id);
	else
		nulls[2] = 'n';
	values[3] = JsonbPGetDatum(request->data);
	if (sender)
		values[4] = UUIDPGetDatum(sender);
	else
		nulls[4] = 'n';
	if (request->with_token)
		token = mint(id, &values[5]);
	else
		nulls[5] = 'n';
	values[6] = BoolGetDatum(request->legacy_proves ||
							 (request->email != NULL && token != NULL && inviter->proves));
	if (request->max_uses)
		values[7] = Int32GetDatum(request->max_uses);
	else
		nulls[7] = 'n';
	if (request->allowed_domain)
		values[8] = CStringGetTextDatum(request->allowed_domain);
	else
		nulls[8] = 'n';
	values[9] = BoolGetDatum(request->ngrants == 0);
	values[10] = BoolGetDatum(shadow);
	values[11] = BoolGetDatum(inviter->has_inviter && invitation_quota != NULL);
	values[12] = TimestampTzGetDatum(now);
	values[13] = TimestampTzGetDatum(expires_at);
	if (request->legacy_digest)
		values[14] = PointerGetDatum(request->legacy_digest);
	else
		nulls[14] = 'n';
	guc_level = membership_bound_waits();
	done = membership_one_id(&insert_plan, values, nulls, &inserted);
	AtEOXact_GUC(false, guc_level);
	if (!done)
		return false;
	if (request->ngrants > 0)
	{
		values[1] = plan_uuid_array(request->organization_ids, request->ngrants);
		values[2] = plan_uuid_array(request->role_ids, request->ngrants);
		values[3] = TimestampTzGetDatum(now);
		membership_run(&insert_grants_plan, values, NULL);
		touch(inviter, request->organization_ids, request->ngrants);
	}
	memset(outcome, 0, sizeof(*outcome));
	outcome->id = *id;
	outcome->token = token;
	outcome->email = request->email;
	outcome->status = "pending";
	outcome->expires_at = expires_at;
	return true;
}

/* Is there anywhere where they must not hear what is in the way? */
static bool
hidden_from(const Inviter *inviter, const InvitationRequest *request)
{
	if (inviter->has_inviter && request->email != NULL)
		for (int i = 0; i < request->ngrants; i++)
			if (!request->lists_members[i] || !request->lists_invitations[i])
				return true;
	return false;
}

void
invitation_make(const Inviter *inviter, InvitationRequest *request, const InvitationLocks *locks,
				InvitationOutcome *outcome)
{
	pg_uuid_t	id;
	bool		shadow = false;
	Invitation	made;

	token_new_id(&id);
	invitation_inviter_again(inviter);
	invitation_require_rights(inviter, request);
	invitation_roles(inviter, request);
	if (request->key != NULL && replayed(inviter, request, &id, outcome))
		return;
	if (request->email != NULL)
	{
		invitation_close_expired(inviter, request, locks);
		if (pass_obstacles(inviter, request, locks, &shadow, outcome))
			return;
	}
	if (request->email != NULL)
	{
		require_seats_as_anybody(inviter, request->email, request->organization_ids, request->ngrants, shadow);
		/* asked for shadows alone it would tell by the time it takes */
		if (!shadow && hidden_from(inviter, request))
			invitation_require_seats(request->organization_ids, request->ngrants, 0);
	}
	for (int attempt = 1; !invitation_insert(inviter, request, &id, shadow, outcome); attempt++)
	{
		/* who got there first has committed by now, and theirs may have ended since */
		if (attempt == LOCK_ATTEMPTS)
			try_again();
		if (request->email != NULL)
			invitation_close_expired(inviter, request, locks);
		if (pass_obstacles(inviter, request, locks, &shadow, outcome))
			return;
	}
	memset(&made, 0, sizeof(made));
	made.id = id;
	made.ngrants = request->ngrants;
	made.organization_ids = request->organization_ids;
	invitation_log(inviter, request->email ? "invitation.created" : "invitation.link_created", &made);
	charge_inviter(inviter, request, &id);
}

/* ---------------------------------------------------------------------
 * Renewing
 * ---------------------------------------------------------------------
 */

static SavedPlan renew_plan = {
	.sql = "UPDATE invite_sync.invitation AS i SET status = 'pending', closed_at = NULL, closed_by = NULL, secret_digest = $2, "
	"proves_email = $3, legacy_digest = NULL, device_digest = NULL, device_until = NULL, renewed_at = $4, expires_at = $5, "
	"shadow = $6, charged = $7 WHERE i.id = $1",
	.nargs = 7,
	.argtypes = {UUIDOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, BOOLOID}
};

static SavedPlan open_grants_plan = {
	.sql = "UPDATE invite_sync.invitation_grant AS g SET open = true WHERE g.invitation_id = $1 AND NOT g.open",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* What is in the way of one that had expired is in the way of its return as well. */
static bool
obstacles_to_return(const Inviter *inviter, const Invitation *invitation)
{
	InvitationRequest request;
	InvitationObstacle obstacle;
	bool		shadow = invitation->shadow;

	memset(&request, 0, sizeof(request));
	request.email = invitation->email;
	request.ngrants = invitation->ngrants;
	request.organization_ids = invitation->organization_ids;
	request.lists_members = palloc(sizeof(bool) * (request.ngrants + 1));
	request.lists_invitations = palloc(sizeof(bool) * (request.ngrants + 1));
	for (int i = 0; i < request.ngrants; i++)
	{
		request.lists_members[i] = invitation_may(inviter, &request.organization_ids[i], "members.read");
		request.lists_invitations[i] = invitation_may(inviter, &request.organization_ids[i], "invitations.read");
	}
	for (int i = 0; i < 3; i++)
	{
		if (i == 0 && request.ngrants > 0)
			invitation_find_member(inviter, &request, &obstacle);
		else if (i == 1)
			invitation_find_declined(inviter, &request, &obstacle);
		else if (i == 2)
			invitation_find_pending(inviter, &request, &obstacle);
		else
			continue;
		if (obstacle.reason && obstacle.listed && !shadow)
			invitation_refuse_obstacle(&obstacle);
		shadow |= obstacle.reason != NULL;
	}
	return shadow;
}

void
invitation_renew(const Inviter *inviter, Invitation *invitation, int64 ttl, bool with_token,
				 InvitationOutcome *outcome)
{
	bool		expired = invitation->status == INVITATION_EXPIRED;
	bool		shadow = invitation->shadow;
	bool		charged = invitation->charged;
	TimestampTz now;
	TimestampTz expires_at;
	char	   *token = NULL;
	Datum		values[7];
	char		nulls[7];

	if (expired)
	{
		if (invitation->stored_pending)
			invitation_close(invitation, INVITATION_EXPIRED, NULL);
		if (invitation->email != NULL)
		{
			shadow = obstacles_to_return(inviter, invitation);
			require_seats_as_anybody(inviter, invitation->email, invitation->organization_ids, invitation->ngrants, shadow);
		}
		charged = invitation->has_inviter && invitation_quota != NULL;
	}
	if (ttl == 0)
		ttl = Min(Max(invitation->expires_at - invitation->renewed_at, TTL_MIN), TTL_MAX);
	now = GetCurrentTimestamp();
	expires_at = now + ttl;
	memset(nulls, ' ', sizeof(nulls));
	values[0] = UUIDPGetDatum(&invitation->id);
	if (with_token)
		token = mint(&invitation->id, &values[1]);
	else
	{
		nulls[1] = 'n';
		values[1] = (Datum) 0;
	}
	values[2] = BoolGetDatum(invitation->email != NULL && token != NULL && inviter->proves);
	values[3] = TimestampTzGetDatum(now);
	values[4] = TimestampTzGetDatum(expires_at);
	values[5] = BoolGetDatum(shadow);
	values[6] = BoolGetDatum(charged);
	for (int attempt = 1; !organization_try_unique(&renew_plan, values, nulls); attempt++)
	{
		/* what came in between is in the way as if it had been there before */
		if (attempt == LOCK_ATTEMPTS || !expired || invitation->email == NULL)
			try_again();
		shadow = obstacles_to_return(inviter, invitation);
		values[5] = BoolGetDatum(shadow);
	}
	if (invitation->ngrants > 0)
	{
		/* of one that is pending those are closed that somebody has got otherwise, and their seats taken by that */
		if (expired)
			membership_run(&open_grants_plan, values, NULL);
		if (expired && invitation->email != NULL)
			invitation_require_seats(invitation->organization_ids, invitation->ngrants, 0);
		touch(inviter, invitation->organization_ids, invitation->ngrants);
	}
	invitation_log(inviter, "invitation.resent", invitation);

	/* a link that somebody has used was not given back when it expired, and is not taken twice */
	if (expired && charged && !invitation->charged && !invitation_quota->take(&invitation->inviter_id))
	{
		values[1] = BoolGetDatum(false);
		membership_run(&set_charged_plan, values, NULL);
	}
	if (inviter->has_inviter && invitation_quota != NULL)
	{
		invitation_quota->count("resend", "invitation", uuid_text(&invitation->id));
		if (invitation->email != NULL && with_token)
			invitation_quota->count("message", "recipient", invitation_email_key(invitation->email));
	}

	memset(outcome, 0, sizeof(*outcome));
	outcome->id = invitation->id;
	outcome->token = token;
	outcome->email = invitation->email;
	outcome->status = "pending";
	outcome->expires_at = expires_at;
}

/* ---------------------------------------------------------------------
 * The answer
 * ---------------------------------------------------------------------
 */

/* NULL where no address is configured, or none with a place for the token. */
static char *
accept_url(const char *token)
{
	static const char place[] = "{token}";
	const char *at;

	if (token == NULL || invite_sync_accept_url == NULL ||
		(at = strstr(invite_sync_accept_url, place)) == NULL)
		return NULL;
	return psprintf("%.*s%s%s", (int) (at - invite_sync_accept_url), invite_sync_accept_url, token,
					at + strlen(place));
}

void
invitation_outcome_values(InvitationOutcome *outcome, Datum *values, bool *nulls)
{
	char	   *url = accept_url(outcome->token);

	values[0] = UUIDPGetDatum(&outcome->id);
	nulls[0] = false;
	nulls[1] = outcome->token == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(outcome->token);
	nulls[2] = url == NULL;
	values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(url);
	nulls[3] = outcome->email == NULL;
	values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(outcome->email);
	values[4] = CStringGetTextDatum(outcome->status);
	values[5] = TimestampTzGetDatum(outcome->expires_at);
	values[6] = BoolGetDatum(outcome->reused);
	values[7] = BoolGetDatum(outcome->skipped);
	nulls[4] = nulls[5] = nulls[6] = nulls[7] = false;
	if (url != NULL)
		token_wipe(url, strlen(url));
	if (outcome->token != NULL)
		token_wipe(outcome->token, strlen(outcome->token));
}

static Datum
outcome_row(FunctionCallInfo fcinfo, InvitationOutcome *outcome)
{
	Datum		values[8];
	bool		nulls[8];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "return type must be a row type");
	invitation_outcome_values(outcome, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static text *
key_argument(FunctionCallInfo fcinfo, int arg)
{
	text	   *key;

	if (PG_ARGISNULL(arg))
		return NULL;
	key = PG_GETARG_TEXT_PP(arg);
	if (VARSIZE_ANY_EXHDR(key) == 0 || VARSIZE_ANY_EXHDR(key) > KEY_BYTES_MAX)
		malformed("idempotency_key", "1 to 200 bytes.");
	return key;
}

/*
 * create_invitation(email, role, organization_id, grants, platform_role, data, expires_in, delivery, on_pending,
 * idempotency_key, inviter_id)
 */
Datum
invitation_create(PG_FUNCTION_ARGS)
{
	Inviter		inviter;
	InvitationRequest request;
	InvitationLocks locks;
	InvitationOutcome outcome;

	invitation_inviter(fcinfo, 10, &inviter);
	memset(&request, 0, sizeof(request));
	request.email = invitation_email_argument(fcinfo, 0);
	if (!PG_ARGISNULL(3))
	{
		if (!PG_ARGISNULL(1) || !PG_ARGISNULL(2))
			malformed("grants", "Pass either grants, or organization_id and role.");
		invitation_grants(&request, PG_GETARG_JSONB_P(3));
	}
	else if (!PG_ARGISNULL(2))
		invitation_one_grant(&request, PG_GETARG_UUID_P(2), PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	else if (!PG_ARGISNULL(1))
		malformed("organization_id", "A role is one in an organization; platform_role is another thing.");
	request.platform_role = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	request.data = PG_ARGISNULL(5) ? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")))
		: PG_GETARG_JSONB_P(5);
	invitation_check_data(request.data);
	request.ttl = PG_ARGISNULL(6) ? 0 : invitation_ttl(PG_GETARG_INTERVAL_P(6));
	invitation_words(&request, membership_text_argument(fcinfo, 7, "delivery"),
					 membership_text_argument(fcinfo, 8, "on_pending"));
	request.key = key_argument(fcinfo, 9);

	invitation_require_rights(&inviter, &request);
	invitation_lock(&inviter, &request, 1, &locks);
	invitation_make(&inviter, &request, &locks, &outcome);
	return outcome_row(fcinfo, &outcome);
}

/* create_invite_link(organization_id, role, max_uses, expires_in, allowed_domain, inviter_id) */
Datum
invitation_create_link(PG_FUNCTION_ARGS)
{
	Inviter		inviter;
	InvitationRequest request;
	InvitationLocks locks;
	InvitationOutcome outcome;
	pg_uuid_t	organization_id;

	invitation_inviter(fcinfo, 5, &inviter);
	memset(&request, 0, sizeof(request));
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	invitation_one_grant(&request, &organization_id, membership_text_argument(fcinfo, 1, "role"));
	if (!PG_ARGISNULL(2))
	{
		request.max_uses = PG_GETARG_INT32(2);
		if (request.max_uses < 1 || request.max_uses > MAX_USES_MAX)
			malformed("max_uses", "1 to 1000000; NULL: no limit.");
	}
	request.ttl = PG_ARGISNULL(3) ? 0 : invitation_ttl(PG_GETARG_INTERVAL_P(3));
	if (!PG_ARGISNULL(4))
	{
		/* an address of that domain tells whether it is one, and how it is written */
		char	   *probe = psprintf("a@%s", text_to_cstring(PG_GETARG_TEXT_PP(4)));

		probe = invitation_email(probe, strlen(probe));
		if (probe == NULL)
			malformed("allowed_domain", "Pass a domain such as example.com.");
		request.allowed_domain = probe + 2;
	}
	request.data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	request.with_token = true;

	invitation_require_rights(&inviter, &request);
	invitation_lock(&inviter, &request, 1, &locks);
	invitation_make(&inviter, &request, &locks, &outcome);
	return outcome_row(fcinfo, &outcome);
}
