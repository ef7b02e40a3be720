# Every function as PostgREST calls it: login as authenticator, a transaction that is READ ONLY for what is STABLE, the
# role and the claims in settings of the transaction, arguments by name out of a JSON body, one prepared statement for
# all roles; and what a client gets: an object, rows or a value, or an error with the right HTTP status.
#
# %calls has the calls that somebody granted to anon, authenticated or service_role makes. A new function needs an entry:
#
#   name => [ caller => { arguments } => expected, ... ]
#
# the good call first. expected: a hash, the answer is an object that has at least these values; an array, the answer is
# rows, of which the first have at least these; a reference to a value, the answer is it; a word, the refusal. A value
# that is a pattern is matched. Everything else is made of the good call: the same by others and with odd arguments,
# where every answer must be one that the function's COMMENT names; and all that it names must have been met.
# What is granted to none of the three needs no entry.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use Hash::Util qw(lock_hash);
use InviteSyncLife qw(standard_targets value);
use InviteSyncPostgrest qw(http_status);
use InviteSyncTest qw(new_cluster prepare_database session slurp);
use Data::Dumper;
use JSON::PP;
use List::Util qw(min);
use MIME::Base64 qw(encode_base64);
use Test::More;

my $db = 'app';
my $node = new_cluster('postgrest', conf => "log_min_messages = fatal\n");
prepare_database($node, $db);
standard_targets($node, $db);
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# ---------------------------------------------------------------------------
# The world

sub id { return sprintf '%s0000000-0000-4000-8000-%012d', @_ }
my @organizations = qw(parent main child other full open draws childless);
my %organization = ((map { $organizations[$_] => id('a', $_ + 1) } 0 .. $#organizations), unknown => id('a', 99));
my ($parent, $main, $child, $other, $full, $open, $draws, $childless, $nowhere) = @organization{ @organizations, 'unknown' };
my @people = qw(owner admin member manager grand outsider guest crowd late device unverified removed asker eager queue declined spent busy invited migrating mailed returned
	anonymous banned deleted nameless moved helper coowner linked stray reader poor almost);
my %user = ((map { $people[$_] => id('b', $_ + 1) } 0 .. $#people), lost => id('b', 98), unknown => id('b', 99));
my ($OWNER, $ADMIN, $MEMBER) = map { "00000000-0000-4000-8000-00000000000$_" } qw(a b c);
my %role = (manager => id('c', 1), spare => id('c', 2), heavy => id('c', 3), theirs => id('c', 4), reader => id('c', 5), almost => id('c', 6));
my %domain = (asker => 'main.example', removed => 'main.example', queue => 'main.example', eager => 'open.example', crowd => 'full.example', member => 'main.example');
sub address { return "$_[0]\@" . ($domain{ $_[0] } || 'some.example') }

my (@sql, %token, %invitation);
# An invitation, whose secret is zeros, under a name.
sub invitation
{
	my ($name, $email, %column) = @_;
	my $id = $invitation{$name} = id('e', 1 + keys %invitation);
	my $grants = exists $column{grants} ? delete $column{grants} : { $main => $MEMBER };
	%column = (id => "'$id'", email => defined $email ? "'$email'" : 'NULL', secret_digest => "sha256(decode(repeat('00', 32), 'hex'))",
		proves_email => 'true', expires_at => "now() + '1 day'", %column);
	push @sql, 'INSERT INTO invite_sync.invitation (' . join(', ', sort keys %column) . ') VALUES (' . join(', ', map { $column{$_} } sort keys %column) . ');';
	push @sql, "INSERT INTO invite_sync.invitation_grant (invitation_id, organization_id, role_id, open, created_at) SELECT id, '$_', '$grants->{$_}', status = 'pending', created_at FROM invite_sync.invitation WHERE id = '$id';"
	  for sort keys %$grants;
	(my $hex = $id) =~ tr/-//d;
	($token{$name} = 'inv_' . encode_base64(pack('H*', $hex) . ("\0" x 32), '')) =~ tr{+/}{-_};
	return $id;
}

my %closed = (map { $_ => [ status => "'$_'", closed_at => 'now()' ] } qw(accepted declined revoked));
my @expired = (created_at => "now() - interval '3 days'", renewed_at => "now() - interval '3 days'", expires_at => "now() - interval '1 day'");
my @link = (kind => "'link'", proves_email => 'false');
my @migration = (purpose => "'migration'", grants => {});

push @sql, map {
	my $mail = $_ =~ /^(?:anonymous|nameless)$/ ? 'NULL' : "'" . address($_) . "'";
	my $confirmed = $_ =~ /^(?:unverified|anonymous|nameless|mailed|moved)$/ ? 'NULL' : 'now()';
	"INSERT INTO auth.users (instance_id, id, aud, role, email, email_confirmed_at, is_anonymous, banned_until, deleted_at, raw_user_meta_data, raw_app_meta_data) VALUES ('00000000-0000-0000-0000-000000000000', '$user{$_}', "
	  . "'authenticated', 'authenticated', $mail, $confirmed, " . ($_ eq 'anonymous' ? 'true' : 'false') . ', '
	  . ($_ eq 'banned' ? "'infinity'" : 'NULL') . ', ' . ($_ eq 'deleted' ? 'now()' : 'NULL') . qq[, '{"full_name": "\u$_"}', '{}');]
} @people;
push @sql, <<"SQL";
SELECT invite_sync.attach();
INSERT INTO invite_sync.organization (id, name, slug, parent_id) VALUES ('$parent', 'Parent', 'parent', NULL), ('$main', 'Main', 'main', '$parent'), ('$child', 'Child', 'child', '$main'),
	('$other', 'Other', 'other', NULL), ('$full', 'Full', 'full', NULL), ('$open', 'Open', 'open', NULL), ('$draws', 'Draws', 'draws', '$full'), ('$childless', 'Childless', 'childless', '$other');
INSERT INTO invite_sync.permission (name) VALUES ('docs.write');
INSERT INTO invite_sync.role (id, name, organization_id) VALUES ('$role{manager}', 'manager', '$main'), ('$role{spare}', 'spare', '$main'), ('$role{heavy}', 'heavy', '$main'), ('$role{theirs}', 'theirs', '$other'), ('$role{reader}', 'reader', '$main'), ('$role{almost}', 'almost', '$main'), (gen_random_uuid(), 'spare', '$draws');
INSERT INTO invite_sync.role_permission (role_id, permission)
SELECT '$role{manager}'::uuid, p FROM unnest(ARRAY['organization.read', 'organization.create_child', 'members.read', 'members.add', 'members.remove', 'members.set_role', 'roles.manage', 'domains.manage', 'invitations.read', 'invitations.create', 'invitations.revoke', 'organization.update']) AS p
UNION ALL SELECT '$role{spare}'::uuid, 'members.read' UNION ALL SELECT '$role{heavy}'::uuid, 'docs.write' UNION ALL SELECT '$role{theirs}'::uuid, 'organization.read' UNION ALL SELECT '$role{reader}'::uuid, unnest(ARRAY['invitations.read', 'domains.manage']) UNION ALL SELECT '$role{almost}'::uuid, 'ownership.transfer';
INSERT INTO invite_sync.membership (organization_id, user_id, role_id) VALUES ('$parent', '$user{grand}', '$OWNER'), ('$main', '$user{owner}', '$OWNER'), ('$main', '$user{admin}', '$ADMIN'),
	('$main', '$user{member}', '$MEMBER'), ('$main', '$user{manager}', '$role{manager}'), ('$main', '$user{helper}', '$MEMBER'), ('$other', '$user{outsider}', '$OWNER'), ('$full', '$user{outsider}', '$OWNER'),
	('$open', '$user{outsider}', '$OWNER'), ('$open', '$user{manager}', '$MEMBER'), ('$main', '$user{banned}', '$MEMBER'), ('$main', '$user{anonymous}', '$MEMBER'), ('$child', '$user{coowner}', '$OWNER'), ('$child', '$user{helper}', '$OWNER'), ('$childless', '$user{stray}', '$role{theirs}'),
	('$main', '$user{reader}', '$role{reader}'), ('$main', '$user{spent}', '$role{manager}'), ('$main', '$user{busy}', '$role{manager}'), ('$main', '$user{almost}', '$role{almost}'), ('$main', '$user{lost}', '$MEMBER');
INSERT INTO invite_sync.membership_removal (organization_id, user_id, removed_by) VALUES ('$main', '$user{removed}', '$user{owner}');
INSERT INTO invite_sync.organization_domain (organization_id, domain, challenge, verified_at, enrollment) VALUES ('$main', 'main.example', 'x', now(), 'suggest'), ('$main', 'unproved.example', 'proof', NULL, 'none'),
	('$other', 'theirs.example', 'x', now(), 'none'), ('$main', 'theirs.example', 'proof', NULL, 'none'), ('$open', 'open.example', 'x', now(), 'auto'), ('$full', 'full.example', 'x', now(), 'auto');
INSERT INTO invite_sync.join_request (id, organization_id, user_id) VALUES ('@{[ id('d', 1) ]}', '$main', '$user{queue}'), ('@{[ id('d', 2) ]}', '$full', '$user{crowd}'), ('@{[ id('d', 3) ]}', '$main', '$user{banned}'),
	('@{[ id('d', 4) ]}', '$main', '$user{anonymous}'), ('@{[ id('d', 5) ]}', '$main', '$user{unknown}');
SELECT invite_sync.set_platform_role('$user{grand}', 'admin');
SELECT invite_sync.set_quota('$user{spent}', 0), invite_sync.set_quota('$user{poor}', 0);
SELECT invite_sync.set_quota(u, 1000) FROM unnest(ARRAY['$user{admin}', '$user{manager}', '$user{owner}', '$user{busy}', '$user{outsider}']::uuid[]) AS u;
INSERT INTO invite_sync.rate_limit (action, scope, key, stamps, until) SELECT a, 'user', '$user{busy}', array_agg(clock_timestamp() - interval '1 minute'), now() + interval '1 hour'
FROM (VALUES ('invite', 10), ('check_invitation', 60)) AS x (a, n), generate_series(1, n) GROUP BY a;
INSERT INTO invite_sync.external_user (id, provider, external_id, email, user_id, migrated_at) VALUES
	(gen_random_uuid(), 'clerk', 'u_migrating', '@{[ address('migrating') ]}', '$user{migrating}', NULL), (gen_random_uuid(), 'clerk', 'u_returned', '@{[ address('returned') ]}', '$user{returned}', now()),
	(gen_random_uuid(), 'clerk', 'u_banned', '@{[ address('banned') ]}', '$user{banned}', NULL), (gen_random_uuid(), 'clerk', 'u_nameless', NULL, '$user{nameless}', NULL),
	(gen_random_uuid(), 'clerk', 'u_linked', '@{[ address('linked') ]}', '$user{linked}', NULL), (gen_random_uuid(), 'clerk', 'u_moved', '@{[ address('moved') ]}', '$user{moved}', NULL),
	(gen_random_uuid(), 'clerk', 'u_deleted', '@{[ address('deleted') ]}', '$user{deleted}', NULL);
INSERT INTO invite_sync.migration_policy (mode) VALUES ('enforce');
CREATE TABLE public.document (organization_id uuid REFERENCES invite_sync.organization (id));
INSERT INTO public.document VALUES ('$open');
SQL
invitation(pending => address('guest'));
invitation(accepted => address('outsider'), @{ $closed{accepted} }, closed_by => "'$user{outsider}'", uses => 1);
invitation(declined => address('declined'), @{ $closed{declined} });
invitation(revoked => address('guest'), @{ $closed{revoked} });
invitation(expired => address('late'), @expired);
invitation(bound => address('device'), device_digest => "sha256('phone')", device_until => "now() + interval '20 minutes'");
invitation(unverified => address('unverified'));
invitation(full => address('crowd'), grants => { $full => $MEMBER });
invitation(link => undef, @link);
invitation(domain_link => undef, @link, allowed_domain => "'elsewhere.example'");
invitation(locator => 'locator@new.example', proves_email => 'false', inviter_id => "'$user{admin}'");
invitation(locator_guest => address('stray'), proves_email => 'false', inviter_id => "'$user{admin}'");
invitation(fresh => 'fresh@new.example');
invitation(fresh_bound => 'bound@new.example', device_digest => "sha256('phone')", device_until => "now() + interval '20 minutes'");
invitation(fresh_full => 'full@new.example', grants => { $full => $MEMBER });
invitation(fresh_expired => 'old@new.example', @expired);
invitation(fresh_revoked => 'revoked@new.example', @{ $closed{revoked} });
invitation(fresh_declined => 'declined@new.example', @{ $closed{declined} });
invitation(fresh_accepted => 'used@new.example', @{ $closed{accepted} }, uses => 1);
invitation(sent => 'sent@new.example', inviter_id => "'$user{admin}'", created_at => "now() - interval '1 hour'", renewed_at => "now() - interval '1 hour'");
invitation(just_sent => 'just@new.example', inviter_id => "'$user{admin}'");
invitation(used => address('guest'), @{ $closed{accepted} }, uses => 1);
invitation(locator_unverified => address('unverified'), proves_email => 'false', inviter_id => "'$user{admin}'", grants => {});
invitation(joined => address('member'), @expired, inviter_id => "'$user{admin}'");
invitation(doubled => address('guest'), @expired, inviter_id => "'$user{admin}'");
invitation(fresh_full_expired => 'full-too@new.example', @expired, grants => { $full => $MEMBER });
invitation(poor => 'poor@new.example', @expired, inviter_id => "'$user{poor}'", grants => {}, alone => 'true');
push @sql, "INSERT INTO invite_sync.rate_limit (action, scope, key, stamps, until) VALUES ('resend', 'invitation', '$invitation{just_sent}', ARRAY[clock_timestamp()], now() + interval '1 minute');";
push @sql, "INSERT INTO invite_sync.invitation_key (actor_id, key, invitation_id, request_digest) VALUES ('$user{admin}', 'taken', '$invitation{sent}', sha256('something else'));";
invitation("migration_$_->[0]" => $_->[2] || address($_->[1]), @migration, @{ $_->[3] || [] }) and push @sql, "UPDATE invite_sync.external_user SET invitation_id = '" . $invitation{"migration_$_->[0]"} . "' WHERE user_id = '$user{ $_->[1] }';"
  for [ good => 'migrating' ], [ moved => 'moved', 'before@some.example' ], [ returned => 'returned' ], [ banned => 'banned' ], [ deleted => 'deleted' ],
  [ expired => 'migrating', undef, \@expired ], [ revoked => 'migrating', undef, $closed{revoked} ], [ accepted => 'migrating', undef, $closed{accepted} ];
push @sql, "UPDATE invite_sync.external_user SET invitation_id = '$invitation{migration_good}' WHERE user_id = '$user{migrating}';";
lock_hash(%$_) for \(%token, %invitation, %user, %role);

# more is promised than was sold
push @sql, "SET session_replication_role = replica; UPDATE invite_sync.organization SET seat_limit = 1 WHERE id = '$full';";
value($node, $db, join "\n", @sql);

# ---------------------------------------------------------------------------
# Callers: role and claims

my %caller = (
	anon => [ 'anon', {} ],
	nobody => [ 'authenticated', {} ],
	service => [ 'service_role', {} ],
	(map { $_ => [ 'authenticated', { sub => $user{$_}, aal => 'aal1', aud => 'authenticated', session_id => id('f', 1) } ] } @people, 'unknown'));

my $postgrest = InviteSyncPostgrest->new($node, $db, 'invite_sync');
my %function = %{ $postgrest->{functions} };

# ---------------------------------------------------------------------------
# What is called

my $uuid = qr/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
my $time = qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d.*\+00:00$/;
my $secret = qr/^inv_[A-Za-z0-9_-]{64}$/;
my %here = (organization_id => $main);
my %there = (organization_id => $nowhere);
my %calls = (
	# room organization
	create_organization => [
		guest => { name => 'Fresh' } => { id => $uuid, name => 'Fresh', slug => 'fresh', parent_id => undef, settings => {}, created_by => $user{guest}, created_at => $time },
		service => { name => 'Fresh', owner_id => $user{guest}, settings => { plan => 'pro' } } => { name => 'Fresh', settings => { plan => 'pro' } },
		member => { name => 'Fresh', parent_id => $main } => 'not_permitted',
		service => { name => 'Fresh', owner_id => $user{unknown} } => 'user_unknown',
		outsider => { name => 'Fresh', parent_id => $draws } => 'seats_exhausted',
		owner => { name => 'Fresh', slug => 'no slug' } => 'slug_malformed',
		owner => { name => 'Fresh', slug => 'other' } => 'slug_taken' ],
	get_organization => [
		member => {%here} => { id => $main, name => 'Main', slug => 'main', parent_id => $parent },
		service => {%here} => { id => $main },
		stray => { organization_id => $childless } => { name => 'Childless' },
		reader => {%here} => 'not_permitted' ],
	update_organization => [
		owner => { %here, name => 'Renamed', settings => { a => 1 } } => { name => 'Renamed', slug => 'main', settings => { a => 1 } },
		owner => { %here, slug => 'other' } => 'slug_taken',
		owner => { %here, slug => '-' } => 'slug_malformed',
		member => { %here, name => 'Renamed' } => 'not_permitted' ],
	move_organization => [
		grand => { %here, parent_id => undef } => { id => $main, parent_id => undef },
		grand => { %here, parent_id => $child } => 'hierarchy_cycle',
		service => { %here, parent_id => $full } => 'seats_below_usage',
		service => { organization_id => $childless, parent_id => $main } => 'role_in_use',
		service => { organization_id => $draws, parent_id => $main } => 'role_exists',
		member => { %here, parent_id => undef } => 'not_permitted' ],
	delete_organization => [
		owner => { %here, cascade => $true } => { id => $main, slug => 'main' },
		owner => {%here} => 'has_children',
		outsider => { organization_id => $open } => '23503',
		member => {%here} => 'not_permitted' ],
	my_organizations => [ helper => { page_size => 2 } => [ { id => $uuid, role => qr/^(?:owner|member)$/, permissions => qr/^ARRAY/, inherited => $false, cursor => qr/./ }, {} ] ],
	list_organizations => [ service => {%here} => [ { id => $child, parent_id => $main, cursor => qr/./ } ] ],
	seat_usage => [ member => {%here} => { organization_id => $parent, seat_limit => undef, used => qr/^\d+$/, remaining => undef } , outsider => { organization_id => $full } => { seat_limit => 1, remaining => qr/^-?\d+$/ },
		stray => { organization_id => $childless } => 'not_permitted' ],
	set_seats => [
		service => { %here, seat_limit => 50, bonus_seats => 2 } => { organization_id => $main, seat_limit => 50, bonus_seats => 2 },
		service => { %here, seat_limit => 1 } => 'seats_below_usage' ],
	set_organization_limits => [ service => { %here, max_concurrent_sessions => 3, region => 'eu' } => { id => $main, max_concurrent_sessions => 3, region => 'eu' } ],
	add_domain => [
		admin => { %here, domain => 'New.Example.' } => { organization_id => $main, domain => 'new.example', record_name => qr/new\.example$/, record_value => qr/./, verified_at => undef },
		admin => { %here, domain => 'gmail.com' } => 'domain_not_allowed',
		admin => { %here, domain => 'open.example' } => 'domain_taken',
		member => { %here, domain => 'new.example' } => 'not_permitted' ],
	set_enrollment => [
		owner => { %here, domain => 'main.example', enrollment => 'auto' } => { enrollment => 'auto' },
		owner => { %here, domain => 'unproved.example', enrollment => 'auto' } => 'domain_not_allowed',
		owner => { %here, domain => 'nowhere.example', enrollment => 'none' } => 'domain_unknown',
		reader => { %here, domain => 'main.example', enrollment => 'auto' } => 'escalation',
		member => { %here, domain => 'main.example', enrollment => 'none' } => 'not_permitted' ],
	remove_domain => [
		owner => { %here, domain => 'main.example' } => { domain => 'main.example', verified_at => $time },
		owner => { %here, domain => 'nowhere.example' } => 'domain_unknown',
		member => { %here, domain => 'main.example' } => 'not_permitted' ],
	list_domains => [ owner => {%here} => [ { domain => qr/\.example$/, cursor => qr/./ } ], member => {%here} => 'not_permitted' ],
	verify_domain => [
		service => { %here, domain => 'unproved.example', txt_records => ['proof'] } => { domain => 'unproved.example' },
		service => { %here, domain => 'nowhere.example', txt_records => ['proof'] } => 'domain_unknown',
		service => { %here, domain => 'theirs.example', txt_records => ['proof'] } => 'domain_taken' ],
	# room membership
	add_member => [
		admin => { %here, user_id => $user{guest} } => { membership_id => $uuid, organization_id => $main, user_id => $user{guest}, role => 'member', added_by => $user{admin}, joined_at => $time },
		admin => { %here, user_id => $user{member} } => 'already_member',
		admin => { %here, user_id => $user{guest}, role => 'owner' } => 'escalation',
		admin => { %here, user_id => $user{banned} } => 'user_banned',
		admin => { %here, user_id => $user{anonymous} } => 'anonymous_user',
		member => { %here, user_id => $user{guest} } => 'not_permitted',
		service => { organization_id => $full, user_id => $user{guest} } => 'seats_exhausted' ],
	remove_member => [
		admin => { %here, user_id => $user{member} } => { user_id => $user{member}, role => 'member' },
		admin => { %here, user_id => $user{owner} } => 'escalation',
		grand => { %here, user_id => $user{owner} } => 'last_owner',
		admin => { %here, user_id => $user{guest} } => 'member_unknown',
		member => { %here, user_id => $user{admin} } => 'not_permitted' ],
	set_member_role => [
		owner => { %here, user_id => $user{member}, role => 'admin' } => { user_id => $user{member}, role => 'admin' },
		admin => { %here, user_id => $user{member}, role => 'owner' } => 'escalation',
		owner => { %here, user_id => $user{owner}, role => 'member' } => 'last_owner',
		owner => { %here, user_id => $user{guest}, role => 'member' } => 'member_unknown',
		owner => { %here, user_id => $user{banned}, role => 'owner' } => 'user_banned',
		owner => { %here, user_id => $user{anonymous}, role => 'owner' } => 'anonymous_user',
		owner => { %here, user_id => $user{lost}, role => 'owner' } => 'user_unknown',
		member => { %here, user_id => $user{member}, role => 'admin' } => 'not_permitted' ],
	leave_organization => [
		member => {%here} => { user_id => $user{member}, organization_id => $main },
		owner => {%here} => 'last_owner',
		grand => {%here} => 'member_unknown' ],
	transfer_ownership => [
		owner => { %here, user_id => $user{admin} } => { user_id => $user{admin}, role => 'owner' },
		admin => { %here, user_id => $user{member} } => 'not_permitted',
		owner => { %here, user_id => $user{guest} } => 'member_unknown',
		owner => { %here, user_id => $user{banned} } => 'user_banned',
		owner => { %here, user_id => $user{anonymous} } => 'anonymous_user',
		owner => { %here, user_id => $user{lost} } => 'user_unknown',
		almost => { %here, user_id => $user{member} } => 'escalation',
		owner => { %here, user_id => $user{owner} } => 'data_malformed' ],
	list_members => [ member => { %here, page_size => 3 } => [ { user_id => $uuid, email => qr/@/, display_name => qr/./, role => qr/./, joined_at => $time, cursor => qr/./ }, {}, {} ], stray => { organization_id => $childless } => 'not_permitted' ],
	get_member => [ member => { %here, user_id => $user{admin} } => { user_id => $user{admin}, email => address('admin'), role => 'admin' }, member => { %here, user_id => $user{guest} } => 'member_unknown',
		stray => { organization_id => $childless, user_id => $user{outsider} } => 'not_permitted' ],
	create_role => [
		admin => { name => 'writer', permissions => ['members.read'], %here } => { role_id => $uuid, role => 'writer', organization_id => $main, built_in => $false, permissions => ['members.read'] },
		manager => { name => 'writer', permissions => ['docs.write'], %here } => 'escalation',
		admin => { name => 'owner', permissions => [], %here } => 'role_exists',
		admin => { name => 'writer', permissions => [] } => 'not_permitted',
		member => { name => 'writer', permissions => [], %here } => 'not_permitted' ],
	set_role_permissions => [
		admin => { role => 'spare', permissions => [ 'members.read', 'members.add' ], %here } => { role => 'spare', permissions => [ 'members.add', 'members.read' ] },
		manager => { role => 'heavy', permissions => [], %here } => 'escalation',
		member => { role => 'spare', permissions => [], %here } => 'not_permitted' ],
	drop_role => [
		admin => { role => 'spare', %here } => { role => 'spare' },
		manager => { role => 'heavy', %here } => 'escalation',
		admin => { role => 'manager', %here } => 'role_in_use',
		member => { role => 'spare', %here } => 'not_permitted' ],
	list_roles => [ member => {%here} => [ { role_id => $uuid, role => qr/./, built_in => qr/./, permissions => qr/^ARRAY/, cursor => qr/./ } ], service => {} => [ {}, {}, {} ] ],
	list_permissions => [ guest => { page_size => 1 } => [ { permission => qr/./, built_in => qr/./ } ] ],
	set_platform_role => [
		service => { user_id => $user{guest}, role => 'admin' } => { user_id => $user{guest}, role => 'admin', since => $time },
		service => { user_id => $user{guest}, role => undef } => { user_id => $user{guest}, role => undef },
		service => { user_id => $user{banned}, role => 'admin' } => 'user_banned',
		service => { user_id => $user{anonymous}, role => 'admin' } => 'anonymous_user' ],
	request_to_join => [
		asker => { organization_id => $main, message => 'please' } => { join_request_id => $uuid, status => 'pending', message => 'please' },
		eager => { organization_id => $open } => { status => 'granted' },
		member => {%here} => 'already_member',
		unverified => {%here} => 'email_unverified',
		crowd => { organization_id => $full } => 'seats_exhausted' ],
	cancel_join_request => [ queue => { join_request_id => id('d', 1) } => { join_request_id => id('d', 1), status => 'cancelled' }, asker => { join_request_id => id('d', 1) } => 'join_request_unknown' ],
	decide_join_request => [
		admin => { join_request_id => id('d', 1), granted => $true } => { status => 'granted', decided_by => $user{admin} },
		admin => { join_request_id => id('d', 1), granted => $false } => { status => 'denied' },
		admin => { join_request_id => id('d', 1), granted => $true, role => 'owner' } => 'escalation',
		admin => { join_request_id => id('d', 3), granted => $true } => 'user_banned',
		admin => { join_request_id => id('d', 4), granted => $true } => 'anonymous_user',
		admin => { join_request_id => id('d', 5), granted => $true } => 'user_unknown',
		outsider => { join_request_id => id('d', 2), granted => $true } => 'seats_exhausted',
		member => { join_request_id => id('d', 1), granted => $true } => 'not_permitted' ],
	list_join_requests => [ admin => {%here} => [ { join_request_id => $uuid, request_status => 'pending' } ], member => {%here} => 'not_permitted' ],
	suggested_organizations => [ asker => {} => [ { organization_id => $main, organization_name => 'Main', at_once => $false } ], guest => {} => [] ],
	# what policies ask
	(map { $_ => [ member => {%here} => \$true, anon => {%here} => \$false, nobody => {%here} => \$false, banned => {%here} => \$false, service => {%here} => \$true, member => {%there} => \$false ] } qw(is_member)),
	has_role => [ member => { %here, role => 'member' } => \$true, anon => { %here, role => 'member' } => \$false ],
	has_any_role => [ member => { %here, roles => [ 'owner', 'member' ] } => \$true, anon => { %here, roles => ['member'] } => \$false ],
	has_permission => [ member => { %here, permission => 'members.read' } => \$true, member => { %here, permission => 'members.add' } => \$false, anon => { %here, permission => 'members.read' } => \$false ],
	has_any_permission => [ member => { %here, permissions => [ 'nonsense', 'members.read' ] } => \$true, anon => { %here, permissions => ['members.read'] } => \$false ],
	member_organizations => [ stray => {} => \[$childless], anon => {} => \[], service => {} => \[] ],
	organizations_with_permission => [ stray => { permission => 'organization.read' } => \[$childless], anon => { permission => 'organization.read' } => \[] ],
	platform_role => [ grand => {} => \'admin', anon => {} => \undef ],
	current_user_id => [ member => {} => \$user{member}, anon => {} => \undef, banned => {} => \undef, service => {} => \undef ],
	current_claims => [ member => {} => { sub => $user{member}, role => 'authenticated' }, anon => {} => { role => 'anon' } ],
	whoami => [
		member => {} => { user_id => $user{member}, kind => 'user', role => 'authenticated', is_anonymous => $false, platform_role => undef, is_administrator => $false, is_operator => $false },
		anon => {} => { user_id => undef, kind => 'anon', role => 'anon' }, nobody => {} => { kind => 'nobody' }, service => {} => { kind => 'service' }, anonymous => {} => { is_anonymous => $true } ],
	# room invitation
	create_invitation => [
		admin => { email => 'Somebody@New.example', organization_id => $main, data => { full_name => 'S' }, expires_in => '1 day' } =>
		  { invitation_id => $uuid, token => $secret, email => 'somebody@new.example', status => 'pending', expires_at => $time, reused => $false, skipped => $false },
		service => { email => 'somebody@new.example', platform_role => 'admin' } => { status => 'pending' },
		service => { email => 'somebody@new.example', delivery => 'none', inviter_id => $user{guest} } => { token => undef },
		admin => { email => address('member'), organization_id => $main } => 'already_member',
		admin => { email => address('guest'), organization_id => $main } => 'already_invited',
		admin => { email => address('declined'), organization_id => $main } => 'invitation_declined',
		manager => { email => 'somebody@new.example', organization_id => $main, role => 'heavy' } => 'escalation',
		member => { email => 'somebody@new.example', organization_id => $main } => 'not_permitted',
		outsider => { email => 'somebody@new.example', organization_id => $full } => 'seats_exhausted',
		spent => { email => 'somebody@new.example' } => 'quota_exhausted',
		busy => { email => 'somebody@new.example' } => 'rate_limited',
		admin => { email => 'somebody@new.example', organization_id => $main, idempotency_key => 'taken' } => 'idempotency_conflict',
		service => { email => 'somebody@new.example', inviter_id => $user{banned} } => 'user_banned',
		service => { email => 'somebody@new.example', inviter_id => $user{anonymous} } => 'anonymous_user',
		service => { email => 'somebody@new.example', inviter_id => $user{unknown} } => 'user_unknown' ],
	create_invitations => [
		admin => { invitations => [ { email => 'somebody@new.example' }, { email => 'nonsense' } ], organization_id => $main } => [ { n => 1, status => 'pending', token => $secret, reason => undef }, { n => 2, reason => 'email_malformed', csv => qr/email_malformed/ } ],
		busy => { invitations => [ { email => 'nonsense' } ] } => [ { reason => 'rate_limited' } ],
		guest => { invitations => [ { email => 'somebody@new.example' } ], inviter_id => $user{admin} } => 'not_permitted',
		service => { invitations => [], inviter_id => $user{banned} } => 'user_banned',
		service => { invitations => [], inviter_id => $user{anonymous} } => 'anonymous_user',
		service => { invitations => [], inviter_id => $user{unknown} } => 'user_unknown' ],
	create_invite_link => [
		admin => { %here, max_uses => 3, expires_in => '1 day' } => { token => $secret, email => undef, status => 'pending' },
		manager => { %here, role => 'heavy' } => 'escalation',
		member => {%here} => 'not_permitted',
		service => { %here, inviter_id => $user{spent} } => 'quota_exhausted',
		service => { %here, inviter_id => $user{busy} } => 'rate_limited',
		service => { %here, inviter_id => $user{banned} } => 'user_banned',
		service => { %here, inviter_id => $user{anonymous} } => 'anonymous_user',
		service => { %here, inviter_id => $user{unknown} } => 'user_unknown' ],
	check_invitation => [
		admin => { email => 'somebody@new.example', organization_id => $main } => [ { check_name => 'email', ok => $true, reason => undef } ],
		busy => { email => 'somebody@new.example' } => [ { ok => $false, reason => 'rate_limited' } ],
		guest => { email => 'somebody@new.example', inviter_id => $user{admin} } => 'not_permitted',
		service => { email => 'somebody@new.example', inviter_id => $user{banned} } => 'user_banned',
		service => { email => 'somebody@new.example', inviter_id => $user{anonymous} } => 'anonymous_user',
		admin => { email => 'somebody@new.example', role => 'member' } => 'data_malformed',
		service => { email => 'somebody@new.example', inviter_id => $user{unknown} } => 'user_unknown' ],
	get_invitation => [
		anon => { token => $token{pending} } => { organization_name => 'Main', role => 'member', email_hint => 'g***@s***.example', expires_at => $time, needs_signup => $false },
		service => { token => $token{pending} } => { organization_name => 'Main' },
		guest => { token => $token{locator} } => { needs_signup => undef },
		(map { (anon => { token => $token{$_} } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(expired revoked declined accepted)) ],
	bind_invitation => [
		anon => { token => $token{pending}, device => 'mine' } => { invitation_id => $invitation{pending}, device_until => $time },
		anon => { token => $token{bound}, device => 'mine' } => 'device_mismatch',
		anon => { token => $token{link}, device => 'mine' } => 'not_permitted',
		anon => { token => $token{locator}, device => 'mine' } => 'not_authenticated',
		guest => { token => $token{locator}, device => 'mine' } => 'email_mismatch',
		banned => { token => $token{locator}, device => 'mine' } => 'user_banned',
		anonymous => { token => $token{locator}, device => 'mine' } => 'anonymous_user',
		unverified => { token => $token{locator_unverified}, device => 'mine' } => 'email_unverified',
		(map { (anon => { token => $token{$_}, device => 'mine' } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(expired revoked declined accepted)) ],
	accept_invitation => [
		guest => { token => $token{pending} } => { invitation_id => $invitation{pending}, organization_ids => [$main], platform_role => undef, already => $false },
		device => { token => $token{bound}, device => 'phone' } => { already => $false },
		device => { token => $token{bound} } => 'device_mismatch',
		owner => { token => $token{pending} } => 'email_mismatch',
		unverified => { token => $token{unverified} } => 'email_unverified',
		crowd => { token => $token{full} } => 'seats_exhausted',
		guest => { token => $token{domain_link} } => 'domain_not_allowed',
		removed => { token => $token{link} } => 'not_permitted',
		migrating => { token => $token{migration_good} } => 'migration_required',
		late => { token => $token{expired} } => 'invitation_expired',
		(map { (guest => { token => $token{$_} } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(revoked declined accepted)) ],
	accept_my_invitation => [
		guest => { invitation_id => $invitation{pending} } => { organization_ids => [$main] },
		owner => { invitation_id => $invitation{pending} } => 'invitation_unknown',
		unverified => { invitation_id => $invitation{unverified} } => 'email_unverified',
		crowd => { invitation_id => $invitation{full} } => 'seats_exhausted',
		late => { invitation_id => $invitation{expired} } => 'invitation_expired',
		declined => { invitation_id => $invitation{declined} } => 'invitation_declined',
		guest => { invitation_id => $invitation{revoked} } => 'invitation_revoked',
		guest => { invitation_id => $invitation{used} } => 'invitation_used' ],
	my_invitations => [ guest => {} => [ { invitation_id => $invitation{pending}, organization_ids => [$main], organization_names => ['Main'], roles => ['member'], expires_at => $time, cursor => qr/./ } ], owner => {} => [] ],
	decline_invitation => [
		guest => { token => $token{pending} } => { invitation_id => $invitation{pending}, status => 'declined' },
		service => { token => $token{pending} } => { status => 'declined' },
		owner => { token => $token{pending} } => 'email_mismatch',
		unverified => { token => $token{unverified} } => 'email_unverified',
		guest => { token => $token{link} } => 'not_permitted',
		late => { token => $token{expired} } => 'invitation_expired',
		(map { (guest => { token => $token{$_} } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(revoked declined accepted)) ],
	decline_my_invitation => [
		guest => { invitation_id => $invitation{pending} } => { status => 'declined' },
		owner => { invitation_id => $invitation{pending} } => 'invitation_unknown',
		unverified => { invitation_id => $invitation{unverified} } => 'email_unverified',
		late => { invitation_id => $invitation{expired} } => 'invitation_expired',
		declined => { invitation_id => $invitation{declined} } => 'invitation_declined',
		guest => { invitation_id => $invitation{revoked} } => 'invitation_revoked',
		guest => { invitation_id => $invitation{used} } => 'invitation_used' ],
	signup_with_invitation => [
		anon => { token => $token{fresh}, password => 'correct horse', data => { full_name => 'Fresh' } } => { user_id => $uuid, email => 'fresh@new.example', organization_ids => [$main] },
		service => { token => $token{fresh}, password => 'correct horse' } => { email => 'fresh@new.example' },
		anon => { token => $token{fresh}, password => 'short' } => 'password_weak',
		anon => { token => $token{fresh_bound}, password => 'correct horse' } => 'device_mismatch',
		anon => { token => $token{fresh_full}, password => 'correct horse' } => 'seats_exhausted',
		anon => { token => $token{locator}, password => 'correct horse' } => 'not_permitted',
		anon => { token => $token{pending}, password => 'correct horse' } => 'user_exists',
		anon => { token => $token{migration_good}, password => 'correct horse' } => 'migration_required',
		(map { (anon => { token => $token{"fresh_$_"}, password => 'correct horse' } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(expired revoked declined accepted)) ],
	resend_invitation => [
		admin => { invitation_id => $invitation{sent} } => { invitation_id => $invitation{sent}, token => $secret, status => 'pending' },
		admin => { invitation_id => $invitation{just_sent} } => 'rate_limited',
		member => { invitation_id => $invitation{sent} } => 'invitation_unknown',
		reader => { invitation_id => $invitation{sent} } => 'not_permitted',
		admin => { invitation_id => $invitation{joined} } => 'already_member',
		admin => { invitation_id => $invitation{doubled} } => 'already_invited',
		service => { invitation_id => $invitation{fresh_full_expired} } => 'seats_exhausted',
		poor => { invitation_id => $invitation{poor} } => 'quota_exhausted',
		service => { invitation_id => $invitation{sent}, inviter_id => $user{banned} } => 'user_banned',
		service => { invitation_id => $invitation{sent}, inviter_id => $user{anonymous} } => 'anonymous_user',
		service => { invitation_id => $invitation{sent}, inviter_id => $user{unknown} } => 'user_unknown',
		(map { (admin => { invitation_id => $invitation{"fresh_$_"} } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(revoked declined accepted)) ],
	revoke_invitation => [
		admin => { invitation_id => $invitation{sent} } => { invitation_id => $invitation{sent}, status => 'revoked', closed_at => $time, organization_ids => [$main] },
		member => { invitation_id => $invitation{sent} } => 'invitation_unknown',
		reader => { invitation_id => $invitation{sent} } => 'not_permitted',
		service => { invitation_id => $invitation{sent}, inviter_id => $user{banned} } => 'user_banned',
		service => { invitation_id => $invitation{sent}, inviter_id => $user{anonymous} } => 'anonymous_user',
		service => { invitation_id => $invitation{sent}, inviter_id => $user{unknown} } => 'user_unknown',
		(map { (admin => { invitation_id => $invitation{"fresh_$_"} } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(expired revoked declined accepted)) ],
	list_invitations => [ admin => { %here, status => 'expired' } => [ { invitation_id => $uuid, kind => 'email', invitation_status => 'expired', organization_ids => [$main], roles => ['member'], cursor => qr/./ } ],
		member => {%here} => 'not_permitted',
		service => { inviter_id => $user{banned} } => 'user_banned',
		service => { inviter_id => $user{anonymous} } => 'anonymous_user',
		service => { inviter_id => $user{unknown} } => 'user_unknown' ],
	set_invitation_policy => [ owner => { %here, ttl => '2 days' } => { organization_id => $main, ttl => '2 days', updated_at => $time }, owner => { %here, ttl => undef } => { ttl => undef }, member => { %here, ttl => '2 days' } => 'not_permitted' ],
	import_invitations => [
		service => { invitations => [ { email => 'somebody@new.example', role => 'member', organization_id => $main }, { email => 'nonsense' }, { email => 'x@new.example', role => 'nonsense', organization_id => $main },
			{ email => 'x@new.example', organization_id => $nowhere }, { email => 'x@new.example', expires_at => '2020-01-01T00:00:00Z' }, { email => address('member'), organization_id => $main },
			{ email => address('guest'), organization_id => $main, role => 'admin' }, { email => 'x@new.example', organization_id => $full }, { email => 'x@new.example', inviter_id => $user{unknown} }, { email => 'x@new.example', nonsense => 1 },
			{ email => 'x@new.example', expires_at => 'nonsense' }, { email => 'y1@new.example', token => 'a token of the older system' }, { email => 'y2@new.example', token => 'a token of the older system' } ] } =>
		  [ { n => 1, status => 'pending', reason => undef }, map { { reason => $_ } } qw(email_malformed role_unknown organization_unknown invitation_expired already_member already_invited seats_exhausted user_unknown data_malformed window_malformed), undef, 'idempotency_conflict' ] ],
	invitation_import_failed => [ service => {} => [] ],
	# room quota
	my_quota => [ guest => {} => { granted => 3, used => 0, remaining => 3, unlimited => $false } ],
	grant_quota => [ service => { user_id => $user{guest}, amount => 2 } => { user_id => $user{guest}, granted => 5, used => 0, remaining => 5, unlimited => $false } ],
	set_quota => [ service => { user_id => $user{guest}, granted => 7 } => { granted => 7 } ],
	quota_report => [ service => { page_size => 1 } => [ { user_id => $uuid, granted => qr/^\d+$/, cursor => qr/./ } ] ],
	consume_rate_limit => [ service => { action => 'message', key => 'x@new.example' } => { allowed => $true, remaining => 4, retry_at => undef } ],
	rate_limit_report => [ service => {} => [ { action => 'check_invitation', scope => 'user', key => $user{busy}, used => 60, remaining => 0, retry_at => $time } ] ],
	# room account
	create_user => [
		service => { email => 'made@new.example', password => 'correct horse', full_name => 'M', job_title => 'smith', platform_role => 'member' } => { user_id => $uuid, email => 'made@new.example', email_confirmed => $true, platform_role => 'member', created_at => $time },
		service => { email => 'made@new.example', password => 'short' } => 'password_weak',
		service => { email => address('guest') } => 'user_exists',
		service => { email => 'made@new.example', platform_role => 'nonsense' } => 'role_unknown' ],
	import_users => [
		service => { users => [ { email => 'made@new.example', provider => 'clerk', external_id => 'made' }, { email => 'nonsense' }, { email => 'x1@new.example', nonsense => 1 }, { email => 'x2@new.example', platform_role => 'nonsense' },
			{ email => 'x3@new.example', grants => [ { organization_id => $nowhere, role => 'member' } ] }, { email => 'x4@new.example', grants => [ { organization_id => $full, role => 'member' } ] }, { email => address('guest') },
			{ email => 'x5@new.example', provider => 'clerk', external_id => 'u_migrating' } ] } =>
		  [ { n => 1, status => 'created', user_id => $uuid, reason => undef }, map { { reason => $_ } } qw(email_malformed data_malformed role_unknown organization_unknown seats_exhausted user_exists idempotency_conflict) ] ],
	migration_status => [ service => {} => { migrated => 1, unmigrated => qr/^\d+$/, total_external => qr/^\d+$/, total_auth => qr/^\d+$/, total_active => qr/^\d+$/ } ],
	unmigrated_users => [ service => {} => [ { provider => 'clerk', external_id => qr/^u_/, user_id => $uuid, cursor => qr/./ } ] ],
	check_migration => [ migrating => {} => { migrated => $false, mode => 'enforce', deadline => undef }, guest => {} => { migrated => $true } ],
	require_migrated => [ guest => {} => \$true, migrating => {} => 'migration_required', service => {} => \$true ],
	complete_migration => [
		service => { provider => 'clerk', external_id => 'u_migrating', password => 'correct horse' } => { user_id => $user{migrating}, email => address('migrating'), migrated_at => $time, password_set => $true },
		service => { provider => 'clerk', external_id => 'u_migrating', password => 'short' } => 'password_weak',
		service => { provider => 'clerk', external_id => 'u_returned', password => 'correct horse' } => 'user_exists',
		service => { provider => 'clerk', external_id => 'u_banned', password => 'correct horse' } => 'user_banned',
		service => { provider => 'clerk', external_id => 'u_nobody', password => 'correct horse' } => 'user_unknown' ],
	create_migration_invitation => [
		service => { provider => 'clerk', external_id => 'u_migrating' } => { token => $secret, email => address('migrating'), status => 'pending' },
		service => { provider => 'clerk', external_id => 'u_returned' } => 'user_exists',
		service => { provider => 'clerk', external_id => 'u_banned' } => 'user_banned',
		service => { provider => 'clerk', external_id => 'u_nameless' } => 'email_malformed',
		service => { provider => 'clerk', external_id => 'u_nobody' } => 'user_unknown' ],
	complete_migration_by_token => [
		anon => { token => $token{migration_good}, password => 'correct horse' } => { user_id => $user{migrating}, password_set => $true },
		service => { token => $token{migration_good}, password => 'correct horse' } => { user_id => $user{migrating} },
		anon => { token => $token{migration_good}, password => 'short' } => 'password_weak',
		anon => { token => $token{pending}, password => 'correct horse' } => 'invitation_unknown',
		anon => { token => $token{migration_moved}, password => 'correct horse' } => 'email_mismatch',
		anon => { token => $token{migration_returned}, password => 'correct horse' } => 'user_exists',
		anon => { token => $token{migration_banned}, password => 'correct horse' } => 'user_banned',
		anon => { token => $token{migration_deleted}, password => 'correct horse' } => 'user_unknown',
		(map { (anon => { token => $token{"migration_$_"}, password => 'correct horse' } => 'invitation_' . ($_ eq 'accepted' ? 'used' : $_)) } qw(expired revoked accepted)) ],
	link_external_user => [
		service => { provider => 'clerk', external_id => 'u_new', user_id => $user{guest} } => { user_id => $user{guest}, password_set => $false },
		service => { provider => 'clerk', external_id => 'u_returned', user_id => $user{guest} } => 'user_exists',
		service => { provider => 'clerk', external_id => 'u_new', user_id => $user{banned} } => 'user_banned',
		service => { provider => 'clerk', external_id => 'u_new', user_id => $user{anonymous} } => 'anonymous_user' ],
	# rooms event, caller
	log_event => [ member => { action => 'document.opened', target_type => 'document', target_id => '1', data => { page => 2 } } => \qr/^\d+$/, service => { action => 'job.done', user_id => $user{member}, kind => 'admin' } => \qr/^\d+$/,
		nobody => { action => 'document.opened' } => \undef ],
	redact_payload => [ service => { payload => { a => 'x', b => '' } } => { a => '[PRESENT]', b => '[MISSING]' } ],
	is_operator => [ service => {} => \$false ],
	# rooms sync, quarantine
	health => [ service => {} => { status => qr/^\w+$/, checks => qr/^HASH/, warnings => qr/^ARRAY/ } ],
	check_alerts => [ service => {} => { checked => 0, opened => 0, resolved => 0 } ],
	target_name => [ service => { target_id => undef, relation => undef, schema_name => undef, table_name => undef, registered_in => undef, relation_number => undef } => \undef ],
	guarded_trigger_name => [ service => { trigger_name => undef, trigger_id => undef, registered_in => undef } => \undef ],
	sync_users => [ service => { user_id => $user{guest} } => [ { action => 'summary' } ], service => { target => 'public.nothing' } => '42P01' ],
	ensure_user => [ service => { user_id => $user{guest} } => \$true, service => { user_id => $user{unknown} } => \$false ],
	user_exists => [ service => { user_id => $user{guest} } => \$true, service => { user_id => $user{deleted} } => \$false ],
	create_profile => [ service => { user_id => $user{guest} } => {}, service => { user_id => $user{guest}, overrides => { nonsense => 1 } } => 'data_malformed' ],
	sync_status => [ service => {} => [ { target => 'public.profiles' } ] ],
	deactivate_user => [ service => { user_id => $user{guest}, reason => 'left' } => \['public.users'] ],
	reactivate_user => [ service => { user_id => $user{guest} } => \[] ],
	preservation_report => [ service => { user_ids => [ $user{guest} ] } => [] ],
	retry_quarantine => [ service => { max_rows => 10, due_only => $false } => { retried => qr/^\d+$/, resolved => qr/^\d+$/, failed => 0 } ],
	close_quarantine => [ service => { entry_id => 1 } => \$false ]);

# What does not write, or says so by a WARNING and not by an error.
my %writes_nothing = map { $_ => 1 } qw(log_event);

# ---------------------------------------------------------------------------
# The reason words: the page of errors has all of them, as the server says them

my %reason = map { $_->[1] => [ $_->[0], $_->[2] ] } map { [ /^\| PT(\d+) \| `(\w+)` \| (.*?) \|/ ? ($1, $2, $3) : () ] } grep { /^\| PT\d+ \|/ } split /\n/, slurp("$FindBin::RealBin/../../docs/errors.md");
is_deeply({ map { $_ => "PT$reason{$_}[0], $reason{$_}[1]" } keys %reason },
	{ map { /^\t\{"(\w+)", "(PT\d+)", "(.*)"\},?$/ ? ($1 => "$2, $3") : () } split /\n/, slurp("$FindBin::RealBin/../../src/caller.c") },
	'the page of errors has every reason word, with its status and text');
for (map { [ /^\| (\w{5}) \| (\d+) \|/ ] } grep { /^\| \w{5} \| \d+ \|/ } split /\n/, slurp("$FindBin::RealBin/../../docs/errors.md"))
{
	my ($state, $status) = @$_;
	is(http_status($state, $state ne '42501' || $status == 403), $status, "the page of errors says that $state becomes $status");
}

# ---------------------------------------------------------------------------
# One call, and what there is to say of any answer

my (%met, @odd);
my $encoder = JSON::PP->new->canonical->allow_nonref;
sub show { return $encoder->encode($_[0]) }

# Is the body what PostgREST's clients expect of this function? '' or what is wrong.
sub misshapen
{
	my ($function, $body) = @_;
	my $is_row = sub { ref $_[0] eq 'HASH' && join(' ', sort keys %{ $_[0] }) eq join(' ', sort @{ $function->{columns} }) };

	if ($function->{set})
	{
		return 'no array' if ref $body ne 'ARRAY';
		return '' unless $function->{composite};
		return (grep { !$is_row->($_) } @$body) ? 'rows of other columns' : '';
	}
	return $is_row->($body) ? '' : 'no object of its columns' if $function->{composite};
	return '' if $function->{result} eq 'jsonb';
	return !defined $body || ref $body eq 'ARRAY' ? '' : 'no array' if $function->{array};
	return $function->{result} eq 'boolean' ? (!defined $body || JSON::PP::is_bool($body) ? '' : 'no boolean') : ref $body ? 'no value' : '';
}

# What is wrong with an answer, whatever was asked: '' or a sentence. A refusal is one that the function's COMMENT names,
# with the fixed text, ids and times only; codes of PostgreSQL only for arguments that are no such type, or allowed ones.
sub improper
{
	my ($name, $answer, %allowed) = @_;
	my $function = $function{$name};

	if ($answer->{status} == 200)
	{
		my $rows = ref $answer->{body} eq 'ARRAY' ? $answer->{body} : [];
		for my $reason (grep { defined } map { $_->{reason} } grep { ref eq 'HASH' } @$rows)
		{
			$met{$name}{$reason}++;
			return "a row says $reason" unless $reason{$reason};
		}
		return 'an object of nothing' if ref $answer->{body} eq 'HASH' && $function->{composite} && !grep { defined } values %{ $answer->{body} };
		return misshapen($function, $answer->{body});
	}
	if ($answer->{code} =~ /^PT/)
	{
		my ($word, $rest) = ($answer->{details} || '') =~ /^(\w+)(.*)$/;
		return "no reason word: $answer->{details}" unless $word && $reason{$word};
		$met{$name}{$word}++;
		return "$word is not named in the COMMENT" unless $function->{description} =~ /\b$word\b/ || $allowed{$word};
		my ($status, $text) = @{ $reason{$word} };
		return "status $answer->{status}" if $answer->{status} ne $status;
		return "message $answer->{message}" if $answer->{message} ne $text || $answer->{reason} ne $text || $text =~ /[^ -~]|[A-Z]|\.$/;
		return "detail $rest" unless $rest =~ /^(?: [a-z_]+=[A-Za-z0-9_:.+-]+(?:,[A-Za-z0-9_:.+-]+)*)*$/;
		return "hint $answer->{hint}" if defined $answer->{hint} && $answer->{hint} !~ /[.;]$/;
		return '';
	}
	$met{$name}{ $answer->{code} }++;
	return $allowed{ $answer->{code} } || $function->{description} =~ /\b$answer->{code}\b/ ? '' : "$answer->{code} $answer->{message}" . (defined $answer->{details} ? " ($answer->{details})" : '');
}

# Has the value what is expected of it?
sub like_it
{
	my ($got, $expected) = @_;
	return !defined $got unless defined $expected;
	return 0 unless defined $got;
	return (ref $got || $got) =~ $expected if ref $expected eq 'Regexp' && !JSON::PP::is_bool($got);
	return "$got" =~ $expected if ref $expected eq 'Regexp';
	return show($got) eq show($expected) if JSON::PP::is_bool($expected) || JSON::PP::is_bool($got);
	if (ref $expected eq 'HASH')
	{
		return ref $got eq 'HASH' && !grep { !exists $got->{$_} || !like_it($got->{$_}, $expected->{$_}) } keys %$expected;
	}
	if (ref $expected eq 'ARRAY')
	{
		return ref $got eq 'ARRAY' && @$got == @$expected && !grep { !like_it($got->[$_], $expected->[$_]) } 0 .. $#$expected;
	}
	return !ref $got && $got eq $expected;
}

sub answers_with
{
	my ($answer, $expected) = @_;
	if (!ref $expected)
	{
		return $answer->{status} != 200 && ($answer->{code} eq $expected || $answer->{code} =~ /^PT/ && ($answer->{details} || '') =~ /^\Q$expected\E\b/);
	}
	return 0 if $answer->{status} != 200;
	return like_it($answer->{body}, $$expected) if ref $expected eq 'SCALAR' || ref $expected eq 'REF';
	return like_it($answer->{body}, $expected) if ref $expected eq 'HASH';
	return 0 if ref $answer->{body} ne 'ARRAY' || @{ $answer->{body} } < @$expected;
	return !@{ $answer->{body} } if !@$expected;
	return !grep { !like_it($answer->{body}[$_], $expected->[$_]) } 0 .. $#$expected;
}

# One call under a name; what is expected may be left out.
my $asked = 0;
sub ask
{
	my ($name, $as, $args, $expected, $what, %params) = @_;
	my $answer = $postgrest->call($name, $args, as => $caller{$as} || die("there is no $as"), %{ $params{request} || {} });
	my $wrong = improper($name, $answer, %{ $params{allowed} || {} }, defined $expected && !ref $expected && $expected =~ /^[0-9A-Z]{5}$/ ? ($expected => 1) : ());
	$wrong = 'is not ' . (ref $expected ? show_expected($expected) : $expected) if $wrong eq '' && defined $expected && !answers_with($answer, $expected);
	$asked++;
	# what is as it must be is not worth a line each
	push @odd, "$as: $name(" . show($args) . ")$what: $wrong\n    " . show($answer) if $wrong ne '';
	return $answer;
}

sub show_expected { local $Data::Dumper::Terse = 1; local $Data::Dumper::Indent = 0; return Data::Dumper::Dumper($_[0]) }

# The odd ones since the last time, as one test.
sub proper
{
	my ($name) = @_;
	ok($asked && !@odd, "$name ($asked requests)") or diag(join "\n", @odd);
	($asked, @odd) = (0);
	return;
}

# ---------------------------------------------------------------------------
# The schema cache

{
	is_deeply($postgrest->{overloads} || [], [], 'no function has a namesake');
	my (@unnamed, @reserved, @hidden, @mute);
	for my $f (map { $function{$_} } sort keys %function)
	{
		push @unnamed, $f->{name} if grep { $_->{name} eq '' || $_->{variadic} } @{ $f->{args} };
		push @reserved, map { "$f->{name}.$_->{name}" } grep { $_->{name} =~ /^(?:select|order|limit|offset|columns|on_conflict|and|or|not)$/ } @{ $f->{args} };
		push @hidden, "$f->{name}: $f->{result}" if $f->{result_schema} !~ /^(?:invite_sync|pg_catalog)$/ || $f->{composite} && !$f->{set} && $f->{result} eq 'record';
		push @mute, $f->{name} unless $f->{description};
	}
	is_deeply(\@unnamed, [], 'every argument has a name');
	is_deeply(\@reserved, [], 'and none that stands for something in a query string');
	is_deeply(\@hidden, [], 'every result has a type of this schema or a built-in one, and a single row a named one');
	is_deeply(\@mute, [], 'every function is described');
	is(value($node, $db, <<'SQL'), '', 'and so is every composite type that one returns');
SELECT string_agg(DISTINCT t.typname, ' ') FROM pg_proc AS p JOIN pg_type AS t ON t.oid = p.prorettype AND t.typtype = 'c' WHERE p.pronamespace = 'invite_sync'::regnamespace AND coalesce(obj_description(t.oid, 'pg_type'), obj_description(t.typrelid, 'pg_class')) IS NULL
SQL
	is($postgrest->call('is_member', {}, as => $caller{anon})->{status}, 404, 'without an argument it needs it is another function, which is not there');
	is($postgrest->call('is_member', { %here, nonsense => 1 }, as => $caller{anon})->{status}, 404, 'and so it is with one that it does not have');
}

# ---------------------------------------------------------------------------
# Who may what: the grants are the only list there is

my %granted = map { my ($role, @names) = split / /; $role => { map { $_ => 1 } @names } } split /\n/, value($node, $db, <<'SQL');
SELECT concat_ws(' ', r, string_agg(p.proname, ' ')) FROM unnest(ARRAY['anon', 'authenticated', 'service_role']) AS r
	JOIN pg_proc AS p ON p.pronamespace = 'invite_sync'::regnamespace AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND has_function_privilege(r, p.oid, 'EXECUTE') GROUP BY r
SQL
my %public = map { $_ => 1 } map { keys %$_ } values %granted;
is_deeply([ sort keys %calls ], [ sort keys %public ], 'every function that one of the three may call has its calls here') or diag(join ' ',
	(map { "missing: $_" } grep { !$calls{$_} } sort keys %public), map { "not granted: $_" } grep { !$public{$_} } sort keys %calls);

for my $name (sort keys %function)
{
	my %nulls = map { $_->{name} => undef } grep { $_->{required} } @{ $function{$name}{args} };
	for my $case ([ anon => 'anon', 401 ], [ authenticated => 'owner', 403 ], [ service_role => 'service', 403 ])
	{
		my ($role, $as, $status) = @$case;
		next if $granted{$role}{$name};
		my $answer = ask($name, $as, \%nulls, '42501', '', allowed => { 42501 => 1 });
		push @odd, "$as: $name(): " . show($answer) if $answer->{status} != $status || $answer->{message} ne "permission denied for function $name" || defined $answer->{details} || defined $answer->{hint};
	}
}
proper('who may not gets 401 without a token and 403 with one, and reads no more than the name of the function');

# ---------------------------------------------------------------------------
# The calls of the list

for my $name (grep { $function{$_} } sort keys %calls)
{
	my @list = @{ $calls{$name} };
	while (my ($as, $args, $expected) = splice @list, 0, 3)
	{
		ask($name, $as, $args, $expected, '');
	}
	proper("$name()");
}

# ---------------------------------------------------------------------------
# GET is READ ONLY: what reads answers as it does to POST, what writes does not

for my $name (grep { $function{$_} } sort keys %calls)
{
	my ($as, $args) = @{ $calls{$name} };
	my %get = (request => { method => 'GET' });
	if (!$function{$name}{volatile})
	{
		my ($get, $post) = (ask($name, $as, $args, undef, ' by GET', %get), $postgrest->call($name, $args, as => $caller{$as}));
		push @odd, "$name() by GET: " . show($get) . "\n    by POST: " . show($post) if show($get->{body}) ne show($post->{body});
	}
	else
	{
		my $answer = ask($name, $as, $args, undef, ' by GET', %get, allowed => { 25006 => 1 });
		push @odd, "$name() by GET: " . show($answer) unless $writes_nothing{$name} || $answer->{status} == 405;
	}
}
proper('GET reads and nothing else');

# ---------------------------------------------------------------------------
# The good call by those who are nobody, and with odd arguments

for my $name (grep { $function{$_} && $granted{authenticated}{$_} && !$granted{anon}{$_} } sort keys %calls)
{
	my ($as, $args) = @{ $calls{$name} };
	for my $case ([ nobody => 'not_authenticated' ], [ unknown => 'not_authenticated' ], [ anonymous => 'anonymous_user' ], [ banned => 'user_banned' ], [ deleted => 'user_banned' ])
	{
		ask($name, $case->[0], $args, $function{$name}{description} =~ /Never raises/ ? undef : $case->[1], '');
	}
}
proper('nobody, and who is gone, anonymous, banned or deleted');

my %odd_value = (
	uuid => [ undef, $nowhere ], text => [ undef, '', ' ', 'nonsense', "a\nb", 'x' x 20000, "\x{202e}\x{1F600}", q(' OR ''='), '%s%n' ],
	integer => [ undef, 0, -1, 2147483647 ], bigint => [ undef, 0, -1 ], boolean => [undef], interval => [ undef, '-1 day', '0', '1000 years', '1 month' ], jsonb => [ undef, [], {}, 'nonsense', 1, [1], [ {} ], [ [] ], [undef], { a => 'x' x 20000 }, { role => 'x' } ],
	'text[]' => [ undef, [], [undef], ['nonsense'], [ ('x') x 2000 ] ], 'uuid[]' => [ undef, [], [undef], [$nowhere] ],
	regclass => [ undef, 'pg_class', 'invite_sync.event' ], name => [ undef, '', 'nonsense' ], oid => [ undef, 0 ]);
for my $name (grep { $function{$_} } sort keys %calls)
{
	my ($as, $args) = @{ $calls{$name} };
	for my $argument (@{ $function{$name}{args} })
	{
		my @values = @{ $odd_value{ $argument->{type} } || die("$name: what is odd for $argument->{type}?") };
		my %rest = %$args;

		# hashing a password takes long, and is no different for every other argument
		if (exists $rest{password} && $argument->{name} ne 'password')
		{
			delete $rest{password} if !grep { $_->{name} eq 'password' && $_->{required} } @{ $function{$name}{args} };
			@values = @values[ 0 .. min($#values, 3) ];
		}
		ask($name, $as, { %rest, $argument->{name} => $_ }, undef, '') for @values;
	}
}
proper('odd arguments');

# the same inside the rows of a call that takes many
my $rows = { email => 'row@new.example', role => 'member', organization_id => $main, grants => undef, platform_role => undef, data => {}, full_name => 'R', job_title => 'smith' };
for my $case (
	[ create_invitations => invitations => { %$rows, expires_in => '1 day' } ],
	[ import_invitations => invitations => { %$rows, expires_at => '2100-01-01', inviter_id => $user{admin}, token => 'a token of the older system', token_sha256 => undef, proves_email => $true } ],
	[ import_users => users => { (map { $_ => $rows->{$_} } qw(email grants platform_role data full_name job_title)), email_confirmed => $true, password_digest => undef, provider => 'clerk', external_id => 'row', user_since => '2020-01-01', quota_granted => 1 } ])
{
	my ($name, $argument, $row) = @$case;
	my ($as) = @{ $calls{$name} };
	delete @$row{ grep { !defined $row->{$_} } keys %$row };
	for my $key (keys %$rows, keys %$row, qw(token_sha256 password_digest nonsense))
	{
		my %row = %$row;
		delete $row{token} if $key eq 'token_sha256';
		delete @row{qw(role organization_id)} if $key eq 'grants';
		ask($name, $as, { $argument => [ { %row, $key => $_ } ] }, undef, '')
		  for undef, '', ' ', 'nonsense', "a\nb", 'x' x 20000, $nowhere, '2020-01-01', 'infinity', '-1 day', 0, -1, 1e300, 2147483648, $true, [], {}, [1], [ {} ], { role => 'x' }, [ { organization_id => 'x', role => 'member' } ], [ ({ organization_id => $main, role => 'member' }) x 2 ];
	}
}
proper('odd rows');

# and NULL for everything, asked by an operator: an answer or an error, and no crash
{
	my $operator = session($node, $db, 'postgres');
	my @broken;
	for my $call (split /\n/, value($node, $db, <<'SQL'))
SELECT format('%I.%I(%s)', n.nspname, p.proname, (SELECT string_agg('NULL::' || t::regtype, ', ' ORDER BY i) FROM unnest(p.proargtypes) WITH ORDINALITY AS x (t, i)))
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = 'invite_sync' AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND has_function_privilege('postgres', p.oid, 'EXECUTE')
SQL
	{
		my $answer = $operator->query("BEGIN; SELECT * FROM $call; ROLLBACK");
		push @broken, "$call: $answer->{sqlstate} $answer->{message}" if $answer->{sqlstate} =~ /^(?:XX|08|23)/;
		last if $answer->{sqlstate} =~ /^08/;
	}
	is(join("\n", @broken), '', 'NULL for every argument');
	$operator->close;
}

# ---------------------------------------------------------------------------
# Errors that are not the extension's say no more than they must

for my $case ([ is_member => { organization_id => 'nonsense' }, 'anon', '22P02', 400, 'invalid input syntax for type uuid: "nonsense"' ],
	[ set_invitation_policy => { %here, ttl => 'nonsense' }, 'owner', '22007', 400, 'invalid input syntax for type interval: "nonsense"' ],
	[ sync_users => { target => 'public.nothing' }, 'service', '42P01', 404, 'relation "public.nothing" does not exist' ])
{
	my ($name, $args, $as, $state, $status, $message) = @$case;
	my $answer = $postgrest->call($name, $args, as => $caller{$as});
	is_deeply([ @$answer{qw(status code message details hint)} ], [ $status, $state, $message, undef, undef ], "$state: the value and no more");
}
value($node, $db, "ALTER ROLE authenticated SET statement_timeout = '300ms'; ALTER ROLE service_role SET lock_timeout = '100ms'");
{
	my $other = session($node, $db, 'supabase_admin');
	my $hasty = InviteSyncPostgrest->new($node, $db, 'invite_sync');
	$other->must("BEGIN; SELECT FROM invite_sync.organization WHERE id = '$main' FOR UPDATE");
	for my $case ([ owner => '57014', 'canceling statement due to statement timeout' ], [ service => '55P03', 'canceling statement due to lock timeout' ])
	{
		my ($as, $state, $message) = @$case;
		my $answer = $hasty->call('update_organization', { %here, name => 'Later' }, as => $caller{$as});
		is_deeply([ @$answer{qw(status code message details hint)} ], [ 500, $state, $message, undef, undef ], "$state: what waits for somebody else is no leak");
	}
	$other->must('ROLLBACK');
	$_->close for $other, $hasty;
}
value($node, $db, 'ALTER ROLE authenticated RESET statement_timeout; ALTER ROLE service_role RESET lock_timeout');

# ---------------------------------------------------------------------------
# What a request does is there when it has been answered, and says where it came from

{
	my %commit = (commit => 1, request => { commit => 1 });
	my $made = ask(create_organization => guest => { name => 'Kept' }, { slug => 'kept' }, '', %commit)->{body};
	my $sent = ask(create_invitation => service => { email => address('late'), organization_id => $made->{id} }, { status => 'pending' }, '', %commit)->{body};
	ask(accept_invitation => late => { token => $sent->{token} }, { organization_ids => [ $made->{id} ], already => $false }, '', %commit);
	ask(accept_invitation => late => { token => $sent->{token} }, { organization_ids => [ $made->{id} ], already => $true }, ', again', %commit);
	ask(list_members => guest => { organization_id => $made->{id} }, [ { user_id => $user{late}, role => 'member' }, { user_id => $user{guest}, role => 'owner' } ], '');
	ask(accept_invitation => late => { token => $token{fresh_revoked} }, 'invitation_revoked', ', after one that was refused', %commit);
	ask(leave_organization => late => { organization_id => $made->{id} }, { user_id => $user{late} }, '', %commit);
	ask(is_member => late => { organization_id => $made->{id} }, \$false, '');
	proper('a day in the life of an organization');
	is(value($node, $db, "SELECT string_agg(DISTINCT concat_ws(' ', request->>'role', request->>'method', request->>'path'), ', ') FROM invite_sync.event WHERE organization_id = '$made->{id}'"),
		'authenticated POST /rpc/accept_invitation, authenticated POST /rpc/create_organization, authenticated POST /rpc/leave_organization, service_role POST /rpc/create_invitation', 'its events know their requests');
}

# ---------------------------------------------------------------------------
# Where looking at an invitation takes what accepting it does

value($node, $db, "ALTER DATABASE $db SET invite_sync.require_verified_email = view");
{
	my $first = $postgrest;
	$postgrest = InviteSyncPostgrest->new($node, $db, 'invite_sync');
	ask(get_invitation => guest => { token => $token{pending} }, { organization_name => 'Main' }, ', view');
	ask(get_invitation => owner => { token => $token{pending} }, 'email_mismatch', ', view');
	ask(get_invitation => unverified => { token => $token{unverified} }, 'email_unverified', ', view');
	ask(get_invitation => guest => { token => $token{domain_link} }, 'domain_not_allowed', ', view');
	$postgrest->close;
	$postgrest = $first;
}
proper('get_invitation() where invite_sync.require_verified_email is view');

# ---------------------------------------------------------------------------
# All that the comments name has been met

my @unmet;
for my $name (grep { $function{$_} } sort keys %calls)
{
	my $comment = $function{$name}{description};
	for my $word (grep { $comment =~ /\b$_\b/ && !$function{$_} } sort keys %reason)
	{
		# role and claims of a request agree, so who is no service does not get as far as being asked
		next if $word eq 'not_permitted' && !$granted{anon}{$name} && !$granted{authenticated}{$name};
		push @unmet, "$name $word" unless $met{$name}{$word};
	}
}
is(join("\n", @unmet), '', 'what a comment names has been met');

done_testing();
