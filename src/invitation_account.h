/*-------------------------------------------------------------------------
 *
 * invitation_account.h
 *	  Accounts as the auth server writes them.
 *
 * Who calls has proof that the address is the person's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_INVITATION_ACCOUNT_H
#define INVITE_SYNC_INVITATION_ACCOUNT_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct AuthAccount
{
	const char *email;			/* as invitation_email() makes it */
	const char *encrypted_password; /* bcrypt; NULL: none */
	bool		confirmed;
	Jsonb	   *user_meta;		/* an object, or NULL */
} AuthAccount;

typedef enum AuthAccountState
{
	AUTH_ACCOUNT_NONE,
	AUTH_ACCOUNT_UNCONFIRMED,	/* nobody has ever shown that it is theirs */
	AUTH_ACCOUNT_TAKEN			/* confirmed, banned or soft-deleted */
} AuthAccountState;

/*
 * Who has this address; accounts of single sign-on are other people's. fresh: as
 * of now; else as in the caller's snapshot.
 */
extern AuthAccountState auth_account_find(const char *email, bool fresh, pg_uuid_t *id);

/* Make one; false when somebody else has just made one with this address. */
extern bool auth_account_create(const AuthAccount *account, pg_uuid_t *id);

/*
 * Make a (locked) account that was never confirmed this one's: it keeps its id,
 * and loses every way in that somebody may have left for themselves.
 */
extern void auth_account_replace(const AuthAccount *account, const pg_uuid_t *id);

/* password_weak unless it may be a password. */
extern void auth_account_require_password(text *password);

/* Its bcrypt hash, by pgcrypto: slow on purpose, so call it before anything is locked. */
extern char *auth_account_hash(text *password);

#endif							/* INVITE_SYNC_INVITATION_ACCOUNT_H */
