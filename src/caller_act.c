/*-------------------------------------------------------------------------
 *
 * caller_act.c
 *	  act_as(): be somebody else for the rest of a transaction, as PostgREST
 *	  makes its callers be.
 *
 * It gives nothing that SET ROLE and set_config() would not: the role is set
 * by the server's own rules, and claims can only lower what a role may do. It
 * saves writing the token by hand and getting it wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "caller.h"
#include "event.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(caller_act_as);

/* What the auth server writes into a token, as far as it is in auth.users. */
static SavedPlan user_claims_plan = {
	.sql = "SELECT pg_catalog.jsonb_build_object('aud', 'authenticated', 'role', 'authenticated', 'sub', u.id, "
	"'aal', 'aal1', 'email', coalesce(u.email, ''), 'phone', coalesce(u.phone, ''), "
	"'app_metadata', coalesce(u.raw_app_meta_data, '{}'), 'user_metadata', coalesce(u.raw_user_meta_data, '{}'), "
	"'is_anonymous', a.is_anonymous) FROM auth.users AS u JOIN " CALLER_AUTH_USERS " AS a ON a.id = u.id WHERE u.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan role_claims_plan = {
	.sql = "SELECT pg_catalog.jsonb_build_object('role', $1)",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/* auth.uid() and its kin look here first; an older value would win over the claims. */
static const char *const legacy_settings[] = {
	"request.jwt.claim.sub", "request.jwt.claim.role", "request.jwt.claim.email"
};

/* For the rest of the transaction; false when the server refuses. */
static bool
set_local(const char *name, const char *value, int elevel)
{
	return set_config_option(name, value, superuser() ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, elevel, false) > 0;
}

/* The claims of a user, or of a role that nobody signs in to; NULL: no such user. */
static Jsonb *
make_claims(const pg_uuid_t *user_id, const char *role)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	Datum		args[1];
	Jsonb	   *claims = NULL;

	if (user_id != NULL)
		(void) caller_auth_users_relid(false);
	SPI_connect();
	if (user_id != NULL)
	{
		args[0] = UUIDPGetDatum(user_id);
		scope_enter_auth(&scope);
		plan_execute(&user_claims_plan, args, NULL, true, 1);
	}
	else
	{
		args[0] = CStringGetTextDatum(role);
		scope_enter_own(&scope);
		plan_execute(&role_claims_plan, args, NULL, true, 1);
	}
	scope_leave(&scope);
	if (SPI_processed == 1)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		bool		isnull;

		claims = DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return claims;
}

/* act_as(user_id, role) */
Datum
caller_act_as(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *user_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_UUID_P(0);
	char	   *role = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	bool		is_user;
	Jsonb	   *claims;

	caller_require_operator();

	if (role == NULL ||
		(strcmp(role, "authenticated") != 0 && strcmp(role, "anon") != 0 && strcmp(role, "service_role") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role must be \"authenticated\", \"anon\" or \"service_role\""),
				 errhint("These are the roles of PostgREST's callers; for another one use SET LOCAL ROLE.")));
	is_user = strcmp(role, "authenticated") == 0;
	if (is_user && user_id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("user_id must not be null for role \"authenticated\""),
				 errhint("Name a user of auth.users, or act as nobody: SELECT invite_sync.act_as(NULL, 'anon').")));
	if (!is_user && user_id != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("user_id must be null for role \"%s\"", role),
				 errhint("Only \"authenticated\" is somebody: SELECT invite_sync.act_as(NULL, '%s').", role)));
	if (!OidIsValid(get_role_oid(role, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", role),
				 errhint("It is Supabase's. Create it: CREATE ROLE %s NOLOGIN; then let a superuser call invite_sync.grant_api().", role)));
	/* the server would say so too, but not what to do */
	if (InLocalUserIdChange() || InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the role cannot be changed inside a security-definer function"),
				 errhint("Call invite_sync.act_as() directly, or from a function without SECURITY DEFINER.")));

	claims = make_claims(user_id, role);
	if (claims == NULL)
		refuse("user_unknown", NULL, "There is no row with this id in auth.users.");

	/* who acted as whom; where nothing can be written nothing can be done in their name */
	if (!XactReadOnly && !RecoveryInProgress())
		event_append("admin", "caller.acted_as", NULL, NULL, is_user ? "user" : "role",
					 is_user ? DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(user_id))) : role,
					 NULL);
	WarnNoTransactionBlock(true, "invite_sync.act_as()");

	for (size_t i = 0; i < lengthof(legacy_settings); i++)
	{
		const char *value = GetConfigOption(legacy_settings[i], true, false);

		if (value != NULL && value[0] != '\0')
			(void) set_local(legacy_settings[i], "", ERROR);
	}
	(void) set_local("request.jwt.claims", JsonbToCString(NULL, &claims->root, VARSIZE(claims)), ERROR);
	/* last: the new role could not take back what went before */
	if (!set_local("role", role, DEBUG5))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set role \"%s\"", role),
				 errhint("Let a superuser run: GRANT %s TO %s;", role,
						 quote_identifier(GetUserNameFromId(GetSessionUserId(), false)))));
	PG_RETURN_JSONB_P(claims);
}
