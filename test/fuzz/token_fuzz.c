/*-------------------------------------------------------------------------
 *
 * token_fuzz.c
 *	  Is a token what a token is, and nothing else?
 *
 * Whatever comes in is judged by token_parse() and by the plainest reading of
 * the format, and the two must agree in every byte.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "server.h"
#include "token.h"

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static const char alphabet[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* The format as it is described, one bit after the other. */
static bool
read_plainly(const uint8 *data, size_t size, uint8 bytes[sizeof(Token)])
{
	int			i,
				bit;

	memset(bytes, 0, sizeof(Token));
	if (size != 68 || memcmp(data, "inv_", 4) != 0)
		return false;
	for (i = 0; i < 64; i++)
		if (data[4 + i] == 0 || strchr(alphabet, data[4 + i]) == NULL)
			return false;
	for (i = 0; i < 64; i++)
		for (bit = 0; bit < 6; bit++)
			if ((strchr(alphabet, data[4 + i]) - alphabet) & (32 >> bit))
				bytes[(6 * i + bit) / 8] |= 128 >> ((6 * i + bit) % 8);
	return true;
}

static void
try_text(const uint8 *data, size_t size)
{
	uint8		expected[sizeof(Token)];
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	Token		token;
	char	   *text;
	int			bit;
	bool		is_token = read_plainly(data, size, expected);

	memset(&token, 0x7f, sizeof(token));
	require(token_parse((const char *) data, size, &token) == is_token);
	require(memcmp(&token, expected, sizeof(token)) == 0);

	text = token_text(&token);
	require(strlen(text) == TOKEN_TEXT_LEN);
	require(!is_token || memcmp(text, data, size) == 0);
	pfree(text);

	/* server.c's digest is the secret itself */
	token_digest(&token, digest);
	require(memcmp(digest, token.secret, sizeof(digest)) == 0);
	require(token_matches(&token, digest));
	require(!token_matches(&token, NULL));
	bit = size > 5 ? data[5] : (int) size;
	digest[bit / 8] ^= 1 << (bit % 8);
	require(!token_matches(&token, digest));

	token_wipe(&token, sizeof(token));
	memset(expected, 0, sizeof(expected));
	require(memcmp(&token, expected, sizeof(token)) == 0);
}

/* What fails in the server fails here, and leaves nothing. */
static void
try_failures(void)
{
	static Token token;
	static const Token zeros;
	static pg_uuid_t id;
	sigjmp_buf	caught;
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	server_error = &caught;
	server_random_works = false;
	if (sigsetjmp(caught, 0) == 0)
	{
		token_mint(&id, &token);
		require(!"minted without randomness");
	}
	require(memcmp(&token, &zeros, sizeof(token)) == 0);
	if (sigsetjmp(caught, 0) == 0)
	{
		token_new_id(&id);
		require(!"made an id without randomness");
	}
	server_random_works = true;
	server_hash_works = false;
	if (sigsetjmp(caught, 0) == 0)
	{
		token_digest(&token, digest);
		require(!"hashed without a hash");
	}
	if (sigsetjmp(caught, 0) == 0)
	{
		(void) token_matches(&token, NULL);
		require(!"matched without a hash");
	}
	server_hash_works = true;
	server_error = NULL;
}

static void
try_id(const char *begins_with)
{
	static pg_uuid_t last;
	static const char digits[] = "0123456789abcdef";
	pg_uuid_t	id;
	char		hex[2 * UUID_LEN + 1];
	int			i;

	token_new_id(&id);
	for (i = 0; i < 2 * UUID_LEN; i++)
		hex[i] = digits[(id.data[i / 2] >> (i % 2 ? 0 : 4)) & 15];
	hex[i] = '\0';
	require(strncmp(hex, begins_with, strlen(begins_with)) == 0);
	require((id.data[8] & 0xc0) == 0x80);
	require(memcmp(&last, &id, UUID_LEN) < 0);
	last = id;
}

/* Ids under a clock that runs, stands still, goes back and catches up. */
static void
try_ids(void)
{
	int			i;

	/* the time of the example in RFC 9562 */
	server_clock.tv_sec = 1645557742;
	server_clock.tv_usec = 0;
	try_id("017f22e279b07000");
	server_clock.tv_usec = 999;
	try_id("017f22e279b07ffb");
	for (i = 0; i < 4; i++)
		try_id("017f22e279b07ff");
	try_id("017f22e279b17000");
	server_clock.tv_sec -= 1000;
	for (i = 1; i < 0x1000; i++)
		try_id("017f22e279b17");
	try_id("017f22e279b27000");
	server_clock.tv_sec += 1000;
	server_clock.tv_usec = 3500;
	try_id("017f22e279b37800");
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	try_failures();
	try_ids();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	Token		token;
	Token		again;
	char	   *text;

	try_text(data, size);

	/* the input as a token's bytes, then as a change to the text of it */
	if (size >= sizeof(Token))
	{
		memcpy(&token, data, sizeof(Token));
		text = token_text(&token);
		require(token_parse(text, TOKEN_TEXT_LEN, &again));
		require(memcmp(&token, &again, sizeof(Token)) == 0);
		if (size >= sizeof(Token) + 2)
			text[data[sizeof(Token)] % TOKEN_TEXT_LEN] = (char) data[sizeof(Token) + 1];
		try_text((const uint8 *) text, TOKEN_TEXT_LEN);
		pfree(text);
	}
	return 0;
}
