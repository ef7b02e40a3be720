/*-------------------------------------------------------------------------
 *
 * hook.c
 *	  What the auth server asks before and after what it does.
 *
 * The auth server calls SELECT schema.function($1) with its event, and an error
 * of ours is its answer to who signs up or logs in: 500. So each hook does all
 * that it does in one subtransaction, takes the event for something that
 * anybody may have written, and has an answer for the case that it failed. It
 * says no with a value. What was cancelled (by statement_timeout, too) or is
 * being shut down is not answered.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "caller.h"
#include "event.h"
#include "hook.h"
#include "invitation.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "quota.h"

PG_FUNCTION_INFO_V1(hook_before_user_created);
PG_FUNCTION_INFO_V1(hook_after_user_created);
PG_FUNCTION_INFO_V1(hook_custom_access_token);
PG_FUNCTION_INFO_V1(hook_password_verification_attempt);
PG_FUNCTION_INFO_V1(hook_mfa_verification_attempt);

/* The auth server gives up after two seconds; what we wait for is worth a fraction of that. */
#define LOCK_TIMEOUT_MS		500

/* Invitations to one address that are looked at. */
#define INVITATIONS_MAX		50

/* Memberships and organizations below them that a token is made of; beyond, memberships alone. */
#define REACH_MAX			2000
#define DIRECT_MAX			500

typedef struct Call
{
	FunctionCallInfo fcinfo;
	MemoryContext cxt;			/* of the answer */
	const char *function;
	Jsonb	   *event;			/* an object, or NULL */
	Jsonb	   *user;			/* what is under "user", an object, or NULL */
	Jsonb	   *claims;			/* under "claims", an object, or NULL */
	const char *answer;			/* JSON, fixed text */
	Jsonb	   *result;			/* instead of it */
	bool		refused;		/* this is not the auth server */
} Call;

/* ---------------------------------------------------------------------
 * The event
 * ---------------------------------------------------------------------
 */

static JsonbValue *
value_under(Jsonb *object, const char *key)
{
	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	return getKeyJsonValueFromContainer(&object->root, key, (int) strlen(key), NULL);
}

/* NULL: there is none, or it is no string, or an empty one. */
static char *
string_under(Jsonb *object, const char *key)
{
	JsonbValue *v = value_under(object, key);

	if (v == NULL || v->type != jbvString || v->val.string.len == 0)
		return NULL;
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static bool
true_under(Jsonb *object, const char *key)
{
	JsonbValue *v = value_under(object, key);

	return v != NULL && v->type == jbvBool && v->val.boolean;
}

static Jsonb *
object_under(Jsonb *object, const char *key)
{
	JsonbValue *v = value_under(object, key);
	Jsonb	   *result;

	if (v == NULL || v->type != jbvBinary)
		return NULL;
	result = JsonbValueToJsonb(v);
	return JB_ROOT_IS_OBJECT(result) ? result : NULL;
}

/* The key of the client's address, as far as the auth server knows it. */
static char *
address_key(Call *call)
{
	char	   *address = string_under(object_under(call->event, "metadata"), "ip_address");

	return address ? quota_address_key(address) : NULL;
}

static bool
uuid_under(Jsonb *object, const char *key, pg_uuid_t *uuid)
{
	char	   *s = string_under(object, key);

	return s != NULL && caller_parse_uuid(s, uuid);
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static Jsonb *
jsonb_of(const char *json)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/* ---------------------------------------------------------------------
 * Containment
 * ---------------------------------------------------------------------
 */

typedef struct Contained
{
	Call	   *call;
	void		(*work) (Call *call);
} Contained;

/*
 * Whoever could make up events could ask who is invited and who belongs where.
 * What counts is who asks, not whose definer function does; and no request of a
 * user's is the auth server, whatever was granted to its role.
 */
static bool
is_auth_server(FunctionCallInfo fcinfo)
{
	Caller		caller;

	caller_get(&caller);
	return caller.kind != CALLER_USER && caller.kind != CALLER_ANON && fcinfo->flinfo != NULL &&
		compat_proc_aclcheck(fcinfo->flinfo->fn_oid, caller.role, ACL_EXECUTE) == ACLCHECK_OK;
}

static void
run_contained(void *arg)
{
	Contained  *c = (Contained *) arg;
	Call	   *call = c->call;
	int			guc_level = NewGUCNestLevel();

	/* nobody who holds a lock may hold up everybody's login; a shorter one is kept */
	if (LockTimeout <= 0 || LockTimeout > LOCK_TIMEOUT_MS)
		(void) set_config_option("lock_timeout", CppAsString2(LOCK_TIMEOUT_MS),
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	call->refused = !is_auth_server(call->fcinfo);
	if (call->refused)
	{
		AtEOXact_GUC(false, guc_level);
		return;
	}
	if (call->fcinfo->nargs == 1 && !call->fcinfo->args[0].isnull)
		call->event = DatumGetJsonbP(call->fcinfo->args[0].value);
	if (call->event != NULL && !JB_ROOT_IS_OBJECT(call->event))
		call->event = NULL;
	call->user = object_under(call->event, "user");
	call->claims = object_under(call->event, "claims");
	c->work(call);
	AtEOXact_GUC(false, guc_level);
}

/*
 * What ends the statement or the session in any case. All else is contained,
 * also what the triggers on auth.users pass on: nothing of what failed here is
 * kept, and the auth server's own statements meet it themselves.
 */
static bool
ends_the_statement(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_DATABASE_DROPPED:
		case ERRCODE_IDLE_SESSION_TIMEOUT:
			return true;
		default:
			return false;
	}
}

/*
 * Run a hook. True: call->answer or call->result is what it says; false: it
 * failed. The log gets the SQLSTATE alone: an error's text may quote the event.
 */
static bool
run(FunctionCallInfo fcinfo, const char *function, void (*work) (Call *call), Call *call)
{
	Contained	contained;
	ErrorData  *edata;

	memset(call, 0, sizeof(*call));
	call->fcinfo = fcinfo;
	call->cxt = CurrentMemoryContext;
	call->function = function;
	call->answer = "{}";
	contained.call = call;
	contained.work = work;
	edata = plan_contained(run_contained, &contained, true);
	if (call->refused)
		refuse("not_permitted", NULL, "The auth server calls it, as supabase_auth_admin.");
	if (edata == NULL)
		return true;
	if (ends_the_statement(edata->sqlerrcode))
		ReThrowError(plan_lasting(edata));
	ereport(WARNING,
			(errcode(edata->sqlerrcode),
			 errmsg("%s() failed", function),
			 errdetail("SQLSTATE %s.", unpack_sql_state(edata->sqlerrcode)),
			 errhidestmt(true), errhidecontext(true)));
	FreeErrorData(edata);
	return false;
}

static Datum
answer(Call *call)
{
	PG_RETURN_JSONB_P(call->result ? call->result : jsonb_of(call->answer));
}

/* ---------------------------------------------------------------------
 * Settings that are lists
 * ---------------------------------------------------------------------
 */

static bool
is_separator(char c)
{
	return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next word of a list in *s, and its length; 0: there is none. */
static size_t
next_word(const char **s)
{
	while (is_separator(**s))
		(*s)++;
	return strcspn(*s, ", \t\n\r");
}

static bool
in_list(const char *list, const char *word)
{
	size_t		len;

	for (const char *s = list ? list : ""; (len = next_word(&s)) > 0; s += len)
		if (strlen(word) == len && pg_strncasecmp(s, word, len) == 0)
			return true;
	return false;
}

static bool
check_list(const char *list, const char *characters, bool domains)
{
	size_t		len;

	for (const char *s = list ? list : ""; (len = next_word(&s)) > 0; s += len)
		if (strspn(s, characters) < len || len > 253 ||
			(domains && (memchr(s, '.', len) == NULL || s[0] == '.' || s[len - 1] == '.')))
		{
			GUC_check_errdetail(domains ? "\"%.*s\" is no whole domain, as example.com is." : "\"%.*s\" is no name.",
								(int) Min(len, 60), s);
			return false;
		}
	return true;
}

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool
hook_check_domains(char **newval, void **extra, GucSource source)
{
	return check_list(*newval, LETTERS_AND_DIGITS ".-", true);
}

bool
hook_check_names(char **newval, void **extra, GucSource source)
{
	return check_list(*newval, LETTERS_AND_DIGITS "_:.-", false);
}

/* ---------------------------------------------------------------------
 * before_user_created_hook()
 * ---------------------------------------------------------------------
 */

#define NOT_INVITED \
	"{\"error\": {\"http_code\": 403, \"message\": \"signing up needs an invitation to this email address\"}}"
#define NOT_THIS_DOMAIN \
	"{\"error\": {\"http_code\": 403, \"message\": \"signing up is not open to this email domain\"}}"
#define NO_ADDRESS \
	"{\"error\": {\"http_code\": 403, \"message\": \"signing up needs an email address\"}}"
#define TOO_MANY \
	"{\"error\": {\"http_code\": 429, \"message\": \"too many requests\"}}"
#define NOT_NOW \
	"{\"error\": {\"http_code\": 503, \"message\": \"signing up is not possible now, try again later\"}}"

/* The newest first. A shadow is none: it answers an inviter. */
static SavedPlan pending_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.email = $1 AND i.status = 'pending' AND NOT i.shadow "
	"AND i.expires_at > pg_catalog.clock_timestamp() ORDER BY i.created_at DESC, i.id LIMIT " CppAsString2(INVITATIONS_MAX),
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static pg_uuid_t *
pending_invitations(const char *email, int *n)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		value = CStringGetTextDatum(email);
	pg_uuid_t  *ids;

	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(&pending_plan));
	plan_execute(&pending_plan, &value, NULL, false, 0);
	*n = (int) SPI_processed;
	ids = MemoryContextAlloc(cxt, sizeof(pg_uuid_t) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
	return ids;
}

/* One that could be accepted: of an inviter who may still give what it gives. */
static bool
is_invited(const char *email)
{
	int			n;
	pg_uuid_t  *ids = pending_invitations(email, &n);

	for (int i = 0; i < n; i++)
	{
		Invitation	invitation;

		if (invitation_read(&ids[i], true, false, &invitation) && invitation_still_allowed(&invitation))
			return true;
	}
	return false;
}

static SavedPlan domain_plan = {
	.sql = "SELECT FROM invite_sync.organization_domain AS d WHERE d.domain = $1 AND d.verified_at IS NOT NULL",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static bool
is_domain_of_ours(const char *domain)
{
	Scope		scope;
	Datum		value = CStringGetTextDatum(domain);
	bool		result;

	if (in_list(invite_sync_signup_domains, domain))
		return true;
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(&domain_plan));
	plan_execute(&domain_plan, &value, NULL, false, 1);
	result = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/*
 * How somebody without an address signs up, for invite_sync.signup_without_email:
 * anonymous, or the provider. NULL: nobody knows.
 */
static char *
way_of_signing_up(Call *call)
{
	if (true_under(call->user, "is_anonymous"))
		return pstrdup("anonymous");
	return string_under(object_under(call->user, "app_metadata"), "provider");
}

/* NULL: let them; else the refusal. */
static const char *
policy_says(Call *call, const char *email)
{
	char	   *way;

	if (invite_sync_signup_policy == SIGNUP_OPEN)
		return NULL;
	if (email == NULL)
	{
		/* who has one that we cannot read does not pass for who has none */
		way = string_under(call->user, "email") == NULL ? way_of_signing_up(call) : NULL;
		return way != NULL && in_list(invite_sync_signup_without_email, way) ? NULL : NO_ADDRESS;
	}
	if (invite_sync_signup_policy == SIGNUP_DOMAIN_ONLY)
		return is_domain_of_ours(strrchr(email, '@') + 1) ? NULL : NOT_THIS_DOMAIN;
	return is_invited(email) ? NULL : NOT_INVITED;
}

/*
 * Every try counts for the client's address, so that nobody finds out quickly
 * who is invited; for the domain only who would be let in, so that no outsider
 * uses up what others are allowed.
 */
static void
before_user_created(Call *call)
{
	char	   *email = string_under(call->user, "email");
	const char *refusal;
	TimestampTz retry_at;

	if (call->user == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the event has no user")));
	if (email != NULL)
		email = invitation_email(email, strlen(email));
	refusal = policy_says(call, email);
	if (!quota_try_count_of("signup", "key",
							refusal == NULL && email != NULL ? invitation_email_key(strrchr(email, '@') + 1) : NULL,
							address_key(call), &retry_at))
		call->answer = TOO_MANY;
	else if (refusal != NULL)
		call->answer = refusal;
}

/* before_user_created_hook(event) */
Datum
hook_before_user_created(PG_FUNCTION_ARGS)
{
	Call		call;

	if (!run(fcinfo, "before_user_created_hook", before_user_created, &call))
	{
		call.result = NULL;
		call.answer = invite_sync_signup_policy == SIGNUP_OPEN ? "{}" : NOT_NOW;
	}
	return answer(&call);
}

/* ---------------------------------------------------------------------
 * after_user_created_hook()
 * ---------------------------------------------------------------------
 */

/*
 * Of what the auth server knows of a user, which of it is there. Not what is in
 * the metadata: there even the keys may be somebody's. One user has some twenty
 * keys; the bound is for who makes up events.
 */
static SavedPlan payload_plan = {
	.sql = "SELECT invite_sync.redact_payload(coalesce(pg_catalog.jsonb_object_agg(e.key, "
	"CASE WHEN e.value IN ('{}', '[]') THEN 'null' "
	"WHEN pg_catalog.jsonb_typeof(e.value) IN ('object', 'array') THEN 'true' ELSE e.value END), '{}')) "
	"FROM (SELECT x.key, x.value FROM pg_catalog.jsonb_each($1) AS x (key, value) "
	"WHERE x.key OPERATOR(pg_catalog.~) '^[a-z_]{1,63}$' ORDER BY x.key LIMIT 64) AS e (key, value)",
	.nargs = 1,
	.argtypes = {JSONBOID}
};

static char *
redacted_payload(Jsonb *user)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		value = JsonbPGetDatum(user);
	char	   *result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&payload_plan, &value, NULL, false, 1);
	result = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static void
after_user_created(Call *call)
{
	pg_uuid_t	user_id;
	char	   *email = string_under(call->user, "email");
	bool		invited = string_under(call->user, "invited_at") != NULL;
	StringInfoData data;
	pg_uuid_t  *ids = NULL;
	int			n = 0;

	if (!uuid_under(call->user, "id", &user_id))
		return;
	if (email != NULL)
		email = invitation_email(email, strlen(email));
	if (email != NULL)
		ids = pending_invitations(email, &n);
	initStringInfo(&data);
	appendStringInfoString(&data, "{\"invitation_ids\": [");
	for (int i = 0; i < n; i++)
		appendStringInfo(&data, "%s\"%s\"", i > 0 ? ", " : "", uuid_text(&ids[i]));
	appendStringInfoChar(&data, ']');
	if (invited)
		appendStringInfo(&data, ", \"payload\": %s", redacted_payload(call->user));
	appendStringInfoChar(&data, '}');
	(void) event_append("system", invited ? "account.invited_by_auth_server" : "account.created_by_auth_server",
						NULL, NULL, "user", uuid_text(&user_id), jsonb_of(data.data));
}

/* after_user_created_hook(event) */
Datum
hook_after_user_created(PG_FUNCTION_ARGS)
{
	Call		call;

	(void) run(fcinfo, "after_user_created_hook", after_user_created, &call);
	return answer(&call);
}

/* ---------------------------------------------------------------------
 * custom_access_token_hook()
 * ---------------------------------------------------------------------
 */

/*
 * The claims with what a user is and may, as the RLS helpers find it: every
 * organization that a membership reaches, with the role of the nearest one and
 * all that those on the way up allow. held says where that is to be found:
 * organization, role, how far up the membership is, and since when. Sizes are
 * those of the text that jsonb has.
 *
 * $1 the user, NULL for who is nobody; $2 the claims; $3 how many bytes. The
 * result is NULL where it is cut: there is too much for this way.
 */
#define CLAIMS(held, cut, truncated) \
	"WITH RECURSIVE " held ", " \
	"org AS MATERIALIZED (SELECT h.organization_id, pg_catalog.min(h.level) AS level, " \
	"(pg_catalog.array_agg(h.role_id ORDER BY h.level, h.role_id))[1] AS role_id, " \
	"(pg_catalog.array_agg(h.since ORDER BY h.level, h.since))[1] AS since, pg_catalog.array_agg(DISTINCT h.role_id ORDER BY h.role_id) AS roles " \
	"FROM held AS h GROUP BY h.organization_id), " \
	"allowed AS MATERIALIZED (SELECT s.roles, (SELECT coalesce(pg_catalog.jsonb_agg(d.name ORDER BY d.name COLLATE \"C\"), '[]') " \
	"FROM (SELECT DISTINCT p.name FROM pg_catalog.unnest(s.roles) AS r (id) " \
	"CROSS JOIN LATERAL pg_catalog.unnest(invite_sync.role_permissions(r.id)) AS p (name)) AS d) AS permissions " \
	"FROM (SELECT DISTINCT o.roles FROM org AS o) AS s), " \
	"named AS MATERIALIZED (SELECT d.role_id, (SELECT ro.name FROM invite_sync.role AS ro WHERE ro.id = d.role_id " \
	"AND (ro.built_in OR NOT EXISTS (SELECT FROM invite_sync.role AS b WHERE b.name = ro.name AND b.built_in))) AS name " \
	"FROM (SELECT DISTINCT o.role_id FROM org AS o) AS d), " \
	"entry AS MATERIALIZED (SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object( " \
	"'id', o.organization_id, 'role', n.name, 'permissions', a.permissions)) AS entry, " \
	"pg_catalog.row_number() OVER (ORDER BY o.level, o.since, o.organization_id) AS n " \
	"FROM org AS o JOIN allowed AS a ON a.roles = o.roles JOIN named AS n ON n.role_id = o.role_id), " \
	"base AS (SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('organizations', '[]'::pg_catalog.jsonb, " \
	"'platform_role', (SELECT ro.name FROM invite_sync.platform_role AS p JOIN invite_sync.role AS ro ON ro.id = p.role_id " \
	"AND (ro.built_in OR NOT EXISTS (SELECT FROM invite_sync.role AS b WHERE b.name = ro.name AND b.built_in)) " \
	"WHERE p.user_id = $1))) AS base), " \
	"sized AS (SELECT e.entry, e.n, pg_catalog.sum(pg_catalog.octet_length(e.entry::pg_catalog.text) + 2) " \
	"OVER (ORDER BY pg_catalog.octet_length(e.entry::pg_catalog.text), e.n) " \
	"+ pg_catalog.octet_length(b.base::pg_catalog.text) + 19 AS upto FROM entry AS e CROSS JOIN base AS b) " \
	"SELECT CASE WHEN NOT " cut " THEN pg_catalog.jsonb_build_object('claims', $2 OPERATOR(pg_catalog.||) " \
	"pg_catalog.jsonb_build_object('app_metadata', coalesce(nullif($2 OPERATOR(pg_catalog.->) 'app_metadata'::pg_catalog.text, 'null'), '{}') " \
	"OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('invite_sync', b.base " \
	"OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('organizations', coalesce((SELECT pg_catalog.jsonb_agg(s.entry ORDER BY s.n) FROM sized AS s WHERE s.upto <= $3), '[]')) " \
	"OPERATOR(pg_catalog.||) CASE WHEN " truncated " OR EXISTS (SELECT FROM sized AS s WHERE s.upto > $3) " \
	"THEN '{\"truncated\": true}'::pg_catalog.jsonb ELSE '{}' END))) END FROM base AS b"

/* Down the tree, as the RLS helpers go. */
static SavedPlan claims_plan = {
	.sql = CLAIMS("reach (organization_id, role_id, level, since) AS ("
				  "SELECT m.organization_id, m.role_id, 0, m.created_at FROM invite_sync.membership AS m "
				  "CROSS JOIN LATERAL (SELECT FROM invite_sync.organization AS o WHERE o.id = m.organization_id OFFSET 0) AS x "
				  "WHERE m.user_id = $1 UNION ALL "
				  "SELECT x.id, r.role_id, r.level + 1, r.since FROM reach AS r "
				  "CROSS JOIN LATERAL (SELECT o.id FROM invite_sync.organization AS o WHERE o.parent_id = r.organization_id OFFSET 0) AS x "
				  "WHERE r.level < 16), "
				  "held AS MATERIALIZED (SELECT r.organization_id, r.role_id, r.level, r.since FROM reach AS r LIMIT $4 + 1)",
				  "(SELECT pg_catalog.count(*) > $4 FROM held AS h)",
				  "false"),
	.nargs = 4,
	.argtypes = {UUIDOID, JSONBOID, INT4OID, INT8OID}
};

/* The organizations that somebody who reaches very many is a member of, from each one up. */
static SavedPlan direct_claims_plan = {
	.sql = CLAIMS("own AS MATERIALIZED (SELECT m.organization_id, m.created_at FROM invite_sync.membership AS m "
				  "WHERE m.user_id = $1 ORDER BY m.created_at, m.id LIMIT $4), "
				  "held AS MATERIALIZED (SELECT w.organization_id, m.role_id, p.level, w.created_at AS since FROM own AS w "
				  "CROSS JOIN LATERAL invite_sync.organization_path(w.organization_id) AS p "
				  "JOIN invite_sync.membership AS m ON m.organization_id = p.id AND m.user_id = $1)",
				  "false",
				  "true"),
	.nargs = 4,
	.argtypes = {UUIDOID, JSONBOID, INT4OID, INT8OID}
};

static Jsonb *
claims_by(SavedPlan *plan, const pg_uuid_t *user_id, Jsonb *claims, int64 most, MemoryContext cxt)
{
	Scope		scope;
	Datum		values[4];
	char		nulls[5] = "    ";
	Datum		value;
	bool		isnull;
	Jsonb	   *result = NULL;

	values[0] = UUIDPGetDatum(user_id);
	nulls[0] = user_id == NULL ? 'n' : ' ';
	values[1] = JsonbPGetDatum(claims);
	values[2] = Int32GetDatum(invite_sync_token_claims_bytes);
	values[3] = Int64GetDatum(most);
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_lookup(plan_get(plan));
	plan_execute(plan, values, nulls, true, 1);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/* Under app_metadata there is an object, or nothing at all. */
static bool
has_room_for_claims(Jsonb *claims)
{
	JsonbValue *v = value_under(claims, "app_metadata");

	return v == NULL || v->type == jbvNull || object_under(claims, "app_metadata") != NULL;
}

static void
custom_access_token(Call *call)
{
	pg_uuid_t	user_id;
	AuthUserState state;
	bool		somebody;

	if (call->claims == NULL || !has_room_for_claims(call->claims) || !uuid_under(call->event, "user_id", &user_id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the event has no user or no claims")));
	caller_auth_user_state(&user_id, &state);
	somebody = state.exists && state.usable && !state.anonymous;
	call->result = claims_by(&claims_plan, somebody ? &user_id : NULL, call->claims, REACH_MAX, call->cxt);
	if (call->result == NULL)
		call->result = claims_by(&direct_claims_plan, &user_id, call->claims, DIRECT_MAX, call->cxt);
}

/*
 * What was given, as the auth server wants it back: it fails a login whose answer
 * has no claims. Takes nothing for granted, for it comes after a failure.
 */
static Jsonb *
claims_as_given(FunctionCallInfo fcinfo)
{
	Jsonb	   *event = fcinfo->nargs == 1 && !fcinfo->args[0].isnull ? DatumGetJsonbP(fcinfo->args[0].value) : NULL;
	Jsonb	   *claims = object_under(event, "claims");
	JsonbParseState *state = NULL;
	JsonbValue	key;
	JsonbValue	value;
	JsonbValue *result;

	if (claims == NULL)
		return jsonb_of("{\"claims\": {}}");
	key.type = jbvString;
	key.val.string.val = pstrdup("claims");
	key.val.string.len = (int) strlen("claims");
	value.type = jbvBinary;
	value.val.binary.data = &claims->root;
	value.val.binary.len = VARSIZE(claims) - VARHDRSZ;
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(result);
}

/* custom_access_token_hook(event) */
Datum
hook_custom_access_token(PG_FUNCTION_ARGS)
{
	Call		call;

	if (!run(fcinfo, "custom_access_token_hook", custom_access_token, &call))
		call.result = claims_as_given(fcinfo);
	return answer(&call);
}

/* ---------------------------------------------------------------------
 * password_verification_attempt_hook(), mfa_verification_attempt_hook()
 * ---------------------------------------------------------------------
 */

#define GO_ON	"{\"decision\": \"continue\"}"
/* The same whether the password was right: who is locked out learns nothing more. */
#define LOCKED_OUT \
	"{\"decision\": \"reject\", \"message\": \"too many failed attempts, try again later\", \"should_logout_user\": false}"

/* Whose attempts these are together: the user's from one address, and from anywhere. */
enum
{
	OF_ADDRESS,
	OF_USER,
	N_WINDOWS
};

static void
lockout_windows(Call *call, const pg_uuid_t *user_id, QuotaWindow *windows)
{
	char	   *address = address_key(call);
	char	   *user = uuid_text(user_id);

	memset(windows, 0, sizeof(QuotaWindow) * N_WINDOWS);
	windows[OF_ADDRESS].scope = "address";
	windows[OF_ADDRESS].key = address ? invitation_email_key(psprintf("%s %s", user, address)) : NULL;
	windows[OF_ADDRESS].max = invite_sync_lockout_attempts;
	windows[OF_USER].scope = "user";
	windows[OF_USER].key = user;
	windows[OF_USER].max = invite_sync_lockout_user_attempts;
	for (int i = 0; i < N_WINDOWS; i++)
		windows[i].per = (int64) invite_sync_lockout_duration * USECS_PER_SEC;
}

/*
 * Only failures count, and none while locked out, so that no lock-out lasts
 * longer than its window however often somebody tries. A success from an
 * address clears that address, not what others do elsewhere.
 */
static void
verification_attempt(Call *call, const char *action, const char *locked_out)
{
	pg_uuid_t	user_id;
	QuotaWindow windows[N_WINDOWS];
	int			remaining;

	call->answer = GO_ON;
	if (invite_sync_lockout_attempts == 0 && invite_sync_lockout_user_attempts == 0)
		return;
	if (!uuid_under(call->event, "user_id", &user_id) || value_under(call->event, "valid") == NULL)
		return;
	lockout_windows(call, &user_id, windows);
	if (true_under(call->event, "valid"))
	{
		if (!quota_windows_open(action, windows, N_WINDOWS))
			call->answer = LOCKED_OUT;
		else if (windows[OF_ADDRESS].max > 0)
			quota_forget_window(action, &windows[OF_ADDRESS]);
		return;
	}
	if (!quota_count_windows(action, windows, N_WINDOWS, &remaining))
		call->answer = LOCKED_OUT;
	else if (remaining == 0)
		(void) event_append("system", locked_out, NULL, NULL, "user", uuid_text(&user_id),
							jsonb_of(psprintf("{\"seconds\": %d}", invite_sync_lockout_duration)));
}

static void
password_verification_attempt(Call *call)
{
	verification_attempt(call, "password_verification", "account.password_locked_out");
}

static void
mfa_verification_attempt(Call *call)
{
	verification_attempt(call, "mfa_verification", "account.mfa_locked_out");
}

/* password_verification_attempt_hook(event) */
Datum
hook_password_verification_attempt(PG_FUNCTION_ARGS)
{
	Call		call;

	if (!run(fcinfo, "password_verification_attempt_hook", password_verification_attempt, &call))
		call.answer = GO_ON;
	return answer(&call);
}

/* mfa_verification_attempt_hook(event) */
Datum
hook_mfa_verification_attempt(PG_FUNCTION_ARGS)
{
	Call		call;

	if (!run(fcinfo, "mfa_verification_attempt_hook", mfa_verification_attempt, &call))
		call.answer = GO_ON;
	return answer(&call);
}
