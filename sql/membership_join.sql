-- ---- joining by oneself ----

CREATE TYPE invite_sync.join_request_state AS (
    join_request_id uuid, organization_id uuid, user_id uuid, message text, status text, decided_by uuid,
    created_at timestamptz, decided_at timestamptz);
COMMENT ON TYPE invite_sync.join_request_state IS 'A request to join, as the functions that change one answer.';

CREATE FUNCTION invite_sync.request_to_join(organization_id uuid, message text DEFAULT NULL) RETURNS invite_sync.join_request_state
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_request';
COMMENT ON FUNCTION invite_sync.request_to_join(uuid, text) IS
$doc$Ask to join an organization that is open to users of the domain of the caller's verified email address. Where its enrollment is auto the caller becomes a member at once (status granted), never more unless somebody has invited them as more; where it is suggest, or they were removed from it before, the request waits (pending) for decide_join_request(). While one is pending, asking again returns it.
message: for those who decide, at most 1000 characters. Returns the request. Errors: not_authenticated, anonymous_user, user_banned, email_unverified, organization_unknown (also of one that is there, but not open to this domain), already_member, seats_exhausted (auto), data_malformed.
Users. Locks the user, and the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.decide_join_request(join_request_id uuid, granted boolean, role text DEFAULT 'member') RETURNS invite_sync.join_request_state
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_decide';
COMMENT ON FUNCTION invite_sync.decide_join_request(uuid, boolean, text) IS
$doc$Grant or deny a pending request to join. granted: true makes the user a member with the role, and clears the mark of an earlier removal. Who has become a member meanwhile stays what they are.
Returns the request. Errors: not_authenticated, join_request_unknown (also of another's organization, or decided already), not_permitted (needs members.add), escalation, role_unknown, user_unknown, user_banned, anonymous_user, seats_exhausted, data_malformed.
Members with members.add, service_role, operators. Locks the user, the organization and those above it, the role, and the request.$doc$;

CREATE FUNCTION invite_sync.cancel_join_request(join_request_id uuid) RETURNS invite_sync.join_request_state
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'membership_cancel';
COMMENT ON FUNCTION invite_sync.cancel_join_request(uuid) IS
$doc$Take the caller's own pending request to join back.
Returns the request. Errors: not_authenticated, anonymous_user, user_banned, join_request_unknown (also another user's, or decided already), data_malformed.
Users. Locks the user and the request.$doc$;

CREATE FUNCTION invite_sync.list_join_requests(organization_id uuid, after text DEFAULT NULL, page_size integer DEFAULT 50, status text DEFAULT 'pending')
    RETURNS TABLE (join_request_id uuid, user_id uuid, email text, display_name text, avatar_url text, message text, request_status text,
                   removed_at timestamptz, created_at timestamptz, decided_at timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'membership_list_requests';
COMMENT ON FUNCTION invite_sync.list_join_requests(uuid, text, integer, text) IS
$doc$The requests to join an organization, the latest first. after: the cursor of the last row of the page before. page_size: 1 to 500. status: pending, granted, denied or cancelled; NULL: all. email only for those who also have members.read. display_name, avatar_url and message are written by the user: show them as text, never trust them. removed_at: when the user was removed from the organization, if they were.
Errors: not_authenticated, anonymous_user, user_banned, organization_unknown, not_permitted (needs members.add), data_malformed.
Members with members.add, service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.suggested_organizations()
    RETURNS TABLE (organization_id uuid, organization_name text, at_once boolean, join_request_id uuid, requested_at timestamptz)
    LANGUAGE C STABLE ROWS 1 AS 'MODULE_PATHNAME', 'membership_suggested';
COMMENT ON FUNCTION invite_sync.suggested_organizations() IS
$doc$The organizations that the caller can join or ask to join, because they are open to the domain of the caller's verified email address; those that they are a member of are left out. at_once: request_to_join() makes them a member. join_request_id, requested_at: their pending request. Nothing without a verified address.
Errors: not_authenticated, anonymous_user, user_banned. Users. Locks nothing.$doc$;
