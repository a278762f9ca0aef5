-- :tokens tokens in a new database, loaded by SQL: 1000 namespaces, one token in ten with an idle
-- timeout. They were used an hour from now, so that no check writes because its row is old.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION pg_prewarm;
CREATE EXTENSION api_tokens;
-- For measuring writes there are 10,000 more that were last used yesterday, spread over the table
-- (sk_spread_1 ...), and 10,000 that lie together at its end (sk_near_1 ...).
SELECT greatest(:tokens / 10000, 1) AS step \gset
INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash,
    namespace, token_prefix, scopes, name, metadata, max_idle)
SELECT id, id, now(), used, sha256(token::bytea), 'namespace-' || i % 1000,
    'sk_benc...' || i % 10000, '{orders:read,orders:write}', 'key ' || i,
    '{"plan": "pro", "seats": 5}', CASE WHEN i % 10 = 0 THEN interval '30 days' END
FROM (
    SELECT i, gen_random_uuid() AS id, t.token, t.used FROM generate_series(1, :tokens) i, LATERAL (
        SELECT 'sk_bench_' || i AS token, now() + interval '1 hour' AS used
        UNION ALL SELECT 'sk_spread_' || i / :step, now() - interval '1 day'
        WHERE i % :step = 0 AND i / :step <= 10000) t
    UNION ALL SELECT i, gen_random_uuid(), 'sk_near_' || i, now() - interval '1 day'
    FROM generate_series(1, 10000) i) rows;
-- The table one would write by hand: the same rows, and no more indexes than it needs. Those who
-- update have a copy of their own, so that what they leave behind slows nobody else down.
-- Its index grows with it, as ours does: one that is built at the end is a quarter smaller.
CREATE TABLE by_hand AS SELECT token_id, token_hash, namespace, name, metadata, scopes, expires_at,
    revoked_at, enabled, max_idle, last_used_at FROM api_tokens.tokens WITH NO DATA;
ALTER TABLE by_hand ADD PRIMARY KEY (token_hash);
INSERT INTO by_hand SELECT token_id, token_hash, namespace, name, metadata, scopes, expires_at,
    revoked_at, enabled, max_idle, last_used_at FROM api_tokens.tokens;
CREATE TABLE by_hand_updated (LIKE by_hand INCLUDING INDEXES) WITH (fillfactor = 85);
INSERT INTO by_hand_updated SELECT * FROM by_hand;
\ir functions.sql
-- What validate_many is called with: 10,000 batches of 100 random tokens, each in one page, so
-- that fetching them costs little; pgbench cannot pass an array it made itself.
CREATE TABLE batches (n integer, tokens text[]) WITH (toast_tuple_target = 8160);
ALTER TABLE batches ALTER tokens SET STORAGE PLAIN;
INSERT INTO batches SELECT n, array_agg('sk_bench_' || 1 + floor(random() * :tokens)::bigint)
FROM generate_series(1, 10000) n, generate_series(1, 100) GROUP BY n;
ALTER TABLE batches ADD PRIMARY KEY (n);
-- The same for calls within one statement: 300,000 random tokens.
CREATE TABLE draws AS SELECT 'sk_bench_' || 1 + floor(random() * :tokens)::bigint AS token
FROM generate_series(1, 300000);
VACUUM (FREEZE, ANALYZE);
SELECT sum(pg_prewarm(c.oid)) > 0 AS warm FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'i') AND nspname IN ('public', 'api_tokens') \gset
CHECKPOINT;
