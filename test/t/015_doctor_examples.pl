# What doctor() says of databases whose signups, updates, logins or deletions
# fail, and that its fix mends them as it stands; and that it has nothing to say
# of healthy ones.
#
# test/doctor/*.sql         one fault each; test/doctor/README.md has the header
# test/doctor/healthy/*.sql
#
# DOCTOR_CASES=name,name    runs only these; plpgsql_check: what is asked of it
# DOCTOR_DIRECTORY=path     cases from elsewhere, in place of test/doctor

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Basename qw(basename);
use InviteSyncTest qw(new_cluster prepare_database new_database run_as signup_sql delete_user_sql slurp);
use JSON::PP;
use Test::More;

my $directory = $ENV{DOCTOR_DIRECTORY} || "$FindBin::RealBin/../doctor";
my %only = map { $_ => 1 } split /,/, $ENV{DOCTOR_CASES} || '';
my $template = 'doctor_template';
my $superuser = 'supabase_admin';
my $auth = 'supabase_auth_admin';
my $node = new_cluster('doctor_examples');
prepare_database($node, $template);
my $major = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);

sub wanted
{
	my ($path) = @_;
	return !%only || $only{ basename($path, '.sql') };
}

sub header
{
	my ($path) = @_;
	my %header = map { /^-- ([\w-]+): (.*)$/ ? ($1 => $2) : () } split /\n/, slurp($path);
	return \%header;
}

sub build
{
	my ($path, $dbname) = @_;
	new_database($node, $dbname, $template);
	my $built = run_as($node, $dbname, $superuser, slurp($path));
	return ok($built->{ok}, 'is built') || diag($built->{stderr});
}

sub findings
{
	my ($dbname, $probe) = @_;
	my $result = run_as($node, $dbname, $superuser, "SELECT coalesce(json_agg(d), '[]') FROM invite_sync.doctor(probe => " . ($probe ? 'true' : 'false') . ') AS d');
	ok($result->{ok}, 'doctor() answers') or diag($result->{stderr});
	return $result->{ok} ? @{ decode_json($result->{out}) } : ();
}

sub plain
{
	my ($text) = @_;
	($text = lc $text) =~ tr/-/ /;
	return $text;
}

# undef: what the auth server does works; otherwise how it does not.
sub failure
{
	my ($dbname, $header) = @_;
	if (my $scan = $header->{'scan-check'})
	{
		my $bad = run_as($node, $dbname, $superuser, $scan);
		return $bad->{out} eq '0' ? undef : "rows that cannot be read: $bad->{out}";
	}
	my $result = run_as($node, $dbname, $auth, $header->{'failing-statement'});
	return $result->{sqlstate} unless $result->{ok};
	if (my $left = $header->{'rows-left'})
	{
		my $rows = run_as($node, $dbname, $superuser, $left);
		return 'none' unless $rows->{out} eq '0';
	}
	return undef;
}

my $number = 0;
for my $path (sort glob "$directory/*.sql")
{
	next unless wanted($path);
	subtest basename($path, '.sql') => sub {
		my $header = header($path);
		my $dbname = 'doctor_' . ++$number;
		build($path, $dbname) or return;

		if ($header->{'max-version'} && $header->{'max-version'} < $major)
		{
			is(failure($dbname, $header), undef, "it works after $header->{'max-version'}");
			my @errors = grep { $_->{severity} eq 'error' } findings($dbname);
			is(scalar @errors, 0, 'and nothing is said against it') or diag(encode_json(\@errors));
			$node->safe_psql('template1', "DROP DATABASE $dbname");
			return;
		}
		my $failure = failure($dbname, $header);
		if ($header->{sqlstate} eq 'none')
		{
			ok(defined $failure, 'it does not do what it should');
		}
		else
		{
			# majors differ: 18 tells RESTRICT from NO ACTION
			ok((grep { $_ eq ($failure // '') } split ' ', $header->{sqlstate}), 'it fails as it should')
			  or diag('got ' . ($failure // 'no failure') . ", expected $header->{sqlstate}");
		}
		my @findings = findings($dbname);
		my @serious = grep { $_->{severity} ne 'info' } @findings;
		ok(@serious > 0, 'something is found');
		my $said = plain(join "\n", map { "$_->{finding}\n$_->{detail}" } @serious);
		my @missing = grep { index($said, plain($_)) < 0 } split /,\s*/, $header->{'expect-diagnosis'};
		is("@missing", '', 'the diagnosis has the words') or diag(encode_json(\@findings));
		like($_->{severity}, qr/^(error|warning|info)$/, 'a severity') for @findings;

		my $fix = join "\n", map { $_->{fix} } grep { defined $_->{fix} } @serious;
		if (($header->{fix} || '') eq 'none')
		{
			note("no fix: $fix");
		}
		elsif (ok($fix ne '', 'there is a fix'))
		{
			my $fixed = run_as($node, $dbname, $superuser, $fix);
			ok($fixed->{ok}, 'the fix runs as it stands') or diag("$fix\n$fixed->{stderr}");
			is(failure($dbname, $header), undef, 'and mends') or diag($fix);
			my @left = grep { $_->{severity} eq 'error' } findings($dbname);
			is(scalar @left, 0, 'no error is left') or diag(encode_json(\@left));
		}
		$node->safe_psql('template1', "DROP DATABASE $dbname");
	};
}

for my $path (sort glob "$directory/healthy/*.sql")
{
	next unless wanted($path);
	subtest 'healthy: ' . basename($path, '.sql') => sub {
		my $dbname = 'doctor_' . ++$number;
		build($path, $dbname) or return;
		for my $when ('before there is anybody', 'afterwards')
		{
			my @serious = grep { $_->{severity} ne 'info' } findings($dbname);
			is(scalar @serious, 0, "nothing is wrong $when") or diag(encode_json(\@serious));
			my @tried = findings($dbname, 1);
			my @failed = grep { $_->{severity} ne 'info' } @tried;
			is(scalar @failed, 0, "nor when it is tried, $when") or diag(encode_json(\@failed));
			is(scalar(grep { $_->{finding} =~ /not probed|nothing was probed/ } @tried), 0, 'it was tried');
			next unless $when eq 'before there is anybody';
			my %user = (id => '30000000-0000-4000-8000-000000000001', email => 'somebody@example.com');
			for my $sql (signup_sql(%user), "UPDATE users SET last_sign_in_at = now() WHERE id = '$user{id}'", delete_user_sql($user{id}), signup_sql(%user))
			{
				my $result = run_as($node, $dbname, $auth, $sql);
				ok($result->{ok}, 'the auth server is served') or diag("$sql\n$result->{stderr}");
			}
		}
		$node->safe_psql('template1', "DROP DATABASE $dbname");
	};
}

# What only planning sees is plpgsql_check's to say, where it is installed; as the owner of the body, and nobody else.
SKIP:
{
	skip 'plpgsql_check is not installed', 1
	  unless $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'plpgsql_check'});
	last SKIP if $ENV{DOCTOR_DIRECTORY} || %only && !$only{plpgsql_check};
	new_database($node, 'doctor_checked', $template);
	my $built = run_as($node, 'doctor_checked', $superuser, <<'SQL');
CREATE ROLE doctor_checked NOLOGIN;
CREATE SCHEMA elsewhere;
CREATE EXTENSION plpgsql_check SCHEMA elsewhere;
CREATE TABLE public.score (id uuid, points float);
CREATE FUNCTION public.spy() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RAISE WARNING 'asked as %', current_user; RETURN 1; END $$;
CREATE FUNCTION public.score() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
	IF pg_catalog.to_regclass('public.later') IS NOT NULL THEN
		INSERT INTO public.later (id) VALUES (NEW.id);
	END IF;
	INSERT INTO public.score (id, points) VALUES (NEW.id, public.spy() + pg_catalog.ln(0::float));
	RETURN NEW;
END $$;
ALTER TABLE public.score OWNER TO doctor_checked;
ALTER FUNCTION public.spy() OWNER TO doctor_checked;
ALTER FUNCTION public.score() OWNER TO doctor_checked;
CREATE TRIGGER score AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.score();
SQL
	ok($built->{ok}, 'a body that plpgsql_check knows more of is built') or diag($built->{stderr});
	my $ask = q{SELECT severity, object, finding, detail FROM invite_sync.doctor() WHERE area = 'function'};
	like(run_as($node, 'doctor_checked', $superuser, $ask)->{out}, qr/^info\|public\.score\(\)\|plpgsql_check could not be asked\|.*permission denied/, 'whose owner may not call it is told so');
	$node->safe_psql('doctor_checked', 'GRANT USAGE ON SCHEMA elsewhere TO doctor_checked');
	my $said = run_as($node, 'doctor_checked', $superuser, $ask);
	like($said->{out}, qr/^warning\|public\.score\(\)\|a statement fails: cannot take logarithm of zero\|At line 6 .*: plpgsql_check says so\. SQLSTATE 2201E.*\n?\z/, 'what it says is told');
	like($said->{stderr}, qr/asked as doctor_checked/, 'planned as the owner');
	unlike($said->{stderr}, qr/asked as (?!doctor_checked)/, 'and as nobody else');
	$node->safe_psql('template1', 'DROP DATABASE doctor_checked');
}

$node->stop('fast');
done_testing();
