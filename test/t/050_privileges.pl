# Who may do what, and as whom our statements run: read from the catalogs, so
# that what is added later is tested without being named here, and tried out.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value user_id bulk_signup_sql signup standard_targets out_of_step);
use InviteSyncTest qw(prepare_database session run_as change_email_sql delete_user_sql);
use Test::More;

my $db = 'app';
my $node = durable_cluster('privileges');
prepare_database($node, $db);
value($node, $db, 'CREATE ROLE bystander LOGIN; CREATE ROLE grantee');

# Rows of a query as a list; nothing found is an empty one.
sub found { return [ split /\n/, value($node, $db, "SET search_path = pg_catalog; $_[0]") ] }
sub none { my ($name, $query) = @_; return is(join("\n", @{ found($query) }), '', $name) }

# ---------------------------------------------------------------------------
# Right after CREATE EXTENSION

none('the install script puts no trigger on a table of others', q{
SELECT t.tgrelid::regclass || ' ' || t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE p.pronamespace = 'invite_sync'::regnamespace AND c.relnamespace <> 'invite_sync'::regnamespace});
none('no foreign key of ours leads out of our schema', q{
SELECT c.conname FROM pg_constraint c JOIN pg_class r ON r.oid = c.confrelid
WHERE c.connamespace = 'invite_sync'::regnamespace AND c.contype = 'f' AND r.relnamespace <> 'invite_sync'::regnamespace});
none('no foreign key of ours needs a row of a table that may be restored later', q{
SELECT c.conrelid::regclass || ' ' || c.conname FROM pg_constraint c WHERE c.connamespace = 'invite_sync'::regnamespace AND c.contype = 'f'});
none('nothing of ours depends on schema auth or public', q{
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e' AND e.refclassid = 'pg_extension'::regclass
	AND e.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'invite_sync')
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM pg_class WHERE relnamespace IN ('auth'::regnamespace, 'public'::regnamespace))});
none('everything in the schema belongs to the extension', q{
SELECT pg_describe_object(o.class, o.id, 0) FROM
	(SELECT 'pg_proc'::regclass AS class, oid AS id FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace
	 UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'v', 'm', 'f', 'p', 'S')) o
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.id AND d.deptype = 'e')});

# ---------------------------------------------------------------------------
# Owners and rights

none('everything belongs to invite_sync_owner', q{
SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND pg_get_userbyid(proowner) <> 'invite_sync_owner'
UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND pg_get_userbyid(relowner) <> 'invite_sync_owner'
UNION ALL SELECT oid::regtype::text FROM pg_type WHERE typnamespace = 'invite_sync'::regnamespace AND pg_get_userbyid(typowner) <> 'invite_sync_owner'
UNION ALL SELECT 'schema' FROM pg_namespace WHERE nspname = 'invite_sync' AND pg_get_userbyid(nspowner) <> 'invite_sync_owner'});
none('which can do nothing by itself', q{
SELECT rolname FROM pg_roles WHERE rolname = 'invite_sync_owner' AND (rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
UNION ALL SELECT 'member of ' || roleid::regrole FROM pg_auth_members WHERE member = 'invite_sync_owner'::regrole
UNION ALL SELECT 'has member ' || member::regrole FROM pg_auth_members WHERE roleid = 'invite_sync_owner'::regrole});
none('and has nothing outside of our schema', q{
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_shdepend d
WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = 'invite_sync_owner'::regrole
	AND pg_describe_object(d.classid, d.objid, d.objsubid) !~ '(invite_sync\.| schema invite_sync|^schema invite_sync)'
	AND NOT (d.classid = 'pg_type'::regclass AND d.objid IN (SELECT oid FROM pg_type WHERE typnamespace = 'invite_sync'::regnamespace))});
none('nothing is SECURITY DEFINER', q{SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND prosecdef});
none('what is not C pins its search_path', q{
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'invite_sync'::regnamespace AND l.lanname <> 'c' AND NOT coalesce(p.proconfig::text ~ 'search_path=pg_catalog, pg_temp', false)});
none('every view is a barrier', q{
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind = 'v' AND NOT coalesce('security_barrier=true' = ANY (reloptions), false)});
none('row level security is on for every table, and not forced on the owner', q{
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'p') AND (NOT relrowsecurity OR relforcerowsecurity)});
none('PUBLIC has nothing', q{
SELECT o.name || ' ' || a.privilege_type FROM
	(SELECT 'schema' AS name, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM pg_namespace WHERE nspname = 'invite_sync'
	 UNION ALL SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace
	 UNION ALL SELECT oid::regclass::text, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')) o,
	aclexplode(o.acl) a
WHERE a.grantee = 0});
none('no right is on a column', q{
SELECT attrelid::regclass || '.' || attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'invite_sync'::regnamespace AND a.attacl IS NOT NULL});
none('nobody can hand a right on', q{
SELECT o.name || ' ' || a.grantee::regrole FROM
	(SELECT 'schema' AS name, nspacl AS acl FROM pg_namespace WHERE nspname = 'invite_sync'
	 UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace
	 UNION ALL SELECT oid::regclass::text, relacl FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace) o, aclexplode(o.acl) a
WHERE a.is_grantable AND a.grantee <> 'invite_sync_owner'::regrole});

# Exactly the list that grant_api() works from, for every role there is.
my $granted = q{
SELECT g.role || ' ' || g.what FROM
	(SELECT a.grantee::regrole::text AS role, CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || p.oid::regprocedure AS what
	 FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'invite_sync'::regnamespace
	 UNION ALL SELECT a.grantee::regrole::text, 'TABLE ' || c.oid::regclass || ' ' || a.privilege_type
	 FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'invite_sync'::regnamespace
	 UNION ALL SELECT a.grantee::regrole::text, 'SCHEMA ' || a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'invite_sync') g
WHERE g.role <> 'invite_sync_owner' ORDER BY 1};
# the list's spelling of types and ours are made the same by PostgreSQL
my $wanted = q{
SELECT r.role || ' ' || CASE WHEN g.object LIKE 'TABLE %' THEN 'TABLE ' || substr(g.object, 7)::regclass || ' SELECT'
	WHEN g.object LIKE 'PROCEDURE %' THEN 'PROCEDURE ' || substr(g.object, 11)::regprocedure
	ELSE 'FUNCTION ' || substr(g.object, 10)::regprocedure END
FROM (VALUES ('anon', ARRAY['anon']), ('authenticated', ARRAY['user']), ('service_role', ARRAY['service']), ('supabase_auth_admin', ARRAY['auth']),
	('postgres', ARRAY['service', 'operator'])) AS r (role, audiences)
JOIN invite_sync.api_grants() g ON g.audience = ANY (r.audiences)
-- the one view that is copied into
UNION SELECT r || ' TABLE invite_sync.invitation_import INSERT' FROM unnest(ARRAY['service_role', 'postgres']) r
UNION SELECT r || ' SCHEMA USAGE' FROM unnest(ARRAY['anon', 'authenticated', 'service_role', 'supabase_auth_admin', 'postgres']) r
-- so that its pg_dump succeeds
UNION SELECT 'postgres TABLE ' || c.oid::regclass || ' SELECT' FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
ORDER BY 1};
is_deeply(found($granted), found($wanted), 'every role has what api_grants() says, and nothing else');
# what policies ask, which everybody who meets a policy must be able to
my @asked = map { "FUNCTION invite_sync.$_" } ('current_claims()', 'current_user_id()', 'has_any_permission(uuid, text[])', 'has_any_role(uuid, text[])',
	'has_permission(uuid, text)', 'has_role(uuid, text)', 'is_member(uuid)', 'member_organizations()', 'organizations_with_permission(text)', 'platform_role()', 'whoami()');
# and what is for whoever has a token
my @tokens = map { "FUNCTION invite_sync.$_" } ('bind_invitation(text, text)', 'complete_migration_by_token(text, text)', 'get_invitation(text)');
my $signup = 'FUNCTION invite_sync.signup_with_invitation(text, text, jsonb, text)';
is_deeply(found(q{SELECT object FROM invite_sync.api_grants() WHERE audience = 'anon' ORDER BY object COLLATE "C"}), [ sort(@asked, @tokens, $signup) ], 'api_grants() gives anon nothing but what the rooms mark');
is_deeply(found(q{SELECT object FROM invite_sync.api_grants() WHERE audience = 'user' ORDER BY object COLLATE "C"}), [ sort(@asked, @tokens,
	'FUNCTION invite_sync.accept_invitation(text, text)',
	'FUNCTION invite_sync.accept_my_invitation(uuid)',
	'FUNCTION invite_sync.decline_invitation(text)',
	'FUNCTION invite_sync.decline_my_invitation(uuid)',
	'FUNCTION invite_sync.my_invitations(text, integer)',
	'FUNCTION invite_sync.add_domain(uuid, text)',
	'FUNCTION invite_sync.add_member(uuid, uuid, text)',
	'FUNCTION invite_sync.cancel_join_request(uuid)',
	'FUNCTION invite_sync.check_invitation(text, text, uuid, uuid)',
	'FUNCTION invite_sync.check_migration()',
	'FUNCTION invite_sync.create_invitation(text, text, uuid, jsonb, text, jsonb, interval, text, text, text, uuid)',
	'FUNCTION invite_sync.create_invitations(jsonb, text, uuid, interval, text, text, uuid)',
	'FUNCTION invite_sync.create_invite_link(uuid, text, integer, interval, text, uuid)',
	'FUNCTION invite_sync.create_organization(text, text, uuid, jsonb, uuid)',
	'FUNCTION invite_sync.create_role(text, text[], uuid)',
	'FUNCTION invite_sync.decide_join_request(uuid, boolean, text)',
	'FUNCTION invite_sync.delete_organization(uuid, boolean)',
	'FUNCTION invite_sync.drop_role(text, uuid)',
	'FUNCTION invite_sync.get_member(uuid, uuid)',
	'FUNCTION invite_sync.get_organization(uuid)',
	'FUNCTION invite_sync.leave_organization(uuid)',
	'FUNCTION invite_sync.list_domains(uuid, text, integer)',
	'FUNCTION invite_sync.list_invitations(uuid, text, integer, text, uuid)',
	'FUNCTION invite_sync.list_join_requests(uuid, text, integer, text)',
	'FUNCTION invite_sync.list_members(uuid, text, integer)',
	'FUNCTION invite_sync.list_permissions(text, integer)',
	'FUNCTION invite_sync.list_roles(uuid, text, integer)',
	'FUNCTION invite_sync.log_event(text, text, text, jsonb, uuid, uuid, text)',
	'FUNCTION invite_sync.move_organization(uuid, uuid)',
	'FUNCTION invite_sync.my_organizations(text, integer)',
	'FUNCTION invite_sync.my_quota()',
	'FUNCTION invite_sync.remove_domain(uuid, text)',
	'FUNCTION invite_sync.remove_member(uuid, uuid)',
	'FUNCTION invite_sync.request_to_join(uuid, text)',
	'FUNCTION invite_sync.require_migrated()',
	'FUNCTION invite_sync.resend_invitation(uuid, uuid)',
	'FUNCTION invite_sync.revoke_invitation(uuid, uuid)',
	'FUNCTION invite_sync.seat_usage(uuid)',
	'FUNCTION invite_sync.set_enrollment(uuid, text, text)',
	'FUNCTION invite_sync.set_invitation_policy(uuid, interval)',
	'FUNCTION invite_sync.set_member_role(uuid, uuid, text)',
	'FUNCTION invite_sync.set_role_permissions(text, text[], uuid)',
	'FUNCTION invite_sync.suggested_organizations()',
	'FUNCTION invite_sync.transfer_ownership(uuid, uuid)',
	'FUNCTION invite_sync.update_organization(uuid, text, text, jsonb)',
	map { "TABLE invite_sync.$_" } qw(join_request membership organization organization_domain permission platform_role role role_permission)) ],
	'and users the log, their organizations, and tables whose policies show them their own');
none('every function is granted to somebody, or says that it is internal', q{
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.prorettype <> 'trigger'::regtype
	AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee <> p.proowner)
	AND obj_description(p.oid, 'pg_proc') !~ '(Internal|own functions|Superusers)'});

# ---------------------------------------------------------------------------
# Shapes

none('everything has a comment', q{
SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'p', 'v', 'S') AND obj_description(oid, 'pg_class') IS NULL
UNION ALL SELECT t.oid::regtype::text FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE t.typnamespace = 'invite_sync'::regnamespace AND t.typelem = 0 AND (c.oid IS NULL OR c.relkind = 'c') AND obj_description(t.oid, 'pg_type') IS NULL
UNION ALL SELECT t.tgrelid::regclass || ' ' || t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'invite_sync'::regnamespace AND NOT t.tgisinternal AND obj_description(t.oid, 'pg_trigger') IS NULL
UNION ALL SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL
UNION ALL SELECT 'schema' WHERE obj_description('invite_sync'::regnamespace, 'pg_namespace') IS NULL
UNION ALL SELECT 'role' WHERE shobj_description('invite_sync_owner'::regrole, 'pg_authid') IS NULL});
none('the comment of every table names its personal columns', q{
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'p') AND obj_description(oid, 'pg_class') !~* 'personal columns'});
is(join("\n", @{ found(q{
SELECT c.oid::regclass FROM pg_class c, pg_extension e
WHERE e.extname = 'invite_sync' AND c.relnamespace = 'invite_sync'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND NOT c.oid = ANY (e.extconfig)}) }), 'invite_sync.lineage', 'every table and sequence is dumped but the lineage, which must not be');
none('and whole', q{SELECT unnest(extcondition) FROM pg_extension WHERE extname = 'invite_sync' EXCEPT SELECT ''});
none('no column has a type that pg_upgrade refuses', q{
WITH RECURSIVE refused AS (
	SELECT t.oid FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname LIKE 'reg%' AND t.typname NOT IN ('regclass', 'regrole', 'regtype')
	UNION SELECT t.oid FROM pg_type t JOIN refused r ON r.oid IN (t.typelem, t.typbasetype) AND t.typcategory IN ('A', 'U', 'N', 'S'))
SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'invite_sync'::regnamespace AND a.atttypid IN (SELECT oid FROM refused) AND NOT a.attisdropped});
none('there are no overloads', q{SELECT proname FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace GROUP BY 1 HAVING count(*) > 1});
# What takes internal arguments cannot be called from SQL: nobody could use their names.
none('every argument that a caller can give has a name', q{
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.pronargs > 0 AND 'internal'::regtype <> ALL (p.proargtypes) AND (p.proargnames IS NULL OR '' = ANY (p.proargnames))});
none('and none that PostgREST has a use for', q{
SELECT p.oid::regprocedure || ' ' || n FROM pg_proc p, unnest(p.proargnames) n
WHERE p.pronamespace = 'invite_sync'::regnamespace AND n IN ('select', 'order', 'limit', 'offset', 'columns', 'on_conflict', 'and', 'or', 'not')});
none('the same thing has the same name', q{
SELECT p.oid::regprocedure || ' ' || n FROM pg_proc p, unnest(p.proargnames) n
WHERE p.pronamespace = 'invite_sync'::regnamespace AND n IN ('user', 'userid', 'uid', 'uuid', 'org_id', 'organisation_id', 'org', 'organization', 'role_name', 'invite_id', 'invitation', 'p_user_id', '_user_id')});
none('nothing returns void', q{SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND prokind = 'f' AND prorettype = 'void'::regtype});
none('no answer is an anonymous record', q{
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace
	AND (p.proargmodes && ARRAY['o', 'b', 'v']::"char"[] OR p.prorettype = 'record'::regtype AND NOT (p.proretset AND 't' = ANY (p.proargmodes)))});
none('every argument that may be left out says so by a default', q{
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.proname ~ '^(sync_users|sync_all|retry_quarantine|preservation_report|attach|detach)$' AND p.pronargs <> p.pronargdefaults});
# What policies ask is an exception, for queries that are worth workers: 100_rls_helpers.pl asks it there.
none('nothing that asks the catalogs or tables is PARALLEL SAFE', q{
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.proparallel = 's' AND p.provolatile <> 'i'
	AND 'FUNCTION ' || p.oid::regprocedure <> ALL (string_to_array(replace('} . join(';', @asked) . q{', ', ', ','), ';'))});

# ---------------------------------------------------------------------------
# A call of every function and procedure: a new one fails here until it is listed

standard_targets($node, $db);
as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql('a', 1, 20));
as_role($node, $db, 'postgres', 'CREATE TABLE public.spare (id uuid PRIMARY KEY, email text)');
my $someone = user_id('a', 1);
my $organization = 'd0000000-0000-4000-8000-000000000001';
my $child_organization = 'd0000000-0000-4000-8000-000000000002';
my $join_request = 'd0000000-0000-4000-8000-000000000003';
my $invitation = 'd0000000-0000-4000-8000-000000000004';
my ($member, $newcomer) = (user_id('a', 3), user_id('a', 4));
# somebody without an account is invited; the secret is zeros
my $offer = 'd0000000-0000-4000-8000-000000000005';
my $token = value($node, $db, "SELECT 'inv_' || translate(encode(uuid_send('$offer') || decode(repeat('00', 32), 'hex'), 'base64'), E'+/\\n', '-_')");
# somebody comes from another provider, and has a token to migrate
my $migration = 'd0000000-0000-4000-8000-000000000006';
my $migration_token = value($node, $db, "SELECT 'inv_' || translate(encode(uuid_send('$migration') || decode(repeat('00', 32), 'hex'), 'base64'), E'+/\\n', '-_')");
my $unmigrated = user_id('a', 6);
my %call = (
	create_user => q{SELECT invite_sync.create_user('made@new.example', 'correct horse')},
	import_users => "SELECT count(*) FROM invite_sync.import_users('[{\"email\": \"imported\@new.example\", \"platform_role\": \"member\", \"quota_granted\": 1, \"grants\": [{\"organization_id\": \"$organization\"}]}]')",
	migration_status => 'SELECT invite_sync.migration_status()',
	unmigrated_users => 'SELECT count(*) FROM invite_sync.unmigrated_users()',
	set_migration_policy => q{SELECT invite_sync.set_migration_policy('remind')},
	check_migration => 'SELECT invite_sync.check_migration()',
	require_migrated => 'SELECT invite_sync.require_migrated()',
	complete_migration => q{SELECT invite_sync.complete_migration('clerk', 'user_a6', 'correct horse')},
	create_migration_invitation => q{SELECT invite_sync.create_migration_invitation('clerk', 'user_a6')},
	complete_migration_by_token => "SELECT invite_sync.complete_migration_by_token('$migration_token', 'correct horse')",
	link_external_user => "SELECT invite_sync.link_external_user('clerk', 'user_a4', '$newcomer')",
	add_target => q{SELECT invite_sync.add_target('public.spare')},
	set_target => q{SELECT invite_sync.set_target('public.profiles', on_error => 'quarantine')},
	drop_target => q{SELECT invite_sync.drop_target('public.spare')},
	attach => 'SELECT invite_sync.attach()',
	detach => 'SELECT invite_sync.detach()',
	sync_users => 'SELECT count(*) FROM invite_sync.sync_users()',
	sync_all => 'CALL invite_sync.sync_all(5)',
	ensure_user => "SELECT invite_sync.ensure_user('$someone')",
	user_exists => "SELECT invite_sync.user_exists('$someone')",
	create_profile => "SELECT invite_sync.create_profile('$someone', '{\"full_name\": \"Given\"}')",
	sync_status => 'SELECT count(*) FROM invite_sync.sync_status()',
	preservation_report => 'SELECT count(*) FROM invite_sync.preservation_report()',
	retry_quarantine => 'SELECT invite_sync.retry_quarantine(due_only => false)',
	deactivate_user => "SELECT invite_sync.deactivate_user('$someone', 'away')",
	reactivate_user => "SELECT invite_sync.reactivate_user('$someone')",
	set_alert => q{SELECT invite_sync.set_alert('quarantined', 0)},
	check_alerts => 'SELECT invite_sync.check_alerts()',
	acknowledge_alert => 'SELECT invite_sync.acknowledge_alert(1)',
	describe_schema => 'SELECT jsonb_typeof(invite_sync.describe_schema())',
	snapshot_schema => 'SELECT invite_sync.snapshot_schema()',
	import_snapshot => q{SELECT invite_sync.import_snapshot('{"format": 1, "schemas": ["public"], "objects": {}}')},
	export_snapshot => 'SELECT jsonb_typeof(invite_sync.export_snapshot(1))',
	schema_diff => 'SELECT count(*) FROM invite_sync.schema_diff(1)',
	assert_no_drift => 'SELECT invite_sync.assert_no_drift(invite_sync.describe_schema())',
	approve_snapshot => 'SELECT invite_sync.approve_snapshot(1)',
	approve_drift => 'SELECT invite_sync.approve_drift(1)',
	check_drift => 'SELECT invite_sync.check_drift()',
	prune_snapshots => 'CALL invite_sync.prune_snapshots()',
	schedule_drift_check => 'SELECT count(*) FROM invite_sync.schedule_drift_check()',
	unschedule_drift_check => 'SELECT invite_sync.unschedule_drift_check()',
	schedule_retry => 'SELECT count(*) FROM invite_sync.schedule_retry()',
	unschedule_retry => 'SELECT invite_sync.unschedule_retry()',
	close_quarantine => 'SELECT invite_sync.close_quarantine(1)',
	guard_trigger => q{SELECT invite_sync.guard_trigger('their_own')},
	unguard_trigger => q{SELECT invite_sync.unguard_trigger('their_own')},
	verify => 'SELECT count(*) FROM invite_sync.verify()',
	guarded_trigger_name => q{SELECT invite_sync.guarded_trigger_name('their_own', 0::oid, '')},
	target_name => q{SELECT invite_sync.target_name(1, NULL, 'public', 'profiles', '')},
	create_standard_tables => q{SELECT invite_sync.create_standard_tables(schema => 'extra')},
	create_auth_schema => 'SELECT invite_sync.create_auth_schema()',
	log_event => "SELECT invite_sync.log_event('order.placed', user_id => '$someone')",
	redact_payload => q{SELECT invite_sync.redact_payload('{"a": 1}')},
	current_claims => 'SELECT invite_sync.current_claims()',
	current_user_id => 'SELECT invite_sync.current_user_id()',
	is_member => "SELECT invite_sync.is_member('$someone')",
	has_role => "SELECT invite_sync.has_role('$someone', 'owner')",
	has_any_role => "SELECT invite_sync.has_any_role('$someone', '{owner}')",
	has_permission => "SELECT invite_sync.has_permission('$someone', 'members.read')",
	has_any_permission => "SELECT invite_sync.has_any_permission('$someone', '{members.read}')",
	member_organizations => 'SELECT invite_sync.member_organizations()',
	organizations_with_permission => q{SELECT invite_sync.organizations_with_permission('members.read')},
	platform_role => 'SELECT invite_sync.platform_role()',
	whoami => 'SELECT invite_sync.whoami()',
	get_invitation => "SELECT invite_sync.get_invitation('$token')",
	bind_invitation => "SELECT invite_sync.bind_invitation('$token', 'a device')",
	accept_invitation => "SELECT invite_sync.accept_invitation('$token')",
	accept_my_invitation => "SELECT invite_sync.accept_my_invitation('$offer')",
	my_invitations => 'SELECT count(*) FROM invite_sync.my_invitations()',
	decline_invitation => "SELECT invite_sync.decline_invitation('$token')",
	decline_my_invitation => "SELECT invite_sync.decline_my_invitation('$offer')",
	signup_with_invitation => "SELECT invite_sync.signup_with_invitation('$token', 'correct horse')",
	protect_table => q{SELECT invite_sync.protect_table('public.spare', 'id')},
	unprotect_table => q{SELECT invite_sync.unprotect_table('public.spare')},
	seal_events => 'SELECT count(*) FROM invite_sync.seal_events()',
	verify_events => 'SELECT count(*) FROM invite_sync.verify_events()',
	prune_events => q{CALL invite_sync.prune_events('100 years')},
	is_operator => 'SELECT invite_sync.is_operator()',
	grant_operator => q{SELECT invite_sync.grant_operator('grantee')},
	revoke_operator => q{SELECT invite_sync.revoke_operator('grantee')},
	grant_dump => q{SELECT invite_sync.grant_dump('grantee')},
	grant_api => 'SELECT invite_sync.grant_api()',
	# the organization is made anew by make_work() where it is gone
	create_organization => q{SELECT invite_sync.create_organization('Made here')},
	get_organization => "SELECT invite_sync.get_organization('$organization')",
	update_organization => "SELECT invite_sync.update_organization('$organization', 'Called', slug => 'called', settings => '{\"a\": 1}')",
	move_organization => "SELECT invite_sync.move_organization('$organization', NULL)",
	delete_organization => "SELECT invite_sync.delete_organization('$organization', true)",
	my_organizations => 'SELECT count(*) FROM invite_sync.my_organizations()',
	list_organizations => 'SELECT count(*) FROM invite_sync.list_organizations()',
	set_seats => "SELECT invite_sync.set_seats('$organization', 100, 1)",
	seat_usage => "SELECT invite_sync.seat_usage('$organization')",
	set_organization_limits => "SELECT invite_sync.set_organization_limits('$organization', 3, 'eu')",
	add_domain => "SELECT invite_sync.add_domain('$organization', 'another.example')",
	verify_domain => "SELECT invite_sync.verify_domain('$organization', 'claimed.example', '{proof}')",
	set_enrollment => "SELECT invite_sync.set_enrollment('$organization', 'claimed.example', 'none')",
	remove_domain => "SELECT invite_sync.remove_domain('$organization', 'claimed.example')",
	list_domains => "SELECT count(*) FROM invite_sync.list_domains('$organization')",
	add_member => "SELECT invite_sync.add_member('$organization', '$newcomer', 'writer')",
	remove_member => "SELECT invite_sync.remove_member('$organization', '$member')",
	set_member_role => "SELECT invite_sync.set_member_role('$organization', '$member', 'admin')",
	transfer_ownership => "SELECT invite_sync.transfer_ownership('$organization', '$member')",
	leave_organization => "SELECT invite_sync.leave_organization('$organization')",
	list_members => "SELECT count(*) FROM invite_sync.list_members('$organization')",
	get_member => "SELECT invite_sync.get_member('$organization', '$member')",
	create_role => "SELECT invite_sync.create_role('reader', '{members.read}', '$organization')",
	set_role_permissions => "SELECT invite_sync.set_role_permissions('writer', '{members.read,of.theirs}', '$organization')",
	drop_role => "SELECT invite_sync.drop_role('writer', '$organization')",
	list_roles => "SELECT count(*) FROM invite_sync.list_roles('$organization')",
	create_permission => q{SELECT invite_sync.create_permission('made.here', 'for this test')},
	drop_permission => q{SELECT invite_sync.drop_permission('of.theirs')},
	list_permissions => 'SELECT count(*) FROM invite_sync.list_permissions()',
	set_platform_role => "SELECT invite_sync.set_platform_role('$member', 'admin')",
	request_to_join => "SELECT invite_sync.request_to_join('$organization')",
	decide_join_request => "SELECT invite_sync.decide_join_request('$join_request', true)",
	cancel_join_request => "SELECT invite_sync.cancel_join_request('$join_request')",
	list_join_requests => "SELECT count(*) FROM invite_sync.list_join_requests('$organization')",
	suggested_organizations => 'SELECT count(*) FROM invite_sync.suggested_organizations()',
	create_invitation => "SELECT invite_sync.create_invitation('new\@invited.example', 'writer', '$organization', on_pending => 'replace')",
	create_invitations => "SELECT count(*) FROM invite_sync.create_invitations('[{\"email\": \"many\@invited.example\"}]', 'writer', '$organization')",
	create_invite_link => "SELECT invite_sync.create_invite_link('$organization')",
	check_invitation => "SELECT count(*) FROM invite_sync.check_invitation('new\@invited.example', 'writer', '$organization')",
	resend_invitation => "SELECT invite_sync.resend_invitation('$invitation')",
	revoke_invitation => "SELECT invite_sync.revoke_invitation('$invitation')",
	list_invitations => "SELECT count(*) FROM invite_sync.list_invitations('$organization')",
	set_invitation_policy => "SELECT invite_sync.set_invitation_policy('$organization', '1 day')",
	import_invitations => "SELECT count(*) FROM invite_sync.import_invitations('[{\"email\": \"older\@invited.example\"}]')",
	invitation_import_failed => "INSERT INTO invite_sync.invitation_import (email) VALUES ('x'), ('copied\@invited.example'); SELECT count(*) FROM invite_sync.invitation_import_failed()",
	settle_invitations => 'CALL invite_sync.settle_invitations()',
	prune_invitations => q{CALL invite_sync.prune_invitations('0')},
	my_quota => 'SELECT invite_sync.my_quota()',
	grant_quota => "SELECT invite_sync.grant_quota('$member', 1)",
	set_quota => "SELECT invite_sync.set_quota('$member', 5)",
	quota_report => 'SELECT count(*) FROM invite_sync.quota_report()',
	audit => 'SELECT count(*) FROM invite_sync.audit()',
	backfill_quota => 'CALL invite_sync.backfill_quota(5)',
	set_rate_limit => q{SELECT invite_sync.set_rate_limit('export', 100)},
	drop_rate_limit => q{SELECT invite_sync.drop_rate_limit('export')},
	consume_rate_limit => q{SELECT invite_sync.consume_rate_limit('message', 'somebody@example.com')},
	rate_limit_report => 'SELECT count(*) FROM invite_sync.rate_limit_report()',
	prune_rate_limits => 'CALL invite_sync.prune_rate_limits()',
	before_user_created_hook => q{SET invite_sync.signup_policy = 'invite_only'; SELECT invite_sync.before_user_created_hook('{"user": {"email": "pending@invited.example"}}')},
	after_user_created_hook => "SELECT invite_sync.after_user_created_hook('{\"user\": {\"id\": \"$someone\", \"email\": \"pending\@invited.example\", \"invited_at\": \"2026-01-01\"}}')",
	custom_access_token_hook => "SELECT invite_sync.custom_access_token_hook('{\"user_id\": \"$member\", \"claims\": {}}')",
	(map { ("${_}_verification_attempt_hook" => "SET invite_sync.lockout_attempts = 3; SELECT invite_sync.${_}_verification_attempt_hook('{\"user_id\": \"$someone\", \"valid\": false, \"metadata\": {\"ip_address\": \"192.0.2.1\"}}')") } qw(password mfa)));
my %later = (
	config_sql => 'SELECT invite_sync.config_sql()',
	uninstall_plan => 'SELECT count(*) FROM invite_sync.uninstall_plan()',
	health => 'SELECT invite_sync.health()',
	doctor => 'SELECT count(*) FROM invite_sync.doctor()',
	probe_signup => q{SELECT count(*) FROM invite_sync.probe_signup('{anonymous}')},
	probe_update => q{SELECT count(*) FROM invite_sync.probe_update('{anonymous}')},
	probe_login => q{SELECT count(*) FROM invite_sync.probe_login('{anonymous}')},
	probe_delete => q{SELECT count(*) FROM invite_sync.probe_delete('{anonymous}')},
	act_as => q{SELECT invite_sync.act_as(NULL, 'anon')});
my @routines = @{ found(q{
SELECT proname FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND prorettype <> 'trigger'::regtype
	AND obj_description(oid, 'pg_proc') !~ '(Internal|own functions)' ORDER BY 1}) };
for my $name (@routines)
{
	$call{$name} ||= $later{$name};
	ok($call{$name}, "there is a call of $name() to be tried");
}
my @calls = grep { $call{$_} } @routines;

# ---------------------------------------------------------------------------
# No statement runs as the superuser who installed the extension. Code of others
# sits wherever there is room for it: triggers, defaults, checks, domains,
# generated columns, indexes, policies, mappings; on auth.users, on targets and
# on tables that reference them. It counts, in sequences, who it is run as:
# a sequence also counts what is rolled back, and in functions that may not write.

value($node, $db, q{
CREATE SCHEMA audit AUTHORIZATION postgres;
CREATE SCHEMA extra AUTHORIZATION postgres;
GRANT USAGE ON SCHEMA audit TO PUBLIC;
SET ROLE postgres;
CREATE SEQUENCE audit.superuser;
CREATE SEQUENCE audit.supabase_auth_admin;
CREATE SEQUENCE audit.postgres;
CREATE SEQUENCE audit.invite_sync_owner;
CREATE SEQUENCE audit.other;
GRANT ALL ON ALL SEQUENCES IN SCHEMA audit TO PUBLIC;
CREATE FUNCTION audit.note() RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) THEN
		PERFORM pg_catalog.nextval('audit.superuser');
	ELSIF current_user IN ('supabase_auth_admin', 'postgres', 'invite_sync_owner') THEN
		PERFORM pg_catalog.nextval(('audit.' || current_user)::pg_catalog.regclass);
	ELSE
		PERFORM pg_catalog.nextval('audit.other');
	END IF;
	RETURN true;
END $$;
CREATE FUNCTION audit.noted(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM audit.note(); RETURN value; END $$;
CREATE FUNCTION audit.row_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM audit.note(); RETURN coalesce(NEW, OLD); END $$;
CREATE TABLE audit.broken (now boolean);
INSERT INTO audit.broken VALUES (false);
GRANT SELECT ON audit.broken TO PUBLIC;
CREATE FUNCTION audit.may_fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM audit.note();
	IF (SELECT b.now FROM audit.broken b) THEN
		PERFORM 1 / 0;
	END IF;
	RETURN NULL;
END $$;
CREATE FUNCTION audit.statement_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM audit.note(); RETURN NULL; END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA audit TO PUBLIC;
CREATE DOMAIN audit.noted_text AS text CHECK (audit.noted(VALUE) IS NOT DISTINCT FROM VALUE);
CREATE TABLE public.exposed (
	user_id uuid PRIMARY KEY,
	email text CHECK (audit.noted(email) IS NOT DISTINCT FROM email),
	full_name audit.noted_text,
	nothing text DEFAULT audit.noted('default'),
	made text GENERATED ALWAYS AS (audit.noted(email)) STORED);
CREATE INDEX ON public.exposed (audit.noted(email));
CREATE UNIQUE INDEX ON public.exposed (audit.noted(full_name)) WHERE audit.noted(email) = 'never';
ALTER TABLE public.exposed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody ON public.exposed USING (audit.note()) WITH CHECK (audit.note());
CREATE TRIGGER note_before BEFORE INSERT OR UPDATE OR DELETE ON public.exposed FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE TRIGGER note_after AFTER INSERT OR UPDATE OR DELETE ON public.exposed FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE TRIGGER note_statement BEFORE INSERT OR UPDATE OR DELETE ON public.exposed FOR EACH STATEMENT EXECUTE FUNCTION audit.statement_trigger();
CREATE TABLE public.child (id bigint GENERATED ALWAYS AS IDENTITY, of uuid REFERENCES public.exposed ON DELETE CASCADE, also uuid REFERENCES public.exposed ON DELETE SET NULL);
CREATE TRIGGER note_before BEFORE UPDATE OR DELETE ON public.child FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE TRIGGER note_after AFTER UPDATE OR DELETE ON public.child FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE CONSTRAINT TRIGGER note_deferred AFTER DELETE ON public.child DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
SELECT invite_sync.add_target('public.exposed', '{"email": "audit.noted(email::text)", "full_name": {"value": "audit.noted(''a constant, so that the planner runs it'') || email", "update": "always"}}', on_delete => 'delete');
RESET ROLE;
GRANT REFERENCES ON invite_sync.organization, invite_sync.membership, invite_sync.role, invite_sync.organization_domain TO postgres;
SET ROLE postgres;
CREATE TABLE public.of_organization (organization uuid REFERENCES invite_sync.organization ON DELETE CASCADE, also uuid REFERENCES invite_sync.organization ON DELETE SET NULL,
	membership uuid REFERENCES invite_sync.membership ON DELETE SET NULL, role uuid REFERENCES invite_sync.role ON DELETE SET DEFAULT, domain uuid REFERENCES invite_sync.organization_domain ON DELETE CASCADE,
	slug text REFERENCES invite_sync.organization (slug) ON UPDATE CASCADE ON DELETE SET NULL);
ALTER TABLE public.of_organization ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TRIGGER note_before BEFORE INSERT OR UPDATE OR DELETE ON public.of_organization FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE TRIGGER note_after AFTER INSERT OR UPDATE OR DELETE ON public.of_organization FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE TRIGGER note_statement AFTER UPDATE OR DELETE ON public.of_organization FOR EACH STATEMENT EXECUTE FUNCTION audit.statement_trigger();
SET ROLE supabase_auth_admin;
ALTER TABLE auth.users FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody ON auth.users USING (audit.note()) WITH CHECK (true);
CREATE TRIGGER note_before BEFORE INSERT OR UPDATE OR DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION audit.row_trigger();
CREATE TRIGGER note_statement AFTER INSERT OR UPDATE OR DELETE ON auth.users FOR EACH STATEMENT EXECUTE FUNCTION audit.statement_trigger();
CREATE TRIGGER their_own AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION audit.may_fail();
});

sub reset_notes { return value($node, $db, 'SELECT ' . join ', ', map { "setval('audit.$_', 1, false)" } qw(superuser supabase_auth_admin postgres invite_sync_owner other)) }

sub notes
{
	my ($who) = @_;
	return value($node, $db, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit.$who");
}

# A test that hears nothing would find nothing.
reset_notes();
value($node, $db, q{UPDATE public.exposed SET email = email WHERE false; INSERT INTO public.exposed (user_id, email) VALUES (gen_random_uuid(), 'x'); DELETE FROM public.exposed WHERE email = 'x'});
cmp_ok(notes('superuser'), '>', 5, 'a superuser who writes a target by hand is heard');

# Operators and functions that come first when somebody's search_path says so:
# exact matches for what statements of ours would look for.
my @types = ('oid', 'name', 'text', '"char"', 'uuid', 'bigint', 'integer', 'smallint', 'boolean', 'timestamptz');
my $evil = qq{CREATE SCHEMA evil;\nGRANT USAGE ON SCHEMA evil TO PUBLIC;\n};
for my $type (@types)
{
	for my $operator ('=', '<>', '<', '<=', '>', '>=')
	{
		(my $name = "op_${type}_" . unpack 'H*', $operator) =~ s/"//g;
		$evil .= qq{CREATE FUNCTION evil.$name($type, $type) RETURNS boolean LANGUAGE plpgsql STABLE AS \$\$ BEGIN PERFORM audit.note(); RETURN \$1 OPERATOR(pg_catalog.$operator) \$2; END \$\$;\n}
		  . qq{CREATE OPERATOR evil.$operator (leftarg = $type, rightarg = $type, function = evil.$name);\n};
	}
}
$evil .= <<'SQL';
CREATE FUNCTION evil.concatenate(text, text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM audit.note(); RETURN pg_catalog.concat($1, $2); END $$;
CREATE OPERATOR evil.|| (leftarg = text, rightarg = text, function = evil.concatenate);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM audit.note(); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM audit.note(); RETURN pg_catalog.clock_timestamp(); END $$;
CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM audit.note(); RETURN pg_catalog.quote_ident($1); END $$;
CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM audit.note(); RETURN pg_catalog.current_database(); END $$;
CREATE FUNCTION evil.has_schema_privilege(name, text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM audit.note(); RETURN true; END $$;
SQL
# The functions are the bystander's and note as whom they run.
value($node, $db, $evil);

# A state in which each function has something to write.
sub make_work
{
	as_role($node, $db, 'postgres', <<"SQL");
DELETE FROM public.exposed WHERE user_id IN (SELECT id FROM auth.users LIMIT 5);
UPDATE public.exposed SET full_name = NULL WHERE user_id IN (SELECT user_id FROM public.exposed LIMIT 5);
DELETE FROM public.profiles WHERE id = '$someone';
ALTER TABLE public.exposed ADD CONSTRAINT none_of_these CHECK (email NOT LIKE 'quarantined%') NOT VALID;
SQL
	my $id = value($node, $db, 'SELECT gen_random_uuid()');
	as_role($node, $db, 'supabase_auth_admin', bulk_signup_sql('b', $$, $$) . q{ ON CONFLICT DO NOTHING; }
		  . "INSERT INTO auth.users (id, email, raw_user_meta_data) VALUES ('$id', 'quarantined-' || '$id', '{}')");
	as_role($node, $db, 'postgres', 'ALTER TABLE public.exposed DROP CONSTRAINT none_of_these');

	# an organization with one below it, a member who owns both, a role and a domain, and rows of the application that refer to all of it
	value($node, $db, <<"SQL");
DELETE FROM public.of_organization;
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('$organization', 'Theirs', 'theirs') ON CONFLICT (id) DO UPDATE SET name = 'Theirs', slug = 'theirs';
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES ('$child_organization', 'Below', 'below', '$organization') ON CONFLICT DO NOTHING;
INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
SELECT o.id, '@{[ user_id('a', 2) ]}', '00000000-0000-4000-8000-00000000000a' FROM invite_sync.organization o WHERE o.id IN ('$organization', '$child_organization') ON CONFLICT DO NOTHING;
INSERT INTO invite_sync.role (organization_id, name) VALUES ('$organization', 'writer') ON CONFLICT DO NOTHING;
INSERT INTO invite_sync.permission (name) VALUES ('of.theirs') ON CONFLICT DO NOTHING;
INSERT INTO invite_sync.role_permission (role_id, permission) SELECT r.id, 'of.theirs' FROM invite_sync.role r WHERE r.name = 'writer' ON CONFLICT DO NOTHING;
DELETE FROM invite_sync.membership WHERE organization_id = '$organization' AND user_id = '$newcomer';
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$organization', '$member', '00000000-0000-4000-8000-00000000000c')
ON CONFLICT (user_id, organization_id) DO NOTHING;
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000a' WHERE organization_id = '$organization' AND user_id = '@{[ user_id('a', 2) ]}';
UPDATE invite_sync.membership SET role_id = '00000000-0000-4000-8000-00000000000c' WHERE organization_id = '$organization' AND user_id = '$member';
DELETE FROM invite_sync.invitation_grant;
DELETE FROM invite_sync.invitation;
INSERT INTO invite_sync.invitation (id, kind, email, expires_at) VALUES ('$invitation', 'email', 'pending\@invited.example', now() + interval '1 day');
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at)
SELECT i.id, '$organization', r.id, i.created_at FROM invite_sync.invitation i, invite_sync.role r WHERE i.id = '$invitation' AND r.name = 'writer';
INSERT INTO invite_sync.invitation (id, kind, status, email, expires_at, closed_at) VALUES (gen_random_uuid(), 'email', 'revoked', 'gone\@invited.example', now(), now() - interval '1 day');
DELETE FROM invite_sync.join_request;
INSERT INTO invite_sync.join_request (id, organization_id, user_id) VALUES ('$join_request', '$organization', '$newcomer');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge) VALUES ('$organization', 'claimed.example', 'proof') ON CONFLICT DO NOTHING;
DELETE FROM auth.users WHERE email IN ('invited\@new.example', 'made\@new.example', 'imported\@new.example');
DELETE FROM invite_sync.external_user;
INSERT INTO invite_sync.external_user (id, provider, external_id, user_id, invitation_id) VALUES ('$migration', 'clerk', 'user_a6', '$unmigrated', '$migration');
INSERT INTO invite_sync.invitation (id, purpose, email, secret_digest, proves_email, alone, expires_at)
SELECT '$migration', 'migration', u.email, sha256(decode(repeat('00', 32), 'hex')), true, true, now() + '1 day' FROM auth.users u WHERE u.id = '$unmigrated';
DELETE FROM invite_sync.invitation WHERE id = '$offer';
DELETE FROM invite_sync.invitation_grant WHERE invitation_id = '$offer';
INSERT INTO invite_sync.invitation (id, email, secret_digest, proves_email, expires_at, data)
VALUES ('$offer', 'invited\@new.example', sha256(decode(repeat('00', 32), 'hex')), true, now() + '1 day', '{"full_name": "Somebody"}');
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at) VALUES ('$offer', '$organization', '00000000-0000-4000-8000-00000000000c', now());
INSERT INTO public.of_organization VALUES ('$organization'), ('$child_organization');
INSERT INTO public.of_organization (also) VALUES ('$organization');
INSERT INTO public.of_organization (slug) VALUES ('theirs');
INSERT INTO public.of_organization (membership) SELECT id FROM invite_sync.membership WHERE organization_id IN ('$organization', '$child_organization');
INSERT INTO public.of_organization (role) SELECT id FROM invite_sync.role WHERE organization_id = '$organization';
INSERT INTO public.of_organization (domain) SELECT id FROM invite_sync.organization_domain WHERE organization_id = '$organization';
SQL
	return;
}

# so that there is an alert to be acknowledged
make_work();
value($node, $db, q{SELECT invite_sync.set_alert('missing', 0); SELECT invite_sync.check_alerts()});
# and drift to be approved
value($node, $db, q{SELECT invite_sync.approve_snapshot((SELECT id FROM invite_sync.import_snapshot('{"format": 1, "schemas": ["public"], "objects": {}}'))); SELECT invite_sync.check_drift()});
# pg_cron is not there, and a superuser without claims is no user
my %fails = (schedule_retry => '0A000', schedule_drift_check => '0A000', map { $_ => 'PT401' } qw(my_organizations leave_organization request_to_join cancel_join_request suggested_organizations
	bind_invitation accept_invitation accept_my_invitation my_invitations decline_my_invitation my_quota check_migration));

my %heard = (postgres => 0, supabase_auth_admin => 0);
for my $path ('', 'SET search_path = evil, pg_catalog, public;')
{
	my $how = $path ? ' under a hostile search_path' : '';
	for my $name (@calls)
	{
		# tables that are made belong to the caller, and what is done with them is the caller's doing
		next if $name eq 'act_as';
		value($node, $db, 'DROP SCHEMA extra CASCADE; CREATE SCHEMA extra AUTHORIZATION postgres') if $name eq 'create_standard_tables';
		make_work();
		reset_notes();
		my $result = run_as($node, $db, 'supabase_admin', "$path $call{$name}");
		is($result->{sqlstate}, $fails{$name} || '00000', "$name() called by the superuser who installed the extension$how")
		  or diag($result->{stderr});
		is(notes('superuser'), 0, "$name() runs nobody's code as that superuser$how");
		is(notes('other'), 0, "$name() runs nobody's code as anybody else$how");
		is(notes('invite_sync_owner'), 0, "$name() runs nobody's code as invite_sync_owner$how");
		$heard{$_} += notes($_) for keys %heard;
		run_as($node, $db, 'supabase_admin', 'SELECT invite_sync.attach()') if $name eq 'detach';
	}
}

# A guarded trigger that failed is done again as the owner of auth.users, whoever calls for it.
value($node, $db, q{SELECT invite_sync.guard_trigger('their_own')});
as_role($node, $db, 'postgres', 'UPDATE audit.broken SET now = true');
as_role($node, $db, 'supabase_auth_admin', signup('c', 1, 'c1@example.com'));
is(value($node, $db, q{SELECT trigger_name || ' ' || sqlstate || ' ' || replayable FROM invite_sync.quarantine WHERE user_id = '} . user_id('c', 1) . q{'}),
	'their_own 22012 true', 'a guarded trigger that fails is in quarantine');
as_role($node, $db, 'postgres', 'UPDATE audit.broken SET now = false');
reset_notes();
is(value($node, $db, q{SELECT (invite_sync.retry_quarantine(due_only => false)).failed}), 0, 'and is done again');
is(notes('superuser'), 0, 'not as the superuser who calls for it');
cmp_ok(notes('supabase_auth_admin'), '>', 0, 'but as the owner of auth.users');
value($node, $db, q{SELECT invite_sync.unguard_trigger('their_own')});

cmp_ok($heard{$_}, '>', 100, "code of others was run as $_, who put it there ($heard{$_} times)") for sort keys %heard;

# What the superuser does to auth.users itself is its own doing there; to targets it is not.
value($node, $db, 'DROP TRIGGER their_own ON auth.users; DROP TRIGGER note_before ON auth.users; DROP TRIGGER note_statement ON auth.users; ALTER TABLE auth.users NO FORCE ROW LEVEL SECURITY; DROP POLICY everybody ON auth.users');
as_role($node, $db, 'postgres', <<'SQL');
CALL invite_sync.sync_all();
INSERT INTO public.child (of, also) SELECT user_id, user_id FROM public.exposed;
SQL
for my $statement (
	[ 'a signup', signup('d', 1, 'd1@example.com', bare => 1) =~ s/"users"/auth.users/r ],
	[ 'a bulk signup', bulk_signup_sql('d', 2, 9) ],
	[ 'a change', q{UPDATE auth.users SET email = 'changed-' || email WHERE id::text LIKE 'd%'} ],
	[ 'a deletion', q{DELETE FROM auth.users WHERE id::text LIKE 'd%' OR id::text LIKE 'a000000a%'} ])
{
	my ($what, $sql) = @$statement;
	reset_notes();
	my $result = run_as($node, $db, 'supabase_admin', $sql);
	ok($result->{ok} && !@{ $result->{warnings} }, "$what by the superuser") or diag($result->{stderr});
	is(notes('superuser'), 0, "$what by the superuser runs nobody's code on a target as the superuser");
	cmp_ok(notes('postgres'), '>', 0, "$what by the superuser runs it as the target's owner");
}
is(value($node, $db, q{SELECT count(*) FROM public.child WHERE also IS NULL}), 0, 'and the rows of the child table went with theirs');
value($node, $db, q{DROP SCHEMA evil CASCADE});

# ---------------------------------------------------------------------------
# Settings that weaken a rule: nobody without the right turns them off, however early

my @weaken = (
	[ 'SET', q{SET invite_sync.enabled = off;}, undef ],
	[ 'set_config', q{SELECT set_config('invite_sync.enabled', 'off', false);}, undef ],
	[ 'SET SESSION with lock_timeout', q{SET invite_sync.lock_timeout = '1ms';}, undef ],
	[ 'PGOPTIONS', '', '-c invite_sync.enabled=off' ]);
my $n = 100;
for my $case (@weaken)
{
	my ($what, $sql, $options) = @$case;
	$n++;
	# the library is not loaded in a fresh connection, and any name may be set
	my $session = session($node, $db, 'supabase_auth_admin', options => $options);
	my $set = $session->query($sql || 'SELECT 1');
	ok($set->{ok}, "$what before the library is loaded: only a placeholder is set") or diag($set->{stderr});
	ok($session->query(signup('e', $n, "e$n\@example.com"))->{ok}, "$what before the library is loaded: a signup succeeds");
	is(value($node, $db, "SELECT count(*) FROM public.exposed WHERE user_id = '" . user_id('e', $n) . "'"), 1, "$what before the library is loaded: and is synced");
	is($session->must('SHOW invite_sync.enabled'), 'on', "$what before the library is loaded: the setting is on");
	is($session->must('SHOW invite_sync.lock_timeout'), '1s', "$what before the library is loaded: and the bound is as it was");
	is($session->query('SET invite_sync.enabled = off')->{sqlstate}, '42501', "$what: once it is loaded it is refused");
	$session->close;
}
for my $role (qw(supabase_auth_admin bystander))
{
	is(run_as($node, $db, $role, "ALTER ROLE $role SET invite_sync.enabled = off")->{sqlstate}, '42501', "$role cannot set it for its own connections");
	is(run_as($node, $db, $role, "SET invite_sync.enabled = off; ALTER ROLE $role SET invite_sync.enabled FROM CURRENT")->{sqlstate}, '42501', 'nor from a placeholder');
}
my @settings = @{ found(q{SELECT name FROM invite_sync.is_operator(), pg_settings WHERE name LIKE 'invite\_sync.%' AND name NOT IN ('invite_sync.probing', 'invite_sync.ddl_watched') ORDER BY 1}) };
is(scalar @settings, 19, 'there are settings');
my $loaded = "SELECT invite_sync.is_operator();";
for my $setting (qw(invite_sync.probing invite_sync.ddl_watched))
{
	is(value($node, $db, "$loaded SELECT context FROM pg_settings WHERE name = '$setting'"), "t\ninternal", "$setting is for nobody");
	is(run_as($node, $db, $_, "$loaded SET $setting = on")->{sqlstate}, '55P02', "not for $_")
	  for qw(supabase_admin postgres service_role);
}
for my $setting (@settings)
{
	is(value($node, $db, "$loaded SELECT context FROM pg_settings WHERE name = '$setting'"), "t\nsuperuser", "$setting is for superusers");
	# what it is already
	my $value = "'" . value($node, $db, "SET client_min_messages = error; $loaded SHOW $setting") =~ s/^t\n//r . "'";
	is(run_as($node, $db, 'postgres', "$loaded SET $setting = $value")->{sqlstate}, '00000', "and operators: $setting");
	is(run_as($node, $db, 'service_role', "$loaded SET $setting = $value")->{sqlstate}, '42501', "but not service_role: $setting");
}
none('every setting of ours is for superusers', q{SELECT name FROM pg_settings WHERE name LIKE 'invite_sync.%' AND context NOT IN ('superuser', 'sighup', 'postmaster')});
is(run_as($node, $db, 'supabase_admin', "$loaded SET invite_sync.no_such_setting = 1")->{ok}, 0, 'a misspelled setting is an error');

# ---------------------------------------------------------------------------
# Who asks

value($node, $db, <<'SQL');
CREATE FUNCTION public.as_definer(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE answer text;
BEGIN
	IF statement LIKE 'CALL%' THEN EXECUTE statement; ELSE EXECUTE statement INTO answer; END IF;
	RETURN CASE answer WHEN 'true' THEN 't' WHEN 'false' THEN 'f' ELSE answer END;
END $$;
GRANT EXECUTE ON FUNCTION public.as_definer(text) TO PUBLIC;
CREATE ROLE watcher;
CREATE ROLE ops LOGIN IN ROLE watcher;
CREATE ROLE ops_held_back LOGIN NOINHERIT IN ROLE watcher;
SELECT invite_sync.grant_operator('watcher');
SQL

my $sub = qq{"sub": "$someone"};
my $user_claims = qq({$sub, "role": "authenticated"});
my $service_claims = q({"role": "service_role"});
my $deep = '[' x 20000;
my $half_deep = '{"role": "service_role", "x": ' . ('[' x 70) . (']' x 70) . '}';
# role, claims, is_operator() and sync_status() through a definer that a superuser owns
my @matrix = (
	# no claims: the role decides
	[ 'supabase_admin', undef, 't', 'yes' ], [ 'postgres', undef, 't', 'yes' ], [ 'ops', undef, 't', 'yes' ], [ 'watcher', undef, 't', 'yes' ],
	[ 'ops_held_back', undef, 'f', 'no' ], [ 'service_role', undef, 'f', 'yes' ], [ 'authenticated', undef, 'f', 'no' ],
	[ 'anon', undef, 'f', 'no' ], [ 'bystander', undef, 'f', 'no' ], [ 'supabase_auth_admin', undef, 'f', 'no' ], [ 'authenticator', undef, 'f', 'no' ],
	(map { [ $_, '', 't', 'yes' ] } qw(supabase_admin postgres)),
	# claims that say service_role change nothing, for nobody
	(map { [ $_, $service_claims, 't', 'yes' ] } qw(supabase_admin postgres ops)),
	[ 'service_role', $service_claims, 'f', 'yes' ],
	(map { [ $_, $service_claims, 'f', 'no' ] } qw(authenticated anon bystander supabase_auth_admin ops_held_back)),
	(map { [ $_, qq({$sub, "role": "service_role"}), 'f', 'no' ] } qw(authenticated anon bystander)),
	# all other claims lower
	(map { my $role = $_; map { [ $role, $_, 'f', 'no' ] }
		  $user_claims, '{"role": "anon"}', qq({$sub}), '{}', '{"role": "postgres"}', '{"role": "supabase_admin"}', '{"role": ""}', '{"role": null}', '{"role": "SERVICE_ROLE"}' }
		  qw(supabase_admin postgres service_role ops)),
	# what cannot be understood is nobody
	(map { my $role = $_; map { [ $role, $_, 'f', 'no' ] }
		  '{', '}', '[]', 'null', 'true', '1', '"service_role"', 'service_role', ' ', '{"role": "service_role"', '{"role": "service_role"} x', '{"role": "service_role"}{}',
		  '[{"role": "service_role"}]', '{"x": {"role": "service_role"}}', '{"role": ["service_role"]}', '{"role": {"role": "service_role"}}',
		  '{"role": "service_role\u0000"}', '{"role": "service_role\u0000x"}', '{"role": "\ud800"}', '{"role": "service_role", "x": "\ud800"}', '{"role": "service_role",}',
		  "{'role': 'service_role'}", '{"role": "service_role", "role": "authenticated"}', '{"role": "service_rolex"}', '{"role": "service_role' . ('x' x 200) . '"}',
		  $deep, qq({"role": "service_role", "x": $deep}), '{"a":' x 5000, $half_deep }
		  qw(supabase_admin service_role authenticated)));
my %label = ($deep => '20,000 brackets', qq({"role": "service_role", "x": $deep}) => 'service_role and 20,000 brackets', ('{"a":' x 5000) => '5,000 objects', $half_deep => 'service_role and 70 brackets');
my %session;
for my $case (@matrix)
{
	my ($role, $claims, $operator, $service) = @$case;
	my $login = $role eq 'watcher' ? 'supabase_admin' : $role;
	my $asked = "$role, " . (defined $claims ? 'claims ' . ($label{$claims} || (length $claims > 80 ? substr($claims, 0, 80) . '...' : $claims)) : 'no claims');
	my $session = $session{$role} ||= session($node, $db, $login);
	$session->must('SET ROLE watcher') if $role eq 'watcher';
	(my $literal = defined $claims ? $claims : '') =~ s/'/''/g;
	my $set = $session->query(defined $claims ? "SELECT set_config('request.jwt.claims', '$literal', false) IS NULL" : 'RESET request.jwt.claims');
	die "$asked: $set->{message}" unless $set->{ok};

	my $is_operator = $session->query(q{SELECT public.as_definer('SELECT invite_sync.is_operator()')});
	is($is_operator->{ok} ? $is_operator->{out} : "$is_operator->{sqlstate} $is_operator->{message}", $operator, "is_operator(): $asked");
	my $status = $session->query(q{SELECT public.as_definer('SELECT count(*) FROM invite_sync.sync_status()')});
	is($status->{ok} ? 'yes' : $status->{sqlstate} eq 'PT403' ? 'no' : "$status->{sqlstate} $status->{message}", $service, "sync_status(): $asked");
	# called directly there are the rights on the function as well
	my $direct = $session->query('SELECT count(*) FROM invite_sync.sync_status()');
	is($direct->{ok} ? 'yes' : $direct->{sqlstate} =~ /^(PT403|42501)$/ ? 'no' : "$direct->{sqlstate} $direct->{message}", $service, "sync_status() without a definer: $asked");
}
$_->close for values %session;
%session = ();

# The legacy setting of PostgREST
for my $role (qw(supabase_admin postgres service_role))
{
	my $result = run_as($node, $db, $role, "SET request.jwt.claim.sub = '$someone'; SELECT public.as_definer('SELECT invite_sync.is_operator()')");
	is($result->{out}, 'f', "is_operator(): $role with the legacy claim");
	is(run_as($node, $db, $role, "SET request.jwt.claim.sub = 'nonsense'; SELECT count(*) FROM invite_sync.sync_status()")->{sqlstate}, 'PT403', "sync_status(): $role with a legacy claim that is none");
}

# Claims from before the library was loaded count, and every change of them does.
{
	my $result = run_as($node, $db, 'service_role', "SET request.jwt.claims = '$user_claims'; SELECT count(*) FROM invite_sync.sync_status()");
	is($result->{sqlstate}, 'PT403', 'claims that were set before the library was loaded count');
	my $session = session($node, $db, 'postgres');
	my $ask = 'SELECT invite_sync.is_operator();';
	is($session->must(<<"SQL"), "t\nf\nt\nf\nt\nf\nt", 'claims follow savepoints, SET LOCAL, RESET and DISCARD');
$ask
SET request.jwt.claims = '$user_claims'; $ask
RESET request.jwt.claims; $ask
BEGIN; SET LOCAL request.jwt.claims = '$user_claims'; $ask
SAVEPOINT a; SET LOCAL request.jwt.claims = '$service_claims'; $ask
ROLLBACK TO a; $ask
COMMIT; $ask
SQL
	is($session->must("SET request.jwt.claims = '$user_claims'; DISCARD ALL; $ask"), 't', 'claims follow DISCARD ALL');
	is($session->must("SET ROLE service_role; $ask RESET ROLE; $ask SET ROLE authenticated; SELECT public.as_definer('SELECT invite_sync.is_operator()'); RESET ROLE; $ask"), "f\nt\nf\nt", 'and the role follows SET ROLE');
	$session->close;
}

# Another module that owns the settings cannot be tried without one; a placeholder can.
is(run_as($node, $db, 'service_role', "SET request.jwt.claims = '$user_claims'; SELECT public.as_definer('SELECT invite_sync.is_operator()'); SET request.jwt.claims = '$service_claims'; SELECT count(*) >= 0 FROM invite_sync.sync_status()")->{out},
	"f\nt", 'a placeholder becomes a setting of ours and is heard of again');

# ---------------------------------------------------------------------------
# Every function, through a definer that a superuser owns: who may not call it
# directly gets nothing by it, unless it is for everybody who can reach it.

my %harmless = map { $_ => 1 } qw(is_operator redact_payload target_name guarded_trigger_name log_event signup_with_invitation);
my %answers_all = map { /invite_sync\.(\w+)/ => 1 } @asked, @tokens;
my @for_users = grep { $_ ne 'log_event' && !$answers_all{$_} }
  @{ found(q{SELECT DISTINCT substring(object FROM 'invite_sync\.([a-z_]+)') FROM invite_sync.api_grants() WHERE audience = 'user' AND object LIKE 'FUNCTION %' ORDER BY 1}) };
$harmless{$_} = 1 for @for_users, keys %answers_all;
for my $case ([ 'anon', undef ], [ 'authenticated', $user_claims ], [ 'authenticated', qq({$sub, "role": "service_role"}) ],
	[ 'bystander', undef ], [ 'supabase_auth_admin', undef ], [ 'service_role', $user_claims ], [ 'postgres', $user_claims ])
{
	my ($role, $claims) = @$case;
	my $who = $role . ($claims ? " with claims $claims" : '');
	my $session = session($node, $db, $role);
	$session->must("SET request.jwt.claims = '$claims'") if $claims;
	for my $name (grep { !$harmless{$_} } @calls)
	{
		# the auth server may call its hooks
		next if $role eq 'supabase_auth_admin' && $name =~ /_hook$/;
		(my $literal = $call{$name} =~ s/^SET invite_sync\.\w+ = \S+; //r) =~ s/'/''/g;
		my $result = $session->query("SELECT public.as_definer('$literal')");
		like($result->{sqlstate}, qr/^(PT403|42501)$/, "$name() through a definer: $who") or diag($result->{ok} ? 'it succeeded' : $result->{stderr});
	}
	$session->close;
}
is(value($node, $db, q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND tgname ILIKE 'invite_sync%'}), 3, 'nobody detached anything');
is(value($node, $db, q{SELECT string_agg(role, ', ' ORDER BY role) FROM invite_sync.operator WHERE active}), 'postgres, watcher', 'nor made themselves an operator');

# What is for users is no more through a definer than without: nobody is nobody, and a user is that user whatever role asks for it.
make_work();
my %as_stranger = (map { $_ => '00000' } qw(create_organization check_invitation create_invitations my_invitations my_organizations list_permissions suggested_organizations my_quota check_migration require_migrated));
$as_stranger{$_} = 'PT403' for qw(accept_invitation decline_invitation);
for my $case ([ 'anon', undef, 'PT401' ], [ 'anon', $user_claims, 'PT401' ], [ 'bystander', undef, 'PT401' ], [ 'supabase_auth_admin', undef, 'PT401' ], [ 'authenticated', undef, 'PT401' ],
	[ 'authenticated', qq({$sub, "role": "service_role"}), 'PT401' ], (map { [ $_, $user_claims, undef ] } qw(authenticated bystander service_role postgres supabase_admin)))
{
	my ($role, $claims, $wanted) = @$case;
	my $who = $role . ($claims ? " with claims $claims" : '');
	my $session = session($node, $db, $role);
	$session->must("SET request.jwt.claims = '$claims'") if $claims;
	for my $name (@for_users)
	{
		(my $literal = $call{$name}) =~ s/'/''/g;
		my $result = $session->query("SELECT public.as_definer('$literal')");
		is($result->{sqlstate}, $wanted || $as_stranger{$name} || 'PT404', "$name() through a definer: $who, who is no member") or diag($result->{ok} ? 'it succeeded' : $result->{stderr});
	}
	$session->close;
}
is(value($node, $db, "SELECT count(*) FROM invite_sync.organization WHERE name = 'Made here' AND created_by = '$someone'"), 5, 'what a user makes so is theirs');
is(value($node, $db, "SELECT name FROM invite_sync.organization WHERE id = '$organization'"), 'Theirs', 'and nobody else\'s is touched');

# and the log only takes what is theirs
{
	my $result = run_as($node, $db, 'authenticated', qq{SET request.jwt.claims = '$user_claims'; SELECT invite_sync.log_event('mine', user_id => '} . user_id('a', 2) . q{')});
	my $actor = value($node, $db, q{SELECT coalesce(string_agg(actor_id::text, ', '), 'nobody') FROM invite_sync.event WHERE action = 'mine'});
	isnt($actor, user_id('a', 2), 'a user does not log as somebody else');
	is(run_as($node, $db, 'anon', q{SELECT invite_sync.log_event('anonymous')})->{sqlstate}, '42501', 'anon does not log at all');
}

# ---------------------------------------------------------------------------
# Tables: nobody but the superuser and the owner writes, or reads but for a dump

for my $role (qw(anon authenticated service_role supabase_auth_admin bystander ops))
{
	for my $table (@{ found(q{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1}) })
	{
		# without claims nobody, to whom the policies show nothing
		my $readable = $role eq 'authenticated' && $table =~ /^invite_sync\.(join_request|membership|organization|organization_domain|permission|platform_role|role|role_permission)$/;
		my $result = run_as($node, $db, $role, "SELECT * FROM $table");
		is($result->{sqlstate}, $readable ? '00000' : '42501', "$role does not read $table");
		is($result->{out}, '', "and sees nothing of $table");
	}
}
for my $table (@{ found(q{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1}) })
{
	is(run_as($node, $db, 'postgres', "DELETE FROM $table")->{sqlstate}, '42501', "postgres does not write $table");
	is(run_as($node, $db, 'postgres', "SELECT count(*) FROM $table")->{sqlstate}, '00000', "postgres reads $table for its dump");
}
for my $function (@{ found(q{SELECT proname FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND prorettype = 'trigger'::regtype ORDER BY 1}) })
{
	for my $role (qw(bystander postgres))
	{
		value($node, $db, "CREATE TABLE IF NOT EXISTS public.theirs_$role (id uuid); ALTER TABLE public.theirs_$role OWNER TO $role; GRANT ALL ON SCHEMA public TO $role");
		is(run_as($node, $db, $role, "CREATE TRIGGER t AFTER INSERT ON public.theirs_$role EXECUTE FUNCTION invite_sync.$function()")->{sqlstate},
			'42501', "$role puts $function() on no table of its own");
	}
}

# ---------------------------------------------------------------------------
# Operators

for my $role (qw(anon authenticated authenticator invite_sync_owner))
{
	is(run_as($node, $db, 'supabase_admin', "SELECT invite_sync.grant_operator('$role')")->{sqlstate}, '22023', "$role cannot be made an operator");
}
is(run_as($node, $db, 'supabase_admin', q{SELECT invite_sync.grant_operator('no_such_role')})->{sqlstate}, '42704', 'nor a role that is not there');
isnt(run_as($node, $db, 'supabase_admin', 'SELECT invite_sync.grant_operator(NULL)')->{sqlstate}, '00000', 'nor nobody');
is(run_as($node, $db, 'supabase_admin', 'SELECT invite_sync.grant_operator(4294967295::regrole)')->{sqlstate}, '42704', 'nor a number that is no role');
for my $role (qw(postgres ops service_role))
{
	is(run_as($node, $db, $role, qq{SELECT invite_sync.$_('bystander')})->{sqlstate}, '42501', "$role cannot call $_()") for qw(grant_operator revoke_operator grant_dump);
	is(run_as($node, $db, $role, 'SELECT invite_sync.grant_api()')->{sqlstate}, '42501', "$role cannot call grant_api()");
}

is(run_as($node, $db, 'bystander', q{SELECT invite_sync.is_operator()})->{sqlstate}, '42501', 'before grant_operator() a role may not even ask');
my $rights = q{SELECT o FROM (SELECT oid::regprocedure::text AS o FROM pg_proc WHERE pronamespace = 'invite_sync'::regnamespace AND has_function_privilege('%1$s', oid, 'EXECUTE')
	UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'invite_sync'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('%1$s', oid, 'SELECT')
	UNION ALL SELECT 'schema' WHERE has_schema_privilege('%1$s', 'invite_sync', 'USAGE')
	UNION ALL SELECT parname FROM pg_parameter_acl WHERE has_parameter_privilege('%1$s', parname, 'SET')) s ORDER BY 1};
my $rights_before = found(sprintf $rights, 'bystander');
is(value($node, $db, q{SELECT invite_sync.grant_operator('bystander')}), 't', 'grant_operator() is true for a new one');
is_deeply(found(sprintf $rights, 'bystander'), found(sprintf $rights, 'watcher'), 'it has what every operator has');
is(run_as($node, $db, 'bystander', 'SELECT invite_sync.is_operator()')->{out}, 't', 'is_operator()');
is(run_as($node, $db, 'bystander', 'CALL invite_sync.sync_all()')->{sqlstate}, '00000', 'may call sync_all()');
is(run_as($node, $db, 'bystander', q{CREATE TABLE public.its_own (id uuid PRIMARY KEY, email text); SELECT invite_sync.add_target('public.its_own'); SELECT invite_sync.drop_target('public.its_own')})->{sqlstate},
	'00000', 'may make a target of a table of its own');
is(run_as($node, $db, 'bystander', q{SELECT invite_sync.add_target('public.spare')})->{sqlstate}, '42501', 'and not of others\'');
is(run_as($node, $db, 'bystander', q{SELECT invite_sync.set_target('public.profiles', on_delete => 'delete')})->{sqlstate}, '42501', 'and change none of theirs');
is(run_as($node, $db, 'bystander', q{SELECT invite_sync.drop_target('public.profiles')})->{sqlstate}, '42501', 'or drop it');
is(run_as($node, $db, 'bystander', q{SET invite_sync.enabled = off})->{sqlstate}, '00000', 'may set a setting');
my $again = run_as($node, $db, 'supabase_admin', q{SELECT invite_sync.grant_operator('bystander')});
is($again->{out}, 'f', 'grant_operator() again is false');
like($again->{stderr}, qr/NOTICE/, 'and says so');

my $open = session($node, $db, 'bystander');
$open->must('SELECT invite_sync.is_operator()');
is(value($node, $db, q{SELECT invite_sync.revoke_operator('bystander')}), 't', 'revoke_operator() is true for one');
is_deeply(found(sprintf $rights, 'bystander'), $rights_before, 'it has what it had before');
is($open->query(q{SELECT public.as_definer('SELECT invite_sync.is_operator()')})->{out}, 'f', 'an open session hears of it at once');
is($open->query('SELECT count(*) FROM invite_sync.sync_status()')->{sqlstate}, '42501', 'and may call nothing');
$open->close;
$again = run_as($node, $db, 'supabase_admin', q{SELECT invite_sync.revoke_operator('bystander')});
is($again->{out}, 'f', 'revoke_operator() again is false');
is(run_as($node, $db, 'ops', 'SELECT invite_sync.is_operator()')->{out}, 't', 'a member of an operator is one');
value($node, $db, 'REVOKE watcher FROM ops');
is(run_as($node, $db, 'ops', 'SELECT invite_sync.is_operator()')->{sqlstate}, '42501', 'until it is no member any more');

# A superuser who was no operator by name is one, and grant_api() is the same again.
my $all = found($granted);
value($node, $db, 'SELECT invite_sync.grant_api()');
is_deeply(found($granted), $all, 'grant_api() again changes nothing');

# A role that is renamed is the same role.
value($node, $db, <<'SQL');
CREATE ROLE before_marriage LOGIN;
SELECT invite_sync.grant_operator('before_marriage');
ALTER ROLE before_marriage RENAME TO after_marriage;
SQL
is(run_as($node, $db, 'after_marriage', 'SELECT invite_sync.is_operator()')->{out}, 't', 'a renamed operator is one');
is(value($node, $db, q{SELECT invite_sync.grant_operator('after_marriage')}), 'f', 'and granted already');
is(value($node, $db, q{SELECT invite_sync.revoke_operator('after_marriage')}), 't', 'and can be revoked');
is_deeply(found(sprintf $rights, 'after_marriage'), $rights_before, 'and has nothing then');

# A role that is made anew is another role.
value($node, $db, <<'SQL');
CREATE ROLE passing LOGIN;
SELECT invite_sync.grant_operator('passing');
DROP OWNED BY passing;
DROP ROLE passing;
CREATE ROLE passing LOGIN;
SQL
is(run_as($node, $db, 'passing', q{SELECT public.as_definer('SELECT invite_sync.is_operator()')})->{out}, 'f', 'a role of the name of a dropped operator is none');

$node->stop;
done_testing();
