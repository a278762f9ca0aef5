BEGIN;
\set i random(1, :tokens)
SELECT remaining FROM api_token_validate('sk_near_' || :i::text);
\sleep 10 ms
COMMIT;
