# A thousand connections at once, in one process: psql for each would take all of a small machine. They speak the
# protocol themselves, so every answer comes with its SQLSTATE and DETAIL, and nothing catches errors on the way (a
# wrapper with an EXCEPTION clause would make a subtransaction of each call, which is not what callers do).
package InviteSyncCrowd;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use IO::Poll qw(POLLIN POLLOUT POLLERR POLLHUP);
use IO::Socket::UNIX;
use InviteSyncTest qw(session);
use Socket qw(SOCK_STREAM);
use Time::HiRes qw(sleep time);

my $patience = 3 * ($ENV{PG_TEST_TIMEOUT_DEFAULT} || 180);

# n connections as a user who may log in (or a function of the number that says who). options: as in PGOPTIONS; sql: what each is sent first, or a function of its
# number that says so.
sub new
{
	my ($class, $node, $dbname, $user, $n, %params) = @_;
	my $self = bless { member => [], active => {}, poll => IO::Poll->new, control => session($node, $dbname, 'supabase_admin', name => 'crowd control') }, $class;
	my $path = $node->host . '/.s.PGSQL.' . $node->port;
	my $startup = sub { join "\0", user => ref $user ? $user->($_[0]) : $user, database => $dbname, application_name => $params{name} || 'crowd',
	  options => $params{options} || '', '', '' };

	for my $i (0 .. $n - 1)
	{
		my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) or die "connection $i of $n to $path: $!";
		$socket->blocking(0);
		push @{ $self->{member} }, { n => $i, socket => $socket, in => '', out => pack('NNa*', 8 + length $startup->($i), 196608, $startup->($i)),
			waiting => 1, result => { rows => [] }, results => [] };
		$self->_flush($self->{member}[$i]);
		# the server starts one process after the other, and its queue is not endless
		$self->wait if $i % 50 == 49;
	}
	$self->wait;
	$_->{results} = [] for @{ $self->{member} };
	$self->must($params{sql}) if $params{sql};
	return $self;
}

sub size { my ($self) = @_; return scalar @{ $self->{member} } }

# Queries for one of them, each a message of its own: the server goes on from one to the next without us.
sub send
{
	my ($self, $i, @sql) = @_;
	my $member = $self->{member}[$i];

	$member->{out} .= pack 'a1NZ*', 'Q', 5 + length, $_ for @sql;
	$member->{waiting} += @sql;
	$self->_flush($member);
	return;
}

sub _flush
{
	my ($self, $member) = @_;
	my $written = length $member->{out} ? syswrite($member->{socket}, $member->{out}) : 0;

	die "connection $member->{n} cannot be written to: $!" if !defined $written && !$!{EAGAIN} && !$!{EINTR};
	substr $member->{out}, 0, $written || 0, '';
	$self->{active}{ $member->{n} } = $member;
	$self->{poll}->mask($member->{socket} => POLLIN | (length $member->{out} ? POLLOUT : 0));
	return;
}

# What came from the server: an answer to each query, { state, message, detail, rows => [[...]] }.
sub _read
{
	my ($self, $member) = @_;
	my $result = $member->{result};

	while (1)
	{
		my $read = sysread $member->{socket}, $member->{in}, 65536, length $member->{in};
		last if !defined $read && ($!{EAGAIN} || $!{EINTR});
		next if $read;
		# it has been closed: whoever waits is told
		$self->{poll}->remove($member->{socket});
		$member->{closed} = 1;
		$result->{state} ||= '08006';
		push @{ $member->{results} }, $result while $member->{waiting}-- > 0;
		$member->{waiting} = 0;
		return;
	}
	while (length $member->{in} >= 5)
	{
		my ($type, $length) = unpack 'a1N', $member->{in};
		last if length $member->{in} < 1 + $length;
		my $body = substr $member->{in}, 5, $length - 4;
		substr $member->{in}, 0, 1 + $length, '';

		if ($type eq 'D')
		{
			my ($n, @row) = unpack 'n', $body;
			my $at = 2;
			for (1 .. $n)
			{
				my $bytes = unpack 'l>', substr $body, $at, 4;
				push @row, $bytes < 0 ? undef : substr $body, $at + 4, $bytes;
				$at += 4 + ($bytes < 0 ? 0 : $bytes);
			}
			push @{ $result->{rows} }, \@row;
		}
		elsif ($type eq 'E')
		{
			my %field = map { /\A(.)(.*)\z/s ? ($1 => $2) : () } split /\0/, $body;
			@$result{qw(state message detail)} = ($field{C}, $field{M}, $field{D} || '');
		}
		elsif ($type eq 'R' && unpack('N', $body) != 0) { die 'the server asks for a password' }
		elsif ($type eq 'Z')
		{
			$result->{state} ||= '00000';
			$result->{at} = time;
			push @{ $member->{results} }, $result;
			$result = $member->{result} = { rows => [] };
			$member->{waiting}--;
		}
	}
	return;
}

# Whatever comes within some time; returns who has nothing outstanding any more and has answers to be taken. Only those
# who have something outstanding are looked at: of a thousand connections often few are asked.
sub poll
{
	my ($self, $seconds) = @_;
	my @done;

	$self->{poll}->poll($seconds);
	for my $member (map { $self->{active}{$_} } sort { $a <=> $b } keys %{ $self->{active} })
	{
		my $events = $member->{closed} ? 0 : $self->{poll}->events($member->{socket});
		$self->_flush($member) if $events & POLLOUT;
		$self->_read($member) if $events & (POLLIN | POLLERR | POLLHUP);
		next if $member->{waiting};
		delete $self->{active}{ $member->{n} };
		$self->{poll}->remove($member->{socket}) unless $member->{closed};
		push @done, $member->{n} if @{ $member->{results} };
	}
	return @done;
}

# The answers of one, oldest first.
sub take
{
	my ($self, $i) = @_;
	my $results = $self->{member}[$i]{results};
	$self->{member}[$i]{results} = [];
	return @$results;
}

# Until all have answered everything.
sub wait
{
	my ($self) = @_;
	my $deadline = time + $patience;

	while (my @waiting = grep { $_->{waiting} } @{ $self->{member} })
	{
		die scalar(@waiting) . " connections did not answer within $patience s" if time > $deadline;
		$self->poll(0.5);
		# many answer at once: taken together they cost the server less
		sleep 0.02 if @waiting > 100;
	}
	return;
}

# SQL for each of them, a text or a function of its number; an error is the end of the test.
sub must
{
	my ($self, $sql) = @_;
	$self->send($_, ref $sql ? $sql->($_) : $sql) for 0 .. $self->size - 1;
	$self->wait;
	my @results = map { $self->take($_) } 0 .. $self->size - 1;
	for (@results) { die "$_->{state} $_->{message} $_->{detail}" if $_->{state} ne '00000' }
	return @results;
}

# SQL for each of the first n, released at the same moment: all of them wait for a lock until the server has seen the
# last one, with the next query in their sockets. Returns their answers to it, in order, how long all took, and how
# often they had to try again.
#
# sql: a function of the number. begin: how the transaction begins; where it is given they wait in the transaction,
# which so has a snapshot older than everything that happens. Who is then told to try again (40001) does unless there is
# once, not more than some (25) at a time: all at once would mostly be in each other's way, as those know who wait before.
sub together
{
	my ($self, $n, $sql, %params) = @_;
	my $control = $self->{control};
	my $key = ++$self->{key};
	my $deadline = time + $patience;
	my @call = map { $sql->($_) } 0 .. $n - 1;
	my ($retries, $retrying, @refused, %again) = (0, 0);

	$control->must("SELECT pg_advisory_lock($key)");
	for my $i (0 .. $n - 1)
	{
		# ROLLBACK: an error leaves a transaction block open; where there is none this is nothing
		$self->send($i, ($params{begin} ? "$params{begin}; " : '') . "SELECT pg_advisory_xact_lock_shared($key)", $call[$i], 'ROLLBACK');
	}
	while ($control->must("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $key AND NOT granted") != $n)
	{
		die "not all of $n connections came to wait within $patience s" if time > $deadline;
		$self->poll(0.05);
		sleep 0.02;
	}
	my $started = time;
	$control->must("SELECT pg_advisory_unlock($key)");
	my @results;
	while (grep { !$_ } @results[ 0 .. $n - 1 ])
	{
		die "no answer from all of $n connections within $patience s" if time > $deadline;
		sleep 0.02 if $n > 100;
		for my $i ($self->poll(0.5))
		{
			my $result = ($self->take($i))[1];
			$retrying-- if delete $again{$i};
			if ($params{begin} && !$params{once} && $result->{state} eq '40001') { push @refused, $i }
			else { $results[$i] = $result }
		}
		while (@refused && $retrying < 25)
		{
			my $i = shift @refused;
			$retries++;
			$retrying++;
			$again{$i} = 1;
			$self->send($i, $params{begin}, $call[$i], 'ROLLBACK');
		}
	}
	return (\@results, time - $started, $retries);
}

sub close
{
	my ($self) = @_;
	for my $member (@{ $self->{member} })
	{
		next if $member->{closed};
		# Terminate, and wait until the server has gone: the next ones need its slot
		$member->{socket}->blocking(1);
		syswrite $member->{socket}, pack 'a1N', 'X', 4;
	}
	for my $member (@{ $self->{member} })
	{
		my $rest;
		1 while sysread $member->{socket}, $rest, 65536;
		$member->{socket}->close;
	}
	$self->{member} = [];
	$self->{control}->close;
	return;
}

1;
