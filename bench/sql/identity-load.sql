-- One order for each token, of its namespace, under row security: by our identity, and by a setting,
-- as one would write it by hand.
SET client_min_messages = warning;
CREATE TABLE orders AS SELECT i AS id, 'namespace-' || i % 1000 AS namespace, 'item ' || i AS item
FROM generate_series(1, :tokens) i;
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE TABLE orders_by_setting (LIKE orders INCLUDING INDEXES);
INSERT INTO orders_by_setting SELECT * FROM orders;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE orders_by_setting ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));
CREATE POLICY tenant ON orders_by_setting USING (namespace = (SELECT current_setting('app.namespace', true)));
CREATE ROLE bench_app LOGIN;
SELECT api_tokens_grant('bench_app', 'validate');
GRANT SELECT ON orders, orders_by_setting, by_hand TO bench_app;
VACUUM (FREEZE, ANALYZE) orders, orders_by_setting;
CHECKPOINT;
