/*-------------------------------------------------------------------------
 *
 * doctor_query.h
 *	  Statements of bodies: what the files about them share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_QUERY_H
#define INVITE_SYNC_DOCTOR_QUERY_H

#include "doctor_body.h"

typedef enum Nullness
{
	NULL_NEVER,
	NULL_UNKNOWN,
	NULL_SOMETIMES,
	NULL_ALWAYS
} Nullness;

/* What a condition is for the auth server, as far as that can be seen. */
typedef enum Truth
{
	TRUTH_YES,
	TRUTH_NO,
	TRUTH_NULL,
	TRUTH_OPEN
} Truth;

typedef struct Why
{
	const char *text;			/* when it is null */
	DoctorSeverity severity;
} Why;

typedef struct Lookup
{
	Query	   *query;
	char	   *sql;
	List	   *values;			/* Const */
	char	   *table;
	Oid			owner;
	uint64		rows;
} Lookup;

/* doctor_value.c: what is known of values */
extern char *body_constant_of(Body *body, Query *query, Node *node, bool *sometimes);
extern char *body_constant_text(Node *node);
extern Oid body_domain_not_null(Oid type);
extern char *body_domain_refuses(Oid type, const char *value, Oid *domain);
extern bool body_edit_metadata(Body *body, Node *node, const char *before, const char *after);
extern bool body_has_written(Body *body, Oid relid);
extern bool body_is_guarded(Body *body, const char *word);
extern bool body_is_lookup(Body *body, Node *value, Lookup *lookup);
extern bool body_is_metadata(Body *body, Node *node);
extern bool body_is_readable(Body *body, Relation rel);
extern bool body_is_unset(Body *body, const char *name);
extern int body_literal_end(const char *sql, int at);
extern uint64 body_lookup_rows(Lookup *lookup);
extern Nullness body_nullness(Body *body, Query *query, Node *node, Why *why);
extern bool body_refuses(Node *check, AttrNumber attno, const char *value);
extern Node *body_value_of(Body *body, BodyRef *ref);

/* doctor_write.c: rows that are written */
extern void body_check_write(Body *body, Query *query);
extern char *body_fix_drop_default(Oid relid, const char *column);

/* doctor_failure.c: names that are not found */
extern char *body_at_line(Body *body);
extern bool body_path_holds(Body *body, const char *schema);

/* doctor_query.c: statements */
extern void body_keep(Body *body, List **list, const char *text);

#endif							/* INVITE_SYNC_DOCTOR_QUERY_H */
