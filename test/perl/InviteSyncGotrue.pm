# The real auth server, for the tests in test/gotrue: databases with the schema
# that its own migrations make, the server on one of them with a sink for its
# mails, calls over HTTP, and its answers in a form that can be compared.
#
# The server's program is named by GOTRUE_SERVER; test/gotrue/README.md says
# more. Modules of Perl's core and PostgreSQL's own only.
package InviteSyncGotrue;

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use Exporter 'import';
use HTTP::Tiny;
use InviteSyncTest qw(slurp fixture_path session differences);
use InviteSyncLife qw(as_role value registered_targets);
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(encode_base64url decode_base64url);
use MIME::QuotedPrint qw(decode_qp);
use POSIX ();
use PostgreSQL::Test::Cluster;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(migrated_database start_server in_place);

my $secret = 'a secret of at least thirty-two characters';
my $json = JSON::PP->new->canonical->allow_nonref;
my $path = $ENV{PATH};

# ---------------------------------------------------------------------------
# Processes. What is started ends with the test: by stop(), at the latest by the
# kernel when the test's process is gone, however that came.

my %running;

sub _start
{
	my ($log, $env, @command) = @_;
	my $pid = fork;
	die "fork: $!" unless defined $pid;
	if (!$pid)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $log;
		open STDERR, '>&', \*STDOUT;
		%ENV = %$env if $env;
		exec 'setpriv', '--pdeathsig', 'KILL', @command or POSIX::_exit(127);
	}
	$running{$pid} = $$;
	return $pid;
}

sub _stop
{
	my ($pid) = @_;
	local $?;
	delete $running{$pid};
	kill 'TERM', $pid;
	for (1 .. 100)
	{
		return if waitpid($pid, POSIX::WNOHANG()) != 0;
		sleep 0.1;
	}
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

END
{
	_stop($_) for grep { $running{$_} == $$ } keys %running;
}

sub _until
{
	my ($what, $pid, $log, $check) = @_;
	my $deadline = time + 60;
	while (time < $deadline)
	{
		return if $check->();
		last if waitpid($pid, POSIX::WNOHANG()) != 0;
		sleep 0.05;
	}
	die "$what does not start:\n" . slurp($log);
}

# ---------------------------------------------------------------------------
# Databases

# The environment of the server. Nothing of the caller's own is passed on, and
# whatever limits how often something may be done is out of the way.
sub _environment
{
	my ($node, $dbname, %more) = @_;
	my $host = $node->host;
	my $port = $node->port;

	return {
		PATH => $path,
		DATABASE_URL => "postgres://supabase_auth_admin\@/$dbname?host=$host&port=$port&sslmode=disable",
		DB_NAMESPACE => 'auth',
		GOTRUE_DB_DRIVER => 'postgres',
		GOTRUE_DB_MAX_POOL_SIZE => 20,
		GOTRUE_API_HOST => '127.0.0.1',
		PORT => 1,
		API_EXTERNAL_URL => 'http://127.0.0.1',
		GOTRUE_SITE_URL => 'http://127.0.0.1',
		GOTRUE_LOG_LEVEL => 'info',
		GOTRUE_JWT_SECRET => $secret,
		GOTRUE_JWT_EXP => 3600,
		GOTRUE_JWT_AUD => 'authenticated',
		GOTRUE_JWT_ADMIN_ROLES => 'service_role',
		GOTRUE_JWT_DEFAULT_GROUP_NAME => 'authenticated',
		GOTRUE_EXTERNAL_ANONYMOUS_USERS_ENABLED => 'true',
		GOTRUE_EXTERNAL_PHONE_ENABLED => 'true',
		GOTRUE_MAILER_AUTOCONFIRM => 'false',
		GOTRUE_SMS_AUTOCONFIRM => 'false',
		# these numbers need nobody who sends messages
		GOTRUE_SMS_TEST_OTP => join(',', map { "1555000000$_:123456" } 0 .. 9),
		GOTRUE_SMTP_MAX_FREQUENCY => '1ns',
		GOTRUE_SMS_MAX_FREQUENCY => '1ns',
		(map { ("GOTRUE_RATE_LIMIT_$_" => 1_000_000) } qw(VERIFY TOKEN_REFRESH SSO ANONYMOUS_USERS OTP WEB3 PASSKEY)),
		GOTRUE_RATE_LIMIT_EMAIL_SENT => 1_000_000,
		GOTRUE_RATE_LIMIT_SMS_SENT => 1_000_000,
		%more };
}

# A new database as Supabase's image makes it, in which the server's own
# migrations have made schema auth: the first part of the fixture has the roles
# and the schemas, the second would have the tables.
sub migrated_database
{
	my ($node, $dbname) = @_;
	my ($head) = slurp(fixture_path()) =~ /\A(.*?)^-- -+\n-- Schema auth: all that follows/ms
	  or die 'the fixture has no part with the roles';
	my $log = $node->logfile . '.migrate';

	$node->safe_psql('template1', qq{CREATE DATABASE "$dbname"});
	$node->safe_psql($dbname, "$head\nCOMMIT;");
	my $pid = _start($log, _environment($node, $dbname), $ENV{GOTRUE_SERVER}, 'migrate');
	waitpid $pid, 0;
	delete $running{$pid};
	die "the migrations failed:\n" . slurp($log) if $?;
	return;
}

# ---------------------------------------------------------------------------
# The server

# On a database, with a sink of its own for mails, or none: mails => 0. What else
# is given is for its environment.
sub start_server
{
	my ($node, $dbname, %more) = @_;
	my $self = bless { node => $node, dbname => $dbname, said => [], aliases => {}, seen => {}, mails => [] }, __PACKAGE__;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $wanted = delete $more{mails};

	$self->{log} = $node->logfile . ".$dbname.server";
	if (!defined $wanted || $wanted)
	{
		my $smtp = PostgreSQL::Test::Cluster::get_free_port();
		$self->{maildir} = PostgreSQL::Test::Utils::tempdir() . "/mails.$dbname";
		$self->{sink} = _start("$self->{log}.sink", undef, '/usr/bin/aiosmtpd', '-n', '-l', "127.0.0.1:$smtp",
			'-c', 'aiosmtpd.handlers.Mailbox', $self->{maildir});
		_until('the sink for mails', $self->{sink}, "$self->{log}.sink",
			sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $smtp) });
		%more = (GOTRUE_SMTP_HOST => '127.0.0.1', GOTRUE_SMTP_PORT => $smtp, GOTRUE_SMTP_ADMIN_EMAIL => 'auth@example.com', %more);
	}

	$self->{url} = "http://127.0.0.1:$port";
	$self->{http} = HTTP::Tiny->new(timeout => 30, proxy => undef, http_proxy => undef, https_proxy => undef);
	$self->{pid} = _start(
		$self->{log},
		_environment($node, $dbname, PORT => $port, %more),
		$ENV{GOTRUE_SERVER}, 'serve');
	_until('the auth server', $self->{pid}, $self->{log},
		sub { $self->{http}->get("$self->{url}/health")->{status} == 200 });
	return $self;
}

sub stop
{
	my ($self) = @_;
	_stop($_) for grep { defined } delete @$self{qw(pid sink)};
	return;
}

# A token signed with HS256, as Supabase's service key is one.
sub _jwt
{
	my (%claims) = @_;
	my $signed = join '.', map { encode_base64url($json->encode($_)) } { alg => 'HS256', typ => 'JWT' }, \%claims;
	return $signed . '.' . encode_base64url(hmac_sha256($signed, $secret));
}

sub service_token
{
	return _jwt(role => 'service_role', aud => 'authenticated', iss => 'supabase', exp => time + 3600);
}

# One request; the answer's status and its JSON. as: the token of whom.
sub request
{
	my ($self, $method, $where, $body, $as) = @_;
	my $response = $self->{http}->request($method, "$self->{url}$where", {
		headers => {
			'Content-Type' => 'application/json',
			defined $as ? (Authorization => "Bearer $as") : () },
		defined $body ? (content => $json->encode($body)) : () });
	my $content = eval { $json->decode($response->{content}) };
	return {
		status => $response->{status} + 0,
		body => defined $content || $response->{content} eq 'null' ? $content : $response->{content} };
}

# A request that is part of a story: what is answered, and what is mailed, is
# kept in a form that does not depend on chance.
sub call
{
	my ($self, $name, @request) = @_;
	my $answer = $self->request(@request);
	my @mails = $self->new_mails;
	$_->{subject} =~ s/\b\d{6}\b/<code>/ for @mails;
	push @{ $self->{said} },
	  {
		name => $name,
		text => $json->encode([
			$answer->{status}, $self->_plain($answer->{body}), map { "mail to $_->{to}: $_->{subject}" } @mails ]) };
	return $answer;
}

sub said { return @{ $_[0]{said} } }

# Without what is different each time: ids by the order in which they came,
# times and secrets by what they are, tokens by what is in them.
sub _plain
{
	my ($self, $value, $key) = @_;
	$key = '' unless defined $key;
	if (ref $value eq 'HASH' && $value->{deleted_at})
	{
		# made from the user's id
		$value = { %$value, map { ($_ => '<scrambled>') } grep { $value->{$_} } qw(email new_email phone new_phone) };
	}
	return { map { ($_ => $self->_plain($value->{$_}, $_)) } sort keys %$value } if ref $value eq 'HASH';
	return [ map { $self->_plain($_, $key) } @$value ] if ref $value eq 'ARRAY';
	return $value if !defined $value || ref $value || $value eq '';

	return '<time>' if $key =~ /^(?:exp|iat|expires_at|timestamp)$/;
	return '<secret>' if $key =~ /^(?:refresh_token|hashed_token|email_otp|action_link|error_id)$/;
	if ($value =~ /^[\w-]+\.([\w-]+)\.[\w-]+$/ && $key eq 'access_token')
	{
		return { 'token of' => $self->_plain($json->decode(decode_base64url($1))) };
	}
	return '<time>' if $value =~ /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;
	my $uuid = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
	$value =~ s/($uuid)/$self->{aliases}{$1} ||= '<id ' . scalar(keys %{ $self->{aliases} }) . '>'/eg;
	return $value;
}

# ---------------------------------------------------------------------------
# Mails

# What has come since the last look, by recipient: to, subject, and the type and
# the hash of the token in its link.
sub new_mails
{
	my ($self) = @_;
	return unless $self->{maildir};
	my @new;
	for my $file (grep { !$self->{seen}{$_}++ } glob "$self->{maildir}/new/*")
	{
		my ($head, $body) = split /\r?\n\r?\n/, slurp($file), 2;
		my ($to) = $head =~ /^To: *<?([^>\s]+)/mi;
		my ($subject) = $head =~ /^Subject: *(.*?)\r?$/mi;
		my ($link) = decode_qp($body) =~ /href="([^"]+)"/;
		my %mail = (to => $to, subject => $subject);
		if (defined $link)
		{
			$link =~ s/&amp;/&/g;
			($mail{hash}) = $link =~ /[?&]token=([^&]+)/;
			($mail{type}) = $link =~ /[?&]type=([^&]+)/;
		}
		push @new, \%mail;
	}
	@new = sort { $a->{to} cmp $b->{to} || $a->{subject} cmp $b->{subject} } @new;
	push @{ $self->{mails} }, @new;
	return @new;
}

# What the newest mail to an address asks for, as the body of POST /verify.
sub link_to
{
	my ($self, $to) = @_;
	my ($mail) = grep { $_->{to} eq $to && $_->{hash} } reverse @{ $self->{mails} };
	die "no mail with a link to $to" unless $mail;
	return { type => $mail->{type}, token_hash => $mail->{hash} };
}

# ---------------------------------------------------------------------------
# What keeps the targets from being what auth.users says, column by column, an
# empty string when nothing does; kept: the target whose rows outlive their users;
# without: columns that are not compared.
sub in_place
{
	my ($node, $dbname, %params) = @_;
	my $admin = session($node, $dbname, 'supabase_admin');
	my @targets = registered_targets($node, $dbname);
	my @found;

	push @found, 'there is no target' unless @targets;
	for my $target (@targets)
	{
		# what the comparison reads is users alone
		s/\bidentity_provider\b/(SELECT i.provider FROM auth.identities i WHERE i.user_id = users.id ORDER BY i.created_at LIMIT 1)/
		  for values %{ $target->{mapping} };
		delete @{ $target->{mapping} }{ @{ $params{without} || [] } };
		push @found, map { "$target->{target}: $_" } split /\n/,
		  differences($admin, %$target, orphans => $params{kept} && $target->{target} eq $params{kept});
	}
	my $left = $admin->must(q{SELECT string_agg(concat_ws(' ', target, trigger_name, user_id, action, sqlstate, message), E'\n') FROM invite_sync.quarantine});
	push @found, "in quarantine: $left" if $left ne '';
	my $missing = $admin->must(q{SELECT string_agg(target || ': ' || missing || ' missing', ', ') FROM invite_sync.sync_status() WHERE missing <> 0});
	push @found, $missing if $missing ne '';
	$admin->close;
	return join "\n", @found;
}

1;
