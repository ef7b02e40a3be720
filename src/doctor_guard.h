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

#endif							/* INVITE_SYNC_DOCTOR_GUARD_H */
