\set i random(1, 1000)
SELECT ok, reason, remaining FROM api_token_validate('sk_near_' || :i::text, '{orders_read}', '10.1.2.3');
