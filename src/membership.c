/*-------------------------------------------------------------------------
 *
 * membership.c
 *	  Who belongs where, as what, and what that allows.
 *
 * One rule stands over all of it: nobody gives or takes what they do not have.
 * What is given is compared with what the caller may do in that organization,
 * and so is what the person acted on may do there; both once everything that
 * decides it is locked.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "event.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(membership_add);
PG_FUNCTION_INFO_V1(membership_remove);
PG_FUNCTION_INFO_V1(membership_set_role);
PG_FUNCTION_INFO_V1(membership_leave);
PG_FUNCTION_INFO_V1(membership_transfer);
PG_FUNCTION_INFO_V1(membership_list);
PG_FUNCTION_INFO_V1(membership_get);

#define LOCK_TIMEOUT_DEFAULT	"5s"
#define MAX_OWNERS	1000		/* of one organization, when ownership is passed on */

void		(*membership_made_hook) (const pg_uuid_t *organization_id, const pg_uuid_t *user_id) = NULL;
void		(*membership_offered_hook) (const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
										pg_uuid_t *role_id) = NULL;

/* ---------------------------------------------------------------------
 * Arguments, results
 * ---------------------------------------------------------------------
 */

static void
require_argument(bool isnull, const char *name)
{
	if (isnull)
		refuse("data_malformed", psprintf("argument=%s", name), psprintf("%s must not be null.", name));
}

pg_uuid_t
membership_uuid_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	require_argument(PG_ARGISNULL(arg), name);
	return *PG_GETARG_UUID_P(arg);
}

text *
membership_text_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	require_argument(PG_ARGISNULL(arg), name);
	return PG_GETARG_TEXT_PP(arg);
}

bool
membership_one_id(SavedPlan *plan, Datum *values, const char *nulls, pg_uuid_t *id)
{
	Scope		scope;
	bool		isnull = true;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, values, nulls, false, 0);
	if (SPI_processed == 1)
	{
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			*id = *DatumGetUUIDP(value);
	}
	scope_leave(&scope);
	SPI_finish();
	return !isnull;
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static pg_uuid_t
uuid_constant(const char *s)
{
	pg_uuid_t	id;

	(void) caller_parse_uuid(s, &id);
	return id;
}

bool
membership_is_role(const pg_uuid_t *role_id, const char *built_in)
{
	pg_uuid_t	id = uuid_constant(built_in);

	return memcmp(role_id, &id, UUID_LEN) == 0;
}

const pg_uuid_t *
membership_actor(const Caller *caller)
{
	return caller->has_user ? &caller->user_id : NULL;
}

/* Ids only: what a role was called then stands nowhere else either. */
void
membership_event(const Caller *caller, const char *kind, const char *action,
				 const pg_uuid_t *organization_id, const char *target_type,
				 const pg_uuid_t *target_id, const pg_uuid_t *role_id)
{
	Jsonb	   *data = NULL;

	if (role_id != NULL)
		data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												  CStringGetDatum(psprintf("{\"role_id\": \"%s\"}", uuid_text(role_id)))));
	event_append(kind, action, caller ? membership_actor(caller) : NULL, organization_id,
				 target_type, target_id ? uuid_text(target_id) : NULL, data);
}

int
membership_bound_waits(void)
{
	int			level = NewGUCNestLevel();

	if (LockTimeout <= 0)
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT_DEFAULT, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* ---------------------------------------------------------------------
 * Authority
 * ---------------------------------------------------------------------
 */

static SavedPlan authority_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.id = $2), "
	"coalesce(pg_catalog.bool_or(true), false), "
	"coalesce(pg_catalog.bool_or(m.role_id = '" MEMBERSHIP_OWNER "'), false), "
	"invite_sync.effective_permissions($1, $2) "
	"FROM invite_sync.organization_path($2) AS p "
	"JOIN invite_sync.membership AS m ON m.organization_id = p.id AND m.user_id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static void
membership_authority(const pg_uuid_t *user_id, const pg_uuid_t *organization_id, bool fresh,
					 Authority *authority)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	Datum		values[2];
	HeapTuple	row;
	TupleDesc	desc;
	bool		isnull;

	values[0] = UUIDPGetDatum(user_id);
	values[1] = UUIDPGetDatum(organization_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&authority_plan, values, NULL, !fresh, 1);
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	authority->exists = DatumGetBool(SPI_getbinval(row, desc, 1, &isnull));
	authority->member = DatumGetBool(SPI_getbinval(row, desc, 2, &isnull));
	authority->owner = DatumGetBool(SPI_getbinval(row, desc, 3, &isnull));
	old = MemoryContextSwitchTo(cxt);
	authority->permissions = DatumGetArrayTypePCopy(SPI_getbinval(row, desc, 4, &isnull));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
}

/*
 * Whoever was there when the users were locked is locked already. Somebody who was
 * not, and came while the organizations were waited for, is locked here if that
 * takes no waiting, which would be out of turn; else they are as unknown as then.
 */
static SavedPlan user_plan = {
	.sql = "SELECT x.* FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT deleted_at IS NOT NULL, "
	"coalesce(banned_until > pg_catalog.now(), false), coalesce(is_anonymous, false) "
	"FROM auth.users AS u WHERE u.id = $1 FOR NO KEY UPDATE OF u SKIP LOCKED) AS x",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

void
membership_require_user(const pg_uuid_t *user_id)
{
	Scope		scope;
	Datum		values[1];
	const char *reason = "user_unknown";

	values[0] = UUIDPGetDatum(user_id);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_lookup(&user_plan, values, NULL, false, 1);
	if (SPI_processed == 1)
	{
		bool		is[3];
		bool		isnull;

		for (int i = 0; i < 3; i++)
			is[i] = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull));
		reason = is[0] ? "user_unknown" : is[1] ? "user_banned" : is[2] ? "anonymous_user" : NULL;
	}
	scope_leave(&scope);
	SPI_finish();
	if (reason != NULL)
		refuse(reason, NULL, NULL);
}

static SavedPlan role_plan = {
	.sql = "SELECT invite_sync.role_id_of($1, $2)",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDOID}
};

static SavedPlan share_role_plan = {
	.sql = "SELECT r.id FROM invite_sync.role AS r WHERE r.id = $1 FOR SHARE",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan permissions_plan = {
	.sql = "SELECT invite_sync.role_permissions($1)",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

void
membership_role_to_give(const Caller *caller, const Authority *mine, const pg_uuid_t *organization_id,
						text *role, pg_uuid_t *role_id)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	ArrayType  *permissions;
	bool		owner;
	bool		isnull;
	int			guc_level;
	Scope		scope;
	Datum		values[2];

	values[0] = PointerGetDatum(role);
	values[1] = UUIDPGetDatum(organization_id);
	if (!membership_one_id(&role_plan, values, NULL, role_id))
		refuse("role_unknown", NULL, "list_roles() names the roles of the organization.");
	owner = membership_is_role(role_id, MEMBERSHIP_OWNER);

	values[0] = UUIDPGetDatum(role_id);
	guc_level = membership_bound_waits();
	/* what is built in does not change, and its rows would be locked by everybody */
	if (!owner && !membership_is_role(role_id, MEMBERSHIP_ADMIN) &&
		!membership_is_role(role_id, MEMBERSHIP_MEMBER) &&
		!membership_one_id(&share_role_plan, values, NULL, role_id))
		refuse("role_unknown", NULL, "list_roles() names the roles of the organization.");
	AtEOXact_GUC(false, guc_level);

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&permissions_plan, values, NULL, false, 1);
	old = MemoryContextSwitchTo(cxt);
	permissions = DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	if (!organization_covers(caller, mine, permissions) ||
		(owner && caller->kind != CALLER_SERVICE && !mine->owner))
		refuse("escalation", NULL, "Ask somebody who may do in the organization all that the role allows.");
}

void
membership_require_above(const Caller *caller, const Authority *mine,
						 const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	Authority	theirs;

	if (caller->kind == CALLER_SERVICE)
		return;
	membership_authority(user_id, organization_id, true, &theirs);
	if (!organization_covers(caller, mine, theirs.permissions) || (theirs.owner && !mine->owner))
		refuse("escalation", NULL, "Ask somebody who may do in the organization all that this member may.");
}

/* ---------------------------------------------------------------------
 * Members
 * ---------------------------------------------------------------------
 */

/* Nothing can reference a mark but by its whole key, organization and user. */
static SavedPlan clear_mark_plan = {
	.sql = "DELETE FROM invite_sync.membership_removal AS x WHERE x.organization_id = $1 AND x.user_id = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

#define MEMBER_COLUMNS \
	"m.id, m.organization_id, m.user_id, " \
	"(SELECT r.name FROM invite_sync.role AS r WHERE r.id = m.role_id), m.added_by, m.created_at, m.updated_at"

static SavedPlan insert_plan = {
	.sql = "INSERT INTO invite_sync.membership AS m (organization_id, user_id, role_id, added_by) VALUES ($1, $2, $3, $4) "
	"ON CONFLICT (user_id, organization_id) DO NOTHING RETURNING m.id",
	.nargs = 4,
	.argtypes = {UUIDOID, UUIDOID, UUIDOID, UUIDOID}
};

static SavedPlan close_requests_plan = {
	.sql = "UPDATE invite_sync.join_request AS j SET status = 'granted', decided_at = pg_catalog.now(), decided_by = $3 "
	"WHERE j.organization_id = $1 AND j.user_id = $2 AND j.status = 'pending'",
	.nargs = 3,
	.argtypes = {UUIDOID, UUIDOID, UUIDOID}
};

static SavedPlan member_plan = {
	.sql = "SELECT m.id FROM invite_sync.membership AS m WHERE m.organization_id = $1 AND m.user_id = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan member_row_plan = {
	.sql = "SELECT " MEMBER_COLUMNS " FROM invite_sync.membership AS m WHERE m.organization_id = $1 AND m.user_id = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan set_role_plan = {
	.sql = "UPDATE invite_sync.membership AS m SET role_id = $3, updated_at = pg_catalog.now() "
	"WHERE m.organization_id = $1 AND m.user_id = $2 AND m.role_id <> $3 RETURNING m.id",
	.nargs = 3,
	.argtypes = {UUIDOID, UUIDOID, UUIDOID}
};

/*
 * The clock, not the transaction's beginning: what was invited before the
 * removal, also by a transaction that began later, does not bring back.
 */
static SavedPlan mark_plan = {
	.sql = "INSERT INTO invite_sync.membership_removal AS x (organization_id, user_id, removed_by, removed_at) "
	"VALUES ($1, $2, $3, pg_catalog.clock_timestamp()) "
	"ON CONFLICT (organization_id, user_id) DO UPDATE SET removed_by = excluded.removed_by, removed_at = excluded.removed_at",
	.nargs = 3,
	.argtypes = {UUIDOID, UUIDOID, UUIDOID}
};

void
membership_run(SavedPlan *plan, Datum *values, const char *nulls)
{
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, values, nulls, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

bool
membership_make(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
				const pg_uuid_t *role_id, const pg_uuid_t *added_by)
{
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', added_by ? ' ' : 'n'};
	pg_uuid_t	id;

	values[0] = UUIDPGetDatum(organization_id);
	values[1] = UUIDPGetDatum(user_id);
	values[2] = UUIDPGetDatum(role_id);
	values[3] = added_by ? UUIDPGetDatum(added_by) : (Datum) 0;
	if (!membership_one_id(&insert_plan, values, nulls, &id))
		return false;
	membership_run(&clear_mark_plan, values, NULL);
	values[2] = values[3];
	nulls[2] = nulls[3];
	membership_run(&close_requests_plan, values, nulls);
	if (membership_made_hook != NULL)
		membership_made_hook(organization_id, user_id);
	organization_touch(organization_id, 1);
	membership_write_copies(user_id, 1);
	return true;
}

/* The direct membership, which is all that can be acted on. */
static void
find_member(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, pg_uuid_t *membership_id)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(organization_id);
	values[1] = UUIDPGetDatum(user_id);
	if (!membership_one_id(&member_plan, values, NULL, membership_id))
		refuse("member_unknown", NULL, "Only members of the organization itself can be changed here, not those of one above it.");
}

static Datum
member_row(FunctionCallInfo fcinfo, const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	Datum		values[2];
	Datum		result;

	values[0] = UUIDPGetDatum(organization_id);
	values[1] = UUIDPGetDatum(user_id);
	result = organization_answer(fcinfo, &member_row_plan, values, NULL, false);
	if (fcinfo->isnull)
		refuse("member_unknown", NULL, NULL);
	return result;
}

/* add_member(organization_id, user_id, role) */
Datum
membership_add(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	mine;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;
	pg_uuid_t	role_id;
	text	   *role;

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	user_id = membership_uuid_argument(fcinfo, 1, "user_id");
	role = membership_text_argument(fcinfo, 2, "role");
	organization_require(&caller, &organization_id, "members.add", NULL);
	organization_lock(&user_id, 1, &organization_id, 1);
	organization_require(&caller, &organization_id, "members.add", &mine);
	membership_require_user(&user_id);
	membership_role_to_give(&caller, &mine, &organization_id, role, &role_id);
	membership_require_above(&caller, &mine, &organization_id, &user_id);
	if (!membership_make(&organization_id, &user_id, &role_id, membership_actor(&caller)))
		refuse("already_member", NULL, "set_member_role() changes what a member is.");
	membership_event(&caller, "admin", "membership.added", &organization_id, "user", &user_id, &role_id);
	return member_row(fcinfo, &organization_id, &user_id);
}

/*
 * What both ways out share. The application's rows that point to the membership
 * are dealt with first, in their owners' scope.
 */
static Datum
end_membership(FunctionCallInfo fcinfo, const Caller *caller, const pg_uuid_t *organization_id,
			   const pg_uuid_t *user_id, const pg_uuid_t *membership_id, bool mark)
{
	Datum		values[3];
	char		nulls[3] = {' ', ' ', membership_actor(caller) ? ' ' : 'n'};
	Datum		result;

	result = member_row(fcinfo, organization_id, user_id);
	if (organization_delete_rows("membership", "id", UUIDARRAYOID, plan_uuid_array(membership_id, 1)) == 0)
		refuse("member_unknown", NULL, NULL);
	if (mark)
	{
		values[0] = UUIDPGetDatum(organization_id);
		values[1] = UUIDPGetDatum(user_id);
		values[2] = membership_actor(caller) ? UUIDPGetDatum(membership_actor(caller)) : (Datum) 0;
		membership_run(&mark_plan, values, nulls);
	}
	organization_touch(organization_id, 1);
	membership_write_copies(user_id, 1);
	membership_event(caller, mark ? "admin" : "activity", mark ? "membership.removed" : "membership.left",
					 organization_id, "user", user_id, NULL);
	return result;
}

/* remove_member(organization_id, user_id) */
Datum
membership_remove(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	mine;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;
	pg_uuid_t	membership_id;

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	user_id = membership_uuid_argument(fcinfo, 1, "user_id");
	organization_require(&caller, &organization_id, "members.remove", NULL);
	organization_lock(&user_id, 1, &organization_id, 1);
	organization_require(&caller, &organization_id, "members.remove", &mine);
	find_member(&organization_id, &user_id, &membership_id);
	membership_require_above(&caller, &mine, &organization_id, &user_id);
	return end_membership(fcinfo, &caller, &organization_id, &user_id, &membership_id, true);
}

/* leave_organization(organization_id) */
Datum
membership_leave(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	organization_id;
	pg_uuid_t	membership_id;

	organization_actor(&caller);
	if (!caller.has_user)
		refuse("not_authenticated", NULL, "Only a user can leave; remove_member() takes somebody out.");
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	organization_require(&caller, &organization_id, NULL, NULL);
	organization_lock(&caller.user_id, 1, &organization_id, 1);
	organization_require(&caller, &organization_id, NULL, NULL);
	find_member(&organization_id, &caller.user_id, &membership_id);
	return end_membership(fcinfo, &caller, &organization_id, &caller.user_id, &membership_id, false);
}

/* set_member_role(organization_id, user_id, role) */
Datum
membership_set_role(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	mine;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;
	pg_uuid_t	membership_id;
	pg_uuid_t	role_id;
	text	   *role;
	Datum		values[3];

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	user_id = membership_uuid_argument(fcinfo, 1, "user_id");
	role = membership_text_argument(fcinfo, 2, "role");
	organization_require(&caller, &organization_id, "members.set_role", NULL);
	organization_lock(&user_id, 1, &organization_id, 1);
	organization_require(&caller, &organization_id, "members.set_role", &mine);
	find_member(&organization_id, &user_id, &membership_id);
	membership_role_to_give(&caller, &mine, &organization_id, role, &role_id);
	membership_require_above(&caller, &mine, &organization_id, &user_id);
	/* an owner who cannot act would be the last one; whoever is there may be made less, whatever they are */
	if (membership_is_role(&role_id, MEMBERSHIP_OWNER))
		membership_require_user(&user_id);
	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = UUIDPGetDatum(&user_id);
	values[2] = UUIDPGetDatum(&role_id);
	if (membership_one_id(&set_role_plan, values, NULL, &membership_id))
	{
		organization_touch(&organization_id, 1);
		membership_write_copies(&user_id, 1);
		membership_event(&caller, "admin", "membership.role_set", &organization_id, "user", &user_id, &role_id);
	}
	return member_row(fcinfo, &organization_id, &user_id);
}

/* ---------------------------------------------------------------------
 * Ownership
 * ---------------------------------------------------------------------
 */

static SavedPlan owners_plan = {
	.sql = "SELECT m.user_id FROM invite_sync.membership AS m WHERE m.organization_id = $1 "
	"AND m.role_id = '" MEMBERSHIP_OWNER "' ORDER BY m.user_id",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan transfer_plan = {
	.sql = "UPDATE invite_sync.membership AS m SET role_id = CASE WHEN m.user_id = $2 THEN '" MEMBERSHIP_OWNER "' "
	"ELSE '" MEMBERSHIP_ADMIN "' END::pg_catalog.uuid, updated_at = pg_catalog.now() "
	"WHERE m.organization_id = $1 AND m.user_id IN ($2, $3)",
	.nargs = 3,
	.argtypes = {UUIDOID, UUIDOID, UUIDOID}
};

/*
 * Whose ownership is passed on: the caller's, where it is theirs, else that of
 * the only owner. False: there is none.
 */
static bool
old_owner(const Caller *caller, const pg_uuid_t *organization_id, pg_uuid_t *user_id)
{
	Scope		scope;
	Datum		values[1];
	uint64		n;
	bool		isnull;
	bool		own = false;

	values[0] = UUIDPGetDatum(organization_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&owners_plan, values, NULL, false, MAX_OWNERS);
	n = SPI_processed;
	for (uint64 i = 0; i < n && !own; i++)
	{
		*user_id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		own = caller->has_user && memcmp(user_id, &caller->user_id, UUID_LEN) == 0;
	}
	scope_leave(&scope);
	SPI_finish();
	if (n > 1 && !own)
		refuse("data_malformed", psprintf("owners=" UINT64_FORMAT, n),
			   "Say which of the owners it is about: make the new one an owner with set_member_role(), and then that one something else.");
	return n > 0;
}

/* transfer_ownership(organization_id, user_id) */
Datum
membership_transfer(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	mine;
	pg_uuid_t	organization_id;
	pg_uuid_t	users[2];
	pg_uuid_t	before;
	pg_uuid_t	membership_id;
	pg_uuid_t	owner = uuid_constant(MEMBERSHIP_OWNER);
	bool		had_owner;
	Datum		values[3];

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	users[0] = membership_uuid_argument(fcinfo, 1, "user_id");
	organization_require(&caller, &organization_id, "ownership.transfer", NULL);
	had_owner = old_owner(&caller, &organization_id, &users[1]);
	if (!had_owner)
		users[1] = users[0];
	before = users[1];
	organization_lock(users, 2, &organization_id, 1);
	organization_require(&caller, &organization_id, "ownership.transfer", &mine);
	if (caller.kind != CALLER_SERVICE && !mine.owner)
		refuse("escalation", NULL, "Only an owner can make somebody else the owner.");
	if (old_owner(&caller, &organization_id, &users[1]) != had_owner ||
		(had_owner && memcmp(&before, &users[1], UUID_LEN) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the organization has just got another owner"),
				 errhint("Try the transaction again.")));
	find_member(&organization_id, &users[0], &membership_id);
	if (had_owner && memcmp(&users[0], &users[1], UUID_LEN) == 0)
		refuse("data_malformed", "argument=user_id", "Name another member: this one is the owner.");
	membership_require_user(&users[0]);

	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = UUIDPGetDatum(&users[0]);
	values[2] = UUIDPGetDatum(&users[1]);
	membership_run(&transfer_plan, values, NULL);
	organization_touch(&organization_id, 1);
	membership_write_copies(users, 2);
	membership_event(&caller, "admin", "membership.ownership_transferred", &organization_id, "user", &users[0], &owner);
	return member_row(fcinfo, &organization_id, &users[0]);
}

/* ---------------------------------------------------------------------
 * Looking
 * ---------------------------------------------------------------------
 */

/*
 * Who is whose neighbour in the list is ours to know, what they are called is
 * the auth server's: a page of members is read in the own scope, and then their
 * users in that of the auth server, by their ids.
 */
static SavedPlan page_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(p.user_id ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.role ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(p.created_at ORDER BY p.created_at DESC, p.id DESC), '{}'), "
	"coalesce(pg_catalog.array_agg(" MEMBERSHIP_CURSOR("p") " ORDER BY p.created_at DESC, p.id DESC), '{}') "
	"FROM (SELECT m.user_id, (SELECT r.name FROM invite_sync.role AS r WHERE r.id = m.role_id) AS role, m.created_at, m.id "
	"FROM invite_sync.membership AS m WHERE m.organization_id = $1 AND (m.created_at, m.id) < ($2, $3) "
	"ORDER BY m.created_at DESC, m.id DESC LIMIT $4) AS p",
	.nargs = 4,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT8OID}
};

static SavedPlan page_users_plan = {
	.sql = "SELECT x.user_id, u.email::pg_catalog.text, " MEMBERSHIP_DISPLAY_NAME("u") ", " MEMBERSHIP_AVATAR_URL("u") ", "
	"x.role, x.joined_at, u.last_sign_in_at, x.place "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) "
	"WITH ORDINALITY AS x (user_id, role, joined_at, place, n) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.user_id AND u.deleted_at IS NULL ORDER BY x.n",
	.nargs = 4,
	.argtypes = {UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}
};

static SavedPlan one_plan = {
	.sql = "SELECT m.user_id, (SELECT r.name FROM invite_sync.role AS r WHERE r.id = m.role_id), m.created_at "
	"FROM invite_sync.membership AS m WHERE m.organization_id = $1 AND m.user_id = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan one_user_plan = {
	.sql = "SELECT $1, u.email::pg_catalog.text, " MEMBERSHIP_DISPLAY_NAME("u") ", " MEMBERSHIP_AVATAR_URL("u") ", "
	"$2, $3, u.last_sign_in_at "
	"FROM (VALUES ($1)) AS x (user_id) LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.user_id AND u.deleted_at IS NULL",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, TIMESTAMPTZOID}
};

void
membership_page_values(FunctionCallInfo fcinfo, int arg, Datum *values)
{
	static pg_uuid_t last;
	TimestampTz at;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	/* without a cursor the page begins behind all that can be */
	memset(&last, 0xff, sizeof(last));
	if (!organization_cursor(PG_ARGISNULL(arg) ? NULL : PG_GETARG_TEXT_PP(arg), &at, id))
	{
		at = DT_NOEND;
		*id = last;
	}
	values[0] = TimestampTzGetDatum(at);
	values[1] = UUIDPGetDatum(id);
	values[2] = Int64GetDatum(organization_page_size(fcinfo, arg + 1));
}

/* list_members(organization_id, after, page_size) */
Datum
membership_list(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	organization_id;
	Datum		values[4];
	bool		isnull;
	Scope		scope;

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	membership_page_values(fcinfo, 1, &values[1]);
	organization_require_stable(&caller, &organization_id, "members.read", NULL);

	values[0] = UUIDPGetDatum(&organization_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&page_plan, values, NULL, true, 1);
	for (int i = 0; i < 4; i++)
		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	scope_leave(&scope);
	scope_enter_auth(&scope);
	plan_by_lookup(plan_get(&page_users_plan));
	plan_execute(&page_users_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* get_member(organization_id, user_id): also what everybody may know, themselves */
Datum
membership_get(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;
	bool		self;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	Scope		scope;
	Datum		result;

	organization_actor(&caller);
	organization_id = membership_uuid_argument(fcinfo, 0, "organization_id");
	user_id = membership_uuid_argument(fcinfo, 1, "user_id");
	self = caller.has_user && memcmp(&user_id, &caller.user_id, UUID_LEN) == 0;
	organization_require_stable(&caller, &organization_id, self ? NULL : "members.read", NULL);

	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = UUIDPGetDatum(&user_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&one_plan, values, NULL, true, 1);
	if (SPI_processed == 0)
		refuse("member_unknown", NULL, NULL);
	for (int i = 0; i < 3; i++)
	{
		bool		isnull;

		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		nulls[i] = isnull ? 'n' : ' ';
	}
	scope_leave(&scope);
	scope_enter_auth(&scope);
	plan_by_lookup(plan_get(&one_user_plan));
	plan_execute(&one_user_plan, values, nulls, true, 1);
	scope_leave(&scope);
	result = plan_result_row(fcinfo);
	SPI_finish();
	return result;
}

/* ---------------------------------------------------------------------
 * Load
 * ---------------------------------------------------------------------
 */

/* A user's events may name an organization only where they are a member. */
static bool
may_log_for(const pg_uuid_t *user_id, const pg_uuid_t *organization_id)
{
	Authority	theirs;

	membership_authority(user_id, organization_id, true, &theirs);
	return theirs.exists && theirs.member;
}

void
membership_init(void)
{
	organization_authority_hook = membership_authority;
	event_organization_hook = may_log_for;
	membership_sync_init();
}
