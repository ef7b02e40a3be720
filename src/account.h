/*-------------------------------------------------------------------------
 *
 * account.h
 *	  Accounts made and imported, and people who come from another provider.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_ACCOUNT_H
#define INVITE_SYNC_ACCOUNT_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "caller.h"
#include "invitation_account.h"
#include "invitation_create.h"

/* The beginning of ids that stand for people who never signed up there. */
#define ACCOUNT_PLACEHOLDER	"invited_"
#define ACCOUNT_IS_PLACEHOLDER(id) \
	"pg_catalog.starts_with(" id ", '" ACCOUNT_PLACEHOLDER "')"

/* Who somebody is elsewhere. */
typedef struct ExternalUser
{
	pg_uuid_t	id;				/* of the row */
	bool		has_user;		/* no placeholder */
	pg_uuid_t	user_id;
	char	   *email;			/* as it was imported; may be NULL */
	bool		migrated;
} ExternalUser;

/* Read one as of now; false: there is none. lock: comes after users, organizations and invitations. */
extern bool account_external(const char *provider, const char *external_id, bool lock, ExternalUser *external);

/* Are these a provider and an id? data_malformed otherwise. */
extern void account_require_external(const char *provider, const char *external_id);

/* Write one down; false: it is there already. user_id may be NULL, user_since 0. */
extern bool account_insert_external(const char *provider, const char *external_id, const char *email,
									const pg_uuid_t *user_id, TimestampTz user_since, bool migrated);

/* Who asks, and must be a service. */
extern void account_service(Inviter *inviter);

/*
 * Make the account, or refuse (user_exists). What request says of roles is
 * locked and looked up already; memberships take their seats.
 */
extern void account_make(const Caller *caller, const char *action, const AuthAccount *account,
						 const InvitationRequest *request, pg_uuid_t *user_id);

/* Is this a digest that the auth server can check, at a cost that it can bear? */
extern bool account_digest_accepted(const char *digest);

/* Users named in external_user who are gone or soft-deleted; a uuid[]. */
extern Datum account_gone_users(bool read_only, int *n);

extern void account_init(void);

#endif							/* INVITE_SYNC_ACCOUNT_H */
