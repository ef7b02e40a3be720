# Who gets what from the functions of organizations and memberships: every one of them, asked by every kind of caller,
# directly and through a SECURITY DEFINER function of a superuser, each call in a transaction that is rolled back.
#
# The tables below say what is to come out, as the rooms' contract has it: a value, "ok" for something that is not
# looked at here, a reason word, or an SQLSTATE.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use InviteSyncLife qw(durable_cluster as_role value);
use InviteSyncTest qw(prepare_database session);
use Test::More;

my $db = 'app';
my $node = durable_cluster('matrix');
prepare_database($node, $db);

# ---------------------------------------------------------------------------
# The world: "parent" above "main" above "child"; "other" has nothing to do with them.

sub id { return sprintf '%s0000000-0000-4000-8000-%012d', @_ }
my %organization = (parent => id('a', 1), main => id('a', 2), child => id('a', 3), other => id('a', 4), unknown => id('a', 9));
my @people = qw(anonymous outsider member manager admin owner grand removed banned plain newbie second gone ghost);
my %user = map { $people[$_] => id('b', $_ + 1) } 0 .. $#people;
$user{unknown} = id('b', 99);
my ($OWNER, $ADMIN, $MEMBER) = map { "00000000-0000-4000-8000-00000000000$_" } qw(a b c);
my %role = (manager => id('c', 1), spare => id('c', 2), heavy => id('c', 3), theirs => id('c', 4));
my ($asked, $asked_there) = (id('d', 1), id('d', 2));
my ($invited, $invited_new) = (id('e', 1), id('e', 2));
my ($token, $token_new) = map { value($node, $db, "SELECT 'inv_' || translate(encode(uuid_send('$_') || decode(repeat('00', 32), 'hex'), 'base64'), E'+/\\n', '-_')") } $invited, $invited_new;

# Those who come in by an email address are from at-main.example, the others are not.
my %domain = map { $_ => /^(removed|newbie|anonymous|banned|member)$/ ? 'at-main.example' : 'elsewhere.example' } @people;
value($node, $db, join "\n", map { "INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous, banned_until, deleted_at) VALUES ('$user{$_}', "
	  . "'$_\@$domain{$_}', now(), " . ($_ eq 'anonymous' || $_ eq 'ghost' ? 'true' : 'false') . ', '
	  . ($_ eq 'banned' ? "'infinity'" : 'NULL') . ', ' . ($_ eq 'gone' ? 'now()' : 'NULL') . ');' } @people);
my $manages = q{'organization.read', 'organization.update', 'organization.create_child', 'members.read', 'members.add', 'members.remove', 'members.set_role', 'roles.manage'};
value($node, $db, <<"SQL");
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES
	('$organization{parent}', 'Parent', 'parent', NULL), ('$organization{main}', 'Main', 'main', '$organization{parent}'),
	('$organization{child}', 'Child', 'child', '$organization{main}'), ('$organization{other}', 'Other', 'other', NULL);
UPDATE invite_sync.organization SET seat_limit = 20 WHERE slug = 'main';
INSERT INTO invite_sync.permission (name) VALUES ('docs.read'), ('docs.write'), ('docs.sign');
INSERT INTO invite_sync.role (id, name, organization_id) VALUES
	('$role{manager}', 'manager', '$organization{main}'), ('$role{spare}', 'spare', '$organization{main}'),
	('$role{heavy}', 'heavy', '$organization{main}'), ('$role{theirs}', 'theirs', '$organization{other}');
INSERT INTO invite_sync.role_permission (role_id, permission)
	SELECT '$role{manager}'::uuid, p FROM unnest(ARRAY[$manages]) AS p
	UNION ALL SELECT '$role{spare}'::uuid, 'members.read' UNION ALL SELECT '$role{heavy}'::uuid, 'domains.manage' UNION ALL SELECT '$role{theirs}'::uuid, 'members.read';
-- an anonymous and a banned user are admins on paper
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES
	('$organization{parent}', '$user{grand}', '$OWNER'), ('$organization{main}', '$user{owner}', '$OWNER'),
	('$organization{main}', '$user{admin}', '$ADMIN'), ('$organization{main}', '$user{manager}', '$role{manager}'),
	('$organization{main}', '$user{member}', '$MEMBER'), ('$organization{main}', '$user{plain}', '$MEMBER'),
	('$organization{main}', '$user{second}', '$ADMIN'), ('$organization{main}', '$user{anonymous}', '$ADMIN'),
	('$organization{main}', '$user{banned}', '$ADMIN'), ('$organization{other}', '$user{outsider}', '$OWNER');
INSERT INTO invite_sync.membership_removal (organization_id, user_id, removed_by) VALUES ('$organization{main}', '$user{removed}', '$user{owner}');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment) VALUES
	('$organization{main}', 'at-main.example', 'x', now(), 'suggest'), ('$organization{main}', 'unproved.example', 'x', NULL, 'none');
INSERT INTO invite_sync.join_request (id, organization_id, user_id) VALUES
	('$asked', '$organization{main}', '$user{removed}'), ('$asked_there', '$organization{other}', '$user{newbie}');
SELECT invite_sync.set_platform_role('$user{grand}', 'admin');
-- the outsider is invited, and somebody without an account; the secrets are zeros
INSERT INTO invite_sync.invitation (id, email, secret_digest, proves_email, expires_at) SELECT i, e, sha256(decode(repeat('00', 32), 'hex')), true, now() + '1 day'
	FROM (VALUES ('$invited'::uuid, 'outsider\@elsewhere.example'), ('$invited_new', 'somebody\@new.example')) AS x (i, e);
INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, created_at)
	SELECT i.id, '$organization{main}', '$MEMBER', now() FROM invite_sync.invitation AS i;
CREATE TABLE public.document (organization_id uuid, title text);
ALTER TABLE public.document OWNER TO postgres;
GRANT USAGE ON SCHEMA invite_sync TO postgres;
CREATE INDEX ON public.document (organization_id);
-- the usual wrapper, and a superuser's
CREATE FUNCTION public.as_definer(call text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS \$\$
DECLARE
	answer text;
BEGIN
	EXECUTE call INTO answer;
	RETURN answer;
END \$\$;
GRANT EXECUTE ON FUNCTION public.as_definer(text) TO PUBLIC;
SQL

# ---------------------------------------------------------------------------
# Callers: the role that PostgREST would take, and the claims. Which audience a role is, the contract says.

my @callers = qw(nobody anon anonymous outsider member manager admin owner grand removed banned service operator);
my %caller = (
	nobody => { role => 'authenticated', audience => ['user'] },
	anon => { role => 'anon', claims => '{"role": "anon"}', audience => ['anon'] },
	(map { $_ => { role => 'authenticated', claims => qq({"sub": "$user{$_}", "role": "authenticated"}), audience => ['user'] } }
		  qw(anonymous outsider member manager admin owner grand removed banned plain second gone)),
	service => { role => 'service_role', claims => '{"role": "service_role"}', audience => ['service'] },
	# on Supabase it is a member of the other three
	operator => { role => 'postgres', audience => [ 'anon', 'user', 'service', 'operator' ] });

my $session = session($node, $db, 'supabase_admin');

# What becomes of a call by somebody: the value, a reason word or an SQLSTATE. Nothing of it stays.
sub outcome
{
	my ($who, $sql, %params) = @_;
	my ($role, $claims) = @{ $caller{$who} }{qw(role claims)};
	my $before = $params{before} ? "$params{before};" : '';
	(my $literal = $sql) =~ s/'/''/g;
	my $call = $params{definer} ? "SELECT public.as_definer('$literal')" : $sql;
	my $result = $session->query("BEGIN; $before SET LOCAL ROLE \"$role\"; "
		  . ($claims ? "SET LOCAL request.jwt.claims = '$claims'; " : '') . "$call; ROLLBACK");
	# plpgsql makes another text of a boolean than psql
	return $result->{out} =~ s/^(t|f)(rue|alse)$/$1/r if $result->{ok};
	# a refusal says its reason in the detail; any other error is only its code
	return $result->{sqlstate} =~ /^PT/ && $result->{stderr} =~ /^DETAIL:  (\w+)/m ? $1 : $result->{sqlstate};
}

# ---------------------------------------------------------------------------
# What is to come out

# Without an entry of their own these are what callers get who have no business there.
my %inside = (nobody => 'not_authenticated', anon => 'not_authenticated', anonymous => 'anonymous_user', outsider => 'organization_unknown',
	removed => 'organization_unknown', banned => 'user_banned');
# What is no organization's: every user may.
my %users = (nobody => 'not_authenticated', anon => 'not_authenticated', anonymous => 'anonymous_user', banned => 'user_banned');
my %users_alone = (%users, service => 'not_authenticated', operator => 'not_authenticated');
my @everybody_else = grep { $_ ne 'service' && $_ ne 'operator' } @callers;
my %services = map { $_ => 'not_permitted' } @everybody_else;
my %operators = (%services, service => 'not_permitted');
my @insiders = qw(member manager admin owner grand service operator);

# Who may, from the lesser to the greater; the others get the refusal.
sub from
{
	my ($least, $value, $refusal) = @_;
	my $may = 0;
	return map { $may ||= $_ eq $least; ($_ => $may ? $value : $refusal) } @insiders;
}

sub all { my ($value) = @_; return map { $_ => $value } @insiders }

my @in = ('user', 'service');
my ($p, $m, $c, $o, $none) = map { "'$organization{$_}'" } qw(parent main child other unknown);
my %u = map { $_ => "'$user{$_}'" } keys %user;
my @matrix = (
	# function, about what, audiences, call, expected
	[ create_organization => 'at the top', \@in, q{SELECT name FROM invite_sync.create_organization(' Fresh ')}, { %users, all('Fresh'), outsider => 'Fresh', removed => 'Fresh' } ],
	[ create_organization => 'below', \@in, "SELECT name FROM invite_sync.create_organization('Fresh', parent_id => $m)", { %inside, from('manager', 'Fresh', 'not_permitted') } ],
	[ create_organization => 'below one that is not', \@in, "SELECT invite_sync.create_organization('Fresh', parent_id => $none)", { %inside, all('organization_unknown') } ],
	[ create_organization => 'for somebody else', \@in, "SELECT name FROM invite_sync.create_organization('Fresh', owner_id => $u{newbie})",
		{ %inside, from('service', 'Fresh', 'not_permitted'), outsider => 'not_permitted', removed => 'not_permitted' } ],
	[ get_organization => 'main', \@in, "SELECT name FROM invite_sync.get_organization($m)", { %inside, all('Main') } ],
	[ get_organization => 'below', \@in, "SELECT name FROM invite_sync.get_organization($c)", { %inside, all('Child') } ],
	[ get_organization => 'above', \@in, "SELECT name FROM invite_sync.get_organization($p)", { %inside, from('grand', 'Parent', 'organization_unknown') } ],
	[ get_organization => 'unknown', \@in, "SELECT invite_sync.get_organization($none)", { %inside, all('organization_unknown') } ],
	[ get_organization => 'NULL', \@in, 'SELECT invite_sync.get_organization(NULL)', { %inside, all('data_malformed'), outsider => 'data_malformed', removed => 'data_malformed' } ],
	[ update_organization => 'main', \@in, "SELECT name FROM invite_sync.update_organization($m, 'Renamed')", { %inside, from('manager', 'Renamed', 'not_permitted') } ],
	[ update_organization => 'a taken slug', \@in, "SELECT invite_sync.update_organization($m, slug => 'other')", { %inside, from('manager', 'slug_taken', 'not_permitted') } ],
	[ move_organization => 'child to the top', \@in, "SELECT parent_id IS NULL FROM invite_sync.move_organization($c, NULL)", { %inside, from('owner', 't', 'not_permitted') } ],
	[ move_organization => 'main to the top', \@in, "SELECT parent_id IS NULL FROM invite_sync.move_organization($m, NULL)", { %inside, from('grand', 't', 'not_permitted') } ],
	[ move_organization => 'child below a stranger\'s', \@in, "SELECT name FROM invite_sync.move_organization($c, $o)",
		{ %inside, from('service', 'Child', 'not_permitted'), owner => 'organization_unknown', grand => 'organization_unknown' } ],
	[ move_organization => 'one\'s own below a stranger\'s', \@in, "SELECT name FROM invite_sync.move_organization($o, $m)",
		{ %inside, from('service', 'Other', 'organization_unknown') } ],
	[ move_organization => 'main below itself', \@in, "SELECT invite_sync.move_organization($m, $c)", { %inside, from('grand', 'hierarchy_cycle', 'not_permitted') } ],
	[ delete_organization => 'with one below', \@in, "SELECT invite_sync.delete_organization($m)", { %inside, from('owner', 'has_children', 'not_permitted') } ],
	[ delete_organization => 'with all below', \@in, "SELECT name FROM invite_sync.delete_organization($m, true)", { %inside, from('owner', 'Main', 'not_permitted') } ],
	[ delete_organization => 'child', \@in, "SELECT name FROM invite_sync.delete_organization($c)", { %inside, from('owner', 'Child', 'not_permitted') } ],
	[ my_organizations => '', ['user'], q{SELECT string_agg(concat_ws(' ', slug, role, CASE WHEN inherited THEN 'inherited' END), ', ' ORDER BY slug) FROM invite_sync.my_organizations()},
		{   %users_alone, outsider => 'other owner', removed => '', (map { $_ => "child $_ inherited, main $_" } qw(member manager admin owner)),
			grand => 'child owner inherited, main owner inherited, parent owner' } ],
	[ my_organizations => 'permissions', ['user'], q{SELECT array_length(permissions, 1) FROM invite_sync.my_organizations() WHERE slug = 'main'},
		{ %users_alone, outsider => '', removed => '', member => 2, manager => 8, admin => 15, owner => 17, grand => 17 } ],
	[ my_quota => '', ['user'], q{SELECT concat_ws(' ', granted, used, remaining, unlimited) FROM invite_sync.my_quota()},
		{ %users_alone, (map { $_ => '3 0 3 f' } qw(outsider removed member manager admin owner)), grand => '3 0 t' } ],
	[ grant_quota => 'member', ['service'], "SELECT concat_ws(' ', granted, used, remaining) FROM invite_sync.grant_quota($u{member}, 2)", { %services, service => '5 0 5', operator => '5 0 5' } ],
	[ grant_quota => 'one who is gone', ['service'], "SELECT invite_sync.grant_quota($u{gone}, 2)", { %services, service => 'user_unknown', operator => 'user_unknown' } ],
	[ set_quota => 'member', ['service'], "SELECT concat_ws(' ', granted, used, remaining) FROM invite_sync.set_quota($u{member}, 0)", { %services, service => '0 0 0', operator => '0 0 0' } ],
	[ quota_report => '', ['service'], 'SELECT count(*) FROM invite_sync.quota_report()', { %services, service => 11, operator => 11 } ],
	[ consume_rate_limit => '', ['service'], q{SELECT concat_ws(' ', allowed, remaining) FROM invite_sync.consume_rate_limit('message', 'x')}, { %services, service => 't 4', operator => 't 4' } ],
	[ consume_rate_limit => 'unknown', ['service'], q{SELECT invite_sync.consume_rate_limit('nothing', 'x')}, { %services, service => '42704', operator => '42704' } ],
	[ rate_limit_report => '', ['service'], 'SELECT count(*) FROM invite_sync.rate_limit_report()', { %services, service => 0, operator => 0 } ],
	[ set_rate_limit => '', ['operator'], q{SELECT max_actions FROM invite_sync.set_rate_limit('invite', 20)}, { %operators, operator => 20 } ],
	[ drop_rate_limit => '', ['operator'], q{SELECT invite_sync.drop_rate_limit('invite')}, { %operators, operator => 'f' } ],
	[ list_organizations => 'all', ['service'], q{SELECT string_agg(slug, ' ' ORDER BY slug) FROM invite_sync.list_organizations()}, { %services, service => 'child main other parent', operator => 'child main other parent' } ],
	[ list_organizations => 'below', ['service'], "SELECT string_agg(slug, ' ') FROM invite_sync.list_organizations($m)", { %services, service => 'child', operator => 'child' } ],
	[ seat_usage => 'main', \@in, "SELECT seat_limit || ' ' || used FROM invite_sync.seat_usage($m)", { %inside, all('20 8') } ],
	[ set_seats => 'main', ['service'], "SELECT seat_limit || ' ' || bonus_seats FROM invite_sync.set_seats($m, 9, 1)", { %services, service => '9 1', operator => '9 1' } ],
	[ set_seats => 'too few', ['service'], "SELECT invite_sync.set_seats($m, 7)", { %services, service => 'seats_below_usage', operator => 'seats_below_usage' } ],
	[ set_organization_limits => 'main', ['service'], "SELECT region FROM invite_sync.set_organization_limits($m, 3, 'eu')", { %services, service => 'eu', operator => 'eu' } ],
	[ add_domain => 'main', \@in, "SELECT domain FROM invite_sync.add_domain($m, 'New.example')", { %inside, from('admin', 'new.example', 'not_permitted') } ],
	[ add_domain => 'everybody\'s', \@in, "SELECT invite_sync.add_domain($m, 'gmail.com')", { %inside, from('admin', 'domain_not_allowed', 'not_permitted') } ],
	[ add_domain => 'somebody else\'s', \@in, "SELECT invite_sync.add_domain($c, 'at-main.example')", { %inside, from('admin', 'domain_taken', 'not_permitted') } ],
	[ verify_domain => 'main', ['service'], "SELECT verified_at IS NOT NULL FROM invite_sync.verify_domain($m, 'unproved.example', ARRAY['x'])", { %services, service => 't', operator => 't' } ],
	[ verify_domain => 'without the record', ['service'], "SELECT verified_at IS NOT NULL FROM invite_sync.verify_domain($m, 'unproved.example', ARRAY['y'])", { %services, service => 'f', operator => 'f' } ],
	[ set_enrollment => 'main', \@in, "SELECT enrollment FROM invite_sync.set_enrollment($m, 'at-main.example', 'auto')", { %inside, from('admin', 'auto', 'not_permitted') } ],
	[ set_enrollment => 'an unproved domain', \@in, "SELECT invite_sync.set_enrollment($m, 'unproved.example', 'auto')", { %inside, from('admin', 'domain_not_allowed', 'not_permitted') } ],
	[ remove_domain => 'main', \@in, "SELECT domain FROM invite_sync.remove_domain($m, 'at-main.example')", { %inside, from('admin', 'at-main.example', 'not_permitted') } ],
	[ remove_domain => 'none of its', \@in, "SELECT invite_sync.remove_domain($m, 'nowhere.example')", { %inside, from('admin', 'domain_unknown', 'not_permitted') } ],
	[ list_domains => 'main', \@in, "SELECT string_agg(domain, ', ' ORDER BY domain) FROM invite_sync.list_domains($m)",
		{ %inside, from('admin', 'at-main.example, unproved.example', 'not_permitted') } ],
	[ request_to_join => 'main', ['user'], "SELECT status FROM invite_sync.request_to_join($m)",
		{ %users_alone, outsider => 'organization_unknown', removed => 'pending', member => 'already_member', map { $_ => 'organization_unknown' } qw(manager admin owner grand) } ],
	[ request_to_join => 'unknown', ['user'], "SELECT status FROM invite_sync.request_to_join($none)", { %users_alone, map { $_ => 'organization_unknown' } qw(outsider removed member manager admin owner grand) } ],
	[ suggested_organizations => '', ['user'], 'SELECT string_agg(organization_name, \', \') FROM invite_sync.suggested_organizations()',
		{ %users_alone, outsider => '', removed => 'Main', map { $_ => '' } qw(member manager admin owner grand) } ],
	[ decide_join_request => 'to a member', \@in, "SELECT status FROM invite_sync.decide_join_request('$asked', true)",
		{ %inside, from('manager', 'granted', 'not_permitted'), outsider => 'join_request_unknown', removed => 'join_request_unknown' } ],
	[ decide_join_request => 'to an admin', \@in, "SELECT status FROM invite_sync.decide_join_request('$asked', true, 'admin')",
		{ %inside, from('admin', 'granted', 'escalation'), member => 'not_permitted', outsider => 'join_request_unknown', removed => 'join_request_unknown' } ],
	[ decide_join_request => 'to an owner', \@in, "SELECT status FROM invite_sync.decide_join_request('$asked', true, 'owner')",
		{ %inside, from('owner', 'granted', 'escalation'), member => 'not_permitted', outsider => 'join_request_unknown', removed => 'join_request_unknown' } ],
	[ decide_join_request => 'denied', \@in, "SELECT status FROM invite_sync.decide_join_request('$asked', false)",
		{ %inside, from('manager', 'denied', 'not_permitted'), outsider => 'join_request_unknown', removed => 'join_request_unknown' } ],
	[ decide_join_request => 'elsewhere', \@in, "SELECT status FROM invite_sync.decide_join_request('$asked_there', true)",
		{ %inside, from('service', 'granted', 'join_request_unknown'), outsider => 'granted', removed => 'join_request_unknown' } ],
	[ cancel_join_request => 'somebody\'s', ['user'], "SELECT status FROM invite_sync.cancel_join_request('$asked')",
		{ %users_alone, removed => 'cancelled', map { $_ => 'join_request_unknown' } qw(outsider member manager admin owner grand) } ],
	[ list_join_requests => 'main', \@in, "SELECT string_agg(email, ', ') FROM invite_sync.list_join_requests($m)", { %inside, from('manager', 'removed@at-main.example', 'not_permitted') } ],

	[ add_member => 'as member', \@in, "SELECT role FROM invite_sync.add_member($m, $u{newbie}, 'member')", { %inside, from('manager', 'member', 'not_permitted') } ],
	[ add_member => 'as what the caller is', \@in, "SELECT role FROM invite_sync.add_member($m, $u{newbie}, 'manager')", { %inside, from('manager', 'manager', 'not_permitted') } ],
	[ add_member => 'as admin', \@in, "SELECT role FROM invite_sync.add_member($m, $u{newbie}, 'admin')", { %inside, from('admin', 'admin', 'escalation'), member => 'not_permitted' } ],
	[ add_member => 'as owner', \@in, "SELECT role FROM invite_sync.add_member($m, $u{newbie}, 'owner')", { %inside, from('owner', 'owner', 'escalation'), member => 'not_permitted' } ],
	[ add_member => 'with a role of above used below', \@in, "SELECT role FROM invite_sync.add_member($c, $u{newbie}, 'manager')", { %inside, from('manager', 'manager', 'not_permitted') } ],
	[ add_member => 'with a role of below used above', \@in, "SELECT invite_sync.add_member($p, $u{newbie}, 'manager')", { %inside, from('grand', 'role_unknown', 'organization_unknown') } ],
	[ add_member => 'with a stranger\'s role', \@in, "SELECT invite_sync.add_member($m, $u{newbie}, 'theirs')", { %inside, from('manager', 'role_unknown', 'not_permitted') } ],
	[ add_member => 'who is gone', \@in, "SELECT invite_sync.add_member($m, $u{gone})", { %inside, from('manager', 'user_unknown', 'not_permitted') } ],
	[ add_member => 'who is nobody', \@in, "SELECT invite_sync.add_member($m, $u{unknown})", { %inside, from('manager', 'user_unknown', 'not_permitted') } ],
	[ add_member => 'who is banned', \@in, "SELECT invite_sync.add_member($c, $u{banned})", { %inside, from('manager', 'user_banned', 'not_permitted') } ],
	[ add_member => 'who is anonymous', \@in, "SELECT invite_sync.add_member($c, $u{ghost})", { %inside, from('manager', 'anonymous_user', 'not_permitted') } ],
	[ add_member => 'who is one', \@in, "SELECT invite_sync.add_member($m, $u{plain})", { %inside, from('manager', 'already_member', 'not_permitted') } ],
	[ add_member => 'who is more by inheritance', \@in, "SELECT role FROM invite_sync.add_member($c, $u{second})", { %inside, from('admin', 'member', 'escalation'), member => 'not_permitted' } ],
	[ add_member => 'who was removed', \@in, "SELECT role FROM invite_sync.add_member($m, $u{removed})", { %inside, from('manager', 'member', 'not_permitted') } ],
	[ remove_member => 'a member', \@in, "SELECT role FROM invite_sync.remove_member($m, $u{plain})", { %inside, from('manager', 'member', 'not_permitted') } ],
	[ remove_member => 'an admin', \@in, "SELECT role FROM invite_sync.remove_member($m, $u{second})", { %inside, from('admin', 'admin', 'escalation'), member => 'not_permitted' } ],
	[ remove_member => 'the last owner', \@in, "SELECT role FROM invite_sync.remove_member($m, $u{owner})", { %inside, from('owner', 'last_owner', 'escalation'), member => 'not_permitted' } ],
	[ remove_member => 'one of above', \@in, "SELECT role FROM invite_sync.remove_member($m, $u{grand})", { %inside, from('manager', 'member_unknown', 'not_permitted') } ],
	[ remove_member => 'nobody of its', \@in, "SELECT role FROM invite_sync.remove_member($m, $u{newbie})", { %inside, from('manager', 'member_unknown', 'not_permitted') } ],
	[ set_member_role => 'of a member, to another', \@in, "SELECT role FROM invite_sync.set_member_role($m, $u{plain}, 'spare')", { %inside, from('manager', 'spare', 'not_permitted') } ],
	[ set_member_role => 'of a member, to admin', \@in, "SELECT role FROM invite_sync.set_member_role($m, $u{plain}, 'admin')", { %inside, from('admin', 'admin', 'escalation'), member => 'not_permitted' } ],
	[ set_member_role => 'of a member, to owner', \@in, "SELECT role FROM invite_sync.set_member_role($m, $u{plain}, 'owner')", { %inside, from('owner', 'owner', 'escalation'), member => 'not_permitted' } ],
	[ set_member_role => 'of an admin, to less', \@in, "SELECT role FROM invite_sync.set_member_role($m, $u{second}, 'member')", { %inside, from('admin', 'member', 'escalation'), member => 'not_permitted' } ],
	[ set_member_role => 'of the last owner', \@in, "SELECT role FROM invite_sync.set_member_role($m, $u{owner}, 'admin')", { %inside, from('owner', 'last_owner', 'escalation'), member => 'not_permitted' } ],
	[ set_member_role => 'to a stranger\'s role', \@in, "SELECT invite_sync.set_member_role($m, $u{plain}, 'theirs')", { %inside, from('manager', 'role_unknown', 'not_permitted') } ],
	[ set_member_role => 'of nobody of its', \@in, "SELECT invite_sync.set_member_role($m, $u{newbie}, 'member')", { %inside, from('manager', 'member_unknown', 'not_permitted') } ],
	[ leave_organization => 'main', ['user'], "SELECT role FROM invite_sync.leave_organization($m)",
		{ %users_alone, outsider => 'organization_unknown', removed => 'organization_unknown', (map { $_ => $_ } qw(member manager admin)), owner => 'last_owner', grand => 'member_unknown' } ],
	[ transfer_ownership => 'to a member', \@in, "SELECT role FROM invite_sync.transfer_ownership($m, $u{plain})", { %inside, from('owner', 'owner', 'not_permitted') } ],
	[ transfer_ownership => 'to nobody of its', \@in, "SELECT role FROM invite_sync.transfer_ownership($m, $u{newbie})", { %inside, from('owner', 'member_unknown', 'not_permitted') } ],
	[ list_members => 'main', \@in, "SELECT count(*) || ' ' || count(email) FROM invite_sync.list_members($m)", { %inside, all('8 8') } ],
	[ list_members => 'above', \@in, "SELECT count(*) FROM invite_sync.list_members($p)", { %inside, from('grand', 1, 'organization_unknown') } ],
	[ get_member => 'one', \@in, "SELECT email FROM invite_sync.get_member($m, $u{plain})", { %inside, all('plain@elsewhere.example') } ],
	[ get_member => 'one of above', \@in, "SELECT email FROM invite_sync.get_member($m, $u{grand})", { %inside, all('member_unknown') } ],

	[ get_invitation => '', [ 'anon', 'user', 'service' ], "SELECT organization_name FROM invite_sync.get_invitation('$token')", { map { $_ => 'Main' } @callers } ],
	[ bind_invitation => '', [ 'anon', 'user' ], "SELECT device_until > now() FROM invite_sync.bind_invitation('$token', 'x')",
		{ %users_alone, map { $_ => 't' } qw(anon outsider removed member manager admin owner grand) } ],
	[ accept_invitation => '', ['user'], "SELECT already FROM invite_sync.accept_invitation('$token')",
		{ %users_alone, outsider => 'f', map { $_ => 'email_mismatch' } qw(removed member manager admin owner grand) } ],
	[ accept_my_invitation => '', ['user'], "SELECT already FROM invite_sync.accept_my_invitation('$invited')",
		{ %users_alone, outsider => 'f', map { $_ => 'invitation_unknown' } qw(removed member manager admin owner grand) } ],
	[ my_invitations => '', ['user'], 'SELECT count(*) FROM invite_sync.my_invitations()', { %users_alone, outsider => 1, map { $_ => 0 } qw(removed member manager admin owner grand) } ],
	[ decline_invitation => '', \@in, "SELECT status FROM invite_sync.decline_invitation('$token')",
		{ %users, (map { $_ => 'declined' } qw(outsider service operator)), map { $_ => 'email_mismatch' } qw(removed member manager admin owner grand) } ],
	[ decline_my_invitation => '', ['user'], "SELECT status FROM invite_sync.decline_my_invitation('$invited')",
		{ %users_alone, outsider => 'declined', map { $_ => 'invitation_unknown' } qw(removed member manager admin owner grand) } ],
	[ signup_with_invitation => '', [ 'anon', 'service' ], "SELECT email FROM invite_sync.signup_with_invitation('$token_new', 'correct horse')",
		{ %services, map { $_ => 'somebody@new.example' } qw(anon service operator) } ],

	[ create_role => 'of what all of them have', \@in, "SELECT role FROM invite_sync.create_role('made', ARRAY['members.read'], $m)", { %inside, from('manager', 'made', 'not_permitted') } ],
	[ create_role => 'of more than some have', \@in, "SELECT role FROM invite_sync.create_role('made', ARRAY['members.read', 'docs.sign'], $m)", { %inside, from('admin', 'made', 'escalation'), member => 'not_permitted' } ],
	[ create_role => 'of what owners have', \@in, "SELECT role FROM invite_sync.create_role('made', ARRAY['organization.delete'], $m)", { %inside, from('owner', 'made', 'escalation'), member => 'not_permitted' } ],
	[ create_role => 'of the platform', \@in, "SELECT invite_sync.create_role('made', ARRAY['platform.admin'], $m)", { %inside, from('manager', 'data_malformed', 'not_permitted') } ],
	[ create_role => 'for all organizations', \@in, "SELECT role FROM invite_sync.create_role('made', ARRAY['members.read'])",
		{ %inside, from('service', 'made', 'not_permitted'), outsider => 'not_permitted', removed => 'not_permitted' } ],
	[ create_role => 'called like one above', \@in, "SELECT invite_sync.create_role('spare', ARRAY['members.read'], $c)", { %inside, from('manager', 'role_exists', 'not_permitted') } ],
	[ create_role => 'called like a global one', \@in, "SELECT invite_sync.create_role('admin', ARRAY['members.read'], $m)", { %inside, from('manager', 'role_exists', 'not_permitted') } ],
	[ set_role_permissions => 'one\'s own, to less', \@in, "SELECT role FROM invite_sync.set_role_permissions('manager', ARRAY['members.read'], $m)", { %inside, from('manager', 'manager', 'not_permitted') } ],
	[ set_role_permissions => 'one\'s own, to more', \@in, "SELECT role FROM invite_sync.set_role_permissions('manager', ARRAY[$manages, 'domains.manage'], $m)", { %inside, from('admin', 'manager', 'escalation'), member => 'not_permitted' } ],
	[ set_role_permissions => 'of more than some have, to less', \@in, "SELECT role FROM invite_sync.set_role_permissions('heavy', '{}', $m)", { %inside, from('admin', 'heavy', 'escalation'), member => 'not_permitted' } ],
	[ set_role_permissions => 'where it was not made', \@in, "SELECT invite_sync.set_role_permissions('spare', '{}', $c)", { %inside, from('manager', 'role_unknown', 'not_permitted') } ],
	[ set_role_permissions => 'a built-in one', \@in, "SELECT invite_sync.set_role_permissions('member', '{}')", { %inside, all('not_permitted'), outsider => 'not_permitted', removed => 'not_permitted' } ],
	[ drop_role => 'of little', \@in, "SELECT role FROM invite_sync.drop_role('spare', $m)", { %inside, from('manager', 'spare', 'not_permitted') } ],
	[ drop_role => 'of more than some have', \@in, "SELECT role FROM invite_sync.drop_role('heavy', $m)", { %inside, from('admin', 'heavy', 'escalation'), member => 'not_permitted' } ],
	[ drop_role => 'in use', \@in, "SELECT role FROM invite_sync.drop_role('manager', $m)", { %inside, from('manager', 'role_in_use', 'not_permitted') } ],
	[ drop_role => 'a built-in one', \@in, "SELECT invite_sync.drop_role('member')", { %inside, all('not_permitted'), outsider => 'not_permitted', removed => 'not_permitted' } ],
	[ list_roles => 'main', \@in, "SELECT string_agg(role, ' ' ORDER BY role) FROM invite_sync.list_roles($m)", { %inside, all('admin heavy manager member owner spare') } ],
	[ list_roles => 'global', \@in, "SELECT string_agg(role, ' ' ORDER BY role) FROM invite_sync.list_roles()", { %users, all('admin member owner'), outsider => 'admin member owner', removed => 'admin member owner' } ],
	[ list_permissions => '', \@in, 'SELECT count(*) FROM invite_sync.list_permissions()', { %users, all(18), outsider => 18, removed => 18 } ],
	[ create_permission => '', ['operator'], q{SELECT permission FROM invite_sync.create_permission('docs.print')}, { %operators, operator => 'docs.print' } ],
	[ create_permission => 'a built-in one', ['operator'], q{SELECT permission FROM invite_sync.create_permission('members.read', 'x')}, { %operators, operator => 'not_permitted' } ],
	[ drop_permission => '', ['operator'], q{SELECT permission FROM invite_sync.drop_permission('docs.sign')}, { %operators, operator => 'docs.sign' } ],
	[ set_platform_role => '', ['service'], "SELECT role FROM invite_sync.set_platform_role($u{newbie}, 'admin')", { %services, service => 'admin', operator => 'admin' } ],
	[ set_platform_role => 'an organization\'s', ['service'], "SELECT invite_sync.set_platform_role($u{newbie}, 'manager')", { %services, service => 'role_unknown', operator => 'role_unknown' } ],
	[ protect_table => '', ['operator'], q{SELECT invite_sync.protect_table('public.document', 'organization_id') ~ 'CREATE POLICY'}, { %operators, operator => 't' } ],
	[ unprotect_table => '', ['operator'], q{SELECT invite_sync.unprotect_table('public.document') IS NOT NULL}, { %operators, operator => 't' } ]);

# What policies ask never raises, and nobody, anon and those who do not count get no, nothing and the empty set.
my @asks = ('anon', 'user', 'service');
sub answers { my ($no, %yes) = @_; return { (map { $_ => $no } @callers), %yes } }
sub yes { return map { $_ => 't' } @_ }
my @members = qw(member manager admin owner grand);
push @matrix,
  [ current_user_id => '', \@asks, 'SELECT invite_sync.current_user_id()', answers('', map { $_ => $user{$_} } qw(anonymous outsider removed), @members) ],
  [ current_claims => '', \@asks, q{SELECT invite_sync.current_claims()->>'role'}, answers('authenticated', nobody => '', operator => '', anon => 'anon', service => 'service_role') ],
  [ is_member => 'main', \@asks, "SELECT invite_sync.is_member($m)", answers('f', yes(@members, 'service', 'operator')) ],
  [ is_member => 'below', \@asks, "SELECT invite_sync.is_member($c)", answers('f', yes(@members, 'service', 'operator')) ],
  [ is_member => 'above', \@asks, "SELECT invite_sync.is_member($p)", answers('f', yes('grand', 'service', 'operator')) ],
  [ is_member => 'elsewhere', \@asks, "SELECT invite_sync.is_member($o)", answers('f', yes('outsider', 'service', 'operator')) ],
  [ is_member => 'unknown', \@asks, "SELECT invite_sync.is_member($none)", answers('f') ],
  [ is_member => 'NULL', \@asks, 'SELECT invite_sync.is_member(NULL)', answers('f') ],
  [ has_role => 'member', \@asks, "SELECT invite_sync.has_role($m, 'member')", answers('f', yes('member', 'service', 'operator')) ],
  [ has_role => 'owner, below', \@asks, "SELECT invite_sync.has_role($c, 'owner')", answers('f', yes('owner', 'grand', 'service', 'operator')) ],
  [ has_any_role => 'manager, admin', \@asks, "SELECT invite_sync.has_any_role($m, ARRAY['manager', 'admin'])", answers('f', yes('manager', 'admin', 'service', 'operator')) ],
  [ has_permission => 'members.add', \@asks, "SELECT invite_sync.has_permission($m, 'members.add')", answers('f', yes(qw(manager admin owner grand service operator))) ],
  [ has_permission => 'organization.delete', \@asks, "SELECT invite_sync.has_permission($m, 'organization.delete')", answers('f', yes(qw(owner grand service operator))) ],
  [ has_permission => 'of the application', \@asks, "SELECT invite_sync.has_permission($m, 'docs.read')", answers('f', yes(qw(admin owner grand service operator))) ],
  [ has_permission => 'of the platform', \@asks, "SELECT invite_sync.has_permission($m, 'platform.admin')", answers('f', yes('service', 'operator')) ],
  [ has_permission => 'unknown organization', \@asks, "SELECT invite_sync.has_permission($none, 'members.read')", answers('f') ],
  [ has_any_permission => '', \@asks, "SELECT invite_sync.has_any_permission($m, ARRAY['nonsense', 'members.add'])", answers('f', yes(qw(manager admin owner grand service operator))) ],
  [ member_organizations => '', \@asks, 'SELECT cardinality(invite_sync.member_organizations())', answers(0, outsider => 1, (map { $_ => 2 } qw(member manager admin owner)), grand => 3) ],
  [ organizations_with_permission => 'members.add', \@asks, q{SELECT cardinality(invite_sync.organizations_with_permission('members.add'))}, answers(0, outsider => 1, (map { $_ => 2 } qw(manager admin owner)), grand => 3) ],
  [ platform_role => '', \@asks, 'SELECT invite_sync.platform_role()', answers('', grand => 'admin') ],
  [ whoami => '', \@asks, q{SELECT concat_ws(' ', kind, CASE WHEN is_anonymous THEN 'anonymous' END, CASE WHEN is_administrator THEN 'administrator' END, CASE WHEN is_operator THEN 'operator' END) FROM invite_sync.whoami()},
	answers('user', nobody => 'nobody', banned => 'nobody', anon => 'anon', anonymous => 'user anonymous', grand => 'user administrator', service => 'service', operator => 'service operator') ];

# ---------------------------------------------------------------------------
# Nothing is missing from the table, and the audiences are those of api_grants()

# rooms that have tests of their own: caller, event, sync, quarantine, invitation, account, hook, doctor
my %elsewhere = map { $_ => 1 } qw(
  log_event redact_payload seal_events verify_events prune_events is_operator act_as health check_alerts set_alert acknowledge_alert
  schedule_retry unschedule_retry config_sql uninstall_plan require_direct target_name guarded_trigger_name sync_users ensure_user user_exists create_profile
  sync_status deactivate_user reactivate_user preservation_report add_target set_target drop_target attach detach sync_all verify
  create_standard_tables create_auth_schema retry_quarantine close_quarantine guard_trigger unguard_trigger backfill_quota prune_rate_limits
  sync_on_insert sync_on_update sync_on_delete sync_on_identity
  before_user_created_hook after_user_created_hook custom_access_token_hook password_verification_attempt_hook mfa_verification_attempt_hook
  create_invitation create_invitations create_invite_link check_invitation resend_invitation revoke_invitation list_invitations
  set_invitation_policy import_invitations invitation_import_failed settle_invitations prune_invitations
  create_user import_users migration_status unmigrated_users set_migration_policy check_migration require_migrated complete_migration
  create_migration_invitation complete_migration_by_token link_external_user doctor
  audit);
my %audience = map { $_->[0] => join ' ', sort @{ $_->[2] } } @matrix;
my %granted = map { split /\|/ } split /\n/, value($node, $db, q{
SELECT p.proname, string_agg(DISTINCT g.audience, ' ' ORDER BY g.audience) FROM invite_sync.api_grants() AS g
	JOIN pg_proc AS p ON g.object ~ '^(FUNCTION|PROCEDURE)' AND p.oid = regexp_replace(g.object, '^[A-Z]+ ', '')::regprocedure
GROUP BY 1 ORDER BY 1});
delete @granted{ keys %elsewhere };
is_deeply(\%audience, \%granted, 'the table has every function of these rooms, with those who may call it');

# ---------------------------------------------------------------------------
# Everything, everybody, both ways

for my $row (@matrix)
{
	my ($function, $about, $audience, $call, $expected) = @$row;
	my %may = map { $_ => 1 } @$audience;

	for my $who (@callers)
	{
		my $name = "$who: $function()" . ($about eq '' ? '' : ", $about");
		my $granted = grep { $may{$_} } @{ $caller{$who}{audience} };

		die "$name: nothing is expected" unless defined $expected->{$who};
		is(outcome($who, $call), $granted ? $expected->{$who} : '42501', $name);
		is(outcome($who, $call, definer => 1), $expected->{$who}, "$name, through a definer");
	}
}

# ---------------------------------------------------------------------------
# Claims are no rights: the role may be lowered by them and not raised

for my $case ([ 'service_role', $caller{member}{claims} ], [ 'postgres', $caller{member}{claims} ], [ 'supabase_admin', $caller{member}{claims} ])
{
	local $caller{lowered} = { role => $case->[0], claims => $case->[1] };
	is(outcome('lowered', "SELECT invite_sync.update_organization($m, 'Renamed')"), 'not_permitted', "$case->[0] with the claims of a member is the member");
	is(outcome('lowered', "SELECT invite_sync.set_seats($m, 100)"), 'not_permitted', 'and no service');
	is(outcome('lowered', "SELECT invite_sync.has_permission($m, 'members.add')"), 'f', 'nor for policies');
}
for my $case (
	[ '{"role": "service_role"}', 'not_authenticated' ],
	[ qq({"sub": "$user{member}", "role": "service_role"}), 'not_authenticated' ],
	# other roles are the application's, and their claims a user's
	[ qq({"sub": "$user{member}", "role": "postgres"}), 'not_permitted' ],
	[ qq({"sub": "$user{owner}", "role": "anon"}), 'not_authenticated' ],
	[ '{', 'not_authenticated' ], [ '{}', 'not_authenticated' ],
	[ qq({"sub": "$user{owner} ", "role": "authenticated"}), 'not_authenticated' ],
	[ qq({"role": "authenticated", "user_metadata": {"sub": "$user{owner}"}}), 'not_authenticated' ],
	[ qq({"sub": "$user{unknown}", "role": "authenticated"}), 'not_authenticated' ],
	[ qq({"sub": "$user{gone}", "role": "authenticated"}), 'user_banned' ])
{
	my ($claims, $expected) = @$case;
	local $caller{liar} = { role => 'authenticated', claims => $claims };
	for my $definer (0, 1)
	{
		is(outcome('liar', "SELECT invite_sync.delete_organization($c)", definer => $definer), $expected, "authenticated with claims $claims deletes nothing");
		is(outcome('liar', "SELECT invite_sync.has_permission($m, 'organization.delete')", definer => $definer), 'f', 'nor has it a permission');
	}
	is(outcome('liar', "SELECT invite_sync.set_seats($m, 100)", definer => 1), 'not_permitted', 'and it sets no seats');
}

# ---------------------------------------------------------------------------
# Our own tables: rows by policy, nothing to write

my $all = { outsider => 0, removed => 0, nobody => 0, anonymous => 0, banned => 0 };
for my $row (
	[ organization => { %$all, outsider => 1, (map { $_ => 2 } qw(member manager admin owner)), grand => 3 } ],
	# one's own, and those of the organizations; with members.read
	[ membership => { %$all, outsider => 1, (map { $_ => 8 } qw(member manager admin owner)), grand => 9 } ],
	# with domains.manage, as list_domains(): the challenge is in them
	[ organization_domain => { %$all, member => 0, manager => 0, map { $_ => 2 } qw(admin owner grand) } ],
	# a request of one's own is seen by who was removed too
	[ join_request => { %$all, removed => 1, outsider => 1, member => 0, map { $_ => 1 } qw(manager admin owner grand) } ],
	[ role => { %$all, outsider => 4, removed => 3, map { $_ => 6 } @members } ],
	[ permission => { %$all, outsider => 18, removed => 18, map { $_ => 18 } @members } ],
	[ platform_role => { %$all, (map { $_ => 0 } qw(member manager admin owner)), grand => 1 } ],
	map { [ $_ => { map { $_ => '42501' } @callers } ] } qw(membership_removal gone_user known_address user_invitation_quota rate_limit_rule rate_limit invitation invitation_grant invitation_acceptance invitation_key invitation_policy))
{
	my ($table, $expected) = @$row;

	for my $who (grep { $_ ne 'operator' } @callers)
	{
		my $wanted = $caller{$who}{role} eq 'authenticated' ? $expected->{$who} : '42501';
		is(outcome($who, "SELECT count(*) FROM invite_sync.$table"), $wanted, "$who: rows of $table");
	}
	is(outcome($_, "DELETE FROM invite_sync.$table"), '42501', "$_ writes nothing to $table") for qw(anon owner grand service operator);
}

# What is internal is granted to nobody, and where somebody grants it by mistake it reads as whoever calls it.
my @internal = (
	[ organization_path => "SELECT count(*) FROM invite_sync.organization_path($m)", 0, 1 ],
	[ organization_subtree => "SELECT count(*) FROM invite_sync.organization_subtree($m)", 0, 2 ],
	[ seat_pool => "SELECT invite_sync.seat_pool($m)", '', $organization{main} ],
	[ seat_pool_organizations => "SELECT count(*) FROM invite_sync.seat_pool_organizations($m)", 0, 2 ],
	[ seats_used => "SELECT invite_sync.seats_used($m)", 0, 8 ],
	# of invitations nobody reads the tables
	[ seats_pending => "SELECT invite_sync.seats_pending($m)", '42501', '42501' ],
	[ role_permissions => "SELECT invite_sync.role_permissions('$role{heavy}')", '{}', '{domains.manage}' ],
	[ effective_permissions => "SELECT cardinality(invite_sync.effective_permissions($u{second}, $m))", 0, 15 ],
	[ role_id_of => "SELECT invite_sync.role_id_of('heavy', $m)", '', $role{heavy} ],
	[ tenant_copy => "SELECT invite_sync.tenant_copy($u{second})->'organizations'->0->>'role'", '', 'admin' ]);
is_deeply([ sort map { $_->[0] } @internal ], [ split /\n/, value($node, $db, q{
SELECT p.proname FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'invite_sync'::regnamespace AND l.lanname = 'sql' AND p.proname <> 'api_grants'
	AND p.prosrc ~ 'invite_sync\.(organization|seat|membership|role|permission|effective|platform|join)' ORDER BY p.proname COLLATE "C"}) ],
	'these are the functions in SQL that read the tables of these rooms');
for my $row (@internal)
{
	my ($function, $call, $outside, $inside) = @$row;

	is(outcome($_, $call), '42501', "$_ may not call $function()") for qw(nobody outsider owner service);
	my @by_mistake = (before => 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA invite_sync TO authenticated');
	is(outcome($_, $call, @by_mistake), $outside, "$function() granted by mistake tells $_ nothing") for qw(nobody anonymous outsider removed banned);
	is(outcome('owner', $call, @by_mistake), $inside, 'and an owner what the tables show them');
}

# ---------------------------------------------------------------------------
# Custom roles in all relations: the actor's role A, the one given B, and C of the one acted on

my $acts = q{'organization.read', 'members.read', 'members.add', 'members.remove', 'members.set_role', 'roles.manage'};
my %relation = (
	equal => "ARRAY[$acts, 'docs.read', 'docs.write']",
	subset => q{ARRAY['docs.read']},
	superset => "ARRAY[$acts, 'docs.read', 'docs.write', 'docs.sign']",
	overlap => q{ARRAY['docs.write', 'docs.sign']},
	disjoint => q{ARRAY['docs.sign']},
	# a permission that the built-in owner alone has
	ownerly => q{ARRAY['docs.read', 'organization.delete']},
	none => q{'{}'});
my %covered = map { $_ => 1 } qw(equal subset none);
my @relations = sort keys %relation;
my %relation_role = map { $relations[$_] => id('e', $_ + 1) } 0 .. $#relations;
my %actor_role = (whole => id('f', 1), upper => id('f', 2), lower => id('f', 3));
my %target_of = map { $_ => "'" . id('9', $_) . "'" } 1 .. 3;
value($node, $db, join "\n",
	(map { "INSERT INTO auth.users (id, email) VALUES ($target_of{$_}, 't$_\@x.example');" } keys %target_of),
	# roles of the parent, so that they are good for it and for main
	(map { "INSERT INTO invite_sync.role (id, name, organization_id) VALUES ('$relation_role{$_}', 'r-$_', '$organization{parent}');"
		  . "INSERT INTO invite_sync.role_permission (role_id, permission) SELECT CAST('$relation_role{$_}' AS uuid), unnest(CAST($relation{$_} AS text[]));" } @relations),
	(map { "INSERT INTO invite_sync.role (id, name, organization_id) VALUES ('$actor_role{$_}', 'a-$_', '$organization{parent}');" } sort keys %actor_role),
	"INSERT INTO invite_sync.role_permission (role_id, permission) SELECT '$actor_role{whole}'::uuid, unnest($relation{equal});",
	# neither half is enough
	"INSERT INTO invite_sync.role_permission (role_id, permission) SELECT '$actor_role{upper}'::uuid, unnest(ARRAY['docs.read', 'members.add', 'roles.manage']);",
	"INSERT INTO invite_sync.role_permission (role_id, permission) SELECT '$actor_role{lower}'::uuid, unnest(ARRAY['docs.write', 'organization.read', 'members.read', 'members.remove', 'members.set_role']);");

sub membership_sql { my ($where, $who, $what) = @_; return "INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ($where, $who, '$what')" }

my %actor = (
	'in the organization' => membership_sql($m, $u{newbie}, $actor_role{whole}),
	'from above' => membership_sql($p, $u{newbie}, $actor_role{whole}),
	'half from above' => membership_sql($p, $u{newbie}, $actor_role{upper}) . ';' . membership_sql($m, $u{newbie}, $actor_role{lower}));
$caller{newbie} = { role => 'authenticated', claims => qq({"sub": "$user{newbie}", "role": "authenticated"}) };

for my $how (sort keys %actor)
{
	# what is done, by an actor with A, in main
	my $may = sub {
		my ($what, $call, $allowed, $before) = @_;
		is(outcome('newbie', "SELECT 'ok' FROM $call", before => join(';', $actor{$how}, $before || ())), $allowed ? 'ok' : 'escalation', "A $how: $what");
	};
	for my $b (@relations)
	{
		my $given = $relation{$b};
		my $target = $target_of{1};
		$may->("add_member() as B $b", "invite_sync.add_member($m, $target, 'r-$b')", $covered{$b});
		$may->("decide_join_request() as B $b", "invite_sync.decide_join_request('" . id('8', 1) . "', true, 'r-$b')", $covered{$b},
			"INSERT INTO invite_sync.join_request (id, organization_id, user_id) VALUES ('" . id('8', 1) . "', $m, $target)");
		$may->("create_role() B $b", "invite_sync.create_role('fresh', $given, $m)", $covered{$b});
		$may->("drop_role() B $b", "invite_sync.drop_role('fresh', $m)", $covered{$b},
			"INSERT INTO invite_sync.role (id, name, organization_id) VALUES ('" . id('8', 2) . "', 'fresh', $m); INSERT INTO invite_sync.role_permission SELECT '" . id('8', 2) . "'::uuid, unnest(CAST($given AS text[]))");
		$may->("remove_member() who has C $b", "invite_sync.remove_member($m, $target)", $covered{$b}, membership_sql($m, $target, $relation_role{$b}));
		$may->("remove_member() who has little, and C $b from above", "invite_sync.remove_member($m, $target)", $covered{$b},
			membership_sql($m, $target, $relation_role{none}) . ';' . membership_sql($p, $target, $relation_role{$b}));
		$may->("add_member() who has C $b from above", "invite_sync.add_member($m, $target, 'r-none')", $covered{$b}, membership_sql($p, $target, $relation_role{$b}));
		for my $c (@relations)
		{
			$may->("set_member_role() from C $c to B $b", "invite_sync.set_member_role($m, $target, 'r-$b')", $covered{$b} && $covered{$c}, membership_sql($m, $target, $relation_role{$c}));
			$may->("set_role_permissions() from C $c to B $b", "invite_sync.set_role_permissions('fresh', $given, $m)", $covered{$b} && $covered{$c},
				"INSERT INTO invite_sync.role (id, name, organization_id) VALUES ('" . id('8', 2) . "', 'fresh', $m); INSERT INTO invite_sync.role_permission SELECT '" . id('8', 2) . "'::uuid, unnest(CAST($relation{$c} AS text[]))");
		}
	}
	# onto oneself it is the same rule: one may become less, never more
	if ($how ne 'from above')
	{
		$may->("set_member_role() of oneself to B $_", "invite_sync.set_member_role($m, $u{newbie}, 'r-$_')", $covered{$_}) for sort keys %relation;
	}
	# only an owner makes or unmakes one, whatever else somebody has
	my $everything = "ARRAY(SELECT p.name FROM invite_sync.permission AS p WHERE p.name NOT LIKE 'platform.%')";
	for my $act ([ 'makes', "invite_sync.add_member($m, $target_of{2}, 'owner')", '' ],
		[ 'makes of a member', "invite_sync.set_member_role($m, $target_of{2}, 'owner')", membership_sql($m, $target_of{2}, $MEMBER) ],
		[ 'unmakes', "invite_sync.set_member_role($m, $target_of{2}, 'member')", membership_sql($m, $target_of{2}, $OWNER) ],
		[ 'removes', "invite_sync.remove_member($m, $target_of{2})", membership_sql($m, $target_of{2}, $OWNER) ],
		[ 'hands on what is not theirs:', "invite_sync.transfer_ownership($m, $target_of{2})", membership_sql($m, $target_of{2}, $MEMBER) ])
	{
		my ($what, $call, $before) = @$act;
		is(outcome('newbie', "SELECT 'ok' FROM $call", before => join(';', $actor{$how},
			"INSERT INTO invite_sync.role_permission (role_id, permission) SELECT r.id, e.p FROM invite_sync.role AS r, unnest($everything) AS e (p) WHERE r.name LIKE 'a-%' ON CONFLICT DO NOTHING", $before)),
			'escalation', "A $how, with all permissions there are, $what no owner");
	}
}

$session->close;
$node->stop;
done_testing();
