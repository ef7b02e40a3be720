/*-------------------------------------------------------------------------
 *
 * sync_internal.h
 *	  What the files of room sync share, and no other room is to use.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_SYNC_INTERNAL_H
#define INVITE_SYNC_SYNC_INTERNAL_H

#include "access/attnum.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"
#include "storage/lockdefs.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "sync.h"

/* The one name under which every road hands users to the kept statements. */
#define SOURCE_NAME		"source_users"

/* Ids alone, for questions about keys that need no expression. */
#define IDS_NAME		"source_ids"

/* The first identity of each user, for mappings that name it. */
#define IDENTITIES_NAME	"source_identities"
#define IDENTITY_JOIN \
	" LEFT JOIN " IDENTITIES_NAME " AS identity ON identity.user_id = users.id"

/* Somebody has to prove an address before anything can be written for them. */
#define ERRCODE_LINK_PENDING	MAKE_SQLSTATE('I', 'S', '0', '0', '1')

/* Users locked at once by the roads that are not a trigger. */
#define MAX_LOCK_BATCH	1000

typedef enum UpdatePolicy
{
	POLICY_ALWAYS,
	POLICY_IF_NULL,
	POLICY_NEVER
} UpdatePolicy;

typedef enum OnDelete
{
	ON_DELETE_NONE,
	ON_DELETE_DELETE,
	ON_DELETE_DEACTIVATE
} OnDelete;

typedef struct MapColumn
{
	char	   *name;			/* of the target's column */
	char	   *expression;
	UpdatePolicy policy;
	int			nsources;
	char	  **sources;		/* columns of auth.users it reads */
} MapColumn;

typedef struct DeferredConstraint
{
	char	   *schema;
	char	   *name;
	bool		redefer;		/* can be set DEFERRED again by this name */
	bool		to_auth;		/* the target's own foreign key to auth.users */
} DeferredConstraint;

typedef struct Target
{
	/* as registered */
	int64		id;
	Oid			relid;
	char	   *schema;			/* the remembered name */
	char	   *table;
	char	   *key;
	OnDelete	on_delete;
	bool		on_error_raise;
	bool		enabled;
	char	   *link_by;
	char	   *search_path;
	char	   *definer;
	bool		same_database;	/* the number is true here */
	bool		stamped;		/* and was written down here */
	int			ncolumns;
	MapColumn  *columns;

	/* attribute numbers of auth.users whose change matters to this target */
	Bitmapset  *watch;
	bool		uses_identity;	/* the mapping names identity_provider or identity_provider_id */

	/* what was built from the catalogs, good while built_at == invalidations */
	uint64		invalidations;	/* only the relcache callback writes it */
	uint64		built_at;
	bool		built;
	Oid			owner;
	MemoryContext home;			/* parent of the next one */
	MemoryContext cxt;			/* of what follows */
	char	   *insert_sql;
	char	   *update_sql;		/* NULL: no column may be updated */
	char	   *missing_sql;
	char	   *check_sql;
	char	   *candidates_sql; /* run once, over source_ids */
	char	   *claim_sql;		/* with link_by only */
	char	   *pending_sql;
	char	   *report_sql;
	char	   *always_columns; /* array literals, for overwrite */
	char	   *updatable_columns;
	SPIPlanPtr	insert_plan;
	SPIPlanPtr	update_plan;
	SPIPlanPtr	missing_plan;
	SPIPlanPtr	check_plan;
	SPIPlanPtr	claim_plan;
	SPIPlanPtr	pending_plan;
	int			ndeferred;
	DeferredConstraint *deferred;
} Target;

typedef struct Registry
{
	MemoryContext cxt;
	int			ntargets;
	Target	   *targets;
	uint64		auth_seen;		/* auth_invalidations when attnums were looked up */
	AttrNumber	id_att;
	AttrNumber	deleted_att;	/* may be missing in a small auth schema */
	AttrNumber	copy_att;		/* raw_app_meta_data, where our copy is */
	Bitmapset  *watch_all;		/* what the targets and deletion depend on */
	Bitmapset  *watch_any;		/* the same and what the listeners do */
} Registry;

typedef enum WorkMode
{
	WORK_INSERT,				/* a signup: plain insert */
	WORK_FILL,					/* update, then insert what is missing */
	WORK_REMOVE					/* on_delete */
} WorkMode;

/* A batch of users for one target. */
typedef struct Work
{
	Target	   *target;
	Relation	auth;			/* auth.users, locked; NULL for WORK_REMOVE */
	AttrNumber	id_att;
	WorkMode	mode;
	Tuplestorestate *single;	/* a row a user */
	Tuplestorestate *pairs;		/* OLD, NEW; NULL: made of single twice */
	pg_uuid_t  *ids;			/* filled when needed */
	int64		nrows;
	ArrayType  *overwrite;		/* text[] of target columns, or NULL */
	bool		known_missing;	/* nobody of them has a row: skip the update */
	bool		may_raise;		/* a trigger: the owner may want the error */
	bool		rebuilt;		/* the statements were made in this attempt */
	bool		again;			/* a retry, perhaps long after */
	bool		made;			/* their rows of auth.users are made just now */

	bool		leave_deferred; /* do not check deferred constraints first */

	/* progress, for finding the bad row */
	int			stage;			/* -1 setting constraints, 1 not the last statement, 2 the last */
	Tuplestorestate *scanned;	/* what the statement was reading */

	/* outcome */
	const Failure **failures;	/* per row, NULL where it succeeded; NULL: all did */
	int64		nfailed;
} Work;

typedef struct Identities
{
	Tuplestorestate *store;		/* NULL: the target asks for none */
	TupleDesc	desc;
	EphemeralNamedRelationData enr;
} Identities;

/* Questions to a target that write nothing; each in a subtransaction. */
typedef struct Question
{
	Target	   *target;
	LOCKMODE	lockmode;
	bool		read_only;
	Relation	auth;
	AttrNumber	id_att;
	ArrayType  *overwrite;
	Tuplestorestate *source;	/* of users, or of ids */
	TupleDesc	ids_desc;
	int64		count;
	DestReceiver *dest;			/* where rows go, or NULL */
	Tuplestorestate *answers;

	/* answers to counting questions */
	int64		rows;
	int64		keyed;
	int64		orphaned;
	int64		missing;
	int64		differing;
} Question;

/* Not yet checked: what somebody asked for, or what the names suggest. */
typedef struct MappingDraft
{
	int			n;
	MapColumn  *columns;
	bool	   *explicit_policy;
} MappingDraft;

typedef struct Compile
{
	MapColumn  *mc;
	bool		explicit_policy;
	bool		allow_user_written;
	Relation	auth;
	Relation	rel;
	Oid			owner;
	const char *search_path;
	MemoryContext cxt;
} Compile;

/* A part of verify(), contained: what one cannot read hides nothing of the others. */
typedef struct VerifyPart
{
	ReturnSetInfo *rsinfo;
	Relation	auth;
	bool		any_enabled;
} VerifyPart;

/*
 * Hidden, as all of a module is from PostgreSQL 16 on: before that other libraries
 * would see these names, and a call between two files take a detour.
 */
#pragma GCC visibility push(hidden)

/* sync.c */
extern char *sync_failure_detail(const Failure *f);	/* "SQLSTATE 23505: ..." */
extern char *sync_lock_holders(Oid relid, bool all_modes);
extern UpdatePolicy sync_policy_from_text(const char *s);
extern const char *sync_policy_to_text(UpdatePolicy policy);
extern OnDelete sync_on_delete_from_text(const char *s);
extern bool sync_reads_identity(const MapColumn *mc);
extern void sync_load_registry(void *arg);	/* ContainedFn: auth.users, whose columns are looked up too, or NULL */
extern Registry *sync_registry_for_trigger(Relation auth);	/* NULL: warned of */
extern void sync_load_registry_for_caller(ContainedFn fn, void *arg);
extern Target *sync_find_target(Registry *reg, int64 id);	/* NULL: there is none */
extern int64 *sync_select_targets(Oid relid, int *ntargets);	/* ids */
extern Relation sync_open_auth_users(LOCKMODE lockmode);
extern Registry *sync_registry;	/* as last loaded; replaced by sync_load_registry() */
extern int	sync_nesting;	/* how deep triggers of targets have led back here */

/* sync_target.c */
extern const char *sync_target_display(const Target *t);
extern char *sync_relation_display(Relation rel);	/* schema.table */
extern void sync_check_target_kind(Relation rel);
extern bool sync_has_key_index(Relation rel, AttrNumber attnum);
extern void sync_check_owner(Oid owner, const char *display);
extern void sync_find_deferred_constraints(Target *t);
extern Relation sync_locate_target(Target *t, LOCKMODE lockmode);
extern void sync_prepare_target(Target *t, LOCKMODE lockmode);
extern bool sync_names_something(int sqlerrcode);
extern bool sync_ask_target(ContainedFn fn, void *arg, Target *t, bool keep, Failure **failure);

/* sync_source.c */
extern void sync_register_source(EphemeralNamedRelation enr, Relation auth, Tuplestorestate *store);
extern bool sync_is_secret_column(const char *name);
extern SPIPlanPtr sync_make_kept(const char *sql, int nargs, TupleDesc auth);
extern SPIPlanPtr sync_make_claim(const char *sql, int nargs, TupleDesc auth);
extern void sync_check_kept(const char *sql, int nargs, Relation auth);
extern void sync_analyse_kept(const char *sql, int nargs, Relation auth);
extern void sync_load_identities(const Target *t, Relation auth, Tuplestorestate *rows, bool read_only,
								 Identities *ident);
extern void sync_register_identities(Identities *ident);
extern void sync_end_identities(Identities *ident);

/* sync_batch.c */
extern void sync_set_deferred(const Target *t, bool deferred, bool removing);
extern void sync_need_ids(Work *work);	/* fills work->ids */
extern void sync_apply_work(Work *work);
extern void sync_quarantine_failures(Work *work, const char *action, const Registry *reg);
extern ArrayType *sync_applied_columns(const Target *t, TupleDesc desc, const Bitmapset *changed);
extern void sync_resolve_successes(Work *work, ArrayType *applied);

/* sync_link.c */
extern void sync_note_failed_addresses(Work *work);
extern void sync_note_changed_addresses(TriggerData *trigdata);
extern void sync_forget_addresses(const pg_uuid_t *ids, int64 nids);
extern void sync_claim_rows(Work *work);

/* sync_trigger.c */
extern bool sync_attributes_differ(TupleTableSlot *old, TupleTableSlot *new, const Bitmapset *atts,
								   Bitmapset **which);
extern void sync_forget_nested(XactEvent event, void *arg);

/* sync_fill.c */
extern int	sync_read_users(Relation auth, const pg_uuid_t *ids, int nids, bool read_only,
							Tuplestorestate *store, pg_uuid_t *found);
extern bool sync_read_one_row(Relation auth, const pg_uuid_t *id, TupleTableSlot *slot);
extern void sync_fill_batches(int64 target_id, const pg_uuid_t *ids, int nids, ArrayType *overwrite,
							  bool known_missing, bool wait, SyncOutcome *outcomes);
extern int64 sync_settle_outcomes(int64 target_id, const SyncOutcome *outcomes, int n, ArrayType *overwrite);

/* sync_check.c */
extern Tuplestorestate *sync_read_all_ids(Relation auth, const Registry *reg, bool deleted, TupleDesc *desc, int64 *count);
extern void sync_ask_counts(void *arg);	/* ContainedFn: Question */
extern void sync_ask_check(void *arg);	/* ContainedFn: Question */
extern TupleDesc sync_answer_desc(void);	/* (id, missing) */
extern ArrayType *sync_text_array_from_literal(const char *literal);
extern LOCKMODE sync_reading_lock(void);
extern bool sync_check_all_users(Target *t, Relation auth, Registry *reg, ArrayType *overwrite, bool read_only,
								 Tuplestorestate *answers, Question *total, Failure **failure);
extern bool sync_find_candidates(Target *t, Relation auth, Registry *reg, ArrayType *overwrite,
								 Tuplestorestate *answers, int64 *ncandidates, Failure **failure);

/* sync_profile.c */
extern bool sync_ensure_rows(const pg_uuid_t *user_id);

/* sync_mapping.c */
extern char *sync_snake_case(const char *s);
extern void sync_infer_mapping(Relation rel, const char *key, MappingDraft *draft);
extern void sync_mapping_error(const char *column, const char *what, const char *hint);
extern void sync_parse_mapping(Jsonb *mapping, MappingDraft *draft);
extern void sync_compile_column(void *arg);	/* ContainedFn: Compile */
extern void sync_append_mapping_json(StringInfo buf, MapColumn *columns, int n);

/* sync_attach.c */
extern void sync_attach_triggers(const char *wait, bool only_if_wanted, bool identity);
extern void sync_verify_triggers(void *arg);	/* ContainedFn: VerifyPart */

/* sync_analyse.c */
extern void sync_check_not_null_columns(Relation rel, const char *key, const MappingDraft *draft);
extern void sync_plan_statements(void *arg);	/* ContainedFn: Work */

/* sync_verify.c */
extern void sync_emit_finding(ReturnSetInfo *rsinfo, const char *severity, const char *area, const char *object,
							  const char *finding, const char *detail, const char *fix);

#pragma GCC visibility pop

#endif							/* INVITE_SYNC_SYNC_INTERNAL_H */
