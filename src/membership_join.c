/*-------------------------------------------------------------------------
 *
 * membership_join.c
 *	  Joining by oneself: organizations open to users of their verified
 *	  domains, to ask (suggest) or to come in at once (auto).
 *
 * Who is not at home in one of its domains hears of no organization here, not
 * even that there is one.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "caller.h"
#include "event.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(membership_request);
PG_FUNCTION_INFO_V1(membership_decide);
PG_FUNCTION_INFO_V1(membership_cancel);
PG_FUNCTION_INFO_V1(membership_list_requests);
PG_FUNCTION_INFO_V1(membership_suggested);

#define MESSAGE_MAX		1000	/* characters */

/* ---------------------------------------------------------------------
 * Verified addresses
 * ---------------------------------------------------------------------
 */

static SavedPlan email_plan = {
	.sql = "SELECT u.email::pg_catalog.text, u.is_sso_user FROM " CALLER_AUTH_USERS " AS u WHERE u.id = $1 "
	"AND u.email <> '' AND u.email_confirmed_at IS NOT NULL AND u.deleted_at IS NULL "
	"AND (u.banned_until IS NULL OR u.banned_until <= pg_catalog.now()) AND NOT u.is_anonymous",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* What an identity provider says of an address counts for the domains it was set up for. */
static SavedPlan sso_plan = {
	.sql = "SELECT 1 FROM auth.identities AS i JOIN auth.sso_domains AS d "
	"ON i.provider = 'sso:' OPERATOR(pg_catalog.||) d.sso_provider_id::pg_catalog.text "
	"WHERE i.user_id = $1 AND pg_catalog.lower(d.domain) = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID}
};

/* The part behind the last @, in ASCII lower case; NULL where there is none. */
static char *
domain_of(const char *email)
{
	const char *at = strrchr(email, '@');
	char	   *domain;

	if (at == NULL || at[1] == '\0')
		return NULL;
	domain = pstrdup(at + 1);
	for (char *s = domain; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s += 'a' - 'A';
	return domain;
}

char *
membership_verified_email(const pg_uuid_t *user_id, bool fresh)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			auth = get_namespace_oid("auth", true);
	char	   *email = NULL;
	Scope		scope;
	Datum		values[2];

	if (!OidIsValid(caller_auth_users_relid(true)))
		return NULL;
	values[0] = UUIDPGetDatum(user_id);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_lookup(&email_plan, values, NULL, !fresh, 1);
	if (SPI_processed == 1)
	{
		bool		isnull;
		bool		sso = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		char	   *domain;

		email = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
		domain = domain_of(email);
		if (domain == NULL)
			email = NULL;
		else if (sso)
		{
			values[1] = CStringGetTextDatum(domain);
			if (!OidIsValid(get_relname_relid("sso_domains", auth)) ||
				!OidIsValid(get_relname_relid("identities", auth)))
				email = NULL;
			else
			{
				plan_lookup(&sso_plan, values, NULL, !fresh, 1);
				if (SPI_processed == 0)
					email = NULL;
			}
		}
	}
	scope_leave(&scope);
	SPI_finish();
	return email;
}

/* The domain of the user's verified address; email_unverified without one. */
static Datum
verified_domain(const pg_uuid_t *user_id, bool fresh)
{
	char	   *email = membership_verified_email(user_id, fresh);

	if (email == NULL)
		refuse("email_unverified", NULL, "Confirm your email address first.");
	return CStringGetTextDatum(domain_of(email));
}

/* ---------------------------------------------------------------------
 * Asking
 * ---------------------------------------------------------------------
 */

static SavedPlan enrollment_plan = {
	.sql = "SELECT d.enrollment = 'auto', EXISTS (SELECT FROM invite_sync.membership_removal AS x "
	"WHERE x.organization_id = d.organization_id AND x.user_id = $3) "
	"FROM invite_sync.organization_domain AS d JOIN invite_sync.organization AS o ON o.id = d.organization_id "
	"WHERE d.organization_id = $1 AND d.domain = $2 AND d.verified_at IS NOT NULL AND d.enrollment IN ('suggest', 'auto')",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, UUIDOID}
};

#define REQUEST_COLUMNS \
	"j.id, j.organization_id, j.user_id, j.message, j.status, j.decided_by, j.created_at, j.decided_at"

static SavedPlan insert_request_plan = {
	.sql = "INSERT INTO invite_sync.join_request AS j (organization_id, user_id, message) VALUES ($1, $2, $3) "
	"ON CONFLICT (user_id, organization_id) WHERE status OPERATOR(pg_catalog.=) 'pending' DO NOTHING RETURNING j.id",
	.nargs = 3,
	.argtypes = {UUIDOID, UUIDOID, TEXTOID}
};

static SavedPlan pending_plan = {
	.sql = "SELECT j.id FROM invite_sync.join_request AS j WHERE j.organization_id = $1 AND j.user_id = $2 AND j.status = 'pending'",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan request_row_plan = {
	.sql = "SELECT " REQUEST_COLUMNS " FROM invite_sync.join_request AS j WHERE j.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan close_request_plan = {
	.sql = "UPDATE invite_sync.join_request AS j SET status = $2, decided_by = $3, decided_at = pg_catalog.now() "
	"WHERE j.id = $1 AND j.status = 'pending' RETURNING j.id",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, UUIDOID}
};

static SavedPlan is_member_plan = {
	.sql = "SELECT m.id FROM invite_sync.membership AS m WHERE m.organization_id = $1 AND m.user_id = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

/* Refuse as unknown what does not invite users of this domain; otherwise say how it does. */
static void
require_enrollment(const Caller *caller, const pg_uuid_t *organization_id, bool *at_once)
{
	Scope		scope;
	Datum		values[3];
	bool		found;
	bool		isnull;

	values[0] = UUIDPGetDatum(organization_id);
	values[1] = verified_domain(&caller->user_id, true);
	values[2] = UUIDPGetDatum(&caller->user_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&enrollment_plan, values, NULL, false, 1);
	found = SPI_processed == 1;
	if (found)
		*at_once = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) &&
			!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	scope_leave(&scope);
	SPI_finish();
	if (!found)
		refuse("organization_unknown", NULL, "suggested_organizations() lists those that you can ask to join.");
}

static void
request_actor(Caller *caller)
{
	organization_actor(caller);
	if (!caller->has_user)
		refuse("not_authenticated", NULL, "Only a user can ask to join; add_member() adds somebody else.");
}

static Datum
request_row(FunctionCallInfo fcinfo, const pg_uuid_t *request_id)
{
	Datum		values[1];
	Datum		result;

	values[0] = UUIDPGetDatum(request_id);
	result = organization_answer(fcinfo, &request_row_plan, values, NULL, false);
	if (fcinfo->isnull)
		refuse("join_request_unknown", NULL, NULL);
	return result;
}

/* request_to_join(organization_id, message) */
Datum
membership_request(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	organization_id;
	pg_uuid_t	request_id;
	pg_uuid_t	role_id;
	bool		at_once = false;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', PG_ARGISNULL(1) ? 'n' : ' '};

	request_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	if (!PG_ARGISNULL(1) && DatumGetInt32(DirectFunctionCall1(textlen, PG_GETARG_DATUM(1))) > MESSAGE_MAX)
		refuse("data_malformed", "argument=message", "A message has at most 1000 characters.");
	require_enrollment(&caller, &organization_id, &at_once);
	organization_lock(&caller.user_id, 1, &organization_id, 1);
	require_enrollment(&caller, &organization_id, &at_once);

	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = UUIDPGetDatum(&caller.user_id);
	values[2] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	if (membership_one_id(&is_member_plan, values, NULL, &request_id))
		refuse("already_member", NULL, NULL);
	if (membership_one_id(&insert_request_plan, values, nulls, &request_id))
	{
		/* who deletes the organization with an older snapshot would leave the request behind */
		organization_touch(&organization_id, 1);
		membership_event(&caller, "activity", "membership.join_requested", &organization_id, "join_request", &request_id, NULL);
	}
	else if (!membership_one_id(&pending_plan, values, NULL, &request_id))
		refuse("join_request_unknown", NULL, NULL);
	if (at_once)
	{
		/* closes the request too, decided by nobody */
		(void) caller_parse_uuid(MEMBERSHIP_MEMBER, &role_id);
		if (membership_offered_hook != NULL)
			membership_offered_hook(&organization_id, &caller.user_id, &role_id);
		(void) membership_make(&organization_id, &caller.user_id, &role_id, NULL);
		membership_event(&caller, "activity", "membership.enrolled", &organization_id, "user", &caller.user_id, &role_id);
	}
	return request_row(fcinfo, &request_id);
}

/* ---------------------------------------------------------------------
 * Deciding
 * ---------------------------------------------------------------------
 */

static SavedPlan request_of_plan = {
	.sql = "SELECT j.organization_id, j.user_id FROM invite_sync.join_request AS j WHERE j.id = $1 AND j.status = 'pending'",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static bool
request_of(const pg_uuid_t *request_id, pg_uuid_t *organization_id, pg_uuid_t *user_id)
{
	Scope		scope;
	Datum		values[1];
	bool		found;
	bool		isnull;

	values[0] = UUIDPGetDatum(request_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&request_of_plan, values, NULL, false, 1);
	found = SPI_processed == 1;
	if (found)
	{
		*organization_id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		*user_id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
	return found;
}

static void
close_request(const pg_uuid_t *request_id, const char *status, const pg_uuid_t *decided_by)
{
	Datum		values[3];
	char		nulls[3] = {' ', ' ', decided_by ? ' ' : 'n'};
	pg_uuid_t	closed;

	values[0] = UUIDPGetDatum(request_id);
	values[1] = CStringGetTextDatum(status);
	values[2] = decided_by ? UUIDPGetDatum(decided_by) : (Datum) 0;
	if (!membership_one_id(&close_request_plan, values, nulls, &closed))
		refuse("join_request_unknown", NULL, NULL);
}

/* decide_join_request(join_request_id, granted, role) */
Datum
membership_decide(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	mine;
	pg_uuid_t	request_id;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;
	pg_uuid_t	role_id;
	text	   *role;
	bool		granted;

	organization_actor(&caller);
	request_id = membership_uuid_argument(fcinfo, 0, "join_request_id");
	if (PG_ARGISNULL(1))
		refuse("data_malformed", "argument=granted", "granted must not be null.");
	granted = PG_GETARG_BOOL(1);
	role = membership_text_argument(fcinfo, 2, "role");
	if (!request_of(&request_id, &organization_id, &user_id))
		refuse("join_request_unknown", NULL, NULL);
	if (caller.kind != CALLER_SERVICE)
	{
		/* who does not belong there does not learn that somebody asked */
		organization_authority_hook(&caller.user_id, &organization_id, true, &mine);
		if (!mine.member)
			refuse("join_request_unknown", NULL, NULL);
	}
	organization_require(&caller, &organization_id, "members.add", NULL);
	organization_lock(&user_id, 1, &organization_id, 1);
	organization_require(&caller, &organization_id, "members.add", &mine);
	if (granted)
	{
		membership_require_user(&user_id);
		membership_role_to_give(&caller, &mine, &organization_id, role, &role_id);
		membership_require_above(&caller, &mine, &organization_id, &user_id);
	}
	close_request(&request_id, granted ? "granted" : "denied", membership_actor(&caller));
	if (granted && membership_make(&organization_id, &user_id, &role_id, membership_actor(&caller)))
		membership_event(&caller, "admin", "membership.added", &organization_id, "user", &user_id, &role_id);
	membership_event(&caller, "admin", granted ? "membership.join_granted" : "membership.join_denied", &organization_id,
					 "join_request", &request_id, NULL);
	return request_row(fcinfo, &request_id);
}

/* cancel_join_request(join_request_id) */
Datum
membership_cancel(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	request_id;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;

	request_actor(&caller);
	request_id = membership_uuid_argument(fcinfo, 0, "join_request_id");
	organization_lock(&caller.user_id, 1, NULL, 0);
	if (!request_of(&request_id, &organization_id, &user_id) ||
		memcmp(&user_id, &caller.user_id, UUID_LEN) != 0)
		refuse("join_request_unknown", NULL, NULL);
	close_request(&request_id, "cancelled", &caller.user_id);
	membership_event(&caller, "activity", "membership.join_cancelled", &organization_id, "join_request", &request_id, NULL);
	return request_row(fcinfo, &request_id);
}

/* ---------------------------------------------------------------------
 * Looking
 * ---------------------------------------------------------------------
 */

/* As with the list of members: ours first, then the auth server's, by ids. */
static SavedPlan requests_page_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(p.user_id ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.id ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.message ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.status ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.created_at ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.decided_at ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.removed_at ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(" MEMBERSHIP_CURSOR("p") " ORDER BY p.created_at DESC, p.id DESC), '{}') "
	"FROM (SELECT j.*, x.removed_at FROM invite_sync.join_request AS j LEFT JOIN invite_sync.membership_removal AS x "
	"ON x.organization_id = j.organization_id AND x.user_id = j.user_id "
	"WHERE j.organization_id = $1 AND (j.created_at, j.id) < ($2, $3) AND ($5 IS NULL OR j.status = $5) "
	"ORDER BY j.created_at DESC, j.id DESC LIMIT $4) AS p",
	.nargs = 5,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT8OID, TEXTOID}
};

static SavedPlan requests_users_plan = {
	.sql = "SELECT x.id, x.user_id, CASE WHEN $9 THEN u.email::pg_catalog.text END, "
	MEMBERSHIP_DISPLAY_NAME("u") ", " MEMBERSHIP_AVATAR_URL("u") ", "
	"x.message, x.status, x.removed_at, x.created_at, x.decided_at, x.place "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
	"pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8)) "
	"WITH ORDINALITY AS x (user_id, id, message, status, created_at, decided_at, removed_at, place, n) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.user_id AND u.deleted_at IS NULL ORDER BY x.n",
	.nargs = 9,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, BOOLOID}
};

/* list_join_requests(organization_id, after, page_size, status) */
Datum
membership_list_requests(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	mine;
	pg_uuid_t	organization_id;
	Datum		word = CStringGetTextDatum("members.read");
	Datum		values[9];
	char		nulls[5] = {' ', ' ', ' ', ' ', PG_ARGISNULL(3) ? 'n' : ' '};
	bool		isnull;
	Scope		scope;

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	membership_page_values(fcinfo, 1, &values[1]);
	organization_require_stable(&caller, &organization_id, "members.add", &mine);

	values[0] = UUIDPGetDatum(&organization_id);
	values[4] = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&requests_page_plan, values, nulls, true, 1);
	for (int i = 0; i < 8; i++)
		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	scope_leave(&scope);
	/* addresses are for those who may see the members' */
	values[8] = BoolGetDatum(organization_covers(&caller, &mine, construct_array(&word, 1, TEXTOID, -1, false, TYPALIGN_INT)));
	scope_enter_auth(&scope);
	plan_by_lookup(plan_get(&requests_users_plan));
	plan_execute(&requests_users_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

static SavedPlan suggested_plan = {
	.sql = "SELECT o.id, o.name, d.enrollment = 'auto' AND x.user_id IS NULL, j.id, j.created_at "
	"FROM invite_sync.organization_domain AS d JOIN invite_sync.organization AS o ON o.id = d.organization_id "
	"LEFT JOIN invite_sync.membership_removal AS x ON x.organization_id = o.id AND x.user_id = $1 "
	"LEFT JOIN invite_sync.join_request AS j ON j.organization_id = o.id AND j.user_id = $1 AND j.status = 'pending' "
	"WHERE d.domain = $2 AND d.verified_at IS NOT NULL AND d.enrollment IN ('suggest', 'auto') "
	"AND NOT EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.organization_id = o.id AND m.user_id = $1) ORDER BY o.id",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID}
};

/* suggested_organizations() */
Datum
membership_suggested(PG_FUNCTION_ARGS)
{
	Caller		caller;
	char	   *email;
	Datum		values[2];
	Scope		scope;

	request_actor(&caller);
	email = membership_verified_email(&caller.user_id, false);
	values[0] = UUIDPGetDatum(&caller.user_id);
	/* without a verified address: of no domain */
	values[1] = CStringGetTextDatum(email ? domain_of(email) : "");
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&suggested_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}
