-- ---------------------------------------------------------------------
-- Room hook: what the auth server asks before and after what it does
-- ---------------------------------------------------------------------

-- None is STRICT: a NULL answer would be a yes.
CREATE FUNCTION invite_sync.before_user_created_hook(event jsonb) RETURNS jsonb
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'hook_before_user_created';
COMMENT ON FUNCTION invite_sync.before_user_created_hook(jsonb) IS
$doc$May this user be made? {} or {"error": {"http_code": …, "message": …}}. invite_sync.signup_policy says who: open, everybody; invite_only, who has a pending invitation to their address that its inviter may still give; domain_only, who has an address of invite_sync.signup_domains or of a verified domain of an organization. Under the last two users without an address are refused unless invite_sync.signup_without_email names how they come (anonymous, phone, or the provider). A yes reserves nothing. A rate limit of the action "signup" (set_rate_limit) counts per email domain, and with scope address per client. Answers 403 to who may not, 429 beyond the limit; where it fails, 503 under a limiting policy and yes under open.
supabase_auth_admin, as GOTRUE_HOOK_BEFORE_USER_CREATED_URI. Raises nothing, whatever the event holds, unless it is cancelled. Locks the rows of the rate limit, waiting at most half a second for each.$doc$;

CREATE FUNCTION invite_sync.after_user_created_hook(event jsonb) RETURNS jsonb
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'hook_after_user_created';
COMMENT ON FUNCTION invite_sync.after_user_created_hook(jsonb) IS
$doc$Writes an event about a user that the auth server has made: account.created_by_auth_server, or account.invited_by_auth_server for one that it invited by itself, with the auth server's own keys of the user and, in place of the values, whether they are there ([PRESENT], [MISSING]). invitation_ids: what is pending for the user's address, verified or not. Always answers {}.
supabase_auth_admin, as GOTRUE_HOOK_AFTER_USER_CREATED_URI. Raises nothing, whatever the event holds, unless it is cancelled. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.custom_access_token_hook(event jsonb) RETURNS jsonb
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'hook_custom_access_token';
COMMENT ON FUNCTION invite_sync.custom_access_token_hook(jsonb) IS
$doc$The claims of a token, with what its user is and may under app_metadata.invite_sync: organizations, each with id, role (of the nearest membership) and permissions, as is_member(), has_role() and has_permission() find them at that moment; platform_role; truncated, true where some were left out. No other claim is changed. At most invite_sync.token_claims_bytes: the largest organizations are left out first. A user who is banned, deleted or anonymous has no organizations. Where it fails the claims are as given. A token keeps its claims until it expires: policies ask the helpers, not the claims.
supabase_auth_admin, as GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_URI; set invite_sync.tenant_copy to off with it. Raises nothing, whatever the event holds, unless it is cancelled. Writes and locks nothing.$doc$;

CREATE FUNCTION invite_sync.password_verification_attempt_hook(event jsonb) RETURNS jsonb
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'hook_password_verification_attempt';
COMMENT ON FUNCTION invite_sync.password_verification_attempt_hook(jsonb) IS
$doc$Counts failed passwords and locks out: {"decision": "continue"}, or {"decision": "reject", …} for a right password too. invite_sync.lockout_attempts: so many failures of a user from one client's address within invite_sync.lockout_duration lock that address out from that user; invite_sync.lockout_user_attempts: so many from anywhere lock the user out everywhere. Both are 0, never, unless set. What is tried while locked out does not count, so it ends with the duration, at most 15 minutes. A success forgets the failures from its address. Only passwords: recovery, one-time passwords and other providers go on. Writes the event account.password_locked_out. Where it fails: continue.
supabase_auth_admin, as GOTRUE_HOOK_PASSWORD_VERIFICATION_ATTEMPT_URI. Raises nothing, whatever the event holds, unless it is cancelled. Locks what it counts in, waiting at most half a second for each.$doc$;

CREATE FUNCTION invite_sync.mfa_verification_attempt_hook(event jsonb) RETURNS jsonb
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'hook_mfa_verification_attempt';
COMMENT ON FUNCTION invite_sync.mfa_verification_attempt_hook(jsonb) IS
$doc$The same for codes of a second factor, counted apart, with the same settings. The auth server ends all sessions of the user it rejects. Writes the event account.mfa_locked_out. Where it fails: continue.
supabase_auth_admin, as GOTRUE_HOOK_MFA_VERIFICATION_ATTEMPT_URI. Raises nothing, whatever the event holds, unless it is cancelled. Locks what it counts in, waiting at most half a second for each.$doc$;
