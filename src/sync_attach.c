/*-------------------------------------------------------------------------
 *
 * sync_attach.c
 *	  attach() and detach(): our triggers made, looked at and taken away.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "event.h"
#include "plan.h"
#include "quarantine.h"
#include "sync_internal.h"

typedef struct OurTrigger
{
	const char *name;
	const char *function;
	const char *definition;
	int16		type;
	const char *table;			/* of schema auth */
} OurTrigger;

static const OurTrigger our_triggers[] = {
	{"invite_sync_insert", "sync_on_insert",
		"CREATE OR REPLACE TRIGGER invite_sync_insert AFTER INSERT ON auth.users "
		"REFERENCING NEW TABLE AS new_users FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_on_insert()",
	TRIGGER_TYPE_INSERT, "users"},
	{"invite_sync_update", "sync_on_update",
		"CREATE OR REPLACE TRIGGER invite_sync_update AFTER UPDATE ON auth.users "
		"REFERENCING OLD TABLE AS old_users NEW TABLE AS new_users FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_on_update()",
	TRIGGER_TYPE_UPDATE, "users"},
	{"Invite_sync_delete", "sync_on_delete",
		"CREATE OR REPLACE TRIGGER \"Invite_sync_delete\" AFTER DELETE ON auth.users "
		"REFERENCING OLD TABLE AS old_users FOR EACH ROW EXECUTE FUNCTION invite_sync.sync_on_delete()",
	TRIGGER_TYPE_DELETE | TRIGGER_TYPE_ROW, "users"},
	/* only while a mapping names the identity */
	{"invite_sync_identity", "sync_on_identity",
		"CREATE OR REPLACE TRIGGER invite_sync_identity AFTER INSERT ON auth.identities "
		"REFERENCING NEW TABLE AS new_identities FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_on_identity()",
	TRIGGER_TYPE_INSERT, "identities"}
};

typedef enum TriggerState
{
	TRIGGER_IS_ABSENT,
	TRIGGER_IS_OTHER,				/* of that name, but not as we make it */
	TRIGGER_IS_OFF,
	TRIGGER_IS_GOOD
} TriggerState;

static SavedPlan trigger_plan = {
	.sql = "SELECT t.tgtype, t.tgenabled, t.tgqual IS NULL AND t.tgattr = '' AND t.tgfoid = "
	"(SELECT p.oid FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace "
	"WHERE n.nspname = 'invite_sync' AND p.proname = $3) "
	"AND (t.tgnewtable IS NOT NULL) = $4 AND (t.tgoldtable IS NOT NULL) = $5 AND t.tgconstraint = 0 "
	"FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = $1 AND t.tgname = $2 AND NOT t.tgisinternal",
	.nargs = 5,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, BOOLOID, BOOLOID}
};

static Oid
trigger_table(const OurTrigger *trg)
{
	Oid			nsp = get_namespace_oid("auth", true);

	return OidIsValid(nsp) ? get_relname_relid(trg->table, nsp) : InvalidOid;
}

/* Is this trigger needed by what is configured? */
static bool
trigger_wanted(const OurTrigger *trg)
{
	if (strcmp(trg->table, "users") == 0)
		return true;
	for (int i = 0; sync_registry != NULL && i < sync_registry->ntargets; i++)
		if (sync_registry->targets[i].enabled && sync_registry->targets[i].uses_identity)
			return OidIsValid(trigger_table(trg));
	return false;
}

static TriggerState
trigger_state(const OurTrigger *trg)
{
	Scope		scope;
	Datum		args[5];
	TriggerState result = TRIGGER_IS_ABSENT;

	args[0] = ObjectIdGetDatum(trigger_table(trg));
	args[1] = plan_name(trg->name);
	args[2] = plan_name(trg->function);
	args[3] = BoolGetDatum((trg->type & TRIGGER_TYPE_DELETE) == 0);
	args[4] = BoolGetDatum((trg->type & TRIGGER_TYPE_INSERT) == 0);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&trigger_plan, args, NULL, true, 1);
	if (SPI_processed == 1)
	{
		bool		isnull;
		int16		type = DatumGetInt16(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		char		enabled = DatumGetChar(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		bool		ours = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));

		if (!ours || isnull || type != trg->type)
			result = TRIGGER_IS_OTHER;
		else if (enabled == 'O' || enabled == 'A')
			result = TRIGGER_IS_GOOD;
		else
			result = TRIGGER_IS_OFF;
	}
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/* DDL on auth.users, in its owner's scope, with a bounded wait. */
typedef struct TriggerDDL
{
	const char *wait;			/* milliseconds */
	int			n;
	const char *statements[8];
} TriggerDDL;

static void
run_trigger_ddl(void *arg)
{
	TriggerDDL *ddl = (TriggerDDL *) arg;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;

	(void) set_config_option("lock_timeout", ddl->wait, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	scope_enter_auth(&scope);
	for (int i = 0; i < ddl->n; i++)
	{
		int			rc = SPI_execute(ddl->statements[i], false, 0);

		if (rc < 0)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	}
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

static void
trigger_ddl(TriggerDDL *ddl, Oid auth, bool all_modes)
{
	Failure    *failure;
	char	   *pids;

	if (sync_run_contained(run_trigger_ddl, ddl, true, &failure))
		return;
	if (failure->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(plan_lasting(failure->edata));

	pids = sync_lock_holders(auth, all_modes);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("auth.users could not be locked within the time allowed"),
			 errdetail("Nothing was changed."),
			 pids ? errhint("Held by the session with process id %s; try again when it is done, or with a longer wait.", pids) :
			 errhint("Try again, or with a longer wait.")));
}

void
sync_lock_auth_users(const char *wait)
{
	TriggerDDL	ddl;

	memset(&ddl, 0, sizeof(ddl));
	ddl.wait = wait;
	ddl.statements[ddl.n++] = "LOCK TABLE auth.users IN SHARE ROW EXCLUSIVE MODE";
	trigger_ddl(&ddl, caller_auth_users_relid(false), false);
}

static SavedPlan detached_plan = {
	.sql = "SELECT coalesce((SELECT a.detached FROM invite_sync.attachment AS a), false)",
	.nargs = 0
};

static SavedPlan set_detached_plan = {
	.sql = "INSERT INTO invite_sync.attachment AS a (detached) VALUES ($1) "
	"ON CONFLICT (only_row) DO UPDATE SET detached = excluded.detached WHERE a.detached <> excluded.detached",
	.nargs = 1,
	.argtypes = {BOOLOID}
};

bool
sync_is_detached(void)
{
	Scope		scope;
	bool		isnull;
	bool		result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&detached_plan, NULL, NULL, true, 1);
	result = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static void
set_detached(bool detached)
{
	Scope		scope;
	Datum		args[1];

	args[0] = BoolGetDatum(detached);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&set_detached_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/*
 * The owner of auth.users creates the triggers, so it needs to see the functions.
 */
static void
grant_trigger_functions(Oid auth_owner)
{
	Scope		scope;
	const char *role = quote_identifier(GetUserNameFromId(auth_owner, false));

	if (superuser_arg(auth_owner))
		return;
	SPI_connect();
	scope_enter_own(&scope);
	if (compat_namespace_aclcheck(caller_extension_schema(), auth_owner, ACL_USAGE) != ACLCHECK_OK)
		SPI_execute(psprintf("GRANT USAGE ON SCHEMA invite_sync TO %s", role), false, 0);
	for (size_t i = 0; i < lengthof(our_triggers); i++)
		SPI_execute(psprintf("GRANT EXECUTE ON FUNCTION invite_sync.%s() TO %s",
							 our_triggers[i].function, role), false, 0);
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan row_triggers_plan = {
	.sql = "SELECT t.tgname, p.proname FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid "
	"WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND (t.tgtype::pg_catalog.int4 & 1) = 1 "
	"AND EXISTS (SELECT 1 FROM invite_sync.target AS r WHERE pg_catalog.strpos(p.prosrc, r.table_name::pg_catalog.text) > 0) "
	"AND t.tgname <> 'Invite_sync_delete' ORDER BY 1",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/* They fire before the sync: what needs the profile belongs on the profile. */
static void
notice_row_triggers(Oid auth)
{
	Scope		scope;
	Datum		args[1];

	args[0] = ObjectIdGetDatum(auth);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&row_triggers_plan, args, NULL, false, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
		ereport(NOTICE,
				(errmsg("trigger \"%s\" on auth.users runs function \"%s\", which names a target",
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2)),
				 errhint("It fires before the sync. What needs the synced row belongs into a trigger on the target; what only makes the row can go.")));
	scope_leave(&scope);
	SPI_finish();
}

static void
load_and_note_attached(void *arg)
{
	sync_load_registry(NULL);
	if (!*(bool *) arg)
		set_detached(false);
}

typedef struct Mending
{
	Relation	auth;
	bool		mended;
} Mending;

static void
mend_dependencies(void *arg)
{
	Mending    *m = (Mending *) arg;

	m->mended = quarantine_mend_dependencies(m->auth);
}

/*
 * Make our triggers. With only_if_wanted nothing is done after a detach(), and
 * nothing is said when they are there.
 */
static bool
attach_triggers_internal(const char *wait, bool only_if_wanted, bool identity)
{
	Oid			auth = caller_auth_users_relid(false);
	TriggerDDL	ddl;
	Mending		mending = {NULL, false};

	if (only_if_wanted && sync_is_detached())
		return false;
	sync_load_registry_for_caller(load_and_note_attached, &only_if_wanted);
	memset(&ddl, 0, sizeof(ddl));
	ddl.wait = wait;
	for (size_t i = 0; i < lengthof(our_triggers); i++)
	{
		TriggerState state = trigger_state(&our_triggers[i]);

		/* the registry does not show yet what this transaction has just added */
		if (!trigger_wanted(&our_triggers[i]) &&
			!(identity && OidIsValid(trigger_table(&our_triggers[i]))))
			continue;
		if (state == TRIGGER_IS_ABSENT || state == TRIGGER_IS_OTHER)
			ddl.statements[ddl.n++] = pstrdup(our_triggers[i].definition);
		if (state == TRIGGER_IS_OFF || state == TRIGGER_IS_OTHER)
			ddl.statements[ddl.n++] = psprintf("ALTER TABLE auth.%s ENABLE TRIGGER %s",
											   our_triggers[i].table,
											   quote_identifier(our_triggers[i].name));
	}
	if (!only_if_wanted)
	{
		Failure    *failure;

		/* guarded triggers of another version's must not keep ours from being made */
		mending.auth = table_open(auth, AccessShareLock);
		if (!sync_run_contained(mend_dependencies, &mending, true, &failure))
		{
			if (ERRCODE_TO_CATEGORY(failure->sqlerrcode) != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
				ReThrowError(plan_lasting(failure->edata));
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("the guarded triggers of invite_sync cannot be looked at"),
					 errdetail("%s", sync_failure_detail(failure)),
					 errhint("Do library and extension have the same version? SELECT * FROM invite_sync.verify();")));
		}
		table_close(mending.auth, NoLock);
	}
	if (ddl.n == 0)
		return mending.mended;
	grant_trigger_functions(caller_auth_owner());
	trigger_ddl(&ddl, auth, false);
	event_append("admin", "sync.attached", NULL, NULL, NULL, NULL, NULL);
	notice_row_triggers(auth);
	return true;
}

void
sync_attach_triggers(const char *wait, bool only_if_wanted, bool identity)
{
	(void) attach_triggers_internal(wait, only_if_wanted, identity);
}

PG_FUNCTION_INFO_V1(sync_attach);
PG_FUNCTION_INFO_V1(sync_detach);

/* An interval as the milliseconds that lock_timeout takes. */
static char *
wait_arg(FunctionCallInfo fcinfo)
{
	Interval   *span;
	double		ms;

	caller_refuse_null(PG_ARGISNULL(0), "wait", "Leave the argument out for its default.");
	span = PG_GETARG_INTERVAL_P(0);
	ms = span->time / 1000.0 + (span->day + span->month * 30.0) * 86400000.0;
	if (ms < 1 || ms > 3600000.0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("wait must be between 1 millisecond and 1 hour"),
				 errhint("Logins wait behind this call for as long; seconds are enough.")));
	return psprintf("%d", (int) ms);
}

Datum
sync_attach(PG_FUNCTION_ARGS)
{
	bool		changed;

	caller_require_operator();
	PreventCommandIfReadOnly("attach()");
	changed = attach_triggers_internal(wait_arg(fcinfo), false, false);
	if (!changed)
		ereport(NOTICE,
				(errmsg("the triggers are on auth.users already")));
	PG_RETURN_BOOL(changed);
}

Datum
sync_detach(PG_FUNCTION_ARGS)
{
	Oid			auth = caller_auth_users_relid(false);
	TriggerDDL	ddl;

	caller_require_operator();
	PreventCommandIfReadOnly("detach()");
	memset(&ddl, 0, sizeof(ddl));
	ddl.wait = wait_arg(fcinfo);
	for (size_t i = 0; i < lengthof(our_triggers); i++)
	{
		TriggerState state = trigger_state(&our_triggers[i]);

		if (state == TRIGGER_IS_GOOD || state == TRIGGER_IS_OFF)
			ddl.statements[ddl.n++] = psprintf("DROP TRIGGER %s ON auth.%s",
											   quote_identifier(our_triggers[i].name),
											   our_triggers[i].table);
	}
	set_detached(true);
	if (ddl.n == 0)
	{
		ereport(NOTICE,
				(errmsg("there are no triggers of invite_sync on auth.users")));
		PG_RETURN_BOOL(false);
	}
	trigger_ddl(&ddl, auth, true);
	event_append("admin", "sync.detached", NULL, NULL, NULL, NULL, NULL);
	PG_RETURN_BOOL(true);
}

int
sync_triggers(SyncTrigger **triggers)
{
	Oid			auth = caller_auth_users_relid(true);
	int			i = 0;
	SyncTrigger *list = palloc(sizeof(our_triggers) / sizeof(OurTrigger) * sizeof(SyncTrigger));

	*triggers = list;
	if (!OidIsValid(auth))
		return 0;
	sync_load_registry(NULL);
	for (size_t k = 0; k < lengthof(our_triggers); k++)
	{
		if (!trigger_wanted(&our_triggers[k]))
			continue;
		list[i].name = our_triggers[k].name;
		list[i].state = "";
		switch (trigger_state(&our_triggers[k]))
		{
			case TRIGGER_IS_ABSENT:
				list[i].state = "missing";
				break;
			case TRIGGER_IS_OTHER:
				list[i].state = "replaced";
				break;
			case TRIGGER_IS_OFF:
				list[i].state = "disabled";
				break;
			case TRIGGER_IS_GOOD:
				list[i].state = "good";
				break;
		}
		i++;
	}
	return i;
}

void
sync_verify_triggers(void *arg)
{
	VerifyPart *part = (VerifyPart *) arg;
	ReturnSetInfo *rsinfo = part->rsinfo;

	if (sync_is_detached())
		sync_emit_finding(rsinfo, "info", "sync", "auth.users", "detach() was called: the triggers are off on purpose",
						  NULL, "SELECT invite_sync.attach();");
	else if (part->any_enabled)
	{
		for (size_t i = 0; i < lengthof(our_triggers); i++)
		{
			TriggerState state = trigger_state(&our_triggers[i]);

			if (state != TRIGGER_IS_GOOD && trigger_wanted(&our_triggers[i]))
				sync_emit_finding(rsinfo, "error", "sync", our_triggers[i].name,
								  psprintf("the trigger on auth.%s is %s", our_triggers[i].table,
										   state == TRIGGER_IS_ABSENT ? "missing" :
										   state == TRIGGER_IS_OFF ? "disabled" :
										   "not the one that attach() makes"),
								  "Changes of auth.users are not synced. What was missed meanwhile is missing, stale or orphaned in sync_status(); sync_all() makes missing rows and fills NULLs only.",
								  "SELECT invite_sync.attach(); CALL invite_sync.sync_all();");
		}
	}
}
