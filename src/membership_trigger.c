/*-------------------------------------------------------------------------
 *
 * membership_trigger.c
 *	  What holds whoever deletes members, roles and permissions.
 *
 * These triggers enter the own scope themselves: organization_delete_rows()
 * has them fired as the owner of a table that references ours, and a DBA's
 * statement fires them as the DBA.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"

#include "caller.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(membership_keep_owner);
PG_FUNCTION_INFO_V1(membership_role_removed);
PG_FUNCTION_INFO_V1(membership_permission_removed);

static TriggerData *
check_trigger(FunctionCallInfo fcinfo, bool for_row)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		(for_row ? !TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) :
		 !TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) || !TRIGGER_FIRED_BY_DELETE(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called by the triggers of invite_sync")));
	return trigdata;
}

/* Written, not only locked: a transaction with an older snapshot must fail rather than count the owner that goes. */
static SavedPlan owner_gone_plan = {
	.sql = "UPDATE invite_sync.organization AS o SET revision = o.revision + 1 WHERE o.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan ownerless_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.organization_id = $1) "
	"AND NOT EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.organization_id = $1 AND m.role_id = '" MEMBERSHIP_OWNER "')",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* An owner has gone, or become something else. An organization that is gone too needs none. */
Datum
membership_keep_owner(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, true);
	Scope		scope;
	Datum		organization;
	bool		isnull;
	bool		ownerless = false;

	SPI_connect();
	organization = SPI_getbinval(trigdata->tg_trigtuple, trigdata->tg_relation->rd_att,
								 SPI_fnumber(trigdata->tg_relation->rd_att, "organization_id"), &isnull);
	scope_enter_own(&scope);
	plan_execute(&owner_gone_plan, &organization, NULL, false, 0);
	if (SPI_processed > 0)
	{
		plan_execute(&ownerless_plan, &organization, NULL, false, 1);
		ownerless = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
	if (ownerless)
		refuse("last_owner", NULL, "Make another member the owner first: transfer_ownership().");
	return PointerGetDatum(NULL);
}

static SavedPlan role_removed_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.id), '{}') FROM removed AS x",
	.nargs = 0
};

static SavedPlan permission_removed_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.name), '{}') FROM removed AS x",
	.nargs = 0
};

/* The plan reads the transition table "removed": the keys that went. A role that somebody has still stays. */
static void
remove_role_permissions(FunctionCallInfo fcinfo, SavedPlan *plan, const char *column, Oid keytype)
{
	TriggerData *trigdata = check_trigger(fcinfo, false);
	Scope		scope;
	Datum		keys;
	bool		isnull;

	SPI_connect();
	if (SPI_register_trigger_data(trigdata) < 0)
		elog(ERROR, "SPI_register_trigger_data failed");
	scope_enter_own(&scope);
	plan_execute(plan, NULL, NULL, false, 1);
	keys = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	scope_leave(&scope);
	if (keytype == UUIDARRAYOID && membership_roles_held(keys))
		refuse("role_in_use", NULL, "Give those who have the role another one first.");
	(void) organization_delete_rows("role_permission", column, keytype, keys);
	SPI_finish();
}

Datum
membership_role_removed(PG_FUNCTION_ARGS)
{
	remove_role_permissions(fcinfo, &role_removed_plan, "role_id", UUIDARRAYOID);
	return PointerGetDatum(NULL);
}

Datum
membership_permission_removed(PG_FUNCTION_ARGS)
{
	remove_role_permissions(fcinfo, &permission_removed_plan, "permission", TEXTARRAYOID);
	return PointerGetDatum(NULL);
}
