/*-------------------------------------------------------------------------
 *
 * doctor_failure.c
 *	  What parse analysis refuses, told by its cause.
 *
 * The same SQLSTATE has many: a name that is misspelled, that is elsewhere, or of
 * an extension that is not there. The objects with like names say which.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/varlena.h"

#include "doctor_query.h"

/* ---------------------------------------------------------------------
 * What analysis refuses
 * ---------------------------------------------------------------------
 */

bool
body_path_holds(Body *body, const char *schema)
{
	List	   *names = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(body->path), ',', &names))
		return false;
	foreach(lc, names)
	{
		char	   *name = (char *) lfirst(lc);

		if (strcmp(name, "$user") == 0)
			name = GetUserNameFromId(body->role, true);
		if (name != NULL && strcmp(name, schema) == 0)
			return true;
	}
	return false;
}

char *
body_at_line(Body *body)
{
	return body->line > 0 ? psprintf(" (line %d)", body->line) : "";
}

/* A name that other schemas hold: have the path hold one of them. */
static bool
add_to_path(Body *body, const char *what, const char *name, List *schemas)
{
	ListCell   *lc;

	foreach(lc, schemas)
	{
		char	   *schema = (char *) lfirst(lc);
		Oid			namespace = get_namespace_oid(schema, true);
		MemoryContext old;

		if (!OidIsValid(namespace))
			continue;
		if (body_path_holds(body, schema))
		{
			/* it is there, but cannot be looked into */
			if (compat_namespace_aclcheck(namespace, body->role, ACL_USAGE) == ACLCHECK_OK)
				continue;
			body_denied(body, "USAGE", "SCHEMA", quote_identifier(schema));
			return true;
		}
		/* for another name of the same pass */
		if (!body_listed(body->add_schemas, schema))
		{
			old = MemoryContextSwitchTo(body->cxt);
			body->add_schemas = lappend(body->add_schemas, pstrdup(schema));
			MemoryContextSwitchTo(old);
		}
		/* what it would not choose itself is replaced */
		if (body->pinned == NULL)
			body->add_first = true;
		body_keep(body, &body->misplaced,
			 psprintf("%s %s does not exist there, %s.%s does%s", what, quote_identifier(name),
					  quote_identifier(schema), quote_identifier(name), body_at_line(body)));
		body->changed = true;
		return true;
	}
	return false;
}

/* The first thing in quotes, or NULL. */
static char *
quoted(const char *message)
{
	const char *from = strchr(message, '"');
	const char *to = from ? strchr(from + 1, '"') : NULL;

	return to ? pnstrdup(from + 1, to - from - 1) : NULL;
}

static char *
joined(List *strings)
{
	StringInfoData s;
	ListCell   *lc;

	initStringInfo(&s);
	foreach(lc, strings)
		appendStringInfo(&s, "%s%s", s.len ? ", " : "", (char *) lfirst(lc));
	return s.data;
}

static char *
fix_extension(const char *extension, const char *schema)
{
	if (extension == NULL || !name_extension_available(extension))
		return NULL;
	if (schema != NULL && strcmp(schema, "net") != 0 && strcmp(schema, "cron") != 0 && strcmp(schema, "pgmq") != 0 &&
		strcmp(schema, "vault") != 0 && strcmp(schema, "graphql") != 0 && OidIsValid(get_namespace_oid(schema, true)))
		return psprintf("CREATE EXTENSION IF NOT EXISTS %s WITH SCHEMA %s;", quote_identifier(extension), quote_identifier(schema));
	return psprintf("CREATE EXTENSION IF NOT EXISTS %s;", quote_identifier(extension));
}

/* The last finding's fix puts something into this schema, which is named without it. */
static void
needs_path(Body *body, const char *schema)
{
	MemoryContext old;
	BodyFinding *f = body->found != NIL ? (BodyFinding *) llast(body->found) : NULL;

	if (f == NULL || f->fix == NULL || !OidIsValid(get_namespace_oid(schema, true)))
		return;
	f->by_path = body->add_schemas != NIL;
	if (body_path_holds(body, schema))
		return;
	old = MemoryContextSwitchTo(body->cxt);
	body->add_schemas = lappend(body->add_schemas, pstrdup(schema));
	MemoryContextSwitchTo(old);
	body->changed = true;
}

/* Does this name differ from that one in how it is spelled, but not in what it says? */
static bool
is_alike(const char *a, const char *b)
{
	if (pg_strncasecmp(a, "raw_", 4) == 0)
		a += 4;
	if (pg_strncasecmp(b, "raw_", 4) == 0)
		b += 4;
	for (;;)
	{
		while (*a == '_')
			a++;
		while (*b == '_')
			b++;
		if (pg_tolower((unsigned char) *a) != pg_tolower((unsigned char) *b))
			return false;
		if (*a == '\0')
			return true;
		a++;
		b++;
	}
}

/* The one column of the table that the name may have meant, or NULL. */
static char *
column_alike(Oid relid, const char *name)
{
	char	   *found = NULL;

	char	   *column;

	for (AttrNumber i = 1; (column = get_attname(relid, i, true)) != NULL; i++)
	{
		if (strncmp(column, "........pg.dropped", 18) == 0 || !is_alike(column, name))
			continue;
		if (found != NULL)
			return NULL;
		found = column;
	}
	return found;
}

/* Have a name, written without quotes, that stands in the statement at or after this place, replaced. */
static bool
edit_name(Body *body, int location, const char *name, const char *by)
{
	size_t		len = strlen(name);

	if (location < 0 || location > (int) strlen(body->sql))
		return false;
	for (const char *s = body->sql + location; *s; s++)
		if (pg_strncasecmp(s, name, len) == 0 && (s == body->sql || (!isalnum((unsigned char) s[-1]) && s[-1] != '_')) &&
			!isalnum((unsigned char) s[len]) && s[len] != '_' && s[len] != '"')
			return body_edit(body, (int) (s - body->sql), (int) (s - body->sql + len), quote_identifier(by), "", true);
	return false;
}

static void
missing_relation(Body *body, const char *full, const char *message)
{
	const char *dot = strchr(full, '.');
	const char *name = dot ? dot + 1 : full;
	char	   *schema = dot ? pnstrdup(full, dot - full) : NULL;
	List	   *elsewhere;
	List	   *similar;
	const char *finding;
	const char *detail;

	if (body_listed(body->temporary, name))
		return;
	elsewhere = name_relation_schemas(name, false);
	if (schema == NULL && add_to_path(body, "relation", name, elsewhere))
		return;
	similar = name_relation_schemas(name, true);
	finding = psprintf("relation %s does not exist", full);
	detail = psprintf("At %s: %s.%s", body_where(body), message,
					  similar ? psprintf(" There is %s; names are case sensitive where they were made in double quotes.", joined(similar)) : "");
	if (list_length(similar) == 1)
	{
		Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(compat_qualified_name((char *) linitial(similar))), NoLock, true);
		char	   *true_name = OidIsValid(relid) ? get_rel_name(relid) : NULL;
		char	   *true_schema = true_name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

		if (true_schema != NULL && schema != NULL && strcmp(true_schema, schema) == 0 &&
			edit_name(body, 0, name, true_name))
		{
			body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_TABLE, finding, detail);
			return;
		}
	}
	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_TABLE, "function", body->name, finding, detail, NULL);
}

static void
missing_function(Body *body, const char *message, const char *hint)
{
	const char *from = strncmp(message, "function ", 9) == 0 ? message + 9 : message + 10;
	const char *paren = strchr(from, '(');
	char	   *full = paren ? pnstrdup(from, paren - from) : NULL;
	char	   *dot = full ? strchr(full, '.') : NULL;
	char	   *name = dot ? dot + 1 : full;
	char	   *schema = dot ? pnstrdup(full, dot - full) : NULL;
	List	   *elsewhere;
	const char *extension;

	if (full == NULL)
		return;
	elsewhere = name_function_schemas(name);
	if (schema == NULL && !body->uncertain && add_to_path(body, "function", name, elsewhere))
		return;
	if (body->uncertain && elsewhere != NIL)
		return;
	extension = elsewhere == NIL ? name_function_extension(schema, name) : NULL;
	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_FUNCTION, "function", body->name,
			   psprintf("function %s does not exist", full),
			   psprintf("At %s: %s.%s%s", body_where(body), message,
						extension ? psprintf(" It comes with extension %s, which is not installed.", extension) :
						elsewhere ? psprintf(" There is one of this name in schema %s.", joined(elsewhere)) : "",
						hint ? psprintf(" %s", hint) : ""),
			   fix_extension(extension, schema ? schema : "extensions"));
	if (schema == NULL)
		needs_path(body, "extensions");
}

static void
missing_type(Body *body, const char *full, const char *message)
{
	const char *dot = strchr(full, '.');
	const char *name = dot ? dot + 1 : full;
	List	   *elsewhere = name_type_schemas(name);
	const char *extension;

	if (dot == NULL && add_to_path(body, "type", name, elsewhere))
		return;
	extension = elsewhere == NIL ? name_type_extension(name) : NULL;
	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_OBJECT, "function", body->name,
			   psprintf("type %s does not exist", full),
			   psprintf("At %s: %s.%s", body_where(body), message,
						extension ? psprintf(" It comes with extension %s, which is not installed.", extension) :
						elsewhere ? psprintf(" There is one of this name in schema %s.", joined(elsewhere)) : ""),
			   fix_extension(extension, "extensions"));
	if (dot == NULL)
		needs_path(body, "extensions");
}

static void
missing_schema(Body *body, const char *schema, const char *message)
{
	const char *extension = name_function_extension(schema, NULL);

	body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_SCHEMA, "function", body->name,
			   psprintf("schema %s does not exist", quote_identifier(schema)),
			   psprintf("At %s: %s.%s", body_where(body), message,
						extension ? psprintf(" It comes with extension %s, which is not installed%s.", extension,
											 name_extension_available(extension) ? "" : ", nor is it available on this server") : ""),
			   fix_extension(extension, NULL));
}

/* A column, or a field of NEW, that has another spelling: that is said, and written. */
static bool
missing_column(Body *body, const char *name, const char *message, Node *raw)
{
	Oid			relid = InvalidOid;
	char	   *column;
	size_t		len;
	const char *finding = psprintf("a statement fails: %s", message);
	const char *detail;

	if (strncmp(message, "record \"new\" ", 13) == 0 || strncmp(message, "record \"old\" ", 13) == 0)
	{
		relid = body->call->relid;
		name = quoted(message + 13);
	}
	else if (strstr(message, " of relation ") != NULL && raw != NULL)
	{
		RangeVar   *target = IsA(raw, InsertStmt) ? ((InsertStmt *) raw)->relation :
			IsA(raw, UpdateStmt) ? ((UpdateStmt *) raw)->relation : NULL;

		if (target != NULL && target->schemaname != NULL)
			relid = RangeVarGetRelid(target, NoLock, true);
		else if (target != NULL)
		{
			List	   *schemas = name_relation_schemas(target->relname, false);

			if (list_length(schemas) == 1)
				relid = get_relname_relid(target->relname, get_namespace_oid((char *) linitial(schemas), false));
		}
	}
	if (!OidIsValid(relid) || name == NULL)
		return false;
	column = column_alike(relid, name);
	len = strlen(name);
	/* a time of day has one type */
	if (column == NULL && get_rel_namespace(relid) != get_rel_namespace(body->doctor->auth_users) && len > 3 &&
		strcmp(name + len - 3, "_at") == 0)
	{
		body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_COLUMN, "function", body->name, finding,
				   psprintf("At %s: %s.", body_where(body), message),
				   psprintf("ALTER TABLE %s ADD COLUMN %s timestamptz;", doctor_relation_name(relid), quote_identifier(name)));
		return true;
	}
	if (column == NULL)
		return false;
	detail = psprintf("At %s: %s. There is a column %s.", body_where(body), message, quote_identifier(column));
	if (edit_name(body, 0, name, column))
		body_found_edit(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_COLUMN, finding, detail);
	else
		body_found(body, DOCTOR_ERROR, ERRCODE_UNDEFINED_COLUMN, "function", body->name, finding, detail, NULL);
	return true;
}

static bool
tables_walker(Node *node, void *context)
{
	List	  **names = (List **) context;
	RangeVar   *rv = (RangeVar *) node;
	char	   *name;

	if (node == NULL)
		return false;
	if (!IsA(node, RangeVar))
		return raw_expression_tree_walker(node, tables_walker, names);
	name = rv->schemaname ? quote_qualified_identifier(rv->schemaname, rv->relname) : pstrdup(quote_identifier(rv->relname));
	if (!body_listed(*names, name))
		*names = lappend(*names, name);
	return false;
}

/* Many messages do not say of which table they speak. */
static const char *
statement_tables(Node *raw)
{
	List	   *names = NIL;

	if (raw != NULL && (IsA(raw, SelectStmt) || IsA(raw, InsertStmt) || IsA(raw, UpdateStmt) || IsA(raw, DeleteStmt) || IsA(raw, MergeStmt)))
		(void) raw_expression_tree_walker(raw, tables_walker, &names);
	return names == NIL ? NULL : joined(names);
}

/* What analysis raised: it would be raised by the auth server's statement. */
void
body_failed(Body *body, ErrorData *edata, Node *raw)
{
	const char *message = edata->message ? edata->message : "";
	char	   *name = quoted(message);
	char	   *operator;

	body->about = statement_tables(raw);
	switch (edata->sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
			/* so that nobody takes it for sound */
			body_found(body, DOCTOR_INFO, edata->sqlerrcode, "function", body->name,
					   "a statement was not looked at: what it names is locked", psprintf("At %s.", body_where(body)), NULL);
			return;
		case ERRCODE_UNDEFINED_TABLE:
		case ERRCODE_UNDEFINED_FUNCTION:
		case ERRCODE_UNDEFINED_OBJECT:
		case ERRCODE_UNDEFINED_SCHEMA:
			if (body->path_unknown || body->doubts > 0)
				return;
			break;
		case ERRCODE_UNDEFINED_COLUMN:
			if (body->doubts > 0)
				return;
			break;
		default:
			break;
	}
	switch (edata->sqlerrcode)
	{
		case ERRCODE_UNDEFINED_TABLE:
			if (name != NULL && strncmp(message, "relation ", 9) == 0)
			{
				missing_relation(body, name, message);
				return;
			}
			break;
		case ERRCODE_UNDEFINED_FUNCTION:
			if (strncmp(message, "function ", 9) == 0 || strncmp(message, "procedure ", 10) == 0)
			{
				missing_function(body, message, edata->hint);
				return;
			}
			if (strncmp(message, "operator does not exist: ", 25) == 0 && !body->uncertain)
			{
				List	   *words = NIL;
				char	   *copy = pstrdup(message + 25);

				/* type op type */
				for (char *s = strtok(copy, " "); s != NULL; s = strtok(NULL, " "))
					words = lappend(words, s);
				operator = NULL;
				for (int i = 0; i < list_length(words) && operator == NULL; i++)
					if (strspn((char *) list_nth(words, i), "+-*/<>=~!@#%^&|`?") == strlen((char *) list_nth(words, i)))
						operator = (char *) list_nth(words, i);
				if (operator != NULL && add_to_path(body, "operator", operator, name_operator_schemas(operator)))
					return;
			}
			break;
		case ERRCODE_UNDEFINED_OBJECT:
			if (name != NULL && strncmp(message, "type ", 5) == 0)
			{
				missing_type(body, name, message);
				return;
			}
			break;
		case ERRCODE_UNDEFINED_SCHEMA:
			if (name != NULL)
			{
				missing_schema(body, name, message);
				return;
			}
			break;
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			if (name == NULL && strncmp(message, "permission denied for schema ", 29) == 0)
			{
				body_denied(body, "USAGE", "SCHEMA", quote_identifier(message + 29));
				return;
			}
			break;
		default:
			break;
	}
	if (edata->sqlerrcode == ERRCODE_UNDEFINED_COLUMN && name != NULL && missing_column(body, name, message, raw))
		return;
	/* no judgement on what has types that are only known at run time, or on what was not the statement's fault */
	if (body->uncertain)
		return;
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INVALID_SCHEMA_NAME:
		case ERRCODE_CARDINALITY_VIOLATION:
			break;
		default:
			/* a view that cannot be written, a record that holds nothing */
			if (edata->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE &&
				(strncmp(message, "cannot ", 7) == 0 || strncmp(message, "record ", 7) == 0))
				break;
			return;
	}
	body_found(body, DOCTOR_ERROR, edata->sqlerrcode, "function", body->name,
			   psprintf("a statement fails: %s", message),
			   psprintf("At %s: %s.%s%s%s", body_where(body), message, edata->detail ? psprintf(" %s", edata->detail) : "",
						edata->hint ? psprintf(" %s", edata->hint) : "",
						body->about ? psprintf(" The statement is about %s.", body->about) : ""),
			   NULL);
}
