# The pages below docs/ as tests: their SQL is run as it stands there, in its
# order, and must show what the page shows.
package InviteSyncDocs;

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(dirname);
use File::Spec;
use InviteSyncTest qw(slurp);
use IPC::Run qw(run);
use Test::More;

our @EXPORT_OK = qw(root page blocks section run_sql);

my $root = File::Spec->rel2abs(dirname(__FILE__) . '/../..');

sub root { return $root }
sub page { return slurp("$root/$_[0]") }

# The blocks of a text, each with its language, its line, and the block without
# a language after it, which is what it shows.
sub blocks
{
	my ($text) = @_;
	my @blocks;
	while ($text =~ /^```(\w*)\n(.*?)^```$/gms)
	{
		my ($language, $body) = ($1, $2);
		my $line = (substr($text, 0, $-[0]) =~ tr/\n//) + 1;
		if ($language ne '')
		{
			push @blocks, { language => $language, body => $body, line => $line };
		}
		elsif (@blocks)
		{
			die "the output at line $line is nobody's" if defined $blocks[-1]{shows};
			$blocks[-1]{shows} = $body;
		}
	}
	return @blocks;
}

# What stands under a heading, up to the next one of its level or above.
sub section
{
	my ($text, $heading) = @_;
	my ($found) = $text =~ /^(\Q$heading\E\n.*?)(?=^#{1,@{[ $heading =~ tr{#}{} ]}} |\z)/ms;
	return defined $found ? $found : die "there is no section $heading";
}

# Trailing space and empty lines are nothing; what a call took is its own affair.
sub plain
{
	my ($text) = @_;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\n{2,}/\n/g;
	$text =~ s/ in \d+\.\d s$/ in 0.0 s/mg;
	$text =~ s/\A\n+|\n+\z//g;
	return $text;
}

# The SQL blocks of a text through psql, one test each. In the first line a
# comment "as ROLE" says who; otherwise it is $params{role}. A block that shows
# nothing must not fail; one whose output the page shows must show that, at its
# end with $params{ends}.
sub run_sql
{
	my ($node, $dbname, $text, %params) = @_;
	for my $block (grep { $_->{language} eq 'sql' } blocks($text))
	{
		my ($comment) = $block->{body} =~ /\A-- (.*)/;
		my ($role) = ($comment || '') =~ /\bas (\w+)/;
		$role ||= $params{role};
		my $shows = defined $block->{shows} ? plain($block->{shows}) : undef;
		my $may_fail = defined $shows && $shows =~ /^ERROR: /m;
		my ($name) = $block->{body} =~ /\A(?:-- .*\n)?(.{1,60})/;
		my $output = '';
		run [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=' . ($may_fail ? 0 : 1), '-P', 'footer=off', '-d',
			$node->connstr($dbname) . " user=$role", '-f', '-' ], '<', \$block->{body}, '>&', \$output;
		my $good = $? == 0;
		$output =~ s/^psql:<stdin>:\d+: //mg;
		my $shown = plain($output);
		$shown = substr $shown, -length $shows if $params{ends} && defined $shows && length $shown > length $shows;
		$good &&= defined $shows ? $shown eq $shows : $output !~ /^(?:WARNING|ERROR): /m;
		ok($good, "$params{name}: $name") or diag("as $role:\n$output" . (defined $shows ? "the page shows:\n$shows" : ''));
	}
	return;
}

1;
