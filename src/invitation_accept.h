/*-------------------------------------------------------------------------
 *
 * invitation_accept.h
 *	  What accepting an invitation is, whichever way it is accepted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_INVITATION_ACCEPT_H
#define INVITE_SYNC_INVITATION_ACCEPT_H

#include "fmgr.h"

#include "invitation.h"

/*
 * SQL for an invitation's data as it may go into a user's metadata. What the
 * auth server or we decide by is nothing that an inviter may say, whoever wrote
 * it into our table.
 */
#define INVITATION_DATA(data) \
	"(SELECT coalesce(pg_catalog.jsonb_object_agg(e.key, e.value), '{}') FROM pg_catalog.jsonb_each(" data ") AS e " \
	"WHERE e.key NOT IN ('role', 'provider', 'providers', 'sub', 'iss') AND pg_catalog.right(e.key, 9) <> '_verified')"

/* The invitation of a token, or invitation_unknown. As of now, nothing locked. */
extern void invitation_of_token(text *token, Invitation *invitation, bool *proves);

/* device_mismatch unless this is the device that it is bound to; device may be NULL. */
extern void invitation_require_device(const Invitation *invitation, text *device);

/* migration_required: accounts are migrated otherwise. */
extern void invitation_require_no_migration(const Invitation *invitation);

/*
 * Lock its inviter and, if not NULL, this user, and with organizations also
 * what it gives.
 */
extern void invitation_lock_users(const Invitation *invitation, const pg_uuid_t *user_id, bool organizations);
extern void invitation_lock_organizations(const Invitation *invitation);

/* Lock the invitation itself, and read it and its token again. */
extern void invitation_lock_by_token(text *token, Invitation *invitation, bool *proves);

/*
 * Accept a pending invitation for this user, whose right to it is established;
 * all is locked. Refuses what the inviter may give no more, and who was removed.
 */
extern void invitation_accept_locked(Invitation *invitation, const pg_uuid_t *user_id);

/*
 * Is what it gives still there, and may its inviter still give it? Locks the
 * roles; what else decides it is locked.
 */
extern bool invitation_still_good(const Invitation *invitation);

/* Close one that is locked, whose user got otherwise all that it gives. */
extern void invitation_fulfilled(Invitation *invitation, const pg_uuid_t *user_id);

/* membership_verified_email(), as addresses of invitations are kept. */
extern char *invitation_verified_email(const pg_uuid_t *user_id, bool fresh);

#endif							/* INVITE_SYNC_INVITATION_ACCEPT_H */
