/*-------------------------------------------------------------------------
 *
 * quota.h
 *	  How many invitations in all, and how many actions per window.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_QUOTA_H
#define INVITE_SYNC_QUOTA_H

/* Fills invitation_quota; what other rooms may ask is declared there. */
extern void quota_init(void);

#endif							/* INVITE_SYNC_QUOTA_H */
