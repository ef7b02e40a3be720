/*-------------------------------------------------------------------------
 *
 * doctor_effect.c
 *	  What a statement of the auth server may run, and whether a rollback
 *	  undoes it.
 *
 * A probe is rolled back, but a request that was sent stays sent. So before
 * anything fires, all that can run is looked at. Bodies are not parsed: any
 * word in them counts as the function or table that it could be. A word too
 * many costs a look; a word too few, a message to a customer.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/proclang.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "caller.h"
#include "doctor.h"
#include "doctor_effect.h"
#include "plan.h"
#include "quarantine.h"

#define WORD_BYTES		NAMEDATALEN
#define KEYS_MAX		50

/*
 * Extensions whose functions, in C too, do nothing but what a rollback undoes:
 * they compute, or write tables of theirs. A request of pg_net is a row until
 * the transaction commits.
 */
static const char *const harmless_extensions[] = {
	"plpgsql", "invite_sync", "pg_net", "pgmq", "pg_cron", "pg_partman", "supabase_vault", "pgsodium", "pgcrypto", "uuid-ossp",
	"citext", "hstore", "ltree", "pg_trgm", "unaccent", "fuzzystrmatch", "intarray", "isn", "cube", "seg",
	"earthdistance", "tablefunc", "btree_gin", "btree_gist", "moddatetime", "autoinc", "insert_username", "refint", "tcn", "lo",
	"dict_int", "dict_xsyn", "bloom", "xml2", "intagg", "pgjwt", "pgtap", "pg_graphql", "pg_jsonschema", "pg_hashids",
	"pg_uuidv7", "pg_ulid", "pgx_ulid", "ulid", "vector", "rum", "pgroonga", "postgis", "postgis_topology", "postgis_raster",
	"postgis_sfcgal", "address_standardizer", "pgrouting", "h3", "timescaledb", "hll", "semver", "prefix", "ip4r",
	"temporal_tables", "periods", "pgaudit", "supa_audit", "hypopg", "index_advisor", "plpgsql_check", "sslinfo"
};

/* PostgreSQL's own functions that do what no rollback undoes. */
static const char *const lasting_functions[] = {
	"lo_export", "pg_logical_emit_message", "pg_terminate_backend", "pg_cancel_backend",
	"pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
	"pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all",
	"pg_reload_conf", "pg_rotate_logfile", "pg_switch_wal", "pg_create_restore_point", "pg_promote",
	"pg_wal_replay_pause", "pg_wal_replay_resume", "pg_backup_start", "pg_backup_stop", "pg_start_backup", "pg_stop_backup",
	"pg_create_physical_replication_slot", "pg_create_logical_replication_slot", "pg_copy_physical_replication_slot",
	"pg_copy_logical_replication_slot", "pg_drop_replication_slot", "pg_replication_slot_advance",
	"pg_logical_slot_get_changes", "pg_logical_slot_get_binary_changes", "pg_sync_replication_slots",
	"pg_stat_reset", "pg_stat_reset_shared", "pg_stat_reset_single_table_counters", "pg_stat_reset_single_function_counters",
	"pg_stat_reset_slru", "pg_stat_reset_replication_slot", "pg_stat_reset_subscription_stats",
	"pg_file_write", "pg_file_rename", "pg_file_unlink", "pg_file_sync",
	"pg_replication_origin_advance", "pg_replication_origin_session_setup", "pg_replication_origin_session_reset"
};

/* Functions that run a text which they are given. */
static const char *const running_functions[] = {
	"query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "ts_stat", "ts_rewrite",
	"crosstab", "crosstab2", "crosstab3", "crosstab4", "crosstabn", "connectby", "xpath_table"
};

/* What a statement begins with that event triggers fire for. */
static const char *const ddl_words[] = {
	"create", "alter", "drop", "grant", "revoke", "comment", "reindex", "refresh", "security", "import"
};

typedef struct Walk
{
	EffectWalk *out;
	List	   *todo_functions;
	List	   *todo_relations;
	List	   *todo_types;
	List	   *types;			/* oids of the types looked at */
	List	   *dynamic;		/* oids of the functions whose literals were read as code */
	bool		all_dynamic;	/* some function runs a text that it is given: any literal may be one */
	bool		ddl;			/* some body has it, so event triggers fire */
	List	   *from;			/* for each of out->functions, the function that led to it */
	Oid			current;		/* whose body is read, or invalid */
} Walk;

/* ---------------------------------------------------------------------
 * Words of a body
 * ---------------------------------------------------------------------
 */

typedef enum WordKind
{
	WORD_END,
	WORD_NAME,					/* in lower case unless quoted */
	WORD_STRING,
	WORD_SIGN					/* one character */
} WordKind;

typedef struct Word
{
	WordKind	kind;
	char		text[WORD_BYTES];	/* a string: its beginning */
	const char *from;			/* a string: all of it, without the quotes */
	size_t		len;
	int			line;
} Word;

typedef struct Reader
{
	const char *p;
	int			line;
} Reader;

/* Lexical rules enough to tell code, comments and strings apart. */
static void
read_word(Reader *r, Word *w)
{
	const char *p = quarantine_skip_blank(r->p, &r->line);
	size_t		n = 0;

	w->line = r->line;
	w->text[0] = '\0';
	w->from = NULL;
	w->len = 0;
	if (*p == '\0')
		w->kind = WORD_END;
	else if (*p == '\'' || ((*p == 'E' || *p == 'e') && p[1] == '\''))
	{
		bool		escapes = *p != '\'';

		p += escapes ? 2 : 1;
		w->kind = WORD_STRING;
		w->from = p;
		while (*p && !(*p == '\'' && p[1] != '\''))
		{
			if (*p == '\n')
				r->line++;
			p += ((*p == '\'' || (escapes && *p == '\\')) && p[1]) ? 2 : 1;
		}
		w->len = p - w->from;
		if (*p)
			p++;
	}
	else if (*p == '$' && !isdigit((unsigned char) p[1]))
	{
		const char *tag = p++;

		while (quarantine_is_word_char(*p) && *p != '$')
			p++;
		if (*p == '$')
		{
			size_t		len = ++p - tag;

			w->kind = WORD_STRING;
			w->from = p;
			while (*p && strncmp(p, tag, len) != 0)
			{
				if (*p == '\n')
					r->line++;
				p++;
			}
			w->len = p - w->from;
			if (*p)
				p += len;
		}
		else
			w->kind = WORD_SIGN;
	}
	else if (*p == '"')
	{
		for (p++; *p && !(*p == '"' && p[1] != '"'); p++)
		{
			if (*p == '"')
				p++;
			if (n < WORD_BYTES - 1)
				w->text[n++] = *p;
		}
		if (*p)
			p++;
		w->text[n] = '\0';
		w->kind = WORD_NAME;
	}
	else if (quarantine_is_word_char(*p))
	{
		for (; quarantine_is_word_char(*p); p++)
			if (n < WORD_BYTES - 1)
				w->text[n++] = pg_tolower((unsigned char) *p);
		w->text[n] = '\0';
		w->kind = WORD_NAME;
	}
	else
	{
		w->text[0] = *p++;
		w->text[1] = '\0';
		w->kind = WORD_SIGN;
	}
	if (w->kind == WORD_STRING)
		strlcpy(w->text, w->from, pg_mbcliplen(w->from, (int) w->len, WORD_BYTES - 1) + 1);
	r->p = p;
}

static bool
is_name(const Word *w, const char *name)
{
	return w->kind == WORD_NAME && strcmp(w->text, name) == 0;
}

static bool
is_sign(const Word *w, char c)
{
	return w->kind == WORD_SIGN && w->text[0] == c;
}

/* What stands before a statement. */
static bool
begins_statement(const Word *before)
{
	return before->kind == WORD_END || is_sign(before, ';') || is_sign(before, '>') || is_name(before, "begin") ||
		is_name(before, "then") || is_name(before, "else") || is_name(before, "loop");
}

static bool
listed(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

/* ---------------------------------------------------------------------
 * The walk
 * ---------------------------------------------------------------------
 */

static void
add_function(Walk *walk, Oid function)
{
	if (OidIsValid(function) && !list_member_oid(walk->out->functions, function))
	{
		walk->out->functions = lappend_oid(walk->out->functions, function);
		walk->from = lappend_oid(walk->from, walk->current);
		walk->todo_functions = lappend_oid(walk->todo_functions, function);
	}
}

static void
add_relation(Walk *walk, Oid relation)
{
	if (OidIsValid(relation) && !list_member_oid(walk->out->relations, relation))
	{
		walk->out->relations = lappend_oid(walk->out->relations, relation);
		walk->todo_relations = lappend_oid(walk->todo_relations, relation);
	}
}

static void
add_type(Walk *walk, Oid type)
{
	if (OidIsValid(type) && !list_member_oid(walk->types, type))
	{
		walk->types = lappend_oid(walk->types, type);
		walk->todo_types = lappend_oid(walk->todo_types, type);
	}
}

static void
add_effect(Walk *walk, Oid function, const char *object, int line, const char *what)
{
	Effect	   *effect = palloc(sizeof(Effect));
	ListCell   *lc;

	foreach(lc, walk->out->effects)
	{
		Effect	   *e = (Effect *) lfirst(lc);

		if (strcmp(e->object, object) == 0 && strcmp(e->what, what) == 0)
			return;
	}
	effect->function = function;
	effect->object = pstrdup(object);
	effect->line = line;
	effect->what = what;
	walk->out->effects = lappend(walk->out->effects, effect);
}

static void
add_key(Walk *walk, const char *name, const char *type)
{
	MetadataKey *key;
	ListCell   *lc;

	if (name[0] == '\0' || list_length(walk->out->keys) >= KEYS_MAX)
		return;
	foreach(lc, walk->out->keys)
	{
		key = (MetadataKey *) lfirst(lc);
		if (strcmp(key->name, name) == 0)
		{
			if (key->type == NULL && type != NULL)
				key->type = pstrdup(type);
			return;
		}
	}
	key = palloc(sizeof(MetadataKey));
	key->name = pstrdup(name);
	key->type = type ? pstrdup(type) : NULL;
	walk->out->keys = lappend(walk->out->keys, key);
}

/* public.f(uuid), with its types as they are usually written. */
char *
effect_function_name(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	char	   *nsp;
	StringInfoData name;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	nsp = get_namespace_name(proc->pronamespace);
	initStringInfo(&name);
	appendStringInfo(&name, "%s(", quote_qualified_identifier(nsp, NameStr(proc->proname)));
	/* a type may have been dropped since, and its function with it: no reason for the whole probe to fail */
	for (int i = 0; i < proc->pronargs; i++)
		appendStringInfo(&name, "%s%s", i > 0 ? "," : "",
						 format_type_extended(proc->proargtypes.values[i], -1, FORMAT_TYPE_ALLOW_INVALID));
	appendStringInfoChar(&name, ')');
	ReleaseSysCache(tuple);
	return name.data;
}

/* "; public.f() calls it", for a function that is no user's own. */
static const char *
called_by(Walk *walk, Oid function)
{
	Oid			caller = function;
	int			steps = 0;

	while (OidIsValid(caller) && steps++ < 20 &&
		   (caller == function || OidIsValid(getExtensionOfObject(ProcedureRelationId, caller))))
	{
		int			i = 0;
		ListCell   *lc;
		Oid			next = InvalidOid;

		foreach(lc, walk->out->functions)
		{
			if (lfirst_oid(lc) == caller)
				next = list_nth_oid(walk->from, i);
			i++;
		}
		caller = next;
	}
	return OidIsValid(caller) && caller != function ? psprintf("; %s calls it", effect_function_name(caller)) : "";
}

/*
 * Functions of this name; where the schema is not said, in whatever schema. As
 * an attribute (r.name, without parentheses) those that take a row alone.
 */
static void
add_functions_named(Walk *walk, const char *schema, const char *name, bool attribute)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);
		char	   *nsp = get_namespace_name(proc->pronamespace);

		if (attribute && (proc->pronargs != 1 || get_typtype(proc->proargtypes.values[0]) != TYPTYPE_COMPOSITE))
			continue;
		if (nsp != NULL && strcmp(nsp, "pg_catalog") != 0 &&
			(schema == NULL || strcmp(schema, nsp) == 0))
			add_function(walk, proc->oid);
	}
	ReleaseCatCacheList(list);
}

/* What a statement says that is found: a function, a relation or a type. */
#define KIND_FUNCTION	'f'
#define KIND_RELATION	'r'
#define KIND_TYPE		't'

/* Tables, views and types that one of these words may mean. */
static SavedPlan named_plan = {
	.sql = "SELECT 'r'::pg_catalog.\"char\", c.oid FROM pg_catalog.pg_class AS c "
	"JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace "
	"WHERE c.relname OPERATOR(pg_catalog.=) ANY ($1) AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f}'::pg_catalog.\"char\"[]) "
	"AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema,invite_sync,pg_toast}'::pg_catalog.name[]) "
	"UNION ALL SELECT 't', t.oid FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.typrelid "
	"WHERE t.typname OPERATOR(pg_catalog.=) ANY ($1) AND t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid "
	"AND (c.relkind IS NULL OR c.relkind OPERATOR(pg_catalog.=) 'c')",
	.nargs = 1,
	.argtypes = {NAMEARRAYOID}
};

/* Adds what the statement returns: kind and oid. */
static void
add_found(Walk *walk, SavedPlan *plan, Datum *args)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		char		kind = DatumGetChar(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		Oid			found = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (isnull)
			 /* none */ ;
		else if (kind == KIND_FUNCTION)
			add_function(walk, found);
		else if (kind == KIND_TYPE)
			add_type(walk, found);
		else
			add_relation(walk, found);
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
}

static void
add_named(Walk *walk, List *names)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(list_length(names), 1));
	Datum		args[1];
	ListCell   *lc;
	int			n = 0;

	if (names == NIL)
		return;
	foreach(lc, names)
		elems[n++] = DirectFunctionCall1(namein, CStringGetDatum((char *) lfirst(lc)));
	args[0] = plan_array(elems, NULL, n, NAMEOID);
	add_found(walk, &named_plan, args);
}

typedef struct Body
{
	Oid			function;
	const char *object;
	int			line;			/* of the text in the body, for literals */
	bool		dynamic;		/* runs texts that it puts together */
	bool		expression;		/* written by PostgreSQL: has no lines and no DDL */
	List	   *names;			/* words that may be tables */
} Body;

static void
read_body(Walk *walk, Body *body, const char *text, int depth)
{
	Reader		reader = {text, 1};
	Word		before[2];		/* the two words before, the nearer one last */
	Word		word;
	Word		next;
	char		last_name[WORD_BYTES] = "";
	const char *arrow = NULL;	/* a key was just asked for ... */
	bool		closed = false; /* ... and the parenthesis around that closed */
	int			copy = 0;		/* line of a COPY that is not over */

	memset(before, 0, sizeof(before));
	read_word(&reader, &word);
	while (word.kind != WORD_END)
	{
		int			line = body->expression ? 0 : depth == 0 ? word.line : body->line;
		bool		qualified = is_sign(&before[1], '.') && before[0].kind == WORD_NAME;

		read_word(&reader, &next);
		if (word.kind == WORD_NAME)
		{
			/* what a literal ends with may be followed by something put behind it */
			bool		ends = depth > 0 && next.kind == WORD_END;

			if (is_sign(&next, '(') || ends)
			{
				bool		builtin = !qualified || strcmp(before[0].text, "pg_catalog") == 0;

				if (builtin && listed(word.text, lasting_functions, lengthof(lasting_functions)))
				{
					Reader		ahead = reader;
					Word		argument;

					read_word(&ahead, &argument);
					if (strcmp(word.text, "pg_logical_emit_message") == 0 && is_name(&argument, "true"))
						walk->out->messages = true;
					else
						add_effect(walk, body->function, body->object, line,
								   psprintf("calls %s(), which a rollback does not undo", word.text));
				}
				add_functions_named(walk, qualified ? before[0].text : NULL, word.text, false);
			}
			else if (is_sign(&before[1], '.'))
				add_functions_named(walk, NULL, word.text, true);
			if (!body->expression && begins_statement(&before[1]) && listed(word.text, ddl_words, lengthof(ddl_words)))
				walk->ddl = true;
			if (is_name(&word, "copy") && (begins_statement(&before[1]) || next.kind == WORD_NAME))
				copy = line;
			else if (copy > 0 && (is_name(&word, "program") ||
								  (is_name(&word, "to") && next.kind == WORD_STRING)))
			{
				add_effect(walk, body->function, body->object, copy,
						   "copies to or from a program, or to a file, which a rollback does not undo");
				copy = 0;
			}
			else if (is_name(&word, "load") && next.kind == WORD_STRING && !is_sign(&before[1], '.'))
				add_effect(walk, body->function, body->object, line,
						   "loads a library, which a rollback does not undo");
			if (list_length(body->names) < 2000)
				body->names = lappend(body->names, pstrdup(word.text));
			if (arrow == NULL)
				strlcpy(last_name, word.text, sizeof(last_name));
			else if (is_sign(&before[1], ':'))
			{
				/* ->> 'key'::text, as expressions are shown, says nothing of the value */
				if (closed)
				{
					add_key(walk, arrow, word.text);
					arrow = NULL;
				}
			}
			else if (!is_sign(&before[1], ')'))
				arrow = NULL;
		}
		else if (word.kind == WORD_STRING)
		{
			if (is_sign(&before[1], '>') && word.text[0] != '{' && strcmp(last_name, "raw_app_meta_data") != 0)
			{
				arrow = pstrdup(word.text);
				closed = false;
				add_key(walk, arrow, NULL);
			}
			if (body->dynamic && depth < 3 && word.len > 0)
			{
				body->line = line;
				read_body(walk, body, pnstrdup(word.from, word.len), depth + 1);
			}
		}
		else if (is_sign(&word, ';'))
			copy = 0;
		else if (is_sign(&word, ')'))
			closed = true;
		/* nullif(x ->> 'key', '')::int */
		else if (is_sign(&word, ',') && next.kind == WORD_STRING)
			closed = false;
		else if (!is_sign(&word, ':'))
			arrow = NULL;
		before[0] = before[1];
		before[1] = word;
		word = next;
	}
}

/* Does it run texts that it makes? EXECUTE FUNCTION is a part of CREATE TRIGGER. */
static bool
runs_texts(const char *text)
{
	Reader		reader = {text, 1};
	Word		word;
	Word		next;

	read_word(&reader, &word);
	while (word.kind != WORD_END)
	{
		read_word(&reader, &next);
		if (is_name(&word, "execute") && !is_name(&next, "function") && !is_name(&next, "procedure"))
			return true;
		if (word.kind == WORD_NAME && is_sign(&next, '(') &&
			listed(word.text, running_functions, lengthof(running_functions)))
			return true;
		word = next;
	}
	return false;
}

#define KIND_OF_D \
	"CASE d.refclassid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'f' WHEN 'pg_catalog.pg_type'::pg_catalog.regclass THEN 't' ELSE 'r' END::pg_catalog.\"char\""

/* What a function with an SQL-standard body, or a column's default, depends on. */
static SavedPlan depends_plan = {
	.sql = "SELECT " KIND_OF_D ", d.refobjid "
	"FROM pg_catalog.pg_depend AS d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass "
	"AND d.objid OPERATOR(pg_catalog.=) $1 "
	"AND d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass, "
	"'pg_catalog.pg_type'::pg_catalog.regclass]::pg_catalog.oid[])",
	.nargs = 1,
	.argtypes = {OIDOID}
};

static SavedPlan relation_plan = {
	.sql = "WITH parts (classid, objid) AS ("
	"SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid, a.oid FROM pg_catalog.pg_attrdef AS a WHERE a.adrelid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid, c.oid FROM pg_catalog.pg_constraint AS c WHERE c.conrelid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, $1 "
	"UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, i.indexrelid FROM pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid, p.oid FROM pg_catalog.pg_policy AS p WHERE p.polrelid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid, r.oid FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass::pg_catalog.oid, t.oid FROM pg_catalog.pg_trigger AS t "
	"WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog.\"char\"[])) "
	"SELECT " KIND_OF_D ", d.refobjid "
	"FROM parts AS p JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) p.classid AND d.objid OPERATOR(pg_catalog.=) p.objid "
	"WHERE d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass]::pg_catalog.oid[]) "
	"OR (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass) "
	"UNION SELECT 'f', t.tgfoid FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 "
	"AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog.\"char\"[]) "
	"UNION SELECT 'r', k.conrelid FROM pg_catalog.pg_constraint AS k WHERE k.confrelid OPERATOR(pg_catalog.=) $1 AND k.contype OPERATOR(pg_catalog.=) 'f' "
	"AND (k.confdeltype OPERATOR(pg_catalog.=) ANY ('{c,n,d}'::pg_catalog.\"char\"[]) OR k.confupdtype OPERATOR(pg_catalog.=) ANY ('{c,n,d}'::pg_catalog.\"char\"[])) "
	"UNION SELECT 'r', h.inhrelid FROM pg_catalog.pg_inherits AS h WHERE h.inhparent OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/* Operators and casts of users: bodies use them without naming a function. */
static SavedPlan unnamed_plan = {
	.sql = "SELECT 'f'::pg_catalog.\"char\", o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator AS o "
	"WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d "
	"WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) o.oid AND d.deptype OPERATOR(pg_catalog.=) 'e') "
	"UNION SELECT 'f', c.castfunc FROM pg_catalog.pg_cast AS c "
	"WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d "
	"WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_cast'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e')",
	.nargs = 0
};

/* Fired by DDL of whatever body. */
static SavedPlan event_triggers_plan = {
	.sql = "SELECT 'f'::pg_catalog.\"char\", e.evtfoid FROM pg_catalog.pg_event_trigger AS e "
	"WHERE e.evtenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog.\"char\"[]) AND e.evtevent OPERATOR(pg_catalog.<>) 'login'",
	.nargs = 0
};

/* The checks of a domain, what a type is made of, and functions of types that are no extension's. */
static SavedPlan type_plan = {
	.sql = "SELECT 'f'::pg_catalog.\"char\", d.refobjid FROM pg_catalog.pg_constraint AS c "
	"JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) c.oid "
	"WHERE c.contypid OPERATOR(pg_catalog.=) $1 AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass "
	"UNION SELECT 'f', d.refobjid FROM pg_catalog.pg_depend AS d "
	"WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) $1 "
	"AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS e "
	"WHERE e.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND e.objid OPERATOR(pg_catalog.=) $1 AND e.deptype OPERATOR(pg_catalog.=) 'e') "
	"UNION SELECT 't', p.oid FROM pg_catalog.pg_type AS t CROSS JOIN LATERAL (SELECT t.typbasetype UNION ALL SELECT t.typelem "
	"UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid OPERATOR(pg_catalog.=) t.oid "
	"UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND NOT a.attisdropped) AS p (oid) "
	"WHERE t.oid OPERATOR(pg_catalog.=) $1 AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid",
	.nargs = 1,
	.argtypes = {OIDOID}
};

/*
 * PostgreSQL writes down no dependency on its own functions. So the expressions
 * of a table, a type or an SQL-standard body are read as text as well, and so
 * are the arguments of triggers.
 */
static SavedPlan relation_texts_plan = {
	.sql = "SELECT pg_catalog.pg_get_expr(a.adbin, a.adrelid) FROM pg_catalog.pg_attrdef AS a WHERE a.adrelid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint AS c WHERE c.conrelid OPERATOR(pg_catalog.=) $1 AND c.contype OPERATOR(pg_catalog.=) ANY ('{c,x}'::pg_catalog.\"char\"[]) "
	"UNION ALL SELECT pg_catalog.pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) "
	"UNION ALL SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_catalog.pg_policy AS p WHERE p.polrelid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 "
	"AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.=) ANY ('{O,A}'::pg_catalog.\"char\"[]) AND (t.tgqual IS NOT NULL OR t.tgnargs OPERATOR(pg_catalog.>) 0)",
	.nargs = 1,
	.argtypes = {OIDOID}
};

static SavedPlan type_texts_plan = {
	.sql = "SELECT pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint AS c WHERE c.contypid OPERATOR(pg_catalog.=) $1 "
	"UNION ALL SELECT pg_catalog.pg_get_expr(t.typdefaultbin, 0) FROM pg_catalog.pg_type AS t WHERE t.oid OPERATOR(pg_catalog.=) $1",
	.nargs = 1,
	.argtypes = {OIDOID}
};

static SavedPlan function_text_plan = {
	.sql = "SELECT pg_catalog.pg_get_function_sqlbody(p.oid) FROM pg_catalog.pg_proc AS p WHERE p.oid OPERATOR(pg_catalog.=) $1 AND p.prosqlbody IS NOT NULL",
	.nargs = 1,
	.argtypes = {OIDOID}
};

static void
add_what_it_says(Walk *walk, SavedPlan *plan, Oid oid)
{
	Datum		args[1];

	args[0] = ObjectIdGetDatum(oid);
	add_found(walk, plan, plan->nargs == 0 ? NULL : args);
}

/* Reads the texts that the statement returns for an object; function: it is one. */
static void
read_texts(Walk *walk, SavedPlan *plan, Oid oid, bool function, const char *object)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *texts = NIL;
	Datum		args[1];
	Scope		scope;
	ListCell   *lc;

	args[0] = ObjectIdGetDatum(oid);
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (text != NULL)
			texts = lappend(texts, pstrdup(text));
		MemoryContextSwitchTo(old);
	}
	scope_leave(&scope);
	SPI_finish();
	foreach(lc, texts)
	{
		Body		body;

		memset(&body, 0, sizeof(body));
		body.function = function ? oid : InvalidOid;
		body.object = object;
		body.dynamic = true;
		body.expression = true;
		read_body(walk, &body, (char *) lfirst(lc), 0);
		add_named(walk, body.names);
	}
}

/* Does it take a text, which it may run? */
static bool
takes_text(Form_pg_proc proc)
{
	for (int i = 0; i < proc->pronargs; i++)
	{
		Oid			type = getBaseType(proc->proargtypes.values[i]);

		if (type == TEXTOID || type == VARCHAROID || type == NAMEOID || type == TEXTARRAYOID)
			return true;
	}
	return false;
}

bool
effect_of_function(const EffectWalk *walk, Oid function, Effect *effect)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	HeapTuple	language;
	Form_pg_proc proc;
	Oid			extension;
	const char *extension_name;
	const char *what = NULL;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->pronamespace == PG_CATALOG_NAMESPACE)
	{
		if (listed(NameStr(proc->proname), lasting_functions, lengthof(lasting_functions)) &&
			!(walk->messages && strcmp(NameStr(proc->proname), "pg_logical_emit_message") == 0))
			what = psprintf("calls %s(), which a rollback does not undo", NameStr(proc->proname));
	}
	else
	{
		extension = getExtensionOfObject(ProcedureRelationId, function);
		extension_name = OidIsValid(extension) ? get_extension_name(extension) : NULL;
		language = SearchSysCache1(LANGOID, ObjectIdGetDatum(proc->prolang));
		if (!HeapTupleIsValid(language) ||
			(extension_name != NULL && listed(extension_name, harmless_extensions, lengthof(harmless_extensions))))
			 /* nothing to be said */ ;
		else if (proc->prolang == ClanguageId)
			what = extension_name ?
				psprintf("is C code of the extension %s, which may do what a rollback does not undo", extension_name) :
				"is C code, which may do what a rollback does not undo";
		else if (proc->prolang == INTERNALlanguageId)
		{
			bool		isnull;
			Datum		source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
			Oid			original = isnull ? InvalidOid : fmgr_internal_function(TextDatumGetCString(source));
			char	   *name = OidIsValid(original) ? get_func_name(original) : NULL;

			if (name != NULL && listed(name, lasting_functions, lengthof(lasting_functions)))
				what = psprintf("is %s() under another name, which a rollback does not undo", name);
		}
		else if (!((Form_pg_language) GETSTRUCT(language))->lanpltrusted)
			what = psprintf("is in the untrusted language %s, which may do what a rollback does not undo",
							NameStr(((Form_pg_language) GETSTRUCT(language))->lanname));
		if (HeapTupleIsValid(language))
			ReleaseSysCache(language);
	}
	ReleaseSysCache(tuple);
	if (what == NULL)
		return false;
	effect->function = function;
	/* of PostgreSQL's own it is whoever calls them that is to be named */
	effect->object = get_func_namespace(function) == PG_CATALOG_NAMESPACE ? NULL : effect_function_name(function);
	effect->line = 0;
	effect->what = what;
	return true;
}

static void
walk_function(Walk *walk, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	HeapTuple	language_tuple;
	Form_pg_proc proc;
	Form_pg_language language;
	Oid			extension;
	const char *extension_name;
	const char *object;
	char	   *source = NULL;
	bool		isnull;
	Datum		datum;
	Effect		effect;

	if (!HeapTupleIsValid(tuple))
		return;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	object = effect_function_name(function);
	extension = getExtensionOfObject(ProcedureRelationId, function);
	extension_name = OidIsValid(extension) ? get_extension_name(extension) : NULL;
	language_tuple = SearchSysCache1(LANGOID, ObjectIdGetDatum(proc->prolang));
	if (object == NULL || !HeapTupleIsValid(language_tuple) ||
		(extension_name != NULL && listed(extension_name, harmless_extensions, lengthof(harmless_extensions))))
	{
		if (HeapTupleIsValid(language_tuple))
			ReleaseSysCache(language_tuple);
		ReleaseSysCache(tuple);
		return;
	}
	language = (Form_pg_language) GETSTRUCT(language_tuple);
	datum = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	if (!isnull)
		source = TextDatumGetCString(datum);

	if (effect_of_function(walk->out, function, &effect))
		add_effect(walk, function, object, 0, psprintf("%s%s", effect.what, called_by(walk, function)));
	else if (proc->prolang != INTERNALlanguageId && source != NULL && source[0] != '\0')
	{
		Body		body;

		memset(&body, 0, sizeof(body));
		body.function = function;
		body.object = object;
		/* what another language does with its strings is not ours to know */
		body.dynamic = (language->lanispl && strcmp(NameStr(language->lanname), "plpgsql") != 0) || runs_texts(source);
		if (body.dynamic && takes_text(proc))
			walk->all_dynamic = true;
		body.dynamic = body.dynamic || walk->all_dynamic;
		if (body.dynamic)
			walk->dynamic = lappend_oid(walk->dynamic, function);
		read_body(walk, &body, source, 0);
		add_named(walk, body.names);
	}
	ReleaseSysCache(language_tuple);
	ReleaseSysCache(tuple);
	add_what_it_says(walk, &depends_plan, function);
	read_texts(walk, &function_text_plan, function, true, object);
}

/* postgres_fdw rolls back over there as well, and files are only read; of others nobody knows. */
bool
effect_of_foreign_table(Oid relation, Effect *effect)
{
	ForeignTable *table = GetForeignTable(relation);
	const char *wrapper = GetForeignDataWrapper(GetForeignServer(table->serverid)->fdwid)->fdwname;
	bool		program = false;
	ListCell   *lc;

	foreach(lc, table->options)
		program = program || strcmp(((DefElem *) lfirst(lc))->defname, "program") == 0;
	if (strcmp(wrapper, "postgres_fdw") == 0 || (strcmp(wrapper, "file_fdw") == 0 && !program))
		return false;
	effect->function = InvalidOid;
	effect->object = doctor_relation_name(relation);
	effect->line = 0;
	effect->what = psprintf("is a foreign table of %s, where a rollback may undo nothing", wrapper);
	return effect->object != NULL;
}

/* What is still to be looked at; nothing: false. */
static bool
walk_one(Walk *walk)
{
	Effect		effect;
	Oid			oid;

	if (walk->todo_relations != NIL)
	{
		const char *object;

		oid = llast_oid(walk->todo_relations);
		walk->todo_relations = list_delete_last(walk->todo_relations);
		object = doctor_relation_name(oid);
		if (object == NULL)
			return true;
		if (get_rel_relkind(oid) == RELKIND_FOREIGN_TABLE && effect_of_foreign_table(oid, &effect))
			add_effect(walk, InvalidOid, effect.object, 0, effect.what);
		add_what_it_says(walk, &relation_plan, oid);
		read_texts(walk, &relation_texts_plan, oid, false, object);
	}
	else if (walk->todo_types != NIL)
	{
		oid = llast_oid(walk->todo_types);
		walk->todo_types = list_delete_last(walk->todo_types);
		add_what_it_says(walk, &type_plan, oid);
		read_texts(walk, &type_texts_plan, oid, false, format_type_extended(oid, -1, FORMAT_TYPE_ALLOW_INVALID));
	}
	else if (walk->todo_functions != NIL)
	{
		oid = llast_oid(walk->todo_functions);
		walk->todo_functions = list_delete_last(walk->todo_functions);
		walk->current = oid;
		walk_function(walk, oid);
		walk->current = InvalidOid;
	}
	else
		return false;
	return true;
}

void
effect_walk(EffectWalk *out, const Oid *relations, int nrelations)
{
	Walk		walk;
	bool		told_ddl = false;
	bool		again = false;

	memset(&walk, 0, sizeof(walk));
	memset(out, 0, sizeof(*out));
	walk.out = out;
	for (int i = 0; i < nrelations; i++)
		add_relation(&walk, relations[i]);
	add_what_it_says(&walk, &unnamed_plan, InvalidOid);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (walk_one(&walk))
			continue;
		if (walk.ddl && !told_ddl)
		{
			told_ddl = true;
			add_what_it_says(&walk, &event_triggers_plan, InvalidOid);
		}
		else if (walk.all_dynamic && !again)
		{
			/* those that were read before that was known */
			again = true;
			walk.todo_functions = list_difference_oid(out->functions, walk.dynamic);
		}
		else
			break;
	}
}
