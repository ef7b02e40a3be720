use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncCrowd;
use InviteSyncLife qw(durable_cluster value);
use InviteSyncTest qw(prepare_database);
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'app';
my $node = durable_cluster('load', conf => "max_connections = 1100\nlog_min_messages = warning\nlog_line_prefix = '%m [%p] %a %e '");
prepare_database($node, $db);
value($node, $db, <<'SQL');
SELECT invite_sync.attach();
INSERT INTO auth.users (id, email, email_confirmed_at) SELECT ('b' || lpad(to_hex(i), 7, '0') || '-0000-4000-8000-000000000000')::uuid, 'u' || i || '@load.example', now() FROM generate_series(0, 1000) AS i;
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('a0000000-0000-4000-8000-000000000000', 'x', 'x');
UPDATE invite_sync.organization SET seat_limit = 5;
SQL
my $t = time;
my $crowd = InviteSyncCrowd->new($node, $db, 'authenticator', 1000, options => '-c statement_timeout=0 -c lock_timeout=100s');
diag sprintf 'connect %.1f', time - $t;
for my $round (1 .. 4) {
my ($r, $s) = $crowd->together(1000, sub { sprintf q{BEGIN; SET LOCAL ROLE service_role; SELECT set_config('request.jwt.claims', '{"role":"service_role"}', true); SELECT * FROM invite_sync.add_member('a0000000-0000-4000-8000-000000000000', 'b%07x-0000-4000-8000-000000000000'); COMMIT}, $_[0] });
my %s; $s{"$_->{state} $_->{detail}"}++ for @$r;
diag sprintf '%.1f s: %s', $s, join ', ', map {"$_ x $s{$_}"} sort keys %s;
}
diag value($node, $db, 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()');
diag value($node, $db, 'SELECT count(*) FROM invite_sync.membership');
system("ps -eo rss,cmd --sort -rss | grep -m3 authenticator; free -m");
$t = time;
$crowd->close;
diag sprintf 'close %.1f', time - $t;
pass();
$node->stop;
done_testing();
