-- ---------------------------------------------------------------------
-- Room invitation: offers to join, and what became of them
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.invitation (
    id uuid NOT NULL,
    kind text NOT NULL DEFAULT 'email',
    purpose text NOT NULL DEFAULT 'invitation',
    status text NOT NULL DEFAULT 'pending',
    email text,
    platform_role_id uuid,
    data jsonb NOT NULL DEFAULT '{}',
    inviter_id uuid,
    secret_digest bytea,
    proves_email boolean NOT NULL DEFAULT false,
    legacy_digest bytea,
    max_uses integer,
    uses integer NOT NULL DEFAULT 0,
    allowed_domain text,
    device_digest bytea,
    device_until timestamptz,
    alone boolean NOT NULL DEFAULT false,
    shadow boolean NOT NULL DEFAULT false,
    charged boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    renewed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    expires_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by uuid,
    CONSTRAINT invitation_pkey PRIMARY KEY (id),
    CONSTRAINT invitation_kind CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['email', 'link'])),
    CONSTRAINT invitation_purpose CHECK (purpose OPERATOR(pg_catalog.=) ANY (ARRAY['invitation', 'migration'])),
    CONSTRAINT invitation_status CHECK (status OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'accepted', 'declined', 'revoked', 'expired'])),
    CONSTRAINT invitation_closed CHECK ((status OPERATOR(pg_catalog.=) 'pending') OPERATOR(pg_catalog.=) (closed_at IS NULL)),
    CONSTRAINT invitation_email CHECK ((kind OPERATOR(pg_catalog.=) 'email') OPERATOR(pg_catalog.=) (email IS NOT NULL)
        AND pg_catalog.octet_length(email) OPERATOR(pg_catalog.<=) 254 AND email OPERATOR(pg_catalog.!~) '[A-Z[:cntrl:][:space:]]'),
    CONSTRAINT invitation_link CHECK (kind OPERATOR(pg_catalog.=) 'link'
        OR (max_uses IS NULL AND allowed_domain IS NULL AND uses OPERATOR(pg_catalog.<=) 1)),
    CONSTRAINT invitation_link_proves CHECK (kind OPERATOR(pg_catalog.=) 'email' OR NOT proves_email),
    CONSTRAINT invitation_uses CHECK (uses OPERATOR(pg_catalog.>=) 0 AND (max_uses IS NULL OR (max_uses OPERATOR(pg_catalog.>=) 1 AND uses OPERATOR(pg_catalog.<=) max_uses))),
    CONSTRAINT invitation_secret CHECK (pg_catalog.octet_length(secret_digest) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT invitation_legacy CHECK (pg_catalog.octet_length(legacy_digest) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT invitation_device CHECK (pg_catalog.octet_length(device_digest) OPERATOR(pg_catalog.=) 32
        AND (device_digest IS NULL) OPERATOR(pg_catalog.=) (device_until IS NULL)),
    CONSTRAINT invitation_data CHECK (pg_catalog.jsonb_typeof(data) OPERATOR(pg_catalog.=) 'object')
);
CREATE INDEX invitation_email_pending ON invite_sync.invitation (email) WHERE status OPERATOR(pg_catalog.=) 'pending';
CREATE INDEX invitation_email_declined ON invite_sync.invitation (email, closed_at) WHERE status OPERATOR(pg_catalog.=) 'declined';
CREATE INDEX invitation_inviter ON invite_sync.invitation (inviter_id, created_at, id);
CREATE INDEX invitation_inviter_due ON invite_sync.invitation (inviter_id, expires_at) WHERE status OPERATOR(pg_catalog.=) 'pending' AND charged;
CREATE INDEX invitation_due ON invite_sync.invitation (expires_at) WHERE status OPERATOR(pg_catalog.=) 'pending';
CREATE INDEX invitation_closed_at ON invite_sync.invitation (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX invitation_created_at ON invite_sync.invitation (created_at, id);
CREATE UNIQUE INDEX invitation_legacy_digest ON invite_sync.invitation (legacy_digest) WHERE legacy_digest IS NOT NULL;

CREATE TABLE invite_sync.invitation_grant (
    invitation_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    role_id uuid NOT NULL,
    open boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    CONSTRAINT invitation_grant_pkey PRIMARY KEY (invitation_id, organization_id)
);
CREATE INDEX invitation_grant_organization ON invite_sync.invitation_grant (organization_id, created_at, invitation_id);
CREATE INDEX invitation_grant_open ON invite_sync.invitation_grant (organization_id, invitation_id) WHERE open;
CREATE INDEX invitation_grant_role ON invite_sync.invitation_grant (role_id) WHERE open;

CREATE TABLE invite_sync.invitation_acceptance (
    invitation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT invitation_acceptance_pkey PRIMARY KEY (invitation_id, user_id)
);
CREATE INDEX invitation_acceptance_user ON invite_sync.invitation_acceptance (user_id);

CREATE TABLE invite_sync.invitation_key (
    actor_id uuid NOT NULL,
    key text NOT NULL,
    invitation_id uuid NOT NULL,
    request_digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT invitation_key_pkey PRIMARY KEY (actor_id, key),
    CONSTRAINT invitation_key_key CHECK (pg_catalog.octet_length(key) OPERATOR(pg_catalog.<=) 200)
);
CREATE INDEX invitation_key_created_at ON invite_sync.invitation_key (created_at);
CREATE INDEX invitation_key_invitation ON invite_sync.invitation_key (invitation_id);

CREATE TABLE invite_sync.invitation_policy (
    organization_id uuid NOT NULL,
    ttl interval NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT invitation_policy_pkey PRIMARY KEY (organization_id),
    CONSTRAINT invitation_policy_ttl CHECK (ttl OPERATOR(pg_catalog.>=) '15 minutes' AND ttl OPERATOR(pg_catalog.<=) '30 days')
);

COMMENT ON TABLE invite_sync.invitation IS
    'Invitations, by email or by link. Personal columns: email, an address, which stands nowhere else in this schema but in external_user; data (names); inviter_id and closed_by, users'' ids. No secret can be read from it: the token is kept as a SHA-256 digest.';
COMMENT ON COLUMN invite_sync.invitation.id IS 'a UUIDv7; the first half of the token, not a secret';
COMMENT ON COLUMN invite_sync.invitation.kind IS 'email: to one address; link: to whoever has it';
COMMENT ON COLUMN invite_sync.invitation.purpose IS 'invitation, or migration of an account from another provider';
COMMENT ON COLUMN invite_sync.invitation.status IS 'pending, accepted, declined, revoked or expired; one that is pending here is expired all the same once expires_at has passed';
COMMENT ON COLUMN invite_sync.invitation.email IS 'to whom: trimmed, ASCII letters in lower case';
COMMENT ON COLUMN invite_sync.invitation.platform_role_id IS 'the platform role that it gives';
COMMENT ON COLUMN invite_sync.invitation.data IS 'what goes into the user''s metadata where it is absent there: full_name, job_title, …; at most 4 kB';
COMMENT ON COLUMN invite_sync.invitation.inviter_id IS 'the user who invites; NULL: a service';
COMMENT ON COLUMN invite_sync.invitation.secret_digest IS 'SHA-256 of the secret half of the token; NULL: there is no token';
COMMENT ON COLUMN invite_sync.invitation.proves_email IS 'nobody but the service ever held the token, so who has it has the mailbox';
COMMENT ON COLUMN invite_sync.invitation.legacy_digest IS 'SHA-256 of the token of an older system that it was imported from';
COMMENT ON COLUMN invite_sync.invitation.max_uses IS 'of a link; NULL: no limit';
COMMENT ON COLUMN invite_sync.invitation.uses IS 'how often it was accepted';
COMMENT ON COLUMN invite_sync.invitation.allowed_domain IS 'of a link: only verified addresses of this domain';
COMMENT ON COLUMN invite_sync.invitation.device_digest IS 'SHA-256 of the device that it is bound to';
COMMENT ON COLUMN invite_sync.invitation.device_until IS 'until when it is bound';
COMMENT ON COLUMN invite_sync.invitation.alone IS 'it gives no organization';
COMMENT ON COLUMN invite_sync.invitation.shadow IS
    'answers an inviter who may not know that the address is a member or invited already: looks like an invitation to them and is none';
COMMENT ON COLUMN invite_sync.invitation.charged IS 'taken from the inviter''s quota, and not given back yet';
COMMENT ON COLUMN invite_sync.invitation.created_at IS 'when it was made';
COMMENT ON COLUMN invite_sync.invitation.renewed_at IS 'when it was made or sent again';
COMMENT ON COLUMN invite_sync.invitation.expires_at IS 'until when it can be accepted';
COMMENT ON COLUMN invite_sync.invitation.closed_at IS 'when it stopped being pending';
COMMENT ON COLUMN invite_sync.invitation.closed_by IS 'the user who accepted, declined or revoked it; NULL: a service, or nobody';
COMMENT ON CONSTRAINT invitation_pkey ON invite_sync.invitation IS 'one row an invitation; tokens are found by it';
COMMENT ON INDEX invite_sync.invitation_email_pending IS 'what is pending for an address';
COMMENT ON INDEX invite_sync.invitation_email_declined IS 'who has declined lately';
COMMENT ON INDEX invite_sync.invitation_inviter IS 'invitations of an inviter, in the order of lists';
COMMENT ON INDEX invite_sync.invitation_inviter_due IS 'what goes back into an inviter''s quota when it expires';
COMMENT ON INDEX invite_sync.invitation_due IS 'what has expired and does not say so yet';
COMMENT ON INDEX invite_sync.invitation_closed_at IS 'old ones, for retention';
COMMENT ON INDEX invite_sync.invitation_created_at IS 'the order of lists';
COMMENT ON INDEX invite_sync.invitation_legacy_digest IS 'tokens of an older system are found by their digest';
COMMENT ON TABLE invite_sync.invitation_grant IS 'What invitations give: organizations and roles in them. The organizations of an invitation never change. No personal columns.';
COMMENT ON COLUMN invite_sync.invitation_grant.invitation_id IS 'the invitation';
COMMENT ON COLUMN invite_sync.invitation_grant.organization_id IS 'the organization';
COMMENT ON COLUMN invite_sync.invitation_grant.role_id IS 'the role there';
COMMENT ON COLUMN invite_sync.invitation_grant.open IS 'the invitation is pending, whatever its expires_at says';
COMMENT ON COLUMN invite_sync.invitation_grant.created_at IS 'that of the invitation';
COMMENT ON CONSTRAINT invitation_grant_pkey ON invite_sync.invitation_grant IS 'an invitation gives one role in an organization';
COMMENT ON INDEX invite_sync.invitation_grant_organization IS 'invitations of an organization, in the order of lists';
COMMENT ON INDEX invite_sync.invitation_grant_open IS 'what is pending in an organization';
COMMENT ON INDEX invite_sync.invitation_grant_role IS 'invitations that give a role';
COMMENT ON TABLE invite_sync.invitation_acceptance IS 'Who accepted what. Personal columns: user_id, an id.';
COMMENT ON COLUMN invite_sync.invitation_acceptance.invitation_id IS 'the invitation';
COMMENT ON COLUMN invite_sync.invitation_acceptance.user_id IS 'the user';
COMMENT ON COLUMN invite_sync.invitation_acceptance.accepted_at IS 'when';
COMMENT ON CONSTRAINT invitation_acceptance_pkey ON invite_sync.invitation_acceptance IS 'a user accepts an invitation once';
COMMENT ON INDEX invite_sync.invitation_acceptance_user IS 'what a user who is deleted accepted';
COMMENT ON TABLE invite_sync.invitation_key IS 'Idempotency keys of create_invitation(), which count for 24 hours. Personal columns: actor_id, a user''s id.';
COMMENT ON COLUMN invite_sync.invitation_key.actor_id IS 'the inviter; zeros: a service';
COMMENT ON COLUMN invite_sync.invitation_key.key IS 'the caller''s own, at most 200 bytes';
COMMENT ON COLUMN invite_sync.invitation_key.invitation_id IS 'what was made under it';
COMMENT ON COLUMN invite_sync.invitation_key.request_digest IS 'SHA-256 of the address and the grants asked for';
COMMENT ON COLUMN invite_sync.invitation_key.created_at IS 'since when';
COMMENT ON CONSTRAINT invitation_key_pkey ON invite_sync.invitation_key IS 'a key of an inviter stands for one invitation';
COMMENT ON INDEX invite_sync.invitation_key_created_at IS 'keys that count no more';
COMMENT ON INDEX invite_sync.invitation_key_invitation IS 'keys of an invitation that is pruned';
COMMENT ON TABLE invite_sync.invitation_policy IS 'How long invitations to an organization last unless their call says so. No personal columns.';
COMMENT ON COLUMN invite_sync.invitation_policy.organization_id IS 'the organization';
COMMENT ON COLUMN invite_sync.invitation_policy.ttl IS '15 minutes to 30 days';
COMMENT ON COLUMN invite_sync.invitation_policy.updated_at IS 'since when';
COMMENT ON CONSTRAINT invitation_policy_pkey ON invite_sync.invitation_policy IS 'one row an organization';

ALTER TABLE invite_sync.invitation ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.invitation_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.invitation_acceptance ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.invitation_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.invitation_policy ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.invitation', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.invitation_grant', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.invitation_acceptance', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.invitation_key', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.invitation_policy', '');

-- Two invitations to one address without an organization: those with one are told apart under the organization's lock.
CREATE UNIQUE INDEX invitation_alone ON invite_sync.invitation (email, purpose)
    WHERE status OPERATOR(pg_catalog.=) 'pending' AND NOT shadow AND kind OPERATOR(pg_catalog.=) 'email' AND alone;
COMMENT ON INDEX invite_sync.invitation_alone IS 'one pending invitation without an organization an address; the functions say already_invited';

-- Seats that are kept for who is invited: an address counts once, and no more once its invitation has expired. Shadows
-- count as well, or the seats would tell what they hide.
CREATE OR REPLACE FUNCTION invite_sync.seats_pending(pool_id uuid) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT count(DISTINCT i.email) FROM invite_sync.seat_pool_organizations($1) AS s (id)
      JOIN invite_sync.invitation_grant AS g ON g.organization_id = s.id AND g.open
      JOIN invite_sync.invitation AS i ON i.id = g.invitation_id
     WHERE i.kind = 'email' AND i.status = 'pending' AND i.expires_at > clock_timestamp()
    $$;
COMMENT ON FUNCTION invite_sync.seats_pending(uuid) IS
    'The seats of this organization that pending email invitations hold, each address once. Internal.';
CREATE TRIGGER invitation_grant_check_seats AFTER INSERT ON invite_sync.invitation_grant
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.membership_check_seats();
COMMENT ON TRIGGER invitation_grant_check_seats ON invite_sync.invitation_grant IS 'members and invitations fit into the seats';

-- ---- inviting ----

CREATE TYPE invite_sync.invitation_created AS (
    invitation_id uuid, token text, url text, email text, status text, expires_at timestamptz, reused boolean, skipped boolean);
COMMENT ON TYPE invite_sync.invitation_created IS
    'An invitation that was made or sent again. token and url are shown this once: nothing that is stored gives them back.';

CREATE TYPE invite_sync.invitation_result AS (
    invitation_id uuid, kind text, status text, email text, organization_ids uuid[], inviter_id uuid,
    created_at timestamptz, expires_at timestamptz, closed_at timestamptz);
COMMENT ON TYPE invite_sync.invitation_result IS 'An invitation, as the functions that end one answer.';

CREATE TYPE invite_sync.invitation_policy_result AS (organization_id uuid, ttl interval, updated_at timestamptz);
COMMENT ON TYPE invite_sync.invitation_policy_result IS
    'How long invitations to an organization last; ttl is null where invite_sync.invitation_ttl says it.';

CREATE FUNCTION invite_sync.create_invitation(email text, role text DEFAULT NULL, organization_id uuid DEFAULT NULL, grants jsonb DEFAULT NULL,
        platform_role text DEFAULT NULL, data jsonb DEFAULT '{}', expires_in interval DEFAULT NULL, delivery text DEFAULT 'return',
        on_pending text DEFAULT 'refuse', idempotency_key text DEFAULT NULL, inviter_id uuid DEFAULT NULL)
    RETURNS invite_sync.invitation_created
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_create';
COMMENT ON FUNCTION invite_sync.create_invitation(text, text, uuid, jsonb, text, jsonb, interval, text, text, text, uuid) IS
$doc$Invite an address. role (member when left out) is one in organization_id; grants, instead of both, is [{"organization_id": …, "role": …}, …], at most 100; with neither it invites to the application alone. platform_role: a global role, given by services only. data: an object of at most 4 kB that acceptance writes into the user's metadata where it is absent there. expires_in: 15 minutes to 30 days, else as set_invitation_policy() or invite_sync.invitation_ttl says. delivery: return (the token, once) or none. on_pending: what becomes of an invitation of this address to one of these organizations that is pending: refuse, resend (a new token for the same offer, if its inviter may still give it; else already_invited), replace. idempotency_key: the call with the same key, address and grants is answered with the same invitation for 24 hours, without a token (reused). inviter_id: services invite on a user's behalf, with that user's rights, quota and limits; without it they have no limits.
The token proves the address only where a service got it; one that a user got is good for whoever signed in with that address. already_member, already_invited and invitation_declined are told only to those who may list them; to others the answer is the same as for any address.
Errors: email_malformed, data_malformed, window_malformed, role_unknown, organization_unknown, not_permitted (needs invitations.create; a platform role; another's inviter_id; to replace somebody else's needs invitations.revoke), escalation (the role allows more than the inviter has), already_member, already_invited, invitation_declined (of the last 30 days, retry_at=…), idempotency_conflict, seats_exhausted, quota_exhausted, rate_limited, user_unknown and user_banned and anonymous_user (inviter_id), not_authenticated; 40001 when the address is invited by somebody else in the same moment.
Users, service_role, operators. Locks the inviter (and inviters whose expired invitation of this address is settled), the organizations and those above them, the roles, the invitations of this address, the inviter's quota and limits.$doc$;

CREATE FUNCTION invite_sync.create_invite_link(organization_id uuid, role text DEFAULT 'member', max_uses integer DEFAULT NULL,
        expires_in interval DEFAULT NULL, allowed_domain text DEFAULT NULL, inviter_id uuid DEFAULT NULL)
    RETURNS invite_sync.invitation_created
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_create_link';
COMMENT ON FUNCTION invite_sync.create_invite_link(uuid, text, integer, interval, text, uuid) IS
$doc$Make a link by which whoever has it joins an organization. role: as in create_invitation(). max_uses: how many people, 1 to 1000000; NULL: as many as come. expires_in: 15 minutes to 30 days. allowed_domain: only people with a verified address of this domain. A link proves nobody's address, takes a seat only when it is accepted, and counts as one invitation in the inviter's quota. inviter_id: as in create_invitation().
Errors: organization_unknown, not_permitted (needs invitations.create), escalation, role_unknown, window_malformed, quota_exhausted, rate_limited, data_malformed, user_unknown, user_banned, anonymous_user, not_authenticated.
Members with invitations.create, service_role, operators. Locks the inviter, the organization and those above it, the role, the inviter's quota and limits.$doc$;

CREATE FUNCTION invite_sync.resend_invitation(invitation_id uuid, inviter_id uuid DEFAULT NULL) RETURNS invite_sync.invitation_created
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_resend';
COMMENT ON FUNCTION invite_sync.resend_invitation(uuid, uuid) IS
$doc$Give a pending or expired invitation a new token and the time that it had at first. The old token is void, and so is a device's binding; the new one proves the address only where a service got it. One that has expired takes quota and seats as a new one does. At most once in 60 seconds, and 5 messages a day to an address from all inviters. Links too. inviter_id: services act for a user.
Errors: invitation_unknown (also of one that the caller may not list), not_permitted (it takes invitations.create and all that the role allows in each of its organizations; one that gives a platform role is sent again by services only), invitation_used, invitation_declined, invitation_revoked (also when who sent it may not give any more what it gives), already_member, already_invited, seats_exhausted, quota_exhausted, rate_limited, data_malformed, user_unknown, user_banned, anonymous_user, not_authenticated.
The inviter, members with invitations.read and invitations.create, service_role, operators. Locks the caller and the inviter, the organizations and those above them, the invitation, quota and limits.$doc$;

CREATE FUNCTION invite_sync.revoke_invitation(invitation_id uuid, inviter_id uuid DEFAULT NULL) RETURNS invite_sync.invitation_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_revoke';
COMMENT ON FUNCTION invite_sync.revoke_invitation(uuid, uuid) IS
$doc$Take a pending invitation or link back: its token is void, its seats are free, its quota is not given back. inviter_id: services act for a user.
Returns the invitation. Errors: invitation_unknown (also of one that the caller may not list), not_permitted (it takes invitations.revoke in each of its organizations), invitation_used, invitation_declined, invitation_revoked, invitation_expired, data_malformed, user_unknown, user_banned, anonymous_user, not_authenticated.
The inviter, members with invitations.read and invitations.revoke, service_role, operators. Locks the caller and the inviter, the organizations and those above them, and the invitation.$doc$;

CREATE FUNCTION invite_sync.list_invitations(organization_id uuid DEFAULT NULL, after text DEFAULT NULL, page_size integer DEFAULT 50,
        status text DEFAULT NULL, inviter_id uuid DEFAULT NULL)
    RETURNS TABLE (invitation_id uuid, kind text, email text, invitation_status text, platform_role text, invited_by uuid, max_uses integer, uses integer,
                   allowed_domain text, created_at timestamptz, renewed_at timestamptz, expires_at timestamptz, closed_at timestamptz, closed_by uuid,
                   organization_ids uuid[], roles text[], cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'invitation_list';
COMMENT ON FUNCTION invite_sync.list_invitations(uuid, text, integer, text, uuid) IS
$doc$The invitations to an organization, or (organization_id left out) those that the caller has sent, to a service all; the latest first. after: the cursor of the last row of the page before. page_size: 1 to 500. status: pending, accepted, declined, revoked or expired; NULL: all. One whose time is over is expired from that moment on. roles go with organization_ids; in the list of an organization only that one is shown. inviter_id: services list for a user. No token can be read from it.
Errors: organization_unknown, not_permitted (needs invitations.read), data_malformed, user_unknown, user_banned, anonymous_user, not_authenticated.
Members with invitations.read, and every user for what they sent; service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.set_invitation_policy(organization_id uuid, ttl interval) RETURNS invite_sync.invitation_policy_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_set_policy';
COMMENT ON FUNCTION invite_sync.set_invitation_policy(uuid, interval) IS
$doc$How long invitations to an organization last where their call does not say. ttl: 15 minutes to 30 days; NULL: as invite_sync.invitation_ttl says. Those that were sent already keep their time. The same again changes nothing and says so.
Returns the policy. Errors: organization_unknown, not_permitted (needs organization.update), window_malformed, data_malformed, not_authenticated, anonymous_user, user_banned.
Members with organization.update, service_role, operators. Locks the user, and the organization and those above it.$doc$;

CREATE PROCEDURE invite_sync.settle_invitations(batch_size integer DEFAULT 1000)
    LANGUAGE C AS 'MODULE_PATHNAME', 'invitation_settle';
COMMENT ON PROCEDURE invite_sync.settle_invitations(integer) IS
$doc$Write down which invitations have expired, and give their quota back. They count as expired without it too: it keeps the indexes of pending ones small. Commits after each batch_size (1 to 100000) rows; never waits: what somebody has locked is left for the next time. To be run by pg_cron or the like.
Errors: not_permitted, 22023, 2D000 (in a transaction block). Operators. Locks the inviters of a batch, and its invitations and quotas.$doc$;

CREATE PROCEDURE invite_sync.prune_invitations(older_than interval, batch_size integer DEFAULT 1000)
    LANGUAGE C AS 'MODULE_PATHNAME', 'invitation_prune';
COMMENT ON PROCEDURE invite_sync.prune_invitations(interval, integer) IS
$doc$Retention: delete the invitations that ended longer ago than older_than, with what they gave and who accepted them, and idempotency keys of more than 24 hours. One that was declined stays for 30 days at least, as long as it keeps its organization from inviting again. Commits after each batch_size (1 to 100000) rows. Expired ones have ended once settle_invitations() has written it down.
Errors: not_permitted, 22023, 2D000 (in a transaction block). Operators. Locks the invitations of a batch; those that somebody else has locked are left for the next time.$doc$;

-- ---- many at once ----

CREATE FUNCTION invite_sync.create_invitations(invitations jsonb, role text DEFAULT NULL, organization_id uuid DEFAULT NULL,
        expires_in interval DEFAULT NULL, delivery text DEFAULT 'return', on_pending text DEFAULT 'refuse', inviter_id uuid DEFAULT NULL)
    RETURNS TABLE (n integer, email text, invitation_id uuid, token text, url text, status text, expires_at timestamptz, reused boolean, skipped boolean,
                   reason text, message text, csv text)
    LANGUAGE C VOLATILE ROWS 100 AS 'MODULE_PATHNAME', 'invitation_create_many';
COMMENT ON FUNCTION invite_sync.create_invitations(jsonb, text, uuid, interval, text, text, uuid) IS
$doc$Invite up to 500 addresses; one that is refused keeps none of the others back. invitations: an array of objects with email and, each if wanted, role, organization_id, grants, platform_role, data, expires_in, full_name, job_title (the last two go into data); any other key is refused. role, organization_id, expires_in: for the rows that say nothing. The rest as in create_invitation(), which each row is like, but for idempotency keys.
A row for each object, in order: what create_invitation() returns, or reason and message of the refusal and csv, the line email, role, organization_id, reason (a field that a spreadsheet would take for a formula has ' before it). skipped: nothing was made, because the address is a member or invited already and on_pending is refuse. A call with failed rows counts as one of check_invitation(); beyond that limit failed rows say rate_limited only. A reason of five characters is an SQLSTATE: the row may be tried again.
Errors: data_malformed, window_malformed, not_permitted (another's inviter_id), user_unknown and user_banned and anonymous_user (inviter_id), not_authenticated; 40001 as in create_invitation().
Users, service_role, operators. Locks what create_invitation() locks for all rows, users and organizations before the first.$doc$;

CREATE FUNCTION invite_sync.check_invitation(email text, role text DEFAULT NULL, organization_id uuid DEFAULT NULL, inviter_id uuid DEFAULT NULL)
    RETURNS TABLE (check_name text, ok boolean, reason text, message text)
    LANGUAGE C VOLATILE ROWS 10 AS 'MODULE_PATHNAME', 'invitation_check';
COMMENT ON FUNCTION invite_sync.check_invitation(text, text, uuid, uuid) IS
$doc$Could this be invited? Nothing is sent, and nothing written but the limit of such questions (60 an hour and user), which questions stands for where it is used up: then it is the only row. Else: email, organization, role, member, invited, declined, seats, quota, rate_limit, messages, as far as they apply; reason and message are those of the refusal. member, invited and declined are ok for those who may not list them, so the answer is the same for every address.
Errors: data_malformed (a role without an organization), not_permitted (another's inviter_id), user_unknown and user_banned and anonymous_user (inviter_id), not_authenticated, anonymous_user, user_banned.
Users, service_role, operators. Locks the role, the quota and limits, and gives them back at once but for that of the questions.$doc$;

CREATE VIEW invite_sync.invitation_import WITH (security_barrier = true) AS
    SELECT NULL::pg_catalog.text AS email, NULL::pg_catalog.text AS role, NULL::pg_catalog.text AS full_name,
           NULL::pg_catalog.text AS job_title, NULL::pg_catalog.text AS organization_id
     WHERE false;
COMMENT ON VIEW invite_sync.invitation_import IS
$doc$Invites what is copied into it: \copy invite_sync.invitation_import(email, role, full_name, job_title) from 'x.csv' csv header. role: with organization_id the role there (member when left out), without one the platform role (none when left out). No tokens come of it: who has verified the address accepts without one, resend_invitation() makes one. A row that is refused keeps none of the others back: see invitation_import_failed(). Empty to read. service_role and operators.$doc$;

CREATE FUNCTION invite_sync.invitation_import_row() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_import_row';
COMMENT ON FUNCTION invite_sync.invitation_import_row() IS 'Trigger: invites, or keeps the row as a failed one.';
CREATE FUNCTION invite_sync.invitation_import_statement() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'invitation_import_statement';
COMMENT ON FUNCTION invite_sync.invitation_import_statement() IS 'Trigger: forgets what failed before; says how many failed now.';
CREATE TRIGGER invitation_import_row INSTEAD OF INSERT ON invite_sync.invitation_import
    FOR EACH ROW EXECUTE FUNCTION invite_sync.invitation_import_row();
COMMENT ON TRIGGER invitation_import_row ON invite_sync.invitation_import IS 'invites';
CREATE TRIGGER invitation_import_before BEFORE INSERT ON invite_sync.invitation_import
    FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.invitation_import_statement();
COMMENT ON TRIGGER invitation_import_before ON invite_sync.invitation_import IS 'forgets what failed before';
CREATE TRIGGER invitation_import_after AFTER INSERT ON invite_sync.invitation_import
    FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.invitation_import_statement();
COMMENT ON TRIGGER invitation_import_after ON invite_sync.invitation_import IS 'says how many failed';

CREATE FUNCTION invite_sync.invitation_import_failed()
    RETURNS TABLE (email text, role text, full_name text, job_title text, organization_id text, reason text, message text)
    LANGUAGE C STABLE ROWS 10 AS 'MODULE_PATHNAME', 'invitation_import_failed';
COMMENT ON FUNCTION invite_sync.invitation_import_failed() IS
$doc$The rows of the last statement that imported into invitation_import in this session and were refused, as they came, with the reason: \copy (SELECT * FROM invite_sync.invitation_import_failed()) to 'failed.csv' csv header. The first 100000 are kept, in the session's memory and nowhere else, until the next import or the end of the session. A reason of five characters is an SQLSTATE.
Errors: not_permitted. service_role, operators. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.import_invitations(invitations jsonb)
    RETURNS TABLE (n integer, email text, invitation_id uuid, status text, expires_at timestamptz, reused boolean, reason text, message text)
    LANGUAGE C VOLATILE ROWS 100 AS 'MODULE_PATHNAME', 'invitation_import_older';
COMMENT ON FUNCTION invite_sync.import_invitations(jsonb) IS
$doc$Take over the pending invitations of an older system, up to 10000 a call. invitations: an array of objects with email and, each if there is one, role, organization_id, platform_role, expires_at (at most 30 days from now count), inviter_id, token or token_sha256 (hexadecimal), proves_email, data, full_name, job_title. Tokens that went out already go on working: the older one's SHA-256 is what is kept. It is good for whoever has verified the address, unless proves_email says that nobody but the mailbox ever got it; a token of less than 16 characters is refused. Nobody's quota is charged; at acceptance the inviter is asked for as with any other.
A row for each object, in order. reused: it had been imported already, or the same is pending, so a second run changes nothing. Else reason and message: email_malformed, data_malformed, window_malformed, role_unknown, organization_unknown, user_unknown (inviter_id), invitation_expired, already_member, already_invited (something else is pending), seats_exhausted, idempotency_conflict (the token was imported for another address), or an SQLSTATE.
Errors: data_malformed, not_permitted, 40001. service_role, operators. Locks as create_invitations().$doc$;
