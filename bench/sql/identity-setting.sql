\set i random(1, :tokens)
\startpipeline
SELECT set_config('app.namespace', namespace, true) FROM by_hand
WHERE token_hash = sha256(('sk_bench_' || :i::text)::bytea) AND revoked_at IS NULL AND enabled
    AND (expires_at IS NULL OR expires_at > clock_timestamp())
    AND (max_idle IS NULL OR clock_timestamp() - last_used_at <= max_idle);
SELECT item FROM orders_by_setting WHERE id = :i;
\endpipeline
