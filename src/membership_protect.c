/*-------------------------------------------------------------------------
 *
 * membership_protect.c
 *	  Row level security on an application's tables, by organization.
 *
 * protect_table() writes the policies that the documentation recommends, and
 * remembers that it did, so that configuration can be kept in git and taken
 * back. The statements run as the table's owner, who can do the same by hand
 * with what protect_table(execute => false) returns.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "caller.h"
#include "event.h"
#include "membership.h"
#include "plan.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(membership_protect_table);
PG_FUNCTION_INFO_V1(membership_unprotect_table);

/* As in SYNC_POLICY_NAMES, by which uninstall_plan() knows them. */
static const char *const policy_names[] = {
	"invite_sync_select", "invite_sync_insert", "invite_sync_update", "invite_sync_delete"
};

/* The table that is asked for, and what can be said against it. */
typedef struct Table
{
	Oid			relid;
	Oid			owner;
	bool		row_security;
	char	   *schema_name;
	char	   *table_name;
	char	   *display;		/* quoted and qualified */
} Table;

/* What we know of it and what it looks like. */
typedef struct Protection
{
	bool		recorded;
	bool		same_arguments;
	bool		enabled_here;	/* row level security was off before us */
	char	   *recorded_definition;
	char	   *definition;		/* of our policies, as the catalogs have them */
	bool		policy[4];		/* ours that exist */
	char	   *others;			/* permissive policies of others */
	bool		any_other;		/* policies of others, of either kind */
	bool		indexed;
} Protection;

/*
 * With policies on a table of the auth server nobody finds themselves there any
 * more, and nobody signs in. Those that stand there all the same can be taken back.
 */
static void
look_at_table(Oid relid, bool protecting, Table *table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	char		relkind;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", relid)));
	form = (Form_pg_class) GETSTRUCT(tuple);
	table->relid = relid;
	table->owner = form->relowner;
	table->row_security = form->relrowsecurity;
	table->schema_name = get_namespace_name(form->relnamespace);
	table->table_name = pstrdup(NameStr(form->relname));
	relkind = form->relkind;
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		relkind = 't';
	ReleaseSysCache(tuple);
	if (table->schema_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", relid)));
	table->display = quote_qualified_identifier(table->schema_name, table->table_name);

	if (relid < FirstNormalObjectId || strcmp(table->schema_name, "invite_sync") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a table of the application", table->display),
				 errhint("Tables of PostgreSQL and of invite_sync have the policies that they need; name a table of the application.")));
	if (protecting && strcmp(table->schema_name, "auth") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a table of the application", table->display),
				 errhint("Schema auth is the auth server's. Keep what belongs to an organization in a table of the application that refers to auth.users, and protect that one.")));
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a table of the application", table->display),
				 errhint("Only ordinary and partitioned tables can be protected; of a view, protect the tables below it and make it security_invoker.")));
	if (!has_privs_of_role(caller_role(), table->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of the owner of %s", table->display),
				 errhint("Let role %s call it, or a member of it.",
						 quote_identifier(GetUserNameFromId(table->owner, false)))));
	if (superuser_arg(table->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s belongs to a superuser", table->display),
				 errdetail("No statement of invite_sync runs as a superuser."),
				 errhint("Give it to the application's role: ALTER TABLE %s OWNER TO ...;", table->display)));
}

/* Two that protect the same table take turns; the second sees what the first did. */
static void
lock_table(Oid relid, bool protecting, Table *table)
{
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	look_at_table(relid, protecting, table);
}

static AttrNumber
check_column(const Table *table, const char *column)
{
	AttrNumber	attnum = get_attnum(table->relid, column);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of %s does not exist", column, table->display)));
	if (attnum < 0 || getBaseType(get_atttype(table->relid, attnum)) != UUIDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of %s is no uuid", column, table->display),
				 errhint("Name the column that holds invite_sync.organization.id.")));
	return attnum;
}

static SavedPlan permission_plan = {
	.sql = "SELECT FROM invite_sync.permission AS p WHERE p.name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static void
check_permission(const char *permission)
{
	Scope		scope;
	Datum		args[1];
	bool		exists;

	if (permission == NULL)
		return;
	if (strncmp(permission, "platform.", strlen("platform.")) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("permission \"%s\" never counts in an organization", permission),
				 errhint("Permissions of the platform are held without an organization: see invite_sync.platform_role().")));
	args[0] = CStringGetTextDatum(permission);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&permission_plan, args, NULL, true, 1);
	exists = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	if (!exists)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("permission \"%s\" does not exist", permission),
				 errhint("SELECT * FROM invite_sync.list_permissions(); or make it: invite_sync.create_permission().")));
}

/* ---------------------------------------------------------------------
 * What is there
 * ---------------------------------------------------------------------
 */

#define FIND_RECORD \
	"CASE WHEN p.registered_in = invite_sync.database_lineage() THEN p.relation_number = $1 " \
	"ELSE p.schema_name = $2 AND p.table_name = $3 END"

static SavedPlan record_plan = {
	.sql = "SELECT p.organization_column = $4 AND p.read_permission IS NOT DISTINCT FROM $5 "
	"AND p.write_permission IS NOT DISTINCT FROM $6, p.enabled_here, p.definition "
	"FROM invite_sync.protected_table AS p WHERE " FIND_RECORD,
	.nargs = 6,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID}
};

/* Ours by name, all of them together as text; what others have put there; an index that leads with the column. */
static SavedPlan policies_plan = {
	.sql = "SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.polname, p.polcmd, p.polpermissive, p.polroles, "
	"pg_catalog.pg_get_expr(p.polqual, p.polrelid), '/', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)), E'\\n' ORDER BY p.polname) "
	"FILTER (WHERE p.polname = ANY ($2)), "
	"coalesce(pg_catalog.array_agg(p.polname) FILTER (WHERE p.polname = ANY ($2)), '{}'), "
	"pg_catalog.string_agg(pg_catalog.quote_ident(p.polname), ', ' ORDER BY p.polname) FILTER (WHERE p.polname <> ALL ($2) AND p.polpermissive), "
	"pg_catalog.count(*) FILTER (WHERE p.polname <> ALL ($2)) > 0, "
	"EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = $1 AND i.indkey[0] = $3 AND i.indisvalid AND i.indpred IS NULL) "
	"FROM pg_catalog.pg_policy AS p WHERE p.polrelid = $1",
	.nargs = 3,
	.argtypes = {OIDOID, NAMEARRAYOID, INT2OID}
};

static Datum
policy_names_datum(void)
{
	Datum		elems[lengthof(policy_names)];

	for (size_t i = 0; i < lengthof(policy_names); i++)
		elems[i] = plan_name(policy_names[i]);
	return PointerGetDatum(construct_array(elems, lengthof(policy_names), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
}

static char *
copy_value(MemoryContext cxt, int col)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, col);

	return value == NULL ? NULL : MemoryContextStrdup(cxt, value);
}

static bool
is_true(int col)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, col, &isnull);

	return !isnull && DatumGetBool(value);
}

/* In SPI and in the own scope. */
static void
look_at_policies(const Table *table, AttrNumber attnum, MemoryContext cxt, Protection *p)
{
	Datum		args[3];
	Datum	   *names;
	int			n;
	bool		isnull;

	args[0] = ObjectIdGetDatum(table->relid);
	args[1] = policy_names_datum();
	args[2] = Int16GetDatum(attnum);
	plan_execute(&policies_plan, args, NULL, false, 1);
	p->definition = copy_value(cxt, 1);
	p->others = copy_value(cxt, 3);
	p->any_other = is_true(4);
	p->indexed = is_true(5);
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)),
					  NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, NULL, &n);
	for (size_t i = 0; i < lengthof(policy_names); i++)
	{
		p->policy[i] = false;
		for (int k = 0; k < n; k++)
			if (strcmp(NameStr(*DatumGetName(names[k])), policy_names[i]) == 0)
				p->policy[i] = true;
	}
}

static void
look(const Table *table, const char *column, AttrNumber attnum, const char *read_permission,
	 const char *write_permission, Protection *p)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		args[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	memset(p, 0, sizeof(*p));
	args[0] = ObjectIdGetDatum(table->relid);
	args[1] = plan_name(table->schema_name);
	args[2] = plan_name(table->table_name);
	args[3] = plan_name(column);
	args[4] = read_permission ? CStringGetTextDatum(read_permission) : (Datum) 0;
	args[5] = write_permission ? CStringGetTextDatum(write_permission) : (Datum) 0;
	nulls[4] = read_permission ? ' ' : 'n';
	nulls[5] = write_permission ? ' ' : 'n';
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&record_plan, args, nulls, false, 1);
	if (SPI_processed > 0)
	{
		p->recorded = true;
		p->same_arguments = is_true(1);
		p->enabled_here = is_true(2);
		p->recorded_definition = copy_value(cxt, 3);
	}
	look_at_policies(table, attnum, cxt, p);
	scope_leave(&scope);
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * What is done
 * ---------------------------------------------------------------------
 */

/* What a row's organization must be among; the form that is evaluated once a statement. */
static char *
condition(const char *column, const char *permission)
{
	if (permission == NULL)
		return psprintf("%s = any ((select invite_sync.member_organizations())::uuid[])", quote_identifier(column));
	return psprintf("%s = any ((select invite_sync.organizations_with_permission(%s))::uuid[])",
					quote_identifier(column), quote_literal_cstr(permission));
}

static List *
drop_policies(List *ddl, const Table *table, const Protection *p)
{
	for (size_t i = 0; i < lengthof(policy_names); i++)
		if (p->policy[i])
			ddl = lappend(ddl, psprintf("DROP POLICY %s ON %s", policy_names[i], table->display));
	return ddl;
}

/* The statements of the list, one a line. */
static text *
ddl_text(List *ddl)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, ddl)
		appendStringInfo(&buf, "%s;\n", (char *) lfirst(lc));
	return cstring_to_text_with_len(buf.data, buf.len);
}

static void
run_ddl(const Table *table, List *ddl)
{
	Scope		scope;
	ListCell   *lc;

	if (compat_namespace_aclcheck(caller_extension_schema(), table->owner, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\", the owner of %s, may not use schema invite_sync",
						GetUserNameFromId(table->owner, false), table->display),
				 errhint("Let a superuser run: GRANT USAGE ON SCHEMA invite_sync TO %s;",
						 quote_identifier(GetUserNameFromId(table->owner, false)))));
	SPI_connect();
	scope_enter_target(&scope, table->owner, "pg_catalog, pg_temp");
	foreach(lc, ddl)
	{
		int			rc = SPI_execute((char *) lfirst(lc), false, 0);

		if (rc < 0)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	}
	scope_leave(&scope);
	SPI_finish();
}

/*
 * Besides the table's own row go those of tables that are dropped, and those that
 * a name alone ties to this one. A row whose table merely had this name once (two
 * tables changed names) stays: it is still protected.
 */
static SavedPlan forget_plan = {
	.sql = "DELETE FROM invite_sync.protected_table AS p WHERE "
	"CASE WHEN p.registered_in = invite_sync.database_lineage() THEN p.relation_number = $1 "
	"OR NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = p.relation_number AND c.relkind IN ('r', 'p')) "
	"ELSE p.schema_name = $2 AND p.table_name = $3 END",
	.nargs = 3,
	.argtypes = {OIDOID, NAMEOID, NAMEOID}
};

/*
 * The tables that were renamed since are written down under the names that they
 * have now, so that theirs are free: first under none (no schema is called ''),
 * because two may have changed names. Where another database's row goes by such a
 * name, it meant that table.
 */
#define RENAMED \
	"FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace " \
	"WHERE p.registered_in = invite_sync.database_lineage() AND c.oid = p.relation_number " \
	"AND (p.schema_name <> n.nspname OR p.table_name <> c.relname)"

static SavedPlan clear_names_plan = {
	.sql = "UPDATE invite_sync.protected_table AS p SET schema_name = '', table_name = p.relation_number::pg_catalog.text " RENAMED,
	.nargs = 0
};

static SavedPlan forget_namesakes_plan = {
	.sql = "DELETE FROM invite_sync.protected_table AS p WHERE p.registered_in <> invite_sync.database_lineage() "
	"AND EXISTS (SELECT FROM invite_sync.protected_table AS q JOIN pg_catalog.pg_class AS c ON c.oid = q.relation_number "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE q.registered_in = invite_sync.database_lineage() "
	"AND n.nspname = p.schema_name AND c.relname = p.table_name)",
	.nargs = 0
};

static SavedPlan rename_plan = {
	.sql = "UPDATE invite_sync.protected_table AS p SET schema_name = n.nspname, table_name = c.relname " RENAMED,
	.nargs = 0
};

static SavedPlan remember_plan = {
	.sql = "INSERT INTO invite_sync.protected_table (relation_number, schema_name, table_name, organization_column, "
	"read_permission, write_permission, enabled_here, definition, registered_in) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)",
	.nargs = 8,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID}
};

static void
log_change(const Table *table, const char *action)
{
	event_append("admin", action, NULL, NULL, "table", table->display, NULL);
}

/* protect_table(target, organization_column, read_permission, write_permission, execute) */
Datum
membership_protect_table(PG_FUNCTION_ARGS)
{
	Table		table;
	Protection	before;
	Protection	after;
	char	   *column;
	char	   *read_permission = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char	   *write_permission = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	char	   *read;
	char	   *write;
	AttrNumber	attnum;
	List	   *ddl = NIL;
	Scope		scope;
	Datum		args[8];
	char		nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "target", NULL);
	caller_refuse_null(PG_ARGISNULL(1), "organization_column", NULL);
	caller_refuse_null(PG_ARGISNULL(4), "execute", NULL);
	column = NameStr(*PG_GETARG_NAME(1));
	look_at_table(PG_GETARG_OID(0), true, &table);
	lock_table(PG_GETARG_OID(0), true, &table);
	attnum = check_column(&table, column);
	check_permission(read_permission);
	check_permission(write_permission);
	look(&table, column, attnum, read_permission, write_permission, &before);

	if (!table.row_security)
		ddl = lappend(ddl, psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", table.display));
	ddl = drop_policies(ddl, &table, &before);
	read = condition(column, read_permission);
	write = condition(column, write_permission);
	ddl = lappend(ddl, psprintf("CREATE POLICY %s ON %s FOR SELECT USING (%s)", policy_names[0], table.display, read));
	ddl = lappend(ddl, psprintf("CREATE POLICY %s ON %s FOR INSERT WITH CHECK (%s)", policy_names[1], table.display, write));
	ddl = lappend(ddl, psprintf("CREATE POLICY %s ON %s FOR UPDATE USING (%s) WITH CHECK (%s)", policy_names[2], table.display, write, write));
	ddl = lappend(ddl, psprintf("CREATE POLICY %s ON %s FOR DELETE USING (%s)", policy_names[3], table.display, write));

	if (!before.indexed)
		ereport(WARNING,
				(errmsg("no index of %s begins with column \"%s\"", table.display, column),
				 errhint("Every query of a member reads the whole table: CREATE INDEX ON %s (%s);",
						 table.display, quote_identifier(column))));
	if (before.others != NULL)
		ereport(WARNING,
				(errmsg("%s has other policies that let rows through: %s", table.display, before.others),
				 errhint("Permissive policies add up: drop those that are not wanted any more.")));
	if (!PG_GETARG_BOOL(4))
		PG_RETURN_TEXT_P(ddl_text(ddl));

	if (before.recorded && before.same_arguments && table.row_security && before.definition != NULL &&
		strcmp(before.definition, before.recorded_definition) == 0)
	{
		ereport(NOTICE,
				(errmsg("%s is protected like this already", table.display)));
		PG_RETURN_TEXT_P(ddl_text(ddl));
	}

	run_ddl(&table, ddl);

	args[0] = ObjectIdGetDatum(table.relid);
	args[1] = plan_name(table.schema_name);
	args[2] = plan_name(table.table_name);
	args[3] = plan_name(column);
	args[4] = read_permission ? CStringGetTextDatum(read_permission) : (Datum) 0;
	args[5] = write_permission ? CStringGetTextDatum(write_permission) : (Datum) 0;
	nulls[4] = read_permission ? ' ' : 'n';
	nulls[5] = write_permission ? ' ' : 'n';
	args[6] = BoolGetDatum(before.recorded ? before.enabled_here : !table.row_security);
	SPI_connect();
	scope_enter_own(&scope);
	look_at_policies(&table, attnum, CurrentMemoryContext, &after);
	plan_execute(&forget_plan, args, nulls, false, 0);
	plan_execute(&forget_namesakes_plan, NULL, NULL, false, 0);
	plan_execute(&clear_names_plan, NULL, NULL, false, 0);
	plan_execute(&rename_plan, NULL, NULL, false, 0);
	args[7] = CStringGetTextDatum(after.definition);
	plan_execute(&remember_plan, args, nulls, false, 0);
	scope_leave(&scope);
	SPI_finish();
	log_change(&table, "membership.table_protected");
	PG_RETURN_TEXT_P(ddl_text(ddl));
}

/* unprotect_table(target, execute) */
Datum
membership_unprotect_table(PG_FUNCTION_ARGS)
{
	Table		table;
	Protection	before;
	List	   *ddl = NIL;
	Scope		scope;
	Datum		args[3];

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "target", NULL);
	caller_refuse_null(PG_ARGISNULL(1), "execute", NULL);
	look_at_table(PG_GETARG_OID(0), false, &table);
	lock_table(PG_GETARG_OID(0), false, &table);
	look(&table, "", 0, NULL, NULL, &before);

	ddl = drop_policies(ddl, &table, &before);
	if (before.recorded && before.enabled_here && table.row_security && !before.any_other)
		ddl = lappend(ddl, psprintf("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", table.display));
	if (!PG_GETARG_BOOL(1))
		PG_RETURN_TEXT_P(ddl_text(ddl));
	if (ddl == NIL && !before.recorded)
	{
		ereport(NOTICE,
				(errmsg("%s is not protected", table.display)));
		PG_RETURN_TEXT_P(ddl_text(ddl));
	}
	run_ddl(&table, ddl);

	args[0] = ObjectIdGetDatum(table.relid);
	args[1] = plan_name(table.schema_name);
	args[2] = plan_name(table.table_name);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&forget_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	log_change(&table, "membership.table_unprotected");
	PG_RETURN_TEXT_P(ddl_text(ddl));
}

/* ---------------------------------------------------------------------
 * For config_sql() and uninstall_plan()
 * ---------------------------------------------------------------------
 */

/* Where the number is not true (another database) the name is. */
#define PROTECTED_TABLES \
	"FROM (SELECT p.*, n.nspname, c.relname FROM invite_sync.protected_table AS p " \
	"JOIN pg_catalog.pg_class AS c ON c.relkind IN ('r', 'p') " \
	"JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace " \
	"WHERE CASE WHEN p.registered_in = invite_sync.database_lineage() THEN c.oid = p.relation_number " \
	"ELSE n.nspname = p.schema_name AND c.relname = p.table_name END) AS t " \
	"ORDER BY t.nspname COLLATE \"C\", t.relname COLLATE \"C\""

/* (call, role): who owns the tables is the business of the schema's own migrations. */
SavedPlan	membership_config_protected_plan = {
	.sql = "SELECT pg_catalog.format('SELECT invite_sync.protect_table(%L, %L, read_permission => %L, write_permission => %L) <> '''';', "
	"pg_catalog.format('%I.%I', t.nspname, t.relname), t.organization_column, t.read_permission, t.write_permission), NULL::pg_catalog.name "
	PROTECTED_TABLES,
	.nargs = 0
};

/* (statement, why): by the policies themselves, which are what DROP EXTENSION would be refused for. */
SavedPlan	membership_unprotect_plan = {
	.sql = "SELECT pg_catalog.format('SELECT invite_sync.unprotect_table(%L);', pg_catalog.format('%I.%I', n.nspname, c.relname)), "
	"'Drops the policies of protect_table(); row level security is off again where protect_table() put it on.' "
	"FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
	"WHERE EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid AND p.polname IN (" SYNC_POLICY_NAMES ")) "
	"ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"",
	.nargs = 0
};
