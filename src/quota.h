/*-------------------------------------------------------------------------
 *
 * quota.h
 *	  How many invitations in all, and how many actions per window.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_QUOTA_H
#define INVITE_SYNC_QUOTA_H

#include "utils/timestamp.h"

#include "caller.h"

/*
 * What set_quota() does, for a (locked) user: how many invitations in all. Locks
 * the quota, so it comes after all else that is locked.
 */
extern void quota_set_granted(const Caller *caller, const pg_uuid_t *user_id, int granted);

/*
 * try_count() of invitation_quota where the client's address is not the
 * request's. key and address_key may be NULL: they count nothing.
 */
extern bool quota_try_count_of(const char *action, const char *scope, const char *key,
							   const char *address_key, TimestampTz *retry_at);

/* The key of a client's address; NULL: this is none. */
extern char *quota_address_key(const char *text_of_address);

/*
 * Windows that no rule is about but a setting: max (0: no limit) actions per
 * so many microseconds; key NULL: nobody to count. At most two at once.
 */
typedef struct QuotaWindow
{
	const char *scope;
	const char *key;
	int			max;
	int64		per;
} QuotaWindow;

/* Count one action in each, or, where one is full, in none; remaining: how many more are allowed. */
extern bool quota_count_windows(const char *action, const QuotaWindow *given, int n, int *remaining);
/* Is none of them full? Locks those that count something. */
extern bool quota_windows_open(const char *action, const QuotaWindow *given, int n);
/* What was counted in it is forgotten. */
extern void quota_forget_window(const char *action, const QuotaWindow *given);

/* Fills invitation_quota; what other rooms may ask is declared there. */
extern void quota_init(void);

#endif							/* INVITE_SYNC_QUOTA_H */
