-- case: the role of the auth server may not draw numbers for refresh tokens
-- sqlstate: 42501
-- phase: login
-- expect-diagnosis: sequence, refresh_tokens
-- kind: schema
-- failing-statement: INSERT INTO auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at) VALUES ('00000000-0000-0000-0000-000000000000', 'a', 'b', false, now(), now())

revoke all on sequence auth.refresh_tokens_id_seq from supabase_auth_admin;
