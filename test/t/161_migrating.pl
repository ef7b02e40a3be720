# docs/migrating.md: its SQL, in its order, from a project with hand-written
# triggers to one without; and the claims it makes beside.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncDocs qw(page run_sql);
use InviteSyncLife qw(value);
use InviteSyncTest qw(new_cluster prepare_database new_database run_as);
use Test::More;

my $page = page('docs/migrating.md');
my @names = qw(handle_new_user create_user_profile sync_user_email create_user_directly sync_existing_auth_users create_user_quota_on_signup get_invitation_by_token);

# every name has its row and its section
for my $name (@names)
{
	like($page, qr/^\| `$name` \|/m, "$name is in the table");
	like($page, qr/^### .*\b$name\b/m, "$name has a section");
}

my $node = new_cluster('migrating');
prepare_database($node, 'template');
new_database($node, 'app', 'template');
run_sql($node, 'app', $page, role => 'postgres', name => 'migrating');

# "that alone ends": with the triggers guarded a signup goes through whatever happens to their tables
new_database($node, 'guarded', 'template');
my ($there, $guard) = $page =~ /^```sql\n(-- as postgres: what is there\n.*?)^```.*?^```sql\n(select g\.trigger_name.*?)^```/ms or die 'the page has lost its project';
run_as($node, 'guarded', 'postgres', "$_\n;")->{ok} or die for $there, $guard, 'DROP TABLE public.profiles, public.user_quotas';
my $signup = run_as($node, 'guarded', 'supabase_auth_admin', q{INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'zoe@example.com')});
ok($signup->{ok}, 'under guard a signup goes through without the tables');
is(value($node, 'guarded', 'SELECT string_agg(trigger_name, $$ $$ ORDER BY trigger_name) FROM invite_sync.quarantine'),
	'on_auth_user_created on_auth_user_created_quota', 'and what failed is in quarantine');

# the setting that carried the quota over is in force for new connections
is(value($node, 'app', q{SELECT granted FROM invite_sync.quota_report() WHERE user_id = '00000000-0000-4000-8000-00000000000b'}), 5, 'users have the quota they had');

# Gil signs in with what he had: the digest is there, as it was
is(value($node, 'app', q{SELECT encrypted_password FROM auth.users WHERE email = 'gil@example.com'}), '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy', 'the imported digest is kept');

$node->stop;
done_testing();
