-- TAP: a line for each plpgsql function of the extension, with plpgsql_check's complaints after a failed one.
-- Its security warnings stay off: they take every name that comes quoted out of the catalogs for an injection.
-- So does the tracing of constants in its later versions: it takes a variable's first value for its only one.
-- A trigger function is checked against a table it may be put on; one that no trigger uses yet needs a stand-in.
\set QUIET on
\pset format unaligned
\pset tuples_only on

SELECT CASE WHEN count(*) > 0 THEN ', constant_tracing => false' ELSE '' END AS tracing
  FROM pg_proc
 WHERE proname = 'plpgsql_check_function' AND 'constant_tracing' = ANY (proargnames) \gset

CREATE TEMP TABLE stand_in ();

CREATE TEMP TABLE checked AS
SELECT row_number() OVER (ORDER BY p.oid::regprocedure::text) AS number,
	   p.oid::regprocedure::text AS name,
	   (SELECT string_agg(complaint, E'\n')
		  FROM plpgsql_check_function(p.oid,
				   relid => CASE WHEN p.prorettype = 'trigger'::regtype
								 THEN coalesce((SELECT t.tgrelid FROM pg_trigger t WHERE t.tgfoid = p.oid LIMIT 1),
											   'stand_in'::regclass)
								 ELSE 0 END::regclass,
				   oldtable => (SELECT t.tgoldtable FROM pg_trigger t WHERE t.tgfoid = p.oid LIMIT 1),
				   newtable => (SELECT t.tgnewtable FROM pg_trigger t WHERE t.tgfoid = p.oid LIMIT 1),
				   extra_warnings => true,
				   performance_warnings => false :tracing) AS complaint) AS complaints
  FROM pg_proc p
  JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'invite_sync'::regnamespace
   AND l.lanname = 'plpgsql';

SELECT '1..' || greatest(count(*), 1) FROM checked;
SELECT 'ok 1 - there is no plpgsql function' FROM checked HAVING count(*) = 0;
SELECT CASE WHEN complaints IS NULL THEN 'ok ' ELSE 'not ok ' END || number || ' - ' || name
	   || coalesce(E'\n# ' || replace(complaints, E'\n', E'\n# '), '')
  FROM checked
 ORDER BY number;
