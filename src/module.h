/*-------------------------------------------------------------------------
 *
 * module.h
 *	  The library's settings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_MODULE_H
#define INVITE_SYNC_MODULE_H

extern bool invite_sync_enabled;
extern int	invite_sync_lock_timeout;
extern bool invite_sync_log_refusals;
extern bool invite_sync_tenant_copy;

#endif							/* INVITE_SYNC_MODULE_H */
