/*-------------------------------------------------------------------------
 *
 * doctor_guard.c
 *	  DDL that breaks a sync is told, or refused.
 *
 * Two event triggers, at the start and at the end of a command. Most commands
 * cannot matter to a sync, which their parse trees say. For one that can, the
 * targets are analysed before and after it: what did not analyse before is no
 * fault of the command, and who mends a broken table step by step is not in
 * anybody's way.
 *
 * An event trigger whose function cannot be loaded makes all DDL fail, also the
 * one that would help. So the functions of ours are PL/pgSQL: they load the
 * library where an error is caught, and then tell it of the moment. Nobody is
 * granted anything for that. PostgreSQL asks for no right on what it calls by
 * its number, and a dictionary of text search is such a thing; nor could
 * anybody call a function that takes "internal" otherwise.
 *
 * The parse tree does not get that far, and the functions pin the search_path.
 * Both are noted by a ProcessUtility hook on the way in. Only the command during
 * which the library was loaded has come in before the hook was there, the first
 * one of a session at most: of that the tag must do, as if it mattered.
 *
 * Event triggers run as whoever issues the command, and so does this: the
 * scopes lend nothing to it, and analysis runs nobody's code.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "caller.h"
#include "doctor.h"
#include "doctor_guard.h"
#include "doctor_probe.h"
#include "module.h"
#include "plan.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(doctor_guard_moment);

/* What worked before a command that has begun. */
typedef struct Watched
{
	int			nanalysed;
	int64	   *analysed;		/* targets */
	bool		guarded;		/* guarded triggers were looked at, too */
	List	   *failing;		/* of char *: functions of theirs that did not analyse */
	bool		probed;
	List	   *kinds;			/* of char *: kinds of user whose signup worked */
} Watched;

/* A command on its way. */
typedef struct Command
{
	struct Command *outer;
	CommandTag	tag;
	const Node *parsetree;		/* NULL: it came in before the hook was there */
	const char *search_path;	/* of who issued it; NULL: not known */
	MemoryContext cxt;			/* lasts as long, whatever the command commits */
	uint64		transaction;	/* in which it came in */
	Watched    *watched;		/* NULL: it is not */
} Command;

static Command *innermost = NULL;

/* The one during which the library was loaded. */
static Command unseen;
static bool may_be_unseen = true;

bool		guard_is_watching = false;

static uint64 transactions = 0;

/* who had the hook before, or PostgreSQL itself */
static ProcessUtility_hook_type next_ProcessUtility = NULL;

static void
count_transactions(XactEvent event, void *arg)
{
	transactions++;
	/* the transaction in which the library was loaded is over */
	may_be_unseen = false;
	if (event == XACT_EVENT_ABORT)
		unseen.watched = NULL;
}

/* One that fails has no end. */
static void
note_watching(void)
{
	guard_is_watching = unseen.watched != NULL;
	for (const Command *command = innermost; command != NULL; command = command->outer)
		guard_is_watching = guard_is_watching || command->watched != NULL;
}

static void
note_command(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Command		command;

	/* event triggers fire for whole commands only, and for what is DDL */
	if (context == PROCESS_UTILITY_SUBCOMMAND || invite_sync_ddl_check == DDL_CHECK_OFF ||
		GetCommandLogLevel(pstmt->utilityStmt) != LOGSTMT_DDL)
	{
		next_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		return;
	}
	command.outer = innermost;
	command.tag = CreateCommandTag(pstmt->utilityStmt);
	command.parsetree = pstmt->utilityStmt;
	command.search_path = pstrdup(namespace_search_path);
	command.cxt = CurrentMemoryContext;
	command.transaction = transactions;
	command.watched = NULL;
	may_be_unseen = false;
	innermost = &command;
	PG_TRY();
	{
		next_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_FINALLY();
	{
		innermost = command.outer;
		if (guard_is_watching)
			note_watching();
	}
	PG_END_TRY();
}

void
guard_init(void)
{
	RegisterXactCallback(count_transactions, NULL);
	next_ProcessUtility = ProcessUtility_hook ? ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = note_command;
}

/*
 * The command whose event trigger calls, or NULL where nobody but a user does
 * (by the dictionary), who learns nothing by it.
 */
static Command *
command_of(CommandTag tag, bool begins)
{
	if (innermost != NULL)
		return innermost->tag == tag ? innermost : NULL;
	if (begins && may_be_unseen)
	{
		may_be_unseen = false;
		memset(&unseen, 0, sizeof(unseen));
		unseen.tag = tag;
		unseen.cxt = TopMemoryContext;
		unseen.transaction = transactions;
		return &unseen;
	}
	return unseen.watched != NULL && unseen.tag == tag ? &unseen : NULL;
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

				if (stmt->objtype == OBJECT_TYPE)
					return CONCERN_ANY;
				concern = relation_concern(stmt->relation, CONCERN_PROBE, look_up);
				/* a target that others inherit from is none any more */
				foreach(lc, stmt->cmds)
				{
					const AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

					if (cmd->subtype == AT_AddInherit)
						concern = Max(concern, relation_concern((const RangeVar *) cmd->def, CONCERN_PROBE, look_up));
				}
				return concern;
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
		case T_CreateForeignTableStmt:
			/* the same */
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
 * The same of a command of which the tag is all there is. For the names in it
 * nothing can be looked up; that is once in a session.
 */
static Concern
tag_concern(CommandTag tag)
{
	switch (tag)
	{
		case CMDTAG_CREATE_EXTENSION:
		case CMDTAG_ALTER_EXTENSION:
		case CMDTAG_DROP_EXTENSION:
		case CMDTAG_COMMENT:
		case CMDTAG_CREATE_INDEX:
		case CMDTAG_CREATE_SCHEMA:
		case CMDTAG_CREATE_SEQUENCE:
		case CMDTAG_CREATE_TABLE_AS:
		case CMDTAG_CREATE_VIEW:
		case CMDTAG_SELECT_INTO:
			return CONCERN_NONE;
		default:
			return CONCERN_ANY;
	}
}

/*
 * A dump that is being restored puts things back in an order of its own. What
 * pg_dump writes begins with settings that nobody else has together, by
 * whatever program it is run.
 */
static bool
is_restoring(const Command *command)
{
	return (application_name != NULL && strcmp(application_name, "pg_restore") == 0) ||
		((command->search_path == NULL || command->search_path[0] == '\0') &&
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
	if (concern != CONCERN_TARGET || parsetree == NULL)
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

/*
 * The names that a command which analysis cannot find in a mapping may take from
 * the bodies of guarded triggers.
 */
static List *
command_names(const Node *parsetree)
{
	const RangeVar *relation = NULL;
	List	   *names = NIL;
	ListCell   *lc;

	switch (nodeTag(parsetree))
	{
		case T_AlterTableStmt:
			relation = ((const AlterTableStmt *) parsetree)->relation;
			break;
		case T_RenameStmt:
			relation = ((const RenameStmt *) parsetree)->relation;
			break;
		case T_AlterObjectSchemaStmt:
			relation = ((const AlterObjectSchemaStmt *) parsetree)->relation;
			break;
		case T_RuleStmt:
			relation = ((const RuleStmt *) parsetree)->relation;
			break;
		case T_CreateFunctionStmt:
			return list_make1(strVal(llast(((const CreateFunctionStmt *) parsetree)->funcname)));
		case T_AlterFunctionStmt:
			return list_make1(strVal(llast(((const AlterFunctionStmt *) parsetree)->func->objname)));
		case T_DropStmt:
			switch (((const DropStmt *) parsetree)->removeType)
			{
				case OBJECT_TABLE:
				case OBJECT_VIEW:
				case OBJECT_MATVIEW:
				case OBJECT_FOREIGN_TABLE:
				case OBJECT_SEQUENCE:
				case OBJECT_INDEX:
					foreach(lc, ((const DropStmt *) parsetree)->objects)
						names = lappend(names, strVal(llast((List *) lfirst(lc))));
					break;
				default:
					break;
			}
			return names;
		default:
			break;
	}
	return relation ? list_make1(relation->relname) : NIL;
}

/* Text in other text, whatever its case. */
static bool
contains(const char *text, const char *name)
{
	size_t		len = strlen(name);

	for (; *text != '\0'; text++)
		if (pg_strncasecmp(text, name, len) == 0)
			return true;
	return false;
}

/* Does one of the functions have this name, or the name in its body, where quotes in it are doubled? */
static bool
functions_mention(List *functions, const char *name)
{
	ListCell   *lc;
	bool		result = false;

	foreach(lc, functions)
	{
		HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(lfirst_oid(lc)));
		Datum		source;
		bool		isnull;

		if (!HeapTupleIsValid(tuple))
			continue;
		source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
		result = result || strcmp(NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname), name) == 0 ||
			(!isnull && (contains(TextDatumGetCString(source), name) ||
						 contains(TextDatumGetCString(source), quote_identifier(name))));
		ReleaseSysCache(tuple);
	}
	return result;
}

/* A trigger that is guarded depends on our function, and on the one that it had before. */
static List *
guarded_functions(Oid auth_users)
{
	Relation	auth = relation_open(auth_users, AccessShareLock);
	Relation	pg_depend = NULL;
	Oid			ours = caller_extension_schema();
	List	   *functions = NIL;
	/* copied: the descriptor may be built again while the catalog is read */
	const TriggerDesc *triggers = CopyTriggerDesc(auth->trigdesc);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		if (trigger->tgisinternal || get_func_namespace(trigger->tgfoid) != ours)
			continue;
		if (pg_depend == NULL)
			pg_depend = table_open(DependRelationId, AccessShareLock);
		ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(TriggerRelationId));
		ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(trigger->tgoid));
		scan = systable_beginscan(pg_depend, DependDependerIndexId, true, NULL, 2, key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_depend dep = (Form_pg_depend) GETSTRUCT(tuple);

			if (dep->refclassid == ProcedureRelationId && dep->refobjid != trigger->tgfoid)
				functions = lappend_oid(functions, dep->refobjid);
		}
		systable_endscan(scan);
	}
	if (pg_depend != NULL)
		table_close(pg_depend, AccessShareLock);
	relation_close(auth, AccessShareLock);
	return functions;
}

static bool
concerns_guarded(Oid auth_users, const Command *command, Concern concern)
{
	List	   *names = concern < CONCERN_TARGET ? command_names(command->parsetree) : NIL;
	List	   *functions;
	ListCell   *lc;

	/* nobody is waited for */
	if ((concern < CONCERN_TARGET && names == NIL) || !ConditionalLockRelationOid(auth_users, AccessShareLock))
		return false;
	functions = guarded_functions(auth_users);
	if (functions == NIL || concern >= CONCERN_TARGET)
		return functions != NIL;
	foreach(lc, names)
		if (functions_mention(functions, (const char *) lfirst(lc)))
			return true;
	return false;
}

typedef struct Question
{
	const Command *command;
	bool		targets;		/* may they be concerned? */
	bool		guarded;		/* may guarded triggers be? */
} Question;

static void
ask_concern(void *arg)
{
	Question   *q = (Question *) arg;
	const Command *command = q->command;
	Oid			auth_users = caller_auth_users_relid(true);
	Concern		least = invite_sync_ddl_check == DDL_CHECK_PROBE ? CONCERN_PROBE : CONCERN_TARGET;
	Concern		concern;
	int			guc_level;

	if (!OidIsValid(auth_users))
		return;
	/* names in it mean what they mean to who issued it */
	guc_level = NewGUCNestLevel();
	if (command->search_path != NULL)
		(void) set_config_option("search_path", command->search_path, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	concern = command->parsetree ? command_concern(command->parsetree, true) : tag_concern(command->tag);
	AtEOXact_GUC(false, guc_level);
	if (concern == CONCERN_NONE || is_auth_migration(auth_users, command->parsetree, concern))
		return;
	q->targets = concern >= least && sync_has_targets();
	q->guarded = concerns_guarded(auth_users, command, concern);
	if ((q->targets || q->guarded) && !triggers_attached())
		q->targets = q->guarded = false;
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

/* What a body of a guarded trigger's fails with. */
typedef struct BodyFailure
{
	const char *object;			/* the function */
	const char *finding;
	const char *detail;
	const char *fix;			/* or NULL */
} BodyFailure;

typedef struct GuardedAnalysis
{
	Doctor		doctor;
	List	   *failures;
	bool		unknown;		/* something is locked by others */
} GuardedAnalysis;

/* Not advice, and not what is about values: a statement that is none any more. */
static void
note_failure(void *arg, DoctorSeverity severity, const char *const *text)
{
	GuardedAnalysis *a = (GuardedAnalysis *) arg;
	BodyFailure *failure;

	if (text[2] == NULL || text[4] == NULL)
		return;
	a->unknown = a->unknown || strstr(text[4], "SQLSTATE 55P03") != NULL;
	if (severity == DOCTOR_INFO || strstr(text[4], "SQLSTATE 42") == NULL)
		return;
	failure = palloc(sizeof(BodyFailure));
	failure->object = text[2];
	failure->finding = text[3];
	failure->detail = text[4];
	failure->fix = text[5];
	a->failures = lappend(a->failures, failure);
}

static void
run_guarded(void *arg)
{
	GuardedAnalysis *a = (GuardedAnalysis *) arg;
	int			guc_level = NewGUCNestLevel();

	/* as good as not at all */
	(void) set_config_option("lock_timeout", "1ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	a->doctor.auth_users = caller_auth_users_relid(false);
	a->doctor.auth_role = caller_auth_owner();
	doctor_check_guarded(&a->doctor);
	AtEOXact_GUC(false, guc_level);
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
		ReThrowError(plan_lasting(e));
	FreeErrorData(e);
	return false;
}

/* As doctor() does it: as their owners, those of superusers for a superuser only. false: nothing is known. */
static bool
analyse_guarded(GuardedAnalysis *a)
{
	memset(a, 0, sizeof(*a));
	a->doctor.cxt = CurrentMemoryContext;
	a->doctor.asker = GetUserId();
	a->doctor.superuser = superuser();
	if (!ask(run_guarded, a))
		return false;
	doctor_each(&a->doctor, note_failure, a);
	return !a->unknown;
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

/* The first step that failed of this kind, and not for what the probe has made up; or NULL. */
static const ProbeStep *
failed_step(const Probe *p, const char *kind)
{
	ListCell   *lc;

	foreach(lc, p->steps)
	{
		ProbeStep  *step = (ProbeStep *) lfirst(lc);

		if (strcmp(step->kind, kind) == 0 && step->outcome != PROBE_OK && !step->made_up)
			return step;
	}
	return NULL;
}

/*
 * A probe takes a transaction's number, and what commits on its way must find
 * none. Nor is one made for a session's first temporary table.
 */
static bool
may_probe(const Command *command)
{
	const Node *node = command->parsetree;

	if (node == NULL)
		return command->tag != CMDTAG_DROP_INDEX && command->tag != CMDTAG_CREATE_TABLE;
	return !(IsA(node, DropStmt) && ((const DropStmt *) node)->concurrent) &&
		!(IsA(node, IndexStmt) && ((const IndexStmt *) node)->concurrent);
}

static void
command_begins(Command *command)
{
	Question	question;
	Analysed	before;
	Watched    *w;
	MemoryContext old;
	ListCell   *lc;

	/* the order is that of the cost */
	if ((command->parsetree ? command_concern(command->parsetree, false) : tag_concern(command->tag)) == CONCERN_NONE ||
		is_restoring(command))
		return;
	question.command = command;
	question.targets = question.guarded = false;
	if (!ask(ask_concern, &question) || (!question.targets && !question.guarded))
		return;
	memset(&before, 0, sizeof(before));
	if (question.targets && !ask(analyse, &before))
		return;

	old = MemoryContextSwitchTo(command->cxt);
	w = palloc0(sizeof(Watched));
	w->analysed = palloc(sizeof(int64) * Max(before.n, 1));
	for (int i = 0; i < before.n; i++)
		if (before.list[i].failure == NULL)
			w->analysed[w->nanalysed++] = before.list[i].id;
	MemoryContextSwitchTo(old);
	if (question.guarded)
	{
		GuardedAnalysis guarded;

		w->guarded = analyse_guarded(&guarded);
		old = MemoryContextSwitchTo(command->cxt);
		foreach(lc, guarded.failures)
			w->failing = lappend(w->failing, pstrdup(((BodyFailure *) lfirst(lc))->object));
		MemoryContextSwitchTo(old);
	}
	if (question.targets && invite_sync_ddl_check == DDL_CHECK_PROBE && may_probe(command))
	{
		Probe		p;

		w->probed = probe(&p);
		old = MemoryContextSwitchTo(command->cxt);
		if (w->probed && failed_step(&p, "email") == NULL)
			w->kinds = lappend(w->kinds, "email");
		if (w->probed && failed_step(&p, "invited") == NULL)
			w->kinds = lappend(w->kinds, "invited");
		MemoryContextSwitchTo(old);
	}
	command->watched = w;
	note_watching();
}

/* The line of the event trigger's function is nobody's; that of who called the command is. An error restores it. */
static void
hide_event_trigger(void)
{
	if (error_context_stack != NULL)
		error_context_stack = error_context_stack->previous;
}

/* One sentence per target that the command has broken. */
static void
tell(const SyncAnalysis *broken, int n, bool undoable)
{
	const ErrorData *e = broken[0].failure->edata;
	bool		refuse_it = invite_sync_ddl_check == DDL_CHECK_REFUSE && undoable;
	const char *name = sync_name_for_client(broken[0].name);
	ErrorContextCallback *context = error_context_stack;
	StringInfoData others;

	initStringInfo(&others);
	for (int i = 1; i < n; i++)
		appendStringInfo(&others, "%s%s", i == 1 ? " So would be: " : ", ", sync_name_for_client(broken[i].name));
	hide_event_trigger();
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
	error_context_stack = context;
}

static void
tell_guarded(const BodyFailure *failure, bool undoable)
{
	bool		refuse_it = invite_sync_ddl_check == DDL_CHECK_REFUSE && undoable;
	ErrorContextCallback *context = error_context_stack;

	hide_event_trigger();
	ereport(refuse_it ? ERROR : WARNING,
			(errcode(refuse_it ? ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST : ERRCODE_WARNING),
			 refuse_it ? errmsg("this command would break a guarded trigger: %s: %s", failure->object, failure->finding) :
			 errmsg("this command breaks a guarded trigger: %s: %s", failure->object, failure->finding),
			 errdetail("%s", failure->detail),
			 refuse_it ? errhint("Take the trigger from under guard with invite_sync.unguard_trigger(), and guard it again when its function is changed, in the same transaction.") :
			 errhint("Change the function in the same transaction; until then what the trigger does goes to quarantine."),
			 errhidestmt(true)));
	error_context_stack = context;
}

static void
tell_probe(const ProbeStep *step)
{
	ErrorContextCallback *context = error_context_stack;

	hide_event_trigger();
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 step->outcome == PROBE_REFUSED ? errmsg("after this command a signup is refused that was not before") :
			 errmsg("this command breaks signups"),
			 errdetail("SQLSTATE %s: %s%s%s%s.", step->sqlstate ? step->sqlstate : "00000", step->message,
					   step->function ? ", in " : "", step->function ? step->function : "",
					   step->line > 0 ? psprintf(" line %d", step->line) : ""),
			 errhint("SELECT * FROM invite_sync.doctor(probe => true);"),
			 errhidestmt(true)));
	error_context_stack = context;
}

static void
command_ends(Command *command)
{
	const Watched *w = command->watched;
	Analysed	after;
	GuardedAnalysis guarded;
	SyncAnalysis *broken;
	int			nbroken = 0;
	ListCell   *lc;

	if (w == NULL)
		return;
	command->watched = NULL;
	note_watching();
	memset(&after, 0, sizeof(after));
	if (w->nanalysed > 0 && !ask(analyse, &after))
		return;
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
		tell(broken, nbroken, command->transaction == transactions);
	if (w->guarded && analyse_guarded(&guarded))
		foreach(lc, guarded.failures)
		{
			const BodyFailure *failure = (const BodyFailure *) lfirst(lc);
			ListCell   *before;
			bool		is_new = true;

			foreach(before, w->failing)
				is_new = is_new && strcmp((const char *) lfirst(before), failure->object) != 0;
			if (!is_new)
				continue;
			nbroken++;
			tell_guarded(failure, command->transaction == transactions);
			break;
		}
	if (nbroken == 0 && w->kinds != NIL && invite_sync_ddl_check == DDL_CHECK_PROBE)
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
}

/*
 * A dictionary that knows no word. What the event triggers say to it is "begins"
 * or "ends" and the tag; all else is to have the library loaded.
 */
Datum
doctor_guard_moment(PG_FUNCTION_ARGS)
{
	char	   *said = pnstrdup((const char *) PG_GETARG_POINTER(1), PG_GETARG_INT32(2));
	bool		begins = strncmp(said, "begins ", 7) == 0;
	Command    *command;

	if ((!begins && strncmp(said, "ends ", 5) != 0) ||
		invite_sync_ddl_check == DDL_CHECK_OFF || IsBinaryUpgrade || creating_extension)
		PG_RETURN_POINTER(NULL);
	command = command_of(GetCommandTagEnum(strchr(said, ' ') + 1), begins);
	if (command == NULL)
		PG_RETURN_POINTER(NULL);
	if (!begins)
		command_ends(command);
	else if (command->watched == NULL)
		command_begins(command);
	PG_RETURN_POINTER(NULL);
}
