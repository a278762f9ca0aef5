\set i random(1, :tokens)
SELECT token_id, namespace, name, metadata, scopes, expires_at FROM check_by_hand('sk_bench_' || :i::text);
