# PostgREST without PostgREST: what it asks the catalog, the transaction that it
# makes of a request to /rpc/<function>, and the HTTP answer that it makes of the
# result or the error. Written after the source of PostgREST 14.
package InviteSyncPostgrest;

use strict;
use warnings;

use Exporter 'import';
use InviteSyncTest qw(session);
use JSON::PP;

our @EXPORT_OK = qw(http_status);

my $json = JSON::PP->new->ascii->canonical->allow_nonref;

# Its table of SQLSTATEs, the first that fits; what is not here is 400.
my @status = (
	[ qr/^08/ => 503 ], [ qr/^09/ => 500 ], [ qr/^0[LP]/ => 403 ],
	[ qr/^2350[35]$/ => 409 ], [ qr/^25006$/ => 405 ], [ qr/^21000$/ => 500 ], [ qr/^25/ => 500 ], [ qr/^28/ => 403 ],
	[ qr/^2D/ => 500 ], [ qr/^3[89B]/ => 500 ], [ qr/^40/ => 500 ], [ qr/^53400$/ => 500 ], [ qr/^53/ => 503 ],
	[ qr/^5[458]/ => 500 ], [ qr/^57P01$/ => 503 ], [ qr/^57/ => 500 ], [ qr/^(?:F0|HV|XX)/ => 500 ],
	[ qr/^P0001$/ => 400 ], [ qr/^P0/ => 500 ],
	[ qr/^42883$/ => 404 ], [ qr/^42P01$/ => 404 ], [ qr/^42P17$/ => 500 ],
	# whoever has a token is not asked for one
	[ qr/^42501$/ => sub { $_[0] ? 403 : 401 } ],
	[ qr/^PT/ => sub { $_[1] =~ /^PT(\d{3})$/ ? $1 : 500 } ]);

# The status for an SQLSTATE; authenticated: does the request bring a token?
sub http_status
{
	my ($sqlstate, $authenticated) = @_;
	for (@status)
	{
		my ($pattern, $status) = @$_;
		next unless $sqlstate =~ $pattern;
		return ref $status ? $status->($authenticated, $sqlstate) : $status;
	}
	return 400;
}

# One connection of its pool.
sub new
{
	my ($class, $node, $dbname, $schema) = @_;
	my $self = bless { schema => $schema, prepared => {}, session => session($node, $dbname, 'authenticator') }, $class;
	$self->{functions} = $self->_functions;
	$self->{settings} = $json->decode($self->{session}->must(<<'SQL'));
SELECT json_object_agg(r.rolname, coalesce(r.rolconfig, '{}')) FROM pg_catalog.pg_roles AS r WHERE pg_catalog.pg_has_role('authenticator', r.oid, 'MEMBER')
SQL
	return $self;
}

# The functions of its schema cache: name => { args => [ { name, type, required } ], single, set, composite, volatile,
# columns, description }. A second one of the same name goes into overloads.
sub _functions
{
	my ($self) = @_;
	my $rows = $json->decode($self->{session}->must(<<"SQL"));
WITH arguments AS (
	SELECT p.oid, json_agg(json_build_object('name', coalesce(a.name, ''), 'type', a.type::regtype::text,
			'required', a.idx <= p.pronargs - p.pronargdefaults, 'variadic', coalesce(a.mode = 'v', false)) ORDER BY a.idx) AS args,
		CASE count(*) - count(a.name) WHEN 0 THEN true
			WHEN 1 THEN (array_agg(a.type))[1] IN ('bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text'::regtype, 'xml'::regtype)
			ELSE false END AS callable
	FROM pg_proc AS p, unnest(p.proargnames, p.proargtypes, p.proargmodes) WITH ORDINALITY AS a (name, type, mode, idx)
	WHERE a.type IS NOT NULL GROUP BY p.oid)
SELECT json_agg(json_build_object('name', p.proname, 'args', coalesce(a.args, '[]'), 'set', p.proretset, 'result', p.prorettype::regtype::text,
	'result_schema', tn.nspname, 'array', t.typcategory = 'A',
	'composite', t.typtype = 'c' OR coalesce(p.proargmodes::text[] && '{t,b,o}', false), 'volatile', p.provolatile = 'v', 'description', d.description,
	'columns', CASE WHEN t.typtype = 'c' THEN (SELECT json_agg(c.attname ORDER BY c.attnum) FROM pg_attribute AS c WHERE c.attrelid = t.typrelid AND c.attnum > 0 AND NOT c.attisdropped)
		ELSE (SELECT json_agg(o.name ORDER BY o.idx) FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS o (name, mode, idx) WHERE o.mode IN ('t', 'b', 'o')) END) ORDER BY p.proname)
FROM pg_proc AS p LEFT JOIN arguments AS a ON a.oid = p.oid
	JOIN pg_type AS t ON t.oid = p.prorettype JOIN pg_namespace AS tn ON tn.oid = t.typnamespace
	LEFT JOIN pg_description AS d ON d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass
WHERE t.oid <> 'trigger'::regtype AND coalesce(a.callable, true) AND p.prokind = 'f' AND p.pronamespace = '$self->{schema}'::regnamespace
SQL
	my %function;
	for my $row (@$rows)
	{
		push @{ $self->{overloads} }, $row->{name} if $function{ $row->{name} };
		$function{ $row->{name} } = $row;
	}
	return \%function;
}

sub _literal
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

sub _identifier
{
	my ($name) = @_;
	$name =~ s/"/""/g;
	return qq{"$name"};
}

# A request to /rpc/<function>, by POST (or GET) of an object of arguments. as => [ role, claims ]; commit => 1: it stays,
# otherwise it is undone as with "Prefer: tx=rollback". The answer: status, reason, body, code, message, details, hint,
# warnings (which it does not pass on).
sub call
{
	my ($self, $name, $args, %params) = @_;
	my ($role, $claims) = @{ $params{as} };
	my $method = $params{method} || 'POST';
	my $function = $self->{functions}{$name};
	my %given = map { $_ => 1 } keys %$args;
	my %known = map { $_->{name} => 1 } @{ $function->{args} || [] };

	return { status => 404, code => 'PGRST202', message => "Could not find the function $self->{schema}.$name", details => undef, hint => undef }
	  if !$function || (grep { !$known{$_} } keys %given) || grep { $_->{required} && !$given{ $_->{name} } } @{ $function->{args} };

	my @named = grep { $given{ $_->{name} } } @{ $function->{args} };
	my $target = _identifier($self->{schema}) . '.' . _identifier($name);
	my $scalar = !$function->{composite};
	my ($from, $arguments, $execute) = ('', '', '');
	if ($method eq 'GET')
	{
		my $n = 0;
		$arguments = join ', ', map { $n++; _identifier($_->{name}) . " := \$${n}::$_->{type}" } @named;
		# an array comes as its literal
		$execute = join ', ', map { my $v = $args->{ $_->{name} };
			!defined $v ? 'NULL' : _literal(JSON::PP::is_bool($v) ? ($v ? 'true' : 'false') : !ref $v ? $v : $_->{type} =~ /\[\]$/ ? '{' . join(',', map { qq("$_") } @$v) . '}' : $json->encode($v)) } @named;
	}
	elsif (@named)
	{
		my $columns = join ', ', map { _identifier($_->{name}) . " $_->{type}" } @named;
		$from = '(SELECT $1 AS json_data) pgrst_payload, LATERAL (SELECT ' . join(', ', map { _identifier($_->{name}) } @named)
		  . " FROM json_to_record(pgrst_payload.json_data) AS _($columns)) pgrst_body, LATERAL ";
		$arguments = join ', ', map { _identifier($_->{name}) . ' := pgrst_body.' . _identifier($_->{name}) } @named;
		$execute = _literal($json->encode($args));
	}
	my $call = $scalar ? "(SELECT $target($arguments) pgrst_scalar) pgrst_call" : "$target($arguments) pgrst_call";
	my $selected = $scalar ? 'pgrst_call.pgrst_scalar' : 'pgrst_call.*';
	my $value = $scalar ? '_postgrest_t.pgrst_scalar' : '_postgrest_t';
	my $body = $function->{set} ? "coalesce(json_agg($value), '[]')" : "coalesce(json_agg($value)->0, 'null')";
	my $query = "WITH pgrst_source AS (SELECT $selected FROM $from$call) SELECT $body AS body FROM (SELECT * FROM pgrst_source) _postgrest_t";
	my $types = $method eq 'GET' ? join(', ', map { $_->{type} } @named) : @named ? 'json' : '';

	# prepared once, executed for one role after the other: that is what a connection of the pool does
	my $key = "$method $query";
	my $number = $self->{prepared}{$key};
	my $prepare = '';
	if (!defined $number)
	{
		$number = ++$self->{last};
		$prepare = "PREPARE s$number" . ($types ne '' ? " ($types)" : '') . " AS $query;";
	}
	my @settings = map { my ($setting, $text) = split /=/, $_, 2; [ $setting, $text ] } @{ $self->{settings}{$role} };
	my %headers = ('user-agent' => 'postgrest-js', 'content-type' => 'application/json', %{ $params{headers} || {} });
	my $transaction = join ', ', map { "set_config('$_->[0]', " . _literal($_->[1]) . ', true)' } (
		[ search_path => qq("$self->{schema}", "public", "extensions") ], @settings, [ role => $role ],
		[ 'request.jwt.claims' => $json->encode({ %{ $claims || {} }, role => $role }) ], [ 'request.method' => $method ],
		[ 'request.path' => "/rpc/$name" ], [ 'request.headers' => $json->encode(\%headers) ], [ 'request.cookies' => '{}' ]);
	my $mode = $function->{volatile} && $method eq 'POST' ? 'READ WRITE' : 'READ ONLY';
	my $end = $params{commit} ? 'COMMIT' : 'SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK';
	my $result = $self->{session}->query(<<"SQL");
BEGIN ISOLATION LEVEL READ COMMITTED $mode;
SELECT $transaction \\g /dev/null
$prepare
EXECUTE s$number@{[ $execute ne '' ? "($execute)" : '' ]};
$end
SQL
	# of a statement that was not prepared there is nothing to execute later
	$self->{prepared}{$key} = $number
	  if $prepare && ($result->{ok} || $self->{session}->must("SELECT count(*) FROM pg_prepared_statements WHERE name = 's$number'"));

	if ($result->{ok})
	{
		my $decoded = eval { $json->decode($result->{out}) };
		die "$name: not JSON: $result->{out}" if $@;
		return { status => 200, body => $decoded, raw => $result->{out}, warnings => $result->{warnings} };
	}
	my ($details, $hint) = map { $result->{stderr} =~ /^$_:  (.*)/m ? $1 : undef } qw(DETAIL HINT);
	return { status => http_status($result->{sqlstate}, $role ne 'anon'), reason => $result->{sqlstate} =~ /^PT/ ? $result->{message} : undef,
		code => $result->{sqlstate}, message => $result->{message}, details => $details, hint => $hint, warnings => $result->{warnings} };
}

sub close
{
	my ($self) = @_;
	$self->{session}->close;
	return;
}

1;
