/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  Saved SPI plans.
 *
 * SPI revalidates a saved plan by itself; one that is no longer valid is all the
 * same prepared again from its text, so that what was planned for tables of
 * another version of the extension is gone for good. Nothing is freed while a
 * plan of ours runs: a trigger on an application's table may lead back into us,
 * and what the outer call holds must still be there when the inner one returns.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "caller.h"
#include "plan.h"

static int	hold_depth = 0;
static List *retired_plans = NIL;
static List *retired_contexts = NIL;

static void
free_retired(void)
{
	ListCell   *lc;
	List	   *plans = retired_plans;
	List	   *contexts = retired_contexts;

	retired_plans = NIL;
	retired_contexts = NIL;
	foreach(lc, plans)
		SPI_freeplan((SPIPlanPtr) lfirst(lc));
	foreach(lc, contexts)
		MemoryContextDelete((MemoryContext) lfirst(lc));
	list_free(plans);
	list_free(contexts);
}

int
plan_hold(void)
{
	return hold_depth++;
}

void
plan_release(void)
{
	if (hold_depth > 0 && --hold_depth == 0 &&
		(retired_plans != NIL || retired_contexts != NIL))
		free_retired();
}

void
plan_restore(int depth)
{
	hold_depth = depth;
}

void
plan_retire(SPIPlanPtr plan)
{
	MemoryContext old;

	if (plan == NULL)
		return;
	if (hold_depth == 0)
	{
		SPI_freeplan(plan);
		return;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	retired_plans = lappend(retired_plans, plan);
	MemoryContextSwitchTo(old);
}

void
plan_retire_context(MemoryContext context)
{
	MemoryContext old;

	if (context == NULL)
		return;
	if (hold_depth == 0)
	{
		MemoryContextDelete(context);
		return;
	}
	/* or the deletion of its parent would take it along first */
	MemoryContextSetParent(context, TopMemoryContext);
	old = MemoryContextSwitchTo(TopMemoryContext);
	retired_contexts = lappend(retired_contexts, context);
	MemoryContextSwitchTo(old);
}

static bool
planned_once(SPIPlanPtr plan)
{
	CachedPlanSource *source = (CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan));

	return source->gplan != NULL && source->gplan->is_valid;
}

static void
plan_without(SPIPlanPtr plan, const char *const *settings, int n)
{
	CachedPlanSource *source = (CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan));
	int			guc_level;
	CachedPlan *cplan;

	if (SPI_plan_is_valid(plan) && planned_once(plan))
		return;
	guc_level = NewGUCNestLevel();
	for (int i = 0; i < n; i++)
		(void) set_config_option(settings[i], "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	cplan = SPI_plan_get_cached_plan(plan);
	if (cplan != NULL)
		ReleaseCachedPlan(cplan, source->is_saved ? CurrentResourceOwner : NULL);
	AtEOXact_GUC(false, guc_level);
}

void
plan_by_index(SPIPlanPtr plan)
{
	static const char *const settings[] = {"enable_seqscan"};

	plan_without(plan, settings, lengthof(settings));
}

void
plan_by_lookup(SPIPlanPtr plan)
{
	static const char *const settings[] = {
		"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_hashagg", "jit"
	};

	plan_without(plan, settings, lengthof(settings));
}

/* Our parameters say nothing of a statement's cost: plan it once, for all. */
SPIPlanPtr
plan_make(const char *sql, int nargs, const Oid *argtypes)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, nargs, unconstify(Oid *, argtypes),
										  CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
	return plan;
}

List *
plan_analyse_hooked(const char *sql, RawParseMode mode, ParserSetupHook setup, void *setup_arg)
{
	SPIPrepareOptions options;
	SPIPlanPtr	plan;
	List	   *queries = NIL;
	ListCell   *lc;

	memset(&options, 0, sizeof(options));
	options.parserSetup = setup;
	options.parserSetupArg = setup_arg;
	options.parseMode = mode;
	plan = SPI_prepare_extended(sql, &options);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare_extended failed: %s", SPI_result_code_string(SPI_result));
	foreach(lc, SPI_plan_get_plan_sources(plan))
		queries = list_concat(queries, ((CachedPlanSource *) lfirst(lc))->query_list);
	return queries;
}

Query *
plan_query(SPIPlanPtr plan)
{
	List	   *sources = SPI_plan_get_plan_sources(plan);
	CachedPlanSource *source;

	if (list_length(sources) != 1)
		elog(ERROR, "expected one statement");
	source = (CachedPlanSource *) linitial(sources);
	if (list_length(source->query_list) != 1)
		elog(ERROR, "expected one query");
	return linitial_node(Query, source->query_list);
}

SPIPlanPtr
plan_try(const char *sql, int nargs, const Oid *argtypes)
{
	SPIPlanPtr	plan = SPI_prepare(sql, nargs, unconstify(Oid *, argtypes));

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

SPIPlanPtr
plan_try_lookup(const char *sql, int nargs, const Oid *argtypes)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, nargs, unconstify(Oid *, argtypes), CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	plan_by_lookup(plan);
	return plan;
}

Query *
plan_analyse(const char *sql, int nargs, const Oid *argtypes)
{
	return plan_query(plan_try(sql, nargs, argtypes));
}

void
plan_check(SPIPlanPtr plan)
{
	CachedPlan *cplan = SPI_plan_get_cached_plan(plan);

	if (cplan != NULL)
		ReleaseCachedPlan(cplan, NULL);
}

SPIPlanPtr
plan_get(SavedPlan *plan)
{
	if (plan->plan != NULL && !SPI_plan_is_valid(plan->plan))
	{
		SPIPlanPtr	stale = plan->plan;

		plan->plan = NULL;
		plan_retire(stale);
	}
	if (plan->plan == NULL)
		plan->plan = plan_make(plan->sql, plan->nargs, plan->argtypes);
	return plan->plan;
}

int
plan_execute_snapshot(SavedPlan *plan, Datum *values, const char *nulls,
					  Snapshot snapshot, bool read_only, long limit)
{
	SPIPlanPtr	spi_plan = plan_get(plan);
	int			depth = plan_hold();
	int			rc;

	rc = SPI_execute_snapshot(spi_plan, values, nulls, snapshot, InvalidSnapshot,
							  read_only, true, limit);
	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
	plan_restore(depth + 1);
	plan_release();
	return rc;
}

int
plan_execute(SavedPlan *plan, Datum *values, const char *nulls, bool read_only, long limit)
{
	return plan_execute_snapshot(plan, values, nulls, InvalidSnapshot, read_only, limit);
}

int
plan_lookup(SavedPlan *plan, Datum *values, const char *nulls, bool read_only, long limit)
{
	plan_by_lookup(plan_get(plan));
	return plan_execute(plan, values, nulls, read_only, limit);
}

/* A plan made before ALTER TYPE or an update would give columns that are not the declared ones. */
static void
check_result_columns(TupleDesc desc)
{
	bool		same = desc->natts == SPI_tuptable->tupdesc->natts;

	for (int i = 0; same && i < desc->natts; i++)
		same = TupleDescAttr(desc, i)->atttypid == TupleDescAttr(SPI_tuptable->tupdesc, i)->atttypid;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a function of invite_sync is declared with other columns than it returns"),
				 errhint("Library and SQL objects are of different versions: ALTER EXTENSION invite_sync UPDATE.")));
}

Datum
plan_result_row(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
	HeapTuple	tuple;

	if (SPI_processed != 1)
	{
		fcinfo->isnull = true;
		return (Datum) 0;
	}
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	check_result_columns(desc);
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values, nulls);
	tuple = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	/* to outlive SPI, and so must what is toasted and fetched for it only now */
	return PointerGetDatum(SPI_returntuple(tuple, desc));
}

void
plan_result_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	check_result_columns(rsinfo->setDesc);
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
}

Datum
plan_array(Datum *values, bool *nulls, int64 n, Oid type)
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

Datum
plan_uuid_array(const pg_uuid_t *ids, int64 n)
{
	Datum	   *elems = palloc_extended(sizeof(Datum) * Max(n, 1), MCXT_ALLOC_HUGE);
	Datum		result;

	for (int64 i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(&ids[i]);
	result = plan_array(elems, NULL, n, UUIDOID);
	pfree(elems);
	return result;
}

Datum
plan_name(const char *s)
{
	return DirectFunctionCall1(namein, CStringGetDatum(s));
}

int
plan_compare_uuids(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

static void
ids_from_datum(PlanIds *ids, Datum value, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ArrayType  *array = DatumGetArrayTypePCopy(value);
	Datum	   *elems;

	deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, NULL, &ids->n);
	ids->array = PointerGetDatum(array);
	ids->ids = palloc_extended(sizeof(pg_uuid_t) * Max(ids->n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < ids->n; i++)
		ids->ids[i] = *DatumGetUUIDP(elems[i]);
	MemoryContextSwitchTo(old);
}

void
plan_run_on_ids(SavedPlan *plan, Datum *values, bool in_auth, bool read_only,
				PlanIds *results, int nresults)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;

	SPI_connect();
	if (in_auth)
		scope_enter_auth(&scope);
	else
		scope_enter_own(&scope);
	plan_by_index(plan_get(plan));
	plan_execute(plan, values, NULL, read_only, 0);
	for (int i = 0; i < nresults; i++)
	{
		bool		isnull;

		ids_from_datum(&results[i], SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull), cxt);
	}
	scope_leave(&scope);
	SPI_finish();
}

/*
 * ReThrowError() copies what is told of an error, but not where it was raised,
 * which CopyErrorData() has copied into the memory of who caught it. That may be
 * gone before the error is sent: a DO block that fails frees what expressions
 * were evaluated in, and an event trigger of ours is called in one. So it is put
 * where the rest is going to be.
 */
ErrorData *
plan_lasting(ErrorData *edata)
{
	edata->filename = edata->filename ? MemoryContextStrdup(ErrorContext, edata->filename) : NULL;
	edata->funcname = edata->funcname ? MemoryContextStrdup(ErrorContext, edata->funcname) : NULL;
	edata->domain = edata->domain ? MemoryContextStrdup(ErrorContext, edata->domain) : NULL;
	edata->context_domain = edata->context_domain ? MemoryContextStrdup(ErrorContext, edata->context_domain) : NULL;
	edata->message_id = edata->message_id ? MemoryContextStrdup(ErrorContext, edata->message_id) : NULL;
	return edata;
}

ErrorData *
plan_contained(void (*fn) (void *), void *arg, bool keep)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	int			depth = plan_hold();
	ErrorData  *volatile edata = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		fn(arg);
		if (keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcontext);
		CurrentResourceOwner = oldowner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(oldcontext);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcontext);
		CurrentResourceOwner = oldowner;
		plan_restore(depth + 1);
	}
	PG_END_TRY();

	plan_release();
	return edata;
}

/*
 * Who catches an error further up (an EXCEPTION clause) ends one subtransaction,
 * its own, and would take ours for it: so it is ended here.
 */
bool
plan_attempted(bool (*fn) (void *), void *arg)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	volatile bool keep = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(oldcontext);
	PG_TRY();
	{
		keep = fn(arg);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(oldcontext);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcontext);
		CurrentResourceOwner = oldowner;
		ReThrowError(plan_lasting(edata));
	}
	PG_END_TRY();
	if (keep)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = oldowner;
	return keep;
}

/*
 * An error that nobody of ours caught leaves the depth too high, which only
 * delays freeing; the end of the transaction sets that right.
 */
static void
plan_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT ||
		event == XACT_EVENT_PREPARE)
		hold_depth = 0;
}

Oid
plan_extension_function(const char *extension_name, const char *symbol)
{
	Oid			extension = get_extension_oid(extension_name, true);
	Oid			result = InvalidOid;
	Relation	depend;
	SysScanDesc scan;
	ScanKeyData key[2];
	HeapTuple	tuple;

	if (!OidIsValid(extension))
		return InvalidOid;
	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
	while (!OidIsValid(result) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend member = (Form_pg_depend) GETSTRUCT(tuple);
		HeapTuple	function;
		bool		isnull;

		if (member->classid != ProcedureRelationId || member->deptype != DEPENDENCY_EXTENSION)
			continue;
		function = SearchSysCache1(PROCOID, ObjectIdGetDatum(member->objid));
		if (!HeapTupleIsValid(function))
			continue;
		if (((Form_pg_proc) GETSTRUCT(function))->prolang == ClanguageId &&
			strcmp(TextDatumGetCString(SysCacheGetAttr(PROCOID, function, Anum_pg_proc_prosrc, &isnull)), symbol) == 0)
			result = member->objid;
		ReleaseSysCache(function);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

void
plan_init(void)
{
	RegisterXactCallback(plan_xact_callback, NULL);
}
