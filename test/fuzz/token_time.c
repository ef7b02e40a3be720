/*-------------------------------------------------------------------------
 *
 * token_time.c
 *	  Does the way through room token depend on what is secret?
 *
 * Run under valgrind, to which every secret is declared undefined: it reports
 * each jump and each address that was computed from one. That is about the
 * machine code as the compiler made it, and needs no clock. With the argument
 * "leak" it does what must be reported.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <valgrind/memcheck.h>

#include "server.h"
#include "token.h"

#define secret(what, len) ((void) VALGRIND_MAKE_MEM_UNDEFINED(what, len))
#define known(what, len) ((void) VALGRIND_MAKE_MEM_DEFINED(what, len))

static void
try_text(const char *from, bool is_token)
{
	char		text[TOKEN_TEXT_LEN];
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	Token		token;
	char	   *again;
	bool		result;

	memcpy(text, from, sizeof(text));
	secret(text, sizeof(text));
	result = token_parse(text, sizeof(text), &token);
	known(&result, sizeof(result));
	require(result == is_token);

	token_digest(&token, digest);
	result = token_matches(&token, digest);
	known(&result, sizeof(result));
	require(result);
	digest[0] ^= 1;
	result = token_matches(&token, digest);
	known(&result, sizeof(result));
	require(!result);

	again = token_text(&token);
	known(again, TOKEN_TEXT_LEN);
	require(!is_token || memcmp(again, from, TOKEN_TEXT_LEN) == 0);
	pfree(again);

	secret(&token, sizeof(token));
	again = token_text(&token);
	pfree(again);
	token_wipe(&token, sizeof(token));
}

/* What room token avoids: a comparison that stops, and a table. */
static void
leak(void)
{
	static const char table[256] = {1};
	uint8		digest[2] = {1, 2};
	volatile char looked_up;

	secret(digest, sizeof(digest));
	if (digest[0] != 0)
		fputs("a jump\n", stdout);
	looked_up = table[digest[1]];
	(void) looked_up;
}

int
main(int argc, char **argv)
{
	char		text[TOKEN_TEXT_LEN + 1];
	int			i;

	require(RUNNING_ON_VALGRIND);
	if (argc > 1 && strcmp(argv[1], "leak") == 0)
	{
		leak();
		return 0;
	}
	memcpy(text, "inv_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", sizeof(text));
	try_text(text, true);
	for (i = 0; i < TOKEN_TEXT_LEN; i++)
	{
		text[i] ^= 0x80;
		try_text(text, false);
		text[i] ^= 0x80;
	}
	return 0;
}
