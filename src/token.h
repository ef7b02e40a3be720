/*-------------------------------------------------------------------------
 *
 * token.h
 *	  The secret that proves an invitation: made, written, read, compared.
 *
 * Pure C: no SPI, no tables, no settings. Whoever holds a Token or its text
 * wipes it with token_wipe() when done, and never puts it into an error, a log
 * line, an event or a table; what is stored is token_digest().
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_TOKEN_H
#define INVITE_SYNC_TOKEN_H

#include "common/sha2.h"
#include "utils/uuid.h"

#define TOKEN_SECRET_LEN 32

/* "inv_" and 64 characters of base64url: 16 bytes of id and 32 of secret */
#define TOKEN_TEXT_LEN 68

typedef struct Token
{
	pg_uuid_t	id;				/* the invitation's; not secret */
	uint8		secret[TOKEN_SECRET_LEN];
} Token;

/* A new secret for this invitation; an ERROR if there is no randomness. */
extern void token_mint(const pg_uuid_t *id, Token *token);

/* Its text, palloc'd and with a zero byte after it. */
extern char *token_text(const Token *token);

/*
 * Read what somebody presents as a token. False for whatever is none, and then
 * the token is all zeros: go on with it all the same, to the lookup (the nil id
 * is nobody's) and to token_matches(), and what is malformed takes the same way
 * and time as what is wrong. For the right length no branch and no address
 * depends on what the characters are.
 */
extern bool token_parse(const char *s, size_t len, Token *token);

/* What is stored: the SHA-256 of the secret half. */
extern void token_digest(const Token *token, uint8 digest[PG_SHA256_DIGEST_LENGTH]);

/*
 * Is this the token whose digest was stored? In constant time. A digest of
 * NULL, for an invitation that does not exist, is as much work and never true.
 */
extern bool token_matches(const Token *token, const uint8 *digest);

/* Overwrite what was secret, in a way that the compiler keeps. */
extern void token_wipe(void *p, size_t len);

/* A new invitation's id: UUIDv7, ascending within the session. */
extern void token_new_id(pg_uuid_t *id);

#endif							/* INVITE_SYNC_TOKEN_H */
