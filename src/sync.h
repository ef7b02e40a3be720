/*-------------------------------------------------------------------------
 *
 * sync.h
 *	  auth.users synced to application tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_SYNC_H
#define INVITE_SYNC_SYNC_H

#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "plan.h"
#include "quarantine.h"

/*
 * Run fn(arg) in a subtransaction. Returns true when it succeeded; otherwise
 * everything it did is rolled back and *failure says why (allocated in the
 * current context). Errors that must not be contained are rethrown. With keep
 * false a success is rolled back too.
 */
typedef void (*ContainedFn) (void *arg);
extern bool sync_run_contained(ContainedFn fn, void *arg, bool keep, Failure **failure);

/* A name as it may stand in a WARNING, whatever encoding the client has. */
extern const char *sync_name_for_client(const char *name);

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

/* Forget what was noted of the addresses of users deleted while the triggers were off. */
extern void sync_forget_gone_addresses(void);

/* Lock auth.users against writers, as attach() does; wait in milliseconds. */
extern void sync_lock_auth_users(const char *wait);

/* Lock one user (FOR SHARE, skipping) and put the row into the slot. */
typedef enum SyncUserLock
{
	SYNC_USER_LOCKED,
	SYNC_USER_BUSY,
	SYNC_USER_GONE
} SyncUserLock;
extern SyncUserLock sync_lock_user(Relation auth, const pg_uuid_t *user_id, TupleTableSlot *slot);

/* What detach() was called for: the triggers are off on purpose. */
extern bool sync_is_detached(void);

/*
 * The triggers that attach() makes, as they are now: "good", "missing",
 * "disabled" or "replaced". None where there is no auth.users.
 */
typedef struct SyncTrigger
{
	const char *name;
	const char *state;
} SyncTrigger;

extern int	sync_triggers(SyncTrigger **triggers);

/*
 * Look at every target as a sync does before it writes: is the table there,
 * may it be one, is its definer still a member of its owner? Reads catalogs
 * only; waits for a lock no longer than the session's lock_timeout and ours.
 */
typedef struct SyncTargetCheck
{
	const char *name;
	bool		enabled;
	Oid			relid;			/* invalid where failure is set */
	const Failure *failure;		/* NULL: users can be synced to it */
} SyncTargetCheck;

extern int	sync_check_targets(SyncTargetCheck **checks);

/*
 * For who watches DDL: could writing to the table, or what a name in it means,
 * matter to a sync? And is there any?
 */
extern bool sync_concerns(Oid relid);
extern bool sync_has_targets(void);

/*
 * Analyse the statements of every enabled target as its owner, and plan and run
 * none. Waits for nobody: a target locked by others has failed with
 * lock_not_available.
 */
typedef struct SyncAnalysis
{
	int64		id;
	const char *name;
	const Failure *failure;		/* NULL: it analyses */
} SyncAnalysis;

extern int	sync_analyse_targets(SyncAnalysis **analyses);

/*
 * What rooms that come later have to hear of. Their functions may raise: what
 * runs in the auth server's statement is contained, with bounded waits.
 */
typedef void (*SyncFinding) (void *arg, const char *severity, const char *area, const char *object,
							 const char *finding, const char *detail, const char *fix);

/* A part of config_sql(): the plan returns (call, name of the role or NULL). */
typedef struct SyncConfig
{
	const char *title;
	SavedPlan  *plan;
} SyncConfig;

/* Policies that are taken away by such a statement: protect_table() writes them. */
#define SYNC_POLICY_NAMES \
	"'invite_sync_select', 'invite_sync_insert', 'invite_sync_update', 'invite_sync_delete'"

typedef struct SyncListener
{
	/* deleted, soft-deleted, or given another id */
	void		(*users_gone) (const pg_uuid_t *user_ids, int64 nids);
	/* the same, when users_gone has failed: note them for a retry */
	void		(*users_missed) (const pg_uuid_t *user_ids, int64 nids);
	/* retry_quarantine(): whom to tell users_gone of; all: also those never noted */
	void		(*find_gone) (bool all, int64 limit, pg_uuid_t **user_ids, int64 *nids);
	/* raw_app_meta_data was written, with the key invite_sync or without */
	void		(*copies_changed) (const pg_uuid_t *user_ids, int64 nids);
	/* does verify() miss the triggers, even without targets? */
	bool		(*needs_triggers) (void);
	/* users_readable: auth.users belongs to somebody in whose scope it can be read */
	void		(*verify) (bool users_readable, SyncFinding emit, void *arg);
	const SyncConfig *config;
	int			nconfig;
	/* for uninstall_plan(): returns (statement, why) */
	SavedPlan  *uninstall;
} SyncListener;

extern void sync_listen(const SyncListener *listener);
extern const SyncListener *sync_listener(int i);	/* NULL: there are no more */

#define SYNC_JOBS			2
#define SYNC_JOB_SETS_MAX	4

typedef struct SyncJob
{
	const char *name;
	const char *schedule;		/* NULL: as it is asked for */
	const char *command;
} SyncJob;

/* Jobs of pg_cron that one function makes and another takes back. */
typedef struct SyncJobs
{
	const char *title;			/* in config_sql() */
	const char *schedule;		/* the function that makes them */
	const char *unschedule;		/* the function that takes them back */
	const char *instead;		/* what to call, and how often, without pg_cron */
	const char *already;		/* notice: nothing to make */
	const char *none;			/* notice: nothing to take back */
	const char *scheduled_event;
	const char *unscheduled_event;
	SyncJob		job[SYNC_JOBS];
} SyncJobs;

/* At load: have config_sql() and uninstall_plan() know of a set. */
extern void sync_add_jobs(const SyncJobs *jobs);

/* The bodies of the two functions; both ask for an operator. */
extern Datum sync_schedule_jobs(FunctionCallInfo fcinfo, const SyncJobs *set);
extern Datum sync_unschedule_jobs(FunctionCallInfo fcinfo, const SyncJobs *set);

/* Tell a listener; false when it failed, which is warned of and noted. */
extern bool sync_tell_gone(const SyncListener *listener, const pg_uuid_t *user_ids, int64 nids);

extern void sync_init(void);

#endif							/* INVITE_SYNC_SYNC_H */
