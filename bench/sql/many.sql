\set n random(1, 10000)
SELECT token_id, namespace, name, metadata, scopes, expires_at
FROM api_token_validate_many((SELECT tokens FROM batches WHERE n = :n));
