/*-------------------------------------------------------------------------
 *
 * sync_batch.c
 *	  One batch of users into one target.
 *
 * The kept statements run in a subtransaction, as the target's owner, with bounded
 * lock waits. Where they fail the rows to blame are searched for, all others are
 * written, and the failures go to quarantine. The triggers, backfill and retries
 * all come through here.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "quarantine.h"
#include "sync_internal.h"

/* Targets that write to auth.users again lead back here; stop before the stack does. */
#define MAX_SYNC_NESTING	8

/* A search for bad rows gives up after so many tries, or so long. */
#define MAX_TRIES		1000
#define SEARCH_MS		2000
#define FIRST_CHUNK		256
#define MAX_CHUNK		2048

/* ---------------------------------------------------------------------
 * The statements, for one batch
 * ---------------------------------------------------------------------
 */

/* Run one kept statement over a tuplestore, in the target's scope. */
static void
run_kept(Work *work, SPIPlanPtr *plan, const char *sql, Tuplestorestate *store,
		 bool takes_overwrite, bool read_only)
{
	EphemeralNamedRelationData enr;
	Datum		values[1];
	char		nulls[1] = {' '};
	int			rc;

	sync_register_source(&enr, work->auth, store);
	if (*plan == NULL)
		*plan = sync_make_kept(sql, takes_overwrite ? 1 : 0, RelationGetDescr(work->auth));
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
void
sync_set_deferred(const Target *t, bool deferred, bool removing)
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

static const Oid remove_argtypes[] = {UUIDARRAYOID};

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
	Relation	rel = sync_locate_target(t, RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(rel);
	const char *key = quote_identifier(t->key);
	char	   *display = sync_relation_display(rel);
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
		sync_find_deferred_constraints(t);
	relation_close(rel, NoLock);

	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	sync_set_deferred(t, false, true);
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
	sync_set_deferred(t, true, true);
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
	sync_prepare_target(t, RowExclusiveLock);
	if (t->claim_sql != NULL)
		sync_claim_rows(work);
	sync_load_identities(t, work->auth, work->single, false, &identities);
	SPI_connect();
	sync_register_identities(&identities);
	/* one level for all settings: closing one walks through all there are */
	scope_enter_target_at(&scope, t->owner, t->search_path, guc_level);
	if (!work->leave_deferred)
	{
		work->stage = -1;
		sync_set_deferred(t, false, false);
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
		sync_set_deferred(t, true, false);
	scope_leave(&scope);
	SPI_finish();
	sync_end_identities(&identities);
	sync_nesting--;
}

/* ---------------------------------------------------------------------
 * Which rows are to blame
 * ---------------------------------------------------------------------
 */

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

/* The ids of a batch, read from its rows when first needed. */
void
sync_need_ids(Work *work)
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
void
sync_apply_work(Work *work)
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
		ReThrowError(plan_lasting(failure->edata));

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
	if (!work->rebuilt && sync_names_something(failure->sqlerrcode))
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
		ReThrowError(plan_lasting(failure->edata));

	sync_need_ids(work);
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
	name = sync_name_for_client(sync_target_display(work->target));
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

void
sync_quarantine_failures(Work *work, const char *action, const Registry *reg)
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

			(void) sync_attributes_differ(old, new, work->target->watch, &which);
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
ArrayType *
sync_applied_columns(const Target *t, TupleDesc desc, const Bitmapset *changed)
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
void
sync_resolve_successes(Work *work, ArrayType *applied)
{
	pg_uuid_t  *ids;
	int64		n = 0;

	sync_need_ids(work);
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
