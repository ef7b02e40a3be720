/*-------------------------------------------------------------------------
 *
 * doctor_table.c
 *	  Tables that signups, updates and deletions of users reach: what in their
 *	  definition makes these fail?
 *
 * Asked of the catalogs, whatever the statement is that writes: foreign keys,
 * policies, defaults, unique indexes. Of rows only how many there are is read,
 * as the table's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/nodes.h"
#include "nodes/primnodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "caller.h"
#include "doctor_body.h"
#include "plan.h"
#include "sync.h"

/* Rows of a table that are compared with auth.users, at most. */
#define ORPHANS_MAX 10000

/* ---------------------------------------------------------------------
 * What the statements share
 * ---------------------------------------------------------------------
 */

/*
 * $1 auth.users; $2, $3, $4 tables, roles and 1 << CmdType of what is reached;
 * $5 the lineage, for numbers in the registry; $6, $7, $8, $9 the tables whose
 * rows go with a user: which, how far away, by way of what, and has everybody one?
 */
#define TABLE_NARGS 9
#define TABLE_ARGS \
	.nargs = TABLE_NARGS, \
	.argtypes = {OIDOID, OIDARRAYOID, OIDARRAYOID, INT4ARRAYOID, TEXTOID, OIDARRAYOID, INT4ARRAYOID, TEXTARRAYOID, BOOLARRAYOID}

/* Targets that users are synced to. */
#define TARGETS \
	"targets AS (SELECT t.id, c.oid AS relid, c.relowner, t.key, t.on_delete, t.on_error FROM invite_sync.target AS t " \
	"JOIN pg_catalog.pg_class AS c ON c.oid = t.relation::pg_catalog.oid WHERE t.enabled AND t.registered_in = $5)"

/* Tables that something writes when somebody signs up, as whom. */
#define WRITTEN \
	"written AS (SELECT DISTINCT r.relid, r.role FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS r (relid, role, commands) " \
	"WHERE r.commands & " INSERT_BIT " <> 0 AND r.relid <> $1)"
#define INSERT_BIT "8"			/* 1 << CMD_INSERT */
StaticAssertDecl((1 << CMD_INSERT) == 8, "INSERT_BIT");

/* An AFTER BEFORE trigger may fill what the statement leaves out; its body is read elsewhere. */
#define FILLED_BY_TRIGGER(relid, column) \
	"EXISTS (SELECT FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid WHERE g.tgrelid = " relid " " \
	"AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 7 = 7 " \
	"AND (p.prosrc ILIKE '%' OPERATOR(pg_catalog.||) pg_catalog.replace(pg_catalog.replace(" column ", '\\', '\\\\'), '_', '\\_') OPERATOR(pg_catalog.||) '%' " \
	"OR p.prosrc ILIKE '%populate\\_record%' OR p.prolang IN (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname IN ('c', 'internal'))))"

/* By its name it holds a user's id. */
#define USER_COLUMN(column) column ".attname IN ('user_id', 'auth_user_id', 'auth_id', 'userId', 'profile_id', 'uid', 'owner_id')"

#define COLUMN_LIST(relid, key) \
	"(SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.n) FROM pg_catalog.unnest(" key ") WITH ORDINALITY AS u (attnum, n) " \
	"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = " relid " AND a.attnum = u.attnum)"

/* The rest of a foreign key's definition. */
#define FK_TAIL \
	"CASE k.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT' ELSE '' END " \
	"OPERATOR(pg_catalog.||) CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END " \
	"OPERATOR(pg_catalog.||) CASE WHEN k.convalidated THEN '' ELSE ' NOT VALID' END"

/* ---------------------------------------------------------------------
 * Deletions
 * ---------------------------------------------------------------------
 */

/*
 * Rows that go with a user, at any depth, and the foreign keys that stop them.
 * Where a target's rows are deleted by the sync, its own key stops nothing.
 */
#define KEYS \
	"keys AS (SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.conkey, k.confkey, k.confdeltype, k.confupdtype, k.condeferrable, k.condeferred, k.convalidated, " \
	"k.confdelsetcols, EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = k.conrelid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = k.conkey[1]) " \
	"AND pg_catalog.cardinality(k.conkey) = 1 AS profile FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f' AND k.conparentid = 0)"

/* A column of the key is NOT NULL: what refers to a row goes with it, or stops it. */
#define NEVER_NULL \
	"(SELECT pg_catalog.bool_or(a.attnotnull) FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))"

#define WENT \
	"went AS (SELECT g.relid, g.depth, g.way, g.everybody FROM ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9)) " \
	"AS g (relid, depth, way, everybody))"

static SavedPlan table_plans[] = {
	/* keys that stop a deletion */
	{
		.sql = "WITH " TARGETS ", " KEYS ", " WENT " "
		"SELECT CASE WHEN s.everybody AND k.profile THEN 'error' ELSE 'warning' END, 'delete', k.conrelid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('foreign key %I of %s to %s without ON DELETE CASCADE blocks the deletion of users', k.conname, k.conrelid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass), "
		"pg_catalog.format('%s. A user with a row there cannot be deleted: update or delete on table violates foreign key constraint, SQLSTATE %s%s.%s', "
		"pg_catalog.pg_get_constraintdef(k.oid), "
		"CASE WHEN k.confdeltype = 'r' AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 180000 THEN '23001' ELSE '23503' END, "
		"CASE WHEN k.condeferred THEN ', at COMMIT, since it is deferred' ELSE '' END, "
		"CASE WHEN s.depth > 0 THEN ' It is reached by way of ' OPERATOR(pg_catalog.||) s.way OPERATOR(pg_catalog.||) ', whose rows go with the user.' ELSE '' END), "
		"pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE %s%s;', "
		"k.conrelid::pg_catalog.regclass, k.conname, k.conname, " COLUMN_LIST("k.conrelid", "k.conkey") ", k.confrelid::pg_catalog.regclass, " COLUMN_LIST("k.confrelid", "k.confkey") ", "
		"CASE WHEN k.profile OR " NEVER_NULL " THEN 'CASCADE' ELSE 'SET NULL' END, " FK_TAIL ") "
		"FROM went AS s JOIN keys AS k ON k.confrelid = s.relid "
		"WHERE k.confdeltype IN ('a', 'r') "
		"AND NOT EXISTS (SELECT FROM targets AS t WHERE t.relid = k.conrelid AND t.on_delete = 'delete')",
		TABLE_ARGS
	},
	/* keys that set a column to what it cannot be */
	{
		.sql = "WITH " KEYS ", " WENT " "
		"SELECT 'error', 'delete', k.conrelid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('foreign key %I of %s is ON DELETE %s, and column %s is NOT NULL', k.conname, k.conrelid::pg_catalog.regclass, CASE k.confdeltype WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END, "
		"pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ')), "
		"pg_catalog.format('A user with a row in %s cannot be deleted: null value violates not-null constraint, SQLSTATE 23502. Either the rows go with the user (ON DELETE CASCADE), or the column may be NULL.', "
		"k.conrelid::pg_catalog.regclass), "
		"CASE WHEN pg_catalog.bool_or(EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = k.conrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))) THEN "
		"pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE CASCADE%s;', "
		"k.conrelid::pg_catalog.regclass, k.conname, k.conname, " COLUMN_LIST("k.conrelid", "k.conkey") ", k.confrelid::pg_catalog.regclass, " COLUMN_LIST("k.confrelid", "k.confkey") ", " FK_TAIL ") "
		"ELSE pg_catalog.format('ALTER TABLE %s %s;', k.conrelid::pg_catalog.regclass, "
		"pg_catalog.string_agg(pg_catalog.format('ALTER COLUMN %I DROP NOT NULL', a.attname), ', ')) END "
		"FROM went AS s JOIN keys AS k ON k.confrelid = s.relid JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid "
		"AND a.attnum = ANY (coalesce(k.confdelsetcols, k.conkey)) AND a.attnotnull "
		"WHERE k.confdeltype = 'n' OR k.confdeltype = 'd' AND NOT a.atthasdef "
		"GROUP BY k.oid, k.conname, k.conrelid, k.confrelid, k.conkey, k.confkey, k.confdeltype, k.confupdtype, k.condeferrable, k.condeferred, k.convalidated",
		TABLE_ARGS
	},
	/* what goes with a user goes as the owner of the table */
	{
		.sql = "WITH " KEYS ", " WENT " "
		"SELECT 'error', 'delete', k.conrelid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('the owner %I of %s may not use its schema or write it', o.rolname, k.conrelid::pg_catalog.regclass), "
		"pg_catalog.format('Foreign key %I acts as the owner of the table: a user with a row there cannot be deleted, permission denied, SQLSTATE 42501.', k.conname), "
		"pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I; GRANT SELECT, UPDATE, DELETE ON %s TO %I;', n.nspname, o.rolname, k.conrelid::pg_catalog.regclass, o.rolname) "
		"FROM went AS s JOIN keys AS k ON k.confrelid = s.relid JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
		"JOIN pg_catalog.pg_roles AS o ON o.oid = c.relowner WHERE NOT o.rolsuper AND n.nspname <> 'auth' AND (NOT pg_catalog.has_schema_privilege(o.oid, n.oid, 'USAGE') "
		"OR NOT pg_catalog.has_table_privilege(o.oid, c.oid, 'SELECT') OR NOT pg_catalog.has_table_privilege(o.oid, c.oid, CASE WHEN k.confdeltype = 'c' THEN 'DELETE' ELSE 'UPDATE' END))",
		TABLE_ARGS
	},
	/* publications need to know which row it was */
	{
		.sql = "WITH " KEYS ", " WENT ", touched AS (SELECT s.relid, 'deletion'::pg_catalog.text AS what FROM went AS s WHERE s.depth > 0 "
		"UNION SELECT k.conrelid, 'deletion' FROM went AS s JOIN keys AS k ON k.confrelid = s.relid AND k.confdeltype IN ('n', 'd') "
		"UNION SELECT r.relid, 'update' FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS r (relid, role, commands) WHERE r.commands & 20 <> 0) "
		"SELECT 'error', CASE t.what WHEN 'deletion' THEN 'delete' ELSE 'table' END, c.oid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('the table %s has no replica identity and publication %I publishes its updates or deletes', c.oid::pg_catalog.regclass, p.pubname), "
		"pg_catalog.format('The %s of a user with a row there fails: cannot update or delete from table because it does not have a replica identity, SQLSTATE 55000. A primary key would be one.', t.what), "
		"pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL;', c.oid::pg_catalog.regclass) "
		"FROM (SELECT t.relid, pg_catalog.min(t.what) AS what FROM touched AS t GROUP BY t.relid) AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.relid "
		"JOIN pg_catalog.pg_publication AS p ON (p.pubdelete OR p.pubupdate) AND (p.puballtables "
		"OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel AS q WHERE q.prpubid = p.oid AND q.prrelid = c.oid) "
		"OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace AS q WHERE q.pnpubid = p.oid AND q.pnnspid = c.relnamespace)) "
		"WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary))",
		TABLE_ARGS
	},
	/* foreign keys that are off */
	{
		.sql = "SELECT 'warning', 'delete', k.conrelid::pg_catalog.regclass::pg_catalog.text, pg_catalog.format('foreign key %I of %s is not enforced: its trigger is disabled', k.conname, k.conrelid::pg_catalog.regclass), "
		"pg_catalog.format('On %s. Rows stay behind when their users are deleted, or refer to nobody.', g.tgrelid::pg_catalog.regclass), "
		"pg_catalog.format('ALTER TABLE %s ENABLE TRIGGER %I;', g.tgrelid::pg_catalog.regclass, g.tgname) "
		"FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_constraint AS k ON k.oid = g.tgconstraint AND k.contype = 'f' "
		"WHERE g.tgisinternal AND g.tgenabled IN ('D', 'R') AND k.confrelid = $1",
		TABLE_ARGS
	},

	/* ---- what signups write ---- */

	/* a key that is the user's id, and refers to something that no signup fills */
	{
		.sql = "WITH " TARGETS ", " WRITTEN ", keys AS (SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.conkey, k.confkey, k.condeferred, a.attname, t.relid IS NOT NULL AS is_target, "
		"coalesce(t.on_error, 'raise') AS on_error FROM pg_catalog.pg_constraint AS k JOIN (SELECT DISTINCT w.relid FROM written AS w) AS w ON w.relid = k.conrelid "
		"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] LEFT JOIN targets AS t ON t.relid = k.conrelid "
		"WHERE k.contype = 'f' AND pg_catalog.cardinality(k.conkey) = 1 AND k.confrelid NOT IN ($1, k.conrelid) AND k.conparentid = 0 "
		"AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND NOT a.atthasdef "
		"AND CASE WHEN t.relid IS NOT NULL THEN a.attname = t.key ELSE "
		"EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = k.conrelid AND i.indisprimary AND i.indnkeyatts = 1 AND i.indkey[0] = k.conkey[1]) "
		"OR a.attnotnull AND " USER_COLUMN("a") " "
		"AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS o WHERE o.conrelid = k.conrelid AND o.confrelid = $1 AND o.contype = 'f' AND o.conkey = k.conkey) END "
		"AND NOT EXISTS (SELECT FROM written AS o WHERE o.relid = k.confrelid)) "
		"SELECT CASE k.on_error WHEN 'raise' THEN 'error' ELSE 'warning' END, CASE WHEN k.is_target THEN 'target' ELSE 'table' END, k.conrelid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('foreign key %I of %s refers to %s and not to auth.users%s', k.conname, k.conrelid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass, "
		"CASE WHEN k.condeferred THEN ', and is deferred: the INSERT passes and the COMMIT fails' ELSE '' END), "
		"pg_catalog.format('%s. Column %I holds the id of the user, and no signup makes a row in %s: insert or update violates foreign key constraint, SQLSTATE 23503%s.', pg_catalog.pg_get_constraintdef(k.oid), k.attname, "
		"k.confrelid::pg_catalog.regclass, CASE k.on_error WHEN 'raise' THEN '' ELSE ', which goes to quarantine' END), "
		"pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES auth.users (id) ON DELETE CASCADE NOT VALID;', "
		"k.conrelid::pg_catalog.regclass, k.conname, k.conname, k.attname) FROM keys AS k",
		TABLE_ARGS
	},
	/* row level security */
	{
		.sql = "WITH " TARGETS ", " WRITTEN " "
		"SELECT CASE WHEN t.on_error = 'quarantine' AND r.oid = t.relowner THEN 'warning' ELSE 'error' END, CASE WHEN t.relid IS NOT NULL THEN 'target' ELSE 'table' END, "
		"c.oid::pg_catalog.regclass::pg_catalog.text, "
		"CASE WHEN s.n = 0 THEN pg_catalog.format('row level security of %s %s, and no policy lets %I insert', c.oid::pg_catalog.regclass, CASE WHEN s.is_owner THEN 'is forced' ELSE 'is enabled' END, r.rolname) "
		"ELSE pg_catalog.format('row level security of %s %s, and its policies ask who is logged in (auth.uid()), which nobody is at signup', c.oid::pg_catalog.regclass, CASE WHEN s.is_owner THEN 'is forced' ELSE 'is enabled' END) END, "
		"pg_catalog.format('What writes it at signup runs as %I%s: new row violates row-level security policy, SQLSTATE 42501.%s', r.rolname, "
		"CASE WHEN s.is_owner THEN ', the owner, whom FORCE ROW LEVEL SECURITY includes' ELSE '' END, "
		"CASE WHEN s.n > 0 THEN ' Policies: ' OPERATOR(pg_catalog.||) s.names OPERATOR(pg_catalog.||) '.' ELSE '' END), "
		"CASE WHEN s.is_owner THEN pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', c.oid::pg_catalog.regclass) "
		"ELSE pg_catalog.format('CREATE POLICY %I ON %s FOR ALL TO %I USING (true) WITH CHECK (true);', 'signup by ' OPERATOR(pg_catalog.||) r.rolname, c.oid::pg_catalog.regclass, r.rolname) END "
		"FROM written AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid JOIN pg_catalog.pg_roles AS r ON r.oid = w.role LEFT JOIN targets AS t ON t.relid = c.oid "
		"CROSS JOIN LATERAL (SELECT pg_catalog.count(*), pg_catalog.bool_and(pg_catalog.pg_get_expr(coalesce(p.polwithcheck, p.polqual), c.oid) ~ "
		"'\\m(auth\\.(uid|role|email|jwt)\\(|request\\.jwt)'), pg_catalog.string_agg(pg_catalog.quote_ident(p.polname), ', ' ORDER BY p.polname), "
		"pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') FROM pg_catalog.pg_policy AS p "
		"WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('*', 'a') AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS g (role) WHERE g.role = 0 OR pg_catalog.pg_has_role(r.oid, g.role, 'USAGE'))) "
		"AS s (n, asks, names, is_owner) "
		"WHERE c.relrowsecurity AND NOT r.rolbypassrls AND NOT r.rolsuper AND (c.relforcerowsecurity OR NOT s.is_owner) AND (s.n = 0 OR s.asks)",
		TABLE_ARGS
	},
	/* defaults that take from a sequence */
	{
		.sql = "WITH " TARGETS ", " WRITTEN " "
		"SELECT CASE t.on_error WHEN 'raise' THEN 'error' ELSE 'warning' END, 'target', c.oid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('the default of column %I of %s takes from sequence %s, which %I may not use', a.attname, c.oid::pg_catalog.regclass, s.oid::pg_catalog.regclass, r.rolname), "
		"'Permission denied for sequence, SQLSTATE 42501.', "
		"pg_catalog.format('GRANT USAGE ON SEQUENCE %s TO %I;', s.oid::pg_catalog.regclass, r.rolname) "
		"FROM written AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid JOIN pg_catalog.pg_roles AS r ON r.oid = w.role JOIN targets AS t ON t.relid = c.oid AND t.relowner = r.oid "
		"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.atthasdef AND a.attnum > 0 AND a.attidentity = '' "
		"JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
		"JOIN pg_catalog.pg_depend AS e ON e.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND e.objid = d.oid AND e.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
		"JOIN pg_catalog.pg_class AS s ON s.oid = e.refobjid AND s.relkind = 'S' "
		"WHERE NOT r.rolsuper AND NOT pg_catalog.has_sequence_privilege(r.oid, s.oid, 'USAGE, UPDATE') "
		"AND NOT EXISTS (SELECT FROM targets AS t2 JOIN invite_sync.mapping AS m ON m.target_id = t2.id WHERE t2.relid = c.oid AND m.column_name = a.attname)",
		TABLE_ARGS
	},
	/* a partitioned table that has nowhere to put the row */
	{
		.sql = "WITH " WRITTEN " SELECT 'error', 'table', c.oid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format(CASE WHEN x.last IS NULL THEN 'the partitioned table %s has no partition' ELSE 'the last partition of %s has ended: there is none for now' END, c.oid::pg_catalog.regclass), "
		"pg_catalog.format('No partition of relation found for row, SQLSTATE 23514.%s', ' The last one ends at ' OPERATOR(pg_catalog.||) x.last::pg_catalog.text OPERATOR(pg_catalog.||) '.'), "
		"pg_catalog.format('CREATE TABLE %I.%I PARTITION OF %s %s;', n.nspname, pg_catalog.left(c.relname, 50) OPERATOR(pg_catalog.||) '_default', c.oid::pg_catalog.regclass, "
		"CASE p.partstrat WHEN 'h' THEN 'FOR VALUES WITH (MODULUS 1, REMAINDER 0)' ELSE 'DEFAULT' END) "
		"FROM (SELECT DISTINCT w.relid FROM written AS w) AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
		"JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = c.oid "
		"LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] "
		"AND a.atttypid IN ('pg_catalog.date'::pg_catalog.regtype, 'pg_catalog.timestamp'::pg_catalog.regtype, 'pg_catalog.timestamptz'::pg_catalog.regtype) "
		"LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~* '(now\\(\\)|CURRENT_|clock_timestamp)' "
		"CROSS JOIN LATERAL (SELECT pg_catalog.count(*), pg_catalog.bool_and(b.upper IS NOT NULL), pg_catalog.max(CASE WHEN d.oid IS NOT NULL THEN b.upper END::pg_catalog.timestamptz) "
		"FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS q ON q.oid = i.inhrelid "
		"CROSS JOIN LATERAL (SELECT pg_catalog.substring(pg_catalog.pg_get_expr(q.relpartbound, q.oid), ' TO \\(''([^'']+)''\\)$')) AS b (upper) WHERE i.inhparent = c.oid) AS x (n, bounded, last) "
		"WHERE p.partdefid = 0 AND (x.n = 0 OR p.partstrat = 'r' AND p.partnatts = 1 AND x.bounded AND x.last <= pg_catalog.now())",
		TABLE_ARGS
	},
	/* or none for what a column's default says, to which whoever writes it leaves it */
	{
		.sql = "WITH " WRITTEN " SELECT 'error', 'table', c.oid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('the default of column %I of %s belongs into no partition', a.attname, c.oid::pg_catalog.regclass), "
		"pg_catalog.format('Default: %s. No partition of relation found for row, SQLSTATE 23514.', pg_catalog.pg_get_expr(d.adbin, d.adrelid)), "
		"pg_catalog.format('CREATE TABLE %I.%I PARTITION OF %s DEFAULT;', n.nspname, pg_catalog.left(c.relname, 50) OPERATOR(pg_catalog.||) '_default', c.oid::pg_catalog.regclass) "
		"FROM (SELECT DISTINCT w.relid FROM written AS w) AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
		"JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = c.oid AND p.partstrat = 'l' AND p.partnatts = 1 AND p.partdefid = 0 "
		"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum "
		"CROSS JOIN LATERAL (SELECT pg_catalog.substring(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '^(''[^'']*'')(::[a-z ]+(\\([0-9]+\\))?)?$')) AS v (value) "
		"WHERE v.value IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid) "
		"AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS q ON q.oid = i.inhrelid WHERE i.inhparent = c.oid "
		"AND pg_catalog.strpos(pg_catalog.pg_get_expr(q.relpartbound, q.oid), v.value) > 0) "
		"AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p2 JOIN pg_catalog.pg_language AS l ON l.oid = p2.prolang AND l.lanname IN ('plpgsql', 'sql') "
		"WHERE pg_catalog.strpos(p2.prosrc, c.relname) > 0 AND pg_catalog.strpos(p2.prosrc, a.attname) > 0)",
		TABLE_ARGS
	},
	/* tables on another server, which asks who comes */
	{
		.sql = "WITH " WRITTEN " SELECT 'error', 'table', c.oid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('the foreign table %s is written at signup, and %I has no user mapping for its server %I', c.oid::pg_catalog.regclass, r.rolname, s.srvname), "
		"'User mapping not found, SQLSTATE 42704. With one, no signup succeeds while the other server cannot be reached.', "
		"pg_catalog.format('CREATE USER MAPPING FOR %I SERVER %I;', r.rolname, s.srvname) "
		"FROM written AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid AND c.relkind = 'f' JOIN pg_catalog.pg_roles AS r ON r.oid = w.role "
		"JOIN pg_catalog.pg_foreign_table AS f ON f.ftrelid = c.oid JOIN pg_catalog.pg_foreign_server AS s ON s.oid = f.ftserver "
		"JOIN pg_catalog.pg_foreign_data_wrapper AS d ON d.oid = s.srvfdw AND d.fdwname = 'postgres_fdw' "
		"WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_user_mappings AS m WHERE m.srvid = s.oid AND m.umuser IN (0, w.role))",
		TABLE_ARGS
	},
	/* rules */
	{
		.sql = "WITH " WRITTEN " SELECT 'warning', 'table', c.oid::pg_catalog.regclass::pg_catalog.text, pg_catalog.format('the rule %I on %s rewrites what is written at signup', x.rulename, c.oid::pg_catalog.regclass), "
		"pg_catalog.pg_get_ruledef(x.oid), pg_catalog.format('DROP RULE %I ON %s;', x.rulename, c.oid::pg_catalog.regclass) "
		"FROM (SELECT DISTINCT w.relid FROM written AS w) AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid JOIN pg_catalog.pg_rewrite AS x ON x.ev_class = c.oid "
		"WHERE c.relkind IN ('r', 'p') AND x.ev_enabled <> 'D' AND x.ev_type IN ('2', '3')",
		TABLE_ARGS
	},

	/* ---- targets ---- */

	/* NOT NULL and nothing to put there */
	{
		.sql = "WITH " TARGETS " SELECT CASE t.on_error WHEN 'raise' THEN 'error' ELSE 'warning' END, 'target', t.relid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('column %I of %s is NOT NULL without a default, and the mapping does not fill it', a.attname, t.relid::pg_catalog.regclass), "
		"pg_catalog.format('Null value violates not-null constraint, SQLSTATE 23502: %s. Give it a default, or a source: SELECT invite_sync.set_target(%L, mapping => ...).', "
		"CASE t.on_error WHEN 'raise' THEN 'every signup fails' ELSE 'every new user goes to quarantine' END, t.relid::pg_catalog.regclass), "
		"pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', t.relid::pg_catalog.regclass, a.attname) "
		"FROM targets AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped "
		"JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid "
		"WHERE (a.attnotnull OR y.typnotnull) AND NOT a.atthasdef AND y.typdefault IS NULL AND a.attidentity = '' AND a.attgenerated = '' AND a.attname <> t.key "
		"AND NOT EXISTS (SELECT FROM invite_sync.mapping AS m WHERE m.target_id = t.id AND m.column_name = a.attname) "
		"AND NOT " FILLED_BY_TRIGGER("t.relid", "a.attname"),
		TABLE_ARGS
	},
	/* NOT NULL, with a default that asks who is logged in */
	{
		.sql = "WITH " TARGETS " SELECT CASE t.on_error WHEN 'raise' THEN 'error' ELSE 'warning' END, 'target', t.relid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('column %I of %s is NOT NULL, and its default %s is NULL at signup', a.attname, t.relid::pg_catalog.regclass, pg_catalog.pg_get_expr(d.adbin, d.adrelid)), "
		"'Nobody is logged in yet: null value violates not-null constraint, SQLSTATE 23502. Give the column a source in the mapping.', "
		"pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', t.relid::pg_catalog.regclass, a.attname) "
		"FROM targets AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.relid AND a.attnum > 0 AND a.attnotnull AND a.attgenerated = '' AND a.attname <> t.key "
		"JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
		"WHERE pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '^auth\\.(uid|role|email|jwt)\\(\\)' "
		"AND NOT EXISTS (SELECT FROM invite_sync.mapping AS m WHERE m.target_id = t.id AND m.column_name = a.attname) AND NOT " FILLED_BY_TRIGGER("t.relid", "a.attname"),
		TABLE_ARGS
	},
	/* CHECKs against the empty text that a mapping makes */
	{
		.sql = "WITH " TARGETS " SELECT CASE t.on_error WHEN 'raise' THEN 'error' ELSE 'warning' END, 'target', t.relid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('check constraint %I of %s refuses an empty %I, which the mapping makes', k.conname, t.relid::pg_catalog.regclass, a.attname), "
		"pg_catalog.format('%s, and the source is %s: where a user has nothing there, the row violates check constraint, SQLSTATE 23514. A source that is NULL instead passes.', "
		"pg_catalog.pg_get_constraintdef(k.oid), m.expression), "
		"pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I;', t.relid::pg_catalog.regclass, k.conname) "
		"FROM targets AS t JOIN invite_sync.mapping AS m ON m.target_id = t.id JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.relid AND a.attname = m.column_name "
		"JOIN pg_catalog.pg_constraint AS k ON k.conrelid = t.relid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum] "
		"WHERE m.expression ~* 'coalesce\\s*\\(.*,\\s*''''(::[a-z ]+)?\\s*\\)\\s*$' AND pg_catalog.pg_get_constraintdef(k.oid) ~ '(<> ''''|length\\(.*\\) (> [0-9]|>= [1-9]))' "
		"AND pg_catalog.pg_get_constraintdef(k.oid) !~ ' OR ' AND NOT " FILLED_BY_TRIGGER("t.relid", "a.attname"),
		TABLE_ARGS
	},
	/* NOT NULL and filled from what not every user has */
	{
		.sql = "WITH " TARGETS " SELECT CASE WHEN m.expression ~* '^\\s*\\(?\\s*(users\\.)?raw_(user|app)_meta_data\\s*-' THEN CASE t.on_error WHEN 'raise' THEN 'error' ELSE 'warning' END ELSE 'info' END, "
		"'target', t.relid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('column %I of %s is NOT NULL and filled from what not every user has', a.attname, t.relid::pg_catalog.regclass), "
		"pg_catalog.format('Its source is %s. Invited users have no metadata of a form, users by telephone no address, others no number; anonymous ones nothing: null value violates not-null constraint, SQLSTATE 23502.', m.expression), "
		"pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', t.relid::pg_catalog.regclass, a.attname) "
		"FROM targets AS t JOIN invite_sync.mapping AS m ON m.target_id = t.id JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.relid AND a.attname = m.column_name "
		"WHERE a.attnotnull AND a.attname <> t.key AND m.expression ~* '^\\s*\\(?\\s*(users\\.)?(email|phone|raw_(user|app)_meta_data\\s*-)' "
		"AND NOT " FILLED_BY_TRIGGER("t.relid", "a.attname"),
		TABLE_ARGS
	},
	/* unique, and the same for all */
	{
		.sql = "WITH " TARGETS ", " WRITTEN ", every AS (SELECT DISTINCT w.relid FROM written AS w) "
		"SELECT CASE WHEN m.expression IS NULL OR t.on_error = 'raise' THEN 'error' ELSE 'warning' END, CASE WHEN t.relid IS NOT NULL THEN 'target' ELSE 'table' END, w.relid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('column %I of %s is unique, and %s', a.attname, w.relid::pg_catalog.regclass, CASE WHEN m.expression IS NOT NULL THEN 'its source is the same for many users' ELSE 'its default is the same for all' END), "
		"pg_catalog.format('%s: %s. The second user collides: duplicate key value violates unique constraint %I, SQLSTATE 23505.', "
		"CASE WHEN m.expression IS NOT NULL THEN 'Source' ELSE 'Default' END, coalesce(m.expression, pg_catalog.pg_get_expr(d.adbin, d.adrelid)), i.indexrelid::pg_catalog.regclass), "
		"CASE WHEN m.expression IS NULL THEN pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT%s;', w.relid::pg_catalog.regclass, a.attname, "
		"CASE WHEN a.attnotnull THEN pg_catalog.format(', ALTER COLUMN %I DROP NOT NULL', a.attname) ELSE '' END) END "
		"FROM every AS w LEFT JOIN targets AS t ON t.relid = w.relid JOIN pg_catalog.pg_index AS i ON i.indrelid = w.relid AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indkey[0] <> 0 "
		"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = w.relid AND a.attnum = i.indkey[0] AND a.attgenerated = '' AND a.attidentity = '' "
		"LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
		"LEFT JOIN invite_sync.mapping AS m ON m.target_id = t.id AND m.column_name = a.attname "
		"WHERE CASE WHEN m.expression IS NOT NULL THEN m.expression ~* 'coalesce\\s*\\(.*,\\s*''[^'']*''\\s*\\)' OR m.expression ~ '^\\s*''[^'']*''\\s*$' "
		"ELSE t.relid IS NOT NULL AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '^(''[^'']*''(::[a-z \"]+(\\([0-9]+\\))?)?|[0-9]+|true|false)$' END "
		"AND NOT " FILLED_BY_TRIGGER("w.relid", "a.attname"),
		TABLE_ARGS
	},
	/* constraints that wait for the COMMIT, on a third table */
	{
		.sql = "WITH " TARGETS ", " WRITTEN " "
		"SELECT DISTINCT 'warning', 'target', t.relid::pg_catalog.regclass::pg_catalog.text, "
		"pg_catalog.format('trigger %I of %s writes %s, which has a deferred constraint: %I', g.tgname, t.relid::pg_catalog.regclass, w.relid::pg_catalog.regclass, k.conname), "
		"'A sync runs with restricted rights, in which nothing can wait for the COMMIT: every user goes to quarantine with SQLSTATE 42501, cannot fire deferred trigger within security-restricted operation.', "
		"pg_catalog.format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE INITIALLY IMMEDIATE;', k.conrelid::pg_catalog.regclass, k.conname) "
		"FROM targets AS t JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = t.relid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid "
		"JOIN written AS w ON w.relid NOT IN (SELECT o.relid FROM targets AS o) JOIN pg_catalog.pg_class AS c ON c.oid = w.relid "
		"JOIN pg_catalog.pg_constraint AS k ON k.condeferred AND k.contype = 'f' AND k.conrelid = w.relid "
		"WHERE pg_catalog.strpos(p.prosrc, c.relname) > 0",
		TABLE_ARGS
	},
};

typedef struct TableArgs
{
	SavedPlan  *plan;
	Datum		values[TABLE_NARGS];
} TableArgs;

static void
check_catalogs(Doctor *doctor, void *arg)
{
	TableArgs  *args = (TableArgs *) arg;
	Scope		scope;

	scope_enter_own(&scope);
	doctor_run(doctor, args->plan, args->values, NULL);
	scope_leave(&scope);
}

/* ---------------------------------------------------------------------
 * What goes with a user
 * ---------------------------------------------------------------------
 */

static SavedPlan cascade_plan = {
	.sql = "WITH " KEYS " SELECT k.conrelid, k.confrelid, k.profile, k.confdeltype = 'c' FROM keys AS k WHERE (k.confdeltype = 'c' "
	"OR k.confdeltype IN ('a', 'r') AND (k.profile OR " NEVER_NULL ")) AND k.conrelid <> k.confrelid ORDER BY k.confdeltype = 'c' DESC, k.oid",
	.nargs = 0
};

typedef struct Going
{
	Oid			relid;
	int			depth;
	char	   *way;
	bool		everybody;		/* has a row there, not only some */
} Going;

typedef struct GoingRun
{
	TableArgs  *args;
	MemoryContext cxt;
} GoingRun;

/*
 * The foreign keys with ON DELETE CASCADE, and those that our fix gives it: what
 * blocks behind them would only be met then. Followed from auth.users, each
 * table by the shortest way: there may be more ways than anybody could walk.
 */
static void
find_going(Doctor *doctor, void *arg)
{
	GoingRun   *run = (GoingRun *) arg;
	MemoryContext old;
	Scope		scope;
	SPITupleTable *keys;
	Going	   *going;
	int			n = 1;
	bool		isnull;
	Datum	   *relids;
	Datum	   *depths;
	Datum	   *ways;
	Datum	   *all;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&cascade_plan, NULL, NULL, true, 0);
	scope_leave(&scope);
	keys = SPI_tuptable;
	going = palloc0(sizeof(Going) * (keys->numvals + 1));
	going[0].relid = doctor->auth_users;
	going[0].way = "";
	going[0].everybody = true;
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (uint64 k = 0; k < keys->numvals; k++)
		{
			Oid			relid;
			bool		everybody;
			char	   *name;
			int			j = 0;

			if (DatumGetObjectId(SPI_getbinval(keys->vals[k], keys->tupdesc, 2, &isnull)) != going[i].relid)
				continue;
			relid = DatumGetObjectId(SPI_getbinval(keys->vals[k], keys->tupdesc, 1, &isnull));
			everybody = going[i].everybody && DatumGetBool(SPI_getbinval(keys->vals[k], keys->tupdesc, 3, &isnull));
			while (j < n && going[j].relid != relid)
				j++;
			if (j < n)
			{
				if (going[j].depth == going[i].depth + 1)
					going[j].everybody = going[j].everybody || everybody;
				continue;
			}
			name = doctor_relation_name(relid);
			if (name == NULL)
				continue;
			if (!DatumGetBool(SPI_getbinval(keys->vals[k], keys->tupdesc, 4, &isnull)))
				name = psprintf("%s (once its own key is mended)", name);
			going[n].relid = relid;
			going[n].depth = going[i].depth + 1;
			/* the text is for people */
			going[n].way = going[i].depth == 0 ? name : going[i].depth < 12 ? psprintf("%s, %s", going[i].way, name) : going[i].way;
			going[n].everybody = everybody;
			n++;
		}
	}
	relids = palloc(sizeof(Datum) * n);
	depths = palloc(sizeof(Datum) * n);
	ways = palloc(sizeof(Datum) * n);
	all = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		relids[i] = ObjectIdGetDatum(going[i].relid);
		depths[i] = Int32GetDatum(going[i].depth);
		ways[i] = CStringGetTextDatum(going[i].way);
		all[i] = BoolGetDatum(going[i].everybody);
	}
	old = MemoryContextSwitchTo(run->cxt);
	run->args->values[5] = plan_array(relids, NULL, n, OIDOID);
	run->args->values[6] = plan_array(depths, NULL, n, INT4OID);
	run->args->values[7] = plan_array(ways, NULL, n, TEXTOID);
	run->args->values[8] = plan_array(all, NULL, n, BOOLOID);
	MemoryContextSwitchTo(old);
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * Constraints of targets, by their form
 * ---------------------------------------------------------------------
 */

#define TEXT_CONSTANT "'^\\s*''((?:[^'']|'''')*)''(?:::[a-z_. ]+(?:\\([0-9]+\\))?)?\\s*$'"

/* The text that is the source of a target's column, or its default; NULL: what stands before the @ of an address. */
static SavedPlan texts_plan = {
	.sql = "WITH " TARGETS " SELECT t.relid, t.relid::pg_catalog.regclass::pg_catalog.text, a.attname, t.on_error = 'quarantine', "
	"CASE WHEN m.expression IS NULL THEN 'default' ELSE 'source' END OPERATOR(pg_catalog.||) ' is ' OPERATOR(pg_catalog.||) v.text, "
	"pg_catalog.replace(pg_catalog.substring(v.text, " TEXT_CONSTANT "), '''''', '''') "
	"FROM targets AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' "
	"LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
	"LEFT JOIN invite_sync.mapping AS m ON m.target_id = t.id AND m.column_name = a.attname "
	"CROSS JOIN LATERAL (SELECT coalesce(m.expression, pg_catalog.pg_get_expr(d.adbin, d.adrelid))) AS v (text) "
	"WHERE (v.text ~ " TEXT_CONSTANT " "
	"OR m.expression ~* '^\\s*(lower\\s*\\()?\\s*(coalesce\\s*\\(.*,\\s*)?split_part\\s*\\(\\s*(users\\.)?email(::[a-z ]+)?\\s*,\\s*''@''(::[a-z ]+)?\\s*,\\s*1\\s*\\)\\s*\\)*\\s*$') "
	"AND NOT " FILLED_BY_TRIGGER("t.relid", "a.attname"),
	TABLE_ARGS
};

static void
check_text(Doctor *doctor, Oid relid, const char *table, const char *column, bool contained, const char *what, const char *text)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	AttrNumber	attno;
	char	   *constraint = NULL;
	char	   *fix = NULL;
	const char *value = text;

	if (rel == NULL)
		return;
	attno = get_attnum(relid, column);
	if (attno != InvalidAttrNumber && text != NULL)
		constraint = query_refusing(rel, attno, text, &fix);
	for (int i = 0; attno != InvalidAttrNumber && text == NULL && constraint == NULL && query_local_parts[i] != NULL; i++)
	{
		value = query_local_parts[i];
		constraint = query_refusing(rel, attno, value, &fix);
	}
	relation_close(rel, AccessShareLock);
	if (constraint != NULL)
		doctor_finding(doctor, contained || text == NULL ? DOCTOR_WARNING : DOCTOR_ERROR, "target", table,
					   psprintf("%s refuses what the sync writes into column %s of %s", constraint, quote_identifier(column), table),
					   psprintf("Its %s: '%s'%s violates the check constraint, SQLSTATE 23514%s.", what, value,
								text == NULL ? ", of one whose address begins so," : "", contained ? ", and the user goes to quarantine" : ""),
					   fix);
}

static void
check_texts(Doctor *doctor, void *arg)
{
	TableArgs  *args = (TableArgs *) arg;
	Scope		scope;
	SPITupleTable *rows;
	bool		isnull;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&texts_plan, args->values, NULL, true, 0);
	scope_leave(&scope);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < rows->numvals; i++)
		check_text(doctor, DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull)),
				   SPI_getvalue(rows->vals[i], rows->tupdesc, 2), SPI_getvalue(rows->vals[i], rows->tupdesc, 3),
				   DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc, 4, &isnull)),
				   SPI_getvalue(rows->vals[i], rows->tupdesc, 5), SPI_getvalue(rows->vals[i], rows->tupdesc, 6));
	SPI_finish();
}

/* ---------------------------------------------------------------------
 * Rows, as the owner of their table
 * ---------------------------------------------------------------------
 */

/* What to look at there: the statements return it as rows. */
typedef struct RowQuestion
{
	void		(*look) (Doctor *doctor, void *arg);
	Oid			relid;
	Oid			owner;
	char	   *table;
	char	   *column;
	bool		contained;		/* what fails goes to quarantine */
	Oid			other;			/* another relation */
	Oid			other_owner;
	char	   *other_name;
	char	   *other_column;
	char	   *text;
} RowQuestion;

#define ROW_COLUMNS "c.oid, c.relowner, c.oid::pg_catalog.regclass::pg_catalog.text, a.attname, t.on_error IS NOT DISTINCT FROM 'quarantine'"
/* Policies are somebody's code: they hold for an owner only where they are forced. */
#define READABLE(rel) rel ".relkind IN ('r', 'p') AND NOT (" rel ".relrowsecurity AND " rel ".relforcerowsecurity) "
#define ROW_FROM \
	"FROM (SELECT DISTINCT w.relid FROM written AS w) AS w JOIN pg_catalog.pg_class AS c ON c.oid = w.relid AND " READABLE("c") \
	"JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname NOT IN ('auth', 'invite_sync') " \
	"LEFT JOIN targets AS t ON t.relid = c.oid JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "

/* Rows of users who are gone, with an address that nobody else may have. */
static SavedPlan orphan_plan = {
	.sql = "WITH " TARGETS ", " WRITTEN " SELECT " ROW_COLUMNS ", 0::pg_catalog.oid, 0::pg_catalog.oid, u.index, NULL, NULL " ROW_FROM
	"CROSS JOIN LATERAL (SELECT i.indexrelid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique "
	"AND i.indnkeyatts = 1 AND pg_catalog.pg_get_indexdef(i.indexrelid, 1, false) ~* '(mail|phone)' LIMIT 1) AS u (index) "
	"WHERE a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND CASE WHEN t.relid IS NOT NULL THEN a.attname = t.key ELSE NOT a.atthasdef AND (" USER_COLUMN("a") " OR "
	"EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)) END "
	"AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f' AND k.conrelid = c.oid AND k.conkey = ARRAY[a.attnum] AND k.convalidated)",
	TABLE_ARGS
};

/* Columns with a default that refers to a row of another table. */
static SavedPlan default_plan = {
	.sql = "WITH " TARGETS ", " WRITTEN " SELECT " ROW_COLUMNS ", o.oid, o.relowner, o.oid::pg_catalog.regclass::pg_catalog.text, b.attname, "
	"pg_catalog.format('%I', k.conname) " ROW_FROM
	"JOIN pg_catalog.pg_constraint AS k ON k.contype = 'f' AND k.conrelid = c.oid AND k.conkey = ARRAY[a.attnum] AND k.conparentid = 0 "
	"JOIN pg_catalog.pg_class AS o ON o.oid = k.confrelid AND " READABLE("o") "JOIN pg_catalog.pg_attribute AS b ON b.attrelid = o.oid AND b.attnum = k.confkey[1] "
	"WHERE a.atthasdef AND a.attgenerated = '' AND NOT EXISTS (SELECT FROM written AS x WHERE x.relid = o.oid) "
	"AND NOT EXISTS (SELECT FROM invite_sync.mapping AS m WHERE m.target_id = t.id AND m.column_name = a.attname) "
	/* whoever names it gives it a value */
	"AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang AND l.lanname IN ('plpgsql', 'sql') "
	"WHERE pg_catalog.strpos(p.prosrc, c.relname) > 0 AND pg_catalog.strpos(p.prosrc, a.attname) > 0)",
	TABLE_ARGS
};

/* Columns that are numbered by a sequence. */
#define ITS_SEQUENCE \
	"JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum " \
	"AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') JOIN pg_catalog.pg_class AS q ON q.oid = d.objid AND q.relkind = 'S' " \
	"JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = q.oid AND s.seqincrement > 0 " \
	"WHERE a.atttypid IN ('pg_catalog.int2'::pg_catalog.regtype, 'pg_catalog.int4'::pg_catalog.regtype, 'pg_catalog.int8'::pg_catalog.regtype) AND (a.atthasdef OR a.attidentity <> '') " \
	"AND EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)"
static SavedPlan sequence_plan = {
	.sql = "WITH " TARGETS ", " WRITTEN " SELECT DISTINCT " ROW_COLUMNS ", q.oid, q.relowner, q.oid::pg_catalog.regclass::pg_catalog.text, NULL, NULL " ROW_FROM
	ITS_SEQUENCE,
	TABLE_ARGS
};

/* The one of the auth server's own that is numbered: users were moved with their sessions. */
static SavedPlan token_sequence_plan = {
	.sql = "SELECT c.oid, c.relowner, c.oid::pg_catalog.regclass::pg_catalog.text, a.attname, false, q.oid, q.relowner, q.oid::pg_catalog.regclass::pg_catalog.text, NULL, NULL "
	"FROM pg_catalog.pg_class AS u JOIN pg_catalog.pg_class AS c ON c.relnamespace = u.relnamespace AND c.relname = 'refresh_tokens' AND c.relowner = u.relowner AND " READABLE("c")
	"JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
	ITS_SEQUENCE " AND u.oid = $1",
	TABLE_ARGS
};

/* Columns that are set to their default when the user goes whom they name. */
static SavedPlan set_default_plan = {
	.sql = "WITH " KEYS ", " WENT " "
	"SELECT c.oid, c.relowner, c.oid::pg_catalog.regclass::pg_catalog.text, a.attname, false, o.oid, o.relowner, o.oid::pg_catalog.regclass::pg_catalog.text, b.attname, "
	"pg_catalog.format('%I', k.conname) FROM went AS s JOIN keys AS k ON k.confrelid = s.relid AND k.confdeltype = 'd' AND pg_catalog.cardinality(k.conkey) = 1 "
	"JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.conkey[1] AND a.atthasdef "
	"JOIN pg_catalog.pg_class AS o ON o.oid = k.confrelid AND " READABLE("o") "JOIN pg_catalog.pg_attribute AS b ON b.attrelid = o.oid AND b.attnum = k.confkey[1]",
	TABLE_ARGS
};

#define AS_OWNER_PATH "pg_catalog, pg_temp"

static void
look_for_orphans(Doctor *doctor, void *arg)
{
	RowQuestion *q = (RowQuestion *) arg;
	Scope		scope;
	Datum	   *ids;
	Datum		value;
	Oid			type = UUIDARRAYOID;
	int64		n;
	int64		gone;
	bool		isnull;
	StringInfoData detail;

	SPI_connect();
	scope_enter_target(&scope, q->owner, AS_OWNER_PATH);
	SPI_execute_plan(plan_try(psprintf("SELECT t.%s FROM %s AS t WHERE t.%s IS NOT NULL LIMIT %d",
									   quote_identifier(q->column), q->table, quote_identifier(q->column), ORPHANS_MAX), 0, NULL),
					 NULL, NULL, true, ORPHANS_MAX);
	scope_leave(&scope);
	n = (int64) SPI_processed;
	ids = palloc(sizeof(Datum) * Max(n, 1));
	for (int64 i = 0; i < n; i++)
		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	value = plan_array(ids, NULL, n, UUIDOID);
	scope_enter_auth(&scope);
	SPI_execute_plan(plan_try("SELECT g.id, pg_catalog.count(*) OVER () FROM pg_catalog.unnest($1) AS g (id) "
							  "WHERE NOT EXISTS (SELECT FROM auth.users AS u WHERE u.id = g.id) ORDER BY 1 LIMIT 5", 1, &type),
					 &value, NULL, true, 5);
	scope_leave(&scope);
	if (SPI_processed > 0)
	{
		gone = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		initStringInfo(&detail);
		appendStringInfo(&detail, "Who signs up or is invited again with such an address collides with it: duplicate key value violates unique constraint %s, SQLSTATE 23505. Rows: " INT64_FORMAT "%s (",
						 q->other_name, gone, n == ORPHANS_MAX ? ", of those that were looked at" : "");
		for (uint64 i = 0; i < SPI_processed; i++)
			appendStringInfo(&detail, "%s%s", i > 0 ? ", " : "", SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
		appendStringInfoString(&detail, gone > 5 ? ", ...)." : ").");
		doctor_finding(doctor, q->contained ? DOCTOR_WARNING : DOCTOR_ERROR, q->contained ? "target" : "table", q->table,
					   psprintf("orphan rows of %s, whose users are gone, hold an email address or number that must be unique", q->table), detail.data,
					   psprintf("DELETE FROM %s AS t WHERE NOT EXISTS (SELECT FROM auth.users AS u WHERE u.id = t.%s);",
								q->table, quote_identifier(q->column)));
	}
	SPI_finish();
}

/* The constant that a default is; NULL: something else, or of a type that is not the server's own. */
static Const *
constant_default(Oid relid, AttrNumber attnum)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	Node	   *node = NULL;

	if (rel == NULL)
		return NULL;
	for (int i = 0; rel->rd_att->constr != NULL && i < rel->rd_att->constr->num_defval; i++)
		if (rel->rd_att->constr->defval[i].adnum == attnum)
			node = (Node *) stringToNode(rel->rd_att->constr->defval[i].adbin);
	relation_close(rel, AccessShareLock);
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	if (node == NULL || !IsA(node, Const) || ((Const *) node)->constisnull || ((Const *) node)->consttype >= FirstNormalObjectId)
		return NULL;
	return (Const *) node;
}

/* Is the column's default a constant that names no row? */
static bool
names_no_row(RowQuestion *q)
{
	Const	   *constant = constant_default(q->relid, get_attnum(q->relid, q->column));
	Scope		scope;
	bool		result;

	if (constant == NULL || get_atttype(q->other, get_attnum(q->other, q->other_column)) >= FirstNormalObjectId)
		return false;
	SPI_connect();
	scope_enter_target(&scope, q->other_owner, AS_OWNER_PATH);
	SPI_execute_plan(plan_try(psprintf("SELECT FROM %s AS t WHERE t.%s OPERATOR(pg_catalog.=) $1", q->other_name, quote_identifier(q->other_column)),
							  1, &constant->consttype), &constant->constvalue, NULL, true, 1);
	scope_leave(&scope);
	result = SPI_processed == 0;
	SPI_finish();
	return result;
}

/* No default is null, where the column may be. */
static char *
fix_default(RowQuestion *q)
{
	HeapTuple	tuple = SearchSysCacheAttName(q->relid, q->column);
	bool		optional = HeapTupleIsValid(tuple) && !((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return optional ? psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT;", q->table, quote_identifier(q->column)) : NULL;
}

static void
look_for_default(Doctor *doctor, void *arg)
{
	RowQuestion *q = (RowQuestion *) arg;

	if (names_no_row(q))
		doctor_finding(doctor, q->contained ? DOCTOR_WARNING : DOCTOR_ERROR, q->contained ? "target" : "table", q->table,
					   psprintf("the default of column %s of %s names no row of %s", quote_identifier(q->column), q->table, q->other_name),
					   psprintf("A row that leaves the column out violates foreign key constraint %s, SQLSTATE 23503. Make the row that the default names, or choose another default.", q->text),
					   fix_default(q));
}

static void
look_for_set_default(Doctor *doctor, void *arg)
{
	RowQuestion *q = (RowQuestion *) arg;

	if (names_no_row(q))
		doctor_finding(doctor, DOCTOR_WARNING, "delete", q->table,
					   psprintf("foreign key %s of %s is ON DELETE SET DEFAULT, and the default of column %s names no row of %s", q->text, q->table,
								quote_identifier(q->column), q->other_name),
					   "A user with a row there cannot be deleted: violates foreign key constraint, SQLSTATE 23503. Make the row that the default names, or choose another default.",
					   fix_default(q));
}

static void
look_for_sequence(Doctor *doctor, void *arg)
{
	RowQuestion *q = (RowQuestion *) arg;
	Scope		scope;

	SPI_connect();
	scope_enter_target(&scope, q->owner, AS_OWNER_PATH);
	SPI_execute_plan(plan_try(psprintf("SELECT FROM (SELECT pg_catalog.max(t.%s)::pg_catalog.int8 FROM %s AS t) AS m (last), %s AS s "
									   "WHERE m.last >= CASE WHEN s.is_called THEN s.last_value + 1 ELSE s.last_value END",
									   quote_identifier(q->column), q->table, q->other_name), 0, NULL), NULL, NULL, true, 1);
	scope_leave(&scope);
	if (SPI_processed > 0)
		doctor_finding(doctor, q->contained ? DOCTOR_WARNING : DOCTOR_ERROR, q->contained ? "target" : "table", q->table,
					   psprintf("sequence %s is behind the values of column %s of %s", q->other_name, quote_identifier(q->column), q->table),
					   "The next number it gives is not above all that are there, as after rows were copied with their numbers: duplicate key value violates unique constraint, SQLSTATE 23505.",
					   psprintf("SELECT pg_catalog.setval(%s, (SELECT pg_catalog.max(t.%s) FROM %s AS t));",
								quote_literal_cstr(q->other_name), quote_identifier(q->column), q->table));
	SPI_finish();
}

typedef struct RowCheck
{
	SavedPlan  *plan;
	void		(*look) (Doctor *doctor, void *arg);
} RowCheck;

static const RowCheck row_checks[] = {
	{&orphan_plan, look_for_orphans},
	{&default_plan, look_for_default},
	{&sequence_plan, look_for_sequence},
	{&token_sequence_plan, look_for_sequence},
	{&set_default_plan, look_for_set_default},
};

typedef struct Questions
{
	TableArgs  *args;
	const RowCheck *check;
	MemoryContext cxt;
	RowQuestion *list;
	uint64		n;
} Questions;

static void
find_questions(Doctor *doctor, void *arg)
{
	Questions  *questions = (Questions *) arg;
	MemoryContext old;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(questions->check->plan, questions->args->values, NULL, true, 0);
	scope_leave(&scope);
	old = MemoryContextSwitchTo(questions->cxt);
	questions->n = SPI_processed;
	questions->list = palloc0(sizeof(RowQuestion) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		RowQuestion *q = &questions->list[i];
		char	   *text[10];
		bool		isnull;

		for (int c = 0; c < 10; c++)
			text[c] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1);
		q->relid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		q->owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		q->table = text[2];
		q->column = text[3];
		q->contained = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 5, &isnull));
		q->other = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 6, &isnull));
		q->other_owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 7, &isnull));
		q->other_name = text[7];
		q->other_column = text[8];
		q->text = text[9];
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
}

static void
look_at_rows(Doctor *doctor, TableArgs *args, const RowCheck *check)
{
	Questions	questions;

	questions.args = args;
	questions.check = check;
	questions.cxt = CurrentMemoryContext;
	questions.list = NULL;
	questions.n = 0;
	if (!doctor_contained(doctor, "table", "auth.users", find_questions, &questions))
		return;
	for (uint64 i = 0; i < questions.n; i++)
	{
		RowQuestion *q = &questions.list[i];

		CHECK_FOR_INTERRUPTS();
		if (doctor_may_look(doctor, q->owner) && (!OidIsValid(q->other_owner) || doctor_may_look(doctor, q->other_owner)))
			doctor_contained(doctor, "table", q->table, check->look, q);
	}
}

void
doctor_check_tables(Doctor *doctor)
{
	TableArgs	args;
	GoingRun	going;
	const DoctorReach *reaches;
	int			n;
	Datum	   *tables;
	Datum	   *roles;
	Datum	   *commands;

	int			guc_level;

	if (!OidIsValid(doctor->auth_users))
		return;
	guc_level = NewGUCNestLevel();
	sync_bound_lock_wait();
	reaches = doctor_reaches(doctor, &n);
	tables = palloc(sizeof(Datum) * Max(n, 1));
	roles = palloc(sizeof(Datum) * Max(n, 1));
	commands = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		tables[i] = ObjectIdGetDatum(reaches[i].relid);
		roles[i] = ObjectIdGetDatum(reaches[i].role);
		/* what only a deletion sets off is no matter of signups */
		commands[i] = Int32GetDatum(reaches[i].events & ~(1 << CMD_DELETE) ? reaches[i].commands : reaches[i].commands & ~(1 << CMD_INSERT));
	}
	args.values[0] = ObjectIdGetDatum(doctor->auth_users);
	args.values[1] = plan_array(tables, NULL, n, OIDOID);
	args.values[2] = plan_array(roles, NULL, n, OIDOID);
	args.values[3] = plan_array(commands, NULL, n, INT4OID);
	args.values[4] = CStringGetTextDatum(caller_lineage(InvalidSnapshot));
	args.values[5] = plan_array(&args.values[0], NULL, 0, OIDOID);
	args.values[6] = plan_array(&args.values[0], NULL, 0, INT4OID);
	args.values[7] = plan_array(&args.values[0], NULL, 0, TEXTOID);
	args.values[8] = plan_array(&args.values[0], NULL, 0, BOOLOID);
	going.args = &args;
	going.cxt = CurrentMemoryContext;
	doctor_contained(doctor, "delete", "auth.users", find_going, &going);
	for (size_t i = 0; i < lengthof(table_plans); i++)
	{
		args.plan = &table_plans[i];
		doctor_contained(doctor, "table", "auth.users", check_catalogs, &args);
	}
	doctor_contained(doctor, "target", "auth.users", check_texts, &args);
	for (size_t i = 0; i < lengthof(row_checks); i++)
		look_at_rows(doctor, &args, &row_checks[i]);
	AtEOXact_GUC(false, guc_level);
}
