-- Revocation and cleanup.
SELECT token, token_id FROM api_token_create('revoke', 'one') \gset one_
SELECT token FROM api_token_create('revoke', 'two') \gset two_
SELECT api_token_invalidate(:'one_token'), api_token_invalidate(:'one_token'),
    api_token_invalidate('unknown'), api_token_invalidate_by_id(:'one_token_id');
SELECT ok, reason FROM api_token_validate(:'one_token');
SELECT api_token_invalidate_all('revoke', after => clock_timestamp());
SELECT api_token_invalidate_all('revoke');
SELECT ok, reason FROM api_token_validate(:'two_token');
SELECT name, status, revoked FROM api_token_list('revoke', true) ORDER BY name;
SELECT api_token_cleanup('1 day') AS too_young;
SELECT api_token_cleanup('-1 day');
