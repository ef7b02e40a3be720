-- ---------------------------------------------------------------------
-- Room sync, continued: operating it
-- ---------------------------------------------------------------------

-- ---- health ----

CREATE TYPE invite_sync.health_result AS (status text, checks jsonb, warnings text[]);
COMMENT ON TYPE invite_sync.health_result IS
    'How the extension is: status healthy, degraded or failing; each check with a status of its own (ok, degraded, failing) and what it saw; what is wrong in words.';

CREATE FUNCTION invite_sync.health() RETURNS invite_sync.health_result
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'sync_health';
COMMENT ON FUNCTION invite_sync.health() IS
$doc$Are users being synced? For monitoring: milliseconds, however many users there are, because it reads catalogs and quarantine and no user. status: healthy; degraded (users wait to be synced, or something is off on purpose or needs a look); failing (users are not synced at all, to all targets or to one). The worst of the checks counts.
checks: auth_users, setting (invite_sync.enabled in this session), triggers, targets, guarded_triggers, quarantine, alerts, version; of quarantine it looks at 10000 entries at most, and what is link_pending, waiting for a user to verify an address, is counted apart and is no failure. estimated_rows comes from the statistics of ANALYZE, null before the first; sync_status() counts, verify() explains.
service_role, operators. Writes nothing; works in READ ONLY transactions and on a standby. Locks the targets in ACCESS SHARE mode for a moment, waiting at most 100 ms for each.$doc$;

-- ---- alerts ----

CREATE TABLE invite_sync.alert_rule (
    check_name text PRIMARY KEY CHECK (check_name IN ('missing', 'percent', 'quarantined', 'trigger_missing')),
    threshold numeric NOT NULL,
    per interval NOT NULL,
    checked_at timestamptz
);
COMMENT ON TABLE invite_sync.alert_rule IS
    'What check_alerts() looks at. Written by set_alert(). No personal columns.';
COMMENT ON COLUMN invite_sync.alert_rule.check_name IS 'missing, percent, quarantined or trigger_missing';
COMMENT ON COLUMN invite_sync.alert_rule.threshold IS 'beyond it (for percent: below it) an alert is opened';
COMMENT ON COLUMN invite_sync.alert_rule.per IS 'the window of quarantined; how often the others need to be looked at';
COMMENT ON COLUMN invite_sync.alert_rule.checked_at IS 'when check_alerts() last looked';

CREATE TABLE invite_sync.alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    check_name text NOT NULL,
    target text,
    value numeric NOT NULL,
    threshold numeric NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    acknowledged_at timestamptz,
    acknowledged_by name,
    resolved_at timestamptz
);
COMMENT ON TABLE invite_sync.alert IS
    'Checks that crossed their threshold. Kept for 90 days after they were resolved. Personal columns: acknowledged_by, where a database role is one person''s.';
COMMENT ON COLUMN invite_sync.alert.id IS 'number of the alert';
COMMENT ON COLUMN invite_sync.alert.check_name IS 'the check';
COMMENT ON COLUMN invite_sync.alert.target IS 'the target or guarded trigger, as it was called; NULL where the check is about none';
COMMENT ON COLUMN invite_sync.alert.value IS 'what was measured last while it was open';
COMMENT ON COLUMN invite_sync.alert.threshold IS 'the threshold when it was opened';
COMMENT ON COLUMN invite_sync.alert.opened_at IS 'when the threshold was found crossed';
COMMENT ON COLUMN invite_sync.alert.acknowledged_at IS 'when somebody took notice';
COMMENT ON COLUMN invite_sync.alert.acknowledged_by IS 'the role that did';
COMMENT ON COLUMN invite_sync.alert.resolved_at IS 'when the value was found back to normal, or the check was given up';
CREATE UNIQUE INDEX alert_unresolved ON invite_sync.alert (check_name, target) NULLS NOT DISTINCT WHERE resolved_at IS NULL;
COMMENT ON INDEX invite_sync.alert_unresolved IS 'One alert per check and target until it is resolved.';

COMMENT ON SEQUENCE invite_sync.alert_id_seq IS 'ids of alerts';

ALTER TABLE invite_sync.alert_rule ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.alert ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.alert_rule', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.alert', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.alert_id_seq', '');

CREATE VIEW invite_sync.alerts WITH (security_barrier = true) AS
    SELECT a.id, a.check_name, a.target,
           CASE WHEN a.resolved_at IS NOT NULL THEN 'resolved' WHEN a.acknowledged_at IS NOT NULL THEN 'acknowledged' ELSE 'open' END AS state,
           a.value, a.threshold, a.opened_at, a.acknowledged_at, a.acknowledged_by, a.resolved_at
      FROM invite_sync.alert AS a
     ORDER BY a.id;
COMMENT ON VIEW invite_sync.alerts IS
    'Checks that crossed their threshold: state open, acknowledged (still beyond it, but somebody knows) or resolved. For service_role and operators. Personal columns: acknowledged_by.';

CREATE TYPE invite_sync.alert_setting AS (check_name text, threshold numeric, per interval);
COMMENT ON TYPE invite_sync.alert_setting IS 'When check_alerts() opens an alert; threshold NULL: never.';

CREATE FUNCTION invite_sync.set_alert(check_name text, threshold numeric, per interval DEFAULT '1 hour')
    RETURNS invite_sync.alert_setting
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_set_alert';
COMMENT ON FUNCTION invite_sync.set_alert(text, numeric, interval) IS
$doc$Say when to raise an alert. Again with the same arguments it changes nothing.
check_name: missing (more than threshold auth users have no row in a target), percent (fewer than threshold percent of the users have one), quarantined (more than threshold entries of a target or guarded trigger in quarantine failed within per), trigger_missing (more than threshold of the triggers of attach() are missing, disabled or replaced, though it was not detach() that took them off). threshold: NULL gives the check up and resolves its alerts. per: for quarantined the window; for missing and percent how often they are counted at most, as that reads every user; 1 second to 1 year.
Nothing is evaluated in a signup: check_alerts() does it. Errors: not_permitted; 22004, 22023.
Operators. Locks the check's row.$doc$;

CREATE TYPE invite_sync.alert_check_result AS (checked integer, opened integer, resolved integer);
COMMENT ON TYPE invite_sync.alert_check_result IS 'How many checks check_alerts() evaluated, and how many alerts it opened and resolved.';

CREATE FUNCTION invite_sync.check_alerts(due_only boolean DEFAULT false) RETURNS invite_sync.alert_check_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_check_alerts';
COMMENT ON FUNCTION invite_sync.check_alerts(boolean) IS
$doc$Evaluate the checks of set_alert(). What crosses its threshold opens an alert: a row in alerts, an event (sync.alert_opened) and NOTIFY invite_sync_alert with the alert's id, once, until it is resolved; what is back to normal is resolved (event sync.alert_resolved). Acknowledged alerts stay so until they are resolved. due_only => true leaves out missing and percent where they were counted within their per; so the job of schedule_retry() calls it every minute. Only enabled targets count. Alerts resolved more than 90 days ago are deleted.
service_role, operators. Counting missing and percent reads everything once: seconds for a million users. Locks the checks' rows, skipping those that another session evaluates.$doc$;

CREATE FUNCTION invite_sync.acknowledge_alert(alert_id bigint) RETURNS invite_sync.alerts
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_acknowledge_alert';
COMMENT ON FUNCTION invite_sync.acknowledge_alert(bigint) IS
$doc$Take notice of an alert: health() does not count it any more, and it is not raised again while it lasts. alert_id: alerts.id. Returns the alert. Again it changes nothing. Errors: not_permitted; 22004; 42704 when there is no such alert. Operators. Locks the alert.$doc$;

-- ---- retries by pg_cron ----

-- a type and not RETURNS TABLE: its columns have the names of arguments
CREATE TYPE invite_sync.retry_job AS (job_id bigint, job_name text, schedule text, command text, role name);
COMMENT ON TYPE invite_sync.retry_job IS 'A job of pg_cron that schedule_retry() made, and the role it runs as.';

CREATE FUNCTION invite_sync.schedule_retry(schedule text DEFAULT '* * * * *') RETURNS SETOF invite_sync.retry_job
    LANGUAGE C VOLATILE ROWS 2 AS 'MODULE_PATHNAME', 'sync_schedule_retry';
COMMENT ON FUNCTION invite_sync.schedule_retry(text) IS
$doc$Let pg_cron call retry_quarantine() and check_alerts(due_only => true) in this database, each as a job of its own. schedule: as pg_cron takes it; every minute by default, which costs next to nothing when nothing is due. Again with the same schedule it changes nothing; with another it sets it.
The jobs run as the caller; when a superuser calls, as an operator who can log in and is no superuser, if there is one (postgres first). Returns the jobs. Errors: not_permitted; 0A000 when pg_cron is not in this database or too old, with what to do; 42501 when the caller may not use schema cron or cannot log in; 22023 for a schedule that pg_cron does not take.
Operators. Locks the jobs' rows in cron.job.$doc$;

CREATE FUNCTION invite_sync.unschedule_retry() RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sync_unschedule_retry';
COMMENT ON FUNCTION invite_sync.unschedule_retry() IS
$doc$Take back schedule_retry(). true when there were such jobs. pg_cron shows a role its own jobs only: a superuser unschedules everybody's. Operators. Locks the jobs' rows in cron.job.$doc$;

-- ---- configuration in git, and the way back ----

CREATE FUNCTION invite_sync.config_sql() RETURNS text
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'sync_config_sql';
COMMENT ON FUNCTION invite_sync.config_sql() IS
$doc$The script of calls that makes this configuration in another database: operators, targets, guarded triggers, alerts, permissions, global roles, rate limits, the schedule of retries, and whether the triggers are on. In stable order, without users' data, and idempotent: keep it in git and run it as often as you like, with psql or a migration tool. The tables, triggers and roles that it names must be there. Targets and triggers configured by a role other than the caller are configured as that role (SET ROLE). The schedule is in it where the caller may see the jobs.
Operators. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.uninstall_plan()
    RETURNS TABLE (step integer, statement text, why text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'sync_uninstall_plan';
COMMENT ON FUNCTION invite_sync.uninstall_plan() IS
$doc$The statements that remove the extension, in order, after which the catalogs are as before it was created. Tables of the application, and their rows, stay. Runs none of them. A statement that is only a comment names something that has to be decided first. why: what it does, and who may run it where that is not an operator. Roles and rights shared with other databases of the cluster that use the extension are left alone.
Operators. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;
