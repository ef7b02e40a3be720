# Every kind of trigger that PostgreSQL accepts on auth.users, with and without
# guard: the same effect, the same refusals, the same definition afterwards; and
# what fails technically leaves the statement as if the trigger were not there.
#
# A combination runs in transactions that are rolled back, so all of its runs
# start from the same rows; triggers and guards are committed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(value);
use InviteSyncTest qw(new_cluster prepare_database new_database session run_as slurp);
use JSON::PP qw(decode_json);
use Test::More;

my $db = 'matrix';
my $node = new_cluster('matrix');
my $version = $node->safe_psql('template1', 'SHOW server_version_num');
prepare_database($node, $db);
my $admin = connection();
$admin->must(slurp("$FindBin::RealBin/../guard/matrix.sql"));
my $has_plperl = $admin->must(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'plperl'});
$admin->must('CREATE EXTENSION plperl') if $has_plperl;

my ($a, $b, $c, $d) = map { "00000000-0000-4000-8000-0000000000$_" } qw(a1 b2 c3 d4);

sub connection
{
	my $session = session($node, $db, 'supabase_admin');
	$session->must('SET client_min_messages = warning');
	return $session;
}

sub quote_name { my ($name) = @_; $name =~ s/"/""/g; return qq{"$name"} }
sub quote_text { my ($text) = @_; $text =~ s/'/''/g; return qq{'$text'} }

# ---------------------------------------------------------------------------
# Runs

# What the auth server sends. In the first UPDATE, and in what is inserted, one
# row fulfils WHEN and one does not; the second UPDATE changes no address.
my $insert = qq{INSERT INTO "users" (id, email, phone, encrypted_password, email_confirmed_at) VALUES ('$c', 'c\@x.example', '3', 'hash', '2020-01-01'), ('$d', 'd\@y.example', '4', 'hash', NULL) RETURNING id, email, phone, note, modified_by, serial_no};
my @update = (qq{UPDATE "users" AS users SET email = 'new.' || email WHERE id IN ('$a', '$b') RETURNING id, email, phone, note, modified_by, serial_no},
	qq{UPDATE "users" AS users SET phone = '9' || phone WHERE id = '$a' RETURNING id, email, phone, note});
my $delete = qq{DELETE FROM "users" AS users WHERE id IN ('$a', '$b') RETURNING id, email};
my $upsert = qq{INSERT INTO "users" (id, email) VALUES ('$a', 'again\@x.example'), ('$d', 'other\@x.example') ON CONFLICT (id) DO UPDATE SET email = excluded.email RETURNING id, email, note};
my %operation = (
	'INSERT' => [$insert],
	'UPDATE' => [@update],
	'DELETE' => [$delete],
	'TRUNCATE' => ['TRUNCATE "users" CASCADE'],
	'INSERT OR UPDATE OR DELETE' => [ $insert, @update, $delete, $upsert ],
);

# SQL under a name, by which its output is found again.
sub step { my ($name, $sql) = @_; return "\\echo '\@\@ $name'\n\\warn '\@\@ $name'\n$sql\n" }

# A run of an operation by the auth server, rolled back: what its statements
# returned, then all they left behind.
sub run
{
	my ($name, $mode, $statements, %more) = @_;
	my $sql = "BEGIN \\; SET LOCAL matrix.mode = '$mode' \\; " . join('', map { "$_ \\; " } @{ $more{before} || [] })
	  . "SET LOCAL SESSION AUTHORIZATION supabase_auth_admin \\; SET LOCAL search_path = auth;\n";
	for my $statement (@$statements)
	{
		$sql .= "SAVEPOINT operation;\n$statement;\n\\echo = :SQLSTATE :ROW_COUNT\n\\if :ERROR\nROLLBACK TO SAVEPOINT operation;\n\\endif\n";
	}
	$sql .= "SELECT matrix.state();\n";
	$sql .= "$more{after}\n" if $more{after};
	return step($name, "${sql}ROLLBACK;");
}

# Done again, by an operator, once it works.
sub retried
{
	my ($name) = @_;
	return step($name || 'retry', q{SET LOCAL matrix.mode = 'healthy';
SET LOCAL SESSION AUTHORIZATION postgres;
SELECT 'retried ' || (invite_sync.retry_quarantine(due_only => false));
SELECT matrix.state();});
}

# What has been let in, and that verify() finds it.
sub let_in
{
	return step('let_in', q{SELECT matrix.let_in();
SET LOCAL SESSION AUTHORIZATION postgres;
SELECT concat_ws(' ', 'finding', severity, object, finding) FROM invite_sync.verify() WHERE finding LIKE 'the gate failed%';});
}

sub call
{
	my ($name, $sql) = @_;
	return step($name, "SET SESSION AUTHORIZATION postgres;\n$sql;\n\\echo = :SQLSTATE\nRESET SESSION AUTHORIZATION;");
}

sub guard
{
	my ($name, $trigger, @arguments) = @_;
	return call($name, 'SELECT * FROM invite_sync.guard_trigger(' . join(', ', quote_text($trigger), @arguments) . ')');
}

# name => { out, err } of the steps. What was rolled back is not to be waded
# through, nor the plans that PL/pgSQL keeps for triggers that are gone.
my $sent = 0;

sub steps
{
	if ($sent++ % 20 == 19)
	{
		$admin->must('VACUUM auth.users, matrix.log, invite_sync.quarantine_entry, pg_catalog.pg_trigger, pg_catalog.pg_depend, pg_catalog.pg_proc');
		$admin->close;
		$admin = connection();
	}
	my $answer = $admin->query(join "\n", @_);
	my %steps;
	for my $stream (qw(out stderr))
	{
		(my $text = "$answer->{$stream}\n") =~ s/^psql:\S+:\d+: //mg;
		my (undef, @parts) = split /^\@\@ (.*)\n/m, $text, -1;
		while (my ($name, $part) = splice @parts, 0, 2)
		{
			$steps{$name}{ $stream eq 'out' ? 'out' : 'err' } = $part;
		}
	}
	return \%steps;
}

my @problems;

sub same
{
	my ($what, $got, $expected) = @_;
	$got = '(nothing)' unless defined $got;
	$expected = '(nothing)' unless defined $expected;
	push @problems, "$what:\n  got\n$got  expected\n$expected" if $got ne $expected;
	return;
}

sub same_run
{
	my ($what, $got, $expected) = @_;
	same($what, $got->{out}, $expected->{out});
	same("$what, messages", $got->{err}, $expected->{err});
	return;
}

# The lines of a step's output that are of interest.
sub only { my ($pattern, $step) = @_; return join '', grep { /$pattern/ } split /^/, $step->{out} }

# One assertion of what same() has gathered.
sub verdict
{
	my ($name) = @_;
	my $ok = ok(!@problems, $name);
	diag(join "\n", map { substr $_, 0, 3000 } @problems[ 0 .. ($#problems > 2 ? 2 : $#problems) ]) unless $ok;
	@problems = ();
	return;
}

# The state that the operation has without any trigger.
my %without;
for my $event (keys %operation)
{
	$without{$event} = steps(run('run', 'healthy', $operation{$event}))->{run};
	same($event, join(' ', $without{$event}{out} =~ /^= (\S+)/mg), join ' ', ('00000') x @{ $operation{$event} });
	same("$event, messages", $without{$event}{err}, '');
}
verdict('without a trigger every operation works');

# ---------------------------------------------------------------------------
# Shapes: all that PostgreSQL accepts of every timing, event, level, WHEN, OF
# and transition tables

my %condition = (
	'INSERT' => q{NEW.email LIKE '%@x.example'},
	'UPDATE' => q{OLD.email IS DISTINCT FROM NEW.email AND NEW.email LIKE '%@x.example'},
	'DELETE' => q{OLD.email LIKE '%@x.example'},
	'TRUNCATE' => q{NEW.email IS NOT NULL},
	'INSERT OR UPDATE OR DELETE' => q{NEW.email IS NOT NULL},
);
my %called = ('INSERT' => 'NEW.email', 'UPDATE' => 'NEW.email', 'DELETE' => 'OLD.email');
my %transition = (
	'' => '',
	'OLD TABLE' => 'REFERENCING OLD TABLE AS "Old rows"',
	'NEW TABLE' => 'REFERENCING NEW TABLE AS "New rows"',
	'OLD TABLE NEW TABLE' => 'REFERENCING OLD TABLE AS "Old rows" NEW TABLE AS "New rows"',
);

sub create_trigger
{
	my ($shape, $name, $function) = @_;
	my ($event, $when) = ($shape->{event}, '');
	if ($shape->{of})
	{
		$event .= ' OF email, note' unless $event =~ s/UPDATE/UPDATE OF email, note/;
	}
	$when = "WHEN ($condition{$shape->{event}})" if $shape->{when} eq 'column';
	$when = 'WHEN (matrix.wanted((' . ($shape->{level} eq 'ROW' && $called{ $shape->{event} } || q{'@x.example'}) . ')::text))'
	  if $shape->{when} eq 'function';
	return 'CREATE TRIGGER ' . quote_name($name) . " $shape->{timing} $event ON auth.users $transition{$shape->{transition}} FOR EACH $shape->{level} $when EXECUTE FUNCTION $function;\n";
}

sub shape_name
{
	my ($shape) = @_;
	return join ' ', grep { $_ ne '' } $shape->{timing}, $shape->{event}, $shape->{of} ? 'OF columns' : '', $shape->{level},
	  $shape->{when} ? "WHEN $shape->{when}" : '', $shape->{transition};
}

my (@shapes, @tried, $try);
$admin->must('CREATE FUNCTION matrix.f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$');
for my $timing (qw(BEFORE AFTER))
{
	for my $event (sort keys %operation)
	{
		for my $level (qw(ROW STATEMENT))
		{
			for my $when ('', 'column', 'function')
			{
				for my $of (0, 1)
				{
					for my $transition (sort keys %transition)
					{
						push @tried, { timing => $timing, event => $event, level => $level, when => $when, of => $of, transition => $transition };
						$try .= step($#tried, 'BEGIN; ' . create_trigger($tried[-1], 'try', 'matrix.f()') . "\\echo = :SQLSTATE\nROLLBACK;");
					}
				}
			}
		}
	}
}
my $accepted = steps($try);
@shapes = map { $tried[$_] } grep { $accepted->{$_}{out} =~ /^= 00000$/m } 0 .. $#tried;
is(scalar(@shapes), 85, 'of ' . @tried . ' shapes of triggers PostgreSQL accepts as many as ever');

# ---------------------------------------------------------------------------
# Triggers: the same in two languages. By matrix.mode they work, fail after they
# have worked, refuse on purpose, or cancel some of the rows.

my %security = (
	'INVOKER' => '',
	'DEFINER' => 'SECURITY DEFINER',
	'INVOKER SET' => q{SET search_path = ''},
	'DEFINER SET' => 'SECURITY DEFINER SET search_path = public, pg_temp',
);
my @securities = sort keys %security;

# [ SQLSTATE, statement ]
my @failures = (
	[ '22012', 'PERFORM 1 / 0' ],
	[ '42P01', 'PERFORM 1 FROM matrix.nowhere' ],
	[ '23502', 'INSERT INTO matrix.picky VALUES (2, NULL)' ],
	[ '23505', 'INSERT INTO matrix.picky VALUES (1)' ],
	[ '23514', 'INSERT INTO matrix.picky VALUES (2, 0)' ],
	[ '42883', 'PERFORM matrix.no_function()' ],
	[ '42501', 'INSERT INTO matrix.closed VALUES (1)' ],
	[ '42703', 'PERFORM no_column FROM matrix.picky' ],
	[ '22P02', q{PERFORM 'x'::integer} ],
	[ '2D000', 'COMMIT' ],
	[ '22012', 'BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN RAISE; END', 'gate' ],
);
my @ungated = grep { !$_->[2] } @failures;

# [ what, statement, what to let through, whether guard_trigger() cannot see it ]
my @refusals = (
	[ 'RAISE', q{RAISE EXCEPTION 'not you' USING DETAIL = 'a detail', HINT = 'a hint'} ],
	[ 'RAISE of a state of constraints', q{RAISE EXCEPTION 'not you' USING ERRCODE = '23514', COLUMN = 'email', CONSTRAINT = 'none'} ],
	[ 'RAISE of a condition', 'RAISE unique_violation' ],
	[ 'RAISE of a state of its own', q{RAISE SQLSTATE 'AU001' USING MESSAGE = 'not you'} ],
	[ 'ASSERT', q{ASSERT false, 'never'} ],
	[ 'RAISE in a function', 'PERFORM matrix.refuse()' ],
	[ 'RAISE in a function of a function', 'PERFORM matrix.refuse_by_sql()' ],
	[ 'RAISE thrown again', q{BEGIN RAISE EXCEPTION 'once'; EXCEPTION WHEN OTHERS THEN RAISE; END} ],
	[ 'RAISE for a failure', q{BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION 'for %', SQLERRM; END} ],
	[ 'RAISE in a trigger of another table', 'INSERT INTO matrix.refusing VALUES (1)', undef, 'unseen' ],
	[ 'a state that is let through', q{PERFORM 'x'::integer}, '22P02', 'unseen' ],
);

sub create_plpgsql
{
	my ($shape, $security, $failure, $refusal) = @_;
	my $row_before = $shape->{timing} eq 'BEFORE' && $shape->{level} eq 'ROW';
	my %table = map { $_ => $shape->{transition} =~ /$_ TABLE/ ? qq{(SELECT jsonb_agg(t ORDER BY t.id) FROM "} . ucfirst(lc $_) . qq{ rows" AS t)} : 'NULL' } qw(OLD NEW);
	my $changes = $row_before && $shape->{event} ne 'DELETE' ? q{IF TG_OP <> 'DELETE' THEN NEW.note := concat_ws(' ', NEW.note, 'by', TG_NAME, current_user, TG_OP); END IF;} : '';
	my $refuses = $refusal ? "IF mode = 'refuse' THEN $refusal; END IF;" : '';
	my $cancels = $refusal && $row_before ? q{IF mode = 'cancel' AND (CASE TG_OP WHEN 'DELETE' THEN OLD.email ELSE NEW.email END) LIKE '%@y.example' THEN RETURN NULL; END IF;} : '';
	my $returns = !$row_before ? 'RETURN NULL;'
	  : $shape->{event} eq 'DELETE' ? 'RETURN OLD;'
	  : $shape->{event} =~ /DELETE/ ? q{IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;}
	  : 'RETURN NEW;';
	return <<"SQL";
CREATE OR REPLACE FUNCTION matrix.f() RETURNS trigger LANGUAGE plpgsql $security{$security} AS \$f\$
DECLARE
	mode text := current_setting('matrix.mode');
BEGIN
	$changes
	INSERT INTO matrix.log (what) VALUES (jsonb_build_object('name', TG_NAME, 'when', TG_WHEN, 'level', TG_LEVEL, 'op', TG_OP,
		'relation', TG_RELID::regclass, 'relname', TG_RELNAME, 'table', TG_TABLE_NAME, 'schema', TG_TABLE_SCHEMA, 'nargs', TG_NARGS, 'argv', TG_ARGV::text,
		'user', current_user, 'session', session_user, 'path', current_setting('search_path'), 'depth', pg_trigger_depth(),
		'old', to_jsonb(OLD), 'new', to_jsonb(NEW), 'old_table', $table{OLD}, 'new_table', $table{NEW}));
	IF mode = 'fail' THEN $failure; END IF;
	$refuses
	$cancels
	$returns
END \$f\$;
SQL
}

# Plain Perl has no JSON: hashes are written sorted.
sub create_plperl
{
	my ($shape, $security, $failure, $refusal) = @_;
	my $table = join ', ', map { $shape->{transition} =~ /$_ TABLE/ ? qq{(SELECT jsonb_agg(t ORDER BY t.id) FROM "} . ucfirst(lc $_) . qq{ rows" AS t)} : 'NULL' } qw(OLD NEW);
	return <<"SQL";
CREATE OR REPLACE FUNCTION matrix.f() RETURNS trigger LANGUAGE plperl $security{$security} AS \$f\$
	my \$mode = spi_exec_query(q{SELECT current_setting('matrix.mode') AS mode})->{rows}[0]{mode};
	my \$row_before = \$_TD->{when} eq 'BEFORE' && \$_TD->{level} eq 'ROW';
	my \$changed = \$row_before && \$_TD->{event} ne 'DELETE';
	\$_TD->{new}{note} = join ' ', grep { defined } \$_TD->{new}{note}, 'by', \$_TD->{name}, \$_TD->{event} if \$changed;
	my \$show = sub { my (\$row) = \@_; return join ',', map { "\$_=" . (\$row->{\$_} // '') } sort keys %{ \$row || {} } };
	my \$what = join ' ', map { "[\$_]" } \@{\$_TD}{qw(name when level event relname table_name table_schema argc)}, \@{ \$_TD->{args} || [] },
		\$show->(\$_TD->{old}), \$show->(\$_TD->{new});
	my \$plan = spi_prepare(q{INSERT INTO matrix.log (what) SELECT concat_ws(' ', \$1, current_user, session_user, current_setting('search_path'), pg_trigger_depth(), $table)}, 'text');
	spi_exec_prepared(\$plan, \$what);
	spi_freeplan(\$plan);
	spi_exec_query('SELECT 1 / 0') if \$mode eq 'fail';
	die 'not you' if \$mode eq 'refuse';
	elog(ERROR, 'not you either') if \$mode eq 'refuse';
	my \$email = (\$_TD->{new} || \$_TD->{old} || {})->{email} || '';
	return 'SKIP' if \$mode eq 'cancel' && \$row_before && \$email =~ /\\\@y\\.example/;
	return \$changed ? 'MODIFY' : undef;
\$f\$;
SQL
}

# The entries that failures of these firings leave, as matrix.entry has them;
# of rows one for each user and action.
sub entries
{
	my ($trigger, $sqlstate, $shape, @fired) = @_;
	my (@lines, %attempts);
	for (@fired)
	{
		my ($action, $user) = @$_;
		if (defined $user) { $attempts{"$action $user"}++ }
		else { push @lines, "quarantine $trigger $action - $sqlstate replayable=f next=f attempts=1\n" }
	}
	for my $key (keys %attempts)
	{
		my $replayable = $shape->{timing} eq 'AFTER' && $key =~ /^insert/ && $shape->{transition} eq '' ? 't' : 'f';
		push @lines, "quarantine $trigger $key $sqlstate replayable=$replayable next=$replayable attempts=$attempts{$key}\n";
	}
	return join '', sort @lines;
}

# What a healthy run of create_plpgsql()'s trigger logged: [ action, user ]
sub firings
{
	my ($out) = @_;
	return map {
		my $log = decode_json($_);
		[ lc $log->{op}, $log->{level} eq 'ROW' ? ($log->{old} || $log->{new})->{id} : undef ]
	} $out =~ /^log (.*)$/mg;
}

sub warnings_only
{
	my ($what, $run, $n) = @_;
	my $warned = () = $run->{err} =~ /^WARNING:  01000: guarded trigger ".*" failed and is in quarantine$/mg;
	same("$what: warnings", "$warned\n", "$n\n");
	same("$what: errors", join("\n", $run->{err} =~ /^((?:ERROR|FATAL|PANIC|NOTICE).*)$/mg), '');
	return;
}

# As one would write it who wants to know whether the quoting is right.
my @names = ('on_auth_user_created', 'My "Trigger"', q{it's}, 'UPPER', 'x' x 63);
my $arguments = q{'a', 'the ''quoted'' "one"', E'\\\\x', '', '%s $1'};
my $turn = 0;
my %fired;

sub pictures
{
	my ($got, $trigger, $function) = @_;
	my $quoted = quotemeta $function;
	# sorted, the dependency on the guard comes among the functions
	my @lines = split /^/, $got->{picture0}{out};
	s/^function .*$/function invite_sync.guard()/, s/(EXECUTE FUNCTION )$quoted\(/$1invite_sync.guard(/ for @lines;
	push @lines, "needs n function invite_sync.guard()\n";
	same('the definition under guard', join('', sort split /^/, $got->{picture1}{out}), join('', sort @lines));
	same('the definition afterwards', $got->{picture2}{out}, $got->{picture0}{out});
	return;
}

sub decorate
{
	my ($trigger, $decorated) = @_;
	my $name = quote_name($trigger);
	return '' unless $decorated;
	return "COMMENT ON TRIGGER $name ON auth.users IS 'of the application: it''s \"ours\"';\n"
	  . "ALTER TRIGGER $name ON auth.users DEPENDS ON EXTENSION refint;\n"
	  . "ALTER TABLE auth.users ENABLE ALWAYS TRIGGER $name;\n";
}

# One combination in a language whose functions do what we like. As a gate too,
# if asked for.
sub combination
{
	my ($language, $shape, $security, $with_arguments, $with_gate) = @_;
	my $create = $language eq 'plpgsql' ? \&create_plpgsql : \&create_plperl;
	my $trigger = $names[ $turn % @names ];
	my $failure = $language eq 'plpgsql' ? $ungated[ $turn % @ungated ] : [ '38000', '' ];
	my $gate_failure = $language eq 'plpgsql' ? $failures[ $turn % @failures ] : $failure;
	my $refusal = $language eq 'plpgsql' ? $refusals[ $turn % @refusals ] : [ 'die', 'die', '38000' ];
	$turn++;
	# the state let through would be a refusal too
	$gate_failure = $failures[0] if $refusal->[2] && $gate_failure->[0] eq $refusal->[2] && $language eq 'plpgsql';
	my $operation = $operation{ $shape->{event} };
	my $without = $without{ $shape->{event} };
	my $row_before = $shape->{timing} eq 'BEFORE' && $shape->{level} eq 'ROW';
	my $plain = $create->($shape, $security, $failure->[1]);
	my $gate = $create->($shape, $security, $gate_failure->[1], $refusal->[1]);
	# a function that cannot be read, or that returns now NEW and now OLD
	my $always_gate = $language ne 'plpgsql' || ($row_before && $shape->{event} =~ /OR DELETE/);
	my $replayable = $shape->{timing} eq 'AFTER' && $shape->{level} eq 'ROW' && $shape->{event} =~ /INSERT/ && $shape->{transition} eq '';
	my @let_through = $refusal->[2] ? ("let_through => ARRAY['$refusal->[2]']") : ();

	my $seen = $always_gate || $row_before || !$refusal->[3] || ($gate_failure->[2] || '') eq 'gate';

	my $got = steps(
		$plain,
		'ALTER FUNCTION matrix.f() OWNER TO postgres;',
		create_trigger($shape, $trigger, 'matrix.f(' . ($with_arguments ? $arguments : '') . ')'),
		decorate($trigger, $with_arguments),
		step('picture0', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
		run('healthy0', 'healthy', $operation),

		guard('guard', $trigger),
		$always_gate ? guard('guard1', $trigger, q{on_failure => 'let_in'}) : '',
		step('picture1', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
		run('healthy1', 'healthy', $operation),
		run('fail1', 'fail', $operation, after => $replayable ? retried() : ''),

		!$with_gate ? () : (
			$gate,
			guard('gate', $trigger),
			guard('gate2', $trigger, q{on_failure => 'let_in'}, @let_through),
			run('refuse2', 'refuse', $operation),
			$row_before ? run('cancel2', 'cancel', $operation) : '',
			$language eq 'plpgsql' ? run('fail2', 'fail', $operation, after => let_in()) : '',
			guard('gate3', $trigger, q{on_failure => 'refuse'}),
			run('fail3', 'fail', $operation)),

		call('unguard', 'SELECT invite_sync.unguard_trigger(' . quote_text($trigger) . ')'),
		step('picture2', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
		!$with_gate ? () : (
			run('refuse0', 'refuse', $operation),
			$row_before ? run('cancel0', 'cancel', $operation) : '',
			run('fail0', 'fail', $operation)),
		run('healthy2', 'healthy', $operation),
		'DROP TRIGGER ' . quote_name($trigger) . ' ON auth.users;');

	# healthy
	my $shape_name = shape_name($shape);
	$fired{$shape_name} = [ firings($got->{healthy0}{out}) ] if $language eq 'plpgsql';
	my @fired = @{ $fired{$shape_name} };
	same('it fires', @fired > 0 ? "yes\n" : "no\n", "yes\n");
	same_run('healthy', $got->{healthy1}, $got->{healthy0});
	same_run('healthy, unguarded again', $got->{healthy2}, $got->{healthy0});

	# failing
	my $guarded = $always_gate ? 'guard1' : 'guard';
	same('guarded', $got->{$guarded}{out},
		"$trigger|matrix.f()|" . ($always_gate ? 't|let_in' : 'f|quarantine') . '|{}|' . ($replayable ? 't' : 'f') . "\n= 00000\n");
	same('a gate', $got->{guard}{out}, "= 22023\n") if $always_gate;
	same('failing', $got->{fail1}{out}, $without->{out} . entries($trigger, $failure->[0], $shape, @fired));
	warnings_only('failing', $got->{fail1}, scalar @fired);
	if ($replayable)
	{
		my $n = grep { $_->[0] eq 'insert' } map { @$_ ? $_ : () } values %{ { map { join(' ', @$_) => $_ } @fired } };
		my $left = entries($trigger, $failure->[0], $shape, grep { $_->[0] ne 'insert' } @fired);
		my (@done) = $got->{retry}{out} =~ /^log (.*)$/mg;
		my (@first) = $got->{healthy0}{out} =~ /^log (.*)$/mg;
		same('retry', only(qr/^(?!log )/, $got->{retry}),
			"retried ($n,$n,0)\n" . only(qr/^user /, $without) . $left);
		if ($language eq 'plpgsql')
		{
			# the same, but in our call, in the auth server's place, and of the row as it is by then
			my $json = JSON::PP->new->canonical;
			my %row = map { my $user = decode_json($_); $user->{id} => $user } $got->{retry}{out} =~ /^user (.*)$/mg;
			my %expected = map {
				my $log = decode_json($_);
				$log->{session} = 'postgres';
				$log->{depth} = 0;
				$log->{path} = 'auth, pg_temp' unless $security =~ /SET/;
				$log->{new} = $row{ $log->{new}{id} };
				$json->encode($log) => 1
			} grep { /"op": "INSERT"/ } @first;
			@done = map {
				my $log = decode_json($_);
				delete @{ $log->{new} }{ grep { !defined $log->{new}{$_} } keys %{ $log->{new} } };
				$json->encode($log)
			} @done;
			same('retry did the same', join("\n", sort @done), join("\n", sort keys %expected));
		}
		else { same('retry did it', scalar(@done) . "\n", "$n\n") }
	}

	if ($with_gate)
	{
		same('the function has become a gate', join('', $got->{gate}{out} =~ /^(= .*)$/m), $seen ? '= 22023' : '= 00000');
		same('guarded as a gate', join('', $got->{gate2}{out} =~ /^(= .*)$/m), '= 00000');
		same('it refuses', $got->{refuse0}{out} =~ /^= (?!00000)/m ? "yes\n" : "no\n", "yes\n");
		same_run("refusing: $refusal->[0]", $got->{refuse2}, $got->{refuse0});
		if ($row_before)
		{
			# WHEN lets through only rows that are not cancelled
			my $cancels = $shape->{when} eq '' || $shape->{event} =~ /OR/;
			same('rows are cancelled', $got->{cancel0}{out} ne $got->{healthy0}{out} ? "yes\n" : "no\n", $cancels ? "yes\n" : "no\n");
			same_run('cancelling', $got->{cancel2}, $got->{cancel0});
		}
		if ($language eq 'plpgsql')
		{
			my $n = () = entries($trigger, 'x', $shape, @fired) =~ /\n/g;
			same('a gate that lets in', $got->{fail2}{out}, $without->{out} . entries($trigger, $gate_failure->[0], $shape, @fired));
			warnings_only('a gate that lets in', $got->{fail2}, scalar @fired);
			same('a gate that lets in says so', $got->{let_in}{out}, !$seen ? '' : join('', sort map { 'event ' . ($_->[1] // '-') . "\n" } @fired)
				  . "finding error $trigger the gate failed and let in what it had not looked at, $n times\n");
		}
		same_run('a gate that keeps out', $got->{fail3}, $got->{fail0});
	}

	# the definition
	same('unguarded', $got->{unguard}{out}, "t\n= 00000\n");
	pictures($got, $trigger, 'matrix.f');
	verdict(join ', ', "$language: $shape_name", $security, $with_arguments ? 'with arguments' : ());
	return;
}

for my $i (0 .. $#shapes)
{
	for my $j (0 .. $#securities)
	{
		combination('plpgsql', $shapes[$i], $securities[$j], $_, ($i + $j) % 4 == 2 * $_) for 0, 1;
	}
}

SKIP:
{
	skip 'plperl is not installed', scalar @shapes unless $has_plperl;
	for my $i (0 .. $#shapes)
	{
		combination('plperl', $shapes[$i], $securities[ $i % 4 ], int($i / 4) % 2, 1);
	}
}

# ---------------------------------------------------------------------------
# Functions in C, in every shape: where they object to it, or to the table, that
# is a failure, and such a body cannot be read.

my %c_function = (
	insert_username => q{'modified_by'},
	autoinc => q{'serial_no', 'matrix.counter'},
	moddatetime => q{'modified_at'},
);
my %c_column = (insert_username => 'modified_by', autoinc => 'serial_no', moddatetime => 'modified_at');
for my $name (sort keys %c_function)
{
	for my $security (@securities)
	{
		(my $function = lc "${name}_$security") =~ s/ /_/;
		$admin->must("CREATE FUNCTION matrix.$function() RETURNS trigger LANGUAGE c $security{$security} AS '\$libdir/$name', '$name'; ALTER FUNCTION matrix.$function() OWNER TO postgres")
		  if $security{$security};
	}
}

sub combination_in_c
{
	my ($name, $shape, $security, $decorated) = @_;
	(my $function = lc "matrix.${name}_$security") =~ s/ /_/;
	$function = "extensions.$name" unless $security{$security};
	my $trigger = $names[ $turn++ % @names ];
	my $operation = $operation{ $shape->{event} };
	my $without = $without{ $shape->{event} };
	my @fired = @{ $fired{ shape_name($shape) } };
	my $count = 'ALTER SEQUENCE matrix.counter RESTART 100';
	my @broken = ($count, "ALTER TABLE auth.users RENAME COLUMN $c_column{$name} TO gone");

	# what the statements return is named differently then
	my @operation = map { s/ RETURNING .*//r } @$operation;
	my $got = steps(
		create_trigger($shape, $trigger, "$function($c_function{$name})"),
		decorate($trigger, $decorated),
		step('picture0', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
		run('healthy0', 'healthy', $operation, before => [$count]),
		run('fail0', 'fail', \@operation, before => \@broken),

		guard('guard', $trigger),
		guard('guard1', $trigger, q{on_failure => 'let_in'}),
		step('picture1', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
		run('healthy1', 'healthy', $operation, before => [$count]),
		run('fail1', 'fail', \@operation, before => \@broken),
		guard('gate', $trigger, q{on_failure => 'refuse'}),
		run('fail2', 'fail', \@operation, before => \@broken),

		call('unguard', 'SELECT invite_sync.unguard_trigger(' . quote_text($trigger) . ')'),
		step('picture2', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
		run('healthy2', 'healthy', $operation, before => [$count]),
		'DROP TRIGGER ' . quote_name($trigger) . ' ON auth.users;');

	# Of the several statements of an operation these fail without guard.
	my $failing = sub {
		my ($out) = @_;
		my @states = $out =~ /^= (\S+)/mg;
		my @events = @states > 2 ? qw(insert update update delete) : (lc $shape->{event}) x @states;
		my %failing;
		for my $i (0 .. $#events) { $failing{ $events[$i] } = $states[$i] if $states[$i] ne '00000' }
		return %failing;
	};
	my $entries = sub {
		my (%failing) = @_;
		return join '', sort map { my $action = $_; entries($trigger, $failing{$action}, $shape, grep { $_->[0] eq $action } @fired) } keys %failing;
	};

	my %healthy = $failing->($got->{healthy0}{out});
	my %broken = $failing->($got->{fail0}{out});
	same('a gate', $got->{guard}{out}, "= 22023\n");
	same('guarded', join('', $got->{guard1}{out} =~ /^(= .*)$/m), '= 00000');
	if (!%healthy)
	{
		same_run('healthy', $got->{healthy1}, $got->{healthy0});
		same('it does something', $got->{healthy0}{out} ne $without->{out} ? "yes\n" : "no\n", "yes\n");
	}
	else
	{
		same('every statement succeeds', join(' ', $got->{healthy1}{out} =~ /^= (\S+)/mg), join ' ', ('00000') x @$operation);
		same('as if the trigger were not there', $got->{healthy1}{out}, $without->{out} . $entries->(%healthy))
		  if keys %healthy == ($shape->{event} =~ /OR/ ? 3 : 1);
	}
	same('what fails', only(qr/^quarantine/, $got->{healthy1}), $entries->(%healthy));
	same('it is broken', %broken ? "yes\n" : "no\n", "yes\n");
	same('what is broken', only(qr/^quarantine/, $got->{fail1}), $entries->(%broken));
	same('broken, every statement succeeds', join(' ', $got->{fail1}{out} =~ /^= (\S+)/mg), join ' ', ('00000') x @$operation);
	same('broken, as if the trigger were not there', only(qr/^user/, $got->{fail1}), only(qr/^user/, $without));
	same_run('keeping out', $got->{fail2}, $got->{fail0});
	same('unguarded', $got->{unguard}{out}, "t\n= 00000\n");
	same_run('healthy, unguarded again', $got->{healthy2}, $got->{healthy0});
	pictures($got, $trigger, $function);
	verdict(join ', ', "C, $name: " . shape_name($shape), $security);
	return;
}

for my $i (0 .. $#shapes)
{
	my $j = $i;
	combination_in_c($_, $shapes[$i], $securities[ $j % 4 ], $j++ % 3 == 0) for sort keys %c_function;
}

# ---------------------------------------------------------------------------
# Enabled or not, and session_replication_role

my %enabled = (O => 'ENABLE', D => 'DISABLE', R => 'ENABLE REPLICA', A => 'ENABLE ALWAYS');
for my $shape (grep { !$_->{when} && !$_->{of} && $_->{transition} eq '' && $_->{event} !~ /OR/ } @shapes)
{
	for my $state (qw(O D R A))
	{
		my $trigger = $names[ $turn++ % @names ];
		my $failure = $ungated[ $turn % @ungated ];
		my $operation = $operation{ $shape->{event} };
		my @roles = qw(origin replica local);
		my $runs = sub {
			my ($n, @modes) = @_;
			return map {
				my $role = $_;
				map { run("$_$n $role", $_, $operation, before => ["SET LOCAL session_replication_role = $role"]) } @modes
			} @roles;
		};
		my $got = steps(
			create_plpgsql($shape, 'INVOKER', $failure->[1]),
			create_trigger($shape, $trigger, 'matrix.f()'),
			"ALTER TABLE auth.users $enabled{$state} TRIGGER " . quote_name($trigger) . ';',
			step('picture0', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
			$runs->(0, 'healthy'),
			guard('guard', $trigger),
			step('picture1', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
			$runs->(1, 'healthy', 'fail'),
			call('unguard', 'SELECT invite_sync.unguard_trigger(' . quote_text($trigger) . ')'),
			step('picture2', 'SELECT matrix.picture(' . quote_text($trigger) . ');'),
			$runs->(2, 'healthy'),
			'DROP TRIGGER ' . quote_name($trigger) . ' ON auth.users;');
		for my $role (@roles)
		{
			my @fired = firings($got->{"healthy0 $role"}{out});
			my $fires = $state eq 'A' || $state eq ($role eq 'replica' ? 'R' : 'O');
			same("it fires as $role", @fired > 0 ? "yes\n" : "no\n", $fires ? "yes\n" : "no\n");
			same_run("healthy as $role", $got->{"healthy1 $role"}, $got->{"healthy0 $role"});
			same_run("healthy as $role, unguarded again", $got->{"healthy2 $role"}, $got->{"healthy0 $role"});
			same("failing as $role", $got->{"fail1 $role"}{out}, $without{ $shape->{event} }{out} . entries($trigger, $failure->[0], $shape, @fired));
			warnings_only("failing as $role", $got->{"fail1 $role"}, scalar @fired);
		}
		pictures($got, $trigger, 'matrix.f');
		verdict(shape_name($shape) . ", tgenabled $state");
	}
}

# ---------------------------------------------------------------------------
# Functions in C that refuse, that can be done again, that cancel

# One trigger, guarded and not: the runs by name, of which "bare" ones are done
# before and after.
sub compared
{
	my ($create, $trigger, $bare, $guarded, @arguments) = @_;
	my $name = quote_text($trigger);
	my $got = steps(
		$create,
		step('picture0', "SELECT matrix.picture($name);"),
		(map { run("${_}0", 'healthy', @{ $bare->{$_} }) } sort keys %$bare),
		guard('guard', $trigger, @arguments),
		step('picture1', "SELECT matrix.picture($name);"),
		(map { run("${_}1", 'healthy', @{ $bare->{$_} }) } sort keys %$bare),
		(map { run($_, 'healthy', @{ $guarded->{$_} }) } sort keys %$guarded),
		call('unguard', "SELECT invite_sync.unguard_trigger($name)"),
		step('picture2', "SELECT matrix.picture($name);"),
		(map { run("${_}2", 'healthy', @{ $bare->{$_} }) } sort keys %$bare),
		'DROP TRIGGER ' . quote_name($trigger) . ' ON auth.users;');
	same('guarded', join('', $got->{guard}{out} =~ /^(= .*)$/m), '= 00000');
	for (sort keys %$bare)
	{
		same_run($_, $got->{"${_}1"}, $got->{"${_}0"});
		same_run("$_, unguarded again", $got->{"${_}2"}, $got->{"${_}0"});
	}
	my ($function) = $got->{picture0}{out} =~ /^function (.*)\(\)$/m;
	pictures($got, $trigger, $function);
	return $got;
}

my $unknown = qq{INSERT INTO "users" (id, email, referrer) VALUES ('$c', 'c\@x.example', 'nobody') RETURNING id};
my $known = qq{INSERT INTO "users" (id, email, referrer) VALUES ('$c', 'c\@x.example', '1') RETURNING id};
my $check = q{CREATE TRIGGER referrer AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION extensions.check_primary_key('referrer', 'matrix.referrer', 'id');};
$admin->must('CREATE TABLE matrix.referrer (id text); GRANT ALL ON matrix.referrer TO PUBLIC; INSERT INTO matrix.referrer VALUES (1)');
{
	my $got = compared($check, 'referrer', { known => [ [$known] ], unknown => [ [$unknown] ] }, {}, q{on_failure => 'let_in'}, q{let_through => ARRAY['09000']});
	same('it refuses', $got->{unknown1}{out} =~ /^= 09000/m ? "yes\n" : "no\n", "yes\n");
	verdict('C, check_primary_key: what it refuses is let through if asked for');

	my $entry = "quarantine referrer insert $c 09000 replayable=t next=t attempts=";
	$got = compared($check, 'referrer', { known => [ [$known] ] }, { failing => [ [$unknown], after => retried() . "INSERT INTO matrix.referrer VALUES ('nobody');\n" . retried('mended') ] },
		q{on_failure => 'let_in'});
	my @states = map { only(qr/^(= |quarantine|retried)/, $got->{$_}) } qw(failing retry mended);
	same('failing', $states[0], "= 00000 1\n${entry}1\n");
	same('retry', $states[1], "retried (1,0,1)\n${entry}2\n");
	same('retry when mended', $states[2], "retried (1,1,0)\n");
	verdict('C, check_primary_key: done again until it succeeds');
}

{
	my $same = q{UPDATE "users" AS users SET phone = phone RETURNING id};
	my $got = compared('CREATE TRIGGER suppress BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();',
		'suppress', { run => [ [ $same, @update ] ] }, {}, q{on_failure => 'refuse'});
	same('cancelled', $got->{run1}{out} =~ /\A= 00000 0\n/ ? "yes\n" : "no\n", "yes\n");
	verdict('C, suppress_redundant_updates_trigger: its NULL still cancels the row');
}

# ---------------------------------------------------------------------------
# Several triggers, other statements, and who one is meanwhile

my %kind = (timing => 'BEFORE', level => 'ROW', when => '', of => 0, transition => '');
my $both = { %kind, event => 'INSERT OR UPDATE OR DELETE' };
my @other = (
	[ 'MERGE' => qq{MERGE INTO "users" AS u USING (VALUES ('$a'::uuid, 'merged\@x.example'), ('$b', NULL), ('$c', 'new\@x.example')) AS v (id, email) ON u.id = v.id WHEN MATCHED AND v.email IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET email = v.email WHEN NOT MATCHED THEN INSERT (id, email) VALUES (v.id, v.email)} ],
	[ 'COPY' => qq{COPY "users" (id, email) FROM stdin;\n$c\tc\@x.example\n$d\td\@y.example\n\\.\nSELECT 1} ],
	[ 'INSERT ... SELECT of many' => q{INSERT INTO "users" (id, email) SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n || '@x.example' FROM generate_series(1, 50) AS n} ],
	[ 'statements without rows' => q{DELETE FROM "users" AS users WHERE false} ],
	[ 'UPDATE of the key' => qq{UPDATE "users" AS users SET id = '$d' WHERE id = '$a' RETURNING id, note} ],
	[ 'UPDATE in WITH' => qq{WITH u AS (UPDATE "users" AS users SET email = 'with.' || email RETURNING id), d AS (DELETE FROM "identities" AS i RETURNING i.id) INSERT INTO "users" (id, email) SELECT '$c', count(*) || '\@x.example' FROM u RETURNING id, note} ],
	[ 'the superuser' => qq{RESET SESSION AUTHORIZATION; UPDATE auth.users SET phone = 'x' || phone RETURNING phone} ],
);
my @all = (
	[ 'a_before', { %$both } ], [ 'b_before', { %$both } ], [ 'after', { %$both, timing => 'AFTER' } ],
	[ 'before_all', { %$both, level => 'STATEMENT' } ], [ 'after_all', { %$both, timing => 'AFTER', level => 'STATEMENT' } ]);
my @create = map {
	my ($name, $shape) = @$_;
	(create_plpgsql($shape, 'INVOKER', 'PERFORM 1 / 0') =~ s/matrix\.f\(\)/matrix.f_$name()/r, create_trigger($shape, $name, "matrix.f_$name()"))
} @all;
my $got = steps(@create, map { run("${_}0", 'healthy', [ $other[$_][1] ]) } 0 .. $#other);
steps(map { guard('guard', $_->[0], q{on_failure => 'let_in'}) } @all);
my $guarded = steps(map { (run("${_}1", 'healthy', [ $other[$_][1] ]), run("${_}2", 'fail', [ $other[$_][1] ])) } 0 .. $#other);
steps(map { (call('unguard', "SELECT invite_sync.unguard_trigger('$_->[0]')"), "DROP TRIGGER $_->[0] ON auth.users;") } @all);
my $none = steps(map { run("${_}3", 'fail', [ $other[$_][1] ]) } 0 .. $#other);
for my $i (0 .. $#other)
{
	my $fired = () = $got->{"${i}0"}{out} =~ /^log /mg;
	same('they fire', $fired >= 2 ? "yes\n" : "no\n", "yes\n");
	same('without an error', join('', $none->{"${i}3"}{out} =~ /^= (?!00000)(.*)$/m), '');
	same_run('healthy', $guarded->{"${i}1"}, $got->{"${i}0"});
	same('failing', only(qr/^(?!quarantine)/, $guarded->{"${i}2"}), $none->{"${i}3"}{out});
	warnings_only('failing', $guarded->{"${i}2"}, $fired);
	verdict("five guarded triggers at once: $other[$i][0]");
}

# A trigger that writes to auth.users itself fires the same trigger again.
{
	my $nested = <<"SQL";
CREATE OR REPLACE FUNCTION matrix.nested() RETURNS trigger LANGUAGE plpgsql AS \$f\$
BEGIN
	INSERT INTO matrix.log (what) VALUES (jsonb_build_object('op', TG_OP, 'level', 'ROW', 'depth', pg_trigger_depth(), 'old', OLD.phone, 'new', NEW.phone));
	IF length(NEW.phone) < 4 THEN
		UPDATE auth.users SET phone = phone || '0' WHERE id = NEW.id;
	ELSIF current_setting('matrix.mode') = 'fail' THEN
		PERFORM 1 / 0;
	END IF;
	RETURN NULL;
END \$f\$;
CREATE TRIGGER nested AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION matrix.nested();
SQL
	my $got = compared($nested, 'nested', { run => [ \@update ] }, {});
	same('depth', join(' ', $got->{run1}{out} =~ /"depth": (\d)/g), '1 2 3 4 1 2 3 4 1');
	verdict('a trigger that fires itself');
	@problems = ();

	# the innermost fails: what those around it did stays
	my $run = steps($nested, guard('guard', 'nested'), run('run', 'fail', \@update), call('unguard', q{SELECT invite_sync.unguard_trigger('nested')}), 'DROP TRIGGER nested ON auth.users;');
	my @depths = $run->{run}{out} =~ /"depth": (\d)/g;
	same('depth', join(' ', @depths), '1 2 3 1 2 3');
	same('entries', only(qr/^quarantine/, $run->{run}),
		"quarantine nested update $a 22012 replayable=f next=f attempts=2\nquarantine nested update $b 22012 replayable=f next=f attempts=1\n");
	warnings_only('innermost', $run->{run}, 3);
	verdict('a trigger that fires itself, of which the innermost fails');
}

# The role changes between the statement and its AFTER triggers: since 18 they
# run as the one that queued them.
{
	my $shape = { %kind, event => 'INSERT', timing => 'AFTER' };
	my $changes = q{RESET SESSION AUTHORIZATION; SET ROLE supabase_auth_admin; } . qq{WITH i AS (INSERT INTO auth.users (id, email) VALUES ('$c', 'c\@x.example') RETURNING id) SELECT set_config('role', 'postgres', true) FROM i};
	my $got = compared(create_plpgsql($shape, 'INVOKER', 'PERFORM 1 / 0') . create_trigger($shape, 'queued', 'matrix.f()'),
		'queued', { run => [ [$changes] ] }, {});
	same('who', join(' ', $got->{run1}{out} =~ /"user": "(.*?)"/g), $version >= 180000 ? 'supabase_auth_admin' : 'postgres');
	verdict('a role that changes before AFTER triggers run');
}

# What is done to a guarded trigger outlives the guard.
{
	my $shape = { %kind, event => 'UPDATE', timing => 'AFTER' };
	my $change = q{ALTER TABLE auth.users ENABLE REPLICA TRIGGER kept; COMMENT ON TRIGGER kept ON auth.users IS 'while guarded'; ALTER TRIGGER kept ON auth.users DEPENDS ON EXTENSION autoinc;};
	my $create = create_plpgsql($shape, 'INVOKER', 'PERFORM 1 / 0') . create_trigger($shape, 'kept', 'matrix.f()');
	my $got = steps($create, 'CREATE TABLE matrix.number AS SELECT oid FROM pg_trigger WHERE tgname = \'kept\';', guard('guard', 'kept'), $change,
		call('unguard', q{SELECT invite_sync.unguard_trigger('kept')}),
		step('picture', q{SELECT matrix.picture('kept');}), step('number', q{SELECT count(*) FROM matrix.number AS n JOIN pg_trigger AS t USING (oid) WHERE t.tgname = 'kept';}),
		'DROP TRIGGER kept ON auth.users;', $create, $change, step('expected', q{SELECT matrix.picture('kept');}), 'DROP TRIGGER kept ON auth.users; DROP TABLE matrix.number;');
	(my $expected = $got->{expected}{out}) =~ s/"oid": "\d+"/"oid": "same"/;
	(my $picture = $got->{picture}{out}) =~ s/"oid": "\d+"/"oid": "same"/;
	same('definition', $picture, $expected);
	same('number', $got->{number}{out}, "1\n");
	verdict('tgenabled, comment and dependency given to a guarded trigger stay');
}

# A guarded trigger that is renamed is still the one that was guarded, whoever
# has its name by now; one that is disabled is not done again.
my $renamed = create_plpgsql({ %kind, event => 'INSERT', timing => 'AFTER' }, 'INVOKER', 'PERFORM 1 / 0')
  . create_trigger({ %kind, event => 'INSERT', timing => 'AFTER' }, 'first', 'matrix.f()');
my $failed = entries('second', '22012', { %kind, timing => 'AFTER' }, [ 'insert', $c ], [ 'insert', $d ]);
my @operator = ("RESET SESSION AUTHORIZATION \\; SET LOCAL SESSION AUTHORIZATION postgres;\n");

sub picture_of
{
	my ($step, $name) = @_;
	(my $picture = $step->{out}) =~ s/"oid": "\d+"/(a number)/;
	$picture =~ s/"tgname": "$name"/"tgname": "(a name)"/;
	$picture =~ s/ TRIGGER $name / TRIGGER (a name) /;
	return $picture;
}

{
	my $got = steps($renamed, step('picture0', q{SELECT matrix.picture('first');}), guard('guard', 'first'),
		'ALTER TRIGGER first ON auth.users RENAME TO second;',
		run('healthy', 'healthy', [$insert]),
		run('fail', 'fail', [$insert], after => retried()),
		run('disabled', 'fail', [$insert], after => "RESET SESSION AUTHORIZATION;\nALTER TABLE auth.users DISABLE TRIGGER second;\n" . retried('not again')),
		call('verify', q{SELECT severity, object, fix FROM invite_sync.verify() WHERE object IN ('first', 'second')}),
		call('attach', 'BEGIN; SELECT invite_sync.attach(); SELECT count(*) FROM invite_sync.verify(); SELECT trigger_name FROM invite_sync.guarded_trigger; ROLLBACK'),
		run('unguard', 'fail', [$insert], after => "@operator SELECT invite_sync.unguard_trigger('second');\n" . step('left', 'SELECT line FROM matrix.entry;')),
		call('really', q{SELECT invite_sync.unguard_trigger('second')}),
		step('picture2', q{SELECT matrix.picture('second');}),
		'DROP TRIGGER second ON auth.users;');
	same('healthy', join(' ', $got->{healthy}{out} =~ /"name": "(\w+)"/g), 'second second');
	same('failing', only(qr/^quarantine/, $got->{fail}), $failed);
	same('retry', only(qr/^(retried|quarantine)/, $got->{retry}), "retried (2,2,0)\n");
	same('retry of a disabled one', only(qr/^(retried|quarantine)/, $got->{'not again'}), "retried (2,0,2)\n" . $failed =~ s/22012/55000/gr =~ s/attempts=1/attempts=2/gr);
	same('verify', $got->{verify}{out}, "warning|first|SELECT invite_sync.attach();\n= 00000\n");
	same('attach', $got->{attach}{out}, "t\n0\nsecond\n= 00000\n");
	same('unguarded', $got->{really}{out}, "t\n= 00000\n");
	same('definition', picture_of($got->{picture2}, 'second'), picture_of($got->{picture0}, 'first'));
	verdict('a guarded trigger that is renamed goes on');
	same('left', $got->{left}{out}, '');
	verdict('a guarded trigger that was renamed leaves nothing in quarantine');
}
for my $call (q{invite_sync.guard_trigger('first')}, q{invite_sync.unguard_trigger('first')})
{
	my $got = steps($renamed, guard('guard', 'first'),
		'ALTER TRIGGER first ON auth.users RENAME TO second;',
		$renamed,
		call('call', "SELECT $call"),
		run('fail', 'fail', [ $insert =~ s/, \('$d'.*NULL\)//r ]),
		run('healthy', 'healthy', [$insert]),
		call('unguard', q{SELECT invite_sync.unguard_trigger('second')}),
		step('function', q{SELECT string_agg(DISTINCT tgfoid::regprocedure::text, ' ') FROM pg_trigger WHERE tgname = 'second';}),
		call('unguard', q{SELECT invite_sync.unguard_trigger('first')}),
		'DROP TRIGGER first ON auth.users; DROP TRIGGER second ON auth.users;');
	same('called', join('', $got->{call}{out} =~ /^(= .*)$/m), '= 00000');
	same('healthy', join(' ', $got->{healthy}{out} =~ /"name": "(\w+)"/g), 'first second first second');
	my $of_both = $call =~ /unguard/ ? '' : $failed =~ s/second/first/gr;
	same('failing', only(qr/^quarantine/, $got->{fail}), $call =~ /unguard/ ? '' : join '', grep { /$c/ } split /^/, $of_both . $failed);
	same('function', $got->{function}{out}, "matrix.f()\n");
	verdict("a guarded trigger is renamed, and another takes its name: $call");
}

# ---------------------------------------------------------------------------
# Who may

my $function = 'invite_sync.guard()';
my @others = qw(postgres supabase_auth_admin service_role authenticated anon bystander);
$admin->must(<<"SQL");
CREATE ROLE bystander LOGIN;
CREATE FUNCTION matrix.wrapped_guard(name) RETURNS text LANGUAGE sql SECURITY DEFINER AS \$\$SELECT invite_sync.guard_trigger(\$1)::text\$\$;
CREATE FUNCTION matrix.wrapped_unguard(name) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS \$\$BEGIN RETURN invite_sync.unguard_trigger(\$1); END\$\$;
CREATE FUNCTION matrix.private() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$BEGIN INSERT INTO matrix.closed VALUES (1); RETURN NULL; END\$\$;
REVOKE EXECUTE ON FUNCTION matrix.private() FROM PUBLIC;
CREATE TRIGGER a_private AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION matrix.private();
CREATE TRIGGER b_private AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION matrix.private();
SELECT invite_sync.guard_trigger('a_private');
SQL
is($admin->must(qq{SELECT count(*) FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x WHERE p.oid = '$function'::regprocedure AND x.grantee <> p.proowner}),
	0, 'nobody has EXECUTE on the guard');
for my $role (@others)
{
	is($admin->must(qq{SELECT has_function_privilege('$role', '$function', 'EXECUTE')}), 'f', "$role may not execute the guard");
	$admin->must("CREATE SCHEMA of_$role AUTHORIZATION $role; CREATE TABLE of_$role.mine (id uuid); ALTER TABLE of_$role.mine OWNER TO $role");
	is(run_as($node, $db, $role, "CREATE TRIGGER a_private AFTER INSERT ON of_$role.mine FOR EACH ROW EXECUTE FUNCTION $function")->{sqlstate},
		'42501', "$role may not put the guard on a table of its own");
	is(run_as($node, $db, $role, "CREATE TRIGGER mine AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION $function")->{sqlstate},
		'42501', "$role may not put the guard on auth.users");
	is(run_as($node, $db, $role, "SELECT $function")->{sqlstate}, '42501', "$role may not call the guard");
}
is(run_as($node, $db, 'supabase_admin', "SELECT $function")->{sqlstate}, '39P01', 'the guard is not called but as a trigger');

# A superuser who puts it somewhere all the same does not run the function of
# the registered trigger of that name.
$admin->must("CREATE TRIGGER a_private AFTER INSERT ON of_bystander.mine FOR EACH ROW EXECUTE FUNCTION $function");
is(run_as($node, $db, 'bystander', 'INSERT INTO of_bystander.mine VALUES (NULL)')->{sqlstate}, '39P01', 'the guard runs on auth.users only');
$admin->must("CREATE TABLE of_bystander.child () INHERITS (auth.users); ALTER TABLE of_bystander.child OWNER TO bystander; CREATE TRIGGER a_private AFTER INSERT ON of_bystander.child FOR EACH ROW EXECUTE FUNCTION $function");
is(run_as($node, $db, 'bystander', 'INSERT INTO of_bystander.child (id) VALUES (gen_random_uuid())')->{sqlstate}, '39P01', 'not on its children either');
$admin->must('DROP TABLE of_bystander.child');
is($admin->must('SELECT count(*) FROM matrix.closed'), 0, 'nothing of the function was done');
$admin->must("CREATE TRIGGER unknown BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION $function");
for my $role (qw(supabase_auth_admin supabase_admin))
{
	my $result = run_as($node, $db, $role, qq{BEGIN; INSERT INTO auth.users (id, email, note) VALUES ('$c', 'c\@x.example', 'as it came') RETURNING note; ROLLBACK});
	is("$result->{sqlstate} $result->{out}", '00000 as it came', "$role: an unregistered guard does nothing");
	like($result->{stderr}, qr/WARNING:  01000: guarded trigger "unknown" failed/, "$role: and says so");
}
$admin->must('DROP TRIGGER unknown ON auth.users');

# By the function's privileges, or, where a wrapper of the superuser has these, by
# who is asking.
for my $role (grep { $_ ne 'postgres' } @others)
{
	my @claims = ('', $role eq 'service_role' ? () : qq{SET request.jwt.claims = '{"role": "authenticated", "sub": "$a"}'; });
	for my $call ([ q{invite_sync.guard_trigger('b_private')}, '42501' ], [ q{invite_sync.unguard_trigger('a_private')}, '42501' ],
		[ q{matrix.wrapped_guard('b_private')}, 'PT403' ], [ q{matrix.wrapped_unguard('a_private')}, 'PT403' ])
	{
		is(run_as($node, $db, $role, "${_}SELECT $call->[0]")->{sqlstate}, $call->[1], "$role may not $call->[0]" . ($_ && ', with claims')) for @claims;
	}
}
is(run_as($node, $db, 'postgres', qq{SET request.jwt.claims = '{"role": "authenticated", "sub": "$a"}'; SELECT $_})->{sqlstate},
	'PT403', "an operator who acts as a user may not $_")
  for q{invite_sync.guard_trigger('b_private')}, q{matrix.wrapped_unguard('a_private')};
is($admin->must(q{SELECT string_agg(tgname || ' ' || tgfoid::regproc, ', ' ORDER BY tgname) FROM pg_trigger WHERE tgname LIKE '%private'}),
	'a_private invite_sync.guard, a_private invite_sync.guard, b_private matrix.private', 'nothing of it had an effect');
is(run_as($node, $db, 'postgres', q{SELECT (invite_sync.guard_trigger('b_private')).gate})->{out}, 'f', 'an operator may');
is(run_as($node, $db, 'supabase_auth_admin', qq{BEGIN; INSERT INTO auth.users (id) VALUES ('$c'); ROLLBACK})->{stderr}, '', 'and the auth server, who may not execute it, runs it');
$admin->must(q{SELECT invite_sync.unguard_trigger('a_private'), invite_sync.unguard_trigger('b_private'); DROP TRIGGER a_private ON auth.users; DROP TRIGGER b_private ON auth.users; DROP TABLE of_bystander.mine});

# ---------------------------------------------------------------------------
# WHEN names functions too, in pg_depend beside the trigger's own

my @when = (
	[ 'plpgsql', 'matrix.wanted(NEW.email::text)' ],
	[ 'C', q{extensions.digest(NEW.email::text, 'sha256') IS NOT NULL} ],
	[ 'SQL', 'matrix.is_new(NEW.email::text)' ]);
$admin->must(q{CREATE FUNCTION matrix.is_new(text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 LIKE ''c%'''});
$admin->must(create_plpgsql({ %kind, event => 'INSERT', timing => 'AFTER' }, 'INVOKER', 'PERFORM 1 / 0'));
$admin->must("CREATE TRIGGER \"when in $_->[0]\" AFTER INSERT ON auth.users FOR EACH ROW WHEN ($_->[1]) EXECUTE FUNCTION matrix.f()") for @when;
my $defined = q{SELECT string_agg(tgname || ' ' || pg_get_triggerdef(oid), E'\n' ORDER BY tgname) FROM pg_trigger WHERE tgname LIKE 'when in %'};
my $definitions = $admin->must($defined);
$admin->must("SELECT invite_sync.guard_trigger('when in $_->[0]')") for @when;
$admin->close;
new_database($node, 'copy', $db);
new_database($node, 'restored', $db);
value($node, 'restored', q{SET allow_system_table_mods = on; DELETE FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND refobjid = 'matrix.f()'::regprocedure});
for my $database ($db, 'copy', 'restored')
{
	my $signup = qq{SET matrix.mode = 'healthy'; BEGIN; INSERT INTO "users" (id, email) VALUES ('$c', 'c\@x.example'); SELECT what::json->>'name' FROM matrix.log ORDER BY n; ROLLBACK};
	for my $mended (0, 1)
	{
		my $when = ($database eq $db ? 'where it was guarded' : "in a database that was " . ($database eq 'copy' ? 'copied' : 'restored')) . ($mended ? ', after attach()' : '');
		my $result = run_as($node, $database, 'supabase_auth_admin', $signup);
		is("$result->{stderr}$result->{out}", "when in C\nwhen in SQL\nwhen in plpgsql", "triggers with functions in WHEN run their own function, $when");
		run_as($node, $database, 'postgres', 'SELECT invite_sync.attach()') unless $mended;
	}
	run_as($node, $database, 'postgres', "SELECT invite_sync.unguard_trigger('when in $_->[0]')") for @when;
	is(value($node, $database, $defined), $definitions, "and have it again when unguarded, $database");
}

$node->stop;
done_testing();
