/*-------------------------------------------------------------------------
 *
 * token.c
 *	  The secret that proves an invitation: made, written, read, compared.
 *
 * The text has one form only. 48 bytes fill 64 characters of base64url exactly,
 * so there is no padding and no spare bit in which two texts of the same token
 * could differ, and nothing is trimmed, folded or skipped on the way in.
 *
 * PostgreSQL's base64 is of no use here: it knows the other alphabet, skips
 * white space, and looks secrets up in a table, whose cache lines tell which.
 *
 * test/fuzz compiles this file outside of the server, so it asks little of it:
 * palloc, ereport, randomness and SHA-256.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/time.h>

#include "common/cryptohash.h"

#include "token.h"

#define TOKEN_PREFIX "inv_"
#define TOKEN_PREFIX_LEN 4
#define TOKEN_BYTES (UUID_LEN + TOKEN_SECRET_LEN)

StaticAssertDecl(sizeof(Token) == TOKEN_BYTES, "id and secret lie side by side");
StaticAssertDecl(TOKEN_TEXT_LEN == TOKEN_PREFIX_LEN + TOKEN_BYTES / 3 * 4 &&
				 TOKEN_BYTES % 3 == 0, "no padding and no spare bits");

/*
 * All ones if lo <= c <= hi, else zero, for values up to a byte's: both
 * differences wrap around just then. volatile, because compilers know a
 * comparison under any disguise and make jumps of what hangs on it.
 */
static inline uint32
mask_range(uint32 c, uint32 lo, uint32 hi)
{
	volatile uint32 mask = 0 - (((lo - 1 - c) & (c - hi - 1)) >> 31);

	return mask;
}

/* One character of the alphabet; the bits of *bad are set if it is none. */
static inline uint32
decode_char(uint32 c, uint32 *bad)
{
	uint32		upper = mask_range(c, 'A', 'Z');
	uint32		lower = mask_range(c, 'a', 'z');
	uint32		digit = mask_range(c, '0', '9');
	uint32		minus = mask_range(c, '-', '-');
	uint32		under = mask_range(c, '_', '_');

	*bad |= ~(upper | lower | digit | minus | under);
	return (upper & (c - 'A')) | (lower & (c - 'a' + 26)) |
		(digit & (c - '0' + 52)) | (minus & 62) | (under & 63);
}

/* The other way; v has six bits. */
static inline char
encode_char(uint32 v)
{
	return (char) ((mask_range(v, 0, 25) & (v + 'A')) |
				   (mask_range(v, 26, 51) & (v - 26 + 'a')) |
				   (mask_range(v, 52, 61) & (v - 52 + '0')) |
				   (mask_range(v, 62, 62) & '-') |
				   (mask_range(v, 63, 63) & '_'));
}

/* Without good randomness there is no token: nothing weaker takes its place. */
static void
random_bytes(void *p, size_t len)
{
	if (!pg_strong_random(p, len))
	{
		token_wipe(p, len);
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	}
}

void
token_mint(const pg_uuid_t *id, Token *token)
{
	token->id = *id;
	random_bytes(token->secret, TOKEN_SECRET_LEN);
}

char *
token_text(const Token *token)
{
	const uint8 *bytes = (const uint8 *) token;
	char	   *text = palloc(TOKEN_TEXT_LEN + 1);
	char	   *out = text + TOKEN_PREFIX_LEN;
	int			i;

	memcpy(text, TOKEN_PREFIX, TOKEN_PREFIX_LEN);
	for (i = 0; i < TOKEN_BYTES; i += 3)
	{
		uint32		bits = ((uint32) bytes[i] << 16) |
			((uint32) bytes[i + 1] << 8) | bytes[i + 2];

		*out++ = encode_char(bits >> 18);
		*out++ = encode_char((bits >> 12) & 63);
		*out++ = encode_char((bits >> 6) & 63);
		*out++ = encode_char(bits & 63);
	}
	*out = '\0';
	return text;
}

/*
 * The length is no secret, and every token has the same: other lengths go no
 * further. From there on all characters are read and nothing is decided until
 * the end, where a mask clears what was read and no jump chooses to.
 */
bool
token_parse(const char *s, size_t len, Token *token)
{
	const uint8 *in = (const uint8 *) s;
	uint8	   *bytes = (uint8 *) token;
	uint32		bad = 0;
	volatile uint32 keep;
	int			i;

	if (len != TOKEN_TEXT_LEN)
	{
		token_wipe(token, sizeof(Token));
		return false;
	}
	for (i = 0; i < TOKEN_PREFIX_LEN; i++)
		bad |= (uint32) in[i] ^ (uint8) TOKEN_PREFIX[i];
	in += TOKEN_PREFIX_LEN;
	for (i = 0; i < TOKEN_BYTES; i += 3, in += 4)
	{
		uint32		bits = decode_char(in[0], &bad) << 18;

		bits |= decode_char(in[1], &bad) << 12;
		bits |= decode_char(in[2], &bad) << 6;
		bits |= decode_char(in[3], &bad);
		bytes[i] = (uint8) (bits >> 16);
		bytes[i + 1] = (uint8) (bits >> 8);
		bytes[i + 2] = (uint8) bits;
	}

	/* each of the above sets bits among the low eight, if any */
	keep = ((bad & 0xff) - 1) >> 8;
	for (i = 0; i < TOKEN_BYTES; i++)
		bytes[i] &= (uint8) keep;
	return (bool) (keep & 1);
}

/* The server's own SHA-256, which is OpenSSL's where it was built with that. */
void
token_digest(const Token *token, uint8 digest[PG_SHA256_DIGEST_LENGTH])
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (ctx == NULL ||
		pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, token->secret, TOKEN_SECRET_LEN) < 0 ||
		pg_cryptohash_final(ctx, digest, PG_SHA256_DIGEST_LENGTH) < 0)
	{
		pg_cryptohash_free(ctx);
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 hash")));
	}
	pg_cryptohash_free(ctx);
}

/*
 * A loop of our own: memcmp stops where the first difference is, and the
 * server's timingsafe_bcmp came with minor releases that not everybody has.
 * volatile, so that the compiler reads every byte too.
 */
bool
token_matches(const Token *token, const uint8 *digest)
{
	static const uint8 none[PG_SHA256_DIGEST_LENGTH] = {0};
	uint8		computed[PG_SHA256_DIGEST_LENGTH];
	const volatile uint8 *a = computed;
	const volatile uint8 *b = digest != NULL ? digest : none;
	uint32		differ = digest == NULL;	/* below 256 */
	int			i;

	token_digest(token, computed);
	for (i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		differ |= (uint32) (a[i] ^ b[i]);
	return (bool) (((differ - 1) >> 8) & 1);
}

void
token_wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}

/*
 * Milliseconds and twelve bits of their fraction, so that the rows made
 * together lie together in the index; PostgreSQL makes them only from 18. A
 * clock that stands still or goes back is counted on from.
 */
void
token_new_id(pg_uuid_t *id)
{
	static uint64 last = 0;
	struct timeval now;
	uint64		ticks;
	int			i;

	gettimeofday(&now, NULL);
	ticks = ((uint64) now.tv_sec * 1000 + now.tv_usec / 1000) * 4096 +
		(uint64) (now.tv_usec % 1000) * 4096 / 1000;
	if (ticks <= last)
		ticks = last + 1;
	last = ticks;

	random_bytes(id->data, UUID_LEN);
	for (i = 0; i < 6; i++)
		id->data[i] = (uint8) (ticks >> (52 - 8 * i));
	id->data[6] = (uint8) (0x70 | ((ticks >> 8) & 0x0f));
	id->data[7] = (uint8) ticks;
	id->data[8] = (uint8) (0x80 | (id->data[8] & 0x3f));
}
