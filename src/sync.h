/*-------------------------------------------------------------------------
 *
 * sync.h
 *	  auth.users synced to application tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_SYNC_H
#define INVITE_SYNC_SYNC_H

#include "utils/array.h"
#include "utils/uuid.h"

#include "quarantine.h"

/*
 * Run fn(arg) in a subtransaction. Returns true when it succeeded; otherwise
 * everything it did is rolled back and *failure says why (allocated in the
 * current context). Errors that must not be contained are rethrown. With keep
 * false a success is rolled back too.
 */
typedef void (*ContainedFn) (void *arg);
extern bool sync_run_contained(ContainedFn fn, void *arg, bool keep, Failure **failure);

/* Bound lock waits in the current GUC nest level. */
extern void sync_bound_lock_wait(void);

/* What a road reports of one user. */
typedef struct SyncOutcome
{
	pg_uuid_t	user_id;
	const Failure *failure;		/* NULL: in step now */
	bool		skipped;		/* locked by somebody else, or gone */
	bool		exists;			/* has a row in auth.users (not soft-deleted) */
} SyncOutcome;

/*
 * Bring the rows of these users in one target in step, from auth.users as it is
 * now. Locks the users first. overwrite (may be NULL) is a text[] of target
 * columns to set even where they hold another value.
 */
extern void sync_fill_users(int64 target_id, const pg_uuid_t *user_ids, int nids,
							ArrayType *overwrite, bool wait, SyncOutcome *outcomes);

/* Carry out the target's on_delete for users that are gone. */
extern void sync_remove_users(int64 target_id, const pg_uuid_t *user_ids, int nids,
							  SyncOutcome *outcomes);

/* Note a road's success for sync_status(), and follow renames of targets. */
extern void sync_note_run(int64 target_id);
extern void sync_refresh_names(void);

extern void sync_init(void);

#endif							/* INVITE_SYNC_SYNC_H */
