/*-------------------------------------------------------------------------
 *
 * account_migration.c
 *	  The way from another provider to the auth server.
 *
 * Who gets to choose a password has shown more than an address: a session of the
 * other provider, for which a service vouches, or the mailbox, by a token that
 * nobody else ever held. All of it happens under the lock on the user, so it
 * happens once.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "account.h"
#include "caller.h"
#include "invitation.h"
#include "invitation_accept.h"
#include "invitation_account.h"
#include "invitation_create.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "token.h"

PG_FUNCTION_INFO_V1(account_migration_status);
PG_FUNCTION_INFO_V1(account_unmigrated);
PG_FUNCTION_INFO_V1(account_set_policy);
PG_FUNCTION_INFO_V1(account_check);
PG_FUNCTION_INFO_V1(account_require_migrated);
PG_FUNCTION_INFO_V1(account_complete);
PG_FUNCTION_INFO_V1(account_invite_to_migrate);
PG_FUNCTION_INFO_V1(account_complete_by_token);
PG_FUNCTION_INFO_V1(account_link);

/* ---------------------------------------------------------------------
 * How far it is
 * ---------------------------------------------------------------------
 */

/* Who counts: $1 are the users who are gone. */
#define COUNTED \
	"NOT " ACCOUNT_IS_PLACEHOLDER("e.external_id") " AND (e.user_id IS NULL OR e.user_id <> ALL ($1))"

static SavedPlan auth_figures_plan = {
	.sql = "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT u.is_anonymous "
	"AND (u.banned_until IS NULL OR u.banned_until <= pg_catalog.now())) FROM " CALLER_AUTH_USERS " AS u WHERE u.deleted_at IS NULL",
	.nargs = 0
};

static SavedPlan status_plan = {
	.sql = "SELECT pg_catalog.count(e.migrated_at), pg_catalog.count(*) - pg_catalog.count(e.migrated_at), pg_catalog.count(*), $2, $3 "
	"FROM invite_sync.external_user AS e WHERE " COUNTED,
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, INT8OID, INT8OID}
};

/* migration_status() */
Datum
account_migration_status(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Datum		values[3];
	bool		isnull;
	int			n;

	caller_require_service();
	values[0] = account_gone_users(true, &n);
	values[1] = values[2] = Int64GetDatum(0);
	if (OidIsValid(caller_auth_users_relid(true)))
	{
		int64		figures[2];

		SPI_connect();
		scope_enter_auth(&scope);
		plan_execute(&auth_figures_plan, NULL, NULL, true, 1);
		for (int i = 0; i < 2; i++)
			figures[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull));
		scope_leave(&scope);
		SPI_finish();
		values[1] = Int64GetDatum(figures[0]);
		values[2] = Int64GetDatum(figures[1]);
	}
	return organization_answer(fcinfo, &status_plan, values, NULL, true);
}

#define PAGE \
	"FROM invite_sync.external_user AS e WHERE e.migrated_at IS NULL AND " COUNTED \
	" AND (e.created_at, e.id) > ($2, $3) ORDER BY e.created_at, e.id LIMIT $4"

static SavedPlan page_users_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(p.user_id) FILTER (WHERE p.user_id IS NOT NULL), '{}') FROM (SELECT e.user_id " PAGE ") AS p",
	.nargs = 4,
	.argtypes = {UUIDARRAYOID, TIMESTAMPTZOID, UUIDOID, INT8OID}
};

static SavedPlan people_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(u.id), '{}'), coalesce(pg_catalog.array_agg(" MEMBERSHIP_DISPLAY_NAME("u") "), '{}'), "
	"coalesce(pg_catalog.array_agg(u.created_at::pg_catalog.timestamptz), '{}') FROM auth.users AS u WHERE u.id = ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan page_plan = {
	.sql = "SELECT e.provider, e.external_id, e.user_id, e.email, x.name, "
	"(SELECT r.name FROM invite_sync.platform_role AS p JOIN invite_sync.role AS r ON r.id = p.role_id WHERE p.user_id = e.user_id), "
	"coalesce(e.user_since, x.created_at), " MEMBERSHIP_CURSOR("e") " "
	"FROM (SELECT e.* " PAGE ") AS e LEFT JOIN ROWS FROM (pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)) "
	"AS x (id, name, created_at) ON x.id = e.user_id ORDER BY e.created_at, e.id",
	.nargs = 7,
	.argtypes = {UUIDARRAYOID, TIMESTAMPTZOID, UUIDOID, INT8OID, UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}
};

/* unmigrated_users(after, page_size) */
Datum
account_unmigrated(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	TimestampTz at = DT_NOBEGIN;
	pg_uuid_t	id;
	Datum		users;
	Datum		values[7];
	bool		isnull;
	int			n;

	caller_require_service();
	memset(&id, 0, sizeof(id));
	(void) organization_cursor(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0), &at, &id);
	values[0] = account_gone_users(true, &n);
	values[1] = TimestampTzGetDatum(at);
	values[2] = UUIDPGetDatum(&id);
	values[3] = Int64GetDatum(organization_page_size(fcinfo, 1));
	values[4] = plan_uuid_array(NULL, 0);
	values[5] = PointerGetDatum(construct_empty_array(TEXTOID));
	values[6] = PointerGetDatum(construct_empty_array(TIMESTAMPTZOID));
	if (OidIsValid(caller_auth_users_relid(true)))
	{
		SPI_connect();
		scope_enter_own(&scope);
		plan_execute(&page_users_plan, values, NULL, true, 1);
		scope_leave(&scope);
		users = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		scope_enter_auth(&scope);
		plan_by_index(plan_get(&people_plan));
		plan_execute(&people_plan, &users, NULL, true, 1);
		old = MemoryContextSwitchTo(cxt);
		for (int i = 0; i < 3; i++)
			values[4 + i] = PointerGetDatum(DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
																				   i + 1, &isnull)));
		MemoryContextSwitchTo(old);
		scope_leave(&scope);
		SPI_finish();
	}
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&page_plan, values, NULL, true, 0);
	scope_leave(&scope);
	plan_result_rows(fcinfo);
	SPI_finish();
	return (Datum) 0;
}

/* ---------------------------------------------------------------------
 * The policy
 * ---------------------------------------------------------------------
 */

static SavedPlan set_policy_plan = {
	.sql = "INSERT INTO invite_sync.migration_policy AS p (mode, deadline) VALUES ($1, $2) "
	"ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, deadline = excluded.deadline, updated_at = excluded.updated_at "
	"WHERE (p.mode, p.deadline) IS DISTINCT FROM (excluded.mode, excluded.deadline) "
	/* any uuid: that something was written is all that counts */
	"RETURNING '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid",
	.nargs = 2,
	.argtypes = {TEXTOID, TIMESTAMPTZOID}
};

static SavedPlan policy_row_plan = {
	.sql = "SELECT p.mode, p.deadline FROM invite_sync.migration_policy AS p",
	.nargs = 0
};

/* set_migration_policy(mode, deadline) */
Datum
account_set_policy(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		values[2];
	char		nulls[2] = {' ', PG_ARGISNULL(1) ? 'n' : ' '};
	char	   *mode;
	pg_uuid_t	any;
	int			guc_level;
	bool		changed;

	caller_require_operator();
	caller_get(&caller);
	caller_refuse_null(PG_ARGISNULL(0), "mode", NULL);
	mode = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strcmp(mode, "off") != 0 && strcmp(mode, "remind") != 0 && strcmp(mode, "enforce") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode must be off, remind or enforce")));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	guc_level = membership_bound_waits();
	changed = membership_one_id(&set_policy_plan, values, nulls, &any);
	AtEOXact_GUC(false, guc_level);
	if (changed)
		membership_event(&caller, "admin", "account.migration_policy_set", NULL, NULL, NULL, NULL);
	else
		ereport(NOTICE, (errmsg("the migration policy is as it was")));
	return organization_answer(fcinfo, &policy_row_plan, NULL, NULL, false);
}

static SavedPlan check_plan = {
	.sql = "SELECT NOT EXISTS (SELECT FROM invite_sync.external_user AS e WHERE e.user_id = $1 AND e.migrated_at IS NULL), "
	"coalesce(p.mode, 'off'), p.deadline FROM (VALUES (true)) AS one (id) LEFT JOIN invite_sync.migration_policy AS p ON p.id = one.id",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* check_migration() */
Datum
account_check(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		value;

	organization_actor(&caller);
	if (!caller.has_user)
		refuse("not_authenticated", NULL, "Only a user migrates; migration_status() tells how many have.");
	value = UUIDPGetDatum(&caller.user_id);
	return organization_answer(fcinfo, &check_plan, &value, NULL, true);
}

static SavedPlan required_plan = {
	.sql = "SELECT EXISTS (SELECT FROM invite_sync.migration_policy AS p WHERE p.mode = 'enforce' "
	"AND (p.deadline IS NULL OR p.deadline <= pg_catalog.now())) "
	"AND EXISTS (SELECT FROM invite_sync.external_user AS e WHERE e.user_id = $1 AND e.migrated_at IS NULL)",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* require_migrated() */
Datum
account_require_migrated(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Scope		scope;
	Datum		value;
	bool		isnull;
	bool		required;

	organization_actor(&caller);
	if (!caller.has_user)
		PG_RETURN_BOOL(true);
	value = UUIDPGetDatum(&caller.user_id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(&required_plan));
	plan_execute(&required_plan, &value, NULL, true, 1);
	required = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	if (required)
		refuse("migration_required", NULL, "Choose a password first.");
	PG_RETURN_BOOL(true);
}

/* ---------------------------------------------------------------------
 * Migrating
 * ---------------------------------------------------------------------
 */

/* $3: the mailbox is proved. What somebody has set for a confirmed address is theirs. */
static SavedPlan password_plan = {
	.sql = "UPDATE auth.users AS u SET encrypted_password = CASE WHEN u.email_confirmed_at IS NOT NULL AND coalesce(u.encrypted_password, '') <> '' "
	"THEN u.encrypted_password ELSE $2 END, "
	"email_confirmed_at = CASE WHEN $3 THEN coalesce(u.email_confirmed_at, pg_catalog.now()) ELSE u.email_confirmed_at END, "
	"updated_at = pg_catalog.now() WHERE u.id = $1 RETURNING u.encrypted_password = $2",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, BOOLOID}
};

static SavedPlan migrated_plan = {
	.sql = "UPDATE invite_sync.external_user AS e SET migrated_at = pg_catalog.clock_timestamp() WHERE e.user_id = $1 AND e.migrated_at IS NULL",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan completed_row_plan = {
	.sql = "SELECT e.user_id, $3, e.migrated_at, $2 FROM invite_sync.external_user AS e WHERE e.id = $1",
	.nargs = 3,
	.argtypes = {UUIDOID, BOOLOID, TEXTOID}
};

static SavedPlan email_plan = {
	.sql = "SELECT u.email::pg_catalog.text FROM auth.users AS u WHERE u.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* The address of the account, as of now; NULL where it has none. */
static char *
account_email(const pg_uuid_t *user_id)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		value = UUIDPGetDatum(user_id);
	char	   *email = NULL;

	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&email_plan, &value, NULL, false, 1);
	if (SPI_processed == 1)
		email = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (email != NULL)
		email = MemoryContextStrdup(cxt, email);
	scope_leave(&scope);
	SPI_finish();
	return email;
}

static void
require_to_migrate(bool found, const ExternalUser *external)
{
	if (!found || !external->has_user)
		refuse("user_unknown", NULL, "import_users() makes accounts for the users of another provider.");
	if (external->migrated)
		refuse("user_exists", NULL, "This user has migrated already, and signs in.");
}

static void
external_arguments(FunctionCallInfo fcinfo, char **provider, char **external_id)
{
	*provider = text_to_cstring(membership_text_argument(fcinfo, 0, "provider"));
	*external_id = text_to_cstring(membership_text_argument(fcinfo, 1, "external_id"));
	account_require_external(*provider, *external_id);
}

static Datum
completed_row(FunctionCallInfo fcinfo, const ExternalUser *external, bool password_set)
{
	char	   *email = account_email(&external->user_id);
	Datum		values[3];
	char		nulls[3] = {' ', ' ', email ? ' ' : 'n'};

	values[0] = UUIDPGetDatum(&external->id);
	values[1] = BoolGetDatum(password_set);
	values[2] = email ? CStringGetTextDatum(email) : (Datum) 0;
	return organization_answer(fcinfo, &completed_row_plan, values, nulls, false);
}

/* All is locked, and who asks has shown enough. */
static Datum
complete(FunctionCallInfo fcinfo, const Caller *caller, const ExternalUser *external, const char *hash, bool mailbox)
{
	Scope		scope;
	Datum		values[3];
	bool		isnull;
	bool		password_set = false;

	values[0] = UUIDPGetDatum(&external->user_id);
	values[1] = CStringGetTextDatum(hash);
	values[2] = BoolGetDatum(mailbox);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&password_plan, values, NULL, false, 0);
	if (SPI_processed == 1)
		password_set = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	scope_leave(&scope);
	SPI_finish();
	membership_run(&migrated_plan, values, NULL);
	membership_event(caller, "activity", "account.migrated", NULL, "user", &external->user_id, NULL);
	return completed_row(fcinfo, external, password_set);
}

/* complete_migration(provider, external_id, password) */
Datum
account_complete(PG_FUNCTION_ARGS)
{
	Inviter		service;
	ExternalUser external;
	pg_uuid_t	user_id;
	char	   *provider;
	char	   *external_id;
	char	   *hash;
	text	   *password;

	account_service(&service);
	external_arguments(fcinfo, &provider, &external_id);
	password = membership_text_argument(fcinfo, 2, "password");
	(void) caller_auth_users_relid(false);
	require_to_migrate(account_external(provider, external_id, false, &external), &external);
	auth_account_require_password(password);
	hash = auth_account_hash(password);

	user_id = external.user_id;
	organization_lock(&user_id, 1, NULL, 0);
	require_to_migrate(account_external(provider, external_id, true, &external) &&
					   memcmp(&user_id, &external.user_id, UUID_LEN) == 0, &external);
	membership_require_user(&user_id);
	return complete(fcinfo, &service.caller, &external, hash, false);
}

/* ---- by token ---- */

static SavedPlan pending_plan = {
	.sql = "SELECT i.id FROM invite_sync.invitation AS i WHERE i.email = $1 AND i.status = 'pending' AND i.purpose = 'migration' LIMIT 1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static SavedPlan insert_plan = {
	.sql = "INSERT INTO invite_sync.invitation AS i (id, kind, purpose, email, secret_digest, proves_email, alone, created_at, renewed_at, expires_at) "
	"VALUES ($1, 'email', 'migration', $2, $3, true, true, $4, $4, $5) ON CONFLICT DO NOTHING RETURNING i.id",
	.nargs = 5,
	.argtypes = {UUIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static SavedPlan set_invitation_plan = {
	.sql = "UPDATE invite_sync.external_user AS e SET invitation_id = $2 WHERE e.id = $1",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

static SavedPlan invited_plan = {
	.sql = "SELECT e.id FROM invite_sync.external_user AS e WHERE e.invitation_id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan names_plan = {
	.sql = "SELECT e.provider, e.external_id FROM invite_sync.external_user AS e WHERE e.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* What was sent before opens nothing any more. */
static void
revoke_pending(const char *email)
{
	Datum		value = CStringGetTextDatum(email);
	pg_uuid_t	id;
	Invitation	invitation;

	while (membership_one_id(&pending_plan, &value, NULL, &id))
	{
		if (!invitation_read(&id, true, true, &invitation) || !invitation.stored_pending)
			continue;
		invitation_close(&invitation, INVITATION_REVOKED, NULL);
	}
}

/* create_migration_invitation(provider, external_id, expires_in) */
Datum
account_invite_to_migrate(PG_FUNCTION_ARGS)
{
	Inviter		service;
	ExternalUser external;
	InvitationOutcome outcome;
	Token		token;
	TupleDesc	desc;
	TimestampTz now;
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_uuid_t	user_id;
	pg_uuid_t	id;
	char	   *provider;
	char	   *external_id;
	char	   *email;
	int64		ttl;
	Datum		values[8];
	bool		nulls[8];
	int			guc_level;
	bool		made;

	account_service(&service);
	external_arguments(fcinfo, &provider, &external_id);
	ttl = PG_ARGISNULL(2) ? (int64) invite_sync_invitation_ttl * USECS_PER_SEC : invitation_ttl(PG_GETARG_INTERVAL_P(2));
	(void) caller_auth_users_relid(false);
	require_to_migrate(account_external(provider, external_id, false, &external), &external);

	user_id = external.user_id;
	organization_lock(&user_id, 1, NULL, 0);
	membership_require_user(&user_id);
	email = account_email(&user_id);
	email = email ? invitation_email(email, strlen(email)) : NULL;
	if (email == NULL)
		refuse("email_malformed", NULL, "The account has no address that a mail could go to.");
	revoke_pending(email);
	token_new_id(&id);
	token_mint(&id, &token);
	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	token_digest(&token, (uint8 *) VARDATA(digest));
	now = GetCurrentTimestamp();
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(email);
	values[2] = PointerGetDatum(digest);
	values[3] = TimestampTzGetDatum(now);
	values[4] = TimestampTzGetDatum(now + ttl);
	guc_level = membership_bound_waits();
	made = membership_one_id(&insert_plan, values, NULL, &id);
	AtEOXact_GUC(false, guc_level);
	if (!made)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("somebody else has just invited this address to migrate"),
				 errhint("Try the transaction again.")));
	require_to_migrate(account_external(provider, external_id, true, &external) &&
					   memcmp(&user_id, &external.user_id, UUID_LEN) == 0, &external);
	values[0] = UUIDPGetDatum(&external.id);
	values[1] = UUIDPGetDatum(&id);
	membership_run(&set_invitation_plan, values, NULL);
	membership_event(&service.caller, "admin", "account.migration_invited", NULL, "user", &user_id, NULL);

	memset(&outcome, 0, sizeof(outcome));
	outcome.id = id;
	outcome.token = token_text(&token);
	outcome.email = email;
	outcome.status = "pending";
	outcome.expires_at = now + ttl;
	token_wipe(&token, sizeof(token));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "return type must be a row type");
	invitation_outcome_values(&outcome, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* Whom it migrates; false: their row is gone, or a later invitation has taken its place. */
static bool
invited_user(const Invitation *invitation, bool lock, ExternalUser *external)
{
	Datum		value = UUIDPGetDatum(&invitation->id);
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	pg_uuid_t	id;
	char	   *provider = NULL;
	char	   *external_id = NULL;

	if (!membership_one_id(&invited_plan, &value, NULL, &id))
		return false;
	value = UUIDPGetDatum(&id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&names_plan, &value, NULL, false, 1);
	if (SPI_processed == 1)
	{
		provider = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
		external_id = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	}
	scope_leave(&scope);
	SPI_finish();
	return provider != NULL && account_external(provider, external_id, lock, external) && external->has_user;
}

/* Everything that is wrong with a token, and that it is one of another kind, is the same to who sends it. */
static void
require_migration(const Invitation *invitation, bool proves)
{
	if (!invitation->migration || !proves || invitation->link || invitation->shadow)
		refuse("invitation_unknown", NULL, NULL);
	invitation_require_pending(invitation);
}

static void
require_invited(bool found)
{
	if (!found)
		refuse("user_unknown", NULL, NULL);
}

/* complete_migration_by_token(token, password) */
Datum
account_complete_by_token(PG_FUNCTION_ARGS)
{
	Caller		user;
	Invitation	invitation;
	ExternalUser external;
	pg_uuid_t	user_id;
	text	   *token;
	text	   *password;
	char	   *hash;
	char	   *email;
	bool		proves;

	token = membership_text_argument(fcinfo, 0, "token");
	password = membership_text_argument(fcinfo, 1, "password");
	(void) caller_auth_users_relid(false);
	invitation_of_token(token, &invitation, &proves);
	require_migration(&invitation, proves);
	require_invited(invited_user(&invitation, false, &external));
	require_to_migrate(true, &external);
	auth_account_require_password(password);
	hash = auth_account_hash(password);

	user_id = external.user_id;
	organization_lock(&user_id, 1, NULL, 0);
	invitation_lock_by_token(token, &invitation, &proves);
	require_migration(&invitation, proves);
	require_invited(invited_user(&invitation, true, &external) && memcmp(&user_id, &external.user_id, UUID_LEN) == 0);
	require_to_migrate(true, &external);
	membership_require_user(&user_id);
	/* it was sent to the address that the account had then */
	email = account_email(&user_id);
	email = email ? invitation_email(email, strlen(email)) : NULL;
	if (email == NULL || strcmp(email, invitation.email) != 0)
		refuse("email_mismatch", NULL, "The account has another address by now.");
	invitation_fulfilled(&invitation, &user_id);
	memset(&user, 0, sizeof(user));
	user.kind = CALLER_USER;
	user.has_user = true;
	user.user_id = user_id;
	return complete(fcinfo, &user, &external, hash, true);
}

/* ---------------------------------------------------------------------
 * link_external_user(provider, external_id, user_id)
 * ---------------------------------------------------------------------
 */

static SavedPlan link_plan = {
	.sql = "UPDATE invite_sync.external_user AS e SET user_id = $2, migrated_at = pg_catalog.clock_timestamp() WHERE e.id = $1 AND e.migrated_at IS NULL",
	.nargs = 2,
	.argtypes = {UUIDOID, UUIDOID}
};

Datum
account_link(PG_FUNCTION_ARGS)
{
	Inviter		service;
	ExternalUser external;
	pg_uuid_t	user_id;
	char	   *provider;
	char	   *external_id;
	bool		changed = true;
	Datum		values[2];

	account_service(&service);
	external_arguments(fcinfo, &provider, &external_id);
	user_id = membership_uuid_argument(fcinfo, 2, "user_id");
	(void) caller_auth_users_relid(false);
	organization_lock(&user_id, 1, NULL, 0);
	membership_require_user(&user_id);
	if (!account_insert_external(provider, external_id, NULL, &user_id, 0, true))
	{
		if (!account_external(provider, external_id, true, &external))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the external user has just been removed"),
					 errhint("Try the transaction again.")));
		if (external.has_user && memcmp(&external.user_id, &user_id, UUID_LEN) != 0)
			refuse("user_exists", NULL, "That user of the provider is another user here.");
		changed = !external.migrated;
		values[0] = UUIDPGetDatum(&external.id);
		values[1] = UUIDPGetDatum(&user_id);
		membership_run(&link_plan, values, NULL);
	}
	if (changed)
		membership_event(&service.caller, "admin", "account.linked", NULL, "user", &user_id, NULL);
	if (!account_external(provider, external_id, false, &external))
		elog(ERROR, "no row of external_user");
	return completed_row(fcinfo, &external, false);
}
