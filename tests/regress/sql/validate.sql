-- Checking: one row always, the reason if not.
SELECT token, token_id FROM api_token_create('validate', 'ci', '{"plan": "pro"}', '{orders:*}') \gset
SELECT ok, reason, namespace, name, metadata, scopes, expires_at, remaining, retry_after
FROM api_token_validate(:'token');
SELECT ok, reason FROM api_token_validate(:'token', '{orders:read}');
SELECT ok, reason, name, scopes FROM api_token_validate(:'token', '{users:read}');
SELECT ok, reason FROM api_token_validate_hash(sha256(:'token'));
SELECT * FROM api_token_validate('no such token');
SELECT * FROM api_token_validate(NULL);
SELECT * FROM api_token_validate('');
SELECT api_token_validate(:'token', '{not a scope}');
SELECT api_token_validate_hash('\x00');
SELECT api_token_touch(:'token'), api_token_touch('no such token');
SELECT api_token_set_enabled(:'token_id', false);
SELECT ok, reason FROM api_token_validate(:'token');
SELECT api_token_touch(:'token');
