-- Of the tokens that lie together, a thousand get a quota that never ends; and so does the row that one
-- would update by hand.
SET client_min_messages = warning;
SELECT count(u) FROM generate_series(1, 1000) i, LATERAL api_token_validate('sk_near_' || i) v,
    LATERAL api_token_update(v.token_id, '{"max_uses": 1000000000000}') u;
CREATE TABLE quota_by_hand (id integer PRIMARY KEY, uses_left bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO quota_by_hand SELECT i, 1000000000000 FROM generate_series(1, 1000) i;
VACUUM (FREEZE, ANALYZE) quota_by_hand, api_tokens.quotas;
