# What users and an administrator do with an auth server, from signing up to
# being deleted, call by call; and targets in which it must be seen.
package InviteSyncGotrueStory;

use strict;
use warnings;

use Exporter 'import';
use InviteSyncGotrue;
use InviteSyncLife qw(as_role value);
use JSON::PP;
use Test::More;

our @EXPORT_OK = qw(story targets profiles_sql add_profiles_sql);

# ---------------------------------------------------------------------------
# Three targets, one for each on_delete; "contacts" cannot hold who has no email.

sub profiles_sql
{
	return <<'SQL';
CREATE TABLE public.profiles (
	id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	email text, phone text, full_name text, nickname text, plan text, is_anonymous boolean, verified boolean,
	banned_until timestamptz, first_provider text
);
SQL
}

sub add_profiles_sql
{
	return <<'SQL';
SELECT invite_sync.add_target('public.profiles', on_delete => 'delete', mapping => '{
	"email": "email",
	"phone": "phone",
	"full_name": {"value": "raw_user_meta_data->>''full_name''", "update": "always"},
	"nickname": {"value": "raw_user_meta_data->>''nickname''", "update": "if_null"},
	"plan": "raw_app_meta_data->>''plan''",
	"is_anonymous": "is_anonymous",
	"verified": "email_confirmed_at IS NOT NULL",
	"banned_until": "banned_until",
	"first_provider": "identity_provider"}');
SQL
}

sub targets
{
	my ($node, $dbname) = @_;
	as_role($node, $dbname, 'postgres', profiles_sql() . add_profiles_sql() . <<'SQL');
CREATE TABLE public.contacts (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, email text NOT NULL);
SELECT invite_sync.add_target('public.contacts', on_delete => 'none');
CREATE TABLE public.people (user_id uuid UNIQUE, email text, is_active boolean NOT NULL DEFAULT true, deactivated_at timestamptz, deactivation_reason text);
SELECT invite_sync.add_target('public.people', mapping => '{"email": "email"}', on_delete => 'deactivate');
SQL
	return;
}

# ---------------------------------------------------------------------------
# The story. With "looking", each of its steps is followed by a look at the
# targets; without, only what the server answers counts.

sub story
{
	my ($server, %params) = @_;
	my ($node, $db) = @$server{qw(node dbname)};
	my $service = $server->service_token;
	my $password = 'correct horse battery';

	my $call = sub { return $server->call(@_) };
	my $verify = sub {
		my ($name, $to) = @_;
		return $call->($name, 'POST', '/verify', $server->link_to($to));
	};
	my $login = sub {
		my ($name, %with) = @_;
		return $call->($name, 'POST', '/token?grant_type=password', { password => $password, %with });
	};
	my $delete = sub {
		my ($name, $id, %how) = @_;
		return $call->($name, 'DELETE', "/admin/users/$id", \%how, $service);
	};

	# rows of the targets, and what is in quarantine
	my $row = sub {
		my ($target, $id) = @_;
		my $key = $target eq 'people' ? 'user_id' : 'id';
		my $found = value($node, $db, "SELECT to_jsonb(t) FROM public.$target t WHERE t.$key = '$id'");
		return $found eq '' ? undef : decode_json($found);
	};
	my $look = sub {
		my ($id, $target, $expected, $name) = @_;
		return unless $params{looking};
		my $found = $row->($target, $id);
		$found = { map { ($_ => ref $found->{$_} ? ($found->{$_} ? 1 : 0) : $found->{$_}) } keys %$expected } if $found && $expected;
		is_deeply($found, $expected, "$name: $target") or diag(explain $found);
	};
	my $quarantined = sub {
		my ($id, $expected, $name) = @_;
		return unless $params{looking};
		is(value($node, $db, "SELECT string_agg(concat_ws(' ', target, action, sqlstate, column_name), ', ' ORDER BY id) FROM invite_sync.quarantine WHERE user_id = '$id'"),
			$expected, "$name: quarantine");
	};
	my $versions = sub {
		my ($id) = @_;
		return '' unless $params{looking};
		return value($node, $db, <<"SQL");
SELECT 'profiles', xmin, ctid FROM public.profiles WHERE id = '$id'
UNION ALL SELECT 'contacts', xmin, ctid FROM public.contacts WHERE id = '$id'
UNION ALL SELECT 'people', xmin, ctid FROM public.people WHERE user_id = '$id'
SQL
	};
	my $untouched = sub {
		my ($id, $before, $name) = @_;
		return unless $params{looking};
		isnt($before, '', "$name: there are rows");
		is($versions->($id), $before, "$name: no row of a target was written");
	};

	# Ann signs up, confirms, logs in, changes what she may.
	my $answer = $call->('signup', 'POST', '/signup',
		{ email => 'ann@example.com', password => $password, data => { full_name => 'Ann', nickname => 'annie', plan => 'stolen' } });
	my $ann = $answer->{body}{id};
	$look->($ann, 'profiles',
		{ email => 'ann@example.com', full_name => 'Ann', nickname => 'annie', plan => undef, verified => 0, is_anonymous => 0, first_provider => 'email' }, 'signup');
	$look->($ann, 'contacts', { email => 'ann@example.com' }, 'signup');
	$look->($ann, 'people', { email => 'ann@example.com', is_active => 1 }, 'signup');
	$login->('login before confirming', email => 'ann@example.com');
	$verify->('confirm', 'ann@example.com');
	$look->($ann, 'profiles', { email => 'ann@example.com', verified => 1 }, 'confirm');
	$call->('signup with an address that is taken', 'POST', '/signup', { email => 'ann@example.com', password => $password });
	$call->('signup with a weak password', 'POST', '/signup', { email => 'weak@example.com', password => 'x' });
	$login->('login with a wrong password', email => 'ann@example.com', password => 'wrong');

	my $before = $versions->($ann);
	$answer = $login->('login', email => 'ann@example.com');
	$untouched->($ann, $before, 'login');
	$answer = $call->('token refresh', 'POST', '/token?grant_type=refresh_token', { refresh_token => $answer->{body}{refresh_token} });
	$untouched->($ann, $before, 'token refresh');
	my $token = $answer->{body}{access_token};
	$call->('who am I', 'GET', '/user', undef, $token);
	$call->('password change', 'PUT', '/user', { password => "$password 2" }, $token);
	$untouched->($ann, $before, 'password change');

	$call->('metadata change', 'PUT', '/user', { data => { full_name => 'Ann Smith', nickname => 'smithy' } }, $token);
	$look->($ann, 'profiles', { email => 'ann@example.com', full_name => 'Ann Smith', nickname => 'annie' }, 'metadata change');

	$call->('email change', 'PUT', '/user', { email => 'ann.smith@example.com' }, $token);
	$look->($ann, 'profiles', { email => 'ann@example.com' }, 'email change, not confirmed');
	$verify->('email change confirmed at the old address', 'ann@example.com');
	$look->($ann, 'profiles', { email => 'ann@example.com' }, 'email change, confirmed at one address');
	$verify->('email change confirmed at the new address', 'ann.smith@example.com');
	$look->($ann, $_, { email => 'ann.smith@example.com' }, 'email change') for qw(profiles contacts people);

	$before = $versions->($ann);
	$call->('recovery', 'POST', '/recover', { email => 'ann.smith@example.com' });
	$answer = $verify->('recovery confirmed', 'ann.smith@example.com');
	$call->('reauthentication', 'GET', '/reauthenticate', undef, $answer->{body}{access_token});
	$call->('logout', 'POST', '/logout', undef, $answer->{body}{access_token});
	$untouched->($ann, $before, 'recovery and logout');

	# Bob is invited.
	$call->('invite without a key', 'POST', '/invite', { email => 'bob@example.com' });
	$answer = $call->('invite', 'POST', '/invite', { email => 'bob@example.com', data => { full_name => 'Bob' } }, $service);
	my $bob = $answer->{body}{id};
	$look->($bob, 'profiles', { email => 'bob@example.com', full_name => 'Bob', verified => 0, first_provider => 'email' }, 'invite');
	$call->('invite once more', 'POST', '/invite', { email => 'bob@example.com' }, $service);
	$verify->('invitation accepted', 'bob@example.com');
	$look->($bob, 'profiles', { email => 'bob@example.com', verified => 1 }, 'invitation accepted');
	$call->('invite who is there', 'POST', '/invite', { email => 'bob@example.com' }, $service);

	# An administrator makes Cleo, changes her, bans her.
	$answer = $call->('admin create', 'POST', '/admin/users', {
		email => 'cleo@example.com', password => $password, email_confirm => JSON::PP::true,
		user_metadata => { full_name => 'Cleo' }, app_metadata => { plan => 'gold' } }, $service);
	my $cleo = $answer->{body}{id};
	$look->($cleo, 'profiles', { email => 'cleo@example.com', full_name => 'Cleo', plan => 'gold', verified => 1, first_provider => 'email' }, 'admin create');
	$call->('admin create once more', 'POST', '/admin/users', { email => 'cleo@example.com' }, $service);
	$call->('app metadata change', 'PUT', "/admin/users/$cleo", { app_metadata => { plan => 'silver' } }, $service);
	$look->($cleo, 'profiles', { plan => 'silver', full_name => 'Cleo' }, 'app metadata change');
	$call->('admin changes the address', 'PUT', "/admin/users/$cleo", { email => 'cleo2@example.com', email_confirm => JSON::PP::true }, $service);
	$look->($cleo, $_, { email => 'cleo2@example.com' }, 'admin changes the address') for qw(profiles contacts people);
	$call->('ban', 'PUT', "/admin/users/$cleo", { ban_duration => '24h' }, $service);
	is($row->('profiles', $cleo)->{banned_until} // '', value($node, $db, "SELECT to_jsonb(banned_until) #>> '{}' FROM auth.users WHERE id = '$cleo'"), 'ban: profiles')
	  if $params{looking};
	$login->('login of who is banned', email => 'cleo2@example.com');
	$call->('unban', 'PUT', "/admin/users/$cleo", { ban_duration => 'none' }, $service);
	# an expression that gives NULL replaces nothing: the row goes on to say until when it was
	$before = $versions->($cleo);
	$login->('login of who was banned', email => 'cleo2@example.com');
	$untouched->($cleo, $before, 'login of who was banned');
	$call->('admin looks', 'GET', "/admin/users/$cleo", undef, $service);
	$answer = $call->('link for a new user', 'POST', '/admin/generate_link',
		{ type => 'signup', email => 'gen@example.com', password => $password, data => { full_name => 'Gen' } }, $service);
	$look->($answer->{body}{id}, 'profiles', { email => 'gen@example.com', full_name => 'Gen', verified => 0 }, 'link for a new user');
	$answer = $call->('link for one who is invited', 'POST', '/admin/generate_link', { type => 'invite', email => 'gus@example.com' }, $service);
	$look->($answer->{body}{id}, 'profiles', { email => 'gus@example.com', verified => 0 }, 'link for one who is invited');

	# Dan has no password.
	$call->('OTP for one who may not come', 'POST', '/otp', { email => 'dan@example.com', create_user => JSON::PP::false });
	$call->('OTP', 'POST', '/otp', { email => 'dan@example.com', data => { full_name => 'Dan' } });
	$answer = $verify->('OTP confirmed', 'dan@example.com');
	my $dan = $answer->{body}{user}{id};
	$look->($dan, 'profiles', { email => 'dan@example.com', full_name => 'Dan', verified => 1 }, 'OTP');
	$before = $versions->($dan);
	$call->('magic link', 'POST', '/magiclink', { email => 'dan@example.com' });
	$verify->('magic link followed', 'dan@example.com');
	$verify->('magic link followed twice', 'dan@example.com');
	$untouched->($dan, $before, 'magic link');
	$call->('magic link for a new user', 'POST', '/magiclink', { email => 'eve@example.com' });
	$answer = $verify->('magic link of a new user followed', 'eve@example.com');
	$look->($answer->{body}{user}{id}, 'profiles', { email => 'eve@example.com', verified => 1 }, 'magic link for a new user');

	# Somebody without a name becomes Fay.
	$answer = $call->('anonymous sign-in', 'POST', '/signup', { data => { nickname => 'nobody' } });
	my $fay = $answer->{body}{user}{id};
	$token = $answer->{body}{access_token};
	$look->($fay, 'profiles', { email => undef, nickname => 'nobody', is_anonymous => 1, first_provider => undef }, 'anonymous sign-in');
	$look->($fay, 'contacts', undef, 'anonymous sign-in');
	$quarantined->($fay, 'public.contacts insert 23502 email', 'anonymous sign-in');
	$call->('conversion', 'PUT', '/user', { email => 'fay@example.com', data => { full_name => 'Fay' } }, $token);
	$look->($fay, 'profiles', { email => undef, full_name => 'Fay', is_anonymous => 1 }, 'conversion, not confirmed');
	$verify->('conversion confirmed', 'fay@example.com');
	$look->($fay, 'profiles', { email => 'fay@example.com', full_name => 'Fay', nickname => 'nobody', is_anonymous => 0, verified => 1, first_provider => 'email' }, 'conversion');
	$look->($fay, 'contacts', { email => 'fay@example.com' }, 'conversion');
	$quarantined->($fay, '', 'conversion');
	$answer = $call->('anonymous sign-in of another', 'POST', '/signup', {});
	my $anonymous = $answer->{body}{user}{id};
	$delete->('hard delete of one without a name', $anonymous);
	$look->($anonymous, 'profiles', undef, 'hard delete of one without a name');
	$quarantined->($anonymous, '', 'hard delete of one without a name');

	# Hal has a telephone.
	$answer = $call->('phone signup', 'POST', '/signup', { phone => '15550000001', password => $password, data => { full_name => 'Hal' } });
	my $hal = $answer->{body}{id};
	$look->($hal, 'profiles', { email => undef, phone => '15550000001', full_name => 'Hal', first_provider => 'phone' }, 'phone signup');
	$quarantined->($hal, 'public.contacts insert 23502 email', 'phone signup');
	$answer = $call->('phone confirmed', 'POST', '/verify', { type => 'sms', phone => '15550000001', token => '123456' });
	$token = $answer->{body}{access_token};
	$before = $versions->($hal);
	$login->('login by phone', phone => '15550000001');
	$untouched->($hal, $before, 'login by phone');
	$call->('phone change', 'PUT', '/user', { phone => '15550000002' }, $token);
	$look->($hal, 'profiles', { phone => '15550000001' }, 'phone change, not confirmed');
	$call->('phone change confirmed', 'POST', '/verify', { type => 'phone_change', phone => '15550000002', token => '123456' });
	$look->($hal, 'profiles', { phone => '15550000002' }, 'phone change');
	$call->('phone OTP of a new user', 'POST', '/otp', { phone => '15550000003', data => { full_name => 'Ina' } });
	$answer = $call->('phone OTP of a new user confirmed', 'POST', '/verify', { type => 'sms', phone => '15550000003', token => '123456' });
	my $ina = $answer->{body}{user}{id};
	$look->($ina, 'profiles', { phone => '15550000003', full_name => 'Ina' }, 'phone OTP of a new user');

	# They go.
	$delete->('soft delete', $dan, should_soft_delete => JSON::PP::true);
	$look->($dan, 'profiles', undef, 'soft delete');
	$look->($dan, 'people', { email => 'dan@example.com', is_active => 0 }, 'soft delete');
	$look->($dan, 'contacts', { email => 'dan@example.com' }, 'soft delete');
	$quarantined->($dan, '', 'soft delete');
	if ($params{looking})
	{
		is(value($node, $db, "SELECT deleted_at IS NOT NULL AND email <> 'dan\@example.com' FROM auth.users WHERE id = '$dan'"), 't', 'soft delete: the address is scrambled in auth.users');
	}
	$delete->('soft delete once more', $dan, should_soft_delete => JSON::PP::true);
	$call->('login of who was deleted', 'POST', '/magiclink', { email => 'dan@example.com' });
	$answer = $verify->('who was deleted is back as another', 'dan@example.com');
	$look->($answer->{body}{user}{id}, 'profiles', { email => 'dan@example.com', full_name => undef }, 'who was deleted is back as another');
	$delete->('hard delete after the soft one', $dan);
	$look->($dan, 'contacts', undef, 'hard delete after the soft one');
	$look->($dan, 'people', { email => 'dan@example.com', is_active => 0 }, 'hard delete after the soft one');
	$delete->('hard delete', $bob);
	$look->($bob, $_, undef, 'hard delete') for qw(profiles contacts);
	$look->($bob, 'people', { email => 'bob@example.com', is_active => 0 }, 'hard delete');
	$delete->('hard delete of who has a telephone', $_) for $hal, $ina;
	$look->($hal, 'profiles', undef, 'hard delete of who has a telephone');
	$quarantined->($hal, '', 'hard delete of who has a telephone');
	$delete->('delete who is not there', $bob);
	$call->('list', 'GET', '/admin/users', undef, $service);
	return;
}

1;
