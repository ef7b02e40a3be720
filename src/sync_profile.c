/*-------------------------------------------------------------------------
 *
 * sync_profile.c
 *	  One user at a call: ensure_user(), create_profile(), deactivate_user() and
 *	  reactivate_user().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "event.h"
#include "plan.h"
#include "quarantine.h"
#include "sync_internal.h"

PG_FUNCTION_INFO_V1(sync_user_exists);
PG_FUNCTION_INFO_V1(sync_ensure_user);
PG_FUNCTION_INFO_V1(sync_create_profile);

Datum
sync_user_exists(PG_FUNCTION_ARGS)
{
	Relation	auth;
	Tuplestorestate *ignored;
	pg_uuid_t	found[1];
	int			n;

	caller_require_service();
	auth = sync_open_auth_users(AccessShareLock);
	sync_load_registry(auth);
	ignored = tuplestore_begin_heap(false, false, work_mem);
	n = sync_read_users(auth, PG_GETARG_UUID_P(0), 1, true, ignored, found);
	tuplestore_end(ignored);
	table_close(auth, AccessShareLock);
	PG_RETURN_BOOL(n == 1);
}

/*
 * Is there a row for this user in every enabled target, after trying? The event
 * room comes before this one and so calls it through a hook.
 */
bool
sync_ensure_rows(const pg_uuid_t *user_id)
{
	int			ntargets;
	int64	   *targets = sync_select_targets(InvalidOid, &ntargets);
	bool		result = true;

	for (int i = 0; i < ntargets; i++)
	{
		SyncOutcome outcome;

		sync_fill_batches(targets[i], user_id, 1, NULL, false, true, &outcome);
		if (!outcome.exists)
			return false;
		sync_settle_outcomes(targets[i], &outcome, 1, NULL);
		if (outcome.failure != NULL || outcome.skipped)
			result = false;
	}
	if (ntargets == 0)
	{
		AuthUserState state;

		caller_auth_user_state(user_id, &state);
		result = state.exists;
	}
	return result;
}

Datum
sync_ensure_user(PG_FUNCTION_ARGS)
{
	caller_require_service();
	PG_RETURN_BOOL(sync_ensure_rows(PG_GETARG_UUID_P(0)));
}

/* One target's part of create_profile, in its scope. */
typedef struct Profile
{
	Target	   *target;
	pg_uuid_t  *user_id;
	int			ncolumns;
	char	  **names;
	char	  **values;
	bool	   *used;
	char	   *result;			/* the row, as json */
	MemoryContext cxt;
} Profile;

static void
write_profile(void *arg)
{
	Profile    *p = (Profile *) arg;
	Target	   *t = p->target;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	StringInfoData buf;
	Relation	rel;
	TupleDesc	desc;
	Datum	   *args = palloc(sizeof(Datum) * (p->ncolumns + 1));
	char	   *nulls = palloc0(p->ncolumns + 2);
	Oid		   *types = palloc(sizeof(Oid) * (p->ncolumns + 1));
	int			n = 1;
	int			rc;

	sync_bound_lock_wait();
	sync_prepare_target(t, RowExclusiveLock);
	rel = relation_open(t->relid, NoLock);
	desc = RelationGetDescr(rel);

	args[0] = UUIDPGetDatum(p->user_id);
	nulls[0] = ' ';
	types[0] = UUIDOID;
	initStringInfo(&buf);
	for (int i = 0; i < p->ncolumns; i++)
	{
		int			att = SPI_fnumber(desc, p->names[i]);

		if (att <= 0 || strcmp(p->names[i], t->key) == 0)
			continue;
		p->used[i] = true;
		args[n] = p->values[i] ? CStringGetTextDatum(p->values[i]) : (Datum) 0;
		nulls[n] = p->values[i] ? ' ' : 'n';
		types[n] = TEXTOID;
		n++;
		appendStringInfo(&buf, "%s%s = $%d::%s", n > 2 ? ", " : "",
						 quote_identifier(p->names[i]), n,
						 format_type_extended(TupleDescAttr(desc, att - 1)->atttypid, -1,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	}

	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	sync_set_deferred(t, false, false);
	if (n > 1)
	{
		char	   *sql = psprintf("UPDATE %s AS t SET %s WHERE t.%s = $1",
								   sync_relation_display(rel), buf.data, quote_identifier(t->key));

		rc = SPI_execute_with_args(sql, n, types, args, nulls, false, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	}
	rc = SPI_execute_with_args(psprintf("SELECT pg_catalog.to_jsonb(t)::pg_catalog.text FROM %s AS t WHERE t.%s = $1",
										sync_relation_display(rel), quote_identifier(t->key)),
							   1, types, args, nulls, false, 1);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	if (SPI_processed == 1)
		p->result = MemoryContextStrdup(p->cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	sync_set_deferred(t, true, false);
	scope_leave(&scope);
	SPI_finish();
	relation_close(rel, NoLock);
	AtEOXact_GUC(false, guc_level);
}

/*
 * create_profile(user_id, overrides): the user's rows in all targets, with some
 * columns set by the caller. Unlike a sync this raises: the caller waits for
 * the answer.
 */
Datum
sync_create_profile(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *user_id = PG_GETARG_UUID_P(0);
	Jsonb	   *overrides = PG_GETARG_JSONB_P(1);
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;
	Profile		p;
	int64	   *targets;
	int			ntargets;
	StringInfoData out;

	caller_require_service();
	if (!JB_ROOT_IS_OBJECT(overrides))
		refuse("data_malformed", NULL, "overrides is a JSON object: {\"column\": value}.");

	memset(&p, 0, sizeof(p));
	p.user_id = user_id;
	p.cxt = CurrentMemoryContext;
	p.names = palloc(sizeof(char *) * (JB_ROOT_COUNT(overrides) + 1));
	p.values = palloc(sizeof(char *) * (JB_ROOT_COUNT(overrides) + 1));
	p.used = palloc0(sizeof(bool) * (JB_ROOT_COUNT(overrides) + 1));
	it = JsonbIteratorInit(&overrides->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (tok == WJB_KEY)
			p.names[p.ncolumns] = pnstrdup(v.val.string.val, v.val.string.len);
		else if (tok == WJB_VALUE)
		{
			if (v.type == jbvNull)
				p.values[p.ncolumns++] = NULL;
			else if (v.type == jbvString)
				p.values[p.ncolumns++] = pnstrdup(v.val.string.val, v.val.string.len);
			else
			{
				Jsonb	   *j = JsonbValueToJsonb(&v);

				p.values[p.ncolumns++] = JsonbToCString(NULL, &j->root, VARSIZE(j));
			}
		}
	}

	targets = sync_select_targets(InvalidOid, &ntargets);
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int i = 0; i < ntargets; i++)
	{
		SyncOutcome outcome;
		Failure    *failure;

		sync_fill_batches(targets[i], user_id, 1, NULL, false, true, &outcome);
		if (!outcome.exists)
			refuse("user_unknown", NULL, "There is no such row in auth.users.");
		if (outcome.failure != NULL)
			ReThrowError(plan_lasting(outcome.failure->edata));
		quarantine_resolve(targets[i], user_id, 1, NULL);

		plan_hold();
		sync_load_registry(NULL);
		p.target = sync_find_target(sync_registry, targets[i]);
		p.result = NULL;
		if (p.target == NULL)
		{
			plan_release();
			continue;
		}
		if (!sync_run_contained(write_profile, &p, true, &failure))
			ReThrowError(plan_lasting(failure->edata));
		if (p.result != NULL)
		{
			if (out.len > 1)
				appendStringInfoString(&out, ", ");
			escape_json(&out, sync_target_display(p.target));
			appendStringInfo(&out, ": %s", p.result);
		}
		plan_release();
	}
	for (int i = 0; i < p.ncolumns; i++)
		if (!p.used[i])
			refuse("data_malformed", NULL, "Every key of overrides must be a column of a target, and none its key.");
	appendStringInfoChar(&out, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data));
}

/* One target's part of deactivate_user and reactivate_user, in its scope. */
typedef struct Activation
{
	Target	   *target;
	pg_uuid_t  *user_id;
	bool		active;
	char	   *reason;
	bool		changed;
} Activation;

static void
write_activation(void *arg)
{
	Activation *a = (Activation *) arg;
	Target	   *t = a->target;
	int			guc_level = NewGUCNestLevel();
	Relation	rel;
	TupleDesc	desc;
	StringInfoData buf;
	Scope		scope;
	Datum		args[3];
	char		nulls[3] = {' ', ' ', ' '};
	Oid			types[3] = {UUIDOID, TEXTOID, TEXTOID};
	int			att;
	int			rc;

	sync_bound_lock_wait();
	rel = sync_locate_target(t, RowExclusiveLock);
	desc = RelationGetDescr(rel);
	att = SPI_fnumber(desc, "is_active");
	if (att <= 0 || TupleDescAttr(desc, att - 1)->atttypid != BOOLOID)
	{
		relation_close(rel, NoLock);
		AtEOXact_GUC(false, guc_level);
		return;
	}
	args[0] = UUIDPGetDatum(a->user_id);
	args[1] = a->reason ? CStringGetTextDatum(a->reason) : (Datum) 0;
	nulls[1] = a->reason ? ' ' : 'n';
	args[2] = CStringGetTextDatum(GetUserNameFromId(caller_role(), false));

	initStringInfo(&buf);
	appendStringInfo(&buf, "UPDATE %s AS t SET is_active = %s", sync_relation_display(rel),
					 a->active ? "true" : "false");
	if (SPI_fnumber(desc, "deactivated_at") > 0)
		appendStringInfo(&buf, ", deactivated_at = %s", a->active ? "NULL" : "pg_catalog.now()");
	if (SPI_fnumber(desc, "deactivation_reason") > 0)
		appendStringInfo(&buf, ", deactivation_reason = %s", a->active ? "NULL" : "$2");
	/* whom it names depends on the column: a service has a role and no user */
	att = SPI_fnumber(desc, "deactivated_by");
	if (att > 0)
		appendStringInfo(&buf, ", deactivated_by = %s",
						 !a->active && TypeCategory(TupleDescAttr(desc, att - 1)->atttypid) == TYPCATEGORY_STRING ? "$3" : "NULL");
	appendStringInfo(&buf, " WHERE t.%s = $1 AND t.is_active IS DISTINCT FROM %s",
					 quote_identifier(t->key), a->active ? "true" : "false");
	if (t->cxt == NULL)
		t->cxt = AllocSetContextCreate(t->home, "invite_sync target", ALLOCSET_SMALL_SIZES);
	if (!t->built)
		sync_find_deferred_constraints(t);
	relation_close(rel, NoLock);

	SPI_connect();
	scope_enter_target_at(&scope, t->owner, t->search_path, guc_level);
	sync_set_deferred(t, false, false);
	rc = SPI_execute_with_args(buf.data, 3, types, args, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	a->changed = SPI_processed > 0;
	sync_set_deferred(t, true, false);
	scope_leave(&scope);
	SPI_finish();
}

/* The targets whose row of this user has changed. Raises, unlike a sync. */
static Datum
set_active(const pg_uuid_t *user_id, bool active, char *reason)
{
	int			ntargets;
	int64	   *targets;
	AuthUserState state;
	ArrayBuildState *changed = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	pg_uuid_t	id = *user_id;

	caller_require_service();
	caller_auth_user_state(user_id, &state);
	if (!state.exists)
		refuse("user_unknown", NULL, "There is no such row in auth.users.");
	targets = sync_select_targets(InvalidOid, &ntargets);
	for (int i = 0; i < ntargets; i++)
	{
		Activation	a;
		Failure    *failure;

		plan_hold();
		sync_load_registry(NULL);
		memset(&a, 0, sizeof(a));
		a.target = sync_find_target(sync_registry, targets[i]);
		a.user_id = &id;
		a.active = active;
		a.reason = reason;
		if (a.target != NULL && !sync_run_contained(write_activation, &a, true, &failure))
			ReThrowError(plan_lasting(failure->edata));
		if (a.changed)
			accumArrayResult(changed, CStringGetTextDatum(sync_target_display(a.target)), false,
							 TEXTOID, CurrentMemoryContext);
		plan_release();
	}
	(void) event_append("admin", active ? "sync.user_reactivated" : "sync.user_deactivated",
						NULL, NULL, "user",
						DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id))), NULL);
	return makeArrayResult(changed, CurrentMemoryContext);
}

PG_FUNCTION_INFO_V1(sync_deactivate_user);
PG_FUNCTION_INFO_V1(sync_reactivate_user);

/* deactivate_user(user_id, reason) */
Datum
sync_deactivate_user(PG_FUNCTION_ARGS)
{
	caller_refuse_null(PG_ARGISNULL(0), "user_id", "Give the id of an auth user.");
	PG_RETURN_DATUM(set_active(PG_GETARG_UUID_P(0), false,
							   PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

/* reactivate_user(user_id) */
Datum
sync_reactivate_user(PG_FUNCTION_ARGS)
{
	caller_refuse_null(PG_ARGISNULL(0), "user_id", "Give the id of an auth user.");
	PG_RETURN_DATUM(set_active(PG_GETARG_UUID_P(0), true, NULL));
}
