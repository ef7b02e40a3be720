-- sql/standard.sql: tables made to order
--
-- create_standard_tables makes the application tables nearly every product
-- has, with the rights they should have had from the start.
-- create_auth_schema makes, on a PostgreSQL without an auth server, the part of
-- schema auth that invite_sync uses.
-- Both run as their caller and with the caller's rights, nothing more.

CREATE FUNCTION invite_sync.create_standard_tables(
	profiles boolean DEFAULT true,
	users boolean DEFAULT true,
	user_profiles boolean DEFAULT true,
	schema name DEFAULT 'public',
	execute boolean DEFAULT true)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	-- "execute" is a reserved word of PL/pgSQL.
	in_schema		ALIAS FOR $4;
	run				ALIAS FOR $5;

	-- How long the lock on auth.users, which the foreign keys need, may be
	-- waited for: whoever waits for it stops signups and logins meanwhile.
	patience		CONSTANT integer := 2000;

	auth_users		oid;
	api_roles		text[];
	nobody			text;
	everyone		text;
	caller_id		text;
	touch			text;
	spec			record;
	target			text;
	statement		text;
	ddl				text[] := ARRAY[]::text[];
	old_timeout		text;
	holders			text;
BEGIN
	PERFORM invite_sync.require_direct();
	IF profiles IS NULL OR users IS NULL OR user_profiles IS NULL
	   OR in_schema IS NULL OR run IS NULL THEN
		RAISE EXCEPTION 'arguments of create_standard_tables must not be null'
			USING ERRCODE = 'null_value_not_allowed',
				  HINT = 'Leave an argument out to get its default.';
	END IF;

	IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = in_schema) THEN
		RAISE EXCEPTION 'schema "%" does not exist', in_schema
			USING ERRCODE = 'invalid_schema_name',
				  HINT = format('Make it first: CREATE SCHEMA %I;', in_schema);
	END IF;

	IF in_schema IN ('auth', 'invite_sync', 'information_schema') OR starts_with(in_schema, 'pg_') THEN
		RAISE EXCEPTION 'schema "%" is not for application tables', in_schema
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Name a schema of the application, such as public.';
	END IF;

	SELECT c.oid INTO auth_users
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE n.nspname = 'auth' AND c.relname = 'users' AND c.relkind IN ('r', 'p');
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table auth.users does not exist'
			USING ERRCODE = 'undefined_table',
				  HINT = 'Start the auth server once, which makes it, or call invite_sync.create_auth_schema().';
	END IF;

	-- Roles that are not in this cluster are left out.
	SELECT coalesce(array_agg(quote_ident(rolname) ORDER BY rolname), '{}') INTO api_roles
	  FROM pg_roles
	 WHERE rolname IN ('anon', 'authenticated', 'service_role');
	nobody := array_to_string('PUBLIC'::text || array_remove(api_roles, 'service_role'), ', ');
	everyone := array_to_string('PUBLIC'::text || api_roles, ', ');

	-- A scalar subquery is computed once per statement, not once per row.
	IF EXISTS (SELECT
				 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
				WHERE n.nspname = 'auth' AND p.proname = 'uid' AND p.pronargs = 0) THEN
		caller_id := '(SELECT auth.uid())';
	ELSE
		caller_id := $$(SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid)$$;
	END IF;

	touch := format('%I.invite_sync_touch_updated_at()', in_schema);

	FOR spec IN
		SELECT *
		  FROM (VALUES
				('profiles', profiles, 'id',
				 ARRAY['id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE',
					   'email text',
					   'full_name text',
					   'username text',
					   'avatar_url text',
					   'job_title text',
					   'created_at timestamptz DEFAULT now()',
					   'updated_at timestamptz DEFAULT now()'],
				 ARRAY['(lower(email))', '(lower(username))'],
				 'full_name, username, avatar_url, job_title',
				 'What the application shows of an auth user. Personal: email, full_name, username, avatar_url, job_title.'),
				('users', users, 'id',
				 ARRAY['id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE',
					   'email text',
					   'phone text',
					   'full_name text',
					   $$role text DEFAULT 'user'$$,
					   'is_active boolean NOT NULL DEFAULT true',
					   'deactivated_at timestamptz',
					   'deactivated_by uuid',
					   'deactivation_reason text',
					   'created_at timestamptz DEFAULT now()',
					   'updated_at timestamptz DEFAULT now()'],
				 ARRAY['(lower(email))'],
				 'full_name',
				 'The application''s account of an auth user: role and activity. Personal: email, phone, full_name, deactivation_reason.'),
				('user_profiles', user_profiles, 'user_id',
				 ARRAY['id uuid PRIMARY KEY DEFAULT gen_random_uuid()',
					   'user_id uuid NOT NULL UNIQUE REFERENCES auth.users (id) ON DELETE CASCADE',
					   'first_name text',
					   'last_name text',
					   'display_name text',
					   'avatar_url text',
					   'job_title text',
					   'bio text',
					   'created_at timestamptz DEFAULT now()',
					   'updated_at timestamptz DEFAULT now()'],
				 '{}'::text[],
				 'first_name, last_name, display_name, avatar_url, job_title, bio',
				 'What an auth user says of themselves, under a key of its own. Personal: first_name, last_name, display_name, avatar_url, job_title, bio.'))
			   AS standard (name, wanted, key, columns, indexes, editable, description)
	LOOP
		CONTINUE WHEN NOT spec.wanted;

		target := format('%I.%I', in_schema, spec.name);
		IF EXISTS (SELECT
					 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
					WHERE n.nspname = in_schema AND c.relname = spec.name) THEN
			RAISE NOTICE '% exists and is left as it is', target;
			CONTINUE;
		END IF;

		IF ddl = '{}' THEN
			ddl := ARRAY[
				format(E'CREATE OR REPLACE FUNCTION %s RETURNS trigger\n'
					   'LANGUAGE plpgsql SET search_path = '''' AS $touch$\n'
					   'BEGIN\n'
					   '\tNEW.updated_at := pg_catalog.now();\n'
					   '\tRETURN NEW;\n'
					   'END\n'
					   '$touch$', touch),
				format('REVOKE ALL ON FUNCTION %s FROM %s', touch, everyone)];
		END IF;

		-- Row level security and REVOKE come right behind CREATE TABLE: where
		-- ALTER DEFAULT PRIVILEGES opens new tables to anon and authenticated,
		-- as on Supabase, the table stands open until then.
		ddl := ddl || ARRAY[
			format(E'CREATE TABLE %s (\n\t%s\n)', target, array_to_string(spec.columns, E',\n\t')),
			format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target),
			format('REVOKE ALL ON %s FROM %s', target, nobody),
			format('COMMENT ON TABLE %s IS %L', target, spec.description)];

		SELECT ddl || coalesce(array_agg(format('CREATE INDEX ON %s %s', target, key)), '{}') INTO ddl
		  FROM unnest(spec.indexes) AS key;

		IF 'authenticated' = ANY (api_roles) THEN
			ddl := ddl || format('GRANT SELECT, UPDATE (%s) ON %s TO authenticated', spec.editable, target);
		END IF;
		IF 'service_role' = ANY (api_roles) THEN
			ddl := ddl || format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO service_role', target);
		END IF;

		ddl := ddl || ARRAY[
			format('CREATE POLICY %I ON %s FOR SELECT TO %s USING (%I = %s)',
				   spec.name || '_read_own', target,
				   CASE WHEN 'authenticated' = ANY (api_roles) THEN 'authenticated' ELSE 'PUBLIC' END,
				   spec.key, caller_id),
			format('CREATE POLICY %I ON %s FOR UPDATE TO %s USING (%I = %s) WITH CHECK (%I = %s)',
				   spec.name || '_update_own', target,
				   CASE WHEN 'authenticated' = ANY (api_roles) THEN 'authenticated' ELSE 'PUBLIC' END,
				   spec.key, caller_id, spec.key, caller_id),
			format(E'CREATE TRIGGER touch_updated_at BEFORE UPDATE ON %s FOR EACH ROW\n'
				   '\tWHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at) EXECUTE FUNCTION %s',
				   target, touch)];
	END LOOP;

	IF ddl = '{}' THEN
		RAISE NOTICE 'no table is missing, nothing to do';
		RETURN '';
	END IF;

	IF run THEN
		IF NOT has_schema_privilege(in_schema, 'CREATE') THEN
			RAISE EXCEPTION 'permission denied to create tables in schema "%"', in_schema
				USING ERRCODE = 'insufficient_privilege',
					  HINT = format('GRANT CREATE ON SCHEMA %I TO %I;', in_schema, current_user);
		END IF;
		IF NOT has_schema_privilege('auth', 'USAGE')
		   OR NOT (has_table_privilege(auth_users, 'REFERENCES')
				   OR has_column_privilege(auth_users, 'id', 'REFERENCES')) THEN
			RAISE EXCEPTION 'permission denied to reference auth.users'
				USING ERRCODE = 'insufficient_privilege',
					  HINT = format('GRANT USAGE ON SCHEMA auth TO %1$I; GRANT REFERENCES (id) ON auth.users TO %1$I;', current_user);
		END IF;

		-- A shorter lock_timeout of the caller is kept; the old value comes
		-- back below or, on error, with the rollback.
		SELECT setting INTO old_timeout FROM pg_settings WHERE name = 'lock_timeout';
		IF old_timeout::integer NOT BETWEEN 1 AND patience THEN
			PERFORM set_config('lock_timeout', patience::text, true);
		END IF;

		BEGIN
			FOREACH statement IN ARRAY ddl
			LOOP
				EXECUTE statement;
			END LOOP;
		EXCEPTION
			WHEN lock_not_available THEN
				SELECT string_agg(DISTINCT pid::text, ', ') INTO holders
				  FROM pg_locks
				 WHERE relation = auth_users
				   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
				   AND granted
				   AND pid IS DISTINCT FROM pg_backend_pid()
				   AND mode NOT IN ('AccessShareLock', 'RowShareLock');
				RAISE EXCEPTION 'could not lock auth.users in time, no table was made'
					USING ERRCODE = 'lock_not_available',
						  HINT = concat('Call it again when the transactions that write auth.users are over',
										'; now held by backend ' || holders, '.');
		END;

		PERFORM set_config('lock_timeout', old_timeout, true);
	END IF;

	RETURN array_to_string(ddl, E';\n') || E';\n';
END
$function$;

REVOKE ALL ON FUNCTION invite_sync.create_standard_tables(boolean, boolean, boolean, name, boolean) FROM PUBLIC;

COMMENT ON FUNCTION invite_sync.create_standard_tables(boolean, boolean, boolean, name, boolean) IS
$comment$Makes the tables profiles, users and user_profiles and returns the DDL that makes them.

profiles, users, user_profiles (true): which ones. schema ('public'): where; it must exist. execute (true): false only returns the DDL, for a migration file.

A relation of that name that exists is left as it is, with a NOTICE; when none is missing nothing happens and the result is empty. Each table references auth.users with ON DELETE CASCADE and has row level security: authenticated reads its own row and updates names, picture and the like in it; keys, email, phone, role, activity and timestamps are never granted; anon has nothing; service_role reads and writes. No column but the keys and is_active is NOT NULL, and no username or email is unique, so that no signup can fail on them. updated_at is set by a trigger.

Runs as, and the tables belong to, the caller, who needs CREATE on the schema and REFERENCES on auth.users. For operators. Locks auth.users in SHARE ROW EXCLUSIVE mode until the transaction ends, waiting for it 2 s at most.

Errors: invalid_schema_name, invalid_parameter_value (a schema that is not the application's), undefined_table (no auth.users), insufficient_privilege, lock_not_available, null_value_not_allowed.$comment$;

CREATE FUNCTION invite_sync.create_auth_schema()
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	auth_owner		name := 'supabase_auth_admin';
	auth_users		oid;
	auth_users_kind	"char";
	from_server		boolean;
	me				pg_roles%ROWTYPE;
	server_version	CONSTANT integer := current_setting('server_version_num')::integer;
	-- The privilege type of being able to SET ROLE.
	become			CONSTANT text := CASE WHEN server_version >= 160000 THEN 'SET' ELSE 'MEMBER' END;
	new_schema		boolean;
	item			record;
	api_role		name;
	lacking			text;
	made			text[] := ARRAY[]::text[];
	to_hand_over	text[] := ARRAY[]::text[];
	statement		text;
BEGIN
	PERFORM invite_sync.require_direct();
	SELECT c.oid, c.relkind INTO auth_users, auth_users_kind
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE n.nspname = 'auth' AND c.relname = 'users';
	IF FOUND THEN
		-- What is added belongs to whom auth.users belongs.
		SELECT r.rolname INTO auth_owner
		  FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
		 WHERE c.oid = auth_users;

		SELECT string_agg(CASE WHEN a.attnum IS NULL THEN format('%s is missing', need.name)
							   ELSE format('%s is %s', need.name, format_type(a.atttypid, a.atttypmod)) END,
						  ', ' ORDER BY need.position) INTO lacking
		  FROM unnest(ARRAY['id', 'email', 'phone', 'encrypted_password', 'aud', 'role',
							'email_confirmed_at', 'phone_confirmed_at', 'last_sign_in_at',
							'created_at', 'updated_at', 'banned_until', 'deleted_at',
							'raw_app_meta_data', 'raw_user_meta_data', 'is_anonymous', 'is_sso_user'],
					  ARRAY['uuid', 'text', 'text', 'text', 'text', 'text',
							'timestamptz', 'timestamptz', 'timestamptz',
							'timestamptz', 'timestamptz', 'timestamptz', 'timestamptz',
							'jsonb', 'jsonb', 'boolean', 'boolean'])
			   WITH ORDINALITY AS need (name, type, position)
		  LEFT JOIN pg_attribute a
				 ON a.attrelid = auth_users AND a.attname = need.name AND a.attnum > 0 AND NOT a.attisdropped
		 WHERE a.attnum IS NULL
			OR NOT (a.atttypid = need.type::regtype
					OR (need.type = 'text' AND a.atttypid = 'varchar'::regtype));

		IF auth_users_kind NOT IN ('r', 'p') THEN
			lacking := 'it is not a table';
		ELSIF lacking IS NULL
			  AND NOT EXISTS (SELECT
								FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
							   WHERE i.indrelid = auth_users AND i.indisunique AND i.indisvalid
								 AND i.indpred IS NULL AND i.indnkeyatts = 1
								 AND a.attname = 'id' AND a.attnum = i.indkey[0]) THEN
			lacking := 'id is not unique';
		END IF;
		IF lacking IS NOT NULL THEN
			RAISE EXCEPTION 'auth.users exists but lacks what invite_sync needs'
				USING ERRCODE = 'object_not_in_prerequisite_state',
					  DETAIL = format('In auth.users: %s.', lacking),
					  HINT = 'If an auth server made it, let a current one run its migrations; if not, rename it and call create_auth_schema() again.';
		END IF;

		-- An auth server keeps its own schema complete.
		SELECT EXISTS (SELECT
						 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
						WHERE n.nspname = 'auth' AND c.relname = 'schema_migrations') INTO from_server;
		IF from_server THEN
			RAISE NOTICE 'schema auth belongs to an auth server and has what invite_sync needs, nothing to do';
			RETURN '';
		END IF;
	END IF;

	-- What is missing, in the order it can be made in.
	FOR item IN
		SELECT piece.*
		  FROM (VALUES
				(1, 'TYPE', 'aal_level', $ddl$
CREATE TYPE auth.aal_level AS ENUM ('aal1', 'aal2', 'aal3')
$ddl$),
				(2, 'TYPE', 'factor_status', $ddl$
CREATE TYPE auth.factor_status AS ENUM ('unverified', 'verified')
$ddl$),
				(3, 'TYPE', 'factor_type', $ddl$
CREATE TYPE auth.factor_type AS ENUM ('totp', 'webauthn', 'phone')
$ddl$),
				(4, 'TYPE', 'one_time_token_type', $ddl$
CREATE TYPE auth.one_time_token_type AS ENUM (
	'confirmation_token', 'reauthentication_token', 'recovery_token',
	'email_change_token_new', 'email_change_token_current', 'phone_change_token')
$ddl$),
				(5, 'TABLE', 'users', $ddl$
CREATE TABLE auth.users (
	instance_id uuid,
	id uuid PRIMARY KEY,
	aud varchar(255),
	role varchar(255),
	email varchar(255),
	encrypted_password varchar(255),
	email_confirmed_at timestamptz,
	invited_at timestamptz,
	confirmation_token varchar(255),
	confirmation_sent_at timestamptz,
	recovery_token varchar(255),
	recovery_sent_at timestamptz,
	email_change_token_new varchar(255),
	email_change varchar(255),
	email_change_sent_at timestamptz,
	last_sign_in_at timestamptz,
	raw_app_meta_data jsonb,
	raw_user_meta_data jsonb,
	is_super_admin boolean,
	created_at timestamptz,
	updated_at timestamptz,
	phone text UNIQUE DEFAULT NULL::varchar,
	phone_confirmed_at timestamptz,
	phone_change text DEFAULT ''::varchar,
	phone_change_token varchar(255) DEFAULT '',
	phone_change_sent_at timestamptz,
	confirmed_at timestamptz GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED,
	email_change_token_current varchar(255) DEFAULT '',
	email_change_confirm_status smallint DEFAULT 0
		CHECK (email_change_confirm_status >= 0 AND email_change_confirm_status <= 2),
	banned_until timestamptz,
	reauthentication_token varchar(255) DEFAULT '',
	reauthentication_sent_at timestamptz,
	is_sso_user boolean NOT NULL DEFAULT false,
	deleted_at timestamptz,
	is_anonymous boolean NOT NULL DEFAULT false
);
CREATE INDEX users_instance_id_idx ON auth.users (instance_id);
CREATE INDEX users_instance_id_email_idx ON auth.users (instance_id, lower(email));
CREATE INDEX users_is_anonymous_idx ON auth.users (is_anonymous);
CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email)
	WHERE is_sso_user = false;
CREATE UNIQUE INDEX confirmation_token_idx ON auth.users (confirmation_token)
	WHERE confirmation_token !~ '^[0-9 ]*$';
CREATE UNIQUE INDEX recovery_token_idx ON auth.users (recovery_token)
	WHERE recovery_token !~ '^[0-9 ]*$';
CREATE UNIQUE INDEX email_change_token_current_idx ON auth.users (email_change_token_current)
	WHERE email_change_token_current !~ '^[0-9 ]*$';
CREATE UNIQUE INDEX email_change_token_new_idx ON auth.users (email_change_token_new)
	WHERE email_change_token_new !~ '^[0-9 ]*$';
CREATE UNIQUE INDEX reauthentication_token_idx ON auth.users (reauthentication_token)
	WHERE reauthentication_token !~ '^[0-9 ]*$'
$ddl$),
				(6, 'TABLE', 'identities', $ddl$
CREATE TABLE auth.identities (
	provider_id text NOT NULL,
	user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
	identity_data jsonb NOT NULL,
	provider text NOT NULL,
	last_sign_in_at timestamptz,
	created_at timestamptz,
	updated_at timestamptz,
	email text GENERATED ALWAYS AS (lower(identity_data ->> 'email')) STORED,
	id uuid DEFAULT gen_random_uuid() PRIMARY KEY,
	CONSTRAINT identities_provider_id_provider_unique UNIQUE (provider_id, provider)
);
CREATE INDEX identities_user_id_idx ON auth.identities (user_id);
CREATE INDEX identities_email_idx ON auth.identities (email text_pattern_ops)
$ddl$),
				(7, 'TABLE', 'one_time_tokens', $ddl$
CREATE TABLE auth.one_time_tokens (
	id uuid PRIMARY KEY,
	user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
	token_type auth.one_time_token_type NOT NULL,
	token_hash text NOT NULL CHECK (char_length(token_hash) > 0),
	relates_to text NOT NULL,
	created_at timestamp NOT NULL DEFAULT now(),
	updated_at timestamp NOT NULL DEFAULT now()
);
CREATE INDEX one_time_tokens_token_hash_hash_idx ON auth.one_time_tokens USING hash (token_hash);
CREATE INDEX one_time_tokens_relates_to_hash_idx ON auth.one_time_tokens USING hash (relates_to);
CREATE UNIQUE INDEX one_time_tokens_user_id_token_type_key ON auth.one_time_tokens (user_id, token_type)
$ddl$),
				-- oauth_client_id has no foreign key: oauth_clients is an auth
				-- server's own business.
				(8, 'TABLE', 'sessions', $ddl$
CREATE TABLE auth.sessions (
	id uuid PRIMARY KEY,
	user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
	created_at timestamptz,
	updated_at timestamptz,
	factor_id uuid,
	aal auth.aal_level,
	not_after timestamptz,
	refreshed_at timestamp,
	user_agent text,
	ip inet,
	tag text,
	oauth_client_id uuid,
	refresh_token_hmac_key text,
	refresh_token_counter bigint,
	scopes text CONSTRAINT sessions_scopes_length CHECK (char_length(scopes) <= 4096)
);
CREATE INDEX sessions_user_id_idx ON auth.sessions (user_id);
CREATE INDEX user_id_created_at_idx ON auth.sessions (user_id, created_at);
CREATE INDEX sessions_not_after_idx ON auth.sessions (not_after DESC);
CREATE INDEX sessions_oauth_client_id_idx ON auth.sessions (oauth_client_id)
$ddl$),
				(9, 'TABLE', 'refresh_tokens', $ddl$
CREATE TABLE auth.refresh_tokens (
	instance_id uuid,
	id bigserial PRIMARY KEY,
	token varchar(255) CONSTRAINT refresh_tokens_token_unique UNIQUE,
	user_id varchar(255),
	revoked boolean,
	created_at timestamptz,
	updated_at timestamptz,
	parent varchar(255),
	session_id uuid REFERENCES auth.sessions (id) ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_instance_id_idx ON auth.refresh_tokens (instance_id);
CREATE INDEX refresh_tokens_instance_id_user_id_idx ON auth.refresh_tokens (instance_id, user_id);
CREATE INDEX refresh_tokens_parent_idx ON auth.refresh_tokens (parent);
CREATE INDEX refresh_tokens_session_id_revoked_idx ON auth.refresh_tokens (session_id, revoked);
CREATE INDEX refresh_tokens_updated_at_idx ON auth.refresh_tokens (updated_at DESC)
$ddl$),
				(10, 'TABLE', 'mfa_factors', $ddl$
CREATE TABLE auth.mfa_factors (
	id uuid PRIMARY KEY,
	user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
	friendly_name text,
	factor_type auth.factor_type NOT NULL,
	status auth.factor_status NOT NULL,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	secret text,
	phone text,
	last_challenged_at timestamptz UNIQUE,
	web_authn_credential jsonb,
	web_authn_aaguid uuid,
	last_webauthn_challenge_data jsonb
);
CREATE INDEX mfa_factors_user_id_idx ON auth.mfa_factors (user_id);
CREATE INDEX factor_id_created_at_idx ON auth.mfa_factors (user_id, created_at);
CREATE UNIQUE INDEX unique_phone_factor_per_user ON auth.mfa_factors (user_id, phone);
CREATE UNIQUE INDEX mfa_factors_user_friendly_name_unique ON auth.mfa_factors (friendly_name, user_id)
	WHERE trim(friendly_name) <> ''
$ddl$),
				(11, 'TABLE', 'sso_providers', $ddl$
CREATE TABLE auth.sso_providers (
	id uuid PRIMARY KEY,
	resource_id text CONSTRAINT "resource_id not empty" CHECK (resource_id = NULL OR char_length(resource_id) > 0),
	created_at timestamptz,
	updated_at timestamptz,
	disabled boolean
);
CREATE UNIQUE INDEX sso_providers_resource_id_idx ON auth.sso_providers (lower(resource_id));
CREATE INDEX sso_providers_resource_id_pattern_idx ON auth.sso_providers (resource_id text_pattern_ops)
$ddl$),
				(12, 'TABLE', 'sso_domains', $ddl$
CREATE TABLE auth.sso_domains (
	id uuid PRIMARY KEY,
	sso_provider_id uuid NOT NULL REFERENCES auth.sso_providers (id) ON DELETE CASCADE,
	domain text NOT NULL CONSTRAINT "domain not empty" CHECK (char_length(domain) > 0),
	created_at timestamptz,
	updated_at timestamptz
);
CREATE INDEX sso_domains_sso_provider_id_idx ON auth.sso_domains (sso_provider_id);
CREATE UNIQUE INDEX sso_domains_domain_idx ON auth.sso_domains (lower(domain))
$ddl$),
				(13, 'FUNCTION', 'jwt', $ddl$
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT coalesce(nullif(current_setting('request.jwt.claim', true), ''),
					nullif(current_setting('request.jwt.claims', true), ''))::jsonb
$$
$ddl$),
				(14, 'FUNCTION', 'uid', $ddl$
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
	SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
					nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$
$ddl$),
				(15, 'FUNCTION', 'role', $ddl$
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
	SELECT coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
					nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
$$
$ddl$),
				(16, 'FUNCTION', 'email', $ddl$
CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$
	SELECT coalesce(nullif(current_setting('request.jwt.claim.email', true), ''),
					nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
$$
$ddl$))
			   AS piece (position, kind, name, ddl)
		 WHERE NOT EXISTS (SELECT
							 FROM pg_namespace n
							WHERE n.nspname = 'auth'
							  AND CASE piece.kind
								  WHEN 'TYPE' THEN
									  EXISTS (SELECT FROM pg_type t
											   WHERE t.typnamespace = n.oid AND t.typname = piece.name)
								  WHEN 'TABLE' THEN
									  EXISTS (SELECT FROM pg_class c
											   WHERE c.relnamespace = n.oid AND c.relname = piece.name)
								  ELSE
									  EXISTS (SELECT FROM pg_proc p
											   WHERE p.pronamespace = n.oid AND p.proname = piece.name
												 AND p.pronargs = 0)
								  END)
		 ORDER BY piece.position
	LOOP
		-- First thing to make: the role and the schema, and who may.
		IF to_hand_over = '{}' THEN
			SELECT * INTO me FROM pg_roles WHERE rolname = current_user;
			SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'auth') INTO new_schema;

			IF EXISTS (SELECT FROM pg_roles WHERE rolname = auth_owner AND rolsuper) THEN
				RAISE EXCEPTION 'role "%", which is to own schema auth, is a superuser', auth_owner
					USING ERRCODE = 'object_not_in_prerequisite_state',
						  DETAIL = 'invite_sync reads and writes schema auth as the owner of auth.users.',
						  HINT = format('ALTER ROLE %I NOSUPERUSER;', auth_owner);
			END IF;

			-- The owner must be a role that the caller is or can become: made
			-- here, or granted to the caller by the caller, which since 16
			-- takes ADMIN OPTION.
			IF NOT me.rolsuper
			   AND NOT (CASE WHEN new_schema
							 THEN has_database_privilege(current_database(), 'CREATE')
							 ELSE has_schema_privilege('auth', 'CREATE WITH GRANT OPTION') END
						AND coalesce((SELECT pg_has_role(oid, become)
											 OR (me.rolcreaterole AND server_version < 160000)
											 OR pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')
										FROM pg_roles
									   WHERE rolname = auth_owner),
									 me.rolcreaterole)) THEN
				RAISE EXCEPTION 'permission denied to make schema auth'
					USING ERRCODE = 'insufficient_privilege',
						  HINT = format('Call it as a superuser, or as a role with CREATE on %s and with CREATEROLE (if role %I exists: a member of it).',
										CASE WHEN new_schema THEN format('database %I', current_database())
											 ELSE 'schema auth (WITH GRANT OPTION)' END, auth_owner);
			END IF;

			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = auth_owner) THEN
				EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', auth_owner);
				made := made || format('role %I', auth_owner);
			END IF;

			-- To give something to a role one must be able to become it.
			IF NOT me.rolsuper
			   AND NOT pg_has_role(auth_owner, become) THEN
				EXECUTE format('GRANT %I TO %I', auth_owner, current_user)
						|| CASE WHEN server_version >= 160000 THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
				made := made || format('membership of %I in %I', current_user, auth_owner);
			END IF;

			IF new_schema THEN
				CREATE SCHEMA auth;
				made := made || 'schema auth'::text;
			END IF;
			IF NOT has_schema_privilege(auth_owner, 'auth', 'USAGE')
			   OR NOT has_schema_privilege(auth_owner, 'auth', 'CREATE') THEN
				EXECUTE format('GRANT USAGE, CREATE ON SCHEMA auth TO %I', auth_owner);
			END IF;
			FOR api_role IN
				SELECT rolname FROM pg_roles
				 WHERE rolname IN ('anon', 'authenticated', 'service_role') AND new_schema
				 ORDER BY rolname
			LOOP
				EXECUTE format('GRANT USAGE ON SCHEMA auth TO %I', api_role);
			END LOOP;
		END IF;

		EXECUTE item.ddl;
		IF item.kind = 'TABLE' THEN
			EXECUTE format('ALTER TABLE auth.%I ENABLE ROW LEVEL SECURITY', item.name);
		END IF;
		made := made || format('%s auth.%I%s', lower(item.kind), item.name,
							   CASE item.kind WHEN 'FUNCTION' THEN '()' END);
		to_hand_over := to_hand_over
						|| format('ALTER %s auth.%I%s OWNER TO %I', item.kind, item.name,
								  CASE item.kind WHEN 'FUNCTION' THEN '()' END, auth_owner);
	END LOOP;

	IF to_hand_over = '{}' THEN
		RAISE NOTICE 'schema auth has what invite_sync needs, nothing to do';
		RETURN '';
	END IF;

	IF new_schema THEN
		to_hand_over := to_hand_over || format('ALTER SCHEMA auth OWNER TO %I', auth_owner);
	END IF;
	FOREACH statement IN ARRAY to_hand_over
	LOOP
		EXECUTE statement;
	END LOOP;

	RETURN array_to_string(made, E'\n');
END
$function$;

REVOKE ALL ON FUNCTION invite_sync.create_auth_schema() FROM PUBLIC;

COMMENT ON FUNCTION invite_sync.create_auth_schema() IS
$comment$Makes, where there is no auth server, the part of schema auth that invite_sync uses, and returns what it made, a line each.

That is the role supabase_auth_admin (NOLOGIN NOINHERIT), which owns the rest; the tables users, identities, one_time_tokens, sessions, refresh_tokens, mfa_factors, sso_providers and sso_domains with the auth server's columns, types, defaults, constraints and indexes, row level security on; the functions jwt(), uid(), role() and email(). What exists is left as it is; when nothing is missing, or an auth server keeps the schema (there is a table auth.schema_migrations), nothing happens but a NOTICE and the result is empty. Not a base for an auth server: one that is to come later should come first and make its tables itself.

Runs as the caller: a superuser, or a role with CREATEROLE and with CREATE on the database, which becomes a member of supabase_auth_admin. For operators. Locks only what it makes and, for a table it adds, what that references.

Errors: object_not_in_prerequisite_state (an auth.users that lacks what invite_sync needs; an owner that is a superuser), insufficient_privilege.$comment$;
