/*-------------------------------------------------------------------------
 *
 * doctor_dynamic.c
 *	  EXECUTE: the text of a statement, where the body shows what it will be.
 *
 * Much of what is executed is fixed: a text, a format() of texts and of what
 * the trigger is on. That text is put together here as the body would, of
 * constants alone and without a call of anything: no function runs, the ones
 * that are known are done by hand. A value that is only known at run time may
 * stand where a literal does, for the statement is the same for all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "access/transam.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "plpgsql.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "doctor_body.h"

/* Longer texts are not put together: each may stand in the next one twice. */
#define TEXT_MAX	(1024 * 1024)

typedef struct Making
{
	Body	   *body;
	StringInfoData text;
	bool		filled;			/* a NULL stands for a literal that is not known */
} Making;

static bool put(Making *making, Node *node);

/* The same for a part that is put into something. */
static char *
part_of(Making *making, Node *node)
{
	Making		part;

	part.body = making->body;
	part.filled = false;
	initStringInfo(&part.text);
	return put(&part, node) && !part.filled ? part.text.data : NULL;
}

/* The trigger's own arguments. */
static char *
trigger_argument(Body *body, Node *index)
{
	Const	   *c = (Const *) index;
	Relation	rel;
	char	   *result = NULL;

	if (c == NULL || !IsA(c, Const) || c->constisnull || c->consttype != INT4OID)
		return NULL;
	rel = RelationIdGetRelation(body->call->relid);
	for (int i = 0; rel != NULL && rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];
		int			n = DatumGetInt32(c->constvalue);

		if (trigger->tgoid == body->call->trigger && n >= 0 && n < trigger->tgnargs)
			result = pstrdup(trigger->tgargs[n]);
	}
	if (rel != NULL)
		RelationClose(rel);
	return result;
}

/* TG_TABLE_NAME and its like; NULL: none of them, or more than one text. */
static char *
trigger_text(Body *body, PLpgSQL_var *var)
{
	int			type = body->call->trigger_type;

	if (!OidIsValid(body->call->trigger))
		return NULL;
	switch (var->promise)
	{
		case PLPGSQL_PROMISE_TG_NAME:
			return pstrdup(body->call->trigger_name);
		case PLPGSQL_PROMISE_TG_TABLE_NAME:
			return get_rel_name(body->call->relid);
		case PLPGSQL_PROMISE_TG_TABLE_SCHEMA:
			return get_namespace_name(get_rel_namespace(body->call->relid));
		case PLPGSQL_PROMISE_TG_WHEN:
			return pstrdup(TRIGGER_FOR_BEFORE(type) ? "BEFORE" : TRIGGER_FOR_INSTEAD(type) ? "INSTEAD OF" : "AFTER");
		case PLPGSQL_PROMISE_TG_LEVEL:
			return pstrdup(TRIGGER_FOR_ROW(type) ? "ROW" : "STATEMENT");
		case PLPGSQL_PROMISE_TG_OP:
			switch (type & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE))
			{
				case TRIGGER_TYPE_INSERT:
					return pstrdup("INSERT");
				case TRIGGER_TYPE_UPDATE:
					return pstrdup("UPDATE");
				case TRIGGER_TYPE_DELETE:
					return pstrdup("DELETE");
				default:
					return NULL;
			}
		default:
			return NULL;
	}
}

static bool
put_variable(Making *making, BodyRef *ref)
{
	Body	   *body = making->body;
	PLpgSQL_datum *datum;
	char	   *text;

	if (ref->value != NULL)
		return put(making, ref->value);
	if (ref->field != NULL || ref->whole || ref->dno < 0 || ref->dno >= body->nvars)
		return false;
	datum = ((PLpgSQL_function *) body->function)->datums[ref->dno];
	if (datum->dtype == PLPGSQL_DTYPE_PROMISE)
		text = trigger_text(body, (PLpgSQL_var *) datum);
	else
	{
		text = body->vars[ref->dno].text;
		making->filled = making->filled || (text != NULL && body->vars[ref->dno].filled);
	}
	if (text == NULL)
		return false;
	appendStringInfoString(&making->text, text);
	return true;
}

/* A literal; what is not known takes the place of one all the same. */
static void
put_literal(Making *making, Node *node)
{
	char	   *text = part_of(making, node);

	appendStringInfoString(&making->text, text ? quote_literal_cstr(text) : "NULL");
	making->filled = making->filled || text == NULL;
}

/*
 * The next part of a format: true with its letter and the argument it takes;
 * *literal is what stands before. False: the end, or (letter 0) more than we do.
 */
static bool
next_specifier(const char **format, int *argument, char *letter, StringInfo literal)
{
	const char *p = *format;

	resetStringInfo(literal);
	for (; *p; p++)
	{
		int			n = 0;
		const char *digits;

		if (*p != '%')
		{
			appendStringInfoChar(literal, *p);
			continue;
		}
		if (*++p == '%')
		{
			appendStringInfoChar(literal, '%');
			continue;
		}
		for (digits = p; isdigit((unsigned char) *digits) && n < 1000; digits++)
			n = n * 10 + (*digits - '0');
		if (digits > p && *digits == '$')
		{
			*argument = n;
			p = digits + 1;
		}
		else
			(*argument)++;
		*letter = *p == 's' || *p == 'I' || *p == 'L' ? *p : '\0';
		*format = *p ? p + 1 : p;
		return *letter != '\0';
	}
	*letter = 'e';
	*format = p;
	return false;
}

static bool
put_format(Making *making, List *args)
{
	char	   *text = part_of(making, (Node *) linitial(args));
	const char *format = text;
	StringInfoData literal;
	int			argument = 0;
	char		letter;

	if (text == NULL)
		return false;
	initStringInfo(&literal);
	while (next_specifier(&format, &argument, &letter, &literal))
	{
		Node	   *arg = argument >= 1 && argument < list_length(args) ? (Node *) list_nth(args, argument) : NULL;

		appendBinaryStringInfo(&making->text, literal.data, literal.len);
		if (arg == NULL)
			return false;
		if (letter == 'L')
			put_literal(making, arg);
		else if (letter == 's')
		{
			if (!put(making, arg))
				return false;
		}
		else
		{
			char	   *name = part_of(making, arg);

			if (name == NULL)
				return false;
			appendStringInfoString(&making->text, quote_identifier(name));
		}
	}
	appendBinaryStringInfo(&making->text, literal.data, literal.len);
	return letter == 'e';
}

static bool
put_call(Making *making, Oid funcid, List *args)
{
	char	   *text;
	ListCell   *lc;

	switch (funcid)
	{
		case F_TEXTCAT:
		case F_TEXTANYCAT:
		case F_ANYTEXTCAT:
		case F_CONCAT:
			foreach(lc, args)
				if (!put(making, (Node *) lfirst(lc)))
					return false;
			return true;
		case F_TEXT_NAME:
		case F_NAME_TEXT:
		case F_TEXT_BPCHAR:
			return put(making, (Node *) linitial(args));
		case F_QUOTE_IDENT:
		case F_LOWER_TEXT:
		case F_UPPER_TEXT:
			text = part_of(making, (Node *) linitial(args));
			if (text == NULL)
				return false;
			appendStringInfoString(&making->text, funcid == F_QUOTE_IDENT ? quote_identifier(text) :
								   funcid == F_LOWER_TEXT ? asc_tolower(text, strlen(text)) : asc_toupper(text, strlen(text)));
			return true;
		case F_QUOTE_LITERAL_TEXT:
		case F_QUOTE_LITERAL_ANYELEMENT:
		case F_QUOTE_NULLABLE_TEXT:
		case F_QUOTE_NULLABLE_ANYELEMENT:
			put_literal(making, (Node *) linitial(args));
			return true;
		case F_FORMAT_TEXT:
		case F_FORMAT_TEXT_ANY:
			return put_format(making, args);
		default:
			return false;
	}
}

static bool
put(Making *making, Node *node)
{
	BodyRef    *ref;

	check_stack_depth();
	node = body_strip(node);
	if (node == NULL || making->text.len > TEXT_MAX)
		return false;
	ref = body_ref(making->body, node);
	if (ref != NULL)
		return put_variable(making, ref);
	switch (nodeTag(node))
	{
		case T_Const:
			{
				Const	   *c = (Const *) node;
				Oid			output;
				bool		varlena;

				/* the output functions of the server's own types do nothing else */
				if (c->constisnull || c->consttype >= FirstNormalObjectId)
					return false;
				getTypeOutputInfo(c->consttype, &output, &varlena);
				appendStringInfoString(&making->text, OidOutputFunctionCall(output, c->constvalue));
				return true;
			}
		case T_OpExpr:
			return put_call(making, get_opcode(((OpExpr *) node)->opno), ((OpExpr *) node)->args);
		case T_FuncExpr:
			return !((FuncExpr *) node)->funcvariadic && put_call(making, ((FuncExpr *) node)->funcid, ((FuncExpr *) node)->args);
		case T_CoerceViaIO:
			return ((CoerceViaIO *) node)->resulttype == TEXTOID && put(making, (Node *) ((CoerceViaIO *) node)->arg);
		case T_SubscriptingRef:
			{
				SubscriptingRef *s = (SubscriptingRef *) node;
				PLpgSQL_datum *datum;
				char	   *text;

				ref = body_ref(making->body, (Node *) s->refexpr);
				if (ref == NULL || ref->dno < 0 || ref->field != NULL || ref->dno >= making->body->nvars ||
					list_length(s->refupperindexpr) != 1 || s->reflowerindexpr != NIL)
					return false;
				datum = ((PLpgSQL_function *) making->body->function)->datums[ref->dno];
				if (datum->dtype != PLPGSQL_DTYPE_PROMISE || ((PLpgSQL_var *) datum)->promise != PLPGSQL_PROMISE_TG_ARGV)
					return false;
				text = trigger_argument(making->body, (Node *) linitial(s->refupperindexpr));
				if (text != NULL)
					appendStringInfoString(&making->text, text);
				return text != NULL;
			}
		default:
			return false;
	}
}

/*
 * The text that the expression is whenever it is evaluated, or NULL. filled: in
 * it a NULL stands where there will be a literal.
 */
char *
body_text(Body *body, Node *node, bool *filled)
{
	Making		making;

	making.body = body;
	making.filled = false;
	initStringInfo(&making.text);
	if (!put(&making, node))
		return NULL;
	*filled = making.filled;
	return making.text.data;
}

static bool
unquoted_walker(Node *node, void *context)
{
	Body	   *body = (Body *) context;
	Oid			funcid = InvalidOid;
	BodyRef    *ref;

	if (node == NULL)
		return false;
	if (body_metadata_field(body, node) != NULL)
		return true;
	ref = body_ref(body, node);
	if (ref != NULL)
		return ref->field == NULL && !ref->whole && ref->dno >= 0 && ref->dno < body->nvars &&
			body->vars[ref->dno].value != NULL && body->vars[ref->dno].value != node &&
			body_metadata_field(body, body->vars[ref->dno].value) != NULL;
	if (IsA(node, FuncExpr))
		funcid = ((FuncExpr *) node)->funcid;
	switch (funcid)
	{
		case F_QUOTE_IDENT:
		case F_QUOTE_LITERAL_TEXT:
		case F_QUOTE_LITERAL_ANYELEMENT:
		case F_QUOTE_NULLABLE_TEXT:
		case F_QUOTE_NULLABLE_ANYELEMENT:
			return false;
		case F_FORMAT_TEXT_ANY:
			{
				Making		making;
				List	   *args = ((FuncExpr *) node)->args;
				const char *format;
				StringInfoData literal;
				int			argument = 0;
				char		letter;

				making.body = body;
				format = part_of(&making, (Node *) linitial(args));
				initStringInfo(&literal);
				while (format != NULL && next_specifier(&format, &argument, &letter, &literal))
					if (letter == 's' && argument >= 1 && argument < list_length(args) &&
						unquoted_walker((Node *) list_nth(args, argument), context))
						return true;
				return false;
			}
		default:
			break;
	}
	/* of what is not put in as it is, the user's text is no part */
	if (!IsA(node, OpExpr) && !IsA(node, FuncExpr) && !IsA(node, CoalesceExpr) && !IsA(node, RelabelType) &&
		!IsA(node, CoerceViaIO))
		return false;
	return expression_tree_walker(node, unquoted_walker, context);
}

/* Is a text of the user's put into the statement as it is? */
bool
body_unquoted(Body *body, Node *node)
{
	return unquoted_walker(node, body);
}
