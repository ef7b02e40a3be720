/*-------------------------------------------------------------------------
 *
 * doctor_fence.c
 *	  What the code that a probe fires may not do while it runs.
 *
 * A probe runs other people's code in the session of who asked, and rolls back
 * what it did. What no rollback undoes would be left in that session: a
 * statement that was prepared there under a name that the asker's driver uses
 * would be executed with the asker's rights. And the walk that looks for what
 * leaves the database (doctor_effect.c) reads texts: a name that is only put
 * together at run time is not in them. So what is called is looked at once more
 * when it is called.
 *
 * The hooks are installed by the first probe of a session and stay: another
 * module may have put itself before them. Without a probe they do nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "executor/execdesc.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "doctor_fence.h"

typedef struct Fence
{
	bool		up;
	bool		effects;		/* refuse what a rollback does not undo */
	const EffectWalk *walk;
	MemoryContext cxt;
	Oid			switched_off;
	List	   *passed;			/* oids of functions that may be called */
	Effect	   *met;
} Fence;

static Fence fence;

static bool installed = false;
static ExecutorStart_hook_type previous_start = NULL;
static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

static void pg_attribute_cold
refuse_effect(const Effect *effect)
{
	MemoryContext old = MemoryContextSwitchTo(fence.cxt);

	if (fence.met == NULL)
	{
		fence.met = palloc(sizeof(Effect));
		*fence.met = *effect;
		fence.met->object = effect->object ? pstrdup(effect->object) : NULL;
		fence.met->what = pstrdup(effect->what);
	}
	MemoryContextSwitchTo(old);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a probe does not run what a rollback does not undo"),
			 errdetail("%s %s.", effect->object ? effect->object : "It", effect->what)));
}

static void
check_function(Oid function)
{
	Effect		effect;
	MemoryContext old;

	if (!OidIsValid(function) || list_member_oid(fence.passed, function))
		return;
	if (effect_of_function(fence.walk, function, &effect))
		refuse_effect(&effect);
	old = MemoryContextSwitchTo(fence.cxt);
	fence.passed = lappend_oid(fence.passed, function);
	MemoryContextSwitchTo(old);
}

static void
fence_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (previous_access)
		previous_access(access, classId, objectId, subId, arg);
	if (fence.up && fence.effects && access == OAT_FUNCTION_EXECUTE && classId == ProcedureRelationId)
		check_function(objectId);
}

/* Triggers are called without being asked for, and so are the handlers of foreign tables. */
static void
check_relations(const QueryDesc *query)
{
	ListCell   *lc;

	foreach(lc, query->estate->es_opened_result_relations)
	{
		const TriggerDesc *desc = ((ResultRelInfo *) lfirst(lc))->ri_TrigDesc;

		for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
			if (!desc->triggers[i].tgisinternal && desc->triggers[i].tgenabled != TRIGGER_DISABLED)
				check_function(desc->triggers[i].tgfoid);
	}
	foreach(lc, query->plannedstmt->rtable)
	{
		const RangeTblEntry *rte = (const RangeTblEntry *) lfirst(lc);
		Effect		effect;

		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			effect_of_foreign_table(rte->relid, &effect))
			refuse_effect(&effect);
	}
}

/*
 * ALTER TABLE ... DISABLE TRIGGER would lock out every signup. The executor
 * works on a copy of the table's triggers, and in that one it is off.
 */
static void
switch_off(const QueryDesc *query)
{
	ListCell   *lc;

	foreach(lc, query->estate->es_opened_result_relations)
	{
		TriggerDesc *desc = ((ResultRelInfo *) lfirst(lc))->ri_TrigDesc;

		for (int i = 0; desc != NULL && i < desc->numtriggers; i++)
			if (desc->triggers[i].tgoid == fence.switched_off)
				desc->triggers[i].tgenabled = TRIGGER_DISABLED;
	}
}

static void
fence_start(QueryDesc *query, int eflags)
{
	/* a worker would take who asked for the one whose rights count */
	if (fence.up && query->plannedstmt->parallelModeNeeded)
	{
		PlannedStmt *alone = palloc(sizeof(PlannedStmt));

		*alone = *query->plannedstmt;
		alone->parallelModeNeeded = false;
		query->plannedstmt = alone;
	}
	if (previous_start)
		previous_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (!fence.up || query->estate == NULL)
		return;
	if (OidIsValid(fence.switched_off))
		switch_off(query);
	if (fence.effects)
		check_relations(query);
}

/* A body of its own, in a language that may do anything. */
static bool
is_untrusted(const DoStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->args)
	{
		DefElem    *arg = (DefElem *) lfirst(lc);
		HeapTuple	language;
		bool		untrusted;

		if (strcmp(arg->defname, "language") != 0)
			continue;
		language = SearchSysCache1(LANGNAME, CStringGetDatum(strVal(arg->arg)));
		if (!HeapTupleIsValid(language))
			return false;
		untrusted = !((Form_pg_language) GETSTRUCT(language))->lanpltrusted;
		ReleaseSysCache(language);
		return untrusted;
	}
	return false;
}

static void
check_utility(Node *statement)
{
	bool		outlives = false;

	switch (nodeTag(statement))
	{
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_LoadStmt:
			outlives = true;
			break;
		case T_CopyStmt:
			if (fence.effects && ((CopyStmt *) statement)->filename != NULL &&
				(((CopyStmt *) statement)->is_program || !((CopyStmt *) statement)->is_from))
			{
				Effect		effect = {.what = "copies to or from a program, or to a file, which a rollback does not undo"};

				refuse_effect(&effect);
			}
			break;
		case T_DoStmt:
			if (fence.effects && is_untrusted((DoStmt *) statement))
			{
				Effect		effect = {.what = "runs code in an untrusted language, which may do what a rollback does not undo"};

				refuse_effect(&effect);
			}
			break;
		default:
			break;
	}
	if (!outlives)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a probe does not run %s", GetCommandTagName(CreateCommandTag(statement))),
			 errdetail("A rollback does not undo it: the session of who asked would keep it.")));
}

static void
fence_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
			  ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	if (fence.up)
		check_utility(pstmt->utilityStmt);
	if (previous_utility)
		previous_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

void
fence_enter(const EffectWalk *walk, bool effects)
{
	if (!installed)
	{
		previous_start = ExecutorStart_hook;
		ExecutorStart_hook = fence_start;
		previous_utility = ProcessUtility_hook;
		ProcessUtility_hook = fence_utility;
		previous_access = object_access_hook;
		object_access_hook = fence_access;
		installed = true;
	}
	memset(&fence, 0, sizeof(fence));
	fence.walk = walk;
	fence.effects = effects;
	fence.cxt = CurrentMemoryContext;
	fence.up = true;
}

void
fence_leave(void)
{
	memset(&fence, 0, sizeof(fence));
}

void
fence_switch_off(Oid trigger)
{
	fence.switched_off = trigger;
}

bool
fence_raised(const ErrorData *e)
{
	return e->filename != NULL && strstr(e->filename, "doctor_fence.c") != NULL;
}

const Effect *
fence_met(void)
{
	return fence.met;
}
