/*-------------------------------------------------------------------------
 *
 * server.h
 *	  What test/fuzz/server.c has in place of the server, and how to set it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_FUZZ_SERVER_H
#define INVITE_SYNC_FUZZ_SERVER_H

#include <setjmp.h>
#include <sys/time.h>

/* Is there randomness, does hashing work? */
extern bool server_random_works;
extern bool server_hash_works;

/* What the clock shows; it stands still. */
extern struct timeval server_clock;

/* Where ereport(ERROR) goes; without one it is a crash. */
extern sigjmp_buf *server_error;

/* A crash, for what must be true. */
#define require(condition) \
	((condition) ? (void) 0 : server_die(#condition, __FILE__, __LINE__))

extern void server_die(const char *what, const char *file, int line) __attribute__((noreturn));

#endif							/* INVITE_SYNC_FUZZ_SERVER_H */
