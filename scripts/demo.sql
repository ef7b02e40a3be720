-- The story of "make demo", told by psql: scripts/demo.sh connects as the superuser to a database with the auth
-- server's tables and gives this file to psql. It fails if the story does not hold.

\set ON_ERROR_STOP on
\pset footer off
\pset null '-'
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;

\echo
\echo '== 1. A superuser installs the extension. Nothing after this is done as a superuser.'
\echo
\set ECHO queries
CREATE EXTENSION invite_sync;
\set ECHO none

-- What the auth server does when somebody signs up. It belongs to the auth server's role and runs as it.
CREATE SCHEMA demo AUTHORIZATION supabase_auth_admin;
\connect - supabase_auth_admin
SET client_min_messages = warning;
CREATE FUNCTION demo.sign_up(email text, meta jsonb) RETURNS TABLE (auth_server text)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = auth AS $$
DECLARE
	new_id	uuid := gen_random_uuid();
BEGIN
	INSERT INTO users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, confirmation_token,
					   recovery_token, email_change_token_new, email_change, raw_app_meta_data, raw_user_meta_data,
					   created_at, updated_at)
	VALUES ('00000000-0000-0000-0000-000000000000', new_id, 'authenticated', 'authenticated', sign_up.email,
			'$2a$10$not.a.real.hash', now(), '', '', '', '',
			'{"provider": "email", "providers": ["email"]}', meta, now(), now());
	INSERT INTO identities (id, user_id, provider_id, provider, identity_data, last_sign_in_at, created_at, updated_at)
	VALUES (gen_random_uuid(), new_id, new_id, 'email',
			jsonb_build_object('sub', new_id, 'email', sign_up.email), now(), now(), now());
	RETURN QUERY SELECT format('200 OK: %s signed up', sign_up.email);
END
$$;

\echo
\echo '== 2. The application''s developer (role postgres, no superuser) makes three tables'
\echo '   and has them kept in sync with auth.users. Columns are mapped by their names.'
\echo
\connect - postgres
SET client_min_messages = warning;
\set ECHO queries
SELECT invite_sync.create_standard_tables() AS ddl \gset
SELECT target, key, users_without_row FROM invite_sync.add_target('public.profiles');
\set ECHO none
\pset tuples_only on
\set ECHO queries
SELECT target, key, users_without_row FROM invite_sync.add_target('public.users');
SELECT target, key, users_without_row FROM invite_sync.add_target('public.user_profiles');
\set ECHO none
\pset tuples_only off

\echo
\echo '== 3. Two people sign up. The auth server writes auth.users, and nothing else.'
\echo
\connect - supabase_auth_admin
SELECT * FROM demo.sign_up('ann@example.com',
	'{"full_name": "Ann Lee", "first_name": "Ann", "avatar_url": "https://cdn.example/ann.png"}')
UNION ALL
SELECT * FROM demo.sign_up('ben@example.com', '{"full_name": "Ben Okri", "first_name": "Ben"}');

\echo 'They are in all three tables:'
\echo
\connect - postgres
\set ECHO queries
SELECT email, full_name, avatar_url FROM public.profiles ORDER BY email;
SELECT email, role, is_active FROM public.users ORDER BY email;
SELECT user_id, first_name, display_name FROM public.user_profiles ORDER BY first_name;
\set ECHO none

\echo '== 4. A migration goes wrong: profiles gets a NOT NULL column that no signup fills.'
\echo
\set ECHO queries
ALTER TABLE public.profiles ADD COLUMN locale text NOT NULL DEFAULT 'en';
ALTER TABLE public.profiles ALTER COLUMN locale DROP DEFAULT;
\set ECHO none
\echo
\echo 'With a hand-written trigger, signups now fail: "Database error saving new user".'
\echo 'Here the auth server gets a WARNING for its log, and Cleo gets her account:'
\echo
\connect - supabase_auth_admin
SELECT * FROM demo.sign_up('cleo@example.com', '{"full_name": "Cleo Park", "first_name": "Cleo"}');

\echo '== 5. It gets worse: somebody drops a column that is mapped. Dan signs up,'
\echo '   and Ann changes her email address.'
\echo
\connect - postgres
\set ECHO queries
ALTER TABLE public.profiles DROP COLUMN avatar_url;
\set ECHO none
\echo
\connect - supabase_auth_admin
SELECT * FROM demo.sign_up('dan@example.com', '{"full_name": "Dan Ito", "first_name": "Dan"}');
UPDATE auth.users SET email = 'ann@new.example', updated_at = now() WHERE email = 'ann@example.com'
RETURNING '200 OK: now ' || email AS auth_server;

\echo '== 6. What happened? users and user_profiles are whole; profiles lacks two users.'
\echo
\connect - postgres
\set ECHO queries
SELECT target, auth_users, rows, missing, quarantined, percent
  FROM invite_sync.sync_status();
\set ECHO none
\echo 'Nothing was forgotten. Each sync that failed is in quarantine, with the reason:'
\echo
\set ECHO queries
SELECT u.email, q.action, q.sqlstate, q.column_name, q.attempts
  FROM invite_sync.quarantine AS q JOIN auth.users AS u ON u.id = q.user_id;
SELECT DISTINCT message FROM invite_sync.quarantine;
\set ECHO none
\echo 'And verify() says what would mend it:'
\echo
\set ECHO queries
SELECT severity, fix FROM invite_sync.verify();
\set ECHO none

SELECT (SELECT count(*) FROM auth.users) AS users_before,
	   (SELECT count(*) FROM public.users) AS in_users_before,
	   (SELECT count(*) FROM public.user_profiles) AS in_user_profiles_before,
	   (SELECT count(*) FROM public.profiles) AS in_profiles_before,
	   (SELECT string_agg(u.email || ' ' || q.action || ' ' || q.sqlstate || ' ' || coalesce(q.column_name, ''), ', ' ORDER BY u.email)
		  FROM invite_sync.quarantine AS q JOIN auth.users AS u ON u.id = q.user_id) AS quarantined_before \gset

\echo '== 7. The table is mended.'
\echo
\set ECHO queries
ALTER TABLE public.profiles ALTER COLUMN locale SET DEFAULT 'en';
ALTER TABLE public.profiles ADD COLUMN avatar_url text;
\set ECHO none

\echo
\echo '== 8. One call does again what had failed. (From a scheduler it does so by itself:'
\echo '   each entry has the time of its next retry.)'
\echo
\set ECHO queries
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT email, full_name, locale, avatar_url FROM public.profiles ORDER BY email;
SELECT target, auth_users, rows, missing, quarantined, percent
  FROM invite_sync.sync_status();
\set ECHO none

-- does the story hold?
SELECT set_config('demo.before', :'users_before' || ' ' || :'in_users_before' || ' ' || :'in_user_profiles_before' || ' '
				  || :'in_profiles_before' || ': ' || :'quarantined_before', false) AS ignored \gset
DO $$
DECLARE
	expected	CONSTANT text := '4 4 4 2: ann@new.example update 42703 avatar_url, '
		'cleo@example.com insert 23502 locale, dan@example.com insert 42703 avatar_url';
	differing	text;
BEGIN
	IF current_setting('demo.before') <> expected THEN
		RAISE EXCEPTION 'the demo''s story does not hold: while profiles was broken there was "%"',
			current_setting('demo.before');
	END IF;
	SELECT string_agg(u.email, ', ') INTO differing
	  FROM auth.users AS u
	  LEFT JOIN public.profiles AS p ON p.id = u.id
	  LEFT JOIN public.users AS a ON a.id = u.id
	  LEFT JOIN public.user_profiles AS o ON o.user_id = u.id
	 WHERE (p.email, p.full_name, p.locale, p.avatar_url) IS DISTINCT FROM
		   (u.email::text, u.raw_user_meta_data ->> 'full_name', 'en', u.raw_user_meta_data ->> 'avatar_url')
		OR (a.email, a.full_name, a.role, a.is_active) IS DISTINCT FROM
		   (u.email::text, u.raw_user_meta_data ->> 'full_name', 'user', true)
		OR (o.first_name, o.display_name) IS DISTINCT FROM
		   (u.raw_user_meta_data ->> 'first_name', u.raw_user_meta_data ->> 'full_name');
	IF differing IS NOT NULL OR (SELECT count(*) FROM auth.users) <> 4 THEN
		RAISE EXCEPTION 'the demo''s story does not hold: not in step in the end: %', differing;
	END IF;
	IF EXISTS (SELECT FROM invite_sync.quarantine) OR EXISTS (SELECT FROM invite_sync.verify())
	   OR EXISTS (SELECT FROM invite_sync.sync_status() WHERE percent <> 100 OR missing <> 0 OR quarantined <> 0) THEN
		RAISE EXCEPTION 'the demo''s story does not hold: quarantine, verify() or sync_status() is not clean in the end';
	END IF;
END
$$;

\echo '== 9. And triggers that you have already? This old one, written by hand, gives each new user a wallet.'
\echo '   Somebody renamed its table, and so Eve cannot sign up:'
\echo
\set ECHO queries
CREATE TABLE public.wallets (user_id uuid PRIMARY KEY, credits integer NOT NULL);
CREATE FUNCTION public.handle_new_user() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
	INSERT INTO public.wallets (user_id, credits) VALUES (NEW.id, 100);
	RETURN NEW;
END
$$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users
	FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
ALTER TABLE public.wallets RENAME TO purses;
\set ECHO none
\echo
\connect - supabase_auth_admin
\set ON_ERROR_STOP off
SELECT * FROM demo.sign_up('eve@example.com', '{"full_name": "Eve Moss", "first_name": "Eve"}');
\set unguarded_failed :ERROR
\set ON_ERROR_STOP on

\echo
\echo 'Under guard its failure is recorded, and Eve signs up:'
\echo
\connect - postgres
\set ECHO queries
SELECT trigger_name, gate, on_failure, replayable FROM invite_sync.guard_trigger('on_auth_user_created');
\set ECHO none
\connect - supabase_auth_admin
SELECT * FROM demo.sign_up('eve@example.com', '{"full_name": "Eve Moss", "first_name": "Eve"}');

\echo 'The table gets its name back, and the trigger is run again for her:'
\echo
\connect - postgres
\set ECHO queries
ALTER TABLE public.purses RENAME TO wallets;
SELECT * FROM invite_sync.retry_quarantine(due_only => false);
SELECT u.email, w.credits FROM public.wallets AS w JOIN auth.users AS u ON u.id = w.user_id;
\set ECHO none

\echo '== 10. A refusal that is meant stays one: a trigger that admits one domain only goes on doing so under guard.'
\echo '    Were it broken itself, on_failure says whether to let people in; it must be said for such a gate.'
\echo
\set ECHO queries
CREATE FUNCTION public.only_our_domain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
	IF NEW.email NOT LIKE '%@example.com' THEN
		RAISE EXCEPTION 'only people of our company may sign up';
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER only_our_domain BEFORE INSERT ON auth.users
	FOR EACH ROW EXECUTE FUNCTION public.only_our_domain();
SELECT trigger_name, gate, on_failure FROM invite_sync.guard_trigger('only_our_domain', on_failure => 'refuse');
\set ECHO none
\connect - supabase_auth_admin
\set ON_ERROR_STOP off
SELECT * FROM demo.sign_up('mallory@elsewhere.example', '{"full_name": "Mallory"}');
\set stranger_refused :ERROR
\set ON_ERROR_STOP on
SELECT * FROM demo.sign_up('fay@example.com', '{"full_name": "Fay Wong", "first_name": "Fay"}');

\connect - postgres
\echo '== 11. Organizations: Eve makes one, and a table of the application shows its rows to members only.'
\echo
\set ECHO queries
CREATE TABLE public.documents (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), organization_id uuid NOT NULL, title text);
CREATE INDEX ON public.documents (organization_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.documents TO authenticated;
SELECT invite_sync.protect_table('public.documents', 'organization_id') <> '' AS protected;
\set ECHO none
SELECT id AS eve FROM auth.users WHERE email = 'eve@example.com' \gset
SELECT id AS fay FROM auth.users WHERE email = 'fay@example.com' \gset
\echo 'As Eve (act_as() is for trying; over the API her token says who she is):'
\echo
BEGIN;
SELECT invite_sync.act_as(:'eve') AS ignored \gset
\set ECHO queries
SELECT slug FROM invite_sync.create_organization('Acme');
INSERT INTO public.documents (organization_id, title)
SELECT id, 'Plan' FROM invite_sync.my_organizations() RETURNING title;
\set ECHO none
COMMIT;
\echo 'Fay is no member, and sees nothing of it:'
\echo
BEGIN;
SELECT invite_sync.act_as(:'fay') AS ignored \gset
\set ECHO queries
SELECT count(*) FROM public.documents;
\set ECHO none
SELECT count(*) AS before FROM public.documents \gset
COMMIT;
\echo 'Eve adds her; from her next statement on she sees it:'
\echo
BEGIN;
SELECT invite_sync.act_as(:'eve') AS ignored \gset
SELECT m.role FROM invite_sync.my_organizations() AS o, invite_sync.add_member(o.id, :'fay', 'member') AS m;
COMMIT;
BEGIN;
SELECT invite_sync.act_as(:'fay') AS ignored \gset
\set ECHO queries
SELECT title FROM public.documents;
SELECT slug, role, permissions FROM invite_sync.my_organizations();
\set ECHO none
SELECT count(*) AS after FROM public.documents \gset
COMMIT;

\echo '== 12. Invitations: the application''s server invites for Eve, who has three. The token goes to the mailbox, so who'
\echo '    has it has the mailbox. Stored is a digest.'
\echo
BEGIN;
SELECT invite_sync.act_as(NULL, 'service_role') AS ignored \gset
\set ECHO queries
SELECT token, email, status, reused
  FROM invite_sync.create_invitation('gil@example.com', 'member', (SELECT id FROM invite_sync.list_organizations()),
           data => '{"full_name": "Gil Reed", "first_name": "Gil"}', inviter_id => :'eve') \gset invited_
\set ECHO none
COMMIT;
\echo
\echo 'Gil, who has no account, opens the link, looks, and signs up. Account, membership and profile come in one transaction:'
\echo
BEGIN;
SELECT invite_sync.act_as(NULL, 'anon') AS ignored \gset
\set ECHO queries
SELECT organization_name, role, inviter_name, email_hint, needs_signup FROM invite_sync.get_invitation(:'invited_token');
SELECT email, cardinality(organization_ids) AS organizations
  FROM invite_sync.signup_with_invitation(:'invited_token', 'a passphrase of some length');
\set ECHO none
COMMIT;
\set ECHO queries
SELECT email, full_name FROM public.profiles WHERE email = 'gil@example.com';
\set ECHO none
SELECT id AS gil FROM auth.users WHERE email = 'gil@example.com' \gset
BEGIN;
SELECT invite_sync.act_as(:'gil') AS ignored \gset
\set ECHO queries
SELECT slug, role FROM invite_sync.my_organizations();
\set ECHO none
SELECT count(*) AS gil_in FROM invite_sync.my_organizations() \gset
COMMIT;
\echo 'The token is good for one; and Eve has two invitations left:'
\echo
BEGIN;
SELECT invite_sync.act_as(:'fay') AS ignored \gset
\set ECHO queries
\set ON_ERROR_STOP off
SELECT * FROM invite_sync.accept_invitation(:'invited_token');
\set second_refused :ERROR
\set ON_ERROR_STOP on
\set ECHO none
ROLLBACK;
BEGIN;
SELECT invite_sync.act_as(:'eve') AS ignored \gset
\set ECHO queries
SELECT granted, used, remaining FROM invite_sync.my_quota();
\set ECHO none
SELECT remaining AS eve_left FROM invite_sync.my_quota() \gset
COMMIT;

-- does the story hold?
SELECT set_config('demo.refusals', :'unguarded_failed' || ' ' || :'stranger_refused', false) AS ignored \gset
SELECT set_config('demo.invited', :'gil_in' || ' ' || :'second_refused' || ' ' || :'eve_left', false) AS ignored \gset
SELECT set_config('demo.documents', :'before' || ' ' || :'after', false) AS ignored \gset
DO $$
DECLARE
	wallets	text;
BEGIN
	IF current_setting('demo.refusals') <> 'true true' THEN
		RAISE EXCEPTION 'the demo''s story does not hold: Eve refused before the guard, and the stranger after it: %',
			current_setting('demo.refusals');
	END IF;
	IF current_setting('demo.documents') <> '0 1' THEN
		RAISE EXCEPTION 'the demo''s story does not hold: documents Fay sees before and after: %', current_setting('demo.documents');
	END IF;
	IF current_setting('demo.invited') <> '1 true 2' THEN
		RAISE EXCEPTION 'the demo''s story does not hold: organizations of Gil, the second acceptance refused, invitations left: %',
			current_setting('demo.invited');
	END IF;
	SELECT string_agg(u.email || ' ' || w.credits, ', ' ORDER BY u.email) INTO wallets
	  FROM public.wallets AS w JOIN auth.users AS u ON u.id = w.user_id;
	IF wallets IS DISTINCT FROM 'eve@example.com 100, fay@example.com 100, gil@example.com 100'
	   OR (SELECT count(*) FROM auth.users) <> 7 OR EXISTS (SELECT FROM auth.users WHERE email LIKE 'mallory@%') THEN
		RAISE EXCEPTION 'the demo''s story does not hold: wallets of %, and % users', wallets,
			(SELECT count(*) FROM auth.users);
	END IF;
	IF EXISTS (SELECT FROM invite_sync.quarantine) OR EXISTS (SELECT FROM invite_sync.verify())
	   OR EXISTS (SELECT FROM invite_sync.sync_status() WHERE percent <> 100 OR missing <> 0 OR quarantined <> 0) THEN
		RAISE EXCEPTION 'the demo''s story does not hold: quarantine, verify() or sync_status() is not clean in the end';
	END IF;
END
$$;

\echo '== All users are in step, and quarantine is empty.'
\echo
\echo 'To keep such a cluster running and connect to it:  make demo-server'
\echo 'To attach a table of your own:                     docs/sync.md'
\echo 'To put triggers of yours under guard:              docs/quarantine.md'
\echo 'Organizations, roles and policies:                 docs/organization.md, docs/membership.md'
\echo 'Invitations, quotas, rate limits:                  docs/invitation.md, docs/quota.md'
\echo
