# What users do with the auth server is seen in the targets; and whatever becomes
# of the targets, the server answers as it does without the extension.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncGotrue qw(migrated_database start_server in_place);
use InviteSyncGotrueStory qw(story targets profiles_sql);
use InviteSyncLife qw(as_role value);
use InviteSyncTest qw(new_cluster new_database);
use Test::More;

my $node = new_cluster('story');
migrated_database($node, 'migrated');

sub told
{
	my ($db, %params) = @_;
	my $server = start_server($node, $db);
	story($server, %params);
	my @said = $server->said;
	$server->stop;
	return @said;
}

# ---------------------------------------------------------------------------
# Without the extension

new_database($node, 'plain', 'migrated');
my @plain = told('plain');
cmp_ok(scalar(@plain), '>', 60, 'the story is long');
unlike($_->{text}, qr/^\[5/, "without the extension: $_->{name}") for @plain;
my ($refused, $mailed) = map { my $pattern = $_; scalar grep { $_->{text} =~ $pattern } @plain } qr/^\[4/, qr/"mail to /;
cmp_ok($refused, '>', 8, 'some calls are refused');
cmp_ok($mailed, '>', 10, 'mails are sent');

# The two columns whose value depends on what was there before are not among them: a later nickname fills nothing, and
# a NULL for banned_until replaces nothing.
sub everything { return in_place($node, $_[0], kept => 'public.people', without => [qw(nickname banned_until)]) }
sub nickname { return value($node, $_[0], q{SELECT nickname FROM public.profiles WHERE email = 'ann.smith@example.com'}) }

# As many answers, and each the same.
sub same_answers
{
	my ($state, @said) = @_;
	is(join('|', map { $_->{name} } @said), join('|', map { $_->{name} } @plain), "$state: the same calls");
	is($said[$_]{text}, $plain[$_]{text}, "$state: $plain[$_]{name}") for 0 .. $#plain;
	return;
}

# ---------------------------------------------------------------------------
# With it, and targets in order

new_database($node, 'extended', 'migrated');
value($node, 'extended', 'CREATE EXTENSION invite_sync');
targets($node, 'extended');
new_database($node, 'healthy', 'extended');
same_answers('targets in order', told('healthy', looking => 1));
is(everything('healthy'), '', 'targets in order: everything is in place');
is(nickname('healthy'), 'annie', 'targets in order: what is filled only where it is NULL is the first');
is(value($node, 'healthy', q{SELECT string_agg(concat_ws(' ', email, is_active), ', ' ORDER BY email) FROM public.people WHERE NOT EXISTS (SELECT FROM auth.users u WHERE u.id = user_id)}),
	'bob@example.com f, dan@example.com f, f, f, f', 'and who went is deactivated');

# The same with targets that are broken all the while, and then mended.
sub broken
{
	my ($state, $db, $nickname, $break, $mend) = @_;
	new_database($node, $db, 'extended');
	$break->($db);
	same_answers($state, told($db));
	isnt(value($node, $db, 'SELECT count(*) FROM invite_sync.quarantine'), '0', "$state: something is in quarantine");
	$mend->($db);
	my $retried = as_role($node, $db, 'postgres', 'SELECT * FROM invite_sync.retry_quarantine(due_only => false)');
	like($retried, qr/\|0$/, "$state: after the mend all of it succeeds");
	is(everything($db), '', "$state: everything is in place");
	is(nickname($db), $nickname, "$state: what is filled only where it is NULL");
	for my $target (qw(profiles contacts people))
	{
		# what does not depend on when and under which id
		my $rows = "SELECT coalesce(string_agg(r, E'\\n' ORDER BY r), '') FROM (SELECT (to_jsonb(t) - '{id,user_id,nickname,banned_until,deactivated_at,company,team}'::text[])::text AS r FROM public.$target t) s";
		is(value($node, $db, $rows), value($node, 'healthy', $rows), "$state: $target is as where nothing was broken");
	}
	return;
}

broken(
	'profiles dropped', 'dropped', 'smithy', # the row is made after the mend, from what there is then
	sub { as_role($node, $_[0], 'postgres', 'DROP TABLE public.profiles') },
	sub { as_role($node, $_[0], 'postgres', profiles_sql()) });

broken(
	'a NOT NULL column added', 'notnull', 'smithy',
	sub { as_role($node, $_[0], 'postgres', 'ALTER TABLE public.profiles ADD COLUMN company text NOT NULL') },
	sub { as_role($node, $_[0], 'postgres', q{ALTER TABLE public.profiles ALTER COLUMN company SET DEFAULT 'none'}) });

# What PostgreSQL would find out at the server's COMMIT only
broken(
	'a deferred foreign key that is violated', 'deferred', 'smithy',
	sub {
		as_role($node, $_[0], 'postgres', <<'SQL');
CREATE TABLE public.teams (id integer PRIMARY KEY);
ALTER TABLE public.profiles ADD COLUMN team integer DEFAULT 7 REFERENCES public.teams DEFERRABLE INITIALLY DEFERRED;
SQL
	},
	sub { as_role($node, $_[0], 'postgres', 'INSERT INTO public.teams VALUES (7)') });

# ---------------------------------------------------------------------------
# A trigger written by hand that fails

sub trigger_by_hand
{
	my ($db) = @_;
	as_role($node, $db, 'postgres', <<'SQL');
CREATE TABLE public.members (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, email text);
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$ BEGIN INSERT INTO public.members (id, email, plan) VALUES (NEW.id, NEW.email, 'free'); RETURN NEW; END $$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
SQL
	return;
}

# What the guard is for: without it this trigger fails the signup.
new_database($node, 'unguarded', 'migrated');
trigger_by_hand('unguarded');
my $server = start_server($node, 'unguarded');
my $answer = $server->request('POST', '/signup', { email => 'ann@example.com', password => 'long enough' });
is($answer->{status}, 500, 'without a guard a trigger that fails fails the signup');
is($answer->{body}{msg}, 'Database error saving new user', 'and that is all that is said');
$server->stop;

broken(
	'a broken trigger under guard', 'guarded', 'annie',
	sub {
		trigger_by_hand($_[0]);
		as_role($node, $_[0], 'postgres', q{SELECT invite_sync.guard_trigger('on_auth_user_created')});
	},
	sub { as_role($node, $_[0], 'postgres', 'ALTER TABLE public.members ADD COLUMN plan text') });
is(value($node, 'guarded', 'SELECT string_agg(u.email, chr(10)) FROM auth.users u WHERE NOT EXISTS (SELECT FROM public.members m WHERE m.id = u.id)'),
	'', 'a broken trigger under guard: after the mend it has run for everybody who is there');
isnt(value($node, 'guarded', 'SELECT count(*) FROM public.members'), '0', 'a broken trigger under guard: and somebody is');

$node->stop;
done_testing();
