/*-------------------------------------------------------------------------
 *
 * account_import.c
 *	  The users of another system, many at once.
 *
 * What is refused comes back as a row, so each is tried in a subtransaction.
 * Organizations are locked before the first of them, and the rows are worked off
 * in order of their addresses, so that two imports never wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "account.h"
#include "caller.h"
#include "invitation.h"
#include "invitation_account.h"
#include "invitation_create.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"
#include "quota.h"
#include "token.h"

PG_FUNCTION_INFO_V1(account_import);

#define IMPORT_MAX			1000

/* ---------------------------------------------------------------------
 * Digests of passwords
 *
 * What the auth server would fail at, or work at for seconds, is refused: it
 * checks the digest whenever somebody tries to sign in with that address.
 * ---------------------------------------------------------------------
 */

#define DIGEST_BYTES_MAX	512
#define BCRYPT_BYTES		60
#define BCRYPT_COST_MIN		4
#define BCRYPT_COST_MAX		14
#define ARGON2_MEMORY_MAX	262144	/* KiB */
#define ARGON2_TIME_MAX		10
#define ARGON2_THREADS_MAX	16
#define SCRYPT_MEMORY_MAX	14	/* a power of two */
#define SCRYPT_ROUNDS_MAX	8
#define SCRYPT_THREADS_MAX	4
#define HASH_BYTES_MIN		16	/* a shorter one is found by trying */
#define HASH_BYTES_MAX		128

#define BASE64	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

static bool
skip(const char **s, const char *word)
{
	size_t		len = strlen(word);

	if (strncmp(*s, word, len) != 0)
		return false;
	*s += len;
	return true;
}

/* A number from 1 to most, without zeros before it. */
static bool
skip_number(const char **s, const char *name, int most, int *value)
{
	size_t		len;

	if (!skip(s, name))
		return false;
	len = strspn(*s, "0123456789");
	if (len == 0 || len > 6 || **s == '0')
		return false;
	*value = atoi(*s);
	*s += len;
	return *value <= most;
}

/* Base64 up to here, as many bytes as it stands for; -1: it is none. */
static int
skip_base64(const char **s, bool padded)
{
	size_t		len = strspn(*s, BASE64);
	size_t		pad = 0;

	if (len % 4 == 1)
		return -1;
	*s += len;
	if (padded)
	{
		pad = (4 - len % 4) % 4;
		for (size_t i = 0; i < pad; i++)
			if (!skip(s, "="))
				return -1;
	}
	return (int) (len * 3 / 4);
}

static bool
is_bcrypt(const char *s)
{
	int			cost;

	if (strlen(s) != BCRYPT_BYTES || s[0] != '$' || s[1] != '2' || strchr("aby", s[2]) == NULL || s[3] != '$' ||
		!isdigit((unsigned char) s[4]) || !isdigit((unsigned char) s[5]) || s[6] != '$')
		return false;
	cost = (s[4] - '0') * 10 + s[5] - '0';
	return cost >= BCRYPT_COST_MIN && cost <= BCRYPT_COST_MAX &&
		strspn(s + 7, "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == BCRYPT_BYTES - 7;
}

/* "$argon2id$v=19$m=65536,t=3,p=4$salt$hash"; the server takes neither another version nor argon2d, keyid, data. */
static bool
is_argon2(const char *s)
{
	int			memory;
	int			time;
	int			threads;
	int			salt;
	int			hash;

	if ((!skip(&s, "$argon2id$") && !skip(&s, "$argon2i$")) || !skip(&s, "v=19$") ||
		!skip_number(&s, "m=", ARGON2_MEMORY_MAX, &memory) || !skip_number(&s, ",t=", ARGON2_TIME_MAX, &time) ||
		!skip_number(&s, ",p=", ARGON2_THREADS_MAX, &threads) || !skip(&s, "$"))
		return false;
	salt = skip_base64(&s, false);
	if (salt < 8 || salt > HASH_BYTES_MAX || !skip(&s, "$"))
		return false;
	hash = skip_base64(&s, false);
	return *s == '\0' && hash >= HASH_BYTES_MIN && hash <= HASH_BYTES_MAX;
}

/* "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=…$salt$hash": what is hashed is as long as the signer's key. */
static bool
is_firebase_scrypt(const char *s)
{
	int			memory;
	int			rounds;
	int			threads;
	int			separator;
	int			key;
	int			salt;

	if (!skip(&s, "$fbscrypt$v=1,") || !skip_number(&s, "n=", SCRYPT_MEMORY_MAX, &memory) ||
		!skip_number(&s, ",r=", SCRYPT_ROUNDS_MAX, &rounds) || !skip_number(&s, ",p=", SCRYPT_THREADS_MAX, &threads))
		return false;
	if (skip(&s, ",ss="))
	{
		separator = skip_base64(&s, true);
		if (separator < 1 || separator > HASH_BYTES_MAX)
			return false;
	}
	if (!skip(&s, ",sk="))
		return false;
	key = skip_base64(&s, true);
	if (key < HASH_BYTES_MIN || key > HASH_BYTES_MAX || !skip(&s, "$"))
		return false;
	salt = skip_base64(&s, true);
	if (salt < 1 || salt > HASH_BYTES_MAX || !skip(&s, "$"))
		return false;
	return skip_base64(&s, true) == key && *s == '\0';
}

bool
account_digest_accepted(const char *digest)
{
	return strlen(digest) <= DIGEST_BYTES_MAX &&
		(is_bcrypt(digest) || is_argon2(digest) || is_firebase_scrypt(digest));
}

/* ---------------------------------------------------------------------
 * Rows
 * ---------------------------------------------------------------------
 */

typedef struct ImportRow
{
	int			n;
	JsonbContainer *object;		/* NULL: it is none */
	const Inviter *service;
	InvitationRequest request;	/* email, roles, grants */
	AuthAccount account;
	char	   *email;			/* as it was passed */
	char	   *provider;		/* NULL: nobody elsewhere */
	char	   *external_id;
	TimestampTz user_since;
	bool		has_quota;
	int			quota;
	bool		parsed;
	bool		has_user;
	pg_uuid_t	user_id;
	const char *status;			/* NULL: refused */
	bool		migrated;
	const char *reason;
	const char *message;
} ImportRow;

static void
malformed(const char *key, const char *hint)
{
	refuse("data_malformed", psprintf("argument=%s", key), hint);
}

/* The value of a key; NULL where it is absent or null. */
static JsonbValue *
value_of(const ImportRow *row, const char *key, enum jbvType type)
{
	JsonbValue *v = getKeyJsonValueFromContainer(row->object, key, strlen(key), NULL);

	if (v == NULL || v->type == jbvNull)
		return NULL;
	if (v->type != type)
		malformed(key, NULL);
	return v;
}

static char *
string_of(const ImportRow *row, const char *key)
{
	JsonbValue *v = value_of(row, key, jbvString);

	return v ? pnstrdup(v->val.string.val, v->val.string.len) : NULL;
}

static Jsonb *
json_of(const ImportRow *row, const char *key)
{
	JsonbValue *v = value_of(row, key, jbvBinary);

	return v ? JsonbValueToJsonb(v) : NULL;
}

static void
require_known_keys(const ImportRow *row)
{
	static const char *const known[] = {"email", "email_confirmed", "password_digest", "provider", "external_id", "user_since",
	"full_name", "job_title", "data", "platform_role", "grants", "quota_granted"};
	JsonbIterator *it = JsonbIteratorInit(row->object);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		bool		is_known = token != WJB_KEY;

		for (size_t i = 0; i < lengthof(known) && !is_known; i++)
			is_known = v.val.string.len == (int) strlen(known[i]) &&
				memcmp(v.val.string.val, known[i], v.val.string.len) == 0;
		if (!is_known)
			malformed("users", "Every object has email and, each if there is one, what the function's comment names; no other key.");
	}
}

static void
read_quota(ImportRow *row)
{
	JsonbValue *v = value_of(row, "quota_granted", jbvNumeric);
	bool		error = false;

	if (v == NULL)
		return;
	row->quota = numeric_int4_opt_error(v->val.numeric, &error);
	if (error || row->quota < 0 ||
		!DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(v->val.numeric), DirectFunctionCall1(int4_numeric, Int32GetDatum(row->quota)))))
		malformed("quota_granted", NULL);
	row->has_quota = true;
}

static void
parse_one(void *arg)
{
	ImportRow  *row = arg;
	InvitationRequest *request = &row->request;
	JsonbValue *confirmed;
	Jsonb	   *grants;
	char	   *digest;
	char	   *platform_role;
	char	   *user_since;

	if (row->object == NULL)
		malformed("users", "Every element is an object.");
	row->email = string_of(row, "email");
	require_known_keys(row);
	request->email = row->email ? invitation_email(row->email, strlen(row->email)) : NULL;
	if (request->email == NULL)
		refuse("email_malformed", NULL, NULL);
	row->account.email = request->email;
	confirmed = value_of(row, "email_confirmed", jbvBool);
	row->account.confirmed = confirmed == NULL || confirmed->val.boolean;

	row->provider = string_of(row, "provider");
	row->external_id = string_of(row, "external_id");
	if ((row->provider == NULL) != (row->external_id == NULL))
		malformed(row->provider ? "external_id" : "provider", NULL);
	if (row->provider != NULL)
		account_require_external(row->provider, row->external_id);
	digest = string_of(row, "password_digest");
	if (digest != NULL)
	{
		if (!account_digest_accepted(digest))
			malformed("password_digest", NULL);
		row->account.encrypted_password = digest;
	}
	row->account.user_meta = invitation_data_with_names(json_of(row, "data"), string_of(row, "full_name"), string_of(row, "job_title"));
	invitation_check_data(row->account.user_meta);
	platform_role = string_of(row, "platform_role");
	request->platform_role = platform_role ? cstring_to_text(platform_role) : NULL;
	grants = json_of(row, "grants");
	if (grants != NULL)
		invitation_grants(request, grants);
	read_quota(row);
	invitation_require_rights(row->service, request);
	user_since = string_of(row, "user_since");
	if (user_since != NULL)
	{
		row->user_since = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(user_since),
																	ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		if (TIMESTAMP_NOT_FINITE(row->user_since))
			malformed("user_since", NULL);
	}
}

static bool
is_placeholder(const ImportRow *row)
{
	return row->external_id != NULL &&
		strncmp(row->external_id, ACCOUNT_PLACEHOLDER, strlen(ACCOUNT_PLACEHOLDER)) == 0;
}

/* The same row again changes nothing, so that an import can be repeated after it was broken off. */
static bool
imported_before(ImportRow *row)
{
	ExternalUser external;

	if (row->provider == NULL || !account_external(row->provider, row->external_id, false, &external))
		return false;
	if (external.has_user && (external.email == NULL || strcmp(external.email, row->account.email) != 0))
		refuse("idempotency_conflict", NULL, NULL);
	row->status = external.has_user ? "reused" : "placeholder";
	row->has_user = external.has_user;
	row->user_id = external.user_id;
	row->migrated = external.migrated;
	return true;
}

static void
import_one(void *arg)
{
	ImportRow  *row = arg;
	bool		migrated = row->account.encrypted_password != NULL;

	if (imported_before(row))
		return;
	if (is_placeholder(row))
	{
		(void) account_insert_external(row->provider, row->external_id, NULL, NULL, row->user_since, false);
		row->status = "placeholder";
		return;
	}
	invitation_roles(row->service, &row->request);
	account_make(&row->service->caller, "account.imported", &row->account, &row->request, &row->user_id);
	if (row->provider != NULL &&
		!account_insert_external(row->provider, row->external_id, row->account.email, &row->user_id, row->user_since, migrated))
		refuse("idempotency_conflict", NULL, NULL);
	if (row->has_quota)
		quota_set_granted(&row->service->caller, &row->user_id, row->quota);
	row->has_user = true;
	row->migrated = migrated;
	row->status = "created";
}

/* Bytes, not letters of a locale: everybody works in the same order. */
static int
by_address(const void *a, const void *b)
{
	const ImportRow *const *x = a;
	const ImportRow *const *y = b;
	int			order = strcmp((*x)->account.email, (*y)->account.email);

	return order != 0 ? order : (*x)->n - (*y)->n;
}

/* Why a row was refused; of what is malformed also which key. */
static void
take_refusal(ImportRow *row, ErrorData *edata)
{
	const char *argument = edata->detail ? strstr(edata->detail, "argument=") : NULL;

	argument = argument ? pstrdup(argument) : NULL;
	row->status = NULL;
	invitation_take_refusal(edata, &row->reason, &row->message);
	if (argument != NULL && strcmp(row->reason, "data_malformed") == 0)
		row->message = psprintf("%s (%s)", row->message, argument);
}

static void
parse_rows(ImportRow *rows, int n)
{
	for (int i = 0; i < n; i++)
	{
		ErrorData  *edata = plan_contained(parse_one, &rows[i], true);

		rows[i].parsed = edata == NULL;
		/* nothing but a time is read by functions of PostgreSQL's */
		if (edata != NULL && ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
		{
			rows[i].reason = "data_malformed";
			rows[i].message = "data is malformed (argument=user_since)";
			FreeErrorData(edata);
		}
		else if (edata != NULL)
			take_refusal(&rows[i], edata);
	}
}

static void
work_off(ImportRow *rows, int n)
{
	ImportRow **order = palloc(sizeof(ImportRow *) * (n + 1));
	pg_uuid_t  *organizations;
	int			ready = 0;
	int			norganizations = 0;

	for (int i = 0; i < n; i++)
		if (rows[i].parsed)
		{
			order[ready++] = &rows[i];
			norganizations += rows[i].request.ngrants;
		}
	organizations = palloc(sizeof(pg_uuid_t) * (norganizations + 1));
	norganizations = 0;
	for (int i = 0; i < ready; i++)
		for (int k = 0; k < order[i]->request.ngrants; k++)
			organizations[norganizations++] = order[i]->request.organization_ids[k];
	if (norganizations > 0)
		organization_lock(NULL, 0, organizations, norganizations);
	qsort(order, ready, sizeof(ImportRow *), by_address);
	for (int i = 0; i < ready; i++)
	{
		ErrorData  *edata;

		CHECK_FOR_INTERRUPTS();
		edata = plan_contained(import_one, order[i], true);
		if (edata != NULL)
			take_refusal(order[i], edata);
		if (order[i]->account.encrypted_password != NULL)
			token_wipe((char *) order[i]->account.encrypted_password, strlen(order[i]->account.encrypted_password));
	}
}

/* import_users(users) */
Datum
account_import(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Inviter		service;
	Jsonb	   *users;
	ImportRow  *rows;
	int			n;

	account_service(&service);
	users = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	if (users == NULL || !JB_ROOT_IS_ARRAY(users) || JB_ROOT_IS_SCALAR(users) || JB_ROOT_COUNT(users) > IMPORT_MAX)
		malformed("users", psprintf("Pass an array of at most %d objects.", IMPORT_MAX));
	(void) caller_auth_users_relid(false);
	n = JB_ROOT_COUNT(users);
	rows = palloc0(sizeof(ImportRow) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(&users->root, i);

		rows[i].n = i + 1;
		rows[i].service = &service;
		if (v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data))
			rows[i].object = v->val.binary.data;
	}
	parse_rows(rows, n);
	work_off(rows, n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		ImportRow  *row = &rows[i];
		Datum		values[7];
		bool		nulls[7];

		memset(values, 0, sizeof(values));
		memset(nulls, true, sizeof(nulls));
		values[0] = Int32GetDatum(row->n);
		nulls[0] = false;
		if (row->email != NULL)
		{
			values[1] = CStringGetTextDatum(row->email);
			nulls[1] = false;
		}
		if (row->status != NULL)
		{
			values[2] = UUIDPGetDatum(&row->user_id);
			nulls[2] = !row->has_user;
			values[3] = CStringGetTextDatum(row->status);
			values[4] = BoolGetDatum(row->migrated);
			nulls[3] = nulls[4] = false;
		}
		else
		{
			values[5] = CStringGetTextDatum(row->reason);
			values[6] = CStringGetTextDatum(row->message);
			nulls[5] = nulls[6] = false;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
