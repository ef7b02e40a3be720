/*-------------------------------------------------------------------------
 *
 * server.c
 *	  As much of the server as the fuzzed files need, so that they run as a
 *	  program: a million times a second, each buffer under AddressSanitizer.
 *
 * SHA-256 is not computed here: the digest is what was hashed, so that a test
 * can tell which bytes went into it. That it is SHA-256 in the server is seen
 * by the regression test.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/random.h>

#include "common/cryptohash.h"
#include "common/sha2.h"

#include "server.h"

struct pg_cryptohash_ctx
{
	uint8		seen[PG_SHA256_DIGEST_LENGTH];
	size_t		len;
};

bool		server_random_works = true;
bool		server_hash_works = true;
struct timeval server_clock;
sigjmp_buf *server_error = NULL;
MemoryContext CurrentMemoryContext = NULL;

void
server_die(const char *what, const char *file, int line)
{
	char		number[12];
	char	   *p = number + sizeof(number) - 1;

	for (*p = '\0'; line > 0; line /= 10)
		*--p = (char) ('0' + line % 10);
	fputs(file, stderr);
	fputs(":", stderr);
	fputs(p, stderr);
	fputs(": not true: ", stderr);
	fputs(what, stderr);
	fputs("\n", stderr);
	abort();
}

void *
palloc(Size size)
{
	void	   *p = malloc(size);

	require(p != NULL);
	return p;
}

void
pfree(void *p)
{
	free(p);
}

bool
errstart(int elevel, const char *domain)
{
	require(elevel == ERROR);
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	if (server_error == NULL)
		server_die("no ERROR here", filename, lineno);
	siglongjmp(*server_error, 1);
}

int
gettimeofday(struct timeval *now, void *zone)
{
	*now = server_clock;
	return 0;
}

bool
pg_strong_random(void *buf, size_t len)
{
	return getrandom(buf, len, 0) == (ssize_t) len && server_random_works;
}

pg_cryptohash_ctx *
pg_cryptohash_create(pg_cryptohash_type type)
{
	pg_cryptohash_ctx *ctx = palloc(sizeof(pg_cryptohash_ctx));

	require(type == PG_SHA256);
	return ctx;
}

int
pg_cryptohash_init(pg_cryptohash_ctx *ctx)
{
	ctx->len = 0;
	return server_hash_works ? 0 : -1;
}

int
pg_cryptohash_update(pg_cryptohash_ctx *ctx, const uint8 *data, size_t len)
{
	require(ctx->len + len <= sizeof(ctx->seen));
	memcpy(ctx->seen + ctx->len, data, len);
	ctx->len += len;
	return 0;
}

int
pg_cryptohash_final(pg_cryptohash_ctx *ctx, uint8 *dest, size_t len)
{
	require(ctx->len == sizeof(ctx->seen) && len == sizeof(ctx->seen));
	memcpy(dest, ctx->seen, len);
	return 0;
}

void
pg_cryptohash_free(pg_cryptohash_ctx *ctx)
{
	free(ctx);
}
