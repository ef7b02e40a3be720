/*-------------------------------------------------------------------------
 *
 * sync_operate.c
 *	  Operating the sync: health, alerts, retries by pg_cron, the
 *	  configuration as a script, and the way to remove it all.
 *
 * Nothing in here is reached from a signup. What only looks reads catalogs and
 * our own small tables, never auth.users, so that a monitor may ask every few
 * seconds; what counts users does so when an operator or a scheduled job asks.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "event.h"
#include "module.h"
#include "plan.h"
#include "sync.h"

#define ALERT_CHANNEL	"invite_sync_alert"

/* Of an entry that only waits for its user to verify an address: no failure. */
#define LINK_PENDING	"'IS001'"

PG_FUNCTION_INFO_V1(sync_health);
PG_FUNCTION_INFO_V1(sync_set_alert);
PG_FUNCTION_INFO_V1(sync_check_alerts);
PG_FUNCTION_INFO_V1(sync_acknowledge_alert);
PG_FUNCTION_INFO_V1(sync_schedule_retry);
PG_FUNCTION_INFO_V1(sync_unschedule_retry);
PG_FUNCTION_INFO_V1(sync_config_sql);
PG_FUNCTION_INFO_V1(sync_uninstall_plan);

static TupleDesc
composite_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return BlessTupleDesc(desc);
}

/* Column col of row r of the last statement. */
static Datum
result_value(uint64 r, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[r], SPI_tuptable->tupdesc, col, isnull);
}

static int64
result_int8(uint64 r, int col)
{
	bool		isnull;
	Datum		value = result_value(r, col, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static bool
result_bool(uint64 r, int col)
{
	bool		isnull;
	Datum		value = result_value(r, col, &isnull);

	return !isnull && DatumGetBool(value);
}

/* As text, in the given context; NULL for null. */
static char *
result_text(uint64 r, int col, MemoryContext cxt)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[r], SPI_tuptable->tupdesc, col);

	return value == NULL ? NULL : MemoryContextStrdup(cxt, value);
}

/* ---------------------------------------------------------------------
 * Health
 * ---------------------------------------------------------------------
 */

typedef enum Level
{
	LEVEL_OK,
	LEVEL_DEGRADED,
	LEVEL_FAILING
} Level;

typedef struct Health
{
	StringInfoData checks;		/* members of a JSON object */
	Level		worst;
	ArrayBuildState *warnings;
	Oid			auth;			/* auth.users, or invalid */
	double		users;			/* estimated rows of it, or negative */
	bool		wanted;			/* is any target enabled? */
	SyncTargetCheck *targets;
	int			ntargets;
} Health;

static void
health_warn(Health *h, const char *warning)
{
	h->warnings = accumArrayResult(h->warnings, CStringGetTextDatum(warning), false,
								   TEXTOID, CurrentMemoryContext);
}

/* facts: members of a JSON object. */
static void
health_check(Health *h, const char *name, Level level, const char *facts)
{
	static const char *const words[] = {"ok", "degraded", "failing"};

	appendStringInfo(&h->checks, "%s\"%s\": {\"status\": \"%s\"%s%s}",
					 h->checks.len > 0 ? ", " : "", name, words[level],
					 facts[0] ? ", " : "", facts);
	h->worst = Max(h->worst, level);
}

/* Rows by the statistics; negative when there are none yet. */
static double
estimated_rows(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double		rows = -1;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

static void
append_estimate(StringInfo buf, double rows)
{
	if (rows < 0)
		appendStringInfoString(buf, "null");
	else
		appendStringInfo(buf, "%.0f", rows);
}

static void
health_triggers(Health *h)
{
	bool		wanted = h->wanted;
	bool		detached = sync_is_detached();
	SyncTrigger *triggers;
	int			n = sync_triggers(&triggers);
	Level		level = LEVEL_OK;
	StringInfoData facts;

	initStringInfo(&facts);
	appendStringInfo(&facts, "\"detached\": %s", detached ? "true" : "false");
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&facts, ", ");
		escape_json(&facts, triggers[i].name);
		appendStringInfo(&facts, ": \"%s\"", triggers[i].state);
		if (!wanted || detached || strcmp(triggers[i].state, "good") == 0)
			continue;
		level = LEVEL_FAILING;
		health_warn(h, psprintf("trigger \"%s\" is %s: call invite_sync.attach()",
								triggers[i].name, triggers[i].state));
	}
	if (wanted && detached)
	{
		level = LEVEL_DEGRADED;
		health_warn(h, "the triggers on auth.users were taken off by detach(): nothing is synced");
	}
	health_check(h, "triggers", level, facts.data);
}

static void
health_targets(Health *h)
{
	double		users = h->users;
	const SyncTargetCheck *targets = h->targets;
	int			n = h->ntargets;
	Level		level = LEVEL_OK;
	int			enabled = 0;
	bool		first = true;
	StringInfoData facts;
	StringInfoData rows;

	initStringInfo(&facts);
	initStringInfo(&rows);
	for (int i = 0; i < n; i++)
	{
		const SyncTargetCheck *t = &targets[i];
		double		estimate;

		if (!t->enabled)
			continue;
		enabled++;
		if (t->failure != NULL)
		{
			/* a table that is locked now may be free in a moment */
			level = Max(level, t->failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ?
						LEVEL_DEGRADED : LEVEL_FAILING);
			appendStringInfoString(&facts, first ? "" : ", ");
			first = false;
			appendStringInfoString(&facts, "{\"target\": ");
			escape_json(&facts, t->name);
			appendStringInfo(&facts, ", \"sqlstate\": \"%s\", \"message\": ",
							 unpack_sql_state(t->failure->sqlerrcode));
			escape_json(&facts, t->failure->edata->message);
			appendStringInfoChar(&facts, '}');
			health_warn(h, psprintf("users cannot be synced to %s: %s", t->name, t->failure->edata->message));
			continue;
		}
		estimate = estimated_rows(t->relid);
		if (rows.len > 0)
			appendStringInfoString(&rows, ", ");
		escape_json(&rows, t->name);
		appendStringInfoString(&rows, ": ");
		append_estimate(&rows, estimate);
		/* statistics are too rough to say more than that a backfill was forgotten */
		if (users >= 1000 && estimate >= 0 && estimate < users / 2)
		{
			level = Max(level, LEVEL_DEGRADED);
			health_warn(h, psprintf("%s seems to have rows for less than half of the users: invite_sync.sync_status() counts them",
									t->name));
		}
	}
	health_check(h, "targets", level,
				 psprintf("\"enabled\": %d, \"disabled\": %d, \"unusable\": [%s], \"estimated_rows\": {%s}",
						  enabled, n - enabled, facts.data, rows.data));
}

/*
 * Ours alone run guard(): a trigger of that name which runs something else is
 * not guarded any more.
 */
static SavedPlan guards_plan = {
	.sql = "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE g.lost), "
	"coalesce(pg_catalog.json_agg(g.trigger_name ORDER BY g.trigger_name) FILTER (WHERE g.lost), '[]')::pg_catalog.text, "
	"pg_catalog.string_agg(pg_catalog.quote_ident(g.trigger_name), ', ' ORDER BY g.trigger_name) FILTER (WHERE g.lost) "
	"FROM (SELECT r.trigger_name, NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t "
	"JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace "
	"WHERE t.tgrelid = $1 AND t.tgname = r.trigger_name AND NOT t.tgisinternal "
	"AND n.nspname = 'invite_sync' AND p.proname = 'guard') AS lost "
	"FROM (SELECT invite_sync.guarded_trigger_name(x.trigger_name, x.trigger_id, x.registered_in) AS trigger_name "
	"FROM invite_sync.guarded_trigger AS x) AS r) AS g",
	.nargs = 1,
	.argtypes = {OIDOID}
};

static void
health_guards(Health *h)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		args[1];
	int64		lost;
	char	   *facts;
	char	   *names;

	args[0] = ObjectIdGetDatum(h->auth);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&guards_plan, args, NULL, true, 1);
	lost = result_int8(0, 2);
	names = result_text(0, 4, cxt);
	facts = result_text(0, 3, cxt);
	facts = MemoryContextStrdup(cxt, psprintf("\"guarded\": " INT64_FORMAT ", \"lost\": %s",
											  result_int8(0, 1), facts));
	scope_leave(&scope);
	SPI_finish();

	if (lost > 0)
		health_warn(h, psprintf("triggers that were guarded are gone or replaced: %s", names));
	health_check(h, "guarded_triggers", lost > 0 ? LEVEL_DEGRADED : LEVEL_OK, facts);
}

/*
 * Never more than 10,000 entries: quarantine can be as large as auth.users, and
 * by then all that matters is known. Without an order, so that no plan can be
 * chosen that reads them all.
 */
static SavedPlan quarantine_plan = {
	.sql = "SELECT pg_catalog.count(*), "
	"pg_catalog.count(*) FILTER (WHERE q.replayable AND q.next_retry_at < pg_catalog.now() - interval '15 minutes'), "
	"pg_catalog.count(*) FILTER (WHERE NOT q.replayable), "
	"pg_catalog.count(*) FILTER (WHERE q.last_failed_at > pg_catalog.now() - interval '1 hour'), "
	"coalesce(pg_catalog.to_json(pg_catalog.min(q.first_failed_at))::pg_catalog.text, 'null'), "
	"(SELECT pg_catalog.count(*) FROM (SELECT FROM invite_sync.quarantine_entry AS e "
	"WHERE e.sqlstate = " LINK_PENDING " LIMIT 10000) AS w) "
	"FROM (SELECT e.replayable, e.next_retry_at, e.first_failed_at, e.last_failed_at "
	"FROM invite_sync.quarantine_entry AS e WHERE e.sqlstate <> " LINK_PENDING " LIMIT 10000) AS q",
	.nargs = 0
};

static void
health_quarantine(Health *h)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	int64		entries;
	int64		overdue;
	int64		by_hand;
	int64		recent;
	int64		pending;
	char	   *oldest;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&quarantine_plan, NULL, NULL, true, 1);
	entries = result_int8(0, 1);
	overdue = result_int8(0, 2);
	by_hand = result_int8(0, 3);
	recent = result_int8(0, 4);
	oldest = result_text(0, 5, cxt);
	pending = result_int8(0, 6);
	scope_leave(&scope);
	SPI_finish();

	if (entries > 0)
		health_warn(h, psprintf(INT64_FORMAT "%s in quarantine, " INT64_FORMAT " of them failed within the last hour",
								entries, entries >= 10000 ? " or more" : "", recent));
	if (by_hand > 0)
		health_warn(h, psprintf(INT64_FORMAT " in quarantine cannot be done again and have to be closed by hand", by_hand));
	if (overdue > 0)
		health_warn(h, psprintf(INT64_FORMAT " in quarantine are overdue by more than 15 minutes: is anything calling invite_sync.retry_quarantine()?",
								overdue));
	health_check(h, "quarantine", entries > 0 ? LEVEL_DEGRADED : LEVEL_OK,
				 psprintf("\"entries\": " INT64_FORMAT ", \"failed_last_hour\": " INT64_FORMAT
						  ", \"overdue\": " INT64_FORMAT ", \"not_replayable\": " INT64_FORMAT ", \"link_pending\": " INT64_FORMAT
						  ", \"oldest\": %s",
						  entries, recent, overdue, by_hand, pending, oldest));
}

static SavedPlan health_alerts_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM invite_sync.alert AS a "
	"WHERE a.resolved_at IS NULL AND a.acknowledged_at IS NULL",
	.nargs = 0
};

static void
health_alerts(Health *h)
{
	Scope		scope;
	int64		open;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&health_alerts_plan, NULL, NULL, true, 1);
	open = result_int8(0, 1);
	scope_leave(&scope);
	SPI_finish();

	if (open > 0)
		health_warn(h, psprintf("alerts are open: " INT64_FORMAT ", see invite_sync.alerts", open));
	health_check(h, "alerts", open > 0 ? LEVEL_DEGRADED : LEVEL_OK,
				 psprintf("\"open\": " INT64_FORMAT, open));
}

static SavedPlan health_version_plan = {
	.sql = "SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'invite_sync'",
	.nargs = 0
};

static void
health_version(Health *h)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	char	   *version;
	bool		differ;
	StringInfoData facts;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&health_version_plan, NULL, NULL, true, 1);
	version = SPI_processed > 0 ? result_text(0, 1, cxt) : NULL;
	scope_leave(&scope);
	SPI_finish();

	differ = version == NULL || strcmp(version, INVITE_SYNC_VERSION) != 0;
	if (differ)
		health_warn(h, psprintf("the library is version %s and the extension's objects are %s: ALTER EXTENSION invite_sync UPDATE",
								INVITE_SYNC_VERSION, version ? version : "absent"));
	initStringInfo(&facts);
	appendStringInfoString(&facts, "\"library\": ");
	escape_json(&facts, INVITE_SYNC_VERSION);
	appendStringInfoString(&facts, ", \"objects\": ");
	if (version != NULL)
		escape_json(&facts, version);
	else
		appendStringInfoString(&facts, "null");
	health_check(h, "version", differ ? LEVEL_DEGRADED : LEVEL_OK, facts.data);
}

/* The registry first: what it says decides what else is missed. */
static void
health_find_targets(Health *h)
{
	int			guc_level = NewGUCNestLevel();

	/* a monitor must not wait behind somebody's ALTER TABLE */
	if (LockTimeout == 0 || LockTimeout > 100)
		(void) set_config_option("lock_timeout", "100", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	h->ntargets = sync_check_targets(&h->targets);
	AtEOXact_GUC(false, guc_level);
	for (int i = 0; i < h->ntargets; i++)
		h->wanted = h->wanted || h->targets[i].enabled;
}

typedef struct HealthPart
{
	Health	   *h;
	void		(*look) (Health *h);
} HealthPart;

static void
look_at_part(void *arg)
{
	HealthPart *part = (HealthPart *) arg;

	part->look(part->h);
}

/*
 * Objects of another version than the library's may not be readable: that is
 * what a monitor has to hear of, beside all the rest.
 */
static bool
health_part(Health *h, const char *name, void (*look) (Health *h))
{
	HealthPart	part = {h, look};
	Failure    *failure;
	StringInfoData facts;

	if (sync_run_contained(look_at_part, &part, true, &failure))
		return true;
	initStringInfo(&facts);
	appendStringInfo(&facts, "\"sqlstate\": \"%s\", \"message\": ", unpack_sql_state(failure->sqlerrcode));
	escape_json(&facts, failure->edata->message);
	health_check(h, name, LEVEL_FAILING, facts.data);
	health_warn(h, psprintf("%s cannot be looked at: %s; do library and extension have the same version? ALTER EXTENSION invite_sync UPDATE, or see invite_sync.verify()",
							name, failure->edata->message));
	return false;
}

/* health(): is everything as it must be? Reads no user. */
Datum
sync_health(PG_FUNCTION_ARGS)
{
	static const char *const words[] = {"healthy", "degraded", "failing"};
	TupleDesc	desc;
	Health		h;
	bool		readable;
	StringInfoData facts;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	caller_require_service();
	desc = composite_desc(fcinfo);
	memset(&h, 0, sizeof(h));
	initStringInfo(&h.checks);
	h.warnings = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	h.users = -1;
	readable = health_part(&h, "targets", health_find_targets);
	/* as far as can be known */
	h.wanted = h.wanted || !readable;

	h.auth = caller_auth_users_relid(true);
	if (OidIsValid(h.auth))
		h.users = estimated_rows(h.auth);
	else
		health_warn(&h, "there is no table auth.users: nothing can be synced");
	initStringInfo(&facts);
	appendStringInfoString(&facts, "\"estimated_rows\": ");
	append_estimate(&facts, h.users);
	health_check(&h, "auth_users", OidIsValid(h.auth) ? LEVEL_OK : h.wanted ? LEVEL_FAILING : LEVEL_DEGRADED,
				 facts.data);

	if (!invite_sync_enabled)
		health_warn(&h, "the setting invite_sync.enabled is off: nothing is synced");
	health_check(&h, "setting", invite_sync_enabled ? LEVEL_OK : h.wanted ? LEVEL_FAILING : LEVEL_DEGRADED,
				 invite_sync_enabled ? "\"enabled\": true" : "\"enabled\": false");
	(void) health_part(&h, "triggers", health_triggers);
	if (readable)
		(void) health_part(&h, "targets", health_targets);
	(void) health_part(&h, "guarded_triggers", health_guards);
	(void) health_part(&h, "quarantine", health_quarantine);
	(void) health_part(&h, "alerts", health_alerts);
	(void) health_part(&h, "version", health_version);

	values[0] = CStringGetTextDatum(words[h.worst]);
	values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{%s}", h.checks.data)));
	values[2] = makeArrayResult(h.warnings, CurrentMemoryContext);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* ---------------------------------------------------------------------
 * Alerts
 * ---------------------------------------------------------------------
 */

static SavedPlan set_rule_plan = {
	.sql = "INSERT INTO invite_sync.alert_rule AS r (check_name, threshold, per) VALUES ($1, $2, $3) "
	"ON CONFLICT (check_name) DO UPDATE SET threshold = excluded.threshold, per = excluded.per, checked_at = NULL "
	"WHERE r.threshold <> excluded.threshold OR r.per <> excluded.per",
	.nargs = 3,
	.argtypes = {TEXTOID, NUMERICOID, INTERVALOID}
};

static SavedPlan drop_rule_plan = {
	.sql = "DELETE FROM invite_sync.alert_rule AS r WHERE r.check_name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan rule_limits_plan = {
	.sql = "SELECT $1 >= 0 AND $1 < 'Infinity'::pg_catalog.numeric, $1 <= 100, "
	"$2 >= interval '1 second' AND $2 <= interval '1 year'",
	.nargs = 2,
	.argtypes = {NUMERICOID, INTERVALOID}
};

/* What one check found beyond its threshold, now. */
typedef struct Beyond
{
	int			n;
	Datum	   *targets;		/* text */
	bool	   *no_target;
	Datum	   *values;			/* numeric */
} Beyond;

/*
 * Bring the alerts of a check in line with what is beyond its threshold: one
 * unresolved alert for each, with the latest value, and none for the rest.
 */
static SavedPlan settle_plan = {
	.sql = "WITH beyond AS (SELECT b.target, b.value FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) "
	"AS b (target, value)), "
	"resolved AS (UPDATE invite_sync.alert AS a SET resolved_at = pg_catalog.clock_timestamp() "
	"WHERE a.check_name = $1 AND a.resolved_at IS NULL "
	"AND NOT EXISTS (SELECT FROM beyond AS b WHERE b.target IS NOT DISTINCT FROM a.target) "
	"RETURNING a.id, a.target, a.value), "
	"changed AS (UPDATE invite_sync.alert AS a SET value = b.value FROM beyond AS b "
	"WHERE a.check_name = $1 AND a.resolved_at IS NULL AND b.target IS NOT DISTINCT FROM a.target "
	"AND a.value <> b.value), "
	"opened AS (INSERT INTO invite_sync.alert AS a (check_name, target, value, threshold) "
	"SELECT $1, b.target, b.value, $4 FROM beyond AS b "
	"WHERE NOT EXISTS (SELECT FROM invite_sync.alert AS u WHERE u.check_name = $1 AND u.resolved_at IS NULL "
	"AND u.target IS NOT DISTINCT FROM b.target) "
	"ON CONFLICT DO NOTHING RETURNING a.id, a.target, a.value) "
	"SELECT true, o.id, pg_catalog.jsonb_build_object('check', $1, 'target', o.target, 'value', o.value, "
	"'threshold', $4) FROM opened AS o "
	"UNION ALL SELECT false, r.id, pg_catalog.jsonb_build_object('check', $1, 'target', r.target, 'value', r.value) "
	"FROM resolved AS r ORDER BY 2",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTARRAYOID, NUMERICARRAYOID, NUMERICOID}
};

static void
settle_alerts(const char *check_name, Datum threshold, const Beyond *beyond, int *opened, int *resolved)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		args[4];
	int			n;
	bool	   *is_new;
	int64	   *ids;
	Jsonb	  **data;

	args[0] = CStringGetTextDatum(check_name);
	args[1] = plan_array(beyond->targets, beyond->no_target, beyond->n, TEXTOID);
	args[2] = plan_array(beyond->values, NULL, beyond->n, NUMERICOID);
	args[3] = threshold;
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&settle_plan, args, NULL, false, 0);
	n = (int) SPI_processed;
	is_new = MemoryContextAlloc(cxt, sizeof(bool) * Max(n, 1));
	ids = MemoryContextAlloc(cxt, sizeof(int64) * Max(n, 1));
	data = MemoryContextAlloc(cxt, sizeof(Jsonb *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		MemoryContext old;
		bool		isnull;

		is_new[i] = result_bool(i, 1);
		ids[i] = result_int8(i, 2);
		old = MemoryContextSwitchTo(cxt);
		data[i] = DatumGetJsonbPCopy(result_value(i, 3, &isnull));
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();

	for (int i = 0; i < n; i++)
	{
		char	   *id = psprintf(INT64_FORMAT, ids[i]);

		if (is_new[i])
		{
			(*opened)++;
			event_append("error", "sync.alert_opened", NULL, NULL, "alert", id, data[i]);
			Async_Notify(ALERT_CHANNEL, id);
		}
		else
		{
			(*resolved)++;
			event_append("system", "sync.alert_resolved", NULL, NULL, "alert", id, data[i]);
		}
	}
}

/* set_alert(check_name, threshold, per) */
Datum
sync_set_alert(PG_FUNCTION_ARGS)
{
	char	   *check_name;
	bool		remove = PG_ARGISNULL(1);
	TupleDesc	desc;
	Scope		scope;
	Datum		args[3];
	bool		changed;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	caller_require_operator();
	desc = composite_desc(fcinfo);
	caller_refuse_null(PG_ARGISNULL(0), "check_name", "Name one of missing, percent, quarantined, trigger_missing.");
	caller_refuse_null(PG_ARGISNULL(2), "per", "Leave the argument out for its default.");
	check_name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strcmp(check_name, "missing") != 0 && strcmp(check_name, "percent") != 0 &&
		strcmp(check_name, "quarantined") != 0 && strcmp(check_name, "trigger_missing") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no check \"%s\"", check_name),
				 errhint("Name one of missing, percent, quarantined, trigger_missing.")));

	SPI_connect();
	scope_enter_own(&scope);
	if (!remove)
	{
		args[0] = PG_GETARG_DATUM(1);
		args[1] = PG_GETARG_DATUM(2);
		plan_execute(&rule_limits_plan, args, NULL, true, 1);
		if (!result_bool(0, 1) || (strcmp(check_name, "percent") == 0 && !result_bool(0, 2)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 strcmp(check_name, "percent") == 0 ?
					 errmsg("threshold of check \"percent\" must be between 0 and 100") :
					 errmsg("threshold of check \"%s\" must be a number from 0 on", check_name),
					 errhint("NULL gives the check up.")));
		if (!result_bool(0, 3))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("per must be between 1 second and 1 year"),
					 errhint("Leave it out for an hour.")));
	}

	args[0] = CStringGetTextDatum(check_name);
	if (remove)
		plan_execute(&drop_rule_plan, args, NULL, false, 0);
	else
	{
		args[1] = PG_GETARG_DATUM(1);
		args[2] = PG_GETARG_DATUM(2);
		plan_execute(&set_rule_plan, args, NULL, false, 0);
	}
	changed = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();

	if (!changed && remove)
		ereport(NOTICE,
				(errmsg("there is no alert for \"%s\", nothing to remove", check_name)));
	else if (!changed)
		ereport(NOTICE,
				(errmsg("alert for \"%s\" is unchanged", check_name)));
	else
		event_append("admin", remove ? "sync.alert_removed" : "sync.alert_set", NULL, NULL,
					 "check", check_name, NULL);
	if (remove)
	{
		Beyond		nothing;
		int			opened = 0;
		int			resolved = 0;

		memset(&nothing, 0, sizeof(nothing));
		settle_alerts(check_name, DirectFunctionCall1(int4_numeric, Int32GetDatum(0)),
					  &nothing, &opened, &resolved);
	}

	values[0] = CStringGetTextDatum(check_name);
	nulls[1] = remove;
	values[1] = remove ? (Datum) 0 : PG_GETARG_DATUM(1);
	nulls[2] = remove;
	values[2] = remove ? (Datum) 0 : PG_GETARG_DATUM(2);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/*
 * The checks that are due, claimed: another session that evaluates them at the
 * same time gets none of these. A job that comes a moment early is let in.
 */
static SavedPlan claim_rules_plan = {
	.sql = "WITH due AS (SELECT r.check_name FROM invite_sync.alert_rule AS r "
	"WHERE NOT $1 OR r.checked_at IS NULL OR r.check_name IN ('quarantined', 'trigger_missing') "
	"OR r.checked_at <= pg_catalog.clock_timestamp() - r.per * 0.9 "
	"ORDER BY r.check_name FOR UPDATE SKIP LOCKED) "
	"UPDATE invite_sync.alert_rule AS r SET checked_at = pg_catalog.clock_timestamp() FROM due AS d "
	"WHERE r.check_name = d.check_name RETURNING r.check_name, r.threshold, r.per",
	.nargs = 1,
	.argtypes = {BOOLOID}
};

/* Users counted once for both checks; a threshold that is null is not asked for. */
static SavedPlan count_users_plan = {
	.sql = "SELECT c.name, s.target, c.value FROM invite_sync.sync_status() AS s "
	"JOIN invite_sync.target_list AS l ON l.target = s.target, "
	"LATERAL (VALUES ('missing', s.missing::pg_catalog.numeric, s.missing > $1), "
	"('percent', s.percent, s.percent < $2)) AS c (name, value, beyond) "
	"WHERE l.enabled AND c.beyond ORDER BY s.target",
	.nargs = 2,
	.argtypes = {NUMERICOID, NUMERICOID}
};

static SavedPlan count_quarantined_plan = {
	.sql = "SELECT coalesce(invite_sync.target_name(t.id, t.relation, t.schema_name, t.table_name, t.registered_in, t.relation_number), "
	"'trigger ' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(coalesce(invite_sync.guarded_trigger_name(g.trigger_name, g.trigger_id, g.registered_in), q.trigger_name))), "
	"pg_catalog.count(*)::pg_catalog.numeric "
	"FROM invite_sync.quarantine_entry AS q LEFT JOIN invite_sync.target AS t ON t.id = q.target_id "
	"LEFT JOIN invite_sync.guarded_trigger AS g ON g.trigger_name = q.trigger_name "
	"WHERE q.last_failed_at > pg_catalog.clock_timestamp() - $2 AND (t.id IS NULL OR t.enabled) "
	"AND q.sqlstate <> " LINK_PENDING " "
	"GROUP BY 1 HAVING pg_catalog.count(*) > $1 ORDER BY 1",
	.nargs = 2,
	.argtypes = {NUMERICOID, INTERVALOID}
};

static SavedPlan any_enabled_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.target AS t WHERE t.enabled)",
	.nargs = 0
};

static SavedPlan forget_alerts_plan = {
	.sql = "DELETE FROM invite_sync.alert AS a WHERE a.resolved_at < pg_catalog.now() - interval '90 days'",
	.nargs = 0
};

/*
 * Take the answer of a counting statement, whose last two columns are target
 * and value; with name only the rows that begin with it.
 */
static void
collect_beyond(Beyond *beyond, const char *name, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	int			col = name ? 2 : 1;

	beyond->targets = palloc(sizeof(Datum) * Max(SPI_processed, 1));
	beyond->no_target = palloc0(sizeof(bool) * Max(SPI_processed, 1));
	beyond->values = palloc(sizeof(Datum) * Max(SPI_processed, 1));
	beyond->n = 0;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		if (name != NULL && strcmp(result_text(i, 1, CurrentMemoryContext), name) != 0)
			continue;
		beyond->targets[beyond->n] = CStringGetTextDatum(result_text(i, col, CurrentMemoryContext));
		beyond->values[beyond->n] = PointerGetDatum(DatumGetNumericCopy(result_value(i, col + 1, &isnull)));
		beyond->n++;
	}
	MemoryContextSwitchTo(old);
}

typedef struct Rule
{
	char	   *check_name;
	Datum		threshold;
	Interval	per;
	bool		evaluated;
	Beyond		beyond;
} Rule;

static Rule *
find_rule(Rule *rules, int n, const char *check_name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(rules[i].check_name, check_name) == 0)
			return &rules[i];
	return NULL;
}

/* How many of our triggers do not do their work, and not because of detach()? */
static int
count_bad_triggers(void)
{
	SyncTrigger *triggers;
	int			n = sync_triggers(&triggers);
	int			bad = 0;
	Scope		scope;
	bool		wanted;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&any_enabled_plan, NULL, NULL, true, 1);
	wanted = result_bool(0, 1);
	scope_leave(&scope);
	SPI_finish();
	if (!wanted || sync_is_detached())
		return 0;
	for (int i = 0; i < n; i++)
		if (strcmp(triggers[i].state, "good") != 0)
			bad++;
	return bad;
}

/* check_alerts(due_only) */
Datum
sync_check_alerts(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	TupleDesc	desc;
	Scope		scope;
	Datum		args[2];
	char		nil[2] = {' ', ' '};
	Rule	   *rules;
	Rule	   *missing;
	Rule	   *percent;
	Rule	   *rule;
	int			nrules;
	int			checked = 0;
	int			opened = 0;
	int			resolved = 0;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	caller_require_service();
	desc = composite_desc(fcinfo);

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&forget_alerts_plan, NULL, NULL, false, 0);
	args[0] = BoolGetDatum(!PG_ARGISNULL(0) && PG_GETARG_BOOL(0));
	plan_execute(&claim_rules_plan, args, NULL, false, 0);
	nrules = (int) SPI_processed;
	rules = MemoryContextAllocZero(cxt, sizeof(Rule) * Max(nrules, 1));
	for (int i = 0; i < nrules; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		bool		isnull;

		rules[i].check_name = result_text(i, 1, cxt);
		rules[i].threshold = PointerGetDatum(DatumGetNumericCopy(result_value(i, 2, &isnull)));
		rules[i].per = *DatumGetIntervalP(result_value(i, 3, &isnull));
		MemoryContextSwitchTo(old);
	}

	/* without auth.users there is nothing to count, and what was counted stands */
	missing = find_rule(rules, nrules, "missing");
	percent = find_rule(rules, nrules, "percent");
	if ((missing != NULL || percent != NULL) && OidIsValid(caller_auth_users_relid(true)))
	{
		nil[0] = missing ? ' ' : 'n';
		nil[1] = percent ? ' ' : 'n';
		args[0] = missing ? missing->threshold : (Datum) 0;
		args[1] = percent ? percent->threshold : (Datum) 0;
		plan_execute(&count_users_plan, args, nil, false, 0);
		if (missing != NULL)
			collect_beyond(&missing->beyond, "missing", cxt);
		if (percent != NULL)
			collect_beyond(&percent->beyond, "percent", cxt);
		if (missing != NULL)
			missing->evaluated = true;
		if (percent != NULL)
			percent->evaluated = true;
	}
	rule = find_rule(rules, nrules, "quarantined");
	if (rule != NULL)
	{
		args[0] = rule->threshold;
		args[1] = IntervalPGetDatum(&rule->per);
		plan_execute(&count_quarantined_plan, args, NULL, false, 0);
		collect_beyond(&rule->beyond, NULL, cxt);
		rule->evaluated = true;
	}
	scope_leave(&scope);
	SPI_finish();

	rule = find_rule(rules, nrules, "trigger_missing");
	if (rule != NULL)
	{
		Datum		bad = DirectFunctionCall1(int4_numeric, Int32GetDatum(count_bad_triggers()));

		rule->beyond.targets = palloc0(sizeof(Datum));
		rule->beyond.no_target = palloc(sizeof(bool));
		rule->beyond.values = palloc(sizeof(Datum));
		rule->beyond.no_target[0] = true;
		rule->beyond.values[0] = bad;
		rule->beyond.n = DatumGetBool(DirectFunctionCall2(numeric_gt, bad, rule->threshold)) ? 1 : 0;
		rule->evaluated = true;
	}

	for (int i = 0; i < nrules; i++)
	{
		if (!rules[i].evaluated)
			continue;
		checked++;
		settle_alerts(rules[i].check_name, rules[i].threshold, &rules[i].beyond, &opened, &resolved);
	}

	values[0] = Int32GetDatum(checked);
	values[1] = Int32GetDatum(opened);
	values[2] = Int32GetDatum(resolved);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

static SavedPlan acknowledge_plan = {
	.sql = "UPDATE invite_sync.alert AS a SET acknowledged_at = pg_catalog.clock_timestamp(), acknowledged_by = $2 "
	"WHERE a.id = $1 AND a.acknowledged_at IS NULL",
	.nargs = 2,
	.argtypes = {INT8OID, NAMEOID}
};

static SavedPlan read_alert_plan = {
	.sql = "SELECT a FROM invite_sync.alerts AS a WHERE a.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* acknowledge_alert(alert_id) */
Datum
sync_acknowledge_alert(PG_FUNCTION_ARGS)
{
	int64		alert_id;
	Scope		scope;
	Datum		args[2];
	bool		changed;
	bool		isnull;
	Datum		row;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "alert_id", "Name an id of invite_sync.alerts.");
	alert_id = PG_GETARG_INT64(0);

	args[0] = Int64GetDatum(alert_id);
	args[1] = plan_name(GetUserNameFromId(caller_role(), false));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&acknowledge_plan, args, NULL, false, 0);
	changed = SPI_processed > 0;
	plan_execute(&read_alert_plan, args, NULL, false, 1);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no alert " INT64_FORMAT, alert_id),
				 errhint("See invite_sync.alerts.")));
	row = SPI_datumTransfer(result_value(0, 1, &isnull), false, -1);
	scope_leave(&scope);
	SPI_finish();

	if (changed)
		event_append("admin", "sync.alert_acknowledged", NULL, NULL, "alert",
					 psprintf(INT64_FORMAT, alert_id), NULL);
	else
		ereport(NOTICE,
				(errmsg("alert " INT64_FORMAT " is acknowledged already", alert_id)));
	return row;
}

/* ---------------------------------------------------------------------
 * Retries by pg_cron
 *
 * pg_cron gives a job to the role that asks for it, and runs it as that role.
 * So its functions are called as the caller, the one place where a statement
 * of ours is; they do nothing but write their own table.
 * ---------------------------------------------------------------------
 */

static const SyncJobs retry_jobs = {
	.title = "Retries by pg_cron",
	.schedule = "schedule_retry",
	.unschedule = "unschedule_retry",
	.instead = "invite_sync.retry_quarantine() and invite_sync.check_alerts(due_only => true) every minute",
	.already = gettext_noop("retries are scheduled so already"),
	.none = gettext_noop("no retries are scheduled"),
	.scheduled_event = "quarantine.retry_scheduled",
	.unscheduled_event = "quarantine.retry_unscheduled",
	.job = {
		/* two, so that a failure of one does not undo the other */
		{"invite_sync_retry_quarantine", NULL, "SELECT invite_sync.retry_quarantine()"},
		{"invite_sync_check_alerts", NULL, "SELECT invite_sync.check_alerts(due_only => true)"}
	}
};

/* Ours first, then those of rooms that come later. */
static const SyncJobs *job_sets[SYNC_JOB_SETS_MAX] = {&retry_jobs};
static int	njob_sets = 1;

void
sync_add_jobs(const SyncJobs *jobs)
{
	if (njob_sets == lengthof(job_sets))
		elog(ERROR, "too many sets of jobs");
	job_sets[njob_sets++] = jobs;
}

typedef struct CronJob
{
	int64		id;
	char	   *name;
	char	   *schedule;
	char	   *command;
	char	   *role;
	bool		active;
} CronJob;

static SavedPlan cron_jobs_plan = {
	.sql = "SELECT j.jobid, j.jobname::pg_catalog.text, j.schedule, j.command, j.username, j.active FROM cron.job AS j "
	"WHERE j.jobname::pg_catalog.text IN ($1, $2) "
	"AND j.database = pg_catalog.current_database()::pg_catalog.text ORDER BY j.jobid",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static SavedPlan cron_schedule_plan = {
	.sql = "SELECT cron.schedule($1, $2, $3)",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID}
};

static SavedPlan cron_schedule_as_plan = {
	.sql = "SELECT cron.schedule_in_database($1, $2, $3, pg_catalog.current_database()::pg_catalog.text, $4)",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

static SavedPlan cron_unschedule_plan = {
	.sql = "SELECT cron.unschedule($1)",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan job_role_plan = {
	.sql = "SELECT o.role FROM invite_sync.operator AS o JOIN pg_catalog.pg_roles AS r ON r.rolname = o.role AND r.oid = o.role_id "
	"WHERE o.active AND r.rolcanlogin AND NOT r.rolsuper "
	"AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database()::pg_catalog.text, 'CONNECT') "
	"ORDER BY o.role <> 'postgres', o.role LIMIT 1",
	.nargs = 0
};

/*
 * Schema cron, if it and its table of jobs are those of pg_cron: another
 * schema of that name must not get its functions called.
 */
static Oid
cron_schema(void)
{
	Oid			extension = get_extension_oid("pg_cron", true);
	Oid			nsp = OidIsValid(extension) ? get_namespace_oid("cron", true) : InvalidOid;
	Oid			relid = OidIsValid(nsp) ? get_relname_relid("job", nsp) : InvalidOid;

	return OidIsValid(relid) && getExtensionOfObject(RelationRelationId, relid) == extension ? nsp : InvalidOid;
}

static bool
cron_has_function(Oid nsp, const char *name, int nargs, const Oid *argtypes)
{
	oidvector  *types = buildoidvector(argtypes, nargs);
	Oid			oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
									  PointerGetDatum(types), ObjectIdGetDatum(nsp));

	return OidIsValid(oid) &&
		getExtensionOfObject(ProcedureRelationId, oid) == get_extension_oid("pg_cron", true);
}

static void
scope_enter_cron(Scope *scope)
{
	scope_enter_target(scope, caller_role(), "pg_catalog, pg_temp");
}

/* The jobs of a set in this database, as far as the caller may see them. */
static int
read_cron_jobs(const SyncJobs *set, CronJob **jobs)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			nsp = cron_schema();
	Scope		scope;
	Datum		args[SYNC_JOBS];
	int			n;

	*jobs = NULL;
	if (!OidIsValid(nsp) ||
		compat_namespace_aclcheck(nsp, caller_role(), ACL_USAGE) != ACLCHECK_OK)
		return 0;
	for (int i = 0; i < SYNC_JOBS; i++)
		args[i] = CStringGetTextDatum(set->job[i].name);
	SPI_connect();
	scope_enter_cron(&scope);
	plan_execute(&cron_jobs_plan, args, NULL, true, 0);
	n = (int) SPI_processed;
	*jobs = MemoryContextAllocZero(cxt, sizeof(CronJob) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		CronJob    *job = &(*jobs)[i];

		job->id = result_int8(i, 1);
		job->name = result_text(i, 2, cxt);
		job->schedule = result_text(i, 3, cxt);
		job->command = result_text(i, 4, cxt);
		job->role = result_text(i, 5, cxt);
		job->active = result_bool(i, 6);
	}
	scope_leave(&scope);
	SPI_finish();
	return n;
}

static void
cron_unschedule(int64 job_id)
{
	Scope		scope;
	Datum		args[1];

	args[0] = Int64GetDatum(job_id);
	SPI_connect();
	scope_enter_cron(&scope);
	plan_execute(&cron_unschedule_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

static int64
cron_schedule(const char *name, const char *schedule, const char *command, const char *as_role)
{
	Scope		scope;
	Datum		args[4];
	int64		id;

	args[0] = CStringGetTextDatum(name);
	args[1] = CStringGetTextDatum(schedule);
	args[2] = CStringGetTextDatum(command);
	args[3] = as_role ? CStringGetTextDatum(as_role) : (Datum) 0;
	SPI_connect();
	scope_enter_cron(&scope);
	plan_execute(as_role ? &cron_schedule_as_plan : &cron_schedule_plan, args, NULL, false, 0);
	id = result_int8(0, 1);
	scope_leave(&scope);
	SPI_finish();
	return id;
}

/*
 * Whom the jobs run as. They step into our scopes for all they do, so an
 * operator's rights are enough, and a superuser's would only be a risk.
 */
static const char *
choose_job_role(bool can_choose)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			outer = caller_role();
	char	   *chosen = NULL;
	HeapTuple	tuple;
	bool		can_login;

	if (can_choose && superuser_arg(outer))
	{
		Scope		scope;

		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&job_role_plan, NULL, NULL, true, 1);
		if (SPI_processed == 1)
			chosen = result_text(0, 1, cxt);
		scope_leave(&scope);
		SPI_finish();
		if (chosen != NULL)
			return chosen;
	}
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(outer));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for role %u", outer);
	can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (!can_login)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot log in, so pg_cron cannot run jobs as it", GetUserNameFromId(outer, false)),
				 errhint("Call it as an operator who can log in.")));
	return GetUserNameFromId(outer, false);
}

/* The function (schedule text) RETURNS SETOF retry_job of a set of jobs. */
Datum
sync_schedule_jobs(FunctionCallInfo fcinfo, const SyncJobs *set)
{
	static const Oid named_args[] = {TEXTOID, TEXTOID, TEXTOID};
	static const Oid as_args[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *schedule;
	const char *role;
	bool		for_another;
	Oid			nsp;
	CronJob    *jobs;
	int			njobs;
	bool		changed = false;

	caller_require_operator();
	InitMaterializedSRF(fcinfo, 0);
	caller_refuse_null(PG_ARGISNULL(0), "schedule", "Leave the argument out for the usual one.");
	schedule = text_to_cstring(PG_GETARG_TEXT_PP(0));

	nsp = cron_schema();
	if (!OidIsValid(nsp))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("pg_cron is not installed in this database"),
				 errhint("Install it (on Debian the package postgresql-%d-cron), set shared_preload_libraries = 'pg_cron' and cron.database_name = '%s', "
						 "restart the server, and run: CREATE EXTENSION pg_cron; "
						 "or let another scheduler call %s.",
						 PG_VERSION_NUM / 10000, get_database_name(MyDatabaseId), set->instead)));
	if (compat_namespace_aclcheck(nsp, caller_role(), ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema cron"),
				 errhint("Let a superuser run: GRANT USAGE ON SCHEMA cron TO %s;",
						 quote_identifier(GetUserNameFromId(caller_role(), false)))));
	if (!cron_has_function(nsp, "schedule", lengthof(named_args), named_args))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("pg_cron is too old"),
				 errhint("It must be 1.4 or newer: install that, restart the server, and run: ALTER EXTENSION pg_cron UPDATE;")));
	role = choose_job_role(cron_has_function(nsp, "schedule_in_database", lengthof(as_args), as_args));
	for_another = get_role_oid(role, false) != caller_role();

	njobs = read_cron_jobs(set, &jobs);
	for (int i = 0; i < SYNC_JOBS; i++)
	{
		const SyncJob *wanted = &set->job[i];
		const char *when = wanted->schedule ? wanted->schedule : schedule;
		CronJob    *kept = NULL;
		Datum		values[5];
		bool		nulls[5] = {false, false, false, false, false};
		int64		id;

		/* one that is as it must be stays; whatever else has our name goes */
		for (int j = 0; j < njobs; j++)
		{
			CronJob    *job = &jobs[j];

			if (strcmp(job->name, wanted->name) != 0)
				continue;
			if (kept == NULL && job->active && strcmp(job->schedule, when) == 0 &&
				strcmp(job->command, wanted->command) == 0 && strcmp(job->role, role) == 0)
				kept = job;
			else
			{
				cron_unschedule(job->id);
				changed = true;
			}
		}
		if (kept != NULL)
			id = kept->id;
		else
		{
			id = cron_schedule(wanted->name, when, wanted->command,
							   for_another ? role : NULL);
			changed = true;
		}
		values[0] = Int64GetDatum(id);
		values[1] = CStringGetTextDatum(wanted->name);
		values[2] = CStringGetTextDatum(when);
		values[3] = CStringGetTextDatum(wanted->command);
		values[4] = plan_name(role);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	if (changed)
		event_append("admin", set->scheduled_event, NULL, NULL, NULL, NULL, NULL);
	else
		ereport(NOTICE,
				(errmsg("%s", _(set->already))));
	return (Datum) 0;
}

/* The function () RETURNS boolean that takes them back. */
Datum
sync_unschedule_jobs(FunctionCallInfo fcinfo, const SyncJobs *set)
{
	CronJob    *jobs;
	int			njobs;

	caller_require_operator();
	njobs = read_cron_jobs(set, &jobs);
	for (int i = 0; i < njobs; i++)
		cron_unschedule(jobs[i].id);
	if (njobs > 0)
		event_append("admin", set->unscheduled_event, NULL, NULL, NULL, NULL, NULL);
	else
		ereport(NOTICE,
				(errmsg("%s", _(set->none))));
	PG_RETURN_BOOL(njobs > 0);
}

/* schedule_retry(schedule) */
Datum
sync_schedule_retry(PG_FUNCTION_ARGS)
{
	return sync_schedule_jobs(fcinfo, &retry_jobs);
}

/* unschedule_retry() */
Datum
sync_unschedule_retry(PG_FUNCTION_ARGS)
{
	return sync_unschedule_jobs(fcinfo, &retry_jobs);
}

/* ---------------------------------------------------------------------
 * The configuration as a script
 * ---------------------------------------------------------------------
 */

/*
 * Names sort as type name and so in the same order in every database. An
 * operator who runs the script must not fail at what only a superuser may
 * grant, when it is granted already (the installation makes postgres one).
 */
static SavedPlan config_operators_plan = {
	.sql = "SELECT pg_catalog.format('SELECT invite_sync.grant_operator(%L) WHERE NOT pg_catalog.has_function_privilege("
	"%L, ''invite_sync.config_sql()'', ''EXECUTE'');', pg_catalog.quote_ident(o.role), o.role), NULL::pg_catalog.name "
	"FROM invite_sync.operator AS o JOIN pg_catalog.pg_roles AS r ON r.rolname = o.role AND r.oid = o.role_id "
	"WHERE o.active ORDER BY o.role",
	.nargs = 0
};

/*
 * Everything is said, also what is the default: defaults may change. The path
 * of the target is set by a second call, because add_target() takes none.
 */
static SavedPlan config_targets_plan = {
	.sql = "SELECT pg_catalog.format(E'SELECT target FROM invite_sync.add_target(%1$L, key => %2$L, on_delete => %3$L, "
	"on_error => %4$L,%5$s enabled => %6$s, allow_user_written => %7$s, mapping => %8$L);\\n"
	"SELECT target FROM invite_sync.set_target(%1$L, search_path => %9$L);', "
	"l.name, l.key, l.on_delete, l.on_error, "
	"CASE WHEN l.link_by IS NULL THEN '' ELSE pg_catalog.format(' link_by => %L,', l.link_by) END, "
	"l.enabled::pg_catalog.text, l.allow_user_written::pg_catalog.text, "
	"(SELECT coalesce(E'{\\n' || pg_catalog.string_agg(pg_catalog.format('    %s: {\"value\": %s, \"update\": \"%s\"}', "
	"pg_catalog.to_json(m.column_name::pg_catalog.text), pg_catalog.to_json(m.expression), m.update_policy), "
	"E',\\n' ORDER BY m.column_name) || E'\\n}', '{}') FROM invite_sync.mapping AS m WHERE m.target_id = l.id), "
	"l.search_path), l.definer "
	"FROM (SELECT t.*, invite_sync.target_name(t.id, t.relation, t.schema_name, t.table_name, t.registered_in, t.relation_number) AS name "
	"FROM invite_sync.target AS t) AS l ORDER BY l.name COLLATE \"C\"",
	.nargs = 0
};

static SavedPlan config_guards_plan = {
	.sql = "SELECT pg_catalog.format('SELECT trigger_name FROM invite_sync.guard_trigger(%L%s%s);', g.trigger_name, "
	"CASE WHEN g.gate OR g.on_failure <> 'quarantine' THEN pg_catalog.format(', on_failure => %L', g.on_failure) ELSE '' END, "
	"CASE WHEN g.let_through <> '{}' THEN pg_catalog.format(', let_through => %L', g.let_through) ELSE '' END), "
	"g.guarded_by FROM (SELECT invite_sync.guarded_trigger_name(x.trigger_name, x.trigger_id, x.registered_in) AS trigger_name, x.gate, x.on_failure, "
	"x.let_through, x.guarded_by FROM invite_sync.guarded_trigger AS x) AS g ORDER BY g.trigger_name",
	.nargs = 0
};

static SavedPlan config_alerts_plan = {
	.sql = "SELECT pg_catalog.format('SELECT check_name FROM invite_sync.set_alert(%L, %s, per => %L);', r.check_name, "
	"r.threshold, r.per), NULL::pg_catalog.name FROM invite_sync.alert_rule AS r ORDER BY r.check_name COLLATE \"C\"",
	.nargs = 0
};

static SavedPlan attachment_plan = {
	.sql = "SELECT coalesce((SELECT a.detached FROM invite_sync.attachment AS a), false), "
	"EXISTS (SELECT FROM invite_sync.attachment AS a) OR EXISTS (SELECT FROM invite_sync.target AS t WHERE t.enabled)",
	.nargs = 0
};

/* A section of the script, if the statement returns (call, role) rows. */
static void
append_section(StringInfo script, const char *title, SavedPlan *plan)
{
	Scope		scope;
	const char *self = GetUserNameFromId(caller_role(), false);
	const char *acting = NULL;

	SPI_connect();
	scope_enter_own(&scope);
	/* the script must not look otherwise in a session with other settings */
	(void) set_config_option("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	plan_execute(plan, NULL, NULL, true, 0);
	if (SPI_processed > 0)
		appendStringInfo(script, "\n-- %s\n", title);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *call = result_text(i, 1, CurrentMemoryContext);
		char	   *role = result_text(i, 2, CurrentMemoryContext);

		/* what somebody else answers for stays theirs */
		if (role != NULL && (strcmp(role, self) == 0 || !OidIsValid(get_role_oid(role, true))))
			role = NULL;
		if (acting != NULL && (role == NULL || strcmp(role, acting) != 0))
			appendStringInfoString(script, "RESET ROLE;\n");
		if (role != NULL && (acting == NULL || strcmp(role, acting) != 0))
			appendStringInfo(script, "SET ROLE %s;\n", quote_identifier(role));
		acting = role;
		appendStringInfo(script, "%s\n", call);
	}
	if (acting != NULL)
		appendStringInfoString(script, "RESET ROLE;\n");
	scope_leave(&scope);
	SPI_finish();
}

/* config_sql() */
Datum
sync_config_sql(PG_FUNCTION_ARGS)
{
	StringInfoData script;
	Scope		scope;
	bool		detached;
	bool		attached;
	CronJob    *jobs;
	int			njobs;
	const SyncListener *listener;

	caller_require_operator();
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&attachment_plan, NULL, NULL, true, 1);
	detached = result_bool(0, 1);
	attached = !detached && result_bool(0, 2);
	scope_leave(&scope);
	SPI_finish();

	initStringInfo(&script);
	appendStringInfoString(&script, "-- Configuration of invite_sync, made by invite_sync.config_sql()\n");
	append_section(&script, "Operators: what is not granted yet needs a superuser", &config_operators_plan);
	/* first, or adding a target would attach */
	if (detached)
		appendStringInfoString(&script, "\n-- The triggers on auth.users are off on purpose\nSELECT invite_sync.detach();\n");
	append_section(&script, "Targets", &config_targets_plan);
	if (attached)
		appendStringInfoString(&script, "\n-- The triggers on auth.users\nSELECT invite_sync.attach();\n");
	append_section(&script, "Guarded triggers", &config_guards_plan);
	append_section(&script, "Alerts", &config_alerts_plan);
	for (int i = 0; (listener = sync_listener(i)) != NULL; i++)
		for (int k = 0; k < listener->nconfig; k++)
			append_section(&script, listener->config[k].title, listener->config[k].plan);
	for (int set = 0; set < njob_sets; set++)
	{
		njobs = read_cron_jobs(job_sets[set], &jobs);
		for (int i = 0; i < njobs; i++)
		{
			/* the first job has the schedule that was asked for */
			if (strcmp(jobs[i].name, job_sets[set]->job[0].name) != 0)
				continue;
			appendStringInfo(&script, "\n-- %s\nSELECT job_name FROM invite_sync.%s(%s);\n",
							 job_sets[set]->title, job_sets[set]->schedule, quote_literal_cstr(jobs[i].schedule));
			break;
		}
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(script.data, script.len));
}

/* ---------------------------------------------------------------------
 * The way back
 * ---------------------------------------------------------------------
 */

typedef struct Steps
{
	ReturnSetInfo *rsinfo;
	int			n;
} Steps;

static void
add_step(Steps *steps, const char *statement, const char *why)
{
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	values[0] = Int32GetDatum(++steps->n);
	values[1] = CStringGetTextDatum(statement);
	values[2] = CStringGetTextDatum(why);
	tuplestore_putvalues(steps->rsinfo->setResult, steps->rsinfo->setDesc, values, nulls);
}

/* Statements (and reasons) made by a plan over our tables and the catalogs. */
static void
add_steps(Steps *steps, SavedPlan *plan)
{
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, NULL, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
		add_step(steps, result_text(i, 1, CurrentMemoryContext), result_text(i, 2, CurrentMemoryContext));
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan waiting_plan = {
	.sql = "SELECT 'SELECT * FROM invite_sync.retry_quarantine(max_rows => 10000, due_only => false);', "
	"'Last chance for what is in quarantine, which goes with the extension; what fails again is lost.' "
	"WHERE EXISTS (SELECT FROM invite_sync.quarantine_entry AS q)",
	.nargs = 0
};

#define OUR_TRIGGER_NAMES \
	"'invite_sync_insert', 'invite_sync_update', 'Invite_sync_delete', 'invite_sync_identity'"

/* Also one that no mapping needs any more: detach() takes them all. */
static SavedPlan detach_plan = {
	.sql = "SELECT 'SELECT invite_sync.detach();', "
	"'Takes the triggers off the tables of the auth server: from here on nothing is synced.' "
	"WHERE EXISTS (SELECT FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace "
	"WHERE t.tgname IN (" OUR_TRIGGER_NAMES ") AND n.nspname = 'invite_sync' AND p.proname LIKE 'sync\\_on\\_%')",
	.nargs = 0
};

static SavedPlan unguard_plan = {
	.sql = "SELECT pg_catalog.format('SELECT invite_sync.unguard_trigger(%L);', g.trigger_name), "
	"'Makes the trigger what it was before guard_trigger().' "
	"FROM (SELECT invite_sync.guarded_trigger_name(x.trigger_name, x.trigger_id, x.registered_in) AS trigger_name "
	"FROM invite_sync.guarded_trigger AS x) AS g ORDER BY g.trigger_name",
	.nargs = 0
};

/*
 * What else rests on the extension's objects and would make DROP EXTENSION
 * fail: somebody's policy, view, trigger or column. Parts of our own tables and
 * views are not members themselves but belong to one. What detach(),
 * unguard_trigger() and unprotect_table() take away has steps of its own.
 */
static SavedPlan dependents_plan = {
	.sql = "WITH member AS (SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d "
	"JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid "
	"WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e' AND e.extname = 'invite_sync'), "
	"dependent AS (SELECT DISTINCT d.classid, d.objid, CASE WHEN d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
	"THEN d.objsubid ELSE 0 END AS objsubid "
	"FROM pg_catalog.pg_depend AS d JOIN member AS m ON m.classid = d.refclassid AND m.objid = d.refobjid "
	"WHERE d.deptype = 'n'), "
	"part AS (SELECT p.*, CASE p.classid "
	"WHEN 'pg_catalog.pg_rewrite'::pg_catalog.regclass THEN (SELECT x.ev_class FROM pg_catalog.pg_rewrite AS x WHERE x.oid = p.objid) "
	"WHEN 'pg_catalog.pg_trigger'::pg_catalog.regclass THEN (SELECT x.tgrelid FROM pg_catalog.pg_trigger AS x WHERE x.oid = p.objid) "
	"WHEN 'pg_catalog.pg_policy'::pg_catalog.regclass THEN (SELECT x.polrelid FROM pg_catalog.pg_policy AS x WHERE x.oid = p.objid) "
	"WHEN 'pg_catalog.pg_attrdef'::pg_catalog.regclass THEN (SELECT x.adrelid FROM pg_catalog.pg_attrdef AS x WHERE x.oid = p.objid) "
	"WHEN 'pg_catalog.pg_constraint'::pg_catalog.regclass THEN (SELECT x.conrelid FROM pg_catalog.pg_constraint AS x WHERE x.oid = p.objid) "
	"WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN coalesce((SELECT x.indrelid FROM pg_catalog.pg_index AS x WHERE x.indexrelid = p.objid), p.objid) "
	"END AS relid FROM dependent AS p) "
	"SELECT '-- first: ' || CASE WHEN p.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass "
	"THEN pg_catalog.pg_describe_object('pg_catalog.pg_class'::pg_catalog.regclass, p.relid, 0) "
	"ELSE pg_catalog.pg_describe_object(p.classid, p.objid, p.objsubid) END, "
	"'It uses an object of the extension: drop or change it, or DROP EXTENSION is refused.' "
	"FROM part AS p WHERE NOT EXISTS (SELECT FROM member AS m WHERE m.classid = p.classid AND m.objid = p.objid) "
	"AND NOT EXISTS (SELECT FROM member AS m WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.objid = p.relid) "
	"AND NOT (p.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t "
	"WHERE t.oid = p.objid AND (t.tgname IN (" OUR_TRIGGER_NAMES ") "
	"OR t.tgname IN (SELECT invite_sync.guarded_trigger_name(g.trigger_name, g.trigger_id, g.registered_in) FROM invite_sync.guarded_trigger AS g)) "
	"AND t.tgrelid IN (SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
	"WHERE n.nspname = 'auth'))) "
	"AND NOT (p.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND EXISTS (SELECT FROM pg_catalog.pg_policy AS x "
	"WHERE x.oid = p.objid AND x.polname IN (" SYNC_POLICY_NAMES "))) "
	"ORDER BY 1",
	.nargs = 0
};

/*
 * Roles, and rights on settings, are the cluster's: other databases that have
 * the extension need them. They have it where the role owns something there.
 */
static SavedPlan other_databases_plan = {
	.sql = "SELECT pg_catalog.count(DISTINCT s.dbid) FROM pg_catalog.pg_shdepend AS s "
	"JOIN pg_catalog.pg_roles AS r ON r.oid = s.refobjid "
	"WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname = 'invite_sync_owner' AND s.dbid <> 0 "
	"AND s.dbid <> (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())",
	.nargs = 0
};

static SavedPlan settings_plan = {
	.sql = "SELECT CASE WHEN r.oid IS NULL THEN pg_catalog.format('ALTER DATABASE %I RESET %s;', pg_catalog.current_database(), c.name) "
	"ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I RESET %s;', r.rolname, pg_catalog.current_database(), c.name) END, "
	"'A setting of the extension made for this database; superusers.' "
	"FROM pg_catalog.pg_db_role_setting AS s JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase "
	"LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole, "
	"LATERAL (SELECT pg_catalog.split_part(u.item, '=', 1) AS name FROM pg_catalog.unnest(s.setconfig) AS u (item)) AS c "
	"WHERE d.datname = pg_catalog.current_database() AND c.name LIKE 'invite\\_sync.%' ORDER BY r.rolname, c.name",
	.nargs = 0
};

static SavedPlan cluster_settings_plan = {
	.sql = "SELECT pg_catalog.format('ALTER ROLE %I RESET %s;', r.rolname, c.name), "
	"'A setting of the extension made for a role; superusers.' "
	"FROM pg_catalog.pg_db_role_setting AS s JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole, "
	"LATERAL (SELECT pg_catalog.split_part(u.item, '=', 1) AS name FROM pg_catalog.unnest(s.setconfig) AS u (item)) AS c "
	"WHERE s.setdatabase = 0 AND c.name LIKE 'invite\\_sync.%' ORDER BY r.rolname, c.name",
	.nargs = 0
};

static SavedPlan parameters_plan = {
	.sql = "SELECT pg_catalog.format('REVOKE ALL ON PARAMETER %s FROM %s;', p.parname, "
	"CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END), "
	"'Takes back the right to set it, which grant_operator() gave; superusers.' "
	"FROM pg_catalog.pg_parameter_acl AS p, "
	"LATERAL (SELECT DISTINCT a.grantee FROM pg_catalog.aclexplode(p.paracl) AS a) AS g "
	"LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee "
	"WHERE p.parname LIKE 'invite\\_sync.%' AND (g.grantee = 0 OR NOT r.rolsuper) ORDER BY p.parname, r.rolname",
	.nargs = 0
};

/* uninstall_plan() */
Datum
sync_uninstall_plan(PG_FUNCTION_ARGS)
{
	Steps		steps;
	CronJob    *jobs;
	SyncTrigger *triggers;
	int			ntriggers;
	Scope		scope;
	int64		others;
	const SyncListener *listener;

	caller_require_operator();
	InitMaterializedSRF(fcinfo, 0);
	steps.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	steps.n = 0;

	add_step(&steps, "SELECT invite_sync.config_sql();",
			 "Keep what it returns: it makes this configuration again.");
	add_steps(&steps, &waiting_plan);
	for (int set = 0; set < njob_sets; set++)
		if (read_cron_jobs(job_sets[set], &jobs) > 0)
			add_step(&steps, psprintf("SELECT invite_sync.%s();", job_sets[set]->unschedule), "Takes the jobs out of pg_cron.");
	add_steps(&steps, &unguard_plan);
	ntriggers = sync_triggers(&triggers);
	for (int i = 0; i < ntriggers; i++)
		if (strcmp(triggers[i].state, "replaced") == 0)
			add_step(&steps, psprintf("-- first: trigger %s on the auth server's table", quote_identifier(triggers[i].name)),
					 "It has the name of one of ours and is not as attach() makes it: drop it, or let attach() replace it.");
	add_steps(&steps, &detach_plan);
	for (int i = 0; (listener = sync_listener(i)) != NULL; i++)
		if (listener->uninstall != NULL)
			add_steps(&steps, listener->uninstall);
	add_steps(&steps, &dependents_plan);
	add_steps(&steps, &settings_plan);

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&other_databases_plan, NULL, NULL, true, 1);
	others = result_int8(0, 1);
	scope_leave(&scope);
	SPI_finish();

	if (others == 0)
	{
		add_steps(&steps, &cluster_settings_plan);
		add_steps(&steps, &parameters_plan);
	}
	add_step(&steps, "DROP EXTENSION invite_sync;",
			 "Its tables go with it, the audit log too: export what must be kept. The extension's owner or a superuser.");
	add_step(&steps, "DROP SCHEMA invite_sync;",
			 "PostgreSQL leaves the schema behind, empty; superusers.");
	if (others == 0)
		add_step(&steps, "DROP ROLE invite_sync_owner;",
				 "No other database of the cluster has the extension; superusers.");
	else
		add_step(&steps, "-- role invite_sync_owner and the rights on settings stay",
				 psprintf(INT64_FORMAT " other database(s) of the cluster have the extension and need them.", others));
	return (Datum) 0;
}
