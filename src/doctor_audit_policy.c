/*-------------------------------------------------------------------------
 *
 * doctor_audit_policy.c
 *	  What policies are made of, read from their trees: which columns of the row
 *	  they name, which tables and functions they ask, and whether they ask no
 *	  more than whether somebody is logged in.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_type.h"
#include "nodes/bitmapset.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "caller.h"
#include "doctor_audit.h"

typedef struct PolicyParts
{
	Index		level;			/* how many sub-selects deep we are */
	bool		compares;		/* names a column of the row */
	bool		itself;			/* compares a column with itself */
	Bitmapset  *columns;		/* of the row, by attribute number */
	List	   *tables;			/* OIDs of what sub-selects read */
	List	   *functions;		/* OIDs of those that are called */
} PolicyParts;

/*
 * Under which conditions everybody who is logged in passes. What cannot be told
 * from the tree is left to whoever knows columns and bodies.
 */
typedef struct Openness
{
	Bitmapset  *filled;			/* columns of the row that only must not be null */
	List	   *functions;		/* OIDs of functions that have to say yes */
} Openness;

static Node *
without_relabel(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

static bool
policy_walker(Node *node, void *arg)
{
	PolicyParts *parts = (PolicyParts *) arg;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varlevelsup == parts->level)
		{
			parts->compares = true;
			if (var->varattno > 0)
				parts->columns = bms_add_member(parts->columns, var->varattno);
		}
		return false;
	}
	if (IsA(node, OpExpr))
	{
		OpExpr	   *op = (OpExpr *) node;

		/* a name without its table means the innermost one: m.tenant_id = tenant_id */
		if (list_length(op->args) == 2)
		{
			Node	   *left = without_relabel(linitial(op->args));
			Node	   *right = without_relabel(lsecond(op->args));
			char	   *name = get_opname(op->opno);

			if (IsA(left, Var) && equal(left, right) && name != NULL && strcmp(name, "=") == 0)
				parts->itself = true;
		}
	}
	else if (IsA(node, FuncExpr))
		parts->functions = list_append_unique_oid(parts->functions, ((FuncExpr *) node)->funcid);
	else if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;
		bool		result;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind == RTE_RELATION)
				parts->tables = list_append_unique_oid(parts->tables, rte->relid);
		}
		parts->level++;
		result = query_tree_walker(query, policy_walker, arg, 0);
		parts->level--;
		return result;
	}
	return expression_tree_walker(node, policy_walker, arg);
}

/* ---------------------------------------------------------------------
 * Whether it asks no more than whether somebody is logged in
 * ---------------------------------------------------------------------
 */

static bool
is_function(Oid funcid, const char *schema, const char *const *names)
{
	char	   *name = get_func_name(funcid);
	char	   *in = get_namespace_name(get_func_namespace(funcid));

	if (name == NULL || in == NULL || strcmp(in, schema) != 0)
		return false;
	for (; *names != NULL; names++)
	{
		if (strcmp(name, *names) == 0)
			return true;
	}
	return false;
}

/* The text of a constant; NULL: it is none, or of another type. */
static char *
constant_text(Node *node)
{
	Const	   *constant;

	node = without_relabel(node);
	if (node != NULL && IsA(node, CoerceViaIO))
		node = without_relabel((Node *) ((CoerceViaIO *) node)->arg);
	if (node == NULL || !IsA(node, Const))
		return NULL;
	constant = (Const *) node;
	if (constant->constisnull)
		return NULL;
	switch (constant->consttype)
	{
		case TEXTOID:
		case VARCHAROID:
			return TextDatumGetCString(constant->constvalue);
		case NAMEOID:
			return pstrdup(NameStr(*DatumGetName(constant->constvalue)));
		case UNKNOWNOID:
			return pstrdup(DatumGetCString(constant->constvalue));
		case BOOLOID:
			return pstrdup(DatumGetBool(constant->constvalue) ? "true" : "false");
		case INT4OID:
			return psprintf("%d", DatumGetInt32(constant->constvalue));
		default:
			return NULL;
	}
}

static bool
is_one_of(const char *word, const char *const *words)
{
	for (; word != NULL && *words != NULL; words++)
	{
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

/* SELECT x, without FROM or WHERE: x. NULL: it is another query. */
static Node *
lone_target(Query *query)
{
	if (query->commandType != CMD_SELECT || query->rtable != NIL || query->jointree == NULL ||
		query->jointree->quals != NULL || query->setOperations != NULL || list_length(query->targetList) != 1)
		return NULL;
	return (Node *) linitial_node(TargetEntry, query->targetList)->expr;
}

/* Is it the whole token, as JSON? */
static bool
is_token(Node *node)
{
	static const char *const jwt[] = {"jwt", NULL};
	static const char *const setting[] = {"current_setting", NULL};

	node = without_relabel(node);
	while (node != NULL && (IsA(node, CoerceViaIO) || IsA(node, SubLink)))
	{
		if (IsA(node, CoerceViaIO))
			node = (Node *) ((CoerceViaIO *) node)->arg;
		else if (((SubLink *) node)->subLinkType == EXPR_SUBLINK)
			node = lone_target((Query *) ((SubLink *) node)->subselect);
		else
			return false;
		node = without_relabel(node);
	}
	if (node == NULL || !IsA(node, FuncExpr))
		return false;
	if (is_function(((FuncExpr *) node)->funcid, "auth", jwt))
		return true;
	if (is_function(((FuncExpr *) node)->funcid, "pg_catalog", setting))
	{
		char	   *name = constant_text(linitial(((FuncExpr *) node)->args));

		return name != NULL && strcmp(name, "request.jwt.claims") == 0;
	}
	return false;
}

/* Something that the token of everybody who is logged in says of them: who they are, and that they are logged in. */
static bool
is_login(Node *node)
{
	static const char *const auth[] = {"uid", "role", "email", "jwt", NULL};
	static const char *const own[] = {"current_user_id", NULL};
	static const char *const setting[] = {"current_setting", NULL};
	static const char *const wrapping[] = {"length", "char_length", "lower", "upper", "btrim", "text", "name", "varchar", NULL};
	static const char *const settings[] = {"request.jwt.claims", "request.jwt.claim.sub", "request.jwt.claim.role",
	"request.jwt.claim.email", "request.jwt.claim.aud", NULL};
	static const char *const claims[] = {"sub", "role", "email", "aud", "iss", "exp", "iat", "session_id", "is_anonymous", NULL};

	check_stack_depth();
	node = without_relabel(node);
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_CoerceViaIO:
			return is_login((Node *) ((CoerceViaIO *) node)->arg);
		case T_SQLValueFunction:
			return ((SQLValueFunction *) node)->op == SVFOP_CURRENT_USER ||
				((SQLValueFunction *) node)->op == SVFOP_CURRENT_ROLE ||
				((SQLValueFunction *) node)->op == SVFOP_USER ||
				((SQLValueFunction *) node)->op == SVFOP_SESSION_USER;
		case T_SubLink:
			return ((SubLink *) node)->subLinkType == EXPR_SUBLINK &&
				is_login(lone_target((Query *) ((SubLink *) node)->subselect));
		case T_CoalesceExpr:
			{
				CoalesceExpr *coalesce = (CoalesceExpr *) node;

				return list_length(coalesce->args) == 2 && is_login(linitial(coalesce->args)) &&
					constant_text(lsecond(coalesce->args)) != NULL;
			}
		case T_NullIfExpr:
			return is_login(linitial(((NullIfExpr *) node)->args));
		case T_OpExpr:
			{
				OpExpr	   *op = (OpExpr *) node;
				char	   *name = get_opname(op->opno);

				return list_length(op->args) == 2 && name != NULL && (strcmp(name, "->>") == 0 || strcmp(name, "->") == 0) &&
					is_token(linitial(op->args)) && is_one_of(constant_text(lsecond(op->args)), claims);
			}
		case T_FuncExpr:
			{
				FuncExpr   *func = (FuncExpr *) node;

				if (is_function(func->funcid, "auth", auth) || is_function(func->funcid, "invite_sync", own))
					return true;
				if (is_function(func->funcid, "pg_catalog", setting))
					return is_one_of(constant_text(linitial(func->args)), settings);
				return is_function(func->funcid, "pg_catalog", wrapping) && is_login(linitial(func->args));
			}
		default:
			return false;
	}
}

/* What every user, or every stranger, is compared with to learn that it is one. */
static bool
is_said_of_all(Node *node)
{
	static const char *const words[] = {"authenticated", "anon", "", "0", "true", "false", NULL};

	return is_one_of(constant_text(node), words);
}

static bool
is_said_of_all_in_array(Node *node)
{
	node = without_relabel(node);
	if (node != NULL && IsA(node, ArrayCoerceExpr))
		node = without_relabel((Node *) ((ArrayCoerceExpr *) node)->arg);
	if (node != NULL && IsA(node, ArrayExpr))
	{
		ListCell   *lc;

		foreach(lc, ((ArrayExpr *) node)->elements)
		{
			if (is_said_of_all(lfirst(lc)))
				return true;
		}
	}
	else if (node != NULL && IsA(node, Const) && !((Const *) node)->constisnull && ((Const *) node)->consttype == TEXTARRAYOID)
	{
		Datum	   *words;
		bool	   *nulls;
		int			n;

		deconstruct_array(DatumGetArrayTypeP(((Const *) node)->constvalue), TEXTOID, -1, false, TYPALIGN_INT, &words, &nulls, &n);
		for (int i = 0; i < n; i++)
		{
			static const char *const all[] = {"authenticated", "anon", NULL};

			if (!nulls[i] && is_one_of(TextDatumGetCString(words[i]), all))
				return true;
		}
	}
	return false;
}

/* Does the sub-select find who is asking in auth.users, whoever it is? */
static bool
finds_any_user(SubLink *link)
{
	Query	   *query = (Query *) link->subselect;
	RangeTblEntry *rte;
	Node	   *quals;

	if (list_length(query->rtable) != 1 || query->jointree == NULL || list_length(query->jointree->fromlist) != 1)
		return false;
	rte = linitial_node(RangeTblEntry, query->rtable);
	if (rte->rtekind != RTE_RELATION || rte->relid != caller_auth_users_relid(true))
		return false;
	quals = query->jointree->quals;
	if (link->subLinkType == ANY_SUBLINK && quals == NULL && link->testexpr != NULL && IsA(link->testexpr, OpExpr))
		return is_login(linitial(((OpExpr *) link->testexpr)->args));
	if (link->subLinkType == EXISTS_SUBLINK && quals != NULL && IsA(quals, OpExpr) && list_length(((OpExpr *) quals)->args) == 2)
	{
		Node	   *left = without_relabel(linitial(((OpExpr *) quals)->args));
		Node	   *right = without_relabel(lsecond(((OpExpr *) quals)->args));

		return IsA(left, Var) ? is_login(right) : IsA(right, Var) && is_login(left);
	}
	return false;
}

static bool is_open(Node *node, Index level, Openness *open);

/* One arm is enough; one that needs nothing more is the best. */
static bool
is_any_open(List *arms, Index level, Openness *open)
{
	ListCell   *lc;
	bool		found = false;

	foreach(lc, arms)
	{
		Openness	arm = {NULL, NIL};

		if (!is_open(lfirst(lc), level, &arm))
			continue;
		if (arm.filled == NULL && arm.functions == NIL)
			return true;
		if (!found)
		{
			open->filled = bms_add_members(open->filled, arm.filled);
			open->functions = list_concat_unique_oid(open->functions, arm.functions);
		}
		found = true;
	}
	return found;
}

static bool
is_open(Node *node, Index level, Openness *open)
{
	check_stack_depth();
	node = without_relabel(node);
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Const:
			return ((Const *) node)->consttype == BOOLOID && !((Const *) node)->constisnull &&
				DatumGetBool(((Const *) node)->constvalue);
		case T_BoolExpr:
			{
				BoolExpr   *expr = (BoolExpr *) node;
				ListCell   *lc;

				if (expr->boolop == OR_EXPR)
					return is_any_open(expr->args, level, open);
				if (expr->boolop == NOT_EXPR)
				{
					Node	   *arg = without_relabel(linitial(expr->args));

					return is_login(arg) || (IsA(arg, NullTest) && is_login((Node *) ((NullTest *) arg)->arg)) ||
						(IsA(arg, OpExpr) && is_open(arg, level, open));
				}
				foreach(lc, expr->args)
				{
					if (!is_open(lfirst(lc), level, open))
						return false;
				}
				return true;
			}
		case T_NullTest:
			{
				NullTest   *test = (NullTest *) node;
				Node	   *arg = without_relabel((Node *) test->arg);

				if (test->nulltesttype == IS_NOT_NULL && IsA(arg, Var) && ((Var *) arg)->varlevelsup == level &&
					((Var *) arg)->varattno > 0)
				{
					open->filled = bms_add_member(open->filled, ((Var *) arg)->varattno);
					return true;
				}
				return is_login(arg);
			}
		case T_BooleanTest:
			return is_login((Node *) ((BooleanTest *) node)->arg);
		case T_OpExpr:
			{
				OpExpr	   *op = (OpExpr *) node;
				Node	   *left;
				Node	   *right;
				char	   *name = get_opname(op->opno);

				if (list_length(op->args) != 2 || name == NULL)
					return false;
				left = without_relabel(linitial(op->args));
				right = without_relabel(lsecond(op->args));
				if (strcmp(name, "=") == 0 && equal(left, right) && (IsA(left, Const) || is_login(left)))
					return true;
				return (is_login(left) && is_said_of_all(right)) || (is_login(right) && is_said_of_all(left));
			}
		case T_ScalarArrayOpExpr:
			return is_login(linitial(((ScalarArrayOpExpr *) node)->args)) &&
				is_said_of_all_in_array(lsecond(((ScalarArrayOpExpr *) node)->args));
		case T_SubLink:
			if (((SubLink *) node)->subLinkType == EXPR_SUBLINK)
				return is_open(lone_target((Query *) ((SubLink *) node)->subselect), level + 1, open);
			return finds_any_user((SubLink *) node);
		case T_FuncExpr:
			open->functions = list_append_unique_oid(open->functions, ((FuncExpr *) node)->funcid);
			return true;
		default:
			return false;
	}
}

/* ---------------------------------------------------------------------
 * As JSON
 * ---------------------------------------------------------------------
 */

static void
append_oids(StringInfo buf, const char *key, List *oids)
{
	ListCell   *lc;

	appendStringInfo(buf, ", \"%s\": [", key);
	foreach(lc, oids)
		appendStringInfo(buf, "%s%u", lc == list_head(oids) ? "" : ", ", lfirst_oid(lc));
	appendStringInfoChar(buf, ']');
}

static void
append_columns(StringInfo buf, const char *key, Bitmapset *columns)
{
	int			column = -1;
	bool		first = true;

	appendStringInfo(buf, ", \"%s\": [", key);
	while ((column = bms_next_member(columns, column)) >= 0)
	{
		appendStringInfo(buf, "%s%d", first ? "" : ", ", column);
		first = false;
	}
	appendStringInfoChar(buf, ']');
}

static void
append_clause(StringInfo buf, Oid policy, const char *clause, Datum expression)
{
	Node	   *tree = stringToNode(TextDatumGetCString(expression));
	Node	   *bare = without_relabel(tree);
	PolicyParts parts;
	Openness	open = {NULL, NIL};
	bool		opened = is_open(tree, 0, &open);

	memset(&parts, 0, sizeof(parts));
	(void) policy_walker(tree, &parts);
	appendStringInfo(buf, "%s{\"policy\": %u, \"clause\": \"%s\", \"compares\": %s, \"itself\": %s, \"opens\": %s, \"never\": %s",
					 buf->len > 1 ? ", " : "", policy, clause,
					 parts.compares ? "true" : "false", parts.itself ? "true" : "false", opened ? "true" : "false",
					 IsA(bare, Const) && (((Const *) bare)->constisnull || !DatumGetBool(((Const *) bare)->constvalue)) ? "true" : "false");
	append_columns(buf, "columns", parts.columns);
	append_columns(buf, "filled", open.filled);
	append_oids(buf, "tables", parts.tables);
	append_oids(buf, "functions", parts.functions);
	append_oids(buf, "says_yes", open.functions);
	appendStringInfoChar(buf, '}');
}

/* A JSON array, an object for each expression of each policy. */
text *
audit_read_policies(void)
{
	Relation	rel = table_open(PolicyRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			policy = ((Form_pg_policy) GETSTRUCT(tuple))->oid;
		bool		isnull;
		Datum		tree;

		CHECK_FOR_INTERRUPTS();
		tree = heap_getattr(tuple, Anum_pg_policy_polqual, RelationGetDescr(rel), &isnull);
		if (!isnull)
			append_clause(&buf, policy, "USING", tree);
		tree = heap_getattr(tuple, Anum_pg_policy_polwithcheck, RelationGetDescr(rel), &isnull);
		if (!isnull)
			append_clause(&buf, policy, "WITH CHECK", tree);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	appendStringInfoChar(&buf, ']');
	return cstring_to_text_with_len(buf.data, buf.len);
}
