-- Microseconds by the clock, and for which this backend has had a processor. Linux brings the latter up to date when a
-- process sleeps, hence the nap; elsewhere the clock stands in.
CREATE FUNCTION bench.stamp(OUT what text, OUT wall_us bigint, OUT cpu_us bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    what := 'stamp';
    wall_us := extract(epoch FROM clock_timestamp()) * 1000000;
    PERFORM pg_sleep(0.001);
    cpu_us := split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint / 1000;
EXCEPTION WHEN undefined_file THEN
    cpu_us := wall_us;
END
$$;
