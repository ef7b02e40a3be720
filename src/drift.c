/*-------------------------------------------------------------------------
 *
 * drift.c
 *	  What the schema is, and what changed since somebody approved it.
 *
 * What a snapshot is made of, and what differs between two, is relational and
 * so SQL, in sql/drift.sql. Here are the parts of it that SQL cannot do, and
 * the functions of operators around it. Catalogs are read by the powerless
 * role, which reads what everybody can; nothing is planned or run that names an
 * object of a user's.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteSupport.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "drift.h"
#include "event.h"
#include "plan.h"
#include "sync.h"

#define DRIFT_CHANNEL		"invite_sync_drift"

/* A literal this long may be a secret. */
#define SECRET_BYTES		16

/* How often the catalogs are looked at anew when something is dropped under us. */
#define LOOKS_MAX			10

#define DETAIL_LINES		100
#define DETAIL_VALUE_BYTES	200
#define PRUNE_BATCH_MAX		10000

PG_FUNCTION_INFO_V1(drift_name);
PG_FUNCTION_INFO_V1(drift_hash);
PG_FUNCTION_INFO_V1(drift_masked);
PG_FUNCTION_INFO_V1(drift_view_definition);
PG_FUNCTION_INFO_V1(drift_describe_schema);
PG_FUNCTION_INFO_V1(drift_snapshot_schema);
PG_FUNCTION_INFO_V1(drift_schema_diff);
PG_FUNCTION_INFO_V1(drift_approve_snapshot);
PG_FUNCTION_INFO_V1(drift_approve_drift);
PG_FUNCTION_INFO_V1(drift_check);
PG_FUNCTION_INFO_V1(drift_export_snapshot);
PG_FUNCTION_INFO_V1(drift_import_snapshot);
PG_FUNCTION_INFO_V1(drift_assert_none);
PG_FUNCTION_INFO_V1(drift_prune_snapshots);
PG_FUNCTION_INFO_V1(drift_schedule_check);
PG_FUNCTION_INFO_V1(drift_unschedule_check);

static void name_branches(Query *query, Node *node, Oid view);

/* ---------------------------------------------------------------------
 * Parts of a snapshot
 * ---------------------------------------------------------------------
 */

/* One that needs no quotes, but for being a key word of some major. */
static bool
simple_name(const char *s, int len)
{
	return len > 0 && (s[0] == '_' || (s[0] >= 'a' && s[0] <= 'z')) &&
		strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_$") >= (size_t) len;
}

/* drift_name(name) */
Datum
drift_name(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	StringInfoData quoted;

	if (simple_name(name, strlen(name)))
		PG_RETURN_TEXT_P(cstring_to_text(name));
	initStringInfo(&quoted);
	appendStringInfoChar(&quoted, '"');
	for (const char *p = name; *p != '\0'; p++)
	{
		if (*p == '"')
			appendStringInfoChar(&quoted, '"');
		appendStringInfoChar(&quoted, *p);
	}
	appendStringInfoChar(&quoted, '"');
	PG_RETURN_TEXT_P(cstring_to_text_with_len(quoted.data, quoted.len));
}

/* "sha256:" and the digest in hex; of UTF-8, so that databases of different encodings agree. */
static void
append_hash(StringInfo out, const char *s, int len)
{
	char	   *copy = pnstrdup(s, len);
	char	   *utf8 = GetDatabaseEncoding() == PG_SQL_ASCII ? copy : pg_server_to_any(copy, len, PG_UTF8);
	bytea	   *digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(utf8)));

	appendStringInfoString(out, "sha256:");
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		appendStringInfo(out, "%02x", (uint8) VARDATA_ANY(digest)[i]);
	pfree(copy);
}

/* drift_hash(value) */
Datum
drift_hash(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	StringInfoData hash;

	initStringInfo(&hash);
	append_hash(&hash, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(hash.data, hash.len));
}

/*
 * Keys, tokens and passwords are long, and of more than small letters and what
 * separates the words of a name.
 */
static bool
maybe_secret(const char *s, int len)
{
	if (len < SECRET_BYTES)
		return false;
	for (int i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || strchr("_.:/", s[i]) != NULL))
			return true;
	return false;
}

/* Is what follows a literal the cast to a type that has no secrets: names of objects, and times? */
static bool
harmless_type(const char *s)
{
	static const char *const types[] = {"::reg", "::timestamp", "::date", "::time", "::interval"};

	for (size_t i = 0; i < lengthof(types); i++)
		if (strncmp(s, types[i], strlen(types[i])) == 0)
			return true;
	return false;
}

/*
 * Behind the quoted text that starts here: ruleutils.c doubles quotes, and an E
 * before a literal means that backslashes escape.
 */
static const char *
after_quoted(const char *text, const char *start)
{
	char		quote = *start;
	bool		escapes = quote == '\'' && start > text && start[-1] == 'E' &&
		(start == text + 1 || strchr("abcdefghijklmnopqrstuvwxyz0123456789_$", start[-2]) == NULL);
	const char *p = start + 1;

	for (; *p != '\0'; p++)
	{
		if (escapes && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == quote && p[1] == quote)
			p++;
		else if (*p == quote)
			return p + 1;
	}
	return p;
}

/*
 * Secrets become hashes. Names that are quoted because they are key words are so
 * in some majors only, and ruleutils.c writes its own key words in capitals: so
 * those names lose their quotes.
 */
static char *
mask_literals(const char *text)
{
	StringInfoData out;
	const char *p = text;

	initStringInfo(&out);
	while (*p != '\0')
	{
		const char *start = p;
		int			len;

		if (*p != '\'' && *p != '"')
		{
			appendStringInfoChar(&out, *p++);
			continue;
		}
		p = after_quoted(text, start);
		len = p - start - 2;
		if (*start == '"' && simple_name(start + 1, len))
			appendBinaryStringInfo(&out, start + 1, len);
		else if (*start == '\'' && maybe_secret(start + 1, len) && !harmless_type(p))
		{
			appendStringInfoChar(&out, '\'');
			append_hash(&out, start + 1, len);
			appendStringInfoChar(&out, '\'');
		}
		else
			appendBinaryStringInfo(&out, start, p - start);
	}
	return out.data;
}

/* Behind the next character, quoted text, or group in parentheses or brackets. */
static const char *
after_token(const char *text, const char *p)
{
	int			depth = 0;

	do
	{
		if (*p == '\'' || *p == '"')
			p = after_quoted(text, p);
		else
		{
			if (*p == '(' || *p == '[')
				depth++;
			else if (*p == ')' || *p == ']')
				depth--;
			p++;
		}
	} while (depth > 0 && *p != '\0');
	return p;
}

/* How long the name of T is where T[] stands; 0 where something else does. */
static int
element_type_length(const char *text, const char *start)
{
	const char *p = start;

	while (*p != '\0' && *p != '[')
	{
		if (*p == '"' || *p == '(')
			p = after_token(text, p);
		else if ((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr("_$. ", *p) != NULL)
			p++;
		else
			return 0;
	}
	return strncmp(p, "[]", 2) == 0 ? p - start : 0;
}

/* The ARRAY[a, b] at p as ARRAY[(a)::type, (b)::type]; arrays in it likewise. */
static void
append_cast_elements(StringInfo out, const char *array, const char *p, const char *type, int typelen)
{
	appendStringInfoString(out, "ARRAY[");
	p += strlen("ARRAY[");
	while (*p != ']' && *p != '\0')
	{
		const char *element = p;

		while (*p != ',' && *p != ']' && *p != '\0')
			p = after_token(array, p);
		if (strncmp(element, "ARRAY[", strlen("ARRAY[")) == 0 && after_token(array, element + strlen("ARRAY")) == p)
			append_cast_elements(out, array, element, type, typelen);
		else
			appendStringInfo(out, "(%.*s)::%.*s", (int) (p - element), element, typelen, type);
		if (*p == ',')
		{
			appendStringInfoString(out, ", ");
			p += strspn(p, ", ");
		}
	}
	appendStringInfoChar(out, ']');
}

/* What joins the operands of a group in parentheses, if anything does. */
typedef enum Connective
{
	CONNECTIVE_NONE,
	CONNECTIVE_AND,
	CONNECTIVE_OR,
	CONNECTIVE_BOTH				/* in no group of operands */
} Connective;

static Connective
connective_at(const char *p)
{
	if (strncmp(p, " AND ", strlen(" AND ")) == 0)
		return CONNECTIVE_AND;
	if (strncmp(p, " OR ", strlen(" OR ")) == 0)
		return CONNECTIVE_OR;
	return CONNECTIVE_NONE;
}

/* A group in parentheses that is an operand of the group around it: where it is in the output. */
typedef struct Operand
{
	int			start;
	int			end;
	Connective	connective;
} Operand;

/*
 * Append what stands up to the closing character (or the end, for '\0'), in the
 * form that it has after a dump and a restore, where reading what ruleutils.c
 * printed gives another tree than the first one:
 *
 * - a cast of a whole array, which IN makes of varchars, is read back as casts of
 *   its elements;
 * - a conjunction within a conjunction, which BETWEEN makes, as one of them all;
 *   likewise disjunctions;
 * - XMLSERIALIZE says NO INDENT since 16.
 */
static Connective
append_as_restored(StringInfo out, const char *text, const char **pp, char closing)
{
	const char *p = *pp;
	Connective	connective = CONNECTIVE_NONE;
	bool		operand = true;
	Operand    *operands = NULL;
	int			noperands = 0;

	check_stack_depth();
	while (*p != '\0' && *p != closing)
	{
		Connective	between = connective_at(p);
		int			start = out->len;

		if (between != CONNECTIVE_NONE)
		{
			connective = connective == CONNECTIVE_NONE || connective == between ? between : CONNECTIVE_BOTH;
			appendStringInfoString(out, between == CONNECTIVE_AND ? " AND " : " OR ");
			p += strlen(between == CONNECTIVE_AND ? " AND " : " OR ");
			operand = true;
			continue;
		}
		if (*p == '\'' || *p == '"')
		{
			const char *end = after_quoted(text, p);

			appendBinaryStringInfo(out, p, end - p);
			p = end;
		}
		else if (*p == '(' || *p == '[')
		{
			bool		parentheses = *p == '(';
			Connective	inner;
			const char *closed;
			int			typelen;

			appendStringInfoChar(out, *p++);
			inner = append_as_restored(out, text, &p, parentheses ? ')' : ']');
			if (*p != '\0')
				appendStringInfoChar(out, *p++);
			closed = p;
			if (parentheses && strncmp(out->data + start, "(ARRAY[", strlen("(ARRAY[")) == 0 &&
				after_token(out->data, out->data + start + strlen("(ARRAY")) == out->data + out->len - 1 &&
				strncmp(p, "::", 2) == 0 && (typelen = element_type_length(text, p + 2)) > 0)
			{
				char	   *array = pnstrdup(out->data + start + 1, out->len - start - 2);

				out->len = start;
				append_cast_elements(out, array, array, p + 2, typelen);
				p += 2 + typelen + 2;
				pfree(array);
			}
			else if (parentheses && operand && (inner == CONNECTIVE_AND || inner == CONNECTIVE_OR) &&
					 (*closed == closing || connective_at(closed) != CONNECTIVE_NONE))
			{
				if (operands == NULL)
					operands = palloc(sizeof(Operand));
				else
					operands = repalloc(operands, sizeof(Operand) * (noperands + 1));
				operands[noperands].start = start;
				operands[noperands].end = out->len - 1;
				operands[noperands].connective = inner;
				noperands++;
			}
		}
		else if (strncmp(p, " NO INDENT)", strlen(" NO INDENT)")) == 0)
			p += strlen(" NO INDENT");
		else
			appendStringInfoChar(out, *p++);
		operand = false;
	}

	/* the parentheses of what is joined as this group is */
	if (noperands > 0 && closing == ')' && (connective == CONNECTIVE_AND || connective == CONNECTIVE_OR))
	{
		int			to = operands[0].start;
		int			next = 0;

		for (int from = to; from < out->len; from++)
		{
			while (next < noperands && (operands[next].connective != connective || operands[next].end < from))
				next++;
			if (next < noperands && (from == operands[next].start || from == operands[next].end))
				continue;
			out->data[to++] = out->data[from];
		}
		out->len = to;
		out->data[to] = '\0';
	}
	*pp = p;
	return connective;
}

/* drift_masked(definition): what ruleutils.c or format_type.c printed. */
Datum
drift_masked(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	const char *masked;
	const char *p;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("an object was dropped while the schema was read"),
				 errhint("Try again.")));
	masked = mask_literals(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	p = masked;
	initStringInfo(&out);
	(void) append_as_restored(&out, masked, &p, '\0');
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/*
 * The columns of a view may have been renamed. Where there are set operations
 * pg_dump gives those names to the columns of all branches.
 */
static void
name_columns(Query *query, Oid view)
{
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!entry->resjunk)
			entry->resname = get_attname(view, entry->resno, true);
	}
	if (query->setOperations != NULL)
		name_branches(query, query->setOperations, view);
}

static void
name_branches(Query *query, Node *node, Oid view)
{
	check_stack_depth();
	if (IsA(node, RangeTblRef))
		name_columns(rt_fetch(castNode(RangeTblRef, node)->rtindex, query->rtable)->subquery, view);
	else
	{
		name_branches(query, castNode(SetOperationStmt, node)->larg, view);
		name_branches(query, castNode(SetOperationStmt, node)->rarg, view);
	}
}

/*
 * drift_view_definition(view). Columns are qualified where the query has more
 * than one range table entry. Up to 15 that is always so, because the view's own
 * OLD and NEW are there; since then a view of one table has one. So the query
 * is given a further entry that nothing reads, and OLD and NEW become such, or
 * they would take the names from tables that are called so.
 */
Datum
drift_view_definition(PG_FUNCTION_ARGS)
{
	Oid			view = PG_GETARG_OID(0);
	HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view), CStringGetDatum(ViewSelectRuleName));
	List	   *actions;
	Query	   *query;
	RangeTblEntry *unread;
	ListCell   *cell;
	Datum		action;
	bool		isnull;

	if (!HeapTupleIsValid(rule))
		PG_RETURN_NULL();
	action = SysCacheGetAttr(RULERELNAME, rule, Anum_pg_rewrite_ev_action, &isnull);
	actions = stringToNode(TextDatumGetCString(action));
	ReleaseSysCache(rule);
	query = linitial_node(Query, actions);

	unread = makeNode(RangeTblEntry);
	unread->rtekind = RTE_RESULT;
	unread->eref = makeAlias("*RESULT*", NIL);
	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_RELATION && entry->relid == view)
			lfirst(cell) = unread;
	}
	query->rtable = lappend(query->rtable, unread);
	name_columns(query, view);
	PG_RETURN_TEXT_P(cstring_to_text(pg_get_querydef(query, false)));
}

/* ---------------------------------------------------------------------
 * Looking at the catalogs
 * ---------------------------------------------------------------------
 */

static SavedPlan content_plan = {
	.sql = "SELECT invite_sync.drift_content($1)",
	.nargs = 1,
	.argtypes = {TEXTARRAYOID}
};

typedef struct Look
{
	Datum		schemas;
	char		all;			/* as SPI has it: 'n' for NULL, or a space */
	MemoryContext context;
	Jsonb	   *content;
} Look;

static void
look_once(void *arg)
{
	Look	   *look = (Look *) arg;
	Scope		scope;
	Snapshot	snapshot;
	MemoryContext old;
	bool		isnull;
	Datum		content;

	SPI_connect();
	scope_enter_own(&scope);
	/* deparsing reads what is now, so the rows must be those of now too */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	plan_execute_snapshot(&content_plan, &look->schemas, &look->all, snapshot, true, 1);
	content = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	old = MemoryContextSwitchTo(look->context);
	look->content = DatumGetJsonbPCopy(content);
	MemoryContextSwitchTo(old);
	UnregisterSnapshot(snapshot);
	scope_leave(&scope);
	SPI_finish();
}

/* What deparsing raises for an object that was dropped since the rows were read. */
static bool
dropped_meanwhile(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_COLUMN:
		case ERRCODE_UNDEFINED_FUNCTION:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_UNDEFINED_SCHEMA:
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
			return true;
		default:
			return false;
	}
}

/*
 * What the catalogs say now. In a subtransaction that is undone, which gives
 * the locks back that deparsing takes.
 */
static Jsonb *
current_content(Datum schemas, bool all)
{
	Look		look;

	look.schemas = schemas;
	look.all = all ? 'n' : ' ';
	look.context = CurrentMemoryContext;
	look.content = NULL;
	for (int tries = 1;; tries++)
	{
		ErrorData  *edata = plan_contained(look_once, &look, false);

		if (edata == NULL)
			return look.content;
		if (tries == LOOKS_MAX || !dropped_meanwhile(edata->sqlerrcode))
			ReThrowError(plan_lasting(edata));
		FreeErrorData(edata);
		CHECK_FOR_INTERRUPTS();
	}
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The argument schemas, each once and in order, so that the same schemas are the same snapshots. */
static Datum
schemas_argument(FunctionCallInfo fcinfo, bool *all)
{
	ArrayType  *array;
	Datum	   *elems;
	bool	   *nulls;
	char	  **names;
	Datum	   *sorted;
	int			n;
	int			nsorted = 0;

	*all = PG_ARGISNULL(0);
	if (*all)
		return (Datum) 0;
	array = PG_GETARG_ARRAYTYPE_P(0);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	if (n == 0 || ARR_NDIM(array) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schemas must name at least one schema"),
				 errhint("Leave it out for all that are neither the system's nor an extension's.")));
	names = palloc(sizeof(char *) * n);
	for (int i = 0; i < n; i++)
	{
		caller_refuse_null(nulls[i], "a name in schemas", "Leave it out for all that are neither the system's nor an extension's.");
		names[i] = TextDatumGetCString(elems[i]);
		if (strncmp(names[i], "pg_", 3) == 0 || strcmp(names[i], "information_schema") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("schema \"%s\" is one of the system's", names[i]),
					 errhint("Name schemas of yours.")));
		if (strlen(names[i]) >= NAMEDATALEN || !OidIsValid(get_namespace_oid(names[i], true)))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_SCHEMA),
					 errmsg("schema \"%s\" does not exist", names[i]),
					 errhint("Names are as in pg_namespace: without quotes, in their case.")));
	}
	qsort(names, n, sizeof(char *), compare_names);
	sorted = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
			sorted[nsorted++] = CStringGetTextDatum(names[i]);
	return plan_array(sorted, NULL, nsorted, TEXTOID);
}

/* describe_schema(schemas) */
Datum
drift_describe_schema(PG_FUNCTION_ARGS)
{
	Datum		schemas;
	bool		all;

	caller_require_operator();
	schemas = schemas_argument(fcinfo, &all);
	PG_RETURN_JSONB_P(current_content(schemas, all));
}

/* ---------------------------------------------------------------------
 * Snapshots
 * ---------------------------------------------------------------------
 */

/* Rows that others have committed meanwhile must be seen, under REPEATABLE READ too. */
static void
execute_latest(SavedPlan *plan, Datum *values, const char *nulls)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	plan_execute_snapshot(plan, values, nulls, snapshot, false, 0);
	UnregisterSnapshot(snapshot);
}

static Datum
result_value(int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, col, isnull);
}

static int64
result_int8(int col)
{
	bool		isnull;
	Datum		value = result_value(col, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static bool
result_bool(int col)
{
	bool		isnull;
	Datum		value = result_value(col, &isnull);

	return !isnull && DatumGetBool(value);
}

static Datum
asking_role(void)
{
	return plan_name(GetUserNameFromId(caller_role(), false));
}

static void
write_event(const char *kind, const char *action, const char *target_type, int64 id)
{
	event_append(kind, action, NULL, NULL, target_type, psprintf(INT64_FORMAT, id), NULL);
}

#define SCHEMAS_OF(content) \
	"(SELECT pg_catalog.array_agg(e.name ORDER BY e.name COLLATE \"C\") FROM (SELECT DISTINCT x.name " \
	"FROM pg_catalog.jsonb_array_elements_text(CASE pg_catalog.jsonb_typeof(" content " -> 'schemas') " \
	"WHEN 'array' THEN " content " -> 'schemas' END) AS x (name)) AS e)"

static SavedPlan store_plan = {
	.sql = "INSERT INTO invite_sync.schema_snapshot AS s (taken_by, source, schemas, content, digest, objects) "
	"SELECT $1, $2, " SCHEMAS_OF("$3") ", "
	"$3, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($3::pg_catalog.text, 'UTF8')), 'hex'), "
	"(SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_each($3 -> 'objects') AS t CROSS JOIN LATERAL pg_catalog.jsonb_each(t.value) AS o) "
	"RETURNING s.id",
	.nargs = 3,
	.argtypes = {NAMEOID, TEXTOID, JSONBOID}
};

static SavedPlan read_snapshot_plan = {
	.sql = "SELECT s.* FROM invite_sync.schema_snapshots AS s WHERE s.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan read_content_plan = {
	.sql = "SELECT s.content, s.schemas FROM invite_sync.schema_snapshot AS s WHERE s.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* In the own scope. */
static int64
store_snapshot(const char *source, Jsonb *content)
{
	Datum		args[3];

	args[0] = asking_role();
	args[1] = CStringGetTextDatum(source);
	args[2] = JsonbPGetDatum(content);
	execute_latest(&store_plan, args, NULL);
	return result_int8(1);
}

/* Store, tell, and return the row of schema_snapshots. */
static Datum
return_stored(FunctionCallInfo fcinfo, const char *source, Jsonb *content, const char *action)
{
	Scope		scope;
	int64		id;
	Datum		args[1];
	Datum		row;

	SPI_connect();
	scope_enter_own(&scope);
	id = store_snapshot(source, content);
	write_event("admin", action, "schema_snapshot", id);
	args[0] = Int64GetDatum(id);
	execute_latest(&read_snapshot_plan, args, NULL);
	row = plan_result_row(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return row;
}

/* snapshot_schema(schemas) */
Datum
drift_snapshot_schema(PG_FUNCTION_ARGS)
{
	Datum		schemas;
	bool		all;

	caller_require_operator();
	PreventCommandIfReadOnly("snapshot_schema()");
	schemas = schemas_argument(fcinfo, &all);
	return return_stored(fcinfo, "taken", current_content(schemas, all), "drift.snapshot_taken");
}

static SavedPlan problem_plan = {
	.sql = "SELECT invite_sync.drift_problem($1)",
	.nargs = 1,
	.argtypes = {JSONBOID}
};

/* Refuse what is no snapshot. */
static void
check_content(const char *argument, Jsonb *content)
{
	MemoryContext context = CurrentMemoryContext;
	Scope		scope;
	Datum		args[1];
	char	   *problem;

	args[0] = JsonbPGetDatum(content);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&problem_plan, args, NULL, true, 1);
	problem = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (problem != NULL)
		problem = MemoryContextStrdup(context, problem);
	scope_leave(&scope);
	SPI_finish();
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is no snapshot of a schema", argument),
				 errdetail_internal("%s", problem),
				 errhint("Give what invite_sync.export_snapshot() or invite_sync.describe_schema() returned.")));
}

/* import_snapshot(snapshot) */
Datum
drift_import_snapshot(PG_FUNCTION_ARGS)
{
	Jsonb	   *content;

	caller_require_operator();
	PreventCommandIfReadOnly("import_snapshot()");
	caller_refuse_null(PG_ARGISNULL(0), "snapshot", "Give what invite_sync.export_snapshot() returned.");
	content = PG_GETARG_JSONB_P(0);
	check_content("snapshot", content);
	return return_stored(fcinfo, "imported", content, "drift.snapshot_imported");
}

static void
no_such_snapshot(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no snapshot " INT64_FORMAT, id),
			 errhint("See invite_sync.schema_snapshots.")));
}

/* The content of a stored snapshot, and its schemas, in the caller's memory. */
static Jsonb *
stored_content(int64 id, Datum *schemas, bool *all)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	Datum		args[1];
	Datum		value;
	bool		isnull;
	Jsonb	   *content;

	args[0] = Int64GetDatum(id);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&read_content_plan, args, NULL, true, 1);
	if (SPI_processed == 0)
		no_such_snapshot(id);
	old = MemoryContextSwitchTo(context);
	content = DatumGetJsonbPCopy(result_value(1, &isnull));
	value = result_value(2, all);
	*schemas = *all ? (Datum) 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	return content;
}

/* export_snapshot(snapshot_id) */
Datum
drift_export_snapshot(PG_FUNCTION_ARGS)
{
	Datum		schemas;
	bool		all;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "snapshot_id", "Name an id of invite_sync.schema_snapshots.");
	PG_RETURN_JSONB_P(stored_content(PG_GETARG_INT64(0), &schemas, &all));
}

/* ---------------------------------------------------------------------
 * Differences
 * ---------------------------------------------------------------------
 */

static SavedPlan differences_plan = {
	.sql = "SELECT d.* FROM invite_sync.drift_differences($1, $2) AS d",
	.nargs = 2,
	.argtypes = {JSONBOID, JSONBOID}
};

/* schema_diff(from_snapshot, to_snapshot) */
Datum
drift_schema_diff(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Datum		args[2];
	Datum		schemas;
	Datum		ignored;
	bool		all;
	bool		ignored_all;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "from_snapshot", "Name an id of invite_sync.schema_snapshots.");
	args[0] = JsonbPGetDatum(stored_content(PG_GETARG_INT64(0), &schemas, &all));
	args[1] = JsonbPGetDatum(PG_ARGISNULL(1) ? current_content(schemas, all) :
							 stored_content(PG_GETARG_INT64(1), &ignored, &ignored_all));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&differences_plan, args, NULL, true, 0);
	plan_result_rows(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return (Datum) 0;
}

static const char *const object_types[] = {
	"column", "constraint", "database", "default privileges", "event trigger", "extension", "function", "index",
	"materialized view", "policy", "publication", "role", "rule", "schema", "sequence", "table", "trigger", "type", "view"
};

/* The argument ignore of assert_no_drift(): a slip of the pen must not pass for leave to ignore. */
static Datum
ignore_argument(FunctionCallInfo fcinfo, int argno)
{
	ArrayType  *array;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	caller_refuse_null(PG_ARGISNULL(argno), "ignore", "Leave the argument out to ignore nothing.");
	array = PG_GETARG_ARRAYTYPE_P(argno);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		size_t		k = 0;
		char	   *type;

		caller_refuse_null(nulls[i], "a type in ignore", "Leave the argument out to ignore nothing.");
		type = TextDatumGetCString(elems[i]);
		while (k < lengthof(object_types) && strcmp(type, object_types[k]) != 0)
			k++;
		if (k == lengthof(object_types))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("there is no type of object \"%s\"", type),
					 errhint("Types are as in the column object_type of invite_sync.schema_diff(): role, extension, table, column, policy, ...")));
	}
	return PointerGetDatum(array);
}

static SavedPlan expected_schemas_plan = {
	.sql = "SELECT " SCHEMAS_OF("$1"),
	.nargs = 1,
	.argtypes = {JSONBOID}
};

static SavedPlan assert_plan = {
	.sql = "SELECT d.change, d.object_type, d.object, d.property, d.from_value, d.to_value "
	"FROM invite_sync.drift_differences($1, $2) AS d WHERE d.object_type <> ALL ($3)",
	.nargs = 3,
	.argtypes = {JSONBOID, JSONBOID, TEXTARRAYOID}
};

static SavedPlan compared_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_each($1 -> 'objects') AS t "
	"CROSS JOIN LATERAL pg_catalog.jsonb_each(t.value) AS o WHERE t.key <> ALL ($2)",
	.nargs = 2,
	.argtypes = {JSONBOID, TEXTARRAYOID}
};

/* A value, on a line of its own of a message. */
static void
append_value(StringInfo out, const char *value)
{
	int			len;

	if (value == NULL)
	{
		appendStringInfoString(out, "(none)");
		return;
	}
	len = pg_mbcliplen(value, strlen(value), DETAIL_VALUE_BYTES);
	for (int i = 0; i < len; i++)
		appendStringInfoChar(out, (unsigned char) value[i] < ' ' ? ' ' : value[i]);
	if (value[len] != '\0')
		appendStringInfoString(out, "...");
}

/* assert_no_drift(expected, ignore) */
Datum
drift_assert_none(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Datum		args[3];
	Datum		schemas;
	bool		all;
	uint64		n;
	int64		compared;
	StringInfoData lines;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;

	caller_require_operator();
	caller_refuse_null(PG_ARGISNULL(0), "expected", "Give what invite_sync.export_snapshot() returned.");
	args[0] = JsonbPGetDatum(PG_GETARG_JSONB_P(0));
	args[2] = ignore_argument(fcinfo, 1);
	check_content("expected", DatumGetJsonbP(args[0]));

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&expected_schemas_plan, args, NULL, true, 1);
	old = MemoryContextSwitchTo(context);
	schemas = result_value(1, &all);
	if (!all)
		schemas = PointerGetDatum(PG_DETOAST_DATUM_COPY(schemas));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();

	args[1] = JsonbPGetDatum(current_content(schemas, all));

	initStringInfo(&lines);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&assert_plan, args, NULL, true, 0);
	n = SPI_processed;
	for (uint64 i = 0; i < Min(n, DETAIL_LINES); i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *property = SPI_getvalue(row, desc, 4);

		appendStringInfo(&lines, "%s%s ", i > 0 ? "\n" : "", SPI_getvalue(row, desc, 1));
		append_value(&lines, SPI_getvalue(row, desc, 2));
		appendStringInfoChar(&lines, ' ');
		append_value(&lines, SPI_getvalue(row, desc, 3));
		if (property != NULL)
		{
			appendStringInfoString(&lines, ": ");
			append_value(&lines, property);
			appendStringInfoString(&lines, " is ");
			append_value(&lines, SPI_getvalue(row, desc, 6));
			appendStringInfoString(&lines, ", expected ");
			append_value(&lines, SPI_getvalue(row, desc, 5));
		}
	}
	if (n > DETAIL_LINES)
		appendStringInfo(&lines, "\n... and " UINT64_FORMAT " more", n - DETAIL_LINES);
	if (n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_ASSERT_FAILURE),
				 errmsg_plural("the schema differs from the expected one in %llu place",
							   "the schema differs from the expected one in %llu places",
							   (unsigned long) n, (unsigned long long) n),
				 errdetail_internal("%s", lines.data),
				 errhint("Where this is how it should be, export it and put that in place of what is expected.")));
	args[0] = args[1];
	args[1] = args[2];
	plan_execute(&compared_plan, args, NULL, true, 1);
	compared = result_int8(1);
	scope_leave(&scope);
	SPI_finish();
	PG_RETURN_INT32((int32) compared);
}

/* ---------------------------------------------------------------------
 * Baselines and alerts
 *
 * Checks and approvals take turns by a lock on the snapshots that whoever
 * stores or reads one does not meet.
 * ---------------------------------------------------------------------
 */

static void
lock_baselines(void)
{
	LockRelationOid(get_relname_relid("schema_snapshot", caller_extension_schema()), ShareUpdateExclusiveLock);
}

static SavedPlan find_snapshot_plan = {
	.sql = "SELECT s.baseline FROM invite_sync.schema_snapshot AS s WHERE s.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan retire_baseline_plan = {
	.sql = "UPDATE invite_sync.schema_snapshot AS s SET baseline = false FROM invite_sync.schema_snapshot AS n "
	"WHERE n.id = $1 AND s.baseline AND s.schemas IS NOT DISTINCT FROM n.schemas",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan approve_plan = {
	.sql = "UPDATE invite_sync.schema_snapshot AS s SET baseline = true, approved_at = pg_catalog.clock_timestamp(), approved_by = $2 WHERE s.id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, NAMEOID}
};

static SavedPlan approve_alert_plan = {
	.sql = "UPDATE invite_sync.drift_alert AS a SET state = CASE WHEN a.snapshot_id = n.id THEN 'approved' ELSE 'superseded' END, "
	"resolved_at = pg_catalog.clock_timestamp(), resolved_by = $2 FROM invite_sync.schema_snapshot AS n "
	"WHERE n.id = $1 AND a.state = 'open' AND a.schemas IS NOT DISTINCT FROM n.schemas",
	.nargs = 2,
	.argtypes = {INT8OID, NAMEOID}
};

/* In the own scope, with the baselines locked: false when it is the baseline already. */
static bool
make_baseline(int64 id)
{
	Datum		args[2];

	args[0] = Int64GetDatum(id);
	args[1] = asking_role();
	execute_latest(&find_snapshot_plan, args, NULL);
	if (SPI_processed == 0)
		no_such_snapshot(id);
	if (result_bool(1))
		return false;
	execute_latest(&retire_baseline_plan, args, NULL);
	execute_latest(&approve_plan, args, NULL);
	execute_latest(&approve_alert_plan, args, NULL);
	write_event("admin", "drift.approved", "schema_snapshot", id);
	return true;
}

/* approve_snapshot(snapshot_id) */
Datum
drift_approve_snapshot(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Datum		args[1];
	Datum		row;
	int64		id;

	caller_require_operator();
	PreventCommandIfReadOnly("approve_snapshot()");
	caller_refuse_null(PG_ARGISNULL(0), "snapshot_id", "Name an id of invite_sync.schema_snapshots.");
	id = PG_GETARG_INT64(0);
	SPI_connect();
	scope_enter_own(&scope);
	lock_baselines();
	if (!make_baseline(id))
		ereport(NOTICE,
				(errmsg("snapshot " INT64_FORMAT " is the baseline already", id)));
	args[0] = Int64GetDatum(id);
	execute_latest(&read_snapshot_plan, args, NULL);
	row = plan_result_row(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return row;
}

static SavedPlan find_alert_plan = {
	.sql = "SELECT a.snapshot_id, a.state = 'open', a.state = 'approved' FROM invite_sync.drift_alert AS a WHERE a.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static SavedPlan read_alert_plan = {
	.sql = "SELECT a.* FROM invite_sync.drift_alerts AS a WHERE a.id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* approve_drift(alert_id) */
Datum
drift_approve_drift(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Datum		args[1];
	Datum		row;
	int64		id;

	caller_require_operator();
	PreventCommandIfReadOnly("approve_drift()");
	caller_refuse_null(PG_ARGISNULL(0), "alert_id", "Name an id of invite_sync.drift_alerts.");
	id = PG_GETARG_INT64(0);
	args[0] = Int64GetDatum(id);
	SPI_connect();
	scope_enter_own(&scope);
	lock_baselines();
	execute_latest(&find_alert_plan, args, NULL);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no alert " INT64_FORMAT, id),
				 errhint("See invite_sync.drift_alerts.")));
	if (result_bool(2))
		(void) make_baseline(result_int8(1));
	else if (result_bool(3))
		ereport(NOTICE,
				(errmsg("alert " INT64_FORMAT " is approved already", id)));
	else
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("alert " INT64_FORMAT " is not open", id),
				 errhint("Its snapshot can still be made the baseline, by invite_sync.approve_snapshot().")));
	execute_latest(&read_alert_plan, args, NULL);
	row = plan_result_row(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return row;
}

static SavedPlan baselines_plan = {
	.sql = "SELECT s.id, s.schemas, s.content FROM invite_sync.schema_snapshot AS s WHERE s.baseline ORDER BY s.id",
	.nargs = 0
};

static SavedPlan count_differences_plan = {
	.sql = "SELECT pg_catalog.count(*) FROM invite_sync.drift_differences($1, $2) AS d",
	.nargs = 2,
	.argtypes = {JSONBOID, JSONBOID}
};

/* The open alert about the schemas of baseline $1, and whether it tells of what is now, $2. */
static SavedPlan open_alert_plan = {
	.sql = "SELECT a.id, a.baseline_id = b.id AND coalesce(s.content = $2, false) FROM invite_sync.schema_snapshot AS b "
	"JOIN invite_sync.drift_alert AS a ON a.state = 'open' AND a.schemas IS NOT DISTINCT FROM b.schemas "
	"LEFT JOIN invite_sync.schema_snapshot AS s ON s.id = a.snapshot_id WHERE b.id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, JSONBOID}
};

static SavedPlan resolve_alert_plan = {
	.sql = "UPDATE invite_sync.drift_alert AS a SET state = $2, resolved_at = pg_catalog.clock_timestamp(), resolved_by = $3 WHERE a.id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, NAMEOID}
};

static SavedPlan open_plan = {
	.sql = "INSERT INTO invite_sync.drift_alert AS a (baseline_id, snapshot_id, schemas, differences) "
	"SELECT b.id, $2, b.schemas, $3 FROM invite_sync.schema_snapshot AS b WHERE b.id = $1 RETURNING a.id",
	.nargs = 3,
	.argtypes = {INT8OID, INT8OID, INT4OID}
};

typedef struct Baseline
{
	int64		id;
	bool		all;
	Datum		schemas;
	Datum		content;
} Baseline;

typedef struct Checked
{
	int			drifted;
	int			opened;
	int			resolved;
} Checked;

/* In the own scope, with the baselines locked. */
static void
check_baseline(const Baseline *baseline, Checked *checked)
{
	Datum		args[3];
	Jsonb	   *now = current_content(baseline->schemas, baseline->all);
	int64		differences;
	int64		alert = 0;
	bool		same = false;

	args[0] = baseline->content;
	args[1] = JsonbPGetDatum(now);
	execute_latest(&count_differences_plan, args, NULL);
	differences = result_int8(1);
	if (differences > 0)
		checked->drifted++;

	args[0] = Int64GetDatum(baseline->id);
	execute_latest(&open_alert_plan, args, NULL);
	if (SPI_processed > 0)
	{
		alert = result_int8(1);
		same = differences > 0 && result_bool(2);
	}
	if (same)
		return;
	if (alert != 0)
	{
		args[0] = Int64GetDatum(alert);
		args[1] = CStringGetTextDatum(differences > 0 ? "superseded" : "gone");
		args[2] = asking_role();
		execute_latest(&resolve_alert_plan, args, NULL);
		checked->resolved++;
		if (differences == 0)
			write_event("system", "drift.gone", "drift_alert", alert);
	}
	if (differences > 0)
	{
		args[0] = Int64GetDatum(baseline->id);
		args[1] = Int64GetDatum(store_snapshot("checked", now));
		args[2] = Int32GetDatum((int32) differences);
		execute_latest(&open_plan, args, NULL);
		alert = result_int8(1);
		checked->opened++;
		write_event("system", "drift.detected", "drift_alert", alert);
		/* an id and no more: every role of the database can listen */
		Async_Notify(DRIFT_CHANNEL, psprintf(INT64_FORMAT, alert));
	}
}

/* check_drift() */
Datum
drift_check(PG_FUNCTION_ARGS)
{
	Scope		scope;
	Baseline   *baselines;
	Checked		checked = {0, 0, 0};
	int			n;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};
	MemoryContext context = CurrentMemoryContext;

	caller_require_operator();
	PreventCommandIfReadOnly("check_drift()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	SPI_connect();
	scope_enter_own(&scope);
	lock_baselines();
	execute_latest(&baselines_plan, NULL, NULL);
	n = (int) SPI_processed;
	baselines = MemoryContextAllocZero(context, sizeof(Baseline) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	rowdesc = SPI_tuptable->tupdesc;
		MemoryContext old;
		bool		isnull;

		baselines[i].id = DatumGetInt64(SPI_getbinval(row, rowdesc, 1, &isnull));
		old = MemoryContextSwitchTo(context);
		baselines[i].schemas = SPI_getbinval(row, rowdesc, 2, &baselines[i].all);
		if (!baselines[i].all)
			baselines[i].schemas = PointerGetDatum(PG_DETOAST_DATUM_COPY(baselines[i].schemas));
		baselines[i].content = PointerGetDatum(PG_DETOAST_DATUM_COPY(SPI_getbinval(row, rowdesc, 3, &isnull)));
		MemoryContextSwitchTo(old);
	}
	for (int i = 0; i < n; i++)
		check_baseline(&baselines[i], &checked);
	scope_leave(&scope);
	SPI_finish();

	if (n == 0)
		ereport(NOTICE,
				(errmsg("no snapshot is approved yet, so there is nothing to compare with"),
				 errhint("SELECT invite_sync.approve_snapshot((invite_sync.snapshot_schema()).id);")));
	values[0] = Int32GetDatum(n);
	values[1] = Int32GetDatum(checked.drifted);
	values[2] = Int32GetDatum(checked.opened);
	values[3] = Int32GetDatum(checked.resolved);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* ---------------------------------------------------------------------
 * Retention
 * ---------------------------------------------------------------------
 */

static SavedPlan prune_alerts_plan = {
	.sql = "DELETE FROM invite_sync.drift_alert AS d WHERE d.id = ANY (ARRAY("
	"SELECT a.id FROM invite_sync.drift_alert AS a WHERE a.resolved_at < $1 ORDER BY a.id LIMIT $2))",
	.nargs = 2,
	.argtypes = {TIMESTAMPTZOID, INT8OID}
};

static SavedPlan prune_snapshots_plan = {
	.sql = "DELETE FROM invite_sync.schema_snapshot AS d WHERE NOT d.baseline AND d.id = ANY (ARRAY("
	"SELECT s.id FROM invite_sync.schema_snapshot AS s WHERE s.taken_at < $1 AND NOT s.baseline "
	"AND s.id < coalesce((SELECT pg_catalog.min(k.id) FROM ("
	"SELECT x.id FROM invite_sync.schema_snapshot AS x ORDER BY x.id DESC LIMIT $3) AS k), 9223372036854775807) "
	"AND NOT EXISTS (SELECT FROM invite_sync.drift_alert AS a WHERE s.id IN (a.baseline_id, a.snapshot_id)) "
	"ORDER BY s.id LIMIT $2))",
	.nargs = 3,
	.argtypes = {TIMESTAMPTZOID, INT8OID, INT8OID}
};

/* One batch and its commit: how many rows. */
static uint64
prune_batch(SavedPlan *plan, Datum *args, bool *told)
{
	Scope		scope;
	uint64		rows;

	scope_enter_own(&scope);
	/* no approval may bring back what is about to go, and no check name it */
	lock_baselines();
	execute_latest(plan, args, NULL);
	rows = SPI_processed;
	if (rows > 0 && !*told)
	{
		event_append("admin", "drift.pruned", NULL, NULL, NULL, NULL, NULL);
		*told = true;
	}
	scope_leave(&scope);
	SPI_commit();
	return rows;
}

/* prune_snapshots(keep, keep_last, batch_size): commits per batch, so it holds no scope at a commit. */
Datum
drift_prune_snapshots(PG_FUNCTION_ARGS)
{
	CallContext *context = castNode(CallContext, fcinfo->context);
	TimestampTz cutoff;
	Datum		args[3];
	int			keep_last;
	int			batch_size;
	int64		total = 0;
	bool		told = false;
	uint64		rows;

	caller_require_operator();
	PreventCommandIfReadOnly("prune_snapshots()");
	caller_refuse_null(PG_ARGISNULL(0), "keep", "Say how long: keep => '90 days'.");
	caller_refuse_null(PG_ARGISNULL(1), "keep_last", "Say how many stay in any case: keep_last => 10.");
	caller_refuse_null(PG_ARGISNULL(2), "batch_size", "Leave the argument out for its default.");
	cutoff = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()),
													 PG_GETARG_DATUM(0)));
	if (cutoff > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keep must not be negative")));
	keep_last = PG_GETARG_INT32(1);
	if (keep_last < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keep_last must not be negative")));
	batch_size = PG_GETARG_INT32(2);
	if (batch_size < 1 || batch_size > PRUNE_BATCH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be between 1 and %d", PRUNE_BATCH_MAX)));
	if (context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("snapshots are pruned in transactions of their own"),
				 errhint("Call it outside a transaction block and outside functions.")));

	args[0] = TimestampTzGetDatum(cutoff);
	args[1] = Int64GetDatum(batch_size);
	args[2] = Int64GetDatum(keep_last);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	do
	{
		rows = prune_batch(&prune_alerts_plan, args, &told);
	} while (rows == (uint64) batch_size);
	do
	{
		rows = prune_batch(&prune_snapshots_plan, args, &told);
		total += rows;
	} while (rows == (uint64) batch_size);
	SPI_finish();

	ereport(NOTICE,
			(errmsg_plural("%lld snapshot pruned", "%lld snapshots pruned",
						   (unsigned long) total, (long long) total)));
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------------
 * Checks by pg_cron
 * ---------------------------------------------------------------------
 */

static const SyncJobs drift_jobs = {
	.title = "Drift checks by pg_cron",
	.schedule = "schedule_drift_check",
	.unschedule = "unschedule_drift_check",
	.instead = "invite_sync.check_drift() every quarter of an hour",
	.already = gettext_noop("drift checks are scheduled so already"),
	.none = gettext_noop("no drift checks are scheduled"),
	.scheduled_event = "drift.check_scheduled",
	.unscheduled_event = "drift.check_unscheduled",
	.job = {
		{"invite_sync_check_drift", NULL, "SELECT invite_sync.check_drift()"},
		{"invite_sync_prune_snapshots", "41 3 * * *", "CALL invite_sync.prune_snapshots()"}
	}
};

/* schedule_drift_check(schedule) */
Datum
drift_schedule_check(PG_FUNCTION_ARGS)
{
	return sync_schedule_jobs(fcinfo, &drift_jobs);
}

/* unschedule_drift_check() */
Datum
drift_unschedule_check(PG_FUNCTION_ARGS)
{
	return sync_unschedule_jobs(fcinfo, &drift_jobs);
}

void
drift_init(void)
{
	sync_add_jobs(&drift_jobs);
}
