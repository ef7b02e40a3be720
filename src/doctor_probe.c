/*-------------------------------------------------------------------------
 *
 * doctor_probe.c
 *	  Signups, updates, logins and deletions that are tried and rolled back.
 *
 * What fires at a signup runs here as it would there: as the auth server's
 * role, under its settings. The user id is set as a security definer function
 * sets it, not by SET ROLE, which the code that is probed could undo to become
 * who asked; and not for a security-restricted operation, which queues no
 * deferred constraint. For the same reason whatever of ours is called
 * meanwhile takes the auth server's role for the one that asks.
 *
 * All is in one subtransaction that is never kept. Each statement is in one of
 * its own, since its failure is a result; what the auth server does in one
 * transaction ends with the checks that a COMMIT makes.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "caller.h"
#include "doctor.h"
#include "doctor_effect.h"
#include "doctor_fence.h"
#include "doctor_probe.h"
#include "module.h"
#include "plan.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(doctor_probe_signup);
PG_FUNCTION_INFO_V1(doctor_probe_update);
PG_FUNCTION_INFO_V1(doctor_probe_login);
PG_FUNCTION_INFO_V1(doctor_probe_delete);

#define AUTH_ROLE			"supabase_auth_admin"
#define LOCK_TIMEOUT_MS		1000
#define MESSAGE_BYTES		1000
#define FRAME_BYTES			300
#define FRAMES_MAX			30
#define USUAL_BYTES			20	/* what an address's first part fits in, mostly */

bool		probe_is_running = false;

static const char *const kind_names[PROBE_KINDS] = {
	"email", "email_without_metadata", "invited", "oauth", "phone", "anonymous"
};

/* A trigger of others on a table that the auth server writes, or on one further on. */
typedef struct CustomTrigger
{
	Oid			oid;
	const char *name;			/* "name ON table" */
	const char *function;		/* further on: it is blamed only where this is in a call stack; else NULL */
} CustomTrigger;

typedef struct Run
{
	Probe	   *probe;
	MemoryContext cxt;			/* outlives the subtransactions */
	Oid			auth_users;
	Oid			role;			/* the auth server's */
	EffectWalk	walk;
	CustomTrigger *triggers;
	int			ntriggers;
	List	   *deferred;		/* of DeferredName */
	bool		can_defer;		/* all of them can be deferred again by name */
	int			statement_timeout;	/* of the role, ms */

	/* of the user that is tried */
	ProbeKind	kind;
	const char *without;
	char	   *id;
	char	   *email;			/* NULL: none */
	char	   *phone;			/* NULL: none */
	char	   *changed_email;
	char	   *metadata;		/* JSON */
	bool		usual_form;		/* nothing in it but what forms send anyway */
	bool		made_up;		/* something is in it of which only the application knows what it must be */
	char	   *app_metadata;
	char	   *identity;		/* id of its identity */
	char	   *identity_data;	/* JSON */
	char	   *session;		/* ids of what it has from its last login */
	char	   *refresh_token;
	char	   *own;			/* all that it says of itself, to know it again in messages */

	/* while the checks of a COMMIT are made */
	bool		commit_began;
	const char *commit_name;
	bool		timeout_started;
	TimestampTz timeout_saved;
} Run;

typedef struct DeferredName
{
	const char *schema;
	const char *name;
	Oid			schema_owner;
} DeferredName;

/* ---------------------------------------------------------------------
 * What an error says
 * ---------------------------------------------------------------------
 */

static char *
clipped(const char *text, int bytes)
{
	int			len = strlen(text);

	return len <= bytes ? pstrdup(text) : psprintf("%.*s...", pg_mbcliplen(text, len, bytes), text);
}

static bool
address_char(char c)
{
	return isalnum((unsigned char) c) || strchr("._%+-@", c) != NULL || IS_HIGHBIT_SET(c);
}

/*
 * Triggers put into their messages what they have read. Whatever has an @ in it
 * and is not the probe's own is taken for somebody's address.
 */
static char *
without_addresses(const Run *run, const char *text)
{
	StringInfoData buf;
	const char *p = text;

	initStringInfo(&buf);
	while (*p)
	{
		const char *from = p;
		bool		is_address = false;

		while (*p && address_char(*p) && *p != '\0')
		{
			is_address = is_address || *p == '@';
			p++;
		}
		if (p == from)
		{
			appendStringInfoChar(&buf, *p++);
			continue;
		}
		/* the sentence's full stop is no part of it */
		if (is_address && p[-1] == '.')
			p--;
		if (is_address && strstr(run->own, pnstrdup(from, p - from)) == NULL)
			appendStringInfoString(&buf, "[address]");
		else
			appendBinaryStringInfo(&buf, from, p - from);
	}
	return buf.data;
}

/* A value that could not be read as a number, say, is quoted at the end of the message. */
static char *
without_values(const Run *run, const ErrorData *e)
{
	char	   *message = without_addresses(run, e->message ? e->message : "");
	char	   *quote = strstr(message, ": \"");

	if (quote != NULL && ERRCODE_TO_CATEGORY(e->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
	{
		char	   *end = strrchr(message, '"');
		char	   *value = quote + 3;

		if (end > value && strstr(run->own, pnstrdup(value, end - value)) == NULL)
			message = psprintf("%.*s...%s", (int) (value - message), message, end);
	}
	return clipped(message, MESSAGE_BYTES);
}

static List *
add_name(List *list, const char *name)
{
	ListCell   *lc;

	foreach(lc, list)
		if (strcmp((char *) lfirst(lc), name) == 0)
			return list;
	return lappend(list, unconstify(char *, name));
}

static bool
starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool
begins_frame(const char *line)
{
	return starts(line, "PL/") || starts(line, "SQL statement \"") || starts(line, "SQL function \"") ||
		starts(line, "SQL expression \"") || starts(line, "compilation of ") || starts(line, "COPY ") ||
		starts(line, "while ") || starts(line, "referenced column") || starts(line, "JSON data") ||
		starts(line, "automatic ") || starts(line, "parallel worker");
}

/*
 * A call stack may name it without schema, and that of an SQL function without
 * arguments and quotes: of those within reach, which is it?
 */
static const char *
known_function(const Run *run, const char *name, bool signature)
{
	ListCell   *lc;

	foreach(lc, run->walk.functions)
	{
		char	   *full = effect_function_name(lfirst_oid(lc));
		char	   *bare = get_func_name(lfirst_oid(lc));
		size_t		len = full ? strlen(full) : 0;
		size_t		part = strlen(name);

		if (full == NULL || bare == NULL)
			continue;
		if (!signature)
		{
			if (strcmp(bare, name) == 0)
				return full;
		}
		else if (len >= part && strcmp(full + len - part, name) == 0 &&
				 (len == part || full[len - part - 1] == '.'))
			return full;
	}
	return signature ? name : quote_identifier(name);
}

/* Behind the name, in which the same words may be: where they are last. */
static const char *
last_found(const char *text, const char *words)
{
	const char *found = NULL;

	for (const char *p = strstr(text, words); p != NULL; p = strstr(p + 1, words))
		found = p;
	return found;
}

/* "PL/pgSQL function public.f() line 3 at SQL statement" and its like: the function, or NULL. */
static const char *
read_frame(const Run *run, const char *frame, int *line)
{
	static const char *const begins[] = {"PL/pgSQL function ", "compilation of PL/pgSQL function \"", "SQL function \""};
	static const char *const ends[] = {" line ", "\" near line ", "\" "};
	size_t		kind = 0;
	const char *name;
	const char *end;

	*line = 0;
	while (kind < lengthof(begins) && !starts(frame, begins[kind]))
		kind++;
	if (kind == lengthof(begins))
		return NULL;
	name = frame + strlen(begins[kind]);
	end = last_found(name, ends[kind]);
	if (end != NULL && kind < 2)
		*line = atoi(end + strlen(ends[kind]));
	if (end == NULL && kind == 0)
		end = last_found(name, " while ");
	if (end == NULL && kind == 0)
		end = last_found(name, " during ");
	return known_function(run, end ? pnstrdup(name, end - name) : name, kind == 0);
}

static void
read_context(const Run *run, ProbeStep *step, const char *context, const char *own_sql)
{
	char	   *copy = context ? pstrdup(context) : NULL;
	char	   *line;
	char	   *rest = copy;
	List	   *frames = NIL;
	StringInfo	frame = NULL;
	ListCell   *lc;

	while (rest != NULL && *rest)
	{
		line = rest;
		rest = strchr(rest, '\n');
		if (rest != NULL)
			*rest++ = '\0';
		if (frame == NULL || begins_frame(line))
		{
			frame = makeStringInfo();
			frames = lappend(frames, frame);
		}
		else
			appendStringInfoChar(frame, ' ');
		appendStringInfoString(frame, line);
	}
	foreach(lc, frames)
	{
		char	   *text = ((StringInfo) lfirst(lc))->data;
		const char *function;
		int			line_number;

		/* the auth server's own statement, which the step names */
		if (lnext(frames, lc) == NULL && own_sql != NULL && starts(text, "SQL statement \"") &&
			strncmp(text + strlen("SQL statement \""), own_sql, 20) == 0)
			break;
		function = read_frame(run, text, &line_number);
		if (function != NULL)
		{
			if (step->function == NULL)
			{
				step->function = function;
				step->line = line_number;
			}
			step->functions = add_name(step->functions, function);
		}
		if (list_length(step->stack) < FRAMES_MAX)
			step->stack = lappend(step->stack, clipped(without_addresses(run, text), FRAME_BYTES));
	}
}

static const char *
qualified(const char *schema, const char *name)
{
	return name == NULL ? NULL : quote_qualified_identifier(schema, name);
}

/* Raised on purpose, whatever its SQLSTATE: by whom it was raised tells, not what it says. */
static bool
raised_by_code(const ErrorData *e)
{
	return e->funcname != NULL &&
		(strcmp(e->funcname, "exec_stmt_raise") == 0 || strcmp(e->funcname, "exec_stmt_assert") == 0);
}

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_cause(const ProbeStep *a, const ProbeStep *b)
{
	return a->outcome == b->outcome && same(a->sqlstate, b->sqlstate) && same(a->function, b->function) &&
		a->line == b->line && same(a->table, b->table) && same(a->column, b->column) &&
		same(a->constraint, b->constraint) && (a->sqlstate != NULL || same(a->message, b->message));
}

static ProbeStep *
add_step(Run *run, const char *name)
{
	ProbeStep  *step = palloc0(sizeof(ProbeStep));

	step->kind = kind_names[run->kind];
	step->step = name;
	step->without_trigger = run->without;
	run->probe->steps = lappend(run->probe->steps, step);
	return step;
}

/* ---------------------------------------------------------------------
 * Steps
 * ---------------------------------------------------------------------
 */

typedef struct StepCall
{
	const char *sql;			/* NULL: what a COMMIT checks */
	uint64		processed;
} StepCall;

static void
check_deferred(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->deferred = false;
	AfterTriggerSetState(stmt);
}

static void
run_step(void *arg)
{
	StepCall   *call = (StepCall *) arg;

	if (call->sql != NULL)
	{
		SPIPlanPtr	plan;
		int			rc;

		SPI_connect();
		plan = plan_try(call->sql, 0, NULL);
		rc = SPI_execute_plan(plan, NULL, NULL, false, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
		call->processed = SPI_processed;
		SPI_finish();
	}
	else
		check_deferred();
}

/*
 * As they would be at the beginning of the next transaction. Nothing fires by
 * this; it only needs names to be looked up in schemas that the role may not use.
 */
static void
defer_again(Run *run)
{
	ListCell   *lc;

	foreach(lc, run->deferred)
	{
		DeferredName *d = (DeferredName *) lfirst(lc);
		ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);
		Oid			userid;
		int			sec_context;

		stmt->deferred = true;
		stmt->constraints = list_make1(makeRangeVar(pstrdup(d->schema), pstrdup(d->name), -1));
		GetUserIdAndSecContext(&userid, &sec_context);
		SetUserIdAndSecContext(d->schema_owner, sec_context);
		AfterTriggerSetState(stmt);
		SetUserIdAndSecContext(userid, sec_context);
	}
}

/* The auth server's statement_timeout counts for each statement of its own, not for ours. */
static bool
start_timeout(const Run *run, TimestampTz *saved)
{
	TimestampTz finish;

	*saved = 0;
	if (run->statement_timeout <= 0)
		return false;
	finish = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), run->statement_timeout);
	if (get_timeout_active(STATEMENT_TIMEOUT))
	{
		*saved = get_timeout_finish_time(STATEMENT_TIMEOUT);
		if (*saved <= finish)
			return false;
	}
	enable_timeout_at(STATEMENT_TIMEOUT, finish);
	return true;
}

static void
stop_timeout(bool started, TimestampTz saved)
{
	if (!started)
		return;
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (saved != 0)
		enable_timeout_at(STATEMENT_TIMEOUT, saved);
}

/* Must it end the whole call? What a body raises under such a SQLSTATE, and the role's own timeout, is a result. */
static bool
ends_the_probe(const ErrorData *e, bool timeout_started)
{
	if (!caller_must_rethrow(e->sqlerrcode) || raised_by_code(e))
		return false;
	return !(timeout_started && e->sqlerrcode == ERRCODE_QUERY_CANCELED && e->message != NULL &&
			 strstr(e->message, "statement timeout") != NULL);
}

/*
 * PostgreSQL puts back what SET CONSTRAINTS has set when the subtransaction
 * aborts in which it was set, but not when one around it does. So each one that
 * is undone in the end begins with setting it, to what a new transaction finds.
 */
static void
begin_transaction(Run *run)
{
	if (!run->can_defer)
		return;
	check_deferred();
	defer_again(run);
}

static ErrorData *
attempt(Run *run, StepCall *call, bool keep)
{
	ErrorContextCallback *contexts = error_context_stack;
	TimestampTz saved;
	bool		started = start_timeout(run, &saved);
	ErrorData  *e;

	/* who called us has no place in the call stack of the step */
	error_context_stack = NULL;
	e = plan_contained(run_step, call, keep);
	error_context_stack = contexts;
	stop_timeout(started, saved);
	if (e != NULL && ends_the_probe(e, started))
		ReThrowError(plan_lasting(e));
	return e;
}

/* Somebody else's lock, or a conflict with them: nothing of a signup's own. */
static bool
is_conflict(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

static void
describe_failure(Run *run, ProbeStep *step, const ErrorData *e, const char *sql)
{
	step->outcome = raised_by_code(e) ? PROBE_REFUSED : PROBE_FAILED;
	step->sqlstate = pstrdup(unpack_sql_state(e->sqlerrcode));
	step->message = without_values(run, e);
	step->table = qualified(e->schema_name, e->table_name);
	step->column = e->column_name;
	step->constraint = e->constraint_name;
	read_context(run, step, e->context, sql);

	/* what the code of a session may do, that of a probe may not, and may fail for the want of it */
	if (fence_raised(e) || fence_met() != NULL)
		step->outcome = PROBE_UNKNOWN;
	else if (e->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && e->message != NULL &&
		strstr(e->message, "within security-definer function") != NULL)
	{
		step->outcome = PROBE_UNKNOWN;
		step->message = psprintf("%s (no probe can tell whether a signup could)", step->message);
	}
	else if (is_conflict(e->sqlerrcode) && !raised_by_code(e))
	{
		step->outcome = PROBE_UNKNOWN;
		step->message = psprintf("%s (somebody else is in the way: try again)", step->message);
	}
}

/* Nothing more is tried after what no rollback would have undone. */
static bool
try_statement(Run *run, const char *name, const char *sql, bool writes)
{
	StepCall	call = {.sql = sql};
	ErrorData  *e = attempt(run, &call, true);
	ProbeStep  *step = add_step(run, name);

	if (e != NULL)
		describe_failure(run, step, e, sql);
	else if (fence_met() != NULL)
	{
		step->outcome = PROBE_UNKNOWN;
		step->message = "what a rollback does not undo was not run";
	}
	else if (writes && call.processed == 0)
	{
		step->outcome = PROBE_FAILED;
		step->message = "the statement wrote no row: a BEFORE trigger returned NULL, or a rule or a policy is in the way";
	}
	return step->outcome == PROBE_OK;
}

static bool
try_step(Run *run, const char *name, const char *sql)
{
	return try_statement(run, name, sql, true);
}

static void report_quarantine(Run *run);

/*
 * The end of what the auth server does in one transaction. The checks are made
 * in the subtransaction that is undone in the end, for the sake of
 * begin_transaction(): a failure ends it, and try_apart() writes it down.
 */
static bool
try_commit(Run *run, const char *name)
{
	ErrorContextCallback *contexts = error_context_stack;
	StepCall	call = {.sql = NULL};
	ErrorData  *e = NULL;
	ProbeStep  *step;

	report_quarantine(run);
	if (run->can_defer)
	{
		run->commit_began = true;
		run->commit_name = name;
		run->timeout_started = start_timeout(run, &run->timeout_saved);
		error_context_stack = NULL;
		check_deferred();
		error_context_stack = contexts;
		stop_timeout(run->timeout_started, run->timeout_saved);
		run->commit_began = false;
		defer_again(run);
	}
	else
		e = attempt(run, &call, false);
	step = add_step(run, name);
	if (e != NULL)
		describe_failure(run, step, e, NULL);
	return step->outcome == PROBE_OK && fence_met() == NULL;
}

static SavedPlan quarantine_plan = {
	.sql = "SELECT coalesce(pg_catalog.quote_ident(t.schema_name) OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(t.table_name), "
	"pg_catalog.quote_ident(q.trigger_name) OPERATOR(pg_catalog.||) ' ON auth.users'), "
	"q.sqlstate, q.message, q.constraint_name::pg_catalog.text, q.column_name::pg_catalog.text, q.context, q.target_id IS NOT NULL, q.action "
	"FROM invite_sync.quarantine_entry AS q LEFT JOIN invite_sync.target AS t ON t.id OPERATOR(pg_catalog.=) q.target_id "
	"WHERE q.user_id OPERATOR(pg_catalog.=) $1 AND q.message OPERATOR(pg_catalog.!~~) 'link_pending%' ORDER BY q.id",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan forget_quarantine_plan = {
	.sql = "DELETE FROM invite_sync.quarantine_entry AS q WHERE q.user_id OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/*
 * Our own triggers fail no signup: what they contain is in quarantine, for as
 * long as the probe lasts. Told once, hence forgotten.
 */
static void
report_quarantine(Run *run)
{
	Datum		args[1];
	Scope		scope;
	MemoryContext cxt = CurrentMemoryContext;

	args[0] = DirectFunctionCall1(uuid_in, CStringGetDatum(run->id));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&quarantine_plan, args, NULL, false, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(cxt);
		ErrorData	e;
		ProbeStep  *step = add_step(run, "sync");
		char	   *state = SPI_getvalue(row, desc, 2);
		char	   *value;
		bool		isnull;

		memset(&e, 0, sizeof(e));
		e.sqlerrcode = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
		e.message = SPI_getvalue(row, desc, 3);
		step->outcome = is_conflict(e.sqlerrcode) || fence_met() != NULL ? PROBE_UNKNOWN : PROBE_FAILED;
		step->sqlstate = pstrdup(state);
		value = SPI_getvalue(row, desc, 1);
		if (DatumGetBool(SPI_getbinval(row, desc, 7, &isnull)))
			step->table = value ? pstrdup(value) : NULL;
		step->message = psprintf("%s went to quarantine: %s", value ? value : "a target", without_values(run, &e));
		value = SPI_getvalue(row, desc, 4);
		step->constraint = value ? pstrdup(value) : NULL;
		value = SPI_getvalue(row, desc, 5);
		step->column = value ? pstrdup(value) : NULL;
		read_context(run, step, SPI_getvalue(row, desc, 6), NULL);
		MemoryContextSwitchTo(old);
	}
	if (SPI_processed > 0)
		plan_execute(&forget_quarantine_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * What the auth server says
 * ---------------------------------------------------------------------
 */

typedef struct ColumnValue
{
	const char *name;			/* with a ? in front: not every auth schema has it */
	const char *value;			/* SQL */
} ColumnValue;

static Oid
auth_table(const char *name)
{
	Oid			nsp = get_namespace_oid("auth", true);

	return OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;
}

/* The column's name; NULL: not in this auth schema. */
static const char *
column_there(Oid relid, const char *name)
{
	if (*name == '?' && get_attnum(relid, ++name) == InvalidAttrNumber)
		return NULL;
	return name;
}

/* Where there is no such table: NULL, and nothing is said of it. */
static char *
insert_sql(const char *table, const ColumnValue *columns, size_t n)
{
	Oid			relid = auth_table(table);
	StringInfoData names;
	StringInfoData values;

	if (!OidIsValid(relid))
		return NULL;
	initStringInfo(&names);
	initStringInfo(&values);
	for (size_t i = 0; i < n; i++)
	{
		const char *name = column_there(relid, columns[i].name);

		if (name == NULL)
			continue;
		appendStringInfo(&names, "%s%s", names.len ? ", " : "", quote_identifier(name));
		appendStringInfo(&values, "%s%s", values.len ? ", " : "", columns[i].value);
	}
	return psprintf("INSERT INTO auth.%s (%s) VALUES (%s)", quote_identifier(table), names.data, values.data);
}

/* Rows of the user, or of the key given. */
static char *
update_sql(const char *table, const ColumnValue *columns, size_t n, const char *key, const char *value)
{
	Oid			relid = auth_table(table);
	StringInfoData set;

	if (!OidIsValid(relid))
		return NULL;
	initStringInfo(&set);
	for (size_t i = 0; i < n; i++)
	{
		const char *name = column_there(relid, columns[i].name);

		if (name != NULL)
			appendStringInfo(&set, "%s%s = %s", set.len ? ", " : "", quote_identifier(name), columns[i].value);
	}
	return psprintf("UPDATE auth.%s SET %s WHERE %s OPERATOR(pg_catalog.=) %s",
					quote_identifier(table), set.data, quote_identifier(key), quote_literal_cstr(value));
}

static char *
delete_sql(const char *table, const char *where)
{
	return OidIsValid(auth_table(table)) ? psprintf("DELETE FROM auth.%s WHERE %s", quote_identifier(table), where) : NULL;
}

#define NOW		"pg_catalog.now()"

/* One column of the user and when that was. */
static char *
set_user_sql(const Run *run, const char *column, const char *value)
{
	ColumnValue set[] = {{column, value}, {"updated_at", NOW}};

	return update_sql("users", set, lengthof(set), "id", run->id);
}

static bool
has_column(const Run *run, const char *name)
{
	return get_attnum(run->auth_users, name) != InvalidAttrNumber;
}

/* Not in this auth schema: nothing is said of it. */
static bool
try_if_there(Run *run, const char *name, char *sql)
{
	return sql == NULL || try_step(run, name, sql);
}

/* The same for what mostly has no row to write. */
static bool
try_any(Run *run, const char *name, char *sql)
{
	return sql == NULL || try_statement(run, name, sql, false);
}

static char *
random_uuid(void)
{
	pg_uuid_t	id;

	if (!pg_strong_random(id.data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	id.data[6] = (id.data[6] & 0x0f) | 0x40;
	id.data[8] = (id.data[8] & 0x3f) | 0x80;
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id)));
}

static char *
literal_or_null(const char *text)
{
	return text ? quote_literal_cstr(text) : pstrdup("NULL");
}

static void
add_member(StringInfo json, const char *key, const char *value)
{
	if (json->len > 1)
		appendStringInfoString(json, ", ");
	escape_json(json, key);
	appendStringInfoString(json, ": ");
	escape_json(json, value);
}

/* The members of two JSON objects; where both have one, it is there twice, and jsonb takes the last. */
static char *
merged(const char *a, const char *b)
{
	int			n = strlen(a) - 1;

	return psprintf("%.*s%s%s", n, a, n > 1 && b[1] != '}' ? ", " : "", b + 1);
}

/* A value for a key of a form, or NULL where only the application knows one. */
static const char *
form_value(const Run *run, const char *key, const char *type)
{
	size_t		len = strlen(key);

	if (type == NULL || strcmp(type, "text") == 0 || strcmp(type, "varchar") == 0 || strcmp(type, "citext") == 0)
	{
		if (strstr(key, "email") != NULL)
			return run->email;
		if (strstr(key, "phone") != NULL)
			return "99900000000";
		if (strstr(key, "url") != NULL || strstr(key, "avatar") != NULL || strcmp(key, "picture") == 0)
			return "https://probe.invalid/probe.png";
		if (strstr(key, "user_name") != NULL || strstr(key, "username") != NULL)
			return psprintf("probe_%.8s", run->id);
		/* they name a row, or one of a few words */
		if ((len > 3 && strcmp(key + len - 3, "_id") == 0) || strcmp(key, "id") == 0 || strstr(key, "role") != NULL ||
			strstr(key, "type") != NULL || strstr(key, "plan") != NULL || strstr(key, "status") != NULL ||
			strstr(key, "token") != NULL || strstr(key, "code") != NULL)
			return NULL;
		return psprintf("Probe %.8s", run->id);
	}
	if (starts(type, "int") || starts(type, "bigint") || starts(type, "smallint") || starts(type, "numeric") ||
		starts(type, "decimal") || starts(type, "float") || starts(type, "double") || strcmp(type, "real") == 0)
		return "30";
	if (starts(type, "bool"))
		return "true";
	if (starts(type, "timestamp") || strcmp(type, "date") == 0)
		return "2000-01-01";
	return NULL;
}

/* What a form sends: what the bodies within reach ask for, and what forms send anyway. */
static char *
form_metadata(Run *run)
{
	static const char *const usual[] = {"full_name", "name", "first_name", "last_name", "username", "avatar_url"};
	StringInfoData json;
	ListCell   *lc;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (size_t i = 0; i < lengthof(usual); i++)
		add_member(&json, usual[i], form_value(run, usual[i], NULL));
	foreach(lc, run->walk.keys)
	{
		MetadataKey *key = (MetadataKey *) lfirst(lc);
		const char *value;
		bool		told = false;

		for (size_t i = 0; i < lengthof(usual); i++)
			told = told || strcmp(usual[i], key->name) == 0;
		value = told || run->usual_form ? NULL : form_value(run, key->name, key->type);
		if (value != NULL)
		{
			add_member(&json, key->name, value);
			run->made_up = true;
		}
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

static void
make_user(Run *run)
{
	const char *provider = run->kind == PROBE_OAUTH ? "google" : run->kind == PROBE_PHONE ? "phone" : "email";

	run->id = random_uuid();
	run->email = psprintf("probe-%s@probe.invalid", run->id);
	run->changed_email = psprintf("probe-%s@probe.invalid", random_uuid());
	run->phone = NULL;
	run->metadata = "{}";
	run->made_up = false;
	if (run->kind == PROBE_EMAIL)
		run->metadata = form_metadata(run);
	else if (run->kind == PROBE_OAUTH)
		run->metadata = psprintf("{\"iss\": \"https://accounts.google.com\", \"sub\": \"%s\", \"name\": \"Probe %.8s\", \"email\": \"%s\", "
								 "\"picture\": \"https://probe.invalid/probe.png\", \"full_name\": \"Probe %.8s\", \"avatar_url\": \"https://probe.invalid/probe.png\", "
								 "\"provider_id\": \"%s\", \"email_verified\": true, \"phone_verified\": false}",
								 run->id, run->id, run->email, run->id, run->id);
	run->app_metadata = psprintf("{\"provider\": \"%s\", \"providers\": [\"%s\"]}", provider, provider);
	if (run->kind == PROBE_ANONYMOUS)
		run->app_metadata = "{}";
	if (run->kind == PROBE_PHONE || run->kind == PROBE_ANONYMOUS)
		run->email = NULL;
	if (run->kind == PROBE_PHONE)
	{
		uint64		digits;

		if (!pg_strong_random(&digits, sizeof(digits)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		run->phone = psprintf("999" "%011llu", (unsigned long long) (digits % UINT64CONST(100000000000)));
	}
	run->identity = random_uuid();
	run->session = NULL;
	run->refresh_token = NULL;
	run->identity_data = run->metadata;
	if (run->kind != PROBE_OAUTH)
		run->identity_data = merged(run->metadata, psprintf("{\"sub\": \"%s\"%s%s%s, \"email_verified\": false, \"phone_verified\": false}", run->id,
															run->email ? ", \"email\": \"" : "", run->email ? run->email : "", run->email ? "\"" : ""));
	run->own = psprintf("%s %s %s %s %s", run->id, run->email ? run->email : "", run->changed_email,
						run->phone ? run->phone : "", run->metadata);
}

/* A token for a mail or a message: on the user and, since 2024, in a table. */
static bool
try_token(Run *run, const char *step, const char *type, const char *relates_to, const ColumnValue *set, size_t n, const char *token)
{
	const char *id = quote_literal_cstr(run->id);
	const char *quoted_type = quote_literal_cstr(type);
	ColumnValue row[] = {
		{"id", quote_literal_cstr(random_uuid())}, {"user_id", id}, {"token_type", quoted_type}, {"token_hash", token},
		{"relates_to", quote_literal_cstr(relates_to)}, {"created_at", "LOCALTIMESTAMP"}, {"updated_at", "LOCALTIMESTAMP"}
	};

	return (set == NULL || try_step(run, step, update_sql("users", set, n, "id", run->id))) &&
		try_any(run, "delete one-time tokens",
				delete_sql("one_time_tokens", psprintf("token_type OPERATOR(pg_catalog.=) %s AND user_id OPERATOR(pg_catalog.=) %s", quoted_type, id))) &&
		try_if_there(run, "insert one-time token", insert_sql("one_time_tokens", row, lengthof(row)));
}

static bool
try_forget_tokens(Run *run)
{
	return try_any(run, "delete one-time tokens",
				   delete_sql("one_time_tokens", psprintf("user_id OPERATOR(pg_catalog.=) %s", quote_literal_cstr(run->id))));
}

/* What happens is written down, unless the server is told not to. */
static bool
try_audit(Run *run, const char *action, const char *log_type)
{
	StringInfoData payload;
	ColumnValue entry[] = {
		{"instance_id", "'00000000-0000-0000-0000-000000000000'"}, {"id", quote_literal_cstr(random_uuid())}, {"payload", NULL},
		{"created_at", NOW}, {"?ip_address", "''"}
	};

	initStringInfo(&payload);
	appendStringInfoChar(&payload, '{');
	add_member(&payload, "action", action);
	add_member(&payload, "actor_id", run->id);
	add_member(&payload, "actor_username", run->email ? run->email : run->phone ? run->phone : "");
	add_member(&payload, "log_type", log_type);
	appendStringInfoString(&payload, ", \"actor_via_sso\": false}");
	entry[2].value = quote_literal_cstr(payload.data);
	return try_if_there(run, "insert audit log entry", insert_sql("audit_log_entries", entry, lengthof(entry)));
}

static bool
try_metadata(Run *run, const char *json)
{
	return try_step(run, "update metadata", set_user_sql(run, "raw_user_meta_data", quote_literal_cstr(json)));
}

static bool
try_app_metadata(Run *run)
{
	return try_step(run, "update app metadata", set_user_sql(run, "raw_app_meta_data", quote_literal_cstr(run->app_metadata)));
}

/* A session and its first token, as they end every way of logging in. */
static bool
try_session(Run *run, const char *method)
{
	const char *id = quote_literal_cstr(run->id);
	const char *session;
	ColumnValue login[] = {
		{"id", NULL}, {"user_id", id}, {"created_at", NOW}, {"updated_at", NOW}, {"?factor_id", "NULL"},
		{"?aal", "'aal1'"}, {"?not_after", "NULL"}, {"?refreshed_at", "NULL"}, {"?user_agent", "'invite_sync probe'"},
		{"?ip", "'192.0.2.1'"}, {"?tag", "NULL"}, {"?oauth_client_id", "NULL"}, {"?refresh_token_hmac_key", "NULL"},
		{"?refresh_token_counter", "NULL"}, {"?scopes", "NULL"}
	};
	ColumnValue refresh[] = {
		{"instance_id", "'00000000-0000-0000-0000-000000000000'"}, {"token", NULL}, {"user_id", id}, {"revoked", "false"},
		{"created_at", NOW}, {"updated_at", NOW}, {"?parent", "NULL"}, {"?session_id", NULL}
	};
	ColumnValue claim[] = {
		{"id", quote_literal_cstr(random_uuid())}, {"session_id", NULL}, {"created_at", NOW}, {"updated_at", NOW},
		{"authentication_method", quote_literal_cstr(method)}
	};

	run->session = random_uuid();
	run->refresh_token = pnstrdup(random_uuid(), 12);
	session = quote_literal_cstr(run->session);
	login[0].value = refresh[7].value = claim[1].value = session;
	refresh[1].value = quote_literal_cstr(run->refresh_token);
	return try_if_there(run, "insert session", insert_sql("sessions", login, lengthof(login))) &&
		try_if_there(run, "insert refresh token", insert_sql("refresh_tokens", refresh, lengthof(refresh))) &&
		try_step(run, "update last sign-in", set_user_sql(run, "last_sign_in_at", NOW)) &&
		try_if_there(run, "insert authentication method", insert_sql("mfa_amr_claims", claim, lengthof(claim)));
}

/* What a mail or a provider has proved. */
static bool
try_confirm(Run *run)
{
	ColumnValue set[] = {{"confirmation_token", "''"}, {run->phone ? "phone_confirmed_at" : "email_confirmed_at", NOW}, {"updated_at", NOW}};

	return try_step(run, "confirm user", update_sql("users", set, lengthof(set), "id", run->id)) &&
		(run->phone != NULL || try_metadata(run, merged(run->metadata, "{\"email_verified\": true}"))) &&
		try_forget_tokens(run);
}

/*
 * Statements, their columns and their order are those of the auth server. The
 * role of a new user comes with an UPDATE of its own, and so does all that is
 * known of its provider: triggers on INSERT do not see it.
 */
static bool
try_signup(Run *run)
{
	const char *id = quote_literal_cstr(run->id);
	bool		oauth = run->kind == PROBE_OAUTH;
	bool		anonymous = run->kind == PROBE_ANONYMOUS;
	bool		invited = run->kind == PROBE_INVITED;
	const char *token = quote_literal_cstr(random_uuid());
	const char *password = oauth || anonymous || invited ? "''" : "'$2a$10$PROBEPROBEPROBEPROBEPROBEPROBEPROBEPROBEPROBEPROBEPROBE'";
	const char *provider = oauth ? "'google'" : run->phone ? "'phone'" : "'email'";
	ColumnValue user[] = {
		{"aud", "'authenticated'"}, {"?banned_until", "NULL"}, {"confirmation_sent_at", "NULL"}, {"confirmation_token", "''"},
		{"created_at", NOW}, {"?deleted_at", "NULL"}, {"email", literal_or_null(run->email)}, {"email_change", "''"},
		{"?email_change_confirm_status", "0"}, {"email_change_sent_at", "NULL"}, {"?email_change_token_current", "''"},
		{"email_change_token_new", "''"}, {"email_confirmed_at", "NULL"}, {"encrypted_password", password}, {"id", id},
		{"instance_id", "'00000000-0000-0000-0000-000000000000'"}, {"invited_at", "NULL"},
		{"?is_anonymous", anonymous ? "true" : "false"}, {"?is_sso_user", "false"}, {"last_sign_in_at", "NULL"},
		{"?phone", literal_or_null(run->phone)}, {"?phone_change", "''"}, {"?phone_change_sent_at", "NULL"}, {"?phone_change_token", "''"},
		{"?phone_confirmed_at", "NULL"}, {"raw_app_meta_data", quote_literal_cstr(run->app_metadata)},
		{"raw_user_meta_data", quote_literal_cstr(run->metadata)}, {"?reauthentication_sent_at", "NULL"}, {"?reauthentication_token", "''"},
		{"recovery_sent_at", "NULL"}, {"recovery_token", "''"}, {"role", "''"}, {"updated_at", NOW}
	};
	ColumnValue identity[] = {
		{"created_at", NOW}, {"id", quote_literal_cstr(run->identity)}, {"identity_data", quote_literal_cstr(run->identity_data)},
		{"last_sign_in_at", NOW}, {"provider", provider}, {"?provider_id", id}, {"updated_at", NOW}, {"user_id", id}
	};
	ColumnValue mail[] = {
		{"confirmation_sent_at", NOW}, {"confirmation_token", token}, {"updated_at", NOW}, {"invited_at", NOW}
	};

	if (anonymous && !has_column(run, "is_anonymous"))
		return false;
	if (!try_step(run, "insert user", insert_sql("users", user, lengthof(user))) ||
		!try_step(run, "update role", set_user_sql(run, "role", "'authenticated'")))
		return false;
	if (anonymous)
		return try_session(run, "anonymous") && try_commit(run, "commit signup");
	if (!try_if_there(run, "insert identity", insert_sql("identities", identity, lengthof(identity))))
		return false;
	if (oauth)
	{
		if (!try_step(run, "update password", set_user_sql(run, "encrypted_password", "NULL")) ||
			!try_metadata(run, run->metadata) ||
			!try_app_metadata(run) ||
			!try_audit(run, "user_signedup", "team") ||
			!try_confirm(run) ||
			!try_session(run, "oauth"))
			return false;
	}
	else if (!(invited || (try_metadata(run, merged(run->metadata, run->identity_data)) && try_app_metadata(run))) ||
			 !try_audit(run, invited ? "user_invited" : "user_confirmation_requested", invited ? "team" : "user") ||
			 !try_token(run, "update confirmation token", "confirmation_token", run->phone ? run->phone : run->email,
						mail, invited ? lengthof(mail) : lengthof(mail) - 1, token))
		return false;
	return try_commit(run, "commit signup");
}

static bool
try_identity(Run *run, const char *column, const char *value)
{
	ColumnValue set[] = {{column, value}};

	return try_if_there(run, "update identity", update_sql("identities", set, lengthof(set), "id", run->identity));
}

/* What a change of password forgets. */
static bool
try_password(Run *run, const char *keep_session)
{
	const char *id = quote_literal_cstr(run->id);
	ColumnValue set[] = {
		{"confirmation_sent_at", "NULL"}, {"confirmation_token", "''"}, {"email_change_sent_at", "NULL"}, {"?email_change_token_current", "''"},
		{"email_change_token_new", "''"}, {"encrypted_password", "'$2a$10$CHANGEDCHANGEDCHANGEDCHANGEDCHANGEDCHANGEDCHANGEDCHANGEDCHA'"},
		{"?phone_change_sent_at", "NULL"}, {"?phone_change_token", "''"}, {"?reauthentication_sent_at", "NULL"}, {"?reauthentication_token", "''"},
		{"recovery_sent_at", "NULL"}, {"recovery_token", "''"}, {"updated_at", NOW}
	};
	char	   *others = psprintf("user_id OPERATOR(pg_catalog.=) %s", id);

	if (keep_session != NULL)
		others = psprintf("id OPERATOR(pg_catalog.<>) %s AND %s", quote_literal_cstr(keep_session), others);
	return try_step(run, "update password", update_sql("users", set, lengthof(set), "id", run->id)) &&
		try_forget_tokens(run) &&
		try_any(run, "delete sessions", delete_sql("sessions", others));
}

static void
try_login(void *arg)
{
	Run		   *run = (Run *) arg;
	bool		confirmed = run->kind == PROBE_OAUTH || run->kind == PROBE_ANONYMOUS;
	bool		password = run->kind != PROBE_INVITED && !confirmed;
	const char *next;

	begin_transaction(run);
	if (!confirmed)
	{
		/* who accepts an invitation has no password yet: the server makes one up */
		if ((run->kind == PROBE_INVITED && !try_password(run, NULL)) ||
			!try_audit(run, "user_signedup", "team") ||
			!try_confirm(run) ||
			(run->phone == NULL && !try_identity(run, "identity_data", quote_literal_cstr(merged(run->identity_data, "{\"email_verified\": true}")))) ||
			!try_app_metadata(run) ||
			!try_session(run, "otp") ||
			!try_commit(run, "commit confirmation"))
			return;
	}
	if (run->kind != PROBE_ANONYMOUS)
	{
		if (run->kind == PROBE_OAUTH &&
			(!try_identity(run, "last_sign_in_at", NOW) || !try_metadata(run, run->metadata) || !try_app_metadata(run)))
			return;
		if (!try_audit(run, "login", "account") ||
			!try_session(run, password ? "password" : run->kind == PROBE_OAUTH ? "oauth" : "otp") ||
			!try_commit(run, "commit login"))
			return;
	}
	if (!OidIsValid(auth_table("sessions")) || !OidIsValid(auth_table("refresh_tokens")))
		return;
	next = random_uuid();
	{
		ColumnValue revoke[] = {{"revoked", "true"}, {"updated_at", NOW}};
		ColumnValue refresh[] = {
			{"created_at", NOW}, {"instance_id", "'00000000-0000-0000-0000-000000000000'"}, {"?parent", quote_literal_cstr(run->refresh_token)},
			{"revoked", "false"}, {"?session_id", quote_literal_cstr(run->session)}, {"token", quote_literal_cstr(pnstrdup(next, 12))},
			{"updated_at", NOW}, {"user_id", quote_literal_cstr(run->id)}
		};
		ColumnValue session[] = {
			{"?ip", "'192.0.2.1'"}, {"?refreshed_at", "LOCALTIMESTAMP"}, {"updated_at", NOW}, {"?user_agent", "'invite_sync probe'"}
		};

		if (!try_audit(run, "token_refreshed", "token") ||
			!try_audit(run, "token_revoked", "token") ||
			!try_step(run, "revoke refresh token", update_sql("refresh_tokens", revoke, lengthof(revoke), "token", run->refresh_token)) ||
			!try_step(run, "insert refresh token", insert_sql("refresh_tokens", refresh, lengthof(refresh))) ||
			!try_step(run, "update last sign-in", set_user_sql(run, "last_sign_in_at", NOW)) ||
			!try_step(run, "update session", update_sql("sessions", session, lengthof(session), "id", run->session)) ||
			!try_commit(run, "commit refresh"))
			return;
	}
	if (try_audit(run, "logout", "account") &&
		try_step(run, "log out", delete_sql("sessions", psprintf("user_id OPERATOR(pg_catalog.=) %s", quote_literal_cstr(run->id)))))
		(void) try_commit(run, "commit logout");
}

static void
try_update(void *arg)
{
	Run		   *run = (Run *) arg;
	const char *current = quote_literal_cstr(random_uuid());
	const char *token = quote_literal_cstr(random_uuid());

	begin_transaction(run);
	if (!try_step(run, "update user metadata",
				  set_user_sql(run, "raw_user_meta_data",
							   quote_literal_cstr(merged(merged(run->metadata, run->identity_data), "{\"full_name\": \"Probe Changed\"}")))) ||
		!try_audit(run, "user_modified", "user") ||
		!try_commit(run, "commit user metadata"))
		return;
	if (!try_password(run, run->session ? run->session : run->id) ||
		!try_audit(run, "user_updated_password", "user") ||
		!try_audit(run, "user_modified", "user") ||
		!try_commit(run, "commit password") ||
		run->email == NULL)
		return;
	{
		ColumnValue request[] = {
			{"email_change", quote_literal_cstr(run->changed_email)}, {"?email_change_confirm_status", "0"}, {"email_change_sent_at", NOW},
			{"?email_change_token_current", current}, {"email_change_token_new", token}, {"updated_at", NOW}
		};
		ColumnValue half[] = {
			{"?email_change_confirm_status", "1"}, {"?email_change_token_current", "''"}, {"email_change_token_new", token}, {"updated_at", NOW}
		};
		ColumnValue whole[] = {
			{"email", quote_literal_cstr(run->changed_email)}, {"email_change", "''"}, {"?email_change_confirm_status", "0"},
			{"?email_change_token_current", "''"}, {"email_change_token_new", "''"}, {"updated_at", NOW}
		};
		StringInfoData data;

		initStringInfo(&data);
		appendStringInfoChar(&data, '{');
		add_member(&data, "email", run->changed_email);
		appendStringInfoChar(&data, '}');
		if (!try_token(run, "request change of email", "email_change_token_current", run->email, request, lengthof(request), current) ||
			!try_token(run, NULL, "email_change_token_new", run->changed_email, NULL, 0, token) ||
			!try_audit(run, "user_modified", "user") ||
			!try_commit(run, "commit request") ||
			!try_any(run, "delete one-time tokens",
					 delete_sql("one_time_tokens", psprintf("token_type OPERATOR(pg_catalog.=) 'email_change_token_current' AND user_id OPERATOR(pg_catalog.=) %s",
															quote_literal_cstr(run->id)))) ||
			!try_step(run, "confirm old email", update_sql("users", half, lengthof(half), "id", run->id)) ||
			!try_commit(run, "commit old email") ||
			!try_audit(run, "user_modified", "user") ||
			!try_identity(run, "identity_data", quote_literal_cstr(merged(run->identity_data, data.data))) ||
			!try_step(run, "update email", update_sql("users", whole, lengthof(whole), "id", run->id)) ||
			!try_forget_tokens(run) ||
			!try_app_metadata(run) ||
			!try_session(run, "otp"))
			return;
	}
	(void) try_commit(run, "commit email");
}

/* Its address and number are scrambled, whether it had any or not. */
static void
try_soft_delete(void *arg)
{
	Run		   *run = (Run *) arg;
	char	   *of_user = psprintf("user_id OPERATOR(pg_catalog.=) %s", quote_literal_cstr(run->id));
	const char *scrambled = quote_literal_cstr(random_uuid());
	const char *number = quote_literal_cstr(pnstrdup(random_uuid(), 15));
	ColumnValue set[] = {
		{"confirmation_token", "''"}, {"deleted_at", NOW}, {"email", scrambled}, {"email_change", quote_literal_cstr(random_uuid())},
		{"?email_change_token_current", "''"}, {"email_change_token_new", "''"}, {"encrypted_password", "NULL"}, {"?phone", number},
		{"?phone_change", number}, {"?phone_change_token", "''"}, {"recovery_token", "''"}, {"updated_at", NOW}
	};

	if (!has_column(run, "deleted_at"))
		return;
	begin_transaction(run);
	if (try_audit(run, "user_deleted", "team") &&
		try_step(run, "soft delete user", update_sql("users", set, lengthof(set), "id", run->id)) &&
		try_forget_tokens(run) &&
		try_metadata(run, "{}") &&
		try_step(run, "update app metadata", set_user_sql(run, "raw_app_meta_data", "'{}'")) &&
		try_any(run, "delete sessions", delete_sql("sessions", of_user)) &&
		(run->kind == PROBE_ANONYMOUS ||
		 (try_identity(run, "identity_data", "'{}'") &&
		  (get_attnum(auth_table("identities"), "provider_id") == InvalidAttrNumber ||
		   try_identity(run, "provider_id", scrambled)))) &&
		try_any(run, "delete factors", delete_sql("mfa_factors", of_user)))
		(void) try_commit(run, "commit soft deletion");
}

static void
try_delete(void *arg)
{
	Run		   *run = (Run *) arg;

	begin_transaction(run);
	if (try_audit(run, "user_deleted", "team") &&
		try_step(run, "delete user", delete_sql("users", psprintf("id OPERATOR(pg_catalog.=) %s", quote_literal_cstr(run->id)))))
		(void) try_commit(run, "commit deletion");
}

/* Each in a subtransaction of its own: what one of them does, another one does not find. */
static void
try_apart(Run *run, void (*fn) (void *))
{
	ErrorContextCallback *contexts = error_context_stack;
	ErrorData  *e = plan_contained(fn, run, false);

	error_context_stack = contexts;
	if (e == NULL)
		return;
	if (run->commit_began)
	{
		run->commit_began = false;
		stop_timeout(run->timeout_started, run->timeout_saved);
		if (!ends_the_probe(e, run->timeout_started))
		{
			describe_failure(run, add_step(run, run->commit_name), e, NULL);
			return;
		}
	}
	ReThrowError(plan_lasting(e));
}

static void
try_kind(void *arg)
{
	Run		   *run = (Run *) arg;
	int			actions = run->probe->actions;

	begin_transaction(run);
	make_user(run);
	if (!try_signup(run))
		return;
	if (actions & PROBE_UPDATE)
		try_apart(run, try_update);
	if ((actions & PROBE_LOGIN) && fence_met() == NULL)
		try_apart(run, try_login);
	if ((actions & PROBE_DELETE) && fence_met() == NULL)
		try_apart(run, try_soft_delete);
	if ((actions & PROBE_DELETE) && fence_met() == NULL)
		try_apart(run, try_delete);
}

/* May a value that was made up be what is refused? */
static bool
is_about_values(const ProbeStep *step)
{
	return step->outcome == PROBE_FAILED && step->sqlstate != NULL &&
		(starts(step->sqlstate, "22") || starts(step->sqlstate, "23"));
}

/*
 * A form sends numbers where the application wants numbers, and countries that
 * it knows. So what fails only with the values that were made up for it tells
 * nothing, and the usual ones show what comes behind.
 */
static void
try_user(Run *run)
{
	Probe	   *probe = run->probe;
	int			first = list_length(probe->steps);
	int			second;
	bool		told = false;

	run->usual_form = false;
	try_apart(run, try_kind);
	second = list_length(probe->steps);
	for (int i = first; i < second; i++)
		told = told || is_about_values(list_nth(probe->steps, i));
	if (!told || !run->made_up || fence_met() != NULL)
		return;

	run->usual_form = true;
	try_apart(run, try_kind);
	told = true;
	for (int i = first; i < second; i++)
	{
		ProbeStep  *step = (ProbeStep *) list_nth(probe->steps, i);
		bool		again = false;

		for (int k = second; k < list_length(probe->steps); k++)
			again = again || same_cause(step, (ProbeStep *) list_nth(probe->steps, k));
		if (again || !is_about_values(step))
			continue;
		step->outcome = PROBE_UNKNOWN;
		step->made_up = true;
		step->message = psprintf("%s (with metadata that the probe has made up)", step->message);
		told = false;
	}
	/* it has told nothing new */
	if (told)
		probe->steps = list_truncate(probe->steps, second);
}

/* ---------------------------------------------------------------------
 * The auth server's session
 * ---------------------------------------------------------------------
 */

/* What depends on how a session was begun or what it has set, and on what code may depend. */
static const char *const session_settings[] = {
	"search_path", "row_security", "session_replication_role", "statement_timeout", "lock_timeout",
	"DateStyle", "IntervalStyle", "TimeZone", "bytea_output", "extra_float_digits", "standard_conforming_strings",
	"transform_null_equals", "array_nulls", "quote_all_identifiers", "xmlbinary", "xmloption", "check_function_bodies",
	"default_tablespace", "default_table_access_method", "default_text_search_config", "plpgsql.variable_conflict",
	"plpgsql.check_asserts", "plpgsql.extra_errors", "plpgsql.extra_warnings"
};

/* Settings of roles and databases, the more particular ones last; of the role that asks, names only. */
static SavedPlan settings_plan = {
	.sql = "SELECT c.setting, s.setrole OPERATOR(pg_catalog.=) $1 OR s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid "
	"FROM pg_catalog.pg_db_role_setting AS s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c (setting) "
	"WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0, $1, $2]::pg_catalog.oid[]) "
	"AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase OPERATOR(pg_catalog.=) "
	"(SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) "
	"ORDER BY s.setrole OPERATOR(pg_catalog.=) $1, s.setrole, s.setdatabase",
	.nargs = 2,
	.argtypes = {OIDOID, OIDOID}
};

static SavedPlan boot_plan = {
	.sql = "SELECT s.name, CASE WHEN s.name OPERATOR(pg_catalog.=) ANY ($2) THEN s.boot_val ELSE s.reset_val END "
	"FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 2,
	.argtypes = {TEXTARRAYOID, TEXTARRAYOID}
};

static void
set_for_probe(const char *name, const char *value)
{
	/* whoever asks may not do all of this by itself; nothing of it remains */
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, DEBUG2, false);
}

/*
 * Settings that only applications know (request.jwt.claims, app.tenant): what
 * the session that asks, or its role, has for them the auth server has not.
 * Nothing can be made unknown again, so they are empty.
 */
static void
forget_settings(void)
{
	int			n;
	struct config_generic **settings = compat_settings(&n);
	List	   *names = NIL;
	ListCell   *lc;

	for (int i = 0; i < n; i++)
		if ((settings[i]->flags & GUC_CUSTOM_PLACEHOLDER) != 0 && settings[i]->source > PGC_S_DATABASE)
			names = lappend(names, pstrdup(settings[i]->name));
	foreach(lc, names)
		set_for_probe((char *) lfirst(lc), "");
}

static char *
setting_name(const char *setting)
{
	const char *equals = strchr(setting, '=');

	return equals ? pnstrdup(setting, equals - setting) : pstrdup(setting);
}

static Datum
text_list(List *list)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(list_length(list), 1));
	ListCell   *lc;
	int			n = 0;

	foreach(lc, list)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return n == 0 ? PointerGetDatum(construct_empty_array(TEXTOID)) : plan_array(elems, NULL, n, TEXTOID);
}

/* As if the auth server had just connected. To be called as the role, so that its own "role" setting has no effect. */
static void
take_settings(Run *run)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *apply = NIL;
	List	   *askers = NIL;
	List	   *names = NIL;
	List	   *defaults = NIL;
	Datum		args[2];
	Scope		scope;
	ListCell   *lc;

	for (size_t i = 0; i < lengthof(session_settings); i++)
		names = lappend(names, pstrdup(session_settings[i]));
	args[0] = ObjectIdGetDatum(run->role);
	args[1] = ObjectIdGetDatum(GetSessionUserId());
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&settings_plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		char	   *setting = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
		bool		theirs = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (theirs)
			apply = lappend(apply, setting);
		else
			askers = lappend(askers, setting_name(setting));
		MemoryContextSwitchTo(old);
	}
	args[0] = text_list(names);
	args[1] = text_list(askers);
	plan_execute(&boot_plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		char	   *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		defaults = lappend(defaults, psprintf("%s=%s", name, value ? value : ""));
		MemoryContextSwitchTo(old);
	}
	/* leaving the scope puts back what it has set, so what stays is set after it */
	scope_leave(&scope);
	SPI_finish();

	forget_settings();
	apply = list_concat(defaults, apply);
	foreach(lc, apply)
	{
		char	   *setting = (char *) lfirst(lc);
		char	   *name = setting_name(setting);

		/* the last one would end the session of who asked */
		if (pg_strcasecmp(name, "role") == 0 || pg_strcasecmp(name, "session_authorization") == 0 ||
			pg_strcasecmp(name, "transaction_timeout") == 0 || strchr(setting, '=') == NULL)
			continue;
		set_for_probe(name, strchr(setting, '=') + 1);
	}
	run->statement_timeout = StatementTimeout;
	if (LockTimeout == 0 || LockTimeout > LOCK_TIMEOUT_MS)
		set_for_probe("lock_timeout", psprintf("%d", LOCK_TIMEOUT_MS));
	/* these two may be known to another module */
	set_for_probe("request.jwt.claims", "");
	set_for_probe("request.jwt.claim.sub", "");
	/* what is contained is reported; nothing of it belongs in anybody's log */
	set_for_probe("client_min_messages", "error");
	set_for_probe("log_min_messages", "error");
	/* call stacks are read */
	set_for_probe("lc_messages", "C");
}

/* ---------------------------------------------------------------------
 * The whole
 * ---------------------------------------------------------------------
 */

static SavedPlan deferred_plan = {
	.sql = "SELECT n.nspname::pg_catalog.text, c.conname::pg_catalog.text, n.nspowner, pg_catalog.bool_and(c.condeferrable) "
	"FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.connamespace "
	"WHERE c.contype OPERATOR(pg_catalog.=) ANY ('{f,p,u,x,t}'::pg_catalog.\"char\"[]) "
	"AND (n.nspname, c.conname) OPERATOR(pg_catalog.=) ANY (SELECT n2.nspname, c2.conname FROM pg_catalog.pg_constraint AS c2 "
	"JOIN pg_catalog.pg_namespace AS n2 ON n2.oid OPERATOR(pg_catalog.=) c2.connamespace WHERE c2.condeferred) "
	"GROUP BY n.nspname, c.conname, n.nspowner",
	.nargs = 0
};

/* Which are on these tables and on all of schema auth, and are neither ours nor PostgreSQL's. */
static SavedPlan triggers_plan = {
	.sql = "SELECT t.oid, pg_catalog.concat(pg_catalog.quote_ident(t.tgname), ' ON ', pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)), "
	"t.tgfoid, n.nspname OPERATOR(pg_catalog.=) 'auth' "
	"FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
	"JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid "
	"JOIN pg_catalog.pg_namespace AS f ON f.oid OPERATOR(pg_catalog.=) p.pronamespace "
	"WHERE (n.nspname OPERATOR(pg_catalog.=) 'auth' OR c.oid OPERATOR(pg_catalog.=) ANY ($1)) "
	"AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog.\"char\"[]) "
	"AND (f.nspname OPERATOR(pg_catalog.<>) 'invite_sync' OR p.proname OPERATOR(pg_catalog.=) 'guard') "
	"ORDER BY n.nspname OPERATOR(pg_catalog.<>) 'auth', n.nspname, c.relname, t.tgname",
	.nargs = 1,
	.argtypes = {OIDARRAYOID}
};

static const char *const written_tables[] = {
	"users", "identities", "sessions", "refresh_tokens", "one_time_tokens", "audit_log_entries", "mfa_amr_claims", "mfa_factors"
};

/*
 * Where deferred triggers of the caller's own transaction wait, which the first
 * checks of ours fire; and tables of ours that somebody has put a trigger on.
 */
static SavedPlan more_plan = {
	.sql = "SELECT DISTINCT t.tgrelid, n.nspname OPERATOR(pg_catalog.=) 'invite_sync' FROM pg_catalog.pg_trigger AS t "
	"JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
	"WHERE NOT t.tgisinternal AND (t.tgdeferrable OR n.nspname OPERATOR(pg_catalog.=) 'invite_sync')",
	.nargs = 0
};

static void
read_catalogs(Run *run)
{
	Scope		scope;
	SyncTargetCheck *checks;
	int			nchecks = sync_check_targets(&checks);
	Oid		   *roots;
	int			n = 0;
	bool		isnull;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&deferred_plan, NULL, NULL, true, 0);
	run->can_defer = true;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old;
		DeferredName *d;

		/* a name that cannot be deferred as a whole stays as it is, and so do all */
		if (!DatumGetBool(SPI_getbinval(row, desc, 4, &isnull)))
		{
			run->can_defer = false;
			continue;
		}
		old = MemoryContextSwitchTo(run->cxt);
		d = palloc(sizeof(DeferredName));
		d->schema = SPI_getvalue(row, desc, 1);
		d->name = SPI_getvalue(row, desc, 2);
		d->schema_owner = DatumGetObjectId(SPI_getbinval(row, desc, 3, &isnull));
		d->schema = MemoryContextStrdup(run->cxt, d->schema);
		d->name = MemoryContextStrdup(run->cxt, d->name);
		run->deferred = lappend(run->deferred, d);
		MemoryContextSwitchTo(old);
	}
	plan_execute(&more_plan, NULL, NULL, true, 0);
	roots = MemoryContextAllocZero(run->cxt, sizeof(Oid) * (SPI_processed + nchecks + lengthof(written_tables) + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Oid			relid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull)) ||
			AfterTriggerPendingOnRel(relid))
			roots[n++] = relid;
	}
	scope_leave(&scope);
	SPI_finish();
	for (size_t i = 0; i < lengthof(written_tables); i++)
	{
		Oid			relid = auth_table(written_tables[i]);

		if (OidIsValid(relid))
			roots[n++] = relid;
	}
	for (int i = 0; i < nchecks; i++)
		if (OidIsValid(checks[i].relid) && checks[i].enabled)
			roots[n++] = checks[i].relid;
	effect_walk(&run->walk, roots, n);
}

static void
read_triggers(Run *run)
{
	Datum	   *relations = palloc(sizeof(Datum) * Max(list_length(run->walk.relations), 1));
	Datum		args[1];
	Scope		scope;
	ListCell   *lc;
	bool		isnull;
	int			n = 0;

	foreach(lc, run->walk.relations)
		relations[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	args[0] = n == 0 ? PointerGetDatum(construct_empty_array(OIDOID)) : plan_array(relations, NULL, n, OIDOID);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&triggers_plan, args, NULL, true, 0);
	run->triggers = MemoryContextAllocZero(run->cxt, sizeof(CustomTrigger) * Max(SPI_processed, 1));
	run->ntriggers = (int) SPI_processed;
	for (int i = 0; i < run->ntriggers; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		CustomTrigger *t = &run->triggers[i];
		MemoryContext old;

		t->oid = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		t->name = MemoryContextStrdup(run->cxt, SPI_getvalue(row, desc, 2));
		if (DatumGetBool(SPI_getbinval(row, desc, 4, &isnull)))
			continue;
		old = MemoryContextSwitchTo(run->cxt);
		t->function = effect_function_name(DatumGetObjectId(SPI_getbinval(row, desc, 3, &isnull)));
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
}

/* Is it worth a run without it? Further on only where a step has failed in it. */
static bool
may_be_to_blame(const Run *run, const CustomTrigger *trigger)
{
	ListCell   *lc;

	if (trigger->function == NULL)
		return true;
	foreach(lc, run->probe->steps)
	{
		const ProbeStep *step = (ProbeStep *) lfirst(lc);
		ListCell   *f;

		if (step->outcome != PROBE_OK && step->without_trigger == NULL)
			foreach(f, step->functions)
				if (strcmp((char *) lfirst(f), trigger->function) == 0)
					return true;
	}
	return false;
}

/* One at a time. Not a key that pg_advisory_lock() could hold. */
static void
lock_probes(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0x696e7673, 0x70726f62, 3);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("another session is probing this database"),
				 errhint("One probe runs at a time: try again when it is done.")));
}

/* What only running it has shown: the step that met it names the place, where the statement does not. */
static void
tell_met(Run *run)
{
	const Effect *met = fence_met();
	const ProbeStep *step = run->probe->steps ? (ProbeStep *) llast(run->probe->steps) : NULL;
	Effect	   *effect;

	if (met == NULL)
		return;
	effect = palloc(sizeof(Effect));
	*effect = *met;
	if (effect->object == NULL)
	{
		bool		known = step != NULL && step->function != NULL;
		ListCell   *lc;

		effect->object = known ? step->function : "auth.users";
		effect->line = known ? step->line : 0;
		effect->function = InvalidOid;
		foreach(lc, run->walk.functions)
		{
			/* NULL: dropped since it was read */
			char	   *name = effect_function_name(lfirst_oid(lc));

			if (known && name != NULL && strcmp(name, effect->object) == 0)
				effect->function = lfirst_oid(lc);
		}
	}
	run->probe->effects = lappend(run->probe->effects, effect);
}

static void
run_all(void *arg)
{
	Run		   *run = (Run *) arg;
	Probe	   *probe = run->probe;
	Oid			userid;
	int			sec_context;
	StepCall	pending = {.sql = NULL};
	ErrorData  *e = NULL;

	lock_probes();
	read_catalogs(run);
	if (probe->isolate)
		read_triggers(run);
	probe->effects = run->walk.effects;
	if (probe->effects != NIL && !probe->allow_side_effects)
		return;

	MemoryContextSwitchTo(run->cxt);
	fence_enter(&run->walk, !probe->allow_side_effects);

	/* abort puts both back, and the settings */
	(void) NewGUCNestLevel();
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(run->role, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	take_settings(run);

	/* what the caller's own transaction has left for its COMMIT is no part of the first step */
	run->own = "";
	e = attempt(run, &pending, false);
	if (e != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the transaction waits for deferred constraints that fail"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(e->sqlerrcode)),
				 errhint("Commit or roll back what was written before, then probe.")));
	begin_transaction(run);

	for (int t = -1; t < (probe->isolate ? run->ntriggers : 0); t++)
	{
		if (t >= 0 && !may_be_to_blame(run, &run->triggers[t]))
			continue;
		fence_switch_off(t < 0 ? InvalidOid : run->triggers[t].oid);
		run->without = t < 0 ? NULL : run->triggers[t].name;
		for (int k = 0; k < PROBE_KINDS; k++)
		{
			if (!(probe->kinds & (1 << k)) || fence_met() != NULL)
				continue;
			run->kind = (ProbeKind) k;
			try_user(run);
		}
	}
	tell_met(run);
}

void
probe_require_writable(void)
{
	if (RecoveryInProgress() || XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("a probe cannot run in a read-only transaction"),
				 errdetail("It writes, and rolls back what it has written."),
				 errhint("Call it in a transaction that may write, on the primary: in psql, or by probe_signup() and its like, which PostgREST does not run READ ONLY.")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("a probe cannot run during a parallel operation")));
	if (InSecurityRestrictedOperation() || probe_is_running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a probe cannot run here"),
				 errhint("Call it directly, not from an index, a materialized view, a trigger of a target, or another probe.")));
}

static Oid
auth_server_role(void)
{
	Oid			role = get_role_oid(AUTH_ROLE, true);

	if (!OidIsValid(role))
		role = caller_auth_owner();
	if (superuser_arg(role))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the auth server's role is a superuser"),
				 errdetail("Whatever fires at a signup would run as that superuser."),
				 errhint("ALTER ROLE %s NOSUPERUSER;", quote_identifier(GetUserNameFromId(role, false)))));
	return role;
}

void
probe_run(Probe *probe)
{
	Run		   *run = palloc0(sizeof(Run));
	ErrorData  *volatile e = NULL;

	probe_require_writable();
	run->probe = probe;
	run->cxt = CurrentMemoryContext;
	run->own = "";
	run->auth_users = caller_auth_users_relid(false);
	run->role = auth_server_role();

	probe_is_running = true;
	caller_probed_role = run->role;
	PG_TRY();
	{
		e = plan_contained(run_all, run, false);
	}
	PG_FINALLY();
	{
		fence_leave();
		probe_is_running = false;
		caller_probed_role = InvalidOid;
	}
	PG_END_TRY();
	if (e != NULL)
		ReThrowError(plan_lasting(e));
}

/* ---------------------------------------------------------------------
 * For doctor(probe => true)
 * ---------------------------------------------------------------------
 */

/* Steps that failed for one reason. */
typedef struct ProbeCause
{
	const ProbeStep *first;
	List	   *kinds;			/* of char *, each once */
	List	   *steps;
	DoctorSeverity severity;
	List	   *functions;		/* those of the call stack, innermost first */
} ProbeCause;

static char *
joined(List *list)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, list)
		appendStringInfo(&buf, "%s%s", buf.len ? ", " : "", (char *) lfirst(lc));
	return buf.data;
}

/* Whether there are users of kinds that most auth servers do not let in. */
typedef struct KindsInUse
{
	bool		oauth;
	bool		phone;
	bool		anonymous;
} KindsInUse;

static SavedPlan kinds_plan = {
	.sql = "SELECT EXISTS (SELECT 1 FROM " CALLER_AUTH_USERS " AS u WHERE u.is_anonymous), "
	"EXISTS (SELECT 1 FROM " CALLER_AUTH_USERS " AS u WHERE u.email IS NULL AND NOT u.is_anonymous), "
	"EXISTS (SELECT 1 FROM auth.identities AS i WHERE i.provider OPERATOR(pg_catalog.<>) ALL ('{email,phone}'::pg_catalog.text[]))",
	.nargs = 0
};

static void
find_kinds(Doctor *doctor, void *arg)
{
	KindsInUse *in_use = (KindsInUse *) arg;
	Scope		scope;

	if (!OidIsValid(get_relname_relid("identities", get_namespace_oid("auth", false))))
		return;
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&kinds_plan, NULL, NULL, true, 1);
	if (SPI_processed == 1)
	{
		bool		isnull;

		in_use->anonymous = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		in_use->phone = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		in_use->oauth = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan check_plan = {
	.sql = "SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint AS k "
	"JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) k.conrelid "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
	"WHERE k.conname OPERATOR(pg_catalog.=) $1 AND k.contype OPERATOR(pg_catalog.=) 'c' AND "
	"pg_catalog.quote_ident(n.nspname) OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(c.relname) OPERATOR(pg_catalog.=) $2",
	.nargs = 2,
	.argtypes = {NAMEOID, TEXTOID}
};

typedef struct CheckAsked
{
	const ProbeStep *step;
	char	   *definition;
} CheckAsked;

static void
find_check(Doctor *doctor, void *arg)
{
	CheckAsked *asked = (CheckAsked *) arg;
	Datum		args[2];
	Scope		scope;

	args[0] = DirectFunctionCall1(namein, CStringGetDatum(asked->step->constraint));
	args[1] = CStringGetTextDatum(asked->step->table);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&check_plan, args, NULL, true, 1);
	if (SPI_processed == 1)
		asked->definition = MemoryContextStrdup(doctor->cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	scope_leave(&scope);
	SPI_finish();
}

/*
 * The address of a probe is long and of a domain that nobody has. What it alone
 * may be too long for, or of the wrong domain, need not be anybody else's lot.
 */
static bool
fails_for_its_address(Doctor *doctor, const ProbeStep *step)
{
	if (same(step->sqlstate, "22001"))
	{
		const char *limit = strchr(step->message, '(');

		return limit != NULL && atoi(limit + 1) >= USUAL_BYTES;
	}
	if (same(step->sqlstate, "23514") && step->constraint != NULL && step->table != NULL)
	{
		CheckAsked	asked = {.step = step};
		const char *p;

		if (!doctor_contained(doctor, "probe", step->table, find_check, &asked) || asked.definition == NULL)
			return false;
		if (strstr(asked.definition, "email") != NULL || strchr(asked.definition, '@') != NULL)
			return true;
		if (strstr(asked.definition, "length(") == NULL)
			return false;
		for (p = strchr(asked.definition, '<'); p != NULL; p = strchr(p + 1, '<'))
			if (atoi(p + strspn(p, "<= (")) >= USUAL_BYTES)
				return true;
	}
	return false;
}

/*
 * Every auth server makes users with an email address, and invites some, who
 * send no metadata. Another kind counts when there are such users; OAuth, which
 * brings less than a form, may be added any day.
 */
static DoctorSeverity
severity_of(Doctor *doctor, const ProbeStep *step, const KindsInUse *in_use)
{
	if (step->outcome != PROBE_FAILED || fails_for_its_address(doctor, step))
		return DOCTOR_INFO;
	if (strcmp(step->kind, kind_names[PROBE_PHONE]) == 0)
		return in_use->phone ? DOCTOR_ERROR : DOCTOR_INFO;
	if (strcmp(step->kind, kind_names[PROBE_ANONYMOUS]) == 0)
		return in_use->anonymous ? DOCTOR_ERROR : DOCTOR_INFO;
	if (strcmp(step->kind, kind_names[PROBE_OAUTH]) == 0)
		return in_use->oauth ? DOCTOR_ERROR : DOCTOR_WARNING;
	return DOCTOR_ERROR;
}

static void
tell_cause(Doctor *doctor, const ProbeCause *cause)
{
	const ProbeStep *step = cause->first;
	StringInfoData detail;
	List	   *objects = list_copy(cause->functions);
	const char *object = step->function ? step->function : step->table ? step->table : "auth.users";
	const char *finding;

	initStringInfo(&detail);
	if (step->sqlstate != NULL)
		appendStringInfo(&detail, "SQLSTATE %s: ", step->sqlstate);
	appendStringInfoString(&detail, step->message);
	if (step->function != NULL)
		appendStringInfo(&detail, ", in %s", step->function);
	if (step->function != NULL && step->line > 0)
		appendStringInfo(&detail, " line %d", step->line);
	if (step->table != NULL)
		appendStringInfo(&detail, ", table %s", step->table);
	if (step->column != NULL)
		appendStringInfo(&detail, ", column %s", quote_identifier(step->column));
	if (step->constraint != NULL)
		appendStringInfo(&detail, ", constraint %s", quote_identifier(step->constraint));
	appendStringInfo(&detail, ". Users: %s; steps: %s.", joined(cause->kinds), joined(cause->steps));
	if (cause->functions != NIL && list_length(cause->functions) > 1)
		appendStringInfo(&detail, " Called from %s.", joined(list_copy_tail(cause->functions, 1)));

	if (step->table != NULL)
		objects = lappend(objects, unconstify(char *, step->table));
	if (((step->outcome == PROBE_FAILED && cause->severity != DOCTOR_INFO) || step->made_up) &&
		doctor_confirm(doctor, objects, step->sqlstate, step->message, psprintf("The probe confirms it: %s", detail.data)))
		return;
	if (step->outcome == PROBE_REFUSED)
		finding = "refuses the user of a probe on purpose";
	else if (step->outcome == PROBE_UNKNOWN)
		finding = "is what a probe could not tell about";
	else if (strcmp((char *) linitial(cause->steps), "sync") == 0)
		finding = "makes a probe's sync go to quarantine";
	else
		finding = psprintf("makes a probe fail at: %s", joined(cause->steps));
	doctor_finding(doctor, cause->severity, "probe", object, finding, detail.data, NULL);
}

void
doctor_check_probe(Doctor *doctor)
{
	Probe		probe;
	KindsInUse	in_use;
	List	   *causes = NIL;
	ListCell   *lc;

	/* there is no place to write to, and nobody to blame for it */
	if (RecoveryInProgress())
	{
		doctor_finding(doctor, DOCTOR_INFO, "probe", "auth.users", "was not probed: this is a standby",
					   "A probe writes, and rolls back what it has written. Ask the primary.", NULL);
		return;
	}
	memset(&probe, 0, sizeof(probe));
	memset(&in_use, 0, sizeof(in_use));
	probe.kinds = PROBE_ALL_KINDS;
	probe.actions = PROBE_UPDATE | PROBE_LOGIN | PROBE_DELETE;
	probe_run(&probe);
	doctor_contained(doctor, "probe", "auth.users", find_kinds, &in_use);

	foreach(lc, probe.effects)
	{
		Effect	   *effect = (Effect *) lfirst(lc);

		doctor_finding(doctor, DOCTOR_INFO, "probe", effect->object,
					   probe.steps == NIL ? "does what a rollback does not undo, so nothing was probed" :
					   "does what a rollback does not undo, so the probe ended there",
					   psprintf("%s %s%s.", effect->object, effect->what,
								effect->line > 0 ? psprintf(", line %d", effect->line) : ""),
					   NULL);
	}
	foreach(lc, probe.steps)
	{
		ProbeStep  *step = (ProbeStep *) lfirst(lc);
		ProbeCause *cause = NULL;
		ListCell   *other;

		/* what ended the probe is told already */
		if (step->outcome == PROBE_OK || (step->outcome == PROBE_UNKNOWN && probe.effects != NIL))
			continue;
		foreach(other, causes)
			if (same_cause(((ProbeCause *) lfirst(other))->first, step))
				cause = (ProbeCause *) lfirst(other);
		if (cause == NULL)
		{
			cause = palloc0(sizeof(ProbeCause));
			cause->first = step;
			cause->severity = DOCTOR_INFO;
			cause->functions = step->functions;
			causes = lappend(causes, cause);
		}
		cause->kinds = add_name(cause->kinds, step->kind);
		cause->steps = add_name(cause->steps, step->step);
		cause->severity = Min(cause->severity, severity_of(doctor, step, &in_use));
	}
	foreach(lc, causes)
		tell_cause(doctor, (ProbeCause *) lfirst(lc));
}

/* ---------------------------------------------------------------------
 * SQL
 * ---------------------------------------------------------------------
 */

static int
kinds_arg(FunctionCallInfo fcinfo)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	int			kinds = 0;

	if (PG_ARGISNULL(0))
		return PROBE_ALL_KINDS;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		const char *name = nulls[i] ? NULL : TextDatumGetCString(elems[i]);
		int			k = 0;

		while (k < PROBE_KINDS && (name == NULL || strcmp(name, kind_names[k]) != 0))
			k++;
		if (k == PROBE_KINDS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("there is no such kind of user"),
					 errhint("kinds: email, email_without_metadata, invited, oauth, phone, anonymous; NULL for all.")));
		kinds |= 1 << k;
	}
	if (kinds == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kinds names no kind of user"),
				 errhint("kinds: email, email_without_metadata, invited, oauth, phone, anonymous; NULL for all.")));
	return kinds;
}

static void
put_text(Datum *values, bool *nulls, int i, const char *text)
{
	nulls[i] = text == NULL;
	values[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
put_step(ReturnSetInfo *rsinfo, const ProbeStep *step)
{
	Datum		values[12];
	bool		nulls[12];

	put_text(values, nulls, 0, step->kind);
	put_text(values, nulls, 1, step->step);
	put_text(values, nulls, 2, step->without_trigger);
	nulls[3] = step->outcome == PROBE_UNKNOWN;
	values[3] = BoolGetDatum(step->outcome == PROBE_OK);
	put_text(values, nulls, 4, step->sqlstate);
	put_text(values, nulls, 5, step->message);
	put_text(values, nulls, 6, step->table);
	put_text(values, nulls, 7, step->column);
	put_text(values, nulls, 8, step->constraint);
	put_text(values, nulls, 9, step->function);
	nulls[10] = step->line == 0;
	values[10] = Int32GetDatum(step->line);
	nulls[11] = step->stack == NIL;
	values[11] = nulls[11] ? (Datum) 0 : text_list(step->stack);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
probe_for_sql(FunctionCallInfo fcinfo, int actions)
{
	Probe		probe;
	char	   *side_effects = PG_ARGISNULL(2) ? pstrdup("refuse") : text_to_cstring(PG_GETARG_TEXT_PP(2));
	ListCell   *lc;

	caller_require_operator();
	memset(&probe, 0, sizeof(probe));
	probe.actions = actions;
	probe.kinds = kinds_arg(fcinfo);
	probe.isolate = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	probe.allow_side_effects = strcmp(side_effects, "allow") == 0;
	if (!probe.allow_side_effects && strcmp(side_effects, "refuse") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("side_effects must be refuse or allow")));
	InitMaterializedSRF(fcinfo, 0);
	probe_run(&probe);
	foreach(lc, probe.effects)
	{
		Effect	   *effect = (Effect *) lfirst(lc);
		ProbeStep	step;

		memset(&step, 0, sizeof(step));
		step.step = "side effects";
		step.outcome = probe.allow_side_effects ? PROBE_OK : PROBE_UNKNOWN;
		step.message = psprintf("%s %s", effect->object, effect->what);
		step.function = effect->function ? effect->object : NULL;
		step.table = effect->function ? NULL : effect->object;
		step.line = effect->line;
		put_step((ReturnSetInfo *) fcinfo->resultinfo, &step);
	}
	foreach(lc, probe.steps)
		put_step((ReturnSetInfo *) fcinfo->resultinfo, (ProbeStep *) lfirst(lc));
	return (Datum) 0;
}

Datum
doctor_probe_signup(PG_FUNCTION_ARGS)
{
	return probe_for_sql(fcinfo, 0);
}

Datum
doctor_probe_update(PG_FUNCTION_ARGS)
{
	return probe_for_sql(fcinfo, PROBE_UPDATE);
}

Datum
doctor_probe_login(PG_FUNCTION_ARGS)
{
	return probe_for_sql(fcinfo, PROBE_LOGIN);
}

Datum
doctor_probe_delete(PG_FUNCTION_ARGS)
{
	return probe_for_sql(fcinfo, PROBE_DELETE);
}
