/*-------------------------------------------------------------------------
 *
 * membership.h
 *	  Who belongs where, as what, and what that allows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_MEMBERSHIP_H
#define INVITE_SYNC_MEMBERSHIP_H

#include "organization.h"
#include "plan.h"

/* The built-in roles have the same ids in every database. */
#define MEMBERSHIP_OWNER	"00000000-0000-4000-8000-00000000000a"
#define MEMBERSHIP_ADMIN	"00000000-0000-4000-8000-00000000000b"
#define MEMBERSHIP_MEMBER	"00000000-0000-4000-8000-00000000000c"

/*
 * Tables under protect_table(): the calls that protect them again (call, role),
 * for config_sql(), and those that undo it (statement, why), for
 * uninstall_plan(). Run them in the own scope.
 */
extern SavedPlan membership_config_protected_plan;
extern SavedPlan membership_unprotect_plan;

extern void membership_init(void);

#endif							/* INVITE_SYNC_MEMBERSHIP_H */
