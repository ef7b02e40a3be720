/*-------------------------------------------------------------------------
 *
 * doctor_plpgsql.c
 *	  Bodies in PL/pgSQL, statement by statement.
 *
 * PL/pgSQL compiles the function, as it does before the first call, and we walk
 * what it makes of it. Its own parser hooks need the records of a running call;
 * ours know NEW and OLD from the trigger's table, and other records from the
 * statements that filled them. What has no type before it runs is a NULL of
 * unknown type to the parser, and then only missing names are believed.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "plpgsql.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "caller.h"
#include "doctor_body.h"
#include "plan.h"

typedef PLpgSQL_function *(*compile_fn) (FunctionCallInfo fcinfo, bool for_validator);

/* What a statement is analysed with. */
typedef struct Statement
{
	Body	   *body;
	PLpgSQL_expr *expr;
	Oid			type;			/* of the first column of its result */
	Node	   *value;			/* the first column, where it is the only one */
	bool		returns;		/* there are rows to be put somewhere */
	bool		is_select;
	bool		is_utility;
	bool		always_true;	/* a condition, for the auth server */
	bool		never_true;
	bool		may_be_empty;	/* rows that depend on the user */
	TupleDesc	desc;			/* of the rows, in the body's memory */
	List	   *params;			/* Statement *: of what EXECUTE is given by USING */
} Statement;

static void walk_list(Body *body, List *stmts);

#define FUNCTION(body) ((PLpgSQL_function *) (body)->function)

/* In a function that is no trigger's these numbers are nobody's, and 0. */
#define IS_NEW(func, no) ((func)->fn_is_trigger == PLPGSQL_DML_TRIGGER && (no) == (func)->new_varno)
#define IS_OLD(func, no) ((func)->fn_is_trigger == PLPGSQL_DML_TRIGGER && (no) == (func)->old_varno)

/* ---------------------------------------------------------------------
 * Variables
 * ---------------------------------------------------------------------
 */

/* As plpgsql does: from the innermost block outwards, then the labels. */
static PLpgSQL_nsitem *
lookup(PLpgSQL_nsitem *item, const char *name1, const char *name2, const char *name3, int *names_used)
{
	while (item != NULL)
	{
		PLpgSQL_nsitem *i;

		for (i = item; i->itemtype != PLPGSQL_NSTYPE_LABEL; i = i->prev)
			if (strcmp(i->name, name1) == 0 && (name2 == NULL || i->itemtype != PLPGSQL_NSTYPE_VAR))
			{
				*names_used = 1;
				return i;
			}
		if (name2 != NULL && strcmp(i->name, name1) == 0)
			for (PLpgSQL_nsitem *j = item; j->itemtype != PLPGSQL_NSTYPE_LABEL; j = j->prev)
				if (strcmp(j->name, name2) == 0 && (name3 == NULL || j->itemtype != PLPGSQL_NSTYPE_VAR))
				{
					*names_used = 2;
					return j;
				}
		item = i->prev;
	}
	*names_used = 0;
	return NULL;
}

/* The columns of a record variable, or NULL: they are not known. Released with the memory. */
static TupleDesc
record_desc(Body *body, int dno)
{
	PLpgSQL_function *func = FUNCTION(body);
	PLpgSQL_rec *rec = (PLpgSQL_rec *) func->datums[dno];

	if ((IS_NEW(func, dno) || IS_OLD(func, dno)) && OidIsValid(body->call->relid))
		return dno < body->nvars && body->vars[dno].unclear ? NULL : body->vars[dno].desc;
	if (rec->rectypeid != RECORDOID && OidIsValid(rec->rectypeid))
	{
		TupleDesc	shared = lookup_rowtype_tupdesc_domain(rec->rectypeid, -1, true);
		TupleDesc	result;

		if (shared == NULL)
			return NULL;
		result = CreateTupleDescCopy(shared);
		ReleaseTupleDesc(shared);
		return result;
	}
	return dno < body->nvars && !body->vars[dno].unclear ? body->vars[dno].desc : NULL;
}

static Node *
make_param(Body *body, BodyRef *ref, Oid type, int32 typmod, Oid collation, int location)
{
	MemoryContext old = MemoryContextSwitchTo(body->cxt);
	BodyRef    *kept = (BodyRef *) palloc(sizeof(BodyRef));
	Param	   *param;

	*kept = *ref;
	kept->field = ref->field ? pstrdup(ref->field) : NULL;
	body->refs = lappend(body->refs, kept);
	MemoryContextSwitchTo(old);
	param = makeNode(Param);
	param->paramkind = PARAM_EXTERN;
	param->paramid = list_length(body->refs);
	param->paramtype = type;
	param->paramtypmod = typmod;
	param->paramcollid = OidIsValid(collation) ? collation : get_typcollation(type);
	param->location = location;
	return (Node *) param;
}

/* A NULL that takes on whatever type it is needed to have. */
static Node *
make_unknown(Body *body, int location)
{
	Const	   *c = makeConst(UNKNOWNOID, -1, InvalidOid, -2, (Datum) 0, true, false);

	c->location = location;
	body->uncertain = true;
	return (Node *) c;
}

static Node *
make_variable(Body *body, int dno, int location)
{
	PLpgSQL_function *func = FUNCTION(body);
	PLpgSQL_datum *datum = func->datums[dno];
	BodyRef		ref;

	memset(&ref, 0, sizeof(ref));
	ref.dno = dno;
	ref.is_new = IS_NEW(func, dno);
	ref.is_old = IS_OLD(func, dno);
	switch (datum->dtype)
	{
		case PLPGSQL_DTYPE_VAR:
		case PLPGSQL_DTYPE_PROMISE:
			{
				PLpgSQL_type *type = ((PLpgSQL_var *) datum)->datatype;

				if (type->ttype == PLPGSQL_TTYPE_PSEUDO)
					return make_unknown(body, location);
				return make_param(body, &ref, type->typoid, type->atttypmod, type->collation, location);
			}
		case PLPGSQL_DTYPE_REC:
			{
				PLpgSQL_rec *rec = (PLpgSQL_rec *) datum;

				ref.whole = true;
				if ((ref.is_new || ref.is_old) && OidIsValid(body->call->relid))
					return make_param(body, &ref, get_rel_type_id(body->call->relid), -1, InvalidOid, location);
				if (rec->rectypeid != RECORDOID && OidIsValid(rec->rectypeid))
					return make_param(body, &ref, rec->rectypeid, -1, InvalidOid, location);
				return make_param(body, &ref, RECORDOID, -1, InvalidOid, location);
			}
		default:
			return make_unknown(body, location);
	}
}

/* Has nothing been put into the record so far, in any branch? An argument holds what it was called with. */
static bool
is_unassigned(Body *body, int dno)
{
	PLpgSQL_function *func = FUNCTION(body);

	for (int i = 0; i < func->fn_nargs; i++)
		if (func->fn_argvarnos[i] == dno)
			return false;
	return ((PLpgSQL_rec *) func->datums[dno])->rectypeid == RECORDOID && dno < body->nvars &&
		!body->vars[dno].unclear && body->vars[dno].desc == NULL && body->loops == 0;
}

static Node *
make_field(Body *body, int dno, const char *field, int location)
{
	PLpgSQL_function *func = FUNCTION(body);
	TupleDesc	desc;
	BodyRef		ref;

	if ((IS_NEW(func, dno) || IS_OLD(func, dno)) && !OidIsValid(body->call->relid))
		return make_unknown(body, location);
	desc = record_desc(body, dno);
	if (desc == NULL && is_unassigned(body, dno))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("record \"%s\" is not assigned yet", ((PLpgSQL_rec *) func->datums[dno])->refname)));
	if (desc == NULL)
		return make_unknown(body, location);
	memset(&ref, 0, sizeof(ref));
	ref.dno = dno;
	ref.is_new = IS_NEW(func, dno);
	ref.is_old = IS_OLD(func, dno);
	ref.field = field;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), field) == 0)
			return make_param(body, &ref, att->atttypid, att->atttypmod, att->attcollation, location);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("record \"%s\" has no field \"%s\"", ((PLpgSQL_rec *) func->datums[dno])->refname, field)));
	return NULL;				/* keep the compiler quiet */
}

/* What a name means as a variable, or NULL. */
static Node *
resolve(ParseState *pstate, ColumnRef *cref, bool or_raise)
{
	Statement  *statement = (Statement *) pstate->p_ref_hook_state;
	Body	   *body = statement->body;
	const char *names[3] = {NULL, NULL, NULL};
	int			n = list_length(cref->fields);
	bool		star = false;
	int			used = 0;
	PLpgSQL_nsitem *item;

	if (n < 1 || n > 3)
		return NULL;
	for (int i = 0; i < n; i++)
	{
		Node	   *field = (Node *) list_nth(cref->fields, i);

		if (IsA(field, A_Star))
			star = true;
		else
			names[i] = strVal(field);
	}
	if (star)
		n--;
	if (n < 1 || names[0] == NULL)
		return NULL;
	item = lookup(statement->expr->ns, names[0], names[1], names[2], &used);
	if (item == NULL)
		return NULL;
	if (item->itemtype == PLPGSQL_NSTYPE_VAR)
		return used == n && !star ? make_variable(body, item->itemno, cref->location) : NULL;
	if (item->itemtype != PLPGSQL_NSTYPE_REC)
		return NULL;
	if (used == n)
		return make_variable(body, item->itemno, cref->location);
	if (used == n - 1 && !star)
	{
		if (or_raise)
			return make_field(body, item->itemno, names[n - 1], cref->location);
		/* where a column has the name, a record that lacks the field is no rival */
		{
			TupleDesc	desc = record_desc(body, item->itemno);

			for (int i = 0; desc != NULL && i < desc->natts; i++)
				if (!TupleDescAttr(desc, i)->attisdropped &&
					strcmp(NameStr(TupleDescAttr(desc, i)->attname), names[n - 1]) == 0)
					return make_field(body, item->itemno, names[n - 1], cref->location);
		}
	}
	return NULL;
}

static Node *
pre_columnref(ParseState *pstate, ColumnRef *cref)
{
	Statement  *statement = (Statement *) pstate->p_ref_hook_state;

	if (FUNCTION(statement->body)->resolve_option == PLPGSQL_RESOLVE_VARIABLE)
		return resolve(pstate, cref, false);
	return NULL;
}

static Node *
post_columnref(ParseState *pstate, ColumnRef *cref, Node *var)
{
	Statement  *statement = (Statement *) pstate->p_ref_hook_state;
	PLpgSQL_resolve_option option = FUNCTION(statement->body)->resolve_option;
	Node	   *mine;

	if (option == PLPGSQL_RESOLVE_VARIABLE && var == NULL)
		return resolve(pstate, cref, true);
	if (option == PLPGSQL_RESOLVE_VARIABLE || (option == PLPGSQL_RESOLVE_COLUMN && var != NULL))
		return NULL;
	mine = resolve(pstate, cref, var == NULL);
	if (mine != NULL && var != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_COLUMN),
				 errmsg("column reference \"%s\" is ambiguous", NameListToString(cref->fields)),
				 errhint("It could refer to either a PL/pgSQL variable or a table column.")));
	return mine;
}

static Node *
paramref(ParseState *pstate, ParamRef *pref)
{
	Statement  *statement = (Statement *) pstate->p_ref_hook_state;
	char		name[32];
	int			used;
	PLpgSQL_nsitem *item;

	if (pref->number >= 1 && pref->number <= list_length(statement->params))
	{
		Statement  *param = (Statement *) list_nth(statement->params, pref->number - 1);
		BodyRef		ref;

		if (!OidIsValid(param->type) || param->type == UNKNOWNOID)
			return make_unknown(statement->body, pref->location);
		memset(&ref, 0, sizeof(ref));
		ref.dno = -1;
		ref.value = param->value;
		return make_param(statement->body, &ref, param->type, -1, InvalidOid, pref->location);
	}
	snprintf(name, sizeof(name), "$%d", pref->number);
	item = lookup(statement->expr->ns, name, NULL, NULL, &used);
	return item != NULL && item->itemtype != PLPGSQL_NSTYPE_LABEL ?
		make_variable(statement->body, item->itemno, pref->location) : NULL;
}

static void
parser_setup(ParseState *pstate, void *arg)
{
	pstate->p_pre_columnref_hook = pre_columnref;
	pstate->p_post_columnref_hook = post_columnref;
	pstate->p_paramref_hook = paramref;
	pstate->p_ref_hook_state = arg;
}

/* ---------------------------------------------------------------------
 * Expressions
 * ---------------------------------------------------------------------
 */

static void
analysed(Body *body, Query *query, void *arg)
{
	Statement  *s = (Statement *) arg;
	List	   *targets = query->commandType == CMD_SELECT ? query->targetList : query->returningList;
	MemoryContext old;

	if (query->commandType == CMD_UTILITY)
	{
		RangeVar   *made = NULL;
		Node	   *stmt = query->utilityStmt;

		s->is_utility = true;
		if (stmt == NULL)
			return;
		if (IsA(stmt, CreateStmt))
			made = ((CreateStmt *) stmt)->relation;
		else if (IsA(stmt, CreateTableAsStmt))
			made = ((CreateTableAsStmt *) stmt)->into->rel;
		if (made != NULL)
		{
			old = MemoryContextSwitchTo(body->cxt);
			body->temporary = lappend(body->temporary, pstrdup(made->relname));
			MemoryContextSwitchTo(old);
		}
		else if (body_changes_names(stmt))
			body->path_unknown = true;
		return;
	}
	s->returns = targets != NIL;
	s->may_be_empty = query->commandType == CMD_SELECT && query->jointree->fromlist != NIL &&
		(!query->hasAggs || query->groupClause != NIL) && body_uses_new(body, query);
	s->is_select = query->commandType == CMD_SELECT;
	if (targets == NIL)
		return;
	s->type = exprType((Node *) linitial_node(TargetEntry, targets)->expr);
	old = MemoryContextSwitchTo(body->cxt);
	if (list_length(targets) == 1 && query->commandType == CMD_SELECT &&
		(query->jointree->fromlist == NIL || IsA(linitial_node(TargetEntry, targets)->expr, Aggref)))
		s->value = (Node *) copyObject(linitial_node(TargetEntry, targets)->expr);
	else if (list_length(targets) == 1 && query->commandType == CMD_SELECT && !body_mentions(body, "found"))
	{
		/* SELECT INTO gives what a subquery would */
		SubLink    *sub = makeNode(SubLink);

		sub->subLinkType = EXPR_SUBLINK;
		sub->subselect = (Node *) copyObject(query);
		sub->location = -1;
		s->value = (Node *) sub;
	}
	s->desc = ExecCleanTypeFromTL(targets);
	MemoryContextSwitchTo(old);
}

static bool
analyse(Body *body, PLpgSQL_expr *expr, Statement *statement)
{
	Statement	own;

	if (statement == NULL)
		statement = &own;
	memset(statement, 0, sizeof(Statement));
	if (expr == NULL)
		return true;
	statement->body = body;
	statement->expr = expr;
	return body_analyse(body, expr->query, expr->parseMode, parser_setup, statement, analysed, statement);
}

static void
analyse_list(Body *body, List *exprs)
{
	ListCell   *lc;

	foreach(lc, exprs)
		analyse(body, (PLpgSQL_expr *) lfirst(lc), NULL);
}

/* ---------------------------------------------------------------------
 * Assignments and conditions
 * ---------------------------------------------------------------------
 */

/* A value is made of values; if each is in the next one twice, of more than anybody could walk. */
#define VALUE_NODES_MAX	10000

typedef struct Reaches
{
	Body	   *body;
	int			dno;
	int			nodes;
} Reaches;

static bool
reaches_walker(Node *node, void *context)
{
	Reaches    *r = (Reaches *) context;
	BodyRef    *ref;

	if (node == NULL)
		return false;
	if (++r->nodes > VALUE_NODES_MAX)
		return true;
	ref = body_ref(r->body, node);
	if (ref != NULL)
	{
		if (ref->dno == r->dno)
			return true;
		if (ref->value != NULL)
			return reaches_walker(ref->value, context);
		return ref->dno >= 0 && ref->dno < r->body->nvars && reaches_walker(r->body->vars[ref->dno].value, context);
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reaches_walker, context, 0);
	return expression_tree_walker(node, reaches_walker, context);
}

static void
assigned(Body *body, int dno, Node *value)
{
	Reaches		reaches;
	char	   *text;
	bool		filled = false;

	if (dno < 0 || dno >= body->nvars)
		return;
	/* what it held before is part of the text, but nothing could follow a value that leads back to itself, or is too large */
	text = value ? body_text(body, value, &filled) : NULL;
	reaches.body = body;
	reaches.dno = dno;
	reaches.nodes = 0;
	if (reaches_walker(value, &reaches))
		value = NULL;
	body->vars[dno].assigned++;
	body->vars[dno].value = value;
	body->vars[dno].text = text;
	body->vars[dno].filled = filled;
}

static bool
same_columns(TupleDesc a, TupleDesc b)
{
	if (a->natts != b->natts)
		return false;
	for (int i = 0; i < a->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(a, i)->attname), NameStr(TupleDescAttr(b, i)->attname)) != 0 ||
			TupleDescAttr(a, i)->atttypid != TupleDescAttr(b, i)->atttypid)
			return false;
	return true;
}

static void
record_assigned(Body *body, int dno, TupleDesc desc)
{
	BodyVar    *var;

	if (dno < 0 || dno >= body->nvars)
		return;
	var = &body->vars[dno];
	if (desc == NULL || (var->desc != NULL && !same_columns(var->desc, desc)))
		var->unclear = true;
	var->desc = desc;
}

/* A value of the body's goes into a variable of its own type: is it metadata read as a number? */
static void
check_assigned(Body *body, int dno, Node *value)
{
	PLpgSQL_datum *datum = FUNCTION(body)->datums[dno];

	DoctorSeverity severity;
	const char *null;
	PLpgSQL_var *var = (PLpgSQL_var *) datum;

	if (value == NULL || datum->dtype != PLPGSQL_DTYPE_VAR)
		return;
	if (exprType(value) == TEXTOID)
		body_cast(body, value, var->datatype->typoid);
	body_length(body, value, var->datatype->typoid, var->datatype->atttypmod, psprintf("variable %s", quote_identifier(var->refname)));
	if (var->notnull && (null = body_may_be_null(body, value, &severity)) != NULL)
		body_found(body, severity, ERRCODE_NULL_VALUE_NOT_ALLOWED, "function", body->name,
				   psprintf("a value that may be null is assigned to variable %s, which is declared NOT NULL", quote_identifier(var->refname)),
				   psprintf("At %s: %s. Null value cannot be assigned to variable \"%s\".", body_where(body), null, var->refname), NULL);
}

/*
 * A column of NEW. What a branch puts there leaves it null, where that may be,
 * for the others' sake; not what waits for another command than INSERT.
 */
static void
field_assigned(Body *body, const char *field, Node *value)
{
	MemoryContext old = MemoryContextSwitchTo(body->cxt);
	BodySet    *set = body_set(body, field);
	DoctorSeverity severity = DOCTOR_WARNING;
	const char *null = NULL;

	if (value != NULL && !(body->conditions > 0 && body_mentions(body, "tg_op")))
		null = body_may_be_null(body, value, &severity);
	if (set == NULL)
	{
		set = (BodySet *) palloc0(sizeof(BodySet));
		set->field = pstrdup(field);
		body->set = lappend(body->set, set);
	}
	set->null = null ? pstrdup(null) : NULL;
	set->severity = body->conditions > 0 && severity == DOCTOR_ERROR ? DOCTOR_WARNING : severity;
	set->line = body->line;
	MemoryContextSwitchTo(old);
}

/* All of NEW: nothing is known of any column then. */
static void
new_assigned(Body *body)
{
	char	   *name;

	if (OidIsValid(body->call->relid))
		for (AttrNumber attno = 1; (name = get_attname(body->call->relid, attno, true)) != NULL; attno++)
			field_assigned(body, name, NULL);
}

/* What the trigger left null at its end in columns that must not be. */
static void
check_set(Body *body)
{
	Oid			relid = body->call->relid;
	ListCell   *lc;

	if (!OidIsValid(relid) || !TRIGGER_FOR_BEFORE(body->call->trigger_type) || !TRIGGER_FOR_ROW(body->call->trigger_type))
		return;
	foreach(lc, body->set)
	{
		BodySet    *set = (BodySet *) lfirst(lc);
		HeapTuple	tuple = SearchSysCacheAttName(relid, set->field);
		bool		not_null = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (set->null == NULL || !not_null ||
			body_sets_column(relid, set->field, TRIGGER_FOR_INSERT(body->call->trigger_type) ? CMD_INSERT : CMD_UPDATE, body->call->trigger))
			continue;
		body->line = set->line;
		body_found(body, set->severity, ERRCODE_NOT_NULL_VIOLATION, "function", body->name,
				   psprintf("a BEFORE trigger puts a value that may be null into column %s of %s, which is NOT NULL",
							quote_identifier(set->field), doctor_relation_name(relid)),
				   psprintf("At %s: %s. Null value in column \"%s\" violates not-null constraint.", body_where(body), set->null, set->field),
				   body_fix_drop_not_null(relid, set->field));
	}
}

/* INTO, and the variable of a loop. */
static void
target_assigned(Body *body, PLpgSQL_variable *target, TupleDesc desc, Node *value)
{
	if (target == NULL)
		return;
	if (target->dtype == PLPGSQL_DTYPE_ROW)
	{
		PLpgSQL_row *row = (PLpgSQL_row *) target;
		PLpgSQL_recfield *field;

		for (int i = 0; i < row->nfields; i++)
		{
			if (row->nfields == 1)
				check_assigned(body, row->varnos[i], value);
			assigned(body, row->varnos[i], row->nfields == 1 ? value : NULL);
			field = (PLpgSQL_recfield *) FUNCTION(body)->datums[row->varnos[i]];
			if (field->dtype == PLPGSQL_DTYPE_RECFIELD && IS_NEW(FUNCTION(body), field->recparentno))
				field_assigned(body, field->fieldname, NULL);
		}
	}
	else if (target->dtype == PLPGSQL_DTYPE_REC)
	{
		PLpgSQL_rec *rec = (PLpgSQL_rec *) target;

		if (IS_NEW(FUNCTION(body), rec->dno))
			new_assigned(body);
		else if (rec->rectypeid == RECORDOID && !IS_OLD(FUNCTION(body), rec->dno))
			record_assigned(body, rec->dno, desc);
	}
	else
		assigned(body, target->dno, NULL);
}

static bool
guard_walker(Node *node, void *context)
{
	Body	   *body = (Body *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN &&
		((Param *) node)->paramid >= 1 && ((Param *) node)->paramid <= list_length(body->refs))
	{
		BodyRef    *ref = (BodyRef *) list_nth(body->refs, ((Param *) node)->paramid - 1);

		if (ref->field != NULL)
			body->guards = lappend(body->guards, pstrdup(ref->field));
		else if (ref->dno >= 0 && ref->dno < body->nvars)
			body->vars[ref->dno].guarded = true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, guard_walker, body, 0);
	return expression_tree_walker(node, guard_walker, body);
}

static void
guards(Body *body, Query *query, void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(body->cxt);

	body->guards = list_concat(body->guards, body_words((Node *) query));
	guard_walker((Node *) query, body);
	((Statement *) arg)->always_true = body_always_true(body, query);
	((Statement *) arg)->never_true = body_never_true(body, query);
	MemoryContextSwitchTo(old);
	analysed(body, query, arg);
}

/* What it asks for is looked after, whatever its branches do. Always true; or (never) never. */
static bool
condition_value(Body *body, PLpgSQL_expr *expr, Statement *statement)
{
	memset(statement, 0, sizeof(Statement));
	if (expr == NULL)
		return false;
	statement->body = body;
	statement->expr = expr;
	body_analyse(body, expr->query, expr->parseMode, parser_setup, statement, guards, statement);
	return statement->always_true;
}

static bool
condition(Body *body, PLpgSQL_expr *expr, bool *never)
{
	Statement	statement;
	bool		always = condition_value(body, expr, &statement);

	if (never != NULL)
		*never = statement.never_true;
	return always;
}

static bool
mentions(const char *text, const char *word)
{
	size_t		len = strlen(word);

	for (; *text; text++)
		if (pg_strncasecmp(text, word, len) == 0)
			return true;
	return false;
}

/* Does a condition ask what there is, or where the trigger is? Then its branch knows better than we. */
static bool
is_doubt(PLpgSQL_expr *expr)
{
	static const char *const words[] = {"to_reg", "pg_extension", "pg_class", "pg_proc", "pg_namespace", "pg_tables",
		"information_schema", "pg_available", "tg_table", "tg_relid", "tg_relname", "tg_name", "tg_argv", "tg_nargs",
	"has_table_privilege", "has_schema_privilege", "has_function_privilege"};

	for (int i = 0; expr != NULL && i < (int) lengthof(words); i++)
		if (mentions(expr->query, words[i]))
			return true;
	return false;
}

/* TG_OP = 'DELETE' in a trigger that is none on DELETE: never so. */
static bool
is_other_operation(Body *body, PLpgSQL_expr *expr)
{
	static const struct
	{
		const char *word;
		int			type;
	}			operations[] = {{"'INSERT'", TRIGGER_TYPE_INSERT}, {"'UPDATE'", TRIGGER_TYPE_UPDATE},
	{"'DELETE'", TRIGGER_TYPE_DELETE}, {"'TRUNCATE'", TRIGGER_TYPE_TRUNCATE}};
	const char *s = expr->query;

	if (!OidIsValid(body->call->trigger))
		return false;
	while (*s == ' ' || *s == '(' || *s == '\n' || *s == '\t')
		s++;
	if (pg_strncasecmp(s, "tg_op", 5) != 0)
		return false;
	s += 5;
	while (*s == ' ')
		s++;
	if (*s++ != '=')
		return false;
	while (*s == ' ')
		s++;
	for (int i = 0; i < (int) lengthof(operations); i++)
		if (strncmp(s, operations[i].word, strlen(operations[i].word)) == 0 &&
			strspn(s + strlen(operations[i].word), " )\n\t") == strlen(s + strlen(operations[i].word)))
			return (body->call->trigger_type & operations[i].type) == 0;
	return false;
}

static void
walk_branch(Body *body, PLpgSQL_expr *cond, List *stmts)
{
	bool		doubt = is_doubt(cond);
	int		   *assigned;

	if (cond != NULL && is_other_operation(body, cond))
		return;
	assigned = (int *) palloc(sizeof(int) * Max(body->nvars, 1));
	for (int i = 0; i < body->nvars; i++)
		assigned[i] = body->vars[i].assigned;
	body->conditions++;
	body->doubts += doubt;
	walk_list(body, stmts);
	body->doubts -= doubt;
	body->conditions--;
	/* after it they hold the one or the other */
	for (int i = 0; i < body->nvars; i++)
		if (body->vars[i].assigned != assigned[i])
			body->vars[i].text = NULL;
	pfree(assigned);
}

/* What the end of a loop has set is there when it begins again. */
static void
walk_loop(Body *body, PLpgSQL_expr *cond, List *stmts)
{
	body->loops++;
	walk_branch(body, cond, stmts);
	body->loops--;
}

/* ---------------------------------------------------------------------
 * RETURN
 * ---------------------------------------------------------------------
 */

static bool
is_exception(PLpgSQL_stmt *stmt)
{
	return stmt->cmd_type == PLPGSQL_STMT_RAISE && ((PLpgSQL_stmt_raise *) stmt)->elog_level >= ERROR;
}

/* Does no way through the statements come out at their end? */
static bool
always_returns(List *stmts)
{
	ListCell   *lc;

	foreach(lc, stmts)
	{
		PLpgSQL_stmt *stmt = (PLpgSQL_stmt *) lfirst(lc);
		ListCell   *lc2;
		bool		all = true;

		switch (stmt->cmd_type)
		{
			case PLPGSQL_STMT_RETURN:
				return true;
			case PLPGSQL_STMT_RAISE:
				if (is_exception(stmt))
					return true;
				break;
			case PLPGSQL_STMT_LOOP:
				/* it ends by RETURN or EXIT, and that is another question */
				return true;
			case PLPGSQL_STMT_BLOCK:
				{
					PLpgSQL_stmt_block *block = (PLpgSQL_stmt_block *) stmt;

					all = always_returns(block->body);
					if (block->exceptions != NULL)
						foreach(lc2, block->exceptions->exc_list)
							all = all && always_returns(((PLpgSQL_exception *) lfirst(lc2))->action);
					if (all)
						return true;
					break;
				}
			case PLPGSQL_STMT_IF:
				{
					PLpgSQL_stmt_if *s = (PLpgSQL_stmt_if *) stmt;

					all = s->else_body != NIL && always_returns(s->then_body) && always_returns(s->else_body);
					foreach(lc2, s->elsif_list)
						all = all && always_returns(((PLpgSQL_if_elsif *) lfirst(lc2))->stmts);
					if (all)
						return true;
					break;
				}
			case PLPGSQL_STMT_CASE:
				{
					PLpgSQL_stmt_case *s = (PLpgSQL_stmt_case *) stmt;

					/* without ELSE it raises */
					all = !s->have_else || always_returns(s->else_stmts);
					foreach(lc2, s->case_when_list)
						all = all && always_returns(((PLpgSQL_case_when *) lfirst(lc2))->stmts);
					if (all)
						return true;
					break;
				}
			default:
				break;
		}
	}
	return false;
}

/* A RETURN that returns the wrong row; written anew where it is the only one in its line. */
static void
found_return(Body *body, const char *finding, const char *detail)
{
	const char *line = body_line(body);
	const char *end;
	int			n = 0;

	end = line ? line + strcspn(line, "\n") : NULL;
	/* the only one there, and no part of a word or of a text */
	for (const char *s = line; s != NULL && s + 6 < end; s++)
		if (pg_strncasecmp(s, "return", 6) == 0 && isspace((unsigned char) s[6]) && (s == line || strchr(" \t;", s[-1]) != NULL))
		{
			line = s;
			n++;
		}
	end = line ? line + strcspn(line, ";\n") : NULL;
	if (n == 1 && *end == ';' && memchr(line, '\'', end - line) == NULL &&
		body_edit_source(body, (int) (line - body->source), (int) (end - body->source),
						 !TRIGGER_FOR_DELETE(body->call->trigger_type) ? "return new" :
						 body->call->trigger_type & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE) ? "return coalesce(new, old)" : "return old",
						 "", true))
		body_found_edit(body, DOCTOR_ERROR, 0, finding, detail);
	else
		body_found(body, DOCTOR_ERROR, 0, "function", body->name, finding, detail, NULL);
}

/* The end of the body where nothing returns: before its END, unless that ends a handler too. */
static bool
edit_return(Body *body)
{
	int			len = (int) strlen(body->source);
	int			type = body->call->trigger_type;
	PLpgSQL_stmt_block *block = FUNCTION(body)->action;
	ListCell   *lc;

	/* what is put there belongs to the last handler: is it the one that lacks it? */
	if (block->exceptions != NULL)
	{
		if (!always_returns(block->body))
			return false;
		foreach(lc, block->exceptions->exc_list)
			if (lnext(block->exceptions->exc_list, lc) != NULL && !always_returns(((PLpgSQL_exception *) lfirst(lc))->action))
				return false;
	}
	while (len > 0 && strchr(" \t\r\n;", body->source[len - 1]) != NULL)
		len--;
	if (len < 4 || pg_strncasecmp(body->source + len - 3, "end", 3) != 0 ||
		strchr(" \t\r\n;", body->source[len - 4]) == NULL)
		return false;
	return body_edit_source(body, len - 3, len - 3,
							!TRIGGER_FOR_DELETE(type) ? "  return new;\n" :
							type & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE) ? "  return coalesce(new, old);\n" : "  return old;\n", "", false);
}

static void
check_return(Body *body, PLpgSQL_stmt_return *stmt)
{
	PLpgSQL_function *func = FUNCTION(body);
	int			type = body->call->trigger_type;
	char	   *table;
	bool		returns_null;
	const char *text;

	analyse(body, stmt->expr, NULL);
	if (!OidIsValid(body->call->trigger) || !TRIGGER_FOR_ROW(type) || !TRIGGER_FOR_BEFORE(type) || body->in_handler)
		return;
	/* an application's table may have its rows put elsewhere */
	if (body->call->depth > 0 && (body->conditions > 0 || body->effects != NIL || body_mentions(body, "execute")))
		return;
	table = doctor_relation_name(body->call->relid);
	text = stmt->expr ? stmt->expr->query : "";
	while (*text == ' ')
		text++;
	returns_null = stmt->expr != NULL && pg_strncasecmp(text, "null", 4) == 0 && strspn(text + 4, " ") == strlen(text + 4);
	if (body->conditions > 0)
	{
		if (!returns_null || body->call->relid != body->doctor->auth_users || !TRIGGER_FOR_INSERT(type) ||
			TRIGGER_FOR_UPDATE(type) || TRIGGER_FOR_DELETE(type))
			return;
		/* a refusal, though one that nobody is told of */
		body->refuses = true;
		body_found(body, DOCTOR_WARNING, 0, "function", body->name,
				   psprintf("a BEFORE trigger can return null: the %s of %s silently does nothing then", body_events(body->call->events), table),
				   psprintf("At %s. The auth server goes on with a user who is not there, and fails at the next statement (foreign key of auth.identities). RAISE EXCEPTION says whom it refuses; RETURN NEW lets the row go on.",
							body_where(body)),
				   NULL);
		return;
	}
	if (returns_null || (stmt->retvarno >= 0 && stmt->retvarno == func->old_varno && TRIGGER_FOR_INSERT(type) && !TRIGGER_FOR_UPDATE(type) && !TRIGGER_FOR_DELETE(type)) ||
		(stmt->retvarno >= 0 && stmt->retvarno == func->new_varno && TRIGGER_FOR_DELETE(type) && !TRIGGER_FOR_INSERT(type) && !TRIGGER_FOR_UPDATE(type)))
		found_return(body, psprintf("a BEFORE trigger returns null: the %s of %s silently does nothing", body_events(body->call->events), table),
					 psprintf("At %s. RETURN %s in a BEFORE ROW trigger lets the row go on; null skips it. %s", body_where(body),
							  TRIGGER_FOR_DELETE(type) ? "OLD" : "NEW",
							  TRIGGER_FOR_DELETE(type) && !returns_null ? "NEW is null in a trigger on DELETE." :
							  !returns_null ? "OLD is null in a trigger on INSERT." : "As it is no row passes."));
	else if (stmt->retvarno >= 0 && stmt->retvarno == func->old_varno && TRIGGER_FOR_UPDATE(type) && !TRIGGER_FOR_DELETE(type))
		found_return(body, psprintf("a BEFORE UPDATE trigger returns OLD: no change of %s is ever stored", table),
					 psprintf("At %s. RETURN NEW lets the change go on.", body_where(body)));
}

/* ---------------------------------------------------------------------
 * Statements
 * ---------------------------------------------------------------------
 */

/* The SQLSTATEs that a handler catches, unless it raises again; -1: any. */
static List *
handler_states(PLpgSQL_exception_block *exceptions)
{
	List	   *states = NIL;
	ListCell   *lc;

	foreach(lc, exceptions->exc_list)
	{
		PLpgSQL_exception *exception = (PLpgSQL_exception *) lfirst(lc);
		ListCell   *lc2;
		bool		again = false;

		foreach(lc2, exception->action)
			again = again || is_exception((PLpgSQL_stmt *) lfirst(lc2));
		if (again)
			continue;
		for (PLpgSQL_condition *c = exception->conditions; c != NULL; c = c->next)
			states = lappend_int(states, strcmp(c->condname, "others") == 0 ? -1 : c->sqlerrstate);
	}
	return states;
}

static void
walk_block(Body *body, PLpgSQL_stmt_block *block)
{
	ListCell   *lc;
	List	   *outer = body->handlers;

	for (int i = 0; i < block->n_initvars; i++)
	{
		PLpgSQL_datum *datum = FUNCTION(body)->datums[block->initvarnos[i]];
		PLpgSQL_variable *var = (PLpgSQL_variable *) datum;
		Statement	statement;

		if (datum->dtype != PLPGSQL_DTYPE_VAR && datum->dtype != PLPGSQL_DTYPE_REC)
			continue;
		if (datum->dtype == PLPGSQL_DTYPE_VAR && ((PLpgSQL_var *) datum)->cursor_explicit_expr != NULL)
		{
			analyse(body, ((PLpgSQL_var *) datum)->cursor_explicit_expr, NULL);
			continue;
		}
		if (var->default_val == NULL)
			continue;
		body->line = var->lineno;
		if (analyse(body, var->default_val, &statement) && datum->dtype == PLPGSQL_DTYPE_VAR)
		{
			check_assigned(body, datum->dno, statement.value);
			assigned(body, datum->dno, statement.value);
		}
	}
	if (block->exceptions != NULL)
	{
		List	   *states = handler_states(block->exceptions);

		if (states != NIL)
			body->handlers = lappend(list_copy(outer), states);
	}
	walk_list(body, block->body);
	body->handlers = outer;
	if (block->exceptions != NULL)
		foreach(lc, block->exceptions->exc_list)
		{
			bool		nested = body->in_handler;
			BodyVar    *before = (BodyVar *) palloc(sizeof(BodyVar) * Max(body->nvars, 1));

			if (body->nvars > 0)
				memcpy(before, body->vars, sizeof(BodyVar) * body->nvars);
			body->conditions++;
			body->in_handler = true;
			walk_list(body, ((PLpgSQL_exception *) lfirst(lc))->action);
			body->in_handler = nested;
			body->conditions--;
			/* where nothing failed they hold what they held, and after it the one or the other */
			for (int i = 0; i < body->nvars; i++)
				if (body->vars[i].assigned != before[i].assigned && before[i].assigned == 1)
				{
					body->vars[i].assigned = 1;
					body->vars[i].value = before[i].value;
					body->vars[i].text = NULL;
				}
			pfree(before);
		}
}

/*
 * EXECUTE of a text that is seen to be always the same is a statement like
 * others; of anything else it says nothing. What it returns is described in
 * *result, which may be NULL. False: nothing is known of that.
 */
static bool
walk_dynamic(Body *body, PLpgSQL_expr *query, List *params, Statement *result)
{
	Statement	statement;
	Statement	own;
	PLpgSQL_expr expr;
	List	   *values = NIL;
	ListCell   *lc;
	DoctorSeverity severity;
	const char *null;
	char	   *sql;
	bool		ok;

	foreach(lc, params)
	{
		Statement  *param = (Statement *) palloc(sizeof(Statement));

		analyse(body, (PLpgSQL_expr *) lfirst(lc), param);
		values = lappend(values, param);
	}
	if (!analyse(body, query, &statement) || statement.value == NULL)
		return false;
	null = body_may_be_null(body, statement.value, &severity);
	if (null != NULL)
		body_found(body, severity, ERRCODE_NULL_VALUE_NOT_ALLOWED, "function", body->name,
				   "the query string argument of EXECUTE may be null",
				   psprintf("At %s: %s.", body_where(body), null), NULL);
	if (body_unquoted(body, statement.value))
		body_found(body, DOCTOR_WARNING, ERRCODE_SYNTAX_ERROR, "function", body->name,
				   "metadata is put into the text of EXECUTE without quoting",
				   psprintf("At %s: an apostrophe in it makes a syntax error, and more than that whatever the user wants to run (SQL injection). Hand it over by USING, or by format() with %%L.",
							body_where(body)),
				   NULL);
	if (result == NULL)
		result = &own;
	memset(&expr, 0, sizeof(expr));
	sql = body_text(body, statement.value, &body->filled);
	if (sql == NULL)
	{
		body->filled = false;
		return false;
	}
	expr.query = sql;
	expr.parseMode = RAW_PARSE_DEFAULT;
	memset(result, 0, sizeof(Statement));
	result->body = body;
	result->expr = &expr;
	result->params = values;
	body->dynamic = true;
	ok = body_analyse(body, sql, RAW_PARSE_DEFAULT, parser_setup, result, analysed, result);
	body->dynamic = false;
	body->filled = false;
	result->expr = NULL;
	return ok;
}

static void
walk_execsql(Body *body, PLpgSQL_stmt_execsql *stmt)
{
	Statement	statement;
	const char *none;

	if (!analyse(body, stmt->sqlstmt, &statement))
	{
		target_assigned(body, stmt->into ? stmt->target : NULL, NULL, NULL);
		return;
	}
	if (stmt->into)
	{
		target_assigned(body, stmt->target, statement.desc, statement.value);
		if (stmt->strict && statement.value != NULL && (none = body_finds_nothing(body, statement.value)) != NULL)
			body_found(body, DOCTOR_ERROR, ERRCODE_NO_DATA_FOUND, "function", body->name,
					   "INTO STRICT fails: query returned no rows",
					   psprintf("At %s: %s.", body_where(body), none), NULL);
		else if (stmt->strict && statement.may_be_empty)
			body_found(body, DOCTOR_WARNING, ERRCODE_NO_DATA_FOUND, "function", body->name,
					   "INTO STRICT fails for users for whom there is no row",
					   psprintf("At %s: query returned no rows.", body_where(body)),
					   NULL);
	}
	else if (statement.returns)
	{
		const char *finding = "a statement fails: query has no destination for result data";
		const char *detail = psprintf("At %s: %s.", body_where(body),
									  statement.is_select ? "a SELECT whose result is not wanted is written PERFORM in PL/pgSQL, one whose result is wanted has INTO"
									  : "RETURNING needs INTO, or has to go");

		if (pg_strncasecmp(stmt->sqlstmt->query, "select", 6) == 0 && body_edit(body, 0, 6, "perform", "", true))
			body_found_edit(body, DOCTOR_ERROR, ERRCODE_SYNTAX_ERROR, finding, detail);
		else
			body_found(body, DOCTOR_ERROR, ERRCODE_SYNTAX_ERROR, "function", body->name, finding, detail, NULL);
	}
}

static bool
passes_on(PLpgSQL_stmt_raise *stmt)
{
	ListCell   *lc;

	if (stmt->message == NULL && stmt->condname == NULL && stmt->options == NIL)
		return true;
	foreach(lc, stmt->params)
		if (mentions(((PLpgSQL_expr *) lfirst(lc))->query, "sqlerrm") || mentions(((PLpgSQL_expr *) lfirst(lc))->query, "sqlstate"))
			return true;
	foreach(lc, stmt->options)
		if (mentions(((PLpgSQL_raise_option *) lfirst(lc))->expr->query, "sqlerrm"))
			return true;
	return false;
}

static void
walk_raise(Body *body, PLpgSQL_stmt_raise *stmt)
{
	ListCell   *lc;

	analyse_list(body, stmt->params);
	foreach(lc, stmt->options)
		analyse(body, ((PLpgSQL_raise_option *) lfirst(lc))->expr, NULL);
	/* a handler that passes on what it caught refuses nobody */
	if (body->in_handler && passes_on(stmt))
	{
		/* as an error of its own it looks like a refusal to whoever would contain it */
		body->refuses = body->refuses || stmt->message != NULL || stmt->condname != NULL;
		return;
	}
	if (stmt->elog_level >= ERROR && body->handlers == NIL)
		body->refuses = true;
	if (stmt->elog_level >= ERROR && (stmt->message != NULL || stmt->condname != NULL || stmt->options != NIL) &&
		OidIsValid(body->call->relid))
		body_found(body, DOCTOR_INFO, 0, "function", body->name,
				   psprintf("the trigger can refuse %s of %s on purpose", body_events(body->call->events),
							doctor_relation_name(body->call->relid)),
				   psprintf("RAISE EXCEPTION at %s: a gate. Whom it refuses the auth server answers with \"Database error\".", body_where(body)),
				   NULL);
}

/* A branch that the auth server always comes into, since it has no request: does it raise? */
static void
check_refusal(Body *body, List *stmts)
{
	ListCell   *lc;

	foreach(lc, stmts)
	{
		PLpgSQL_stmt *stmt = (PLpgSQL_stmt *) lfirst(lc);

		if (!is_exception(stmt))
			continue;
		body->refuses = true;
		body_found(body, DOCTOR_ERROR, ERRCODE_RAISE_EXCEPTION, "function", body->name,
				   psprintf("the trigger refuses what the auth server does, %s", body->asked),
				   psprintf("RAISE EXCEPTION at line %d of the body of %s. Let the condition pass where auth.uid() is null, or where the role is the auth server's or the definer's.",
							stmt->lineno, body->name),
				   NULL);
	}
}

/* What a loop needs. */
static void
check_not_null_argument(Body *body, Node *value, const char *what)
{
	DoctorSeverity severity;
	const char *null = value ? body_may_be_null(body, value, &severity) : NULL;

	if (null != NULL)
		body_found(body, severity, ERRCODE_NULL_VALUE_NOT_ALLOWED, "function", body->name,
				   psprintf("a statement fails: %s may be null", what),
				   psprintf("At %s: %s.", body_where(body), null), NULL);
}

static void
walk_statement(Body *body, PLpgSQL_stmt *stmt)
{
	ListCell   *lc;
	Statement	statement;

	if (stmt->lineno > 0)
		body->line = stmt->lineno;
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_BLOCK:
			walk_block(body, (PLpgSQL_stmt_block *) stmt);
			break;
		case PLPGSQL_STMT_ASSIGN:
			{
				PLpgSQL_stmt_assign *s = (PLpgSQL_stmt_assign *) stmt;
				PLpgSQL_datum *datum = FUNCTION(body)->datums[s->varno];
				bool		ok = analyse(body, s->expr, &statement);

				if (datum->dtype == PLPGSQL_DTYPE_VAR)
				{
					if (ok)
						check_assigned(body, s->varno, statement.value);
					assigned(body, s->varno, ok ? statement.value : NULL);
				}
				else if (datum->dtype == PLPGSQL_DTYPE_REC && ((PLpgSQL_rec *) datum)->rectypeid == RECORDOID)
				{
					record_assigned(body, s->varno, NULL);
					if (IS_NEW(FUNCTION(body), s->varno))
						new_assigned(body);
				}
				else if (datum->dtype == PLPGSQL_DTYPE_RECFIELD)
				{
					body->assigned = lappend(body->assigned, ((PLpgSQL_recfield *) datum)->fieldname);
					if (IS_NEW(FUNCTION(body), ((PLpgSQL_recfield *) datum)->recparentno))
						field_assigned(body, ((PLpgSQL_recfield *) datum)->fieldname, ok ? statement.value : NULL);
				}
				break;
			}
		case PLPGSQL_STMT_IF:
			{
				PLpgSQL_stmt_if *s = (PLpgSQL_stmt_if *) stmt;
				bool		never;
				List	   *dead = NIL;

				if (condition(body, s->cond, &never))
					check_refusal(body, s->then_body);
				if (never)
					dead = lappend(dead, s->then_body);
				foreach(lc, s->elsif_list)
				{
					condition(body, ((PLpgSQL_if_elsif *) lfirst(lc))->cond, &never);
					if (never)
						dead = lappend(dead, ((PLpgSQL_if_elsif *) lfirst(lc))->stmts);
				}
				/* what waits for somebody who is logged in does not run for the auth server */
				if (!list_member_ptr(dead, s->then_body))
					walk_branch(body, s->cond, s->then_body);
				foreach(lc, s->elsif_list)
					if (!list_member_ptr(dead, ((PLpgSQL_if_elsif *) lfirst(lc))->stmts))
						walk_branch(body, ((PLpgSQL_if_elsif *) lfirst(lc))->cond, ((PLpgSQL_if_elsif *) lfirst(lc))->stmts);
				body->doubts += is_doubt(s->cond);
				walk_branch(body, NULL, s->else_body);
				body->doubts -= is_doubt(s->cond);
				/* IF it is missing THEN RETURN: the rest is looked after as well */
				if (is_doubt(s->cond) && always_returns(s->then_body))
					body->doubts++;
				if (always_returns(s->then_body))
					body->conditions++;
				break;
			}
		case PLPGSQL_STMT_CASE:
			{
				PLpgSQL_stmt_case *s = (PLpgSQL_stmt_case *) stmt;

				statement.value = NULL;
				condition_value(body, s->t_expr, &statement);
				if (!s->have_else && statement.value != NULL && body_metadata_field(body, statement.value) != NULL)
					body_found(body, DOCTOR_WARNING, ERRCODE_CASE_NOT_FOUND, "function", body->name,
							   psprintf("a CASE statement over metadata field \"%s\" has no ELSE", body_metadata_field(body, statement.value)),
							   psprintf("At %s: case not found. Who is invited, or comes by another way, has no such field, and what is sent is up to the form. ELSE NULL; lets the others through.",
										body_where(body)),
							   NULL);
				/* its tests compare with a variable that gets its type as the statement runs */
				foreach(lc, s->case_when_list)
				{
					PLpgSQL_case_when *w = (PLpgSQL_case_when *) lfirst(lc);

					if (s->t_expr == NULL)
						condition(body, w->expr, NULL);
					body->doubts += is_doubt(s->t_expr);
					walk_branch(body, w->expr, w->stmts);
					body->doubts -= is_doubt(s->t_expr);
				}
				walk_branch(body, NULL, s->else_stmts);
				break;
			}
		case PLPGSQL_STMT_LOOP:
			walk_loop(body, NULL, ((PLpgSQL_stmt_loop *) stmt)->body);
			break;
		case PLPGSQL_STMT_WHILE:
			condition(body, ((PLpgSQL_stmt_while *) stmt)->cond, NULL);
			walk_loop(body, ((PLpgSQL_stmt_while *) stmt)->cond, ((PLpgSQL_stmt_while *) stmt)->body);
			break;
		case PLPGSQL_STMT_FORI:
			{
				PLpgSQL_stmt_fori *s = (PLpgSQL_stmt_fori *) stmt;

				if (analyse(body, s->lower, &statement))
					check_not_null_argument(body, statement.value, "lower bound of FOR loop");
				if (analyse(body, s->upper, &statement))
					check_not_null_argument(body, statement.value, "upper bound of FOR loop");
				analyse(body, s->step, NULL);
				walk_loop(body, NULL, s->body);
				break;
			}
		case PLPGSQL_STMT_FORS:
			{
				PLpgSQL_stmt_fors *s = (PLpgSQL_stmt_fors *) stmt;
				bool		ok = analyse(body, s->query, &statement);

				target_assigned(body, s->var, ok ? statement.desc : NULL, NULL);
				walk_loop(body, NULL, s->body);
				break;
			}
		case PLPGSQL_STMT_FORC:
			{
				PLpgSQL_stmt_forc *s = (PLpgSQL_stmt_forc *) stmt;

				analyse(body, s->argquery, NULL);
				target_assigned(body, s->var, NULL, NULL);
				walk_loop(body, NULL, s->body);
				break;
			}
		case PLPGSQL_STMT_FOREACH_A:
			{
				PLpgSQL_stmt_foreach_a *s = (PLpgSQL_stmt_foreach_a *) stmt;

				if (analyse(body, s->expr, &statement))
					check_not_null_argument(body, statement.value, "FOREACH expression");
				assigned(body, s->varno, NULL);
				walk_loop(body, NULL, s->body);
				break;
			}
		case PLPGSQL_STMT_EXIT:
			condition(body, ((PLpgSQL_stmt_exit *) stmt)->cond, NULL);
			break;
		case PLPGSQL_STMT_RETURN:
			check_return(body, (PLpgSQL_stmt_return *) stmt);
			break;
		case PLPGSQL_STMT_RETURN_NEXT:
			analyse(body, ((PLpgSQL_stmt_return_next *) stmt)->expr, NULL);
			break;
		case PLPGSQL_STMT_RETURN_QUERY:
			{
				PLpgSQL_stmt_return_query *s = (PLpgSQL_stmt_return_query *) stmt;

				analyse(body, s->query, NULL);
				if (s->dynquery != NULL)
					walk_dynamic(body, s->dynquery, s->params, NULL);
				break;
			}
		case PLPGSQL_STMT_RAISE:
			walk_raise(body, (PLpgSQL_stmt_raise *) stmt);
			break;
		case PLPGSQL_STMT_ASSERT:
			condition(body, ((PLpgSQL_stmt_assert *) stmt)->cond, NULL);
			analyse(body, ((PLpgSQL_stmt_assert *) stmt)->message, NULL);
			break;
		case PLPGSQL_STMT_EXECSQL:
			walk_execsql(body, (PLpgSQL_stmt_execsql *) stmt);
			break;
		case PLPGSQL_STMT_DYNEXECUTE:
			{
				PLpgSQL_stmt_dynexecute *s = (PLpgSQL_stmt_dynexecute *) stmt;

				bool		ok = walk_dynamic(body, s->query, s->params, &statement);

				target_assigned(body, s->into ? s->target : NULL, ok ? statement.desc : NULL, NULL);
				break;
			}
		case PLPGSQL_STMT_DYNFORS:
			{
				PLpgSQL_stmt_dynfors *s = (PLpgSQL_stmt_dynfors *) stmt;

				bool		ok = walk_dynamic(body, s->query, s->params, &statement);

				target_assigned(body, s->var, ok ? statement.desc : NULL, NULL);
				walk_loop(body, NULL, s->body);
				break;
			}
		case PLPGSQL_STMT_OPEN:
			{
				PLpgSQL_stmt_open *s = (PLpgSQL_stmt_open *) stmt;

				analyse(body, s->argquery, NULL);
				analyse(body, s->query, NULL);
				if (s->dynquery != NULL)
					walk_dynamic(body, s->dynquery, s->params, NULL);
				break;
			}
		case PLPGSQL_STMT_FETCH:
			target_assigned(body, ((PLpgSQL_stmt_fetch *) stmt)->target, NULL, NULL);
			break;
		case PLPGSQL_STMT_GETDIAG:
			foreach(lc, ((PLpgSQL_stmt_getdiag *) stmt)->diag_items)
				assigned(body, ((PLpgSQL_diag_item *) lfirst(lc))->target, NULL);
			break;
		case PLPGSQL_STMT_PERFORM:
			analyse(body, ((PLpgSQL_stmt_perform *) stmt)->expr, NULL);
			break;
		case PLPGSQL_STMT_COMMIT:
		case PLPGSQL_STMT_ROLLBACK:
			body_found(body, DOCTOR_ERROR, ERRCODE_INVALID_TRANSACTION_TERMINATION, "function", body->name,
					   "a statement fails: invalid transaction termination",
					   psprintf("At %s: what a trigger runs is part of the auth server's transaction, and may neither COMMIT nor ROLLBACK.", body_where(body)),
					   NULL);
			break;
		case PLPGSQL_STMT_CALL:
			analyse(body, ((PLpgSQL_stmt_call *) stmt)->expr, NULL);
			target_assigned(body, ((PLpgSQL_stmt_call *) stmt)->target, NULL, NULL);
			break;
		default:
			break;
	}
}

static void
walk_list(Body *body, List *stmts)
{
	ListCell   *lc;
	int			doubts = body->doubts;
	int			conditions = body->conditions;

	check_stack_depth();
	foreach(lc, stmts)
	{
		PLpgSQL_stmt *stmt = (PLpgSQL_stmt *) lfirst(lc);

		walk_statement(body, stmt);
		/* what follows never runs: RAISE EXCEPTION, and then RETURN NULL */
		if (is_exception(stmt) || stmt->cmd_type == PLPGSQL_STMT_RETURN)
			break;
	}
	body->doubts = doubts;
	body->conditions = conditions;
}

/* ---------------------------------------------------------------------
 * The function
 * ---------------------------------------------------------------------
 */

static void
compile(void *arg)
{
	Body	   *body = (Body *) arg;
	LOCAL_FCINFO(fcinfo, 0);
	FmgrInfo	flinfo;
	TriggerData trigger;
	Scope		scope;
	compile_fn	plpgsql_compile_function = (compile_fn) load_external_function("$libdir/plpgsql", "plpgsql_compile", true, NULL);

	memset(fcinfo, 0, SizeForFunctionCallInfo(0));
	memset(&flinfo, 0, sizeof(flinfo));
	memset(&trigger, 0, sizeof(trigger));
	fcinfo->flinfo = &flinfo;
	flinfo.fn_oid = body->call->funcid;
	flinfo.fn_mcxt = CurrentMemoryContext;
	/* so that no call of a session's gets what was compiled under our path */
	fcinfo->fncollation = C_COLLATION_OID;
	if (OidIsValid(body->call->trigger))
	{
		trigger.type = T_TriggerData;
		fcinfo->context = (Node *) &trigger;
	}
	SPI_connect();
	scope_enter_target(&scope, body->role, body->path);
	body_read_messages();
	/* what only a validator would say, by the asker's own settings: no call does */
	(void) set_config_option("plpgsql.extra_errors", "none", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("plpgsql.extra_warnings", "none", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	body->function = plpgsql_compile_function(fcinfo, true);
	/* never again: its path may be another one next time, or the types that it names */
	*compat_compiled_xmin((PLpgSQL_function *) body->function) = InvalidTransactionId;
	scope_leave(&scope);
	SPI_finish();
}

typedef struct TypeOf
{
	Body	   *body;
	char	   *name;			/* "relation.column", as written */
} TypeOf;

/* What does not exist of what stands before %TYPE. */
static void
find_type_of(void *arg)
{
	TypeOf	   *t = (TypeOf *) arg;
	List	   *names = compat_qualified_name(t->name);
	char	   *column = strVal(llast(names));
	RangeVar   *relation;
	Scope		scope;

	names = list_delete_last(names);
	if (names == NIL)
		return;
	relation = makeRangeVarFromNameList(names);
	scope_enter_target(&scope, t->body->role, t->body->path);
	body_read_messages();
	if (get_attnum(RangeVarGetRelid(relation, NoLock, false), column) == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", column, relation->relname)));
	scope_leave(&scope);
}

/* Before 17 a %TYPE of what is not there is "syntax error at or near "%"", and no more. */
static ErrorData *
explain_type_of(Body *body, ErrorData *edata)
{
	static const char before[] = "invalid type name \"";
	const char *name = edata->context ? strstr(edata->context, before) : NULL;
	const char *end = name ? strchr(name, '%') : NULL;
	TypeOf		t;
	ErrorData  *cause;

	if (edata->sqlerrcode != ERRCODE_SYNTAX_ERROR || end == NULL || pg_strncasecmp(end, "%type", 5) != 0)
		return edata;
	name += strlen(before);
	t.body = body;
	t.name = pnstrdup(name, end - name);
	cause = plan_contained(find_type_of, &t, false);
	if (cause != NULL && caller_must_rethrow(cause->sqlerrcode))
		ReThrowError(plan_lasting(cause));
	if (cause == NULL || cause->sqlerrcode == ERRCODE_INVALID_NAME)
		return edata;
	/* what stands in the log */
	if (cause->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE)
		cause->message = psprintf("%s (%s, SQLSTATE %s)", cause->message, edata->message, unpack_sql_state(edata->sqlerrcode));
	return cause;
}

void
body_walk_plpgsql(Body *body)
{
	ErrorData  *edata;
	PLpgSQL_function *func;

	body->function = NULL;
	body->uncertain = false;
	edata = plan_contained(compile, body, false);
	if (edata != NULL)
	{
		if (caller_must_rethrow(edata->sqlerrcode))
			ReThrowError(plan_lasting(edata));
		body_failed(body, explain_type_of(body, edata), NULL);
		return;
	}
	func = FUNCTION(body);
	body->nvars = func->ndatums;
	body->vars = (BodyVar *) palloc0(sizeof(BodyVar) * Max(func->ndatums, 1));
	if (OidIsValid(body->call->relid) && func->fn_is_trigger == PLPGSQL_DML_TRIGGER)
	{
		Relation	rel = RelationIdGetRelation(body->call->relid);

		if (rel != NULL)
		{
			body->vars[func->new_varno].desc = CreateTupleDescCopy(RelationGetDescr(rel));
			body->vars[func->old_varno].desc = body->vars[func->new_varno].desc;
			RelationClose(rel);
		}
	}
	for (int i = 0; i < func->fn_nargs && body->call->args != NULL; i++)
		if (func->fn_argvarnos[i] < body->nvars)
			body->vars[func->fn_argvarnos[i]].arg = &body->call->args[i];
	walk_statement(body, (PLpgSQL_stmt *) func->action);
	if (func->fn_is_trigger == PLPGSQL_DML_TRIGGER)
		check_set(body);
	if (OidIsValid(body->call->trigger) && !always_returns(list_make1(func->action)))
	{
		bool		none = !body_mentions(body, "return");
		const char *finding;
		const char *detail;

		body->line = 0;
		finding = none ? "control reaches the end of the trigger function without RETURN" :
			"control can reach the end of the trigger function without RETURN";
		detail = psprintf("Also a trigger whose result does not matter has to return something: let %s end with RETURN NEW, or RETURN OLD in a trigger on DELETE.", body->name);
		if (edit_return(body))
			body_found_edit(body, none ? DOCTOR_ERROR : DOCTOR_WARNING, ERRCODE_S_R_E_FUNCTION_EXECUTED_NO_RETURN_STATEMENT, finding, detail);
		else
			body_found(body, none ? DOCTOR_ERROR : DOCTOR_WARNING, ERRCODE_S_R_E_FUNCTION_EXECUTED_NO_RETURN_STATEMENT,
					   "function", body->name, finding, detail, NULL);
	}
}
