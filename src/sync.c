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
 * From top to bottom: the registry of targets as each backend knows it; the
 * kept statements of a target; running them for a batch of users and finding
 * the bad ones; the three triggers; the roads that are not triggers; the
 * configuring calls; status and verification.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>
#include <math.h>

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_oper.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "caller.h"
#include "event.h"
#include "module.h"
#include "plan.h"
#include "quarantine.h"
#include "sync.h"

/* The one name under which every road hands users to the kept statements. */
#define SOURCE_NAME		"source_users"

/* Ids alone, for questions about keys that need no expression. */
#define IDS_NAME		"source_ids"

/* The first identity of each user, for mappings that name it. */
#define IDENTITIES_NAME	"source_identities"
#define IDENTITY_JOIN \
	" LEFT JOIN " IDENTITIES_NAME " AS identity ON identity.user_id = users.id"

/* Targets that write to auth.users again lead back here; stop before the stack does. */
#define MAX_SYNC_NESTING	8

/* A search for bad rows gives up after so many tries, or so long. */
#define MAX_TRIES		1000
#define SEARCH_MS		2000
#define FIRST_CHUNK		256
#define MAX_CHUNK		2048

/* Of a contained error's message, detail and context so much is kept. */
#define ERROR_TEXT_BYTES	1024

/* Somebody has to prove an address before anything can be written for them. */
#define ERRCODE_LINK_PENDING	MAKE_SQLSTATE('I', 'S', '0', '0', '1')

/* Users locked at once by the roads that are not a trigger. */
#define MAX_LOCK_BATCH	1000

typedef enum UpdatePolicy
{
	POLICY_ALWAYS,
	POLICY_IF_NULL,
	POLICY_NEVER
} UpdatePolicy;

typedef enum OnDelete
{
	ON_DELETE_NONE,
	ON_DELETE_DELETE,
	ON_DELETE_DEACTIVATE
} OnDelete;

typedef struct MapColumn
{
	char	   *name;			/* of the target's column */
	char	   *expression;
	UpdatePolicy policy;
	int			nsources;
	char	  **sources;		/* columns of auth.users it reads */
} MapColumn;

typedef struct DeferredConstraint
{
	char	   *schema;
	char	   *name;
	bool		redefer;		/* can be set DEFERRED again by this name */
	bool		to_auth;		/* the target's own foreign key to auth.users */
} DeferredConstraint;

typedef struct Target
{
	/* as registered */
	int64		id;
	Oid			relid;
	char	   *schema;			/* the remembered name */
	char	   *table;
	char	   *key;
	OnDelete	on_delete;
	bool		on_error_raise;
	bool		enabled;
	char	   *link_by;
	char	   *search_path;
	char	   *definer;
	bool		same_database;	/* the number is true here */
	bool		stamped;		/* and was written down here */
	int			ncolumns;
	MapColumn  *columns;

	/* attribute numbers of auth.users whose change matters to this target */
	Bitmapset  *watch;
	bool		uses_identity;	/* the mapping names identity_provider or identity_provider_id */

	/* what was built from the catalogs, good while built_at == invalidations */
	uint64		invalidations;	/* only the relcache callback writes it */
	uint64		built_at;
	bool		built;
	Oid			owner;
	MemoryContext home;			/* parent of the next one */
	MemoryContext cxt;			/* of what follows */
	char	   *insert_sql;
	char	   *update_sql;		/* NULL: no column may be updated */
	char	   *missing_sql;
	char	   *check_sql;
	char	   *candidates_sql; /* run once, over source_ids */
	char	   *claim_sql;		/* with link_by only */
	char	   *pending_sql;
	char	   *report_sql;
	char	   *always_columns; /* array literals, for overwrite */
	char	   *updatable_columns;
	SPIPlanPtr	insert_plan;
	SPIPlanPtr	update_plan;
	SPIPlanPtr	missing_plan;
	SPIPlanPtr	check_plan;
	SPIPlanPtr	claim_plan;
	SPIPlanPtr	pending_plan;
	int			ndeferred;
	DeferredConstraint *deferred;
} Target;

typedef struct Registry
{
	MemoryContext cxt;
	int			ntargets;
	Target	   *targets;
	uint64		auth_seen;		/* auth_invalidations when attnums were looked up */
	AttrNumber	id_att;
	AttrNumber	deleted_att;	/* may be missing in a small auth schema */
	AttrNumber	copy_att;		/* raw_app_meta_data, where our copy is */
	Bitmapset  *watch_all;		/* what the targets and deletion depend on */
	Bitmapset  *watch_any;		/* the same and what the listeners do */
} Registry;

static Registry *registry = NULL;
static uint64 registry_valid_at = 0;	/* 0: never loaded */
static uint64 registry_invalidations = 1;
static uint64 auth_invalidations = 1;
static Oid	registry_relid = InvalidOid;
static Oid	mapping_relid = InvalidOid;
static Oid	auth_relid = InvalidOid;
static int	sync_nesting = 0;

typedef enum WorkMode
{
	WORK_INSERT,				/* a signup: plain insert */
	WORK_FILL,					/* update, then insert what is missing */
	WORK_REMOVE					/* on_delete */
} WorkMode;

/* A batch of users for one target. */
typedef struct Work
{
	Target	   *target;
	Relation	auth;			/* auth.users, locked; NULL for WORK_REMOVE */
	AttrNumber	id_att;
	WorkMode	mode;
	Tuplestorestate *single;	/* a row a user */
	Tuplestorestate *pairs;		/* OLD, NEW; NULL: made of single twice */
	pg_uuid_t  *ids;			/* filled when needed */
	int64		nrows;
	ArrayType  *overwrite;		/* text[] of target columns, or NULL */
	bool		known_missing;	/* nobody of them has a row: skip the update */
	bool		may_raise;		/* a trigger: the owner may want the error */
	bool		rebuilt;		/* the statements were made in this attempt */
	bool		again;			/* a retry, perhaps long after */
	bool		made;			/* their rows of auth.users are made just now */

	bool		leave_deferred; /* do not check deferred constraints first */

	/* progress, for finding the bad row */
	int			stage;			/* -1 setting constraints, 1 not the last statement, 2 the last */
	Tuplestorestate *scanned;	/* what the statement was reading */

	/* outcome */
	const Failure **failures;	/* per row, NULL where it succeeded; NULL: all did */
	int64		nfailed;
} Work;

PG_FUNCTION_INFO_V1(sync_registry_changed);
PG_FUNCTION_INFO_V1(sync_on_insert);
PG_FUNCTION_INFO_V1(sync_on_update);
PG_FUNCTION_INFO_V1(sync_on_delete);
PG_FUNCTION_INFO_V1(sync_on_identity);

static void apply_work(Work *work);
static void load_registry_for_caller(ContainedFn fn, void *arg);
static void need_ids(Work *work);
static Relation open_auth_users(LOCKMODE lockmode);
static int64 settle_outcomes(int64 target_id, const SyncOutcome *outcomes, int n, ArrayType *overwrite);
static bool attributes_differ(TupleTableSlot *old, TupleTableSlot *new, const Bitmapset *atts,
							  Bitmapset **which);
static bool has_key_index(Relation rel, AttrNumber attnum);
static void refuse_null(bool isnull, const char *argument);
static void check_target_kind(Relation rel);
static bool read_one_row(Relation auth, const pg_uuid_t *id, TupleTableSlot *slot);

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
		ReThrowError(edata);
	*failure = palloc(sizeof(Failure));
	(*failure)->edata = edata;
	(*failure)->sqlerrcode = edata->sqlerrcode;
	return false;
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
	if (registry != NULL)
	{
		for (int i = 0; i < registry->ntargets; i++)
		{
			if (relid == InvalidOid || registry->targets[i].relid == relid)
				registry->targets[i].invalidations++;
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

static UpdatePolicy
policy_from_text(const char *s)
{
	if (strcmp(s, "always") == 0)
		return POLICY_ALWAYS;
	if (strcmp(s, "if_null") == 0)
		return POLICY_IF_NULL;
	return POLICY_NEVER;
}

static const char *
policy_to_text(UpdatePolicy policy)
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

static OnDelete
on_delete_from_text(const char *s)
{
	if (strcmp(s, "delete") == 0)
		return ON_DELETE_DELETE;
	if (strcmp(s, "deactivate") == 0)
		return ON_DELETE_DEACTIVATE;
	return ON_DELETE_NONE;
}

static bool
reads_identity(const MapColumn *mc)
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
			target->on_delete = on_delete_from_text(get_text(tuple, desc, 6));
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
			mc->policy = policy_from_text(get_text(tuple, desc, 15));
			sources = SPI_getbinval(tuple, desc, 16, &isnull);
			if (!isnull)
			{
				deconstruct_array(DatumGetArrayTypeP(sources), NAMEOID, NAMEDATALEN,
								  false, TYPALIGN_CHAR, &elems, &nulls, &n);
				mc->sources = palloc(sizeof(char *) * Max(n, 1));
				for (int j = 0; j < n; j++)
					mc->sources[mc->nsources++] = pstrdup(NameStr(*DatumGetName(elems[j])));
				if (reads_identity(mc))
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

		if (tries > 100)
			elog(ERROR, "registry of invite_sync keeps changing");

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
		old = registry;
		registry = fresh;
		registry_valid_at = seen;
		free_registry(old);
	}
	return registry;
}

/* ---------------------------------------------------------------------
 * The kept statements of a target
 * ---------------------------------------------------------------------
 */

/* What the target is called now; the remembered name where it is gone. */
static const char *
target_display(const Target *t)
{
	char	   *table = t->same_database && OidIsValid(t->relid) ? get_rel_name(t->relid) : NULL;
	char	   *schema = table ? get_namespace_name(get_rel_namespace(t->relid)) : NULL;

	if (schema != NULL)
		return quote_qualified_identifier(schema, table);
	return quote_qualified_identifier(t->schema, t->table);
}

/*
 * Find the relation that this target means now. While it exists under its
 * number that number leads, whatever it is called; a number that came with a
 * dump is only believed where the name agrees. When it is gone, a table that
 * took its name takes its place.
 */
static Relation
open_target(Target *t, LOCKMODE lockmode)
{
	Relation	rel = NULL;

	if (OidIsValid(t->relid))
	{
		rel = try_relation_open(t->relid, lockmode);
		if (rel != NULL && !t->same_database)
		{
			char	   *nsp = get_namespace_name(RelationGetNamespace(rel));

			if (nsp == NULL || strcmp(nsp, t->schema) != 0 ||
				strcmp(RelationGetRelationName(rel), t->table) != 0)
			{
				relation_close(rel, lockmode);
				rel = NULL;
			}
		}
	}
	if (rel == NULL)
	{
		Oid			nsp = get_namespace_oid(t->schema, true);
		Oid			relid = OidIsValid(nsp) ? get_relname_relid(t->table, nsp) : InvalidOid;

		if (OidIsValid(relid))
			rel = try_relation_open(relid, lockmode);
		if (rel == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("target %s does not exist", target_display(t)),
					 errhint("Create it again, or forget it with invite_sync.drop_target().")));

		/* it takes the place of the other only if it fits */
		if (relid != t->relid)
		{
			int			att = SPI_fnumber(RelationGetDescr(rel), t->key);

			for (int i = 0; registry != NULL && i < registry->ntargets; i++)
				if (registry->targets[i].id != t->id && registry->targets[i].relid == relid &&
					registry->targets[i].same_database)
					ereport(ERROR,
							(errcode(ERRCODE_UNDEFINED_TABLE),
							 errmsg("target %s does not exist, and its name belongs to another target now",
									target_display(t)),
							 errhint("Forget it with invite_sync.drop_target().")));
			check_target_kind(rel);
			if (att <= 0 || TupleDescAttr(RelationGetDescr(rel), att - 1)->atttypid != UUIDOID ||
				!has_key_index(rel, att))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
						 errmsg("table %s was created again without a unique uuid column %s",
								target_display(t), quote_identifier(t->key)),
						 errhint("Add it, or call invite_sync.set_target() with another key.")));
		}
		t->relid = relid;
	}
	return rel;
}

/*
 * What a table must be to be written by us. Named one by one, since each has
 * another remedy.
 */
static void
check_target_kind(Relation rel)
{
	const char *why = NULL;
	const char *hint = NULL;
	char	   *nsp = get_namespace_name_or_temp(RelationGetNamespace(rel));

	if (rel->rd_rel->relkind == RELKIND_VIEW || rel->rd_rel->relkind == RELKIND_MATVIEW)
	{
		why = "it is a view";
		hint = "Name the table under the view.";
	}
	else if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
	{
		why = "it is a foreign table";
		hint = "Sync to a local table, and copy from there.";
	}
	else if (rel->rd_rel->relkind != RELKIND_RELATION &&
			 rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
	{
		why = "it is not a table";
		hint = "A target is an ordinary or a partitioned table.";
	}
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
	{
		why = "it is a temporary table";
		hint = "Other sessions cannot write to it; create a permanent table.";
	}
	else if (nsp != NULL && (strcmp(nsp, "auth") == 0 || strcmp(nsp, "invite_sync") == 0))
	{
		why = "it belongs to the auth server or to this extension";
		hint = "Name a table of your application, for example public.profiles.";
	}
	else if (IsSystemRelation(rel) ||
			 (nsp != NULL && (strcmp(nsp, "information_schema") == 0 ||
							  strncmp(nsp, "pg_", 3) == 0)))
	{
		why = "it is a system table";
		hint = "Name a table of your application, for example public.profiles.";
	}
	else if (OidIsValid(getExtensionOfObject(RelationRelationId, RelationGetRelid(rel))))
	{
		why = "it belongs to an extension";
		hint = "Name a table of your application, for example public.profiles.";
	}
	else if (rel->rd_rel->relispartition)
	{
		why = "it is a partition";
		hint = "Name the partitioned table above it.";
	}
	else if (rel->rd_rules != NULL)
	{
		why = "it has rules";
		hint = "Replace the rules by triggers.";
	}
	else if (rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rel->relhassubclass &&
			 has_subclass(RelationGetRelid(rel)) &&
			 find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
	{
		why = "other tables inherit from it";
		hint = "Use a partitioned table, or a table without children.";
	}

	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s cannot be a target: %s",
						quote_qualified_identifier(nsp, RelationGetRelationName(rel)), why),
				 errhint("%s", hint)));
}

/*
 * Is there a unique index that ON CONFLICT (key) can rest on? A deferrable one
 * on the same column spoils it: PostgreSQL then takes neither.
 */
static bool
has_key_index(Relation rel, AttrNumber attnum)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	bool		found = false;
	bool		spoiled = false;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisunique && form->indisvalid &&
			form->indnkeyatts == 1 && form->indkey.values[0] == attnum &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL))
		{
			if (form->indimmediate)
				found = true;
			else
				spoiled = true;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found && !spoiled;
}

/* May this mapping still write to the table, or has it passed to others? */
static void
check_definer(const Target *t, Oid owner)
{
	Oid			definer = get_role_oid(t->definer, true);

	if (!OidIsValid(definer) || !has_privs_of_role(definer, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\", who defined the mapping, is not a member of the owner of %s",
						t->definer, target_display(t)),
				 errhint("Let a member of the table's owner call invite_sync.set_target().")));
}

/*
 * Whoever may create a trigger on the table would run as its owner inside
 * every signup; so the owner must not be a superuser.
 */
static void
check_owner(Oid owner, const char *display)
{
	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s belongs to a superuser", display),
				 errdetail("Its defaults and triggers would run as that superuser inside every signup."),
				 errhint("Give it to the application's role: ALTER TABLE %s OWNER TO ...;", display)));
}

typedef struct ColumnText
{
	char	   *quoted;
	char	   *cast;			/* type without modifier: a too long value must fail */
	char	   *full;			/* type with modifier, for comparing */
	char	   *collate;		/* "" or COLLATE clause */
	bool		comparable;
	char	   *fallback;		/* default expression, or NULL */
	MapColumn  *map;
	char	   *literal;		/* the column's name as a literal */
} ColumnText;

static void
append_difference(StringInfo buf, const ColumnText *c, int i)
{
	if (c->comparable)
		appendStringInfo(buf, "(s.c%d)::%s%s IS DISTINCT FROM t.%s",
						 i, c->full, c->collate, c->quoted);
	else
		appendStringInfo(buf, "(s.c%d)::%s::pg_catalog.text IS DISTINCT FROM t.%s::pg_catalog.text",
						 i, c->full, c->quoted);
}

/*
 * When may column i be set over a row that exists? with_old: s.o<i> holds the
 * expression's value before the UPDATE of auth.users.
 */
static void
append_condition(StringInfo buf, const ColumnText *c, int i, bool with_old)
{
	appendStringInfo(buf, "(s.c%d IS NOT NULL AND (t.%s IS NULL OR %s OPERATOR(pg_catalog.=) ANY ($1)",
					 i, c->quoted, c->literal);
	if (with_old && c->map->policy == POLICY_ALWAYS)
	{
		if (c->comparable)
			appendStringInfo(buf, " OR s.c%d IS DISTINCT FROM s.o%d", i, i);
		else
			appendStringInfo(buf, " OR s.c%d::pg_catalog.text IS DISTINCT FROM s.o%d::pg_catalog.text", i, i);
	}
	appendStringInfoString(buf, "))");
}

/* Addresses are compared trimmed, with ASCII letters folded and no others. */
#define FOLD(column) \
	"pg_catalog.lower(pg_catalog.btrim(" column "::pg_catalog.text) COLLATE pg_catalog.\"C\")"

/* May this column hold an address, or what else auth.users knows of somebody? */
static bool
holds_user_data(const Target *t, const char *column)
{
	if (t->link_by != NULL && strcmp(column, t->link_by) == 0)
		return true;
	for (int i = 0; i < t->ncolumns; i++)
		if (strcmp(column, t->columns[i].name) == 0)
			return true;
	return false;
}

/*
 * What names a row of the target in an event: its primary key, as text, but for
 * what an event must not show.
 */
static char *
primary_key_text(const Target *t, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	StringInfoData buf;

	initStringInfo(&buf);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisprimary)
			for (int i = 0; i < index->rd_index->indnkeyatts; i++)
			{
				char	   *column = NameStr(TupleDescAttr(RelationGetDescr(rel),
														   index->rd_index->indkey.values[i] - 1)->attname);

				if (!holds_user_data(t, column))
					appendStringInfo(&buf, "%st.%s::pg_catalog.text", buf.len > 0 ? ", " : "",
									 quote_identifier(column));
			}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (buf.len == 0)
		return psprintf("t.%s::pg_catalog.text", quote_identifier(t->key));
	return psprintf("pg_catalog.concat_ws(',', %s)", buf.data);
}

/* ", x.email, x.phone": the columns of auth.users that the mapping reads. */
static char *
source_columns(const Target *t)
{
	StringInfoData buf;
	List	   *seen = NIL;

	initStringInfo(&buf);
	for (int c = 0; c < t->ncolumns; c++)
	{
		bool		identity = reads_identity(&t->columns[c]);

		for (int s = 0; s < t->columns[c].nsources; s++)
		{
			char	   *name = t->columns[c].sources[s];
			ListCell   *lc;
			bool		known = strcmp(name, "id") == 0 ||
				(identity && (strcmp(name, "identity_provider") == 0 ||
							  strcmp(name, "identity_provider_id") == 0));

			foreach(lc, seen)
				known = known || strcmp((char *) lfirst(lc), name) == 0;
			if (known)
				continue;
			seen = lappend(seen, name);
			appendStringInfo(&buf, ", x.%s", quote_identifier(name));
		}
	}
	return buf.data;
}

/*
 * Is "=" under the target's search_path what the type itself means by it? Else,
 * or where it has none, values are compared as text.
 */
static bool
is_comparable(Oid type)
{
	Oid			eq_opr = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	Operator	op;
	bool		result;

	if (!OidIsValid(eq_opr))
		return false;
	op = oper(NULL, list_make1(makeString("=")), type, type, true, -1);
	if (op == NULL)
		return false;
	result = oprid(op) == eq_opr;
	ReleaseSysCache(op);
	return result;
}

/*
 * Build the texts of the kept statements. Runs in the target's scope, whose
 * search_path decides how defaults and types are spelled.
 */
static void
build_statements(Target *t, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel));
	const char *key = quote_identifier(t->key);
	List	   *context = deparse_context_for(RelationGetRelationName(rel), RelationGetRelid(rel));
	ColumnText *cols = palloc0(sizeof(ColumnText) * Max(t->ncolumns, 1));
	int			ncols = 0;
	StringInfoData source,
				names,
				values,
				sets,
				changes,
				differs,
				olds,
				empties,
				report,
				numbered,
				buf;
	ArrayBuildState *always = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ArrayBuildState *updatable = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	char	   *always_text;
	char	   *updatable_text;
	MemoryContext old;

	for (int i = 0; i < t->ncolumns; i++)
	{
		MapColumn  *mc = &t->columns[i];
		int			attnum = SPI_fnumber(desc, mc->name);
		Form_pg_attribute att;
		ColumnText *c;
		Node	   *def;

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of target %s does not exist", mc->name, name),
					 err_generic_string(PG_DIAG_COLUMN_NAME, mc->name),
					 errhint("Add the column, or leave it out with invite_sync.set_target(target, mapping => ...).")));
		att = TupleDescAttr(desc, attnum - 1);

		/* PostgreSQL computes these itself */
		if (att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			continue;

		c = &cols[ncols++];
		c->map = mc;
		c->quoted = pstrdup(quote_identifier(mc->name));
		c->literal = quote_literal_cstr(mc->name);
		c->cast = format_type_extended(att->atttypid, -1,
									   FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
		c->full = format_type_extended(att->atttypid, att->atttypmod,
									   FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
		c->comparable = is_comparable(att->atttypid);
		c->collate = "";
		if (OidIsValid(att->attcollation))
		{
			HeapTuple	coll = SearchSysCache1(COLLOID, ObjectIdGetDatum(att->attcollation));

			if (HeapTupleIsValid(coll))
			{
				Form_pg_collation form = (Form_pg_collation) GETSTRUCT(coll);

				c->collate = psprintf(" COLLATE %s",
									  quote_qualified_identifier(get_namespace_name(form->collnamespace),
																 NameStr(form->collname)));
				ReleaseSysCache(coll);
			}
		}
		/* a NULL from the expression must not displace the column's default */
		def = build_column_default(rel, attnum);
		if (def != NULL)
			c->fallback = deparse_expression(def, context, false, false);
	}

	initStringInfo(&source);
	initStringInfo(&names);
	initStringInfo(&values);
	initStringInfo(&sets);
	initStringInfo(&changes);
	initStringInfo(&differs);
	initStringInfo(&olds);
	initStringInfo(&empties);
	initStringInfo(&report);

	appendStringInfoString(&source, "SELECT users.id AS k");
	appendStringInfoString(&names, key);
	appendStringInfoString(&values, "s.k");
	for (int i = 0; i < ncols; i++)
	{
		ColumnText *c = &cols[i];

		/* the newline ends a comment that the expression may end with */
		appendStringInfo(&source, ", ((%s\n)::%s%s) AS c%d",
						 c->map->expression, c->cast, c->collate, i);
		appendStringInfo(&names, ", %s", c->quoted);
		if (c->fallback != NULL)
			appendStringInfo(&values, ", coalesce(s.c%d, %s)", i, c->fallback);
		else
			appendStringInfo(&values, ", s.c%d", i);

		appendStringInfo(&report, "%s(%s, t.%s::pg_catalog.text, s.c%d::pg_catalog.text, ",
						 report.len > 0 ? ", " : "", c->literal, c->quoted, i);
		append_difference(&report, c, i);
		appendStringInfo(&report, ", CASE WHEN t.%s IS NULL AND '%s' <> 'never' THEN 'filled' WHEN '%s' = 'always' THEN 'overwritten' ELSE 'kept' END)",
						 c->quoted, policy_to_text(c->map->policy), policy_to_text(c->map->policy));

		if (c->map->policy == POLICY_NEVER)
			continue;
		appendStringInfo(&empties, " OR t.%s IS NULL", c->quoted);
		accumArrayResult(updatable, CStringGetTextDatum(c->map->name), false, TEXTOID, CurrentMemoryContext);
		if (c->map->policy == POLICY_ALWAYS)
			accumArrayResult(always, CStringGetTextDatum(c->map->name), false, TEXTOID, CurrentMemoryContext);
		if (sets.len > 0)
		{
			appendStringInfoString(&sets, ", ");
			appendStringInfoString(&changes, " OR ");
			appendStringInfoString(&differs, " OR ");
		}
		appendStringInfo(&sets, "%s = CASE WHEN ", c->quoted);
		append_condition(&sets, c, i, true);
		appendStringInfo(&sets, " THEN s.c%d ELSE t.%s END", i, c->quoted);

		appendStringInfoChar(&changes, '(');
		append_condition(&changes, c, i, true);
		appendStringInfoString(&changes, " AND ");
		append_difference(&changes, c, i);
		appendStringInfoChar(&changes, ')');

		appendStringInfoChar(&differs, '(');
		append_condition(&differs, c, i, false);
		appendStringInfoString(&differs, " AND ");
		append_difference(&differs, c, i);
		appendStringInfoChar(&differs, ')');

		if (c->map->policy == POLICY_ALWAYS)
			appendStringInfo(&olds, ", pg_catalog.lag(p.c%d) OVER (%s) AS o%d", i,
							 t->uses_identity ? "ORDER BY p.n" : "", i);
	}
	if (t->uses_identity)
	{
		/* a join loses the order of OLD and NEW, so they are numbered before it */
		initStringInfo(&numbered);
		appendStringInfo(&numbered, "%s, users.n FROM (SELECT x.id%s, pg_catalog.row_number() OVER () AS n FROM %s AS x) AS users" IDENTITY_JOIN,
						 source.data, source_columns(t), SOURCE_NAME);
	}
	appendStringInfo(&source, " FROM %s AS users%s", SOURCE_NAME,
					 t->uses_identity ? IDENTITY_JOIN : "");

	always_text = OidOutputFunctionCall(F_ARRAY_OUT, makeArrayResult(always, CurrentMemoryContext));
	updatable_text = OidOutputFunctionCall(F_ARRAY_OUT, makeArrayResult(updatable, CurrentMemoryContext));

	old = MemoryContextSwitchTo(t->cxt);
	t->always_columns = pstrdup(always_text);
	t->updatable_columns = pstrdup(updatable_text);

	t->candidates_sql = psprintf("SELECT i.id, (t.%s IS NULL) FROM %s AS i LEFT JOIN %s AS t ON t.%s = i.id "
								 "WHERE t.%s IS NULL%s",
								 key, IDS_NAME, name, key, key, empties.data);
	t->report_sql = NULL;
	if (report.len > 0)
		t->report_sql = psprintf("SELECT s.k, v.column_name, v.current_value, v.auth_value, v.verdict "
								 "FROM (%s) AS s JOIN %s AS t ON t.%s = s.k "
								 "CROSS JOIN LATERAL (VALUES %s) AS v (column_name, current_value, auth_value, differs, verdict) "
								 "WHERE v.differs AND v.auth_value IS NOT NULL",
								 source.data, name, key, report.data);

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s AS t (%s) SELECT %s FROM (%s) AS s",
					 name, names.data, values.data, source.data);
	t->insert_sql = buf.data;

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s AS t (%s) SELECT %s FROM (%s) AS s "
					 "WHERE NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.%s = s.k) "
					 "ON CONFLICT (%s) DO NOTHING",
					 name, names.data, values.data, source.data, name, key, key);
	t->missing_sql = buf.data;

	t->update_sql = NULL;
	if (sets.len > 0)
	{
		/* source_users holds OLD and NEW of each user in turn; keep NEW */
		initStringInfo(&buf);
		appendStringInfo(&buf, "UPDATE %s AS t SET %s FROM (SELECT p.*%s%s FROM (%s) AS p) AS s "
						 "WHERE s.n OPERATOR(pg_catalog.%%) 2::pg_catalog.int8 OPERATOR(pg_catalog.=) 0::pg_catalog.int8 "
						 "AND t.%s = s.k AND (%s)",
						 name, sets.data, olds.data,
						 t->uses_identity ? "" : ", pg_catalog.row_number() OVER () AS n",
						 t->uses_identity ? numbered.data : source.data, key, changes.data);
		t->update_sql = buf.data;
	}

	t->claim_sql = t->pending_sql = NULL;
	if (t->link_by != NULL)
	{
		const char *link = quote_identifier(t->link_by);
		char	   *people = psprintf("SELECT users.id AS k, " FOLD("users.email") " AS e FROM %s AS users", SOURCE_NAME);

		/* exactly one row that nobody has yet, for somebody who has none yet */
		t->claim_sql = psprintf("UPDATE %s AS t SET %s = s.k FROM (%s) AS s "
								"WHERE t.%s IS NULL AND " FOLD("t.%s") " = s.e AND s.k = ANY ($1) "
								"AND NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.%s = s.k) "
								"AND NOT EXISTS (SELECT 1 FROM %s AS y WHERE y.%s IS NULL AND " FOLD("y.%s") " = s.e AND y.ctid <> t.ctid) "
								"RETURNING t.%s, %s",
								name, key, people, key, link, name, key, name, key, link, key,
								primary_key_text(t, rel));
		t->pending_sql = psprintf("SELECT s.k = ANY ($1) FROM (%s) AS s WHERE NOT (s.k = ANY ($2)) "
								  "AND NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.%s = s.k) "
								  "AND EXISTS (SELECT 1 FROM %s AS y WHERE y.%s IS NULL AND " FOLD("y.%s") " = s.e) LIMIT 1",
								  people, name, key, name, key, link);
	}

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT s.k, (t.%s IS NULL) FROM (%s) AS s LEFT JOIN %s AS t ON t.%s = s.k "
					 "WHERE t.%s IS NULL%s%s%s",
					 key, source.data, name, key, key,
					 differs.len > 0 ? " OR (" : "", differs.data, differs.len > 0 ? ")" : "");
	t->check_sql = buf.data;

	MemoryContextSwitchTo(old);
}

static SavedPlan deferred_plan = {
	.sql = "SELECT n.nspname, c.conname, NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint AS d "
	"WHERE d.connamespace = c.connamespace AND d.conname = c.conname AND NOT d.condeferrable), "
	"c.conrelid = $1 AND c.confrelid = $2 "
	"FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace "
	"WHERE c.condeferred AND (c.conrelid = $1 OR c.confrelid = $1) ORDER BY 1, 2",
	.nargs = 2,
	.argtypes = {OIDOID, OIDOID}
};

static void
find_deferred_constraints(Target *t)
{
	Scope		scope;
	Datum		values[2];

	values[0] = ObjectIdGetDatum(t->relid);
	values[1] = ObjectIdGetDatum(caller_auth_users_relid(true));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&deferred_plan, values, NULL, true, 0);
	scope_leave(&scope);
	t->ndeferred = 0;
	t->deferred = MemoryContextAllocZero(t->cxt, sizeof(DeferredConstraint) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		DeferredConstraint *d = &t->deferred[t->ndeferred++];
		bool		isnull;

		d->schema = MemoryContextStrdup(t->cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
		d->name = MemoryContextStrdup(t->cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
		d->redefer = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		d->to_auth = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &isnull));
	}
	SPI_finish();
}

/*
 * The target's relation, checked to be one that we may write to, and who owns
 * it. Called inside the subtransaction, with lock waits bounded. When lockmode
 * is AccessShareLock nothing is going to be written (a standby allows no more).
 * The lock stays until the (sub)transaction ends.
 */
static Relation
locate_target(Target *t, LOCKMODE lockmode)
{
	Relation	rel = open_target(t, lockmode);

	check_target_kind(rel);
	t->owner = rel->rd_rel->relowner;
	check_owner(t->owner, target_display(t));
	check_definer(t, t->owner);
	return rel;
}

/* Make the kept statements, if anything about the table has changed since. */
static void
prepare_target(Target *t, LOCKMODE lockmode)
{
	Relation	rel;
	Scope		scope;
	uint64		seen;

	if (t->built && t->built_at == t->invalidations)
	{
		/* memberships and attributes of roles change without a word */
		check_owner(t->owner, t->table);
		check_definer(t, t->owner);
		return;
	}

	rel = locate_target(t, lockmode);
	seen = t->invalidations;

	t->built = false;
	plan_retire(t->insert_plan);
	plan_retire(t->update_plan);
	plan_retire(t->missing_plan);
	plan_retire(t->check_plan);
	plan_retire(t->claim_plan);
	plan_retire(t->pending_plan);
	t->insert_plan = t->update_plan = t->missing_plan = t->check_plan = NULL;
	t->claim_plan = t->pending_plan = NULL;
	if (t->cxt != NULL)
		plan_retire_context(t->cxt);
	t->cxt = NULL;
	t->cxt = AllocSetContextCreate(t->home, "invite_sync target", ALLOCSET_SMALL_SIZES);

	find_deferred_constraints(t);
	scope_enter_target(&scope, t->owner, t->search_path);
	build_statements(t, rel);
	scope_leave(&scope);

	relation_close(rel, NoLock);
	t->built_at = seen;
	t->built = true;
}

/* ---------------------------------------------------------------------
 * Running the statements for a batch
 * ---------------------------------------------------------------------
 */

static const Oid overwrite_argtypes[] = {TEXTARRAYOID};
static const Oid claim_argtypes[] = {UUIDARRAYOID, UUIDARRAYOID};
static const Oid remove_argtypes[] = {UUIDARRAYOID};

/*
 * Make source_users known to the SPI connection. The row type is that of
 * auth.users as stored, dropped columns included, and the estimate is always
 * one row: a kept plan would remember the first batch's size for ever.
 */
static void
register_source(EphemeralNamedRelation enr, Relation auth, Tuplestorestate *store)
{
	int			rc;

	memset(enr, 0, sizeof(*enr));
	enr->md.name = SOURCE_NAME;
	enr->md.reliddesc = RelationGetRelid(auth);
	enr->md.tupdesc = NULL;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = 1;
	enr->reldata = store;
	rc = SPI_register_relation(enr);
	if (rc != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(rc));
}

static bool
is_secret_column(const char *name)
{
	return strcmp(name, "encrypted_password") == 0 ||
		strcmp(name, "email_change") == 0 ||
		strcmp(name, "phone_change") == 0 ||
		strstr(name, "_token") != NULL;
}

typedef struct SecretCheck
{
	List	   *queries;		/* innermost first */
	TupleDesc	auth;
} SecretCheck;

static bool
secret_walker(Node *node, void *context)
{
	SecretCheck *check = (SecretCheck *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		check->queries = lcons(node, check->queries);
		(void) query_tree_walker((Query *) node, secret_walker, context, QTW_IGNORE_JOINALIASES);
		check->queries = list_delete_first(check->queries);
		return false;
	}
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		Query	   *query = (Query *) list_nth(check->queries, var->varlevelsup);

		if (rt_fetch(var->varno, query->rtable)->rtekind == RTE_NAMEDTUPLESTORE &&
			strcmp(rt_fetch(var->varno, query->rtable)->enrname, SOURCE_NAME) == 0 &&
			(var->varattno <= 0 ||
			 is_secret_column(NameStr(TupleDescAttr(check->auth, var->varattno - 1)->attname))))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("a mapping reads a secret of auth.users")));
		return false;
	}
	return expression_tree_walker(node, secret_walker, context);
}

static void
check_no_secrets(Query *query, TupleDesc auth)
{
	SecretCheck check = {NIL, auth};

	(void) secret_walker((Node *) query, &check);
}

/*
 * Make a kept statement, and look once more at what it reads: the mapping was
 * checked when it was defined, the text is what runs.
 */
static SPIPlanPtr
make_kept(const char *sql, int nargs, TupleDesc auth)
{
	SPIPlanPtr	plan = plan_make(sql, nargs, overwrite_argtypes);

	PG_TRY();
	{
		check_no_secrets(plan_query(plan), auth);
	}
	PG_CATCH();
	{
		plan_retire(plan);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return plan;
}

/* The same for the two statements of link_by. */
static SPIPlanPtr
make_claim(const char *sql, int nargs, TupleDesc auth)
{
	SPIPlanPtr	plan = plan_make(sql, nargs, claim_argtypes);

	check_no_secrets(plan_query(plan), auth);
	return plan;
}

static SavedPlan identities_plan = {
	.sql = "SELECT DISTINCT ON (i.user_id) i.user_id, i.provider::pg_catalog.text, i.provider_id::pg_catalog.text "
	"FROM auth.identities AS i WHERE i.user_id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY i.user_id, i.created_at, i.id",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

typedef struct Identities
{
	Tuplestorestate *store;		/* NULL: the target asks for none */
	TupleDesc	desc;
	EphemeralNamedRelationData enr;
} Identities;

/*
 * The first identity of every user in the rows. Read in the auth scope, before
 * the target's is entered.
 */
static void
load_identities(const Target *t, Relation auth, Tuplestorestate *rows, bool read_only,
				Identities *ident)
{
	int			id_att = SPI_fnumber(RelationGetDescr(auth), "id");
	TupleTableSlot *slot;
	pg_uuid_t  *ids;
	int64		n = 0;
	int64		max;
	Scope		scope;
	Datum		args[1];
	MemoryContext cxt = CurrentMemoryContext;

	memset(ident, 0, sizeof(*ident));
	if (!t->uses_identity)
		return;
	max = tuplestore_tuple_count(rows);
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * Max(max, 1));
	slot = MakeSingleTupleTableSlot(RelationGetDescr(auth), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(rows, 0);
	tuplestore_rescan(rows);
	while (n < max && tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool		isnull;

		ids[n++] = *DatumGetUUIDP(slot_getattr(slot, id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(slot);

	ident->desc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(ident->desc, 1, "user_id", UUIDOID, -1, 0);
	TupleDescInitEntry(ident->desc, 2, "identity_provider", TEXTOID, -1, 0);
	TupleDescInitEntry(ident->desc, 3, "identity_provider_id", TEXTOID, -1, 0);
	ident->store = tuplestore_begin_heap(false, false, work_mem);
	if (n == 0)
		return;
	args[0] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&identities_plan, args, NULL, read_only, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[3];
		bool		nulls[3];
		MemoryContext old = MemoryContextSwitchTo(cxt);

		for (int c = 0; c < 3; c++)
			values[c] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1, &nulls[c]);
		tuplestore_putvalues(ident->store, ident->desc, values, nulls);
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
	pfree(ids);
}

/*
 * Make them known beside the users. The estimate is high, so that the two are
 * always hashed: by nested loops a large batch would take for ever.
 */
static void
register_identities(Identities *ident)
{
	int			rc;

	if (ident->store == NULL)
		return;
	memset(&ident->enr, 0, sizeof(ident->enr));
	ident->enr.md.name = IDENTITIES_NAME;
	ident->enr.md.reliddesc = InvalidOid;
	ident->enr.md.tupdesc = ident->desc;
	ident->enr.md.enrtype = ENR_NAMED_TUPLESTORE;
	ident->enr.md.enrtuples = 1000000;
	ident->enr.reldata = ident->store;
	rc = SPI_register_relation(&ident->enr);
	if (rc != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(rc));
}

static void
end_identities(Identities *ident)
{
	if (ident->store != NULL)
		tuplestore_end(ident->store);
	ident->store = NULL;
}

/* Run one kept statement over a tuplestore, in the target's scope. */
static void
run_kept(Work *work, SPIPlanPtr *plan, const char *sql, Tuplestorestate *store,
		 bool takes_overwrite, bool read_only)
{
	EphemeralNamedRelationData enr;
	Datum		values[1];
	char		nulls[1] = {' '};
	int			rc;

	register_source(&enr, work->auth, store);
	if (*plan == NULL)
		*plan = make_kept(sql, takes_overwrite ? 1 : 0, RelationGetDescr(work->auth));
	plan_by_index(*plan);
	if (takes_overwrite)
	{
		if (work->overwrite != NULL)
			values[0] = PointerGetDatum(work->overwrite);
		else
			values[0] = PointerGetDatum(construct_empty_array(TEXTOID));
	}
	rc = SPI_execute_plan(*plan, takes_overwrite ? values : NULL,
						  takes_overwrite ? nulls : NULL, read_only, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	SPI_unregister_relation(SOURCE_NAME);
}

/* Each user twice: OLD and NEW alike, so that no source counts as changed. */
static Tuplestorestate *
double_rows(Relation auth, Tuplestorestate *single)
{
	Tuplestorestate *pairs = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(auth), &TTSOpsMinimalTuple);

	tuplestore_select_read_pointer(single, 0);
	tuplestore_rescan(single);
	while (tuplestore_gettupleslot(single, true, false, slot))
	{
		tuplestore_puttupleslot(pairs, slot);
		tuplestore_puttupleslot(pairs, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	return pairs;
}

/*
 * Constraints of the target that wait until COMMIT would fail there, out of our
 * reach, and a restricted operation may not queue them: check them now. But for
 * the foreign key to the users that are being deleted: its check is pending
 * because of the very rows that we are about to remove.
 */
static void
set_deferred(const Target *t, bool deferred, bool removing)
{
	ConstraintsSetStmt *stmt;

	if (t->ndeferred == 0)
		return;
	stmt = makeNode(ConstraintsSetStmt);
	stmt->deferred = deferred;
	for (int i = 0; i < t->ndeferred; i++)
		if ((!deferred || t->deferred[i].redefer) && !(removing && t->deferred[i].to_auth))
			stmt->constraints = lappend(stmt->constraints,
										makeRangeVar(t->deferred[i].schema, t->deferred[i].name, -1));
	if (stmt->constraints != NIL)
		AfterTriggerSetState(stmt);
}

static char *
relation_display(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static SavedPlan verified_plan = {
	.sql = "SELECT u.id FROM " CALLER_AUTH_USERS " AS u WHERE u.id OPERATOR(pg_catalog.=) ANY ($1) AND u.email IS NOT NULL "
	"AND u.email_confirmed_at IS NOT NULL AND u.deleted_at IS NULL "
	"AND (u.banned_until IS NULL OR u.banned_until OPERATOR(pg_catalog.<=) pg_catalog.now()) "
	"AND NOT u.is_anonymous "
	"AND (NOT u.is_sso_user OR EXISTS (SELECT 1 FROM auth.identities AS i JOIN auth.sso_domains AS d "
	"ON i.provider OPERATOR(pg_catalog.=) ('sso:' OPERATOR(pg_catalog.||) d.sso_provider_id::pg_catalog.text) "
	"WHERE i.user_id OPERATOR(pg_catalog.=) u.id AND pg_catalog.lower(d.domain) OPERATOR(pg_catalog.=) "
	"pg_catalog.lower(pg_catalog.split_part(u.email::pg_catalog.text, '@', 2))))",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* Of these users, those whose address is proved to be theirs. */
static ArrayType *
verified_users(const pg_uuid_t *ids, int64 n)
{
	Scope		scope;
	Datum		args[1];
	pg_uuid_t  *found;
	ArrayType  *result;
	MemoryContext cxt = CurrentMemoryContext;

	args[0] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&verified_plan, args, NULL, false, 0);
	found = MemoryContextAllocHuge(cxt, sizeof(pg_uuid_t) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		found[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	n = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	result = DatumGetArrayTypeP(plan_uuid_array(found, n));
	pfree(found);
	return result;
}

/* ---------------------------------------------------------------------
 * link_by: who may claim by the address of today
 *
 * A change of address never claims, whichever road comes after it. What tells:
 * OLD and NEW of the UPDATE; known_address, where every such UPDATE is noted
 * and, for who could not be brought into a target with link_by, a digest of
 * the address that they had then; and, of users that are not known there,
 * email_change_sent_at, which the auth server sets when a change is asked for.
 * ---------------------------------------------------------------------
 */

/*
 * SHA-256 of an address, folded as FOLD does: an address itself stands nowhere
 * of ours. Made here, since the arguments of a statement can get into the log.
 */
static Datum
address_digest(TupleTableSlot *slot, AttrNumber att)
{
	bytea	   *result = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *ctx;
	char	   *text = NULL;
	char	   *address;
	char	   *utf8;
	int			len;
	bool		isnull;
	Datum		value = slot_getattr(slot, att, &isnull);

	if (!isnull)
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(TupleDescAttr(slot->tts_tupleDescriptor, att - 1)->atttypid, &output, &varlena);
		text = OidOutputFunctionCall(output, value);
	}
	if (text == NULL)
		text = pstrdup("");
	address = text;
	while (*address == ' ')
		address++;
	len = strlen(address);
	while (len > 0 && address[len - 1] == ' ')
		len--;
	address[len] = '\0';
	for (char *c = address; *c != '\0'; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	/* the same in a copy of the database that has another encoding */
	utf8 = pg_server_to_any(address, len, PG_UTF8);

	SET_VARSIZE(result, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	ctx = pg_cryptohash_create(PG_SHA256);
	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (uint8 *) utf8, strlen(utf8)) < 0 ||
		pg_cryptohash_final(ctx, (uint8 *) VARDATA(result), PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(ctx));
	pg_cryptohash_free(ctx);
	/* there may be a million of them in a batch */
	if (utf8 != address)
		pfree(utf8);
	pfree(text);
	return PointerGetDatum(result);
}

/* Users with what is to be noted of their address, or compared with it. */
typedef struct Addresses
{
	int64		n;
	Datum	   *ids;
	Datum	   *digests;
	bool	   *changed;		/* as nulls of digests: known to have changed */
	Datum	   *former;			/* for users who get another id: the one before */
} Addresses;

static void
make_addresses(Addresses *a, int64 max)
{
	a->n = 0;
	a->ids = palloc_extended(sizeof(Datum) * Max(max, 1), MCXT_ALLOC_HUGE);
	a->digests = palloc_extended(sizeof(Datum) * Max(max, 1), MCXT_ALLOC_HUGE);
	a->changed = palloc_extended(sizeof(bool) * Max(max, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	a->former = NULL;
}

static Datum
copy_id(TupleTableSlot *slot, AttrNumber att)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	bool		isnull;

	*id = *DatumGetUUIDP(slot_getattr(slot, att, &isnull));
	return UUIDPGetDatum(id);
}

/*
 * Was a change of address asked for? By the auth server's account; whether it
 * came to it is not told. Who is made just now has changed nothing.
 */
static bool
change_asked_for(const Work *work, TupleTableSlot *slot)
{
	int			att = SPI_fnumber(RelationGetDescr(work->auth), "email_change_sent_at");

	return !work->made && att > 0 && !slot_attisnull(slot, att);
}

static SavedPlan note_failed_plan = {
	/* the first address counts, and a change that is noted stays */
	.sql = "INSERT INTO invite_sync.known_address (user_id, digest) "
	"SELECT i.user_id, i.digest FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS i (user_id, digest) "
	"ORDER BY i.user_id ON CONFLICT (user_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, BYTEAARRAYOID}
};

static SavedPlan note_changed_plan = {
	/* an id that takes the place of another: what was known of that one goes on */
	.sql = "INSERT INTO invite_sync.known_address AS k (user_id, digest) "
	"SELECT i.user_id, CASE WHEN NOT i.changed THEN a.digest END "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS i (user_id, former, changed) "
	"LEFT JOIN invite_sync.known_address AS a ON a.user_id OPERATOR(pg_catalog.=) i.former "
	"WHERE i.changed OR a.user_id IS NOT NULL ORDER BY i.user_id "
	"ON CONFLICT (user_id) DO UPDATE SET digest = NULL, noted_at = excluded.noted_at WHERE k.digest IS NOT NULL",
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID, BOOLARRAYOID}
};

static SavedPlan forget_former_plan = {
	.sql = "DELETE FROM invite_sync.known_address AS k WHERE k.user_id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"SELECT f.id FROM pg_catalog.unnest($2) AS f (id) EXCEPT SELECT i.id FROM pg_catalog.unnest($1) AS i (id)))",
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID, BOOLARRAYOID}
};

static SavedPlan forget_addresses_plan = {
	.sql = "DELETE FROM invite_sync.known_address AS k WHERE k.user_id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan known_plan = {
	/* LATERAL and LIMIT: each is looked up, whatever the statistics were */
	.sql = "SELECT i.user_id, k.same FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS i (user_id, digest) "
	"CROSS JOIN LATERAL (SELECT coalesce(a.digest OPERATOR(pg_catalog.=) i.digest, false) AS same "
	"FROM invite_sync.known_address AS a WHERE a.user_id OPERATOR(pg_catalog.=) i.user_id LIMIT 1) AS k",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, BYTEAARRAYOID}
};

static Datum
bool_array(const bool *values, int64 n)
{
	Datum	   *elems = palloc_extended(sizeof(Datum) * Max(n, 1), MCXT_ALLOC_HUGE);

	for (int64 i = 0; i < n; i++)
		elems[i] = BoolGetDatum(values[i]);
	return plan_array(elems, NULL, n, BOOLOID);
}

static void
write_addresses(void *arg)
{
	Addresses  *a = (Addresses *) arg;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	Datum		args[3];

	args[0] = plan_array(a->ids, NULL, a->n, UUIDOID);
	if (a->former != NULL)
	{
		args[1] = plan_array(a->former, NULL, a->n, UUIDOID);
		args[2] = bool_array(a->changed, a->n);
	}
	else
		args[1] = plan_array(a->digests, a->changed, a->n, BYTEAOID);
	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(a->former != NULL ? &note_changed_plan : &note_failed_plan, args, NULL, false, 0);
	if (a->former != NULL)
		plan_execute(&forget_former_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

static void
warn_not_noted(const Failure *failure)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("addresses of users could not be noted: a change of them may be missed by targets with link_by"),
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhint("Look at what holds the table invite_sync.known_address; see also invite_sync.verify()."),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * Who could not be brought into a target with link_by may claim later, but only
 * by the address of today, or in an UPDATE by the one before it.
 */
static void
collect_failed_addresses(void *arg)
{
	Work	   *work = (Work *) arg;
	TupleDesc	desc = RelationGetDescr(work->auth);
	int			email_att = SPI_fnumber(desc, "email");
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Addresses	a;

	make_addresses(&a, email_att > 0 ? work->nrows : 0);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	if (work->pairs != NULL)
	{
		tuplestore_select_read_pointer(work->pairs, 0);
		tuplestore_rescan(work->pairs);
	}
	for (int64 i = 0; email_att > 0 && i < work->nrows; i++)
	{
		if (!tuplestore_gettupleslot(work->single, true, false, slot))
			break;
		if (work->pairs != NULL)
		{
			(void) tuplestore_gettupleslot(work->pairs, true, true, old);
			(void) tuplestore_skiptuples(work->pairs, 1, true);
		}
		if (work->failures[i] == NULL)
			continue;
		a.ids[a.n] = UUIDPGetDatum(&work->ids[i]);
		a.changed[a.n] = change_asked_for(work, slot);
		a.digests[a.n] = address_digest(work->pairs != NULL ? old : slot, email_att);
		a.n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(old);
	if (a.n > 0)
		write_addresses(&a);
}

static void
note_failed_addresses(Work *work)
{
	Failure    *failure;

	if (work->target->link_by != NULL && work->mode != WORK_REMOVE && work->nfailed > 0 &&
		!sync_run_contained(collect_failed_addresses, work, true, &failure))
		warn_not_noted(failure);
}

/*
 * Every change of address that an UPDATE makes, whatever targets there are now,
 * and also while the registry cannot be read.
 */
static void
note_changed(void *arg)
{
	TriggerData *trigdata = (TriggerData *) arg;
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	int			email_att = SPI_fnumber(desc, "email");
	int			id_att = SPI_fnumber(desc, "id");
	Tuplestorestate *oldtable = trigdata->tg_oldtable;
	Tuplestorestate *newtable = trigdata->tg_newtable;
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Bitmapset  *email;
	Bitmapset  *id;
	int64		max = 0;
	Addresses	a;

	if (email_att <= 0 || id_att <= 0 || TupleDescAttr(desc, id_att - 1)->atttypid != UUIDOID)
		return;
	email = bms_make_singleton(email_att);
	id = bms_make_singleton(id_att);
	make_addresses(&a, max);
	tuplestore_select_read_pointer(oldtable, 0);
	tuplestore_rescan(oldtable);
	tuplestore_select_read_pointer(newtable, 0);
	tuplestore_rescan(newtable);
	while (tuplestore_gettupleslot(oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(newtable, true, false, new_slot))
	{
		bool		changed = attributes_differ(old_slot, new_slot, email, NULL);

		if (!changed && !attributes_differ(old_slot, new_slot, id, NULL))
			continue;
		if (a.n == max)
		{
			max = Max(16, max * 2);
			a.ids = repalloc_huge(a.ids, sizeof(Datum) * max);
			a.changed = repalloc_huge(a.changed, sizeof(bool) * max);
			a.former = a.former == NULL ? palloc(sizeof(Datum) * max) :
				repalloc_huge(a.former, sizeof(Datum) * max);
		}
		a.ids[a.n] = copy_id(new_slot, id_att);
		a.former[a.n] = copy_id(old_slot, id_att);
		a.changed[a.n] = changed;
		a.n++;
	}
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
	if (a.n > 0)
		write_addresses(&a);
}

static void
note_changed_addresses(TriggerData *trigdata)
{
	Failure    *failure;

	if (!sync_run_contained(note_changed, trigdata, true, &failure))
		warn_not_noted(failure);
}

typedef struct GoneAddresses
{
	const pg_uuid_t *ids;
	int64		nids;
} GoneAddresses;

static void
delete_addresses(void *arg)
{
	GoneAddresses *gone = (GoneAddresses *) arg;
	int			guc_level = NewGUCNestLevel();
	Datum		args[1];
	Scope		scope;

	args[0] = plan_uuid_array(gone->ids, gone->nids);
	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(&forget_addresses_plan));
	plan_execute(&forget_addresses_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Nothing is kept of who is gone; a user made with that id is another one. */
static void
forget_addresses(const pg_uuid_t *ids, int64 nids)
{
	GoneAddresses gone = {.ids = ids,.nids = nids};
	Failure    *failure;

	if (nids > 0 && !sync_run_contained(delete_addresses, &gone, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("what was noted of the addresses of deleted users could not be removed"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("invite_sync.retry_quarantine(due_only => false) removes it."),
				 errhidestmt(true), errhidecontext(true)));
}

static SavedPlan noted_plan = {
	.sql = "SELECT k.user_id FROM invite_sync.known_address AS k"
};

static SavedPlan noted_gone_plan = {
	.sql = "SELECT i.id FROM pg_catalog.unnest($1) AS i (id) WHERE NOT EXISTS "
	"(SELECT FROM auth.users AS u WHERE u.id OPERATOR(pg_catalog.=) i.id)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static pg_uuid_t *
found_ids(MemoryContext cxt, int64 *n)
{
	pg_uuid_t  *ids = MemoryContextAllocHuge(cxt, sizeof(pg_uuid_t) * (SPI_processed + 1));

	*n = SPI_processed;
	for (int64 i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	return ids;
}

static void
delete_gone_addresses(void *arg)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		args[1];
	pg_uuid_t  *ids;
	int64		n;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&noted_plan, NULL, NULL, false, 0);
	ids = found_ids(cxt, &n);
	scope_leave(&scope);
	SPI_finish();
	if (n == 0)
		return;
	args[0] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&noted_gone_plan, args, NULL, false, 0);
	ids = found_ids(cxt, &n);
	scope_leave(&scope);
	SPI_finish();
	forget_addresses(ids, n);
}

void
sync_forget_gone_addresses(void)
{
	Failure    *failure;

	if (!sync_run_contained(delete_gone_addresses, NULL, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("what was noted of the addresses of deleted users could not be looked at"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("Do library and extension have the same version? SELECT * FROM invite_sync.verify();")));
}

/*
 * Whose address has changed in this UPDATE.
 */
static void
address_changed(Work *work, const pg_uuid_t **changed, int64 *nchanged)
{
	TupleDesc	desc = RelationGetDescr(work->auth);
	int			att = SPI_fnumber(desc, "email");
	Bitmapset  *email;
	TupleTableSlot *old;
	TupleTableSlot *new;
	pg_uuid_t  *ids;

	*changed = NULL;
	*nchanged = 0;
	if (work->pairs == NULL || att <= 0)
		return;
	email = bms_make_singleton(att);
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * Max(work->nrows, 1));
	old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	new = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(work->pairs, 0);
	tuplestore_rescan(work->pairs);
	while (tuplestore_gettupleslot(work->pairs, true, true, old) &&
		   tuplestore_gettupleslot(work->pairs, true, true, new))
	{
		bool		isnull;

		if (attributes_differ(old, new, email, NULL))
			ids[(*nchanged)++] = *DatumGetUUIDP(slot_getattr(new, work->id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(old);
	ExecDropSingleTupleTableSlot(new);
	*changed = ids;
}

static int
compare_uuid(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/*
 * Of this batch, those whose address has changed before, as far as can be
 * known. Adds them to what address_changed() has found, and sorts.
 */
static void
address_has_changed(Work *work, const pg_uuid_t **changed, int64 *nchanged)
{
	TupleDesc	desc = RelationGetDescr(work->auth);
	int			email_att = SPI_fnumber(desc, "email");
	TupleTableSlot *slot;
	pg_uuid_t  *ids;
	pg_uuid_t  *known;
	int64		nknown;
	int64		n = *nchanged;
	Addresses	a;
	Datum		args[2];
	Scope		scope;

	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * (n + 2 * work->nrows + 1));
	if (n > 0)
		memcpy(ids, *changed, sizeof(pg_uuid_t) * n);
	make_addresses(&a, work->nrows);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	while (email_att > 0 && a.n < work->nrows &&
		   tuplestore_gettupleslot(work->single, true, false, slot))
	{
		a.ids[a.n] = UUIDPGetDatum(&work->ids[a.n]);
		a.digests[a.n] = address_digest(slot, email_att);
		a.changed[a.n] = change_asked_for(work, slot);
		a.n++;
	}
	ExecDropSingleTupleTableSlot(slot);

	args[0] = plan_array(a.ids, NULL, a.n, UUIDOID);
	args[1] = plan_array(a.digests, NULL, a.n, BYTEAOID);
	known = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * (a.n + 1));
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(&known_plan));
	plan_execute(&known_plan, args, NULL, false, 0);
	nknown = SPI_processed;
	for (int64 i = 0; i < nknown; i++)
	{
		bool		isnull;

		known[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull)))
			ids[n++] = known[i];
	}
	scope_leave(&scope);
	SPI_finish();
	qsort(known, nknown, sizeof(pg_uuid_t), compare_uuid);
	for (int64 i = 0; i < a.n; i++)
		if (a.changed[i] &&
			bsearch(&work->ids[i], known, nknown, sizeof(pg_uuid_t), compare_uuid) == NULL)
			ids[n++] = work->ids[i];
	qsort(ids, n, sizeof(pg_uuid_t), compare_uuid);
	*changed = ids;
	*nchanged = n;
}

/*
 * link_by: rows that were made for people before they signed up. Claims what
 * can be claimed, and raises where somebody has to prove an address first:
 * whoever they are, they get no second row meanwhile. Claims are events, with
 * the ids of both.
 */
static void
claim_rows(Work *work)
{
	Target	   *t = work->target;
	EphemeralNamedRelationData enr;
	const pg_uuid_t *changed;
	int64		nchanged;
	ArrayType  *verified;
	Datum		args[2];
	Scope		scope;
	int			rc;
	uint64		nclaimed;
	char	  **claimed;
	bool		pending;
	bool		ambiguous = false;
	MemoryContext cxt = CurrentMemoryContext;

	need_ids(work);
	address_changed(work, &changed, &nchanged);
	address_has_changed(work, &changed, &nchanged);
	if (nchanged > 0)
	{
		pg_uuid_t  *rest = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * work->nrows);
		int64		n = 0;

		for (int64 i = 0; i < work->nrows; i++)
			if (bsearch(&work->ids[i], changed, nchanged, sizeof(pg_uuid_t), compare_uuid) == NULL)
				rest[n++] = work->ids[i];
		verified = verified_users(rest, n);
	}
	else
		verified = verified_users(work->ids, work->nrows);
	args[0] = PointerGetDatum(verified);
	args[1] = plan_uuid_array(changed, nchanged);

	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	register_source(&enr, work->auth, work->single);
	if (t->claim_plan == NULL)
		t->claim_plan = make_claim(t->claim_sql, 1, RelationGetDescr(work->auth));
	if (t->pending_plan == NULL)
		t->pending_plan = make_claim(t->pending_sql, 2, RelationGetDescr(work->auth));
	rc = SPI_execute_plan(t->claim_plan, args, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	nclaimed = SPI_processed;
	claimed = MemoryContextAlloc(cxt, sizeof(char *) * (2 * nclaimed + 1));
	for (uint64 i = 0; i < nclaimed; i++)
		for (int c = 0; c < 2; c++)
		{
			char	   *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1);

			claimed[2 * i + c] = MemoryContextStrdup(cxt, value ? value : "");
		}
	rc = SPI_execute_plan(t->pending_plan, args, NULL, false, 1);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	pending = SPI_processed > 0;
	if (pending)
	{
		bool		isnull;

		ambiguous = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_unregister_relation(SOURCE_NAME);
	scope_leave(&scope);
	SPI_finish();

	if (pending)
		ereport(ERROR,
				(errcode(ambiguous ? ERRCODE_CARDINALITY_VIOLATION : ERRCODE_LINK_PENDING),
				 ambiguous ?
				 errmsg("link_ambiguous: more than one row without a user has this address") :
				 errmsg("link_pending: a row waits for this address to be verified")));
	for (uint64 i = 0; i < nclaimed; i++)
	{
		StringInfoData data;

		initStringInfo(&data);
		appendStringInfoString(&data, "{\"user_id\": ");
		escape_json(&data, claimed[2 * i]);
		appendStringInfoChar(&data, '}');
		(void) event_append("system", "sync.row_claimed", NULL, NULL, target_display(t), claimed[2 * i + 1],
							DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(data.data))));
	}
}

/* Run one statement over the ids, under this snapshot; returns how many rows. */
static uint64
execute_remove(const char *sql, Datum *values, Snapshot snapshot)
{
	int			rc = SPI_execute_snapshot(plan_try(sql, 1, remove_argtypes), values, NULL,
										  snapshot, InvalidSnapshot, false, true, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

/*
 * Carry out on_delete. Made anew each time: it needs the key only, so that a
 * mapping that no longer fits does not keep rows of deleted users alive, and
 * deletions are rare.
 */
static void
run_remove(Work *work)
{
	Target	   *t = work->target;
	Relation	rel = locate_target(t, RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(rel);
	const char *key = quote_identifier(t->key);
	char	   *display = relation_display(rel);
	StringInfoData buf;
	Scope		scope;
	Datum		values[1];
	Snapshot	snapshot;

	/* an entry may be older than the target's on_delete */
	if (t->on_delete == ON_DELETE_NONE)
	{
		relation_close(rel, NoLock);
		return;
	}
	initStringInfo(&buf);
	if (t->on_delete == ON_DELETE_DELETE)
		appendStringInfo(&buf, "DELETE FROM %s AS t WHERE t.%s = ANY ($1)",
						 display, key);
	else
	{
		appendStringInfo(&buf, "UPDATE %s AS t SET is_active = false", display);
		if (SPI_fnumber(desc, "deactivated_at") > 0)
			appendStringInfoString(&buf, ", deactivated_at = coalesce(t.deactivated_at, pg_catalog.now())");
		if (SPI_fnumber(desc, "deactivation_reason") > 0)
			appendStringInfoString(&buf, ", deactivation_reason = coalesce(t.deactivation_reason, 'auth user deleted')");
		appendStringInfo(&buf, " WHERE t.%s = ANY ($1) AND t.is_active IS DISTINCT FROM false", key);
	}
	if (t->cxt == NULL)
		t->cxt = AllocSetContextCreate(t->home, "invite_sync target", ALLOCSET_SMALL_SIZES);
	if (!t->built)
		find_deferred_constraints(t);
	relation_close(rel, NoLock);

	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	set_deferred(t, false, true);
	values[0] = plan_uuid_array(work->ids, work->nrows);

	/*
	 * Taken now that the table is locked, whatever the transaction's isolation:
	 * to an older one a table that has been rewritten looks empty, and the row
	 * would stay.
	 */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	(void) execute_remove(buf.data, values, snapshot);

	/*
	 * The foreign key has set the key of a row that was not deactivated in time
	 * to NULL: it cannot be told from others any more, but it must not be lost.
	 * A batch in which one row has lost its key is taken apart by the search.
	 */
	if (t->on_delete == ON_DELETE_DEACTIVATE && work->again &&
		execute_remove(psprintf("SELECT 1 FROM pg_catalog.unnest($1) AS u (id) "
								"WHERE NOT EXISTS (SELECT 1 FROM %s AS t WHERE t.%s = u.id) "
								"AND EXISTS (SELECT 1 FROM %s AS t WHERE t.%s IS NULL AND t.is_active IS DISTINCT FROM false)",
								display, key, display, key), values, snapshot) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("the row to be deactivated has lost its user: %s IS NULL", key),
				 errhint("Set is_active of that row by hand, then invite_sync.close_quarantine().")));
	UnregisterSnapshot(snapshot);
	set_deferred(t, true, true);
	scope_leave(&scope);
	SPI_finish();
}

/* The body of the subtransaction: bring one batch into one target, or raise. */
static void
run_work(void *arg)
{
	Work	   *work = (Work *) arg;
	Target	   *t = work->target;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	Identities	identities;

	work->stage = 0;
	if (++sync_nesting > MAX_SYNC_NESTING)
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("triggers of targets lead back to auth.users more than %d levels deep",
						MAX_SYNC_NESTING),
				 errhint("Let no trigger of a target write to auth.users.")));

	sync_bound_lock_wait();
	if (work->mode == WORK_REMOVE)
	{
		run_remove(work);
		AtEOXact_GUC(false, guc_level);
		sync_nesting--;
		return;
	}

	if (!t->built || t->built_at != t->invalidations)
		work->rebuilt = true;
	prepare_target(t, RowExclusiveLock);
	if (t->claim_sql != NULL)
		claim_rows(work);
	load_identities(t, work->auth, work->single, false, &identities);
	SPI_connect();
	register_identities(&identities);
	/* one level for all settings: closing one walks through all there are */
	scope_enter_target_at(&scope, t->owner, t->search_path, guc_level);
	if (!work->leave_deferred)
	{
		work->stage = -1;
		set_deferred(t, false, false);
		work->stage = 0;
	}
	switch (work->mode)
	{
		case WORK_INSERT:
			work->stage = 2;
			work->scanned = work->single;
			run_kept(work, &t->insert_plan, t->insert_sql, work->single, false, false);
			break;
		case WORK_FILL:

			/*
			 * What is missing first: a row that the application is inserting just
			 * now is waited for there, and then seen by the update. And once more
			 * afterwards: a row that it is deleting is waited for by the update.
			 */
			work->stage = t->update_sql != NULL && !work->known_missing ? 1 : 2;
			work->scanned = work->single;
			run_kept(work, &t->missing_plan, t->missing_sql, work->single, false, false);
			if (t->update_sql != NULL &&
				(!work->known_missing || SPI_processed < (uint64) work->nrows))
			{
				Tuplestorestate *pairs = work->pairs;

				if (pairs == NULL)
					pairs = double_rows(work->auth, work->single);
				work->stage = 1;
				work->scanned = pairs;
				run_kept(work, &t->update_plan, t->update_sql, pairs, true, false);
				if (work->pairs == NULL)
					tuplestore_end(pairs);
				work->stage = 2;
				work->scanned = work->single;
				run_kept(work, &t->missing_plan, t->missing_sql, work->single, false, false);
			}
			break;
		case WORK_REMOVE:
			break;
	}
	if (!work->leave_deferred)
		set_deferred(t, true, false);
	scope_leave(&scope);
	SPI_finish();
	end_identities(&identities);
	sync_nesting--;
}

/* Can another row of the batch fare better than the one that failed? */
static bool
depends_on_row(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_COLUMN:
		case ERRCODE_UNDEFINED_FUNCTION:
		case ERRCODE_INVALID_COLUMN_REFERENCE:
		case ERRCODE_INVALID_SCHEMA_NAME:
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			return false;
		default:
			return true;
	}
}

/* Can the text of our statements be what is wrong? */
static bool
names_something(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		sqlerrcode == ERRCODE_INVALID_SCHEMA_NAME;
}

/* The ids of a batch, read from its rows when first needed. */
static void
need_ids(Work *work)
{
	TupleTableSlot *slot;
	int64		i = 0;

	if (work->ids != NULL)
		return;
	work->ids = MemoryContextAllocHuge(CurrentMemoryContext,
									   sizeof(pg_uuid_t) * Max(work->nrows, 1));
	slot = MakeSingleTupleTableSlot(RelationGetDescr(work->auth), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	while (i < work->nrows && tuplestore_gettupleslot(work->single, true, false, slot))
	{
		bool		isnull;
		Datum		id = slot_getattr(slot, work->id_att, &isnull);

		if (isnull)
			memset(&work->ids[i], 0, sizeof(pg_uuid_t));
		else
			work->ids[i] = *DatumGetUUIDP(id);
		i++;
	}
	ExecDropSingleTupleTableSlot(slot);
}

static void
fail_row(Work *work, int64 row, const Failure *failure)
{
	if (work->failures == NULL)
		work->failures = MemoryContextAllocExtended(CurrentMemoryContext,
													sizeof(Failure *) * work->nrows,
													MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (work->failures[row] == NULL)
		work->nfailed++;
	work->failures[row] = failure;
}

static void
fail_all(Work *work, const Failure *failure)
{
	for (int64 i = 0; i < work->nrows; i++)
		fail_row(work, i, failure);
}

/*
 * A window over the rows of a batch, held in memory, that moves from the first
 * to the last: whatever is tried is tried on rows of the window.
 */
typedef struct Window
{
	Work	   *work;
	TupleTableSlot *slot;
	int64		start;			/* row number of the first row held */
	int64		next;			/* row number of the next one to be read */
	int			count;
	MinimalTuple single[MAX_CHUNK];
	MinimalTuple old[MAX_CHUNK];
	MinimalTuple new[MAX_CHUNK];
} Window;

static void
window_open(Window *w, Work *work)
{
	w->work = work;
	w->start = w->next = 0;
	w->count = 0;
	if (work->mode == WORK_REMOVE)
		return;
	w->slot = MakeSingleTupleTableSlot(RelationGetDescr(work->auth), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	if (work->pairs != NULL)
	{
		tuplestore_select_read_pointer(work->pairs, 0);
		tuplestore_rescan(work->pairs);
	}
}

static MinimalTuple
window_read(Window *w, Tuplestorestate *store)
{
	tuplestore_select_read_pointer(store, 0);
	if (!tuplestore_gettupleslot(store, true, false, w->slot))
		elog(ERROR, "source rows of a sync came to an early end");
	return ExecCopySlotMinimalTuple(w->slot);
}

/* Hold at least "want" rows, or as many as are left. */
static void
window_fill(Window *w, int want)
{
	Work	   *work = w->work;

	while (w->count < want && w->next < work->nrows)
	{
		if (work->mode != WORK_REMOVE)
		{
			w->single[w->count] = window_read(w, work->single);
			if (work->pairs != NULL)
			{
				w->old[w->count] = window_read(w, work->pairs);
				w->new[w->count] = window_read(w, work->pairs);
			}
		}
		w->count++;
		w->next++;
	}
}

static void
window_advance(Window *w, int by)
{
	if (w->work->mode != WORK_REMOVE)
	{
		bool		pairs = w->work->pairs != NULL;

		for (int i = 0; i < by; i++)
		{
			pfree(w->single[i]);
			if (pairs)
			{
				pfree(w->old[i]);
				pfree(w->new[i]);
			}
		}
		memmove(&w->single[0], &w->single[by], sizeof(MinimalTuple) * (w->count - by));
		if (pairs)
		{
			memmove(&w->old[0], &w->old[by], sizeof(MinimalTuple) * (w->count - by));
			memmove(&w->new[0], &w->new[by], sizeof(MinimalTuple) * (w->count - by));
		}
	}
	w->start += by;
	w->count -= by;
}

static void
window_close(Window *w)
{
	window_advance(w, w->count);
	if (w->work->mode != WORK_REMOVE)
		ExecDropSingleTupleTableSlot(w->slot);
}

static void
put_minimal(Tuplestorestate *store, TupleTableSlot *slot, MinimalTuple tuple)
{
	ExecStoreMinimalTuple(tuple, slot, false);
	tuplestore_puttupleslot(store, slot);
	ExecClearTuple(slot);
}

/*
 * How many rows did the statement that failed take from its source? The scan's
 * own read pointer, the second of a tuplestore of ours, still stands there. A
 * hint only: what it names is tried alone before it is believed.
 */
static int
rows_consumed(Tuplestorestate *store, int rows)
{
	int			left = 0;

	/* the scan never began: there is no such pointer, and this one would be it */
	if (tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND) < 2)
		return 0;
	tuplestore_select_read_pointer(store, 1);
	while (left < rows && tuplestore_skiptuples(store, 1, true))
		left++;
	return rows - left;
}

/*
 * Try rows [from, from + len) of the window that are not known to be bad. On
 * failure *suspect is the window index of the row that seems to be to blame, or
 * -1, and *stage the statement that failed.
 */
static bool
try_rows(Window *w, int from, int len, bool keep, Failure **failure, int *suspect, int *stage)
{
	Work	   *work = w->work;
	Work		sub = *work;
	int			index[MAX_CHUNK];
	bool		ok;

	/* where rows shut each other out a plain insert would blame the wrong one */
	if (keep && sub.mode == WORK_INSERT)
		sub.mode = WORK_FILL;
	sub.failures = NULL;
	sub.ids = NULL;
	sub.nrows = 0;
	*suspect = -1;
	for (int i = from; i < from + len; i++)
		if (work->failures == NULL || work->failures[w->start + i] == NULL)
			index[sub.nrows++] = i;
	if (sub.nrows == 0)
		return true;

	if (work->mode == WORK_REMOVE)
	{
		sub.ids = palloc(sizeof(pg_uuid_t) * sub.nrows);
		for (int64 i = 0; i < sub.nrows; i++)
			sub.ids[i] = work->ids[w->start + index[i]];
	}
	else
	{
		sub.single = tuplestore_begin_heap(true, false, work_mem);
		sub.pairs = tuplestore_begin_heap(true, false, work_mem);
		for (int64 i = 0; i < sub.nrows; i++)
		{
			int			r = index[i];

			put_minimal(sub.single, w->slot, w->single[r]);
			if (work->pairs == NULL && sub.mode == WORK_INSERT)
				continue;
			put_minimal(sub.pairs, w->slot, work->pairs ? w->old[r] : w->single[r]);
			put_minimal(sub.pairs, w->slot, work->pairs ? w->new[r] : w->single[r]);
		}
	}

	ok = sync_run_contained(run_work, &sub, keep, failure);
	if (!ok && sub.mode == WORK_INSERT && (*failure)->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
	{
		/* a row is there already: from here on by the other two statements */
		work->mode = sub.mode = WORK_FILL;
		tuplestore_end(sub.pairs);
		sub.pairs = NULL;
		ok = sync_run_contained(run_work, &sub, keep, failure);
	}
	if (!ok && work->mode != WORK_REMOVE)
	{
		int			consumed = 0;

		if (sub.stage > 0 && sub.pairs != NULL && sub.scanned == sub.pairs)
			consumed = (rows_consumed(sub.pairs, sub.nrows * 2) + 1) / 2;
		else if (sub.stage > 0 && sub.scanned == sub.single)
			consumed = rows_consumed(sub.single, sub.nrows);
		/* all of them taken: the error may have come after the last */
		if (consumed > 0 && consumed < sub.nrows)
			*suspect = index[consumed - 1];
	}
	*stage = sub.stage;

	if (work->mode == WORK_REMOVE)
		pfree(sub.ids);
	else
	{
		tuplestore_end(sub.single);
		if (sub.pairs != NULL)
			tuplestore_end(sub.pairs);
	}
	return ok;
}

typedef struct Search
{
	Window		window;
	Work	   *work;
	int			tries;
	TimestampTz give_up;		/* a signup must not wait for a long search */
	const Failure *last;		/* the last failure seen */
	bool		keep;			/* keep what succeeds, to meet collisions */
	const Failure *hopeless;	/* an error no row is to blame for */
	bool		gave_up;		/* out of tries or time: what is known is used */
} Search;

/*
 * May the search go on? What is not tried any more is quarantined untried, from
 * the first row that has not passed.
 */
static bool
search_may_try(Search *s)
{
	if (s->hopeless != NULL)
		return false;
	CHECK_FOR_INTERRUPTS();
	if (++s->tries <= MAX_TRIES && GetCurrentTimestamp() < s->give_up)
		return true;
	s->gave_up = true;
	if (s->last != NULL)
		for (int64 i = s->window.start; i < s->work->nrows; i++)
			if (s->work->failures == NULL || s->work->failures[i] == NULL)
				fail_row(s->work, i, s->last);
	s->hopeless = s->last;
	return false;
}

/* Known to fail as a whole: find the bad rows of [from, from + len) by halves. */
static void
search_halves(Search *s, int from, int len, Failure *failure)
{
	if (!depends_on_row(failure->sqlerrcode))
	{
		s->hopeless = failure;
		return;
	}
	if (len == 1)
	{
		fail_row(s->work, s->window.start + from, failure);
		return;
	}
	for (int half = 0; half < 2; half++)
	{
		int			start = half == 0 ? from : from + len / 2;
		int			n = half == 0 ? len / 2 : len - len / 2;
		Failure    *f;
		int			suspect;
		int			stage;

		if (!search_may_try(s))
			return;
		if (!try_rows(&s->window, start, n, s->keep, &f, &suspect, &stage))
		{
			s->last = f;
			search_halves(s, start, n, f);
		}
	}
}

/*
 * Find the bad rows. Where the scan's position names the row it is tried alone
 * and the search goes on behind it; otherwise by halves. Everything tried is
 * rolled back (with keep, by our caller): no subtransaction stays alive.
 */
static void
search_bad_rows(void *arg)
{
	Search	   *s = (Search *) arg;
	Work	   *work = s->work;
	int			chunk = FIRST_CHUNK;
	Failure    *failure = NULL;

	window_open(&s->window, work);
	while (s->window.start < work->nrows && s->hopeless == NULL)
	{
		Failure    *single;
		int			len;
		int			suspect;
		int			stage;
		int			dummy;

		window_fill(&s->window, chunk);
		len = Min(chunk, s->window.count);
		if (!search_may_try(s))
			break;
		if (try_rows(&s->window, 0, len, s->keep, &failure, &suspect, &stage))
		{
			window_advance(&s->window, len);
			chunk = Min(chunk * 2, MAX_CHUNK);
			continue;
		}
		s->last = failure;
		/* where bad rows are many, less is thrown away with each */
		chunk = Max(16, chunk / 2);
		if (!depends_on_row(failure->sqlerrcode))
		{
			s->hopeless = failure;
			break;
		}
		if (len == 1)
		{
			fail_row(work, s->window.start, failure);
			window_advance(&s->window, 1);
			continue;
		}
		if (s->keep || suspect < 0)
		{
			search_halves(s, 0, len, failure);
			if (s->hopeless == NULL)
				window_advance(&s->window, len);
			continue;
		}
		if (!search_may_try(s))
			break;
		if (try_rows(&s->window, suspect, 1, false, &single, &dummy, &dummy))
			search_halves(s, 0, len, failure);
		else
		{
			fail_row(work, s->window.start + suspect, single);

			/*
			 * The rows before it have passed the statement that failed; if that
			 * was the first of two they have to pass the second yet.
			 */
			if (stage == 2)
				window_advance(&s->window, suspect + 1);
			continue;
		}
		if (s->hopeless == NULL)
			window_advance(&s->window, len);
	}
	window_close(&s->window);
}

/*
 * Write all rows that are not known to be bad by one statement. Copying them is
 * part of what may fail (temp_file_limit), so it is inside too.
 */
static void
run_good_rows(void *arg)
{
	Work	   *work = (Work *) arg;
	Work		good = *work;
	TupleTableSlot *slot;

	good.failures = NULL;
	good.ids = NULL;
	good.nrows = 0;
	if (work->mode == WORK_REMOVE)
	{
		good.ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * work->nrows);
		for (int64 i = 0; i < work->nrows; i++)
			if (work->failures == NULL || work->failures[i] == NULL)
				good.ids[good.nrows++] = work->ids[i];
		run_work(&good);
		return;
	}

	slot = MakeSingleTupleTableSlot(RelationGetDescr(work->auth), &TTSOpsMinimalTuple);
	good.single = tuplestore_begin_heap(false, false, work_mem);
	good.pairs = tuplestore_begin_heap(false, false, work_mem);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	if (work->pairs != NULL)
	{
		tuplestore_select_read_pointer(work->pairs, 0);
		tuplestore_rescan(work->pairs);
	}
	for (int64 i = 0; i < work->nrows; i++)
	{
		bool		take = work->failures == NULL || work->failures[i] == NULL;

		tuplestore_select_read_pointer(work->single, 0);
		tuplestore_gettupleslot(work->single, true, false, slot);
		if (take)
		{
			good.nrows++;
			tuplestore_puttupleslot(good.single, slot);
		}
		for (int p = 0; p < 2; p++)
		{
			if (work->pairs != NULL)
			{
				tuplestore_select_read_pointer(work->pairs, 0);
				tuplestore_gettupleslot(work->pairs, true, false, slot);
			}
			if (take && good.mode == WORK_FILL)
				tuplestore_puttupleslot(good.pairs, slot);
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	run_work(&good);
	tuplestore_end(good.single);
	tuplestore_end(good.pairs);
}

static bool
write_good_rows(Work *work, Failure **failure)
{
	if (work->nfailed == work->nrows || sync_run_contained(run_good_rows, work, true, failure))
		return true;
	if (work->mode != WORK_INSERT || (*failure)->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
		return false;
	work->mode = WORK_FILL;
	return sync_run_contained(run_good_rows, work, true, failure);
}

/*
 * Bring a batch into its target. Rows that cannot be brought in are named in
 * work->failures; nothing is raised but what must be rethrown, or what the
 * target's owner wants raised.
 */
static void
apply_work(Work *work)
{
	Failure    *failure;
	Search	   *search;

	if (work->nrows == 0)
		return;
	/* with link_by a row may have been made before, and waits to be claimed */
	if (work->mode == WORK_INSERT && work->target->link_by != NULL)
		work->mode = WORK_FILL;
	if (sync_run_contained(run_work, work, true, &failure))
		return;

	/*
	 * A recursion that has come too deep is stopped where it began, or
	 * auth.users would stay a step ahead of every target.
	 */
	if (failure->sqlerrcode == ERRCODE_STATEMENT_TOO_COMPLEX && sync_nesting > 0)
		ReThrowError(failure->edata);

	/*
	 * What the application has pending on a deferred constraint may be waiting
	 * for the very row that we are about to write: leave it waiting.
	 */
	if (work->stage == -1 && !work->leave_deferred)
	{
		work->leave_deferred = true;
		if (sync_run_contained(run_work, work, true, &failure))
			return;
	}

	/*
	 * A schema, type, function or collation that the statements name may have
	 * been renamed without a word about the table: make them anew, once.
	 */
	if (!work->rebuilt && names_something(failure->sqlerrcode))
	{
		work->target->built = false;
		if (sync_run_contained(run_work, work, true, &failure))
			return;
	}

	/* the row was there already: the application's, or a signup's before */
	if (work->mode == WORK_INSERT && failure->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
	{
		work->mode = WORK_FILL;
		if (sync_run_contained(run_work, work, true, &failure))
			return;
	}

	if (work->may_raise && work->target->on_error_raise &&
		failure->sqlerrcode != ERRCODE_LINK_PENDING)
		ReThrowError(failure->edata);

	need_ids(work);
	if (work->nrows == 1 || !depends_on_row(failure->sqlerrcode))
	{
		fail_all(work, failure);
		return;
	}

	/* all that a search does is rolled back, and its own failures are contained */
	search = palloc0(sizeof(Search));
	search->work = work;
	search->last = failure;
	search->give_up = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SEARCH_MS);
	if (!sync_run_contained(search_bad_rows, search, false, &failure))
	{
		fail_all(work, failure);
		return;
	}
	if (search->hopeless != NULL && !search->gave_up)
	{
		fail_all(work, search->hopeless);
		return;
	}
	if (write_good_rows(work, &failure))
		return;

	/*
	 * Each of them passes alone but not all of them together: two want the same
	 * name. Take them one after the other, keeping what succeeds, to learn which
	 * come too late.
	 */
	if (depends_on_row(failure->sqlerrcode))
	{
		Failure    *ignored;

		memset(search, 0, sizeof(*search));
		search->work = work;
		search->keep = true;
		search->last = failure;
		search->give_up = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SEARCH_MS);
		if (sync_run_contained(search_bad_rows, search, false, &ignored) &&
			(search->hopeless == NULL || search->gave_up) &&
			write_good_rows(work, &failure))
			return;
	}
	for (int64 i = 0; i < work->nrows; i++)
		if (work->failures == NULL || work->failures[i] == NULL)
			fail_row(work, i, failure);
}

/* ---------------------------------------------------------------------
 * After a batch: quarantine and warning
 * ---------------------------------------------------------------------
 */

/* Do OLD and NEW differ in any of these attributes? Images, no operators. */
static bool
attributes_differ(TupleTableSlot *old, TupleTableSlot *new, const Bitmapset *atts,
				  Bitmapset **which)
{
	TupleDesc	desc = old->tts_tupleDescriptor;
	bool		result = false;
	int			att = -1;

	while ((att = bms_next_member(atts, att)) >= 0)
	{
		Form_pg_attribute form = TupleDescAttr(desc, att - 1);
		bool		oldnull;
		bool		newnull;
		Datum		oldval = slot_getattr(old, att, &oldnull);
		Datum		newval = slot_getattr(new, att, &newnull);

		if (oldnull != newnull ||
			(!oldnull && !datum_image_eq(oldval, newval, form->attbyval, form->attlen)))
		{
			result = true;
			if (which == NULL)
				break;
			*which = bms_add_member(*which, att);
		}
	}
	return result;
}

/*
 * Which columns of the target have to be set when this failed update is done
 * again: OLD will be gone then, and a retry only fills what is NULL. By source
 * column, so that the target's expressions need not be run for it.
 */
static char *
changed_columns(const Target *t, TupleDesc desc, const Bitmapset *which)
{
	ArrayBuildState *astate = NULL;

	for (int c = 0; c < t->ncolumns; c++)
	{
		if (t->columns[c].policy != POLICY_ALWAYS)
			continue;
		for (int s = 0; s < t->columns[c].nsources; s++)
		{
			int			att = SPI_fnumber(desc, t->columns[c].sources[s]);

			if (att > 0 && bms_is_member(att, which))
			{
				astate = accumArrayResult(astate, CStringGetTextDatum(t->columns[c].name),
										  false, TEXTOID, CurrentMemoryContext);
				break;
			}
		}
	}
	if (astate == NULL)
		return NULL;
	return OidOutputFunctionCall(F_ARRAY_OUT, makeArrayResult(astate, CurrentMemoryContext));
}

static void
convert_for_client(void *arg)
{
	const char *name = (const char *) arg;

	(void) pg_server_to_client(name, strlen(name));
}

/*
 * A message that the client's encoding has no characters for turns into an
 * ERROR on its way out, and that would fail the statement that we only warn in.
 * Not to be called among the arguments of an ereport: it may catch an error.
 */
const char *
sync_name_for_client(const char *name)
{
	Failure    *failure;
	char	   *legible;

	if (pg_get_client_encoding() == GetDatabaseEncoding() ||
		sync_run_contained(convert_for_client, unconstify(char *, name), true, &failure))
		return name;
	legible = pstrdup(name);
	for (char *c = legible; *c != '\0'; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	return legible;
}

/*
 * One WARNING per statement and target. It goes to the server's log: target,
 * SQLSTATE and ids, and nothing of the rows.
 */
static void
warn_failures(const Work *work, bool recorded)
{
	StringInfoData ids;
	const Failure *first = NULL;
	const char *name;
	int			shown = 0;

	initStringInfo(&ids);
	for (int64 i = 0; i < work->nrows && shown < 5; i++)
	{
		/* to wait for a verified address is nothing to warn of */
		if (work->failures[i] == NULL || work->failures[i]->sqlerrcode == ERRCODE_LINK_PENDING)
			continue;
		if (first == NULL)
			first = work->failures[i];
		appendStringInfo(&ids, "%s%s", shown > 0 ? ", " : "",
						 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&work->ids[i]))));
		shown++;
	}
	if (first == NULL)
		return;
	name = sync_name_for_client(target_display(work->target));
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("sync to %s failed for " INT64_FORMAT " of " INT64_FORMAT " users and is %s",
					name, work->nfailed, work->nrows,
					recorded ? "in quarantine" : "not recorded"),
			 errdetail("SQLSTATE %s; users %s%s.",
					   unpack_sql_state(first->sqlerrcode), ids.data,
					   work->nfailed > shown ? ", ..." : ""),
			 errhint("See invite_sync.quarantine; after the cause is mended, invite_sync.retry_quarantine()."),
			 errhidestmt(true), errhidecontext(true)));
	pfree(ids.data);
}

static void
quarantine_failures(Work *work, const char *action, const Registry *reg)
{
	QuarantineItem *items;
	int64		n = 0;
	TupleTableSlot *old = NULL;
	TupleTableSlot *new = NULL;

	if (work->nfailed == 0)
		return;
	items = MemoryContextAllocExtended(CurrentMemoryContext,
									   sizeof(QuarantineItem) * work->nfailed,
									   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (work->pairs != NULL)
	{
		old = MakeSingleTupleTableSlot(RelationGetDescr(work->auth), &TTSOpsMinimalTuple);
		new = MakeSingleTupleTableSlot(RelationGetDescr(work->auth), &TTSOpsMinimalTuple);
		tuplestore_select_read_pointer(work->pairs, 0);
		tuplestore_rescan(work->pairs);
	}
	for (int64 i = 0; i < work->nrows; i++)
	{
		if (work->pairs != NULL)
		{
			tuplestore_gettupleslot(work->pairs, true, true, old);
			tuplestore_gettupleslot(work->pairs, true, true, new);
		}
		if (work->failures[i] == NULL)
			continue;
		items[n].user_id = work->ids[i];
		items[n].failure = work->failures[i];
		if (work->pairs != NULL)
		{
			Bitmapset  *which = NULL;

			(void) attributes_differ(old, new, work->target->watch, &which);
			items[n].changed = changed_columns(work->target, RelationGetDescr(work->auth), which);
		}
		n++;
	}
	if (old != NULL)
	{
		ExecDropSingleTupleTableSlot(old);
		ExecDropSingleTupleTableSlot(new);
	}
	warn_failures(work, quarantine_record(work->target->id, action, items, n));
}

/*
 * Columns that an update of these sources has certainly set: those that are
 * the source itself. An expression may give the same value as before.
 */
static ArrayType *
applied_columns(const Target *t, TupleDesc desc, const Bitmapset *changed)
{
	ArrayBuildState *astate = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	for (int c = 0; c < t->ncolumns; c++)
	{
		const MapColumn *mc = &t->columns[c];
		int			att;

		if (mc->policy != POLICY_ALWAYS || mc->nsources != 1 ||
			strcmp(mc->expression, mc->sources[0]) != 0)
			continue;
		att = SPI_fnumber(desc, mc->sources[0]);
		if (att > 0 && bms_is_member(att, changed))
			accumArrayResult(astate, CStringGetTextDatum(mc->name), false, TEXTOID,
							 CurrentMemoryContext);
	}
	return DatumGetArrayTypeP(makeArrayResult(astate, CurrentMemoryContext));
}

/*
 * What is in step now has nothing left to wait for; but columns that an earlier
 * failed update was to set still wait, unless this one has set them.
 */
static void
resolve_successes(Work *work, ArrayType *applied)
{
	pg_uuid_t  *ids;
	int64		n = 0;

	need_ids(work);
	if (work->nfailed == 0)
	{
		quarantine_resolve(work->target->id, work->ids, work->nrows, applied);
		return;
	}
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * work->nrows);
	for (int64 i = 0; i < work->nrows; i++)
		if (work->failures[i] == NULL)
			ids[n++] = work->ids[i];
	quarantine_resolve(work->target->id, ids, n, applied);
}

/* ---------------------------------------------------------------------
 * The triggers on auth.users
 * ---------------------------------------------------------------------
 */

#define MAX_LISTENERS	8

static const SyncListener *listeners[MAX_LISTENERS];
static int	nlisteners = 0;

void
sync_listen(const SyncListener *listener)
{
	if (nlisteners >= MAX_LISTENERS)
		elog(ERROR, "too many listeners");
	listeners[nlisteners++] = listener;
}

const SyncListener *
sync_listener(int i)
{
	return i < nlisteners ? listeners[i] : NULL;
}

typedef void (*ListenerFn) (const pg_uuid_t *user_ids, int64 nids);

typedef struct ListenerCall
{
	ListenerFn	fn;
	const pg_uuid_t *ids;
	int64		nids;
} ListenerCall;

static void
call_listener(void *arg)
{
	ListenerCall *call = (ListenerCall *) arg;
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	call->fn(call->ids, call->nids);
	AtEOXact_GUC(false, guc_level);
}

bool
sync_tell_gone(const SyncListener *listener, const pg_uuid_t *user_ids, int64 nids)
{
	ListenerCall call = {.fn = listener->users_gone,.ids = user_ids,.nids = nids};
	Failure    *failure;

	if (nids == 0 || sync_run_contained(call_listener, &call, true, &failure))
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("what belongs to deleted users could not be removed"),
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhint("invite_sync.retry_quarantine() tries again; invite_sync.verify() says what is left."),
			 errhidestmt(true), errhidecontext(true)));
	call.fn = listener->users_missed;
	if (!sync_run_contained(call_listener, &call, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("deleted users could not be noted for a retry"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("invite_sync.retry_quarantine(due_only => false) finds them all the same."),
				 errhidestmt(true), errhidecontext(true)));
	return false;
}

static void
tell_all_gone(const pg_uuid_t *user_ids, int64 nids)
{
	for (int i = 0; i < nlisteners; i++)
		(void) sync_tell_gone(listeners[i], user_ids, nids);
}

static void
load_registry(void *arg)
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
	load_registry(arg);
	AtEOXact_GUC(false, guc_level);
}

/*
 * The registry for a trigger, or NULL with a WARNING: objects of another
 * version of the extension, or an auth.users without an id, must not fail a
 * signup. What is missed so is found by sync_status().
 */
static Registry *
registry_for_trigger(Relation auth)
{
	Failure    *failure;

	AcceptInvalidationMessages();
	if (registry != NULL && registry_valid_at == registry_invalidations &&
		registry->auth_seen == auth_invalidations &&
		registry->id_att != InvalidAttrNumber)
		return registry;

	if (sync_run_contained(load_registry_bounded, auth, true, &failure))
		return registry;

	/* better what was true a moment ago than to lose sight of the user */
	if (registry != NULL && registry->id_att != InvalidAttrNumber &&
		registry->auth_seen == auth_invalidations)
		return registry;
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
 * Only our own triggers on auth.users sync: elsewhere the rows are not the auth
 * server's. That is said, and nothing is raised, since the table may have been
 * renamed under its triggers. NULL: nothing to do.
 */
static TriggerData *
check_trigger(FunctionCallInfo fcinfo, TriggerEvent event, bool for_row)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	if (!invite_sync_enabled)
		return NULL;
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		(trigdata->tg_event & TRIGGER_EVENT_OPMASK) != event ||
		(TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) != 0) != for_row ||
		(event != TRIGGER_EVENT_DELETE && trigdata->tg_newtable == NULL) ||
		(event != TRIGGER_EVENT_INSERT && trigdata->tg_oldtable == NULL) ||
		RelationGetRelid(trigdata->tg_relation) != caller_auth_users_relid(true))
	{
		const char *trigger = sync_name_for_client(trigdata->tg_trigger->tgname);
		const char *table = sync_name_for_client(RelationGetRelationName(trigdata->tg_relation));

		ereport(WARNING,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on \"%s\" is not as invite_sync makes it, nothing is synced",
						trigger, table),
				 errhint("Let invite_sync.attach() make the triggers on auth.users."),
				 errhidestmt(true), errhidecontext(true)));
		return NULL;
	}
	return trigdata;
}

/* Scratch memory of one firing, gone when it is done. */
static MemoryContext
begin_firing(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "invite_sync sync",
											  ALLOCSET_SMALL_SIZES);

	return MemoryContextSwitchTo(cxt);
}

static void
end_firing(MemoryContext old)
{
	MemoryContext cxt = CurrentMemoryContext;

	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/*
 * Statements nested in row triggers of others on auth.users are synced before
 * the statement that they are part of, whose NEW TABLE is history by then. What
 * a nested firing has seen is remembered until the outermost one is done, and
 * read again as it is now.
 */
#define MAX_NESTED		10000

static pg_uuid_t *nested_ids = NULL;
static int	nested_count = 0;
static int	nested_size = 0;
static bool nested_overflow = false;
static uint64 nested_serial = 0;

static void
forget_nested(XactEvent event, void *arg)
{
	nested_count = 0;
	nested_overflow = false;
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

static void
remember_nested_id(const pg_uuid_t *id)
{
	if (nested_count >= MAX_NESTED)
	{
		nested_overflow = true;
		return;
	}
	if (nested_count == nested_size)
	{
		nested_size = Max(16, nested_size * 2);
		nested_ids = nested_ids == NULL ?
			MemoryContextAlloc(TopMemoryContext, sizeof(pg_uuid_t) * nested_size) :
			repalloc(nested_ids, sizeof(pg_uuid_t) * nested_size);
	}
	nested_ids[nested_count++] = *id;
}

static void
remember_nested(Tuplestorestate *rows, TupleDesc desc, AttrNumber id_att)
{
	TupleTableSlot *slot;

	nested_serial++;
	if (nested_overflow || tuplestore_tuple_count(rows) + nested_count > MAX_NESTED)
	{
		nested_overflow = true;
		return;
	}
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(rows, 0);
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool		isnull;
		Datum		id = slot_getattr(slot, id_att, &isnull);

		if (!isnull)
			remember_nested_id(DatumGetUUIDP(id));
	}
	ExecDropSingleTupleTableSlot(slot);
}

static bool
is_nested(const pg_uuid_t *id)
{
	if (nested_overflow)
		return true;
	for (int i = 0; i < nested_count; i++)
		if (memcmp(&nested_ids[i], id, UUID_LEN) == 0)
			return true;
	return false;
}

/*
 * The row to sync for one of the statement's: itself, or what a nested
 * statement has made of it. NULL when it is gone.
 */
static TupleTableSlot *
current_row(Relation auth, AttrNumber id_att, TupleTableSlot *row, TupleTableSlot *scratch)
{
	bool		isnull;
	Datum		id = slot_getattr(row, id_att, &isnull);
	pg_uuid_t	user_id;

	if (isnull || (nested_count == 0 && !nested_overflow))
		return row;
	user_id = *DatumGetUUIDP(id);
	if (!is_nested(&user_id))
		return row;
	return read_one_row(auth, &user_id, scratch) ? scratch : NULL;
}

static void
warn_not_synced(const Failure *failure)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("changes of auth.users could not be looked at and are not synced"),
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhint("invite_sync.sync_status() counts what is missing or stale."),
			 errhidestmt(true), errhidecontext(true)));
}

typedef struct InsertFiring
{
	TriggerData *trigdata;
	Registry   *reg;
	ResourceOwner owner;
	Tuplestorestate *rows;
	int64		nrows;
	bool		stale;			/* rows have been changed by nested statements */
} InsertFiring;

/* A spilled copy must be given back, or its file is complained of. */
static void
end_rows(InsertFiring *f)
{
	if (f->rows != NULL && f->rows != f->trigdata->tg_newtable)
		tuplestore_end(f->rows);
	f->rows = NULL;
}

/* New users as nested statements have left them. */
static void
collect_inserted(void *arg)
{
	InsertFiring *f = (InsertFiring *) arg;
	Relation	auth = f->trigdata->tg_relation;
	TupleDesc	desc = RelationGetDescr(auth);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *scratch = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *source = f->trigdata->tg_newtable;
	ResourceOwner save = CurrentResourceOwner;

	CurrentResourceOwner = f->owner;
	f->rows = tuplestore_begin_heap(false, false, work_mem);
	CurrentResourceOwner = save;
	f->nrows = 0;
	tuplestore_select_read_pointer(source, 0);
	tuplestore_rescan(source);
	while (tuplestore_gettupleslot(source, true, false, slot))
	{
		TupleTableSlot *now = current_row(auth, f->reg->id_att, slot, scratch);

		if (now == NULL)
			continue;
		tuplestore_puttupleslot(f->rows, now);
		f->nrows++;
	}
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(scratch);
}

Datum
sync_on_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, TRIGGER_EVENT_INSERT, false);
	Registry   *reg;
	int64		nrows;
	MemoryContext old;
	InsertFiring f;
	int			depth;

	if (trigdata == NULL)
		return PointerGetDatum(NULL);
	nrows = tuplestore_tuple_count(trigdata->tg_newtable);
	if (nrows == 0)
		return PointerGetDatum(NULL);
	reg = registry_for_trigger(trigdata->tg_relation);
	if (reg == NULL || reg->ntargets == 0)
		return PointerGetDatum(NULL);

	plan_hold();
	old = begin_firing();
	memset(&f, 0, sizeof(f));
	f.trigdata = trigdata;
	f.reg = reg;
	f.owner = CurrentResourceOwner;
	f.rows = trigdata->tg_newtable;
	f.nrows = nrows;
	f.stale = nested_count > 0 || nested_overflow;
	depth = trigger_depth();
	if (depth > 1)
		remember_nested(trigdata->tg_newtable, RelationGetDescr(trigdata->tg_relation), reg->id_att);
	for (int i = 0; i < reg->ntargets; i++)
	{
		Work		work;
		uint64		serial = nested_serial;
		Failure    *failure;

		if (!reg->targets[i].enabled)
			continue;
		if (f.stale)
		{
			bool		collected;

			end_rows(&f);
			collected = sync_run_contained(collect_inserted, &f, true, &failure);
			if (!collected)
			{
				end_rows(&f);
				warn_not_synced(failure);
				break;
			}
		}
		f.stale = false;
		memset(&work, 0, sizeof(work));
		work.target = &reg->targets[i];
		work.auth = trigdata->tg_relation;
		work.id_att = reg->id_att;
		work.mode = WORK_INSERT;
		work.may_raise = true;
		work.single = f.rows;
		work.nrows = f.nrows;
		work.made = true;
		apply_work(&work);
		note_failed_addresses(&work);
		/* a row was there: of somebody with this id before, who may be about to be removed */
		if (work.mode == WORK_FILL)
			resolve_successes(&work, NULL);
		quarantine_failures(&work, "insert", reg);
		/* a trigger of this target has written auth.users */
		f.stale = nested_serial != serial;
	}
	end_rows(&f);
	if (depth == 1)
		forget_nested(XACT_EVENT_COMMIT, NULL);
	end_firing(old);
	plan_release();
	return PointerGetDatum(NULL);
}

/* What an UPDATE of auth.users means for one target. */
typedef struct Changes
{
	Tuplestorestate *single;
	Tuplestorestate *pairs;
	int64		nrows;
	Bitmapset  *changed;		/* attributes that changed in every row */
} Changes;

static void
remove_from_targets(Registry *reg, pg_uuid_t *ids, int64 nids)
{
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		Work		work;

		if (!t->enabled || t->on_delete == ON_DELETE_NONE)
			continue;
		memset(&work, 0, sizeof(work));
		work.target = t;
		work.mode = WORK_REMOVE;
		work.may_raise = true;
		work.ids = ids;
		work.nrows = nids;
		apply_work(&work);
		quarantine_failures(&work, "delete", reg);
	}
}

typedef struct UpdateFiring
{
	TriggerData *trigdata;
	Registry   *reg;
	Changes    *changes;
	pg_uuid_t  *removed;
	int64		nremoved;
	Bitmapset  *id_set;			/* the attribute that is the id */
	ResourceOwner owner;		/* of the copies: they outlive the subtransaction */
} UpdateFiring;

/* Does any row of the statement differ in a column that matters to anybody? */
static bool
anything_changed(TriggerData *trigdata, const Registry *reg)
{
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	bool		result = false;

	tuplestore_select_read_pointer(trigdata->tg_oldtable, 0);
	tuplestore_rescan(trigdata->tg_oldtable);
	tuplestore_select_read_pointer(trigdata->tg_newtable, 0);
	tuplestore_rescan(trigdata->tg_newtable);
	while (!result &&
		   tuplestore_gettupleslot(trigdata->tg_oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(trigdata->tg_newtable, true, false, new_slot))
		result = attributes_differ(old_slot, new_slot, reg->watch_any, NULL);
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
	return result;
}

/* Sort the changed rows out by target. */
static void
collect_changes(void *arg)
{
	UpdateFiring *f = (UpdateFiring *) arg;
	Registry   *reg = f->reg;
	Relation	auth = f->trigdata->tg_relation;
	TupleDesc	desc = RelationGetDescr(auth);
	Tuplestorestate *oldtable = f->trigdata->tg_oldtable;
	Tuplestorestate *newtable = f->trigdata->tg_newtable;
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *scratch = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int64		maxremoved = 0;

	tuplestore_select_read_pointer(oldtable, 0);
	tuplestore_rescan(oldtable);
	tuplestore_select_read_pointer(newtable, 0);
	tuplestore_rescan(newtable);
	while (tuplestore_gettupleslot(oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(newtable, true, false, new_slot))
	{
		bool		was_deleted = false;
		bool		is_deleted = false;
		bool		renamed;	/* another id: another user */
		TupleTableSlot *now;

		if (!attributes_differ(old_slot, new_slot, reg->watch_all, NULL))
			continue;
		now = current_row(auth, reg->id_att, new_slot, scratch);
		if (now == NULL)
			continue;

		if (reg->deleted_att != InvalidAttrNumber)
		{
			was_deleted = !slot_attisnull(old_slot, reg->deleted_att);
			is_deleted = !slot_attisnull(now, reg->deleted_att);
		}
		renamed = attributes_differ(old_slot, now, f->id_set, NULL);
		if (is_deleted || renamed)
		{
			bool		isnull;

			/* a soft delete; the auth server scrambles email and phone in it */
			if (was_deleted && !renamed)
				continue;
			if (f->nremoved == maxremoved)
			{
				maxremoved = Max(16, maxremoved * 2);
				f->removed = f->removed == NULL ?
					palloc(sizeof(pg_uuid_t) * maxremoved) :
					repalloc_huge(f->removed, sizeof(pg_uuid_t) * maxremoved);
			}
			f->removed[f->nremoved++] = *DatumGetUUIDP(slot_getattr(old_slot, reg->id_att, &isnull));
			if (is_deleted)
				continue;
		}

		if (f->changes == NULL)
			f->changes = palloc0(sizeof(Changes) * reg->ntargets);
		for (int i = 0; i < reg->ntargets; i++)
		{
			Changes    *c = &f->changes[i];
			Bitmapset  *which = NULL;

			if (!reg->targets[i].enabled ||
				(!attributes_differ(old_slot, now, reg->targets[i].watch, &which) &&
				 !was_deleted && !renamed))
				continue;
			if (c->single == NULL)
			{
				ResourceOwner save = CurrentResourceOwner;

				CurrentResourceOwner = f->owner;
				c->single = tuplestore_begin_heap(false, false, work_mem);
				c->pairs = tuplestore_begin_heap(false, false, work_mem);
				CurrentResourceOwner = save;
			}
			c->changed = c->nrows == 0 ? which : bms_int_members(c->changed, which);
			c->nrows++;
			tuplestore_puttupleslot(c->single, now);
			tuplestore_puttupleslot(c->pairs, old_slot);
			tuplestore_puttupleslot(c->pairs, now);
		}
	}
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
	ExecDropSingleTupleTableSlot(scratch);
}

/* A spilled copy must be given back, or its file is complained of. */
static void
end_changes(UpdateFiring *f)
{
	for (int i = 0; f->changes != NULL && i < f->reg->ntargets; i++)
	{
		if (f->changes[i].single != NULL)
			tuplestore_end(f->changes[i].single);
		if (f->changes[i].pairs != NULL)
			tuplestore_end(f->changes[i].pairs);
	}
	f->changes = NULL;
}

/* Does the statement name raw_app_meta_data, whatever it then says? */
static bool
writes_copies(TriggerData *trigdata, const Registry *reg)
{
	return nlisteners > 0 && reg->copy_att != InvalidAttrNumber &&
		bms_is_member(reg->copy_att - FirstLowInvalidHeapAttributeNumber, trigdata->tg_updatedcols);
}

typedef struct CopyFiring
{
	TriggerData *trigdata;
	AttrNumber	id_att;
	AttrNumber	copy_att;
	bool		all;
	pg_uuid_t  *ids;
	int64		nids;
} CopyFiring;

/* The users whose copy this statement may have left wrong: a trigger of somebody's may write the column too. */
static void
collect_copies(void *arg)
{
	CopyFiring *f = (CopyFiring *) arg;
	TupleDesc	desc = RelationGetDescr(f->trigdata->tg_relation);
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Bitmapset  *att = bms_make_singleton(f->copy_att);
	int64		max = 0;

	tuplestore_select_read_pointer(f->trigdata->tg_oldtable, 0);
	tuplestore_rescan(f->trigdata->tg_oldtable);
	tuplestore_select_read_pointer(f->trigdata->tg_newtable, 0);
	tuplestore_rescan(f->trigdata->tg_newtable);
	while (tuplestore_gettupleslot(f->trigdata->tg_oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(f->trigdata->tg_newtable, true, false, new_slot))
	{
		bool		isnull;

		if (!f->all && !attributes_differ(old_slot, new_slot, att, NULL))
			continue;
		if (f->nids == max)
		{
			max = Max(16, max * 2);
			f->ids = f->ids == NULL ? palloc(sizeof(pg_uuid_t) * max) :
				repalloc_huge(f->ids, sizeof(pg_uuid_t) * max);
		}
		f->ids[f->nids++] = *DatumGetUUIDP(slot_getattr(new_slot, f->id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
}

/*
 * The auth server writes the whole of raw_app_meta_data back from what it has
 * read a moment ago, and so over a copy that has been written meanwhile. A copy
 * that it leaves as it was may have been wrong before: only the listeners know.
 */
static void
tell_copies_changed(TriggerData *trigdata, const Registry *reg)
{
	CopyFiring	f = {.trigdata = trigdata,.id_att = reg->id_att,.copy_att = reg->copy_att,.all = writes_copies(trigdata, reg)};
	Failure    *failure;

	if (nlisteners == 0 || reg->copy_att == InvalidAttrNumber)
		return;
	if (!sync_run_contained(collect_copies, &f, true, &failure))
	{
		warn_not_synced(failure);
		return;
	}
	for (int i = 0; f.nids > 0 && i < nlisteners; i++)
	{
		ListenerCall call = {.fn = listeners[i]->copies_changed,.ids = f.ids,.nids = f.nids};

		if (call.fn != NULL && !sync_run_contained(call_listener, &call, true, &failure))
			warn_not_synced(failure);
	}
}

/*
 * Walks OLD and NEW side by side. A login changes no column that any mapping
 * reads: then nothing is opened, planned or written.
 */
Datum
sync_on_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, TRIGGER_EVENT_UPDATE, false);
	UpdateFiring f;
	Failure    *failure;
	MemoryContext old;
	int			depth;
	uint64		serial;

	if (trigdata == NULL || tuplestore_tuple_count(trigdata->tg_newtable) == 0)
		return PointerGetDatum(NULL);
	memset(&f, 0, sizeof(f));
	f.trigdata = trigdata;
	f.reg = registry_for_trigger(trigdata->tg_relation);
	if (f.reg == NULL)
	{
		/* what a later road makes up for must not claim by an address of now */
		old = begin_firing();
		note_changed_addresses(trigdata);
		end_firing(old);
		return PointerGetDatum(NULL);
	}
	if (f.reg->ntargets == 0 && nlisteners == 0)
		return PointerGetDatum(NULL);

	old = begin_firing();
	if (!writes_copies(trigdata, f.reg) && !anything_changed(trigdata, f.reg))
	{
		end_firing(old);
		return PointerGetDatum(NULL);
	}

	plan_hold();
	depth = trigger_depth();
	f.owner = CurrentResourceOwner;
	f.id_set = bms_make_singleton(f.reg->id_att);
	if (!sync_run_contained(collect_changes, &f, true, &failure))
	{
		end_changes(&f);
		warn_not_synced(failure);
		f.nremoved = 0;
	}
	if (depth > 1)
		remember_nested(trigdata->tg_newtable, RelationGetDescr(trigdata->tg_relation), f.reg->id_att);
	serial = nested_serial;

	/* before anything that can fail: who comes after it has to know */
	note_changed_addresses(trigdata);
	for (int i = 0; f.changes != NULL && i < f.reg->ntargets; i++)
	{
		Changes    *c;
		Work		work;

		/* a trigger of the target before has written auth.users */
		if (serial != nested_serial)
		{
			serial = nested_serial;
			end_changes(&f);
			f.nremoved = 0;
			f.removed = NULL;
			if (!sync_run_contained(collect_changes, &f, true, &failure))
			{
				end_changes(&f);
				warn_not_synced(failure);
				break;
			}
			if (f.changes == NULL)
				break;
		}
		c = &f.changes[i];
		if (c->nrows == 0)
			continue;
		memset(&work, 0, sizeof(work));
		work.target = &f.reg->targets[i];
		work.auth = trigdata->tg_relation;
		work.id_att = f.reg->id_att;
		work.mode = WORK_FILL;
		work.may_raise = true;
		work.single = c->single;
		work.pairs = c->pairs;
		work.nrows = c->nrows;
		apply_work(&work);
		note_failed_addresses(&work);
		resolve_successes(&work, applied_columns(work.target, RelationGetDescr(work.auth), c->changed));
		quarantine_failures(&work, "update", f.reg);
	}
	end_changes(&f);
	if (f.nremoved > 0)
	{
		quarantine_forget_users(f.removed, f.nremoved);
		tell_all_gone(f.removed, f.nremoved);
		remove_from_targets(f.reg, f.removed, f.nremoved);
	}
	tell_copies_changed(trigdata, f.reg);
	if (depth == 1)
		forget_nested(XACT_EVENT_COMMIT, NULL);
	end_firing(old);
	plan_release();
	return PointerGetDatum(NULL);
}

/* The columns of a target that always follow the identity, as a text[]. */
static ArrayType *
identity_columns(const Target *t)
{
	ArrayBuildState *astate = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	for (int c = 0; c < t->ncolumns; c++)
		if (t->columns[c].policy == POLICY_ALWAYS && reads_identity(&t->columns[c]))
			accumArrayResult(astate, CStringGetTextDatum(t->columns[c].name), false, TEXTOID,
							 CurrentMemoryContext);
	return DatumGetArrayTypeP(makeArrayResult(astate, CurrentMemoryContext));
}

static SavedPlan first_identity_plan = {
	.sql = "SELECT f.user_id FROM (SELECT DISTINCT ON (i.user_id) i.user_id, i.id FROM auth.identities AS i "
	"WHERE i.user_id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY i.user_id, i.created_at, i.id) AS f "
	"WHERE f.id OPERATOR(pg_catalog.=) ANY ($2)",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

typedef struct IdentityFiring
{
	TriggerData *trigdata;
	pg_uuid_t  *users;
	int64		nusers;
} IdentityFiring;

/* The users for whom a new identity is the first one. */
static void
collect_identities(void *arg)
{
	IdentityFiring *f = (IdentityFiring *) arg;
	TupleDesc	desc = RelationGetDescr(f->trigdata->tg_relation);
	int			user_att = SPI_fnumber(desc, "user_id");
	int			id_att = SPI_fnumber(desc, "id");
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *rows = f->trigdata->tg_newtable;
	int64		max = tuplestore_tuple_count(rows);
	pg_uuid_t  *users = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * max);
	pg_uuid_t  *ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * max);
	int64		n = 0;
	Datum		args[2];
	Scope		scope;
	MemoryContext cxt = CurrentMemoryContext;

	if (user_att <= 0 || id_att <= 0 || TupleDescAttr(desc, user_att - 1)->atttypid != UUIDOID ||
		TupleDescAttr(desc, id_att - 1)->atttypid != UUIDOID)
		return;
	tuplestore_select_read_pointer(rows, 0);
	tuplestore_rescan(rows);
	while (n < max && tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool		isnull;

		users[n] = *DatumGetUUIDP(slot_getattr(slot, user_att, &isnull));
		ids[n++] = *DatumGetUUIDP(slot_getattr(slot, id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(slot);

	args[0] = plan_uuid_array(users, n);
	args[1] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&first_identity_plan, args, NULL, false, 0);
	f->users = MemoryContextAllocHuge(cxt, sizeof(pg_uuid_t) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		f->users[f->nusers++] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i],
															 SPI_tuptable->tupdesc, 1, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

typedef struct IdentityFill
{
	const IdentityFiring *firing;
	int64		target_id;
	ArrayType  *columns;
	SyncOutcome *outcomes;
} IdentityFill;

static void
fill_identities(void *arg)
{
	IdentityFill *fill = (IdentityFill *) arg;
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	sync_fill_users(fill->target_id, fill->firing->users, fill->firing->nusers, fill->columns,
					true, fill->outcomes);
	(void) settle_outcomes(fill->target_id, fill->outcomes, fill->firing->nusers, fill->columns);
	AtEOXact_GUC(false, guc_level);
}

/*
 * The user's row comes before its identity: when the first one arrives, what
 * is mapped from it is set. By the road of retries, which reads auth.users and
 * the identities as they are now.
 */
Datum
sync_on_identity(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Oid			identities;
	Registry   *reg;
	Relation	auth;
	IdentityFiring f;
	Failure    *failure;
	MemoryContext old;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	identities = get_relname_relid("identities", get_namespace_oid("auth", true));
	if (!invite_sync_enabled || trigdata->tg_newtable == NULL ||
		RelationGetRelid(trigdata->tg_relation) != identities ||
		tuplestore_tuple_count(trigdata->tg_newtable) == 0 ||
		!OidIsValid(caller_auth_users_relid(true)))
		return PointerGetDatum(NULL);

	old = begin_firing();
	plan_hold();
	auth = open_auth_users(AccessShareLock);
	reg = registry_for_trigger(auth);
	memset(&f, 0, sizeof(f));
	f.trigdata = trigdata;
	for (int i = 0; reg != NULL && i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		IdentityFill fill;

		if (!t->enabled || !t->uses_identity)
			continue;
		if (f.users == NULL && !sync_run_contained(collect_identities, &f, true, &failure))
		{
			warn_not_synced(failure);
			break;
		}
		if (f.nusers == 0)
			break;
		fill.firing = &f;
		fill.target_id = t->id;
		fill.columns = identity_columns(t);
		fill.outcomes = palloc_extended(sizeof(SyncOutcome) * f.nusers, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		if (!sync_run_contained(fill_identities, &fill, true, &failure))
			warn_not_synced(failure);
	}
	table_close(auth, AccessShareLock);
	plan_release();
	end_firing(old);
	return PointerGetDatum(NULL);
}

/*
 * A row trigger, and AFTER, so that it sorts by its name before the foreign
 * keys' own triggers and a target without CASCADE is emptied before it is
 * looked at. The first row's event does the work for the whole statement.
 */
Datum
sync_on_delete(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, TRIGGER_EVENT_DELETE, true);
	Tuplestorestate *oldtable;
	TupleTableSlot *slot;
	Registry   *reg;
	MemoryContext old;
	pg_uuid_t  *ids;
	int64		nids = 0;
	int64		count;
	bool		isnull;
	Datum		id;
	bool		first;
	int			depth;

	if (trigdata == NULL)
		return PointerGetDatum(NULL);
	oldtable = trigdata->tg_oldtable;
	reg = registry_for_trigger(trigdata->tg_relation);
	if (reg == NULL)
		return PointerGetDatum(NULL);

	old = begin_firing();
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigdata->tg_relation), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(oldtable, 0);
	tuplestore_rescan(oldtable);
	first = tuplestore_gettupleslot(oldtable, true, false, slot);
	if (first)
	{
		id = slot_getattr(trigdata->tg_trigslot, reg->id_att, &isnull);
		first = !isnull &&
			memcmp(DatumGetUUIDP(id),
				   DatumGetUUIDP(slot_getattr(slot, reg->id_att, &isnull)), UUID_LEN) == 0;
	}
	if (!first)
	{
		ExecDropSingleTupleTableSlot(slot);
		end_firing(old);
		return PointerGetDatum(NULL);
	}

	plan_hold();
	count = tuplestore_tuple_count(oldtable);
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * count);
	do
	{
		ids[nids++] = *DatumGetUUIDP(slot_getattr(slot, reg->id_att, &isnull));
	} while (nids < count && tuplestore_gettupleslot(oldtable, true, false, slot));
	ExecDropSingleTupleTableSlot(slot);

	depth = trigger_depth();
	if (depth > 1)
	{
		nested_serial++;
		for (int64 i = 0; i < nids && !nested_overflow; i++)
			remember_nested_id(&ids[i]);
	}
	quarantine_forget_users(ids, nids);
	forget_addresses(ids, nids);
	tell_all_gone(ids, nids);
	remove_from_targets(reg, ids, nids);
	if (depth == 1)
		forget_nested(XACT_EVENT_COMMIT, NULL);
	end_firing(old);
	plan_release();
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------
 * The roads that are not a trigger
 * ---------------------------------------------------------------------
 */

static Relation
open_auth_users(LOCKMODE lockmode)
{
	return table_open(caller_auth_users_relid(false), lockmode);
}

static SavedPlan lock_plan = {
	.sql = "SELECT x.id, x.ctid FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id, u.ctid FROM auth.users AS u "
	"WHERE u.id OPERATOR(pg_catalog.=) ANY ($1) AND deleted_at IS NULL ORDER BY u.id FOR SHARE OF u SKIP LOCKED) AS x",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan lock_wait_plan = {
	.sql = "SELECT x.id, x.ctid FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id, u.ctid FROM auth.users AS u "
	"WHERE u.id OPERATOR(pg_catalog.=) ANY ($1) AND deleted_at IS NULL ORDER BY u.id FOR SHARE OF u) AS x",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan exists_plan = {
	.sql = "SELECT x.id, x.ctid FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id, u.ctid FROM auth.users AS u "
	"WHERE u.id OPERATOR(pg_catalog.=) ANY ($1) AND deleted_at IS NULL) AS x",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan present_plan = {
	.sql = "SELECT u.id, u.ctid FROM auth.users AS u WHERE u.id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static Target *
find_target(Registry *reg, int64 id)
{
	for (int i = 0; i < reg->ntargets; i++)
		if (reg->targets[i].id == id)
			return &reg->targets[i];
	return NULL;
}

/*
 * Read rows of auth.users as they are stored, by the addresses that a statement
 * in the auth scope returned: SPI's own tuples have lost the dropped columns,
 * and with them the meaning of an attribute's number. A locked row may be newer
 * than the snapshot; hence any version.
 */
static int
fetch_rows(Relation auth, Tuplestorestate *store, pg_uuid_t *found)
{
	TupleTableSlot *slot = table_slot_create(auth, NULL);
	int			n = 0;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		id = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		ItemPointer tid = (ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[i],
																	  SPI_tuptable->tupdesc, 2, &isnull));

		if (!table_tuple_fetch_row_version(auth, tid, SnapshotAny, slot))
			continue;
		found[n++] = *DatumGetUUIDP(id);
		tuplestore_puttupleslot(store, slot);
		ExecClearTuple(slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	return n;
}

/* Lock users and hand their rows out; returns how many could be had. */
static int
lock_users(Relation auth, const pg_uuid_t *ids, int nids, bool wait,
		   Tuplestorestate *store, pg_uuid_t *found)
{
	Scope		scope;
	Datum		args[1];
	int			n;

	args[0] = plan_uuid_array(ids, nids);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(wait ? &lock_wait_plan : &lock_plan, args, NULL, false, 0);
	n = fetch_rows(auth, store, found);
	scope_leave(&scope);
	SPI_finish();
	return n;
}

SyncUserLock
sync_lock_user(Relation auth, const pg_uuid_t *user_id, TupleTableSlot *slot)
{
	Scope		scope;
	Datum		args[1];
	SyncUserLock result = SYNC_USER_GONE;

	args[0] = plan_uuid_array(user_id, 1);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&lock_plan, args, NULL, false, 1);
	if (SPI_processed == 1)
	{
		bool		isnull;
		ItemPointer tid = (ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[0],
																	  SPI_tuptable->tupdesc, 2, &isnull));

		if (table_tuple_fetch_row_version(auth, tid, SnapshotAny, slot))
		{
			/* a copy: the buffer belongs to this resource owner, not to the next */
			ExecMaterializeSlot(slot);
			result = SYNC_USER_LOCKED;
		}
	}
	else
	{
		plan_execute(&exists_plan, args, NULL, false, 1);
		if (SPI_processed == 1)
			result = SYNC_USER_BUSY;
	}
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/* The same without a lock; for looking only. */
static int
read_rows(SavedPlan *plan, Relation auth, const pg_uuid_t *ids, int nids, bool read_only,
		  Tuplestorestate *store, pg_uuid_t *found)
{
	Scope		scope;
	Datum		args[1];
	int			n;

	args[0] = plan_uuid_array(ids, nids);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(plan, args, NULL, read_only, 0);
	n = fetch_rows(auth, store, found);
	scope_leave(&scope);
	SPI_finish();
	return n;
}

static int
read_users(Relation auth, const pg_uuid_t *ids, int nids, bool read_only,
		   Tuplestorestate *store, pg_uuid_t *found)
{
	return read_rows(&exists_plan, auth, ids, nids, read_only, store, found);
}

/* One row, soft-deleted or not, as this transaction has left it. */
static bool
read_one_row(Relation auth, const pg_uuid_t *id, TupleTableSlot *slot)
{
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	pg_uuid_t	found;
	bool		there = read_rows(&present_plan, auth, id, 1, false, store, &found) == 1 &&
		tuplestore_gettupleslot(store, true, true, slot);

	tuplestore_end(store);
	return there;
}

static void
fill_chunk(int64 target_id, const pg_uuid_t *ids, int nids, ArrayType *overwrite,
		   bool known_missing, bool wait, SyncOutcome *outcomes)
{
	Relation	auth = open_auth_users(RowShareLock);
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	pg_uuid_t  *found = palloc(sizeof(pg_uuid_t) * nids);
	Registry   *reg;
	Target	   *t;
	int			nfound;

	plan_hold();
	load_registry(auth);
	reg = registry;
	t = find_target(reg, target_id);

	for (int i = 0; i < nids; i++)
	{
		outcomes[i].user_id = ids[i];
		outcomes[i].failure = NULL;
		outcomes[i].skipped = t != NULL;
		outcomes[i].exists = true;
	}

	if (t != NULL && t->enabled)
	{
		Work		work;
		pg_uuid_t  *present = palloc(sizeof(pg_uuid_t) * nids);
		int			npresent = 0;

		nfound = lock_users(auth, ids, nids, wait, store, found);
		memset(&work, 0, sizeof(work));
		work.target = t;
		work.auth = auth;
		work.id_att = reg->id_att;
		/* who has no row is inserted as in a signup; who has one after all, is not */
		work.mode = known_missing ? WORK_INSERT : WORK_FILL;
		work.single = store;
		work.nrows = nfound;
		work.overwrite = overwrite;
		work.known_missing = known_missing;
		apply_work(&work);
		note_failed_addresses(&work);
		need_ids(&work);

		/* lock_users returns them in the order of id */
		for (int i = 0; i < nids; i++)
		{
			pg_uuid_t  *hit = bsearch(&ids[i], found, nfound, sizeof(pg_uuid_t), compare_uuid);

			if (hit == NULL)
				continue;
			outcomes[i].skipped = false;
			if (work.failures != NULL)
				outcomes[i].failure = work.failures[hit - found];
		}

		/* of the others: held by somebody, or no longer there? */
		if (nfound < nids)
		{
			Tuplestorestate *ignored = tuplestore_begin_heap(false, false, work_mem);

			npresent = read_users(auth, ids, nids, false, ignored, present);
			tuplestore_end(ignored);
			qsort(present, npresent, sizeof(pg_uuid_t), compare_uuid);
			for (int i = 0; i < nids; i++)
			{
				if (outcomes[i].skipped &&
					bsearch(&ids[i], present, npresent, sizeof(pg_uuid_t), compare_uuid) == NULL)
				{
					outcomes[i].skipped = false;
					outcomes[i].exists = false;
				}
			}
		}
	}

	tuplestore_end(store);
	table_close(auth, NoLock);
	plan_release();
}

static void
fill_users(int64 target_id, const pg_uuid_t *ids, int nids, ArrayType *overwrite,
		   bool known_missing, bool wait, SyncOutcome *outcomes)
{
	for (int i = 0; i < nids; i += MAX_LOCK_BATCH)
		fill_chunk(target_id, ids + i, Min(MAX_LOCK_BATCH, nids - i), overwrite,
				   known_missing, wait, outcomes + i);
}

void
sync_fill_users(int64 target_id, const pg_uuid_t *user_ids, int nids,
				ArrayType *overwrite, bool wait, SyncOutcome *outcomes)
{
	fill_users(target_id, user_ids, nids, overwrite, false, wait, outcomes);
}

/* Which of these users are there? Sets outcomes[].exists; returns how many. */
static int
find_present(Relation auth, const pg_uuid_t *user_ids, int nids, SyncOutcome *outcomes)
{
	Tuplestorestate *ignored = tuplestore_begin_heap(false, false, work_mem);
	pg_uuid_t  *present = palloc(sizeof(pg_uuid_t) * nids);
	int			npresent = read_users(auth, user_ids, nids, false, ignored, present);

	tuplestore_end(ignored);
	qsort(present, npresent, sizeof(pg_uuid_t), compare_uuid);
	for (int i = 0; i < nids; i++)
		outcomes[i].exists = bsearch(&user_ids[i], present, npresent,
									 sizeof(pg_uuid_t), compare_uuid) != NULL;
	pfree(present);
	return npresent;
}

void
sync_remove_users(int64 target_id, const pg_uuid_t *user_ids, int nids, SyncOutcome *outcomes)
{
	Relation	auth = open_auth_users(AccessShareLock);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * nids);
	int		   *index = palloc(sizeof(int) * nids);
	SyncOutcome *back;
	int			n = 0;
	Target	   *t;

	plan_hold();
	load_registry(auth);
	t = find_target(registry, target_id);
	(void) find_present(auth, user_ids, nids, outcomes);
	for (int i = 0; i < nids; i++)
	{
		outcomes[i].user_id = user_ids[i];
		outcomes[i].failure = NULL;
		outcomes[i].skipped = t != NULL && !t->enabled;
		if (!outcomes[i].exists)
		{
			index[n] = i;
			ids[n++] = user_ids[i];
		}
	}
	if (t != NULL && t->enabled)
	{
		Work		work;

		memset(&work, 0, sizeof(work));
		work.target = t;
		work.mode = WORK_REMOVE;
		work.again = true;
		work.ids = ids;
		work.nrows = n;
		apply_work(&work);
		for (int i = 0; i < n; i++)
			if (work.failures != NULL)
				outcomes[index[i]].failure = work.failures[i];

		/*
		 * Somebody may have the same id again, also since we looked, and then we
		 * have waited for their row and removed it: they get it back.
		 */
		n = 0;
		if (find_present(auth, user_ids, nids, outcomes) > 0)
		{
			for (int i = 0; i < nids; i++)
				if (outcomes[i].exists)
				{
					index[n] = i;
					ids[n++] = user_ids[i];
				}
			back = palloc0(sizeof(SyncOutcome) * n);
			sync_fill_users(target_id, ids, n, NULL, false, back);
			for (int i = 0; i < n; i++)
				outcomes[index[i]] = back[i];
		}
	}
	table_close(auth, NoLock);
	plan_release();
}

/* Record what a road could not do; forget what it did. */
static int64
settle_outcomes(int64 target_id, const SyncOutcome *outcomes, int n, ArrayType *overwrite)
{
	QuarantineItem *items = palloc0(sizeof(QuarantineItem) * Max(n, 1));
	pg_uuid_t  *good = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	int			nitems = 0;
	int			ngood = 0;
	char	   *changed = NULL;

	if (overwrite != NULL)
		changed = OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(overwrite));
	for (int i = 0; i < n; i++)
	{
		/* of whom is gone, a removal that failed may be waiting: a retry knows */
		if (outcomes[i].skipped || !outcomes[i].exists)
			continue;
		if (outcomes[i].failure != NULL)
		{
			items[nitems].user_id = outcomes[i].user_id;
			items[nitems].failure = outcomes[i].failure;
			items[nitems].changed = changed;
			nitems++;
		}
		else
			good[ngood++] = outcomes[i].user_id;
	}
	quarantine_record(target_id, "update", items, nitems);
	quarantine_resolve(target_id, good, ngood, overwrite);
	pfree(items);
	pfree(good);
	return nitems;
}

/*
 * All users of auth.users that are not soft-deleted (or, with deleted, all), by
 * id only. Read straight from the table: no statement, so nobody's rights and
 * no row security are asked; nothing but ids comes out.
 */
static Tuplestorestate *
read_all_ids(Relation auth, const Registry *reg, bool deleted, TupleDesc *desc, int64 *count)
{
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot = table_slot_create(auth, NULL);
	TableScanDesc scan;

	*desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(*desc, 1, "id", UUIDOID, -1, 0);
	*count = 0;
	scan = table_beginscan(auth, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Datum		values[1];
		bool		nulls[1];

		CHECK_FOR_INTERRUPTS();
		if (!deleted && reg->deleted_att != InvalidAttrNumber &&
			!slot_attisnull(slot, reg->deleted_att))
			continue;
		values[0] = slot_getattr(slot, reg->id_att, &nulls[0]);
		if (nulls[0])
			continue;
		tuplestore_putvalues(store, *desc, values, nulls);
		(*count)++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return store;
}

static void
register_ids(EphemeralNamedRelation enr, TupleDesc desc, Tuplestorestate *store, int64 count)
{
	int			rc;

	memset(enr, 0, sizeof(*enr));
	enr->md.name = IDS_NAME;
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = count;
	enr->reldata = store;
	rc = SPI_register_relation(enr);
	if (rc != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s", SPI_result_code_string(rc));
}

/* Questions to a target that write nothing; each in a subtransaction. */
typedef struct Question
{
	Target	   *target;
	LOCKMODE	lockmode;
	bool		read_only;
	Relation	auth;
	AttrNumber	id_att;
	ArrayType  *overwrite;
	Tuplestorestate *source;	/* of users, or of ids */
	TupleDesc	ids_desc;
	int64		count;
	DestReceiver *dest;			/* where rows go, or NULL */
	Tuplestorestate *answers;

	/* answers to counting questions */
	int64		rows;
	int64		keyed;
	int64		orphaned;
	int64		missing;
	int64		differing;
} Question;

/* Who may have something to be written? Those missing, or with a NULL to fill. */
static void
ask_candidates(void *arg)
{
	Question   *q = (Question *) arg;
	EphemeralNamedRelationData enr;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	SPIExecuteOptions options;
	int			rc;

	sync_bound_lock_wait();
	prepare_target(q->target, q->lockmode);
	SPI_connect();
	scope_enter_target(&scope, q->target->owner, q->target->search_path);
	register_ids(&enr, q->ids_desc, q->source, q->count);
	memset(&options, 0, sizeof(options));
	options.read_only = q->read_only;
	options.dest = CreateTuplestoreDestReceiver();
	SetTuplestoreDestReceiverParams(options.dest, q->answers, CurrentMemoryContext,
									false, NULL, NULL);
	rc = SPI_execute_extended(q->target->candidates_sql, &options);
	if (rc < 0)
		elog(ERROR, "SPI_execute_extended failed: %s", SPI_result_code_string(rc));
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Counts need the key only: they can be had while the mapping does not fit. */
static void
ask_counts(void *arg)
{
	Question   *q = (Question *) arg;
	Target	   *t = q->target;
	EphemeralNamedRelationData enr;
	int			guc_level = NewGUCNestLevel();
	const char *key = quote_identifier(t->key);
	Relation	rel;
	Scope		scope;
	bool		isnull;
	int			rc;

	sync_bound_lock_wait();
	rel = locate_target(t, q->lockmode);
	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	register_ids(&enr, q->ids_desc, q->source, q->count);
	rc = SPI_execute(psprintf("SELECT pg_catalog.count(*), pg_catalog.count(t.%s), "
							  "pg_catalog.count(*) FILTER (WHERE t.%s IS NOT NULL AND i.id IS NULL) "
							  "FROM %s AS t LEFT JOIN %s AS i ON i.id = t.%s",
							  key, key, relation_display(rel), IDS_NAME, key),
					 q->read_only, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	q->rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	q->keyed = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	q->orphaned = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	scope_leave(&scope);
	SPI_finish();
	relation_close(rel, NoLock);
	AtEOXact_GUC(false, guc_level);
}

/* Exactly who is missing or differs, of the users in q->source. */
static void
ask_check(void *arg)
{
	Question   *q = (Question *) arg;
	EphemeralNamedRelationData enr;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	Identities	identities;
	Datum		values[1];
	int			rc;

	sync_bound_lock_wait();
	prepare_target(q->target, q->lockmode);
	load_identities(q->target, q->auth, q->source, q->read_only, &identities);
	SPI_connect();
	register_identities(&identities);
	scope_enter_target(&scope, q->target->owner, q->target->search_path);
	register_source(&enr, q->auth, q->source);
	if (q->target->check_plan == NULL)
		q->target->check_plan = make_kept(q->target->check_sql, 1, RelationGetDescr(q->auth));
	plan_by_index(q->target->check_plan);
	values[0] = PointerGetDatum(q->overwrite ? q->overwrite : construct_empty_array(TEXTOID));
	rc = SPI_execute_plan(q->target->check_plan, values, NULL, q->read_only, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		row[2];
		bool		nulls[2] = {false, false};

		row[0] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &nulls[0]);
		row[1] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &nulls[1]);
		if (DatumGetBool(row[1]))
			q->missing++;
		else
			q->differing++;
		if (q->answers != NULL)
			tuplestore_putvalues(q->answers, q->ids_desc, row, nulls);
	}
	scope_leave(&scope);
	SPI_finish();
	end_identities(&identities);
	AtEOXact_GUC(false, guc_level);
}

static TupleDesc
answer_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(2);

	TupleDescInitEntry(desc, 1, "id", UUIDOID, -1, 0);
	TupleDescInitEntry(desc, 2, "missing", BOOLOID, -1, 0);
	return desc;
}

static ArrayType *
text_array_from_literal(const char *literal)
{
	return DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, unconstify(char *, literal),
												   TEXTOID, -1));
}

static LOCKMODE
reading_lock(void)
{
	return AccessShareLock;
}

/*
 * Scan all users in chunks and ask the check statement about each chunk. For
 * what keys alone cannot tell: values that differ.
 */
static bool
check_all_users(Target *t, Relation auth, Registry *reg, ArrayType *overwrite, bool read_only,
				Tuplestorestate *answers, Question *total, Failure **failure)
{
	TupleTableSlot *slot = table_slot_create(auth, NULL);
	TupleDesc	desc = answer_desc();
	TableScanDesc scan;
	bool		more = true;
	bool		ok = true;

	scan = table_beginscan(auth, GetActiveSnapshot(), 0, NULL);
	while (more && ok)
	{
		Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
		int			n = 0;
		Question	q;

		while (n < 5000 && (more = table_scan_getnextslot(scan, ForwardScanDirection, slot)))
		{
			CHECK_FOR_INTERRUPTS();
			if (reg->deleted_att != InvalidAttrNumber && !slot_attisnull(slot, reg->deleted_att))
				continue;
			tuplestore_puttupleslot(store, slot);
			n++;
		}
		memset(&q, 0, sizeof(q));
		q.target = t;
		q.lockmode = reading_lock();
		q.read_only = read_only;
		q.auth = auth;
		q.id_att = reg->id_att;
		q.overwrite = overwrite;
		q.source = store;
		q.answers = answers;
		q.ids_desc = desc;
		if (n > 0 || !more)
			ok = sync_run_contained(ask_check, &q, true, failure);
		total->missing += q.missing;
		total->differing += q.differing;
		total->count += n;
		tuplestore_end(store);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return ok;
}

/*
 * Who in this target may need something? Answers go to a tuplestore (id,
 * missing). Without overwrite a comparison of keys and NULLs tells, in one
 * statement over all users; with it every value has to be looked at.
 */
static bool
find_candidates(Target *t, Relation auth, Registry *reg, ArrayType *overwrite,
				Tuplestorestate *answers, int64 *ncandidates, Failure **failure)
{
	Question	q;
	TupleDesc	desc;
	bool		ok;

	memset(&q, 0, sizeof(q));
	if (overwrite != NULL)
	{
		ok = check_all_users(t, auth, reg, overwrite, false, answers, &q, failure);
	}
	else
	{
		q.target = t;
		q.lockmode = reading_lock();
		q.source = read_all_ids(auth, reg, false, &desc, &q.count);
		q.ids_desc = desc;
		q.answers = answers;
		ok = sync_run_contained(ask_candidates, &q, true, failure);
		tuplestore_end(q.source);
	}
	*ncandidates = tuplestore_tuple_count(answers);
	return ok;
}

/*
 * A signup that was under way while a target was added has been synced by
 * nobody: its trigger ran before. Wait for it, then look.
 */
static void
wait_for_signups(Oid auth)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, auth);
	WaitForLockers(tag, ShareLock, false);
}

/* Look at these users without locking them, and keep those that need anything. */
static bool
filter_users(int64 target_id, pg_uuid_t *ids, int *nids, bool *missing, ArrayType *overwrite,
			 Failure **failure)
{
	Relation	auth = open_auth_users(AccessShareLock);
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	Tuplestorestate *answers = tuplestore_begin_heap(true, false, work_mem);
	pg_uuid_t  *found = palloc(sizeof(pg_uuid_t) * Max(*nids, 1));
	Target	   *t;
	Question	q;
	bool		ok = true;

	plan_hold();
	load_registry(auth);
	t = find_target(registry, target_id);
	memset(&q, 0, sizeof(q));
	if (t != NULL)
	{
		TupleTableSlot *slot;

		(void) read_users(auth, ids, *nids, false, store, found);
		q.target = t;
		q.lockmode = reading_lock();
		q.auth = auth;
		q.overwrite = overwrite;
		q.source = store;
		q.answers = answers;
		q.ids_desc = answer_desc();
		ok = sync_run_contained(ask_check, &q, true, failure);
		if (ok)
		{
			*nids = 0;
			slot = MakeSingleTupleTableSlot(q.ids_desc, &TTSOpsMinimalTuple);
			while (tuplestore_gettupleslot(answers, true, false, slot))
			{
				bool		isnull;

				ids[*nids] = *DatumGetUUIDP(slot_getattr(slot, 1, &isnull));
				missing[*nids] = DatumGetBool(slot_getattr(slot, 2, &isnull));
				(*nids)++;
			}
			ExecDropSingleTupleTableSlot(slot);
		}
	}
	tuplestore_end(store);
	tuplestore_end(answers);
	table_close(auth, NoLock);
	plan_release();
	return ok;
}

/* The targets a call is about, by id: the registry may be replaced under way. */
static int64 *
select_targets(Oid relid, int *ntargets)
{
	Registry   *reg;
	int64	   *ids;

	load_registry_for_caller(load_registry, NULL);
	reg = registry;
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

static char *
target_name_by_id(int64 id)
{
	Target	   *t = registry ? find_target(registry, id) : NULL;

	return t ? pstrdup(target_display(t)) : psprintf("target " INT64_FORMAT, id);
}

static char *
failure_detail(const Failure *f)
{
	return psprintf("SQLSTATE %s: %s", unpack_sql_state(f->sqlerrcode), f->edata->message);
}

typedef struct Tally
{
	int64		inserted;
	int64		updated;
	int64		failed;
	int64		skipped;
} Tally;

static void
emit_sync_row(ReturnSetInfo *rsinfo, const char *target, const pg_uuid_t *user_id,
			  const char *action, const char *detail)
{
	Datum		values[4];
	bool		nulls[4] = {target == NULL, user_id == NULL, false, detail == NULL};

	values[0] = target ? CStringGetTextDatum(target) : (Datum) 0;
	values[1] = user_id ? UUIDPGetDatum(user_id) : (Datum) 0;
	values[2] = CStringGetTextDatum(action);
	values[3] = detail ? CStringGetTextDatum(detail) : (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* One chunk of users into one target, with a result row each. */
static int
sync_chunk(ReturnSetInfo *rsinfo, int64 target_id, pg_uuid_t *ids, int nids, ArrayType *overwrite,
		   bool dry_run, bool wait, Tally *tally, pg_uuid_t *skipped)
{
	char	   *name = target_name_by_id(target_id);
	bool	   *missing = palloc(sizeof(bool) * Max(nids, 1));
	SyncOutcome *outcomes;
	Failure    *failure;
	int			nskipped = 0;
	bool		known = filter_users(target_id, ids, &nids, missing, overwrite, &failure);

	if (!known && dry_run)
	{
		emit_sync_row(rsinfo, name, NULL, "would fail", failure_detail(failure));
		tally->failed += nids;
		return 0;
	}
	if (dry_run)
	{
		for (int i = 0; i < nids; i++)
		{
			emit_sync_row(rsinfo, name, &ids[i], missing[i] ? "would insert" : "would update", NULL);
			if (missing[i])
				tally->inserted++;
			else
				tally->updated++;
		}
		return 0;
	}

	outcomes = palloc0(sizeof(SyncOutcome) * Max(nids, 1));
	fill_users(target_id, ids, nids, overwrite, false, wait, outcomes);
	settle_outcomes(target_id, outcomes, nids, overwrite);
	for (int i = 0; i < nids; i++)
	{
		if (outcomes[i].skipped)
			skipped[nskipped++] = ids[i];
		else if (outcomes[i].failure != NULL)
		{
			emit_sync_row(rsinfo, name, &ids[i], "quarantined", failure_detail(outcomes[i].failure));
			tally->failed++;
		}
		else if (outcomes[i].exists)
		{
			emit_sync_row(rsinfo, name, &ids[i],
						  known && missing[i] ? "inserted" : "updated", NULL);
			if (known && missing[i])
				tally->inserted++;
			else
				tally->updated++;
		}
	}
	return nskipped;
}

static int
read_answers(Tuplestorestate *answers, TupleTableSlot *slot, pg_uuid_t *ids, bool *missing, int max)
{
	int			n = 0;

	while (n < max && tuplestore_gettupleslot(answers, true, false, slot))
	{
		bool		isnull;

		ids[n] = *DatumGetUUIDP(slot_getattr(slot, 1, &isnull));
		missing[n] = DatumGetBool(slot_getattr(slot, 2, &isnull));
		n++;
	}
	return n;
}

PG_FUNCTION_INFO_V1(sync_users);

/* sync_users(target, user_id, dry_run, overwrite) */
Datum
sync_users(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	bool		one_user = !PG_ARGISNULL(1);
	bool		dry_run = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	bool		overwriting = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64	   *targets;
	int			ntargets;
	Tally		tally;
	Oid			auth_oid;
	char		summary[200];

	caller_require_service();
	InitMaterializedSRF(fcinfo, 0);
	memset(&tally, 0, sizeof(tally));

	auth_oid = caller_auth_users_relid(false);
	if (!dry_run)
		sync_refresh_names();
	targets = select_targets(relid, &ntargets);
	if (!one_user)
		wait_for_signups(auth_oid);

	for (int i = 0; i < ntargets; i++)
	{
		Relation	auth = open_auth_users(AccessShareLock);
		Tuplestorestate *answers = tuplestore_begin_heap(true, false, work_mem);
		TupleTableSlot *slot = MakeSingleTupleTableSlot(answer_desc(), &TTSOpsMinimalTuple);
		ArrayType  *overwrite = NULL;
		pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * MAX_LOCK_BATCH);
		bool	   *missing = palloc(sizeof(bool) * MAX_LOCK_BATCH);
		pg_uuid_t  *skipped;
		int			nskipped = 0;
		int64		ncandidates = 1;
		Failure    *failure = NULL;
		bool		ok = true;
		Target	   *t;
		Question	q;

		/* the names of all columns come with the statements */
		PushActiveSnapshot(GetTransactionSnapshot());
		plan_hold();
		load_registry(auth);
		t = find_target(registry, targets[i]);
		if (t != NULL && overwriting)
		{
			memset(&q, 0, sizeof(q));
			q.target = t;
			q.lockmode = reading_lock();
			q.auth = auth;
			q.source = tuplestore_begin_heap(true, false, work_mem);
			q.ids_desc = answer_desc();
			ok = sync_run_contained(ask_check, &q, true, &failure);
			if (ok)
				overwrite = text_array_from_literal(t->updatable_columns);
			tuplestore_end(q.source);
		}
		if (t != NULL && ok && !one_user)
			ok = find_candidates(t, auth, registry, overwrite, answers, &ncandidates, &failure);
		plan_release();
		PopActiveSnapshot();
		table_close(auth, NoLock);

		if (t == NULL)
			continue;
		if (!ok && !one_user)
		{
			emit_sync_row(rsinfo, target_name_by_id(targets[i]), NULL, "failed", failure_detail(failure));
			tally.failed++;
			continue;
		}

		skipped = palloc_extended(sizeof(pg_uuid_t) * Max(ncandidates, 1), MCXT_ALLOC_HUGE);
		if (one_user)
		{
			ids[0] = *PG_GETARG_UUID_P(1);
			nskipped = sync_chunk(rsinfo, targets[i], ids, 1, overwrite, dry_run, true, &tally, skipped);
		}
		else
		{
			int			n;

			while ((n = read_answers(answers, slot, ids, missing, MAX_LOCK_BATCH)) > 0)
				nskipped += sync_chunk(rsinfo, targets[i], ids, n, overwrite, dry_run, false,
									   &tally, skipped + nskipped);
			/* what others held: once more, waiting for it */
			for (int k = 0; k < nskipped; k += MAX_LOCK_BATCH)
				(void) sync_chunk(rsinfo, targets[i], skipped + k, Min(MAX_LOCK_BATCH, nskipped - k),
								  overwrite, dry_run, true, &tally, palloc(sizeof(pg_uuid_t) * MAX_LOCK_BATCH));
		}
		ExecDropSingleTupleTableSlot(slot);
		tuplestore_end(answers);
		if (!dry_run)
			sync_note_run(targets[i]);
	}

	snprintf(summary, sizeof(summary),
			 "%s" INT64_FORMAT " inserted, " INT64_FORMAT " updated, " INT64_FORMAT " failed",
			 dry_run ? "dry run: " : "", tally.inserted, tally.updated, tally.failed);
	emit_sync_row(rsinfo, NULL, NULL, "summary", summary);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(sync_all);

static void
report_progress(const char *name, int64 done, int64 total, TimestampTz started)
{
	double		seconds = (double) (GetCurrentTimestamp() - started) / USECS_PER_SEC;
	double		rate = seconds > 0 ? done / seconds : 0;

	ereport(NOTICE,
			(errmsg("%s: " INT64_FORMAT " of " INT64_FORMAT " done, %.0f per second, %.0f s to go",
					name, done, total, rate, rate > 0 ? (total - done) / rate : 0.0)));
}

/*
 * CALL sync_all(batch_size, target). Commits after each batch, so it holds no
 * lock for longer than one; what is done stays done, and the next call goes on
 * from there. No scope is held and no setting changed at a commit.
 */
Datum
sync_all(PG_FUNCTION_ARGS)
{
	int32		batch_size = PG_ARGISNULL(0) ? 1000 : PG_GETARG_INT32(0);
	Oid			relid = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);
	bool		atomic = true;
	MemoryContext keep;
	MemoryContext scratch;
	int64	   *targets;
	int			ntargets;
	Oid			auth_oid;

	if (fcinfo->context && IsA(fcinfo->context, CallContext))
		atomic = castNode(CallContext, fcinfo->context)->atomic;
	caller_require_operator();
	if (batch_size < 1 || batch_size > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be between 1 and 100000"),
				 errhint("Leave it out for batches of 1000 users.")));
	/* more locks at once than this are not worth their wait */
	batch_size = Min(batch_size, MAX_LOCK_BATCH);
	if (atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("sync_all cannot run inside a transaction block"),
				 errhint("It commits after each batch: call it outside of BEGIN and of functions, or use invite_sync.sync_users().")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* the context of SPI_connect_ext lives through commits; ours hang from it */
	keep = AllocSetContextCreate(CurrentMemoryContext, "invite_sync sync_all", ALLOCSET_SMALL_SIZES);
	scratch = AllocSetContextCreate(keep, "invite_sync sync_all batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(keep);

	auth_oid = caller_auth_users_relid(false);
	sync_refresh_names();
	targets = select_targets(relid, &ntargets);
	wait_for_signups(auth_oid);
	/* a new transaction, hence a snapshot that sees whom we waited for */
	SPI_commit();

	for (int i = 0; i < ntargets; i++)
	{
		Tuplestorestate *answers;
		TupleTableSlot *slot;
		TimestampTz started = GetCurrentTimestamp();
		TimestampTz reported = started;
		int64		total = 0;
		int64		done = 0;
		int64		failed = 0;
		int64		written = 0;
		pg_uuid_t  *ids;
		bool	   *missing;
		pg_uuid_t  *skipped = NULL;
		int			nskipped = 0;
		int			maxskipped = 0;
		char	   *name;
		Relation	auth;
		Target	   *t;
		Failure    *failure = NULL;
		bool		ok;
		int			n;

		MemoryContextSwitchTo(keep);
		ids = palloc(sizeof(pg_uuid_t) * batch_size);
		missing = palloc(sizeof(bool) * batch_size);
		answers = tuplestore_begin_heap(true, true, work_mem);
		slot = MakeSingleTupleTableSlot(answer_desc(), &TTSOpsMinimalTuple);

		auth = open_auth_users(AccessShareLock);
		PushActiveSnapshot(GetTransactionSnapshot());
		plan_hold();
		load_registry(auth);
		t = find_target(registry, targets[i]);
		ok = t != NULL && find_candidates(t, auth, registry, NULL, answers, &total, &failure);
		plan_release();
		PopActiveSnapshot();
		table_close(auth, NoLock);
		name = target_name_by_id(targets[i]);
		SPI_commit();
		if (!ok)
		{
			if (failure != NULL)
				ereport(WARNING,
						(errcode(ERRCODE_WARNING),
						 errmsg("target %s cannot be read, nobody was synced to it", name),
						 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
						 errhint("See SELECT * FROM invite_sync.verify().")));
			continue;
		}

		while ((n = read_answers(answers, slot, ids, missing, batch_size)) > 0)
		{
			SyncOutcome *outcomes;
			int			nmissing = 0;
			int			nother = 0;
			pg_uuid_t  *absent;
			pg_uuid_t  *others;

			MemoryContextSwitchTo(scratch);
			PushActiveSnapshot(GetTransactionSnapshot());
			absent = palloc(sizeof(pg_uuid_t) * n);
			others = palloc(sizeof(pg_uuid_t) * n);
			for (int k = 0; k < n; k++)
			{
				if (missing[k])
					absent[nmissing++] = ids[k];
				else
					others[nother++] = ids[k];
			}
			/* a NULL that nothing can fill is no reason to lock anybody */
			if (nother > 0)
			{
				bool	   *flags = palloc(sizeof(bool) * n);

				(void) filter_users(targets[i], others, &nother, flags, NULL, &failure);
			}
			for (int part = 0; part < 2; part++)
			{
				pg_uuid_t  *list = part == 0 ? absent : others;
				int			nlist = part == 0 ? nmissing : nother;

				outcomes = palloc0(sizeof(SyncOutcome) * Max(nlist, 1));
				fill_users(targets[i], list, nlist, NULL, part == 0, false, outcomes);
				failed += settle_outcomes(targets[i], outcomes, nlist, NULL);
				for (int k = 0; k < nlist; k++)
				{
					if (!outcomes[k].skipped)
					{
						written += outcomes[k].exists && outcomes[k].failure == NULL;
						continue;
					}
					if (nskipped == maxskipped)
					{
						maxskipped = Max(1000, maxskipped * 2);
						MemoryContextSwitchTo(keep);
						skipped = skipped == NULL ?
							palloc(sizeof(pg_uuid_t) * maxskipped) :
							repalloc_huge(skipped, sizeof(pg_uuid_t) * maxskipped);
						MemoryContextSwitchTo(scratch);
					}
					skipped[nskipped++] = list[k];
				}
			}
			PopActiveSnapshot();
			MemoryContextSwitchTo(keep);
			MemoryContextReset(scratch);
			SPI_commit();
			done += n;
			if (TimestampDifferenceExceeds(reported, GetCurrentTimestamp(), 1000) && done < total)
			{
				reported = GetCurrentTimestamp();
				report_progress(name, done, total, started);
			}
		}

		for (int k = 0; k < nskipped; k += MAX_LOCK_BATCH)
		{
			int			nlist = Min(MAX_LOCK_BATCH, nskipped - k);
			SyncOutcome *outcomes;

			MemoryContextSwitchTo(scratch);
			PushActiveSnapshot(GetTransactionSnapshot());
			outcomes = palloc0(sizeof(SyncOutcome) * nlist);
			fill_users(targets[i], skipped + k, nlist, NULL, false, true, outcomes);
			failed += settle_outcomes(targets[i], outcomes, nlist, NULL);
			for (int k2 = 0; k2 < nlist; k2++)
				written += outcomes[k2].exists && outcomes[k2].failure == NULL && !outcomes[k2].skipped;
			PopActiveSnapshot();
			MemoryContextSwitchTo(keep);
			MemoryContextReset(scratch);
			SPI_commit();
		}

		MemoryContextSwitchTo(keep);
		PushActiveSnapshot(GetTransactionSnapshot());
		sync_note_run(targets[i]);
		PopActiveSnapshot();
		SPI_commit();
		ExecDropSingleTupleTableSlot(slot);
		tuplestore_end(answers);
		ereport(NOTICE,
				(errmsg("%s: done, " INT64_FORMAT " users written in %.1f s", name, written,
						(double) (GetCurrentTimestamp() - started) / USECS_PER_SEC)));
		if (failed > 0)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("%s: " INT64_FORMAT " users are in quarantine", name, failed)));
	}

	SPI_finish();
	PG_RETURN_VOID();
}

static SavedPlan note_run_plan = {
	.sql = "WITH held AS (SELECT r.target_id FROM invite_sync.sync_run AS r WHERE r.target_id = $1 FOR UPDATE SKIP LOCKED) "
	"UPDATE invite_sync.sync_run AS r SET last_success = pg_catalog.clock_timestamp() "
	"FROM held AS h WHERE r.target_id = h.target_id",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/*
 * In a table of its own: the registry's would tell every session to read the
 * registry again. Whom somebody else is noting needs no note of ours; to wait
 * for that would let two retries lock each other out.
 */
void
sync_note_run(int64 target_id)
{
	Scope		scope;
	Datum		args[1];

	args[0] = Int64GetDatum(target_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&note_run_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan rename_plan = {
	.sql = "UPDATE invite_sync.target AS t SET relation = $2::pg_catalog.regclass, relation_number = $2, schema_name = $3, table_name = $4, "
	"registered_in = $5 WHERE t.id = $1",
	.nargs = 5,
	.argtypes = {INT8OID, OIDOID, NAMEOID, NAMEOID, TEXTOID}
};

/*
 * Write down what targets are called now. Only roads that are not a trigger do:
 * two signups must never write the same row.
 */
void
sync_refresh_names(void)
{
	char	   *lineage;
	Registry   *reg;

	load_registry_for_caller(load_registry, NULL);
	lineage = caller_lineage(InvalidSnapshot);
	reg = registry;
	plan_hold();
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		Oid			relid = t->relid;
		char	   *table = OidIsValid(relid) ? get_rel_name(relid) : NULL;
		char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;
		bool		same_name = schema != NULL && strcmp(schema, t->schema) == 0 &&
			strcmp(table, t->table) == 0;
		Scope		scope;
		Datum		args[5];

		if (same_name && t->stamped)
			continue;
		if (schema == NULL || (!t->same_database && !same_name))
		{
			Oid			nsp = get_namespace_oid(t->schema, true);

			relid = OidIsValid(nsp) ? get_relname_relid(t->table, nsp) : InvalidOid;
			if (!OidIsValid(relid))
				continue;
			schema = t->schema;
			table = t->table;
		}
		args[0] = Int64GetDatum(t->id);
		args[1] = ObjectIdGetDatum(relid);
		args[2] = DirectFunctionCall1(namein, CStringGetDatum(schema));
		args[3] = DirectFunctionCall1(namein, CStringGetDatum(table));
		args[4] = CStringGetTextDatum(lineage);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&rename_plan, args, NULL, false, 0);
		scope_leave(&scope);
		SPI_finish();
	}
	plan_release();
}

PG_FUNCTION_INFO_V1(sync_user_exists);
PG_FUNCTION_INFO_V1(sync_ensure_user);
PG_FUNCTION_INFO_V1(sync_create_profile);

Datum
sync_user_exists(PG_FUNCTION_ARGS)
{
	Relation	auth;
	Tuplestorestate *ignored;
	pg_uuid_t	found[1];
	int			n;

	caller_require_service();
	auth = open_auth_users(AccessShareLock);
	load_registry(auth);
	ignored = tuplestore_begin_heap(false, false, work_mem);
	n = read_users(auth, PG_GETARG_UUID_P(0), 1, true, ignored, found);
	tuplestore_end(ignored);
	table_close(auth, AccessShareLock);
	PG_RETURN_BOOL(n == 1);
}

/*
 * Is there a row for this user in every enabled target, after trying? The event
 * room comes before this one and so calls it through a hook.
 */
static bool
ensure_user(const pg_uuid_t *user_id)
{
	int			ntargets;
	int64	   *targets = select_targets(InvalidOid, &ntargets);
	bool		result = true;

	for (int i = 0; i < ntargets; i++)
	{
		SyncOutcome outcome;

		fill_users(targets[i], user_id, 1, NULL, false, true, &outcome);
		if (!outcome.exists)
			return false;
		settle_outcomes(targets[i], &outcome, 1, NULL);
		if (outcome.failure != NULL || outcome.skipped)
			result = false;
	}
	if (ntargets == 0)
	{
		AuthUserState state;

		caller_auth_user_state(user_id, &state);
		result = state.exists;
	}
	return result;
}

Datum
sync_ensure_user(PG_FUNCTION_ARGS)
{
	caller_require_service();
	PG_RETURN_BOOL(ensure_user(PG_GETARG_UUID_P(0)));
}

/* One target's part of create_profile, in its scope. */
typedef struct Profile
{
	Target	   *target;
	pg_uuid_t  *user_id;
	int			ncolumns;
	char	  **names;
	char	  **values;
	bool	   *used;
	char	   *result;			/* the row, as json */
	MemoryContext cxt;
} Profile;

static void
write_profile(void *arg)
{
	Profile    *p = (Profile *) arg;
	Target	   *t = p->target;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	StringInfoData buf;
	Relation	rel;
	TupleDesc	desc;
	Datum	   *args = palloc(sizeof(Datum) * (p->ncolumns + 1));
	char	   *nulls = palloc0(p->ncolumns + 2);
	Oid		   *types = palloc(sizeof(Oid) * (p->ncolumns + 1));
	int			n = 1;
	int			rc;

	sync_bound_lock_wait();
	prepare_target(t, RowExclusiveLock);
	rel = relation_open(t->relid, NoLock);
	desc = RelationGetDescr(rel);

	args[0] = UUIDPGetDatum(p->user_id);
	nulls[0] = ' ';
	types[0] = UUIDOID;
	initStringInfo(&buf);
	for (int i = 0; i < p->ncolumns; i++)
	{
		int			att = SPI_fnumber(desc, p->names[i]);

		if (att <= 0 || strcmp(p->names[i], t->key) == 0)
			continue;
		p->used[i] = true;
		args[n] = p->values[i] ? CStringGetTextDatum(p->values[i]) : (Datum) 0;
		nulls[n] = p->values[i] ? ' ' : 'n';
		types[n] = TEXTOID;
		n++;
		appendStringInfo(&buf, "%s%s = $%d::%s", n > 2 ? ", " : "",
						 quote_identifier(p->names[i]), n,
						 format_type_extended(TupleDescAttr(desc, att - 1)->atttypid, -1,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	}

	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	set_deferred(t, false, false);
	if (n > 1)
	{
		char	   *sql = psprintf("UPDATE %s AS t SET %s WHERE t.%s = $1",
								   relation_display(rel), buf.data, quote_identifier(t->key));

		rc = SPI_execute_with_args(sql, n, types, args, nulls, false, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	}
	rc = SPI_execute_with_args(psprintf("SELECT pg_catalog.to_jsonb(t)::pg_catalog.text FROM %s AS t WHERE t.%s = $1",
										relation_display(rel), quote_identifier(t->key)),
							   1, types, args, nulls, false, 1);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	if (SPI_processed == 1)
		p->result = MemoryContextStrdup(p->cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	set_deferred(t, true, false);
	scope_leave(&scope);
	SPI_finish();
	relation_close(rel, NoLock);
	AtEOXact_GUC(false, guc_level);
}

/*
 * create_profile(user_id, overrides): the user's rows in all targets, with some
 * columns set by the caller. Unlike a sync this raises: the caller waits for
 * the answer.
 */
Datum
sync_create_profile(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *user_id = PG_GETARG_UUID_P(0);
	Jsonb	   *overrides = PG_GETARG_JSONB_P(1);
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;
	Profile		p;
	int64	   *targets;
	int			ntargets;
	StringInfoData out;

	caller_require_service();
	if (!JB_ROOT_IS_OBJECT(overrides))
		refuse("data_malformed", NULL, "overrides is a JSON object: {\"column\": value}.");

	memset(&p, 0, sizeof(p));
	p.user_id = user_id;
	p.cxt = CurrentMemoryContext;
	p.names = palloc(sizeof(char *) * (JB_ROOT_COUNT(overrides) + 1));
	p.values = palloc(sizeof(char *) * (JB_ROOT_COUNT(overrides) + 1));
	p.used = palloc0(sizeof(bool) * (JB_ROOT_COUNT(overrides) + 1));
	it = JsonbIteratorInit(&overrides->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (tok == WJB_KEY)
			p.names[p.ncolumns] = pnstrdup(v.val.string.val, v.val.string.len);
		else if (tok == WJB_VALUE)
		{
			if (v.type == jbvNull)
				p.values[p.ncolumns++] = NULL;
			else if (v.type == jbvString)
				p.values[p.ncolumns++] = pnstrdup(v.val.string.val, v.val.string.len);
			else
			{
				Jsonb	   *j = JsonbValueToJsonb(&v);

				p.values[p.ncolumns++] = JsonbToCString(NULL, &j->root, VARSIZE(j));
			}
		}
	}

	targets = select_targets(InvalidOid, &ntargets);
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int i = 0; i < ntargets; i++)
	{
		SyncOutcome outcome;
		Failure    *failure;

		fill_users(targets[i], user_id, 1, NULL, false, true, &outcome);
		if (!outcome.exists)
			refuse("user_unknown", NULL, "There is no such row in auth.users.");
		if (outcome.failure != NULL)
			ReThrowError(outcome.failure->edata);
		quarantine_resolve(targets[i], user_id, 1, NULL);

		plan_hold();
		load_registry(NULL);
		p.target = find_target(registry, targets[i]);
		p.result = NULL;
		if (p.target == NULL)
		{
			plan_release();
			continue;
		}
		if (!sync_run_contained(write_profile, &p, true, &failure))
			ReThrowError(failure->edata);
		if (p.result != NULL)
		{
			if (out.len > 1)
				appendStringInfoString(&out, ", ");
			escape_json(&out, target_display(p.target));
			appendStringInfo(&out, ": %s", p.result);
		}
		plan_release();
	}
	for (int i = 0; i < p.ncolumns; i++)
		if (!p.used[i])
			refuse("data_malformed", NULL, "Every key of overrides must be a column of a target, and none its key.");
	appendStringInfoChar(&out, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data));
}

/* One target's part of deactivate_user and reactivate_user, in its scope. */
typedef struct Activation
{
	Target	   *target;
	pg_uuid_t  *user_id;
	bool		active;
	char	   *reason;
	bool		changed;
} Activation;

static void
write_activation(void *arg)
{
	Activation *a = (Activation *) arg;
	Target	   *t = a->target;
	int			guc_level = NewGUCNestLevel();
	Relation	rel;
	TupleDesc	desc;
	StringInfoData buf;
	Scope		scope;
	Datum		args[3];
	char		nulls[3] = {' ', ' ', ' '};
	Oid			types[3] = {UUIDOID, TEXTOID, TEXTOID};
	int			att;
	int			rc;

	sync_bound_lock_wait();
	rel = locate_target(t, RowExclusiveLock);
	desc = RelationGetDescr(rel);
	att = SPI_fnumber(desc, "is_active");
	if (att <= 0 || TupleDescAttr(desc, att - 1)->atttypid != BOOLOID)
	{
		relation_close(rel, NoLock);
		AtEOXact_GUC(false, guc_level);
		return;
	}
	args[0] = UUIDPGetDatum(a->user_id);
	args[1] = a->reason ? CStringGetTextDatum(a->reason) : (Datum) 0;
	nulls[1] = a->reason ? ' ' : 'n';
	args[2] = CStringGetTextDatum(GetUserNameFromId(caller_role(), false));

	initStringInfo(&buf);
	appendStringInfo(&buf, "UPDATE %s AS t SET is_active = %s", relation_display(rel),
					 a->active ? "true" : "false");
	if (SPI_fnumber(desc, "deactivated_at") > 0)
		appendStringInfo(&buf, ", deactivated_at = %s", a->active ? "NULL" : "pg_catalog.now()");
	if (SPI_fnumber(desc, "deactivation_reason") > 0)
		appendStringInfo(&buf, ", deactivation_reason = %s", a->active ? "NULL" : "$2");
	/* whom it names depends on the column: a service has a role and no user */
	att = SPI_fnumber(desc, "deactivated_by");
	if (att > 0)
		appendStringInfo(&buf, ", deactivated_by = %s",
						 !a->active && TypeCategory(TupleDescAttr(desc, att - 1)->atttypid) == TYPCATEGORY_STRING ? "$3" : "NULL");
	appendStringInfo(&buf, " WHERE t.%s = $1 AND t.is_active IS DISTINCT FROM %s",
					 quote_identifier(t->key), a->active ? "true" : "false");
	if (t->cxt == NULL)
		t->cxt = AllocSetContextCreate(t->home, "invite_sync target", ALLOCSET_SMALL_SIZES);
	if (!t->built)
		find_deferred_constraints(t);
	relation_close(rel, NoLock);

	SPI_connect();
	scope_enter_target_at(&scope, t->owner, t->search_path, guc_level);
	set_deferred(t, false, false);
	rc = SPI_execute_with_args(buf.data, 3, types, args, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	a->changed = SPI_processed > 0;
	set_deferred(t, true, false);
	scope_leave(&scope);
	SPI_finish();
}

/* The targets whose row of this user has changed. Raises, unlike a sync. */
static Datum
set_active(const pg_uuid_t *user_id, bool active, char *reason)
{
	int			ntargets;
	int64	   *targets;
	AuthUserState state;
	ArrayBuildState *changed = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	pg_uuid_t	id = *user_id;

	caller_require_service();
	caller_auth_user_state(user_id, &state);
	if (!state.exists)
		refuse("user_unknown", NULL, "There is no such row in auth.users.");
	targets = select_targets(InvalidOid, &ntargets);
	for (int i = 0; i < ntargets; i++)
	{
		Activation	a;
		Failure    *failure;

		plan_hold();
		load_registry(NULL);
		memset(&a, 0, sizeof(a));
		a.target = find_target(registry, targets[i]);
		a.user_id = &id;
		a.active = active;
		a.reason = reason;
		if (a.target != NULL && !sync_run_contained(write_activation, &a, true, &failure))
			ReThrowError(failure->edata);
		if (a.changed)
			accumArrayResult(changed, CStringGetTextDatum(target_display(a.target)), false,
							 TEXTOID, CurrentMemoryContext);
		plan_release();
	}
	(void) event_append("admin", active ? "sync.user_reactivated" : "sync.user_deactivated",
						NULL, NULL, "user",
						DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id))), NULL);
	return makeArrayResult(changed, CurrentMemoryContext);
}

PG_FUNCTION_INFO_V1(sync_deactivate_user);
PG_FUNCTION_INFO_V1(sync_reactivate_user);

/* deactivate_user(user_id, reason) */
Datum
sync_deactivate_user(PG_FUNCTION_ARGS)
{
	refuse_null(PG_ARGISNULL(0), "user_id");
	PG_RETURN_DATUM(set_active(PG_GETARG_UUID_P(0), false,
							   PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

/* reactivate_user(user_id) */
Datum
sync_reactivate_user(PG_FUNCTION_ARGS)
{
	refuse_null(PG_ARGISNULL(0), "user_id");
	PG_RETURN_DATUM(set_active(PG_GETARG_UUID_P(0), true, NULL));
}

/* ---------------------------------------------------------------------
 * Status
 * ---------------------------------------------------------------------
 */

PG_FUNCTION_INFO_V1(sync_target_name);

/*
 * What a target is called now, for the views. A number from another database
 * says nothing.
 */
Datum
sync_target_name(PG_FUNCTION_ARGS)
{
	char	   *lineage = fcinfo->flinfo->fn_extra;
	Oid			relid;
	char	   *table;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (lineage == NULL)
	{
		lineage = MemoryContextStrdup(fcinfo->flinfo->fn_mcxt, caller_lineage(InvalidSnapshot));
		fcinfo->flinfo->fn_extra = lineage;
	}
	relid = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);
	table = OidIsValid(relid) && !PG_ARGISNULL(4) &&
		(caller_same_lineage(text_to_cstring(PG_GETARG_TEXT_PP(4)), lineage) ||
		 relid != PG_GETARG_OID(5)) ?
		get_rel_name(relid) : NULL;
	if (table != NULL)
		PG_RETURN_TEXT_P(cstring_to_text(quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
																	table)));
	/* anybody may ask, not only the views, whose columns are NOT NULL */
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(quote_qualified_identifier(NameStr(*PG_GETARG_NAME(2)),
																NameStr(*PG_GETARG_NAME(3)))));
}

/* What of sync_status() is not counted but was written down. */
typedef struct Recorded
{
	int64		target_id;
	Datum		values[4];		/* quarantined, overdue, last_success, last_failure */
	bool		nulls[4];
} Recorded;

static SavedPlan status_plan = {
	.sql = "SELECT (SELECT pg_catalog.count(*) FROM invite_sync.quarantine_entry AS q WHERE q.target_id = $1), "
	"(SELECT pg_catalog.count(*) FROM invite_sync.quarantine_entry AS q WHERE q.target_id = $1 "
	"AND q.replayable AND q.next_retry_at OPERATOR(pg_catalog.<) pg_catalog.now()), "
	"(SELECT r.last_success FROM invite_sync.sync_run AS r WHERE r.target_id = $1), "
	"(SELECT pg_catalog.max(q.last_failed_at) FROM invite_sync.quarantine_entry AS q WHERE q.target_id = $1)",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static void
read_recorded(void *arg)
{
	Recorded   *r = (Recorded *) arg;
	Scope		scope;
	Datum		args[1];

	args[0] = Int64GetDatum(r->target_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&status_plan, args, NULL, true, 0);
	/* all of them are passed by value */
	for (int c = 0; c < 4; c++)
		r->values[c] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, c + 1, &r->nulls[c]);
	scope_leave(&scope);
	SPI_finish();
}

/*
 * The registry for who called us. Where it is another version's that says more
 * than which column is missing.
 */
static void
load_registry_for_caller(ContainedFn fn, void *arg)
{
	Failure    *failure;

	if (sync_run_contained(fn, arg, true, &failure))
		return;
	if (ERRCODE_TO_CATEGORY(failure->sqlerrcode) != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
		ReThrowError(failure->edata);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the registry of invite_sync cannot be read"),
			 errdetail("%s", failure_detail(failure)),
			 errhint("Do library and extension have the same version? ALTER EXTENSION invite_sync UPDATE; else SELECT * FROM invite_sync.verify();")));
}

PG_FUNCTION_INFO_V1(sync_status);
PG_FUNCTION_INFO_V1(sync_preservation_report);

/*
 * sync_status(). Reads everything under the caller's snapshot and writes
 * nothing, so it works in READ ONLY transactions and on a standby. A target
 * that cannot be read has NULL where its rows would have to be looked at, and
 * every user counts as missing where it does not exist at all.
 */
Datum
sync_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	auth;
	Registry   *reg;
	bool		recorded = true;

	caller_require_service();
	InitMaterializedSRF(fcinfo, 0);
	if (!OidIsValid(caller_auth_users_relid(true)))
		return (Datum) 0;
	auth = open_auth_users(AccessShareLock);
	plan_hold();
	load_registry_for_caller(load_registry, NULL);
	load_registry(auth);
	reg = registry;
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		Tuplestorestate *all;
		Tuplestorestate *none;
		TupleDesc	desc;
		Question	counts;
		Question	check;
		Question	total;
		Failure    *failure;
		bool		counted;
		bool		checked;
		int64		users;
		Datum		values[12];
		bool		nulls[12];
		Recorded	r;

		memset(&counts, 0, sizeof(counts));
		memset(&check, 0, sizeof(check));
		memset(&total, 0, sizeof(total));
		memset(nulls, 0, sizeof(nulls));

		/* where a deletion is to be carried out a soft-deleted user is gone, too */
		all = read_all_ids(auth, reg, t->on_delete != ON_DELETE_DELETE, &desc, &counts.count);
		counts.target = t;
		counts.lockmode = reading_lock();
		counts.read_only = true;
		counts.source = all;
		counts.ids_desc = desc;
		counted = sync_run_contained(ask_counts, &counts, true, &failure);
		tuplestore_end(all);

		/* the statements, and with them the columns, are there once this ran */
		none = tuplestore_begin_heap(true, false, work_mem);
		check.target = t;
		check.lockmode = reading_lock();
		check.read_only = true;
		check.auth = auth;
		check.source = none;
		check.ids_desc = answer_desc();
		checked = sync_run_contained(ask_check, &check, true, &failure);
		tuplestore_end(none);
		if (checked)
			checked = check_all_users(t, auth, reg, text_array_from_literal(t->always_columns),
									  true, NULL, &total, &failure);
		if (checked)
			users = total.count;
		else
		{
			none = read_all_ids(auth, reg, false, &desc, &users);
			tuplestore_end(none);
			/* the columns are wrong, yet the keys can be told */
			total.missing = counted ? Max(users - (counts.keyed - counts.orphaned), 0) : users;
		}

		values[0] = CStringGetTextDatum(target_display(t));
		values[1] = Int64GetDatum(users);
		values[2] = Int64GetDatum(counts.rows);
		nulls[2] = !counted;
		values[3] = Int64GetDatum(total.missing);
		values[4] = Int64GetDatum(counts.orphaned);
		nulls[4] = !counted;
		values[5] = Int64GetDatum(total.differing);
		nulls[5] = !checked;
		values[6] = Int64GetDatum(counts.rows - counts.keyed);
		nulls[6] = !counted;

		r.target_id = t->id;
		if (!sync_run_contained(read_recorded, &r, true, &failure))
		{
			memset(r.nulls, true, sizeof(r.nulls));
			if (recorded)
				ereport(WARNING,
						(errcode(ERRCODE_WARNING),
						 errmsg("quarantine of invite_sync cannot be read"),
						 errdetail("%s", failure_detail(failure)),
						 errhint("Do library and extension have the same version? SELECT * FROM invite_sync.verify();")));
			recorded = false;
		}
		for (int c = 0; c < 4; c++)
		{
			int			col = c < 2 ? 7 + c : 8 + c;

			values[col] = r.values[c];
			nulls[col] = r.nulls[c];
		}

		values[9] = DirectFunctionCall1(float8_numeric,
										Float8GetDatum(users == 0 ? 100.0 :
													   floor((users - total.missing) * 10000.0 / users) / 100.0));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	plan_release();
	table_close(auth, AccessShareLock);
	return (Datum) 0;
}

/* preservation_report(user_ids): what a sync keeps, fills and overwrites. */
typedef struct Report
{
	Question	q;
	ReturnSetInfo *rsinfo;
} Report;

static void
ask_report(void *arg)
{
	Report	   *r = (Report *) arg;
	Question   *q = &r->q;
	EphemeralNamedRelationData enr;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	Identities	identities;
	int			rc;

	sync_bound_lock_wait();
	prepare_target(q->target, q->lockmode);
	if (q->target->report_sql != NULL)
	{
		load_identities(q->target, q->auth, q->source, true, &identities);
		SPI_connect();
		register_identities(&identities);
		scope_enter_target(&scope, q->target->owner, q->target->search_path);
		register_source(&enr, q->auth, q->source);
		rc = SPI_execute(q->target->report_sql, true, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			Datum		values[6];
			bool		nulls[6] = {false};

			values[0] = CStringGetTextDatum(target_display(q->target));
			for (int c = 1; c <= 5; c++)
				values[c] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c, &nulls[c]);
			tuplestore_putvalues(r->rsinfo->setResult, r->rsinfo->setDesc, values, nulls);
		}
		scope_leave(&scope);
		SPI_finish();
		end_identities(&identities);
	}
	AtEOXact_GUC(false, guc_level);
}

Datum
sync_preservation_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	auth;
	TupleTableSlot *slot;
	TableScanDesc scan;
	Registry   *reg;
	pg_uuid_t  *wanted = NULL;
	int			nwanted = 0;
	bool		more = true;

	caller_require_service();
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0))
	{
		Datum	   *elems;
		bool	   *nulls;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &elems, &nulls, &nwanted);
		wanted = palloc(sizeof(pg_uuid_t) * Max(nwanted, 1));
		for (int i = 0; i < nwanted; i++)
			if (nulls[i])
				memset(&wanted[i], 0, sizeof(pg_uuid_t));
			else
				wanted[i] = *DatumGetUUIDP(elems[i]);
		qsort(wanted, nwanted, sizeof(pg_uuid_t), compare_uuid);
	}

	auth = open_auth_users(AccessShareLock);
	plan_hold();
	load_registry(auth);
	reg = registry;
	slot = table_slot_create(auth, NULL);
	scan = table_beginscan(auth, GetActiveSnapshot(), 0, NULL);
	while (more)
	{
		Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
		int			n = 0;

		while (n < 5000 && (more = table_scan_getnextslot(scan, ForwardScanDirection, slot)))
		{
			bool		isnull;
			Datum		id = slot_getattr(slot, reg->id_att, &isnull);

			CHECK_FOR_INTERRUPTS();
			if (reg->deleted_att != InvalidAttrNumber && !slot_attisnull(slot, reg->deleted_att))
				continue;
			if (wanted != NULL &&
				bsearch(DatumGetUUIDP(id), wanted, nwanted, sizeof(pg_uuid_t), compare_uuid) == NULL)
				continue;
			tuplestore_puttupleslot(store, slot);
			n++;
		}
		for (int i = 0; n > 0 && i < reg->ntargets; i++)
		{
			Report		r;
			Failure    *failure;

			memset(&r, 0, sizeof(r));
			r.q.target = &reg->targets[i];
			r.q.lockmode = reading_lock();
			r.q.auth = auth;
			r.q.source = store;
			r.rsinfo = rsinfo;
			if (!sync_run_contained(ask_report, &r, true, &failure))
				ereport(WARNING,
						(errcode(ERRCODE_WARNING),
						 errmsg("target %s cannot be read", target_display(r.q.target)),
						 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode))));
		}
		tuplestore_end(store);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	plan_release();
	table_close(auth, AccessShareLock);
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * Mappings: inferred, checked, stored
 * ---------------------------------------------------------------------
 */

typedef struct Inference
{
	const char *column;			/* name in lower snake case */
	const char *expression;
	char		category;		/* type category the target column must have */
	UpdatePolicy policy;
} Inference;

/*
 * What a column's name says about its source. Names of rights are absent but
 * for role, which only the auth server's own metadata may fill: users write
 * raw_user_meta_data themselves. updated_at is set once, since every login
 * changes it and would write the row.
 */
static const Inference inferences[] = {
	{"email", "email", 'S', POLICY_ALWAYS},
	{"email_address", "email", 'S', POLICY_ALWAYS},
	{"phone", "phone", 'S', POLICY_ALWAYS},
	{"phone_number", "phone", 'S', POLICY_ALWAYS},
	{"full_name", "coalesce(raw_user_meta_data->>'full_name', raw_user_meta_data->>'name')", 'S', POLICY_IF_NULL},
	{"name", "coalesce(raw_user_meta_data->>'name', raw_user_meta_data->>'full_name')", 'S', POLICY_IF_NULL},
	{"display_name", "coalesce(raw_user_meta_data->>'display_name', raw_user_meta_data->>'full_name', raw_user_meta_data->>'name')", 'S', POLICY_IF_NULL},
	{"first_name", "coalesce(raw_user_meta_data->>'first_name', raw_user_meta_data->>'given_name')", 'S', POLICY_IF_NULL},
	{"last_name", "coalesce(raw_user_meta_data->>'last_name', raw_user_meta_data->>'family_name')", 'S', POLICY_IF_NULL},
	{"username", "coalesce(raw_user_meta_data->>'username', raw_user_meta_data->>'user_name', raw_user_meta_data->>'preferred_username')", 'S', POLICY_IF_NULL},
	{"user_name", "coalesce(raw_user_meta_data->>'user_name', raw_user_meta_data->>'username', raw_user_meta_data->>'preferred_username')", 'S', POLICY_IF_NULL},
	{"avatar_url", "coalesce(raw_user_meta_data->>'avatar_url', raw_user_meta_data->>'picture')", 'S', POLICY_IF_NULL},
	{"avatar", "coalesce(raw_user_meta_data->>'avatar_url', raw_user_meta_data->>'picture')", 'S', POLICY_IF_NULL},
	{"picture", "coalesce(raw_user_meta_data->>'picture', raw_user_meta_data->>'avatar_url')", 'S', POLICY_IF_NULL},
	{"job_title", "raw_user_meta_data->>'job_title'", 'S', POLICY_IF_NULL},
	{"role", "raw_app_meta_data->>'role'", 'S', POLICY_ALWAYS},
	{"role", "raw_app_meta_data->>'role'", 'E', POLICY_ALWAYS},
	{"provider", "raw_app_meta_data->>'provider'", 'S', POLICY_ALWAYS},
	{"auth_provider", "raw_app_meta_data->>'provider'", 'S', POLICY_ALWAYS},
	{"sso_provider", "CASE WHEN is_sso_user THEN raw_app_meta_data->>'provider' END", 'S', POLICY_ALWAYS},
	{"sso_user_id", "CASE WHEN is_sso_user THEN identity_provider_id END", 'S', POLICY_ALWAYS},
	{"identity_provider", "identity_provider", 'S', POLICY_ALWAYS},
	{"provider_id", "identity_provider_id", 'S', POLICY_ALWAYS},
	{"is_sso_user", "is_sso_user", 'B', POLICY_ALWAYS},
	{"is_anonymous", "is_anonymous", 'B', POLICY_ALWAYS},
	{"email_verified", "email_confirmed_at IS NOT NULL", 'B', POLICY_ALWAYS},
	{"email_confirmed_at", "email_confirmed_at", 'D', POLICY_ALWAYS},
	{"phone_confirmed_at", "phone_confirmed_at", 'D', POLICY_ALWAYS},
	{"invited_at", "invited_at", 'D', POLICY_ALWAYS},
	{"created_at", "created_at", 'D', POLICY_ALWAYS},
	{"updated_at", "updated_at", 'D', POLICY_NEVER},
	{"last_sign_in_at", "last_sign_in_at", 'D', POLICY_ALWAYS},
	{"last_login", "last_sign_in_at", 'D', POLICY_ALWAYS},
	{"last_login_at", "last_sign_in_at", 'D', POLICY_ALWAYS},
	{"raw_user_meta_data", "raw_user_meta_data", 'U', POLICY_IF_NULL},
	{"raw_app_meta_data", "raw_app_meta_data", 'U', POLICY_ALWAYS}
};

/* A column that grants something, or says whom somebody belongs to. */
static bool
looks_like_a_right(const char *column)
{
	static const char *const words[] = {
		"role", "roles", "is_admin", "admin", "is_superuser", "superuser", "is_staff",
		"is_owner", "is_active", "active", "is_super_admin", "permission", "permissions",
		"scopes", "plan", "tier", "subscription", "subscription_plan", "organization_id",
		"organisation_id", "org_id", "tenant", "tenant_id", "team_id", "workspace_id",
		"company_id", "account_id", "account_type", "user_type", "user_role", "group_id",
		"groups", "access_level", "is_verified", "verified", "is_moderator", "credits", "quota",
		"platform_role", "app_role", "is_premium"
	};

	for (size_t i = 0; i < lengthof(words); i++)
		if (strcmp(words[i], column) == 0)
			return true;
	return false;
}

/* createdAt and CreatedAt read like created_at. */
static char *
snake_case(const char *s)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; s[i]; i++)
	{
		if (isupper((unsigned char) s[i]))
		{
			if (i > 0 && (islower((unsigned char) s[i - 1]) || isdigit((unsigned char) s[i - 1])))
				appendStringInfoChar(&buf, '_');
			appendStringInfoChar(&buf, pg_tolower((unsigned char) s[i]));
		}
		else
			appendStringInfoChar(&buf, s[i]);
	}
	return buf.data;
}

/* Not yet checked: what somebody asked for, or what the names suggest. */
typedef struct MappingDraft
{
	int			n;
	MapColumn  *columns;
	bool	   *explicit_policy;
} MappingDraft;

static void
infer_mapping(Relation rel, const char *key, MappingDraft *draft)
{
	TupleDesc	desc = RelationGetDescr(rel);

	draft->columns = palloc0(sizeof(MapColumn) * Max(desc->natts, 1));
	draft->explicit_policy = palloc0(sizeof(bool) * Max(desc->natts, 1));
	draft->n = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char	   *name;
		char		category;
		bool		preferred;
		Oid			type;

		if (att->attisdropped || att->attgenerated != '\0' ||
			att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS ||
			strcmp(NameStr(att->attname), key) == 0)
			continue;
		name = snake_case(NameStr(att->attname));
		type = getBaseType(att->atttypid);
		get_type_category_preferred(type, &category, &preferred);
		for (size_t k = 0; k < lengthof(inferences); k++)
		{
			const Inference *inf = &inferences[k];
			MapColumn  *mc;

			if (strcmp(inf->column, name) != 0 || inf->category != category)
				continue;
			if (category == 'U' && type != JSONBOID && type != JSONOID)
				continue;
			mc = &draft->columns[draft->n];
			mc->name = pstrdup(NameStr(att->attname));
			/* a timestamp without time zone must not depend on the session's */
			if (category == 'D' && type == TIMESTAMPOID)
				mc->expression = psprintf("%s AT TIME ZONE 'UTC'", inf->expression);
			else
				mc->expression = pstrdup(inf->expression);
			mc->policy = inf->policy;
			draft->explicit_policy[draft->n] = true;
			draft->n++;
			break;
		}
	}
}

static char *
jsonb_string(const JsonbValue *v)
{
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static void
mapping_error(const char *column, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mapping of column \"%s\": %s", column, what),
			 errhint("%s", hint)));
}

#define MAPPING_SHAPE_HINT \
	"A mapping is {\"column\": \"expression\"} or {\"column\": {\"value\": \"expression\", \"update\": \"always|if_null|never\"}}."

/* {"column": "expression"} or {"column": {"value": …, "update": …}} */
static void
parse_mapping(Jsonb *mapping, MappingDraft *draft)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;

	if (!JB_ROOT_IS_OBJECT(mapping))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping is not a JSON object"),
				 errhint(MAPPING_SHAPE_HINT)));
	draft->columns = palloc0(sizeof(MapColumn) * (JB_ROOT_COUNT(mapping) + 1));
	draft->explicit_policy = palloc0(sizeof(bool) * (JB_ROOT_COUNT(mapping) + 1));
	draft->n = 0;

	it = JsonbIteratorInit(&mapping->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		MapColumn  *mc = &draft->columns[draft->n];

		if (tok == WJB_KEY)
		{
			mc->name = jsonb_string(&v);
			mc->expression = NULL;
		}
		else if (tok == WJB_VALUE)
		{
			if (v.type == jbvString)
				mc->expression = jsonb_string(&v);
			else if (v.type == jbvBinary)
			{
				JsonbIterator *inner = JsonbIteratorInit(v.val.binary.data);
				JsonbValue	iv;
				JsonbIteratorToken itok;
				char	   *field = NULL;

				if (!JsonContainerIsObject(v.val.binary.data))
					mapping_error(mc->name, "neither an expression nor an object", MAPPING_SHAPE_HINT);
				while ((itok = JsonbIteratorNext(&inner, &iv, true)) != WJB_DONE)
				{
					if (itok == WJB_KEY)
						field = jsonb_string(&iv);
					else if (itok == WJB_VALUE)
					{
						char	   *text;

						if (iv.type != jbvString)
							mapping_error(mc->name, "\"value\" and \"update\" are strings", MAPPING_SHAPE_HINT);
						text = jsonb_string(&iv);
						if (strcmp(field, "value") == 0)
							mc->expression = text;
						else if (strcmp(field, "update") == 0)
						{
							if (strcmp(text, "always") != 0 && strcmp(text, "if_null") != 0 &&
								strcmp(text, "never") != 0)
								mapping_error(mc->name, "unknown update policy", MAPPING_SHAPE_HINT);
							mc->policy = policy_from_text(text);
							draft->explicit_policy[draft->n] = true;
						}
						else
							mapping_error(mc->name, "unknown field", MAPPING_SHAPE_HINT);
					}
				}
			}
			if (mc->expression == NULL)
				mapping_error(mc->name, "no expression given", MAPPING_SHAPE_HINT);
			draft->n++;
		}
	}
}

/* What one expression reads and does. */
typedef struct ExpressionCheck
{
	Query	   *query;
	const char *column;
	TupleDesc	auth;
	Bitmapset  *sources;
	bool		identity[2];	/* identity_provider, identity_provider_id */
} ExpressionCheck;

static bool
volatile_function(Oid funcid, void *context)
{
	if (funcid == F_CLOCK_TIMESTAMP || funcid == F_TIMEOFDAY)
		return false;
	return func_volatile(funcid) == PROVOLATILE_VOLATILE;
}

static bool
expression_walker(Node *node, void *context)
{
	ExpressionCheck *check = (ExpressionCheck *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno == 0)
			mapping_error(check->column, "the whole row is not allowed, it holds secrets",
						  "Name the columns of auth.users that the expression needs.");
		if (var->varattno < 0)
			mapping_error(check->column, "system columns are not allowed",
						  "Name columns of auth.users, for example email.");
		if (strcmp(rt_fetch(var->varno, check->query->rtable)->enrname, IDENTITIES_NAME) == 0)
		{
			if (var->varattno > 1)
				check->identity[var->varattno - 2] = true;
		}
		else
			check->sources = bms_add_member(check->sources, var->varattno);
		return false;
	}
	if (IsA(node, SubLink))
		mapping_error(check->column, "subqueries are not allowed",
					  "An expression reads one row of auth.users; call a function of yours for more.");
	if (IsA(node, NextValueExpr) ||
		check_functions_in_node(node, volatile_function, NULL))
		mapping_error(check->column, "volatile functions are not allowed",
					  "Leave the column out of the mapping and give it a DEFAULT instead.");
	return expression_tree_walker(node, expression_walker, context);
}

/* One expression and nothing else, or text could leave its parentheses. */
static void
check_single_expression(const char *column, const char *expression)
{
	List	   *raw = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *stmt;
	ResTarget  *res;

	if (list_length(raw) == 1 && IsA(linitial_node(RawStmt, raw)->stmt, SelectStmt))
	{
		stmt = (SelectStmt *) linitial_node(RawStmt, raw)->stmt;
		if (list_length(stmt->targetList) == 1 && stmt->op == SETOP_NONE &&
			stmt->distinctClause == NIL && stmt->intoClause == NULL && stmt->fromClause == NIL &&
			stmt->whereClause == NULL && stmt->groupClause == NIL && stmt->havingClause == NULL &&
			stmt->windowClause == NIL && stmt->valuesLists == NIL && stmt->sortClause == NIL &&
			stmt->limitOffset == NULL && stmt->limitCount == NULL && stmt->lockingClause == NIL &&
			stmt->withClause == NULL)
		{
			res = linitial_node(ResTarget, stmt->targetList);
			if (res->name == NULL && res->indirection == NIL &&
				!(IsA(res->val, ColumnRef) &&
				  IsA(llast(((ColumnRef *) res->val)->fields), A_Star)))
				return;
		}
	}
	mapping_error(column, "not a single expression",
				  "Write an SQL expression over one row of auth.users, for example raw_user_meta_data->>'full_name'.");
}

typedef struct Compile
{
	MapColumn  *mc;
	bool		explicit_policy;
	bool		allow_user_written;
	Relation	auth;
	Relation	rel;
	Oid			owner;
	const char *search_path;
	MemoryContext cxt;
} Compile;

/*
 * Analyse one expression in the target's scope; analysing runs nothing. Fills
 * in the sources and the default policy.
 */
static void
compile_column(void *arg)
{
	Compile    *c = (Compile *) arg;
	MapColumn  *mc = c->mc;
	TupleDesc	desc = RelationGetDescr(c->rel);
	TupleDesc	auth = RelationGetDescr(c->auth);
	int			attnum = SPI_fnumber(desc, mc->name);
	Form_pg_attribute att;
	EphemeralNamedRelationData enr;
	ExpressionCheck check;
	Identities	identities;
	Target		with_identity;
	Scope		scope;
	Query	   *query;
	Tuplestorestate *store;
	bool		user_meta = false;
	int			source = -1;
	MemoryContext old;

	if (attnum == SPI_ERROR_NOATTRIBUTE || attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" does not exist", mc->name),
				 errhint("Name columns of the target; the key column is filled by itself.")));
	att = TupleDescAttr(desc, attnum - 1);
	if (att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
		mapping_error(mc->name, "PostgreSQL generates this column itself",
					  "Leave it out of the mapping.");

	memset(&check, 0, sizeof(check));
	store = tuplestore_begin_heap(false, false, work_mem);
	memset(&with_identity, 0, sizeof(with_identity));
	with_identity.uses_identity = true;
	load_identities(&with_identity, c->auth, store, true, &identities);
	SPI_connect();
	scope_enter_target(&scope, c->owner, c->search_path);
	/* in the scope: settings decide how text is read */
	check_single_expression(mc->name, mc->expression);
	register_source(&enr, c->auth, store);
	register_identities(&identities);
	query = plan_analyse(psprintf("SELECT ((%s\n)::%s) AS c FROM %s AS users" IDENTITY_JOIN, mc->expression,
								  format_type_extended(att->atttypid, -1,
													   FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY),
								  SOURCE_NAME), 0, NULL);
	check.query = query;
	if (query->hasAggs || query->hasWindowFuncs)
		mapping_error(mc->name, "aggregates and window functions are not allowed",
					  "An expression reads one row of auth.users.");
	if (query->hasTargetSRFs)
		mapping_error(mc->name, "set-returning functions are not allowed",
					  "An expression gives one value for one row of auth.users.");
	check.column = mc->name;
	check.auth = auth;
	(void) expression_walker((Node *) linitial_node(TargetEntry, query->targetList)->expr, &check);

	old = MemoryContextSwitchTo(c->cxt);
	mc->nsources = 0;
	mc->sources = palloc(sizeof(char *) * (bms_num_members(check.sources) + 3));
	if (check.identity[0])
		mc->sources[mc->nsources++] = pstrdup("identity_provider");
	if (check.identity[1])
		mc->sources[mc->nsources++] = pstrdup("identity_provider_id");
	while ((source = bms_next_member(check.sources, source)) >= 0)
	{
		char	   *name = NameStr(TupleDescAttr(auth, source - 1)->attname);

		if (is_secret_column(name))
			mapping_error(mc->name, psprintf("auth.users.%s is a secret", name),
						  "Passwords, tokens and unconfirmed addresses never leave auth.users.");
		if (strcmp(name, "raw_user_meta_data") == 0)
			user_meta = true;
		mc->sources[mc->nsources++] = pstrdup(name);
	}
	MemoryContextSwitchTo(old);
	if (user_meta && looks_like_a_right(snake_case(mc->name)) && !c->allow_user_written)
		mapping_error(mc->name, "raw_user_meta_data is written by the users themselves",
					  "Take rights from raw_app_meta_data, or say allow_user_written => true.");
	if (!c->explicit_policy)
		mc->policy = mc->nsources == 0 ? POLICY_NEVER :
			user_meta ? POLICY_IF_NULL : POLICY_ALWAYS;
	scope_leave(&scope);
	SPI_finish();
	end_identities(&identities);
	tuplestore_end(store);
}

static void
append_mapping_json(StringInfo buf, MapColumn *columns, int n)
{
	appendStringInfoChar(buf, '{');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoString(buf, ", ");
		escape_json(buf, columns[i].name);
		appendStringInfoString(buf, ": {\"value\": ");
		escape_json(buf, columns[i].expression);
		appendStringInfo(buf, ", \"update\": \"%s\"}", policy_to_text(columns[i].policy));
	}
	appendStringInfoChar(buf, '}');
}

/* ---------------------------------------------------------------------
 * Configuring calls
 * ---------------------------------------------------------------------
 */

static SavedPlan foreign_key_plan = {
	.sql = "SELECT a.attname, c.conname, c.confdeltype FROM pg_catalog.pg_constraint AS c "
	"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] "
	"WHERE c.contype = 'f' AND c.conrelid = $1 AND c.confrelid = $2 "
	"AND pg_catalog.cardinality(c.conkey) = 1 ORDER BY c.conname",
	.nargs = 2,
	.argtypes = {OIDOID, OIDOID}
};

typedef struct UserKey
{
	char	   *column;			/* of a foreign key to auth.users, or NULL */
	char	   *constraint;
	char		action;			/* ON DELETE */
} UserKey;

/* The foreign key to auth.users on this column, or (NULL) on any uuid column. */
static void
find_user_key(Oid relid, Oid auth, const char *column, UserKey *key)
{
	Scope		scope;
	Datum		args[2];
	MemoryContext cxt = CurrentMemoryContext;

	memset(key, 0, sizeof(*key));
	args[0] = ObjectIdGetDatum(relid);
	args[1] = ObjectIdGetDatum(auth);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&foreign_key_plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed && key->column == NULL; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		bool		isnull;

		if (column != NULL && strcmp(column, name) != 0)
			continue;
		key->column = MemoryContextStrdup(cxt, name);
		key->constraint = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 2));
		key->action = DatumGetChar(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

static char *
choose_key(Relation rel, Oid auth)
{
	static const char *const names[] = {"auth_user_id", "auth_id", "user_id", "id", "uid"};
	TupleDesc	desc = RelationGetDescr(rel);
	UserKey		fk;

	find_user_key(RelationGetRelid(rel), auth, NULL, &fk);
	if (fk.column != NULL)
	{
		int			att = SPI_fnumber(desc, fk.column);

		if (att > 0 && TupleDescAttr(desc, att - 1)->atttypid == UUIDOID &&
			has_key_index(rel, att))
			return fk.column;
	}
	for (size_t i = 0; i < lengthof(names); i++)
	{
		for (int a = 0; a < desc->natts; a++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, a);

			if (!att->attisdropped && att->atttypid == UUIDOID &&
				strcmp(snake_case(NameStr(att->attname)), names[i]) == 0 &&
				has_key_index(rel, att->attnum))
				return pstrdup(NameStr(att->attname));
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s has no usable key column",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel))),
			 errdetail("A key is a uuid column that holds auth.users.id, with a unique index on exactly that column, neither partial nor deferrable."),
			 errhint("%s",
					 fk.column ?
					 psprintf("For example: ALTER TABLE %s ADD UNIQUE (%s);",
							  quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
														 RelationGetRelationName(rel)),
							  quote_identifier(fk.column)) :
					 "Add such a column, or name it with the argument key.")));
	return NULL;				/* not reached */
}

static void
check_key(Relation rel, const char *key)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			att = SPI_fnumber(desc, key);
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel));

	if (att <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("key column \"%s\" of %s does not exist", key, name),
				 errhint("Name the uuid column that holds auth.users.id.")));
	if (TupleDescAttr(desc, att - 1)->atttypid != UUIDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key column \"%s\" of %s is not of type uuid", key, name),
				 errhint("Name the uuid column that holds auth.users.id.")));
	if (TupleDescAttr(desc, att - 1)->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key column \"%s\" of %s is generated", key, name),
				 errhint("Name an ordinary uuid column.")));
	if (!has_key_index(rel, att))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no usable unique index on %s (%s)", name, quote_identifier(key)),
				 errdetail("It must be on exactly this column, neither partial nor deferrable, and no deferrable one beside it."),
				 errhint("ALTER TABLE %s ADD UNIQUE (%s);", name, quote_identifier(key))));
}

static const char *
coalesce_text(const char *s)
{
	return s ? s : "";
}

static void
check_link_by(Relation rel, const char *key, const char *link_by)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			att = SPI_fnumber(desc, link_by);
	char	   *name = relation_display(rel);
	char		category = '\0';
	bool		preferred;

	if (att > 0)
		get_type_category_preferred(getBaseType(TupleDescAttr(desc, att - 1)->atttypid),
									&category, &preferred);
	if (att <= 0 || category != TYPCATEGORY_STRING || strcmp(key, link_by) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("link_by \"%s\" is no text column of %s", link_by, name),
				 errhint("Name the column that holds the address of who was invited, for example email.")));
	if (TupleDescAttr(desc, SPI_fnumber(desc, key) - 1)->attnotnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("link_by needs a key that may be NULL, but %s.%s is NOT NULL", name, quote_identifier(key)),
				 errhint("A row made before its user signs up has no user yet. Use a key of its own beside the primary key: ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;",
						 name, quote_identifier(key))));
}

/* By default: what the system offers, and where the table lives. */
static char *
default_search_path(Relation rel)
{
	char	   *schema = get_namespace_name(RelationGetNamespace(rel));

	return psprintf("pg_catalog, %s%s, pg_temp", quote_identifier(schema),
					OidIsValid(get_namespace_oid("extensions", true)) &&
					strcmp(schema, "extensions") != 0 ? ", extensions" : "");
}

/*
 * What others put into a schema of the path may run as the target's owner. Not
 * said of those who have its rights anyway, of administrators (who can take
 * them), and of the schema's owner, who can do away with the table.
 */
static void
warn_about_creators(Oid nsp, const char *name, Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(nsp));
	Datum		value;
	bool		isnull;
	Oid			nsp_owner;
	Acl		   *acl;

	if (!HeapTupleIsValid(tuple))
		return;
	nsp_owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	value = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	if (!isnull)
	{
		acl = DatumGetAclP(value);
		for (int i = 0; i < ACL_NUM(acl); i++)
		{
			AclItem    *item = &ACL_DAT(acl)[i];
			char	   *role;

			if ((ACLITEM_GET_PRIVS(*item) & ACL_CREATE) == 0 || item->ai_grantee == nsp_owner ||
				has_createrole_privilege(item->ai_grantee) || has_privs_of_role(item->ai_grantee, owner))
				continue;
			role = GetUserNameFromId(item->ai_grantee, true);
			if (role != NULL)
				ereport(WARNING,
						(errmsg("role \"%s\" may create objects in schema \"%s\" of the target's search_path",
								role, name),
						 errhint("REVOKE CREATE ON SCHEMA %s FROM %s;", quote_identifier(name), quote_identifier(role))));
		}
	}
	ReleaseSysCache(tuple);
}

static void
warn_about_search_path(const char *search_path, Oid owner)
{
	List	   *names;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(search_path), ',', &names))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("search_path \"%s\" is malformed", search_path),
				 errhint("List schemas, for example: pg_catalog, public, pg_temp.")));
	foreach(lc, names)
	{
		char	   *name = (char *) lfirst(lc);
		Oid			nsp = get_namespace_oid(name, true);

		if (strncmp(name, "pg_", 3) == 0)
			continue;
		if (!OidIsValid(nsp))
		{
			ereport(WARNING,
					(errmsg("schema \"%s\" of the target's search_path does not exist", name)));
			continue;
		}
		if (compat_namespace_aclcheck(nsp, ACL_ID_PUBLIC, ACL_CREATE) == ACLCHECK_OK)
			ereport(WARNING,
					(errmsg("everybody may create objects in schema \"%s\" of the target's search_path", name),
					 errhint("REVOKE CREATE ON SCHEMA %s FROM PUBLIC;", quote_identifier(name))));
		else
			warn_about_creators(nsp, name, owner);
	}
}

typedef struct TargetOptions
{
	Jsonb	   *mapping;		/* NULL: infer (new) or keep (existing) */
	char	   *key;
	char	   *on_delete;
	char	   *on_error;
	char	   *link_by;
	bool		enabled;
	bool		has_enabled;
	bool		allow_user_written;
	bool		has_allow_user_written;
	char	   *search_path;
} TargetOptions;

static SavedPlan lock_registry_plan = {
	.sql = "LOCK TABLE invite_sync.target IN SHARE ROW EXCLUSIVE MODE",
	.nargs = 0
};

static SavedPlan existing_plan = {
	.sql = "SELECT t.id, t.key, t.on_delete, t.on_error, t.link_by, t.enabled, t.allow_user_written, t.search_path, "
	"t.definer, coalesce((SELECT pg_catalog.jsonb_object_agg(m.column_name, "
	"pg_catalog.jsonb_build_object('value', m.expression, 'update', m.update_policy)) "
	"FROM invite_sync.mapping AS m WHERE m.target_id = t.id), '{}') "
	"FROM invite_sync.target AS t WHERE t.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan insert_target_plan = {
	.sql = "INSERT INTO invite_sync.target (relation, relation_number, schema_name, table_name, key, on_delete, on_error, link_by, enabled, "
	"allow_user_written, search_path, definer, registered_in) "
	"VALUES ($1::pg_catalog.regclass, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
	.nargs = 12,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID, NAMEOID, BOOLOID, BOOLOID, TEXTOID, NAMEOID, TEXTOID}
};

static SavedPlan update_target_plan = {
	.sql = "UPDATE invite_sync.target AS t SET relation = $1::pg_catalog.regclass, relation_number = $1, schema_name = $2, table_name = $3, key = $4, "
	"on_delete = $5, on_error = $6, link_by = $7, enabled = $8, allow_user_written = $9, search_path = $10, "
	"definer = $11, registered_in = $12 WHERE t.id = $13 RETURNING t.id",
	.nargs = 13,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID, NAMEOID, BOOLOID, BOOLOID, TEXTOID, NAMEOID, TEXTOID, INT8OID}
};

/* so that nobody has to insert it, and wait for somebody else who does */
static SavedPlan first_run_plan = {
	.sql = "INSERT INTO invite_sync.sync_run (target_id) VALUES ($1) ON CONFLICT (target_id) DO NOTHING",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan clear_mapping_plan = {
	.sql = "DELETE FROM invite_sync.mapping AS m WHERE m.target_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan insert_mapping_plan = {
	.sql = "INSERT INTO invite_sync.mapping (target_id, position, column_name, expression, update_policy, source_columns) "
	"VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.name[])",
	.nargs = 6,
	.argtypes = {INT8OID, INT4OID, NAMEOID, TEXTOID, TEXTOID, TEXTARRAYOID}
};

static void
refuse_auth_schema_missing(void)
{
	(void) caller_auth_users_relid(false);
}

static Datum
name_datum(const char *s)
{
	return DirectFunctionCall1(namein, CStringGetDatum(s));
}

static void attach_triggers(const char *wait, bool only_if_wanted, bool identity);

static void
check_kept(const char *sql, int nargs, Relation auth)
{
	SPIPlanPtr	plan = plan_try(sql, nargs, overwrite_argtypes);

	check_no_secrets(plan_query(plan), RelationGetDescr(auth));
	plan_check(plan);
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
static char *
lock_holders(Oid relid, bool all_modes)
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

static void
check_membership(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (!has_privs_of_role(caller_role(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of the owner of %s",
						quote_qualified_identifier(get_namespace_name_or_temp(get_rel_namespace(relid)),
												   get_rel_name(relid))),
				 errhint("Let role %s call it, or a member of it: what is mapped runs with the rights of the table's owner.",
						 quote_identifier(GetUserNameFromId(owner, false)))));
}

static void
take_configuring_locks(void *arg)
{
	Oid			relid = *(Oid *) arg;
	int			guc_level = NewGUCNestLevel();
	Relation	rel;
	Scope		scope;

	if (LockTimeout == 0 || LockTimeout > 2000)
		(void) set_config_option("lock_timeout", "2000", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	/* nobody may queue up behind a table of others with more than a look */
	rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	if (rel != NULL)
	{
		check_target_kind(rel);
		relation_close(rel, AccessShareLock);
		check_membership(relid);
		LockRelationOid(relid, ShareUpdateExclusiveLock);
	}

	/* one configuring call at a time; readers and signups do not notice */
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&lock_registry_plan, NULL, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Lock the table and the registry, or say within 2 s who is in the way. */
static void
lock_for_configuring(Oid relid)
{
	Failure    *failure;
	char	   *pids;

	if (sync_run_contained(take_configuring_locks, &relid, true, &failure))
		return;
	if (failure->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(failure->edata);
	pids = lock_holders(relid, true);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("the table or the registry could not be locked within 2 s"),
			 errdetail("Nothing was changed."),
			 pids ? errhint("The table is held by the session with process id %s; try again when it is done.", pids) :
			 errhint("Try again.")));
}

/* Plan the statements as the owner, and run none. */
static void
plan_statements(void *arg)
{
	Work	   *work = (Work *) arg;
	Target	   *t = work->target;
	EphemeralNamedRelationData enr;
	Scope		scope;
	Identities	identities;

	prepare_target(t, RowExclusiveLock);
	load_identities(t, work->auth, work->single, true, &identities);
	SPI_connect();
	register_identities(&identities);
	scope_enter_target(&scope, t->owner, t->search_path);
	register_source(&enr, work->auth, work->single);
	check_kept(t->insert_sql, 0, work->auth);
	check_kept(t->missing_sql, 0, work->auth);
	check_kept(t->check_sql, 1, work->auth);
	if (t->report_sql != NULL)
		check_kept(t->report_sql, 0, work->auth);
	if (t->update_sql != NULL)
		check_kept(t->update_sql, 1, work->auth);
	scope_leave(&scope);
	SPI_finish();
	end_identities(&identities);
}

static void
raise_with_hint(const Failure *failure, const char *prefix, const char *hint)
{
	ereport(ERROR,
			(errcode(failure->sqlerrcode),
			 errmsg("%s%s", prefix, failure->edata->message),
			 failure->edata->detail ? errdetail_internal("%s", failure->edata->detail) : 0,
			 errhint("%s", failure->edata->hint ? failure->edata->hint : hint)));
}

/* Columns that nobody would fill: every signup would end in quarantine. */
static void
check_not_null_columns(Relation rel, const char *key, const MappingDraft *draft)
{
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData missing;
	StringInfoData example;
	int			n = 0;

	initStringInfo(&missing);
	initStringInfo(&example);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		mapped = false;

		if (att->attisdropped || !att->attnotnull || att->attgenerated != '\0' ||
			att->attidentity != '\0' || strcmp(NameStr(att->attname), key) == 0)
			continue;
		for (int k = 0; k < draft->n; k++)
			if (strcmp(draft->columns[k].name, NameStr(att->attname)) == 0)
				mapped = true;
		if (mapped || build_column_default(rel, i + 1) != NULL)
			continue;
		appendStringInfo(&missing, "%s\"%s\"", n > 0 ? ", " : "", NameStr(att->attname));
		n++;
	}
	if (n == 0)
		return;

	{
		StringInfoData json;

		/* the mapping in force, with a place for each missing source */
		initStringInfo(&json);
		appendStringInfoChar(&json, '{');
		for (int k = 0; k < draft->n; k++)
		{
			if (k > 0)
				appendStringInfoString(&json, ", ");
			escape_json(&json, draft->columns[k].name);
			appendStringInfoString(&json, ": ");
			escape_json(&json, draft->columns[k].expression);
		}
		for (int i = 0, k = draft->n; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			if (att->attisdropped ||
				strstr(missing.data, psprintf("\"%s\"", NameStr(att->attname))) == NULL)
				continue;
			appendStringInfoString(&json, k++ > 0 ? ", " : "");
			escape_json(&json, NameStr(att->attname));
			appendStringInfoString(&json, ": \"...\"");
		}
		appendStringInfoChar(&json, '}');
		appendStringInfo(&example, "SELECT * FROM invite_sync.add_target(%s, mapping => %s);",
						 quote_literal_cstr(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
																	   RelationGetRelationName(rel))),
						 quote_literal_cstr(json.data));
	}
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("NOT NULL column%s %s of %s would get no value", n > 1 ? "s" : "", missing.data,
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel))),
			 errdetail("Neither a default nor the mapping fills it."),
			 errhint("Give it a DEFAULT, or an expression in place of the dots: %s", example.data)));
}

static void
check_on_delete(Relation rel, const char *key, const char *on_delete, Oid auth)
{
	TupleDesc	desc = RelationGetDescr(rel);
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel));
	UserKey		fk;

	find_user_key(RelationGetRelid(rel), auth, key, &fk);
	if (strcmp(on_delete, "deactivate") == 0)
	{
		int			att = SPI_fnumber(desc, "is_active");
		bool		not_null;

		if (att <= 0 || TupleDescAttr(desc, att - 1)->atttypid != BOOLOID)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("on_delete \"deactivate\" needs a boolean column \"is_active\" in %s", name),
					 errhint("ALTER TABLE %s ADD COLUMN is_active boolean NOT NULL DEFAULT true;", name)));
		not_null = TupleDescAttr(desc, SPI_fnumber(desc, key) - 1)->attnotnull;
		if (fk.column != NULL && (fk.action != 'n' || not_null))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("on_delete \"deactivate\" cannot work: the foreign key \"%s\" of %s %s",
							fk.constraint, name,
							fk.action == 'c' ? "deletes the row with the user" :
							fk.action == 'n' ? "sets a NOT NULL column to NULL" :
							"keeps the user from being deleted"),
					 errhint("%sALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES auth.users (id) ON DELETE SET NULL;",
							 not_null ? psprintf("The key must allow NULL (so it cannot be the primary key): ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL; ",
												 name, quote_identifier(key)) : "",
							 name, quote_identifier(fk.constraint), quote_identifier(fk.constraint),
							 quote_identifier(key))));
	}
	else if (strcmp(on_delete, "none") == 0 && fk.column != NULL &&
			 (fk.action == 'a' || fk.action == 'r'))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("foreign key \"%s\" of %s keeps the auth server from deleting users",
						fk.constraint, name),
				 errhint("Use on_delete => 'delete', or a foreign key with ON DELETE CASCADE.")));
}

static void
check_one_of(const char *argument, const char *value, const char *a, const char *b, const char *c)
{
	if (strcmp(value, a) != 0 && strcmp(value, b) != 0 && (c == NULL || strcmp(value, c) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s cannot be \"%s\"", argument, value),
				 errhint("One of: %s, %s%s%s.", a, b, c ? ", " : "", c ? c : "")));
}

static int64
count_missing(Target *t, Relation auth)
{
	Tuplestorestate *answers = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(answer_desc(), &TTSOpsMinimalTuple);
	Failure    *failure;
	int64		n;
	int64		count = 0;

	if (!find_candidates(t, auth, registry, NULL, answers, &n, &failure))
		return -1;
	while (tuplestore_gettupleslot(answers, true, false, slot))
	{
		bool		isnull;

		if (DatumGetBool(slot_getattr(slot, 2, &isnull)))
			count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(answers);
	return count;
}

/* The id under which this relation is registered, or 0. */
static int64
registered_id(Oid relid)
{
	for (int i = 0; i < registry->ntargets; i++)
	{
		Target	   *t = &registry->targets[i];

		if (t->relid == relid && t->same_database)
			return t->id;
	}
	/* a target that was dropped and created again, or came with a dump */
	for (int i = 0; i < registry->ntargets; i++)
	{
		Target	   *t = &registry->targets[i];
		char	   *name = get_rel_name(relid);

		if (name != NULL && strcmp(t->table, name) == 0 &&
			strcmp(t->schema, get_namespace_name(get_rel_namespace(relid))) == 0 &&
			(!t->same_database || get_rel_name(t->relid) == NULL))
			return t->id;
	}
	return 0;
}

/*
 * The registry is read as it is now, the row as the transaction sees it: under
 * REPEATABLE READ that may be from before.
 */
static void
require_existing(uint64 found)
{
	if (found == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the target was changed by another session meanwhile"),
				 errhint("Call again in a new transaction.")));
}

/*
 * add_target and set_target: check everything, then write the registry. The
 * checks run before the first write, so that a refusal leaves nothing behind.
 */
static Datum
configure_target(FunctionCallInfo fcinfo, Oid relid, TargetOptions *o, bool must_exist)
{
	Relation	auth;
	Relation	rel;
	Target		draft_target;
	MappingDraft draft;
	Oid			outer = caller_role();
	int64		id;
	char	   *name;
	bool		unchanged = false;
	bool		existed;
	Scope		scope;
	Work		work;
	Failure    *failure;
	StringInfoData json;
	TupleDesc	desc;
	Datum		values[11];
	bool		nulls[11];
	int64		missing;
	MemoryContext cxt = CurrentMemoryContext;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	PreventCommandIfReadOnly(must_exist ? "set_target()" : "add_target()");
	load_registry_for_caller(load_registry, NULL);
	refuse_auth_schema_missing();
	lock_for_configuring(relid);
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errhint("It was dropped meanwhile; create it, then call again.")));
	name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
	check_target_kind(rel);
	check_membership(relid);

	check_owner(rel->rd_rel->relowner, name);
	auth = open_auth_users(AccessShareLock);

	plan_hold();
	load_registry(auth);
	id = registered_id(relid);
	existed = id != 0;
	if (must_exist && !existed)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s is not a target", name),
				 errhint("Add it: SELECT * FROM invite_sync.add_target(%s);", quote_literal_cstr(name))));

	memset(&draft, 0, sizeof(draft));
	memset(&draft_target, 0, sizeof(draft_target));

	/* what is not said stays as it was */
	if (existed)
	{
		HeapTuple	row;
		TupleDesc	rowdesc;
		bool		isnull;
		Datum		args[1];
		Jsonb	   *old_mapping;
		MemoryContext spi_cxt;

		args[0] = Int64GetDatum(id);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&existing_plan, args, NULL, false, 1);
		scope_leave(&scope);
		require_existing(SPI_processed);
		row = SPI_tuptable->vals[0];
		rowdesc = SPI_tuptable->tupdesc;
		spi_cxt = MemoryContextSwitchTo(cxt);
		old_mapping = DatumGetJsonbPCopy(SPI_getbinval(row, rowdesc, 10, &isnull));
		if (must_exist)
		{
			if (o->mapping == NULL)
				o->mapping = old_mapping;
			if (!o->has_allow_user_written)
				o->allow_user_written = DatumGetBool(SPI_getbinval(row, rowdesc, 7, &isnull));
			if (o->key == NULL)
				o->key = SPI_getvalue(row, rowdesc, 2);
			if (o->on_delete == NULL)
				o->on_delete = SPI_getvalue(row, rowdesc, 3);
			if (o->on_error == NULL)
				o->on_error = SPI_getvalue(row, rowdesc, 4);
			if (o->link_by == NULL)
				o->link_by = SPI_getvalue(row, rowdesc, 5);
			if (!o->has_enabled)
				o->enabled = DatumGetBool(SPI_getbinval(row, rowdesc, 6, &isnull));
		}
		if (o->search_path == NULL)
			o->search_path = SPI_getvalue(row, rowdesc, 8);
		MemoryContextSwitchTo(spi_cxt);
		SPI_finish();
	}

	check_one_of("on_delete", o->on_delete, "none", "delete", "deactivate");
	check_one_of("on_error", o->on_error, "quarantine", "raise", NULL);
	if (o->link_by != NULL && o->link_by[0] == '\0')
		o->link_by = NULL;
	if (o->key == NULL)
		o->key = choose_key(rel, RelationGetRelid(auth));
	check_key(rel, o->key);
	if (o->link_by != NULL)
		check_link_by(rel, o->key, o->link_by);
	if (o->search_path == NULL)
		o->search_path = default_search_path(rel);
	warn_about_search_path(o->search_path, rel->rd_rel->relowner);
	check_on_delete(rel, o->key, o->on_delete, RelationGetRelid(auth));

	if (o->mapping != NULL)
		parse_mapping(o->mapping, &draft);
	else
		infer_mapping(rel, o->key, &draft);
	for (int i = 0; i < draft.n; i++)
	{
		Compile		c;

		if (strcmp(draft.columns[i].name, o->key) == 0)
			mapping_error(o->key, "the key column always holds auth.users.id",
						  "Leave it out of the mapping.");
		memset(&c, 0, sizeof(c));
		c.mc = &draft.columns[i];
		c.explicit_policy = draft.explicit_policy[i];
		c.allow_user_written = o->allow_user_written;
		c.auth = auth;
		c.rel = rel;
		c.owner = rel->rd_rel->relowner;
		c.search_path = o->search_path;
		c.cxt = cxt;
		if (!sync_run_contained(compile_column, &c, true, &failure))
			raise_with_hint(failure,
							strncmp(failure->edata->message, "mapping of column", 17) == 0 ? "" :
							psprintf("mapping of column \"%s\" cannot be used: ", draft.columns[i].name),
							"Write an SQL expression over a row of auth.users whose value can be cast to the column's type.");
	}
	check_not_null_columns(rel, o->key, &draft);

	/* the statements themselves, as the owner, planned and not run */
	draft_target.relid = relid;
	draft_target.schema = get_namespace_name(RelationGetNamespace(rel));
	draft_target.table = pstrdup(RelationGetRelationName(rel));
	draft_target.key = o->key;
	draft_target.on_delete = on_delete_from_text(o->on_delete);
	draft_target.link_by = o->link_by;
	draft_target.search_path = o->search_path;
	draft_target.definer = GetUserNameFromId(outer, false);
	draft_target.same_database = true;
	draft_target.ncolumns = draft.n;
	draft_target.columns = draft.columns;
	draft_target.home = CurrentMemoryContext;
	for (int i = 0; i < draft.n; i++)
		if (reads_identity(&draft.columns[i]))
			draft_target.uses_identity = true;
	memset(&work, 0, sizeof(work));
	work.target = &draft_target;
	work.auth = auth;
	work.single = tuplestore_begin_heap(false, false, work_mem);
	if (!sync_run_contained(plan_statements, &work, false, &failure))
		raise_with_hint(failure, psprintf("%s cannot be synced to: ", name),
						"The statements of a sync run as the table's owner; see the search_path of the target too.");
	tuplestore_end(work.single);

	initStringInfo(&json);
	append_mapping_json(&json, draft.columns, draft.n);

	/* write, if anything differs */
	{
		Datum		args[13];
		char		nil[14] = "             ";
		HeapTuple	row = NULL;

		SPI_connect();
		scope_enter_own(&scope);
		if (existed)
		{
			TupleDesc	rowdesc;
			bool		isnull;
			Jsonb	   *old_mapping;
			Jsonb	   *new_mapping = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
			Target	   *t = find_target(registry, id);

			args[0] = Int64GetDatum(id);
			plan_execute(&existing_plan, args, NULL, false, 1);
			require_existing(SPI_processed);
			row = SPI_tuptable->vals[0];
			rowdesc = SPI_tuptable->tupdesc;
			old_mapping = DatumGetJsonbP(SPI_getbinval(row, rowdesc, 10, &isnull));
			unchanged = t != NULL && t->relid == relid && t->stamped &&
				strcmp(t->schema, draft_target.schema) == 0 && strcmp(t->table, draft_target.table) == 0 &&
				compareJsonbContainers(&old_mapping->root, &new_mapping->root) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 2), o->key) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 3), o->on_delete) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 4), o->on_error) == 0 &&
				strcmp(coalesce_text(SPI_getvalue(row, rowdesc, 5)), coalesce_text(o->link_by)) == 0 &&
				DatumGetBool(SPI_getbinval(row, rowdesc, 6, &isnull)) == o->enabled &&
				DatumGetBool(SPI_getbinval(row, rowdesc, 7, &isnull)) == o->allow_user_written &&
				strcmp(SPI_getvalue(row, rowdesc, 8), o->search_path) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 9), draft_target.definer) == 0;
		}
		if (!unchanged)
		{
			bool		isnull;

			args[0] = ObjectIdGetDatum(relid);
			args[1] = name_datum(draft_target.schema);
			args[2] = name_datum(draft_target.table);
			args[3] = name_datum(o->key);
			args[4] = CStringGetTextDatum(o->on_delete);
			args[5] = CStringGetTextDatum(o->on_error);
			args[6] = o->link_by ? name_datum(o->link_by) : (Datum) 0;
			nil[6] = o->link_by ? ' ' : 'n';
			args[7] = BoolGetDatum(o->enabled);
			args[8] = BoolGetDatum(o->allow_user_written);
			args[9] = CStringGetTextDatum(o->search_path);
			args[10] = name_datum(draft_target.definer);
			args[11] = CStringGetTextDatum(caller_lineage(InvalidSnapshot));
			nil[11] = existed ? ' ' : 'n'; /* the table's trigger writes it */
			args[12] = Int64GetDatum(id);
			plan_execute(existed ? &update_target_plan : &insert_target_plan, args, nil, false, 0);
			require_existing(SPI_processed);
			id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

			args[0] = Int64GetDatum(id);
			plan_execute(&first_run_plan, args, NULL, false, 0);
			plan_execute(&clear_mapping_plan, args, NULL, false, 0);
			for (int i = 0; i < draft.n; i++)
			{
				MapColumn  *mc = &draft.columns[i];
				Datum	   *sources = palloc(sizeof(Datum) * Max(mc->nsources, 1));

				for (int s = 0; s < mc->nsources; s++)
					sources[s] = CStringGetTextDatum(mc->sources[s]);
				args[0] = Int64GetDatum(id);
				args[1] = Int32GetDatum(i + 1);
				args[2] = name_datum(mc->name);
				args[3] = CStringGetTextDatum(mc->expression);
				args[4] = CStringGetTextDatum(policy_to_text(mc->policy));
				args[5] = PointerGetDatum(construct_array(sources, mc->nsources, TEXTOID, -1, false, TYPALIGN_INT));
				plan_execute(&insert_mapping_plan, args, NULL, false, 0);
			}
		}
		scope_leave(&scope);
		SPI_finish();
	}
	plan_release();

	if (unchanged)
		ereport(NOTICE,
				(errmsg("target %s is unchanged", name)));
	else
		event_append("admin", existed ? "sync.target_set" : "sync.target_added",
					 NULL, NULL, "target", name, NULL);

	if (o->enabled)
		attach_triggers("2000", true, draft_target.uses_identity);

	/* as every other session will see it from its next statement on */
	CommandCounterIncrement();
	plan_hold();
	{
		/* our own uncommitted rows are not in the latest snapshot */
		PushActiveSnapshot(GetTransactionSnapshot());
		if (registry == NULL || registry->id_att == InvalidAttrNumber)
			load_registry(auth);
		missing = count_missing(&draft_target, auth);
		PopActiveSnapshot();
	}
	plan_release();

	memset(nulls, 0, sizeof(nulls));
	values[0] = CStringGetTextDatum(name);
	values[1] = name_datum(o->key);
	values[2] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	values[3] = CStringGetTextDatum(o->on_delete);
	values[4] = CStringGetTextDatum(o->on_error);
	nulls[5] = o->link_by == NULL;
	values[5] = o->link_by ? name_datum(o->link_by) : (Datum) 0;
	values[6] = BoolGetDatum(o->enabled);
	values[7] = CStringGetTextDatum(o->search_path);
	values[8] = Int64GetDatum(missing);
	nulls[8] = missing < 0;
	values[9] = CStringGetTextDatum(psprintf("CALL invite_sync.sync_all(target => %s)", quote_literal_cstr(name)));

	relation_close(rel, NoLock);
	table_close(auth, NoLock);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

PG_FUNCTION_INFO_V1(sync_add_target);
PG_FUNCTION_INFO_V1(sync_set_target);
PG_FUNCTION_INFO_V1(sync_drop_target);

static void
refuse_null(bool isnull, const char *argument)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", argument),
				 strcmp(argument, "target") == 0 ?
				 errhint("Name a table, for example public.profiles.") :
				 strcmp(argument, "user_id") == 0 ?
				 errhint("Give the id of an auth user.") :
				 errhint("Leave the argument out for its default.")));
}

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static char *
name_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(n)));
}

/* add_target(target, mapping, key, on_delete, on_error, link_by, enabled, allow_user_written) */
Datum
sync_add_target(PG_FUNCTION_ARGS)
{
	TargetOptions o;

	caller_require_operator();
	refuse_null(PG_ARGISNULL(0), "target");
	refuse_null(PG_ARGISNULL(3), "on_delete");
	refuse_null(PG_ARGISNULL(4), "on_error");
	refuse_null(PG_ARGISNULL(6), "enabled");
	refuse_null(PG_ARGISNULL(7), "allow_user_written");
	memset(&o, 0, sizeof(o));
	o.mapping = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	o.key = name_arg(fcinfo, 2);
	o.on_delete = text_arg(fcinfo, 3);
	o.on_error = text_arg(fcinfo, 4);
	o.link_by = name_arg(fcinfo, 5);
	o.enabled = PG_GETARG_BOOL(6);
	o.has_enabled = true;
	o.allow_user_written = PG_GETARG_BOOL(7);
	o.has_allow_user_written = true;
	return configure_target(fcinfo, PG_GETARG_OID(0), &o, false);
}

/* set_target(target, mapping, key, on_delete, on_error, link_by, enabled, search_path, allow_user_written) */
Datum
sync_set_target(PG_FUNCTION_ARGS)
{
	TargetOptions o;

	caller_require_operator();
	refuse_null(PG_ARGISNULL(0), "target");
	memset(&o, 0, sizeof(o));
	o.mapping = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	o.key = name_arg(fcinfo, 2);
	o.on_delete = text_arg(fcinfo, 3);
	o.on_error = text_arg(fcinfo, 4);
	o.link_by = name_arg(fcinfo, 5);
	o.has_enabled = !PG_ARGISNULL(6);
	o.enabled = o.has_enabled && PG_GETARG_BOOL(6);
	o.search_path = text_arg(fcinfo, 7);
	o.has_allow_user_written = !PG_ARGISNULL(8);
	o.allow_user_written = o.has_allow_user_written && PG_GETARG_BOOL(8);
	return configure_target(fcinfo, PG_GETARG_OID(0), &o, true);
}

static SavedPlan drop_target_plan = {
	.sql = "WITH q AS (DELETE FROM invite_sync.quarantine_entry AS q WHERE q.target_id = $1), "
	"r AS (DELETE FROM invite_sync.sync_run AS r WHERE r.target_id = $1), "
	"m AS (DELETE FROM invite_sync.mapping AS m WHERE m.target_id = $1) "
	"DELETE FROM invite_sync.target AS t WHERE t.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/*
 * drop_target(target text): by name and not by regclass, so that a target whose
 * table is gone can be forgotten too.
 */
typedef struct Drop
{
	int64		id;
	uint64		found;
} Drop;

static void
drop_registered(void *arg)
{
	Drop	   *drop = (Drop *) arg;
	Scope		scope;
	Datum		args[1];

	args[0] = Int64GetDatum(drop->id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&drop_target_plan, args, NULL, false, 0);
	drop->found = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
}

Datum
sync_drop_target(PG_FUNCTION_ARGS)
{
	char	   *given;
	List	   *names;
	RangeVar   *rv;
	Oid			relid;
	int64		id = 0;
	char	   *display = NULL;
	Drop		drop;

	caller_require_operator();
	PreventCommandIfReadOnly("drop_target()");
	load_registry_for_caller(load_registry, NULL);
	refuse_null(PG_ARGISNULL(0), "target");
	given = text_to_cstring(PG_GETARG_TEXT_PP(0));

	names = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));
	rv = makeRangeVarFromNameList(names);
	lock_for_configuring(InvalidOid);
	relid = RangeVarGetRelid(rv, NoLock, true);
	load_registry(NULL);
	for (int pass = 0; pass < 2 && id == 0; pass++)
	{
		for (int i = 0; i < registry->ntargets; i++)
		{
			Target	   *t = &registry->targets[i];

			if (pass == 0 ? (OidIsValid(relid) && t->relid == relid) :
				(strcmp(t->table, rv->relname) == 0 &&
				 (rv->schemaname == NULL || strcmp(rv->schemaname, t->schema) == 0)))
			{
				id = t->id;
				display = pstrdup(target_display(t));
				break;
			}
		}
	}
	if (id == 0)
	{
		ereport(NOTICE,
				(errmsg("%s is not a target, nothing to drop", given)));
		PG_RETURN_BOOL(false);
	}
	if (OidIsValid(relid))
	{
		Oid			outer = caller_role();
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
		Oid			owner = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->relowner : outer;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (!has_privs_of_role(outer, owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be a member of the owner of %s", display),
					 errhint("Let role %s call it, or a member of it.",
							 quote_identifier(GetUserNameFromId(owner, false)))));
	}

	drop.id = id;
	load_registry_for_caller(drop_registered, &drop);
	require_existing(drop.found);
	event_append("admin", "sync.target_dropped", NULL, NULL, "target", display, NULL);
	PG_RETURN_BOOL(true);
}

/* ---------------------------------------------------------------------
 * Triggers on and off
 * ---------------------------------------------------------------------
 */

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
	for (int i = 0; registry != NULL && i < registry->ntargets; i++)
		if (registry->targets[i].enabled && registry->targets[i].uses_identity)
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
	args[1] = name_datum(trg->name);
	args[2] = name_datum(trg->function);
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
		ReThrowError(failure->edata);

	pids = lock_holders(auth, all_modes);
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
	load_registry(NULL);
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
	load_registry_for_caller(load_and_note_attached, &only_if_wanted);
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
				ReThrowError(failure->edata);
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("the guarded triggers of invite_sync cannot be looked at"),
					 errdetail("%s", failure_detail(failure)),
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

static void
attach_triggers(const char *wait, bool only_if_wanted, bool identity)
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

	refuse_null(PG_ARGISNULL(0), "wait");
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
	load_registry(NULL);
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

static void
locate_only(void *arg)
{
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	relation_close(locate_target((Target *) arg, AccessShareLock), NoLock);
	AtEOXact_GUC(false, guc_level);
}

int
sync_check_targets(SyncTargetCheck **checks)
{
	SyncTargetCheck *list;
	int			n;

	load_registry(NULL);
	plan_hold();
	n = registry->ntargets;
	list = palloc0(sizeof(SyncTargetCheck) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Target	   *t = &registry->targets[i];
		Failure    *failure;

		list[i].name = target_display(t);
		list[i].enabled = t->enabled;
		if (sync_run_contained(locate_only, t, false, &failure))
			list[i].relid = t->relid;
		else
			list[i].failure = failure;
	}
	plan_release();
	*checks = list;
	return n;
}

/* ---------------------------------------------------------------------
 * Analysis, for who watches DDL
 * ---------------------------------------------------------------------
 */

bool
sync_concerns(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *nsp = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	if (nsp == NULL)
		return false;
	load_registry(NULL);
	if (relid == caller_auth_users_relid(true))
		return true;
	for (int i = 0; i < registry->ntargets; i++)
	{
		Target	   *t = &registry->targets[i];

		/* by its name as well: after a restore the number is another's */
		if (t->enabled && (t->relid == relid || (strcmp(t->table, name) == 0 && strcmp(t->schema, nsp) == 0)))
			return true;
	}
	return false;
}

bool
sync_has_targets(void)
{
	load_registry(NULL);
	for (int i = 0; i < registry->ntargets; i++)
		if (registry->targets[i].enabled)
			return true;
	return false;
}

/*
 * A mapping is cast to its column's type, and by way of their texts all types
 * can be. But there are types that no address is a text of.
 */
static bool
check_address_casts(Node *node, void *context)
{
	Query	   *query = (Query *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, check_address_casts, node, 0);
	if (IsA(node, CoerceViaIO))
	{
		CoerceViaIO *cast = (CoerceViaIO *) node;
		Node	   *arg = (Node *) cast->arg;
		Var		   *var;
		RangeTblEntry *rte;
		Oid			input;
		Oid			ioparam;

		while (IsA(arg, RelabelType))
			arg = (Node *) ((RelabelType *) arg)->arg;
		var = (Var *) arg;
		if (IsA(arg, Var) && var->varlevelsup == 0 && var->varattno > 0)
		{
			rte = rt_fetch(var->varno, query->rtable);
			getTypeInputInfo(cast->resulttype, &input, &ioparam);
			if (rte->rtekind == RTE_NAMEDTUPLESTORE && strcmp(rte->enrname, SOURCE_NAME) == 0 &&
				strcmp(strVal(list_nth(rte->eref->colnames, var->varattno - 1)), "email") == 0 &&
				input < FirstNormalObjectId)
				(void) OidInputFunctionCall(input, pstrdup("somebody@example.com"), ioparam, -1);
		}
	}
	return expression_tree_walker(node, check_address_casts, context);
}

static void
analyse_kept(const char *sql, int nargs, Relation auth)
{
	Query	   *query;

	if (sql == NULL)
		return;
	query = plan_query(plan_try(sql, nargs, overwrite_argtypes));
	check_no_secrets(query, RelationGetDescr(auth));
	(void) check_address_casts((Node *) query, NULL);
}

/* May the owner write its own table? Analysis does not ask. */
static void
check_owner_rights(const Target *t)
{
	if (pg_class_aclmask(t->relid, t->owner, ACL_INSERT | ACL_SELECT, ACLMASK_ALL) == (ACL_INSERT | ACL_SELECT))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the owner of %s may not write it", target_display(t)),
			 errhint("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", target_display(t),
					 quote_identifier(GetUserNameFromId(t->owner, false)))));
}

/*
 * As add_target() does, but analysed only: no function of anybody's runs. And
 * nobody is waited for: what is locked by others, they will look at.
 */
static void
analyse_target(void *arg)
{
	Work	   *work = (Work *) arg;
	Target	   *t = work->target;
	EphemeralNamedRelationData enr;
	MappingDraft draft;
	Relation	rel;
	Scope		scope;
	Identities	identities;
	int			key;

	if (OidIsValid(t->relid) && !ConditionalLockRelationOid(t->relid, AccessShareLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("the target is locked")));
	prepare_target(t, AccessShareLock);
	rel = relation_open(t->relid, AccessShareLock);
	memset(&draft, 0, sizeof(draft));
	draft.n = t->ncolumns;
	draft.columns = t->columns;
	check_not_null_columns(rel, t->key, &draft);
	check_owner_rights(t);
	key = SPI_fnumber(RelationGetDescr(rel), t->key);
	if (key <= 0 || !has_key_index(rel, key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("there is no unique index on column %s of %s", quote_identifier(t->key), target_display(t)),
				 errhint("ALTER TABLE %s ADD UNIQUE (%s);", target_display(t), quote_identifier(t->key))));
	relation_close(rel, NoLock);
	load_identities(t, work->auth, work->single, true, &identities);
	SPI_connect();
	register_identities(&identities);
	scope_enter_target(&scope, t->owner, t->search_path);
	register_source(&enr, work->auth, work->single);
	analyse_kept(t->insert_sql, 0, work->auth);
	analyse_kept(t->missing_sql, 0, work->auth);
	analyse_kept(t->check_sql, 1, work->auth);
	analyse_kept(t->update_sql, 1, work->auth);
	scope_leave(&scope);
	SPI_finish();
	end_identities(&identities);
}

int
sync_analyse_targets(SyncAnalysis **analyses)
{
	Oid			relid = caller_auth_users_relid(true);
	Relation	auth;
	SyncAnalysis *list;
	int			n = 0;

	*analyses = NULL;
	load_registry(NULL);
	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
		return 0;
	auth = try_relation_open(relid, NoLock);
	if (auth == NULL)
		return 0;
	plan_hold();
	load_registry(auth);
	list = palloc0(sizeof(SyncAnalysis) * Max(registry->ntargets, 1));
	for (int i = 0; i < registry->ntargets; i++)
	{
		Target	   *t = &registry->targets[i];
		Work		work;

		if (!t->enabled)
			continue;
		memset(&work, 0, sizeof(work));
		work.target = t;
		work.auth = auth;
		work.single = tuplestore_begin_heap(false, false, work_mem);
		list[n].id = t->id;
		list[n].name = pstrdup(target_display(t));
		(void) sync_run_contained(analyse_target, &work, false, (Failure **) &list[n].failure);
		n++;
		tuplestore_end(work.single);
	}
	plan_release();
	relation_close(auth, AccessShareLock);
	*analyses = list;
	return n;
}

/* ---------------------------------------------------------------------
 * Verification
 * ---------------------------------------------------------------------
 */

PG_FUNCTION_INFO_V1(sync_verify);

static void
emit_finding(ReturnSetInfo *rsinfo, const char *severity, const char *area, const char *object,
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
			emit_finding(rsinfo, "error", "module", "invite_sync", "library and SQL objects are of different versions",
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

		emit_finding(rsinfo, "error", "caller", member, "the role is a member of the owner of the extension's tables",
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
		prepare_target(v->work.target, AccessShareLock);
	else
		plan_statements(&v->work);
	AtEOXact_GUC(false, guc_level);
}

static void
emit_listener_finding(void *arg, const char *severity, const char *area, const char *object,
					  const char *finding, const char *detail, const char *fix)
{
	emit_finding((ReturnSetInfo *) arg, severity, area, object, finding, detail, fix);
}

static void
emit_quarantine_finding(void *arg, const char *severity, const char *object,
						const char *finding, const char *detail, const char *fix)
{
	emit_finding((ReturnSetInfo *) arg, severity, "quarantine", object, finding, detail, fix);
}

/* A part of verify(), contained: what one cannot read hides nothing of the others. */
typedef struct VerifyPart
{
	ReturnSetInfo *rsinfo;
	Relation	auth;
	bool		any_enabled;
} VerifyPart;

static void
verify_part(ContainedFn fn, VerifyPart *part, const char *area, const char *object, const char *finding)
{
	Failure    *failure;

	if (!sync_run_contained(fn, part, true, &failure))
		emit_finding(part->rsinfo, "error", area, object, finding, failure_detail(failure),
					 "ALTER EXTENSION invite_sync UPDATE; -- or whatever the detail calls for");
}

static void
verify_triggers(void *arg)
{
	VerifyPart *part = (VerifyPart *) arg;
	ReturnSetInfo *rsinfo = part->rsinfo;

	if (sync_is_detached())
		emit_finding(rsinfo, "info", "sync", "auth.users", "detach() was called: the triggers are off on purpose",
					 NULL, "SELECT invite_sync.attach();");
	else if (part->any_enabled)
	{
		for (size_t i = 0; i < lengthof(our_triggers); i++)
		{
			TriggerState state = trigger_state(&our_triggers[i]);

			if (state != TRIGGER_IS_GOOD && trigger_wanted(&our_triggers[i]))
				emit_finding(rsinfo, "error", "sync", our_triggers[i].name,
							 psprintf("the trigger on auth.%s is %s", our_triggers[i].table,
									  state == TRIGGER_IS_ABSENT ? "missing" :
									  state == TRIGGER_IS_OFF ? "disabled" :
									  "not the one that attach() makes"),
							 "Changes of auth.users are not synced. What was missed meanwhile is missing, stale or orphaned in sync_status(); sync_all() makes missing rows and fills NULLs only.",
							 "SELECT invite_sync.attach(); CALL invite_sync.sync_all();");
		}
	}
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

	for (int i = 0; i < nlisteners; i++)
		listeners[i]->verify(auth_readable, emit_listener_finding, part->rsinfo);
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

		emit_finding(rsinfo, "warning", "quarantine", SPI_getvalue(row, desc, 1),
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
			emit_finding(rsinfo, "info", "sync", target_display(t), "the target is disabled", NULL,
						 psprintf("SELECT invite_sync.set_target(%s, enabled => true);",
								  quote_literal_cstr(target_display(t))));
			continue;
		}
		memset(&v, 0, sizeof(v));
		v.read_only = RecoveryInProgress() || XactReadOnly;
		v.work.target = t;
		v.work.auth = auth;
		v.work.single = tuplestore_begin_heap(false, false, work_mem);
		if (!sync_run_contained(verify_target, &v, false, &failure))
			emit_finding(rsinfo, "error", "sync", target_display(t), "users cannot be synced to this target",
						 failure_detail(failure), failure->edata->hint);
		else
		{
			current = get_rel_name(t->relid);
			if (current != NULL && (strcmp(current, t->table) != 0 ||
									strcmp(get_namespace_name(get_rel_namespace(t->relid)), t->schema) != 0))
				emit_finding(rsinfo, "info", "sync", target_display(t), "the target was renamed",
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
	bool		readable;

	caller_require_operator();
	InitMaterializedSRF(fcinfo, 0);

	if (!OidIsValid(caller_auth_users_relid(true)))
	{
		emit_finding(rsinfo, "error", "sync", "auth.users", "there is no table auth.users",
					 "Nothing can be synced.", "SELECT invite_sync.create_auth_schema();");
		return (Datum) 0;
	}
	emit_version(rsinfo);
	auth = open_auth_users(AccessShareLock);
	memset(&part, 0, sizeof(part));
	part.rsinfo = rsinfo;
	part.auth = auth;
	plan_hold();
	readable = sync_run_contained(load_registry, auth, true, &load_failure);
	if (!readable)
		emit_finding(rsinfo, "error", "sync", "invite_sync.target", "the registry cannot be read: nothing is synced",
					 failure_detail(load_failure), "ALTER EXTENSION invite_sync UPDATE;");
	if (superuser_arg(auth->rd_rel->relowner))
		emit_finding(rsinfo, "error", "caller", "auth.users", "auth.users belongs to a superuser",
					 "Nothing of invite_sync runs as a superuser, so users can be neither locked nor backfilled.",
					 "ALTER TABLE auth.users OWNER TO supabase_auth_admin;");
	emit_members(rsinfo);
	if (!invite_sync_enabled)
		emit_finding(rsinfo, "error", "sync", "invite_sync.enabled", "the setting is off: nothing is synced",
					 NULL, "RESET invite_sync.enabled; -- and look into postgresql.conf, ALTER SYSTEM, ALTER DATABASE and ALTER ROLE");
	for (int i = 0; i < nlisteners; i++)
		part.any_enabled = part.any_enabled || listeners[i]->needs_triggers();
	if (readable)
	{
		for (int i = 0; i < registry->ntargets; i++)
			part.any_enabled = part.any_enabled || registry->targets[i].enabled;
		verify_part(verify_triggers, &part, "sync", "auth.users", "the triggers cannot be looked at");
		verify_targets(rsinfo, auth, registry);
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

/* ---------------------------------------------------------------------
 * Load
 * ---------------------------------------------------------------------
 */

void
sync_init(void)
{
	CacheRegisterRelcacheCallback(sync_relcache_callback, (Datum) 0);
	RegisterXactCallback(forget_nested, NULL);
	event_ensure_user_hook = ensure_user;
}
