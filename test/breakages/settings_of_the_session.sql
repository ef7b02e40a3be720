-- breakage: the auth server's session has unusual settings; nothing breaks
-- quarantine: nothing
-- plain: nothing

-- @auth
SET row_security = off;
SET plan_cache_mode = force_generic_plan;
SET transform_null_equals = on;
SET standard_conforming_strings = off;
SET DateStyle = 'German, DMY';
SET IntervalStyle = 'sql_standard';
SET quote_all_identifiers = on;
SET TimeZone = 'Asia/Kathmandu';
SET bytea_output = 'escape';
SET enable_seqscan = off;
SET client_min_messages = debug1;
SET default_transaction_isolation = 'repeatable read';
SET jit = on;
SET jit_above_cost = 0;
SET lock_timeout = '700ms';
SET statement_timeout = '2500ms';
SET idle_in_transaction_session_timeout = '5s';
