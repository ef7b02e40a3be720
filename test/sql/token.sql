--
-- Tokens: one text per token, everything else is none; and what of them is kept.
--
CREATE SCHEMA token_test;
SET search_path = token_test, pg_catalog;
-- the room has no SQL of its own
CREATE FUNCTION mint(id uuid) RETURNS text LANGUAGE c STRICT AS '$libdir/invite_sync', 'token_test_mint';
CREATE FUNCTION parse(presented bytea) RETURNS bytea LANGUAGE c STRICT AS '$libdir/invite_sync', 'token_test_parse';
CREATE FUNCTION matches(token text, digest bytea) RETURNS boolean LANGUAGE c AS '$libdir/invite_sync', 'token_test_matches';
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE c AS '$libdir/invite_sync', 'token_test_new_id';
-- what is none is answered by false and a token of 48 zero bytes
CREATE FUNCTION is_none(presented bytea) RETURNS boolean LANGUAGE sql AS $$SELECT parse(presented) = decode(repeat('00', 49), 'hex')$$;
-- base64url by other means, of any bytes
CREATE FUNCTION base64url(bytes bytea) RETURNS text LANGUAGE sql AS $$SELECT translate(encode(bytes, 'base64'), E'+/\n', '-_')$$;
CREATE FUNCTION bytes_of(token text) RETURNS bytea LANGUAGE sql AS $$SELECT decode(translate(substr(token, 5), '-_', '+/'), 'base64')$$;

-- ---- what a token is made of ----
CREATE TABLE minted AS
	SELECT i, id, mint(id) AS token FROM (SELECT i, sha256(i::text::bytea) AS h FROM generate_series(1, 2000) AS i) AS x,
		LATERAL (SELECT encode(substr(h, 1, 16), 'hex')::uuid AS id) AS y;
SELECT count(*), count(DISTINCT substr(token, 27)) AS secrets, bool_and(token ~ '^inv_[A-Za-z0-9_-]{64}$') AS canonical FROM minted;
SELECT bool_and(bytes_of(token) = uuid_send(id) || substr(bytes_of(token), 17)) AS begins_with_the_id FROM minted;
SELECT bool_and('inv_' || base64url(bytes_of(token)) = token) AS as_others_write_it FROM minted;
-- each byte of the secret is drawn, over all its values
SELECT count(*) AS drawn_bytes, min(n) > 240 AS over_all_values
  FROM (SELECT p, count(DISTINCT get_byte(bytes_of(token), p)) AS n FROM minted, generate_series(16, 47) AS p GROUP BY p) AS x;

-- ---- what is one ----
SELECT bool_and(parse(token::bytea) = '\x01' || bytes_of(token)) AS comes_back FROM minted;
-- each byte of the token through each of its values
SELECT count(*), bool_and(parse(('inv_' || base64url(b))::bytea) = '\x01' || b) AS comes_back
  FROM (SELECT set_byte(sha384('a token'), p, v) AS b FROM generate_series(0, 47) AS p, generate_series(0, 255) AS v) AS x;

-- ---- and what is none ----
-- each character through each of its values: 64 are good, in the prefix one
CREATE VIEW sample AS SELECT ('inv_' || base64url(sha384('a token')))::bytea AS token;
SELECT p < 4 AS prefix, good, count(*) AS positions
  FROM (SELECT p, count(*) FILTER (WHERE get_byte(parse(presented), 0) = 1) AS good,
			   bool_and(is_none(presented) OR parse(presented) = '\x01' || bytes_of(convert_from(presented, 'UTF8'))) AS sound
		  FROM sample, generate_series(0, 67) AS p, generate_series(0, 255) AS v, LATERAL (SELECT set_byte(token, p, v) AS presented) AS x
		 WHERE v < 128 OR is_none(set_byte(token, p, v))
		 GROUP BY p) AS y
 WHERE sound GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) AS foreign_to_the_alphabet FROM sample, generate_series(0, 67) AS p, generate_series(0, 255) AS v
 WHERE v > 127 AND NOT is_none(set_byte(token, p, v));
SELECT string_agg(chr(v), '' ORDER BY v) AS alphabet FROM sample, generate_series(1, 127) AS v WHERE NOT is_none(set_byte(token, 67, v));
-- each length but one
SELECT count(*) AS lengths, bool_and(is_none(substr(repeat(convert_from(token, 'UTF8'), 4)::bytea, 1, n))) AS refused
  FROM sample, generate_series(0, 256) AS n WHERE n <> 68;
SELECT what, is_none(presented) FROM sample, LATERAL (VALUES
	('empty', ''::bytea),
	('with a zero byte after it', token || '\x00'),
	('cut off at a zero byte', set_byte(token, 67, 0)),
	('padded', token || '='),
	('padded twice', token || '=='),
	('padded in its length', substr(token, 1, 67) || '='),
	('padded twice in its length', substr(token, 1, 66) || '=='),
	('with a line feed', token || '\x0a'),
	('with a blank before it', ' ' || token),
	('with a blank in it', substr(token, 1, 20) || ' ' || substr(token, 21)),
	('of the other alphabet, plus', set_byte(token, 30, ascii('+'))),
	('of the other alphabet, slash', set_byte(token, 30, ascii('/'))),
	('without prefix', substr(token, 5)),
	('without prefix in its length', substr(token, 5) || 'AAAA'),
	('with the prefix in capitals', 'INV_' || substr(token, 5)),
	('with a hyphen in the prefix', 'inv-' || substr(token, 5)),
	('in hex', ('inv_' || encode(bytes_of(convert_from(token, 'UTF8')), 'hex'))::bytea),
	('twice', token || token),
	('very long', repeat(convert_from(token, 'UTF8'), 100000)::bytea)) AS v (what, presented);

-- ---- what is compared ----
SELECT bool_and(matches(token, sha256(substr(bytes_of(token), 17)))) AS its_own FROM minted;
SELECT bool_or(matches(a.token, sha256(substr(bytes_of(b.token), 17)))) AS another FROM minted AS a JOIN minted AS b ON b.i = a.i + 1;
-- of the secret half, and of nothing else
SELECT bool_or(matches(token, sha256(bytes_of(token))) OR matches(token, sha256(token::bytea)) OR matches(token, substr(bytes_of(token), 17))) AS of_something_else
  FROM minted;
SELECT count(*) AS bits, bool_or(matches(token, set_bit(digest, bit, 1 - get_bit(digest, bit)))) AS one_bit_off
  FROM (SELECT token, sha256(substr(bytes_of(token), 17)) AS digest FROM minted WHERE i = 1) AS x, generate_series(0, 255) AS bit;
SELECT bool_or(matches(token, decode(repeat('00', 32), 'hex'))) AS zeros, bool_or(matches(token, NULL)) AS no_invitation FROM minted;
-- a text that is none, against what is stored of others and where nothing is
SELECT bool_or(matches(what, digest)) AS malformed
  FROM (SELECT sha256(substr(bytes_of(token), 17)) AS digest FROM minted WHERE i <= 10 UNION ALL SELECT NULL) AS x,
	   (VALUES (''), ('inv_'), (repeat('A', 68)), ('inv_' || repeat('=', 64))) AS y (what);

-- ---- ids ----
CREATE TABLE ids AS SELECT i, new_id() AS id, clock_timestamp() AS at FROM generate_series(1, 5000) AS i;
SELECT count(DISTINCT id), bool_and(id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS version_7 FROM ids;
SELECT bool_and(id > before) AS ascending FROM (SELECT id, lag(id) OVER (ORDER BY i) AS before FROM ids) AS x WHERE before IS NOT NULL;
-- the milliseconds are those of the clock; ids that were drawn faster than it ticks are counted on
SELECT bool_and(abs(extract(epoch FROM at) * 1000 - ('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint) < 1000) AS by_the_clock FROM ids;
SELECT min(n) > 240 AS the_rest_is_drawn
  FROM (SELECT p, count(DISTINCT get_byte(uuid_send(id), p)) AS n FROM ids, generate_series(9, 15) AS p GROUP BY p) AS x;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA token_test CASCADE;
