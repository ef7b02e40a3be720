/*-------------------------------------------------------------------------
 *
 * token_test.c
 *	  Room token, as test/sql/token.sql looks at it.
 *
 * The room has no SQL of its own, and none of these is a function of the
 * extension: the test makes functions of them, which takes a superuser.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "token.h"

PG_FUNCTION_INFO_V1(token_test_mint);
PG_FUNCTION_INFO_V1(token_test_parse);
PG_FUNCTION_INFO_V1(token_test_matches);
PG_FUNCTION_INFO_V1(token_test_new_id);

/* (id uuid) → the text of a new token */
Datum
token_test_mint(PG_FUNCTION_ARGS)
{
	Token		token;

	token_mint(PG_GETARG_UUID_P(0), &token);
	PG_RETURN_TEXT_P(cstring_to_text(token_text(&token)));
}

/*
 * (bytea) → a byte for the answer, then the token as it was left: there is
 * something in it before, so that what is not cleared shows.
 */
Datum
token_test_parse(PG_FUNCTION_ARGS)
{
	bytea	   *in = PG_GETARG_BYTEA_PP(0);
	bytea	   *out = palloc(VARHDRSZ + 1 + sizeof(Token));
	Token		token;

	memset(&token, 0x7f, sizeof(token));
	SET_VARSIZE(out, VARHDRSZ + 1 + sizeof(Token));
	*VARDATA(out) = token_parse(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), &token);
	memcpy(VARDATA(out) + 1, &token, sizeof(token));
	PG_RETURN_BYTEA_P(out);
}

/* (token text, digest bytea of 32 bytes or NULL), for whatever token_parse() makes of the text */
Datum
token_test_matches(PG_FUNCTION_ARGS)
{
	text	   *in = PG_GETARG_TEXT_PP(0);
	bytea	   *digest = PG_ARGISNULL(1) ? NULL : PG_GETARG_BYTEA_PP(1);
	Token		token;

	if (digest != NULL && VARSIZE_ANY_EXHDR(digest) != PG_SHA256_DIGEST_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("digest must have %d bytes", PG_SHA256_DIGEST_LENGTH)));
	(void) token_parse(VARDATA_ANY(in), VARSIZE_ANY_EXHDR(in), &token);
	PG_RETURN_BOOL(token_matches(&token, digest == NULL ? NULL :
								 (const uint8 *) VARDATA_ANY(digest)));
}

/* () → a new id */
Datum
token_test_new_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	token_new_id(id);
	PG_RETURN_UUID_P(id);
}
