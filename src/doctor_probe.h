/*-------------------------------------------------------------------------
 *
 * doctor_probe.h
 *	  Signups, updates, logins and deletions that are tried and rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_PROBE_H
#define INVITE_SYNC_DOCTOR_PROBE_H

#include "nodes/pg_list.h"

/* What is tried beside the signup, which comes first in any case. */
#define PROBE_UPDATE	0x01
#define PROBE_LOGIN		0x02
#define PROBE_DELETE	0x04

typedef enum ProbeKind
{
	PROBE_EMAIL,				/* a form filled in: all the metadata that is asked for */
	PROBE_EMAIL_WITHOUT_METADATA,
	PROBE_INVITED,
	PROBE_OAUTH,
	PROBE_PHONE,
	PROBE_ANONYMOUS
} ProbeKind;
#define PROBE_KINDS			6
#define PROBE_ALL_KINDS		((1 << PROBE_KINDS) - 1)

typedef enum ProbeOutcome
{
	PROBE_OK,
	PROBE_FAILED,
	PROBE_REFUSED,				/* on purpose, by RAISE: a gate */
	PROBE_UNKNOWN				/* not tried, or it fails only because it is a probe */
} ProbeOutcome;

/* One step. Strings may be NULL. */
typedef struct ProbeStep
{
	const char *kind;			/* NULL: of no kind in particular */
	const char *step;
	const char *without_trigger;
	ProbeOutcome outcome;
	const char *sqlstate;
	const char *message;
	const char *table;			/* qualified */
	const char *column;
	const char *constraint;
	const char *function;		/* where it failed, innermost */
	int			line;			/* in it; 0: not known */
	List	   *stack;			/* of char *, innermost first */
	List	   *functions;		/* those in it, each once, the same way */
	bool		made_up;		/* it fails with metadata that the probe has made up, and only then */
} ProbeStep;

typedef struct Probe
{
	int			kinds;			/* bits 1 << ProbeKind */
	int			actions;		/* PROBE_ flags */
	bool		isolate;		/* once more without each trigger of others */
	bool		allow_side_effects;
	List	   *steps;			/* out: of ProbeStep */
	List	   *effects;		/* out: of Effect; where there are any, nothing was tried unless allowed */
} Probe;

/*
 * Try it, as the auth server's role, and roll it back. Does not ask who calls.
 * Raises where it cannot be tried at all.
 */
extern void probe_run(Probe *probe);

/* Could it be tried here? Raises what is in the way. */
extern void probe_require_writable(void);

/* For current_setting('invite_sync.probing'): nobody can set it, nor leave it on. */
extern bool probe_is_running;

#endif							/* INVITE_SYNC_DOCTOR_PROBE_H */
