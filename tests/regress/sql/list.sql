-- Listing: newest first, by pages.
SELECT count(*) FROM generate_series(1, 5) i, LATERAL api_token_create('list', 'key ' || i) c;
SELECT name, status, revoked, max_uses, rate_limit FROM api_token_list('list', max_rows => 2);
SELECT token_id AS last FROM api_token_list('list', max_rows => 2) OFFSET 1 \gset
SELECT name FROM api_token_list('list', max_rows => 2, after_id => :'last');
SELECT count(*) FROM api_token_list('no such namespace');
SELECT name, namespace FROM api_token_get(:'last');
SELECT count(*) FROM api_token_get('00000000-0000-0000-0000-000000000000');
SELECT count(*) FROM api_token_list('');
