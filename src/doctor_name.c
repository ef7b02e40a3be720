/*-------------------------------------------------------------------------
 *
 * doctor_name.c
 *	  Where a name that was not found does exist.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "caller.h"
#include "doctor_body.h"
#include "plan.h"

/* The schemas that a search_path would be given, the likelier ones first. */
static int
rank(const char *schema)
{
	if (strcmp(schema, "public") == 0)
		return 0;
	if (strcmp(schema, "extensions") == 0)
		return 1;
	return 2;
}

static List *
add_schema(List *schemas, Oid namespace)
{
	char	   *name = get_namespace_name(namespace);
	ListCell   *lc;
	List	   *result = NIL;
	bool		placed = false;

	if (name == NULL || strncmp(name, "pg_", 3) == 0 || strcmp(name, "information_schema") == 0 ||
		strcmp(name, "invite_sync") == 0)
		return schemas;
	foreach(lc, schemas)
	{
		char	   *other = (char *) lfirst(lc);

		if (strcmp(other, name) == 0)
			return schemas;
		if (!placed && (rank(name) < rank(other) || (rank(name) == rank(other) && strcmp(name, other) < 0)))
		{
			result = lappend(result, name);
			placed = true;
		}
		result = lappend(result, other);
	}
	return placed ? result : lappend(result, name);
}

/* With any_case the names that differ from this one in that alone, qualified and quoted. */
List *
name_relation_schemas(const char *name, bool any_case)
{
	Relation	rel = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&key[0], Anum_pg_class_relname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(rel, ClassNameNspIndexId, !any_case, NULL, any_case ? 0 : 1, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_INDEX || form->relkind == RELKIND_PARTITIONED_INDEX ||
			form->relkind == RELKIND_TOASTVALUE)
			continue;
		if (!any_case)
			result = add_schema(result, form->relnamespace);
		else if (pg_strcasecmp(NameStr(form->relname), name) == 0)
		{
			char	   *schema = get_namespace_name(form->relnamespace);

			if (schema != NULL)
				result = lappend(result, quote_qualified_identifier(schema, NameStr(form->relname)));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

List *
name_function_schemas(const char *name)
{
	CatCList   *found = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	List	   *result = NIL;

	for (int i = 0; i < found->n_members; i++)
		result = add_schema(result, ((Form_pg_proc) GETSTRUCT(&found->members[i]->tuple))->pronamespace);
	ReleaseSysCacheList(found);
	return result;
}

List *
name_type_schemas(const char *name)
{
	Relation	rel = table_open(TypeRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&key[0], Anum_pg_type_typname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(rel, TypeNameNspIndexId, true, NULL, 1, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		result = add_schema(result, ((Form_pg_type) GETSTRUCT(tuple))->typnamespace);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

List *
name_operator_schemas(const char *name)
{
	CatCList   *found = SearchSysCacheList1(OPERNAMENSP, CStringGetDatum(name));
	List	   *result = NIL;

	for (int i = 0; i < found->n_members; i++)
		result = add_schema(result, ((Form_pg_operator) GETSTRUCT(&found->members[i]->tuple))->oprnamespace);
	ReleaseSysCacheList(found);
	return result;
}

/* Extensions by what people call of them. */
static const struct
{
	const char *schema;			/* that people write before it, or NULL: any */
	const char *name;			/* or NULL: all of the schema */
	const char *extension;
}			known_functions[] =
{
	{"net", NULL, "pg_net"},
	{"cron", NULL, "pg_cron"},
	{"pgmq", NULL, "pgmq"},
	{"vault", NULL, "supabase_vault"},
	{"graphql", NULL, "pg_graphql"},
	{"partman", NULL, "pg_partman"},
	{"pgsodium", NULL, "pgsodium"},
	{NULL, "uuid_generate_v1", "uuid-ossp"},
	{NULL, "uuid_generate_v1mc", "uuid-ossp"},
	{NULL, "uuid_generate_v3", "uuid-ossp"},
	{NULL, "uuid_generate_v4", "uuid-ossp"},
	{NULL, "uuid_generate_v5", "uuid-ossp"},
	{NULL, "uuid_nil", "uuid-ossp"},
	{NULL, "gen_salt", "pgcrypto"},
	{NULL, "crypt", "pgcrypto"},
	{NULL, "gen_random_bytes", "pgcrypto"},
	{NULL, "digest", "pgcrypto"},
	{NULL, "hmac", "pgcrypto"},
	{NULL, "encrypt", "pgcrypto"},
	{NULL, "decrypt", "pgcrypto"},
	{NULL, "pgp_sym_encrypt", "pgcrypto"},
	{NULL, "pgp_sym_decrypt", "pgcrypto"},
	{NULL, "http_post", "http"},
	{NULL, "http_get", "http"},
	{NULL, "http", "http"},
	{NULL, "unaccent", "unaccent"},
	{NULL, "moddatetime", "moddatetime"},
	{NULL, "similarity", "pg_trgm"},
	{NULL, "levenshtein", "fuzzystrmatch"},
	{NULL, "soundex", "fuzzystrmatch"},
	{NULL, "sign", "pgjwt"},
	{NULL, "id_encode", "pg_hashids"},
	{NULL, "uuid_generate_v7", "pg_uuidv7"},
	{NULL, "gen_ulid", "ulid"},
	{NULL, "dblink", "dblink"},
	{NULL, "dblink_exec", "dblink"},
	{NULL, "hstore", "hstore"}
};

/* Which extension such a function is of, or NULL. name NULL: the schema is what is missing. */
const char *
name_function_extension(const char *schema, const char *name)
{
	for (int i = 0; i < (int) lengthof(known_functions); i++)
	{
		const char *s = known_functions[i].schema;
		const char *n = known_functions[i].name;

		if (s != NULL ? (schema != NULL && strcmp(s, schema) == 0)
			: (name != NULL && strcmp(n, name) == 0))
			return known_functions[i].extension;
	}
	return NULL;
}

const char *
name_type_extension(const char *name)
{
	static const char *const known[] = {"citext", "hstore", "ltree", "vector", "cube", "isbn", "ulid", "geography", "geometry"};

	for (int i = 0; i < (int) lengthof(known); i++)
		if (strcmp(known[i], name) == 0)
			return strncmp(name, "geo", 3) == 0 ? "postgis" : known[i];
	return NULL;
}

static SavedPlan available_plan = {
	.sql = "SELECT FROM pg_catalog.pg_available_extensions() AS e WHERE e.name OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.argtypes = {NAMEOID}
};

bool
name_extension_available(const char *extension)
{
	Scope		scope;
	NameData	name;
	Datum		values[1];
	bool		result;

	/* their libraries have to be preloaded, and pg_cron is for one database */
	if (strcmp(extension, "pg_net") == 0 && GetConfigOption("pg_net.database_name", true, false) == NULL)
		return false;
	if (strcmp(extension, "pg_cron") == 0)
	{
		const char *theirs = GetConfigOption("cron.database_name", true, false);
		const char *ours = get_database_name(MyDatabaseId);

		if (theirs == NULL || ours == NULL || strcmp(theirs, ours) != 0)
			return false;
	}
	namestrcpy(&name, extension);
	values[0] = NameGetDatum(&name);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&available_plan, values, NULL, true, 1);
	result = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	return result;
}
