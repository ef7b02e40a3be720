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

#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "caller.h"
#include "plan.h"

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
 * The same for plan_attempted(): false, and nothing is to stay locked, where one of
 * the organizations was moved meanwhile. It makes no subtransaction: whoever comes
 * to a row that one which has ended well has locked waits for the end of the whole
 * transaction, and is not woken when the one around it is rolled back. So who gives
 * locks back must have taken them in that very subtransaction, or goes on to wait
 * for users while others still wait for what it has no more.
 */
extern bool organization_lock_once(const pg_uuid_t *user_ids, int nusers,
								   const pg_uuid_t *organization_ids, int norganizations);

/*
 * Write down that members, roles or seats of these (locked) organizations, and of the
 * pools whose seats they take, change: transactions with older snapshots then
 * fail with 40001 when they lock them.
 */
extern void organization_touch(const pg_uuid_t *organization_ids, int norganizations);

/* SQL for the column "cursor" of the lists: what organization_cursor() reads. */
#define ORGANIZATION_CURSOR(at, id) \
	"(pg_catalog.floor(extract(epoch FROM " at " - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint || '.' || " id ")"

/* "after" of the lists: false when it is NULL; data_malformed when it is none of ours. */
extern bool organization_cursor(text *after, TimestampTz *at, pg_uuid_t *id);

/* page_size of the lists, 1 to 500; data_malformed otherwise. */
extern int	organization_page_size(FunctionCallInfo fcinfo, int arg);

/* A required argument: data_malformed, naming it, when it is NULL. */
extern pg_uuid_t *organization_uuid_arg(FunctionCallInfo fcinfo, int arg, const char *name);

/*
 * SQL: does a text hold what nobody sees: control characters and, where there
 * can be others, those that hide, or turn what stands around them (zero width,
 * line separators, bidirectional controls, byte order mark)? The constraints of
 * the tables say the same.
 */
#define ORGANIZATION_UNSEEN(a) \
	"(" a " ~ '[[:cntrl:]]' OR CASE WHEN pg_catalog.getdatabaseencoding() = 'UTF8' " \
	"THEN " a " ~ '[\\u0080-\\u009f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff]' ELSE false END)"

/*
 * The state of an auth user as of now, not of the caller's snapshot: after
 * organization_lock() it stays so until the end of the transaction.
 */
extern void organization_user_state(const pg_uuid_t *user_id, AuthUserState *state);

/*
 * Run a statement in the own scope, and return its one row as the function's
 * result; NULL (fcinfo->isnull) where there is none. Not read_only: with a
 * snapshot of its own.
 */
extern Datum organization_answer(FunctionCallInfo fcinfo, SavedPlan *plan, Datum *values,
								 const char *nulls, bool read_only);

/*
 * Run one statement in the own scope; false, and nothing done, when it meets a
 * unique constraint. For UPDATEs: an INSERT has ON CONFLICT DO NOTHING.
 */
extern bool organization_try_unique(SavedPlan *plan, Datum *values, const char *nulls);

/*
 * Delete the rows of a table of ours whose column is one of these ids (an array of
 * type idtype: UUIDARRAYOID, TEXTARRAYOID); how many. The way for every row that
 * an application may reference: what tables of others say about it (ON DELETE
 * CASCADE, SET NULL, SET DEFAULT) is done first, as the owner of each of those
 * tables, and whatever triggers they have run as their owners. Left to PostgreSQL
 * they would run as whoever deletes. Locks the rows FOR UPDATE, so that nothing
 * refers to them anew. A table that belongs to a superuser is refused. AFTER
 * triggers of our own on the table must enter the own scope themselves.
 */
extern uint64 organization_delete_rows(const char *table, const char *column, Oid idtype, Datum ids);

/*
 * While it is true organization_delete_rows() leaves no check of a foreign key
 * on what it deletes for COMMIT, which is the auth server's then.
 */
extern bool organization_check_now;

/*
 * Set by the membership room: memberships of these users came or went (their
 * auth.users rows are locked). Called after the change.
 */
extern void (*organization_members_changed_hook) (const pg_uuid_t *user_ids, int nusers);

/*
 * Set by the invitation room: these (locked) organizations are being deleted.
 * Called before what belongs to them goes.
 */
extern void (*organization_removed_hook) (const pg_uuid_t *organization_ids, int norganizations);

/* "admin" event about an organization; data is JSON, or NULL. */
extern void organization_event(const Caller *caller, const char *action,
							   const pg_uuid_t *organization_id, const char *data);

#endif							/* INVITE_SYNC_ORGANIZATION_H */
