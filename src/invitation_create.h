/*-------------------------------------------------------------------------
 *
 * invitation_create.h
 *	  What the functions of those who invite share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_INVITATION_CREATE_H
#define INVITE_SYNC_INVITATION_CREATE_H

#include "utils/jsonb.h"

#include "invitation.h"

/* On whose behalf something is asked. */
typedef struct Inviter
{
	Caller		caller;			/* who asks */
	Caller		as;				/* whose rights decide: a user's, or a service's own */
	bool		has_inviter;	/* "as" is a user: quota and limits are theirs */
	bool		proves;			/* nobody but a service gets to see the token */
	bool		touched;		/* the organizations are touched already: once for many rows */
} Inviter;

typedef enum OnPending
{
	ON_PENDING_REFUSE,
	ON_PENDING_RESEND,
	ON_PENDING_REPLACE
} OnPending;

/* What is asked for. */
typedef struct InvitationRequest
{
	char	   *email;			/* NULL: a link */
	int			ngrants;
	pg_uuid_t  *organization_ids;	/* in order of id */
	text	  **roles;			/* their names */
	pg_uuid_t  *role_ids;		/* filled in once they are locked */
	bool	   *lists_members;	/* what the inviter may see there; filled in with the roles */
	bool	   *lists_invitations;
	text	   *platform_role;	/* NULL: none */
	pg_uuid_t	platform_role_id;
	Jsonb	   *data;
	int64		ttl;			/* microseconds; 0: as the organization has it */
	bool		with_token;
	OnPending	on_pending;
	text	   *key;			/* NULL: not repeatable */
	int			max_uses;		/* of a link; 0: no limit */
	char	   *allowed_domain; /* of a link */
	/* of an older system's: */
	TimestampTz expires_at;		/* 0: by ttl */
	bool		has_sender;		/* who invited there, where "as" is the service that imports it */
	pg_uuid_t	sender;
	bytea	   *legacy_digest;	/* of its token; NULL: none */
	bool		legacy_proves;
} InvitationRequest;

/* What came of it. */
typedef struct InvitationOutcome
{
	pg_uuid_t	id;
	char	   *token;			/* NULL: there is none to be shown */
	char	   *email;
	const char *status;
	TimestampTz expires_at;
	bool		reused;
	bool		skipped;
} InvitationOutcome;

/* What organization_lock() was called with. */
typedef struct InvitationLocks
{
	pg_uuid_t  *users;
	int			nusers;
	pg_uuid_t  *organizations;
	int			norganizations;
} InvitationLocks;

/* Who asks, for whom; the argument inviter_id is a service's. */
extern void invitation_inviter(FunctionCallInfo fcinfo, int arg, Inviter *inviter);
/* The inviter, locked, as of now: refused when gone, banned or anonymous. */
extern void invitation_inviter_again(const Inviter *inviter);
extern const char *invitation_inviter_key(const Inviter *inviter);

/* Parts of a request. */
extern int64 invitation_ttl(const Interval *interval);
extern void invitation_check_data(Jsonb *data);
extern void invitation_grants(InvitationRequest *request, Jsonb *grants);
extern void invitation_one_grant(InvitationRequest *request, const pg_uuid_t *organization_id, text *role);
extern void invitation_words(InvitationRequest *request, text *delivery, text *on_pending);

/* Refuse what the inviter may not ask for; before the locks and again after them. */
extern void invitation_require_rights(const Inviter *inviter, const InvitationRequest *request);
/* Lock all that these requests need. */
extern void invitation_lock(const Inviter *inviter, const InvitationRequest *requests, int nrequests,
							InvitationLocks *locks);
/* Make the invitation, or find that it is there already, under these locks. */
extern void invitation_make(const Inviter *inviter, InvitationRequest *request,
							const InvitationLocks *locks, InvitationOutcome *outcome);
/* The roles asked for, locked, and refused where they are more than the inviter has. */
extern void invitation_roles(const Inviter *inviter, InvitationRequest *request);
/* The rows alone. False: the address, alone, or the older token has got one in this moment. */
extern bool invitation_insert(const Inviter *inviter, InvitationRequest *request, const pg_uuid_t *id, bool shadow,
							  InvitationOutcome *outcome);
/* What is pending for the address where it is invited to, in order of id; or what has expired and says pending still. */
extern pg_uuid_t *invitation_pending_ids(const Inviter *inviter, const InvitationRequest *request, bool expired, int *n);
extern void invitation_close_expired(const Inviter *inviter, const InvitationRequest *request,
										 const InvitationLocks *locks);
extern bool invitation_same_offer(const InvitationRequest *request, const Invitation *invitation);

/* What stands in the way of another invitation. */
typedef struct InvitationObstacle
{
	const char *reason;			/* already_member, already_invited, invitation_declined; NULL: nothing */
	const char *detail;
	bool		listed;			/* the inviter may know */
} InvitationObstacle;

extern void invitation_find_member(const Inviter *inviter, const InvitationRequest *request, InvitationObstacle *obstacle);
extern void invitation_find_pending(const Inviter *inviter, const InvitationRequest *request, InvitationObstacle *obstacle);
extern void invitation_find_declined(const Inviter *inviter, const InvitationRequest *request, InvitationObstacle *obstacle);
/* Refuse (seats_exhausted) when fewer than n seats are free in one of these organizations. */
extern void invitation_require_seats(const pg_uuid_t *organization_ids, int norganizations, int n);
extern void invitation_refuse_obstacle(const InvitationObstacle *obstacle);
/* Holds the inviter this permission there? A service does. */
extern bool invitation_may(const Inviter *inviter, const pg_uuid_t *organization_id, const char *permission);
extern bool invitation_own(const Inviter *inviter, const Invitation *invitation);
/* May they know that it is there? */
extern bool invitation_known(const Inviter *inviter, const Invitation *invitation);

/* Give a pending or expired one, locked, a new token and time. */
extern void invitation_renew(const Inviter *inviter, Invitation *invitation, int64 ttl, bool with_token,
							 InvitationOutcome *outcome);

/* Columns of invitation_created, from the first on. */
extern void invitation_outcome_values(InvitationOutcome *outcome, Datum *values, bool *nulls);

/*
 * What a contained refusal says (the error is freed); anything else that went
 * wrong gives its SQLSTATE and not its message, which may show what was passed.
 * Rethrows what goes no further.
 */
extern void invitation_take_refusal(ErrorData *edata, const char **reason, const char **message);

/* The profile's columns are data as well; what data (may be NULL) says itself counts. */
extern Jsonb *invitation_data_with_names(Jsonb *data, const char *full_name, const char *job_title);

/* An event about it, by the inviter. */
extern void invitation_log(const Inviter *inviter, const char *action, const Invitation *invitation);

#endif							/* INVITE_SYNC_INVITATION_CREATE_H */
