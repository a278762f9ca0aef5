-- Issuing: defaults, every argument, and what is kept.
SELECT token ~ '^sk_[0-9A-Za-z]{38}$' AS form, token_prefix ~ '^sk_....\.\.\.....$' AS display
FROM api_token_create('create');
SELECT token ~ '^acme_live_[0-9A-Za-z]{38}$' AS form
FROM api_token_create('create', 'ci', '{"plan": "pro"}', '{orders:read,admin:*}',
    '2999-01-01 UTC', '7 days', 'acme_live', '{10.0.0.0/8}', true);
SELECT name, metadata, scopes, status, expires_at AT TIME ZONE 'UTC' AS expires_at, max_idle,
    allowed_ips, enabled, last_used_at = created_at AS unused
FROM api_token_list('create') ORDER BY created_at;
SELECT octet_length(token_hash) AS hash_bytes, generation, family_id = token_id AS first
FROM api_tokens.tokens WHERE namespace = 'create';
SELECT api_token_create('');
SELECT api_token_create('create', prefix => 'SK');
SELECT api_token_create('create', refill_amount => 10);
SELECT api_token_looks_valid('sk_0000000000000000000000000000000030OBQY') AS vector,
    api_token_looks_valid('sk_0000000000000000000000000000000030OBQZ') AS typo,
    api_token_looks_valid(NULL) AS nothing;
