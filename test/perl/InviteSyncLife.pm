# What the tests of a cluster's life share (crash, dump and restore, standby,
# privileges, installation): bulk signups, the comparison of all targets with
# auth.users, and pictures of everything of ours in a database.
package InviteSyncLife;

use strict;
use warnings;

use Exporter 'import';
use InviteSyncTest qw(new_cluster session run_as signup_sql differences);
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(
  durable_cluster invitations_fit as_role value user_id bulk_signup_sql signup standard_targets in_use signups_and_events
  registered_targets organizations out_of_step wait_for wait_for_server contents dumped_contents catalog_picture
  draw_schema schema_drift
);

# As new_cluster, but what was committed survives a crash of the server.
sub durable_cluster
{
	my ($name, %params) = @_;
	my $conf = delete $params{conf} || '';

	# PostgreSQL::Test::Utils of 17 and 18 sets a handler that does nothing, so that the
	# end of one psql would interrupt the wait for another's answer.
	delete $SIG{CHLD};
	return new_cluster($name, %params,
		conf => "synchronous_commit = on\nfull_page_writes = on\n$conf");
}

# SQL in a fresh connection as a role; an error is the end of the test.
sub as_role
{
	my ($node, $dbname, $role, $sql) = @_;
	my $result = run_as($node, $dbname, $role, $sql);
	die "$role: $result->{sqlstate} $result->{message}\n$sql\n$result->{stderr}"
	  unless $result->{ok};
	return $result->{out};
}

# One value, read by the superuser.
sub value
{
	my ($node, $dbname, $sql) = @_;
	return as_role($node, $dbname, 'supabase_admin', $sql);
}

# Something of everything in the tables of organizations and memberships. Needs users a5 and a6.
sub organizations
{
	my ($node, $dbname) = @_;

	as_role($node, $dbname, 'postgres', <<'SQL');
CREATE TABLE public.tenant_data (organization_id uuid, content text);
CREATE INDEX ON public.tenant_data (organization_id);
SELECT invite_sync.protect_table('public.tenant_data', 'organization_id', write_permission => 'members.add') <> '';
SQL
	# Organizations: a tree whose children come first in the table, seats that are all taken, a role of their own somebody has.
	value($node, $dbname, sprintf <<'SQL', map { user_id('a', $_) } 5, 6, 6);
SELECT invite_sync.create_organization('Tab''s "quoted" \slash', 'top', settings => '{"note": "back\\slash, tab\t, and \"quotes\""}', owner_id => '%s');
SELECT invite_sync.create_organization('Left', parent_id => (SELECT id FROM invite_sync.organization WHERE slug = 'top'), owner_id => '%s');
SELECT invite_sync.create_organization('Below left', parent_id => (SELECT id FROM invite_sync.organization WHERE slug = 'left'));
UPDATE invite_sync.organization SET updated_at = updated_at WHERE slug = 'top';
SELECT invite_sync.set_organization_limits((SELECT id FROM invite_sync.organization WHERE slug = 'left'), 3, 'eu');
INSERT INTO invite_sync.permission (name, description) VALUES ('documents.write', 'write');
INSERT INTO invite_sync.role (name, organization_id) SELECT 'writer', id FROM invite_sync.organization WHERE slug = 'top';
INSERT INTO invite_sync.role_permission SELECT id, 'documents.write' FROM invite_sync.role WHERE name = 'writer';
INSERT INTO invite_sync.membership (organization_id, user_id, role_id)
SELECT o.id, '%s', r.id FROM invite_sync.organization o, invite_sync.role r WHERE o.slug = 'below-left' AND r.name = 'writer';
SELECT invite_sync.set_seats((SELECT id FROM invite_sync.organization WHERE slug = 'top'), 1, 1);
SELECT invite_sync.verify_domain(o.id, 'example.com', ARRAY[(invite_sync.add_domain(o.id, 'example.com')).record_value]), invite_sync.set_enrollment(o.id, 'example.com', 'auto')
FROM invite_sync.organization o WHERE slug = 'left';
INSERT INTO invite_sync.membership_removal (organization_id, user_id) SELECT id, gen_random_uuid() FROM invite_sync.organization;
INSERT INTO invite_sync.gone_user (user_id) VALUES (gen_random_uuid());
INSERT INTO invite_sync.known_address (user_id, digest) VALUES (gen_random_uuid(), sha256('ada@example.com')), (gen_random_uuid(), NULL);
INSERT INTO invite_sync.join_request (organization_id, user_id, message) SELECT id, gen_random_uuid(), E'tab\t' FROM invite_sync.organization;
INSERT INTO invite_sync.platform_role (user_id, role_id) SELECT gen_random_uuid(), id FROM invite_sync.role WHERE name = 'member';
SELECT invite_sync.create_invite_link(id, max_uses => 3, allowed_domain => 'example.com'), invite_sync.set_invitation_policy(id, '1 day 02:00') FROM invite_sync.organization WHERE slug = 'top';
SELECT invite_sync.create_invitation('o''brien+tag@x.example', platform_role => 'admin', data => '{"full_name": "back\\slash, tab\t, and \"quotes\""}', idempotency_key => E'key\t\\');
INSERT INTO invite_sync.invitation (id, kind, status, email, expires_at, closed_at, legacy_digest) VALUES (gen_random_uuid(), 'email', 'accepted', 'ada@x.example', now(), now(), sha256('old'));
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, open, created_at) SELECT i.id, o.id, r.id, false, i.created_at
FROM invite_sync.invitation i, invite_sync.organization o, invite_sync.role r WHERE i.status = 'accepted' AND r.name = 'writer' AND o.slug = 'top';
INSERT INTO invite_sync.invitation_acceptance (invitation_id, user_id) SELECT id, gen_random_uuid() FROM invite_sync.invitation WHERE status = 'accepted';
INSERT INTO invite_sync.user_invitation_quota (user_id, granted, used, default_given) VALUES (gen_random_uuid(), 5, 2, false), (gen_random_uuid(), 1, 3, true);
SELECT invite_sync.set_rate_limit('export', 3, '1 month'), invite_sync.set_rate_limit('invite', NULL);
INSERT INTO invite_sync.external_user (id, provider, external_id, email, user_id, user_since, migrated_at)
VALUES (gen_random_uuid(), 'clerk', E'user_\\tab\t', 'ada@x.example', gen_random_uuid(), '2020-02-03 04:05:06.789+00', '2026-01-01'), (gen_random_uuid(), 'auth0', 'invited_1', NULL, NULL, NULL, NULL);
SELECT invite_sync.set_migration_policy('enforce', '2031-02-03 04:05:06.789+00');
SELECT invite_sync.consume_rate_limit('export', key) FROM unnest(ARRAY['a', 'a', gen_random_uuid()::text]) AS key;
SELECT invite_sync.approve_snapshot((SELECT id FROM invite_sync.import_snapshot('{"format": 1, "schemas": ["public"], "objects": {"table": {"public.\"tab\t\"": {}}}}')));
SELECT invite_sync.check_drift();
SQL
	return;
}

# What a dump hands on with other words, or another major would have otherwise; then the number of a snapshot of everything.
sub draw_schema
{
	my ($node, $dbname) = @_;
	value($node, $dbname, <<'SQL');
CREATE SCHEMA drawn;
GRANT USAGE ON SCHEMA drawn TO anon;
CREATE TYPE drawn."json_value" AS ENUM ('a', 'b');
CREATE DOMAIN drawn.short AS varchar(9) CHECK (VALUE IN ('a', 'b'));
CREATE TABLE drawn.parent (id integer PRIMARY KEY, status varchar(9) DEFAULT 'new' CHECK (status IN ('new', 'old')), n numeric(5, 2) DEFAULT -1,
	kind drawn."json_value", CONSTRAINT between CHECK (n BETWEEN 1 AND 5 AND (n <> 2 OR n NOT BETWEEN 2 AND 3)),
	CONSTRAINT once EXCLUDE USING gist (int4range(id, id, '[]') WITH &&) WHERE (status NOT IN ('x', 'y')) DEFERRABLE);
CREATE TABLE drawn.child (more integer, status varchar(9) DEFAULT 'old') INHERITS (drawn.parent);
CREATE TABLE drawn.whole (id integer NOT NULL, region varchar(2) DEFAULT 'eu', PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE drawn.eu PARTITION OF drawn.whole FOR VALUES IN ('eu');
CREATE TABLE drawn.us PARTITION OF drawn.whole (region DEFAULT 'us') FOR VALUES IN ('us');
ALTER TABLE drawn.eu ALTER COLUMN region DROP DEFAULT;
GRANT SELECT (id) ON drawn.us TO anon WITH GRANT OPTION;
CREATE UNIQUE INDEX partial ON drawn.parent ((lower(status)) DESC) INCLUDE (n) WHERE n BETWEEN 1 AND 2 AND status IN ('new', 'old');
CREATE FUNCTION drawn.noticed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER noticed AFTER UPDATE ON drawn.parent FOR EACH ROW WHEN (new.status IN ('new', 'old') AND new.n BETWEEN 1 AND 2 AND new.n > 0) EXECUTE FUNCTION drawn.noticed('a b');
CREATE TRIGGER noticed AFTER INSERT ON drawn.whole FOR EACH ROW EXECUTE FUNCTION drawn.noticed();
ALTER TABLE drawn.us DISABLE TRIGGER noticed;
ALTER TABLE drawn.parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY partly ON drawn.parent TO anon USING (status IN ('new', 'old') AND id IN (SELECT w.id FROM drawn.whole w WHERE w.id BETWEEN 1 AND 2 AND w.region <> 'x'));
CREATE VIEW drawn.names AS SELECT status, xmlserialize(CONTENT xmlelement(NAME a) AS text) AS x FROM drawn.parent WHERE status IN ('new', 'old')
	UNION SELECT 'x', NULL EXCEPT SELECT region, region FROM drawn.whole;
ALTER VIEW drawn.names RENAME COLUMN x TO y;
CREATE FUNCTION drawn.counted(kind drawn."json_value") RETURNS bigint LANGUAGE sql
	BEGIN ATOMIC SELECT count(*) FROM drawn.parent p WHERE p.status IN ('new', 'old') AND p.n BETWEEN 1 AND 2 AND p.kind = kind; END;
CREATE TABLE drawn."x""; drop table y; --" (id serial PRIMARY KEY, "it's" text DEFAULT E'\\ '' "') WITH (fillfactor = 70);
CREATE RULE two AS ON INSERT TO drawn.us DO ALSO (UPDATE drawn.eu SET region = 'eu' WHERE eu.id = new.id AND new.region IN ('us', 'eu'); NOTIFY something);
ALTER DEFAULT PRIVILEGES IN SCHEMA drawn GRANT SELECT ON TABLES TO anon WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA drawn REVOKE ALL ON TABLES FROM anon;
SQL
	return value($node, $dbname, 'SELECT id FROM invite_sync.snapshot_schema()');
}

# What differs from that snapshot now; $but is a condition for what may.
sub schema_drift
{
	my ($node, $dbname, $snapshot, $but) = @_;
	return value($node, $dbname, "SELECT d.change, d.object_type, d.object, d.property, d.from_value, d.to_value FROM invite_sync.schema_diff($snapshot) AS d WHERE ($but) IS NOT TRUE");
}

# The id of user number n; different series of users have different letters.
sub user_id
{
	my ($letter, $n) = @_;
	return sprintf '%s%07x-0000-4000-8000-000000000000', $letter, $n;
}

# Users from..to of a series, signing up in one statement of the auth server.
sub bulk_signup_sql
{
	my ($letter, $from, $to) = @_;
	return <<"SQL";
INSERT INTO auth.users (id, instance_id, aud, role, email, encrypted_password, email_confirmed_at,
	raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
SELECT ('$letter' || lpad(to_hex(n), 7, '0') || '-0000-4000-8000-000000000000')::uuid,
	'00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated',
	'$letter' || n || '\@example.com', 'hash-that-nobody-may-see', now(),
	'{"provider": "email", "providers": ["email"], "role": "member"}',
	jsonb_build_object('full_name', '$letter ' || n, 'first_name', '$letter', 'last_name', n::text),
	now(), now()
FROM generate_series($from, $to) AS n
SQL
}

# profiles, users and user_profiles, made and registered by postgres.
sub standard_targets
{
	my ($node, $dbname) = @_;
	as_role($node, $dbname, 'postgres', <<'SQL');
SELECT invite_sync.create_standard_tables();
SELECT invite_sync.add_target('public.profiles');
SELECT invite_sync.add_target('public.users');
SELECT invite_sync.add_target('public.user_profiles');
SQL
	return;
}

# A database in use for some time: the standard targets and others, one with odd names, one that is not enabled (and
# 'public.gone' and 'public.first_name', for the tests to drop and rename); operators, one of them no longer; columns of
# auth.users behind a gap. more: SQL for further targets, before anybody signs up.
sub in_use
{
	my ($node, $dbname, $more) = @_;

	standard_targets($node, $dbname);
	as_role($node, $dbname, 'postgres', <<"SQL");
SELECT invite_sync.detach();
SELECT invite_sync.attach();
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."Odd "" Table" ("User Id" uuid PRIMARY KEY, "E-Mail" text, kept_name text, CHECK ("E-Mail" NOT LIKE 'bad%'));
SELECT invite_sync.add_target('"Odd Schema"."Odd "" Table"', '{"E-Mail": "email", "kept_name": {"value": "raw_user_meta_data->>''full_name''", "update": "never"}}', 'User Id', on_delete => 'delete');
CREATE TABLE public.gone (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.gone');
CREATE TABLE public.first_name (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.first_name');
CREATE TABLE public.asleep (id uuid PRIMARY KEY, email text);
SELECT invite_sync.add_target('public.asleep', enabled => false, on_error => 'raise');
SELECT invite_sync.set_target('public.asleep', search_path => 'pg_catalog, public, pg_temp');
$more
SQL
	value($node, $dbname, qq{
CREATE ROLE ops LOGIN; CREATE ROLE watcher; GRANT watcher TO ops;
SELECT invite_sync.grant_operator('watcher');
CREATE ROLE once_operator;
SELECT invite_sync.grant_operator('once_operator');
SELECT invite_sync.revoke_operator('once_operator');
ALTER DATABASE $dbname SET invite_sync.lock_timeout = '700ms';
ALTER TABLE auth.users ADD COLUMN in_the_middle text DEFAULT 'secret';
ALTER TABLE auth.users ADD COLUMN at_the_end text DEFAULT 'end';
ALTER TABLE auth.users DROP COLUMN in_the_middle});
	return;
}

# Users a1 to a300, and those of other signups (SQL of the auth server), in step; events, most of them sealed.
sub signups_and_events
{
	my ($node, $dbname, $signups) = @_;

	as_role($node, $dbname, 'supabase_auth_admin', bulk_signup_sql('a', 1, 300) . ";\n$signups");
	as_role($node, $dbname, 'postgres', <<'SQL');
CALL invite_sync.sync_all();
SELECT invite_sync.log_event('order.placed', 'order', '17', '{"note": "back\\slash, tab\t, and \"quotes\""}', 'a0000001-0000-4000-8000-000000000000');
SELECT count(*) FROM invite_sync.seal_events();
SELECT invite_sync.log_event('order.paid', kind => 'admin');
SQL
	return;
}

# One user of a series, as the auth server does it.
sub signup
{
	my ($letter, $n, $email, %params) = @_;
	return signup_sql(
		id => user_id($letter, $n),
		email => $email,
		columns => { raw_app_meta_data => '{"provider": "email", "providers": ["email"], "role": "member"}' },
		%params);
}

# Every enabled target: { target, key, mapping => { column => expression } },
# without the columns that only the first sync sets.
sub registered_targets
{
	my ($node, $dbname) = @_;
	my $rows = value($node, $dbname, <<'SQL');
SELECT t.target || chr(9) || t.key || chr(9) || coalesce(m.key, '') || chr(9) || coalesce(m.value->>'value', '')
FROM invite_sync.target_list t LEFT JOIN jsonb_each(t.mapping) m ON m.value->>'update' <> 'never'
WHERE t.enabled ORDER BY 1
SQL
	my (@targets, %seen);
	for my $row (split /\n/, $rows)
	{
		my ($target, $key, $column, $expression) = split /\t/, $row;
		push @targets, $seen{$target} = { target => $target, key => $key, mapping => {} }
		  unless $seen{$target};
		$seen{$target}{mapping}{$column} = $expression if $column ne '';
	}
	return @targets;
}

# What keeps the targets from being equal to auth.users, column by column: an
# empty string when nothing does. Of what is in quarantine only the user needs
# to be missing: pass quarantined => 1.
sub out_of_step
{
	my ($node, $dbname, %params) = @_;
	my $admin = session($node, $dbname, 'supabase_admin');
	my @found;
	my @targets = registered_targets($node, $dbname);

	push @found, 'there is no target' unless @targets;
	for my $target (@targets)
	{
		my $name = $target->{target};
		my $differences = differences($admin, %$target);
		push @found, "$name: $_" for split /\n/, $differences;

		my $twice = $admin->must(
			qq{SELECT count(*) - count(DISTINCT "$target->{key}") FROM $name});
		push @found, "$name: $twice rows too many" if $twice ne '0';
	}
	unless ($params{quarantined})
	{
		my $left = $admin->must('SELECT count(*) FROM invite_sync.quarantine_entry');
		push @found, "$left entries in quarantine" if $left ne '0';
		my $missing = $admin->must(
			q{SELECT string_agg(target || ': sync_status() counts ' || missing || ' missing', ', ')
			  FROM invite_sync.sync_status() WHERE missing <> 0});
		push @found, $missing if $missing ne '';
	}
	$admin->close;
	return join "\n", @found;
}

# Until the query says so, or the test ends.
sub wait_for
{
	my ($node, $dbname, $sql, $expected) = @_;
	$node->poll_query_until($dbname, $sql, $expected)
	  or die "timed out waiting for: $sql";
	return;
}

# Until a server that restarts by itself after a crash takes connections.
sub wait_for_server
{
	my ($node) = @_;
	my $deadline = time + 120;
	while (time < $deadline)
	{
		my $result = eval { run_as($node, 'template1', 'supabase_admin', 'SELECT pg_is_in_recovery()') };
		return if $result && $result->{ok};
		sleep 0.1;
	}
	die 'the server does not come back';
}

# ---------------------------------------------------------------------------
# Pictures

# Contents of every table and state of every sequence in our schema, whatever
# there is: name => text.
sub contents
{
	my ($node, $dbname) = @_;
	my $admin = session($node, $dbname, 'supabase_admin');
	my %contents;

	# as pg_dump does: names in full, times and numbers in one form
	$admin->must(q{SET search_path = ''; SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET timezone = 'UTC'});
	my $relations = $admin->must(<<'SQL');
SELECT concat(c.relkind, ' ', c.oid::regclass) FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind IN ('r', 'p', 'S') ORDER BY 1
SQL
	for my $relation (split /\n/, $relations)
	{
		my ($kind, $name) = split / /, $relation, 2;
		$contents{$name} = $admin->must(
			$kind eq 'S'
			? "SELECT last_value, is_called FROM $name"
			: "COPY (SELECT t FROM $name t ORDER BY t::text) TO STDOUT");
	}
	$admin->close;
	return \%contents;
}

# The same without what a dump leaves out on purpose.
sub dumped_contents
{
	my $contents = contents(@_);
	delete $contents->{'invite_sync.lineage'};
	return $contents;
}

# Definitions that must be the same after a restore: name => text.
sub catalog_picture
{
	my ($node, $dbname) = @_;
	my %sql = (
		'triggers on auth.users' => <<'SQL',
SELECT concat_ws(' ', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled, obj_description(t.oid, 'pg_trigger')) FROM pg_trigger t
WHERE t.tgrelid = 'auth.users'::regclass AND NOT t.tgisinternal ORDER BY t.tgname
SQL
		'triggers of ours' => <<'SQL',
SELECT concat_ws(' ', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled, obj_description(t.oid, 'pg_trigger')) FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'invite_sync'::regnamespace AND NOT t.tgisinternal ORDER BY 1
SQL
		'functions' => <<'SQL',
SELECT concat_ws(' ', p.oid::regprocedure, p.prokind, p.provolatile, p.proparallel, p.prosecdef, pg_get_userbyid(p.proowner), p.proconfig,
	coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(p.proacl) a), 'default'), obj_description(p.oid, 'pg_proc'))
FROM pg_proc p WHERE p.pronamespace = 'invite_sync'::regnamespace ORDER BY 1
SQL
		'relations' => <<'SQL',
SELECT concat_ws(' ', c.oid::regclass, c.relkind, pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
	coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(c.relacl) a), 'default'), obj_description(c.oid, 'pg_class'))
FROM pg_class c WHERE c.relnamespace = 'invite_sync'::regnamespace ORDER BY 1
SQL
		'columns' => <<'SQL',
SELECT concat_ws(' ', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attacl,
	pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'invite_sync'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'c', 'S') ORDER BY 1
SQL
		'constraints' => <<'SQL',
SELECT concat_ws(' ', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) FROM pg_constraint c
WHERE c.connamespace = 'invite_sync'::regnamespace ORDER BY 1
SQL
		'types' => <<'SQL',
SELECT concat_ws(' ', t.oid::regtype, pg_get_userbyid(t.typowner), coalesce(t.typacl::text, 'default')) FROM pg_type t
WHERE t.typnamespace = 'invite_sync'::regnamespace ORDER BY 1
SQL
		'schema' => <<'SQL',
SELECT concat_ws(' ', n.nspname, pg_get_userbyid(n.nspowner),
	coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(n.nspacl) a), 'default'), obj_description(n.oid, 'pg_namespace'))
FROM pg_namespace n WHERE n.nspname = 'invite_sync'
SQL
		'policies' => <<'SQL',
SELECT p.* FROM pg_policies p WHERE p.schemaname = 'invite_sync' ORDER BY p.tablename, p.policyname
SQL
		'extension' => <<'SQL',
SELECT concat_ws(' ', e.extname, e.extversion, e.extnamespace::regnamespace,
	(SELECT string_agg(d.name, ', ' ORDER BY d.name) FROM
		(SELECT pg_describe_object(classid, objid, objsubid) AS name FROM pg_depend
		 WHERE refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND deptype = 'e') d),
	'dumped:', (SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text) FROM pg_class c WHERE c.oid = ANY (e.extconfig)))
FROM pg_extension e WHERE e.extname = 'invite_sync'
SQL
		'role' => <<'SQL',
SELECT concat_ws(' ', r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls,
	shobj_description(r.oid, 'pg_authid'))
FROM pg_roles r WHERE r.rolname = 'invite_sync_owner'
SQL
		'settings' => <<'SQL',
SELECT concat_ws(' ', p.parname, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(p.paracl) a)) FROM pg_parameter_acl p ORDER BY 1
SQL
	);
	my %picture;
	for my $name (keys %sql)
	{
		$picture{$name} = value($node, $dbname, "SET search_path = pg_catalog; $sql{$name}");
	}
	return \%picture;
}

# What is so of invitations whatever was done to them: [what, a query that finds where it is not].
sub invitations_fit
{
	return (
		[ 'nobody has accepted more often than it was used', q{
SELECT i.id, i.uses FROM invite_sync.invitation AS i WHERE i.uses < (SELECT count(*) FROM invite_sync.invitation_acceptance AS a WHERE a.invitation_id = i.id)} ],
		[ 'nor more often than it may be used, and what is used up is accepted', q{
SELECT i.id, i.kind, i.status, i.uses, i.max_uses FROM invite_sync.invitation AS i
WHERE i.uses > CASE i.kind WHEN 'email' THEN 1 ELSE coalesce(i.max_uses, 1000000) END OR (i.status = 'accepted') <> (i.uses = CASE i.kind WHEN 'email' THEN 1 ELSE i.max_uses END)
	AND NOT (i.status = 'accepted' AND i.kind = 'email' AND i.uses = 0)} ],
		[ 'members and invitations fit into the seats', q{
SELECT o.slug, o.seat_limit, o.bonus_seats, invite_sync.seats_used(o.id), invite_sync.seats_pending(o.id) FROM invite_sync.organization AS o
WHERE invite_sync.seats_used(o.id) + invite_sync.seats_pending(o.id) > o.seat_limit + o.bonus_seats} ],
		[ 'what is used of a quota are invitations that count', q{
SELECT q.user_id, q.granted, q.used, count(i.id) FROM invite_sync.user_invitation_quota AS q LEFT JOIN invite_sync.invitation AS i ON i.inviter_id = q.user_id AND i.charged
GROUP BY 1, 2, 3 HAVING q.used <> count(i.id) OR q.used > q.granted} ],
		[ 'an address has one invitation to an organization', q{
SELECT i.email, g.organization_id, array_agg(i.id) FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.open
WHERE i.kind = 'email' AND i.status = 'pending' AND i.expires_at > now() AND NOT i.shadow GROUP BY 1, 2 HAVING count(*) > 1} ],
		[ 'what has ended gives nothing', q{
SELECT i.id, i.status FROM invite_sync.invitation AS i JOIN invite_sync.invitation_grant AS g ON g.invitation_id = i.id AND g.open WHERE i.status <> 'pending'} ],
		[ 'and what is pending gives something', q{
SELECT i.id, i.kind, i.email FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND i.expires_at > now() AND NOT i.alone AND i.platform_role_id IS NULL
	AND NOT EXISTS (SELECT FROM invite_sync.invitation_grant AS g WHERE g.invitation_id = i.id AND g.open)} ],
		[ 'nothing belongs to an organization that is gone', q{
SELECT g.invitation_id, g.organization_id FROM invite_sync.invitation_grant AS g WHERE g.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)
UNION ALL SELECT m.id, m.organization_id FROM invite_sync.membership AS m WHERE m.organization_id NOT IN (SELECT o.id FROM invite_sync.organization AS o)} ],
		[ 'nor to a user who is', q{
SELECT x.what, x.user_id FROM (SELECT 'acceptance' AS what, a.user_id FROM invite_sync.invitation_acceptance AS a UNION SELECT 'membership', m.user_id FROM invite_sync.membership AS m
	UNION SELECT 'quota', q.user_id FROM invite_sync.user_invitation_quota AS q
	UNION SELECT 'inviter', i.inviter_id FROM invite_sync.invitation AS i WHERE i.status = 'pending' AND i.expires_at > now() AND i.inviter_id IS NOT NULL) AS x
LEFT JOIN auth.users AS u ON u.id = x.user_id AND u.deleted_at IS NULL WHERE u.id IS NULL} ],
		[ 'verify() finds no error', q{
SELECT area, object, finding FROM invite_sync.verify() WHERE severity = 'error'} ]);
}

1;
