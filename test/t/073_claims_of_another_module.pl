# Where another module has defined request.jwt.claims, nothing tells us of its
# changes: the text is read again for each question, and never a stale answer given.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(value);
use InviteSyncTest qw(new_cluster prepare_database session run_as);
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $config = $ENV{PG_CONFIG} || 'pg_config';
my ($include, $compiler) = map { my $answer = `$config --$_`; chomp $answer; $answer } qw(includedir-server cc);
PostgreSQL::Test::Utils::append_to_file("$dir/owner.c", <<'C');
#include "postgres.h"
#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static char *claims;
static char *sub;

void
_PG_init(void)
{
	DefineCustomStringVariable("request.jwt.claims", "of another module", NULL, &claims, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("request.jwt.claim.sub", "of another module", NULL, &sub, "", PGC_USERSET, 0, NULL, NULL, NULL);
}
C
system("$compiler -shared -fPIC -I'$include' -o '$dir/owner.so' '$dir/owner.c'") == 0 or die 'the other module does not build';

my $db = 'app';
my $node = new_cluster('claims', conf => "session_preload_libraries = '$dir/owner.so'\n");
prepare_database($node, $db);
my $id = 'a0000001-0000-4000-8000-000000000000';
value($node, $db, "INSERT INTO auth.users (id) VALUES ('$id')");

my $user_claims = qq({"sub": "$id", "role": "authenticated"});
my $service_claims = '{"role": "service_role"}';
my $ask = 'SELECT invite_sync.is_operator();';
my $session = session($node, $db, 'postgres');
is($session->must("$ask SELECT short_desc FROM pg_settings WHERE name = 'request.jwt.claims'"), "t\nof another module", 'the setting is the other module\'s, also after our library is loaded');
is($session->must(<<"SQL"), "f\nt\nf\nt\nf\nt\nf\nt", 'claims follow SET, SET LOCAL, savepoints and RESET');
SET request.jwt.claims = '$user_claims'; $ask
RESET request.jwt.claims; $ask
BEGIN; SET LOCAL request.jwt.claims = '$user_claims'; $ask
SAVEPOINT a; SET LOCAL request.jwt.claims = '$service_claims'; $ask
ROLLBACK TO a; $ask
COMMIT; $ask
SET request.jwt.claim.sub = '$id'; $ask
RESET request.jwt.claim.sub; $ask
SQL
$session->close;
is(run_as($node, $db, 'authenticated', "SET request.jwt.claims = '$user_claims'; SELECT invite_sync.log_event('by.claims') IS NOT NULL")->{out}, 't', 'a user logs');
is(run_as($node, $db, 'authenticated', "SET request.jwt.claim.sub = '$id'; SELECT invite_sync.log_event('by.legacy.claim') IS NOT NULL")->{out}, 't', 'also by the older setting');
is(value($node, $db, q{SELECT string_agg(actor_id::text, ' ') FROM invite_sync.event WHERE action LIKE 'by.%'}), "$id $id", 'as themselves');
is(run_as($node, $db, 'service_role', "SET request.jwt.claims = '$user_claims'; SELECT count(*) FROM invite_sync.sync_status()")->{sqlstate}, 'PT403', 'claims lower service');

$node->stop;
done_testing();
