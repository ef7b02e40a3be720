# A thousand invitations at once: every one is answered as it must be, and nobody
# is missing in a target, be it in order or broken and mended meanwhile.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGotrue qw(migrated_database start_server in_place);
use InviteSyncGotrueStory qw(targets);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $workers = 50;
my $each = 20;
my $dir = PostgreSQL::Test::Utils::tempdir();

my $node = new_cluster('crowd');
migrated_database($node, 'crowd');
value($node, 'crowd', 'CREATE EXTENSION invite_sync');
targets($node, 'crowd');
my $server = start_server($node, 'crowd');
my $service = $server->service_token;

# In the background; all begin together. What was answered is written to a file.
sub invite
{
	my ($name) = @_;
	my @workers;
	for my $n (1 .. $workers)
	{
		my $pid = fork;
		die "fork: $!" unless defined $pid;
		if ($pid)
		{
			push @workers, { pid => $pid, file => "$dir/$name.$n" };
			next;
		}
		sleep 0.02 until -e "$dir/$name.go";
		open my $out, '>', "$dir/$name.$n" or POSIX::_exit(1);
		for my $m (1 .. $each)
		{
			my $answer = $server->request('POST', '/invite',
				{ email => "$name.$n.$m\@example.com", data => { full_name => "$name $n $m" } }, $service);
			print $out "$answer->{status}\n";
		}
		close $out;
		# not the parent's END blocks
		POSIX::_exit(0);
	}
	open my $go, '>', "$dir/$name.go" or die "$dir/$name.go: $!";
	close $go;
	return @workers;
}

sub answers
{
	my %count;
	for my $worker (@_)
	{
		waitpid $worker->{pid}, 0;
		open my $in, '<', $worker->{file} or die "$worker->{file}: $!";
		while (my $status = <$in>)
		{
			chomp $status;
			$count{$status}++;
		}
		close $in;
	}
	return \%count;
}

sub rows { return value($node, 'crowd', "SELECT concat_ws(' ', count(*), count(DISTINCT email)) FROM public.$_[0] WHERE email LIKE '$_[1].%'") }

my $all = $workers * $each;
is_deeply(answers(invite('early')), { 200 => $all }, "$all invitations at once are all answered with 200");
is(rows($_, 'early'), "$all $all", "all of them are in $_") for qw(profiles contacts people);
is(in_place($node, 'crowd'), '', 'everything is in place');
is(value($node, 'crowd', 'SELECT count(*) FROM auth.identities'), $all, 'the server has what it wrote');

# A migration in the midst of it breaks one target, and another mends it.
my @late = invite('late');
$node->poll_query_until('crowd', q{SELECT count(*) > 100 FROM auth.users WHERE email LIKE 'late.%'}) or die 'nobody is invited';
as_role($node, 'crowd', 'postgres', 'ALTER TABLE public.profiles RENAME COLUMN full_name TO whole_name');
$node->poll_query_until('crowd', q{SELECT count(*) > 400 FROM auth.users WHERE email LIKE 'late.%'}) or die 'nobody is invited any more';
as_role($node, 'crowd', 'postgres', 'ALTER TABLE public.profiles RENAME COLUMN whole_name TO full_name');
is_deeply(answers(@late), { 200 => $all }, "$all more, while a column is gone for a time, too");
cmp_ok(value($node, 'crowd', q{SELECT count(*) FROM invite_sync.quarantine WHERE target = 'public.profiles'}), '>', 0, 'some of them are in quarantine');
my $retried = as_role($node, 'crowd', 'postgres', 'SELECT failed FROM invite_sync.retry_quarantine(max_rows => 10000, due_only => false)');
is($retried, '0', 'after the mend all of it succeeds');
is(rows($_, 'late'), "$all $all", "all of them are in $_") for qw(profiles contacts people);
is(in_place($node, 'crowd'), '', 'everything is in place');

$server->stop;
$node->stop;
done_testing();
