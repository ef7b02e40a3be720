/*-------------------------------------------------------------------------
 *
 * sync_backfill.c
 *	  sync_users() and sync_all(): what is missing in a target is made, what is NULL
 *	  is filled.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

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
	Relation	auth = sync_open_auth_users(AccessShareLock);
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	Tuplestorestate *answers = tuplestore_begin_heap(true, false, work_mem);
	pg_uuid_t  *found = palloc(sizeof(pg_uuid_t) * Max(*nids, 1));
	Target	   *t;
	Question	q;
	bool		ok = true;

	plan_hold();
	sync_load_registry(auth);
	t = sync_find_target(sync_registry, target_id);
	memset(&q, 0, sizeof(q));
	if (t != NULL)
	{
		TupleTableSlot *slot;

		(void) sync_read_users(auth, ids, *nids, false, store, found);
		q.target = t;
		q.lockmode = sync_reading_lock();
		q.auth = auth;
		q.overwrite = overwrite;
		q.source = store;
		q.answers = answers;
		q.ids_desc = sync_answer_desc();
		ok = sync_ask_target(sync_ask_check, &q, t, true, failure);
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

static char *
target_name_by_id(int64 id)
{
	Target	   *t = sync_registry ? sync_find_target(sync_registry, id) : NULL;

	return t ? pstrdup(sync_target_display(t)) : psprintf("target " INT64_FORMAT, id);
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
		emit_sync_row(rsinfo, name, NULL, "would fail", sync_failure_detail(failure));
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
	sync_fill_batches(target_id, ids, nids, overwrite, false, wait, outcomes);
	sync_settle_outcomes(target_id, outcomes, nids, overwrite);
	for (int i = 0; i < nids; i++)
	{
		if (outcomes[i].skipped)
			skipped[nskipped++] = ids[i];
		else if (outcomes[i].failure != NULL)
		{
			emit_sync_row(rsinfo, name, &ids[i], "quarantined", sync_failure_detail(outcomes[i].failure));
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
	targets = sync_select_targets(relid, &ntargets);
	if (!one_user)
		wait_for_signups(auth_oid);

	for (int i = 0; i < ntargets; i++)
	{
		Relation	auth = sync_open_auth_users(AccessShareLock);
		Tuplestorestate *answers = tuplestore_begin_heap(true, false, work_mem);
		TupleTableSlot *slot = MakeSingleTupleTableSlot(sync_answer_desc(), &TTSOpsMinimalTuple);
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
		sync_load_registry(auth);
		t = sync_find_target(sync_registry, targets[i]);
		if (t != NULL && overwriting)
		{
			memset(&q, 0, sizeof(q));
			q.target = t;
			q.lockmode = sync_reading_lock();
			q.auth = auth;
			q.source = tuplestore_begin_heap(true, false, work_mem);
			q.ids_desc = sync_answer_desc();
			ok = sync_ask_target(sync_ask_check, &q, t, true, &failure);
			if (ok)
				overwrite = sync_text_array_from_literal(t->updatable_columns);
			tuplestore_end(q.source);
		}
		if (t != NULL && ok && !one_user)
			ok = sync_find_candidates(t, auth, sync_registry, overwrite, answers, &ncandidates, &failure);
		plan_release();
		PopActiveSnapshot();
		table_close(auth, NoLock);

		if (t == NULL)
			continue;
		if (!ok && !one_user)
		{
			emit_sync_row(rsinfo, target_name_by_id(targets[i]), NULL, "failed", sync_failure_detail(failure));
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
	targets = sync_select_targets(relid, &ntargets);
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
		slot = MakeSingleTupleTableSlot(sync_answer_desc(), &TTSOpsMinimalTuple);

		auth = sync_open_auth_users(AccessShareLock);
		PushActiveSnapshot(GetTransactionSnapshot());
		plan_hold();
		sync_load_registry(auth);
		t = sync_find_target(sync_registry, targets[i]);
		ok = t != NULL && sync_find_candidates(t, auth, sync_registry, NULL, answers, &total, &failure);
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
				sync_fill_batches(targets[i], list, nlist, NULL, part == 0, false, outcomes);
				failed += sync_settle_outcomes(targets[i], outcomes, nlist, NULL);
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
			sync_fill_batches(targets[i], skipped + k, nlist, NULL, false, true, outcomes);
			failed += sync_settle_outcomes(targets[i], outcomes, nlist, NULL);
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
