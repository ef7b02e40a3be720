/*-------------------------------------------------------------------------
 *
 * membership.h
 *	  Who belongs where, as what, and what that allows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_MEMBERSHIP_H
#define INVITE_SYNC_MEMBERSHIP_H

#include "fmgr.h"

#include "organization.h"
#include "plan.h"

/* The built-in roles have the same ids in every database. */
#define MEMBERSHIP_OWNER	"00000000-0000-4000-8000-00000000000a"
#define MEMBERSHIP_ADMIN	"00000000-0000-4000-8000-00000000000b"
#define MEMBERSHIP_MEMBER	"00000000-0000-4000-8000-00000000000c"

/* A row's place in a list, as organization_cursor() reads it. */
#define MEMBERSHIP_CURSOR(a) \
	"((EXTRACT(epoch FROM " a ".created_at - '2000-01-01 00:00:00+00'::pg_catalog.timestamptz) * 1000000)::pg_catalog.int8 || '.' || " a ".id)"

/* What users say of themselves, wherever the providers put it; cut, because they say it. */
#define MEMBERSHIP_DISPLAY_NAME(u) \
	"pg_catalog.left(coalesce(" u ".raw_user_meta_data->>'full_name', " u ".raw_user_meta_data->>'name', " u ".raw_user_meta_data->>'display_name'), 200)"
#define MEMBERSHIP_AVATAR_URL(u) \
	"pg_catalog.left(coalesce(" u ".raw_user_meta_data->>'avatar_url', " u ".raw_user_meta_data->>'picture'), 2000)"

/* Required arguments: NULL is refused as data_malformed. */
extern pg_uuid_t membership_uuid_argument(FunctionCallInfo fcinfo, int arg, const char *name);
extern text *membership_text_argument(FunctionCallInfo fcinfo, int arg, const char *name);

/* Time, id and number of rows of a page, from the arguments after and page_size. */
extern void membership_page_values(FunctionCallInfo fcinfo, int arg, Datum *values);

/*
 * Run a statement in the own scope, with a snapshot of its own, and return its
 * one row as the function's result, or (found false) that there was none.
 */
extern Datum membership_row(FunctionCallInfo fcinfo, SavedPlan *plan, Datum *values,
							const char *nulls, bool *found);
/* The same of a statement that returns one uuid. */
extern bool membership_one_id(SavedPlan *plan, Datum *values, const char *nulls, pg_uuid_t *id);

/*
 * Bound lock waits of what is locked after organization_lock() as it does, until
 * AtEOXact_GUC(false, the level returned).
 */
extern int	membership_bound_waits(void);

/* Has anybody one of these roles (a uuid[]), as of now and not of the transaction's snapshot? */
extern bool membership_roles_held(Datum role_ids);

extern void membership_run(SavedPlan *plan, Datum *values, const char *nulls);

/*
 * May a membership be given to this (locked) user? Refuses users who do not
 * exist or are deleted (user_unknown), banned (user_banned) or anonymous
 * (anonymous_user).
 */
extern void membership_require_user(const pg_uuid_t *user_id);

/*
 * The role that a name means in an organization, for giving it: locked, so that
 * what it allows stays as compared, and refused (escalation) unless the caller
 * has all of it; that of an owner is an owner's to give.
 */
extern void membership_role_to_give(const Caller *caller, const Authority *mine,
									const pg_uuid_t *organization_id, text *role,
									pg_uuid_t *role_id);

/* Refuse (escalation) to act on somebody who may do there what the caller may not. */
extern void membership_require_above(const Caller *caller, const Authority *mine,
									 const pg_uuid_t *organization_id, const pg_uuid_t *user_id);

/*
 * Make a user of locked ids a member; false when they are one already. Clears
 * the mark of a removal, closes their pending requests to join, and takes care
 * of seats, revision and the copy of the user.
 */
extern bool membership_make(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
							const pg_uuid_t *role_id, const pg_uuid_t *added_by);

/*
 * Set by the invitation room. made: this (locked) user has become a member;
 * called by membership_make(). offered: the role that somebody has offered them
 * there, for who comes in by enrollment; leaves role_id alone otherwise.
 */
extern void (*membership_made_hook) (const pg_uuid_t *organization_id, const pg_uuid_t *user_id);
extern void (*membership_offered_hook) (const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
										pg_uuid_t *role_id);

/* The caller's id for a column that says who did it; NULL for a service. */
extern const pg_uuid_t *membership_actor(const Caller *caller);

/* Kind as in the log: activity, admin, or (caller NULL) system. */
extern void membership_event(const Caller *caller, const char *kind, const char *action,
							 const pg_uuid_t *organization_id, const char *target_type,
							 const pg_uuid_t *target_id, const pg_uuid_t *role_id);

/* Is this the id of a built-in role? */
extern bool membership_is_role(const pg_uuid_t *role_id, const char *built_in);

/*
 * The address of a user that may count for something, or NULL: confirmed, of
 * a user who is neither deleted nor banned nor anonymous, and of one who came by
 * single sign-on only where the domain is its provider's. fresh: as of now, for
 * a locked user; else as in the caller's snapshot.
 */
extern char *membership_verified_email(const pg_uuid_t *user_id, bool fresh);

/* Rewrite the users' copies in auth.users, after their memberships have changed. */
extern void membership_write_copies(const pg_uuid_t *user_ids, int nusers);

/*
 * Tables under protect_table(): the calls that protect them again (call, role),
 * for config_sql(), and those that undo it (statement, why), for
 * uninstall_plan(). Run them in the own scope.
 */
extern SavedPlan membership_config_protected_plan;
extern SavedPlan membership_unprotect_plan;

extern void membership_init(void);
extern void membership_sync_init(void);

#endif							/* INVITE_SYNC_MEMBERSHIP_H */
