/*-------------------------------------------------------------------------
 *
 * quota.h
 *	  How many invitations in all, and how many actions per window.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_QUOTA_H
#define INVITE_SYNC_QUOTA_H

#include "caller.h"

/*
 * What set_quota() does, for a (locked) user: how many invitations in all. Locks
 * the quota, so it comes after all else that is locked.
 */
extern void quota_set_granted(const Caller *caller, const pg_uuid_t *user_id, int granted);

/* Fills invitation_quota; what other rooms may ask is declared there. */
extern void quota_init(void);

#endif							/* INVITE_SYNC_QUOTA_H */
