/*-------------------------------------------------------------------------
 *
 * organization.h
 *	  Tenants: their tree, what may be asked of them, and the order in which
 *	  they are locked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_ORGANIZATION_H
#define INVITE_SYNC_ORGANIZATION_H

#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "caller.h"

/* What somebody may do in an organization, by memberships there and above it. */
typedef struct Authority
{
	bool		exists;			/* the organization does */
	bool		member;			/* of it or of one above it */
	bool		owner;			/* of it or of one above it */
	ArrayType  *permissions;	/* text[], sorted; never NULL */
} Authority;

/*
 * Set at load by the membership room, which comes after this one. fresh: reads
 * with a snapshot of its own, so after a lock it sees what the lock waited for;
 * else with the caller's, as STABLE functions must.
 */
extern void (*organization_authority_hook) (const pg_uuid_t *user_id,
											const pg_uuid_t *organization_id,
											bool fresh, Authority *authority);

/*
 * Who asks, for what users and services may do: refuses nobody and anon
 * (not_authenticated), anonymous users (anonymous_user) and users who are gone
 * or banned (user_banned, not_authenticated).
 */
extern void organization_actor(Caller *caller);

/*
 * Refuse unless the organization exists and the caller may do this in it
 * (permission NULL: is a member). To who is no member one that exists is as
 * unknown as one that does not. A service may everything. authority may be NULL.
 */
extern void organization_require(const Caller *caller, const pg_uuid_t *organization_id,
								 const char *permission, Authority *authority);

/* The same for STABLE functions: as the caller's snapshot has it. */
extern void organization_require_stable(const Caller *caller, const pg_uuid_t *organization_id,
										const char *permission, Authority *authority);

/* Does the authority hold every one of these permissions? For a service: yes. */
extern bool organization_covers(const Caller *caller, const Authority *authority,
								ArrayType *permissions);

/*
 * Lock users, then organizations with all above them, each in order of id, FOR
 * NO KEY UPDATE: the one order everywhere. Organizations and users that do not
 * exist are left out. Waits at most 5 s for a lock unless the session has set a
 * lock_timeout of its own. Call it before anything else of the transaction is locked, check rights
 * before it (so that a stranger cannot lock) and again after it.
 */
extern void organization_lock(const pg_uuid_t *user_ids, int nusers,
							  const pg_uuid_t *organization_ids, int norganizations);

/*
 * Write down that members, roles or seats of these (locked) organizations, and of the
 * pools whose seats they take, change: transactions with older snapshots then
 * fail with 40001 when they lock them.
 */
extern void organization_touch(const pg_uuid_t *organization_ids, int norganizations);

/* "after" of the lists: false when it is NULL; data_malformed when it is none of ours. */
extern bool organization_cursor(text *after, TimestampTz *at, pg_uuid_t *id);

/* page_size of the lists, 1 to 500; data_malformed otherwise. */
extern int	organization_page_size(FunctionCallInfo fcinfo, int arg);

extern Datum organization_uuid_array(const pg_uuid_t *ids, int nids);

#endif							/* INVITE_SYNC_ORGANIZATION_H */
