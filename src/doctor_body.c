/*-------------------------------------------------------------------------
 *
 * doctor_body.c
 *	  Triggers on auth.users and what they reach: are their functions sound?
 *
 * A list of calls is worked off. It begins with the triggers on the tables of
 * the auth server; what a body writes adds the triggers of that table, what it
 * calls the function. Each is analysed as whom and under which search_path it
 * will run. Names that this path does not hold, and rights that the role does
 * not have, are gathered over the whole body, and the body is analysed again as
 * the one statement that mends both would make it: so the fix is tried, and
 * what else is wrong comes to light. What is reached is analysed as if called
 * from the mended body, so that each cause is told once.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/proclang.h"
#include "commands/trigger.h"
#include "executor/functions.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "caller.h"
#include "doctor.h"
#include "doctor_body.h"
#include "quarantine.h"

#define PASSES_MAX	6
#define CAUGHT		" An exception handler catches it: the auth server goes on, what the body does is lost."
#define DEPTH_MAX	16
#define CALLS_MAX	5000
#define PARTITIONS_MAX	100

struct BodyRun
{
	List	   *calls;			/* BodyCall, in order of discovery */
	List	   *guarded;		/* Oid of the trigger, Oid of its function, ... */
	char	   *auth_path;		/* search_path of the auth server's sessions */
	List	   *cascades;		/* Cascade */
	List	   *makers;			/* Maker */
};

/* A body that inserts into the table; invalid: perhaps into any. */
typedef struct Maker
{
	Oid			relid;
	const BodyCall *call;
} Maker;

/* ---------------------------------------------------------------------
 * What is reached
 * ---------------------------------------------------------------------
 */

static void
note_maker(Doctor *doctor, Oid relid, const BodyCall *call)
{
	MemoryContext old = MemoryContextSwitchTo(doctor->cxt);
	Maker	   *maker = (Maker *) palloc(sizeof(Maker));

	maker->relid = relid;
	maker->call = call;
	doctor->bodies->makers = lappend(doctor->bodies->makers, maker);
	MemoryContextSwitchTo(old);
}

static void
note_reach(Doctor *doctor, Oid relid, Oid role, int command, int events)
{
	ListCell   *lc;
	DoctorReach *r;
	MemoryContext old;

	foreach(lc, doctor->reached)
	{
		r = (DoctorReach *) lfirst(lc);
		if (r->relid == relid && r->role == role)
		{
			r->commands |= command;
			r->events |= events;
			return;
		}
	}
	old = MemoryContextSwitchTo(doctor->cxt);
	r = (DoctorReach *) palloc(sizeof(DoctorReach));
	r->relid = relid;
	r->role = role;
	r->commands = command;
	r->events = events;
	doctor->reached = lappend(doctor->reached, r);
	MemoryContextSwitchTo(old);
}

const DoctorReach *
doctor_reaches(Doctor *doctor, int *n)
{
	DoctorReach *all = (DoctorReach *) palloc(sizeof(DoctorReach) * (list_length(doctor->reached) + 1));
	ListCell   *lc;

	*n = 0;
	foreach(lc, doctor->reached)
		all[(*n)++] = *(DoctorReach *) lfirst(lc);
	return all;
}

bool
doctor_is_reached(Doctor *doctor, Oid relid)
{
	ListCell   *lc;

	foreach(lc, doctor->reached)
		if (((DoctorReach *) lfirst(lc))->relid == relid)
			return true;
	return false;
}

/* ---------------------------------------------------------------------
 * Calls
 * ---------------------------------------------------------------------
 */

static bool
same_arguments(const BodyCall *a, const BodyCall *b)
{
	if (a->args == NULL || b->args == NULL || a->nargs != b->nargs)
		return a->args == b->args;
	for (int i = 0; i < a->nargs; i++)
		if (a->args[i].metadata != b->args[i].metadata || (a->args[i].field == NULL) != (b->args[i].field == NULL) ||
			(a->args[i].field != NULL && strcmp(a->args[i].field, b->args[i].field) != 0))
			return false;
	return true;
}

static bool
same_call(const BodyCall *a, const BodyCall *b)
{
	return a->funcid == b->funcid && a->role == b->role && same_arguments(a, b) && strcmp(a->path, b->path) == 0 &&
		a->relid == b->relid && a->trigger_type == b->trigger_type && a->contained == b->contained &&
		bms_equal(a->nulls, b->nulls) && bms_equal(a->always_null, b->always_null) &&
		(a->condition == NULL ? b->condition == NULL : b->condition != NULL && strcmp(a->condition, b->condition) == 0);
}

/* The call as it is kept, which may have been met before; NULL: there are too many. */
static BodyCall *
add_call(Doctor *doctor, const BodyCall *call)
{
	ListCell   *lc;
	MemoryContext old;
	BodyCall   *c;
	struct BodyRun *run = doctor->bodies;

	if (list_length(run->calls) >= CALLS_MAX)
		return NULL;
	foreach(lc, run->calls)
	{
		c = (BodyCall *) lfirst(lc);
		if (!same_call(c, call))
			continue;
		c->events |= call->events;
		if (c->columns != NULL && call->columns != NULL)
		{
			old = MemoryContextSwitchTo(doctor->cxt);
			c->columns = bms_add_members(c->columns, call->columns);
			MemoryContextSwitchTo(old);
		}
		else
			c->columns = NULL;
		if (c->trigger != call->trigger && !c->has_condition && !call->has_condition)
			c->again = call->trigger_name;
		if (c->parent != NULL && call->parent != NULL && call->parent != c->parent)
		{
			old = MemoryContextSwitchTo(doctor->cxt);
			c->others = list_append_unique_ptr(c->others, call->parent);
			MemoryContextSwitchTo(old);
		}
		return c;
	}
	old = MemoryContextSwitchTo(doctor->cxt);
	c = (BodyCall *) palloc(sizeof(BodyCall));
	*c = *call;
	c->path = pstrdup(call->path);
	c->columns = bms_copy(call->columns);
	c->by_default = call->by_default ? pstrdup(call->by_default) : NULL;
	if (call->args != NULL)
	{
		c->args = (BodyArg *) palloc(sizeof(BodyArg) * Max(call->nargs, 1));
		for (int i = 0; i < call->nargs; i++)
		{
			c->args[i].metadata = call->args[i].metadata;
			c->args[i].field = call->args[i].field ? pstrdup(call->args[i].field) : NULL;
		}
	}
	c->leads_to = NIL;
	c->nulls = bms_copy(call->nulls);
	c->always_null = bms_copy(call->always_null);
	run->calls = lappend(run->calls, c);
	MemoryContextSwitchTo(old);
	return c;
}

static bool
comes_to(BodyCall *from, const BodyCall *to, List **seen)
{
	ListCell   *lc;

	check_stack_depth();
	if (from == to)
		return true;
	if (list_member_ptr(*seen, from))
		return false;
	*seen = lappend(*seen, from);
	foreach(lc, from->leads_to)
		if (comes_to((BodyCall *) lfirst(lc), to, seen))
			return true;
	return false;
}

/* Each run of the one calls the other, whatever the rows are like. Does that come back to it, with no condition to end it? */
static bool
closes_circle(Doctor *doctor, BodyCall *from, BodyCall *to)
{
	MemoryContext old;
	List	   *seen = NIL;

	if (from == NULL || to == NULL || to->has_condition || list_member_ptr(from->leads_to, to))
		return false;
	old = MemoryContextSwitchTo(doctor->cxt);
	from->leads_to = lappend(from->leads_to, to);
	MemoryContextSwitchTo(old);
	return comes_to(to, from, &seen);
}

/* An extension's function is not its user's to mend. */
static bool
is_of_extension(Oid classid, Oid objid)
{
	return OidIsValid(getExtensionOfObject(classid, objid));
}

/* Where a trigger is guarded, the function that it had before. */
static Oid
guarded_function(const struct BodyRun *run, Oid trigger)
{
	for (int i = 0; i + 1 < list_length(run->guarded); i += 2)
		if (list_nth_oid(run->guarded, i) == trigger)
			return list_nth_oid(run->guarded, i + 1);
	return InvalidOid;
}

static List *
condition_words(Doctor *doctor, const char *qual)
{
	MemoryContext old = MemoryContextSwitchTo(doctor->cxt);
	List	   *words = qual ? body_words((Node *) stringToNode(qual)) : NIL;

	MemoryContextSwitchTo(old);
	return words;
}

static bool
fires_for(const Trigger *trigger, CmdType command, Bitmapset *columns)
{
	switch (command)
	{
		case CMD_INSERT:
			return TRIGGER_FOR_INSERT(trigger->tgtype);
		case CMD_DELETE:
			return TRIGGER_FOR_DELETE(trigger->tgtype);
		case CMD_UPDATE:
			if (!TRIGGER_FOR_UPDATE(trigger->tgtype))
				return false;
			if (trigger->tgnattr == 0 || columns == NULL)
				return true;
			for (int i = 0; i < trigger->tgnattr; i++)
				if (bms_is_member(trigger->tgattr[i], columns))
					return true;
			return false;
		default:
			return false;
	}
}

typedef struct Writer
{
	Oid			role;
	Oid			after_role;		/* of AFTER triggers, where it is another */
	const char *path;
	BodyCall   *call;			/* NULL: the auth server itself */
	int			events;
	bool		contained;
	bool		certain;
	Bitmapset  *nulls;			/* as in BodyCall */
	Bitmapset  *always_null;
} Writer;

/* A foreign key's action that was followed: into which table, as what. */
typedef struct Cascade
{
	Writer		writer;
	Oid			relid;
	CmdType		command;
	Bitmapset  *columns;		/* that it sets */
	int			depth;
} Cascade;

static void reach_table(Doctor *doctor, const Writer *writer, Oid relid, CmdType command,
						Bitmapset *columns, int depth);

/* A trigger that is not on, and would do something if it were. */
static void
note_disabled(Doctor *doctor, Relation rel, const Trigger *trigger)
{
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	char	   *function = doctor_function_name(trigger->tgfoid);

	if (is_of_extension(ProcedureRelationId, trigger->tgfoid) || table == NULL || function == NULL)
		return;
	doctor_finding(doctor, DOCTOR_WARNING, "trigger",
				   psprintf("%s ON %s", quote_identifier(trigger->tgname), table),
				   trigger->tgenabled == TRIGGER_DISABLED ? "the trigger is disabled" : "the trigger is enabled for replicas only",
				   psprintf("%s is not called: what it does for users is not done. If that is meant, drop the trigger.", function),
				   psprintf("ALTER TABLE %s ENABLE TRIGGER %s;", table, quote_identifier(trigger->tgname)));
}

static void
note_endless(Doctor *doctor, Relation rel, const Trigger *trigger, const Writer *writer)
{
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	char	   *function = doctor_function_name(trigger->tgfoid);
	char	   *definition = doctor_definition(pg_get_triggerdef, trigger->tgoid);
	char	   *execute = NULL;
	char	   *fix = NULL;

	/* the last one: a name before it may be anything */
	for (char *s = definition; s != NULL && (s = strstr(s, " EXECUTE FUNCTION ")) != NULL; s++)
		execute = s;
	if (execute != NULL && strncmp(definition, "CREATE TRIGGER ", 15) == 0)
		fix = psprintf("CREATE OR REPLACE TRIGGER %.*s WHEN (pg_catalog.pg_trigger_depth() = 0)%s;",
					   (int) (execute - definition - 15), definition + 15, execute);
	doctor_finding(doctor, writer->contained ? DOCTOR_WARNING : DOCTOR_ERROR, "trigger",
				   psprintf("%s ON %s", quote_identifier(trigger->tgname), table),
				   "the trigger fires itself: infinite recursion until the stack depth limit is exceeded",
				   psprintf("%s leads to a write of %s that fires the trigger again, and no condition ends that: SQLSTATE 54001, on each %s. Let the trigger fire only when it is not called by itself (pg_trigger_depth()), or in a BEFORE trigger set the columns of NEW.",
							function, table, body_events(writer->events)),
				   fix);
}

/* What a trigger function in C is told by its arguments is not there. */
static void
note_argument(Doctor *doctor, const Writer *writer, const char *object, const char *finding, const char *detail, const char *fix)
{
	doctor_finding(doctor, writer->contained ? DOCTOR_WARNING : DOCTOR_ERROR, "trigger", object, finding, detail, fix);
}

/* Functions in C that people put on their tables: columns are named by their arguments. */
static void
check_arguments(Doctor *doctor, const Writer *writer, Relation rel, const Trigger *trigger)
{
	char	   *name = get_func_name(trigger->tgfoid);
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	char	   *object;
	bool		is_moddatetime;

	if (name == NULL || table == NULL)
		return;
	object = psprintf("%s ON %s", quote_identifier(trigger->tgname), table);
	is_moddatetime = strcmp(name, "moddatetime") == 0 && trigger->tgnargs == 1;
	if (is_moddatetime && get_attnum(RelationGetRelid(rel), trigger->tgargs[0]) == InvalidAttrNumber)
		note_argument(doctor, writer, object,
					  psprintf("moddatetime() is given column %s, which %s does not have", quote_identifier(trigger->tgargs[0]), table),
					  psprintf("Each UPDATE of %s fails. SQLSTATE 09000.", table),
					  psprintf("ALTER TABLE %s ADD COLUMN %s timestamptz DEFAULT pg_catalog.now();", table, quote_identifier(trigger->tgargs[0])));
	if ((trigger->tgfoid == F_TSVECTOR_UPDATE_TRIGGER || trigger->tgfoid == F_TSVECTOR_UPDATE_TRIGGER_COLUMN) && trigger->tgnargs >= 3)
	{
		for (int i = 0; i < trigger->tgnargs; i++)
			if ((i != 1 || trigger->tgfoid == F_TSVECTOR_UPDATE_TRIGGER_COLUMN) &&
				get_attnum(RelationGetRelid(rel), trigger->tgargs[i]) == InvalidAttrNumber)
				note_argument(doctor, writer, object,
							  psprintf("%s() is given column %s, which %s does not have", name, quote_identifier(trigger->tgargs[i]), table),
							  psprintf("Each row that is written fails: column \"%s\" does not exist. SQLSTATE 42703.", trigger->tgargs[i]),
							  psprintf("ALTER TABLE %s ADD COLUMN %s %s;", table, quote_identifier(trigger->tgargs[i]), i == 0 ? "tsvector" : "text"));
		if (trigger->tgfoid == F_TSVECTOR_UPDATE_TRIGGER && strchr(trigger->tgargs[1], '.') == NULL)
			note_argument(doctor, writer, object,
						  psprintf("%s() is given text search configuration %s without its schema", name, quote_identifier(trigger->tgargs[1])),
						  psprintf("Each row that is written fails: text search configuration name \"%s\" must be schema-qualified. SQLSTATE 3F000.", trigger->tgargs[1]),
						  psprintf("ALTER TABLE %s DISABLE TRIGGER %s;", table, quote_identifier(trigger->tgname)));
	}
}

/*
 * Does the WHEN clause wait for a change of a column that this UPDATE leaves as
 * it is? No BEFORE trigger may change it, either.
 */
static bool
awaits_another_change(Relation rel, const Trigger *trigger, Bitmapset *columns)
{
	List	   *quals;
	ListCell   *lc;

	if (trigger->tgqual == NULL || columns == NULL)
		return false;
	quals = make_ands_implicit((Expr *) stringToNode(trigger->tgqual));
	foreach(lc, quals)
	{
		OpExpr	   *op = (OpExpr *) lfirst(lc);
		Var		   *old;
		Var		   *new;
		char	   *name;

		/* <>, or = within IS DISTINCT FROM */
		if (!(IsA(op, DistinctExpr) || IsA(op, OpExpr)) || list_length(op->args) != 2 || (name = get_opname(op->opno)) == NULL ||
			strcmp(name, IsA(op, DistinctExpr) ? "=" : "<>") != 0)
			continue;
		old = (Var *) body_strip((Node *) linitial(op->args));
		new = (Var *) body_strip((Node *) lsecond(op->args));
		if (IsA(old, Var) && IsA(new, Var) && old->varno != new->varno && old->varattno == new->varattno && old->varattno > 0 &&
			!bms_is_member(old->varattno, columns) &&
			TupleDescAttr(RelationGetDescr(rel), old->varattno - 1)->attgenerated == '\0' &&
			!body_sets_column(RelationGetRelid(rel), NameStr(TupleDescAttr(RelationGetDescr(rel), old->varattno - 1)->attname), CMD_UPDATE, InvalidOid))
			return true;
	}
	return false;
}

static void
reach_trigger(Doctor *doctor, const Writer *writer, Relation rel, const Trigger *trigger, Bitmapset *columns, int depth)
{
	BodyCall	call;
	BodyCall   *kept;
	Oid			function = guarded_function(doctor->bodies, trigger->tgoid);

	check_arguments(doctor, writer, rel, trigger);
	memset(&call, 0, sizeof(call));
	call.parent = writer->call;
	call.funcid = OidIsValid(function) ? function : trigger->tgfoid;
	call.role = TRIGGER_FOR_AFTER(trigger->tgtype) && OidIsValid(writer->after_role) ? writer->after_role : writer->role;
	call.path = writer->path;
	call.events = writer->events;
	call.contained = writer->contained || OidIsValid(function);
	call.certain = writer->certain;
	call.depth = depth;
	call.relid = RelationGetRelid(rel);
	call.nulls = writer->nulls;
	call.always_null = writer->always_null;
	call.trigger = trigger->tgoid;
	call.trigger_name = MemoryContextStrdup(doctor->cxt, trigger->tgname);
	call.trigger_type = trigger->tgtype;
	call.has_condition = trigger->tgqual != NULL;
	call.deferred = trigger->tginitdeferred;
	call.condition_words = condition_words(doctor, trigger->tgqual);
	call.columns = columns;
	if (trigger->tgqual != NULL)
	{
		/* whoever writes evaluates it, whether or not the function is ever called */
		BodyCall	condition = call;

		condition.role = writer->role;
		condition.contained = writer->contained;
		condition.condition = MemoryContextStrdup(doctor->cxt, trigger->tgqual);
		add_call(doctor, &condition);
		if (awaits_another_change(rel, trigger, columns))
			return;
	}
	call.new_table = trigger->tgnewtable ? MemoryContextStrdup(doctor->cxt, trigger->tgnewtable) : NULL;
	call.old_table = trigger->tgoldtable ? MemoryContextStrdup(doctor->cxt, trigger->tgoldtable) : NULL;
	/* it waits for the COMMIT, and runs under the path of who gives that */
	if (trigger->tginitdeferred && writer->call != NULL)
	{
		if (!compat_trigger_keeps_role())
			call.role = doctor->auth_role;
		call.path = doctor->bodies->auth_path;
		call.contained = false;
	}
	kept = add_call(doctor, &call);
	if (writer->certain && closes_circle(doctor, writer->call, kept))
		note_endless(doctor, rel, trigger, writer);
}

/*
 * A foreign key's action that was not followed before, at least not from nearer:
 * tables that refer to each other have more ways than anybody could walk.
 */
static bool
is_new_cascade(Doctor *doctor, const Writer *writer, Oid relid, CmdType command, Bitmapset *columns, int depth)
{
	struct BodyRun *run = doctor->bodies;
	MemoryContext old;
	Cascade    *cascade;

	/* those of one call are one behind the other */
	for (int i = list_length(run->cascades) - 1; i >= 0; i--)
	{
		cascade = (Cascade *) list_nth(run->cascades, i);
		if (cascade->writer.call != writer->call)
			break;
		if (cascade->relid != relid || cascade->command != command || cascade->writer.role != writer->role ||
			cascade->writer.after_role != writer->after_role ||
			cascade->writer.events != writer->events || cascade->writer.contained != writer->contained ||
			cascade->writer.certain != writer->certain || !bms_equal(cascade->columns, columns))
			continue;
		if (cascade->depth <= depth)
			return false;
		cascade->depth = depth;
		return true;
	}
	old = MemoryContextSwitchTo(doctor->cxt);
	cascade = (Cascade *) palloc(sizeof(Cascade));
	cascade->writer = *writer;
	cascade->relid = relid;
	cascade->command = command;
	cascade->columns = bms_copy(columns);
	cascade->depth = depth;
	run->cascades = lappend(run->cascades, cascade);
	MemoryContextSwitchTo(old);
	return true;
}

/* The columns that ON DELETE SET NULL or SET DEFAULT sets. */
static Bitmapset *
columns_set(Oid constraint)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	AttrNumber	keys[INDEX_MAX_KEYS];
	AttrNumber	others[INDEX_MAX_KEYS];
	AttrNumber	chosen[INDEX_MAX_KEYS];
	Oid			operators[3][INDEX_MAX_KEYS];
	int			nkeys;
	int			nchosen;
	Bitmapset  *columns = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	DeconstructFkConstraintRow(tuple, &nkeys, keys, others, operators[0], operators[1], operators[2], &nchosen, chosen);
	ReleaseSysCache(tuple);
	for (int i = 0; i < (nchosen > 0 ? nchosen : nkeys); i++)
		columns = bms_add_member(columns, nchosen > 0 ? chosen[i] : keys[i]);
	return columns;
}

/* Row triggers that partitions have of their own: which of them a row comes to is not asked. */
static void
reach_partitions(Doctor *doctor, const Writer *writer, Oid relid, CmdType command, int depth)
{
	ListCell   *lc;

	foreach(lc, body_partitions(relid))
	{
		Relation	rel = try_relation_open(lfirst_oid(lc), AccessShareLock);
		TriggerDesc *triggers = rel ? CopyTriggerDesc(rel->trigdesc) : NULL;
		Writer		uncertain = *writer;

		/* nor have its columns the same numbers */
		uncertain.certain = false;
		uncertain.nulls = uncertain.always_null = NULL;
		for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		{
			const Trigger *trigger = &triggers->triggers[i];

			if (!trigger->tgisinternal && !trigger->tgisclone && TRIGGER_FOR_ROW(trigger->tgtype) && fires_for(trigger, command, NULL) &&
				trigger->tgenabled != TRIGGER_DISABLED && trigger->tgenabled != TRIGGER_FIRES_ON_REPLICA)
				reach_trigger(doctor, &uncertain, rel, trigger, NULL, depth);
		}
		if (rel != NULL)
			relation_close(rel, AccessShareLock);
	}
}

/* What a write of this table sets off. */
static void
reach_table(Doctor *doctor, const Writer *writer, Oid relid, CmdType command, Bitmapset *columns, int depth)
{
	Relation	rel;
	TriggerDesc *triggers;

	CHECK_FOR_INTERRUPTS();
	if (depth > DEPTH_MAX || !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return;
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		return;
	/* copied: the descriptor may be built again while catalogs are read, as in all that follows */
	triggers = CopyTriggerDesc(rel->trigdesc);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgisinternal)
		{
			Writer		cascade = *writer;
			Bitmapset  *set = NULL;
			CmdType		then;

			/*
			 * A foreign key's action: as the owner of the table that refers to
			 * this one. Its AFTER triggers wait for the end of the statement.
			 */
			if (command != CMD_DELETE || !OidIsValid(trigger->tgconstrrelid))
				continue;
			if (trigger->tgfoid == F_RI_FKEY_CASCADE_DEL)
				then = CMD_DELETE;
			else if (trigger->tgfoid == F_RI_FKEY_SETNULL_DEL || trigger->tgfoid == F_RI_FKEY_SETDEFAULT_DEL)
				then = CMD_UPDATE;
			else
				continue;
			if (trigger->tgconstrrelid == relid)
				continue;
			{
				HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(trigger->tgconstrrelid));

				if (!HeapTupleIsValid(tuple))
					continue;
				cascade.role = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
				if (!compat_trigger_keeps_role() && !OidIsValid(cascade.after_role))
					cascade.after_role = writer->role;
				ReleaseSysCache(tuple);
			}
			if (then == CMD_UPDATE)
				set = columns_set(trigger->tgconstraint);
			if (is_new_cascade(doctor, &cascade, trigger->tgconstrrelid, then, set, depth + 1))
				reach_table(doctor, &cascade, trigger->tgconstrrelid, then, set, depth + 1);
			continue;
		}
		if (!fires_for(trigger, command, columns))
			continue;
		if (trigger->tgenabled == TRIGGER_DISABLED || trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA)
		{
			note_disabled(doctor, rel, trigger);
			continue;
		}
		reach_trigger(doctor, writer, rel, trigger, columns, depth);
	}
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		reach_partitions(doctor, writer, relid, command, depth);
	relation_close(rel, AccessShareLock);
}

static void
add_effect(Body *body, bool is_call, Oid id, CmdType command, Bitmapset *columns, bool certain)
{
	MemoryContext old = MemoryContextSwitchTo(body->cxt);
	BodyEffect *e = (BodyEffect *) palloc0(sizeof(BodyEffect));

	e->is_call = is_call;
	e->id = id;
	e->command = command;
	e->columns = bms_copy(columns);
	e->contained = body_is_caught(body, ERRCODE_INTERNAL_ERROR);
	e->certain = certain && body->conditions == 0;
	e->by_default = is_call && body->column != NULL ?
		psprintf("column %s of %s", quote_identifier(body->column), doctor_relation_name(body->table)) : NULL;
	body->effects = lappend(body->effects, e);
	MemoryContextSwitchTo(old);
}

void
body_writes(Body *body, Oid relid, CmdType command, Bitmapset *columns, bool certain)
{
	add_effect(body, false, relid, command, columns, certain);
}

void
body_calls(Body *body, Oid funcid, int nargs, BodyArg *args)
{
	bool		certain = body->conditions == 0;

	/* does it come back to itself, with nothing in between that would end it? */
	for (const BodyCall *c = body->call; c != NULL && certain; c = c->parent)
	{
		if (c->funcid == funcid && c->condition == NULL && !OidIsValid(c->trigger))
		{
			body_found(body, DOCTOR_ERROR, ERRCODE_STATEMENT_TOO_COMPLEX, "function", doctor_function_name(funcid),
					   "the function calls itself: infinite recursion until the stack depth limit is exceeded",
					   psprintf("At %s, and no condition ends that.", body_where(body)), NULL);
			break;
		}
		certain = c->certain;
	}
	if (funcid != body->call->funcid)
	{
		BodyEffect *e;

		add_effect(body, true, funcid, CMD_NOTHING, NULL, true);
		e = (BodyEffect *) llast(body->effects);
		e->nargs = nargs;
		e->args = args;
	}
}

/* What the last pass has found to be written and called is looked at next. */
static void
follow_effects(Body *body)
{
	ListCell   *lc;
	bool		depth_asked = body_mentions(body, "pg_trigger_depth");

	foreach(lc, body->effects)
	{
		BodyEffect *e = (BodyEffect *) lfirst(lc);

		if (e->is_call)
		{
			BodyCall	call;

			if (body->call->depth >= DEPTH_MAX)
				continue;
			memset(&call, 0, sizeof(call));
			call.parent = body->call;
			call.funcid = e->id;
			call.role = body->role;
			call.path = body->path;
			call.events = body->call->events;
			call.contained = e->contained;
			call.certain = e->certain && !depth_asked;
			call.depth = body->call->depth + 1;
			call.by_default = e->by_default;
			call.nargs = e->nargs;
			call.args = e->args;
			if (call.certain)
				(void) closes_circle(body->doctor, body->call, add_call(body->doctor, &call));
			else
				add_call(body->doctor, &call);
		}
		else
		{
			Writer		writer;

			if (e->command == CMD_INSERT)
				note_maker(body->doctor, e->id, body->call);
			/* what a view's triggers write comes by themselves */
			if (get_rel_relkind(e->id) != RELKIND_VIEW)
				note_reach(body->doctor, e->id, body->role, 1 << e->command, body->call->events);
			memset(&writer, 0, sizeof(writer));
			writer.role = body->role;
			writer.path = body->path;
			writer.call = body->call;
			writer.events = body->call->events;
			writer.contained = e->contained;
			writer.certain = e->certain && !depth_asked;
			writer.nulls = e->nulls;
			writer.always_null = e->always_null;
			reach_table(body->doctor, &writer, e->id, e->command, e->columns, body->call->depth + 1);
		}
	}
}

/* ---------------------------------------------------------------------
 * Findings of a body
 * ---------------------------------------------------------------------
 */

const char *
body_events(int events)
{
	static const struct
	{
		CmdType		command;
		const char *word;
	}			words[] = {{CMD_INSERT, "INSERT"}, {CMD_UPDATE, "UPDATE"}, {CMD_DELETE, "DELETE"}};
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < (int) lengthof(words); i++)
		if (events & (1 << words[i].command))
			appendStringInfo(&s, "%s%s", s.len ? ", " : "", words[i].word);
	return s.data;
}

/* By which way the auth server comes here. */
static const char *
body_way(const BodyCall *call)
{
	const BodyCall *first = call;
	StringInfoData s;

	initStringInfo(&s);
	while (first->parent != NULL)
		first = first->parent;
	for (const BodyCall *c = call; c != NULL && !OidIsValid(c->trigger); c = c->parent)
		if (c->by_default != NULL)
		{
			appendStringInfo(&s, "The default of %s calls it. ", c->by_default);
			break;
		}
	for (const BodyCall *c = call; c != NULL; c = c->parent)
		if (OidIsValid(c->trigger))
		{
			appendStringInfo(&s, "It is called %sby trigger %s on %s", c->deferred ? "at COMMIT, since it is deferred, " : "",
							 quote_identifier(c->trigger_name), doctor_relation_name(c->relid));
			if (c->relid != first->relid && OidIsValid(first->relid))
				appendStringInfo(&s, ", which trigger %s on %s leads to", quote_identifier(first->trigger_name),
								 doctor_relation_name(first->relid));
			break;
		}
	if (s.len > 0)
		appendStringInfo(&s, " (%s of the auth server).", body_events(call->events));
	return s.data;
}

const char *
body_where(Body *body)
{
	if (body->call->condition != NULL)
		return psprintf("the WHEN condition of %s", body->name);
	if (body->column != NULL)
		return psprintf("the default of column %s of %s, to which line %d of the body of %s leaves it", quote_identifier(body->column),
						doctor_relation_name(body->table), body->line, body->name);
	if (body->line > 0)
		return psprintf("line %d of the body of %s", body->line, body->name);
	return psprintf("the body of %s", body->name);
}

static bool
text_mentions(const char *text, const char *word)
{
	size_t		len = strlen(word);
	char		upper = (char) pg_toupper((unsigned char) word[0]);
	char		lower = (char) pg_tolower((unsigned char) word[0]);

	/* a large body may be asked for each of many columns */
	CHECK_FOR_INTERRUPTS();
	for (; *text; text++)
		if ((*text == upper || *text == lower) && pg_strncasecmp(text, word, len) == 0)
			return true;
	return false;
}

bool
body_mentions(Body *body, const char *word)
{
	return body->source != NULL && text_mentions(body->source, word);
}

/* Is the text one of these (char *)? */
bool
body_listed(const List *texts, const char *text)
{
	ListCell   *lc;

	foreach(lc, texts)
		if (strcmp((char *) lfirst(lc), text) == 0)
			return true;
	return false;
}

/* Do the handlers around the statement, or somebody further out, catch it? */
bool
body_is_caught(Body *body, int sqlstate)
{
	ListCell   *lc;

	if (body->call->contained)
		return true;
	foreach(lc, body->handlers)
	{
		ListCell   *lc2;

		foreach(lc2, (List *) lfirst(lc))
			if (lfirst_int(lc2) == -1 || lfirst_int(lc2) == sqlstate ||
				(ERRCODE_IS_CATEGORY(lfirst_int(lc2)) && ERRCODE_TO_CATEGORY(sqlstate) == lfirst_int(lc2)))
				return true;
	}
	return false;
}

void
body_found(Body *body, DoctorSeverity severity, int sqlstate, const char *area,
		   const char *object, const char *finding, const char *detail, const char *fix)
{
	MemoryContext old;
	BodyFinding *f;
	bool		caught = body_is_caught(body, sqlstate);

	/* dropped meanwhile */
	if (object == NULL)
		return;
	old = MemoryContextSwitchTo(body->cxt);
	f = (BodyFinding *) palloc0(sizeof(BodyFinding));
	f->severity = caught ? (severity == DOCTOR_ERROR ? DOCTOR_WARNING : DOCTOR_INFO) : severity;
	f->area = body->call->condition != NULL && strcmp(object, body->name) == 0 ? "trigger" : area;
	f->object = pstrdup(object);
	f->finding = pstrdup(finding);
	f->detail = psprintf("%s%s%s%s%s",
						 strstr(finding, object) || strstr(detail, object) ? "" : psprintf("%s. ", object), detail,
						 sqlstate ? psprintf(" SQLSTATE %s.", unpack_sql_state(sqlstate)) : "",
						 caught ? CAUGHT : "",
						 psprintf(" %s", body_way(body->call)));
	f->fix = fix ? pstrdup(fix) : NULL;
	f->caught = caught;
	body->found = lappend(body->found, f);
	MemoryContextSwitchTo(old);
}

void
body_found_edit(Body *body, DoctorSeverity severity, int sqlstate, const char *finding, const char *detail)
{
	body_found(body, severity, sqlstate, "function", body->name, finding, detail, NULL);
	((BodyFinding *) llast(body->found))->by_edit = true;
}

/* Where the line of the statement begins, or NULL. */
const char *
body_line(Body *body)
{
	const char *line = body->source;

	for (int i = 1; i < body->line && line != NULL; i++)
	{
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return line;
}

/* Have a piece of the body's text put into something else, or replaced. */
bool
body_edit_source(Body *body, int from, int to, const char *before, const char *after, bool replace)
{
	MemoryContext old;
	BodyEdit   *edit;
	ListCell   *lc;

	foreach(lc, body->edits)
	{
		BodyEdit   *e = (BodyEdit *) lfirst(lc);

		if (e->from == from && e->to == to)
			return true;
		if (e->from < to && from < e->to)
			return false;
	}
	old = MemoryContextSwitchTo(body->cxt);
	edit = (BodyEdit *) palloc(sizeof(BodyEdit));
	edit->from = from;
	edit->to = to;
	edit->before = pstrdup(before);
	edit->after = pstrdup(after);
	edit->replace = replace;
	body->edits = lappend(body->edits, edit);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * The same, counted in the statement. False where that is not found as it is in
 * the body: INTO has been taken out of it.
 */
bool
body_edit(Body *body, int from, int to, const char *before, const char *after, bool replace)
{
	const char *line = body_line(body);
	const char *at;

	if (line == NULL || body->sql == NULL || body->dynamic || body->language == SQLlanguageId)
		return false;
	at = strstr(line, body->sql);
	if (at == NULL)
		return false;
	return body_edit_source(body, from + (int) (at - body->source), to + (int) (at - body->source), before, after, replace);
}

static int
compare_edits(const ListCell *a, const ListCell *b)
{
	return ((BodyEdit *) lfirst(a))->from - ((BodyEdit *) lfirst(b))->from;
}

/* The function with its edits, as one statement. */
static char *
edited_function(Body *body)
{
	char	   *definition = doctor_definition(pg_get_functiondef, body->call->funcid);
	char	   *at = definition ? strstr(definition, body->source) : NULL;
	size_t		len;
	StringInfoData s;
	int			done = 0;
	ListCell   *lc;

	if (at == NULL)
		return NULL;
	len = strlen(definition);
	while (len > 0 && definition[len - 1] == '\n')
		definition[--len] = '\0';
	list_sort(body->edits, compare_edits);
	initStringInfo(&s);
	appendBinaryStringInfo(&s, definition, (int) (at - definition));
	foreach(lc, body->edits)
	{
		BodyEdit   *e = (BodyEdit *) lfirst(lc);

		appendBinaryStringInfo(&s, body->source + done, e->from - done);
		appendStringInfoString(&s, e->before);
		if (!e->replace)
			appendBinaryStringInfo(&s, body->source + e->from, e->to - e->from);
		appendStringInfoString(&s, e->after);
		done = e->to;
	}
	appendStringInfoString(&s, body->source + done);
	appendStringInfoString(&s, at + strlen(body->source));
	appendStringInfoChar(&s, ';');
	return s.data;
}

/* The nearest triggers by which the auth server comes to a body. */
static void
find_nearest(const BodyCall *call, List **seen, List **triggers)
{
	ListCell   *lc;

	if (list_member_ptr(*seen, call))
		return;
	*seen = lappend(*seen, unconstify(BodyCall *, call));
	/* a view's cannot be switched off, what wrote the view can */
	if (OidIsValid(call->trigger) && !TRIGGER_FOR_INSTEAD(call->trigger_type))
		*triggers = lappend(*triggers, unconstify(BodyCall *, call));
	else
	{
		if (call->parent != NULL)
			find_nearest(call->parent, seen, triggers);
		foreach(lc, call->others)
			find_nearest((const BodyCall *) lfirst(lc), seen, triggers);
	}
}

/*
 * Where nothing else mends it: keep the failure from the auth server, until
 * somebody mends the body. Not where it refuses users on purpose.
 */
static char *
contain_trigger(Body *body, const char **how)
{
	List	   *seen = NIL;
	List	   *triggers = NIL;
	ListCell   *lc;
	const BodyCall *root = body->call;
	StringInfoData fix;

	while (root->parent != NULL)
		root = root->parent;
	if (root->contained)
		return NULL;
	find_nearest(body->call, &seen, &triggers);
	initStringInfo(&fix);
	foreach(lc, triggers)
	{
		const BodyCall *nearest = (const BodyCall *) lfirst(lc);
		bool		gate = quarantine_is_gate(nearest->funcid, (int16) nearest->trigger_type);

		if (fix.len > 0)
			appendStringInfoChar(&fix, '\n');
		/* nothing but the trigger's absence keeps its condition from being evaluated */
		if (body->call->condition != NULL || nearest->relid != body->doctor->auth_users)
		{
			if (body->call->condition != NULL && gate)
				return NULL;
			*how = psprintf("Until the %s is mended, the auth server is served with %s off, and what %s not done.",
							body->call->condition != NULL ? "condition" : "body",
							list_length(triggers) > 1 ? "these triggers" : "this trigger", list_length(triggers) > 1 ? "they do is" : "it does is");
			appendStringInfo(&fix, "ALTER TABLE %s DISABLE TRIGGER %s;", doctor_relation_name(nearest->relid),
							 quote_identifier(nearest->trigger_name));
			continue;
		}
		if (body->refuses || (gate && nearest != body->call))
			return NULL;
		if (*how == NULL)
			*how = "Until the body is mended, guard_trigger() keeps its failures from the auth server.";
		/* what only looks like a refusal is none: the body was read */
		appendStringInfo(&fix, "SELECT invite_sync.guard_trigger(%s%s);", quote_literal_cstr(nearest->trigger_name),
						 gate ? ", on_failure => 'let_in'" : "");
	}
	return fix.len > 0 ? fix.data : NULL;
}

static char *
join(List *strings, const char *separator)
{
	StringInfoData s;
	ListCell   *lc;

	initStringInfo(&s);
	foreach(lc, strings)
		appendStringInfo(&s, "%s%s", s.len ? separator : "", (char *) lfirst(lc));
	return s.data;
}

/* A search_path to SET: a list of quoted names. */
static char *
path_text(Body *body)
{
	List	   *names = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(body->pinned ? body->pinned : body->call->path), ',', &names))
		names = NIL;
	foreach(lc, body->add_schemas)
		result = lappend(result, pstrdup(quote_identifier((char *) lfirst(lc))));
	/* a path that the function never chose is replaced, unless the body lives by it */
	if (body->pinned || !body->add_first || body->add_schemas == NIL)
	{
		List	   *own = NIL;

		foreach(lc, names)
		{
			char	   *name = (char *) lfirst(lc);

			if (name[0] != '\0' && strcmp(name, "pg_temp") != 0 && !body_listed(body->add_schemas, name))
				own = lappend(own, pstrdup(quote_identifier(name)));
		}
		result = body->add_first ? list_concat(result, own) : list_concat(own, result);
	}
	if (result == NIL)
		return pstrdup("''");
	return psprintf("%s, pg_temp", join(result, ", "));
}

/* The one statement that mends names and rights of the whole body. */
static char *
body_fix(Body *body)
{
	bool		pin = body->add_schemas != NIL || (body->make_definer && body->pinned == NULL);

	return psprintf("ALTER %s %s%s%s;", body->kind, body->name,
					body->make_definer ? " SECURITY DEFINER" : "",
					pin ? psprintf(" SET search_path = %s", path_text(body)) : "");
}

static const char *
shown_path(const char *path)
{
	return path[0] == '\0' || strcmp(path, "\"\"") == 0 ? "the empty search_path" : psprintf("search_path %s", path);
}

static void
report(Body *body)
{
	Doctor	   *doctor = body->doctor;
	ListCell   *lc;
	List	   *all;
	const char *way;
	const char *edited = NULL;

	body->line = 0;
	body->handlers = NIL;
	way = body_way(body->call);
	if (body->misplaced != NIL)
	{
		doctor_finding(doctor, body->names_escape ? DOCTOR_ERROR : DOCTOR_WARNING, "function", body->name,
					   body->pinned ? "the search_path that the function sets does not hold what its body names without a schema"
					   : "the function sets no search_path, and names without a schema are not found in the caller's",
					   psprintf("%s runs under %s, which %s: %s.%s %s", body->name,
								shown_path(body->pinned ? body->pinned : body->call->path),
								body->pinned ? "it sets itself" : "is the auth server's or that of the function that calls it",
								join(body->misplaced, "; "), body->names_escape ? "" : CAUGHT, way),
					   body_fix(body));
	}
	if (body->denied != NIL && body->make_definer)
		doctor_finding(doctor, body->rights_escape ? DOCTOR_ERROR : DOCTOR_WARNING, "function", body->name,
					   psprintf("security definer is missing: permission denied for role %s",
								doctor_role_name(body->call->role)),
					   psprintf("%s runs as %s, the auth server's role, who may not: %s. SQLSTATE 42501. As SECURITY DEFINER it runs as its owner %s.%s %s",
								body->name, doctor_role_name(body->call->role), join(body->denied, "; "),
								doctor_role_name(body->owner), body->rights_escape ? "" : CAUGHT, way),
					   body_fix(body));
	all = body->found;
	foreach(lc, all)
	{
		BodyFinding *f = (BodyFinding *) lfirst(lc);
		const char *detail = f->detail;
		const char *fix = f->fix;
		const char *how = NULL;

		CHECK_FOR_INTERRUPTS();
		/* one statement for all of them, which is as long as the body */
		if (f->by_edit && edited == NULL && (edited = edited_function(body)) != NULL && (body->misplaced != NIL || body->make_definer))
			edited = psprintf("%s\n%s", edited, body_fix(body));
		if (f->by_edit)
			fix = edited;
		if (f->by_path && fix != NULL)
			fix = psprintf("%s\n%s", fix, body_fix(body));
		if (fix == NULL && f->severity != DOCTOR_INFO && !f->caught &&
			(strcmp(f->area, "function") == 0 || (strcmp(f->area, "trigger") == 0 && body->call->condition != NULL)) &&
			(fix = contain_trigger(body, &how)) != NULL)
			detail = psprintf("%s %s", detail, how);
		doctor_finding(doctor, f->severity, f->area, f->object, f->finding, detail, fix);
	}
}

/* ---------------------------------------------------------------------
 * One body
 * ---------------------------------------------------------------------
 */

static void
sql_parser_setup(ParseState *pstate, void *arg)
{
	sql_fn_parser_setup(pstate, (SQLFunctionParseInfoPtr) arg);
}

static void
walk_sql(Body *body)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(body->call->funcid));
	SQLFunctionParseInfoPtr info;
	Datum		sqlbody;
	bool		isnull;
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		return;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	for (int i = 0; i < proc->pronargs; i++)
		if (IsPolymorphicType(proc->proargtypes.values[i]))
		{
			ReleaseSysCache(tuple);
			return;
		}
	sqlbody = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	if (!isnull)
	{
		/* its names are bound already */
		Node	   *n = (Node *) stringToNode(TextDatumGetCString(sqlbody));
		List	   *queries = IsA(n, List) ? linitial_node(List, castNode(List, n)) : list_make1(n);
		ListCell   *lc;

		foreach(lc, queries)
			if (IsA(lfirst(lc), Query))
				body_query(body, (Query *) lfirst(lc));
	}
	else
	{
		info = prepare_sql_fn_parse_info(tuple, NULL, InvalidOid);
		body_analyse(body, body->source, RAW_PARSE_DEFAULT, sql_parser_setup, info, NULL, NULL);
	}
	ReleaseSysCache(tuple);
}

static void
walk(Body *body)
{
	body->found = NIL;
	body->effects = NIL;
	body->edits = NIL;
	body->refuses = false;
	body->sql = NULL;
	body->refs = NIL;
	body->guards = list_copy(body->call->condition_words);
	body->conditions = 0;
	body->loops = 0;
	body->in_handler = false;
	body->doubts = 0;
	body->handlers = NIL;
	body->temporary = NIL;
	body->defaults = NIL;
	body->awaited = NIL;
	body->assigned = NIL;
	body->made = NIL;
	body->set = NIL;
	body->column = NULL;
	body->path_unknown = false;
	body->changed = false;
	body->line = 0;
	body->vars = NULL;
	body->nvars = 0;
	if (body->language == SQLlanguageId)
		walk_sql(body);
	else
		body_walk_plpgsql(body);
}

static char *
pinned_path(HeapTuple tuple)
{
	bool		isnull;
	Datum		config = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &isnull);

	return isnull ? NULL : doctor_setting(DatumGetArrayTypeP(config), "search_path");
}

static void
new_path(Body *body)
{
	StringInfoData s;
	List	   *names = NIL;

	body->path = pstrdup(body->pinned ? body->pinned : body->call->path);
	if (body->add_schemas == NIL)
		return;
	/* path_text() is what SET is given; '' stands alone */
	initStringInfo(&s);
	appendStringInfoString(&s, path_text(body));
	if (SplitIdentifierString(pstrdup(s.data), ',', &names))
		body->path = s.data;
}

static void
analyse_call(Doctor *doctor, void *arg)
{
	BodyCall   *call = (BodyCall *) arg;
	MemoryContext cxt = AllocSetContextCreate(doctor->cxt, "doctor body", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	Form_pg_proc proc;
	Body		body;
	bool		isnull;
	Datum		source;
	ListCell   *lc;

	if (!HeapTupleIsValid(tuple))
	{
		/* dropped meanwhile */
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return;
	}
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	memset(&body, 0, sizeof(body));
	body.doctor = doctor;
	body.call = call;
	body.cxt = cxt;
	body.name = doctor_function_name(call->funcid);
	body.language = proc->prolang;
	body.owner = proc->proowner;
	body.definer = proc->prosecdef;
	body.pinned = pinned_path(tuple);
	body.kind = proc->prokind == PROKIND_PROCEDURE ? "PROCEDURE" : "FUNCTION";
	source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	body.source = isnull ? NULL : TextDatumGetCString(source);
	ReleaseSysCache(tuple);
	body.role = body.definer ? body.owner : call->role;
	new_path(&body);
	if (body.name == NULL || (body.language != SQLlanguageId && body.language != get_language_oid("plpgsql", true)))
	{
		/* what is in C or another language says nothing to us, nor what is gone by now */
		note_maker(doctor, InvalidOid, call);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return;
	}
	if (!doctor_may_look(doctor, body.owner) || !doctor_may_look(doctor, body.role))
	{
		doctor_finding(doctor, DOCTOR_INFO, "function", body.name, "was not looked at: it is a superuser's",
					   psprintf("Only a superuser's doctor() analyses what runs as one. %s", body_way(call)), NULL);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return;
	}
	for (int pass = 0; pass < PASSES_MAX; pass++)
	{
		walk(&body);
		if (!body.changed)
			break;
		body.role = body.definer || body.make_definer ? body.owner : call->role;
		new_path(&body);
	}
	if (body.language != SQLlanguageId)
		body_ask_checker(&body);
	report(&body);
	follow_effects(&body);
	if (body_mentions(&body, "execute"))
		note_maker(doctor, InvalidOid, call);
	MemoryContextSwitchTo(doctor->cxt);
	foreach(lc, body.awaited)
	{
		BodyAwaited *awaited = (BodyAwaited *) palloc(sizeof(BodyAwaited));

		*awaited = *(BodyAwaited *) lfirst(lc);
		awaited->where = pstrdup(awaited->where);
		doctor->awaited = lappend(doctor->awaited, awaited);
	}
	foreach(lc, body.made)
	{
		BodyMade   *made = (BodyMade *) palloc(sizeof(BodyMade));

		*made = *(BodyMade *) lfirst(lc);
		made->values = copyObject(made->values);
		made->where = pstrdup(made->where);
		doctor->made = lappend(doctor->made, made);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* NEW and OLD as a body has them. */
static Node *
row_mutator(Node *node, void *context)
{
	Body	   *body = (Body *) context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		BodyRef    *ref = (BodyRef *) palloc0(sizeof(BodyRef));
		Param	   *param = makeNode(Param);

		ref->dno = -1;
		ref->is_new = var->varno == PRS2_NEW_VARNO;
		ref->is_old = var->varno == PRS2_OLD_VARNO;
		ref->whole = var->varattno == InvalidAttrNumber;
		ref->field = ref->whole ? NULL : get_attname(body->call->relid, var->varattno, true);
		body->refs = lappend(body->refs, ref);
		param->paramkind = PARAM_EXTERN;
		param->paramid = list_length(body->refs);
		param->paramtype = var->vartype;
		param->paramtypmod = var->vartypmod;
		param->paramcollid = var->varcollid;
		param->location = -1;
		return (Node *) param;
	}
	return expression_tree_mutator(node, row_mutator, context);
}

/* The WHEN clause of a trigger: bound to what it names, but evaluated as whoever writes. */
static void
analyse_condition(Doctor *doctor, void *arg)
{
	BodyCall   *call = (BodyCall *) arg;
	MemoryContext cxt = AllocSetContextCreate(doctor->cxt, "doctor condition", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Body		body;
	ListCell   *lc;

	memset(&body, 0, sizeof(body));
	body.doctor = doctor;
	body.call = call;
	body.cxt = cxt;
	body.name = psprintf("%s ON %s", quote_identifier(call->trigger_name), doctor_relation_name(call->relid));
	body.kind = "FUNCTION";
	body.owner = body.role = call->role;
	body.path = pstrdup(call->path);
	/* a field that is asked for more than once guards itself */
	foreach(lc, call->condition_words)
		for (int i = foreach_current_index(lc) + 1; i < list_length(call->condition_words); i++)
			if (strcmp((char *) lfirst(lc), (char *) list_nth(call->condition_words, i)) == 0)
				body.guards = lappend(body.guards, lfirst(lc));
	body_expression(&body, row_mutator((Node *) stringToNode(call->condition), &body));
	report(&body);
	follow_effects(&body);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Those of a partitioned table, at any depth; none where they are too many to be looked at. */
List *
body_partitions(Oid relid)
{
	List	   *all = list_delete_oid(find_all_inheritors(relid, NoLock, NULL), relid);

	return list_length(all) > PARTITIONS_MAX ? NIL : all;
}

/* What the body has put into a column of NEW so far, or NULL. */
BodySet *
body_set(Body *body, const char *field)
{
	ListCell   *lc;

	foreach(lc, body->set)
		if (strcmp(((BodySet *) lfirst(lc))->field, field) == 0)
			return (BodySet *) lfirst(lc);
	return NULL;
}

/* Does a BEFORE trigger of the table, but for that one, perhaps fill the column? Where that cannot be seen, yes. */
static bool
is_set_by_trigger(Oid relid, const char *column, CmdType command, Bitmapset *columns, Oid except)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	TriggerDesc *triggers;
	bool		result = false;
	Oid			plpgsql = get_language_oid("plpgsql", true);

	if (rel == NULL)
		return true;
	triggers = CopyTriggerDesc(rel->trigdesc);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers && !result; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		HeapTuple	tuple;
		Datum		source;
		bool		isnull;
		char	   *code;

		if (trigger->tgisinternal || !TRIGGER_FOR_BEFORE(trigger->tgtype) || !TRIGGER_FOR_ROW(trigger->tgtype) ||
			!fires_for(trigger, command, columns) || trigger->tgenabled == TRIGGER_DISABLED || trigger->tgoid == except)
			continue;
		tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(trigger->tgfoid));
		if (!HeapTupleIsValid(tuple))
			continue;
		source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
		code = isnull ? NULL : TextDatumGetCString(source);
		result = ((Form_pg_proc) GETSTRUCT(tuple))->prolang != plpgsql || code == NULL ||
			text_mentions(code, column) || text_mentions(code, "populate_record") || text_mentions(code, "execute");
		ReleaseSysCache(tuple);
	}
	relation_close(rel, AccessShareLock);
	return result;
}

bool
body_sets_column(Oid relid, const char *column, CmdType command, Oid except)
{
	return is_set_by_trigger(relid, column, command, NULL, except);
}

/* Is the column the same in NEW and OLD here, since the UPDATE that fired the trigger sets others alone? */
bool
body_keeps_column(Body *body, const char *column)
{
	AttrNumber	attno;

	if (body->call->columns == NULL || !OidIsValid(body->call->trigger) || body_listed(body->assigned, column))
		return false;
	attno = get_attnum(body->call->relid, column);
	return attno > 0 && !bms_is_member(attno, body->call->columns) && get_attgenerated(body->call->relid, attno) == '\0' &&
		!is_set_by_trigger(body->call->relid, column, CMD_UPDATE, body->call->columns, body->call->trigger);
}

/* ---------------------------------------------------------------------
 * The run
 * ---------------------------------------------------------------------
 */

/* By its number where that is true, else (after a restore) by its name. */
static SavedPlan guarded_plan = {
	.sql = "SELECT t.oid, p.oid FROM invite_sync.guarded_trigger AS g "
	"JOIN pg_catalog.pg_trigger AS t ON t.tgname OPERATOR(pg_catalog.=) g.trigger_name "
	"JOIN pg_catalog.pg_proc AS p ON CASE WHEN g.registered_in OPERATOR(pg_catalog.=) $2 THEN p.oid OPERATOR(pg_catalog.=) g.function_id "
	"ELSE p.proname OPERATOR(pg_catalog.=) g.function_name AND p.pronargs OPERATOR(pg_catalog.=) 0 END "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace "
	"WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND (g.registered_in OPERATOR(pg_catalog.=) $2 OR n.nspname OPERATOR(pg_catalog.=) g.function_schema)",
	.nargs = 2,
	.argtypes = {OIDOID, TEXTOID}
};

static void
find_guarded(Doctor *doctor, void *arg)
{
	Scope		scope;
	Datum		values[2];

	values[0] = ObjectIdGetDatum(doctor->auth_users);
	values[1] = CStringGetTextDatum(caller_database_identity());
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&guarded_plan, values, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Oid			trigger = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		Oid			function = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		MemoryContext old;

		if (isnull)
			continue;
		old = MemoryContextSwitchTo(doctor->cxt);
		doctor->bodies->guarded = lappend_oid(lappend_oid(doctor->bodies->guarded, trigger), function);
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
}

/* The auth server's own statements: on each table of its schema that has triggers. */
static void
find_auth_triggers(Doctor *doctor, void *arg)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *tables = NIL;
	ListCell   *lc;
	static const CmdType commands[] = {CMD_INSERT, CMD_UPDATE, CMD_DELETE};
	Oid			namespace = get_rel_namespace(doctor->auth_users);

	ScanKeyInit(&key[0], Anum_pg_class_relowner, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(doctor->auth_role));
	scan = systable_beginscan(pg_class, InvalidOid, false, NULL, 1, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relnamespace == namespace && form->relhastriggers &&
			(form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE))
			tables = form->oid == doctor->auth_users ? lcons_oid(form->oid, tables) : lappend_oid(tables, form->oid);
	}
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	foreach(lc, tables)
		for (int i = 0; i < (int) lengthof(commands); i++)
		{
			Writer		writer;

			memset(&writer, 0, sizeof(writer));
			writer.role = doctor->auth_role;
			writer.path = doctor->bodies->auth_path;
			writer.events = 1 << commands[i];
			writer.certain = true;
			reach_table(doctor, &writer, lfirst_oid(lc), commands[i], NULL, 0);
		}
}

static SavedPlan targets_plan = {
	.sql = "SELECT c.oid, c.relowner, t.search_path FROM invite_sync.target AS t JOIN pg_catalog.pg_class AS c "
	"ON c.oid OPERATOR(pg_catalog.=) t.relation::pg_catalog.oid "
	"WHERE t.enabled AND t.registered_in OPERATOR(pg_catalog.=) $1 ORDER BY t.id",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/* A sync writes as the target's owner, and what fails goes to quarantine. */
static void
find_targets(Doctor *doctor, void *arg)
{
	Scope		scope;
	Datum		values[1];
	uint64		n;
	SPITupleTable *rows;
	BodyCall   *sync = (BodyCall *) MemoryContextAllocZero(doctor->cxt, sizeof(BodyCall));

	/* what fires after the triggers of each row */
	sync->trigger_type = TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT;
	sync->trigger_name = "invite_sync_insert";
	values[0] = CStringGetTextDatum(caller_lineage(InvalidSnapshot));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&targets_plan, values, NULL, true, 0);
	scope_leave(&scope);
	n = SPI_processed;
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Oid			relid = DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		Writer		writer;

		note_maker(doctor, relid, sync);
		memset(&writer, 0, sizeof(writer));
		writer.role = DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		writer.path = MemoryContextStrdup(doctor->cxt, SPI_getvalue(rows->vals[i], rows->tupdesc, 3));
		writer.events = (1 << CMD_INSERT) | (1 << CMD_UPDATE);
		writer.certain = true;
		note_reach(doctor, relid, writer.role, (1 << CMD_INSERT) | (1 << CMD_UPDATE), writer.events);
		writer.contained = true;
		reach_table(doctor, &writer, relid, CMD_INSERT, NULL, 1);
		reach_table(doctor, &writer, relid, CMD_UPDATE, NULL, 1);
	}
	SPI_finish();
}

/* The value of a setting in an array of name=value, or NULL. */
char *
doctor_setting(ArrayType *settings, const char *name)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	char	   *result = NULL;
	size_t		len = strlen(name);

	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *s = nulls[i] ? NULL : TextDatumGetCString(elems[i]);

		if (s != NULL && pg_strncasecmp(s, name, len) == 0 && s[len] == '=')
			result = s + len + 1;
	}
	return result;
}

static char *
setting_of(Oid database, Oid role, const char *name)
{
	Relation	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *result = NULL;

	ScanKeyInit(&key[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&key[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		config = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig, RelationGetDescr(rel), &isnull);

		if (!isnull)
			result = doctor_setting(DatumGetArrayTypeP(config), name);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

char *
doctor_role_setting(Oid role, const char *name)
{
	char	   *value = setting_of(MyDatabaseId, role, name);

	if (value == NULL)
		value = setting_of(InvalidOid, role, name);
	if (value == NULL)
		value = setting_of(MyDatabaseId, InvalidOid, name);
	if (value == NULL)
		value = setting_of(InvalidOid, InvalidOid, name);
	return value;
}

/* Is it of what a guarded trigger sets off? */
static bool
is_guarded(const struct BodyRun *run, const BodyCall *call)
{
	while (call->parent != NULL)
		call = call->parent;
	return OidIsValid(guarded_function(run, call->trigger));
}

/* The triggers by which the auth server comes to a body when it makes a user. */
static void
find_roots(const BodyCall *call, List **seen, List **roots)
{
	ListCell   *lc;

	if (list_member_ptr(*seen, call))
		return;
	*seen = lappend(*seen, unconstify(BodyCall *, call));
	if (call->parent != NULL)
		find_roots(call->parent, seen, roots);
	else if (TRIGGER_FOR_INSERT(call->trigger_type))
		*roots = lappend(*roots, unconstify(BodyCall *, call));
	foreach(lc, call->others)
		find_roots((const BodyCall *) lfirst(lc), seen, roots);
}

static bool
fires_after(const BodyCall *a, const BodyCall *b)
{
	int			turn_a = TRIGGER_FOR_BEFORE(a->trigger_type) ? 0 : TRIGGER_FOR_ROW(a->trigger_type) ? 1 : 2;
	int			turn_b = TRIGGER_FOR_BEFORE(b->trigger_type) ? 0 : TRIGGER_FOR_ROW(b->trigger_type) ? 1 : 2;

	return turn_a != turn_b ? turn_a > turn_b : strcmp(a->trigger_name, b->trigger_name) > 0;
}

/* Rows that refer to one of the user's own, which only a trigger makes that fires afterwards. */
static void
check_turns(Doctor *doctor, void *arg)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, doctor->awaited)
	{
		BodyAwaited *awaited = (BodyAwaited *) lfirst(lc);
		List	   *seen = NIL;
		List	   *roots = NIL;
		const BodyCall *first = NULL;
		char	   *child = doctor_relation_name(awaited->child);
		char	   *parent = doctor_relation_name(awaited->parent);
		char	   *key = get_constraint_name(awaited->key);
		bool		before = child == NULL || parent == NULL || key == NULL || awaited->call->has_condition;

		foreach(lc2, doctor->bodies->makers)
		{
			Maker	   *maker = (Maker *) lfirst(lc2);
			List	   *all = NIL;

			if (maker->relid == awaited->parent || !OidIsValid(maker->relid))
				find_roots(maker->call, &seen, &all);
			if (maker->relid == awaited->parent)
				roots = list_concat(roots, all);
		}
		foreach(lc2, seen)
		{
			const BodyCall *root = (const BodyCall *) lfirst(lc2);

			before = before || (root->parent == NULL && TRIGGER_FOR_INSERT(root->trigger_type) && !fires_after(root, awaited->call));
		}
		foreach(lc2, roots)
			if (first == NULL || fires_after(first, (const BodyCall *) lfirst(lc2)))
				first = (const BodyCall *) lfirst(lc2);
		if (before || first == NULL)
			continue;
		doctor_finding(doctor, awaited->caught ? DOCTOR_WARNING : DOCTOR_ERROR, "table", child,
					   psprintf("foreign key %s: the row of %s that it refers to is made only afterwards", quote_identifier(key), parent),
					   psprintf("%s is written at %s, by trigger %s on auth.users; the row of %s is made by trigger %s, which fires after it (triggers of each row before those of the statement, and each kind in the order of their names): "
								"insert violates foreign key constraint \"%s\". SQLSTATE 23503.%s %save the key wait for the COMMIT.",
								child, awaited->where, quote_identifier(awaited->call->trigger_name), parent, quote_identifier(first->trigger_name), key,
								awaited->caught ? CAUGHT : "", OidIsValid(first->trigger) ? "Rename one of them, or h" : "H"),
					   psprintf("ALTER TABLE %s ALTER CONSTRAINT %s DEFERRABLE INITIALLY DEFERRED;", child, quote_identifier(key)));
	}
}

static void
check_bodies(Doctor *doctor, bool guarded)
{
	struct BodyRun this_run;

	if (!OidIsValid(doctor->auth_role))
		return;
	memset(&this_run, 0, sizeof(this_run));
	doctor->bodies = &this_run;
	this_run.auth_path = doctor_role_setting(doctor->auth_role, "search_path");
	if (this_run.auth_path == NULL)
		this_run.auth_path = "\"$user\", public";
	doctor_contained(doctor, "trigger", "auth.users", find_guarded, NULL);
	doctor_contained(doctor, "trigger", "auth.users", find_auth_triggers, NULL);
	if (!guarded)
		doctor_contained(doctor, "target", "invite_sync.target", find_targets, NULL);

	/* the list grows meanwhile */
	for (int i = 0; i < list_length(this_run.calls); i++)
	{
		BodyCall   *call = (BodyCall *) list_nth(this_run.calls, i);
		char	   *name;

		CHECK_FOR_INTERRUPTS();
		if (guarded && !is_guarded(&this_run, call))
			continue;
		if (call->condition != NULL)
		{
			if (doctor_may_look(doctor, call->role))
				doctor_contained(doctor, "trigger", call->trigger_name, analyse_condition, call);
			continue;
		}
		if (call->funcid < FirstNormalObjectId || is_of_extension(ProcedureRelationId, call->funcid))
			continue;
		name = doctor_function_name(call->funcid);
		if (name != NULL)
			doctor_contained(doctor, "function", name, analyse_call, call);
	}
	if (!guarded)
		doctor_contained(doctor, "trigger", "auth.users", check_turns, NULL);
	doctor->bodies = NULL;
}

void
doctor_check_bodies(Doctor *doctor)
{
	check_bodies(doctor, false);
}

void
doctor_check_guarded(Doctor *doctor)
{
	check_bodies(doctor, true);
}
