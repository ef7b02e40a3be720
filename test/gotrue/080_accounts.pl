# Accounts that the extension makes: to the auth server they are its own. They sign
# in with the password, also with digests of another provider's, and refresh.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGotrue qw(migrated_database start_server);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster);
use JSON::PP;
use Test::More;

my $db = 'accounts';
my $password = 'correct horse battery';
my $node = new_cluster('accounts');
migrated_database($node, $db);
value($node, $db, 'CREATE EXTENSION IF NOT EXISTS pgcrypto; CREATE EXTENSION invite_sync');
my $server = start_server($node, $db, mails => 0);
my $service = $server->service_token;

sub sql { return value($node, $db, $_[0]) }
sub login { my ($name, $with) = @_; return $server->request('POST', '/token?grant_type=password', { email => "$name\@example.com", password => $with // $password }) }

# Signs in, refreshes, and is who the database says; with another password nobody does.
sub signs_in
{
	my ($name, $what, $with) = @_;
	my $answer = login($name, $with);
	my $id = sql("SELECT id FROM auth.users WHERE email = '$name\@example.com'");
	is($answer->{status}, 200, "$what signs in") or diag(explain $answer);
	is($answer->{body}{user}{id}, $id, 'as who they are');
	is($answer->{body}{user}{aud} . ' ' . $answer->{body}{user}{role}, 'authenticated authenticated', 'and as nothing more');
	is($server->request('POST', '/token?grant_type=refresh_token', { refresh_token => $answer->{body}{refresh_token} })->{status}, 200, 'and refreshes');
	is(login($name, 'quite another one')->{status}, 400, 'but not with another password');
	return $answer->{body}{access_token};
}

# ---------------------------------------------------------------------------
# create_user()

sql("SELECT invite_sync.create_user('ann\@example.com', '$password', 'Ann', 'Boss')");
my $token = signs_in('ann', 'a user made by create_user()');
my $user = $server->request('GET', '/user', undef, $token);
is($user->{body}{user_metadata}{full_name}, 'Ann', 'the server knows the name');
is($user->{body}{identities}[0]{provider}, 'email', 'and the identity');
is($server->request('PUT', '/user', { password => 'a newer horse battery' }, $token)->{status}, 200, 'the user changes the password');
signs_in('ann', 'and with the new one the user', 'a newer horse battery');
is($server->request('POST', '/admin/users', { email => 'ann@example.com' }, $service)->{status}, 422, 'the server makes no second account with the address');

sql("SELECT invite_sync.create_user('ben\@example.com', '$password', email_confirmed => false)");
my $refused = login('ben');
is($refused->{body}{error_code}, 'email_not_confirmed', 'an unconfirmed one has to confirm the address first') or diag(explain $refused);
my $ben = sql(q{SELECT id FROM auth.users WHERE email = 'ben@example.com'});
is($server->request('PUT', "/admin/users/$ben", { email_confirm => JSON::PP::true }, $service)->{status}, 200, 'an administrator confirms it');
signs_in('ben', 'and then the user');

sql(q{SELECT invite_sync.create_user('cleo@example.com')});
is(login('cleo', '')->{status}, 400, 'without a password nobody signs in with the empty one');
my $cleo = sql(q{SELECT id FROM auth.users WHERE email = 'cleo@example.com'});
is($server->request('PUT', "/admin/users/$cleo", { password => $password }, $service)->{status}, 200, 'one may be set');
signs_in('cleo', 'and then the user');

# ---------------------------------------------------------------------------
# import_users(): digests of other systems. Those of argon2 and scrypt are examples
# of the server's own tests.

my %digest = (
	bcrypt_a => [ sql("SELECT extensions.crypt('$password', extensions.gen_salt('bf', 4))"), $password ],
	argon2i => [ '$argon2i$v=19$m=16,t=2,p=1$bGJRWThNOHJJTVBSdHl2dQ$NfEnUOuUpb7F2fQkgFUG4g', 'test' ],
	argon2id => [ '$argon2id$v=19$m=32,t=3,p=2$SFVpOWJ0eXhjRzVkdGN1RQ$RXnb8rh7LaDcn07xsssqqulZYXOM/EUCEFMVcAcyYVk', 'test' ],
	fbscrypt => [ '$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=ou9tdYTGyYm8kuR6Dt0Bp0kDuAYoXrK16mbZO4yGwAn3oLspjnN0/c41v8xZnO1n14J3MjKj1b2g6AUCAlFwMw==$C0sHCg9ek77hsg==$zKVTMvnWVw5BBOZNUdnsalx4c4c7y/w7IS5p6Ut2+CfEFFlz37J9huyQfov4iizN8dbjvEJlM5tQaJP84+hfTw==',
		'mytestpassword' ]);
$digest{bcrypt_b} = [ $digest{bcrypt_a}[0] =~ s/^\$2a/\$2b/r, $password ];
$digest{bcrypt_y} = [ $digest{bcrypt_a}[0] =~ s/^\$2a/\$2y/r, $password ];
my @rows = map { { email => "$_\@example.com", password_digest => $digest{$_}[0], provider => 'clerk', external_id => "user_$_" } } sort keys %digest;
is(sql("SELECT string_agg(DISTINCT status, ',') FROM invite_sync.import_users(\$json\$" . encode_json(\@rows) . '$json$)'), 'created', 'users with digests are imported');
signs_in($_, "a user with a digest of $_", $digest{$_}[1]) for sort keys %digest;

# ---------------------------------------------------------------------------
# Migration

@rows = map { { email => "$_\@example.com", provider => 'clerk', external_id => "user_$_" } } qw(dan eve fay);
sql("SELECT count(*) FROM invite_sync.import_users(\$json\$" . encode_json(\@rows) . '$json$)');
is(login($_)->{status}, 400, 'who has not migrated cannot sign in yet') for qw(dan eve fay);
sql("SELECT invite_sync.complete_migration('clerk', 'user_dan', '$password')");
signs_in('dan', 'after complete_migration() the user');
my $migration = sql(q{SELECT token FROM invite_sync.create_migration_invitation('clerk', 'user_eve')});
as_role($node, $db, 'anon', "SELECT invite_sync.complete_migration_by_token('$migration', '$password')");
signs_in('eve', 'after complete_migration_by_token() the user');

# ---------------------------------------------------------------------------
# signup_with_invitation()

my $invitation = sql(q{SELECT token FROM invite_sync.create_invitation('gus@example.com', data => '{"full_name": "Gus"}')});
as_role($node, $db, 'anon', "SELECT invite_sync.signup_with_invitation('$invitation', '$password')");
signs_in('gus', 'who signed up by an invitation');
# the server had one that was never confirmed, of somebody else's making
is($server->request('POST', '/admin/generate_link', { type => 'signup', email => 'hal@example.com', password => 'of a stranger' }, $service)->{status}, 200,
	'somebody opens an account');
$invitation = sql(q{SELECT token FROM invite_sync.create_invitation('hal@example.com')});
as_role($node, $db, 'anon', "SELECT invite_sync.signup_with_invitation('$invitation', '$password')");
signs_in('hal', 'who takes over an account that was never confirmed');
is(login('hal', 'of a stranger')->{status}, 400, 'and who opened it does not');

# the server lists them all: a NULL that it reads into a string would fail the whole list
my $list = $server->request('GET', '/admin/users?per_page=100', undef, $service);
is($list->{status}, 200, 'the server lists the users');
is(scalar @{ $list->{body}{users} }, sql('SELECT count(*) FROM auth.users'), 'all of them');

$server->stop;
$node->stop;
done_testing();
