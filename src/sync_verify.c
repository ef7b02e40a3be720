/*-------------------------------------------------------------------------
 *
 * sync_verify.c
 *	  verify(): what is not as it must be, and what mends it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "module.h"
#include "plan.h"
#include "quarantine.h"
#include "sync_internal.h"

PG_FUNCTION_INFO_V1(sync_verify);

void
sync_emit_finding(ReturnSetInfo *rsinfo, const char *severity, const char *area, const char *object,
				  const char *finding, const char *detail, const char *fix)
{
	Datum		values[6];
	bool		nulls[6] = {false, false, object == NULL, false, detail == NULL, fix == NULL};

	values[0] = CStringGetTextDatum(severity);
	values[1] = CStringGetTextDatum(area);
	values[2] = object ? CStringGetTextDatum(object) : (Datum) 0;
	values[3] = CStringGetTextDatum(finding);
	values[4] = detail ? CStringGetTextDatum(detail) : (Datum) 0;
	values[5] = fix ? CStringGetTextDatum(fix) : (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static SavedPlan version_plan = {
	.sql = "SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'invite_sync'",
	.nargs = 0
};

/* The library comes with the package, the objects with CREATE or ALTER EXTENSION. */
static void
emit_version(ReturnSetInfo *rsinfo)
{
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&version_plan, NULL, NULL, true, 1);
	if (SPI_processed == 1)
	{
		char	   *version = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		if (strcmp(version, INVITE_SYNC_VERSION) != 0)
			sync_emit_finding(rsinfo, "error", "module", "invite_sync", "library and SQL objects are of different versions",
							  psprintf("The library is %s, the objects are %s.", INVITE_SYNC_VERSION, version),
							  "ALTER EXTENSION invite_sync UPDATE; -- or install the package of the objects' version");
	}
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan members_plan = {
	.sql = "SELECT m.rolname FROM pg_catalog.pg_auth_members AS a "
	"JOIN pg_catalog.pg_roles AS m ON m.oid = a.member WHERE a.roleid = $1 AND NOT m.rolsuper ORDER BY 1",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/* Members of the role that owns our tables could write the registry as they like. */
static void
emit_members(ReturnSetInfo *rsinfo)
{
	Scope		scope;
	Datum		args[1];

	args[0] = ObjectIdGetDatum(caller_own_role());
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&members_plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *member = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		char	   *owner = GetUserNameFromId(caller_own_role(), false);

		sync_emit_finding(rsinfo, "error", "caller", member, "the role is a member of the owner of the extension's tables",
						  "It can change everything of the extension, past all checks.",
						  psprintf("REVOKE %s FROM %s;", quote_identifier(owner), quote_identifier(member)));
	}
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan overdue_plan = {
	.sql = "SELECT coalesce(pg_catalog.quote_ident(t.schema_name) OPERATOR(pg_catalog.||) '.' "
	"OPERATOR(pg_catalog.||) pg_catalog.quote_ident(t.table_name), q.trigger_name), pg_catalog.count(*), "
	"pg_catalog.string_agg(DISTINCT q.sqlstate, ', '), pg_catalog.bool_or(q.replayable) "
	"FROM invite_sync.quarantine_entry AS q LEFT JOIN invite_sync.target AS t ON t.id = q.target_id GROUP BY 1 ORDER BY 1",
	.nargs = 0
};

typedef struct VerifyTarget
{
	Work		work;
	bool		read_only;
} VerifyTarget;

static void
verify_target(void *arg)
{
	VerifyTarget *v = (VerifyTarget *) arg;
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	if (v->read_only)
		sync_prepare_target(v->work.target, AccessShareLock);
	else
		sync_plan_statements(&v->work);
	AtEOXact_GUC(false, guc_level);
}

static void
emit_listener_finding(void *arg, const char *severity, const char *area, const char *object,
					  const char *finding, const char *detail, const char *fix)
{
	sync_emit_finding((ReturnSetInfo *) arg, severity, area, object, finding, detail, fix);
}

static void
emit_quarantine_finding(void *arg, const char *severity, const char *object,
						const char *finding, const char *detail, const char *fix)
{
	sync_emit_finding((ReturnSetInfo *) arg, severity, "quarantine", object, finding, detail, fix);
}

static void
verify_part(ContainedFn fn, VerifyPart *part, const char *area, const char *object, const char *finding)
{
	Failure    *failure;

	if (!sync_run_contained(fn, part, true, &failure))
		sync_emit_finding(part->rsinfo, "error", area, object, finding, sync_failure_detail(failure),
						  "ALTER EXTENSION invite_sync UPDATE; -- or whatever the detail calls for");
}

static void
verify_guards(void *arg)
{
	VerifyPart *part = (VerifyPart *) arg;

	quarantine_verify(part->auth, emit_quarantine_finding, part->rsinfo);
}

static void
verify_listeners(void *arg)
{
	VerifyPart *part = (VerifyPart *) arg;
	bool		auth_readable = !superuser_arg(part->auth->rd_rel->relowner);
	const SyncListener *listener;

	for (int i = 0; (listener = sync_listener(i)) != NULL; i++)
		listener->verify(auth_readable, emit_listener_finding, part->rsinfo);
}

static void
verify_quarantine(void *arg)
{
	ReturnSetInfo *rsinfo = ((VerifyPart *) arg)->rsinfo;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&overdue_plan, NULL, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		sync_emit_finding(rsinfo, "warning", "quarantine", SPI_getvalue(row, desc, 1),
						  psprintf("%s in quarantine", SPI_getvalue(row, desc, 2)),
						  psprintf("SQLSTATE %s; see invite_sync.quarantine.", SPI_getvalue(row, desc, 3)),
						  strcmp(SPI_getvalue(row, desc, 4), "t") == 0 ?
						  "SELECT * FROM invite_sync.retry_quarantine(due_only => false);" :
						  "SELECT invite_sync.close_quarantine(id) FROM invite_sync.quarantine WHERE NOT replayable; -- when each was looked into");
	}
	scope_leave(&scope);
	SPI_finish();
}

static void
verify_targets(ReturnSetInfo *rsinfo, Relation auth, Registry *reg)
{
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		VerifyTarget v;
		Failure    *failure;
		char	   *current;

		if (!t->enabled)
		{
			sync_emit_finding(rsinfo, "info", "sync", sync_target_display(t), "the target is disabled", NULL,
							  psprintf("SELECT invite_sync.set_target(%s, enabled => true);",
									   quote_literal_cstr(sync_target_display(t))));
			continue;
		}
		memset(&v, 0, sizeof(v));
		v.read_only = RecoveryInProgress() || XactReadOnly;
		v.work.target = t;
		v.work.auth = auth;
		v.work.single = tuplestore_begin_heap(false, false, work_mem);
		if (!sync_ask_target(verify_target, &v, t, false, &failure))
			sync_emit_finding(rsinfo, "error", "sync", sync_target_display(t), "users cannot be synced to this target",
							  sync_failure_detail(failure), failure->edata->hint);
		else
		{
			current = get_rel_name(t->relid);
			if (current != NULL && (strcmp(current, t->table) != 0 ||
									strcmp(get_namespace_name(get_rel_namespace(t->relid)), t->schema) != 0))
				sync_emit_finding(rsinfo, "info", "sync", sync_target_display(t), "the target was renamed",
								  psprintf("It is %s now, and is synced to under that name.",
										   quote_qualified_identifier(get_namespace_name(get_rel_namespace(t->relid)), current)),
								  psprintf("SELECT * FROM invite_sync.set_target(%s);",
										   quote_literal_cstr(quote_qualified_identifier(get_namespace_name(get_rel_namespace(t->relid)), current))));
		}
		tuplestore_end(v.work.single);
	}
}

/* verify(): what is not as it must be, and what mends it. Writes nothing. */
Datum
sync_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	auth;
	VerifyPart	part;
	Failure    *load_failure;
	const SyncListener *listener;
	bool		readable;

	caller_require_operator();
	InitMaterializedSRF(fcinfo, 0);

	if (!OidIsValid(caller_auth_users_relid(true)))
	{
		sync_emit_finding(rsinfo, "error", "sync", "auth.users", "there is no table auth.users",
						  "Nothing can be synced.", "SELECT invite_sync.create_auth_schema();");
		return (Datum) 0;
	}
	emit_version(rsinfo);
	auth = sync_open_auth_users(AccessShareLock);
	memset(&part, 0, sizeof(part));
	part.rsinfo = rsinfo;
	part.auth = auth;
	plan_hold();
	readable = sync_run_contained(sync_load_registry, auth, true, &load_failure);
	if (!readable)
		sync_emit_finding(rsinfo, "error", "sync", "invite_sync.target", "the registry cannot be read: nothing is synced",
						  sync_failure_detail(load_failure), "ALTER EXTENSION invite_sync UPDATE;");
	if (superuser_arg(auth->rd_rel->relowner))
		sync_emit_finding(rsinfo, "error", "caller", "auth.users", "auth.users belongs to a superuser",
						  "Nothing of invite_sync runs as a superuser, so users can be neither locked nor backfilled.",
						  "ALTER TABLE auth.users OWNER TO supabase_auth_admin;");
	emit_members(rsinfo);
	if (!invite_sync_enabled)
		sync_emit_finding(rsinfo, "error", "sync", "invite_sync.enabled", "the setting is off: nothing is synced",
						  NULL, "RESET invite_sync.enabled; -- and look into postgresql.conf, ALTER SYSTEM, ALTER DATABASE and ALTER ROLE");
	for (int i = 0; (listener = sync_listener(i)) != NULL; i++)
		part.any_enabled = part.any_enabled || listener->needs_triggers();
	if (readable)
	{
		for (int i = 0; i < sync_registry->ntargets; i++)
			part.any_enabled = part.any_enabled || sync_registry->targets[i].enabled;
		verify_part(sync_verify_triggers, &part, "sync", "auth.users", "the triggers cannot be looked at");
		verify_targets(rsinfo, auth, sync_registry);
	}
	verify_part(verify_guards, &part, "quarantine", "invite_sync.guarded_trigger",
				"the guarded triggers cannot be looked at");
	verify_part(verify_quarantine, &part, "quarantine", "invite_sync.quarantine_entry",
				"quarantine cannot be looked at");
	verify_part(verify_listeners, &part, "membership", "invite_sync.membership",
				"memberships cannot be looked at");
	plan_release();
	table_close(auth, AccessShareLock);
	return (Datum) 0;
}
