/*-------------------------------------------------------------------------
 *
 * membership_role.c
 *	  Roles: named bundles of permissions, and the permissions themselves.
 *
 * Those that everybody shares are an operator's or a service's to make; an
 * organization makes its own, out of what the one who makes them has. A role is
 * edited under a lock that waits for those who are just giving it, and the
 * other way round.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "caller.h"
#include "event.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(membership_create_role);
PG_FUNCTION_INFO_V1(membership_set_role_permissions);
PG_FUNCTION_INFO_V1(membership_drop_role);
PG_FUNCTION_INFO_V1(membership_list_roles);
PG_FUNCTION_INFO_V1(membership_create_permission);
PG_FUNCTION_INFO_V1(membership_drop_permission);
PG_FUNCTION_INFO_V1(membership_list_permissions);
PG_FUNCTION_INFO_V1(membership_set_platform_role);

#define NAME_CHARACTERS		63
#define DESCRIPTION_MAX		500
#define PERMISSIONS_MAX		1000

/* Words of a-z, 0-9, _ (and more), each beginning with a letter, joined by dots. */
static bool
well_formed_name(const char *s, const char *more, bool dots)
{
	bool		start = true;
	bool		dotted = false;

	if (strlen(s) > NAME_CHARACTERS)
		return false;
	for (; *s; s++)
	{
		if (dots && *s == '.' && !start)
		{
			start = true;
			dotted = true;
			continue;
		}
		if (!(*s >= 'a' && *s <= 'z') &&
			(start || !((*s >= '0' && *s <= '9') || *s == '_' || (*more && strchr(more, *s) != NULL))))
			return false;
		start = false;
	}
	return !start && (dotted || !dots);
}

/* ---------------------------------------------------------------------
 * Roles
 * ---------------------------------------------------------------------
 */

/* What a caller means by a role's name and an organization, which may be NULL. */
typedef struct RoleCall
{
	Caller		caller;
	Authority	mine;
	text	   *name;
	bool		global;
	pg_uuid_t	organization_id;
	ArrayType  *permissions;	/* sorted, each once */
	bool		exists;
	pg_uuid_t	role_id;
	ArrayType  *old;			/* permissions of the role that exists */
	int			guc_level;		/* lock waits are bounded in it */
} RoleCall;

static SavedPlan find_role_plan = {
	.sql = "SELECT r.id, invite_sync.role_permissions(r.id, true), r.built_in FROM invite_sync.role AS r "
	"WHERE r.name = $1 AND r.organization_id IS NOT DISTINCT FROM $2",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDOID}
};

static SavedPlan lock_role_plan = {
	.sql = "SELECT r.id FROM invite_sync.role AS r WHERE r.id = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan lock_permissions_plan = {
	.sql = "SELECT p.name FROM invite_sync.permission AS p WHERE p.name = ANY ($1) ORDER BY p.name FOR KEY SHARE",
	.nargs = 1,
	.argtypes = {TEXTARRAYOID}
};

static SavedPlan sorted_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(DISTINCT x.name ORDER BY x.name), '{}') "
	"FROM (SELECT u.name COLLATE \"C\" FROM pg_catalog.unnest($1) AS u (name)) AS x (name)",
	.nargs = 1,
	.argtypes = {TEXTARRAYOID}
};

static SavedPlan insert_role_plan = {
	.sql = "INSERT INTO invite_sync.role AS r (name, organization_id, created_by) VALUES ($1, $2, $3) "
	"ON CONFLICT (name, organization_id) DO NOTHING RETURNING r.id",
	.nargs = 3,
	.argtypes = {TEXTOID, UUIDOID, UUIDOID}
};

static SavedPlan bump_role_plan = {
	.sql = "UPDATE invite_sync.role AS r SET revision = r.revision + 1 WHERE r.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan take_permissions_plan = {
	.sql = "DELETE FROM invite_sync.role_permission AS x WHERE x.role_id = $1 AND x.permission <> ALL ($2)",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTARRAYOID}
};

static SavedPlan give_permissions_plan = {
	.sql = "INSERT INTO invite_sync.role_permission AS x (role_id, permission) "
	"SELECT $1, p.name FROM pg_catalog.unnest($2) AS p (name) ON CONFLICT (role_id, permission) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTARRAYOID}
};

#define ROLE_COLUMNS \
	"r.id, r.name, r.organization_id, r.built_in, invite_sync.role_permissions(r.id, r.organization_id IS NULL), r.created_at"

static SavedPlan role_row_plan = {
	.sql = "SELECT " ROLE_COLUMNS " FROM invite_sync.role AS r WHERE r.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* Of an organization's role: a global one has it, or one above or below. */
static SavedPlan name_taken_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.role AS r WHERE r.name = $1 AND r.organization_id IS DISTINCT FROM $2 "
	"AND (r.organization_id IS NULL "
	"OR r.organization_id IN (SELECT p.id FROM invite_sync.organization_path($2) AS p) "
	"OR r.organization_id IN (SELECT s.id FROM invite_sync.organization_subtree($2) AS s)))",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDOID}
};

static SavedPlan name_used_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.role AS r WHERE r.name = $1 AND r.organization_id IS NOT NULL)",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan held_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.role_id = ANY ($1)) "
	"OR EXISTS (SELECT FROM invite_sync.platform_role AS p WHERE p.role_id = ANY ($1))",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/*
 * A question whose answer a transaction with an old snapshot must not miss
 * either: asked of what is committed by now, whatever its isolation level.
 */
static bool
ask_latest(SavedPlan *plan, Datum *values, const char *nulls)
{
	Snapshot	snapshot;
	Scope		scope;
	bool		isnull;
	bool		result;

	SPI_connect();
	scope_enter_own(&scope);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	plan_execute_snapshot(plan, values, nulls, snapshot, true, 1);
	result = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	UnregisterSnapshot(snapshot);
	scope_leave(&scope);
	SPI_finish();
	return result;
}

bool
membership_roles_held(Datum role_ids)
{
	return ask_latest(&held_plan, &role_ids, NULL);
}

static void
name_and_organization(FunctionCallInfo fcinfo, RoleCall *call, const char *name, int organization_arg)
{
	/* an organization's name for it is looked at by its members, the others' by a service */
	call->name = membership_text_argument(fcinfo, 0, name);
	call->global = PG_ARGISNULL(organization_arg);
	if (!call->global)
		call->organization_id = *PG_GETARG_UUID_P(organization_arg);
}

static void
require_roles_manage(RoleCall *call)
{
	if (!call->global)
		organization_require(&call->caller, &call->organization_id, "roles.manage", &call->mine);
	else if (call->caller.kind != CALLER_SERVICE)
		refuse("not_permitted", NULL, "Roles of all organizations are made by service_role and operators; name an organization to make one of its own.");
}

/* Sorted, each once, all of them known, and none of the platform's in an organization. */
static void
permissions_argument(FunctionCallInfo fcinfo, RoleCall *call, int arg)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	ArrayType  *array;
	Datum	   *elems;
	int			n;
	bool		isnull;
	Datum		values[1];
	Scope		scope;

	if (PG_ARGISNULL(arg))
		refuse("data_malformed", "argument=permissions", "permissions must not be null; pass '{}' for none.");
	array = PG_GETARG_ARRAYTYPE_P(arg);
	if (array_contains_nulls(array) || ARR_NDIM(array) > 1 ||
		ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > PERMISSIONS_MAX)
		refuse("data_malformed", "argument=permissions", "Pass a list of names of permissions.");
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	for (int i = 0; i < n && !call->global; i++)
		if (strncmp(TextDatumGetCString(elems[i]), "platform.", strlen("platform.")) == 0)
			refuse("data_malformed", "argument=permissions", "Permissions of the platform belong into global roles only.");

	values[0] = PointerGetDatum(array);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&sorted_plan, values, NULL, false, 1);
	old = MemoryContextSwitchTo(cxt);
	call->permissions = DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
}

/* They stay while the transaction lasts. */
static void
lock_permissions(RoleCall *call)
{
	Scope		scope;
	Datum		values[1];
	uint64		n;

	values[0] = PointerGetDatum(call->permissions);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&lock_permissions_plan, values, NULL, false, 0);
	n = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	if (n != (uint64) ArrayGetNItems(ARR_NDIM(call->permissions), ARR_DIMS(call->permissions)))
		refuse("data_malformed", "argument=permissions", "list_permissions() names those there are; an operator makes others with create_permission().");
}

/*
 * The role, locked against those who give it, with the permissions it then has.
 * The organization is locked already.
 */
static void
find_role(RoleCall *call)
{
	MemoryContext cxt = CurrentMemoryContext;
	bool		built_in = false;

	call->exists = false;
	for (int pass = 0; pass < 2; pass++)
	{
		Datum		values[2];
		char		nulls[2] = {' ', call->global ? 'n' : ' '};
		Scope		scope;
		bool		found;

		values[0] = PointerGetDatum(call->name);
		values[1] = UUIDPGetDatum(&call->organization_id);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&find_role_plan, values, nulls, false, 1);
		found = SPI_processed == 1;
		if (found)
		{
			HeapTuple	row = SPI_tuptable->vals[0];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;
			MemoryContext old = MemoryContextSwitchTo(cxt);

			call->role_id = *DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
			call->old = DatumGetArrayTypePCopy(SPI_getbinval(row, desc, 2, &isnull));
			built_in = DatumGetBool(SPI_getbinval(row, desc, 3, &isnull));
			MemoryContextSwitchTo(old);
		}
		scope_leave(&scope);
		SPI_finish();
		if (!found || built_in)
			break;
		/* what it allows is read again once nobody else can change it */
		values[0] = UUIDPGetDatum(&call->role_id);
		if (!membership_one_id(&lock_role_plan, values, NULL, &call->role_id))
			break;
		call->exists = pass == 1;
	}
	if (built_in)
		refuse("not_permitted", NULL, "Built-in roles cannot be changed; make one of another name with create_role().");
}

static void
require_covered(const RoleCall *call, ArrayType *permissions)
{
	if (!call->global && !organization_covers(&call->caller, &call->mine, permissions))
		refuse("escalation", NULL, "Ask somebody who has every permission that the role has and is to have.");
}

/*
 * A role that changes changes its holders' rights: a transaction that has
 * looked at them before must not decide by them any more.
 */
static void
role_event(const RoleCall *call, const char *action)
{
	if (!call->global)
		organization_touch(&call->organization_id, 1);
	membership_event(&call->caller, "admin", action, call->global ? NULL : &call->organization_id, "role", &call->role_id, NULL);
}

static Datum
role_row(FunctionCallInfo fcinfo, RoleCall *call)
{
	Datum		values[1];

	values[0] = UUIDPGetDatum(&call->role_id);
	return organization_answer(fcinfo, &role_row_plan, values, NULL, false);
}

/*
 * Whoever makes a name for everybody waits for those who make one for an
 * organization, and they for it: the names are compared after that. The one for
 * everybody is never refused for what an organization calls its own: anybody
 * could keep names from the platform. See role_id_of() for what it then means.
 */
static void
lock_names(const RoleCall *call)
{
	LockRelationOid(get_relname_relid("role", caller_extension_schema()),
					call->global ? ShareRowExclusiveLock : RowExclusiveLock);
}

static void
write_permissions(RoleCall *call)
{
	Datum		values[2];

	values[0] = UUIDPGetDatum(&call->role_id);
	values[1] = PointerGetDatum(call->permissions);
	membership_run(&bump_role_plan, values, NULL);
	membership_run(&take_permissions_plan, values, NULL);
	membership_run(&give_permissions_plan, values, NULL);
}

static bool
same_permissions(const RoleCall *call)
{
	return DatumGetBool(OidFunctionCall2Coll(F_ARRAY_EQ, C_COLLATION_OID,
											 PointerGetDatum(call->old), PointerGetDatum(call->permissions)));
}

/* Set the permissions of a role that has been found; false when they are so already. */
static bool
change_permissions(RoleCall *call)
{
	require_covered(call, call->old);
	require_covered(call, call->permissions);
	if (same_permissions(call))
		return false;
	write_permissions(call);
	role_event(call, "membership.role_changed");
	return true;
}

/* Who, what, where, and the locks; the order in which all functions of roles do it. */
static void
begin_role_call(FunctionCallInfo fcinfo, RoleCall *call, const char *name, int organization_arg, int permissions_arg)
{
	memset(call, 0, sizeof(*call));
	organization_actor(&call->caller);
	name_and_organization(fcinfo, call, name, organization_arg);
	require_roles_manage(call);
	if (permissions_arg >= 0)
		permissions_argument(fcinfo, call, permissions_arg);
	call->guc_level = membership_bound_waits();
	if (!call->global)
	{
		organization_lock(NULL, 0, &call->organization_id, 1);
		require_roles_manage(call);
	}
}

static Datum
end_role_call(RoleCall *call, Datum result)
{
	AtEOXact_GUC(false, call->guc_level);
	return result;
}

/* create_role(name, permissions, organization_id) */
Datum
membership_create_role(PG_FUNCTION_ARGS)
{
	RoleCall	call;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};

	begin_role_call(fcinfo, &call, "name", 2, 1);
	if (!well_formed_name(text_to_cstring(call.name), "-", false))
		refuse("name_malformed", NULL, "A role's name is 1 to 63 of a-z, 0-9, _ and -, beginning with a letter.");
	lock_names(&call);
	lock_permissions(&call);
	find_role(&call);
	if (call.exists)
	{
		if (!change_permissions(&call))
			ereport(NOTICE,
					(errmsg("the role exists with these permissions already")));
		return end_role_call(&call, role_row(fcinfo, &call));
	}
	require_covered(&call, call.permissions);
	values[0] = PointerGetDatum(call.name);
	values[1] = UUIDPGetDatum(&call.organization_id);
	nulls[1] = call.global ? 'n' : ' ';
	if (call.global)
	{
		if (ask_latest(&name_used_plan, values, NULL))
			ereport(NOTICE,
					(errmsg("organizations have a role of this name already"),
					 errhint("There too the name means the global role from now on; who has the organization's keeps it.")));
	}
	else if (ask_latest(&name_taken_plan, values, nulls))
		refuse("role_exists", NULL, "The name is that of a global role, or of one of an organization above or below; choose another.");
	values[2] = membership_actor(&call.caller) ? UUIDPGetDatum(membership_actor(&call.caller)) : (Datum) 0;
	nulls[2] = membership_actor(&call.caller) ? ' ' : 'n';
	if (!membership_one_id(&insert_role_plan, values, nulls, &call.role_id))
		refuse("role_exists", NULL, "Somebody else has just made it; set_role_permissions() changes it.");
	write_permissions(&call);
	role_event(&call, "membership.role_created");
	return end_role_call(&call, role_row(fcinfo, &call));
}

/* set_role_permissions(role, permissions, organization_id) */
Datum
membership_set_role_permissions(PG_FUNCTION_ARGS)
{
	RoleCall	call;

	begin_role_call(fcinfo, &call, "role", 2, 1);
	lock_permissions(&call);
	find_role(&call);
	if (!call.exists)
		refuse("role_unknown", NULL, "create_role() makes one.");
	if (!change_permissions(&call))
		ereport(NOTICE,
				(errmsg("the role has these permissions already")));
	return end_role_call(&call, role_row(fcinfo, &call));
}

/* drop_role(role, organization_id) */
Datum
membership_drop_role(PG_FUNCTION_ARGS)
{
	RoleCall	call;
	Datum		result;

	begin_role_call(fcinfo, &call, "role", 1, -1);
	find_role(&call);
	if (!call.exists)
		refuse("role_unknown", NULL, NULL);
	require_covered(&call, call.old);
	result = role_row(fcinfo, &call);
	if (organization_delete_rows("role", "id", UUIDARRAYOID, plan_uuid_array(&call.role_id, 1)) == 0)
		refuse("role_unknown", NULL, NULL);
	role_event(&call, "membership.role_dropped");
	return end_role_call(&call, result);
}

/* In an organization what counts there. */
static SavedPlan list_roles_plan = {
	.sql = "SELECT r.id, r.name, r.organization_id, r.built_in, invite_sync.role_permissions(r.id, $1 IS NULL), r.created_at, " MEMBERSHIP_CURSOR("r") " FROM invite_sync.role AS r "
	"WHERE (r.organization_id IS NULL OR r.organization_id IN (SELECT p.id FROM invite_sync.organization_path($1) AS p)) "
	"AND (r.created_at, r.id) < ($2, $3) ORDER BY r.created_at DESC, r.id DESC LIMIT $4",
	.nargs = 4,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT8OID}
};

/* list_roles(organization_id, after, page_size) */
Datum
membership_list_roles(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	organization_id;
	Datum		values[4];
	char		nulls[4] = {PG_ARGISNULL(0) ? 'n' : ' ', ' ', ' ', ' '};
	Scope		scope;

	organization_actor(&caller);
	membership_page_values(fcinfo, 1, &values[1]);
	if (!PG_ARGISNULL(0))
	{
		organization_id = *PG_GETARG_UUID_P(0);
		organization_require_stable(&caller, &organization_id, NULL, NULL);
		values[0] = UUIDPGetDatum(&organization_id);
	}
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&list_roles_plan, values, nulls, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * Permissions
 * ---------------------------------------------------------------------
 */

static SavedPlan insert_permission_plan = {
	.sql = "INSERT INTO invite_sync.permission AS p (name, description) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static SavedPlan unseen_plan = {
	.sql = "SELECT 1 WHERE " ORGANIZATION_UNSEEN("$1"),
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan describe_permission_plan = {
	.sql = "UPDATE invite_sync.permission AS p SET description = $2 WHERE p.name = $1 AND p.description <> $2",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

#define PERMISSION_COLUMNS "p.name, p.description, p.built_in, p.created_at"

static SavedPlan permission_row_plan = {
	.sql = "SELECT " PERMISSION_COLUMNS " FROM invite_sync.permission AS p WHERE p.name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan permission_built_in_plan = {
	.sql = "SELECT 1 FROM invite_sync.permission AS p WHERE p.name = $1 AND p.built_in",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan lock_permission_plan = {
	.sql = "SELECT p.name FROM invite_sync.permission AS p WHERE p.name = $1 FOR UPDATE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan roles_with_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.role_id), '{}') FROM invite_sync.role_permission AS x WHERE x.permission = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan given_meanwhile_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.role_permission AS x WHERE x.permission = $1 AND x.role_id <> ALL ($2))",
	.nargs = 2,
	.argtypes = {TEXTOID, UUIDARRAYOID}
};

static SavedPlan bump_roles_plan = {
	.sql = "UPDATE invite_sync.role AS r SET revision = r.revision + 1 WHERE r.id IN ("
	"SELECT l.id FROM invite_sync.role AS l WHERE l.id IN (SELECT x.role_id FROM invite_sync.role_permission AS x WHERE x.permission = $1) "
	"ORDER BY l.id FOR NO KEY UPDATE)",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/* How many rows the statement found or changed. */
static uint64
count_own(SavedPlan *plan, Datum *values)
{
	Scope		scope;
	uint64		n;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, values, NULL, false, 0);
	n = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	return n;
}

/*
 * Those who give it to a role hold it FOR KEY SHARE and write only the role: a
 * role that an older snapshot does not show would keep what is dropped here, and
 * have it again with the next permission of that name.
 */
static void
require_all_holders_seen(Datum name)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	Datum		values[2];
	bool		isnull;

	values[0] = name;
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&roles_with_plan, values, NULL, false, 1);
	old = MemoryContextSwitchTo(cxt);
	values[1] = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	if (ask_latest(&given_meanwhile_plan, values, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a role has got the permission meanwhile"),
				 errhint("Try the transaction again.")));
}

static void
refuse_built_in_permission(Datum *values)
{
	if (count_own(&permission_built_in_plan, values) > 0)
		refuse("not_permitted", NULL, "Built-in permissions cannot be changed.");
}

/* create_permission(name, description) */
Datum
membership_create_permission(PG_FUNCTION_ARGS)
{
	Caller		caller;
	text	   *name;
	text	   *description;
	Datum		values[2];

	caller_require_operator();
	caller_get(&caller);
	name = membership_text_argument(fcinfo, 0, "name");
	description = PG_ARGISNULL(1) ? cstring_to_text("") : PG_GETARG_TEXT_PP(1);
	if (!well_formed_name(text_to_cstring(name), "", true))
		refuse("name_malformed", NULL, "A permission's name is words of a-z, 0-9 and _ joined by dots, each beginning with a letter, as in documents.write; at most 63 characters.");
	values[0] = PointerGetDatum(description);
	if (DatumGetInt32(DirectFunctionCall1(textlen, values[0])) > DESCRIPTION_MAX)
		refuse("data_malformed", "argument=description", "A description has at most 500 characters.");
	if (count_own(&unseen_plan, values) > 0)
		refuse("name_malformed", "argument=description", "A description has no control or invisible characters.");
	values[0] = PointerGetDatum(name);
	values[1] = PointerGetDatum(description);
	refuse_built_in_permission(values);
	if (count_own(&insert_permission_plan, values) > 0)
		membership_event(&caller, "admin", "membership.permission_created", NULL, NULL, NULL, NULL);
	else if (count_own(&describe_permission_plan, values) > 0)
		membership_event(&caller, "admin", "membership.permission_changed", NULL, NULL, NULL, NULL);
	else
		ereport(NOTICE,
				(errmsg("the permission exists with this description already")));
	return organization_answer(fcinfo, &permission_row_plan, values, NULL, false);
}

/* drop_permission(name) */
Datum
membership_drop_permission(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		values[1];
	Datum		name;
	int			guc_level;
	Datum		result;

	caller_require_operator();
	caller_get(&caller);
	values[0] = PointerGetDatum(membership_text_argument(fcinfo, 0, "name"));
	refuse_built_in_permission(values);
	/* the permission before the roles, as those do who give it; the roles that lose it change */
	guc_level = membership_bound_waits();
	membership_run(&lock_permission_plan, values, NULL);
	require_all_holders_seen(values[0]);
	membership_run(&bump_roles_plan, values, NULL);
	result = organization_answer(fcinfo, &permission_row_plan, values, NULL, false);
	name = values[0];
	if (fcinfo->isnull || organization_delete_rows("permission", "name", TEXTARRAYOID,
										   PointerGetDatum(construct_array(&name, 1, TEXTOID, -1, false, TYPALIGN_INT))) == 0)
		refuse("data_malformed", "argument=name", "There is no such permission.");
	AtEOXact_GUC(false, guc_level);
	membership_event(&caller, "admin", "membership.permission_dropped", NULL, NULL, NULL, NULL);
	return result;
}

static SavedPlan list_permissions_plan = {
	.sql = "SELECT " PERMISSION_COLUMNS ", p.name FROM invite_sync.permission AS p "
	"WHERE p.name COLLATE \"C\" > $1 ORDER BY p.name COLLATE \"C\" LIMIT $2",
	.nargs = 2,
	.argtypes = {TEXTOID, INT8OID}
};

/* list_permissions(after, page_size) */
Datum
membership_list_permissions(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		values[2];
	Scope		scope;

	organization_actor(&caller);
	values[0] = PG_ARGISNULL(0) ? CStringGetTextDatum("") : PG_GETARG_DATUM(0);
	values[1] = Int64GetDatum(organization_page_size(fcinfo, 1));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&list_permissions_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * The platform
 * ---------------------------------------------------------------------
 */

static SavedPlan share_global_role_plan = {
	.sql = "SELECT r.id FROM invite_sync.role AS r WHERE r.name = $1 AND r.organization_id IS NULL FOR SHARE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan set_platform_role_plan = {
	.sql = "INSERT INTO invite_sync.platform_role AS p (user_id, role_id) VALUES ($1, $2) "
	"ON CONFLICT (user_id) DO UPDATE SET role_id = excluded.role_id, created_at = excluded.created_at "
	"WHERE p.role_id <> excluded.role_id",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan platform_role_row_plan = {
	.sql = "SELECT $1, r.name, CASE WHEN r.id IS NOT NULL THEN invite_sync.role_permissions(r.id, true) END, p.created_at "
	"FROM (VALUES ($1)) AS x (user_id) LEFT JOIN (invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id) "
	"ON p.user_id = x.user_id",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* set_platform_role(user_id, role) */
Datum
membership_set_platform_role(PG_FUNCTION_ARGS)
{
	Caller		caller;
	pg_uuid_t	user_id;
	pg_uuid_t	role_id;
	Datum		values[2];
	bool		found;
	int			guc_level;

	caller_require_service();
	caller_get(&caller);
	user_id = membership_uuid_argument(fcinfo, 0, "user_id");
	organization_lock(&user_id, 1, NULL, 0);
	values[0] = UUIDPGetDatum(&user_id);
	if (PG_ARGISNULL(1))
	{
		/* also of a user who is gone */
		if (organization_delete_rows("platform_role", "user_id", UUIDARRAYOID, plan_uuid_array(&user_id, 1)) > 0)
		{
			membership_write_copies(&user_id, 1);
			membership_event(&caller, "admin", "membership.platform_role_cleared", NULL, "user", &user_id, NULL);
		}
	}
	else
	{
		membership_require_user(&user_id);
		values[0] = PG_GETARG_DATUM(1);
		guc_level = membership_bound_waits();
		found = membership_one_id(&share_global_role_plan, values, NULL, &role_id);
		AtEOXact_GUC(false, guc_level);
		if (!found)
			refuse("role_unknown", NULL, "A platform role is a global role: list_roles() names them.");
		values[0] = UUIDPGetDatum(&user_id);
		values[1] = UUIDPGetDatum(&role_id);
		if (count_own(&set_platform_role_plan, values) > 0)
		{
			membership_write_copies(&user_id, 1);
			membership_event(&caller, "admin", "membership.platform_role_set", NULL, "user", &user_id, &role_id);
		}
	}
	return organization_answer(fcinfo, &platform_role_row_plan, values, NULL, false);
}
