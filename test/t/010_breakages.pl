# Whatever happens to a target, signups, changes and deletions of the auth
# server go on, other targets stay in step, and nothing is lost.
#
# Each file of test/breakages/ is one way to break a target; its header says
# what has to be found in quarantine (test/breakages/README.md). What takes more
# than SQL files can say follows below as a piece of Perl.
#
# BREAKAGES=name,name    runs only these
# BREAKAGES_PLAIN=1      the control group: a hand-written trigger in place of
#                        invite_sync, which must fail with the same SQLSTATE
# BREAKAGES_WORKERS=n    how many are run at a time

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Basename qw(basename);
use InviteSyncTest qw(new_cluster prepare_database new_database session run_as
  signup_sql change_email_sql delete_user_sql differences slurp);
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $plain = $ENV{BREAKAGES_PLAIN};
my $workers = $ENV{BREAKAGES_WORKERS} || 3;
my $bound = 3;    # seconds that a statement of the auth server may take
my $template = 'breakage_template';
my $node;

# The people of every case.
my %user;
{
	my %id = (
		kept => 'a0',       # nothing happens to this one
		changed => 'a1',    # changes the address
		left => 'a2',       # is deleted
		early => 'a3',      # signs up on the open connection before the breakage
		new => 'f0',        # signs up on a fresh connection
		warm => 'f1',       # signs up on the open connection
		mended => 'f2');    # signs up on the open connection after the mend
	for my $name (keys %id)
	{
		my ($half, $digit) = split //, $id{$name};
		$user{$name} = {
			id => ($half eq 'a' ? '1' : 'f') . "000000$digit-0000-4000-8000-000000000000",
			email => "$name\@example.com"
		};
	}
	$user{changed}{email} = 'changes@example.com';
}
my %name_of = map { $user{$_}{id} => $_ } keys %user;
my $changed_email = 'changed@example.com';

my $standard_target = <<'SQL';
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY %s,
	email text,
	full_name text,
	created_at timestamptz
);
SQL
my %standard_mapping = (
	email => 'email',
	full_name => q{raw_user_meta_data->>'full_name'},
	created_at => 'created_at');
my %healthy = (
	target => 'public.members',
	key => 'user_id',
	mapping => {
		email => 'email',
		full_name => q{raw_user_meta_data->>'full_name'} });

# ---------------------------------------------------------------------------
# What a worker finds out is recorded, and reported by the parent in order.

package Findings;

sub new { return bless { findings => [], slowest => [ 0, '' ] }, shift }

sub slow
{
	my ($self, $seconds, $what) = @_;
	$self->{slowest} = [ $seconds, $what ] if $seconds > $self->{slowest}[0];
	return;
}

sub ok
{
	my ($self, $ok, $name, $detail) = @_;
	push @{ $self->{findings} }, [ $ok ? 1 : 0, $name, $ok ? undef : $detail ];
	return $ok;
}

sub is
{
	my ($self, $got, $expected, $name) = @_;
	$got = '(undef)' unless defined $got;
	return $self->ok($got eq $expected, $name,
		"     got: $got\nexpected: $expected");
}

package main;

# ---------------------------------------------------------------------------
# Reading test/breakages/*.sql

sub read_case
{
	my ($path) = @_;
	my %case = (name => basename($path, '.sql'), section => {});
	my $section;

	for my $line (split /^/m, slurp($path))
	{
		if ($line =~ /^-- @(\w+)(?: (plain))?(?: as (\w+))?$/)
		{
			$section = { sql => '', role => $3 };
			$case{section}{ $2 ? "$1 $2" : $1 } = $section;
		}
		elsif ($section)
		{
			$section->{sql} .= $line;
		}
		elsif ($line =~ /^-- (\w+): (.*)$/)
		{
			$case{$1} = $2;
		}
		elsif ($line =~ /\S/)
		{
			die "$path: neither header nor section: $line";
		}
	}
	for my $required (qw(breakage quarantine))
	{
		die "$path: no '$required'" unless defined $case{$required};
	}
	for my $json (qw(mapping mapping_after columns columns_mended))
	{
		$case{$json} = decode_json($case{$json}) if $case{$json};
	}
	return complete_case(%case);
}

# A case that was not read from a file has the same defaults.
sub complete_case
{
	my (%case) = @_;
	$case{section} ||= {};
	$case{quarantine} ||= 'nothing';
	$case{target} ||= 'public.profiles';
	$case{key} ||= 'id';
	$case{on_delete} ||= 'none';
	$case{fk} ||= 'REFERENCES auth.users (id) ON DELETE CASCADE';
	$case{fk} = '' if $case{fk} eq 'none';
	$case{expect} = read_expectation($case{quarantine});
	$case{expect_plain} = read_expectation(
		defined $case{plain} && $case{plain} !~ /^skip/
		? $case{plain}
		: $case{quarantine});
	return \%case;
}

# "insert 42703, update 42703|-, delete 23503 x 3": per action the SQLSTATEs
# that are right ("any": all, "-": none is right too) and, where the statement
# of the case is about other users than ours, how many of them.
sub read_expectation
{
	my ($text) = @_;
	my %expect;
	return \%expect if $text eq 'nothing' || $text eq 'whatever';
	for my $item (split /,\s*/, $text)
	{
		$item =~ /^(insert|update|delete) (\S+)(?: x (\d+))?$/
		  or die "what is to be expected of '$item'?";
		$expect{$1} = { sqlstate => $2, number => $3 };
	}
	return \%expect;
}

sub sqlstate_fits
{
	my ($sqlstate, $expected) = @_;
	return 1 if $expected eq 'any' && $sqlstate ne '-';
	return scalar grep { $_ eq $sqlstate } split /\|/, $expected;
}

# ---------------------------------------------------------------------------
# The control group: what people write by hand

sub plain_trigger_sql
{
	my ($admin, $target, $key, $mapping, $on_delete) = @_;
	my (@columns, @expressions, @settings);
	(my $name = "plain_$target") =~ s/\W/_/g;

	for my $column (sort keys %$mapping)
	{
		my $type = $admin->must(
			"SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = '$target'::regclass AND attname = '$column'");
		push @columns, $column;
		push @expressions, "($mapping->{$column})::$type AS $column";
		push @settings, "$column = s.$column";
	}
	my $owner = $admin->must("SELECT relowner::regrole FROM pg_class WHERE oid = '$target'::regclass");
	my $columns = join ', ', @columns;
	my $expressions = join ', ', @expressions;
	my $settings = join ', ', @settings;
	my $gone =
	  $on_delete eq 'delete' ? "DELETE FROM $target WHERE $key = OLD.id;"
	  : $on_delete eq 'deactivate' ? "UPDATE $target SET is_active = false, deactivated_at = now() WHERE $key = OLD.id;"
	  : 'NULL;';

	return <<"SQL";
CREATE FUNCTION public.$name() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, extensions AS \$\$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO $target ($key, $columns)
		SELECT users.id, $expressions FROM (SELECT NEW.*) users;
	ELSIF TG_OP = 'UPDATE' THEN
		UPDATE $target t SET $settings FROM (SELECT users.id AS the_user, $expressions FROM (SELECT NEW.*) users) s WHERE t.$key = s.the_user;
	ELSE
		$gone
	END IF;
	RETURN NULL;
END \$\$;
ALTER FUNCTION public.$name() OWNER TO $owner;
CREATE TRIGGER ${name}_1 AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.$name();
CREATE TRIGGER ${name}_2 AFTER UPDATE ON auth.users FOR EACH ROW
	WHEN (OLD.email IS DISTINCT FROM NEW.email) EXECUTE FUNCTION public.$name();
CREATE TRIGGER "A${name}_3" AFTER DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.$name();
SQL
}

# ---------------------------------------------------------------------------
# A database with a target that will break and a healthy one, in step

package Stage;

sub new
{
	my ($class, $findings, $case, $order) = @_;
	(my $dbname = "$case->{name}_$order") =~ s/\W/_/g;
	my $self = bless {
		findings => $findings, case => $case, dbname => $dbname,
		session => {}, mapping => $case->{mapping} || {%standard_mapping}
	}, $class;
	$self->{mapping} = {
		map { $_ => ref $self->{mapping}{$_} ? $self->{mapping}{$_}{value} : $self->{mapping}{$_} }
		  keys %{ $self->{mapping} } };

	main::new_database($node, $dbname, $template);
	$self->run('prelude', 'supabase_admin');
	$self->owner->must($case->{section}{target}
		? $case->{section}{target}{sql}
		: sprintf $standard_target, $case->{fk});
	$self->owner->must(<<'SQL');
CREATE TABLE public.members (
	user_id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text,
	full_name text
);
SQL
	$self->run('setup', 'postgres');

	my @attach = (
		[ $case->{target}, $case->{key}, $self->{mapping}, $case->{on_delete} ],
		[ @healthy{qw(target key mapping)}, 'none' ]);
	for my $target ($order eq 'broken first' ? @attach : reverse @attach)
	{
		$self->attach(@$target);
	}

	$self->{warm} = $self->connect('supabase_auth_admin');
	for my $name (qw(kept changed left early))
	{
		$self->{warm}->must($self->signup($name));
	}
	$findings->is($self->differences, '', 'the target is in step before the breakage');
	$findings->is($self->healthy_differences, '', 'and the healthy one');
	if (my $prepare = $case->{section}{prepare})
	{
		$self->{warm}->must($prepare->{sql});
	}
	return $self;
}

sub attach
{
	my ($self, $target, $key, $mapping, $on_delete) = @_;
	if ($plain)
	{
		$self->admin->must(main::plain_trigger_sql($self->admin, $target, $key, $mapping, $on_delete));
		return;
	}
	(my $arguments = $target) =~ s/'/''/g;
	$arguments = "'$arguments'";
	if ($target eq $self->{case}{target})
	{
		$arguments .= ", on_delete => '$on_delete'" if $on_delete ne 'none';
		if ($self->{case}{mapping})
		{
			(my $json = JSON::PP->new->canonical->encode($self->{case}{mapping})) =~ s/'/''/g;
			$arguments .= ", mapping => '$json'";
		}
		$arguments .= ", key => '$key'" if $key ne 'id';
		$arguments .= ", $self->{case}{add_target}" if $self->{case}{add_target};
	}
	$self->owner->must("SELECT * FROM invite_sync.add_target($arguments);");
	return;
}

sub connect
{
	my ($self, $role) = @_;
	my $session = main::session($node, $self->{dbname}, $role);
	my $variables = '';
	for my $name (sort keys %user)
	{
		$variables .= "\\set $name '$user{$name}{id}'\n\\set ${name}_email '$user{$name}{email}'\n";
	}
	$session->must("$variables\\set changed_email '$changed_email'\n");
	return $session;
}

sub admin { my ($self) = @_; return $self->{session}{supabase_admin} ||= $self->connect('supabase_admin') }
sub owner { my ($self) = @_; return $self->{session}{postgres} ||= $self->connect('postgres') }

# A section of the case's file, as its role.
sub run
{
	my ($self, $name, $role) = @_;
	my $section = ($plain && $self->{case}{section}{"$name plain"}) || $self->{case}{section}{$name};
	return unless $section;
	$role = $section->{role} || $role;
	$self->{session}{$role} ||= $self->connect($role);
	return $self->{session}{$role}->must($section->{sql});
}

sub signup
{
	my ($self, $name) = @_;
	my $case = $self->{case};
	my %columns;
	if ($name =~ /^(?:new|warm|mended)$/)
	{
		%columns = %{ $case->{columns} || {} };
		%columns = (%columns, %{ $case->{columns_mended} || {} }) if $name eq 'mended';
		if ($case->{long_name})
		{
			# incompressible, and the same in every run
			require Digest::MD5;
			my $long = join '', map { Digest::MD5::md5_hex($name . $_) } 1 .. 300;
			$columns{raw_user_meta_data} = JSON::PP::encode_json({ full_name => $long });
		}
	}
	return main::signup_sql(
		%{ $user{$name} },
		columns => \%columns,
		without => $self->{broken} && $case->{without} ? [ split /,\s*/, $case->{without} ] : [],
		bare => ($case->{signup} || '') eq 'bare',
		first => $self->{broken} && $case->{transaction});
}

sub differences
{
	my ($self, $after) = @_;
	my $case = $self->{case};
	my %mapping = %{ $self->{mapping} };
	%mapping = %{ $case->{mapping_after} } if $after && $case->{mapping_after};
	if ($after && $case->{compare})
	{
		my %compare = map { $_ => 1 } split /,\s*/, $case->{compare};
		delete $mapping{$_} for grep { !$compare{$_} } keys %mapping;
	}
	return main::differences($self->admin,
		target => $after && !$plain && $case->{target_after} || $case->{target},
		key => $case->{key}, mapping => \%mapping, orphans => $case->{orphans});
}

sub healthy_differences
{
	my ($self) = @_;
	return main::differences($self->admin, %healthy);
}

sub close
{
	my ($self) = @_;
	$_->close for grep { defined } values %{ $self->{session} }, @$self{qw(warm fresh hold)};
	return;
}

package main;

# ---------------------------------------------------------------------------
# Quarantine

# The rows, each as { user, action, sqlstate, ... }; "others" for users that are
# none of ours.
sub quarantine_rows
{
	my ($stage) = @_;
	my $answer = $stage->owner->must(<<'SQL');
SELECT json_build_object('user', user_id, 'action', action, 'sqlstate', sqlstate, 'target', target,
	'message', message, 'detail', detail, 'context', context, 'attempts', attempts, 'replayable', replayable,
	'due', next_retry_at IS NOT NULL, 'seen', first_failed_at <= last_failed_at)
FROM invite_sync.quarantine ORDER BY id
SQL
	my @rows = map { decode_json($_) } split /\n/, $answer;
	$_->{user} = $name_of{ $_->{user} } || 'others' for @rows;
	return @rows;
}

# "new insert 42703, warm insert 42703, ..." of what is there, in a fixed order.
sub summary
{
	my (@rows) = @_;
	my %count;
	$count{"$_->{user} $_->{action} $_->{sqlstate}"}++ for @rows;
	return join ', ', map { $count{$_} > 1 ? "$_ x $count{$_}" : $_ } sort keys %count;
}

sub check_quarantine
{
	my ($findings, $stage) = @_;
	my $case = $stage->{case};
	my $expect = $case->{expect};
	my @rows = quarantine_rows($stage);

	return scalar @rows if $case->{quarantine} eq 'whatever';
	my (%found, @wrong);

	$found{"$_->{action} $_->{user}"}{ $_->{sqlstate} }++ for @rows;

	# whom each action was about
	my @wanted;
	for my $action (qw(insert update delete))
	{
		my $e = $expect->{$action};
		my %subject = (insert => 'new', update => 'changed', delete => 'left');
		if ($e && $e->{number})
		{
			push @wanted, [ $action, 'others', $e->{sqlstate}, $e->{number} ];
		}
		else
		{
			push @wanted, [ $action, $subject{$action}, $e ? $e->{sqlstate} : '-', 1 ];
			push @wanted, [ $action, 'others', '-', 1 ];
		}
	}
	my $warm =
	    $case->{warm}
	  ? read_expectation($case->{warm})->{insert}
	  : $expect->{insert};
	push @wanted, [ 'insert', 'warm', $warm ? $warm->{sqlstate} : '-', 1 ];

	for my $wanted (@wanted)
	{
		my ($action, $who, $sqlstate, $number) = @$wanted;
		my $got = delete $found{"$action $who"} || { '-' => $number };
		my @states = keys %$got;
		push @wrong, "$action of $who: expected $sqlstate x $number"
		  unless @states == 1 && sqlstate_fits($states[0], $sqlstate) && $got->{ $states[0] } == $number;
	}
	push @wrong, "unexpected: $_" for sort keys %found;
	$findings->ok(!@wrong, "quarantine: $case->{quarantine}",
		join("\n", @wrong) . "\nfound: " . (summary(@rows) || 'nothing'));

	my @odd = grep {
		$_->{target} ne $case->{target} && $_->{target} ne ($case->{target_after} || '') || !length $_->{message} || $_->{attempts} < 1
		  || !$_->{replayable} || !$_->{due} || !$_->{seen}
		  || length($_->{context} || '') > 1024
		  || join(' ', map { $_ || '' } @$_{qw(detail context)}) =~ /Failing row contains|\@example\.com/
	} @rows;
	$findings->ok(!@odd, 'its rows are complete and show nothing of the users\' data',
		@odd ? encode_json($odd[0]) : '');
	return scalar @rows;
}

# ---------------------------------------------------------------------------
# One statement of the auth server

sub auth_server
{
	my ($findings, $stage, $session, $what, $sql) = @_;
	my $result = $session->query($sql);

	$findings->slow($result->{elapsed}, $what);
	$findings->ok($result->{ok}, "$what succeeds", $result->{stderr});
	$findings->ok($result->{elapsed} < $bound, "$what takes less than $bound s",
		sprintf '%.2f s', $result->{elapsed});
	$findings->is($stage->healthy_differences, '', "$what: the healthy target is in step");

	# the messages that go to the client are those that go to the log
	my @telling = grep { /\@example\.com|Somebody New/ } @{ $result->{warnings} };
	$findings->ok(!@telling, "$what: no WARNING shows anything of the row", join "\n", @telling);
	return $result;
}

sub settings
{
	my ($session) = @_;
	my $answer = $session->must(<<'SQL');
SELECT name || ' = ' || setting FROM pg_settings
WHERE name NOT IN ('transaction_isolation', 'application_name') AND name !~ '^(plpgsql|invite_sync|request)\.'
UNION ALL SELECT 'current_user = ' || current_user
SQL
	return map { split / = /, $_, 2 } split /\n/, $answer;
}

# ---------------------------------------------------------------------------
# A case from a file

sub run_case
{
	my ($findings, $case, $order) = @_;
	my $stage = Stage->new($findings, $case, $order);
	my $section = $case->{section};

	$stage->run('break', 'postgres');
	$stage->{broken} = 1;
	if ($section->{hold})
	{
		$stage->{hold} = $stage->connect($section->{hold}{role} || 'postgres');
		$stage->{hold}->must("BEGIN;\n$section->{hold}{sql}");
	}
	my $fresh = $stage->{fresh} = $stage->connect('supabase_auth_admin');
	$fresh->must($section->{auth}{sql}) if $section->{auth};
	my %before = settings($fresh);

	my %sql = (
		insert => $stage->signup('new'),
		update => change_email_sql($user{changed}{id}, $changed_email),
		delete => delete_user_sql($user{left}{id}));
	for my $action (qw(insert update delete))
	{
		$sql{$action} = "BEGIN;\n$section->{$action}{sql}\nCOMMIT;\n" if $section->{$action};
	}

	if ($case->{transaction})
	{
		$sql{$_} =~ s/BEGIN;\n/BEGIN;\n$case->{transaction};\n/ for qw(update delete);
	}

	return run_plain($findings, $stage, \%sql) if $plain;

	my $result = auth_server($findings, $stage, $fresh, 'INSERT', $sql{insert});
	my $e = $case->{expect}{insert};
	$findings->ok(scalar(grep { /$e->{sqlstate}/ || $e->{sqlstate} eq 'any' } @{ $result->{warnings} }),
		'INSERT: a WARNING names the SQLSTATE', $result->{stderr})
	  if $e && $e->{sqlstate} !~ /\|/;
	auth_server($findings, $stage, $stage->{warm}, 'INSERT on the open connection', $stage->signup('warm'));
	auth_server($findings, $stage, $fresh, 'UPDATE', $sql{update});
	auth_server($findings, $stage, $fresh, 'DELETE', $sql{delete});

	my %after = settings($fresh);
	my @changed = grep { !defined $after{$_} || $after{$_} ne $before{$_} } sort keys %before;
	$findings->ok(!@changed, 'the settings of the session are as before',
		join "\n", map { "$_: $after{$_} instead of $before{$_}" } @changed);
	$findings->is($stage->run('check', 'supabase_admin') || '', '', 'what else the case checks')
	  if $section->{check};

	my $rows = check_quarantine($findings, $stage);

	if ($stage->{hold})
	{
		$stage->{hold}->must('ROLLBACK');
	}
	$stage->run('mend', 'postgres') if $section->{mend};

	auth_server($findings, $stage, $stage->{warm}, 'INSERT after the mend', $stage->signup('mended'));
	$findings->is(summary(grep { $_->{user} eq 'mended' } quarantine_rows($stage)), '',
		'INSERT after the mend: nothing goes to quarantine');

	# the mend may have resolved some
	$rows = quarantine_rows($stage) if $rows;
	if ($rows)
	{
		my ($retried, $resolved, $failed, $rounds) = (0, 0, 0, 0);
		while ($rounds++ < 20)
		{
			my $answer = $stage->owner->must(
				"SELECT retried || ' ' || resolved || ' ' || failed FROM invite_sync.retry_quarantine(due_only => false)");
			my @numbers = split / /, $answer;
			$retried += $numbers[0];
			$resolved += $numbers[1];
			$failed += $numbers[2];
			last if $numbers[1] == 0;
		}
		$findings->is("$resolved resolved, $failed failed", "$rows resolved, 0 failed",
			'retry_quarantine() resolves everything');
	}
	$findings->is(summary(quarantine_rows($stage)), '', 'quarantine is empty');
	$findings->is($stage->differences(1), '', 'the target equals auth.users, column by column');
	$findings->is($stage->healthy_differences, '', 'so does the healthy one');
	$findings->is($stage->run('finally', 'supabase_admin') || '', '', 'what the case checks in the end')
	  if $section->{finally};
	$stage->close;
	return;
}

# The same with the hand-written trigger: what is broken must be seen to break.
sub run_plain
{
	my ($findings, $stage, $sql) = @_;
	my $case = $stage->{case};
	my %failed;

	# it would wait for ever
	$stage->{fresh}->must("SET lock_timeout = '300ms'");
	for my $action (qw(insert update delete))
	{
		my $result = $stage->{fresh}->query($sql->{$action});
		$stage->{fresh}->query('ROLLBACK') unless $result->{ok};
		my $e = $case->{expect_plain}{$action};
		my $got = $result->{ok} ? '-' : $result->{sqlstate};
		$findings->ok(sqlstate_fits($got, $e ? $e->{sqlstate} : '-'),
			"plain trigger: $action: " . ($e ? $e->{sqlstate} : 'succeeds'),
			"got: $got $result->{message}");
		$failed{$action} = !$result->{ok};
	}
	my $text = $case->{plain_warm} || $case->{warm};
	my $warm = $text ? read_expectation($text)->{insert} : $case->{expect_plain}{insert};
	$stage->{warm}->must("SET lock_timeout = '300ms'");
	my $result = $stage->{warm}->query($stage->signup('warm'));
	$stage->{warm}->query('ROLLBACK') unless $result->{ok};
	my $got = $result->{ok} ? '-' : $result->{sqlstate};
	$findings->ok(sqlstate_fits($got, $warm ? $warm->{sqlstate} : '-'),
		'plain trigger: insert on the open connection: ' . ($warm ? $warm->{sqlstate} : 'succeeds'),
		"got: $got $result->{message}");

	$stage->{hold}->must('ROLLBACK') if $stage->{hold};
	$stage->run('mend', 'postgres');
	for my $action (qw(insert update delete))
	{
		next unless $failed{$action};
		my $again = $action eq 'insert' && $case->{columns_mended} ? $stage->signup('mended') : $sql->{$action};
		my $result = $stage->{fresh}->query($again);
		$findings->ok($result->{ok}, "plain trigger: $action succeeds after the mend", $result->{stderr});
	}
	$findings->is($stage->differences(1), '', 'plain trigger: the target equals auth.users after the mend')
	  unless $case->{plain_loses};
	$stage->close;
	return;
}


# ---------------------------------------------------------------------------
# Cases that take more than SQL files can say. Each gets its Findings and a name
# for its database.

my @special;

sub special
{
	my ($name, $title, $run) = @_;
	push @special, { key => $name, name => "$name: $title", run => sub { $run->($_[0], $name) } };
	return;
}

sub stage
{
	my ($findings, $name, %case) = @_;
	my $order = delete $case{order} || 'broken first';
	return Stage->new($findings, complete_case(name => $name, %case), $order);
}

sub retry
{
	my ($session) = @_;
	return $session->must(
		"SELECT format('%s retried, %s resolved, %s failed', retried, resolved, failed) FROM invite_sync.retry_quarantine(due_only => false)");
}

special 'deadlock', 'an application transaction and the auth server wait for each other' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name);
	my $application = $stage->owner;
	my $auth = $stage->connect('supabase_auth_admin');

	$application->must("BEGIN; UPDATE public.profiles SET full_name = full_name WHERE id = :'changed'");
	$auth->must("BEGIN; UPDATE users SET updated_at = now() WHERE id = :'kept'");
	$application->send("UPDATE auth.users SET updated_at = now() WHERE id = :'kept'");
	$stage->admin->must(<<'SQL');
DO $$ BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE auth.users%' AND datname = current_database()) LOOP
		PERFORM pg_sleep(0.02);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END $$
SQL
	# it has looked for a deadlock, found none, and does not look again
	sleep 0.4;

	my $result = $auth->query("UPDATE users SET email = '$changed_email' WHERE id = :'changed'; COMMIT;");
	$findings->ok($result->{ok}, 'the auth server\'s transaction succeeds', $result->{stderr});
	$findings->ok($result->{elapsed} < $bound, "in less than $bound s", "$result->{elapsed} s");
	$result = $application->wait;
	$findings->ok($result->{ok}, 'so does the application\'s', $result->{stderr});
	$application->must('COMMIT');
	$findings->is($stage->healthy_differences, '', 'the healthy target is in step');
	$findings->is(summary(quarantine_rows($stage)), 'changed update 40P01', 'quarantine');
	$findings->is(retry($application), '1 retried, 1 resolved, 0 failed', 'retry_quarantine()');
	$findings->is(summary(quarantine_rows($stage)), '', 'quarantine is empty');
	$findings->is($stage->differences, '', 'the target equals auth.users');
	$auth->close;
	$stage->close;
};

special 'quarantine_locked', 'even quarantine cannot be written: the signup goes on, and the user is found missing' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name);
	my $fresh = $stage->connect('supabase_auth_admin');
	my $holder = $stage->connect('supabase_admin');

	my $tables = $stage->admin->must(<<'SQL');
SELECT string_agg(DISTINCT c.oid::regclass::text, ', ')
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = d.refobjid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
	AND r.ev_class = 'invite_sync.quarantine'::regclass AND c.relkind = 'r' AND c.relname LIKE 'quarantine%'
SQL
	$findings->ok($tables ne '', 'the table behind the view is found', 'none') or return;
	$stage->owner->must('ALTER TABLE public.profiles ADD COLUMN plan text NOT NULL DEFAULT \'free\'; ALTER TABLE public.profiles ALTER COLUMN plan DROP DEFAULT;');
	$holder->must("BEGIN; LOCK TABLE $tables IN ACCESS EXCLUSIVE MODE");

	my $result = auth_server($findings, $stage, $fresh, 'INSERT', $stage->signup('new'));
	$findings->ok(scalar @{ $result->{warnings} }, 'INSERT: there is a WARNING', $result->{stderr});
	auth_server($findings, $stage, $fresh, 'UPDATE', change_email_sql($user{changed}{id}, $changed_email));
	auth_server($findings, $stage, $fresh, 'DELETE', delete_user_sql($user{left}{id}));
	$holder->must('ROLLBACK');

	$findings->is(summary(quarantine_rows($stage)), '', 'quarantine knows nothing');
	$findings->is($stage->owner->must("SELECT missing FROM invite_sync.sync_status() WHERE target::text ~ 'profiles'"),
		'1', 'sync_status() does');
	$stage->owner->must('ALTER TABLE public.profiles ALTER COLUMN plan SET DEFAULT \'free\'');
	$stage->owner->must('SELECT FROM invite_sync.sync_users()');
	$findings->is($stage->differences, '', 'sync_users() brings the target in step');
	$_->close for $fresh, $holder;
	$stage->close;
};

# A trigger of the target that raises what public.next_error says.
my $raise_as_told = <<'SQL';
CREATE TABLE public.next_error (action text, code text);
CREATE FUNCTION public.raise_as_told() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	told text := (SELECT code FROM public.next_error WHERE action = TG_OP);
BEGIN
	IF told IS NOT NULL THEN
		RAISE EXCEPTION 'as told' USING ERRCODE = told;
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER raise_as_told BEFORE INSERT OR UPDATE OR DELETE ON public.profiles
	FOR EACH ROW EXECUTE FUNCTION public.raise_as_told();
SQL

special 'errors_that_pass', 'cancel, shutdown, serialization failure, lack of resources and corruption are not contained' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, fk => 'none', on_delete => 'delete');
	my $auth = $stage->connect('supabase_auth_admin');
	my $number = 0;

	$stage->owner->must($raise_as_told);
	for my $code (qw(57014 57P01 57P02 57P03 57P04 57P05 40001 53200 53100 58030 XX001 XX002))
	{
		# somebody else each time, so that one that is contained by mistake does
		# not show as another error
		$number++;
		my %person = (
			id => sprintf('e0000000-0000-4000-8000-%012d', $number),
			email => "passing$number\@example.com");
		my %other = (id => sprintf('e0000001-0000-4000-8000-%012d', $number), email => "other$number\@example.com");
		my %action = (
			INSERT => signup_sql(%person),
			UPDATE => change_email_sql($other{id}, "x$other{email}"),
			DELETE => delete_user_sql($other{id}));

		$stage->owner->must('TRUNCATE public.next_error');
		$auth->must(signup_sql(%other));
		for my $action (qw(INSERT UPDATE DELETE))
		{
			$stage->owner->must("TRUNCATE public.next_error; INSERT INTO public.next_error VALUES ('$action', '$code')");
			my $result = $auth->query($action{$action});
			$findings->is($result->{sqlstate}, $code, "$code fails the $action");
		}
	}
	$findings->is(summary(quarantine_rows($stage)), '', 'nothing is in quarantine');
	$stage->owner->must('TRUNCATE public.next_error');
	auth_server($findings, $stage, $auth, 'INSERT afterwards', $stage->signup('new'));
	auth_server($findings, $stage, $auth, 'UPDATE afterwards', change_email_sql($user{changed}{id}, $changed_email));
	auth_server($findings, $stage, $auth, 'DELETE afterwards', delete_user_sql($user{left}{id}));
	$findings->is($stage->differences, '', 'the target is in step');
	$auth->close;
	$stage->close;
};

special 'errors_that_are_contained', 'deadlock, internal error, assertion, stack depth, lock timeout and all others are' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, fk => 'none', on_delete => 'delete');
	my $auth = $stage->connect('supabase_auth_admin');
	my $number = 0;

	$stage->owner->must($raise_as_told);
	for my $code (qw(40P01 XX000 P0004 54001 55P03 40000 40002 40003 53000 53300 53400 57000 57P06 58000 58P01 58P02
		F0000 25P02 25006 08006 0A000 2D000 23505 23503 42P01 42703 42P10 P0001 P0002 PT403 ZZ999 01000))
	{
		my %person = (
			id => sprintf('e0000000-0000-4000-8000-%012d', ++$number),
			email => "contained$number\@example.com");
		$stage->owner->must("TRUNCATE public.next_error; INSERT INTO public.next_error VALUES ('INSERT', '$code'), ('UPDATE', '$code'), ('DELETE', '$code')");
		my $result = $auth->query(signup_sql(%person));
		$findings->is($result->{sqlstate}, '00000', "$code does not fail an INSERT");
		$findings->is($stage->owner->must("SELECT string_agg(action || ' ' || sqlstate, ', ') FROM invite_sync.quarantine WHERE user_id = '$person{id}'"),
			"insert $code", "$code is in quarantine");
	}
	$stage->owner->must("TRUNCATE public.next_error; INSERT INTO public.next_error VALUES ('UPDATE', '40P01'), ('DELETE', 'XX000')");
	auth_server($findings, $stage, $auth, 'UPDATE', change_email_sql($user{changed}{id}, $changed_email));
	auth_server($findings, $stage, $auth, 'DELETE', delete_user_sql($user{left}{id}));
	$stage->owner->must('TRUNCATE public.next_error');
	my $all = $number + 2;
	$findings->is(retry($stage->owner), "$all retried, $all resolved, 0 failed", 'retry_quarantine()');
	$findings->is($stage->differences, '', 'the target is in step');
	$findings->is($stage->healthy_differences, '', 'so is the healthy one');
	$auth->close;
	$stage->close;
};

special 'cancel', 'statement_timeout and a cancel request reach the auth server; its own lock_timeout is kept' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, fk => 'none', on_delete => 'delete');
	my $auth = $stage->connect('supabase_auth_admin');

	$stage->owner->must(<<'SQL');
CREATE FUNCTION public.doze() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(10);
	RETURN NEW;
END $$;
CREATE TRIGGER doze BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.doze();
SQL
	my $result = $auth->query("SET statement_timeout = '300ms';" . $stage->signup('new'));
	$findings->is($result->{sqlstate}, '57014', 'statement_timeout during a trigger of the target');
	$findings->ok($result->{elapsed} < 2, 'ends it in time', "$result->{elapsed} s");
	$auth->must('RESET statement_timeout');

	my $pid = $auth->must('SELECT pg_backend_pid()');
	$auth->send($stage->signup('new'));
	sleep 0.3;
	$stage->admin->must("SELECT pg_cancel_backend($pid)");
	$result = $auth->wait;
	$findings->is($result->{sqlstate}, '57014', 'a cancel request during a trigger of the target');
	$findings->ok($result->{elapsed} < 2, 'ends it at once', "$result->{elapsed} s");
	$stage->owner->must('DROP TRIGGER doze ON public.profiles');

	my $hold = $stage->connect('postgres');
	$hold->must('BEGIN; LOCK TABLE public.profiles IN ACCESS EXCLUSIVE MODE');
	$result = $auth->query("SET statement_timeout = '300ms';" . $stage->signup('new'));
	$findings->is($result->{sqlstate}, '57014', 'statement_timeout while waiting for a lock on the target');
	$auth->must('RESET statement_timeout');
	$findings->is(summary(quarantine_rows($stage)), '', 'nothing is in quarantine');

	$auth->must("SET lock_timeout = '100ms'");
	$result = auth_server($findings, $stage, $auth, 'INSERT', $stage->signup('new'));
	$findings->ok($result->{elapsed} < 0.8, 'a lock_timeout of the session shorter than ours is kept', "$result->{elapsed} s");
	$findings->is($auth->must('SHOW lock_timeout'), '100ms', 'and still set');
	$auth->must("SET lock_timeout = '30s'");
	$result = auth_server($findings, $stage, $auth, 'UPDATE', change_email_sql($user{changed}{id}, $changed_email));
	$findings->ok($result->{elapsed} > 0.8, 'a longer one is not', "$result->{elapsed} s");
	$findings->is($auth->must('SHOW lock_timeout'), '30s', 'and still set');
	$findings->is(summary(quarantine_rows($stage)), 'changed update 55P03, new insert 55P03', 'both are in quarantine');
	$_->close for $hold, $auth;
	$findings->is(retry($stage->owner), '2 retried, 2 resolved, 0 failed', 'retry_quarantine()');
	$findings->is($stage->differences, '', 'the target is in step');
	$stage->close;
};

special 'on_error_raise', 'the owner of a target may prefer that the signup fails' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, add_target => q{on_error => 'raise'}, order => 'healthy first');
	my $auth = $stage->connect('supabase_auth_admin');

	$stage->owner->must($raise_as_told);
	$stage->owner->must("INSERT INTO public.next_error VALUES ('INSERT', 'AP001'), ('UPDATE', '40P01')");
	$findings->is($auth->query($stage->signup('new'))->{sqlstate}, 'AP001', 'INSERT fails with the SQLSTATE of the trigger');
	$findings->is($auth->query(change_email_sql($user{changed}{id}, $changed_email))->{sqlstate}, '40P01', 'so does UPDATE');
	$findings->is(summary(quarantine_rows($stage)), '', 'nothing is in quarantine');
	$findings->is($stage->differences, '', 'the target is in step');
	$findings->is($stage->healthy_differences, '', 'so is the healthy one');
	$stage->owner->must('TRUNCATE public.next_error');
	auth_server($findings, $stage, $auth, 'INSERT', $stage->signup('new'));
	$findings->is($stage->differences, '', 'the target is in step afterwards');
	$auth->close;
	$stage->close;
};

special 'whose_rights', 'code of the target runs as its owner and under restricted operation, whoever caused it' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, fk => 'none', on_delete => 'delete',
		section => { setup => { role => 'supabase_admin', sql => <<'SQL' } });
ALTER TABLE public.profiles OWNER TO breakage_owner;
CREATE TABLE public.numbers (n int PRIMARY KEY);
CREATE TABLE public.deferring (n int REFERENCES public.numbers DEFERRABLE INITIALLY DEFERRED);
INSERT INTO public.numbers VALUES (1);
CREATE TABLE public.witness (
	id bigint GENERATED ALWAYS AS IDENTITY, action text, by_whom text, session text, superuser boolean,
	set_role text, set_session text, temporary text, deferred text, path text, timeout text
);
GRANT ALL ON public.witness, public.deferring, public.numbers TO breakage_owner;
CREATE FUNCTION public.bear_witness() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	w public.witness;
BEGIN
	w.action := TG_OP;
	w.by_whom := current_user;
	w.session := session_user;
	w.superuser := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
	w.path := current_setting('search_path');
	BEGIN
		SET LOCAL ROLE breakage_owner;
	EXCEPTION WHEN OTHERS THEN
		w.set_role := SQLSTATE;
	END;
	BEGIN
		SET LOCAL SESSION AUTHORIZATION DEFAULT;
	EXCEPTION WHEN OTHERS THEN
		w.set_session := SQLSTATE;
	END;
	BEGIN
		CREATE TEMPORARY TABLE mine (n int);
	EXCEPTION WHEN OTHERS THEN
		w.temporary := SQLSTATE;
	END;
	BEGIN
		INSERT INTO public.deferring VALUES (1);
	EXCEPTION WHEN OTHERS THEN
		w.deferred := SQLSTATE;
	END;
	INSERT INTO public.witness (action, by_whom, session, superuser, set_role, set_session, temporary, deferred, path)
	VALUES (w.action, w.by_whom, w.session, w.superuser, w.set_role, w.set_session, w.temporary, w.deferred, w.path);
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER bear_witness BEFORE INSERT OR UPDATE OR DELETE ON public.profiles
	FOR EACH ROW EXECUTE FUNCTION public.bear_witness();
SQL
	my $auth = $stage->connect('supabase_auth_admin');
	my $service = $stage->connect('service_role');
	my $witness = sub {
		my ($what, $session, $sql, $action, $login) = @_;
		$stage->admin->must('TRUNCATE public.witness');
		my $result = $session->query($sql);
		$findings->ok($result->{ok}, "$what succeeds", $result->{stderr});
		$findings->is(
			$stage->admin->must('SELECT DISTINCT ROW(action, by_whom, session, superuser, set_role, set_session, temporary, deferred) FROM public.witness'),
			"($action,breakage_owner,$login,f,42501,42501,42501,42501)",
			"$what: runs as the owner, no superuser; SET ROLE, SET SESSION AUTHORIZATION, temporary tables and deferred events are refused");
		$findings->ok($stage->admin->must('SELECT bool_and(path LIKE \'pg_catalog, %\' AND path LIKE \'%pg_temp\') FROM public.witness') eq 't',
			"$what: under the search_path of the target", $stage->admin->must('SELECT path FROM public.witness LIMIT 1'));
	};

	$witness->('a signup', $auth, $stage->signup('new'), 'INSERT', 'supabase_auth_admin');
	$witness->('a change of address', $auth, change_email_sql($user{changed}{id}, $changed_email), 'UPDATE', 'supabase_auth_admin');
	$witness->('a deletion', $auth, delete_user_sql($user{left}{id}), 'DELETE', 'supabase_auth_admin');
	$witness->('a superuser\'s INSERT', $stage->admin,
		"INSERT INTO auth.users (id, email, created_at) VALUES (:'warm', :'warm_email', now())", 'INSERT', 'supabase_admin');
	$witness->('a superuser\'s UPDATE', $stage->admin,
		"UPDATE auth.users SET email = 'x' || email WHERE id = :'warm'", 'UPDATE', 'supabase_admin');

	my %road = (
		'sync_users()' => 'SELECT FROM invite_sync.sync_users()',
		'sync_all()' => 'CALL invite_sync.sync_all()',
		'ensure_user()' => "SELECT invite_sync.ensure_user(:'kept')",
		'create_profile()' => "SELECT invite_sync.create_profile(:'kept', '{}')");
	for my $road (sort keys %road)
	{
		for my $who ([ 'a superuser', $stage->admin, 'supabase_admin' ], [ 'postgres', $stage->owner, 'postgres' ],
			$road eq 'sync_all()' ? () : [ 'service_role', $service, 'authenticator' ])
		{
			$stage->admin->must("DELETE FROM public.profiles WHERE id = :'kept'");
			$witness->("$road by $who->[0]", $who->[1], $road{$road}, 'INSERT', $who->[2]);
		}
	}
	for my $who ([ 'a superuser', $stage->admin, 'supabase_admin' ], [ 'postgres', $stage->owner, 'postgres' ], [ 'service_role', $service, 'authenticator' ])
	{
		$stage->owner->must('ALTER TABLE public.profiles RENAME COLUMN email TO address');
		$auth->must("INSERT INTO users (id, email, created_at) VALUES (gen_random_uuid(), 'x' || gen_random_uuid(), now())");
		$stage->owner->must('ALTER TABLE public.profiles RENAME COLUMN address TO email');
		$witness->("retry_quarantine() by $who->[0]", $who->[1],
			'SELECT FROM invite_sync.retry_quarantine(due_only => false)', 'INSERT', $who->[2]);
	}
	$findings->is($stage->differences, '', 'the target is in step');
	$_->close for $auth, $service;
	$stage->close;
};

special 'life_of_an_entry', 'retried in vain, overtaken by an update, resolved by it, gone with its user' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name);
	my $auth = $stage->connect('supabase_auth_admin');
	my $entry = "SELECT attempts || ' ' || sqlstate FROM invite_sync.quarantine WHERE user_id = '$user{new}{id}' AND action = 'insert'";

	$stage->owner->must('ALTER TABLE public.profiles ADD COLUMN plan text NOT NULL DEFAULT \'free\'; ALTER TABLE public.profiles ALTER COLUMN plan DROP DEFAULT;');
	auth_server($findings, $stage, $auth, 'INSERT', $stage->signup($_)) for qw(new warm);
	$findings->is($stage->owner->must($entry), '1 23502', 'one attempt');
	my $due = $stage->owner->must('SELECT extract(epoch FROM max(next_retry_at - last_failed_at)) FROM invite_sync.quarantine');
	$findings->ok($due > 0 && $due <= 1, 'the next is due within a second', "$due s");
	$findings->is(retry($stage->owner), '2 retried, 0 resolved, 2 failed', 'retry_quarantine() in vain');
	$findings->is($stage->owner->must($entry), '2 23502', 'two attempts');
	retry($stage->owner) for 1 .. 6;
	my $later = $stage->owner->must('SELECT extract(epoch FROM max(next_retry_at - last_failed_at)) FROM invite_sync.quarantine');
	$findings->ok($later > 10 * $due && $later <= 3600, 'after more of them the next is due much later', "$due s, then $later s");
	$findings->is($stage->owner->must('SELECT retried FROM invite_sync.retry_quarantine()'), '0', 'and not retried before');

	auth_server($findings, $stage, $auth, 'UPDATE', change_email_sql($user{new}{id}, 'newer@example.com'));
	auth_server($findings, $stage, $auth, 'DELETE', delete_user_sql($user{warm}{id}));
	$findings->is($stage->owner->must("SELECT count(*) FROM invite_sync.quarantine WHERE user_id = '$user{warm}{id}'"), '0',
		'an entry is gone with its user');

	$stage->owner->must('ALTER TABLE public.profiles ALTER COLUMN plan SET DEFAULT \'free\'');
	auth_server($findings, $stage, $auth, 'UPDATE after the mend', change_email_sql($user{new}{id}, 'newest@example.com'));
	$findings->is($stage->differences, '', 'the target is in step without a retry');
	$findings->is(summary(quarantine_rows($stage)), '', 'and quarantine empty');
	$auth->close;
	$stage->close;
};

special 'soft_delete', 'a soft delete counts as a deletion, and its scrambled address goes nowhere' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, on_delete => 'delete');
	my $auth = $stage->connect('supabase_auth_admin');
	my $email = "SELECT email FROM public.profiles WHERE id = :'left'";

	$stage->owner->must($raise_as_told);
	$stage->owner->must("INSERT INTO public.next_error VALUES ('DELETE', 'AP001'), ('UPDATE', 'AP002')");
	my $result = $auth->query(<<'SQL');
BEGIN;
UPDATE "users" AS users SET "email" = 'd1f0', "phone" = '5c0', "encrypted_password" = '', "raw_user_meta_data" = '{}',
	"deleted_at" = now(), "updated_at" = now() WHERE users.id = :'left';
COMMIT;
SQL
	$findings->ok($result->{ok}, 'the auth server\'s transaction succeeds', $result->{stderr});
	$findings->is(summary(quarantine_rows($stage)), 'left delete AP001', 'quarantine');
	$findings->is($stage->owner->must($email), $user{left}{email}, 'the scrambled address is not synced');
	$stage->owner->must("TRUNCATE public.next_error");
	$findings->is(retry($stage->owner), '1 retried, 1 resolved, 0 failed', 'retry_quarantine()');
	$findings->is($stage->owner->must($email), '', 'the row is gone');
	$findings->is(summary(quarantine_rows($stage)), '', 'quarantine is empty');
	$findings->is($stage->owner->must("SELECT email FROM public.members WHERE user_id = :'left'"), $user{left}{email},
		'a target with on_delete none keeps row and address');
	$auth->close;
	$stage->close;
};

special 'registry_changed_meanwhile', 'a trigger of the target changes the registry that is being worked through' => sub {
	my ($findings, $name) = @_;
	for my $order ('broken first', 'healthy first')
	{
		my $stage = stage($findings, "$name $order", order => $order);
		$stage->admin->must(<<'SQL');
CREATE TABLE public.other (id uuid PRIMARY KEY, email text);
ALTER TABLE public.other OWNER TO postgres;
CREATE FUNCTION public.reconfigure() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	IF NEW.email LIKE 'warm%' THEN
		PERFORM invite_sync.drop_target('public.profiles');
	ELSE
		PERFORM invite_sync.set_target('public.profiles', on_delete => 'delete');
		PERFORM invite_sync.set_target('public.members', on_delete => 'delete');
		PERFORM invite_sync.add_target('public.other');
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER reconfigure BEFORE INSERT ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.reconfigure();
SQL
		# as superuser, whom the calls do not refuse
		my $admin = $stage->connect('supabase_admin');
		for my $who (qw(new warm mended))
		{
			my $result = $admin->query(
				"INSERT INTO auth.users (id, email, created_at, raw_user_meta_data) VALUES (:'$who', :'${who}_email', now(), '{\"full_name\": \"Somebody New\"}')");
			$findings->ok($result->{ok}, "$order: INSERT of '$who' succeeds", $result->{stderr});
			$findings->is($stage->healthy_differences, '', "$order: the healthy target is in step");
			$findings->is($stage->admin->must("SELECT string_agg(target::text, ' ' ORDER BY target::text) FROM invite_sync.target_list"),
				{ new => 'public.members public.other public.profiles', warm => 'public.members public.other', mended => 'public.members public.other' }->{$who},
				"$order: the trigger did its work");
		}
		my $auth = $stage->connect('supabase_auth_admin');
		auth_server($findings, $stage, $auth, 'UPDATE', change_email_sql($user{changed}{id}, $changed_email));
		auth_server($findings, $stage, $auth, 'DELETE', delete_user_sql($user{left}{id}));
		$_->close for $auth, $admin;
		$stage->close;
	}
};

special 'overtaken', 'an update that failed is not forgotten because a later one of another column succeeds' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name, mapping => { email => 'email', phone => 'phone' },
		section => { setup => { sql => 'ALTER TABLE public.profiles ADD COLUMN phone text;' } });
	my $auth = $stage->connect('supabase_auth_admin');

	$stage->owner->must($raise_as_told);
	$stage->owner->must("INSERT INTO public.next_error VALUES ('UPDATE', 'AP001')");
	auth_server($findings, $stage, $auth, 'UPDATE of the address', change_email_sql($user{changed}{id}, $changed_email));
	$stage->owner->must('TRUNCATE public.next_error');
	auth_server($findings, $stage, $auth, 'UPDATE of the telephone number', "UPDATE users SET phone = '15550001' WHERE id = :'changed'");
	retry($stage->owner);
	$findings->is($stage->differences, '', 'both arrive');
	$findings->is(summary(quarantine_rows($stage)), '', 'quarantine is empty');
	$auth->close;
	$stage->close;
};

special 'fill_only', 'a retry brings what changed meanwhile and overwrites nothing else' => sub {
	my ($findings, $name) = @_;
	my $stage = stage($findings, $name);
	my $auth = $stage->connect('supabase_auth_admin');

	$stage->owner->must("UPDATE public.profiles SET full_name = 'My Own Name', email = 'mine\@example.com' WHERE id IN (:'kept', :'changed')");
	$stage->owner->must($raise_as_told);
	$stage->owner->must("INSERT INTO public.next_error VALUES ('UPDATE', 'AP001')");
	auth_server($findings, $stage, $auth, 'UPDATE', change_email_sql($user{changed}{id}, $changed_email));
	# the row of this one appears while its entry waits
	$stage->owner->must("INSERT INTO public.next_error VALUES ('INSERT', 'AP001')");
	auth_server($findings, $stage, $auth, 'INSERT', $stage->signup('new'));
	$stage->owner->must("TRUNCATE public.next_error; INSERT INTO public.profiles (id, full_name) VALUES (:'new', 'Written By Hand')");
	$findings->is(summary(quarantine_rows($stage)), 'changed update AP001, new insert AP001', 'quarantine');

	$findings->is(retry($stage->owner), '2 retried, 2 resolved, 0 failed', 'retry_quarantine()');
	$findings->is($stage->owner->must("SELECT email || ', ' || full_name FROM public.profiles WHERE id = :'changed'"),
		"$changed_email, My Own Name", 'the address that changed arrives, the name stays');
	$findings->is($stage->owner->must("SELECT email || ', ' || full_name FROM public.profiles WHERE id = :'kept'"),
		'mine@example.com, My Own Name', 'who was not concerned is left alone');
	$findings->is($stage->owner->must("SELECT email || ', ' || full_name FROM public.profiles WHERE id = :'new'"),
		"$user{new}{email}, Written By Hand", 'over a row that exists only the gaps are filled');
	$auth->close;
	$stage->close;
};

# ---------------------------------------------------------------------------

my %wanted = map { $_ => 1 } split /,/, $ENV{BREAKAGES} || '';
my @jobs;

for my $path (sort glob "$FindBin::RealBin/../breakages/*.sql")
{
	my $case = read_case($path);
	next if $plain && ($case->{plain} || '') =~ /^skip/;
	# half of the cases this way, half that way, and each always the same
	my $order = $case->{order} || ('broken first', 'healthy first')[ unpack('%32C*', $case->{name}) % 2 ];
	for my $order ($order eq 'both' ? ('broken first', 'healthy first') : $order)
	{
		push @jobs, {
			key => $case->{name}, name => "$case->{name} ($order): $case->{breakage}",
			run => sub { run_case($_[0], $case, $order) } };
	}
}
push @jobs, @special unless $plain;
if (%wanted)
{
	my %known = map { $_->{key} => 1 } @jobs;
	my @unknown = grep { !$known{$_} } sort keys %wanted;
	die "no such breakage: @unknown" if @unknown;
	@jobs = grep { $wanted{ $_->{key} } } @jobs;
}

$node = new_cluster('breakages', conf => <<'CONF');
deadlock_timeout = 200ms
max_connections = 60
CONF
prepare_database($node, $template, no_extension => $plain);
$node->safe_psql($template, <<'SQL');
CREATE ROLE breakage_stranger NOLOGIN;
CREATE ROLE breakage_owner NOLOGIN;
CREATE ROLE breakage_team NOLOGIN;
GRANT breakage_owner, breakage_team TO postgres;
SQL

# The longest first, so that no worker is left alone with one at the end.
my $directory = PostgreSQL::Test::Utils::tempdir();
my @queue = sort { ($jobs[$b]{key} =~ /lock|bulk|cancel|whose/) <=> ($jobs[$a]{key} =~ /lock|bulk|cancel|whose/) || $a <=> $b } 0 .. $#jobs;
my %running;
my $started = time;
while (@queue || %running)
{
	if (@queue && keys %running < $workers)
	{
		my $job = shift @queue;
		my $pid = fork;
		die "could not fork: $!" unless defined $pid;
		if (!$pid)
		{
			my $findings = Findings->new;
			my $begun = time;
			eval { $jobs[$job]{run}->($findings); 1 }
			  or $findings->ok(0, 'the case runs to its end', $@);
			open my $fh, '>', "$directory/$job" or die "could not write: $!";
			print $fh encode_json({ %$findings, seconds => time - $begun });
			close $fh;
			POSIX::_exit(0);
		}
		$running{$pid} = $job;
		next;
	}
	my $pid = waitpid -1, 0;
	delete $running{$pid};
}

for my $job (0 .. $#jobs)
{
	subtest $jobs[$job]{name} => sub {
		my $result = -e "$directory/$job" ? decode_json(slurp("$directory/$job")) : undef;
		ok($result, 'the worker reported') or return;
		for my $finding (@{ $result->{findings} })
		{
			my ($ok, $name, $detail) = @$finding;
			ok($ok, $name) or diag($detail);
		}
		note(sprintf '%.1f s, of which %.2f s for the slowest statement of the auth server (%s)',
			$result->{seconds}, @{ $result->{slowest} });
	};
}
note(sprintf '%d cases in %.1f s', scalar @jobs, time - $started);

$node->stop('fast');
done_testing();
