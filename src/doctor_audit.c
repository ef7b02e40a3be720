/*-------------------------------------------------------------------------
 *
 * doctor_audit.c
 *	  audit(): what is lawful and still should not be so.
 *
 * The checks are statements over catalogs, our own tables and the auth server's,
 * each read under the rights of whom they belong to. Nothing of the
 * application's is planned or run: policies and bodies are read as text and as
 * trees. A check that fails says so and does not keep the others from looking.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "doctor_audit.h"

PG_FUNCTION_INFO_V1(doctor_audit);

#define COLUMNS 7				/* of the result */

static const AuditArea areas[] = {
	{"auth_flow", audit_auth_flow},
	{"tenant_isolation", audit_tenant_isolation},
	{"invitation_security", audit_invitation_security},
	{"permission_model", audit_permission_model},
	{"session_management", audit_session_management},
	{"enterprise_readiness", audit_enterprise_readiness},
};

/* ---------------------------------------------------------------------
 * Running the checks
 * ---------------------------------------------------------------------
 */

typedef struct Audit
{
	ReturnSetInfo *rsinfo;
	MemoryContext cxt;			/* of the check at work */
	const AuditArea *area;
	AuditCheck *check;
	MemoryContext facts_cxt;	/* of all checks */
	Datum		facts[AUDIT_NFACTS];	/* once a check has asked for them */
	bool		has_facts;
	Jsonb	   *settings;		/* the auth server's, or NULL */
	List	   *rows;			/* of char *[COLUMNS] */
} Audit;

static char **
new_row(Audit *audit, const char *severity)
{
	char	  **row = palloc0(sizeof(char *) * COLUMNS);

	row[0] = pstrdup(severity);
	row[1] = pstrdup(audit->area->name);
	row[2] = pstrdup(audit->check->name);
	audit->rows = lappend(audit->rows, row);
	return row;
}

static void
not_looked_at(Audit *audit, const char *why)
{
	char	  **row = new_row(audit, "info");

	row[4] = pstrdup("not looked at");
	row[5] = pstrdup(why);
}

/*
 * The auth server's tables differ between its versions, and not every database
 * has them. One that is not its own table would have us run somebody's code as
 * the auth server's role, be it a view or a policy. NULL: all is there.
 */
static char *
missing(const char *needs)
{
	Oid			users = caller_auth_users_relid(true);
	Oid			namespace;
	Oid			owner;
	HeapTuple	tuple;
	char	   *list;
	char	   *save = NULL;

	if (!OidIsValid(users))
		return pstrdup("There is no table auth.users.");
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(users));
	if (!HeapTupleIsValid(tuple))
		return pstrdup("There is no table auth.users.");
	namespace = ((Form_pg_class) GETSTRUCT(tuple))->relnamespace;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (superuser_arg(owner))
		return pstrdup("auth.users belongs to a superuser, as whom nothing is read.");

	list = pstrdup(needs);
	for (char *name = strtok_r(list, " ", &save); name != NULL; name = strtok_r(NULL, " ", &save))
	{
		char	   *column = strchr(name, '.');
		Oid			relid;
		bool		sound;

		*column++ = '\0';
		relid = get_relname_relid(name, namespace);
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
		if (!HeapTupleIsValid(tuple))
			return psprintf("There is no table auth.%s.", name);
		sound = ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION &&
			((Form_pg_class) GETSTRUCT(tuple))->relowner == owner &&
			!((Form_pg_class) GETSTRUCT(tuple))->relforcerowsecurity;
		ReleaseSysCache(tuple);
		if (!sound)
			return psprintf("auth.%s is no table that the owner of auth.users owns and reads whole.", name);
		if (get_attnum(relid, column) == InvalidAttrNumber)
			return psprintf("auth.%s has no column %s.", name, column);
	}
	return NULL;
}

/* Column "c" of the one row that was returned, as text, in this context. */
static Datum
fed_text(MemoryContext cxt, int c)
{
	char	   *value = SPI_processed == 1 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, c) : NULL;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Datum		result = PointerGetDatum(cstring_to_text(value == NULL ? "" : value));

	MemoryContextSwitchTo(old);
	return result;
}

static void
find_facts(Audit *audit)
{
	Datum		policies = PointerGetDatum(audit_read_policies());
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&audit_facts, &policies, NULL, true, 0);
	scope_leave(&scope);
	for (int i = 0; i < AUDIT_NFACTS; i++)
		audit->facts[i] = fed_text(audit->facts_cxt, i + 1);
	SPI_finish();
	audit->has_facts = true;
}

static void
run_step(Audit *audit, AuditStep *step, Datum *fed, bool last)
{
	Scope		scope;
	Datum	   *values = fed;
	const char *nulls = NULL;
	Datum		settings = PointerGetDatum(audit->settings);

	if (step->scope == AUDIT_FACTS)
		values = audit->facts;
	else if (step->scope == AUDIT_SETTINGS)
	{
		values = &settings;
		nulls = audit->settings == NULL ? "n" : " ";
	}

	SPI_connect();
	if (step->scope == AUDIT_AUTH)
		scope_enter_auth(&scope);
	else
		scope_enter_own(&scope);
	/* nobody knows how many rows there are in JSON: of thousands taken for one, a nested loop makes minutes */
	if (step->scope == AUDIT_FACTS)
		(void) set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	plan_execute(&step->plan, values, nulls, true, 0);
	scope_leave(&scope);

	if (last)
	{
		uint64		n = SPI_processed;
		SPITupleTable *found = SPI_tuptable;

		for (uint64 i = 0; i < n; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(audit->cxt);
			char	  **row = new_row(audit, SPI_getvalue(found->vals[i], found->tupdesc, 1));

			for (int c = 2; c <= 5; c++)
			{
				char	   *value = SPI_getvalue(found->vals[i], found->tupdesc, c);

				row[c + 1] = value == NULL ? NULL : pstrdup(value);
			}
			MemoryContextSwitchTo(old);
		}
	}
	else
		*fed = fed_text(audit->cxt, 1);
	SPI_finish();
}

static void
run_check(void *arg)
{
	Audit	   *audit = (Audit *) arg;
	char	   *why = audit->check->needs == NULL ? NULL : missing(audit->check->needs);
	Datum		fed = (Datum) 0;

	int			first = 0;

	if (why != NULL)
	{
		not_looked_at(audit, why);
		if (audit->check->without == NULL)
			return;
		fed = PointerGetDatum(cstring_to_text(audit->check->without));
		first = 1;
	}
	for (int i = first; i < (int) lengthof(audit->check->steps) && audit->check->steps[i].scope != AUDIT_DONE; i++)
	{
		AuditStep  *step = &audit->check->steps[i];

		if (step->scope == AUDIT_FACTS && !audit->has_facts)
			find_facts(audit);
		run_step(audit, step, &fed, i + 1 == (int) lengthof(audit->check->steps) ||
				 audit->check->steps[i + 1].scope == AUDIT_DONE);
	}
}

/* What it found, or that it failed: by its SQLSTATE, as an error's text may quote data. */
static void
look(Audit *audit)
{
	MemoryContext old = MemoryContextSwitchTo(audit->cxt);
	ErrorData  *edata;
	ListCell   *lc;

	audit->rows = NIL;
	edata = plan_contained(run_check, audit, true);
	if (edata != NULL)
	{
		if (caller_must_rethrow(edata->sqlerrcode))
			ReThrowError(plan_lasting(edata));
		audit->rows = NIL;
		not_looked_at(audit, psprintf("It failed: SQLSTATE %s.", unpack_sql_state(edata->sqlerrcode)));
	}
	foreach(lc, audit->rows)
	{
		char	  **row = (char **) lfirst(lc);
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		for (int c = 0; c < COLUMNS; c++)
		{
			nulls[c] = row[c] == NULL;
			values[c] = nulls[c] ? (Datum) 0 : CStringGetTextDatum(row[c]);
		}
		tuplestore_putvalues(audit->rsinfo->setResult, audit->rsinfo->setDesc, values, nulls);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(audit->cxt);
}

static void
unknown_area(const char *area)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < (int) lengthof(areas); i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : i + 1 == (int) lengthof(areas) ? " and " : ", ", areas[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no area \"%s\"", area),
			 errhint("The areas are %s; NULL is all of them.", list.data)));
}

Datum
doctor_audit(PG_FUNCTION_ARGS)
{
	char	   *wanted = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *settings = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	bool		known = wanted == NULL;
	int			guc_level;
	Audit		audit;

	caller_require_operator();
	for (int i = 0; i < (int) lengthof(areas); i++)
		known = known || strcmp(areas[i].name, wanted) == 0;
	if (!known)
		unknown_area(wanted);

	if (settings != NULL && !JB_ROOT_IS_OBJECT(settings))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("auth_settings is not an object"),
				 errhint("Pass settings of the auth server and their values, such as {\"jwt_exp\": 3600} or {\"GOTRUE_JWT_EXP\": \"3600\"}.")));

	InitMaterializedSRF(fcinfo, 0);
	memset(&audit, 0, sizeof(audit));
	audit.settings = settings;
	audit.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	audit.facts_cxt = CurrentMemoryContext;
	audit.cxt = AllocSetContextCreate(CurrentMemoryContext, "invite_sync audit", ALLOCSET_DEFAULT_SIZES);

	/* a statement over catalogs takes milliseconds, compiling it takes seconds */
	guc_level = NewGUCNestLevel();
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	for (int i = 0; i < (int) lengthof(areas); i++)
	{
		if (wanted != NULL && strcmp(areas[i].name, wanted) != 0)
			continue;
		audit.area = &areas[i];
		for (audit.check = areas[i].checks; audit.check->name != NULL; audit.check++)
		{
			CHECK_FOR_INTERRUPTS();
			look(&audit);
		}
	}
	AtEOXact_GUC(false, guc_level);
	MemoryContextDelete(audit.cxt);
	return (Datum) 0;
}
