/*-------------------------------------------------------------------------
 *
 * membership_sync.c
 *	  Memberships and the auth server: the copy that its tokens carry, and
 *	  what becomes of memberships when their users go.
 *
 * There are no foreign keys to auth.users: a membership outlives its user
 * until the trigger on auth.users, or retry_quarantine(), has taken it away.
 * Nothing of this may fail the auth server's statement, so all of it runs
 * contained by the sync room.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "caller.h"
#include "event.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "sync.h"

/* ---------------------------------------------------------------------
 * The copy in auth.users
 * ---------------------------------------------------------------------
 */

/* Most users are no members, and to ask about them all by tenant_copy() takes its time. */
static SavedPlan copies_plan = {
	.sql = "SELECT pg_catalog.array_agg(c.copy ORDER BY x.n) "
	"FROM pg_catalog.unnest($1) WITH ORDINALITY AS x (id, n) "
	"CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (SELECT FROM invite_sync.membership AS m WHERE m.user_id = x.id) "
	"OR EXISTS (SELECT FROM invite_sync.platform_role AS p WHERE p.user_id = x.id) THEN invite_sync.tenant_copy(x.id) END) AS c (copy)",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* Only where it is not so already: this fires the triggers on auth.users. */
static SavedPlan write_copies_plan = {
	.sql = "UPDATE auth.users AS u SET raw_app_meta_data = "
	"CASE WHEN x.copy IS NULL THEN u.raw_app_meta_data OPERATOR(pg_catalog.-) 'invite_sync'::pg_catalog.text "
	"ELSE coalesce(nullif(u.raw_app_meta_data, 'null'), '{}') OPERATOR(pg_catalog.||) "
	"pg_catalog.jsonb_build_object('invite_sync', x.copy) END "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS x (id, copy) "
	"WHERE u.id = x.id "
	"AND coalesce(pg_catalog.jsonb_typeof(u.raw_app_meta_data), 'null') IN ('object', 'null') "
	"AND (u.raw_app_meta_data OPERATOR(pg_catalog.->) 'invite_sync'::pg_catalog.text) IS DISTINCT FROM x.copy",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, JSONBARRAYOID}
};

typedef struct Copies
{
	const pg_uuid_t *user_ids;
	int			nusers;
} Copies;

/* Our own write comes back through the trigger on auth.users. */
static bool writing_copies = false;

static void
write_copies(void *arg)
{
	Copies	   *c = (Copies *) arg;
	Scope		scope;
	Datum		values[2];
	bool		isnull;

	values[0] = plan_uuid_array(c->user_ids, c->nusers);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&copies_plan, values, NULL, false, 1);
	values[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	scope_leave(&scope);
	scope_enter_auth(&scope);
	plan_by_index(plan_get(&write_copies_plan));
	plan_execute(&write_copies_plan, values, NULL, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

/*
 * The copy is derived and nothing reads a right from it, so what keeps it from
 * being written (a trigger of somebody's on auth.users that raises) must not
 * keep somebody from being a member.
 */
void
membership_write_copies(const pg_uuid_t *user_ids, int nusers)
{
	Copies		c = {.user_ids = user_ids,.nusers = nusers};
	Failure    *failure;
	volatile bool ok = false;

	if (!invite_sync_tenant_copy || writing_copies || nusers == 0 ||
		!OidIsValid(caller_auth_users_relid(true)))
		return;
	writing_copies = true;
	PG_TRY();
	{
		ok = sync_run_contained(write_copies, &c, true, &failure);
	}
	PG_FINALLY();
	{
		writing_copies = false;
	}
	PG_END_TRY();
	if (!ok)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("the copy of memberships in auth.users could not be written"),
				 errdetail("SQLSTATE %s.", unpack_sql_state(failure->sqlerrcode)),
				 errhint("Tokens show the memberships of before until the next change. Look for a trigger on auth.users that raises."),
				 errhidestmt(true), errhidecontext(true)));
}

static void
copies_changed(const pg_uuid_t *user_ids, int64 nids)
{
	membership_write_copies(user_ids, (int) nids);
}

/* ---------------------------------------------------------------------
 * Users who are gone
 * ---------------------------------------------------------------------
 */

#define OF_GONE		"pg_catalog.unnest($1) AS x (id) JOIN "

static SavedPlan gone_organizations_plan = {
	.sql = "SELECT coalesce((SELECT pg_catalog.array_agg(DISTINCT m.organization_id ORDER BY m.organization_id) "
	"FROM " OF_GONE "invite_sync.membership AS m ON m.user_id = x.id), '{}')",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/*
 * Organizations that lose their only owner, each with those who could be the
 * next one, the one with the most permissions and then the longest there first.
 */
static SavedPlan candidates_plan = {
	.sql = "WITH bereft AS (SELECT DISTINCT m.organization_id FROM " OF_GONE "invite_sync.membership AS m ON m.user_id = x.id "
	"WHERE m.role_id = '" MEMBERSHIP_OWNER "' AND NOT EXISTS (SELECT FROM invite_sync.membership AS s "
	"WHERE s.organization_id = m.organization_id AND s.role_id = '" MEMBERSHIP_OWNER "' AND s.user_id <> ALL ($1))), "
	"others AS (SELECT m.organization_id, m.user_id, m.role_id, m.created_at, m.id "
	"FROM bereft AS b JOIN invite_sync.membership AS m ON m.organization_id = b.organization_id WHERE m.user_id <> ALL ($1)), "
	"worth AS (SELECT r.role_id, pg_catalog.cardinality(invite_sync.role_permissions(r.role_id)) AS permissions "
	"FROM (SELECT DISTINCT o.role_id FROM others AS o) AS r) "
	"SELECT coalesce((SELECT pg_catalog.array_agg(b.organization_id ORDER BY b.organization_id) FROM bereft AS b), '{}'), "
	"coalesce((SELECT pg_catalog.array_agg(o.organization_id ORDER BY w.permissions DESC, o.created_at, o.id) "
	"FROM others AS o JOIN worth AS w USING (role_id)), '{}'), "
	"coalesce((SELECT pg_catalog.array_agg(o.user_id ORDER BY w.permissions DESC, o.created_at, o.id) "
	"FROM others AS o JOIN worth AS w USING (role_id)), '{}')",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/*
 * Who can use it before who cannot: a banned user may come back. One who is
 * gone too is taken only where there is nobody else, and goes with the next
 * retry.
 */
static SavedPlan successors_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(s.organization_id ORDER BY s.organization_id), '{}'), "
	"coalesce(pg_catalog.array_agg(s.user_id ORDER BY s.organization_id), '{}') FROM ("
	"SELECT DISTINCT ON (x.organization_id) x.organization_id, x.user_id "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS x (organization_id, user_id, n) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.user_id AND u.deleted_at IS NULL "
	"ORDER BY x.organization_id, CASE WHEN u.id IS NULL THEN 2 "
	"WHEN u.banned_until > pg_catalog.now() OR u.is_anonymous THEN 1 ELSE 0 END, x.n) AS s",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

static SavedPlan pass_ownership_plan = {
	.sql = "UPDATE invite_sync.membership AS m SET role_id = '" MEMBERSHIP_OWNER "', updated_at = pg_catalog.now() "
	"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS x (organization_id, user_id) "
	"WHERE m.organization_id = x.organization_id AND m.user_id = x.user_id",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

/* No order is needed where nobody waits. */
static SavedPlan lock_free_users_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(l.id), '{}') FROM "
	"(SELECT u.id FROM auth.users AS u WHERE u.id = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED) AS l",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static SavedPlan note_others_plan = {
	.sql = "INSERT INTO invite_sync.gone_user AS g (user_id) SELECT DISTINCT x.id FROM pg_catalog.unnest($1) AS x (id) "
	"WHERE x.id <> ALL ($2) ORDER BY 1 ON CONFLICT (user_id) DO NOTHING",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

/* An organization that loses its only owner, and who is to be the next one. */
typedef struct Succession
{
	PlanIds		organizations;
	PlanIds		of;				/* those of them that have an heir */
	PlanIds		heirs;			/* of each of these */
} Succession;

static void
find_successors(Datum *gone, Succession *s)
{
	PlanIds		found[3];
	PlanIds		successors[2];
	Datum		values[2];

	memset(s, 0, sizeof(*s));
	plan_run_on_ids(&candidates_plan, gone, false, false, found, 3);
	s->organizations = found[0];
	if (found[0].n == 0)
		return;
	values[0] = found[1].array;
	values[1] = found[2].array;
	plan_run_on_ids(&successors_plan, values, true, false, successors, 2);
	s->of = successors[0];
	s->heirs = successors[1];
}

/*
 * The one who is deleted is locked, by the auth server, so to wait for another
 * user now would be out of turn: somebody may hold that one and wait for this.
 * Whoever holds an heir mostly changes their memberships, and writes the copy
 * after us; the note sees to it otherwise.
 */
static void
write_heirs_copies(const PlanIds *heirs)
{
	PlanIds		locked;
	Datum		values[2];

	if (heirs->n == 0)
		return;
	values[0] = heirs->array;
	plan_run_on_ids(&lock_free_users_plan, values, true, false, &locked, 1);
	membership_write_copies(locked.ids, locked.n);
	values[1] = locked.array;
	plan_run_on_ids(&note_others_plan, values, false, false, NULL, 0);
}

/* The organizations that these users leave without an owner get another one. */
static void
pass_ownership(const Succession *s)
{
	Datum		values[2];

	if (s->organizations.n == 0)
		return;
	values[0] = s->of.array;
	values[1] = s->heirs.array;
	plan_run_on_ids(&pass_ownership_plan, values, false, false, NULL, 0);
	for (int i = 0; i < s->organizations.n; i++)
	{
		const pg_uuid_t *heir = NULL;

		for (int k = 0; k < s->of.n && heir == NULL; k++)
			if (memcmp(&s->organizations.ids[i], &s->of.ids[k], UUID_LEN) == 0)
				heir = &s->heirs.ids[k];
		membership_event(NULL, "system", heir ? "membership.ownership_passed" : "membership.ownerless",
						 &s->organizations.ids[i], heir ? "user" : NULL, heir, NULL);
	}
	write_heirs_copies(&s->heirs);
}

static void
remove_users(const pg_uuid_t *user_ids, int64 nids)
{
	static const char *const of_users[] = {"membership_removal", "join_request", "platform_role", "gone_user"};
	Datum		gone[1];
	uint64		removed = 0;
	PlanIds		organizations;
	Succession	succession;

	gone[0] = plan_uuid_array(user_ids, nids);
	plan_run_on_ids(&gone_organizations_plan, gone, false, false, &organizations, 1);
	if (organizations.n > 0)
	{
		organization_lock(NULL, 0, organizations.ids, organizations.n);
		find_successors(gone, &succession);
		pass_ownership(&succession);
		removed = organization_delete_rows("membership", "user_id", UUIDARRAYOID, gone[0]);
		organization_touch(organizations.ids, organizations.n);
	}
	for (size_t i = 0; i < lengthof(of_users); i++)
		removed += organization_delete_rows(of_users[i], "user_id", UUIDARRAYOID, gone[0]);
	/* a soft-deleted user is still there, and may be restored */
	if (removed > 0)
		membership_write_copies(user_ids, (int) nids);
}

static void
users_gone(const pg_uuid_t *user_ids, int64 nids)
{
	organization_check_now = true;
	PG_TRY();
	{
		remove_users(user_ids, nids);
	}
	PG_FINALLY();
	{
		organization_check_now = false;
	}
	PG_END_TRY();
}

static SavedPlan note_plan = {
	.sql = "INSERT INTO invite_sync.gone_user AS g (user_id, noted_at) "
	"SELECT x.id, pg_catalog.clock_timestamp() FROM pg_catalog.unnest($1) AS x (id) ORDER BY 1 "
	"ON CONFLICT (user_id) DO NOTHING",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

/* What could not be done in the auth server's statement waits for a retry. */
static void
users_missed(const pg_uuid_t *user_ids, int64 nids)
{
	Datum		values[1];

	values[0] = plan_uuid_array(user_ids, nids);
	plan_run_on_ids(&note_plan, values, false, false, NULL, 0);
}

/* ---- those whose going nobody has noticed ---- */

/* Those who have waited longest first: some may fail every time, and the others come after them. */
static SavedPlan noted_plan = {
	.sql = "SELECT coalesce((SELECT pg_catalog.array_agg(g.user_id ORDER BY g.noted_at, g.user_id) FROM "
	"(SELECT n.user_id, n.noted_at FROM invite_sync.gone_user AS n ORDER BY n.noted_at, n.user_id LIMIT $1 FOR UPDATE SKIP LOCKED) AS g), '{}')",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* They have had their turn, all but those of $2. */
static SavedPlan tried_plan = {
	.sql = "UPDATE invite_sync.gone_user AS g SET noted_at = pg_catalog.clock_timestamp() WHERE g.user_id IN ("
	"SELECT n.user_id FROM invite_sync.gone_user AS n WHERE n.user_id = ANY ($1) AND n.user_id <> ALL ($2) FOR UPDATE SKIP LOCKED)",
	.nargs = 2,
	.argtypes = {UUIDARRAYOID, UUIDARRAYOID}
};

static SavedPlan everybody_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(e.user_id ORDER BY n.noted_at NULLS FIRST, e.user_id), '{}') FROM ("
	"SELECT m.user_id FROM invite_sync.membership AS m UNION SELECT r.user_id FROM invite_sync.membership_removal AS r "
	"UNION SELECT j.user_id FROM invite_sync.join_request AS j UNION SELECT p.user_id FROM invite_sync.platform_role AS p "
	"UNION SELECT g.user_id FROM invite_sync.gone_user AS g) AS e LEFT JOIN invite_sync.gone_user AS n ON n.user_id = e.user_id",
	.nargs = 0
};

static SavedPlan missing_users_plan = {
	.sql = "SELECT coalesce(pg_catalog.array_agg(x.id ORDER BY x.n), '{}') FROM pg_catalog.unnest($1) WITH ORDINALITY AS x (id, n) "
	"LEFT JOIN " CALLER_AUTH_USERS " AS u ON u.id = x.id AND u.deleted_at IS NULL WHERE u.id IS NULL",
	.nargs = 1,
	.argtypes = {UUIDARRAYOID}
};

static void
users_who_are_gone(PlanIds *gone, bool read_only)
{
	Datum		values[1];

	plan_run_on_ids(&everybody_plan, NULL, false, read_only, gone, 1);
	if (gone->n == 0)
		return;
	values[0] = gone->array;
	plan_run_on_ids(&missing_users_plan, values, true, read_only, gone, 1);
}

/*
 * Those noted as gone; with all, also those of whom nobody knows, because the
 * triggers were off. Sees to the copies of those who are noted and not gone.
 */
static void
find_gone(bool all, int64 limit, pg_uuid_t **user_ids, int64 *nids)
{
	PlanIds		noted;
	PlanIds		locked;
	PlanIds		gone;
	Datum		values[2];

	values[0] = Int64GetDatum(limit);
	plan_run_on_ids(&noted_plan, values, false, false, &noted, 1);
	gone = noted;
	if (noted.n > 0)
	{
		/* a soft delete can be undone, and an heir is not gone: their copy is to be written */
		values[0] = noted.array;
		plan_run_on_ids(&lock_free_users_plan, values, true, false, &locked, 1);
		plan_run_on_ids(&missing_users_plan, values, true, false, &gone, 1);
		(void) organization_delete_rows("gone_user", "user_id", UUIDARRAYOID, locked.array);
		if (!all)
			(void) organization_delete_rows("gone_user", "user_id", UUIDARRAYOID, gone.array);
		membership_write_copies(locked.ids, locked.n);
		values[1] = gone.array;
		plan_run_on_ids(&tried_plan, values, false, false, NULL, 0);
	}
	if (all)
	{
		users_who_are_gone(&gone, false);
		values[0] = plan_uuid_array(gone.ids, Min(gone.n, (int) limit));
		values[1] = plan_uuid_array(NULL, 0);
		plan_run_on_ids(&tried_plan, values, false, false, NULL, 0);
	}
	*user_ids = gone.ids;
	*nids = Min(gone.n, limit);
}

/* ---------------------------------------------------------------------
 * verify(), config_sql()
 * ---------------------------------------------------------------------
 */

static SavedPlan in_use_plan = {
	.sql = "SELECT 1 WHERE EXISTS (SELECT FROM invite_sync.organization AS o) OR EXISTS (SELECT FROM invite_sync.platform_role AS p)",
	.nargs = 0
};

static bool
needs_triggers(void)
{
	Scope		scope;
	bool		result;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&in_use_plan, NULL, NULL, true, 1);
	result = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	return result;
}

/*
 * severity, area, object, finding, detail, fix. What only somebody's own DML
 * can have done is mended by DML.
 */
static SavedPlan findings_plan = {
	.sql = "SELECT 'warning', 'organization', o.id::pg_catalog.text, 'the organization has no owner', "
	"CASE WHEN h.user_id IS NULL THEN 'It has no members either.' ELSE 'Neither it nor one above it.' END, "
	"CASE WHEN h.user_id IS NULL THEN pg_catalog.format('SELECT invite_sync.add_member(%L, ''00000000-0000-0000-0000-000000000000'', ''owner''); "
	"-- a user of your choice, or delete it', o.id) "
	"ELSE pg_catalog.format('SELECT invite_sync.set_member_role(%L, %L, ''owner''); -- or another of its members', o.id, h.user_id) END "
	"FROM invite_sync.organization AS o LEFT JOIN LATERAL (SELECT m.user_id FROM invite_sync.membership AS m "
	"WHERE m.organization_id = o.id ORDER BY m.created_at, m.id LIMIT 1) AS h ON true "
	"WHERE NOT EXISTS (SELECT FROM invite_sync.organization_path(o.id) AS p JOIN invite_sync.membership AS m ON m.organization_id = p.id "
	"WHERE m.role_id = '" MEMBERSHIP_OWNER "') "
	"UNION ALL SELECT 'error', 'organization', o.id::pg_catalog.text, 'the organization above it does not exist', NULL, "
	"pg_catalog.format('UPDATE invite_sync.organization AS o SET parent_id = NULL WHERE o.id = %L;', o.id) "
	"FROM invite_sync.organization AS o WHERE o.parent_id IS NOT NULL "
	"AND NOT EXISTS (SELECT FROM invite_sync.organization AS p WHERE p.id = o.parent_id) "
	"UNION ALL SELECT 'error', 'membership', m.organization_id::pg_catalog.text, "
	"pg_catalog.format('%s memberships are of an organization that does not exist', pg_catalog.count(*)), NULL, "
	"pg_catalog.format('DELETE FROM invite_sync.membership AS m WHERE m.organization_id = %L;', m.organization_id) "
	"FROM invite_sync.membership AS m WHERE NOT EXISTS (SELECT FROM invite_sync.organization AS o WHERE o.id = m.organization_id) "
	"GROUP BY m.organization_id "
	"UNION ALL SELECT 'error', 'membership', m.id::pg_catalog.text, 'the role of the membership does not exist', 'It allows nothing.', "
	"pg_catalog.format('SELECT invite_sync.set_member_role(%L, %L, ''member'');', m.organization_id, m.user_id) "
	"FROM invite_sync.membership AS m WHERE NOT EXISTS (SELECT FROM invite_sync.role AS r WHERE r.id = m.role_id) "
	"UNION ALL SELECT 'error', 'membership', p.user_id::pg_catalog.text, 'the platform role of the user does not exist', 'It allows nothing.', "
	"pg_catalog.format('SELECT invite_sync.set_platform_role(%L, NULL);', p.user_id) "
	"FROM invite_sync.platform_role AS p WHERE NOT EXISTS (SELECT FROM invite_sync.role AS r WHERE r.id = p.role_id) "
	"ORDER BY 2, 4, 3",
	.nargs = 0
};

static void
membership_verify(bool users_readable, SyncFinding emit, void *arg)
{
	Scope		scope;
	PlanIds		gone = {.n = 0};

	if (users_readable)
		users_who_are_gone(&gone, true);
	if (gone.n > 0)
		emit(arg, "warning", "membership", "auth.users",
			 psprintf("%d users who are gone have left memberships, marks, requests or roles", gone.n),
			 "They were deleted while the triggers on auth.users were off, or could not be cleaned up after.",
			 "SELECT * FROM invite_sync.retry_quarantine(due_only => false);");
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&findings_plan, NULL, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *s[6];

		for (int k = 0; k < 6; k++)
			s[k] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, k + 1);
		emit(arg, s[0], s[1], s[2], s[3], s[4], s[5]);
	}
	scope_leave(&scope);
	SPI_finish();
}

static SavedPlan config_permissions_plan = {
	.sql = "SELECT pg_catalog.format('SELECT permission FROM invite_sync.create_permission(%L, %L);', p.name, p.description), "
	"NULL::pg_catalog.name FROM invite_sync.permission AS p WHERE NOT p.built_in ORDER BY p.name COLLATE \"C\"",
	.nargs = 0
};

/* Those of organizations are data, as the organizations are. */
static SavedPlan config_roles_plan = {
	.sql = "SELECT pg_catalog.format('SELECT role FROM invite_sync.create_role(%L, %L);', r.name, invite_sync.role_permissions(r.id, true)), "
	"NULL::pg_catalog.name FROM invite_sync.role AS r WHERE NOT r.built_in AND r.organization_id IS NULL ORDER BY r.name COLLATE \"C\"",
	.nargs = 0
};

static const SyncConfig config[] = {
	{"Permissions", &config_permissions_plan},
	{"Global roles", &config_roles_plan},
	{"Tables under row level security", &membership_config_protected_plan}
};

static const SyncListener listener = {
	.users_gone = users_gone,
	.users_missed = users_missed,
	.find_gone = find_gone,
	.copies_changed = copies_changed,
	.needs_triggers = needs_triggers,
	.verify = membership_verify,
	.config = config,
	.nconfig = lengthof(config),
	.uninstall = &membership_unprotect_plan
};

void
membership_sync_init(void)
{
	organization_members_changed_hook = membership_write_copies;
	sync_listen(&listener);
}
