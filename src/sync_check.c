/*-------------------------------------------------------------------------
 *
 * sync_check.c
 *	  Who is not in step with a target: questions that write nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

/*
 * All users of auth.users that are not soft-deleted (or, with deleted, all), by
 * id only. Read straight from the table: no statement, so nobody's rights and
 * no row security are asked; nothing but ids comes out.
 */
Tuplestorestate *
sync_read_all_ids(Relation auth, const Registry *reg, bool deleted, TupleDesc *desc, int64 *count)
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
	sync_prepare_target(q->target, q->lockmode);
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
void
sync_ask_counts(void *arg)
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
	rel = sync_locate_target(t, q->lockmode);
	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	register_ids(&enr, q->ids_desc, q->source, q->count);
	rc = SPI_execute(psprintf("SELECT pg_catalog.count(*), pg_catalog.count(t.%s), "
							  "pg_catalog.count(*) FILTER (WHERE t.%s IS NOT NULL AND i.id IS NULL) "
							  "FROM %s AS t LEFT JOIN %s AS i ON i.id = t.%s",
							  key, key, sync_relation_display(rel), IDS_NAME, key),
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
void
sync_ask_check(void *arg)
{
	Question   *q = (Question *) arg;
	EphemeralNamedRelationData enr;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	Identities	identities;
	Datum		values[1];
	int			rc;

	sync_bound_lock_wait();
	sync_prepare_target(q->target, q->lockmode);
	sync_load_identities(q->target, q->auth, q->source, q->read_only, &identities);
	SPI_connect();
	sync_register_identities(&identities);
	scope_enter_target(&scope, q->target->owner, q->target->search_path);
	sync_register_source(&enr, q->auth, q->source);
	if (q->target->check_plan == NULL)
		q->target->check_plan = sync_make_kept(q->target->check_sql, 1, RelationGetDescr(q->auth));
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
	sync_end_identities(&identities);
	AtEOXact_GUC(false, guc_level);
}

TupleDesc
sync_answer_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(2);

	TupleDescInitEntry(desc, 1, "id", UUIDOID, -1, 0);
	TupleDescInitEntry(desc, 2, "missing", BOOLOID, -1, 0);
	return desc;
}

ArrayType *
sync_text_array_from_literal(const char *literal)
{
	return DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, unconstify(char *, literal),
												   TEXTOID, -1));
}

LOCKMODE
sync_reading_lock(void)
{
	return AccessShareLock;
}

/*
 * Scan all users in chunks and ask the check statement about each chunk. For
 * what keys alone cannot tell: values that differ.
 */
bool
sync_check_all_users(Target *t, Relation auth, Registry *reg, ArrayType *overwrite, bool read_only,
					 Tuplestorestate *answers, Question *total, Failure **failure)
{
	TupleTableSlot *slot = table_slot_create(auth, NULL);
	TupleDesc	desc = sync_answer_desc();
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
		q.lockmode = sync_reading_lock();
		q.read_only = read_only;
		q.auth = auth;
		q.id_att = reg->id_att;
		q.overwrite = overwrite;
		q.source = store;
		q.answers = answers;
		q.ids_desc = desc;
		if (n > 0 || !more)
			ok = sync_ask_target(sync_ask_check, &q, t, true, failure);
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
bool
sync_find_candidates(Target *t, Relation auth, Registry *reg, ArrayType *overwrite,
					 Tuplestorestate *answers, int64 *ncandidates, Failure **failure)
{
	Question	q;
	TupleDesc	desc;
	bool		ok;

	memset(&q, 0, sizeof(q));
	if (overwrite != NULL)
	{
		ok = sync_check_all_users(t, auth, reg, overwrite, false, answers, &q, failure);
	}
	else
	{
		q.target = t;
		q.lockmode = sync_reading_lock();
		q.source = sync_read_all_ids(auth, reg, false, &desc, &q.count);
		q.ids_desc = desc;
		q.answers = answers;
		ok = sync_run_contained(ask_candidates, &q, true, failure);
		tuplestore_end(q.source);
	}
	*ncandidates = tuplestore_tuple_count(answers);
	return ok;
}
