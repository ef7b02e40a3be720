/*-------------------------------------------------------------------------
 *
 * hook.h
 *	  What the auth server asks before and after what it does.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_HOOK_H
#define INVITE_SYNC_HOOK_H

#include "utils/guc.h"

/* Who may make an account by themselves. */
typedef enum SignupPolicy
{
	SIGNUP_OPEN,				/* everybody */
	SIGNUP_INVITE_ONLY,			/* who has a pending invitation to their address */
	SIGNUP_DOMAIN_ONLY			/* addresses of certain domains */
} SignupPolicy;

/* Check functions of settings that are lists. */
extern bool hook_check_domains(char **newval, void **extra, GucSource source);
extern bool hook_check_names(char **newval, void **extra, GucSource source);

#endif							/* INVITE_SYNC_HOOK_H */
