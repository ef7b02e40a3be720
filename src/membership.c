/*-------------------------------------------------------------------------
 *
 * membership.c
 *	  Who belongs where, as what, and what that allows.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"

#include "caller.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

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
	plan_execute(&authority_plan, values, NULL, !fresh, 1);
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

void
membership_init(void)
{
	organization_authority_hook = membership_authority;
}
