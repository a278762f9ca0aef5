\timing on
SELECT count(v.token_id), count(v.namespace), count(v.name), count(v.metadata), count(v.scopes), count(v.expires_at)
FROM draws, LATERAL api_token_validate(draws.token) v;
