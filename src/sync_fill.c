/*-------------------------------------------------------------------------
 *
 * sync_fill.c
 *	  Users brought into a target, or taken out of it, by a road that is no trigger.
 *
 * Such a road locks the users and reads their rows anew, since all it was given is
 * ids.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "quarantine.h"
#include "sync_internal.h"

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

int
sync_read_users(Relation auth, const pg_uuid_t *ids, int nids, bool read_only,
				Tuplestorestate *store, pg_uuid_t *found)
{
	return read_rows(&exists_plan, auth, ids, nids, read_only, store, found);
}

/* One row, soft-deleted or not, as this transaction has left it. */
bool
sync_read_one_row(Relation auth, const pg_uuid_t *id, TupleTableSlot *slot)
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
	Relation	auth = sync_open_auth_users(RowShareLock);
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	pg_uuid_t  *found = palloc(sizeof(pg_uuid_t) * nids);
	Registry   *reg;
	Target	   *t;
	int			nfound;

	plan_hold();
	sync_load_registry(auth);
	reg = sync_registry;
	t = sync_find_target(reg, target_id);

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
		sync_apply_work(&work);
		sync_note_failed_addresses(&work);
		sync_need_ids(&work);

		/* lock_users returns them in the order of id */
		for (int i = 0; i < nids; i++)
		{
			pg_uuid_t  *hit = bsearch(&ids[i], found, nfound, sizeof(pg_uuid_t), plan_compare_uuids);

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

			npresent = sync_read_users(auth, ids, nids, false, ignored, present);
			tuplestore_end(ignored);
			qsort(present, npresent, sizeof(pg_uuid_t), plan_compare_uuids);
			for (int i = 0; i < nids; i++)
			{
				if (outcomes[i].skipped &&
					bsearch(&ids[i], present, npresent, sizeof(pg_uuid_t), plan_compare_uuids) == NULL)
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

void
sync_fill_batches(int64 target_id, const pg_uuid_t *ids, int nids, ArrayType *overwrite,
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
	sync_fill_batches(target_id, user_ids, nids, overwrite, false, wait, outcomes);
}

/* Which of these users are there? Sets outcomes[].exists; returns how many. */
static int
find_present(Relation auth, const pg_uuid_t *user_ids, int nids, SyncOutcome *outcomes)
{
	Tuplestorestate *ignored = tuplestore_begin_heap(false, false, work_mem);
	pg_uuid_t  *present = palloc(sizeof(pg_uuid_t) * nids);
	int			npresent = sync_read_users(auth, user_ids, nids, false, ignored, present);

	tuplestore_end(ignored);
	qsort(present, npresent, sizeof(pg_uuid_t), plan_compare_uuids);
	for (int i = 0; i < nids; i++)
		outcomes[i].exists = bsearch(&user_ids[i], present, npresent,
									 sizeof(pg_uuid_t), plan_compare_uuids) != NULL;
	pfree(present);
	return npresent;
}

void
sync_remove_users(int64 target_id, const pg_uuid_t *user_ids, int nids, SyncOutcome *outcomes)
{
	Relation	auth = sync_open_auth_users(AccessShareLock);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * nids);
	int		   *index = palloc(sizeof(int) * nids);
	SyncOutcome *back;
	int			n = 0;
	Target	   *t;

	plan_hold();
	sync_load_registry(auth);
	t = sync_find_target(sync_registry, target_id);
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
		sync_apply_work(&work);
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
int64
sync_settle_outcomes(int64 target_id, const SyncOutcome *outcomes, int n, ArrayType *overwrite)
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
