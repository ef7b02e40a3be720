/*-------------------------------------------------------------------------
 *
 * doctor_query.c
 *	  Statements of bodies: why they fail, or would for some users.
 *
 * A statement is analysed, never planned: parse analysis runs nobody's code but
 * the input functions of types. What it raises would be raised at run time; what
 * it returns is searched for rights that are missing and values that do not fit.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "parser/parser.h"
#include "regex/regex.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "caller.h"
#include "doctor_body.h"
#include "plan.h"

/* ---------------------------------------------------------------------
 * Rights
 * ---------------------------------------------------------------------
 */

static void
keep(Body *body, List **list, const char *text)
{
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, *list)
		if (strcmp((char *) lfirst(lc), text) == 0)
			return;
	old = MemoryContextSwitchTo(body->cxt);
	*list = lappend(*list, pstrdup(text));
	MemoryContextSwitchTo(old);
}

/*
 * The role lacks a privilege. Where it is the auth server's, the function ought
 * to be a definer's, for its role has no business with an application's tables;
 * else its owner needs the right. kind: as in GRANT.
 */
void
body_denied(Body *body, const char *privilege, const char *kind, const char *object)
{
	if (!body->definer && !body->make_definer && body->role == body->doctor->auth_role &&
		body->owner != body->role)
	{
		body->make_definer = true;
		body->changed = true;
	}
	if (!body->definer && body->role == body->call->role && body->make_definer)
	{
		keep(body, &body->denied, psprintf("%s on %s %s", privilege, asc_tolower(kind, strlen(kind)), object));
		return;
	}
	body_found(body, DOCTOR_ERROR, ERRCODE_INSUFFICIENT_PRIVILEGE,
			   strcmp(kind, "FUNCTION") == 0 ? "function" : "table", object,
			   psprintf("permission denied: role %s has no %s on %s %s",
						GetUserNameFromId(body->role, true), privilege, asc_tolower(kind, strlen(kind)), object),
			   psprintf("%s runs as %s%s.", body->name, GetUserNameFromId(body->role, true),
						body->definer ? ", its owner (SECURITY DEFINER)" : ""),
			   psprintf("GRANT %s ON %s %s TO %s;", privilege, kind, object,
						quote_identifier(GetUserNameFromId(body->role, true))));
}

static bool
columns_allowed(Oid relid, Oid role, Bitmapset *columns, AclMode mode)
{
	int			col = -1;

	if (bms_is_empty(columns))
		return pg_attribute_aclcheck_all(relid, role, mode, ACLMASK_ANY) == ACLCHECK_OK;
	while ((col = bms_next_member(columns, col)) >= 0)
	{
		AttrNumber	attno = col + FirstLowInvalidHeapAttributeNumber;

		if (attno == InvalidAttrNumber ?
			pg_attribute_aclcheck_all(relid, role, mode, ACLMASK_ALL) != ACLCHECK_OK :
			pg_attribute_aclcheck(relid, attno, role, mode) != ACLCHECK_OK)
			return false;
	}
	return true;
}

static void
check_rights(Body *body, Query *query)
{
	ListCell   *lc;

	foreach(lc, compat_query_perms(query))
	{
		CompatPerms *p = (CompatPerms *) lfirst(lc);
		Oid			role = OidIsValid(p->check_as) ? p->check_as : body->role;
		AclMode		missing = p->required & ~pg_class_aclmask(p->relid, role, p->required, ACLMASK_ALL);
		static const struct
		{
			AclMode		mode;
			const char *word;
		}			modes[] = {{ACL_SELECT, "SELECT"}, {ACL_INSERT, "INSERT"}, {ACL_UPDATE, "UPDATE"}, {ACL_DELETE, "DELETE"}};
		StringInfoData words;
		char	   *name;

		if ((missing & ACL_SELECT) && columns_allowed(p->relid, role, p->selected, ACL_SELECT))
			missing &= ~ACL_SELECT;
		if ((missing & ACL_INSERT) && columns_allowed(p->relid, role, p->inserted, ACL_INSERT))
			missing &= ~ACL_INSERT;
		if ((missing & ACL_UPDATE) && columns_allowed(p->relid, role, p->updated, ACL_UPDATE))
			missing &= ~ACL_UPDATE;
		name = doctor_relation_name(p->relid);
		if (missing == 0 || name == NULL)
			continue;
		initStringInfo(&words);
		for (int i = 0; i < (int) lengthof(modes); i++)
			if (missing & modes[i].mode)
				appendStringInfo(&words, "%s%s", words.len ? ", " : "", modes[i].word);
		if (role == body->role)
			body_denied(body, words.data, "TABLE", name);
		else
			body_found(body, DOCTOR_ERROR, ERRCODE_INSUFFICIENT_PRIVILEGE, "table", name,
					   psprintf("permission denied: role %s, the owner of a view, has no %s on table %s",
								GetUserNameFromId(role, true), words.data, name),
					   psprintf("%s reads it by way of the view.", body_where(body)),
					   psprintf("GRANT %s ON TABLE %s TO %s;", words.data, name,
								quote_identifier(GetUserNameFromId(role, true))));
	}
}

static bool
check_function(Oid funcid, void *arg)
{
	Body	   *body = (Body *) arg;
	char	   *name;

	if (funcid < FirstNormalObjectId)
		return false;
	name = doctor_function_name(funcid);
	if (name == NULL)
		return false;
	if (compat_proc_aclcheck(funcid, body->role, ACL_EXECUTE) != ACLCHECK_OK)
		body_denied(body, "EXECUTE", "FUNCTION", name);
	if (get_func_rettype(funcid) == TRIGGEROID)
	{
		body_found(body, DOCTOR_ERROR, ERRCODE_FEATURE_NOT_SUPPORTED, "function", body->name,
				   psprintf("a statement fails: %s is called, but trigger functions can only be called as triggers", name),
				   psprintf("At %s.", body_where(body)), NULL);
		return false;
	}
	body_calls(body, funcid, body->nargs, body->args);
	return false;
}

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
static char *
constant_text(Node *node)
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
			return DatumGetCString(c->constvalue);
		default:
			return NULL;
	}
}

/* The value of a variable that was assigned once, where it is known. */
static Node *
value_of(Body *body, BodyRef *ref)
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

static bool
is_metadata(Body *body, Node *node)
{
	BodyRef    *ref = body_ref(body, body_strip(node));
	BodyArg    *arg = argument_of(body, body_strip(node));

	if (arg != NULL)
		return arg->metadata;
	if (ref == NULL)
		return false;
	if (ref->field != NULL)
		return ref->is_new && (strstr(ref->field, "meta_data") != NULL || strcmp(ref->field, "identity_data") == 0);
	node = value_of(body, ref);
	return node != NULL && is_metadata(body, node);
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
		return constant_text((Node *) llast(((ArrayExpr *) c)->elements));
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
		node = value_of(body, ref);
		return node ? body_metadata_field(body, node) : NULL;
	}
	if (IsA(node, SubscriptingRef))
	{
		SubscriptingRef *s = (SubscriptingRef *) node;

		if (s->refcontainertype != JSONBOID || s->refassgnexpr != NULL || s->refupperindexpr == NIL)
			return NULL;
		field = constant_text((Node *) llast(s->refupperindexpr));
		return field != NULL && (is_metadata(body, (Node *) s->refexpr) || body_metadata_field(body, (Node *) s->refexpr) != NULL) ? field : NULL;
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
			return field != NULL && (is_metadata(body, (Node *) linitial(args)) ||
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
	field = constant_text((Node *) lsecond(args));
	if (field == NULL)
		return NULL;
	if (is_metadata(body, (Node *) linitial(args)))
		return field;
	return body_metadata_field(body, (Node *) linitial(args)) ? field : NULL;
}

/* Where a plain text constant that begins there ends; -1: it is none. */
static int
literal_end(const char *sql, int at)
{
	if (sql == NULL || at < 0 || at >= (int) strlen(sql) || sql[at] != '\'')
		return -1;
	for (at++; sql[at] != '\0' && sql[at] != '\''; at++)
		if (sql[at] == '\\')
			return -1;
	return sql[at] == '\'' && sql[at + 1] != '\'' ? at + 1 : -1;
}

/* Put such an expression into a call, where it stands in the statement itself and as simple as can be. */
static bool
edit_metadata(Body *body, Node *node, const char *before, const char *after)
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
	to = from < 0 || to <= from ? -1 : literal_end(body->sql, to);
	return to > 0 && body_edit(body, from, to, before, after, false);
}

static bool
is_guarded(Body *body, const char *word)
{
	ListCell   *lc;

	foreach(lc, body->guards)
		if (strcmp((char *) lfirst(lc), word) == 0)
			return true;
	return false;
}

typedef enum Nullness
{
	NULL_NEVER,
	NULL_UNKNOWN,
	NULL_SOMETIMES,
	NULL_ALWAYS
} Nullness;

typedef struct Why
{
	const char *text;			/* when it is null */
	DoctorSeverity severity;
} Why;

static Nullness nullness(Body *body, Query *query, Node *node, Why *why);
static char *fix_drop_default(Oid relid, const char *column);

/* Larger tables are not searched. */
#define LOOKUP_PAGES_MAX	1000

typedef struct Lookup
{
	Query	   *query;
	char	   *sql;
	List	   *values;			/* Const */
	char	   *table;
	Oid			owner;
	uint64		rows;
} Lookup;

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
static bool
is_readable(Body *body, Relation rel)
{
	return rel->rd_rel->relkind == RELKIND_RELATION && doctor_may_look(body->doctor, rel->rd_rel->relowner) &&
		!has_own_expressions(rel) && !(rel->rd_rel->relrowsecurity && rel->rd_rel->relforcerowsecurity) &&
		RelationGetNumberOfBlocks(rel) <= LOOKUP_PAGES_MAX;
}

/* A search for constants in one small table that can be read? */
static bool
is_lookup(Body *body, Node *value, Lookup *lookup)
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
	result = is_readable(body, rel) && lookup_qual(lookup, rel, query->jointree->quals, &sql) && list_length(lookup->values) <= PLAN_MAX_ARGS;
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
	(void) set_config_option("lock_timeout", BODY_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/* no CHECK either */
	(void) set_config_option("constraint_exclusion", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_execute_plan(plan_try(lookup->sql, n, types), values, NULL, true, 2);
	lookup->rows = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
}

/* How many rows it finds, up to two; where it cannot be run, one. */
static uint64
lookup_rows(Lookup *lookup)
{
	ErrorData  *edata = plan_contained(run_lookup, lookup, false);

	if (edata == NULL)
		return lookup->rows;
	if (caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(edata);
	FreeErrorData(edata);
	return 1;
}

/* Does anything before the statement write this table, or call what may? */
static bool
has_written(Body *body, Oid relid)
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

	if (!is_lookup(body, value, &lookup) || has_written(body, linitial_node(RangeTblEntry, lookup.query->rtable)->relid) || lookup_rows(&lookup) > 0)
		return NULL;
	return psprintf("no row of %s is what it looks for", lookup.table);
}

static Nullness
nullness_of_list(Body *body, Query *query, List *args, Why *why)
{
	Nullness	most = NULL_UNKNOWN;
	ListCell   *lc;

	foreach(lc, args)
	{
		Why			this;
		Nullness	n = nullness(body, query, (Node *) lfirst(lc), &this);

		if (n > most)
		{
			most = n;
			*why = this;
		}
	}
	return most;
}

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
		if (ref->field == NULL || !ref->is_new || body->call->relid != body->doctor->auth_users ||
			!TRIGGER_FOR_INSERT(type) || is_guarded(body, ref->field))
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
		if (strcmp(ref->field, "last_sign_in_at") == 0 || strcmp(ref->field, "email_confirmed_at") == 0 ||
			strcmp(ref->field, "confirmed_at") == 0 || strcmp(ref->field, "invited_at") == 0 ||
			strcmp(ref->field, "phone_confirmed_at") == 0 || strcmp(ref->field, "confirmation_sent_at") == 0)
		{
			why->text = psprintf("%s is not set yet when a user is made", ref->field);
			return NULL_SOMETIMES;
		}
		return NULL_UNKNOWN;
	}
	{
		Node	   *value = value_of(body, ref);

		return value ? nullness(body, query, value, why) : NULL_UNKNOWN;
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
static bool
is_unset(Body *body, const char *name)
{
	return name != NULL && strchr(name, '.') != NULL &&
		(strncmp(name, "request.", 8) == 0 || GetConfigOption(name, true, false) == NULL) &&
		doctor_role_setting(body->doctor->auth_role, name) == NULL && !body_mentions(body, "set_config");
}

/* May it be null? Only what is seen to be so counts. */
static Nullness
nullness(Body *body, Query *query, Node *node, Why *why)
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
		if (is_guarded(body, field) || strcmp(field, "provider") == 0 || strcmp(field, "providers") == 0 || strcmp(field, "sub") == 0)
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
					Nullness	n = nullness(body, query, (Node *) lfirst(lc), &this);

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
				char	   *name = constant_text((Node *) linitial(((FuncExpr *) node)->args));

				if (!is_unset(body, name))
					return NULL_UNKNOWN;
				why->text = psprintf("setting %s is not set in the auth server's connection", name);
				return NULL_ALWAYS;
			}
			/* not strict for the sake of its delimiter */
			if (((FuncExpr *) node)->funcid == F_STRING_TO_ARRAY_TEXT_TEXT || ((FuncExpr *) node)->funcid == F_STRING_TO_ARRAY_TEXT_TEXT_TEXT)
				return nullness(body, query, (Node *) linitial(((FuncExpr *) node)->args), why);
			if (!func_strict(((FuncExpr *) node)->funcid))
				return NULL_UNKNOWN;
			return nullness_of_list(body, query, ((FuncExpr *) node)->args, why);
		case T_SubLink:
			{
				Query	   *sub = castNode(Query, ((SubLink *) node)->subselect);

				if (((SubLink *) node)->subLinkType == EXPR_SUBLINK && sub->jointree->fromlist != NIL)
				{
					why->text = body_finds_nothing(body, node);
					return why->text ? NULL_ALWAYS : NULL_UNKNOWN;
				}
				if (((SubLink *) node)->subLinkType != EXPR_SUBLINK ||
					sub->setOperations != NULL || list_length(sub->targetList) != 1)
					return NULL_UNKNOWN;
				return nullness(body, sub, (Node *) linitial_node(TargetEntry, sub->targetList)->expr, why);
			}
		case T_NullIfExpr:
			return nullness(body, query, (Node *) linitial(((NullIfExpr *) node)->args), why);
		case T_CoerceViaIO:
			return nullness(body, query, (Node *) ((CoerceViaIO *) node)->arg, why);
		case T_CoerceToDomain:
			return nullness(body, query, (Node *) ((CoerceToDomain *) node)->arg, why);
		case T_ArrayCoerceExpr:
			return nullness(body, query, (Node *) ((ArrayCoerceExpr *) node)->arg, why);
		case T_SubscriptingRef:
			{
				SubscriptingRef *s = (SubscriptingRef *) node;
				Const	   *index = list_length(s->refupperindexpr) == 1 ? (Const *) linitial(s->refupperindexpr) : NULL;
				Nullness	n = s->refassgnexpr == NULL ? nullness(body, query, (Node *) s->refexpr, why) : NULL_UNKNOWN;

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
				return tle ? nullness(body, rte->subquery, (Node *) tle->expr, why) : NULL_UNKNOWN;
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
	Nullness	n = nullness(body, NULL, node, &why);

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
	text = IsA(node, Const) && ((Const *) node)->consttype == TEXTARRAYOID ? last_of_path(node) : constant_text(node);
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

/* What a condition is for the auth server, as far as that can be seen. */
typedef enum Truth
{
	TRUTH_YES,
	TRUTH_NO,
	TRUTH_NULL,
	TRUTH_OPEN
} Truth;

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

			if (nullness(body, query, (Node *) lfirst(lc), &why) != NULL_ALWAYS)
				return constant_text((Node *) lfirst(lc));
		}
	}
	if (node != NULL && IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_TEXT_NAME)
		return sure_text(body, query, (Node *) linitial(((FuncExpr *) node)->args));
	if (node != NULL && current_role(body, node) != NULL)
		return current_role(body, node);
	return constant_text(node);
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
	return constant_text(node) != NULL;
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
			if (nullness(body, query, (Node *) ((NullTest *) node)->arg, &why) != NULL_ALWAYS)
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

				if ((nullness(body, query, left, &why) == NULL_ALWAYS && is_never_null(body, right)) ||
					(nullness(body, query, right, &why) == NULL_ALWAYS && is_never_null(body, left)))
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
		char	   *name = constant_text((Node *) linitial(((FuncExpr *) node)->args));

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

/* Or never? */
bool
body_never_true(Body *body, Query *query)
{
	Truth		is = truth_of_request(body, query);

	return is == TRUTH_NO || is == TRUTH_NULL;
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
static bool
refuses(Node *check, AttrNumber attno, const char *value)
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
			if (refuses((Node *) lfirst(lc), attno, value) != (b->boolop == OR_EXPR))
				return b->boolop == AND_EXPR;
		return b->boolop == OR_EXPR;
	}
	if (IsA(check, OpExpr) && list_length(((OpExpr *) check)->args) == 2)
	{
		OpExpr	   *op = (OpExpr *) check;
		char	   *name = get_opname(op->opno);
		Node	   *left = (Node *) linitial(op->args);
		Node	   *right = (Node *) lsecond(op->args);
		char	   *constant = constant_text(right);
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
				char	   *text = constant_text((Node *) lfirst(lc));

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
static Oid
domain_not_null(Oid type)
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
static char *
domain_refuses(Oid type, const char *value, Oid *domain)
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
				refuses((Node *) stringToNode(TextDatumGetCString(check)), InvalidAttrNumber, value))
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
static char *
constant_of(Body *body, Query *query, Node *node, bool *sometimes)
{
	BodyRef    *ref;

	node = body_strip(node);
	*sometimes = false;
	if (node == NULL)
		return NULL;
	ref = body_ref(body, node);
	if (ref != NULL)
	{
		node = value_of(body, ref);
		return node ? constant_of(body, query, node, sometimes) : NULL;
	}
	if (IsA(node, CoalesceExpr))
	{
		char	   *text = constant_text((Node *) llast(((CoalesceExpr *) node)->args));
		Why			why;
		List	   *others = list_copy_head(((CoalesceExpr *) node)->args, list_length(((CoalesceExpr *) node)->args) - 1);

		*sometimes = true;
		return text != NULL && nullness_of_list(body, query, others, &why) >= NULL_SOMETIMES ? text : NULL;
	}
	if (IsA(node, CoerceToDomain))
		return constant_of(body, query, (Node *) ((CoerceToDomain *) node)->arg, sometimes);
	/* varchar(n) */
	if (IsA(node, FuncExpr) && (((FuncExpr *) node)->funcid == F_VARCHAR_VARCHAR_INT4_BOOL ||
								((FuncExpr *) node)->funcid == F_LOWER_TEXT))
		return constant_of(body, query, (Node *) linitial(((FuncExpr *) node)->args), sometimes);
	return constant_text(node);
}

/* ---------------------------------------------------------------------
 * INSERT
 * ---------------------------------------------------------------------
 */

static bool
is_foreign_key_column(Relation rel, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = (ForeignKeyCacheInfo *) lfirst(lc);

		for (int i = 0; i < fk->nkeys; i++)
			if (fk->conkey[i] == attno)
				return true;
	}
	return false;
}

/* The value is what the column's default gives, which the statement leaves it to. */
static bool
is_default(Relation rel, TargetEntry *tle)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr != NULL && i < constr->num_defval; i++)
		if (constr->defval[i].adnum == tle->resno)
			return equal(stringToNode(constr->defval[i].adbin), tle->expr);
	return false;
}

/* Whoever leaves the column out writes nothing, then. */
static char *
fix_drop_default(Oid relid, const char *column)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column);
	bool		not_null = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT%s;", doctor_relation_name(relid), quote_identifier(column),
					not_null ? psprintf(", ALTER COLUMN %s DROP NOT NULL", quote_identifier(column)) : "");
}

/* What would make a column that gets no value accept that. */
static char *
fix_no_value(Relation rel, Form_pg_attribute att)
{
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	const char *column = quote_identifier(NameStr(att->attname));
	const char *value = NULL;

	if (!is_foreign_key_column(rel, att->attnum))
		switch (att->atttypid)
		{
			case TIMESTAMPTZOID:
			case TIMESTAMPOID:
			case DATEOID:
				value = "pg_catalog.now()";
				break;
			case UUIDOID:
				value = "pg_catalog.gen_random_uuid()";
				break;
			case JSONBOID:
			case JSONOID:
				value = "'{}'";
				break;
			case BOOLOID:
				value = "false";
				break;
			case INT2OID:
			case INT4OID:
			case INT8OID:
			case NUMERICOID:
			case FLOAT4OID:
			case FLOAT8OID:
				value = "0";
				break;
			default:
				break;
		}
	if (value != NULL)
		return psprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s;", table, column, value);
	return psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", table, column);
}

static char *
fix_trigger_row(Body *body)
{
	char	   *definition = TextDatumGetCString(DirectFunctionCall1(pg_get_triggerdef, ObjectIdGetDatum(body->call->trigger)));
	char	   *level = strstr(definition, " FOR EACH STATEMENT ");

	if (level == NULL || strncmp(definition, "CREATE TRIGGER ", 15) != 0)
		return NULL;
	return psprintf("CREATE OR REPLACE TRIGGER %.*s FOR EACH ROW %s;", (int) (level - definition - 15),
					definition + 15, level + strlen(" FOR EACH STATEMENT "));
}

/* Does any text do in this column, the same one in many rows too? */
static bool
is_free_text(Relation rel, AttrNumber attno)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	ListCell   *lc;

	if (is_foreign_key_column(rel, attno))
		return false;
	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		Bitmapset  *used = NULL;

		pull_varattnos((Node *) stringToNode(constr->check[i].ccbin), 1, &used);
		if (bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, used))
			return false;
	}
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		bool		found = false;

		if (!HeapTupleIsValid(tuple))
			continue;
		for (int i = 0; i < ((Form_pg_index) GETSTRUCT(tuple))->indnkeyatts; i++)
			found = found || (((Form_pg_index) GETSTRUCT(tuple))->indisunique &&
							  (((Form_pg_index) GETSTRUCT(tuple))->indkey.values[i] == attno ||
							   ((Form_pg_index) GETSTRUCT(tuple))->indkey.values[i] == 0));
		ReleaseSysCache(tuple);
		if (found)
			return false;
	}
	return true;
}

static void
check_not_null(Body *body, Query *query, Relation rel, Form_pg_attribute att, TargetEntry *tle)
{
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	char	   *column = NameStr(att->attname);
	Why			why;
	Nullness	n;
	DoctorSeverity severity;
	const char *finding;
	const char *detail;
	char	   *fix;
	Oid			domain = att->attnotnull ? InvalidOid : domain_not_null(att->atttypid);

	if ((!att->attnotnull && !OidIsValid(domain)) || att->attgenerated || att->attidentity)
		return;
	if (OidIsValid(domain) && (tle == NULL || (IsA(body_strip((Node *) tle->expr), CoerceToDomain) &&
											   nullness(body, query, (Node *) tle->expr, &why) == NULL_ALWAYS)))
	{
		if (!body_sets_column(body, RelationGetRelid(rel), column, query->commandType))
			body_found(body, DOCTOR_ERROR, ERRCODE_NOT_NULL_VIOLATION, "table", table,
					   psprintf("column %s is of domain %s, which is NOT NULL", quote_identifier(column), format_type_be(domain)),
					   psprintf("The INSERT at %s gives it no value: domain %s does not allow null values.",
								body_where(body), format_type_be(domain)),
					   psprintf("ALTER DOMAIN %s DROP NOT NULL;", format_type_extended(domain, -1, FORMAT_TYPE_FORCE_QUALIFY)));
		return;
	}
	if (OidIsValid(domain))
	{
		if (body_sets_column(body, RelationGetRelid(rel), column, query->commandType))
			return;
		n = nullness(body, query, (Node *) tle->expr, &why);
		if (n >= NULL_SOMETIMES)
			body_found(body, n == NULL_ALWAYS ? DOCTOR_ERROR : why.severity, ERRCODE_NOT_NULL_VIOLATION, "function", body->name,
					   psprintf("a value that may be null goes into column %s of %s, whose domain is NOT NULL", quote_identifier(column), table),
					   psprintf("At %s: %s. Domain %s does not allow null values.", body_where(body), why.text, format_type_be_qualified(domain)),
					   psprintf("ALTER DOMAIN %s DROP NOT NULL;", format_type_be_qualified(domain)));
		return;
	}
	if (tle == NULL)
	{
		if (body_sets_column(body, RelationGetRelid(rel), column, query->commandType))
			return;
		body_found(body, DOCTOR_ERROR, ERRCODE_NOT_NULL_VIOLATION, "table", table,
				   psprintf("column %s is NOT NULL and has no default", quote_identifier(column)),
				   psprintf("The INSERT at %s gives it no value: null value in column \"%s\" violates not-null constraint.%s",
							body_where(body), column,
							pg_strcasecmp(column, "updatedat") == 0 || pg_strcasecmp(column, "createdat") == 0 ?
							" An ORM (Prisma's @updatedAt) fills such columns itself; the database does not." : ""),
				   fix_no_value(rel, att));
		return;
	}
	n = nullness(body, query, (Node *) tle->expr, &why);
	if (n < NULL_SOMETIMES || body_sets_column(body, RelationGetRelid(rel), column, query->commandType))
		return;
	if (is_default(rel, tle))
	{
		body_found(body, DOCTOR_ERROR, ERRCODE_NOT_NULL_VIOLATION, "table", table,
				   psprintf("the default of column %s of %s is null at signup, and the column is NOT NULL", quote_identifier(column), table),
				   psprintf("The INSERT at %s leaves it to its default: %s. Null value in column \"%s\" violates not-null constraint.",
							body_where(body), why.text, column),
				   psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", table, quote_identifier(column)));
		return;
	}
	severity = n == NULL_ALWAYS ? DOCTOR_ERROR : why.severity;
	finding = psprintf("a value that may be null goes into column %s of %s, which is NOT NULL", quote_identifier(column), table);
	detail = psprintf("At %s: %s. Null value in column \"%s\" violates not-null constraint.", body_where(body), why.text, column);
	if (n == NULL_ALWAYS && OidIsValid(body->call->trigger) && !TRIGGER_FOR_ROW(body->call->trigger_type))
		fix = fix_trigger_row(body);
	else
	{
		/* an empty text is as much as the application can expect there, where the table takes it */
		if ((att->atttypid == TEXTOID || att->atttypid == VARCHAROID) && is_free_text(rel, att->attnum) &&
			edit_metadata(body, (Node *) tle->expr, "coalesce(", ", '')"))
		{
			body_found_edit(body, severity, ERRCODE_NOT_NULL_VIOLATION, finding, detail);
			return;
		}
		fix = psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", table, quote_identifier(column));
	}
	body_found(body, severity, ERRCODE_NOT_NULL_VIOLATION, "function", body->name, finding, detail, fix);
}

/* Is it made of the part of an address before the @? */
static bool
is_local_part(Node *node, Body *body)
{
	BodyRef    *ref;

	node = body_strip(node);
	if (node == NULL)
		return false;
	ref = body_ref(body, node);
	if (ref != NULL && value_of(body, ref) != NULL)
		return is_local_part(value_of(body, ref), body);
	if (IsA(node, FuncExpr) && (((FuncExpr *) node)->funcid == F_LOWER_TEXT || ((FuncExpr *) node)->funcid == F_VARCHAR_VARCHAR_INT4_BOOL))
		return is_local_part((Node *) linitial(((FuncExpr *) node)->args), body);
	if (IsA(node, CoerceToDomain))
		return is_local_part((Node *) ((CoerceToDomain *) node)->arg, body);
	if (IsA(node, CoalesceExpr))
		return is_local_part((Node *) llast(((CoalesceExpr *) node)->args), body);
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_SPLIT_PART)
	{
		ref = body_ref(body, body_strip((Node *) linitial(((FuncExpr *) node)->args)));
		return ref != NULL && ref->field != NULL && strcmp(ref->field, "email") == 0;
	}
	return false;
}

const char *const query_local_parts[] = {"al", "jo.ann", "ann-lee", "jo_ann", "jo+news", "somebody.with.a.long.name", NULL};

char *
query_refusing(Relation rel, AttrNumber attno, const char *value, char **fix)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	char	   *name;
	Oid			domain = InvalidOid;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
		if (refuses((Node *) stringToNode(constr->check[i].ccbin), attno, value))
		{
			*fix = psprintf("ALTER TABLE %s DROP CONSTRAINT %s;", doctor_relation_name(RelationGetRelid(rel)),
							quote_identifier(constr->check[i].ccname));
			return psprintf("check constraint %s", quote_identifier(constr->check[i].ccname));
		}
	name = domain_refuses(TupleDescAttr(RelationGetDescr(rel), attno - 1)->atttypid, value, &domain);
	if (name == NULL)
		return NULL;
	*fix = psprintf("ALTER DOMAIN %s DROP CONSTRAINT %s;", format_type_extended(domain, -1, FORMAT_TYPE_FORCE_QUALIFY),
					quote_identifier(name));
	return psprintf("check constraint %s of domain %s", quote_identifier(name), format_type_be(domain));
}

/* A constraint that does not hold for a value that the statement writes. */
static bool
check_value(Body *body, Query *query, Relation rel, Form_pg_attribute att, DoctorSeverity severity, const char *value, const char *when)
{
	char	   *fix;
	char	   *constraint = query_refusing(rel, att->attnum, value, &fix);

	if (constraint == NULL)
		return false;
	body_found(body, severity, ERRCODE_CHECK_VIOLATION, "table", doctor_relation_name(RelationGetRelid(rel)),
			   psprintf("%s refuses what the trigger writes into column %s", constraint, quote_identifier(NameStr(att->attname))),
			   psprintf("The %s at %s writes '%s' into it%s: new row violates %s.", query->commandType == CMD_INSERT ? "INSERT" : "UPDATE",
						body_where(body), value, when, constraint),
			   fix);
	return true;
}

static void
check_checks(Body *body, Query *query, Relation rel, Form_pg_attribute att, TargetEntry *tle)
{
	bool		sometimes;
	char	   *value;
	bool		local;
	char	   *field;
	BodyRef    *ref;
	Node	   *node;

	if (tle == NULL)
		return;
	value = constant_of(body, query, (Node *) tle->expr, &sometimes);
	node = body_strip((Node *) tle->expr);
	if (node != NULL && IsA(node, CoerceToDomain))
		node = body_strip((Node *) ((CoerceToDomain *) node)->arg);
	ref = body_ref(body, node);
	if (ref != NULL && ref->is_new && ref->field != NULL && strcmp(ref->field, "email") == 0)
	{
		if (!body_sets_column(body, RelationGetRelid(rel), NameStr(att->attname), query->commandType))
			(void) check_value(body, query, rel, att, DOCTOR_WARNING, "somebody@example.com", " for one with that address");
		return;
	}
	local = value == NULL && is_local_part((Node *) tle->expr, body);
	field = value == NULL && !local ? body_metadata_field(body, (Node *) tle->expr) : NULL;
	if (field != NULL && is_guarded(body, field))
		field = NULL;
	if ((value == NULL && !local && field == NULL) || body_sets_column(body, RelationGetRelid(rel), NameStr(att->attname), query->commandType))
		return;
	if (value != NULL)
		(void) check_value(body, query, rel, att, sometimes ? DOCTOR_WARNING : DOCTOR_ERROR, value,
						   sometimes ? " where the user's metadata has nothing" : is_default(rel, tle) ? ", its default" : "");
	if (field != NULL)
		(void) check_value(body, query, rel, att, DOCTOR_WARNING, "", psprintf(" where the form sends an empty \"%s\" with the metadata", field));
	for (int i = 0; local && query_local_parts[i] != NULL; i++)
		if (check_value(body, query, rel, att, DOCTOR_WARNING, query_local_parts[i], " for one whose address begins so"))
			break;
}

/* What whoever comes first makes: the statement, or what stands around it, may ask whether it is there. */
static bool
may_be_made_once(Body *body, Query *query)
{
	return query->onConflict != NULL || query->jointree->fromlist != NIL ||
		(body->conditions > 0 && (body_mentions(body, "exist") || body_mentions(body, "found") || body_mentions(body, "count(")));
}

static void
check_unique(Body *body, Query *query, Relation rel, Form_pg_attribute att, TargetEntry *tle)
{
	ListCell   *lc;
	bool		sometimes = true;
	char	   *value;
	bool		local;
	char	   *field;
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	Node	   *expr;
	BodyRef    *ref;

	if (tle == NULL || query->onConflict != NULL)
		return;
	expr = body_strip((Node *) tle->expr);
	ref = body_ref(body, expr);
	if (ref != NULL && value_of(body, ref) != NULL)
		expr = body_strip(value_of(body, ref));
	value = constant_of(body, query, expr, &sometimes);
	if (value != NULL && !sometimes && may_be_made_once(body, query))
		return;
	local = is_local_part(expr, body);
	if (IsA(expr, CoalesceExpr))
		local = is_local_part(body_strip((Node *) llast(((CoalesceExpr *) expr)->args)), body);
	field = body_metadata_field(body, expr);
	if (value == NULL && !local && field == NULL)
		return;
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;
		bool		alone;
		char	   *name;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		alone = index->indisunique && index->indnkeyatts == 1 && index->indkey.values[0] == att->attnum &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
		ReleaseSysCache(tuple);
		name = alone ? get_rel_name(lfirst_oid(lc)) : NULL;
		if (name == NULL || body_sets_column(body, RelationGetRelid(rel), NameStr(att->attname), query->commandType))
			continue;
		body_found(body, value != NULL && !sometimes ? DOCTOR_ERROR : DOCTOR_WARNING,
				   ERRCODE_UNIQUE_VIOLATION, "function", body->name,
				   psprintf("two users can get the same value in column %s of %s, which is unique",
							quote_identifier(NameStr(att->attname)), table),
				   psprintf("At %s it is %s: duplicate key value violates unique constraint \"%s\", and the second one cannot sign up.",
							body_where(body),
							local ? "the part of the address before the @" :
							value != NULL ? (sometimes ? "the same text for everybody whose metadata has nothing" :
											 is_default(rel, tle) ? "its default, the same text for everybody" : "the same text for everybody") :
							psprintf("what the user wrote into metadata as \"%s\"", field), name),
				   NULL);
	}
}

/* How long the text is, or may well be; 0: that is not seen. */
static int
text_length(Body *body, Query *query, Node *node, const char **what, bool *always)
{
	bool		sometimes;
	char	   *text;
	BodyRef    *ref;
	FuncExpr   *f;

	node = body_strip(node);
	*always = true;
	text = constant_of(body, query, node, &sometimes);
	if (text != NULL)
	{
		int			len = (int) strlen(text);

		while (len > 0 && text[len - 1] == ' ')
			len--;
		*what = psprintf("'%s'", text);
		*always = !sometimes;
		return pg_mbstrlen_with_len(text, len);
	}
	ref = body_ref(body, node);
	if (ref != NULL && value_of(body, ref) != NULL)
		return text_length(body, query, value_of(body, ref), what, always);
	if (IsA(node, CoerceViaIO) && exprType((Node *) ((CoerceViaIO *) node)->arg) == UUIDOID)
	{
		*what = "a uuid";
		return 36;
	}
	/* what is put together is as long as its parts that are known */
	if (IsA(node, OpExpr) && ((OpExpr *) node)->opfuncid == F_TEXTCAT)
	{
		const char *first_what = NULL;
		const char *second_what = NULL;
		bool		first_always;
		bool		second_always;
		int			first = text_length(body, query, (Node *) linitial(((OpExpr *) node)->args), &first_what, &first_always);
		int			second = text_length(body, query, (Node *) lsecond(((OpExpr *) node)->args), &second_what, &second_always);

		*always = first_what != NULL && second_what != NULL && first_always && second_always;
		if (first_what != NULL || second_what != NULL)
			*what = psprintf("%s with more", first >= second ? first_what : second_what);
		return first + second;
	}
	f = (FuncExpr *) node;
	if (IsA(node, FuncExpr) && f->funcid == F_MD5_TEXT)
	{
		*what = "a hash in hexadecimal digits";
		return 32;
	}
	*always = false;
	if (body_metadata_field(body, node) != NULL && !is_guarded(body, body_metadata_field(body, node)))
	{
		*what = psprintf("metadata field \"%s\"", body_metadata_field(body, node));
		return 40;
	}
	if (IsA(node, CoalesceExpr))
	{
		ListCell   *lc;
		int			most = 0;

		foreach(lc, ((CoalesceExpr *) node)->args)
		{
			const char *this_what;
			bool		this_always;
			int			len = text_length(body, query, (Node *) lfirst(lc), &this_what, &this_always);

			if (len > most)
			{
				most = len;
				*what = this_what;
			}
		}
		*always = false;
		return most;
	}
	if (IsA(node, FuncExpr) && (f->funcid == F_LOWER_TEXT || f->funcid == F_UPPER_TEXT || f->funcid == F_BTRIM_TEXT))
		return text_length(body, query, (Node *) linitial(f->args), what, always);
	if (IsA(node, FuncExpr) && is_local_part(node, body))
	{
		*what = "the part of an address before the @";
		return 24;
	}
	if (ref != NULL && ref->is_new && ref->field != NULL && strcmp(ref->field, "email") == 0 && !is_guarded(body, "email"))
	{
		*what = "an email address";
		return 40;
	}
	return 0;
}

/* A constant in a column with a foreign key names a row; OLD.id of a user who is gone names none. */
static void
check_key(Body *body, Relation rel, Form_pg_attribute att, TargetEntry *tle)
{
	Node	   *expr = tle ? body_strip((Node *) tle->expr) : NULL;
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	BodyRef    *ref = body_ref(body, expr);
	ListCell   *lc;

	if (expr == NULL)
		return;
	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = (ForeignKeyCacheInfo *) lfirst(lc);
		char	   *name;

		if (fk->nkeys != 1 || fk->conkey[0] != att->attnum || (name = get_constraint_name(fk->conoid)) == NULL)
			continue;
		if (ref != NULL && ref->is_old && ref->field != NULL && body->call->relid == fk->confrelid && body->conditions == 0 &&
			TRIGGER_FOR_AFTER(body->call->trigger_type) && TRIGGER_FOR_DELETE(body->call->trigger_type) &&
			!TRIGGER_FOR_UPDATE(body->call->trigger_type) && get_attnum(fk->confrelid, ref->field) == fk->confkey[0])
			body_found(body, DOCTOR_ERROR, ERRCODE_FOREIGN_KEY_VIOLATION, "function", body->name,
					   psprintf("foreign key %s of %s refers to the row that is being deleted", quote_identifier(name), table),
					   psprintf("The INSERT at %s, in an AFTER DELETE trigger, gives column %s the key of a row of %s that is gone: insert or update on table violates foreign key constraint \"%s\".",
								body_where(body), quote_identifier(NameStr(att->attname)), doctor_relation_name(fk->confrelid), name),
					   NULL);
		else if (IsA(expr, Const) && !((Const *) expr)->constisnull && ((Const *) expr)->consttype < FirstNormalObjectId &&
				 !body->uncertain && !body->filled && fk->confrelid != RelationGetRelid(rel))
		{
			Relation	other = relation_open(fk->confrelid, AccessShareLock);
			char	   *column = get_attname(fk->confrelid, fk->confkey[0], true);
			Lookup		lookup;
			bool		usable = column != NULL && is_readable(body, other) &&
				get_atttype(fk->confrelid, fk->confkey[0]) < FirstNormalObjectId;

			memset(&lookup, 0, sizeof(lookup));
			lookup.owner = other->rd_rel->relowner;
			lookup.table = doctor_relation_name(fk->confrelid);
			lookup.values = list_make1(expr);
			relation_close(other, AccessShareLock);
			if (!usable || has_written(body, fk->confrelid) ||
				body_sets_column(body, RelationGetRelid(rel), NameStr(att->attname), CMD_INSERT))
				continue;
			lookup.sql = psprintf("SELECT FROM %s AS t WHERE t.%s OPERATOR(pg_catalog.=) $1", lookup.table, quote_identifier(column));
			if (lookup_rows(&lookup) > 0)
				continue;
			body_found(body, DOCTOR_ERROR, ERRCODE_FOREIGN_KEY_VIOLATION, "function", body->name,
					   psprintf("a constant for column %s of %s names no row of %s", quote_identifier(NameStr(att->attname)), table, lookup.table),
					   psprintf("At %s: insert or update on table violates foreign key constraint \"%s\". Make the row that it names.", body_where(body), name),
					   NULL);
		}
	}
}

static void
check_length(Body *body, Query *query, Relation rel, Form_pg_attribute att, TargetEntry *tle)
{
	FuncExpr   *f = tle ? (FuncExpr *) body_strip((Node *) tle->expr) : NULL;
	int			n = att->atttypmod - VARHDRSZ;
	const char *what = NULL;
	bool		always;
	int			len;

	if (f == NULL || !IsA(f, FuncExpr) || (f->funcid != F_VARCHAR_VARCHAR_INT4_BOOL && f->funcid != F_BPCHAR_BPCHAR_INT4_BOOL) || n < 1)
		return;
	len = text_length(body, query, (Node *) linitial(f->args), &what, &always);
	if (what == NULL || (always && len <= n) || (!always && strncmp(what, "'", 1) == 0 && len <= n))
		return;
	body_found(body, always ? DOCTOR_ERROR : len >= n ? DOCTOR_WARNING : DOCTOR_INFO,
			   ERRCODE_STRING_DATA_RIGHT_TRUNCATION, "function", body->name,
			   psprintf("%s %s longer than column %s of %s: %s(%d)", what, always ? "is" : "may be", quote_identifier(NameStr(att->attname)),
						doctor_relation_name(RelationGetRelid(rel)), att->atttypid == VARCHAROID ? "varchar" : "char", n),
			   psprintf("At %s: value too long for type %s.", body_where(body), format_type_with_typemod(att->atttypid, att->atttypmod)),
			   psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE text;", doctor_relation_name(RelationGetRelid(rel)),
						quote_identifier(NameStr(att->attname))));
}

static TargetEntry *
entry_of(Query *query, AttrNumber attno)
{
	ListCell   *lc;
	TargetEntry *result = NULL;

	foreach(lc, query->targetList)
		if (lfirst_node(TargetEntry, lc)->resno == attno && !lfirst_node(TargetEntry, lc)->resjunk)
			result = lfirst_node(TargetEntry, lc);
	return result;
}

static bool
varies_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) || IsA(node, Var) || IsA(node, SubLink))
		return true;
	return expression_tree_walker(node, varies_walker, context);
}

/* The same for every user: a constant, or (moment) what is so within one moment. */
static bool
is_same_for_all(Node *node, bool moment)
{
	node = body_strip(node);
	if (node == NULL)
		return false;
	if (IsA(node, Const))
		return !((Const *) node)->constisnull;
	return moment && !varies_walker(node, NULL) && !contain_volatile_functions(node);
}

/* NULL for users of the usual kind. */
static bool
is_null_mostly(Body *body, Query *query, TargetEntry *tle)
{
	Why			why;

	return nullness(body, query, (Node *) tle->expr, &why) >= NULL_SOMETIMES && why.severity <= DOCTOR_WARNING;
}

/* Does a row of this statement always go into the index? Its condition may be just the one boolean column. */
static bool
is_in_index(Query *query, HeapTuple index)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, index, Anum_pg_index_indpred, &isnull);
	Node	   *condition;
	TargetEntry *tle;
	Const	   *c;

	if (isnull)
		return true;
	condition = (Node *) stringToNode(TextDatumGetCString(value));
	if (IsA(condition, List) && list_length((List *) condition) == 1)
		condition = (Node *) linitial((List *) condition);
	condition = body_strip(condition);
	if (condition == NULL || !IsA(condition, Var))
		return false;
	tle = entry_of(query, ((Var *) condition)->varattno);
	c = tle ? (Const *) body_strip((Node *) tle->expr) : NULL;
	return c != NULL && IsA(c, Const) && c->consttype == BOOLOID && !c->constisnull && DatumGetBool(c->constvalue);
}

/* The same unique constraint or index, for which NULLs differ. */
static char *
fix_nulls_distinct(Relation rel, Oid index, const char *columns)
{
	Oid			constraint = get_index_constraint(index);
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	char	   *name = OidIsValid(constraint) ? get_constraint_name(constraint) : NULL;

	if (name != NULL)
		return psprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s UNIQUE (%s);", table, quote_identifier(name),
						quote_identifier(name), columns);
	return psprintf("CREATE UNIQUE INDEX ON %s (%s); DROP INDEX %s;", table, columns, doctor_relation_name(index));
}

/* Unique and exclusion constraints over what is the same for all: not a text alone, which check_unique() has told. */
static void
check_same_for_all(Body *body, Query *query, Relation rel)
{
	ListCell   *lc;
	char	   *table = doctor_relation_name(RelationGetRelid(rel));

	if (may_be_made_once(body, query))
		return;
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;
		StringInfoData columns;
		bool		same;
		bool		by_default = true;
		bool		nulls = false;
		bool		text = false;
		char	   *name = get_rel_name(lfirst_oid(lc));
		AttrNumber	column = InvalidAttrNumber;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		same = (index->indisunique || index->indisexclusion) && index->indnkeyatts > 0 && name != NULL && is_in_index(query, tuple);
		initStringInfo(&columns);
		for (int i = 0; same && i < index->indnkeyatts; i++)
		{
			AttrNumber	attno = index->indkey.values[i];
			TargetEntry *tle = attno > 0 ? entry_of(query, attno) : NULL;
			Form_pg_attribute att = attno > 0 ? TupleDescAttr(RelationGetDescr(rel), attno - 1) : NULL;
			bool		sometimes;

			if (att == NULL || att->attidentity || att->attgenerated || body_sets_column(body, RelationGetRelid(rel), NameStr(att->attname), query->commandType))
				same = false;
			else if (tle == NULL || (index->indnullsnotdistinct && index->indisunique && is_null_mostly(body, query, tle)))
				same = nulls = index->indisunique && index->indnullsnotdistinct;
			else
				same = is_same_for_all((Node *) tle->expr, index->indisexclusion);
			if (!same)
				break;
			column = attno;
			by_default = by_default && tle != NULL && is_default(rel, tle);
			text = index->indisunique && index->indnkeyatts == 1 && tle != NULL && !nulls &&
				constant_of(body, query, (Node *) tle->expr, &sometimes) != NULL &&
				heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
			appendStringInfo(&columns, "%s%s", i > 0 ? ", " : "", quote_identifier(NameStr(att->attname)));
		}
		if (same && !text)
			body_found(body, DOCTOR_ERROR, index->indisexclusion ? ERRCODE_EXCLUSION_VIOLATION : ERRCODE_UNIQUE_VIOLATION,
					   by_default || nulls ? "table" : "function", by_default || nulls ? table : body->name,
					   psprintf("two users collide on %s of %s, %s", columns.data, table,
								index->indisexclusion ? psprintf("which exclusion constraint %s keeps apart", quote_identifier(name)) : "which is unique"),
					   psprintf("The INSERT at %s gives %s: %s \"%s\", and the second one cannot sign up.", body_where(body),
								nulls ? "no value, and the index holds NULLS NOT DISTINCT" :
								by_default ? "the default, which is the same for everybody" : "the same value for everybody",
								index->indisexclusion ? "conflicting key value violates exclusion constraint" : "duplicate key value violates unique constraint", name),
					   nulls ? fix_nulls_distinct(rel, lfirst_oid(lc), columns.data) :
					   by_default && index->indnkeyatts == 1 ?
					   fix_drop_default(RelationGetRelid(rel), NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname)) : NULL);
		ReleaseSysCache(tuple);
	}
}

/* The same where it is cast to a type as long as a variable's. */
void
body_length(Body *body, Node *value, Oid type, int32 typmod, const char *target)
{
	const char *what = NULL;
	bool		always;
	int			n = typmod - VARHDRSZ;
	int			len;

	if ((type != VARCHAROID && type != BPCHAROID) || n < 1)
		return;
	if (IsA(value, FuncExpr) && (((FuncExpr *) value)->funcid == F_VARCHAR_VARCHAR_INT4_BOOL || ((FuncExpr *) value)->funcid == F_BPCHAR_BPCHAR_INT4_BOOL))
		value = (Node *) linitial(((FuncExpr *) value)->args);
	len = text_length(body, NULL, value, &what, &always);
	if (what == NULL || len <= n)
		return;
	body_found(body, always ? DOCTOR_ERROR : DOCTOR_WARNING, ERRCODE_STRING_DATA_RIGHT_TRUNCATION, "function", body->name,
			   psprintf("%s %s longer than %s", what, always ? "is" : "may be", target),
			   psprintf("At %s: value too long for type %s.", body_where(body), format_type_with_typemod(type, typmod)), NULL);
}

/* ON CONFLICT (...) needs a unique index on just these columns; only planning would say so. */
static void
check_arbiter(Body *body, Query *query, Relation rel)
{
	OnConflictExpr *conflict = query->onConflict;
	Bitmapset  *wanted = NULL;
	ListCell   *lc;
	bool		possible = false;
	StringInfoData columns;
	char	   *table = doctor_relation_name(RelationGetRelid(rel));

	if (conflict == NULL || conflict->arbiterElems == NIL || OidIsValid(conflict->constraint))
		return;
	initStringInfo(&columns);
	foreach(lc, conflict->arbiterElems)
	{
		InferenceElem *e = lfirst_node(InferenceElem, lc);
		char	   *name;

		if (!IsA(e->expr, Var) || ((Var *) e->expr)->varattno <= 0)
			return;
		wanted = bms_add_member(wanted, ((Var *) e->expr)->varattno);
		name = get_attname(RelationGetRelid(rel), ((Var *) e->expr)->varattno, true);
		appendStringInfo(&columns, "%s%s", columns.len ? ", " : "", name ? quote_identifier(name) : "?");
	}
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;
		Bitmapset  *have = NULL;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		for (int i = 0; i < index->indnkeyatts; i++)
			have = bms_add_member(have, index->indkey.values[i] + 1000 * (index->indkey.values[i] == 0));
		possible = possible || (index->indisunique && index->indimmediate && index->indisvalid && bms_equal(have, wanted) &&
								(conflict->arbiterWhere != NULL || heap_attisnull(tuple, Anum_pg_index_indpred, NULL)));
		ReleaseSysCache(tuple);
	}
	if (!possible)
		body_found(body, DOCTOR_ERROR, ERRCODE_INVALID_COLUMN_REFERENCE, "table", table,
				   psprintf("there is no unique or exclusion constraint matching the ON CONFLICT (%s)", columns.data),
				   psprintf("The INSERT at %s needs a unique index on just these columns of %s.", body_where(body), table),
				   psprintf("CREATE UNIQUE INDEX ON %s (%s);", table, columns.data));
}

/* Functions in constraints, generated columns and indexes of what is written. */
static void
check_table_expressions(Body *body, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	ListCell   *lc;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
		body_expression(body, (Node *) stringToNode(constr->check[i].ccbin));
	for (int i = 0; constr != NULL && i < constr->num_defval; i++)
		if (TupleDescAttr(RelationGetDescr(rel), constr->defval[i].adnum - 1)->attgenerated)
			body_expression(body, (Node *) stringToNode(constr->defval[i].adbin));
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		static const AttrNumber attributes[] = {Anum_pg_index_indexprs, Anum_pg_index_indpred};

		if (!HeapTupleIsValid(tuple))
			continue;
		for (int i = 0; i < (int) lengthof(attributes); i++)
		{
			bool		isnull;
			Datum		value = SysCacheGetAttr(INDEXRELID, tuple, attributes[i], &isnull);

			if (!isnull)
				body_expression(body, (Node *) stringToNode(TextDatumGetCString(value)));
		}
		ReleaseSysCache(tuple);
	}
}

static bool
is_plain_equality(Node *quals, Bitmapset *columns)
{
	List	   *all = quals == NULL ? NIL : IsA(quals, List) ? (List *) quals :
		IsA(quals, BoolExpr) && ((BoolExpr *) quals)->boolop == AND_EXPR ? ((BoolExpr *) quals)->args : list_make1(quals);
	ListCell   *lc;

	foreach(lc, all)
	{
		OpExpr	   *op = (OpExpr *) lfirst(lc);
		char	   *name = IsA(op, OpExpr) ? get_opname(op->opno) : NULL;
		Node	   *left;

		if (name == NULL || strcmp(name, "=") != 0 || list_length(op->args) != 2)
			return false;
		left = body_strip((Node *) linitial(op->args));
		if (!IsA(left, Var) || bms_is_member(((Var *) left)->varattno, columns) || !IsA(body_strip((Node *) lsecond(op->args)), Param))
			return false;
	}
	return true;
}

static bool
is_reached(Doctor *doctor, Oid relid)
{
	int			n;
	const Oid  *all = doctor_reached(doctor, &n);

	for (int i = 0; i < n; i++)
		if (all[i] == relid)
			return true;
	return false;
}

/*
 * A row that refers to one of the user's own, by the new user's id, which the
 * same body makes only afterwards.
 */
static void
check_order(Body *body, Query *query, Relation rel)
{
	ListCell   *lc;
	MemoryContext old;

	if (body->conditions > 0 || body->call->relid != body->doctor->auth_users || !TRIGGER_FOR_INSERT(body->call->trigger_type))
		return;
	foreach(lc, body->awaited)
	{
		BodyAwaited *awaited = (BodyAwaited *) lfirst(lc);

		if (awaited->parent == RelationGetRelid(rel) && query->onConflict == NULL)
		{
			body_found(body, DOCTOR_ERROR, ERRCODE_FOREIGN_KEY_VIOLATION, "table", doctor_relation_name(awaited->child),
					   psprintf("foreign key %s: the row of %s that it refers to is made only afterwards", quote_identifier(get_constraint_name(awaited->key)),
								doctor_relation_name(awaited->parent)),
					   psprintf("%s is written before, and %s at %s: insert violates foreign key constraint. Write them the other way round, or have the key wait for the COMMIT.",
								doctor_relation_name(awaited->child), doctor_relation_name(awaited->parent), body_where(body)),
					   psprintf("ALTER TABLE %s ALTER CONSTRAINT %s DEFERRABLE INITIALLY DEFERRED;", doctor_relation_name(awaited->child),
								quote_identifier(get_constraint_name(awaited->key))));
			body->awaited = list_delete_ptr(body->awaited, awaited);
			return;
		}
	}
	if (rel->trigdesc != NULL && rel->trigdesc->trig_insert_before_row)
		return;
	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fk = (ForeignKeyCacheInfo *) lfirst(lc);
		TargetEntry *tle = fk->nkeys == 1 ? entry_of(query, fk->conkey[0]) : NULL;
		BodyRef    *ref = tle ? body_ref(body, body_strip((Node *) tle->expr)) : NULL;
		ListCell   *lc2;
		bool		made = false;
		HeapTuple	tuple;
		bool		deferred = true;
		BodyAwaited *awaited;

		if (ref == NULL || !ref->is_new || ref->field == NULL || strcmp(ref->field, "id") != 0 ||
			fk->confrelid == body->doctor->auth_users || fk->confrelid == RelationGetRelid(rel))
			continue;
		foreach(lc2, body->effects)
			made = made || ((BodyEffect *) lfirst(lc2))->is_call || ((BodyEffect *) lfirst(lc2))->id == fk->confrelid;
		tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(fk->conoid));
		if (HeapTupleIsValid(tuple))
		{
			deferred = ((Form_pg_constraint) GETSTRUCT(tuple))->condeferred;
			ReleaseSysCache(tuple);
		}
		if (made || deferred || body_mentions(body, "execute") || is_reached(body->doctor, fk->confrelid))
			continue;
		old = MemoryContextSwitchTo(body->cxt);
		awaited = (BodyAwaited *) palloc(sizeof(BodyAwaited));
		awaited->child = RelationGetRelid(rel);
		awaited->parent = fk->confrelid;
		awaited->key = fk->conoid;
		body->awaited = lappend(body->awaited, awaited);
		MemoryContextSwitchTo(old);
	}
}

static void
check_write(Body *body, Query *query)
{
	RangeTblEntry *rte;
	Relation	rel;
	Bitmapset  *columns = NULL;
	ListCell   *lc;

	if (query->resultRelation == 0 || query->commandType == CMD_SELECT)
		return;
	rte = rt_fetch(query->resultRelation, query->rtable);
	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_MATVIEW)
		body_found(body, DOCTOR_ERROR, ERRCODE_WRONG_OBJECT_TYPE, "function", body->name,
				   psprintf("a statement fails: cannot change materialized view %s", doctor_relation_name(rte->relid)),
				   psprintf("At %s.", body_where(body)), NULL);
	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE)
		body_writes(body, rte->relid, query->commandType, NULL, false);
	if (rte->rtekind != RTE_RELATION || (rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_PARTITIONED_TABLE))
		return;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk && tle->resno > 0)
			columns = bms_add_member(columns, tle->resno);
	}
	body_writes(body, rte->relid, query->commandType, query->commandType == CMD_UPDATE ? columns : NULL,
				query->commandType == CMD_INSERT ? query->onConflict == NULL && query->jointree->fromlist == NIL :
				query->commandType == CMD_UPDATE && list_length(query->jointree->fromlist) <= 1 &&
				is_plain_equality(query->jointree->quals, columns));
	if (query->commandType == CMD_INSERT && query->onConflict != NULL && query->onConflict->action == ONCONFLICT_UPDATE)
		body_writes(body, rte->relid, CMD_UPDATE, NULL, false);
	if (query->commandType == CMD_DELETE)
		return;
	rel = relation_open(rte->relid, AccessShareLock);
	check_table_expressions(body, rel);
	if (query->commandType == CMD_UPDATE)
		foreach(lc, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, lc);

			if (tle->resjunk || tle->resno < 1 || tle->resno > RelationGetNumberOfAttributes(rel))
				continue;
			check_not_null(body, query, rel, TupleDescAttr(RelationGetDescr(rel), tle->resno - 1), tle);
			check_checks(body, query, rel, TupleDescAttr(RelationGetDescr(rel), tle->resno - 1), tle);
			check_length(body, query, rel, TupleDescAttr(RelationGetDescr(rel), tle->resno - 1), tle);
		}
	if (query->commandType == CMD_INSERT)
	{
		check_arbiter(body, query, rel);
		check_same_for_all(body, query, rel);
		check_order(body, query, rel);
		for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
		{
			Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);
			TargetEntry *tle;

			if (att->attisdropped)
				continue;
			tle = entry_of(query, att->attnum);
			if (tle != NULL && is_default(rel, tle))
			{
				BodyDefault *d = (BodyDefault *) palloc(sizeof(BodyDefault));

				d->tle = tle;
				d->table = RelationGetRelid(rel);
				d->column = pstrdup(NameStr(att->attname));
				body->defaults = lappend(body->defaults, d);
			}
			check_not_null(body, query, rel, att, tle);
			check_checks(body, query, rel, att, tle);
			check_unique(body, query, rel, att, tle);
			check_length(body, query, rel, att, tle);
			check_key(body, rel, att, tle);
		}
	}
	relation_close(rel, AccessShareLock);
}

/* ---------------------------------------------------------------------
 * Expressions
 * ---------------------------------------------------------------------
 */

/* What a text of this type looks like, as a regular expression without groups; NULL: it cannot be said that shortly. */
static char *
type_pattern(Oid type)
{
	StringInfoData s;
	CatCList   *labels;

	switch (type)
	{
		case INT2OID:
			return "^\\s*[-+]?\\d{1,4}\\s*$";
		case INT4OID:
			return "^\\s*[-+]?\\d{1,9}\\s*$";
		case INT8OID:
			return "^\\s*[-+]?\\d{1,18}\\s*$";
		case NUMERICOID:
		case FLOAT4OID:
		case FLOAT8OID:
			return "^\\s*[-+]?(?:\\d+\\.?\\d*|\\.\\d+)\\s*$";
		case UUIDOID:
			return "^[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}$";
		case BOOLOID:
			return "(?i)^\\s*(?:t|true|f|false|y|yes|n|no|on|off|1|0)\\s*$";
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return "^\\s*\\d{4}-\\d\\d?-\\d\\d?(?:[T ].*)?$";
		default:
			break;
	}
	if (get_typtype(type) != TYPTYPE_ENUM)
		return NULL;
	initStringInfo(&s);
	labels = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	for (int i = 0; i < labels->n_members; i++)
	{
		const char *label = NameStr(((Form_pg_enum) GETSTRUCT(&labels->members[i]->tuple))->enumlabel);

		for (const char *c = label; *c; c++)
			if (!isalnum((unsigned char) *c) && *c != '_' && *c != '-' && *c != ' ')
			{
				ReleaseSysCacheList(labels);
				return NULL;
			}
		appendStringInfo(&s, "%s%s", s.len ? "|" : "^(?:", label);
	}
	ReleaseSysCacheList(labels);
	if (s.len == 0)
		return NULL;
	appendStringInfoString(&s, ")$");
	return s.data;
}

static int
cast_sqlstate(Oid type)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_DATETIME ? ERRCODE_INVALID_DATETIME_FORMAT : ERRCODE_INVALID_TEXT_REPRESENTATION;
}

/* A text of the user's that is read as another type. */
void
body_cast(Body *body, Node *value, Oid type)
{
	char	   *field = body_metadata_field(body, value);
	char		category;
	bool		preferred;
	const char *finding;
	const char *detail;
	char	   *pattern;
	BodyRef    *ref = body_ref(body, body_strip(value));

	/* all of it are digits, but more of them than an integer takes */
	if (ref != NULL && ref->is_new && ref->field != NULL && strcmp(ref->field, "phone") == 0 &&
		(type == INT4OID || type == INT2OID) && body->call->relid == body->doctor->auth_users && !is_guarded(body, "phone"))
		body_found(body, DOCTOR_WARNING, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "function", body->name,
				   psprintf("column phone is cast to %s, which is too small for a phone number", format_type_be(type)),
				   psprintf("At %s: value \"...\" is out of range for type %s, or no number at all.", body_where(body), format_type_be(type)), NULL);
	if (field == NULL && get_typtype(type) == TYPTYPE_ENUM)
	{
		bool		sometimes;
		char	   *text = constant_of(body, NULL, value, &sometimes);

		if (text != NULL && strlen(text) < NAMEDATALEN &&
			!SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(text)))
			body_found(body, sometimes ? DOCTOR_WARNING : DOCTOR_ERROR, ERRCODE_INVALID_TEXT_REPRESENTATION, "function", body->name,
					   psprintf("'%s' is no label of enum %s", text, format_type_be(type)),
					   psprintf("At %s: invalid input value for enum %s: \"%s\"%s.", body_where(body), format_type_be(type), text,
								sometimes ? ", for users whose metadata has nothing" : ""),
					   psprintf("ALTER TYPE %s ADD VALUE %s;", format_type_be_qualified(type), quote_literal_cstr(text)));
		return;
	}
	if (field == NULL || is_guarded(body, field))
		return;
	get_type_category_preferred(type, &category, &preferred);
	if (category == TYPCATEGORY_STRING || category == TYPCATEGORY_PSEUDOTYPE || category == TYPCATEGORY_UNKNOWN ||
		type == JSONBOID || type == JSONOID)
		return;
	finding = psprintf("metadata field \"%s\" is cast to %s without a guard", field, format_type_be(type));
	pattern = type_pattern(type);
	detail = psprintf("At %s: an empty string, or anything else that is no %s, fails: invalid input %s for %s. What is sent is up to the form%s.",
					  body_where(body), format_type_be(type), category == TYPCATEGORY_ENUM ? "value" : "syntax",
					  category == TYPCATEGORY_ENUM ? psprintf("enum %s", format_type_be(type)) : psprintf("type %s", format_type_be(type)),
					  pattern ? "; what does not look like one is read as null" : "; nullif() lets empty strings through");
	/* a checkbox sends what it should; coalesce() shows that somebody has thought of it */
	if (type == BOOLOID && body->in_coalesce)
		body_found(body, DOCTOR_INFO, cast_sqlstate(type), "function", body->name, finding, detail, NULL);
	else if (pattern != NULL ? edit_metadata(body, value, "substring(", psprintf(" from '%s')", pattern)) :
			 edit_metadata(body, value, "nullif(", ", '')"))
		body_found_edit(body, DOCTOR_WARNING, cast_sqlstate(type), finding, detail);
	else
		body_found(body, DOCTOR_WARNING, cast_sqlstate(type), "function", body->name, finding, detail, NULL);
}

/* Has this row type a column that not every text fits? */
static bool
has_other_than_text(Oid type)
{
	Oid			relid = get_typ_typrelid(type);
	Oid			column;

	for (AttrNumber i = 1; OidIsValid(relid) && get_attname(relid, i, true) != NULL; i++)
	{
		char		category;
		bool		preferred;

		column = get_atttype(relid, i);
		if (!OidIsValid(column) || column == JSONBOID || column == JSONOID)
			continue;
		get_type_category_preferred(column, &category, &preferred);
		/* the key is the user's, and comes from elsewhere */
		if (category != TYPCATEGORY_STRING && strcmp(get_attname(relid, i, false), "id") != 0)
			return true;
	}
	return false;
}

/* A part of metadata that is taken for something it need not be. */
static void
check_json(Body *body, FuncExpr *f)
{
	Node	   *arg = f->args ? (Node *) linitial(f->args) : NULL;
	char	   *field = arg && exprType(arg) == JSONBOID ? body_metadata_field(body, arg) : NULL;
	const char *what = NULL;

	switch (f->funcid)
	{
		case F_INT2_JSONB:
		case F_INT4_JSONB:
		case F_INT8_JSONB:
		case F_NUMERIC_JSONB:
		case F_FLOAT4_JSONB:
		case F_FLOAT8_JSONB:
		case F_BOOL_JSONB:
			if (field != NULL && !is_guarded(body, field))
				body_found(body, f->funcid == F_BOOL_JSONB && body->in_coalesce ? DOCTOR_INFO : DOCTOR_WARNING,
						   ERRCODE_INVALID_PARAMETER_VALUE, "function", body->name,
						   psprintf("metadata field \"%s\" is cast to %s without a guard", field, format_type_be(f->funcresulttype)),
						   psprintf("At %s: a JSON value that is none, a string with a number in it too, fails: cannot cast jsonb string to type %s. What is sent is up to the form.",
									body_where(body), format_type_be(f->funcresulttype)),
						   NULL);
			return;
		case F_JSONB_ARRAY_ELEMENTS:
		case F_JSONB_ARRAY_ELEMENTS_TEXT:
		case F_JSONB_ARRAY_LENGTH:
			what = "an array";
			break;
		case F_JSONB_EACH:
		case F_JSONB_EACH_TEXT:
		case F_JSONB_OBJECT_KEYS:
			what = "an object";
			break;
		case F_JSONB_POPULATE_RECORD:
			if (list_length(f->args) == 2 && is_metadata(body, (Node *) lsecond(f->args)) && has_other_than_text(f->funcresulttype))
				body_found(body, DOCTOR_WARNING, ERRCODE_INVALID_TEXT_REPRESENTATION, "function", body->name,
						   psprintf("metadata is read as a row of %s without a guard", format_type_be_qualified(f->funcresulttype)),
						   psprintf("At %s: what is sent is up to the form: raw_user_meta_data need not fit the columns, and an empty string fails for those that are no text: invalid input syntax.",
									body_where(body)),
						   NULL);
			return;
		default:
			return;
	}
	if (field != NULL && !is_guarded(body, field))
		body_found(body, DOCTOR_WARNING, ERRCODE_INVALID_PARAMETER_VALUE, "function", body->name,
				   psprintf("metadata field \"%s\" is read as %s without a guard", field, what),
				   psprintf("At %s: cannot extract elements from a scalar, or from what is not %s. What is sent is up to the form; jsonb_typeof() asks.",
							body_where(body), what),
				   NULL);
}

/* May it be zero, for all that is seen? */
static bool
may_be_zero(Body *body, Node *node)
{
	BodyRef    *ref;

	node = body_strip(node);
	if (node == NULL)
		return false;
	ref = body_ref(body, node);
	if (ref != NULL)
		return value_of(body, ref) != NULL && may_be_zero(body, value_of(body, ref));
	if (IsA(node, Aggref))
		return ((Aggref *) node)->aggfnoid == F_COUNT_ || ((Aggref *) node)->aggfnoid == F_COUNT_ANY;
	if (IsA(node, Const) && !((Const *) node)->constisnull)
		switch (((Const *) node)->consttype)
		{
			case INT2OID:
				return DatumGetInt16(((Const *) node)->constvalue) == 0;
			case INT4OID:
				return DatumGetInt32(((Const *) node)->constvalue) == 0;
			case INT8OID:
				return DatumGetInt64(((Const *) node)->constvalue) == 0;
			default:
				return false;
		}
	if (IsA(node, SubLink) && ((SubLink *) node)->subLinkType == EXPR_SUBLINK)
	{
		Query	   *sub = castNode(Query, ((SubLink *) node)->subselect);

		return list_length(sub->targetList) == 1 && sub->groupClause == NIL &&
			may_be_zero(body, (Node *) linitial_node(TargetEntry, sub->targetList)->expr);
	}
	/* a cast from one kind of number to another */
	if (IsA(node, FuncExpr) && list_length(((FuncExpr *) node)->args) == 1 &&
		(((FuncExpr *) node)->funcformat == COERCE_IMPLICIT_CAST || ((FuncExpr *) node)->funcformat == COERCE_EXPLICIT_CAST))
		return may_be_zero(body, (Node *) linitial(((FuncExpr *) node)->args));
	return false;
}

/* A subquery for one value that finds several. */
static void
check_many(Body *body, Node *node)
{
	Lookup		lookup;

	if (!is_lookup(body, node, &lookup) || lookup.query->limitCount != NULL || lookup.query->distinctClause != NIL || lookup_rows(&lookup) < 2)
		return;
	body_found(body, DOCTOR_ERROR, ERRCODE_CARDINALITY_VIOLATION, "function", body->name,
			   psprintf("a statement fails: more than one row of %s is returned by a subquery used as an expression", lookup.table),
			   psprintf("At %s. LIMIT 1, or a unique index on what it looks for, makes it one.", body_where(body)), NULL);
}

static void
check_division(Body *body, OpExpr *op)
{
	char	   *name;
	char		category;
	bool		preferred;

	if (op->opno >= FirstNormalObjectId || list_length(op->args) != 2)
		return;
	get_type_category_preferred(op->opresulttype, &category, &preferred);
	name = get_opname(op->opno);
	if (category != TYPCATEGORY_NUMERIC || name == NULL || (strcmp(name, "/") != 0 && strcmp(name, "%") != 0) ||
		!may_be_zero(body, (Node *) lsecond(op->args)))
		return;
	body_found(body, DOCTOR_WARNING, ERRCODE_DIVISION_BY_ZERO, "function", body->name,
			   "a statement fails where there is nothing to count: division by zero",
			   psprintf("At %s: the divisor is zero as long as there is no row. nullif(..., 0) makes the result null.", body_where(body)), NULL);
}

/* coalesce(..., 'user')::role: a label that the enum does not have. */
static void
check_label(Body *body, CoerceViaIO *cast)
{
	bool		sometimes;
	char	   *value;

	if (get_typtype(cast->resulttype) != TYPTYPE_ENUM || !OidIsValid(cast->resulttype))
		return;
	value = constant_of(body, NULL, (Node *) cast->arg, &sometimes);
	if (value == NULL || strlen(value) >= NAMEDATALEN ||
		SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(cast->resulttype), CStringGetDatum(value)))
		return;
	body_found(body, sometimes ? DOCTOR_WARNING : DOCTOR_ERROR, ERRCODE_INVALID_TEXT_REPRESENTATION, "function", body->name,
			   psprintf("enum %s has no label \"%s\"", format_type_be(cast->resulttype), value),
			   psprintf("At %s '%s' is read as one%s: invalid input value for enum %s.", body_where(body), value,
						sometimes ? " where the user's metadata has nothing" : "", format_type_be(cast->resulttype)),
			   NULL);
}

/* What a function is called with, as far as it is the user's. */
static void
note_arguments(Body *body, Node *node)
{
	List	   *args = IsA(node, FuncExpr) ? ((FuncExpr *) node)->args : NIL;
	MemoryContext old;
	ListCell   *lc;
	int			n = 0;
	bool		any = false;

	body->args = NULL;
	if (args == NIL || list_length(args) > BODY_ARGS_MAX || ((FuncExpr *) node)->funcid < FirstNormalObjectId)
		return;
	old = MemoryContextSwitchTo(body->cxt);
	body->nargs = list_length(args);
	body->args = (BodyArg *) palloc0(sizeof(BodyArg) * body->nargs);
	foreach(lc, args)
	{
		BodyArg    *arg = &body->args[n++];

		/* by name, in any order: more than we do */
		if (IsA(lfirst(lc), NamedArgExpr))
		{
			any = false;
			break;
		}
		arg->metadata = is_metadata(body, (Node *) lfirst(lc));
		arg->field = body_metadata_field(body, (Node *) lfirst(lc));
		if (arg->field != NULL && is_guarded(body, arg->field))
			arg->field = NULL;
		any = any || arg->metadata || arg->field != NULL;
	}
	MemoryContextSwitchTo(old);
	if (!any)
		body->args = NULL;
}

static bool
expression_walker(Node *node, void *context)
{
	Body	   *body = (Body *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		body_query(body, (Query *) node);
		return false;
	}
	/* what a column's default says is no fault of the body's */
	if (IsA(node, TargetEntry) && body->defaults != NIL && body->column == NULL)
	{
		ListCell   *lc;
		bool		result;

		foreach(lc, body->defaults)
		{
			BodyDefault *d = (BodyDefault *) lfirst(lc);

			if (d->tle != (TargetEntry *) node)
				continue;
			body->table = d->table;
			body->column = d->column;
			result = expression_tree_walker(node, expression_walker, body);
			body->column = NULL;
			return result;
		}
	}
	/* what stands in CASE is asked for by it */
	if (IsA(node, CaseExpr))
	{
		List	   *words = body_words(node);
		List	   *outer = body->guards;
		bool		result;

		body->guards = list_concat_copy(outer, words);
		body->conditions++;
		check_functions_in_node(node, check_function, body);
		result = expression_tree_walker(node, expression_walker, body);
		body->conditions--;
		body->guards = outer;
		return result;
	}
	if (IsA(node, CoalesceExpr))
	{
		bool		outer = body->in_coalesce;
		bool		result;

		body->in_coalesce = true;
		body->conditions++;
		result = expression_tree_walker(node, expression_walker, body);
		body->conditions--;
		body->in_coalesce = outer;
		return result;
	}
	if (IsA(node, BoolExpr) && ((BoolExpr *) node)->boolop != NOT_EXPR)
	{
		bool		result;

		body->conditions++;
		result = expression_tree_walker(node, expression_walker, body);
		body->conditions--;
		return result;
	}
	note_arguments(body, node);
	check_functions_in_node(node, check_function, body);
	body->args = NULL;
	if (IsA(node, SubLink))
		check_many(body, node);
	if (IsA(node, OpExpr))
		check_division(body, (OpExpr *) node);
	if (IsA(node, FuncExpr))
		check_json(body, (FuncExpr *) node);
	if (IsA(node, CoerceViaIO))
		check_label(body, (CoerceViaIO *) node);
	if (IsA(node, CoerceViaIO))
		body_cast(body, (Node *) ((CoerceViaIO *) node)->arg, ((CoerceViaIO *) node)->resulttype);
	if (IsA(node, FuncExpr))
	{
		FuncExpr   *f = (FuncExpr *) node;
		Const	   *first = f->args ? (Const *) linitial(f->args) : NULL;

		if ((f->funcid == F_NEXTVAL || f->funcid == F_SETVAL_REGCLASS_INT8) && first != NULL && IsA(first, Const) &&
			!first->constisnull)
		{
			Oid			sequence = DatumGetObjectId(first->constvalue);
			char	   *name = doctor_relation_name(sequence);

			if (name != NULL && pg_class_aclcheck(sequence, body->role, ACL_USAGE | ACL_UPDATE) != ACLCHECK_OK)
				body_denied(body, "USAGE", "SEQUENCE", name);
		}
		if (f->funcid == F_CURRENT_SETTING_TEXT)
		{
			char	   *name = constant_text((Node *) first);

			if (is_unset(body, name))
			{
				const char *finding = psprintf("setting %s is not set in the auth server's connection", name);
				const char *detail = psprintf("At %s: unrecognized configuration parameter \"%s\". current_setting('%s', true) is null instead.",
											  body_where(body), name, name);
				int			end = literal_end(body->sql, first->location);

				if (body->column != NULL)
					body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, "table", doctor_relation_name(body->table), finding, detail,
							   fix_drop_default(body->table, body->column));
				else if (end > 0 && body_edit(body, end, end, ", true", "", false))
					body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, finding, detail);
				else
					body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, "function", body->name, finding, detail, NULL);
			}
		}
		if (f->funcid == F_SET_CONFIG)
		{
			char	   *name = constant_text((Node *) first);

			if (name != NULL && pg_strcasecmp(name, "role") == 0 && body->definer)
				body_found(body, DOCTOR_ERROR, ERRCODE_INSUFFICIENT_PRIVILEGE, "function", body->name,
						   "a statement fails: cannot set parameter \"role\" within security-definer function",
						   psprintf("At %s.", body_where(body)), NULL);
			if (name == NULL || pg_strcasecmp(name, "search_path") == 0 || pg_strcasecmp(name, "role") == 0)
				body->path_unknown = true;
		}
	}
	return expression_tree_walker(node, expression_walker, body);
}

void
body_expression(Body *body, Node *expr)
{
	expression_walker(expr, body);
}

/* May names be found elsewhere after this utility statement than before it? */
bool
body_changes_names(Node *utility)
{
	switch (nodeTag(utility))
	{
		case T_VariableSetStmt:
			{
				VariableSetStmt *set = (VariableSetStmt *) utility;

				return set->name == NULL || strcmp(set->name, "search_path") == 0 || strcmp(set->name, "role") == 0;
			}
		case T_RefreshMatViewStmt:
		case T_TruncateStmt:
		case T_LockStmt:
		case T_CommentStmt:
		case T_GrantStmt:
		case T_GrantRoleStmt:
		case T_NotifyStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
		case T_ConstraintsSetStmt:
		case T_VariableShowStmt:
		case T_CallStmt:
			return false;
		default:
			return true;
	}
}

/* As REFRESH ... CONCURRENTLY asks: each row is found by it. */
static bool
has_plain_unique_index(Relation rel)
{
	ListCell   *lc;
	bool		result = false;

	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		result = result || (((Form_pg_index) GETSTRUCT(tuple))->indisunique && ((Form_pg_index) GETSTRUCT(tuple))->indisvalid &&
							((Form_pg_index) GETSTRUCT(tuple))->indimmediate &&
							heap_attisnull(tuple, Anum_pg_index_indpred, NULL) && heap_attisnull(tuple, Anum_pg_index_indexprs, NULL));
		ReleaseSysCache(tuple);
	}
	return result;
}

static void
check_refresh(Body *body, RefreshMatViewStmt *stmt)
{
	Oid			relid = RangeVarGetRelid(stmt->relation, NoLock, false);
	char	   *name = doctor_relation_name(relid);
	Relation	rel;
	bool		usable;

	if (name == NULL || get_rel_relkind(relid) != RELKIND_MATVIEW)
		return;
	if (!compat_may_refresh(relid, body->role))
	{
		if (!body->definer && body->role == body->doctor->auth_role && compat_may_refresh(relid, body->owner))
			body_denied(body, "REFRESH", "MATERIALIZED VIEW", name);
		else
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be owner of materialized view %s", name)));
	}
	if (!stmt->concurrent)
		return;
	rel = relation_open(relid, AccessShareLock);
	usable = has_plain_unique_index(rel);
	relation_close(rel, AccessShareLock);
	if (!usable)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot refresh materialized view \"%s\" concurrently", name),
				 errhint("Create a unique index with no WHERE clause on one or more columns of the materialized view.")));
}

/* Only execution looks at these: what it would raise is raised here. */
static void
check_utility(Body *body, Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_RefreshMatViewStmt:
			check_refresh(body, (RefreshMatViewStmt *) stmt);
			break;
		case T_TruncateStmt:
			foreach(lc, ((TruncateStmt *) stmt)->relations)
			{
				Oid			relid = RangeVarGetRelid((RangeVar *) lfirst(lc), NoLock, false);

				if (pg_class_aclcheck(relid, body->role, ACL_TRUNCATE) != ACLCHECK_OK)
					body_denied(body, "TRUNCATE", "TABLE", doctor_relation_name(relid));
			}
			break;
		case T_LockStmt:
			foreach(lc, ((LockStmt *) stmt)->relations)
				(void) RangeVarGetRelid((RangeVar *) lfirst(lc), NoLock, false);
			break;
		case T_VariableSetStmt:
			{
				VariableSetStmt *set = (VariableSetStmt *) stmt;

				if (body->definer && set->name != NULL && set->kind == VAR_SET_VALUE &&
					(strcmp(set->name, "role") == 0 || strcmp(set->name, "session_authorization") == 0))
					ereport(ERROR,
							(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							 errmsg("cannot set parameter \"%s\" within security-definer function", set->name)));
				break;
			}
		default:
			break;
	}
}

void
body_query(Body *body, Query *query)
{
	List	   *outer;

	if (query->commandType == CMD_UTILITY)
		return;
	check_rights(body, query);
	outer = body->defaults;
	body->defaults = NIL;
	check_write(body, query);
	/* what depends on rows may not be evaluated */
	body->conditions += query->jointree != NULL && query->jointree->fromlist != NIL;
	query_tree_walker(query, expression_walker, body, 0);
	body->conditions -= query->jointree != NULL && query->jointree->fromlist != NIL;
	body->defaults = outer;
}

/* ---------------------------------------------------------------------
 * What analysis refuses
 * ---------------------------------------------------------------------
 */

static bool
path_holds(Body *body, const char *schema)
{
	List	   *names = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(body->path), ',', &names))
		return false;
	foreach(lc, names)
	{
		char	   *name = (char *) lfirst(lc);

		if (strcmp(name, "$user") == 0)
			name = GetUserNameFromId(body->role, true);
		if (name != NULL && strcmp(name, schema) == 0)
			return true;
	}
	return false;
}

static char *
at_line(Body *body)
{
	return body->line > 0 ? psprintf(" (line %d)", body->line) : "";
}

/* A name that other schemas hold: have the path hold one of them. */
static bool
add_to_path(Body *body, const char *what, const char *name, List *schemas)
{
	ListCell   *lc;

	foreach(lc, schemas)
	{
		char	   *schema = (char *) lfirst(lc);
		Oid			namespace = get_namespace_oid(schema, true);
		MemoryContext old;

		if (!OidIsValid(namespace))
			continue;
		if (path_holds(body, schema))
		{
			/* it is there, but cannot be looked into */
			if (compat_namespace_aclcheck(namespace, body->role, ACL_USAGE) == ACLCHECK_OK)
				continue;
			body_denied(body, "USAGE", "SCHEMA", quote_identifier(schema));
			return true;
		}
		old = MemoryContextSwitchTo(body->cxt);
		body->add_schemas = lappend(body->add_schemas, pstrdup(schema));
		MemoryContextSwitchTo(old);
		/* what it would not choose itself is replaced */
		if (body->pinned == NULL)
			body->add_first = true;
		keep(body, &body->misplaced,
			 psprintf("%s %s does not exist there, %s.%s does%s", what, quote_identifier(name),
					  quote_identifier(schema), quote_identifier(name), at_line(body)));
		body->changed = true;
		return true;
	}
	return false;
}

/* The first thing in quotes, or NULL. */
static char *
quoted(const char *message)
{
	const char *from = strchr(message, '"');
	const char *to = from ? strchr(from + 1, '"') : NULL;

	return to ? pnstrdup(from + 1, to - from - 1) : NULL;
}

static char *
joined(List *strings)
{
	StringInfoData s;
	ListCell   *lc;

	initStringInfo(&s);
	foreach(lc, strings)
		appendStringInfo(&s, "%s%s", s.len ? ", " : "", (char *) lfirst(lc));
	return s.data;
}

static char *
fix_extension(const char *extension, const char *schema)
{
	if (extension == NULL || !name_extension_available(extension))
		return NULL;
	if (schema != NULL && strcmp(schema, "net") != 0 && strcmp(schema, "cron") != 0 && strcmp(schema, "pgmq") != 0 &&
		strcmp(schema, "vault") != 0 && strcmp(schema, "graphql") != 0 && OidIsValid(get_namespace_oid(schema, true)))
		return psprintf("CREATE EXTENSION IF NOT EXISTS %s WITH SCHEMA %s;", quote_identifier(extension), quote_identifier(schema));
	return psprintf("CREATE EXTENSION IF NOT EXISTS %s;", quote_identifier(extension));
}

/* Does this name differ from that one in how it is spelled, but not in what it says? */
static bool
is_alike(const char *a, const char *b)
{
	if (pg_strncasecmp(a, "raw_", 4) == 0)
		a += 4;
	if (pg_strncasecmp(b, "raw_", 4) == 0)
		b += 4;
	for (;;)
	{
		while (*a == '_')
			a++;
		while (*b == '_')
			b++;
		if (pg_tolower((unsigned char) *a) != pg_tolower((unsigned char) *b))
			return false;
		if (*a == '\0')
			return true;
		a++;
		b++;
	}
}

/* The one column of the table that the name may have meant, or NULL. */
static char *
column_alike(Oid relid, const char *name)
{
	char	   *found = NULL;

	char	   *column;

	for (AttrNumber i = 1; (column = get_attname(relid, i, true)) != NULL; i++)
	{
		if (strncmp(column, "........pg.dropped", 18) == 0 || !is_alike(column, name))
			continue;
		if (found != NULL)
			return NULL;
		found = column;
	}
	return found;
}

/* Have a name, written without quotes, that stands in the statement at or after this place, replaced. */
static bool
edit_name(Body *body, int location, const char *name, const char *by)
{
	size_t		len = strlen(name);

	if (location < 0 || location > (int) strlen(body->sql))
		return false;
	for (const char *s = body->sql + location; *s; s++)
		if (pg_strncasecmp(s, name, len) == 0 && (s == body->sql || (!isalnum((unsigned char) s[-1]) && s[-1] != '_')) &&
			!isalnum((unsigned char) s[len]) && s[len] != '_' && s[len] != '"')
			return body_edit(body, (int) (s - body->sql), (int) (s - body->sql + len), quote_identifier(by), "", true);
	return false;
}

static void
missing_relation(Body *body, const char *full, const char *message)
{
	const char *dot = strchr(full, '.');
	const char *name = dot ? dot + 1 : full;
	char	   *schema = dot ? pnstrdup(full, dot - full) : NULL;
	List	   *elsewhere;
	List	   *similar;
	ListCell   *lc;
	const char *finding;
	const char *detail;

	foreach(lc, body->temporary)
		if (strcmp((char *) lfirst(lc), name) == 0)
			return;
	elsewhere = name_relation_schemas(name, false);
	if (schema == NULL && add_to_path(body, "relation", name, elsewhere))
		return;
	similar = name_relation_schemas(name, true);
	finding = psprintf("relation %s does not exist", full);
	detail = psprintf("At %s: %s.%s", body_where(body), message,
					  similar ? psprintf(" There is %s; names are case sensitive where they were made in double quotes.", joined(similar)) : "");
	if (list_length(similar) == 1)
	{
		Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(compat_qualified_name((char *) linitial(similar))), NoLock, true);
		char	   *true_name = OidIsValid(relid) ? get_rel_name(relid) : NULL;

		if (true_name != NULL && schema != NULL && strcmp(get_namespace_name(get_rel_namespace(relid)), schema) == 0 &&
			edit_name(body, 0, name, true_name))
		{
			body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_TABLE, finding, detail);
			return;
		}
	}
	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_TABLE, "function", body->name, finding, detail, NULL);
}

static void
missing_function(Body *body, const char *message, const char *hint)
{
	const char *from = strncmp(message, "function ", 9) == 0 ? message + 9 : message + 10;
	const char *paren = strchr(from, '(');
	char	   *full = paren ? pnstrdup(from, paren - from) : NULL;
	char	   *dot = full ? strchr(full, '.') : NULL;
	char	   *name = dot ? dot + 1 : full;
	char	   *schema = dot ? pnstrdup(full, dot - full) : NULL;
	List	   *elsewhere;
	const char *extension;

	if (full == NULL)
		return;
	elsewhere = name_function_schemas(name);
	if (schema == NULL && !body->uncertain && add_to_path(body, "function", name, elsewhere))
		return;
	if (body->uncertain && elsewhere != NIL)
		return;
	extension = elsewhere == NIL ? name_function_extension(schema, name) : NULL;
	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_FUNCTION, "function", body->name,
			   psprintf("function %s does not exist", full),
			   psprintf("At %s: %s.%s%s", body_where(body), message,
						extension ? psprintf(" It comes with extension %s, which is not installed.", extension) :
						elsewhere ? psprintf(" There is one of this name in schema %s.", joined(elsewhere)) : "",
						hint ? psprintf(" %s", hint) : ""),
			   fix_extension(extension, schema ? schema : "extensions"));
}

static void
missing_type(Body *body, const char *full, const char *message)
{
	const char *dot = strchr(full, '.');
	const char *name = dot ? dot + 1 : full;
	List	   *elsewhere = name_type_schemas(name);
	const char *extension;

	if (dot == NULL && add_to_path(body, "type", name, elsewhere))
		return;
	extension = elsewhere == NIL ? name_type_extension(name) : NULL;
	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, "function", body->name,
			   psprintf("type %s does not exist", full),
			   psprintf("At %s: %s.%s", body_where(body), message,
						extension ? psprintf(" It comes with extension %s, which is not installed.", extension) :
						elsewhere ? psprintf(" There is one of this name in schema %s.", joined(elsewhere)) : ""),
			   fix_extension(extension, "extensions"));
}

static void
missing_schema(Body *body, const char *schema, const char *message)
{
	const char *extension = name_function_extension(schema, NULL);

	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_SCHEMA, "function", body->name,
			   psprintf("schema %s does not exist", quote_identifier(schema)),
			   psprintf("At %s: %s.%s", body_where(body), message,
						extension ? psprintf(" It comes with extension %s, which is not installed%s.", extension,
											 name_extension_available(extension) ? "" : ", nor is it available on this server") : ""),
			   fix_extension(extension, NULL));
}

/* A column, or a field of NEW, that has another spelling: that is said, and written. */
static bool
missing_column(Body *body, const char *name, const char *message, Node *raw)
{
	Oid			relid = InvalidOid;
	char	   *column;
	size_t		len;
	const char *finding = psprintf("a statement fails: %s", message);
	const char *detail;

	if (strncmp(message, "record \"new\" ", 13) == 0 || strncmp(message, "record \"old\" ", 13) == 0)
	{
		relid = body->call->relid;
		name = quoted(message + 13);
	}
	else if (strstr(message, " of relation ") != NULL && raw != NULL)
	{
		RangeVar   *target = IsA(raw, InsertStmt) ? ((InsertStmt *) raw)->relation :
			IsA(raw, UpdateStmt) ? ((UpdateStmt *) raw)->relation : NULL;

		if (target != NULL && target->schemaname != NULL)
			relid = RangeVarGetRelid(target, NoLock, true);
		else if (target != NULL)
		{
			List	   *schemas = name_relation_schemas(target->relname, false);

			if (list_length(schemas) == 1)
				relid = get_relname_relid(target->relname, get_namespace_oid((char *) linitial(schemas), false));
		}
	}
	if (!OidIsValid(relid) || name == NULL)
		return false;
	column = column_alike(relid, name);
	len = strlen(name);
	/* a time of day has one type */
	if (column == NULL && get_rel_namespace(relid) != get_rel_namespace(body->doctor->auth_users) && len > 3 &&
		strcmp(name + len - 3, "_at") == 0)
	{
		body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_COLUMN, "function", body->name, finding,
				   psprintf("At %s: %s.", body_where(body), message),
				   psprintf("ALTER TABLE %s ADD COLUMN %s timestamptz;", doctor_relation_name(relid), quote_identifier(name)));
		return true;
	}
	if (column == NULL)
		return false;
	detail = psprintf("At %s: %s. There is a column %s.", body_where(body), message, quote_identifier(column));
	if (edit_name(body, 0, name, column))
		body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_COLUMN, finding, detail);
	else
		body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_COLUMN, "function", body->name, finding, detail, NULL);
	return true;
}

static bool
tables_walker(Node *node, void *context)
{
	List	  **names = (List **) context;
	RangeVar   *rv = (RangeVar *) node;
	ListCell   *lc;
	char	   *name;

	if (node == NULL)
		return false;
	if (!IsA(node, RangeVar))
		return raw_expression_tree_walker(node, tables_walker, names);
	name = rv->schemaname ? quote_qualified_identifier(rv->schemaname, rv->relname) : pstrdup(quote_identifier(rv->relname));
	foreach(lc, *names)
		if (strcmp((char *) lfirst(lc), name) == 0)
			return false;
	*names = lappend(*names, name);
	return false;
}

/* Many messages do not say of which table they speak. */
static const char *
statement_tables(Node *raw)
{
	List	   *names = NIL;

	if (raw != NULL && (IsA(raw, SelectStmt) || IsA(raw, InsertStmt) || IsA(raw, UpdateStmt) || IsA(raw, DeleteStmt)))
		(void) raw_expression_tree_walker(raw, tables_walker, &names);
	return names == NIL ? "" : psprintf(" The statement is about %s.", joined(names));
}

/* What analysis raised: it would be raised by the auth server's statement. */
void
body_failed(Body *body, ErrorData *edata, Node *raw)
{
	const char *message = edata->message ? edata->message : "";
	char	   *name = quoted(message);
	char	   *operator;

	switch (edata->sqlerrcode)
	{
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_FUNCTION:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_UNDEFINED_SCHEMA:
			if (body->path_unknown || body->doubts > 0)
				return;
			break;
		case ERRCODE_UNDEFINED_COLUMN:
			if (body->doubts > 0)
				return;
			break;
		default:
			break;
	}
	switch (edata->sqlerrcode)
	{
		case ERRCODE_UNDEFINED_TABLE:
			if (name != NULL && strncmp(message, "relation ", 9) == 0)
			{
				missing_relation(body, name, message);
				return;
			}
			break;
		case ERRCODE_UNDEFINED_FUNCTION:
			if (strncmp(message, "function ", 9) == 0 || strncmp(message, "procedure ", 10) == 0)
			{
				missing_function(body, message, edata->hint);
				return;
			}
			if (strncmp(message, "operator does not exist: ", 25) == 0 && !body->uncertain)
			{
				List	   *words = NIL;
				char	   *copy = pstrdup(message + 25);

				/* type op type */
				for (char *s = strtok(copy, " "); s != NULL; s = strtok(NULL, " "))
					words = lappend(words, s);
				operator = NULL;
				for (int i = 0; i < list_length(words) && operator == NULL; i++)
					if (strspn((char *) list_nth(words, i), "+-*/<>=~!@#%^&|`?") == strlen((char *) list_nth(words, i)))
						operator = (char *) list_nth(words, i);
				if (operator != NULL && add_to_path(body, "operator", operator, name_operator_schemas(operator)))
					return;
			}
			break;
		case ERRCODE_UNDEFINED_OBJECT:
			if (name != NULL && strncmp(message, "type ", 5) == 0)
			{
				missing_type(body, name, message);
				return;
			}
			break;
		case ERRCODE_UNDEFINED_SCHEMA:
			if (name != NULL)
			{
				missing_schema(body, name, message);
				return;
			}
			break;
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			if (name == NULL && strncmp(message, "permission denied for schema ", 29) == 0)
			{
				body_denied(body, "USAGE", "SCHEMA", quote_identifier(message + 29));
				return;
			}
			break;
		default:
			break;
	}
	if (edata->sqlerrcode == ERRCODE_UNDEFINED_COLUMN && name != NULL && missing_column(body, name, message, raw))
		return;
	/* no judgement on what has types that are only known at run time, or on what was not the statement's fault */
	if (body->uncertain)
		return;
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INVALID_SCHEMA_NAME:
		case ERRCODE_CARDINALITY_VIOLATION:
			break;
		default:
			/* a view that cannot be written, a record that holds nothing */
			if (edata->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE &&
				(strncmp(message, "cannot ", 7) == 0 || strncmp(message, "record ", 7) == 0))
				break;
			return;
	}
	body_found(body, DOCTOR_ERROR, edata->sqlerrcode, "function", body->name,
			   psprintf("a statement fails: %s", message),
			   psprintf("At %s: %s.%s%s%s", body_where(body), message, edata->detail ? psprintf(" %s", edata->detail) : "",
						edata->hint ? psprintf(" %s", edata->hint) : "", statement_tables(raw)),
			   NULL);
}

/* ---------------------------------------------------------------------
 * One statement
 * ---------------------------------------------------------------------
 */

static bool
unqualified_walker(Node *node, void *context)
{
	List	  **names = (List **) context;

	if (node == NULL)
		return false;
	if (IsA(node, RangeVar) && ((RangeVar *) node)->schemaname == NULL)
		*names = lappend(*names, ((RangeVar *) node)->relname);
	return raw_expression_tree_walker(node, unqualified_walker, names);
}

static Node *
raw_statement(Body *body, const char *sql, RawParseMode mode)
{
	List	   *list = raw_parser(sql, mode);
	Node	   *stmt = list != NIL ? linitial_node(RawStmt, list)->stmt : NULL;

	return stmt;
}

/*
 * "users" means auth.users to the auth server's role, whose path holds auth
 * alone. Where the application has a table of that name, it is that one which
 * is meant: surely where rows are written, else where the statement fails.
 */
static bool
check_shadowed(Body *body, Node *raw, bool failed)
{
	List	   *names = NIL;
	ListCell   *lc;
	Oid			auth = get_rel_namespace(body->doctor->auth_users);
	RangeVar   *target = NULL;

	if (body->pinned != NULL || raw == NULL || body->add_schemas != NIL)
		return false;
	if (IsA(raw, InsertStmt))
		target = ((InsertStmt *) raw)->relation;
	else if (IsA(raw, UpdateStmt) && failed)
		target = ((UpdateStmt *) raw)->relation;
	else if (IsA(raw, DeleteStmt))
		target = ((DeleteStmt *) raw)->relation;
	if (failed)
		unqualified_walker(raw, &names);
	else if (target != NULL && target->schemaname == NULL)
		names = list_make1(target->relname);
	foreach(lc, names)
	{
		char	   *name = (char *) lfirst(lc);
		List	   *schemas;
		ListCell   *lc2;

		if (!OidIsValid(get_relname_relid(name, auth)) || !path_holds(body, get_namespace_name(auth)))
			continue;
		schemas = name_relation_schemas(name, false);
		foreach(lc2, schemas)
		{
			char	   *schema = (char *) lfirst(lc2);
			MemoryContext old;

			if (get_namespace_oid(schema, true) == auth || path_holds(body, schema))
				continue;
			old = MemoryContextSwitchTo(body->cxt);
			body->add_schemas = lappend(body->add_schemas, pstrdup(schema));
			MemoryContextSwitchTo(old);
			body->add_first = true;
			keep(body, &body->misplaced,
				 psprintf("%s means %s.%s there, not %s.%s%s", quote_identifier(name),
						  quote_identifier(get_namespace_name(auth)), quote_identifier(name),
						  quote_identifier(schema), quote_identifier(name), at_line(body)));
			body->changed = true;
			return true;
		}
	}
	return false;
}

typedef struct Analysis
{
	Body	   *body;
	const char *sql;
	RawParseMode mode;
	ParserSetupHook setup;
	void	   *setup_arg;
	BodyAnalysed analysed;
	void	   *arg;
	bool		is_analysed;
} Analysis;

static void
register_transition(Body *body, const char *name)
{
	EphemeralNamedRelation enr;

	if (name == NULL)
		return;
	enr = (EphemeralNamedRelation) palloc0(sizeof(EphemeralNamedRelationData));
	enr->md.name = pstrdup(name);
	enr->md.reliddesc = body->call->relid;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	SPI_register_relation(enr);
}

static void
run_analysis(void *arg)
{
	Analysis   *a = (Analysis *) arg;
	Body	   *body = a->body;
	Scope		scope;
	List	   *queries;
	ListCell   *lc;

	SPI_connect();
	register_transition(body, body->call->new_table);
	register_transition(body, body->call->old_table);
	scope_enter_target(&scope, body->role, body->path);
	/* names are read from messages */
	(void) set_config_option("lc_messages", "C", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("lock_timeout", BODY_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	queries = plan_analyse_hooked(a->sql, a->mode, a->setup, a->setup_arg);
	foreach(lc, queries)
		if (lfirst_node(Query, lc)->commandType == CMD_UTILITY && lfirst_node(Query, lc)->utilityStmt != NULL)
			check_utility(body, lfirst_node(Query, lc)->utilityStmt);
	a->is_analysed = true;
	foreach(lc, queries)
	{
		Query	   *query = lfirst_node(Query, lc);

		body_query(body, query);
		if (a->analysed != NULL)
			a->analysed(body, query, a->arg);
	}
	scope_leave(&scope);
	SPI_finish();
}

bool
body_analyse(Body *body, const char *sql, RawParseMode mode, ParserSetupHook setup, void *setup_arg,
			 BodyAnalysed analysed, void *arg)
{
	Analysis	a;
	ErrorData  *edata;
	Node	   *raw = NULL;

	a.body = body;
	a.sql = sql;
	a.mode = mode;
	a.setup = setup;
	a.setup_arg = setup_arg;
	a.analysed = analysed;
	a.arg = arg;
	a.is_analysed = false;
	body->uncertain = false;
	body->sql = sql;
	edata = plan_contained(run_analysis, &a, false);
	body->defaults = NIL;
	body->column = NULL;
	if (edata != NULL && caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(edata);
	/* our own look at it failed */
	if (edata != NULL && a.is_analysed)
		return true;
	if (edata == NULL || edata->sqlerrcode != ERRCODE_SYNTAX_ERROR)
		raw = raw_statement(body, sql, mode);
	if (!body->path_unknown && check_shadowed(body, raw, edata != NULL))
		return false;
	if (edata == NULL)
		return true;
	body_failed(body, edata, raw);
	return false;
}
