/*-------------------------------------------------------------------------
 *
 * sync_target.c
 *	  The table of a target as it is now, and the texts of the statements kept
 *	  for it.
 *
 * The number of the table leads, whatever it is called, and where the table is
 * gone its name does. Whoever owns it may have changed it since it was added, so
 * it is checked each time before anything is written. The statements are built
 * from the catalogs, and anew when the relcache has had a word about the table.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "parser/parse_oper.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

/* ---------------------------------------------------------------------
 * The table
 * ---------------------------------------------------------------------
 */

/* What the target is called now; the remembered name where it is gone. */
const char *
sync_target_display(const Target *t)
{
	char	   *table = t->same_database && OidIsValid(t->relid) ? get_rel_name(t->relid) : NULL;
	char	   *schema = table ? get_namespace_name(get_rel_namespace(t->relid)) : NULL;

	if (schema != NULL)
		return quote_qualified_identifier(schema, table);
	return quote_qualified_identifier(t->schema, t->table);
}

char *
sync_relation_display(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/*
 * Find the relation that this target means now. While it exists under its
 * number that number leads, whatever it is called; a number that came with a
 * dump is only believed where the name agrees. When it is gone, a table that
 * took its name takes its place.
 */
static Relation
open_target(Target *t, LOCKMODE lockmode)
{
	Relation	rel = NULL;

	if (OidIsValid(t->relid))
	{
		rel = try_relation_open(t->relid, lockmode);
		if (rel != NULL && !t->same_database)
		{
			char	   *nsp = get_namespace_name(RelationGetNamespace(rel));

			if (nsp == NULL || strcmp(nsp, t->schema) != 0 ||
				strcmp(RelationGetRelationName(rel), t->table) != 0)
			{
				relation_close(rel, lockmode);
				rel = NULL;
			}
		}
	}
	if (rel == NULL)
	{
		Oid			nsp = get_namespace_oid(t->schema, true);
		Oid			relid = OidIsValid(nsp) ? get_relname_relid(t->table, nsp) : InvalidOid;

		if (OidIsValid(relid))
			rel = try_relation_open(relid, lockmode);
		if (rel == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("target %s does not exist", sync_target_display(t)),
					 errhint("Create it again, or forget it with invite_sync.drop_target().")));

		/* it takes the place of the other only if it fits */
		if (relid != t->relid)
		{
			int			att = SPI_fnumber(RelationGetDescr(rel), t->key);

			for (int i = 0; sync_registry != NULL && i < sync_registry->ntargets; i++)
				if (sync_registry->targets[i].id != t->id && sync_registry->targets[i].relid == relid &&
					sync_registry->targets[i].same_database)
					ereport(ERROR,
							(errcode(ERRCODE_UNDEFINED_TABLE),
							 errmsg("target %s does not exist, and its name belongs to another target now",
									sync_target_display(t)),
							 errhint("Forget it with invite_sync.drop_target().")));
			sync_check_target_kind(rel);
			if (att <= 0 || TupleDescAttr(RelationGetDescr(rel), att - 1)->atttypid != UUIDOID ||
				!sync_has_key_index(rel, att))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
						 errmsg("table %s was created again without a unique uuid column %s",
								sync_target_display(t), quote_identifier(t->key)),
						 errhint("Add it, or call invite_sync.set_target() with another key.")));
		}
		t->relid = relid;
	}
	return rel;
}

/*
 * What a table must be to be written by us. Named one by one, since each has
 * another remedy.
 */
void
sync_check_target_kind(Relation rel)
{
	const char *why = NULL;
	const char *hint = NULL;
	char	   *nsp = get_namespace_name_or_temp(RelationGetNamespace(rel));

	if (rel->rd_rel->relkind == RELKIND_VIEW || rel->rd_rel->relkind == RELKIND_MATVIEW)
	{
		why = "it is a view";
		hint = "Name the table under the view.";
	}
	else if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
	{
		why = "it is a foreign table";
		hint = "Sync to a local table, and copy from there.";
	}
	else if (rel->rd_rel->relkind != RELKIND_RELATION &&
			 rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
	{
		why = "it is not a table";
		hint = "A target is an ordinary or a partitioned table.";
	}
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
	{
		why = "it is a temporary table";
		hint = "Other sessions cannot write to it; create a permanent table.";
	}
	else if (nsp != NULL && (strcmp(nsp, "auth") == 0 || strcmp(nsp, "invite_sync") == 0))
	{
		why = "it belongs to the auth server or to this extension";
		hint = "Name a table of your application, for example public.profiles.";
	}
	else if (IsSystemRelation(rel) ||
			 (nsp != NULL && (strcmp(nsp, "information_schema") == 0 ||
							  strncmp(nsp, "pg_", 3) == 0)))
	{
		why = "it is a system table";
		hint = "Name a table of your application, for example public.profiles.";
	}
	else if (OidIsValid(getExtensionOfObject(RelationRelationId, RelationGetRelid(rel))))
	{
		why = "it belongs to an extension";
		hint = "Name a table of your application, for example public.profiles.";
	}
	else if (rel->rd_rel->relispartition)
	{
		why = "it is a partition";
		hint = "Name the partitioned table above it.";
	}
	else if (rel->rd_rules != NULL)
	{
		why = "it has rules";
		hint = "Replace the rules by triggers.";
	}
	else if (rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rel->relhassubclass &&
			 has_subclass(RelationGetRelid(rel)) &&
			 find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
	{
		why = "other tables inherit from it";
		hint = "Use a partitioned table, or a table without children.";
	}

	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s cannot be a target: %s",
						quote_qualified_identifier(nsp, RelationGetRelationName(rel)), why),
				 errhint("%s", hint)));
}

/*
 * Is there a unique index that ON CONFLICT (key) can rest on? A deferrable one
 * on the same column spoils it: PostgreSQL then takes neither.
 */
bool
sync_has_key_index(Relation rel, AttrNumber attnum)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	bool		found = false;
	bool		spoiled = false;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisunique && form->indisvalid &&
			form->indnkeyatts == 1 && form->indkey.values[0] == attnum &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL))
		{
			if (form->indimmediate)
				found = true;
			else
				spoiled = true;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found && !spoiled;
}

/* May this mapping still write to the table, or has it passed to others? */
static void
check_definer(const Target *t, Oid owner)
{
	Oid			definer = get_role_oid(t->definer, true);

	if (!OidIsValid(definer) || !has_privs_of_role(definer, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\", who defined the mapping, is not a member of the owner of %s",
						t->definer, sync_target_display(t)),
				 errhint("Let a member of the table's owner call invite_sync.set_target().")));
}

/*
 * Whoever may create a trigger on the table would run as its owner inside
 * every signup; so the owner must not be a superuser.
 */
void
sync_check_owner(Oid owner, const char *display)
{
	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s belongs to a superuser", display),
				 errdetail("Its defaults and triggers would run as that superuser inside every signup."),
				 errhint("Give it to the application's role: ALTER TABLE %s OWNER TO ...;", display)));
}

/* ---------------------------------------------------------------------
 * The texts of the statements
 * ---------------------------------------------------------------------
 */

typedef struct ColumnText
{
	char	   *quoted;
	char	   *cast;			/* type without modifier: a too long value must fail */
	char	   *full;			/* type with modifier, for comparing */
	char	   *collate;		/* "" or COLLATE clause */
	bool		comparable;
	char	   *fallback;		/* default expression, or NULL */
	MapColumn  *map;
	char	   *literal;		/* the column's name as a literal */
} ColumnText;

static void
append_difference(StringInfo buf, const ColumnText *c, int i)
{
	if (c->comparable)
		appendStringInfo(buf, "(s.c%d)::%s%s IS DISTINCT FROM t.%s",
						 i, c->full, c->collate, c->quoted);
	else
		appendStringInfo(buf, "(s.c%d)::%s::pg_catalog.text IS DISTINCT FROM t.%s::pg_catalog.text",
						 i, c->full, c->quoted);
}

/*
 * When may column i be set over a row that exists? with_old: s.o<i> holds the
 * expression's value before the UPDATE of auth.users.
 */
static void
append_condition(StringInfo buf, const ColumnText *c, int i, bool with_old)
{
	appendStringInfo(buf, "(s.c%d IS NOT NULL AND (t.%s IS NULL OR %s OPERATOR(pg_catalog.=) ANY ($1)",
					 i, c->quoted, c->literal);
	if (with_old && c->map->policy == POLICY_ALWAYS)
	{
		if (c->comparable)
			appendStringInfo(buf, " OR s.c%d IS DISTINCT FROM s.o%d", i, i);
		else
			appendStringInfo(buf, " OR s.c%d::pg_catalog.text IS DISTINCT FROM s.o%d::pg_catalog.text", i, i);
	}
	appendStringInfoString(buf, "))");
}

/* Addresses are compared trimmed, with ASCII letters folded and no others. */
#define FOLD(column) \
	"pg_catalog.lower(pg_catalog.btrim(" column "::pg_catalog.text) COLLATE pg_catalog.\"C\")"

/* May this column hold an address, or what else auth.users knows of somebody? */
static bool
holds_user_data(const Target *t, const char *column)
{
	if (t->link_by != NULL && strcmp(column, t->link_by) == 0)
		return true;
	for (int i = 0; i < t->ncolumns; i++)
		if (strcmp(column, t->columns[i].name) == 0)
			return true;
	return false;
}

/*
 * What names a row of the target in an event: its primary key, as text, but for
 * what an event must not show.
 */
static char *
primary_key_text(const Target *t, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	StringInfoData buf;

	initStringInfo(&buf);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisprimary)
			for (int i = 0; i < index->rd_index->indnkeyatts; i++)
			{
				char	   *column = NameStr(TupleDescAttr(RelationGetDescr(rel),
														   index->rd_index->indkey.values[i] - 1)->attname);

				if (!holds_user_data(t, column))
					appendStringInfo(&buf, "%st.%s::pg_catalog.text", buf.len > 0 ? ", " : "",
									 quote_identifier(column));
			}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (buf.len == 0)
		return psprintf("t.%s::pg_catalog.text", quote_identifier(t->key));
	return psprintf("pg_catalog.concat_ws(',', %s)", buf.data);
}

/* ", x.email, x.phone": the columns of auth.users that the mapping reads. */
static char *
source_columns(const Target *t)
{
	StringInfoData buf;
	List	   *seen = NIL;

	initStringInfo(&buf);
	for (int c = 0; c < t->ncolumns; c++)
	{
		bool		identity = sync_reads_identity(&t->columns[c]);

		for (int s = 0; s < t->columns[c].nsources; s++)
		{
			char	   *name = t->columns[c].sources[s];
			ListCell   *lc;
			bool		known = strcmp(name, "id") == 0 ||
				(identity && (strcmp(name, "identity_provider") == 0 ||
							  strcmp(name, "identity_provider_id") == 0));

			foreach(lc, seen)
				known = known || strcmp((char *) lfirst(lc), name) == 0;
			if (known)
				continue;
			seen = lappend(seen, name);
			appendStringInfo(&buf, ", x.%s", quote_identifier(name));
		}
	}
	return buf.data;
}

/*
 * Is "=" under the target's search_path what the type itself means by it? Else,
 * or where it has none, values are compared as text.
 */
static bool
is_comparable(Oid type)
{
	Oid			eq_opr = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	Operator	op;
	bool		result;

	if (!OidIsValid(eq_opr))
		return false;
	op = oper(NULL, list_make1(makeString("=")), type, type, true, -1);
	if (op == NULL)
		return false;
	result = oprid(op) == eq_opr;
	ReleaseSysCache(op);
	return result;
}

/*
 * Build the texts of the kept statements. Runs in the target's scope, whose
 * search_path decides how defaults and types are spelled.
 */
static void
build_statements(Target *t, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel));
	const char *key = quote_identifier(t->key);
	List	   *context = deparse_context_for(RelationGetRelationName(rel), RelationGetRelid(rel));
	ColumnText *cols = palloc0(sizeof(ColumnText) * Max(t->ncolumns, 1));
	int			ncols = 0;
	StringInfoData source,
				names,
				values,
				sets,
				changes,
				differs,
				olds,
				empties,
				report,
				numbered,
				buf;
	ArrayBuildState *always = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ArrayBuildState *updatable = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	char	   *always_text;
	char	   *updatable_text;
	MemoryContext old;

	for (int i = 0; i < t->ncolumns; i++)
	{
		MapColumn  *mc = &t->columns[i];
		int			attnum = SPI_fnumber(desc, mc->name);
		Form_pg_attribute att;
		ColumnText *c;
		Node	   *def;

		if (attnum <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of target %s does not exist", mc->name, name),
					 err_generic_string(PG_DIAG_COLUMN_NAME, mc->name),
					 errhint("Add the column, or leave it out with invite_sync.set_target(target, mapping => ...).")));
		att = TupleDescAttr(desc, attnum - 1);

		/* PostgreSQL computes these itself */
		if (att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			continue;

		c = &cols[ncols++];
		c->map = mc;
		c->quoted = pstrdup(quote_identifier(mc->name));
		c->literal = quote_literal_cstr(mc->name);
		c->cast = format_type_extended(att->atttypid, -1,
									   FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
		c->full = format_type_extended(att->atttypid, att->atttypmod,
									   FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
		c->comparable = is_comparable(att->atttypid);
		c->collate = "";
		if (OidIsValid(att->attcollation))
		{
			HeapTuple	coll = SearchSysCache1(COLLOID, ObjectIdGetDatum(att->attcollation));

			if (HeapTupleIsValid(coll))
			{
				Form_pg_collation form = (Form_pg_collation) GETSTRUCT(coll);

				c->collate = psprintf(" COLLATE %s",
									  quote_qualified_identifier(get_namespace_name(form->collnamespace),
																 NameStr(form->collname)));
				ReleaseSysCache(coll);
			}
		}
		/* a NULL from the expression must not displace the column's default */
		def = build_column_default(rel, attnum);
		if (def != NULL)
			c->fallback = deparse_expression(def, context, false, false);
	}

	initStringInfo(&source);
	initStringInfo(&names);
	initStringInfo(&values);
	initStringInfo(&sets);
	initStringInfo(&changes);
	initStringInfo(&differs);
	initStringInfo(&olds);
	initStringInfo(&empties);
	initStringInfo(&report);

	appendStringInfoString(&source, "SELECT users.id AS k");
	appendStringInfoString(&names, key);
	appendStringInfoString(&values, "s.k");
	for (int i = 0; i < ncols; i++)
	{
		ColumnText *c = &cols[i];

		/* the newline ends a comment that the expression may end with */
		appendStringInfo(&source, ", ((%s\n)::%s%s) AS c%d",
						 c->map->expression, c->cast, c->collate, i);
		appendStringInfo(&names, ", %s", c->quoted);
		if (c->fallback != NULL)
			appendStringInfo(&values, ", coalesce(s.c%d, %s)", i, c->fallback);
		else
			appendStringInfo(&values, ", s.c%d", i);

		appendStringInfo(&report, "%s(%s, t.%s::pg_catalog.text, s.c%d::pg_catalog.text, ",
						 report.len > 0 ? ", " : "", c->literal, c->quoted, i);
		append_difference(&report, c, i);
		appendStringInfo(&report, ", CASE WHEN t.%s IS NULL AND '%s' <> 'never' THEN 'filled' WHEN '%s' = 'always' THEN 'overwritten' ELSE 'kept' END)",
						 c->quoted, sync_policy_to_text(c->map->policy), sync_policy_to_text(c->map->policy));

		if (c->map->policy == POLICY_NEVER)
			continue;
		appendStringInfo(&empties, " OR t.%s IS NULL", c->quoted);
		accumArrayResult(updatable, CStringGetTextDatum(c->map->name), false, TEXTOID, CurrentMemoryContext);
		if (c->map->policy == POLICY_ALWAYS)
			accumArrayResult(always, CStringGetTextDatum(c->map->name), false, TEXTOID, CurrentMemoryContext);
		if (sets.len > 0)
		{
			appendStringInfoString(&sets, ", ");
			appendStringInfoString(&changes, " OR ");
			appendStringInfoString(&differs, " OR ");
		}
		appendStringInfo(&sets, "%s = CASE WHEN ", c->quoted);
		append_condition(&sets, c, i, true);
		appendStringInfo(&sets, " THEN s.c%d ELSE t.%s END", i, c->quoted);

		appendStringInfoChar(&changes, '(');
		append_condition(&changes, c, i, true);
		appendStringInfoString(&changes, " AND ");
		append_difference(&changes, c, i);
		appendStringInfoChar(&changes, ')');

		appendStringInfoChar(&differs, '(');
		append_condition(&differs, c, i, false);
		appendStringInfoString(&differs, " AND ");
		append_difference(&differs, c, i);
		appendStringInfoChar(&differs, ')');

		if (c->map->policy == POLICY_ALWAYS)
			appendStringInfo(&olds, ", pg_catalog.lag(p.c%d) OVER (%s) AS o%d", i,
							 t->uses_identity ? "ORDER BY p.n" : "", i);
	}
	if (t->uses_identity)
	{
		/* a join loses the order of OLD and NEW, so they are numbered before it */
		initStringInfo(&numbered);
		appendStringInfo(&numbered, "%s, users.n FROM (SELECT x.id%s, pg_catalog.row_number() OVER () AS n FROM %s AS x) AS users" IDENTITY_JOIN,
						 source.data, source_columns(t), SOURCE_NAME);
	}
	appendStringInfo(&source, " FROM %s AS users%s", SOURCE_NAME,
					 t->uses_identity ? IDENTITY_JOIN : "");

	always_text = OidOutputFunctionCall(F_ARRAY_OUT, makeArrayResult(always, CurrentMemoryContext));
	updatable_text = OidOutputFunctionCall(F_ARRAY_OUT, makeArrayResult(updatable, CurrentMemoryContext));

	old = MemoryContextSwitchTo(t->cxt);
	t->always_columns = pstrdup(always_text);
	t->updatable_columns = pstrdup(updatable_text);

	t->candidates_sql = psprintf("SELECT i.id, (t.%s IS NULL) FROM %s AS i LEFT JOIN %s AS t ON t.%s = i.id "
								 "WHERE t.%s IS NULL%s",
								 key, IDS_NAME, name, key, key, empties.data);
	t->report_sql = NULL;
	if (report.len > 0)
		t->report_sql = psprintf("SELECT s.k, v.column_name, v.current_value, v.auth_value, v.verdict "
								 "FROM (%s) AS s JOIN %s AS t ON t.%s = s.k "
								 "CROSS JOIN LATERAL (VALUES %s) AS v (column_name, current_value, auth_value, differs, verdict) "
								 "WHERE v.differs AND v.auth_value IS NOT NULL",
								 source.data, name, key, report.data);

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s AS t (%s) SELECT %s FROM (%s) AS s",
					 name, names.data, values.data, source.data);
	t->insert_sql = buf.data;

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s AS t (%s) SELECT %s FROM (%s) AS s "
					 "WHERE NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.%s = s.k) "
					 "ON CONFLICT (%s) DO NOTHING",
					 name, names.data, values.data, source.data, name, key, key);
	t->missing_sql = buf.data;

	t->update_sql = NULL;
	if (sets.len > 0)
	{
		/* source_users holds OLD and NEW of each user in turn; keep NEW */
		initStringInfo(&buf);
		appendStringInfo(&buf, "UPDATE %s AS t SET %s FROM (SELECT p.*%s%s FROM (%s) AS p) AS s "
						 "WHERE s.n OPERATOR(pg_catalog.%%) 2::pg_catalog.int8 OPERATOR(pg_catalog.=) 0::pg_catalog.int8 "
						 "AND t.%s = s.k AND (%s)",
						 name, sets.data, olds.data,
						 t->uses_identity ? "" : ", pg_catalog.row_number() OVER () AS n",
						 t->uses_identity ? numbered.data : source.data, key, changes.data);
		t->update_sql = buf.data;
	}

	t->claim_sql = t->pending_sql = NULL;
	if (t->link_by != NULL)
	{
		const char *link = quote_identifier(t->link_by);
		char	   *people = psprintf("SELECT users.id AS k, " FOLD("users.email") " AS e FROM %s AS users", SOURCE_NAME);

		/* exactly one row that nobody has yet, for somebody who has none yet */
		t->claim_sql = psprintf("UPDATE %s AS t SET %s = s.k FROM (%s) AS s "
								"WHERE t.%s IS NULL AND " FOLD("t.%s") " = s.e AND s.k = ANY ($1) "
								"AND NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.%s = s.k) "
								"AND NOT EXISTS (SELECT 1 FROM %s AS y WHERE y.%s IS NULL AND " FOLD("y.%s") " = s.e AND y.ctid <> t.ctid) "
								"RETURNING t.%s, %s",
								name, key, people, key, link, name, key, name, key, link, key,
								primary_key_text(t, rel));
		t->pending_sql = psprintf("SELECT s.k = ANY ($1) FROM (%s) AS s WHERE NOT (s.k = ANY ($2)) "
								  "AND NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.%s = s.k) "
								  "AND EXISTS (SELECT 1 FROM %s AS y WHERE y.%s IS NULL AND " FOLD("y.%s") " = s.e) LIMIT 1",
								  people, name, key, name, key, link);
	}

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT s.k, (t.%s IS NULL) FROM (%s) AS s LEFT JOIN %s AS t ON t.%s = s.k "
					 "WHERE t.%s IS NULL%s%s%s",
					 key, source.data, name, key, key,
					 differs.len > 0 ? " OR (" : "", differs.data, differs.len > 0 ? ")" : "");
	t->check_sql = buf.data;

	MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------------
 * Making them ready
 * ---------------------------------------------------------------------
 */

static SavedPlan deferred_plan = {
	.sql = "SELECT n.nspname, c.conname, NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint AS d "
	"WHERE d.connamespace = c.connamespace AND d.conname = c.conname AND NOT d.condeferrable), "
	"c.conrelid = $1 AND c.confrelid = $2 "
	"FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace "
	"WHERE c.condeferred AND (c.conrelid = $1 OR c.confrelid = $1) ORDER BY 1, 2",
	.nargs = 2,
	.argtypes = {OIDOID, OIDOID}
};

void
sync_find_deferred_constraints(Target *t)
{
	Scope		scope;
	Datum		values[2];

	values[0] = ObjectIdGetDatum(t->relid);
	values[1] = ObjectIdGetDatum(caller_auth_users_relid(true));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&deferred_plan, values, NULL, true, 0);
	scope_leave(&scope);
	t->ndeferred = 0;
	t->deferred = MemoryContextAllocZero(t->cxt, sizeof(DeferredConstraint) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		DeferredConstraint *d = &t->deferred[t->ndeferred++];
		bool		isnull;

		d->schema = MemoryContextStrdup(t->cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
		d->name = MemoryContextStrdup(t->cxt, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
		d->redefer = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
		d->to_auth = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 4, &isnull));
	}
	SPI_finish();
}

/*
 * The target's relation, checked to be one that we may write to, and who owns
 * it. Called inside the subtransaction, with lock waits bounded. When lockmode
 * is AccessShareLock nothing is going to be written (a standby allows no more).
 * The lock stays until the (sub)transaction ends.
 */
Relation
sync_locate_target(Target *t, LOCKMODE lockmode)
{
	Relation	rel = open_target(t, lockmode);

	sync_check_target_kind(rel);
	t->owner = rel->rd_rel->relowner;
	sync_check_owner(t->owner, sync_target_display(t));
	check_definer(t, t->owner);
	return rel;
}

/* Make the kept statements, if anything about the table has changed since. */
void
sync_prepare_target(Target *t, LOCKMODE lockmode)
{
	Relation	rel;
	Scope		scope;
	uint64		seen;

	if (t->built && t->built_at == t->invalidations)
	{
		/* memberships and attributes of roles change without a word */
		sync_check_owner(t->owner, t->table);
		check_definer(t, t->owner);
		return;
	}

	rel = sync_locate_target(t, lockmode);
	seen = t->invalidations;

	t->built = false;
	plan_retire(t->insert_plan);
	plan_retire(t->update_plan);
	plan_retire(t->missing_plan);
	plan_retire(t->check_plan);
	plan_retire(t->claim_plan);
	plan_retire(t->pending_plan);
	t->insert_plan = t->update_plan = t->missing_plan = t->check_plan = NULL;
	t->claim_plan = t->pending_plan = NULL;
	if (t->cxt != NULL)
		plan_retire_context(t->cxt);
	t->cxt = NULL;
	t->cxt = AllocSetContextCreate(t->home, "invite_sync target", ALLOCSET_SMALL_SIZES);

	sync_find_deferred_constraints(t);
	scope_enter_target(&scope, t->owner, t->search_path);
	build_statements(t, rel);
	scope_leave(&scope);

	relation_close(rel, NoLock);
	t->built_at = seen;
	t->built = true;
}

/* Can the text of our statements be what is wrong? */
bool
sync_names_something(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		sqlerrcode == ERRCODE_INVALID_SCHEMA_NAME;
}

/*
 * For what only asks by the kept statements. What they name may have been
 * renamed without a word about the table: then they are made anew, once.
 */
bool
sync_ask_target(ContainedFn fn, void *arg, Target *t, bool keep, Failure **failure)
{
	bool		kept = t->built && t->built_at == t->invalidations;

	if (sync_run_contained(fn, arg, keep, failure))
		return true;
	if (!kept || !sync_names_something((*failure)->sqlerrcode))
		return false;
	t->built = false;
	return sync_run_contained(fn, arg, keep, failure);
}

/* ---------------------------------------------------------------------
 * What targets are called
 * ---------------------------------------------------------------------
 */

static SavedPlan rename_plan = {
	.sql = "UPDATE invite_sync.target AS t SET relation = $2::pg_catalog.regclass, relation_number = $2, schema_name = $3, table_name = $4, "
	"registered_in = $5 WHERE t.id = $1",
	.nargs = 5,
	.argtypes = {INT8OID, OIDOID, NAMEOID, NAMEOID, TEXTOID}
};

/*
 * Write down what targets are called now. Only roads that are not a trigger do:
 * two signups must never write the same row.
 */
void
sync_refresh_names(void)
{
	char	   *lineage;
	Registry   *reg;

	sync_load_registry_for_caller(sync_load_registry, NULL);
	lineage = caller_lineage(InvalidSnapshot);
	reg = sync_registry;
	plan_hold();
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		Oid			relid = t->relid;
		char	   *table = OidIsValid(relid) ? get_rel_name(relid) : NULL;
		char	   *schema = table ? get_namespace_name(get_rel_namespace(relid)) : NULL;
		bool		same_name = schema != NULL && strcmp(schema, t->schema) == 0 &&
			strcmp(table, t->table) == 0;
		Scope		scope;
		Datum		args[5];

		if (same_name && t->stamped)
			continue;
		if (schema == NULL || (!t->same_database && !same_name))
		{
			Oid			nsp = get_namespace_oid(t->schema, true);

			relid = OidIsValid(nsp) ? get_relname_relid(t->table, nsp) : InvalidOid;
			if (!OidIsValid(relid))
				continue;
			schema = t->schema;
			table = t->table;
		}
		args[0] = Int64GetDatum(t->id);
		args[1] = ObjectIdGetDatum(relid);
		args[2] = plan_name(schema);
		args[3] = plan_name(table);
		args[4] = CStringGetTextDatum(lineage);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&rename_plan, args, NULL, false, 0);
		scope_leave(&scope);
		SPI_finish();
	}
	plan_release();
}
