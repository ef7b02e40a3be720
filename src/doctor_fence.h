/*-------------------------------------------------------------------------
 *
 * doctor_fence.h
 *	  What the code that a probe fires may not do while it runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_FENCE_H
#define INVITE_SYNC_DOCTOR_FENCE_H

#include "doctor_effect.h"

/*
 * From here to fence_leave() nothing outlives the rollback in this session
 * (prepared statements, libraries), no parallel worker, which would not know of
 * the probe, is started, and with "effects" nothing is called that a rollback
 * does not undo. That is an error, and what was met is known after it, whatever
 * became of the error.
 */
extern void fence_enter(const EffectWalk *walk, bool effects);
extern void fence_leave(void);

/* This trigger does not fire, for this session and until another one is named. */
extern void fence_switch_off(Oid trigger);

/* Is this the error that refuses a statement or a call? Not what somebody made of it. */
extern bool fence_raised(const ErrorData *e);

/* What a rollback would not have undone (in fence_enter()'s memory), or NULL. Its object is NULL where only the caller can be blamed. */
extern const Effect *fence_met(void);

#endif							/* INVITE_SYNC_DOCTOR_FENCE_H */
