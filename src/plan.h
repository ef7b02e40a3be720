/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  Saved SPI plans. No other room calls SPI_prepare.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_PLAN_H
#define INVITE_SYNC_PLAN_H

#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/params.h"
#include "parser/parser.h"
#include "utils/uuid.h"

#define PLAN_MAX_ARGS 16

/*
 * A fixed statement over our own tables, auth's tables or the catalogs.
 * Declare it static, zero but for sql, nargs and argtypes; it is prepared on
 * first use, kept for the session, and prepared again when it has become
 * invalid. Must be called inside SPI_connect, in the scope that the statement
 * runs in (the scope pins the search_path; names in sql are qualified all the
 * same).
 */
typedef struct SavedPlan
{
	const char *sql;
	int			nargs;
	Oid			argtypes[PLAN_MAX_ARGS];
	SPIPlanPtr	plan;			/* private to plan.c */
} SavedPlan;

/* Execute; returns the SPI result code (checked to be >= 0 already). */
extern int	plan_execute(SavedPlan *plan, Datum *values, const char *nulls,
						 bool read_only, long limit);

/* As above under an explicit snapshot (registered by the caller). */
extern int	plan_execute_snapshot(SavedPlan *plan, Datum *values, const char *nulls,
								  Snapshot snapshot, bool read_only, long limit);

/*
 * What the statement before returned as the result of an SQL function: its one
 * row as the composite that the function is declared to return (NULL where
 * there is none), or its rows as those of a function that returns a set. The
 * columns must be the declared ones, in order. Call them before SPI_finish.
 */
extern Datum plan_result_row(FunctionCallInfo fcinfo);
extern void plan_result_rows(FunctionCallInfo fcinfo);

/* A one-dimensional array as an argument; nulls may be NULL. */
extern Datum plan_array(Datum *values, bool *nulls, int64 n, Oid type);

/* A uuid[] as an argument. */
extern Datum plan_uuid_array(const pg_uuid_t *ids, int64 n);

/* A name as an argument. */
extern Datum plan_name(const char *s);

/* The order of uuids, for qsort() and bsearch(). */
extern int	plan_compare_uuids(const void *a, const void *b);

/* A uuid[] that outlives SPI, and the same as an array of C. */
typedef struct PlanIds
{
	Datum		array;
	pg_uuid_t  *ids;
	int			n;
} PlanIds;

/*
 * Run a statement in the own scope or that of the auth server, which returns
 * one row of uuid arrays, or nothing when nresults is 0. The number of ids is
 * anybody's guess when it is planned, so it goes by the indexes.
 */
extern void plan_run_on_ids(SavedPlan *plan, Datum *values, bool in_auth, bool read_only,
							PlanIds *results, int nresults);

/* The saved SPI plan, for cursors. */
extern SPIPlanPtr plan_get(SavedPlan *plan);

/*
 * A statement whose text is made at run time (the kept statements of a
 * target). The result is kept for the session until plan_retire().
 */
extern SPIPlanPtr plan_make(const char *sql, int nargs, const Oid *argtypes);
extern void plan_retire(SPIPlanPtr plan);

/*
 * Analyse a statement without planning it: planning would run its IMMUTABLE
 * functions. Not kept; gone with the SPI connection. Returns the one Query.
 */
extern Query *plan_analyse(const char *sql, int nargs, const Oid *argtypes);

/*
 * The same for what somebody else's language says: with its parser hooks, in the
 * mode that its grammar needs. Returns the rewritten queries of all statements.
 */
extern List *plan_analyse_hooked(const char *sql, RawParseMode mode, ParserSetupHook setup,
								 void *setup_arg);

/* The analysed query of a kept statement. */
extern Query *plan_query(SPIPlanPtr plan);

/* A statement that is not kept: gone with the SPI connection. */
extern SPIPlanPtr plan_try(const char *sql, int nargs, const Oid *argtypes);

/* Plan such a statement, without running it. */
extern void plan_check(SPIPlanPtr plan);

/*
 * Plan a kept statement that joins to a unique key by it, if it has to be
 * planned: a table that was empty when somebody vacuumed it would be read from
 * end to end for ever after.
 */
extern void plan_by_index(SPIPlanPtr plan);

/*
 * The same for a statement that looks up a handful of rows, whatever the
 * planner makes of a recursion: nothing in it is worth a hash table or compiling.
 */
extern void plan_by_lookup(SPIPlanPtr plan);

/* Such a statement that is not kept, planned as that. */
extern SPIPlanPtr plan_try_lookup(const char *sql, int nargs, const Oid *argtypes);

/* plan_by_lookup() and plan_execute(), for where every statement is such a one. */
extern int	plan_lookup(SavedPlan *plan, Datum *values, const char *nulls,
						bool read_only, long limit);

/*
 * Retired plans and memory contexts are freed only when no plan of ours is
 * running: bracket everything that holds on to them.
 */
extern int	plan_hold(void);	/* returns the depth to restore on error */
extern void plan_release(void);
extern void plan_restore(int depth);
extern void plan_retire_context(MemoryContext context);

/*
 * Run fn(arg) in a subtransaction. NULL when it succeeded, and kept (or with keep
 * false undone all the same); else its error, in the caller's memory and with
 * everything undone. Who calls decides what may go no further.
 */
extern ErrorData *plan_contained(void (*fn) (void *), void *arg, bool keep);

/* Such an error, to be given to ReThrowError(): what it points to lasts as long as it is thrown. */
extern ErrorData *plan_lasting(ErrorData *edata);

/*
 * The same where fn itself says whether to keep what it did, and its locks; what
 * it said. Its errors go on, with everything undone.
 */
extern bool plan_attempted(bool (*fn) (void *), void *arg);

/*
 * A function of an extension, by its symbol and in whatever schema; invalid: it is
 * not there. Known by what the extension owns and by being in C, which takes a
 * superuser: what merely has its name may be anybody's.
 */
extern Oid	plan_extension_function(const char *extension_name, const char *symbol);

extern void plan_init(void);

#endif							/* INVITE_SYNC_PLAN_H */
