-- Rotation: the old token ends, or goes on for a while.
SELECT token, token_id FROM api_token_create('rotate', 'ci', scopes => '{a}', prefix => 'rot') \gset old_
SELECT ok, reason, token, token_prefix ~ '^rot_' AS prefix, token_id FROM api_token_refresh(:'old_token') \gset new_
SELECT :'new_ok' AS ok, :'new_prefix' AS prefix;
SELECT ok, reason FROM api_token_validate(:'old_token');
SELECT ok, reason, name, scopes FROM api_token_validate(:'new_token', '{a}');
SELECT ok, reason, token, token_prefix FROM api_token_refresh(:'old_token');
SELECT ok, token_id FROM api_token_refresh_by_id(:'new_token_id', '1 hour') \gset newer_
SELECT ok, reason FROM api_token_validate(:'new_token');
SELECT generation, in_grace, revoked_at > now() AS later, replaced_by IS NOT NULL AS replaced
FROM api_tokens.tokens WHERE family_id = :'old_token_id' ORDER BY generation;
SELECT api_token_refresh('unknown');
SELECT api_token_refresh(:'new_token', '-1 second');
