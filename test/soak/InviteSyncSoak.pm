# The soak's traffic: workers that do what an auth server, an application, its
# migrations and its operators do, each on connections of its own, until a
# deadline. What a worker met is written to a file for the one who started it.
package InviteSyncSoak;

use strict;
use warnings;

use Exporter 'import';
use InviteSyncLife qw(user_id bulk_signup_sql);
use InviteSyncTest qw(session signup_sql change_email_sql delete_user_sql);
use JSON::PP;
use POSIX ();
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(start_worker);

# No worker does more than this, however fast the machine.
my $max_operations = 200_000;

# In the background: kind is one of those below, n makes it unlike its fellows.
sub start_worker
{
	my ($node, $dbname, $kind, $n, %params) = @_;
	my $file = "$params{dir}/$kind.$n";
	my $pid = fork;
	die "fork: $!" unless defined $pid;
	return { pid => $pid, file => $file, name => "soak_${kind}_$n" } if $pid;

	srand $params{seed} + 1000 * ord($kind) + $n;
	my $self = bless {
		node => $node,
		dbname => $dbname,
		kind => $kind,
		n => $n,
		name => "soak_${kind}_$n",
		deadline => $params{deadline},
		letter => sprintf('%x', $n),
		next_user => 1,
		users => [],
		counts => {},
		errors => {},
		samples => [] }, __PACKAGE__;
	my $died = eval { $self->$kind; 1 } ? '' : $@;
	open my $out, '>', $file or POSIX::_exit(1);
	print $out encode_json({ map({ ($_ => $self->{$_}) } qw(counts errors samples)), died => $died });
	close $out;
	# not the parent's END blocks
	POSIX::_exit($died eq '' ? 0 : 1);
}

sub more
{
	my ($self) = @_;
	return time < $self->{deadline} && ++$self->{operations} < $max_operations;
}

sub connection
{
	my ($self, $role) = @_;
	while (!$self->{session})
	{
		my $session = eval { session($self->{node}, $self->{dbname}, $role, name => $self->{name}) };
		my $result = $session && eval { $session->query('SELECT 1') };
		if ($result && $result->{ok}) { $self->{session} = $session }
		elsif (time > $self->{deadline} + 60) { die 'the server is away' }
		else { eval { $session->kill } if $session; sleep 0.2 }
	}
	return $self->{session};
}

# One piece of traffic; a lost connection is made anew for the next one.
sub run
{
	my ($self, $role, $what, $sql) = @_;
	my $result = $self->connection($role)->query($sql);

	$self->{counts}{$what}++;
	unless ($result->{ok})
	{
		$self->{errors}{"$what $result->{sqlstate} $result->{message}"}++;
		if ($self->{session}{dead})
		{
			eval { $self->{session}->kill };
			delete $self->{session};
		}
		else
		{
			# the rest of the statements that began it may have ended it
			$self->{session}->query('ROLLBACK') if $sql =~ /\bBEGIN;/ && $self->{session}->query('SELECT 1')->{sqlstate} eq '25P02';
			if ($self->{session}{dead}) { eval { $self->{session}->kill }; delete $self->{session} }
		}
	}
	return $result;
}

sub one_of { return $_[ int rand @_ ] }

# ---------------------------------------------------------------------------
# The auth server

sub meta
{
	my ($what) = @_;
	return encode_json({ nick => "nick $what", full_name => "Name $what", first_name => "F$what" });
}

# Somebody: mostly of this worker's users, sometimes of another's.
sub somebody
{
	my ($self) = @_;
	return user_id(sprintf('%x', 1 + int rand 4), 1 + int rand 300) if rand() < 0.15 || !@{ $self->{users} };
	return one_of(@{ $self->{users} });
}

sub signup
{
	my ($self, $tag, %columns) = @_;
	my $new = user_id($self->{letter}, $self->{next_user}++);
	my $result = $self->run('supabase_auth_admin', 'signup', signup_sql(
			id => $new,
			email => "u$tag\@example.com",
			columns => {
				raw_user_meta_data => meta($tag),
				raw_app_meta_data => '{"provider": "email", "tier": "free"}',
				%columns }));
	push @{ $self->{users} }, $new if $result->{ok};
	return;
}

sub auth_operation
{
	my ($self) = @_;
	my $role = 'supabase_auth_admin';
	my $dice = rand 100;
	my $id = $self->somebody;
	my $serial = ++$self->{serial};
	my $tag = "$self->{letter}x$serial";

	if ($dice < 28)
	{
		$self->signup($tag, $dice < 5 ? (email_confirmed_at => undef) : ());
	}
	elsif ($dice < 55)
	{
		$self->run($role, 'login', qq{UPDATE "users" AS users SET "last_sign_in_at" = now(), "updated_at" = now() WHERE users.id = '$id'});
	}
	elsif ($dice < 68)
	{
		$self->run($role, 'email change', change_email_sql($id, "c$tag\@example.com"));
	}
	elsif ($dice < 76)
	{
		my $meta = meta($tag);
		$self->run($role, 'user metadata', qq{UPDATE "users" AS users SET "raw_user_meta_data" = '$meta', "updated_at" = now() WHERE users.id = '$id'});
	}
	elsif ($dice < 84)
	{
		$self->run($role, 'app metadata', qq{UPDATE "users" AS users SET "raw_app_meta_data" = '{"provider": "email", "tier": "t$serial"}' WHERE users.id = '$id'});
	}
	elsif ($dice < 88)
	{
		my $phone = join '', map { int rand 10 } 1 .. 12;
		$self->run($role, 'confirm and phone', <<"SQL");
BEGIN;
UPDATE "users" AS users SET "email_confirmed_at" = now() WHERE users.id = '$id' AND users.email_confirmed_at IS NULL;
UPDATE "users" AS users SET "phone" = '$self->{letter}$phone$serial' WHERE users.id = '$id';
COMMIT;
SQL
	}
	elsif ($dice < 91)
	{
		$self->run($role, 'soft delete', qq{UPDATE "users" AS users SET "deleted_at" = now(), "email" = 'gone$tag', "phone" = NULL, "raw_user_meta_data" = '{}' WHERE users.id = '$id' AND users.deleted_at IS NULL});
	}
	elsif ($dice < 97)
	{
		$self->run($role, 'hard delete', delete_user_sql($id));
		@{ $self->{users} } = grep { $_ ne $id } @{ $self->{users} };
	}
	elsif ($dice < 98.5)
	{
		# more than work_mem holds, so that copies are spilled to files
		my ($from, $to) = ($self->{next_bulk} ||= 0x100000, 0);
		$to = $from + int rand 400;
		$self->{next_bulk} = $to + 1;
		$self->run($role, 'bulk signup', "SET work_mem = '64kB';\n" . bulk_signup_sql($self->{letter}, $from, $to) . ";\nRESET work_mem;");
		push @{ $self->{bulk} }, [ $from, $to ];
	}
	elsif (my $range = shift @{ $self->{bulk} ||= [] })
	{
		my ($first, $last) = map { user_id($self->{letter}, $_) } @$range;
		if ($dice < 99.2)
		{
			$self->run($role, 'bulk email change', qq{UPDATE "users" SET "email" = "email" || '.b' WHERE id BETWEEN '$first' AND '$last'});
			push @{ $self->{bulk} }, $range;
		}
		else
		{
			$self->run($role, 'bulk delete', qq{DELETE FROM "users" WHERE id BETWEEN '$first' AND '$last'});
		}
	}
	return;
}

sub auth
{
	my ($self) = @_;
	while ($self->more)
	{
		$self->auth_operation;
		sleep rand 0.02;
	}
	return;
}

# One connection for as long as the server lives, and what its memory holds.
sub steady
{
	my ($self) = @_;
	my $next = 0;
	while ($self->more)
	{
		$self->auth_operation;
		if (!$self->{session} || time >= $next)
		{
			$next = time + 1;
			# what a change of the registry lets go is made anew by whoever needs it: let all of it be there
			$self->signup("$self->{letter}m" . ++$self->{serial});
			my $result = $self->run('supabase_auth_admin', 'memory', <<'SQL');
SELECT concat_ws(' ', pg_catalog.pg_backend_pid(), pg_catalog.sum(used_bytes),
	pg_catalog.sum(used_bytes) FILTER (WHERE name LIKE 'invite_sync%'), pg_catalog.count(*) FILTER (WHERE name LIKE 'invite_sync%'),
	pg_catalog.count(*) FILTER (WHERE name LIKE 'CachedPlan%'), pg_catalog.count(*))
FROM pg_catalog.pg_backend_memory_contexts
SQL
			push @{ $self->{samples} }, [ time, split / /, $result->{out} ] if $result->{ok};
		}
		sleep 0.002;
	}
	return;
}

# ---------------------------------------------------------------------------
# The application: edits what is its users' own, and now and then its rows

sub app
{
	my ($self) = @_;
	while ($self->more)
	{
		my $dice = rand 100;
		my $id = user_id(sprintf('%x', 1 + int rand 4), 1 + int rand 600);
		if ($dice < 40)
		{
			$self->run('postgres', 'edit', "UPDATE public.members SET nick = 'edited' WHERE user_id = '$id'");
		}
		elsif ($dice < 55)
		{
			$self->run('postgres', 'clear', "UPDATE public.members SET nick = NULL WHERE user_id = '$id'");
		}
		elsif ($dice < 70)
		{
			$self->run('postgres', 'delete a row', "DELETE FROM public.members WHERE user_id = '$id'");
		}
		elsif ($dice < 85)
		{
			# FOR KEY SHARE would not hold off a soft delete, which then does not see this row
			$self->run('postgres', 'insert a row', <<"SQL");
BEGIN;
SELECT FROM auth.users WHERE id = '$id' AND deleted_at IS NULL FOR SHARE;
INSERT INTO public.members (user_id) SELECT id FROM auth.users WHERE id = '$id' AND deleted_at IS NULL ON CONFLICT DO NOTHING;
COMMIT;
SQL
		}
		else
		{
			# a transaction that dawdles with a row
			$self->run('postgres', 'hold a row', <<"SQL");
BEGIN;
UPDATE public.members SET nick = 'held' WHERE user_id = '$id';
SELECT pg_sleep(random() * 0.3);
UPDATE public.profiles SET full_name = 'held' WHERE id = '$id';
COMMIT;
SQL
		}
		sleep rand 0.05;
	}
	return;
}

# ---------------------------------------------------------------------------
# Migrations: one thing is broken, then mended

my @breakages = (
	[ 'column renamed', 'ALTER TABLE public.members RENAME COLUMN email TO mail', 'ALTER TABLE public.members RENAME COLUMN mail TO email' ],
	[ 'table renamed', 'ALTER TABLE public.members RENAME TO members_away', 'ALTER TABLE public.members_away RENAME TO members' ],
	[ 'column dropped', 'ALTER TABLE public.members DROP COLUMN phone', 'ALTER TABLE public.members ADD COLUMN phone text' ],
	[ 'column added', 'ALTER TABLE public.members ADD COLUMN note text', 'ALTER TABLE public.members DROP COLUMN note' ],
	# not on accounts: its foreign key's own SET NULL would meet it too, with or without us
	[ 'check', q{ALTER TABLE public.members ADD CONSTRAINT odd CHECK (email NOT LIKE '%7@%') NOT VALID}, 'ALTER TABLE public.members DROP CONSTRAINT odd' ],
	[ 'not null added', 'ALTER TABLE public.accounts ADD COLUMN note text NOT NULL DEFAULT random()::text; ALTER TABLE public.accounts ALTER COLUMN note DROP DEFAULT', 'ALTER TABLE public.accounts DROP COLUMN note' ],
	[ 'type changed', 'ALTER TABLE public.members ALTER COLUMN email TYPE varchar(300)', 'ALTER TABLE public.members ALTER COLUMN email TYPE text' ],
	[ 'index', 'CREATE INDEX members_email_idx ON public.members (email)', 'DROP INDEX public.members_email_idx' ],
	[ 'partition detached', 'ALTER TABLE public.parts DETACH PARTITION public.parts_1', 'ALTER TABLE public.parts ATTACH PARTITION public.parts_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)' ],
	[ 'trigger fails', q{INSERT INTO public.broken VALUES ('members')}, q{DELETE FROM public.broken WHERE what = 'members'} ],
	[ 'guarded trigger fails', 'ALTER TABLE public.signup_log RENAME COLUMN user_id TO the_user', 'ALTER TABLE public.signup_log RENAME COLUMN the_user TO user_id' ],
	[ 'guarded BEFORE trigger fails', q{INSERT INTO public.broken VALUES ('touch')}, q{DELETE FROM public.broken WHERE what = 'touch'} ],
	[ 'locked', 'BEGIN; LOCK TABLE public.profiles; SELECT pg_sleep(0.7); COMMIT', 'SELECT 1' ],
	[ 'replaced function', 'CREATE OR REPLACE FUNCTION public.harmless() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END $$', 'CREATE OR REPLACE FUNCTION public.harmless() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END $$' ]);

sub ddl
{
	my ($self) = @_;
	my $columns = 0;
	while ($self->more)
	{
		my ($what, $break, $mend) = @{ one_of(@breakages) };
		my $done = $self->run('postgres', $what, "SET lock_timeout = '2s'; $break")->{ok};
		sleep rand 0.3;
		while ($done && time < $self->{deadline} + 20)
		{
			last if $self->run('postgres', "$what, mended", "SET lock_timeout = '2s'; $mend")->{ok};
			sleep 0.05;
		}
		# a dropped column stays in the table for ever: a few only
		if ($columns < 10 && rand() < 0.1)
		{
			$columns++;
			$self->run('postgres', 'leave', 'SELECT 1');
			eval { $self->{session}->close };
			delete $self->{session};
			for my $ddl ("ALTER TABLE auth.users ADD COLUMN soak_$columns text DEFAULT 'soak'", "ALTER TABLE auth.users DROP COLUMN IF EXISTS soak_$columns")
			{
				$self->run('supabase_auth_admin', 'auth.users altered', "SET lock_timeout = '300ms'; $ddl");
				sleep rand 0.3;
			}
			eval { $self->{session}->close };
			delete $self->{session};
		}
		sleep rand 0.4;
	}
	return;
}

# ---------------------------------------------------------------------------
# Operators: the registry, guarded triggers, seals

sub operator
{
	my ($self) = @_;
	my @operations = (
		[ 'mapping', sub { sprintf q(SELECT invite_sync.set_target('public.extra', mapping => '{"email": "%s"}')), one_of('email', 'lower(email)', 'coalesce(email, phone)') } ],
		[ 'disable', sub { q{SELECT invite_sync.set_target('public.extra', enabled => } . one_of('true', 'false') . ')' } ],
		[ 'drop and add', sub { q{BEGIN; SELECT invite_sync.drop_target('public.extra'); SELECT pg_sleep(0.05); SELECT invite_sync.add_target('public.extra'); COMMIT} } ],
		[ 'add', sub { q{SELECT invite_sync.add_target('public.extra')} } ],
		[ 'search_path', sub { q{SELECT invite_sync.set_target('public.members', search_path => } . one_of(q{'pg_catalog, public, pg_temp'}, q{'pg_catalog, public, extensions, pg_temp'}) . ')' } ],
		[ 'new target', sub { my $t = 'public.made_' . ++$self->{made};
				"CREATE TABLE $t (id uuid PRIMARY KEY, email text); SELECT invite_sync.add_target('$t'); SELECT pg_sleep(0.1); SELECT invite_sync.drop_target('$t'); DROP TABLE $t" } ],
		[ 'attach', sub { 'SELECT invite_sync.attach()' } ],
		[ 'guard', sub { q{SELECT invite_sync.guard_trigger('soak_harmless')} } ],
		[ 'unguard', sub { q{SELECT invite_sync.unguard_trigger('soak_harmless')} } ],
		[ 'verify', sub { 'SELECT count(*) FROM invite_sync.verify()' } ],
		[ 'seal', sub { q{SELECT count(*) FROM invite_sync.seal_events(wait => '200 ms')} } ]);
	while ($self->more)
	{
		my ($what, $sql) = @{ one_of(@operations) };
		$self->run('postgres', $what, "SET client_min_messages = error; SET lock_timeout = '2s';\n" . $sql->());
		sleep rand 0.4;
	}
	return;
}

sub retry
{
	my ($self) = @_;
	while ($self->more)
	{
		my $dice = rand 100;
		my $id = user_id(sprintf('%x', 1 + int rand 4), 1 + int rand 600);
		if ($dice < 50)
		{
			my $due = one_of('true', 'false');
			my $rows = 1 + int rand 500;
			$self->run('service_role', 'retry', "SELECT invite_sync.retry_quarantine($rows, $due)");
		}
		elsif ($dice < 60) { $self->run('service_role', 'status', 'SELECT count(*) FROM invite_sync.sync_status()') }
		elsif ($dice < 75) { $self->run('service_role', 'ensure_user', "SELECT invite_sync.ensure_user('$id')") }
		elsif ($dice < 85) { $self->run('service_role', 'log_event', "SELECT invite_sync.log_event('app.soak', user_id => '$id')") }
		elsif ($dice < 95) { $self->run('service_role', 'sync a user', "SELECT count(*) FROM invite_sync.sync_users(user_id => '$id')") }
		else { $self->run('service_role', 'report', 'SELECT count(*) FROM invite_sync.preservation_report()') }
		sleep rand 0.3;
	}
	return;
}

sub backfill
{
	my ($self) = @_;
	while ($self->more)
	{
		my $dice = rand 100;
		if ($dice < 60)
		{
			my $batch = 1 + int rand 300;
			$self->run('postgres', 'sync_all', "SET client_min_messages = error;\nCALL invite_sync.sync_all($batch)");
		}
		elsif ($dice < 80) { $self->run('postgres', 'sync_users', 'SELECT count(*) FROM invite_sync.sync_users()') }
		else { $self->run('postgres', 'dry run', 'SELECT count(*) FROM invite_sync.sync_users(dry_run => true)') }
		sleep rand 0.5;
	}
	return;
}

1;
