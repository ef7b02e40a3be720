/*-------------------------------------------------------------------------
 *
 * caller_grant.c
 *	  Rights on the extension's settings, for grant_operator().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(caller_grant_settings);

#define SETTINGS	"invite_sync.enabled, invite_sync.lock_timeout, invite_sync.log_refusals, invite_sync.tenant_copy, " \
	"invite_sync.require_verified_email, invite_sync.invitation_ttl, invite_sync.default_quota, invite_sync.signup, " \
	"invite_sync.password_min_length, invite_sync.accept_url, invite_sync.client_address_header, " \
	"invite_sync.signup_policy, invite_sync.signup_domains, invite_sync.signup_without_email, invite_sync.token_claims_bytes, " \
	"invite_sync.lockout_attempts, invite_sync.lockout_user_attempts, invite_sync.lockout_duration, invite_sync.ddl_check"

/*
 * grant_settings(role, give): GRANT or REVOKE SET on every setting of ours, as
 * the caller. In C because the install script calls it too: PostgreSQL would
 * note what is granted then as the setting's initial rights, and as settings
 * are no members of an extension, nothing would ever remove the note. From 17
 * on it would even keep the role from being dropped, in every database that
 * ever had the extension.
 */
Datum
caller_grant_settings(PG_FUNCTION_ARGS)
{
	const char *role = quote_identifier(NameStr(*PG_GETARG_NAME(0)));
	bool		give = PG_GETARG_BOOL(1);
	bool		was_creating = creating_extension;
	char	   *statement = psprintf(give ? "GRANT SET ON PARAMETER %s TO %s" : "REVOKE SET ON PARAMETER %s FROM %s",
									 SETTINGS, role);

	SPI_connect();
	PG_TRY();
	{
		int			rc;

		creating_extension = false;
		rc = SPI_execute(statement, false, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	}
	PG_FINALLY();
	{
		creating_extension = was_creating;
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_BOOL(give);
}
