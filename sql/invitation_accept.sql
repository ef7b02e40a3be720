-- ---- the side of who is invited ----

CREATE TYPE invite_sync.invitation_preview AS (
    organization_name text, role text, inviter_name text, email_hint text, expires_at timestamptz, needs_signup boolean);
COMMENT ON TYPE invite_sync.invitation_preview IS 'An invitation, as whoever has its token sees it.';

CREATE TYPE invite_sync.invitation_binding AS (invitation_id uuid, device_until timestamptz);
COMMENT ON TYPE invite_sync.invitation_binding IS 'Until when an invitation is bound to a device.';

CREATE TYPE invite_sync.invitation_accepted AS (invitation_id uuid, organization_ids uuid[], platform_role text, already boolean);
COMMENT ON TYPE invite_sync.invitation_accepted IS
    'An invitation that was accepted. organization_ids: those it gives; already: it was before, and nothing has changed.';

CREATE TYPE invite_sync.invitation_signup AS (user_id uuid, email text, organization_ids uuid[]);
COMMENT ON TYPE invite_sync.invitation_signup IS 'An account that was made by accepting an invitation.';

CREATE FUNCTION invite_sync.get_invitation(token text) RETURNS invite_sync.invitation_preview
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'invitation_get';
COMMENT ON FUNCTION invite_sync.get_invitation(text) IS
$doc$What a token invites to, for the page that it opens. Looking never consumes it, binds it or writes anything: mail scanners follow links.
Returns organization_name and role (of several organizations: joined by commas, in the same order; of none: NULL and the platform role), inviter_name (written by the inviter: show it as text), email_hint (NULL for a link), expires_at, and needs_signup: whether signup_with_invitation() would make an account; NULL unless the token proves the mailbox. Where invite_sync.require_verified_email is view, only for who could accept it.
Errors: invitation_unknown (whatever is wrong with the token), invitation_expired, invitation_used, invitation_revoked, invitation_declined, data_malformed; with view also email_unverified, email_mismatch, domain_not_allowed.
Everybody. Locks nothing; works on a standby.$doc$;

CREATE FUNCTION invite_sync.bind_invitation(token text, device text) RETURNS invite_sync.invitation_binding
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_bind';
COMMENT ON FUNCTION invite_sync.bind_invitation(text, text) IS
$doc$Bind a token to a device for 30 minutes, or until it is accepted or sent again: until then only this device can accept or bind it. Call it on the person's own click, never for a page that merely opened. device: a text that the client made up and keeps, at most 200 bytes. Again from the same device it counts anew.
Returns until when. Errors: invitation_unknown, device_mismatch (another device was first), invitation_expired, invitation_used, invitation_revoked, invitation_declined, not_permitted (a link), data_malformed; for tokens that do not prove the mailbox also not_authenticated, anonymous_user, user_banned, email_unverified, email_mismatch.
Everybody. Locks the invitation.$doc$;

CREATE FUNCTION invite_sync.accept_invitation(token text, device text DEFAULT NULL) RETURNS invite_sync.invitation_accepted
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_accept';
COMMENT ON FUNCTION invite_sync.accept_invitation(text, text) IS
$doc$Accept an invitation as the user of this session: memberships, platform role, and what the invitation says of the person into their metadata where it says nothing yet; all or nothing. A membership that exists keeps its role; a platform role is replaced only by one that allows all that it does.
Needs the invited address, verified; with invite_sync.require_verified_email off a token that proves the mailbox is enough. A link needs a verified address, of its domain if it has one. device: needed where the invitation is bound to one.
Again by the same user it succeeds and changes nothing (already).
Errors: not_authenticated, anonymous_user, user_banned, invitation_unknown, invitation_expired, invitation_used (also by the same user who has left or was removed since), invitation_revoked (also when the inviter is gone or may not invite so any more, and when the user was removed after it was sent), invitation_declined, device_mismatch, email_unverified, email_mismatch, domain_not_allowed, not_permitted (a link, of who was removed), seats_exhausted, migration_required (an invitation to migrate an account), data_malformed.
Users. Locks the users (who accepts, who invited), the organizations and those above them, the invitation, and its roles. While somebody else is accepting it, first waits for the end of their transaction, and locks nothing when there is nothing left to accept then.$doc$;

CREATE FUNCTION invite_sync.accept_my_invitation(invitation_id uuid) RETURNS invite_sync.invitation_accepted
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_accept_mine';
COMMENT ON FUNCTION invite_sync.accept_my_invitation(uuid) IS
$doc$Accept an invitation of my_invitations(), without its token. Always needs the invited address, verified; a device that its token is bound to is not asked for.
Returns and does what accept_invitation() does. Errors: not_authenticated, anonymous_user, user_banned, email_unverified, invitation_unknown (also one to another address), invitation_expired, invitation_used, invitation_revoked, invitation_declined, seats_exhausted, data_malformed.
Users. Locks the users (who accepts, who invited), the organizations and those above them, the invitation, and its roles. While somebody else is accepting it, first waits for the end of their transaction, and locks nothing when there is nothing left to accept then.$doc$;

CREATE FUNCTION invite_sync.my_invitations(after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (invitation_id uuid, organization_ids uuid[], organization_names text[], roles text[], platform_role text, inviter_name text,
                   created_at timestamptz, expires_at timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 5 AS 'MODULE_PATHNAME', 'invitation_list_mine';
COMMENT ON FUNCTION invite_sync.my_invitations(text, integer) IS
$doc$What is pending for the caller's verified address, the latest first; nothing for who has none. organization_names and roles are in the order of organization_ids. inviter_name is written by the inviter: show it as text. after: the cursor of the last row of the page before. page_size: 1 to 500.
Errors: not_authenticated, anonymous_user, user_banned, data_malformed.
Users. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.decline_invitation(token text) RETURNS invite_sync.invitation_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_decline';
COMMENT ON FUNCTION invite_sync.decline_invitation(text) IS
$doc$Decline an invitation. Its organizations do not invite the address again for 30 days, unless a service does. The inviter gets back what it took from their quota.
Needs the invited address, as accept_invitation() does; of a service the token alone.
Errors: not_authenticated, anonymous_user, user_banned, invitation_unknown, invitation_expired, invitation_used, invitation_revoked, invitation_declined, not_permitted (a link), email_unverified, email_mismatch, data_malformed.
Users, service_role, operators. Locks the users (who declines, who invited), the organizations and those above them, the invitation, and the inviter's quota.$doc$;

CREATE FUNCTION invite_sync.decline_my_invitation(invitation_id uuid) RETURNS invite_sync.invitation_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_decline_mine';
COMMENT ON FUNCTION invite_sync.decline_my_invitation(uuid) IS
$doc$Decline an invitation of my_invitations(), without its token; otherwise as decline_invitation().
Errors: not_authenticated, anonymous_user, user_banned, email_unverified, invitation_unknown (also one to another address), invitation_expired, invitation_used, invitation_revoked, invitation_declined, data_malformed.
Users. Locks the users (who declines, who invited), the organizations and those above them, the invitation, and the inviter's quota.$doc$;

CREATE FUNCTION invite_sync.signup_with_invitation(token text, password text, data jsonb DEFAULT '{}', device text DEFAULT NULL)
    RETURNS invite_sync.invitation_signup
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_signup';
COMMENT ON FUNCTION invite_sync.signup_with_invitation(text, text, jsonb, text) IS
$doc$Make an account with the invited address, confirmed, and accept the invitation with it. Then sign in with the password: no session is made here. Only for tokens that prove the mailbox, which nobody but the service and the mailbox ever held.
It passes none of the auth server's checks: no captcha, no look at leaked passwords, no hook, no rate limit of its. Where these matter turn invite_sync.signup off, or let a service call it that makes them.
An account that was never confirmed keeps its id and loses all that whoever opened it may have left: password, user metadata, telephone number, identities, sessions, refresh and one-time tokens, factors and passkeys. One that was confirmed, or is banned, is not touched (user_exists). Single sign-on accounts with the address are other people's.
data: the person's metadata (full_name, …), an object of at most 4 kB, which goes before that of the invitation. device: needed where the invitation is bound to one.
Errors: not_permitted (signed in, a token that does not prove the mailbox, or invite_sync.signup off), invitation_unknown, invitation_expired, invitation_used, invitation_revoked, invitation_declined, device_mismatch, password_weak (shorter than invite_sync.password_min_length characters or longer than 72 bytes), user_exists (also when the auth server makes it at this moment), seats_exhausted, migration_required, data_malformed; object_not_in_prerequisite_state where the functions of pgcrypto that hash the password were changed.
anon, service_role, operators. Locks the users (the account, who invited), the organizations and those above them, the invitation, and its roles.$doc$;
