/*-------------------------------------------------------------------------
 *
 * invitation_signup.c
 *	  Accounts made and taken over by who holds a token that proves the mailbox.
 *
 * What is written is what the auth server would have written, as far as its
 * version has the columns: it reads most of them into strings that cannot be
 * NULL, and looks users up by instance_id and aud.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "caller.h"
#include "event.h"
#include "invitation.h"
#include "invitation_accept.h"
#include "invitation_account.h"
#include "invitation_create.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "token.h"

PG_FUNCTION_INFO_V1(invitation_signup);

#define PASSWORD_BYTES_MAX	72	/* bcrypt takes no more into account */
#define BCRYPT_COST			10	/* the auth server's */

/* ---------------------------------------------------------------------
 * Passwords
 * ---------------------------------------------------------------------
 */

/* What the auth server will be sent: it hashes UTF-8. */
static char *
password_utf8(text *password)
{
	char	   *s = text_to_cstring(password);
	char	   *utf8 = pg_server_to_any(s, strlen(s), PG_UTF8);

	if (utf8 != s)
		token_wipe(s, strlen(s));
	return utf8;
}

static void
forget(char *s)
{
	token_wipe(s, strlen(s));
	pfree(s);
}

void
auth_account_require_password(text *password)
{
	char	   *utf8 = password_utf8(password);
	bool		too_long = strlen(utf8) > PASSWORD_BYTES_MAX;

	forget(utf8);
	if (pg_mbstrlen_with_len(VARDATA_ANY(password), VARSIZE_ANY_EXHDR(password)) < invite_sync_password_min_length)
		refuse("password_weak", psprintf("min_length=%d", invite_sync_password_min_length), "Choose a longer password.");
	if (too_long)
		refuse("password_weak", psprintf("max_bytes=%d", PASSWORD_BYTES_MAX), "Choose a shorter password: what goes beyond would count for nothing.");
}

/* The password is handed to pgcrypto's own, and to nothing that merely has its name. */
static Oid
pgcrypto_function(const char *symbol)
{
	Oid			result = plan_extension_function("pgcrypto", symbol);

	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("passwords cannot be hashed: crypt() or gen_salt() of extension \"pgcrypto\" is missing"),
				 errhint("Let an administrator install extension pgcrypto anew: somebody has changed or taken out its functions.")));
	return result;
}

/* Called directly and not in a statement: no log and no statistics sees the password. */
char *
auth_account_hash(text *password)
{
	Oid			gen_salt = pgcrypto_function("pg_gen_salt_rounds");
	Oid			crypt = pgcrypto_function("pg_crypt");
	char	   *utf8 = password_utf8(password);
	text	   *plain = cstring_to_text(utf8);
	Datum		salt = OidFunctionCall2(gen_salt, CStringGetTextDatum("bf"), Int32GetDatum(BCRYPT_COST));
	char	   *hash = TextDatumGetCString(OidFunctionCall2(crypt, PointerGetDatum(plain), salt));

	token_wipe(VARDATA(plain), VARSIZE(plain) - VARHDRSZ);
	forget(utf8);
	return hash;
}

/* ---------------------------------------------------------------------
 * Accounts
 * ---------------------------------------------------------------------
 */

#define NO_INSTANCE "'00000000-0000-0000-0000-000000000000'"

/*
 * As the auth server finds one, and as the unique index does. It folds more
 * letters than ASCII's: what is the same address to it and not to us is
 * somebody's, and to make another one would hide it.
 */
#define FOUND \
	"SELECT x.* FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id, " \
	"u.email_confirmed_at IS NULL AND u.phone_confirmed_at IS NULL AND deleted_at IS NULL " \
	"AND (banned_until IS NULL OR banned_until <= pg_catalog.clock_timestamp()) " \
	"AND pg_catalog.translate(u.email::pg_catalog.text, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz') = $1 " \
	"FROM auth.users AS u WHERE NOT is_sso_user AND "

/* Two lookups, each by an index of its own. */
static const char find_sql[] = FOUND "u.email::pg_catalog.text = $1) AS x UNION "
	FOUND "u.instance_id = " NO_INSTANCE " AND pg_catalog.lower(u.email::pg_catalog.text) = pg_catalog.lower($1)) AS x";

AuthAccountState
auth_account_find(const char *email, bool fresh, pg_uuid_t *id)
{
	AuthAccountState result = AUTH_ACCOUNT_NONE;
	static const Oid argtypes[] = {TEXTOID};
	Scope		scope;
	Datum		values[1];
	SPIPlanPtr	plan;
	int			rc;

	if (!OidIsValid(caller_auth_users_relid(true)))
		return result;
	values[0] = CStringGetTextDatum(email);
	SPI_connect();
	scope_enter_auth(&scope);

	/*
	 * Planned anew each time: a plan of when there were few users goes through
	 * all of them by the index on instance_id, which they share.
	 */
	plan = plan_try(find_sql, 1, argtypes);
	rc = SPI_execute_plan(plan, values, NULL, !fresh, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	for (uint64 i = 0; i < SPI_processed && result != AUTH_ACCOUNT_TAKEN; i++)
	{
		bool		isnull;

		*id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		if (result == AUTH_ACCOUNT_NONE &&
			DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull)))
			result = AUTH_ACCOUNT_UNCONFIRMED;
		else
			result = AUTH_ACCOUNT_TAKEN;
	}
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/*
 * What a column is set to when an account is made and when one is taken over;
 * NULL: it is left alone. $1 id, $2 address, $3 password, $4 confirmed, $5 user
 * metadata.
 */
typedef struct Column
{
	const char *name;
	const char *made;
	const char *replaced;
} Column;

#define CONFIRMED	"CASE WHEN $4 THEN pg_catalog.now() END"
#define PROVIDER	"'{\"provider\": \"email\", \"providers\": [\"email\"]}'::pg_catalog.jsonb"

/*
 * Whoever opened an account without ever showing that the address is theirs may
 * have left a telephone number, a change of address under way or a link to sign
 * in with: all of it goes. What an administrator wrote into the application's
 * metadata stays.
 */
static const Column user_columns[] = {
	{"instance_id", NO_INSTANCE, NO_INSTANCE},
	{"id", "$1", NULL},
	{"aud", "'authenticated'", "'authenticated'"},
	{"role", "'authenticated'", "'authenticated'"},
	{"email", "$2", NULL},
	{"encrypted_password", "coalesce($3, '')", "coalesce($3, '')"},
	{"email_confirmed_at", CONFIRMED, CONFIRMED},
	{"confirmed_at", CONFIRMED, CONFIRMED},
	{"confirmation_token", "''", "''"},
	{"confirmation_sent_at", NULL, "NULL"},
	{"recovery_token", "''", "''"},
	{"recovery_sent_at", NULL, "NULL"},
	{"email_change_token_new", "''", "''"},
	{"email_change_token_current", "''", "''"},
	{"email_change_confirm_status", "0", "0"},
	{"email_change", "''", "''"},
	{"email_change_sent_at", NULL, "NULL"},
	{"phone", NULL, "NULL"},
	{"phone_change", "''", "''"},
	{"phone_change_token", "''", "''"},
	{"phone_change_sent_at", NULL, "NULL"},
	{"reauthentication_token", "''", "''"},
	{"reauthentication_sent_at", NULL, "NULL"},
	{"raw_app_meta_data", PROVIDER,
		"CASE WHEN pg_catalog.jsonb_typeof(raw_app_meta_data) = 'object' THEN raw_app_meta_data ELSE '{}' END "
	"OPERATOR(pg_catalog.||) " PROVIDER},
	{"raw_user_meta_data", "$5", "$5"},
	{"created_at", "pg_catalog.now()", NULL},
	{"updated_at", "pg_catalog.now()", "pg_catalog.now()"},
	{"is_sso_user", "false", NULL},
	{"is_anonymous", "false", "false"}
};

/* Before they had a provider_id the provider's id was the identity's. */
static const Column identity_columns[] = {
	{"provider_id", "$1::pg_catalog.text", NULL},
	{"user_id", "$1", NULL},
	{"identity_data", "$2", NULL},
	{"provider", "'email'", NULL},
	{"last_sign_in_at", "pg_catalog.now()", NULL},
	{"created_at", "pg_catalog.now()", NULL},
	{"updated_at", "pg_catalog.now()", NULL},
	{"email", "$2 OPERATOR(pg_catalog.->>) 'email'", NULL}
};

/* Everything that lets somebody in, the longest way first; by which column of it, and how that names the user. */
static const struct
{
	const char *table;
	const char *column;
	const char *condition;
}			ways_in[] = {
	{"mfa_challenges", "factor_id", "factor_id IN (SELECT f.id FROM auth.mfa_factors AS f WHERE f.user_id = $1)"},
	{"mfa_factors", "user_id", "user_id = $1"},
	{"mfa_amr_claims", "session_id", "session_id IN (SELECT s.id FROM auth.sessions AS s WHERE s.user_id = $1)"},
	{"refresh_tokens", "user_id", "user_id = $1::pg_catalog.text"},
	{"sessions", "user_id", "user_id = $1"},
	{"one_time_tokens", "user_id", "user_id = $1"},
	{"flow_state", "user_id", "user_id = $1"},
	{"webauthn_challenges", "user_id", "user_id = $1"},
	{"webauthn_credentials", "user_id", "user_id = $1"},
	{"oauth_authorizations", "user_id", "user_id = $1"},
	{"oauth_consents", "user_id", "user_id = $1"},
	{"identities", "user_id", "user_id = $1"}
};

/* Can we write it? Generated columns write themselves. */
static bool
has_column(Oid relid, const char *name)
{
	AttrNumber	attnum = get_attnum(relid, name);

	return attnum != InvalidAttrNumber && get_attgenerated(relid, attnum) == '\0';
}

/* A table of the auth server's, and not somebody else's of that name, whose triggers would run with its rights. */
static Oid
auth_table(const char *name)
{
	Oid			relid = get_relname_relid(name, get_namespace_oid("auth", false));
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	if (!OidIsValid(relid))
		return InvalidOid;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner == caller_auth_owner() ? relid : InvalidOid;
}

/* Runs in the scope of the auth server; how many rows it touched. */
static uint64
run_made(const char *sql, int nargs, const Oid *argtypes, Datum *values, const char *nulls)
{
	int			rc = SPI_execute_plan(plan_try(sql, nargs, argtypes), values, nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

static char *
insert_sql(const char *table, Oid relid, const Column *columns, int ncolumns, const char *more, const char *more_value)
{
	StringInfoData names;
	StringInfoData values;

	initStringInfo(&names);
	initStringInfo(&values);
	for (int i = 0; i < ncolumns; i++)
		if (columns[i].made != NULL && has_column(relid, columns[i].name))
		{
			appendStringInfo(&names, "%s%s", names.len ? ", " : "", columns[i].name);
			appendStringInfo(&values, "%s%s", values.len ? ", " : "", columns[i].made);
		}
	if (more != NULL)
	{
		appendStringInfo(&names, ", %s", more);
		appendStringInfo(&values, ", %s", more_value);
	}
	return psprintf("INSERT INTO auth.%s (%s) VALUES (%s) ON CONFLICT DO NOTHING", table, names.data, values.data);
}

static SavedPlan meta_plan = {
	.sql = "SELECT coalesce($1, '{}') OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object("
	"'sub', $2, 'email', $3, 'email_verified', $4, 'phone_verified', false)",
	.nargs = 4,
	.argtypes = {JSONBOID, UUIDOID, TEXTOID, BOOLOID}
};

/* Opens SPI of its caller's; the result lives in it. */
static Datum
meta_data(const AuthAccount *account, const pg_uuid_t *id, bool with_user_meta)
{
	Datum		values[4];
	char		nulls[4] = {with_user_meta && account->user_meta ? ' ' : 'n', ' ', ' ', ' '};
	bool		isnull;

	values[0] = account->user_meta ? JsonbPGetDatum(account->user_meta) : (Datum) 0;
	values[1] = UUIDPGetDatum(id);
	values[2] = CStringGetTextDatum(account->email);
	values[3] = BoolGetDatum(account->confirmed);
	plan_execute(&meta_plan, values, nulls, false, 1);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}

static void
insert_identity(const AuthAccount *account, const pg_uuid_t *id)
{
	static const Oid argtypes[] = {UUIDOID, JSONBOID};
	Oid			relid = auth_table("identities");
	bool		old;
	Datum		values[2];

	if (!OidIsValid(relid))
		return;
	old = get_attnum(relid, "provider_id") == InvalidAttrNumber;
	values[0] = UUIDPGetDatum(id);
	values[1] = meta_data(account, id, false);
	(void) run_made(insert_sql("identities", relid, identity_columns, lengthof(identity_columns),
							   old ? "id" : NULL, "$1::pg_catalog.text"), 2, argtypes, values, NULL);
}

static const Oid user_argtypes[] = {UUIDOID, TEXTOID, TEXTOID, BOOLOID, JSONBOID};

static void
user_values(const AuthAccount *account, const pg_uuid_t *id, Datum *values, char *nulls)
{
	memset(nulls, ' ', 5);
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(account->email);
	values[2] = account->encrypted_password ? CStringGetTextDatum(account->encrypted_password) : (Datum) 0;
	nulls[2] = account->encrypted_password ? ' ' : 'n';
	values[3] = BoolGetDatum(account->confirmed);
	values[4] = meta_data(account, id, true);
}

/* The auth server may be making one at this moment: we wait for that, and say so. */
bool
auth_account_create(const AuthAccount *account, pg_uuid_t *id)
{
	Oid			relid = caller_auth_users_relid(false);
	int			guc_level = membership_bound_waits();
	Scope		scope;
	Datum		values[5];
	char		nulls[5];
	bool		made;

	*id = *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	SPI_connect();
	scope_enter_auth(&scope);
	user_values(account, id, values, nulls);
	made = run_made(insert_sql("users", relid, user_columns, lengthof(user_columns), NULL, NULL),
					5, user_argtypes, values, nulls) == 1;
	if (made)
		insert_identity(account, id);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
	return made;
}

void
auth_account_replace(const AuthAccount *account, const pg_uuid_t *id)
{
	static const Oid idtype[] = {UUIDOID};
	Oid			relid = caller_auth_users_relid(false);
	int			guc_level = membership_bound_waits();
	StringInfoData set;
	Scope		scope;
	Datum		values[5];
	char		nulls[5];

	initStringInfo(&set);
	for (size_t i = 0; i < lengthof(user_columns); i++)
		if (user_columns[i].replaced != NULL && has_column(relid, user_columns[i].name))
			appendStringInfo(&set, "%s%s = %s", set.len ? ", " : "", user_columns[i].name, user_columns[i].replaced);
	SPI_connect();
	scope_enter_auth(&scope);
	values[0] = UUIDPGetDatum(id);
	for (size_t i = 0; i < lengthof(ways_in); i++)
	{
		Oid			table = auth_table(ways_in[i].table);

		if (OidIsValid(table) && get_attnum(table, ways_in[i].column) != InvalidAttrNumber)
			(void) run_made(psprintf("DELETE FROM auth.%s WHERE %s", ways_in[i].table, ways_in[i].condition),
							1, idtype, values, NULL);
	}
	user_values(account, id, values, nulls);
	(void) run_made(psprintf("UPDATE auth.users SET %s WHERE id = $1 AND $2 IS NOT NULL", set.data), 5, user_argtypes, values, nulls);
	insert_identity(account, id);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* ---------------------------------------------------------------------
 * signup_with_invitation()
 * ---------------------------------------------------------------------
 */

static SavedPlan both_data_plan = {
	.sql = "SELECT " INVITATION_DATA("$1") " OPERATOR(pg_catalog.||) $2",
	.nargs = 2,
	.argtypes = {JSONBOID, JSONBOID}
};

/* What the person says of themselves, and what their inviter said where they do not. */
static Jsonb *
both_data(const Invitation *invitation, Jsonb *data)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		values[2];
	bool		isnull;
	Jsonb	   *result;

	if (data == NULL)
		return NULL;
	values[0] = JsonbPGetDatum(invitation->data);
	values[1] = JsonbPGetDatum(data);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&both_data_plan, values, NULL, false, 1);
	MemoryContextSwitchTo(cxt);
	result = DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

static SavedPlan signup_row_plan = {
	.sql = "SELECT $2, i.email, coalesce((SELECT pg_catalog.array_agg(g.organization_id ORDER BY g.organization_id) "
	"FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id), '{}') "
	"FROM invite_sync.invitation AS i WHERE i.id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static void
require_signup(const Invitation *invitation, bool proves, text *device)
{
	invitation_require_no_migration(invitation);
	if (!proves || invitation->link)
		refuse("not_permitted", NULL, "This token does not prove the address: sign up with the auth server, confirm the address, and accept the invitation.");
	if (invitation->shadow)
		refuse("invitation_unknown", NULL, NULL);
	invitation_require_pending(invitation);
	invitation_require_device(invitation, device);
}

/* By somebody else, or by this very invitation. */
static void
refuse_taken(text *token)
{
	Invitation	invitation;
	bool		proves;

	invitation_of_token(token, &invitation, &proves);
	invitation_require_pending(&invitation);
	refuse("user_exists", NULL, "Sign in and accept the invitation.");
}

/* signup_with_invitation(token, password, data, device) */
Datum
invitation_signup(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Caller		user;
	Invitation	invitation;
	AuthAccount account;
	AuthAccountState state;
	text	   *token;
	text	   *password;
	Jsonb	   *data = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	text	   *device = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	bool		proves;
	pg_uuid_t	id;
	pg_uuid_t	now_id;
	Datum		values[2];

	caller_get(&caller);
	if (caller.kind != CALLER_ANON && caller.kind != CALLER_SERVICE)
		refuse("not_permitted", NULL, "Who is signed in accepts the invitation.");
	if (!invite_sync_signup)
		refuse("not_permitted", NULL, "Accounts are not made by invitations here: sign up with the auth server, and accept.");
	token = membership_text_argument(fcinfo, 0, "token");
	password = membership_text_argument(fcinfo, 1, "password");
	(void) caller_auth_users_relid(false);

	/* all that can be refused, and the hash, which is slow, before anything is locked */
	invitation_of_token(token, &invitation, &proves);
	require_signup(&invitation, proves, device);
	auth_account_require_password(password);
	if (data != NULL)
		invitation_check_data(data);
	state = auth_account_find(invitation.email, true, &id);
	if (state == AUTH_ACCOUNT_TAKEN)
		refuse_taken(token);
	memset(&account, 0, sizeof(account));
	account.email = invitation.email;
	account.confirmed = true;
	account.user_meta = both_data(&invitation, data);
	account.encrypted_password = auth_account_hash(password);

	invitation_lock_users(&invitation, state == AUTH_ACCOUNT_UNCONFIRMED ? &id : NULL, false);
	if (state == AUTH_ACCOUNT_UNCONFIRMED)
	{
		state = auth_account_find(account.email, true, &now_id);
		if (state == AUTH_ACCOUNT_TAKEN)
			refuse_taken(token);
		if (state == AUTH_ACCOUNT_UNCONFIRMED && memcmp(&id, &now_id, UUID_LEN) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the account with this address has just been replaced by another"),
					 errhint("Try the transaction again.")));
	}
	if (state == AUTH_ACCOUNT_UNCONFIRMED)
		auth_account_replace(&account, &id);
	else if (!auth_account_create(&account, &id))
		refuse_taken(token);
	invitation_lock_organizations(&invitation);
	invitation_lock_by_token(token, &invitation, &proves);
	require_signup(&invitation, proves, device);
	invitation_accept_locked(&invitation, &id);
	memset(&user, 0, sizeof(user));
	user.kind = CALLER_USER;
	user.has_user = true;
	user.user_id = id;
	membership_event(&user, "activity", state == AUTH_ACCOUNT_NONE ? "invitation.account_created" : "invitation.account_replaced",
					 NULL, "user", &id, NULL);

	values[0] = UUIDPGetDatum(&invitation.id);
	values[1] = UUIDPGetDatum(&id);
	return organization_answer(fcinfo, &signup_row_plan, values, NULL, false);
}
