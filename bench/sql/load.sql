-- :tokens tokens, loaded by SQL: 1000 namespaces, one token in ten with an idle timeout. They
-- were used an hour from now, so that no check writes: what is measured is the check.
\set ON_ERROR_STOP on
CREATE EXTENSION pgcrypto;
CREATE EXTENSION api_tokens;
INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash,
    namespace, token_prefix, scopes, name, metadata, max_idle)
SELECT id, id, now(), now() + interval '1 hour', sha256(('sk_bench_' || i)::bytea),
    'namespace-' || i % 1000, 'sk_benc...' || i % 10000, '{orders:read,orders:write}', 'key ' || i,
    '{"plan": "pro", "seats": 5}', CASE WHEN i % 10 = 0 THEN interval '30 days' END
FROM (SELECT i, gen_random_uuid() AS id FROM generate_series(1, :tokens) i) t;
-- The table one would write by hand: the same rows, and no more indexes than it needs.
CREATE TABLE by_hand AS SELECT token_id, token_hash, namespace, name, metadata, scopes, expires_at,
    revoked_at, enabled, max_idle, last_used_at FROM api_tokens.tokens;
ALTER TABLE by_hand ADD PRIMARY KEY (token_hash), SET (fillfactor = 85);
VACUUM (FREEZE, ANALYZE) api_tokens.tokens;
VACUUM (FREEZE, ANALYZE) by_hand;
CHECKPOINT;
