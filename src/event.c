/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The append-only audit log.
 *
 * An event is written in the own scope, into a table that refuses UPDATE,
 * DELETE and TRUNCATE to everybody. log_event() is for applications and is
 * called in the middle of their work, so it contains what fails and bounds
 * what it waits for; event_append() is for the other rooms and raises like any
 * INSERT. Seals chain digests over closed batches; retention deletes sealed
 * batches only as a whole, so that what is left goes on verifying.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "caller.h"
#include "event.h"
#include "plan.h"

/*
 * How long log_event() waits for any one lock: its caller's work goes on
 * without the event rather than wait for somebody's DDL.
 */
#define EVENT_LOCK_TIMEOUT_MS	250

#define EVENT_TEXT_MAX			200 /* bytes of action, target_type, target_id */
#define EVENT_DATA_MAX			8192	/* bytes of data::text */

/*
 * Data this large in its binary form is over EVENT_DATA_MAX as text, whatever
 * is in it (the binary form takes at most four times the room), so it is
 * refused before it is fetched and written out.
 */
#define EVENT_DATA_BINARY_MAX	(8 * EVENT_DATA_MAX)

#define EVENT_PATH_MAX			128
#define EVENT_METHOD_MAX		10

#define EVENT_BATCH_MAX			1000000
#define EVENT_SEAL_POLL_MS		20

PG_FUNCTION_INFO_V1(event_log);
PG_FUNCTION_INFO_V1(event_append_only);
PG_FUNCTION_INFO_V1(event_redact);
PG_FUNCTION_INFO_V1(event_seal);
PG_FUNCTION_INFO_V1(event_verify);
PG_FUNCTION_INFO_V1(event_prune);

bool		(*event_ensure_user_hook) (const pg_uuid_t *user_id) = NULL;
bool		(*event_organization_hook) (const pg_uuid_t *user_id,
										const pg_uuid_t *organization_id) = NULL;

/* A target's trigger may log too: then ensuring the user would not end. */
static bool ensuring_user = false;

/*
 * The table from which retention is about to delete. The append-only trigger
 * clears it when it lets that one statement through, so that nothing the
 * statement sets off can delete a second time.
 */
static Oid	prune_relid = InvalidOid;

/* Actions that begin with one of these and a dot are the extension's own. */
static const char *const rooms[] = {
	"caller", "plan", "event", "sync", "quarantine", "organization",
	"membership", "token", "invitation", "quota", "account", "hook",
	"doctor", "drift"
};

/* ---------------------------------------------------------------------
 * Writing
 * ---------------------------------------------------------------------
 */

enum
{
	ARG_KIND,
	ARG_ACTION,
	ARG_ACTOR,
	ARG_ORGANIZATION,
	ARG_TARGET_TYPE,
	ARG_TARGET_ID,
	ARG_DATA,
	ARG_UNKNOWN_USER,
	ARG_ROLE,
	ARG_METHOD,
	ARG_PATH,
	INSERT_NARGS
};

static SavedPlan insert_plan = {
	.sql = "INSERT INTO invite_sync.event AS e"
	" (kind, action, actor_id, organization_id, target_type, target_id, data, request)"
	" VALUES ($1, $2, $3, $4, $5, $6,"
	" CASE WHEN $7 IS NULL OR pg_catalog.jsonb_typeof($7) = 'null' THEN pg_catalog.jsonb_build_object()"
	" WHEN pg_catalog.jsonb_typeof($7) = 'object' THEN $7"
	" ELSE pg_catalog.jsonb_build_object('value', $7) END"
	" || CASE WHEN $8 IS NULL THEN pg_catalog.jsonb_build_object()"
	" ELSE pg_catalog.jsonb_build_object('unknown_user_id', $8) END,"
	" pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('role', $9, 'method', $10, 'path', $11)))"
	" RETURNING e.id",
	.nargs = INSERT_NARGS,
	.argtypes = {TEXTOID, TEXTOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, JSONBOID,
	UUIDOID, TEXTOID, TEXTOID, TEXTOID}
};

/*
 * The request's method, if it looks like one. Anybody can set the setting, so
 * what it holds is only let in when it cannot be anything else.
 */
static char *
event_request_method(void)
{
	const char *method = GetConfigOption("request.method", true, false);
	size_t		len;

	if (method == NULL)
		return NULL;
	len = strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
	if (len == 0 || len > EVENT_METHOD_MAX || method[len] != '\0')
		return NULL;
	return pstrdup(method);
}

/*
 * The first two segments of the request's path: "/profiles", "/rpc/accept".
 * What follows may be anything (a proxy's own routes, a token in a link), and
 * a character that no name of a table or function needs means that it is no
 * such name; an address always has one.
 */
static char *
event_request_path(void)
{
	const char *path = GetConfigOption("request.path", true, false);
	size_t		len = 0;
	int			slashes = 0;

	if (path == NULL || path[0] != '/')
		return NULL;
	for (; path[len] != '\0' && path[len] != '?'; len++)
	{
		char		c = path[len];

		if (c == '/')
		{
			if (++slashes > 2)
				break;
		}
		else if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				   (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.'))
			return NULL;
	}
	if (len > EVENT_PATH_MAX)
		return NULL;
	return pnstrdup(path, len);
}

static void
event_set_text(Datum *values, char *nulls, int arg, const char *value)
{
	nulls[arg] = value ? ' ' : 'n';
	values[arg] = value ? CStringGetTextDatum(value) : (Datum) 0;
}

static void
event_set_uuid(Datum *values, char *nulls, int arg, const pg_uuid_t *value)
{
	nulls[arg] = value ? ' ' : 'n';
	values[arg] = value ? UUIDPGetDatum(value) : (Datum) 0;
}

/* The one INSERT; what event_append() promises holds here too. */
static int64
event_insert(const char *kind, const char *action, const pg_uuid_t *actor,
			 const pg_uuid_t *organization_id, const char *target_type,
			 const char *target_id, Jsonb *data, const pg_uuid_t *unknown_user)
{
	Scope		scope;
	Datum		values[INSERT_NARGS];
	char		nulls[INSERT_NARGS];
	bool		isnull;
	int64		id;

	SPI_connect();

	event_set_text(values, nulls, ARG_KIND, kind);
	event_set_text(values, nulls, ARG_ACTION, action);
	event_set_uuid(values, nulls, ARG_ACTOR, actor);
	event_set_uuid(values, nulls, ARG_ORGANIZATION, organization_id);
	event_set_text(values, nulls, ARG_TARGET_TYPE, target_type);
	event_set_text(values, nulls, ARG_TARGET_ID, target_id);
	nulls[ARG_DATA] = data ? ' ' : 'n';
	values[ARG_DATA] = data ? JsonbPGetDatum(data) : (Datum) 0;
	event_set_uuid(values, nulls, ARG_UNKNOWN_USER, unknown_user);

	/*
	 * Where there is no actor (service, operators, the auth server) the role
	 * is all that says who it was: the one of login or SET ROLE, which
	 * functions around us do not change.
	 */
	event_set_text(values, nulls, ARG_ROLE, GetUserNameFromId(OidIsValid(caller_probed_role) ? caller_probed_role : GetOuterUserId(), true));
	event_set_text(values, nulls, ARG_METHOD, event_request_method());
	event_set_text(values, nulls, ARG_PATH, event_request_path());

	scope_enter_own(&scope);
	plan_execute(&insert_plan, values, nulls, false, 0);
	if (SPI_processed != 1)
		elog(ERROR, "event was not inserted");
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
									 1, &isnull));
	scope_leave(&scope);

	SPI_finish();
	return id;
}

/* For the other rooms, who may use the reserved actions and every kind. */
int64
event_append(const char *kind, const char *action, const pg_uuid_t *actor,
			 const pg_uuid_t *organization_id, const char *target_type,
			 const char *target_id, Jsonb *data)
{
	return event_insert(kind, action, actor, organization_id, target_type,
						target_id, data, NULL);
}

/* ---------------------------------------------------------------------
 * log_event()
 * ---------------------------------------------------------------------
 */

/*
 * Run work(arg) contained. False, with the SQLSTATE and everything undone, when
 * it failed; what must not be contained is rethrown. With aside, a serialization
 * failure is contained too: the work is not the caller's, and that somebody has
 * changed the user meanwhile is no failure of the caller's transaction. (One
 * that dooms it shows at COMMIT.)
 */
static bool
event_contained(void (*work) (void *), void *arg, bool aside, int *sqlerrcode)
{
	ErrorData  *edata;
	int			guc_level = NewGUCNestLevel();

	/* one that the session has made shorter is kept */
	if (LockTimeout <= 0 || LockTimeout > EVENT_LOCK_TIMEOUT_MS)
		(void) set_config_option("lock_timeout",
								 CppAsString2(EVENT_LOCK_TIMEOUT_MS),
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	edata = plan_contained(work, arg, true);
	AtEOXact_GUC(false, guc_level);
	if (edata == NULL)
		return true;
	if (caller_must_rethrow(edata->sqlerrcode) &&
		!(aside && edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE))
		ReThrowError(plan_lasting(edata));
	*sqlerrcode = edata->sqlerrcode;
	FreeErrorData(edata);
	return false;
}

static void
event_ensure_user_work(void *arg)
{
	(void) event_ensure_user_hook((const pg_uuid_t *) arg);
}

/*
 * Give the user their rows in the targets before the application writes one
 * that references them. Contained apart from the event: a target that is
 * broken must not cost the event too.
 */
static void
event_ensure_user(pg_uuid_t *user_id)
{
	int			sqlerrcode;

	if (event_ensure_user_hook == NULL || ensuring_user)
		return;

	ensuring_user = true;
	PG_TRY();
	{
		(void) event_contained(event_ensure_user_work, user_id, true, &sqlerrcode);
	}
	PG_FINALLY();
	{
		ensuring_user = false;
	}
	PG_END_TRY();
}

/*
 * Does the action begin with a room's name and a dot? Letter case and anything
 * before the first letter or digit are ignored: " Sync.x" must not pass for
 * one of ours at a glance.
 */
static bool
event_action_is_ours(const char *action)
{
	while (*action != '\0' &&
		   !((*action >= 'a' && *action <= 'z') ||
			 (*action >= 'A' && *action <= 'Z') ||
			 (*action >= '0' && *action <= '9')))
		action++;

	for (size_t i = 0; i < lengthof(rooms); i++)
	{
		size_t		len = strlen(rooms[i]);

		if (pg_strncasecmp(action, rooms[i], len) == 0 && action[len] == '.')
			return true;
	}
	return false;
}

typedef struct LogCall
{
	FunctionCallInfo fcinfo;
	const char *reason;			/* why it is refused, or NULL */
	const char *hint;
	int64		id;
} LogCall;

/*
 * A text argument, NULL if absent. Sets the refusal when it is longer than we
 * keep (seen before it is fetched: it may be a gigabyte) or could forge lines
 * where the log is shown as text.
 */
static char *
event_text_arg(LogCall *call, int argno)
{
	FunctionCallInfo fcinfo = call->fcinfo;
	char	   *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	if (toast_raw_datum_size(PG_GETARG_DATUM(argno)) <= EVENT_TEXT_MAX + VARHDRSZ)
	{
		const char *p;

		value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
		for (p = value; *p != '\0'; p++)
			if ((unsigned char) *p < 0x20 || *p == 0x7f)
				break;
		if (*p == '\0')
			return value;
	}
	call->reason = "name_malformed";
	call->hint = "action, target_type and target_id hold at most 200 bytes and no control characters.";
	return NULL;
}

/*
 * Everything that log_event() does, inside its subtransaction: also finding out
 * who asks, which reads tables. A refusal is noted in the call and not raised.
 */
static void
event_log_work(void *arg)
{
	LogCall    *call = (LogCall *) arg;
	FunctionCallInfo fcinfo = call->fcinfo;
	Caller		caller;
	AuthUserState state;
	char	   *action = event_text_arg(call, 0);
	char	   *target_type = event_text_arg(call, 1);
	char	   *target_id = event_text_arg(call, 2);
	Jsonb	   *data = NULL;
	pg_uuid_t	user_id;
	pg_uuid_t  *actor = NULL;
	pg_uuid_t  *unknown_user = NULL;
	pg_uuid_t  *organization_id = PG_ARGISNULL(5) ? NULL : PG_GETARG_UUID_P(5);
	const char *kind = "activity";

	if (call->reason != NULL)
		return;
	if (action == NULL || action[0] == '\0')
	{
		call->reason = "name_malformed";
		call->hint = "An event needs an action.";
		return;
	}
	if (event_action_is_ours(action))
	{
		call->reason = "not_permitted";
		call->hint = "Actions that begin with the name of a room of invite_sync and a dot are its own: choose another name.";
		return;
	}

	caller_get(&caller);

	/*
	 * The auth server's own role may log too, as service may: the triggers of
	 * an application that fire on a signup or a sync run in its session, those
	 * of a target as the target's owner.
	 */
	if (caller.kind == CALLER_NOBODY &&
		OidIsValid(caller_auth_users_relid(true)) &&
		caller.outer_role == caller_auth_owner() &&
		(caller.role == caller.outer_role || caller_role_is_operator(caller.role)))
		caller.kind = CALLER_SERVICE;

	switch (caller.kind)
	{
		case CALLER_USER:

			/*
			 * Only as themselves: another's id in user_id, like another kind,
			 * is left out, or a user could write into the log what others
			 * are said to have done.
			 */
			user_id = caller.user_id;
			caller_auth_user_state(&user_id, &state);
			if (!state.exists || !state.usable)
				call->reason = "not_authenticated";
			else if (state.anonymous)
				call->reason = "anonymous_user";
			actor = &user_id;
			break;

		case CALLER_SERVICE:
			if (!PG_ARGISNULL(4))
			{
				user_id = *PG_GETARG_UUID_P(4);
				caller_auth_user_state(&user_id, &state);
				if (state.exists)
					actor = &user_id;
				else
					unknown_user = &user_id;
			}
			if (!PG_ARGISNULL(6))
			{
				text	   *asked = PG_GETARG_TEXT_PP(6);

				/* "system" is what we did by ourselves */
				if (toast_raw_datum_size(PG_GETARG_DATUM(6)) <= EVENT_TEXT_MAX + VARHDRSZ)
					kind = text_to_cstring(asked);
				else
					kind = "";
				if (strcmp(kind, "activity") != 0 && strcmp(kind, "admin") != 0 &&
					strcmp(kind, "error") != 0)
				{
					call->reason = "name_malformed";
					call->hint = "kind is activity, admin or error.";
				}
			}
			break;

		case CALLER_ANON:
		case CALLER_NOBODY:
			call->reason = "not_authenticated";
			break;
	}
	if (call->reason != NULL)
		return;

	/* looked at last: it may be large, and those who may not log need not wait */
	if (!PG_ARGISNULL(3))
	{
		bool		too_large = true;

		if (toast_raw_datum_size(PG_GETARG_DATUM(3)) <= EVENT_DATA_BINARY_MAX)
		{
			data = PG_GETARG_JSONB_P(3);
			too_large = strlen(JsonbToCString(NULL, &data->root, 0)) > EVENT_DATA_MAX;
		}
		if (too_large)
		{
			call->reason = "data_malformed";
			call->hint = "data holds at most 8 kB.";
			return;
		}
	}

	if (organization_id != NULL && caller.kind == CALLER_USER &&
		event_organization_hook != NULL &&
		!event_organization_hook(&user_id, organization_id))
		organization_id = NULL;

	if (actor != NULL)
		event_ensure_user(actor);

	call->id = event_insert(kind, action, actor, organization_id, target_type,
							target_id, data, unknown_user);
}

/*
 * log_event(): write an event for an application, from the middle of its work,
 * which must not fail or wait for our sake. NULL and a WARNING say that the
 * event was not written. The WARNING gives a word or an SQLSTATE, never the
 * text of an error, and its context stays out of the server's log: both may
 * quote what was to be logged.
 */
Datum
event_log(PG_FUNCTION_ARGS)
{
	LogCall		call = {.fcinfo = fcinfo};
	int			sqlerrcode = 0;

	/*
	 * A subtransaction cannot begin in a parallel plan. We are marked unsafe
	 * and get there only through a function wrongly marked safe.
	 */
	if (IsInParallelMode())
		sqlerrcode = ERRCODE_INVALID_TRANSACTION_STATE;
	else if (event_contained(event_log_work, &call, false, &sqlerrcode) && call.reason == NULL)
		PG_RETURN_INT64(call.id);

	if (sqlerrcode != 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("event not written"),
				 errdetail_internal("sqlstate=%s", unpack_sql_state(sqlerrcode)),
				 errhidestmt(true), errhidecontext(true)));
	else
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("event not written"),
				 errdetail_internal("%s", call.reason),
				 call.hint ? errhint("%s", call.hint) : 0,
				 errhidestmt(true), errhidecontext(true)));
	PG_RETURN_NULL();
}

/* ---------------------------------------------------------------------
 * Append-only
 * ---------------------------------------------------------------------
 */

/*
 * Refuses what would change the past, whoever asks. The one exception is known
 * by a variable in this process that only event_prune() sets, not by a setting
 * or a role: those anybody of enough power could take on.
 */
Datum
event_append_only(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	if (!TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be fired before the statement")));

	if (OidIsValid(prune_relid) &&
		TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) &&
		RelationGetRelid(trigdata->tg_relation) == prune_relid)
	{
		prune_relid = InvalidOid;
		return PointerGetDatum(NULL);
	}

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("table \"%s\" is append-only",
					RelationGetRelationName(trigdata->tg_relation)),
			 errhint("Retention is CALL invite_sync.prune_events(keep => '1 year'); seals stay.")));
	return PointerGetDatum(NULL);	/* keep compiler quiet */
}

/* ---------------------------------------------------------------------
 * Redaction
 * ---------------------------------------------------------------------
 */

/*
 * What may be shown of a payload: which keys it has and whether they hold
 * anything, for whoever must find out why a sync failed.
 */
Datum
event_redact(PG_FUNCTION_ARGS)
{
	static char present[] = "[PRESENT]";
	static char missing[] = "[MISSING]";
	Jsonb	   *payload = PG_GETARG_JSONB_P(0);
	JsonbIterator *it = JsonbIteratorInit(&payload->root);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbValue	value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		if (token == WJB_VALUE || token == WJB_ELEM)
		{
			bool		is_missing = value.type == jbvNull ||
				(value.type == jbvString && value.val.string.len == 0);

			value.type = jbvString;
			value.val.string.val = is_missing ? missing : present;
			value.val.string.len = strlen(value.val.string.val);
		}
		result = pushJsonbValue(&state, token,
								token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM ?
								&value : NULL);
	}

	/* a bare value is kept as an array of one that only its flag tells apart */
	if (JB_ROOT_IS_SCALAR(payload))
		result->val.array.rawScalar = true;

	PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}

/* ---------------------------------------------------------------------
 * Seals
 *
 * The formulas stand once each, here, and for auditors in docs/event.md, where
 * a test computes them apart from this file.
 *
 * An event's text is that of a JSON array: times as whole microseconds and
 * everything else in types whose text no setting changes, in UTF-8 whatever
 * the database's encoding.
 * ---------------------------------------------------------------------
 */

#define MICROSECONDS(column) \
	"(EXTRACT(epoch FROM " column ") * 1000000)::pg_catalog.int8"

#define ROW_DIGEST \
	"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.jsonb_build_array(" \
	"e.id, " MICROSECONDS("e.at") ", e.kind, e.action, e.actor_id, e.organization_id, " \
	"e.target_type, e.target_id, e.data, e.request)::pg_catalog.text, 'UTF8'))"

#define ROWS_DIGEST(digest, id) \
	"pg_catalog.sha256(pg_catalog.string_agg(" digest ", ''::pg_catalog.bytea ORDER BY " id "))"

#define SEAL_DIGEST(s, previous) \
	"pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.format('invite_sync seal 1 %s %s %s %s ', " \
	s ".first_id, " s ".last_id, " s ".rows, " MICROSECONDS(s ".at") "), 'UTF8')" \
	" || coalesce(" previous ", ''::pg_catalog.bytea) || " s ".rows_digest)"

#define LOWEST_ID "'-9223372036854775808'::pg_catalog.int8"

static SavedPlan seal_bound_plan = {
	.sql = "SELECT pg_catalog.max(e.id) FROM invite_sync.event AS e"
	" WHERE e.id > coalesce((SELECT pg_catalog.max(s.last_id) FROM invite_sync.event_seal AS s), " LOWEST_ID ")",
	.nargs = 0
};

/* Only INSERT takes this mode on the table; a vacuum, say, has another. */
static SavedPlan seal_writers_plan = {
	.sql = "SELECT pg_catalog.array_agg(l.virtualtransaction), pg_catalog.max(l.pid)"
	" FROM pg_catalog.pg_locks AS l"
	" WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'RowExclusiveLock'"
	" AND l.relation = $1 AND l.database ="
	" (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())"
	" AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
	" AND ($2 IS NULL OR l.virtualtransaction = ANY ($2))",
	.nargs = 2,
	.argtypes = {OIDOID, TEXTARRAYOID}
};

static SavedPlan seal_plan = {
	.sql = "WITH last AS MATERIALIZED ("
	" SELECT s.last_id, s.digest FROM invite_sync.event_seal AS s ORDER BY s.id DESC LIMIT 1"
	"), batch AS MATERIALIZED ("
	" SELECT e.id, " ROW_DIGEST " AS digest FROM invite_sync.event AS e"
	" WHERE e.id <= $1 AND e.id > coalesce((SELECT l.last_id FROM last AS l), " LOWEST_ID ")"
	" ORDER BY e.id LIMIT $2"
	"), body AS MATERIALIZED ("
	" SELECT pg_catalog.min(b.id) AS first_id, pg_catalog.max(b.id) AS last_id, pg_catalog.count(*) AS rows,"
	" " ROWS_DIGEST("b.digest", "b.id") " AS rows_digest, pg_catalog.clock_timestamp() AS at FROM batch AS b"
	") INSERT INTO invite_sync.event_seal AS t"
	" (first_id, last_id, rows, rows_digest, digest, previous, at)"
	" SELECT b.first_id, b.last_id, b.rows, b.rows_digest, " SEAL_DIGEST("b", "l.digest") ", l.digest, b.at"
	" FROM body AS b LEFT JOIN last AS l ON true WHERE b.rows > 0"
	" RETURNING t.id, t.first_id, t.last_id, t.rows, pg_catalog.encode(t.digest, 'hex')",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

static SavedPlan verify_plan = {
	.sql = "WITH seal AS ("
	" SELECT s.*, pg_catalog.lag(s.last_id) OVER chain AS after_id,"
	" pg_catalog.lag(s.digest) OVER chain AS before"
	" FROM invite_sync.event_seal AS s WINDOW chain AS (ORDER BY s.id)"
	"), pruned AS MATERIALIZED ("
	" SELECT pg_catalog.max(CASE pg_catalog.jsonb_typeof(e.data -> 'through_id')"
	" WHEN 'number' THEN (e.data -> 'through_id')::pg_catalog.int8 END) AS through_id"
	" FROM invite_sync.event AS e WHERE e.action = 'event.pruned'"
	"), checked AS ("
	" SELECT s.id, s.rows, b.rows AS found, b.rows_digest = s.rows_digest AS rows_same,"
	" s.digest = " SEAL_DIGEST("s", "s.previous") " AS seal_same,"
	" s.previous IS NOT DISTINCT FROM s.before AS chained,"
	" coalesce(s.last_id <= p.through_id, false) AS pruned"
	" FROM seal AS s CROSS JOIN pruned AS p CROSS JOIN LATERAL ("
	" SELECT pg_catalog.count(*) AS rows, " ROWS_DIGEST(ROW_DIGEST, "e.id") " AS rows_digest"
	" FROM invite_sync.event AS e"
	" WHERE e.id > coalesce(s.after_id, " LOWEST_ID ") AND e.id <= s.last_id) AS b"
	"), judged AS ("
	" SELECT c.id, CASE"
	" WHEN NOT c.seal_same THEN 'the seal was changed'"
	" WHEN NOT c.chained THEN 'the seal before this one was changed or removed'"
	" WHEN c.found = c.rows AND c.rows_same THEN NULL"
	" WHEN c.pruned AND c.found < c.rows THEN NULL"
	" WHEN c.found < c.rows THEN pg_catalog.format('events missing: %s of %s', c.rows - c.found, c.rows)"
	" WHEN c.found > c.rows THEN pg_catalog.format('events added: %s', c.found - c.rows)"
	" ELSE 'an event was changed' END AS wrong,"
	" CASE WHEN c.found = c.rows THEN 'verified'"
	" WHEN c.found = 0 THEN 'pruned by retention'"
	" ELSE pg_catalog.format('pruned by retention, events still there: %s of %s', c.found, c.rows) END AS sound"
	" FROM checked AS c"
	" UNION ALL"
	" SELECT NULL, 'no seal has this digest', NULL WHERE $1 IS NOT NULL AND NOT EXISTS ("
	" SELECT FROM invite_sync.event_seal AS s WHERE pg_catalog.encode(s.digest, 'hex') = pg_catalog.lower($1))"
	") SELECT j.id, j.wrong IS NULL, coalesce(j.wrong, j.sound) FROM judged AS j ORDER BY j.id NULLS LAST",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Oid
event_relid(const char *name)
{
	Oid			relid = get_relname_relid(name, caller_extension_schema());

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"invite_sync.%s\" does not exist", name)));
	return relid;
}

static int64
event_batch_size(FunctionCallInfo fcinfo, int argno)
{
	int32		batch_size = PG_ARGISNULL(argno) ? 0 : PG_GETARG_INT32(argno);

	if (batch_size < 1 || batch_size > EVENT_BATCH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be between 1 and %d", EVENT_BATCH_MAX)));
	return batch_size;
}

/*
 * Execute under a snapshot of this moment: what another session committed
 * while we waited for its lock must be seen, also in a REPEATABLE READ
 * transaction, whose own snapshot is older.
 */
static void
event_execute_latest(SavedPlan *plan, Datum *values, const char *nulls)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	plan_execute_snapshot(plan, values, nulls, snapshot, false, 0);
	UnregisterSnapshot(snapshot);
}

/*
 * Have batches read along the primary key, until the scope is left. Without
 * statistics, or with old ones, the planner would rather fetch and sort all
 * that is left of the log, and that again for every batch.
 */
static void
event_walk_by_id(void)
{
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* A column of the only row of the last result. */
static Datum
event_result(int column, bool *isnull)
{
	*isnull = true;
	if (SPI_processed == 0)
		return (Datum) 0;
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

/*
 * Wait until no transaction can still commit an event with an id up to the
 * highest that is visible already.
 *
 * Ids are drawn before commit, so a lower one may appear after a higher one.
 * Transaction ids do not help: one that is older than every running transaction
 * may have drawn its id after one that still runs (it had got its transaction
 * id first, by other work). What every writer has, from before it draws its id
 * until it ends, is a lock on the table. So whoever holds none now, and has not
 * committed, draws an id above the highest that was visible before we looked.
 * To look, and not to queue for a lock ourselves, keeps new events flowing.
 */
static void
event_wait_for_writers(Oid relid, int wait_ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
	Datum		values[2] = {ObjectIdGetDatum(relid), (Datum) 0};
	char		nulls[2] = {' ', 'n'};

	for (;;)
	{
		bool		isnull;
		bool		no_pid;
		Datum		writers;
		int32		pid;

		plan_execute(&seal_writers_plan, values, nulls, false, 0);
		writers = event_result(1, &isnull);
		if (isnull)
			return;
		pid = DatumGetInt32(event_result(2, &no_pid));

		/* only those of the first look matter, the later ones are above */
		if (nulls[1] == 'n')
		{
			values[1] = writers;
			nulls[1] = ' ';
		}

		if (GetCurrentTimestamp() >= until)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("a transaction that wrote events is still running"),
					 no_pid ? errdetail("It is a prepared transaction.") :
					 errdetail("It belongs to process %d.", pid),
					 errhint("Try again when it has ended, or with a longer wait.")));

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 EVENT_SEAL_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * seal_events(): seal what is written and cannot get company any more. Sealers
 * take turns by a lock on the seals, which writers of events never touch, and
 * which retention takes too.
 */
Datum
event_seal(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Scope		scope;
	Datum		values[2];
	double		wait_ms = -1;
	bool		isnull;
	char		timeout[16];

	caller_require_operator();
	PreventCommandIfReadOnly("seal_events()");

	values[1] = Int64GetDatum(event_batch_size(fcinfo, 0));
	if (!PG_ARGISNULL(1))
	{
		Interval   *wait = PG_GETARG_INTERVAL_P(1);

		wait_ms = wait->time / 1000.0 +
			((double) wait->month * DAYS_PER_MONTH + wait->day) * SECS_PER_DAY * 1000.0;
	}
	if (!(wait_ms >= 0 && wait_ms <= SECS_PER_DAY * 1000.0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("wait must be between 0 and one day")));

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	scope_enter_own(&scope);

	/* for the lock below; the scope's end sets it back. 0 would be for ever. */
	snprintf(timeout, sizeof(timeout), "%d", Max((int) wait_ms, 1));
	(void) set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(event_relid("event_seal"), ShareRowExclusiveLock);
	event_walk_by_id();

	event_execute_latest(&seal_bound_plan, NULL, NULL);
	values[0] = event_result(1, &isnull);
	if (!isnull)
	{
		/* by value on some platforms only: the result goes with the next one */
		values[0] = Int64GetDatum(DatumGetInt64(values[0]));
		event_wait_for_writers(event_relid("event"), (int) wait_ms);
		for (;;)
		{
			Datum		row[5];
			bool		nulls[5];
			int			i;

			CHECK_FOR_INTERRUPTS();
			event_execute_latest(&seal_plan, values, NULL);
			if (SPI_processed == 0)
				break;
			for (i = 0; i < 5; i++)
				row[i] = event_result(i + 1, &nulls[i]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, nulls);
			SPI_freetuptable(SPI_tuptable);
		}
	}

	scope_leave(&scope);
	SPI_finish();
	return (Datum) 0;
}

/* verify_events(): only reads, so that a standby can be asked too. */
Datum
event_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Scope		scope;
	Datum		values[1];
	char		nulls[1];
	uint64		i;

	caller_require_operator();

	nulls[0] = PG_ARGISNULL(0) ? 'n' : ' ';
	values[0] = PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0);

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&verify_plan, values, nulls, true, 0);
	for (i = 0; i < SPI_processed; i++)
	{
		Datum		row[3];
		bool		isnull[3];
		int			column;

		for (column = 0; column < 3; column++)
			row[column] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
										column + 1, &isnull[column]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row, isnull);
	}
	scope_leave(&scope);
	SPI_finish();
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * Retention
 * ---------------------------------------------------------------------
 */

/*
 * A seal that begins at or below $1 and ends above it: what it covers stays,
 * for half a batch cannot be verified.
 */
#define ABOVE_WHOLE_BATCHES(bound) \
	"LEAST(" bound ", (SELECT pg_catalog.min(s.first_id) - 1 FROM invite_sync.event_seal AS s" \
	" WHERE s.first_id <= " bound " AND s.last_id > " bound "))"

static SavedPlan prune_bound_plan = {
	.sql = "SELECT b.bound, pg_catalog.jsonb_build_object('through_id', b.bound, 'before',"
	" pg_catalog.to_char($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))"
	" FROM (SELECT " ABOVE_WHOLE_BATCHES("a.bound") " AS bound"
	" FROM (SELECT coalesce((SELECT pg_catalog.min(e.id) - 1 FROM invite_sync.event AS e WHERE e.at >= $1),"
	" (SELECT pg_catalog.max(e.id) FROM invite_sync.event AS e)) AS bound) AS a) AS b"
	" WHERE EXISTS (SELECT FROM invite_sync.event AS e WHERE e.id <= b.bound AND e.at < $1)",
	.nargs = 1,
	.argtypes = {TIMESTAMPTZOID}
};

/* The bound again, for seals that were made since the last commit. */
static SavedPlan prune_again_plan = {
	.sql = "SELECT " ABOVE_WHOLE_BATCHES("$1"),
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* By an array of ids: never a scan of the whole log for one batch. */
static SavedPlan prune_plan = {
	.sql = "WITH gone AS ("
	" DELETE FROM invite_sync.event AS e WHERE e.id = ANY (ARRAY("
	" SELECT o.id FROM invite_sync.event AS o WHERE o.id > $1 AND o.id <= $2 AND o.at < $3"
	" ORDER BY o.id LIMIT $4)) RETURNING e.id"
	") SELECT pg_catalog.count(*), pg_catalog.max(g.id) FROM gone AS g",
	.nargs = 4,
	.argtypes = {INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID}
};

/*
 * The one DELETE that the append-only trigger lets through. The variable is
 * cleared whatever happens: by the trigger as the statement begins, and here
 * in case it never came to that.
 */
static void
event_prune_delete(Datum *values)
{
	prune_relid = event_relid("event");
	PG_TRY();
	{
		event_execute_latest(&prune_plan, values, NULL);
	}
	PG_FINALLY();
	{
		prune_relid = InvalidOid;
	}
	PG_END_TRY();
}

/*
 * prune_events(): retention. Commits per batch, so it is a procedure without a
 * SET clause and holds no scope at a commit.
 *
 * What is going to be deleted is written down first, as an event in the first
 * batch's transaction: verify_events() tells by it rows that retention took
 * from rows that somebody else did, also after a crash in the middle.
 */
Datum
event_prune(PG_FUNCTION_ARGS)
{
	CallContext *context = castNode(CallContext, fcinfo->context);
	TimestampTz cutoff;
	int64		batch_size;
	int64		bound = 0;
	int64		after = PG_INT64_MIN;
	int64		total = 0;
	bool		first = true;

	caller_require_operator();
	PreventCommandIfReadOnly("prune_events()");

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keep must not be null")));
	cutoff = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()),
													 PG_GETARG_DATUM(0)));
	if (cutoff > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keep must not be negative")));
	batch_size = event_batch_size(fcinfo, 1);

	if (context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("events are pruned in transactions of their own"),
				 errhint("Call it outside a transaction block and outside functions.")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	for (;;)
	{
		Scope		scope;
		Datum		values[4];
		bool		isnull;
		int64		upto;
		int64		count;

		scope_enter_own(&scope);

		/* no seal may appear between the look at the seals and the DELETE */
		LockRelationOid(event_relid("event_seal"), ShareRowExclusiveLock);
		event_walk_by_id();

		if (first)
		{
			values[0] = TimestampTzGetDatum(cutoff);
			event_execute_latest(&prune_bound_plan, values, NULL);
			bound = DatumGetInt64(event_result(1, &isnull));
			if (isnull)
			{
				scope_leave(&scope);
				break;
			}
			event_append("admin", "event.pruned", NULL, NULL, NULL, NULL,
						 DatumGetJsonbP(event_result(2, &isnull)));
			first = false;
		}

		values[0] = Int64GetDatum(bound);
		event_execute_latest(&prune_again_plan, values, NULL);
		upto = DatumGetInt64(event_result(1, &isnull));

		values[0] = Int64GetDatum(after);
		values[1] = Int64GetDatum(upto);
		values[2] = TimestampTzGetDatum(cutoff);
		values[3] = Int64GetDatum(batch_size);
		event_prune_delete(values);
		count = DatumGetInt64(event_result(1, &isnull));
		if (count > 0)
			after = DatumGetInt64(event_result(2, &isnull));
		total += count;

		scope_leave(&scope);
		SPI_commit();
		if (count < batch_size)
			break;
	}
	SPI_finish();

	ereport(NOTICE,
			(errmsg_plural("%lld event pruned", "%lld events pruned",
						   (unsigned long) total, (long long) total)));
	PG_RETURN_VOID();
}
