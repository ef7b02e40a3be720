/*-------------------------------------------------------------------------
 *
 * invitation.h
 *	  Offers to join: what they are, who may read their tokens, and how they end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_INVITATION_H
#define INVITE_SYNC_INVITATION_H

#include "common/sha2.h"
#include "fmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "caller.h"
#include "organization.h"
#include "plan.h"
#include "token.h"

#define INVITATION_GRANTS_MAX	100 /* organizations of one invitation */

typedef enum InvitationStatus
{
	INVITATION_PENDING,
	INVITATION_ACCEPTED,
	INVITATION_DECLINED,
	INVITATION_REVOKED,
	INVITATION_EXPIRED
} InvitationStatus;

/* One invitation and what it gives; in the memory context of who read it. */
typedef struct Invitation
{
	pg_uuid_t	id;
	bool		link;			/* else to an address */
	bool		migration;		/* purpose */
	InvitationStatus status;	/* pending ones that have expired: expired */
	bool		stored_pending; /* the row says pending, whatever the clock says */
	char	   *email;			/* NULL for a link */
	bool		has_platform_role;
	pg_uuid_t	platform_role_id;
	Jsonb	   *data;
	bool		has_inviter;
	pg_uuid_t	inviter_id;
	bool		has_secret;
	uint8		secret_digest[PG_SHA256_DIGEST_LENGTH];
	bool		proves_email;
	int			max_uses;		/* 0: no limit */
	int			uses;
	char	   *allowed_domain; /* NULL: any */
	bool		has_device;		/* bound, and the time is not over */
	uint8		device_digest[PG_SHA256_DIGEST_LENGTH];
	bool		alone;			/* gives no organization */
	bool		shadow;
	bool		charged;
	TimestampTz created_at;
	TimestampTz renewed_at;
	TimestampTz expires_at;
	int			ngrants;
	pg_uuid_t  *organization_ids;	/* in order of id */
	pg_uuid_t  *role_ids;
} Invitation;

/*
 * Read one, by id or by the token that somebody sent (also one of an older
 * system); false: there is none, or the token's secret is wrong. A wrong token
 * costs the same whatever is wrong with it. fresh: as of now, after locks; else
 * as in the caller's snapshot (STABLE functions). lock: the row FOR NO KEY
 * UPDATE, which comes after the users and the organizations.
 * proves: the token is one that proves the mailbox.
 */
extern bool invitation_read(const pg_uuid_t *id, bool fresh, bool lock, Invitation *invitation);
extern bool invitation_find(text *token, bool fresh, Invitation *invitation, bool *proves);

/* The refusal for one that is not pending: expired, used, revoked, declined. */
extern void invitation_require_pending(const Invitation *invitation);

/*
 * End one that is locked: sets its status and its grants', gives back the quota
 * of one that expired or was declined. closed_by may be NULL.
 */
extern void invitation_close(Invitation *invitation, InvitationStatus status, const pg_uuid_t *closed_by);

/* Trimmed, ASCII letters in lower case; NULL for what is no address. Never raises. */
extern char *invitation_email(const char *s, size_t len);
/* The same of an argument: email_malformed where it is none. */
extern char *invitation_email_argument(FunctionCallInfo fcinfo, int arg);

/* "a***@e***.com": enough to recognise an address that one has, too little to learn one. */
extern char *invitation_email_hint(const char *email);

/*
 * An event about an invitation: ids only. kind as in the log. organization_id:
 * of the first grant, or NULL. caller NULL: by the system.
 */
extern void invitation_event(const Caller *caller, const char *kind, const char *action,
							 const Invitation *invitation, const pg_uuid_t *user_id);

/*
 * May the inviter still give everything that the invitation gives? A service
 * may; a user must be there and hold in each organization invitations.create
 * and all that the role allows, as it is now. What is given is locked already.
 */
extern bool invitation_still_allowed(const Invitation *invitation);

/*
 * What the quota room, which comes later, does for this one. Called with the
 * inviter's row of auth.users locked, and the organizations and the invitation
 * too; give_back() with the invitation.
 *
 * What is locked here comes last, and among itself in one order: the quota,
 * then the rows of the rate limits, "message" after all other actions. Whoever
 * counts for several recipients in one transaction goes by their addresses.
 */
typedef struct InvitationQuota
{
	/* one more of the inviter's stock; quota_exhausted. False: they are unlimited, nothing was taken. */
	bool		(*take) (const pg_uuid_t *inviter_id);
	/* give n back */
	void		(*give_back) (const pg_uuid_t *inviter_id, int n);

	/*
	 * Count one action; rate_limited. No rule: no limit. key: an id's text, or
	 * invitation_email_key() for a recipient. The rule of the action for the
	 * client's address counts along; scope "address" (key NULL) is for actions
	 * that have no other.
	 */
	void		(*count) (const char *action, const char *scope, const char *key);
	/* the same as a value: false, and when it may be tried again */
	bool		(*try_count) (const char *action, const char *scope, const char *key, TimestampTz *retry_at);

	/*
	 * What take() and count() would refuse now: the same refusals, and nothing
	 * written or locked. Whoever asks and then counts what was asked would lock
	 * out of turn otherwise.
	 */
	void		(*ask_take) (const pg_uuid_t *inviter_id);
	void		(*ask_count) (const char *action, const char *scope, const char *key);
} InvitationQuota;

extern const InvitationQuota *invitation_quota; /* NULL: nothing is limited */

/* The key of an address in tables that must not hold one: SHA-256 in hex. */
extern char *invitation_email_key(const char *email);

extern void invitation_init(void);
extern void invitation_accept_init(void);

#endif							/* INVITE_SYNC_INVITATION_H */
