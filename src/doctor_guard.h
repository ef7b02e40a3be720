/*-------------------------------------------------------------------------
 *
 * doctor_guard.h
 *	  DDL that breaks a sync is told, or refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_GUARD_H
#define INVITE_SYNC_DOCTOR_GUARD_H

extern void guard_init(void);

/* For current_setting('invite_sync.ddl_watched'): is there anything to be done at the end of a command? */
extern bool guard_is_watching;

#endif							/* INVITE_SYNC_DOCTOR_GUARD_H */
