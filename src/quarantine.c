/*-------------------------------------------------------------------------
 *
 * quarantine.c
 *	  The record of what failed, kept until it succeeds.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/proclang.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "caller.h"
#include "event.h"
#include "plan.h"
#include "quarantine.h"
#include "sync.h"

/* So often the registry is read anew when it changes under the reader. */
#define READS_MAX			3

PG_FUNCTION_INFO_V1(quarantine_retry);

/*
 * Distinct failures travel once: a batch of 100,000 users that fails for one
 * missing table must not carry 100,000 copies of its message.
 */
static SavedPlan record_plan = {
	.sql = "INSERT INTO invite_sync.quarantine_entry AS q (target_id, user_id, action, sqlstate, message, detail, "
	"constraint_name, column_name, context, changed_columns, next_retry_at, spare) "
	"SELECT $1, i.user_id, $2, f.sqlstate, f.message, f.detail, f.constraint_name, f.column_name, f.context, "
	"i.changed::pg_catalog.text[], invite_sync.next_retry(1), i.spare "
	"FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($12)) "
	"AS i (user_id, changed, failure, spare) "
	"JOIN ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), "
	"pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11)) WITH ORDINALITY "
	"AS f (sqlstate, message, detail, constraint_name, column_name, context, failure) "
	"ON f.failure OPERATOR(pg_catalog.=) i.failure::pg_catalog.int8 "
	"ON CONFLICT (target_id, user_id) WHERE target_id IS NOT NULL AND NOT spare DO UPDATE SET "
	"action = CASE WHEN excluded.action OPERATOR(pg_catalog.=) 'update' "
	"AND q.action OPERATOR(pg_catalog.=) 'insert' THEN q.action ELSE excluded.action END, "
	"sqlstate = excluded.sqlstate, message = excluded.message, detail = excluded.detail, "
	"constraint_name = excluded.constraint_name, column_name = excluded.column_name, context = excluded.context, "
	"changed_columns = (SELECT pg_catalog.array_agg(DISTINCT c.name) FROM "
	"pg_catalog.unnest(pg_catalog.array_cat(q.changed_columns, excluded.changed_columns)) AS c (name)), "
	"attempts = q.attempts OPERATOR(pg_catalog.+) 1, last_failed_at = excluded.last_failed_at, "
	"next_retry_at = invite_sync.next_retry(q.attempts OPERATOR(pg_catalog.+) 1)",
	.nargs = 12,
	.argtypes = {INT8OID, TEXTOID, UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID}
};

/*
 * Whose entry does somebody else hold? A retry holds what it works on until its
 * transaction ends; to wait for that might take too long or be a deadlock, and a
 * failure that cannot be recorded is lost. So theirs becomes an entry beside it,
 * outside of the unique index: a spare one. LATERAL and LIMIT leave no choice but
 * to look each user up: tables are large by the time that a plan is kept.
 */
#define ENTRIES_OF_USERS(lock) \
	"SELECT e.user_id FROM pg_catalog.unnest($2) AS g (user_id) CROSS JOIN LATERAL (" \
	"SELECT q.user_id FROM invite_sync.quarantine_entry AS q WHERE q.target_id OPERATOR(pg_catalog.=) $1 " \
	"AND q.user_id OPERATOR(pg_catalog.=) g.user_id AND NOT q.spare LIMIT 1" lock ") AS e"

static SavedPlan entries_plan = {
	.sql = ENTRIES_OF_USERS(""),
	.nargs = 2,
	.argtypes = {INT8OID, UUIDARRAYOID}
};

static SavedPlan take_plan = {
	.sql = ENTRIES_OF_USERS(" FOR UPDATE SKIP LOCKED"),
	.nargs = 2,
	.argtypes = {INT8OID, UUIDARRAYOID}
};

static SavedPlan resolve_plan = {
	/* what a retry holds is its to resolve; to wait for it might be a deadlock */
	.sql = "DELETE FROM invite_sync.quarantine_entry AS d WHERE d.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT q.id "
	"FROM invite_sync.quarantine_entry AS q "
	"WHERE q.target_id OPERATOR(pg_catalog.=) $1 AND q.user_id OPERATOR(pg_catalog.=) ANY ($2) "
	"AND (q.changed_columns IS NULL OR q.changed_columns OPERATOR(pg_catalog.<@) $3) FOR UPDATE SKIP LOCKED))",
	.nargs = 3,
	.argtypes = {INT8OID, UUIDARRAYOID, TEXTARRAYOID}
};

/* What failed at the deletion itself stays, or nobody would ever hear of it. */
static SavedPlan forget_plan = {
	/* what a retry holds it forgets itself, once it finds the user gone */
	.sql = "DELETE FROM invite_sync.quarantine_entry AS d WHERE d.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT q.id "
	"FROM invite_sync.quarantine_entry AS q WHERE q.user_id OPERATOR(pg_catalog.=) ANY ($1) "
	"AND (q.trigger_name IS NULL OR q.action OPERATOR(pg_catalog.<>) 'delete') FOR UPDATE SKIP LOCKED))",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

typedef struct QuarantineCall
{
	int64		target_id;
	const char *action;
	const QuarantineItem *items;
	int64		nitems;
	bool		all_spare;
	const pg_uuid_t *ids;
	int64		nids;
	ArrayType  *applied;
} QuarantineCall;

/*
 * DETAIL of an integrity violation holds the row or the key that violated:
 * somebody's address. The constraint and the column say as much without it.
 */
static bool
detail_is_safe(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION &&
		sqlerrcode != ERRCODE_WITH_CHECK_OPTION_VIOLATION;
}

static char *
failure_field(const Failure *f, int field)
{
	ErrorData  *e = f->edata;

	switch (field)
	{
		case 0:
			return unpack_sql_state(f->sqlerrcode);
		case 1:
			return e->message;
		case 2:
			return detail_is_safe(f->sqlerrcode) ? e->detail : NULL;
		case 3:
			return e->constraint_name;
		case 4:
			return e->column_name;
		case 5:
			return e->context;
		default:
			return NULL;
	}
}

/* The ids that one of the two plans above finds, in order. */
static pg_uuid_t *
users_with_entries(SavedPlan *plan, Datum *args, uint64 *n)
{
	pg_uuid_t  *ids;

	/* quarantine may have been empty when it was vacuumed last */
	plan_by_index(plan_get(plan));
	plan_execute(plan, args, NULL, false, 0);
	*n = SPI_processed;
	ids = palloc_extended(sizeof(pg_uuid_t) * Max(*n, 1), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	qsort(ids, *n, sizeof(pg_uuid_t), plan_compare_uuids);
	return ids;
}

/* Which of these users need a spare entry? To be called in our own scope. */
static void
find_held(Datum target_id, Datum user_ids, int64 n, const QuarantineItem *items, Datum *spare)
{
	Datum		args[2] = {target_id, user_ids};
	uint64		nall;
	uint64		ntaken = 0;
	pg_uuid_t  *all = users_with_entries(&entries_plan, args, &nall);
	pg_uuid_t  *taken = nall > 0 ? users_with_entries(&take_plan, args, &ntaken) : NULL;

	for (int64 i = 0; i < n && nall > 0; i++)
		spare[i] = BoolGetDatum(bsearch(&items[i].user_id, all, nall, sizeof(pg_uuid_t), plan_compare_uuids) != NULL &&
								bsearch(&items[i].user_id, taken, ntaken, sizeof(pg_uuid_t), plan_compare_uuids) == NULL);
}

static void
record_items(void *arg)
{
	QuarantineCall *call = (QuarantineCall *) arg;
	int			guc_level = NewGUCNestLevel();
	int64		n = call->nitems;
	Datum		args[12];
	Datum	   *ids = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
	Datum	   *changed = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
	bool	   *no_changed = palloc_extended(sizeof(bool) * n, MCXT_ALLOC_HUGE);
	Datum	   *which = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
	Datum	   *spare = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
	const Failure **distinct = NULL;
	int			ndistinct = 0;
	int			maxdistinct = 0;
	Scope		scope;

	for (int64 i = 0; i < n; i++)
	{
		const QuarantineItem *item = &call->items[i];

		ids[i] = UUIDPGetDatum(&item->user_id);
		no_changed[i] = item->changed == NULL;
		changed[i] = item->changed ? CStringGetTextDatum(item->changed) : (Datum) 0;
		/* one failure of many users comes as one pointer, in a run */
		if (ndistinct == 0 || distinct[ndistinct - 1] != item->failure)
		{
			if (ndistinct == maxdistinct)
			{
				maxdistinct = Max(8, maxdistinct * 2);
				if (distinct == NULL)
					distinct = palloc(sizeof(Failure *) * maxdistinct);
				else
					distinct = repalloc_huge(distinct, sizeof(Failure *) * maxdistinct);
			}
			distinct[ndistinct++] = item->failure;
		}
		which[i] = Int32GetDatum(ndistinct);
		spare[i] = BoolGetDatum(call->all_spare);
	}

	args[0] = Int64GetDatum(call->target_id);
	args[1] = CStringGetTextDatum(call->action);
	args[2] = plan_array(ids, NULL, n, UUIDOID);
	args[3] = plan_array(changed, no_changed, n, TEXTOID);
	args[4] = plan_array(which, NULL, n, INT4OID);
	for (int field = 0; field < 6; field++)
	{
		Datum	   *values = palloc(sizeof(Datum) * ndistinct);
		bool	   *nulls = palloc(sizeof(bool) * ndistinct);

		for (int i = 0; i < ndistinct; i++)
		{
			char	   *s = failure_field(distinct[i], field);

			nulls[i] = s == NULL;
			values[i] = s ? CStringGetTextDatum(s) : (Datum) 0;
		}
		args[5 + field] = plan_array(values, nulls, ndistinct, TEXTOID);
	}

	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	if (!call->all_spare)
		find_held(args[0], args[2], n, call->items, spare);
	args[11] = plan_array(spare, NULL, n, BOOLOID);
	plan_execute(&record_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

static void
resolve_ids(void *arg)
{
	QuarantineCall *call = (QuarantineCall *) arg;
	int			guc_level = NewGUCNestLevel();
	Datum	   *ids = palloc_extended(sizeof(Datum) * call->nids, MCXT_ALLOC_HUGE);
	Datum		args[3];
	Scope		scope;

	for (int64 i = 0; i < call->nids; i++)
		ids[i] = UUIDPGetDatum(&call->ids[i]);

	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	if (call->target_id != 0)
	{
		args[0] = Int64GetDatum(call->target_id);
		args[1] = plan_array(ids, NULL, call->nids, UUIDOID);
		args[2] = PointerGetDatum(call->applied ? call->applied : construct_empty_array(TEXTOID));
		plan_execute(&resolve_plan, args, NULL, false, 0);
	}
	else
	{
		args[0] = plan_array(ids, NULL, call->nids, UUIDOID);
		plan_execute(&forget_plan, args, NULL, false, 0);
	}
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/*
 * Run in scratch memory and in a subtransaction; a failure only warns, or with
 * no message is not spoken of.
 */
static bool
run_quarantine_call(ContainedFn fn, QuarantineCall *call, const char *message)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "invite_sync quarantine",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	Failure    *failure;
	bool		ok = sync_run_contained(fn, call, true, &failure);

	if (!ok && message != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg_internal("%s", message),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("invite_sync.sync_status() still counts what is missing."),
				 errhidestmt(true), errhidecontext(true)));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return ok;
}

bool
quarantine_record(int64 target_id, const char *action, const QuarantineItem *items, int64 nitems)
{
	QuarantineCall call = {.target_id = target_id,.action = action,.items = items,.nitems = nitems};

	if (nitems == 0 || run_quarantine_call(record_items, &call, NULL))
		return true;

	/* somebody is just making an entry for one of them: all beside what there is */
	call.all_spare = true;
	return run_quarantine_call(record_items, &call, "failed syncs cannot be recorded in quarantine");
}

void
quarantine_resolve(int64 target_id, const pg_uuid_t *user_ids, int64 nids, ArrayType *applied)
{
	QuarantineCall call = {.target_id = target_id,.ids = user_ids,.nids = nids,.applied = applied};

	if (nids > 0)
		(void) run_quarantine_call(resolve_ids, &call, "resolved entries cannot be taken out of quarantine");
}

void
quarantine_forget_users(const pg_uuid_t *user_ids, int64 nids)
{
	QuarantineCall call = {.target_id = 0,.ids = user_ids,.nids = nids};

	if (nids > 0)
		(void) run_quarantine_call(resolve_ids, &call, "entries of deleted users cannot be taken out of quarantine");
}

/* ---------------------------------------------------------------------
 * Retry
 * ---------------------------------------------------------------------
 */

static SavedPlan due_plan = {
	.sql = "SELECT q.id, q.target_id, q.user_id, q.action, q.changed_columns, q.spare "
	"FROM invite_sync.quarantine_entry AS q "
	"WHERE q.replayable AND q.target_id IS NOT NULL "
	"AND (NOT $2 OR q.next_retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) "
	"AND NOT EXISTS (SELECT 1 FROM invite_sync.target AS t WHERE t.id OPERATOR(pg_catalog.=) q.target_id AND NOT t.enabled) "
	"ORDER BY q.next_retry_at, q.id LIMIT $1 FOR UPDATE OF q SKIP LOCKED",
	.nargs = 2,
	.argtypes = {INT8OID, BOOLOID}
};

typedef struct Due
{
	int64		id;
	int64		target_id;
	pg_uuid_t	user_id;
	bool		is_delete;
	char	   *changed;		/* array literal, or NULL */
	bool		spare;
	int			group;			/* index of the first one that it is done with, or -1 */
	SyncOutcome outcome;
	bool		recorded;		/* failed, and that has been seen to */
} Due;

static SavedPlan delete_entries_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q WHERE q.id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* A spare entry whose user has no other one takes its place, with its past. */
static SavedPlan promote_plan = {
	.sql = "UPDATE invite_sync.quarantine_entry AS q SET spare = false "
	"WHERE q.id OPERATOR(pg_catalog.=) ANY ($1) AND q.spare "
	"AND NOT EXISTS (SELECT 1 FROM invite_sync.quarantine_entry AS o WHERE o.target_id OPERATOR(pg_catalog.=) q.target_id "
	"AND o.user_id OPERATOR(pg_catalog.=) q.user_id AND (NOT o.spare OR "
	"(o.id OPERATOR(pg_catalog.=) ANY ($1) AND o.id OPERATOR(pg_catalog.<) q.id)))",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* The others are part of that one by now. */
static SavedPlan merged_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q WHERE q.id OPERATOR(pg_catalog.=) ANY ($1) AND q.spare",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* Run one of the statements above over ids of entries that we hold. */
static void
execute_over_ids(SavedPlan *plan, Datum *ids, int n)
{
	Scope		scope;
	Datum		args[1];

	args[0] = plan_array(ids, NULL, n, INT8OID);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

typedef struct Promotion
{
	Datum	   *ids;
	int			n;
} Promotion;

static void
promote_spares(void *arg)
{
	Promotion  *p = (Promotion *) arg;
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	execute_over_ids(&promote_plan, p->ids, p->n);
	AtEOXact_GUC(false, guc_level);
}

static int
compare_items(const void *a, const void *b)
{
	return memcmp(&((const QuarantineItem *) a)->user_id, &((const QuarantineItem *) b)->user_id, UUID_LEN);
}

/*
 * Record what failed again of the group that dues[first] is of: of users who
 * are there, or of those who are gone. Several entries of a user become one.
 */
static void
record_again(Due *dues, int ndues, int first)
{
	Due		   *d = &dues[first];
	bool		removal = d->is_delete && !d->outcome.exists;
	QuarantineItem *items = palloc0(sizeof(QuarantineItem) * ndues);
	Datum	   *spares = palloc(sizeof(Datum) * ndues);
	int			nitems = 0;
	int			nspares = 0;

	for (int i = first; i < ndues; i++)
	{
		if (dues[i].group != d->group || dues[i].outcome.failure == NULL || dues[i].recorded ||
			(dues[i].is_delete && !dues[i].outcome.exists) != removal)
			continue;
		dues[i].recorded = true;
		items[nitems].user_id = dues[i].user_id;
		items[nitems].failure = dues[i].outcome.failure;
		items[nitems].changed = dues[i].changed;
		nitems++;
		if (dues[i].spare)
			spares[nspares++] = Int64GetDatum(dues[i].id);
	}
	if (nspares > 0)
	{
		Promotion	promotion = {spares, nspares};
		Failure    *ignored;
		int			kept = 1;

		(void) sync_run_contained(promote_spares, &promotion, true, &ignored);
		/* one statement cannot write an entry twice */
		qsort(items, nitems, sizeof(QuarantineItem), compare_items);
		for (int i = 1; i < nitems; i++)
			if (compare_items(&items[kept - 1], &items[i]) != 0)
				items[kept++] = items[i];
		nitems = kept;
	}
	if (quarantine_record(d->target_id, removal ? "delete" : "update", items, nitems) && nspares > 0)
		execute_over_ids(&merged_plan, spares, nspares);
	pfree(items);
	pfree(spares);
}

static void retry_triggers(int max_rows, bool due_only, int *retried, int *resolved, int *failed);

/* All of them: a note that a user is gone does not say which room could not clean up. */
static bool
tell_all_gone(const pg_uuid_t *user_ids, int64 nids)
{
	const SyncListener *listener;
	bool		ok = true;

	for (int i = 0; (listener = sync_listener(i)) != NULL; i++)
		ok = sync_tell_gone(listener, user_ids, nids) && ok;
	return ok;
}

/* What deleted users have left with the rooms that listen. */
static void
retry_gone(int max_rows, bool due_only, int *retried, int *resolved, int *failed)
{
	const SyncListener *listener;

	if (!OidIsValid(caller_auth_users_relid(true)))
		return;
	for (int i = 0; (listener = sync_listener(i)) != NULL; i++)
	{
		pg_uuid_t  *ids;
		int64		n;

		listener->find_gone(!due_only, max_rows, &ids, &n);
		*retried += n;
		if (tell_all_gone(ids, n))
			*resolved += n;
		else if (n == 1)
			(*failed)++;
		else
			/* one who cannot be helped does not keep the others */
			for (int64 k = 0; k < n; k++)
				(*(tell_all_gone(&ids[k], 1) ? resolved : failed))++;
	}
}

/*
 * retry_quarantine(max_rows, due_only): try again what failed, by the same
 * statements as the triggers. Entries that another retry works on are left to
 * it. Users are grouped by target and by the columns their update has to set.
 */
Datum
quarantine_retry(PG_FUNCTION_ARGS)
{
	int32		max_rows = PG_ARGISNULL(0) ? 1000 : PG_GETARG_INT32(0);
	bool		due_only = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	Due		   *dues;
	int			ndues;
	int			retried = 0;
	int			resolved = 0;
	int			failed = 0;
	Datum	   *gone;
	Scope		scope;
	Datum		args[2];
	MemoryContext cxt = CurrentMemoryContext;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	caller_require_service();
	if (max_rows < 1 || max_rows > 10000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be between 1 and 10000"),
				 errhint("One call is one transaction and locks its users; leave it out to retry up to 1000 entries, and call again.")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	sync_refresh_names();

	SPI_connect();
	scope_enter_own(&scope);
	args[0] = Int64GetDatum(max_rows);
	args[1] = BoolGetDatum(due_only);
	plan_execute(&due_plan, args, NULL, false, 0);
	ndues = SPI_processed;
	dues = MemoryContextAllocZero(cxt, sizeof(Due) * Max(ndues, 1));
	for (int i = 0; i < ndues; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		char	   *changed;

		dues[i].id = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		dues[i].target_id = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
		dues[i].user_id = *DatumGetUUIDP(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull));
		dues[i].is_delete = strcmp(SPI_getvalue(tuple, SPI_tuptable->tupdesc, 4), "delete") == 0;
		changed = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 5);
		dues[i].changed = changed ? MemoryContextStrdup(cxt, changed) : NULL;
		dues[i].spare = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 6, &isnull));
		dues[i].group = -1;
	}
	scope_leave(&scope);
	SPI_finish();

	for (int i = 0; i < ndues; i++)
	{
		pg_uuid_t  *ids;
		int		   *members;
		int			n = 0;
		SyncOutcome *outcomes;
		ArrayType  *overwrite = NULL;

		CHECK_FOR_INTERRUPTS();
		if (dues[i].group >= 0)
			continue;
		ids = palloc(sizeof(pg_uuid_t) * ndues);
		members = palloc(sizeof(int) * ndues);
		for (int j = i; j < ndues; j++)
		{
			if (dues[j].group >= 0 || dues[j].target_id != dues[i].target_id ||
				dues[j].is_delete != dues[i].is_delete ||
				(dues[j].changed == NULL) != (dues[i].changed == NULL) ||
				(dues[j].changed != NULL && strcmp(dues[j].changed, dues[i].changed) != 0))
				continue;
			dues[j].group = i;
			members[n] = j;
			ids[n++] = dues[j].user_id;
		}
		outcomes = palloc0(sizeof(SyncOutcome) * n);
		if (dues[i].changed != NULL)
			overwrite = DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, dues[i].changed,
																TEXTOID, -1));
		if (dues[i].is_delete)
			sync_remove_users(dues[i].target_id, ids, n, outcomes);
		else
			sync_fill_users(dues[i].target_id, ids, n, overwrite, false, outcomes);
		for (int k = 0; k < n; k++)
			dues[members[k]].outcome = outcomes[k];
	}

	/*
	 * What is done goes first: what has failed of the same user is an entry of
	 * its own then, and does not go with it.
	 */
	gone = palloc(sizeof(Datum) * Max(ndues, 1));
	for (int i = 0; i < ndues; i++)
	{
		if (dues[i].outcome.skipped)
			continue;
		retried++;
		if (dues[i].outcome.failure != NULL)
			failed++;
		else
			gone[resolved++] = Int64GetDatum(dues[i].id);
	}
	if (resolved > 0)
		execute_over_ids(&delete_entries_plan, gone, resolved);
	for (int i = 0; i < ndues; i++)
	{
		bool		noted = dues[i].outcome.skipped || dues[i].outcome.failure != NULL;

		for (int j = 0; j < i && !noted; j++)
			noted = dues[j].target_id == dues[i].target_id && !dues[j].outcome.skipped &&
				dues[j].outcome.failure == NULL;
		if (!noted)
			sync_note_run(dues[i].target_id);
	}
	for (int i = 0; i < ndues; i++)
		if (dues[i].outcome.failure != NULL && !dues[i].recorded)
			record_again(dues, ndues, i);

	if (ndues < max_rows)
		retry_triggers(max_rows - ndues, due_only, &retried, &resolved, &failed);
	retry_gone(max_rows, due_only, &retried, &resolved, &failed);
	if (!due_only)
		sync_forget_gone_addresses();

	values[0] = Int32GetDatum(retried);
	values[1] = Int32GetDatum(resolved);
	values[2] = Int32GetDatum(failed);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* ---------------------------------------------------------------------
 * Guarded triggers: the registry
 * ---------------------------------------------------------------------
 */

PG_FUNCTION_INFO_V1(quarantine_guard);
PG_FUNCTION_INFO_V1(quarantine_guard_trigger);
PG_FUNCTION_INFO_V1(quarantine_unguard_trigger);
PG_FUNCTION_INFO_V1(quarantine_close);
PG_FUNCTION_INFO_V1(quarantine_trigger_name);

typedef enum OnFailure
{
	FAIL_QUARANTINE,			/* no gate: record it and go on */
	FAIL_REFUSE,				/* a gate: keep the user out */
	FAIL_LET_IN					/* a gate: let the user in, and say so loudly */
} OnFailure;

typedef struct Guarded
{
	NameData	name;
	Oid			trigger;		/* as registered, true in same_database */
	Oid			function;		/* as registered, true in same_database */
	char	   *schema;
	char	   *function_name;
	OnFailure	on_failure;
	bool		gate;
	bool		same_database;
	int			nlet_through;
	int		   *let_through;	/* SQLSTATEs */
} Guarded;

/* As this backend knows it; nested firings may replace it under a caller. */
typedef struct GuardRegistry
{
	MemoryContext cxt;
	int			n;
	Guarded    *entries;
} GuardRegistry;

static GuardRegistry *guards = NULL;
static uint64 guards_valid_at = 0;
static uint64 guards_invalidations = 1;
static Oid	guards_relid = InvalidOid;

/* Only counts, like sync's. */
static void
guards_relcache_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == guards_relid)
		guards_invalidations++;
}

static SavedPlan guards_plan = {
	.sql = "SELECT g.trigger_name::pg_catalog.text, coalesce(g.function_id::pg_catalog.oid, 0::pg_catalog.oid), "
	"coalesce(g.function_schema::pg_catalog.text, ''), coalesce(g.function_name::pg_catalog.text, ''), "
	"coalesce(g.on_failure::pg_catalog.text, 'quarantine'), coalesce(g.gate::pg_catalog.bool, false), "
	"coalesce(g.let_through::pg_catalog.text[], '{}'), coalesce(g.registered_in::pg_catalog.text, ''), "
	"coalesce(g.trigger_id::pg_catalog.oid, 0::pg_catalog.oid) "
	"FROM invite_sync.guarded_trigger AS g ORDER BY g.trigger_name",
	.nargs = 0
};

static OnFailure
on_failure_from_text(const char *s)
{
	if (strcmp(s, "refuse") == 0)
		return FAIL_REFUSE;
	if (strcmp(s, "let_in") == 0)
		return FAIL_LET_IN;
	return FAIL_QUARANTINE;
}

static int
sqlstate_from_text(const char *s)
{
	return MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4]);
}

static void
read_guards(GuardRegistry *reg, Snapshot snapshot)
{
	Scope		scope;
	MemoryContext old;
	SPITupleTable *rows;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute_snapshot(&guards_plan, NULL, NULL, snapshot, true, 0);
	scope_leave(&scope);
	rows = SPI_tuptable;
	old = MemoryContextSwitchTo(reg->cxt);
	reg->n = SPI_processed;
	reg->entries = palloc0(sizeof(Guarded) * Max(reg->n, 1));
	for (int i = 0; i < reg->n; i++)
	{
		Guarded    *g = &reg->entries[i];
		HeapTuple	row = rows->vals[i];
		bool		isnull;
		Datum	   *elems;
		bool	   *nulls;
		int			n;
		char	   *registered;

		namestrcpy(&g->name, SPI_getvalue(row, rows->tupdesc, 1));
		g->function = DatumGetObjectId(SPI_getbinval(row, rows->tupdesc, 2, &isnull));
		g->schema = SPI_getvalue(row, rows->tupdesc, 3);
		g->function_name = SPI_getvalue(row, rows->tupdesc, 4);
		g->on_failure = on_failure_from_text(SPI_getvalue(row, rows->tupdesc, 5));
		g->gate = DatumGetBool(SPI_getbinval(row, rows->tupdesc, 6, &isnull));
		deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(row, rows->tupdesc, 7, &isnull)),
						  TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
		g->let_through = palloc(sizeof(int) * Max(n, 1));
		for (int k = 0; k < n; k++)
			g->let_through[g->nlet_through++] = sqlstate_from_text(TextDatumGetCString(elems[k]));
		registered = SPI_getvalue(row, rows->tupdesc, 8);
		g->same_database = strcmp(registered, caller_database_identity()) == 0;
		g->trigger = DatumGetObjectId(SPI_getbinval(row, rows->tupdesc, 9, &isnull));
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
}

static GuardRegistry *
get_guards(void)
{
	AcceptInvalidationMessages();
	for (int tries = 0; guards_valid_at != guards_invalidations; tries++)
	{
		uint64		seen = guards_invalidations;
		MemoryContext cxt;
		GuardRegistry *fresh;
		GuardRegistry *old;
		Snapshot	snapshot;

		/* what was read just now is not older than this call, whatever is being changed meanwhile */
		if (tries == READS_MAX)
			break;
		guards_relid = get_relname_relid("guarded_trigger", caller_extension_schema());
		cxt = AllocSetContextCreate(CurrentMemoryContext, "invite_sync guarded triggers",
									ALLOCSET_SMALL_SIZES);
		fresh = MemoryContextAllocZero(cxt, sizeof(GuardRegistry));
		fresh->cxt = cxt;
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		read_guards(fresh, snapshot);
		UnregisterSnapshot(snapshot);
		MemoryContextSetParent(cxt, TopMemoryContext);
		old = guards;
		guards = fresh;
		guards_valid_at = seen;
		if (old != NULL)
			plan_retire_context(old->cxt);
	}
	return guards;
}

/*
 * What the trigger of this number is called now. Numbers come again after a
 * while: one of another table's trigger does not count.
 */
static bool
name_of_trigger(Oid trigger, NameData *name)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	result = HeapTupleIsValid(tuple) &&
		((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid == caller_auth_users_relid(true);
	if (result)
		*name = ((Form_pg_trigger) GETSTRUCT(tuple))->tgname;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static bool
is_trigger(Oid trigger)
{
	NameData	name;

	return name_of_trigger(trigger, &name);
}

/*
 * guarded_trigger_name(trigger_name, trigger_id, registered_in): by the number
 * where that is true, as find_guard() does, else as registered.
 */
Datum
quarantine_trigger_name(PG_FUNCTION_ARGS)
{
	char	   *identity = fcinfo->flinfo->fn_extra;
	Name		result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (identity == NULL)
	{
		identity = MemoryContextStrdup(fcinfo->flinfo->fn_mcxt, caller_database_identity());
		fcinfo->flinfo->fn_extra = identity;
	}
	result = palloc(sizeof(NameData));
	*result = *PG_GETARG_NAME(0);
	if (!PG_ARGISNULL(1) && !PG_ARGISNULL(2) &&
		strcmp(text_to_cstring(PG_GETARG_TEXT_PP(2)), identity) == 0)
		(void) name_of_trigger(PG_GETARG_OID(1), result);
	PG_RETURN_NAME(result);
}

/* The registration of this name, whatever its trigger is called by now. */
static Guarded *
registered_as(GuardRegistry *reg, const char *name)
{
	for (int i = 0; i < reg->n; i++)
		if (strcmp(NameStr(reg->entries[i].name), name) == 0)
			return &reg->entries[i];
	return NULL;
}

/*
 * A trigger that was renamed is still the one that was guarded, and the one that
 * has its name by now is not.
 */
static Guarded *
find_guard(GuardRegistry *reg, const char *name, Oid trigger)
{
	Guarded    *g;

	for (int i = 0; i < reg->n; i++)
		if (reg->entries[i].same_database && reg->entries[i].trigger == trigger)
			return &reg->entries[i];
	g = registered_as(reg, name);
	return g != NULL && g->same_database && is_trigger(g->trigger) ? NULL : g;
}

/* The trigger function of this name, or InvalidOid. */
static Oid
find_trigger_function(const char *schema, const char *name)
{
	Oid			nsp = get_namespace_oid(schema, true);
	oidvector  *noargs = buildoidvector(NULL, 0);

	if (!OidIsValid(nsp))
		return InvalidOid;
	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
						   PointerGetDatum(noargs), ObjectIdGetDatum(nsp));
}

/* The functions that pg_depend knows for the trigger. */
static List *
depended_functions(Oid trigger)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(TriggerRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend dep = (Form_pg_depend) GETSTRUCT(tuple);

		if (dep->refclassid == ProcedureRelationId)
			result = lappend_oid(result, dep->refobjid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static bool
depends_on_function(Oid trigger, Oid function)
{
	return list_member_oid(depended_functions(trigger), function);
}

/*
 * The function that pg_depend knows for the trigger besides the guard: right in
 * a copy of the database too, but lost by a dump.
 */
static Oid
depended_function(Oid trigger)
{
	Oid			guard = find_trigger_function("invite_sync", "guard");
	Oid			result = InvalidOid;
	ListCell   *lc;

	/* its WHEN may name functions too; only a trigger function can be its own */
	foreach(lc, depended_functions(trigger))
		if (lfirst_oid(lc) != guard && get_func_rettype(lfirst_oid(lc)) == TRIGGEROID)
			result = lfirst_oid(lc);
	return result;
}

/* The number leads while it is true, then the dependency, then the name. */
static Oid
find_guarded_function(const Guarded *g, Oid trigger)
{
	Oid			function;

	if (g->same_database && SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(g->function)))
		return g->function;
	function = depended_function(trigger);
	if (!OidIsValid(function))
		function = find_trigger_function(g->schema, g->function_name);
	return function;
}

static Oid
guarded_function(const Guarded *g, Oid trigger)
{
	Oid			function = find_guarded_function(g, trigger);

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s() of the guarded trigger \"%s\" does not exist",
						quote_qualified_identifier(g->schema, g->function_name),
						NameStr(g->name))));
	return function;
}

/* ---------------------------------------------------------------------
 * Guarded triggers: running one
 * ---------------------------------------------------------------------
 */

typedef struct GuardCall
{
	FunctionCallInfo outer;
	Guarded		guard;			/* a copy: the registry may be replaced */
	bool		found;
	Datum		result;
} GuardCall;

static void
call_guarded(void *arg)
{
	GuardCall  *call = (GuardCall *) arg;
	TriggerData *trigdata = (TriggerData *) call->outer->context;
	const char *name = trigdata->tg_trigger->tgname;
	GuardRegistry *reg = get_guards();
	Guarded    *g = find_guard(reg, name, trigdata->tg_trigger->tgoid);
	FmgrInfo	flinfo;

	LOCAL_FCINFO(inner, 0);

	if (g == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("trigger \"%s\" is not registered as guarded", name)));
	call->guard = *g;
	/* asked for when the function has failed, and it may be what replaced the registry */
	call->guard.let_through = palloc(sizeof(int) * Max(g->nlet_through, 1));
	memcpy(call->guard.let_through, g->let_through, sizeof(int) * g->nlet_through);
	call->found = true;

	fmgr_info(guarded_function(g, trigdata->tg_trigger->tgoid), &flinfo);
	InitFunctionCallInfoData(*inner, &flinfo, 0, InvalidOid, call->outer->context, NULL);
	call->result = FunctionCallInvoke(inner);
	if (inner->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger function %u returned null value", flinfo.fn_oid)));
}

/* Every SQLSTATE that PostgreSQL defines, taken from its own header. */
static const int known_sqlstates[] = {
#include "errcodes_known.h"
};

/*
 * Did somebody mean to refuse? Told by where it was raised, since a message or
 * a SQLSTATE can be anything; and by a SQLSTATE that PostgreSQL does not have.
 */
static bool
is_refusal(const ErrorData *e, const Guarded *g)
{
	if (e->funcname != NULL &&
		(strcmp(e->funcname, "exec_stmt_raise") == 0 ||
		 strcmp(e->funcname, "exec_stmt_assert") == 0))
		return true;
	for (int i = 0; i < g->nlet_through; i++)
		if (g->let_through[i] == e->sqlerrcode)
			return true;
	for (size_t i = 0; i < lengthof(known_sqlstates); i++)
		if (known_sqlstates[i] == e->sqlerrcode)
			return false;
	return true;
}

static SavedPlan record_trigger_plan = {
	.sql = "INSERT INTO invite_sync.quarantine_entry AS q (trigger_name, user_id, action, sqlstate, message, detail, "
	"constraint_name, column_name, context, next_retry_at, replayable) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $10 THEN invite_sync.next_retry(1) END, $10) "
	"ON CONFLICT (trigger_name, user_id, action) WHERE trigger_name IS NOT NULL AND user_id IS NOT NULL DO UPDATE SET "
	"sqlstate = excluded.sqlstate, message = excluded.message, detail = excluded.detail, "
	"constraint_name = excluded.constraint_name, column_name = excluded.column_name, context = excluded.context, "
	"attempts = q.attempts OPERATOR(pg_catalog.+) 1, last_failed_at = excluded.last_failed_at, "
	"next_retry_at = CASE WHEN q.replayable THEN invite_sync.next_retry(q.attempts OPERATOR(pg_catalog.+) 1) END",
	.nargs = 10,
	.argtypes = {NAMEOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID}
};

typedef struct TriggerRecord
{
	const char *trigger;
	const pg_uuid_t *user_id;	/* NULL for a statement trigger */
	const char *action;
	const Failure *failure;
	bool		replayable;
	bool		gate_let_in;
} TriggerRecord;

/*
 * The entry of a failed deletion outlives its users, so it says nothing that could
 * quote one of them.
 */
static char *
trigger_failure_field(const TriggerRecord *r, int field)
{
	if (strcmp(r->action, "delete") != 0 && strcmp(r->action, "truncate") != 0)
		return failure_field(r->failure, field);
	switch (field)
	{
		case 1:
			return "not kept: it could quote a deleted user";
		case 2:
		case 5:
			return NULL;
		default:
			return failure_field(r->failure, field);
	}
}

static void
record_trigger(void *arg)
{
	TriggerRecord *r = (TriggerRecord *) arg;
	int			guc_level = NewGUCNestLevel();
	Datum		args[10];
	char		nulls[11] = "          ";
	Scope		scope;

	args[0] = plan_name(r->trigger);
	args[1] = r->user_id ? UUIDPGetDatum(r->user_id) : (Datum) 0;
	nulls[1] = r->user_id ? ' ' : 'n';
	args[2] = CStringGetTextDatum(r->action);
	for (int field = 0; field < 6; field++)
	{
		char	   *s = trigger_failure_field(r, field);

		args[3 + field] = s ? CStringGetTextDatum(s) : (Datum) 0;
		nulls[3 + field] = s ? ' ' : 'n';
	}
	args[9] = BoolGetDatum(r->replayable);

	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&record_trigger_plan, args, nulls, false, 0);
	scope_leave(&scope);
	SPI_finish();
	if (r->gate_let_in)
		(void) event_append("error", "quarantine.gate_let_in", NULL, NULL,
							r->user_id ? "user" : NULL,
							r->user_id ? DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(r->user_id))) : NULL,
							NULL);
	AtEOXact_GUC(false, guc_level);
}

/* The auth user a row trigger fired for. */
static bool
trigger_user(TriggerData *trigdata, pg_uuid_t *user_id)
{
	HeapTuple	tuple = trigdata->tg_trigtuple;
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	int			att = SPI_fnumber(desc, "id");
	bool		isnull;
	Datum		id;

	if (tuple == NULL || att <= 0 || TupleDescAttr(desc, att - 1)->atttypid != UUIDOID)
		return false;
	id = heap_getattr(tuple, att, desc, &isnull);
	if (isnull)
		return false;
	*user_id = *DatumGetUUIDP(id);
	return true;
}

static const char *
trigger_action(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return "insert";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "delete";
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "update";
	return "truncate";
}

/* May a failure be done again from the row alone? */
static bool
is_replayable(const Trigger *trigger)
{
	return TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_AFTER,
								TRIGGER_TYPE_INSERT) &&
		trigger->tgoldtable == NULL && trigger->tgnewtable == NULL;
}

/*
 * The guard: runs the trigger's own function in a subtransaction, as the same
 * user. It answers to registered triggers on auth.users only, or anybody could
 * run somebody else's function by putting it on a table of theirs.
 */
Datum
quarantine_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	GuardCall	call;
	Failure    *failure;
	pg_uuid_t	user_id;
	bool		has_user;
	TriggerRecord record;
	Failure    *record_failure;
	const char *name;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	if (RelationGetRelid(trigdata->tg_relation) != caller_auth_users_relid(true))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger functions of invite_sync belong on auth.users"),
				 errhint("Let invite_sync.guard_trigger() put it there.")));

	memset(&call, 0, sizeof(call));
	call.outer = fcinfo;
	if (sync_run_contained(call_guarded, &call, true, &failure))
		return call.result;

	if (call.found &&
		(is_refusal(failure->edata, &call.guard) || call.guard.on_failure == FAIL_REFUSE))
		ReThrowError(plan_lasting(failure->edata));

	has_user = TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) && trigger_user(trigdata, &user_id);
	memset(&record, 0, sizeof(record));
	/* by the name it is registered under, however often it is renamed meanwhile */
	record.trigger = call.found ? NameStr(call.guard.name) : trigdata->tg_trigger->tgname;
	record.user_id = has_user ? &user_id : NULL;
	record.action = trigger_action(trigdata->tg_event);
	record.failure = failure;
	record.replayable = has_user && TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		TRIGGER_FIRED_AFTER(trigdata->tg_event) && is_replayable(trigdata->tg_trigger);
	record.gate_let_in = call.found && call.guard.gate;
	if (!sync_run_contained(record_trigger, &record, true, &record_failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("a failed trigger cannot be recorded in quarantine"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(record_failure->sqlerrcode)),
				 errhidestmt(true), errhidecontext(true)));
	name = sync_name_for_client(trigdata->tg_trigger->tgname);
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("guarded trigger \"%s\" failed and is in quarantine", name),
			 has_user ?
			 errdetail("SQLSTATE %s; user %s.", unpack_sql_state(failure->sqlerrcode),
					   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&user_id)))) :
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhidestmt(true), errhidecontext(true)));

	/* as if the trigger were not there: the row goes on unchanged */
	if (TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) && TRIGGER_FIRED_BEFORE(trigdata->tg_event))
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ?
							   trigdata->tg_newtuple : trigdata->tg_trigtuple);
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------
 * Guarded triggers: can it refuse?
 * ---------------------------------------------------------------------
 */

typedef struct BodyScan
{
	StringInfoData lines;		/* what makes it a gate, for the error */
	int			found;
	List	   *seen;			/* functions looked at already */
	bool		before_row;
	bool		on_insert;
	bool		on_delete;
} BodyScan;

typedef enum TokenKind
{
	TOKEN_END,
	TOKEN_WORD,					/* identifier or key word, in lower case unless quoted */
	TOKEN_STRING,
	TOKEN_OTHER					/* one character */
} TokenKind;

typedef struct Token
{
	TokenKind	kind;
	char		text[NAMEDATALEN];
	int			line;
} Token;

typedef struct Lexer
{
	const char *p;
	int			line;
} Lexer;

bool
quarantine_is_word_char(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '$' || IS_HIGHBIT_SET(c);
}

const char *
quarantine_skip_blank(const char *p, int *line)
{
	for (;;)
	{
		if (*p == '\n')
			(*line)++;
		if (isspace((unsigned char) *p))
			p++;
		else if (p[0] == '-' && p[1] == '-')
		{
			while (*p && *p != '\n')
				p++;
		}
		else if (p[0] == '/' && p[1] == '*')
		{
			int			depth = 0;

			do
			{
				int			step = 1;

				if (p[0] == '/' && p[1] == '*')
				{
					depth++;
					step = 2;
				}
				else if (p[0] == '*' && p[1] == '/')
				{
					depth--;
					step = 2;
				}
				else if (*p == '\n')
					(*line)++;
				p += step;
			} while (depth > 0 && *p);
		}
		else
			return p;
	}
}

/* Enough of PL/pgSQL's lexical rules to tell code from comments and strings. */
static void
next_token(Lexer *lex, Token *tok)
{
	const char *p = quarantine_skip_blank(lex->p, &lex->line);

	tok->line = lex->line;
	tok->text[0] = '\0';
	if (*p == '\0')
		tok->kind = TOKEN_END;
	else if (*p == '\'' || ((*p == 'E' || *p == 'e') && p[1] == '\''))
	{
		bool		escapes = *p != '\'';

		p += escapes ? 2 : 1;
		while (*p && !(*p == '\'' && p[1] != '\''))
		{
			if (*p == '\n')
				lex->line++;
			p += (*p == '\'' || (escapes && *p == '\\' && p[1])) ? 2 : 1;
		}
		if (*p)
			p++;
		tok->kind = TOKEN_STRING;
	}
	else if (*p == '$' && !isdigit((unsigned char) p[1]))
	{
		const char *tag = p++;
		size_t		len;

		while (quarantine_is_word_char(*p) && *p != '$')
			p++;
		if (*p == '$')
		{
			p++;
			len = p - tag;
			while (*p && strncmp(p, tag, len) != 0)
			{
				if (*p == '\n')
					lex->line++;
				p++;
			}
			if (*p)
				p += len;
			tok->kind = TOKEN_STRING;
		}
		else
			tok->kind = TOKEN_OTHER;
	}
	else if (*p == '"')
	{
		int			n = 0;

		for (p++; *p && !(*p == '"' && p[1] != '"'); p++)
		{
			if (*p == '"')
				p++;
			if (n < NAMEDATALEN - 1)
				tok->text[n++] = *p;
		}
		tok->text[n] = '\0';
		if (*p)
			p++;
		tok->kind = TOKEN_WORD;
	}
	else if (quarantine_is_word_char(*p))
	{
		int			n = 0;

		for (; quarantine_is_word_char(*p); p++)
			if (n < NAMEDATALEN - 1)
				tok->text[n++] = pg_tolower((unsigned char) *p);
		tok->text[n] = '\0';
		tok->kind = TOKEN_WORD;
	}
	else
	{
		tok->text[0] = *p++;
		tok->text[1] = '\0';
		tok->kind = TOKEN_OTHER;
	}
	lex->p = p;
}

static bool
is_word(const Token *tok, const char *word)
{
	return tok->kind == TOKEN_WORD && strcmp(tok->text, word) == 0;
}

static void
found_line(BodyScan *scan, const char *function, int line, const char *what)
{
	if (scan->found++ >= 10)
		return;
	appendStringInfo(&scan->lines, "%s%s line %d: %s", scan->found > 1 ? "; " : "",
					 function, line, what);
}

static void scan_function(BodyScan *scan, Oid function, int depth);

/* Functions of this name that are not PostgreSQL's own. */
static void
scan_called(BodyScan *scan, const char *schema, const char *name, int depth)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);
		char	   *nsp = get_namespace_name(proc->pronamespace);

		if (nsp == NULL || strcmp(nsp, "pg_catalog") == 0 ||
			(schema != NULL && strcmp(schema, nsp) != 0))
			continue;
		scan_function(scan, proc->oid, depth + 1);
	}
	ReleaseCatCacheList(list);
}

static void
scan_body(BodyScan *scan, const char *function, const char *source, bool top, int depth)
{
	Lexer		lex = {source, 1};
	Token		previous[2];
	Token		tok;
	Token		next;

	memset(previous, 0, sizeof(previous));
	next_token(&lex, &tok);
	while (tok.kind != TOKEN_END)
	{
		next_token(&lex, &next);
		if (is_word(&tok, "raise") &&
			!is_word(&next, "debug") && !is_word(&next, "log") && !is_word(&next, "info") &&
			!is_word(&next, "notice") && !is_word(&next, "warning"))
			found_line(scan, function, tok.line, "RAISE");
		else if (is_word(&tok, "assert") && !is_word(&previous[1], "as") &&
				 !(previous[1].kind == TOKEN_OTHER && previous[1].text[0] == '.'))
			found_line(scan, function, tok.line, "ASSERT");
		else if (is_word(&tok, "execute"))
			found_line(scan, function, tok.line, "EXECUTE of text that cannot be read");
		else if (top && scan->before_row && is_word(&tok, "return"))
		{
			bool		new_row = is_word(&next, "new") && !scan->on_delete;
			bool		old_row = is_word(&next, "old") && !scan->on_insert;

			if (!new_row && !old_row)
				found_line(scan, function, tok.line, "RETURN of what may be NULL");
		}
		else if (tok.kind == TOKEN_WORD && next.kind == TOKEN_OTHER && next.text[0] == '(')
		{
			bool		qualified = previous[1].kind == TOKEN_OTHER && previous[1].text[0] == '.' &&
				previous[0].kind == TOKEN_WORD;

			scan_called(scan, qualified ? previous[0].text : NULL, tok.text, depth);
		}
		previous[0] = previous[1];
		previous[1] = tok;
		tok = next;
	}
}

/*
 * Look for what can refuse, in this function and in those it calls. Bodies in C
 * or another language cannot be read; for a function called by a trigger only
 * those of extensions are taken on trust.
 */
static void
scan_function(BodyScan *scan, Oid function, int depth)
{
	HeapTuple	tuple;
	Form_pg_proc proc;
	char	   *language;
	char	   *name;

	if (list_member_oid(scan->seen, function) || depth > 8)
		return;
	scan->seen = lappend_oid(scan->seen, function);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	language = get_language_name(proc->prolang, false);
	name = psprintf("%s()", quote_qualified_identifier(get_namespace_name(proc->pronamespace),
													   NameStr(proc->proname)));
	if (strcmp(language, "plpgsql") == 0 || strcmp(language, "sql") == 0)
	{
		bool		isnull;
		Datum		source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);

		if (!isnull)
			scan_body(scan, name, TextDatumGetCString(source), depth == 0, depth);
	}
	else if (depth == 0 || !OidIsValid(getExtensionOfObject(ProcedureRelationId, function)))
		found_line(scan, name, 0, psprintf("its body, in language %s, cannot be read", language));
	ReleaseSysCache(tuple);
}

/* ---------------------------------------------------------------------
 * Guarded triggers: putting a trigger under guard, and back
 * ---------------------------------------------------------------------
 */

static void
make_dependency(Oid trigger, Oid function)
{
	ObjectAddress depender;
	ObjectAddress referenced;

	if (depends_on_function(trigger, function))
		return;
	ObjectAddressSet(depender, TriggerRelationId, trigger);
	ObjectAddressSet(referenced, ProcedureRelationId, function);
	recordDependencyOn(&depender, &referenced, DEPENDENCY_NORMAL);
}

typedef struct TriggerRow
{
	Oid			oid;
	Oid			function;
	int16		type;
	bool		internal;
	bool		constraint;
	bool		transition;		/* has transition tables */
	char		enabled;
	NameData	name;
} TriggerRow;

/*
 * Read a trigger of auth.users; with function valid also give it that function.
 * Everything else about the trigger stays as it is in the catalog: timing,
 * events, columns, WHEN, arguments, transition tables, tgenabled, comment and
 * dependencies, which no rebuilt CREATE TRIGGER could promise.
 */
static bool
trigger_row(Relation auth, const char *name, Oid function, TriggerRow *row)
{
	Relation	rel = table_open(TriggerRelationId, OidIsValid(function) ? RowExclusiveLock : AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(auth)));
	ScanKeyInit(&key[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(name));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 2, key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		row->oid = form->oid;
		row->function = form->tgfoid;
		row->type = form->tgtype;
		row->internal = form->tgisinternal;
		row->constraint = OidIsValid(form->tgconstraint);
		row->transition = !heap_attisnull(tuple, Anum_pg_trigger_tgoldtable, NULL) ||
			!heap_attisnull(tuple, Anum_pg_trigger_tgnewtable, NULL);
		row->enabled = form->tgenabled;
		namestrcpy(&row->name, NameStr(form->tgname));
		if (OidIsValid(function))
		{
			HeapTuple	copy = heap_copytuple(tuple);

			((Form_pg_trigger) GETSTRUCT(copy))->tgfoid = function;
			CatalogTupleUpdate(rel, &copy->t_self, copy);
			CacheInvalidateRelcache(auth);
			InvokeObjectPostAlterHook(TriggerRelationId, row->oid, 0);
		}
	}
	systable_endscan(scan);
	table_close(rel, OidIsValid(function) ? RowExclusiveLock : AccessShareLock);
	return found;
}

/*
 * The trigger of a registration: by its number while that is true, or by name
 * where that is not another's by now.
 */
static bool
guarded_row(Relation auth, GuardRegistry *reg, const Guarded *g, TriggerRow *row)
{
	TriggerDesc *desc = auth->trigdesc;
	NameData	name = g->name;

	/* copied: the descriptor may be built again while the catalog is read */
	for (int i = 0; g->same_database && desc != NULL && i < desc->numtriggers; i++)
		if (desc->triggers[i].tgoid == g->trigger)
			namestrcpy(&name, desc->triggers[i].tgname);
	return trigger_row(auth, NameStr(name), InvalidOid, row) &&
		find_guard(reg, NameStr(name), row->oid) == g;
}

static SavedPlan guard_insert_plan = {
	.sql = "INSERT INTO invite_sync.guarded_trigger AS g (trigger_name, function_id, function_schema, function_name, on_failure, gate, let_through, guarded_by, registered_in, trigger_id) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (trigger_name) DO UPDATE SET function_id = excluded.function_id, "
	"function_schema = excluded.function_schema, function_name = excluded.function_name, on_failure = excluded.on_failure, "
	"gate = excluded.gate, let_through = excluded.let_through, guarded_by = excluded.guarded_by, registered_in = excluded.registered_in, trigger_id = excluded.trigger_id",
	.nargs = 10,
	.argtypes = {NAMEOID, OIDOID, NAMEOID, NAMEOID, TEXTOID, BOOLOID, TEXTARRAYOID, NAMEOID, TEXTOID, OIDOID}
};

static SavedPlan guard_delete_plan = {
	.sql = "WITH q AS (DELETE FROM invite_sync.quarantine_entry AS q WHERE q.trigger_name OPERATOR(pg_catalog.=) $1) "
	"DELETE FROM invite_sync.guarded_trigger AS g WHERE g.trigger_name OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.argtypes = {NAMEOID}
};

static Oid
guard_function(void)
{
	Oid			function = find_trigger_function("invite_sync", "guard");

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function invite_sync.guard() does not exist"),
				 errhint("ALTER EXTENSION invite_sync UPDATE;")));
	return function;
}

static const char *
on_failure_to_text(OnFailure f)
{
	return f == FAIL_REFUSE ? "refuse" : f == FAIL_LET_IN ? "let_in" : "quarantine";
}

/* SQLSTATEs as given: five upper-case letters and digits each. */
static ArrayType *
check_let_through(ArrayType *given)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	if (given == NULL)
		return construct_empty_array(TEXTOID);
	deconstruct_array(given, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *s = nulls[i] ? "" : TextDatumGetCString(elems[i]);

		if (strlen(s) != 5 || strspn(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("let_through holds something that is no SQLSTATE"),
					 errhint("A SQLSTATE is five digits or capital letters, for example 23514.")));
	}
	return given;
}

/*
 * Entries stand under the name that their trigger is registered under, and get
 * its new one with it. Where there is one for the same user and action already,
 * as of a trigger that ran the guard without being registered, it was recorded
 * since, so its failure is the later.
 */
static SavedPlan rename_entries_plan = {
	.sql = "WITH twice AS (UPDATE invite_sync.quarantine_entry AS k SET attempts = k.attempts OPERATOR(pg_catalog.+) q.attempts, "
	"first_failed_at = least(k.first_failed_at, q.first_failed_at) FROM invite_sync.quarantine_entry AS q "
	"WHERE q.trigger_name OPERATOR(pg_catalog.=) $1 AND k.trigger_name OPERATOR(pg_catalog.=) $2 "
	"AND k.user_id OPERATOR(pg_catalog.=) q.user_id AND k.action OPERATOR(pg_catalog.=) q.action RETURNING q.id), "
	"gone AS (DELETE FROM invite_sync.quarantine_entry AS q USING twice AS t WHERE q.id OPERATOR(pg_catalog.=) t.id) "
	"UPDATE invite_sync.quarantine_entry AS q SET trigger_name = $2 WHERE q.trigger_name OPERATOR(pg_catalog.=) $1 "
	"AND NOT EXISTS (SELECT 1 FROM twice AS t WHERE t.id OPERATOR(pg_catalog.=) q.id)",
	.nargs = 2,
	.argtypes = {NAMEOID, NAMEOID}
};

static SavedPlan rename_guard_plan = {
	.sql = "UPDATE invite_sync.guarded_trigger AS g SET trigger_name = $2 WHERE g.trigger_name OPERATOR(pg_catalog.=) $1",
	.nargs = 2,
	.argtypes = {NAMEOID, NAMEOID}
};

/* The number too: somebody else may have mended names meanwhile. */
static SavedPlan forget_gone_plan = {
	.sql = "WITH gone AS (DELETE FROM invite_sync.guarded_trigger AS g WHERE g.trigger_name OPERATOR(pg_catalog.=) $1 "
	"AND g.trigger_id OPERATOR(pg_catalog.=) $2 RETURNING g.trigger_name) "
	"DELETE FROM invite_sync.quarantine_entry AS q USING gone AS g WHERE q.trigger_name OPERATOR(pg_catalog.=) g.trigger_name",
	.nargs = 2,
	.argtypes = {NAMEOID, OIDOID}
};

typedef struct Rename
{
	NameData	from;
	NameData	to;
} Rename;

static bool
is_renamed(const Rename *renames, int n, const char *from)
{
	for (int i = 0; i < n; i++)
		if (strcmp(NameStr(renames[i].from), from) == 0)
			return true;
	return false;
}

static void
rename_guard(const Rename *rename)
{
	Scope		scope;
	Datum		args[2];

	args[0] = NameGetDatum(&rename->from);
	args[1] = NameGetDatum(&rename->to);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&rename_guard_plan, args, NULL, false, 0);
	plan_execute(&rename_entries_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/*
 * Write down new names of guarded triggers. A name that is still another's waits
 * until that has its own new one; where all wait for each other, as after a
 * swap, one stands aside under the name that no trigger can have.
 */
static bool
mend_names(Relation auth)
{
	GuardRegistry *reg;
	Rename	   *renames;
	int			n = 0;

	plan_hold();
	reg = get_guards();
	renames = palloc(sizeof(Rename) * Max(reg->n, 1));
	for (int i = 0; i < reg->n; i++)
	{
		Guarded    *g = &reg->entries[i];
		TriggerRow	row;

		if (!guarded_row(auth, reg, g, &row) || strcmp(NameStr(g->name), NameStr(row.name)) == 0)
			continue;
		renames[n].from = g->name;
		renames[n++].to = row.name;
	}
	if (n == 0)
	{
		plan_release();
		return false;
	}
	/* whoever has one of the new names and no trigger any more */
	for (int i = 0; i < n; i++)
	{
		Guarded    *gone = registered_as(reg, NameStr(renames[i].to));
		Scope		scope;
		Datum		args[2];

		if (gone == NULL || is_renamed(renames, n, NameStr(gone->name)))
			continue;
		args[0] = NameGetDatum(&gone->name);
		args[1] = ObjectIdGetDatum(gone->trigger);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&forget_gone_plan, args, NULL, false, 0);
		scope_leave(&scope);
		SPI_finish();
		(void) event_append("admin", "quarantine.trigger_unguarded", NULL, NULL, "trigger",
							NameStr(gone->name), NULL);
	}
	while (n > 0)
	{
		Rename		aside;
		int			next = 0;

		while (next < n && is_renamed(renames, n, NameStr(renames[next].to)))
			next++;
		if (next < n)
		{
			rename_guard(&renames[next]);
			renames[next] = renames[--n];
			continue;
		}
		memset(&aside, 0, sizeof(aside));
		aside.from = renames[0].from;
		rename_guard(&aside);
		renames[0].from = aside.to;
	}
	plan_release();
	CommandCounterIncrement();
	return true;
}

/* The name of a registration is as good as the one that its trigger has by now. */
static char *
name_by_now(Relation auth, char *name)
{
	GuardRegistry *reg;
	Guarded    *g;
	TriggerRow	row;

	if (trigger_row(auth, name, InvalidOid, &row))
		return name;
	reg = get_guards();
	g = registered_as(reg, name);
	return g != NULL && guarded_row(auth, reg, g, &row) ? pstrdup(NameStr(row.name)) : name;
}

static void
scan_trigger(BodyScan *scan, Oid function, int16 type)
{
	memset(scan, 0, sizeof(*scan));
	initStringInfo(&scan->lines);
	scan->before_row = (type & TRIGGER_TYPE_ROW) && (type & TRIGGER_TYPE_BEFORE);
	scan->on_insert = (type & TRIGGER_TYPE_INSERT) != 0;
	scan->on_delete = (type & TRIGGER_TYPE_DELETE) != 0;
	scan_function(scan, function, 0);
}

bool
quarantine_is_gate(Oid function, int16 trigger_type)
{
	BodyScan	scan;

	scan_trigger(&scan, function, trigger_type);
	return scan.found > 0;
}

/* guard_trigger(trigger_name, on_failure, let_through) */
Datum
quarantine_guard_trigger(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *given = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	ArrayType  *let_through;
	Relation	auth;
	TriggerRow	row;
	Oid			guard;
	Oid			function;
	HeapTuple	proc;
	NameData	proc_name;
	char	   *proc_schema;
	BodyScan	scan;
	OnFailure	on_failure;
	Guarded    *known;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};
	bool		replayable;
	bool		unchanged = false;
	Datum		args[10];
	Scope		scope;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "trigger_name", "Name a trigger on auth.users.");
	name = pstrdup(NameStr(*PG_GETARG_NAME(0)));
	let_through = check_let_through(PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2));
	if (given != NULL && strcmp(given, "refuse") != 0 && strcmp(given, "let_in") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_failure cannot be \"%s\"", given),
				 errhint("One of: refuse, let_in; leave it out for a trigger that refuses nobody.")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	sync_lock_auth_users("2000");
	auth = table_open(caller_auth_users_relid(false), NoLock);
	(void) mend_names(auth);
	guard = guard_function();
	if (!trigger_row(auth, name, InvalidOid, &row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("trigger \"%s\" on auth.users does not exist", name),
				 errhint("SELECT tgname FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal;")));
	if (row.internal || row.constraint)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("trigger \"%s\" is %s", name, row.internal ? "internal" : "a constraint trigger"),
				 errhint("A constraint refuses on purpose, and at COMMIT where nothing can be contained; make it an ordinary trigger first.")));

	plan_hold();
	known = find_guard(get_guards(), name, row.oid);
	if (row.function == guard)
	{
		if (known == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("trigger \"%s\" is guarded but not registered", name),
					 errhint("Create the trigger again with its own function, then guard it.")));
		function = guarded_function(known, row.oid);
	}
	else
		function = row.function;
	if (getExtensionOfObject(ProcedureRelationId, function) == get_extension_oid("invite_sync", false))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("trigger \"%s\" is one of invite_sync's own", name),
				 errhint("It contains its failures already.")));

	scan_trigger(&scan, function, row.type);
	if (scan.found > 0 && given == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" is a gate: it can refuse a user", name),
				 errdetail("%s.", scan.lines.data),
				 errhint("Say what a technical failure of it shall do: on_failure => 'refuse' keeps users out, 'let_in' lets them in and records it. What it refuses on purpose stays refused.")));
	on_failure = given == NULL ? FAIL_QUARANTINE : on_failure_from_text(given);

	proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", function);
	namestrcpy(&proc_name, NameStr(((Form_pg_proc) GETSTRUCT(proc))->proname));
	proc_schema = get_namespace_name(((Form_pg_proc) GETSTRUCT(proc))->pronamespace);
	ReleaseSysCache(proc);

	if (known != NULL && row.function == guard && known->on_failure == on_failure &&
		known->gate == (scan.found > 0) && known->same_database && known->function == function &&
		known->trigger == row.oid &&
		known->nlet_through == ArrayGetNItems(ARR_NDIM(let_through), ARR_DIMS(let_through)))
	{
		Datum	   *elems;
		bool	   *elem_nulls;
		int			n;

		unchanged = true;
		deconstruct_array(let_through, TEXTOID, -1, false, TYPALIGN_INT, &elems, &elem_nulls, &n);
		for (int i = 0; i < n; i++)
			if (known->let_through[i] != sqlstate_from_text(TextDatumGetCString(elems[i])))
				unchanged = false;
	}
	plan_release();

	if (unchanged)
		ereport(NOTICE, (errmsg("trigger \"%s\" is guarded already", name)));
	else
	{
		args[0] = plan_name(name);
		args[1] = ObjectIdGetDatum(function);
		args[2] = plan_name(proc_schema);
		args[3] = NameGetDatum(&proc_name);
		args[4] = CStringGetTextDatum(on_failure_to_text(on_failure));
		args[5] = BoolGetDatum(scan.found > 0);
		args[6] = PointerGetDatum(let_through);
		args[7] = plan_name(GetUserNameFromId(caller_role(), false));
		args[8] = CStringGetTextDatum(caller_database_identity());
		args[9] = ObjectIdGetDatum(row.oid);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&guard_insert_plan, args, NULL, false, 0);
		scope_leave(&scope);
		SPI_finish();
		if (row.function != guard)
			(void) trigger_row(auth, name, guard, &row);
		make_dependency(row.oid, guard);
		make_dependency(row.oid, function);
		CommandCounterIncrement();
		(void) event_append("admin", "quarantine.trigger_guarded", NULL, NULL, "trigger", name, NULL);
	}

	replayable = TRIGGER_TYPE_MATCHES(row.type, TRIGGER_TYPE_ROW, TRIGGER_TYPE_AFTER, TRIGGER_TYPE_INSERT) &&
		!row.transition;
	values[0] = plan_name(name);
	values[1] = CStringGetTextDatum(psprintf("%s()", quote_qualified_identifier(proc_schema, NameStr(proc_name))));
	values[2] = BoolGetDatum(scan.found > 0);
	values[3] = CStringGetTextDatum(on_failure_to_text(on_failure));
	values[4] = PointerGetDatum(let_through);
	values[5] = BoolGetDatum(replayable);
	table_close(auth, NoLock);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* unguard_trigger(trigger_name): the trigger as it was. */
Datum
quarantine_unguard_trigger(PG_FUNCTION_ARGS)
{
	char	   *name;
	Relation	auth;
	TriggerRow	row;
	Oid			guard;
	Oid			function;
	GuardRegistry *reg;
	Guarded    *known;
	bool		there;
	Scope		scope;
	Datum		args[1];

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "trigger_name", "Name a guarded trigger.");
	name = pstrdup(NameStr(*PG_GETARG_NAME(0)));

	sync_lock_auth_users("2000");
	auth = table_open(caller_auth_users_relid(false), NoLock);
	name = name_by_now(auth, name);
	guard = guard_function();
	plan_hold();
	memset(&row, 0, sizeof(row));
	there = trigger_row(auth, name, InvalidOid, &row);
	reg = get_guards();
	known = find_guard(reg, name, row.oid);
	if (known == NULL)
	{
		plan_release();
		table_close(auth, NoLock);
		ereport(NOTICE, (errmsg("trigger \"%s\" is not guarded", name)));
		PG_RETURN_BOOL(false);
	}
	/* gone, or made again without the guard: there is only our note to forget */
	if (there && row.function == guard)
	{
		function = guarded_function(known, row.oid);
		(void) trigger_row(auth, name, function, &row);
		make_dependency(row.oid, function);
		(void) deleteDependencyRecordsForSpecific(TriggerRelationId, row.oid, DEPENDENCY_NORMAL,
												  ProcedureRelationId, guard);
		CommandCounterIncrement();
	}
	/* names of other triggers are left as they are: a list of them may be worked off */
	args[0] = plan_name(NameStr(known->name));
	plan_release();
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&guard_delete_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	table_close(auth, NoLock);
	(void) event_append("admin", "quarantine.trigger_unguarded", NULL, NULL, "trigger", name, NULL);
	PG_RETURN_BOOL(true);
}

static SavedPlan close_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q WHERE q.id OPERATOR(pg_catalog.=) $1 RETURNING q.user_id",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* close_quarantine(entry_id): somebody has looked into it. */
Datum
quarantine_close(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Datum		args[1];
	bool		found;

	caller_require_service();
	args[0] = PG_GETARG_DATUM(0);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&close_plan, args, NULL, false, 0);
	found = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	if (found)
		(void) event_append("admin", "quarantine.closed", NULL, NULL, "quarantine_entry",
							psprintf(INT64_FORMAT, DatumGetInt64(args[0])), NULL);
	PG_RETURN_BOOL(found);
}

static SavedPlan mend_plan = {
	.sql = "UPDATE invite_sync.guarded_trigger AS g SET function_id = $2, registered_in = $3, "
	"function_schema = $4, function_name = $5, trigger_id = $6 WHERE g.trigger_name OPERATOR(pg_catalog.=) $1",
	.nargs = 6,
	.argtypes = {NAMEOID, OIDOID, TEXTOID, NAMEOID, NAMEOID, OIDOID}
};

/* What attach() mends: after a restore the trigger knows the guard only. */
bool
quarantine_mend_dependencies(Relation auth)
{
	bool		mended = mend_names(auth);
	GuardRegistry *reg;

	plan_hold();
	reg = get_guards();
	for (int i = 0; i < reg->n; i++)
	{
		Guarded    *g = &reg->entries[i];
		TriggerRow	row;
		Oid			function;

		if (!guarded_row(auth, reg, g, &row) || row.function != guard_function())
			continue;
		function = find_guarded_function(g, row.oid);
		if (!OidIsValid(function))
			continue;
		if (!depends_on_function(row.oid, function))
		{
			make_dependency(row.oid, function);
			mended = true;
		}
		if (!g->same_database || g->function != function ||
			find_trigger_function(g->schema, g->function_name) != function ||
			g->trigger != row.oid)
		{
			Scope		scope;
			Datum		args[6];

			args[0] = NameGetDatum(&g->name);
			args[1] = ObjectIdGetDatum(function);
			args[2] = CStringGetTextDatum(caller_database_identity());
			args[3] = plan_name(get_namespace_name(get_func_namespace(function)));
			args[4] = plan_name(get_func_name(function));
			args[5] = ObjectIdGetDatum(row.oid);
			SPI_connect();
			scope_enter_own(&scope);
			plan_execute(&mend_plan, args, NULL, false, 0);
			scope_leave(&scope);
			SPI_finish();
			mended = true;
		}
	}
	plan_release();
	return mended;
}

static SavedPlan let_in_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM invite_sync.quarantine_entry AS q WHERE q.trigger_name OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.argtypes = {NAMEOID}
};

/* verify()'s part: what has become of the guarded triggers. */
void
quarantine_verify(Relation auth, QuarantineFinding emit, void *arg)
{
	GuardRegistry *reg;
	TriggerDesc *triggers;

	plan_hold();
	reg = get_guards();
	for (int i = 0; i < reg->n; i++)
	{
		Guarded    *g = &reg->entries[i];
		char	   *name = NameStr(g->name);
		char	   *again = psprintf("SELECT * FROM invite_sync.guard_trigger(%s%s);",
									 quote_literal_cstr(name),
									 g->on_failure == FAIL_QUARANTINE ? "" :
									 psprintf(", on_failure => '%s'", on_failure_to_text(g->on_failure)));
		TriggerRow	row;
		bool		there = guarded_row(auth, reg, g, &row);
		Oid			function = there ? find_guarded_function(g, row.oid) : InvalidOid;

		if (!there)
			emit(arg, "warning", name, "the guarded trigger is gone from auth.users", NULL,
				 psprintf("SELECT invite_sync.unguard_trigger(%s);", quote_literal_cstr(name)));
		else if (row.function != guard_function())
			emit(arg, "error", name, "the trigger was made again without its guard",
				 "Its failures reach the auth server again.", again);
		else if (!OidIsValid(function))
			emit(arg, "error", name, "the function of the guarded trigger is gone",
				 psprintf("%s() cannot be found; every firing ends in quarantine.",
						  quote_qualified_identifier(g->schema, g->function_name)), NULL);
		else if (!depends_on_function(row.oid, function))
			emit(arg, "warning", name, "the guarded trigger's dependency on its function was lost",
				 "After a restore; until it is made again DROP FUNCTION is not refused.",
				 "SELECT invite_sync.attach();");
		else if (row.enabled == TRIGGER_DISABLED)
			emit(arg, "warning", name, "the guarded trigger is disabled", g->gate ?
				 "It is a gate, and refuses nobody." : "Its function does not run.",
				 psprintf("ALTER TABLE auth.users ENABLE TRIGGER %s; -- as the owner of auth.users",
						  quote_identifier(NameStr(row.name))));
		else if (strcmp(NameStr(row.name), name) != 0)
			emit(arg, "warning", name, "the guarded trigger has another name now",
				 psprintf("It is \"%s\"; the next dump would lose its guard.", NameStr(row.name)),
				 "SELECT invite_sync.attach();");
		else if (find_trigger_function(g->schema, g->function_name) != function)
			emit(arg, "warning", name, "the function of the guarded trigger has another name now",
				 "The next dump would lose it.",
				 "SELECT invite_sync.attach();");
	}
	triggers = CopyTriggerDesc(auth->trigdesc);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *t = &triggers->triggers[i];

		if (t->tgfoid == guard_function() && find_guard(reg, t->tgname, t->tgoid) == NULL)
			emit(arg, "error", t->tgname, "the trigger runs the guard but is not registered",
				 "Every firing ends in quarantine.",
				 "Create the trigger again with its own function, then invite_sync.guard_trigger().");
	}
	/* last: another version's quarantine, which cannot be read, hides nothing of the above */
	for (int i = 0; i < reg->n; i++)
	{
		Guarded    *g = &reg->entries[i];
		Scope		scope;
		Datum		args[1];
		bool		isnull;
		int64		n;

		if (!g->gate)
			continue;
		args[0] = NameGetDatum(&g->name);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&let_in_plan, args, NULL, true, 1);
		n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		scope_leave(&scope);
		SPI_finish();
		if (n > 0)
			emit(arg, "error", NameStr(g->name),
				 psprintf("the gate failed and let in what it had not looked at, " INT64_FORMAT " times", n),
				 "Look at the users in invite_sync.quarantine and close each entry.",
				 "SELECT invite_sync.close_quarantine(id) FROM invite_sync.quarantine WHERE id = ...;");
	}
	plan_release();
}

/* ---------------------------------------------------------------------
 * Guarded triggers: doing one again
 * ---------------------------------------------------------------------
 */

typedef struct Replay
{
	Relation	auth;
	TupleTableSlot *slot;
	const char *trigger;
} Replay;

/* The trigger that entries of this name are about, or NULL. */
static Trigger *
trigger_of_entries(Relation auth, const char *name)
{
	GuardRegistry *reg = get_guards();
	Guarded    *g = registered_as(reg, name);
	TriggerRow	row;
	TriggerDesc *desc;

	if (g != NULL && guarded_row(auth, reg, g, &row))
		name = NameStr(row.name);
	else if (g != NULL)
		return NULL;
	/* as the executor does: the relcache's own may be gone before the trigger has run */
	desc = CopyTriggerDesc(auth->trigdesc);
	for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
		if (strcmp(desc->triggers[i].tgname, name) == 0)
			return &desc->triggers[i];
	return NULL;
}

static void
replay_trigger(void *arg)
{
	Replay	   *r = (Replay *) arg;
	Trigger    *trigger = trigger_of_entries(r->auth, r->trigger);
	TriggerData trigdata;
	GuardCall	call;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;

	LOCAL_FCINFO(fcinfo, 0);

	if (trigger == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("trigger \"%s\" on auth.users does not exist", r->trigger)));
	if (trigger->tgenabled == TRIGGER_DISABLED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("trigger \"%s\" on auth.users is disabled", trigger->tgname)));

	memset(&trigdata, 0, sizeof(trigdata));
	trigdata.type = T_TriggerData;
	trigdata.tg_event = TRIGGER_EVENT_INSERT | TRIGGER_EVENT_ROW | TRIGGER_EVENT_AFTER;
	trigdata.tg_relation = r->auth;
	trigdata.tg_trigslot = r->slot;
	trigdata.tg_trigtuple = ExecFetchSlotHeapTuple(r->slot, true, NULL);
	trigdata.tg_trigger = trigger;

	memset(&call, 0, sizeof(call));
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, (Node *) &trigdata, NULL);
	call.outer = fcinfo;

	sync_bound_lock_wait();
	scope_enter_auth(&scope);
	/* where the auth server's own connections look for names */
	(void) set_config_option("search_path", "auth, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	call_guarded(&call);
	scope_leave(&scope);
	AtEOXact_GUC(false, guc_level);
}

static SavedPlan due_triggers_plan = {
	.sql = "SELECT q.id, q.trigger_name, q.user_id FROM invite_sync.quarantine_entry AS q "
	"WHERE q.replayable AND q.trigger_name IS NOT NULL AND q.user_id IS NOT NULL "
	"AND (NOT $2 OR q.next_retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) "
	"ORDER BY q.next_retry_at, q.id LIMIT $1 FOR UPDATE SKIP LOCKED",
	.nargs = 2,
	.argtypes = {INT8OID, BOOLOID}
};

/*
 * AFTER INSERT row triggers, from the row as it is now. Their WHEN held when
 * they fired; it is not asked again.
 */
static void
retry_triggers(int max_rows, bool due_only, int *retried, int *resolved, int *failed)
{
	Scope		scope;
	Datum		args[2];
	int			n;
	int64	   *ids;
	char	  **names;
	pg_uuid_t  *users;
	Relation	auth;
	TupleTableSlot *slot;
	MemoryContext cxt = CurrentMemoryContext;

	SPI_connect();
	scope_enter_own(&scope);
	args[0] = Int64GetDatum(max_rows);
	args[1] = BoolGetDatum(due_only);
	plan_execute(&due_triggers_plan, args, NULL, false, 0);
	n = SPI_processed;
	ids = MemoryContextAlloc(cxt, sizeof(int64) * Max(n, 1));
	names = MemoryContextAlloc(cxt, sizeof(char *) * Max(n, 1));
	users = MemoryContextAlloc(cxt, sizeof(pg_uuid_t) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		names[i] = MemoryContextStrdup(cxt, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
		users[i] = *DatumGetUUIDP(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
	if (n == 0)
		return;

	auth = table_open(caller_auth_users_relid(false), RowShareLock);
	slot = table_slot_create(auth, NULL);
	for (int i = 0; i < n; i++)
	{
		Replay		replay = {auth, slot, names[i]};
		Failure    *failure;
		SyncUserLock lock = sync_lock_user(auth, &users[i], slot);
		bool		done = lock == SYNC_USER_GONE;

		if (lock == SYNC_USER_BUSY)
			continue;
		(*retried)++;
		if (!done)
		{
			done = sync_run_contained(replay_trigger, &replay, true, &failure);
			if (!done)
			{
				TriggerRecord record = {names[i], &users[i], "insert", failure, true, false};
				Failure    *ignored;

				(*failed)++;
				(void) sync_run_contained(record_trigger, &record, true, &ignored);
			}
		}
		ExecClearTuple(slot);
		if (done)
		{
			(*resolved)++;
			args[0] = Int64GetDatum(ids[i]);
			SPI_connect();
			scope_enter_own(&scope);
			plan_execute(&close_plan, args, NULL, false, 0);
			scope_leave(&scope);
			SPI_finish();
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(auth, NoLock);
}

void
quarantine_init(void)
{
	CacheRegisterRelcacheCallback(guards_relcache_callback, (Datum) 0);
}
