/*-------------------------------------------------------------------------
 *
 * invitation_bulk.c
 *	  Many invitations at once, invitations that came from elsewhere, and the
 *	  question whether one could be made.
 *
 * What is refused comes back as a row here, so each is tried in a
 * subtransaction. All users and organizations are locked before the first of
 * them, and the rows are worked off in order of their addresses, so that two
 * callers never wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "invitation.h"
#include "invitation_create.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"
#include "token.h"

PG_FUNCTION_INFO_V1(invitation_create_many);
PG_FUNCTION_INFO_V1(invitation_check);
PG_FUNCTION_INFO_V1(invitation_import_row);
PG_FUNCTION_INFO_V1(invitation_import_statement);
PG_FUNCTION_INFO_V1(invitation_import_failed);
PG_FUNCTION_INFO_V1(invitation_import_older);

#define BULK_MAX			500
#define IMPORT_MAX			10000
#define FAILED_MAX			100000	/* rows of a COPY that are kept */
#define LEGACY_TOKEN_MIN	16	/* characters; what is shorter can be guessed */
#define DAYS_MAX			30

/* One row, from what was passed to what came of it. */
typedef struct BulkRow
{
	int			n;
	JsonbContainer *object;		/* NULL: it is none */
	const Inviter *inviter;
	InvitationLocks *locks;
	InvitationRequest request;
	char	   *email;			/* as it was passed */
	text	   *role;			/* what the row, or the call, says */
	char	   *organization;	/* as it was passed */
	bool		parsed;
	bool		done;
	InvitationOutcome outcome;
	const char *reason;			/* NULL: made */
	const char *message;
	bool		skipped;
} BulkRow;

/* ---------------------------------------------------------------------
 * Refusals as values
 * ---------------------------------------------------------------------
 */

void
invitation_take_refusal(ErrorData *edata, const char **reason, const char **message)
{
	if (caller_must_rethrow(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	if (strncmp(unpack_sql_state(edata->sqlerrcode), "PT", 2) == 0 && edata->detail != NULL)
	{
		*reason = pnstrdup(edata->detail, strcspn(edata->detail, " "));
		*message = pstrdup(edata->message);
	}
	else
	{
		*reason = pstrdup(unpack_sql_state(edata->sqlerrcode));
		*message = "it could not be done now";
	}
	FreeErrorData(edata);
}

static bool
is_reason(const char *reason, const char *word)
{
	return reason != NULL && strcmp(reason, word) == 0;
}

/* ---------------------------------------------------------------------
 * Rows
 * ---------------------------------------------------------------------
 */

static void
bad_row(void)
{
	refuse("data_malformed", "argument=invitations", NULL);
}

/* A string of the row; NULL where it is absent or null. */
static char *
string_of(const BulkRow *row, const char *key)
{
	JsonbValue *v = getKeyJsonValueFromContainer(row->object, key, strlen(key), NULL);

	if (v == NULL || v->type == jbvNull)
		return NULL;
	if (v->type != jbvString)
		bad_row();
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static Jsonb *
json_of(const BulkRow *row, const char *key)
{
	JsonbValue *v = getKeyJsonValueFromContainer(row->object, key, strlen(key), NULL);

	if (v == NULL || v->type == jbvNull)
		return NULL;
	return JsonbValueToJsonb(v);
}

static void
known_keys(const BulkRow *row, const char *const *known, int nknown)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	it = JsonbIteratorInit(row->object);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		is_known = token != WJB_KEY;

		for (int i = 0; i < nknown && !is_known; i++)
			is_known = v.val.string.len == (int) strlen(known[i]) &&
				memcmp(v.val.string.val, known[i], v.val.string.len) == 0;
		if (!is_known)
			bad_row();
	}
}

Jsonb *
invitation_data_with_names(Jsonb *data, const char *full_name, const char *job_title)
{
	StringInfoData names;
	Datum		result;

	initStringInfo(&names);
	appendStringInfoChar(&names, '{');
	if (full_name != NULL && *full_name)
	{
		appendStringInfoString(&names, "\"full_name\": ");
		escape_json(&names, full_name);
	}
	if (job_title != NULL && *job_title)
	{
		if (names.len > 1)
			appendStringInfoString(&names, ", ");
		appendStringInfoString(&names, "\"job_title\": ");
		escape_json(&names, job_title);
	}
	appendStringInfoChar(&names, '}');
	result = DirectFunctionCall1(jsonb_in, CStringGetDatum(names.data));
	if (data != NULL)
	{
		if (!JB_ROOT_IS_OBJECT(data))
			refuse("data_malformed", "argument=data", "Pass an object.");
		result = DirectFunctionCall2(jsonb_concat, result, JsonbPGetDatum(data));
	}
	return DatumGetJsonbP(result);
}

/* What a row and the call's defaults for it say about address, grants and data. */
static void
read_offer(BulkRow *row, text *default_role, const pg_uuid_t *default_organization)
{
	InvitationRequest *request = &row->request;
	char	   *platform_role;
	char	   *role;
	Jsonb	   *grants;
	pg_uuid_t	organization_id;
	bool		has_organization = default_organization != NULL;

	row->email = string_of(row, "email");
	role = string_of(row, "role");
	row->role = role ? cstring_to_text(role) : default_role;
	row->organization = string_of(row, "organization_id");
	grants = json_of(row, "grants");
	if (grants != NULL && (role != NULL || row->organization != NULL))
		refuse("data_malformed", "argument=grants", NULL);
	if (has_organization)
		organization_id = *default_organization;
	if (has_organization && row->organization == NULL && grants == NULL)
		row->organization = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(default_organization)));
	else if (row->organization != NULL)
	{
		if (!caller_parse_uuid(row->organization, &organization_id))
			refuse("data_malformed", "argument=organization_id", NULL);
		has_organization = true;
	}
	request->email = row->email ? invitation_email(row->email, strlen(row->email)) : NULL;
	if (request->email == NULL)
		refuse("email_malformed", NULL, NULL);
	if (grants != NULL)
		invitation_grants(request, grants);
	else if (has_organization)
		invitation_one_grant(request, &organization_id, row->role);
	else if (row->role != NULL)
		refuse("data_malformed", "argument=organization_id", NULL);
	platform_role = string_of(row, "platform_role");
	request->platform_role = platform_role ? cstring_to_text(platform_role) : NULL;
	request->data = invitation_data_with_names(json_of(row, "data"), string_of(row, "full_name"), string_of(row, "job_title"));
	invitation_check_data(request->data);
}

/* Bytes, not letters of a locale: everybody works in the same order. */
static int
by_address(const void *a, const void *b)
{
	const BulkRow *const *x = a;
	const BulkRow *const *y = b;
	const char *s = (*x)->request.email;
	const char *t = (*y)->request.email;
	int			order = strcmp(s ? s : "", t ? t : "");

	return order != 0 ? order : (*x)->n - (*y)->n;
}

static BulkRow *
read_rows(Jsonb *rows, int max, int *n)
{
	BulkRow    *result;

	if (!JB_ROOT_IS_ARRAY(rows) || JB_ROOT_IS_SCALAR(rows) || JB_ROOT_COUNT(rows) > (uint32) max)
		refuse("data_malformed", "argument=invitations",
			   psprintf("Pass an array of at most %d objects.", max));
	*n = JB_ROOT_COUNT(rows);
	result = palloc0(sizeof(BulkRow) * (*n + 1));
	for (int i = 0; i < *n; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(&rows->root, i);

		result[i].n = i + 1;
		if (v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data))
			result[i].object = v->val.binary.data;
	}
	return result;
}

/* Lock what those that could be read need, and do them in order of their addresses. */
static void
work_off(Inviter *inviter, BulkRow *rows, int n, void (*make) (void *))
{
	InvitationRequest *requests = palloc(sizeof(InvitationRequest) * (n + 1));
	BulkRow   **order = palloc(sizeof(BulkRow *) * (n + 1));
	InvitationLocks locks;
	int			ready = 0;

	for (int i = 0; i < n; i++)
		if (rows[i].parsed)
		{
			requests[ready] = rows[i].request;
			order[ready++] = &rows[i];
		}
	if (ready == 0)
		return;
	invitation_lock(inviter, requests, ready, &locks);
	if (locks.norganizations > 0)
		organization_touch(locks.organizations, locks.norganizations);
	inviter->touched = true;
	qsort(order, ready, sizeof(BulkRow *), by_address);
	for (int i = 0; i < ready; i++)
	{
		ErrorData  *edata;

		CHECK_FOR_INTERRUPTS();
		order[i]->locks = &locks;
		edata = plan_contained(make, order[i], true);
		if (edata != NULL)
			invitation_take_refusal(edata, &order[i]->reason, &order[i]->message);
		else
			order[i]->done = order[i]->reason == NULL;
	}
}

/* ---------------------------------------------------------------------
 * CSV
 * ---------------------------------------------------------------------
 */

/* A spreadsheet takes what begins like that for a formula, and runs it; also in the full width of East Asian ones. */
static bool
is_formula(const char *field)
{
	static const char *const wide[] = {"\357\274\235", "\357\274\213", "\357\274\215", "\357\274\240"};

	if (*field && strchr("=+-@\t\r\n", *field) != NULL)
		return true;
	for (size_t i = 0; i < lengthof(wide); i++)
		if (GetDatabaseEncoding() == PG_UTF8 && strncmp(field, wide[i], strlen(wide[i])) == 0)
			return true;
	return false;
}

static void
append_csv(StringInfo line, const char *field)
{
	if (line->len > 0)
		appendStringInfoChar(line, ',');
	if (field == NULL)
		return;
	appendStringInfoChar(line, '"');
	if (is_formula(field))
		appendStringInfoChar(line, '\'');
	for (; *field; field++)
	{
		if (*field == '"')
			appendStringInfoChar(line, '"');
		appendStringInfoChar(line, *field);
	}
	appendStringInfoChar(line, '"');
}

static Datum
csv_line(const BulkRow *row)
{
	StringInfoData line;

	initStringInfo(&line);
	append_csv(&line, row->email ? row->email : "");
	append_csv(&line, row->role ? text_to_cstring(row->role) : NULL);
	append_csv(&line, row->organization);
	append_csv(&line, row->reason);
	return CStringGetTextDatum(line.data);
}

/* ---------------------------------------------------------------------
 * create_invitations(invitations, role, organization_id, expires_in, delivery, on_pending, inviter_id)
 * ---------------------------------------------------------------------
 */

typedef struct BulkCall
{
	BulkRow    *row;
	text	   *role;
	pg_uuid_t  *organization_id;
	InvitationRequest defaults;
} BulkCall;

static void
parse_one(void *arg)
{
	static const char *const known[] = {"email", "role", "organization_id", "grants", "platform_role", "data",
	"expires_in", "full_name", "job_title"};
	BulkCall   *call = arg;
	BulkRow    *row = call->row;
	char	   *expires_in;

	row->request = call->defaults;
	if (row->object == NULL)
		bad_row();
	row->email = string_of(row, "email");
	known_keys(row, known, lengthof(known));
	read_offer(row, call->role, call->organization_id);
	expires_in = string_of(row, "expires_in");
	if (expires_in != NULL)
		row->request.ttl = invitation_ttl(DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(expires_in),
																				  ObjectIdGetDatum(InvalidOid),
																				  Int32GetDatum(-1))));
	invitation_require_rights(row->inviter, &row->request);
}

static void
parse_rows(const Inviter *inviter, BulkCall *call, BulkRow *rows, int n, void (*parse) (void *))
{
	for (int i = 0; i < n; i++)
	{
		ErrorData  *edata;

		rows[i].inviter = inviter;
		call->row = &rows[i];
		edata = plan_contained(parse, call, true);
		rows[i].parsed = edata == NULL && rows[i].reason == NULL;
		if (edata == NULL)
			continue;
		/* nothing but an interval or a time is read by functions of PostgreSQL's */
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
		{
			rows[i].reason = "window_malformed";
			rows[i].message = "time window is malformed";
			FreeErrorData(edata);
		}
		else
			invitation_take_refusal(edata, &rows[i].reason, &rows[i].message);
	}
}

static void
make_one(void *arg)
{
	BulkRow    *row = arg;

	invitation_make(row->inviter, &row->request, row->locks, &row->outcome);
}

/* Tokens do not go to a temporary file, which is what becomes of a result that work_mem has no room for. */
static void
keep_in_memory(ReturnSetInfo *rsinfo)
{
	MemoryContext old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);

	tuplestore_end(rsinfo->setResult);
	rsinfo->setResult = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0, false, MAX_KILOBYTES);
	MemoryContextSwitchTo(old);
}

Datum
invitation_create_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Inviter		inviter;
	BulkCall	call;
	BulkRow    *rows;
	int			n;
	int			failed = 0;
	TimestampTz retry_at;

	invitation_inviter(fcinfo, 6, &inviter);
	if (PG_ARGISNULL(0))
		refuse("data_malformed", "argument=invitations", "invitations must not be null.");
	rows = read_rows(PG_GETARG_JSONB_P(0), BULK_MAX, &n);
	memset(&call, 0, sizeof(call));
	call.role = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	call.organization_id = PG_ARGISNULL(2) ? NULL : PG_GETARG_UUID_P(2);
	call.defaults.ttl = PG_ARGISNULL(3) ? 0 : invitation_ttl(PG_GETARG_INTERVAL_P(3));
	invitation_words(&call.defaults, membership_text_argument(fcinfo, 4, "delivery"),
					 membership_text_argument(fcinfo, 5, "on_pending"));
	parse_rows(&inviter, &call, rows, n, parse_one);
	work_off(&inviter, rows, n, make_one);
	for (int i = 0; i < n; i++)
	{
		rows[i].skipped = rows[i].request.on_pending == ON_PENDING_REFUSE &&
			(is_reason(rows[i].reason, "already_invited") || is_reason(rows[i].reason, "already_member"));
		failed += rows[i].reason != NULL && !rows[i].skipped;
	}
	/* failures that come back as values are counted as questions are */
	if (failed > 0 && inviter.has_inviter && invitation_quota != NULL &&
		!invitation_quota->try_count("check_invitation", "user", invitation_inviter_key(&inviter), &retry_at))
		for (int i = 0; i < n; i++)
			if (rows[i].reason != NULL && !rows[i].skipped)
			{
				rows[i].reason = "rate_limited";
				rows[i].message = "too many requests";
			}

	InitMaterializedSRF(fcinfo, 0);
	keep_in_memory(rsinfo);
	for (int i = 0; i < n; i++)
	{
		BulkRow    *row = &rows[i];
		Datum		values[12];
		bool		nulls[12];

		memset(values, 0, sizeof(values));
		memset(nulls, true, sizeof(nulls));
		values[0] = Int32GetDatum(row->n);
		nulls[0] = false;
		if (row->email != NULL)
		{
			values[1] = CStringGetTextDatum(row->email);
			nulls[1] = false;
		}
		values[7] = BoolGetDatum(false);
		values[8] = BoolGetDatum(row->skipped);
		nulls[7] = nulls[8] = false;
		if (row->done)
		{
			Datum		made[8];
			bool		absent[8];

			invitation_outcome_values(&row->outcome, made, absent);
			for (int j = 0; j < 3; j++)
			{
				values[j + 2] = made[j];
				nulls[j + 2] = absent[j];
			}
			for (int j = 4; j < 7; j++)
			{
				values[j + 1] = made[j];
				nulls[j + 1] = absent[j];
			}
		}
		else
		{
			values[9] = CStringGetTextDatum(row->reason);
			values[10] = CStringGetTextDatum(row->message);
			nulls[9] = nulls[10] = false;
			if (!row->skipped)
			{
				values[11] = csv_line(row);
				nulls[11] = false;
			}
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * check_invitation(email, role, organization_id, inviter_id)
 * ---------------------------------------------------------------------
 */

typedef struct Check
{
	FunctionCallInfo fcinfo;
	Inviter		inviter;
	InvitationRequest request;
} Check;

static void
check_email(void *arg)
{
	Check	   *check = arg;

	check->request.email = invitation_email_argument(check->fcinfo, 0);
}

static void
check_organization(void *arg)
{
	Check	   *check = arg;

	invitation_require_rights(&check->inviter, &check->request);
}

static void
check_role(void *arg)
{
	Check	   *check = arg;

	invitation_roles(&check->inviter, &check->request);
}

static void
refuse_listed(const InvitationObstacle *obstacle)
{
	if (obstacle->reason != NULL && obstacle->listed)
		invitation_refuse_obstacle(obstacle);
}

static void
check_member(void *arg)
{
	Check	   *check = arg;
	InvitationObstacle obstacle;

	invitation_find_member(&check->inviter, &check->request, &obstacle);
	refuse_listed(&obstacle);
}

static void
check_pending(void *arg)
{
	Check	   *check = arg;
	InvitationObstacle obstacle;

	invitation_find_pending(&check->inviter, &check->request, &obstacle);
	refuse_listed(&obstacle);
}

static void
check_declined(void *arg)
{
	Check	   *check = arg;
	InvitationObstacle obstacle;

	invitation_find_declined(&check->inviter, &check->request, &obstacle);
	refuse_listed(&obstacle);
}

static void
check_seats(void *arg)
{
	Check	   *check = arg;

	invitation_require_seats(check->request.organization_ids, check->request.ngrants, 1);
}

static void
check_quota(void *arg)
{
	Check	   *check = arg;

	if (check->inviter.has_inviter && invitation_quota != NULL)
		invitation_quota->ask_take(&check->inviter.as.user_id);
}

static void
check_limit(void *arg)
{
	Check	   *check = arg;

	if (check->inviter.has_inviter && invitation_quota != NULL)
		invitation_quota->ask_count("invite", "user", invitation_inviter_key(&check->inviter));
}

static void
check_messages(void *arg)
{
	Check	   *check = arg;

	if (check->inviter.has_inviter && invitation_quota != NULL)
		invitation_quota->ask_count("message", "recipient", invitation_email_key(check->request.email));
}

/* One row of the answer; what the check did is undone. */
static bool
put_check(Check *check, const char *name, void (*fn) (void *))
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) check->fcinfo->resultinfo;
	ErrorData  *edata = fn ? plan_contained(fn, check, false) : NULL;
	const char *reason = fn ? NULL : "rate_limited";
	const char *message = fn ? NULL : "too many requests";
	Datum		values[4];
	bool		nulls[4] = {false, false, true, true};

	if (edata != NULL)
		invitation_take_refusal(edata, &reason, &message);
	memset(values, 0, sizeof(values));
	values[0] = CStringGetTextDatum(name);
	values[1] = BoolGetDatum(reason == NULL);
	if (reason != NULL)
	{
		values[2] = CStringGetTextDatum(reason);
		values[3] = CStringGetTextDatum(message);
		nulls[2] = nulls[3] = false;
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return reason == NULL;
}

Datum
invitation_check(PG_FUNCTION_ARGS)
{
	Check		check;
	TimestampTz retry_at;
	bool		address;
	bool		organization = true;

	memset(&check, 0, sizeof(check));
	check.fcinfo = fcinfo;
	invitation_inviter(fcinfo, 3, &check.inviter);
	if (!PG_ARGISNULL(2))
		invitation_one_grant(&check.request, PG_GETARG_UUID_P(2), PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	else if (!PG_ARGISNULL(1))
		refuse("data_malformed", "argument=organization_id", "A role is one in an organization; platform_role is another thing.");
	InitMaterializedSRF(fcinfo, 0);
	if (check.inviter.has_inviter && invitation_quota != NULL &&
		!invitation_quota->try_count("check_invitation", "user", invitation_inviter_key(&check.inviter), &retry_at))
	{
		(void) put_check(&check, "questions", NULL);
		return (Datum) 0;
	}
	address = put_check(&check, "email", check_email);
	if (check.request.ngrants > 0)
	{
		organization = put_check(&check, "organization", check_organization);
		if (organization)
			(void) put_check(&check, "role", check_role);
	}
	/* what was looked for is told only to who may invite there */
	if (address && organization)
	{
		if (check.request.ngrants > 0)
			(void) put_check(&check, "member", check_member);
		(void) put_check(&check, "invited", check_pending);
		(void) put_check(&check, "declined", check_declined);
	}
	if (organization && check.request.ngrants > 0)
		(void) put_check(&check, "seats", check_seats);
	(void) put_check(&check, "quota", check_quota);
	(void) put_check(&check, "rate_limit", check_limit);
	if (address)
		(void) put_check(&check, "messages", check_messages);
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * \copy invitation_import from …
 * ---------------------------------------------------------------------
 */

#define IMPORT_COLUMNS 5		/* email, role, full_name, job_title, organization_id */

typedef struct FailedRow
{
	char	   *column[IMPORT_COLUMNS]; /* NULL: null */
	char	   *reason;
	char	   *message;
} FailedRow;

/*
 * The last statement's failures: in this session's memory alone, because a table
 * of addresses that were never invited is nothing anybody should keep.
 */
static MemoryContext failed_context = NULL;
static FailedRow *failed_rows = NULL;
static int	failed_count = 0;
static int	failed_kept = 0;
static int	imported_count = 0;
static pg_uuid_t *touched_ids = NULL;	/* organizations that this statement has touched */
static int	touched_count = 0;

static void
require_service(Inviter *inviter)
{
	caller_require_service();
	memset(inviter, 0, sizeof(*inviter));
	caller_get(&inviter->caller);
	inviter->as = inviter->caller;
	inviter->proves = true;
}

static void
keep_failed(char *const *columns, const char *reason, const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(failed_context);
	FailedRow  *row;

	failed_count++;
	if (failed_kept < FAILED_MAX)
	{
		if (failed_rows == NULL)
			failed_rows = palloc(sizeof(FailedRow) * 16);
		else if (failed_kept >= 16 && (failed_kept & (failed_kept - 1)) == 0)
			failed_rows = repalloc_huge(failed_rows, sizeof(FailedRow) * failed_kept * 2);
		row = &failed_rows[failed_kept++];
		for (int i = 0; i < IMPORT_COLUMNS; i++)
			row->column[i] = columns[i] ? pstrdup(columns[i]) : NULL;
		row->reason = pstrdup(reason);
		row->message = pstrdup(message);
	}
	MemoryContextSwitchTo(old);
}

/* BEFORE and AFTER INSERT on the view, for each statement */
Datum
invitation_import_statement(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Inviter		inviter;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called by a trigger on insertion, for each statement")));
	if (TRIGGER_FIRED_BEFORE(trigdata->tg_event))
	{
		require_service(&inviter);
		if (failed_context == NULL)
			failed_context = AllocSetContextCreate(TopMemoryContext, "invite_sync failed imports",
												   ALLOCSET_DEFAULT_SIZES);
		failed_rows = NULL;
		touched_ids = NULL;
		touched_count = 0;
		failed_count = failed_kept = imported_count = 0;
		MemoryContextReset(failed_context);
	}
	else if (failed_count > 0)
		ereport(NOTICE,
				(errmsg("%d of %d rows were not imported", failed_count, failed_count + imported_count),
				 errhint("SELECT * FROM invite_sync.invitation_import_failed() has them, until this session imports again.")));
	return PointerGetDatum(NULL);
}

typedef struct ImportCall
{
	Inviter		inviter;
	char	   *column[IMPORT_COLUMNS];
	bool		has_organization;
	pg_uuid_t	organization_id;
} ImportCall;

static bool
is_touched(const pg_uuid_t *id)
{
	for (int i = 0; i < touched_count; i++)
		if (memcmp(&touched_ids[i], id, UUID_LEN) == 0)
			return true;
	return false;
}

/* After the row's subtransaction: what it did stays. */
static void
note_touched(const pg_uuid_t *id)
{
	MemoryContext old = MemoryContextSwitchTo(failed_context);

	if (touched_ids == NULL)
		touched_ids = palloc(sizeof(pg_uuid_t) * 16);
	else if (touched_count >= 16 && (touched_count & (touched_count - 1)) == 0)
		touched_ids = repalloc(touched_ids, sizeof(pg_uuid_t) * touched_count * 2);
	touched_ids[touched_count++] = *id;
	MemoryContextSwitchTo(old);
}

/* Nobody gets to see a token: it is accepted by who has verified the address, or sent again. */
static void
import_one(void *arg)
{
	ImportCall *call = arg;
	InvitationRequest request;
	InvitationLocks locks;
	InvitationOutcome outcome;
	const char *organization = call->column[4];
	const char *role = call->column[1];

	memset(&request, 0, sizeof(request));
	request.email = call->column[0] ? invitation_email(call->column[0], strlen(call->column[0])) : NULL;
	if (request.email == NULL)
		refuse("email_malformed", NULL, NULL);
	if (organization != NULL && *organization)
	{
		if (!caller_parse_uuid(organization, &call->organization_id))
			refuse("data_malformed", "argument=organization_id", NULL);
		call->has_organization = true;
		call->inviter.touched = is_touched(&call->organization_id);
		invitation_one_grant(&request, &call->organization_id, role && *role ? cstring_to_text(role) : NULL);
	}
	else if (role != NULL && *role)
		request.platform_role = cstring_to_text(role);
	request.data = invitation_data_with_names(NULL, call->column[2], call->column[3]);
	invitation_check_data(request.data);
	invitation_require_rights(&call->inviter, &request);
	invitation_lock(&call->inviter, &request, 1, &locks);
	invitation_make(&call->inviter, &request, &locks, &outcome);
}

/* INSTEAD OF INSERT on the view */
Datum
invitation_import_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	ImportCall	call;
	ErrorData  *edata;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ||
		RelationGetDescr(trigdata->tg_relation)->natts != IMPORT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called by a trigger instead of insertion, for each row")));
	require_service(&call.inviter);
	for (int i = 0; i < IMPORT_COLUMNS; i++)
		call.column[i] = SPI_getvalue(trigdata->tg_trigtuple, RelationGetDescr(trigdata->tg_relation), i + 1);
	call.has_organization = false;
	edata = plan_contained(import_one, &call, true);
	if (edata == NULL)
	{
		imported_count++;
		if (call.has_organization && !call.inviter.touched && failed_context != NULL)
			note_touched(&call.organization_id);
	}
	else
	{
		const char *reason;
		const char *message;

		invitation_take_refusal(edata, &reason, &message);
		if (failed_context != NULL)
			keep_failed(call.column, reason, message);
	}
	return PointerGetDatum(trigdata->tg_trigtuple);
}

/* invitation_import_failed() */
Datum
invitation_import_failed(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	caller_require_service();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < failed_kept; i++)
	{
		FailedRow  *row = &failed_rows[i];
		Datum		values[IMPORT_COLUMNS + 2];
		bool		nulls[IMPORT_COLUMNS + 2];

		for (int j = 0; j < IMPORT_COLUMNS; j++)
		{
			nulls[j] = row->column[j] == NULL;
			values[j] = nulls[j] ? (Datum) 0 : CStringGetTextDatum(row->column[j]);
		}
		values[IMPORT_COLUMNS] = CStringGetTextDatum(row->reason);
		values[IMPORT_COLUMNS + 1] = CStringGetTextDatum(row->message);
		nulls[IMPORT_COLUMNS] = nulls[IMPORT_COLUMNS + 1] = false;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * import_invitations(invitations)
 * ---------------------------------------------------------------------
 */

/* 64 hexadecimal digits */
static bytea *
digest_of_hex(const char *s)
{
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);

	if (strlen(s) != 2 * PG_SHA256_DIGEST_LENGTH || strspn(s, "0123456789abcdefABCDEF") != strlen(s))
		refuse("data_malformed", "argument=token_sha256", NULL);
	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
	{
		char		pair[3] = {s[2 * i], s[2 * i + 1], '\0'};

		VARDATA(digest)[i] = (char) strtol(pair, NULL, 16);
	}
	return digest;
}

static bool
is_true(const BulkRow *row, const char *key)
{
	JsonbValue *v = getKeyJsonValueFromContainer(row->object, key, strlen(key), NULL);

	if (v == NULL || v->type == jbvNull)
		return false;
	if (v->type != jbvBool)
		bad_row();
	return v->val.boolean;
}

static void
parse_older(void *arg)
{
	static const char *const known[] = {"email", "role", "organization_id", "platform_role", "expires_at", "inviter_id",
	"token", "token_sha256", "proves_email", "data", "full_name", "job_title"};
	BulkCall   *call = arg;
	BulkRow    *row = call->row;
	InvitationRequest *request = &row->request;
	TimestampTz now = GetCurrentTimestamp();
	char	   *expires_at;
	char	   *inviter;
	char	   *token;
	char	   *sha256;

	if (row->object == NULL)
		bad_row();
	row->email = string_of(row, "email");
	known_keys(row, known, lengthof(known));
	read_offer(row, NULL, NULL);
	expires_at = string_of(row, "expires_at");
	if (expires_at != NULL)
	{
		request->expires_at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(expires_at),
																		ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		if (request->expires_at <= now)
			refuse("invitation_expired", NULL, NULL);
		/* no invitation lasts longer here */
		request->expires_at = Min(request->expires_at, now + DAYS_MAX * USECS_PER_DAY);
	}
	inviter = string_of(row, "inviter_id");
	if (inviter != NULL)
	{
		AuthUserState state;

		if (!caller_parse_uuid(inviter, &request->sender))
			refuse("data_malformed", "argument=inviter_id", NULL);
		caller_auth_user_state(&request->sender, &state);
		if (!state.exists)
			refuse("user_unknown", NULL, NULL);
		request->has_sender = true;
	}
	token = string_of(row, "token");
	sha256 = string_of(row, "token_sha256");
	if (token != NULL)
	{
		bool		usable = sha256 == NULL && strlen(token) >= LEGACY_TOKEN_MIN;

		request->legacy_digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(token)));
		token_wipe(token, strlen(token));
		if (!usable)
			refuse("data_malformed", "argument=token", NULL);
	}
	else if (sha256 != NULL)
		request->legacy_digest = digest_of_hex(sha256);
	request->legacy_proves = is_true(row, "proves_email");
	if (request->legacy_proves && request->legacy_digest == NULL)
		refuse("data_malformed", "argument=proves_email", NULL);
	invitation_require_rights(row->inviter, request);
}

static SavedPlan legacy_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.legacy_digest = $1",
	.nargs = 1,
	.argtypes = {BYTEAOID}
};

static void
reuse(BulkRow *row, const Invitation *invitation)
{
	static const char *const words[] = {"pending", "accepted", "declined", "revoked", "expired"};

	row->outcome.id = invitation->id;
	row->outcome.status = words[invitation->status];
	row->outcome.expires_at = invitation->expires_at;
	row->outcome.reused = true;
}

/* The same row twice: by its token, or by what is pending for its address. */
static bool
imported_before(BulkRow *row)
{
	InvitationRequest *request = &row->request;
	Invitation	invitation;
	pg_uuid_t	id;
	pg_uuid_t  *ids;
	int			n;

	if (request->legacy_digest != NULL)
	{
		Datum		value = PointerGetDatum(request->legacy_digest);

		if (membership_one_id(&legacy_plan, &value, NULL, &id) &&
			invitation_read(&id, true, false, &invitation))
		{
			if (invitation.email == NULL || strcmp(invitation.email, request->email) != 0)
				refuse("idempotency_conflict", NULL, NULL);
			reuse(row, &invitation);
			return true;
		}
	}
	ids = invitation_pending_ids(row->inviter, request, false, &n);
	if (n != 1 || !invitation_read(&ids[0], true, false, &invitation) ||
		!invitation_same_offer(request, &invitation))
		return false;
	reuse(row, &invitation);
	return true;
}

static void
import_older_one(void *arg)
{
	BulkRow    *row = arg;
	InvitationRequest *request = &row->request;
	InvitationObstacle obstacle;
	Invitation	made;
	pg_uuid_t	id;

	invitation_require_rights(row->inviter, request);
	invitation_roles(row->inviter, request);
	invitation_close_expired(row->inviter, request, row->locks);
	if (imported_before(row))
		return;
	if (request->ngrants > 0)
	{
		invitation_find_member(row->inviter, request, &obstacle);
		if (obstacle.reason != NULL)
			invitation_refuse_obstacle(&obstacle);
	}
	invitation_find_pending(row->inviter, request, &obstacle);
	if (obstacle.reason != NULL)
		invitation_refuse_obstacle(&obstacle);
	token_new_id(&id);
	if (!invitation_insert(row->inviter, request, &id, false, &row->outcome))
	{
		/* somebody else imports the same in this moment, and has committed by now */
		if (imported_before(row))
			return;
		refuse("already_invited", NULL, NULL);
	}
	memset(&made, 0, sizeof(made));
	made.id = id;
	made.ngrants = request->ngrants;
	made.organization_ids = request->organization_ids;
	invitation_log(row->inviter, "invitation.imported", &made);
}

Datum
invitation_import_older(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Inviter		inviter;
	BulkCall	call;
	BulkRow    *rows;
	int			n;

	require_service(&inviter);
	if (PG_ARGISNULL(0))
		refuse("data_malformed", "argument=invitations", "invitations must not be null.");
	rows = read_rows(PG_GETARG_JSONB_P(0), IMPORT_MAX, &n);
	memset(&call, 0, sizeof(call));
	parse_rows(&inviter, &call, rows, n, parse_older);
	work_off(&inviter, rows, n, import_older_one);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		BulkRow    *row = &rows[i];
		Datum		values[8];
		bool		nulls[8];

		memset(values, 0, sizeof(values));
		memset(nulls, true, sizeof(nulls));
		values[0] = Int32GetDatum(row->n);
		nulls[0] = false;
		if (row->email != NULL)
		{
			values[1] = CStringGetTextDatum(row->email);
			nulls[1] = false;
		}
		values[5] = BoolGetDatum(row->done && row->outcome.reused);
		nulls[5] = false;
		if (row->done)
		{
			values[2] = UUIDPGetDatum(&row->outcome.id);
			values[3] = CStringGetTextDatum(row->outcome.status);
			values[4] = TimestampTzGetDatum(row->outcome.expires_at);
			nulls[2] = nulls[3] = nulls[4] = false;
		}
		else
		{
			values[6] = CStringGetTextDatum(row->reason);
			values[7] = CStringGetTextDatum(row->message);
			nulls[6] = nulls[7] = false;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
