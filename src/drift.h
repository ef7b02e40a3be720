/*-------------------------------------------------------------------------
 *
 * drift.h
 *	  What the schema is, and what changed since somebody approved it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DRIFT_H
#define INVITE_SYNC_DRIFT_H

extern void drift_init(void);

#endif							/* INVITE_SYNC_DRIFT_H */
