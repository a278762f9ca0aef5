\timing on
SELECT count(v.token_id), count(v.namespace), count(v.name), count(v.metadata), count(v.scopes), count(v.expires_at)
FROM batches, LATERAL api_token_validate_many(batches.tokens) v WHERE n <= 3000;
