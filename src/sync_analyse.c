/*-------------------------------------------------------------------------
 *
 * sync_analyse.c
 *	  What keeps users out of a target, found without writing a row.
 *
 * The statements are analysed, or planned at most, and as the table's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/relation.h"
#include "executor/spi.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

static void
locate_only(void *arg)
{
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	relation_close(sync_locate_target((Target *) arg, AccessShareLock), NoLock);
	AtEOXact_GUC(false, guc_level);
}

int
sync_check_targets(SyncTargetCheck **checks)
{
	SyncTargetCheck *list;
	int			n;

	sync_load_registry(NULL);
	plan_hold();
	n = sync_registry->ntargets;
	list = palloc0(sizeof(SyncTargetCheck) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Target	   *t = &sync_registry->targets[i];
		Failure    *failure;

		list[i].name = sync_target_display(t);
		list[i].enabled = t->enabled;
		if (sync_run_contained(locate_only, t, false, &failure))
			list[i].relid = t->relid;
		else
			list[i].failure = failure;
	}
	plan_release();
	*checks = list;
	return n;
}

/* Columns that nobody would fill: every signup would end in quarantine. */
void
sync_check_not_null_columns(Relation rel, const char *key, const MappingDraft *draft)
{
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData missing;
	StringInfoData example;
	int			n = 0;

	initStringInfo(&missing);
	initStringInfo(&example);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		mapped = false;

		if (att->attisdropped || !att->attnotnull || att->attgenerated != '\0' ||
			att->attidentity != '\0' || strcmp(NameStr(att->attname), key) == 0)
			continue;
		for (int k = 0; k < draft->n; k++)
			if (strcmp(draft->columns[k].name, NameStr(att->attname)) == 0)
				mapped = true;
		if (mapped || build_column_default(rel, i + 1) != NULL)
			continue;
		appendStringInfo(&missing, "%s\"%s\"", n > 0 ? ", " : "", NameStr(att->attname));
		n++;
	}
	if (n == 0)
		return;

	{
		StringInfoData json;

		/* the mapping in force, with a place for each missing source */
		initStringInfo(&json);
		appendStringInfoChar(&json, '{');
		for (int k = 0; k < draft->n; k++)
		{
			if (k > 0)
				appendStringInfoString(&json, ", ");
			escape_json(&json, draft->columns[k].name);
			appendStringInfoString(&json, ": ");
			escape_json(&json, draft->columns[k].expression);
		}
		for (int i = 0, k = draft->n; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			if (att->attisdropped ||
				strstr(missing.data, psprintf("\"%s\"", NameStr(att->attname))) == NULL)
				continue;
			appendStringInfoString(&json, k++ > 0 ? ", " : "");
			escape_json(&json, NameStr(att->attname));
			appendStringInfoString(&json, ": \"...\"");
		}
		appendStringInfoChar(&json, '}');
		appendStringInfo(&example, "SELECT * FROM invite_sync.add_target(%s, mapping => %s);",
						 quote_literal_cstr(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
																	   RelationGetRelationName(rel))),
						 quote_literal_cstr(json.data));
	}
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("NOT NULL column%s %s of %s would get no value", n > 1 ? "s" : "", missing.data,
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel))),
			 errdetail("Neither a default nor the mapping fills it."),
			 errhint("Give it a DEFAULT, or an expression in place of the dots: %s", example.data)));
}

bool
sync_concerns(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *nsp = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	if (nsp == NULL)
		return false;
	sync_load_registry(NULL);
	if (relid == caller_auth_users_relid(true))
		return true;
	for (int i = 0; i < sync_registry->ntargets; i++)
	{
		Target	   *t = &sync_registry->targets[i];

		/* by its name as well: after a restore the number is another's */
		if (t->enabled && (t->relid == relid || (strcmp(t->table, name) == 0 && strcmp(t->schema, nsp) == 0)))
			return true;
	}
	return false;
}

bool
sync_has_targets(void)
{
	sync_load_registry(NULL);
	for (int i = 0; i < sync_registry->ntargets; i++)
		if (sync_registry->targets[i].enabled)
			return true;
	return false;
}

/* May the owner write its own table? Analysis does not ask. */
static void
check_owner_rights(const Target *t)
{
	if (pg_class_aclmask(t->relid, t->owner, ACL_INSERT | ACL_SELECT, ACLMASK_ALL) == (ACL_INSERT | ACL_SELECT))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the owner of %s may not write it", sync_target_display(t)),
			 errhint("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", sync_target_display(t),
					 quote_identifier(GetUserNameFromId(t->owner, false)))));
}

/*
 * As add_target() does, but analysed only: no function of anybody's runs. And
 * nobody is waited for: what is locked by others, they will look at.
 */
static void
analyse_target(void *arg)
{
	Work	   *work = (Work *) arg;
	Target	   *t = work->target;
	EphemeralNamedRelationData enr;
	MappingDraft draft;
	Relation	rel;
	Scope		scope;
	Identities	identities;
	int			key;

	if (OidIsValid(t->relid) && !ConditionalLockRelationOid(t->relid, AccessShareLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("the target is locked")));
	sync_prepare_target(t, AccessShareLock);
	rel = relation_open(t->relid, AccessShareLock);
	memset(&draft, 0, sizeof(draft));
	draft.n = t->ncolumns;
	draft.columns = t->columns;
	sync_check_not_null_columns(rel, t->key, &draft);
	check_owner_rights(t);
	key = SPI_fnumber(RelationGetDescr(rel), t->key);
	if (key <= 0 || !sync_has_key_index(rel, key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("there is no unique index on column %s of %s", quote_identifier(t->key), sync_target_display(t)),
				 errhint("ALTER TABLE %s ADD UNIQUE (%s);", sync_target_display(t), quote_identifier(t->key))));
	relation_close(rel, NoLock);
	sync_load_identities(t, work->auth, work->single, true, &identities);
	SPI_connect();
	sync_register_identities(&identities);
	scope_enter_target(&scope, t->owner, t->search_path);
	sync_register_source(&enr, work->auth, work->single);
	sync_analyse_kept(t->insert_sql, 0, work->auth);
	sync_analyse_kept(t->missing_sql, 0, work->auth);
	sync_analyse_kept(t->check_sql, 1, work->auth);
	sync_analyse_kept(t->update_sql, 1, work->auth);
	scope_leave(&scope);
	SPI_finish();
	sync_end_identities(&identities);
}

int
sync_analyse_targets(SyncAnalysis **analyses)
{
	Oid			relid = caller_auth_users_relid(true);
	Relation	auth;
	SyncAnalysis *list;
	int			n = 0;

	*analyses = NULL;
	sync_load_registry(NULL);
	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
		return 0;
	auth = try_relation_open(relid, NoLock);
	if (auth == NULL)
		return 0;
	plan_hold();
	sync_load_registry(auth);
	list = palloc0(sizeof(SyncAnalysis) * Max(sync_registry->ntargets, 1));
	for (int i = 0; i < sync_registry->ntargets; i++)
	{
		Target	   *t = &sync_registry->targets[i];
		Work		work;

		if (!t->enabled)
			continue;
		memset(&work, 0, sizeof(work));
		work.target = t;
		work.auth = auth;
		work.single = tuplestore_begin_heap(false, false, work_mem);
		list[n].id = t->id;
		list[n].name = pstrdup(sync_target_display(t));
		(void) sync_ask_target(analyse_target, &work, t, false, (Failure **) &list[n].failure);
		n++;
		tuplestore_end(work.single);
	}
	plan_release();
	relation_close(auth, AccessShareLock);
	*analyses = list;
	return n;
}

/* Plan the statements as the owner, and run none. */
void
sync_plan_statements(void *arg)
{
	Work	   *work = (Work *) arg;
	Target	   *t = work->target;
	EphemeralNamedRelationData enr;
	Scope		scope;
	Identities	identities;

	sync_prepare_target(t, RowExclusiveLock);
	sync_load_identities(t, work->auth, work->single, true, &identities);
	SPI_connect();
	sync_register_identities(&identities);
	scope_enter_target(&scope, t->owner, t->search_path);
	sync_register_source(&enr, work->auth, work->single);
	sync_check_kept(t->insert_sql, 0, work->auth);
	sync_check_kept(t->missing_sql, 0, work->auth);
	sync_check_kept(t->check_sql, 1, work->auth);
	if (t->report_sql != NULL)
		sync_check_kept(t->report_sql, 0, work->auth);
	if (t->update_sql != NULL)
		sync_check_kept(t->update_sql, 1, work->auth);
	scope_leave(&scope);
	SPI_finish();
	sync_end_identities(&identities);
}
