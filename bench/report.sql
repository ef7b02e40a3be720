-- The table that "make bench" prints; run by psql in the directory of samples.tsv and facts.tsv. A ratio is the median of
-- those of single rounds, its spread is from their first quartile to their third.
\pset footer off
\pset null ''

CREATE TEMP TABLE sample (measure text, variant text, clock text, round int, value float8);
CREATE TEMP TABLE fact (what text, ours text, reference text, ratio text, bar text, verdict text, number serial);
\copy sample FROM samples.tsv
\copy fact (what, ours, reference, ratio, bar, verdict) FROM facts.tsv

-- Ours less base, to reference less base.
CREATE TEMP TABLE comparison (number serial, what text, measure text, ours text, reference text, base text, clock text, bar float8, unit text);
INSERT INTO comparison (what, measure, ours, reference, base, clock, bar, unit) VALUES
    ('signup, added: one target / second INSERT', 'signup', 'ours_1', 'second_insert', 'bare', 'cpu', 1.4, 'us'),
    ('signup, added: one target / plpgsql trigger', 'signup', 'ours_1', 'plpgsql_1', 'bare', 'cpu', 1.05, 'us'),
    ('signup, added: three targets / three plpgsql triggers', 'signup', 'ours_3', 'plpgsql_3', 'bare', 'cpu', 0.75, 'us'),
    ('login, in the server: with / without', 'login', 'ours_1', 'bare', NULL, 'cpu', NULL, 'us'),
    ('login, over a local socket: with / without', 'login_socket', 'ours_1', 'bare', NULL, 'wall', 1.05, 'us'),
    ('bulk insert, added: ours / bare INSERT into the target', 'insert', 'ours', 'target_only', 'bare', 'cpu', 1.10, 'ms'),
    ('bulk insert, added: ours / plpgsql trigger', 'insert', 'ours', 'plpgsql', 'bare', 'cpu', 0.55, 'ms'),
    ('bulk insert with 100 bad rows / clean', 'insert', 'ours_bad', 'ours', NULL, 'cpu', 2, 'ms'),
    ('bulk update with 100 bad rows / clean', 'update', 'ours_bad', 'ours', NULL, 'cpu', 2, 'ms'),
    ('sync_all, empty target / bare INSERT', 'backfill', 'ours', 'bare', NULL, 'cpu', 1.20, 'ms'),
    ('sync_all, target vacuumed while empty / never vacuumed', 'small_backfill', 'vacuumed', 'unknown', NULL, 'cpu', 1.3, 'ms'),
    ('sync_all, all in step / bare anti-join', 'in_step', 'ours', 'anti_join', NULL, 'cpu', 1.3, 'ms'),
    ('sync_all, all in step / the same question in SQL', 'in_step', 'ours', 'same_question', NULL, 'cpu', 1.3, 'ms'),
    ('policies, 10 organizations, all visible: is_member() / IS NOT NULL', 'rls_document_10_ten', 'is_member', 'not_null', NULL, 'cpu', 1.5, 'ms'),
    ('policies, 1,000 below one membership: is_member() / IS NOT NULL', 'rls_document_1000_above_1000', 'is_member', 'not_null', NULL, 'cpu', 1.5, 'ms'),
    ('policies, 100,000 below one membership: is_member() / IS NOT NULL', 'rls_document_100000_above_100000', 'is_member', 'not_null', NULL, 'cpu', 1.5, 'ms'),
    ('policies, 1 % visible: the array form / no policy', 'rls_indexed_1000_ten', 'array', 'none', NULL, 'cpu', 1.10, 'ms'),
    ('policies, 1 % visible: is_member() / no policy', 'rls_indexed_1000_ten', 'is_member', 'none', NULL, 'cpu', 1.10, 'ms'),
    ('policies, 1 % visible: a C function that does nothing / no policy', 'rls_indexed_1000_ten', 'constant', 'none', NULL, 'cpu', 1.10, 'ms'),
    ('policies, all visible: is_member() / the usual definer SQL helper', 'rls_document_10_ten', 'is_member', 'usual_definer', NULL, 'cpu', 0.02, 'ms'),
    ('policies: is_member() in a definer SQL function / a constant in it', 'rls_document_10_ten', 'definer_ours', 'definer_constant', NULL, 'cpu', 1.3, 'ms');

-- The reference's bases differ for one: a bare INSERT into the target has no user inserted beside it.
CREATE TEMP VIEW paired AS
    SELECT c.number, o.clock, o.round,
           o.clock = coalesce((SELECT max(s.clock) FROM sample AS s WHERE s.measure = c.measure AND s.clock = c.clock), 'instructions') AS judged,
           o.value AS ours, coalesce(b.value, 0) AS base,
           r.value AS reference, CASE WHEN c.reference = 'target_only' THEN 0 ELSE coalesce(b.value, 0) END AS reference_base
      FROM comparison AS c
      JOIN sample AS o ON o.measure = c.measure AND o.variant = c.ours
      JOIN sample AS r ON r.measure = c.measure AND r.variant = c.reference AND (r.clock, r.round) = (o.clock, o.round)
      LEFT JOIN sample AS b ON b.measure = c.measure AND b.variant = c.base AND (b.clock, b.round) = (o.clock, o.round);

CREATE TEMP VIEW compared AS
    SELECT number, clock, judged,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY ours - base) AS ours,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY reference - reference_base) AS reference,
           percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY (ours - base) / nullif(reference - reference_base, 0)) AS ratio
      FROM paired
     GROUP BY number, clock, judged;

\echo
\echo 'Processor time unless said otherwise; by the clock and by instructions counted (where valgrind is installed) beside it.'
\echo

SELECT c.what AS "what",
       format('%s %s', round(j.ours::numeric, 1), u.unit) AS "ours",
       format('%s %s', round(j.reference::numeric, 1), u.unit) AS "reference",
       round(j.ratio[2]::numeric, 2) AS "ratio",
       format('%s-%s', round(j.ratio[1]::numeric, 2), round(j.ratio[3]::numeric, 2)) AS "spread",
       (SELECT round(w.ratio[2]::numeric, 2) FROM compared AS w WHERE w.number = c.number AND w.clock = 'wall') AS "clock",
       (SELECT round(i.ratio[2]::numeric, 2) FROM compared AS i WHERE i.number = c.number AND i.clock = 'instructions') AS "instr.",
       CASE WHEN c.bar IS NULL THEN '+ 4 us' ELSE format('<= %s', c.bar) END AS "bar",
       CASE WHEN c.bar IS NULL AND u.unit <> c.unit THEN ''
            WHEN c.bar IS NULL AND j.ours - j.reference <= 4 OR j.ratio[2] <= c.bar THEN 'met' ELSE 'MISSED' END AS " "
  FROM comparison AS c
  JOIN compared AS j ON j.number = c.number AND j.judged
 CROSS JOIN LATERAL (SELECT CASE j.clock WHEN 'instructions' THEN 'instr.' ELSE c.unit END AS unit) AS u
 ORDER BY c.number;

SELECT what, ours, reference, ratio, bar, verdict AS " " FROM fact ORDER BY number;

\echo 'Medians, with the least and the most; microseconds (signup, login), milliseconds (the rest), instructions.'
\echo

SELECT measure, variant, clock, count(*) AS rounds,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY value)::numeric, 1) AS median,
       round(min(value)::numeric, 1) AS least, round(max(value)::numeric, 1) AS most
  FROM sample
 GROUP BY measure, variant, clock
 ORDER BY measure, variant, clock;
