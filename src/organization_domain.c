/*-------------------------------------------------------------------------
 *
 * organization_domain.c
 *	  The email domains that organizations claim.
 *
 * A claim is nobody's until a TXT record proves it: any number of
 * organizations may claim a domain, one of them has it verified. The lookup in
 * the DNS is a service's, which hands over the records.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "caller.h"
#include "organization.h"
#include "plan.h"

#define DOMAIN_MAX			253
#define LABEL_MAX			63
#define CHALLENGE_BYTES		16
#define RECORD_LABEL		"_invite-sync"
#define RECORD_PREFIX		"invite-sync-verification="
#define TXT_RECORDS_MAX		1000

PG_FUNCTION_INFO_V1(organization_add_domain);
PG_FUNCTION_INFO_V1(organization_verify_domain);
PG_FUNCTION_INFO_V1(organization_set_enrollment);
PG_FUNCTION_INFO_V1(organization_remove_domain);
PG_FUNCTION_INFO_V1(organization_list_domains);

/* ---------------------------------------------------------------------
 * Domains that are nobody's
 * ---------------------------------------------------------------------
 */

/*
 * Countries under which names are registered one level down: the country, then
 * the labels that are no owner's. Not a copy of the public suffix list, which
 * is long and changes weekly: what matters here is that nobody claims everybody
 * below co.uk, and a TXT record cannot be put there anyway.
 */
static const char *const registries[] = {
	"ac com edu gov mil net org",
	"ae ac co gov mil net org sch",
	"af com edu gov net org",
	"ag co com net nom org",
	"al com edu gov mil net org",
	"ao co ed gv it og pb",
	"ar com coop edu gob gov int mil net org tur",
	"at ac co gv or",
	"au asn com edu gov id net org",
	"az biz co com edu gov info int mil name net org pro",
	"ba com edu gov mil net org",
	"bb biz co com edu gov info net org store tv",
	"bd ac com edu gov info mil net org",
	"be ac",
	"bg a b c",
	"bh com edu gov net org",
	"bm com edu gov net org",
	"bn com edu gov net org",
	"bo com edu gob int mil net org",
	"br adm adv agr art blog com dev eco edu emp eng far fot gov ind inf jus leg med mil mus net nom not odo org psi srv tur tv",
	"bw co org",
	"by com gov mil of",
	"bz com edu gov net org",
	"ci ac co com ed edu go gouv int net or org",
	"ck biz co edu gen gov info net org",
	"cm co com gov net",
	"cn ac com edu gov mil net org",
	"co com edu gov mil net nom org",
	"cr ac co ed fi go or sa",
	"cu com edu gob inf net org",
	"cw com edu net org",
	"cy ac biz com ekloges gov ltd mil net org press pro tm",
	"do art com edu gob gov mil net org sld web",
	"dz art asso com edu gov net org pol soc tm",
	"ec com edu fin gob gov info k12 med mil net org pro",
	"ee aip com edu fie gov lib med org pri riik",
	"eg ac com edu eun gov mil name net org sci tv",
	"es com edu gob nom org",
	"et biz com edu gov info name net org",
	"fj ac biz com gov info mil name net org pro",
	"fr asso com gouv nom prd tm",
	"gg co net org",
	"gh com edu gov mil org",
	"gi com edu gov ltd mod org",
	"gp asso com edu mobi net org",
	"gr com edu gov net org",
	"gt com edu gob ind mil net org",
	"hk com edu gov idv net org",
	"hn com edu gob mil net org",
	"hr com from iz name",
	"hu 2000 agrar bolt casino city co erotica film forum games hotel info ingatlan jogasz konyvelo lakas media news org priv reklam sex shop sport suli szex tm tozsde utazas video",
	"id ac biz co desa go mil my net or ponpes sch web",
	"ie gov",
	"il ac co gov idf k12 muni net org",
	"im ac co com net org tt tv",
	"in ac co edu firm gen gov ind mil net nic org res",
	"iq com edu gov mil net org",
	"ir ac co gov id net org sch",
	"it edu gov",
	"je co net org",
	"jm com edu gov mil net org",
	"jo com edu gov mil name net org sch",
	"jp ac ad co ed go gr lg ne or",
	"ke ac co go info me mobi ne or sc",
	"kh com edu gov mil net org per",
	"kr ac co es go hs kg mil ms ne or pe re sc",
	"kw com edu emb gov ind net org",
	"ky com edu net org",
	"kz com edu gov mil net org",
	"lb com edu gov net org",
	"lk ac assn com edu gov grp hotel int ltd net ngo org sch soc web",
	"ls ac biz co edu gov info net org sc",
	"lv asn com conf edu gov id mil net org",
	"ly com edu gov id med net org plc sch",
	"ma ac co gov net org press",
	"mg co com edu gov mil nom org prd tm",
	"mk com edu gov inf name net org",
	"mm com edu gov net org",
	"mo com edu gov net org",
	"mt com edu net org",
	"mu ac co com gov net or org",
	"mw ac biz co com coop edu gov int net org",
	"mx com edu gob net org",
	"my biz com edu gov mil name net org",
	"mz ac adv co edu gov mil net org",
	"na ca cc co com in info mobi name or org pro school tv us ws",
	"ng com edu gov i mil mobi name net org sch",
	"ni ac biz co com edu gob in info int mil net nom org web",
	"np com edu gov mil net org",
	"nz ac co cri geek gen govt health iwi kiwi maori mil net org parliament school",
	"om co com edu gov med museum net org pro",
	"pa abo ac com edu gob ing med net nom org sld",
	"pe com edu gob mil net nom org",
	"pg ac com gov mil net org",
	"ph com edu gov i mil net ngo org",
	"pk biz com edu fam gob gok gon gop gos gov info net org web",
	"pl agro aid atm auto biz com edu gmina gov gsm info mail media miasta mil net nieruchomosci nom org pc powiat priv realestate rel sex shop sklep sos szkola targi tm tourism travel turystyka",
	"pr ac biz com edu est gov info isla name net org pro prof",
	"pt com edu gov int net nome org publ",
	"py com coop edu gov mil net org",
	"qa com edu gov mil name net org sch",
	"ro arts com firm info nom nt org rec store tm www",
	"rs ac co edu gov in org",
	"rw ac co coop gov mil net org",
	"sa com edu gov med net org pub sch",
	"sb com edu gov net org",
	"sc com edu gov net org",
	"sd com edu gov info med net org tv",
	"sg com edu gov net org per",
	"sl com edu gov net org",
	"sn art com edu gouv org perso univ",
	"sv com edu gob org red",
	"sy com edu gov mil net org",
	"sz ac co org",
	"th ac co go in mi net or",
	"tj ac biz co com edu go gov int mil name net nic org test web",
	"tn com ens fin gov ind info intl mincom nat net org perso tourism",
	"tr av bbs bel biz com dr edu gen gov info k12 kep mil name net org pol tel tsk tv web",
	"tt biz co com edu gov info int mobi name net org pro",
	"tw club com ebiz edu game gov idv mil net org",
	"tz ac co go hotel info me mil mobi ne or sc tv",
	"ua com edu gov in net org",
	"ug ac co com go ne or org sc",
	"uk ac co gov ltd me net nhs org plc police sch",
	"us dni fed isa kids nsn",
	"uy com edu gub mil net org",
	"uz co com net org",
	"vc com edu gov mil net org",
	"ve arts bib co com e12 edu firm gob gov info int mil net nom org rar rec store tec web",
	"vi co com k12 net org",
	"vn ac biz com edu gov health info int name net org pro",
	"ye com edu gov mil net org",
	"za ac agric alt co edu gov grondar law mil net ngo nic nis nom org school tm web",
	"zm ac biz co com edu gov info mil net org sch",
	"zw ac co gov mil org",
};

/* Platforms that give their customers names below these. */
static const char *const platforms[] = {
	"000webhostapp.com", "amplifyapp.com", "appspot.com", "azurestaticapps.net", "azurewebsites.net", "bitbucket.io",
	"blogspot.com", "br.com", "bubbleapps.io", "cloudapp.net", "cloudfront.net", "cn.com", "co.com", "com.de", "cyclic.app",
	"de.com", "deno.dev", "duckdns.org", "dyndns.org", "eu.com", "eu.org", "firebaseapp.com", "fly.dev", "framer.app",
	"gb.net", "github.io", "gitlab.io", "glitch.me", "gr.com", "herokuapp.com", "hu.net", "hu.com", "in.net", "jp.net",
	"jpn.com", "kr.com", "lovable.app", "myshopify.com", "netlify.app", "ngrok-free.app", "ngrok.app", "ngrok.io",
	"no-ip.org", "no.com", "notion.site", "onrender.com", "pages.dev", "pythonanywhere.com", "qc.com", "r2.dev",
	"railway.app", "readthedocs.io", "render.com", "repl.co", "replit.app", "replit.dev", "ru.com", "run.app", "sa.com",
	"se.com", "se.net", "shopifypreview.com", "squarespace.com", "streamlit.app", "supabase.co", "supabase.in",
	"supabase.net", "surge.sh", "translate.goog", "trycloudflare.com", "tumblr.com", "uk.com", "uk.net", "up.railway.app",
	"us.com", "us.org", "vercel.app", "vercel.dev", "web.app", "webflow.io", "wixsite.com", "wordpress.com",
	"workers.dev", "za.com", "zeabur.app",
};

/* Providers whose users have nothing in common: names that are theirs under every public suffix, */
static const char *const freemail_names[] = {
	"aol", "fastmail", "freemail", "gmail", "gmx", "googlemail", "guerrillamail", "hotmail", "hushmail", "icloud",
	"mailfence", "mailinator", "msn", "outlook", "protonmail", "rediffmail", "rocketmail", "tempmail", "tutanota",
	"windowslive", "yahoo", "yandex", "ymail", "yopmail", "zohomail",
};

/* and those that are theirs under this one, and may be anybody's under another. */
static const char *const freemail_domains[] = {
	"10minutemail.com", "126.com", "139.com", "163.com", "188.com", "21cn.com", "aim.com", "alice.it", "aliyun.com",
	"arcor.de", "att.net", "bellsouth.net", "bigpond.com", "bk.ru", "bluewin.ch", "blueyonder.co.uk", "bol.com.br",
	"btinternet.com", "centrum.cz", "charter.net", "cock.li", "comcast.net", "cox.net", "daum.net", "disroot.org",
	"duck.com", "earthlink.net", "email.com", "email.cz", "email.de", "email.it", "excite.com", "foxmail.com",
	"free.fr", "freenet.de", "frontier.com", "hanmail.net", "hey.com", "hispeed.ch", "home.nl", "inbox.com", "inbox.lv",
	"inbox.ru", "interia.pl", "juno.com", "kakao.com", "keemail.me", "kpnmail.nl", "laposte.net", "libero.it",
	"list.ru", "live.be", "live.ca", "live.cl", "live.cn", "live.co.uk", "live.co.za", "live.com", "live.com.ar",
	"live.com.au", "live.com.mx", "live.com.pt", "live.de", "live.dk", "live.fi", "live.fr", "live.ie", "live.in",
	"live.it", "live.jp", "live.nl", "live.no", "live.ru", "live.se", "lycos.com", "mac.com", "mail.bg", "mail.com",
	"mail.de", "mail.ee", "mail.ru", "mailbox.org", "mailo.com", "me.com", "mindspring.com", "naver.com",
	"netscape.net", "netzero.net", "ntlworld.com", "o2.pl", "onet.eu", "onet.pl", "online.no", "optonline.net",
	"optusnet.com.au", "orange.fr", "pm.me", "pobox.com", "posteo.de", "posteo.net", "privaterelay.appleid.com",
	"proton.me", "qq.com", "rambler.ru", "riseup.net", "rogers.com", "runbox.com", "sapo.pt", "sbcglobal.net",
	"seznam.cz", "sfr.fr", "sharklasers.com", "shaw.ca", "sina.cn", "sina.com", "skynet.be", "sohu.com",
	"swissmail.org", "sympatico.ca", "t-online.de", "talktalk.net", "telenet.be", "telus.net", "terra.com.br",
	"terra.es", "tin.it", "tiscali.co.uk", "tiscali.it", "trashmail.com", "tuta.com", "tuta.io", "tutamail.com",
	"ukr.net", "uol.com.br", "usa.com", "users.noreply.github.com", "verizon.net", "virgilio.it", "virginmedia.com",
	"vodafone.it", "vp.pl", "wanadoo.fr", "web.de", "wp.eu", "wp.pl", "xs4all.nl", "xtra.co.nz", "ya.ru", "yeah.net",
	"ziggo.nl", "zoho.com", "zoho.eu", "zoho.in",
};

static bool
is_one_of(const char *word, const char *const *words, size_t nwords)
{
	for (size_t i = 0; i < nwords; i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return false;
}

/* Is "label" one of the words of the line of this country? */
static bool
is_registry(const char *label, const char *country)
{
	size_t		length = strlen(label);

	if (strlen(country) != 2)
		return false;
	for (size_t i = 0; i < lengthof(registries); i++)
	{
		const char *word = registries[i];

		if (strncmp(word, country, 2) != 0)
			continue;
		while ((word = strchr(word, ' ')) != NULL)
		{
			word++;
			if (strncmp(word, label, length) == 0 && (word[length] == ' ' || word[length] == '\0'))
				return true;
		}
	}
	return false;
}

/* Does everybody register names right below this? */
static bool
is_public_suffix(const char *domain)
{
	const char *dot = strchr(domain, '.');

	if (dot == NULL)
		return true;
	if (is_one_of(domain, platforms, lengthof(platforms)))
		return true;
	return strchr(dot + 1, '.') == NULL && is_registry(pnstrdup(domain, dot - domain), dot + 1);
}

static bool
is_freemail(const char *domain)
{
	const char *dot = strchr(domain, '.');

	return is_one_of(domain, freemail_domains, lengthof(freemail_domains)) ||
		(is_public_suffix(dot + 1) &&
		 is_one_of(pnstrdup(domain, dot - domain), freemail_names, lengthof(freemail_names)));
}

/* Letters, digits and hyphens in labels of 1 to 63, hyphens not at their ends; the last begins with a letter. */
static bool
is_well_formed(const char *domain)
{
	const char *label = domain;

	if (strlen(domain) > DOMAIN_MAX)
		return false;
	for (;;)
	{
		size_t		length = strcspn(label, ".");

		if (length < 1 || length > LABEL_MAX || label[0] == '-' || label[length - 1] == '-' ||
			strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789-") < length)
			return false;
		if (label[length] == '\0')
			return length >= 2 && label[0] >= 'a' && label[0] <= 'z';
		label += length + 1;
	}
}

/* The argument in the one form that is stored and compared. */
static char *
domain_arg(FunctionCallInfo fcinfo, int arg)
{
	text	   *given;
	char	   *domain;
	size_t		length;

	if (PG_ARGISNULL(arg))
		refuse("data_malformed", "argument=domain", NULL);
	given = PG_GETARG_TEXT_PP(arg);
	if (VARSIZE_ANY_EXHDR(given) > DOMAIN_MAX + 1)
		refuse("data_malformed", "argument=domain", "A domain has at most 253 characters.");
	domain = text_to_cstring(given);
	length = strlen(domain);
	if (length > 0 && domain[length - 1] == '.')
		domain[length - 1] = '\0';
	for (char *c = domain; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	if (!is_well_formed(domain))
		refuse("data_malformed", "argument=domain",
			   "A domain is labels of letters, digits and hyphens, joined by dots; international ones as punycode (xn--...).");
	return domain;
}

/* ---------------------------------------------------------------------
 * The functions
 * ---------------------------------------------------------------------
 */

/* Columns of domain_result but organization_id, and with it. */
#define DOMAIN_COLUMNS \
	"d.domain, '" RECORD_LABEL ".' || d.domain, d.challenge, d.enrollment, d.created_by, d.created_at, d.verified_at"
#define DOMAIN_RESULT "d.id, d.organization_id, " DOMAIN_COLUMNS

static SavedPlan get_plan = {
	.sql = "SELECT " DOMAIN_RESULT " FROM invite_sync.organization_domain AS d WHERE d.organization_id = $1 AND d.domain = $2",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID}
};

typedef struct Domain
{
	pg_uuid_t	id;
	char	   *challenge;
	char	   *enrollment;
	bool		verified;
	Datum		answer;			/* domain_result */
} Domain;

/* As it is now; false: the organization does not claim it. */
static bool
read_domain(FunctionCallInfo fcinfo, Datum *key, Domain *domain)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	Scope		scope;
	bool		found;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&get_plan, key, NULL, false, 0);
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		domain->id = *DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
		old = MemoryContextSwitchTo(cxt);
		domain->challenge = SPI_getvalue(row, desc, 5);
		domain->enrollment = SPI_getvalue(row, desc, 6);
		MemoryContextSwitchTo(old);
		(void) SPI_getbinval(row, desc, 9, &isnull);
		domain->verified = !isnull;
		domain->answer = plan_result_row(fcinfo);
	}
	scope_leave(&scope);
	SPI_finish();
	return found;
}

static void
require_domain(FunctionCallInfo fcinfo, Datum *key, Domain *domain)
{
	if (!read_domain(fcinfo, key, domain))
		refuse("domain_unknown", NULL, "The organization does not claim this domain: add_domain().");
}

static void
run(SavedPlan *plan, Datum *values, const char *nulls)
{
	Scope		scope;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(plan, values, nulls, false, 0);
	scope_leave(&scope);
	SPI_finish();
}

static void
domain_event(const Caller *caller, const char *action, const pg_uuid_t *organization_id,
			 const Domain *domain, const char *more)
{
	organization_event(caller, action, organization_id,
					   psprintf("{\"domain_id\": \"%s\"%s}",
								DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&domain->id))),
								more ? more : ""));
}

/* What they all begin with: who asks, and the organization locked. */
static pg_uuid_t *
begin(FunctionCallInfo fcinfo, Caller *caller, Datum *key, Authority *authority)
{
	pg_uuid_t  *id;

	organization_actor(caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	key[0] = UUIDPGetDatum(id);
	key[1] = CStringGetTextDatum(domain_arg(fcinfo, 1));
	organization_require(caller, id, "domains.manage", NULL);
	organization_lock(NULL, 0, id, 1);
	organization_require(caller, id, "domains.manage", authority);
	return id;
}

static SavedPlan taken_plan = {
	.sql = "SELECT FROM invite_sync.organization_domain AS d WHERE d.domain = $1 AND d.verified_at IS NOT NULL",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static void
refuse_taken(void)
{
	refuse("domain_taken", NULL, "Another organization has proved that the domain is theirs.");
}

static SavedPlan insert_plan = {
	.sql = "INSERT INTO invite_sync.organization_domain AS d (organization_id, domain, challenge, created_by) VALUES ($1, $2, $3, $4) "
	"ON CONFLICT (organization_id, domain) DO NOTHING",
	.nargs = 4,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID, UUIDOID}
};

static char *
make_challenge(void)
{
	unsigned char bytes[CHALLENGE_BYTES];
	char		hex[CHALLENGE_BYTES * 2 + 1];

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	hex[hex_encode((const char *) bytes, sizeof(bytes), hex)] = '\0';
	return psprintf(RECORD_PREFIX "%s", hex);
}

Datum
organization_add_domain(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	pg_uuid_t  *id;
	char	   *name;
	Domain		domain;
	Scope		scope;
	bool		taken;

	id = begin(fcinfo, &caller, values, NULL);
	name = TextDatumGetCString(values[1]);
	if (is_public_suffix(name))
		refuse("domain_not_allowed", NULL, "Everybody registers names below this one: claim your own.");
	if (is_freemail(name))
		refuse("domain_not_allowed", NULL, "Everybody can have an address there: claim a domain of your own.");
	if (read_domain(fcinfo, values, &domain))
		PG_RETURN_DATUM(domain.answer);

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&taken_plan, &values[1], NULL, false, 1);
	taken = SPI_processed > 0;
	scope_leave(&scope);
	SPI_finish();
	if (taken)
		refuse_taken();

	values[2] = CStringGetTextDatum(make_challenge());
	nulls[3] = caller.has_user ? ' ' : 'n';
	values[3] = UUIDPGetDatum(&caller.user_id);
	run(&insert_plan, values, nulls);
	/* who deletes the organization with an older snapshot would leave the claim behind */
	organization_touch(id, 1);
	require_domain(fcinfo, values, &domain);
	domain_event(&caller, "organization.domain_added", id, &domain, NULL);
	PG_RETURN_DATUM(domain.answer);
}

static SavedPlan verify_plan = {
	.sql = "UPDATE invite_sync.organization_domain AS d SET verified_at = pg_catalog.now() "
	"WHERE d.organization_id = $1 AND d.domain = $2 AND d.verified_at IS NULL",
	.nargs = 2,
	.argtypes = {UUIDOID, TEXTOID}
};

/* Resolvers hand the text over as it is, or in quotes. */
static bool
record_matches(const char *record, const char *challenge)
{
	size_t		length = strlen(challenge);

	if (record[0] == '"')
		return strncmp(record + 1, challenge, length) == 0 && strcmp(record + 1 + length, "\"") == 0;
	return strcmp(record, challenge) == 0;
}

Datum
organization_verify_domain(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		key[2];
	pg_uuid_t  *id;
	Domain		domain;
	Datum	   *records;
	bool	   *record_nulls;
	int			nrecords;
	bool		proved = false;

	caller_require_service();
	if (PG_ARGISNULL(2))
		refuse("data_malformed", "argument=txt_records", "Pass the TXT records that were found; none is an empty array.");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &records, &record_nulls, &nrecords);
	if (nrecords > TXT_RECORDS_MAX)
		refuse("data_malformed", "argument=txt_records", "Pass at most 1000 records.");
	id = begin(fcinfo, &caller, key, NULL);
	require_domain(fcinfo, key, &domain);
	if (domain.verified)
		PG_RETURN_DATUM(domain.answer);
	for (int i = 0; i < nrecords && !proved; i++)
		proved = !record_nulls[i] && record_matches(TextDatumGetCString(records[i]), domain.challenge);
	if (!proved)
		PG_RETURN_DATUM(domain.answer);
	if (!organization_try_unique(&verify_plan, key, NULL))
		refuse_taken();
	domain_event(&caller, "organization.domain_verified", id, &domain, NULL);
	require_domain(fcinfo, key, &domain);
	PG_RETURN_DATUM(domain.answer);
}

static SavedPlan enrollment_plan = {
	.sql = "UPDATE invite_sync.organization_domain AS d SET enrollment = $3 WHERE d.organization_id = $1 AND d.domain = $2",
	.nargs = 3,
	.argtypes = {UUIDOID, TEXTOID, TEXTOID}
};

static SavedPlan member_permissions_plan = {
	.sql = "SELECT invite_sync.role_permissions(r.id) FROM invite_sync.role AS r WHERE r.name = 'member' AND r.built_in",
	.nargs = 0
};

/* Who lets people in as members gives what a member has. */
static void
require_member_permissions(const Caller *caller, const Authority *authority)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	ArrayType  *permissions;
	Scope		scope;
	bool		isnull;

	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&member_permissions_plan, NULL, NULL, false, 1);
	if (SPI_processed != 1)
		elog(ERROR, "the role of members is missing");
	old = MemoryContextSwitchTo(cxt);
	permissions = DatumGetArrayTypePCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	MemoryContextSwitchTo(old);
	scope_leave(&scope);
	SPI_finish();
	if (!organization_covers(caller, authority, permissions))
		refuse("escalation", NULL, "Whoever joins becomes a member, who may more here than you.");
}

Datum
organization_set_enrollment(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Authority	authority;
	Datum		values[3];
	pg_uuid_t  *id;
	Domain		domain;
	char	   *enrollment;

	enrollment = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	id = begin(fcinfo, &caller, values, &authority);
	if (strcmp(enrollment, "none") != 0 && strcmp(enrollment, "suggest") != 0 && strcmp(enrollment, "auto") != 0)
		refuse("data_malformed", "argument=enrollment", "Enrollment is none, suggest or auto.");
	require_domain(fcinfo, values, &domain);
	if (strcmp(domain.enrollment, enrollment) == 0)
		PG_RETURN_DATUM(domain.answer);
	if (strcmp(enrollment, "none") != 0 && !domain.verified)
		refuse("domain_not_allowed", NULL, "Prove that the domain is yours first: verify_domain().");
	if (strcmp(enrollment, "auto") == 0)
		require_member_permissions(&caller, &authority);
	values[2] = CStringGetTextDatum(enrollment);
	run(&enrollment_plan, values, NULL);
	domain_event(&caller, "organization.enrollment_set", id, &domain, psprintf(", \"enrollment\": \"%s\"", enrollment));
	require_domain(fcinfo, values, &domain);
	PG_RETURN_DATUM(domain.answer);
}

Datum
organization_remove_domain(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Datum		key[2];
	pg_uuid_t  *id;
	Domain		domain;

	id = begin(fcinfo, &caller, key, NULL);
	require_domain(fcinfo, key, &domain);
	(void) organization_delete_rows("organization_domain", "id", UUIDARRAYOID, plan_uuid_array(&domain.id, 1));
	domain_event(&caller, "organization.domain_removed", id, &domain, NULL);
	PG_RETURN_DATUM(domain.answer);
}

static SavedPlan list_plan = {
	.sql = "SELECT d.id, " DOMAIN_COLUMNS ", " ORGANIZATION_CURSOR("d.created_at", "d.id")
	" FROM invite_sync.organization_domain AS d WHERE d.organization_id = $1 AND ($2 IS NULL OR (d.created_at, d.id) < ($2, $3)) "
	"ORDER BY d.created_at DESC, d.id DESC LIMIT $4",
	.nargs = 4,
	.argtypes = {UUIDOID, TIMESTAMPTZOID, UUIDOID, INT4OID}
};

Datum
organization_list_domains(PG_FUNCTION_ARGS)
{
	Caller		caller;
	Scope		scope;
	pg_uuid_t  *id;
	TimestampTz at = 0;
	pg_uuid_t	after;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	organization_actor(&caller);
	id = organization_uuid_arg(fcinfo, 0, "organization_id");
	organization_require_stable(&caller, id, "domains.manage", NULL);
	memset(&after, 0, sizeof(after));
	if (!organization_cursor(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1), &at, &after))
		nulls[1] = nulls[2] = 'n';
	values[0] = UUIDPGetDatum(id);
	values[1] = TimestampTzGetDatum(at);
	values[2] = UUIDPGetDatum(&after);
	values[3] = Int32GetDatum(organization_page_size(fcinfo, 2));
	SPI_connect();
	scope_enter_own(&scope);
	plan_execute(&list_plan, values, nulls, true, 0);
	plan_result_rows(fcinfo);
	scope_leave(&scope);
	SPI_finish();
	return (Datum) 0;
}
