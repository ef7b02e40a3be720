/*-------------------------------------------------------------------------
 *
 * sync.c
 *	  auth.users synced to application tables.
 *
 * The promise is: a statement of the auth server on auth.users never fails
 * because of an application table, and no sync is lost. So everything that
 * touches a target happens in a subtransaction, as the target's owner, with
 * bounded lock waits; what fails is recorded in quarantine and done again.
 *
 * Here are containment and the registry of targets as each backend knows it;
 * beside it, sharing sync_internal.h:
 *
 *	  sync_target.c		a target's table, the texts of its statements
 *	  sync_source.c		what the statements read
 *	  sync_batch.c		one batch of users into one target
 *	  sync_link.c		link_by: rows that wait for their users
 *	  sync_trigger.c	the triggers, the rooms that listen
 *	  sync_fill.c		users by other roads than a trigger
 *	  sync_check.c		who is not in step
 *	  sync_backfill.c	sync_users(), sync_all()
 *	  sync_profile.c	one user at a call
 *	  sync_status.c		sync_status(), preservation_report()
 *	  sync_mapping.c	mappings: inferred, checked, stored
 *	  sync_configure.c	add_target(), set_target(), drop_target()
 *	  sync_attach.c		attach(), detach()
 *	  sync_analyse.c	targets looked at without writing
 *	  sync_verify.c		verify()
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "caller.h"
#include "event.h"
#include "module.h"
#include "plan.h"
#include "sync_internal.h"

/* Of a contained error's message, detail and context so much is kept. */
#define ERROR_TEXT_BYTES	1024

/* So often the registry is read anew when it changes under the reader. */
#define READS_MAX			3

Registry *sync_registry = NULL;
static uint64 registry_valid_at = 0;	/* 0: never loaded */
static uint64 registry_invalidations = 1;
static uint64 auth_invalidations = 1;
static Oid	registry_relid = InvalidOid;
static Oid	mapping_relid = InvalidOid;
static Oid	auth_relid = InvalidOid;
int			sync_nesting = 0;

PG_FUNCTION_INFO_V1(sync_registry_changed);

/* ---------------------------------------------------------------------
 * Containment
 * ---------------------------------------------------------------------
 */

/* Somebody's trigger may raise a message of megabytes, and for each user. */
static char *
cut_text(char *s)
{
	if (s != NULL && strlen(s) > ERROR_TEXT_BYTES)
		s[pg_mbcliplen(s, strlen(s), ERROR_TEXT_BYTES)] = '\0';
	return s;
}

bool
sync_run_contained(ContainedFn fn, void *arg, bool keep, Failure **failure)
{
	int			save_nesting = sync_nesting;
	ErrorData  *edata;

	*failure = NULL;
	edata = plan_contained(fn, arg, keep);
	if (edata == NULL)
		return true;
	sync_nesting = save_nesting;
	edata->message = edata->message ? cut_text(edata->message) : pstrdup("missing error text");
	edata->detail = cut_text(edata->detail);
	edata->context = cut_text(edata->context);
	if (caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	*failure = palloc(sizeof(Failure));
	(*failure)->edata = edata;
	(*failure)->sqlerrcode = edata->sqlerrcode;
	return false;
}

char *
sync_failure_detail(const Failure *f)
{
	return psprintf("SQLSTATE %s: %s", unpack_sql_state(f->sqlerrcode), f->edata->message);
}

/*
 * Somebody else's LOCK TABLE must not hold up a signup longer than this. A
 * client that asked for less gets less.
 */
void
sync_bound_lock_wait(void)
{
	char		buf[32];

	if (LockTimeout > 0 && LockTimeout <= invite_sync_lock_timeout)
		return;
	snprintf(buf, sizeof(buf), "%d", invite_sync_lock_timeout);
	(void) set_config_option("lock_timeout", buf, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static SavedPlan holders_plan = {
	.sql = "SELECT pg_catalog.string_agg(DISTINCT l.pid::pg_catalog.text, ', ') FROM pg_catalog.pg_locks AS l "
	"WHERE l.locktype = 'relation' AND l.granted AND l.relation = $1 AND l.pid <> pg_catalog.pg_backend_pid() "
	"AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()) "
	"AND ($2 OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))",
	.nargs = 2,
	.argtypes = {OIDOID, BOOLOID}
};

/* Who holds a lock on the table that would be in our way, as a list of pids. */
char *
sync_lock_holders(Oid relid, bool all_modes)
{
	Scope		scope;
	Datum		args[2];
	char	   *pids;
	MemoryContext cxt = CurrentMemoryContext;

	args[0] = ObjectIdGetDatum(relid);
	args[1] = BoolGetDatum(all_modes);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&holders_plan, args, NULL, false, 1);
	pids = SPI_processed == 1 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;
	if (pids != NULL)
		pids = MemoryContextStrdup(cxt, pids);
	scope_leave(&scope);
	SPI_finish();
	return pids;
}

/* ---------------------------------------------------------------------
 * Registry
 * ---------------------------------------------------------------------
 */

/*
 * Only counts: the catalogs must not be read in here. A registry in use that
 * has been replaced meanwhile hears nothing more; its statements revalidate
 * themselves and at worst fail into quarantine.
 */
static void
sync_relcache_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == registry_relid || relid == mapping_relid)
		registry_invalidations++;
	if (relid == InvalidOid || relid == auth_relid)
		auth_invalidations++;
	if (sync_registry != NULL)
	{
		for (int i = 0; i < sync_registry->ntargets; i++)
		{
			if (relid == InvalidOid || sync_registry->targets[i].relid == relid)
				sync_registry->targets[i].invalidations++;
		}
	}
}

/*
 * Statement trigger on the registry's tables: row changes send no
 * invalidation by themselves. It names those tables and not auth.users, whose
 * plans in every session of the auth server would be thrown away.
 */
Datum
sync_registry_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	CacheInvalidateRelcache(trigdata->tg_relation);
	return PointerGetDatum(NULL);
}

static SavedPlan registry_plan = {
	/* types and NULLs as they are taken below, whatever another version's tables hold */
	.sql = "SELECT t.id::pg_catalog.int8, t.relation::pg_catalog.oid, coalesce(t.schema_name::pg_catalog.text, ''), "
	"coalesce(t.table_name::pg_catalog.text, ''), coalesce(t.key::pg_catalog.text, ''), "
	"coalesce(t.on_delete::pg_catalog.text, 'none'), coalesce(t.on_error::pg_catalog.text, 'quarantine'), "
	"coalesce(t.enabled::pg_catalog.bool, false), t.link_by::pg_catalog.text, coalesce(t.search_path::pg_catalog.text, ''), "
	"coalesce(t.definer::pg_catalog.text, ''), coalesce(t.registered_in::pg_catalog.text, ''), "
	"m.column_name::pg_catalog.text, coalesce(m.expression::pg_catalog.text, 'NULL'), coalesce(m.update_policy::pg_catalog.text, 'never'), "
	"m.source_columns::pg_catalog.name[], coalesce(t.relation_number::pg_catalog.oid, 0::pg_catalog.oid) "
	"FROM invite_sync.target AS t LEFT JOIN invite_sync.mapping AS m ON m.target_id = t.id "
	"ORDER BY t.id, m.position",
	.nargs = 0
};

static char *
get_text(HeapTuple tuple, TupleDesc desc, int col)
{
	/* works for text and name alike, NULL for null */
	return SPI_getvalue(tuple, desc, col);
}

UpdatePolicy
sync_policy_from_text(const char *s)
{
	if (strcmp(s, "always") == 0)
		return POLICY_ALWAYS;
	if (strcmp(s, "if_null") == 0)
		return POLICY_IF_NULL;
	return POLICY_NEVER;
}

const char *
sync_policy_to_text(UpdatePolicy policy)
{
	switch (policy)
	{
		case POLICY_ALWAYS:
			return "always";
		case POLICY_IF_NULL:
			return "if_null";
		case POLICY_NEVER:
			break;
	}
	return "never";
}

OnDelete
sync_on_delete_from_text(const char *s)
{
	if (strcmp(s, "delete") == 0)
		return ON_DELETE_DELETE;
	if (strcmp(s, "deactivate") == 0)
		return ON_DELETE_DEACTIVATE;
	return ON_DELETE_NONE;
}

bool
sync_reads_identity(const MapColumn *mc)
{
	for (int s = 0; s < mc->nsources; s++)
		if (strcmp(mc->sources[s], "identity_provider") == 0 ||
			strcmp(mc->sources[s], "identity_provider_id") == 0)
			return true;
	return false;
}

static void
read_registry(Registry *reg, Snapshot snapshot)
{
	char	   *lineage = caller_lineage(snapshot);
	Scope		scope;
	Target	   *target = NULL;
	SPITupleTable *rows;
	uint64		nrows;
	MemoryContext old;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute_snapshot(&registry_plan, NULL, NULL, snapshot, true, 0);
	rows = SPI_tuptable;
	nrows = SPI_processed;
	scope_leave(&scope);

	old = MemoryContextSwitchTo(reg->cxt);
	reg->targets = palloc0(sizeof(Target) * Max(nrows, 1));
	reg->ntargets = 0;
	for (uint64 i = 0; i < nrows; i++)
	{
		HeapTuple	tuple = rows->vals[i];
		TupleDesc	desc = rows->tupdesc;
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		char	   *column;

		if (target == NULL || target->id != id)
		{
			char	   *value;

			target = &reg->targets[reg->ntargets++];
			target->id = id;
			target->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
			target->schema = get_text(tuple, desc, 3);
			target->table = get_text(tuple, desc, 4);
			target->key = get_text(tuple, desc, 5);
			target->on_delete = sync_on_delete_from_text(get_text(tuple, desc, 6));
			target->on_error_raise = strcmp(get_text(tuple, desc, 7), "raise") == 0;
			target->enabled = DatumGetBool(SPI_getbinval(tuple, desc, 8, &isnull));
			target->link_by = get_text(tuple, desc, 9);
			target->search_path = get_text(tuple, desc, 10);
			target->definer = get_text(tuple, desc, 11);
			value = get_text(tuple, desc, 12);

			target->stamped = caller_same_lineage(value, lineage);

			/*
			 * A relation that exists travels through a dump by its name and so
			 * comes back under another number than the one beside it.
			 */
			target->same_database = target->stamped ||
				target->relid != DatumGetObjectId(SPI_getbinval(tuple, desc, 17, &isnull));
			target->columns = palloc0(sizeof(MapColumn) * nrows);
			target->invalidations = 1;
			target->home = reg->cxt;
		}

		column = get_text(tuple, desc, 13);
		if (column != NULL)
		{
			MapColumn  *mc = &target->columns[target->ncolumns++];
			Datum		sources;
			Datum	   *elems;
			bool	   *nulls;
			int			n;

			mc->name = column;
			mc->expression = get_text(tuple, desc, 14);
			mc->policy = sync_policy_from_text(get_text(tuple, desc, 15));
			sources = SPI_getbinval(tuple, desc, 16, &isnull);
			if (!isnull)
			{
				deconstruct_array(DatumGetArrayTypeP(sources), NAMEOID, NAMEDATALEN,
								  false, TYPALIGN_CHAR, &elems, &nulls, &n);
				mc->sources = palloc(sizeof(char *) * Max(n, 1));
				for (int j = 0; j < n; j++)
					mc->sources[mc->nsources++] = pstrdup(NameStr(*DatumGetName(elems[j])));
				if (sync_reads_identity(mc))
					target->uses_identity = true;
			}
		}
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
}

/* Which columns of auth.users matter, by number, as the table is now. */
static void
resolve_attributes(Registry *reg, Relation auth)
{
	TupleDesc	desc = RelationGetDescr(auth);
	MemoryContext old;

	if (reg->auth_seen == auth_invalidations && reg->id_att != InvalidAttrNumber)
		return;
	reg->auth_seen = auth_invalidations;
	reg->id_att = SPI_fnumber(desc, "id");
	reg->deleted_att = SPI_fnumber(desc, "deleted_at");
	if (reg->deleted_att < 0)
		reg->deleted_att = InvalidAttrNumber;
	if (reg->id_att <= 0 || TupleDescAttr(desc, reg->id_att - 1)->atttypid != UUIDOID)
	{
		reg->id_att = InvalidAttrNumber;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("auth.users has no column \"id\" of type uuid")));
	}

	old = MemoryContextSwitchTo(reg->cxt);
	reg->watch_all = NULL;
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];

		t->watch = NULL;
		for (int c = 0; c < t->ncolumns; c++)
		{
			/* what is only ever inserted cannot be changed by an update */
			if (t->columns[c].policy == POLICY_NEVER)
				continue;
			for (int s = 0; s < t->columns[c].nsources; s++)
			{
				int			att = SPI_fnumber(desc, t->columns[c].sources[s]);

				/* one that is gone makes the statement fail, not this */
				if (att > 0)
					t->watch = bms_add_member(t->watch, att);
			}
		}
		/* what makes an address one that may claim a row, or no longer may */
		if (t->link_by != NULL)
		{
			static const char *const verifying[] = {"email", "email_confirmed_at", "is_anonymous", "banned_until"};

			for (size_t v = 0; v < lengthof(verifying); v++)
			{
				int			att = SPI_fnumber(desc, verifying[v]);

				if (att > 0)
					t->watch = bms_add_member(t->watch, att);
			}
		}
		if (t->enabled)
			reg->watch_all = bms_add_members(reg->watch_all, t->watch);
	}
	if (reg->deleted_att != InvalidAttrNumber)
		reg->watch_all = bms_add_member(reg->watch_all, reg->deleted_att);
	reg->watch_all = bms_add_member(reg->watch_all, reg->id_att);
	reg->copy_att = SPI_fnumber(desc, "raw_app_meta_data");
	if (reg->copy_att <= 0 || TupleDescAttr(desc, reg->copy_att - 1)->atttypid != JSONBOID)
		reg->copy_att = InvalidAttrNumber;
	reg->watch_any = bms_copy(reg->watch_all);
	if (reg->copy_att != InvalidAttrNumber)
		reg->watch_any = bms_add_member(reg->watch_any, reg->copy_att);
	/* whose address has changed is noted for targets that come later, too */
	if (SPI_fnumber(desc, "email") > 0)
		reg->watch_any = bms_add_member(reg->watch_any, SPI_fnumber(desc, "email"));
	MemoryContextSwitchTo(old);
}

static void
free_registry(Registry *reg)
{
	if (reg == NULL)
		return;
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];

		plan_retire(t->insert_plan);
		plan_retire(t->update_plan);
		plan_retire(t->missing_plan);
		plan_retire(t->check_plan);
		plan_retire(t->claim_plan);
		plan_retire(t->pending_plan);
	}
	plan_retire_context(reg->cxt);
}

/*
 * The registry as committed now, not as of the statement's snapshot: that one
 * may be older than the change that we were just told of, and nobody would
 * tell us again.
 */
static Registry *
get_registry(void)
{
	AcceptInvalidationMessages();
	for (int tries = 0; registry_valid_at != registry_invalidations; tries++)
	{
		uint64		seen = registry_invalidations;
		MemoryContext cxt;
		Registry   *fresh;
		Registry   *old;
		Snapshot	snapshot;

		/* what was read just now is not older than this call, whatever is being changed meanwhile */
		if (tries == READS_MAX)
			break;

		auth_relid = caller_auth_users_relid(true);
		registry_relid = get_relname_relid("target", caller_extension_schema());
		mapping_relid = get_relname_relid("mapping", caller_extension_schema());

		cxt = AllocSetContextCreate(CurrentMemoryContext, "invite_sync registry",
									ALLOCSET_SMALL_SIZES);
		fresh = MemoryContextAllocZero(cxt, sizeof(Registry));
		fresh->cxt = cxt;
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		read_registry(fresh, snapshot);
		UnregisterSnapshot(snapshot);

		/* valid last: an error above leaves the old one, marked stale */
		MemoryContextSetParent(cxt, TopMemoryContext);
		old = sync_registry;
		sync_registry = fresh;
		registry_valid_at = seen;
		free_registry(old);
	}
	return sync_registry;
}

void
sync_load_registry(void *arg)
{
	Relation	auth = (Relation) arg;
	Registry   *reg = get_registry();

	if (auth != NULL)
		resolve_attributes(reg, auth);
}

static void
load_registry_bounded(void *arg)
{
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	sync_load_registry(arg);
	AtEOXact_GUC(false, guc_level);
}

/*
 * The registry for a trigger, or NULL with a WARNING: objects of another
 * version of the extension, or an auth.users without an id, must not fail a
 * signup. What is missed so is found by sync_status().
 */
Registry *
sync_registry_for_trigger(Relation auth)
{
	Failure    *failure;

	AcceptInvalidationMessages();
	if (sync_registry != NULL && registry_valid_at == registry_invalidations &&
		sync_registry->auth_seen == auth_invalidations &&
		sync_registry->id_att != InvalidAttrNumber)
		return sync_registry;

	if (sync_run_contained(load_registry_bounded, auth, true, &failure))
		return sync_registry;

	/* better what was true a moment ago than to lose sight of the user */
	if (sync_registry != NULL && sync_registry->id_att != InvalidAttrNumber &&
		sync_registry->auth_seen == auth_invalidations)
		return sync_registry;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("registry of invite_sync cannot be read, nothing is synced"),
			 errdetail("SQLSTATE %s: %s", unpack_sql_state(failure->sqlerrcode),
					   failure->edata->message),
			 errhint("Do library and extension have the same version? See invite_sync.verify()."),
			 errhidestmt(true), errhidecontext(true)));
	return NULL;
}

/*
 * The registry for who called us. Where it is another version's that says more
 * than which column is missing.
 */
void
sync_load_registry_for_caller(ContainedFn fn, void *arg)
{
	Failure    *failure;

	if (sync_run_contained(fn, arg, true, &failure))
		return;
	if (ERRCODE_TO_CATEGORY(failure->sqlerrcode) != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
		ReThrowError(plan_lasting(failure->edata));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the registry of invite_sync cannot be read"),
			 errdetail("%s", sync_failure_detail(failure)),
			 errhint("Do library and extension have the same version? ALTER EXTENSION invite_sync UPDATE; else SELECT * FROM invite_sync.verify();")));
}

Target *
sync_find_target(Registry *reg, int64 id)
{
	for (int i = 0; i < reg->ntargets; i++)
		if (reg->targets[i].id == id)
			return &reg->targets[i];
	return NULL;
}

/* The targets a call is about, by id: the registry may be replaced under way. */
int64 *
sync_select_targets(Oid relid, int *ntargets)
{
	Registry   *reg;
	int64	   *ids;

	sync_load_registry_for_caller(sync_load_registry, NULL);
	reg = sync_registry;
	ids = palloc(sizeof(int64) * Max(reg->ntargets, 1));
	*ntargets = 0;
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];

		if (OidIsValid(relid) ? t->relid == relid : t->enabled)
			ids[(*ntargets)++] = t->id;
	}
	if (OidIsValid(relid) && *ntargets == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s is not a target",
						get_rel_name(relid) ?
						quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid)) : "relation"),
				 errhint("Add it: SELECT * FROM invite_sync.add_target('schema.table').")));
	return ids;
}

Relation
sync_open_auth_users(LOCKMODE lockmode)
{
	return table_open(caller_auth_users_relid(false), lockmode);
}

/* ---------------------------------------------------------------------
 * Load
 * ---------------------------------------------------------------------
 */

void
sync_init(void)
{
	CacheRegisterRelcacheCallback(sync_relcache_callback, (Datum) 0);
	RegisterXactCallback(sync_forget_nested, NULL);
	event_ensure_user_hook = sync_ensure_rows;
}
