# What is said to clients, to listeners and to the server's log, and what is not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(as_role value signup);
use InviteSyncTest qw(new_cluster prepare_database session run_as slurp);
use Test::More;

my $db = 'app';
my $node = new_cluster('messages', conf => "log_min_messages = notice\nlog_error_verbosity = verbose\nlog_statement = none\nlog_min_error_statement = panic\n");
prepare_database($node, $db);
as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.members (user_id uuid PRIMARY KEY, email text UNIQUE, full_name text CHECK (full_name <> 'Secret Name'));
SELECT invite_sync.add_target('public.members');
SQL

# ---------------------------------------------------------------------------
# sync_all says how far it is, once a second

as_role($node, $db, 'supabase_auth_admin', signup('a', $_, "slow$_\@example.com")) for 1 .. 4;
as_role($node, $db, 'postgres', <<'SQL');
DELETE FROM public.members;
CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.6); RETURN NEW; END $$;
CREATE TRIGGER dawdle BEFORE INSERT ON public.members FOR EACH ROW EXECUTE FUNCTION public.dawdle();
SQL
my $all = run_as($node, $db, 'postgres', 'CALL invite_sync.sync_all(1)');
ok($all->{ok}, 'sync_all()') or diag($all->{stderr});
like($all->{stderr}, qr/NOTICE: .*public\.members: [1-3] of 4 done, \d+ per second, \d+ s to go/, 'says how many are done, how fast, and how long it will take');
like($all->{stderr}, qr/NOTICE: .*public\.members: done, 4 users written/, 'and what it did');
as_role($node, $db, 'postgres', 'DROP TRIGGER dawdle ON public.members');

# ---------------------------------------------------------------------------
# grant_api tells PostgREST to look again

my $listener = session($node, $db, 'supabase_admin');
$listener->must('LISTEN pgrst');
like($listener->must('SELECT invite_sync.grant_api(); SELECT 1'), qr/notification "pgrst" with payload "reload schema"/, 'grant_api() ends with the notification that reloads the schema');
$listener->close;

# ---------------------------------------------------------------------------
# The log names targets, SQLSTATEs and ids, and nothing of the rows

as_role($node, $db, 'postgres', <<'SQL');
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.email LIKE 'teller%' THEN
		RAISE EXCEPTION 'no to %', NEW.email USING DETAIL = 'detail of ' || NEW.email, HINT = 'hint of ' || NEW.email;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON public.members FOR EACH ROW EXECUTE FUNCTION public.tell();
INSERT INTO public.members VALUES (gen_random_uuid(), 'taken@example.com', 'Somebody Else');
SQL
value($node, $db, <<'SQL');
CREATE FUNCTION public.guarded() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM (NEW.email)::integer; RETURN NULL; END $$;
CREATE TRIGGER guarded AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.guarded();
SELECT invite_sync.guard_trigger('guarded');
SQL
my $before = -s $node->logfile;
as_role($node, $db, 'supabase_auth_admin', signup('b', 1, 'teller@example.com', bare => 1));
as_role($node, $db, 'supabase_auth_admin', signup('b', 2, 'taken@example.com', bare => 1));
as_role($node, $db, 'supabase_auth_admin', q{INSERT INTO auth.users (id, email, raw_user_meta_data, encrypted_password) VALUES ('b0000003-0000-4000-8000-000000000000', 'third@example.com', '{"full_name": "Secret Name"}', 'HASH')});
is(value($node, $db, q{SELECT string_agg(concat_ws(' ', coalesce(target, trigger_name), sqlstate), ', ' ORDER BY id) FROM invite_sync.quarantine}),
	'guarded 22P02, public.members P0001, guarded 22P02, public.members 23505, guarded 22P02, public.members 23514', 'each of them is in quarantine');
my $log = substr slurp($node->logfile), $before;
like($log, qr/WARNING: .*sync to public\.members failed for 1 of 1 users and is in quarantine/, 'the log has the target');
like($log, qr/SQLSTATE $_\b/, "the log has $_") for qw(P0001 23505 23514 22P02);
like($log, qr/b0000003-0000-4000-8000-000000000000/, 'the log has the id');
unlike($log, qr/\@example\.com|Secret Name|Somebody|HASH|Failing row|already exists|detail of|hint of/, 'the log has nothing of the rows');

$node->stop;
done_testing();
