-- Rights: three levels, handed out by name.
CREATE ROLE regress_api_tokens;
SELECT api_tokens_grant('regress_api_tokens', 'validate');
SET ROLE regress_api_tokens;
SELECT ok, reason FROM api_token_validate('unknown');
SELECT count(*) FROM api_token_list('rights');
SELECT count(*) FROM api_tokens.tokens;
RESET ROLE;
SELECT api_tokens_grant('regress_api_tokens', 'everything');
SELECT api_tokens_revoke('regress_api_tokens', 'validate');
SET ROLE regress_api_tokens;
SELECT ok, reason FROM api_token_validate('unknown');
RESET ROLE;
DROP ROLE regress_api_tokens;
