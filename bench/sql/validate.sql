\set i random(1, :tokens)
SELECT token_id, namespace, name, metadata, scopes, expires_at FROM api_token_validate('sk_bench_' || :i::text);
