-- ---------------------------------------------------------------------
-- Room caller: acting as somebody
-- ---------------------------------------------------------------------

CREATE FUNCTION invite_sync.act_as(user_id uuid, role text DEFAULT 'authenticated') RETURNS jsonb
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'caller_act_as';
COMMENT ON FUNCTION invite_sync.act_as(uuid, text) IS
$doc$For the rest of the transaction be a caller as PostgREST would make them: sets the role and request.jwt.claims, as SET LOCAL does, so that policies and functions can be tried as that caller.
user_id: a user of auth.users, also a banned or soft-deleted one, whose token may not have expired yet; NULL for the other two roles. role: authenticated, or with user_id NULL: anon, service_role.
Returns the claims it set: for a user those that the auth server writes into a token, as far as they stand in auth.users (personal data). Back again: end the transaction, or roll back to a savepoint made before. Leaves an admin event where the transaction may write.
Operators, whose session may SET ROLE to that role. Errors: not_permitted; user_unknown; 22004, 22023 for arguments; 42704 when the role does not exist; 42501 when the session may not take it, and inside a security-definer function. Locks nothing.$doc$;
