-- What `make run` shows: a token's life, each step with its real output.
\pset border 1
\pset footer off
-- On a terminal a pager would stop the tour.
\pset pager off
\pset null '-'
\set QUIET 1

\echo
\echo == 1. Install it: one extension, tables of its own that nobody else can read.
\echo '   CREATE EXTENSION api_tokens;'
CREATE EXTENSION api_tokens;

\echo
\echo == 2. Issue a token for a customer (a namespace). It is shown this once; only its SHA-256 is kept.
\echo '   SELECT * FROM api_token_create(''acme'', ''ci'', ''{"plan": "pro"}'', ''{orders:*}'','
\echo '       expires_at => now() + interval ''90 days'', max_idle => ''7 days'', prefix => ''acme_live'');'
SELECT * FROM api_token_create('acme', 'ci', '{"plan": "pro"}', '{orders:*}',
    expires_at => now() + interval '90 days', max_idle => '7 days', prefix => 'acme_live') \gset
SELECT :'token' AS token, :'token_prefix' AS token_prefix;

\echo == 3. Check it on every request: one index probe, one row, the reason if not.
\echo '   SELECT ok, reason, namespace, name, metadata, scopes FROM api_token_validate($1, ''{orders:read}'');'
SELECT ok, reason, namespace, name, metadata, scopes FROM api_token_validate(:'token', '{orders:read}');
\echo '   ... and what it does not cover, and what is no token at all:'
SELECT ok, reason, name FROM api_token_validate(:'token', '{users:delete}')
UNION ALL SELECT ok, reason, name FROM api_token_validate('garbage');

\echo == 4. Rotate it: a new token with the same rights; the old one goes on for an hour.
\echo '   SELECT * FROM api_token_refresh($1, grace => ''1 hour'');'
SELECT ok, token, token_prefix FROM api_token_refresh(:'token', grace => '1 hour') \gset new_
SELECT :'new_token' AS new_token;
SELECT 'old' AS which, ok, reason FROM api_token_validate(:'token')
UNION ALL SELECT 'new', ok, reason FROM api_token_validate(:'new_token');
\echo '   Presenting the old one for another rotation is refused, and recorded: somebody has a copy.'
SELECT ok, reason FROM api_token_refresh(:'token');

\echo == 5. Revoke it. From the commit on it is refused everywhere, and caches are told by NOTIFY.
\echo '   LISTEN api_tokens;  SELECT api_token_invalidate($1);'
LISTEN api_tokens;
SELECT api_token_invalidate(:'new_token') AS known;
SELECT ok, reason FROM api_token_validate(:'new_token');
UNLISTEN api_tokens;

\echo == 6. List what a customer has: never a token, only how to recognise it.
\echo '   SELECT token_prefix, name, status, expires_at, last_used_at FROM api_token_list(''acme'', include_revoked => true);'
SELECT token_prefix, name, status, expires_at::date, last_used_at::timestamptz(0) FROM api_token_list('acme', include_revoked => true);

\echo == 7. Clean up what has been dead for long; a pg_cron line in the README does it nightly.
\echo '   SELECT api_token_cleanup(older_than => ''0'');'
SELECT api_token_cleanup(older_than => '0') AS deleted;

\echo == 8. Let the token decide what a query sees: row security by the token the transaction acts as.
\echo '   CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));'
CREATE TABLE orders AS SELECT * FROM (VALUES ('acme', 'anvil'), ('umbrella', 'virus')) o (namespace, item);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));
CREATE ROLE tour_app;
GRANT SELECT ON orders TO tour_app;
SELECT api_tokens_grant('tour_app', 'validate') \gset
SELECT token AS umbrella FROM api_token_create('umbrella', max_uses => 2) \gset
SET ROLE tour_app;
\echo '   BEGIN;  SELECT api_token_require($1);  SELECT * FROM orders;  COMMIT;  SELECT * FROM orders;'
BEGIN;
SELECT namespace, remaining FROM api_token_require(:'umbrella');
SELECT * FROM orders;
COMMIT;
SELECT count(*) AS "seen without a token" FROM orders;
RESET ROLE;
DROP OWNED BY tour_app;
DROP ROLE tour_app;

\echo == 9. A quota is in the same call: exact, given back by a rollback, and nobody waits.
SELECT ok, reason, remaining FROM api_token_validate(:'umbrella')
UNION ALL SELECT ok, reason, remaining FROM api_token_validate(:'umbrella', cost => 2);

\echo == 10. Keep the keys that customers gave you in the vault: sealed before they touch a table.
\echo '   SELECT api_vault_store(''acme'', ''stripe'', $1);  SELECT api_vault_get(''acme'', ''stripe'');'
SELECT api_vault_store('acme', 'stripe', 'sk_live_51Hx') AS version;
SELECT api_vault_get('acme', 'stripe');
SELECT key_name, version, sealed FROM (
    SELECT key_name, version, left(encode(sealed, 'hex'), 60) || '...' AS sealed FROM api_tokens.vault_versions) t;
\echo '   Rotate it all to a new data key while readers go on; then see that everything opens:'
\echo '   CALL api_vault_rotate_dek(''acme'');  SELECT * FROM api_vault_verify();'
CALL api_vault_rotate_dek('acme');
SELECT * FROM api_vault_verify();
SELECT left(key_id, 12) AS key_id, label, role, deks FROM api_vault_key_status();

\echo == 11. What on this server could leak a secret, and what to do about it.
\echo '   SELECT check_name, status, finding FROM api_tokens_doctor();'
SELECT check_name, status, finding FROM api_tokens_doctor();

\echo == 12. What happened, for the audit and for caches that were away.
\echo '   SELECT event_id, method, namespace, actor FROM api_token_events();'
SELECT event_id, method, namespace, actor FROM api_token_events();
