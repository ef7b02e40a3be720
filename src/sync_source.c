/*-------------------------------------------------------------------------
 *
 * sync_source.c
 *	  What the kept statements read: the users of a batch, and their identities.
 *
 * Every road hands the rows of auth.users to a statement under one name, with the
 * row type that the table has now. A secret of auth.users is never among what is
 * read: that is asked of the analysed statement, not of its text.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

static const Oid overwrite_argtypes[] = {TEXTARRAYOID};
static const Oid claim_argtypes[] = {UUIDARRAYOID, UUIDARRAYOID};

/*
 * Make source_users known to the SPI connection. The row type is that of
 * auth.users as stored, dropped columns included, and the estimate is always
 * one row: a kept plan would remember the first batch's size for ever.
 */
void
sync_register_source(EphemeralNamedRelation enr, Relation auth, Tuplestorestate *store)
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

bool
sync_is_secret_column(const char *name)
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
			 sync_is_secret_column(NameStr(TupleDescAttr(check->auth, var->varattno - 1)->attname))))
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
SPIPlanPtr
sync_make_kept(const char *sql, int nargs, TupleDesc auth)
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
SPIPlanPtr
sync_make_claim(const char *sql, int nargs, TupleDesc auth)
{
	SPIPlanPtr	plan = plan_make(sql, nargs, claim_argtypes);

	check_no_secrets(plan_query(plan), auth);
	return plan;
}

void
sync_check_kept(const char *sql, int nargs, Relation auth)
{
	SPIPlanPtr	plan = plan_try(sql, nargs, overwrite_argtypes);

	check_no_secrets(plan_query(plan), RelationGetDescr(auth));
	plan_check(plan);
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

void
sync_analyse_kept(const char *sql, int nargs, Relation auth)
{
	Query	   *query;

	if (sql == NULL)
		return;
	query = plan_query(plan_try(sql, nargs, overwrite_argtypes));
	check_no_secrets(query, RelationGetDescr(auth));
	(void) check_address_casts((Node *) query, NULL);
}

static SavedPlan identities_plan = {
	.sql = "SELECT DISTINCT ON (i.user_id) i.user_id, i.provider::pg_catalog.text, i.provider_id::pg_catalog.text "
	"FROM auth.identities AS i WHERE i.user_id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY i.user_id, i.created_at, i.id",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/*
 * The first identity of every user in the rows. Read in the auth scope, before
 * the target's is entered.
 */
void
sync_load_identities(const Target *t, Relation auth, Tuplestorestate *rows, bool read_only,
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
void
sync_register_identities(Identities *ident)
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

void
sync_end_identities(Identities *ident)
{
	if (ident->store != NULL)
		tuplestore_end(ident->store);
	ident->store = NULL;
}
