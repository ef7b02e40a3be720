/*-------------------------------------------------------------------------
 *
 * sync_configure.c
 *	  add_target(), set_target() and drop_target().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#include "caller.h"
#include "event.h"
#include "plan.h"
#include "sync_internal.h"

/* ---------------------------------------------------------------------
 * Which column names the user
 * ---------------------------------------------------------------------
 */

static SavedPlan foreign_key_plan = {
	.sql = "SELECT a.attname, c.conname, c.confdeltype FROM pg_catalog.pg_constraint AS c "
	"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] "
	"WHERE c.contype = 'f' AND c.conrelid = $1 AND c.confrelid = $2 "
	"AND pg_catalog.cardinality(c.conkey) = 1 ORDER BY c.conname",
	.nargs = 2,
	.argtypes = {OIDOID, OIDOID}
};

typedef struct UserKey
{
	char	   *column;			/* of a foreign key to auth.users, or NULL */
	char	   *constraint;
	char		action;			/* ON DELETE */
} UserKey;

/* The foreign key to auth.users on this column, or (NULL) on any uuid column. */
static void
find_user_key(Oid relid, Oid auth, const char *column, UserKey *key)
{
	Scope		scope;
	Datum		args[2];
	MemoryContext cxt = CurrentMemoryContext;

	memset(key, 0, sizeof(*key));
	args[0] = ObjectIdGetDatum(relid);
	args[1] = ObjectIdGetDatum(auth);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&foreign_key_plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed && key->column == NULL; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		bool		isnull;

		if (column != NULL && strcmp(column, name) != 0)
			continue;
		key->column = MemoryContextStrdup(cxt, name);
		key->constraint = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 2));
		key->action = DatumGetChar(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

static char *
choose_key(Relation rel, Oid auth)
{
	static const char *const names[] = {"auth_user_id", "auth_id", "user_id", "id", "uid"};
	TupleDesc	desc = RelationGetDescr(rel);
	UserKey		fk;

	find_user_key(RelationGetRelid(rel), auth, NULL, &fk);
	if (fk.column != NULL)
	{
		int			att = SPI_fnumber(desc, fk.column);

		if (att > 0 && TupleDescAttr(desc, att - 1)->atttypid == UUIDOID &&
			sync_has_key_index(rel, att))
			return fk.column;
	}
	for (size_t i = 0; i < lengthof(names); i++)
	{
		for (int a = 0; a < desc->natts; a++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, a);

			if (!att->attisdropped && att->atttypid == UUIDOID &&
				strcmp(sync_snake_case(NameStr(att->attname)), names[i]) == 0 &&
				sync_has_key_index(rel, att->attnum))
				return pstrdup(NameStr(att->attname));
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s has no usable key column",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel))),
			 errdetail("A key is a uuid column that holds auth.users.id, with a unique index on exactly that column, neither partial nor deferrable."),
			 errhint("%s",
					 fk.column ?
					 psprintf("For example: ALTER TABLE %s ADD UNIQUE (%s);",
							  quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
														 RelationGetRelationName(rel)),
							  quote_identifier(fk.column)) :
					 "Add such a column, or name it with the argument key.")));
	return NULL;				/* not reached */
}

static void
check_key(Relation rel, const char *key)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			att = SPI_fnumber(desc, key);
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel));

	if (att <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("key column \"%s\" of %s does not exist", key, name),
				 errhint("Name the uuid column that holds auth.users.id.")));
	if (TupleDescAttr(desc, att - 1)->atttypid != UUIDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key column \"%s\" of %s is not of type uuid", key, name),
				 errhint("Name the uuid column that holds auth.users.id.")));
	if (TupleDescAttr(desc, att - 1)->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key column \"%s\" of %s is generated", key, name),
				 errhint("Name an ordinary uuid column.")));
	if (!sync_has_key_index(rel, att))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no usable unique index on %s (%s)", name, quote_identifier(key)),
				 errdetail("It must be on exactly this column, neither partial nor deferrable, and no deferrable one beside it."),
				 errhint("ALTER TABLE %s ADD UNIQUE (%s);", name, quote_identifier(key))));
}

static const char *
coalesce_text(const char *s)
{
	return s ? s : "";
}

static void
check_link_by(Relation rel, const char *key, const char *link_by)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			att = SPI_fnumber(desc, link_by);
	char	   *name = sync_relation_display(rel);
	char		category = '\0';
	bool		preferred;

	if (att > 0)
		get_type_category_preferred(getBaseType(TupleDescAttr(desc, att - 1)->atttypid),
									&category, &preferred);
	if (att <= 0 || category != TYPCATEGORY_STRING || strcmp(key, link_by) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("link_by \"%s\" is no text column of %s", link_by, name),
				 errhint("Name the column that holds the address of who was invited, for example email.")));
	if (TupleDescAttr(desc, SPI_fnumber(desc, key) - 1)->attnotnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("link_by needs a key that may be NULL, but %s.%s is NOT NULL", name, quote_identifier(key)),
				 errhint("A row made before its user signs up has no user yet. Use a key of its own beside the primary key: ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;",
						 name, quote_identifier(key))));
}

/* ---------------------------------------------------------------------
 * The search_path of a mapping
 * ---------------------------------------------------------------------
 */

/* By default: what the system offers, and where the table lives. */
static char *
default_search_path(Relation rel)
{
	char	   *schema = get_namespace_name(RelationGetNamespace(rel));

	return psprintf("pg_catalog, %s%s, pg_temp", quote_identifier(schema),
					OidIsValid(get_namespace_oid("extensions", true)) &&
					strcmp(schema, "extensions") != 0 ? ", extensions" : "");
}

/*
 * What others put into a schema of the path may run as the target's owner. Not
 * said of those who have its rights anyway, of administrators (who can take
 * them), and of the schema's owner, who can do away with the table.
 */
static void
warn_about_creators(Oid nsp, const char *name, Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(nsp));
	Datum		value;
	bool		isnull;
	Oid			nsp_owner;
	Acl		   *acl;

	if (!HeapTupleIsValid(tuple))
		return;
	nsp_owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	value = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	if (!isnull)
	{
		acl = DatumGetAclP(value);
		for (int i = 0; i < ACL_NUM(acl); i++)
		{
			AclItem    *item = &ACL_DAT(acl)[i];
			char	   *role;

			if ((ACLITEM_GET_PRIVS(*item) & ACL_CREATE) == 0 || item->ai_grantee == nsp_owner ||
				has_createrole_privilege(item->ai_grantee) || has_privs_of_role(item->ai_grantee, owner))
				continue;
			role = GetUserNameFromId(item->ai_grantee, true);
			if (role != NULL)
				ereport(WARNING,
						(errmsg("role \"%s\" may create objects in schema \"%s\" of the target's search_path",
								role, name),
						 errhint("REVOKE CREATE ON SCHEMA %s FROM %s;", quote_identifier(name), quote_identifier(role))));
		}
	}
	ReleaseSysCache(tuple);
}

static void
warn_about_search_path(const char *search_path, Oid owner)
{
	List	   *names;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(search_path), ',', &names))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("search_path \"%s\" is malformed", search_path),
				 errhint("List schemas, for example: pg_catalog, public, pg_temp.")));
	foreach(lc, names)
	{
		char	   *name = (char *) lfirst(lc);
		Oid			nsp = get_namespace_oid(name, true);

		if (strncmp(name, "pg_", 3) == 0)
			continue;
		if (!OidIsValid(nsp))
		{
			ereport(WARNING,
					(errmsg("schema \"%s\" of the target's search_path does not exist", name)));
			continue;
		}
		if (compat_namespace_aclcheck(nsp, ACL_ID_PUBLIC, ACL_CREATE) == ACLCHECK_OK)
			ereport(WARNING,
					(errmsg("everybody may create objects in schema \"%s\" of the target's search_path", name),
					 errhint("REVOKE CREATE ON SCHEMA %s FROM PUBLIC;", quote_identifier(name))));
		else
			warn_about_creators(nsp, name, owner);
	}
}

/* ---------------------------------------------------------------------
 * Writing it down
 * ---------------------------------------------------------------------
 */

typedef struct TargetOptions
{
	Jsonb	   *mapping;		/* NULL: infer (new) or keep (existing) */
	char	   *key;
	char	   *on_delete;
	char	   *on_error;
	char	   *link_by;
	bool		enabled;
	bool		has_enabled;
	bool		allow_user_written;
	bool		has_allow_user_written;
	char	   *search_path;
} TargetOptions;

static SavedPlan lock_registry_plan = {
	.sql = "LOCK TABLE invite_sync.target IN SHARE ROW EXCLUSIVE MODE",
	.nargs = 0
};

static SavedPlan existing_plan = {
	.sql = "SELECT t.id, t.key, t.on_delete, t.on_error, t.link_by, t.enabled, t.allow_user_written, t.search_path, "
	"t.definer, coalesce((SELECT pg_catalog.jsonb_object_agg(m.column_name, "
	"pg_catalog.jsonb_build_object('value', m.expression, 'update', m.update_policy)) "
	"FROM invite_sync.mapping AS m WHERE m.target_id = t.id), '{}') "
	"FROM invite_sync.target AS t WHERE t.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan insert_target_plan = {
	.sql = "INSERT INTO invite_sync.target (relation, relation_number, schema_name, table_name, key, on_delete, on_error, link_by, enabled, "
	"allow_user_written, search_path, definer, registered_in) "
	"VALUES ($1::pg_catalog.regclass, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
	.nargs = 12,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID, NAMEOID, BOOLOID, BOOLOID, TEXTOID, NAMEOID, TEXTOID}
};

static SavedPlan update_target_plan = {
	.sql = "UPDATE invite_sync.target AS t SET relation = $1::pg_catalog.regclass, relation_number = $1, schema_name = $2, table_name = $3, key = $4, "
	"on_delete = $5, on_error = $6, link_by = $7, enabled = $8, allow_user_written = $9, search_path = $10, "
	"definer = $11, registered_in = $12 WHERE t.id = $13 RETURNING t.id",
	.nargs = 13,
	.argtypes = {OIDOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTOID, NAMEOID, BOOLOID, BOOLOID, TEXTOID, NAMEOID, TEXTOID, INT8OID}
};

/* so that nobody has to insert it, and wait for somebody else who does */
static SavedPlan first_run_plan = {
	.sql = "INSERT INTO invite_sync.sync_run (target_id) VALUES ($1) ON CONFLICT (target_id) DO NOTHING",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan clear_mapping_plan = {
	.sql = "DELETE FROM invite_sync.mapping AS m WHERE m.target_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan insert_mapping_plan = {
	.sql = "INSERT INTO invite_sync.mapping (target_id, position, column_name, expression, update_policy, source_columns) "
	"VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.name[])",
	.nargs = 6,
	.argtypes = {INT8OID, INT4OID, NAMEOID, TEXTOID, TEXTOID, TEXTARRAYOID}
};

static void
refuse_auth_schema_missing(void)
{
	(void) caller_auth_users_relid(false);
}

static void
check_membership(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (!has_privs_of_role(caller_role(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of the owner of %s",
						quote_qualified_identifier(get_namespace_name_or_temp(get_rel_namespace(relid)),
												   get_rel_name(relid))),
				 errhint("Let role %s call it, or a member of it: what is mapped runs with the rights of the table's owner.",
						 quote_identifier(GetUserNameFromId(owner, false)))));
}

static void
take_configuring_locks(void *arg)
{
	Oid			relid = *(Oid *) arg;
	int			guc_level = NewGUCNestLevel();
	Relation	rel;
	Scope		scope;

	if (LockTimeout == 0 || LockTimeout > 2000)
		(void) set_config_option("lock_timeout", "2000", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	/* nobody may queue up behind a table of others with more than a look */
	rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	if (rel != NULL)
	{
		sync_check_target_kind(rel);
		relation_close(rel, AccessShareLock);
		check_membership(relid);
		LockRelationOid(relid, ShareUpdateExclusiveLock);
	}

	/* one configuring call at a time; readers and signups do not notice */
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&lock_registry_plan, NULL, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Lock the table and the registry, or say within 2 s who is in the way. */
static void
lock_for_configuring(Oid relid)
{
	Failure    *failure;
	char	   *pids;

	if (sync_run_contained(take_configuring_locks, &relid, true, &failure))
		return;
	if (failure->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(plan_lasting(failure->edata));
	pids = sync_lock_holders(relid, true);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("the table or the registry could not be locked within 2 s"),
			 errdetail("Nothing was changed."),
			 pids ? errhint("The table is held by the session with process id %s; try again when it is done.", pids) :
			 errhint("Try again.")));
}

static void
raise_with_hint(const Failure *failure, const char *prefix, const char *hint)
{
	ereport(ERROR,
			(errcode(failure->sqlerrcode),
			 errmsg("%s%s", prefix, failure->edata->message),
			 failure->edata->detail ? errdetail_internal("%s", failure->edata->detail) : 0,
			 errhint("%s", failure->edata->hint ? failure->edata->hint : hint)));
}

static void
check_on_delete(Relation rel, const char *key, const char *on_delete, Oid auth)
{
	TupleDesc	desc = RelationGetDescr(rel);
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												  RelationGetRelationName(rel));
	UserKey		fk;

	find_user_key(RelationGetRelid(rel), auth, key, &fk);
	if (strcmp(on_delete, "deactivate") == 0)
	{
		int			att = SPI_fnumber(desc, "is_active");
		bool		not_null;

		if (att <= 0 || TupleDescAttr(desc, att - 1)->atttypid != BOOLOID)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("on_delete \"deactivate\" needs a boolean column \"is_active\" in %s", name),
					 errhint("ALTER TABLE %s ADD COLUMN is_active boolean NOT NULL DEFAULT true;", name)));
		not_null = TupleDescAttr(desc, SPI_fnumber(desc, key) - 1)->attnotnull;
		if (fk.column != NULL && (fk.action != 'n' || not_null))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("on_delete \"deactivate\" cannot work: the foreign key \"%s\" of %s %s",
							fk.constraint, name,
							fk.action == 'c' ? "deletes the row with the user" :
							fk.action == 'n' ? "sets a NOT NULL column to NULL" :
							"keeps the user from being deleted"),
					 errhint("%sALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES auth.users (id) ON DELETE SET NULL;",
							 not_null ? psprintf("The key must allow NULL (so it cannot be the primary key): ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL; ",
												 name, quote_identifier(key)) : "",
							 name, quote_identifier(fk.constraint), quote_identifier(fk.constraint),
							 quote_identifier(key))));
	}
	else if (strcmp(on_delete, "none") == 0 && fk.column != NULL &&
			 (fk.action == 'a' || fk.action == 'r'))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("foreign key \"%s\" of %s keeps the auth server from deleting users",
						fk.constraint, name),
				 errhint("Use on_delete => 'delete', or a foreign key with ON DELETE CASCADE.")));
}

static void
check_one_of(const char *argument, const char *value, const char *a, const char *b, const char *c)
{
	if (strcmp(value, a) != 0 && strcmp(value, b) != 0 && (c == NULL || strcmp(value, c) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s cannot be \"%s\"", argument, value),
				 errhint("One of: %s, %s%s%s.", a, b, c ? ", " : "", c ? c : "")));
}

static int64
count_missing(Target *t, Relation auth)
{
	Tuplestorestate *answers = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(sync_answer_desc(), &TTSOpsMinimalTuple);
	Failure    *failure;
	int64		n;
	int64		count = 0;

	if (!sync_find_candidates(t, auth, sync_registry, NULL, answers, &n, &failure))
		return -1;
	while (tuplestore_gettupleslot(answers, true, false, slot))
	{
		bool		isnull;

		if (DatumGetBool(slot_getattr(slot, 2, &isnull)))
			count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(answers);
	return count;
}

/* The id under which this relation is registered, or 0. */
static int64
registered_id(Oid relid)
{
	for (int i = 0; i < sync_registry->ntargets; i++)
	{
		Target	   *t = &sync_registry->targets[i];

		if (t->relid == relid && t->same_database)
			return t->id;
	}
	/* a target that was dropped and created again, or came with a dump */
	for (int i = 0; i < sync_registry->ntargets; i++)
	{
		Target	   *t = &sync_registry->targets[i];
		char	   *name = get_rel_name(relid);

		if (name != NULL && strcmp(t->table, name) == 0 &&
			strcmp(t->schema, get_namespace_name(get_rel_namespace(relid))) == 0 &&
			(!t->same_database || get_rel_name(t->relid) == NULL))
			return t->id;
	}
	return 0;
}

/*
 * The registry is read as it is now, the row as the transaction sees it: under
 * REPEATABLE READ that may be from before.
 */
static void
require_existing(uint64 found)
{
	if (found == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the target was changed by another session meanwhile"),
				 errhint("Call again in a new transaction.")));
}

/*
 * add_target and set_target: check everything, then write the registry. The
 * checks run before the first write, so that a refusal leaves nothing behind.
 */
static Datum
configure_target(FunctionCallInfo fcinfo, Oid relid, TargetOptions *o, bool must_exist)
{
	Relation	auth;
	Relation	rel;
	Target		draft_target;
	MappingDraft draft;
	Oid			outer = caller_role();
	int64		id;
	char	   *name;
	bool		unchanged = false;
	bool		existed;
	Scope		scope;
	Work		work;
	Failure    *failure;
	StringInfoData json;
	TupleDesc	desc;
	Datum		values[11];
	bool		nulls[11];
	int64		missing;
	MemoryContext cxt = CurrentMemoryContext;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	PreventCommandIfReadOnly(must_exist ? "set_target()" : "add_target()");
	sync_load_registry_for_caller(sync_load_registry, NULL);
	refuse_auth_schema_missing();
	lock_for_configuring(relid);
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errhint("It was dropped meanwhile; create it, then call again.")));
	name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
	sync_check_target_kind(rel);
	check_membership(relid);

	sync_check_owner(rel->rd_rel->relowner, name);
	auth = sync_open_auth_users(AccessShareLock);

	plan_hold();
	sync_load_registry(auth);
	id = registered_id(relid);
	existed = id != 0;
	if (must_exist && !existed)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s is not a target", name),
				 errhint("Add it: SELECT * FROM invite_sync.add_target(%s);", quote_literal_cstr(name))));

	memset(&draft, 0, sizeof(draft));
	memset(&draft_target, 0, sizeof(draft_target));

	/* what is not said stays as it was */
	if (existed)
	{
		HeapTuple	row;
		TupleDesc	rowdesc;
		bool		isnull;
		Datum		args[1];
		Jsonb	   *old_mapping;
		MemoryContext spi_cxt;

		args[0] = Int64GetDatum(id);
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&existing_plan, args, NULL, false, 1);
		scope_leave(&scope);
		require_existing(SPI_processed);
		row = SPI_tuptable->vals[0];
		rowdesc = SPI_tuptable->tupdesc;
		spi_cxt = MemoryContextSwitchTo(cxt);
		old_mapping = DatumGetJsonbPCopy(SPI_getbinval(row, rowdesc, 10, &isnull));
		if (must_exist)
		{
			if (o->mapping == NULL)
				o->mapping = old_mapping;
			if (!o->has_allow_user_written)
				o->allow_user_written = DatumGetBool(SPI_getbinval(row, rowdesc, 7, &isnull));
			if (o->key == NULL)
				o->key = SPI_getvalue(row, rowdesc, 2);
			if (o->on_delete == NULL)
				o->on_delete = SPI_getvalue(row, rowdesc, 3);
			if (o->on_error == NULL)
				o->on_error = SPI_getvalue(row, rowdesc, 4);
			if (o->link_by == NULL)
				o->link_by = SPI_getvalue(row, rowdesc, 5);
			if (!o->has_enabled)
				o->enabled = DatumGetBool(SPI_getbinval(row, rowdesc, 6, &isnull));
		}
		if (o->search_path == NULL)
			o->search_path = SPI_getvalue(row, rowdesc, 8);
		MemoryContextSwitchTo(spi_cxt);
		SPI_finish();
	}

	check_one_of("on_delete", o->on_delete, "none", "delete", "deactivate");
	check_one_of("on_error", o->on_error, "quarantine", "raise", NULL);
	if (o->link_by != NULL && o->link_by[0] == '\0')
		o->link_by = NULL;
	if (o->key == NULL)
		o->key = choose_key(rel, RelationGetRelid(auth));
	check_key(rel, o->key);
	if (o->link_by != NULL)
		check_link_by(rel, o->key, o->link_by);
	if (o->search_path == NULL)
		o->search_path = default_search_path(rel);
	warn_about_search_path(o->search_path, rel->rd_rel->relowner);
	check_on_delete(rel, o->key, o->on_delete, RelationGetRelid(auth));

	if (o->mapping != NULL)
		sync_parse_mapping(o->mapping, &draft);
	else
		sync_infer_mapping(rel, o->key, &draft);
	for (int i = 0; i < draft.n; i++)
	{
		Compile		c;

		if (strcmp(draft.columns[i].name, o->key) == 0)
			sync_mapping_error(o->key, "the key column always holds auth.users.id",
							   "Leave it out of the mapping.");
		memset(&c, 0, sizeof(c));
		c.mc = &draft.columns[i];
		c.explicit_policy = draft.explicit_policy[i];
		c.allow_user_written = o->allow_user_written;
		c.auth = auth;
		c.rel = rel;
		c.owner = rel->rd_rel->relowner;
		c.search_path = o->search_path;
		c.cxt = cxt;
		if (!sync_run_contained(sync_compile_column, &c, true, &failure))
			raise_with_hint(failure,
							strncmp(failure->edata->message, "mapping of column", 17) == 0 ? "" :
							psprintf("mapping of column \"%s\" cannot be used: ", draft.columns[i].name),
							"Write an SQL expression over a row of auth.users whose value can be cast to the column's type.");
	}
	sync_check_not_null_columns(rel, o->key, &draft);

	/* the statements themselves, as the owner, planned and not run */
	draft_target.relid = relid;
	draft_target.schema = get_namespace_name(RelationGetNamespace(rel));
	draft_target.table = pstrdup(RelationGetRelationName(rel));
	draft_target.key = o->key;
	draft_target.on_delete = sync_on_delete_from_text(o->on_delete);
	draft_target.link_by = o->link_by;
	draft_target.search_path = o->search_path;
	draft_target.definer = GetUserNameFromId(outer, false);
	draft_target.same_database = true;
	draft_target.ncolumns = draft.n;
	draft_target.columns = draft.columns;
	draft_target.home = CurrentMemoryContext;
	for (int i = 0; i < draft.n; i++)
		if (sync_reads_identity(&draft.columns[i]))
			draft_target.uses_identity = true;
	memset(&work, 0, sizeof(work));
	work.target = &draft_target;
	work.auth = auth;
	work.single = tuplestore_begin_heap(false, false, work_mem);
	if (!sync_run_contained(sync_plan_statements, &work, false, &failure))
		raise_with_hint(failure, psprintf("%s cannot be synced to: ", name),
						"The statements of a sync run as the table's owner; see the search_path of the target too.");
	tuplestore_end(work.single);

	initStringInfo(&json);
	sync_append_mapping_json(&json, draft.columns, draft.n);

	/* write, if anything differs */
	{
		Datum		args[13];
		char		nil[14] = "             ";
		HeapTuple	row = NULL;

		SPI_connect();
		scope_enter_own(&scope);
		if (existed)
		{
			TupleDesc	rowdesc;
			bool		isnull;
			Jsonb	   *old_mapping;
			Jsonb	   *new_mapping = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
			Target	   *t = sync_find_target(sync_registry, id);

			args[0] = Int64GetDatum(id);
			plan_execute(&existing_plan, args, NULL, false, 1);
			require_existing(SPI_processed);
			row = SPI_tuptable->vals[0];
			rowdesc = SPI_tuptable->tupdesc;
			old_mapping = DatumGetJsonbP(SPI_getbinval(row, rowdesc, 10, &isnull));
			unchanged = t != NULL && t->relid == relid && t->stamped &&
				strcmp(t->schema, draft_target.schema) == 0 && strcmp(t->table, draft_target.table) == 0 &&
				compareJsonbContainers(&old_mapping->root, &new_mapping->root) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 2), o->key) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 3), o->on_delete) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 4), o->on_error) == 0 &&
				strcmp(coalesce_text(SPI_getvalue(row, rowdesc, 5)), coalesce_text(o->link_by)) == 0 &&
				DatumGetBool(SPI_getbinval(row, rowdesc, 6, &isnull)) == o->enabled &&
				DatumGetBool(SPI_getbinval(row, rowdesc, 7, &isnull)) == o->allow_user_written &&
				strcmp(SPI_getvalue(row, rowdesc, 8), o->search_path) == 0 &&
				strcmp(SPI_getvalue(row, rowdesc, 9), draft_target.definer) == 0;
		}
		if (!unchanged)
		{
			bool		isnull;

			args[0] = ObjectIdGetDatum(relid);
			args[1] = plan_name(draft_target.schema);
			args[2] = plan_name(draft_target.table);
			args[3] = plan_name(o->key);
			args[4] = CStringGetTextDatum(o->on_delete);
			args[5] = CStringGetTextDatum(o->on_error);
			args[6] = o->link_by ? plan_name(o->link_by) : (Datum) 0;
			nil[6] = o->link_by ? ' ' : 'n';
			args[7] = BoolGetDatum(o->enabled);
			args[8] = BoolGetDatum(o->allow_user_written);
			args[9] = CStringGetTextDatum(o->search_path);
			args[10] = plan_name(draft_target.definer);
			args[11] = CStringGetTextDatum(caller_lineage(InvalidSnapshot));
			nil[11] = existed ? ' ' : 'n'; /* the table's trigger writes it */
			args[12] = Int64GetDatum(id);
			plan_execute(existed ? &update_target_plan : &insert_target_plan, args, nil, false, 0);
			require_existing(SPI_processed);
			id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

			args[0] = Int64GetDatum(id);
			plan_execute(&first_run_plan, args, NULL, false, 0);
			plan_execute(&clear_mapping_plan, args, NULL, false, 0);
			for (int i = 0; i < draft.n; i++)
			{
				MapColumn  *mc = &draft.columns[i];
				Datum	   *sources = palloc(sizeof(Datum) * Max(mc->nsources, 1));

				for (int s = 0; s < mc->nsources; s++)
					sources[s] = CStringGetTextDatum(mc->sources[s]);
				args[0] = Int64GetDatum(id);
				args[1] = Int32GetDatum(i + 1);
				args[2] = plan_name(mc->name);
				args[3] = CStringGetTextDatum(mc->expression);
				args[4] = CStringGetTextDatum(sync_policy_to_text(mc->policy));
				args[5] = PointerGetDatum(construct_array(sources, mc->nsources, TEXTOID, -1, false, TYPALIGN_INT));
				plan_execute(&insert_mapping_plan, args, NULL, false, 0);
			}
		}
		scope_leave(&scope);
		SPI_finish();
	}
	plan_release();

	if (unchanged)
		ereport(NOTICE,
				(errmsg("target %s is unchanged", name)));
	else
		event_append("admin", existed ? "sync.target_set" : "sync.target_added",
					 NULL, NULL, "target", name, NULL);

	if (o->enabled)
		sync_attach_triggers("2000", true, draft_target.uses_identity);

	/* as every other session will see it from its next statement on */
	CommandCounterIncrement();
	plan_hold();
	{
		/* our own uncommitted rows are not in the latest snapshot */
		PushActiveSnapshot(GetTransactionSnapshot());
		if (sync_registry == NULL || sync_registry->id_att == InvalidAttrNumber)
			sync_load_registry(auth);
		missing = count_missing(&draft_target, auth);
		PopActiveSnapshot();
	}
	plan_release();

	memset(nulls, 0, sizeof(nulls));
	values[0] = CStringGetTextDatum(name);
	values[1] = plan_name(o->key);
	values[2] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	values[3] = CStringGetTextDatum(o->on_delete);
	values[4] = CStringGetTextDatum(o->on_error);
	nulls[5] = o->link_by == NULL;
	values[5] = o->link_by ? plan_name(o->link_by) : (Datum) 0;
	values[6] = BoolGetDatum(o->enabled);
	values[7] = CStringGetTextDatum(o->search_path);
	values[8] = Int64GetDatum(missing);
	nulls[8] = missing < 0;
	values[9] = CStringGetTextDatum(psprintf("CALL invite_sync.sync_all(target => %s)", quote_literal_cstr(name)));

	relation_close(rel, NoLock);
	table_close(auth, NoLock);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* ---------------------------------------------------------------------
 * The calls
 * ---------------------------------------------------------------------
 */

PG_FUNCTION_INFO_V1(sync_add_target);
PG_FUNCTION_INFO_V1(sync_set_target);
PG_FUNCTION_INFO_V1(sync_drop_target);

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static char *
name_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(n)));
}

/* add_target(target, mapping, key, on_delete, on_error, link_by, enabled, allow_user_written) */
Datum
sync_add_target(PG_FUNCTION_ARGS)
{
	TargetOptions o;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "target", "Name a table, for example public.profiles.");
	caller_refuse_null(PG_ARGISNULL(3), "on_delete", "Leave the argument out for its default.");
	caller_refuse_null(PG_ARGISNULL(4), "on_error", "Leave the argument out for its default.");
	caller_refuse_null(PG_ARGISNULL(6), "enabled", "Leave the argument out for its default.");
	caller_refuse_null(PG_ARGISNULL(7), "allow_user_written", "Leave the argument out for its default.");
	memset(&o, 0, sizeof(o));
	o.mapping = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	o.key = name_arg(fcinfo, 2);
	o.on_delete = text_arg(fcinfo, 3);
	o.on_error = text_arg(fcinfo, 4);
	o.link_by = name_arg(fcinfo, 5);
	o.enabled = PG_GETARG_BOOL(6);
	o.has_enabled = true;
	o.allow_user_written = PG_GETARG_BOOL(7);
	o.has_allow_user_written = true;
	return configure_target(fcinfo, PG_GETARG_OID(0), &o, false);
}

/* set_target(target, mapping, key, on_delete, on_error, link_by, enabled, search_path, allow_user_written) */
Datum
sync_set_target(PG_FUNCTION_ARGS)
{
	TargetOptions o;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "target", "Name a table, for example public.profiles.");
	memset(&o, 0, sizeof(o));
	o.mapping = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	o.key = name_arg(fcinfo, 2);
	o.on_delete = text_arg(fcinfo, 3);
	o.on_error = text_arg(fcinfo, 4);
	o.link_by = name_arg(fcinfo, 5);
	o.has_enabled = !PG_ARGISNULL(6);
	o.enabled = o.has_enabled && PG_GETARG_BOOL(6);
	o.search_path = text_arg(fcinfo, 7);
	o.has_allow_user_written = !PG_ARGISNULL(8);
	o.allow_user_written = o.has_allow_user_written && PG_GETARG_BOOL(8);
	return configure_target(fcinfo, PG_GETARG_OID(0), &o, true);
}

static SavedPlan drop_target_plan = {
	.sql = "WITH q AS (DELETE FROM invite_sync.quarantine_entry AS q WHERE q.target_id = $1), "
	"r AS (DELETE FROM invite_sync.sync_run AS r WHERE r.target_id = $1), "
	"m AS (DELETE FROM invite_sync.mapping AS m WHERE m.target_id = $1) "
	"DELETE FROM invite_sync.target AS t WHERE t.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/*
 * drop_target(target text): by name and not by regclass, so that a target whose
 * table is gone can be forgotten too.
 */
typedef struct Drop
{
	int64		id;
	uint64		found;
} Drop;

static void
drop_registered(void *arg)
{
	Drop	   *drop = (Drop *) arg;
	Scope		scope;
	Datum		args[1];

	args[0] = Int64GetDatum(drop->id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&drop_target_plan, args, NULL, false, 0);
	drop->found = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
}

Datum
sync_drop_target(PG_FUNCTION_ARGS)
{
	char	   *given;
	List	   *names;
	RangeVar   *rv;
	Oid			relid;
	int64		id = 0;
	char	   *display = NULL;
	Drop		drop;

	caller_require_operator();
	PreventCommandIfReadOnly("drop_target()");
	sync_load_registry_for_caller(sync_load_registry, NULL);
	caller_refuse_null(PG_ARGISNULL(0), "target", "Name a table, for example public.profiles.");
	given = text_to_cstring(PG_GETARG_TEXT_PP(0));

	names = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));
	rv = makeRangeVarFromNameList(names);
	lock_for_configuring(InvalidOid);
	relid = RangeVarGetRelid(rv, NoLock, true);
	sync_load_registry(NULL);
	for (int pass = 0; pass < 2 && id == 0; pass++)
	{
		for (int i = 0; i < sync_registry->ntargets; i++)
		{
			Target	   *t = &sync_registry->targets[i];

			if (pass == 0 ? (OidIsValid(relid) && t->relid == relid) :
				(strcmp(t->table, rv->relname) == 0 &&
				 (rv->schemaname == NULL || strcmp(rv->schemaname, t->schema) == 0)))
			{
				id = t->id;
				display = pstrdup(sync_target_display(t));
				break;
			}
		}
	}
	if (id == 0)
	{
		ereport(NOTICE,
				(errmsg("%s is not a target, nothing to drop", given)));
		PG_RETURN_BOOL(false);
	}
	if (OidIsValid(relid))
	{
		Oid			outer = caller_role();
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
		Oid			owner = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->relowner : outer;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (!has_privs_of_role(outer, owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be a member of the owner of %s", display),
					 errhint("Let role %s call it, or a member of it.",
							 quote_identifier(GetUserNameFromId(owner, false)))));
	}

	drop.id = id;
	sync_load_registry_for_caller(drop_registered, &drop);
	require_existing(drop.found);
	event_append("admin", "sync.target_dropped", NULL, NULL, "target", display, NULL);
	PG_RETURN_BOOL(true);
}
