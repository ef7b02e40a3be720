/*-------------------------------------------------------------------------
 *
 * module.h
 *	  The library's settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_MODULE_H
#define INVITE_SYNC_MODULE_H

extern bool invite_sync_enabled;
extern int	invite_sync_lock_timeout;
extern bool invite_sync_log_refusals;
extern bool invite_sync_tenant_copy;

/* What acceptance by a token asks of the session's address. */
typedef enum RequireVerifiedEmail
{
	REQUIRE_VERIFIED_EMAIL_OFF, /* nothing, where the token proves it */
	REQUIRE_VERIFIED_EMAIL_ACCEPT,	/* to accept: that it is the invited one, and verified */
	REQUIRE_VERIFIED_EMAIL_VIEW /* to look, too */
} RequireVerifiedEmail;

extern int	invite_sync_require_verified_email;
extern int	invite_sync_invitation_ttl; /* seconds */
extern int	invite_sync_default_quota;
extern bool invite_sync_signup;
extern int	invite_sync_password_min_length;
extern char *invite_sync_accept_url;
extern char *invite_sync_client_address_header;
extern int	invite_sync_signup_policy;	/* a SignupPolicy */
extern char *invite_sync_signup_domains;
extern char *invite_sync_signup_without_email;
extern int	invite_sync_token_claims_bytes;
extern int	invite_sync_lockout_attempts;
extern int	invite_sync_lockout_user_attempts;
extern int	invite_sync_lockout_duration;	/* seconds */

/* What DDL that breaks a sync meets. */
typedef enum DdlCheck
{
	DDL_CHECK_OFF,
	DDL_CHECK_WARN,
	DDL_CHECK_PROBE,			/* a warning, also for what only a probe finds */
	DDL_CHECK_REFUSE
} DdlCheck;

extern int	invite_sync_ddl_check;

#endif							/* INVITE_SYNC_MODULE_H */
