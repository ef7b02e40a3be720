/*-------------------------------------------------------------------------
 *
 * quarantine.h
 *	  The record of what failed, kept until it succeeds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_QUARANTINE_H
#define INVITE_SYNC_QUARANTINE_H

#include "utils/array.h"
#include "utils/rel.h"
#include "utils/uuid.h"

/* A contained error, copied out of its subtransaction. */
typedef struct Failure
{
	ErrorData  *edata;
	int			sqlerrcode;
} Failure;

/* One user whose sync failed. */
typedef struct QuarantineItem
{
	pg_uuid_t	user_id;
	const Failure *failure;
	const char *changed;		/* array literal of target columns whose source
								 * changed, or NULL */
} QuarantineItem;

/*
 * Record failures, in a subtransaction of its own under our lock_timeout. Never
 * raises but what must be rethrown, and does not wait for an entry that somebody
 * holds: it makes a second one. No user twice. When even this fails a WARNING
 * says so, false is returned, and sync_status() still finds the users.
 */
extern bool quarantine_record(int64 target_id, const char *action,
							  const QuarantineItem *items, int64 nitems);

/*
 * Forget entries of users that are in step now; contained like the above. What
 * waits for columns to be set goes only when all of them are in applied (a
 * text[], NULL for none).
 */
extern void quarantine_resolve(int64 target_id, const pg_uuid_t *user_ids, int64 nids,
							   ArrayType *applied);

/*
 * The users are gone: forget their entries, but for what failed of the deletion
 * itself. To be called before what is to be done about that can fail, and be
 * recorded. What somebody holds stays: a retry finds the user gone.
 */
extern void quarantine_forget_users(const pg_uuid_t *user_ids, int64 nids);

/* Guarded triggers, for attach() and verify(). */
typedef void (*QuarantineFinding) (void *arg, const char *severity, const char *object,
								   const char *finding, const char *detail, const char *fix);
extern void quarantine_verify(Relation auth, QuarantineFinding emit, void *arg);
extern bool quarantine_mend_dependencies(Relation auth);

/* Past white space and comments of SQL or PL/pgSQL, counting lines. */
extern const char *quarantine_skip_blank(const char *p, int *line);

/* May the character stand in a name of theirs, behind its first? */
extern bool quarantine_is_word_char(char c);

/* Would guard_trigger() take a trigger of this type (pg_trigger.tgtype) and function for a gate? */
extern bool quarantine_is_gate(Oid function, int16 trigger_type);

extern void quarantine_init(void);

#endif							/* INVITE_SYNC_QUARANTINE_H */
