-- ---------------------------------------------------------------------
-- Room quota: how many invitations in all, and how many actions per window
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.user_invitation_quota (
    user_id uuid NOT NULL,
    granted integer NOT NULL,
    used integer NOT NULL DEFAULT 0,
    remaining integer GENERATED ALWAYS AS (GREATEST(granted OPERATOR(pg_catalog.-) used, 0)) STORED,
    default_given boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT user_invitation_quota_pkey PRIMARY KEY (user_id),
    CONSTRAINT user_invitation_quota_granted CHECK (granted OPERATOR(pg_catalog.>=) 0),
    CONSTRAINT user_invitation_quota_used CHECK (used OPERATOR(pg_catalog.>=) 0)
);
COMMENT ON TABLE invite_sync.user_invitation_quota IS
    'How many invitations a user may send in all. A user without a row has invite_sync.default_quota once their address is verified, and the first function that writes makes the row. What expired meanwhile counts as used here until the next such function; my_quota() and quota_report() say what is right. Personal columns: user_id, an id.';
COMMENT ON COLUMN invite_sync.user_invitation_quota.user_id IS 'the user';
COMMENT ON COLUMN invite_sync.user_invitation_quota.granted IS 'in all, ever';
COMMENT ON COLUMN invite_sync.user_invitation_quota.used IS 'taken and not given back: accepted, revoked and pending ones';
COMMENT ON COLUMN invite_sync.user_invitation_quota.remaining IS 'granted without used; 0 where more is used than is granted by now';
COMMENT ON COLUMN invite_sync.user_invitation_quota.default_given IS
    'what a verified address brings is in granted, or set_quota() stands in its place; false: it is added once the address is verified';
COMMENT ON COLUMN invite_sync.user_invitation_quota.updated_at IS 'when it last changed';
COMMENT ON CONSTRAINT user_invitation_quota_pkey ON invite_sync.user_invitation_quota IS 'one row a user';

CREATE TABLE invite_sync.rate_limit_rule (
    action text NOT NULL,
    scope text NOT NULL,
    max_actions integer,
    per interval NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT rate_limit_rule_pkey PRIMARY KEY (action, scope),
    CONSTRAINT rate_limit_rule_action CHECK (pg_catalog.char_length(action) OPERATOR(pg_catalog.<=) 63 AND action OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_.-]*$'),
    CONSTRAINT rate_limit_rule_scope CHECK (scope OPERATOR(pg_catalog.=) ANY (ARRAY['user', 'recipient', 'invitation', 'address', 'key'])),
    CONSTRAINT rate_limit_rule_max_actions CHECK (max_actions OPERATOR(pg_catalog.>=) 1 AND max_actions OPERATOR(pg_catalog.<=) 10000),
    CONSTRAINT rate_limit_rule_per CHECK (per OPERATOR(pg_catalog.>=) '1 second' AND per OPERATOR(pg_catalog.<=) '366 days')
);
COMMENT ON TABLE invite_sync.rate_limit_rule IS
    'Rate limits that set_rate_limit() set; the view rate_limits adds those that are built in. No personal columns.';
COMMENT ON COLUMN invite_sync.rate_limit_rule.action IS 'what is counted';
COMMENT ON COLUMN invite_sync.rate_limit_rule.scope IS 'whose actions are counted together: those of a user, to a recipient, about an invitation, from a client''s address, or of a key of the application''s';
COMMENT ON COLUMN invite_sync.rate_limit_rule.max_actions IS 'so many in any window; NULL: no limit';
COMMENT ON COLUMN invite_sync.rate_limit_rule.per IS 'length of the window; a day has 24 hours and a month 30 days';
COMMENT ON COLUMN invite_sync.rate_limit_rule.updated_at IS 'when it was set';
COMMENT ON CONSTRAINT rate_limit_rule_pkey ON invite_sync.rate_limit_rule IS 'one rule an action and scope';

CREATE TABLE invite_sync.rate_limit (
    action text NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    stamps timestamptz[] NOT NULL DEFAULT '{}',
    until timestamptz NOT NULL,
    CONSTRAINT rate_limit_pkey PRIMARY KEY (action, scope, key)
);
CREATE INDEX rate_limit_until ON invite_sync.rate_limit (until);
COMMENT ON TABLE invite_sync.rate_limit IS
    'The actions that rate limits still count, one row a key. Rows of no more use go as new ones come, and by prune_rate_limits(). Personal columns: key, where it is a user''s id; addresses of people and of clients are SHA-256 digests.';
COMMENT ON COLUMN invite_sync.rate_limit.action IS 'what is counted';
COMMENT ON COLUMN invite_sync.rate_limit.scope IS 'what the key is';
COMMENT ON COLUMN invite_sync.rate_limit.key IS 'an id, or a SHA-256 digest in hex';
COMMENT ON COLUMN invite_sync.rate_limit.stamps IS 'when, in order; older ones than the window are dropped with the next action';
COMMENT ON COLUMN invite_sync.rate_limit.until IS 'from when on the row is of no use';
COMMENT ON CONSTRAINT rate_limit_pkey ON invite_sync.rate_limit IS 'one row a key: who counts locks it';
COMMENT ON INDEX invite_sync.rate_limit_until IS 'rows that are of no use any more';

ALTER TABLE invite_sync.user_invitation_quota ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.rate_limit_rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.rate_limit ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.user_invitation_quota', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.rate_limit_rule', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.rate_limit', '');

-- ---- quota ----

CREATE TYPE invite_sync.quota_result AS (granted integer, used integer, remaining integer, unlimited boolean);
COMMENT ON TYPE invite_sync.quota_result IS
    'How many invitations a user may send in all, has sent (without those that expired or were declined) and may still send. unlimited: an administrator, for whom nothing is counted; remaining is NULL then.';

CREATE TYPE invite_sync.user_quota AS (user_id uuid, granted integer, used integer, remaining integer, unlimited boolean);
COMMENT ON TYPE invite_sync.user_quota IS 'A user''s quota, as quota_result has it.';

CREATE FUNCTION invite_sync.my_quota() RETURNS invite_sync.quota_result
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'quota_mine';
COMMENT ON FUNCTION invite_sync.my_quota() IS
$doc$How many invitations the caller may still send. Those that have expired are counted as given back, whether or not the tables say so yet. Without a verified address there is none but what grant_quota() gave.
Users. Errors: not_authenticated, anonymous_user, user_banned. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.grant_quota(user_id uuid, amount integer) RETURNS invite_sync.user_quota
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quota_grant';
COMMENT ON FUNCTION invite_sync.grant_quota(uuid, integer) IS
$doc$Give a user more invitations, on top of what they have; each call adds. user_id: a user who need not have verified their address yet: these count at once, and the default is added when the address is verified. amount: 1 to 1000000. Writes the event quota.granted.
service_role, operators. Errors: not_permitted; user_unknown; data_malformed, for what is NULL, out of bounds, or more in all than an integer holds. Locks the user's row of auth.users and their quota.$doc$;

CREATE FUNCTION invite_sync.set_quota(user_id uuid, granted integer) RETURNS invite_sync.user_quota
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quota_set';
COMMENT ON FUNCTION invite_sync.set_quota(uuid, integer) IS
$doc$Say how many invitations a user may send in all, whatever it was; the default is in it, also for a user who has not verified their address yet. What they have sent stays counted: with fewer than that they can send none. granted: 0 or more. Writes the event quota.set.
service_role, operators. Errors: not_permitted; user_unknown; data_malformed. Locks the user's row of auth.users and their quota.$doc$;

CREATE FUNCTION invite_sync.quota_report(after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (user_id uuid, granted integer, used integer, remaining integer, unlimited boolean, cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'quota_report';
COMMENT ON FUNCTION invite_sync.quota_report(text, integer) IS
$doc$The quota of every user, as my_quota() tells it to them, in order of id; users who are deleted or anonymous are left out. after: the cursor of the last row of the page before; page_size: 1 to 500.
service_role, operators. Errors: not_permitted; data_malformed. Writes and locks nothing; works in READ ONLY transactions and on a standby. Personal columns: user_id.$doc$;

CREATE PROCEDURE invite_sync.backfill_quota(batch_size integer DEFAULT 1000)
    LANGUAGE C AS 'MODULE_PATHNAME', 'quota_backfill';
COMMENT ON PROCEDURE invite_sync.backfill_quota(integer) IS
$doc$Write down the default quota of the users who have verified their address and have none in the table yet, batch_size users (1 to 10000) at a time, each batch committed. Without it the first invitation does it, so it is only needed before invite_sync.default_quota is changed for those who come later, or to read the table with SQL. Call it again at any time: it changes nothing that is there.
Operators, outside a transaction block. Errors: not_permitted; 22023, 2D000. Locks the batch's users against deletion; logins go on.$doc$;

-- ---- rate limits ----

CREATE VIEW invite_sync.rate_limits WITH (security_barrier = true) AS
    SELECT r.action, r.scope, r.max_actions, r.per, false AS built_in
      FROM invite_sync.rate_limit_rule AS r
    UNION ALL
    SELECT b.action, b.scope, b.max_actions, b.per, true
      FROM (VALUES ('invite', 'user', 10, '01:00:00'::interval),
                   ('message', 'recipient', 5, '1 day'::interval),
                   ('resend', 'invitation', 1, '00:01:00'::interval),
                   ('check_invitation', 'user', 60, '01:00:00'::interval)) AS b (action, scope, max_actions, per)
     WHERE NOT EXISTS (SELECT FROM invite_sync.rate_limit_rule AS r
                        WHERE r.action OPERATOR(pg_catalog.=) b.action AND r.scope OPERATOR(pg_catalog.=) b.scope);
COMMENT ON VIEW invite_sync.rate_limits IS
    'The rate limits that hold: max_actions (NULL: no limit) of an action per window and key; scope says what the key is; built_in: it is not set_rate_limit()''s. For service_role and operators. No personal columns.';

CREATE TYPE invite_sync.rate_limit_setting AS (action text, scope text, max_actions integer, per interval);
COMMENT ON TYPE invite_sync.rate_limit_setting IS 'A rate limit, as the view rate_limits has it.';

CREATE FUNCTION invite_sync.set_rate_limit(action text, max_actions integer, per interval DEFAULT '1 hour', scope text DEFAULT NULL)
    RETURNS invite_sync.rate_limit_setting
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quota_set_rate_limit';
COMMENT ON FUNCTION invite_sync.set_rate_limit(text, integer, interval, text) IS
$doc$Say how often something may be done: at most max_actions times in any window of per. Again with the same arguments it changes nothing. action: invite, message, resend, check_invitation, or one of the application's, for consume_rate_limit(): a-z, 0-9, _, . and -, beginning with a letter, at most 63. max_actions: 1 to 10000; NULL: no limit. per: 1 second to 366 days, a day being 24 hours and a month 30 days. scope: whose actions are counted together. By default invite and check_invitation are counted per user, message per recipient over all inviters, resend per invitation, and the application's per key. Every action can have a limit per address beside it: of the client, as the last entry of the request's header that invite_sync.client_address_header names, an IPv6 address counting with its /64; where there is no such header nothing is counted.
What has been counted stays: a smaller max_actions holds at once, and a longer per begins with what the shorter one still counted. Writes the event quota.rate_limit_set.
Operators. Errors: not_permitted; 22004, 22023. Locks the rule's row.$doc$;

CREATE FUNCTION invite_sync.drop_rate_limit(action text, scope text DEFAULT NULL) RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quota_drop_rate_limit';
COMMENT ON FUNCTION invite_sync.drop_rate_limit(text, text) IS
$doc$Take back what set_rate_limit() set: a built-in limit is again what it was, one of the application's is gone, and consume_rate_limit() does not know its action any more. true when there was one. Writes the event quota.rate_limit_dropped.
Operators. Errors: not_permitted; 22004, 22023. Locks the rule's row.$doc$;

CREATE TYPE invite_sync.rate_limit_answer AS (allowed boolean, remaining integer, retry_at timestamptz);
COMMENT ON TYPE invite_sync.rate_limit_answer IS
    'allowed: it was, and was counted. remaining: how many more are, now (NULL: no limit). retry_at: when the next one is, where it was not.';

CREATE FUNCTION invite_sync.consume_rate_limit(action text, key text) RETURNS invite_sync.rate_limit_answer
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'quota_consume';
COMMENT ON FUNCTION invite_sync.consume_rate_limit(text, text) IS
$doc$Count an action of the application's, if its rate limit allows. A refusal is an answer and no error, so what else the transaction did stays. action: one that has a limit, by set_rate_limit() or built in. key: whose it is, at most 1000 bytes. An id (uuid) is kept as it is, everything else as its SHA-256 digest; an email address counts as the same recipient that invitations count. A limit of the action per address counts the client's address along with it.
service_role, operators. Errors: not_permitted; data_malformed; 42704 when the action has no limit. Locks the row of the key, waiting at most 5 s where the session has no lock_timeout. Under REPEATABLE READ and above 40001 when it has changed meanwhile: try again.$doc$;

CREATE FUNCTION invite_sync.rate_limit_report(after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (action text, scope text, key text, used integer, max_actions integer, per interval, remaining integer, retry_at timestamptz, cursor text)
    LANGUAGE C STABLE ROWS 50 AS 'MODULE_PATHNAME', 'quota_rate_limit_report';
COMMENT ON FUNCTION invite_sync.rate_limit_report(text, integer) IS
$doc$What the rate limits count now, a row for each key that has done something within its window, in order of action, scope and key. key: an id, or the SHA-256 digest, in hex, of what is no id: for an email address encode(sha256('name@example.com'), 'hex'), in lower case. retry_at: when the next action is allowed, where none is now. after: the cursor of the last row of the page before; page_size: 1 to 500.
service_role, operators. Errors: not_permitted; data_malformed. Writes and locks nothing; works in READ ONLY transactions and on a standby. Personal columns: key, where it is a user's id.$doc$;

CREATE PROCEDURE invite_sync.prune_rate_limits(batch_size integer DEFAULT 10000)
    LANGUAGE C AS 'MODULE_PATHNAME', 'quota_prune_rate_limits';
COMMENT ON PROCEDURE invite_sync.prune_rate_limits(integer) IS
$doc$Delete what no rate limit counts any more, batch_size rows (1 to 100000) at a time, each batch committed. Each new key deletes two such rows as well, so it is only needed after an onrush. Rows that somebody has locked are left.
Operators, outside a transaction block. Errors: not_permitted; 22023, 2D000. Locks the rows it deletes.$doc$;
