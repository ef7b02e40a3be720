# What the TAP tests share: a cluster with roles and an auth schema laid out as
# Supabase does it, sessions as any role, signups as the auth server does them,
# and the comparison of a target with auth.users.
#
# Works with the PostgreSQL::Test modules of 15 to 18. A session is a psql of
# our own behind two pipes, because background_psql returned bare handles in
# early releases of 15 and an object in later ones.
package InviteSyncTest;

use strict;
use warnings;
use Errno;

use Exporter 'import';
use File::Basename qw(dirname);
use File::Spec;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT_OK = qw(
  new_cluster prepare_database new_database session run_as
  signup_sql change_email_sql delete_user_sql differences slurp fixture_path
);

my $test_dir = File::Spec->rel2abs(dirname(__FILE__) . '/..');

sub slurp
{
	my ($path) = @_;
	open my $fh, '<', $path or die "could not open $path: $!";
	local $/ = undef;
	return scalar <$fh>;
}

sub fixture_path
{
	return $ENV{INVITE_SYNC_FIXTURE} || "$test_dir/fixture/auth_schema.sql";
}

# A running cluster whose bootstrap superuser is supabase_admin, as on Supabase:
# "postgres" is an ordinary role there, made by the fixture.
sub new_cluster
{
	my ($name, %params) = @_;
	my $conf = delete $params{conf};
	my $install = delete $params{install_path};
	my $node = PostgreSQL::Test::Cluster->new($name, $install ? (install_path => $install) : ());

	$ENV{PGUSER} = 'supabase_admin';
	$node->init(%params,
		extra => [ '-U', 'supabase_admin', @{ $params{extra} || [] } ]);

	# A test cluster need not survive a crash of the machine, and its log need
	# not repeat every statement.
	$node->append_conf('postgresql.conf', <<'CONF');
log_statement = none
synchronous_commit = off
full_page_writes = off
autovacuum = off
shared_buffers = 64MB
CONF
	$node->append_conf('postgresql.conf', $conf) if $conf;
	$node->start;
	return $node;
}

# A new database with the auth schema, pgcrypto in schema extensions and
# invite_sync. It belongs to postgres, who thereby may create in public.
# options: of CREATE DATABASE.
sub prepare_database
{
	my ($node, $dbname, %params) = @_;

	$node->safe_psql('template1', qq{CREATE DATABASE "$dbname" } . ($params{options} || ''));
	$node->safe_psql($dbname, slurp(fixture_path()));
	$node->safe_psql($dbname, 'CREATE EXTENSION invite_sync')
	  unless $params{no_extension};
	return;
}

sub new_database
{
	my ($node, $dbname, $template) = @_;

	$node->safe_psql('template1',
		qq{CREATE DATABASE "$dbname" TEMPLATE "$template" OWNER postgres});
	return;
}

# ---------------------------------------------------------------------------
# SQL to run as the auth server. It speaks to "users", unqualified, and relies
# on the search_path of its role.

sub _literal
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	$value =~ s/'/''/g;
	return "'$value'";
}

# The statements of one signup: all columns named in alphabetical order, the
# ones that have no value as NULL, tokens as empty strings; then, in the same
# transaction, the identity and the role.
sub signup_sql
{
	my (%user) = @_;
	my %column = (
		aud => 'authenticated',
		banned_until => undef,
		confirmation_sent_at => undef,
		confirmation_token => '',
		created_at => 'now',
		deleted_at => undef,
		email => $user{email},
		email_change => '',
		email_change_confirm_status => 0,
		email_change_sent_at => undef,
		email_change_token_current => '',
		email_change_token_new => '',
		email_confirmed_at => 'now',
		encrypted_password =>
		  '$2a$10$abcdefghijklmnopqrstuuVK4v6lUYGzR0bZ9Zu0hPBqXyR5yH6aG',
		id => $user{id},
		instance_id => '00000000-0000-0000-0000-000000000000',
		invited_at => undef,
		is_anonymous => 'f',
		is_sso_user => 'f',
		last_sign_in_at => undef,
		phone => undef,
		phone_change => '',
		phone_change_sent_at => undef,
		phone_change_token => '',
		phone_confirmed_at => undef,
		raw_app_meta_data => '{"provider": "email", "providers": ["email"]}',
		raw_user_meta_data => '{"full_name": "Somebody New"}',
		reauthentication_sent_at => undef,
		reauthentication_token => '',
		recovery_sent_at => undef,
		recovery_token => '',
		role => '',
		updated_at => 'now',
		%{ $user{columns} || {} });
	delete @column{ @{ $user{without} || [] } };

	my $names = join ', ', map { qq{"$_"} } sort keys %column;
	my $values = join ', ', map { _literal($column{$_}) } sort keys %column;
	my $insert = qq{INSERT INTO "users" ($names) VALUES ($values);};

	return $insert if $user{bare};
	my $first = $user{first} ? "$user{first};" : '';
	return <<"SQL";
BEGIN;
$first
$insert
INSERT INTO "identities" ("created_at", "id", "identity_data", "last_sign_in_at", "provider", "provider_id", "updated_at", "user_id")
VALUES (now(), gen_random_uuid(), '{"sub": "$user{id}"}', now(), 'email', '$user{id}', now(), '$user{id}');
UPDATE "users" AS users SET "role" = 'authenticated', "updated_at" = now() WHERE users.id = '$user{id}';
COMMIT;
SQL
}

sub change_email_sql
{
	my ($id, $email) = @_;
	return <<"SQL";
BEGIN;
UPDATE "users" AS users SET "email" = '$email', "email_change" = '', "email_change_token_new" = '', "email_change_confirm_status" = 0, "updated_at" = now() WHERE users.id = '$id';
COMMIT;
SQL
}

sub delete_user_sql
{
	my ($id) = @_;
	return <<"SQL";
BEGIN;
DELETE FROM "users" AS users WHERE users.id = '$id';
COMMIT;
SQL
}

# ---------------------------------------------------------------------------
# The differences between a target and auth.users, one line each, compared
# column by column: "<user> missing", "<user> orphaned", "<user> <column>:
# <value> instead of <value>". Empty when they are equal.
#
# mapping: { column => expression over users }.
sub differences
{
	my ($session, %params) = @_;
	my ($target, $key, $mapping) = @params{qw(target key mapping)};
	my @selects;

	push @selects, <<"SQL";
SELECT users.id::text || ' missing'
FROM auth.users AS users WHERE NOT EXISTS (SELECT FROM $target t WHERE t."$key"::text = users.id::text)
SQL
	push @selects, <<"SQL" unless $params{orphans};
SELECT coalesce(t."$key"::text, '(null)') || ' orphaned'
FROM $target t WHERE NOT EXISTS (SELECT FROM auth.users AS users WHERE users.id::text = t."$key"::text)
SQL
	for my $column (sort keys %$mapping)
	{
		my $expression = $mapping->{$column};
		$expression = $expression->{value} if ref $expression;
		push @selects, <<"SQL";
SELECT s.the_user || ' $column: ' || coalesce(t."$column"::text, '(null)') || ' instead of ' || coalesce(s.value, '(null)')
FROM (SELECT users.id::text AS the_user, ($expression)::text AS value FROM auth.users AS users) s
	JOIN $target t ON t."$key"::text = s.the_user
WHERE t."$column"::text IS DISTINCT FROM s.value
SQL
	}
	# Under a path of its own: what a test planted in public is not to judge.
	my $result = $session->query("BEGIN;\nSET LOCAL search_path = pg_catalog;\n"
		  . join("UNION ALL\n", @selects)
		  . "ORDER BY 1 LIMIT 20;\nCOMMIT;");
	return "comparison failed: $result->{stderr}" unless $result->{ok};
	return $result->{out};
}

# ---------------------------------------------------------------------------
# Sessions

sub session
{
	my ($node, $dbname, $role, %params) = @_;
	return InviteSyncTest::Session->new($node, $dbname, $role, %params);
}

# One piece of SQL in a fresh connection as this role.
sub run_as
{
	my ($node, $dbname, $role, $sql) = @_;
	my $session = session($node, $dbname, $role);
	my $result = $session->query($sql);
	$session->close;
	return $result;
}

package InviteSyncTest::Session;

use IPC::Open3;
use IO::Select;
use Symbol qw(gensym);
use Time::HiRes qw(time);

my $mark = '-- end of answer --';
my $patience = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;

# A connection as a role. One that may not log in is entered by SET ROLE from
# authenticator, the way PostgREST does.
sub new
{
	my ($class, $node, $dbname, $role, %params) = @_;
	my %nologin = map { $_ => 1 } qw(anon authenticated service_role);
	my $login = $nologin{$role} ? 'authenticator' : $role;
	my $host = $node->host;
	my $port = $node->port;
	my $self = bless { role => $role, out => '', err => '' }, $class;

	my $errors = gensym;
	local $ENV{PGOPTIONS} = $params{options} if $params{options};
	local $ENV{PGAPPNAME} = $params{name} || $role;
	$self->{pid} = open3(
		my $in, my $out, $errors,
		$node->can('installed_command')
		? $node->installed_command('psql')
		: 'psql',
		'-XAtq', '-v', 'VERBOSITY=verbose',
		'-d', "host=$host port=$port dbname=$dbname user=$login",
		'-f', '-');
	@$self{qw(in stdout stderr)} = ($in, $out, $errors);
	$in->autoflush(1);
	$self->query(qq{SET ROLE "$role";}) if $login ne $role;
	return $self;
}

# Send SQL and do not wait. Another statement may be sent to another session
# meanwhile; wait() takes the answer.
sub send
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $in = $self->{in};

	die "an answer is outstanding" if $self->{started};
	$self->{started} = time;
	$self->{sql} = $sql;
	# :SQLSTATE would tell of the last statement only, so the first error is
	# taken from stderr.
	print $in "$sql\n;\n\\echo $mark\n\\warn $mark\n";
	return;
}

# The answer to the last send(): out, stderr, elapsed (seconds), ok, sqlstate
# and message of the first error, warnings (each with its DETAIL and HINT).
sub wait
{
	my ($self, $seconds) = @_;
	my $deadline = time + ($seconds ||= $patience);
	my $select = IO::Select->new($self->{stdout}, $self->{stderr});

	while ($self->{out} !~ /^\Q$mark\E\n/m || $self->{err} !~ /^\Q$mark\E\n/m)
	{
		my $left = $deadline - time;
		$! = 0;
		my @ready = $left > 0 ? $select->can_read($left) : ();

		# another session's psql has ended: a signal and no answer
		next if !@ready && $!{EINTR};
		if (!@ready)
		{
			my $sent = $self->{out} . $self->{err};
			$self->kill;
			die "no answer within $seconds s to " . substr($self->{sql}, 0, 500) . ": $sent";
		}
		for my $handle (@ready)
		{
			my $buffer = $handle == $self->{stdout} ? \$self->{out} : \$self->{err};
			if (!sysread $handle, $$buffer, 65536, length $$buffer)
			{
				$select->remove($handle);
				# psql has gone: the connection was lost
				$$buffer .= "\n$mark\n";
				$self->{dead} = 1;
			}
		}
	}

	my %result = (elapsed => time - $self->{started});
	delete $self->{started};
	for ([ out => 'out' ], [ err => 'stderr' ])
	{
		my ($buffer, $name) = @$_;
		$self->{$buffer} =~ s/\A(.*?)^\Q$mark\E\n//ms;
		$result{$name} = $1;
		chomp $result{$name};
	}
	my ($sqlstate, $message) =
	  $result{stderr} =~ /(?:ERROR|FATAL|PANIC):  (\w{5}): (.*)/;
	if (!defined $sqlstate && $self->{dead})
	{
		($sqlstate, $message) = ('08006', "connection lost: $result{stderr}");
	}
	$result{ok} = defined $sqlstate ? 0 : 1;
	$result{sqlstate} = defined $sqlstate ? $sqlstate : '00000';
	$result{message} = defined $message ? $message : '';
	$result{warnings} = [ $result{stderr} =~ /WARNING:  (.*(?:\n(?:DETAIL|HINT):.*)*)/g ];
	return \%result;
}

sub query
{
	my ($self, $sql, $seconds) = @_;
	$self->send($sql);
	return $self->wait($seconds);
}

# As query(), but a failure is the end of the test: for preparations.
sub must
{
	my ($self, $sql) = @_;
	my $result = $self->query($sql);
	die "$self->{role}: $result->{sqlstate} $result->{message}\n$sql\n$result->{stderr}"
	  unless $result->{ok};
	return $result->{out};
}

sub kill
{
	my ($self) = @_;
	CORE::kill 'TERM', $self->{pid} if $self->{pid};
	$self->close;
	return;
}

sub close
{
	my ($self) = @_;
	return unless $self->{pid};
	close $self->{in};
	close $self->{stdout};
	close $self->{stderr};
	local $?;
	waitpid $self->{pid}, 0;
	delete $self->{pid};
	return;
}

sub DESTROY
{
	my ($self) = @_;
	$self->kill if $self->{pid};
	return;
}

1;
