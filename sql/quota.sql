-- ---------------------------------------------------------------------
-- Room quota: how many invitations in all, and how many actions per window
-- ---------------------------------------------------------------------

CREATE TABLE invite_sync.user_invitation_quota (
    user_id uuid NOT NULL,
    granted integer NOT NULL,
    used integer NOT NULL DEFAULT 0,
    remaining integer GENERATED ALWAYS AS (granted OPERATOR(pg_catalog.-) used) STORED,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT user_invitation_quota_pkey PRIMARY KEY (user_id),
    CONSTRAINT user_invitation_quota_granted CHECK (granted OPERATOR(pg_catalog.>=) 0),
    CONSTRAINT user_invitation_quota_used CHECK (used OPERATOR(pg_catalog.>=) 0)
);

CREATE TABLE invite_sync.rate_limit_rule (
    action text NOT NULL,
    scope text NOT NULL,
    max_actions integer NOT NULL,
    per interval NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT rate_limit_rule_pkey PRIMARY KEY (action, scope)
);

CREATE TABLE invite_sync.rate_limit (
    action text NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    stamps timestamptz[] NOT NULL DEFAULT '{}',
    until timestamptz NOT NULL,
    CONSTRAINT rate_limit_pkey PRIMARY KEY (action, scope, key)
);
