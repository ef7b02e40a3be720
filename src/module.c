/*-------------------------------------------------------------------------
 *
 * module.c
 *	  Loading of the library, and its settings.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <limits.h>

#include "fmgr.h"
#include "utils/guc.h"

#include "account.h"
#include "caller.h"
#include "doctor_guard.h"
#include "doctor_probe.h"
#include "drift.h"
#include "hook.h"
#include "invitation.h"
#include "membership.h"
#include "module.h"
#include "plan.h"
#include "quarantine.h"
#include "quota.h"
#include "sync.h"

#define MINUTE	60
#define DAY		(24 * 60 * MINUTE)

COMPAT_MODULE_MAGIC("invite_sync", INVITE_SYNC_VERSION);

/* Off: the triggers on auth.users return at once and sync nothing. */
bool		invite_sync_enabled = true;

/* How long a sync inside somebody's signup waits for a lock, in ms. */
int			invite_sync_lock_timeout = 1000;

/* Whether a refusal leaves a LOG line (reason and ids, nothing else). */
bool		invite_sync_log_refusals = false;

/* Off: an access-token hook brings the memberships, and the copy is left alone. */
bool		invite_sync_tenant_copy = true;

static const struct config_enum_entry require_verified_email_options[] = {
	{"off", REQUIRE_VERIFIED_EMAIL_OFF, false},
	{"accept", REQUIRE_VERIFIED_EMAIL_ACCEPT, false},
	{"view", REQUIRE_VERIFIED_EMAIL_VIEW, false},
	{NULL, 0, false}
};

int			invite_sync_require_verified_email = REQUIRE_VERIFIED_EMAIL_ACCEPT;

/* How long an invitation lasts where neither the call nor the organization says. */
int			invite_sync_invitation_ttl = 2 * DAY;

/* Invitations that a user with a verified address may send in all. */
int			invite_sync_default_quota = 3;

/* Whether an invitation may make an account. */
bool		invite_sync_signup = true;
int			invite_sync_password_min_length = 8;

/* Template of the addresses that are handed out, with {token} in it. */
char	   *invite_sync_accept_url = NULL;

/* Request header with the client's address, for limits by address. */
char	   *invite_sync_client_address_header = NULL;

static const struct config_enum_entry signup_policy_options[] = {
	{"open", SIGNUP_OPEN, false},
	{"invite_only", SIGNUP_INVITE_ONLY, false},
	{"domain_only", SIGNUP_DOMAIN_ONLY, false},
	{NULL, 0, false}
};

/* What before_user_created_hook() lets pass. */
int			invite_sync_signup_policy = SIGNUP_OPEN;
char	   *invite_sync_signup_domains = NULL;
char	   *invite_sync_signup_without_email = NULL;

/* How large custom_access_token_hook() may make a token. */
int			invite_sync_token_claims_bytes = 4096;

/* Failed attempts at passwords and second factors; 0: nobody is locked out. */
int			invite_sync_lockout_attempts = 0;
int			invite_sync_lockout_user_attempts = 0;
int			invite_sync_lockout_duration = 15 * MINUTE;

static const struct config_enum_entry ddl_check_options[] = {
	{"off", DDL_CHECK_OFF, false},
	{"warn", DDL_CHECK_WARN, false},
	{"probe", DDL_CHECK_PROBE, false},
	{"refuse", DDL_CHECK_REFUSE, false},
	{NULL, 0, false}
};

/* What DDL that breaks a sync meets. */
int			invite_sync_ddl_check = DDL_CHECK_WARN;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	DefineCustomBoolVariable("invite_sync.enabled",
							 "Whether the triggers on auth.users sync to the targets.",
							 "While off nothing is synced and nothing quarantined; sync_status() finds what is missing.",
							 &invite_sync_enabled,
							 true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.lock_timeout",
							"How long a sync waits for a lock on a target before it is quarantined.",
							"A shorter lock_timeout of the session is kept.",
							&invite_sync_lock_timeout,
							1000, 1, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("invite_sync.log_refusals",
							 "Whether a refused call writes a line to the server log.",
							 "The line holds the reason word and ids.",
							 &invite_sync_log_refusals,
							 false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("invite_sync.tenant_copy",
							 "Whether memberships are copied to raw_app_meta_data of auth.users.",
							 "Turn it off where an access-token hook puts them into the tokens.",
							 &invite_sync_tenant_copy,
							 true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("invite_sync.require_verified_email",
							 "Whether who accepts an invitation by its token must have verified its address.",
							 "accept: to accept it; view: to look at it too; off: neither, where the token itself proves the address.",
							 &invite_sync_require_verified_email,
							 REQUIRE_VERIFIED_EMAIL_ACCEPT,
							 require_verified_email_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.invitation_ttl",
							"How long an invitation lasts where neither its call nor its organization says.",
							NULL,
							&invite_sync_invitation_ttl,
							2 * DAY, 15 * MINUTE, 30 * DAY,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.default_quota",
							"How many invitations a user with a verified address may send in all.",
							"grant_quota() and set_quota() change it for one user.",
							&invite_sync_default_quota,
							3, 0, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("invite_sync.signup",
							 "Whether signup_with_invitation() makes accounts.",
							 NULL,
							 &invite_sync_signup,
							 true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.password_min_length",
							"Characters that a password must have at least.",
							"Those that the auth server takes are its own affair.",
							&invite_sync_password_min_length,
							8, 6, 72,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("invite_sync.accept_url",
							   "Address at which invitations are accepted, with {token} in place of the token.",
							   "Empty: functions return no address.",
							   &invite_sync_accept_url,
							   "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("invite_sync.client_address_header",
							   "Request header whose last entry is the client's address, for limits by address.",
							   "Empty: there are none.",
							   &invite_sync_client_address_header,
							   "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("invite_sync.signup_policy",
							 "Who may sign up at the auth server, which asks before_user_created_hook().",
							 "invite_only: who has a pending invitation to their address; domain_only: addresses of signup_domains and of verified domains.",
							 &invite_sync_signup_policy,
							 SIGNUP_OPEN,
							 signup_policy_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("invite_sync.signup_domains",
							   "Email domains that may sign up under domain_only, beside the verified domains of organizations.",
							   "Whole domains, separated by commas.",
							   &invite_sync_signup_domains,
							   "",
							   PGC_SUSET, GUC_LIST_INPUT, hook_check_domains, NULL, NULL);
	DefineCustomStringVariable("invite_sync.signup_without_email",
							   "Ways of signing up without an email address that a limiting policy lets pass.",
							   "anonymous, phone, or the name of a provider, separated by commas.",
							   &invite_sync_signup_without_email,
							   "",
							   PGC_SUSET, GUC_LIST_INPUT, hook_check_names, NULL, NULL);
	DefineCustomIntVariable("invite_sync.token_claims_bytes",
							"How large what custom_access_token_hook() puts into a token may be.",
							"Organizations beyond it are left out, the largest first.",
							&invite_sync_token_claims_bytes,
							4096, 256, 65536,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.lockout_attempts",
							"Failed attempts of a user from one client's address after which that address is locked out.",
							"0: never.",
							&invite_sync_lockout_attempts,
							0, 0, 1000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.lockout_user_attempts",
							"Failed attempts of a user from anywhere after which the user is locked out.",
							"0: never. Whoever knows an address can lock its user out with it.",
							&invite_sync_lockout_user_attempts,
							0, 0, 1000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("invite_sync.lockout_duration",
							"How long a failed attempt counts, and so how long a lock-out lasts at most.",
							NULL,
							&invite_sync_lockout_duration,
							15 * MINUTE, 1, 15 * MINUTE,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomEnumVariable("invite_sync.ddl_check",
							 "What DDL meets that turns a sync which works into one that does not.",
							 "warn: a warning; probe: also for what only a probed signup finds; refuse: an error.",
							 &invite_sync_ddl_check,
							 DDL_CHECK_WARN,
							 ddl_check_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("invite_sync.ddl_watched",
							 "Whether a command has begun that could break a sync.",
							 "For the event trigger at its end; nobody can set it.",
							 &guard_is_watching,
							 false,
							 PGC_INTERNAL, GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	DefineCustomBoolVariable("invite_sync.probing",
							 "Whether what runs now is part of a probe, and will be rolled back.",
							 "For code that must not be tried; nobody can set it.",
							 &probe_is_running,
							 false,
							 PGC_INTERNAL, GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);

	caller_init();
	plan_init();
	sync_init();
	quarantine_init();
	membership_init();
	invitation_init();
	quota_init();
	account_init();
	guard_init();
	drift_init();

	/* last: from here on unknown settings under our name are errors */
	MarkGUCPrefixReserved("invite_sync");
}
