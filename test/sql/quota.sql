SELECT * FROM invite_sync.rate_limits;
SELECT * FROM invite_sync.set_rate_limit('export', 2, '1 minute');
SELECT * FROM invite_sync.consume_rate_limit('export', 'a');
SELECT * FROM invite_sync.consume_rate_limit('export', 'a');
SELECT allowed, remaining FROM invite_sync.consume_rate_limit('export', 'a');
SELECT action, used, remaining FROM invite_sync.rate_limit_report();
SELECT count(*) FROM invite_sync.quota_report();
