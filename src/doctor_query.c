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

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_database.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_index.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "caller.h"
#include "doctor_query.h"
#include "plan.h"

/* ---------------------------------------------------------------------
 * Rights
 * ---------------------------------------------------------------------
 */

void
body_keep(Body *body, List **list, const char *text)
{
	MemoryContext old;

	if (list == &body->misplaced)
		body->names_escape = body->names_escape || !body_is_caught(body, ERRCODE_INTERNAL_ERROR);
	else
		body->rights_escape = body->rights_escape || !body_is_caught(body, ERRCODE_INSUFFICIENT_PRIVILEGE);
	if (body_listed(*list, text))
		return;
	old = MemoryContextSwitchTo(body->cxt);
	*list = lappend(*list, pstrdup(text));
	MemoryContextSwitchTo(old);
}

/* NULL: there is nobody to be given it. */
static char *
fix_grant(const char *privileges, const char *kind, const char *object, Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? psprintf("GRANT %s ON %s %s TO %s;", privileges, kind, object, quote_identifier(name)) : NULL;
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
		body_keep(body, &body->denied, psprintf("%s on %s %s%s", privilege, asc_tolower(kind, strlen(kind)), object,
												body->about ? psprintf(", for %s", body->about) : ""));
		return;
	}
	body_found(body, DOCTOR_ERROR, ERRCODE_INSUFFICIENT_PRIVILEGE,
			   strcmp(kind, "FUNCTION") == 0 ? "function" : "table", object,
			   psprintf("permission denied: role %s has no %s on %s %s",
						doctor_role_name(body->role), privilege, asc_tolower(kind, strlen(kind)), object),
			   psprintf("%s runs as %s%s.%s", body->name, doctor_role_name(body->role),
						body->definer ? ", its owner (SECURITY DEFINER)" : "",
						body->about ? psprintf(" The statement is about %s.", body->about) : ""),
			   fix_grant(privilege, kind, object, body->role));
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
								doctor_role_name(role), words.data, name),
					   psprintf("%s reads it by way of the view.", body_where(body)),
					   fix_grant(words.data, "TABLE", name, role));
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
	if (get_element_type(type) == TEXTOID || get_element_type(type) == VARCHAROID)
	{
#define ELEMENT "\\s*[^{}\",\\\\\\s][^{}\",\\\\]*"
		return "^\\s*\\{(?:" ELEMENT "(?:," ELEMENT ")*)?\\}\\s*$";
#undef ELEMENT
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
		(type == INT4OID || type == INT2OID) && body->call->relid == body->doctor->auth_users && !body_is_guarded(body, "phone"))
		body_found(body, DOCTOR_WARNING, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "function", body->name,
				   psprintf("column phone is cast to %s, which is too small for a phone number", format_type_be(type)),
				   psprintf("At %s: value \"...\" is out of range for type %s, or no number at all.", body_where(body), format_type_be(type)), NULL);
	if (field == NULL && get_typtype(type) == TYPTYPE_ENUM)
	{
		bool		sometimes;
		char	   *text = body_constant_of(body, NULL, value, &sometimes);

		if (text != NULL && strlen(text) < NAMEDATALEN &&
			!SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(text)))
			body_found(body, sometimes ? DOCTOR_WARNING : DOCTOR_ERROR, ERRCODE_INVALID_TEXT_REPRESENTATION, "function", body->name,
					   psprintf("'%s' is no label of enum %s", text, format_type_be(type)),
					   psprintf("At %s: invalid input value for enum %s: \"%s\"%s.", body_where(body), format_type_be(type), text,
								sometimes ? ", for users whose metadata has nothing" : ""),
					   psprintf("ALTER TYPE %s ADD VALUE %s;", format_type_be_qualified(type), quote_literal_cstr(text)));
		return;
	}
	get_type_category_preferred(type, &category, &preferred);
	/* what stands for a field that is not sent does not stand for one that is sent empty */
	if (field == NULL && IsA(body_strip(value), CoalesceExpr) &&
		(category == TYPCATEGORY_NUMERIC || category == TYPCATEGORY_DATETIME || type == UUIDOID))
	{
		value = (Node *) linitial(((CoalesceExpr *) body_strip(value))->args);
		field = body_metadata_field(body, value);
	}
	if (field == NULL || body_is_guarded(body, field))
		return;
	if (category == TYPCATEGORY_STRING || category == TYPCATEGORY_PSEUDOTYPE || category == TYPCATEGORY_UNKNOWN ||
		type == JSONBOID || type == JSONOID)
		return;
	finding = psprintf("metadata field \"%s\" is cast to %s without a guard", field, format_type_be(type));
	pattern = type_pattern(type);
	detail = psprintf("At %s: an empty string, or anything else that is no %s, fails: %s. What is sent is up to the form%s.",
					  body_where(body), format_type_be(type),
					  category == TYPCATEGORY_ENUM ? psprintf("invalid input value for enum %s", format_type_be(type)) :
					  category == TYPCATEGORY_ARRAY ? "malformed array literal, for a JSON array too" :
					  psprintf("invalid input syntax for type %s", format_type_be(type)),
					  pattern ? "; what does not look like one is read as null" : "; nullif() lets empty strings through");
	/* a checkbox sends what it should; coalesce() shows that somebody has thought of it */
	if (type == BOOLOID && body->in_coalesce)
		body_found(body, DOCTOR_INFO, cast_sqlstate(type), "function", body->name, finding, detail, NULL);
	else if (pattern != NULL ? body_edit_metadata(body, value, "substring(", psprintf(" from '%s')", pattern)) :
			 body_edit_metadata(body, value, "nullif(", ", '')"))
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
		case F_DECODE:
		case F_TIMEZONE_TEXT_TIMESTAMPTZ:
		case F_TIMEZONE_TEXT_TIMESTAMP:
			field = body_metadata_field(body, arg);
			what = body_constant_text((Node *) lsecond(f->args));
			what = f->funcid != F_DECODE ? "a time zone" : what != NULL ? what : "an encoded text";
			if (field != NULL && !body_is_guarded(body, field))
				body_found(body, DOCTOR_WARNING, ERRCODE_INVALID_PARAMETER_VALUE, "function", body->name,
						   psprintf("metadata field \"%s\" is read as %s without a guard", field, what),
						   psprintf("At %s: anything else fails%s. What is sent is up to the form.", body_where(body),
									f->funcid == F_DECODE ? "" : ", an empty string too"),
						   NULL);
			return;
		case F_INT2_JSONB:
		case F_INT4_JSONB:
		case F_INT8_JSONB:
		case F_NUMERIC_JSONB:
		case F_FLOAT4_JSONB:
		case F_FLOAT8_JSONB:
		case F_BOOL_JSONB:
			if (field != NULL && !body_is_guarded(body, field))
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
			if (list_length(f->args) == 2 && body_is_metadata(body, (Node *) lsecond(f->args)) && has_other_than_text(f->funcresulttype))
				body_found(body, DOCTOR_WARNING, ERRCODE_INVALID_TEXT_REPRESENTATION, "function", body->name,
						   psprintf("metadata is read as a row of %s without a guard", format_type_be_qualified(f->funcresulttype)),
						   psprintf("At %s: what is sent is up to the form: raw_user_meta_data need not fit the columns, and an empty string fails for those that are no text: invalid input syntax.",
									body_where(body)),
						   NULL);
			return;
		default:
			return;
	}
	if (field != NULL && !body_is_guarded(body, field))
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
		return body_value_of(body, ref) != NULL && may_be_zero(body, body_value_of(body, ref));
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

	if (!body_is_lookup(body, node, &lookup) || lookup.query->limitCount != NULL || lookup.query->distinctClause != NIL || body_lookup_rows(&lookup) < 2)
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
	value = body_constant_of(body, NULL, (Node *) cast->arg, &sometimes);
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
		arg->metadata = body_is_metadata(body, (Node *) lfirst(lc));
		arg->field = body_metadata_field(body, (Node *) lfirst(lc));
		if (arg->field != NULL && body_is_guarded(body, arg->field))
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
			char	   *name = body_constant_text((Node *) first);

			if (body_is_unset(body, name))
			{
				const char *finding = psprintf("setting %s is not set in the auth server's connection", name);
				const char *detail = psprintf("At %s: unrecognized configuration parameter \"%s\". current_setting('%s', true) is null instead.",
											  body_where(body), name, name);
				int			end = body_literal_end(body->sql, first->location);

				if (body->column != NULL)
					body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, "table", doctor_relation_name(body->table), finding, detail,
							   body_fix_drop_default(body->table, body->column));
				else if (end > 0 && body_edit(body, end, end, ", true", "", false))
					body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, finding, detail);
				else
					body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, "function", body->name, finding, detail, NULL);
			}
		}
		if (f->funcid == F_SET_CONFIG)
		{
			char	   *name = body_constant_text((Node *) first);

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

/*
 * May the role set it, and to this? Nothing is set. What depends on the session
 * is not asked, nor are names with a dot, which asking would make known.
 */
static void
check_setting(VariableSetStmt *set)
{
	if (set->kind != VAR_SET_VALUE || strcmp(set->name, "role") == 0 || strcmp(set->name, "session_authorization") == 0 ||
		strncmp(set->name, "transaction_", 12) == 0 || strchr(set->name, '.') != NULL)
		return;
	(void) set_config_option(set->name, ExtractSetVariableArgs(set), superuser() ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION,
							 set->is_local ? GUC_ACTION_LOCAL : GUC_ACTION_SET, false, 0, false);
}

/* A table that the body makes: has the role a place for it? No temporary schema is made by asking. */
static void
check_creation(Body *body, RangeVar *table)
{
	Oid			namespace;

	if (table->relpersistence == RELPERSISTENCE_TEMP)
	{
		if (compat_database_aclcheck(MyDatabaseId, body->role, ACL_CREATE_TEMP) != ACLCHECK_OK)
			body_denied(body, "TEMPORARY", "DATABASE", quote_identifier(get_database_name(MyDatabaseId)));
		return;
	}
	namespace = table->schemaname != NULL && strcmp(table->schemaname, "pg_temp") != 0 ? get_namespace_oid(table->schemaname, true) : InvalidOid;
	if (OidIsValid(namespace) && compat_namespace_aclcheck(namespace, body->role, ACL_CREATE) != ACLCHECK_OK)
		body_denied(body, "CREATE", "SCHEMA", quote_identifier(table->schemaname));
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
		case T_CreateStmt:
			check_creation(body, ((CreateStmt *) stmt)->relation);
			break;
		case T_CreateTableAsStmt:
			check_creation(body, ((CreateTableAsStmt *) stmt)->into->rel);
			break;
		case T_VariableSetStmt:
			{
				VariableSetStmt *set = (VariableSetStmt *) stmt;

				check_setting(set);
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
	body_check_write(body, query);
	/* what depends on rows may not be evaluated */
	body->conditions += query->jointree != NULL && query->jointree->fromlist != NIL;
	query_tree_walker(query, expression_walker, body, 0);
	body->conditions -= query->jointree != NULL && query->jointree->fromlist != NIL;
	body->defaults = outer;
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

/* Does the path hold this schema, but the other one before it? */
static bool
stands_behind(Body *body, const char *schema, const char *other)
{
	List	   *names = NIL;
	ListCell   *lc;
	bool		seen = false;

	if (!SplitIdentifierString(pstrdup(body->path), ',', &names))
		return false;
	foreach(lc, names)
	{
		if (strcmp((char *) lfirst(lc), schema) == 0)
			return seen;
		seen = seen || strcmp((char *) lfirst(lc), other) == 0;
	}
	return false;
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
	char	   *auth_name = get_namespace_name(auth);
	RangeVar   *target = NULL;

	if (raw == NULL || body->add_schemas != NIL || auth_name == NULL)
		return false;
	if (IsA(raw, InsertStmt))
		target = ((InsertStmt *) raw)->relation;
	else if (IsA(raw, UpdateStmt) && failed)
		target = ((UpdateStmt *) raw)->relation;
	else if (IsA(raw, DeleteStmt) && (failed || body->pinned == NULL))
		target = ((DeleteStmt *) raw)->relation;
	if (failed && body->pinned == NULL)
		unqualified_walker(raw, &names);
	else if (target != NULL && target->schemaname == NULL)
		names = list_make1(target->relname);
	foreach(lc, names)
	{
		char	   *name = (char *) lfirst(lc);
		List	   *schemas;
		ListCell   *lc2;

		if (!OidIsValid(get_relname_relid(name, auth)) || !body_path_holds(body, auth_name))
			continue;
		schemas = name_relation_schemas(name, false);
		foreach(lc2, schemas)
		{
			char	   *schema = (char *) lfirst(lc2);
			MemoryContext old;

			if (get_namespace_oid(schema, true) == auth ||
				(body->pinned == NULL ? body_path_holds(body, schema) : !stands_behind(body, schema, auth_name)))
				continue;
			old = MemoryContextSwitchTo(body->cxt);
			body->add_schemas = lappend(body->add_schemas, pstrdup(schema));
			MemoryContextSwitchTo(old);
			body->add_first = true;
			body_keep(body, &body->misplaced,
				 psprintf("%s means %s.%s there, not %s.%s%s", quote_identifier(name),
						  quote_identifier(auth_name), quote_identifier(name),
						  quote_identifier(schema), quote_identifier(name), body_at_line(body)));
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

/* The parser takes the trigger's table for locked. */
static void
register_transition(Body *body, const char *name)
{
	EphemeralNamedRelation enr;

	if (name == NULL)
		return;
	relation_close(relation_open(body->call->relid, AccessShareLock), NoLock);
	enr = (EphemeralNamedRelation) palloc0(sizeof(EphemeralNamedRelationData));
	enr->md.name = pstrdup(name);
	enr->md.reliddesc = body->call->relid;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	SPI_register_relation(enr);
}

/* Names are read from messages, in PostgreSQL's own language. */
void
body_read_messages(void)
{
	(void) set_config_option("lc_messages", "C", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Who waits for less elsewhere waits for less here: the DDL guard as good as not at all. */
void
body_bound_lock_wait(void)
{
	if (LockTimeout == 0 || LockTimeout > 100)
		(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
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
	scope_enter_target(&scope, body->role, body->path);
	body_read_messages();
	body_bound_lock_wait();
	register_transition(body, body->call->new_table);
	register_transition(body, body->call->old_table);
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
	List	   *guards = body->guards;
	int			conditions = body->conditions;

	CHECK_FOR_INTERRUPTS();
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
	body->about = NULL;
	edata = plan_contained(run_analysis, &a, false);
	body->defaults = NIL;
	body->column = NULL;
	if (edata != NULL && caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	if (edata != NULL)
	{
		/* where the walk has stopped, these are of an expression that is gone */
		body->guards = guards;
		body->conditions = conditions;
		body->in_coalesce = false;
		body->args = NULL;
	}
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
	body->about = NULL;
	return false;
}
