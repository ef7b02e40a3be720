/*-------------------------------------------------------------------------
 *
 * sync_link.c
 *	  link_by: rows that were made for people before they signed up, and who may
 *	  claim them by the address of today.
 *
 * A change of address never claims, whichever road comes after it. What tells:
 * OLD and NEW of the UPDATE; known_address, where every such UPDATE is noted
 * and, for who could not be brought into a target with link_by, a digest of
 * the address that they had then; and, of users that are not known there,
 * email_change_sent_at, which the auth server sets when a change is asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "event.h"
#include "plan.h"
#include "sync_internal.h"

/* ---------------------------------------------------------------------
 * What is known of an address
 * ---------------------------------------------------------------------
 */

static SavedPlan verified_plan = {
	.sql = "SELECT u.id FROM " CALLER_AUTH_USERS " AS u WHERE u.id OPERATOR(pg_catalog.=) ANY ($1) AND u.email IS NOT NULL "
	"AND u.email_confirmed_at IS NOT NULL AND u.deleted_at IS NULL "
	"AND (u.banned_until IS NULL OR u.banned_until OPERATOR(pg_catalog.<=) pg_catalog.now()) "
	"AND NOT u.is_anonymous "
	"AND (NOT u.is_sso_user OR EXISTS (SELECT 1 FROM auth.identities AS i JOIN auth.sso_domains AS d "
	"ON i.provider OPERATOR(pg_catalog.=) ('sso:' OPERATOR(pg_catalog.||) d.sso_provider_id::pg_catalog.text) "
	"WHERE i.user_id OPERATOR(pg_catalog.=) u.id AND pg_catalog.lower(d.domain) OPERATOR(pg_catalog.=) "
	"pg_catalog.lower(pg_catalog.split_part(u.email::pg_catalog.text, '@', 2))))",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* Of these users, those whose address is proved to be theirs. */
static ArrayType *
verified_users(const pg_uuid_t *ids, int64 n)
{
	Scope		scope;
	Datum		args[1];
	pg_uuid_t  *found;
	ArrayType  *result;
	MemoryContext cxt = CurrentMemoryContext;

	args[0] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&verified_plan, args, NULL, false, 0);
	found = MemoryContextAllocHuge(cxt, sizeof(pg_uuid_t) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		found[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	n = SPI_processed;
	scope_leave(&scope);
	SPI_finish();
	result = DatumGetArrayTypeP(plan_uuid_array(found, n));
	pfree(found);
	return result;
}

/*
 * SHA-256 of an address, folded as FOLD of sync_target.c does: an address itself
 * stands nowhere of ours. Made here, since the arguments of a statement can get
 * into the log.
 */
static Datum
address_digest(TupleTableSlot *slot, AttrNumber att)
{
	Datum		result;
	Datum		folded;
	char	   *text = NULL;
	char	   *address;
	char	   *utf8;
	int			len;
	bool		isnull;
	Datum		value = slot_getattr(slot, att, &isnull);

	if (!isnull)
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(TupleDescAttr(slot->tts_tupleDescriptor, att - 1)->atttypid, &output, &varlena);
		text = OidOutputFunctionCall(output, value);
	}
	if (text == NULL)
		text = pstrdup("");
	address = text;
	while (*address == ' ')
		address++;
	len = strlen(address);
	while (len > 0 && address[len - 1] == ' ')
		len--;
	address[len] = '\0';
	for (char *c = address; *c != '\0'; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	/* the same in a copy of the database that has another encoding */
	utf8 = pg_server_to_any(address, len, PG_UTF8);
	folded = CStringGetTextDatum(utf8);
	result = DirectFunctionCall1(sha256_bytea, folded);
	/* there may be a million of them in a batch */
	pfree(DatumGetPointer(folded));
	if (utf8 != address)
		pfree(utf8);
	pfree(text);
	return result;
}

/* Users with what is to be noted of their address, or compared with it. */
typedef struct Addresses
{
	int64		n;
	Datum	   *ids;
	Datum	   *digests;
	bool	   *changed;		/* as nulls of digests: known to have changed */
	Datum	   *former;			/* for users who get another id: the one before */
} Addresses;

static void
make_addresses(Addresses *a, int64 max)
{
	a->n = 0;
	a->ids = palloc_extended(sizeof(Datum) * Max(max, 1), MCXT_ALLOC_HUGE);
	a->digests = palloc_extended(sizeof(Datum) * Max(max, 1), MCXT_ALLOC_HUGE);
	a->changed = palloc_extended(sizeof(bool) * Max(max, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	a->former = NULL;
}

static Datum
copy_id(TupleTableSlot *slot, AttrNumber att)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	bool		isnull;

	*id = *DatumGetUUIDP(slot_getattr(slot, att, &isnull));
	return UUIDPGetDatum(id);
}

/*
 * Was a change of address asked for? By the auth server's account; whether it
 * came to it is not told. Who is made just now has changed nothing.
 */
static bool
change_asked_for(const Work *work, TupleTableSlot *slot)
{
	int			att = SPI_fnumber(RelationGetDescr(work->auth), "email_change_sent_at");

	return !work->made && att > 0 && !slot_attisnull(slot, att);
}

static SavedPlan note_failed_plan = {
	/* the first address counts, and a change that is noted stays */
	.sql = "INSERT INTO invite_sync.known_address (user_id, digest) "
	"SELECT i.user_id, i.digest FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS i (user_id, digest) "
	"ORDER BY i.user_id ON CONFLICT (user_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, BYTEAARRAYOID}
};

static SavedPlan note_changed_plan = {
	/* an id that takes the place of another: what was known of that one goes on */
	.sql = "INSERT INTO invite_sync.known_address AS k (user_id, digest) "
	"SELECT i.user_id, CASE WHEN NOT i.changed THEN a.digest END "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS i (user_id, former, changed) "
	"LEFT JOIN invite_sync.known_address AS a ON a.user_id OPERATOR(pg_catalog.=) i.former "
	"WHERE i.changed OR a.user_id IS NOT NULL ORDER BY i.user_id "
	"ON CONFLICT (user_id) DO UPDATE SET digest = NULL, noted_at = excluded.noted_at WHERE k.digest IS NOT NULL",
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID, BOOLARRAYOID}
};

static SavedPlan forget_former_plan = {
	.sql = "DELETE FROM invite_sync.known_address AS k WHERE k.user_id OPERATOR(pg_catalog.=) ANY (ARRAY("
	"SELECT f.id FROM pg_catalog.unnest($2) AS f (id) EXCEPT SELECT i.id FROM pg_catalog.unnest($1) AS i (id)))",
	.nargs = 3,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID, BOOLARRAYOID}
};

static SavedPlan forget_addresses_plan = {
	.sql = "DELETE FROM invite_sync.known_address AS k WHERE k.user_id OPERATOR(pg_catalog.=) ANY ($1)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan known_plan = {
	/* LATERAL and LIMIT: each is looked up, whatever the statistics were */
	.sql = "SELECT i.user_id, k.same FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS i (user_id, digest) "
	"CROSS JOIN LATERAL (SELECT coalesce(a.digest OPERATOR(pg_catalog.=) i.digest, false) AS same "
	"FROM invite_sync.known_address AS a WHERE a.user_id OPERATOR(pg_catalog.=) i.user_id LIMIT 1) AS k",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, BYTEAARRAYOID}
};

static Datum
bool_array(const bool *values, int64 n)
{
	Datum	   *elems = palloc_extended(sizeof(Datum) * Max(n, 1), MCXT_ALLOC_HUGE);

	for (int64 i = 0; i < n; i++)
		elems[i] = BoolGetDatum(values[i]);
	return plan_array(elems, NULL, n, BOOLOID);
}

static void
write_addresses(void *arg)
{
	Addresses  *a = (Addresses *) arg;
	int			guc_level = NewGUCNestLevel();
	Scope		scope;
	Datum		args[3];

	args[0] = plan_array(a->ids, NULL, a->n, UUIDOID);
	if (a->former != NULL)
	{
		args[1] = plan_array(a->former, NULL, a->n, UUIDOID);
		args[2] = bool_array(a->changed, a->n);
	}
	else
		args[1] = plan_array(a->digests, a->changed, a->n, BYTEAOID);
	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(a->former != NULL ? &note_changed_plan : &note_failed_plan, args, NULL, false, 0);
	if (a->former != NULL)
		plan_execute(&forget_former_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

static void
warn_not_noted(const Failure *failure)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("addresses of users could not be noted: a change of them may be missed by targets with link_by"),
			 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
			 errhint("Look at what holds the table invite_sync.known_address; see also invite_sync.verify()."),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * Who could not be brought into a target with link_by may claim later, but only
 * by the address of today, or in an UPDATE by the one before it.
 */
static void
collect_failed_addresses(void *arg)
{
	Work	   *work = (Work *) arg;
	TupleDesc	desc = RelationGetDescr(work->auth);
	int			email_att = SPI_fnumber(desc, "email");
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Addresses	a;

	make_addresses(&a, email_att > 0 ? work->nrows : 0);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	if (work->pairs != NULL)
	{
		tuplestore_select_read_pointer(work->pairs, 0);
		tuplestore_rescan(work->pairs);
	}
	for (int64 i = 0; email_att > 0 && i < work->nrows; i++)
	{
		if (!tuplestore_gettupleslot(work->single, true, false, slot))
			break;
		if (work->pairs != NULL)
		{
			(void) tuplestore_gettupleslot(work->pairs, true, true, old);
			(void) tuplestore_skiptuples(work->pairs, 1, true);
		}
		if (work->failures[i] == NULL)
			continue;
		a.ids[a.n] = UUIDPGetDatum(&work->ids[i]);
		a.changed[a.n] = change_asked_for(work, slot);
		a.digests[a.n] = address_digest(work->pairs != NULL ? old : slot, email_att);
		a.n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(old);
	if (a.n > 0)
		write_addresses(&a);
}

void
sync_note_failed_addresses(Work *work)
{
	Failure    *failure;

	if (work->target->link_by != NULL && work->mode != WORK_REMOVE && work->nfailed > 0 &&
		!sync_run_contained(collect_failed_addresses, work, true, &failure))
		warn_not_noted(failure);
}

/*
 * Every change of address that an UPDATE makes, whatever targets there are now,
 * and also while the registry cannot be read.
 */
static void
note_changed(void *arg)
{
	TriggerData *trigdata = (TriggerData *) arg;
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	int			email_att = SPI_fnumber(desc, "email");
	int			id_att = SPI_fnumber(desc, "id");
	Tuplestorestate *oldtable = trigdata->tg_oldtable;
	Tuplestorestate *newtable = trigdata->tg_newtable;
	TupleTableSlot *old_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new_slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Bitmapset  *email;
	Bitmapset  *id;
	int64		max = 0;
	Addresses	a;

	if (email_att <= 0 || id_att <= 0 || TupleDescAttr(desc, id_att - 1)->atttypid != UUIDOID)
		return;
	email = bms_make_singleton(email_att);
	id = bms_make_singleton(id_att);
	make_addresses(&a, max);
	tuplestore_select_read_pointer(oldtable, 0);
	tuplestore_rescan(oldtable);
	tuplestore_select_read_pointer(newtable, 0);
	tuplestore_rescan(newtable);
	while (tuplestore_gettupleslot(oldtable, true, false, old_slot) &&
		   tuplestore_gettupleslot(newtable, true, false, new_slot))
	{
		bool		changed = sync_attributes_differ(old_slot, new_slot, email, NULL);

		if (!changed && !sync_attributes_differ(old_slot, new_slot, id, NULL))
			continue;
		if (a.n == max)
		{
			max = Max(16, max * 2);
			a.ids = repalloc_huge(a.ids, sizeof(Datum) * max);
			a.changed = repalloc_huge(a.changed, sizeof(bool) * max);
			a.former = a.former == NULL ? palloc(sizeof(Datum) * max) :
				repalloc_huge(a.former, sizeof(Datum) * max);
		}
		a.ids[a.n] = copy_id(new_slot, id_att);
		a.former[a.n] = copy_id(old_slot, id_att);
		a.changed[a.n] = changed;
		a.n++;
	}
	ExecDropSingleTupleTableSlot(old_slot);
	ExecDropSingleTupleTableSlot(new_slot);
	if (a.n > 0)
		write_addresses(&a);
}

void
sync_note_changed_addresses(TriggerData *trigdata)
{
	Failure    *failure;

	if (!sync_run_contained(note_changed, trigdata, true, &failure))
		warn_not_noted(failure);
}

typedef struct GoneAddresses
{
	const pg_uuid_t *ids;
	int64		nids;
} GoneAddresses;

static void
delete_addresses(void *arg)
{
	GoneAddresses *gone = (GoneAddresses *) arg;
	int			guc_level = NewGUCNestLevel();
	Datum		args[1];
	Scope		scope;

	args[0] = plan_uuid_array(gone->ids, gone->nids);
	sync_bound_lock_wait();
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(&forget_addresses_plan));
	plan_execute(&forget_addresses_plan, args, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Nothing is kept of who is gone; a user made with that id is another one. */
void
sync_forget_addresses(const pg_uuid_t *ids, int64 nids)
{
	GoneAddresses gone = {.ids = ids,.nids = nids};
	Failure    *failure;

	if (nids > 0 && !sync_run_contained(delete_addresses, &gone, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("what was noted of the addresses of deleted users could not be removed"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("invite_sync.retry_quarantine(due_only => false) removes it."),
				 errhidestmt(true), errhidecontext(true)));
}

static SavedPlan noted_plan = {
	.sql = "SELECT k.user_id FROM invite_sync.known_address AS k"
};

static SavedPlan noted_gone_plan = {
	.sql = "SELECT i.id FROM pg_catalog.unnest($1) AS i (id) WHERE NOT EXISTS "
	"(SELECT FROM auth.users AS u WHERE u.id OPERATOR(pg_catalog.=) i.id)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static pg_uuid_t *
found_ids(MemoryContext cxt, int64 *n)
{
	pg_uuid_t  *ids = MemoryContextAllocHuge(cxt, sizeof(pg_uuid_t) * (SPI_processed + 1));

	*n = SPI_processed;
	for (int64 i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	return ids;
}

static void
delete_gone_addresses(void *arg)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum		args[1];
	pg_uuid_t  *ids;
	int64		n;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&noted_plan, NULL, NULL, false, 0);
	ids = found_ids(cxt, &n);
	scope_leave(&scope);
	SPI_finish();
	if (n == 0)
		return;
	args[0] = plan_uuid_array(ids, n);
	SPI_connect();
	scope_enter_auth(&scope);
	plan_execute(&noted_gone_plan, args, NULL, false, 0);
	ids = found_ids(cxt, &n);
	scope_leave(&scope);
	SPI_finish();
	sync_forget_addresses(ids, n);
}

void
sync_forget_gone_addresses(void)
{
	Failure    *failure;

	if (!sync_run_contained(delete_gone_addresses, NULL, true, &failure))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("what was noted of the addresses of deleted users could not be looked at"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("Do library and extension have the same version? SELECT * FROM invite_sync.verify();")));
}

/* ---------------------------------------------------------------------
 * Whose address has changed, and who may claim
 * ---------------------------------------------------------------------
 */

/*
 * Whose address has changed in this UPDATE.
 */
static void
address_changed(Work *work, const pg_uuid_t **changed, int64 *nchanged)
{
	TupleDesc	desc = RelationGetDescr(work->auth);
	int			att = SPI_fnumber(desc, "email");
	Bitmapset  *email;
	TupleTableSlot *old;
	TupleTableSlot *new;
	pg_uuid_t  *ids;

	*changed = NULL;
	*nchanged = 0;
	if (work->pairs == NULL || att <= 0)
		return;
	email = bms_make_singleton(att);
	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * Max(work->nrows, 1));
	old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	new = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(work->pairs, 0);
	tuplestore_rescan(work->pairs);
	while (tuplestore_gettupleslot(work->pairs, true, true, old) &&
		   tuplestore_gettupleslot(work->pairs, true, true, new))
	{
		bool		isnull;

		if (sync_attributes_differ(old, new, email, NULL))
			ids[(*nchanged)++] = *DatumGetUUIDP(slot_getattr(new, work->id_att, &isnull));
	}
	ExecDropSingleTupleTableSlot(old);
	ExecDropSingleTupleTableSlot(new);
	*changed = ids;
}

/*
 * Of this batch, those whose address has changed before, as far as can be
 * known. Adds them to what address_changed() has found, and sorts.
 */
static void
address_has_changed(Work *work, const pg_uuid_t **changed, int64 *nchanged)
{
	TupleDesc	desc = RelationGetDescr(work->auth);
	int			email_att = SPI_fnumber(desc, "email");
	TupleTableSlot *slot;
	pg_uuid_t  *ids;
	pg_uuid_t  *known;
	int64		nknown;
	int64		n = *nchanged;
	Addresses	a;
	Datum		args[2];
	Scope		scope;

	ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * (n + 2 * work->nrows + 1));
	if (n > 0)
		memcpy(ids, *changed, sizeof(pg_uuid_t) * n);
	make_addresses(&a, work->nrows);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(work->single, 0);
	tuplestore_rescan(work->single);
	while (email_att > 0 && a.n < work->nrows &&
		   tuplestore_gettupleslot(work->single, true, false, slot))
	{
		a.ids[a.n] = UUIDPGetDatum(&work->ids[a.n]);
		a.digests[a.n] = address_digest(slot, email_att);
		a.changed[a.n] = change_asked_for(work, slot);
		a.n++;
	}
	ExecDropSingleTupleTableSlot(slot);

	args[0] = plan_array(a.ids, NULL, a.n, UUIDOID);
	args[1] = plan_array(a.digests, NULL, a.n, BYTEAOID);
	known = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * (a.n + 1));
	SPI_connect();
	scope_enter_own(&scope);
	plan_by_index(plan_get(&known_plan));
	plan_execute(&known_plan, args, NULL, false, 0);
	nknown = SPI_processed;
	for (int64 i = 0; i < nknown; i++)
	{
		bool		isnull;

		known[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull)))
			ids[n++] = known[i];
	}
	scope_leave(&scope);
	SPI_finish();
	qsort(known, nknown, sizeof(pg_uuid_t), plan_compare_uuids);
	for (int64 i = 0; i < a.n; i++)
		if (a.changed[i] &&
			bsearch(&work->ids[i], known, nknown, sizeof(pg_uuid_t), plan_compare_uuids) == NULL)
			ids[n++] = work->ids[i];
	qsort(ids, n, sizeof(pg_uuid_t), plan_compare_uuids);
	*changed = ids;
	*nchanged = n;
}

/*
 * link_by: rows that were made for people before they signed up. Claims what
 * can be claimed, and raises where somebody has to prove an address first:
 * whoever they are, they get no second row meanwhile. Claims are events, with
 * the ids of both.
 */
void
sync_claim_rows(Work *work)
{
	Target	   *t = work->target;
	EphemeralNamedRelationData enr;
	const pg_uuid_t *changed;
	int64		nchanged;
	ArrayType  *verified;
	Datum		args[2];
	Scope		scope;
	int			rc;
	uint64		nclaimed;
	char	  **claimed;
	bool		pending;
	bool		ambiguous = false;
	MemoryContext cxt = CurrentMemoryContext;

	sync_need_ids(work);
	address_changed(work, &changed, &nchanged);
	address_has_changed(work, &changed, &nchanged);
	if (nchanged > 0)
	{
		pg_uuid_t  *rest = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * work->nrows);
		int64		n = 0;

		for (int64 i = 0; i < work->nrows; i++)
			if (bsearch(&work->ids[i], changed, nchanged, sizeof(pg_uuid_t), plan_compare_uuids) == NULL)
				rest[n++] = work->ids[i];
		verified = verified_users(rest, n);
	}
	else
		verified = verified_users(work->ids, work->nrows);
	args[0] = PointerGetDatum(verified);
	args[1] = plan_uuid_array(changed, nchanged);

	SPI_connect();
	scope_enter_target(&scope, t->owner, t->search_path);
	sync_register_source(&enr, work->auth, work->single);
	if (t->claim_plan == NULL)
		t->claim_plan = sync_make_claim(t->claim_sql, 1, RelationGetDescr(work->auth));
	if (t->pending_plan == NULL)
		t->pending_plan = sync_make_claim(t->pending_sql, 2, RelationGetDescr(work->auth));
	rc = SPI_execute_plan(t->claim_plan, args, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	nclaimed = SPI_processed;
	claimed = MemoryContextAlloc(cxt, sizeof(char *) * (2 * nclaimed + 1));
	for (uint64 i = 0; i < nclaimed; i++)
		for (int c = 0; c < 2; c++)
		{
			char	   *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1);

			claimed[2 * i + c] = MemoryContextStrdup(cxt, value ? value : "");
		}
	rc = SPI_execute_plan(t->pending_plan, args, NULL, false, 1);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	pending = SPI_processed > 0;
	if (pending)
	{
		bool		isnull;

		ambiguous = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_unregister_relation(SOURCE_NAME);
	scope_leave(&scope);
	SPI_finish();

	if (pending)
		ereport(ERROR,
				(errcode(ambiguous ? ERRCODE_CARDINALITY_VIOLATION : ERRCODE_LINK_PENDING),
				 ambiguous ?
				 errmsg("link_ambiguous: more than one row without a user has this address") :
				 errmsg("link_pending: a row waits for this address to be verified")));
	for (uint64 i = 0; i < nclaimed; i++)
	{
		StringInfoData data;

		initStringInfo(&data);
		appendStringInfoString(&data, "{\"user_id\": ");
		escape_json(&data, claimed[2 * i]);
		appendStringInfoChar(&data, '}');
		(void) event_append("system", "sync.row_claimed", NULL, NULL, sync_target_display(t), claimed[2 * i + 1],
							DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(data.data))));
	}
}
