/*-------------------------------------------------------------------------
 *
 * sync_status.c
 *	  sync_status() and preservation_report(): how a target and auth.users compare.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

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
	auth = sync_open_auth_users(AccessShareLock);
	plan_hold();
	sync_load_registry_for_caller(sync_load_registry, NULL);
	sync_load_registry(auth);
	reg = sync_registry;
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
		all = sync_read_all_ids(auth, reg, t->on_delete != ON_DELETE_DELETE, &desc, &counts.count);
		counts.target = t;
		counts.lockmode = sync_reading_lock();
		counts.read_only = true;
		counts.source = all;
		counts.ids_desc = desc;
		counted = sync_run_contained(sync_ask_counts, &counts, true, &failure);
		tuplestore_end(all);

		/* the statements, and with them the columns, are there once this ran */
		none = tuplestore_begin_heap(true, false, work_mem);
		check.target = t;
		check.lockmode = sync_reading_lock();
		check.read_only = true;
		check.auth = auth;
		check.source = none;
		check.ids_desc = sync_answer_desc();
		checked = sync_ask_target(sync_ask_check, &check, t, true, &failure);
		tuplestore_end(none);
		if (checked)
			checked = sync_check_all_users(t, auth, reg, sync_text_array_from_literal(t->always_columns),
										   true, NULL, &total, &failure);
		if (checked)
			users = total.count;
		else
		{
			none = sync_read_all_ids(auth, reg, false, &desc, &users);
			tuplestore_end(none);
			/* the columns are wrong, yet the keys can be told */
			total.missing = counted ? Max(users - (counts.keyed - counts.orphaned), 0) : users;
		}

		values[0] = CStringGetTextDatum(sync_target_display(t));
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
						 errdetail("%s", sync_failure_detail(failure)),
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
	sync_prepare_target(q->target, q->lockmode);
	if (q->target->report_sql != NULL)
	{
		sync_load_identities(q->target, q->auth, q->source, true, &identities);
		SPI_connect();
		sync_register_identities(&identities);
		scope_enter_target(&scope, q->target->owner, q->target->search_path);
		sync_register_source(&enr, q->auth, q->source);
		rc = SPI_execute(q->target->report_sql, true, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			Datum		values[6];
			bool		nulls[6] = {false};

			values[0] = CStringGetTextDatum(sync_target_display(q->target));
			for (int c = 1; c <= 5; c++)
				values[c] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c, &nulls[c]);
			tuplestore_putvalues(r->rsinfo->setResult, r->rsinfo->setDesc, values, nulls);
		}
		scope_leave(&scope);
		SPI_finish();
		sync_end_identities(&identities);
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
		qsort(wanted, nwanted, sizeof(pg_uuid_t), plan_compare_uuids);
	}

	auth = sync_open_auth_users(AccessShareLock);
	plan_hold();
	sync_load_registry(auth);
	reg = sync_registry;
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
				bsearch(DatumGetUUIDP(id), wanted, nwanted, sizeof(pg_uuid_t), plan_compare_uuids) == NULL)
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
			r.q.lockmode = sync_reading_lock();
			r.q.auth = auth;
			r.q.source = store;
			r.rsinfo = rsinfo;
			if (!sync_ask_target(ask_report, &r, r.q.target, true, &failure))
				ereport(WARNING,
						(errcode(ERRCODE_WARNING),
						 errmsg("target %s cannot be read", sync_target_display(r.q.target)),
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
