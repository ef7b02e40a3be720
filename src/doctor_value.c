/*-------------------------------------------------------------------------
 *
 * doctor_value.c
 *	  What is known of a value in a body, for a user who signs up.
 *
 * Whether it may be null, which text it is, whether a condition lets it through,
 * what a small table holds for it; and what a CHECK constraint says of a text.
 * Not sure is not said: a false alarm counts as much as a miss.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "caller.h"
#include "doctor_query.h"
#include "plan.h"

/* ---------------------------------------------------------------------
 * Values
 * ---------------------------------------------------------------------
 */

BodyRef *
body_ref(Body *body, Node *node)
{
	Param	   *param = (Param *) node;

	if (node == NULL || !IsA(node, Param) || param->paramkind != PARAM_EXTERN ||
		param->paramid < 1 || param->paramid > list_length(body->refs))
		return NULL;
	return (BodyRef *) list_nth(body->refs, param->paramid - 1);
}

Node *
body_strip(Node *node)
{
	for (;;)
	{
		if (node != NULL && IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		else if (node != NULL && IsA(node, CollateExpr))
			node = (Node *) ((CollateExpr *) node)->arg;
		else
			return node;
	}
}

/* A text constant, or NULL. */
char *
body_constant_text(Node *node)
{
	Const	   *c = (Const *) body_strip(node);

	if (c == NULL || !IsA(c, Const) || c->constisnull)
		return NULL;
	switch (c->consttype)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return TextDatumGetCString(c->constvalue);
		case NAMEOID:
			return pstrdup(NameStr(*DatumGetName(c->constvalue)));
		case UNKNOWNOID:
			/* what an argument of type "any" is; the constant goes with the statement */
			return pstrdup(DatumGetCString(c->constvalue));
		default:
			return NULL;
	}
}

/* The value of a variable that was assigned once, where it is known. */
Node *
body_value_of(Body *body, BodyRef *ref)
{
	if (ref != NULL && ref->value != NULL)
		return ref->value;
	if (ref == NULL || ref->field != NULL || ref->whole || ref->dno < 0 || ref->dno >= body->nvars ||
		body->vars[ref->dno].assigned != 1 || body->vars[ref->dno].guarded)
		return NULL;
	return body->vars[ref->dno].value;
}

/* The argument of the function that it is, if it still is what it was called with; NULL: none, or nothing is known. */
static BodyArg *
argument_of(Body *body, Node *node)
{
	Param	   *param = (Param *) node;
	BodyRef    *ref;

	if (node == NULL || !IsA(node, Param) || param->paramkind != PARAM_EXTERN || body->call->args == NULL)
		return NULL;
	if (body->language == SQLlanguageId)
		return param->paramid >= 1 && param->paramid <= body->call->nargs ? &body->call->args[param->paramid - 1] : NULL;
	ref = body_ref(body, node);
	if (ref == NULL || ref->field != NULL || ref->dno < 0 || ref->dno >= body->nvars || body->vars[ref->dno].assigned > 0 ||
		body->vars[ref->dno].guarded)
		return NULL;
	return body->vars[ref->dno].arg;
}

bool
body_is_metadata(Body *body, Node *node)
{
	BodyRef    *ref = body_ref(body, body_strip(node));
	BodyArg    *arg = argument_of(body, body_strip(node));

	if (arg != NULL)
		return arg->metadata;
	if (ref == NULL)
		return false;
	if (ref->field != NULL)
		return ref->is_new && (strstr(ref->field, "meta_data") != NULL || strcmp(ref->field, "identity_data") == 0);
	node = body_value_of(body, ref);
	return node != NULL && body_is_metadata(body, node);
}

/* The last step of a path that is constant: '{a,b}', or the arguments 'a', 'b'. */
static char *
last_of_path(Node *path)
{
	Const	   *c = (Const *) body_strip(path);
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	if (IsA(c, ArrayExpr) && ((ArrayExpr *) c)->elements != NIL)
		return body_constant_text((Node *) llast(((ArrayExpr *) c)->elements));
	if (!IsA(c, Const) || c->constisnull || c->consttype != TEXTARRAYOID)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(c->constvalue), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	return n > 0 && !nulls[n - 1] ? TextDatumGetCString(elems[n - 1]) : NULL;
}

/* Such an expression's field: NEW.raw_user_meta_data ->> 'field'. */
char *
body_metadata_field(Body *body, Node *node)
{
	Oid			funcid;
	List	   *args;
	char	   *field;
	BodyRef    *ref;

	node = body_strip(node);
	if (node == NULL)
		return NULL;
	if (argument_of(body, node) != NULL)
		return argument_of(body, node)->field;
	ref = body_ref(body, node);
	if (ref != NULL)
	{
		node = body_value_of(body, ref);
		return node ? body_metadata_field(body, node) : NULL;
	}
	if (IsA(node, SubscriptingRef))
	{
		SubscriptingRef *s = (SubscriptingRef *) node;

		if (s->refcontainertype != JSONBOID || s->refassgnexpr != NULL || s->refupperindexpr == NIL)
			return NULL;
		field = body_constant_text((Node *) llast(s->refupperindexpr));
		return field != NULL && (body_is_metadata(body, (Node *) s->refexpr) || body_metadata_field(body, (Node *) s->refexpr) != NULL) ? field : NULL;
	}
	if (IsA(node, OpExpr))
	{
		funcid = get_opcode(((OpExpr *) node)->opno);
		args = ((OpExpr *) node)->args;
	}
	else if (IsA(node, FuncExpr))
	{
		funcid = ((FuncExpr *) node)->funcid;
		args = ((FuncExpr *) node)->args;
	}
	else
		return NULL;
	switch (funcid)
	{
		case F_JSONB_OBJECT_FIELD_TEXT:
		case F_JSONB_OBJECT_FIELD:
		case F_JSON_OBJECT_FIELD_TEXT:
		case F_JSON_OBJECT_FIELD:
			break;
		case F_JSONB_EXTRACT_PATH_TEXT:
		case F_JSONB_EXTRACT_PATH:
		case F_JSON_EXTRACT_PATH_TEXT:
		case F_JSON_EXTRACT_PATH:
			field = last_of_path((Node *) lsecond(args));
			return field != NULL && (body_is_metadata(body, (Node *) linitial(args)) ||
									 body_metadata_field(body, (Node *) linitial(args)) != NULL) ? field : NULL;
		case F_BTRIM_TEXT:
		case F_LTRIM_TEXT:
		case F_RTRIM_TEXT:
		case F_LOWER_TEXT:
		case F_UPPER_TEXT:
		case F_INITCAP:
			return body_metadata_field(body, (Node *) linitial(args));
		default:
			return NULL;
	}
	field = body_constant_text((Node *) lsecond(args));
	if (field == NULL)
		return NULL;
	if (body_is_metadata(body, (Node *) linitial(args)))
		return field;
	return body_metadata_field(body, (Node *) linitial(args)) ? field : NULL;
}

/* Where a plain text constant that begins there ends; -1: it is none. */
int
body_literal_end(const char *sql, int at)
{
	if (sql == NULL || at < 0 || at >= (int) strlen(sql) || sql[at] != '\'')
		return -1;
	for (at++; sql[at] != '\0' && sql[at] != '\''; at++)
		if (sql[at] == '\\')
			return -1;
	return sql[at] == '\'' && sql[at + 1] != '\'' ? at + 1 : -1;
}

/* Put such an expression into a call, where it stands in the statement itself and as simple as can be. */
bool
body_edit_metadata(Body *body, Node *node, const char *before, const char *after)
{
	OpExpr	   *op = (OpExpr *) body_strip(node);
	BodyRef    *ref;
	int			from;
	int			to;

	if (op == NULL || !IsA(op, OpExpr) || list_length(op->args) != 2 || body_metadata_field(body, node) == NULL)
		return false;
	ref = body_ref(body, (Node *) linitial(op->args));
	if (ref == NULL || ref->field == NULL || !IsA(lsecond(op->args), Const))
		return false;
	from = ((Param *) linitial(op->args))->location;
	to = ((Const *) lsecond(op->args))->location;
	to = from < 0 || to <= from ? -1 : body_literal_end(body->sql, to);
	return to > 0 && body_edit(body, from, to, before, after, false);
}

bool
body_is_guarded(Body *body, const char *word)
{
	return body_listed(body->guards, word);
}


/* Larger tables are not searched. */
#define LOOKUP_PAGES_MAX	1000

/* "column = constant", of the server's own types and operators, and nothing else? */
static bool
lookup_qual(Lookup *lookup, Relation rel, Node *qual, StringInfo sql)
{
	ListCell   *lc;
	OpExpr	   *op = (OpExpr *) qual;
	Node	   *left;
	Const	   *right;
	char	   *column;

	if (qual == NULL)
		return true;
	if (IsA(qual, BoolExpr) && ((BoolExpr *) qual)->boolop == AND_EXPR)
	{
		foreach(lc, ((BoolExpr *) qual)->args)
			if (!lookup_qual(lookup, rel, (Node *) lfirst(lc), sql))
				return false;
		return true;
	}
	if (!IsA(qual, OpExpr) || op->opno >= FirstNormalObjectId || list_length(op->args) != 2 ||
		get_opname(op->opno) == NULL || strcmp(get_opname(op->opno), "=") != 0)
		return false;
	left = body_strip((Node *) linitial(op->args));
	right = (Const *) body_strip((Node *) lsecond(op->args));
	if (!IsA(left, Var) || ((Var *) left)->varattno <= 0 || ((Var *) left)->varlevelsup != 0 || ((Var *) left)->vartype >= FirstNormalObjectId ||
		!IsA(right, Const) || right->constisnull || right->consttype >= FirstNormalObjectId)
		return false;
	column = get_attname(RelationGetRelid(rel), ((Var *) left)->varattno, true);
	if (column == NULL)
		return false;
	lookup->values = lappend(lookup->values, right);
	appendStringInfo(sql, "%s t.%s OPERATOR(pg_catalog.=) $%d", list_length(lookup->values) > 1 ? " AND" : " WHERE",
					 quote_identifier(column), list_length(lookup->values));
	return true;
}

/* Would planning a statement over it evaluate anything of its owner's? */
static bool
has_own_expressions(Relation rel)
{
	ListCell   *lc;

	if (rel->rd_rel->relhassubclass || RelationGetStatExtList(rel) != NIL)
		return true;
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		bool		plain = HeapTupleIsValid(tuple) && heap_attisnull(tuple, Anum_pg_index_indexprs, NULL) &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL);

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (!plain)
			return true;
	}
	return false;
}

/* Small, its owner's to read, and nothing of anybody's takes part in that. */
bool
body_is_readable(Body *body, Relation rel)
{
	return rel->rd_rel->relkind == RELKIND_RELATION && doctor_may_look(body->doctor, rel->rd_rel->relowner) &&
		!has_own_expressions(rel) && !(rel->rd_rel->relrowsecurity && rel->rd_rel->relforcerowsecurity) &&
		RelationGetNumberOfBlocks(rel) <= LOOKUP_PAGES_MAX;
}

/* A search for constants in one small table that can be read? */
bool
body_is_lookup(Body *body, Node *value, Lookup *lookup)
{
	Query	   *query;
	RangeTblEntry *rte;
	Relation	rel;
	StringInfoData sql;
	bool		result;

	memset(lookup, 0, sizeof(Lookup));
	if (!IsA(value, SubLink) || ((SubLink *) value)->subLinkType != EXPR_SUBLINK || body->uncertain || body->filled)
		return false;
	query = lookup->query = castNode(Query, ((SubLink *) value)->subselect);
	if (query->commandType != CMD_SELECT || list_length(query->rtable) != 1 || list_length(query->jointree->fromlist) != 1 ||
		query->groupClause != NIL || query->groupingSets != NIL || query->havingQual != NULL || query->hasAggs || query->setOperations != NULL ||
		query->limitOffset != NULL || query->hasTargetSRFs || query->cteList != NIL)
		return false;
	rte = linitial_node(RangeTblEntry, query->rtable);
	if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_RELATION || rte->tablesample != NULL || rte->securityQuals != NIL)
		return false;
	rel = relation_open(rte->relid, AccessShareLock);
	lookup->owner = rel->rd_rel->relowner;
	lookup->table = doctor_relation_name(rte->relid);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT FROM %s AS t", lookup->table);
	result = body_is_readable(body, rel) && lookup_qual(lookup, rel, query->jointree->quals, &sql) && list_length(lookup->values) <= PLAN_MAX_ARGS;
	relation_close(rel, AccessShareLock);
	lookup->sql = sql.data;
	return result;
}

static void
run_lookup(void *arg)
{
	Lookup	   *lookup = (Lookup *) arg;
	Scope		scope;
	Oid			types[PLAN_MAX_ARGS];
	Datum		values[PLAN_MAX_ARGS];
	int			n = 0;
	ListCell   *lc;

	foreach(lc, lookup->values)
	{
		types[n] = lfirst_node(Const, lc)->consttype;
		values[n++] = lfirst_node(Const, lc)->constvalue;
	}
	SPI_connect();
	scope_enter_target(&scope, lookup->owner, "pg_catalog, pg_temp");
	body_bound_lock_wait();
	/* no CHECK either */
	(void) set_config_option("constraint_exclusion", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_execute_plan(plan_try(lookup->sql, n, types), values, NULL, true, 2);
	lookup->rows = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
}

/* How many rows it finds, up to two; where it cannot be run, one. */
uint64
body_lookup_rows(Lookup *lookup)
{
	ErrorData  *edata = plan_contained(run_lookup, lookup, false);

	if (edata == NULL)
		return lookup->rows;
	if (caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	FreeErrorData(edata);
	return 1;
}

/* Does anything before the statement write this table, or call what may? */
bool
body_has_written(Body *body, Oid relid)
{
	ListCell   *lc;

	foreach(lc, body->effects)
		if (((BodyEffect *) lfirst(lc))->is_call || ((BodyEffect *) lfirst(lc))->id == relid)
			return true;
	return false;
}

/* Why a subquery for a certain row has nothing to return now; NULL: it has, or that is not seen. */
const char *
body_finds_nothing(Body *body, Node *value)
{
	Lookup		lookup;

	if (!body_is_lookup(body, value, &lookup) || body_has_written(body, linitial_node(RangeTblEntry, lookup.query->rtable)->relid) || body_lookup_rows(&lookup) > 0)
		return NULL;
	return psprintf("no row of %s is what it looks for", lookup.table);
}

static bool
asks_email_walker(Node *node, void *context)
{
	Body	   *body = (Body *) context;
	BodyRef    *ref;

	if (node == NULL)
		return false;
	ref = body_ref(body, node);
	if (ref != NULL)
		return (ref->is_new && ref->field != NULL && strcmp(ref->field, "email") == 0 && !body_is_guarded(body, "email")) ||
			asks_email_walker(body_value_of(body, ref), context);
	return expression_tree_walker(node, asks_email_walker, context);
}

/* Why "column = value" need not hold for any row; NULL: that is not seen. */
static const char *
may_match_nothing(Body *body, Query *sub, Node *qual)
{
	OpExpr	   *op = (OpExpr *) qual;
	ListCell   *lc;
	const char *result = NULL;

	if (qual == NULL)
		return NULL;
	if (IsA(qual, BoolExpr) && ((BoolExpr *) qual)->boolop == AND_EXPR)
		foreach(lc, ((BoolExpr *) qual)->args)
			if ((result = may_match_nothing(body, sub, (Node *) lfirst(lc))) != NULL)
				return result;
	if (!IsA(qual, OpExpr) || list_length(op->args) != 2 || get_opname(op->opno) == NULL || strcmp(get_opname(op->opno), "=") != 0)
		return NULL;
	foreach(lc, op->args)
	{
		Why			why;

		if (asks_email_walker((Node *) lfirst(lc), body))
			return "users come with addresses of any kind";
		if (body_nullness(body, sub, (Node *) lfirst(lc), &why) >= NULL_SOMETIMES && why.severity <= DOCTOR_WARNING)
			return why.text;
	}
	return NULL;
}

/* Why a subquery finds no row for some users, with nobody to have made one before; NULL: that is not seen. */
static const char *
may_find_nothing(Body *body, Query *sub)
{
	RangeTblEntry *rte;
	const char *reason;

	if (sub->commandType != CMD_SELECT || list_length(sub->rtable) != 1 || sub->hasAggs || sub->setOperations != NULL ||
		sub->hasTargetSRFs || body->uncertain || body->filled)
		return NULL;
	rte = linitial_node(RangeTblEntry, sub->rtable);
	if (rte->rtekind != RTE_RELATION || rte->relid == body->doctor->auth_users || body_has_written(body, rte->relid) ||
		doctor_is_reached(body->doctor, rte->relid))
		return NULL;
	reason = may_match_nothing(body, sub, sub->jointree->quals);
	return reason ? psprintf("%s, and no row of %s need be what is looked for", reason, doctor_relation_name(rte->relid)) : NULL;
}

static Nullness
nullness_of_list(Body *body, Query *query, List *args, Why *why)
{
	Nullness	most = NULL_UNKNOWN;
	ListCell   *lc;

	foreach(lc, args)
	{
		Why			this;
		Nullness	n = body_nullness(body, query, (Node *) lfirst(lc), &this);

		if (n > most)
		{
			most = n;
			*why = this;
		}
	}
	return most;
}

/* A column of NEW in a trigger on an application's table: as the INSERT, or the body itself, left it. */
static Nullness
nullness_of_new(Body *body, const char *field, Why *why)
{
	const BodyCall *call = body->call;
	const BodySet *set = body_set(body, field);
	AttrNumber	attno = get_attnum(call->relid, field);

	if (set != NULL)
	{
		why->text = set->null;
		why->severity = set->severity;
		return set->null == NULL ? NULL_UNKNOWN : set->severity == DOCTOR_ERROR ? NULL_ALWAYS : NULL_SOMETIMES;
	}
	if (!bms_is_member(attno, call->nulls) || body_sets_column(call->relid, field, CMD_INSERT, call->trigger))
		return NULL_UNKNOWN;
	why->text = psprintf("the INSERT leaves column %s of %s null%s", quote_identifier(field), doctor_relation_name(call->relid),
						 bms_is_member(attno, call->always_null) ? "" : " where the user's metadata has nothing");
	why->severity = DOCTOR_WARNING;
	return bms_is_member(attno, call->always_null) ? NULL_ALWAYS : NULL_SOMETIMES;
}

/* Columns that the auth server fills in later, if ever. */
static const char *const set_later[] = {
	"last_sign_in_at", "email_confirmed_at", "confirmed_at", "invited_at", "phone_confirmed_at", "confirmation_sent_at",
	"recovery_sent_at", "email_change_sent_at", "phone_change_sent_at", "reauthentication_sent_at", "banned_until",
	"deleted_at", "is_super_admin"
};

static Nullness
nullness_of_ref(Body *body, Query *query, BodyRef *ref, Why *why)
{
	int			type = body->call->trigger_type;
	bool		is_trigger = OidIsValid(body->call->trigger);

	why->severity = DOCTOR_ERROR;
	if ((ref->is_new || ref->is_old) && is_trigger)
	{
		if (!TRIGGER_FOR_ROW(type))
		{
			why->text = psprintf("%s is null because the trigger is FOR EACH STATEMENT, not FOR EACH ROW", ref->is_new ? "NEW" : "OLD");
			return NULL_ALWAYS;
		}
		if (ref->is_old && TRIGGER_FOR_INSERT(type) && !TRIGGER_FOR_UPDATE(type) && !TRIGGER_FOR_DELETE(type))
		{
			why->text = "OLD is null in a trigger on INSERT";
			return NULL_ALWAYS;
		}
		if (ref->is_new && TRIGGER_FOR_DELETE(type) && !TRIGGER_FOR_UPDATE(type) && !TRIGGER_FOR_INSERT(type))
		{
			why->text = "NEW is null in a trigger on DELETE";
			return NULL_ALWAYS;
		}
		if (ref->field != NULL && ref->is_new && body->call->relid != body->doctor->auth_users && !body_is_guarded(body, ref->field))
			return nullness_of_new(body, ref->field, why);
		if (ref->field == NULL || !ref->is_new || body->call->relid != body->doctor->auth_users ||
			!TRIGGER_FOR_INSERT(type) || body_is_guarded(body, ref->field))
			return NULL_UNKNOWN;
		if (strcmp(ref->field, "email") == 0)
		{
			why->text = "users who sign up by phone or anonymously have no email";
			why->severity = body->doctor->email_optional ? DOCTOR_WARNING : DOCTOR_INFO;
			return NULL_SOMETIMES;
		}
		why->severity = DOCTOR_WARNING;
		if (strcmp(ref->field, "phone") == 0)
		{
			why->text = "users who sign up by email have no phone";
			return NULL_SOMETIMES;
		}
		for (int i = 0; i < (int) lengthof(set_later); i++)
			if (strcmp(ref->field, set_later[i]) == 0)
			{
				why->text = psprintf("%s is not set yet when a user is made", ref->field);
				return NULL_SOMETIMES;
			}
		return NULL_UNKNOWN;
	}
	{
		Node	   *value = body_value_of(body, ref);

		return value ? body_nullness(body, query, value, why) : NULL_UNKNOWN;
	}
}

/* One of the application's own that is SELECT auth.uid() and no more. */
static bool
is_request_wrapper(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Form_pg_proc proc;
	Datum		source;
	bool		isnull = true;
	bool		result = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prolang == SQLlanguageId && proc->pronargs == 0 && !proc->proretset)
		source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	if (!isnull)
	{
		static const char *const bodies[] = {"selectauth.uid()", "selectauth.role()", "selectauth.email()", "selectauth.jwt()", "select(auth.uid())"};
		char	   *code = TextDatumGetCString(source);
		int			n = 0;

		for (int i = 0; code[i] != '\0'; i++)
			if (!isspace((unsigned char) code[i]) && code[i] != ';')
				code[n++] = pg_tolower((unsigned char) code[i]);
		code[n] = '\0';
		for (int i = 0; i < (int) lengthof(bodies); i++)
			result = result || strcmp(code, bodies[i]) == 0;
	}
	ReleaseSysCache(tuple);
	return result;
}

/* auth.uid() and its like: what the request of an API user says. */
static bool
is_request_function(Body *body, Oid funcid)
{
	static const char *const names[] = {"uid", "role", "email", "jwt"};
	char	   *name;

	if (funcid < FirstNormalObjectId || get_func_nargs(funcid) != 0)
		return false;
	if (get_func_namespace(funcid) != get_rel_namespace(body->doctor->auth_users))
		return is_request_wrapper(funcid);
	name = get_func_name(funcid);
	for (int i = 0; i < (int) lengthof(names); i++)
		if (name != NULL && strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/*
 * A setting that nobody sets for the auth server. A name with a dot is nobody's
 * until it is set; those of a request may be known here only because our own
 * library reads them.
 */
bool
body_is_unset(Body *body, const char *name)
{
	return name != NULL && strchr(name, '.') != NULL &&
		(strncmp(name, "request.", 8) == 0 || GetConfigOption(name, true, false) == NULL) &&
		doctor_role_setting(body->doctor->auth_role, name) == NULL && !body_mentions(body, "set_config");
}

/* May it be null? Only what is seen to be so counts. */
Nullness
body_nullness(Body *body, Query *query, Node *node, Why *why)
{
	char	   *field;
	BodyRef    *ref;

	why->text = NULL;
	why->severity = DOCTOR_ERROR;
	node = body_strip(node);
	if (node == NULL)
		return NULL_UNKNOWN;
	ref = body_ref(body, node);
	if (ref != NULL && argument_of(body, node) == NULL)
		return nullness_of_ref(body, query, ref, why);
	field = body_metadata_field(body, node);
	if (field != NULL)
	{
		/* the auth server sets these itself */
		if (body_is_guarded(body, field) || strcmp(field, "provider") == 0 || strcmp(field, "providers") == 0 || strcmp(field, "sub") == 0)
			return NULL_UNKNOWN;
		why->text = psprintf("metadata has no field \"%s\" for users who are invited, or sign up with a one-time password or another provider", field);
		why->severity = DOCTOR_WARNING;
		return NULL_SOMETIMES;
	}
	switch (nodeTag(node))
	{
		case T_Const:
			why->text = "the value is NULL";
			if (!((Const *) node)->constisnull)
				return NULL_NEVER;
			/* it may stand for what is known only at run time */
			return body->uncertain || body->filled ? NULL_UNKNOWN : NULL_ALWAYS;
		case T_CoalesceExpr:
			{
				Nullness	least = NULL_ALWAYS;
				ListCell   *lc;

				foreach(lc, ((CoalesceExpr *) node)->args)
				{
					Why			this;
					Nullness	n = body_nullness(body, query, (Node *) lfirst(lc), &this);

					if (n <= least)
					{
						least = n;
						*why = this;
					}
				}
				return least;
			}
		case T_OpExpr:
			if (!func_strict(get_opcode(((OpExpr *) node)->opno)))
				return NULL_UNKNOWN;
			return nullness_of_list(body, query, ((OpExpr *) node)->args, why);
		case T_FuncExpr:
			if (is_request_function(body, ((FuncExpr *) node)->funcid))
			{
				why->text = psprintf("%s is null, because the auth server's connection carries no user's request",
									 doctor_function_name(((FuncExpr *) node)->funcid));
				return NULL_ALWAYS;
			}
			/* with missing_ok */
			if (((FuncExpr *) node)->funcid == F_CURRENT_SETTING_TEXT_BOOL)
			{
				char	   *name = body_constant_text((Node *) linitial(((FuncExpr *) node)->args));

				if (!body_is_unset(body, name))
					return NULL_UNKNOWN;
				why->text = psprintf("setting %s is not set in the auth server's connection", name);
				return NULL_ALWAYS;
			}
			/* not strict for the sake of its delimiter */
			if (((FuncExpr *) node)->funcid == F_STRING_TO_ARRAY_TEXT_TEXT || ((FuncExpr *) node)->funcid == F_STRING_TO_ARRAY_TEXT_TEXT_TEXT)
				return body_nullness(body, query, (Node *) linitial(((FuncExpr *) node)->args), why);
			if (!func_strict(((FuncExpr *) node)->funcid))
				return NULL_UNKNOWN;
			return nullness_of_list(body, query, ((FuncExpr *) node)->args, why);
		case T_SubLink:
			{
				Query	   *sub = castNode(Query, ((SubLink *) node)->subselect);

				if (((SubLink *) node)->subLinkType == EXPR_SUBLINK && sub->jointree->fromlist != NIL)
				{
					why->text = body_finds_nothing(body, node);
					if (why->text != NULL)
						return NULL_ALWAYS;
					why->text = may_find_nothing(body, sub);
					why->severity = DOCTOR_WARNING;
					return why->text ? NULL_SOMETIMES : NULL_UNKNOWN;
				}
				if (((SubLink *) node)->subLinkType != EXPR_SUBLINK ||
					sub->setOperations != NULL || list_length(sub->targetList) != 1)
					return NULL_UNKNOWN;
				return body_nullness(body, sub, (Node *) linitial_node(TargetEntry, sub->targetList)->expr, why);
			}
		case T_NullIfExpr:
			{
				Node	   *value = (Node *) linitial(((NullIfExpr *) node)->args);
				Nullness	n = body_nullness(body, query, value, why);
				bool		sometimes;
				char	   *text = n < NULL_SOMETIMES ? body_constant_of(body, query, value, &sometimes) : NULL;
				char	   *none = body_constant_text((Node *) lsecond(((NullIfExpr *) node)->args));

				if (text == NULL || none == NULL || strcmp(text, none) != 0)
					return n;
				why->text = psprintf("nullif() makes null of the '%s' that stands for what users have not", none);
				why->severity = DOCTOR_WARNING;
				return NULL_SOMETIMES;
			}
		case T_CoerceViaIO:
			return body_nullness(body, query, (Node *) ((CoerceViaIO *) node)->arg, why);
		case T_CoerceToDomain:
			return body_nullness(body, query, (Node *) ((CoerceToDomain *) node)->arg, why);
		case T_ArrayCoerceExpr:
			return body_nullness(body, query, (Node *) ((ArrayCoerceExpr *) node)->arg, why);
		case T_SubscriptingRef:
			{
				SubscriptingRef *s = (SubscriptingRef *) node;
				Const	   *index = list_length(s->refupperindexpr) == 1 ? (Const *) linitial(s->refupperindexpr) : NULL;
				Nullness	n = s->refassgnexpr == NULL ? body_nullness(body, query, (Node *) s->refexpr, why) : NULL_UNKNOWN;

				if (n < NULL_SOMETIMES || index == NULL || !IsA(index, Const) || index->constisnull || index->consttype != INT4OID)
					return n;
				if (DatumGetInt32(index->constvalue) > 1 && n == NULL_SOMETIMES)
					why->text = psprintf("%s; nor need it have %d parts", why->text, DatumGetInt32(index->constvalue));
				return n;
			}
		case T_CaseExpr:
			{
				Node	   *otherwise = body_strip((Node *) ((CaseExpr *) node)->defresult);

				if (otherwise == NULL || !IsA(otherwise, Const) || !((Const *) otherwise)->constisnull || body->uncertain || body->filled)
					return NULL_UNKNOWN;
				why->text = "the CASE has no ELSE, or ELSE NULL, for users to whom no WHEN applies";
				why->severity = DOCTOR_WARNING;
				return NULL_SOMETIMES;
			}
		case T_Var:
			{
				Var		   *var = (Var *) node;
				RangeTblEntry *rte;
				TargetEntry *tle;

				if (query == NULL || var->varlevelsup != 0 || var->varno < 1 || var->varno > list_length(query->rtable))
					return NULL_UNKNOWN;
				rte = rt_fetch(var->varno, query->rtable);
				if (rte->rtekind != RTE_SUBQUERY || rte->subquery->setOperations != NULL)
					return NULL_UNKNOWN;
				tle = get_tle_by_resno(rte->subquery->targetList, var->varattno);
				return tle ? body_nullness(body, rte->subquery, (Node *) tle->expr, why) : NULL_UNKNOWN;
			}
		default:
			return NULL_UNKNOWN;
	}
}

/* When it is null; NULL: it is not seen to be. */
const char *
body_may_be_null(Body *body, Node *node, DoctorSeverity *severity)
{
	Why			why;
	Nullness	n = body_nullness(body, NULL, node, &why);

	*severity = n == NULL_ALWAYS ? DOCTOR_ERROR : why.severity;
	return n >= NULL_SOMETIMES ? why.text : NULL;
}

static bool
collect_words(Node *node, void *context)
{
	List	  **words = (List **) context;
	char	   *text;

	if (node == NULL)
		return false;
	text = IsA(node, Const) && ((Const *) node)->consttype == TEXTARRAYOID ? last_of_path(node) : body_constant_text(node);
	if (text != NULL)
		*words = lappend(*words, text);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_words, words, 0);
	return expression_tree_walker(node, collect_words, words);
}

/* The text constants in it. */
List *
body_words(Node *expr)
{
	List	   *words = NIL;

	collect_words(expr, &words);
	return words;
}

/* CURRENT_USER and its like, or NULL. */
static char *
current_role(Body *body, Node *node)
{
	if (!IsA(node, SQLValueFunction))
		return NULL;
	switch (((SQLValueFunction *) node)->op)
	{
		case SVFOP_CURRENT_ROLE:
		case SVFOP_CURRENT_USER:
		case SVFOP_USER:
			return GetUserNameFromId(body->role, true);
		case SVFOP_SESSION_USER:
			return GetUserNameFromId(body->doctor->auth_role, true);
		default:
			return NULL;
	}
}

/* A text that it surely is: a constant, or coalesce() of nulls and one. */
static char *
sure_text(Body *body, Query *query, Node *node)
{
	node = body_strip(node);
	if (node != NULL && IsA(node, CoalesceExpr))
	{
		ListCell   *lc;

		foreach(lc, ((CoalesceExpr *) node)->args)
		{
			Why			why;

			if (body_nullness(body, query, (Node *) lfirst(lc), &why) != NULL_ALWAYS)
				return body_constant_text((Node *) lfirst(lc));
		}
	}
	if (node != NULL && IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_TEXT_NAME)
		return sure_text(body, query, (Node *) linitial(((FuncExpr *) node)->args));
	if (node != NULL && current_role(body, node) != NULL)
		return current_role(body, node);
	return body_constant_text(node);
}

static bool
is_never_null(Body *body, Node *node)
{
	BodyRef    *ref = body_ref(body, body_strip(node));

	if (ref != NULL && ref->field != NULL && OidIsValid(body->call->relid))
	{
		AttrNumber	attno = get_attnum(body->call->relid, ref->field);
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(body->call->relid), Int16GetDatum(attno));
		bool		result = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		return result;
	}
	return body_constant_text(node) != NULL;
}

static Truth
truth(Body *body, Query *query, Node *node)
{
	Why			why;
	Truth		result;
	ListCell   *lc;

	node = body_strip(node);
	if (node == NULL)
		return TRUTH_OPEN;
	switch (nodeTag(node))
	{
		case T_NullTest:
			if (body_nullness(body, query, (Node *) ((NullTest *) node)->arg, &why) != NULL_ALWAYS)
				return TRUTH_OPEN;
			return ((NullTest *) node)->nulltesttype == IS_NULL ? TRUTH_YES : TRUTH_NO;
		case T_BoolExpr:
			{
				BoolExpr   *b = (BoolExpr *) node;
				Truth		decides = b->boolop == AND_EXPR ? TRUTH_NO : TRUTH_YES;
				bool		null = false;
				bool		open = false;

				if (b->boolop == NOT_EXPR)
				{
					result = truth(body, query, (Node *) linitial(b->args));
					return result == TRUTH_YES ? TRUTH_NO : result == TRUTH_NO ? TRUTH_YES : result;
				}
				foreach(lc, b->args)
				{
					result = truth(body, query, (Node *) lfirst(lc));
					if (result == decides)
						return decides;
					null = null || result == TRUTH_NULL;
					open = open || result == TRUTH_OPEN;
				}
				return open ? TRUTH_OPEN : null ? TRUTH_NULL : decides == TRUTH_YES ? TRUTH_NO : TRUTH_YES;
			}
		case T_DistinctExpr:
			{
				Node	   *left = (Node *) linitial(((DistinctExpr *) node)->args);
				Node	   *right = (Node *) lsecond(((DistinctExpr *) node)->args);

				if ((body_nullness(body, query, left, &why) == NULL_ALWAYS && is_never_null(body, right)) ||
					(body_nullness(body, query, right, &why) == NULL_ALWAYS && is_never_null(body, left)))
					return TRUTH_YES;
				return TRUTH_OPEN;
			}
		case T_OpExpr:
			{
				OpExpr	   *op = (OpExpr *) node;
				char	   *left;
				char	   *right;
				char	   *name;

				if (!func_strict(get_opcode(op->opno)) || list_length(op->args) != 2)
					return TRUTH_OPEN;
				if (nullness_of_list(body, query, op->args, &why) == NULL_ALWAYS)
					return TRUTH_NULL;
				left = sure_text(body, query, (Node *) linitial(op->args));
				right = sure_text(body, query, (Node *) lsecond(op->args));
				name = get_opname(op->opno);
				if (left == NULL || right == NULL || op->opno >= FirstNormalObjectId || name == NULL ||
					(strcmp(name, "=") != 0 && strcmp(name, "<>") != 0))
					return TRUTH_OPEN;
				return (strcmp(left, right) == 0) == (strcmp(name, "=") == 0) ? TRUTH_YES : TRUTH_NO;
			}
		default:
			return TRUTH_OPEN;
	}
}

/* What of the request, or of who runs it, is asked: that ends up in body->asked. */
static bool
asks_request_walker(Node *node, void *context)
{
	Body	   *body = (Body *) context;

	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && is_request_function(body, ((FuncExpr *) node)->funcid))
	{
		body->asked = "which has no user's request: auth.uid() is null there";
		return true;
	}
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_CURRENT_SETTING_TEXT_BOOL)
	{
		char	   *name = body_constant_text((Node *) linitial(((FuncExpr *) node)->args));

		body->asked = psprintf("which has no user's request: setting %s is null there", name ? name : "?");
		return true;
	}
	if (current_role(body, node) != NULL)
	{
		body->asked = psprintf("which is not who is asked for: %s is %s there",
							   ((SQLValueFunction *) node)->op == SVFOP_SESSION_USER ? "session_user" : "current_user",
							   current_role(body, node));
		return true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, asks_request_walker, body, 0);
	return expression_tree_walker(node, asks_request_walker, body);
}

static bool
uses_new_walker(Node *node, void *context)
{
	Body	   *body = (Body *) context;
	BodyRef    *ref;

	if (node == NULL)
		return false;
	ref = body_ref(body, node);
	if (ref != NULL && ref->is_new)
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, uses_new_walker, body, 0);
	return expression_tree_walker(node, uses_new_walker, body);
}

/* Does what it finds depend on the user? */
bool
body_uses_new(Body *body, Query *query)
{
	return uses_new_walker((Node *) query, body);
}

/* What a condition is for the auth server because of what it asks of the request; open: it asks nothing. */
static Truth
truth_of_request(Body *body, Query *query)
{
	if (query->commandType != CMD_SELECT || list_length(query->targetList) != 1 ||
		!asks_request_walker((Node *) query, body))
		return TRUTH_OPEN;
	return truth(body, query, (Node *) linitial_node(TargetEntry, query->targetList)->expr);
}

/* Does this condition hold for the auth server always, because of what it asks of the request? */
bool
body_always_true(Body *body, Query *query)
{
	return truth_of_request(body, query) == TRUTH_YES;
}

/* What is known of a column that the UPDATE leaves as it is. */
typedef struct Kept
{
	const char *field;
	const Const *value;			/* NULL: anything but null */
} Kept;

/* A column that is the same in NEW and OLD, or NULL. */
static const char *
kept_column(Body *body, Node *node)
{
	BodyRef    *ref = body_ref(body, body_strip(node));

	return ref != NULL && (ref->is_new || ref->is_old) && !ref->whole && ref->field != NULL &&
		body_keeps_column(body, ref->field) ? ref->field : NULL;
}

/* The comparison of such a column with a constant, or (value NULL) of the column with itself. */
static bool
compares_kept(Body *body, Node *node, const char *operator, Kept *kept)
{
	OpExpr	   *op = (OpExpr *) node;
	char	   *name;
	const char *other;
	Node	   *value;

	/* a DistinctExpr is an OpExpr in all but name */
	if (!(IsA(node, OpExpr) || IsA(node, DistinctExpr)) || list_length(op->args) != 2 || (name = get_opname(op->opno)) == NULL ||
		op->opno >= FirstNormalObjectId || strcmp(name, operator) != 0)
		return false;
	kept->field = kept_column(body, (Node *) linitial(op->args));
	other = kept_column(body, (Node *) lsecond(op->args));
	value = body_strip((Node *) (kept->field ? lsecond(op->args) : linitial(op->args)));
	kept->value = NULL;
	if (kept->field != NULL && other != NULL)
		return strcmp(kept->field, other) == 0;
	if (kept->field == NULL)
		kept->field = other;
	if (kept->field == NULL || !IsA(value, Const) || ((Const *) value)->constisnull)
		return false;
	kept->value = (Const *) value;
	return true;
}

/* Two constants that no value equals both; not numbers, which may be written in more than one way. */
static bool
are_different(const Const *a, const Const *b)
{
	return a->consttype == b->consttype && (a->consttype == TEXTOID || a->consttype == VARCHAROID || type_is_enum(a->consttype)) &&
		!equal(a, b);
}

/* Does the condition wait for a change of columns that the UPDATE leaves as they are? "known" holds of them. */
static bool
awaits_change(Body *body, Node *node, List *known)
{
	Kept		kept;
	ListCell   *lc;

	check_stack_depth();
	node = body_strip(node);
	if (node == NULL)
		return false;
	if (is_andclause(node))
	{
		known = list_copy(known);
		foreach(lc, ((BoolExpr *) node)->args)
		{
			Node	   *arg = body_strip((Node *) lfirst(lc));
			Kept	   *fact;

			memset(&kept, 0, sizeof(kept));
			if (IsA(arg, NullTest) && ((NullTest *) arg)->nulltesttype == IS_NOT_NULL)
				kept.field = kept_column(body, (Node *) ((NullTest *) arg)->arg);
			else if (!IsA(arg, OpExpr) || !compares_kept(body, arg, "=", &kept) || kept.value == NULL)
				kept.field = NULL;
			if (kept.field == NULL)
				continue;
			fact = (Kept *) palloc(sizeof(Kept));
			*fact = kept;
			known = lappend(known, fact);
		}
		foreach(lc, ((BoolExpr *) node)->args)
			if (awaits_change(body, (Node *) lfirst(lc), known))
				return true;
		return false;
	}
	if (is_orclause(node))
	{
		foreach(lc, ((BoolExpr *) node)->args)
			if (!awaits_change(body, (Node *) lfirst(lc), known))
				return false;
		return true;
	}
	if (IsA(node, NullTest) && ((NullTest *) node)->nulltesttype == IS_NULL)
	{
		const char *field = kept_column(body, (Node *) ((NullTest *) node)->arg);

		foreach(lc, known)
			if (field != NULL && strcmp(((Kept *) lfirst(lc))->field, field) == 0)
				return true;
		return false;
	}
	if (IsA(node, OpExpr) && compares_kept(body, node, "=", &kept) && kept.value != NULL)
	{
		foreach(lc, known)
		{
			Kept	   *fact = (Kept *) lfirst(lc);

			if (strcmp(fact->field, kept.field) == 0 && fact->value != NULL && are_different(fact->value, kept.value))
				return true;
		}
		return false;
	}
	if (compares_kept(body, node, IsA(node, DistinctExpr) ? "=" : "<>", &kept))
	{
		if (kept.value == NULL)
			return true;
		foreach(lc, known)
		{
			Kept	   *fact = (Kept *) lfirst(lc);

			if (strcmp(fact->field, kept.field) == 0 && fact->value != NULL && equal(fact->value, kept.value))
				return true;
		}
	}
	return false;
}

/* Or never? Also one that waits for another change than the one that fired the trigger. */
bool
body_never_true(Body *body, Query *query)
{
	Truth		is = truth_of_request(body, query);

	return is == TRUTH_NO || is == TRUTH_NULL ||
		(body->call->columns != NULL && query->commandType == CMD_SELECT && list_length(query->targetList) == 1 &&
		 query->jointree->fromlist == NIL &&
		 awaits_change(body, (Node *) linitial_node(TargetEntry, query->targetList)->expr, NIL));
}

/* ---------------------------------------------------------------------
 * CHECK constraints, by their form: none is evaluated
 * ---------------------------------------------------------------------
 */

/* What a constraint of a table, or of a domain, asks about. */
static bool
is_value(Node *node, AttrNumber attno)
{
	return node != NULL && ((IsA(node, Var) && ((Var *) node)->varattno == attno) || IsA(node, CoerceToDomainValue));
}

static bool
is_column(Node *node, AttrNumber attno)
{
	node = body_strip(node);
	if (node != NULL && IsA(node, FuncExpr) && list_length(((FuncExpr *) node)->args) == 1 &&
		(((FuncExpr *) node)->funcid == F_BTRIM_TEXT || ((FuncExpr *) node)->funcid == F_LOWER_TEXT))
		node = body_strip((Node *) linitial(((FuncExpr *) node)->args));
	return is_value(node, attno);
}

static bool
is_length(Node *node, AttrNumber attno)
{
	FuncExpr   *f = (FuncExpr *) body_strip(node);

	if (f == NULL || !IsA(f, FuncExpr) || list_length(f->args) != 1)
		return false;
	switch (f->funcid)
	{
		case F_LENGTH_TEXT:
		case F_CHAR_LENGTH_TEXT:
		case F_CHARACTER_LENGTH_TEXT:
		case F_OCTET_LENGTH_TEXT:
			return is_column((Node *) linitial(f->args), attno);
		default:
			return false;
	}
}

/* What a pattern in a constraint says of a text of ours; false: it had better not be asked. */
static bool
does_not_match(const char *operator, const char *pattern, const char *value)
{
	static const struct
	{
		const char *name;
		PGFunction	function;
	}			operators[] = {{"~", textregexeq}, {"~*", texticregexeq}, {"~~", textlike}, {"~~*", texticlike},
							{"!~", textregexne}, {"!~*", texticregexne}, {"!~~", textnlike}, {"!~~*", texticnlike}};

	/* one that looks back can take for ever */
	if (strlen(pattern) > 200)
		return false;
	for (const char *c = strchr(pattern, '\\'); c != NULL; c = strchr(c + 1, '\\'))
		if (isdigit((unsigned char) c[1]))
			return false;
	for (int i = 0; i < (int) lengthof(operators); i++)
		if (strcmp(operator, operators[i].name) == 0)
			return !DatumGetBool(DirectFunctionCall2Coll(operators[i].function, DEFAULT_COLLATION_OID,
														 CStringGetTextDatum(value), CStringGetTextDatum(pattern)));
	return false;
}

/* Does the condition refuse this text in this column, whatever the others hold? Not sure: no. */
bool
body_refuses(Node *check, AttrNumber attno, const char *value)
{
	ListCell   *lc;

	check = body_strip(check);
	if (check == NULL)
		return false;
	if (IsA(check, BoolExpr))
	{
		BoolExpr   *b = (BoolExpr *) check;

		if (b->boolop == NOT_EXPR)
			return false;
		foreach(lc, b->args)
			if (body_refuses((Node *) lfirst(lc), attno, value) != (b->boolop == OR_EXPR))
				return b->boolop == AND_EXPR;
		return b->boolop == OR_EXPR;
	}
	if (IsA(check, OpExpr) && list_length(((OpExpr *) check)->args) == 2)
	{
		OpExpr	   *op = (OpExpr *) check;
		char	   *name = get_opname(op->opno);
		Node	   *left = (Node *) linitial(op->args);
		Node	   *right = (Node *) lsecond(op->args);
		char	   *constant = body_constant_text(right);
		Const	   *c = (Const *) body_strip(right);

		if (op->opno >= FirstNormalObjectId || name == NULL)
			return false;
		if (constant != NULL && is_column(left, attno))
		{
			if (strcmp(name, "<>") == 0)
				return strcmp(constant, value) == 0;
			if (strcmp(name, "=") == 0 && is_value(body_strip(left), attno))
				return strcmp(constant, value) != 0;
			return does_not_match(name, constant, value);
		}
		if (is_length(left, attno) && IsA(c, Const) && !c->constisnull && c->consttype == INT4OID)
		{
			int			n = DatumGetInt32(c->constvalue);
			int			len = (int) strlen(value);

			/* bytes are characters where it is empty; else only what is sure */
			if (strcmp(name, ">") == 0)
				return len <= n;
			if (strcmp(name, ">=") == 0)
				return len < n;
			if (strcmp(name, "<>") == 0)
				return len == 0 && n == 0;
			if (strcmp(name, "<") == 0)
				return pg_mbstrlen(value) >= n;
			if (strcmp(name, "<=") == 0)
				return pg_mbstrlen(value) > n;
			return false;
		}
		return false;
	}
	if (IsA(check, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) check;
		char	   *name = get_opname(op->opno);
		Node	   *left = body_strip((Node *) linitial(op->args));
		Node	   *right = body_strip((Node *) lsecond(op->args));
		List	   *words = NIL;

		if (!op->useOr || name == NULL || strcmp(name, "=") != 0 || op->opno >= FirstNormalObjectId ||
			!is_value(left, attno))
			return false;
		if (IsA(right, ArrayCoerceExpr))
			right = body_strip((Node *) ((ArrayCoerceExpr *) right)->arg);
		if (IsA(right, ArrayExpr))
		{
			foreach(lc, ((ArrayExpr *) right)->elements)
			{
				char	   *text = body_constant_text((Node *) lfirst(lc));

				if (text == NULL)
					return false;
				words = lappend(words, text);
			}
		}
		else if (IsA(right, Const) && !((Const *) right)->constisnull &&
				 (((Const *) right)->consttype == TEXTARRAYOID || ((Const *) right)->consttype == 1015))
		{
			Datum	   *elems;
			bool	   *nulls;
			int			n;

			deconstruct_array(DatumGetArrayTypeP(((Const *) right)->constvalue), TEXTOID, -1, false, TYPALIGN_INT,
							  &elems, &nulls, &n);
			for (int i = 0; i < n; i++)
				if (!nulls[i])
					words = lappend(words, TextDatumGetCString(elems[i]));
		}
		else
			return false;
		foreach(lc, words)
			if (strcmp((char *) lfirst(lc), value) == 0)
				return false;
		return words != NIL;
	}
	return false;
}

static Oid
domain_base(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			result = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* The domain that is, or is made of, one that is NOT NULL; invalid: none. */
Oid
body_domain_not_null(Oid type)
{
	for (; OidIsValid(type) && get_typtype(type) == TYPTYPE_DOMAIN; type = domain_base(type))
	{
		HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
		bool		found = HeapTupleIsValid(tuple) && ((Form_pg_type) GETSTRUCT(tuple))->typnotnull;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (found)
			return type;
	}
	return InvalidOid;
}

/* The CHECK of a domain, or of one that it is made of, that refuses this text: its name; NULL: none. */
char *
body_domain_refuses(Oid type, const char *value, Oid *domain)
{
	char	   *name = NULL;
	Relation	rel;

	if (get_typtype(type) != TYPTYPE_DOMAIN)
		return NULL;
	rel = table_open(ConstraintRelationId, AccessShareLock);
	for (; OidIsValid(type) && get_typtype(type) == TYPTYPE_DOMAIN && name == NULL; type = domain_base(type))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
		scan = systable_beginscan(rel, ConstraintTypidIndexId, true, NULL, 1, &key);
		while (name == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			bool		isnull;
			Datum		check = heap_getattr(tuple, Anum_pg_constraint_conbin, RelationGetDescr(rel), &isnull);

			if (!isnull && ((Form_pg_constraint) GETSTRUCT(tuple))->contype == CONSTRAINT_CHECK &&
				body_refuses((Node *) stringToNode(TextDatumGetCString(check)), InvalidAttrNumber, value))
			{
				name = pstrdup(NameStr(((Form_pg_constraint) GETSTRUCT(tuple))->conname));
				*domain = type;
			}
		}
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return name;
}

/* A text that the expression is, or (sometimes) ends up as: that of coalesce(). */
char *
body_constant_of(Body *body, Query *query, Node *node, bool *sometimes)
{
	BodyRef    *ref;

	node = body_strip(node);
	*sometimes = false;
	if (node == NULL)
		return NULL;
	ref = body_ref(body, node);
	if (ref != NULL)
	{
		node = body_value_of(body, ref);
		return node ? body_constant_of(body, query, node, sometimes) : NULL;
	}
	if (IsA(node, CoalesceExpr))
	{
		char	   *text = body_constant_text((Node *) llast(((CoalesceExpr *) node)->args));
		Why			why;
		List	   *others = list_copy_head(((CoalesceExpr *) node)->args, list_length(((CoalesceExpr *) node)->args) - 1);

		*sometimes = true;
		return text != NULL && nullness_of_list(body, query, others, &why) >= NULL_SOMETIMES ? text : NULL;
	}
	if (IsA(node, CoerceToDomain))
		return body_constant_of(body, query, (Node *) ((CoerceToDomain *) node)->arg, sometimes);
	/* varchar(n) */
	if (IsA(node, FuncExpr) && (((FuncExpr *) node)->funcid == F_VARCHAR_VARCHAR_INT4_BOOL ||
								((FuncExpr *) node)->funcid == F_LOWER_TEXT))
		return body_constant_of(body, query, (Node *) linitial(((FuncExpr *) node)->args), sometimes);
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_BTRIM_TEXT)
	{
		char	   *text = body_constant_of(body, query, (Node *) linitial(((FuncExpr *) node)->args), sometimes);

		return text != NULL && (text[0] == '\0' || (text[0] != ' ' && text[strlen(text) - 1] != ' ')) ? text : NULL;
	}
	return body_constant_text(node);
}
