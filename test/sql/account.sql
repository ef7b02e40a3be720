--
-- Accounts made and imported, and people who come from another provider.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA account_test;
SET search_path = public, account_test, extensions;
\pset null (null)

CREATE FUNCTION account_test.u(address text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
	AS $$ SELECT id FROM auth.users WHERE email = $1 || '@account.example' $$;
-- Calls a function of ours as somebody and tells the answer without ids and times, or the refusal. who: NULL a service, anon,
-- user:ADDRESS a session of the auth server, sub:ID a session of another provider.
CREATE FUNCTION account_test.try(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
	state text;
BEGIN
	IF who = 'anon' THEN
		PERFORM set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('role', 'anon', true);
	ELSIF who IS NOT NULL THEN
		PERFORM set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub',
			CASE WHEN who LIKE 'user:%' THEN account_test.u(substr(who, 6))::text ELSE substr(who, 5) END)::text, true),
			set_config('role', 'authenticated', true);
	END IF;
	EXECUTE format($f$ SELECT string_agg((SELECT string_agg(e.key || '=' || coalesce(e.value #>> '{}', 'null'), ' ' ORDER BY e.key)
			FROM jsonb_each(CASE jsonb_typeof(to_jsonb(x)) WHEN 'object' THEN to_jsonb(x) ELSE jsonb_build_object('value', x) END) AS e
			WHERE e.key !~ '(_id|_at|^token|^url|^cursor)$' AND e.value <> 'null'), E'\n') FROM invite_sync.%s AS x $f$, call) INTO answer;
	PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
	RETURN coalesce('ok ' || answer, 'nothing');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	RETURN concat_ws(' ', state, CASE WHEN state LIKE 'PT%' THEN regexp_replace(detail, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID', 'g') ELSE SQLERRM END);
END
$$;
-- What an account looks like to the auth server.
CREATE VIEW account_test.accounts AS
	SELECT split_part(u.email, '@', 1) AS who, u.aud, u.role, u.instance_id = '00000000-0000-0000-0000-000000000000' AS no_instance,
	       CASE WHEN u.encrypted_password ~ '^\$2[aby]\$' THEN left(u.encrypted_password, 7) ELSE left(u.encrypted_password, 14) END AS password,
	       u.email_confirmed_at IS NOT NULL AS confirmed, u.raw_user_meta_data - 'sub' AS meta, u.raw_app_meta_data - 'invite_sync' AS app,
	       (SELECT string_agg(i.provider || (i.provider_id = u.id::text)::text, ',') FROM auth.identities AS i WHERE i.user_id = u.id) AS identities
	  FROM auth.users AS u WHERE u.email LIKE '%@account.example';
CREATE FUNCTION account_test.events(since bigint) RETURNS TABLE (action text, kind text, who text) LANGUAGE sql AS $$
	SELECT e.action, e.kind, split_part(u.email, '@', 1) FROM invite_sync.event AS e LEFT JOIN auth.users AS u ON u.id::text = e.target_id
	 WHERE e.id > since AND e.action LIKE 'account.%' ORDER BY e.id $$;
CREATE FUNCTION account_test.password_is(address text, password text) RETURNS boolean LANGUAGE sql AS $$
	SELECT u.encrypted_password = crypt($2, u.encrypted_password) FROM auth.users AS u WHERE u.id = account_test.u($1) $$;
GRANT USAGE ON SCHEMA account_test TO anon, authenticated;

SELECT coalesce(max(id), 0) AS first FROM invite_sync.event \gset
SELECT role FROM invite_sync.create_role('account_staff', ARRAY['platform.admin']);
SELECT slug FROM invite_sync.create_organization('Account one', 'account-one'), invite_sync.create_organization('Account two', 'account-two') AS two (a, b, c, d, e, f, g, h, i, j) LIMIT 0;
