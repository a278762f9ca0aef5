\set i random(1, :tokens)
UPDATE by_hand_updated SET last_used_at = clock_timestamp()
WHERE token_hash = sha256(('sk_bench_' || :i::text)::bytea) AND revoked_at IS NULL AND enabled
    AND (expires_at IS NULL OR expires_at > clock_timestamp())
    AND (max_idle IS NULL OR clock_timestamp() - last_used_at <= max_idle)
RETURNING token_id, namespace, name, metadata, scopes, expires_at;
