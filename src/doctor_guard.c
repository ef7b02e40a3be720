/*-------------------------------------------------------------------------
 *
 * doctor_guard.c
 *	  DDL that breaks a sync is told, or refused.
 *
 * Two event triggers. The one at the start of a command looks at its parse
 * tree; most commands cannot matter to a sync, and cost no more than that look.
 * For one that can, the targets are analysed before and after it: what did not
 * analyse before is no fault of the command, and who mends a broken table step
 * by step is not in anybody's way.
 *
 * Event triggers run as whoever issues the command, and so does this: the
 * scopes lend nothing to it, and analysis runs nobody's code.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"

#include "caller.h"
#include "doctor_guard.h"
#include "doctor_probe.h"
#include "module.h"
#include "plan.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(doctor_guard_start);
PG_FUNCTION_INFO_V1(doctor_guard_end);

/* What worked before a command that has begun. */
typedef struct Watched
{
	const Node *parsetree;		/* which command */
	int			nanalysed;
	int64	   *analysed;		/* targets */
	bool		probed;
	List	   *kinds;			/* of char *: kinds of user whose signup worked */
} Watched;

/*
 * Commands may be nested, and one that fails has no end: so they are told apart
 * by their parse trees, the newest first. In TopTransactionContext.
 */
static List *watched = NIL;

static void
forget_watched(XactEvent event, void *arg)
{
	watched = NIL;
}

void
guard_init(void)
{
	RegisterXactCallback(forget_watched, NULL);
}

/* ---------------------------------------------------------------------
 * May the command matter?
 * ---------------------------------------------------------------------
 */

typedef enum Concern
{
	CONCERN_NONE,
	CONCERN_PROBE,				/* analysis cannot see it, a probe can */
	CONCERN_TARGET,				/* a table that a sync reads or writes */
	CONCERN_ANY					/* something that a mapping may use */
} Concern;

/* Not looked up: as if it mattered. */
static Concern
relation_concern(const RangeVar *name, Concern otherwise, bool look_up)
{
	Oid			relid;

	if (!look_up || name == NULL)
		return name ? CONCERN_TARGET : CONCERN_NONE;
	relid = RangeVarGetRelid(name, NoLock, true);
	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_INDEX)
		relid = IndexGetRelation(relid, true);
	if (!OidIsValid(relid))
		return CONCERN_NONE;
	return sync_concerns(relid) ? CONCERN_TARGET : otherwise;
}

static Concern
drop_concern(const DropStmt *stmt, bool look_up)
{
	Concern		concern = CONCERN_PROBE;
	ListCell   *lc;

	switch (stmt->removeType)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
		case OBJECT_SEQUENCE:
		case OBJECT_INDEX:
			foreach(lc, stmt->objects)
				concern = Max(concern, relation_concern(makeRangeVarFromNameList((List *) lfirst(lc)), CONCERN_PROBE, look_up));
			return stmt->behavior == DROP_CASCADE ? CONCERN_ANY : concern;
		case OBJECT_TRIGGER:
		case OBJECT_POLICY:
		case OBJECT_RULE:
			return CONCERN_PROBE;
		case OBJECT_EXTENSION:
		case OBJECT_EVENT_TRIGGER:
		case OBJECT_PUBLICATION:
		case OBJECT_STATISTIC_EXT:
		case OBJECT_TSCONFIGURATION:
		case OBJECT_TSDICTIONARY:
		case OBJECT_TSPARSER:
		case OBJECT_TSTEMPLATE:
		case OBJECT_FDW:
		case OBJECT_FOREIGN_SERVER:
			return CONCERN_NONE;
		default:
			return CONCERN_ANY;
	}
}

static Concern
command_concern(const Node *parsetree, bool look_up)
{
	Concern		concern = CONCERN_NONE;
	ListCell   *lc;

	switch (nodeTag(parsetree))
	{
		case T_AlterTableStmt:
			{
				const AlterTableStmt *stmt = (const AlterTableStmt *) parsetree;

				return stmt->objtype == OBJECT_TYPE ? CONCERN_ANY :
					relation_concern(stmt->relation, CONCERN_PROBE, look_up);
			}
		case T_RenameStmt:
			{
				const RenameStmt *stmt = (const RenameStmt *) parsetree;

				return stmt->relation ? relation_concern(stmt->relation, CONCERN_PROBE, look_up) : CONCERN_ANY;
			}
		case T_AlterObjectSchemaStmt:
			{
				const AlterObjectSchemaStmt *stmt = (const AlterObjectSchemaStmt *) parsetree;

				if (stmt->objectType == OBJECT_EXTENSION)
					return CONCERN_NONE;
				return stmt->relation ? relation_concern(stmt->relation, CONCERN_PROBE, look_up) : CONCERN_ANY;
			}
		case T_DropStmt:
			return drop_concern((const DropStmt *) parsetree, look_up);
		case T_RuleStmt:
			return relation_concern(((const RuleStmt *) parsetree)->relation, CONCERN_PROBE, look_up);
		case T_CreateStmt:
			/* a target that others inherit from is none any more */
			foreach(lc, ((const CreateStmt *) parsetree)->inhRelations)
				concern = Max(concern, relation_concern(lfirst_node(RangeVar, lc), CONCERN_NONE, look_up));
			return concern;
		case T_GrantStmt:
			return ((const GrantStmt *) parsetree)->is_grant ? CONCERN_PROBE : CONCERN_ANY;
		case T_AlterOwnerStmt:
		case T_AlterDomainStmt:
		case T_AlterTypeStmt:
		case T_DropOwnedStmt:
			return CONCERN_ANY;
		case T_CreateFunctionStmt:
		case T_AlterFunctionStmt:
		case T_CreateTrigStmt:
		case T_CreatePolicyStmt:
		case T_AlterPolicyStmt:
		case T_AlterEnumStmt:
		case T_AlterSeqStmt:
			return CONCERN_PROBE;
		case T_IndexStmt:
			return ((const IndexStmt *) parsetree)->unique ? CONCERN_PROBE : CONCERN_NONE;
		default:
			/* what only makes something new, or only says something */
			return CONCERN_NONE;
	}
}

/*
 * A dump that is being restored puts things back in an order of its own. What
 * pg_dump writes begins with settings that nobody else has together, by
 * whatever program it is run.
 */
static bool
is_restoring(void)
{
	return (application_name != NULL && strcmp(application_name, "pg_restore") == 0) ||
		(namespace_search_path != NULL && namespace_search_path[0] == '\0' &&
		 !check_function_bodies && !row_security);
}

/* The auth server's own migrations: they may not be held up by anybody. */
static bool
is_auth_migration(Oid auth_users, const Node *parsetree, Concern concern)
{
	const RangeVar *name = NULL;
	Oid			relid;

	if (GetUserId() != caller_auth_owner())
		return false;
	if (concern != CONCERN_TARGET)
		return true;
	if (IsA(parsetree, AlterTableStmt))
		name = ((const AlterTableStmt *) parsetree)->relation;
	else if (IsA(parsetree, RenameStmt))
		name = ((const RenameStmt *) parsetree)->relation;
	else if (IsA(parsetree, AlterObjectSchemaStmt))
		name = ((const AlterObjectSchemaStmt *) parsetree)->relation;
	else if (IsA(parsetree, RuleStmt))
		name = ((const RuleStmt *) parsetree)->relation;
	relid = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;
	return OidIsValid(relid) && get_rel_namespace(relid) == get_rel_namespace(auth_users);
}

static bool
triggers_attached(void)
{
	SyncTrigger *triggers;
	int			n = sync_triggers(&triggers);

	for (int i = 0; i < n; i++)
		if (strcmp(triggers[i].state, "good") != 0)
			return false;
	return n > 0;
}

typedef struct Question
{
	const Node *parsetree;
	Concern		concern;
} Question;

static void
ask_concern(void *arg)
{
	Question   *q = (Question *) arg;
	Oid			auth_users = caller_auth_users_relid(true);
	Concern		least = invite_sync_ddl_check == DDL_CHECK_PROBE ? CONCERN_PROBE : CONCERN_TARGET;
	Concern		concern;

	if (!OidIsValid(auth_users) || !sync_has_targets())
		return;
	concern = command_concern(q->parsetree, true);
	if (concern >= least && !is_auth_migration(auth_users, q->parsetree, concern) && triggers_attached())
		q->concern = concern;
}

/* ---------------------------------------------------------------------
 * Before and after
 * ---------------------------------------------------------------------
 */

typedef struct Analysed
{
	int			n;
	SyncAnalysis *list;
} Analysed;

static void
analyse(void *arg)
{
	Analysed   *a = (Analysed *) arg;

	a->n = sync_analyse_targets(&a->list);
}

static void
run_probe(void *arg)
{
	probe_run((Probe *) arg);
}

/*
 * Whatever goes wrong in here must not be the command's fate. false: nothing is
 * known; what must end the statement does.
 */
static bool
ask(void (*fn) (void *), void *arg)
{
	ErrorData  *e = plan_contained(fn, arg, false);

	if (e == NULL)
		return true;
	if (caller_must_rethrow(e->sqlerrcode))
		ReThrowError(e);
	FreeErrorData(e);
	return false;
}

/* The steps of signups as a form and as an invitation make them; false: it cannot be tried here. */
static bool
probe(Probe *p)
{
	memset(p, 0, sizeof(*p));
	p->kinds = (1 << PROBE_EMAIL) | (1 << PROBE_INVITED);
	if (probe_is_running || XactReadOnly || InSecurityRestrictedOperation())
		return false;
	return ask(run_probe, p) && p->effects == NIL;
}

/* The first step that failed of this kind, or NULL. */
static const ProbeStep *
failed_step(const Probe *p, const char *kind)
{
	ListCell   *lc;

	foreach(lc, p->steps)
	{
		ProbeStep  *step = (ProbeStep *) lfirst(lc);

		if (strcmp(step->kind, kind) == 0 && step->outcome != PROBE_OK)
			return step;
	}
	return NULL;
}

static bool
may_begin(FunctionCallInfo fcinfo, EventTriggerData **data)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as an event trigger")));
	*data = (EventTriggerData *) fcinfo->context;
	return invite_sync_ddl_check != DDL_CHECK_OFF && !IsBinaryUpgrade && !creating_extension &&
		(*data)->parsetree != NULL;
}

Datum
doctor_guard_start(PG_FUNCTION_ARGS)
{
	EventTriggerData *data;
	Question	question;
	Analysed	before;
	Watched    *w;
	MemoryContext old;

	/* the order is that of the cost */
	if (!may_begin(fcinfo, &data) || command_concern(data->parsetree, false) == CONCERN_NONE || is_restoring())
		PG_RETURN_NULL();
	question.parsetree = data->parsetree;
	question.concern = CONCERN_NONE;
	if (!ask(ask_concern, &question) || question.concern == CONCERN_NONE)
		PG_RETURN_NULL();
	memset(&before, 0, sizeof(before));
	if (!ask(analyse, &before))
		PG_RETURN_NULL();

	old = MemoryContextSwitchTo(TopTransactionContext);
	w = palloc0(sizeof(Watched));
	w->parsetree = data->parsetree;
	w->analysed = palloc(sizeof(int64) * Max(before.n, 1));
	for (int i = 0; i < before.n; i++)
		if (before.list[i].failure == NULL)
			w->analysed[w->nanalysed++] = before.list[i].id;
	MemoryContextSwitchTo(old);
	if (invite_sync_ddl_check == DDL_CHECK_PROBE)
	{
		Probe		p;

		w->probed = probe(&p);
		old = MemoryContextSwitchTo(TopTransactionContext);
		if (w->probed && failed_step(&p, "email") == NULL)
			w->kinds = lappend(w->kinds, "email");
		if (w->probed && failed_step(&p, "invited") == NULL)
			w->kinds = lappend(w->kinds, "invited");
		MemoryContextSwitchTo(old);
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	watched = lappend(watched, w);
	MemoryContextSwitchTo(old);
	PG_RETURN_NULL();
}

static const Watched *
end_of(const Node *parsetree)
{
	for (int i = list_length(watched) - 1; i >= 0; i--)
	{
		Watched    *w = (Watched *) list_nth(watched, i);

		if (w->parsetree != parsetree)
			continue;
		/* with those in between, which have failed */
		watched = list_truncate(watched, i);
		return w;
	}
	return NULL;
}

/* One sentence per target that the command has broken. */
static void
tell(const SyncAnalysis *broken, int n)
{
	const ErrorData *e = broken[0].failure->edata;
	bool		refuse_it = invite_sync_ddl_check == DDL_CHECK_REFUSE;
	const char *name = sync_name_for_client(broken[0].name);
	StringInfoData others;

	initStringInfo(&others);
	for (int i = 1; i < n; i++)
		appendStringInfo(&others, "%s%s", i == 1 ? " So would be: " : ", ", sync_name_for_client(broken[i].name));
	ereport(refuse_it ? ERROR : WARNING,
			(errcode(refuse_it ? ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST : ERRCODE_WARNING),
			 refuse_it ? errmsg("this command would break the sync to %s", name) :
			 errmsg("this command breaks the sync to %s", name),
			 errdetail("SQLSTATE %s: %s.%s%s", unpack_sql_state(broken[0].failure->sqlerrcode), e->message,
					   others.data, n > 1 ? "." : ""),
			 errhint("Set the mapping anew (SELECT * FROM invite_sync.set_target(%s, mapping => ...);) or forget the target (SELECT invite_sync.drop_target(%s);), in the same transaction%s",
					 quote_literal_cstr(name), quote_literal_cstr(name),
					 refuse_it ? " and before the command." : "; until then users go to quarantine."),
			 errhidestmt(true)));
}

static void
tell_probe(const ProbeStep *step)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 step->outcome == PROBE_REFUSED ? errmsg("after this command a signup is refused that was not before") :
			 errmsg("this command breaks signups"),
			 errdetail("SQLSTATE %s: %s%s%s%s.", step->sqlstate ? step->sqlstate : "00000", step->message,
					   step->function ? ", in " : "", step->function ? step->function : "",
					   step->line > 0 ? psprintf(" line %d", step->line) : ""),
			 errhint("SELECT * FROM invite_sync.doctor(probe => true);"),
			 errhidestmt(true)));
}

Datum
doctor_guard_end(PG_FUNCTION_ARGS)
{
	EventTriggerData *data;
	const Watched *w;
	Analysed	after;
	SyncAnalysis *broken;
	int			nbroken = 0;
	ListCell   *lc;

	if (!may_begin(fcinfo, &data) || watched == NIL || (w = end_of(data->parsetree)) == NULL)
		PG_RETURN_NULL();
	memset(&after, 0, sizeof(after));
	if (!ask(analyse, &after))
		PG_RETURN_NULL();
	broken = palloc(sizeof(SyncAnalysis) * Max(after.n, 1));
	for (int i = 0; i < after.n; i++)
	{
		bool		analysed = false;

		for (int k = 0; k < w->nanalysed; k++)
			analysed = analysed || w->analysed[k] == after.list[i].id;
		if (analysed && after.list[i].failure != NULL &&
			after.list[i].failure->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			broken[nbroken++] = after.list[i];
	}
	if (nbroken > 0)
		tell(broken, nbroken);
	else if (w->kinds != NIL && invite_sync_ddl_check == DDL_CHECK_PROBE)
	{
		Probe		p;

		if (probe(&p))
			foreach(lc, w->kinds)
			{
				const ProbeStep *step = failed_step(&p, (const char *) lfirst(lc));

				if (step != NULL && step->outcome != PROBE_UNKNOWN)
				{
					tell_probe(step);
					break;
				}
			}
	}
	PG_RETURN_NULL();
}
