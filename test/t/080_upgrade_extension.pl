# ALTER EXTENSION UPDATE makes of an older version exactly what CREATE EXTENSION
# makes, and touches nothing that is the user's. Every released version is tried
# (sql/upgrade/README.md); and, because a comparison that cannot fail proves
# nothing, a made-up next version whose script lacks one thing after the other.
# Then: library and SQL objects of different versions.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Path qw(make_path);
use InviteSyncGuarded qw(application_triggers guard_all trigger_picture heard);
use InviteSyncInstall qw(copy_installation put_file default_version extension_picture extension_rows different);
use InviteSyncLife qw(durable_cluster as_role value user_id bulk_signup_sql signup standard_targets out_of_step);
use InviteSyncTest qw(prepare_database new_database session run_as slurp change_email_sql delete_user_sql);
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $upgrade = "$root/sql/upgrade";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $install = copy_installation("$dir/installation");
my $extension = $install->{extension};
my $current = default_version($install);
my $script = slurp("$extension/invite_sync--$current.sql");

# ---------------------------------------------------------------------------
# What was released, and that it was not edited since

my %released = map { m{--([^/]*)\.sql$} ? ($1 => slurp($_)) : () } grep { !/--.*--/ } glob("$upgrade/invite_sync--*.sql");

# Only where there are git and a repository: not in a source archive.
my @git = ('git', '-c', 'safe.directory=*', '-C', $root);
my ($tags, $log) = ('', '');
eval { IPC::Run::run([ @git, 'tag', '--list', 'v*' ], '>', \$tags, '2>', \$log) } or $tags = '';
for my $tag (split /\n/, $tags)
{
	(my $version = $tag) =~ s/^v//;
	my $tree = "$dir/$tag";
	make_path($tree);
	IPC::Run::run([ @git, 'archive', $tag ], '|', [ 'tar', '-x', '-C', $tree ]) or die "could not unpack $tag";
	IPC::Run::run([ 'make', '-C', $tree, 'PG_CONFIG=' . ($ENV{PG_CONFIG} || 'pg_config'), "invite_sync--$version.sql" ], '>&', \$log) or die $log;
	my $made = slurp("$tree/invite_sync--$version.sql");
	ok(exists $released{$version}, "$tag: its install script is frozen in sql/upgrade");
	is($released{$version}, $made, "$tag: as it was") if exists $released{$version};
	$released{$version} = $made;
	for my $file (grep { /--.*--/ } glob("$tree/sql/upgrade/*.sql"))
	{
		my ($name) = $file =~ m{([^/]*)$};
		is(-e "$upgrade/$name" ? slurp("$upgrade/$name") : undef, slurp($file), "$tag: $name was not edited since");
	}
}
is($script, $released{$current}, "$current is released: its install script was not edited since") if exists $released{$current};
put_file("$extension/invite_sync--$_.sql", $released{$_}) for grep { $_ ne $current } keys %released;

# ---------------------------------------------------------------------------
# A made-up next version: new objects of all kinds, and changed ones

my $next = "${current}next";

# The text of a function in a script, as CREATE OR REPLACE.
sub function_text
{
	my ($text, $name) = @_;
	my ($function) = $text =~ /^(CREATE FUNCTION invite_sync\.$name\(.*?\$\$;\n)/ms or die "no function $name in the script";
	$function =~ s/^CREATE FUNCTION/CREATE OR REPLACE FUNCTION/;
	return $function;
}

# Each by the kind of picture in which its absence shows.
my @new = (
	[ undef, q{CREATE TABLE invite_sync.upgrade_note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL, at timestamptz NOT NULL DEFAULT pg_catalog.now());} ],
	[ 'constraints', q{ALTER TABLE invite_sync.upgrade_note ADD CONSTRAINT upgrade_note_note CHECK (note OPERATOR(pg_catalog.<>) '');} ],
	[ 'relations', q{COMMENT ON TABLE invite_sync.upgrade_note IS 'Notes. No personal columns.';} ],
	[ 'columns', q{COMMENT ON COLUMN invite_sync.upgrade_note.note IS 'the note';} ],
	[ 'relations', q{COMMENT ON SEQUENCE invite_sync.upgrade_note_id_seq IS 'ids of notes';} ],
	[ 'indexes', q{CREATE INDEX upgrade_note_at ON invite_sync.upgrade_note (at);} ],
	[ 'relations', q{ALTER TABLE invite_sync.upgrade_note ENABLE ROW LEVEL SECURITY;} ],
	[ 'policies', q{CREATE POLICY everybody ON invite_sync.upgrade_note FOR SELECT USING (true);} ],
	[ 'dumped tables', q{SELECT pg_catalog.pg_extension_config_dump('invite_sync.upgrade_note', '');} ],
	[ 'dumped tables', q{SELECT pg_catalog.pg_extension_config_dump('invite_sync.upgrade_note_id_seq', '');} ],
	[ 'triggers', q{CREATE TRIGGER registry_changed AFTER INSERT ON invite_sync.upgrade_note FOR EACH STATEMENT EXECUTE FUNCTION invite_sync.sync_registry_changed();} ],
	[ 'rows of upgrade_note', q{INSERT INTO invite_sync.upgrade_note (note) VALUES ('shipped');} ],
	[ undef, q{CREATE FUNCTION invite_sync.upgrade_noted(note text) RETURNS boolean LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'caller_is_operator';} ],
	[ 'functions', q{COMMENT ON FUNCTION invite_sync.upgrade_noted(text) IS 'Is there such a note? service_role, operators.';} ],
	[ undef, q{CREATE VIEW invite_sync.upgrade_notes WITH (security_barrier = true) AS SELECT n.id, n.note FROM invite_sync.upgrade_note AS n;} ],
	[ 'relations', q{COMMENT ON VIEW invite_sync.upgrade_notes IS 'The notes. For service_role and operators.';} ],
	[ undef, q{CREATE TYPE invite_sync.upgrade_pair AS (one text, two integer);} ],
	[ 'types', q{COMMENT ON TYPE invite_sync.upgrade_pair IS 'A pair.';} ],
	# tables of before
	[ 'columns', q{ALTER TABLE invite_sync.sync_run ADD COLUMN upgrade_runs bigint NOT NULL DEFAULT 0;} ],
	[ 'constraints', q{ALTER TABLE invite_sync.sync_run ADD CONSTRAINT sync_run_last_success CHECK (pg_catalog.isfinite(last_success));} ],
	[ 'indexes', q{CREATE INDEX quarantine_entry_sqlstate ON invite_sync.quarantine_entry (sqlstate);} ],
	[ 'columns', q{COMMENT ON COLUMN invite_sync.target.link_by IS 'another comment';} ],
	[ 'role', q{COMMENT ON ROLE invite_sync_owner IS 'Owns what is ours';} ]);

# As a fresh installation of the next version would make it: among the rooms, before the rights.
my $next_script = $script;
my $grants = qr/^(?=CREATE FUNCTION invite_sync\.api_grants\(\))/m;
$next_script =~ s/$grants/join "\n", (map { $_->[1] } @new), ''/e or die 'no place for what is new';
$next_script =~ s/^(    VALUES\n)(?=        -- room event)/$1        ('service', 'FUNCTION invite_sync.upgrade_noted(text)'),\n        ('user', 'TABLE invite_sync.upgrade_notes'),\n/m or die 'no list of rights';
$next_script =~ s/least\(3600000,/least(7200000,/ or die 'nothing to change in next_retry()';
put_file("$extension/invite_sync--$next.sql", $next_script);

# The update, ending with the block that the manual gives for it.
my ($rights) = slurp("$upgrade/README.md") =~ /^```sql\n(.*?)^```$/ms or die 'sql/upgrade/README.md has lost its example';
$rights =~ s/(?<=ARRAY ARRAY\[\n)[^\]]*/'FUNCTION invite_sync.upgrade_noted(text)', 'TABLE invite_sync.upgrade_note', 'TABLE invite_sync.upgrade_notes', 'SEQUENCE invite_sync.upgrade_note_id_seq', 'TYPE invite_sync.upgrade_pair'\n/ or die 'no list in the example';
my @delta = (@new,
	[ 'functions', function_text($next_script, 'next_retry') ],
	[ 'functions', function_text($next_script, 'api_grants') ],
	[ 'initial rights', $rights ]);
my $head = qq{\\echo Use "ALTER EXTENSION invite_sync UPDATE" to load this file. \\quit\nSET LOCAL search_path TO pg_catalog, pg_temp;\n};
sub put_delta
{
	my ($to, @statements) = @_;
	put_file("$extension/invite_sync--$current--$to.sql", $head . join("\n", map { $_->[1] } @statements) . "\n");
	return;
}
put_delta($next, @delta);

# Each version that lacks something installs like the complete one.
my (%lacks, %also);
for my $i (grep { $delta[$_][0] } 0 .. $#delta)
{
	my $version = "${current}lacks$i";
	put_delta($version, @delta[ grep { $_ != $i } 0 .. $#delta ]);
	(my $what = $delta[$i][1]) =~ s/\A(?:--.*\n)?(.{1,70}).*/$1/s;
	$lacks{$version} = [ $delta[$i][0], $what ];
}
# What is there too much, or done to the wrong objects
for my $case ([ 'more', 'functions', q{CREATE FUNCTION invite_sync.forgotten() RETURNS integer LANGUAGE sql AS 'SELECT 1';} ],
	[ 'owner', 'relations', 'ALTER TABLE invite_sync.upgrade_note OWNER TO CURRENT_USER;' ],
	[ 'public', 'functions', 'GRANT EXECUTE ON FUNCTION invite_sync.upgrade_noted(text) TO PUBLIC;' ],
	[ 'enum', 'types', q{CREATE TYPE invite_sync.mood AS ENUM ('good');} ],
	[ 'stranger', 'members of the extension', 'ALTER EXTENSION invite_sync DROP FUNCTION invite_sync.upgrade_noted(text);' ],
	[ 'version', 'functions', q{ALTER FUNCTION invite_sync.upgrade_noted(text) VOLATILE;} ])
{
	my ($name, $kind, $sql) = @$case;
	put_delta("$current$name", @delta, [ $kind, $sql ]);
	$lacks{"$current$name"} = [ $kind, "one with $sql" ];
}
put_delta("${current}grants", @delta, [ undef, 'SELECT invite_sync.grant_api();' ]);

my $node = durable_cluster('node', install_path => $install->{path});

# A database of an older version, as users have it: in use, with rights that the DBA gave.
sub used_database
{
	my ($name, $version) = @_;
	prepare_database($node, $name, no_extension => 1);
	value($node, $name, "CREATE EXTENSION invite_sync VERSION '$version' CASCADE");
	standard_targets($node, $name);
	application_triggers($node, $name);
	guard_all($node, $name);
	value($node, $name, q{
DO $$ BEGIN
	IF to_regrole('watcher') IS NULL THEN CREATE ROLE watcher; CREATE ROLE dumper LOGIN BYPASSRLS; CREATE ROLE reader; END IF;
END $$;
SELECT invite_sync.grant_operator('watcher');
SELECT invite_sync.grant_dump('dumper');
GRANT USAGE ON SCHEMA invite_sync TO reader;
GRANT SELECT ON invite_sync.event TO reader;
CREATE TABLE public.picky (id uuid PRIMARY KEY, email text CHECK (email NOT LIKE 'bad%'));
ALTER TABLE public.picky OWNER TO postgres});
	as_role($node, $name, 'postgres', q{SELECT invite_sync.add_target('public.picky'); SELECT invite_sync.log_event('order.placed')});
	as_role($node, $name, 'supabase_auth_admin', bulk_signup_sql('a', 1, 20) . ";\n" . signup('a', 21, 'bad@example.com'));
	as_role($node, $name, 'postgres', 'CALL invite_sync.sync_all(); SELECT count(*) FROM invite_sync.seal_events()');
	value($node, $name, 'TRUNCATE public.heard');
	return;
}

# What a dump would have of our rights, and of the users' rows in them.
sub columns_of
{
	my ($name) = @_;
	return value($node, $name, q{SELECT c.relname || ' ' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relnamespace = 'invite_sync'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.relname});
}
sub rows_of
{
	my ($name, $columns) = @_;
	return join "\n", map {
		my ($table, $list) = split / /, $_, 2;
		"$table: " . value($node, $name, "SELECT t FROM (SELECT $list FROM invite_sync.$table) t ORDER BY t::text")
	} split /\n/, $columns;
}

# An update of a database in use: the catalogs are those of a fresh installation, the rows those of before, and
# signups go on, also in a session from before.
sub check_update
{
	my ($from, $to) = @_;
	my $what = "$from to $to";
	prepare_database($node, 'fresh', no_extension => 1);
	value($node, 'fresh', "CREATE EXTENSION invite_sync VERSION '$to' CASCADE");
	my $fresh = extension_picture($node, 'fresh');
	my $fresh_rows = extension_rows($node, 'fresh');

	prepare_database($node, 'empty', no_extension => 1);
	value($node, 'empty', "CREATE EXTENSION invite_sync VERSION '$from' CASCADE");
	my $update = run_as($node, 'empty', 'supabase_admin', "ALTER EXTENSION invite_sync UPDATE TO '$to'");
	ok($update->{ok}, "$what: ALTER EXTENSION UPDATE") or diag($update->{stderr});
	my $different = different(extension_picture($node, 'empty'), $fresh);
	is_deeply($different, {}, "$what: the catalogs are those of a fresh installation") or diag(explain($different));
	$different = different(extension_rows($node, 'empty'), $fresh_rows);
	is_deeply($different, {}, "$what: so are the rows that come with it") or diag(explain($different));

	used_database('used', $from);
	my $columns = columns_of('used');
	my $rows = rows_of('used', $columns);
	my $triggers = trigger_picture($node, 'used');
	my $auth = session($node, 'used', 'supabase_auth_admin');
	my $said = heard($node, 'used', 1);
	$auth->must(signup('b', 1, 'b1@example.com') . delete_user_sql(user_id('b', 1)));
	value($node, 'used', 'TRUNCATE public.heard; DELETE FROM public.picky WHERE email ~ \'^(b|d)\'');
	$rows = rows_of('used', $columns);
	value($node, 'used', "ALTER EXTENSION invite_sync UPDATE TO '$to'");
	is(rows_of('used', $columns), $rows, "$what: in a database in use: no row of before has changed");
	is(trigger_picture($node, 'used'), $triggers, "$what: nor a guarded trigger");
	my $signup = $auth->query(signup('b', 2, 'b2@example.com') . change_email_sql(user_id('a', 1), 'a1 changed@example.com') . delete_user_sql(user_id('a', 2)));
	ok($signup->{ok}, "$what: signups go on in a session from before") or diag($signup->{stderr});
	is(value($node, 'used', q{SELECT count(*) FROM public.profiles WHERE id = '} . user_id('b', 2) . q{'}), 1, "$what: and are synced");
	$auth->close;
	value($node, 'used', q{TRUNCATE public.heard; DELETE FROM public.picky t WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = t.id)});
	is(heard($node, 'used', 2), $said, "$what: the guarded triggers run as before");

	# What the DBA granted goes on being the DBA's: a dump has it, and grant_api() adds what is new.
	my $initial = extension_picture($node, 'used')->{'initial rights'};
	is_deeply(different({ r => $initial }, { r => $fresh->{'initial rights'} }), {}, "$what: rights that the DBA gave are not taken for the extension's own");
	value($node, 'used', q{SELECT invite_sync.grant_api(); SELECT invite_sync.grant_dump('dumper')});
	value($node, 'fresh', q{SELECT invite_sync.grant_operator('watcher'); SELECT invite_sync.grant_dump('dumper');
GRANT USAGE ON SCHEMA invite_sync TO reader; GRANT SELECT ON invite_sync.event TO reader});
	$different = different(extension_picture($node, 'used'), extension_picture($node, 'fresh'));
	is_deeply($different, {}, "$what: with grant_api() the rights are those of a fresh installation") or diag(explain($different));
	value($node, 'used', q{DELETE FROM public.picky t WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = t.id); ALTER TABLE public.picky DROP CONSTRAINT picky_email_check});
	as_role($node, 'used', 'postgres', 'CALL invite_sync.sync_all(); SELECT invite_sync.retry_quarantine(due_only => false)');
	is(out_of_step($node, 'used'), '', "$what: everybody is in step");
	# of a made-up version there is no library
	my $mismatch = $to eq $current ? '' : q{ AND finding !~ 'different versions'};
	is(as_role($node, 'used', 'postgres', "SELECT * FROM invite_sync.verify() WHERE object <> 'asleep'$mismatch"), '', "$what: verify() has nothing to say");
	is(as_role($node, 'used', 'postgres', 'SELECT count(*) FROM invite_sync.verify_events() WHERE NOT ok'), 0, "$what: the seals hold");
	value($node, 'template1', "DROP DATABASE $_ WITH (FORCE)") for qw(fresh empty used);
	return;
}

for my $version (sort grep { $_ ne $current } keys %released)
{
	check_update($version, $current);
}
check_update($current, $next);

# The same comparison must notice whatever is missing. All start from one database of before.
prepare_database($node, 'fresh', no_extension => 1);
value($node, 'fresh', "CREATE EXTENSION invite_sync VERSION '$next' CASCADE");
my %fresh = (%{ extension_picture($node, 'fresh') }, %{ extension_rows($node, 'fresh') });
my $old_comment = value($node, 'fresh', q{SELECT shobj_description('invite_sync_owner'::regrole, 'pg_authid')});
prepare_database($node, 'before');
for my $version (sort keys %lacks)
{
	my ($kind, $what) = @{ $lacks{$version} };
	new_database($node, 'wrong', 'before');
	# a role is the cluster's
	value($node, 'wrong', 'COMMENT ON ROLE invite_sync_owner IS NULL') if $kind eq 'role';
	my $update = run_as($node, 'wrong', 'supabase_admin', "ALTER EXTENSION invite_sync UPDATE TO '$version'");
	ok($update->{ok}, "an update without or with: $what") or diag($update->{stderr});
	my $different = different({ %{ extension_picture($node, 'wrong') }, %{ extension_rows($node, 'wrong') } }, \%fresh);
	delete $different->{extension}; # has the version
	ok(exists $different->{$kind}, 'is noticed') or diag(explain($different));
	value($node, 'wrong', "COMMENT ON ROLE invite_sync_owner IS '$old_comment'") if $kind eq 'role';
	value($node, 'template1', 'DROP DATABASE wrong WITH (FORCE)');
}
{
	used_database('used', $current);
	value($node, 'used', "ALTER EXTENSION invite_sync UPDATE TO '${current}grants'");
	isnt(extension_picture($node, 'used')->{'initial rights'}, $fresh{'initial rights'}, 'an update that calls grant_api() is noticed: the next dump would lose the operators\' rights');
	value($node, 'template1', 'DROP DATABASE used WITH (FORCE)');
}
value($node, 'template1', 'DROP DATABASE fresh WITH (FORCE)');

# An update that fails leaves everything as it was
{
	put_delta("${current}fails", @delta, [ undef, 'SELECT 1 / 0;' ]);
	my $before = extension_picture($node, 'before');
	is(run_as($node, 'before', 'supabase_admin', "ALTER EXTENSION invite_sync UPDATE TO '${current}fails'")->{sqlstate}, '22012', 'an update that fails');
	is_deeply(extension_picture($node, 'before'), $before, 'changes nothing');
	put_delta("${current}symbol", [ undef, q{CREATE FUNCTION invite_sync.newer() RETURNS boolean LANGUAGE C AS 'MODULE_PATHNAME', 'not_in_this_library';} ]);
	is(run_as($node, 'before', 'supabase_admin', "ALTER EXTENSION invite_sync UPDATE TO '${current}symbol'")->{sqlstate}, '42883',
		'SQL that is newer than the library is refused where it names a C function that is not there');
}

# ---------------------------------------------------------------------------
# Library and SQL objects of different versions: the time between the package's
# update and ALTER EXTENSION, and the sessions of before. No signup may fail,
# in a session from before and in a new one.

# What an older or newer version may have other than this one, and what verify() then cannot read; the last ones are
# what no version should do.
my @mismatches = (
	[ 'the library is newer', q{UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'invite_sync'} ],
	[ 'the library is older', q{UPDATE pg_extension SET extversion = '99.0' WHERE extname = 'invite_sync'} ],
	[ 'a column of target is missing', 'ALTER TABLE invite_sync.target RENAME COLUMN search_path TO other', 'invite_sync.target' ],
	[ 'a column of mapping is missing', 'ALTER TABLE invite_sync.mapping RENAME COLUMN source_columns TO other', 'invite_sync.target' ],
	[ 'a table of the registry is missing', 'ALTER TABLE invite_sync.mapping RENAME TO other', 'invite_sync.target' ],
	[ 'the registry is missing', 'ALTER TABLE invite_sync.target RENAME TO other', 'invite_sync.target' ],
	[ 'a column of guarded_trigger is missing', 'ALTER TABLE invite_sync.guarded_trigger RENAME COLUMN let_through TO other', 'invite_sync.guarded_trigger' ],
	[ 'guarded_trigger is missing', 'ALTER TABLE invite_sync.guarded_trigger RENAME TO other', 'invite_sync.guarded_trigger' ],
	[ 'a column of quarantine_entry is missing', 'ALTER TABLE invite_sync.quarantine_entry RENAME COLUMN context TO other' ],
	[ 'quarantine_entry has one more that is NOT NULL', 'ALTER TABLE invite_sync.quarantine_entry ADD COLUMN other text; ALTER TABLE invite_sync.quarantine_entry ADD CHECK (other IS NOT NULL) NOT VALID' ],
	[ 'an index of quarantine_entry is missing', 'DROP INDEX invite_sync.quarantine_entry_target_user, invite_sync.quarantine_entry_trigger_user' ],
	[ 'quarantine_entry is missing', 'ALTER TABLE invite_sync.quarantine_entry RENAME TO other', 'invite_sync.quarantine_entry' ],
	[ 'next_retry() is missing', 'ALTER FUNCTION invite_sync.next_retry RENAME TO other' ],
	[ 'event is missing', 'ALTER TABLE invite_sync.event RENAME TO other' ],
	[ 'event has one more column that is NOT NULL', 'ALTER TABLE invite_sync.event ADD other text; ALTER TABLE invite_sync.event ADD CHECK (other IS NOT NULL) NOT VALID' ],
	[ 'lineage is missing', 'ALTER TABLE invite_sync.lineage RENAME TO other' ],
	[ 'guarded_trigger has another type', 'ALTER TABLE invite_sync.guarded_trigger ALTER gate TYPE text USING gate::text, ALTER let_through TYPE name[]' ],
	[ 'mapping has another type', 'ALTER TABLE invite_sync.mapping ALTER source_columns TYPE text' ],
	[ 'guarded_trigger has a NULL', 'ALTER TABLE invite_sync.guarded_trigger ALTER let_through DROP NOT NULL; UPDATE invite_sync.guarded_trigger SET let_through = NULL' ],
	[ 'target has a NULL', 'ALTER TABLE invite_sync.target ALTER on_delete DROP NOT NULL; UPDATE invite_sync.target SET on_delete = NULL' ]);
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->restart;
used_database('mixed', $current);
for my $i (0 .. $#mismatches)
{
	my ($what, $sql, $unreadable) = @{ $mismatches[$i] };
	new_database($node, 'wrong', 'mixed');
	my $old = session($node, 'wrong', 'supabase_auth_admin');
	$old->must(signup('c', 1, 'c1@example.com'));
	value($node, 'wrong', $sql);
	my $new = session($node, 'wrong', 'supabase_auth_admin');
	my @failed;
	for my $case ([ $old, 'before', 2 ], [ $new, 'after', 3 ])
	{
		my ($session, $when, $n) = @$case;
		for my $statement (signup('c', $n, "c$n\@example.com"), signup('f', $n, "bad$n\@example.com"), change_email_sql(user_id('c', $n), "c$n changed\@example.com"),
			"UPDATE auth.users SET last_sign_in_at = now() WHERE id = '" . user_id('c', $n) . "'", delete_user_sql(user_id('c', $n)))
		{
			my $result = $session->query($statement);
			push @failed, "$when: $result->{sqlstate} $result->{message}: " . substr $statement, 0, 60 unless $result->{ok};
			last if $session->{dead};
		}
	}
	$_->close for $old, $new;
	is(join("\n", @failed), '', "$what: no signup, change, login or deletion fails");
	if (!eval { value($node, 'template1', 'SELECT 1') })
	{
		InviteSyncLife::wait_for_server($node);
		value($node, 'template1', 'DROP DATABASE wrong WITH (FORCE)');
		next;
	}
	is(value($node, 'wrong', q{SELECT count(*) FROM auth.users WHERE id::text ~ '^(c|f)'}), 3, "$what: who signed up is there");
	my $verify = run_as($node, 'wrong', 'postgres', 'SELECT severity, object, finding, fix FROM invite_sync.verify()');
	ok($verify->{ok}, "$what: verify() answers") or diag($verify->{stderr});
	like($verify->{out}, qr/^error\|\Q$unreadable\E\|.*cannot be.*\|ALTER EXTENSION invite_sync UPDATE/m, "$what: and says what it cannot read") if $unreadable;
	my $health = run_as($node, 'wrong', 'postgres', q{SELECT status || '|' || (SELECT count(*) FROM jsonb_object_keys(checks)) || '|' || array_to_string(warnings, ' ') FROM invite_sync.health()});
	ok($health->{ok}, "$what: health() answers") or diag($health->{stderr});
	like($health->{out}, qr/^\w+\|8\|/, "$what: to each of its questions");
	like($health->{out}, qr/^failing\|8\|.* cannot be looked at: .*ALTER EXTENSION invite_sync UPDATE/, "$what: and says what it cannot read") if $unreadable && $what !~ /a column of guarded_trigger/;
	value($node, 'wrong', 'CREATE TABLE public.one_more (id uuid PRIMARY KEY); ALTER TABLE public.one_more OWNER TO postgres');
	for my $call ('SELECT invite_sync.attach()', 'SELECT count(*) FROM invite_sync.sync_status()', 'SELECT count(*) FROM invite_sync.sync_users()',
		q{SELECT invite_sync.ensure_user(gen_random_uuid())}, 'CALL invite_sync.sync_all()',
		$what =~ /^(?:event|target has|mapping has)/ ? () : (q{SELECT target FROM invite_sync.add_target('public.one_more')}, q{SELECT invite_sync.drop_target('public.one_more')}))
	{
		my $answer = run_as($node, 'wrong', 'postgres', $call);
		ok($answer->{ok} || $answer->{sqlstate} eq '55000' && $answer->{stderr} =~ /^HINT: .*ALTER EXTENSION invite_sync UPDATE.*invite_sync\.verify\(\)/m, "$what: $call answers, or says where to look") or diag($answer->{stderr});
	}
	like($verify->{out}, qr/^error\|[^|]*\|[^|]*version.*\|ALTER EXTENSION invite_sync UPDATE/m, "$what: and says so") if $i == 0;
	like($verify->{out}, qr/^error\|[^|]*\|[^|]*version/m, "$what: and says so") if $i == 1;
	value($node, 'template1', 'DROP DATABASE wrong WITH (FORCE)');
}

$node->stop;
done_testing();
