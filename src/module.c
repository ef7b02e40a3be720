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

#include "caller.h"
#include "membership.h"
#include "module.h"
#include "plan.h"
#include "quarantine.h"
#include "sync.h"

COMPAT_MODULE_MAGIC("invite_sync", INVITE_SYNC_VERSION);

/* Off: the triggers on auth.users return at once and sync nothing. */
bool		invite_sync_enabled = true;

/* How long a sync inside somebody's signup waits for a lock, in ms. */
int			invite_sync_lock_timeout = 1000;

/* Whether a refusal leaves a LOG line (reason and ids, nothing else). */
bool		invite_sync_log_refusals = false;

/* Off: an access-token hook brings the memberships, and the copy is left alone. */
bool		invite_sync_tenant_copy = true;

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

	caller_init();
	plan_init();
	sync_init();
	quarantine_init();
	membership_init();

	/* last: from here on unknown settings under our name are errors */
	MarkGUCPrefixReserved("invite_sync");
}
