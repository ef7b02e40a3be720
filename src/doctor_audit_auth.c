/*-------------------------------------------------------------------------
 *
 * doctor_audit_auth.c
 *	  The audit's checks of the auth server's data: logins and sessions.
 *
 * The server's own settings are not in the database; what they led to is.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_type.h"

#include "doctor_audit.h"

/* When a session was last used; refreshed_at has no time zone and means UTC. */
#define USED(s) "coalesce(" s ".refreshed_at AT TIME ZONE 'UTC', " s ".updated_at, " s ".created_at)"
#define LIVE(s) "(" s ".not_after IS NULL OR " s ".not_after > pg_catalog.now())"
#define NEEDS_SESSIONS "sessions.id sessions.user_id sessions.created_at sessions.updated_at sessions.refreshed_at sessions.not_after"

/* Joined, so that a million of them are hashed: two NOT EXISTS in an OR would look through all users for each. */
#define ORPHANS \
	"auth.refresh_tokens AS t LEFT JOIN auth.sessions AS s ON s.id = t.session_id LEFT JOIN auth.users AS u ON u.id::pg_catalog.text = t.user_id " \
	"WHERE t.revoked IS NOT TRUE AND (s.id IS NULL OR u.id IS NULL)"

/* One finding about rows that can be counted; none where there are none. */
#define COUNTED(severity, object, finding, detail, fix, from) \
	"SELECT " severity " AS severity, " object " AS object, " finding " AS finding, " \
	"pg_catalog.format(" detail ", x.n) AS detail, " fix "::pg_catalog.text AS fix FROM (SELECT pg_catalog.count(*) AS n FROM " from ") AS x WHERE x.n > 0"

/* ---------------------------------------------------------------------
 * auth_flow
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_auth_flow[] = {
	{
		/* by their names as in the server's environment, without its prefix; a length of time has a unit there, and 0 means none */
		"server_settings", NULL, NULL, {
			{.scope = AUDIT_SETTINGS, .plan = {.nargs = 1, .argtypes = {JSONBOID}, .sql =
				"WITH said AS MATERIALIZED (SELECT pg_catalog.regexp_replace(pg_catalog.lower(e.key), '^(gotrue_|auth_)', '') AS name, pg_catalog.lower(coalesce(e.value, '')) AS value "
				"FROM pg_catalog.jsonb_each_text($1) AS e), "
				"rule (name, test, number, severity, finding, detail) AS (VALUES "
				"('sessions_timebox', 'zero', 0, 'warning', 'sessions without an end', 'Whoever has a refresh token can go on with it for as long as they like.'), "
				"('sessions_inactivity_timeout', 'zero', 0, 'warning', 'sessions stay usable though nobody uses them', 'A session that was forgotten somewhere can be taken up again years later.'), "
				"('jwt_exp', 'above', 86400, 'warning', 'access tokens live longer than a day', 'Nothing ends an access token before it expires, not even a logout.'), "
				"('mailer_otp_exp', 'above', 86400, 'warning', 'one-time tokens live longer than a day', 'Whoever reads an old message gets in by its link.'), "
				"('sms_otp_exp', 'above', 3600, 'warning', 'codes by text message live longer than an hour', 'There is time enough to try them all.'), "
				"('refresh_token_rotation_enabled', 'false', 0, 'warning', 'refresh tokens are good for more than one use', 'One that was stolen works beside its owner''s, and nobody notices.'), "
				"('security_refresh_token_rotation_enabled', 'false', 0, 'warning', 'refresh tokens are good for more than one use', 'One that was stolen works beside its owner''s, and nobody notices.'), "
				"('password_min_length', 'below', 8, 'warning', 'passwords of fewer than 8 characters are taken', 'They are guessed, and found quickly where hashes leak.'), "
				"('mailer_autoconfirm', 'true', 0, 'warning', 'addresses count as verified that nobody has verified', 'Who knows the address of somebody invited can sign up as them.'), "
				"('sms_autoconfirm', 'true', 0, 'warning', 'numbers count as verified that nobody has verified', 'Whoever enters a number counts as who has it.'), "
				"('phone_autoconfirm', 'true', 0, 'warning', 'numbers count as verified that nobody has verified', 'Whoever enters a number counts as who has it.'), "
				"('password_hibp_enabled', 'false', 0, 'info', 'passwords that have leaked elsewhere are taken', 'They are the first that are tried.'), "
				"('mfa_totp_verify_enabled', 'false', 0, 'info', 'second factors cannot be used', 'Nobody can protect their account by more than a password.')), "
				"found AS (SELECT r.severity, 'auth server: ' || r.name AS object, r.finding, r.detail, NULL::pg_catalog.text AS fix FROM said AS s JOIN rule AS r ON r.name = s.name "
				"WHERE CASE r.test WHEN 'zero' THEN s.value ~ '^(0+(\\.0+)?[a-z]*)*$' WHEN 'true' THEN s.value IN ('true', '1', 't', 'on') WHEN 'false' THEN s.value IN ('false', '0', 'f', 'off') "
				"ELSE s.value ~ '^\\d{1,9}$' AND CASE r.test WHEN 'above' THEN s.value::pg_catalog.int8 > r.number ELSE s.value::pg_catalog.int8 < r.number END END)"
				AUDIT_REPORT("SELECT CASE WHEN $1 IS NULL THEN 'No setting: the auth server''s are not in the database. Give them, from its environment or its configuration, as auth_settings => ''{\"jwt_exp\": 3600}''.' "
							 "ELSE pg_catalog.format('%s settings that were given. Judged: %s; not said: %s.', (SELECT pg_catalog.count(*) FROM said AS s), "
							 "coalesce(pg_catalog.string_agg(DISTINCT r.name, ', ') FILTER (WHERE s.name IS NOT NULL), 'none'), coalesce(pg_catalog.string_agg(DISTINCT r.name, ', ') FILTER (WHERE s.name IS NULL), 'none')) END FROM rule AS r LEFT JOIN said AS s ON s.name = r.name")}}
		}
	},
	{
		"session_timebox", NEEDS_SESSIONS, NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.sessions'", "'sessions without an end'",
												 "'%s sessions that began more than 180 days ago are still in use. The auth server ends them where GOTRUE_SESSIONS_TIMEBOX is set; the fix ends those of today.'",
												 "'DELETE FROM auth.sessions AS s WHERE s.created_at < pg_catalog.now() - interval ''180 days'' AND (s.not_after IS NULL OR s.not_after > pg_catalog.now());'",
												 "auth.sessions AS s WHERE s.created_at < pg_catalog.now() - interval '180 days' AND " LIVE("s")) ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s sessions, %s of them with an end.', pg_catalog.count(*), pg_catalog.count(s.not_after)) FROM auth.sessions AS s"))
		}
	},
	{
		"session_timeout", NEEDS_SESSIONS, NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.sessions'", "'sessions stay usable though nobody uses them'",
												 "'%s sessions have not been used for 90 days and can be taken up again. The auth server ends them where GOTRUE_SESSIONS_INACTIVITY_TIMEOUT is set; the fix ends those of today.'",
												 "'DELETE FROM auth.sessions AS s WHERE coalesce(s.refreshed_at AT TIME ZONE ''UTC'', s.updated_at, s.created_at) < pg_catalog.now() - interval ''90 days'' "
												 "AND (s.not_after IS NULL OR s.not_after > pg_catalog.now());'",
												 "auth.sessions AS s WHERE " USED("s") " < pg_catalog.now() - interval '90 days' AND " LIVE("s")) ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s sessions, %s of them used within a week.', pg_catalog.count(*), "
									"pg_catalog.count(*) FILTER (WHERE " USED("s") " > pg_catalog.now() - interval '7 days')) FROM auth.sessions AS s"))
		}
	},
	{
		"access_token_expiry", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH setting AS MATERIALIZED (SELECT d.setdatabase, d.setrole, pg_catalog.substr(c.text, 22) AS value FROM pg_catalog.pg_db_role_setting AS d "
					   "CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) AS c (text) WHERE c.text LIKE 'app.settings.jwt_exp=%' "
					   "AND d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = pg_catalog.current_database()))), found AS ("
					   "SELECT 'warning' AS severity, 'app.settings.jwt_exp' AS object, 'access tokens live longer than a day' AS finding, "
					   "'Nothing ends an access token before it expires, not even a logout. Set GOTRUE_JWT_EXP to an hour or so, and this setting with it.' AS detail, "
					   "pg_catalog.format('ALTER %s SET \"app.settings.jwt_exp\" = ''3600'';', pg_catalog.concat_ws(' IN ', 'ROLE ' || CASE WHEN s.setrole <> 0 OR s.setdatabase = 0 THEN "
					   "coalesce((SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r WHERE r.oid = s.setrole), 'ALL') END, "
					   "CASE WHEN s.setdatabase <> 0 THEN pg_catalog.format('DATABASE %I', pg_catalog.current_database()) END)) AS fix "
					   "FROM setting AS s WHERE s.value ~ '^\\d+$' AND s.value::pg_catalog.numeric > 86400)"
					   AUDIT_REPORT("SELECT pg_catalog.format('The database''s setting app.settings.jwt_exp, which repeats the auth server''s: %s.', "
									"coalesce(pg_catalog.string_agg(CASE WHEN s.value ~ '^\\d+$' THEN s.value || ' s' ELSE 'not a number' END, ', '), 'not set')) FROM setting AS s"))
		}
	},
	{
		"one_time_token_expiry", "one_time_tokens.user_id one_time_tokens.created_at", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'info'", "'auth.one_time_tokens'", "'old one-time tokens are kept'",
												 "'%s tokens were sent more than a day ago. The auth server refuses them by GOTRUE_MAILER_OTP_EXP, which must not be longer than a day; the fix forgets them, so that no setting brings them back.'",
												 "'DELETE FROM auth.one_time_tokens AS t WHERE t.created_at < (pg_catalog.now() AT TIME ZONE ''UTC'') - interval ''1 day'';'",
												 "auth.one_time_tokens AS t WHERE t.created_at < (pg_catalog.now() AT TIME ZONE 'UTC') - interval '1 day'") ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s one-time tokens.', pg_catalog.count(*)) FROM auth.one_time_tokens AS t"))
		}
	},
	{
		"token_single_use", "refresh_tokens.session_id refresh_tokens.revoked refresh_tokens.id one_time_tokens.user_id one_time_tokens.token_type", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.refresh_tokens'", "'refresh tokens are good for more than one use'",
												 "'%s sessions have more than one refresh token that is not revoked, so an old one did not end with its use: GOTRUE_SECURITY_REFRESH_TOKEN_ROTATION_ENABLED is off. The fix revokes all but the newest.'",
												 "'UPDATE auth.refresh_tokens AS t SET revoked = true WHERE t.revoked IS NOT TRUE AND EXISTS (SELECT FROM auth.refresh_tokens AS n "
												 "WHERE n.session_id = t.session_id AND n.revoked IS NOT TRUE AND n.id > t.id);'",
												 "(SELECT FROM auth.refresh_tokens AS t WHERE t.revoked IS NOT TRUE AND t.session_id IS NOT NULL GROUP BY t.session_id HAVING pg_catalog.count(*) > 1) AS s")
					   " UNION ALL SELECT 'warning', 'auth.one_time_tokens', 'nothing keeps one-time tokens to one of a kind', "
					   "'The unique index on (user_id, token_type) is gone: a new link no longer replaces the one before.', "
					   "'CREATE UNIQUE INDEX one_time_tokens_user_id_token_type_key ON auth.one_time_tokens (user_id, token_type);' "
					   "WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = 'auth.one_time_tokens'::pg_catalog.regclass AND i.indisunique AND i.indisvalid "
					   "AND i.indpred IS NULL AND i.indnkeyatts = 2 AND (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attname) FROM pg_catalog.pg_attribute AS a "
					   "WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)) = ARRAY['token_type', 'user_id']))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s refresh tokens, %s of them not revoked, and the unique index of one-time tokens.', pg_catalog.count(*), "
									"pg_catalog.count(*) FILTER (WHERE t.revoked IS NOT TRUE)) FROM auth.refresh_tokens AS t"))
		}
	},
	{
		"password_policy", "users.id users.encrypted_password", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (SELECT 'warning' AS severity, 'auth.users' AS object, 'users share a password hash' AS finding, "
					   "pg_catalog.format('%s users have a hash that another user has too. Hashes are salted, so these were copied: whoever knows one password knows them all. Give them new ones; one of the users is %s.', "
					   "pg_catalog.sum(x.n), pg_catalog.min(x.id::pg_catalog.text)) AS detail, NULL::pg_catalog.text AS fix FROM (SELECT pg_catalog.count(*) AS n, pg_catalog.min(u.id::pg_catalog.text) AS id "
					   "FROM auth.users AS u WHERE u.encrypted_password <> '' GROUP BY u.encrypted_password HAVING pg_catalog.count(*) > 1) AS x HAVING pg_catalog.count(*) > 0 "
					   "UNION ALL SELECT 'warning', 'invite_sync.password_min_length', 'passwords of fewer than 8 characters are taken', "
					   "pg_catalog.format('signup_with_invitation() takes passwords of %s characters.', pg_catalog.current_setting('invite_sync.password_min_length')), "
					   "pg_catalog.format('ALTER DATABASE %I SET invite_sync.password_min_length = 8;', pg_catalog.current_database()) "
					   "WHERE pg_catalog.current_setting('invite_sync.password_min_length')::pg_catalog.int4 < 8)"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s users with a password, and invite_sync.password_min_length. The auth server''s own rules (GOTRUE_PASSWORD_MIN_LENGTH and the like) are not in the database.', "
									"pg_catalog.count(*)) FROM auth.users AS u WHERE u.encrypted_password <> ''"))
		}
	},
	{
		"password_hashing", "users.id users.encrypted_password", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH hash AS MATERIALIZED (SELECT CASE WHEN pg_catalog.length(u.encrypted_password) = 60 AND u.encrypted_password ~ '^\\$2[abxy]\\$\\d\\d\\$' THEN 'bcrypt ' || pg_catalog.substr(u.encrypted_password, 5, 2) "
					   "WHEN u.encrypted_password ~ '^\\$argon2id?\\$' THEN 'argon2' WHEN u.encrypted_password ~ '^\\$fbscrypt\\$' THEN 'scrypt' ELSE 'unknown' END AS kind, "
					   "pg_catalog.count(*) AS n, pg_catalog.min(u.id::pg_catalog.text) AS id FROM auth.users AS u WHERE u.encrypted_password <> '' GROUP BY 1), found AS ("
					   "SELECT CASE WHEN h.kind = 'unknown' THEN 'error' ELSE 'warning' END AS severity, 'auth.users' AS object, "
					   "CASE WHEN h.kind = 'unknown' THEN 'passwords that are not hashed as the auth server does it' ELSE 'passwords are hashed at too low a cost' END AS finding, "
					   "CASE WHEN h.kind = 'unknown' THEN pg_catalog.format('%s users: neither bcrypt nor argon2 nor scrypt, so a weak hash or none, with which nobody can log in either. One of them is %s.', h.n, h.id) "
					   "ELSE pg_catalog.format('%s users: %s, and 10 is the least that is worth something. The auth server hashes anew when a password is set. One of them is %s.', h.n, h.kind, h.id) END AS detail, "
					   "NULL::pg_catalog.text AS fix FROM hash AS h WHERE h.kind = 'unknown' OR h.kind LIKE 'bcrypt 0%')"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s users with a password: %s.', coalesce(pg_catalog.sum(h.n), 0), coalesce(pg_catalog.string_agg(h.kind || ' ' || h.n::pg_catalog.text, ', ' ORDER BY h.kind), 'none')) FROM hash AS h"))
		}
	},
	{
		"mfa", NEEDS_SESSIONS " sessions.aal mfa_factors.user_id mfa_factors.status mfa_factors.created_at", NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "SELECT pg_catalog.json_build_object('asked', EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE pg_catalog.pg_get_expr(p.polqual, p.polrelid) ~ '\\maal\\M' "
					   "OR pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) ~ '\\maal\\M'), 'mighty', coalesce((SELECT pg_catalog.json_agg(x.user_id) FROM ("
					   "SELECT p.user_id FROM invite_sync.platform_role AS p UNION SELECT m.user_id FROM invite_sync.membership AS m JOIN invite_sync.role AS r ON r.id = m.role_id "
					   "WHERE r.built_in AND r.name IN ('owner', 'admin')) AS x), '[]'))"),
			AUDIT_STEP_FED(AUDIT_AUTH,
						   "WITH mighty AS MATERIALIZED (SELECT m.id::pg_catalog.uuid AS id FROM pg_catalog.json_array_elements_text($1::pg_catalog.json -> 'mighty') AS m (id)), found AS ("
						   "SELECT CASE WHEN ($1::pg_catalog.json ->> 'asked')::pg_catalog.bool THEN 'info' ELSE 'warning' END AS severity, 'auth.sessions' AS object, "
						   "'second factors are not asked for' AS finding, pg_catalog.format('%s sessions of users with a verified second factor went on for more than an hour without it%s.', x.n, "
						   "CASE WHEN ($1::pg_catalog.json ->> 'asked')::pg_catalog.bool THEN ', though policies ask for the level' ELSE ', and no policy asks for the claim aal' END) AS detail, "
						   "'DELETE FROM auth.sessions AS s WHERE s.aal = ''aal1'' AND coalesce(s.refreshed_at AT TIME ZONE ''UTC'', s.updated_at) > s.created_at + interval ''1 hour'' "
						   "AND EXISTS (SELECT FROM auth.mfa_factors AS f WHERE f.user_id = s.user_id AND f.status = ''verified'' AND f.created_at < s.created_at);' AS fix "
						   "FROM (SELECT pg_catalog.count(*) AS n FROM auth.sessions AS s WHERE s.aal = 'aal1' AND coalesce(s.refreshed_at AT TIME ZONE 'UTC', s.updated_at) > s.created_at + interval '1 hour' "
						   "AND EXISTS (SELECT FROM auth.mfa_factors AS f WHERE f.user_id = s.user_id AND f.status = 'verified' AND f.created_at < s.created_at)) AS x WHERE x.n > 0 UNION ALL "
						   COUNTED("'info'", "'auth.mfa_factors'", "'owners and administrators without a second factor'", "'%s users who are owner or admin of an organization, or have a platform role, have no verified second factor.'", "NULL",
								   "mighty AS m WHERE NOT EXISTS (SELECT FROM auth.mfa_factors AS f WHERE f.user_id = m.id AND f.status = 'verified')") ")"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s users with a verified second factor; %s owners, administrators and holders of platform roles; whether a policy asks for the claim aal: %s.', "
										"(SELECT pg_catalog.count(DISTINCT f.user_id) FROM auth.mfa_factors AS f WHERE f.status = 'verified'), (SELECT pg_catalog.count(*) FROM mighty AS m), "
										"CASE WHEN ($1::pg_catalog.json ->> 'asked')::pg_catalog.bool THEN 'yes' ELSE 'no' END)"))
		}
	},
	{
		"error_leakage", NULL, NULL, {
			AUDIT_STEP_FACTS(
					   "WITH " AUDIT_API ", " AUDIT_FUNCTIONS ", "
					   "setting AS MATERIALIZED (SELECT r.rolname, d.setdatabase, pg_catalog.split_part(c.text, '=', 1) AS name, pg_catalog.lower(pg_catalog.split_part(c.text, '=', 2)) AS value "
					   "FROM pg_catalog.pg_db_role_setting AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.setrole CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) AS c (text) "
					   "WHERE r.rolname IN ('anon', 'authenticated', 'authenticator') "
					   "AND d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = pg_catalog.current_database()))), "
					   "teller AS MATERIALIZED (SELECT b.* FROM body AS b WHERE b.definer AND EXISTS (SELECT FROM api AS a WHERE a.name <> 'authenticated' AND pg_catalog.has_schema_privilege(a.role, b.pronamespace, 'USAGE') "
					   "AND pg_catalog.has_function_privilege(a.role, b.oid, 'EXECUTE'))), "
					   "found AS (SELECT 'warning' AS severity, pg_catalog.quote_ident(s.rolname) AS object, pg_catalog.format('setting %s tells clients too much', s.name) AS finding, "
					   "CASE s.name WHEN 'pgrst.db_plan_enabled' THEN 'PostgREST shows the plan of a query to whoever asks, with what policies compare and how many rows there are.' "
					   "ELSE 'Whoever asks is sent what belongs into the log.' END AS detail, pg_catalog.format('ALTER ROLE %I%s RESET %s;', s.rolname, "
					   "CASE WHEN s.setdatabase <> 0 THEN pg_catalog.format(' IN DATABASE %I', pg_catalog.current_database()) ELSE '' END, s.name) AS fix "
					   "FROM setting AS s WHERE s.name = 'pgrst.db_plan_enabled' AND s.value IN ('true', 'on', 'yes', '1') "
					   "OR s.name = 'client_min_messages' AND s.value ~ '^(debug|log)' OR s.name LIKE 'debug_print_%' AND s.value IN ('true', 'on', 'yes', '1') "
					   "OR s.name = 'log_parameter_max_length_on_error' AND s.value <> '0' "
					   "UNION ALL SELECT 'warning', t.name, 'tells strangers who has an account', "
					   "pg_catalog.format('%s may call it; it reads auth.users as its owner by what its caller gives, and does not ask who is calling.', "
					   "(SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) FROM api AS a WHERE a.name <> 'authenticated' AND pg_catalog.has_function_privilege(a.role, t.oid, 'EXECUTE'))), "
					   "pg_catalog.format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', t.name, " AUDIT_API_LIST ") FROM teller AS t "
					   "WHERE t.code ~* '\\mauth\\.users\\M' AND t.code ~* '\\m(email|phone)\\M' AND NOT t.asks "
					   "AND EXISTS (SELECT FROM pg_catalog.unnest(t.proargtypes) AS y (type) WHERE y.type IN ('pg_catalog.text'::pg_catalog.regtype, 'pg_catalog.varchar'::pg_catalog.regtype, "
					   "'pg_catalog.json'::pg_catalog.regtype, 'pg_catalog.jsonb'::pg_catalog.regtype) OR y.type IN (SELECT c.oid FROM pg_catalog.pg_type AS c WHERE c.typname = 'citext')))"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s settings of anon, authenticated and authenticator; %s SECURITY DEFINER functions that anon may call, of %s functions.', "
									"(SELECT pg_catalog.count(*) FROM setting AS s), (SELECT pg_catalog.count(*) FROM teller AS t), (SELECT pg_catalog.count(*) FROM body AS b))"))
		}
	},
	{
		"orphan_refresh_tokens", "refresh_tokens.id refresh_tokens.session_id refresh_tokens.revoked refresh_tokens.user_id sessions.id users.id", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.refresh_tokens'", "'refresh tokens that no logout ends'",
												 "'%s tokens that are not revoked belong to no session, or to no user: whoever has one is let in, or the auth server fails over it.'",
												 "'DELETE FROM auth.refresh_tokens AS d WHERE d.id IN (SELECT t.id FROM " ORPHANS ");'",
												 ORPHANS) ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s refresh tokens.', pg_catalog.count(*)) FROM auth.refresh_tokens AS t"))
		}
	},
	{
		"sessions_of_deleted_users", "sessions.id sessions.user_id users.id users.deleted_at", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.sessions'", "'sessions of users who are deleted'",
												 "'%s sessions belong to users who are gone or soft-deleted.'",
												 "'DELETE FROM auth.sessions AS s WHERE NOT EXISTS (SELECT FROM auth.users AS u WHERE u.id = s.user_id AND u.deleted_at IS NULL);'",
												 "auth.sessions AS s WHERE NOT EXISTS (SELECT FROM auth.users AS u WHERE u.id = s.user_id AND u.deleted_at IS NULL)") ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s sessions of %s users.', pg_catalog.count(*), pg_catalog.count(DISTINCT s.user_id)) FROM auth.sessions AS s"))
		}
	},
	{.name = NULL}
};

/* ---------------------------------------------------------------------
 * session_management
 * ---------------------------------------------------------------------
 */

AuditCheck	audit_session_management[] = {
	{
		"expired_sessions", "sessions.id sessions.not_after", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.sessions'", "'sessions that ended are kept'",
												 "'%s sessions ended more than a week ago and are still there: nothing cleans up. The auth server does, where GOTRUE_DB_CLEANUP_ENABLED is set.'",
												 "'DELETE FROM auth.sessions AS s WHERE s.not_after < pg_catalog.now() - interval ''7 days'';'",
												 "auth.sessions AS s WHERE s.not_after < pg_catalog.now() - interval '7 days'") ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s sessions, %s of them ended.', pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE s.not_after < pg_catalog.now())) FROM auth.sessions AS s"))
		}
	},
	{
		"sessions_of_banned_users", "sessions.id sessions.user_id users.id users.banned_until", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.sessions'", "'sessions of users who are banned'",
												 "'%s sessions belong to banned users: their tokens are good until they expire, and the sessions again when the ban ends.'",
												 "'DELETE FROM auth.sessions AS s USING auth.users AS u WHERE u.id = s.user_id AND u.banned_until > pg_catalog.now();'",
												 "auth.sessions AS s JOIN auth.users AS u ON u.id = s.user_id WHERE u.banned_until > pg_catalog.now()") ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s users who are banned.', pg_catalog.count(*)) FROM auth.users AS u WHERE u.banned_until > pg_catalog.now()"))
		}
	},
	{
		"parallel_sessions", NEEDS_SESSIONS, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "SELECT coalesce(pg_catalog.json_object_agg(x.user_id, x.most), '{}') FROM (SELECT m.user_id, pg_catalog.min(o.max_concurrent_sessions) AS most "
					   "FROM invite_sync.membership AS m JOIN invite_sync.organization AS o ON o.id = m.organization_id WHERE o.max_concurrent_sessions IS NOT NULL GROUP BY m.user_id) AS x"),
			AUDIT_STEP_FED(AUDIT_AUTH,
						   "WITH bound AS MATERIALIZED (SELECT e.key::pg_catalog.uuid AS user_id, e.value::pg_catalog.int4 AS most FROM pg_catalog.json_each_text($1::pg_catalog.json) AS e), "
						   "counted AS MATERIALIZED (SELECT s.user_id, pg_catalog.count(*) AS n FROM auth.sessions AS s WHERE " LIVE("s") " GROUP BY s.user_id), found AS ("
						   "SELECT 'warning' AS severity, pg_catalog.format('user %s', c.user_id) AS object, 'more sessions than an organization allows' AS finding, "
						   "pg_catalog.format('%s sessions, and max_concurrent_sessions of an organization is %s. The fix ends those that have not been used for longest.', c.n, b.most) AS detail, "
						   "pg_catalog.format('DELETE FROM auth.sessions AS s WHERE s.id IN (SELECT o.id FROM auth.sessions AS o WHERE o.user_id = %L AND (o.not_after IS NULL OR o.not_after > pg_catalog.now()) "
						   "ORDER BY coalesce(o.refreshed_at AT TIME ZONE ''UTC'', o.updated_at, o.created_at) DESC NULLS LAST OFFSET %s);', c.user_id, b.most) AS fix "
						   "FROM counted AS c JOIN bound AS b ON b.user_id = c.user_id WHERE c.n > b.most UNION ALL "
						   COUNTED("'info'", "'auth.sessions'", "'users with very many sessions'", "'%s users have more than 50 sessions.'", "NULL", "counted AS c WHERE c.n > 50") ")"
						   AUDIT_REPORT("SELECT pg_catalog.format('%s users with sessions, %s users whose organizations limit them.', (SELECT pg_catalog.count(*) FROM counted AS c), (SELECT pg_catalog.count(*) FROM bound AS b))"))
		}
	},
	{
		"stale_flow_state", "flow_state.id flow_state.created_at flow_state.provider_access_token flow_state.provider_refresh_token", NULL, {
			AUDIT_STEP(AUDIT_AUTH,
					   "WITH found AS (" COUNTED("'warning'", "'auth.flow_state'", "'tokens of other providers are kept in clear'",
												 "'%s logins by way of another provider, begun more than a week ago, left that provider''s tokens behind: nothing cleans up. The auth server does, where GOTRUE_DB_CLEANUP_ENABLED is set.'",
												 "'DELETE FROM auth.flow_state AS f WHERE f.created_at < pg_catalog.now() - interval ''7 days'';'",
												 "auth.flow_state AS f WHERE f.created_at < pg_catalog.now() - interval '7 days' AND (f.provider_access_token <> '' OR f.provider_refresh_token <> '')") ")"
					   AUDIT_REPORT("SELECT pg_catalog.format('%s logins that were begun.', pg_catalog.count(*)) FROM auth.flow_state AS f"))
		}
	},
	{
		"readable_auth_tables", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH " AUDIT_API ", kept AS MATERIALIZED (SELECT c.oid, c.oid::pg_catalog.regclass::pg_catalog.text AS name, c.relnamespace FROM pg_catalog.pg_class AS c "
					   "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'auth' AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relname <> 'schema_migrations'), "
					   "found AS (SELECT 'error' AS severity, k.name AS object, 'strangers or users have rights on a table of the auth server' AS finding, "
					   "pg_catalog.format('%s reach it: password hashes, tokens or addresses are what is in there.', g.names) AS detail, "
					   "pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s;', k.name, " AUDIT_API_LIST ") AS fix FROM kept AS k CROSS JOIN LATERAL ("
					   "SELECT pg_catalog.string_agg(a.name, ', ' ORDER BY a.role) AS names FROM api AS a WHERE pg_catalog.has_schema_privilege(a.role, k.relnamespace, 'USAGE') "
					   "AND (pg_catalog.has_table_privilege(a.role, k.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') OR pg_catalog.has_any_column_privilege(a.role, k.oid, 'SELECT, INSERT, UPDATE'))) AS g "
					   "WHERE g.names IS NOT NULL)"
					   AUDIT_REPORT("SELECT pg_catalog.format('The privileges of %s on %s tables of schema auth.', " AUDIT_API_LIST ", pg_catalog.count(*)) FROM kept AS k"))
		}
	},
	{
		"lockout", NULL, NULL, {
			AUDIT_STEP(AUDIT_OWN,
					   "WITH found AS (SELECT 'info' AS severity, 'invite_sync.lockout_attempts' AS object, 'nothing locks out who guesses passwords' AS finding, "
					   "'Both settings are 0, so password_verification_attempt_hook() never says no; the auth server has its own limits.' AS detail, "
					   "pg_catalog.format('ALTER DATABASE %I SET invite_sync.lockout_attempts = 10;', pg_catalog.current_database()) AS fix "
					   "WHERE pg_catalog.current_setting('invite_sync.lockout_attempts') = '0' AND pg_catalog.current_setting('invite_sync.lockout_user_attempts') = '0')"
					   AUDIT_REPORT("'The settings invite_sync.lockout_attempts and invite_sync.lockout_user_attempts.'"))
		}
	},
	{.name = NULL}
};
