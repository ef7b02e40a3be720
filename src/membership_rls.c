/*-------------------------------------------------------------------------
 *
 * membership_rls.c
 *	  What policies ask once a row: is the caller a member, may they.
 *
 * The first question of a statement reads everything that the caller is and
 * may, and keeps it in a table of this backend; all further ones, from wherever
 * in the statement they come, are a look into that table. It is kept in the
 * backend and not at the call site, because a call site inside somebody's
 * definer function is a new one for every row.
 *
 * An answer holds only for what it was given for: these claims, this role, this
 * subtransaction, and a snapshot that sees the very same. All of that is
 * compared at every question, by content: neither a snapshot's address nor the
 * command counter alone tells (the counter stays where it is when a savepoint
 * is rolled back).
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "caller.h"
#include "membership.h"
#include "organization.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(membership_current_user_id);
PG_FUNCTION_INFO_V1(membership_current_claims);
PG_FUNCTION_INFO_V1(membership_is_member);
PG_FUNCTION_INFO_V1(membership_has_role);
PG_FUNCTION_INFO_V1(membership_has_any_role);
PG_FUNCTION_INFO_V1(membership_has_permission);
PG_FUNCTION_INFO_V1(membership_has_any_permission);
PG_FUNCTION_INFO_V1(membership_member_organizations);
PG_FUNCTION_INFO_V1(membership_organizations_with_permission);
PG_FUNCTION_INFO_V1(membership_whoami);
PG_FUNCTION_INFO_V1(membership_platform_role);
PG_FUNCTION_INFO_V1(membership_loads);

/* A service may ask for as many organizations as it likes; remember this many. */
#define MAX_KNOWN	100000

/* The table of so many organizations is kept sparse: the processor's cache still holds it, and they are found at once. */
#define MAX_SPARSE	4096

/* ---------------------------------------------------------------------
 * What is kept
 * ---------------------------------------------------------------------
 */

/* A role that the caller has somewhere. */
typedef struct HeldRole
{
	pg_uuid_t	id;
	char	   *name;			/* NULL: one that must not pass for its namesake */
	int			nperms;
	text	  **perms;
} HeldRole;

/* An organization is reached by one membership or by several. */
typedef struct Via
{
	int			role;			/* index into roles */
	struct Via *next;
} Via;

/* A uuid in two registers: compared and hashed in a few instructions. */
typedef struct Id
{
	uint64		half[2];
} Id;

typedef struct Reached
{
	Id			organization_id;
	Via		   *via;
	char		status;			/* of simplehash */
	bool		member;			/* for a service: exists */
} Reached;

static inline Id
make_id(const pg_uuid_t *uuid)
{
	Id			id;

	memcpy(&id, uuid->data, sizeof(id));
	return id;
}

/* The highest bits of the sum depend on all others, and simplehash takes the lowest. */
static inline uint32
hash_id(Id id)
{
	return (uint32) pg_bswap64(id.half[0] * UINT64CONST(0x9e3779b97f4a7c15) + id.half[1] * UINT64CONST(0xff51afd7ed558ccd));
}

#define SH_PREFIX reached
#define SH_ELEMENT_TYPE Reached
#define SH_KEY_TYPE Id
#define SH_KEY organization_id
#define SH_HASH_KEY(tb, key) hash_id(key)
#define SH_EQUAL(tb, a, b) ((a).half[0] == (b).half[0] && (a).half[1] == (b).half[1])
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Questions about names, and which of the caller's roles answer them with yes. */
typedef enum Question
{
	ASK_ROLE,
	ASK_ANY_ROLE,
	ASK_PERMISSION,
	ASK_ANY_PERMISSION
} Question;

typedef struct Answered
{
	Question	question;
	int			len;			/* of asked; 0: not in use */
	char	   *asked;			/* the text or array as it was passed */
	bool	   *yes;			/* one a role */
} Answered;

#define N_ANSWERED	8

typedef struct Answers
{
	bool		valid;			/* set last */

	/* what they were given for */
	uint64		claims_version;
	Oid			role;
	Oid			outer_role;
	LocalTransactionId lxid;
	SubTransactionId subid;
	TransactionId xmin;
	TransactionId xmax;
	uint32		xcnt;
	int32		subxcnt;
	bool		suboverflowed;
	bool		takenDuringRecovery;
	CommandId	curcid;
	TransactionId *xip;
	TransactionId *subxip;		/* NULL where the snapshot has dropped them */

	/* the answers */
	bool		service;
	bool		is_user;		/* there, not banned, perhaps anonymous */
	bool		anonymous;
	bool		administrator;
	Caller		caller;
	char	   *platform_role;
	int			nroles;
	HeldRole   *roles;
	reached_hash *reached;
	Answered	answered[N_ANSWERED];
	int			next_answered;
} Answers;

static Answers answers;
static MemoryContext answers_context = NULL;
static uint64 answers_loads = 0;

/* While we read, nothing that we read may ask us (a FORCE of somebody's would make it). */
static bool answers_loading = false;

/* The transactions in progress; as many of them as before. */
static pg_noinline bool
same_in_progress(Snapshot s)
{
	return (answers.subxip != NULL) == (s->subxip != NULL && s->subxcnt > 0) &&
		(s->xcnt == 0 || memcmp(answers.xip, s->xip, sizeof(TransactionId) * s->xcnt) == 0) &&
		(answers.subxip == NULL || memcmp(answers.subxip, s->subxip, sizeof(TransactionId) * s->subxcnt) == 0);
}

/*
 * Asked for each row, and what costs is calling the server: each function once,
 * and first, so that nothing has to be kept in registers meanwhile.
 */
static pg_attribute_always_inline bool
answers_hold(void)
{
	Snapshot	s;

	if (!answers.valid ||
		GetCurrentSubTransactionId() != answers.subid ||
		GetOuterUserId() != answers.outer_role ||
		(InSecurityRestrictedOperation() ? caller_role() : answers.outer_role) != answers.role ||
		caller_claims_version() != answers.claims_version ||
		compat_my_lxid() != answers.lxid ||
		!ActiveSnapshotSet())
		return false;
	s = GetActiveSnapshot();
	return s->curcid == answers.curcid &&
		s->xmin == answers.xmin &&
		s->xmax == answers.xmax &&
		s->xcnt == answers.xcnt &&
		s->subxcnt == answers.subxcnt &&
		s->suboverflowed == answers.suboverflowed &&
		s->takenDuringRecovery == answers.takenDuringRecovery &&
		((s->xcnt == 0 && s->subxcnt <= 0) || same_in_progress(s));
}

/* Write down what the answers will be given for; in answers_context. */
static void
remember_question(void)
{
	Snapshot	s = GetActiveSnapshot();

	answers.claims_version = caller_claims_version();
	answers.role = caller_role();
	answers.outer_role = GetOuterUserId();
	answers.lxid = compat_my_lxid();
	answers.subid = GetCurrentSubTransactionId();
	answers.xmin = s->xmin;
	answers.xmax = s->xmax;
	answers.xcnt = s->xcnt;
	answers.subxcnt = s->subxcnt;
	answers.suboverflowed = s->suboverflowed;
	answers.takenDuringRecovery = s->takenDuringRecovery;
	answers.curcid = s->curcid;
	if (s->xcnt > 0)
	{
		answers.xip = palloc(sizeof(TransactionId) * s->xcnt);
		memcpy(answers.xip, s->xip, sizeof(TransactionId) * s->xcnt);
	}
	if (s->subxcnt > 0 && s->subxip != NULL)
	{
		answers.subxip = palloc(sizeof(TransactionId) * s->subxcnt);
		memcpy(answers.subxip, s->subxip, sizeof(TransactionId) * s->subxcnt);
	}
}

/* ---------------------------------------------------------------------
 * Load
 * ---------------------------------------------------------------------
 */

/*
 * First where the caller is a member, then what each role is. What a role reaches
 * on a level of the tree is one row: the statement costs a look into an index for
 * each organization, and little else (OFFSET 0, or an aggregate, keeps the planner
 * from joining to the whole table). The level ends a walk through a cycle. What a role allows is
 * said by role_permissions(), too slow to be called here; a test holds the two
 * together.
 */
static SavedPlan load_plan = {
	.sql = "WITH RECURSIVE reach (role_id, organization_ids, level) AS ("
	"SELECT m.role_id, x.ids, 0 "
	"FROM (SELECT role_id, pg_catalog.array_agg(organization_id) AS ids FROM invite_sync.membership WHERE user_id = $1 GROUP BY role_id) AS m "
	"CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(o.id) AS ids FROM invite_sync.organization AS o WHERE o.id = ANY (m.ids)) AS x "
	"WHERE x.ids IS NOT NULL "
	"UNION ALL "
	"SELECT r.role_id, x.ids, r.level + 1 FROM reach AS r "
	"CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(o.id) AS ids FROM invite_sync.organization AS o WHERE o.parent_id = ANY (r.organization_ids)) AS x "
	"WHERE r.level < 16 AND x.ids IS NOT NULL), "
	"held (role_id, platform) AS ("
	"SELECT DISTINCT r.role_id, false FROM reach AS r "
	"UNION ALL SELECT p.role_id, true FROM invite_sync.platform_role AS p WHERE p.user_id = $1) "
	"SELECT h.platform, h.role_id, NULL::pg_catalog.uuid[], x.name, x.permissions FROM held AS h "
	"CROSS JOIN LATERAL (SELECT CASE WHEN ro.built_in OR NOT EXISTS (SELECT FROM invite_sync.role AS b WHERE b.name = ro.name AND b.built_in) "
	"THEN ro.name END AS name, "
	"CASE WHEN ro.built_in THEN ARRAY (SELECT p.name FROM invite_sync.permission AS p WHERE (h.platform OR p.name NOT LIKE 'platform.%') "
	"AND CASE ro.id WHEN '" MEMBERSHIP_OWNER "' THEN true "
	"WHEN '" MEMBERSHIP_ADMIN "' THEN p.name NOT IN ('organization.delete', 'ownership.transfer') "
	"WHEN '" MEMBERSHIP_MEMBER "' THEN p.name IN ('organization.read', 'members.read') ELSE false END) "
	"ELSE ARRAY (SELECT rp.permission FROM invite_sync.role_permission AS rp WHERE rp.role_id = ro.id "
	"AND (h.platform OR rp.permission NOT LIKE 'platform.%') "
	"AND EXISTS (SELECT FROM invite_sync.permission AS p WHERE p.name = rp.permission)) END AS permissions "
	"FROM invite_sync.role AS ro WHERE ro.id = h.role_id OFFSET 0) AS x "
	"UNION ALL SELECT false, r.role_id, r.organization_ids, NULL, NULL FROM reach AS r",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/*
 * Where our tables are reference tables of Citus, a query of ours inside a query
 * that it distributes has to be allowed. It is the same rows on every node.
 */
static void
enter_own_for_reading(Scope *scope)
{
	static const char *const setting = "citus.allow_nested_distributed_execution";

	scope_enter_own(scope);
	if (GetConfigOption(setting, true, false) != NULL)
		(void) set_config_option(setting, "on", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, DEBUG5, false);
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(((const HeldRole *) a)->id.data, ((const HeldRole *) b)->id.data, UUID_LEN);
}

/* Does this list hold this name? The lists are short: a few dozen. */
static bool
has_name(const HeldRole *role, const char *name, int len)
{
	for (int i = 0; i < role->nperms; i++)
		if ((int) VARSIZE_ANY_EXHDR(role->perms[i]) == len &&
			memcmp(VARDATA_ANY(role->perms[i]), name, len) == 0)
			return true;
	return false;
}

static void
keep_role(HeldRole *role, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

	role->id = *DatumGetUUIDP(SPI_getbinval(row, desc, 2, &isnull));
	value = SPI_getbinval(row, desc, 4, &isnull);
	role->name = isnull ? NULL : TextDatumGetCString(value);
	value = SPI_getbinval(row, desc, 5, &isnull);
	if (!isnull)
	{
		Datum	   *elems;
		int			n;

		deconstruct_array(DatumGetArrayTypePCopy(value), TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
		role->nperms = n;
		role->perms = (text **) palloc(sizeof(text *) * Max(n, 1));
		for (int i = 0; i < n; i++)
			role->perms[i] = (text *) DatumGetPointer(elems[i]);
	}
}

/* The role NULL: one that is gone, of a member who may nothing. */
static void
keep_organizations(ArrayType *ids, const HeldRole *role)
{
	pg_uuid_t  *id = (pg_uuid_t *) ARR_DATA_PTR(ids);
	int			n = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
	Via		   *only = NULL;

	if (role != NULL)
	{
		only = palloc(sizeof(Via));
		only->role = role - answers.roles;
		only->next = NULL;
	}
	for (int i = 0; i < n; i++)
	{
		bool		found;
		Reached    *entry = reached_insert(answers.reached, make_id(&id[i]), &found);
		Via		   *via;

		if (!found)
		{
			entry->member = true;
			entry->via = only;
			continue;
		}
		/* by two memberships, one above the other */
		for (via = entry->via; via != NULL && only != NULL && via->role != only->role; via = via->next)
			;
		if (via != NULL || only == NULL)
			continue;
		via = palloc(sizeof(Via));
		via->role = only->role;
		via->next = entry->via;
		entry->via = via;
	}
}

static void
keep_rows(void)
{
	uint64		n = SPI_processed;
	TupleDesc	desc = SPI_tuptable->tupdesc;
	uint64		i;
	uint64		n_ids = 0;

	/* roles come first, but nothing promises that */
	answers.roles = palloc0(sizeof(HeldRole) * Max(n, 1));
	for (i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		HeldRole   *role = &answers.roles[answers.nroles];
		Datum		value;
		bool		isnull;

		value = SPI_getbinval(row, desc, 3, &isnull);
		if (!isnull)
		{
			/* that many and one or two more */
			n_ids += VARSIZE_ANY_EXHDR(DatumGetPointer(value)) / UUID_LEN;
			continue;
		}
		keep_role(role, row, desc);
		if (DatumGetBool(SPI_getbinval(row, desc, 1, &isnull)))
		{
			answers.platform_role = role->name;
			answers.administrator = has_name(role, "platform.admin", strlen("platform.admin"));
			memset(role, 0, sizeof(*role));
		}
		else
			answers.nroles++;
	}
	qsort(answers.roles, answers.nroles, sizeof(HeldRole), compare_ids);
	answers.reached = reached_create(answers_context, n_ids <= MAX_SPARSE ? n_ids * 4 : n_ids, NULL);

	for (i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		HeldRole	key;
		HeldRole   *role;
		bool		isnull;
		Datum		ids = SPI_getbinval(row, desc, 3, &isnull);

		if (isnull)
			continue;
		key.id = *DatumGetUUIDP(SPI_getbinval(row, desc, 2, &isnull));
		role = bsearch(&key, answers.roles, answers.nroles, sizeof(HeldRole), compare_ids);
		keep_organizations(DatumGetArrayTypeP(ids), role);
	}
}

/*
 * Where our tables or auth.users belong to a superuser nothing of ours runs,
 * and nobody is a member. Said here because a policy must not raise.
 */
static bool
can_read(void)
{
	Oid			relids[2];
	Oid			nsp = get_namespace_oid("invite_sync", true);

	relids[0] = OidIsValid(nsp) ? get_relname_relid("operator", nsp) : InvalidOid;
	relids[1] = caller_auth_users_relid(true);
	for (int i = 0; i < 2; i++)
	{
		HeapTuple	tuple;
		Oid			owner;

		if (!OidIsValid(relids[i]))
			return false;
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relids[i]));
		if (!HeapTupleIsValid(tuple))
			return false;
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
		if (superuser_arg(owner))
		{
			ereport(WARNING,
					(errmsg("table \"%s\" belongs to a superuser: nobody is a member of any organization",
							i == 0 ? "invite_sync.operator" : "auth.users"),
					 errhint("ALTER TABLE %s OWNER TO %s;", i == 0 ? "invite_sync.operator" : "auth.users",
							 i == 0 ? "invite_sync_owner" : "supabase_auth_admin")));
			return false;
		}
	}
	return true;
}

static void
load_user(void)
{
	AuthUserState state;
	Scope		scope;
	Datum		args[1];
	MemoryContext old;

	if (!can_read())
		return;
	caller_auth_user_state(&answers.caller.user_id, &state);
	if (!state.exists || !state.usable)
		return;
	answers.is_user = true;
	answers.anonymous = state.anonymous;
	if (state.anonymous)
		return;

	args[0] = UUIDPGetDatum(&answers.caller.user_id);
	SPI_connect();
	enter_own_for_reading(&scope);
	plan_by_lookup(plan_get(&load_plan));
	plan_execute(&load_plan, args, NULL, true, 0);
	old = MemoryContextSwitchTo(answers_context);
	keep_rows();
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
}

static void
load(void)
{
	MemoryContext old;

	answers.valid = false;
	if (answers_context == NULL)
		answers_context = AllocSetContextCreate(TopMemoryContext, "invite_sync memberships",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(answers_context);
	memset(&answers, 0, sizeof(answers));
	answers_loads++;

	old = MemoryContextSwitchTo(answers_context);
	remember_question();
	MemoryContextSwitchTo(old);
	caller_get(&answers.caller);
	answers.service = answers.caller.kind == CALLER_SERVICE;
	if (answers.caller.kind == CALLER_USER)
		load_user();
	if (answers.reached == NULL)
		answers.reached = reached_create(answers_context, 16, NULL);
	answers.valid = true;
}

static void
load_guarded(void)
{
	answers_loading = true;
	PG_TRY();
	{
		load();
	}
	PG_FINALLY();
	{
		answers_loading = false;
	}
	PG_END_TRY();
}

/*
 * Make the answers those to this question. True when they are good for this one
 * call only, because there is no snapshot that they could be told by, or no call
 * site (flinfo) that a statement belongs to.
 */
static pg_noinline bool
load_once(FunctionCallInfo fcinfo)
{
	bool		pushed = false;

	if (answers_loading)
		return true;			/* asked by what is being read: nobody */
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	load_guarded();
	if (pushed)
		PopActiveSnapshot();
	return pushed || fcinfo->flinfo == NULL;
}

/* Every function begins and ends with these. */
static pg_attribute_always_inline bool
answers_open(FunctionCallInfo fcinfo)
{
	if (likely(fcinfo->flinfo != NULL && answers_hold()))
		return false;
	return load_once(fcinfo);
}

static inline void
answers_close(bool once)
{
	if (unlikely(once) && !answers_loading)
		answers.valid = false;
}

/* ---------------------------------------------------------------------
 * Questions
 * ---------------------------------------------------------------------
 */

static SavedPlan exists_plan = {
	.sql = "SELECT FROM invite_sync.organization AS o WHERE o.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

/* A service may everything in every organization that there is. */
static bool
service_reaches(const pg_uuid_t *organization_id)
{
	Scope		scope;
	Datum		args[1];
	Reached    *entry = reached_lookup(answers.reached, make_id(organization_id));
	bool		pushed = false;
	bool		exists;
	bool		found;

	if (entry != NULL)
		return entry->member;
	if (!can_read())
		return false;
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	args[0] = UUIDPGetDatum(organization_id);
	SPI_connect();
	enter_own_for_reading(&scope);
	plan_by_lookup(plan_get(&exists_plan));
	plan_execute(&exists_plan, args, NULL, true, 1);
	exists = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();
	if (answers.reached->members < MAX_KNOWN)
	{
		entry = reached_insert(answers.reached, make_id(organization_id), &found);
		entry->member = exists;
		entry->via = NULL;
	}
	return exists;
}

static bool
role_says_yes(const HeldRole *role, Question question, const char *name, int len)
{
	if (question == ASK_ROLE || question == ASK_ANY_ROLE)
		return role->name != NULL && (int) strlen(role->name) == len && memcmp(role->name, name, len) == 0;
	return has_name(role, name, len);
}

/* Which roles say yes to this question; asked once, then remembered. */
static const bool *
roles_that_say_yes(Question question, struct varlena *asked)
{
	const char *data = VARDATA_ANY(asked);
	int			len = VARSIZE_ANY_EXHDR(asked);
	Answered   *a;

	for (int i = 0; i < N_ANSWERED; i++)
	{
		a = &answers.answered[i];
		if (a->yes != NULL && a->question == question && a->len == len && memcmp(a->asked, data, len) == 0)
			return a->yes;
	}

	a = &answers.answered[answers.next_answered];
	answers.next_answered = (answers.next_answered + 1) % N_ANSWERED;
	if (a->yes != NULL)
	{
		pfree(a->yes);
		pfree(a->asked);
		a->yes = NULL;
	}
	a->question = question;
	a->len = len;
	a->asked = MemoryContextAlloc(answers_context, Max(len, 1));
	memcpy(a->asked, data, len);
	a->yes = MemoryContextAllocZero(answers_context, sizeof(bool) * Max(answers.nroles, 1));
	if (question == ASK_ROLE || question == ASK_PERMISSION)
	{
		for (int r = 0; r < answers.nroles; r++)
			a->yes[r] = role_says_yes(&answers.roles[r], question, data, len);
	}
	else
	{
		Datum	   *elems;
		bool	   *nulls;
		int			n;

		deconstruct_array((ArrayType *) asked, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
		for (int e = 0; e < n; e++)
		{
			struct varlena *name = (struct varlena *) DatumGetPointer(elems[e]);

			for (int r = 0; r < answers.nroles && !nulls[e]; r++)
				if (role_says_yes(&answers.roles[r], question, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)))
					a->yes[r] = true;
		}
		pfree(elems);
		pfree(nulls);
	}
	return a->yes;
}

static inline bool
via_says_yes(const Reached *entry, const bool *yes)
{
	for (const Via *via = entry->via; via != NULL; via = via->next)
		if (yes[via->role])
			return true;
	return false;
}

/* asked NULL: a member at all? */
static pg_attribute_always_inline bool
answer(FunctionCallInfo fcinfo, Question question, struct varlena *asked)
{
	pg_uuid_t  *organization_id = PG_GETARG_UUID_P(0);
	bool		once = answers_open(fcinfo);
	bool		result;

	if (unlikely(once) && answers_loading)
		result = false;
	else if (unlikely(answers.service))
		result = service_reaches(organization_id);
	else
	{
		Reached    *entry = reached_lookup(answers.reached, make_id(organization_id));

		result = entry != NULL && (asked == NULL || via_says_yes(entry, roles_that_say_yes(question, asked)));
	}
	answers_close(once);
	return result;
}

/* is_member(organization_id) */
Datum
membership_is_member(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(answer(fcinfo, ASK_ROLE, NULL));
}

/* has_role(organization_id, role) */
Datum
membership_has_role(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(answer(fcinfo, ASK_ROLE, PG_GETARG_VARLENA_PP(1)));
}

/* has_any_role(organization_id, roles) */
Datum
membership_has_any_role(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(answer(fcinfo, ASK_ANY_ROLE, (struct varlena *) PG_GETARG_ARRAYTYPE_P(1)));
}

/* has_permission(organization_id, permission) */
Datum
membership_has_permission(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(answer(fcinfo, ASK_PERMISSION, PG_GETARG_VARLENA_PP(1)));
}

/* has_any_permission(organization_id, permissions) */
Datum
membership_has_any_permission(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(answer(fcinfo, ASK_ANY_PERMISSION, (struct varlena *) PG_GETARG_ARRAYTYPE_P(1)));
}

/* The organizations whose roles say yes (asked NULL: all), sorted. For a service none. */
static Datum
organizations(FunctionCallInfo fcinfo, struct varlena *asked)
{
	bool		once = answers_open(fcinfo);
	pg_uuid_t  *ids = NULL;
	int			n = 0;

	if (!answers_loading && !answers.service)
	{
		const bool *yes = asked == NULL ? NULL : roles_that_say_yes(ASK_PERMISSION, asked);
		reached_iterator iterator;
		Reached    *entry;

		ids = palloc(sizeof(pg_uuid_t) * Max(answers.reached->members, 1));
		reached_start_iterate(answers.reached, &iterator);
		while ((entry = reached_iterate(answers.reached, &iterator)) != NULL)
			if (yes == NULL || via_says_yes(entry, yes))
				memcpy(ids[n++].data, &entry->organization_id, UUID_LEN);
		qsort(ids, n, sizeof(pg_uuid_t), plan_compare_uuids);
	}
	answers_close(once);
	return plan_uuid_array(ids, n);
}

/* member_organizations() */
Datum
membership_member_organizations(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(organizations(fcinfo, NULL));
}

/* organizations_with_permission(permission) */
Datum
membership_organizations_with_permission(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_DATUM(plan_uuid_array(NULL, 0));
	PG_RETURN_DATUM(organizations(fcinfo, PG_GETARG_VARLENA_PP(0)));
}

/* current_user_id() */
Datum
membership_current_user_id(PG_FUNCTION_ARGS)
{
	bool		once = answers_open(fcinfo);
	pg_uuid_t  *result = NULL;

	if (!answers_loading && answers.is_user)
	{
		result = palloc(sizeof(pg_uuid_t));
		*result = answers.caller.user_id;
	}
	answers_close(once);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(result);
}

/* current_claims() */
Datum
membership_current_claims(PG_FUNCTION_ARGS)
{
	Jsonb	   *claims = caller_claims_jsonb();

	if (claims == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(claims);
}

/* platform_role() */
Datum
membership_platform_role(PG_FUNCTION_ARGS)
{
	bool		once = answers_open(fcinfo);
	text	   *result = NULL;

	if (!answers_loading && answers.platform_role != NULL)
		result = cstring_to_text(answers.platform_role);
	answers_close(once);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}

/* whoami() */
Datum
membership_whoami(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[7];
	bool		nulls[7];
	bool		once;
	const char *kind;
	char	   *role;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	memset(values, 0, sizeof(values));
	memset(nulls, false, sizeof(nulls));

	once = answers_open(fcinfo);
	if (answers_loading)
		PG_RETURN_NULL();
	kind = answers.service ? "service" :
		answers.is_user ? "user" :
		answers.caller.kind == CALLER_ANON ? "anon" : "nobody";
	role = GetUserNameFromId(answers.caller.role, true);
	if (answers.is_user)
		values[0] = UUIDPGetDatum(&answers.caller.user_id);
	else
		nulls[0] = true;
	values[1] = CStringGetTextDatum(kind);
	if (role != NULL)
		values[2] = CStringGetTextDatum(role);
	else
		nulls[2] = true;
	values[3] = BoolGetDatum(answers.is_user && answers.anonymous);
	if (answers.platform_role != NULL)
		values[4] = CStringGetTextDatum(answers.platform_role);
	else
		nulls[4] = true;
	values[5] = BoolGetDatum(answers.administrator);
	values[6] = BoolGetDatum(answers.caller.is_operator);
	values[0] = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	answers_close(once);
	PG_RETURN_DATUM(values[0]);
}

/* membership_loads(): how often this backend has read the tables. */
Datum
membership_loads(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(answers_loads);
}
