/*-------------------------------------------------------------------------
 *
 * invitation.c
 *	  Offers to join: what they are, who may read their tokens, and how they end.
 *
 * What an invitation gives never changes, so it is read without a lock to learn
 * what to lock: users, organizations, then the invitation itself. All that can
 * change is read again after that.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "event.h"
#include "invitation.h"
#include "membership.h"
#include "module.h"
#include "organization.h"
#include "plan.h"
#include "token.h"

#define EMAIL_BYTES_MAX		254
#define LOCAL_PART_BYTES_MAX	64

const InvitationQuota *invitation_quota = NULL;

/* ---------------------------------------------------------------------
 * Addresses
 * ---------------------------------------------------------------------
 */

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Labels of letters, digits and inner hyphens, at least two. */
static bool
is_domain(const char *s, size_t len)
{
	size_t		start = 0;
	int			labels = 0;

	for (size_t i = 0; i <= len; i++)
	{
		if (i < len && s[i] != '.')
		{
			if (!is_letter_or_digit(s[i]) && s[i] != '-')
				return false;
			continue;
		}
		if (i == start || i - start > 63 || s[start] == '-' || s[i - 1] == '-')
			return false;
		labels++;
		start = i + 1;
	}
	return labels >= 2;
}

/* No quoted local parts: what needs quoting in a header is nobody's address, but an attack on who builds headers. */
static bool
is_local_part(const char *s, size_t len)
{
	if (len == 0 || len > LOCAL_PART_BYTES_MAX || s[0] == '.' || s[len - 1] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c <= ' ' || c == 0x7f || strchr("\"(),:;<>[\\]@", c) != NULL)
			return false;
		if (c == '.' && i + 1 < len && s[i + 1] == '.')
			return false;
		if (c >= 0x80 && pg_database_encoding_max_length() == 1 && (isspace(c) || iscntrl(c)))
			return false;
		/* C1 controls in UTF-8, and the invisible ones that make two addresses look like one */
		if (c >= 0x80 && GetDatabaseEncoding() == PG_UTF8 && i + 1 < len)
		{
			unsigned char d = (unsigned char) s[i + 1];

			if (c == 0xc2 && d < 0xa1)
				return false;
			if (c == 0xe2 && i + 2 < len && (d == 0x80 || d == 0x81) &&
				((d == 0x80 && (unsigned char) s[i + 2] <= 0x8f) ||
				 (d == 0x80 && (unsigned char) s[i + 2] >= 0xa8 && (unsigned char) s[i + 2] <= 0xaf) ||
				 (d == 0x81 && (unsigned char) s[i + 2] >= 0x9f && (unsigned char) s[i + 2] <= 0xaf)))
				return false;
			if (c == 0xef && i + 2 < len && d == 0xbb && (unsigned char) s[i + 2] == 0xbf)
				return false;
			/* the spaces of Ogham and of East Asia: all that is white space to the table's constraint, too */
			if (i + 2 < len && (unsigned char) s[i + 2] == 0x80 && ((c == 0xe1 && d == 0x9a) || (c == 0xe3 && d == 0x80)))
				return false;
		}
	}
	return true;
}

char *
invitation_email(const char *s, size_t len)
{
	const char *at;
	char	   *result;

	while (len > 0 && is_space(s[0]))
	{
		s++;
		len--;
	}
	while (len > 0 && is_space(s[len - 1]))
		len--;
	if (len == 0 || len > EMAIL_BYTES_MAX)
		return NULL;
	at = memchr(s, '@', len);
	if (at == NULL || !is_local_part(s, at - s) || !is_domain(at + 1, s + len - at - 1))
		return NULL;
	result = pnstrdup(s, len);
	/* not tolower(): what a locale takes for one letter are two mailboxes */
	for (char *c = result; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	return result;
}

char *
invitation_email_argument(FunctionCallInfo fcinfo, int arg)
{
	char	   *email = NULL;

	if (!PG_ARGISNULL(arg))
	{
		text	   *value = PG_GETARG_TEXT_PP(arg);

		email = invitation_email(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	}
	if (email == NULL)
		refuse("email_malformed", NULL, "Pass one address such as name@example.com, of at most 254 bytes, with an ASCII domain.");
	return email;
}

char *
invitation_email_hint(const char *email)
{
	const char *at = strchr(email, '@');
	const char *dot = at ? strrchr(at, '.') : NULL;

	if (dot == NULL)
		return pstrdup("***");
	return psprintf("%.*s***@%c***%s", pg_mblen(email), email, at[1], dot);
}

char *
invitation_email_key(const char *email)
{
	bytea	   *digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(email)));
	char	   *result = palloc(2 * PG_SHA256_DIGEST_LENGTH + 1);

	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		snprintf(result + 2 * i, 3, "%02x", (uint8) VARDATA_ANY(digest)[i]);
	return result;
}

/* ---------------------------------------------------------------------
 * Reading
 * ---------------------------------------------------------------------
 */

#define INVITATION_COLUMNS \
	"SELECT i.id, i.kind, i.purpose, i.status, i.email, i.platform_role_id, i.data, i.inviter_id, i.secret_digest, " \
	"i.proves_email, i.max_uses, i.uses, i.allowed_domain, i.device_digest, i.device_until, i.alone, i.shadow, i.charged, " \
	"i.created_at, i.renewed_at, i.expires_at, " \
	"(SELECT pg_catalog.array_agg(g.organization_id ORDER BY g.organization_id) FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id), " \
	"(SELECT pg_catalog.array_agg(g.role_id ORDER BY g.organization_id) FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id) " \
	"FROM invite_sync.invitation AS i "

static SavedPlan read_plan = {
	.sql = INVITATION_COLUMNS "WHERE i.id = $1",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan lock_plan = {
	.sql = INVITATION_COLUMNS "WHERE i.id = $1 FOR NO KEY UPDATE OF i",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static SavedPlan legacy_plan = {
	.sql = INVITATION_COLUMNS "WHERE i.legacy_digest = $1",
	.nargs = 1,
	.argtypes = {BYTEAOID}
};

static InvitationStatus
status_of(const char *word)
{
	switch (word[0])
	{
		case 'p':
			return INVITATION_PENDING;
		case 'a':
			return INVITATION_ACCEPTED;
		case 'd':
			return INVITATION_DECLINED;
		case 'r':
			return INVITATION_REVOKED;
		default:
			return INVITATION_EXPIRED;
	}
}

/* What the statement before returned, in the memory of who called SPI_connect. */
static bool
take_row(Invitation *result, MemoryContext cxt)
{
	MemoryContext old;
	HeapTuple	row;
	TupleDesc	desc;
	Datum		value[23];
	bool		isnull[23];

	memset(result, 0, sizeof(*result));
	if (SPI_processed != 1)
		return false;
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	for (size_t i = 0; i < lengthof(value); i++)
		value[i] = SPI_getbinval(row, desc, i + 1, &isnull[i]);

	old = MemoryContextSwitchTo(cxt);
	result->id = *DatumGetUUIDP(value[0]);
	result->link = strcmp(TextDatumGetCString(value[1]), "link") == 0;
	result->migration = strcmp(TextDatumGetCString(value[2]), "migration") == 0;
	result->status = status_of(TextDatumGetCString(value[3]));
	result->stored_pending = result->status == INVITATION_PENDING;
	result->email = isnull[4] ? NULL : TextDatumGetCString(value[4]);
	result->has_platform_role = !isnull[5];
	if (!isnull[5])
		result->platform_role_id = *DatumGetUUIDP(value[5]);
	result->data = DatumGetJsonbPCopy(value[6]);
	result->has_inviter = !isnull[7];
	if (!isnull[7])
		result->inviter_id = *DatumGetUUIDP(value[7]);
	result->has_secret = !isnull[8];
	if (!isnull[8])
		memcpy(result->secret_digest, VARDATA_ANY(DatumGetByteaPP(value[8])), PG_SHA256_DIGEST_LENGTH);
	result->proves_email = DatumGetBool(value[9]);
	result->max_uses = isnull[10] ? 0 : DatumGetInt32(value[10]);
	result->uses = DatumGetInt32(value[11]);
	result->allowed_domain = isnull[12] ? NULL : TextDatumGetCString(value[12]);
	result->has_device = !isnull[13] && DatumGetTimestampTz(value[14]) > GetCurrentTimestamp();
	if (!isnull[13])
		memcpy(result->device_digest, VARDATA_ANY(DatumGetByteaPP(value[13])), PG_SHA256_DIGEST_LENGTH);
	result->alone = DatumGetBool(value[15]);
	result->shadow = DatumGetBool(value[16]);
	result->charged = DatumGetBool(value[17]);
	result->created_at = DatumGetTimestampTz(value[18]);
	result->renewed_at = DatumGetTimestampTz(value[19]);
	result->expires_at = DatumGetTimestampTz(value[20]);
	/* the clock, not the transaction's beginning: it may have waited for a lock since then */
	if (result->stored_pending && result->expires_at <= GetCurrentTimestamp())
		result->status = INVITATION_EXPIRED;
	if (!isnull[21])
	{
		Datum	   *organizations;
		Datum	   *roles;
		int			nroles;

		deconstruct_array(DatumGetArrayTypePCopy(value[21]), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &organizations, NULL, &result->ngrants);
		deconstruct_array(DatumGetArrayTypePCopy(value[22]), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
						  &roles, NULL, &nroles);
		result->organization_ids = palloc(sizeof(pg_uuid_t) * result->ngrants);
		result->role_ids = palloc(sizeof(pg_uuid_t) * result->ngrants);
		for (int i = 0; i < result->ngrants; i++)
		{
			result->organization_ids[i] = *DatumGetUUIDP(organizations[i]);
			result->role_ids[i] = *DatumGetUUIDP(roles[i]);
		}
	}
	MemoryContextSwitchTo(old);
	return true;
}

static bool
read_by(SavedPlan *plan, Datum key, bool read_only, Invitation *invitation)
{
	MemoryContext cxt = CurrentMemoryContext;
	Scope		scope;
	bool		found;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(plan, &key, NULL, read_only, 1);
	found = take_row(invitation, cxt);
	scope_leave(&scope);
	SPI_finish();
	return found;
}

bool
invitation_read(const pg_uuid_t *id, bool fresh, bool lock, Invitation *invitation)
{
	bool		found;
	int			guc_level;

	if (!lock)
		return read_by(&read_plan, UUIDPGetDatum(id), !fresh, invitation);
	guc_level = membership_bound_waits();
	found = read_by(&lock_plan, UUIDPGetDatum(id), false, invitation);
	AtEOXact_GUC(false, guc_level);
	return found;
}

/* One row whether or not there is one. */
static SavedPlan digest_plan = {
	.sql = "SELECT (SELECT i.secret_digest FROM invite_sync.invitation AS i WHERE i.id = $1)",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static bool
secret_matches(const Token *token, bool fresh)
{
	Datum		id = UUIDPGetDatum(&token->id);
	Datum		value;
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	bool		isnull;
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&digest_plan, &id, NULL, !fresh, 1);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		memcpy(digest, VARDATA_ANY(DatumGetByteaPP(value)), PG_SHA256_DIGEST_LENGTH);
	scope_leave(&scope);
	SPI_finish();
	return token_matches(token, isnull ? NULL : digest);
}

/*
 * Both ways of looking are gone whatever is wrong, and nothing more is read
 * before the secret is right, so that time does not tell a malformed token from
 * one of an invitation that there is.
 */
bool
invitation_find(text *token, bool fresh, Invitation *invitation, bool *proves)
{
	Token		parsed;
	Invitation	legacy;
	bool		matches;

	(void) token_parse(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token), &parsed);
	matches = secret_matches(&parsed, fresh) &&
		invitation_read(&parsed.id, fresh, false, invitation) && invitation->has_secret &&
		token_matches(&parsed, invitation->secret_digest);
	*proves = matches && invitation->proves_email;
	token_wipe(&parsed, sizeof(parsed));
	if (matches)
		return true;

	if (!read_by(&legacy_plan, DirectFunctionCall1(sha256_bytea, PointerGetDatum(token)), !fresh, &legacy))
		return false;
	*invitation = legacy;
	*proves = legacy.proves_email;
	return true;
}

void
invitation_require_pending(const Invitation *invitation)
{
	switch (invitation->status)
	{
		case INVITATION_PENDING:
			return;
		case INVITATION_ACCEPTED:
			refuse("invitation_used", NULL, "Ask for a new invitation.");
			break;
		case INVITATION_DECLINED:
			refuse("invitation_declined", NULL, "Ask for a new invitation.");
			break;
		case INVITATION_REVOKED:
			refuse("invitation_revoked", NULL, "Ask for a new invitation.");
			break;
		case INVITATION_EXPIRED:
			refuse("invitation_expired", NULL, "Ask for a new invitation.");
			break;
	}
}

/* ---------------------------------------------------------------------
 * Ending
 * ---------------------------------------------------------------------
 */

static SavedPlan close_plan = {
	.sql = "UPDATE invite_sync.invitation AS i SET status = $2, closed_at = pg_catalog.clock_timestamp(), closed_by = $3, "
	"charged = i.charged AND NOT $4, device_digest = NULL, device_until = NULL "
	"WHERE i.id = $1 AND i.status = 'pending'",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, UUIDOID, BOOLOID}
};

static SavedPlan close_grants_plan = {
	.sql = "UPDATE invite_sync.invitation_grant AS g SET open = false WHERE g.invitation_id = $1 AND g.open",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

void
invitation_close(Invitation *invitation, InvitationStatus status, const pg_uuid_t *closed_by)
{
	static const char *const words[] = {"pending", "accepted", "declined", "revoked", "expired"};
	/* a link that somebody has used was not for nothing */
	bool		refund = invitation->charged && invitation->uses == 0 &&
		(status == INVITATION_EXPIRED || status == INVITATION_DECLINED);
	Datum		values[4];
	char		nulls[4] = {' ', ' ', closed_by ? ' ' : 'n', ' '};

	Assert(status != INVITATION_PENDING);
	values[0] = UUIDPGetDatum(&invitation->id);
	values[1] = CStringGetTextDatum(words[status]);
	values[2] = closed_by ? UUIDPGetDatum(closed_by) : (Datum) 0;
	values[3] = BoolGetDatum(refund);
	membership_run(&close_plan, values, nulls);
	membership_run(&close_grants_plan, values, NULL);
	if (refund && invitation->has_inviter && invitation_quota != NULL)
		invitation_quota->give_back(&invitation->inviter_id, 1);
	invitation->status = status;
	invitation->stored_pending = false;
	if (refund)
		invitation->charged = false;
}

static SavedPlan permissions_plan = {
	.sql = "SELECT invite_sync.role_permissions(r.id) FROM invite_sync.role AS r WHERE r.id = $1 FOR SHARE OF r",
	.nargs = 1,
	.argtypes = {UUIDOID}
};

static bool
may_still_give(const Caller *inviter, const pg_uuid_t *organization_id, const pg_uuid_t *role_id)
{
	Datum		word = CStringGetTextDatum("invitations.create");
	ArrayType  *create = construct_array(&word, 1, TEXTOID, -1, false, TYPALIGN_INT);
	Authority	theirs;
	Scope		scope;
	Datum		value = UUIDPGetDatum(role_id);
	bool		isnull;
	bool		result = false;

	organization_authority_hook(&inviter->user_id, organization_id, true, &theirs);
	if (!theirs.exists || !theirs.member || !organization_covers(inviter, &theirs, create) ||
		(membership_is_role(role_id, MEMBERSHIP_OWNER) && !theirs.owner))
		return false;
	SPI_connect();
	scope_enter_own(&scope);
	plan_lookup(&permissions_plan, &value, NULL, false, 1);
	if (SPI_processed == 1)
		result = organization_covers(inviter, &theirs,
									 DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	scope_leave(&scope);
	SPI_finish();
	return result;
}

bool
invitation_still_allowed(const Invitation *invitation)
{
	AuthUserState state;
	Caller		inviter;

	if (!invitation->has_inviter)
		return true;
	organization_user_state(&invitation->inviter_id, &state);
	if (!state.exists || !state.usable || state.anonymous)
		return false;
	memset(&inviter, 0, sizeof(inviter));
	inviter.kind = CALLER_USER;
	inviter.has_user = true;
	inviter.user_id = invitation->inviter_id;
	for (int i = 0; i < invitation->ngrants; i++)
		if (!may_still_give(&inviter, &invitation->organization_ids[i], &invitation->role_ids[i]))
			return false;
	return true;
}

void
invitation_event(const Caller *caller, const char *kind, const char *action,
				 const Invitation *invitation, const pg_uuid_t *user_id)
{
	membership_event(caller, kind, action,
					 invitation->ngrants > 0 ? &invitation->organization_ids[0] : NULL,
					 user_id ? "user" : "invitation", user_id ? user_id : &invitation->id, NULL);
}

void
invitation_init(void)
{
	invitation_accept_init();
}
