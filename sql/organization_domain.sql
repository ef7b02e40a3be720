-- ---------------------------------------------------------------------
-- Room organization, continued: the email domains that organizations claim
-- ---------------------------------------------------------------------

CREATE TYPE invite_sync.domain_result AS (
    id uuid, organization_id uuid, domain text, record_name text, record_value text, enrollment text,
    created_by uuid, created_at timestamptz, verified_at timestamptz
);
COMMENT ON TYPE invite_sync.domain_result IS
    'A domain that an organization claims: verified_at NULL: until a TXT record named record_name says record_value.';

CREATE FUNCTION invite_sync.add_domain(organization_id uuid, domain text) RETURNS invite_sync.domain_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_add_domain';
COMMENT ON FUNCTION invite_sync.add_domain(uuid, text) IS
$doc$Claim an email domain for an organization; returns the TXT record to put into its zone. The claim counts for nothing until verify_domain() has seen it. Again: the same record. domain: letters, digits and hyphens (international names as punycode); capitals and a dot at the end do not matter. Public suffixes and the domains of free-mail providers are refused. Needs domains.manage.
Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, domain_not_allowed, anonymous_user, user_banned, PT404 organization_unknown, PT409 domain_taken (another organization has verified it). Locks the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.verify_domain(organization_id uuid, domain text, txt_records text[]) RETURNS invite_sync.domain_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_verify_domain';
COMMENT ON FUNCTION invite_sync.verify_domain(uuid, text, text[]) IS
$doc$Mark a claimed domain as verified if one of the TXT records, which the service has looked up under record_name, is record_value. Otherwise nothing changes, and verified_at in the answer is NULL still. A domain stays verified until it is removed.
Service. PT400 data_malformed, PT403 not_permitted, PT404 organization_unknown, domain_unknown, PT409 domain_taken (another organization has verified it). Locks the organization and those above it, and waits for another transaction that verifies the same domain.$doc$;

CREATE FUNCTION invite_sync.set_enrollment(organization_id uuid, domain text, enrollment text) RETURNS invite_sync.domain_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_set_enrollment';
COMMENT ON FUNCTION invite_sync.set_enrollment(uuid, text, text) IS
$doc$What a verified email address of the domain is good for. none: nothing; suggest: its user may ask to join; auto: its user may join as member. suggest and auto need a verified domain. Needs domains.manage, and for auto all that a member may.
Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, escalation, domain_not_allowed (not verified), anonymous_user, user_banned, PT404 organization_unknown, domain_unknown. Locks the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.remove_domain(organization_id uuid, domain text) RETURNS invite_sync.domain_result
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'organization_remove_domain';
COMMENT ON FUNCTION invite_sync.remove_domain(uuid, text) IS
$doc$Give up the claim to a domain; members who came by it stay. Returns it as it was. Needs domains.manage.
Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown, domain_unknown; 42501 where a table that references it with ON DELETE CASCADE, SET NULL or SET DEFAULT belongs to a superuser. Locks the organization and those above it.$doc$;

CREATE FUNCTION invite_sync.list_domains(organization_id uuid, after text DEFAULT NULL, page_size integer DEFAULT 50)
    RETURNS TABLE (id uuid, domain text, record_name text, record_value text, enrollment text, created_by uuid,
                   created_at timestamptz, verified_at timestamptz, cursor text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'organization_list_domains';
COMMENT ON FUNCTION invite_sync.list_domains(uuid, text, integer) IS
$doc$The domains that an organization claims, newest first. after: cursor of the last row of the page before; page_size: 1 to 500. Needs domains.manage.
Users, service. PT400 data_malformed, PT401 not_authenticated, PT403 not_permitted, anonymous_user, user_banned, PT404 organization_unknown. Locks nothing.$doc$;
