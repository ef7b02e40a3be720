/*-------------------------------------------------------------------------
 *
 * doctor_effect.h
 *	  What a statement of the auth server may run, and whether a rollback
 *	  undoes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_EFFECT_H
#define INVITE_SYNC_DOCTOR_EFFECT_H

#include "nodes/pg_list.h"

/* Something within reach that outlives a rollback, or that nobody can read. */
typedef struct Effect
{
	Oid			function;		/* whose body does it, or invalid */
	const char *object;			/* qualified name of that function or table */
	int			line;			/* in its body, 0 where it has none */
	const char *what;			/* part of a sentence */
} Effect;

/* A key of raw_user_meta_data that a body within reach asks for. */
typedef struct MetadataKey
{
	const char *name;
	const char *type;			/* what its value is cast to at once, or NULL */
} MetadataKey;

typedef struct EffectWalk
{
	List	   *functions;		/* oids of the functions looked at */
	List	   *relations;		/* oids of the tables and views looked at */
	List	   *effects;		/* of Effect */
	List	   *keys;			/* of MetadataKey */
	bool		messages;		/* a transactional pg_logical_emit_message() was read */
} EffectWalk;

/*
 * Walk what writing these tables may run: their triggers, defaults, checks,
 * indexes, policies and rules, tables that a key ties to them, whatever the
 * bodies name, and so on; and event triggers, where a body has DDL. Reads
 * catalogs only, in the own scope, and runs nothing. It takes a name for whatever has that name: rather too much than too
 * little. Dynamic SQL is read as far as it stands there in literals.
 */
extern void effect_walk(EffectWalk *walk, const Oid *relations, int nrelations);

/*
 * Of this function or foreign table itself, whatever it calls: where it does, or
 * may do, what a rollback does not undo, true, and what. The object is NULL for a
 * function of PostgreSQL's own. Reads the system caches.
 */
extern bool effect_of_function(const EffectWalk *walk, Oid function, Effect *effect);
extern bool effect_of_foreign_table(Oid relation, Effect *effect);

/* public.f(uuid), or NULL: it is gone. */
extern char *effect_function_name(Oid function);

#endif							/* INVITE_SYNC_DOCTOR_EFFECT_H */
