/*-------------------------------------------------------------------------
 *
 * doctor_check.c
 *	  What plpgsql_check adds to what doctor() says of a body, where it is there.
 *
 * plpgsql_check plans statements, and planning runs IMMUTABLE functions: it is
 * handed a body only as the body's owner, in a restricted operation, and what is
 * a superuser's only where a superuser asks. Names, rights and types we have
 * judged ourselves, with what conditions and handlers around them say; the
 * failures that are left are those that only planning sees.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "caller.h"
#include "doctor_body.h"
#include "plan.h"

typedef struct Check
{
	Body	   *body;
	char	   *sql;
	MemoryContext cxt;
	uint64		ncomplaints;
	struct Complaint
	{
		int			line;
		int			sqlstate;
		char	   *message;
	}		   *complaints;
} Check;

static bool
has_argument(HeapTuple function, const char *name)
{
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			n = get_func_arg_info(function, &types, &names, &modes);

	for (int i = 0; names != NULL && i < n; i++)
		if (names[i] != NULL && strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* How it is called, or NULL: it is not there. */
static char *
checker_call(Body *body)
{
	Oid			checker = plan_extension_function("plpgsql_check", "plpgsql_check_function_tb");
	HeapTuple	function = SearchSysCache1(PROCOID, ObjectIdGetDatum(checker));
	Form_pg_proc proc;
	char	   *result;

	if (!HeapTupleIsValid(function))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(function);
	result = psprintf("SELECT c.lineno, c.sqlstate, c.message FROM %s($1, relid => $2::pg_catalog.regclass, fatal_errors => false, "
					  "other_warnings => false, performance_warnings => false, extra_warnings => false%s%s%s) AS c "
					  "WHERE c.level OPERATOR(pg_catalog.=) 'error'",
					  quote_qualified_identifier(get_namespace_name(proc->pronamespace), NameStr(proc->proname)),
					  body->call->old_table ? psprintf(", oldtable => %s", quote_literal_cstr(body->call->old_table)) : "",
					  body->call->new_table ? psprintf(", newtable => %s", quote_literal_cstr(body->call->new_table)) : "",
	/* its later versions take a variable's first value for its only one */
					  has_argument(function, "constant_tracing") ? ", constant_tracing => false" : "");
	ReleaseSysCache(function);
	return result;
}

static void
run_check(void *arg)
{
	Check	   *check = (Check *) arg;
	Body	   *body = check->body;
	Oid			types[] = {REGPROCEDUREOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(body->call->funcid), ObjectIdGetDatum(body->call->relid)};
	Scope		scope;
	MemoryContext old;

	SPI_connect();
	scope_enter_target(&scope, body->owner, body->path);
	body_bound_lock_wait();
	SPI_execute_plan(plan_try(check->sql, lengthof(types), types), values, NULL, true, 0);
	old = MemoryContextSwitchTo(check->cxt);
	check->complaints = (struct Complaint *) palloc0(sizeof(struct Complaint) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		char	   *sqlstate = SPI_getvalue(row, desc, 2);
		char	   *message = SPI_getvalue(row, desc, 3);
		Datum		line = SPI_getbinval(row, desc, 1, &isnull);

		if (isnull || sqlstate == NULL || strlen(sqlstate) != 5 || message == NULL)
			continue;
		check->complaints[check->ncomplaints].line = DatumGetInt32(line);
		check->complaints[check->ncomplaints].sqlstate = MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
		check->complaints[check->ncomplaints++].message = message;
	}
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
}

/* After our own passes: only what they do not tell. */
void
body_ask_checker(Body *body)
{
	Check		check = {0};
	ErrorData  *edata;

	/* what runs as the owner need not be what the body runs as: there it is a superuser's to look at */
	if (body->path_unknown || !doctor_may_look(body->doctor, body->owner))
		return;
	check.body = body;
	check.cxt = body->cxt;
	check.sql = checker_call(body);
	if (check.sql == NULL)
		return;
	edata = plan_contained(run_check, &check, false);
	if (edata != NULL)
	{
		if (caller_must_rethrow(edata->sqlerrcode))
			ReThrowError(plan_lasting(edata));
		/* a version that is called otherwise, or an owner who may not: no fault of the body */
		body_found(body, DOCTOR_INFO, edata->sqlerrcode, "function", body->name, "plpgsql_check could not be asked",
				   psprintf("When the owner calls it: %s.", edata->message), NULL);
		FreeErrorData(edata);
		return;
	}
	for (uint64 i = 0; i < check.ncomplaints; i++)
	{
		struct Complaint *c = &check.complaints[i];
		char	   *at = psprintf("line %d of the body of ", c->line);
		ListCell   *lc;
		bool		known = ERRCODE_TO_CATEGORY(c->sqlstate) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
			ERRCODE_TO_CATEGORY(c->sqlstate) == ERRCODE_INVALID_SCHEMA_NAME ||
			ERRCODE_TO_CATEGORY(c->sqlstate) == ERRCODE_INTERNAL_ERROR;

		foreach(lc, body->found)
			known = known || strstr(((BodyFinding *) lfirst(lc))->detail, at) != NULL;
		if (known)
			continue;
		body->line = c->line;
		body_found(body, DOCTOR_WARNING, c->sqlstate, "function", body->name, psprintf("a statement fails: %s", c->message),
				   psprintf("At %s: plpgsql_check says so.", body_where(body)), NULL);
	}
	body->line = 0;
}
