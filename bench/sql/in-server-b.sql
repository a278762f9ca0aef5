-- OFFSET 0 keeps it a probe for each token; without memory of those seen before, as calls have none.
SET enable_memoize = off;
\timing on
SELECT count(v.token_id), count(v.namespace), count(v.name), count(v.metadata), count(v.scopes), count(v.expires_at)
FROM draws, LATERAL (
    SELECT token_id, namespace, name, metadata, scopes, expires_at FROM by_hand
    WHERE token_hash = sha256(draws.token::bytea) AND revoked_at IS NULL AND enabled
        AND (expires_at IS NULL OR expires_at > clock_timestamp())
        AND (max_idle IS NULL OR clock_timestamp() - last_used_at <= max_idle) OFFSET 0) v;
