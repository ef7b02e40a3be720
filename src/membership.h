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

/* The built-in roles have the same ids in every database. */
#define MEMBERSHIP_OWNER	"00000000-0000-4000-8000-00000000000a"
#define MEMBERSHIP_ADMIN	"00000000-0000-4000-8000-00000000000b"
#define MEMBERSHIP_MEMBER	"00000000-0000-4000-8000-00000000000c"

extern void membership_init(void);

#endif							/* INVITE_SYNC_MEMBERSHIP_H */
