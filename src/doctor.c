/*-------------------------------------------------------------------------
 *
 * doctor.c
 *	  doctor(): one run of all checks.
 *
 * The checks are run one after the other, each contained: a broken one hides
 * nothing that the others find. Nobody's code runs, but in a probe: whatever
 * names an object of a user's is analysed as its owner, never planned.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "caller.h"
#include "doctor.h"

PG_FUNCTION_INFO_V1(doctor);

#define FINDING_COLUMNS 6

typedef struct Finding
{
	DoctorSeverity severity;
	const char *text[FINDING_COLUMNS];	/* the columns, with the severity's word */
} Finding;

static const char *const severity_words[] = {"error", "warning", "info"};

/* ---------------------------------------------------------------------
 * Findings
 * ---------------------------------------------------------------------
 */

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void
add_finding(Doctor *doctor, DoctorSeverity severity, const char *const *text)
{
	MemoryContext old;
	Finding    *f;
	Finding    *last;
	ListCell   *lc;

	if (text[2] == NULL)
		return;
	/* two triggers may run one function: what one statement mends is one cause, as bad as it gets */
	foreach(lc, doctor->findings)
	{
		f = (Finding *) lfirst(lc);
		if (same_text(f->text[2], text[2]) && same_text(f->text[3], text[3]) &&
			(same_text(f->text[4], text[4]) ||
			 (same_text(f->text[5], text[5]) && (text[5] != NULL || same_text(text[1], "function")))))
		{
			if (severity < f->severity)
			{
				f->severity = severity;
				f->text[0] = severity_words[severity];
			}
			return;
		}
	}
	old = MemoryContextSwitchTo(doctor->cxt);
	f = (Finding *) palloc0(sizeof(Finding));
	f->severity = severity;
	for (int i = 0; i < FINDING_COLUMNS - 1; i++)
		f->text[i] = text[i] ? pstrdup(text[i]) : NULL;
	/* a whole function is the fix of all that is found in it, and kept once */
	last = doctor->findings ? (Finding *) llast(doctor->findings) : NULL;
	if (last != NULL && same_text(last->text[FINDING_COLUMNS - 1], text[FINDING_COLUMNS - 1]))
		f->text[FINDING_COLUMNS - 1] = last->text[FINDING_COLUMNS - 1];
	else
		f->text[FINDING_COLUMNS - 1] = text[FINDING_COLUMNS - 1] ? pstrdup(text[FINDING_COLUMNS - 1]) : NULL;
	doctor->findings = lappend(doctor->findings, f);
	MemoryContextSwitchTo(old);
}

void
doctor_finding(Doctor *doctor, DoctorSeverity severity, const char *area, const char *object,
			   const char *finding, const char *detail, const char *fix)
{
	const char *text[FINDING_COLUMNS];

	text[0] = severity_words[severity];
	text[1] = area;
	text[2] = object;
	text[3] = finding;
	text[4] = detail;
	text[5] = fix;
	add_finding(doctor, severity, text);
}

/* Is it there as a word of its own? */
static bool
names(const char *text, const char *word)
{
	size_t		len = strlen(word);

	for (const char *p = strstr(text, word); len > 0 && p != NULL; p = strstr(p + 1, word))
		if ((p == text || !(isalnum((unsigned char) p[-1]) || p[-1] == '_')) &&
			!(isalnum((unsigned char) p[len]) || p[len] == '_'))
			return true;
	return false;
}

/*
 * Is it what makes a probe fail like this? One of its objects is the finding's;
 * or the finding names the SQLSTATE, and one of the objects, or the message
 * names its object.
 */
static bool
is_cause(const Finding *f, List *objects, const char *sqlstate, const char *message)
{
	const char *object = f->text[2];
	char	   *all = psprintf("%s %s", f->text[3], f->text[4] ? f->text[4] : "");
	const char *dot = strrchr(object, '.');
	ListCell   *lc;

	foreach(lc, objects)
		if (same_text(object, (const char *) lfirst(lc)))
			return true;
	/* a row that was not written: nothing else is said of it */
	if (sqlstate == NULL)
		return strstr(f->text[3], "silently does nothing") != NULL;
	if (strstr(all, sqlstate) == NULL)
		return false;
	foreach(lc, objects)
		if (strstr(all, (const char *) lfirst(lc)) != NULL)
			return true;
	return names(message, dot ? dot + 1 : object) ||
		(dot != NULL && strstr(all, "schema") != NULL && strstr(message, psprintf("schema %.*s", (int) (dot - object), object)) != NULL);
}

bool
doctor_confirm(Doctor *doctor, List *objects, const char *sqlstate, const char *message, const char *sentence)
{
	MemoryContext old = MemoryContextSwitchTo(doctor->cxt);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, doctor->findings)
	{
		Finding    *f = (Finding *) lfirst(lc);

		if (f->severity == DOCTOR_INFO || !is_cause(f, objects, sqlstate, message))
			continue;
		f->text[4] = f->text[4] ? psprintf("%s %s", f->text[4], sentence) : pstrdup(sentence);
		found = true;
	}
	MemoryContextSwitchTo(old);
	return found;
}

void
doctor_each(const Doctor *doctor, DoctorFound fn, void *arg)
{
	ListCell   *lc;

	foreach(lc, doctor->findings)
	{
		const Finding *f = (const Finding *) lfirst(lc);

		fn(arg, f->severity, f->text);
	}
}

void
doctor_run(Doctor *doctor, SavedPlan *plan, Datum *values, const char *nulls)
{
	SPI_connect();
	plan_execute(plan, values, nulls, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		const char *text[FINDING_COLUMNS];
		DoctorSeverity severity = DOCTOR_INFO;

		for (int c = 0; c < FINDING_COLUMNS; c++)
			text[c] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1);
		for (int s = DOCTOR_ERROR; s <= DOCTOR_INFO; s++)
			if (same_text(text[0], severity_words[s]))
				severity = (DoctorSeverity) s;
		text[0] = severity_words[severity];
		add_finding(doctor, severity, text);
	}
	SPI_finish();
}

typedef struct Contained
{
	Doctor	   *doctor;
	void		(*fn) (Doctor *doctor, void *arg);
	void	   *arg;
} Contained;

static void
run_contained(void *arg)
{
	Contained  *c = (Contained *) arg;

	c->fn(c->doctor, c->arg);
}

bool
doctor_contained(Doctor *doctor, const char *area, const char *object,
				 void (*fn) (Doctor *doctor, void *arg), void *arg)
{
	Contained	contained;
	ErrorData  *edata;

	contained.doctor = doctor;
	contained.fn = fn;
	contained.arg = arg;
	edata = plan_contained(run_contained, &contained, false);
	if (edata == NULL)
		return true;
	if (caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	doctor_finding(doctor, DOCTOR_INFO, area, object, "could not be looked at",
				   psprintf("SQLSTATE %s: %s.", unpack_sql_state(edata->sqlerrcode), edata->message), NULL);
	FreeErrorData(edata);
	return false;
}

bool
doctor_may_look(const Doctor *doctor, Oid owner)
{
	return doctor->superuser || !superuser_arg(owner);
}

char *
doctor_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *nsp = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	return nsp ? quote_qualified_identifier(nsp, name) : NULL;
}

char *
doctor_function_name(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Form_pg_proc proc;
	char	   *nsp;
	StringInfoData s;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	nsp = get_namespace_name(proc->pronamespace);
	initStringInfo(&s);
	if (nsp != NULL)
		appendStringInfo(&s, "%s(", quote_qualified_identifier(nsp, NameStr(proc->proname)));
	for (int i = 0; nsp != NULL && i < proc->pronargs; i++)
	{
		Oid			type = proc->proargtypes.values[i];
		HeapTuple	type_tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
		bool		builtin = HeapTupleIsValid(type_tuple) &&
			((Form_pg_type) GETSTRUCT(type_tuple))->typnamespace == PG_CATALOG_NAMESPACE;

		if (HeapTupleIsValid(type_tuple))
			ReleaseSysCache(type_tuple);
		/* whatever search_path is in force */
		appendStringInfo(&s, "%s%s", i > 0 ? ", " : "",
						 format_type_extended(type, -1, builtin ? FORMAT_TYPE_ALLOW_INVALID : FORMAT_TYPE_ALLOW_INVALID | FORMAT_TYPE_FORCE_QUALIFY));
	}
	ReleaseSysCache(tuple);
	if (nsp == NULL)
		return NULL;
	appendStringInfoChar(&s, ')');
	return s.data;
}

char *
doctor_definition(PGFunction print, Oid object)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		definition;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(object);
	fcinfo->args[0].isnull = false;
	definition = print(fcinfo);
	return fcinfo->isnull ? NULL : TextDatumGetCString(definition);
}

char *
doctor_role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

/* ---------------------------------------------------------------------
 * doctor()
 * ---------------------------------------------------------------------
 */

static void
check_bodies(Doctor *doctor, void *arg)
{
	doctor_check_bodies(doctor);
}

static void
check_tables(Doctor *doctor, void *arg)
{
	doctor_check_tables(doctor);
}

static void
check_auth(Doctor *doctor, void *arg)
{
	doctor_check_auth(doctor, (Jsonb *) arg);
}

static void
find_auth(Doctor *doctor, void *arg)
{
	Oid			relid = caller_auth_users_relid(true);

	if (!OidIsValid(relid))
	{
		doctor_finding(doctor, DOCTOR_ERROR, "auth", "auth.users", "table auth.users does not exist",
					   "There is nothing that users could be synced from.",
					   "SELECT invite_sync.create_auth_schema();");
		return;
	}
	doctor->auth_users = relid;
	doctor->auth_role = caller_auth_owner();
}

static SavedPlan without_email_plan = {
	.sql = "SELECT FROM auth.users AS u WHERE u.email IS NULL LIMIT 1",
	.nargs = 0
};

/* Where there are users without an address, more will come. */
static void
find_without_email(Doctor *doctor, void *arg)
{
	Scope		scope;

	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&without_email_plan, NULL, NULL, true, 1);
	doctor->email_optional = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
}

static void
return_findings(Doctor *doctor, ReturnSetInfo *rsinfo)
{
	for (int s = DOCTOR_ERROR; s <= DOCTOR_INFO; s++)
	{
		ListCell   *lc;

		foreach(lc, doctor->findings)
		{
			Finding    *f = (Finding *) lfirst(lc);
			Datum		values[FINDING_COLUMNS];
			bool		nulls[FINDING_COLUMNS];

			CHECK_FOR_INTERRUPTS();
			if ((int) f->severity != s)
				continue;
			for (int i = 0; i < FINDING_COLUMNS; i++)
			{
				nulls[i] = f->text[i] == NULL;
				values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(f->text[i]);
			}
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
			for (int i = 0; i < FINDING_COLUMNS; i++)
				if (!nulls[i])
					pfree(DatumGetPointer(values[i]));
		}
	}
}

Datum
doctor(PG_FUNCTION_ARGS)
{
	bool		probe = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
	Jsonb	   *auth_settings = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	Doctor		run;
	int			guc_level;

	caller_require_operator();
	if (auth_settings != NULL)
		doctor_require_settings(auth_settings);
	InitMaterializedSRF(fcinfo, 0);
	memset(&run, 0, sizeof(run));
	run.cxt = CurrentMemoryContext;
	run.asker = caller_role();
	run.superuser = superuser_arg(run.asker);

	/* so that whatever spells names in a fix qualifies them */
	guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	run.email_optional = auth_settings != NULL && doctor_lets_in_without_email(auth_settings);
	doctor_contained(&run, "auth", "auth.users", find_auth, NULL);
	if (OidIsValid(run.auth_users) && !run.email_optional)
		doctor_contained(&run, "auth", "auth.users", find_without_email, NULL);
	doctor_contained(&run, "trigger", "auth.users", check_bodies, NULL);
	doctor_contained(&run, "table", "auth.users", check_tables, NULL);
	doctor_contained(&run, "auth", "auth", check_auth, auth_settings);
	if (probe && OidIsValid(run.auth_users))
		doctor_check_probe(&run);
	AtEOXact_GUC(false, guc_level);
	return_findings(&run, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}
