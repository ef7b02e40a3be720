# Rows that an application made for an address, before its user is there: they are
# given to who has verified it with the auth server, and to nobody before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGotrue qw(migrated_database start_server);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster);
use JSON::PP;
use Test::More;

my $db = 'rows';
my $password = 'correct horse battery';
my $node = new_cluster('rows');
migrated_database($node, $db);
value($node, $db, 'CREATE EXTENSION invite_sync');
as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.guests (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	user_id uuid UNIQUE REFERENCES auth.users (id) ON DELETE CASCADE,
	email text NOT NULL,
	seat text);
INSERT INTO public.guests (email, seat) VALUES
	('Invited@Example.com', '1'), ('otp@example.com', '2'), ('made@example.com', '3'), ('signup@example.com', '4'), ('changed@example.com', '5'), ('thief@example.com', '6');
SELECT invite_sync.add_target('public.guests', link_by => 'email');
SQL
my $server = start_server($node, $db);
my $service = $server->service_token;

sub seat { return value($node, $db, "SELECT string_agg(coalesce(seat, 'none'), ', ') FROM public.guests WHERE user_id = '$_[0]'") }
sub waiting { return value($node, $db, "SELECT string_agg(sqlstate, ', ') FROM invite_sync.quarantine WHERE user_id = '$_[0]'") }

sub request
{
	my ($name, @request) = @_;
	my $answer = $server->request(@request);
	$server->new_mails;
	is($answer->{status}, 200, $name) or diag(explain $answer);
	return $answer->{body};
}

sub verify { return request("$_[0] verifies", 'POST', '/verify', $server->link_to($_[0])) }

my $id = request('invited', 'POST', '/invite', { email => 'invited@example.com' }, $service)->{id};
is(seat($id), '', 'who is invited has no row yet');
is(waiting($id), 'IS001', 'but one waits');
verify('invited@example.com');
is(seat($id), '1', 'following the invitation gives it');
is(waiting($id), '', 'and nothing waits any more');

request('OTP', 'POST', '/otp', { email => 'otp@example.com' });
is(verify('otp@example.com')->{user}{id}, value($node, $db, q{SELECT user_id FROM public.guests WHERE seat = '2'}), 'following a link gives the row');

$id = request('made by an administrator', 'POST', '/admin/users', { email => 'made@example.com', email_confirm => JSON::PP::true }, $service)->{id};
is(seat($id), '3', 'who is made with a confirmed address has the row at once');

$id = request('signup', 'POST', '/signup', { email => 'signup@example.com', password => $password })->{id};
is(seat($id), '', 'who signs up has no row');
request('signup once more', 'POST', '/signup', { email => 'signup@example.com', password => $password });
is(seat($id), '', 'nor by signing up again');
verify('signup@example.com');
is(seat($id), '4', 'confirming the address gives it');

# Somebody else's address is not had by changing to it.
request('signup of a thief', 'POST', '/signup', { email => 'mine@example.com', password => $password });
my $thief = verify('mine@example.com');
$id = $thief->{user}{id};
is(seat($id), 'none', 'who has verified an address without a row gets a new one');
request('change to an address that has a row', 'PUT', '/user', { email => 'thief@example.com' }, $thief->{access_token});
is(seat($id), 'none', 'an address that was only typed gives nothing');
verify($_) for 'mine@example.com', 'thief@example.com';
is(value($node, $db, "SELECT email FROM auth.users WHERE id = '$id'"), 'thief@example.com', 'the address is changed and verified');
is(seat($id), 'none', 'and who has a row keeps it');
is(value($node, $db, q{SELECT user_id IS NULL FROM public.guests WHERE seat = '6'}), 't', 'the other is still nobody\'s');

# A change of address claims nothing, verified or not; for the server an anonymous user's first address is such a change.
my $nobody = request('anonymous', 'POST', '/signup', {});
$id = $nobody->{user}{id};
is(seat($id), '', 'who has no address has no row');
is(waiting($id), '23502', 'as it cannot be without one');
request('conversion', 'PUT', '/user', { email => 'changed@example.com' }, $nobody->{access_token});
is(seat($id), '', 'nor while the address is not verified');
verify('changed@example.com');
is(seat($id), 'none', 'verifying it gives a row of their own');
is(waiting($id), '', 'and nothing waits any more');
is(value($node, $db, q{SELECT user_id IS NULL FROM public.guests WHERE seat = '5'}), 't', 'what was made for the address is still nobody\'s');

$server->stop;
$node->stop;
done_testing();
