/*-------------------------------------------------------------------------
 *
 * doctor_body.h
 *	  Bodies of functions, as doctor() analyses them: what its files share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_BODY_H
#define INVITE_SYNC_DOCTOR_BODY_H

#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parse_node.h"
#include "utils/relcache.h"

#include "doctor.h"

/* What is known of an argument that a function is called with. */
typedef struct BodyArg
{
	bool		metadata;		/* NEW.raw_user_meta_data itself */
	char	   *field;			/* the text of this field of it, or NULL */
} BodyArg;

#define BODY_ARGS_MAX	100

/* A function that will be called: as whom, under which path, by what. */
typedef struct BodyCall
{
	struct BodyCall *parent;	/* from whose body; NULL: by the auth server's statement */
	List	   *others;			/* BodyCall: other bodies that call it the same way */
	Oid			funcid;
	Oid			role;
	const char *path;			/* the value of search_path */
	int			events;			/* 1 << CmdType of the auth server's statement */
	bool		contained;		/* somebody above catches its failure */
	bool		certain;		/* no condition stands between the parent and this call */
	const char *by_default;		/* the column whose default calls it, or NULL */
	int			depth;
	int			nargs;
	BodyArg    *args;			/* NULL: nothing is known of any */
	List	   *leads_to;		/* BodyCall: what each of its runs calls, met before or not */

	/* a trigger function */
	Oid			relid;			/* the trigger's table, or invalid */
	Oid			trigger;
	const char *trigger_name;
	const char *again;			/* another trigger that calls it for the same row, or NULL */
	int			trigger_type;	/* pg_trigger.tgtype */
	bool		has_condition;	/* it has a WHEN clause */
	Bitmapset  *columns;		/* that the UPDATE sets; NULL: any */
	bool		deferred;		/* until COMMIT */
	List	   *condition_words;	/* char *: texts in it */
	const char *condition;		/* it is this clause that is looked at, not the function */
	const char *new_table;
	const char *old_table;
	Bitmapset  *nulls;			/* columns that an INSERT leaves null for some users */
	Bitmapset  *always_null;	/* of them for all */
} BodyCall;

/* What a Param that our parser hooks made stands for. */
typedef struct BodyRef
{
	int			dno;			/* PL/pgSQL's number of the variable */
	bool		is_new;
	bool		is_old;
	bool		whole;			/* the record itself */
	const char *field;			/* of a record, or NULL */
	Node	   *value;			/* of EXECUTE ... USING, where it is known; dno is -1 */
} BodyRef;

/* What is known of a variable of the body. */
typedef struct BodyVar
{
	int			assigned;		/* how often, so far */
	Node	   *value;			/* of the assignment, where it is known */
	char	   *text;			/* what it holds now, where that is a known text */
	bool		filled;			/* with a NULL where a literal will stand */
	bool		guarded;		/* some condition asks for it */
	TupleDesc	desc;			/* a record's columns, where they are known */
	BodyArg    *arg;			/* what it was called with, or NULL */
	bool		unclear;		/* they are now these, now others */
} BodyVar;

typedef struct BodyFinding
{
	DoctorSeverity severity;
	const char *area;
	const char *object;
	const char *finding;
	const char *detail;
	const char *fix;
	bool		by_edit;		/* the fix is the body with all edits */
	bool		caught;			/* the auth server does not see it */
	bool		by_path;		/* the fix needs the search_path as well */
} BodyFinding;

/* A piece of the body's text that is to be put into something, or replaced. */
typedef struct BodyEdit
{
	int			from;
	int			to;
	const char *before;
	const char *after;
	bool		replace;		/* what stands there goes */
} BodyEdit;

/* A column that a statement leaves to its default. */
typedef struct BodyDefault
{
	TargetEntry *tle;			/* of the statement that is looked at */
	Oid			table;
	char	   *column;
} BodyDefault;

/* A row that refers to one of "parent" by the new user's id, which the body has not made. */
typedef struct BodyAwaited
{
	Oid			child;
	Oid			parent;
	Oid			key;			/* pg_constraint */
	const char *where;
	const BodyCall *call;
	bool		caught;
	bool		reached;		/* another one may have made it */
} BodyAwaited;

/* A row that is always made when the auth server makes a user: for whom a unique index has room once. */
typedef struct BodyMade
{
	Oid			index;
	List	   *values;			/* of its columns: a Const, or NULL for the user's id */
	bool		before;			/* by a BEFORE trigger */
	const char *where;
	const char *trigger_name;
} BodyMade;

/* What the body writes or calls. */
typedef struct BodyEffect
{
	bool		is_call;
	Oid			id;				/* the table or the function */
	CmdType		command;
	Bitmapset  *columns;
	Bitmapset  *nulls;			/* as in BodyCall */
	Bitmapset  *always_null;
	bool		contained;
	bool		certain;
	const char *by_default;		/* the column whose default calls it, or NULL */
	int			nargs;
	BodyArg    *args;
} BodyEffect;

/* What a BEFORE trigger puts into a column of NEW that may not be null; the last assignment counts. */
typedef struct BodySet
{
	char	   *field;
	const char *null;			/* when it is null, or NULL */
	DoctorSeverity severity;
	int			line;
} BodySet;

/* The analysis of one call. */
typedef struct Body
{
	Doctor	   *doctor;
	BodyCall   *call;
	MemoryContext cxt;
	char	   *name;
	char	   *source;			/* prosrc */
	Oid			language;
	Oid			owner;
	bool		definer;		/* SECURITY DEFINER */
	char	   *pinned;			/* SET search_path, or NULL */
	char	   *kind;			/* "FUNCTION" or "PROCEDURE" */

	/* as whom and where it is analysed: as it is, or as its fix makes it */
	Oid			role;
	char	   *path;
	bool		make_definer;
	List	   *add_schemas;	/* char *: to search_path */
	bool		add_first;		/* in front of what is there */
	bool		changed;		/* in this pass: there must be another */

	/* over all passes */
	List	   *misplaced;		/* char *: names found elsewhere */
	List	   *denied;			/* char *: what makes it a definer's */
	bool		names_escape;	/* no handler catches the former */
	bool		rights_escape;	/* ... the latter */

	/* of the pass */
	List	   *found;			/* BodyFinding */
	List	   *effects;		/* BodyEffect */
	List	   *edits;			/* BodyEdit */
	bool		refuses;		/* it raises on purpose */
	const char *sql;			/* the statement */
	const char *about;			/* the tables that it names, where it failed, or NULL */
	List	   *refs;			/* BodyRef */
	BodyVar    *vars;
	int			nvars;
	List	   *guards;			/* char *: texts that conditions so far ask for */
	int			conditions;		/* how many are around the statement */
	int			loops;			/* of them loops */
	bool		in_handler;		/* it is part of an exception handler */
	int			doubts;			/* of them such as ask for what exists */
	List	   *handlers;		/* List of int (SQLSTATE, -1: any) around the statement */
	List	   *temporary;		/* char *: tables that it makes itself */
	List	   *defaults;		/* BodyDefault: of the statement */
	List	   *awaited;		/* BodyAwaited */
	List	   *assigned;		/* char *: fields of records that it has assigned so far */
	List	   *made;			/* BodyMade */
	List	   *set;			/* BodySet: columns of NEW */
	Oid			table;			/* whose ... */
	char	   *column;			/* ... default is looked at, or NULL */
	bool		path_unknown;	/* it changes search_path or role itself */
	void	   *function;		/* PLpgSQL_function */
	int			line;
	bool		uncertain;		/* the statement holds what has no known type */
	int			nargs;			/* of the call that is looked at */
	BodyArg    *args;
	const char *asked;			/* what a condition asks of the request */
	bool		in_coalesce;	/* the expression is an argument of coalesce() */
	bool		dynamic;		/* the statement is not in the body as it stands */
	bool		filled;			/* a NULL in it may stand for what is known at run time */
} Body;

/* doctor_body.c */
extern void body_found(Body *body, DoctorSeverity severity, int sqlstate, const char *object_area,
					   const char *object, const char *finding, const char *detail, const char *fix);
extern void body_writes(Body *body, Oid relid, CmdType command, Bitmapset *columns, bool certain);
extern void body_calls(Body *body, Oid funcid, int nargs, BodyArg *args);
extern bool body_edit_source(Body *body, int from, int to, const char *before, const char *after, bool replace);
extern bool body_edit(Body *body, int from, int to, const char *before, const char *after, bool replace);
extern const char *body_line(Body *body);
extern void body_found_edit(Body *body, DoctorSeverity severity, int sqlstate, const char *finding, const char *detail);
extern const char *body_where(Body *body);	/* "line 3 of public.f()" */
extern const char *body_events(int events);
extern bool body_is_caught(Body *body, int sqlstate);
extern bool body_listed(const List *texts, const char *text);
extern bool body_mentions(Body *body, const char *word);
extern char *body_fix_drop_not_null(Oid relid, const char *column);
extern bool body_sets_column(Oid relid, const char *column, CmdType command, Oid except);
extern bool body_keeps_column(Body *body, const char *column);
extern List *body_partitions(Oid relid);
extern BodySet *body_set(Body *body, const char *field);

/* doctor_query.c: statements */
typedef void (*BodyAnalysed) (Body *body, Query *query, void *arg);

/*
 * Analyse a statement as the body's role under its path, in a subtransaction;
 * each query goes through the checks, then to "analysed" (may be NULL). False:
 * it is no good, which has been noted.
 */
extern bool body_analyse(Body *body, const char *sql, RawParseMode mode, ParserSetupHook setup,
						 void *setup_arg, BodyAnalysed analysed, void *arg);
/* these two until the GUC nest level, or the subtransaction, ends */
extern void body_read_messages(void);
extern void body_bound_lock_wait(void);
extern void body_query(Body *body, Query *query);
extern bool body_changes_names(Node *utility);
extern void body_expression(Body *body, Node *expr);
extern void body_failed(Body *body, ErrorData *edata, Node *raw);
extern List *body_words(Node *expr);
extern const char *body_finds_nothing(Body *body, Node *value);
extern bool body_always_true(Body *body, Query *query);
extern bool body_never_true(Body *body, Query *query);
extern bool body_uses_new(Body *body, Query *query);
extern void body_length(Body *body, Node *value, Oid type, int32 typmod, const char *target);
extern void body_cast(Body *body, Node *value, Oid type);
extern Node *body_strip(Node *node);
extern BodyRef *body_ref(Body *body, Node *node);
extern char *body_metadata_field(Body *body, Node *node);
extern const char *body_may_be_null(Body *body, Node *node, DoctorSeverity *severity);

/*
 * The constraint (of the table, or of the column's domain) that refuses this text in the column, with the statement
 * that drops it; NULL: none that is seen to. By its form: none is evaluated.
 */
extern char *query_refusing(Relation rel, AttrNumber attno, const char *value, char **fix);

/* What may stand before the @ of an address as well as anything; ends with NULL. */
extern const char *const query_local_parts[];
extern void body_denied(Body *body, const char *privilege, const char *kind, const char *object);

/* doctor_name.c: where names are */
extern List *name_relation_schemas(const char *name, bool any_case);
extern List *name_function_schemas(const char *name);
extern List *name_type_schemas(const char *name);
extern List *name_operator_schemas(const char *name);
extern const char *name_function_extension(const char *schema, const char *name);
extern const char *name_type_extension(const char *name);
extern bool name_extension_available(const char *extension);

/* doctor_dynamic.c: what is executed */
extern char *body_text(Body *body, Node *node, bool *filled);
extern bool body_unquoted(Body *body, Node *node);

/* doctor_plpgsql.c */
extern void body_walk_plpgsql(Body *body);

/* doctor_check.c: what plpgsql_check says, where it is installed */
extern void body_ask_checker(Body *body);

#endif							/* INVITE_SYNC_DOCTOR_BODY_H */
