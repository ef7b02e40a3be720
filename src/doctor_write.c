/*-------------------------------------------------------------------------
 *
 * doctor_write.c
 *	  What a table makes of the rows that a body writes.
 *
 * NOT NULL, CHECK, unique, exclusion and foreign key constraints, domains,
 * lengths and defaults, each against the values that users have.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "doctor_query.h"

/* ---------------------------------------------------------------------
 * INSERT
 * ---------------------------------------------------------------------
 */

static TargetEntry *entry_of(Query *query, AttrNumber attno);

static bool
is_foreign_key_column(Relation rel, AttrNumber attno)
{
	ListCell   *lc;

	/* copied, here and below: the list may be built again while catalogs are read */
	foreach(lc, copyObject(RelationGetFKeyList(rel)))
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
char *
body_fix_drop_default(Oid relid, const char *column)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column);
	bool		not_null = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT%s;", doctor_relation_name(relid), quote_identifier(column),
					not_null ? psprintf(", ALTER COLUMN %s DROP NOT NULL", quote_identifier(column)) : "");
}

/* NULL where it is part of the primary key, which holds it NOT NULL. */
char *
body_fix_drop_not_null(Oid relid, const char *column)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	bool		is_key = bms_is_member(get_attnum(relid, column) - FirstLowInvalidHeapAttributeNumber,
									   RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY));

	relation_close(rel, AccessShareLock);
	return is_key ? NULL : psprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", doctor_relation_name(relid), quote_identifier(column));
}

/* What would make a column that gets no value accept that. */
static char *
fix_no_value(Relation rel, Form_pg_attribute att)
{
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	const char *column = quote_identifier(NameStr(att->attname));
	const char *value = NULL;

	/* a partition's default is not asked for rows that come by the table */
	if (!rel->rd_rel->relispartition && !is_foreign_key_column(rel, att->attnum))
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
	return body_fix_drop_not_null(RelationGetRelid(rel), NameStr(att->attname));
}

static char *
fix_trigger_row(Body *body)
{
	char	   *definition = doctor_definition(pg_get_triggerdef, body->call->trigger);
	char	   *level = definition == NULL ? NULL : strstr(definition, " FOR EACH STATEMENT ");

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
	Oid			domain = att->attnotnull ? InvalidOid : body_domain_not_null(att->atttypid);

	if ((!att->attnotnull && !OidIsValid(domain)) || att->attgenerated || att->attidentity)
		return;
	if (OidIsValid(domain) && (tle == NULL || (IsA(body_strip((Node *) tle->expr), CoerceToDomain) &&
											   body_nullness(body, query, (Node *) tle->expr, &why) == NULL_ALWAYS)))
	{
		if (!body_sets_column(RelationGetRelid(rel), column, query->commandType, InvalidOid))
			body_found(body, DOCTOR_ERROR, ERRCODE_NOT_NULL_VIOLATION, "table", table,
					   psprintf("column %s is of domain %s, which is NOT NULL", quote_identifier(column), format_type_be(domain)),
					   psprintf("The INSERT at %s gives it no value: domain %s does not allow null values.",
								body_where(body), format_type_be(domain)),
					   psprintf("ALTER DOMAIN %s DROP NOT NULL;", format_type_extended(domain, -1, FORMAT_TYPE_FORCE_QUALIFY)));
		return;
	}
	if (OidIsValid(domain))
	{
		if (body_sets_column(RelationGetRelid(rel), column, query->commandType, InvalidOid))
			return;
		n = body_nullness(body, query, (Node *) tle->expr, &why);
		if (n >= NULL_SOMETIMES)
			body_found(body, n == NULL_ALWAYS ? DOCTOR_ERROR : why.severity, ERRCODE_NOT_NULL_VIOLATION, "function", body->name,
					   psprintf("a value that may be null goes into column %s of %s, whose domain is NOT NULL", quote_identifier(column), table),
					   psprintf("At %s: %s. Domain %s does not allow null values.", body_where(body), why.text, format_type_be_qualified(domain)),
					   psprintf("ALTER DOMAIN %s DROP NOT NULL;", format_type_be_qualified(domain)));
		return;
	}
	if (tle == NULL)
	{
		if (body_sets_column(RelationGetRelid(rel), column, query->commandType, InvalidOid))
			return;
		fix = fix_no_value(rel, att);
		detail = psprintf("The INSERT at %s gives it no value: null value in column \"%s\" violates not-null constraint.%s",
						  body_where(body), column,
						  pg_strcasecmp(column, "updatedat") == 0 || pg_strcasecmp(column, "createdat") == 0 ?
						  " An ORM (Prisma's @updatedAt) fills such columns itself; the database does not." : "");
		/* nothing to be changed in the table */
		if (fix == NULL)
			body_found(body, DOCTOR_ERROR, ERRCODE_NOT_NULL_VIOLATION, "function", body->name,
					   psprintf("no value goes into column %s of %s, which is part of the primary key", quote_identifier(column), table), detail, NULL);
		else
			body_found(body, DOCTOR_ERROR, ERRCODE_NOT_NULL_VIOLATION, "table", table,
					   psprintf("column %s is NOT NULL and has no default", quote_identifier(column)), detail, fix);
		return;
	}
	n = body_nullness(body, query, (Node *) tle->expr, &why);
	if (n < NULL_SOMETIMES || body_sets_column(RelationGetRelid(rel), column, query->commandType, InvalidOid))
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
			body_edit_metadata(body, (Node *) tle->expr, "coalesce(", ", '')"))
		{
			body_found_edit(body, severity, ERRCODE_NOT_NULL_VIOLATION, finding, detail);
			return;
		}
		fix = body_fix_drop_not_null(RelationGetRelid(rel), NameStr(att->attname));
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
	if (ref != NULL && body_value_of(body, ref) != NULL)
		return is_local_part(body_value_of(body, ref), body);
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
		if (body_refuses((Node *) stringToNode(constr->check[i].ccbin), attno, value))
		{
			*fix = psprintf("ALTER TABLE %s DROP CONSTRAINT %s;", doctor_relation_name(RelationGetRelid(rel)),
							quote_identifier(constr->check[i].ccname));
			return psprintf("check constraint %s", quote_identifier(constr->check[i].ccname));
		}
	name = body_domain_refuses(TupleDescAttr(RelationGetDescr(rel), attno - 1)->atttypid, value, &domain);
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
	value = body_constant_of(body, query, (Node *) tle->expr, &sometimes);
	node = body_strip((Node *) tle->expr);
	if (node != NULL && IsA(node, CoerceToDomain))
		node = body_strip((Node *) ((CoerceToDomain *) node)->arg);
	ref = body_ref(body, node);
	if (ref != NULL && ref->is_new && ref->field != NULL && strcmp(ref->field, "email") == 0)
	{
		if (!body_sets_column(RelationGetRelid(rel), NameStr(att->attname), query->commandType, InvalidOid))
			(void) check_value(body, query, rel, att, DOCTOR_WARNING, "somebody@example.com", " for one with that address");
		return;
	}
	local = value == NULL && is_local_part((Node *) tle->expr, body);
	field = value == NULL && !local ? body_metadata_field(body, (Node *) tle->expr) : NULL;
	if (field != NULL && body_is_guarded(body, field))
		field = NULL;
	if ((value == NULL && !local && field == NULL) || body_sets_column(RelationGetRelid(rel), NameStr(att->attname), query->commandType, InvalidOid))
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

/* The row that an INSERT makes of a user by email whose metadata has nothing. */
typedef struct Row
{
	Body	   *body;
	Query	   *query;
	Relation	rel;
	bool		always;			/* of any other user too */
	Bitmapset  *nulls;			/* the columns that were found to be null */
} Row;

/* Does the statement leave the column null for such a user, whatever triggers make of it? */
static Nullness
left_null(Body *body, Query *query, Relation rel, AttrNumber attno)
{
	Form_pg_attribute att = attno > 0 ? TupleDescAttr(RelationGetDescr(rel), attno - 1) : NULL;
	TargetEntry *tle = entry_of(query, attno);
	BodyRef    *ref = tle ? body_ref(body, body_strip((Node *) tle->expr)) : NULL;
	Why			why;
	Nullness	n;

	if (att == NULL || att->attgenerated || att->attidentity || att->attisdropped ||
		(ref != NULL && ref->is_new && ref->field != NULL && strcmp(ref->field, "email") == 0))
		return NULL_UNKNOWN;
	if (tle == NULL)
		return NULL_ALWAYS;
	n = body_nullness(body, query, (Node *) tle->expr, &why);
	return n == NULL_SOMETIMES && why.severity > DOCTOR_WARNING ? NULL_UNKNOWN : n;
}

static bool
is_null_column(Row *row, AttrNumber attno)
{
	Nullness	n = left_null(row->body, row->query, row->rel, attno);

	if (n < NULL_SOMETIMES || body_sets_column(RelationGetRelid(row->rel), NameStr(TupleDescAttr(RelationGetDescr(row->rel), attno - 1)->attname), CMD_INSERT, InvalidOid))
		return false;
	row->always = row->always && n == NULL_ALWAYS;
	row->nulls = bms_add_member(row->nulls, attno);
	return true;
}

static bool
is_null_here(Row *row, Node *node)
{
	List	   *args;
	ListCell   *lc;

	node = body_strip(node);
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return is_null_column(row, ((Var *) node)->varattno);
	if (IsA(node, OpExpr) && func_strict(get_opcode(((OpExpr *) node)->opno)))
		args = ((OpExpr *) node)->args;
	else if (IsA(node, FuncExpr) && func_strict(((FuncExpr *) node)->funcid))
		args = ((FuncExpr *) node)->args;
	else
		return false;
	foreach(lc, args)
		if (is_null_here(row, (Node *) lfirst(lc)))
			return true;
	return false;
}

/* What a CHECK is for the row, as far as nulls and constants decide. */
static Truth
truth_of_row(Row *row, Node *check)
{
	ListCell   *lc;
	Truth		this;

	check = body_strip(check);
	if (check == NULL)
		return TRUTH_OPEN;
	if (IsA(check, NullTest))
	{
		if (!is_null_here(row, (Node *) ((NullTest *) check)->arg))
			return TRUTH_OPEN;
		return ((NullTest *) check)->nulltesttype == IS_NULL ? TRUTH_YES : TRUTH_NO;
	}
	if (IsA(check, BoolExpr))
	{
		BoolExpr   *b = (BoolExpr *) check;
		Truth		decides = b->boolop == AND_EXPR ? TRUTH_NO : TRUTH_YES;
		bool		null = false;
		bool		open = false;

		if (b->boolop == NOT_EXPR)
		{
			this = truth_of_row(row, (Node *) linitial(b->args));
			return this == TRUTH_YES ? TRUTH_NO : this == TRUTH_NO ? TRUTH_YES : this;
		}
		foreach(lc, b->args)
		{
			this = truth_of_row(row, (Node *) lfirst(lc));
			if (this == decides)
				return decides;
			null = null || this == TRUTH_NULL;
			open = open || this == TRUTH_OPEN;
		}
		return open ? TRUTH_OPEN : null ? TRUTH_NULL : decides == TRUTH_YES ? TRUTH_NO : TRUTH_YES;
	}
	if (IsA(check, OpExpr) || IsA(check, ScalarArrayOpExpr))
	{
		Node	   *left = body_strip((Node *) linitial(IsA(check, OpExpr) ? ((OpExpr *) check)->args : ((ScalarArrayOpExpr *) check)->args));
		TargetEntry *tle = left && IsA(left, Var) ? entry_of(row->query, ((Var *) left)->varattno) : NULL;
		bool		sometimes;
		char	   *value = tle ? body_constant_of(row->body, row->query, (Node *) tle->expr, &sometimes) : NULL;

		if (is_null_here(row, IsA(check, OpExpr) ? check : left))
			return TRUTH_NULL;
		if (value == NULL || !body_refuses(check, ((Var *) left)->varattno, value))
			return TRUTH_OPEN;
		row->always = row->always && !sometimes;
		return TRUTH_NO;
	}
	return TRUTH_OPEN;
}

/* CHECKs that a row fails for what it has not: those that a single value fails have been told. */
static void
check_row(Body *body, Query *query, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		Node	   *check = (Node *) stringToNode(constr->check[i].ccbin);
		Row			row = {body, query, rel, true, NULL};
		StringInfoData columns;
		ListCell   *lc;
		int			attno = -1;
		bool		told = false;

		if (truth_of_row(&row, check) != TRUTH_NO || row.nulls == NULL)
			continue;
		foreach(lc, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, lc);
			bool		sometimes;
			char	   *value = body_constant_of(body, query, (Node *) tle->expr, &sometimes);

			if (value == NULL && body_metadata_field(body, (Node *) tle->expr) != NULL)
				value = "";
			told = told || (value != NULL && body_refuses(check, tle->resno, value));
		}
		if (told)
			continue;
		initStringInfo(&columns);
		while ((attno = bms_next_member(row.nulls, attno)) >= 0)
			appendStringInfo(&columns, "%s%s", columns.len ? ", " : "", quote_identifier(get_attname(RelationGetRelid(rel), attno, false)));
		body_found(body, row.always ? DOCTOR_ERROR : DOCTOR_WARNING, ERRCODE_CHECK_VIOLATION, "table", doctor_relation_name(RelationGetRelid(rel)),
				   psprintf("check constraint %s refuses a row without %s", quote_identifier(constr->check[i].ccname), columns.data),
				   psprintf("The INSERT at %s leaves %s null%s: new row violates check constraint \"%s\".", body_where(body), columns.data,
							row.always ? "" : " where the user's metadata has nothing", constr->check[i].ccname),
				   psprintf("ALTER TABLE %s DROP CONSTRAINT %s;", doctor_relation_name(RelationGetRelid(rel)), quote_identifier(constr->check[i].ccname)));
	}
}

/* NOT NULL of a column that is generated of others. */
static void
check_generated(Body *body, Query *query, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr != NULL && i < constr->num_defval; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), constr->defval[i].adnum - 1);
		Row			row = {body, query, rel, true, NULL};

		if (att->attgenerated && att->attnotnull && is_null_here(&row, (Node *) stringToNode(constr->defval[i].adbin)))
			body_found(body, row.always ? DOCTOR_ERROR : DOCTOR_WARNING, ERRCODE_NOT_NULL_VIOLATION, "table", doctor_relation_name(RelationGetRelid(rel)),
					   psprintf("column %s is NOT NULL, and generated of a column that may be null", quote_identifier(NameStr(att->attname))),
					   psprintf("The INSERT at %s leaves %s null%s: null value in column \"%s\" violates not-null constraint.", body_where(body),
								quote_identifier(get_attname(RelationGetRelid(rel), bms_next_member(row.nulls, -1), false)),
								row.always ? "" : " where the user's metadata has nothing", NameStr(att->attname)),
					   body_fix_drop_not_null(RelationGetRelid(rel), NameStr(att->attname)));
	}
}

/* What triggers of the table find null in NEW. */
static void
note_nulls(Body *body, Query *query, Relation rel, BodyEffect *effect)
{
	MemoryContext old = MemoryContextSwitchTo(body->cxt);

	for (AttrNumber attno = 1; attno <= RelationGetNumberOfAttributes(rel); attno++)
	{
		Nullness	n = left_null(body, query, rel, attno);

		if (n >= NULL_SOMETIMES)
			effect->nulls = bms_add_member(effect->nulls, attno);
		if (n == NULL_ALWAYS)
			effect->always_null = bms_add_member(effect->always_null, attno);
	}
	MemoryContextSwitchTo(old);
}

/* What whoever comes first makes: the statement, or what stands around it, may ask whether it is there. */
static bool
may_be_made_once(Body *body, Query *query)
{
	return query->onConflict != NULL || query->jointree->fromlist != NIL ||
		(body->conditions > 0 && (body_mentions(body, "exist") || body_mentions(body, "found") || body_mentions(body, "count(")));
}

/* What a text is put together from. */
typedef struct Source
{
	Body	   *body;
	bool		local;			/* the part of an address before the @ */
	bool		otherwise;		/* a constant where metadata has nothing */
} Source;

/* Anything but metadata, the part before the @, constants, and what PostgreSQL's own functions always make of them? */
static bool
is_of_one_user(Node *node, void *context)
{
	Source	   *source = (Source *) context;
	Node	   *value;

	if (node == NULL)
		return false;
	value = body_value_of(source->body, body_ref(source->body, node));
	if (value != NULL)
		return is_of_one_user(value, source);
	if (is_local_part(node, source->body))
	{
		source->local = true;
		return false;
	}
	if (body_metadata_field(source->body, node) != NULL)
		return false;
	if (IsA(node, CoalesceExpr))
	{
		Node	   *last = body_strip((Node *) llast(((CoalesceExpr *) node)->args));

		source->otherwise = source->otherwise || (IsA(last, Const) && !((Const *) last)->constisnull);
	}
	if (IsA(node, FuncExpr) || IsA(node, OpExpr))
	{
		Oid			function = IsA(node, FuncExpr) ? ((FuncExpr *) node)->funcid : get_opcode(((OpExpr *) node)->opno);

		if (function >= FirstNormalObjectId || !OidIsValid(function) || func_volatile(function) != PROVOLATILE_IMMUTABLE)
			return true;
	}
	else if (!IsA(node, Const) && !IsA(node, RelabelType) && !IsA(node, CollateExpr) && !IsA(node, CoerceViaIO) &&
			 !IsA(node, CoalesceExpr) && !IsA(node, NullIfExpr) && !IsA(node, List))
		return true;
	return expression_tree_walker(node, is_of_one_user, context);
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
	Source		source;

	if (tle == NULL || query->onConflict != NULL)
		return;
	expr = body_strip((Node *) tle->expr);
	ref = body_ref(body, expr);
	if (ref != NULL && body_value_of(body, ref) != NULL)
		expr = body_strip(body_value_of(body, ref));
	value = body_constant_of(body, query, expr, &sometimes);
	if (value != NULL && !sometimes && may_be_made_once(body, query))
		return;
	local = is_local_part(expr, body);
	if (IsA(expr, CoalesceExpr))
		local = is_local_part(body_strip((Node *) llast(((CoalesceExpr *) expr)->args)), body);
	field = body_metadata_field(body, expr);
	if (value == NULL && !local && field == NULL)
	{
		memset(&source, 0, sizeof(source));
		source.body = body;
		if (may_be_made_once(body, query) || is_of_one_user(expr, &source) || (!source.local && !source.otherwise))
			return;
		local = source.local;
	}
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
		if (name == NULL || body_sets_column(RelationGetRelid(rel), NameStr(att->attname), query->commandType, InvalidOid))
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
							field != NULL ? psprintf("what the user wrote into metadata as \"%s\"", field) :
							"the same text for everybody whose metadata has nothing", name),
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
	text = body_constant_of(body, query, node, &sometimes);
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
	if (ref != NULL && body_value_of(body, ref) != NULL)
		return text_length(body, query, body_value_of(body, ref), what, always);
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
		if (first_what == NULL || (second_what != NULL && second > first))
			first_what = second_what;
		/* said once, of however many parts */
		if (first_what != NULL)
			*what = strstr(first_what, " with more") ? first_what : psprintf("%s with more", first_what);
		return first + second;
	}
	f = (FuncExpr *) node;
	if (IsA(node, FuncExpr) && f->funcid == F_MD5_TEXT)
	{
		*what = "a hash in hexadecimal digits";
		return 32;
	}
	*always = false;
	if (body_metadata_field(body, node) != NULL && !body_is_guarded(body, body_metadata_field(body, node)))
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
	if (ref != NULL && ref->is_new && ref->field != NULL && strcmp(ref->field, "email") == 0 && !body_is_guarded(body, "email"))
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
	foreach(lc, copyObject(RelationGetFKeyList(rel)))
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
			bool		usable = column != NULL && body_is_readable(body, other) &&
				get_atttype(fk->confrelid, fk->confkey[0]) < FirstNormalObjectId;

			memset(&lookup, 0, sizeof(lookup));
			lookup.owner = other->rd_rel->relowner;
			lookup.table = doctor_relation_name(fk->confrelid);
			lookup.values = list_make1(expr);
			relation_close(other, AccessShareLock);
			if (!usable || body_has_written(body, fk->confrelid) ||
				body_sets_column(RelationGetRelid(rel), NameStr(att->attname), CMD_INSERT, InvalidOid))
				continue;
			lookup.sql = psprintf("SELECT FROM %s AS t WHERE t.%s OPERATOR(pg_catalog.=) $1", lookup.table, quote_identifier(column));
			if (body_lookup_rows(&lookup) > 0)
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

	return body_nullness(body, query, (Node *) tle->expr, &why) >= NULL_SOMETIMES && why.severity <= DOCTOR_WARNING;
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

			if (att == NULL || att->attidentity || att->attgenerated || body_sets_column(RelationGetRelid(rel), NameStr(att->attname), query->commandType, InvalidOid))
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
				body_constant_of(body, query, (Node *) tle->expr, &sometimes) != NULL &&
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
					   body_fix_drop_default(RelationGetRelid(rel), NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname)) : NULL);
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

static bool
is_in_sql(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		result = HeapTupleIsValid(tuple) && ((Form_pg_proc) GETSTRUCT(tuple))->prolang == SQLlanguageId;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/* A row that is inserted, as far as it is known. */
typedef struct NewRow
{
	Query	   *query;
	Relation	rel;
} NewRow;

/* Has the row nothing in the column? */
static bool
is_left_null(const NewRow *row, AttrNumber attno)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(row->rel), attno - 1);
	TargetEntry *tle = entry_of(row->query, attno);
	Node	   *value = tle ? body_strip((Node *) tle->expr) : NULL;

	return !att->attidentity && !att->attgenerated && get_typtype(att->atttypid) != TYPTYPE_DOMAIN &&
		(tle == NULL ? !att->atthasdef : IsA(value, Const) && ((Const *) value)->constisnull) &&
		!body_sets_column(RelationGetRelid(row->rel), NameStr(att->attname), CMD_INSERT, InvalidOid);
}

/*
 * An expression over the row, without the calls of STRICT functions that are
 * given a null of it: they are never made. SQL functions stay, because planning
 * reads those that it can inline before anything is known to be null.
 */
static Node *
strict_mutator(Node *node, void *context)
{
	NewRow	   *row = (NewRow *) context;
	Node	   *result;
	List	   *args = NIL;
	Oid			function = InvalidOid;
	ListCell   *lc;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varattno > 0 && is_left_null(row, ((Var *) node)->varattno))
		return (Node *) makeNullConst(((Var *) node)->vartype, ((Var *) node)->vartypmod, ((Var *) node)->varcollid);
	result = expression_tree_mutator(node, strict_mutator, context);
	if (IsA(result, FuncExpr))
	{
		function = ((FuncExpr *) result)->funcid;
		args = ((FuncExpr *) result)->args;
	}
	else if (IsA(result, OpExpr))
	{
		function = get_opcode(((OpExpr *) result)->opno);
		args = ((OpExpr *) result)->args;
	}
	else if (IsA(result, RelabelType))
		args = list_make1(((RelabelType *) result)->arg);
	else if (IsA(result, CoerceViaIO))
		args = list_make1(((CoerceViaIO *) result)->arg);
	if (OidIsValid(function) && (!func_strict(function) || is_in_sql(function)))
		return result;
	foreach(lc, args)
		if (IsA(lfirst(lc), Const) && ((Const *) lfirst(lc))->constisnull)
			return (Node *) makeNullConst(exprType(result), exprTypmod(result), exprCollation(result));
	return result;
}

/* Functions in constraints, generated columns and indexes of what is written. */
static void
check_table_expression(Body *body, Query *query, Relation rel, const char *expression)
{
	Node	   *node = (Node *) stringToNode(expression);
	NewRow		row;

	row.query = query;
	row.rel = rel;
	if (query->commandType == CMD_INSERT && (query->onConflict == NULL || query->onConflict->action != ONCONFLICT_UPDATE))
		node = strict_mutator(node, &row);
	body_expression(body, node);
}

static void
check_table_expressions(Body *body, Query *query, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	ListCell   *lc;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
		check_table_expression(body, query, rel, constr->check[i].ccbin);
	for (int i = 0; constr != NULL && i < constr->num_defval; i++)
		if (TupleDescAttr(RelationGetDescr(rel), constr->defval[i].adnum - 1)->attgenerated)
			check_table_expression(body, query, rel, constr->defval[i].adbin);
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
				check_table_expression(body, query, rel, TextDatumGetCString(value));
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
		char	   *key;

		/* its table is locked no longer: the key may have been dropped */
		if (awaited->parent == RelationGetRelid(rel) && !awaited->reached && query->onConflict == NULL &&
			(key = get_constraint_name(awaited->key)) != NULL)
		{
			body_found(body, DOCTOR_ERROR, ERRCODE_FOREIGN_KEY_VIOLATION, "table", doctor_relation_name(awaited->child),
					   psprintf("foreign key %s: the row of %s that it refers to is made only afterwards", quote_identifier(key),
								doctor_relation_name(awaited->parent)),
					   psprintf("%s is written before, and %s at %s: insert violates foreign key constraint. Write them the other way round, or have the key wait for the COMMIT.",
								doctor_relation_name(awaited->child), doctor_relation_name(awaited->parent), body_where(body)),
					   psprintf("ALTER TABLE %s ALTER CONSTRAINT %s DEFERRABLE INITIALLY DEFERRED;", doctor_relation_name(awaited->child),
								quote_identifier(key)));
			body->awaited = list_delete_ptr(body->awaited, awaited);
			return;
		}
	}
	if (rel->trigdesc != NULL && rel->trigdesc->trig_insert_before_row)
		return;
	foreach(lc, copyObject(RelationGetFKeyList(rel)))
	{
		ForeignKeyCacheInfo *fk = (ForeignKeyCacheInfo *) lfirst(lc);
		TargetEntry *tle = fk->nkeys == 1 ? entry_of(query, fk->conkey[0]) : NULL;
		BodyRef    *ref = tle ? body_ref(body, body_strip((Node *) tle->expr)) : NULL;
		ListCell   *lc2;
		bool		made = false;
		HeapTuple	tuple;
		bool		deferred = true;
		BodyAwaited *awaited;

		if (ref != NULL && body_value_of(body, ref) != NULL)
			ref = body_ref(body, body_strip(body_value_of(body, ref)));
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
		if (made || deferred || body_mentions(body, "execute"))
			continue;
		old = MemoryContextSwitchTo(body->cxt);
		awaited = (BodyAwaited *) palloc(sizeof(BodyAwaited));
		awaited->child = RelationGetRelid(rel);
		awaited->parent = fk->confrelid;
		awaited->key = fk->conoid;
		awaited->reached = doctor_is_reached(body->doctor, fk->confrelid);
		awaited->where = pstrdup(body_where(body));
		awaited->call = body->call;
		awaited->caught = body_is_caught(body, ERRCODE_FOREIGN_KEY_VIOLATION);
		body->awaited = lappend(body->awaited, awaited);
		MemoryContextSwitchTo(old);
	}
}

/* Does the trigger fire whenever a user is updated? */
static bool
fires_for_each_update(Body *body)
{
	Relation	users;
	bool		result = false;

	if (!TRIGGER_FOR_UPDATE(body->call->trigger_type) || (users = try_relation_open(body->doctor->auth_users, AccessShareLock)) == NULL)
		return false;
	for (int i = 0; users->trigdesc != NULL && i < users->trigdesc->numtriggers; i++)
		if (users->trigdesc->triggers[i].tgoid == body->call->trigger)
			result = users->trigdesc->triggers[i].tgnattr == 0;
	relation_close(users, AccessShareLock);
	return result;
}

/*
 * What a unique index tells the rows of users apart by: their id, and perhaps
 * constants. False: something else is part of it.
 */
static bool
is_one_of_user(Body *body, Query *query, HeapTuple tuple, List **values)
{
	Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);
	bool		by_id = false;

	*values = NIL;
	if (!index->indisunique || !index->indimmediate || !index->indisvalid || !heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < index->indnkeyatts; i++)
	{
		TargetEntry *tle = index->indkey.values[i] > 0 ? entry_of(query, index->indkey.values[i]) : NULL;
		Node	   *value = tle ? body_strip((Node *) tle->expr) : NULL;
		BodyRef    *ref = body_ref(body, value);

		if (ref != NULL && body_value_of(body, ref) != NULL)
			value = body_strip(body_value_of(body, ref));
		/* a column of text holds an id as well */
		if (value != NULL && IsA(value, CoerceViaIO))
			value = body_strip((Node *) ((CoerceViaIO *) value)->arg);
		ref = body_ref(body, value);
		if (ref != NULL && (ref->is_new || ref->is_old) && ref->field != NULL && strcmp(ref->field, "id") == 0)
		{
			by_id = true;
			value = NULL;
		}
		else if (value == NULL || !IsA(value, Const) || ((Const *) value)->constisnull)
			return false;
		*values = lappend(*values, value);
	}
	return by_id;
}

/* A row of the user's that is there already: made by another trigger, or when the user was made. */
static void
check_made(Body *body, Query *query, Relation rel)
{
	int			type = body->call->trigger_type;
	char	   *table = doctor_relation_name(RelationGetRelid(rel));
	ListCell   *lc;
	MemoryContext old;

	/* whoever asks first, or catches it, has thought of it */
	if (body->call->relid != body->doctor->auth_users || body->call->has_condition || !TRIGGER_FOR_ROW(type) ||
		body->conditions > 0 || body->doubts > 0 || body->in_handler || body->dynamic || body_is_caught(body, ERRCODE_UNIQUE_VIOLATION) ||
		query->onConflict != NULL || query->jointree->fromlist != NIL ||
		rel->rd_rules != NULL || (rel->trigdesc != NULL && rel->trigdesc->trig_insert_before_row))
		return;
	foreach(lc, body->effects)
	{
		BodyEffect *e = (BodyEffect *) lfirst(lc);

		if (!e->is_call && e->id == RelationGetRelid(rel) && e->command == CMD_DELETE)
			return;
	}
	foreach(lc, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		char	   *name = get_rel_name(lfirst_oid(lc));
		List	   *values = NIL;
		bool		once = HeapTupleIsValid(tuple) && is_one_of_user(body, query, tuple, &values);
		const BodyMade *first = NULL;
		BodyMade   *made;
		ListCell   *lc2;
		const char *finding = NULL;
		const char *how = NULL;
		const char *advice = NULL;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (!once || name == NULL || table == NULL)
			continue;
		if (TRIGGER_FOR_INSERT(type))
		{
			foreach(lc2, list_concat_copy(body->doctor->made, body->made))
			{
				made = (BodyMade *) lfirst(lc2);
				if (made->index == lfirst_oid(lc) && made->before == TRIGGER_FOR_BEFORE(type) && equal(made->values, values))
					first = made;
			}
			if (first != NULL || body->call->again != NULL)
			{
				finding = psprintf("the row of %s for a new user is made twice: duplicate key", table);
				advice = "Drop the trigger that is one too many";
				how = first != NULL ? psprintf("Trigger %s on auth.users makes it at %s", quote_identifier(first->trigger_name), first->where) :
					psprintf("Triggers %s and %s on auth.users both call it", quote_identifier(body->call->trigger_name), quote_identifier(body->call->again));
			}
		}
		if (finding == NULL && fires_for_each_update(body))
		{
			finding = psprintf("a row of %s is made again with each UPDATE of the user: duplicate key", table);
			how = "The auth server updates users right after it made them, and whenever they log in";
			advice = "Let the trigger fire on INSERT alone";
		}
		if (finding != NULL)
		{
			const char *detail = psprintf("%s; the INSERT at %s then fails: duplicate key value violates unique constraint \"%s\". %s, or let the INSERT pass over what is there (ON CONFLICT DO NOTHING).",
										  how, body_where(body), name, advice);

			/* nothing else that the function does is done twice, either */
			if (first == NULL && body->call->again != NULL && TRIGGER_FOR_INSERT(type))
				body_found(body, DOCTOR_ERROR, ERRCODE_UNIQUE_VIOLATION, "function", body->name, finding, detail,
						   psprintf("DROP TRIGGER %s ON auth.users;", quote_identifier(body->call->again)));
			else if (query->returningList == NIL && body->sql != NULL &&
					 body_edit(body, (int) strlen(body->sql), (int) strlen(body->sql), " on conflict do nothing", "", false))
				body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNIQUE_VIOLATION, finding, detail);
			else
				body_found(body, DOCTOR_ERROR, ERRCODE_UNIQUE_VIOLATION, "function", body->name, finding, detail, NULL);
			return;
		}
		if (!TRIGGER_FOR_INSERT(type))
			continue;
		old = MemoryContextSwitchTo(body->cxt);
		made = (BodyMade *) palloc(sizeof(BodyMade));
		made->index = lfirst_oid(lc);
		made->values = copyObject(values);
		made->before = TRIGGER_FOR_BEFORE(type);
		made->where = pstrdup(body_where(body));
		made->trigger_name = body->call->trigger_name;
		body->made = lappend(body->made, made);
		MemoryContextSwitchTo(old);
	}
}

/* Of a view WITH CHECK OPTION: a constant that it would not show. */
static void
check_view_options(Body *body, Query *query)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, query->withCheckOptions)
	{
		WithCheckOption *option = lfirst_node(WithCheckOption, lc);

		if (option->kind != WCO_VIEW_CHECK)
			continue;
		foreach(lc2, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, lc2);
			bool		sometimes;
			char	   *value = tle->resjunk ? NULL : body_constant_of(body, query, (Node *) tle->expr, &sometimes);

			if (value == NULL || !body_refuses(option->qual, tle->resno, value))
				continue;
			body_found(body, sometimes ? DOCTOR_WARNING : DOCTOR_ERROR, ERRCODE_WITH_CHECK_OPTION_VIOLATION, "function", body->name,
					   psprintf("the check option of view %s refuses what the body writes through it", quote_identifier(option->relname)),
					   psprintf("At %s '%s' is written into it%s: new row violates check option for view \"%s\".", body_where(body), value,
								sometimes ? ", where the user's metadata has nothing" : "", option->relname),
					   NULL);
		}
	}
}

/* NOT NULL that only the partitions have, but each of them; the defaults of a row that comes by the table are the table's. */
static void
check_partitions(Body *body, Query *query, Relation rel)
{
	List	   *partitions = body_partitions(RelationGetRelid(rel));

	for (AttrNumber attno = 1; attno <= RelationGetNumberOfAttributes(rel); attno++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
		List	   *refuse = NIL;
		bool		everywhere = true;
		ListCell   *lc;

		if (att->attisdropped || att->attnotnull)
			continue;
		foreach(lc, partitions)
		{
			HeapTuple	tuple = get_rel_relkind(lfirst_oid(lc)) == RELKIND_PARTITIONED_TABLE ? NULL :
				SearchSysCacheAttName(lfirst_oid(lc), NameStr(att->attname));

			if (!HeapTupleIsValid(tuple))
				continue;
			everywhere = everywhere && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
			ReleaseSysCache(tuple);
			refuse = lappend_oid(refuse, lfirst_oid(lc));
		}
		foreach(lc, everywhere ? refuse : NIL)
		{
			Relation	partition = try_relation_open(lfirst_oid(lc), AccessShareLock);
			AttrNumber	number = partition ? get_attnum(lfirst_oid(lc), NameStr(att->attname)) : InvalidAttrNumber;

			if (number != InvalidAttrNumber)
				check_not_null(body, query, partition, TupleDescAttr(RelationGetDescr(partition), number - 1), entry_of(query, attno));
			if (partition != NULL)
				relation_close(partition, AccessShareLock);
		}
	}
}

void
body_check_write(Body *body, Query *query)
{
	RangeTblEntry *rte;
	Relation	rel;
	Bitmapset  *columns = NULL;
	BodyEffect *effect;
	ListCell   *lc;

	if (query->resultRelation == 0 || query->commandType == CMD_SELECT)
		return;
	rte = rt_fetch(query->resultRelation, query->rtable);
	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_MATVIEW)
		body_found(body, DOCTOR_ERROR, ERRCODE_WRONG_OBJECT_TYPE, "function", body->name,
				   psprintf("a statement fails: cannot change materialized view %s", doctor_relation_name(rte->relid)),
				   psprintf("At %s.", body_where(body)), NULL);
	/* of a view what is left here are its INSTEAD OF triggers: otherwise it is its table that is written */
	if (rte->rtekind == RTE_RELATION && (rte->relkind == RELKIND_FOREIGN_TABLE || rte->relkind == RELKIND_VIEW))
		body_writes(body, rte->relid, query->commandType, NULL, false);
	if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && query->commandType == CMD_INSERT)
	{
		rel = relation_open(rte->relid, AccessShareLock);
		note_nulls(body, query, rel, (BodyEffect *) llast(body->effects));
		relation_close(rel, AccessShareLock);
	}
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
	effect = (BodyEffect *) llast(body->effects);
	if (query->commandType == CMD_INSERT && query->onConflict != NULL && query->onConflict->action == ONCONFLICT_UPDATE)
		body_writes(body, rte->relid, CMD_UPDATE, NULL, false);
	if (query->commandType == CMD_DELETE)
		return;
	check_view_options(body, query);
	rel = relation_open(rte->relid, AccessShareLock);
	check_table_expressions(body, query, rel);
	if (query->commandType == CMD_INSERT && rte->relkind == RELKIND_PARTITIONED_TABLE)
		check_partitions(body, query, rel);
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
		check_made(body, query, rel);
		check_row(body, query, rel);
		check_generated(body, query, rel);
		if (rel->trigdesc != NULL)
			note_nulls(body, query, rel, effect);
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
