/*-------------------------------------------------------------------------
 *
 * event.h
 *	  The append-only audit log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_EVENT_H
#define INVITE_SYNC_EVENT_H

#include "utils/uuid.h"
#include "utils/jsonb.h"

/*
 * Append one event, in the own scope, in the current (sub)transaction, and
 * return its id. kind is "activity", "admin", "error" or "system"; actor,
 * organization_id, target_type, target_id and data may be NULL; data is an
 * object (anything else is put into one, under "value"). Raises like any
 * INSERT: callers that must not fail wrap it in a subtransaction of theirs.
 * Opens its own SPI connection.
 */
extern int64 event_append(const char *kind, const char *action,
						  const pg_uuid_t *actor,
						  const pg_uuid_t *organization_id,
						  const char *target_type, const char *target_id,
						  Jsonb *data);

/*
 * Set at load by the sync room: give this auth user a row in every target that
 * lacks one. log_event() calls it, in a subtransaction of its own with a short
 * lock_timeout, so that an application which next writes a row of its own
 * with a foreign key to its users finds the user there. What it returns or
 * raises (but for what must be rethrown) does not change the event.
 */
extern bool (*event_ensure_user_hook) (const pg_uuid_t *user_id);

/*
 * Set at load by the membership room: may this user's events name this
 * organization? While nobody registers there are no organizations to protect.
 */
extern bool (*event_organization_hook) (const pg_uuid_t *user_id,
										const pg_uuid_t *organization_id);

#endif							/* INVITE_SYNC_EVENT_H */
