/*-------------------------------------------------------------------------
 *
 * quarantine.c
 *	  The record of what failed, kept until it succeeds.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "caller.h"
#include "plan.h"
#include "quarantine.h"
#include "sync.h"

#define CONTEXT_BYTES	1024

PG_FUNCTION_INFO_V1(quarantine_retry);

/*
 * Distinct failures travel once: a batch of 100,000 users that fails for one
 * missing table must not carry 100,000 copies of its message.
 */
static SavedPlan record_plan = {
	.sql = "INSERT INTO invite_sync.quarantine_entry AS q (target_id, user_id, action, sqlstate, message, detail, "
	"constraint_name, column_name, context, changed_columns, next_retry_at) "
	"SELECT $1, i.user_id, $2, f.sqlstate, f.message, f.detail, f.constraint_name, f.column_name, f.context, "
	"i.changed::pg_catalog.text[], invite_sync.next_retry(1) "
	"FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5)) "
	"AS i (user_id, changed, failure) "
	"JOIN ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), "
	"pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11)) WITH ORDINALITY "
	"AS f (sqlstate, message, detail, constraint_name, column_name, context, failure) "
	"ON f.failure OPERATOR(pg_catalog.=) i.failure::pg_catalog.int8 "
	"ON CONFLICT (target_id, user_id) WHERE target_id IS NOT NULL DO UPDATE SET "
	"action = CASE WHEN excluded.action OPERATOR(pg_catalog.=) 'update' "
	"AND q.action OPERATOR(pg_catalog.=) 'insert' THEN q.action ELSE excluded.action END, "
	"sqlstate = excluded.sqlstate, message = excluded.message, detail = excluded.detail, "
	"constraint_name = excluded.constraint_name, column_name = excluded.column_name, context = excluded.context, "
	"changed_columns = (SELECT pg_catalog.array_agg(DISTINCT c.name) FROM "
	"pg_catalog.unnest(pg_catalog.array_cat(q.changed_columns, excluded.changed_columns)) AS c (name)), "
	"attempts = q.attempts OPERATOR(pg_catalog.+) 1, last_failed_at = excluded.last_failed_at, "
	"next_retry_at = invite_sync.next_retry(q.attempts OPERATOR(pg_catalog.+) 1)",
	.nargs = 11,
	.argtypes = {INT8OID, TEXTOID, UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}
};

static SavedPlan resolve_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q "
	"WHERE q.target_id OPERATOR(pg_catalog.=) $1 AND q.user_id OPERATOR(pg_catalog.=) ANY ($2)",
	.nargs = 2,
	.argtypes = {INT8OID, UUIDARRAYOID}
};

static SavedPlan forget_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q WHERE q.user_id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

typedef struct QuarantineCall
{
	int64		target_id;
	const char *action;
	const QuarantineItem *items;
	int64		nitems;
	const pg_uuid_t *ids;
	int64		nids;
} QuarantineCall;

static Datum
make_array(Datum *values, bool *nulls, int64 n, Oid type)
{
	int			dims[1];
	int			lbs[1] = {1};
	int16		typlen;
	bool		typbyval;
	char		typalign;

	dims[0] = n;
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lbs, type,
											  typlen, typbyval, typalign));
}

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
			if (e->context == NULL)
				return NULL;
			return pnstrdup(e->context, pg_mbcliplen(e->context, strlen(e->context), CONTEXT_BYTES));
		default:
			return NULL;
	}
}

static void
record_items(void *arg)
{
	QuarantineCall *call = (QuarantineCall *) arg;
	int			guc_level = NewGUCNestLevel();
	int64		n = call->nitems;
	Datum		args[11];
	Datum	   *ids = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
	Datum	   *changed = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
	bool	   *no_changed = palloc_extended(sizeof(bool) * n, MCXT_ALLOC_HUGE);
	Datum	   *which = palloc_extended(sizeof(Datum) * n, MCXT_ALLOC_HUGE);
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
	}

	args[0] = Int64GetDatum(call->target_id);
	args[1] = CStringGetTextDatum(call->action);
	args[2] = make_array(ids, NULL, n, UUIDOID);
	args[3] = make_array(changed, no_changed, n, TEXTOID);
	args[4] = make_array(which, NULL, n, INT4OID);
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
		args[5 + field] = make_array(values, nulls, ndistinct, TEXTOID);
	}

	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
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
	Datum		args[2];
	Scope		scope;

	for (int64 i = 0; i < call->nids; i++)
		ids[i] = UUIDPGetDatum(&call->ids[i]);

	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	if (call->target_id != 0)
	{
		args[0] = Int64GetDatum(call->target_id);
		args[1] = make_array(ids, NULL, call->nids, UUIDOID);
		plan_execute(&resolve_plan, args, NULL, false, 0);
	}
	else
	{
		args[0] = make_array(ids, NULL, call->nids, UUIDOID);
		plan_execute(&forget_plan, args, NULL, false, 0);
	}
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Run in scratch memory and in a subtransaction; a failure only warns. */
static void
run_quarantine_call(ContainedFn fn, QuarantineCall *call, const char *message)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "invite_sync quarantine",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	Failure    *failure;

	if (!sync_run_contained(fn, call, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg_internal("%s", message),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("invite_sync.sync_status() still counts what is missing."),
				 errhidestmt(true), errhidecontext(true)));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

void
quarantine_record(int64 target_id, const char *action, const QuarantineItem *items, int64 nitems)
{
	QuarantineCall call = {.target_id = target_id,.action = action,.items = items,.nitems = nitems};

	if (nitems > 0)
		run_quarantine_call(record_items, &call, "failed syncs cannot be recorded in quarantine");
}

void
quarantine_resolve(int64 target_id, const pg_uuid_t *user_ids, int64 nids)
{
	QuarantineCall call = {.target_id = target_id,.ids = user_ids,.nids = nids};

	if (nids > 0)
		run_quarantine_call(resolve_ids, &call, "resolved entries cannot be taken out of quarantine");
}

void
quarantine_forget_users(const pg_uuid_t *user_ids, int64 nids)
{
	QuarantineCall call = {.target_id = 0,.ids = user_ids,.nids = nids};

	if (nids > 0)
		run_quarantine_call(resolve_ids, &call, "entries of deleted users cannot be taken out of quarantine");
}

/* ---------------------------------------------------------------------
 * Retry
 * ---------------------------------------------------------------------
 */

static SavedPlan due_plan = {
	.sql = "SELECT q.id, q.target_id, q.user_id, q.action, q.changed_columns "
	"FROM invite_sync.quarantine_entry AS q "
	"WHERE q.replayable AND q.target_id IS NOT NULL "
	"AND (NOT $2 OR q.next_retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) "
	"ORDER BY q.next_retry_at, q.id LIMIT $1",
	.nargs = 2,
	.argtypes = {INT8OID, BOOLOID}
};

static SavedPlan claim_plan = {
	.sql = "SELECT q.id FROM invite_sync.quarantine_entry AS q "
	"WHERE q.id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY q.id FOR UPDATE SKIP LOCKED",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

typedef struct Due
{
	int64		id;
	int64		target_id;
	pg_uuid_t	user_id;
	bool		is_delete;
	char	   *changed;		/* array literal, or NULL */
	bool		claimed;
	bool		done;
} Due;

static SavedPlan delete_entries_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q WHERE q.id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Datum
due_ids(Due *dues, int n, bool claimed_only)
{
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));
	int			k = 0;

	for (int i = 0; i < n; i++)
		if (!claimed_only || dues[i].claimed)
			ids[k++] = Int64GetDatum(dues[i].id);
	return make_array(ids, NULL, k, INT8OID);
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
	Scope		scope;
	Datum		args[2];
	MemoryContext cxt = CurrentMemoryContext;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	caller_require_service();
	if (max_rows < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be at least 1"),
				 errhint("Leave it out to retry up to 1000 entries.")));
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
	}
	/* two retries at once share the work */
	args[0] = due_ids(dues, ndues, false);
	plan_execute(&claim_plan, args, NULL, false, 0);
	for (uint64 r = 0; r < SPI_processed; r++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[r],
													 SPI_tuptable->tupdesc, 1, &isnull));

		for (int i = 0; i < ndues; i++)
			if (dues[i].id == id)
				dues[i].claimed = true;
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
		QuarantineItem *items;
		int			nitems = 0;
		Datum	   *gone;
		int			ngone = 0;

		if (!dues[i].claimed || dues[i].done)
			continue;
		ids = palloc(sizeof(pg_uuid_t) * ndues);
		members = palloc(sizeof(int) * ndues);
		for (int j = i; j < ndues; j++)
		{
			if (!dues[j].claimed || dues[j].done || dues[j].target_id != dues[i].target_id ||
				dues[j].is_delete != dues[i].is_delete ||
				(dues[j].changed == NULL) != (dues[i].changed == NULL) ||
				(dues[j].changed != NULL && strcmp(dues[j].changed, dues[i].changed) != 0))
				continue;
			dues[j].done = true;
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

		items = palloc0(sizeof(QuarantineItem) * n);
		gone = palloc(sizeof(Datum) * n);
		for (int k = 0; k < n; k++)
		{
			if (outcomes[k].skipped)
				continue;
			retried++;
			if (outcomes[k].failure != NULL)
			{
				failed++;
				items[nitems].user_id = outcomes[k].user_id;
				items[nitems].failure = outcomes[k].failure;
				items[nitems].changed = dues[i].changed;
				nitems++;
			}
			else
			{
				resolved++;
				gone[ngone++] = Int64GetDatum(dues[members[k]].id);
			}
		}
		quarantine_record(dues[i].target_id, dues[i].is_delete ? "delete" : "update",
						  items, nitems);
		if (ngone > 0)
		{
			SPI_connect();
			scope_enter_own(&scope);
			args[0] = make_array(gone, NULL, ngone, INT8OID);
			plan_execute(&delete_entries_plan, args, NULL, false, 0);
			scope_leave(&scope);
			SPI_finish();
			sync_note_run(dues[i].target_id);
		}
	}

	values[0] = Int32GetDatum(retried);
	values[1] = Int32GetDatum(resolved);
	values[2] = Int32GetDatum(failed);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
