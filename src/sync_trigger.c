/*-------------------------------------------------------------------------
 *
 * sync_trigger.c
 *	  The triggers on auth.users and auth.identities, and the rooms that are to
 *	  hear of what happens there.
 *
 * They run inside the auth server's statements: nothing here may make one fail,
 * and a login, which changes nothing that a mapping reads, must cost next to
 * nothing. What is done for each row stands in this file.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "module.h"
#include "plan.h"
#include "quarantine.h"
#include "sync_internal.h"

PG_FUNCTION_INFO_V1(sync_on_insert);
PG_FUNCTION_INFO_V1(sync_on_update);
PG_FUNCTION_INFO_V1(sync_on_delete);
PG_FUNCTION_INFO_V1(sync_on_identity);

/* ---------------------------------------------------------------------
 * The rooms that listen
 * ---------------------------------------------------------------------
 */

#define MAX_LISTENERS	8

static const SyncListener *listeners[MAX_LISTENERS];
static int	nlisteners = 0;

void
sync_listen(const SyncListener *listener)
{
	if (nlisteners >= MAX_LISTENERS)
		elog(ERROR, "too many listeners");
	listeners[nlisteners++] = listener;
}

const SyncListener *
sync_listener(int i)
{
	return i < nlisteners ? listeners[i] : NULL;
}

typedef void (*ListenerFn) (const pg_uuid_t *user_ids, int64 nids);

typedef struct ListenerCall
{
	ListenerFn	fn;
	const pg_uuid_t *ids;
	int64		nids;
} ListenerCall;

static void
call_listener(void *arg)
{
	ListenerCall *call = (ListenerCall *) arg;
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	call->fn(call->ids, call->nids);
	AtEOXact_GUC(false, guc_level);
}

bool
sync_tell_gone(const SyncListener *listener, const pg_uuid_t *user_ids, int64 nids)
{
	ListenerCall call = {.fn = listener->users_gone,.ids = user_ids,.nids = nids};
	Failure    *failure;

	if (nids == 0 || sync_run_contained(call_listener, &call, true, &failure))
		return true;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("what belongs to deleted users could not be removed"),
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhint("invite_sync.retry_quarantine() tries again; invite_sync.verify() says what is left."),
			 errhidestmt(true), errhidecontext(true)));
	call.fn = listener->users_missed;
	if (!sync_run_contained(call_listener, &call, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("deleted users could not be noted for a retry"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("invite_sync.retry_quarantine(due_only => false) finds them all the same."),
				 errhidestmt(true), errhidecontext(true)));
	return false;
}

static void
tell_all_gone(const pg_uuid_t *user_ids, int64 nids)
{
	for (int i = 0; i < nlisteners; i++)
		(void) sync_tell_gone(listeners[i], user_ids, nids);
}

/* ---------------------------------------------------------------------
 * What every firing does
 * ---------------------------------------------------------------------
 */

/*
 * Only our own triggers on auth.users sync: elsewhere the rows are not the auth
 * server's. That is said, and nothing is raised, since the table may have been
 * renamed under its triggers. NULL: nothing to do.
 */
static TriggerData *
check_trigger(FunctionCallInfo fcinfo, TriggerEvent event, bool for_row)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	if (!invite_sync_enabled)
		return NULL;
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		(trigdata->tg_event & TRIGGER_EVENT_OPMASK) != event ||
		(TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) != 0) != for_row ||
		(event != TRIGGER_EVENT_DELETE && trigdata->tg_newtable == NULL) ||
		(event != TRIGGER_EVENT_INSERT && trigdata->tg_oldtable == NULL) ||
		RelationGetRelid(trigdata->tg_relation) != caller_auth_users_relid(true))
	{
		const char *trigger = sync_name_for_client(trigdata->tg_trigger->tgname);
		const char *table = sync_name_for_client(RelationGetRelationName(trigdata->tg_relation));

		ereport(WARNING,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on \"%s\" is not as invite_sync makes it, nothing is synced",
						trigger, table),
				 errhint("Let invite_sync.attach() make the triggers on auth.users."),
				 errhidestmt(true), errhidecontext(true)));
		return NULL;
	}
	return trigdata;
}

/* Scratch memory of one firing, gone when it is done. */
static MemoryContext
begin_firing(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "invite_sync sync",
											  ALLOCSET_SMALL_SIZES);

	return MemoryContextSwitchTo(cxt);
}

static void
end_firing(MemoryContext old)
{
	MemoryContext cxt = CurrentMemoryContext;

	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Do OLD and NEW differ in any of these attributes? Images, no operators. */
bool
sync_attributes_differ(TupleTableSlot *old, TupleTableSlot *new, const Bitmapset *atts,
					   Bitmapset **which)
{
	TupleDesc	desc = old->tts_tupleDescriptor;
	bool		result = false;
	int			att = -1;

	while ((att = bms_next_member(atts, att)) >= 0)
	{
		Form_pg_attribute form = TupleDescAttr(desc, att - 1);
		bool		oldnull;
		bool		newnull;
		Datum		oldval = slot_getattr(old, att, &oldnull);
		Datum		newval = slot_getattr(new, att, &newnull);

		if (oldnull != newnull ||
			(!oldnull && !datum_image_eq(oldval, newval, form->attbyval, form->attlen)))
		{
			result = true;
			if (which == NULL)
				break;
			*which = bms_add_member(*which, att);
		}
	}
	return result;
}

/*
 * Statements nested in row triggers of others on auth.users are synced before
 * the statement that they are part of, whose NEW TABLE is history by then. What
 * a nested firing has seen is remembered until the outermost one is done, and
 * read again as it is now.
 */
#define MAX_NESTED		10000

static pg_uuid_t *nested_ids = NULL;
static int	nested_count = 0;
static int	nested_size = 0;
static bool nested_overflow = false;
static uint64 nested_serial = 0;

void
sync_forget_nested(XactEvent event, void *arg)
{
	nested_count = 0;
	nested_overflow = false;
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

static void
remember_nested_id(const pg_uuid_t *id)
{
	if (nested_count >= MAX_NESTED)
	{
		nested_overflow = true;
		return;
	}
	if (nested_count == nested_size)
	{
		nested_size = Max(16, nested_size * 2);
		nested_ids = nested_ids == NULL ?
			MemoryContextAlloc(TopMemoryContext, sizeof(pg_uuid_t) * nested_size) :
			repalloc(nested_ids, sizeof(pg_uuid_t) * nested_size);
	}
	nested_ids[nested_count++] = *id;
}

static void
remember_nested(Tuplestorestate *rows, TupleDesc desc, AttrNumber id_att)
{
	TupleTableSlot *slot;

	nested_serial++;
	if (nested_overflow || tuplestore_tuple_count(rows) + nested_count > MAX_NESTED)
	{
		nested_overflow = true;
		return;
	}
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(rows, 0);
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool		isnull;
		Datum		id = slot_getattr(slot, id_att, &isnull);

		if (!isnull)
			remember_nested_id(DatumGetUUIDP(id));
	}
	ExecDropSingleTupleTableSlot(slot);
}

static bool
is_nested(const pg_uuid_t *id)
{
	if (nested_overflow)
		return true;
	for (int i = 0; i < nested_count; i++)
		if (memcmp(&nested_ids[i], id, UUID_LEN) == 0)
			return true;
	return false;
}

/*
 * The row to sync for one of the statement's: itself, or what a nested
 * statement has made of it. NULL when it is gone.
 */
static TupleTableSlot *
current_row(Relation auth, AttrNumber id_att, TupleTableSlot *row, TupleTableSlot *scratch)
{
	bool		isnull;
	Datum		id = slot_getattr(row, id_att, &isnull);
	pg_uuid_t	user_id;

	if (isnull || (nested_count == 0 && !nested_overflow))
		return row;
	user_id = *DatumGetUUIDP(id);
	if (!is_nested(&user_id))
		return row;
	return sync_read_one_row(auth, &user_id, scratch) ? scratch : NULL;
}

static void
warn_not_synced(const Failure *failure)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("changes of auth.users could not be looked at and are not synced"),
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhint("invite_sync.sync_status() counts what is missing or stale."),
			 errhidestmt(true), errhidecontext(true)));
}

/* ---------------------------------------------------------------------
 * INSERT
 * ---------------------------------------------------------------------
 */

typedef struct InsertFiring
{
	TriggerData *trigdata;
	Registry   *reg;
	ResourceOwner owner;
	Tuplestorestate *rows;
	int64		nrows;
	bool		stale;			/* rows have been changed by nested statements */
} InsertFiring;

/* A spilled copy must be given back, or its file is complained of. */
static void
end_rows(InsertFiring *f)
{
	if (f->rows != NULL && f->rows != f->trigdata->tg_newtable)
		tuplestore_end(f->rows);
	f->rows = NULL;
}

/* New users as nested statements have left them. */
static void
collect_inserted(void *arg)
{
	InsertFiring *f = (InsertFiring *) arg;
	Relation	auth = f->trigdata->tg_relation;
	TupleDesc	desc = RelationGetDescr(auth);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *scratch = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *source = f->trigdata->tg_newtable;
	ResourceOwner save = CurrentResourceOwner;

	CurrentResourceOwner = f->owner;
	f->rows = tuplestore_begin_heap(false, false, work_mem);
	CurrentResourceOwner = save;
	f->nrows = 0;
	tuplestore_select_read_pointer(source, 0);
	tuplestore_rescan(source);
	while (tuplestore_gettupleslot(source, true, false, slot))
	{
		TupleTableSlot *now = current_row(auth, f->reg->id_att, slot, scratch);

		if (now == NULL)
			continue;
		tuplestore_puttupleslot(f->rows, now);
		f->nrows++;
	}
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(scratch);
}

Datum
sync_on_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, TRIGGER_EVENT_INSERT, false);
	Registry   *reg;
	int64		nrows;
	MemoryContext old;
	InsertFiring f;
	int			depth;

	if (trigdata == NULL)
		return PointerGetDatum(NULL);
	nrows = tuplestore_tuple_count(trigdata->tg_newtable);
	if (nrows == 0)
		return PointerGetDatum(NULL);
	reg = sync_registry_for_trigger(trigdata->tg_relation);
	if (reg == NULL || reg->ntargets == 0)
		return PointerGetDatum(NULL);

	plan_hold();
	old = begin_firing();
	memset(&f, 0, sizeof(f));
	f.trigdata = trigdata;
	f.reg = reg;
	f.owner = CurrentResourceOwner;
	f.rows = trigdata->tg_newtable;
	f.nrows = nrows;
	f.stale = nested_count > 0 || nested_overflow;
	depth = trigger_depth();
	if (depth > 1)
		remember_nested(trigdata->tg_newtable, RelationGetDescr(trigdata->tg_relation), reg->id_att);
	for (int i = 0; i < reg->ntargets; i++)
	{
		Work		work;
		uint64		serial = nested_serial;
		Failure    *failure;

		if (!reg->targets[i].enabled)
			continue;
		if (f.stale)
		{
			bool		collected;

			end_rows(&f);
			collected = sync_run_contained(collect_inserted, &f, true, &failure);
			if (!collected)
			{
				end_rows(&f);
				warn_not_synced(failure);
				break;
			}
		}
		f.stale = false;
		memset(&work, 0, sizeof(work));
		work.target = &reg->targets[i];
		work.auth = trigdata->tg_relation;
		work.id_att = reg->id_att;
		work.mode = WORK_INSERT;
		work.may_raise = true;
		work.single = f.rows;
		work.nrows = f.nrows;
		work.made = true;
		sync_apply_work(&work);
		sync_note_failed_addresses(&work);
		/* a row was there: of somebody with this id before, who may be about to be removed */
		if (work.mode == WORK_FILL)
			sync_resolve_successes(&work, NULL);
		sync_quarantine_failures(&work, "insert", reg);
		/* a trigger of this target has written auth.users */
		f.stale = nested_serial != serial;
	}
	end_rows(&f);
	if (depth == 1)
		sync_forget_nested(XACT_EVENT_COMMIT, NULL);
	end_firing(old);
	plan_release();
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------
 * UPDATE
 * ---------------------------------------------------------------------
 */

/* What an UPDATE of auth.users means for one target. */
typedef struct Changes
{
	Tuplestorestate *single;
	Tuplestorestate *pairs;
	int64		nrows;
	Bitmapset  *changed;		/* attributes that changed in every row */
} Changes;

static void
remove_from_targets(Registry *reg, pg_uuid_t *ids, int64 nids)
{
	for (int i = 0; i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		Work		work;

		if (!t->enabled || t->on_delete == ON_DELETE_NONE)
			continue;
		memset(&work, 0, sizeof(work));
		work.target = t;
		work.mode = WORK_REMOVE;
		work.may_raise = true;
		work.ids = ids;
		work.nrows = nids;
		sync_apply_work(&work);
		sync_quarantine_failures(&work, "delete", reg);
	}
}

typedef struct UpdateFiring
{
	TriggerData *trigdata;
	Registry   *reg;
	Changes    *changes;
	pg_uuid_t  *removed;
	int64		nremoved;
	Bitmapset  *id_set;			/* the attribute that is the id */
	ResourceOwner owner;		/* of the copies: they outlive the subtransaction */
} UpdateFiring;

/* Does any row of the statement differ in a column that matters to anybody? */
static bool
anything_changed(TriggerData *trigdata, const Registry *reg)
{
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	bool		result = false;

	tuplestore_select_read_pointer(trigdata->tg_oldtable, 0);
	tuplestore_rescan(trigdata->tg_oldtable);
	tuplestore_select_read_pointer(trigdata->tg_newtable, 0);
	tuplestore_rescan(trigdata->tg_newtable);
	while (!result &&
		   tuplestore_gettupleslot(trigdata->tg_oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(trigdata->tg_newtable, true, false, new_slot))
		result = sync_attributes_differ(old_slot, new_slot, reg->watch_any, NULL);
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
	return result;
}

/* Sort the changed rows out by target. */
static void
collect_changes(void *arg)
{
	UpdateFiring *f = (UpdateFiring *) arg;
	Registry   *reg = f->reg;
	Relation	auth = f->trigdata->tg_relation;
	TupleDesc	desc = RelationGetDescr(auth);
	Tuplestorestate *oldtable = f->trigdata->tg_oldtable;
	Tuplestorestate *newtable = f->trigdata->tg_newtable;
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *scratch = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int64		maxremoved = 0;

	tuplestore_select_read_pointer(oldtable, 0);
	tuplestore_rescan(oldtable);
	tuplestore_select_read_pointer(newtable, 0);
	tuplestore_rescan(newtable);
	while (tuplestore_gettupleslot(oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(newtable, true, false, new_slot))
	{
		bool		was_deleted = false;
		bool		is_deleted = false;
		bool		renamed;	/* another id: another user */
		TupleTableSlot *now;

		if (!sync_attributes_differ(old_slot, new_slot, reg->watch_all, NULL))
			continue;
		now = current_row(auth, reg->id_att, new_slot, scratch);
		if (now == NULL)
			continue;

		if (reg->deleted_att != InvalidAttrNumber)
		{
			was_deleted = !slot_attisnull(old_slot, reg->deleted_att);
			is_deleted = !slot_attisnull(now, reg->deleted_att);
		}
		renamed = sync_attributes_differ(old_slot, now, f->id_set, NULL);
		if (is_deleted || renamed)
		{
			bool		isnull;

			/* a soft delete; the auth server scrambles email and phone in it */
			if (was_deleted && !renamed)
				continue;
			if (f->nremoved == maxremoved)
			{
				maxremoved = Max(16, maxremoved * 2);
				f->removed = f->removed == NULL ?
					palloc(sizeof(pg_uuid_t) * maxremoved) :
					repalloc_huge(f->removed, sizeof(pg_uuid_t) * maxremoved);
			}
			f->removed[f->nremoved++] = *DatumGetUUIDP(slot_getattr(old_slot, reg->id_att, &isnull));
			if (is_deleted)
				continue;
		}

		if (f->changes == NULL)
			f->changes = palloc0(sizeof(Changes) * reg->ntargets);
		for (int i = 0; i < reg->ntargets; i++)
		{
			Changes    *c = &f->changes[i];
			Bitmapset  *which = NULL;

			if (!reg->targets[i].enabled ||
				(!sync_attributes_differ(old_slot, now, reg->targets[i].watch, &which) &&
				 !was_deleted && !renamed))
				continue;
			if (c->single == NULL)
			{
				ResourceOwner save = CurrentResourceOwner;

				CurrentResourceOwner = f->owner;
				c->single = tuplestore_begin_heap(false, false, work_mem);
				c->pairs = tuplestore_begin_heap(false, false, work_mem);
				CurrentResourceOwner = save;
			}
			c->changed = c->nrows == 0 ? which : bms_int_members(c->changed, which);
			c->nrows++;
			tuplestore_puttupleslot(c->single, now);
			tuplestore_puttupleslot(c->pairs, old_slot);
			tuplestore_puttupleslot(c->pairs, now);
		}
	}
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
	ExecDropSingleTupleTableSlot(scratch);
}

/* A spilled copy must be given back, or its file is complained of. */
static void
end_changes(UpdateFiring *f)
{
	for (int i = 0; f->changes != NULL && i < f->reg->ntargets; i++)
	{
		if (f->changes[i].single != NULL)
			tuplestore_end(f->changes[i].single);
		if (f->changes[i].pairs != NULL)
			tuplestore_end(f->changes[i].pairs);
	}
	f->changes = NULL;
}

/* Does the statement name raw_app_meta_data, whatever it then says? */
static bool
writes_copies(TriggerData *trigdata, const Registry *reg)
{
	return nlisteners > 0 && reg->copy_att != InvalidAttrNumber &&
		bms_is_member(reg->copy_att - FirstLowInvalidHeapAttributeNumber, trigdata->tg_updatedcols);
}

typedef struct CopyFiring
{
	TriggerData *trigdata;
	AttrNumber	id_att;
	AttrNumber	copy_att;
	bool		all;
	pg_uuid_t  *ids;
	int64		nids;
} CopyFiring;

/* The users whose copy this statement may have left wrong: a trigger of somebody's may write the column too. */
static void
collect_copies(void *arg)
{
	CopyFiring *f = (CopyFiring *) arg;
	TupleDesc	desc = RelationGetDescr(f->trigdata->tg_relation);
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Bitmapset  *att = bms_make_singleton(f->copy_att);
	int64		max = 0;

	tuplestore_select_read_pointer(f->trigdata->tg_oldtable, 0);
	tuplestore_rescan(f->trigdata->tg_oldtable);
	tuplestore_select_read_pointer(f->trigdata->tg_newtable, 0);
	tuplestore_rescan(f->trigdata->tg_newtable);
	while (tuplestore_gettupleslot(f->trigdata->tg_oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(f->trigdata->tg_newtable, true, false, new_slot))
	{
		bool		isnull;

		if (!f->all && !sync_attributes_differ(old_slot, new_slot, att, NULL))
			continue;
		if (f->nids == max)
		{
			max = Max(16, max * 2);
			f->ids = f->ids == NULL ? palloc(sizeof(pg_uuid_t) * max) :
				repalloc_huge(f->ids, sizeof(pg_uuid_t) * max);
		}
		f->ids[f->nids++] = *DatumGetUUIDP(slot_getattr(new_slot, f->id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
}

/*
 * The auth server writes the whole of raw_app_meta_data back from what it has
 * read a moment ago, and so over a copy that has been written meanwhile. A copy
 * that it leaves as it was may have been wrong before: only the listeners know.
 */
static void
tell_copies_changed(TriggerData *trigdata, const Registry *reg)
{
	CopyFiring	f = {.trigdata = trigdata,.id_att = reg->id_att,.copy_att = reg->copy_att,.all = writes_copies(trigdata, reg)};
	Failure    *failure;

	if (nlisteners == 0 || reg->copy_att == InvalidAttrNumber)
		return;
	if (!sync_run_contained(collect_copies, &f, true, &failure))
	{
		warn_not_synced(failure);
		return;
	}
	for (int i = 0; f.nids > 0 && i < nlisteners; i++)
	{
		ListenerCall call = {.fn = listeners[i]->copies_changed,.ids = f.ids,.nids = f.nids};

		if (call.fn != NULL && !sync_run_contained(call_listener, &call, true, &failure))
			warn_not_synced(failure);
	}
}

/*
 * Walks OLD and NEW side by side. A login changes no column that any mapping
 * reads: then nothing is opened, planned or written.
 */
Datum
sync_on_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, TRIGGER_EVENT_UPDATE, false);
	UpdateFiring f;
	Failure    *failure;
	MemoryContext old;
	int			depth;
	uint64		serial;

	if (trigdata == NULL || tuplestore_tuple_count(trigdata->tg_newtable) == 0)
		return PointerGetDatum(NULL);
	memset(&f, 0, sizeof(f));
	f.trigdata = trigdata;
	f.reg = sync_registry_for_trigger(trigdata->tg_relation);
	if (f.reg == NULL)
	{
		/* what a later road makes up for must not claim by an address of now */
		old = begin_firing();
		sync_note_changed_addresses(trigdata);
		end_firing(old);
		return PointerGetDatum(NULL);
	}
	if (f.reg->ntargets == 0 && nlisteners == 0)
		return PointerGetDatum(NULL);

	old = begin_firing();
	if (!writes_copies(trigdata, f.reg) && !anything_changed(trigdata, f.reg))
	{
		end_firing(old);
		return PointerGetDatum(NULL);
	}

	plan_hold();
	depth = trigger_depth();
	f.owner = CurrentResourceOwner;
	f.id_set = bms_make_singleton(f.reg->id_att);
	if (!sync_run_contained(collect_changes, &f, true, &failure))
	{
		end_changes(&f);
		warn_not_synced(failure);
		f.nremoved = 0;
	}
	if (depth > 1)
		remember_nested(trigdata->tg_newtable, RelationGetDescr(trigdata->tg_relation), f.reg->id_att);
	serial = nested_serial;

	/* before anything that can fail: who comes after it has to know */
	sync_note_changed_addresses(trigdata);
	for (int i = 0; f.changes != NULL && i < f.reg->ntargets; i++)
	{
		Changes    *c;
		Work		work;

		/* a trigger of the target before has written auth.users */
		if (serial != nested_serial)
		{
			serial = nested_serial;
			end_changes(&f);
			f.nremoved = 0;
			f.removed = NULL;
			if (!sync_run_contained(collect_changes, &f, true, &failure))
			{
				end_changes(&f);
				warn_not_synced(failure);
				break;
			}
			if (f.changes == NULL)
				break;
		}
		c = &f.changes[i];
		if (c->nrows == 0)
			continue;
		memset(&work, 0, sizeof(work));
		work.target = &f.reg->targets[i];
		work.auth = trigdata->tg_relation;
		work.id_att = f.reg->id_att;
		work.mode = WORK_FILL;
		work.may_raise = true;
		work.single = c->single;
		work.pairs = c->pairs;
		work.nrows = c->nrows;
		sync_apply_work(&work);
		sync_note_failed_addresses(&work);
		sync_resolve_successes(&work, sync_applied_columns(work.target, RelationGetDescr(work.auth), c->changed));
		sync_quarantine_failures(&work, "update", f.reg);
	}
	end_changes(&f);
	if (f.nremoved > 0)
	{
		quarantine_forget_users(f.removed, f.nremoved);
		tell_all_gone(f.removed, f.nremoved);
		remove_from_targets(f.reg, f.removed, f.nremoved);
	}
	tell_copies_changed(trigdata, f.reg);
	if (depth == 1)
		sync_forget_nested(XACT_EVENT_COMMIT, NULL);
	end_firing(old);
	plan_release();
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------
 * auth.identities
 * ---------------------------------------------------------------------
 */

/* The columns of a target that always follow the identity, as a text[]. */
static ArrayType *
identity_columns(const Target *t)
{
	ArrayBuildState *astate = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	for (int c = 0; c < t->ncolumns; c++)
		if (t->columns[c].policy == POLICY_ALWAYS && sync_reads_identity(&t->columns[c]))
			accumArrayResult(astate, CStringGetTextDatum(t->columns[c].name), false, TEXTOID,
							 CurrentMemoryContext);
	return DatumGetArrayTypeP(makeArrayResult(astate, CurrentMemoryContext));
}

static SavedPlan first_identity_plan = {
	.sql = "SELECT f.user_id FROM (SELECT DISTINCT ON (i.user_id) i.user_id, i.id FROM auth.identities AS i "
	"WHERE i.user_id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY i.user_id, i.created_at, i.id) AS f "
	"WHERE f.id OPERATOR(pg_catalog.=) ANY ($2)",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

typedef struct IdentityFiring
{
	TriggerData *trigdata;
	pg_uuid_t  *users;
	int64		nusers;
} IdentityFiring;

/* The users for whom a new identity is the first one. */
static void
collect_identities(void *arg)
{
	IdentityFiring *f = (IdentityFiring *) arg;
	TupleDesc	desc = RelationGetDescr(f->trigdata->tg_relation);
	int			user_att = SPI_fnumber(desc, "user_id");
	int			id_att = SPI_fnumber(desc, "id");
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *rows = f->trigdata->tg_newtable;
	int64		max = tuplestore_tuple_count(rows);
	pg_uuid_t  *users = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * max);
	pg_uuid_t  *ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * max);
	int64		n = 0;
	Datum		args[2];
	Scope		scope;
	MemoryContext cxt = CurrentMemoryContext;

	if (user_att <= 0 || id_att <= 0 || TupleDescAttr(desc, user_att - 1)->atttypid != UUIDOID ||
		TupleDescAttr(desc, id_att - 1)->atttypid != UUIDOID)
		return;
	tuplestore_select_read_pointer(rows, 0);
	tuplestore_rescan(rows);
	while (n < max && tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool		isnull;

		users[n] = *DatumGetUUIDP(slot_getattr(slot, user_att, &isnull));
		ids[n++] = *DatumGetUUIDP(slot_getattr(slot, id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(slot);

	args[0] = plan_uuid_array(users, n);
	args[1] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&first_identity_plan, args, NULL, false, 0);
	f->users = MemoryContextAllocHuge(cxt, sizeof(pg_uuid_t) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		f->users[f->nusers++] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i],
															 SPI_tuptable->tupdesc, 1, &isnull));
	}
	scope_leave(&scope);
	SPI_finish();
}

typedef struct IdentityFill
{
	const IdentityFiring *firing;
	int64		target_id;
	ArrayType  *columns;
	SyncOutcome *outcomes;
} IdentityFill;

static void
fill_identities(void *arg)
{
	IdentityFill *fill = (IdentityFill *) arg;
	int			guc_level = NewGUCNestLevel();

	sync_bound_lock_wait();
	sync_fill_users(fill->target_id, fill->firing->users, fill->firing->nusers, fill->columns,
					true, fill->outcomes);
	(void) sync_settle_outcomes(fill->target_id, fill->outcomes, fill->firing->nusers, fill->columns);
	AtEOXact_GUC(false, guc_level);
}

/*
 * The user's row comes before its identity: when the first one arrives, what
 * is mapped from it is set. By the road of retries, which reads auth.users and
 * the identities as they are now.
 */
Datum
sync_on_identity(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Oid			identities;
	Registry   *reg;
	Relation	auth;
	IdentityFiring f;
	Failure    *failure;
	MemoryContext old;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as a trigger")));
	identities = get_relname_relid("identities", get_namespace_oid("auth", true));
	if (!invite_sync_enabled || trigdata->tg_newtable == NULL ||
		RelationGetRelid(trigdata->tg_relation) != identities ||
		tuplestore_tuple_count(trigdata->tg_newtable) == 0 ||
		!OidIsValid(caller_auth_users_relid(true)))
		return PointerGetDatum(NULL);

	old = begin_firing();
	plan_hold();
	auth = sync_open_auth_users(AccessShareLock);
	reg = sync_registry_for_trigger(auth);
	memset(&f, 0, sizeof(f));
	f.trigdata = trigdata;
	for (int i = 0; reg != NULL && i < reg->ntargets; i++)
	{
		Target	   *t = &reg->targets[i];
		IdentityFill fill;

		if (!t->enabled || !t->uses_identity)
			continue;
		if (f.users == NULL && !sync_run_contained(collect_identities, &f, true, &failure))
		{
			warn_not_synced(failure);
			break;
		}
		if (f.nusers == 0)
			break;
		fill.firing = &f;
		fill.target_id = t->id;
		fill.columns = identity_columns(t);
		fill.outcomes = palloc_extended(sizeof(SyncOutcome) * f.nusers, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		if (!sync_run_contained(fill_identities, &fill, true, &failure))
			warn_not_synced(failure);
	}
	table_close(auth, AccessShareLock);
	plan_release();
	end_firing(old);
	return PointerGetDatum(NULL);
}

/* ---------------------------------------------------------------------
 * DELETE
 * ---------------------------------------------------------------------
 */

/*
 * A row trigger, and AFTER, so that it sorts by its name before the foreign
 * keys' own triggers and a target without CASCADE is emptied before it is
 * looked at. The first row's event does the work for the whole statement.
 */
Datum
sync_on_delete(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, TRIGGER_EVENT_DELETE, true);
	Tuplestorestate *oldtable;
	TupleTableSlot *slot;
	Registry   *reg;
	MemoryContext old;
	pg_uuid_t  *ids;
	int64		nids = 0;
	int64		count;
	bool		isnull;
	Datum		id;
	bool		first;
	int			depth;

	if (trigdata == NULL)
		return PointerGetDatum(NULL);
	oldtable = trigdata->tg_oldtable;
	reg = sync_registry_for_trigger(trigdata->tg_relation);
	if (reg == NULL)
		return PointerGetDatum(NULL);

	old = begin_firing();
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigdata->tg_relation), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(oldtable, 0);
	tuplestore_rescan(oldtable);
	first = tuplestore_gettupleslot(oldtable, true, false, slot);
	if (first)
	{
		id = slot_getattr(trigdata->tg_trigslot, reg->id_att, &isnull);
		first = !isnull &&
			memcmp(DatumGetUUIDP(id),
				   DatumGetUUIDP(slot_getattr(slot, reg->id_att, &isnull)), UUID_LEN) == 0;
	}
	if (!first)
	{
		ExecDropSingleTupleTableSlot(slot);
		end_firing(old);
		return PointerGetDatum(NULL);
	}

	plan_hold();
	count = tuplestore_tuple_count(oldtable);
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * count);
	do
	{
		ids[nids++] = *DatumGetUUIDP(slot_getattr(slot, reg->id_att, &isnull));
	} while (nids < count && tuplestore_gettupleslot(oldtable, true, false, slot));
	ExecDropSingleTupleTableSlot(slot);

	depth = trigger_depth();
	if (depth > 1)
	{
		nested_serial++;
		for (int64 i = 0; i < nids && !nested_overflow; i++)
			remember_nested_id(&ids[i]);
	}
	quarantine_forget_users(ids, nids);
	sync_forget_addresses(ids, nids);
	tell_all_gone(ids, nids);
	remove_from_targets(reg, ids, nids);
	if (depth == 1)
		sync_forget_nested(XACT_EVENT_COMMIT, NULL);
	end_firing(old);
	plan_release();
	return PointerGetDatum(NULL);
}
