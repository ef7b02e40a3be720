/*-------------------------------------------------------------------------
 *
 * caller.h
 *	  Who is asking, what they may do, and under whose rights our own
 *	  statements run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_CALLER_H
#define INVITE_SYNC_CALLER_H

#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

typedef enum CallerKind
{
	CALLER_NOBODY,				/* no usable claims, no privileged role */
	CALLER_ANON,				/* role anon, or claims that say anon */
	CALLER_USER,				/* an auth user, named by "sub" */
	CALLER_SERVICE				/* service_role, superuser or operator, claims
								 * absent or service_role */
} CallerKind;

typedef struct Caller
{
	CallerKind	kind;
	bool		is_operator;	/* may configure and operate the extension */
	bool		has_user;		/* user_id is set (kind is CALLER_USER) */
	pg_uuid_t	user_id;		/* the "sub" claim, not looked up; or whose
								 * that id of another provider's is */
	Oid			role;			/* caller_role() */
	Oid			outer_role;		/* what login or SET ROLE made it */
} Caller;

/* The strict form of 36 characters; false, and no error, for anything else. */
extern bool caller_parse_uuid(const char *s, pg_uuid_t *uuid);

#define CALLER_EXTERNAL_ID_MAX	255 /* bytes */

/*
 * Set at load by the account room, which comes after this one: the auth user who
 * has this id (a "sub" that is no uuid) with another provider, as the active
 * snapshot has it; false: there is nobody in particular. Reads only, also in
 * parallel workers and on a standby, and does not raise.
 */
extern bool (*caller_external_user_hook) (const char *external_id, pg_uuid_t *user_id);

/* Never raises, whatever the claims contain. */
extern void caller_get(Caller *caller);

/*
 * The role that asks: what login or SET ROLE made it, whatever definer functions
 * are around us. In a security-restricted operation (ANALYZE, REINDEX, a target's
 * triggers) the code that runs is the current user's, and so is the question,
 * unless that one has the rights of the other. caller_get() finds nobody
 * privileged there unless both are.
 */
extern Oid	caller_role(void);

/* What caller_claims_version() is made of; nobody else's. */
extern uint64 caller_claims_changes;
extern bool caller_claims_heard;
extern uint64 caller_claims_compared(void);

/*
 * Valid while a probe runs: the auth server's role, as which the probe's code
 * runs and asks, whoever started the probe.
 */
extern Oid	caller_probed_role;

/*
 * Another one whenever request.jwt.claims or its legacy twin may have changed.
 * Where the settings are not ours, it compares their text. Asked for each row of a
 * query, so it is no call.
 */
static inline uint64
caller_claims_version(void)
{
	return likely(caller_claims_heard) ? caller_claims_changes : caller_claims_compared();
}

/* The claims of the request; NULL when there are none or they are malformed. Never raises. */
extern Jsonb *caller_claims_jsonb(void);

/* Is this role (or a role it is a member of) an operator? */
extern bool caller_role_is_operator(Oid role);

/* Raise not_permitted unless the caller is an operator / service or operator. */
extern void caller_require_operator(void);
extern void caller_require_service(void);

/*
 * auth.users for statements of ours that read columns which came late: is_sso_user
 * and deleted_at in 2022, is_anonymous in 2024. Where one is missing its name
 * means that of "absent": nobody is it. To lock rows take the two apart.
 */
#define CALLER_ABSENT_COLUMNS \
	"(VALUES (NULL::pg_catalog.timestamptz, NULL::pg_catalog.timestamptz, false, false)) " \
	"AS absent (deleted_at, banned_until, is_anonymous, is_sso_user)"
#define CALLER_AUTH_USERS \
	"(SELECT s.* FROM " CALLER_ABSENT_COLUMNS " CROSS JOIN LATERAL (SELECT u.id, u.email, u.email_confirmed_at, " \
	"u.last_sign_in_at, u.raw_user_meta_data, deleted_at, banned_until, coalesce(is_anonymous, false) AS is_anonymous, " \
	"coalesce(is_sso_user, false) AS is_sso_user FROM auth.users AS u) AS s)"

/*
 * The state of an auth user at the current snapshot. "usable" means present,
 * not soft-deleted and not banned.
 */
typedef struct AuthUserState
{
	bool		exists;
	bool		usable;
	bool		anonymous;
} AuthUserState;

extern void caller_auth_user_state(const pg_uuid_t *user_id, AuthUserState *state);

/*
 * Scopes: whose rights a statement runs with, and under which search_path.
 * Enter, run statements, leave, all at one subtransaction level. An error
 * needs no clean-up: abort of the (sub)transaction restores everything.
 */
typedef struct Scope
{
	Oid			save_userid;
	int			save_sec_context;
	int			guc_level;
} Scope;

extern void scope_enter_own(Scope *scope);	/* invite_sync_owner: our tables */
extern void scope_enter_auth(Scope *scope); /* owner of auth.users */
extern void scope_enter_target(Scope *scope, Oid owner, const char *search_path);
/* The same in a GUC nest level that the caller has opened; leaving closes it. */
extern void scope_enter_target_at(Scope *scope, Oid owner, const char *search_path,
								  int guc_level);
extern void scope_leave(Scope *scope);

/*
 * Names this very database: an OID that was written down under another name of
 * this kind (a dump, pg_upgrade) may be anybody's here.
 */
extern char *caller_database_identity(void);

/*
 * Names what this database's files descend from: the same after pg_upgrade, in
 * a copy by CREATE DATABASE ... TEMPLATE, on a standby and after recovery, all
 * of which keep the OIDs of tables and roles (but pg_upgrade not those of
 * functions and triggers); another one after a dump, which keeps none. Empty
 * where there is none, which is nobody's. "snapshot" may be InvalidSnapshot.
 */
extern char *caller_lineage(Snapshot snapshot);
extern bool caller_same_lineage(const char *registered_in, const char *lineage);

extern Oid	caller_own_role(void);
extern Oid	caller_extension_schema(void);
extern Oid	caller_auth_users_relid(bool missing_ok);
extern Oid	caller_auth_owner(void);

/*
 * The one way to refuse: SQLSTATE is "PT" plus an HTTP status, the message is
 * the fixed text that belongs to the reason word, DETAIL begins with the reason
 * word. "detail" (may be NULL) is a list of key=value pairs, ids and times
 * only; "hint" (may be NULL) is a sentence.
 */
extern void refuse(const char *reason, const char *detail, const char *hint) pg_attribute_cold;

/* An argument that may not be NULL, where not refuse() but PostgreSQL's own error fits; hint may be NULL. */
extern void caller_refuse_null(bool isnull, const char *argument, const char *hint);

/* true when the SQLSTATE must never be contained (rooms/sync). */
extern bool caller_must_rethrow(int sqlerrcode);

extern void caller_init(void);

#endif							/* INVITE_SYNC_CALLER_H */
