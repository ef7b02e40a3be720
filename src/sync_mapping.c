/*-------------------------------------------------------------------------
 *
 * sync_mapping.c
 *	  Mappings: inferred from a table's columns, read from jsonb, checked.
 *
 * An expression is a caller's text: it is looked at here before it is stored, and
 * analysed only with the rights of the target's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "plan.h"
#include "sync_internal.h"

typedef struct Inference
{
	const char *column;			/* name in lower snake case */
	const char *expression;
	char		category;		/* type category the target column must have */
	UpdatePolicy policy;
} Inference;

/*
 * What a column's name says about its source. Names of rights are absent but
 * for role, which only the auth server's own metadata may fill: users write
 * raw_user_meta_data themselves. updated_at is set once, since every login
 * changes it and would write the row.
 */
static const Inference inferences[] = {
	{"email", "email", 'S', POLICY_ALWAYS},
	{"email_address", "email", 'S', POLICY_ALWAYS},
	{"phone", "phone", 'S', POLICY_ALWAYS},
	{"phone_number", "phone", 'S', POLICY_ALWAYS},
	{"full_name", "coalesce(raw_user_meta_data->>'full_name', raw_user_meta_data->>'name')", 'S', POLICY_IF_NULL},
	{"name", "coalesce(raw_user_meta_data->>'name', raw_user_meta_data->>'full_name')", 'S', POLICY_IF_NULL},
	{"display_name", "coalesce(raw_user_meta_data->>'display_name', raw_user_meta_data->>'full_name', raw_user_meta_data->>'name')", 'S', POLICY_IF_NULL},
	{"first_name", "coalesce(raw_user_meta_data->>'first_name', raw_user_meta_data->>'given_name')", 'S', POLICY_IF_NULL},
	{"last_name", "coalesce(raw_user_meta_data->>'last_name', raw_user_meta_data->>'family_name')", 'S', POLICY_IF_NULL},
	{"username", "coalesce(raw_user_meta_data->>'username', raw_user_meta_data->>'user_name', raw_user_meta_data->>'preferred_username')", 'S', POLICY_IF_NULL},
	{"user_name", "coalesce(raw_user_meta_data->>'user_name', raw_user_meta_data->>'username', raw_user_meta_data->>'preferred_username')", 'S', POLICY_IF_NULL},
	{"avatar_url", "coalesce(raw_user_meta_data->>'avatar_url', raw_user_meta_data->>'picture')", 'S', POLICY_IF_NULL},
	{"avatar", "coalesce(raw_user_meta_data->>'avatar_url', raw_user_meta_data->>'picture')", 'S', POLICY_IF_NULL},
	{"picture", "coalesce(raw_user_meta_data->>'picture', raw_user_meta_data->>'avatar_url')", 'S', POLICY_IF_NULL},
	{"job_title", "raw_user_meta_data->>'job_title'", 'S', POLICY_IF_NULL},
	{"role", "raw_app_meta_data->>'role'", 'S', POLICY_ALWAYS},
	{"role", "raw_app_meta_data->>'role'", 'E', POLICY_ALWAYS},
	{"provider", "raw_app_meta_data->>'provider'", 'S', POLICY_ALWAYS},
	{"auth_provider", "raw_app_meta_data->>'provider'", 'S', POLICY_ALWAYS},
	{"sso_provider", "CASE WHEN is_sso_user THEN raw_app_meta_data->>'provider' END", 'S', POLICY_ALWAYS},
	{"sso_user_id", "CASE WHEN is_sso_user THEN identity_provider_id END", 'S', POLICY_ALWAYS},
	{"identity_provider", "identity_provider", 'S', POLICY_ALWAYS},
	{"provider_id", "identity_provider_id", 'S', POLICY_ALWAYS},
	{"is_sso_user", "is_sso_user", 'B', POLICY_ALWAYS},
	{"is_anonymous", "is_anonymous", 'B', POLICY_ALWAYS},
	{"email_verified", "email_confirmed_at IS NOT NULL", 'B', POLICY_ALWAYS},
	{"email_confirmed_at", "email_confirmed_at", 'D', POLICY_ALWAYS},
	{"phone_confirmed_at", "phone_confirmed_at", 'D', POLICY_ALWAYS},
	{"invited_at", "invited_at", 'D', POLICY_ALWAYS},
	{"created_at", "created_at", 'D', POLICY_ALWAYS},
	{"updated_at", "updated_at", 'D', POLICY_NEVER},
	{"last_sign_in_at", "last_sign_in_at", 'D', POLICY_ALWAYS},
	{"last_login", "last_sign_in_at", 'D', POLICY_ALWAYS},
	{"last_login_at", "last_sign_in_at", 'D', POLICY_ALWAYS},
	{"raw_user_meta_data", "raw_user_meta_data", 'U', POLICY_IF_NULL},
	{"raw_app_meta_data", "raw_app_meta_data", 'U', POLICY_ALWAYS}
};

/* A column that grants something, or says whom somebody belongs to. */
static bool
looks_like_a_right(const char *column)
{
	static const char *const words[] = {
		"role", "roles", "is_admin", "admin", "is_superuser", "superuser", "is_staff",
		"is_owner", "is_active", "active", "is_super_admin", "permission", "permissions",
		"scopes", "plan", "tier", "subscription", "subscription_plan", "organization_id",
		"organisation_id", "org_id", "tenant", "tenant_id", "team_id", "workspace_id",
		"company_id", "account_id", "account_type", "user_type", "user_role", "group_id",
		"groups", "access_level", "is_verified", "verified", "is_moderator", "credits", "quota",
		"platform_role", "app_role", "is_premium"
	};

	for (size_t i = 0; i < lengthof(words); i++)
		if (strcmp(words[i], column) == 0)
			return true;
	return false;
}

/* createdAt and CreatedAt read like created_at. */
char *
sync_snake_case(const char *s)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; s[i]; i++)
	{
		if (isupper((unsigned char) s[i]))
		{
			if (i > 0 && (islower((unsigned char) s[i - 1]) || isdigit((unsigned char) s[i - 1])))
				appendStringInfoChar(&buf, '_');
			appendStringInfoChar(&buf, pg_tolower((unsigned char) s[i]));
		}
		else
			appendStringInfoChar(&buf, s[i]);
	}
	return buf.data;
}

void
sync_infer_mapping(Relation rel, const char *key, MappingDraft *draft)
{
	TupleDesc	desc = RelationGetDescr(rel);

	draft->columns = palloc0(sizeof(MapColumn) * Max(desc->natts, 1));
	draft->explicit_policy = palloc0(sizeof(bool) * Max(desc->natts, 1));
	draft->n = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char	   *name;
		char		category;
		bool		preferred;
		Oid			type;

		if (att->attisdropped || att->attgenerated != '\0' ||
			att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS ||
			strcmp(NameStr(att->attname), key) == 0)
			continue;
		name = sync_snake_case(NameStr(att->attname));
		type = getBaseType(att->atttypid);
		get_type_category_preferred(type, &category, &preferred);
		for (size_t k = 0; k < lengthof(inferences); k++)
		{
			const Inference *inf = &inferences[k];
			MapColumn  *mc;

			if (strcmp(inf->column, name) != 0 || inf->category != category)
				continue;
			if (category == 'U' && type != JSONBOID && type != JSONOID)
				continue;
			mc = &draft->columns[draft->n];
			mc->name = pstrdup(NameStr(att->attname));
			/* a timestamp without time zone must not depend on the session's */
			if (category == 'D' && type == TIMESTAMPOID)
				mc->expression = psprintf("%s AT TIME ZONE 'UTC'", inf->expression);
			else
				mc->expression = pstrdup(inf->expression);
			mc->policy = inf->policy;
			draft->explicit_policy[draft->n] = true;
			draft->n++;
			break;
		}
	}
}

static char *
jsonb_string(const JsonbValue *v)
{
	return pnstrdup(v->val.string.val, v->val.string.len);
}

void
sync_mapping_error(const char *column, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mapping of column \"%s\": %s", column, what),
			 errhint("%s", hint)));
}

#define MAPPING_SHAPE_HINT \
	"A mapping is {\"column\": \"expression\"} or {\"column\": {\"value\": \"expression\", \"update\": \"always|if_null|never\"}}."

/* {"column": "expression"} or {"column": {"value": …, "update": …}} */
void
sync_parse_mapping(Jsonb *mapping, MappingDraft *draft)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken tok;

	if (!JB_ROOT_IS_OBJECT(mapping))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping is not a JSON object"),
				 errhint(MAPPING_SHAPE_HINT)));
	draft->columns = palloc0(sizeof(MapColumn) * (JB_ROOT_COUNT(mapping) + 1));
	draft->explicit_policy = palloc0(sizeof(bool) * (JB_ROOT_COUNT(mapping) + 1));
	draft->n = 0;

	it = JsonbIteratorInit(&mapping->root);
	while ((tok = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		MapColumn  *mc = &draft->columns[draft->n];

		if (tok == WJB_KEY)
		{
			mc->name = jsonb_string(&v);
			mc->expression = NULL;
		}
		else if (tok == WJB_VALUE)
		{
			if (v.type == jbvString)
				mc->expression = jsonb_string(&v);
			else if (v.type == jbvBinary)
			{
				JsonbIterator *inner = JsonbIteratorInit(v.val.binary.data);
				JsonbValue	iv;
				JsonbIteratorToken itok;
				char	   *field = NULL;

				if (!JsonContainerIsObject(v.val.binary.data))
					sync_mapping_error(mc->name, "neither an expression nor an object", MAPPING_SHAPE_HINT);
				while ((itok = JsonbIteratorNext(&inner, &iv, true)) != WJB_DONE)
				{
					if (itok == WJB_KEY)
						field = jsonb_string(&iv);
					else if (itok == WJB_VALUE)
					{
						char	   *text;

						if (iv.type != jbvString)
							sync_mapping_error(mc->name, "\"value\" and \"update\" are strings", MAPPING_SHAPE_HINT);
						text = jsonb_string(&iv);
						if (strcmp(field, "value") == 0)
							mc->expression = text;
						else if (strcmp(field, "update") == 0)
						{
							if (strcmp(text, "always") != 0 && strcmp(text, "if_null") != 0 &&
								strcmp(text, "never") != 0)
								sync_mapping_error(mc->name, "unknown update policy", MAPPING_SHAPE_HINT);
							mc->policy = sync_policy_from_text(text);
							draft->explicit_policy[draft->n] = true;
						}
						else
							sync_mapping_error(mc->name, "unknown field", MAPPING_SHAPE_HINT);
					}
				}
			}
			if (mc->expression == NULL)
				sync_mapping_error(mc->name, "no expression given", MAPPING_SHAPE_HINT);
			draft->n++;
		}
	}
}

/* What one expression reads and does. */
typedef struct ExpressionCheck
{
	Query	   *query;
	const char *column;
	TupleDesc	auth;
	Bitmapset  *sources;
	bool		identity[2];	/* identity_provider, identity_provider_id */
} ExpressionCheck;

static bool
volatile_function(Oid funcid, void *context)
{
	if (funcid == F_CLOCK_TIMESTAMP || funcid == F_TIMEOFDAY)
		return false;
	return func_volatile(funcid) == PROVOLATILE_VOLATILE;
}

static bool
expression_walker(Node *node, void *context)
{
	ExpressionCheck *check = (ExpressionCheck *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno == 0)
			sync_mapping_error(check->column, "the whole row is not allowed, it holds secrets",
							   "Name the columns of auth.users that the expression needs.");
		if (var->varattno < 0)
			sync_mapping_error(check->column, "system columns are not allowed",
							   "Name columns of auth.users, for example email.");
		if (strcmp(rt_fetch(var->varno, check->query->rtable)->enrname, IDENTITIES_NAME) == 0)
		{
			if (var->varattno > 1)
				check->identity[var->varattno - 2] = true;
		}
		else
			check->sources = bms_add_member(check->sources, var->varattno);
		return false;
	}
	if (IsA(node, SubLink))
		sync_mapping_error(check->column, "subqueries are not allowed",
						   "An expression reads one row of auth.users; call a function of yours for more.");
	if (IsA(node, NextValueExpr) ||
		check_functions_in_node(node, volatile_function, NULL))
		sync_mapping_error(check->column, "volatile functions are not allowed",
						   "Leave the column out of the mapping and give it a DEFAULT instead.");
	return expression_tree_walker(node, expression_walker, context);
}

/* One expression and nothing else, or text could leave its parentheses. */
static void
check_single_expression(const char *column, const char *expression)
{
	List	   *raw = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *stmt;
	ResTarget  *res;

	if (list_length(raw) == 1 && IsA(linitial_node(RawStmt, raw)->stmt, SelectStmt))
	{
		stmt = (SelectStmt *) linitial_node(RawStmt, raw)->stmt;
		if (list_length(stmt->targetList) == 1 && stmt->op == SETOP_NONE &&
			stmt->distinctClause == NIL && stmt->intoClause == NULL && stmt->fromClause == NIL &&
			stmt->whereClause == NULL && stmt->groupClause == NIL && stmt->havingClause == NULL &&
			stmt->windowClause == NIL && stmt->valuesLists == NIL && stmt->sortClause == NIL &&
			stmt->limitOffset == NULL && stmt->limitCount == NULL && stmt->lockingClause == NIL &&
			stmt->withClause == NULL)
		{
			res = linitial_node(ResTarget, stmt->targetList);
			if (res->name == NULL && res->indirection == NIL &&
				!(IsA(res->val, ColumnRef) &&
				  IsA(llast(((ColumnRef *) res->val)->fields), A_Star)))
				return;
		}
	}
	sync_mapping_error(column, "not a single expression",
					   "Write an SQL expression over one row of auth.users, for example raw_user_meta_data->>'full_name'.");
}

/*
 * Analyse one expression in the target's scope; analysing runs nothing. Fills
 * in the sources and the default policy.
 */
void
sync_compile_column(void *arg)
{
	Compile    *c = (Compile *) arg;
	MapColumn  *mc = c->mc;
	TupleDesc	desc = RelationGetDescr(c->rel);
	TupleDesc	auth = RelationGetDescr(c->auth);
	int			attnum = SPI_fnumber(desc, mc->name);
	Form_pg_attribute att;
	EphemeralNamedRelationData enr;
	ExpressionCheck check;
	Identities	identities;
	Target		with_identity;
	Scope		scope;
	Query	   *query;
	Tuplestorestate *store;
	bool		user_meta = false;
	int			source = -1;
	MemoryContext old;

	if (attnum == SPI_ERROR_NOATTRIBUTE || attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" does not exist", mc->name),
				 errhint("Name columns of the target; the key column is filled by itself.")));
	att = TupleDescAttr(desc, attnum - 1);
	if (att->attgenerated != '\0' || att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
		sync_mapping_error(mc->name, "PostgreSQL generates this column itself",
						   "Leave it out of the mapping.");

	memset(&check, 0, sizeof(check));
	store = tuplestore_begin_heap(false, false, work_mem);
	memset(&with_identity, 0, sizeof(with_identity));
	with_identity.uses_identity = true;
	sync_load_identities(&with_identity, c->auth, store, true, &identities);
	SPI_connect();
	scope_enter_target(&scope, c->owner, c->search_path);
	/* in the scope: settings decide how text is read */
	check_single_expression(mc->name, mc->expression);
	sync_register_source(&enr, c->auth, store);
	sync_register_identities(&identities);
	query = plan_analyse(psprintf("SELECT ((%s\n)::%s) AS c FROM %s AS users" IDENTITY_JOIN, mc->expression,
								  format_type_extended(att->atttypid, -1,
													   FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY),
								  SOURCE_NAME), 0, NULL);
	check.query = query;
	if (query->hasAggs || query->hasWindowFuncs)
		sync_mapping_error(mc->name, "aggregates and window functions are not allowed",
						   "An expression reads one row of auth.users.");
	if (query->hasTargetSRFs)
		sync_mapping_error(mc->name, "set-returning functions are not allowed",
						   "An expression gives one value for one row of auth.users.");
	check.column = mc->name;
	check.auth = auth;
	(void) expression_walker((Node *) linitial_node(TargetEntry, query->targetList)->expr, &check);

	old = MemoryContextSwitchTo(c->cxt);
	mc->nsources = 0;
	mc->sources = palloc(sizeof(char *) * (bms_num_members(check.sources) + 3));
	if (check.identity[0])
		mc->sources[mc->nsources++] = pstrdup("identity_provider");
	if (check.identity[1])
		mc->sources[mc->nsources++] = pstrdup("identity_provider_id");
	while ((source = bms_next_member(check.sources, source)) >= 0)
	{
		char	   *name = NameStr(TupleDescAttr(auth, source - 1)->attname);

		if (sync_is_secret_column(name))
			sync_mapping_error(mc->name, psprintf("auth.users.%s is a secret", name),
							   "Passwords, tokens and unconfirmed addresses never leave auth.users.");
		if (strcmp(name, "raw_user_meta_data") == 0)
			user_meta = true;
		mc->sources[mc->nsources++] = pstrdup(name);
	}
	MemoryContextSwitchTo(old);
	if (user_meta && looks_like_a_right(sync_snake_case(mc->name)) && !c->allow_user_written)
		sync_mapping_error(mc->name, "raw_user_meta_data is written by the users themselves",
						   "Take rights from raw_app_meta_data, or say allow_user_written => true.");
	if (!c->explicit_policy)
		mc->policy = mc->nsources == 0 ? POLICY_NEVER :
			user_meta ? POLICY_IF_NULL : POLICY_ALWAYS;
	scope_leave(&scope);
	SPI_finish();
	sync_end_identities(&identities);
	tuplestore_end(store);
}

void
sync_append_mapping_json(StringInfo buf, MapColumn *columns, int n)
{
	appendStringInfoChar(buf, '{');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoString(buf, ", ");
		escape_json(buf, columns[i].name);
		appendStringInfoString(buf, ": {\"value\": ");
		escape_json(buf, columns[i].expression);
		appendStringInfo(buf, ", \"update\": \"%s\"}", sync_policy_to_text(columns[i].policy));
	}
	appendStringInfoChar(buf, '}');
}
