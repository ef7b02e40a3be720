# An answer of the RLS helpers is never older than the statement that asks, and
# never newer: whatever changes between two questions, whoever changes it, and
# wherever the question stands. Every case asks before, so that there is
# something kept that could be stale.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value);
use InviteSyncTest qw(prepare_database session run_as);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'app';
my $node = durable_cluster('rls', allows_streaming => 1);
prepare_database($node, $db);
my $major = value($node, $db, q{SELECT current_setting('server_version_num')::int / 10000});

my ($A, $B) = map { "${_}0000000-0000-4000-8000-000000000000" } qw(a b);
my ($U1, $U2) = map { "00000000-0000-4000-8000-00000000000$_" } 1, 2;
my ($OWNER, $ADMIN, $MEMBER) = map { "00000000-0000-4000-8000-00000000000$_" } qw(a b c);
my %claims = map { $_ => qq({"sub": "$_", "role": "authenticated"}) } $U1, $U2;

value($node, $db, <<"SQL");
INSERT INTO auth.users (id, email) VALUES ('$U1', 'u1\@example.com'), ('$U2', 'u2\@example.com');
INSERT INTO invite_sync.organization (id, name, slug) VALUES ('$A', 'A', 'a'), ('$B', 'B', 'b');
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$B', '$U2', '$MEMBER');
-- how a caller's own transaction changes memberships here
CREATE FUNCTION public.enter(person uuid DEFAULT '$U1', place uuid DEFAULT '$A', role uuid DEFAULT '$MEMBER') RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS \$\$
BEGIN
	INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES (place, person, role);
	RETURN 'in';
END \$\$;
CREATE FUNCTION public.leave(person uuid DEFAULT '$U1', place uuid DEFAULT '$A') RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS \$\$
BEGIN
	DELETE FROM invite_sync.membership AS m WHERE m.organization_id = place AND m.user_id = person;
	RETURN 'out';
END \$\$;
GRANT EXECUTE ON FUNCTION invite_sync.membership_loads() TO authenticated;
CREATE TABLE public.document (n integer, organization_id uuid);
INSERT INTO public.document SELECT n, CASE WHEN n % 2 = 0 THEN '$A' ELSE '$B' END::uuid FROM generate_series(1, 20000) AS n;
ANALYZE public.document;
GRANT SELECT ON public.document TO authenticated;
GRANT CREATE ON SCHEMA public TO authenticated;
SQL

# A request's session, as the user; each case begins as nobody's member.
sub request
{
	my ($user) = @_;
	my $session = session($node, $db, 'authenticated');
	$session->must("SET request.jwt.claims = '$claims{$user || $U1}'");
	return $session;
}
my $ask = "SELECT invite_sync.is_member('$A')";
my $s = request();
my $other = session($node, $db, 'supabase_admin');
my $enter = "INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$A', '$U1', '$MEMBER')";
my $leave = "DELETE FROM invite_sync.membership WHERE user_id = '$U1'";

# What follows from a list of statements: their answers, joined.
sub answers
{
	my ($session, @statements) = @_;
	return join ' ', grep { $_ ne '' } map { $session->must($_) } @statements;
}

# ---------------------------------------------------------------------------
# Statement by statement

is(answers($s, $ask, 'SELECT public.enter()', $ask, 'SELECT public.leave()', $ask), 'f in t out f', 'statements of their own');
is(answers($s, 'BEGIN', $ask, 'SELECT public.enter()', $ask, 'SELECT public.leave()', $ask, 'ROLLBACK', $ask), 'f in t out f f', 'within one transaction');
is(answers($s, 'BEGIN', $ask, 'SAVEPOINT a', 'SELECT public.enter()', $ask, 'ROLLBACK TO a', $ask, 'RELEASE a', $ask, 'SELECT public.enter()', $ask, 'ROLLBACK', $ask),
	'f in t f f in t f', 'a savepoint rolled back');
is(answers($s, 'BEGIN', 'SAVEPOINT a', 'SELECT public.enter()', $ask, 'RELEASE a', $ask, 'SAVEPOINT b', 'SELECT public.leave()', $ask, 'ROLLBACK TO b', $ask, 'COMMIT', $ask, 'SELECT public.leave()'),
	'in t t out f t t out', 'a savepoint released, one rolled back');
# where the snapshots of a savepoint and of what follows it are the same to the last bit
is(answers($s, 'BEGIN ISOLATION LEVEL REPEATABLE READ', $ask, 'SAVEPOINT a', 'SELECT public.enter()', $ask, 'ROLLBACK TO a', $ask, 'ROLLBACK'), 'f in t f', 'a savepoint rolled back, repeatable read');
is(answers($s, 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT public.enter()', 'SAVEPOINT a', 'SELECT public.leave()', $ask, 'ROLLBACK TO a', $ask, 'SAVEPOINT b', 'SELECT public.leave()', $ask, 'ROLLBACK TO b', $ask, 'ROLLBACK'),
	'in out f t out f t', 'and two');

is(answers($s, 'BEGIN', $ask) . $other->must($enter) . answers($s, $ask) . $other->must($leave) . answers($s, $ask, 'COMMIT'), 'ftf', 'another session, read committed');
is(answers($s, 'BEGIN ISOLATION LEVEL REPEATABLE READ', $ask) . $other->must($enter) . answers($s, $ask, 'SAVEPOINT a', $ask, 'COMMIT') . answers($s, $ask) . $other->must($leave) . answers($s, $ask),
	'ff ftf', 'another session, repeatable read');

# ---------------------------------------------------------------------------
# One expression, one plan, one cursor

$s->must(<<"SQL");
CREATE FUNCTION public.in_a_loop(OUT answers text) LANGUAGE plpgsql AS \$\$
BEGIN
	answers := '';
	FOR i IN 1..5 LOOP
		answers := answers || left(invite_sync.is_member('$A')::text, 1);
		IF i % 2 = 1 THEN PERFORM public.enter(); ELSE PERFORM public.leave(); END IF;
	END LOOP;
	PERFORM public.leave();
END \$\$;
CREATE FUNCTION public.in_blocks(OUT answers text) LANGUAGE plpgsql AS \$\$
BEGIN
	answers := '';
	FOR i IN 1..3 LOOP
		BEGIN
			-- the same expression before, in and after what is rolled back
			FOR k IN 1..2 LOOP
				answers := answers || left(invite_sync.is_member('$A')::text, 1);
				IF k = 1 THEN PERFORM public.enter(); END IF;
			END LOOP;
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			answers := answers || left(invite_sync.is_member('$A')::text, 1) || ' ';
		END;
	END LOOP;
END \$\$;
CREATE FUNCTION public.one_site() RETURNS boolean LANGUAGE plpgsql AS \$\$ BEGIN RETURN invite_sync.is_member('$A'); END \$\$;
CREATE FUNCTION public.in_one_site(OUT answers text) LANGUAGE plpgsql AS \$\$
BEGIN
	answers := left(public.one_site()::text, 1);
	BEGIN
		PERFORM public.enter();
		answers := answers || left(public.one_site()::text, 1);
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
	answers := answers || left(public.one_site()::text, 1);
END \$\$;
SQL
is($s->must('SELECT public.in_a_loop()'), 'ftftf', 'one expression of plpgsql in a loop');
is($s->must('SELECT public.in_blocks()'), 'ftf ftf ftf ', 'one expression in blocks that are rolled back');
is($s->must('SELECT public.in_one_site()'), 'ftf', 'one expression in another function, around such a block');
is(answers($s, 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT public.in_blocks()', 'SELECT public.in_one_site()', 'ROLLBACK'), 'ftf ftf ftf  ftf', 'the same, repeatable read');

$s->must("PREPARE asks AS SELECT invite_sync.is_member('$A'), count(*) FROM public.document WHERE invite_sync.is_member(organization_id)");
is(answers($s, 'EXECUTE asks', 'SELECT public.enter()', 'EXECUTE asks', 'SELECT public.leave()', ('EXECUTE asks') x 6, 'SELECT public.enter()', 'EXECUTE asks', 'SELECT public.leave()'),
	'f|0 in t|10000 out ' . ('f|0 ' x 6) . 'in t|10000 out', 'a prepared statement');
is(answers($s, 'EXECUTE asks') . $other->must($enter) . answers($s, 'EXECUTE asks') . $other->must($leave), 'f|0t|10000', 'a prepared statement, another session');

is(answers($s, 'BEGIN', "DECLARE c CURSOR FOR SELECT left(invite_sync.is_member('$A')::text, 1) FROM generate_series(1, 5)", 'FETCH 1 FROM c', 'SELECT public.enter()', 'FETCH 1 FROM c', $ask,
		"DECLARE d CURSOR FOR SELECT left(invite_sync.is_member('$A')::text, 1) FROM generate_series(1, 5)", 'SELECT public.leave()', $ask, 'FETCH 1 FROM d', 'FETCH 1 FROM c', 'FETCH 1 FROM d', 'ROLLBACK'),
	'f in f t out f t f t', 'a cursor keeps to the snapshot it was opened with, beside others');

# ---------------------------------------------------------------------------
# Another session, while a function runs. It sees each change in its next
# statement if it is VOLATILE, and never if it is STABLE, as with any table.

$s->must(<<"SQL");
CREATE FUNCTION public.watch(wanted boolean) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1..600 LOOP
		IF invite_sync.is_member('$A') = wanted THEN RETURN CASE WHEN i = 1 THEN 'at once' ELSE 'later' END; END IF;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RETURN 'never';
END \$\$;
CREATE FUNCTION public.watch_stable(rounds integer) RETURNS text LANGUAGE plpgsql STABLE AS \$\$
DECLARE
	seen text := '';
BEGIN
	FOR i IN 1..rounds LOOP
		seen := seen || left(invite_sync.is_member('$A')::text, 1);
		PERFORM pg_sleep(0.5);
	END LOOP;
	RETURN seen;
END \$\$;
SQL
sub sleeping
{
	my ($session) = @_;
	for (1 .. 400)
	{
		return if value($node, $db, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) > 0;
		select undef, undef, undef, 0.02;
	}
	die 'it does not sleep';
}
for my $wanted ('true', 'false')
{
	$s->send("SELECT public.watch($wanted)");
	sleeping();
	$other->must($wanted eq 'true' ? $enter : $leave);
	is($s->wait->{out}, 'later', "one expression of plpgsql hears of another session's change: $wanted");
}
$s->send('SELECT public.watch_stable(4)');
sleeping();
$other->must($enter);
is($s->wait->{out}, 'ffff', 'a STABLE function does not');
$other->must($leave);
$s->send("SELECT string_agg(left(invite_sync.is_member('$A')::text, 1), '') FROM generate_series(1, 4) AS n, LATERAL pg_sleep(0.5 + 0 * n)");
sleeping();
$other->must($enter);
is($s->wait->{out}, 'ffff', 'nor does one statement');
is($s->must($ask), 't', 'but the next one');
$other->must($leave);

# what is committed in between by a procedure of one's own
$s->send("DO \$\$ DECLARE seen text := ''; BEGIN FOR i IN 1..5 LOOP seen := seen || left(invite_sync.is_member('$A')::text, 1); IF i = 2 THEN PERFORM public.enter(); END IF; COMMIT; END LOOP; RAISE WARNING 'seen %', seen; PERFORM public.leave(); END \$\$");
like($s->wait->{stderr}, qr/seen ffttt/, 'transactions within a DO block');

# ---------------------------------------------------------------------------
# Who asks

my $twice = session($node, $db, 'authenticated');
$other->must($enter);
is($twice->must(<<"SQL"), 'ftft', 'claims changed by set_config in a loop');
CREATE FUNCTION public.claims_in_a_loop(OUT answers text) LANGUAGE plpgsql AS \$\$
BEGIN
	answers := '';
	FOR i IN 1..4 LOOP
		PERFORM set_config('request.jwt.claims', CASE WHEN i % 2 = 0 THEN '$claims{$U1}' ELSE '$claims{$U2}' END, true);
		answers := answers || left(invite_sync.is_member('$A')::text, 1);
	END LOOP;
END \$\$;
SELECT public.claims_in_a_loop();
SQL
is($twice->must("SELECT string_agg(left((set_config('request.jwt.claims', c, false) IS NOT NULL AND invite_sync.is_member('$A'))::text, 1), '' ORDER BY n) FROM (VALUES (1, '$claims{$U1}'), (2, '$claims{$U2}'), (3, ''), (4, '{'), (5, '$claims{$U1}')) AS v (n, c)"),
	'tffft', 'claims changed within one statement');
is(answers($twice, 'RESET request.jwt.claims', $ask, 'BEGIN', "SET LOCAL request.jwt.claims = '$claims{$U1}'", $ask, 'ROLLBACK', $ask, 'BEGIN', 'SAVEPOINT a', "SET LOCAL request.jwt.claims = '$claims{$U1}'", $ask, 'ROLLBACK TO a', $ask, 'COMMIT'),
	'f t f t f', 'claims that are rolled back');
is(answers($twice, "SET request.jwt.claim.sub = '$U1'", $ask, "SET request.jwt.claim.sub = '$U2'", $ask, 'RESET request.jwt.claim.sub', $ask), 't f f', 'claims of the older form');
$twice->close;

my $login = session($node, $db, 'supabase_admin');
is(answers($login, 'BEGIN', $ask, 'SET LOCAL ROLE authenticated', $ask, "SET LOCAL request.jwt.claims = '$claims{$U1}'", $ask, 'RESET ROLE', $ask, q{SET LOCAL request.jwt.claims = '{"role": "service_role"}'}, $ask, 'SET LOCAL ROLE authenticated', $ask, 'ROLLBACK', $ask),
	't f t t t f t', 'roles and claims, changed in one transaction');
is($login->must(<<"SQL"), 'tftft', 'roles changed in a loop');
CREATE FUNCTION public.roles_in_a_loop(OUT answers text) LANGUAGE plpgsql AS \$\$
BEGIN
	answers := '';
	FOR i IN 1..5 LOOP
		PERFORM set_config('role', CASE WHEN i % 2 = 0 THEN 'authenticated' ELSE 'supabase_admin' END, true);
		answers := answers || left(invite_sync.is_member('$A')::text, 1);
	END LOOP;
END \$\$;
SELECT public.roles_in_a_loop();
SQL
$login->close;
$other->must($leave);

# ---------------------------------------------------------------------------
# What an answer is made of, changed by another session

$other->must(<<"SQL");
INSERT INTO invite_sync.permission (name) VALUES ('documents.write');
INSERT INTO invite_sync.role (id, name) VALUES ('10000000-0000-4000-8000-000000000000', 'writer');
SQL
my $may = "SELECT invite_sync.has_permission('$A', 'documents.write'), invite_sync.has_role('$A', 'writer'), '$A' = any ((select invite_sync.organizations_with_permission('documents.write'))::uuid[])";
my @steps = (
	[ "INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$A', '$U1', '10000000-0000-4000-8000-000000000000')", 'f|t|f', 'a member' ],
	[ "INSERT INTO invite_sync.role_permission VALUES ('10000000-0000-4000-8000-000000000000', 'documents.write')", 't|t|t', 'a permission of the role' ],
	[ "UPDATE invite_sync.role SET name = 'author' WHERE name = 'writer'", 't|f|t', 'the name of the role' ],
	[ "UPDATE invite_sync.role SET name = 'writer' WHERE name = 'author'", 't|t|t', 'and back' ],
	[ "UPDATE auth.users SET banned_until = now() + interval '1 hour' WHERE id = '$U1'", 'f|f|f', 'a ban' ],
	[ "UPDATE auth.users SET banned_until = now() - interval '1 hour' WHERE id = '$U1'", 't|t|t', 'the end of a ban' ],
	[ "UPDATE auth.users SET is_anonymous = true WHERE id = '$U1'", 'f|f|f', 'an anonymous user' ],
	[ "UPDATE auth.users SET is_anonymous = false WHERE id = '$U1'", 't|t|t', 'who signs up' ],
	[ "UPDATE auth.users SET deleted_at = now() WHERE id = '$U1'", 'f|f|f', 'a soft deletion' ],
	[ "UPDATE auth.users SET deleted_at = NULL WHERE id = '$U1'", 't|t|t', 'taken back' ],
	[ "UPDATE invite_sync.membership SET organization_id = organization_id, role_id = '$MEMBER' WHERE user_id = '$U1'", 'f|f|f', 'another role' ],
	[ $leave, 'f|f|f', 'no member' ],
	[ "UPDATE invite_sync.organization SET parent_id = '$B' WHERE id = '$A'; INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$B', '$U1', '10000000-0000-4000-8000-000000000000')", 't|t|t', 'a membership above it' ],
	[ "UPDATE invite_sync.organization SET parent_id = NULL WHERE id = '$A'", 'f|f|f', 'an organization that moves' ],
	[ $leave, 'f|f|f', 'gone again' ]);
$s->must('BEGIN');
$s->must("PREPARE may AS $may");
is($s->must('EXECUTE may'), 'f|f|f', 'before');
for my $step (@steps)
{
	my ($sql, $expected, $what) = @$step;
	$other->must($sql);
	is($s->must('EXECUTE may'), $expected, "within a transaction: $what");
}
$s->must('COMMIT');

# ---------------------------------------------------------------------------
# Where the question stands: it is fresh in each place, and as the caller's

value($node, $db, <<"SQL");
CREATE FUNCTION public.definer_sql(place uuid) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT invite_sync.is_member(\$1)';
CREATE FUNCTION public.definer_stable(place uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS 'SELECT invite_sync.is_member(\$1)';
CREATE FUNCTION public.definer_plpgsql(place uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS 'BEGIN RETURN invite_sync.is_member(place); END';
CREATE FUNCTION public.definer_refuses(place uuid) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
	'BEGIN IF NOT invite_sync.is_member(place) THEN RETURN ''refused''; END IF; RETURN ''let in''; END';
CREATE DOMAIN public.my_organization AS uuid CHECK (value IS NULL OR invite_sync.is_member(value));
CREATE TABLE public.place (n integer GENERATED ALWAYS AS IDENTITY, organization_id uuid, by_default boolean DEFAULT invite_sync.is_member('$A'), by_trigger boolean DEFAULT false,
	checked boolean CHECK (checked = invite_sync.is_member('$A')));
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.by_trigger := true; RETURN NEW; END';
CREATE TRIGGER note BEFORE INSERT ON public.place FOR EACH ROW WHEN (invite_sync.is_member(NEW.organization_id)) EXECUTE FUNCTION public.note();
GRANT ALL ON public.place TO authenticated;
SQL
for my $function (qw(definer_sql definer_stable definer_plpgsql))
{
	my $call = "SELECT public.$function('$A')";
	is(answers($s, 'BEGIN', $call, 'SELECT public.enter()', $call, 'SAVEPOINT a', 'SELECT public.leave()', $call, 'ROLLBACK TO a', $call, 'ROLLBACK', $call), 'f in t out f t f', "in $function");
}
is(answers($s, "SELECT public.definer_refuses('$A')", "SELECT public.definer_refuses(NULL)", 'BEGIN', 'SELECT public.enter()', "SELECT public.definer_refuses('$A')", 'ROLLBACK'), 'refused refused in let in', "a superuser's definer function does not lend its rights");
is(answers($s, 'BEGIN', "SELECT 1 FROM invite_sync.member_organizations() AS m WHERE m <> '{}'", 'SELECT public.enter()', "SELECT '$A'::public.my_organization::text", 'ROLLBACK'), "in $A", 'in the CHECK of a domain');
is($s->query("SELECT '$A'::public.my_organization")->{sqlstate}, '23514', 'which fails when it must');
is($s->must(<<"SQL"), 'no yes no yes no ', 'in the CHECK of a domain of a variable, in a loop');
CREATE FUNCTION public.domains(OUT answers text) LANGUAGE plpgsql AS \$\$
DECLARE
	place public.my_organization;
BEGIN
	answers := '';
	FOR i IN 1..5 LOOP
		BEGIN
			place := '$A';
			answers := answers || 'yes ';
		EXCEPTION WHEN check_violation THEN
			answers := answers || 'no ';
		END;
		IF i % 2 = 1 THEN PERFORM public.enter(); ELSE PERFORM public.leave(); END IF;
	END LOOP;
	PERFORM public.leave();
END \$\$;
SELECT public.domains();
SQL
$s->must("PREPARE puts AS INSERT INTO public.place (organization_id) VALUES ('$A') RETURNING by_default, by_trigger");
is(answers($s, 'EXECUTE puts', 'SELECT public.enter()', 'EXECUTE puts', 'SELECT public.leave()', 'EXECUTE puts'), 'f|f in t|t out f|f', 'in the default of a column and the WHEN of a trigger');
is($s->query('INSERT INTO public.place (checked) VALUES (true)')->{sqlstate}, '23514', 'in the CHECK of a table');
is(answers($s, 'INSERT INTO public.place (checked) VALUES (false)', 'SELECT public.enter()', 'INSERT INTO public.place (checked) VALUES (true)', 'SELECT public.leave()'), 'in out', 'and again');
is($s->must("COPY (SELECT invite_sync.is_member('$A')) TO STDOUT"), 'f', 'in COPY');
is($s->must("CREATE TEMP TABLE made AS SELECT invite_sync.is_member('$B') AS b, invite_sync.current_user_id() AS me; SELECT b, me = '$U1' FROM made"), 'f|t', 'in CREATE TABLE AS');
is($s->must("BEGIN READ ONLY; SELECT invite_sync.current_user_id() = '$U1', invite_sync.is_member('$A'), (invite_sync.whoami()).kind; COMMIT"), 't|f|user', 'in a READ ONLY transaction');

# a deferred trigger asks at commit
value($node, $db, <<"SQL");
CREATE TABLE public.late (answer boolean);
CREATE TABLE public.deferring (organization_id uuid);
CREATE FUNCTION public.at_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS 'BEGIN INSERT INTO public.late VALUES (invite_sync.is_member(NEW.organization_id)); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON public.deferring DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.at_commit();
GRANT ALL ON public.late, public.deferring TO authenticated;
SQL
is(answers($s, 'BEGIN', $ask, "INSERT INTO public.deferring VALUES ('$A')", 'SELECT public.enter()', 'COMMIT', 'SELECT answer FROM public.late', 'SELECT public.leave()'), 'f in t out', 'in a deferred trigger');

# ---------------------------------------------------------------------------
# Parallel workers ask for themselves

my $force = $major >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
my $count = 'SELECT count(*) FROM public.document WHERE invite_sync.is_member(organization_id)';
my $p = request();
$p->must("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off");
sub parallel_count
{
	my ($session) = @_;
	my $plan = $session->must("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) $count");
	like($plan, qr/Workers Launched: [1-9]/, 'workers run');
	my $before = $session->must('SELECT invite_sync.membership_loads()');
	my $rows = $session->must($count);
	return $rows . ' ' . ($session->must('SELECT invite_sync.membership_loads()') - $before);
}
$other->must($enter);
is(parallel_count($p), '10000 0', 'what they count, without the leader');
is(answers($p, 'BEGIN', "SELECT public.enter('$U1', '$B')"), 'in', 'and in a transaction that has changed something');
is(parallel_count($p), '20000 0', 'what they count then');
$p->must('SAVEPOINT a; SELECT public.leave(); ');
is(parallel_count($p), '10000 0', 'in a savepoint');
$p->must('ROLLBACK TO a');
is(parallel_count($p), '20000 0', 'rolled back');
$p->must('ROLLBACK');
$p->must("SET request.jwt.claims = '$claims{$U2}'");
is(parallel_count($p), '10000 0', 'as somebody else');
$p->must("SET request.jwt.claims = ''");
is(parallel_count($p), '0 0', 'as nobody');
is($p->must("RESET ALL; RESET ROLE; SET ROLE authenticated; SET request.jwt.claims = '$claims{$U1}'; SET $force = on; SELECT string_agg(x::text, ' ') FROM (SELECT (invite_sync.whoami()).user_id = '$U1' AND invite_sync.has_permission('$A', 'members.read') AND invite_sync.member_organizations() = '{$A}' AND invite_sync.current_claims() ->> 'sub' = '$U1' AS x) AS y"),
	'true', 'all helpers in a worker');
$p->close;
is(run_as($node, $db, 'supabase_admin', "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off; $count")->{out}, '20000', 'a service, in workers');
$other->must($leave);

# ---------------------------------------------------------------------------
# Where another library has defined the settings of the claims, nobody tells of
# changes: their text is compared

my $library = "$PostgreSQL::Test::Utils::tmp_check/owns_claims";
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
append_to_file("$library.c", <<'C');
#include "postgres.h"
#include "fmgr.h"
#include "utils/guc.h"
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
static char *claims;
static char *sub;
void
_PG_init(void)
{
	DefineCustomStringVariable("request.jwt.claims", "", NULL, &claims, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("request.jwt.claim.sub", "", NULL, &sub, "", PGC_USERSET, 0, NULL, NULL, NULL);
}
C
chomp(my $includes = `$pg_config --includedir-server`);
is(system('cc', '-shared', '-fPIC', "-I$includes", '-o', "$library.so", "$library.c"), 0, 'a library that owns the settings of the claims');
my $unheard = session($node, $db, 'supabase_admin');
$unheard->must("LOAD '$library.so'; SET ROLE authenticated");
$other->must($enter);
is($unheard->must("SELECT string_agg(left((set_config('request.jwt.claims', c, false) IS NOT NULL AND invite_sync.is_member('$A'))::text, 1), '' ORDER BY n) FROM (VALUES (1, '$claims{$U1}'), (2, '$claims{$U2}'), (3, ''), (4, '{'), (5, '$claims{$U1}')) AS v (n, c)"),
	'tffft', 'claims changed within one statement, unheard');
is(answers($unheard, 'RESET request.jwt.claims', 'BEGIN', $ask, 'SAVEPOINT a', "SET LOCAL request.jwt.claims = '$claims{$U1}'", $ask, 'ROLLBACK TO a', $ask, "SET LOCAL request.jwt.claim.sub = '$U1'", $ask, 'COMMIT', $ask), 'f t f t f', 'and in savepoints');
$unheard->must("SET request.jwt.claims = '$claims{$U1}'");
my $unheard_loads = $unheard->must('SELECT invite_sync.membership_loads()');
is($unheard->must('SELECT count(*) FROM public.document WHERE invite_sync.is_member(organization_id)'), 10000, 'rows');
is($unheard->must('SELECT invite_sync.membership_loads()') - $unheard_loads, 1, 'are read once all the same');
$unheard->close;
$other->must($leave);

# ---------------------------------------------------------------------------
# A load that fails leaves nothing half done

$other->must($enter);
$other->must('BEGIN; LOCK TABLE invite_sync.membership IN ACCESS EXCLUSIVE MODE');
is($s->query("BEGIN; SET LOCAL lock_timeout = '100ms'; $ask")->{sqlstate}, '55P03', 'a table that is locked is waited for');
$s->query('ROLLBACK');
is($s->query("BEGIN; SET LOCAL statement_timeout = '100ms'; $ask")->{sqlstate}, '57014', 'until somebody gives up');
$s->query('ROLLBACK');
is($s->query("BEGIN; SET LOCAL lock_timeout = '100ms'; SAVEPOINT a; $ask")->{sqlstate}, '55P03', 'in a savepoint');
$s->must('ROLLBACK TO a');
$other->must('ROLLBACK');
is(answers($s, $ask, 'COMMIT', $ask), 't t', 'then it is read');
$other->must($leave);
is($s->must($ask), 'f', 'and read again');

# ---------------------------------------------------------------------------
# Once a statement

my $loads = request($U2);
for my $case ([ $count, 10000 ], [ 'SELECT count(*) FROM public.document WHERE public.definer_sql(organization_id)', 10000 ],
	[ 'SELECT count(*) FROM public.document WHERE public.definer_plpgsql(organization_id)', 10000 ],
	[ "SELECT count(*) FROM public.document AS d JOIN public.document AS e USING (n) WHERE invite_sync.is_member(d.organization_id) AND invite_sync.has_permission(e.organization_id, 'members.read')", 10000 ])
{
	my ($query, $rows) = @$case;
	my $before = $loads->must('SELECT invite_sync.membership_loads()');
	is($loads->must($query), $rows, $query);
	is($loads->must('SELECT invite_sync.membership_loads()') - $before, 1, 'read once');
}
$loads->close;

# ---------------------------------------------------------------------------
# Claims with characters that the database's encoding does not have

for my $encoding (qw(LATIN1 SQL_ASCII))
{
	my $in = lc $encoding;
	prepare_database($node, $in, options => "TEMPLATE template0 ENCODING $encoding LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'");
	value($node, $in, "INSERT INTO auth.users (id, email) VALUES ('$U1', 'u1\@example.com'); INSERT INTO invite_sync.organization (id, name, slug) VALUES ('$A', 'A', 'a'); $enter");
	my $user = session($node, $in, 'authenticated');
	my $who = "SELECT invite_sync.current_user_id() IS NOT NULL, invite_sync.is_member('$A'), invite_sync.current_claims() IS NOT NULL";
	for my $case ([ 'n', 't|t|t' ], [ '\\u0041', 't|t|t' ], [ '\\u00e9', 't|t|f' ], [ '\\u4e2d', 't|t|f' ], [ '\\uD83D\\uDE00', 't|t|f' ],
		[ '\\\\u4e2d', 't|t|t' ], [ '\\\\\\u4e2d', 't|t|f' ], [ '\\ud83d', 'f|f|f' ], [ '\\ude00', 'f|f|f' ], [ '\\ud83d\\u0041', 'f|f|f' ], [ '\\u0000', 'f|f|f' ], [ '\\u4e', 'f|f|f' ])
	{
		my ($name, $expected) = @$case;
		$user->must(qq(SET request.jwt.claims = '{"user_metadata": {"$name": "$name"}, "sub": "$U1", "role": "authenticated"}'));
		is($user->must($who), $expected, "$encoding: $name");
		$user->must(qq(SET request.jwt.claims = '{"\\u0073ub": "$U1", "\\u4e2dsub": "", "role\\u4e2d": "anon"}'));
		is($user->must($who), 't|t|f', "$encoding: names of claims");
	}
	$user->close;
}

# ---------------------------------------------------------------------------
# Where the auth server is so old that it knows no anonymous users

{
	my $user = session($node, 'latin1', 'authenticated');
	my $session_answers = sub { return $user->must("SELECT invite_sync.is_member('$A'), invite_sync.current_user_id() IS NOT NULL, (invite_sync.whoami()).is_anonymous") };
	$user->must("SET request.jwt.claims = '$claims{$U1}'");
	is($session_answers->(), 't|t|f', 'there is a column');
	value($node, 'latin1', 'ALTER TABLE auth.users DROP COLUMN is_anonymous');
	is($session_answers->(), 't|t|f', 'there is none');
	value($node, 'latin1', 'ALTER TABLE auth.users ADD COLUMN is_anonymous boolean NOT NULL DEFAULT true');
	is($session_answers->(), 'f|t|t', 'it is added');
	$user->close;
}

# ---------------------------------------------------------------------------
# On a hot standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
sub catch_up { $node->wait_for_catchup($standby, 'replay', $node->lsn('flush')); return }
catch_up();
my $there = session($standby, $db, 'authenticated');
$there->must("SET request.jwt.claims = '$claims{$U1}'");
is($there->must("SELECT pg_is_in_recovery(), invite_sync.is_member('$A'), (invite_sync.whoami()).kind"), 't|f|user', 'on a standby');
$there->must('BEGIN');
is($there->must($ask), 'f', 'in a transaction there');
$other->must($enter);
catch_up();
is($there->must($ask), 't', 'what was replayed since is seen');
$there->must('COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ');
is($there->must($ask), 't', 'repeatable read there');
$other->must($leave);
catch_up();
is($there->must($ask), 't', 'sees what it saw');
$there->must('COMMIT');
is($there->must($ask), 'f', 'until it ends');
is($there->must($count), 0, 'no row');
$other->must($enter);
catch_up();
is($there->must("$count AND organization_id = any ((select invite_sync.member_organizations())::uuid[])"), 10000, 'its rows');
is(run_as($standby, $db, 'supabase_admin', $count)->{out}, 20000, 'a service there');
$there->close;
$standby->stop;

$_->close for $s, $other;
done_testing();
