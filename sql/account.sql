-- ---------------------------------------------------------------------
-- Room account: accounts made and imported, and people who come from another provider
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.external_user (
    id uuid NOT NULL,
    provider text NOT NULL,
    external_id text NOT NULL,
    email text,
    user_id uuid,
    user_since timestamptz,
    invitation_id uuid,
    migrated_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT external_user_pkey PRIMARY KEY (id),
    CONSTRAINT external_user_external_id UNIQUE (external_id, provider),
    CONSTRAINT external_user_provider CHECK (provider OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_-]{0,62}$'),
    CONSTRAINT external_user_external_id_length CHECK (pg_catalog.octet_length(external_id) OPERATOR(pg_catalog.>=) 1
        AND pg_catalog.octet_length(external_id) OPERATOR(pg_catalog.<=) 255),
    CONSTRAINT external_user_email CHECK (pg_catalog.octet_length(email) OPERATOR(pg_catalog.<=) 254),
    CONSTRAINT external_user_migrated CHECK (migrated_at IS NULL OR user_id IS NOT NULL)
);
CREATE INDEX external_user_user ON invite_sync.external_user (user_id);
CREATE INDEX external_user_unmigrated ON invite_sync.external_user (created_at, id) WHERE migrated_at IS NULL;
CREATE INDEX external_user_invitation ON invite_sync.external_user (invitation_id) WHERE invitation_id IS NOT NULL;
COMMENT ON TABLE invite_sync.external_user IS
    'Who somebody is at another provider. The row goes with its user. Personal columns: email; external_id and user_id, ids.';
COMMENT ON COLUMN invite_sync.external_user.id IS 'names the row';
COMMENT ON COLUMN invite_sync.external_user.provider IS 'the provider: clerk, auth0, …';
COMMENT ON COLUMN invite_sync.external_user.external_id IS 'the user''s id there, as it stands in sub of the provider''s tokens; placeholders of people who never signed up there begin with invited_';
COMMENT ON COLUMN invite_sync.external_user.email IS 'the address that was imported: trimmed, ASCII letters in lower case; no key to anything';
COMMENT ON COLUMN invite_sync.external_user.user_id IS 'the auth user; NULL: a placeholder';
COMMENT ON COLUMN invite_sync.external_user.user_since IS 'since when they were a user there';
COMMENT ON COLUMN invite_sync.external_user.invitation_id IS 'the last invitation to migrate';
COMMENT ON COLUMN invite_sync.external_user.migrated_at IS 'when they got a way to sign in here; NULL: not yet';
COMMENT ON COLUMN invite_sync.external_user.created_at IS 'when it was imported';
COMMENT ON CONSTRAINT external_user_pkey ON invite_sync.external_user IS 'one row an id';
COMMENT ON CONSTRAINT external_user_external_id ON invite_sync.external_user IS 'one row for a user of a provider; found by the id in a token';
COMMENT ON INDEX invite_sync.external_user_user IS 'where a user came from';
COMMENT ON INDEX invite_sync.external_user_unmigrated IS 'who has not migrated, in the order of the list';
COMMENT ON INDEX invite_sync.external_user_invitation IS 'whom an invitation migrates';

CREATE TABLE invite_sync.migration_policy (
    id boolean NOT NULL DEFAULT true,
    mode text NOT NULL,
    deadline timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT migration_policy_pkey PRIMARY KEY (id),
    CONSTRAINT migration_policy_id CHECK (id),
    CONSTRAINT migration_policy_mode CHECK (mode OPERATOR(pg_catalog.=) ANY (ARRAY['off', 'remind', 'enforce']))
);
COMMENT ON TABLE invite_sync.migration_policy IS 'What is asked of users who have not migrated; without a row, nothing (off). No personal columns.';
COMMENT ON COLUMN invite_sync.migration_policy.id IS 'there is one row at most';
COMMENT ON COLUMN invite_sync.migration_policy.mode IS 'off, remind or enforce';
COMMENT ON COLUMN invite_sync.migration_policy.deadline IS 'from when on enforce refuses; NULL: at once';
COMMENT ON COLUMN invite_sync.migration_policy.updated_at IS 'when it was set';
COMMENT ON CONSTRAINT migration_policy_pkey ON invite_sync.migration_policy IS 'there is one row at most';

ALTER TABLE invite_sync.external_user ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.migration_policy ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.external_user', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.migration_policy', '');

-- ---- accounts ----

CREATE TYPE invite_sync.account AS (user_id uuid, email text, email_confirmed boolean, platform_role text, created_at timestamptz);
COMMENT ON TYPE invite_sync.account IS 'An account that was made.';

CREATE FUNCTION invite_sync.create_user(email text, password text DEFAULT NULL, full_name text DEFAULT NULL, job_title text DEFAULT NULL,
        data jsonb DEFAULT '{}', platform_role text DEFAULT NULL, email_confirmed boolean DEFAULT true) RETURNS invite_sync.account
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'account_create';
COMMENT ON FUNCTION invite_sync.create_user(text, text, text, text, jsonb, text, boolean) IS
$doc$Make an account that the auth server takes for one of its own: the user signs in with the password. Its rows in the targets come with it. No mail is sent, and none of the auth server's checks is made: no captcha, no look at leaked passwords, no hook.
password: at least invite_sync.password_min_length characters and at most 72 bytes; NULL: none, so that the user signs in by a link, a provider or after recovery. full_name, job_title, data: their metadata; data is an object of at most 4 kB without role, provider, providers, sub, iss and *_verified. platform_role: a global role. email_confirmed (true): the address counts as theirs; of an unconfirmed one the auth server wants it to be confirmed first.
The columns aud and role are always authenticated: no argument sets them. Writes the event account.created.
Errors: not_permitted, email_malformed, password_weak, data_malformed, role_unknown, user_exists (also an account that was never confirmed, which stays as it is).
service_role, operators. Locks the role, and waits at most 5 s for somebody else who makes an account with the address.$doc$;

CREATE FUNCTION invite_sync.import_users(users jsonb)
    RETURNS TABLE (n integer, email text, user_id uuid, status text, migrated boolean, reason text, message text)
    LANGUAGE C VOLATILE ROWS 100 AS 'MODULE_PATHNAME', 'account_import';
COMMENT ON FUNCTION invite_sync.import_users(jsonb) IS
$doc$Make accounts for the users of another system, up to 1000 a call. No account that exists is altered, and one row that is refused keeps none of the others back.
users: an array of objects with email and, each if there is one, email_confirmed (true), password_digest, provider and external_id (who they are there; both or none), user_since, full_name, job_title, data (as of create_user()), platform_role, grants ([{"organization_id", "role"}], at most 100; each takes a seat), quota_granted (as of set_quota()). Other keys are refused.
password_digest: bcrypt ($2a$, $2b$, $2y$; cost 4 to 14); argon2i or argon2id, version 19, m at most 262144 (KiB), t at most 10, p at most 16; firebase scrypt as the auth server writes it ($fbscrypt$v=1,n=…,r=…,p=…,ss=…,sk=…$salt$hash), n at most 14, r at most 8, p at most 4. With one the user has migrated and signs in with the old password. Without one the account has no password until complete_migration() or the auth server's recovery sets it.
A row for each object, in order. status: created; reused, where provider and external_id have been imported with this address before, and nothing changes; placeholder, where external_id begins with invited_: nobody signed up there, so no account is made. Else reason and message: email_malformed, data_malformed (message names the key), role_unknown, organization_unknown, seats_exhausted, user_exists, idempotency_conflict (imported before with another address), or an SQLSTATE.
Errors: data_malformed, not_permitted; 40001. service_role, operators. Locks the organizations of all rows before the first of them, with those above them, then roles; the rows are worked off in order of their addresses.$doc$;

-- ---- migration ----

CREATE TYPE invite_sync.migration_figures AS (migrated bigint, unmigrated bigint, total_external bigint, total_auth bigint, total_active bigint);
COMMENT ON TYPE invite_sync.migration_figures IS
    'migrated, unmigrated and total_external: users of other providers. total_auth: auth users; total_active: those of them who are neither banned nor anonymous.';

CREATE FUNCTION invite_sync.migration_status() RETURNS invite_sync.migration_figures
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'account_migration_status';
COMMENT ON FUNCTION invite_sync.migration_status() IS
$doc$How far the migration is. Left out are placeholders (external_id begins with invited_) and users who are soft-deleted or gone; total_auth leaves out users who are soft-deleted.
Errors: not_permitted. service_role, operators. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.unmigrated_users(after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (provider text, external_id text, user_id uuid, email text, name text, role text, user_since timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'account_unmigrated';
COMMENT ON FUNCTION invite_sync.unmigrated_users(text, integer) IS
$doc$Who has not migrated, in the order in which they were imported. name is what they said of themselves, role the platform role, user_since when they signed up there (or else when their account was made). Left out are placeholders (external_id begins with invited_) and users who are soft-deleted or gone. after: the cursor of the last row of the page before; page_size: 1 to 500.
Errors: not_permitted, data_malformed. service_role, operators. Writes and locks nothing; works in READ ONLY transactions and on a standby. Personal columns: email, name.$doc$;

CREATE TYPE invite_sync.migration_setting AS (mode text, deadline timestamptz);
COMMENT ON TYPE invite_sync.migration_setting IS 'What is asked of users who have not migrated.';

CREATE FUNCTION invite_sync.set_migration_policy(mode text, deadline timestamptz DEFAULT NULL) RETURNS invite_sync.migration_setting
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'account_set_policy';
COMMENT ON FUNCTION invite_sync.set_migration_policy(text, timestamptz) IS
$doc$Say what is asked of users who have not migrated. mode: off; remind, where the application shows what check_migration() says; enforce, where require_migrated() refuses them, from deadline on (NULL: at once). Again with the same arguments it changes nothing. Writes the event account.migration_policy_set.
Errors: not_permitted; 22004, 22023. Operators. Locks the policy.$doc$;

CREATE TYPE invite_sync.migration_check AS (migrated boolean, mode text, deadline timestamptz);
COMMENT ON TYPE invite_sync.migration_check IS 'Whether the caller has migrated, and what is asked of who has not.';

CREATE FUNCTION invite_sync.check_migration() RETURNS invite_sync.migration_check
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'account_check';
COMMENT ON FUNCTION invite_sync.check_migration() IS
$doc$Has the caller migrated, and what is asked of who has not? Who came from nowhere else has.
Errors: not_authenticated, anonymous_user, user_banned. Users. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.require_migrated() RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'account_require_migrated';
COMMENT ON FUNCTION invite_sync.require_migrated() IS
$doc$True, or migration_required where the policy is enforce, its deadline has passed, and the caller has not migrated: for the application's own functions. Of a service always true.
Errors: migration_required, not_authenticated, anonymous_user, user_banned. Users, service_role, operators. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE TYPE invite_sync.migration_completed AS (user_id uuid, email text, migrated_at timestamptz, password_set boolean);
COMMENT ON TYPE invite_sync.migration_completed IS
    'A user who has migrated. password_set: the password is the one that was passed; false: the account had one already, which stays.';

CREATE FUNCTION invite_sync.complete_migration(provider text, external_id text, password text) RETURNS invite_sync.migration_completed
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'account_complete';
COMMENT ON FUNCTION invite_sync.complete_migration(text, text, text) IS
$doc$Give a user of another provider the password that they chose. The service vouches that who chose it has just shown a valid session of the provider for this external_id: call it for nothing less. It acts once. A confirmed account that has got a password meanwhile (by recovery) keeps it: who has nothing but an old session does not replace it.
Whether the address is confirmed stays as it is. Writes the event account.migrated.
Errors: not_permitted, user_unknown (also a placeholder, and who is deleted), user_banned, user_exists (migrated already), password_weak, data_malformed. service_role, operators. Locks the user and the row of external_user.$doc$;

CREATE FUNCTION invite_sync.create_migration_invitation(provider text, external_id text, expires_in interval DEFAULT NULL)
    RETURNS invite_sync.invitation_created
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'account_invite_to_migrate';
COMMENT ON FUNCTION invite_sync.create_migration_invitation(text, text, interval) IS
$doc$A token that proves the mailbox, for a mail to the address of an account that has not migrated: complete_migration_by_token() takes it, and nothing else does. The one before is revoked. expires_in: 15 minutes to 30 days (NULL: invite_sync.invitation_ttl). The token is shown this once. Hand it to nobody but the mailbox. Writes the event account.migration_invited.
Errors: not_permitted, user_unknown (also a placeholder, and who is deleted), user_banned, user_exists (migrated already), email_malformed (the account has no address), window_malformed, data_malformed; 40001: try again. service_role, operators. Locks the user, the invitation before, and the row of external_user.$doc$;

CREATE FUNCTION invite_sync.complete_migration_by_token(token text, password text) RETURNS invite_sync.migration_completed
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'account_complete_by_token';
COMMENT ON FUNCTION invite_sync.complete_migration_by_token(text, text) IS
$doc$Give the account that a token of create_migration_invitation() was sent to the password that its owner chose, and confirm its address, which the token proves. It acts once. A confirmed account that has got a password meanwhile keeps it. Then sign in with the password: no session is made here. Writes the event account.migrated.
Errors: invitation_unknown (whatever is wrong with the token, and tokens of other invitations), invitation_expired, invitation_used, invitation_revoked, email_mismatch (the account has another address by now), user_exists (migrated already), user_unknown, user_banned, password_weak, data_malformed. Everybody. Locks the user, the invitation, and the row of external_user.$doc$;

CREATE FUNCTION invite_sync.link_external_user(provider text, external_id text, user_id uuid) RETURNS invite_sync.migration_completed
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'account_link';
COMMENT ON FUNCTION invite_sync.link_external_user(text, text, uuid) IS
$doc$Say that a user of another provider is this auth user, who can sign in here already, and so has migrated: import_users() refused the row as user_exists, or they have set a password by the auth server's recovery. The service vouches that both sessions are the same person's: that the addresses are alike is not enough. Again with the same arguments it changes nothing. Writes the event account.linked.
Errors: not_permitted, user_unknown, user_banned, anonymous_user, user_exists (that external user is another auth user), data_malformed. service_role, operators. Locks the user and the row of external_user.$doc$;
