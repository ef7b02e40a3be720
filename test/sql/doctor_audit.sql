-- audit(): what works and still should not be so. In a database of its own, as everything in a database is looked at.
SET client_min_messages = warning;
CREATE DATABASE doctor_audit;
\c doctor_audit
SET client_min_messages = warning;
\set ECHO none
\i test/fixture/auth_schema.sql
SET client_min_messages = warning;
\set ECHO all
CREATE EXTENSION invite_sync;

-- ---- an empty database: every check says what it looked at, and nothing else is above info ----
SELECT area, check_name, severity, finding, detail FROM invite_sync.audit() WHERE object IS NULL;
SELECT area, check_name, object, finding FROM invite_sync.audit() WHERE severity <> 'info';

-- ---- who may ask, and for what ----
SELECT count(*), count(DISTINCT area) AS areas FROM invite_sync.audit('auth_flow');
SELECT invite_sync.audit('everything');
SELECT invite_sync.audit('');
SET ROLE service_role;
SELECT invite_sync.audit();
SET ROLE authenticated;
SELECT invite_sync.audit();
RESET ROLE;
BEGIN;
-- before anything can go wrong with the area
SET LOCAL ROLE postgres;
SET LOCAL request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000001"}';
SELECT invite_sync.audit('everything');
ROLLBACK;
BEGIN READ ONLY;
SET LOCAL ROLE postgres;
SELECT count(*) > 30 AS looked FROM invite_sync.audit() WHERE finding = 'looked at';
SELECT count(*) FROM invite_sync.audit() WHERE finding = 'not looked at';
SHOW jit;
COMMIT;

-- ---- a healthy application, with all that looks like something and is nothing ----
CREATE FUNCTION public.user_of(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid$$;
REVOKE ALL ON FUNCTION public.user_of FROM PUBLIC, anon, authenticated;
INSERT INTO auth.users (id, email, encrypted_password, email_confirmed_at, is_sso_user, last_sign_in_at)
SELECT public.user_of(n), 'u' || n || '@x.example', '$2a$10$' || lpad(n::text, 53, 'x'), now(), n = 9, now() FROM generate_series(1, 9) n;
INSERT INTO auth.sessions (id, user_id, created_at, updated_at, refreshed_at, aal)
SELECT public.user_of(100 + n), public.user_of(n), now() - interval '20 days', now(), now() AT TIME ZONE 'UTC', 'aal1' FROM generate_series(1, 5) n;
INSERT INTO auth.refresh_tokens (token, user_id, session_id, revoked, created_at)
SELECT n || '-' || m, public.user_of(n), public.user_of(100 + n), m < 3, now() FROM generate_series(1, 5) n, generate_series(1, 3) m;
INSERT INTO auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to)
SELECT public.user_of(n), public.user_of(n), 'recovery_token', 'hash' || n, '' FROM generate_series(1, 3) n;
INSERT INTO auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at)
VALUES (public.user_of(1), public.user_of(1), 'totp', 'verified', now() - interval '1 day', now());
INSERT INTO auth.flow_state (id, provider_type, authentication_method, created_at, provider_access_token)
VALUES (public.user_of(1), 'google', 'oauth', now() - interval '1 hour', 'theirs');
INSERT INTO auth.sso_providers (id) VALUES (public.user_of(1));
INSERT INTO auth.sso_domains (id, sso_provider_id, domain) VALUES (public.user_of(1), public.user_of(1), 'sso.example');
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider)
VALUES ('9', public.user_of(9), '{}', 'sso:' || public.user_of(1));
SET ROLE postgres;
SELECT count(*) AS standard_tables FROM regexp_matches(invite_sync.create_standard_tables(), 'CREATE TABLE', 'g');
SELECT organization_id AS acme FROM (SELECT (invite_sync.create_organization('Acme', 'acme', owner_id => public.user_of(1))).id AS organization_id) o \gset
SELECT (invite_sync.add_member(:'acme', public.user_of(2), 'member')).user_id IS NOT NULL AS added;
SELECT (invite_sync.create_invitation('guest@x.example', 'member', :'acme', inviter_id => public.user_of(1))).invitation_id IS NOT NULL AS invited;
GRANT USAGE ON SCHEMA invite_sync TO postgres;
CREATE TABLE public.projects (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), organization_id uuid NOT NULL, name text,
    created_by uuid REFERENCES auth.users ON DELETE SET NULL);
CREATE INDEX ON public.projects (organization_id);
SELECT invite_sync.protect_table('public.projects', 'organization_id') <> '' AS protected;
-- policies by hand: a membership table of the application's own
CREATE TABLE public.org_members (org_id uuid NOT NULL, user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE, role text NOT NULL DEFAULT 'member',
    PRIMARY KEY (org_id, user_id));
CREATE INDEX ON public.org_members (user_id);
ALTER TABLE public.org_members ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION public.is_org_admin(_user uuid, _org uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
    $$SELECT EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = _user AND m.org_id = _org AND m.role = 'admin')$$;
CREATE FUNCTION public.my_orgs() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
    $$SELECT m.org_id FROM public.org_members m WHERE m.user_id = (SELECT auth.uid())$$;
CREATE POLICY own ON public.org_members FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY admins ON public.org_members FOR ALL TO authenticated USING (public.is_org_admin((SELECT auth.uid()), org_id));
CREATE POLICY service ON public.org_members TO service_role USING (true);
CREATE TABLE public.documents (id bigint PRIMARY KEY, org_id uuid NOT NULL, published boolean, body text);
CREATE INDEX ON public.documents (org_id);
ALTER TABLE public.documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY members ON public.documents FOR SELECT USING (org_id IN (SELECT public.my_orgs()));
CREATE POLICY members_write ON public.documents FOR INSERT WITH CHECK (EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = auth.uid() AND m.org_id = documents.org_id));
CREATE POLICY published ON public.documents FOR SELECT TO anon USING (published);
-- open, and narrowed by another one
CREATE TABLE public.files (id bigint PRIMARY KEY, tenant_id uuid);
CREATE INDEX ON public.files (tenant_id);
ALTER TABLE public.files ENABLE ROW LEVEL SECURITY;
CREATE POLICY logged_in ON public.files USING (auth.uid() IS NOT NULL);
CREATE POLICY tenant ON public.files AS RESTRICTIVE USING (tenant_id IN (SELECT public.my_orgs()));
-- administrators of the platform compare no row, and ask a table
CREATE TABLE public.platform_admins (user_id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE);
ALTER TABLE public.platform_admins ENABLE ROW LEVEL SECURITY;
CREATE POLICY support ON public.documents FOR SELECT TO authenticated USING (EXISTS (SELECT 1 FROM public.platform_admins a WHERE a.user_id = auth.uid()));
-- public on purpose, and a team that is no tenant
CREATE TABLE public.matches (id bigint PRIMARY KEY, team_id bigint, score text);
ALTER TABLE public.matches ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON public.matches FOR SELECT USING (true);
CREATE TABLE public.articles (id bigint PRIMARY KEY, title text);
ALTER TABLE public.articles ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON public.articles FOR SELECT USING (true);
-- a role that is nobody's right
CREATE TABLE public.messages (id bigint PRIMARY KEY, user_id uuid REFERENCES auth.users ON DELETE CASCADE, role text, content text);
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.messages USING (user_id = auth.uid()) WITH CHECK (user_id = auth.uid());
-- a right that its policy keeps as it is
CREATE TABLE public.staff (user_id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, is_admin boolean NOT NULL DEFAULT false, nickname text);
ALTER TABLE public.staff ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.staff FOR UPDATE USING (user_id = auth.uid()) WITH CHECK (user_id = auth.uid() AND NOT is_admin);
-- views that are bound, or ask
CREATE VIEW public.my_documents WITH (security_invoker = on) AS SELECT * FROM public.documents;
CREATE VIEW public.asking WITH (security_barrier) AS SELECT * FROM public.documents WHERE org_id IN (SELECT public.my_orgs());
CREATE VIEW public.me AS SELECT email FROM auth.users WHERE id = auth.uid();
CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) FROM public.documents;
REVOKE ALL ON public.totals FROM anon, authenticated;
-- functions that ask, by way of another one too, or are for nobody
CREATE FUNCTION public.my_document(id bigint) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS
    $$SELECT d.body FROM public.documents d WHERE d.id = $1 AND d.org_id IN (SELECT public.my_orgs())$$;
CREATE FUNCTION public.document_by_token(token text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS
    $$SELECT d.body FROM public.documents d WHERE d.body = token$$;
CREATE FUNCTION public.for_cron() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT count(*) FROM public.documents$$;
REVOKE ALL ON FUNCTION public.for_cron FROM PUBLIC, anon, authenticated;
CREATE FUNCTION public.on_document() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN UPDATE public.documents SET body = body; RETURN NULL; END$$;
CREATE FUNCTION public.commented() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    -- see public.documents
    /* and public.files */
    EXECUTE 'SELECT 1';
    RETURN 1;
END$$;
-- out of reach
CREATE SCHEMA private;
CREATE TABLE private.ledger (id bigint, organization_id uuid, is_admin boolean);
GRANT ALL ON private.ledger TO anon, authenticated;
CREATE TABLE public.job_queue (id bigint, organization_id uuid);
REVOKE ALL ON public.job_queue FROM anon, authenticated;
RESET ROLE;
SELECT area, check_name, object, finding, detail FROM invite_sync.audit() WHERE severity <> 'info' OR finding = 'not looked at';
SELECT check_name, object, finding FROM invite_sync.audit() WHERE finding <> 'looked at';

-- ---- each check by itself: what triggers it, and its fix as it stands, after which there is nothing ----
CREATE SCHEMA audit_test;
CREATE TABLE audit_test.healthy AS SELECT check_name, object, finding FROM invite_sync.audit() WHERE object IS NOT NULL;
CREATE FUNCTION audit_test.found(area text, check_name text, OUT severity text, OUT object text, OUT finding text, OUT detail text, OUT fix text)
    RETURNS SETOF record LANGUAGE sql AS $$
    SELECT a.severity, a.object, a.finding, a.detail, a.fix FROM invite_sync.audit($1) a
     WHERE a.check_name = $2 AND a.finding <> 'looked at' AND (a.check_name, coalesce(a.object, ''), a.finding) NOT IN (SELECT h.check_name, h.object, h.finding FROM audit_test.healthy h)$$;
CREATE FUNCTION audit_test.mended(area text, check_name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    fixes text[] := ARRAY(SELECT f.fix FROM audit_test.found($1, $2) f WHERE f.fix IS NOT NULL);
    fix text;
BEGIN
    -- a procedure that commits cannot be called in here
    FOREACH fix IN ARRAY fixes LOOP
        CONTINUE WHEN fix LIKE 'CALL %';
        EXECUTE fix;
    END LOOP;
    RETURN format('%s fixes run, %s findings left; looked at: %s', cardinality(fixes), (SELECT count(*) FROM audit_test.found($1, $2)),
                  (SELECT a.detail FROM invite_sync.audit($1) a WHERE a.check_name = $2 AND a.finding = 'looked at'));
END$$;
\x on

-- the server's settings, where they are said
SELECT invite_sync.audit('auth_flow', '[]');
SELECT severity, object, finding, detail, fix FROM invite_sync.audit('auth_flow', '{"sessions_timebox": 0, "GOTRUE_SESSIONS_INACTIVITY_TIMEOUT": "0h0m", "jwt_exp": 604800, "MAILER_OTP_EXP": "86401",
    "sms_otp_exp": 7200, "refresh_token_rotation_enabled": false, "GOTRUE_PASSWORD_MIN_LENGTH": "6", "mailer_autoconfirm": true, "phone_autoconfirm": "true", "password_hibp_enabled": false,
    "mfa_totp_verify_enabled": false, "site_url": "https://x.example", "external": {"email": true}}') WHERE check_name = 'server_settings';
SELECT severity, object, finding, detail, fix FROM invite_sync.audit('auth_flow', '{"sessions_timebox": 24, "GOTRUE_SESSIONS_INACTIVITY_TIMEOUT": "8h", "jwt_exp": 3600, "mailer_otp_exp": 3600, "sms_otp_exp": null,
    "security_refresh_token_rotation_enabled": true, "password_min_length": "twelve", "mailer_autoconfirm": false, "password_hibp_enabled": true}') WHERE check_name = 'server_settings';

\set check '\'auth_flow\', \'session_timebox\''
UPDATE auth.sessions SET created_at = now() - interval '200 days' WHERE id = public.user_of(101);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'auth_flow\', \'session_timeout\''
UPDATE auth.sessions SET created_at = now() - interval '100 days', updated_at = now() - interval '99 days', refreshed_at = now() AT TIME ZONE 'UTC' - interval '91 days' WHERE id = public.user_of(102);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'auth_flow\', \'access_token_expiry\''
ALTER DATABASE doctor_audit SET "app.settings.jwt_exp" = '604800';
ALTER ROLE anon IN DATABASE doctor_audit SET "app.settings.jwt_exp" = '86401';
ALTER ROLE anon SET "app.settings.jwt_exp" = '86402';
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
ALTER ROLE anon RESET "app.settings.jwt_exp";

\set check '\'auth_flow\', \'one_time_token_expiry\''
UPDATE auth.one_time_tokens SET created_at = now() AT TIME ZONE 'UTC' - interval '25 hours' WHERE id = public.user_of(1);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'auth_flow\', \'token_single_use\''
UPDATE auth.refresh_tokens SET revoked = false WHERE token IN ('3-1', '3-2');
DROP INDEX auth.one_time_tokens_user_id_token_type_key;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
SELECT token FROM auth.refresh_tokens WHERE NOT revoked ORDER BY 1;

\set check '\'auth_flow\', \'password_policy\''
UPDATE auth.users SET encrypted_password = (SELECT u.encrypted_password FROM auth.users u WHERE u.id = public.user_of(1)) WHERE id = public.user_of(2);
SET invite_sync.password_min_length = 6;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
RESET invite_sync.password_min_length;
UPDATE auth.users SET encrypted_password = '$2a$10$' || lpad('2', 53, 'x') WHERE id = public.user_of(2);

\set check '\'auth_flow\', \'password_hashing\''
UPDATE auth.users SET encrypted_password = 'in clear' WHERE id = public.user_of(1);
UPDATE auth.users SET encrypted_password = '$2y$04$' || lpad('2', 53, 'x') WHERE id = public.user_of(2);
UPDATE auth.users SET encrypted_password = '$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaA' WHERE id = public.user_of(3);
SELECT * FROM audit_test.found(:check);
UPDATE auth.users SET encrypted_password = '$2a$10$' || lpad(id::text, 53, 'x');

\set check '\'auth_flow\', \'mfa\''
UPDATE auth.sessions SET created_at = now() - interval '2 hours', refreshed_at = now() AT TIME ZONE 'UTC', user_id = public.user_of(1) WHERE id = public.user_of(103);
DELETE FROM auth.mfa_factors WHERE user_id <> public.user_of(1);
SELECT (invite_sync.add_member(:'acme', public.user_of(4), 'admin')).role;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
-- where policies ask for the level it is no more than a remark
UPDATE auth.sessions SET aal = 'aal1', created_at = now() - interval '2 hours', refreshed_at = now() AT TIME ZONE 'UTC', user_id = public.user_of(1) WHERE id = public.user_of(104);
CREATE POLICY second ON public.staff AS RESTRICTIVE USING (auth.jwt() ->> 'aal' = 'aal2');
SELECT severity, finding FROM audit_test.found(:check);
DROP POLICY second ON public.staff;
SELECT audit_test.mended(:check);
SELECT (invite_sync.remove_member(:'acme', public.user_of(4))).user_id;

\set check '\'auth_flow\', \'error_leakage\''
ALTER ROLE authenticator SET pgrst.db_plan_enabled = 'true';
ALTER ROLE anon IN DATABASE doctor_audit SET client_min_messages = 'debug1';
ALTER ROLE authenticated SET client_min_messages = 'warning';
CREATE FUNCTION public.email_exists(address text) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT EXISTS (SELECT 1 FROM auth.users WHERE email = address)$$;
CREATE FUNCTION public.my_email(fallback text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT coalesce(email, fallback) FROM auth.users WHERE id = auth.uid()$$;
CREATE FUNCTION public.email_known(address text) RETURNS boolean LANGUAGE sql SECURITY INVOKER AS $$SELECT EXISTS (SELECT 1 FROM auth.users WHERE email = address)$$;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP FUNCTION public.email_exists, public.my_email, public.email_known;
ALTER ROLE authenticated RESET client_min_messages;

\set check '\'auth_flow\', \'orphan_refresh_tokens\''
INSERT INTO auth.refresh_tokens (token, user_id, revoked) VALUES ('none', public.user_of(1), false), ('old', public.user_of(1), true);
INSERT INTO auth.refresh_tokens (token, user_id, session_id, revoked) VALUES ('gone', public.user_of(77), public.user_of(105), false);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'auth_flow\', \'sessions_of_deleted_users\''
UPDATE auth.users SET deleted_at = now() WHERE id = public.user_of(5);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
UPDATE auth.users SET deleted_at = NULL WHERE id = public.user_of(5);
INSERT INTO auth.sessions (id, user_id, created_at, updated_at, refreshed_at, aal) SELECT public.user_of(100 + n), public.user_of(n), now(), now(), now() AT TIME ZONE 'UTC', 'aal1' FROM generate_series(1, 5) n ON CONFLICT DO NOTHING;

\set check '\'tenant_isolation\', \'tables_without_rls\''
CREATE TABLE public.invoices (id bigint PRIMARY KEY, "organizationId" uuid);
CREATE TABLE public.players (id bigint PRIMARY KEY, team_id bigint);
CREATE TABLE public."x""; drop table y; --" (id bigint PRIMARY KEY, belongs_to uuid REFERENCES invite_sync.organization ON DELETE CASCADE);
CREATE TABLE public.parts (id bigint, tenant_id uuid) PARTITION BY HASH (id);
CREATE TABLE public.parts_0 PARTITION OF public.parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
ALTER TABLE public.parts ENABLE ROW LEVEL SECURITY;
CREATE FOREIGN DATA WRAPPER audit_fdw;
CREATE SERVER audit_server FOREIGN DATA WRAPPER audit_fdw;
CREATE FOREIGN TABLE public.elsewhere (workspace_id bigint) SERVER audit_server;
-- what it is called is not all: by what it references, and at the end of a name; parts of such rows; and organizations themselves
CREATE TABLE public.organizations (id uuid PRIMARY KEY, parent uuid REFERENCES public.organizations);
CREATE TABLE public.referring (id bigint PRIMARY KEY, belongs uuid REFERENCES public.organizations);
CREATE TABLE public.suffixed (id bigint PRIMARY KEY, "sellerOrganizationId" uuid);
CREATE TABLE public.referring_lines (id bigint PRIMARY KEY, of bigint REFERENCES public.referring);
CREATE TABLE public.referring_notes (line bigint REFERENCES public.referring_lines);
CREATE TABLE public.document_children () INHERITS (public.documents);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP TABLE public.referring_notes, public.referring_lines, public.referring, public.suffixed, public.organizations, public.document_children, public.invoices, public.players, public.parts, public."x""; drop table y; --";
DROP FOREIGN DATA WRAPPER audit_fdw CASCADE;

\set check '\'tenant_isolation\', \'policies_that_compare_nothing\''
CREATE POLICY a_true ON public.documents FOR SELECT TO authenticated USING (true);
CREATE POLICY b_role ON public.documents FOR UPDATE USING (org_id IN (SELECT public.my_orgs())) WITH CHECK ((SELECT auth.role()) = 'authenticated' AND auth.uid() IS NOT NULL);
CREATE POLICY "c; --" ON public.documents FOR DELETE USING (EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = auth.uid() AND m.org_id = org_id));
CREATE POLICY d_any ON public.projects FOR SELECT USING (EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = auth.uid()));
CREATE POLICY e_number ON public.matches FOR INSERT WITH CHECK (1 = 1);
CREATE SCHEMA storage;
CREATE TABLE storage.objects (id uuid PRIMARY KEY, bucket_id text, name text, owner uuid);
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA storage TO anon, authenticated;
GRANT ALL ON storage.objects TO anon, authenticated;
CREATE POLICY bucket ON storage.objects FOR SELECT USING (bucket_id = 'avatars');
CREATE POLICY f_files ON storage.objects FOR INSERT WITH CHECK (auth.uid() IS NOT NULL);
CREATE POLICY g_listing ON storage.objects FOR SELECT USING (true);
-- a name that may mean something else, and means it here: who belongs to a team is kept from others
CREATE TABLE public.team_members (team_id bigint, user_id uuid, PRIMARY KEY (user_id, team_id));
ALTER TABLE public.team_members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.team_members FOR SELECT USING (user_id = auth.uid());
CREATE TABLE public.team_notes (team_id bigint);
ALTER TABLE public.team_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY h_notes ON public.team_notes FOR SELECT USING (true);
-- of no organization: everybody changes what is somebody's, or nobody's
CREATE TABLE public.diaries (id bigint PRIMARY KEY, user_id uuid);
ALTER TABLE public.diaries ENABLE ROW LEVEL SECURITY;
CREATE POLICY i_write ON public.diaries FOR UPDATE TO authenticated USING (true);
CREATE POLICY i_read ON public.diaries FOR SELECT USING (true);
CREATE TABLE public.wiki (id bigint PRIMARY KEY, body text);
ALTER TABLE public.wiki ENABLE ROW LEVEL SECURITY;
CREATE POLICY j_write ON public.wiki TO authenticated USING (true);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

DROP TABLE public.team_members, public.team_notes, public.diaries, public.wiki;
-- the many ways of asking nothing, and of asking something that looks like it
CREATE FUNCTION public.yes() RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT true; $$;
CREATE FUNCTION public.yes_to(org uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT auth.uid()) IS NOT NULL; END; $$;
CREATE FUNCTION public.yes_atomic() RETURNS boolean LANGUAGE sql STABLE RETURN auth.role() = 'authenticated';
CREATE FUNCTION public.is_member_somewhere() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = auth.uid())$$;
CREATE FUNCTION public.is_super_admin() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = auth.uid() AND m.role = 'super_admin')$$;
CREATE TABLE audit_test.way (n integer PRIMARY KEY, expression text, told text);
INSERT INTO audit_test.way VALUES
    (1, 'true OR org_id IN (SELECT public.my_orgs())', 'error'), (2, 'org_id IS NOT NULL', 'error'), (3, 'NOT (auth.uid() IS NULL)', 'error'),
    (4, $$auth.role() = 'authenticated' OR auth.role() = 'service_role'$$, 'error'), (5, $$(auth.jwt() ->> 'aud') = 'authenticated'$$, 'error'),
    (6, $$auth.role() IN ('authenticated', 'service_role')$$, 'error'), (7, $$coalesce(auth.uid()::text, '') <> ''$$, 'error'), (8, 'length(auth.uid()::text) > 0', 'error'),
    (9, $$((auth.jwt() ->> 'is_anonymous')::boolean) IS FALSE$$, 'error'), (10, 'auth.uid() IN (SELECT u.id FROM auth.users u)', 'error'),
    (11, 'EXISTS (SELECT 1 FROM auth.users u WHERE u.id = (SELECT auth.uid()))', 'error'), (12, 'public.yes()', 'error'), (13, 'public.yes_to(org_id)', 'error'),
    (14, 'public.yes_atomic() AND user_id IS NOT NULL', 'error'), (15, 'auth.uid() = auth.uid()', 'error'), (16, $$current_setting('request.jwt.claim.role', true) = 'authenticated'$$, 'error'),
    (17, $$current_user = ANY ('{authenticated,anon}'::text[])$$, 'error'), (18, $$(current_setting('request.jwt.claims', true)::json ->> 'sub') IS NOT NULL$$, 'error'),
    (19, $$NOT coalesce((auth.jwt() ->> 'is_anonymous')::boolean, false)$$, 'error'), (20, $$(SELECT auth.role() <> 'anon')$$, 'error'), (21, 'org_id = org_id', 'error'),
    (22, 'public.is_member_somewhere()', 'warning'), (23, 'public.is_super_admin()', 'info'),
    (31, 'false', NULL), (32, 'false OR auth.uid() = user_id', NULL), (33, 'org_id IS NULL OR org_id IN (SELECT public.my_orgs())', NULL), (34, 'shown_at IS NOT NULL', NULL),
    (35, $$auth.role() = 'service_role'$$, NULL), (36, $$(auth.jwt() -> 'app_metadata' ->> 'level')::integer > 0$$, NULL), (37, $$auth.uid() = '00000000-0000-4000-8000-000000000001'$$, NULL),
    (38, $$EXISTS (SELECT 1 FROM auth.users u WHERE u.id = auth.uid() AND u.raw_app_meta_data ->> 'role' = 'support')$$, NULL), (39, 'public.yes() AND user_id = auth.uid()', NULL),
    (40, $$NOT (auth.role() = 'service_role')$$, NULL), (41, 'public.is_org_admin(auth.uid(), org_id)', NULL), (42, $$(auth.jwt() ->> 'aal') = 'aal2'$$, NULL),
    (43, 'org_id IN (SELECT m.org_id FROM public.org_members m)', NULL);
DO $$
DECLARE
    way record;
BEGIN
    FOR way IN SELECT * FROM audit_test.way LOOP
        EXECUTE format('CREATE TABLE public.%I (org_id uuid, user_id uuid, shown_at timestamptz)', 'way' || way.n);
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', 'way' || way.n);
        EXECUTE format('CREATE POLICY p ON public.%I USING (%s)', 'way' || way.n, way.expression);
    END LOOP;
END$$;
SELECT w.n, w.expression, w.told, f.severity, f.finding FROM audit_test.way w FULL JOIN audit_test.found(:check) f ON f.object = 'p ON public.way' || w.n WHERE w.told IS DISTINCT FROM f.severity;
SELECT DISTINCT finding, severity FROM audit_test.found(:check) ORDER BY 1;
-- restrictive policies narrow for whom they bind, if they ask for something
CREATE POLICY q ON public.way1 AS RESTRICTIVE TO authenticated USING (org_id IN (SELECT public.my_orgs()));
CREATE POLICY q ON public.way2 AS RESTRICTIVE USING (org_id IS NOT NULL);
CREATE POLICY q ON public.way3 AS RESTRICTIVE TO authenticated USING (org_id IN (SELECT public.my_orgs()));
CREATE POLICY r ON public.way3 AS RESTRICTIVE TO anon USING (false);
CREATE POLICY q ON public.way4 AS RESTRICTIVE FOR SELECT USING (org_id IN (SELECT public.my_orgs()));
SELECT object, severity FROM audit_test.found(:check) WHERE object ~ 'way[1-4]$' ORDER BY 1;
SELECT audit_test.mended(:check);
DO $$
DECLARE
    n integer;
BEGIN
    FOR n IN SELECT w.n FROM audit_test.way w LOOP
        EXECUTE format('DROP TABLE public.%I', 'way' || n);
    END LOOP;
END$$;
DROP FUNCTION public.yes, public.yes_to, public.yes_atomic, public.is_member_somewhere, public.is_super_admin;

\set check '\'tenant_isolation\', \'policies_that_ask_user_metadata\''
CREATE FUNCTION public.is_boss() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT auth.jwt() -> 'user_metadata' ->> 'boss' = 'yes'$$;
CREATE FUNCTION public.is_no_boss() RETURNS boolean LANGUAGE sql STABLE AS $$SELECT /* not user_metadata */ auth.jwt() -> 'app_metadata' ->> 'boss' = 'yes' -- and not user_metadata
$$;
CREATE POLICY straight ON public.articles FOR UPDATE USING ((auth.jwt() -> 'user_metadata' ->> 'role') = 'editor');
CREATE POLICY by_function ON public.articles FOR DELETE USING (public.is_boss());
CREATE FUNCTION auth.boss() RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN RETURN public.is_boss(); END$$;
CREATE POLICY by_functions ON public.articles FOR DELETE USING (auth.boss());
CREATE POLICY folder ON storage.objects FOR DELETE USING (name = auth.jwt() -> 'user_metadata' ->> 'folder');
CREATE POLICY sound ON public.articles FOR INSERT WITH CHECK (public.is_no_boss());
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP POLICY sound ON public.articles;
DROP FUNCTION auth.boss, public.is_boss, public.is_no_boss;

\set check '\'tenant_isolation\', \'views_that_bypass\''
CREATE VIEW public.all_documents AS SELECT d.* FROM public.documents d;
CREATE VIEW public.over_it AS SELECT count(*) FROM public.all_documents;
CREATE VIEW public.people AS SELECT u.id, u.email FROM auth.users u;
CREATE MATERIALIZED VIEW public.summary AS SELECT org_id, count(*) FROM public.documents GROUP BY 1;
-- as whom a view reads that is inside another; a table that only views reach; what everybody reads anyhow
CREATE VIEW private.inner_view AS SELECT d.* FROM public.documents d;
CREATE VIEW public.over_private AS SELECT count(*) FROM private.inner_view;
CREATE VIEW public.over_invoker AS SELECT count(*) FROM public.my_documents;
CREATE VIEW public.over_ledger AS SELECT l.id FROM private.ledger l;
CREATE MATERIALIZED VIEW private.kept AS SELECT org_id, count(*) FROM public.documents GROUP BY 1;
CREATE VIEW public.over_kept AS SELECT * FROM private.kept;
CREATE VIEW public.scores AS SELECT m.team_id, m.score FROM public.matches m;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP VIEW public.over_it, public.all_documents, public.people, public.over_private, public.over_invoker, public.over_ledger, public.over_kept, public.scores, private.inner_view;
DROP MATERIALIZED VIEW private.kept;
DROP MATERIALIZED VIEW public.summary;

\set check '\'tenant_isolation\', \'functions_that_bypass\''
CREATE FUNCTION public.count_documents(org uuid) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT count(*) FROM public.documents d WHERE d.org_id = org$$;
CREATE FUNCTION public.atomic(org uuid) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' BEGIN ATOMIC SELECT count(*) FROM public.documents d WHERE d.org_id = org; END;
-- to be logged in is not to be asked who one is; what only functions reach; names that are something else
CREATE FUNCTION public.if_logged_in(org uuid) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN IF auth.uid() IS NULL THEN RAISE EXCEPTION 'no'; END IF; RETURN (SELECT count(*) FROM public.documents d WHERE d.org_id = org); END$$;
CREATE FUNCTION public.add_document(org uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$INSERT INTO public.documents(id, org_id) VALUES (0, org)$$;
CREATE FUNCTION public.of_ledger() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT count(*) FROM private.ledger$$;
CREATE FUNCTION public.by_text(org uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE 'DELETE FROM "public" . "documents" WHERE org_id = $1' USING org; END$$;
CREATE FUNCTION public.score(team bigint) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT m.score FROM public.matches m WHERE m.team_id = team$$;
CREATE FUNCTION public.set_score(team bigint) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$UPDATE public.matches SET score = '' WHERE team_id = team$$;
CREATE FUNCTION public.words() RETURNS json LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE documents integer := 1; BEGIN RETURN json_build_object('files', documents); END$$;
CREATE FUNCTION public.is_in(_user uuid, _org uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT EXISTS (SELECT 1 FROM public.org_members m WHERE m.user_id = _user AND m.org_id = _org)$$;
CREATE FUNCTION public.am_in(_org uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT public.is_in(auth.uid(), _org)$$;
-- whatever a table is called
CREATE TABLE public."my ""docs"" für" (org_id uuid);
ALTER TABLE public."my ""docs"" für" ENABLE ROW LEVEL SECURITY;
CREATE TABLE public.größe (org_id uuid);
ALTER TABLE public.größe ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION public.of_quoted() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT count(*) FROM public."my ""docs"" für"$$;
CREATE FUNCTION public.of_letters() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT count(*) FROM public.größe$$;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP FUNCTION public.of_quoted, public.of_letters;
DROP TABLE public."my ""docs"" für", public.größe;
DROP FUNCTION public.count_documents, public.atomic, public.if_logged_in, public.add_document, public.of_ledger, public.by_text, public.score, public.set_score, public.words, public.am_in, public.is_in;

\set check '\'tenant_isolation\', \'claims_for_tenant\''
CREATE FUNCTION public.tenant_of_claims() RETURNS uuid LANGUAGE sql STABLE AS $$SELECT (current_setting('request.jwt.claims', true)::jsonb ->> 'tenant_id')::uuid$$;
CREATE POLICY by_claim ON public.documents FOR UPDATE USING (org_id = (auth.jwt() -> 'app_metadata' ->> 'org_id')::uuid);
CREATE POLICY by_function ON public.files FOR UPDATE USING (tenant_id = public.tenant_of_claims());
CREATE POLICY by_setting ON public.files FOR DELETE USING (tenant_id = current_setting('app.tenant_id')::uuid);
CREATE POLICY by_header ON public.files FOR UPDATE USING (tenant_id = (current_setting('request.headers', true)::json ->> 'x-tenant')::uuid);
CREATE FUNCTION public.tenant_of_header() RETURNS uuid LANGUAGE sql STABLE AS $$SELECT (current_setting('request.headers', true)::json ->> 'x-tenant')::uuid$$;
CREATE POLICY by_header2 ON public.files FOR INSERT WITH CHECK (tenant_id = public.tenant_of_header());
CREATE FUNCTION public.tenant_of_setting() RETURNS uuid LANGUAGE sql STABLE AS $$SELECT current_setting('app.tenant_id', true)::uuid$$;
CREATE POLICY by_setting2 ON public.files FOR UPDATE USING (tenant_id = public.tenant_of_setting());
CREATE POLICY shared ON public.files FOR SELECT USING (id::text = current_setting('request.headers', true)::json ->> 'x-share');
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP POLICY by_setting2 ON public.files;
DROP POLICY shared ON public.files;
DROP FUNCTION public.tenant_of_setting, public.tenant_of_header;
DROP POLICY by_claim ON public.documents;
DROP POLICY by_function ON public.files;
DROP POLICY by_setting ON public.files;
DROP FUNCTION public.tenant_of_claims;

\set check '\'tenant_isolation\', \'indexes_under_policies\''
DROP INDEX public.documents_org_id_idx;
INSERT INTO public.documents SELECT n, public.user_of(n % 100) FROM generate_series(1, 20000) n;
ANALYZE public.documents;
DROP INDEX public.files_tenant_id_idx;
ANALYZE public.files;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'invitation_security\', \'lifetime\''
SET invite_sync.invitation_ttl = '20d';
INSERT INTO invite_sync.organization (id, name, slug) VALUES (public.user_of(50), 'Long', 'long');
SELECT ttl FROM invite_sync.set_invitation_policy(public.user_of(50), '29 days');
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
RESET invite_sync.invitation_ttl;
\c
\x on
SHOW invite_sync.invitation_ttl;
SELECT * FROM audit_test.found(:check);

\set check '\'invitation_security\', \'verified_address\''
SET invite_sync.require_verified_email = off;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
\c
\x on
SELECT * FROM audit_test.found(:check);

\set check '\'invitation_security\', \'quotas_and_limits\''
SET invite_sync.default_quota = 100000;
SELECT action FROM invite_sync.set_rate_limit('invite', NULL);
SELECT action FROM invite_sync.set_rate_limit('check_invitation', 100, per => '10 minutes');
SELECT action FROM invite_sync.set_rate_limit('my.own', 10000, per => '1 second');
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
\c
\x on
SELECT * FROM audit_test.found(:check);

\set check '\'invitation_security\', \'open_links\''
INSERT INTO invite_sync.invitation (id, kind, expires_at, max_uses, allowed_domain) VALUES (public.user_of(201), 'link', '2999-01-01 00:00Z', NULL, NULL),
    (public.user_of(202), 'link', '2999-01-01 00:00Z', 5, NULL), (public.user_of(203), 'link', '2999-01-01 00:00Z', 10, NULL), (public.user_of(204), 'link', '2999-01-01 00:00Z', NULL, 'x.example'),
    (public.user_of(205), 'link', now() - interval '1 day', NULL, NULL);
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at)
SELECT public.user_of(g.n), public.user_of(50), r.id, now() FROM (VALUES (201, 'member'), (202, 'admin'), (203, 'member'), (204, 'member'), (205, 'admin')) g (n, role) JOIN invite_sync.role r ON r.name = g.role AND r.built_in;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'invitation_security\', \'inviters_gone\''
INSERT INTO invite_sync.invitation (id, email, expires_at, inviter_id) VALUES (public.user_of(211), 'one@x.example', '2999-01-01 00:00Z', public.user_of(3)),
    (public.user_of(212), 'two@x.example', '2999-01-01 00:00Z', public.user_of(4)), (public.user_of(213), 'three@x.example', '2999-01-01 00:00Z', public.user_of(5));
UPDATE auth.users SET banned_until = '2998-01-01' WHERE id = public.user_of(3);
UPDATE auth.users SET banned_until = '2001-01-01' WHERE id = public.user_of(5);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
UPDATE auth.users SET banned_until = NULL;

\set check '\'invitation_security\', \'tokens_in_clear\''
CREATE TABLE public.invitations (id bigint PRIMARY KEY, email text, token uuid DEFAULT gen_random_uuid());
CREATE TABLE public.invites (id bigint PRIMARY KEY, "invite_code" text, token_hash bytea, by_user uuid);
ALTER TABLE public.invites ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.invites USING (by_user = auth.uid());
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP TABLE public.invitations, public.invites;

\set check '\'permission_model\', \'roles_nobody_has\''
SELECT role FROM invite_sync.create_role('auditor', ARRAY['members.read']);
SELECT role FROM invite_sync.create_role('guest', ARRAY['members.read']);
SELECT (invite_sync.add_member(public.user_of(50), public.user_of(1), 'guest')).role;
UPDATE invite_sync.role SET id = public.user_of(61) WHERE name = 'auditor';
UPDATE invite_sync.role_permission SET role_id = public.user_of(61) WHERE role_id NOT IN (SELECT id FROM invite_sync.role);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'permission_model\', \'powers_of_api_roles\''
ALTER ROLE authenticated BYPASSRLS CREATEDB;
CREATE ROLE regress_audit_between;
GRANT service_role TO regress_audit_between;
GRANT regress_audit_between TO anon;
CREATE ROLE regress_audit_harmless;
GRANT regress_audit_harmless TO anon;
CREATE SCHEMA "my plug-ins";
GRANT CREATE ON SCHEMA "my plug-ins" TO authenticated;
GRANT CREATE ON SCHEMA public TO PUBLIC;
CREATE TABLE public.belongs (id bigint);
ALTER TABLE public.belongs OWNER TO authenticated;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP SCHEMA "my plug-ins";
DROP TABLE public.belongs;
DROP ROLE regress_audit_between, regress_audit_harmless;

\set check '\'permission_model\', \'functions_that_escalate\''
CREATE FUNCTION public.exec_sql(query text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE query; END$$;
CREATE FUNCTION public.count_of(tab text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || tab INTO n; RETURN n; END$$;
CREATE FUNCTION public.quoted(tab text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE n bigint; BEGIN EXECUTE format('SELECT count(*) FROM public.%I', tab) INTO n; RETURN n; END$$;
CREATE FUNCTION public.as_caller(query text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE query; END$$;
CREATE FUNCTION public.unpinned() RETURNS integer LANGUAGE sql SECURITY DEFINER AS $$SELECT 1$$;
CREATE FUNCTION public.by_number(text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE $1; END$$;
CREATE FUNCTION public.by_format(cols text, tab text, at_most integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE format('SELECT %s FROM public.%I LIMIT %s', cols, tab, at_most); END$$;
CREATE FUNCTION public.by_variable(word text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE q text; BEGIN q := 'DELETE FROM t WHERE w = ''' || by_variable.word || ''''; EXECUTE q; END$$;
CREATE FUNCTION public.by_admin(query text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN IF NOT public.is_org_admin(auth.uid(), NULL) THEN RAISE EXCEPTION 'no'; END IF; EXECUTE query; END$$;
CREATE FUNCTION public.number_only(n integer, word text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE q text; BEGIN EXECUTE 'SELECT ' || n; q := format('SELECT %L', word); EXECUTE q; EXECUTE 'SELECT $1' USING word; EXECUTE format('%99999999999$s%0$s', word); q := quote_literal(word); RAISE NOTICE '%', 'a' || word; END$$;
CREATE FUNCTION public."odd; --"("x""(y" text, "a b" text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE "a b"; EXECUTE $1; END$$;
CREATE FUNCTION public."inCamelCase"("theSql" text, more text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE "theSql"; EXECUTE concat('SELECT more, ', quote_literal(more)); END$$;
CREATE FUNCTION public.by_concat(tab text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN EXECUTE concat('TRUNCATE ', tab); END$$;
CREATE FUNCTION public.make_admin(who uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$UPDATE public.staff SET is_admin = true WHERE user_id = who$$;
CREATE FUNCTION public.set_claims(who uuid, claims jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$UPDATE auth.users SET raw_app_meta_data = claims WHERE id = who$$;
CREATE FUNCTION public.rename(who uuid, name text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$UPDATE public.staff SET nickname = name WHERE user_id = who$$;
GRANT CREATE ON SCHEMA private TO authenticated;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP FUNCTION public.exec_sql, public.count_of, public.quoted, public.as_caller, public.unpinned, public.by_number, public.by_format, public.by_variable, public.by_admin, public.number_only, public."odd; --", public."inCamelCase", public.by_concat, public.make_admin, public.set_claims, public.rename;
REVOKE CREATE ON SCHEMA private FROM authenticated;

\set check '\'permission_model\', \'self_granted_memberships\''
CREATE POLICY join_any ON public.org_members FOR INSERT TO authenticated WITH CHECK (user_id = auth.uid());
CREATE POLICY join_as_member ON public.org_members FOR INSERT TO authenticated WITH CHECK (user_id = auth.uid() AND role = 'member');
CREATE TABLE public.user_roles (user_id uuid PRIMARY KEY, role text);
ALTER TABLE public.user_roles ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_own ON public.user_roles USING (auth.uid() = user_id);
-- who may not say which, or is not let
CREATE TABLE public.group_members (user_id uuid PRIMARY KEY, role text);
ALTER TABLE public.group_members ENABLE ROW LEVEL SECURITY;
REVOKE INSERT ON public.group_members FROM anon, authenticated;
GRANT INSERT (user_id) ON public.group_members TO authenticated;
CREATE POLICY own ON public.group_members FOR INSERT WITH CHECK (auth.uid() = user_id);
CREATE TABLE public.club_members (user_id uuid PRIMARY KEY, role text);
ALTER TABLE public.club_members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.club_members FOR INSERT WITH CHECK (auth.uid() = user_id);
CREATE FUNCTION public.plain_member() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.role := 'member'; RETURN NEW; END$$;
CREATE TRIGGER plain BEFORE INSERT ON public.club_members FOR EACH ROW EXECUTE FUNCTION public.plain_member();
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
DROP POLICY join_as_member ON public.org_members;
DROP TABLE public.user_roles, public.group_members, public.club_members;
DROP FUNCTION public.plain_member;

\set check '\'permission_model\', \'rights_in_columns\''
CREATE TABLE public.customers (id uuid PRIMARY KEY, name text, role text, is_admin boolean, total integer GENERATED ALWAYS AS (1) STORED);
ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.customers FOR UPDATE TO authenticated USING (id = (SELECT auth.uid()));
CREATE TABLE public.accounts_open (id uuid PRIMARY KEY, permissions text[]);
CREATE TABLE public.guarded (id uuid PRIMARY KEY, is_admin boolean);
ALTER TABLE public.guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.guarded FOR UPDATE TO authenticated USING (id = auth.uid());
CREATE FUNCTION public.keep_admin() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.is_admin := OLD.is_admin; RETURN NEW; END$$;
CREATE TRIGGER keep_admin BEFORE UPDATE ON public.guarded FOR EACH ROW EXECUTE FUNCTION public.keep_admin();
CREATE TABLE public.narrow (id uuid PRIMARY KEY, name text, is_admin boolean);
ALTER TABLE public.narrow ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.narrow FOR UPDATE USING (id = auth.uid());
REVOKE UPDATE ON public.narrow FROM anon, authenticated;
GRANT UPDATE (name) ON public.narrow TO authenticated;
-- what is paid for, and what is said at the beginning
CREATE TABLE public.people (id uuid PRIMARY KEY, name text, plan text, is_premium boolean, is_admin boolean);
ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.people USING (id = auth.uid());
CREATE TABLE public.companies (id uuid PRIMARY KEY, name text, subscription_tier text);
ALTER TABLE public.companies ENABLE ROW LEVEL SECURITY;
CREATE POLICY theirs ON public.companies FOR UPDATE USING (id IN (SELECT public.my_orgs()));
CREATE POLICY service ON public.companies FOR UPDATE USING (auth.role() = 'service_role');
CREATE TABLE public.workouts (id uuid PRIMARY KEY, user_id uuid, plan text);
ALTER TABLE public.workouts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.workouts USING (user_id = auth.uid());
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
SELECT grantee, table_name, string_agg(column_name, ' ' ORDER BY column_name) AS may_update FROM information_schema.column_privileges
 WHERE table_name IN ('customers', 'accounts_open') AND grantee IN ('anon', 'authenticated') AND privilege_type = 'UPDATE' GROUP BY 1, 2 ORDER BY 1, 2;
DROP TABLE public.customers, public.accounts_open, public.guarded, public.narrow, public.people, public.companies, public.workouts;
DROP FUNCTION public.keep_admin;

\set check '\'session_management\', \'expired_sessions\''
UPDATE auth.sessions SET not_after = now() - interval '8 days' WHERE id = public.user_of(101);
UPDATE auth.sessions SET not_after = now() - interval '1 day' WHERE id = public.user_of(102);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'session_management\', \'sessions_of_banned_users\''
UPDATE auth.users SET banned_until = now() + interval '1 day' WHERE id = public.user_of(3);
UPDATE auth.users SET banned_until = now() - interval '1 day' WHERE id = public.user_of(4);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
UPDATE auth.users SET banned_until = NULL;

\set check '\'session_management\', \'parallel_sessions\''
UPDATE invite_sync.organization SET max_concurrent_sessions = 2 WHERE id = public.user_of(50);
INSERT INTO auth.sessions (id, user_id, created_at, updated_at) SELECT public.user_of(110 + n), public.user_of(1), now() - n * interval '1 hour', now() - n * interval '1 hour' FROM generate_series(1, 5) n;
INSERT INTO auth.sessions (id, user_id, created_at, updated_at) SELECT public.user_of(120 + n), public.user_of(4), now(), now() FROM generate_series(1, 51) n;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
SELECT id FROM auth.sessions WHERE user_id = public.user_of(1) ORDER BY 1;
DELETE FROM auth.sessions WHERE user_id = public.user_of(4);

\set check '\'session_management\', \'stale_flow_state\''
UPDATE auth.flow_state SET created_at = now() - interval '8 days';
INSERT INTO auth.flow_state (id, provider_type, authentication_method, created_at) VALUES (public.user_of(2), 'email', 'email', now() - interval '8 days');
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'session_management\', \'readable_auth_tables\''
GRANT SELECT (id, email) ON auth.users TO authenticated;
GRANT SELECT ON auth.sessions TO PUBLIC;
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'session_management\', \'lockout\''
SET invite_sync.lockout_attempts = 0;
DELETE FROM audit_test.healthy WHERE check_name = 'lockout';
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
\c
\x on
SELECT * FROM audit_test.found(:check);

\set check '\'enterprise_readiness\', \'sso\''
INSERT INTO auth.sso_providers (id) VALUES (public.user_of(2));
UPDATE auth.users SET email = 'somebody@SSO.example' WHERE id = public.user_of(6);
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider) VALUES ('8', public.user_of(8), '{}', 'sso:' || public.user_of(3));
SELECT * FROM audit_test.found(:check);
DELETE FROM auth.sso_providers WHERE id = public.user_of(2);
UPDATE auth.users SET email = 'u6@x.example' WHERE id = public.user_of(6);
DELETE FROM auth.identities WHERE provider_id = '8';

\set check '\'enterprise_readiness\', \'scim\''
SELECT (invite_sync.add_member(:'acme', public.user_of(9), 'member')).role;
UPDATE auth.users SET last_sign_in_at = now() - interval '91 days' WHERE id IN (public.user_of(9), public.user_of(2));
SELECT * FROM audit_test.found(:check);
SELECT (invite_sync.remove_member(:'acme', public.user_of(9))).user_id;

\set check '\'enterprise_readiness\', \'domains\''
INSERT INTO invite_sync.organization_domain (id, organization_id, domain, challenge, created_at, verified_at) VALUES (public.user_of(1), public.user_of(50), 'claimed.example', 'x', now() - interval '31 days', NULL),
    (public.user_of(2), public.user_of(50), 'verified.example', 'x', now() - interval '31 days', now()), (public.user_of(3), public.user_of(50), 'new.example', 'x', now(), NULL);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at) VALUES (public.user_of(50), 'sso.example', 'x', now());
SELECT finding FROM invite_sync.audit('enterprise_readiness') WHERE check_name = 'domains';

\set check '\'enterprise_readiness\', \'audit_retention\''
ALTER TABLE invite_sync.event DISABLE TRIGGER event_append_only;
UPDATE invite_sync.event SET at = at - interval '3 years' WHERE id <= 3;
SELECT * FROM audit_test.found(:check);
SELECT fix FROM audit_test.found(:check) \gexec
SELECT audit_test.mended(:check);
-- what a seal of today covers goes with it, later
SELECT count(*) > 0 AS sealed FROM invite_sync.seal_events();
ALTER TABLE invite_sync.event DISABLE TRIGGER event_append_only;
UPDATE invite_sync.event SET at = at - interval '3 years' WHERE id = 4;
ALTER TABLE invite_sync.event ENABLE TRIGGER event_append_only;
INSERT INTO invite_sync.event (at, kind, action) VALUES (now() - interval '2 days', 'admin', 'test');
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

\set check '\'enterprise_readiness\', \'erasure\''
CREATE TABLE public.orders (id bigint PRIMARY KEY, buyer uuid REFERENCES auth.users, seller uuid NOT NULL CONSTRAINT "the seller" REFERENCES auth.users ON UPDATE CASCADE ON DELETE RESTRICT DEFERRABLE);
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'public.orders'::regclass AND contype = 'f' ORDER BY 1;
DROP TABLE public.orders;

\set check '\'enterprise_readiness\', \'export\''
CREATE TABLE public.clicks (id bigint PRIMARY KEY, user_id uuid);
SELECT * FROM audit_test.found(:check);
DROP TABLE public.clicks;

\set check '\'enterprise_readiness\', \'dump\''
CREATE ROLE regress_audit_owner;
ALTER DATABASE doctor_audit OWNER TO regress_audit_owner;
CREATE TABLE audit_test.extension AS SELECT extconfig, extcondition FROM pg_catalog.pg_extension WHERE extname = 'invite_sync';
UPDATE pg_catalog.pg_extension SET extconfig = array_remove(extconfig, 'invite_sync.role'::regclass::oid), extcondition = extcondition[2:] WHERE extname = 'invite_sync';
SELECT * FROM audit_test.found(:check);
SELECT audit_test.mended(:check);

UPDATE pg_catalog.pg_extension x SET (extconfig, extcondition) = (SELECT e.extconfig, e.extcondition FROM audit_test.extension e) WHERE extname = 'invite_sync';
SELECT count(*) FROM audit_test.found(:check);

-- ---- an auth server of another age, and one whose tables are not its own ----
\x off
SET client_min_messages = warning;
DROP TABLE auth.flow_state CASCADE;
ALTER TABLE auth.sessions DROP COLUMN not_after;
ALTER TABLE auth.one_time_tokens OWNER TO postgres;
CREATE FUNCTION auth.trap() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$;
CREATE POLICY trap ON auth.sso_providers USING (auth.trap());
ALTER TABLE auth.sso_providers FORCE ROW LEVEL SECURITY;
SELECT check_name, severity, finding, detail FROM invite_sync.audit() WHERE finding NOT IN ('looked at') AND object IS NULL;
DROP SCHEMA auth CASCADE;
SELECT area, count(*) FILTER (WHERE finding = 'looked at') AS looked, count(*) FILTER (WHERE finding = 'not looked at' AND detail = 'There is no table auth.users.') AS without,
    count(*) FILTER (WHERE finding = 'not looked at' AND detail <> 'There is no table auth.users.') AS failed FROM invite_sync.audit() GROUP BY 1 ORDER BY 1;
-- what is ours is looked at all the same
INSERT INTO invite_sync.organization_domain (id, organization_id, domain, challenge, created_at) VALUES (public.user_of(9), public.user_of(50), 'forgotten.example', 'x', now() - interval '31 days');
SELECT finding, object, detail FROM invite_sync.audit('enterprise_readiness') WHERE check_name = 'domains';

-- ---- schemas of other tastes, all of them sound: nothing above info ----
\c postgres
DROP DATABASE doctor_audit WITH (FORCE);
DROP ROLE regress_audit_owner;
CREATE DATABASE doctor_audit;
\c doctor_audit
SET client_min_messages = warning;
\set ECHO none
\i test/fixture/auth_schema.sql
SET client_min_messages = warning;
\set ECHO all
CREATE EXTENSION invite_sync;
-- the usual quick start: profiles, todos, public read
SET ROLE postgres;
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, updated_at timestamptz, username text UNIQUE, full_name text, avatar_url text, website text);
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Public profiles are viewable by everyone." ON public.profiles FOR SELECT USING (true);
CREATE POLICY "Users can insert their own profile." ON public.profiles FOR INSERT WITH CHECK ((SELECT auth.uid()) = id);
CREATE POLICY "Users can update own profile." ON public.profiles FOR UPDATE USING ((SELECT auth.uid()) = id);
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$begin insert into public.profiles (id, full_name, avatar_url) values (new.id, new.raw_user_meta_data->>'full_name', new.raw_user_meta_data->>'avatar_url'); return new; end$$;
CREATE TABLE public.todos (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE, task text, is_complete boolean);
ALTER TABLE public.todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Individuals can create todos." ON public.todos FOR INSERT WITH CHECK ((SELECT auth.uid()) = user_id);
CREATE POLICY "Individuals can view their own todos. " ON public.todos FOR SELECT USING ((SELECT auth.uid()) = user_id);
-- roles and permissions of channels, by a claim
CREATE TYPE public.app_permission AS ENUM ('channels.delete', 'messages.delete');
CREATE TYPE public.app_role AS ENUM ('admin', 'moderator');
CREATE TABLE public.users (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, username text, status text);
CREATE TABLE public.channels (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, slug text, created_by uuid REFERENCES public.users ON DELETE SET NULL);
CREATE TABLE public.user_roles (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid REFERENCES public.users ON DELETE CASCADE NOT NULL, role app_role NOT NULL, UNIQUE (user_id, role));
CREATE TABLE public.role_permissions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, role app_role NOT NULL, permission app_permission NOT NULL);
CREATE FUNCTION public.authorize(requested_permission app_permission) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
declare bind_permissions int; begin
  select count(*) from public.role_permissions where role_permissions.permission = authorize.requested_permission and role_permissions.role = (auth.jwt() ->> 'user_role')::public.app_role into bind_permissions;
  return bind_permissions > 0; end$$;
ALTER TABLE public.users ENABLE ROW LEVEL SECURITY; ALTER TABLE public.channels ENABLE ROW LEVEL SECURITY; ALTER TABLE public.user_roles ENABLE ROW LEVEL SECURITY; ALTER TABLE public.role_permissions ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Allow logged-in read access" ON public.users FOR SELECT USING (auth.role() = 'authenticated');
CREATE POLICY "Allow individual update access" ON public.users FOR UPDATE USING (auth.uid() = id);
CREATE POLICY "Allow logged-in read access" ON public.channels FOR SELECT USING (auth.role() = 'authenticated');
CREATE POLICY "Allow authorized delete access" ON public.channels FOR DELETE USING (public.authorize('channels.delete'));
CREATE POLICY "Allow individual read access" ON public.user_roles FOR SELECT USING (auth.uid() = user_id);
CREATE POLICY "Allow auth admin to read user roles" ON public.user_roles FOR SELECT TO supabase_auth_admin USING (true);
-- accounts, their users and invitations
CREATE SCHEMA basejump; GRANT USAGE ON SCHEMA basejump TO authenticated, service_role;
CREATE TABLE basejump.accounts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), primary_owner_user_id uuid REFERENCES auth.users ON DELETE CASCADE NOT NULL DEFAULT auth.uid(), name text, slug text UNIQUE, personal_account boolean DEFAULT false NOT NULL);
CREATE TYPE basejump.account_role AS ENUM ('owner', 'member');
CREATE TABLE basejump.account_user (user_id uuid REFERENCES auth.users ON DELETE CASCADE NOT NULL, account_id uuid REFERENCES basejump.accounts ON DELETE CASCADE NOT NULL, account_role basejump.account_role NOT NULL, PRIMARY KEY (user_id, account_id));
GRANT SELECT, INSERT, UPDATE, DELETE ON basejump.accounts, basejump.account_user TO authenticated, service_role;
ALTER TABLE basejump.accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE basejump.account_user ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION basejump.has_role_on_account(account_id uuid, account_role basejump.account_role DEFAULT NULL) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
select exists(select 1 from basejump.account_user wu where wu.user_id = auth.uid() and wu.account_id = has_role_on_account.account_id and (wu.account_role = has_role_on_account.account_role or has_role_on_account.account_role is null))$$;
CREATE FUNCTION basejump.get_accounts_with_role(passed_in_role basejump.account_role DEFAULT NULL) RETURNS SETOF uuid LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
select account_id from basejump.account_user wu where wu.user_id = auth.uid() and (wu.account_role = passed_in_role or passed_in_role is null)$$;
CREATE POLICY "users can view their own account_users" ON basejump.account_user FOR SELECT TO authenticated USING (user_id = auth.uid());
CREATE POLICY "users can view their teammates" ON basejump.account_user FOR SELECT TO authenticated USING (basejump.has_role_on_account(account_id) = true);
CREATE POLICY "Account users can be deleted by owners except primary account owner" ON basejump.account_user FOR DELETE TO authenticated
  USING ((basejump.has_role_on_account(account_id, 'owner') = true) AND user_id <> (SELECT primary_owner_user_id FROM basejump.accounts WHERE account_id = accounts.id));
CREATE POLICY "Accounts are viewable by members" ON basejump.accounts FOR SELECT TO authenticated USING (basejump.has_role_on_account(id) = true);
CREATE POLICY "Team accounts can be created by any user" ON basejump.accounts FOR INSERT TO authenticated WITH CHECK (personal_account = false);
CREATE TABLE basejump.invitations (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account_role basejump.account_role NOT NULL, account_id uuid REFERENCES basejump.accounts ON DELETE CASCADE NOT NULL, token text UNIQUE NOT NULL DEFAULT 'x', invited_by_user_id uuid REFERENCES auth.users ON DELETE CASCADE NOT NULL);
ALTER TABLE basejump.invitations ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON basejump.invitations TO authenticated;
CREATE POLICY "Invitations viewable by account owners" ON basejump.invitations FOR SELECT TO authenticated USING (basejump.has_role_on_account(account_id, 'owner') = true);
CREATE FUNCTION public.lookup_invitation(lookup_invitation_token text) RETURNS json LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, basejump AS $$declare name text; begin select a.name into name from basejump.invitations i join basejump.accounts a on a.id = i.account_id where i.token = lookup_invitation_token; return json_build_object('name', name); end$$;
CREATE FUNCTION public.create_account(slug text DEFAULT NULL, name text DEFAULT NULL) RETURNS json LANGUAGE plpgsql SET search_path = '' AS $$begin insert into basejump.accounts (slug, name) values (create_account.slug, create_account.name); return '{}'::json; end$$;
-- a helper that is told who is asking
CREATE FUNCTION public.has_role(_user_id uuid, _role app_role) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$select exists (select 1 from public.user_roles where user_id = _user_id and role = _role)$$;
CREATE POLICY "Admins can manage roles" ON public.user_roles FOR ALL TO authenticated USING (public.has_role(auth.uid(), 'admin'));
-- a schema of its own, out of reach
CREATE SCHEMA app;
CREATE TABLE app."User" (id text PRIMARY KEY, "organizationId" text, role text, "isAdmin" boolean);
CREATE TABLE app."Organization" (id text PRIMARY KEY);
-- teams, with a helper in a schema that is not exposed
CREATE SCHEMA private; GRANT USAGE ON SCHEMA private TO authenticated;
CREATE TABLE public.teams (id uuid PRIMARY KEY, name text, owner_id uuid REFERENCES auth.users ON DELETE SET NULL);
CREATE TABLE public.team_members (team_id uuid REFERENCES public.teams ON DELETE CASCADE, user_id uuid REFERENCES auth.users ON DELETE CASCADE, role text, PRIMARY KEY (team_id, user_id));
ALTER TABLE public.teams ENABLE ROW LEVEL SECURITY; ALTER TABLE public.team_members ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION private.team_ids() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$select team_id from public.team_members where user_id = (select auth.uid())$$;
CREATE POLICY m ON public.team_members FOR SELECT TO authenticated USING (team_id IN (SELECT private.team_ids()));
CREATE POLICY o ON public.team_members FOR INSERT TO authenticated WITH CHECK (EXISTS (SELECT 1 FROM public.teams t WHERE t.id = team_members.team_id AND t.owner_id = (SELECT auth.uid())));
CREATE POLICY own ON public.teams FOR ALL TO authenticated USING (owner_id = (SELECT auth.uid())) WITH CHECK (owner_id = (SELECT auth.uid()));
CREATE POLICY leave ON public.team_members FOR DELETE TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE TABLE public.team_docs (id uuid PRIMARY KEY, team_id uuid REFERENCES public.teams ON DELETE CASCADE, author_id uuid REFERENCES auth.users ON DELETE SET NULL, body text);
CREATE INDEX ON public.team_docs (team_id);
ALTER TABLE public.team_docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY d ON public.team_docs TO authenticated USING (EXISTS (SELECT 1 FROM public.team_members tm WHERE tm.team_id = team_docs.team_id AND tm.user_id = (SELECT auth.uid())));
CREATE POLICY u ON public.team_docs FOR UPDATE TO authenticated USING (author_id = auth.uid());
-- a shop: products for all, orders for oneself
CREATE TABLE public.products (id text PRIMARY KEY, active boolean, name text);
ALTER TABLE public.products ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Allow public read-only access." ON public.products FOR SELECT USING (true);
CREATE TABLE public.orders (id bigint PRIMARY KEY, user_id uuid REFERENCES auth.users ON DELETE SET NULL, company_id bigint, total numeric);
CREATE INDEX ON public.orders (user_id);
ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.orders FOR SELECT USING (auth.uid() = user_id);
CREATE VIEW public.order_totals WITH (security_invoker = true) AS SELECT user_id, sum(total) FROM public.orders GROUP BY 1;
CREATE VIEW public.catalog AS SELECT id, name FROM public.products;
-- a role that a policy keeps as it is
CREATE TABLE public.members (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, display_name text, role text DEFAULT 'user');
ALTER TABLE public.members ENABLE ROW LEVEL SECURITY;
CREATE POLICY upd ON public.members FOR UPDATE USING (id = auth.uid()) WITH CHECK (id = auth.uid() AND role = (SELECT m.role FROM public.members m WHERE m.id = auth.uid()));
-- a role that is no right
CREATE TABLE public.chats (id uuid PRIMARY KEY, user_id uuid REFERENCES auth.users ON DELETE CASCADE, title text);
CREATE TABLE public.chat_messages (id uuid PRIMARY KEY, chat_id uuid REFERENCES public.chats ON DELETE CASCADE, user_id uuid REFERENCES auth.users ON DELETE CASCADE, role text CHECK (role IN ('user', 'assistant')), content text);
ALTER TABLE public.chats ENABLE ROW LEVEL SECURITY; ALTER TABLE public.chat_messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.chats USING (auth.uid() = user_id);
CREATE POLICY own ON public.chat_messages USING (auth.uid() = user_id);
CREATE FUNCTION public.match_documents(query_embedding float8[], match_count int) RETURNS SETOF public.chats LANGUAGE plpgsql STABLE SET search_path = '' AS $$begin return query select * from public.chats limit match_count; end$$;
RESET ROLE;
SELECT check_name, object, finding, detail FROM invite_sync.audit() WHERE severity <> 'info' OR finding = 'not looked at';
SELECT check_name, object, finding FROM invite_sync.audit() WHERE finding <> 'looked at';

-- ---- and one with organizations of its own, as most have them ----
\c postgres
DROP DATABASE doctor_audit WITH (FORCE);
CREATE DATABASE doctor_audit;
\c doctor_audit
SET client_min_messages = warning;
\set ECHO none
\i test/fixture/auth_schema.sql
SET client_min_messages = warning;
\set ECHO all
CREATE EXTENSION invite_sync;
SET ROLE postgres;
-- the usual organizations, helper in private schema
CREATE SCHEMA private; GRANT USAGE ON SCHEMA private TO authenticated;
CREATE TABLE public.organizations (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, slug text UNIQUE, parent_id uuid REFERENCES public.organizations);
ALTER TABLE public.organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY directory ON public.organizations FOR SELECT USING (true);
CREATE TABLE public.memberships (organization_id uuid NOT NULL REFERENCES public.organizations ON DELETE CASCADE, user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE, role text NOT NULL DEFAULT 'member', PRIMARY KEY (user_id, organization_id));
CREATE INDEX ON public.memberships (organization_id);
ALTER TABLE public.memberships ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION private.orgs_of_user() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT organization_id FROM public.memberships WHERE user_id = (SELECT auth.uid())$$;
CREATE FUNCTION private.has_role(_user uuid, _org uuid, _role text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT EXISTS (SELECT 1 FROM public.memberships m WHERE m.user_id = _user AND m.organization_id = _org AND m.role = _role)$$;
CREATE FUNCTION private.can_edit(_org uuid) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$BEGIN RETURN private.has_role(auth.uid(), _org, 'admin') OR private.has_role(auth.uid(), _org, 'owner'); END$$;
CREATE POLICY see ON public.memberships FOR SELECT TO authenticated USING (organization_id IN (SELECT private.orgs_of_user()));
CREATE POLICY manage ON public.memberships FOR ALL TO authenticated USING (private.can_edit(organization_id)) WITH CHECK (private.can_edit(organization_id));
CREATE TABLE public.projects (id bigint PRIMARY KEY, organization_id uuid NOT NULL REFERENCES public.organizations ON DELETE CASCADE, created_by uuid REFERENCES auth.users ON DELETE SET NULL, published_at timestamptz, deleted_at timestamptz, is_public boolean);
CREATE INDEX ON public.projects (organization_id); CREATE INDEX ON public.projects (created_by);
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON public.projects FOR SELECT TO authenticated USING (deleted_at IS NULL AND organization_id = ANY (ARRAY(SELECT private.orgs_of_user())));
CREATE POLICY published ON public.projects FOR SELECT TO anon USING (published_at IS NOT NULL);
CREATE POLICY pub2 ON public.projects FOR SELECT USING (is_public OR organization_id IN (SELECT private.orgs_of_user()));
CREATE POLICY ins ON public.projects FOR INSERT TO authenticated WITH CHECK (created_by = auth.uid() AND private.can_edit(organization_id));
CREATE POLICY upd ON public.projects FOR UPDATE TO authenticated USING ((SELECT private.can_edit(organization_id)));
CREATE POLICY no_delete ON public.projects AS RESTRICTIVE FOR DELETE USING (false);
CREATE POLICY del ON public.projects FOR DELETE TO authenticated USING (auth.uid() IS NOT NULL);
CREATE POLICY mfa ON public.projects AS RESTRICTIVE FOR UPDATE TO authenticated USING (auth.jwt()->>'aal' = 'aal2');
CREATE POLICY superadmin ON public.projects FOR ALL TO authenticated USING ((auth.jwt()->'app_metadata'->>'role') = 'superadmin');
CREATE POLICY service ON public.projects FOR ALL USING (auth.role() = 'service_role');
CREATE POLICY svc2 ON public.projects FOR ALL USING (auth.jwt()->>'role' = 'service_role');
CREATE TABLE public.tasks (id bigint PRIMARY KEY, project_id bigint REFERENCES public.projects ON DELETE CASCADE, title text);
ALTER TABLE public.tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY t ON public.tasks TO authenticated USING (EXISTS (SELECT 1 FROM public.projects p WHERE p.id = tasks.project_id));
CREATE POLICY t2 ON public.tasks TO authenticated USING (project_id IN (SELECT id FROM public.projects));
CREATE POLICY t3 ON public.projects FOR SELECT USING (organization_id IN (SELECT organization_id FROM public.memberships));
-- global rows beside own ones
CREATE TABLE public.templates (id bigint PRIMARY KEY, organization_id uuid REFERENCES public.organizations ON DELETE CASCADE); CREATE INDEX ON public.templates (organization_id);
ALTER TABLE public.templates ENABLE ROW LEVEL SECURITY;
CREATE POLICY t ON public.templates FOR SELECT USING (organization_id IS NULL OR organization_id IN (SELECT private.orgs_of_user()));
-- login page, RPCs
CREATE FUNCTION public.organization_by_slug(s text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT id FROM public.organizations WHERE slug = s$$;
CREATE FUNCTION public.create_organization(name text) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE o uuid; BEGIN IF auth.uid() IS NULL THEN RAISE EXCEPTION 'no'; END IF; INSERT INTO public.organizations (name) VALUES (name) RETURNING id INTO o; INSERT INTO public.memberships (organization_id, user_id, role) VALUES (o, auth.uid(), 'owner'); RETURN o; END$$;
CREATE FUNCTION public.set_role(_org uuid, _user uuid, _role text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$BEGIN IF NOT private.can_edit(_org) THEN RAISE EXCEPTION 'no'; END IF; UPDATE public.memberships SET role = _role WHERE user_id = _user AND organization_id = _org; END$$;
CREATE FUNCTION public.health() RETURNS json LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE projects int := 1; tasks json; BEGIN RETURN json_build_object('projects', projects); END$$;
-- restrictive pair per role
CREATE TABLE public.notes (id bigint PRIMARY KEY, tenant_id uuid); CREATE INDEX ON public.notes (tenant_id); ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON public.notes USING (true); CREATE POLICY r1 ON public.notes AS RESTRICTIVE TO anon USING (false); CREATE POLICY r2 ON public.notes AS RESTRICTIVE TO authenticated USING (tenant_id IN (SELECT private.orgs_of_user()));
-- views
CREATE VIEW public.v_inv WITH (security_invoker) AS SELECT * FROM public.projects;
CREATE VIEW public.v_over_inv AS SELECT count(*) FROM public.v_inv;
CREATE VIEW public.v_public AS SELECT id, name FROM public.organizations;
CREATE VIEW private.v_admin AS SELECT * FROM public.projects;
-- sport: public by purpose
CREATE TABLE public.teams (id bigint PRIMARY KEY, name text); ALTER TABLE public.teams ENABLE ROW LEVEL SECURITY; CREATE POLICY r ON public.teams FOR SELECT USING (true);
CREATE TABLE public.games (id bigint PRIMARY KEY, team_id bigint REFERENCES public.teams ON DELETE CASCADE, score int); ALTER TABLE public.games ENABLE ROW LEVEL SECURITY; CREATE POLICY r ON public.games FOR SELECT USING (true);
CREATE TABLE public.fans (team_id bigint REFERENCES public.teams ON DELETE CASCADE, user_id uuid REFERENCES auth.users ON DELETE CASCADE, PRIMARY KEY (user_id, team_id)); ALTER TABLE public.fans ENABLE ROW LEVEL SECURITY; CREATE POLICY r ON public.fans FOR SELECT USING (true);
CREATE VIEW public.standings AS SELECT team_id, sum(score) FROM public.games GROUP BY 1;
CREATE MATERIALIZED VIEW public.best AS SELECT team_id, max(score) FROM public.games GROUP BY 1;
CREATE FUNCTION public.team_score(t bigint) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT sum(score) FROM public.games WHERE team_id = t$$;
-- columns granted one by one
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, display_name text, bio text, plan text, tier text, is_admin boolean DEFAULT false, role text, newsletter boolean);
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
REVOKE INSERT, UPDATE ON public.profiles FROM anon, authenticated; GRANT UPDATE (display_name, bio, newsletter), INSERT (id, display_name) ON public.profiles TO authenticated;
CREATE POLICY s ON public.profiles FOR SELECT USING (id = auth.uid()); CREATE POLICY u ON public.profiles FOR UPDATE USING (id = auth.uid()); CREATE POLICY i ON public.profiles FOR INSERT WITH CHECK (id = auth.uid());
-- guarded by triggers
CREATE TABLE public.customers (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, name text, plan text, is_admin boolean); ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY u ON public.customers USING (id = auth.uid());
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF TG_OP = 'INSERT' THEN NEW.plan := 'free'; NEW.is_admin := false; ELSE NEW.plan := OLD.plan; NEW.is_admin := OLD.is_admin; END IF; RETURN NEW; END$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON public.customers FOR EACH ROW EXECUTE FUNCTION public.guard();
-- plans for all to read, tiers of prices, workout plans
CREATE TABLE public.plans (id int PRIMARY KEY, name text, tier text); ALTER TABLE public.plans ENABLE ROW LEVEL SECURITY; CREATE POLICY r ON public.plans FOR SELECT USING (true);
CREATE TABLE public.workouts (id int PRIMARY KEY, user_id uuid REFERENCES auth.users ON DELETE CASCADE, plan text, level int); CREATE INDEX ON public.workouts (user_id); ALTER TABLE public.workouts ENABLE ROW LEVEL SECURITY; CREATE POLICY o ON public.workouts USING (user_id = auth.uid());
-- shares by a header's token
CREATE TABLE public.shares (id int PRIMARY KEY, share_token text, project_id bigint REFERENCES public.projects ON DELETE CASCADE); ALTER TABLE public.shares ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON public.shares FOR SELECT USING (share_token = current_setting('request.headers', true)::json->>'x-share-token');
-- a queue that nobody reaches, with a definer that asks
CREATE TABLE private.secrets (tenant_id uuid, v text);
CREATE FUNCTION public.my_secret() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$SELECT v FROM private.secrets WHERE tenant_id IN (SELECT private.orgs_of_user())$$;
-- dynamic SQL that quotes
CREATE FUNCTION public.dyn(t text, id int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$DECLARE q text; BEGIN q := format('SELECT * FROM public.%I WHERE id = %s', t, id); EXECUTE q; q := 'x ' || quote_ident(t); EXECUTE format('SELECT %L', t); EXECUTE 'select $1' USING t; END$$;
-- which of their organizations, by a header, held against what they belong to
CREATE FUNCTION private.current_org() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$SELECT m.organization_id FROM public.memberships m WHERE m.user_id = auth.uid() AND m.organization_id = (current_setting('request.headers', true)::json ->> 'x-org')::uuid$$;
CREATE POLICY current ON public.templates FOR INSERT WITH CHECK (organization_id = private.current_org());
-- accounts, personal ones and those of teams
CREATE SCHEMA kit; REVOKE ALL ON SCHEMA kit FROM PUBLIC; GRANT USAGE ON SCHEMA kit TO authenticated, service_role;
CREATE TYPE public.app_permissions AS ENUM ('roles.manage','settings.manage');
CREATE TABLE public.accounts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), primary_owner_user_id uuid REFERENCES auth.users ON DELETE CASCADE NOT NULL DEFAULT auth.uid(), name text, slug text UNIQUE, email text UNIQUE, is_personal_account boolean DEFAULT false NOT NULL, picture_url text, public_data jsonb DEFAULT '{}', updated_by uuid REFERENCES auth.users ON DELETE SET NULL);
ALTER TABLE public.accounts ENABLE ROW LEVEL SECURITY; REVOKE ALL ON public.accounts FROM anon, authenticated; GRANT SELECT, INSERT, UPDATE, DELETE ON public.accounts TO authenticated;
CREATE TABLE public.roles (name varchar(50) PRIMARY KEY, hierarchy_level int UNIQUE); ALTER TABLE public.roles ENABLE ROW LEVEL SECURITY; REVOKE ALL ON public.roles FROM anon, authenticated; GRANT SELECT ON public.roles TO authenticated;
CREATE TABLE public.accounts_memberships (user_id uuid REFERENCES auth.users ON DELETE CASCADE NOT NULL, account_id uuid REFERENCES public.accounts ON DELETE CASCADE NOT NULL, account_role varchar(50) REFERENCES public.roles(name) NOT NULL, created_by uuid REFERENCES auth.users ON DELETE SET NULL, PRIMARY KEY (user_id, account_id));
CREATE INDEX ON public.accounts_memberships (account_id);
ALTER TABLE public.accounts_memberships ENABLE ROW LEVEL SECURITY; REVOKE ALL ON public.accounts_memberships FROM anon, authenticated; GRANT SELECT, DELETE ON public.accounts_memberships TO authenticated;
CREATE FUNCTION public.has_role_on_account(account_id uuid, account_role varchar(50) DEFAULT NULL) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$ select exists (select 1 from public.accounts_memberships membership where membership.user_id = (select auth.uid()) and membership.account_id = has_role_on_account.account_id and ((membership.account_role = has_role_on_account.account_role or has_role_on_account.account_role is null))); $$;
CREATE FUNCTION public.is_team_member(account_id uuid, user_id uuid) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$ select exists (select 1 from public.accounts_memberships membership where public.has_role_on_account(account_id) and membership.user_id = is_team_member.user_id and membership.account_id = is_team_member.account_id); $$;
CREATE FUNCTION public.is_account_owner(account_id uuid) RETURNS boolean LANGUAGE sql SET search_path = '' AS $$ select exists (select 1 from public.accounts where id = is_account_owner.account_id and primary_owner_user_id = auth.uid()); $$;
CREATE FUNCTION public.can_action_account_member(target_team_account_id uuid, target_user_id uuid) RETURNS boolean LANGUAGE plpgsql SET search_path = '' AS $$declare permission_granted boolean; begin if target_user_id = auth.uid() then raise exception 'no'; end if; return public.has_role_on_account(target_team_account_id); end;$$;
CREATE FUNCTION public.is_mfa_compliant() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$begin return array[(select auth.jwt()->>'aal')] <@ (select case when count(id) > 0 then array['aal2'] else array['aal1','aal2'] end from auth.mfa_factors where ((select auth.uid()) = auth.mfa_factors.user_id) and auth.mfa_factors.status = 'verified'); end$$;
CREATE FUNCTION public.is_super_admin() RETURNS boolean LANGUAGE plpgsql SET search_path = '' AS $$declare is_super_admin boolean; begin if not (select auth.jwt()->>'aal') = 'aal2' then return false; end if; select (auth.jwt() ->> 'app_metadata')::jsonb ->> 'role' = 'super-admin' into is_super_admin; return coalesce(is_super_admin, false); end$$;
CREATE POLICY accounts_read ON public.accounts FOR SELECT TO authenticated USING ((SELECT auth.uid()) = primary_owner_user_id OR public.has_role_on_account(id));
CREATE POLICY accounts_self_update ON public.accounts FOR UPDATE TO authenticated USING ((SELECT auth.uid()) = primary_owner_user_id) WITH CHECK ((SELECT auth.uid()) = primary_owner_user_id);
CREATE POLICY create_org ON public.accounts FOR INSERT TO authenticated WITH CHECK (is_personal_account = false);
CREATE POLICY super_admin_read ON public.accounts FOR SELECT TO authenticated USING (public.is_super_admin());
CREATE POLICY restrict_mfa ON public.accounts AS RESTRICTIVE TO authenticated USING (public.is_mfa_compliant());
CREATE POLICY am_read ON public.accounts_memberships FOR SELECT TO authenticated USING ((SELECT auth.uid()) = user_id OR public.is_team_member(account_id, user_id));
CREATE POLICY am_delete ON public.accounts_memberships FOR DELETE TO authenticated USING (user_id = (SELECT auth.uid()) OR public.can_action_account_member(account_id, user_id));
CREATE POLICY super_admin ON public.accounts_memberships FOR SELECT TO authenticated USING (public.is_super_admin());
CREATE POLICY roles_read ON public.roles FOR SELECT TO authenticated USING (true);
CREATE TABLE public.subscriptions (id text PRIMARY KEY, account_id uuid REFERENCES public.accounts ON DELETE CASCADE, status text, active boolean, plan text); CREATE INDEX ON public.subscriptions (account_id); ALTER TABLE public.subscriptions ENABLE ROW LEVEL SECURITY; REVOKE ALL ON public.subscriptions FROM anon, authenticated; GRANT SELECT ON public.subscriptions TO authenticated;
CREATE POLICY s_read ON public.subscriptions FOR SELECT TO authenticated USING (public.has_role_on_account(account_id) OR account_id = (SELECT auth.uid()));
CREATE TABLE public.subscription_items (id varchar PRIMARY KEY, subscription_id text REFERENCES public.subscriptions ON DELETE CASCADE); ALTER TABLE public.subscription_items ENABLE ROW LEVEL SECURITY; REVOKE ALL ON public.subscription_items FROM anon, authenticated; GRANT SELECT ON public.subscription_items TO authenticated;
CREATE POLICY si ON public.subscription_items FOR SELECT TO authenticated USING (EXISTS (SELECT 1 FROM public.subscriptions WHERE id = subscription_id AND (account_id = (SELECT auth.uid()) OR public.has_role_on_account(account_id))));
CREATE TABLE public.invitations (id serial PRIMARY KEY, email varchar, account_id uuid REFERENCES public.accounts ON DELETE CASCADE, invited_by uuid REFERENCES auth.users ON DELETE CASCADE, role varchar REFERENCES public.roles(name), invite_token varchar UNIQUE); CREATE INDEX ON public.invitations (account_id); ALTER TABLE public.invitations ENABLE ROW LEVEL SECURITY; REVOKE ALL ON public.invitations FROM anon, authenticated; GRANT SELECT, INSERT, UPDATE, DELETE ON public.invitations TO authenticated;
CREATE POLICY inv_read ON public.invitations FOR SELECT TO authenticated USING (public.has_role_on_account(account_id));
CREATE POLICY inv_upd ON public.invitations FOR UPDATE TO authenticated USING (public.has_role_on_account(account_id) AND invited_by = auth.uid()) WITH CHECK (public.has_role_on_account(account_id));
CREATE FUNCTION public.accept_invitation(token text, user_id uuid) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$declare target_account_id uuid; begin select account_id into target_account_id from public.invitations where invite_token = token; insert into public.accounts_memberships(user_id, account_id, account_role) values (accept_invitation.user_id, target_account_id, 'member'); return target_account_id; end$$;
REVOKE ALL ON FUNCTION public.accept_invitation FROM PUBLIC, anon, authenticated;
CREATE FUNCTION public.transfer_team_account_ownership(target_account_id uuid, new_owner_id uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$begin if current_user not in ('service_role') then raise exception 'no'; end if; update public.accounts set primary_owner_user_id = new_owner_id where id = target_account_id; update public.accounts_memberships set account_role = 'owner' where user_id = new_owner_id; end$$;
CREATE FUNCTION kit.setup_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$begin insert into public.accounts (id, primary_owner_user_id, is_personal_account) values (new.id, new.id, true); return new; end$$;
CREATE FUNCTION kit.add_current_user_to_new_account() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$begin insert into public.accounts_memberships(account_id, user_id, account_role) values (new.id, auth.uid(), 'owner'); return new; end$$;
CREATE FUNCTION public.is_set(field_name text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$declare result boolean; begin execute format('select %I from public.roles limit 1', field_name) into result; return result; end$$;
CREATE FUNCTION public.get_account_members(account_slug text) RETURNS TABLE (id uuid, user_id uuid, account_role varchar) LANGUAGE plpgsql SET search_path = '' AS $$begin return query select m.account_id, m.user_id, m.account_role from public.accounts_memberships m join public.accounts a on a.id = m.account_id where a.slug = account_slug; end$$;
CREATE VIEW public.user_account_workspace WITH (security_invoker = true) AS SELECT a.id, a.name, (SELECT status FROM public.subscriptions WHERE account_id = a.id LIMIT 1) AS subscription_status FROM public.accounts a WHERE primary_owner_user_id = (SELECT auth.uid()) AND a.is_personal_account = true LIMIT 1;
-- RBAC with permissions per organization, and a platform admin
CREATE TABLE public.tenants (id uuid PRIMARY KEY, name text, plan text); ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;
CREATE TABLE public.tenant_users (tenant_id uuid REFERENCES public.tenants ON DELETE CASCADE, user_id uuid REFERENCES auth.users ON DELETE CASCADE, role text, is_owner boolean, PRIMARY KEY (user_id, tenant_id)); CREATE INDEX ON public.tenant_users (tenant_id); ALTER TABLE public.tenant_users ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION private_tenant() RETURNS uuid LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$begin return (select tenant_id from public.tenant_users where user_id = auth.uid() limit 1); end$$;
CREATE FUNCTION public.is_platform_admin() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$ SELECT EXISTS (SELECT 1 FROM public.tenant_users u WHERE u.user_id = auth.uid() AND u.role = 'platform_admin') $$;
CREATE POLICY t ON public.tenants FOR SELECT USING (id = private_tenant());
CREATE POLICY t_admin ON public.tenants FOR ALL USING (public.is_platform_admin());
CREATE POLICY tu ON public.tenant_users FOR SELECT USING (tenant_id = private_tenant());
CREATE POLICY tu_admin ON public.tenant_users FOR ALL USING (public.is_platform_admin());
CREATE TABLE public.orders (id bigint, tenant_id uuid NOT NULL DEFAULT private_tenant()) PARTITION BY HASH (id); CREATE INDEX ON public.orders (tenant_id); CREATE TABLE public.orders_0 PARTITION OF public.orders FOR VALUES WITH (MODULUS 1, REMAINDER 0);
ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE public.orders_0 ENABLE ROW LEVEL SECURITY; CREATE POLICY t ON public.orders USING (tenant_id = (SELECT private_tenant()));
-- feedback form, audit log, blog
CREATE TABLE public.feedback (id bigint, user_id uuid REFERENCES auth.users ON DELETE CASCADE, body text); ALTER TABLE public.feedback ENABLE ROW LEVEL SECURITY; CREATE POLICY f ON public.feedback FOR INSERT WITH CHECK (true);
CREATE TABLE public.posts (id bigint, author_id uuid REFERENCES auth.users ON DELETE CASCADE, body text); CREATE INDEX ON public.posts (author_id); ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY; CREATE POLICY r ON public.posts FOR SELECT USING (true); CREATE POLICY w ON public.posts FOR UPDATE USING (author_id = auth.uid());
CREATE VIEW public.post_list AS SELECT id, body FROM public.posts;
-- storage as the guide has it
RESET ROLE;
CREATE SCHEMA storage; CREATE TABLE storage.objects (id uuid PRIMARY KEY, bucket_id text, name text, owner uuid REFERENCES auth.users, owner_id text); ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA storage TO anon, authenticated; GRANT ALL ON storage.objects TO anon, authenticated;
CREATE POLICY "Avatar images are publicly accessible." ON storage.objects FOR SELECT USING (bucket_id = 'avatars');
CREATE POLICY "Anyone can upload an avatar." ON storage.objects FOR INSERT WITH CHECK (bucket_id = 'avatars');
CREATE POLICY own ON storage.objects FOR UPDATE TO authenticated USING ((SELECT auth.uid())::text = owner_id);
CREATE POLICY admin ON storage.objects TO service_role USING (true);
INSERT INTO storage.objects SELECT gen_random_uuid(), 'b', n::text FROM generate_series(1, 11000) n; ANALYZE storage.objects;
-- camel case
CREATE TABLE public."Doc" (id int PRIMARY KEY, "organizationId" uuid); ALTER TABLE public."Doc" ENABLE ROW LEVEL SECURITY; CREATE INDEX ON public."Doc" ("organizationId");
CREATE POLICY "m; --" ON public."Doc" USING ("organizationId" IN (SELECT private.orgs_of_user()));
SELECT check_name, object, finding, detail FROM invite_sync.audit() WHERE severity <> 'info' OR finding = 'not looked at';
SELECT check_name, object, finding FROM invite_sync.audit() WHERE finding <> 'looked at';

\c postgres
DROP DATABASE doctor_audit WITH (FORCE);
